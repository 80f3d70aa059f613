//! The room: its parts, and its plainer doors.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{
    aside::Asides,
    copy::Copies,
    digesting::Digestings,
    door::{Lane, Outgoing, Output, Terms},
    evaluate::Did,
    expire::DueShards,
    message::Message,
    opening::Found,
    pulse::Pulses,
    rewind::Rewinds,
    rewound::Rewound,
    scrub::{ScrubConfig, Scrubs},
    seal::Sealing,
    shard::Shard,
    shared_log::SharedLog,
    timers::Timers,
    touched::Touched,
};
use bytes::{Bytes, BytesMut};
use model::{Boot, Catalog, Mutation, NodeId, Now, Region, ShardId};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use storage::{
    disk::Disk,
    log::{AppendError, Lsn, Options},
    store::{CacheBudget, Rows, Stores},
};

/// What of a node's configuration concerns its replicas.
#[derive(Debug)]
pub struct Config {
    pub id: NodeId,
    pub region: Region,
    pub boot: Boot,
    /// Where this process begins to number what it asks of others.
    pub first_number: u64,
    pub log: Options,
    /// Log that is kept for replicas that lag, in bytes; beyond it they copy the store.
    pub log_retention_bytes: u64,
    /// The caches in front of the shards' stores: so much for all of them.
    pub cache: CacheBudget,
    pub limits: Limits,
}

/// What of it may change while the node runs.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What one command, or one transaction, may cost ([`commands::Work`]).
    pub command_work_max: u64,
    /// What copies for other nodes may take together, in bytes a second.
    pub copy_bytes_per_second: u64,
    /// How long a write or sync of the log may be outstanding before the disk counts as stalled.
    pub disk_stall_after: Duration,
    /// How what is on the disk is looked through.
    pub scrub: ScrubConfig,
}

/// The room.
pub struct Shards<S: Stores, T> {
    pub(crate) config: Config,
    pub(crate) now: Now,
    pub(crate) terms: Terms,
    /// By which its replicas go.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) out: Outgoing<T>,
    pub(crate) stores: S,
    pub(crate) log: SharedLog,
    pub(crate) all: BTreeMap<ShardId, Shard<S::Rows, T>>,
    /// Shards that have something to settle.
    pub(crate) dirty: BTreeSet<ShardId>,
    /// When their strategies want to act by themselves.
    pub(crate) timers: Timers,
    /// Which of them have what there is to do now and then.
    pub(crate) touched: Touched,
    /// Seals whose records are not durable yet, in the order of the log.
    pub(crate) sealing: VecDeque<Sealing>,
    /// Shards whose stores go once the log is durable up to there.
    pub(crate) dropping: VecDeque<(Lsn, ShardId)>,
    /// Shards whose place another node has taken, and when their primary was asked for its log.
    pub(crate) leaving: BTreeMap<ShardId, Duration>,
    /// The shard that is just giving its office away.
    pub(crate) gives_up: Option<ShardId>,
    pub(crate) pulses: Pulses,
    pub(crate) copies: Copies<<S::Rows as Rows>::Snapshot>,
    pub(crate) rewinds: Rewinds<<S::Rows as Rows>::Snapshot>,
    pub(crate) rewound: Rewound,
    /// Shards whose damage is borne, since nobody else could lead, and was told.
    pub(crate) damage_borne: BTreeSet<ShardId>,
    pub(crate) scrubs: Scrubs,
    /// When the next scrub begins by itself.
    pub(crate) scrub_due: Option<Duration>,
    pub(crate) asides: Asides,
    pub(crate) digestings: Digestings<<S::Rows as Rows>::Snapshot>,
    /// Work that was done in this turn.
    pub(crate) worked: u64,
    /// What evaluating has done that was not counted yet.
    pub(crate) did: Did,
    pub(crate) mutation: Mutation,
    /// The reply that was made last.
    pub(crate) scratch: BytesMut,
    /// When keys whose time is over are looked for again before the next tick, and of which
    /// shard first.
    pub(crate) expire_at: Option<Duration>,
    pub(crate) expire_first: ShardId,
    pub(crate) due: DueShards,
    /// Keys that were deleted since their time was over.
    pub(crate) expired: u64,
    pub(crate) stopped: bool,
}

impl<S: Stores, T> Shards<S, T> {
    /// The replicas and the log that a node found on its disks.
    pub fn new(config: Config, found: Found<S, T>, rewound: Arc<dyn Disk>, now: Now) -> Self {
        let first_number = config.first_number;
        let log = SharedLog::new(found.log, &config.log, config.limits.disk_stall_after);
        let mut shards = Shards {
            config,
            now,
            terms: Terms::default(),
            catalog: Arc::default(),
            out: Outgoing::default(),
            stores: found.stores,
            log,
            all: found.shards,
            dirty: BTreeSet::new(),
            timers: Timers::default(),
            touched: Touched::default(),
            sealing: VecDeque::new(),
            dropping: VecDeque::new(),
            leaving: BTreeMap::new(),
            gives_up: None,
            pulses: Pulses::default(),
            copies: Copies::new(first_number),
            rewinds: Rewinds::new(first_number),
            rewound: Rewound::new(rewound),
            damage_borne: BTreeSet::new(),
            scrubs: Scrubs::default(),
            scrub_due: None,
            asides: Asides::default(),
            digestings: Digestings::default(),
            worked: 0,
            did: Did::default(),
            mutation: Mutation::new(),
            scratch: BytesMut::new(),
            expire_at: None,
            expire_first: ShardId(0),
            due: DueShards::default(),
            expired: 0,
            stopped: false,
        };
        shards.share_cache();
        for id in shards.all.keys().copied().collect::<Vec<_>>() {
            shards.touch(id);
        }
        shards
    }

    /// From now on these hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.log.set_stall_after(limits.disk_stall_after);
        if limits.scrub.every != self.config.limits.scrub.every {
            // Counted from now: when the last one ended is not what it is due by any more.
            let now = self.now.monotonic;
            self.scrub_due = limits.scrub.every.map(|every| now + every);
        }
        self.config.limits = limits;
    }

    /// A link to `peer` was made, or broke.
    pub fn link_changed(&mut self, peer: &NodeId, linked: bool) {
        self.terms.link_changed(peer, linked);
        for (id, shard) in &mut self.all {
            if let Some(strategy) = &mut shard.strategy {
                strategy.link_changed(peer, linked, self.now);
                self.dirty.insert(*id);
            }
        }
    }

    /// A message of the primary or a replica of a shard to another.
    pub fn replica_message(&mut self, from: &NodeId, id: ShardId, bytes: Bytes) {
        // With no room to log more, what comes is as good as lost: it is sent again. Nor does a
        // process hold anything for others that the catalog does not know of: it could be put back
        // to before it without being missed.
        if !self.log.has_room_for_replicas()
            || !self.terms.holds_for_others
            || self.log.is_stalled()
        {
            return;
        }
        if let Some(strategy) = self.all.get_mut(&id).and_then(|s| s.strategy.as_mut()) {
            strategy.receive(from, bytes, self.now);
            self.dirty.insert(id);
        }
    }

    /// The log is acknowledgeable up to `durable`.
    pub fn durable(&mut self, durable: Lsn) {
        for (id, index) in self.log.reached(durable) {
            if let Some(strategy) = self.all.get_mut(&id).and_then(|s| s.strategy.as_mut()) {
                strategy.durable(index, self.now);
                self.dirty.insert(id);
            }
        }
        self.seals_durable(durable);
        self.rewinds_durable(durable);
        self.drops_durable(durable);
    }

    /// Tells a node, which may be this one.
    pub(crate) fn tell(&mut self, to: &NodeId, lane: Lane, message: Message) {
        if *to == self.config.id {
            let from = to.clone();
            self.out.put(Output::Told { from, message });
        } else {
            self.send(to, lane, message);
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, to: &NodeId, lane: Lane, message: Message) {
        let to = to.clone();
        self.out.put(Output::Send { to, lane, message });
    }

    /// Appends a record of a shard that is to be durable as soon as may be.
    pub(crate) fn append_shard(
        &mut self,
        id: ShardId,
        kind: u8,
        body: &[u8],
    ) -> Result<Lsn, AppendError> {
        self.log.append(id, kind, body, self.now.monotonic)
    }

    /// Whether this node's replica is primary, and nobody else may be by now.
    pub fn may_act(&self, id: ShardId) -> bool {
        let shard = self.all.get(&id);
        shard.is_some_and(|s| s.is_primary(self.now)) && self.is_leased()
    }

    /// Whether nobody else may have been named primary in this node's place.
    pub(crate) fn is_leased(&self) -> bool {
        self.now.monotonic < self.terms.leased_until
    }
}
