//! About a value: OBJECT ENCODING, REFCOUNT, FREQ and IDLETIME, MEMORY USAGE.

use crate::{
    error::Refusal,
    evaluate::{Evaluation, Found},
    numbers, rename,
};
use model::mutation::KeyKind;

type Outcome = Result<(), Refusal>;

/// Above these Redis keeps a hash in its hash table.
const LISTPACK_FIELDS_MAX: u64 = 512;
const LISTPACK_BYTES_MAX: usize = 64;
/// The longest string that Redis keeps in one piece with its object.
const EMBSTR_BYTES_MAX: usize = 44;

/// The encoding that Redis has for such a value if it was written at once.
pub(crate) fn encoding(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[2];
    let found = e.key(key)?;
    let name = match found.live.map(|header| header.kind) {
        None | Some(KeyKind::Tombstone) => {
            e.reply().null();
            return Ok(());
        }
        Some(KeyKind::String) => {
            let (_, value) = e.string(key)?;
            let value = value.unwrap_or_default();
            if numbers::parse(&value).is_some() {
                "int"
            } else if value.len() <= EMBSTR_BYTES_MAX {
                "embstr"
            } else {
                "raw"
            }
        }
        Some(KeyKind::Hash) if found.fields() > LISTPACK_FIELDS_MAX => "hashtable",
        Some(KeyKind::Hash) => {
            let mut longest = 0;
            if let Some(header) = &found.live {
                e.each_field(key, header, &mut |_, field, value| {
                    longest = longest.max(field.len()).max(value.len());
                })?;
            }
            if longest > LISTPACK_BYTES_MAX {
                "hashtable"
            } else {
                "listpack"
            }
        }
    };
    e.reply().bulk(name);
    Ok(())
}

/// Null if the key is not there.
fn there(e: &mut Evaluation<'_>) -> Result<Option<Found>, Refusal> {
    let found = e.key(e.args[2])?;
    if found.live.is_none() {
        e.reply().null();
        return Ok(None);
    }
    Ok(Some(found))
}

/// No value is shared.
pub(crate) fn refcount(e: &mut Evaluation<'_>) -> Outcome {
    if there(e)?.is_some() {
        e.reply().integer(1);
    }
    Ok(())
}

pub(crate) fn freq(e: &mut Evaluation<'_>) -> Outcome {
    match there(e)? {
        Some(_) => Err(Refusal::NoFrequency),
        None => Ok(()),
    }
}

pub(crate) fn idletime(e: &mut Evaluation<'_>) -> Outcome {
    match there(e)? {
        Some(_) => Err(Refusal::NoIdleTime),
        None => Ok(()),
    }
}

/// What a row of the store takes besides its key, field and value: place, lengths, header or
/// stamp.
const ROW_BYTES: usize = 24;

/// The bytes of the key's rows, before the store packs them: all fields, so SAMPLES is
/// checked and not needed.
pub(crate) fn memory_usage(e: &mut Evaluation<'_>) -> Outcome {
    let mut rest = &e.args[3..];
    while let [word, number, more @ ..] = rest {
        if !word.eq_ignore_ascii_case(b"samples") {
            return Err(Refusal::Syntax);
        }
        let samples = numbers::parse(number).ok_or(Refusal::NotAnInteger)?;
        if samples < 0 {
            return Err(Refusal::Syntax);
        }
        rest = more;
    }
    if !rest.is_empty() {
        return Err(Refusal::Syntax);
    }
    let key = e.args[2];
    let Some(found) = there(e)? else {
        return Ok(());
    };
    let row = ROW_BYTES + key.len();
    let bytes = row
        + match rename::read(e, key, &found)? {
            None => 0,
            Some(rename::Value::String(value)) => value.len(),
            Some(rename::Value::Hash(fields)) => fields
                .iter()
                .map(|(field, value)| row + field.len() + value.len())
                .sum(),
        };
    e.reply().integer(bytes as i64);
    Ok(())
}
