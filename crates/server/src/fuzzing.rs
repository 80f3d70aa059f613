//! What the fuzzers must reach and nobody else needs.

use crate::peer::{frame, handshake::Hello};
use bytes::{Bytes, BytesMut};
use model::Release;

/// Takes a peer's frame off the front of `input`, as a connection does.
pub fn frame(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, String> {
    frame::decode(input, max).map_err(|error| error.to_string())
}

/// Appends `payload` as a frame.
pub fn put_frame(payload: &[u8], out: &mut BytesMut) {
    frame::encode(payload, out);
}

/// What a hello says, and its bytes if it is encoded again; None if it is refused.
pub fn hello(bytes: Bytes) -> Option<(String, Bytes)> {
    let hello = Hello::decode(bytes, Release::THIS.protocol).ok()?;
    Some((format!("{hello:?}"), hello.encode().freeze()))
}
