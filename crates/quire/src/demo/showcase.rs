//! What the demo shows when the nodes are up: sample profiles, a short run of the reference
//! workload, and what it measured beside what the reference deployment expects.

use super::{
    KEYSPACE, KEYSPACE_ID,
    home::Where,
    machine::{self, CpuTimes},
    plan::{NodePlan, Plan, addr},
    status,
};
use crate::{
    bench::{self, Report, Settings, Target, Workload},
    client::Client,
    load_command,
    screen::Screen,
    table::{Cell, render, table},
    update::KeyTemplate,
};
use indicatif::ProgressBar;
use resp::Frame;
use std::{collections::BTreeMap, path::Path, time::Duration};

const PROFILES: &str = include_str!("../../../../testdata/profiles.jsonl");
const PROFILE_KEY: &str = "profile:{id}";
/// One of [`PROFILES`].
const PROFILE_EXAMPLE: &str = "profile:C000127";

const WORKLOAD_DURATION: Duration = Duration::from_secs(5);
/// Operations a second that a core holds while it also runs its share of the nodes.
const RATE_PER_CORE: f64 = 5_500.0;
const RATE_MAX: f64 = 110_000.0;
const KEYS: u32 = 2_000;
/// How often the replicas' lag is looked at.
const LAG_INTERVAL: Duration = Duration::from_millis(250);

/// The reference's workload on a demo's nodes, two clients each.
pub(super) fn workload(targets: Vec<Target>, rate: f64, duration: Duration) -> Settings {
    Settings {
        workload: Workload::Reference,
        rate: Some(rate),
        mix: None,
        clients: 2 * targets.len(),
        pipeline: 1,
        duration,
        keyspace: Some(KEYSPACE.into()),
        keys: KEYS,
        value_bytes: 300,
        fill: true,
        progress: ProgressBar::hidden(),
        targets,
    }
}

/// Loads, measures, prints.
pub(super) async fn run(plan: &Plan, first: &str, by_node: bool) -> Result<(), String> {
    let loaded = load_profiles(first).await?;
    println!("{loaded} sample profiles loaded, such as {PROFILE_EXAMPLE}");

    let cores = machine::cores();
    let rate = rate();
    let targets: Vec<Target> = plan.nodes.iter().map(target).collect();
    println!(
        "the reference workload for {} s: {:.0} updates/s and {:.0} reads/s,\n\
         all regions together ({cores} cores for {} nodes and the clients) …",
        WORKLOAD_DURATION.as_secs(),
        rate / 11.0,
        rate * 10.0 / 11.0,
        plan.nodes.len()
    );
    let before = CpuTimes::now();
    let measuring = bench::measure(workload(targets, rate, WORKLOAD_DURATION));
    let mut lag_ms = BTreeMap::new();
    let report = tokio::select! {
        report = measuring => report?,
        () = watch_lag(first, &mut lag_ms) => return Err("the lag can't be watched".into()),
    };
    print!("\n{}", report.show(by_node));
    let times = before.zip(CpuTimes::now());
    let unfit = machine::unfit(cores, times, rate, report.rate_achieved);
    let screen = Screen::of_stdout();
    let home = &plan.nodes[0].region;
    print!(
        "\n{}",
        compare(&report, &lag_ms, home, unfit.as_deref(), screen)
    );
    Ok(())
}

/// Operations a second that this machine holds.
pub(super) fn rate() -> f64 {
    (RATE_PER_CORE * machine::cores() as f64).min(RATE_MAX)
}

async fn load_profiles(first: &str) -> Result<u64, String> {
    let mut client = Client::connect(first).await.map_err(|e| e.to_string())?;
    let selected = client.call(&["SELECT", KEYSPACE]).await;
    selected.map_err(|e| e.to_string())?;
    let template: KeyTemplate = PROFILE_KEY.parse().map_err(|e| format!("{e}"))?;
    let bar = ProgressBar::hidden();
    let loading = load_command::load(&mut client, &template, PROFILES.as_bytes(), &bar);
    let summary = loading.await.map_err(|e| e.to_string())?;
    if summary.bad + summary.refused > 0 {
        return Err(format!("{} sample profiles were refused", summary.refused));
    }
    Ok(summary.applied)
}

pub(super) fn target(node: &NodePlan) -> Target {
    Target {
        region: node.region.clone(),
        addr: addr(node.client_port),
    }
}

/// Keeps the greatest lag seen in each region; doesn't end.
async fn watch_lag(first: &str, lag_ms: &mut BTreeMap<String, f64>) {
    loop {
        tokio::time::sleep(LAG_INTERVAL).await;
        let Ok(status) = status(first).await else {
            continue;
        };
        for (region, lag) in status.lag_ms_max_by_region(KEYSPACE_ID) {
            let worst = lag_ms.entry(region.to_string()).or_insert(0.0);
            *worst = worst.max(lag);
        }
    }
}

/// What was measured beside what is expected, a line each. Times are not judged where the machine
/// can't tell them, for the reason in `unfit`; promises are, always.
fn compare(
    report: &Report,
    lag_ms: &BTreeMap<String, f64>,
    home: &str,
    unfit: Option<&str>,
    screen: Screen,
) -> String {
    let mut rows = table(&["WHAT", "MEASURED", "EXPECTED"], &[1, 2]);
    let mut add = |what: String, measured: String, expected: &str, holds: Option<bool>| {
        let verdict = match holds {
            None => "not judged".into(),
            Some(true) => "ok".into(),
            Some(false) => Cell::styled("MISSED", screen.alarm()),
        };
        rows.add_row([what.into(), measured.into(), expected.into(), verdict]);
    };
    let judged = |holds| unfit.is_none().then_some(holds);
    for row in &report.operations {
        let figures = &row.figures;
        let what = match figures.operation {
            "update" if row.region == home => format!("writes in {home}, p99"),
            "read" => format!("reads in {}, p99", row.region),
            _ => continue,
        };
        let p99 = format!("{:.1} ms", figures.p99_ms);
        let holds = figures.count > 0 && figures.p99_ms < 10.0;
        add(what, p99, "under 10 ms", judged(holds));
    }
    for (region, lag) in lag_ms {
        let (expected, lag_ms_max) = if region == home {
            ("under 1 s", 1_000.0)
        } else {
            ("1 to 3 s", 3_000.0)
        };
        let measured = format!("{lag:.0} ms");
        add(
            format!("lag in {region}, greatest"),
            measured,
            expected,
            judged(*lag < lag_ms_max),
        );
    }
    for (what, promise) in [
        ("reads that missed an own write", &report.read_your_writes),
        ("reads that went back in time", &report.monotonic_reads),
    ] {
        let measured = format!("{} of {}", promise.violations, promise.checked);
        add(what.into(), measured, "0", Some(promise.violations == 0));
    }
    let mut text = render(&rows);
    if let Some(why) = unfit {
        let line = format!("\n latency can't be judged on this machine:\n   {why}\n");
        text.push_str(&line);
    }
    text
}

/// How to go on from here: only what answers.
pub(super) async fn say_how_to_connect(plan: &Plan, place: &Where, dir: &Path) {
    println!();
    for node in &plan.nodes {
        println!(
            " {:<8} redis-cli -p {:<5}    http://{}/health",
            node.id,
            node.client_port,
            addr(node.http_port)
        );
    }
    println!();
    let first = &plan.nodes[0];
    let example = if is_there(&addr(first.client_port), PROFILE_EXAMPLE).await {
        format!("HGETALL {PROFILE_EXAMPLE}")
    } else {
        "HSET user:1 name Ada city London".into()
    };
    println!(" redis-cli -p {} {example}", first.client_port);
    println!(" quire status --node {}", addr(first.client_port));
    let options = place.options();
    println!(" quire demo kill {}{options}", first.id);
    println!(" quire demo start {}{options}", first.id);
    println!(" logs: {}/<node>/log", dir.display());
    println!(" Ctrl-C stops all nodes");
    println!();
}

/// Whether the demo's keyspace has `key`; no, if the node does not say.
async fn is_there(addr: &str, key: &str) -> bool {
    let Ok(mut client) = Client::connect(addr).await else {
        return false;
    };
    let selected = client.call(&["SELECT", KEYSPACE]).await;
    selected.is_ok() && client.call(&["EXISTS", key]).await.ok() == Some(Frame::Integer(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Figures, Row};

    #[test]
    fn what_misses_the_reference_is_marked() {
        let row = |region: &str, operation, p99_ms| Row {
            region: region.into(),
            figures: Figures {
                operation,
                count: 10,
                p99_ms,
                ..Figures::default()
            },
        };
        let mut report = Report {
            operations: vec![
                row("us", "update", 4.0),
                row("eu", "update", 204.0), // across the ocean: no promise
                row("eu", "read", 11.0),
            ],
            ..Report::default()
        };
        report.read_your_writes.checked = 9;
        report.monotonic_reads.checked = 9;
        report.monotonic_reads.violations = 1;
        let lag_ms = BTreeMap::from([("us".into(), 1_500.0), ("eu".into(), 1_500.0)]);
        let shown = |unfit| compare(&report, &lag_ms, "us", unfit, Screen::default());
        assert_eq!(
            shown(None),
            " WHAT                            MEASURED     EXPECTED
 writes in us, p99                 4.0 ms  under 10 ms  ok
 reads in eu, p99                 11.0 ms  under 10 ms  MISSED
 lag in eu, greatest              1500 ms     1 to 3 s  ok
 lag in us, greatest              1500 ms    under 1 s  MISSED
 reads that missed an own write    0 of 9            0  ok
 reads that went back in time      1 of 9            0  MISSED
"
        );
        let unfit = shown(Some("it has 2 cores"));
        assert_eq!(unfit.matches("not judged").count(), 4, "{unfit}");
        assert_eq!(
            unfit.matches("MISSED").count(),
            1,
            "a promise is one anywhere"
        );
        let says = "\n latency can't be judged on this machine:\n   it has 2 cores\n";
        assert!(unfit.ends_with(says), "{unfit}");
        for line in unfit.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
