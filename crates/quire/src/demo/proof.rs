//! `quire demo --plan FILE`: what is measured of a layout that runs, beside what was computed of
//! it: latency and lag by region, each region's part of the work, and a failover.
//!
//! ```text
//! demo file ─ scaled (capacity) ─▶ nodes, links, keyspace ─▶ one write at a time ─▶ the plan's load
//!                              ─▶ a primary is killed ─▶ the table ─▶ it is started again
//! ```
//! What is computed is computed for what runs: for the load that is asked for, and with this
//! machine's own time for one write in place of the plan's, since that is the machine's.

use super::{
    KEYSPACE, KEYSPACE_ID, machine,
    machine::CpuTimes,
    nodes::{Order, Orders, running_in},
    plan::{Plan, addr},
    showcase, status,
};
use crate::{
    bench::{self, Mix, Report, Settings},
    client::Client,
    screen::Screen,
    table::{Cell, render, table},
};
use capacity::{demo::Scaled, judge, say};
use model::slot;
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::time::{Instant, sleep};

const DURATION: Duration = Duration::from_secs(10);
const LAG_INTERVAL: Duration = Duration::from_millis(50);
/// Writes one at a time, of which the median is a machine's service time.
const CALIBRATIONS: usize = 101;
/// A failover that takes longer is given up on.
const FAILOVER_MAX: Duration = Duration::from_secs(40);
const RETRY: Duration = Duration::from_millis(10);
/// What is measured is as computed within this part, or within a millisecond: timers are no
/// more exact.
const WITHIN: f64 = 0.2;
const WITHIN_MS: f64 = 1.0;

/// The links of the plan, as a file that the nodes read.
pub(super) fn links(scaled: &Scaled) -> String {
    let wanted = &scaled.wanted;
    let inside = wanted.file().assumptions.in_region_one_way_ms;
    let mut text = format!("inside_ms = {inside:?}\n");
    let there = |region: usize| scaled.judged.layout.servers_in(region) > 0;
    for a in (0..wanted.regions()).filter(|r| there(*r)) {
        for b in (a + 1..wanted.regions()).filter(|r| there(*r)) {
            text.push_str(&format!(
                "\n[[link]]\nbetween = [\"{}\", \"{}\"]\nlatency_ms = {:?}\n",
                wanted.region(a),
                wanted.region(b),
                wanted.one_way_ms(a, b)
            ));
        }
    }
    text
}

/// The servers that run, by region, the primaries' first: as `--nodes` takes them.
pub(super) fn placement(scaled: &Scaled) -> String {
    let layout = &scaled.judged.layout;
    let mut regions: Vec<usize> = (0..layout.servers.len())
        .filter(|&r| layout.servers_in(r) > 0)
        .collect();
    regions.sort_by_key(|&r| layout.primaries[r] == 0);
    let of = |r: usize| format!("{}={}", scaled.wanted.region(r), layout.servers_in(r));
    regions.into_iter().map(of).collect::<Vec<_>>().join(",")
}

/// What is asked for, in words.
pub(super) fn head(scaled: &Scaled) -> String {
    let load = &scaled.wanted.file().load;
    format!(
        "{} of {} servers of the plan run, at 1/{} of its load: {} writes/s, {} reads/s",
        scaled.judged.layout.servers_in_all(),
        scaled.servers,
        say::short(scaled.scale),
        say::whole(load.writes_per_s),
        say::whole(load.reads_per_s)
    )
}

/// All that was measured.
struct Measured {
    report: Report,
    /// Region → the lags that were seen.
    lag_ms: BTreeMap<String, Vec<f64>>,
    /// Region → seconds of processor time of its nodes.
    cpu_s: BTreeMap<String, f64>,
    failover_s: f64,
}

/// Measures and prints.
pub(super) async fn run(
    plan: &Plan,
    scaled: &Scaled,
    orders: &Orders,
    dir: &Path,
) -> Result<(), String> {
    println!("{}", head(scaled));
    let shards = scaled.judged.layout.shards;
    let key = key_of_first(shards);
    let first = addr(plan.nodes[0].client_port);
    let service_ms = service_ms(plan, &first, &key).await?;
    let mut file = scaled.wanted.file().clone();
    file.assumptions.service_ms = service_ms;
    let wanted = capacity::Wanted::new(file).map_err(|e| e.to_string())?;
    let computed = judge(&wanted, scaled.judged.layout.clone());

    let load = &wanted.file().load;
    let rate = load.writes_per_s + load.reads_per_s;
    let mix: BTreeMap<String, Mix> = (0..wanted.regions())
        .map(|r| {
            let mix = Mix {
                updates: wanted.writes_from(r),
                reads: wanted.reads_from(r),
            };
            (wanted.region(r).to_owned(), mix)
        })
        .collect();
    let targets: Vec<_> = plan.nodes.iter().map(showcase::target).collect();
    let before = CpuTimes::now();
    let cpu_before = cpu_by_region(plan, dir);
    let measuring = bench::measure(Settings {
        mix: Some(mix),
        ..showcase::workload(targets, rate, DURATION)
    });
    let mut lag_ms = BTreeMap::new();
    let report = tokio::select! {
        report = measuring => report?,
        () = watch_lag(&first, &mut lag_ms) => return Err("the lag can't be watched".into()),
    };
    let mut cpu_s = cpu_by_region(plan, dir);
    for (region, before) in cpu_before {
        *cpu_s.entry(region).or_default() -= before;
    }
    let times = before.zip(CpuTimes::now());
    let unfit = machine::unfit(machine::cores(), times, rate, report.rate_achieved);
    let failover_s = failover_s(plan, orders, &first, &key).await?;
    let measured = Measured {
        report,
        lag_ms,
        cpu_s,
        failover_s,
    };
    print!("\n{}", measured.report.show(false));
    print!(
        "\n{}",
        compare(
            &wanted,
            &computed,
            &measured,
            unfit.as_deref(),
            Screen::of_stdout()
        )
    );
    Ok(())
}

/// A key of the keyspace's first shard.
fn key_of_first(shards: u16) -> String {
    let last = slot::ranges(shards).next().map_or(0, |(_, last)| last);
    let mut keys = (0_u32..).map(|n| format!("proof:{n}"));
    let first = keys.find(|key| slot::of(key.as_bytes()) <= last);
    // One slot in so many as there are shards is the first's.
    first.unwrap_or_default()
}

async fn connect(addr: &str) -> Result<Client, String> {
    let mut client = Client::connect(addr).await.map_err(|e| e.to_string())?;
    let selected = client.call(&["SELECT", KEYSPACE]).await;
    selected.map_err(|e| e.to_string())?;
    Ok(client)
}

/// The primary of the first shard.
async fn primary(first: &str) -> Result<String, String> {
    let status = status(first).await?;
    let keyspace = status.keyspaces.into_iter().find(|k| k.id == KEYSPACE_ID);
    let shard = keyspace.and_then(|k| k.shards.into_iter().min_by_key(|s| s.id));
    let primary = shard.and_then(|s| s.primary);
    primary.ok_or("the first shard has no primary".into())
}

fn client_addr(plan: &Plan, node: &str) -> Option<String> {
    let found = plan.nodes.iter().find(|n| n.id == node);
    found.map(|n| addr(n.client_port))
}

/// The median of writes one at a time, at the primary itself and while nothing else goes on.
async fn service_ms(plan: &Plan, first: &str, key: &str) -> Result<f64, String> {
    let primary = primary(first).await?;
    let at = client_addr(plan, &primary).ok_or("the primary is none of the demo's nodes")?;
    let mut client = connect(&at).await?;
    let mut took_ms = Vec::new();
    for n in 0..CALIBRATIONS {
        let began = Instant::now();
        let written = client.call(&["HSET", key, "n", &n.to_string()]).await;
        written.map_err(|e| e.to_string())?;
        took_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(median(&mut took_ms))
}

/// 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Keeps each region's lags; doesn't end.
async fn watch_lag(first: &str, lag_ms: &mut BTreeMap<String, Vec<f64>>) {
    loop {
        sleep(LAG_INTERVAL).await;
        let Ok(status) = status(first).await else {
            continue;
        };
        for (region, lag) in status.lag_ms_max_by_region(KEYSPACE_ID) {
            lag_ms.entry(region.to_string()).or_default().push(lag);
        }
    }
}

/// Region → what its nodes' processes have taken of the processors, in seconds; nothing where the
/// system does not tell.
fn cpu_by_region(plan: &Plan, dir: &Path) -> BTreeMap<String, f64> {
    let mut by_region = BTreeMap::new();
    for (id, pid) in running_in(plan, dir) {
        let node = plan.nodes.iter().find(|n| n.id == id);
        if let Some((node, seconds)) = node.zip(machine::cpu_seconds(pid)) {
            *by_region.entry(node.region.clone()).or_insert(0.0) += seconds;
        }
    }
    by_region
}

/// From the death of the first shard's primary until a write to it is acknowledged again.
async fn failover_s(plan: &Plan, orders: &Orders, first: &str, key: &str) -> Result<f64, String> {
    let victim = primary(first).await?;
    let home = plan.nodes.iter().find(|n| n.id == victim);
    let others = || plan.nodes.iter().filter(|n| n.id != victim);
    let near = others().find(|n| home.is_some_and(|h| h.region == n.region));
    let asked = near
        .or_else(|| others().next())
        .ok_or("there is one node alone")?;
    let asked = addr(asked.client_port);
    println!("killing {victim}, the primary of the first shard …");
    orders.give(Order::Kill, &victim).await?;
    let began = Instant::now();
    let took = loop {
        let written = match connect(&asked).await {
            Ok(mut client) => {
                client.set_reply_timeout(FAILOVER_MAX);
                let written = client.call(&["HSET", key, "after", "failover"]).await;
                written.map(drop).map_err(|e| e.to_string())
            }
            Err(why) => Err(why),
        };
        match written {
            Ok(()) => break began.elapsed().as_secs_f64(),
            Err(why) if began.elapsed() > FAILOVER_MAX => {
                return Err(format!("no write after {FAILOVER_MAX:?}: {why}"));
            }
            Err(_) => sleep(RETRY).await,
        }
    };
    orders.give(Order::Start, &victim).await?;
    Ok(took)
}

/// What a failover is computed to take for users in the primaries' region: until it is noticed,
/// until another is named, and the write to that one, wherever the nearest is.
fn computed_failover_s(wanted: &capacity::Wanted, computed: &capacity::Judged) -> f64 {
    let a = &wanted.file().assumptions;
    let layout = &computed.layout;
    let Some((home, _)) = layout.homes().next() else {
        return 0.0;
    };
    let own = computed.figures.regions[home]
        .write_ms
        .map_or(0.0, |w| w.worst);
    let held = (0..wanted.regions()).filter(|&r| layout.copies[r] > u16::from(r == home));
    let ways = held.map(|r| wanted.one_way_ms(home, r));
    let nearest = ways.fold(f64::INFINITY, f64::min);
    let farther_ms = 2.0 * (nearest - wanted.one_way_ms(home, home));
    let write_ms = own
        + if farther_ms.is_finite() {
            farther_ms
        } else {
            0.0
        };
    a.detection_s + a.failover_s + write_ms / 1_000.0
}

/// A line for each figure: computed, measured, and how far they are apart. What the machine can't
/// tell, for the reason in `unfit`, is not judged; promises are, always.
fn compare(
    wanted: &capacity::Wanted,
    computed: &capacity::Judged,
    measured: &Measured,
    unfit: Option<&str>,
    screen: Screen,
) -> String {
    let mut rows = table(&["WHAT", "COMPUTED", "MEASURED", "APART"], &[1, 2, 3]);
    let verdict = |holds: Option<bool>| match holds {
        None => "".into(),
        Some(true) => "ok".into(),
        Some(false) => Cell::styled("APART", screen.alarm()),
    };
    let apart = |a: f64, b: f64| match a {
        0.0 => "-".into(),
        a => format!("{:+.0} %", (b - a) / a * 100.0),
    };
    let near = |a: f64, b: f64| (a - b).abs() <= (WITHIN * a).max(WITHIN_MS);
    let judged = |holds: bool| unfit.is_none().then_some(holds);
    for (region, of) in computed.figures.regions.iter().enumerate() {
        let name = wanted.region(region);
        let figures = |operation: &str| {
            let all = measured.report.operations.iter();
            let mut found = all.filter(|r| r.region == name && r.figures.operation == operation);
            found.next().map(|r| &r.figures).filter(|f| f.count > 0)
        };
        let mut add = |what: String, a: f64, b: f64| {
            let ms = |ms: f64| format!("{ms:.1} ms");
            let holds = judged(near(a, b));
            rows.add_row([
                what.into(),
                ms(a).into(),
                ms(b).into(),
                apart(a, b).into(),
                verdict(holds),
            ]);
        };
        if let Some((write, found)) = of.write_ms.zip(figures("update")) {
            add(
                format!("writes from {name}, median"),
                write.mean,
                found.p50_ms,
            );
        }
        if let Some(found) = figures("read") {
            add(
                format!("reads from {name}, median"),
                of.read_ms,
                found.p50_ms,
            );
        }
        let age = capacity::latency::staleness_ms(wanted, &computed.layout, region);
        if let Some(lags) = measured.lag_ms.get(name).filter(|_| age > 0.0) {
            add(
                format!("lag in {name}, median"),
                age,
                median(&mut lags.clone()),
            );
        }
    }
    let work = |region: usize| {
        let servers = computed.figures.regions[region].servers.iter();
        servers
            .map(|s| s.utilisation.both * f64::from(s.count))
            .sum::<f64>()
    };
    let all_work: f64 = (0..wanted.regions()).map(work).sum();
    let all_cpu: f64 = measured.cpu_s.values().sum();
    if all_work > 0.0 && all_cpu > 0.0 {
        for region in (0..wanted.regions()).filter(|r| work(*r) > 0.0) {
            let name = wanted.region(region);
            let (a, b) = (
                work(region) / all_work,
                measured.cpu_s.get(name).copied().unwrap_or(0.0) / all_cpu,
            );
            rows.add_row([
                format!("part of the work, {name}").into(),
                say::percent(a).into(),
                say::percent(b).into(),
                apart(a, b).into(),
                verdict(None),
            ]);
        }
    }
    let (a, b) = (computed_failover_s(wanted, computed), measured.failover_s);
    rows.add_row([
        "a primary's death until a write".into(),
        format!("{a:.1} s").into(),
        format!("{b:.1} s").into(),
        apart(a, b).into(),
        verdict(judged(b <= a * (1.0 + WITHIN))),
    ]);
    for (what, promise) in [
        (
            "reads that missed an own write",
            &measured.report.read_your_writes,
        ),
        (
            "reads that went back in time",
            &measured.report.monotonic_reads,
        ),
    ] {
        let found = format!("{} of {}", promise.violations, promise.checked);
        rows.add_row([
            what.into(),
            "0".into(),
            found.into(),
            "".into(),
            verdict(Some(promise.violations == 0)),
        ]);
    }
    let mut text = render(&rows);
    text.push_str(&format!(
        "\n computed with {} ms for a write of this machine\n",
        say::short(wanted.file().assumptions.service_ms)
    ));
    if let Some(why) = unfit {
        text.push_str(&format!(
            " times are not judged on this machine:\n   {why}\n"
        ));
    }
    text
}
