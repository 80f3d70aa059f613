//! `quire status`: the nodes, then the keyspaces, their shards and replicas.

use crate::{
    Outcome,
    client::{NodeArg, text_of},
    cluster_status::{
        ClusterStatus, ControlStatus, CopyStatus, KeyspaceStatus, NodeStatus, ReplicaStatus,
    },
    output::{count, say, sayln},
    screen::Screen,
    table::{Cell, render, table},
};
use std::{collections::BTreeMap, fmt::Display, process::ExitCode};

/// What a node said within this time is shown without its age.
const HEARD_NOW_S: f64 = 1.0;

/// Show the nodes, and who holds which shard how freshly.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArg,
    /// Print the node's JSON as it is (documented in docs/cli.md).
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    let json = text_of(client.call(&["QUIRE", "STATUS"]).await?)?;
    let status: ClusterStatus = args.node.read(&json, "a status")?;
    if args.json {
        sayln!("{json}");
    } else {
        say!("{}", show(&status, Screen::of_stdout()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The nodes, the control group, and each keyspace's replicas.
fn show(status: &ClusterStatus, screen: Screen) -> String {
    if status.nodes.is_empty() {
        let line = format!(
            " no nodes are known yet: a new cluster begins once all its voters are up ({})\n",
            status.control.voters.join(", ")
        );
        return screen.wrap(&line, 4);
    }
    let mut text = show_nodes(status, screen);
    text.push('\n');
    for line in [control_line(&status.control), versions_line(&status.nodes)] {
        text.push_str(&screen.wrap(&line, 4));
        text.push('\n');
    }
    for keyspace in &status.keyspaces {
        text.push('\n');
        text.push_str(&screen.wrap(&keyspace_line(keyspace), 4));
        text.push('\n');
        text.push_str(&show_replicas(keyspace, screen));
    }
    if status.keyspaces.is_empty() {
        let placement = full_placement(&status.nodes);
        text.push_str(&format!(
            "\n no keyspaces; make one with: quire keyspace create NAME PLACE {placement}\n"
        ));
    }
    text
}

/// A placement that this cluster has nodes for: a replica on each.
fn full_placement(nodes: &[NodeStatus]) -> String {
    let mut by_region = BTreeMap::<&str, u32>::new();
    for node in nodes {
        *by_region.entry(&node.region).or_default() += 1;
    }
    let places = by_region.iter().map(|(region, n)| format!("{region}={n}"));
    places.collect::<Vec<_>>().join(",")
}

fn show_nodes(status: &ClusterStatus, screen: Screen) -> String {
    let headers = [
        "NODE", "REGION", "ADDRESS", "PID", "STATE", "UPTIME", "KEYS", "SIZE",
    ];
    let mut nodes = table(&headers, &[3, 5, 6, 7]);
    for n in &status.nodes {
        let held = || {
            let shards = status.keyspaces.iter().flat_map(|k| &k.shards);
            let replicas = shards.flat_map(|s| &s.replicas);
            replicas.filter(|r| r.node == n.id)
        };
        let style = match n.state.as_str() {
            "up" => None,
            "starting" => screen.notice(),
            _ => screen.alarm(),
        };
        nodes.add_row([
            n.id.clone().into(),
            n.region.clone().into(),
            n.client_addr.clone().into(),
            or_dash(n.pid).into(),
            Cell::styled(n.state.clone(), style),
            or_dash(n.uptime_ms.map(uptime)).into(),
            or_dash(sum(held().map(|r| r.keys))).into(),
            or_dash(sum(held().map(|r| r.bytes)).map(size)).into(),
        ]);
    }
    render(&nodes)
}

fn show_replicas(keyspace: &KeyspaceStatus, screen: Screen) -> String {
    let headers = [
        "SHARD",
        "EPOCH",
        "NODE",
        "ROLE",
        "CAUGHT-UP",
        "PROMOTABLE",
        "POSITION",
        "LAG-MS",
    ];
    let mut rows = table(&headers, &[0, 1, 6, 7]);
    let mut copies = String::new();
    for s in &keyspace.shards {
        let (id, epoch) = (s.id.to_string(), s.epoch.to_string());
        if s.primary.is_none() {
            let none = Cell::styled("no primary", screen.alarm());
            rows.add_row([id.clone().into(), epoch.clone().into(), "-".into(), none]);
        }
        for r in &s.replicas {
            let caught_up = (!r.caught_up).then(|| screen.alarm()).flatten();
            let position = r.position.as_deref();
            rows.add_row([
                id.clone().into(),
                epoch.clone().into(),
                r.node.clone().into(),
                r.role.clone().into(),
                Cell::styled(yes_no(r.caught_up), caught_up),
                yes_no(r.promotable).into(),
                or_dash(position.or(r.last.as_ref().map(|last| last.position.as_str()))).into(),
                lag(r).into(),
            ]);
            if let Some(copy) = &r.copy {
                let line = format!(" shard {} on {}: {}", s.id, r.node, progress(copy));
                copies.push_str(&screen.wrap(&line, 4));
                copies.push('\n');
            }
        }
    }
    render(&rows) + &copies
}

/// The lag of a replica. One that holds what its primary holds is `level`: the moment as of which
/// it knows that is a heartbeat old, which says nothing of the replica. Of a node that is not up,
/// what it said last, and how long ago unless that is now.
fn lag(replica: &ReplicaStatus) -> String {
    let is_primary = replica.role == "primary";
    let Some(last) = &replica.last else {
        return match replica.lag_ms {
            Some(_) if replica.level && !is_primary => "level".into(),
            lag_ms => or_dash(lag_ms.map(f64::round)),
        };
    };
    let lag_ms = or_dash(last.lag_ms.map(f64::round));
    let age_s = last.age_ms / 1000.0;
    if age_s < HEARD_NOW_S {
        lag_ms
    } else {
        format!("{lag_ms}, {} ago", uptime(last.age_ms as u64))
    }
}

/// Who leads the control group, of whom.
fn control_line(control: &ControlStatus) -> String {
    let leader = match &control.leader {
        Some(leader) => format!("{leader} leads"),
        None => "no leader is known".into(),
    };
    format!(
        " control group: {leader}; voters {}",
        control.voters.join(", ")
    )
}

/// Which releases the nodes run: one, or which node which.
fn versions_line(nodes: &[NodeStatus]) -> String {
    let mut by_version = BTreeMap::<&str, Vec<&str>>::new();
    for node in nodes {
        let version = node.version.as_deref().unwrap_or("unknown");
        by_version.entry(version).or_default().push(&node.id);
    }
    let named = |(version, nodes): (&&str, &Vec<&str>)| format!("{version} ({})", nodes.join(", "));
    match by_version.len() {
        1 => format!(
            " version: {}",
            by_version.keys().copied().collect::<String>()
        ),
        _ => {
            let named: Vec<_> = by_version.iter().map(named).collect();
            format!(" versions: {}", named.join(", "))
        }
    }
}

/// What a keyspace is, and what one copy of it holds: the primary's.
fn keyspace_line(k: &KeyspaceStatus) -> String {
    let primaries = || {
        let replicas = k.shards.iter().flat_map(|s| &s.replicas);
        replicas.filter(|r| r.role == "primary")
    };
    let mut line = format!(
        " keyspace {} {} ({}, ack {})",
        k.id, k.name, k.topology, k.ack
    );
    if let (Some(keys), Some(bytes)) = (
        sum(primaries().map(|r| r.keys)),
        sum(primaries().map(|r| r.bytes)),
    ) {
        let keys = count(keys, "key", "keys");
        line.push_str(&format!(": {keys}, {} a copy", size(bytes)));
    }
    line
}

/// All of them together; None unless all are known, and there are any.
fn sum(figures: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut sum = None;
    for figure in figures {
        sum = Some(sum.unwrap_or(0) + figure?);
    }
    sum
}

/// A time, in its two greatest units.
fn uptime(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(size < 100.0);
    format!("{size:.digits$} {}", UNITS[unit])
}

/// How far a copy is, how fast it goes, and how long it takes from here at that rate.
fn progress(copy: &CopyStatus) -> String {
    let (from, keys) = (&copy.from, copy.keys);
    let Some(total) = copy.keys_total else {
        return format!("waits to be copied from {from}");
    };
    let seconds = copy.elapsed_ms as f64 / 1000.0;
    let mib = copy.bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "{:.0} % copied from {from}: {keys} of {total} keys, {mib:.0} MiB, {:.1} MiB/s",
        100.0 * keys as f64 / total.max(1) as f64,
        mib / seconds.max(0.001),
    );
    if keys > 0 {
        let left = total.saturating_sub(keys) as f64 / keys as f64 * seconds;
        text.push_str(&format!(", about {left:.0} s left"));
    }
    text
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_status::tests::EXAMPLE;

    fn plain(json: &str) -> String {
        show(&ClusterStatus::parse(json).unwrap(), Screen::default())
    }

    #[test]
    fn shows_each_node_and_replica_in_a_line() {
        assert_eq!(
            plain(EXAMPLE),
            " NODE  REGION  ADDRESS         PID  STATE  UPTIME  KEYS      SIZE
 us-1  us      127.0.0.1:7001   41  up      1m01s   537  84.0 KiB
 eu-1  eu      127.0.0.1:7004    -  up          -     -         -

 control group: us-1 leads; voters us-1, eu-1
 versions: 0.1.0 (us-1), unknown (eu-1)

 keyspace 0 profiles (primary-replica, ack async): 537 keys, 84.0 KiB a copy
 SHARD  EPOCH  NODE  ROLE     CAUGHT-UP  PROMOTABLE  POSITION  LAG-MS
     7      3  us-1  primary  yes        yes              3:9       0
     7      3  eu-1  replica  yes        no                 -     105
"
        );
    }

    #[test]
    fn a_cluster_without_keyspaces_says_how_to_make_one_there() {
        let mut status = ClusterStatus::parse(EXAMPLE).unwrap();
        status.keyspaces.clear();
        let shown = show(&status, Screen::default());
        assert!(
            shown.ends_with("with: quire keyspace create NAME PLACE eu=1,us=1\n"),
            "{shown}"
        );
    }

    #[test]
    fn a_cluster_that_has_not_begun_says_what_it_waits_for() {
        let shown = plain(
            r#"{"nodes":[],"keyspaces":[],"control":{"leader":null,"voters":["n1","n2","n3"]}}"#,
        );
        assert_eq!(
            shown,
            " no nodes are known yet: a new cluster begins once all its voters are up (n1, n2, n3)\n"
        );
    }

    #[test]
    fn one_key_is_a_key() {
        let one = plain(&EXAMPLE.replace(r#""keys":537"#, r#""keys":1"#));
        assert!(one.contains(": 1 key, 84.0 KiB a copy"), "{one}");
    }

    #[test]
    fn the_reference_fits_80_columns() {
        let mut status = ClusterStatus::parse(EXAMPLE).unwrap();
        let long = &mut status.nodes[1];
        long.id = "asia-1".into();
        long.region = "asia".into();
        long.pid = Some(4_194_303);
        long.state = "starting".into();
        long.uptime_ms = Some(99 * 86_400_000);
        let replica = &mut status.keyspaces[0].shards[0].replicas[1];
        replica.node = "asia-1".into();
        replica.position = Some("12:1234567".into());
        replica.keys = Some(12_345_678);
        replica.bytes = Some(12 << 30);
        for line in show(&status, Screen::default()).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_replica_that_holds_what_its_primary_holds_is_level() {
        let level = r#""lag_ms":104.5,"level":true"#;
        let shown = plain(&EXAMPLE.replace(r#""lag_ms":104.5"#, level));
        assert!(
            shown.ends_with("replica  yes        no                 -   level\n"),
            "{shown}"
        );
    }

    #[test]
    fn what_was_heard_last_is_shown_with_its_age() {
        let with = |age_ms: u64| {
            let last = format!(
                r#""lag_ms":null,"last":{{"position":"3:7","lag_ms":104.5,"age_ms":{age_ms}}}"#
            );
            plain(&EXAMPLE.replace(r#""lag_ms":104.5"#, &last))
        };
        let shown = with(12_300);
        assert!(
            shown.ends_with("             3:7  105, 12s ago\n"),
            "{shown}"
        );
        assert!(with(200).ends_with("             3:7     105\n"));
        assert!(with(75_000).ends_with("105, 1m15s ago\n"));
    }

    #[test]
    fn trouble_is_coloured_where_colours_are_shown() {
        let json = EXAMPLE.replace(r#""pid":null,"state":"up""#, r#""pid":null,"state":"down""#);
        let status = ClusterStatus::parse(&json).unwrap();
        let coloured = Screen {
            width: None,
            colour: true,
        };
        let shown = show(&status, coloured);
        assert!(
            shown.contains("\u{1b}[1m\u{1b}[31mdown\u{1b}[0m"),
            "{shown:?}"
        );
        assert!(!plain(&json).contains('\u{1b}'));
        // Colours take no room.
        let bare = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(bare, plain(&json));
    }

    #[test]
    fn times_and_sizes_are_short() {
        for (ms, wanted) in [
            (0, "0s"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(uptime(ms), wanted);
        }
        for (bytes, wanted) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (150 << 10, "150 KiB"),
            (1_000 << 10, "1.0 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(size(bytes), wanted);
        }
    }

    #[test]
    fn a_copy_under_way_says_how_far_it_is() {
        let with = |total: &str| {
            let copy = format!(
                r#""lag_ms":104.5,"copy":{{"from":"us-1","keys":250,"keys_total":{total},"bytes":52428800,"elapsed_ms":2000}}"#
            );
            let json = EXAMPLE.replace(r#""lag_ms":104.5"#, &copy);
            plain(&json)
        };
        let says = " shard 7 on eu-1: 25 % copied from us-1: 250 of 1000 keys, 50 MiB, 25.0 MiB/s, about 6 s left\n";
        assert!(with("1000").ends_with(says), "{}", with("1000"));
        let waits = " shard 7 on eu-1: waits to be copied from us-1\n";
        assert!(with("null").ends_with(waits));
    }

    #[test]
    fn a_shard_without_a_primary_says_so() {
        let json = EXAMPLE.replace(r#""primary":"us-1""#, r#""primary":null"#);
        assert!(plain(&json).contains("no primary"));
    }
}
