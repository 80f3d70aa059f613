//! One node from its configuration file: its data directory, and then [`crate::serve_until`].
//!
//! ```text
//! data_dir/           `data_dir`: which disk this is
//! data_dir/log/       the shared log
//! data_dir/rewound/   what failovers lost, for people to read and to write again
//! data_dir/store/     the store of each shard
//! ```

use crate::{
    Config, ConfigError, Listeners, ServeError, TooFewDescriptors, clock,
    data_dir::{self, DataDirError, LastBoot},
    default_cache_bytes,
    descriptors::Descriptors,
    node_host::NodeHost,
    serve_until,
};
use model::DiskId;
use node::{ClientBounds, Disks, Node, NodeConfig, OpenError, PeerConfig};
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};
use storage::{
    disk::RealDisk,
    log::{Options, SyncPolicy},
    store::{Background, BackgroundOptions, CacheBudget, LsmStores},
};
use tokio::signal::unix::{SignalKind, signal};

/// For the tests of clocks that step alone: a directory in which a file of a node's name says by
/// how many milliseconds that node's wall clock is to look ahead.
const TEST_CLOCKS: &str = "QUIRE_TEST_CLOCKS";

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
    /// What its disk holds.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Serving.
    #[error("{0}")]
    Serve(#[from] ServeError),
}

/// Runs the node that `file` describes until SIGTERM, SIGINT, a fatal error or, if asked for,
/// the end of standard input (so that a parent that dies takes its nodes along). A disk that turns
/// out to be an older copy is set aside, and the node begins anew on an empty one.
pub fn run(file: &Path, stop_on_stdin_eof: bool) -> Result<(), RunError> {
    let mut config = Config::load(file)?;
    config.limits.descriptors = Descriptors::claim(&config.limits)?;
    config.limits.max_clients = config.limits.descriptors.clients;
    let base = file.parent().unwrap_or(Path::new("."));
    let data = base.join(&config.data_dir);
    let mut stdin = stop_on_stdin_eof.then(stdin_ends);
    loop {
        match run_on(&config, &data, &mut stdin) {
            Err(RunError::Serve(ServeError::StaleDisk(reason))) => {
                data_dir::discard(&data, &reason)?;
            }
            ended => return ended,
        }
    }
}

/// Runs it on what its data directory holds now.
fn run_on(config: &Config, data: &Path, stdin: &mut Option<Ended>) -> Result<(), RunError> {
    let listeners = Listeners::bind(config)?;
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { path, source }
    };
    fs::create_dir_all(data).map_err(at(data))?;
    let mut notes = Vec::new();
    if let Some((aside, reason)) = data_dir::set_aside(data, clock::now().wall_ms)? {
        let aside = aside.display();
        let text = format!(
            "{reason}; what it holds is set aside in {aside}, and it is filled anew as an empty disk"
        );
        tracing::error!("{text}");
        notes.push(("stale-disk", text));
    }
    let log_dir = data.join("log");
    // Holds the directory's lock: two processes on one disk would be two primaries.
    let disk = RealDisk::open(&log_dir).map_err(at(&log_dir))?;
    let rewound_dir = data.join("rewound");
    let rewound = RealDisk::open(&rewound_dir).map_err(at(&rewound_dir))?;
    let last = data_dir::last_boot(data, DiskId(random()))?;
    let background = BackgroundOptions {
        block_cache_bytes: config.limits.block_cache_bytes,
        open_files_max: config.limits.descriptors.store,
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
    data_dir::write_boot(data, &boot)?;
    tracing::info!(id = %config.id, region = %config.region, process = boot.process, "the node starts");
    serve_until(config, listeners, NodeHost::new(node), async {
        let told = async {
            match (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            ) {
                (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                },
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "can't listen for signals: stop the node by killing it");
                    std::future::pending().await
                }
            }
        };
        match stdin {
            Some(ended) => tokio::select! {
                () = told => {}
                _ = ended => {}
            },
            None => told.await,
        }
    })?;
    Ok(())
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
        peer_addr: peer.peer_addr,
    });
    let sync = match config.fsync {
        crate::config::Fsync::Always => SyncPolicy::Always,
        crate::config::Fsync::Os => SyncPolicy::Os,
        crate::config::Fsync::EveryMs(ms) => SyncPolicy::EveryMs(ms),
    };
    Ok(NodeConfig {
        id: config.id.clone(),
        region: config.region.clone(),
        zone: config.zone.clone(),
        client_addr: config.client_addr,
        peer_addr: config.peer_addr,
        http_addr: config.http_addr,
        peers: peers.collect(),
        control_voters: config.cluster.control_voters.clone(),
        links: config.links()?,
        clients: ClientBounds {
            clients_max: config.limits.max_clients,
            bulk_bytes_max: config.limits.bulk_bytes_max,
            input_bytes_max: config.limits.input_bytes_max,
        },
        log: Options {
            sync,
            ..Options::default()
        },
        cache: CacheBudget {
            bytes: (config.limits.cache_bytes).unwrap_or_else(|| default_cache_bytes(1)),
        },
        log_retention_bytes: config.limits.log_retention_bytes,
        disk_stall_after: Duration::from_millis(config.limits.disk_stall_ms),
        copy_bytes_per_second: config.limits.copy_bytes_per_second,
        disk: last.disk,
        process: last.process + 1,
        intact_since: last.intact_since,
        log_was: last.log,
        notes,
        pid: std::process::id(),
        seed: random(),
    })
}

fn random() -> u64 {
    // The standard library's only source of randomness: a hasher's keys.
    RandomState::new().hash_one(std::process::id())
}
