//! The rows of a shard that are in no file yet, in order.
//!
//! In go batches of rows; out come the newest of each key, a removal being one. A memtable is
//! written by the owner of the rows alone; once it is set aside nobody changes it, and the
//! thread that flushes and snapshots read it without a lock.
//!
//! ```text
//! firsts of the branches │ 07… │ 3a… │ …
//! branches                  │     └▶ firsts of its blocks, and the place of each one's least key
//! blocks                    └▶ firsts of its rows, and the place of each
//! pieces                       └▶ …keyvaluekeyvalue…     what a batch brought, as it came
//! ```
//! A look-up compares numbers that lie side by side, three times: eight bytes of each key; within a
//! branch or a block those behind the bytes that all its keys share, which is what the keys share
//! that it lies between. So fields of one hash are told apart as quickly as keys are, though their
//! rows begin with the same bytes, but for the few hundred branches. Only where the numbers are
//! equal does it compare keys. (This is prefix truncation between fence keys: G. Graefe, "Modern
//! B-Tree Techniques", 2011, 3.5 and 4.2.) The branches stay near the processor; what a look-up waits for is one block, and the bytes of the
//! row if it is there. (A skip list follows a pointer and compares bytes at each step, which took
//! a quarter of a writing node's time; an ordered map of the standard library is five or six nodes
//! deep, and took a seventh.) What a batch brings is copied once, in few pieces, and lives until
//! all of it was flushed: a memtable is therefore as large as what was written to it, rows that
//! were replaced included.

use super::rows::{RowBatch, Span};
use std::{
    cmp::Ordering::{Equal, Greater, Less},
    hint::black_box,
    iter::Peekable,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// What a row costs besides its bytes, in a block that is half full.
const ROW_BYTES: u64 = 56;

/// Bytes that are copied and kept in one piece, unless one row has more.
const PIECES_BYTES: usize = 256 << 10;
/// The bytes of a batch that is so long are taken as they are: most of it is a large value, and to
/// copy that takes longer than anything else does.
const TAKEN_FROM: usize = 1 << 20;

/// Rows of a block, at most; halved when it is full. More are more to be moved by each that comes
/// in between, fewer make more blocks.
const BLOCK_ROWS: usize = 32;

/// Blocks of a branch, at most; halved likewise.
const BRANCH_BLOCKS: usize = 64;

/// How many rows' blocks are fetched together, and in which pieces memory is.
const WARM_ROWS: usize = 16;
const LINE_BYTES: usize = 64;

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
    /// Of no row; of the key that is below all others, as there is nothing in it.
    const NONE: Place = Place {
        piece: 0,
        start: 0,
        middle: 0,
        end: REMOVED,
    };
}

/// What the batches brought, in the order they came.
#[derive(Debug, Default)]
struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    fn key(&self, place: Place) -> &[u8] {
        &self.0[place.piece as usize][place.start as usize..place.middle as usize]
    }

    fn row(&self, place: Place) -> Row<'_> {
        let piece = &self.0[place.piece as usize];
        let value = (place.end != REMOVED).then_some(place.middle as usize..place.end as usize);
        (self.key(place), value.map(|value| &piece[value]))
    }
}

/// Keys in order, fewer than `N`. In one allocation: a look-up waits for it once.
#[derive(Debug)]
struct Keys<const N: usize> {
    /// How many.
    len: usize,
    /// Bytes that every key begins with that belongs here.
    shared: usize,
    /// The first eight bytes of each key behind those; behind the last key the greatest number.
    firsts: [u64; N],
    places: [Place; N],
}

impl<const N: usize> Keys<N> {
    const HALF: usize = N / 2;

    fn none() -> Self {
        Keys {
            len: 0,
            shared: 0,
            firsts: [u64::MAX; N],
            places: [Place::NONE; N],
        }
    }

    fn places(&self) -> &[Place] {
        &self.places[..self.len]
    }

    /// How many are below a key that belongs here, and whether the next is equal to it.
    fn find(&self, pieces: &Pieces, key: &[u8]) -> (usize, bool) {
        let number = first(key, self.shared);
        // All of them are compared: so the processor fetches their lines at once.
        let low = self.firsts.iter().filter(|f| **f < number).count();
        below((number, key), low, &self.firsts[..self.len], |at| {
            pieces.key(self.places[at])
        })
    }

    /// There is room for it.
    fn insert(&mut self, at: usize, first: u64, place: Place) {
        self.firsts.copy_within(at..self.len, at + 1);
        self.places.copy_within(at..self.len, at + 1);
        self.firsts[at] = first;
        self.places[at] = place;
        self.len += 1;
    }

    /// Gives up the second half, once there are `N`. Now each of the halves lies between closer
    /// keys than all of it, which lay between `fences`.
    fn split(&mut self, pieces: &Pieces, (low, high): (Option<&[u8]>, Option<&[u8]>)) -> Self {
        let mut second = Keys::none();
        second.len = N - Self::HALF;
        second.shared = self.shared;
        second.firsts[..second.len].copy_from_slice(&self.firsts[Self::HALF..]);
        second.places[..second.len].copy_from_slice(&self.places[Self::HALF..]);
        self.len = Self::HALF;
        self.firsts[Self::HALF..].fill(u64::MAX);
        let between = Some(pieces.key(second.places[0]));
        self.share(pieces, shared(low, between));
        second.share(pieces, shared(between, high));
        second
    }

    fn share(&mut self, pieces: &Pieces, shared: usize) {
        if self.shared != shared {
            self.shared = shared;
            for (number, place) in self.firsts.iter_mut().zip(&self.places[..self.len]) {
                *number = first(pieces.key(*place), shared);
            }
        }
    }
}

/// Rows; never empty.
type Block = Keys<BLOCK_ROWS>;

/// Some blocks that follow each other; never empty.
#[derive(Debug)]
struct Branch {
    /// What belongs into a block is not below its key here. The first of all has the key that is
    /// below all others.
    keys: Keys<BRANCH_BLOCKS>,
    #[allow(clippy::vec_box)] // one that comes in between moves a pointer for each behind it
    blocks: Vec<Box<Block>>,
}

/// How many bytes all keys begin with that lie between two; without these, none.
fn shared(low: Option<&[u8]>, high: Option<&[u8]>) -> usize {
    let (low, high) = (low.unwrap_or_default(), high.unwrap_or_default());
    low.iter().zip(high).take_while(|(a, b)| a == b).count()
}

/// The eight bytes behind the `shared` first ones, as a number that orders as they do. Shorter keys
/// are filled up with zeros: where the numbers are equal the bytes decide.
fn first(key: &[u8], shared: usize) -> u64 {
    let bytes = key.get(shared..).unwrap_or_default();
    match bytes.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(first)
        }
    }
}

/// How many of some keys in order are below `key`, and whether the next is equal to it. `low` of
/// them begin below it, `firsts` are their beginnings, and `at` gives one whole.
fn below<'a>(
    (first, key): (u64, &[u8]),
    mut low: usize,
    firsts: &[u64],
    at: impl Fn(usize) -> &'a [u8],
) -> (usize, bool) {
    if firsts.get(low) != Some(&first) {
        return (low, false);
    }
    let mut high = low + firsts[low..].partition_point(|f| *f == first);
    while low < high {
        let middle = low.midpoint(high);
        match at(middle).cmp(key) {
            Less => low = middle + 1,
            Equal => return (middle, true),
            Greater => high = middle,
        }
    }
    (low, false)
}

/// What a block, given by its branch and its number in that, begins with at the least. None behind
/// the last.
fn fence<'a>(
    pieces: &'a Pieces,
    branches: &[Box<Branch>],
    (branch, block): (usize, usize),
) -> Option<&'a [u8]> {
    let place = match branches.get(branch)?.keys.places().get(block) {
        Some(place) => place,
        None => &branches.get(branch + 1)?.keys.places[0],
    };
    Some(pieces.key(*place))
}

/// Which of some blocks or branches a key is in, or belongs to, by what [`below`] says of their keys.
fn holder((below, is_next): (usize, bool)) -> usize {
    match is_next {
        true => below,
        false => below.saturating_sub(1),
    }
}

/// A row: its key, and its value or None if it was removed.
pub(super) type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    pieces: Pieces,
    #[allow(clippy::vec_box)] // as the blocks of a branch
    branches: Vec<Box<Branch>>,
    /// Of each branch the first of its first block's key.
    firsts: Vec<u64>,
    bytes: u64,
    /// Files hold all of it.
    flushed: AtomicBool,
}

impl Memtable {
    /// Takes in a batch, and leaves it empty. Each of its rows is shorter than 4 GiB.
    pub(super) fn insert(&mut self, batch: &mut RowBatch) {
        let rows = batch.rows().len() as u64;
        self.bytes += batch.bytes() as u64 + rows * ROW_BYTES;
        if (TAKEN_FROM..u32::MAX as usize).contains(&batch.bytes()) {
            let (data, spans) = batch.take();
            self.insert_piece(data, 0, &spans);
            return;
        }
        let (data, spans) = batch.parts();
        let last = |&(_, middle, end): &Span| end.unwrap_or(middle);
        let mut left = spans;
        while let Some(&(begin, ..)) = left.first() {
            let fits = left
                .iter()
                .take_while(|span| last(span) - begin <= PIECES_BYTES);
            let (some, rest) = left.split_at(fits.count().max(1));
            let end = some.last().map_or(begin, last);
            self.insert_piece(data[begin..end].into(), begin, some);
            left = rest;
        }
        batch.clear();
    }

    /// Takes in rows that stand in `data`, whose first byte their spans count as `begin`.
    fn insert_piece(&mut self, data: Vec<u8>, begin: usize, spans: &[Span]) {
        let piece = self.pieces.0.len() as u32;
        self.pieces.0.push(data);
        let place = |&(start, middle, end): &Span| Place {
            piece,
            start: (start - begin) as u32,
            middle: (middle - begin) as u32,
            end: end.map_or(REMOVED, |end| (end - begin) as u32),
        };
        for some in spans.chunks(WARM_ROWS) {
            self.put_some(some.iter().map(place));
        }
    }

    /// Puts [`WARM_ROWS`] at most. It waits for their blocks at once, as none hangs on another.
    fn put_some(&mut self, places: impl Iterator<Item = Place> + Clone) {
        let mut blocks = [(0, 0); WARM_ROWS];
        for (block, place) in blocks.iter_mut().zip(places.clone()) {
            *block = self.block_of(self.pieces.key(place));
        }
        let lines = blocks.iter().filter_map(|at| self.block(*at)).map(|block| {
            let firsts = block.firsts.iter().step_by(LINE_BYTES / size_of::<u64>());
            let places = block.places.iter().step_by(LINE_BYTES / size_of::<Place>());
            let starts = places.map(|place| u64::from(place.start));
            firsts.fold(0, |all, first| all ^ first) ^ starts.fold(0, |all, start| all ^ start)
        });
        black_box(lines.fold(0, |all, line| all ^ line));
        let mut moved = false;
        for (place, at) in places.zip(blocks) {
            let at = match moved {
                true => self.block_of(self.pieces.key(place)),
                false => at,
            };
            moved |= self.put(place, at);
        }
    }

    /// Puts a row into the block where it belongs. Whether other blocks moved.
    fn put(&mut self, place: Place, (branch, number): (usize, usize)) -> bool {
        let key = self.pieces.key(place);
        let of_branch = self.branches.get_mut(branch);
        let Some(block) = of_branch.and_then(|of| of.blocks.get_mut(number)) else {
            self.plant(place);
            return true;
        };
        let (at, found) = block.find(&self.pieces, key);
        if found {
            block.places[at] = place;
            return false;
        }
        block.insert(at, first(key, block.shared), place);
        let is_full = block.len == BLOCK_ROWS;
        if is_full {
            self.split(branch, number);
        }
        is_full
    }

    /// Puts the first row.
    fn plant(&mut self, place: Place) {
        let mut block = Box::new(Block::none());
        block.insert(0, first(self.pieces.key(place), 0), place);
        let mut keys = Keys::none();
        keys.insert(0, 0, Place::NONE);
        let mut blocks = Vec::with_capacity(BRANCH_BLOCKS);
        blocks.push(block);
        self.branches.push(Box::new(Branch { keys, blocks }));
        self.firsts.push(0);
    }

    /// Splits a full block, and its branch if that is full then.
    fn split(&mut self, number: usize, block: usize) {
        let pieces = &self.pieces;
        let fences = |from, to| {
            let fence = |spot| fence(pieces, &self.branches, spot);
            (fence(from), fence(to))
        };
        let of_block = fences((number, block), (number, block + 1));
        let of_branch = fences((number, 0), (number + 1, 0));

        let Branch { keys, blocks } = &mut *self.branches[number];
        let second = blocks[block].split(pieces, of_block);
        let least = second.places[0];
        keys.insert(block + 1, first(pieces.key(least), keys.shared), least);
        blocks.insert(block + 1, Box::new(second));
        if keys.len < BRANCH_BLOCKS {
            return;
        }
        let second = keys.split(pieces, of_branch);
        let mut of_second = Vec::with_capacity(BRANCH_BLOCKS);
        of_second.extend(blocks.drain(keys.len..));
        let least = pieces.key(second.places[0]);
        self.firsts.insert(number + 1, first(least, 0));
        let second = Branch {
            keys: second,
            blocks: of_second,
        };
        self.branches.insert(number + 1, Box::new(second));
    }

    /// In which block a key is, or belongs: its branch, and its number in that.
    fn block_of(&self, key: &[u8]) -> (usize, usize) {
        let number = first(key, 0);
        let low = self.firsts.partition_point(|f| *f < number);
        let least = |branch: usize| self.pieces.key(self.branches[branch].keys.places[0]);
        let branch = holder(below((number, key), low, &self.firsts, least));
        let of_branch = self.branches.get(branch);
        let block = of_branch.map(|of| holder(of.keys.find(&self.pieces, key)));
        (branch, block.unwrap_or_default())
    }

    fn block(&self, (branch, number): (usize, usize)) -> Option<&Block> {
        Some(self.branches.get(branch)?.blocks.get(number)?)
    }

    /// What is known here of a row: Some(None) if it was removed, None if nothing is.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let block = self.block(self.block_of(key))?;
        let (at, found) = block.find(&self.pieces, key);
        found.then(|| self.pieces.row(block.places[at]).1)
    }

    /// The rows from `from` up to, not including, `to`, in order.
    fn range<'a>(&'a self, from: &[u8], to: &'a [u8]) -> impl Iterator<Item = Row<'a>> {
        let (branch, number) = self.block_of(from);
        let block = self.block((branch, number));
        let before = block.map_or(0, |block| block.find(&self.pieces, from).0);
        let branches = self.branches.get(branch..).unwrap_or_default();
        let blocks = branches.iter().flat_map(|branch| &branch.blocks);
        let places = blocks.skip(number).flat_map(|block| block.places());
        let rows = places.skip(before).map(|place| self.pieces.row(*place));
        rows.take_while(move |row| row.0 < to)
    }

    /// How much was written to it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.branches.is_empty()
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
        let pieces = &memtable.pieces;
        let firsts = memtable.branches.iter().map(|branch| branch.keys.places[0]);
        let firsts = firsts.map(|place| first(pieces.key(place), 0));
        assert!(firsts.eq(memtable.firsts.iter().copied()));
        for (number, branch) in memtable.branches.iter().enumerate() {
            let fences = |from, to| {
                let fence = |spot| fence(pieces, &memtable.branches, spot);
                (fence(from), fence(to))
            };
            assert_eq!(branch.keys.len, branch.blocks.len());
            check_keys(pieces, &branch.keys, fences((number, 0), (number + 1, 0)));
            for (at, block) in branch.blocks.iter().enumerate() {
                check_keys(pieces, block, fences((number, at), (number, at + 1)));
            }
        }
    }

    fn check_keys<const N: usize>(
        pieces: &Pieces,
        keys: &Keys<N>,
        fences: (Option<&[u8]>, Option<&[u8]>),
    ) {
        assert!(keys.len > 0 && keys.len < N);
        assert_eq!(keys.shared, shared(fences.0, fences.1));
        let all = || keys.places().iter().map(|place| pieces.key(*place));
        assert!(all().is_sorted_by(|a, b| a < b));
        assert!(fences.0.is_none_or(|low| all().all(|key| low <= key)));
        assert!(fences.1.is_none_or(|high| all().all(|key| key < high)));
        let firsts = all().map(|key| first(key, keys.shared));
        assert!(firsts.chain([u64::MAX; N]).take(N).eq(keys.firsts));
    }

    /// The first bytes of a key, and as many numbers as rows.
    fn insert(prefix: &[u8], numbers: impl Iterator<Item = u64>) -> Memtable {
        let mut memtable = Memtable::default();
        let numbers: Vec<u64> = numbers.collect();
        for some in numbers.chunks(100) {
            let mut batch = RowBatch::new();
            for number in some {
                batch.put(&[prefix, &number.to_be_bytes()].concat(), b"value");
            }
            memtable.insert(&mut batch);
        }
        memtable
    }

    #[test]
    fn blocks_and_branches_are_halved_when_they_are_full() {
        const ROWS: usize = 20_000;
        let scattered = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for prefix in [&b""[..], b"k, a slot, a hash and a long key"] {
            let memtable = insert(prefix, (0..ROWS as u64).map(scattered));
            check(&memtable);
            let blocks = memtable.branches.iter().map(|branch| branch.blocks.len());
            let expected = ROWS / BLOCK_ROWS..ROWS / (BLOCK_ROWS / 2) + 1;
            assert!(expected.contains(&blocks.sum()));
            assert!(memtable.branches.len() >= ROWS / BLOCK_ROWS / BRANCH_BLOCKS);
            let end = [prefix, &[255; 9]].concat();
            let rows: Vec<_> = memtable.range(&[0], &end).map(|row| row.0).collect();
            assert!(rows.len() == ROWS && rows.is_sorted());
            for (n, key) in rows.iter().enumerate().step_by(7) {
                assert_eq!(memtable.get(key), Some(Some(&b"value"[..])));
                let between = [key, &[0][..]].concat();
                assert_eq!(memtable.get(&between), None);
                let next = |from| memtable.range(from, &end).next().map(|row| row.0);
                assert_eq!(next(key), Some(*key));
                assert_eq!(next(&between), rows.get(n + 1).copied());
            }
        }
    }

    #[test]
    fn rows_are_replaced_and_removed_in_any_branch() {
        let mut memtable = insert(b"k", 0..5_000);
        let key = |number: u64| [&b"k"[..], &number.to_be_bytes()].concat();
        let mut batch = RowBatch::new();
        for number in (0..5_000).step_by(3) {
            batch.put(&key(number), b"new");
            batch.remove(&key(number + 1));
        }
        memtable.insert(&mut batch);
        check(&memtable);
        assert!(memtable.branches.len() > 2);
        for number in 0..5_000 {
            let expected = [Some(&b"new"[..]), None, Some(b"value")][number as usize % 3];
            assert_eq!(memtable.get(&key(number)), Some(expected));
        }
    }

    #[test]
    fn fields_of_one_hash_are_told_apart_by_numbers() {
        let memtable = insert(b"k, a slot, a hash and a long key", 0..20_000);
        let inner = &memtable.branches[1..memtable.branches.len() - 1];
        assert!(inner.len() > 5);
        for keys in inner.iter().flat_map(|branch| &branch.blocks) {
            assert!(keys.shared > 30);
            assert!(keys.firsts[..keys.len].is_sorted_by(|a, b| a < b));
        }
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
                memtable.insert(&mut batch);
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
