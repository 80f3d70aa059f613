//! The bytes of the two headers. The table of them stands in the module's documentation.

use super::Lsn;
use model::codec::NUMBER_MAX;

pub(super) const SEGMENT_MAGIC: &[u8; 8] = b"QUIRELOG";
pub(super) const BATCH_MAGIC: &[u8; 4] = b"QBAT";
pub(super) const VERSION: u32 = 1;
/// A page of its own, so that no append ever rewrites the sector that holds the header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4096;
pub(super) const BATCH_HEADER_BYTES: usize = 64;
pub(super) const RECORD_HEADER_BYTES: usize = 13;
/// Both headers end in the checksum of what comes before it.
const HEADER_CRC_AT: usize = 60;
const FLAG_CUT: u32 = 1;
const FLAG_CLOSED: u32 = 2;

/// What stands at the start of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// 1 for the first segment of a log, then one more each.
    pub(super) sequence: u64,
    /// Where its first batch begins; everything below was durable before this file got its name.
    pub(super) first: Lsn,
    /// The file's length.
    pub(super) bytes: u64,
    pub(super) incarnation: u64,
    /// Checksum of the header of the last batch before this segment; 0 if there is none.
    pub(super) chain: u32,
    /// A torn tail was cut at `first`.
    pub(super) cut: bool,
}

/// What stands before each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) payload_len: u32,
    pub(super) records: u32,
    pub(super) begin: Lsn,
    /// Everything below was synced before this batch was written.
    pub(super) durable: Lsn,
    pub(super) incarnation: u64,
    /// Of the segment it was written to.
    pub(super) sequence: u64,
    /// Checksum of the header before it in the log.
    pub(super) chain: u32,
    pub(super) payload_crc: u32,
    /// A torn tail was cut where this batch begins.
    pub(super) cut: bool,
    /// The last batch of a log that was closed.
    pub(super) closed: bool,
}

/// Why a segment header can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self, into: &mut [u8]) {
        let mut out = Writer(into);
        out.put(SEGMENT_MAGIC);
        out.put(&VERSION.to_le_bytes());
        out.put(&flags(self.cut, false).to_le_bytes());
        out.put(&self.sequence.to_le_bytes());
        out.put(&self.first.0.to_le_bytes());
        out.put(&self.bytes.to_le_bytes());
        out.put(&self.incarnation.to_le_bytes());
        out.put(&self.chain.to_le_bytes());
        out.put(&[0; 8]);
        seal(into);
    }

    pub(super) fn decode(from: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let damaged = BadHeader::Damaged;
        if field(from, 0) != Some(*SEGMENT_MAGIC) {
            return Err(damaged);
        }
        // Before the checksum, which another version may keep elsewhere.
        match u32_at(from, 8) {
            Some(VERSION) => {}
            // A flipped bit must not pass for a newer version: that one has a checksum too.
            Some(version) if checksum(from).is_some() => return Err(BadHeader::Version(version)),
            _ => return Err(damaged),
        }
        checksum(from).ok_or(BadHeader::Damaged)?;
        (|| {
            Some(SegmentHeader {
                cut: u32_at(from, 12)? & FLAG_CUT != 0,
                sequence: u64_at(from, 16)?,
                first: Lsn(u64_at(from, 24)?),
                bytes: u64_at(from, 32)?,
                incarnation: u64_at(from, 40)?,
                chain: u32_at(from, 48)?,
            })
        })()
        .filter(|header| {
            // A checksum is no proof: what is counted on from must not overflow.
            let counts = [header.sequence, header.first.0, header.incarnation];
            counts.into_iter().chain([header.bytes]).all(is_countable)
        })
        .ok_or(BadHeader::Damaged)
    }
}

impl BatchHeader {
    /// Writes the header; returns its checksum, which the next one carries on as `chain`.
    pub(super) fn encode(&self, into: &mut [u8]) -> u32 {
        let mut out = Writer(into);
        out.put(BATCH_MAGIC);
        out.put(&flags(self.cut, self.closed).to_le_bytes());
        out.put(&self.payload_len.to_le_bytes());
        out.put(&self.records.to_le_bytes());
        out.put(&self.begin.0.to_le_bytes());
        out.put(&self.durable.0.to_le_bytes());
        out.put(&self.incarnation.to_le_bytes());
        out.put(&self.sequence.to_le_bytes());
        out.put(&self.chain.to_le_bytes());
        out.put(&self.payload_crc.to_le_bytes());
        out.put(&[0; 4]);
        seal(into)
    }

    /// The header and its checksum, if these bytes are one.
    pub(super) fn decode(from: &[u8]) -> Option<(BatchHeader, u32)> {
        if field(from, 0) != Some(*BATCH_MAGIC) {
            return None;
        }
        let crc = checksum(from)?;
        let header = BatchHeader {
            cut: u32_at(from, 4)? & FLAG_CUT != 0,
            closed: u32_at(from, 4)? & FLAG_CLOSED != 0,
            payload_len: u32_at(from, 8)?,
            records: u32_at(from, 12)?,
            begin: Lsn(u64_at(from, 16)?),
            durable: Lsn(u64_at(from, 24)?),
            incarnation: u64_at(from, 32)?,
            sequence: u64_at(from, 40)?,
            chain: u32_at(from, 48)?,
            payload_crc: u32_at(from, 52)?,
        };
        let counts = [header.begin.0, header.durable.0, header.incarnation];
        counts
            .into_iter()
            .all(is_countable)
            .then_some((header, crc))
    }
}

/// length of the body, stream, kind.
pub(super) fn put_record_header(out: &mut Vec<u8>, body_len: u32, stream: u64, kind: u8) {
    out.extend_from_slice(&body_len.to_le_bytes());
    out.extend_from_slice(&stream.to_le_bytes());
    out.push(kind);
}

/// The body's length, stream and kind of the record at the front of `from`.
pub(super) fn record_header(from: &[u8]) -> Option<(usize, u64, u8)> {
    let kind = *from.get(12)?;
    Some((u32_at(from, 0)? as usize, u64_at(from, 4)?, kind))
}

fn is_countable(number: u64) -> bool {
    number <= NUMBER_MAX
}

fn flags(cut: bool, closed: bool) -> u32 {
    (u32::from(cut) * FLAG_CUT) | (u32::from(closed) * FLAG_CLOSED)
}

fn seal(header: &mut [u8]) -> u32 {
    let crc = header.get(..HEADER_CRC_AT).map_or(0, crc32c::crc32c);
    if let Some(at) = header.get_mut(HEADER_CRC_AT..HEADER_CRC_AT + 4) {
        at.copy_from_slice(&crc.to_le_bytes());
    }
    crc
}

/// The checksum that a header carries, if it is right.
fn checksum(header: &[u8]) -> Option<u32> {
    let crc = crc32c::crc32c(header.get(..HEADER_CRC_AT)?);
    (u32_at(header, HEADER_CRC_AT)? == crc).then_some(crc)
}

fn field<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at + N)?.try_into().ok()
}

fn u32_at(from: &[u8], at: usize) -> Option<u32> {
    field(from, at).map(u32::from_le_bytes)
}

fn u64_at(from: &[u8], at: usize) -> Option<u64> {
    field(from, at).map(u64::from_le_bytes)
}

/// Fills a buffer from its front.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (head, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They would overflow where recovery counts on from them.
    #[test]
    fn numbers_that_no_log_reaches_are_damage_though_the_checksum_holds() {
        let segment = |first, incarnation| {
            let header = SegmentHeader {
                sequence: 1,
                first: Lsn(first),
                bytes: 10 << 10,
                incarnation,
                chain: 0,
                cut: false,
            };
            let mut bytes = [0; 64];
            header.encode(&mut bytes);
            SegmentHeader::decode(&bytes)
        };
        assert!(segment(NUMBER_MAX, NUMBER_MAX).is_ok());
        assert_eq!(segment(u64::MAX - 5000, 1), Err(BadHeader::Damaged));
        assert_eq!(segment(0, u64::MAX), Err(BadHeader::Damaged));
        let batch = |incarnation| {
            let header = BatchHeader {
                payload_len: 0,
                records: 0,
                begin: Lsn(0),
                durable: Lsn(0),
                incarnation,
                sequence: 1,
                chain: 0,
                payload_crc: 0,
                cut: false,
                closed: false,
            };
            let mut bytes = [0; 64];
            header.encode(&mut bytes);
            BatchHeader::decode(&bytes)
        };
        assert!(batch(7).is_some());
        assert!(batch(u64::MAX).is_none());
    }
}
