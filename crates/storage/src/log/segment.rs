//! A segment's file, its names, and the reading of batches from it.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
    record_header,
};
use super::{LogError, Lsn, Record};
use crate::disk::DiskFile;

/// How much a reader asks the disk for at a time.
const WINDOW_BYTES: usize = 256 << 10;
/// One batch in so many bytes of a segment is remembered, so that reading can start near any
/// position: a thousand numbers for the default segment.
const INDEX_STEP_BYTES: u64 = 64 << 10;

pub(super) const LIVE: &str = "log";
pub(super) const SPARE: &str = "spare";
pub(super) const NEW: &str = "new";

pub(super) fn file_name(sequence: u64, extension: &str) -> String {
    format!("{sequence:020}.{extension}")
}

/// The sequence number in a name that [`file_name`] made with this extension.
pub(super) fn sequence_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let sequence = digits.parse().ok()?;
    (file_name(sequence, extension) == name).then_some(sequence)
}

/// A segment that has its place in the log.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
}

impl Segment {
    pub(super) fn name(&self) -> String {
        file_name(self.header.sequence, LIVE)
    }

    pub(super) fn offset_of(&self, lsn: Lsn) -> u64 {
        SEGMENT_HEADER_BYTES as u64 + (lsn.0 - self.header.first.0)
    }

    pub(super) fn lsn_at(&self, offset: u64) -> Lsn {
        Lsn(self.header.first.0 + (offset - SEGMENT_HEADER_BYTES as u64))
    }

    /// Whether a batch of `len` bytes at `lsn` leaves room for the end mark behind it.
    pub(super) fn fits(&self, lsn: Lsn, len: usize) -> bool {
        self.offset_of(lsn) + (len + BATCH_HEADER_BYTES) as u64 <= self.header.bytes
    }

    pub(super) fn io(&self, operation: &'static str, source: io::Error) -> LogError {
        let file = self.name();
        LogError::Io {
            file,
            operation,
            source,
        }
    }

    pub(super) fn corrupt(&self, lsn: Lsn, what: &'static str) -> LogError {
        LogError::Corrupt {
            file: self.name(),
            offset: self.offset_of(lsn),
            lsn,
            what,
        }
    }
}

/// Starts of some batches of a segment, ascending.
#[derive(Default)]
pub(super) struct Index(Vec<Lsn>);

impl Index {
    pub(super) fn note(&mut self, begin: Lsn) {
        match self.0.last() {
            Some(last) if begin.0 < last.0 + INDEX_STEP_BYTES => {}
            _ => self.0.push(begin),
        }
    }

    /// The last remembered start at or below `lsn`.
    pub(super) fn start_for(&self, lsn: Lsn) -> Option<Lsn> {
        let after = self.0.partition_point(|begin| *begin <= lsn);
        self.0.get(after.checked_sub(1)?).copied()
    }
}

/// What a reader found where a batch may begin.
pub(super) enum Step {
    Batch(Batch),
    /// The limit, or the end mark.
    End,
    /// Neither.
    Damaged(&'static str),
}

/// A batch whose checksums hold.
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    /// The header's checksum.
    pub(super) crc: u32,
    pub(super) end: Lsn,
    payload: Bytes,
}

impl Batch {
    /// The records with their positions.
    pub(super) fn records(self) -> Records {
        Records {
            lsn: self.header.begin.0 + BATCH_HEADER_BYTES as u64,
            left: self.header.records,
            payload: self.payload,
        }
    }
}

/// The records of a batch; `Err` once if they are not what the header said.
pub(super) struct Records {
    lsn: u64,
    left: u32,
    payload: Bytes,
}

impl Iterator for Records {
    type Item = Result<(Lsn, Record), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let rest = std::mem::take(&mut self.payload);
            return (!rest.is_empty()).then_some(Err("bytes behind a batch's last record"));
        }
        self.left -= 1;
        let header = record_header(&self.payload);
        let Some((body_len, stream, kind)) =
            header.filter(|(len, ..)| self.payload.len() - RECORD_HEADER_BYTES >= *len)
        else {
            self.left = 0;
            self.payload.clear();
            return Some(Err("a record reaches beyond its batch"));
        };
        self.payload.advance(RECORD_HEADER_BYTES);
        let body = self.payload.split_to(body_len);
        self.lsn += (RECORD_HEADER_BYTES + body_len) as u64;
        Some(Ok((Lsn(self.lsn), Record { stream, kind, body })))
    }
}

/// Walks the batches of one segment.
pub(super) struct BatchReader<'a> {
    segment: &'a Segment,
    /// Where the next batch begins.
    at: Lsn,
    /// Nothing is read from here on.
    limit: Lsn,
    /// Of the batch before, once known.
    chain: Option<u32>,
    /// Read ahead; begins at `at`.
    window: BytesMut,
}

impl<'a> BatchReader<'a> {
    pub(super) fn new(segment: &'a Segment, at: Lsn, limit: Lsn, chain: Option<u32>) -> Self {
        let window = BytesMut::new();
        BatchReader {
            segment,
            at,
            limit,
            chain,
            window,
        }
    }

    pub(super) fn at(&self) -> Lsn {
        self.at
    }

    pub(super) fn next(&mut self) -> Result<Step, LogError> {
        if self.limit.0 - self.at.0 < BATCH_HEADER_BYTES as u64 {
            return Ok(match self.limit == self.at {
                true => Step::End,
                false => Step::Damaged("too short for a batch"),
            });
        }
        if !self.fill(BATCH_HEADER_BYTES)? {
            return Ok(Step::Damaged("the file is cut short"));
        }
        let head = &self.window[..BATCH_HEADER_BYTES];
        if head.iter().all(|b| *b == 0) {
            return Ok(Step::End);
        }
        let Some((header, crc)) = BatchHeader::decode(head) else {
            return Ok(Step::Damaged("not a batch header"));
        };
        let len = BATCH_HEADER_BYTES + header.payload_len as usize;
        if header.sequence != self.segment.header.sequence || header.begin != self.at {
            return Ok(Step::Damaged("a batch of another place"));
        }
        if header.durable > header.begin || self.chain.is_some_and(|c| c != header.chain) {
            return Ok(Step::Damaged(
                "a batch that does not follow the one before it",
            ));
        }
        if len as u64 > self.limit.0 - self.at.0 {
            return Ok(Step::Damaged("a batch that reaches beyond its segment"));
        }
        if !self.fill(len)? {
            return Ok(Step::Damaged("the file is cut short"));
        }
        if crc32c::crc32c(&self.window[BATCH_HEADER_BYTES..len]) != header.payload_crc {
            return Ok(Step::Damaged("a batch's checksum is wrong"));
        }
        let mut payload = self.window.split_to(len).freeze();
        payload.advance(BATCH_HEADER_BYTES);
        self.at.0 += len as u64;
        self.chain = Some(crc);
        Ok(Step::Batch(Batch {
            header,
            crc,
            end: self.at,
            payload,
        }))
    }

    /// Reads on until the window holds `len` bytes; false if the file ends before.
    fn fill(&mut self, len: usize) -> Result<bool, LogError> {
        let have = self.window.len();
        if have >= len {
            return Ok(true);
        }
        let left = (self.limit.0 - self.at.0) as usize;
        let want = len.max(WINDOW_BYTES).min(left);
        self.window.resize(want, 0);
        let offset = self.segment.offset_of(self.at) + have as u64;
        let into = self.window.get_mut(have..).unwrap_or_default();
        let read = (self.segment.file)
            .read_at(offset, into)
            .map_err(|source| self.segment.io("read", source))?;
        self.window.truncate(have + read);
        Ok(self.window.len() >= len)
    }
}
