//! What others may see of the room.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{
    Shards,
    host::{figures_of, report_of},
    shard::Shard,
};
use cluster::message::{CopyProgress, ReplicaReport, StoreFigures};
use model::{Now, Position, ShardId};
use replication::protocol::{MemberState, State};
use serde_json::Value;
use std::{io, time::Duration};
use storage::{
    log::{Lacking, Log},
    store::{ShardStore, Stores},
};

/// A replica.
pub struct Replica<'a, S: Stores, T> {
    room: &'a Shards<S, T>,
    shard: &'a Shard<S::Rows, T>,
}

impl<'a, S: Stores, T> Replica<'a, S, T> {
    /// Of which shard.
    pub fn id(&self) -> ShardId {
        self.shard.id
    }

    /// How it stands, with what is vouched for it; None if it takes part in nothing.
    pub fn state(&self, now: Now) -> Option<State> {
        let state = self.shard.state(now)?;
        Some(self.room.pulses.vouch(self.shard.rest.as_ref(), state))
    }

    /// Whether it acts as primary, but for the lease.
    pub fn is_primary(&self, now: Now) -> bool {
        self.shard.is_primary(now)
    }

    /// Whether it rests.
    pub fn rests(&self, now: Now) -> bool {
        let state = self.state(now);
        state.is_some_and(|state| self.shard.rests_with(&state).is_some())
    }

    /// What is in its store.
    pub fn applied(&self) -> Position {
        self.shard.applied()
    }

    /// As its primary: what the others have.
    pub fn members(&self) -> Vec<MemberState> {
        let protocol = self.shard.protocol.as_ref();
        protocol.map(|s| s.members()).unwrap_or_default()
    }

    /// As others are told.
    pub fn report(&self) -> ReplicaReport {
        report_of(self.shard, &self.room.pulses, self.room.now)
    }

    /// What its store holds.
    pub fn figures(&self) -> StoreFigures {
        figures_of(self.shard)
    }

    /// Its store.
    pub fn store(&self) -> &'a ShardStore<S::Rows> {
        &self.shard.store
    }
}

/// What was done, and what is under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Entries whose log is not acknowledgeable yet.
    pub appended: usize,
    /// Keys that were deleted since their time was over.
    pub expired: u64,
    pub copies: u64,
    pub copying: usize,
    pub leaving: usize,
    pub rewinding: usize,
    pub rewinds: u64,
    pub rewound_entries: u64,
    pub rewound_keys: u64,
}

impl<S: Stores, T> Shards<S, T> {
    /// The replica of a shard.
    pub fn replica(&self, id: ShardId) -> Option<Replica<'_, S, T>> {
        let shard = self.all.get(&id)?;
        Some(Replica { room: self, shard })
    }

    /// All of them.
    pub fn replicas(&self) -> impl Iterator<Item = Replica<'_, S, T>> {
        let shards = self.all.values();
        shards.map(|shard| Replica { room: self, shard })
    }

    /// What was done, and what is under way.
    pub fn figures(&self) -> Figures {
        Figures {
            appended: self.log.appended(),
            expired: self.expiries.deleted(),
            copies: self.copies.begun,
            copying: self.copies.under_way(),
            leaving: self.leaving.count(),
            rewinding: self.rewinds.under_way(),
            rewinds: self.rewinds.counts.rewinds,
            rewound_entries: self.rewinds.counts.entries,
            rewound_keys: self.rewinds.counts.keys,
        }
    }

    /// The log that all share.
    pub fn log(&self) -> &Log {
        self.log.get()
    }

    /// What the log lacks, so that writes are refused.
    pub fn lacking(&self) -> Option<Lacking> {
        self.log.lacking()
    }

    /// For how long the disk has not answered, if that is too long.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.log.stalled_for(self.now.monotonic)
    }

    /// Whether nothing is taken any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Bytes of replies that wait for their commits.
    pub fn waiting_bytes(&self) -> usize {
        let waiting = self.all.values().flat_map(|shard| &shard.waiting);
        waiting.map(|waiting| waiting.reply.len()).sum()
    }

    /// How far the copies are that fill replicas here.
    pub fn copies(&self) -> Vec<CopyProgress> {
        self.copies.progress(self.now.monotonic)
    }

    /// The files of what failovers lost.
    pub fn rewound_files(&self) -> io::Result<Vec<Value>> {
        self.rewinds.files.list()
    }

    /// Lines of one of them from a place on, and the place behind them; 0: that is all.
    pub fn rewound_lines(&self, file: &str, from: u64) -> io::Result<(Vec<u8>, u64)> {
        self.rewinds.files.show(file, from)
    }
}
