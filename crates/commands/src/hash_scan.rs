//! Fields of a hash, some at a time or by chance: HSCAN HRANDFIELD.

use crate::{
    error::Refusal,
    evaluate::Evaluation,
    keys::ScanOptions,
    numbers,
    random::Random,
    strings::reply_value,
    view::FIELD_CURSORS,
    work::{LOOK_UP, ROW},
};
use bytes::Bytes;
use model::mutation::Header;
use resp::Version;
use std::collections::BTreeSet;

type Outcome = Result<(), Refusal>;

/// A hash of at most so many fields is scanned in one call, as Redis does with its compact
/// encoding, and drawn from evenly.
const WHOLE_FIELDS_MAX: u64 = 512;
/// Neighbours that a draw from a larger hash chooses among, so that wide gaps before a field
/// matter little.
const NEIGHBOURS: usize = 16;
/// The work of such a draw, about.
const DRAW: u64 = LOOK_UP + NEIGHBOURS as u64 * ROW;

/// A field and its value.
type Pair = (Bytes, Bytes);

fn pair(field: &[u8], value: &[u8]) -> Pair {
    (Bytes::copy_from_slice(field), Bytes::copy_from_slice(value))
}

/// A scan goes through the view's cursors in order, so that a field that is there all the while
/// is seen, whatever comes and goes beside it.
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
        options.count
    };
    let mut found = Vec::new();
    let next = e.some_fields(key, &header, cursor, count, &mut |field, value| {
        found.push(pair(field, value));
    })?;
    let mut wanted = Vec::with_capacity(found.len());
    for (field, value) in found {
        if options.wants_name(e, &field)? {
            wanted.push((field, value));
        }
    }
    let mut reply = e.reply();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next));
    reply.array(2 * wanted.len());
    for (field, value) in wanted {
        reply.bulk(field);
        reply.bulk(value);
    }
    Ok(())
}

/// All fields and values of a hash.
fn all(e: &mut Evaluation<'_>, key: &[u8], header: &Header) -> Result<Vec<Pair>, Refusal> {
    let mut pairs = Vec::new();
    e.each_field(key, header, &mut |_, field, value| {
        pairs.push(pair(field, value));
    })?;
    Ok(pairs)
}

/// A field of a large hash by chance: every one is about as likely.
fn draw(
    e: &Evaluation<'_>,
    key: &[u8],
    header: &Header,
    random: &mut Random,
) -> Result<Option<Pair>, Refusal> {
    let mut near: Vec<Pair> = Vec::new();
    let from = random.next() % FIELD_CURSORS;
    // From anywhere on and, at the end, from the beginning.
    for cursor in [from, 0] {
        let count = NEIGHBOURS - near.len();
        e.some_fields(key, header, cursor, count, &mut |field, value| {
            near.push(pair(field, value));
        })?;
        if near.len() >= NEIGHBOURS {
            break;
        }
    }
    near.truncate(NEIGHBOURS);
    let chosen = random.below(near.len());
    Ok((!near.is_empty()).then(|| near.swap_remove(chosen)))
}

/// `count` draws, so that the same field may come again.
fn draws(
    e: &mut Evaluation<'_>,
    key: &[u8],
    header: &Header,
    count: u64,
    random: &mut Random,
) -> Result<Vec<Pair>, Refusal> {
    let is_whole = header.fields <= WHOLE_FIELDS_MAX
        || header.fields.saturating_mul(ROW) <= count.saturating_mul(DRAW);
    let mut chosen = Vec::new();
    if !is_whole {
        for _ in 0..count {
            chosen.extend(draw(e, key, header, random)?);
        }
        return Ok(chosen);
    }
    let pairs = all(e, key, header)?;
    // Refused before it is made, if there would be too much of it.
    let longest = pairs.iter().map(|(f, v)| f.len() + v.len() + 64).max();
    e.spend(count.saturating_mul(longest.unwrap_or(0) as u64))?;
    if !pairs.is_empty() {
        chosen.extend((0..count).map(|_| pairs[random.below(pairs.len())].clone()));
    }
    Ok(chosen)
}

/// `count` fields of which no two are the same; all if there are no more.
fn different(
    e: &mut Evaluation<'_>,
    key: &[u8],
    header: &Header,
    count: u64,
    random: &mut Random,
) -> Result<Vec<Pair>, Refusal> {
    // Up to a quarter of them, few draws are in vain.
    let is_whole = header.fields <= WHOLE_FIELDS_MAX
        || count > header.fields / 4
        || header.fields.saturating_mul(ROW) <= count.saturating_mul(DRAW);
    if is_whole {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut pairs = all(e, key, header)?;
        random.shuffle_some(&mut pairs, count);
        pairs.truncate(count);
        return Ok(pairs);
    }
    let (mut chosen, mut names) = (Vec::new(), BTreeSet::new());
    while (chosen.len() as u64) < count {
        // What is drawn in vain is work too, so that this ends.
        let Some(pair) = draw(e, key, header, random)? else {
            break;
        };
        if names.insert(pair.0.clone()) {
            chosen.push(pair);
        }
    }
    Ok(chosen)
}

pub(crate) fn hrandfield(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let mut random = Random(e.cx.random);
    let Some(count) = e.args.get(2) else {
        let hash = e.hash(key)?;
        let chosen = match &hash.live {
            Some(header) => draws(e, key, header, 1, &mut random)?,
            None => Vec::new(),
        };
        reply_value(e, chosen.first().map(|(field, _)| field));
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
    let wanted = count.unsigned_abs();
    let chosen = match &hash.live {
        Some(header) if count >= 0 => different(e, key, header, wanted, &mut random)?,
        Some(header) => draws(e, key, header, wanted, &mut random)?,
        None => Vec::new(),
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
