//! A node of the suite: its disk, and while it runs its replica.

use crate::protocol::Protocol;
use bytes::Bytes;
use model::{DiskId, Entry, EntryKind, NodeId, Region, catalog::Replica};
use std::collections::VecDeque;

/// xorshift64*: enough to choose what goes wrong next.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// The first disk of a node.
pub(crate) fn disk(node: &NodeId) -> DiskId {
    DiskId(node.number())
}

/// A member on its disk.
pub(crate) fn member(node: &NodeId, region: &Region) -> Replica {
    Replica {
        node: node.clone(),
        region: region.clone(),
        disk: Some(disk(node)),
        replaces: None,
        added: 0,
    }
}

/// What a node's log holds, in its order.
#[derive(Clone)]
pub(super) enum Record {
    Entry(Entry),
    Truncate(u64),
    Note(Bytes),
}

/// What a replica is told of once it is durable.
pub(super) enum Awaited {
    Entry(u64),
    Note(u64),
}

/// One node's disks and, while it runs, its replica.
pub(super) struct Host<S> {
    pub(super) id: NodeId,
    pub(super) region: Region,
    pub(super) disk: DiskId,
    /// Which catalog it knows.
    pub(super) told: u64,
    /// On which disk it is a member.
    pub(super) member: DiskId,
    pub(super) replica: Option<S>,
    /// The log: what was appended, and how much of it survives a crash.
    pub(super) journal: Vec<Record>,
    pub(super) synced: usize,
    /// By the number of records up to it.
    pub(super) awaited: VecDeque<(usize, Awaited)>,
    /// The same as it reads: entries `log_first ..`, and the last note.
    pub(super) log: Vec<Entry>,
    pub(super) log_first: u64,
    pub(super) note: Option<Bytes>,
    pub(super) durable: u64,
    pub(super) commit_noted: u64,
    /// The store: every entry applied, in order, and how many of them were flushed.
    pub(super) store: Vec<Entry>,
    pub(super) store_flushed: usize,
    pub(super) committed: u64,
    /// Whose store it is to copy, as soon as that node is there.
    pub(super) copies: Option<NodeId>,
    /// Reads that wait for their ticket: what had been acknowledged when they were asked.
    pub(super) reads: Vec<(u64, u64)>,
    /// Reads that wait for an index to be applied.
    pub(super) reads_ready: Vec<(u64, u64)>,
}

impl<S: Protocol> Host<S> {
    pub(super) fn new(id: &str, region: &str) -> Self {
        let id = NodeId::new(id).unwrap();
        Host {
            disk: disk(&id),
            told: 0,
            member: disk(&id),
            id,
            region: Region::new(region).unwrap(),
            replica: None,
            journal: Vec::new(),
            synced: 0,
            awaited: VecDeque::new(),
            log: Vec::new(),
            log_first: 1,
            note: None,
            durable: 0,
            commit_noted: 0,
            store: Vec::new(),
            store_flushed: 0,
            committed: 0,
            copies: None,
            reads: Vec::new(),
            reads_ready: Vec::new(),
        }
    }

    pub(super) fn last_index(&self) -> u64 {
        self.log_first + self.log.len() as u64 - 1
    }

    pub(super) fn applied(&self) -> u64 {
        self.store.last().map_or(0, |e| e.position.index)
    }

    /// Who is in the group, as of what the store has applied.
    pub(super) fn members(&self) -> Bytes {
        let mut told = self
            .store
            .iter()
            .rev()
            .filter(|e| e.kind == EntryKind::Members);
        told.next().map_or_else(Bytes::new, Entry::payload)
    }

    /// Its machine comes back with an empty disk.
    pub(super) fn lose_disk(&mut self) {
        *self = Host {
            disk: DiskId(self.disk.0.wrapping_add(1 << 40)),
            member: self.member,
            ..Host::new(self.id.as_str(), self.region.as_str())
        };
    }

    pub(super) fn append(&mut self, record: Record, awaited: Option<Awaited>) {
        self.journal.push(record);
        let at = self.journal.len();
        self.awaited.extend(awaited.map(|awaited| (at, awaited)));
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        self.log.truncate((index + 1 - self.log_first) as usize);
        self.durable = self.durable.min(index);
        self.awaited.retain(|(_, awaited)| match awaited {
            Awaited::Entry(at) => *at <= index,
            Awaited::Note(_) => true,
        });
    }

    /// What is left after a crash.
    pub(super) fn crash(&mut self) {
        self.replica = None;
        self.journal.truncate(self.synced);
        self.awaited.clear();
        self.store.truncate(self.store_flushed);
        self.copies = None;
        self.reads.clear();
        self.reads_ready.clear();
        self.log.clear();
        self.note = None;
        for record in self.journal.clone() {
            match record {
                Record::Entry(entry) if entry.position.index >= self.log_first => {
                    assert_eq!(entry.position.index, self.last_index() + 1);
                    self.log.push(entry);
                }
                Record::Entry(_) => {}
                Record::Truncate(after) => {
                    let kept = (after + 1).saturating_sub(self.log_first);
                    self.log.truncate(kept as usize);
                }
                Record::Note(note) => self.note = Some(note),
            }
        }
        self.durable = self.last_index();
    }

    /// The store is another one's, up to `at`; the log begins behind it. The newest note stays, on the
    /// disk or on its way there.
    pub(super) fn copied(&mut self, store: Vec<Entry>, at: u64) {
        self.copies = None;
        self.store = store;
        self.store_flushed = self.store.len();
        self.log.clear();
        self.log_first = at + 1;
        self.durable = at;
        self.commit_noted = at;
        self.committed = at;
        self.truncate_after(at);
        let kept = |record: &Record| matches!(record, Record::Note(_));
        let notes_synced = self.journal[..self.synced]
            .iter()
            .filter(|r| kept(r))
            .count();
        let mut place = 0;
        let places: Vec<usize> = (self.journal.iter())
            .map(|record| {
                place += usize::from(kept(record));
                place
            })
            .collect();
        self.awaited
            .retain(|(_, awaited)| matches!(awaited, Awaited::Note(_)));
        for (place, _) in &mut self.awaited {
            *place = places[*place - 1];
        }
        self.journal.retain(kept);
        self.synced = notes_synced;
    }
}
