//! What a running server answers about a key.
//!
//! First its type and about how large it is are asked for; then, in one transaction of as many
//! keys as are small together, when each expires and what it holds. So both are of one moment,
//! and a key's time is a moment, not how long it has left.

use crate::fields::{self, Expiring, Parsed};
use bytes::Bytes;
use commands::rdb::Value;
use resp::Frame;

/// Bytes, about, of a hash that is read in parts.
pub const LARGE_BYTES: u64 = 4 << 20;

/// What was found out about a key before its value is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// It is gone.
    Gone,
    /// About so many bytes.
    Small(u64),
    /// A hash of so many bytes.
    LargeHash(u64),
    /// Quire has no type for it.
    Other(String),
}

/// What TYPE and MEMORY USAGE say. A server that refuses the latter is asked for each value
/// alone.
pub fn facts(kind: &Frame, usage: &Frame) -> Facts {
    let kind = kind
        .as_bytes()
        .map(|kind| String::from_utf8_lossy(kind).into_owned());
    let bytes = usage
        .as_integer()
        .and_then(|bytes| u64::try_from(bytes).ok());
    match (kind.as_deref(), bytes) {
        (Some("none"), _) | (None, None) => Facts::Gone,
        (Some("hash"), Some(bytes)) if bytes > LARGE_BYTES => Facts::LargeHash(bytes),
        // Quire itself says only how large a hash is that it can give at once.
        (Some("hash"), None) if usage.as_error().is_some_and(is_too_much) => {
            Facts::LargeHash(u64::MAX)
        }
        (Some("string" | "hash"), bytes) => Facts::Small(bytes.unwrap_or(LARGE_BYTES)),
        (Some("zset"), _) => Facts::Other("sorted set".into()),
        (Some(known @ ("list" | "set" | "stream")), _) => Facts::Other(known.into()),
        (Some(module), _) => Facts::Other(format!("module value ({module})")),
        (None, Some(_)) => Facts::Gone,
    }
}

/// Whether an error says that a command would be more work than one may be, or a longer reply.
pub fn is_too_much(line: &Bytes) -> bool {
    let line = String::from_utf8_lossy(line);
    line.contains("more work than a command may") || line.contains("a reply has at most")
}

/// What a server holds at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// This, until then.
    Value(Value, Option<u64>),
    /// It is gone, or its time is over.
    Gone,
    /// Quire has no type for it.
    Other(&'static str),
    /// It can't be had.
    Failed(String),
}

/// When a key expires, of what PEXPIRETIME says.
///
/// # Errors
/// The key is gone.
pub fn expires_ms(reply: &Frame) -> Result<Option<u64>, Held> {
    match reply.as_integer() {
        Some(-1) => Ok(None),
        Some(at) if at >= 0 => Ok(Some(at.unsigned_abs().max(1))),
        Some(_) => Err(Held::Gone),
        None => Err(failed(reply)),
    }
}

/// When a key expires that at `now_ms` had as long to live as PTTL says.
///
/// # Errors
/// The key is gone.
pub fn expires_after(reply: &Frame, now_ms: u64) -> Result<Option<u64>, Held> {
    match reply.as_integer() {
        Some(left) if left >= 0 => Ok(Some(now_ms.saturating_add(left.unsigned_abs()))),
        _ => expires_ms(reply),
    }
}

/// What TIME says, ms since 1970.
pub fn time_ms(reply: &Frame) -> Option<u64> {
    let number = |frame: &Frame| -> Option<u64> {
        std::str::from_utf8(frame.as_bytes()?).ok()?.parse().ok()
    };
    match reply.as_values()? {
        [seconds, micros] => number(seconds)?
            .checked_mul(1_000)?
            .checked_add(number(micros)? / 1_000),
        _ => None,
    }
}

/// What a key holds, of what DUMP says.
pub fn held(dump: &Frame, expires_ms: Option<u64>, expiring: Expiring) -> Held {
    let payload = match dump {
        Frame::Null => return Held::Gone,
        other => match other.as_bytes() {
            Some(payload) => payload,
            None => return failed(other),
        },
    };
    match fields::payload(payload, expiring) {
        Parsed::Value(value) => Held::Value(value, expires_ms),
        Parsed::Expired => Held::Gone,
        Parsed::Other(name) => Held::Other(name),
        Parsed::Damaged => {
            Held::Failed("the server's DUMP makes no sense, or is larger than 16 MB".into())
        }
    }
}

fn failed(reply: &Frame) -> Held {
    Held::Failed(match reply.as_error() {
        Some(line) => format!("the source says {}", String::from_utf8_lossy(line)),
        None => "the source gave no sensible answer".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Frame {
        Frame::Simple(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn facts_say_how_a_key_is_read() {
        let error = |text: &str| Frame::Error(Bytes::copy_from_slice(text.as_bytes()));
        let large = LARGE_BYTES as i64 + 1;
        for (kind, usage, facts_wanted) in [
            ("none", Frame::Null, Facts::Gone),
            (
                "string",
                Frame::Integer(large),
                Facts::Small(LARGE_BYTES + 1),
            ),
            ("hash", Frame::Integer(100), Facts::Small(100)),
            (
                "hash",
                Frame::Integer(large),
                Facts::LargeHash(LARGE_BYTES + 1),
            ),
            (
                "hash",
                error("ERR unknown command 'MEMORY'"),
                Facts::Small(LARGE_BYTES),
            ),
            (
                "hash",
                error("ERR this is more work than a command may take"),
                Facts::LargeHash(u64::MAX),
            ),
            ("zset", Frame::Integer(1), Facts::Other("sorted set".into())),
            (
                "ReJSON-RL",
                Frame::Integer(1),
                Facts::Other("module value (ReJSON-RL)".into()),
            ),
        ] {
            assert_eq!(facts(&word(kind), &usage), facts_wanted, "{kind} {usage:?}");
        }
    }

    #[test]
    fn times_are_moments() {
        assert_eq!(expires_ms(&Frame::Integer(-1)), Ok(None));
        assert_eq!(expires_ms(&Frame::Integer(5)), Ok(Some(5)));
        assert_eq!(expires_ms(&Frame::Integer(-2)), Err(Held::Gone));
        assert_eq!(expires_after(&Frame::Integer(5), 100), Ok(Some(105)));
        assert_eq!(expires_after(&Frame::Integer(-1), 100), Ok(None));
        let bulk = |text: &str| Frame::Bulk(Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(
            time_ms(&Frame::Array(vec![bulk("12"), bulk("345678")])),
            Some(12_345)
        );
        assert_eq!(time_ms(&Frame::Array(vec![bulk("x"), bulk("1")])), None);
    }
}
