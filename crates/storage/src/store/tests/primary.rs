//! What a primary does: it evaluates commands against the store, writes their outcome as
//! mutations into a log, and keeps a plain model beside it.

use super::*;
use bytes::Bytes;
use model::{
    Entry, EntryKind, Mutation, Position, Stamp,
    mutation::{Header, KeyKind},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) type Hash = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    String(Vec<u8>, u64),
    Hash(Hash, u64),
}

pub(super) type Model = BTreeMap<Vec<u8>, Held>;

#[derive(Clone, Debug)]
pub(super) enum Command {
    Set {
        key: u8,
        value: Vec<u8>,
        expires_ms: u64,
    },
    HSet {
        key: u8,
        first: u8,
        count: u8,
        value: u8,
    },
    HDel {
        key: u8,
        first: u8,
        count: u8,
    },
    Del(u8),
    /// DEL, HSET of one field and, maybe, DEL again in one mutation.
    Renew {
        key: u8,
        again: bool,
    },
    Expire {
        key: u8,
        expires_ms: u64,
    },
    Clear,
    Barrier,
    /// One step of purging.
    Purge(usize),
    /// Deletes what is over at a time.
    Expired(u64),
    /// Upkeep that is not logged.
    Flush,
    Maintain,
}

fn key() -> impl Strategy<Value = u8> {
    0..6u8
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let time = prop_oneof![Just(0u64), 1..50u64];
    prop_oneof![
        4 => (key(), proptest::collection::vec(any::<u8>(), 0..200), time.clone())
            .prop_map(|(key, value, expires_ms)| Command::Set { key, value, expires_ms }),
        6 => (key(), 0..100u8, prop_oneof![1..4u8, 60..140u8], any::<u8>())
            .prop_map(|(key, first, count, value)| Command::HSet { key, first, count, value }),
        3 => (key(), 0..100u8, prop_oneof![1..4u8, 60..140u8])
            .prop_map(|(key, first, count)| Command::HDel { key, first, count }),
        3 => key().prop_map(Command::Del),
        2 => (key(), any::<bool>()).prop_map(|(key, again)| Command::Renew { key, again }),
        2 => (key(), time).prop_map(|(key, expires_ms)| Command::Expire { key, expires_ms }),
        1 => Just(Command::Barrier),
        3 => (1..80usize).prop_map(Command::Purge),
        1 => (0..50u64).prop_map(Command::Expired),
        1 => Just(Command::Flush),
        3 => Just(Command::Maintain),
    ]
}

pub(super) fn commands(max: usize) -> impl Strategy<Value = Vec<Command>> {
    let any = prop_oneof![40 => command(), 1 => Just(Command::Clear)];
    proptest::collection::vec(any, 1..max)
}

pub(super) fn name(key: u8) -> Vec<u8> {
    format!("key{{{key}}}").into_bytes()
}

fn field(n: u8) -> Vec<u8> {
    format!("f{n}").into_bytes()
}

#[derive(Clone, Default)]
pub(super) struct Primary {
    pub(super) log: Vec<Entry>,
    pub(super) model: Model,
    epoch: u64,
    stamp: u64,
}

impl Primary {
    /// Another one, with all that this one has, in a later epoch; its stamps go on by `ahead`.
    pub(super) fn depart(&self, ahead: u64) -> Self {
        Primary {
            epoch: self.epoch + 1000,
            stamp: self.stamp + ahead,
            ..self.clone()
        }
    }

    /// Logs what is in `m`, and applies it.
    pub(super) fn submit<R: Rows>(&mut self, store: &mut ShardStore<R>, m: &Mutation) {
        if !m.is_empty() {
            self.append(store, EntryKind::Mutation, m);
        }
    }

    fn append<R: Rows>(&mut self, store: &mut ShardStore<R>, kind: EntryKind, m: &Mutation) {
        let position = Position::new(self.epoch, self.log.len() as u64 + 1);
        self.stamp += 1;
        let entry = Entry::new(position, Stamp(self.stamp), kind, m.ops(), m.bytes());
        self.stamp = entry.last_stamp().0;
        self.log.push(entry.clone());
        store.apply(&[entry]).unwrap();
    }

    pub(super) fn run<R: Rows>(&mut self, store: &mut ShardStore<R>, command: &Command) {
        let mut m = Mutation::new();
        match command {
            Command::Set {
                key,
                value,
                expires_ms,
            } => {
                let key = name(*key);
                let old = store.header(&key).unwrap();
                let live = old.filter(|h| h.kind != KeyKind::Tombstone);
                let mut header = Header::new(KeyKind::String);
                header.expires_ms = *expires_ms;
                header.deleted = old.map_or(Stamp::ZERO, |h| h.deleted);
                if let Some(hash) = live.filter(|h| h.kind == KeyKind::Hash) {
                    m.delete(&key, &hash);
                    header.deleted = Stamp::ZERO; // its stamp is not known yet
                }
                let created = live.is_none_or(|h| h.kind == KeyKind::Hash);
                m.put_string(&key, created, &header, value);
                self.model
                    .insert(key, Held::String(value.clone(), *expires_ms));
            }
            Command::HSet {
                key,
                first,
                count,
                value,
            } => {
                let key = name(*key);
                let old = store.header(&key).unwrap();
                let (mut header, created) = match old {
                    Some(h) if h.kind == KeyKind::String => return,
                    Some(h) if h.kind == KeyKind::Hash => (h, false),
                    old => {
                        let mut new = Header::new(KeyKind::Hash);
                        new.deleted = old.map_or(Stamp::ZERO, |h| h.deleted);
                        (new, true)
                    }
                };
                let held = self
                    .model
                    .entry(key.clone())
                    .or_insert_with(|| Held::Hash(Hash::new(), 0));
                let Held::Hash(fields, _) = held else {
                    panic!("store and model differ")
                };
                let before = header;
                let value = vec![*value; 7];
                let mut put = Vec::new();
                for n in *first..first.saturating_add(*count) {
                    if store.field(&key, &before, &field(n)).unwrap().is_none() {
                        header.fields += 1;
                    }
                    fields.insert(field(n), value.clone());
                    put.push(field(n));
                }
                let changed = (created || header != before).then_some(&header);
                m.set_fields(
                    &key,
                    created,
                    changed,
                    put.iter().map(|f| (&f[..], &value[..])),
                );
            }
            Command::HDel { key, first, count } => {
                let key = name(*key);
                let Some(Held::Hash(fields, _)) = self.model.get_mut(&key) else {
                    return;
                };
                let mut header = store.header(&key).unwrap().unwrap();
                let gone: Vec<_> = (*first..first.saturating_add(*count))
                    .map(field)
                    .filter(|f| fields.remove(f).is_some())
                    .collect();
                if gone.is_empty() {
                    return;
                }
                if fields.is_empty() {
                    self.model.remove(&key);
                    m.delete(&key, &header);
                } else {
                    header.fields -= gone.len() as u64;
                    m.remove_fields(&key, Some(&header), gone.iter().map(|f| &f[..]));
                }
            }
            Command::Del(key) => self.delete(store, &mut m, &name(*key)),
            Command::Renew { key, again } => {
                let key = name(*key);
                self.delete(store, &mut m, &key);
                let mut header = Header::new(KeyKind::Hash);
                header.fields = 1;
                if m.is_empty() {
                    header.deleted = store
                        .header(&key)
                        .unwrap()
                        .map_or(Stamp::ZERO, |h| h.deleted);
                }
                let one = [(&b"f1"[..], &b"new"[..])];
                m.set_fields(&key, true, Some(&header), one.into_iter());
                if *again {
                    m.delete(&key, &header);
                } else {
                    let one = Hash::from([(b"f1".to_vec(), b"new".to_vec())]);
                    self.model.insert(key, Held::Hash(one, 0));
                }
            }
            Command::Expire { key, expires_ms } => {
                let key = name(*key);
                let Some(held) = self.model.get_mut(&key) else {
                    return;
                };
                let (Held::String(_, at) | Held::Hash(_, at)) = held;
                *at = *expires_ms;
                let mut header = store.header(&key).unwrap().unwrap();
                header.expires_ms = *expires_ms;
                m.set_header(&key, &header);
            }
            Command::Clear => {
                self.model.clear();
                m.clear_shard();
            }
            Command::Barrier => {
                self.epoch += 1;
                return self.append(store, EntryKind::Barrier, &m);
            }
            Command::Purge(limit) => {
                for dead in dead(store, *limit) {
                    if !dead.fields.is_empty() {
                        let fields = dead.fields.iter().map(|f| &f[..]);
                        m.remove_fields(&dead.key, None, fields);
                    }
                    if dead.all {
                        let header = store.header(&dead.key).unwrap().unwrap();
                        m.finish_purge(&dead.key, &header);
                    }
                }
            }
            Command::Expired(now_ms) => {
                let found = store.expired(*now_ms, &ExpiryPlace::at(0), 100).unwrap();
                for key in found.keys {
                    let mut m = Mutation::new();
                    self.delete(store, &mut m, &key);
                    self.submit(store, &m);
                }
                let over = |held: &Held| match held {
                    Held::String(_, at) | Held::Hash(_, at) => *at != 0 && at <= now_ms,
                };
                assert!(
                    !self.model.values().any(over),
                    "an expired key was not found"
                );
            }
            Command::Flush => store.flush().unwrap(),
            Command::Maintain => drop(store.maintain().unwrap()),
        }
        self.submit(store, &m);
    }

    fn delete<R: Rows>(&mut self, store: &ShardStore<R>, m: &mut Mutation, key: &[u8]) {
        if self.model.remove(key).is_some() {
            m.delete(key, &store.header(key).unwrap().unwrap());
        }
    }
}

/// The first keys with dead cells.
pub(super) fn dead<R: Rows>(store: &ShardStore<R>, limit: usize) -> Vec<Dead> {
    store.to_purge(&DeadPlace::default(), limit).unwrap().0
}

/// All that a store holds, read in every way there is.
pub(super) fn content<R: Rows>(store: &ShardStore<R>) -> Model {
    let mut model = Model::new();
    let mut cursor = 0;
    loop {
        let mut keys = Vec::new();
        cursor = store
            .scan(cursor, (2, u64::MAX), &mut |key, header| {
                keys.push((key.to_vec(), *header))
            })
            .unwrap()
            .next;
        for (key, header) in keys {
            assert_eq!(store.header(&key).unwrap(), Some(header));
            let held = if let Some((of, Some(value))) = store.string(&key).unwrap() {
                assert_eq!(of, header);
                Held::String(value.to_vec(), header.expires_ms)
            } else {
                let mut fields = Hash::new();
                let mut cursor = 0;
                loop {
                    let mut visit = |f: &[u8], v: &[u8]| {
                        let before = fields.insert(f.to_vec(), v.to_vec());
                        assert!(before.is_none(), "visited twice");
                    };
                    let passed = store.fields(&key, &header, cursor, (7, u64::MAX), &mut visit);
                    cursor = passed.unwrap().next;
                    if cursor == 0 {
                        break;
                    }
                }
                assert_eq!(fields.len() as u64, header.fields);
                for n in 0..250 {
                    let f = field(n);
                    let value = store.field(&key, &header, &f).unwrap();
                    let there = store.has_field(&key, &header, &f).unwrap();
                    assert_eq!(there, value.is_some());
                    assert_eq!(value, fields.get(&f).map(|v| Bytes::copy_from_slice(v)));
                }
                Held::Hash(fields, header.expires_ms)
            };
            assert!(model.insert(key, held).is_none(), "visited twice");
        }
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(store.key_count(), model.len() as u64);
    for key in (0..6).map(name).filter(|k| !model.contains_key(k)) {
        let header = store.header(&key).unwrap();
        assert!(header.is_none_or(|h| h.kind == KeyKind::Tombstone));
        let string = store.string(&key).unwrap();
        assert!(string.is_none_or(|(_, value)| value.is_none()));
    }
    model
}
