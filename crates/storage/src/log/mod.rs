//! The shared log: the only write-ahead log of a node, shared by its shards.
//!
//! ```text
//! append(stream, kind, body) ──► pending batches ──take_flush──► FlushJob::write   (a sync thread)
//!         │ Lsn                        ▲ no space: kept               │ write
//!         │                            └──────────written_to──────────┤
//!         ▼                                                           ▼
//!   tip() ≥ written() ≥ durable() ◄────────────synced────────── SyncJob::run       (the same)
//!                            │ Lsn that may be acknowledged             fdatasync
//!   read(from) ◄─ segments ◄─┴─ open: replay
//!                     └─ release_below(lsn): recycled
//! ```
//!
//! Goes in: records, each of a stream (one for a shard, one for the control group) and a kind
//! that are the caller's. Comes out: their positions, what may be acknowledged, and the records again in
//! the order of their appending, after a crash or for a replica that catches up.
//!
//! # Positions
//! A [`Lsn`] counts the log's bytes over its whole life, headers of batches included, headers of
//! segments not. **A record's position is where it ends**: it is durable when `durable() >= lsn`,
//! and `read(lsn)` begins with the record after it. `Lsn(0)` is before everything.
//!
//! # Invariants
//! - What is at or below [`Log::acknowledgeable`] survives as far as the [`SyncPolicy`] says;
//!   what is at or below [`Log::durable`] survives a loss of power, or [`Log::open`] says that
//!   it is damaged and where. It is never dropped in silence: a tail that had to be cut is
//!   reported by [`Log::cut`], also by later openings.
//! - One batch is written at a time; what is appended meanwhile goes into the next. That may be
//!   written and synced while earlier ones are synced, up to [`LANES`] at a time, once the latest
//!   has taken [`OVERLAP_AFTER`]: on a fast disk a second sync only makes batches smaller.
//! - A batch is durable when its sync and those of all before it have succeeded.
//! - Only the last segment can have a torn tail: a segment is begun when the one before it is
//!   synced and no sync is under way. Every opening writes and syncs an empty batch, so that all
//!   it replayed is durable and known to be.
//! - States: *running*; *full* ([`Log::is_full`]: the last flush found no room; it is repeated,
//!   byte for byte at its place, until there is); *stopped* (a write or sync failed otherwise).
//!
//! # Files
//! `<sequence, 20 digits>.log` are segments, `.spare` up to two released ones, `.new` one that is
//! being made, `extent` says which segments there must be (`extent`). Integers are little-endian.
//!
//! | segment header: 4096 bytes, zeros behind | |
//! |---|---|
//! | 0..8 | `QUIRELOG` |
//! | 8..12 | version, 1 |
//! | 12..16 | flags; 1: a torn tail was cut at the first position |
//! | 16..24 | sequence number, as in the name |
//! | 24..32 | position at which its first batch begins |
//! | 32..40 | length of the file in bytes |
//! | 40..48 | incarnation: grows by one at every opening |
//! | 48..52 | chain: checksum (60..64) of the last batch header before; 0 if there is none |
//! | 52..60 | zeros |
//! | 60..64 | CRC-32C of 0..60 |
//!
//! | batch: header of 64 bytes, then its records | |
//! |---|---|
//! | 0..4 | `QBAT` |
//! | 4..8 | flags; 1: a torn tail was cut where this batch begins; 2: the log was closed by it |
//! | 8..12 | length of the records in bytes |
//! | 12..16 | number of records; 0 in an opening or closing mark |
//! | 16..24 | position at which the batch begins |
//! | 24..32 | durable position before it was written: damage below is corruption |
//! | 32..40 | incarnation |
//! | 40..48 | sequence number of the segment |
//! | 48..52 | chain: checksum (60..64) of the batch header before |
//! | 52..56 | CRC-32C of the records |
//! | 56..60 | zeros |
//! | 60..64 | CRC-32C of 0..60 |
//!
//! | record | |
//! |---|---|
//! | 0..4 | length of the body |
//! | 4..12 | stream |
//! | 12 | kind |
//! | 13.. | body |
//!
//! Behind the last batch stand 64 zero bytes, the end mark, written with it. Whatever else a
//! recycled segment holds further on can't join: sequence number, position and chain differ.
//!
//! # Room
//! A segment's room is reserved before it is used, so a full disk shows when the next one is
//! made, between batches. Reserved (fallocate) but never written blocks cost each sync an update
//! of the file system's metadata: p50 of a 5 kB write and fdatasync on ext4 was 313 µs, against
//! 165 µs where zeros had been written before. Writing 64 MiB of them at once took 0.3 to 1.4 s,
//! so zeros are written 1 MiB ahead of the log (167 to 189 µs), and a recycled segment needs none.

mod error;
mod extent;
mod flush;
mod format;
mod recovery;
mod scrub;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::Now;

pub use error::{AppendError, Lacking, LogError, OpenError};
pub use flush::{FlushJob, SyncJob, Synced, Written};
pub use model::Lsn;
pub use scrub::{Decay, ScrubLog};

use crate::disk::Disk;
use flush::{Batch, Writer};
use format::{BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, put_record_header};
use segment::{BatchReader, Index, Segment, Step};

/// Lengths in the format are 32 bits wide; far below, so that sums are safe too.
const PENDING_BYTES_LIMIT: usize = 1 << 30;

/// Syncs that may be under way at a time.
pub const LANES: usize = 4;
/// How long after the last flush began the next may, while its sync is under way. A disk of one's
/// own syncs in less, one across a network in more.
const OVERLAP_AFTER: Duration = Duration::from_micros(250);

/// When written bytes are synced, and so what an acknowledgement is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// At every flush: acknowledged is durable.
    Always,
    /// At the first flush that is due so many milliseconds after the last sync: acknowledged is
    /// written, and a loss of power may take that long's worth.
    EveryMs(u32),
    /// When the operating system likes, and when a segment is full: acknowledged is written.
    Os,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of a segment's file. A batch that needs more gets a longer one of its own.
    pub segment_bytes: u64,
    /// A batch takes no further record beyond this; so a flush writes no more, but for a record
    /// that is larger by itself.
    pub batch_bytes_max: usize,
    /// The bound of what waits in memory, the flush under way included; at most 1 GiB.
    pub pending_bytes_max: usize,
    /// When to sync.
    pub sync: SyncPolicy,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            batch_bytes_max: 1 << 20,
            pending_bytes_max: 64 << 20,
            sync: SyncPolicy::Always,
        }
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is, by the caller's numbers.
    pub stream: u64,
    /// What it is, to its owner.
    pub kind: u8,
    /// Its bytes. Shares a buffer of up to 256 KiB with its neighbours: copy what is kept.
    pub body: Bytes,
}

/// A segment with the starts of some of its batches.
struct LiveSegment {
    segment: Arc<Segment>,
    index: Index,
}

/// A sync that is under way, or has succeeded while one before it has not. It keeps its lane.
struct Syncing {
    lane: usize,
    /// [`Now::monotonic`] when its flush was taken; zero for one that runs where it is taken.
    since: Duration,
    /// Up to where it has.
    done: Option<Lsn>,
}

/// The log. One owner appends and reads; [`FlushJob`]s run elsewhere.
pub struct Log {
    options: Options,
    incarnation: u64,
    cut: Option<Lsn>,
    was_closed: bool,
    opened_at: Lsn,
    /// Oldest first; the last one is written to. Empty until a new log's first flush.
    segments: VecDeque<LiveSegment>,
    /// Released, for the next flush to recycle.
    released: VecDeque<Arc<Segment>>,
    /// With the batch that is being written, if one is.
    writer: Option<Writer>,
    /// In order.
    syncing: VecDeque<Syncing>,
    /// [`Now::monotonic`] when the last flush was taken.
    flushed_at: Duration,
    /// Oldest first; only the last may take more records.
    pending: VecDeque<Batch>,
    /// In `pending` and in the flush under way.
    pending_bytes: usize,
    /// Empty buffers to use again: with one batch being written, two are all it takes.
    buffers: Vec<Vec<u8>>,
    tip: Lsn,
    written: Lsn,
    durable: Lsn,
    /// [`Now::monotonic`] at the last flush that synced.
    last_sync: Option<Duration>,
    lacking: Option<Lacking>,
    stopped: bool,
    /// A segment is to be begun with the next batch for which it can be.
    rotate: bool,
}

impl Log {
    /// Replays every record in order into `visit`, cuts a torn tail, and begins a new
    /// incarnation. Blocks on the disk. Refuses damage to what was durable, changing nothing.
    /// A disk without room for the opening mark is no error: the log is open and full.
    pub fn open<E>(
        disk: Arc<dyn Disk>,
        options: Options,
        visit: &mut dyn FnMut(Lsn, Record) -> Result<(), E>,
    ) -> Result<Log, OpenError<E>> {
        let found = recovery::recover(&*disk, options.segment_bytes, visit)?;
        let current = found.segments.back().map(|live| Arc::clone(&live.segment));
        let mut writer = Writer {
            disk,
            segment_bytes: options.segment_bytes.max(SEGMENT_HEADER_BYTES as u64),
            incarnation: found.incarnation + 1,
            zeroed_to: (current.as_ref()).map_or(0, |segment| segment.offset_of(found.tip)),
            current,
            lanes: Vec::new(),
            written: found.tip,
            synced: found.tip,
            chain: found.chain,
            spares: found.spares,
            started: Vec::new(),
            released: VecDeque::new(),
            oldest: (found.segments.front()).map_or(0, |live| live.segment.header.sequence),
            extent: found.extent,
            rotate: false,
        };
        writer.open_lanes();
        let mut log = Log {
            options: Options {
                pending_bytes_max: options.pending_bytes_max.min(PENDING_BYTES_LIMIT),
                ..options
            },
            incarnation: writer.incarnation,
            cut: found.cut,
            was_closed: found.closed,
            opened_at: found.tip,
            segments: found.segments,
            released: VecDeque::new(),
            writer: Some(writer),
            syncing: VecDeque::new(),
            flushed_at: Duration::ZERO,
            pending: VecDeque::new(),
            pending_bytes: 0,
            buffers: Vec::new(),
            tip: found.tip,
            written: found.tip,
            durable: found.tip,
            last_sync: None,
            lacking: None,
            stopped: false,
            rotate: false,
        };
        log.mark(found.cut_now, false);
        match log.flush_here() {
            Err(error) if error.lacking().is_none() => Err(error.into()),
            _ => Ok(log),
        }
    }

    /// Copies a record, given in parts, into the batch that the next flush takes. Returns the
    /// record's position, where it ends.
    pub fn append(&mut self, stream: u64, kind: u8, body: &[&[u8]]) -> Result<Lsn, AppendError> {
        if self.stopped {
            return Err(AppendError::Stopped);
        }
        let body_len: usize = body.iter().map(|part| part.len()).sum();
        let len = RECORD_HEADER_BYTES + body_len;
        let bytes_max = self.body_bytes_max();
        if body_len > bytes_max {
            let bytes = body_len;
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        let pending_bytes_max = self.options.pending_bytes_max;
        if self.pending_bytes + BATCH_HEADER_BYTES + len > pending_bytes_max {
            let pending_bytes = self.pending_bytes;
            return Err(AppendError::Full {
                pending_bytes,
                pending_bytes_max,
            });
        }
        let batch_bytes_max = self.options.batch_bytes_max;
        let open = (self.pending.back())
            .is_some_and(|b| !b.sealed && b.bytes.len() + len <= batch_bytes_max);
        if !open {
            self.begin_batch();
        }
        if let Some(batch) = self.pending.back_mut() {
            if batch.bytes.capacity() - batch.bytes.len() < len {
                // The end mark has room, too: it would double a batch that is one large record.
                batch.bytes.reserve(len + BATCH_HEADER_BYTES);
            }
            put_record_header(&mut batch.bytes, body_len as u32, stream, kind);
            body.iter()
                .for_each(|part| batch.bytes.extend_from_slice(part));
            batch.records += 1;
        }
        self.pending_bytes += len;
        self.tip.0 += len as u64;
        Ok(self.tip)
    }

    /// The longest body that [`Log::append`] ever takes, in bytes.
    pub fn body_bytes_max(&self) -> usize {
        (self.options.pending_bytes_max).saturating_sub(BATCH_HEADER_BYTES + RECORD_HEADER_BYTES)
    }

    /// Where the last appended record ends.
    pub fn tip(&self) -> Lsn {
        self.tip
    }

    /// Up to where records were handed to the operating system and can be read.
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// Up to where records survive a loss of power, whatever the policy.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Up to where the policy lets records be acknowledged: durable under
    /// [`SyncPolicy::Always`], written under the others.
    pub fn acknowledgeable(&self) -> Lsn {
        match self.options.sync {
            SyncPolicy::Always => self.durable,
            SyncPolicy::EveryMs(_) | SyncPolicy::Os => self.written,
        }
    }

    /// Where the log begins: the end of what was released.
    pub fn oldest(&self) -> Lsn {
        (self.segments.front()).map_or(self.tip, |live| live.segment.header.first)
    }

    /// Grows by one at every opening.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Where this opening, or else the last earlier one that is still in the log, cut a torn
    /// tail. With [`SyncPolicy::Always`] that was most likely never acknowledged, but decay of
    /// the last batches looks the same: a replica that finds a cut it has not dealt with
    /// must be refilled before it is heard.
    pub fn cut(&self) -> Option<Lsn> {
        self.cut
    }

    /// Whether the log was closed before this opening, or is new: then nothing that was ever
    /// durable in it is missing, while otherwise its last batches may have decayed and look torn.
    pub fn was_closed(&self) -> bool {
        self.was_closed
    }

    /// Where the log ended when it was opened, less what was cut.
    pub fn opened_at(&self) -> Lsn {
        self.opened_at
    }

    /// What the last flush lacked: refuse writers.
    pub fn lacking(&self) -> Option<Lacking> {
        self.lacking
    }

    /// The disk failed for good: nothing is accepted any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What waits for the disk, the flush under way included, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Number of segments in the log.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Length of all segments' files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|live| live.segment.header.bytes)
            .sum()
    }

    /// When, by [`Now::monotonic`], [`SyncPolicy::EveryMs`] wants the next flush though nothing
    /// was appended.
    pub fn sync_due(&self) -> Option<Duration> {
        match self.options.sync {
            SyncPolicy::EveryMs(ms) if self.durable < self.written => {
                let last = self.last_sync.unwrap_or_default();
                Some(last + Duration::from_millis(u64::from(ms)))
            }
            _ => None,
        }
    }

    /// From when on, by [`Now::monotonic`], the next flush may begin; None if one that is under
    /// way must end first.
    pub fn flush_from(&self) -> Option<Duration> {
        if self.writer.is_some() && self.syncing.is_empty() {
            Some(Duration::ZERO)
        } else if self.syncing.len() < LANES {
            Some(self.flushed_at + OVERLAP_AFTER)
        } else {
            None
        }
    }

    /// When, by [`Now::monotonic`], the oldest flush was taken that is under way, if one is: what
    /// has been asked of the disk and not answered.
    pub fn outstanding_since(&self) -> Option<Duration> {
        let syncing = self.syncing.front().map(|sync| sync.since);
        syncing.or_else(|| self.writer.is_none().then_some(self.flushed_at))
    }

    /// The next flush, unless there is nothing to do, or something that must be over before. After
    /// one that lacked something it is the same one again: let some time pass in between.
    pub fn take_flush(&mut self, now: Now) -> Option<FlushJob> {
        let due = match self.options.sync {
            SyncPolicy::Always => true,
            SyncPolicy::Os => false,
            SyncPolicy::EveryMs(ms) => self
                .last_sync
                .is_none_or(|last| now.monotonic >= last + Duration::from_millis(u64::from(ms))),
        };
        let idle = self.pending.is_empty()
            && self.released.is_empty()
            && !(due && self.durable < self.written);
        if idle || self.flush_from().is_none_or(|from| now.monotonic < from) {
            return None;
        }
        let job = self.take_job(due, now.monotonic)?;
        self.flushed_at = now.monotonic;
        if due {
            self.last_sync = Some(now.monotonic);
        }
        Some(job)
    }

    /// A batch was written, or was not; returns up to where records may now be acknowledged.
    /// What is only [`LogError::lacking`] something passes, any other error is final.
    pub fn written_to(&mut self, done: Written) -> Result<Lsn, LogError> {
        let mut writer = done.writer;
        for segment in writer.started.drain(..) {
            let index = Index::default();
            self.segments.push_back(LiveSegment { segment, index });
        }
        if let Some(batch) = done.batch {
            if batch.begin < writer.written {
                if let Some(live) = self.segments.back_mut() {
                    live.index.note(batch.begin);
                }
                self.pending_bytes -= batch.bytes.len();
                self.keep_buffer(batch.bytes);
            } else {
                self.pending.push_front(batch);
            }
        }
        self.lacking = done.result.as_ref().err().and_then(LogError::lacking);
        self.stopped |= done.result.is_err() && self.lacking.is_none();
        if !self.stopped {
            self.written = writer.written;
            self.durable = self.durable.max(writer.synced);
        }
        self.writer = Some(writer);
        done.result.map(|()| self.acknowledgeable())
    }

    /// A flush's second half has ended; returns up to where records may now be acknowledged.
    /// Any error is final.
    pub fn synced(&mut self, done: Synced) -> Result<Lsn, LogError> {
        if let Err(error) = done.result {
            self.stopped = true;
            return Err(error);
        }
        if self.stopped {
            return Err(LogError::Stopped);
        }
        let sync = (self.syncing.iter_mut()).find(|sync| Some(sync.lane) == done.lane);
        if let Some(sync) = sync {
            sync.done = Some(done.upto);
        }
        while let Some(upto) = self.syncing.front().and_then(|sync| sync.done) {
            self.durable = self.durable.max(upto);
            self.syncing.pop_front();
        }
        Ok(self.acknowledgeable())
    }

    /// Hands out the records behind `from` (a record's position, or what an earlier call
    /// returned), until `visit` returns false, `max_bytes` of bodies are exceeded (one record
    /// is always given), or what may be acknowledged ends. Returns the position of the last one.
    /// Blocks on the disk.
    pub fn read(
        &self,
        from: Lsn,
        max_bytes: usize,
        visit: &mut dyn FnMut(Lsn, Record) -> bool,
    ) -> Result<Lsn, LogError> {
        let oldest = self.oldest();
        if from < oldest {
            return Err(LogError::Released { from, oldest });
        }
        let after = (self.segments).partition_point(|live| live.segment.header.first <= from);
        let end = self.acknowledgeable();
        let mut at = from;
        let mut bytes = 0;
        for i in after.saturating_sub(1)..self.segments.len() {
            let Some(LiveSegment { segment, index }) = self.segments.get(i) else {
                break;
            };
            let limit = (self.segments.get(i + 1)).map_or(end, |next| next.segment.header.first);
            let start = index.start_for(at).unwrap_or(segment.header.first);
            let mut reader = BatchReader::new(segment, start, limit.max(start), None);
            loop {
                let begin = reader.at();
                let batch = match reader.next()? {
                    Step::Batch(batch) => batch,
                    Step::End if begin == reader.at() && begin >= limit => break,
                    Step::End => return Err(segment.corrupt(begin, "zeros in place of a batch")),
                    Step::Damaged(what) => return Err(segment.corrupt(begin, what)),
                };
                let end = batch.end;
                if end <= at {
                    continue;
                }
                for record in batch.records() {
                    let (lsn, record) = record.map_err(|what| segment.corrupt(begin, what))?;
                    if lsn <= at {
                        continue;
                    }
                    at = lsn;
                    bytes += record.body.len();
                    if !visit(lsn, record) || bytes >= max_bytes {
                        return Ok(at);
                    }
                }
                at = at.max(end);
            }
        }
        Ok(at)
    }

    /// Gives up the segments that end at or below `lsn`, all but the one written to. The next
    /// flush recycles or removes their files.
    pub fn release_below(&mut self, lsn: Lsn) {
        while let (Some(_), Some(next)) = (self.segments.front(), self.segments.get(1))
            && next.segment.header.first <= lsn
        {
            let oldest = self.segments.pop_front();
            self.released.extend(oldest.map(|live| live.segment));
        }
    }

    /// The next batch goes into a segment of its own, so that the one written to now can be
    /// released.
    pub fn begin_segment(&mut self) {
        self.rotate = true;
        self.mark(false, false);
    }

    /// Flushes and syncs all there is and marks it as durable, so that the next opening tells
    /// decay of the last batch from a torn tail. Blocks on the disk; no flush may be under way.
    /// Nothing is accepted any more. Dropping a log instead is as a crash of the process.
    pub fn close(&mut self) -> Result<Lsn, LogError> {
        if self.stopped {
            return Err(LogError::Stopped);
        }
        while !self.pending.is_empty() {
            self.flush_here()?;
        }
        let end = self.tip;
        self.mark(false, true);
        self.flush_here()?;
        self.stopped = true;
        Ok(end)
    }

    /// One flush with a sync, on this thread.
    fn flush_here(&mut self) -> Result<Lsn, LogError> {
        let job = self.take_job(true, Duration::ZERO).ok_or(LogError::Busy)?;
        self.run_here(job)
    }

    fn run_here(&mut self, job: FlushJob) -> Result<Lsn, LogError> {
        let (written, synced) = job.run();
        let written = self.written_to(written);
        if self.stopped {
            return written;
        }
        let upto = self.synced(synced)?;
        written.map(|_| upto)
    }

    fn take_job(&mut self, sync: bool, since: Duration) -> Option<FlushJob> {
        if self.stopped {
            return None;
        }
        let lane = self.free_lane()?;
        let mut writer = self.writer.take()?;
        writer.synced = writer.synced.max(self.durable);
        writer.released.append(&mut self.released);
        writer.rotate |= std::mem::take(&mut self.rotate);
        let mut batch = self.pending.pop_front();
        if let Some(batch) = &mut batch {
            batch.sealed = true;
        }
        let sync = sync.then(|| {
            let done = None;
            self.syncing.push_back(Syncing { lane, since, done });
            lane
        });
        Some(FlushJob {
            writer,
            batch,
            sync,
        })
    }

    /// Which handle the next flush may sync by, if it may begin by now.
    fn free_lane(&self) -> Option<usize> {
        let writer = self.writer.as_ref()?;
        if !self.syncing.is_empty() {
            let batch = self.pending.front()?;
            let segment = writer.current.as_ref()?;
            if self.rotate || !segment.fits(writer.written, batch.bytes.len()) {
                return None; // a segment is begun when nothing else is under way
            }
        }
        (0..=writer.lanes.len()).find(|lane| self.syncing.iter().all(|s| s.lane != *lane))
    }

    /// An empty batch, which records how far the log is durable.
    fn mark(&mut self, cut: bool, closed: bool) {
        self.begin_batch();
        if let Some(batch) = self.pending.back_mut() {
            batch.cut = cut;
            batch.closed = closed;
            batch.sealed = true;
        }
    }

    fn begin_batch(&mut self) {
        let mut bytes = self.buffers.pop().unwrap_or_default();
        bytes.resize(BATCH_HEADER_BYTES, 0);
        self.pending.push_back(Batch {
            bytes,
            begin: self.tip,
            records: 0,
            cut: false,
            closed: false,
            sealed: false,
        });
        self.pending_bytes += BATCH_HEADER_BYTES;
        self.tip.0 += BATCH_HEADER_BYTES as u64;
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        // One that grew for a single huge record goes.
        if self.buffers.len() < 2 && buffer.capacity() <= 4 * self.options.batch_bytes_max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}
