//! Errors among the elements of an array, found without making frames of it.

/// The errors, without `-` and CR LF, that are elements of the array `reply` itself. What is no
/// array has none, and what is cut short has none behind the cut.
pub fn nested_errors(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut left) = (reply, 0);
    if let Some((line, behind)) = line(reply)
        && let [b'*', count @ ..] = line
    {
        (rest, left) = (behind, number(count));
    }
    std::iter::from_fn(move || {
        while left > 0 {
            left -= 1;
            if let (b'-', error) = skip(&mut rest)? {
                return Some(error);
            }
        }
        None
    })
}

/// Steps over one value; its kind and what stands in its first line.
fn skip<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let mut first = None;
    let mut left = 1u64;
    while left > 0 {
        left -= 1;
        let (line, behind) = line(rest)?;
        *rest = behind;
        let (kind, text) = line.split_first()?;
        first = first.or(Some((*kind, text)));
        match kind {
            b'$' | b'=' | b'!' if text != b"-1" => {
                let end = usize::try_from(number(text)).ok()?.checked_add(2)?;
                *rest = rest.get(end..)?;
            }
            b'*' | b'~' | b'>' => left = left.checked_add(number(text))?,
            b'%' => left = left.checked_add(number(text).checked_mul(2)?)?,
            _ => {}
        }
    }
    first
}

/// The first line without CR LF, and what is behind it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// None: nothing, as of a value that is absent.
fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoder, Version};
    use bytes::BytesMut;

    #[test]
    fn only_elements_of_the_array_itself_count() {
        for version in [Version::Resp2, Version::Resp3] {
            let mut reply = BytesMut::new();
            let mut out = Encoder::new(version, &mut reply);
            out.array(9);
            out.error("ERR one");
            out.bulk(b"-ERR in a value\r\n-ERR\r\n");
            out.map(1);
            out.bulk("field");
            out.bulk("");
            out.null();
            out.array(2);
            out.integer(-1);
            out.array(0);
            out.verbatim(b"txt", "-ERR");
            out.null_array();
            out.error("WRONGTYPE two");
            out.ok();
            let errors: Vec<_> = nested_errors(&reply).collect();
            assert_eq!(errors, [&b"ERR one"[..], b"WRONGTYPE two"]);
            for end in 0..reply.len() {
                assert!(nested_errors(&reply[..end]).count() <= 2);
            }
        }
        for none in [
            "",
            "-ERR x\r\n",
            "*-1\r\n",
            "_\r\n",
            "*1\r\n",
            "*x\r\n",
            "*99999999999\r\n",
        ] {
            assert_eq!(nested_errors(none.as_bytes()).count(), 0, "{none:?}");
        }
    }
}
