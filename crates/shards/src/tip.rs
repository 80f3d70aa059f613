//! The tip: what is committed, and on top of it the shard's own entries still in flight.
//!
//! Commands that write are evaluated against the tip, so that a hot counter is not limited to
//! one increment a round trip. Only the overlay lives here; a key leaves it once the entry
//! that touched it last is in the store. What becomes of a key is said by [`model::fold`], as it
//! is to the store.
//!
//! Clients choose the keys, so they are hashed with a key drawn at the start of the process;
//! what lists them sorts them.
#![allow(clippy::disallowed_types)] // a hash map, for the reason above

use bytes::Bytes;
use commands::{View, ViewError, transaction::Staged};
use model::{
    Entry, EntryKind, Stamp,
    few::FewMap,
    fold::{Fold, FoldError, Keys, Known},
    mutation::{Header, Ops},
};
use std::{
    collections::{HashMap, VecDeque, hash_map},
    fmt::Display,
};
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

    /// Takes in ops over what is below; the first is stamped `first`. Returns the stamp of the
    /// op that would be next.
    fn take<V: View>(
        &mut self,
        ops: Bytes,
        first: Stamp,
        index: u64,
        below: &V,
    ) -> Result<Stamp, ViewError> {
        let own = |e: &dyn Display| ViewError::new(format!("own entry {index}: {e}"));
        let mut fold = Fold::new(first);
        let mut taking = Taking {
            tip: self,
            index,
            below,
        };
        for op in Ops::new(ops) {
            let taken = fold.op(&mut taking, op.map_err(|e| own(&e))?);
            taken.map_err(|error| match error {
                FoldError::Malformed(e) => own(&e),
                FoldError::TooLong(e) => own(&e),
                FoldError::Keys(e) => e,
            })?;
        }
        Ok(fold.next_stamp())
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

/// An overlay that takes in an entry.
struct Taking<'a, V: View> {
    tip: &'a mut Tip,
    index: u64,
    below: &'a V,
}

impl<V: View> Taking<'_, V> {
    /// The overlay of `key`. An op that brings the whole header was made of the one that counts
    /// now, which need not be looked up again: if the overlay is begun here, it has none yet.
    fn touch(&mut self, key: Bytes) -> &mut PendingKey {
        let Taking { tip, index, .. } = self;
        tip.touched.push_back((*index, key.clone()));
        let hides_store = tip.cleared.is_some();
        let new = || PendingKey::new(None, hides_store);
        let pending = tip.keys.entry(key).or_insert_with(new);
        pending.index = *index;
        pending
    }

    /// The same for an op without a header: the overlay is begun with the one that counts now.
    fn touch_read(&mut self, key: Bytes) -> Result<&mut PendingKey, ViewError> {
        let Taking { tip, index, below } = self;
        let hides_store = tip.cleared.is_some();
        tip.touched.push_back((*index, key.clone()));
        let pending = match tip.keys.entry(key) {
            hash_map::Entry::Occupied(pending) => pending.into_mut(),
            hash_map::Entry::Vacant(place) => {
                let header = match hides_store {
                    true => None,
                    false => below.header(place.key())?,
                };
                place.insert(PendingKey::new(header, hides_store))
            }
        };
        pending.index = *index;
        Ok(pending)
    }

    /// Nothing of before counts.
    fn replace(&mut self, key: Bytes, header: Option<Header>, string: Option<Bytes>) {
        let pending = self.touch(key);
        pending.header = header;
        pending.string = string;
        pending.fields.clear();
        pending.hides_store = true;
    }
}

impl<V: View> Keys for Taking<'_, V> {
    type Value = ();
    type Error = ViewError;

    /// The ops were made of what the tip shows.
    fn known(&mut self, _: &Bytes) -> Result<Known<()>, ViewError> {
        Ok(Known::Unread)
    }

    fn put_string(
        &mut self,
        key: Bytes,
        _: bool,
        header: Header,
        _: Stamp,
        value: Bytes,
    ) -> Result<(), ViewError> {
        self.replace(key, Some(header), Some(value));
        Ok(())
    }

    fn put_fields(
        &mut self,
        key: Bytes,
        _: bool,
        header: Option<Header>,
        _: Stamp,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<(), ViewError> {
        let pending = match header {
            Some(_) => self.touch(key),
            None => self.touch_read(key)?,
        };
        pending.header = header.or(pending.header);
        pending.string = None;
        for (field, value) in fields {
            pending.fields.insert(field, Some(value));
        }
        Ok(())
    }

    fn remove_fields(
        &mut self,
        key: Bytes,
        header: Header,
        fields: Vec<Bytes>,
    ) -> Result<(), ViewError> {
        let pending = self.touch(key);
        pending.header = Some(header);
        for field in fields {
            pending.fields.insert(field, None);
        }
        Ok(())
    }

    /// What was found dead is out of sight from now on, since the header that says that it is
    /// dead may go before its cell does. A field written in flight is alive.
    fn purge_fields(&mut self, key: Bytes, fields: Vec<Bytes>) -> Result<(), ViewError> {
        let pending = self.touch_read(key)?;
        for field in fields {
            if pending.fields.get(&field).is_none() {
                pending.fields.insert(field, None);
            }
        }
        Ok(())
    }

    fn put_header(&mut self, key: Bytes, _: Known<()>, header: Header) -> Result<(), ViewError> {
        self.touch(key).header = Some(header);
        Ok(())
    }

    fn bury(&mut self, key: Bytes, _: Known<()>, tombstone: Header) -> Result<(), ViewError> {
        self.replace(key, Some(tombstone), None);
        Ok(())
    }

    fn remove(&mut self, key: Bytes, _: Known<()>) -> Result<(), ViewError> {
        self.replace(key, None, None);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), ViewError> {
        self.tip.keys.clear();
        self.tip.touched.clear();
        self.tip.cleared = Some(self.index);
        Ok(())
    }
}

impl PendingKey {
    fn new(header: Option<Header>, hides_store: bool) -> Self {
        PendingKey {
            header,
            string: None,
            fields: FewMap::default(),
            hides_store,
            index: 0,
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
        self.stamp = self.done.take(ops, self.stamp, 0, self.below)?;
        Ok(())
    }
}
