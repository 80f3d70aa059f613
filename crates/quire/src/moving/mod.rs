//! What `quire import` and `quire export` share: the running server that is read (`live`), the
//! cluster that is written to (`target`), and what is said meanwhile.
//!
//! ```text
//! import   a file, or live ─▶ import_command ─▶ target ─▶ Quire
//! export            live (of Quire) ─▶ export_command ─▶ a file, or standard output
//! ```
//! What is decided is decided in the crate `transfer`; here are sockets, files and clocks.

pub(crate) mod live;
pub(crate) mod target;

use crate::{
    client::{Client, ClientError, text_of},
    cluster_status::ClusterStatus,
};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use transfer::Report;

/// How long a reply may take: a node that has too much to do lets writes wait for 10 s.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Shards that a keyspace has at most.
const SHARDS_MAX: usize = 1_024;
/// Names that are drawn for each shard, so that each of 1,024 gets one but once in 8,000 times.
const NAMES_A_SHARD: usize = 16;
/// How often it is said how far things are where nobody watches a terminal.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// And where somebody does.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// By this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// A keyspace of a cluster.
#[derive(Clone)]
pub(crate) struct Keyspace {
    /// By name or number; None for the one that a connection starts with.
    name: Option<String>,
    shards: usize,
    /// The client addresses of the cluster's nodes, that which was named first.
    pub(crate) addrs: Vec<String>,
}

impl Keyspace {
    /// What the node at `named` says of it.
    pub(crate) async fn find(named: &str, name: Option<&str>) -> Result<Self, ClientError> {
        let mut client = Client::connect(named).await?;
        let json = text_of(client.call(&["QUIRE", "STATUS"]).await?)?;
        let mut keyspace = Keyspace {
            name: name.map(str::to_owned),
            shards: SHARDS_MAX,
            addrs: vec![named.to_owned()],
        };
        // A status that can't be read names nobody else.
        if let Ok(status) = ClusterStatus::parse(&json) {
            let others = status.nodes.into_iter().map(|node| node.client_addr);
            keyspace.addrs.extend(others.filter(|addr| addr != named));
            let name = name.unwrap_or("0");
            let mut all = status.keyspaces.iter();
            if let Some(found) = all.find(|k| k.name == name || k.id.to_string() == name) {
                keyspace.shards = found.shards.len();
            }
        }
        Ok(keyspace)
    }

    /// A connection to the node at `addr` which sees all that is acknowledged by now.
    ///
    /// A node answers reads from its own copy, however old that is, unless the connection has
    /// seen more. So it deletes names that nobody has, in every shard: a write that finds nothing
    /// to do changes nothing, and is answered by the primary as of now.
    pub(crate) async fn connect(&self, addr: &str, wait: Duration) -> Result<Client, ClientError> {
        let mut client = Client::connect_within(addr, wait).await?;
        client.set_reply_timeout(REPLY_TIMEOUT);
        if let Some(name) = &self.name {
            client.call(&["SELECT", name]).await?;
        }
        let (now, process) = (now_ms(), std::process::id());
        let nothing =
            (0..self.shards * NAMES_A_SHARD).map(|n| format!("quire:nothing:{now}:{process}:{n}"));
        let request: Vec<String> = [String::from("DEL")].into_iter().chain(nothing).collect();
        client.call(&request).await?;
        Ok(client)
    }
}

/// Whether Ctrl-C was pressed; the second time the process ends at once.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn listen() -> Self {
        let interrupt = Interrupt(Arc::default());
        let flag = interrupt.0.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
        interrupt
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says on standard error how far things are.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_watched: bool,
    began: Instant,
    next: Instant,
}

impl Progress {
    /// Of `total` bytes, where that is known.
    pub(crate) fn new(total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{bar:30} {bytes}/{total_bytes} {msg} eta {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Progress {
            bar,
            is_watched: stderr().is_terminal(),
            began: now,
            next: now + SHOWN_EVERY,
        }
    }

    /// Called for each key. `read` bytes of the source were read.
    pub(crate) fn at(&mut self, report: &Report, read: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let seconds = (now - self.began).as_secs_f64();
        let keys = report.keys();
        let said = format!(
            "{} keys, {}, {}/s",
            HumanCount(keys),
            HumanBytes(report.bytes),
            HumanCount((keys as f64 / seconds) as u64),
        );
        if self.is_watched {
            self.next = now + SHOWN_EVERY;
            self.bar.set_position(read);
            self.bar.set_message(said);
            return;
        }
        self.next = now + SAID_EVERY;
        if seconds >= SAID_EVERY.as_secs_f64() {
            match self.bar.length() {
                Some(total) => eprintln!("{said}, {} of {}", HumanBytes(read), HumanBytes(total)),
                None => eprintln!("{said}"),
            }
        }
    }

    /// How long it took.
    pub(crate) fn end(self) -> f64 {
        self.bar.finish_and_clear();
        self.began.elapsed().as_secs_f64()
    }
}
