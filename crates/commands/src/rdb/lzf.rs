//! Unpacking LZF: literal runs, and copies of what was unpacked before.
//!
//! ```text
//! 000nnnnn                     n + 1 bytes as they are
//! nnnddddd d8                  n + 2 bytes from d + 1 back
//! 111ddddd n8 d8               n + 9 bytes from d + 1 back
//! ```

/// What `packed` holds; None unless that is exactly `length` bytes.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    // It grows with what is there: a length alone makes no room.
    let mut out: Vec<u8> = Vec::new();
    let mut rest = packed;
    let byte = |rest: &mut &[u8]| {
        let (first, more) = rest.split_first()?;
        *rest = more;
        Some(usize::from(*first))
    };
    while let Some(control) = byte(&mut rest) {
        if control < 0x20 {
            let (literal, more) = rest.split_at_checked(control + 1)?;
            out.extend_from_slice(literal);
            rest = more;
        } else {
            let mut copied = control >> 5;
            if copied == 7 {
                copied += byte(&mut rest)?;
            }
            let back = ((control & 0x1f) << 8 | byte(&mut rest)?) + 1;
            let from = out.len().checked_sub(back)?;
            // What is copied may reach into what is being written.
            for at in from..from + copied + 2 {
                out.push(*out.get(at)?);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}
