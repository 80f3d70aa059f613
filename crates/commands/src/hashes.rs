//! Hashes: HSET HMSET HSETNX HGET HMGET HGETALL HKEYS HVALS HDEL HEXISTS HLEN HSTRLEN HINCRBY
//! HINCRBYFLOAT.

use crate::{
    error::Refusal,
    evaluate::{Evaluation, Found},
    float::{self, Float},
    numbers,
    strings::{add_float, show_value},
    view::ViewError,
};
use model::mutation::KeyKind;

type Outcome = Result<(), Refusal>;

/// A field and its value.
type Pair<'a> = (&'a [u8], &'a [u8]);

pub(crate) fn hget(e: &mut Evaluation<'_>) -> Outcome {
    let hash = e.hash(e.args[1])?;
    let value = e.field(e.args[1], &hash, e.args[2])?;
    show_value(e, value.as_ref())
}

pub(crate) fn hmget(e: &mut Evaluation<'_>) -> Outcome {
    let hash = e.hash(e.args[1])?;
    let fields = &e.args[2..];
    e.reply().array(fields.len());
    for field in fields {
        let value = e.field(e.args[1], &hash, field)?;
        show_value(e, value.as_ref())?;
    }
    Ok(())
}

pub(crate) fn hexists(e: &mut Evaluation<'_>) -> Outcome {
    let hash = e.hash(e.args[1])?;
    let found = e.has_field(e.args[1], &hash, e.args[2])?;
    e.reply().integer(found.into());
    Ok(())
}

pub(crate) fn hlen(e: &mut Evaluation<'_>) -> Outcome {
    let hash = e.hash(e.args[1])?;
    e.reply().integer(hash.fields() as i64);
    Ok(())
}

/// What of each field is replied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Fields,
    Values,
    Both,
}

fn show_all(e: &mut Evaluation<'_>, shown: Shown) -> Outcome {
    let key = e.args[1];
    let hash = e.hash(key)?;
    let mark = e.reply_mark();
    // The header says how many there are, so that they go straight into the reply. Where
    // writes merge it may be behind; then the fields are gone over once more.
    let mut expected = hash.fields();
    for _ in 0..2 {
        match shown {
            Shown::Both => e.reply().map(expected as usize),
            Shown::Fields | Shown::Values => e.reply().array(expected as usize),
        }
        let mut seen = 0;
        if let Some(header) = &hash.live {
            e.each_field(key, header, &mut |reply, field, value| {
                seen += 1;
                if shown != Shown::Values {
                    reply.bulk(field);
                }
                if shown != Shown::Fields {
                    reply.bulk(value);
                }
            })?;
        }
        if seen == expected {
            return Ok(());
        }
        e.rewind_reply(mark);
        expected = seen;
    }
    let what = "a hash changed while it was read: this is a defect, please report it";
    Err(ViewError::new(what).into())
}

pub(crate) fn hgetall(e: &mut Evaluation<'_>) -> Outcome {
    show_all(e, Shown::Both)
}

pub(crate) fn hkeys(e: &mut Evaluation<'_>) -> Outcome {
    show_all(e, Shown::Fields)
}

pub(crate) fn hvals(e: &mut Evaluation<'_>) -> Outcome {
    show_all(e, Shown::Values)
}

/// Sets fields, no field twice; returns how many are new.
fn put_fields(e: &mut Evaluation<'_>, hash: &Found, pairs: &[Pair<'_>]) -> Result<u64, Refusal> {
    let key = e.args[1];
    e.check_fields(key, pairs.len())?;
    let mut new = 0;
    for (field, _) in pairs {
        new += u64::from(!e.has_field(key, hash, field)?);
    }
    let mut header = hash.live.unwrap_or(hash.fresh(KeyKind::Hash));
    header.fields += new;
    let changed = (new > 0).then_some(&header);
    let created = hash.live.is_none();
    e.mutation
        .set_fields(key, created, changed, pairs.iter().copied());
    Ok(new)
}

/// HSET and HMSET; returns how many fields are new.
fn set_pairs(e: &mut Evaluation<'_>) -> Result<u64, Refusal> {
    let (pairs, odd) = e.args[2..].as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Refusal::Arity(e.spec.name));
    }
    let hash = e.hash(e.args[1])?;
    if let [[field, value]] = pairs {
        return put_fields(e, &hash, &[(field, value)]);
    }
    // Of a field that is named twice the last value holds: after a stable sort backwards, the
    // first of its run.
    let mut pairs: Vec<Pair<'_>> = pairs.iter().rev().map(|[f, v]| (*f, *v)).collect();
    pairs.sort_by_key(|(field, _)| *field);
    pairs.dedup_by_key(|(field, _)| *field);
    put_fields(e, &hash, &pairs)
}

pub(crate) fn hset(e: &mut Evaluation<'_>) -> Outcome {
    let new = set_pairs(e)?;
    e.reply().integer(new as i64);
    Ok(())
}

pub(crate) fn hmset(e: &mut Evaluation<'_>) -> Outcome {
    set_pairs(e)?;
    e.reply().ok();
    Ok(())
}

pub(crate) fn hsetnx(e: &mut Evaluation<'_>) -> Outcome {
    let (key, field, value) = (e.args[1], e.args[2], e.args[3]);
    let hash = e.hash(key)?;
    let absent = !e.has_field(key, &hash, field)?;
    if absent {
        put_fields(e, &hash, &[(field, value)])?;
    }
    e.reply().integer(absent.into());
    Ok(())
}

pub(crate) fn hincrby(e: &mut Evaluation<'_>) -> Outcome {
    let (key, field) = (e.args[1], e.args[2]);
    let by = numbers::parse(e.args[3]).ok_or(Refusal::NotAnInteger)?;
    let hash = e.hash(key)?;
    let old = match e.field(key, &hash, field)? {
        Some(value) => numbers::parse(&value).ok_or(Refusal::HashValueNotAnInteger)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or(Refusal::Overflow)?;
    let mut text = itoa::Buffer::new();
    put_fields(e, &hash, &[(field, text.format(new).as_bytes())])?;
    e.reply().integer(new);
    Ok(())
}

pub(crate) fn hincrbyfloat(e: &mut Evaluation<'_>) -> Outcome {
    let (key, field) = (e.args[1], e.args[2]);
    let by = match float::parse(e.args[3]).ok_or(Refusal::NotAFloat)? {
        Float::Finite(by) => by,
        Float::Infinite => return Err(Refusal::NotFinite),
    };
    let hash = e.hash(key)?;
    let old = e.field(key, &hash, field)?;
    let new = add_float(old.as_deref(), by, Refusal::HashValueNotAFloat)?;
    put_fields(e, &hash, &[(field, new.as_bytes())])?;
    e.reply().bulk(&new);
    Ok(())
}

pub(crate) fn hstrlen(e: &mut Evaluation<'_>) -> Outcome {
    let hash = e.hash(e.args[1])?;
    let value = e.field(e.args[1], &hash, e.args[2])?;
    e.reply()
        .integer(value.map_or(0, |value| value.len() as i64));
    Ok(())
}

pub(crate) fn hdel(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let hash = e.hash(key)?;
    let mut fields: Vec<&[u8]> = Vec::new();
    for field in &e.args[2..] {
        if e.has_field(key, &hash, field)? {
            fields.push(field);
        }
    }
    fields.sort_unstable();
    fields.dedup();
    let removed = fields.len() as u64;
    if let Some(mut header) = hash.live
        && removed > 0
    {
        if removed >= header.fields {
            e.delete(key, &hash);
        } else {
            header.fields -= removed;
            e.mutation
                .remove_fields(key, Some(&header), fields.iter().copied());
        }
    }
    e.reply().integer(removed as i64);
    Ok(())
}
