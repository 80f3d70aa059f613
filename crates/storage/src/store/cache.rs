//! Small keys as they are read, within a budget of bytes, so that a look-up of a hot key is a
//! look-up in a hash table. It holds what the rows hold: applying a batch updates it, and adds
//! to it nothing but new hashes. Strings come in when they are read, their headers alone when
//! they are looked up before they are written, and neither while the rows have them at hand.
//!
//! Clients choose the keys, so they are hashed with a key drawn at the start of the process;
//! what is cached has no influence on any result.

use bytes::{BufMut, Bytes, BytesMut};
use model::mutation::Header;
use quick_cache::{Weighter, unsync};
use std::{
    cell::{Cell, RefCell},
    hash::RandomState,
    sync::Arc,
};

/// Fields of a hash that is cached whole, at most.
pub(super) const HASH_FIELDS_MAX: u64 = 128;
/// Bytes of a hash that is cached whole, at most.
pub(super) const HASH_BYTES_MAX: usize = 16 << 10;
/// Bytes of a string that is cached, at most.
const STRING_BYTES_MAX: usize = 64 << 10;
/// What an entry costs besides key and value: tables, pointers, allocations.
const ENTRY_BYTES: usize = 144;

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
    Hash(Header, Arc<Fields>),
}

/// The live fields of a small hash, in order, in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    data: Bytes,
    /// (start of the field, end of it and start of the value, end of that) in `data`
    spans: Vec<(u32, u32, u32)>,
}

impl Fields {
    /// From fields in order; None if they are too many or too large.
    pub(super) fn new<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Self> {
        let mut data = BytesMut::new();
        let mut spans = Vec::new();
        for (field, value) in fields {
            if data.len() + field.len() + value.len() > HASH_BYTES_MAX
                || spans.len() as u64 == HASH_FIELDS_MAX
            {
                return None;
            }
            let start = data.len() as u32;
            data.put_slice(field);
            let middle = data.len() as u32;
            data.put_slice(value);
            spans.push((start, middle, data.len() as u32));
        }
        Some(Fields {
            data: data.freeze(),
            spans,
        })
    }

    fn at(&self, (start, middle, end): (u32, u32, u32)) -> (&[u8], &[u8]) {
        let (start, middle, end) = (start as usize, middle as usize, end as usize);
        (&self.data[start..middle], &self.data[middle..end])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| self.at(*span))
    }

    pub(super) fn get(&self, field: &[u8]) -> Option<Bytes> {
        let at = self
            .spans
            .binary_search_by(|span| self.at(*span).0.cmp(field))
            .ok()?;
        let (_, middle, end) = self.spans[at];
        Some(self.data.slice(middle as usize..end as usize))
    }

    /// The same with these changes, which are in order, one a field; None removes.
    pub(super) fn changed<'a>(
        &'a self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Option<Self> {
        let mut old = self.iter().peekable();
        let mut merged: Vec<(&[u8], &[u8])> = Vec::with_capacity(self.spans.len() + 4);
        for (field, value) in changes {
            while let Some(kept) = old.next_if(|(f, _)| *f < field) {
                merged.push(kept);
            }
            old.next_if(|(f, _)| *f == field);
            merged.extend(value.map(|v| (field, v)));
        }
        merged.extend(old);
        Fields::new(merged.into_iter())
    }
}

#[derive(Clone, Debug)]
struct Bytewise;

impl Weighter<Bytes, Cached> for Bytewise {
    fn weight(&self, key: &Bytes, cached: &Cached) -> u64 {
        let held = match cached {
            Cached::Header(_) | Cached::Large(_) => 0,
            Cached::String(_, value) => value.len(),
            Cached::Hash(_, fields) => fields.data.len() + fields.spans.len() * 12,
        };
        (key.len() + held + ENTRY_BYTES) as u64
    }
}

/// The cache of one shard.
pub(super) struct Cache {
    // Reads fill it. Nothing calls back while it is borrowed.
    entries: RefCell<unsync::Cache<Bytes, Cached, Bytewise, RandomState>>,
    budget: CacheBudget,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl Cache {
    pub(super) fn new(budget: CacheBudget) -> Self {
        Cache {
            entries: RefCell::new(Self::empty(budget)),
            budget,
            hits: Cell::new(0),
            misses: Cell::new(0),
        }
    }

    fn empty(budget: CacheBudget) -> unsync::Cache<Bytes, Cached, Bytewise, RandomState> {
        // Room from the start: growing by rehashing all would stop the shard for a while.
        let likely = usize::try_from(budget.bytes / 256).unwrap_or(usize::MAX);
        unsync::Cache::with(
            likely.max(16),
            budget.bytes,
            Bytewise,
            RandomState::new(),
            Default::default(),
        )
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Cached> {
        let found = self.entries.borrow().get(key).cloned();
        let count = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.set(count.get() + 1);
        found
    }

    /// What is held, without counting it as a use.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Cached> {
        self.entries.borrow().peek(key).cloned()
    }

    /// Replaces what is held of a key by its header.
    pub(super) fn set_header(&self, key: &[u8], header: Header) {
        if let Some(mut held) = self.entries.borrow_mut().peek_mut(key) {
            *held = Cached::Header(header);
        }
    }

    /// Holds what a key has become. Copies the key and a string: they may share a large
    /// buffer.
    pub(super) fn put(&self, key: &[u8], cached: Cached) {
        let cached = match cached {
            Cached::String(header, value) if value.len() > STRING_BYTES_MAX => {
                Cached::Large(header)
            }
            Cached::String(header, value) => Cached::String(header, Bytes::copy_from_slice(&value)),
            other => other,
        };
        let mut entries = self.entries.borrow_mut();
        entries.insert(Bytes::copy_from_slice(key), cached);
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.entries.borrow_mut().remove(key);
    }

    pub(super) fn clear(&self) {
        *self.entries.borrow_mut() = Self::empty(self.budget);
    }

    pub(super) fn stats(&self) -> CacheStats {
        let entries = self.entries.borrow();
        CacheStats {
            hits: self.hits.get(),
            misses: self.misses.get(),
            keys: entries.len() as u64,
            bytes: entries.weight(),
        }
    }
}
