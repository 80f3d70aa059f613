//! At a primary: which keys somebody watches, and at which index each was changed last
//! (docs/adr/0012-transactions).
//!
//! Always: a key that is in the table was changed, since it came there, at no index above the
//! one that is noted. What is not in the table may have been changed at any. To clear the shard
//! changes the keys that are there alone; of each in the table it is noted whether it may be.

use bytes::Bytes;
use model::{
    Entry, EntryKind, Op,
    mutation::{KeyKind, Ops},
};
use std::collections::BTreeMap;

/// Keys that are noted at a time, and their bytes.
const KEYS_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
struct Note {
    /// The last entry that changed it, or was there before it was watched.
    changed: u64,
    /// Whether it may be there.
    there: bool,
    /// When it was watched last: a place in `order`.
    turn: u64,
}

/// The watched keys of one shard.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    notes: BTreeMap<Bytes, Note>,
    /// By when they were watched last.
    order: BTreeMap<u64, Bytes>,
    bytes: usize,
    turns: u64,
}

impl Watched {
    /// From here on changes of `key` are noted; the log ends at `tip`, and the key may be there.
    pub(crate) fn add(&mut self, key: &[u8], tip: u64, there: bool) {
        self.turns += 1;
        let turn = self.turns;
        let key = match self.notes.get_mut(key) {
            Some(note) => match self.order.remove(&note.turn) {
                Some(key) => {
                    note.turn = turn;
                    key
                }
                None => return,
            },
            None => {
                let (key, changed) = (Bytes::copy_from_slice(key), tip);
                self.bytes += key.len();
                let note = Note {
                    changed,
                    there,
                    turn,
                };
                self.notes.insert(key.clone(), note);
                key
            }
        };
        self.order.insert(turn, key);
        while (self.notes.len() > KEYS_MAX || self.bytes > BYTES_MAX)
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.bytes -= oldest.len();
            self.notes.remove(&oldest);
        }
    }

    /// An entry was appended.
    pub(crate) fn appended(&mut self, entry: &Entry) {
        if self.notes.is_empty() || entry.kind != EntryKind::Mutation {
            return;
        }
        let index = entry.position.index;
        // Own entries read back: the tip has just taken this one in.
        for op in Ops::new(entry.payload()).flatten() {
            match op.key() {
                Some(key) => {
                    if let Some(note) = self.notes.get_mut(key) {
                        note.changed = index;
                        note.there = leaves_key(&op);
                    }
                }
                None => {
                    for note in self.notes.values_mut().filter(|note| note.there) {
                        note.changed = index;
                        note.there = false;
                    }
                }
            }
        }
    }

    /// Whether `key` is certain to be as it was at `index`.
    pub(crate) fn is_unchanged_since(&self, key: &[u8], index: u64) -> bool {
        self.notes.get(key).is_some_and(|n| n.changed <= index)
    }
}

/// Whether the key of `op` may be there behind it.
fn leaves_key(op: &Op) -> bool {
    match op {
        Op::Delete { .. } | Op::Clear => false,
        Op::SetHeader { header, .. } => header.kind != KeyKind::Tombstone,
        Op::PutString { .. } | Op::SetFields { .. } | Op::RemoveFields { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Mutation, Position, Stamp, mutation::Header, mutation::KeyKind};

    fn entry(index: u64, change: impl FnOnce(&mut Mutation)) -> Entry {
        let mut mutation = Mutation::new();
        change(&mut mutation);
        let at = Position::new(1, index);
        let (ops, bytes) = (mutation.ops(), mutation.bytes());
        Entry::new(at, Stamp(index), EntryKind::Mutation, ops, bytes)
    }

    fn set(index: u64, key: &str) -> Entry {
        let header = Header::new(KeyKind::String);
        entry(index, |m| m.put_string(key.as_bytes(), true, &header, b"v"))
    }

    #[test]
    fn a_change_is_seen_by_whoever_watched_before_it() {
        let mut watched = Watched::default();
        watched.appended(&set(4, "a"));
        assert!(!watched.is_unchanged_since(b"a", 4), "nobody watched it");
        watched.add(b"a", 4, true);
        watched.add(b"b", 4, true);
        watched.appended(&set(5, "b"));
        assert!(watched.is_unchanged_since(b"a", 4));
        assert!(!watched.is_unchanged_since(b"b", 4));
        // Another one watches it now; the first one must see the change still.
        watched.add(b"b", 5, true);
        assert!(watched.is_unchanged_since(b"b", 5) && !watched.is_unchanged_since(b"b", 4));
        watched.appended(&entry(6, Mutation::clear_shard));
        assert!(!watched.is_unchanged_since(b"a", 5));
    }

    #[test]
    fn a_shard_that_is_cleared_changes_the_keys_that_are_there() {
        let mut watched = Watched::default();
        for (key, there) in [
            ("never", false),
            ("there", true),
            ("put", false),
            ("gone", true),
        ] {
            watched.add(key.as_bytes(), 4, there);
        }
        watched.appended(&set(5, "put"));
        let header = Header::new(KeyKind::String);
        watched.appended(&entry(6, |m| m.delete(b"gone", &header)));
        watched.appended(&entry(7, Mutation::clear_shard));
        watched.appended(&entry(8, Mutation::clear_shard));
        let last = |key: &str| (4..9).find(|n| watched.is_unchanged_since(key.as_bytes(), *n));
        let changed = ["never", "there", "put", "gone"].map(last);
        assert_eq!(changed, [Some(4), Some(7), Some(7), Some(6)]);
    }

    #[test]
    fn what_was_watched_longest_ago_goes_first() {
        let mut watched = Watched::default();
        let key = |n: usize| format!("key{n}").into_bytes();
        for n in 0..KEYS_MAX {
            watched.add(&key(n), 1, true);
        }
        watched.add(&key(0), 1, true);
        watched.add(b"one more", 1, true);
        assert_eq!(
            (watched.notes.len(), watched.order.len()),
            (KEYS_MAX, KEYS_MAX)
        );
        assert!(watched.is_unchanged_since(&key(0), 1));
        assert!(!watched.is_unchanged_since(&key(1), 1));
        let long = vec![b'x'; 32_000];
        for n in 0..600u16 {
            watched.add(&[&n.to_le_bytes()[..], &long].concat(), 1, true);
        }
        assert!(watched.bytes <= BYTES_MAX);
        let bytes: usize = watched.notes.keys().map(Bytes::len).sum();
        assert_eq!(bytes, watched.bytes);
    }
}
