//! Strings: GET SET MGET MSET SETNX GETSET GETDEL INCR INCRBY DECR DECRBY APPEND STRLEN.

use crate::{
    error::Refusal,
    evaluate::{Evaluation, STRING_BYTES_MAX},
    numbers,
};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

type Outcome = Result<(), Refusal>;

/// A value or null.
pub(crate) fn reply_value(e: &mut Evaluation<'_>, value: Option<&Bytes>) {
    match value {
        Some(value) => e.reply().bulk(value),
        None => e.reply().null(),
    }
}

pub(crate) fn get(e: &mut Evaluation<'_>) -> Outcome {
    let (_, value) = e.string(e.args[1])?;
    reply_value(e, value.as_ref());
    Ok(())
}

pub(crate) fn strlen(e: &mut Evaluation<'_>) -> Outcome {
    let (_, value) = e.string(e.args[1])?;
    e.reply()
        .integer(value.map_or(0, |value| value.len() as i64));
    Ok(())
}

pub(crate) fn mget(e: &mut Evaluation<'_>) -> Outcome {
    let keys = &e.args[1..];
    e.reply().array(keys.len());
    for key in keys {
        let value = match e.string(key) {
            Ok((_, value)) => value,
            Err(Refusal::WrongType) => None,
            Err(refusal) => return Err(refusal),
        };
        reply_value(e, value.as_ref());
    }
    Ok(())
}

/// When a SET lets its key expire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry<'a> {
    /// Never.
    Clear,
    /// When it did before.
    Keep,
    /// At this time, in this unit.
    At(&'a [u8], Unit),
}

/// Which word gave the time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

/// On what a SET depends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
}

/// What follows `SET key value`.
struct SetOptions<'a> {
    expiry: Expiry<'a>,
    condition: Condition,
    get: bool,
}

impl<'a> SetOptions<'a> {
    fn parse(args: &'a [&'a [u8]]) -> Result<Self, Refusal> {
        let mut options = SetOptions {
            expiry: Expiry::Clear,
            condition: Condition::Always,
            get: false,
        };
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("nx") && options.condition != Condition::Present {
                options.condition = Condition::Absent;
            } else if is("xx") && options.condition != Condition::Absent {
                options.condition = Condition::Present;
            } else if is("get") {
                options.get = true;
            } else if is("keepttl") && !matches!(options.expiry, Expiry::At(..)) {
                options.expiry = Expiry::Keep;
            } else {
                let unit = match () {
                    () if is("ex") => Unit::Ex,
                    () if is("px") => Unit::Px,
                    () if is("exat") => Unit::ExAt,
                    () if is("pxat") => Unit::PxAt,
                    () => return Err(Refusal::Syntax),
                };
                // The same word twice is no error to Redis: the later one holds.
                match options.expiry {
                    Expiry::Clear => {}
                    Expiry::At(_, before) if before == unit => {}
                    _ => return Err(Refusal::Syntax),
                }
                let time = rest.next().ok_or(Refusal::Syntax)?;
                options.expiry = Expiry::At(time, unit);
            }
        }
        Ok(options)
    }

    /// When the key expires, in milliseconds since the Unix epoch; None for "as before".
    fn expires_ms(&self, now_ms: u64, name: &'static str) -> Result<Option<u64>, Refusal> {
        let (time, unit) = match self.expiry {
            Expiry::Clear => return Ok(Some(0)),
            Expiry::Keep => return Ok(None),
            Expiry::At(time, unit) => (time, unit),
        };
        let invalid = Refusal::ExpireTime(name);
        let time = numbers::parse(time).ok_or(Refusal::NotAnInteger)?;
        if time <= 0 {
            return Err(invalid);
        }
        let ms = match unit {
            Unit::Ex | Unit::ExAt => time.checked_mul(1000),
            Unit::Px | Unit::PxAt => Some(time),
        };
        let at = match unit {
            Unit::Ex | Unit::Px => ms.and_then(|ms| ms.checked_add_unsigned(now_ms)),
            Unit::ExAt | Unit::PxAt => ms,
        };
        at.map(|at| Some(at.unsigned_abs())).ok_or(invalid)
    }
}

pub(crate) fn set(e: &mut Evaluation<'_>) -> Outcome {
    let (key, value) = (e.args[1], e.args[2]);
    let now_ms = e.cx.now_ms;
    let options = SetOptions::parse(&e.args[3..])?;
    let expires_ms = options.expires_ms(now_ms, e.spec.name)?;
    let (found, old) = if options.get {
        e.string(key)?
    } else {
        (e.key(key)?, None)
    };
    let holds = match options.condition {
        Condition::Always => true,
        Condition::Absent => found.live.is_none(),
        Condition::Present => found.live.is_some(),
    };
    if holds {
        let expires_ms = expires_ms.unwrap_or(found.expires_ms());
        if expires_ms != 0 && expires_ms <= now_ms {
            // Set and over in the same moment: what is left is that the key is gone.
            e.delete(key, &found);
        } else {
            e.put_string(key, &found, expires_ms, value);
        }
    }
    if options.get {
        reply_value(e, old.as_ref());
    } else if holds {
        e.reply().ok();
    } else {
        e.reply().null();
    }
    Ok(())
}

pub(crate) fn setnx(e: &mut Evaluation<'_>) -> Outcome {
    let (key, value) = (e.args[1], e.args[2]);
    let found = e.key(key)?;
    let absent = found.live.is_none();
    if absent {
        e.put_string(key, &found, 0, value);
    }
    e.reply().integer(absent.into());
    Ok(())
}

pub(crate) fn mset(e: &mut Evaluation<'_>) -> Outcome {
    let (pairs, odd) = e.args[1..].as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Refusal::Arity(e.spec.name));
    }
    // Of a key that is named twice the last value holds.
    let values: BTreeMap<&[u8], &[u8]> = pairs.iter().map(|[key, value]| (*key, *value)).collect();
    for (key, value) in values {
        let found = e.key(key)?;
        e.put_string(key, &found, 0, value);
    }
    e.reply().ok();
    Ok(())
}

pub(crate) fn getset(e: &mut Evaluation<'_>) -> Outcome {
    let (key, value) = (e.args[1], e.args[2]);
    let (found, old) = e.string(key)?;
    e.put_string(key, &found, 0, value);
    reply_value(e, old.as_ref());
    Ok(())
}

pub(crate) fn getdel(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let (found, old) = e.string(key)?;
    e.delete(key, &found);
    reply_value(e, old.as_ref());
    Ok(())
}

fn add(e: &mut Evaluation<'_>, by: i64) -> Outcome {
    let key = e.args[1];
    let (found, value) = e.string(key)?;
    let old = match &value {
        Some(value) => numbers::parse(value).ok_or(Refusal::NotAnInteger)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or(Refusal::Overflow)?;
    let mut text = itoa::Buffer::new();
    e.put_string(key, &found, found.expires_ms(), text.format(new).as_bytes());
    e.reply().integer(new);
    Ok(())
}

pub(crate) fn incr(e: &mut Evaluation<'_>) -> Outcome {
    add(e, 1)
}

pub(crate) fn decr(e: &mut Evaluation<'_>) -> Outcome {
    add(e, -1)
}

pub(crate) fn incrby(e: &mut Evaluation<'_>) -> Outcome {
    let by = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    add(e, by)
}

pub(crate) fn decrby(e: &mut Evaluation<'_>) -> Outcome {
    let by = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    add(e, by.checked_neg().ok_or(Refusal::DecrementOverflow)?)
}

pub(crate) fn append(e: &mut Evaluation<'_>) -> Outcome {
    let (key, more) = (e.args[1], e.args[2]);
    let (found, old) = e.string(key)?;
    let old = old.unwrap_or_default();
    let length = old.len() + more.len();
    if length > STRING_BYTES_MAX {
        return Err(Refusal::StringTooLong);
    }
    e.check_bytes(key.len() + length)?;
    let mut value = BytesMut::with_capacity(length);
    value.extend_from_slice(&old);
    value.extend_from_slice(more);
    e.put_string(key, &found, found.expires_ms(), &value);
    e.reply().integer(length as i64);
    Ok(())
}
