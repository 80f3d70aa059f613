//! One entry of a shard's log. It is encoded once, by the primary, and those bytes are what
//! every log holds and every link carries.
//!
//! # Bytes (little-endian)
//! ```text
//! 0   epoch   u64
//! 8   index   u64
//! 16  stamp   u64
//! 24  kind    u8     1 mutation, 2 barrier, 3 digest
//! 25  ops     u16    stamps taken: stamp … stamp + max(ops,1) − 1
//! 27  length  u32    of the payload
//! 31  payload
//! …   crc32c  u32    of all before
//! ```

use crate::{
    codec::{Malformed, Reader},
    id::Epoch,
    position::Position,
    stamp::Stamp,
};
use bytes::{BufMut, Bytes, BytesMut};

/// What an entry is for. The numbers are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// The payload is a [`crate::Mutation`].
    Mutation = 1,
    /// The first entry of an epoch: once it is committed, so is all before it. The payload is
    /// empty.
    Barrier = 2,
    /// Every replica that applies it computes a digest of its data as of this position. The
    /// payload names the request (u64).
    Digest = 3,
    /// Who is in the group from here on, for topologies whose replicas agree on that themselves. The
    /// payload is theirs.
    Members = 4,
}

/// The bytes before the payload.
const HEAD: usize = 31;
/// The bytes around the payload.
pub const OVERHEAD: usize = HEAD + 4;
/// What one command may write, in bytes of its entry's payload. A node copies such an entry several
/// times within a turn of its only thread, in fresh memory: at a gigabyte a second, which is slow for
/// memory, 16 MiB take a fifth of a lease. The log's buffer has room for it beside what must never be
/// refused, and a message between nodes carries it.
pub const WRITE_BYTES_MAX: usize = 16 << 20;
/// How long one command may be, as it is sent: a message between nodes carries that too.
pub const COMMAND_BYTES_MAX: usize = WRITE_BYTES_MAX + (8 << 20);
/// The largest payload that is taken: above the largest command, below what would hurt.
pub const PAYLOAD_MAX: usize = COMMAND_BYTES_MAX;

/// How much room a buffer of [`Entry::new_in`] gets at a time.
const BUFFER_BYTES: usize = 16 << 10;

/// One entry. A clone shares its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where in the shard's log.
    pub position: Position,
    /// The stamp of its first op.
    pub stamp: Stamp,
    /// What it is for.
    pub kind: EntryKind,
    /// How many stamps it takes, less one if that is 0.
    pub ops: u16,
    bytes: Bytes,
}

impl Entry {
    /// Makes an entry, its bytes and its checksum.
    pub fn new(
        position: Position,
        stamp: Stamp,
        kind: EntryKind,
        ops: u16,
        payload: &[u8],
    ) -> Self {
        let mut out = BytesMut::with_capacity(OVERHEAD + payload.len());
        Self::new_in(&mut out, position, stamp, kind, ops, payload)
    }

    /// The same in a buffer that entries which come and go together share; it is empty before and
    /// afterwards.
    pub fn new_in(
        out: &mut BytesMut,
        position: Position,
        stamp: Stamp,
        kind: EntryKind,
        ops: u16,
        payload: &[u8],
    ) -> Self {
        let len = OVERHEAD + payload.len();
        if out.capacity() < len {
            out.reserve(len.max(BUFFER_BYTES));
        }
        out.put_u64_le(position.epoch.0);
        out.put_u64_le(position.index);
        out.put_u64_le(stamp.0);
        out.put_u8(kind as u8);
        out.put_u16_le(ops);
        out.put_u32_le(payload.len() as u32);
        out.put_slice(payload);
        let crc = crc32c::crc32c(out);
        out.put_u32_le(crc);
        Entry {
            position,
            stamp,
            kind,
            ops,
            bytes: out.split().freeze(),
        }
    }

    /// The stamp of its last op: what the shard's clock must pass.
    pub fn last_stamp(&self) -> Stamp {
        Stamp(self.stamp.0 + u64::from(self.ops.max(1)) - 1)
    }

    /// What it carries; shares the entry's bytes.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEAD..self.bytes.len() - 4)
    }

    /// All of it, as on disk and on the wire; shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its checksum. Two entries at one position with different checksums mean that a rule
    /// was broken: the shard stops.
    pub fn checksum(&self) -> u32 {
        let at = self.bytes.len() - 4;
        let mut crc = [0; 4];
        crc.copy_from_slice(&self.bytes[at..]);
        u32::from_le_bytes(crc)
    }

    /// Reads one entry from the front of `reader`; what it holds shares the reader's bytes.
    pub fn read(reader: &mut Reader) -> Result<Entry, Malformed> {
        let whole = reader.clone().rest();
        let position = Position {
            epoch: Epoch(reader.number()?),
            index: reader.number()?,
        };
        let stamp = Stamp(reader.number()?);
        let kind = match reader.u8()? {
            1 => EntryKind::Mutation,
            2 => EntryKind::Barrier,
            3 => EntryKind::Digest,
            4 => EntryKind::Members,
            _ => return Err(Malformed { what: "entry" }),
        };
        let ops = u16::from_le_bytes([reader.u8()?, reader.u8()?]);
        let length = reader.u32()? as usize;
        if length > PAYLOAD_MAX {
            return Err(Malformed { what: "entry" });
        }
        reader.take(length)?;
        let crc = reader.u32()?;
        let bytes = whole.slice(..OVERHEAD + length);
        if crc32c::crc32c(&bytes[..HEAD + length]) != crc {
            return Err(Malformed {
                what: "entry (checksum differs)",
            });
        }
        Ok(Entry {
            position,
            stamp,
            kind,
            ops,
            bytes,
        })
    }

    /// Reads an entry that is all of `bytes`.
    pub fn decode(bytes: Bytes) -> Result<Entry, Malformed> {
        let mut reader = Reader::new("entry", bytes);
        let entry = Entry::read(&mut reader)?;
        if reader.is_empty() {
            Ok(entry)
        } else {
            Err(reader.malformed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::NUMBER_MAX;

    #[test]
    fn bytes_read_back_and_damage_is_seen() {
        let e = Entry::new(
            Position::new(3, 9),
            Stamp(77),
            EntryKind::Mutation,
            2,
            b"abc",
        );
        assert_eq!(Entry::decode(e.bytes().clone()).unwrap(), e);
        assert_eq!(e.last_stamp(), Stamp(78));
        assert_eq!(e.payload(), "abc");
        for at in 0..e.bytes().len() {
            let mut damaged = e.bytes().to_vec();
            damaged[at] ^= 0x10;
            assert!(Entry::decode(damaged.into()).is_err(), "byte {at}");
        }
        for end in 0..e.bytes().len() {
            assert!(Entry::decode(e.bytes().slice(..end)).is_err());
        }
    }

    #[test]
    fn numbers_that_could_not_be_counted_on_from_are_refused() {
        let (most, more) = (NUMBER_MAX, NUMBER_MAX + 1);
        let decode = |epoch, index, stamp| {
            let position = Position::new(epoch, index);
            let entry = Entry::new(position, Stamp(stamp), EntryKind::Mutation, u16::MAX, b"");
            Entry::decode(entry.bytes().clone())
        };
        let last = decode(most, most, most).unwrap().last_stamp();
        assert_eq!(last, Stamp(most + u64::from(u16::MAX) - 1));
        for (epoch, index, stamp) in [(more, 1, 1), (1, more, 1), (1, 1, u64::MAX)] {
            assert!(decode(epoch, index, stamp).is_err());
        }
    }
}
