//! The log that all replicas here share with the voters' group (docs/adr/0003-the-shared-log):
//! what is on its way to the disk and when it goes, whether there is room and the disk answers, and
//! when a part of it is looked for that nobody needs.
//!
//! ```text
//!  append ─▶ the log's buffer ─ take_flush, by `flush_at` ─▶ the host ─▶ written, synced
//!                                                                            │
//!                protocols are told `durable` ◀─ reached ◀── acknowledgeable up to here
//! ```
//!
//! Always:
//! - What is in the buffer, but for the records of the voters' group, has a moment by which it goes.
//! - `appended` is in the order of the log, and has nothing that its shard has forgotten: an entry
//!   that was cut is not said to be durable.

use crate::{
    shard::{ENTRY, NOTE},
    stall::{DiskWatch, News},
};
use bytes::Bytes;
use model::{Entry, EpochHistory, Now, ShardId};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use storage::log::{
    AppendError, FlushJob, Lacking, Log, LogError, Lsn, Options, Record, Synced, Written,
};

/// The control group's stream.
const CONTROL_STREAM: u64 = 0;
/// How long a full disk is left alone before the log tries again.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(200);
/// Room that is left in the log's buffer for what must not be refused: barriers, what a
/// primary sends us, the control group.
const HEADROOM: usize = 16 << 20;
/// How often it is asked whether a part of the log is free.
const RELEASE_EVERY: Duration = Duration::from_secs(1);
/// Of how many looks for a part of the log that is free one is taken while nothing is written.
const RELEASES_IDLE: u32 = 30;

/// A shard's stream.
fn stream(id: ShardId) -> u64 {
    id.0 + CONTROL_STREAM + 1
}

/// The log, and what is on its way to the disk.
pub(crate) struct SharedLog {
    log: Log,
    /// Bytes that may wait for the disk, at most.
    pending_max: usize,
    /// What is not acknowledgeable yet, and its protocol is to be told of.
    appended: VecDeque<(Lsn, ShardId, Awaited)>,
    /// When what is in the buffer is to be on its way to the disk.
    flush_at: Option<Duration>,
    /// After a full disk: when to try again.
    not_before: Duration,
    disk: DiskWatch,
    releases: Releases,
}

/// When a part of the log is looked for that nobody needs.
#[derive(Debug, Default)]
struct Releases {
    next: Duration,
    /// Where the log ended, and how often a shard had been settled, when it was looked last …
    seen: (Lsn, u64),
    /// … and how often both have been the same since.
    idle: u32,
}

/// What a protocol waits for.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// The entry of this index.
    Entry(u64),
    /// The note of this number.
    Note(u64),
}

/// What of a shard has become acknowledgeable: the last of each that was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The index of an entry.
    pub(crate) entry: Option<u64>,
    /// The number of a note.
    pub(crate) note: Option<u64>,
}

/// What came of the first half of a flush.
pub(crate) enum Flushed {
    /// The log is acknowledgeable up to here.
    To(Lsn),
    /// The disk has no room, or the process no files: it is tried again.
    Lacks(Lacking),
    /// It can't go on.
    Failed(LogError),
}

impl SharedLog {
    /// `stall_after`: how long the disk may leave a write unanswered.
    pub(crate) fn new(log: Log, options: &Options, stall_after: Duration) -> Self {
        SharedLog {
            log,
            pending_max: options.pending_bytes_max,
            appended: VecDeque::new(),
            flush_at: None,
            not_before: Duration::ZERO,
            disk: DiskWatch::new(stall_after),
            releases: Releases::default(),
        }
    }

    /// The log itself, to be looked at.
    pub(crate) fn get(&self) -> &Log {
        &self.log
    }

    /// Where it ends.
    pub(crate) fn tip(&self) -> Lsn {
        self.log.tip()
    }

    // ---- what is appended -------------------------------------------------------------------

    /// Appends a record of the voters' group; whoever does says when it is to be durable.
    pub(crate) fn append_control(&mut self, kind: u8, body: &[u8]) -> Result<Lsn, AppendError> {
        self.log.append(CONTROL_STREAM, kind, &[body])
    }

    /// Appends a record of a shard, to be on its way by `by`.
    pub(crate) fn append(
        &mut self,
        id: ShardId,
        kind: u8,
        body: &[u8],
        by: Duration,
    ) -> Result<Lsn, AppendError> {
        self.flush_by(by);
        self.log.append(stream(id), kind, &[body])
    }

    /// Appends an entry of a shard, to be on its way by `by`. Returns where its record begins.
    pub(crate) fn append_entry(
        &mut self,
        id: ShardId,
        entry: &Entry,
        by: Duration,
    ) -> Result<Lsn, AppendError> {
        let before = self.log.tip();
        let lsn = self.append(id, ENTRY, entry.bytes(), by)?;
        let awaited = Awaited::Entry(entry.position.index);
        self.appended.push_back((lsn, id, awaited));
        Ok(before)
    }

    /// Appends a note of a shard's protocol, to be on its way by `by`.
    pub(crate) fn append_note(
        &mut self,
        id: ShardId,
        number: u64,
        note: &[u8],
        by: Duration,
    ) -> Result<Lsn, AppendError> {
        let lsn = self.append(id, NOTE, note, by)?;
        self.appended.push_back((lsn, id, Awaited::Note(number)));
        Ok(lsn)
    }

    /// Entries of a shard above `index` are not waited for any more.
    pub(crate) fn forget_after(&mut self, id: ShardId, index: u64) {
        self.appended.retain(|(_, shard, awaited)| match awaited {
            Awaited::Entry(at) => *shard != id || *at <= index,
            Awaited::Note(_) => true,
        });
    }

    /// Nothing of a shard is waited for any more.
    pub(crate) fn forget(&mut self, id: ShardId) {
        self.appended.retain(|(_, shard, _)| *shard != id);
    }

    /// How many are waited for.
    pub(crate) fn appended(&self) -> usize {
        self.appended.len()
    }

    /// The log is acknowledgeable up to `durable`: up to what of which shards that is.
    pub(crate) fn reached(&mut self, durable: Lsn) -> BTreeMap<ShardId, Reached> {
        let mut all: BTreeMap<ShardId, Reached> = BTreeMap::new();
        while let Some((lsn, shard, awaited)) = self.appended.front().copied()
            && lsn <= durable
        {
            self.appended.pop_front();
            let reached = all.entry(shard).or_default();
            match awaited {
                Awaited::Entry(index) => reached.entry = Some(index),
                Awaited::Note(number) => reached.note = Some(number),
            }
        }
        all
    }

    // ---- room -------------------------------------------------------------------------------

    /// Whether entries that a primary sends are taken, and what the node writes by itself.
    pub(crate) fn has_room_for_replicas(&self) -> bool {
        self.log.pending_bytes() <= self.pending_max / 2
    }

    /// Bytes that may wait for the disk before clients' writes are not taken.
    pub(crate) fn room_of_clients(&self) -> usize {
        self.pending_max.saturating_sub(HEADROOM)
    }

    /// Whether so many bytes of a client's write are taken now.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.log.pending_bytes() + bytes <= self.room_of_clients()
    }

    /// What it lacks, so that writes are refused.
    pub(crate) fn lacking(&self) -> Option<Lacking> {
        self.log.lacking()
    }

    // ---- on its way to the disk -------------------------------------------------------------

    /// What is in the buffer is to be on its way by `at`.
    pub(crate) fn flush_by(&mut self, at: Duration) {
        self.flush_at = Some(self.flush_at.map_or(at, |before| before.min(at)));
    }

    /// The same, if it has no moment yet.
    pub(crate) fn flush_at_least_by(&mut self, at: Duration) {
        self.flush_at.get_or_insert(at);
    }

    /// When that moment is, and may be used.
    pub(crate) fn flush_at(&self) -> Option<Duration> {
        Some(self.flush_at?.max(self.log.flush_from()?))
    }

    /// What is to be made durable next, if it may begin by now.
    pub(crate) fn take_flush(&mut self, now: Now) -> Option<FlushJob> {
        let at = now.monotonic;
        let due = self.flush_at.is_some_and(|by| by <= at)
            || self.log.sync_due().is_some_and(|by| by <= at);
        if !due || at < self.not_before {
            return None;
        }
        let job = self.log.take_flush(now)?;
        // What is left is as urgent as what was taken.
        self.flush_at = (self.log.pending_bytes() > job.bytes()).then_some(at);
        Some(job)
    }

    /// The first half of a flush has ended.
    pub(crate) fn written(&mut self, done: Written, now: Duration) -> Flushed {
        match self.log.written_to(done) {
            Ok(durable) => Flushed::To(durable),
            Err(error) => match error.lacking() {
                Some(lacking) => {
                    tracing::warn!(%error, "writes are refused");
                    self.not_before = now + NO_SPACE_PAUSE;
                    self.flush_at = Some(self.not_before);
                    Flushed::Lacks(lacking)
                }
                None => Flushed::Failed(error),
            },
        }
    }

    /// The second half of a flush has ended. Returns up to where the log is acknowledgeable.
    pub(crate) fn synced(&mut self, done: Synced) -> Result<Lsn, LogError> {
        self.log.synced(done)
    }

    /// Closes it, so that the next start knows that nothing of it is missing.
    pub(crate) fn close(&mut self) -> Result<Lsn, LogError> {
        self.log.close()
    }

    // ---- the disk ---------------------------------------------------------------------------

    /// Whether the disk has not answered for too long.
    pub(crate) fn is_stalled(&self) -> bool {
        self.disk.is_stalled()
    }

    /// For how long it has not answered, if that is too long.
    pub(crate) fn stalled_for(&self, now: Duration) -> Option<Duration> {
        self.disk.stalled_for(now)
    }

    /// From now on it may take so long.
    pub(crate) fn set_stall_after(&mut self, bound: Duration) {
        self.disk.set_bound(bound);
    }

    /// This node did nothing until `now`.
    pub(crate) fn absent(&mut self, now: Duration) {
        self.disk.absent(now);
    }

    /// Looks whether the disk answers: what of that is new.
    pub(crate) fn look_at_disk(&mut self, now: Duration) -> Option<News> {
        self.disk.look(self.log.outstanding_since(), now)
    }

    // ---- reading back -----------------------------------------------------------------------

    /// Entries of a shard from `from` on, whose record stands at `start` or behind. The log also
    /// holds what was cut or taken back; only what `history` has is given.
    pub(crate) fn entries(
        &self,
        id: ShardId,
        (from, start): (u64, Lsn),
        history: &EpochHistory,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut visit = |_: Lsn, record: Record| {
            if record.stream != stream(id) || record.kind != ENTRY {
                return true;
            }
            let body = Bytes::copy_from_slice(&record.body);
            let Ok(entry) = Entry::decode(body) else {
                return false;
            };
            let next = from + entries.len() as u64;
            let at = entry.position;
            if at.index == next && history.epoch_at(next) == at.epoch {
                bytes += entry.bytes().len();
                entries.push(entry);
            }
            bytes < bytes_max
        };
        // The bound is generous: records of other shards lie between.
        self.log.read(start, 64 << 20, &mut visit)?;
        Ok(entries)
    }

    // ---- giving up old parts ----------------------------------------------------------------

    /// Once in a while: whether it is to be asked which part is free.
    pub(crate) fn is_release_due(&mut self, now: Duration) -> bool {
        let due = now >= self.releases.next;
        if due {
            self.releases.next = now + RELEASE_EVERY;
        }
        due
    }

    /// Whether a part that is free is looked for now, shards having been `settled` so often. While
    /// nothing happens to them nothing becomes free but by the stores, which are in no hurry.
    pub(crate) fn looks_for_free(&mut self, settled: u64, in_a_hurry: bool) -> bool {
        let seen = (self.log.tip(), settled);
        let releases = &mut self.releases;
        let is_idle = seen == releases.seen && !in_a_hurry;
        releases.idle = if is_idle { releases.idle + 1 } else { 0 };
        let looks = releases.idle.is_multiple_of(RELEASES_IDLE);
        if looks {
            releases.seen = seen;
        }
        looks
    }

    /// What is before `lsn` goes.
    pub(crate) fn release_below(&mut self, lsn: Lsn) {
        self.log.release_below(lsn);
    }

    /// What is appended from now on stands in another segment than what was before.
    pub(crate) fn begin_segment(&mut self) {
        self.log.begin_segment();
    }
}
