//! The words of an inline command, by the rules of Redis's `sdssplitargs`:
//!
//! - blanks separate words;
//! - `"…"` takes blanks into a word, and knows `\n \r \t \b \a \xHH`; `\` before any other
//!   byte stands for that byte;
//! - `'…'` takes everything as it is but `\'`;
//! - a quote may open within a word (`a"b c"` is `ab c`); once closed the word must end.
//!
//! Unlike in C, a zero byte is a byte like any other.

use crate::ProtocolError;

/// Cuts `line`, which has no line end, into words: appends their bytes to `words` and tells
/// `found` the start and end of each in it.
pub(crate) fn split_words(
    line: &[u8],
    words: &mut Vec<u8>,
    mut found: impl FnMut(usize, usize),
) -> Result<(), ProtocolError> {
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = words.len();
        rest = word(rest, words)?;
        found(start, words.len());
    }
}

/// Reads one word; returns what follows it.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', tail @ ..] => return closed(double_quoted(tail, out)?),
            [b'\'', tail @ ..] => return closed(single_quoted(tail, out)?),
            [byte, tail @ ..] => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        out.push(byte);
        rest = tail;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', tail @ ..] => return Ok(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        out.push(byte);
        rest = tail;
    }
}

/// What follows a closing quote, which must be a blank or nothing.
fn closed(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(byte) if !is_space(*byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The value of a byte known to be a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        split_words(line, &mut bytes, |start, end| spans.push(start..end)).ok()?;
        Some(spans.into_iter().map(|s| bytes[s].to_vec()).collect())
    }

    #[test]
    fn words_are_cut_as_redis_cuts_them() {
        let cases: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t \x0b ", &[]),
            (b"PING", &[b"PING"]),
            (b"  SET  k\tv ", &[b"SET", b"k", b"v"]),
            (b"a\rb", &[b"a", b"b"]),
            (b"a\x0bb", &[b"a\x0bb"]),
            (br#""" '' x"#, &[b"", b"", b"x"]),
            (br#""a b" 'c d'"#, &[b"a b", b"c d"]),
            (br#"a"b c" d'e f'"#, &[b"ab c", b"de f"]),
            (br#""\n\r\t\b\a\\\"\q""#, &[b"\n\r\t\x08\x07\\\"q"]),
            (br#""\x00\xfF\x4a""#, &[b"\x00\xff\x4a"]),
            (br#""\xg1\x1""#, &[b"xg1x1"]),
            (br"'\n\x41' '\''", &[br"\n\x41", b"'"]),
            (br"a\ b", &[br"a\", b"b"]),
            (b"\"a\"\x0bb", &[b"a", b"b"]),
            (b"nul\0nul", &[b"nul\0nul"]),
        ];
        for (line, words) in cases {
            let words: Vec<Vec<u8>> = words.iter().map(|w| w.to_vec()).collect();
            let shown = line.escape_ascii();
            assert_eq!(split(line), Some(words), "{shown}");
        }
        let unbalanced: &[&[u8]] = &[
            b"\"",
            b"'",
            b"a \"b",
            b"a 'b",
            br#""a\""#,
            br"'a\'",
            b"\"a\"b",
            b"'a'b",
            b"'a''b'",
            br#""a"'b'"#,
            br#""\"#,
        ];
        for line in unbalanced {
            assert_eq!(split(line), None, "{} was taken", line.escape_ascii());
        }
    }
}
