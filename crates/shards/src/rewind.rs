//! Taking back a tail that a failover lost (docs/adr/0010-rewind): out of the log, and out of
//! the store key by key, without a full copy.
//!
//! ```text
//! NeedsRewind ─▶ Saving ─▶ Fetching ─▶ Logging ─▶ the store's batch ─▶ rewound
//!                  │          │           │
//!  tail from the log,   its keys, as the  REWIND is durable in the log:
//!  into a file, durable  source has them   from here on there is no way back
//! NeedsCopy ───▶ Saving ─▶ a full copy (`copy`)
//! replaced ────▶ Saving ─▶ the copy goes (`leaving`), or is filled anew (`damage`)
//! ```
//! Nothing is changed before `Logging`: whatever happens earlier, a crash or another primary,
//! the protocol finds out anew where the logs part. What a crash leaves later:
//!
//! | durable | the log, replayed | the store | so |
//! |---|---|---|---|
//! | REWIND | ends at `common` | at or below `common` | it is what it would have become |
//! | REWIND | ends at `common` | within the lost tail: its history says so | filled by a copy |
//! | REWIND, the store's batch | ends at `common` | at `common`, fetched keys ahead | goes on |
//!
//! A full copy takes the place of the rest once the tail is saved if the lost tail is not all in
//! the log any more, cleared the shard, or touched too much ([`KEYS_MAX`], [`BYTES_MAX`]).
//!
//! The source answers from one snapshot, which must be at or above `common`. It gives
//! [`GIVEN_MAX`] at a time, and forgets one when it is thanked for it, or when nobody asked of
//! it for [`FORGET_AFTER`].

mod fetch;
mod save;

use crate::{
    rewound::{About, Rewound, Saving},
    room::Shards,
    shard,
};
use model::{NodeId, Position, ShardId};
use replication::protocol::{Order, Recovered};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::{
    log::Lsn,
    store::{Applied, ShardSnapshot, Stores},
};

/// Keys beyond which a copy is simpler: what the reference deployment writes in 25 s.
const KEYS_MAX: usize = 250_000;
/// Bytes of keys and of fetched rows beyond which a copy is simpler: they are held in memory,
/// and written in one batch that the node waits for.
const BYTES_MAX: usize = 64 << 20;
/// A question that was not answered for so long is asked again; a file that could not be
/// written is tried again after so long.
pub(crate) const AGAIN: Duration = Duration::from_secs(2);
/// A snapshot that nobody asked of for so long is let go.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Rewinds that one node gives keys for at a time; more wait.
const GIVEN_MAX: usize = 4;

/// A rewind that this node does.
struct Taking {
    source: NodeId,
    /// The last entry that is kept, and the last that is lost.
    common: Position,
    last: u64,
    /// Up to where the tail is committed here, and up to where it is in the store.
    committed: u64,
    applied: u64,
    /// The store will be copied: only the saving is left to do.
    copy: bool,
    /// What the applied part of the tail touched.
    keys: BTreeSet<bytes::Bytes>,
    keys_bytes: usize,
    step: Step,
}

enum Step {
    Saving {
        /// The next entry, since when it is waited for, and when to go on.
        next: u64,
        since: Duration,
        at: Duration,
        saving: Box<Saving>,
    },
    Fetching(Fetching),
    /// REWIND is on its way to the disk.
    Logging {
        lsn: Lsn,
        rows: Vec<(bytes::Bytes, bytes::Bytes)>,
        until: Position,
    },
}

struct Fetching {
    /// The rewind's number: names the source's snapshot.
    number: u64,
    /// The question at hand, counted from 0.
    question: u64,
    /// Keys that are not complete, and the row of the first of them to go on from.
    left: Vec<bytes::Bytes>,
    from: Option<Vec<u8>>,
    asked_at: Duration,
    rows: Vec<(bytes::Bytes, bytes::Bytes)>,
    bytes: usize,
    /// What the rows are as of, once something came.
    applied: Option<Applied>,
}

/// A rewind that this node gives keys for.
struct Giving<Snap> {
    snapshot: ShardSnapshot<Snap>,
    asked_at: Duration,
}

/// What was taken back since the start, for people.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Rewinds that are complete.
    pub(crate) rewinds: u64,
    /// Lost entries with an effect that were saved, those of uncommitted tails included.
    pub(crate) entries: u64,
    /// Keys that were fetched.
    pub(crate) keys: u64,
}

/// Rewinds under way at this node.
pub(crate) struct Rewinds<Snap> {
    taking: BTreeMap<ShardId, Taking>,
    giving: BTreeMap<(NodeId, ShardId, u64), Giving<Snap>>,
    next: u64,
    /// The files that keep what was taken back.
    pub(crate) files: Rewound,
    pub(crate) counts: Counts,
}

impl<Snap> Rewinds<Snap> {
    /// Numbers begin at `first`: what was sent to an earlier process must fit none.
    pub(crate) fn new(first: u64, files: Rewound) -> Self {
        Rewinds {
            taking: BTreeMap::new(),
            giving: BTreeMap::new(),
            next: first,
            files,
            counts: Counts::default(),
        }
    }

    pub(crate) fn forget(&mut self, shard: ShardId) {
        self.taking.remove(&shard);
        self.giving.retain(|(_, id, _), _| *id != shard);
    }

    /// Whether the log of `shard` has forgotten a tail that its store still holds.
    pub(crate) fn is_past_return(&self, shard: ShardId) -> bool {
        let step = self.taking.get(&shard).map(|t| &t.step);
        matches!(step, Some(Step::Logging { .. }))
    }

    /// Whether one is under way here.
    pub(crate) fn is_taking(&self, shard: ShardId) -> bool {
        self.taking.contains_key(&shard)
    }

    /// How many are under way here.
    pub(crate) fn under_way(&self) -> usize {
        self.taking.len()
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Begins to take back what is above `common` here and not at `source`; `copy`: by saving
    /// it and copying the store.
    pub(crate) fn start_rewind(&mut self, id: ShardId, source: &NodeId, common: u64, copy: bool) {
        let Some(shard) = self.all.get(&id) else {
            return;
        };
        let Some(protocol) = &shard.protocol else {
            return;
        };
        let state = protocol.state(self.now);
        let history = protocol.history();
        let common = Position {
            epoch: history.epoch_at(common),
            index: common,
        };
        if copy && state.tip.index <= common.index {
            return self.start_copy(id, source);
        }
        tracing::warn!(shard = id.0, %source, %common, last = %state.tip, "a tail was lost in a failover: it is saved and taken back");
        let applied = shard.applied().index;
        let tail = (common, state.tip.index, state.commit);
        self.begin_saving(id, source, tail, applied, copy);
    }

    /// Saves what is above `common` here and not at `source`, before this copy goes.
    pub(crate) fn save_before_leaving(&mut self, id: ShardId, source: &NodeId, common: Position) {
        let Some(shard) = self.all.get(&id) else {
            return;
        };
        let Recovered { last, commit, .. } = shard.recovered;
        tracing::warn!(shard = id.0, %source, %common, %last, "a tail was lost in a failover: it is saved before this copy goes");
        // Nothing is fetched, so it doesn't matter what the tail touched.
        let applied = common.index;
        self.begin_saving(id, source, (common, last.index, commit), applied, true);
    }

    /// Saves a tail: above the first position, up to the second, committed up to the third, in
    /// the store up to `applied`.
    fn begin_saving(
        &mut self,
        id: ShardId,
        source: &NodeId,
        (common, last, committed): (Position, u64, u64),
        applied: u64,
        copy: bool,
    ) {
        let saving = self.rewinds.files.begin(self.about(id, common));
        let now = self.now.monotonic;
        let taking = Taking {
            source: source.clone(),
            common,
            last,
            committed,
            applied,
            copy,
            keys: BTreeSet::new(),
            keys_bytes: 0,
            step: Step::Saving {
                next: common.index + 1,
                since: now,
                at: now,
                saving: Box::new(saving),
            },
        };
        self.rewinds.taking.insert(id, taking);
        self.rewind_on(id);
    }

    fn about(&self, id: ShardId, common: Position) -> About {
        let shard = self.all.get(&id);
        let keyspace = shard
            .and_then(|s| s.keyspace)
            .and_then(|k| self.catalog.keyspaces.get(&k));
        // The protocol may know of a later one; a copy that goes has none.
        let state = shard.and_then(|s| s.state(self.now)).map(|s| s.epoch);
        let epoch = state.or_else(|| self.catalog.shards.get(&id).map(|s| s.epoch));
        About {
            node: self.config.id.clone(),
            shard: id,
            keyspace: keyspace.map(|k| k.name.to_string()),
            epoch: epoch.unwrap_or_default(),
            common,
        }
    }

    /// Does what can be done now.
    fn rewind_on(&mut self, id: ShardId) {
        let now = self.now.monotonic;
        match self.rewinds.taking.get(&id).map(|t| &t.step) {
            Some(Step::Saving { at, .. }) if *at <= now => self.save_on(id),
            Some(Step::Fetching(f)) if now.saturating_sub(f.asked_at) >= AGAIN => {
                self.ask_keys_of(id);
            }
            _ => {}
        }
    }

    /// All is saved and fetched: the log forgets the tail, for good.
    fn log_rewind(
        &mut self,
        id: ShardId,
        rows: Vec<(bytes::Bytes, bytes::Bytes)>,
        until: Position,
    ) {
        let Some(taking) = self.rewinds.taking.get_mut(&id) else {
            return;
        };
        let protocol = self.all.get(&id).and_then(|s| s.protocol.as_ref());
        let Some(protocol) = protocol else {
            return;
        };
        let common = taking.common.index;
        let lost = protocol.history().epoch_at(common + 1);
        match self.append_shard(id, shard::REWIND, &shard::rewind_body(common, lost)) {
            Ok(lsn) => {
                if let Some(taking) = self.rewinds.taking.get_mut(&id) {
                    taking.step = Step::Logging { lsn, rows, until };
                }
                self.log.forget(id);
            }
            Err(error) => self.stop(format!("the log takes nothing more: {error}")),
        }
    }

    /// The log is durable up to `durable`.
    pub(crate) fn rewinds_durable(&mut self, durable: Lsn) {
        let logged: Vec<ShardId> = self
            .rewinds
            .taking
            .iter()
            .filter(|(_, t)| matches!(t.step, Step::Logging { lsn, .. } if lsn <= durable))
            .map(|(id, _)| *id)
            .collect();
        for id in logged {
            if let Some(taking) = self.rewinds.taking.remove(&id) {
                self.rewind_store(id, taking);
            }
        }
    }

    fn rewind_store(&mut self, id: ShardId, taking: Taking) {
        let Step::Logging { rows, until, .. } = taking.step else {
            return;
        };
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        let (common, keys) = (taking.common, taking.keys.len());
        if shard.applied().index > common.index
            && let Err(error) = shard.store.rewind(common, taking.keys, &rows, until)
        {
            return self.stop_shard(id, error.to_string());
        }
        shard.forget_after(common.index);
        shard.unapplied.retain(|e| e.position.index <= common.index);
        shard.tip.reset();
        shard.commit_noted = shard.commit_noted.min(common.index);
        shard.maintain(self.now);
        tracing::warn!(shard = id.0, %common, %until, keys, "the tail that was lost is taken back");
        self.rewinds.counts.rewinds += 1;
        self.rewinds.counts.keys += keys as u64;
        if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
            protocol.order(Order::Rewound { common, until }, self.now);
            self.unsettled.add(id);
        }
        let catalog = self.catalog.clone();
        self.readopt(id, &catalog);
    }

    /// The catalog names `primary`: a rewind from another source has not begun to change
    /// anything, or is past that.
    pub(crate) fn rewind_follows(&mut self, id: ShardId, primary: &NodeId) {
        let stale = self
            .rewinds
            .taking
            .get(&id)
            .is_some_and(|t| t.source != *primary && !matches!(t.step, Step::Logging { .. }));
        if !stale {
            return;
        }
        if let Some(Taking {
            step: Step::Saving { saving, .. },
            ..
        }) = self.rewinds.taking.remove(&id)
        {
            saving.discard();
        }
        if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
            protocol.order(Order::RewindGivenUp, self.now);
            self.unsettled.add(id);
        }
    }

    pub(crate) fn rewinds_tick(&mut self) {
        let now = self.now.monotonic;
        let ids: Vec<ShardId> = self.rewinds.taking.keys().copied().collect();
        for id in ids {
            self.rewind_on(id);
        }
        self.rewinds
            .giving
            .retain(|_, g| now.saturating_sub(g.asked_at) < FORGET_AFTER);
    }
}
