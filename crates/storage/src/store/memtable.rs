//! The rows of a shard that are in no file yet, in order.
//!
//! In go batches of rows; out come the newest of each key, a removal being one. A memtable is
//! written by the owner of the rows alone; once it is set aside nobody changes it, and the
//! thread that flushes and snapshots read it without a lock.
//!
//! A row's first eight bytes stand in the map itself: for the rows of keys these are the slot
//! and most of a hash, so that a look-up compares numbers and reads one key. (The tree's own
//! memtable is a skip list, which follows a pointer and compares bytes at each step; looking up
//! and inserting there took a quarter of a writing node's time.) What a batch brings is copied
//! once, in few pieces, and lives until all of it was flushed: a memtable is therefore as
//! large as what was written to it, rows that were replaced included.

use super::rows::{RowBatch, Span};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// What a row costs besides its bytes: its place in the map.
const ROW_BYTES: u64 = 96;

/// Bytes that are copied and kept in one piece, unless one row has more.
const PIECES_BYTES: usize = 256 << 10;

/// A key or a value among others that came with it.
#[derive(Clone, Debug)]
struct Piece {
    pieces: Arc<[u8]>,
    start: u32,
    end: u32,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        &self.pieces[self.start as usize..self.end as usize]
    }
}

#[derive(Debug)]
enum KeyBytes<'a> {
    Held(Piece),
    /// Of what is looked for.
    Lent(&'a [u8]),
}

/// A row's key, ordered by its bytes.
#[derive(Debug)]
struct Key<'a> {
    first: u64,
    bytes: KeyBytes<'a>,
}

impl<'a> Key<'a> {
    fn held(piece: Piece) -> Self {
        Key {
            first: first(piece.bytes()),
            bytes: KeyBytes::Held(piece),
        }
    }

    fn lent(bytes: &'a [u8]) -> Self {
        Key {
            first: first(bytes),
            bytes: KeyBytes::Lent(bytes),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            KeyBytes::Held(piece) => piece.bytes(),
            KeyBytes::Lent(bytes) => bytes,
        }
    }
}

/// The first eight bytes as a number that orders as they do. Shorter keys are filled up with
/// zeros: where the numbers are equal the bytes decide.
fn first(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(first)
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_number = self.first.cmp(&other.first);
        by_number.then_with(|| self.bytes().cmp(other.bytes()))
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

/// A row: its key, and its value or None if it was removed.
pub(super) type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    rows: BTreeMap<Key<'static>, Option<Piece>>,
    bytes: u64,
    /// Files hold all of it.
    flushed: AtomicBool,
}

impl Memtable {
    /// Takes in a batch. Its rows' keys and values are shorter than 4 GiB together.
    pub(super) fn insert(&mut self, batch: &RowBatch) {
        let (data, spans) = batch.parts();
        let last = |&(_, middle, end): &Span| end.unwrap_or(middle);
        let mut left = spans;
        while let Some(&(begin, ..)) = left.first() {
            let fits = left
                .iter()
                .take_while(|span| last(span) - begin <= PIECES_BYTES);
            let (some, rest) = left.split_at(fits.count().max(1));
            let end = some.last().map_or(begin, last);
            self.insert_rows(data[begin..end].into(), begin, some);
            left = rest;
        }
        self.bytes += data.len() as u64 + spans.len() as u64 * ROW_BYTES;
    }

    /// Rows whose bytes are `pieces`, which began at `begin` of their batch.
    fn insert_rows(&mut self, pieces: Arc<[u8]>, begin: usize, spans: &[Span]) {
        let piece = |start: usize, end: usize| Piece {
            pieces: pieces.clone(),
            start: (start - begin) as u32,
            end: (end - begin) as u32,
        };
        for &(start, middle, end) in spans {
            let value = end.map(|end| piece(middle, end));
            self.rows.insert(Key::held(piece(start, middle)), value);
        }
    }

    /// What is known here of a row: Some(None) if it was removed, None if nothing is.
    pub(super) fn get<'a>(&'a self, key: &'a [u8]) -> Option<Option<&'a [u8]>> {
        let rows: &BTreeMap<Key<'_>, _> = &self.rows;
        let value = rows.get(&Key::lent(key))?;
        Some(value.as_ref().map(Piece::bytes))
    }

    /// The rows from `from` up to, not including, `to`, which is greater.
    fn range<'a>(&'a self, from: &'a [u8], to: &'a [u8]) -> Rows<'a> {
        let rows: &BTreeMap<Key<'a>, _> = &self.rows;
        Rows(rows.range(Key::lent(from)..Key::lent(to)))
    }

    /// How much was written to it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(SeqCst)
    }

    pub(super) fn set_flushed(&self) {
        self.flushed.store(true, SeqCst);
    }
}

struct Rows<'a>(btree_map::Range<'a, Key<'a>, Option<Piece>>);

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let (key, value) = self.0.next()?;
        Some((key.bytes(), value.as_ref().map(Piece::bytes)))
    }
}

/// The rows of several memtables from `from` up to, not including, `to`, which is greater: in
/// order, and of each key the row of the newest memtable, which comes first in `memtables`.
pub(super) fn newest<'a>(
    memtables: impl Iterator<Item = &'a Memtable>,
    from: &'a [u8],
    to: &'a [u8],
) -> impl Iterator<Item = Row<'a>> {
    let mut sources: Vec<Peekable<Rows<'a>>> =
        memtables.map(|m| m.range(from, to).peekable()).collect();
    std::iter::from_fn(move || {
        let next = sources
            .iter_mut()
            .filter_map(|s| s.peek().map(|r| r.0))
            .min()?;
        let mut newest = None;
        for source in &mut sources {
            if let Some(row) = source.next_if(|row| row.0 == next) {
                newest.get_or_insert(row);
            }
        }
        newest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        // Short ones, zeros, and neighbours that share their first eight bytes.
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..11)
    }

    proptest! {
        #[test]
        fn memtables_read_as_one_ordered_map(
            batches in proptest::collection::vec(
                proptest::collection::vec((key(), proptest::option::of(any::<u16>())), 0..30),
                1..5,
            ),
            from in key(),
            to in key(),
        ) {
            let mut model: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
            let mut memtables = Vec::new();
            for rows in batches {
                let (mut memtable, mut batch) = (Memtable::default(), RowBatch::new());
                for (key, value) in rows {
                    // Up to several pieces a batch, and several batches a piece.
                    let value = value.map(|v| vec![v as u8; usize::from(v)]);
                    match &value {
                        Some(value) => batch.put(&key, value),
                        None => batch.remove(&key),
                    }
                    model.insert(key, value);
                }
                memtable.insert(&batch);
                prop_assert!(memtable.bytes() >= batch.bytes() as u64);
                memtables.insert(0, memtable);
            }
            for (key, value) in &model {
                let found = memtables.iter().find_map(|m| m.get(key));
                prop_assert_eq!(found, Some(value.as_deref()));
            }
            if from < to {
                let found: Vec<Row<'_>> = newest(memtables.iter(), &from, &to).collect();
                let expected: Vec<Row<'_>> = model
                    .range(from.clone()..to.clone())
                    .map(|(key, value)| (key.as_slice(), value.as_deref()))
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
