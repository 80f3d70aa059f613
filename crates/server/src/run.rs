//! One node from its configuration file: its data directory, and then [`crate::serve_until`].
//!
//! ```text
//! data_dir/           `data_dir`: which disk this is, and disks that were set aside
//! data_dir/log/       the shared log
//! data_dir/rewound/   what failovers lost, for people to read and to write again
//! data_dir/store/     the store of each shard, and store.held, which there must be
//! ```

use crate::{
    Config, ConfigError, Listeners, ServeError, TooFewDescriptors, clock, damaged,
    data_dir::{self, DataDirError, LastBoot},
    default_cache_bytes,
    descriptors::Descriptors,
    node_host::NodeHost,
    process::who_uses,
    reload::{Logs, Reload, set_filter},
    serve_until, signals,
};
use model::{Address, DiskId, Release};
use node::{ClientBounds, Disks, Node, NodeConfig, OpenError, PeerConfig};
use std::{
    fmt, fs,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
};
use storage::{
    disk::RealDisk,
    log::{LogError, Options, SyncPolicy},
    store::{Background, BackgroundOptions, CacheBudget, LsmStores},
};
use tokio::sync::watch;

/// For the tests of clocks that step alone: a directory in which a file of a node's name says by
/// how many milliseconds that node's wall clock is to look ahead.
const TEST_CLOCKS: &str = "QUIRE_TEST_CLOCKS";

/// For the tests of upgrades alone: `next` has the node pretend to be the next release, which ruins
/// a cluster for that (docs/adr/0017-versions).
const TEST_RELEASE: &str = "QUIRE_TEST_RELEASE";

/// Why a node did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The process's limits.
    #[error("{0}")]
    Descriptors(#[from] TooFewDescriptors),
    /// Its data directory.
    #[error("{0}")]
    Data(#[from] DataDirError),
    /// The data directory is damaged, and must be left to a person.
    #[error(
        "{damage}. The data directory {data} is not set aside by itself, since {why}. Put it back from a copy of it as it was, or, if nothing in it is needed any more, move it away: the node then starts as a new, empty disk"
    )]
    Damaged {
        /// What is damaged.
        damage: Box<RunError>,
        /// The directory.
        data: String,
        /// Why it is left.
        why: String,
    },
    /// What its disk holds.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Serving.
    #[error("{0}")]
    Serve(#[from] ServeError),
}

/// Runs the node that `file` describes until SIGTERM, SIGINT, a fatal error or, if asked for,
/// the end of standard input (so that a parent that dies takes its nodes along). A disk that turns
/// out to be an older copy, or damaged, is set aside, and the node begins anew on an empty one.
/// SIGHUP has the configuration read again (`reload`).
pub fn run(file: &Path, stop_on_stdin_eof: bool, logs: &dyn Logs) -> Result<(), RunError> {
    signals::take_hangups().map_err(ServeError::Start)?;
    let mut config = Config::load(file)?;
    let log_filter = set_filter(file, &config, logs)?;
    let reload = Reload {
        file: file.to_owned(),
        started: config.clone(),
        logs,
    };
    let base = file.parent().unwrap_or(Path::new("."));
    let data = base.join(&config.data_dir);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %config.id,
        region = %config.region,
        zone = config.zone,
        cluster = config.cluster.name,
        clients = %Listens(config.client_addr, config.advertised_client_addr()),
        peers = %Listens(config.peer_addr, config.advertised_peer_addr()),
        http = %Listens(config.http_addr, config.advertised_http_addr()),
        data_dir = %data.display(),
        config = %file.display(),
        log_filter,
        pid = std::process::id(),
        "Quire starts"
    );
    for caution in config.cautions() {
        tracing::warn!("{caution}");
    }
    config.limits.descriptors = Descriptors::claim(&config.limits)?;
    config.limits.max_clients = config.limits.descriptors.clients;
    let mut stdin = stop_on_stdin_eof.then(stdin_ends);
    loop {
        match run_on(&config, &data, &mut stdin, &reload) {
            Err(RunError::Serve(ServeError::StaleDisk(reason))) => {
                data_dir::discard(&data, &reason)?;
            }
            Err(error) if error.is_damage() => {
                if let Some(why) = damaged::refusal(&config, &data)? {
                    return Err(RunError::Damaged {
                        damage: Box::new(error),
                        data: data.display().to_string(),
                        why,
                    });
                }
                data_dir::discard(&data, &error.to_string())?;
            }
            ended => return ended,
        }
    }
}

/// Runs it on what its data directory holds now.
fn run_on(
    config: &Config,
    data: &Path,
    stdin: &mut Option<Ended>,
    reload: &Reload<'_>,
) -> Result<(), RunError> {
    let listeners = Listeners::bind(config)?;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { path, source }
    };
    fs::create_dir_all(data).map_err(at(data))?;
    let mut notes = Vec::new();
    if let Some((set_aside, reason)) = data_dir::set_aside(data, clock::now().wall_ms)? {
        let aside = set_aside.display();
        let text = format!(
            "{reason}; what it holds is set aside in {aside}, and it is filled anew as an empty disk"
        );
        tracing::error!("{text}");
        notes.push(("set-aside", text));
    }
    let log_dir = data.join("log");
    // Holds the directory's lock: two processes on one disk would be two primaries.
    let disk = RealDisk::open(&log_dir).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => DataDirError::InUse {
            data: data.to_owned(),
            process: who_uses(data),
        },
        _ => at(&log_dir)(source),
    })?;
    let rewound_dir = data.join("rewound");
    let rewound = RealDisk::open(&rewound_dir).map_err(at(&rewound_dir))?;
    let last = data_dir::last_boot(data, DiskId(random()))?;
    let background = BackgroundOptions {
        block_cache_bytes: config.limits.block_cache_bytes,
        open_files_max: config.limits.descriptors.store,
        memtable_bytes: config.limits.memtable_bytes,
        ..BackgroundOptions::default()
    };
    let background = Background::start(background).map_err(at(data))?;
    let stores = LsmStores::new(data.join("store"), background);
    if let Some(dir) = std::env::var_os(TEST_CLOCKS) {
        let file = Path::new(&dir).join(config.id.as_str());
        clock::follow_test_file(&file).map_err(at(&file))?;
    }
    let node = Node::open(
        node_config(config, last, notes)?,
        Disks {
            log: Arc::new(disk),
            rewound: Arc::new(rewound),
        },
        stores,
        clock::now(),
    )?;
    // The process's number is on the disk before it is used.
    let boot = node.boot();
    data_dir::write_boot(data, &boot, last.emptied)?;
    let kept = data_dir::kept(data)?.len() + damaged::stores_kept(data);
    if kept > 0 {
        tracing::warn!(kept, data = %data.display(), "what was set aside here is kept: remove set-aside-* and store/*.damaged-* once every shard is whole");
    }
    tracing::info!(node = %config.id, process = boot.process, disk = %format_args!("{:016x}", boot.disk.0), "the node is open, and serves");
    let (reloaded, reloads) = watch::channel(config.limits.clone());
    let stop = async {
        let told = signals::told_to_stop(|| {
            if let Some(limits) = reload.run() {
                reloaded.send_replace(limits);
            }
        });
        match stdin {
            Some(ended) => tokio::select! {
                () = told => {}
                _ = ended => {}
            },
            None => told.await,
        }
    };
    serve_until(config, listeners, NodeHost::new(node), stop, reloads)?;
    Ok(())
}

impl RunError {
    /// Whether nothing of the data directory can be trusted: a record of any shard, or of the
    /// control group, may be gone from it.
    fn is_damage(&self) -> bool {
        match self {
            RunError::Data(DataDirError::Identity(_))
            | RunError::Open(OpenError::LogEndGone { .. }) => true,
            RunError::Open(OpenError::Log(error)) => matches!(error, LogError::Corrupt { .. }),
            _ => false,
        }
    }
}

/// A port as the first log line has it.
struct Listens(SocketAddr, Address);

impl fmt::Display for Listens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listens(listens, advertised) = self;
        match advertised.socket() == Some(*listens) {
            true => write!(f, "{listens}"),
            false => write!(f, "{advertised} on {listens}"),
        }
    }
}

/// Ready once standard input has ended.
type Ended = tokio::sync::oneshot::Receiver<()>;

/// Resolves when standard input ends.
fn stdin_ends() -> Ended {
    let (tell, ended) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let mut byte = [0];
        // Whatever is read means nothing; an error is an end too.
        while matches!(io::stdin().read(&mut byte), Ok(n) if n > 0) {}
        let _ = tell.send(());
    });
    ended
}

fn node_config(
    config: &Config,
    last: LastBoot,
    notes: Vec<(&'static str, String)>,
) -> Result<NodeConfig, ConfigError> {
    let peers = config.cluster.peers.iter().map(|peer| PeerConfig {
        id: peer.id.clone(),
        region: peer.region.clone(),
        peer_addr: peer.peer_addr.clone(),
    });
    let sync = match config.fsync {
        crate::config::Fsync::Always => SyncPolicy::Always,
        crate::config::Fsync::Os => SyncPolicy::Os,
        crate::config::Fsync::EveryMs(ms) => SyncPolicy::EveryMs(ms),
    };
    Ok(NodeConfig {
        id: config.id.clone(),
        release: release(),
        region: config.region.clone(),
        zone: config.zone.clone(),
        listens: config.client_addr,
        client_addr: config.advertised_client_addr(),
        peer_addr: config.advertised_peer_addr(),
        http_addr: config.advertised_http_addr(),
        protected_mode: config.protected_mode,
        peers: peers.collect(),
        control_voters: config.cluster.control_voters.clone(),
        links: config.links()?,
        clients: ClientBounds {
            clients_max: config.limits.max_clients,
            bulk_bytes_max: config.limits.bulk_bytes_max,
        },
        log: Options {
            sync,
            ..Options::default()
        },
        cache: CacheBudget {
            bytes: (config.limits.cache_bytes).unwrap_or_else(|| default_cache_bytes(1)),
        },
        log_retention_bytes: config.limits.log_retention_bytes,
        limits: config.limits.of_node(),
        emptied: last.emptied,
        disk: last.disk,
        process: last.process + 1,
        intact_since: last.intact_since,
        log_was: last.log,
        usage: crate::usage::usage,
        traffic: crate::traffic::counted,
        notes,
        pid: std::process::id(),
        seed: random(),
    })
}

/// The release that the node is, or pretends to be.
fn release() -> Release {
    match std::env::var_os(TEST_RELEASE) {
        Some(which) if which == "next" => {
            tracing::error!(
                "{TEST_RELEASE} is set: this node pretends to be the next release, for tests alone"
            );
            Release::NEXT
        }
        _ => Release::THIS,
    }
}

fn random() -> u64 {
    // The standard library's only source of randomness: a hasher's keys.
    RandomState::new().hash_one(std::process::id())
}
