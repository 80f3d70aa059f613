//! Applying committed entries.
//!
//! Entries are gathered into a batch that ends at an entry's end, together with the applied
//! position. What becomes of a key is said by [`model::fold`]; that it becomes rows, by `ops`.
//!
//! After a rewind, keys that were fetched as of a later position (`rewind`) are left alone until
//! that position is reached: they are as it left them.
#![allow(clippy::disallowed_types)] // a hash map whose order reaches nothing but the cache, and rows that are sorted

use super::{
    cache::{Cached, HashChange, WARM_KEYS_MAX},
    due::News,
    error::StoreError,
    expiring::Counting,
    layout::{Applied, FORMAT, FORMAT_VERSION, KeyRows, REWINDING, encode_head},
    rewind::Rewinding,
    rows::{RowBatch, Rows},
    shard::{Head, ShardStore, put_applied},
};
use bytes::Bytes;
use model::{
    Entry, EntryKind, Stamp,
    few::FewMap,
    fold::{Fold, FoldError},
    mutation::{KeyKind, Ops},
};
use ops::Applying;
use std::collections::HashMap;

mod ops;

/// A batch is written at the first entry's end at or above this. Small enough that writing it
/// takes about a millisecond.
const BATCH_BYTES: usize = 256 << 10;

/// About what a key row has besides the key and the value.
const HEAD_BYTES: usize = 32;

/// Keys for which the room of a batch is kept.
const TOUCHED_KEPT_MAX: usize = 2048;

/// What a batch has done to a key so far.
#[derive(Default)]
struct Touched {
    /// Its key row: None if it was not touched, Some(None) if it was removed.
    head: Option<Option<Head>>,
    /// Whether all live fields are in `fields`: none of before counts.
    whole: bool,
    /// Fields put, with their stamps, and fields removed. What was put may have died since,
    /// of a deletion: a field is alive as its row is, by its stamp.
    fields: FewMap<Option<(Stamp, Bytes)>>,
}

/// What a batch has gathered.
#[derive(Default)]
pub(super) struct Gathered {
    batch: RowBatch,
    touched: HashMap<Bytes, Touched>,
}

impl Gathered {
    /// Emptied. Room is kept unless it was for something unusually large: each shard has it, and
    /// a map is gone through by its room, however little is in it.
    fn emptied(mut self) -> Self {
        if self.batch.room() > 4 * BATCH_BYTES {
            self.batch = RowBatch::new();
        }
        if self.touched.capacity() > TOUCHED_KEPT_MAX {
            self.touched = HashMap::new();
        }
        self.batch.clear();
        self.touched.clear();
        self
    }
}

/// A batch in the making.
struct Work {
    /// All that it writes but the key rows: those are made of `touched` in the end, one for each
    /// key, however often it was written.
    batch: RowBatch,
    /// About how many bytes they will be.
    heads_bytes: usize,
    /// Begin by removing everything.
    reset: bool,
    touched: HashMap<Bytes, Touched>,
    applied: Applied,
    /// It has caught up with what a rewind fetched.
    caught_up: bool,
    news: News,
    expiring: Counting,
}

impl Work {
    /// About how many bytes it writes.
    fn bytes(&self) -> usize {
        self.batch.bytes() + self.heads_bytes
    }

    fn touch(&mut self, key: Bytes) -> &mut Touched {
        self.touched.entry(key).or_default()
    }

    fn put_expiry(&mut self, rows: &KeyRows, expires_ms: u64) {
        let row = rows.expiry(expires_ms);
        self.batch.put(&row, &[]);
        self.expiring.put(&row, expires_ms);
        self.news.expires_ms = self.news.expires_ms.min(expires_ms);
    }

    fn put_purge(&mut self, row: &[u8], deleted: Stamp) {
        self.batch.put(row, &deleted.0.to_le_bytes());
        self.news.dead = true;
    }

    /// What the key row becomes; None: it goes.
    fn set_head(&mut self, key: Bytes, head: Option<Head>) -> &mut Touched {
        let string = head.as_ref().and_then(|(_, string)| string.as_ref());
        self.heads_bytes += HEAD_BYTES + key.len() + string.map_or(0, |(_, value)| value.len());
        let touched = self.touch(key);
        touched.head = Some(head);
        touched
    }

    /// Puts and removes the key rows.
    fn finish_heads(&mut self) {
        self.batch.reserve(self.heads_bytes);
        for (key, touched) in &self.touched {
            let mut rows = KeyRows::new(key);
            match &touched.head {
                None => {}
                Some(None) => self.batch.remove(rows.head()),
                Some(Some((header, string))) => self.batch.put_with(rows.head(), |out| {
                    let string = string.as_ref().map(|(stamp, value)| (*stamp, &value[..]));
                    encode_head(header, string, out);
                }),
            }
        }
    }
}

impl<R: Rows> ShardStore<R> {
    /// Applies committed entries, in order, in one or several batches. Those at or below
    /// [`ShardStore::applied`] are skipped; op number n of an entry is stamped its stamp + n.
    ///
    /// On an error the entries of the batches written before it are applied, no others.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        if self.filling.is_some() {
            return Err(StoreError::Installing);
        }
        let mut work = self.work();
        let mut begun = false;
        for entry in entries {
            let applied = work.applied.position;
            if entry.position.index <= applied.index {
                continue;
            }
            if entry.position.index != applied.index + 1 || entry.position.epoch < applied.epoch {
                let entry = entry.position;
                return Err(StoreError::Gap { applied, entry });
            }
            if let Some(until) = self.rewinding_until()
                && until.index == entry.position.index
                && until != entry.position
            {
                // What was fetched is part of another history: nothing may be built on it.
                let (applied, entry) = (until, entry.position);
                return Err(StoreError::Gap { applied, entry });
            }
            self.entry(&mut work, entry)?;
            begun = true;
            // With the entry that what was fetched is of, a batch ends: a `Clear` in it put those
            // rows, and ops that change them would not find them.
            if work.bytes() >= BATCH_BYTES || work.caught_up {
                self.commit(work)?;
                work = self.work();
                begun = false;
            }
        }
        if begun {
            self.commit(work)?;
        } else {
            let Work { batch, touched, .. } = work;
            self.spare = Gathered { batch, touched };
        }
        Ok(())
    }

    fn work(&mut self) -> Work {
        let Gathered { batch, touched } = std::mem::take(&mut self.spare);
        Work {
            batch,
            heads_bytes: 0,
            reset: false,
            touched,
            applied: self.applied.clone(),
            caught_up: false,
            news: News::NONE,
            expiring: self.expiring.clone(),
        }
    }

    fn entry(&self, work: &mut Work, entry: &Entry) -> Result<(), StoreError> {
        if entry.kind == EntryKind::Mutation {
            self.mutation(work, entry)?;
        }
        let applied = &mut work.applied;
        if entry.kind == EntryKind::Members {
            applied.members = Bytes::copy_from_slice(&entry.payload());
        }
        applied.position = entry.position;
        applied.stamp = applied.stamp.max(entry.last_stamp());
        applied.history.note(entry.position);
        let until = self.rewinding.as_ref().map(Rewinding::until);
        work.caught_up |= until.is_some_and(|until| until.index <= entry.position.index);
        Ok(())
    }

    fn mutation(&self, work: &mut Work, entry: &Entry) -> Result<(), StoreError> {
        let malformed = |source| StoreError::Malformed {
            position: entry.position,
            source,
        };
        let mut fold = Fold::new(entry.stamp);
        for op in Ops::new(entry.payload()) {
            let op = op.map_err(malformed)?;
            if let (Some(fetched), Some(key)) = (self.fetched(work), op.key())
                && fetched.holds(key)
            {
                fold.pass();
                continue;
            }
            let store = self;
            let done = fold.op(&mut Applying { store, work }, op);
            done.map_err(|error| match error {
                FoldError::Malformed(source) => malformed(source),
                FoldError::TooLong(too_long) => too_long.into(),
                FoldError::Keys(error) => error,
            })?;
        }
        Ok(())
    }

    /// What a rewind fetched, if that is ahead of the entry at hand.
    fn fetched(&self, work: &Work) -> Option<&Rewinding> {
        self.rewinding.as_ref().filter(|_| !work.caught_up)
    }

    fn commit(&mut self, mut work: Work) -> Result<(), StoreError> {
        put_applied(&mut work.batch, &work.applied);
        // At the end, and with room for all of them: one of the values may be most of the batch.
        work.finish_heads();
        if work.reset {
            work.batch.put(FORMAT, &[FORMAT_VERSION]);
            if let Some(fetched) = self.fetched(&work) {
                work.batch.put(REWINDING, &fetched.encode());
            }
            self.rows.reset(&mut work.batch)?;
            self.clear_cache();
        } else {
            if work.caught_up {
                work.batch.remove(REWINDING);
            }
            self.rows.write(&mut work.batch)?;
        }
        if work.caught_up {
            self.rewinding = None;
        }
        let Work {
            batch,
            touched,
            applied,
            news,
            expiring,
            ..
        } = work;
        self.applied = applied;
        self.expiring = expiring;
        self.news.add(news);
        let mut ahead = touched.keys();
        for (n, (key, of_key)) in touched.iter().enumerate() {
            if n.is_multiple_of(WARM_KEYS_MAX) {
                let next: Vec<&[u8]> = ahead.by_ref().take(WARM_KEYS_MAX).map(|k| &k[..]).collect();
                self.cache.warm(&next);
            }
            self.refresh(key, of_key);
        }
        self.spare = Gathered { batch, touched }.emptied();
        Ok(())
    }

    /// Brings what is cached of a key to what a batch made of it.
    fn refresh(&self, key: &[u8], touched: &Touched) {
        let brings_cells = self.refresh_key(key, touched);
        let mut fields = touched.fields.iter().peekable();
        if fields.peek().is_none() || !(brings_cells || self.cache.holds_cells()) {
            return;
        }
        let mut rows = KeyRows::new(key);
        while fields.peek().is_some() {
            let some = fields.by_ref().take(WARM_KEYS_MAX);
            let some: Vec<_> = some.map(|(f, put)| (rows.field(f).to_vec(), put)).collect();
            let names: Vec<&[u8]> = some.iter().map(|(row, _)| &row[..]).collect();
            self.cache.warm(&names);
            for (row, put) in &some {
                match put {
                    Some((stamp, value)) => {
                        self.cache.change_cell(row, *stamp, value, brings_cells);
                    }
                    None => self.cache.remove_cell(row),
                }
            }
        }
    }

    /// Whether fields that were put come in one by one.
    fn refresh_key(&self, key: &[u8], touched: &Touched) -> bool {
        match &touched.head {
            Some(Some((header, Some((_, value))))) => {
                let whole = self.cache.takes_written(value.len()) || self.cache.holds_value(key);
                let held = match whole {
                    true => Cached::String(*header, value.clone()),
                    false => Cached::Header(*header),
                };
                self.cache.put(key, held);
            }
            Some(Some((header, None))) if header.kind != KeyKind::Hash => {
                self.cache.put(key, Cached::Header(*header));
            }
            Some(None) => self.cache.remove(key),
            head => {
                let header = head.as_ref().and_then(|head| head.as_ref());
                let change = HashChange {
                    header: header.map(|(header, _)| *header),
                    whole: touched.whole,
                    fields: &touched.fields,
                };
                return self.cache.change_hash(key, change);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CacheBudget, MemoryStores, Stores};
    use model::{Op, ShardId, mutation::Header};

    #[test]
    fn no_more_is_written_than_was_counted() {
        let rows = MemoryStores::new().open(ShardId(1)).unwrap();
        let mut store = ShardStore::open(rows, CacheBudget { bytes: 1 << 20 }).unwrap();
        let keys = || (0..100).map(|n| Bytes::from(format!("key-{n}")));
        let put = |key| Op::PutString {
            key,
            created: true,
            header: Header::new(KeyKind::String),
            value: Bytes::from_static(b"v"),
        };
        let delete = |key| Op::Delete {
            key,
            cells: 0,
            tombstone: false,
        };
        for ops in [
            keys().map(put).collect::<Vec<_>>(),
            keys().map(delete).collect(),
        ] {
            let mut work = store.work();
            for op in ops {
                let (store, work) = (&store, &mut work);
                Fold::new(Stamp(1))
                    .op(&mut Applying { store, work }, op)
                    .unwrap();
            }
            let counted = work.bytes();
            work.finish_heads();
            assert_eq!(work.batch.rows().count(), 100);
            assert!(counted >= work.batch.bytes());
            store.commit(work).unwrap();
        }
    }
}
