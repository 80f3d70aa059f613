//! What the fuzzers must reach and nobody else needs.

use super::message::Message;
use bytes::Bytes;

/// What a replica's message says, and its bytes if it is encoded again; None if it is refused.
pub fn message(bytes: Bytes) -> Option<(String, Bytes)> {
    let message = Message::decode(bytes).ok()?;
    Some((format!("{message:?}"), message.encode().into_bytes()))
}
