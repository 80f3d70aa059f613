//! What nodes tell each other. docs/messages says who sends what, and when.
//!
//! # Bytes
//! ```text
//! 3, 1, shard u64 LE, the topology's own bytes     (the hot one: no copy, no decoding here)
//! 3, 2, level LEB128, postcard of `Message`
//! ```
//! The first byte is the version; another version is refused whole. Version 1 had no leases
//! and no seals, version 2 no levels. Variants are only added at
//! the end: their order is part of the format. The level is the feature level that the variant
//! came with: a release that does not know it steps over the message.

use bytes::Bytes;
use model::{
    Epoch, NodeId, Parts, Position, ShardId,
    codec::Malformed,
    release::{FIRST_LEVEL, Span},
};
use replication::rest::Pulse;
use serde::{Deserialize, Serialize};

pub(crate) const VERSION: u8 = 3;

/// The longest message that a node takes: a host refuses longer ones, so that whoever makes a
/// message sees to it that it is no longer.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A message, with the hot one kept apart.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// For the replica of a shard.
    Replica(ShardId, Bytes),
    /// Anything else.
    Message(Box<Message>),
    /// A message of a later feature level than the receiver's release knows.
    Unknown {
        /// The level.
        level: u32,
    },
}

/// Everything but what replicas of a shard tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Of what the nodes agree on.
    Cluster(cluster::Message),
    /// A client's command, to a node that may evaluate it.
    Forward(Forward),
    /// Its answer.
    Forwarded { id: u64, answer: Answer },
    /// How the emulated links are. Travels outside of them.
    Wan(wan::State),
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
    /// The links here are as of this order, or a later one.
    WanSeen { counter: u64 },
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
pub(crate) struct History {
    pub(crate) shard: ShardId,
    /// In which it is primary.
    pub(crate) epoch: Epoch,
    /// Its epochs and their first indexes, oldest first.
    pub(crate) starts: Vec<(Epoch, u64)>,
    /// Its last index.
    pub(crate) last: u64,
}

/// A command that travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Forward {
    pub(crate) id: u64,
    pub(crate) shard: ShardId,
    /// What the session has seen of the shard.
    pub(crate) seen: Position,
    /// Whether it must see what came before it on the same link.
    pub(crate) at_tip: bool,
    pub(crate) resp3: bool,
    pub(crate) args: Vec<Bytes>,
}

/// What came of a forwarded command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The reply, as RESP, and what it shows.
    Reply { reply: Bytes, position: Position },
    /// Refused before anything was appended: try elsewhere or later.
    NotHere,
    /// What the session had seen was thrown away.
    Lost,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyChunk {
    pub(crate) shard: ShardId,
    pub(crate) copy: u64,
    /// Which question it answers.
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) rows: Vec<(Bytes, Bytes)>,
    pub(crate) next: Option<Vec<u8>>,
    /// `storage::store::Applied`, encoded: what the rows together are as of.
    pub(crate) applied: Bytes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RewindAsk {
    pub(crate) shard: ShardId,
    pub(crate) rewind: u64,
    /// Counted from 0. The first one pins the moment …
    pub(crate) question: u64,
    /// … which must be at or after this entry.
    pub(crate) common: Position,
    /// None, behind the first question: it has them all.
    pub(crate) keys: Vec<Vec<u8>>,
    /// The row of the first key to go on from.
    pub(crate) from: Option<Vec<u8>>,
}

impl RewindAsk {
    /// Whether nothing more is asked for: what was pinned can be let go.
    pub(crate) fn is_thanks(&self) -> bool {
        self.question > 0 && self.keys.is_empty()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RewindChunk {
    pub(crate) shard: ShardId,
    pub(crate) rewind: u64,
    /// Which question it answers.
    pub(crate) question: u64,
    pub(crate) rows: Vec<(Bytes, Bytes)>,
    /// How many of the keys are complete; those without rows are absent.
    pub(crate) done: u64,
    /// The row of the key after those to go on from.
    pub(crate) next: Option<Vec<u8>>,
    /// `storage::store::Applied`, encoded: the moment.
    pub(crate) applied: Bytes,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DigestReport {
    pub(crate) id: u64,
    pub(crate) shard: ShardId,
    pub(crate) position: Position,
    pub(crate) keys: u64,
    pub(crate) buckets: Vec<u128>,
}

/// How far a replica's digest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DigestProgress {
    pub(crate) id: u64,
    pub(crate) shard: ShardId,
    pub(crate) keys: u64,
    pub(crate) keys_total: u64,
    /// Why there will be none.
    pub(crate) failed: Option<String>,
}

/// The keys of a bucket and their digests, in the order of `storage::store::key_order`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DigestKeys {
    pub(crate) id: u64,
    pub(crate) shard: ShardId,
    pub(crate) bucket: u32,
    pub(crate) keys: Vec<(Vec<u8>, u128)>,
    /// Whether that is all of them.
    pub(crate) complete: bool,
}

/// Names a verification in a digest entry's payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DigestRequest {
    pub(crate) id: u64,
    /// Who wants to know.
    pub(crate) coordinator: NodeId,
}

impl Message {
    /// Whether its receiver writes or reads files for it, on its own thread. Such a message is sent
    /// again if it is lost.
    pub(crate) fn needs_disk(&self) -> bool {
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

    /// The feature level that its kind came with: it is sent only from there on.
    pub(crate) fn level(&self) -> u32 {
        match self {
            Message::Cluster(message) => message.level(),
            _ => FIRST_LEVEL,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, 2];
        // Serialising plain data into memory fails only for types that postcard can't express,
        // and every variant is tested.
        if let Ok(bytes) = postcard::to_extend(&(self.level(), self), out.clone()) {
            out = bytes;
        }
        out.into()
    }
}

/// What a topology says to its replica on another node.
pub(crate) fn encode_replica(shard: ShardId, message: Parts) -> Parts {
    let mut head = [VERSION, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    head[2..].copy_from_slice(&shard.0.to_le_bytes());
    message.behind(&head)
}

/// Reads a message from a peer, at a node whose release knows `levels`.
pub(crate) fn decode(bytes: Bytes, levels: Span) -> Result<Incoming, Malformed> {
    let malformed = Malformed {
        what: "peer message",
    };
    match bytes.get(..2) {
        Some([VERSION, 1]) if bytes.len() >= 10 => {
            let mut shard = [0; 8];
            shard.copy_from_slice(&bytes[2..10]);
            let shard = ShardId(u64::from_le_bytes(shard));
            Ok(Incoming::Replica(shard, bytes.slice(10..)))
        }
        Some([VERSION, 2]) => {
            let read = postcard::take_from_bytes::<u32>(&bytes[2..]);
            let (level, rest) = read.map_err(|_| malformed.clone())?;
            if level > levels.newest {
                return Ok(Incoming::Unknown { level });
            }
            let message: Message = postcard::from_bytes(rest).map_err(|_| malformed.clone())?;
            match message.level() == level {
                true => Ok(Incoming::Message(Box::new(message))),
                false => Err(malformed),
            }
        }
        _ => Err(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::{FORWARD, FORWARDED, SEALED, WAN};
    use bytes::{Buf, BufMut, BytesMut};
    use model::Release;
    use proptest::prelude::*;

    const NEXT: Span = Release::NEXT.levels;

    fn one_of_each() -> Vec<Message> {
        let position = Position::new(3, 77);
        let shard = ShardId(4);
        let cluster = cluster::message::one_of_each().into_iter();
        let others = vec![
            Message::Forwarded {
                id: 7,
                answer: Answer::Reply {
                    reply: "+OK\r\n".into(),
                    position,
                },
            },
            Message::Forwarded {
                id: 7,
                answer: Answer::NotHere,
            },
            Message::Forwarded {
                id: 7,
                answer: Answer::Lost,
            },
            Message::Forward(Forward {
                id: 7,
                shard,
                seen: position,
                at_tip: true,
                resp3: false,
                args: vec!["SET".into(), "k".into(), "v".into()],
            }),
            Message::Wan(wan::State::default()),
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
            Message::WanSeen { counter: 2 },
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
        ];
        cluster.map(Message::Cluster).chain(others).collect()
    }

    /// Whether a message is among `one_of_each`: a variant that is added must be added there.
    #[test]
    fn every_message_is_captured() {
        let mut seen = std::collections::BTreeSet::new();
        for message in one_of_each() {
            let bytes = message.encode();
            // The variant's number, as postcard writes it.
            seen.insert(bytes[3]);
            match message {
                Message::Cluster(_)
                | Message::Forward(_)
                | Message::Forwarded { .. }
                | Message::Wan(_)
                | Message::CopyAsk { .. }
                | Message::CopyChunk(_)
                | Message::CopyLost { .. }
                | Message::VerifyAsk { .. }
                | Message::Digest(_)
                | Message::DigestKeysAsk { .. }
                | Message::DigestKeys(_)
                | Message::WanSeen { .. }
                | Message::RewindAsk(_)
                | Message::RewindChunk(_)
                | Message::RewindLost { .. }
                | Message::HistoryAsk { .. }
                | Message::History(_)
                | Message::DigestProgress(_)
                | Message::VerifyHeld { .. }
                | Message::VerifyOver { .. }
                | Message::Pulse(_) => {}
            }
        }
        assert!(seen.into_iter().eq(0..21));
    }

    #[test]
    fn a_simulator_tells_apart_what_it_must() {
        for message in one_of_each() {
            let bytes = message.encode();
            let starts = |with: &[u8]| bytes.starts_with(with);
            assert_eq!(matches!(message, Message::Forward(_)), starts(&FORWARD));
            assert_eq!(
                matches!(message, Message::Forwarded { .. }),
                starts(&FORWARDED)
            );
            assert_eq!(matches!(message, Message::Wan(_)), starts(&WAN));
            let sealed = matches!(message, Message::Cluster(cluster::Message::Sealed(_)));
            assert_eq!(sealed, starts(&SEALED));
        }
    }

    /// A capture of this version's bytes: the next version must still read them, or refuse
    /// them whole by their version.
    #[test]
    fn the_capture_reads_back() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/messages-v3.bin");
        let mut written = BytesMut::new();
        for message in one_of_each() {
            let bytes = message.encode();
            let Ok(Incoming::Message(read)) = decode(bytes.clone(), NEXT) else {
                panic!("{message:?} does not read back");
            };
            assert_eq!(format!("{read:?}"), format!("{message:?}"));
            written.put_u32_le(bytes.len() as u32);
            written.put_slice(&bytes);
        }
        if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
            #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
            std::fs::write(path, &written).unwrap();
        }
        let capture: &[u8] = include_bytes!("../testdata/messages-v3.bin");
        assert_eq!(capture, written.as_ref());
    }

    #[test]
    fn version_1_is_refused() {
        let mut capture = Bytes::from_static(include_bytes!("../testdata/messages-v1.bin"));
        let mut messages = 0;
        while !capture.is_empty() {
            let length = capture.get_u32_le() as usize;
            assert!(decode(capture.split_to(length), NEXT).is_err());
            messages += 1;
        }
        assert_eq!(messages, 20);
    }

    #[test]
    fn a_message_of_a_newer_level_is_told_from_a_malformed_one() {
        let this = Release::THIS.levels;
        let unknown = |bytes: &[u8]| match decode(Bytes::copy_from_slice(bytes), this) {
            Ok(Incoming::Unknown { level }) => Some(level),
            _ => None,
        };
        let rehearsal = Message::Cluster(cluster::Message::Rehearsal).encode();
        assert_eq!(unknown(&rehearsal), Some(2));
        // Whatever stands behind the level: no variant that any release knows.
        assert_eq!(unknown(&[VERSION, 2, 9, 200, 200]), Some(9));
        let forged = [VERSION, 2, 1, 200, 1];
        assert!(decode(Bytes::copy_from_slice(&forged), this).is_err());
        // A known kind at another level than its own.
        let mut forged = rehearsal.to_vec();
        forged[2] = 1;
        assert!(decode(forged.into(), NEXT).is_err());
    }

    #[test]
    fn the_hot_message_is_not_copied() {
        let bytes = encode_replica(ShardId(5), Bytes::from_static(b"inside").into()).into_bytes();
        let Ok(Incoming::Replica(ShardId(5), inside)) = decode(bytes.clone(), NEXT) else {
            panic!("it does not read back");
        };
        assert_eq!(inside.as_ptr(), bytes[10..].as_ptr());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Bytes::from(bytes.clone()), NEXT);
            let _ = decode([&[VERSION, 2][..], &bytes].concat().into(), NEXT);
        }
    }
}
