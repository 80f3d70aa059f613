//! What runs on the threads that sync: one batch to its place, a new segment where it is due,
//! released segments out of the way; then the sync.
//!
//! The [`Writer`] is all that may change files. It travels: the log owns it, a [`FlushJob`]
//! takes it along, [`Written`] brings it back; so batches are written one after the other. The
//! [`SyncJob`] that is left needs the file alone, so the next batch may be written, and synced,
//! meanwhile. What a sync saves is what was written to its file before it began, so that one
//! which ends early says nothing of those before it: they are counted in order.
//!
//! Syncs that overlap have a handle each, their *lane*, opened before what they are to save was
//! written: Linux reports that a page could not be written once to each handle that was open then.
//! With one handle for two syncs the first to look would take the error, and the other, whose
//! batch is lost, would succeed.
//!
//! A segment is begun in an order that leaves no doubt at any moment of a power loss:
//! the one before it is synced; the new file gets its room, header and end mark under a
//! temporary name and is synced; it is renamed; the directory is synced; only then is it used.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::extent::Extent;
use super::format::{BATCH_HEADER_BYTES, BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segment::{NEW, SPARE, Segment, file_name};
use super::{LANES, LogError, Lsn};
use crate::disk::{Disk, DiskFile, is_no_descriptors, is_no_space};

/// How far ahead of the log a fresh segment is filled with zeros (see the module on why).
const ZERO_AHEAD_BYTES: u64 = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Released segments kept for use again.
pub(super) const SPARES_MAX: usize = 2;

/// A batch on its way to the disk.
pub(super) struct Batch {
    /// Room for the header, then the records.
    pub(super) bytes: Vec<u8>,
    pub(super) begin: Lsn,
    pub(super) records: u32,
    /// A torn tail was cut here.
    pub(super) cut: bool,
    /// The log is closed by it.
    pub(super) closed: bool,
    /// Takes no more records.
    pub(super) sealed: bool,
}

/// A released segment's file, waiting for use.
pub(super) struct Spare {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
}

pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) segment_bytes: u64,
    pub(super) incarnation: u64,
    /// The segment that is written to; none before the first batch of a new log.
    pub(super) current: Option<Arc<Segment>>,
    /// Further handles of its file.
    pub(super) lanes: Vec<Arc<dyn DiskFile>>,
    /// Where the next batch goes.
    pub(super) written: Lsn,
    /// Everything below survives a loss of power.
    pub(super) synced: Lsn,
    /// Checksum of the last batch's header.
    pub(super) chain: u32,
    /// Up to where in the current file no write needs new blocks of the file system.
    pub(super) zeroed_to: u64,
    pub(super) spares: Vec<Spare>,
    /// Begun since the log last looked.
    pub(super) started: Vec<Arc<Segment>>,
    /// To be recycled or removed, oldest first.
    pub(super) released: VecDeque<Arc<Segment>>,
    /// The oldest segment that is not released.
    pub(super) oldest: u64,
    /// What the disk says of how far the log reaches.
    pub(super) extent: Option<Extent>,
    /// The next batch begins a segment.
    pub(super) rotate: bool,
}

/// The first half of a flush. Run it where blocking is allowed; a job that is dropped stops the
/// log.
#[must_use]
pub struct FlushJob {
    pub(super) writer: Writer,
    pub(super) batch: Option<Batch>,
    /// The lane of the sync that follows, if one is due.
    pub(super) sync: Option<usize>,
}

/// What became of it, for [`Log::written_to`](super::Log::written_to).
#[must_use]
pub struct Written {
    pub(super) writer: Writer,
    pub(super) batch: Option<Batch>,
    pub(super) result: Result<(), LogError>,
}

/// The second half of a flush: the sync, if one is due. Run it where blocking is allowed; a job
/// that is dropped keeps everything that was written since from being durable.
#[must_use]
pub struct SyncJob {
    /// Its lane, if a sync is due.
    lane: Option<usize>,
    /// What is to be synced, and by which handle; none of a log that has no segment yet.
    file: Option<(Arc<Segment>, Arc<dyn DiskFile>)>,
    /// Up to where its batch and those before it were written.
    upto: Lsn,
}

/// What became of it, for [`Log::synced`](super::Log::synced).
#[must_use]
pub struct Synced {
    pub(super) lane: Option<usize>,
    pub(super) upto: Lsn,
    pub(super) result: Result<(), LogError>,
}

impl FlushJob {
    /// How many bytes it writes.
    pub fn bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes.len())
    }

    /// Writes; blocks for as long as the system takes. The log wants the first before the
    /// result of the second.
    pub fn write(mut self) -> (Written, SyncJob) {
        let result = self.try_write();
        // A full disk is no reason to leave what was written before unsynced.
        let upto = self.writer.written;
        let file = self.sync.zip(self.writer.current.clone());
        let sync = SyncJob {
            lane: self.sync,
            file: file.map(|(lane, segment)| {
                let file = self.writer.lane(lane, &segment);
                (segment, file)
            }),
            upto,
        };
        let written = Written {
            writer: self.writer,
            batch: self.batch,
            result,
        };
        (written, sync)
    }

    /// Both halves, one after the other.
    pub fn run(self) -> (Written, Synced) {
        let (written, sync) = self.write();
        (written, sync.run())
    }

    fn try_write(&mut self) -> Result<(), LogError> {
        // First, so that what is released makes room for the batch.
        self.writer.recycle()?;
        match &mut self.batch {
            Some(batch) => self.writer.write(batch),
            None => Ok(()),
        }
    }
}

impl SyncJob {
    /// Syncs, if that is due; blocks for as long as the disk takes.
    pub fn run(self) -> Synced {
        let result = match &self.file {
            Some((segment, file)) => sync_file(&**file, || segment.name()),
            None => Ok(()),
        };
        Synced {
            lane: self.lane,
            upto: self.upto,
            result,
        }
    }
}

impl Writer {
    fn write(&mut self, batch: &mut Batch) -> Result<(), LogError> {
        let len = batch.bytes.len();
        let segment = match &self.current {
            Some(segment) if segment.fits(self.written, len) && !self.rotate => Arc::clone(segment),
            _ => self.start_segment(len, batch.cut)?,
        };
        self.note_extent()?;
        let (head, payload) = batch.bytes.split_at_mut(BATCH_HEADER_BYTES);
        let header = BatchHeader {
            payload_len: payload.len() as u32,
            records: batch.records,
            begin: batch.begin,
            durable: self.synced,
            incarnation: self.incarnation,
            sequence: segment.header.sequence,
            chain: self.chain,
            payload_crc: crc32c::crc32c(payload),
            cut: batch.cut,
            closed: batch.closed,
        };
        let crc = header.encode(head);
        // The end mark: where the next batch will be there are zeros, whatever the file held.
        batch.bytes.resize(len + BATCH_HEADER_BYTES, 0);
        let offset = segment.offset_of(self.written);
        let end = offset + batch.bytes.len() as u64;
        let written = segment.file.write_at(offset, &batch.bytes);
        batch.bytes.truncate(len);
        written.map_err(|e| failed(segment.name(), "write", e))?;
        if end > self.zeroed_to {
            let to = (end + ZERO_AHEAD_BYTES).min(segment.header.bytes);
            write_zeros(&*segment.file, end, to).map_err(|e| failed(segment.name(), "write", e))?;
            self.zeroed_to = to;
        }
        self.written.0 += len as u64;
        self.chain = crc;
        Ok(())
    }

    /// Opens a handle of the current segment for each further sync at a time. Where that fails
    /// there are fewer of them.
    pub(super) fn open_lanes(&mut self) {
        self.lanes.clear();
        if let Some(segment) = &self.current {
            for _ in 1..LANES {
                match self.disk.open(&segment.name()) {
                    Ok(file) => self.lanes.push(file),
                    Err(error) => {
                        let file = segment.name();
                        tracing::warn!(%file, %error, "fewer syncs of the log at a time: it can't be opened again");
                        return;
                    }
                }
            }
        }
    }

    fn lane(&self, lane: usize, segment: &Segment) -> Arc<dyn DiskFile> {
        let further = lane.checked_sub(1).and_then(|at| self.lanes.get(at));
        further.unwrap_or(&segment.file).clone()
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if let Some(segment) = &self.current
            && self.synced < self.written
        {
            sync_file(&*segment.file, || segment.name())?;
        }
        self.synced = self.written;
        Ok(())
    }

    fn start_segment(&mut self, batch_len: usize, cut: bool) -> Result<Arc<Segment>, LogError> {
        // So that only the last segment can ever have a torn tail. No other sync is under way.
        self.sync()?;
        let head_len = SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES;
        let header = SegmentHeader {
            sequence: (self.current.as_ref()).map_or(1, |s| s.header.sequence + 1),
            first: self.written,
            bytes: self.segment_bytes.max((head_len + batch_len) as u64),
            incarnation: self.incarnation,
            chain: self.chain,
            cut,
        };
        let spare = if header.bytes == self.segment_bytes {
            self.spares.pop()
        } else {
            None
        };
        let (from, file, zeroed_to) = match spare {
            Some(spare) => (spare.name, spare.file, header.bytes),
            None => {
                let name = file_name(header.sequence, NEW);
                let file = (self.disk.create(&name, header.bytes))
                    .map_err(|e| failed(name.clone(), "create", e))?;
                (name, file, head_len as u64)
            }
        };
        let segment = Arc::new(Segment { header, file });
        let mut head = vec![0; head_len];
        header.encode(&mut head);
        if let Err(error) = segment.file.write_at(0, &head) {
            drop(self.disk.remove(&from)); // the next attempt makes a new one
            return Err(failed(from, "write", error));
        }
        sync_file(&*segment.file, || from.clone())?;
        if let Err(error) = self.disk.rename(&from, &segment.name()) {
            drop(self.disk.remove(&from));
            return Err(failed(from, "rename", error));
        }
        self.sync_dir()?;
        self.rotate = false;
        self.zeroed_to = zeroed_to;
        self.current = Some(Arc::clone(&segment));
        self.started.push(Arc::clone(&segment));
        self.open_lanes();
        Ok(segment)
    }

    /// Oldest first, the directory synced after each: a power loss in between must not leave a
    /// gap in the log. The sync also keeps a recycled file from coming back under its old name
    /// with a new header.
    fn recycle(&mut self) -> Result<(), LogError> {
        if let Some(last) = self.released.back() {
            self.oldest = self.oldest.max(last.header.sequence + 1);
            self.note_extent()?;
        }
        while let Some(segment) = self.released.front() {
            let name = segment.name();
            let spare = file_name(segment.header.sequence, SPARE);
            let keep = self.spares.len() < SPARES_MAX
                && segment.header.bytes == self.segment_bytes
                && self.disk.rename(&name, &spare).is_ok();
            if keep {
                let file = Arc::clone(&segment.file);
                self.spares.push(Spare { name: spare, file });
            } else {
                self.disk
                    .remove(&name)
                    .map_err(|e| failed(name, "remove", e))?;
            }
            self.released.pop_front();
            self.sync_dir()?;
        }
        Ok(())
    }

    /// Tells the disk how far the log reaches, unless it has been told.
    pub(super) fn note_extent(&mut self) -> Result<(), LogError> {
        let Some(segment) = &self.current else {
            return Ok(());
        };
        let newest = segment.header.sequence;
        let oldest = if self.oldest == 0 {
            newest
        } else {
            self.oldest
        };
        let extent = Extent { oldest, newest };
        if self.extent != Some(extent) {
            extent.write(&*self.disk)?;
            self.oldest = oldest;
            self.extent = Some(extent);
        }
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        self.disk.sync_dir().map_err(|source| LogError::SyncFailed {
            file: ".".to_owned(),
            source,
        })
    }
}

/// Zeros from one offset to another.
pub(super) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let n = (to - at).min(ZEROS.len() as u64);
        file.write_at(at, ZEROS.get(..n as usize).unwrap_or(&ZEROS))?;
        at += n;
    }
    Ok(())
}

/// Any failure of a sync is final, a full disk included: what was written since the last one
/// may be gone from memory and disk alike.
pub(super) fn sync_file(
    file: &dyn DiskFile,
    name: impl FnOnce() -> String,
) -> Result<(), LogError> {
    file.sync().map_err(|source| LogError::SyncFailed {
        file: name(),
        source,
    })
}

pub(super) fn failed(file: String, operation: &'static str, source: io::Error) -> LogError {
    if is_no_space(&source) {
        return LogError::NoSpace { file };
    }
    if is_no_descriptors(&source) {
        return LogError::NoDescriptors { file };
    }
    LogError::Io {
        file,
        operation,
        source,
    }
}
