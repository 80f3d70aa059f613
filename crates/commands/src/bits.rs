//! Bits of strings, the first of a byte its highest: SETBIT GETBIT BITCOUNT BITPOS BITOP.

use crate::{
    error::Refusal,
    evaluate::Evaluation,
    numbers,
    substrings::{grown, range},
};
use bytes::Bytes;
use model::limits::STRING_BYTES_MAX;

type Outcome = Result<(), Refusal>;

/// Where a bit is: its byte, and how far it is shifted there.
fn place(offset: usize) -> (usize, usize) {
    (offset / 8, 7 - offset % 8)
}

/// A bit's offset; with a `#` before it, where that is allowed, in units of `width` bits.
pub(crate) fn parse_offset(text: &[u8], width: Option<u32>) -> Result<usize, Refusal> {
    let offset = match (text, width) {
        ([b'#', rest @ ..], Some(width)) => {
            numbers::parse(rest).map(|n| n.wrapping_mul(i64::from(width)))
        }
        _ => numbers::parse(text),
    };
    offset
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| offset / 8 < STRING_BYTES_MAX)
        .ok_or(Refusal::BitOffset)
}

pub(crate) fn setbit(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let offset = parse_offset(e.args[2], None)?;
    let bit = match numbers::parse(e.args[3]) {
        Some(bit @ (0 | 1)) => bit as u8,
        _ => return Err(Refusal::Bit),
    };
    let (found, old) = e.string(key)?;
    let (byte, shift) = place(offset);
    let was = old
        .as_ref()
        .and_then(|old| old.get(byte))
        .map(|old| old >> shift & 1);
    if was != Some(bit) {
        let mut value = grown(e, old, byte + 1)?;
        value[byte] = value[byte] & !(1 << shift) | bit << shift;
        e.put_string(key, &found, found.expires_ms(), &value);
    }
    e.reply().integer(was.unwrap_or(0).into());
    Ok(())
}

pub(crate) fn getbit(e: &mut Evaluation<'_>) -> Outcome {
    let offset = parse_offset(e.args[2], None)?;
    let (_, value) = e.string(e.args[1])?;
    let (byte, shift) = place(offset);
    let bit = value.and_then(|value| value.get(byte).map(|byte| byte >> shift & 1));
    e.reply().integer(bit.unwrap_or(0).into());
    Ok(())
}

/// Whether a range counts bits: what the word at its end says.
fn counts_bits(word: Option<&&[u8]>) -> Result<bool, Refusal> {
    match word {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"bit") => Ok(true),
        Some(word) if word.eq_ignore_ascii_case(b"byte") => Ok(false),
        Some(_) => Err(Refusal::Syntax),
    }
}

/// A range of bits, its ends included.
type Bits = (usize, usize);

/// The bits of `value` between two indexes, of bytes or of bits.
fn bits_between(start: i64, end: i64, in_bits: bool, value: &[u8]) -> Option<Bits> {
    if in_bits {
        range(start, end, value.len() * 8)
    } else {
        range(start, end, value.len()).map(|(start, end)| (start * 8, end * 8 + 7))
    }
}

/// The bytes of a range of bits, each with all bits outside of the range set to `outside`.
fn bytes_of(value: &[u8], (start, end): Bits, outside: bool) -> impl Iterator<Item = u8> {
    let (first, last) = (start / 8, end / 8);
    (first..=last).map(move |at| {
        let mut inside = 0xff;
        if at == first {
            inside &= 0xff >> (start % 8);
        }
        if at == last {
            inside &= 0xff << (7 - end % 8);
        }
        if outside {
            value[at] | !inside
        } else {
            value[at] & inside
        }
    })
}

pub(crate) fn bitcount(e: &mut Evaluation<'_>) -> Outcome {
    let (found, value) = e.string(e.args[1])?;
    let value = value.unwrap_or_default();
    let bits = match &e.args[2..] {
        // Redis does not look at the rest then.
        _ if found.live.is_none() => None,
        [] => bits_between(0, -1, false, &value),
        [start, end, unit @ ..] if unit.len() <= 1 => {
            let start = numbers::parse(start).ok_or(Refusal::NotAnInteger)?;
            let end = numbers::parse(end).ok_or(Refusal::NotAnInteger)?;
            if start < 0 && end < 0 && start > end {
                None
            } else {
                bits_between(start, end, counts_bits(unit.first())?, &value)
            }
        }
        _ => return Err(Refusal::Syntax),
    };
    let count = bits.map_or(0, |bits| ones(&value, bits));
    e.reply().integer(count as i64);
    Ok(())
}

/// How many bits of a range are set.
fn ones(value: &[u8], (start, end): Bits) -> u64 {
    let inside = &value[start / 8..=end / 8];
    let (words, rest) = inside.as_chunks::<8>();
    let in_words: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
        .sum();
    let in_rest: u64 = rest.iter().map(|byte| u64::from(byte.count_ones())).sum();
    let before = value[start / 8] & !(0xff >> (start % 8));
    let behind = value[end / 8] & !(0xff << (7 - end % 8)) as u8;
    in_words + in_rest - u64::from(before.count_ones()) - u64::from(behind.count_ones())
}

pub(crate) fn bitpos(e: &mut Evaluation<'_>) -> Outcome {
    let bit = match numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)? {
        0 => false,
        1 => true,
        _ => return Err(Refusal::BitArgument),
    };
    let (_, value) = e.string(e.args[1])?;
    let Some(value) = value else {
        // Nothing but zeros, as far as one looks.
        e.reply().integer(if bit { -1 } else { 0 });
        return Ok(());
    };
    let integer = |text: &&[u8]| numbers::parse(text).ok_or(Refusal::NotAnInteger);
    let (bits, has_end) = match &e.args[3..] {
        [] => (bits_between(0, -1, false, &value), false),
        [start] => (
            bits_between(integer(start)?, i64::MAX, false, &value),
            false,
        ),
        [start, end, unit @ ..] if unit.len() <= 1 => {
            let start = integer(start)?;
            let in_bits = counts_bits(unit.first())?;
            (at_least(start, integer(end)?, in_bits, &value), true)
        }
        _ => return Err(Refusal::Syntax),
    };
    let found = bits.and_then(|bits| {
        let first = bits.0 / 8;
        let (at, byte) = bytes_of(&value, bits, !bit)
            .enumerate()
            .find(|(_, byte)| *byte != if bit { 0 } else { 0xff })?;
        let byte = if bit { byte } else { !byte };
        Some((first + at) * 8 + byte.leading_zeros() as usize)
    });
    // Behind a string whose bits are all set there are zeros, unless an end was named.
    let behind = (!bit && !has_end && bits.is_some()).then_some(value.len() * 8);
    let found = found.or(behind);
    e.reply().integer(found.map_or(-1, |at| at as i64));
    Ok(())
}

/// Like [`bits_between`], for BITPOS: two ends in the wrong order before the start are both
/// the start.
fn at_least(start: i64, end: i64, in_bits: bool, value: &[u8]) -> Option<Bits> {
    let len = value.len() as i64 * if in_bits { 8 } else { 1 };
    let place = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    bits_between(place(start), place(end), in_bits, value)
}

/// What BITOP does with each byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

/// A loop of its own for each operation: it runs over many bytes at once.
fn combine(to: &mut [u8], from: &[u8], each: impl Fn(u8, u8) -> u8) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = each(*to, *from);
    }
}

pub(crate) fn bitop(e: &mut Evaluation<'_>) -> Outcome {
    let (target, sources) = (e.args[2], &e.args[3..]);
    let operation = match e.args[1].to_ascii_lowercase().as_slice() {
        b"and" => Operation::And,
        b"or" => Operation::Or,
        b"xor" => Operation::Xor,
        b"not" => Operation::Not,
        _ => return Err(Refusal::Syntax),
    };
    if operation == Operation::Not && sources.len() != 1 {
        return Err(Refusal::BitopNot);
    }
    let mut values = Vec::with_capacity(sources.len());
    for key in sources {
        values.push(e.string(key)?.1.unwrap_or_default());
    }
    let length = values.iter().map(Bytes::len).max().unwrap_or(0);
    e.check_value(target.len() + length)?;
    let mut result = vec![0; length];
    for (n, value) in values.iter().enumerate() {
        let (there, lacking) = result.split_at_mut(value.len());
        match operation {
            _ if n == 0 => there.copy_from_slice(value),
            Operation::And => combine(there, value, |a, b| a & b),
            Operation::Or => combine(there, value, |a, b| a | b),
            Operation::Xor => combine(there, value, |a, b| a ^ b),
            Operation::Not => {}
        }
        // What a value lacks is zeros.
        if operation == Operation::And {
            lacking.fill(0);
        }
    }
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let found = e.key(target)?;
    if result.is_empty() {
        e.delete(target, &found);
    } else {
        e.put_string(target, &found, 0, &result);
    }
    e.reply().integer(length as i64);
    Ok(())
}
