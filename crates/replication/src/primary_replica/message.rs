//! What the replicas of a shard tell each other.
//!
//! # Bytes (little-endian)
//! ```text
//! version u8 = 3, tag u8, epoch u64, then
//! 1 append  prev epoch u64, prev index u64, commit u64, last u64, time_ms u64, echo u64,
//!           floor u64, urgent u8, entries (see model::entry) to the end
//! 2 ack     matched u64, received u64, probe u64, counts u8, disk u64
//! 3 report  last epoch u64, last index u64, probe u64, history
//! 4 behind  first u64, last u64, history
//! 5 stale
//! history   n u32, n × (epoch u64, start u64), both growing, start from 1 on
//! ```
//! Whatever counts (all but `disk`) is at most [`NUMBER_MAX`](model::codec::NUMBER_MAX).
//!
//! Version 2 had no `disk`; version 1 had no `floor`, no `counts`, and neither `last` nor
//! `history` in `behind`. Both are refused.

use bytes::{BufMut, Bytes, BytesMut};
use model::{
    DiskId, Entry, Epoch, EpochHistory, Position,
    codec::{Malformed, Reader},
    parts::{Parts, PartsWriter},
};

const VERSION: u8 = 3;

/// One message; every one carries the epoch its sender acts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) epoch: Epoch,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Primary → replica: entries, or none as a heartbeat or a probe.
    Append(Append),
    /// Replica → primary.
    Ack(Ack),
    /// Replica → primary: what an append built on is not in its log; this is.
    Report {
        last: Position,
        history: EpochHistory,
        probe: u64,
    },
    /// Primary → replica: the log no longer holds what you lack; copy the store.
    Behind {
        /// The lowest index that the primary's log still holds.
        first: u64,
        /// Its last index.
        last: u64,
        /// Its epochs: where the logs part.
        history: EpochHistory,
    },
    /// Replica → primary: your epoch is over.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    /// Up to where its log is the primary's, and durable.
    pub(super) matched: u64,
    /// Up to where its log is the primary's.
    pub(super) received: u64,
    /// Its own monotonic clock, in ms, to be echoed.
    pub(super) probe: u64,
    /// Whether `matched` counts for the acknowledgement rule: not while what it holds would be
    /// of no use to a failover.
    pub(super) counts: bool,
    /// The disk that `matched` is about.
    pub(super) disk: DiskId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Append {
    /// The entry before the first of `entries`.
    pub(super) prev: Position,
    /// The primary's committed index.
    pub(super) commit: u64,
    /// The primary's last index when this was sent …
    pub(super) last: u64,
    /// … and shard time then, in ms since 1970.
    pub(super) time_ms: u64,
    /// The latest `probe` the primary had received; 0 for none.
    pub(super) echo: u64,
    /// Up to where every member is known to hold the primary's log durably.
    pub(super) floor: u64,
    /// Whether somebody waits for the acknowledgement.
    pub(super) urgent: bool,
    pub(super) entries: Vec<Entry>,
}

impl Message {
    pub(super) fn encode(&self) -> Parts {
        let entries = match &self.body {
            Body::Append(a) => (a.entries.iter())
                .map(|entry| PartsWriter::copied(entry.bytes()))
                .sum(),
            _ => 0,
        };
        let mut parts = PartsWriter::with_capacity(72 + entries);
        let out = parts.out();
        out.put_u8(VERSION);
        out.put_u8(match &self.body {
            Body::Append(_) => 1,
            Body::Ack(_) => 2,
            Body::Report { .. } => 3,
            Body::Behind { .. } => 4,
            Body::Stale => 5,
        });
        out.put_u64_le(self.epoch.0);
        match &self.body {
            Body::Append(a) => {
                out.put_u64_le(a.prev.epoch.0);
                out.put_u64_le(a.prev.index);
                out.put_u64_le(a.commit);
                out.put_u64_le(a.last);
                out.put_u64_le(a.time_ms);
                out.put_u64_le(a.echo);
                out.put_u64_le(a.floor);
                out.put_u8(a.urgent.into());
                for entry in &a.entries {
                    parts.put_shared(entry.bytes());
                }
            }
            Body::Ack(Ack {
                matched,
                received,
                probe,
                counts,
                disk,
            }) => {
                out.put_u64_le(*matched);
                out.put_u64_le(*received);
                out.put_u64_le(*probe);
                out.put_u8((*counts).into());
                out.put_u64_le(disk.0);
            }
            Body::Report {
                last,
                history,
                probe,
            } => {
                out.put_u64_le(last.epoch.0);
                out.put_u64_le(last.index);
                out.put_u64_le(*probe);
                put_history(history, out);
            }
            Body::Behind {
                first,
                last,
                history,
            } => {
                out.put_u64_le(*first);
                out.put_u64_le(*last);
                put_history(history, out);
            }
            Body::Stale => {}
        }
        parts.finish()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Message, Malformed> {
        let mut r = Reader::new("replication message", bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed());
        }
        let tag = r.u8()?;
        let epoch = Epoch(r.number()?);
        let body = match tag {
            1 => {
                let prev = Position::new(r.number()?, r.number()?);
                let (commit, last, time_ms) = (r.number()?, r.number()?, r.number()?);
                let (echo, floor) = (r.number()?, r.number()?);
                let urgent = r.u8()? != 0;
                let mut entries = Vec::new();
                let mut index = prev.index;
                while !r.is_empty() {
                    let entry = Entry::read(&mut r)?;
                    index = index.checked_add(1).ok_or_else(|| r.malformed())?;
                    if entry.position.index != index || entry.position.epoch > epoch {
                        return Err(r.malformed());
                    }
                    entries.push(entry);
                }
                Body::Append(Append {
                    prev,
                    commit,
                    last,
                    time_ms,
                    echo,
                    floor,
                    urgent,
                    entries,
                })
            }
            2 => Body::Ack(Ack {
                matched: r.number()?,
                received: r.number()?,
                probe: r.number()?,
                counts: r.u8()? != 0,
                disk: DiskId(r.u64()?),
            }),
            3 => {
                let last = Position::new(r.number()?, r.number()?);
                let probe = r.number()?;
                Body::Report {
                    last,
                    history: read_history(&mut r)?,
                    probe,
                }
            }
            4 => Body::Behind {
                first: r.number()?,
                last: r.number()?,
                history: read_history(&mut r)?,
            },
            5 => Body::Stale,
            _ => return Err(r.malformed()),
        };
        if !r.is_empty() {
            return Err(r.malformed());
        }
        Ok(Message { epoch, body })
    }
}

fn put_history(history: &EpochHistory, out: &mut BytesMut) {
    out.put_u32_le(history.starts().len() as u32);
    for (epoch, start) in history.starts() {
        out.put_u64_le(epoch.0);
        out.put_u64_le(*start);
    }
}

fn read_history(r: &mut Reader) -> Result<EpochHistory, Malformed> {
    let mut history = EpochHistory::default();
    for _ in 0..r.u32()? {
        if !history.note_told(Epoch(r.number()?), r.number()?) {
            return Err(r.malformed());
        }
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use model::{EntryKind, Stamp};
    use proptest::prelude::*;

    pub(crate) fn one_of_each() -> Vec<Message> {
        let mut history = EpochHistory::default();
        history.note(Position::new(1, 1));
        history.note(Position::new(4, 77));
        let entry = |index| {
            Entry::new(
                Position::new(4, index),
                Stamp(1000 + index),
                EntryKind::Mutation,
                1,
                b"effect",
            )
        };
        [
            Body::Append(Append {
                prev: Position::new(4, 80),
                commit: 79,
                last: 82,
                time_ms: 2000,
                echo: 5,
                floor: 60,
                urgent: true,
                entries: vec![entry(81), entry(82)],
            }),
            Body::Ack(Ack {
                matched: 81,
                received: 82,
                probe: 12345,
                counts: true,
                disk: DiskId(7),
            }),
            Body::Report {
                last: Position::new(4, 79),
                history: history.clone(),
                probe: 9,
            },
            Body::Behind {
                first: 70,
                last: 82,
                history,
            },
            Body::Stale,
        ]
        .into_iter()
        .map(|body| Message {
            epoch: Epoch(4),
            body,
        })
        .collect()
    }

    #[test]
    fn read_back_as_written() {
        for message in one_of_each() {
            assert_eq!(
                Message::decode(message.encode().into_bytes()).unwrap(),
                message
            );
            let bytes = message.encode().into_bytes();
            for end in 0..bytes.len() {
                // An append cut between two entries is a shorter append; all else is refused.
                if let Ok(Message {
                    body: Body::Append(a),
                    ..
                }) = Message::decode(bytes.slice(..end))
                {
                    assert!(a.entries.len() < 2);
                }
            }
        }
    }

    /// A capture of this version's bytes: the next version must still read them, or say no.
    #[test]
    fn the_capture_reads_back() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/messages-v3.bin");
        let mut written = BytesMut::new();
        for message in one_of_each() {
            let bytes = message.encode().into_bytes();
            written.put_u32_le(bytes.len() as u32);
            written.put_slice(&bytes);
        }
        if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
            #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
            std::fs::write(path, &written).unwrap();
        }
        let capture: &[u8] = include_bytes!("../../testdata/messages-v3.bin");
        assert_eq!(capture, written.as_ref());
    }

    #[test]
    fn earlier_versions_are_refused() {
        let v1: &[u8] = include_bytes!("../../testdata/messages-v1.bin");
        let v2: &[u8] = include_bytes!("../../testdata/messages-v2.bin");
        for capture in [v1, v2] {
            let mut capture = Bytes::from_static(capture);
            let mut messages = 0;
            while !capture.is_empty() {
                let length = capture.get_u32_le() as usize;
                assert!(Message::decode(capture.split_to(length)).is_err());
                messages += 1;
            }
            assert_eq!(messages, 5);
        }
    }

    /// Taken as they are they would overflow where they are counted on from, or make two logs
    /// agree that don't.
    #[test]
    fn numbers_and_histories_that_no_replica_has_are_refused() {
        for message in one_of_each() {
            let bytes = message.encode().into_bytes();
            // The epoch stands in every message.
            let mut greatest = bytes.to_vec();
            greatest[2..10].fill(0xff);
            assert!(Message::decode(greatest.into()).is_err(), "{message:?}");
        }
        let report = |starts: &[(u64, u64)]| {
            let mut history = EpochHistory::default();
            for (epoch, start) in starts {
                history.note(Position::new(*epoch, *start));
            }
            let body = Body::Report {
                last: Position::new(4, 79),
                history,
                probe: 9,
            };
            let epoch = Epoch(4);
            Message::decode(Message { epoch, body }.encode().into_bytes())
        };
        assert!(report(&[(1, 1), (4, 77)]).is_ok());
        assert!(report(&[(1, 0)]).is_err());
        assert!(report(&[(1, 7), (2, 3)]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Message::decode(Bytes::from(bytes));
        }
    }
}
