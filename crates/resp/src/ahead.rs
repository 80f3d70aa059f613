//! A look at commands that are still to be decoded.

use crate::number::parse_integer;
use memchr::memchr;

/// Arguments of a command that is looked at: one that arrives bit by bit is looked at each time.
pub const ARGS_MAX: usize = 64;

/// Of the command at the front of `input`, if that is a complete array of at most [`ARGS_MAX`]
/// bulk strings: its second argument, which is a key in most, and the command's length. None for
/// anything else. It is no more than a guess at what is to come: what is malformed is left to the
/// decoder.
pub fn second_argument(input: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 0;
    let count = number(input, &mut at, b'*')?;
    if count > ARGS_MAX {
        return None;
    }
    let mut second = None;
    for n in 0..count {
        let len = number(input, &mut at, b'$')?;
        let end = at.checked_add(len)?;
        let argument = input.get(at..end)?;
        if n == 1 {
            second = Some(argument);
        }
        at = end + 2;
    }
    (at <= input.len()).then_some((second?, at))
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
    fn a_complete_command_shows_its_second_argument() {
        let mut bytes = bytes::BytesMut::new();
        encode_command(&[&b"SET"[..], b"key", b"a\r\nb"], &mut bytes);
        let one = bytes.len();
        encode_command(&[&b"GET"[..], b""], &mut bytes);
        let (key, len) = second_argument(&bytes).unwrap();
        assert_eq!((key, len), (&b"key"[..], one));
        assert_eq!(
            second_argument(&bytes[one..]),
            Some((&b""[..], bytes.len() - one))
        );
        for cut in 0..one {
            assert_eq!(second_argument(&bytes[..cut]), None, "{cut}");
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
            assert_eq!(second_argument(input.as_bytes()), None, "{input}");
        }
    }
}
