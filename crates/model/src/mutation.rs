//! The effect of a command: what to write, never the command itself.
//!
//! A mutation is a list of [`Op`]s that one command (later: one transaction) did to one
//! shard; it is applied whole or not at all. The replica that accepted the command has
//! already read what it needed, so each op says the *outcome*, the new header included, and
//! applying it in a sequenced topology reads nothing: header and cells are overwritten.
//!
//! Op number n (from 0) of an entry with stamp s is stamped s + n, so that a deletion and a
//! rewrite of the same key within one mutation are told apart.
//!
//! The stamp of a deletion isn't known when its command is evaluated: what later ops of the same
//! mutation inherit of it, and all else that an op means to whoever applies it, is said by
//! [`fold`](crate::fold).
//!
//! # Bytes
//! Ops follow each other; each is its tag and then, in this order:
//! ```text
//! 1 put string     key, created u8, header, value
//! 2 set fields     key, created u8, header?, n, n × (field, value)
//! 3 remove fields  key, header?, n, n × field
//! 4 set header     key, header
//! 5 delete         key, cells (LEB128), tombstone u8
//! 6 clear
//! ```
//! Byte strings are length-prefixed (LEB128); `header?` is a byte 0, or a byte 1 and a
//! header. Tags and the header's bytes are persisted: numbers are never used again for
//! something else.

use crate::{
    codec::{Malformed, Reader, put_bytes, put_len},
    stamp::Stamp,
};
use bytes::{BufMut, Bytes, BytesMut};

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// Nothing: the key was deleted, and dead cells of it may still wait to be purged.
    Tombstone = 0,
    /// One cell.
    String = 1,
    /// A cell a field.
    Hash = 2,
}

/// What is known of a key without reading its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it holds.
    pub kind: KeyKind,
    /// When it expires, in milliseconds since the Unix epoch, judged against shard time;
    /// 0 for never.
    pub expires_ms: u64,
    /// The context of its last deletion, short form: a field's cell with a stamp at or below
    /// it is dead. Zero if no dead cell can be left.
    pub deleted: Stamp,
    /// Live fields of a hash; 0 for a string. (A sequenced topology keeps it exact; where
    /// writes merge, the merge counts anew.)
    pub fields: u64,
}

impl Header {
    /// A key of `kind` that never expires and has no past.
    pub fn new(kind: KeyKind) -> Self {
        Header {
            kind,
            expires_ms: 0,
            deleted: Stamp::ZERO,
            fields: 0,
        }
    }

    /// Whether the key is there at all at shard time `now_ms`.
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.kind != KeyKind::Tombstone && !self.is_expired(now_ms)
    }

    /// Whether its time is over at shard time `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now_ms
    }

    /// Appends its bytes: kind, expiry, deletion context and field count (LEB128 each but the
    /// first).
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(self.kind as u8);
        put_len(out, self.expires_ms);
        put_len(out, self.deleted.0);
        put_len(out, self.fields);
    }

    /// Reads what [`Header::encode`] wrote.
    pub fn decode(r: &mut Reader) -> Result<Header, Malformed> {
        let kind = match r.u8()? {
            0 => KeyKind::Tombstone,
            1 => KeyKind::String,
            2 => KeyKind::Hash,
            _ => return Err(r.malformed()),
        };
        Ok(Header {
            kind,
            expires_ms: r.len()?,
            deleted: Stamp(r.len()?),
            fields: r.len()?,
        })
    }
}

/// One change of one key. Its strings share the mutation's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The key now holds this string, whatever it held before.
    PutString {
        /// The key.
        key: Bytes,
        /// Whether it was not there before (keeps the count of keys without reading).
        created: bool,
        /// Its header from now on.
        header: Header,
        /// Its value from now on.
        value: Bytes,
    },
    /// These fields of a hash now have these values.
    SetFields {
        /// The key.
        key: Bytes,
        /// Whether it was not there before.
        created: bool,
        /// Its header from now on, if it changed.
        header: Option<Header>,
        /// Field and value.
        fields: Vec<(Bytes, Bytes)>,
    },
    /// These fields of a hash are gone (some remain: else it is a [`Op::Delete`]), or were
    /// dead and are purged.
    RemoveFields {
        /// The key.
        key: Bytes,
        /// Its header from now on, if it changed.
        header: Option<Header>,
        /// The fields.
        fields: Vec<Bytes>,
    },
    /// Only the header changes: expiry set or lifted, or purging is done.
    SetHeader {
        /// The key.
        key: Bytes,
        /// Its header from now on.
        header: Header,
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: Bytes,
        /// How many cells it had: 0 for a string.
        cells: u64,
        /// Whether to leave a tombstone that covers the cells, to be purged in the
        /// background, instead of removing them now.
        tombstone: bool,
    },
    /// Every key of the shard is gone.
    Clear,
}

impl Op {
    /// The key that it changes; None: all of them.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Op::PutString { key, .. }
            | Op::SetFields { key, .. }
            | Op::RemoveFields { key, .. }
            | Op::SetHeader { key, .. }
            | Op::Delete { key, .. } => Some(key),
            Op::Clear => None,
        }
    }
}

/// Above this many cells a deletion leaves a tombstone instead of removing each cell.
pub const DELETE_AT_ONCE_CELLS_MAX: u64 = 64;

/// The ops of one command, encoded as they are added.
#[derive(Clone, Debug, Default)]
pub struct Mutation {
    bytes: BytesMut,
    ops: u16,
}

impl Mutation {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.ops == 0
    }

    /// How many ops it has, and so how many stamps it takes.
    pub fn ops(&self) -> u16 {
        self.ops
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Empties it; its room is kept for the next.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ops = 0;
    }

    fn op(&mut self, tag: u8, key: &[u8]) {
        // A command has far fewer keys than this; a later transaction is cut at its own limit.
        self.ops = self.ops.saturating_add(1);
        self.bytes.put_u8(tag);
        put_bytes(&mut self.bytes, key);
    }

    fn maybe_header(&mut self, header: Option<&Header>) {
        match header {
            None => self.bytes.put_u8(0),
            Some(header) => {
                self.bytes.put_u8(1);
                header.encode(&mut self.bytes);
            }
        }
    }

    /// See [`Op::PutString`].
    pub fn put_string(&mut self, key: &[u8], created: bool, header: &Header, value: &[u8]) {
        self.op(1, key);
        self.bytes.put_u8(created.into());
        header.encode(&mut self.bytes);
        put_bytes(&mut self.bytes, value);
    }

    /// See [`Op::SetFields`].
    pub fn set_fields<'a>(
        &mut self,
        key: &[u8],
        created: bool,
        header: Option<&Header>,
        fields: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        self.op(2, key);
        self.bytes.put_u8(created.into());
        self.maybe_header(header);
        put_len(&mut self.bytes, fields.len() as u64);
        for (field, value) in fields {
            put_bytes(&mut self.bytes, field);
            put_bytes(&mut self.bytes, value);
        }
    }

    /// See [`Op::RemoveFields`].
    pub fn remove_fields<'a>(
        &mut self,
        key: &[u8],
        header: Option<&Header>,
        fields: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        self.op(3, key);
        self.maybe_header(header);
        put_len(&mut self.bytes, fields.len() as u64);
        for field in fields {
            put_bytes(&mut self.bytes, field);
        }
    }

    /// See [`Op::SetHeader`].
    pub fn set_header(&mut self, key: &[u8], header: &Header) {
        self.op(4, key);
        header.encode(&mut self.bytes);
    }

    /// Deletes a key whose header is `header`. See [`Op::Delete`].
    pub fn delete(&mut self, key: &[u8], header: &Header) {
        let tombstone = header.fields > DELETE_AT_ONCE_CELLS_MAX || header.deleted != Stamp::ZERO;
        self.op(5, key);
        put_len(&mut self.bytes, header.fields);
        self.bytes.put_u8(tombstone.into());
    }

    /// The dead cells of a key whose header is `header` are all purged: its context is no
    /// longer needed, and a tombstone itself neither.
    pub fn finish_purge(&mut self, key: &[u8], header: &Header) {
        if header.kind == KeyKind::Tombstone {
            self.op(5, key);
            put_len(&mut self.bytes, 0);
            self.bytes.put_u8(0);
        } else {
            let deleted = Stamp::ZERO;
            self.set_header(key, &Header { deleted, ..*header });
        }
    }

    /// See [`Op::Clear`].
    pub fn clear_shard(&mut self) {
        self.ops = self.ops.saturating_add(1);
        self.bytes.put_u8(6);
    }
}

/// Reads the ops of a mutation, one by one.
#[derive(Clone, Debug)]
pub struct Ops {
    reader: Reader,
}

impl Ops {
    /// The ops in `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        Ops {
            reader: Reader::new("mutation", bytes),
        }
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.reader.malformed()),
        }
    }

    fn maybe_header(&mut self) -> Result<Option<Header>, Malformed> {
        Ok(if self.flag()? {
            Some(Header::decode(&mut self.reader)?)
        } else {
            None
        })
    }

    fn op(&mut self) -> Result<Op, Malformed> {
        let tag = self.reader.u8()?;
        if tag == 6 {
            return Ok(Op::Clear);
        }
        let key = self.reader.bytes()?;
        Ok(match tag {
            1 => Op::PutString {
                key,
                created: self.flag()?,
                header: Header::decode(&mut self.reader)?,
                value: self.reader.bytes()?,
            },
            2 => Op::SetFields {
                key,
                created: self.flag()?,
                header: self.maybe_header()?,
                fields: (0..self.reader.count()?)
                    .map(|_| Ok((self.reader.bytes()?, self.reader.bytes()?)))
                    .collect::<Result<_, Malformed>>()?,
            },
            3 => Op::RemoveFields {
                key,
                header: self.maybe_header()?,
                fields: (0..self.reader.count()?)
                    .map(|_| self.reader.bytes())
                    .collect::<Result<_, Malformed>>()?,
            },
            4 => Op::SetHeader {
                key,
                header: Header::decode(&mut self.reader)?,
            },
            5 => Op::Delete {
                key,
                cells: self.reader.len()?,
                tombstone: self.flag()?,
            },
            _ => return Err(self.reader.malformed()),
        })
    }
}

impl Iterator for Ops {
    type Item = Result<Op, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let op = self.op();
        if op.is_err() {
            // What follows can't be told apart any more.
            self.reader = Reader::new("mutation", Bytes::new());
        }
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ops_read_back_as_added() {
        let header = Header {
            kind: KeyKind::Hash,
            expires_ms: 1_700_000_000_123,
            deleted: Stamp(9),
            fields: 3,
        };
        let plain = Header::new(KeyKind::String);
        let mut m = Mutation::new();
        m.put_string(b"k", true, &plain, b"v");
        m.set_fields(
            b"h",
            false,
            Some(&header),
            [(&b"f"[..], &b"1"[..])].into_iter(),
        );
        m.set_fields(b"h", false, None, [(&b"f"[..], &b"2"[..])].into_iter());
        m.remove_fields(b"h", Some(&header), [&b"f"[..]].into_iter());
        m.set_header(b"h", &header);
        m.delete(b"h", &header);
        m.delete(b"k", &plain);
        m.clear_shard();
        assert_eq!(m.ops(), 8);
        let ops: Vec<Op> = Ops::new(Bytes::copy_from_slice(m.bytes()))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(
            ops,
            vec![
                Op::PutString {
                    key: "k".into(),
                    created: true,
                    header: plain,
                    value: "v".into()
                },
                Op::SetFields {
                    key: "h".into(),
                    created: false,
                    header: Some(header),
                    fields: vec![("f".into(), "1".into())]
                },
                Op::SetFields {
                    key: "h".into(),
                    created: false,
                    header: None,
                    fields: vec![("f".into(), "2".into())]
                },
                Op::RemoveFields {
                    key: "h".into(),
                    header: Some(header),
                    fields: vec!["f".into()]
                },
                Op::SetHeader {
                    key: "h".into(),
                    header
                },
                Op::Delete {
                    key: "h".into(),
                    cells: 3,
                    tombstone: true
                },
                Op::Delete {
                    key: "k".into(),
                    cells: 0,
                    tombstone: false
                },
                Op::Clear,
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for op in Ops::new(Bytes::from(bytes)) {
                let _ = op;
            }
        }
    }
}
