//! What becomes of a key, as rows.
//!
//! Most ops write blindly. What must be known of a key (the old header on a deletion, the value
//! of a string whose header changes, the expiry that a new one replaces) is looked up in what the
//! batch has done so far ([`Touched`](super::Touched)), then in the rows.
//!
//! A tombstone leaves the rows of the cells, and has a purge row. That row goes at the end of the
//! purge: with the tombstone, or by a header whose `deleted` is zero.

use super::Work;
use crate::store::{
    due::News,
    error::StoreError,
    expiring::Counting,
    layout::{KeyRows, cell},
    rows::Rows,
    shard::{Head, ShardStore},
};
use bytes::Bytes;
use model::{
    Stamp,
    cell::encode_sequenced,
    fold::{Keys, Known},
    mutation::{Header, KeyKind},
};

/// A string's cell, which stands in its key row.
type Cell = Option<(Stamp, Bytes)>;

/// A store and the batch that ops are gathered into.
pub(super) struct Applying<'a, R: Rows> {
    pub(super) store: &'a ShardStore<R>,
    pub(super) work: &'a mut Work,
}

impl<R: Rows> Keys for Applying<'_, R> {
    type Value = Cell;
    type Error = StoreError;

    fn known(&mut self, key: &Bytes) -> Result<Known<Cell>, StoreError> {
        Ok(match self.head(key)? {
            None => Known::Absent,
            Some((header, string)) => Known::Present(header, string),
        })
    }

    fn put_string(
        &mut self,
        key: Bytes,
        created: bool,
        header: Header,
        stamp: Stamp,
        value: Bytes,
    ) -> Result<(), StoreError> {
        self.work.applied.keys += u64::from(created);
        self.move_expiry(&key, created, &header)?;
        let head = Some((header, Some((stamp, value))));
        self.work.set_head(key, head).whole = true;
        Ok(())
    }

    fn put_fields(
        &mut self,
        key: Bytes,
        created: bool,
        header: Option<Header>,
        stamp: Stamp,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<(), StoreError> {
        let mut rows = KeyRows::new(&key);
        for (field, value) in &fields {
            self.work.batch.put_with(rows.field(field), |out| {
                encode_sequenced(stamp, value, out);
            });
        }
        let touched = match header {
            Some(header) => {
                self.work.applied.keys += u64::from(created);
                self.move_expiry(&key, created, &header)?;
                self.work.set_head(key, Some((header, None)))
            }
            None => self.work.touch(key),
        };
        touched.whole |= created;
        for (field, value) in fields {
            touched.fields.insert(field, Some((stamp, value)));
        }
        Ok(())
    }

    fn remove_fields(
        &mut self,
        key: Bytes,
        header: Header,
        fields: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        self.move_expiry(&key, false, &header)?;
        let mut rows = KeyRows::new(&key);
        for field in &fields {
            self.work.batch.remove(rows.field(field));
        }
        let touched = self.work.set_head(key, Some((header, None)));
        for field in fields {
            touched.fields.insert(field, None);
        }
        Ok(())
    }

    fn purge_fields(&mut self, key: Bytes, fields: Vec<Bytes>) -> Result<(), StoreError> {
        let Some((header, _)) = self.head(&key)? else {
            return Ok(());
        };
        let (store, work) = (self.store, &mut *self.work);
        let mut touched = work.touched.get_mut(&key);
        let mut rows = KeyRows::new(&key);
        for field in &fields {
            let row = rows.field(field);
            let dead = match touched.as_mut().and_then(|t| t.fields.get_mut(field)) {
                Some(put) => put.take_if(|(stamp, _)| *stamp <= header.deleted).is_some(),
                None if work.reset => false,
                None => match store.rows.get(row)? {
                    Some(value) => cell(row, &value)?.0 <= header.deleted,
                    None => false,
                },
            };
            if dead {
                work.batch.remove(row);
                store.cache.remove_cell(row);
            }
        }
        Ok(())
    }

    fn put_header(
        &mut self,
        key: Bytes,
        known: Known<Cell>,
        header: Header,
    ) -> Result<(), StoreError> {
        let (was, string) = match known {
            Known::Present(was, string) => (was, string),
            Known::Absent | Known::Unread => (Header::new(KeyKind::Tombstone), None),
        };
        let keys = &mut self.work.applied.keys;
        match (was.kind, header.kind) {
            (KeyKind::Tombstone, KeyKind::Tombstone) => {}
            (KeyKind::Tombstone, _) => *keys += 1,
            (_, KeyKind::Tombstone) => *keys = keys.saturating_sub(1),
            _ => {}
        }
        let purge = KeyRows::new(&key).purge();
        if header.deleted == Stamp::ZERO {
            if was.deleted != Stamp::ZERO {
                self.work.batch.remove(&purge);
            }
        } else if was.deleted != header.deleted {
            self.work.put_purge(&purge, header.deleted);
        }
        self.replace_expiry(&key, &was, header.expires_ms);
        self.work.set_head(key, Some((header, string)));
        Ok(())
    }

    fn bury(
        &mut self,
        key: Bytes,
        known: Known<Cell>,
        tombstone: Header,
    ) -> Result<(), StoreError> {
        if let Known::Present(old, _) = known {
            self.goes(&key, &old);
        }
        let purge = KeyRows::new(&key).purge();
        self.work.put_purge(&purge, tombstone.deleted);
        self.work.set_head(key, Some((tombstone, None))).whole = true;
        Ok(())
    }

    fn remove(&mut self, key: Bytes, known: Known<Cell>) -> Result<(), StoreError> {
        let Known::Present(old, _) = known else {
            return Ok(());
        };
        self.goes(&key, &old);
        let (store, work) = (self.store, &mut *self.work);
        let mut rows = KeyRows::new(&key);
        if old.kind == KeyKind::Hash {
            let (from, to) = rows.fields(0);
            if !work.reset {
                let batch = &mut work.batch;
                store.rows.scan(&from, &to, &mut |row, _| {
                    batch.remove(row);
                    store.cache.remove_cell(row);
                    true
                })?;
            }
            if let Some(touched) = work.touched.get_mut(&key) {
                for (field, put) in touched.fields.iter_mut() {
                    if put.take().is_some() {
                        work.batch.remove(rows.field(field));
                    }
                }
            }
        }
        if old.deleted != Stamp::ZERO {
            work.batch.remove(&rows.purge());
        }
        work.set_head(key, None).whole = true;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        let (store, work) = (self.store, &mut *self.work);
        work.batch.clear();
        work.touched.clear();
        work.heads_bytes = 0;
        work.reset = true;
        work.expiring = Counting::nothing();
        work.applied.keys = match store.fetched(work) {
            Some(fetched) => {
                work.news = News::ANYTHING;
                work.expiring = Counting::begin();
                store.put_fetched(fetched, &mut work.batch)?
            }
            None => 0,
        };
        Ok(())
    }
}

impl<R: Rows> Applying<'_, R> {
    /// A key row as it is at this point of the batch.
    fn head(&self, key: &Bytes) -> Result<Option<Head>, StoreError> {
        match self.work.touched.get(key).and_then(|t| t.head.as_ref()) {
            Some(head) => Ok(head.clone()),
            None if self.work.reset => Ok(None),
            None => self.store.read_head(key),
        }
    }

    /// A key that has this header goes.
    fn goes(&mut self, key: &Bytes, old: &Header) {
        if old.kind != KeyKind::Tombstone {
            let keys = &mut self.work.applied.keys;
            *keys = keys.saturating_sub(1);
        }
        self.replace_expiry(key, old, 0);
    }

    /// Puts the expiry row of a key's new header, and removes the one that it replaces. The
    /// old header is only looked up for keys that expire: each renewal would leave a row.
    fn move_expiry(&mut self, key: &Bytes, created: bool, new: &Header) -> Result<(), StoreError> {
        if new.expires_ms == 0 {
            return Ok(());
        }
        if !created && let Some((old, _)) = self.head(key)? {
            self.replace_expiry(key, &old, new.expires_ms);
        } else {
            self.work.put_expiry(&KeyRows::new(key), new.expires_ms);
        }
        Ok(())
    }

    fn replace_expiry(&mut self, key: &Bytes, old: &Header, expires_ms: u64) {
        if old.expires_ms == expires_ms {
            return;
        }
        let (rows, work) = (KeyRows::new(key), &mut *self.work);
        if old.expires_ms != 0 {
            let row = rows.expiry(old.expires_ms);
            work.batch.remove(&row);
            work.expiring.removed(&row, old.expires_ms);
        }
        if expires_ms != 0 {
            work.put_expiry(&rows, expires_ms);
        }
    }
}
