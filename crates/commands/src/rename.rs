//! A value under another key: RENAME RENAMENX COPY MOVE.

use crate::{
    destination::{self, Destination},
    error::Refusal,
    evaluate::{Evaluation, Found},
};
use bytes::Bytes;
use model::mutation::KeyKind;

type Outcome = Result<(), Refusal>;

/// All that a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Any bytes.
    String(Bytes),
    /// Fields and values, no field twice.
    Hash(Vec<(Bytes, Bytes)>),
}

/// The value of a key that is there.
pub(crate) fn read(
    e: &mut Evaluation<'_>,
    key: &[u8],
    found: &Found,
) -> Result<Option<Value>, Refusal> {
    let Some(header) = &found.live else {
        return Ok(None);
    };
    Ok(match header.kind {
        KeyKind::Tombstone => None,
        KeyKind::String => e.stored_string(key)?.map(Value::String),
        KeyKind::Hash => {
            let mut fields = Vec::new();
            e.each_field(key, header, &mut |_, field, value| {
                fields.push((Bytes::copy_from_slice(field), Bytes::copy_from_slice(value)));
            })?;
            Some(Value::Hash(fields))
        }
    })
}

impl Value {
    /// About what it takes in an entry of the log.
    fn bytes(&self) -> usize {
        match self {
            Value::String(value) => value.len(),
            Value::Hash(fields) => fields.iter().map(|(f, v)| f.len() + v.len() + 10).sum(),
        }
    }
}

/// Puts a value in place of whatever `key` holds.
pub(crate) fn write<'a>(
    e: &mut Evaluation<'a>,
    key: &'a [u8],
    found: &Found,
    expires_ms: u64,
    value: &Value,
) -> Outcome {
    e.check_value(key.len() + value.bytes())?;
    if let Value::Hash(fields) = value {
        e.check_fields(key, fields.len())?;
    }
    match value {
        Value::String(value) => e.put_string(key, found, expires_ms, value),
        Value::Hash(fields) => {
            e.delete(key, found);
            let mut header = found.fresh(KeyKind::Hash);
            header.expires_ms = expires_ms;
            header.fields = fields.len() as u64;
            let fields = fields.iter().map(|(f, v)| (f.as_ref(), v.as_ref()));
            e.mutation.set_fields(key, true, Some(&header), fields);
        }
    }
    Ok(())
}

/// Returns whether it was done: not if there must be no target, and there is.
fn rename_to(e: &mut Evaluation<'_>, only_absent: bool) -> Result<bool, Refusal> {
    let (source, target) = (e.args[1], e.args[2]);
    let from = e.key(source)?;
    let value = read(e, source, &from)?.ok_or(Refusal::NoSuchKey)?;
    if source == target {
        return Ok(!only_absent);
    }
    let to = e.key(target)?;
    if only_absent && to.live.is_some() {
        return Ok(false);
    }
    write(e, target, &to, from.expires_ms(), &value)?;
    e.delete(source, &from);
    Ok(true)
}

pub(crate) fn rename(e: &mut Evaluation<'_>) -> Outcome {
    rename_to(e, false)?;
    e.reply().ok();
    Ok(())
}

pub(crate) fn renamenx(e: &mut Evaluation<'_>) -> Outcome {
    let done = rename_to(e, true)?;
    e.reply().integer(done.into());
    Ok(())
}

/// Within one shard. What goes to another shard the node carries there.
pub(crate) fn copy(e: &mut Evaluation<'_>) -> Outcome {
    let (source, target) = (e.args[1], e.args[2]);
    let Destination { keyspace, replace } = Destination::of_copy(e.args, destination::database)?;
    if keyspace.is_some_and(|keyspace| is_elsewhere(e, keyspace)) {
        return Err(Refusal::AnotherShard(e.spec.name));
    }
    if source == target {
        return Err(Refusal::SameObject);
    }
    let from = e.key(source)?;
    let to = e.key(target)?;
    let value = read(e, source, &from)?.filter(|_| replace || to.live.is_none());
    if let Some(value) = &value {
        write(e, target, &to, from.expires_ms(), value)?;
    }
    e.reply().integer(value.is_some().into());
    Ok(())
}

/// Never within one shard: another keyspace has others.
pub(crate) fn move_key(e: &mut Evaluation<'_>) -> Outcome {
    let elsewhere = is_elsewhere(e, destination::database(e.args[2])?);
    Err(match elsewhere {
        true => Refusal::AnotherShard(e.spec.name),
        false => Refusal::SameObject,
    })
}

fn is_elsewhere(e: &Evaluation<'_>, keyspace: i32) -> bool {
    i64::from(keyspace) != i64::from(e.cx.keyspace)
}
