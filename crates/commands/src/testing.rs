//! A shard in memory, for tests: a [`View`] that mutations are applied to, in the way of a
//! sequenced topology, dead cells and tombstones included. It checks what it is given.

use crate::{
    rdb::crc64,
    view::{FIELD_CURSORS, Limit, Passed, View, ViewError},
    work::ROW,
};
use bytes::Bytes;
use model::{
    Op, Stamp,
    codec::Malformed,
    cursor,
    mutation::{Header, KeyKind, Ops},
    slot,
};
use std::{collections::BTreeMap, ops::Bound};

/// The rows of one shard.
#[derive(Clone, Debug, Default)]
pub struct MemoryView {
    headers: BTreeMap<Bytes, Header>,
    strings: BTreeMap<Bytes, Bytes>,
    /// Cells of hashes, those that a tombstone covers included.
    cells: BTreeMap<(Bytes, Bytes), (Stamp, Bytes)>,
    /// Keys by slot, the order of a scan.
    slots: BTreeMap<(u16, Bytes), ()>,
    /// Kept by the ops alone, as a store would.
    keys: u64,
}

impl MemoryView {
    /// An empty shard.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a mutation's ops, stamped `stamp` and following.
    pub fn apply(&mut self, mutation: &[u8], stamp: Stamp) -> Result<(), Malformed> {
        // What this mutation has deleted with a tombstone.
        let mut buried = BTreeMap::new();
        for (n, op) in (0..).zip(Ops::new(Bytes::copy_from_slice(mutation))) {
            self.apply_op(op?, Stamp(stamp.0 + n), &mut buried);
        }
        Ok(())
    }

    fn apply_op(&mut self, op: Op, stamp: Stamp, buried: &mut BTreeMap<Bytes, Stamp>) {
        match op {
            Op::PutString {
                key,
                created,
                header,
                value,
            } => {
                self.create(&key, created);
                self.put_header(&key, header, buried);
                self.strings.insert(key, value);
            }
            Op::SetFields {
                key,
                created,
                header,
                fields,
            } => {
                self.create(&key, created);
                assert!(header.is_some() || !created, "a created key needs a header");
                if let Some(header) = header {
                    self.put_header(&key, header, buried);
                }
                for (field, value) in fields {
                    self.cells.insert((key.clone(), field), (stamp, value));
                }
            }
            Op::RemoveFields {
                key,
                header,
                fields,
            } => {
                if let Some(header) = header {
                    self.put_header(&key, header, buried);
                }
                for field in fields {
                    self.cells.remove(&(key.clone(), field));
                }
            }
            Op::SetHeader { key, header } => self.put_header(&key, header, buried),
            Op::Delete {
                key,
                cells,
                tombstone,
            } => self.delete(key, cells, tombstone.then_some(stamp), buried),
            Op::Clear => *self = Self::new(),
        }
    }

    fn create(&mut self, key: &Bytes, created: bool) {
        assert_eq!(created, !self.holds(key), "created flag of {key:?}");
        self.keys += u64::from(created);
        self.slots.insert((slot::of(key), key.clone()), ());
    }

    fn holds(&self, key: &[u8]) -> bool {
        let header = self.headers.get(key);
        header.is_some_and(|header| header.kind != KeyKind::Tombstone)
    }

    fn put_header(&mut self, key: &Bytes, mut header: Header, buried: &BTreeMap<Bytes, Stamp>) {
        if let Some(stored) = self.headers.get(key)
            && !buried.contains_key(key)
        {
            let (new, old) = (header.deleted, stored.deleted);
            assert!(new >= old, "the header of {key:?} forgets its dead cells");
        }
        let past = buried.get(key).copied().unwrap_or_default();
        header.deleted = header.deleted.max(past);
        self.headers.insert(key.clone(), header);
    }

    fn delete(
        &mut self,
        key: Bytes,
        cells: u64,
        tombstone: Option<Stamp>,
        buried: &mut BTreeMap<Bytes, Stamp>,
    ) {
        assert!(self.holds(&key), "{key:?} is deleted twice");
        assert_eq!(self.headers[&key].fields, cells, "cells of {key:?}");
        self.keys -= 1;
        self.strings.remove(&key);
        self.slots.remove(&(slot::of(&key), key.clone()));
        if let Some(deleted) = tombstone {
            let mut header = Header::new(KeyKind::Tombstone);
            header.deleted = deleted;
            buried.insert(key.clone(), deleted);
            self.headers.insert(key, header);
        } else {
            self.cells.retain(|(of, _), _| *of != key);
            self.headers.remove(&key);
        }
    }

    /// Panics if the headers and the rows don't agree.
    pub fn check(&self) {
        let mut keys = 0;
        for (key, header) in &self.headers {
            let mut live = 0;
            if header.kind == KeyKind::Hash {
                live = self.live_cells(key, header).count() as u64;
                assert!(live > 0, "{key:?} is an empty hash");
            }
            assert_eq!(header.fields, live, "fields of {key:?}");
            let is_string = header.kind == KeyKind::String;
            assert_eq!(is_string, self.strings.contains_key(key), "{key:?}");
            keys += u64::from(header.kind != KeyKind::Tombstone);
        }
        assert_eq!(self.keys, keys, "the count of keys");
        assert_eq!(self.slots.len() as u64, keys);
        assert!(self.strings.len() as u64 <= keys);
        for ((key, field), (stamp, _)) in &self.cells {
            let header = self.headers.get(key);
            assert!(
                header.is_some_and(|h| h.kind == KeyKind::Hash || *stamp <= h.deleted),
                "the cell {field:?} of {key:?} has no owner"
            );
        }
    }

    fn live_cells<'a>(
        &'a self,
        key: &[u8],
        header: &Header,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> + use<'a> {
        let key = Bytes::copy_from_slice(key);
        let deleted = header.deleted;
        self.cells
            .range((key.clone(), Bytes::new())..)
            .take_while(move |((of, _), _)| *of == key)
            .filter(move |(_, (stamp, _))| *stamp > deleted)
            .map(|((_, field), (_, value))| (field, value))
    }
}

/// Where a scan of a hash meets a field.
fn field_cursor(field: &[u8]) -> u64 {
    crc64::of(field) % FIELD_CURSORS
}

impl View for MemoryView {
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError> {
        Ok(self.headers.get(key).copied())
    }

    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
        let value = self.strings.get(key).cloned().unwrap_or_default();
        Ok(self.headers.get(key).map(|header| (*header, value)))
    }

    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError> {
        let row = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(field));
        let live = self
            .cells
            .get(&row)
            .filter(|(stamp, _)| *stamp > header.deleted);
        Ok(live.map(|(_, value)| value.clone()))
    }

    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError> {
        let mut cells: Vec<_> = self.live_cells(key, header).collect();
        // All of them come in order of their names, for tests that compare replies.
        if limit.count < usize::MAX {
            cells.sort_by_key(|(field, _)| field_cursor(field));
        }
        let (mut count, mut work, mut last) = (0, 0, None);
        for (field, value) in cells {
            let at = field_cursor(field);
            if at < cursor {
                continue;
            }
            if last.is_some_and(|last| last != at) && (count >= limit.count || work > limit.work) {
                return Ok(Passed { next: at, work });
            }
            visit(field, value);
            (count, last) = (count + 1, Some(at));
            work += ROW + (field.len() + value.len()) as u64;
        }
        Ok(Passed { next: 0, work })
    }

    fn scan(
        &self,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError> {
        // A slot is visited whole; the cursor is the next slot.
        let Some(first) = cursor::slot(cursor) else {
            return Ok(Passed { next: 0, work: 0 });
        };
        let from = Bound::Included((first, Bytes::new()));
        let (mut visited, mut last, mut work) = (0, first, 0);
        for (slot, key) in self
            .slots
            .range((from, Bound::Unbounded))
            .map(|(at, ())| at)
        {
            if (visited >= limit.count || work > limit.work) && *slot != last {
                let next = cursor::at_slot(*slot);
                return Ok(Passed { next, work });
            }
            visit(key, &self.headers[key]);
            (visited, last) = (visited + 1, *slot);
            work += ROW + key.len() as u64;
        }
        Ok(Passed { next: 0, work })
    }

    fn key_count(&self) -> Result<(u64, u64), ViewError> {
        Ok((self.keys, 0))
    }
}
