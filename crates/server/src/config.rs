//! `node.toml`: how a node is started. What all nodes of a cluster must agree on stands in
//! `[cluster]`; the rest each process chooses for itself.
//!
//! ```toml
//! id = "us-1"
//! region = "us"
//! zone = "us-a"
//! client_addr = "0.0.0.0:7001"     # where it listens; `addresses`
//! peer_addr = "0.0.0.0:7101"
//! http_addr = "127.0.0.1:7201"
//! advertise_client_addr = "us-1.example:7001"   # where it is reached
//! advertise_peer_addr = "us-1.example:7101"
//! protected_mode = true            # clients of other machines are turned away
//! data_dir = "/var/lib/quire"
//! fsync = "always"                 # or "os", or a number of milliseconds
//! log_filter = "info"              # may be left out
//!
//! [cluster]                        # the same on every node
//! name = "social"
//! control_voters = ["us-1"]
//!
//! [[cluster.peers]]                # the nodes it starts with, this one included or not
//! id = "us-1"
//! region = "us"
//! peer_addr = "us-1.example:7101"
//!
//! [limits]                         # all may be left out
//! max_clients = 10000
//!
//! [wan]                            # emulated links; not for production
//! links = "reference"              # or "none", or a file as in `wan::base`
//! ```

use crate::{addresses, descriptors::Descriptors};
use model::{
    Address, NodeId, Region,
    entry::{COMMAND_BYTES_MAX, WRITE_BYTES_MAX},
};
use node::{
    COMMAND_WORK_MAX, COMMAND_WORK_MIN, COPY_BYTES_PER_SECOND_MIN, ClientBounds, NodeLimits,
    REPLY_MEMORY_BYTES_MIN, ScrubConfig,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use storage::store::BackgroundOptions;
use wan::{Base, Links};

/// Below this every disk would count as stalled now and then.
const DISK_STALL_MS_MIN: u64 = 100;
/// Less makes more files than compactions can follow.
const MEMTABLE_BYTES_MIN: u64 = 256 << 10;

/// A scrub reads so much at a time.
const SCRUB_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// A node's configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name.
    pub id: NodeId,
    /// Where it stands.
    pub region: Region,
    /// Where within the region.
    pub zone: String,
    /// Where it listens for clients.
    #[serde(
        default = "addresses::client_default",
        deserialize_with = "addresses::listens"
    )]
    pub client_addr: SocketAddr,
    /// Where it listens for other nodes.
    #[serde(
        default = "addresses::peer_default",
        deserialize_with = "addresses::listens"
    )]
    pub peer_addr: SocketAddr,
    /// Where it listens for people and monitoring: `/health`.
    #[serde(
        default = "addresses::http_default",
        deserialize_with = "addresses::listens"
    )]
    pub http_addr: SocketAddr,
    /// Where clients reach it, if that is not where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_client_addr: Option<Address>,
    /// Where other nodes reach it, if that is not where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_peer_addr: Option<Address>,
    /// Where people and monitoring reach it, if that is not where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_http_addr: Option<Address>,
    /// Whether clients of other machines are turned away.
    #[serde(default = "protected_by_default")]
    pub protected_mode: bool,
    /// What it keeps, in a directory of its own.
    pub data_dir: PathBuf,
    /// When the log is made durable.
    #[serde(default)]
    pub fsync: Fsync,
    /// Which log lines are written, as in `warn,node=debug`. Read again at SIGHUP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_filter: Option<String>,
    /// What all nodes must agree on.
    pub cluster: Cluster,
    /// What the process may use.
    #[serde(default)]
    pub limits: Limits,
    /// Emulated links; none in production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wan: Option<Wan>,
}

fn protected_by_default() -> bool {
    true
}

/// What all nodes of a cluster must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its name; nodes of another cluster are refused.
    pub name: String,
    /// Who holds the catalog.
    pub control_voters: Vec<NodeId>,
    /// The nodes it starts with.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// A node to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name.
    pub id: NodeId,
    /// Where it stands.
    pub region: Region,
    /// Where other nodes reach it.
    pub peer_addr: Address,
}

/// When the log is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FsyncText", into = "FsyncText")]
pub enum Fsync {
    /// Before a write is acknowledged.
    #[default]
    Always,
    /// When the operating system likes: an outage of power loses acknowledged writes.
    Os,
    /// Every so many milliseconds: an outage of power loses that much.
    EveryMs(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FsyncText {
    Word(String),
    Ms(u32),
}

impl TryFrom<FsyncText> for Fsync {
    type Error = String;
    fn try_from(text: FsyncText) -> Result<Self, String> {
        match text {
            FsyncText::Word(word) if word == "always" => Ok(Fsync::Always),
            FsyncText::Word(word) if word == "os" => Ok(Fsync::Os),
            FsyncText::Ms(ms) if ms > 0 => Ok(Fsync::EveryMs(ms)),
            _ => Err("fsync: use \"always\", \"os\" or a number of milliseconds above 0".into()),
        }
    }
}

impl From<Fsync> for FsyncText {
    fn from(fsync: Fsync) -> Self {
        match fsync {
            Fsync::Always => FsyncText::Word("always".into()),
            Fsync::Os => FsyncText::Word("os".into()),
            Fsync::EveryMs(ms) => FsyncText::Ms(ms),
        }
    }
}

/// What the process may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Clients at once.
    pub max_clients: usize,
    /// Memory for keys that were used lately, in bytes, for all shards together; a quarter of the
    /// machine's if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// Memory for blocks of the store's files, in bytes, for all shards together.
    pub block_cache_bytes: u64,
    /// What a shard collects in memory before it goes into files, in bytes.
    pub memtable_bytes: u64,
    /// Replies that a client has not taken; more closes it.
    pub output_bytes_max: usize,
    /// The same of all clients together; where more is needed the client with most is closed.
    pub reply_memory_bytes: usize,
    /// What one command, or one transaction, may cost: about the bytes that it goes over.
    pub command_work_max: u64,
    /// One argument of a command.
    pub bulk_bytes_max: usize,
    /// One command in all.
    pub command_bytes_max: usize,
    /// What is held of what all clients have sent and is not done; more closes who holds most.
    pub input_bytes_max: usize,
    /// What waits to be sent to one peer; more resets the link.
    pub peer_queue_bytes_max: usize,
    /// How the process's file descriptors are shared: no choice, but found at the start.
    #[serde(skip)]
    pub descriptors: Descriptors,
    /// Log that is kept for replicas that lag, in bytes; beyond it they copy the store.
    pub log_retention_bytes: u64,
    /// What copies for other nodes may take together, in bytes a second.
    pub copy_bytes_per_second: u64,
    /// How long, in milliseconds, a write or sync of the log may take before the disk counts as
    /// stalled, and other nodes take over.
    pub disk_stall_ms: u64,
    /// How much a scrub reads of a second, in bytes.
    pub scrub_bytes_per_second: u64,
    /// How long after the end of a scrub the next begins; 0: only when one is asked for.
    pub scrub_every_hours: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_clients: ClientBounds::default().clients_max,
            cache_bytes: None,
            block_cache_bytes: BackgroundOptions::default().block_cache_bytes,
            memtable_bytes: BackgroundOptions::default().memtable_bytes,
            output_bytes_max: 256 << 20,
            reply_memory_bytes: 512 << 20,
            command_work_max: COMMAND_WORK_MAX,
            bulk_bytes_max: WRITE_BYTES_MAX,
            command_bytes_max: COMMAND_BYTES_MAX,
            input_bytes_max: NodeLimits::default().input_bytes_max,
            peer_queue_bytes_max: 256 << 20,
            descriptors: Descriptors::default(),
            log_retention_bytes: 1 << 30,
            copy_bytes_per_second: 64 << 20,
            disk_stall_ms: 3000,
            scrub_bytes_per_second: 8 << 20,
            scrub_every_hours: 7 * 24,
        }
    }
}

impl Limits {
    /// Those that a running node takes over from a configuration that it has read again.
    pub(crate) fn reloaded(&self, again: &Limits) -> Limits {
        Limits {
            output_bytes_max: again.output_bytes_max,
            reply_memory_bytes: again.reply_memory_bytes,
            command_work_max: again.command_work_max,
            input_bytes_max: again.input_bytes_max,
            peer_queue_bytes_max: again.peer_queue_bytes_max,
            copy_bytes_per_second: again.copy_bytes_per_second,
            disk_stall_ms: again.disk_stall_ms,
            scrub_bytes_per_second: again.scrub_bytes_per_second,
            scrub_every_hours: again.scrub_every_hours,
            ..self.clone()
        }
    }

    pub(crate) fn of_node(&self) -> NodeLimits {
        let hours = u64::from(self.scrub_every_hours);
        NodeLimits {
            input_bytes_max: self.input_bytes_max,
            reply_memory_bytes: self.reply_memory_bytes,
            command_work_max: self.command_work_max,
            copy_bytes_per_second: self.copy_bytes_per_second,
            disk_stall_after: Duration::from_millis(self.disk_stall_ms),
            scrub: ScrubConfig {
                every: (hours > 0).then(|| Duration::from_secs(3600 * hours)),
                bytes_per_second: self.scrub_bytes_per_second,
            },
        }
    }

    pub(crate) fn resp(&self) -> resp::Limits {
        resp::Limits {
            bulk_len_max: self.bulk_bytes_max,
            frame_len_max: self.command_bytes_max,
            ..resp::Limits::default()
        }
    }
}

/// Emulated links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    /// `reference`, `none`, or the path of a file of latencies.
    pub links: String,
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("{file}: {source}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It isn't TOML, or a field is missing, unknown or of the wrong kind.
    #[error("{file}: {what}")]
    Format {
        /// Which file.
        file: PathBuf,
        /// What and where.
        what: String,
    },
    /// A field has a value that can't be used.
    #[error("{file}: {field}: {what}")]
    Field {
        /// Which file.
        file: PathBuf,
        /// Which field, as in `cluster.peers`.
        field: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl Config {
    /// Reads and checks `file`.
    ///
    /// # Errors
    /// Each names the file and the field.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read(file)?;
        let config: Config = toml::from_str(&text).map_err(|e| ConfigError::Format {
            file: file.to_owned(),
            what: e.to_string(),
        })?;
        config.check(file)?;
        Ok(config)
    }

    /// The emulated links that it asks for. A path is taken from where the process runs.
    pub fn links(&self) -> Result<Links, ConfigError> {
        let Some(wan) = &self.wan else {
            return Ok(Links::absent());
        };
        let base = match wan.links.as_str() {
            "reference" => Base::reference(),
            "none" => Base::none(),
            path => {
                let file = Path::new(path);
                Base::from_toml(&read(file)?).map_err(|e| ConfigError::Format {
                    file: file.to_owned(),
                    what: e.to_string(),
                })?
            }
        };
        Ok(Links::new(base))
    }

    fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let wrong = |field, what: String| {
            Err(ConfigError::Field {
                file: file.to_owned(),
                field,
                what,
            })
        };
        let name = &self.cluster.name;
        if NodeId::new(name).is_err() {
            return wrong(
                "cluster.name",
                format!("'{name}' is not valid: use 1 to 64 of a-z, 0-9, '-' and '_'"),
            );
        }
        if self.zone.is_empty() || self.zone.len() > 64 || self.zone.contains(char::is_control) {
            return wrong("zone", "use 1 to 64 characters".into());
        }
        if let Err((field, what)) = self.check_addresses() {
            return wrong(field, what);
        }
        let mut known = BTreeSet::from([&self.id]);
        let mut listed = BTreeSet::new();
        for peer in &self.cluster.peers {
            known.insert(&peer.id);
            if !listed.insert(&peer.id) {
                return wrong("cluster.peers", format!("'{}' stands there twice", peer.id));
            }
            if peer.id != self.id {
                continue;
            }
            if peer.region != self.region {
                return wrong(
                    "cluster.peers",
                    format!(
                        "'{}' is this node, with another region: {}",
                        peer.id, peer.region
                    ),
                );
            }
            let reached = self.advertised_peer_addr();
            if peer.peer_addr != reached {
                return wrong(
                    "cluster.peers",
                    format!(
                        "'{}' is this node, reached at {} there and at {reached} as it would tell others: if the former is right, add advertise_peer_addr = \"{}\"",
                        peer.id, peer.peer_addr, peer.peer_addr
                    ),
                );
            }
        }
        let voters: BTreeSet<_> = self.cluster.control_voters.iter().collect();
        if voters.is_empty() || voters.len() != self.cluster.control_voters.len() {
            return wrong(
                "cluster.control_voters",
                "name each voter once, at least one".into(),
            );
        }
        if let Some(stranger) = voters.difference(&known).next() {
            return wrong(
                "cluster.control_voters",
                format!(
                    "'{stranger}' is not among cluster.peers: add a [[cluster.peers]] with its id, \
                     region and peer_addr"
                ),
            );
        }
        for (field, value) in [
            ("limits.max_clients", self.limits.max_clients),
            ("limits.output_bytes_max", self.limits.output_bytes_max),
            ("limits.bulk_bytes_max", self.limits.bulk_bytes_max),
            ("limits.command_bytes_max", self.limits.command_bytes_max),
            (
                "limits.peer_queue_bytes_max",
                self.limits.peer_queue_bytes_max,
            ),
        ] {
            if value == 0 {
                return wrong(field, "use a number above 0".into());
            }
        }
        // A command above these could never be done.
        for (field, value, most) in [
            (
                "limits.bulk_bytes_max",
                self.limits.bulk_bytes_max,
                WRITE_BYTES_MAX,
            ),
            (
                "limits.command_bytes_max",
                self.limits.command_bytes_max,
                COMMAND_BYTES_MAX,
            ),
        ] {
            if value > most {
                return wrong(field, format!("use at most {most}"));
            }
        }
        for (field, value, least) in [
            (
                "limits.memtable_bytes",
                self.limits.memtable_bytes,
                MEMTABLE_BYTES_MIN,
            ),
            (
                "limits.scrub_bytes_per_second",
                self.limits.scrub_bytes_per_second,
                SCRUB_BYTES_PER_SECOND_MIN,
            ),
            (
                "limits.command_work_max",
                self.limits.command_work_max,
                COMMAND_WORK_MIN,
            ),
            (
                "limits.reply_memory_bytes",
                self.limits.reply_memory_bytes as u64,
                REPLY_MEMORY_BYTES_MIN as u64,
            ),
        ] {
            if value < least {
                return wrong(field, format!("use {least} or more"));
            }
        }
        // A buffer that grows has room for twice what is in it.
        let least = 2 * self.limits.command_bytes_max;
        if self.limits.input_bytes_max < least {
            return wrong(
                "limits.input_bytes_max",
                format!("use {least} or more: twice limits.command_bytes_max"),
            );
        }
        if self.limits.copy_bytes_per_second < COPY_BYTES_PER_SECOND_MIN {
            return wrong(
                "limits.copy_bytes_per_second",
                format!("use {COPY_BYTES_PER_SECOND_MIN} or more"),
            );
        }
        if self.limits.disk_stall_ms < DISK_STALL_MS_MIN {
            return wrong(
                "limits.disk_stall_ms",
                format!("use {DISK_STALL_MS_MIN} or more"),
            );
        }
        self.links().map(drop)
    }
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
        file: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
id = "us-1"
region = "us"
zone = "us-a"
client_addr = "127.0.0.1:7001"
peer_addr = "127.0.0.1:7101"
http_addr = "127.0.0.1:7201"
data_dir = "/tmp/x"
fsync = 10
[cluster]
name = "demo"
control_voters = ["us-1"]
[[cluster.peers]]
id = "eu-1"
region = "eu"
peer_addr = "127.0.0.1:7102"
[limits]
max_clients = 5
[wan]
links = "reference"
"#;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).map_err(|e| e.to_string())
    }

    #[test]
    fn a_good_file_is_read_and_written_back() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.fsync, Fsync::EveryMs(10));
        assert_eq!(config.limits.max_clients, 5);
        assert!(!config.links().unwrap().is_absent());
        assert_eq!(load(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        for (from, to, named) in [
            ("zone = \"us-a\"", "zone = \"\"", "zone"),
            ("fsync = 10", "fsync = 0", "fsync"),
            ("fsync = 10", "fsynk = 10", "fsynk"),
            ("region = \"us\"", "region = \"US\"", "region"),
            (
                "voters = [\"us-1\"]",
                "voters = [\"us-9\"]",
                "cluster.control_voters",
            ),
            (
                "voters = [\"us-1\"]",
                "voters = []",
                "cluster.control_voters",
            ),
            ("id = \"eu-1\"", "id = \"us-1\"", "cluster.peers"),
            ("name = \"demo\"", "name = \"\"", "cluster.name"),
            ("max_clients = 5", "max_clients = 0", "limits.max_clients"),
            ("max_clients = 5", "max_client = 5", "max_client"),
            (
                "max_clients = 5",
                "bulk_bytes_max = 536870912",
                "limits.bulk_bytes_max",
            ),
            (
                "max_clients = 5",
                "input_bytes_max = 1000000",
                "limits.input_bytes_max",
            ),
            (
                "max_clients = 5",
                "copy_bytes_per_second = 9",
                "limits.copy_bytes_per_second",
            ),
            (
                "max_clients = 5",
                "disk_stall_ms = 99",
                "limits.disk_stall_ms",
            ),
            ("\"reference\"", "\"/no/such/file\"", "/no/such/file"),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
            assert!(error.contains(".toml") || named.starts_with('/'), "{error}");
        }
    }
}
