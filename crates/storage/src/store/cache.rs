//! Small keys as they are read, within a budget of bytes, so that a look-up of a hot key is a
//! look-up in a hash table. It holds what the rows hold: applying a batch updates it. Small hashes
//! come in when they are made, strings when they are read, and when they are written while there
//! is room; then their headers do, which the next write needs. Of a hash too large to be held
//! whole each field is held as a string is: a write needs to know whether it is there.
//!
//! What is held of a field (its cell) is what its row holds, or nothing, whatever else is known of
//! the key: whoever changes or removes a field's row tells it. So a cell may well be dead, of a
//! deletion of its hash; who reads it compares its stamp, as with a row.
//!
//! Clients choose the keys, so they are hashed with a key drawn at the start of the process;
//! what is cached has no influence on any result.

mod buckets;
mod table;

use bytes::{BufMut, Bytes, BytesMut};
use model::{Stamp, few::FewMap, mutation::Header};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    cmp::Ordering,
};
use table::{Of, Table};

pub use table::WARM_KEYS_MAX;

/// Fields of a hash that is cached whole, at most.
pub(super) const HASH_FIELDS_MAX: u64 = 128;
/// Bytes of a hash that is cached whole, at most.
pub(super) const HASH_BYTES_MAX: usize = 16 << 10;
/// Bytes of a string that is cached, at most.
const STRING_BYTES_MAX: usize = 64 << 10;

/// Rounds of eviction in one [`Cache::trim`].
const TRIMS: usize = 16;
/// Bytes of a string that is always held with its header.
const SMALL_BYTES: usize = 64;
/// Bytes that are copied out of it rather than shared, at most.
const COPIED_BYTES: usize = 1024;

/// How much memory a shard's cache may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBudget {
    /// Keys, values and what holding them costs.
    pub bytes: u64,
}

/// How a cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Look-ups that found their key.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Keys held.
    pub keys: u64,
    /// Fields of large hashes held.
    pub fields: u64,
    /// Bytes held.
    pub bytes: u64,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(super) enum Cached {
    /// Its header; the value or the fields are not held.
    Header(Header),
    /// The same, of a value or of fields too large to be held.
    Large(Header),
    String(Header, Bytes),
    Hash(Header, Fields),
}

/// The live fields of a small hash, in order, in one allocation:
///
/// ```text
/// count u16   count × (end of the field u16, end of its value u16)   fields and values
/// ```
/// Ends count from the first field on; numbers are little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields(Bytes);

impl Fields {
    /// From fields in order; None if they are too many or too large.
    pub(super) fn new<'a>(
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    ) -> Option<Self> {
        packed(&[], fields).map(|bytes| Fields(bytes.freeze()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        FieldSlice(&self.0).iter()
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<Bytes> {
        let value = FieldSlice(&self.0).get(field)?;
        Some(taken(&self.0, value))
    }
}

/// What [`Fields`] are, behind `head` in the same allocation.
fn packed<'a>(
    head: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Option<BytesMut> {
    let (mut count, mut len) = (0, 0);
    for (field, value) in fields.clone() {
        count += 1;
        len += field.len() + value.len();
        if count > HASH_FIELDS_MAX || len > HASH_BYTES_MAX {
            return None;
        }
    }
    let mut bytes = BytesMut::with_capacity(head.len() + 2 + 4 * count as usize + len);
    bytes.put_slice(head);
    bytes.put_u16_le(count as u16);
    let mut end = 0;
    for (field, value) in fields.clone() {
        end += field.len();
        bytes.put_u16_le(end as u16);
        end += value.len();
        bytes.put_u16_le(end as u16);
    }
    for (field, value) in fields {
        bytes.put_slice(field);
        bytes.put_slice(value);
    }
    Some(bytes)
}

/// [`Fields`] where they stand.
#[derive(Clone, Copy)]
struct FieldSlice<'a>(&'a [u8]);

impl<'a> FieldSlice<'a> {
    const NONE: FieldSlice<'static> = FieldSlice(&[0, 0]);

    fn number(self, at: usize) -> usize {
        let two = self
            .0
            .get(2 * at..2 * at + 2)
            .and_then(|two| two.try_into().ok());
        two.map_or(0, u16::from_le_bytes).into()
    }

    fn len(self) -> usize {
        self.number(0)
    }

    /// The field and the value of a place below `len`.
    fn at(self, place: usize) -> (&'a [u8], &'a [u8]) {
        let data = &self.0[2 + 4 * self.len()..];
        let start = match place {
            0 => 0,
            _ => self.number(2 * place),
        };
        let (middle, end) = (self.number(2 * place + 1), self.number(2 * place + 2));
        (&data[start..middle], &data[middle..end])
    }

    fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        (0..self.len()).map(move |place| self.at(place))
    }

    fn get(self, field: &[u8]) -> Option<&'a [u8]> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (found, value) = self.at(middle);
            match found.cmp(field) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(value),
            }
        }
        None
    }

    /// The same with these changes, which are in order, one a field; None removes.
    fn changed(
        self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Vec<(&'a [u8], &'a [u8])> {
        let mut old = self.iter().peekable();
        let mut merged = Vec::with_capacity(self.len() + 4);
        for (field, value) in changes {
            while let Some(kept) = old.next_if(|(f, _)| *f < field) {
                merged.push(kept);
            }
            old.next_if(|(f, _)| *f == field);
            merged.extend(value.map(|v| (field, v)));
        }
        merged.extend(old);
        merged
    }
}

/// What a batch made of a hash.
pub(super) struct HashChange<'a> {
    /// Its header, if that was written.
    pub(super) header: Option<Header>,
    /// Whether all of its fields are in `fields`.
    pub(super) whole: bool,
    /// Fields put, with their stamps, and fields removed.
    pub(super) fields: &'a FewMap<Option<(Stamp, Bytes)>>,
}

/// A part of what is cached. A short one is copied: to share it is to touch a counter, which
/// lies far away.
fn taken(of: &Bytes, part: &[u8]) -> Bytes {
    match part.len() {
        ..=COPIED_BYTES => Bytes::copy_from_slice(part),
        _ => of.slice_ref(part),
    }
}

/// The cache of one shard.
pub(super) struct Cache {
    // Reads fill it. Nothing calls back while it is borrowed.
    table: RefCell<Table>,
    budget: Cell<CacheBudget>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl Cache {
    pub(super) fn new(budget: CacheBudget) -> Self {
        Cache {
            table: RefCell::new(Table::new()),
            budget: Cell::new(budget),
            hits: Cell::new(0),
            misses: Cell::new(0),
        }
    }

    /// What is held beyond a lower one goes bit by bit: with what comes in, and by `trim`.
    pub(super) fn set_budget(&self, budget: CacheBudget) {
        self.budget.set(budget);
    }

    /// Gives up some of what is held beyond the budget.
    pub(super) fn trim(&self) {
        let mut table = self.table.borrow_mut();
        for _ in 0..TRIMS {
            table.evict(self.budget.get().bytes);
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Cached> {
        self.counted(self.table.borrow().get(key))
    }

    pub(super) fn header(&self, key: &[u8]) -> Option<Header> {
        self.counted(self.table.borrow().header(key))
    }

    fn counted<T>(&self, found: Option<T>) -> Option<T> {
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.set(count.get() + 1);
        found
    }

    /// Of a hash that is held with its fields: the header, and the field's value if it has that.
    /// Not counted: who asks has asked for the header.
    pub(super) fn field(&self, key: &[u8], field: &[u8]) -> Option<(Header, Option<Bytes>)> {
        self.table.borrow().field(key, field, taken)
    }

    /// The same of whether it has the field, which copies nothing.
    pub(super) fn has_field(&self, key: &[u8], field: &[u8]) -> Option<(Header, bool)> {
        let found = self.table.borrow().field(key, field, |_, _| ());
        found.map(|(header, found)| (header, found.is_some()))
    }

    /// Tells which keys or rows are about to be looked up, [`WARM_KEYS_MAX`] at most.
    pub(super) fn warm(&self, names: &[&[u8]]) {
        self.table.borrow().warm(names);
    }

    /// Whether a string of so many bytes comes in when it is written: what costs little beside its
    /// key and header, and as long as nothing must go for it, more. Otherwise its header does.
    pub(super) fn takes_written(&self, bytes: usize) -> bool {
        let has_room = || self.table.borrow().has_room(self.budget.get().bytes);
        bytes <= SMALL_BYTES || bytes <= COPIED_BYTES && has_room()
    }

    /// Whether a string or the fields of a hash are held; not counted as a use.
    pub(super) fn holds_value(&self, key: &[u8]) -> bool {
        self.table.borrow().holds_value(Of::Key(key))
    }

    /// The same of the value of the field in a row.
    pub(super) fn holds_cell(&self, row: &[u8]) -> bool {
        self.table.borrow().holds_value(Of::Cell(row))
    }

    /// Whether it is known that a key is a hash whose fields are held one by one.
    pub(super) fn holds_large_hash(&self, key: &[u8]) -> bool {
        self.table.borrow().holds_large_hash(key)
    }

    /// Holds what a key has become. Copies the key and a string: they may share a large
    /// buffer.
    pub(super) fn put(&self, key: &[u8], cached: Cached) {
        let cached = match cached {
            Cached::String(header, value) if value.len() > STRING_BYTES_MAX => {
                Cached::Large(header)
            }
            other => other,
        };
        let mut table = self.table.borrow_mut();
        table.put(key, cached, self.budget.get().bytes);
    }

    /// Holds what a hash has become, if what was known of it is enough to tell. Returns whether
    /// its fields are held one by one: their cells come in when they are written.
    pub(super) fn change_hash(&self, key: &[u8], change: HashChange<'_>) -> bool {
        let budget = self.budget.get().bytes;
        self.table.borrow_mut().change_hash(key, change, budget)
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.table.borrow_mut().remove(Of::Key(key));
    }

    /// The stamp of the field in a row, if it is known.
    pub(super) fn cell_stamp(&self, row: &[u8]) -> Option<Stamp> {
        self.counted(self.table.borrow().stamp(row))
    }

    /// Its value, too.
    pub(super) fn cell(&self, row: &[u8]) -> Option<(Stamp, Bytes)> {
        self.counted(self.table.borrow().cell(row))
    }

    /// Whether anything is held of any field: if not, none need be told of.
    pub(super) fn holds_cells(&self) -> bool {
        self.table.borrow().cells() > 0
    }

    /// Holds a field that was read.
    pub(super) fn put_cell(&self, row: &[u8], stamp: Stamp, value: &[u8]) {
        let mut table = self.table.borrow_mut();
        let budget = self.budget.get().bytes;
        table.put_cell(row, (stamp, value), (true, true), budget);
    }

    /// Brings what is held of a field to what was written; if nothing is, `brings` says whether
    /// it comes in.
    pub(super) fn change_cell(&self, row: &[u8], stamp: Stamp, value: &[u8], brings: bool) {
        let whole = self.takes_written(value.len());
        let mut table = self.table.borrow_mut();
        let budget = self.budget.get().bytes;
        table.put_cell(row, (stamp, value), (brings, whole), budget);
    }

    pub(super) fn remove_cell(&self, row: &[u8]) {
        self.table.borrow_mut().remove(Of::Cell(row));
    }

    /// Empties it. Returns what was in it: millions of allocations, which take long to drop.
    pub(super) fn clear(&self) -> Box<dyn Any + Send> {
        Box::new(self.table.replace(Table::new()))
    }

    pub(super) fn stats(&self) -> CacheStats {
        let table = self.table.borrow();
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            keys: table.keys() as u64,
            fields: table.cells() as u64,
            bytes: table.bytes(),
        }
    }
}
