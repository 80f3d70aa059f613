//! The rows of a shard that are in no file yet, in order.
//!
//! In go batches of rows; out come the newest of each key, a removal being one. A memtable is
//! written by the owner of the rows alone; once it is set aside nobody changes it, and the
//! thread that flushes and snapshots read it without a lock.
//!
//! ```text
//! firsts of the blocks   │ 07… │ 3a… │ …      the first eight bytes of each block's first row
//! blocks                    │     └▶ firsts of its rows, and the place of each
//! pieces                    └▶ …keyvaluekeyvalue…     what a batch brought, as it came
//! ```
//! A look-up compares numbers that lie side by side, twice: for the rows of keys the first eight
//! bytes are the slot and most of a hash. Only where they are equal, as among the fields of one
//! hash, does it compare keys. The firsts of all blocks stay near the processor; what a look-up
//! waits for is one block, and the bytes of the row if it is there. (A skip list follows a pointer and
//! compares bytes at each step, which took a quarter of a writing node's time; an ordered map of
//! the standard library is five or six nodes deep, and took a seventh.) What a batch brings is
//! copied once, in few pieces, and lives until all of it was flushed: a memtable is therefore as
//! large as what was written to it, rows that were replaced included.

use super::rows::{RowBatch, Span};
use std::{
    iter::Peekable,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// What a row costs besides its bytes, in a block that is half full.
const ROW_BYTES: u64 = 56;

/// Bytes that are copied and kept in one piece, unless one row has more.
const PIECES_BYTES: usize = 256 << 10;

/// Rows of a block, at most; halved when it is full. More are more to be moved by each that comes
/// in between, fewer make more blocks.
const BLOCK_ROWS: usize = 32;

/// Where a row's bytes are in its piece: the key, and behind it the value.
#[derive(Clone, Copy, Debug)]
struct Place {
    piece: u32,
    start: u32,
    middle: u32,
    /// Where the value ends; [`REMOVED`]: there is none.
    end: u32,
}

/// No value ends here: rows are shorter.
const REMOVED: u32 = u32::MAX;

impl Place {
    /// Of no row.
    const NONE: Place = Place {
        piece: 0,
        start: 0,
        middle: 0,
        end: REMOVED,
    };
}

/// Rows in order; never empty. In one allocation: a look-up waits for it once.
#[derive(Debug)]
struct Block {
    /// How many.
    len: usize,
    /// The first eight bytes of each row's key; behind them the greatest number.
    firsts: [u64; BLOCK_ROWS],
    places: [Place; BLOCK_ROWS],
}

impl Block {
    fn with_room() -> Box<Self> {
        Box::new(Block {
            len: 0,
            firsts: [u64::MAX; BLOCK_ROWS],
            places: [Place::NONE; BLOCK_ROWS],
        })
    }

    fn places(&self) -> &[Place] {
        &self.places[..self.len]
    }

    /// It is not full.
    fn insert(&mut self, at: usize, first: u64, place: Place) {
        self.firsts.copy_within(at..self.len, at + 1);
        self.places.copy_within(at..self.len, at + 1);
        self.firsts[at] = first;
        self.places[at] = place;
        self.len += 1;
    }

    /// Gives up the second half; it is full.
    fn split(&mut self) -> Box<Block> {
        const HALF: usize = BLOCK_ROWS / 2;
        let mut second = Block::with_room();
        second.len = BLOCK_ROWS - HALF;
        second.firsts[..second.len].copy_from_slice(&self.firsts[HALF..]);
        second.places[..second.len].copy_from_slice(&self.places[HALF..]);
        self.len = HALF;
        self.firsts[HALF..].fill(u64::MAX);
        second
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

/// How many of some keys in order are below `key`, of which `low` begin below it and `firsts` are
/// their beginnings; `at` gives one whole.
fn below<'a>(
    (first, key): (u64, &[u8]),
    mut low: usize,
    firsts: &[u64],
    at: impl Fn(usize) -> &'a [u8],
) -> usize {
    if firsts.get(low) != Some(&first) {
        return low;
    }
    let mut high = low + firsts[low..].partition_point(|f| *f == first);
    while low < high {
        let middle = low.midpoint(high);
        if at(middle) < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// A row: its key, and its value or None if it was removed.
pub(super) type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    pieces: Vec<Box<[u8]>>,
    #[allow(clippy::vec_box)] // one that comes in between moves a pointer for each behind it
    blocks: Vec<Box<Block>>,
    /// Of each block the first of its firsts.
    firsts: Vec<u64>,
    bytes: u64,
    /// Files hold all of it.
    flushed: AtomicBool,
}

impl Memtable {
    /// Takes in a batch. Each of its rows is shorter than 4 GiB.
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
            let piece = self.pieces.len() as u32;
            self.pieces.push(data[begin..end].into());
            for &(start, middle, end) in some {
                self.put(Place {
                    piece,
                    start: (start - begin) as u32,
                    middle: (middle - begin) as u32,
                    end: end.map_or(REMOVED, |end| (end - begin) as u32),
                });
            }
            left = rest;
        }
        self.bytes += data.len() as u64 + spans.len() as u64 * ROW_BYTES;
    }

    fn put(&mut self, place: Place) {
        let key = self.key(place);
        let number = first(key);
        let (block, at, found) = self.find(key);
        let Some(into) = self.blocks.get_mut(block) else {
            let mut only = Block::with_room();
            only.insert(0, number, place);
            self.firsts.push(number);
            self.blocks.push(only);
            return;
        };
        if found {
            into.places[at] = place;
            return;
        }
        into.insert(at, number, place);
        self.firsts[block] = into.firsts[0];
        if into.len == BLOCK_ROWS {
            let second = into.split();
            self.firsts.insert(block + 1, second.firsts[0]);
            self.blocks.insert(block + 1, second);
        }
    }

    fn key(&self, place: Place) -> &[u8] {
        &self.pieces[place.piece as usize][place.start as usize..place.middle as usize]
    }

    fn row(&self, place: Place) -> Row<'_> {
        let piece = &self.pieces[place.piece as usize];
        let value = (place.end != REMOVED).then_some(place.middle as usize..place.end as usize);
        (self.key(place), value.map(|value| &piece[value]))
    }

    /// In which block a key is, or belongs; where in it; and whether it is there.
    fn find(&self, key: &[u8]) -> (usize, usize, bool) {
        let wanted = (first(key), key);
        let whole = |block: usize| self.key(self.blocks[block].places[0]);
        let low = self.firsts.partition_point(|f| *f < wanted.0);
        let not_below = below(wanted, low, &self.firsts, whole);
        // It may be the first of that one; else it is in the one before.
        let is_first = self.firsts.get(not_below) == Some(&wanted.0) && whole(not_below) == key;
        if is_first || self.blocks.is_empty() {
            return (not_below, 0, is_first);
        }
        let number = not_below.saturating_sub(1);
        let block = &*self.blocks[number];
        let whole = |at: usize| self.key(block.places[at]);
        // All of them are compared: so the processor fetches their lines at once.
        let low = block.firsts.iter().filter(|f| **f < wanted.0).count();
        let at = below(wanted, low, &block.firsts[..block.len], whole);
        let found = at < block.len && block.firsts[at] == wanted.0 && whole(at) == key;
        (number, at, found)
    }

    /// What is known here of a row: Some(None) if it was removed, None if nothing is.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let (block, at, found) = self.find(key);
        found.then(|| self.row(self.blocks[block].places[at]).1)
    }

    /// The rows from `from` up to, not including, `to`, in order.
    fn range<'a>(&'a self, from: &[u8], to: &'a [u8]) -> impl Iterator<Item = Row<'a>> {
        let (block, at, _) = self.find(from);
        let blocks = self.blocks.get(block..).unwrap_or(&[]);
        let places = blocks.iter().flat_map(|block| block.places()).skip(at);
        let rows = places.map(|place| self.row(*place));
        rows.take_while(move |row| row.0 < to)
    }

    /// How much was written to it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(SeqCst)
    }

    pub(super) fn set_flushed(&self) {
        self.flushed.store(true, SeqCst);
    }
}

/// The rows of several memtables from `from` up to, not including, `to`, which is greater: in
/// order, and of each key the row of the newest memtable, which comes first in `memtables`.
pub(super) fn newest<'a>(
    memtables: impl Iterator<Item = &'a Memtable>,
    from: &'a [u8],
    to: &'a [u8],
) -> impl Iterator<Item = Row<'a>> {
    let mut sources: Vec<Peekable<_>> = memtables.map(|m| m.range(from, to).peekable()).collect();
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
    use std::collections::BTreeMap;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        // Short ones, zeros, and neighbours that share their first eight bytes.
        let byte = || prop_oneof![Just(0u8), Just(1), Just(255)];
        let one_first = (byte(), proptest::collection::vec(byte(), 0..5));
        prop_oneof![
            proptest::collection::vec(byte(), 0..11),
            one_first.prop_map(|(byte, rest)| [vec![byte; 8], rest].concat()),
        ]
    }

    fn check(memtable: &Memtable) {
        let firsts = memtable.blocks.iter().map(|block| block.firsts[0]);
        assert!(firsts.eq(memtable.firsts.iter().copied()));
        for block in &memtable.blocks {
            assert!(block.len < BLOCK_ROWS);
            let keys = block.places().iter().map(|place| memtable.key(*place));
            let firsts = keys.map(first).chain([u64::MAX; BLOCK_ROWS]);
            assert!(firsts.take(BLOCK_ROWS).eq(block.firsts));
        }
    }

    #[test]
    fn blocks_are_halved_when_they_are_full() {
        let mut memtable = Memtable::default();
        for seed in 0..100u64 {
            let mut batch = RowBatch::new();
            for n in 0..100u64 {
                let number = (seed * 100 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                batch.put(&number.to_be_bytes(), &seed.to_le_bytes());
            }
            memtable.insert(&batch);
        }
        check(&memtable);
        let blocks = 10_000 / BLOCK_ROWS..10_000 / (BLOCK_ROWS / 2) + 1;
        assert!(blocks.contains(&memtable.blocks.len()));
        let rows: Vec<_> = memtable.range(&[0], &[255; 9]).map(|row| row.0).collect();
        assert!(rows.len() == 10_000 && rows.is_sorted());
    }

    proptest! {
        #[test]
        fn memtables_read_as_one_ordered_map(
            batches in proptest::collection::vec(
                proptest::collection::vec((key(), proptest::option::of(0u16..2000)), 0..120),
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
                check(&memtable);
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
