//! The group's log as the Raft core reads it: all of it in memory, bounded by compaction. What
//! is here was handed out to be persisted; the core itself keeps track of what is durable.

use super::record::{Checkpoint, Entry, HardState, Recovered, Snapshot};
use raft::{
    Error, GetEntriesContext, RaftState, Result, Storage, StorageError, eraftpb, util::limit_size,
};

pub(super) struct Memory {
    hard_state: HardState,
    /// What `entries` follow; index 0 and no data if there was none yet.
    snapshot: Snapshot,
    /// Consecutive, from `snapshot.index + 1`.
    entries: Vec<eraftpb::Entry>,
}

impl Memory {
    /// `recovered`, with its hard state brought in line: a commit beyond what was kept is only
    /// a hint that outlived its entries, and a term can't be below that of an entry.
    pub(super) fn new(recovered: Recovered, voters: &[u64]) -> Self {
        let mut hs = recovered.hard_state;
        let mut snapshot = recovered.snapshot;
        snapshot.voters = voters.to_vec();
        let last_index = snapshot.index + recovered.entries.len() as u64;
        let last_term = recovered.entries.last().map_or(snapshot.term, |e| e.term);
        hs.commit = hs.commit.clamp(snapshot.index, last_index);
        if hs.term < last_term {
            (hs.term, hs.vote) = (last_term, 0);
        }
        Memory {
            hard_state: hs,
            snapshot,
            entries: recovered
                .entries
                .into_iter()
                .map(Entry::into_raft)
                .collect(),
        }
    }

    pub(super) fn snapshot_ref(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn set_hard_state(&mut self, hs: HardState) {
        self.hard_state = hs;
    }

    fn first(&self) -> u64 {
        self.snapshot.index + 1
    }

    fn last(&self) -> u64 {
        self.snapshot.index + self.entries.len() as u64
    }

    /// Where `index` lies in `entries`, or would.
    fn at(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first())?).ok()
    }

    /// Puts entries that the core made stable; they follow, or replace a tail.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) {
        if let Some(at) = entries.first().and_then(|e| self.at(e.index)) {
            self.entries.truncate(at);
            self.entries.extend_from_slice(entries);
        }
    }

    /// A snapshot from the leader takes the place of everything.
    pub(super) fn install(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.entries.clear();
    }

    /// A snapshot of our own takes the place of what it covers, or the last one is written once
    /// more if nothing is new. None if it covers less, or what isn't there.
    pub(super) fn compact(&mut self, upto: u64, data: bytes::Bytes) -> Option<Checkpoint> {
        if upto == 0 {
            return None;
        }
        if upto != self.snapshot.index {
            let at = self.at(upto)?;
            let term = self.entries.get(at)?.term;
            self.entries.drain(..=at);
            self.snapshot = Snapshot {
                index: upto,
                term,
                voters: self.snapshot.voters.clone(),
                data,
            };
        }
        Some(Checkpoint {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            tail: self.entries.iter().cloned().map(Entry::from_raft).collect(),
        })
    }
}

impl Storage for Memory {
    fn initial_state(&self) -> Result<RaftState> {
        let conf_state = eraftpb::ConfState {
            voters: self.snapshot.voters.clone(),
            ..Default::default()
        };
        Ok(RaftState::new(self.hard_state.to_raft(), conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        let (Some(from), Some(to)) = (self.at(low), self.at(high)) else {
            return Err(Error::Store(StorageError::Compacted));
        };
        let Some(entries) = self.entries.get(from..to) else {
            return Err(Error::Store(StorageError::Unavailable));
        };
        let mut entries = entries.to_vec();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.snapshot.index {
            return Ok(self.snapshot.term);
        }
        let at = self
            .at(index)
            .ok_or(Error::Store(StorageError::Compacted))?;
        self.entries
            .get(at)
            .map(|e| e.term)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<eraftpb::Snapshot> {
        if self.snapshot.index == 0 || self.snapshot.index < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone().into_raft())
    }
}
