//! Parts of strings: SETRANGE GETRANGE SUBSTR LCS.

use crate::{error::Refusal, evaluate::Evaluation, numbers, work::PAIR};
use bytes::{Bytes, BytesMut};
use model::limits::STRING_BYTES_MAX;
use resp::reply::Encoder;

type Outcome = Result<(), Refusal>;

/// The value `old` made `length` long at least, zeros behind it; refused if it is too long
/// for a string or for one command.
pub(crate) fn grown(
    e: &Evaluation<'_>,
    old: Option<Bytes>,
    length: usize,
) -> Result<BytesMut, Refusal> {
    let old = old.unwrap_or_default();
    let length = length.max(old.len());
    e.check_value(e.args[1].len() + length)?;
    let mut value = BytesMut::with_capacity(length);
    value.extend_from_slice(&old);
    value.resize(length, 0);
    Ok(value)
}

pub(crate) fn setrange(e: &mut Evaluation<'_>) -> Outcome {
    let (key, part) = (e.args[1], e.args[3]);
    let offset = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::Offset)?;
    let (found, old) = e.string(key)?;
    let mut length = old.as_ref().map_or(0, Bytes::len);
    if !part.is_empty() {
        let end = offset.saturating_add(part.len());
        if end > STRING_BYTES_MAX {
            return Err(Refusal::StringTooLong);
        }
        let mut value = grown(e, old, end)?;
        value[offset..end].copy_from_slice(part);
        length = value.len();
        e.put_string(key, &found, found.expires_ms(), &value);
    }
    e.reply().integer(length as i64);
    Ok(())
}

/// The range that two indexes, negative ones from the end, take of what is `len` long; None
/// if it is empty.
pub(crate) fn range(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let len = len as i64;
    let place = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    (start <= end).then_some((start as usize, end as usize))
}

pub(crate) fn getrange(e: &mut Evaluation<'_>) -> Outcome {
    let start = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    let end = numbers::parse(e.args[3]).ok_or(Refusal::NotAnInteger)?;
    let (_, value) = e.string(e.args[1])?;
    let value = value.unwrap_or_default();
    let part = match range(start, end, value.len()) {
        Some((start, end)) => &value[start..=end],
        None => &[],
    };
    e.reply().bulk(part);
    Ok(())
}

/// What follows `LCS a b`.
#[derive(Default)]
struct LcsOptions {
    length: bool,
    indexes: bool,
    with_lengths: bool,
    length_min: i64,
}

impl LcsOptions {
    fn parse(args: &[&[u8]]) -> Result<Self, Refusal> {
        let mut options = LcsOptions::default();
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("idx") {
                options.indexes = true;
            } else if is("len") {
                options.length = true;
            } else if is("withmatchlen") {
                options.with_lengths = true;
            } else if is("minmatchlen") {
                let least = rest.next().ok_or(Refusal::Syntax)?;
                let least = numbers::parse(least).ok_or(Refusal::NotAnInteger)?;
                options.length_min = least.max(0);
            } else {
                return Err(Refusal::Syntax);
            }
        }
        if options.indexes && options.length {
            return Err(Refusal::LcsLengthAndIndexes);
        }
        Ok(options)
    }
}

pub(crate) fn lcs(e: &mut Evaluation<'_>) -> Outcome {
    let mut strings = [Bytes::new(), Bytes::new()];
    for (n, string) in strings.iter_mut().enumerate() {
        *string = match e.string(e.args[1 + n]) {
            Ok((_, value)) => value.unwrap_or_default(),
            Err(Refusal::WrongType) => return Err(Refusal::LcsNotStrings),
            Err(refusal) => return Err(refusal),
        };
    }
    let options = LcsOptions::parse(&e.args[3..])?;
    let [a, b] = strings;
    let steps = (a.len() as u64 + 1) * (b.len() as u64 + 1);
    // What is left has a subsequence shorter than 2¹⁶.
    if steps.saturating_mul(4) > STRING_BYTES_MAX as u64 {
        return Err(Refusal::LcsTooLarge);
    }
    e.spend(steps.saturating_mul(PAIR))?;
    let lengths = Lengths::of(&a, &b);
    let length = lengths.at(a.len(), b.len());
    if options.length {
        e.reply().integer(length.into());
        return Ok(());
    }
    let (common, matches) = lengths.walk_back(&a, &b);
    if !options.indexes {
        e.reply().bulk(common);
        return Ok(());
    }
    let shown = |m: &&Match| options.length_min == 0 || m.length() as i64 >= options.length_min;
    let mut reply = e.reply();
    reply.map(2);
    reply.bulk("matches");
    reply.array(matches.iter().filter(shown).count());
    for found in matches.iter().filter(shown) {
        found.reply(options.with_lengths, &mut reply);
    }
    reply.bulk("len");
    reply.integer(length.into());
    Ok(())
}

/// The length of the longest common subsequence of every two prefixes.
struct Lengths {
    table: Vec<u16>,
    row: usize,
}

/// A stretch that both strings have in common: where it starts and ends in each.
struct Match {
    a: (usize, usize),
    b: (usize, usize),
}

impl Match {
    fn length(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }

    fn reply(&self, with_length: bool, out: &mut Encoder<'_>) {
        out.array(2 + usize::from(with_length));
        for (from, to) in [self.a, self.b] {
            out.array(2);
            out.integer(from as i64);
            out.integer(to as i64);
        }
        if with_length {
            out.integer(self.length() as i64);
        }
    }
}

impl Lengths {
    fn of(a: &[u8], b: &[u8]) -> Lengths {
        let row = b.len() + 1;
        // Each is at most the square root of the table's size.
        let mut table = vec![0u16; row * (a.len() + 1)];
        for (i, x) in a.iter().enumerate() {
            let (above, below) = table[i * row..].split_at_mut(row);
            for (j, y) in b.iter().enumerate() {
                below[j + 1] = if x == y {
                    above[j] + 1
                } else {
                    above[j + 1].max(below[j])
                };
            }
        }
        Lengths { table, row }
    }

    fn at(&self, i: usize, j: usize) -> u16 {
        self.table[i * self.row + j]
    }

    /// The subsequence, and its stretches from the last to the first. Of several that are as
    /// long, Redis's.
    fn walk_back(&self, a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Match>) {
        let (mut common, mut matches) = (Vec::new(), Vec::new());
        let mut open: Option<Match> = None;
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                common.push(a[i]);
                match &mut open {
                    Some(open) => (open.a.0, open.b.0) = (i, j),
                    None => {
                        open = Some(Match {
                            a: (i, i),
                            b: (j, j),
                        });
                    }
                }
            } else {
                if self.at(i - 1, j) > self.at(i, j - 1) {
                    i -= 1;
                } else {
                    j -= 1;
                }
                matches.extend(open.take());
            }
        }
        matches.extend(open);
        common.reverse();
        (common, matches)
    }
}
