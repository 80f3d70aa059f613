//! One replica on this node: its protocol, its part of the log, its store, and the replies
//! that wait for it.
//!
//! ```text
//! entry appended ─▶ unapplied ── committed ─▶ store ─▶ waiting replies go out
//!            └────▶ tip (at the primary)  ◀── forgets ──┘
//! ```
//!
//! # Records in the shared log, in the stream of the shard's number + 1 (persisted)
//! ```text
//! 1 entry     model::entry
//! 2 truncate  u64 LE: entries above it are forgotten
//! 3 commit    u64 LE: entries up to it are known to be committed
//! 4 reset     u64 LE: the store was copied up to it, or, with 0, is being destroyed; every entry
//!             before this record is forgotten
//! 5 rewind    u64 LE, u64 LE: entries above the first number are forgotten, though they may
//!             have been committed and applied; the second is the epoch of the first of them
//! 6 seal      u64 LE: nothing of an epoch below it is taken in
//! 7 whole     u64 LE: what a cut of the log's tail at this position may have taken is there again
//! 8 note      what its protocol must not forget, in that one's own encoding: the last one counts
//! ```
//!
//! Replayed, the log may begin within a tail that was forgotten later: entries that follow
//! nothing are stepped over, and only at the end they must have been forgotten. Of a shard whose
//! store is lost only what the log holds is noted, so that what nobody else has can be saved.

use crate::{expire::Expiry, log_index::LogIndex, pulse::AtRest, tip::Tip, watched::Watched};
use bytes::Bytes;
use model::{
    Entry, EntryKind, Epoch, KeyspaceId, NodeId, Position, ShardId,
    planted::{self, Bug},
};
use replication::protocol::{Protocol, Recovered, Role, State};
use std::{collections::VecDeque, time::Duration};
use storage::{
    log::{Lsn, Record},
    store::{Pressure, Rows, ShardStore},
};

pub(crate) const ENTRY: u8 = 1;
pub(crate) const TRUNCATE: u8 = 2;
pub(crate) const COMMIT: u8 = 3;
pub(crate) const RESET: u8 = 4;
pub(crate) const REWIND: u8 = 5;
pub(crate) const SEAL: u8 = 6;
pub(crate) const WHOLE: u8 = 7;
pub(crate) const NOTE: u8 = 8;

/// The body of [`REWIND`]: what is kept, and the epoch of the first entry that is not.
pub(crate) fn rewind_body(common: u64, lost: Epoch) -> [u8; 16] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&common.to_le_bytes());
    body[8..].copy_from_slice(&lost.0.to_le_bytes());
    body
}

/// A reply of a primary that goes out once everything up to `position`, which it shows, is in
/// the store.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) position: Position,
    pub(crate) since: Duration,
    pub(crate) target: T,
    /// Whether something was appended for it.
    pub(crate) wrote: bool,
    pub(crate) reply: Bytes,
}

/// The shortest time that writers are slowed down by: timers count milliseconds. Less is owed
/// until it adds up.
const DELAY_MIN: Duration = Duration::from_millis(1);
/// The longest. Only what follows large batches waits so long.
const DELAY_MAX: Duration = Duration::from_millis(200);
/// One replica.
pub(crate) struct Shard<R: Rows, T> {
    pub(crate) id: ShardId,
    /// Whose it is, once the catalog has said so.
    pub(crate) keyspace: Option<KeyspaceId>,
    /// Whether its replicas elect the primary: then no lease, no seal and no rewind is of any concern.
    pub(crate) is_elected: bool,
    /// Who was seen to be primary last, of such a shard.
    pub(crate) leader: Option<NodeId>,
    pub(crate) store: ShardStore<R>,
    /// None until the catalog has said what to be.
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    pub(crate) recovered: Recovered,
    /// In replay: an entry that follows nothing, unless it is forgotten yet.
    gap: Option<String>,
    /// In replay: the store holds what the log took back.
    parted: bool,
    pub(crate) log_index: LogIndex,
    /// Entries in the log that are not in the store yet.
    pub(crate) unapplied: VecDeque<Entry>,
    pub(crate) tip: Tip,
    /// Of a primary: how far it has looked for keys whose time is over.
    pub(crate) expiry: Expiry,
    /// Of a primary: what somebody watches.
    pub(crate) watched: Watched,
    /// By position, ascending.
    pub(crate) waiting: VecDeque<Waiting<T>>,
    /// Its protocol was told what the catalog said last.
    pub(crate) assigned: bool,
    /// It rests, and where.
    pub(crate) rest: Option<AtRest>,
    /// Of a primary: at which entry other replicas may rest.
    pub(crate) rested_at: Option<Position>,
    /// Its place among the [timers](crate::timers).
    pub(crate) timer: Option<Duration>,
    /// It is in the list of those that something happened to, of those that are waited for, or
    /// among those that have keys to expire ([`crate::touched`], [`crate::expire`]).
    pub(crate) touched: bool,
    pub(crate) waited_for: bool,
    pub(crate) expires: Option<u64>,
    /// For which epoch it was sealed last, and where the log has that.
    pub(crate) sealed: Option<(Epoch, Lsn)>,
    /// What its protocol must not forget, and where the log has that.
    pub(crate) note: Option<(Bytes, Lsn)>,
    /// Where a torn tail was cut from the log: what this replica had acknowledged may be missing,
    /// until it has once held all that its primary had committed.
    pub(crate) cut_at: Option<Lsn>,
    /// In replay: the last cut that was made good.
    whole_since: Option<Lsn>,
    /// The committed index that the log was told last.
    pub(crate) commit_noted: u64,
    pub(crate) pressure: Pressure,
    /// No write is evaluated before this moment: the store is behind.
    pub(crate) not_before: Duration,
    /// How much later that should be, and is not yet.
    delay_owed: Duration,
    /// Why the store can't write in the background, if it can't.
    pub(crate) upkeep_error: Option<String>,
    /// Why it stopped, if it did.
    pub(crate) stopped: Option<String>,
    /// What of its store is damaged, if it stopped for that: see `damage`.
    pub(crate) damaged: Option<String>,
    /// Of a damaged one: where its primary's log ended when that was asked.
    pub(crate) fill_upto: Option<Position>,
}

impl<R: Rows, T> Shard<R, T> {
    pub(crate) fn new(id: ShardId, store: ShardStore<R>) -> Self {
        let applied = store.applied().clone();
        let damaged = store.lost_to().map(str::to_owned);
        let mut shard = Shard {
            id,
            keyspace: None,
            is_elected: false,
            leader: None,
            protocol: None,
            recovered: Recovered {
                history: applied.history,
                last: applied.position,
                stamp: applied.stamp,
                first_index: applied.position.index + 1,
                commit: applied.position.index,
                applied: applied.position.index,
                filling: store.is_installing(),
                until: store.rewinding_until(),
                sealed: Epoch(0),
                note: None,
                members: applied.members,
                owes: Position::ZERO,
            },
            gap: None,
            parted: false,
            log_index: LogIndex::default(),
            unapplied: VecDeque::new(),
            tip: Tip::default(),
            expiry: Expiry::default(),
            watched: Watched::default(),
            waiting: VecDeque::new(),
            assigned: false,
            rest: None,
            rested_at: None,
            timer: None,
            touched: false,
            waited_for: false,
            expires: None,
            sealed: None,
            note: None,
            cut_at: None,
            whole_since: None,
            commit_noted: applied.position.index,
            pressure: Pressure::default(),
            not_before: Duration::ZERO,
            delay_owed: Duration::ZERO,
            upkeep_error: None,
            stopped: damaged.clone(),
            damaged,
            fill_upto: None,
            store,
        };
        shard.log_index.reset(applied.position.index + 1);
        shard
    }

    /// Takes in a record of the log as it is replayed. `before` is where the record begins.
    pub(crate) fn replay(&mut self, before: Lsn, record: Record) -> Result<(), String> {
        let numbers = |count: usize| {
            let numbers = record.body.chunks(8).map(|c| c.try_into());
            let numbers: Result<Vec<[u8; 8]>, _> = numbers.collect();
            numbers
                .ok()
                .filter(|n| n.len() == count)
                .ok_or_else(|| format!("record {} of shard {} is malformed", record.kind, self.id))
        };
        let number = || numbers(1).map(|n| u64::from_le_bytes(n[0]));
        match record.kind {
            ENTRY => {
                let entry = Entry::decode(Bytes::copy_from_slice(&record.body))
                    .map_err(|e| format!("log of shard {}: {e}", self.id))?;
                self.replay_entry(before, entry)?;
            }
            TRUNCATE => {
                let after = number()?;
                self.replay_forget(after);
            }
            COMMIT => {
                let commit = number()?;
                self.recovered.commit = self.recovered.commit.max(commit);
            }
            RESET => {
                let at = number()?;
                // Either the copy was finished, and the store is at or above it; or the store
                // says that it is still being filled, and is filled again. A store that was to
                // be destroyed is gone, or as it was.
                self.replay_forget(0);
                self.parted = false;
                self.recovered.owes = Position::ZERO;
                let applied = self.applied().index;
                // What was known of other entries says nothing of those that follow.
                self.recovered.commit = applied;
                self.log_index.reset(at.max(applied) + 1);
                if at == 0 {
                    (self.note, self.recovered.note) = (None, None);
                }
            }
            REWIND => {
                let [common, lost] = numbers(2)?[..] else {
                    return Ok(()); // there are two
                };
                let (common, lost) = (u64::from_le_bytes(common), u64::from_le_bytes(lost));
                let applied = self.store.applied();
                // At or below `common` the store becomes by replay what it was to become. Above
                // it, it is what it was rewound to and what followed; or it is the tail itself,
                // if its own batch was lost.
                self.parted = applied.position.index > common
                    && applied.history.epoch_at(common + 1) == Epoch(lost);
                self.replay_forget(common);
                self.recovered.commit = self.recovered.commit.min(common);
            }
            SEAL => {
                let epoch = Epoch(number()?);
                self.recovered.sealed = self.recovered.sealed.max(epoch);
                self.sealed = Some((self.recovered.sealed, before));
            }
            NOTE => {
                let note = Bytes::copy_from_slice(&record.body);
                self.recovered.note = Some(note.clone());
                self.note = Some((note, before));
            }
            WHOLE => self.whole_since = self.whole_since.max(Some(Lsn(number()?))),
            other => {
                return Err(format!(
                    "log of shard {}: record of kind {other}; a newer version wrote it: upgrade this node",
                    self.id
                ));
            }
        }
        Ok(())
    }

    fn replay_entry(&mut self, before: Lsn, entry: Entry) -> Result<(), String> {
        let index = entry.position.index;
        let applied = self.store.applied().position.index;
        if self.damaged.is_some() {
            self.note_entry(before, &entry);
            return Ok(());
        }
        if self.store.is_installing() {
            self.recovered.owes = self.recovered.owes.max(entry.position);
            return Ok(()); // All of it comes with the copy.
        }
        if index > applied {
            let last = self.recovered.last;
            if entry.position.epoch < last.epoch {
                return Ok(()); // Of a log that the store has left by a copy or a rewind.
            }
            if index != last.index + 1 {
                self.gap.get_or_insert_with(|| format!(
                    "log of shard {}: entry {} follows entry {last}; move this node's data directory away and start it again: it is filled from the other replicas",
                    self.id,
                    entry.position,
                ));
                return Ok(());
            }
            self.recovered.last = entry.position;
            self.recovered.history.note(entry.position);
            self.recovered.stamp = self.recovered.stamp.max(entry.last_stamp());
            let entry = if index == applied + 1 && planted::is(Bug::ReplayOneLate) {
                Entry::new(entry.position, entry.stamp, EntryKind::Barrier, 0, &[])
            } else {
                entry
            };
            self.unapplied.push_back(entry);
        }
        self.log_index.note(index, before);
        Ok(())
    }

    /// In replay, without a store: notes that the log holds an entry.
    fn note_entry(&mut self, before: Lsn, entry: &Entry) {
        let at = entry.position;
        let recovered = &mut self.recovered;
        if at.epoch < recovered.last.epoch {
            return; // Of a log that the store had left by a copy or a rewind.
        }
        if at.index != recovered.last.index + 1 {
            self.replay_forget(at.index.saturating_sub(1));
            if self.recovered.last.index + 1 != at.index {
                self.recovered.history = model::EpochHistory::default();
                self.log_index.reset(at.index);
            }
        }
        self.recovered.last = at;
        self.recovered.history.note(at);
        self.log_index.note(at.index, before);
    }

    /// In replay: forgets the entries above `index`, as far as they are not in the store.
    fn replay_forget(&mut self, index: u64) {
        self.forget_after(index);
        if self.damaged.is_some() {
            let recovered = &mut self.recovered;
            if recovered.last.index > index {
                recovered.history.truncate_after(index);
                let epoch = recovered.history.epoch_at(index);
                recovered.last = match epoch {
                    Epoch(0) => Position::ZERO,
                    epoch => Position { epoch, index },
                };
            }
            return;
        }
        let applied = self.store.applied();
        self.recovered.last = applied.position;
        self.recovered.history = applied.history.clone();
        for entry in &self.unapplied {
            self.recovered.last = entry.position;
            self.recovered.history.note(entry.position);
        }
        // What comes next follows.
        if index <= self.recovered.last.index {
            self.gap = None;
        }
    }

    /// Forgets the entries above `index`.
    pub(crate) fn forget_after(&mut self, index: u64) {
        while self
            .unapplied
            .back()
            .is_some_and(|e| e.position.index > index)
        {
            self.unapplied.pop_back();
        }
        self.log_index.truncate_after(index);
    }

    /// The log's tail was cut there last, now or before.
    pub(crate) fn note_cut(&mut self, cut: Option<Lsn>) {
        self.cut_at = cut.filter(|cut| self.whole_since.is_none_or(|whole| whole < *cut));
    }

    /// What the log and the store hold together, once all records were replayed.
    pub(crate) fn finish_replay(&mut self) -> Result<(), String> {
        if self.damaged.is_some() {
            return Ok(());
        }
        // Without `fsync = always` a loss of power may take REWIND and leave the store's batch.
        let lost = self.store.rewinding_until().is_some_and(|until| {
            let mut waits = self.unapplied.iter().map(|e| e.position);
            waits.any(|at| at.index == until.index && at != until)
        });
        if self.parted || lost {
            tracing::warn!(shard = self.id.0, applied = %self.applied(), "the store holds a tail that was taken back: it is filled anew");
            self.store.begin_install().map_err(|e| e.to_string())?;
            self.gap = None;
            self.replay_forget(0);
            self.log_index.reset(1);
            self.recovered.applied = 0;
            self.recovered.members = Bytes::new();
            self.recovered.filling = true;
            self.recovered.until = None;
        }
        if let Some(gap) = self.gap.take() {
            return Err(gap);
        }
        let applied = self.store.applied().position.index;
        if self.log_index.first > applied + 1 || self.log_index.next <= applied {
            // Nothing but what the store already has was in the log, or not all up to there.
            self.log_index.reset(applied + 1);
        }
        self.recovered.first_index = self.log_index.first;
        self.recovered.commit = self.recovered.commit.min(self.recovered.last.index);
        Ok(())
    }

    /// The store's upkeep, after a batch and now and then: how much writers must slow down.
    pub(crate) fn maintain(&mut self, now: model::Now) {
        match self.store.maintain() {
            Ok(pressure) => {
                self.pressure = pressure;
                self.delay_owed += Duration::from_micros(pressure.delay_us.into());
                if self.delay_owed >= DELAY_MIN {
                    let delay = std::mem::take(&mut self.delay_owed);
                    self.not_before = now.monotonic + delay.min(DELAY_MAX);
                }
                self.upkeep_error = None;
            }
            Err(error) => {
                let text = error.to_string();
                if self.upkeep_error.as_ref() != Some(&text) {
                    tracing::warn!(shard = self.id.0, error = %text, "the store's upkeep fails");
                }
                self.upkeep_error = Some(text);
            }
        }
    }

    /// The epochs of its log.
    pub(crate) fn history(&self) -> &model::EpochHistory {
        let protocol = self.protocol.as_ref();
        protocol.map_or(&self.recovered.history, |s| s.history())
    }

    /// An entry of its own was proposed: later commands see what it does.
    pub(crate) fn proposed(&mut self, entry: &Entry) -> Result<(), commands::ViewError> {
        self.purged(entry)?;
        self.watched.appended(entry);
        Ok(())
    }

    /// One that changes nothing that a command could see: who watches a key is not concerned.
    pub(crate) fn purged(&mut self, entry: &Entry) -> Result<(), commands::ViewError> {
        self.tip.append(entry, &self.store)
    }

    pub(crate) fn state(&self, now: model::Now) -> Option<State> {
        self.protocol.as_ref().map(|s| s.state(now))
    }

    /// Whether it takes writes now.
    pub(crate) fn is_primary(&self, now: model::Now) -> bool {
        self.stopped.is_none() && self.state(now).is_some_and(|s| s.role == Role::Primary)
    }

    /// The position up to which its store can be read.
    pub(crate) fn applied(&self) -> Position {
        self.store.applied().position
    }

    /// Merges committed entries up to `upto` into the store and takes those that wait for
    /// them. A digest entry ends a batch: its snapshot is as of exactly its position.
    pub(crate) fn apply(&mut self, upto: u64) -> Result<Applied, String> {
        let mut done = Applied::default();
        while self
            .unapplied
            .front()
            .is_some_and(|e| e.position.index <= upto)
        {
            let ready = self.unapplied.partition_point(|e| e.position.index <= upto);
            let ends = self
                .unapplied
                .iter()
                .take(ready)
                .position(|e| e.kind == EntryKind::Digest);
            let count = ends.map_or(ready, |at| at + 1);
            let entries: Vec<Entry> = self.unapplied.drain(..count).collect();
            self.store.apply(&entries).map_err(|e| e.to_string())?;
            if let Some(last) = entries.last() {
                self.tip.applied(last.position.index);
            }
            if let (Some(_), Some(last)) = (ends, entries.last()) {
                done.digests.push(last.clone());
                // The rest follows once the snapshot is taken.
                break;
            }
        }
        done.more = self
            .unapplied
            .front()
            .is_some_and(|e| e.position.index <= upto);
        Ok(done)
    }
}

/// What came of applying entries.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Digest entries whose position is the store's now (at most one).
    pub(crate) digests: Vec<Entry>,
    /// Whether committed entries are left.
    pub(crate) more: bool,
}

#[cfg(test)]
mod replay_tests;
