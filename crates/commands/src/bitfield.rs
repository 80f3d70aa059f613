//! Integers of any width within strings: BITFIELD BITFIELD_RO.

use crate::{bits::parse_offset, error::Refusal, evaluate::Evaluation, numbers, substrings::grown};

type Outcome = Result<(), Refusal>;

/// The work of one step, bit by bit.
const STEP: u64 = 512;

/// What becomes of a number that its field can't hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// Where a number lies, and how it is read.
#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    bits: u32,
    offset: usize,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

/// What follows `BITFIELD key`.
fn parse(args: &[&[u8]]) -> Result<Vec<(Field, Action)>, Refusal> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut rest = args;
    while let [word, more @ ..] = rest {
        let word = word.to_ascii_lowercase();
        let number = |text: &[u8]| numbers::parse(text).ok_or(Refusal::NotAnInteger);
        (rest, overflow) = match (word.as_slice(), more) {
            (b"get", [kind, at, more @ ..]) => {
                steps.push((Field::parse(kind, at)?, Action::Get));
                (more, overflow)
            }
            (b"set", [kind, at, value, more @ ..]) => {
                let field = Field::parse(kind, at)?;
                steps.push((field, Action::Set(number(value)?, overflow)));
                (more, overflow)
            }
            (b"incrby", [kind, at, by, more @ ..]) => {
                let field = Field::parse(kind, at)?;
                steps.push((field, Action::Add(number(by)?, overflow)));
                (more, overflow)
            }
            (b"overflow", [how, more @ ..]) => {
                let how = match how.to_ascii_lowercase().as_slice() {
                    b"wrap" => Overflow::Wrap,
                    b"sat" => Overflow::Saturate,
                    b"fail" => Overflow::Fail,
                    _ => return Err(Refusal::OverflowType),
                };
                (more, how)
            }
            _ => return Err(Refusal::Syntax),
        };
    }
    Ok(steps)
}

impl Field {
    fn parse(kind: &[u8], at: &[u8]) -> Result<Field, Refusal> {
        let (signed, bits) = match kind {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return Err(Refusal::BitfieldType),
        };
        let bits = numbers::parse(bits)
            .filter(|bits| (1..=if signed { 64 } else { 63 }).contains(bits))
            .ok_or(Refusal::BitfieldType)? as u32;
        Ok(Field {
            signed,
            bits,
            offset: parse_offset(at, Some(bits))?,
        })
    }

    /// The byte behind its last bit.
    fn end(&self) -> usize {
        (self.offset + self.bits as usize - 1) / 8 + 1
    }

    /// What it holds; behind the end of the string there are zeros.
    fn read(&self, value: &[u8]) -> i64 {
        let mut number = 0u64;
        for at in self.offset..self.offset + self.bits as usize {
            let byte = value.get(at / 8).copied().unwrap_or(0);
            number = number << 1 | u64::from(byte >> (7 - at % 8) & 1);
        }
        self.whole(number)
    }

    /// The number that the lowest bits of `bits` are.
    fn whole(&self, bits: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed {
            (bits << unused) as i64 >> unused
        } else {
            (bits << unused >> unused) as i64
        }
    }

    fn write(&self, value: &mut [u8], number: i64) {
        for n in 0..self.bits as usize {
            let at = self.offset + n;
            let bit = (number >> (self.bits as usize - 1 - n) & 1) as u8;
            let shift = 7 - at % 8;
            value[at / 8] = value[at / 8] & !(1 << shift) | bit << shift;
        }
    }

    /// `value` + `by` as the field holds it; None if it can't and must not.
    ///
    /// Redis's own order of comparisons, on numbers that wrap: a signed SET far below the
    /// least is taken for one above the greatest.
    fn fit(&self, value: i64, by: i64, overflow: Overflow) -> Option<i64> {
        let wrapped = self.whole((value as u64).wrapping_add(by as u64));
        let (over, max, under, min);
        if self.signed {
            max = i64::MAX >> (64 - self.bits);
            min = -max - 1;
            let (room_above, room_below) = (max.wrapping_sub(value), min.wrapping_sub(value));
            let narrow = self.bits != 64;
            over = value > max || by > room_above && (narrow || value >= 0 && by > 0);
            under = value < min || by < room_below && (narrow || value < 0 && by < 0);
        } else {
            let unsigned = value as u64;
            let max_unsigned = (1u64 << self.bits) - 1;
            (max, min) = (max_unsigned as i64, 0);
            over = unsigned > max_unsigned
                || by > 0 && by > max_unsigned.wrapping_sub(unsigned) as i64;
            under = by < 0 && by < unsigned.wrapping_neg() as i64;
        }
        match overflow {
            _ if !over && !under => Some(wrapped),
            Overflow::Wrap => Some(wrapped),
            Overflow::Saturate => Some(if over { max } else { min }),
            Overflow::Fail => None,
        }
    }
}

fn run(e: &mut Evaluation<'_>, may_write: bool) -> Outcome {
    let key = e.args[1];
    let steps = parse(&e.args[2..])?;
    let end = steps
        .iter()
        .filter(|(_, action)| !matches!(action, Action::Get))
        .map(|(field, _)| field.end())
        .max();
    if end.is_some() && !may_write {
        return Err(Refusal::BitfieldReadOnly);
    }
    e.spend(STEP.saturating_mul(steps.len() as u64))?;
    let (found, old) = e.string(key)?;
    // Room is made for every field that is written, even if none is in the end.
    let mut value = match end {
        Some(end) => grown(e, old.clone(), end)?,
        None => old.as_deref().unwrap_or_default().into(),
    };
    let mut reply = e.reply();
    reply.array(steps.len());
    for (field, action) in steps {
        let before = field.read(&value);
        let (after, shown) = match action {
            Action::Get => (None, Some(before)),
            Action::Set(number, overflow) => {
                let after = field.fit(number, 0, overflow);
                (after, after.map(|_| before))
            }
            Action::Add(by, overflow) => {
                let after = field.fit(before, by, overflow);
                (after, after)
            }
        };
        if let Some(after) = after {
            field.write(&mut value, after);
        }
        match shown {
            Some(number) => reply.integer(number),
            None => reply.null(),
        }
    }
    if end.is_some() && old.as_deref() != Some(&value) {
        e.put_string(key, &found, found.expires_ms(), &value);
    }
    Ok(())
}

pub(crate) fn bitfield(e: &mut Evaluation<'_>) -> Outcome {
    run(e, true)
}

pub(crate) fn bitfield_ro(e: &mut Evaluation<'_>) -> Outcome {
    run(e, false)
}
