//! What the fuzzers must reach and nobody else needs.

use crate::message::{self, Incoming};
use bytes::Bytes;
use model::Release;

/// What a peer's message says, and its bytes if it is encoded again; None if it is refused.
pub fn message(bytes: Bytes) -> Option<(String, Bytes)> {
    let incoming = message::decode(bytes, Release::NEXT.levels).ok()?;
    let told = format!("{incoming:?}");
    let bytes = match &incoming {
        Incoming::Replica(shard, message) => {
            message::encode_replica(*shard, message.clone().into()).into_bytes()
        }
        Incoming::Message(message) => message.encode(),
        Incoming::Unknown { .. } => return None,
    };
    Some((told, bytes))
}
