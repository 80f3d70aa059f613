//! Replies, written straight into a connection's output.
//!
//! One call writes one value; a header (`array`, `map`, …) is followed by as many calls as it
//! announces. What the client's version lacks is written as Redis writes it there:
//!
//! | value | RESP3 | RESP2 |
//! |---|---|---|
//! | null, null array | `_` | `$-1`, `*-1` |
//! | map of n | `%n` | array of 2n |
//! | set, push | `~n`, `>n` | array |
//! | double | `,1.5` | bulk `1.5` |
//! | boolean | `#t` `#f` | `:1` `:0` |
//! | big number | `(123` | bulk `123` |
//! | verbatim | `=9 txt:hello` | bulk `hello` |
//! | blob error | `!5` | `-` line |

use crate::{Version, number::format_double};
use bytes::{BufMut, BytesMut};

/// Writes replies at the end of a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut BytesMut,
    version: Version,
}

impl<'a> Encoder<'a> {
    /// Writes to the end of `out` what a client of `version` understands.
    pub fn new(version: Version, out: &'a mut BytesMut) -> Self {
        Encoder { out, version }
    }

    /// The version it writes.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes in the buffer so far.
    pub fn written(&self) -> usize {
        self.out.len()
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string: a short word such as `PONG`. CR and LF become spaces.
    pub fn simple(&mut self, line: impl AsRef<[u8]>) {
        self.line(b'+', line.as_ref());
    }

    /// An error line without `-`, its code first: `ERR no such key`. CR and LF become spaces.
    pub fn error(&mut self, line: impl AsRef<[u8]>) {
        self.line(b'-', line.as_ref());
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A bulk string: any bytes.
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        put_bulk(self.out, b'$', bytes.as_ref());
    }

    /// A bulk string of a number's digits, as `GET` of a counter.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value));
    }

    /// No value.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// No array: what `EXEC` returns when it did not run.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// `len` values follow.
    pub fn array(&mut self, len: usize) {
        put_len(self.out, b'*', len);
    }

    /// `len` pairs follow, each a key and its value.
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => put_len(self.out, b'*', len.saturating_mul(2)),
            Version::Resp3 => put_len(self.out, b'%', len),
        }
    }

    /// `len` distinct values follow, in no order.
    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len);
    }

    /// A message that answers nothing, of `len` values.
    pub fn push(&mut self, len: usize) {
        self.aggregate(b'>', len);
    }

    /// A double.
    pub fn double(&mut self, value: f64) {
        let text = format_double(value);
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.version, value) {
            (Version::Resp2, true) => b":1\r\n",
            (Version::Resp2, false) => b":0\r\n",
            (Version::Resp3, true) => b"#t\r\n",
            (Version::Resp3, false) => b"#f\r\n",
        });
    }

    /// An integer of any size, in decimal digits.
    pub fn big_number(&mut self, digits: impl AsRef<[u8]>) {
        match self.version {
            Version::Resp2 => self.bulk(digits),
            Version::Resp3 => self.line(b'(', digits.as_ref()),
        }
    }

    /// Text to be shown as it is, such as that of `INFO`, with its format: `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &[u8; 3], text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                put_len(self.out, b'=', text.len().saturating_add(4));
                self.out.reserve(text.len().saturating_add(6));
                self.out.put_slice(format);
                self.out.put_u8(b':');
                self.out.put_slice(text);
                self.out.put_slice(b"\r\n");
            }
        }
    }

    /// An error of any bytes; Redis itself sends none.
    pub fn blob_error(&mut self, bytes: impl AsRef<[u8]>) {
        match self.version {
            Version::Resp2 => self.error(bytes),
            Version::Resp3 => put_bulk(self.out, b'!', bytes.as_ref()),
        }
    }

    fn aggregate(&mut self, kind: u8, len: usize) {
        let kind = match self.version {
            Version::Resp2 => b'*',
            Version::Resp3 => kind,
        };
        put_len(self.out, kind, len);
    }

    fn number(&mut self, kind: u8, value: i64) {
        let mut digits = itoa::Buffer::new();
        put_line(self.out, kind, digits.format(value).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        let start = self.out.len() + 1;
        put_line(self.out, kind, text);
        if let Some(line) = self.out.get_mut(start..start + text.len()) {
            for byte in line {
                if matches!(byte, b'\r' | b'\n') {
                    *byte = b' ';
                }
            }
        }
    }
}

fn put_line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.reserve(text.len().saturating_add(3));
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

pub(crate) fn put_len(out: &mut BytesMut, kind: u8, len: usize) {
    put_line(out, kind, itoa::Buffer::new().format(len).as_bytes());
}

pub(crate) fn put_bulk(out: &mut BytesMut, kind: u8, bytes: &[u8]) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(bytes.len()).as_bytes();
    // Once for all that follows: type, at most 20 digits, two line ends.
    out.reserve(bytes.len().saturating_add(25));
    put_line(out, kind, digits);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, write: impl Fn(&mut Encoder<'_>)) -> String {
        let mut out = BytesMut::new();
        write(&mut Encoder::new(version, &mut out));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn each_value_in_each_version() {
        type Case = (fn(&mut Encoder<'_>), &'static str, &'static str);
        let cases: &[Case] = &[
            (|e| e.ok(), "+OK\r\n", "+OK\r\n"),
            (|e| e.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|e| e.simple(""), "+\r\n", "+\r\n"),
            (
                |e| e.error("ERR a\r\n+OK\nb"),
                "-ERR a  +OK b\r\n",
                "-ERR a  +OK b\r\n",
            ),
            (|e| e.simple("\r\n"), "+  \r\n", "+  \r\n"),
            (|e| e.integer(0), ":0\r\n", ":0\r\n"),
            (
                |e| e.integer(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (|e| e.bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|e| e.bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|e| e.bulk_integer(-12), "$3\r\n-12\r\n", "$3\r\n-12\r\n"),
            (|e| e.null(), "$-1\r\n", "_\r\n"),
            (|e| e.null_array(), "*-1\r\n", "_\r\n"),
            (|e| e.array(1000), "*1000\r\n", "*1000\r\n"),
            (|e| e.map(2), "*4\r\n", "%2\r\n"),
            (|e| e.set(3), "*3\r\n", "~3\r\n"),
            (|e| e.push(3), "*3\r\n", ">3\r\n"),
            (|e| e.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (
                |e| e.double(f64::NEG_INFINITY),
                "$4\r\n-inf\r\n",
                ",-inf\r\n",
            ),
            (|e| e.boolean(true), ":1\r\n", "#t\r\n"),
            (|e| e.boolean(false), ":0\r\n", "#f\r\n"),
            (|e| e.big_number("123"), "$3\r\n123\r\n", "(123\r\n"),
            (
                |e| e.verbatim(b"txt", "a\r\n"),
                "$3\r\na\r\n\r\n",
                "=7\r\ntxt:a\r\n\r\n",
            ),
            (
                |e| e.blob_error("ERR a\nb"),
                "-ERR a b\r\n",
                "!7\r\nERR a\nb\r\n",
            ),
        ];
        for (n, (write, resp2, resp3)) in cases.iter().enumerate() {
            assert_eq!(&written(Version::Resp2, write), resp2, "case {n}");
            assert_eq!(&written(Version::Resp3, write), resp3, "case {n}");
        }
    }
}
