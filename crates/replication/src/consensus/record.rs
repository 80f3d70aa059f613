//! What a group keeps in its node's log, byte for byte, and how it is read back.
//!
//! # Bytes (little-endian; `len` is LEB128)
//! ```text
//! 0  version  u8   1
//! 1  kind     u8   1 entry, 2 hard state, 3 snapshot
//! 2  body
//!
//! entry        term u64, index u64, data len + bytes
//! hard state   term u64, vote u64 (0: none), commit u64
//! snapshot     hard state (24 bytes), index u64, term u64,
//!              voters len + that many u64, data len + bytes, tail len + that many entries
//! ```
//! A record has no checksum: the log that holds it has one, and cuts a torn tail.
//!
//! # Reading back
//! Records are replayed in the order in which they were written ([`Recovered::replay`]):
//! an entry discards every entry at and after its index; a hard state replaces the one
//! before; a snapshot replaces *everything* before it. A snapshot record is therefore enough
//! by itself, and once it is durable the log may forget this group's earlier records: any
//! number of the first ones, so that what is left of them may follow nothing. Entries that
//! follow nothing are stepped over, and no member begins with them: a snapshot must come.

use bytes::{BufMut, Bytes, BytesMut};
use model::codec::{Malformed, Reader, put_bytes, put_len};
use raft::eraftpb;
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// An entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its place; counts from 1.
    pub index: u64,
    /// What was proposed; empty for the first entry of a leader's term.
    pub data: Bytes,
}

/// What a member must not forget between two messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The greatest term it has heard of.
    pub term: u64,
    /// Whom it voted for in that term; 0: nobody.
    pub vote: u64,
    /// Up to where it knows entries to be committed; may lag behind.
    pub commit: u64,
}

/// The state machine as of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The voters as of that entry, ascending.
    pub voters: Vec<u64>,
    /// The state machine's own bytes.
    pub data: Bytes,
}

/// A snapshot and all that a member holds beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// As of the record.
    pub hard_state: HardState,
    /// The state machine.
    pub snapshot: Snapshot,
    /// The entries after it.
    pub tail: Vec<Entry>,
}

/// One record of a group in its node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// An entry; it discards those at and after its index.
    Entry(Entry),
    /// Replaces the hard state before it.
    HardState(HardState),
    /// Replaces everything before it.
    Snapshot(Checkpoint),
}

fn put_entry(out: &mut BytesMut, e: &Entry) {
    out.put_u64_le(e.term);
    out.put_u64_le(e.index);
    put_bytes(out, &e.data);
}

fn read_entry(r: &mut Reader) -> Result<Entry, Malformed> {
    Ok(Entry {
        term: r.number()?,
        index: r.number()?,
        data: r.bytes()?,
    })
}

fn put_hard_state(out: &mut BytesMut, hs: &HardState) {
    for n in [hs.term, hs.vote, hs.commit] {
        out.put_u64_le(n);
    }
}

fn read_hard_state(r: &mut Reader) -> Result<HardState, Malformed> {
    Ok(HardState {
        term: r.number()?,
        vote: r.u64()?,
        commit: r.number()?,
    })
}

impl LogRecord {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self {
            LogRecord::Entry(e) => {
                out.put_u8(1);
                put_entry(&mut out, e);
            }
            LogRecord::HardState(hs) => {
                out.put_u8(2);
                put_hard_state(&mut out, hs);
            }
            LogRecord::Snapshot(c) => {
                out.put_u8(3);
                put_hard_state(&mut out, &c.hard_state);
                out.put_u64_le(c.snapshot.index);
                out.put_u64_le(c.snapshot.term);
                put_len(&mut out, c.snapshot.voters.len() as u64);
                c.snapshot.voters.iter().for_each(|v| out.put_u64_le(*v));
                put_bytes(&mut out, &c.snapshot.data);
                put_len(&mut out, c.tail.len() as u64);
                c.tail.iter().for_each(|e| put_entry(&mut out, e));
            }
        }
        out.freeze()
    }

    /// Reads a record that is all of `bytes`; what it holds shares them.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new("consensus record", bytes);
        if r.u8()? != VERSION {
            return Err(Malformed {
                what: "consensus record (its version is not known here: was it written by a newer Quire?)",
            });
        }
        let record = match r.u8()? {
            1 => LogRecord::Entry(read_entry(&mut r)?),
            2 => LogRecord::HardState(read_hard_state(&mut r)?),
            3 => {
                let hard_state = read_hard_state(&mut r)?;
                let (index, term) = (r.number()?, r.number()?);
                let voters = (0..r.count()?).map(|_| r.u64()).collect::<Result<_, _>>()?;
                let data = r.bytes()?;
                let tail = (0..r.count()?)
                    .map(|_| read_entry(&mut r))
                    .collect::<Result<_, _>>()?;
                LogRecord::Snapshot(Checkpoint {
                    hard_state,
                    snapshot: Snapshot {
                        index,
                        term,
                        voters,
                        data,
                    },
                    tail,
                })
            }
            _ => return Err(r.malformed()),
        };
        if r.is_empty() {
            Ok(record)
        } else {
            Err(r.malformed())
        }
    }
}

/// Records that can't have been written in this order by a working member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log of a consensus group is damaged: after index {last} comes {found}; empty this node's data directory only if the other voters are whole, and let it join again under a new id"
)]
pub struct DamagedLog {
    /// The last index before.
    pub last: u64,
    /// What was found.
    pub found: u64,
}

/// What a member held when it stopped, as read back from its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub(super) hard_state: HardState,
    pub(super) snapshot: Snapshot,
    pub(super) entries: Vec<Entry>,
    /// An entry that followed nothing, and no snapshot has come since.
    pub(super) gap: Option<DamagedLog>,
}

impl Recovered {
    /// Takes the next record. Records come in the order in which they were written.
    pub fn replay(&mut self, record: LogRecord) {
        match record {
            LogRecord::Entry(e) => self.append(e),
            LogRecord::HardState(hs) => self.hard_state = hs,
            LogRecord::Snapshot(c) => {
                self.hard_state = c.hard_state;
                self.snapshot = c.snapshot;
                self.entries.clear();
                self.gap = None;
                for e in c.tail {
                    self.append(e);
                }
            }
        }
    }

    fn append(&mut self, e: Entry) {
        if self.gap.is_some() {
            return;
        }
        let last = self.snapshot.index + self.entries.len() as u64;
        if e.index <= self.snapshot.index || e.index > last + 1 {
            self.gap = Some(DamagedLog {
                last,
                found: e.index,
            });
            return;
        }
        // In range: it lies between the snapshot and the last entry.
        self.entries
            .truncate((e.index - self.snapshot.index - 1) as usize);
        self.entries.push(e);
    }

    /// The state of the last snapshot; empty if there is none.
    pub fn snapshot(&self) -> &[u8] {
        &self.snapshot.data
    }

    /// What the entries behind the snapshot hold, agreed on or not.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|e| &*e.data)
    }

    /// Whether there was anything.
    pub fn is_empty(&self) -> bool {
        *self == Recovered::default()
    }
}

impl Entry {
    pub(super) fn into_raft(self) -> eraftpb::Entry {
        eraftpb::Entry {
            term: self.term,
            index: self.index,
            data: self.data,
            ..Default::default()
        }
    }

    pub(super) fn from_raft(e: eraftpb::Entry) -> Self {
        Entry {
            term: e.term,
            index: e.index,
            data: e.data,
        }
    }
}

impl HardState {
    pub(super) fn to_raft(self) -> eraftpb::HardState {
        eraftpb::HardState {
            term: self.term,
            vote: self.vote,
            commit: self.commit,
            ..Default::default()
        }
    }

    pub(super) fn from_raft(hs: &eraftpb::HardState) -> Self {
        HardState {
            term: hs.term,
            vote: hs.vote,
            commit: hs.commit,
        }
    }
}

impl Snapshot {
    pub(super) fn into_raft(self) -> eraftpb::Snapshot {
        let mut out = eraftpb::Snapshot {
            data: self.data,
            ..Default::default()
        };
        let meta = out.mut_metadata();
        (meta.index, meta.term) = (self.index, self.term);
        meta.mut_conf_state().voters = self.voters;
        out
    }

    pub(super) fn from_raft(mut s: eraftpb::Snapshot) -> Self {
        let mut meta = s.take_metadata();
        let mut voters = std::mem::take(&mut meta.mut_conf_state().voters);
        voters.sort_unstable();
        Snapshot {
            index: meta.index,
            term: meta.term,
            voters,
            data: s.data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            term,
            index,
            data: Bytes::from_static(b"abc"),
        }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            hard_state: HardState {
                term: 4,
                vote: 2,
                commit: 9,
            },
            snapshot: Snapshot {
                index: 8,
                term: 3,
                voters: vec![1, 2, 3],
                data: Bytes::from_static(b"state"),
            },
            tail: vec![entry(3, 9), entry(4, 10)],
        }
    }

    #[test]
    fn records_read_back_and_nonsense_is_refused() {
        let records = [
            LogRecord::Entry(entry(3, 9)),
            LogRecord::HardState(checkpoint().hard_state),
            LogRecord::Snapshot(checkpoint()),
        ];
        for record in records {
            let bytes = record.encode();
            assert_eq!(LogRecord::decode(bytes.clone()).unwrap(), record);
            for end in 0..bytes.len() {
                assert!(LogRecord::decode(bytes.slice(..end)).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(LogRecord::decode(longer.into()).is_err());
        }
    }

    /// Replaying would overflow where it counts on from them.
    #[test]
    fn numbers_that_no_group_reaches_are_refused() {
        let mut far = checkpoint();
        far.snapshot.index = u64::MAX;
        let last = entry(3, u64::MAX);
        for record in [LogRecord::Snapshot(far), LogRecord::Entry(last)] {
            assert!(LogRecord::decode(record.encode()).is_err());
        }
        // Who was voted for is a name, not a count.
        let voted = LogRecord::HardState(HardState {
            vote: u64::MAX,
            ..checkpoint().hard_state
        });
        assert_eq!(LogRecord::decode(voted.encode()), Ok(voted));
    }

    /// The bytes are a promise to every data directory out there.
    #[test]
    fn the_bytes_are_as_documented() {
        let bytes = LogRecord::Entry(entry(3, 9)).encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x01\x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x03abc"
        );
        let bytes = LogRecord::HardState(checkpoint().hard_state).encode();
        assert_eq!(
            &bytes[..],
            b"\x01\x02\x04\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn a_later_entry_discards_and_a_snapshot_replaces() {
        let mut r = Recovered::default();
        for (term, index) in [(1, 1), (1, 2), (1, 3), (2, 2)] {
            r.replay(LogRecord::Entry(entry(term, index)));
        }
        assert_eq!(r.entries, [entry(1, 1), entry(2, 2)]);
        assert_eq!(r.gap, None);
        r.replay(LogRecord::Snapshot(checkpoint()));
        assert_eq!(r.entries, checkpoint().tail);
        r.replay(LogRecord::Entry(entry(5, 9)));
        assert_eq!(r.entries, [entry(5, 9)]);
        r.replay(LogRecord::Entry(entry(5, 8)));
        assert_eq!(r.gap, Some(DamagedLog { last: 9, found: 8 }));
    }

    /// The log gave up its beginning, but not all before the snapshot.
    #[test]
    fn what_follows_nothing_is_stepped_over_if_a_snapshot_comes() {
        let mut r = Recovered::default();
        for (term, index) in [(1, 7), (1, 1), (2, 8)] {
            r.replay(LogRecord::Entry(entry(term, index)));
        }
        assert_eq!(r.entries, []);
        assert_eq!(r.gap, Some(DamagedLog { last: 0, found: 7 }));
        r.replay(LogRecord::Snapshot(checkpoint()));
        assert_eq!((&r.entries, r.gap), (&checkpoint().tail, None));
    }
}
