//! What `quire plan` answers, for people: tables of 80 columns at most for regions with short
//! names, and sentences. Pure.

use crate::table::{render, table};
use capacity::{
    Answer, Judged, Wanted,
    check::{Checked, Kind},
    file::Survives,
    judge::{RegionFigures, ServerFigures},
    latency::Reader,
    layout::Topology,
    say,
    search::{Infeasible, Plan},
};
use std::fmt::Write;

/// Where the rest of a long line begins.
pub(super) const INDENT: usize = 4;

pub(super) fn answer(wanted: &Wanted, answer: &Answer) -> String {
    let mut text = head(wanted);
    match answer {
        Answer::Plan(plan) => add_plan(&mut text, wanted, plan),
        Answer::Infeasible(why) => add_infeasible(&mut text, wanted, why),
    }
    text
}

fn head(wanted: &Wanted) -> String {
    let load = &wanted.file().load;
    format!(
        " {}: {} writes/s, {} reads/s, {} a copy, in {}\n",
        wanted.file().name,
        say::whole(load.writes_per_s),
        say::whole(load.reads_per_s),
        say::bytes(wanted.data_bytes()),
        wanted.region_names().collect::<Vec<_>>().join(", ")
    )
}

fn add_plan(text: &mut String, wanted: &Wanted, plan: &Plan) {
    for (place, judged) in plan.best.iter().enumerate() {
        let _ = writeln!(text, "\n {}. {}", place + 1, title(wanted, judged));
        text.push_str(&figures(wanted, judged));
    }
    if !plan.others.is_empty() {
        text.push_str("\n Why not otherwise:\n");
        for other in &plan.others {
            let _ = writeln!(text, "  - {}: {}", other.what, other.why);
        }
    }
    let considered = say::whole(plan.considered as f64);
    let _ = writeln!(
        text,
        "\n {considered} choices of topology, rule, primaries and copies were compared."
    );
}

fn add_infeasible(text: &mut String, wanted: &Wanted, why: &Infeasible) {
    let considered = say::whole(why.considered as f64);
    let _ = writeln!(
        text,
        "\n Nothing keeps all of it ({considered} choices were compared)."
    );
    text.push_str(match why.together {
        true => " No single bound is in the way. These together would do:\n",
        false => " Any one of these would do:\n",
    });
    for relaxation in &why.relaxations {
        let _ = writeln!(text, "  - {}", relaxation.what);
        if !why.together {
            let _ = writeln!(text, "    then {}", title(wanted, &relaxation.judged));
        }
    }
    if why.together
        && let Some(relaxation) = why.relaxations.first()
    {
        let _ = writeln!(text, " then {}", title(wanted, &relaxation.judged));
    }
}

/// "primary-replica, async, 3 shards, primaries in us; 9 servers, $1,575 a month".
pub(super) fn title(wanted: &Wanted, judged: &Judged) -> String {
    let layout = &judged.layout;
    let homes: Vec<&str> = layout
        .homes()
        .map(|(home, _)| wanted.region(home))
        .collect();
    let led = match layout.topology {
        Topology::MultiPrimary => "a primary in every copy".to_string(),
        Topology::Consensus => {
            let voting =
                (0..wanted.regions()).filter(|&r| layout.voters[r] && layout.copies[r] > 0);
            let voting: Vec<&str> = voting.map(|r| wanted.region(r)).collect();
            format!(
                "led from {}, voters in {}",
                homes.join(", "),
                voting.join(", ")
            )
        }
        Topology::PrimaryReplica => format!("primaries in {}", homes.join(", ")),
    };
    format!(
        "{}, {}, {}, {led}: {}, {} a month",
        layout.topology,
        layout.rule.named(layout.topology, wanted),
        say::count(layout.shards.into(), "shard"),
        say::count(layout.servers_in_all(), "server"),
        say::money(judged.figures.cents())
    )
}

/// "2 replica".
fn a_type(wanted: &Wanted, servers: &ServerFigures) -> String {
    let name = &wanted.server_type(servers.server_type).name;
    format!("{} {name}", servers.count)
}

pub(super) fn servers(wanted: &Wanted, of: &RegionFigures) -> String {
    let counts = of.servers.iter().map(|s| a_type(wanted, s));
    counts.collect::<Vec<_>>().join(" + ")
}

/// Per cent, without its sign: the header has it.
fn part(value: f64) -> String {
    say::short(value * 100.0)
}

pub(super) fn survives(survives: Survives) -> &'static str {
    match survives {
        Survives::Nothing => "no server",
        Survives::Server => "any one server",
        Survives::Region => "any one region",
    }
}

/// Who answers a region's reads, where these are not its own copies.
pub(super) fn reads_elsewhere(wanted: &Wanted, region: usize, reader: Reader) -> Option<String> {
    match reader {
        Reader::Copies(r) if r == region => None,
        Reader::Copies(r) => Some(format!(
            "{} reads in {}",
            wanted.region(region),
            wanted.region(r)
        )),
        Reader::Primaries => Some(format!("{} reads at the primaries", wanted.region(region))),
    }
}

fn figures(wanted: &Wanted, judged: &Judged) -> String {
    let headers = [
        "REGION", "COPIES", "SERVERS", "WRITES-%", "READS-%", "USED-%", "WRITE-MS", "READ-MS",
        "OLD-MS",
    ];
    let mut t = table(&headers, &[1, 3, 4, 5, 6, 7, 8]);
    for (region, of) in judged.figures.regions.iter().enumerate() {
        // A row for each type of servers; what is of the region stands in the first.
        for place in 0..of.servers.len().max(1) {
            let servers = of.servers.get(place);
            let used = servers.map(|s| s.utilisation).unwrap_or_default();
            let shown = |text: String| if place == 0 { text } else { String::new() };
            t.add_row([
                shown(wanted.region(region).into()),
                shown(judged.layout.copies[region].to_string()),
                servers.map_or("-".into(), |s| a_type(wanted, s)),
                part(used.writes),
                part(used.reads),
                part(used.both),
                shown(of.write_ms.map_or("never".into(), |w| say::short(w.worst))),
                shown(say::short(of.read_ms)),
                shown(say::short(of.staleness_ms)),
            ]);
        }
    }
    let mut text = render(&t);
    let (layout, figures) = (&judged.layout, &judged.figures);
    let _ = writeln!(
        text,
        " {} of everything: {}; {}/s between regions",
        say::count(layout.replication_factor(), "copy").replace("copys", "copies"),
        say::bytes(figures.storage_bytes),
        say::bytes(figures.network_bytes_per_s)
    );
    let _ = writeln!(
        text,
        " with any one server down the busiest of the others does up to {}",
        say::percent(figures.used_with_one_down)
    );
    let writes = &figures.write_downtime;
    let reads = figures.regions.iter().map(|r| r.read_downtime);
    let reads = reads
        .max_by(|a, b| a.minutes().total_cmp(&b.minutes()))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        " answered: writes {} (not for {} a year), reads {} ({})",
        say::availability(writes.availability()),
        say::minutes(writes.minutes()),
        say::availability(reads.availability()),
        say::minutes(reads.minutes())
    );
    let _ = write!(
        text,
        " an acknowledged write survives the loss of {}",
        survives(figures.survives)
    );
    if figures.writes_at_risk_per_year > 0.0 {
        let _ = write!(
            text,
            " ({} a year are at risk)",
            say::whole(figures.writes_at_risk_per_year)
        );
    }
    text.push('\n');
    let waits = figures
        .regions
        .iter()
        .map(|r| r.own_write_wait_ms)
        .fold(0.0, f64::max);
    if waits > 0.0 {
        let _ = writeln!(
            text,
            " a read of one's own write waits up to {} ms",
            say::short(waits)
        );
    }
    for (region, of) in figures.regions.iter().enumerate() {
        if let Some(elsewhere) = reads_elsewhere(wanted, region, of.reader) {
            let _ = writeln!(text, " {elsewhere}");
        }
    }
    match (layout.runs(), layout.create_line(wanted)) {
        (Err(why), _) => {
            let _ = writeln!(text, " {why}");
        }
        (Ok(()), Some(line)) => {
            let _ = writeln!(text, " {line}");
        }
        (Ok(()), None) => {}
    }
    text
}

pub(super) fn checked(wanted: &Wanted, name: &str, checked: &Checked) -> String {
    let mut text = head(wanted);
    let _ = writeln!(text, "\n {name}: {}", title(wanted, &checked.judged));
    text.push_str(&figures(wanted, &checked.judged));
    for (kind, head) in [
        (Kind::Broken, "What it doesn't keep:"),
        (Kind::Claim, "What is claimed of it:"),
        (Kind::Note, "To know:"),
    ] {
        let of_kind: Vec<_> = checked.findings.iter().filter(|f| f.kind == kind).collect();
        if !of_kind.is_empty() {
            let _ = writeln!(text, "\n {head}");
        }
        for finding in of_kind {
            let _ = writeln!(text, "  - {}", finding.says);
        }
    }
    if checked.is_sound() {
        text.push_str("\n It keeps everything that is wanted.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{as_drawn, reference},
        *,
    };
    use crate::screen::Screen;
    use capacity::search;

    #[track_caller]
    fn assert_fits(text: &str) {
        let screen = Screen {
            width: Some(80),
            colour: false,
        };
        for line in screen.wrap(text, INDENT).lines() {
            assert!(line.chars().count() <= 80, "too wide: {line}");
        }
        // A table's rows are never wrapped.
        let rows = text
            .lines()
            .filter(|l| l.contains(" REGION") || l.starts_with(" asia"));
        assert!(
            rows.map(|l| l.chars().count())
                .max()
                .is_some_and(|width| width <= 80)
        );
    }

    #[test]
    fn the_answer_for_the_reference_fits_and_says_what_to_run() {
        let wanted = reference();
        let shown = answer(&wanted, &search(&wanted));
        assert_fits(&shown);
        for part in [
            "1. primary-replica, async, 3 shards, primaries in us: 9 servers, $1,575 a month",
            "us           1  3 replica      66.7     22.2    88.9       1.5      1.5       0",
            "KEYSPACE CREATE profiles ACK async PLACE us=1,eu=1,asia=1 PRIMARY us SHARDS 3",
            "this release of Quire makes no consensus keyspaces of plans",
            "2 servers in asia: 5,000 writes/s fill both; no room for 33,333 reads/s",
        ] {
            assert!(shown.contains(part), "no {part} in\n{shown}");
        }
    }

    #[test]
    fn what_a_colleague_would_say_fits() {
        let shown = checked(&reference(), "as-drawn", &as_drawn());
        assert_fits(&shown);
        assert!(shown.contains("What it doesn't keep:\n  - the primary in us takes 10,000"));
        assert!(!shown.contains("It keeps everything"));
    }
}
