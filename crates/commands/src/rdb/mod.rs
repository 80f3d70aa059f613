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
//! nothing in it is trusted: no size in it makes room before the bytes are there.

mod compact;
pub mod crc64;
mod lzf;

use crate::{numbers, rename::Value};
use bytes::Bytes;
use model::entry::WRITE_BYTES_MAX;

/// The version that is written, and the greatest that is read.
const VERSION: u16 = 10;
/// Bytes of version and checksum.
const FOOTER: usize = 10;

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

pub(crate) fn encode(value: &Value) -> Vec<u8> {
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

pub(crate) fn decode(payload: &[u8]) -> Result<Value, Error> {
    let body = payload.len().checked_sub(FOOTER).ok_or(Error::Checksum)?;
    let (body, footer) = payload.split_at(body);
    let (version, checksum) = footer.split_at(2);
    let sum = crc64::of(&payload[..payload.len() - 8]).to_le_bytes();
    if checksum != sum || version.iter().rev().gt(VERSION.to_be_bytes().iter()) {
        return Err(Error::Checksum);
    }
    let mut input = Input {
        rest: body,
        room: WRITE_BYTES_MAX,
    };
    let kind = input.byte().ok_or(Error::Format)?;
    let value = match kind {
        STRING => input.string().map(|value| Value::String(value.into())),
        HASH => input.hash(),
        HASH_ZIPMAP => input.string().and_then(|map| hash(compact::zipmap(&map)?)),
        HASH_ZIPLIST => input
            .string()
            .and_then(|list| hash(compact::ziplist(&list)?)),
        HASH_LISTPACK => input
            .string()
            .and_then(|list| hash(compact::listpack(&list)?)),
        1 | 10 | 14 | 18 => return Err(Error::Type("list")),
        2 | 11 => return Err(Error::Type("set")),
        3 | 5 | 12 | 17 => return Err(Error::Type("sorted set")),
        6 | 7 => return Err(Error::Type("module's value")),
        15 | 19 => return Err(Error::Type("stream")),
        _ => None,
    };
    value.ok_or(Error::Format)
}

/// A hash of fields and values in turn; it has some, and no field twice.
fn hash(flat: Vec<Bytes>) -> Option<Value> {
    let (pairs, odd) = flat.as_chunks::<2>();
    let mut fields: Vec<(Bytes, Bytes)> =
        pairs.iter().map(|[f, v]| (f.clone(), v.clone())).collect();
    fields.sort_unstable();
    let repeated = fields.windows(2).any(|two| two[0].0 == two[1].0);
    (odd.is_empty() && !fields.is_empty() && !repeated).then_some(Value::Hash(fields))
}

/// What is left of a payload, and how many bytes may yet be made of it.
struct Input<'a> {
    rest: &'a [u8],
    room: usize,
}

/// A length, or how a string is encoded instead.
enum Length {
    Bytes(usize),
    Encoded(u8),
}

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
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

    fn plain_length(&mut self) -> Option<usize> {
        match self.length()? {
            Length::Bytes(length) => Some(length),
            Length::Encoded(_) => None,
        }
    }

    fn string(&mut self) -> Option<Vec<u8>> {
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
        let mut flat = Vec::new();
        for _ in 0..2 * count {
            flat.push(self.string()?.into());
        }
        hash(flat)
    }
}

#[cfg(test)]
mod tests;
