//! The room: its parts, and its plainer doors.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{
    aside::Asides,
    assign::Caches,
    copy::Copies,
    damage::Damages,
    digesting::Digestings,
    door::{Lane, Outgoing, Output, Terms},
    evaluate::Evaluation,
    expire::Expiries,
    leaving::Leaving,
    message::Message,
    opening::Found,
    pulse::Pulses,
    rewind::Rewinds,
    rewound::Rewound,
    scrub::{ScrubConfig, Scrubs},
    seal::Seals,
    settle::Unsettled,
    shard::Shard,
    shared_log::SharedLog,
    timers::Timers,
    touched::Touched,
};
use bytes::Bytes;
use model::{Boot, Catalog, DiskId, NodeId, Now, Region, ShardId};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
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

/// The room: a value for each thing that it does, whose file says what is always true of it, and
/// what all of them look at.
pub struct Shards<S: Stores, T> {
    // What it was told.
    pub(crate) config: Config,
    pub(crate) now: Now,
    pub(crate) terms: Terms,
    /// By which its replicas go.
    pub(crate) catalog: Arc<Catalog>,

    // The replicas, and what is on the disk.
    pub(crate) all: BTreeMap<ShardId, Shard<S::Rows, T>>,
    pub(crate) stores: S,
    pub(crate) caches: Caches,
    pub(crate) log: SharedLog,

    // What is to be done, for which shard and when.
    pub(crate) unsettled: Unsettled,
    /// When their protocols want to act by themselves.
    pub(crate) timers: Timers,
    /// Which of them have what there is to do now and then.
    pub(crate) touched: Touched,

    // What is under way.
    pub(crate) evaluation: Evaluation,
    pub(crate) expiries: Expiries,
    pub(crate) pulses: Pulses,
    pub(crate) seals: Seals,
    pub(crate) leaving: Leaving,
    pub(crate) copies: Copies<<S::Rows as Rows>::Snapshot>,
    pub(crate) rewinds: Rewinds<<S::Rows as Rows>::Snapshot>,
    pub(crate) damages: Damages,
    pub(crate) scrubs: Scrubs,
    pub(crate) digestings: Digestings<<S::Rows as Rows>::Snapshot>,

    // What leaves it.
    pub(crate) asides: Asides,
    pub(crate) out: Outgoing<T>,
    /// Nothing is taken any more.
    pub(crate) stopped: bool,
}

impl<S: Stores, T> Shards<S, T> {
    /// The replicas and the log that a node found on its disks.
    pub fn new(config: Config, found: Found<S, T>, rewound: Arc<dyn Disk>, now: Now) -> Self {
        let first_number = config.first_number;
        let log = SharedLog::new(found.log, &config.log, config.limits.disk_stall_after);
        let caches = Caches::new(config.cache);
        let mut shards = Shards {
            config,
            now,
            terms: Terms::default(),
            catalog: Arc::default(),
            all: found.shards,
            stores: found.stores,
            caches,
            log,
            unsettled: Unsettled::default(),
            timers: Timers::default(),
            touched: Touched::default(),
            evaluation: Evaluation::default(),
            expiries: Expiries::default(),
            pulses: Pulses::default(),
            seals: Seals::default(),
            leaving: Leaving::default(),
            copies: Copies::new(first_number),
            rewinds: Rewinds::new(first_number, Rewound::new(rewound)),
            damages: Damages::default(),
            scrubs: Scrubs::default(),
            digestings: Digestings::default(),
            asides: Asides::default(),
            out: Outgoing::default(),
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
            self.scrubs
                .come_every(limits.scrub.every, self.now.monotonic);
        }
        self.config.limits = limits;
    }

    /// A link to `peer` was made, or broke.
    pub fn link_changed(&mut self, peer: &NodeId, linked: bool) {
        self.terms.link_changed(peer, linked);
        for (id, shard) in &mut self.all {
            if let Some(protocol) = &mut shard.protocol {
                protocol.link_changed(peer, linked, self.now);
                self.unsettled.add(*id);
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
        if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
            protocol.receive(from, bytes, self.now);
            self.unsettled.add(id);
        }
    }

    /// The log is acknowledgeable up to `durable`.
    pub fn durable(&mut self, durable: Lsn) {
        for (id, reached) in self.log.reached(durable) {
            if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
                if let Some(index) = reached.entry {
                    protocol.durable(index, self.now);
                }
                if let Some(number) = reached.note {
                    protocol.noted(number, self.now);
                }
                self.unsettled.add(id);
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

    /// On which disk its replicas are.
    pub fn disk(&self) -> DiskId {
        self.config.boot.disk
    }

    /// Whether this node's replica is primary, and nobody else may be by now.
    pub fn may_act(&self, id: ShardId) -> bool {
        let shard = self.all.get(&id);
        shard.is_some_and(|s| s.is_primary(self.now) && (s.is_elected || self.is_leased()))
    }

    /// Whether nobody else may have been named primary in this node's place.
    pub(crate) fn is_leased(&self) -> bool {
        self.now.monotonic < self.terms.leased_until
    }
}
