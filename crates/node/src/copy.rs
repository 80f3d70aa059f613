//! Filling a replica from another one: the whole store, pinned at one position, chunk by
//! chunk as the receiver asks; then the log from there on, by the topology's own ways.
//!
//! The receiver's store says on disk that it is being filled: a crash in the middle begins
//! anew, and nothing is read from it meanwhile.

use crate::{
    message::{CopyChunk, Message},
    node::{Lane, Node},
    shard,
};
use bytes::BytesMut;
use model::{NodeId, ShardId};
use std::{collections::BTreeMap, time::Duration};
use storage::store::{Applied, RowsSnapshot, ShardSnapshot, Stores};

/// Rows a message, in bytes.
const CHUNK_BYTES: usize = 512 << 10;
/// A question that was not answered for so long is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A snapshot that nobody asked of for so long is let go.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Copies that one node gives at a time; more wait.
const GIVEN_MAX: usize = 4;

/// A copy that this node takes.
#[derive(Debug)]
struct Taking {
    source: NodeId,
    copy: u64,
    from: Option<Vec<u8>>,
    asked_at: Duration,
    bytes: u64,
}

/// A copy that this node gives.
struct Giving<Snap> {
    snapshot: ShardSnapshot<Snap>,
    asked_at: Duration,
}

/// Copies under way at this node.
pub(crate) struct Copies<Snap> {
    taking: BTreeMap<ShardId, Taking>,
    giving: BTreeMap<(NodeId, ShardId, u64), Giving<Snap>>,
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
            next: first,
            begun: 0,
        }
    }
}

impl<Snap: RowsSnapshot> Copies<Snap> {
    /// The lowest position that a copy of `shard` goes on from: the log is needed above it.
    pub(crate) fn pinned(&self, shard: ShardId) -> Option<u64> {
        self.giving
            .iter()
            .filter(|((_, id, _), _)| *id == shard)
            .map(|(_, g)| g.snapshot.applied().position.index)
            .min()
    }

    pub(crate) fn forget(&mut self, shard: ShardId) {
        self.taking.remove(&shard);
        self.giving.retain(|(_, id, _), _| *id != shard);
    }
}

impl<S: Stores> Node<S> {
    /// Empties this node's replica and begins to fill it from `source`.
    pub(crate) fn start_copy(&mut self, id: ShardId, source: &NodeId) {
        let from_there = |taking: &Taking| taking.source == *source;
        if self.copies.taking.get(&id).is_some_and(from_there) || *source == self.config.id {
            return;
        }
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        tracing::info!(shard = id.0, %source, "the replica is filled from another one");
        if let Err(error) = shard.store.begin_install() {
            return self.stop_shard(id, error.to_string());
        }
        shard.unapplied.clear();
        shard.tip.reset();
        self.forget_appended(id);
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
                bytes: 0,
            },
        );
        self.ask_rows(id);
    }

    fn ask_rows(&mut self, id: ShardId) {
        let Some(taking) = self.copies.taking.get_mut(&id) else {
            return;
        };
        taking.asked_at = self.now.monotonic;
        let (to, message) = (
            taking.source.clone(),
            Message::CopyAsk {
                shard: id,
                copy: taking.copy,
                from: taking.from.clone(),
            },
        );
        self.send(&to, Lane::Ordinary, &message);
    }

    pub(crate) fn copy_asked(
        &mut self,
        from: &NodeId,
        id: ShardId,
        copy: u64,
        row: Option<Vec<u8>>,
    ) {
        let key = (from.clone(), id, copy);
        let now = self.now.monotonic;
        if !self.copies.giving.contains_key(&key) {
            let full = self.copies.giving.len() >= GIVEN_MAX;
            let snapshot = self
                .shards
                .get(&id)
                .filter(|_| row.is_none() && !full)
                .and_then(|s| s.store.snapshot().ok());
            match snapshot {
                Some(snapshot) => {
                    let asked_at = now;
                    self.copies
                        .giving
                        .insert(key.clone(), Giving { snapshot, asked_at });
                }
                // It asks again from the beginning, in a while.
                None if row.is_none() => return,
                None => {
                    return self.send(from, Lane::Ordinary, &Message::CopyLost { shard: id, copy });
                }
            }
        }
        let Some(giving) = self.copies.giving.get_mut(&key) else {
            return;
        };
        giving.asked_at = now;
        let mut applied = BytesMut::new();
        giving.snapshot.applied().encode(&mut applied);
        match giving.snapshot.next_chunk(row.as_deref(), CHUNK_BYTES) {
            Ok(chunk) => {
                let message = Message::CopyChunk(CopyChunk {
                    shard: id,
                    copy,
                    from: row,
                    rows: chunk.rows,
                    next: chunk.next,
                    applied: applied.freeze(),
                });
                self.send(from, Lane::Bulk, &message);
                // Kept for a while also after the last: that may be asked for again, and the
                // log is needed until the replica has caught up.
            }
            Err(error) => {
                tracing::error!(shard = id.0, %error, "a copy could not be read");
                self.copies.giving.remove(&key);
                self.send(from, Lane::Ordinary, &Message::CopyLost { shard: id, copy });
            }
        }
    }

    pub(crate) fn copy_chunk(&mut self, from: &NodeId, chunk: CopyChunk) {
        let id = chunk.shard;
        let Some(taking) = self.copies.taking.get_mut(&id) else {
            return;
        };
        if taking.source != *from || taking.copy != chunk.copy || taking.from != chunk.from {
            return; // An answer to a question that was asked twice.
        }
        taking.bytes += chunk
            .rows
            .iter()
            .map(|(k, v)| (k.len() + v.len()) as u64)
            .sum::<u64>();
        taking.from.clone_from(&chunk.next);
        let bytes = taking.bytes;
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        if let Err(error) = shard.store.install_chunk(&chunk.rows) {
            self.copies.taking.remove(&id);
            return self.stop_shard(id, error.to_string());
        }
        shard.maintain(self.now);
        if chunk.next.is_some() {
            return self.ask_rows(id);
        }
        self.copies.taking.remove(&id);
        match Applied::decode(chunk.applied) {
            Ok(applied) => self.copied(id, applied, bytes),
            Err(error) => self.stop_shard(id, error.to_string()),
        }
    }

    fn copied(&mut self, id: ShardId, applied: Applied, bytes: u64) {
        let (at, history, stamp) = (applied.position, applied.history.clone(), applied.stamp);
        let Some(shard) = self.shards.get_mut(&id) else {
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
        if let Some(shard) = self.shards.get_mut(&id)
            && let Some(strategy) = &mut shard.strategy
        {
            strategy.installed(at, history, stamp, self.now);
            self.dirty.insert(id);
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
        let late: Vec<ShardId> = self
            .copies
            .taking
            .iter()
            .filter(|(_, t)| now.saturating_sub(t.asked_at) >= ASK_AGAIN)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.ask_rows(id);
        }
        self.copies
            .giving
            .retain(|_, g| now.saturating_sub(g.asked_at) < FORGET_AFTER);
    }
}
