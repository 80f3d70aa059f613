//! From the files of a directory back to a log: replay, and the judgement on its end.
//!
//! Batches are read in order to the first place that holds no valid one. What that place means:
//!
//! | where | what follows it | verdict |
//! |---|---|---|
//! | before the last segment | the next segment, begun only when this one was durable | corrupt |
//! | last segment | a batch of this segment whose header records durability beyond the place | corrupt |
//! | last segment, something but zeros | no such batch | torn tail: cut |
//! | last segment, zeros | a batch of this segment, written but never synced | torn tail: cut |
//! | last segment, zeros | nothing of this segment | the end |
//!
//! A cut makes the place unmistakably unfinished, zeroes and syncs the rest of the segment, and
//! is completed by the opening mark, which records it; so a power loss during recovery leads
//! back here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::extent::Extent;
use super::flush::{SPARES_MAX, Spare, sync_file, write_zeros};
use super::format::{
    BATCH_HEADER_BYTES, BATCH_MAGIC, BadHeader, BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::segment::{BatchReader, Index, LIVE, NEW, SPARE, Segment, Step, file_name, sequence_of};
use super::{LiveSegment, LogError, Lsn, OpenError, Record};
use crate::disk::{Disk, DiskFile};
use model::codec::NUMBER_MAX;

const SCAN_BYTES: usize = 256 << 10;
/// Positions, incarnations and sequence numbers above are damage, though their checksum holds.
const REACHED_MAX: u64 = NUMBER_MAX / 2;
/// Not a batch, not zeros.
const UNFINISHED_CUT: &[u8; 8] = b"QUIRECUT";

/// What the files held.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) segments: VecDeque<LiveSegment>,
    pub(super) spares: Vec<Spare>,
    /// The greatest that was found; 0 for a new log.
    pub(super) incarnation: u64,
    pub(super) tip: Lsn,
    /// Checksum of the last batch's header.
    pub(super) chain: u32,
    /// The last cut of a torn tail.
    pub(super) cut: Option<Lsn>,
    /// That cut was made just now and is not recorded yet.
    pub(super) cut_now: bool,
    /// Whether the last batch is that of a log that was closed.
    pub(super) closed: bool,
    /// How far the log reaches, as the disk says.
    pub(super) extent: Option<Extent>,
}

pub(super) fn recover<E>(
    disk: &dyn Disk,
    segment_bytes: u64,
    visit: &mut dyn FnMut(Lsn, Record) -> Result<(), E>,
) -> Result<Recovered, OpenError<E>> {
    let mut recovered = Recovered {
        closed: true, // nothing was ever in it
        ..Recovered::default()
    };
    let segments = open_segments(disk, segment_bytes, &mut recovered)?;
    let mut expected: Option<(Lsn, u32)> = None;
    for (i, segment) in segments.iter().enumerate() {
        let header = &segment.header;
        let (first, chain) = expected.unwrap_or((header.first, header.chain));
        if (header.first, header.chain) != (first, chain) {
            let what = "the segment does not follow the one before it";
            return Err(segment.corrupt(header.first, what).into());
        }
        recovered.incarnation = recovered.incarnation.max(header.incarnation);
        if header.cut {
            recovered.cut = Some(header.first);
        }
        let next = segments.get(i + 1).map(|next| next.header.first);
        let (end, chain) = replay(segment, next, &mut recovered, visit)?;
        expected = Some((end, chain));
    }
    (recovered.tip, recovered.chain) = expected.unwrap_or_default();
    Ok(recovered)
}

/// Replays one segment and, if it is the last (`next` is none), settles its end. Returns the
/// position and the chain behind its last batch.
fn replay<E>(
    segment: &Arc<Segment>,
    next: Option<Lsn>,
    recovered: &mut Recovered,
    visit: &mut dyn FnMut(Lsn, Record) -> Result<(), E>,
) -> Result<(Lsn, u32), OpenError<E>> {
    let first = segment.header.first;
    let file_end = segment.lsn_at(segment.header.bytes);
    let limit = next.unwrap_or(file_end);
    if !(first..=file_end).contains(&limit) {
        let what = "the next segment does not follow this one";
        return Err(segment.corrupt(first, what).into());
    }
    let mut chain = segment.header.chain;
    let mut index = Index::default();
    let mut reader = BatchReader::new(segment, first, limit, Some(chain));
    let found = loop {
        let begin = reader.at();
        let batch = match reader.next()? {
            Step::Batch(batch) => batch,
            Step::End => break None,
            Step::Damaged(what) => break Some(what),
        };
        index.note(begin);
        chain = batch.crc;
        recovered.closed = batch.header.closed;
        recovered.incarnation = recovered.incarnation.max(batch.header.incarnation);
        if batch.header.cut {
            recovered.cut = Some(begin);
        }
        for record in batch.records() {
            // Its checksum held: this was written so, and no cut can cure it.
            let (lsn, record) = record.map_err(|what| segment.corrupt(begin, what))?;
            visit(lsn, record).map_err(OpenError::Visit)?;
        }
    };
    let at = reader.at();
    let numbers = [at.0, recovered.incarnation, segment.header.sequence];
    if numbers.into_iter().any(|number| number > REACHED_MAX) {
        // What is written next would count beyond what can be read back.
        let what = "a number that no log reaches";
        return Err(segment.corrupt(at, what).into());
    }
    if next.is_none() {
        settle_end(segment, at, found, recovered)?;
    } else if at != limit {
        let what = found.unwrap_or("zeros where there were batches");
        return Err(segment.corrupt(at, what).into());
    }
    recovered.segments.push_back(LiveSegment {
        segment: Arc::clone(segment),
        index,
    });
    Ok((at, chain))
}

fn settle_end(
    segment: &Segment,
    at: Lsn,
    found: Option<&'static str>,
    recovered: &mut Recovered,
) -> Result<(), LogError> {
    let durable_beyond = later_durable(segment, at)?;
    if durable_beyond.is_some_and(|durable| durable > at) {
        let what = found.unwrap_or("zeros where there was a durable batch");
        return Err(segment.corrupt(at, what));
    }
    if found.is_some() || durable_beyond.is_some() {
        tracing::warn!(file = segment.name(), %at, "cutting the torn tail of the log");
        cut(segment, at)?;
        recovered.cut = Some(at);
        recovered.cut_now = true;
        recovered.closed = false;
    }
    // What a crashed process wrote may still be in memory only; from here on it counts.
    sync_file(&*segment.file, || segment.name())
}

/// Looks behind `at` for headers of batches that were written to this place of this segment;
/// returns the greatest durable position that they record.
fn later_durable(segment: &Segment, at: Lsn) -> Result<Option<Lsn>, LogError> {
    let mut found: Option<Lsn> = None;
    let mut offset = segment.offset_of(at) + 1;
    let mut buffer = vec![0; SCAN_BYTES];
    loop {
        let n = read(segment, offset, &mut buffer)?;
        let window = &buffer[..n];
        for (i, bytes) in window.windows(BATCH_HEADER_BYTES).enumerate() {
            if bytes[0] != BATCH_MAGIC[0] {
                continue;
            }
            if let Some((header, _)) = BatchHeader::decode(bytes)
                && header.sequence == segment.header.sequence
                && header.begin == segment.lsn_at(offset + i as u64)
            {
                found = found.max(Some(header.durable));
            }
        }
        if n < buffer.len() {
            return Ok(found);
        }
        // A header may lie across the border of two windows.
        offset += (n - BATCH_HEADER_BYTES + 1) as u64;
    }
}

fn cut(segment: &Segment, at: Lsn) -> Result<(), LogError> {
    let offset = segment.offset_of(at);
    let write = |result: std::io::Result<()>| result.map_err(|e| segment.io("cut", e));
    let mut place = [0; BATCH_HEADER_BYTES];
    read(segment, offset, &mut place)?;
    if place.iter().all(|b| *b == 0) {
        // Or a power loss from here on would find zeros and nothing behind them: a clean end.
        write(segment.file.write_at(offset, UNFINISHED_CUT))?;
        sync_file(&*segment.file, || segment.name())?;
    }
    let mut buffer = vec![0; SCAN_BYTES];
    let mut from = offset + BATCH_HEADER_BYTES as u64;
    loop {
        let n = read(segment, from, &mut buffer)?;
        if buffer[..n].iter().any(|b| *b != 0) {
            write(write_zeros(&*segment.file, from, from + n as u64))?;
        }
        if n < buffer.len() {
            return sync_file(&*segment.file, || segment.name());
        }
        from += n as u64;
    }
}

fn read(segment: &Segment, offset: u64, into: &mut [u8]) -> Result<usize, LogError> {
    let result = segment.file.read_at(offset, into);
    result.map_err(|source| segment.io("read", source))
}

/// Opens the files of the log in order, collects the spares and clears the rest away.
fn open_segments(
    disk: &dyn Disk,
    segment_bytes: u64,
    recovered: &mut Recovered,
) -> Result<Vec<Arc<Segment>>, LogError> {
    let io = |file: &str, operation, source| LogError::Io {
        file: file.to_owned(),
        operation,
        source,
    };
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut spares = Vec::new();
    for name in disk.list().map_err(|e| io(".", "list", e))? {
        if let Some(sequence) = sequence_of(&name, LIVE) {
            let file = disk.open(&name).map_err(|e| io(&name, "open", e))?;
            let segment = open_segment(&name, sequence, file)?;
            if let Some(last) = segments.last()
                && last.header.sequence + 1 != sequence
            {
                let missing = file_name(last.header.sequence + 1, LIVE);
                return Err(corrupt(
                    missing,
                    segment.header.first,
                    "the file is missing",
                ));
            }
            segments.push(Arc::new(segment));
        } else if let Some(sequence) = sequence_of(&name, SPARE) {
            spares.push((sequence, name));
        } else if sequence_of(&name, NEW).is_some() {
            disk.remove(&name).map_err(|e| io(&name, "remove", e))?;
        }
    }
    recovered.extent = Extent::read(disk)?;
    check_extent(recovered.extent, &segments)?;
    // What a spare of a number that is still to come holds would join the segment of that number.
    let oldest = segments.first().map_or(0, |oldest| oldest.header.sequence);
    for (sequence, name) in spares {
        let file = disk.open(&name).map_err(|e| io(&name, "open", e))?;
        let bytes = file.len().map_err(|e| io(&name, "read", e))?;
        if sequence < oldest && bytes == segment_bytes && recovered.spares.len() < SPARES_MAX {
            recovered.spares.push(Spare { name, file });
        } else {
            disk.remove(&name).map_err(|e| io(&name, "remove", e))?;
        }
    }
    // A spare's name may not be durable yet, and its file must not be used before it is.
    disk.sync_dir().map_err(|source| LogError::SyncFailed {
        file: ".".to_owned(),
        source,
    })?;
    Ok(segments)
}

/// Refuses a log that reaches less far than it did.
fn check_extent(extent: Option<Extent>, segments: &[Arc<Segment>]) -> Result<(), LogError> {
    let Some(Extent { oldest, newest }) = extent else {
        return Ok(());
    };
    let sequence = |segment: Option<&Arc<Segment>>| segment.map(|s| s.header.sequence);
    let first = segments.first().map_or(Lsn(0), |s| s.header.first);
    let missing = |sequence| {
        Err(corrupt(
            file_name(sequence, LIVE),
            first,
            "the file is missing",
        ))
    };
    match (sequence(segments.first()), sequence(segments.last())) {
        (Some(first), _) if first > oldest => missing(oldest),
        (_, Some(last)) if last < newest => missing(newest),
        (None, _) => missing(newest),
        _ => Ok(()),
    }
}

fn open_segment(name: &str, sequence: u64, file: Arc<dyn DiskFile>) -> Result<Segment, LogError> {
    let io = |source| LogError::Io {
        file: name.to_owned(),
        operation: "read",
        source,
    };
    let mut head = [0; SEGMENT_HEADER_BYTES];
    let n = file.read_at(0, &mut head).map_err(io)?;
    let header = SegmentHeader::decode(&head[..n]).map_err(|bad| match bad {
        BadHeader::Damaged => corrupt(name.to_owned(), Lsn(0), "not a segment header"),
        BadHeader::Version(version) => LogError::Version {
            file: name.to_owned(),
            version,
        },
    })?;
    let what = if header.sequence != sequence {
        "the header of another segment"
    } else if header.bytes < (SEGMENT_HEADER_BYTES + BATCH_HEADER_BYTES) as u64
        || file.len().map_err(io)? < header.bytes
    {
        "the file is cut short"
    } else {
        return Ok(Segment { header, file });
    };
    Err(corrupt(name.to_owned(), header.first, what))
}

fn corrupt(file: String, lsn: Lsn, what: &'static str) -> LogError {
    LogError::Corrupt {
        file,
        offset: 0,
        lsn,
        what,
    }
}
