//! Strings as a whole: GET SET SETEX PSETEX MGET MSET MSETNX SETNX GETSET GETDEL GETEX INCR
//! INCRBY DECR DECRBY INCRBYFLOAT APPEND STRLEN.

use crate::{
    error::Refusal,
    evaluate::Evaluation,
    float::{self, Finite, Float},
    numbers,
    set_options::{Condition, Expiry, SetOptions, Time, Unit},
};
use bytes::{Bytes, BytesMut};
use model::{limits::STRING_BYTES_MAX, work::of_value};
use std::collections::BTreeMap;

type Outcome = Result<(), Refusal>;

/// A value or null.
pub(crate) fn reply_value(e: &mut Evaluation<'_>, value: Option<&Bytes>) {
    match value {
        Some(value) => e.reply().bulk(value),
        None => e.reply().null(),
    }
}

/// The same of a command that may show many, and writes nothing.
pub(crate) fn show_value(e: &mut Evaluation<'_>, value: Option<&Bytes>) -> Outcome {
    e.spend(value.map_or(0, |value| of_value(value.len())))?;
    reply_value(e, value);
    Ok(())
}

pub(crate) fn get(e: &mut Evaluation<'_>) -> Outcome {
    let (_, value) = e.string(e.args[1])?;
    show_value(e, value.as_ref())
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
        show_value(e, value.as_ref())?;
    }
    Ok(())
}

pub(crate) fn set(e: &mut Evaluation<'_>) -> Outcome {
    let (key, value) = (e.args[1], e.args[2]);
    let now_ms = e.cx.now_ms;
    let options = SetOptions::of_set(&e.args[3..])?;
    let expires_ms = match options.expiry {
        Expiry::Clear => Some(0),
        Expiry::Keep => None,
        Expiry::At(time) => Some(time.expires_ms(now_ms, e.spec.name)?),
    };
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

fn set_for(e: &mut Evaluation<'_>, unit: Unit) -> Outcome {
    let (key, text, value) = (e.args[1], e.args[2], e.args[3]);
    let expires_ms = Time { text, unit }.expires_ms(e.cx.now_ms, e.spec.name)?;
    let found = e.key(key)?;
    e.put_string(key, &found, expires_ms, value);
    e.reply().ok();
    Ok(())
}

pub(crate) fn setex(e: &mut Evaluation<'_>) -> Outcome {
    set_for(e, Unit::Ex)
}

pub(crate) fn psetex(e: &mut Evaluation<'_>) -> Outcome {
    set_for(e, Unit::Px)
}

pub(crate) fn getex(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let options = SetOptions::of_getex(&e.args[2..])?;
    let (found, value) = e.string(key)?;
    if let Some(mut header) = found.live {
        let before = header.expires_ms;
        match options.expiry {
            Expiry::Keep => {}
            Expiry::Clear => header.expires_ms = 0,
            Expiry::At(time) => header.expires_ms = time.expires_ms(e.cx.now_ms, e.spec.name)?,
        }
        if header.is_expired(e.cx.now_ms) {
            e.delete(key, &found);
        } else if header.expires_ms != before {
            e.mutation.set_header(key, &header);
        }
    }
    reply_value(e, value.as_ref());
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
    put_all(e, pairs)?;
    e.reply().ok();
    Ok(())
}

/// Of a key that is named twice the last value holds.
fn put_all<'a>(e: &mut Evaluation<'a>, pairs: &'a [[&'a [u8]; 2]]) -> Outcome {
    let values: BTreeMap<&[u8], &[u8]> = pairs.iter().map(|[key, value]| (*key, *value)).collect();
    for (key, value) in values {
        let found = e.key(key)?;
        e.put_string(key, &found, 0, value);
    }
    Ok(())
}

pub(crate) fn msetnx(e: &mut Evaluation<'_>) -> Outcome {
    let (pairs, odd) = e.args[1..].as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Refusal::Arity(e.spec.name));
    }
    let mut absent = true;
    for [key, _] in pairs {
        absent &= e.key(key)?.live.is_none();
    }
    if absent {
        put_all(e, pairs)?;
    }
    e.reply().integer(absent.into());
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

/// `old`, 0 if there is none, plus `by`, as the text to keep; `not_a_float` if `old` is none.
pub(crate) fn add_float(
    old: Option<&[u8]>,
    by: Finite,
    not_a_float: Refusal,
) -> Result<String, Refusal> {
    let sum = match old.map(float::parse) {
        None => Float::Finite(by),
        Some(None) => return Err(not_a_float),
        Some(Some(Float::Infinite)) => Float::Infinite,
        Some(Some(Float::Finite(old))) => old.plus(by),
    };
    match sum {
        Float::Finite(sum) => Ok(sum.to_string()),
        Float::Infinite => Err(Refusal::NotFiniteResult),
    }
}

pub(crate) fn incrbyfloat(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let (found, old) = e.string(key)?;
    let by = float::parse(e.args[2]);
    if old.as_ref().is_some_and(|old| float::parse(old).is_none()) {
        return Err(Refusal::NotAFloat);
    }
    let by = match by.ok_or(Refusal::NotAFloat)? {
        Float::Finite(by) => by,
        Float::Infinite => return Err(Refusal::NotFiniteResult),
    };
    let new = add_float(old.as_deref(), by, Refusal::NotAFloat)?;
    e.put_string(key, &found, found.expires_ms(), new.as_bytes());
    e.reply().bulk(&new);
    Ok(())
}

pub(crate) fn append(e: &mut Evaluation<'_>) -> Outcome {
    let (key, more) = (e.args[1], e.args[2]);
    let (found, old) = e.string(key)?;
    let old = old.unwrap_or_default();
    let length = old.len() + more.len();
    if length > STRING_BYTES_MAX {
        return Err(Refusal::StringTooLong);
    }
    e.check_value(key.len() + length)?;
    let mut value = BytesMut::with_capacity(length);
    value.extend_from_slice(&old);
    value.extend_from_slice(more);
    e.put_string(key, &found, found.expires_ms(), &value);
    e.reply().integer(length as i64);
    Ok(())
}
