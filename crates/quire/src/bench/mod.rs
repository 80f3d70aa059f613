//! `quire bench`: latency and throughput as clients see them, with the sessions' promises
//! checked meanwhile.
//!
//! ```text
//! schedule ──due──→ connection ──requests──→ node
//! workload ──what─┘     │  ↑─────replies────┘   (scan: read in place)
//!                       ├──→ checks    read-your-writes, monotonic reads
//!                       └──→ recorder ──→ report
//! ```
//! With a rate the loop is open: operations fall due by schedule, and latency counts from the
//! due time. Without one it is closed: each client keeps `--pipeline` requests in flight, and
//! latency counts from the sending. One thread runs it all; what it costs itself is part of
//! what it measures where it shares the machine with the servers.

mod checks;
mod connection;
mod recorder;
mod report;
mod scan;
mod schedule;
mod targets;
mod workload;

pub(crate) use report::Report;
#[cfg(test)]
pub(crate) use report::{Promise, Row};
pub(crate) use targets::Target;
pub(crate) use workload::Workload;

use crate::Outcome;
use crate::output::{say, sayln};
use connection::{Connection, Pace};
use recorder::Recorder;
use schedule::Schedule;
use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    task::{JoinSet, LocalSet},
    time::Instant,
};
use workload::{Generator, Ownership, Part};

/// Operations a second of the reference: 10,000 updates and 100,000 reads.
const REFERENCE_RATE: f64 = 110_000.0;
/// Clients that are opened at most.
const CLIENTS_MAX: usize = 10_000;

/// Measure latency and throughput, and check the sessions' promises meanwhile.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to ask for.
    #[arg(long, value_enum, default_value = "reference")]
    workload: Workload,
    /// Operations a second, all clients together, by schedule (open loop). 0: as many as the
    /// clients can (closed loop). Default: 110000 for the reference (10,000 updates and
    /// 100,000 reads), 0 for the others.
    #[arg(long, value_name = "OPS_PER_S", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Connections, spread evenly over the nodes. Default: 2 for each node.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX as i64))]
    clients: Option<u32>,
    /// Requests that each client keeps in flight in a closed loop.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pipeline: u32,
    /// Seconds to measure for.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Duration,
    /// Print one JSON document (documented in docs/cli.md).
    #[arg(long)]
    json: bool,
    /// The keyspace, by name or number. Default: `profiles` on a Quire cluster, none (0) on
    /// other servers.
    #[arg(long)]
    keyspace: Option<String>,
    /// How many keys there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Bytes of a value, or of the longest field of a hash.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    value_bytes: u32,
    /// Leave the keys as they are: don't write each once before measuring.
    #[arg(long)]
    no_fill: bool,
    /// A node, as ADDR or REGION=ADDR; repeat for several. One plain address is asked for its
    /// cluster's nodes, and all of them are used.
    #[arg(
        long = "node",
        value_name = "[REGION=]ADDR",
        default_value = "127.0.0.1:7001"
    )]
    nodes: Vec<String>,
}

/// A run, ready to go.
pub(crate) struct Settings {
    pub(crate) workload: Workload,
    /// None: closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) duration: Duration,
    pub(crate) keyspace: Option<String>,
    pub(crate) keys: u32,
    pub(crate) value_bytes: usize,
    pub(crate) fill: bool,
    /// At least one.
    pub(crate) targets: Vec<Target>,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1e8).contains(&rate) => Ok(rate),
        _ => Err("use operations a second, 0 to 100000000".into()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if (0.1..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("use seconds, 0.1 to 1000000".into()),
    }
}

pub(crate) async fn run(args: Args) -> Outcome {
    let found = targets::find(&args.nodes).await?;
    let default_rate = match args.workload {
        Workload::Reference => REFERENCE_RATE,
        _ => 0.0,
    };
    let rate = args.rate.unwrap_or(default_rate);
    let in_cluster = found.is_cluster.then(|| "profiles".to_string());
    let report = measure(Settings {
        workload: args.workload,
        rate: (rate > 0.0).then_some(rate),
        clients: args
            .clients
            .map_or(2 * found.targets.len(), |clients| clients as usize),
        pipeline: args.pipeline as usize,
        duration: args.duration,
        keyspace: args.keyspace.or(in_cluster),
        keys: args.keys,
        value_bytes: args.value_bytes as usize,
        fill: !args.no_fill,
        targets: found.targets,
    })
    .await?;
    if args.json {
        sayln!("{}", serde_json::to_string(&report)?);
    } else {
        say!("{}", report.show());
    }
    Ok(if report.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs `settings` to their end.
pub(crate) async fn measure(settings: Settings) -> Result<Report, String> {
    LocalSet::new().run_until(measure_here(settings)).await
}

async fn measure_here(settings: Settings) -> Result<Report, String> {
    let parts = parts(&settings);
    let writers = parts.iter().filter(|part| part.writes()).count().max(1) as u32;
    let keys = settings.keys.max(writers);
    // Greater than any number of an earlier run, as long as the clock only goes forward: a
    // run doesn't write a million numbers a millisecond.
    let number = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_millis() as u64)
        * 1_000_000;

    let mut opening = JoinSet::new();
    let mut next_writer = 0;
    for (n, part) in parts.iter().enumerate() {
        let target = settings.targets[n % settings.targets.len()].clone();
        let writer = part.writes().then(|| {
            next_writer += 1;
            next_writer - 1
        });
        let ownership = Ownership {
            writer,
            writers,
            keys,
        };
        let bytes = settings.value_bytes;
        let generator =
            Generator::new(settings.workload, *part, ownership, bytes, number, n as u64);
        let keyspace = settings.keyspace.clone();
        let fill = settings.fill;
        opening.spawn_local(async move {
            let opened = Connection::open(target.addr, keyspace, generator, fill).await;
            opened.map(|connection| (n, target.region, connection))
        });
    }
    let mut connections = Vec::new();
    while let Some(opened) = opening.join_next().await {
        connections.push(opened.map_err(|e| e.to_string())??);
    }
    connections.sort_by_key(|(n, ..)| *n);

    let start = Instant::now();
    let end_ns = settings.duration.as_nanos() as u64;
    let clients = connections.len();
    let mut running = JoinSet::new();
    for (n, region, connection) in connections {
        let pace = match settings.rate {
            Some(rate) => {
                let rate = rate * share(&parts, n);
                Pace::Open(Schedule::new(rate, n as f64 / clients as f64, end_ns))
            }
            None => Pace::Closed {
                in_flight: settings.pipeline,
                end_ns,
            },
        };
        running.spawn_local(async move { (region, connection.run(pace, start).await) });
    }
    let mut regions: BTreeMap<String, Recorder> = BTreeMap::new();
    let mut read_your_writes = checks::Tally::default();
    let mut monotonic_reads = checks::Tally::default();
    while let Some(ended) = running.join_next().await {
        let (region, connection) = ended.map_err(|e| e.to_string())?;
        regions.entry(region).or_default().add(connection.recorder);
        read_your_writes.add(connection.session.read_your_writes);
        monotonic_reads.add(connection.session.monotonic_reads);
    }
    let seconds = settings.duration.as_secs_f64();
    let (operations, errors) = report::rows(regions, seconds);
    Ok(Report {
        workload: settings.workload.name(),
        seconds,
        rate_asked: settings.rate,
        rate_achieved: report::per_second(operations.iter().map(|row| row.count).sum(), seconds),
        clients,
        operations,
        errors,
        read_your_writes: read_your_writes.into(),
        monotonic_reads: monotonic_reads.into(),
    })
}

/// The part of each connection. Connection n goes to node n modulo the number of nodes.
fn parts(settings: &Settings) -> Vec<Part> {
    let nodes = settings.targets.len();
    let divided = settings.rate.is_some() && settings.clients >= 2 * nodes;
    (0..settings.clients)
        .map(|n| Part::of(settings.workload, divided, n / nodes))
        .collect()
}

/// The part of the whole rate that connection `n` has.
fn share(parts: &[Part], n: usize) -> f64 {
    let part = parts[n];
    let alike = parts.iter().filter(|p| **p == part).count();
    part.weight() / 11.0 / alike as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(clients: usize, nodes: usize, rate: Option<f64>) -> Settings {
        let target = Target {
            region: "us".into(),
            addr: "127.0.0.1:1".into(),
        };
        Settings {
            workload: Workload::Reference,
            rate,
            clients,
            pipeline: 1,
            duration: Duration::from_secs(1),
            keyspace: None,
            keys: 10,
            value_bytes: 10,
            fill: true,
            targets: vec![target; nodes],
        }
    }

    #[test]
    fn the_shares_make_the_whole_rate() {
        for (clients, nodes) in [(14, 7), (20, 7), (7, 7), (1, 1), (3, 1), (2, 1)] {
            let parts = parts(&settings(clients, nodes, Some(1.0)));
            let whole: f64 = (0..clients).map(|n| share(&parts, n)).sum();
            assert!((whole - 1.0).abs() < 1e-9, "{clients} on {nodes}: {whole}");
        }
    }

    #[test]
    fn readers_and_writers_are_divided_where_there_are_connections_enough() {
        let at_each_node = parts(&settings(14, 7, Some(1.0)));
        assert!(at_each_node[..7].iter().all(|p| *p == Part::Writer));
        assert!(at_each_node[7..].iter().all(|p| *p == Part::Reader));
        assert_eq!(parts(&settings(1, 1, Some(1.0))), [Part::Both]);
        // A closed loop keeps the mix only if each connection does.
        assert_eq!(parts(&settings(2, 1, None)), [Part::Both; 2]);
    }
}
