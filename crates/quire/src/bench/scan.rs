//! Replies, read in place: where one ends, and the one number that the checks look for.
//!
//! The bench shares its machine with the servers that it measures, so it builds no values. It
//! reads RESP2 and what RESP3 adds, but for streamed strings, which no server sends unasked.

/// Bytes that are not RESP, or a reply nested or sized beyond what the bench asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent bytes that are not a RESP reply")]
pub(super) struct Malformed;

/// A length line longer than this is nonsense.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Elements of one reply, nested ones included.
const ELEMENTS_MAX: u64 = 1 << 24;
/// The longest string.
const STRING_BYTES_MAX: u64 = 512 << 20;

/// The length of the first reply in `bytes`; None if it has not all arrived.
pub(super) fn reply_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    let mut wanted: u64 = 1;
    while wanted > 0 {
        let Some(element) = element(bytes, at)? else {
            return Ok(None);
        };
        at = element.end;
        wanted = wanted - 1 + element.children;
        if wanted > ELEMENTS_MAX {
            return Err(Malformed);
        }
    }
    Ok(Some(at))
}

/// The error of `reply`, without its sign and line end.
pub(super) fn error_of(reply: &[u8]) -> Option<&[u8]> {
    match reply.first()? {
        b'-' => Some(&reply[1..reply.len().saturating_sub(2)]),
        b'!' => {
            let start = find_line_end(reply, 0).ok()??;
            Some(&reply[start..reply.len().saturating_sub(2)])
        }
        _ => None,
    }
}

/// Whether `reply` is a hash (or a list) with nothing in it.
pub(super) fn is_empty(reply: &[u8]) -> bool {
    matches!(reply, b"*0\r\n" | b"%0\r\n")
}

/// The number in `field` of a hash's reply (`HGETALL`); None if the field is not there.
pub(super) fn number_in_field(reply: &[u8], field: &[u8]) -> Option<u64> {
    if !matches!(reply.first()?, b'*' | b'%') {
        return None;
    }
    let mut at = element(reply, 0).ok()??.end;
    while at < reply.len() {
        let name = element(reply, at).ok()??;
        let value = element(reply, name.end).ok()??;
        if name.children != 0 || value.children != 0 {
            return None;
        }
        if name.text(reply) == field {
            return number(value.text(reply));
        }
        at = value.end;
    }
    None
}

/// The number that a string's reply (`GET`) starts with, up to a colon or the end.
pub(super) fn number_in_string(reply: &[u8]) -> Option<u64> {
    if *reply.first()? != b'$' {
        return None;
    }
    let text = element(reply, 0).ok()??.text(reply);
    number(text.split(|b| *b == b':').next()?)
}

/// One element, without its children.
struct Element {
    /// Its text, where it has one.
    start: usize,
    text_end: usize,
    /// The first byte after it.
    end: usize,
    /// How many elements follow that belong to it.
    children: u64,
}

impl Element {
    fn text<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.start..self.text_end).unwrap_or_default()
    }
}

fn element(bytes: &[u8], at: usize) -> Result<Option<Element>, Malformed> {
    let Some(kind) = bytes.get(at) else {
        return Ok(None);
    };
    let Some(line_end) = find_line_end(bytes, at)? else {
        return Ok(None);
    };
    let line = &bytes[at + 1..line_end - 2];
    let flat = |children| Element {
        start: at + 1,
        text_end: line_end - 2,
        end: line_end,
        children,
    };
    Ok(Some(match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => flat(0),
        b'$' | b'!' | b'=' => {
            if line == b"-1" {
                return Ok(Some(Element {
                    text_end: at + 1,
                    ..flat(0)
                }));
            }
            let len = number(line)
                .filter(|n| *n <= STRING_BYTES_MAX)
                .ok_or(Malformed)? as usize;
            let text_end = line_end + len;
            if bytes.len() < text_end + 2 {
                return Ok(None);
            }
            if &bytes[text_end..text_end + 2] != b"\r\n" {
                return Err(Malformed);
            }
            Element {
                start: line_end,
                text_end,
                end: text_end + 2,
                children: 0,
            }
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            if line == b"-1" {
                return Ok(Some(flat(0)));
            }
            let count = number(line)
                .filter(|n| *n <= ELEMENTS_MAX)
                .ok_or(Malformed)?;
            // An attribute is followed by the reply that it describes.
            flat(match kind {
                b'%' => 2 * count,
                b'|' => 2 * count + 1,
                _ => count,
            })
        }
        _ => return Err(Malformed),
    }))
}

/// The first byte after the line that starts at `at`.
fn find_line_end(bytes: &[u8], at: usize) -> Result<Option<usize>, Malformed> {
    let rest = &bytes[at..];
    match rest.iter().position(|b| *b == b'\n') {
        Some(n) if n >= 2 && rest[n - 1] == b'\r' => Ok(Some(at + n + 1)),
        Some(_) => Err(Malformed),
        None if rest.len() > LINE_BYTES_MAX => Err(Malformed),
        None => Ok(None),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just(b"+OK\r\n".to_vec()),
            Just(b"-ERR no\r\n".to_vec()),
            Just(b":-12\r\n".to_vec()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"*-1\r\n".to_vec()),
            Just(b"_\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|text| {
                [format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat()
            }),
        ];
        leaf.prop_recursive(3, 30, 6, |inner| {
            proptest::collection::vec(inner, 0..6).prop_map(|items| {
                [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
            })
        })
    }

    proptest! {
        #[test]
        fn finds_the_end_and_never_too_early(first in reply(), second in reply()) {
            let both = [first.clone(), second].concat();
            prop_assert_eq!(reply_len(&both), Ok(Some(first.len())));
            for cut in 0..first.len() {
                prop_assert_eq!(reply_len(&first[..cut]), Ok(None), "cut at {}", cut);
            }
        }

        #[test]
        fn takes_any_bytes_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = reply_len(&bytes);
            let _ = error_of(&bytes);
            let _ = number_in_field(&bytes, b"n");
            let _ = number_in_string(&bytes);
        }
    }

    #[test]
    fn reads_numbers_and_errors() {
        let hash = b"*4\r\n$1\r\na\r\n$1\r\nn\r\n$1\r\nn\r\n$2\r\n42\r\n";
        assert_eq!(number_in_field(hash, b"n"), Some(42));
        assert_eq!(number_in_field(hash, b"b"), None);
        let map = b"%1\r\n$1\r\nn\r\n$1\r\n7\r\n";
        assert_eq!(reply_len(map), Ok(Some(map.len())));
        assert_eq!(number_in_field(map, b"n"), Some(7));
        assert_eq!(number_in_field(b"*0\r\n", b"n"), None);
        assert!(is_empty(b"*0\r\n") && is_empty(b"%0\r\n") && !is_empty(map));
        assert_eq!(number_in_string(b"$5\r\n17:xx\r\n"), Some(17));
        assert_eq!(number_in_string(b"$-1\r\n"), None);
        assert_eq!(
            error_of(b"-NOREPLICAS wait\r\n"),
            Some(&b"NOREPLICAS wait"[..])
        );
        assert_eq!(error_of(b"!5\r\nERR x\r\n"), Some(&b"ERR x"[..]));
        assert_eq!(error_of(b"+OK\r\n"), None);
        assert_eq!(reply_len(b"HTTP/1.1 400\r\n"), Err(Malformed));
    }
}
