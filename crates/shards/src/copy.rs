//! Filling a replica from another one: the whole store, pinned at one position, chunk by
//! chunk; then the log from there on, by the topology's own ways.
//!
//! ```text
//! taker                          source
//! start_copy, emptied ─ CopyAsk(first row) ─▶ pins its store      one question a chunk:
//! install_chunk      ◀──── CopyChunk ──────── some rows           "all before this row is here"
//!                     ─ CopyAsk(next row) ──▶ …
//! finish_install     ◀──── CopyChunk ──────── the last ones
//! RESET in the log; the protocol goes on behind the pinned position
//! ```
//! A chunk says which row it begins with, and the taker takes the one that begins where the last
//! ended: repeats, gaps and late ones are nothing to it. When none came for 2 s, whatever the
//! reason, it asks for that row again: a connection that breaks costs what was under way. The
//! source keeps what it has pinned for 30 s without a question; then, or when it restarts, the
//! copy begins anew.
//!
//! The taker's store says on disk that it is being filled: a crash in the middle begins anew,
//! and nothing is read from it meanwhile. While its disk can't follow it asks for nothing.

mod give;

pub use give::COPY_BYTES_PER_SECOND_MIN;

use crate::{
    door::Lane,
    message::{CopyChunk, Message},
    room::Shards,
    shard,
};
use cluster::message::CopyProgress;
use give::{Giving, Key, Pace};
use model::{NodeId, ShardId};
use replication::protocol::{Copied, Order};
use std::{collections::BTreeMap, time::Duration};
use storage::store::{Applied, RowsSnapshot, Stores};

/// A question that was not answered for so long is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A copy that this node takes.
#[derive(Debug)]
struct Taking {
    source: NodeId,
    copy: u64,
    /// The row to go on from.
    from: Option<Vec<u8>>,
    asked_at: Duration,
    began_at: Duration,
    /// The disk is behind: the next question waits.
    held: bool,
    bytes: u64,
    keys: u64,
    /// Known from the first chunk on.
    keys_total: Option<u64>,
}

/// Copies under way at this node.
pub(crate) struct Copies<Snap> {
    taking: BTreeMap<ShardId, Taking>,
    giving: BTreeMap<Key, Giving<Snap>>,
    given_last: Option<Key>,
    pace: Pace,
    next: u64,
    /// Copies that were begun here since the start, for people.
    pub(crate) begun: u64,
}

impl<Snap> Copies<Snap> {
    /// Numbers begin at `first`: what was sent to an earlier process must fit none.
    pub(crate) fn new(first: u64) -> Self {
        Copies {
            taking: BTreeMap::new(),
            giving: BTreeMap::new(),
            given_last: None,
            pace: Pace::default(),
            next: first,
            begun: 0,
        }
    }

    /// Copies that this node takes now.
    pub(crate) fn under_way(&self) -> usize {
        self.taking.len()
    }

    /// How far each copy is that this node takes.
    pub(crate) fn progress(&self, now: Duration) -> Vec<CopyProgress> {
        let told = |(shard, taking): (&ShardId, &Taking)| CopyProgress {
            shard: *shard,
            source: taking.source.clone(),
            keys: taking.keys,
            keys_total: taking.keys_total,
            bytes: taking.bytes,
            elapsed_ms: now.saturating_sub(taking.began_at).as_millis() as u64,
        };
        self.taking.iter().map(told).collect()
    }
}

impl<Snap: RowsSnapshot> Copies<Snap> {
    /// The lowest position that a copy of `shard` goes on from: the log is needed above it.
    pub(crate) fn pinned(&self, shard: ShardId) -> Option<u64> {
        let of_it = (self.giving.iter()).filter(|((_, id, _), _)| *id == shard);
        of_it.map(|(_, giving)| giving.pinned()).min()
    }

    pub(crate) fn forget(&mut self, shard: ShardId) {
        self.taking.remove(&shard);
        self.giving.retain(|(_, id, _), _| *id != shard);
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Empties this node's replica and begins to fill it from `source`.
    pub(crate) fn start_copy(&mut self, id: ShardId, source: &NodeId) {
        let from_there = |taking: &Taking| taking.source == *source;
        if self.copies.taking.get(&id).is_some_and(from_there) || *source == self.config.id {
            return;
        }
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        tracing::info!(shard = id.0, %source, "the replica is filled from another one");
        if let Err(error) = shard.store.begin_install() {
            return self.stop_shard(id, error.to_string());
        }
        shard.unapplied.clear();
        shard.tip.reset();
        self.log.forget_after(id, 0);
        self.copies.begun += 1;
        self.copies.next = self.copies.next.wrapping_add(1);
        let copy = self.copies.next;
        self.copies.taking.insert(
            id,
            Taking {
                source: source.clone(),
                copy,
                from: None,
                asked_at: self.now.monotonic,
                began_at: self.now.monotonic,
                held: false,
                bytes: 0,
                keys: 0,
                keys_total: None,
            },
        );
        self.ask_rows(id);
    }

    fn ask_rows(&mut self, id: ShardId) {
        let Some(taking) = self.copies.taking.get_mut(&id) else {
            return;
        };
        taking.asked_at = self.now.monotonic;
        taking.held = false;
        let (to, message) = (
            taking.source.clone(),
            Message::CopyAsk {
                shard: id,
                copy: taking.copy,
                from: taking.from.clone(),
            },
        );
        self.send(&to, Lane::Ordinary, message);
    }

    pub(crate) fn copy_chunk(&mut self, from: &NodeId, chunk: CopyChunk) {
        let id = chunk.shard;
        let Some(taking) = self.copies.taking.get_mut(&id) else {
            return;
        };
        if taking.source != *from || taking.copy != chunk.copy || taking.from != chunk.from {
            return; // A repeat, or something before it was lost.
        }
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        let keys = match shard.store.install_chunk(&chunk.rows) {
            Ok(keys) => keys,
            Err(error) => {
                self.copies.taking.remove(&id);
                return self.stop_shard(id, error.to_string());
            }
        };
        let rows = chunk.rows.iter();
        taking.bytes += rows.map(|(k, v)| (k.len() + v.len()) as u64).sum::<u64>();
        taking.keys += keys;
        taking.from = chunk.next;
        if taking.from.is_some() && taking.keys_total.is_some() {
            return self.go_on(id);
        }
        let applied = match Applied::decode(chunk.applied) {
            Ok(applied) => applied,
            Err(error) => {
                self.copies.taking.remove(&id);
                return self.stop_shard(id, error.to_string());
            }
        };
        taking.keys_total = Some(applied.keys);
        if taking.from.is_some() {
            return self.go_on(id);
        }
        let bytes = taking.bytes;
        self.copies.taking.remove(&id);
        self.copied(id, applied, bytes);
    }

    /// Asks for the next rows, if the disk can follow.
    fn go_on(&mut self, id: ShardId) {
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        shard.maintain(self.now);
        if !shard.pressure.stop {
            return self.ask_rows(id);
        }
        if let Some(taking) = self.copies.taking.get_mut(&id) {
            taking.held = true;
        }
    }

    fn copied(&mut self, id: ShardId, applied: Applied, bytes: u64) {
        let copied = Copied {
            at: applied.position,
            history: applied.history.clone(),
            stamp: applied.stamp,
            members: applied.members.clone(),
        };
        let at = copied.at;
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        // Durable when it returns: from here on the replica acknowledges all of it.
        if let Err(error) = shard.store.finish_install(applied) {
            return self.stop_shard(id, error.to_string());
        }
        shard.log_index.reset(at.index + 1);
        shard.commit_noted = at.index;
        if let Err(error) = self.append_shard(id, shard::RESET, &at.index.to_le_bytes()) {
            return self.stop(format!("the log takes nothing more: {error}"));
        }
        tracing::info!(shard = id.0, bytes, position = %at, "the replica is filled");
        let catalog = self.catalog.clone();
        if let Some(shard) = self.all.get_mut(&id)
            && let Some(protocol) = &mut shard.protocol
        {
            protocol.installed(copied, self.now);
            if let Some(until) = shard.store.rewinding_until() {
                let order = Order::Rewound { common: at, until };
                protocol.order(order, self.now);
            }
            self.unsettled.add(id);
        }
        self.readopt(id, &catalog);
    }

    pub(crate) fn copy_lost(&mut self, from: &NodeId, id: ShardId, copy: u64) {
        let lost = self
            .copies
            .taking
            .get(&id)
            .is_some_and(|t| t.source == *from && t.copy == copy);
        if lost {
            self.copies.taking.remove(&id);
            self.start_copy(id, from);
        }
    }

    pub(crate) fn copies_tick(&mut self) {
        let now = self.now.monotonic;
        let taking = self.copies.taking.iter();
        let due = taking
            .filter(|(_, t)| t.held || now.saturating_sub(t.asked_at) >= ASK_AGAIN)
            .map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            self.go_on(id);
        }
        self.giving_tick();
    }
}
