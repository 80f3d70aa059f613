//! Redis's patterns (`stringmatchlen`): `*`, `?`, `[ab]`, `[^ab]`, `[a-z]`, `\x`.
//!
//! Patterns come from clients, so this neither recurses nor backtracks beyond the last `*`:
//! what fails behind it fails behind any earlier one too. Time is at most pattern × text.

/// Whether `pattern` describes the whole of `text`. As in Redis, an empty text is described
/// by the empty pattern alone (`MATCH *` does not come here), an unclosed `[` ends with the
/// pattern, and a `\` at the end stands for itself.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Behind the last star: where to go on, and what it has not swallowed yet.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if let Some(next) = one(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            (p, t) = (behind, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Matches one byte with the element at `p`; returns where the next element starts.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (*literal == byte).then_some(p + 1),
    }
}

/// Matches one byte with the class whose first byte behind the bracket is at `p`.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[p..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [from, b'-', to, ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                p += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_as_redis_does() {
        for (pattern, text, expected) in [
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[b-a]llo", "hallo", true),
            ("h[a-", "h-", true),
            ("h[a", "ha", true),
            ("h[", "h[", false),
            ("h[^", "hx", true),
            ("h\\*", "h*", true),
            ("h\\*", "hx", false),
            ("h\\", "h\\", true),
            ("[\\]]", "]", true),
            ("[]a", "a", false),
            ("a*", "a", true),
            ("a**", "a", true),
            ("**", "a", true),
            ("*", "", false),
            ("", "", true),
            ("", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_are_not_slow() {
        let text = vec![b'a'; 4096];
        let pattern = b"a*".repeat(2048);
        assert!(matches(&pattern, &text));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }

    /// The obvious definition, for patterns of literals, `?` and `*`.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|n| plain(rest, &text[n..])),
            [p, rest @ ..] => {
                !text.is_empty() && (*p == b'?' || *p == text[0]) && plain(rest, &text[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn stars_swallow_anything(pattern in "[ab?*]{0,8}", text in "[ab]{1,8}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), plain(pattern, text));
        }

        #[test]
        fn no_pattern_makes_it_panic(
            pattern in "[ab\\[\\]^\\\\*?-]{0,12}", text in "[ab\\[\\]^-]{0,8}",
        ) {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
