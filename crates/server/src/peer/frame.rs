//! Messages between nodes, as bytes. Little endian:
//!
//! ```text
//! len u32 │ crc32c of the payload u32 │ payload, len bytes
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{Parts, parts::SHARED_FROM};
use std::collections::VecDeque;

/// Bytes of a message to a peer, at most.
pub const MESSAGE_LEN_MAX: usize = node::MESSAGE_BYTES_MAX;
/// Bytes before the payload.
pub(crate) const HEADER_LEN: usize = 8;

/// Bytes that aren't a frame. What follows them can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {len} bytes, where {max} are allowed")]
    TooLong { len: usize, max: usize },
    #[error("a frame of {len} bytes is damaged")]
    Damaged { len: usize },
}

/// Appends `payload` as a frame.
pub(crate) fn encode(payload: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER_LEN + payload.len());
    put_header(payload.len(), crc32c::crc32c(payload), out);
    out.put_slice(payload);
}

/// Appends what a frame begins with, up to the first part that is large. What is returned is to be
/// written behind it.
pub(crate) fn encode_parts(payload: Parts, out: &mut BytesMut) -> VecDeque<Bytes> {
    let crc = payload
        .iter()
        .fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    let len = payload.len();
    let (first, rest) = payload.split();
    let mut rest = VecDeque::from(rest);
    if first.len() >= SHARED_FROM {
        put_header(len, crc, out);
        rest.push_front(first);
    } else {
        out.reserve(HEADER_LEN + first.len());
        put_header(len, crc, out);
        out.put_slice(&first);
    }
    rest
}

fn put_header(len: usize, crc: u32, out: &mut BytesMut) {
    debug_assert!(len <= MESSAGE_LEN_MAX);
    out.put_u32_le(len as u32);
    out.put_u32_le(crc);
}

/// How many bytes of the frame at the front of `input` are missing for sure; 0 where that is not
/// known yet.
pub(crate) fn missing(input: &[u8], max: usize) -> usize {
    let Some(mut header) = input.get(..HEADER_LEN) else {
        return 0;
    };
    let len = (header.get_u32_le() as usize).min(max);
    (HEADER_LEN + len).saturating_sub(input.len())
}

/// Takes the frame at the front of `input`; `None` if it isn't complete. Never asks for more
/// memory than has arrived, whatever a header claims.
pub(crate) fn decode(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(mut header) = input.get(..HEADER_LEN) else {
        return Ok(None);
    };
    let len = header.get_u32_le() as usize;
    let crc = header.get_u32_le();
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    if input.len() < HEADER_LEN + len {
        return Ok(None);
    }
    input.advance(HEADER_LEN);
    let payload = input.split_to(len).freeze();
    if crc32c::crc32c(&payload) != crc {
        return Err(FrameError::Damaged { len });
    }
    Ok(Some(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut_and_damage_is_seen() {
        let mut wire = BytesMut::new();
        for message in [&b"one"[..], b"", b"three"] {
            encode(message, &mut wire);
        }
        for cut in 0..wire.len() {
            let mut input = BytesMut::from(&wire[..cut]);
            let mut got = Vec::new();
            while let Some(message) = decode(&mut input, 100).unwrap() {
                got.push(message);
            }
            input.extend_from_slice(&wire[cut..]);
            while let Some(message) = decode(&mut input, 100).unwrap() {
                got.push(message);
            }
            assert_eq!(got, [&b"one"[..], b"", b"three"]);
            assert!(input.is_empty());
        }
        for bit in 0..8 * (HEADER_LEN + 3) {
            let mut input = wire.clone();
            input[bit / 8] ^= 1 << (bit % 8);
            let taken = decode(&mut input, 100);
            assert!(!matches!(taken, Ok(Some(_))), "bit {bit}: {taken:?}");
        }
    }

    #[test]
    fn a_long_claim_is_refused_before_its_bytes_come() {
        let mut input = BytesMut::from(&[255, 255, 255, 255, 0, 0, 0, 0][..]);
        assert!(matches!(
            decode(&mut input, MESSAGE_LEN_MAX),
            Err(FrameError::TooLong { .. })
        ));
    }
}
