//! A look at commands that are still to be decoded.

use crate::number::parse_integer;
use memchr::memchr;

/// Arguments of a command that is looked at: one that arrives bit by bit is looked at each time.
pub const ARGS_MAX: usize = 64;

/// What the command at the front of some input names, probably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// Its second argument.
    pub key: &'a [u8],
    /// Its third.
    pub field: Option<&'a [u8]>,
    /// How many bytes the command has.
    pub len: usize,
}

/// Of the command at the front of `input`, if that is a complete array of at most [`ARGS_MAX`]
/// bulk strings and has a second one. None for anything else. It is no more than a guess at what is
/// to come: what is malformed is left to the decoder.
pub fn names(input: &[u8]) -> Option<Names<'_>> {
    let mut at = 0;
    let count = number(input, &mut at, b'*')?;
    if count > ARGS_MAX {
        return None;
    }
    let (mut second, mut third) = (None, None);
    for n in 0..count {
        let len = number(input, &mut at, b'$')?;
        let end = at.checked_add(len)?;
        let argument = input.get(at..end)?;
        match n {
            1 => second = Some(argument),
            2 => third = Some(argument),
            _ => {}
        }
        at = end + 2;
    }
    let (key, field, len) = (second?, third, at);
    (len <= input.len()).then_some(Names { key, field, len })
}

/// The number of a line that begins with `mark`; `at` moves behind the line.
fn number(input: &[u8], at: &mut usize, mark: u8) -> Option<usize> {
    let rest = input.get(*at..)?.strip_prefix(&[mark])?;
    let end = memchr(b'\r', rest)?;
    *at += end + 3;
    parse_integer(&rest[..end])?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode_command;

    #[test]
    fn a_complete_command_shows_its_second_and_third_argument() {
        let mut bytes = bytes::BytesMut::new();
        encode_command(&[&b"SET"[..], b"key", b"a\r\nb"], &mut bytes);
        let one = bytes.len();
        encode_command(&[&b"GET"[..], b""], &mut bytes);
        let set = Names {
            key: b"key",
            field: Some(b"a\r\nb"),
            len: one,
        };
        assert_eq!(names(&bytes), Some(set));
        let get = Names {
            key: b"",
            field: None,
            len: bytes.len() - one,
        };
        assert_eq!(names(&bytes[one..]), Some(get));
        for cut in 0..one {
            assert_eq!(names(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn anything_else_shows_none() {
        for input in [
            "PING\r\n",
            "*1\r\n$4\r\nPING\r\n",
            "*-1\r\n",
            "*2\r\n$3\r\nGET\r\n$-1\r\n",
            "*2\r\n$3\r\nGET\r\n$18446744073709551615\r\nk\r\n",
            "*2\r\n$3\r\nGET\r\n$9223372036854775807\r\nk\r\n",
        ] {
            assert_eq!(names(input.as_bytes()), None, "{input}");
        }
    }
}
