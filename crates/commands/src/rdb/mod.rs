//! The payload of DUMP: a value in the format of Redis's snapshots.
//!
//! ```text
//! type u8 | value | version u16 LE | CRC-64 of all before, u64 LE
//!
//! 0   string   string
//! 4   hash     length, length × (string, string)
//! 9   hash     string that holds a zipmap     ┐
//! 13  hash     string that holds a ziplist    │ read only
//! 16  hash     string that holds a listpack   ┘
//!
//! length   00xxxxxx | 01xxxxxx x8 | 10000000 u32 BE | 10000001 u64 BE
//! string   length, bytes
//!          11000000 i8 | 11000001 i16 LE | 11000010 i32 LE, in decimal digits
//!          11000011 length packed, length unpacked, bytes of LZF
//! ```
//! What is written is the plainest form, that of version 10 (Redis 7.0): any Redis reads it.
//! What is read may be of any version up to that, in any form; it comes from a client, so
//! nothing in it is trusted: no size in it makes room before the bytes are there. A reader of
//! whole snapshots (`transfer`) takes [`value`] and [`Input`] for the values in them.

pub mod compact;
pub mod crc64;
mod lzf;

pub use crate::rename::Value;

use crate::numbers;
use bytes::Bytes;
use model::entry::WRITE_BYTES_MAX;

/// The version that is written, and the greatest that is read.
const VERSION: u16 = 10;

const STRING: u8 = 0;
const HASH: u8 = 4;
const HASH_ZIPMAP: u8 = 9;
const HASH_ZIPLIST: u8 = 13;
const HASH_LISTPACK: u8 = 16;

/// Why a payload is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is of a later version, or damaged.
    Checksum,
    /// Its checksum holds, and yet it makes no sense.
    Format,
    /// It holds a value of this type, which Quire has not.
    Type(&'static str),
}

/// The payload that holds `value`.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::String(value) => {
            out.push(STRING);
            put_string(&mut out, value);
        }
        Value::Hash(fields) => {
            out.push(HASH);
            put_length(&mut out, fields.len());
            for (field, value) in fields {
                put_string(&mut out, field);
                put_string(&mut out, value);
            }
        }
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc64::of(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(0x4000 | length as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    let integer = numbers::parse(string).and_then(|n| i32::try_from(n).ok());
    match integer {
        Some(n) if i8::try_from(n).is_ok() => out.extend_from_slice(&[0xc0, n as u8]),
        Some(n) if i16::try_from(n).is_ok() => {
            out.push(0xc1);
            out.extend_from_slice(&(n as i16).to_le_bytes());
        }
        Some(n) => {
            out.push(0xc2);
            out.extend_from_slice(&n.to_le_bytes());
        }
        None => {
            put_length(out, string.len());
            out.extend_from_slice(string);
        }
    }
}

/// The value in `payload`, of a version up to that which is written.
///
/// # Errors
/// See [`Error`].
pub fn decode(payload: &[u8]) -> Result<Value, Error> {
    match open(payload) {
        Some((..=VERSION, [kind, body @ ..])) => value(*kind, body),
        Some((..=VERSION, [])) => Err(Error::Format),
        _ => Err(Error::Checksum),
    }
}

/// The version of a payload, and its type and value, if its checksum holds.
pub fn open(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (summed, checksum) = payload.split_last_chunk::<8>()?;
    let (body, version) = summed.split_last_chunk::<2>()?;
    (crc64::of(summed).to_le_bytes() == *checksum).then_some((u16::from_le_bytes(*version), body))
}

/// The value whose type is `kind` and whose bytes are `body`, up to [`WRITE_BYTES_MAX`].
///
/// # Errors
/// Bytes that make no sense, and types that Quire has not, by name.
pub fn value(kind: u8, body: &[u8]) -> Result<Value, Error> {
    let mut input = Input::new(body);
    let value = match kind {
        STRING => input.string().map(|value| Value::String(value.into())),
        HASH => input.hash(),
        HASH_ZIPMAP => input.string().and_then(|map| flat(compact::zipmap(&map)?)),
        HASH_ZIPLIST => input
            .string()
            .and_then(|list| flat(compact::ziplist(&list)?)),
        HASH_LISTPACK => input
            .string()
            .and_then(|list| flat(compact::listpack(&list)?)),
        1 | 10 | 14 | 18 => return Err(Error::Type("list")),
        2 | 11 => return Err(Error::Type("set")),
        3 | 5 | 12 | 17 => return Err(Error::Type("sorted set")),
        6 | 7 => return Err(Error::Type("module's value")),
        15 | 19 => return Err(Error::Type("stream")),
        _ => None,
    };
    value.ok_or(Error::Format)
}

/// A hash of fields and values in turn.
fn flat(flat: Vec<Bytes>) -> Option<Value> {
    let (pairs, odd) = flat.as_chunks::<2>();
    let fields = pairs.iter().map(|[f, v]| (f.clone(), v.clone())).collect();
    odd.is_empty().then(|| hash(fields)).flatten()
}

/// A hash of `fields`, sorted by name; it has some, and none twice.
pub fn hash(mut fields: Vec<(Bytes, Bytes)>) -> Option<Value> {
    fields.sort_unstable();
    let repeated = fields.windows(2).any(|two| two[0].0 == two[1].0);
    (!fields.is_empty() && !repeated).then_some(Value::Hash(fields))
}

/// What is left of a payload, and how many bytes may yet be made of it. Bytes that make no sense
/// are answered with None.
pub struct Input<'a> {
    rest: &'a [u8],
    room: usize,
}

/// A length, or how a string is encoded instead.
enum Length {
    Bytes(usize),
    Encoded(u8),
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Input {
            rest: bytes,
            room: WRITE_BYTES_MAX,
        }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next N bytes as they are.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn length(&mut self) -> Option<Length> {
        let first = self.byte()?;
        let length = match first >> 6 {
            0 => u64::from(first),
            1 => u64::from(first & 0x3f) << 8 | u64::from(self.byte()?),
            3 => return Some(Length::Encoded(first & 0x3f)),
            _ if first == 0x80 => u32::from_be_bytes(self.array()?).into(),
            _ if first == 0x81 => u64::from_be_bytes(self.array()?),
            _ => return None,
        };
        usize::try_from(length).ok().map(Length::Bytes)
    }

    /// The next number, if it is one.
    pub fn plain_length(&mut self) -> Option<usize> {
        match self.length()? {
            Length::Bytes(length) => Some(length),
            Length::Encoded(_) => None,
        }
    }

    /// The next string, in whichever encoding.
    pub fn string(&mut self) -> Option<Vec<u8>> {
        let integer = match self.length()? {
            Length::Bytes(length) => return Some(self.take(length)?.to_vec()),
            Length::Encoded(0) => i8::from_le_bytes(self.array()?).into(),
            Length::Encoded(1) => i16::from_le_bytes(self.array()?).into(),
            Length::Encoded(2) => i32::from_le_bytes(self.array()?),
            Length::Encoded(3) => {
                let (packed, unpacked) = (self.plain_length()?, self.plain_length()?);
                self.room = self.room.checked_sub(unpacked)?;
                return lzf::unpack(self.take(packed)?, unpacked);
            }
            Length::Encoded(_) => return None,
        };
        Some(integer.to_string().into_bytes())
    }

    fn hash(&mut self) -> Option<Value> {
        let count = self.plain_length()?;
        // A string takes a byte at least, so that more than these would not be there.
        if count > self.rest.len() {
            return None;
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            fields.push((self.string()?.into(), self.string()?.into()));
        }
        hash(fields)
    }
}

#[cfg(test)]
mod tests;
