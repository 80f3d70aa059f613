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
use gate::{Answer, Forward};
use model::{
    Parts, ShardId,
    codec::Malformed,
    release::{FIRST_LEVEL, Span},
};
use serde::{Deserialize, Serialize};

pub(crate) const VERSION: u8 = 3;

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
    /// The links here are as of this order, or a later one.
    WanSeen { counter: u64 },
    /// Of the replicas on two nodes.
    Shards(shards::Message),
}

impl Message {
    /// Whether its receiver writes or reads files for it, on its own thread. Such a message is sent
    /// again if it is lost.
    pub(crate) fn needs_disk(&self) -> bool {
        matches!(self, Message::Shards(message) if message.needs_disk())
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
    use model::{Position, Release};
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
            Message::WanSeen { counter: 2 },
        ];
        let of_shards = shards::message::one_of_each().into_iter();
        cluster
            .map(Message::Cluster)
            .chain(others)
            .chain(of_shards.map(Message::Shards))
            .collect()
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
                | Message::WanSeen { .. }
                | Message::Shards(_) => {}
            }
        }
        assert!(seen.into_iter().eq(0..6));
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
