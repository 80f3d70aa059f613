//! The tip: what is committed, and on top of it the shard's own entries still in flight.
//!
//! Commands that write are evaluated against the tip, so that a hot counter is not limited to
//! one increment a round trip. Only the overlay lives here; a key leaves it once the entry
//! that touched it last is in the store.
//!
//! Clients choose the keys, so they are hashed with a key drawn at the start of the process;
//! what lists them sorts them.
#![allow(clippy::disallowed_types)] // a hash map, for the reason above

use bytes::Bytes;
use commands::{View, ViewError, transaction::Staged};
use model::{
    Entry, EntryKind, Op, Stamp,
    codec::Malformed,
    few::FewMap,
    mutation::{Header, KeyKind, Ops},
};
use std::collections::{HashMap, VecDeque, hash_map};
use storage::store::{Rows, ShardStore};

mod view;

#[cfg(test)]
mod tests;

pub(crate) use view::{Committed, Over, at_tip};

/// A key as the entries in flight leave it.
#[derive(Debug)]
struct PendingKey {
    /// None: there is no row.
    header: Option<Header>,
    /// The value, if it is a string that was written in flight.
    string: Option<Bytes>,
    /// Fields written (Some) or removed (None) in flight.
    fields: FewMap<Option<Bytes>>,
    /// Whether the cells in the store are out of sight.
    hides_store: bool,
    /// The last entry that touched it.
    index: u64,
}

/// The overlay of one shard.
#[derive(Debug, Default)]
pub(crate) struct Tip {
    keys: HashMap<Bytes, PendingKey>,
    /// Which entry touched which key, in order.
    touched: VecDeque<(u64, Bytes)>,
    /// The entry that cleared the shard, if one is in flight: nothing in the store counts.
    cleared: Option<u64>,
}

impl Tip {
    /// Forgets everything, as when what was in flight is lost.
    pub(crate) fn reset(&mut self) {
        *self = Tip::default();
    }

    /// Whether an entry in flight has written or removed this field, and none behind it has
    /// deleted the key.
    pub(crate) fn touches(&self, key: &[u8], field: &[u8]) -> bool {
        let pending = self.keys.get(key);
        pending.is_some_and(|p| p.fields.get(field).is_some())
    }

    /// Takes in an entry that was just appended.
    pub(crate) fn append<R: Rows>(
        &mut self,
        entry: &Entry,
        store: &ShardStore<R>,
    ) -> Result<(), ViewError> {
        if entry.kind != EntryKind::Mutation {
            return Ok(());
        }
        let (ops, index) = (entry.payload(), entry.position.index);
        self.take(ops, entry.stamp, index, &Committed(store))?;
        Ok(())
    }

    /// Takes in ops over what is below; the first is stamped `first`. Returns how many.
    fn take<V: View>(
        &mut self,
        ops: Bytes,
        first: Stamp,
        index: u64,
        below: &V,
    ) -> Result<u64, ViewError> {
        let malformed = |e: Malformed| ViewError::new(format!("own entry {index}: {e}"));
        let mut stamp = first;
        for op in Ops::new(ops) {
            self.op(op.map_err(malformed)?, stamp, index, below)?;
            stamp.0 += 1;
        }
        Ok(stamp.0 - first.0)
    }

    fn op<V: View>(
        &mut self,
        op: Op,
        stamp: Stamp,
        index: u64,
        below: &V,
    ) -> Result<(), ViewError> {
        match op {
            Op::PutString {
                key,
                mut header,
                value,
                ..
            } => {
                let pending = self.touch_blindly(key, index);
                pending.inherit(&mut header);
                pending.header = Some(header);
                pending.string = Some(value);
                pending.fields.clear();
                pending.hides_store = true;
            }
            Op::SetFields {
                key,
                header,
                fields,
                ..
            } => {
                let pending = match header {
                    Some(mut header) => {
                        let pending = self.touch_blindly(key, index);
                        pending.inherit(&mut header);
                        pending.header = Some(header);
                        pending
                    }
                    None => self.touch(key, index, below)?,
                };
                pending.string = None;
                for (field, value) in fields {
                    pending.fields.insert(field, Some(value));
                }
            }
            Op::RemoveFields {
                key,
                header,
                fields,
            } => {
                let pending = match header {
                    Some(header) => {
                        let pending = self.touch_blindly(key, index);
                        pending.header = Some(header);
                        pending
                    }
                    None => self.touch(key, index, below)?,
                };
                for field in fields {
                    pending.fields.insert(field, None);
                }
            }
            Op::SetHeader { key, header } => {
                self.touch_blindly(key, index).header = Some(header);
            }
            Op::Delete { key, tombstone, .. } => {
                let pending = self.touch_blindly(key, index);
                pending.header = tombstone.then_some(Header {
                    deleted: stamp,
                    ..Header::new(KeyKind::Tombstone)
                });
                pending.string = None;
                pending.fields.clear();
                pending.hides_store = true;
            }
            Op::Clear => {
                self.keys.clear();
                self.touched.clear();
                self.cleared = Some(index);
            }
        }
        Ok(())
    }

    /// The overlay of `key`, begun with the header that counts now.
    fn touch<V: View>(
        &mut self,
        key: Bytes,
        index: u64,
        below: &V,
    ) -> Result<&mut PendingKey, ViewError> {
        let header = if self.cleared.is_some() || self.keys.contains_key(&key) {
            None
        } else {
            below.header(&key)?
        };
        Ok(self.begin(key, index, header))
    }

    /// The same for an op that brings the whole header: it was made of the one that counts now,
    /// which need not be looked up again.
    fn touch_blindly(&mut self, key: Bytes, index: u64) -> &mut PendingKey {
        self.begin(key, index, None)
    }

    /// The overlay of `key`; if there is none yet it begins with `header`.
    fn begin(&mut self, key: Bytes, index: u64, header: Option<Header>) -> &mut PendingKey {
        let hides_store = self.cleared.is_some();
        self.touched.push_back((index, key.clone()));
        let pending = self.keys.entry(key).or_insert_with(|| PendingKey {
            header,
            string: None,
            fields: FewMap::default(),
            hides_store,
            index,
        });
        pending.index = index;
        pending
    }

    /// Entries up to this one are in the store: what they touched last is read from there again.
    pub(crate) fn applied(&mut self, upto: u64) {
        if self.cleared.is_some_and(|at| at <= upto) {
            self.cleared = None;
        }
        while let Some((index, _)) = self.touched.front()
            && *index <= upto
            && let Some((_, key)) = self.touched.pop_front()
        {
            if let hash_map::Entry::Occupied(pending) = self.keys.entry(key)
                && pending.get().index <= upto
            {
                pending.remove();
            }
        }
    }
}

impl PendingKey {
    /// A header written over a tombstone keeps what that covers.
    fn inherit(&self, header: &mut Header) {
        if let Some(old) = &self.header {
            header.deleted = header.deleted.max(old.deleted);
        }
    }
}

/// What a transaction has done so far, over a view.
pub(crate) struct Staging<'a, V: View> {
    done: Tip,
    below: &'a V,
    /// Of the next op.
    stamp: Stamp,
}

impl<'a, V: View> Staging<'a, V> {
    /// `first`: the stamp of the first op of the entry that it will become.
    pub(crate) fn new(below: &'a V, first: Stamp) -> Self {
        let (done, stamp) = (Tip::default(), first);
        Staging { done, below, stamp }
    }
}

impl<V: View> Staged for Staging<'_, V> {
    fn with_view(
        &self,
        read: &mut dyn FnMut(&dyn View) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let (tip, below) = (&self.done, self.below);
        read(&Over { tip, below })
    }

    fn stage(&mut self, ops: Bytes) -> Result<(), ViewError> {
        self.stamp.0 += self.done.take(ops, self.stamp, 0, self.below)?;
        Ok(())
    }
}
