//! Fields of a hash, some at a time or by chance: HSCAN HRANDFIELD.

use crate::{
    error::Refusal,
    evaluate::{Evaluation, Found},
    keys::ScanOptions,
    numbers,
    random::Random,
    rdb::crc64,
    strings::reply_value,
    view::ViewError,
};
use bytes::Bytes;
use resp::Version;
use std::collections::BTreeMap;

type Outcome = Result<(), Refusal>;

/// A hash of at most so many fields is scanned in one call, as Redis does with its compact
/// encoding.
const WHOLE_FIELDS_MAX: u64 = 512;
/// A scan of a larger hash takes so many calls at most, whatever COUNT says: each goes over
/// all fields.
const CALLS_MAX: u64 = 256;
/// Bytes that HRANDFIELD may be asked to reply, some fields many times.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// A field's place in a scan: never 0, which begins and ends one.
fn place(field: &[u8]) -> u64 {
    crc64::of(field).max(1)
}

/// A scan goes through the places in order, so that a field that is there all the while is
/// seen, whatever comes and goes beside it.
pub(crate) fn hscan(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let cursor = numbers::parse_cursor(e.args[2]).ok_or(Refusal::Cursor)?;
    let hash = e.hash(key)?;
    let Some(header) = hash.live else {
        let mut reply = e.reply();
        reply.array(2);
        reply.bulk("0");
        reply.array(0);
        return Ok(());
    };
    let options = ScanOptions::parse(&e.args[3..], false)?;
    let count = if header.fields <= WHOLE_FIELDS_MAX {
        usize::MAX
    } else {
        options.count.max((header.fields / CALLS_MAX) as usize)
    };
    // The fields of the `count` first places at or behind the cursor, and the place behind.
    let mut found: BTreeMap<u64, Vec<(Bytes, Bytes)>> = BTreeMap::new();
    e.view.fields(key, &header, &mut |field, value| {
        let at = place(field);
        let last = found.last_key_value().map_or(0, |(last, _)| *last);
        if at < cursor || found.len() > count && at > last {
            return;
        }
        let pair = (Bytes::copy_from_slice(field), Bytes::copy_from_slice(value));
        found.entry(at).or_default().push(pair);
        if found.len() > count.saturating_add(1) {
            found.pop_last();
        }
    })?;
    let next = if found.len() > count {
        found.pop_last().map_or(0, |(next, _)| next)
    } else {
        0
    };
    let wanted = || {
        let all = found.values().flatten();
        all.filter(|(field, _)| options.wants_name(field))
    };
    let mut reply = e.reply();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next));
    reply.array(2 * wanted().count());
    for (field, value) in wanted() {
        reply.bulk(field);
        reply.bulk(value);
    }
    Ok(())
}

/// All fields and values of a hash.
fn all(e: &Evaluation<'_>, key: &[u8], hash: &Found) -> Result<Vec<(Bytes, Bytes)>, ViewError> {
    let mut pairs = Vec::new();
    if let Some(header) = &hash.live {
        e.view.fields(key, header, &mut |field, value| {
            pairs.push((Bytes::copy_from_slice(field), Bytes::copy_from_slice(value)));
        })?;
    }
    Ok(pairs)
}

pub(crate) fn hrandfield(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let mut random = Random(e.cx.random);
    let Some(count) = e.args.get(2) else {
        let hash = e.hash(key)?;
        let pairs = all(e, key, &hash)?;
        let chosen = random.below(pairs.len());
        reply_value(e, pairs.get(chosen).map(|(field, _)| field));
        return Ok(());
    };
    let count = numbers::parse(count).ok_or(Refusal::NotAnInteger)?;
    if count == i64::MIN {
        return Err(Refusal::OutOfRangeBetween(-i64::MAX, i64::MAX));
    }
    let with_values = match &e.args[3..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"withvalues") => true,
        _ => return Err(Refusal::Syntax),
    };
    if with_values && count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
        return Err(Refusal::OutOfRange);
    }
    let hash = e.hash(key)?;
    let mut pairs = all(e, key, &hash)?;
    let wanted = count.unsigned_abs();
    let chosen: Vec<(Bytes, Bytes)> = if count >= 0 {
        random.shuffle_some(&mut pairs, usize::try_from(wanted).unwrap_or(usize::MAX));
        pairs.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        pairs
    } else if pairs.is_empty() {
        Vec::new()
    } else {
        let longest = pairs.iter().map(|(f, v)| f.len() + v.len() + 32).max();
        let bytes = wanted.saturating_mul(longest.unwrap_or(0) as u64);
        if bytes > REPLY_BYTES_MAX {
            return Err(Refusal::TooMuchWork {
                name: e.spec.name,
                what: "bytes of reply",
                steps: bytes,
                steps_max: REPLY_BYTES_MAX,
                instead: ": ask for fewer fields",
            });
        }
        let draw = |_| pairs[random.below(pairs.len())].clone();
        (0..wanted).map(draw).collect()
    };
    let in_pairs = with_values && e.cx.version == Version::Resp3;
    let flat = if with_values && !in_pairs { 2 } else { 1 };
    let mut reply = e.reply();
    reply.array(flat * chosen.len());
    for (field, value) in &chosen {
        if in_pairs {
            reply.array(2);
        }
        reply.bulk(field);
        if with_values {
            reply.bulk(value);
        }
    }
    Ok(())
}
