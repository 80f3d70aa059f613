//! The commands that an export is made of, as `redis-cli --pipe` takes them.
//!
//! ```text
//! string   SET key value                        [PEXPIREAT key ms]
//! hash     DEL key, HSET key field value…, …    [PEXPIREAT key ms]
//! ```
//! They are of Redis 4 and later, may be done again, and leave what was exported whatever was
//! there before.

use crate::rdb::{PART_BYTES, PART_FIELDS};
use bytes::{Bytes, BytesMut};
use commands::rdb::Value;
use resp::encode_command;

/// All of a key.
pub fn value(key: &Bytes, value: &Value, expires_ms: Option<u64>, out: &mut BytesMut) {
    match value {
        Value::String(value) => encode_command([&b"SET"[..], key, value], out),
        Value::Hash(fields) => {
            begin_hash(key, out);
            hash_fields(key, fields, out);
        }
    }
    expiry(key, expires_ms, out);
}

/// Before the first fields of a hash.
pub fn begin_hash(key: &Bytes, out: &mut BytesMut) {
    encode_command([&b"DEL"[..], key], out);
}

/// Some fields of a hash.
pub fn hash_fields(key: &Bytes, fields: &[(Bytes, Bytes)], out: &mut BytesMut) {
    for part in parts(fields) {
        hset(key, part, out);
    }
}

/// When a key expires, behind all that it holds.
pub fn expiry(key: &Bytes, expires_ms: Option<u64>, out: &mut BytesMut) {
    if let Some(at) = expires_ms {
        encode_command([&b"PEXPIREAT"[..], key, at.to_string().as_bytes()], out);
    }
}

pub(crate) fn hset(key: &Bytes, fields: &[(Bytes, Bytes)], out: &mut BytesMut) {
    let pairs = fields.iter().flat_map(|(f, v)| [&f[..], &v[..]]);
    let args: Vec<&[u8]> = [&b"HSET"[..], key].into_iter().chain(pairs).collect();
    encode_command(args, out);
}

/// `fields` in slices of at most [`PART_FIELDS`] and about [`PART_BYTES`].
pub fn parts(fields: &[(Bytes, Bytes)]) -> impl Iterator<Item = &[(Bytes, Bytes)]> {
    let mut rest = fields;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(field, value): &&(Bytes, Bytes)| {
            let before = bytes;
            bytes += (field.len() + value.len()) as u64;
            before == 0 || bytes <= PART_BYTES
        };
        let count = rest.iter().take(PART_FIELDS).take_while(fits).count();
        let (part, more) = rest.split_at(count);
        rest = more;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn a_key_becomes_commands() {
        let mut out = BytesMut::new();
        value(
            &bytes("k"),
            &Value::String(bytes("v\r\n")),
            Some(7),
            &mut out,
        );
        let hash = Value::Hash(vec![(bytes("f"), bytes("")), (bytes("g"), bytes("2"))]);
        value(&bytes("h"), &hash, None, &mut out);
        let wanted = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nv\r\n\r\n\
                      *3\r\n$9\r\nPEXPIREAT\r\n$1\r\nk\r\n$1\r\n7\r\n\
                      *2\r\n$3\r\nDEL\r\n$1\r\nh\r\n\
                      *6\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\nf\r\n$0\r\n\r\n$1\r\ng\r\n$1\r\n2\r\n";
        assert_eq!(
            out.escape_ascii().to_string(),
            wanted.as_bytes().escape_ascii().to_string()
        );
    }

    #[test]
    fn parts_are_bounded_and_lose_nothing() {
        let field =
            |n: usize, bytes: usize| (Bytes::from(n.to_string()), Bytes::from(vec![b'x'; bytes]));
        let mut fields: Vec<_> = (0..10_000).map(|n| field(n, 10)).collect();
        fields.extend((0..7).map(|n| field(n, 3 << 20)));
        fields.push(field(8, 9 << 20));
        let all: Vec<_> = parts(&fields).flatten().cloned().collect();
        assert_eq!(all, fields);
        for part in parts(&fields) {
            let bytes: usize = part.iter().map(|(f, v)| f.len() + v.len()).sum();
            assert!(part.len() <= PART_FIELDS);
            assert!(
                part.len() == 1 || bytes as u64 <= PART_BYTES,
                "{} {bytes}",
                part.len()
            );
        }
        assert_eq!(parts(&[]).count(), 0);
    }
}
