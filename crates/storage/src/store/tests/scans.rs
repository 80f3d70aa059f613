//! Scans in parts, over two copies of a shard that are asked by turns, while keys and fields come
//! and go: whatever is there all the while is met, once, also by a client that keeps the cursor in
//! a double.

use super::*;
use model::{
    Entry, EntryKind, Mutation, Position, ShardId, Stamp,
    mutation::{Header, KeyKind},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Two copies, of different kinds of rows, and what both hold.
struct Copies {
    first: ShardStore<LsmRows>,
    second: ShardStore<MemoryRows>,
    index: u64,
    keys: BTreeMap<Vec<u8>, Header>,
}

impl Copies {
    fn new(dir: &std::path::Path) -> Self {
        let memory = MemoryStores::new().open(ShardId(1)).unwrap();
        Copies {
            first: ShardStore::open(lsm(dir).open(ShardId(1)).unwrap(), budget()).unwrap(),
            second: ShardStore::open(memory, budget()).unwrap(),
            index: 0,
            keys: BTreeMap::new(),
        }
    }

    fn submit(&mut self, m: &Mutation) {
        if m.is_empty() {
            return;
        }
        self.index += 1;
        let entry = Entry::new(
            Position::new(1, self.index),
            Stamp(1000 * self.index),
            EntryKind::Mutation,
            m.ops(),
            m.bytes(),
        );
        self.first.apply(std::slice::from_ref(&entry)).unwrap();
        self.second.apply(&[entry]).unwrap();
    }

    /// Puts a key that is not there, or writes it anew; deletes it if it is not wanted.
    fn set(&mut self, key: &[u8], there: bool) {
        let mut m = Mutation::new();
        let before = self.keys.remove(key);
        if there {
            let header = Header::new(KeyKind::String);
            m.put_string(key, before.is_none(), &header, b"value");
            self.keys.insert(key.to_vec(), header);
        } else if let Some(header) = before {
            m.delete(key, &header);
        }
        self.submit(&m);
    }

    /// The same of a field of the one hash.
    fn set_field(&mut self, field: &[u8], there: bool) {
        let mut m = Mutation::new();
        let before = self.keys.get(HASH).copied();
        let mut header = before.unwrap_or_else(|| Header::new(KeyKind::Hash));
        let had = self.first.has_field(HASH, &header, field).unwrap();
        if there {
            header.fields += u64::from(!had);
            m.set_fields(
                HASH,
                before.is_none(),
                Some(&header),
                [(field, &b"v"[..])].into_iter(),
            );
        } else if had {
            header.fields -= 1;
            m.remove_fields(HASH, Some(&header), [field].into_iter());
        }
        self.keys.insert(HASH.to_vec(), header);
        self.submit(&m);
    }

    fn scan(&self, first: bool, cursor: u64, count: usize, met: &mut Vec<Vec<u8>>) -> u64 {
        let limit = (count, u64::MAX);
        let mut visit = |key: &[u8], _: &Header| met.push(key.to_vec());
        let passed = match first {
            true => self.first.scan(cursor, limit, &mut visit),
            false => self.second.scan(cursor, limit, &mut visit),
        };
        passed.unwrap().next
    }

    fn fields(&self, first: bool, cursor: u64, count: usize, met: &mut Vec<Vec<u8>>) -> u64 {
        let header = &self.keys[HASH];
        let limit = (count, u64::MAX);
        let mut visit = |field: &[u8], _: &[u8]| met.push(field.to_vec());
        let passed = match first {
            true => self.first.fields(HASH, header, cursor, limit, &mut visit),
            false => self.second.fields(HASH, header, cursor, limit, &mut visit),
        };
        passed.unwrap().next
    }
}

const HASH: &[u8] = b"hash";
/// The first ones stay all the while.
const STAY: u16 = 150;

/// Some share a slot, some have one of their own.
fn name(n: u16) -> Vec<u8> {
    match n % 3 {
        0 => format!("{{a}}{n}").into_bytes(),
        1 => format!("{{b}}:{n}").into_bytes(),
        _ => format!("key:{n}").into_bytes(),
    }
}

/// A part of a scan: of which copy, how many, and what changes behind it.
type Part = (bool, usize, Vec<(u16, bool)>);

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let change = (0..2 * STAY, any::<bool>());
    let part = (
        any::<bool>(),
        1usize..12,
        proptest::collection::vec(change, 0..8),
    );
    proptest::collection::vec(part, 20)
}

/// Goes through all in `parts`, again and again, with `ask` and `change`.
fn go(
    copies: &mut Copies,
    parts: &[Part],
    ask: impl Fn(&Copies, bool, u64, usize, &mut Vec<Vec<u8>>) -> u64,
    change: impl Fn(&mut Copies, &[u8], bool),
) -> Result<(), TestCaseError> {
    let (mut met, mut cursor) = (Vec::new(), 0);
    for (first, count, changes) in parts.iter().cycle() {
        let next = ask(copies, *first, cursor, *count, &mut met);
        if next == 0 {
            break;
        }
        prop_assert!(next > cursor, "it goes on");
        prop_assert_eq!(next as f64 as u64, next, "a double holds it");
        cursor = next;
        for (n, there) in changes {
            change(copies, &name(*n), *n < STAY || *there);
        }
    }
    let met_in_all = met.len();
    met.sort();
    met.dedup();
    prop_assert_eq!(met.len(), met_in_all, "nothing is met twice");
    for n in 0..STAY {
        prop_assert!(met.binary_search(&name(n)).is_ok(), "{} was skipped", n);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn keys_that_stay_are_met_once(parts in parts(), extra in 0..STAY) {
        let dir = tempfile::tempdir().unwrap();
        let mut copies = Copies::new(dir.path());
        for n in 0..STAY + extra {
            copies.set(&name(n), true);
        }
        go(&mut copies, &parts, Copies::scan, Copies::set)?;
    }

    #[test]
    fn fields_that_stay_are_met_once(parts in parts(), extra in 0..STAY) {
        let dir = tempfile::tempdir().unwrap();
        let mut copies = Copies::new(dir.path());
        for n in 0..STAY + extra {
            copies.set_field(&name(n), true);
        }
        go(&mut copies, &parts, Copies::fields, Copies::set_field)?;
    }
}
