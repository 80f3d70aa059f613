//! What the Raft core reads of a replica's log. The log itself is the host's: here is where its
//! entries stand, of which epoch each is, and the most recent ones.
//!
//! Entries that are no longer in memory are read by the host, for a follower that lags: the core is
//! told to come back when they are there. What it asks for to itself (which entries are committed,
//! whether a change of membership is among them) needs no payload and is answered without.

use super::membership::{Membership, Memberships};
use crate::{consensus::HardState, tail::Tail};
use model::{Entry, EntryKind, EpochHistory, Position, Stamp};
use raft::{
    GetEntriesContext, RaftState, Result, Storage, StorageError,
    eraftpb::{self, EntryType},
    util::limit_size,
};
use std::cell::RefCell;

/// Entries that the core waits for, at most: one question for each member.
const WANTED_MAX: usize = 64;

/// Entries that the core waits for.
struct Wanted {
    from: u64,
    /// How it is told that they are there.
    context: GetEntriesContext,
    /// Whether the host was asked for them.
    is_asked: bool,
}

pub(super) struct LogView {
    pub(super) history: EpochHistory,
    /// The last entry.
    pub(super) last: Position,
    /// The lowest index that the host's log still holds.
    pub(super) first: u64,
    /// Everything up to here is in the store: what a copy of it would begin with.
    pub(super) applied: u64,
    pub(super) tail: Tail,
    pub(super) hard_state: HardState,
    /// Who is in the group, as of what the core has applied up to `members_at` …
    pub(super) members: Membership,
    pub(super) members_at: u64,
    /// … and as of the log.
    pub(super) memberships: Memberships,
    wanted: RefCell<Vec<Wanted>>,
    /// What was read for it just now.
    pub(super) fetched: Vec<Entry>,
}

/// As the core has it. An entry without a command is a barrier for us, and empty for the core only
/// where it made it itself.
pub(super) fn to_core(entry: &Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        term: entry.position.epoch.0,
        index: entry.position.index,
        data: entry.bytes().clone(),
        entry_type: entry_type(entry.kind == EntryKind::Members),
        ..Default::default()
    }
}

/// What the core has to know of an entry.
pub(super) fn entry_type(is_change: bool) -> EntryType {
    match is_change {
        true => EntryType::EntryConfChangeV2,
        false => EntryType::EntryNormal,
    }
}

/// The entry with which a leader begins its term. Each member makes the same one of its place alone:
/// the core sends it empty.
pub(super) fn barrier(at: Position) -> Entry {
    Entry::new(at, Stamp::ZERO, EntryKind::Barrier, 0, &[])
}

/// Whether the core means that one. A change of members may be empty, too.
pub(super) fn is_barrier(core: &eraftpb::Entry) -> bool {
    core.data.is_empty() && core.get_entry_type() == EntryType::EntryNormal
}

impl LogView {
    pub(super) fn new(
        history: EpochHistory,
        last: Position,
        (first, applied): (u64, u64),
        tail: Tail,
        hard_state: HardState,
        (members, memberships): (Membership, Memberships),
    ) -> Self {
        LogView {
            history,
            last,
            first,
            applied,
            tail,
            hard_state,
            members,
            members_at: applied,
            memberships,
            wanted: RefCell::default(),
            fetched: Vec::new(),
        }
    }

    pub(super) fn append(&mut self, entry: Entry) {
        self.last = entry.position;
        self.history.note(entry.position);
        self.tail.push(entry);
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        self.history.truncate_after(index);
        self.memberships.truncate_after(index);
        self.last = self.position_at(index);
        self.tail.truncate_after(index);
    }

    pub(super) fn position_at(&self, index: u64) -> Position {
        Position {
            epoch: self.history.epoch_at(index),
            index,
        }
    }

    /// From where on the core waits for entries that the host was not asked for yet.
    pub(super) fn newly_wanted(&mut self) -> Vec<u64> {
        let new = self.wanted.get_mut().iter_mut().filter(|w| !w.is_asked);
        new.map(|wanted| {
            wanted.is_asked = true;
            wanted.from
        })
        .collect()
    }

    /// Who waits for entries from there on is to be told, and waits no more.
    pub(super) fn take_wanted(&mut self, from: u64) -> Vec<GetEntriesContext> {
        let all = std::mem::take(self.wanted.get_mut());
        let (now, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|w| w.from == from);
        *self.wanted.get_mut() = later;
        now.into_iter().map(|wanted| wanted.context).collect()
    }

    fn in_memory(&self, low: u64, high: u64, bytes_max: usize) -> Option<Vec<eraftpb::Entry>> {
        let recent = self.tail.range(low, high - 1, bytes_max);
        if let Some(recent) = recent {
            return Some(recent.iter().map(to_core).collect());
        }
        let at = (self.fetched.first()).and_then(|e| low.checked_sub(e.position.index))?;
        let fetched = self.fetched.get(usize::try_from(at).ok()?..)?;
        let fetched = fetched.iter().take_while(|e| e.position.index < high);
        let fetched: Vec<_> = fetched.map(to_core).collect();
        (!fetched.is_empty()).then_some(fetched)
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState {
            hard_state: self.hard_state.to_raft(),
            conf_state: self.members.to_core(),
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        let max_size = max_size.into();
        if low < self.first {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if low >= high || high > self.last.index + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        if !context.can_async() {
            let place = |index| {
                let at = self.position_at(index);
                eraftpb::Entry {
                    term: at.epoch.0,
                    index,
                    entry_type: entry_type(self.memberships.is_change(at)),
                    ..Default::default()
                }
            };
            return Ok((low..high).map(place).collect());
        }
        let bytes_max = max_size.map_or(usize::MAX, |max| max as usize);
        match self.in_memory(low, high, bytes_max) {
            Some(mut entries) => {
                limit_size(&mut entries, max_size);
                Ok(entries)
            }
            None => {
                let mut wanted = self.wanted.borrow_mut();
                if wanted.len() < WANTED_MAX {
                    let is_asked = wanted.iter().any(|w| w.from == low);
                    let from = low;
                    wanted.push(Wanted {
                        from,
                        context,
                        is_asked,
                    });
                }
                Err(raft::Error::Store(StorageError::LogTemporarilyUnavailable))
            }
        }
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index > self.last.index {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        Ok(self.history.epoch_at(index).0)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last.index)
    }

    /// Where a follower's copy of the store has to begin at least: the copy itself goes another way.
    fn snapshot(&self, request_index: u64, _to: u64) -> Result<eraftpb::Snapshot> {
        if self.applied == 0 || self.applied < request_index {
            let unavailable = StorageError::SnapshotTemporarilyUnavailable;
            return Err(raft::Error::Store(unavailable));
        }
        Ok(self.copied_at(self.applied))
    }
}

impl LogView {
    /// What the core is told of a copy of the store as of `index`.
    pub(super) fn copied_at(&self, index: u64) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot::default();
        let meta = snapshot.mut_metadata();
        (meta.index, meta.term) = (index, self.history.epoch_at(index).0);
        meta.set_conf_state(self.members.to_core());
        snapshot
    }
}
