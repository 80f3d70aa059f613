//! What replicas on two nodes tell each other, but for what their protocols say.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use bytes::Bytes;
use model::{Epoch, NodeId, Position, ShardId};
use replication::rest::Pulse;
use serde::{Deserialize, Serialize};

/// A message. Variants are only added at the end: their order is part of the format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Copy a shard's store: the rows behind `from`, or from the beginning.
    CopyAsk {
        shard: ShardId,
        copy: u64,
        from: Option<Vec<u8>>,
    },
    /// Some rows.
    CopyChunk(CopyChunk),
    /// The copy is no longer known here: begin again.
    CopyLost { shard: ShardId, copy: u64 },
    /// To a shard's primary: append a digest entry for this request.
    VerifyAsk { id: u64, shard: ShardId },
    /// The digest of one replica at that entry.
    Digest(DigestReport),
    /// Which keys have which digest in a bucket that differs?
    DigestKeysAsk {
        id: u64,
        shard: ShardId,
        bucket: u32,
    },
    /// These.
    DigestKeys(DigestKeys),
    /// To a shard's primary: keys as they are at one moment, for a replica that rewinds.
    RewindAsk(RewindAsk),
    /// Rows of them.
    RewindChunk(RewindChunk),
    /// That moment is no longer known here: begin again.
    RewindLost { shard: ShardId, rewind: u64 },
    /// To a shard's primary, from a node whose place in it another has taken: how does your log
    /// go?
    HistoryAsk { shard: ShardId },
    /// So.
    History(History),
    /// How far a replica's digest is, or why there is none.
    DigestProgress(DigestProgress),
    /// The digest is still wanted.
    VerifyHeld { id: u64, shard: ShardId },
    /// It is not wanted any more: what is kept for it can be let go.
    VerifyOver { id: u64, shard: ShardId },
    /// How the shards stand that rest with the receiver, or the sender.
    Pulse(Pulse),
}

/// The log of a shard's primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub shard: ShardId,
    /// In which it is primary.
    pub epoch: Epoch,
    /// Its epochs and their first indexes, oldest first.
    pub starts: Vec<(Epoch, u64)>,
    /// Its last index.
    pub last: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyChunk {
    pub shard: ShardId,
    pub copy: u64,
    /// Which question it answers.
    pub from: Option<Vec<u8>>,
    pub rows: Vec<(Bytes, Bytes)>,
    pub next: Option<Vec<u8>>,
    /// `storage::store::Applied`, encoded: what the rows together are as of.
    pub applied: Bytes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RewindAsk {
    pub shard: ShardId,
    pub rewind: u64,
    /// Counted from 0. The first one pins the moment …
    pub question: u64,
    /// … which must be at or after this entry.
    pub common: Position,
    /// None, behind the first question: it has them all.
    pub keys: Vec<Vec<u8>>,
    /// The row of the first key to go on from.
    pub from: Option<Vec<u8>>,
}

impl RewindAsk {
    /// Whether nothing more is asked for: what was pinned can be let go.
    pub fn is_thanks(&self) -> bool {
        self.question > 0 && self.keys.is_empty()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RewindChunk {
    pub shard: ShardId,
    pub rewind: u64,
    /// Which question it answers.
    pub question: u64,
    pub rows: Vec<(Bytes, Bytes)>,
    /// How many of the keys are complete; those without rows are absent.
    pub done: u64,
    /// The row of the key after those to go on from.
    pub next: Option<Vec<u8>>,
    /// `storage::store::Applied`, encoded: the moment.
    pub applied: Bytes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DigestReport {
    pub id: u64,
    pub shard: ShardId,
    pub position: Position,
    pub keys: u64,
    pub buckets: Vec<u128>,
}

/// How far a replica's digest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestProgress {
    pub id: u64,
    pub shard: ShardId,
    pub keys: u64,
    pub keys_total: u64,
    /// Why there will be none.
    pub failed: Option<String>,
}

/// The keys of a bucket and their digests, in the order of `storage::store::key_order`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DigestKeys {
    pub id: u64,
    pub shard: ShardId,
    pub bucket: u32,
    pub keys: Vec<(Vec<u8>, u128)>,
    /// Whether that is all of them.
    pub complete: bool,
}

/// Names a verification in a digest entry's payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DigestRequest {
    pub id: u64,
    /// Who wants to know.
    pub coordinator: NodeId,
}

impl Message {
    /// Whether its receiver writes or reads files for it, on its own thread. Such a message is sent
    /// again if it is lost.
    pub fn needs_disk(&self) -> bool {
        matches!(
            self,
            Message::CopyAsk { .. }
                | Message::CopyChunk(_)
                | Message::RewindAsk(_)
                | Message::RewindChunk(_)
                | Message::HistoryAsk { .. }
                | Message::History(_)
                | Message::DigestKeysAsk { .. }
        )
    }
}

/// A message of each kind, for the captures of a node's tests.
#[doc(hidden)]
pub fn one_of_each() -> Vec<Message> {
    let position = Position::new(3, 77);
    let shard = ShardId(4);
    vec![
        Message::CopyAsk {
            shard,
            copy: 1,
            from: None,
        },
        Message::CopyChunk(CopyChunk {
            shard,
            copy: 1,
            from: None,
            rows: vec![("row".into(), "value".into())],
            next: Some(vec![9]),
            applied: "applied".into(),
        }),
        Message::CopyLost { shard, copy: 1 },
        Message::VerifyAsk { id: 6, shard },
        Message::Digest(DigestReport {
            id: 6,
            shard,
            position,
            keys: 2,
            buckets: vec![1, 2],
        }),
        Message::DigestKeysAsk {
            id: 6,
            shard,
            bucket: 3,
        },
        Message::DigestKeys(DigestKeys {
            id: 6,
            shard,
            bucket: 3,
            keys: vec![(b"key".to_vec(), 5)],
            complete: true,
        }),
        Message::RewindAsk(RewindAsk {
            shard,
            rewind: 3,
            question: 1,
            common: position,
            keys: vec![b"key".to_vec()],
            from: Some(b"row".to_vec()),
        }),
        Message::RewindChunk(RewindChunk {
            shard,
            rewind: 3,
            question: 1,
            rows: vec![("row".into(), "value".into())],
            done: 1,
            next: None,
            applied: "applied".into(),
        }),
        Message::RewindLost { shard, rewind: 3 },
        Message::HistoryAsk { shard },
        Message::History(History {
            shard,
            epoch: Epoch(4),
            starts: vec![(Epoch(1), 1), (Epoch(4), 90)],
            last: 120,
        }),
        Message::DigestProgress(DigestProgress {
            id: 6,
            shard,
            keys: 1,
            keys_total: 2,
            failed: Some("why".into()),
        }),
        Message::VerifyHeld { id: 6, shard },
        Message::VerifyOver { id: 6, shard },
        Message::Pulse(Pulse {
            from: 11,
            to: 12,
            number: 4,
            heard: 3,
            rest: vec![(shard, Position::new(2, 9))],
            woke: vec![ShardId(8)],
            resting: vec![(ShardId(9), 3)],
            left: vec![(ShardId(10), 2)],
            probe: 5_000,
            echo: 4_900,
            time_ms: 1_700_000_000_000,
            vouches: true,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A variant that is added must be added to `one_of_each`, where it is captured.
    #[test]
    fn every_message_is_captured() {
        let numbers: BTreeSet<u8> = one_of_each()
            .iter()
            .map(|message| postcard::to_stdvec(message).unwrap()[0])
            .collect();
        let count = match one_of_each().pop() {
            // One more here is one more above.
            Some(
                Message::CopyAsk { .. }
                | Message::CopyChunk(_)
                | Message::CopyLost { .. }
                | Message::VerifyAsk { .. }
                | Message::Digest(_)
                | Message::DigestKeysAsk { .. }
                | Message::DigestKeys(_)
                | Message::RewindAsk(_)
                | Message::RewindChunk(_)
                | Message::RewindLost { .. }
                | Message::HistoryAsk { .. }
                | Message::History(_)
                | Message::DigestProgress(_)
                | Message::VerifyHeld { .. }
                | Message::VerifyOver { .. }
                | Message::Pulse(_),
            )
            | None => 16,
        };
        assert!(numbers.into_iter().eq(0..count));
    }
}
