//! RESP, the Redis protocol: bytes to frames and back. Pure: no sockets, no clock, and
//! nothing of Quire's own.
//!
//! ```text
//!            client                         server
//!  encode_command ──── *2 $3 GET $1 k ────▶ RequestDecoder ─▶ &[&[u8]]
//!  FrameDecoder   ◀─── $5 hello ─────────── Encoder
//!        └─▶ Frame ──── Frame::encode (a router that passes replies on)
//! ```
//!
//! | module | turns |
//! |---|---|
//! | [`request`] | what a client sends into arguments, without copying them |
//! | [`reply`] | replies into bytes, in the client's protocol version |
//! | [`frame`] | what a server sends into owned [`Frame`]s, and these into bytes |
//! | [`ahead`] | what a client sends into a guess at the keys it will name |
//! | [`error`] | what can be wrong with bytes that a peer sent |
//!
//! What always holds, whatever the bytes:
//! - A decoder never panics, and its result does not depend on the pieces in which the bytes
//!   arrived.
//! - It reserves memory for what has arrived, never for what was announced: `*1000000000`
//!   costs nothing, and [`RequestDecoder::needed`] grows with what the peer has really sent.
//! - Lengths, counts, line lengths and nesting are bounded by limits that the caller sets.
//! - No line that an encoder writes holds a CR or LF of its content, so no reply can be
//!   forged from within another.
//!
//! After a [`ProtocolError`] the stream has no frame boundary any more: send the error's
//! line, if there is someone to read it, and close the connection.

pub mod ahead;
pub mod error;
pub mod frame;
mod inline;
mod nested;
mod number;
pub mod reply;
pub mod request;

pub use error::ProtocolError;
pub use frame::{Frame, FrameDecoder, FrameLimits, encode_command};
pub use nested::nested_errors;
pub use reply::Encoder;
pub use request::{Limits, Request, RequestDecoder};

/// The version of the protocol that a connection speaks: 2 until `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2: strings, errors, integers, arrays and nulls.
    #[default]
    Resp2,
    /// RESP3: also maps, sets, doubles, booleans, big numbers, verbatim strings and pushes.
    Resp3,
}

/// Reserves for bytes that a peer announced no more than this, or than [`RESERVE_FACTOR`] times what
/// it has already sent of them if that is more: an announcement is not yet a delivery.
const RESERVE_MIN: usize = 64 << 10;
/// Every growth copies what is there; with this factor that is a third of it in all.
const RESERVE_FACTOR: usize = 3;

/// How much of `missing` to make room for, when `present` bytes of the frame are there.
fn room(missing: usize, present: usize) -> usize {
    missing.clamp(1, (present * RESERVE_FACTOR).max(RESERVE_MIN))
}
