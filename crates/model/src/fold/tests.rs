//! Random mutations against what a client would say: a plain map of keys to strings and hashes,
//! which knows of no stamp, no tombstone and no op. What is folded keeps rows, as a store does,
//! once with look-ups and once without.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a client sees of a key, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    String(Bytes, u64),
    Hash(BTreeMap<Bytes, Bytes>, u64),
}

type Plain = BTreeMap<Bytes, Held>;

/// Rows, dead cells included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rows {
    headers: BTreeMap<Bytes, Header>,
    strings: BTreeMap<Bytes, Bytes>,
    cells: BTreeMap<(Bytes, Bytes), (Stamp, Bytes)>,
    /// Kept by `created` and deletions alone.
    live: i64,
}

impl Rows {
    fn header(&self, key: &[u8]) -> Option<Header> {
        self.headers.get(key).copied()
    }

    fn cells_of(&self, key: &[u8]) -> impl Iterator<Item = (&Bytes, &Stamp, &Bytes)> {
        let cells = self.cells.iter().filter(move |((of, _), _)| of == key);
        cells.map(|((_, field), (stamp, value))| (field, stamp, value))
    }

    fn dead(&self, key: &[u8]) -> Vec<Bytes> {
        let deleted = self.header(key).map_or(Stamp::ZERO, |h| h.deleted);
        let dead = self
            .cells_of(key)
            .filter(|(_, stamp, _)| **stamp <= deleted);
        dead.map(|(field, ..)| field.clone()).collect()
    }

    fn goes(&mut self, key: &[u8]) {
        let is_live = |h: Header| h.kind != KeyKind::Tombstone;
        self.live -= i64::from(self.header(key).is_some_and(is_live));
        self.strings.remove(key);
    }

    /// What a client sees. Panics if the rows contradict each other.
    fn visible(&self) -> Plain {
        let mut plain = Plain::new();
        for (key, header) in &self.headers {
            let live: BTreeMap<_, _> = self
                .cells_of(key)
                .filter(|(_, stamp, _)| **stamp > header.deleted)
                .map(|(field, _, value)| (field.clone(), value.clone()))
                .collect();
            let is_string = header.kind == KeyKind::String;
            assert_eq!(header.fields, live.len() as u64, "fields of {key:?}");
            assert_eq!(self.strings.contains_key(key), is_string, "{key:?}");
            let held = match header.kind {
                KeyKind::Tombstone => continue,
                KeyKind::String => Held::String(self.strings[key].clone(), header.expires_ms),
                KeyKind::Hash => Held::Hash(live, header.expires_ms),
            };
            plain.insert(key.clone(), held);
        }
        for (key, field) in self.cells.keys() {
            assert!(self.headers.contains_key(key), "{field:?} has no key");
        }
        assert_eq!(self.live, plain.len() as i64);
        plain
    }
}

/// Rows that ops are folded into, and whether they leave unsaid what is known of a key.
struct Folded<'a> {
    rows: &'a mut Rows,
    is_blind: bool,
}

impl Keys for Folded<'_> {
    type Value = ();
    type Error = ();

    fn known(&mut self, key: &Bytes) -> Result<Known<()>, ()> {
        Ok(match self.rows.header(key) {
            _ if self.is_blind => Known::Unread,
            None => Known::Absent,
            Some(header) => Known::Present(header, ()),
        })
    }

    fn put_string(
        &mut self,
        key: Bytes,
        created: bool,
        header: Header,
        _: Stamp,
        value: Bytes,
    ) -> Result<(), ()> {
        self.rows.live += i64::from(created);
        self.rows.headers.insert(key.clone(), header);
        self.rows.strings.insert(key, value);
        Ok(())
    }

    fn put_fields(
        &mut self,
        key: Bytes,
        created: bool,
        header: Option<Header>,
        stamp: Stamp,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<(), ()> {
        self.rows.live += i64::from(created);
        if let Some(header) = header {
            self.rows.headers.insert(key.clone(), header);
        }
        for (field, value) in fields {
            self.rows.cells.insert((key.clone(), field), (stamp, value));
        }
        Ok(())
    }

    fn remove_fields(&mut self, key: Bytes, header: Header, fields: Vec<Bytes>) -> Result<(), ()> {
        self.rows.headers.insert(key.clone(), header);
        for field in fields {
            self.rows.cells.remove(&(key.clone(), field));
        }
        Ok(())
    }

    fn purge_fields(&mut self, key: Bytes, fields: Vec<Bytes>) -> Result<(), ()> {
        let dead = self.rows.dead(&key);
        for field in fields.into_iter().filter(|field| dead.contains(field)) {
            self.rows.cells.remove(&(key.clone(), field));
        }
        Ok(())
    }

    fn put_header(&mut self, key: Bytes, _: Known<()>, header: Header) -> Result<(), ()> {
        self.rows.headers.insert(key, header);
        Ok(())
    }

    fn bury(&mut self, key: Bytes, _: Known<()>, tombstone: Header) -> Result<(), ()> {
        self.rows.goes(&key);
        self.rows.headers.insert(key, tombstone);
        Ok(())
    }

    fn remove(&mut self, key: Bytes, _: Known<()>) -> Result<(), ()> {
        assert_eq!(self.rows.dead(&key), [""; 0], "{key:?} has dead cells left");
        self.rows.goes(&key);
        self.rows.headers.remove(&key);
        self.rows.cells.retain(|(of, _), _| *of != key);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), ()> {
        *self.rows = Rows::default();
        Ok(())
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
enum Step {
    Set {
        key: u8,
        value: u8,
        expires_ms: u64,
    },
    SetFields {
        key: u8,
        fields: Vec<u8>,
        value: u8,
    },
    RemoveFields {
        key: u8,
        fields: Vec<u8>,
    },
    Expire {
        key: u8,
        expires_ms: u64,
    },
    /// With a tombstone though there is no need for one, maybe.
    Delete {
        key: u8,
        tombstone: bool,
    },
    /// Some dead cells, and live ones that it must leave; or all, and the end of the purge.
    Purge {
        key: u8,
        fields: Vec<u8>,
        all: bool,
    },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..3u8;
    let fields = || proptest::collection::vec(0..5u8, 1..4);
    let time = || prop_oneof![Just(0u64), 1..9u64];
    prop_oneof![
        12 => (key(), any::<u8>(), time())
            .prop_map(|(key, value, expires_ms)| Step::Set { key, value, expires_ms }),
        20 => (key(), fields(), any::<u8>())
            .prop_map(|(key, fields, value)| Step::SetFields { key, fields, value }),
        10 => (key(), fields()).prop_map(|(key, fields)| Step::RemoveFields { key, fields }),
        8 => (key(), time()).prop_map(|(key, expires_ms)| Step::Expire { key, expires_ms }),
        14 => (key(), any::<bool>()).prop_map(|(key, tombstone)| Step::Delete { key, tombstone }),
        10 => (key(), fields(), any::<bool>())
            .prop_map(|(key, fields, all)| Step::Purge { key, fields, all }),
        1 => Just(Step::Clear),
    ]
}

fn name(n: u8) -> Bytes {
    Bytes::from(format!("{n}"))
}

/// Who makes ops of steps: it knows the headers of before the mutation and those that it wrote
/// itself, as a command does, or the rows as they are, as the commands of a transaction do.
#[derive(Debug, Default)]
struct Evaluator {
    plain: Plain,
    /// What it takes the headers to be.
    headers: BTreeMap<Bytes, Header>,
    /// Keys that this mutation has changed.
    changed: Vec<Bytes>,
    ops: Vec<Op>,
}

impl Evaluator {
    fn live(&self, key: &Bytes) -> Option<Header> {
        let header = self.headers.get(key).copied();
        header.filter(|header| header.kind != KeyKind::Tombstone)
    }

    /// A header for a key that is not there.
    fn fresh(&self, key: &Bytes, kind: KeyKind) -> Header {
        let mut header = Header::new(kind);
        header.deleted = self.headers.get(key).map_or(Stamp::ZERO, |h| h.deleted);
        header
    }

    fn delete(&mut self, key: &Bytes, old: &Header, tombstone: bool) {
        self.ops.push(Op::Delete {
            key: key.clone(),
            cells: old.fields,
            tombstone: tombstone || old.deleted != Stamp::ZERO,
        });
        self.headers.remove(key);
        self.plain.remove(key);
    }

    fn put_header(&mut self, key: &Bytes, header: Header) {
        self.headers.insert(key.clone(), header);
        let key = key.clone();
        self.ops.push(Op::SetHeader { key, header });
    }

    fn evaluate(&mut self, step: &Step, rows: &Rows) {
        match step {
            Step::Set {
                key,
                value,
                expires_ms,
            } => {
                let (key, value) = (name(*key), name(*value));
                let mut created = true;
                match self.live(&key) {
                    Some(hash) if hash.kind == KeyKind::Hash => self.delete(&key, &hash, false),
                    Some(_) => created = false,
                    None => {}
                }
                let mut header = self.fresh(&key, KeyKind::String);
                header.expires_ms = *expires_ms;
                self.headers.insert(key.clone(), header);
                let held = Held::String(value.clone(), *expires_ms);
                self.plain.insert(key.clone(), held);
                self.changed.push(key.clone());
                self.ops.push(Op::PutString {
                    key,
                    created,
                    header,
                    value,
                });
            }
            Step::SetFields { key, fields, value } => {
                let (key, value) = (name(*key), name(*value));
                let old = self.live(&key);
                if old.is_some_and(|old| old.kind == KeyKind::String) {
                    return;
                }
                let new = || Held::Hash(BTreeMap::new(), 0);
                let held = self.plain.entry(key.clone()).or_insert_with(new);
                let Held::Hash(hash, _) = held else {
                    panic!("{key:?} is no hash")
                };
                let fields: Vec<_> = fields.iter().map(|f| (name(*f), value.clone())).collect();
                hash.extend(fields.iter().cloned());
                let live = hash.len() as u64;
                let mut header = old.unwrap_or_else(|| self.fresh(&key, KeyKind::Hash));
                header.fields = live;
                let changed = (old != Some(header)).then_some(header);
                self.headers.insert(key.clone(), header);
                self.changed.push(key.clone());
                self.ops.push(Op::SetFields {
                    key,
                    created: old.is_none(),
                    header: changed,
                    fields,
                });
            }
            Step::RemoveFields { key, fields } => {
                let key = name(*key);
                let (Some(mut header), Some(Held::Hash(hash, _))) =
                    (self.live(&key), self.plain.get_mut(&key))
                else {
                    return;
                };
                let fields = fields.iter().map(|field| name(*field));
                let fields: Vec<_> = fields.filter(|f| hash.remove(f).is_some()).collect();
                self.changed.push(key.clone());
                if hash.is_empty() {
                    return self.delete(&key, &header, false);
                }
                header.fields = hash.len() as u64;
                self.headers.insert(key.clone(), header);
                let header = Some(header);
                self.ops.push(Op::RemoveFields {
                    key,
                    header,
                    fields,
                });
            }
            Step::Expire { key, expires_ms } => {
                let key = name(*key);
                let (Some(mut header), Some(held)) = (self.live(&key), self.plain.get_mut(&key))
                else {
                    return;
                };
                let (Held::String(_, at) | Held::Hash(_, at)) = held;
                (*at, header.expires_ms) = (*expires_ms, *expires_ms);
                self.changed.push(key.clone());
                self.put_header(&key, header);
            }
            Step::Delete { key, tombstone } => {
                let key = name(*key);
                if let Some(header) = self.live(&key) {
                    self.changed.push(key.clone());
                    self.delete(&key, &header, *tombstone);
                }
            }
            Step::Purge { key, fields, all } => {
                let key = name(*key);
                let Some(mut header) = rows.header(&key) else {
                    return;
                };
                if self.changed.contains(&key) || header.deleted == Stamp::ZERO {
                    return;
                }
                let mut fields: Vec<_> = fields.iter().map(|field| name(*field)).collect();
                if *all {
                    fields.extend(rows.dead(&key));
                }
                self.changed.push(key.clone());
                self.ops.push(Op::RemoveFields {
                    key: key.clone(),
                    header: None,
                    fields,
                });
                if *all && header.kind == KeyKind::Tombstone {
                    self.headers.remove(&key);
                    let (cells, tombstone) = (0, false);
                    self.ops.push(Op::Delete {
                        key,
                        cells,
                        tombstone,
                    });
                } else if *all {
                    header.deleted = Stamp::ZERO;
                    self.put_header(&key, header);
                }
            }
            Step::Clear => {
                (self.plain, self.headers) = Default::default();
                self.ops.push(Op::Clear);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_folded_is_what_was_asked_for(
        mutations in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(step(), 1..6)),
            1..12,
        ),
    ) {
        let (mut read, mut blind) = (Rows::default(), Rows::default());
        let mut evaluator = Evaluator::default();
        let mut first = Stamp(1);
        for (knows_stamps, steps) in mutations {
            evaluator.headers = read.headers.clone();
            evaluator.changed.clear();
            let (mut of_read, mut of_blind) = (Fold::new(first), Fold::new(first));
            for step in steps {
                evaluator.evaluate(&step, &read);
                for op in evaluator.ops.drain(..) {
                    let mut keys = Folded { rows: &mut read, is_blind: false };
                    of_read.op(&mut keys, op.clone()).unwrap();
                    let mut keys = Folded { rows: &mut blind, is_blind: true };
                    of_blind.op(&mut keys, op).unwrap();
                }
                if knows_stamps {
                    evaluator.headers = read.headers.clone();
                }
                prop_assert_eq!(&read.visible(), &evaluator.plain, "{:?}", step);
                prop_assert_eq!(&read, &blind, "{:?}", step);
            }
            first = of_read.next_stamp();
        }
    }
}

fn put_field(header: Header) -> Op {
    Op::SetFields {
        key: name(0),
        created: true,
        header: Some(header),
        fields: vec![(name(0), name(0))],
    }
}

fn hash(deleted: Stamp) -> Header {
    Header {
        deleted,
        fields: 1,
        ..Header::new(KeyKind::Hash)
    }
}

fn delete(tombstone: bool) -> Op {
    Op::Delete {
        key: name(0),
        cells: 1,
        tombstone,
    }
}

/// What becomes of ops, the first stamped 1.
fn fold(ops: impl IntoIterator<Item = Op>) -> Result<Rows, FoldError<()>> {
    let mut rows = Rows::default();
    let mut fold = Fold::new(Stamp(1));
    for op in ops {
        let (rows, is_blind) = (&mut rows, false);
        fold.op(&mut Folded { rows, is_blind }, op)?;
    }
    Ok(rows)
}

#[test]
fn a_key_over_dead_cells_gets_a_tombstone_whatever_the_op_says() {
    let rows = fold([put_field(hash(Stamp(7))), delete(false)]).unwrap();
    assert_eq!(rows.headers[&name(0)].kind, KeyKind::Tombstone);
    assert_eq!(rows.headers[&name(0)].deleted, Stamp(2));
}

#[test]
fn what_is_gone_is_not_deleted_again() {
    let rows = fold([put_field(hash(Stamp::ZERO)), delete(true), delete(false)]).unwrap();
    assert_eq!(rows.headers[&name(0)].deleted, Stamp(2));
    let absent = fold([delete(true)]).unwrap();
    assert_eq!(absent, Rows::default());
}

#[test]
fn nothing_is_inherited_of_what_was_cleared() {
    let put = || put_field(hash(Stamp::ZERO));
    let rows = fold([put(), delete(true), Op::Clear, put()]).unwrap();
    assert_eq!(rows.headers[&name(0)], hash(Stamp::ZERO));
}

#[test]
fn an_op_that_is_left_out_has_its_stamp() {
    let mut rows = Rows::default();
    let mut fold = Fold::new(Stamp(1));
    fold.pass();
    let (rows, is_blind) = (&mut rows, false);
    fold.op(&mut Folded { rows, is_blind }, put_field(hash(Stamp::ZERO)))
        .unwrap();
    let (stamp, _) = &rows.cells[&(name(0), name(0))];
    assert_eq!(*stamp, Stamp(2));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let string = Header::new(KeyKind::String);
    let (key, value) = (name(0), name(0));
    let put_string = |key: &Bytes, header| Op::PutString {
        key: key.clone(),
        created: true,
        header,
        value: value.clone(),
    };
    let set_header = |header| Op::SetHeader {
        key: name(0),
        header,
    };
    let without_header = Op::SetFields {
        key: key.clone(),
        created: true,
        header: None,
        fields: Vec::new(),
    };
    let remove = Op::RemoveFields {
        key: key.clone(),
        header: Some(string),
        fields: Vec::new(),
    };
    let senseless = [
        vec![put_string(&key, hash(Stamp::ZERO))],
        vec![put_field(string)],
        vec![without_header],
        vec![remove],
        vec![set_header(string)],
        vec![put_string(&key, string), set_header(hash(Stamp::ZERO))],
        vec![put_field(hash(Stamp::ZERO)), set_header(string)],
    ];
    for ops in senseless {
        let malformed = FoldError::Malformed(Malformed { what: "mutation" });
        assert_eq!(fold(ops.clone()), Err(malformed), "{ops:?}");
    }
    let long = Bytes::from(vec![b'k'; crate::limits::KEY_BYTES_MAX + 1]);
    let too_long = |what| {
        let (bytes, max) = (32_001, 32_000);
        Err(FoldError::TooLong(TooLong { what, bytes, max }))
    };
    assert_eq!(fold([put_string(&long, string)]), too_long("key"));
    for header in [None, Some(hash(Stamp::ZERO))] {
        let (key, fields) = (key.clone(), vec![long.clone()]);
        let remove = Op::RemoveFields {
            key,
            header,
            fields,
        };
        assert_eq!(fold([remove]), too_long("field"));
    }
}
