//! One machine: what outlives the node that runs on it, and that node while it runs.

mod clock;

use crate::random::Random;
use bytes::Bytes;
use clock::Clock;
use model::{DiskId, NodeId, Now, Region, Release};
use node::{
    ClientBounds, Disks, Effect, Node, NodeConfig, NodeLimits, OpenError, PeerConfig, ScrubConfig,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use storage::{
    disk::SimDisk,
    log::{FlushJob, Options, SyncJob, Synced, Written},
    store::{CacheBudget, MemoryStores},
};

/// Small, so that segments turn over within a story.
const SEGMENT_BYTES: u64 = 64 << 10;

/// The first half of a flush that is under way.
pub(crate) enum Flush {
    Taken(FlushJob),
    Written(Written),
}

/// The second half of one.
pub(crate) enum Sync {
    Waits(SyncJob),
    Ran(Synced),
}

/// A copy of a machine's disks, as a person makes one.
pub(crate) struct DiskCopy {
    disk: SimDisk,
    rewound: SimDisk,
    stores: MemoryStores,
    identity: Identity,
}

/// What a data directory's identity file says.
#[derive(Clone, Copy)]
struct Identity {
    disk: DiskId,
    /// Nodes started on it so far; each is another process.
    processes: u64,
    intact_since: u64,
    log: u64,
}

impl Identity {
    fn new(random: &mut Random) -> Self {
        Identity {
            disk: DiskId(random.draw()),
            processes: 0,
            intact_since: 1,
            log: 0,
        }
    }
}

pub(crate) struct Machine {
    pub(crate) id: NodeId,
    pub(crate) region: Region,
    /// Which release it starts.
    pub(crate) release: Release,
    number: u16,
    pub(crate) disk: SimDisk,
    pub(crate) rewound: SimDisk,
    pub(crate) stores: MemoryStores,
    identity: Identity,
    /// What a person has put by.
    copy: Option<DiskCopy>,
    /// The node may find that its disk is stale: a copy was put back.
    pub(crate) may_be_stale: bool,
    /// Grows when the node starts or dies: what was scheduled for an earlier one is void.
    pub(crate) life: u64,
    pub(crate) node: Option<Node<MemoryStores>>,
    pub(crate) flush: Option<Flush>,
    /// By numbers that tell them apart.
    pub(crate) syncs: BTreeMap<u64, Sync>,
    /// When `wake` is scheduled.
    pub(crate) wakes_at: Option<Duration>,
    pub(crate) clock: Clock,
    /// Until when the process is stopped, as by SIGSTOP: what comes to it waits.
    pub(crate) paused_until: Option<Duration>,
    /// Until when every flush takes up to this long.
    pub(crate) slow_disk: Option<(Duration, Duration)>,
    /// Until when its disk answers nothing.
    pub(crate) disk_hangs_until: Option<Duration>,
    /// How long the node stands still in its next turn.
    pub(crate) next_turn_takes: Option<Duration>,
    /// Answers that its host keeps back while it is in doubt whether they may be said.
    pub(crate) withheld: Option<Vec<Effect>>,
    /// Such answers, once it isn't any more.
    pub(crate) released: VecDeque<Effect>,
    /// The node has been made to stop by itself: its disk was made to fail.
    pub(crate) may_stop: bool,
    /// Why it did last.
    pub(crate) last_words: Option<String>,
    log_retention_bytes: u64,
}

impl Machine {
    pub(crate) fn new(
        id: &str,
        region: &str,
        number: u16,
        log_retention_bytes: u64,
        random: &mut Random,
    ) -> Option<Self> {
        Some(Machine {
            id: NodeId::new(id).ok()?,
            region: Region::new(region).ok()?,
            release: Release::THIS,
            number,
            disk: SimDisk::new(),
            rewound: SimDisk::new(),
            stores: MemoryStores::new(),
            identity: Identity::new(random),
            copy: None,
            may_be_stale: false,
            life: 0,
            node: None,
            flush: None,
            syncs: BTreeMap::new(),
            wakes_at: None,
            clock: Clock::new(random),
            paused_until: None,
            slow_disk: None,
            disk_hangs_until: None,
            next_turn_takes: None,
            withheld: None,
            released: VecDeque::new(),
            may_stop: false,
            last_words: None,
            log_retention_bytes,
        })
    }

    fn addr(number: u16, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port + number).into()
    }

    /// What its clocks say at the world's `now`.
    pub(crate) fn now(&self, now: Duration) -> Now {
        self.clock.now(now)
    }

    /// Whether the process stands still.
    pub(crate) fn is_paused(&self, now: Duration) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Starts a node from what the disks hold. `others` are the nodes it begins with.
    pub(crate) fn start(
        &mut self,
        others: Vec<PeerConfig>,
        voters: Vec<NodeId>,
        now: Duration,
        random: &mut Random,
    ) -> Result<(), OpenError> {
        let Identity {
            disk,
            processes,
            intact_since,
            log: log_was,
        } = self.identity;
        self.life += 1;
        let config = NodeConfig {
            id: self.id.clone(),
            release: self.release,
            region: self.region.clone(),
            zone: String::new(),
            listens: Self::addr(self.number, 7000),
            client_addr: Self::addr(self.number, 7000).into(),
            peer_addr: Self::addr(self.number, 8000).into(),
            http_addr: Self::addr(self.number, 9000).into(),
            protected_mode: true,
            peers: others,
            control_voters: voters,
            links: wan::Links::absent(),
            clients: ClientBounds::default(),
            log: Options {
                segment_bytes: SEGMENT_BYTES,
                batch_bytes_max: 32 << 10,
                ..Options::default()
            },
            cache: CacheBudget { bytes: 256 << 10 },
            log_retention_bytes: self.log_retention_bytes,
            limits: NodeLimits {
                // Some give copies so slowly that much happens meanwhile.
                copy_bytes_per_second: [256 << 10, 64 << 20][(disk.0 & 1) as usize],
                scrub: ScrubConfig {
                    every: None,
                    bytes_per_second: 1 << 20,
                },
                ..NodeLimits::default()
            },
            emptied: false,
            disk,
            process: processes + 1,
            intact_since,
            log_was,
            usage: || None,
            traffic: Default::default,
            notes: Vec::new(),
            pid: processes as u32 + 1,
            seed: random.draw(),
        };
        let disks = Disks {
            log: Arc::new(self.disk.clone()),
            rewound: Arc::new(self.rewound.clone()),
        };
        let stores = self.stores.clone();
        let node = Node::open(config, disks, stores, self.now(now))?;
        let boot = node.boot();
        self.identity = Identity {
            disk,
            processes: boot.process,
            intact_since: boot.intact_since,
            log: boot.log,
        };
        self.node = Some(node);
        Ok(())
    }

    /// Its entry in the others' configuration.
    pub(crate) fn as_peer(&self) -> PeerConfig {
        PeerConfig {
            id: self.id.clone(),
            region: self.region.clone(),
            peer_addr: Self::addr(self.number, 8000).into(),
        }
    }

    /// The node is gone; the disks are as a loss of power leaves them. With another start of
    /// the machine its monotonic clock begins anew.
    pub(crate) fn lose_power(&mut self, now: Duration, random: &mut Random) {
        self.kill();
        self.disk.crash(random.draw());
        self.rewound.crash(random.draw());
        self.stores.crash(random.draw());
        self.clock.restart(now, random);
    }

    /// The node is gone, the machine is not: all that was written is there.
    pub(crate) fn kill(&mut self) {
        self.node = None;
        self.flush = None;
        self.syncs.clear();
        self.wakes_at = None;
        self.paused_until = None;
        self.next_turn_takes = None;
        self.withheld = None;
        self.released.clear();
        self.may_stop = false;
        self.life += 1;
    }

    /// Whether something is written and not synced.
    pub(crate) fn is_syncing(&self) -> bool {
        self.syncs.values().any(|s| matches!(s, Sync::Waits(_)))
    }

    /// Whether something is synced and the node was not told.
    pub(crate) fn has_synced(&self) -> bool {
        self.syncs.values().any(|s| matches!(s, Sync::Ran(_)))
    }

    /// The node hears that what it handed over last was written, if it was.
    pub(crate) fn tell_written(&mut self, now: Now) {
        match self.flush.take() {
            Some(Flush::Written(written)) => {
                if let Some(node) = &mut self.node {
                    node.flush_written(written, now);
                }
            }
            other => self.flush = other,
        }
    }

    /// Another disk, with nothing on it: processes are counted on the disk, so from the first.
    pub(crate) fn replace_disk(&mut self, random: &mut Random) {
        self.disk = SimDisk::new();
        self.rewound = SimDisk::new();
        self.stores = MemoryStores::new();
        self.identity = Identity::new(random);
        self.may_be_stale = false;
    }

    /// Which disk it has.
    pub(crate) fn disk_id(&self) -> DiskId {
        self.identity.disk
    }

    /// A copy of all that the disks show is put by.
    pub(crate) fn copy_disks(&mut self) {
        self.copy = Some(DiskCopy {
            disk: self.disk.copy(),
            rewound: self.rewound.copy(),
            stores: self.stores.copy(),
            identity: self.identity,
        });
    }

    /// What was put by takes the place of the disks. False if nothing was.
    pub(crate) fn put_back(&mut self) -> bool {
        let Some(copy) = self.copy.take() else {
            return false;
        };
        self.disk = copy.disk;
        self.rewound = copy.rewound;
        self.stores = copy.stores;
        self.identity = copy.identity;
        self.may_be_stale = true;
        true
    }

    /// Hands the node what a peer sent.
    pub(crate) fn receive(&mut self, from: &NodeId, message: Bytes, now: Duration) {
        let now = self.now(now);
        if let Some(node) = &mut self.node {
            node.peer_message(from, message, now);
        }
    }
}
