//! Versioned cells that merge: the format that every topology shares.
//!
//! A key is a header and a set of cells: a string is one cell, a hash one cell a field. Each
//! write gives its cell a *dot*: who wrote (the origin) and when (the stamp). Merging two
//! copies of a cell is commutative, associative and idempotent, so replicas that have
//! received the same writes hold the same data, in whatever order they came.
//!
//! A cell keeps every version that no copy has seen superseded: at most one an origin. A
//! write at an origin supersedes the versions that origin had seen, by noting their dots in
//! the cell's *context*; a removal notes them without adding one. So a write survives a
//! removal that had not seen it. A version is dead exactly when a context covers its dot.
//! The value read is the version with the greatest stamp (then origin). Increments ride on
//! the version that they were counted on: one running total an origin, the greater stamp
//! wins, so that repeating one is harmless and increments of two origins add up.
//! (Almeida et al., "Delta State Replicated Data Types", 2016; Bieniusa et al., "An optimized
//! conflict-free replicated set", 2012.)
//!
//! In primary-replica and consensus the stamps of a shard only grow and nobody writes
//! concurrently: a cell is one version with origin 0 and an empty context. That is the short
//! form, 9 bytes and the value; merging it is overwriting.
//!
//! # Bytes
//! ```text
//! short form  1, stamp u64 LE, value…
//! long form   2, n, n × version, m, m × (origin, stamp)
//!   version   origin, stamp, value (length-prefixed), i, i × (origin, total i64, stamp)
//! ```
//! Counts, origins and stamps in the long form are LEB128. The first byte is the format's
//! version too: another form gets another number.

use crate::{
    codec::{Malformed, Reader, put_bytes, put_len},
    stamp::Stamp,
};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// The first byte of a short form.
const SHORT: u8 = 1;
/// The first byte of a long form.
const LONG: u8 = 2;

/// Who wrote: one life of one replica. 0 stands for "the shard's sequencer".
pub type Origin = u64;

/// The name of one write of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dot {
    /// When. First, so that dots order by stamp.
    pub stamp: Stamp,
    /// Who.
    pub origin: Origin,
}

/// The stamps seen of each origin. It covers a dot whose stamp is at or below its origin's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<Origin, Stamp>);

impl Context {
    /// Whether it has seen `dot`.
    pub fn covers(&self, dot: Dot) -> bool {
        self.0
            .get(&dot.origin)
            .is_some_and(|seen| *seen >= dot.stamp)
    }

    /// Takes note of `dot`.
    pub fn add(&mut self, dot: Dot) {
        let seen = self.0.entry(dot.origin).or_default();
        *seen = (*seen).max(dot.stamp);
    }

    /// Takes note of all that `other` has seen.
    pub fn merge(&mut self, other: &Context) {
        for (origin, stamp) in &other.0 {
            self.add(Dot {
                stamp: *stamp,
                origin: *origin,
            });
        }
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One write of a cell, with what has been counted on it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Which write.
    pub dot: Dot,
    /// What it wrote.
    pub value: Bytes,
    /// Running totals of increments: origin → (stamp of its latest, sum of all).
    pub totals: BTreeMap<Origin, (Stamp, i64)>,
}

/// One string, or one field of a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What is alive: at most one version an origin.
    versions: BTreeMap<Origin, Version>,
    /// What is dead.
    context: Context,
}

impl Cell {
    /// A cell that the shard's sequencer wrote at `stamp`.
    pub fn sequenced(stamp: Stamp, value: Bytes) -> Self {
        let dot = Dot { stamp, origin: 0 };
        let version = Version {
            dot,
            value,
            totals: BTreeMap::new(),
        };
        Cell {
            versions: BTreeMap::from([(0, version)]),
            context: Context::default(),
        }
    }

    /// The version that a read shows.
    pub fn current(&self) -> Option<&Version> {
        self.versions.values().max_by_key(|v| v.dot)
    }

    /// Writes `value` as `dot`, superseding every version here.
    pub fn write(&mut self, dot: Dot, value: Bytes) {
        self.remove();
        self.context.0.remove(&dot.origin).inspect(|seen| {
            // What the origin itself wrote before is covered by its own newer version.
            debug_assert!(*seen <= dot.stamp, "an origin's stamps only grow");
        });
        let version = Version {
            dot,
            value,
            totals: BTreeMap::new(),
        };
        self.versions.insert(dot.origin, version);
    }

    /// Removes every version here; what was not seen here survives.
    pub fn remove(&mut self) {
        for version in std::mem::take(&mut self.versions).into_values() {
            self.context.add(version.dot);
        }
    }

    /// Adds `by` to the current version as `dot`'s origin. False if there is none.
    pub fn increment(&mut self, dot: Dot, by: i64) -> bool {
        let Some(base) = self.current().map(|v| v.dot.origin) else {
            return false;
        };
        if let Some(version) = self.versions.get_mut(&base) {
            let total = version.totals.entry(dot.origin).or_default();
            *total = (dot.stamp, total.1.wrapping_add(by));
        }
        true
    }

    /// Takes in another copy of the same cell.
    pub fn merge(&mut self, other: &Cell) {
        for theirs in other.versions.values() {
            match self.versions.get_mut(&theirs.dot.origin) {
                Some(own) if own.dot == theirs.dot => {
                    for (origin, total) in &theirs.totals {
                        let mine = own.totals.entry(*origin).or_insert(*total);
                        *mine = (*mine).max(*total);
                    }
                }
                Some(own) if own.dot > theirs.dot => {}
                _ if self.context.covers(theirs.dot) => {}
                _ => {
                    self.versions.insert(theirs.dot.origin, theirs.clone());
                }
            }
        }
        self.context.merge(&other.context);
        let context = &self.context;
        self.versions.retain(|_, v| !context.covers(v.dot));
    }

    /// Drops what `context` covers, as a deletion of the whole key does.
    pub fn cover(&mut self, context: &Context) {
        self.versions.retain(|_, v| !context.covers(v.dot));
    }

    /// Appends its bytes: the short form where that says all.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut versions = self.versions.values();
        if let (Some(only), None) = (versions.next(), versions.next())
            && only.dot.origin == 0
            && only.totals.is_empty()
            && self.context.is_empty()
        {
            return encode_sequenced(only.dot.stamp, &only.value, out);
        }
        out.put_u8(LONG);
        put_len(out, self.versions.len() as u64);
        for version in self.versions.values() {
            put_len(out, version.dot.origin);
            put_len(out, version.dot.stamp.0);
            put_bytes(out, &version.value);
            put_len(out, version.totals.len() as u64);
            for (origin, (stamp, total)) in &version.totals {
                put_len(out, *origin);
                out.put_i64_le(*total);
                put_len(out, stamp.0);
            }
        }
        put_len(out, self.context.0.len() as u64);
        for (origin, stamp) in &self.context.0 {
            put_len(out, *origin);
            put_len(out, stamp.0);
        }
    }

    /// Reads what [`Cell::encode`] wrote; `bytes` hold nothing else.
    pub fn decode(bytes: Bytes) -> Result<Cell, Malformed> {
        let mut r = Reader::new("cell", bytes);
        match r.u8()? {
            SHORT => {
                let stamp = Stamp(r.u64()?);
                Ok(Cell::sequenced(stamp, r.rest()))
            }
            LONG => {
                let mut cell = Cell::default();
                for _ in 0..r.count()? {
                    let origin = r.len()?;
                    let stamp = Stamp(r.len()?);
                    let value = r.bytes()?;
                    let mut totals = BTreeMap::new();
                    for _ in 0..r.count()? {
                        let by = r.len()?;
                        let total = r.u64()? as i64;
                        totals.insert(by, (Stamp(r.len()?), total));
                    }
                    let dot = Dot { stamp, origin };
                    cell.versions.insert(origin, Version { dot, value, totals });
                }
                for _ in 0..r.count()? {
                    let origin = r.len()?;
                    let stamp = Stamp(r.len()?);
                    cell.context.0.insert(origin, stamp);
                }
                if r.is_empty() {
                    Ok(cell)
                } else {
                    Err(r.malformed())
                }
            }
            _ => Err(r.malformed()),
        }
    }
}

/// Appends the short form: what [`Cell::sequenced`] would encode to, without making one.
pub fn encode_sequenced(stamp: Stamp, value: &[u8], out: &mut impl BufMut) {
    out.put_u8(SHORT);
    out.put_u64_le(stamp.0);
    out.put_slice(value);
}

/// Reads the stamp and value of a short form without making a [`Cell`]; None for any other
/// form. The value shares `bytes`.
pub fn decode_sequenced(bytes: &Bytes) -> Option<(Stamp, Bytes)> {
    let (head, _) = bytes.split_first_chunk::<9>()?;
    if head[0] != SHORT {
        return None;
    }
    let mut stamp = [0; 8];
    stamp.copy_from_slice(&head[1..]);
    Some((Stamp(u64::from_le_bytes(stamp)), bytes.slice(9..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What one of three origins does to the copy it holds; `Receive` merges another's copy.
    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, u8),
        Remove(usize),
        Increment(usize, i8),
        Receive(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3usize, any::<u8>()).prop_map(|(o, v)| Step::Write(o, v)),
            (0..3usize).prop_map(Step::Remove),
            (0..3usize, any::<i8>()).prop_map(|(o, n)| Step::Increment(o, n)),
            (0..3usize, 0..3usize).prop_map(|(a, b)| Step::Receive(a, b)),
        ]
    }

    /// Runs a history and returns every state that any copy ever had.
    fn history(steps: &[Step]) -> Vec<Cell> {
        let mut copies = vec![Cell::default(); 3];
        let mut seen = vec![Cell::default()];
        for (at, step) in steps.iter().enumerate() {
            let dot = |origin: usize| Dot {
                stamp: Stamp(at as u64 + 1),
                origin: origin as u64 + 1,
            };
            let changed = match step {
                Step::Write(o, v) => {
                    copies[*o].write(dot(*o), Bytes::copy_from_slice(&[*v]));
                    *o
                }
                Step::Remove(o) => {
                    copies[*o].remove();
                    *o
                }
                Step::Increment(o, n) => {
                    copies[*o].increment(dot(*o), i64::from(*n));
                    *o
                }
                Step::Receive(to, from) => {
                    let other = copies[*from].clone();
                    copies[*to].merge(&other);
                    *to
                }
            };
            seen.push(copies[changed].clone());
        }
        seen
    }

    fn merged(a: &Cell, b: &Cell) -> Cell {
        let mut m = a.clone();
        m.merge(b);
        m
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_idempotent(
            steps in proptest::collection::vec(step(), 1..24),
            picks in any::<[prop::sample::Index; 3]>(),
        ) {
            let states = history(&steps);
            let [a, b, c] = picks.map(|i| i.get(&states).clone());
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(
                merged(&merged(&a, &b), &c),
                merged(&a, &merged(&b, &c))
            );
        }

        #[test]
        fn bytes_read_back(steps in proptest::collection::vec(step(), 0..24)) {
            for cell in history(&steps) {
                let mut out = BytesMut::new();
                cell.encode(&mut out);
                prop_assert_eq!(Cell::decode(out.freeze()).unwrap(), cell);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Cell::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn a_write_survives_a_removal_that_had_not_seen_it() {
        let dot = |stamp, origin| Dot {
            stamp: Stamp(stamp),
            origin,
        };
        let mut a = Cell::default();
        a.write(dot(1, 1), "old".into());
        let mut b = a.clone();
        a.remove();
        b.write(dot(2, 2), "new".into());
        a.merge(&b);
        assert_eq!(a.current().unwrap().value, "new");
    }

    #[test]
    fn increments_of_two_origins_add_up_and_repeats_do_not() {
        let dot = |stamp, origin| Dot {
            stamp: Stamp(stamp),
            origin,
        };
        let mut a = Cell::default();
        a.write(dot(1, 1), "10".into());
        let mut b = a.clone();
        a.increment(dot(2, 1), 5);
        b.increment(dot(2, 2), 7);
        b.increment(dot(3, 2), 1);
        a.merge(&b);
        a.merge(&b);
        let sum: i64 = a.current().unwrap().totals.values().map(|t| t.1).sum();
        assert_eq!(sum, 13);
    }

    #[test]
    fn the_short_form_is_short() {
        let mut out = BytesMut::new();
        Cell::sequenced(Stamp(7), "v".into()).encode(&mut out);
        assert_eq!(out.as_ref(), b"\x01\x07\0\0\0\0\0\0\0v");
        assert_eq!(
            decode_sequenced(&out.freeze()),
            Some((Stamp(7), Bytes::from("v")))
        );
    }
}
