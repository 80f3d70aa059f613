//! Redis's patterns (`stringmatchlen`): `*`, `?`, `[ab]`, `[^ab]`, `[a-z]`, `\x`.
//!
//! Patterns come from clients, so this neither recurses nor backtracks beyond the last `*`:
//! what fails behind it fails behind any earlier one too. Time is at most pattern × text, and
//! who matches says how many steps that may be: a shard as many as the command's work allows, a
//! node [`STEPS_MAX`] for what it matches names of its own with.

/// Steps that a node takes for one command over its own lists of names: some milliseconds.
pub const STEPS_MAX: u64 = 1 << 20;

/// The error line where they are not enough.
pub const TOO_MANY_STEPS: &str =
    "ERR the pattern takes too much work: make it shorter, or ask for names";

/// Whether `pattern` describes the whole of `text`. As in Redis, an empty text is described
/// by the empty pattern alone (`MATCH *` does not come here), an unclosed `[` ends with the
/// pattern, and a `\` at the end stands for itself.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut steps = u64::MAX;
    matches_within(pattern, text, &mut steps).unwrap_or(false)
}

/// The same in at most `steps` steps, each over a byte of the pattern; they are taken from it.
/// None if they are not enough.
pub fn matches_within(pattern: &[u8], text: &[u8], steps: &mut u64) -> Option<bool> {
    if text.is_empty() {
        return Some(pattern.is_empty());
    }
    let (mut p, mut t) = (0, 0);
    // Behind the last star: where to go on, and what it has not swallowed yet.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let (found, next) = one(pattern, p, text[t]);
        *steps = steps.checked_sub((next - p).max(1) as u64)?;
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if found {
            (p, t) = (next, t + 1);
        } else if let Some((behind, from)) = star {
            star = Some((behind, from + 1));
            (p, t) = (behind, from + 1);
        } else {
            return Some(false);
        }
    }
    let rest = &pattern[p..];
    *steps = steps.checked_sub(rest.len() as u64)?;
    Some(rest.iter().all(|b| *b == b'*'))
}

/// Whether one byte matches the element at `p`, and where the next element starts; `p` at the
/// end, which matches nothing.
fn one(pattern: &[u8], p: usize, byte: u8) -> (bool, usize) {
    match pattern.get(p) {
        None => (false, p),
        Some(b'?') => (true, p + 1),
        Some(b'[') => class(pattern, p + 1, byte),
        Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == byte, p + 2),
        Some(literal) => (*literal == byte, p + 1),
    }
}

/// Whether one byte is of the class whose first byte behind the bracket is at `p`, and where the
/// class ends.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> (bool, usize) {
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
    (found != negated, p)
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

    #[test]
    fn no_pattern_takes_more_steps_than_it_may() {
        let (key, pattern) = (
            vec![b'a'; 32_000],
            [&b"*"[..], &[b'?'; 15_000], b"b"].concat(),
        );
        let class = [b"[", &[b'b'; 50_000][..], b"]*"].concat();
        for pattern in [pattern, [b"*", &class[..]].concat()] {
            let mut steps = 1_000_000;
            assert_eq!(matches_within(&pattern, &key, &mut steps), None);
        }
        // What looks worse costs little: each star is passed once.
        let stars = b"*?".repeat(50_000);
        let mut steps = 200_000;
        assert_eq!(matches_within(&stars, &key, &mut steps), Some(false));
        let mut steps = 1_000_000;
        assert_eq!(matches_within(b"*a", &key, &mut steps), Some(true));
        assert!(steps > 900_000);
        assert_eq!(matches_within(&[b'*'; 2_000_000], b"a", &mut steps), None);
    }

    /// The obvious definition: a star is each number of bytes in turn, anything else one byte.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|n| plain(rest, &text[n..])),
            _ => {
                let Some((byte, behind)) = text.split_first() else {
                    return false;
                };
                let (found, next) = one(pattern, 0, *byte);
                found && plain(&pattern[next..], behind)
            }
        }
    }

    proptest! {
        #[test]
        fn stars_swallow_anything(
            pattern in r"([ab?]|\*|\\[ab]|\[[ab]\]|\[\^a\]|\[a-b\]){0,9}", text in "[abc]{1,9}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), plain(pattern, text));
        }

        #[test]
        fn no_more_steps_are_taken_than_pattern_and_text_are_long_by_each_other(
            pattern in r"([ab?]|\*|\[[ab]{0,9}\]){0,40}", text in "[ab]{1,40}",
        ) {
            let most = ((pattern.len() + 1) * (text.len() + 1)) as u64;
            let mut left = most;
            prop_assert!(matches_within(pattern.as_bytes(), text.as_bytes(), &mut left).is_some());
        }

        #[test]
        fn no_pattern_makes_it_panic(
            pattern in "[ab\\[\\]^\\\\*?-]{0,12}", text in "[ab\\[\\]^-]{0,8}",
        ) {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
