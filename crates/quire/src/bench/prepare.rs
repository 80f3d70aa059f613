//! From settings to connections that may begin: opened, and every key written first.
//!
//! In: the settings. Out: the connections in their order, each with its part, and what was
//! written. Keys are dealt out to the connections that write, and all of these fill at once.
//!
//! Records of YCSB are then waited for at every node: a replica may lag, and a read that finds
//! nothing measures nothing. Who asks there is a connection that has written nothing, because
//! the node would send one that has to the primary.

use super::{
    Settings, Target,
    connection::Connection,
    workload::{Generator, Ownership, Part},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long a node may take until it has every record.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE_INTERVAL: Duration = Duration::from_millis(200);

/// What can begin.
pub(super) struct Prepared {
    pub(super) connections: Vec<Connection>,
    /// The part of each of them. Connection n goes to node n modulo the number of nodes.
    pub(super) parts: Vec<Part>,
    /// At least one for each connection that writes.
    pub(super) keys: u32,
    pub(super) filled: u64,
    pub(super) filled_in: Duration,
}

/// Opens and fills. Runs on a `LocalSet`.
pub(super) async fn prepare(settings: &Settings) -> Result<Prepared, String> {
    let parts = parts(settings);
    let writers = parts.iter().filter(|part| part.writes()).count().max(1) as u32;
    let keys = settings.keys.max(writers);
    // Greater than any number of an earlier run, as long as the clock only goes forward: a
    // run doesn't write a million numbers a millisecond.
    let number = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_millis() as u64)
        * 1_000_000;
    let generator = |n: usize, part: Part, writer: Option<u32>| {
        let ownership = Ownership {
            writer,
            writers,
            keys,
        };
        let bytes = settings.value_bytes;
        Generator::new(settings.workload, part, ownership, bytes, number, n as u64)
    };

    let mut opening = JoinSet::new();
    let mut next_writer = 0;
    for (n, part) in parts.iter().enumerate() {
        let writer = part.writes().then(|| {
            next_writer += 1;
            next_writer - 1
        });
        let addr = settings.target_of(n).addr.clone();
        let opened = Connection::open(addr, settings.keyspace.clone(), generator(n, *part, writer));
        opening.spawn_local(async move { opened.await.map(|connection| (n, connection)) });
    }
    let mut connections = all(opening).await?;

    let began = Instant::now();
    let mut filled = 0;
    if settings.fill {
        settings.progress.set_length(u64::from(keys));
        let mut filling = JoinSet::new();
        for (n, mut connection) in connections.drain(..) {
            let bar = settings.progress.clone();
            filling.spawn_local(async move {
                let written = connection.fill(&bar).await?;
                Ok((n, (connection, written)))
            });
        }
        for (n, (connection, written)) in all(filling).await? {
            filled += written;
            connections.push((n, connection));
        }
        settings.progress.finish_and_clear();
    }
    let filled_in = began.elapsed();
    if filled > 0 && settings.workload.is_ycsb() {
        let mut settling = JoinSet::new();
        for (n, Target { addr, .. }) in settings.targets.iter().enumerate() {
            let generator = generator(n, Part::Reader, None);
            let opened = Connection::open(addr.clone(), settings.keyspace.clone(), generator);
            let addr = addr.clone();
            settling.spawn_local(async move {
                let settled = settle(&addr, opened.await?, keys).await;
                settled.map(|()| (n, ()))
            });
        }
        all(settling).await?;
    }
    Ok(Prepared {
        connections: connections.into_iter().map(|(_, c)| c).collect(),
        parts,
        keys,
        filled,
        filled_in,
    })
}

/// What all tasks brought, by their numbers; the first error ends it.
async fn all<T: 'static>(
    mut tasks: JoinSet<Result<(usize, T), String>>,
) -> Result<Vec<(usize, T)>, String> {
    let mut brought = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        brought.push(ended.map_err(|e| e.to_string())??);
    }
    brought.sort_by_key(|(n, _)| *n);
    Ok(brought)
}

/// Waits until the node at `addr` has all of `keys`.
async fn settle(addr: &str, mut connection: Connection, keys: u32) -> Result<(), String> {
    let began = Instant::now();
    let mut lacking: Vec<u32> = (0..keys).collect();
    loop {
        lacking = connection.incomplete(&lacking).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= SETTLE_TIMEOUT {
            return Err(format!(
                "{addr} still lacks {} of {keys} records {SETTLE_TIMEOUT:?} after they were \
                 written; see `quire status`, or measure without waiting with --no-fill",
                lacking.len()
            ));
        }
        sleep(SETTLE_INTERVAL).await;
    }
}

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

/// What the users of a region ask for, a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    pub(crate) updates: f64,
    /// A writer reads each update back, so there are as many as updates at least.
    pub(crate) reads: f64,
}

/// A rate at which nothing falls due.
const NEVER: f64 = 1e-9;

/// The operations a second of connection `n`.
pub(super) fn rate_of(settings: &Settings, rate: f64, parts: &[Part], n: usize) -> f64 {
    let Some(by_region) = &settings.mix else {
        return rate * share(parts, n);
    };
    let region = &settings.target_of(n).region;
    let part = parts[n];
    let alike =
        |other: &usize| parts[*other] == part && settings.target_of(*other).region == *region;
    let alike = (0..parts.len()).filter(alike).count() as f64;
    let rate = by_region.get(region).map_or(0.0, |mix| match part {
        Part::Writer => 2.0 * mix.updates,
        Part::Reader => mix.reads - mix.updates,
        Part::Both => mix.updates + mix.reads,
    });
    (rate / alike).max(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Workload;
    use indicatif::ProgressBar;

    fn settings(workload: Workload, clients: usize, nodes: usize, rate: Option<f64>) -> Settings {
        let target = Target {
            region: "us".into(),
            addr: "127.0.0.1:1".into(),
        };
        Settings {
            workload,
            rate,
            mix: None,
            clients,
            pipeline: 1,
            duration: Duration::from_secs(1),
            keyspace: None,
            keys: 10,
            value_bytes: 10,
            fill: true,
            progress: ProgressBar::hidden(),
            targets: vec![target; nodes],
        }
    }

    #[test]
    fn the_shares_make_the_whole_rate() {
        for workload in [Workload::Reference, Workload::YcsbB] {
            for (clients, nodes) in [(14, 7), (20, 7), (7, 7), (1, 1), (3, 1), (2, 1)] {
                let parts = parts(&settings(workload, clients, nodes, Some(1.0)));
                let whole: f64 = (0..clients).map(|n| share(&parts, n)).sum();
                assert!((whole - 1.0).abs() < 1e-9, "{clients} on {nodes}: {whole}");
            }
        }
    }

    #[test]
    fn regions_may_ask_for_more_and_less() {
        let mut settings = settings(Workload::Reference, 6, 3, Some(1.0));
        settings.targets[2].region = "eu".into();
        let mix = |updates, reads| Mix { updates, reads };
        let by_region = [
            ("us".into(), mix(100.0, 500.0)),
            ("eu".into(), mix(0.0, 30.0)),
        ];
        settings.mix = Some(by_region.into());
        let parts = parts(&settings);
        let rates = (0..6).map(|n| rate_of(&settings, 1.0, &parts, n));
        // Half of what a writer does is updates; the readers do the rest of the reads.
        let golden = [100.0, 100.0, NEVER, 200.0, 200.0, 30.0];
        assert_eq!(rates.collect::<Vec<_>>(), golden);
    }

    #[test]
    fn readers_and_writers_are_divided_where_there_are_connections_enough() {
        let parts =
            |clients, nodes, rate| parts(&settings(Workload::Reference, clients, nodes, rate));
        let at_each_node = parts(14, 7, Some(1.0));
        assert!(at_each_node[..7].iter().all(|p| *p == Part::Writer));
        assert!(at_each_node[7..].iter().all(|p| *p == Part::Reader));
        assert_eq!(parts(1, 1, Some(1.0)), [Part::Both]);
        // A closed loop keeps the mix only if each connection does.
        assert_eq!(parts(2, 1, None), [Part::Both; 2]);
    }

    #[test]
    fn a_client_of_ycsb_does_both() {
        let parts = parts(&settings(Workload::YcsbA, 4, 2, Some(1.0)));
        assert_eq!(parts, [Part::Both; 4]);
    }
}
