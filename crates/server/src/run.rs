//! One node from its configuration file: its data directory, and then [`crate::serve_until`].
//!
//! ```text
//! data_dir/identity   disk <hex>, process <number>: which disk this is, and how often a node
//!                     was started on it
//! data_dir/log/       the shared log
//! data_dir/rewound/   what failovers lost, for people to read and to write again
//! data_dir/store/     the store of each shard
//! ```

use crate::{
    Config, ConfigError, Listeners, ServeError, clock, default_cache_bytes, node_host::NodeHost,
    serve_until,
};
use model::DiskId;
use node::{Disks, Node, NodeConfig, OpenError, PeerConfig};
use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use storage::{
    disk::RealDisk,
    log::{Options, SyncPolicy},
    store::{Background, BackgroundOptions, CacheBudget, LsmStores},
};
use tokio::signal::unix::{SignalKind, signal};

/// Why a node did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Its data directory.
    #[error("{path}: {source}")]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The identity file is not one.
    #[error(
        "{0}: not an identity file; restore it, or empty the data directory to start as a new disk"
    )]
    Identity(PathBuf),
    /// What its disk holds.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Serving.
    #[error("{0}")]
    Serve(#[from] ServeError),
}

/// Runs the node that `file` describes until SIGTERM, SIGINT, a fatal error or, if asked for,
/// the end of standard input (so that a parent that dies takes its nodes along).
pub fn run(file: &Path, stop_on_stdin_eof: bool) -> Result<(), RunError> {
    let config = Config::load(file)?;
    let listeners = Listeners::bind(&config)?;
    let base = file.parent().unwrap_or(Path::new("."));
    let data = base.join(&config.data_dir);
    let at = |path: &Path| {
        let path = path.to_owned();
        |source| RunError::Data { path, source }
    };
    let log_dir = data.join("log");
    fs::create_dir_all(&log_dir).map_err(at(&log_dir))?;
    // Holds the directory's lock: two processes on one disk would be two primaries.
    let disk = RealDisk::open(&log_dir).map_err(at(&log_dir))?;
    let rewound_dir = data.join("rewound");
    let rewound = RealDisk::open(&rewound_dir).map_err(at(&rewound_dir))?;
    let (disk_id, process) = identity(&data)?;
    let background = BackgroundOptions {
        block_cache_bytes: config.limits.block_cache_bytes,
        ..BackgroundOptions::default()
    };
    let background = Background::start(background).map_err(at(&data))?;
    let stores = LsmStores::new(data.join("store"), background);
    let node = Node::open(
        node_config(&config, disk_id, process)?,
        Disks {
            log: Arc::new(disk),
            rewound: Arc::new(rewound),
        },
        stores,
        clock::now(),
    )?;
    tracing::info!(id = %config.id, region = %config.region, process, "the node starts");
    let stdin = stop_on_stdin_eof.then(stdin_ends);
    serve_until(&config, listeners, NodeHost::new(node), async {
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

/// Resolves when standard input ends.
fn stdin_ends() -> tokio::sync::oneshot::Receiver<()> {
    let (tell, ended) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let mut byte = [0];
        // Whatever is read means nothing; an error is an end too.
        while matches!(io::stdin().read(&mut byte), Ok(n) if n > 0) {}
        let _ = tell.send(());
    });
    ended
}

fn node_config(config: &Config, disk: DiskId, process: u64) -> Result<NodeConfig, ConfigError> {
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
        log: Options {
            sync,
            ..Options::default()
        },
        cache: CacheBudget {
            bytes: (config.limits.cache_bytes).unwrap_or_else(|| default_cache_bytes(1)),
        },
        log_retention_bytes: config.limits.log_retention_bytes,
        copy_bytes_per_second: config.limits.copy_bytes_per_second,
        disk,
        process,
        pid: std::process::id(),
        seed: random(),
    })
}

fn random() -> u64 {
    // The standard library's only source of randomness: a hasher's keys.
    RandomState::new().hash_one(std::process::id())
}

/// Which disk this is, and which process on it. Made when the directory is new; the process's
/// number is on the disk before it is used.
fn identity(data: &Path) -> Result<(DiskId, u64), RunError> {
    let path = data.join("identity");
    let failed = |source| RunError::Data {
        path: path.clone(),
        source,
    };
    let (disk, before) = match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| RunError::Identity(path.clone()))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => (DiskId(random()), 0),
        Err(e) => return Err(failed(e)),
    };
    let process = before + 1;
    let fresh = data.join("identity.new");
    let write = || {
        let mut file = File::create(&fresh)?;
        writeln!(file, "disk {:016x}\nprocess {process}", disk.0)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(data)?.sync_all()
    };
    write().map_err(failed)?;
    Ok((disk, process))
}

fn parse(text: &str) -> Option<(DiskId, u64)> {
    let mut lines = text.lines();
    let disk = lines.next()?.strip_prefix("disk ")?;
    let process = lines.next()?.strip_prefix("process ")?;
    Some((
        DiskId(u64::from_str_radix(disk, 16).ok()?),
        process.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_another_process_on_the_same_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, first) = identity(dir.path()).unwrap();
        let (again, second) = identity(dir.path()).unwrap();
        assert_eq!((disk, first, second), (again, 1, 2));
        fs::write(dir.path().join("identity"), "nonsense").unwrap();
        assert!(matches!(identity(dir.path()), Err(RunError::Identity(_))));
    }
}
