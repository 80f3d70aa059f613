//! How a node begins: what it must know, and what it reads back from its log and its stores.

use super::{CarryingOut, Node};
use crate::{
    admin,
    info::Usage,
    leaders::Leaders,
    limits::{ClientBounds, NodeLimits},
    save::Saves,
    verify::Verifications,
};
use cluster::{Cluster, PeerConfig, Replay};
use gate::{Gate, Traffic};
use model::{
    Address, Boot, Catalog, DiskId, NodeId, Now, Region, Release,
    planted::{self, Bug},
};
use shards::{Found, NotFound, Shards};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use storage::{
    disk::Disk,
    log::{self, LogError, Options},
    store::{CacheBudget, StoreError, Stores},
};
use wan::Links;

/// What a node must know from the start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub id: NodeId,
    /// What it can work with: [`Release::THIS`], or, in tests of upgrades, [`Release::NEXT`].
    pub release: Release,
    /// Where it stands.
    pub region: Region,
    /// Where within the region.
    pub zone: String,
    /// Where it listens for clients.
    pub listens: SocketAddr,
    /// Where clients reach it, as it tells others: not always where it listens.
    pub client_addr: Address,
    /// Where other nodes reach it.
    pub peer_addr: Address,
    /// Where people and monitoring reach it.
    pub http_addr: Address,
    /// Clients of other machines are turned away (`protected`).
    pub protected_mode: bool,
    /// Nodes to begin with; the catalog names the rest.
    pub peers: Vec<PeerConfig>,
    /// The voters of the control group: the same list on every node, for good.
    pub control_voters: Vec<NodeId>,
    /// Emulated links, if any.
    pub links: Links,
    /// What clients may take.
    pub clients: ClientBounds,
    /// The shared log.
    pub log: Options,
    /// The caches in front of the shards' stores: so much for all of them.
    pub cache: CacheBudget,
    /// Log that is kept for replicas that lag, in bytes; beyond it they copy the store.
    pub log_retention_bytes: u64,
    /// What may change while the node runs.
    pub limits: NodeLimits,
    /// The disk took the place of one that was set aside: what that held is known elsewhere, or
    /// nowhere, and was not nothing.
    pub emptied: bool,
    /// The disk that the data directory lies on.
    pub disk: DiskId,
    /// This process: greater than any before it on this disk.
    pub process: u64,
    /// The first process of this disk from which on each left its log closed, as it was after
    /// the last start.
    pub intact_since: u64,
    /// Bytes of the log that were durable after the last start: it can't have fewer now.
    pub log_was: u64,
    /// What the process takes; None where that is not known.
    pub usage: fn() -> Option<Usage>,
    /// What went over its clients' connections.
    pub traffic: fn() -> Traffic,
    /// What is to be written down for operators once the node is registered: what kind of event,
    /// and what.
    pub notes: Vec<(&'static str, String)>,
    /// The process as the operating system numbers it, for people.
    pub pid: u32,
    /// Where everything that looks random comes from; another one for each start.
    pub seed: u64,
}

impl NodeConfig {
    /// Where this process begins to number what it asks of others, so that an answer to what
    /// an earlier one asked is not taken for an answer to this.
    pub(crate) fn first_number(&self) -> u64 {
        self.seed ^ self.process.rotate_left(40)
    }

    fn of_gate(&self) -> gate::Config {
        gate::Config {
            id: self.id.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            client_addr: self.client_addr.clone(),
            protected_mode: self.protected_mode,
            first_number: self.first_number(),
            limits: self.limits.of_gate(),
            usage: admin::usage,
        }
    }

    fn of_shards(&self, boot: Boot) -> shards::Config {
        shards::Config {
            id: self.id.clone(),
            region: self.region.clone(),
            boot,
            first_number: self.first_number(),
            log: self.log,
            log_retention_bytes: self.log_retention_bytes,
            cache: self.cache,
            limits: self.limits.of_shards(),
        }
    }

    fn of_cluster(&self) -> cluster::Config {
        cluster::Config {
            id: self.id.clone(),
            release: self.release,
            region: self.region.clone(),
            zone: self.zone.clone(),
            client_addr: self.client_addr.clone(),
            peer_addr: self.peer_addr.clone(),
            http_addr: self.http_addr.clone(),
            peers: self.peers.clone(),
            control_voters: self.control_voters.clone(),
            emptied: self.emptied,
            disk: self.disk,
            process: self.process,
            first_number: self.first_number(),
            pid: self.pid,
            version: env!("CARGO_PKG_VERSION"),
            // More than half a segment would keep a whole one from being given up.
            control_log_bytes: self.log.segment_bytes / 2,
        }
    }
}

/// The directories that a node keeps, but for its stores.
#[derive(Clone)]
pub struct Disks {
    /// The shared log.
    pub log: Arc<dyn Disk>,
    /// What failovers lost: files for people.
    pub rewound: Arc<dyn Disk>,
}

/// Why a node did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// A store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Log and store don't fit together, or a record makes no sense.
    #[error("{0}")]
    Replay(String),
    /// The control group.
    #[error("control group: {0}")]
    Control(String),
    /// The end of the log is gone.
    #[error(
        "the log ends at position {end}, and went to {was} when this node started last: its last files are missing, damaged, or from an older copy; put the newest ones back, or move the data directory away and start the node again: it is filled from the other replicas"
    )]
    LogEndGone {
        /// Where it ends.
        end: u64,
        /// Where it went to.
        was: u64,
    },
}

impl From<NotFound> for OpenError {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Store(error) => error.into(),
            NotFound::Log(log::OpenError::Log(error)) => error.into(),
            NotFound::Log(error @ log::OpenError::Visit(_)) => OpenError::Replay(error.to_string()),
        }
    }
}

impl<S: Stores> Node<S> {
    /// Reads back what the disk holds. Nothing is served before the catalog is known.
    pub fn open(config: NodeConfig, disks: Disks, stores: S, now: Now) -> Result<Self, OpenError> {
        let mut of_cluster = Replay::default();
        let levels = config.release.levels;
        let mut of_others =
            |kind, before, body: &[u8]| of_cluster.record(kind, before, body, levels);
        let kept = (config.log, config.cache);
        let found = Found::open(stores, disks.log, kept, &mut of_others)?;
        let log = found.log();
        let end = log.opened_at().0;
        if end < config.log_was && !planted::is(Bug::ForgetGreatestProcess) {
            let was = config.log_was;
            return Err(OpenError::LogEndGone { end, was });
        }
        let mut notes = config.notes.clone();
        if let Some(cut) = log
            .cut()
            .filter(|_| !log.was_closed() && log.cut() == Some(log.opened_at()))
        {
            notes.push(("cut", format!("the end of its log, behind {cut}, could not be read after an unclean end, and was cut: what was being written when the process ended, or damage")));
        }
        let boot = Boot {
            disk: config.disk,
            process: config.process,
            nonce: config.seed,
            log: log.durable().0,
            intact_since: match log.was_closed() {
                true => config.intact_since,
                false => config.process,
            },
        };
        let cluster = Cluster::new(config.of_cluster(), boot, of_cluster, notes, now);
        let cluster = cluster.map_err(OpenError::Control)?;
        let shards = Shards::new(config.of_shards(boot), found, disks.rewound, now);
        let mut node = Node {
            cluster,
            shards,
            gate: Gate::new(config.of_gate(), now),
            carrying_out: CarryingOut::default(),
            links: config.links.clone(),
            now,
            started: now.monotonic,
            catalog: Arc::new(Catalog::default()),
            leaders: Leaders::default(),
            admin: admin::Pending::default(),
            verifications: Verifications::default(),
            saves: Saves::new(now.wall_ms),
            unsettled: 0,
            effects: VecDeque::new(),
            prefetches: VecDeque::new(),
            ticked_at: now.monotonic,
            next_upkeep: Duration::ZERO,
            config,
        };
        node.tell_terms();
        Ok(node)
    }
}
