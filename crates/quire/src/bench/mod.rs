//! `quire bench`: latency and throughput as clients see them, with the sessions' promises
//! checked meanwhile.
//!
//! ```text
//! arguments ─→ settings ─→ prepare (open, fill) ─→ measure ─→ report
//!
//! schedule ──due──→ connection ──requests──→ node
//! workload ──what─┘     │  ↑─────replies────┘   (scan: read in place)
//! (ycsb, zipfian)       ├──→ checks    read-your-writes, monotonic reads
//!                       └──→ recorder ──→ report
//! ```
//! With a rate the loop is open: operations fall due by schedule, and latency counts from the
//! due time. Without one it is closed: each client keeps `--pipeline` requests in flight, and
//! latency counts from the sending. One thread runs it all; what it costs itself is part of
//! what it measures where it shares the machine with the servers.

mod checks;
mod connection;
mod encode;
mod measure;
mod prepare;
mod random;
mod recorder;
mod report;
mod scan;
mod schedule;
mod targets;
mod workload;
mod ycsb;
mod zipfian;

pub(crate) use measure::measure;
pub(crate) use prepare::Mix;
pub(crate) use report::Report;
#[cfg(test)]
pub(crate) use report::{Figures, Row};
pub(crate) use targets::Target;
pub(crate) use workload::Workload;

use crate::{
    Outcome, address,
    client::{NODE_DEFAULT, NODE_ENV},
    output::{say, sayln},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};
use targets::Targets;

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
    /// Show a table by node too, not only by region.
    #[arg(long, conflicts_with = "json")]
    by_node: bool,
    /// The keyspace, by name or number. Default: `profiles` on a Quire cluster, none (0) on
    /// other servers.
    #[arg(long)]
    keyspace: Option<String>,
    /// How many keys there are. Default: 100000 for YCSB's workloads, 10000 for the others.
    #[arg(long, visible_alias = "records", value_parser = clap::value_parser!(u32).range(1..))]
    keys: Option<u32>,
    /// Bytes of a value, of the longest field of a hash, or of each of the ten fields of a
    /// YCSB record. Default: 100 for YCSB's workloads, 300 for the others.
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    value_bytes: Option<u32>,
    /// Leave the keys as they are. Otherwise each is written once before measuring; of YCSB's
    /// records only those that are absent or lack fields.
    #[arg(long)]
    no_fill: bool,
    /// A node, as ADDR or REGION=ADDR; several are repeated, or separated by commas. One plain
    /// address is asked for its cluster's nodes, and all of them are used.
    #[arg(
        long = "node",
        value_name = "[REGION=]ADDR",
        value_delimiter = ',',
        env = NODE_ENV,
        default_value = NODE_DEFAULT,
        value_parser = address::parse_with_region
    )]
    nodes: Vec<String>,
}

/// A run, ready to go.
pub(crate) struct Settings {
    pub(crate) workload: Workload,
    /// None: closed loop.
    pub(crate) rate: Option<f64>,
    /// With a rate, and the reference workload's connections divided: what each region's users
    /// ask for, in place of the reference's mix spread evenly.
    pub(crate) mix: Option<BTreeMap<String, Mix>>,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) duration: Duration,
    pub(crate) keyspace: Option<String>,
    pub(crate) keys: u32,
    pub(crate) value_bytes: usize,
    pub(crate) fill: bool,
    /// Shows how far the filling is.
    pub(crate) progress: ProgressBar,
    /// At least one.
    pub(crate) targets: Vec<Target>,
}

impl Settings {
    /// Where connection `n` goes.
    fn target_of(&self, n: usize) -> &Target {
        &self.targets[n % self.targets.len()]
    }
}

impl Args {
    /// What these arguments ask for, once it is known whom they are about.
    fn settings(self, found: Targets, progress: ProgressBar) -> Settings {
        let default_rate = match self.workload {
            Workload::Reference => REFERENCE_RATE,
            _ => 0.0,
        };
        let rate = self.rate.unwrap_or(default_rate);
        let in_cluster = found.is_cluster.then(|| "profiles".to_string());
        let value_bytes = self
            .value_bytes
            .unwrap_or(self.workload.value_bytes_default());
        Settings {
            workload: self.workload,
            rate: (rate > 0.0).then_some(rate),
            mix: None,
            clients: self
                .clients
                .map_or(2 * found.targets.len(), |clients| clients as usize),
            pipeline: self.pipeline as usize,
            duration: self.duration,
            keyspace: self.keyspace.or(in_cluster),
            keys: self.keys.unwrap_or(self.workload.keys_default()),
            value_bytes: value_bytes as usize,
            fill: !self.no_fill,
            progress,
            targets: found.targets,
        }
    }
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
    let (json, by_node) = (args.json, args.by_node);
    // Hidden by indicatif itself where standard error is not a terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} keys written, eta {eta}")
    {
        bar.set_style(style);
    }
    let report = measure(args.settings(found, bar)).await?;
    if json {
        sayln!("{}", serde_json::to_string(&report)?);
    } else {
        say!("{}", report.show(by_node));
    }
    Ok(if report.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Args,
    }

    fn args(words: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from([&["bench"], words].concat()).map(|cli| cli.bench)
    }

    fn settings(words: &[&str], is_cluster: bool) -> Settings {
        let args = args(words).unwrap();
        let targets = targets::named(&args.nodes);
        let found = Targets {
            targets,
            is_cluster,
        };
        args.settings(found, ProgressBar::hidden())
    }

    #[test]
    fn what_is_left_out_fits_the_workload() {
        let reference = settings(&[], true);
        assert_eq!(reference.workload, Workload::Reference);
        assert_eq!(reference.rate, Some(REFERENCE_RATE));
        assert_eq!((reference.keys, reference.value_bytes), (10_000, 300));
        assert_eq!(reference.keyspace.as_deref(), Some("profiles"));

        let ycsb = settings(&["--workload", "ycsb-a"], false);
        assert_eq!(ycsb.workload, Workload::YcsbA);
        assert_eq!((ycsb.rate, ycsb.clients), (None, 2));
        assert_eq!((ycsb.keys, ycsb.value_bytes), (100_000, 100));
        assert_eq!((ycsb.keyspace, ycsb.fill), (None, true));
    }

    #[test]
    fn nodes_are_repeated_or_separated_by_commas() {
        for words in [
            &["--node", "a:1", "--node", "eu=b:2"][..],
            &["--node", "a:1,eu=b:2"],
        ] {
            let settings = settings(words, false);
            let nodes: Vec<_> = settings
                .targets
                .iter()
                .map(|t| (t.region.as_str(), t.addr.as_str()))
                .collect();
            assert_eq!(nodes, [("-", "a:1"), ("eu", "b:2")]);
            assert_eq!(settings.clients, 4);
            assert_eq!(settings.target_of(3).addr, "b:2");
        }
    }

    #[test]
    fn what_is_said_is_kept() {
        let words = "--workload ycsb-b --records 500 --rate 2000 --clients 8 --duration 2.5 \
                     --value-bytes 7 --pipeline 16 --keyspace k --no-fill";
        let said = settings(&words.split_whitespace().collect::<Vec<_>>(), true);
        assert_eq!(said.workload, Workload::YcsbB);
        assert_eq!(
            (said.keys, said.rate, said.clients),
            (500, Some(2_000.0), 8)
        );
        assert_eq!(said.duration, Duration::from_millis(2_500));
        assert_eq!((said.value_bytes, said.pipeline, said.fill), (7, 16, false));
        assert_eq!(said.keyspace.as_deref(), Some("k"));
        assert_eq!(settings(&["--keys", "9"], true).keys, 9);
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["--workload", "ycsb-z"][..],
            &["--records", "0"],
            &["--rate", "-1"],
            &["--clients", "0"],
            &["--duration", "soon"],
        ] {
            assert!(args(words).is_err(), "{words:?}");
        }
    }
}
