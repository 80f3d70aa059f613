//! Keys and fields over rows: opening, reading, and what is due.
//!
//! ```text
//!          open                       begin_install
//!   rows ────────► serving ───────────────────────────► installing
//!                  apply, reads,   ◄──────────────────  install_chunk
//!                  snapshot          finish_install
//! ```
//! A crash while installing leaves it installing: begin again. A store that was rewound
//! (`rewind`) applies, but is not serving before it has caught up.

use super::{
    apply::Gathered,
    cache::{Cache, CacheBudget, CacheStats, Cached, Fields, HASH_FIELDS_MAX},
    copy::Filling,
    due::News,
    error::StoreError,
    expiring::Counting,
    layout::{
        APPLIED, Applied, END, EXPIRY, FORMAT, FORMAT_VERSION, INSTALLING, KeyRows, REWINDING,
        bad_value, cell, decode_head,
    },
    prefetch::{Guess, Prefetch},
    rewind::Rewinding,
    rows::{Pressure, RowBatch, RowStats, Rows, ScrubFiles},
};
use bytes::{Bytes, BytesMut};
use model::{
    Position, Stamp,
    limits::{FIELD_BYTES_MAX, check_field, check_key},
    mutation::{Header, KeyKind},
};

/// The current values of one shard.
pub struct ShardStore<R: Rows> {
    pub(super) rows: R,
    pub(super) cache: Cache,
    pub(super) applied: Applied,
    /// That a copy is under way, or was cut short, and why.
    pub(super) filling: Option<Filling>,
    /// What was fetched in a rewind, until it has caught up with that.
    pub(super) rewinding: Option<Rewinding>,
    /// What may have come due since it was looked at.
    pub(super) news: News,
    /// Keys that expire.
    pub(super) expiring: Counting,
    /// Room for the next batch.
    pub(super) spare: Gathered,
}

impl<R: Rows> ShardStore<R> {
    /// Opens what `rows` hold.
    pub fn open(mut rows: R, cache: CacheBudget) -> Result<Self, StoreError> {
        let applied = rows.get(APPLIED)?;
        match rows.get(FORMAT)?.as_deref() {
            Some([FORMAT_VERSION]) => {}
            None if applied.is_none() => {
                let mut batch = RowBatch::new();
                batch.put(FORMAT, &[FORMAT_VERSION]);
                rows.write(&mut batch)?;
            }
            found => {
                return Err(StoreError::Format {
                    found: found.and_then(|f| f.first().copied()).unwrap_or(0),
                    known: FORMAT_VERSION,
                });
            }
        }
        let filling = rows.get(INSTALLING)?.map(Filling::decode).transpose()?;
        let rewinding = rows.get(REWINDING)?.map(Rewinding::decode).transpose();
        Ok(ShardStore {
            rewinding: rewinding.map_err(|e| bad_value(REWINDING, &e))?,
            applied: decode_applied(applied)?,
            filling,
            rows,
            cache: Cache::new(cache),
            news: News::ANYTHING,
            expiring: Counting::begin(),
            spare: Gathered::default(),
        })
    }

    /// How far it has come.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Where it would be at least after a crash: the log is needed above this.
    pub fn flushed(&self) -> Result<Position, StoreError> {
        Ok(decode_applied(self.rows.flushed_applied()?)?.position)
    }

    /// Keys that are there, expired ones that were not deleted yet included.
    pub fn key_count(&self) -> u64 {
        self.applied.keys
    }

    /// See [`Rows::flush`].
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.rows.flush()
    }

    /// See [`Rows::flush_soon`].
    pub fn flush_soon(&mut self) -> Result<(), StoreError> {
        self.rows.flush_soon()
    }

    /// See [`Rows::maintain`].
    pub fn maintain(&mut self) -> Result<Pressure, StoreError> {
        self.cache.trim();
        self.rows.maintain()
    }

    /// See [`Rows::damage`].
    pub fn damage(&self) -> Option<&str> {
        self.rows.damage()
    }

    /// See [`Rows::scrub`].
    pub fn scrub(&self) -> Option<ScrubFiles> {
        self.rows.scrub()
    }

    /// Figures of its rows.
    pub fn row_stats(&self) -> RowStats {
        self.rows.stats()
    }

    /// How much its cache may hold from now on.
    pub fn set_cache_budget(&mut self, budget: CacheBudget) {
        self.cache.set_budget(budget);
    }

    /// Forgets what is cached.
    pub(super) fn clear_cache(&self) {
        self.rows.reap(self.cache.clear());
    }

    /// Figures of its cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Refuses while a copy or a rewind is under way: what is here then is nobody's state.
    pub(super) fn check_serving(&self) -> Result<(), StoreError> {
        if self.filling.is_some() {
            Err(StoreError::Installing)
        } else if self.rewinding.is_some() {
            Err(StoreError::Rewinding)
        } else {
            Ok(())
        }
    }

    /// Whether what is here is the state at [`ShardStore::applied`], and can be read.
    pub fn is_serving(&self) -> bool {
        self.check_serving().is_ok()
    }

    /// Tells what is probably about to be looked up, [`WARM_KEYS_MAX`](super::WARM_KEYS_MAX) at
    /// most: what is cached of it is found faster then.
    pub fn warm(&self, guesses: &[Guess<'_>]) {
        let keys: Vec<&[u8]> = guesses.iter().map(|guess| guess.key).collect();
        self.cache.warm(&keys);
        if self.cache.holds_cells() {
            let rows: Vec<_> = guesses
                .iter()
                .filter_map(|g| self.guessed_cell(g))
                .collect();
            let rows: Vec<&[u8]> = rows.iter().map(AsRef::as_ref).collect();
            self.cache.warm(&rows);
        }
    }

    /// The row of the field, if it is of a hash whose fields are held one by one.
    fn guessed_cell(&self, guess: &Guess<'_>) -> Option<Vec<u8>> {
        let field = guess.field.filter(|field| check_field(field).is_ok())?;
        let is_large = self.cache.holds_large_hash(guess.key);
        is_large.then(|| KeyRows::new(guess.key).field(field).to_vec())
    }

    /// Where looking up means to wait for a disk: what is to be read elsewhere before these are
    /// looked up. All in one piece: handing a row over costs more than most look-ups, that of a
    /// write's new key before all.
    pub fn prefetch(&self, guesses: &[Guess<'_>]) -> Option<Prefetch> {
        if !self.rows.is_cold() {
            return None;
        }
        let row = |guess: &Guess<'_>| {
            if let Some(row) = self.guessed_cell(guess) {
                return (!self.cache.holds_cell(&row)).then_some(row);
            }
            let unknown = !self.cache.holds_value(guess.key) && check_key(guess.key).is_ok();
            unknown.then(|| KeyRows::new(guess.key).head().to_vec())
        };
        self.rows.prefetch(guesses.iter().filter_map(row).collect())
    }

    /// What is known of a key; None if it has no key row.
    fn look_up(&self, key: &[u8]) -> Result<Option<Cached>, StoreError> {
        self.check_serving()?;
        match self.cache.get(key) {
            None => self.bring_in(key, true),
            cached => Ok(cached),
        }
    }

    /// The same of a key that is not cached, for a caller that reads its value or its header
    /// alone.
    fn bring_in(&self, key: &[u8], reads_value: bool) -> Result<Option<Cached>, StoreError> {
        check_key(key)?;
        let mut rows = KeyRows::new(key);
        let row = rows.head();
        let Some(row_found) = self.rows.find(row)? else {
            return Ok(None);
        };
        let (header, string) = decode_head(row_found.value).map_err(|e| bad_value(row, &e))?;
        let found = match string {
            Some((_, value)) if reads_value => Cached::String(header, value),
            _ => Cached::Header(header),
        };
        if header.kind == KeyKind::Hash || !row_found.recent {
            self.cache.put(key, found.clone());
        }
        Ok(Some(found))
    }

    /// A key row, from the rows themselves.
    pub(super) fn read_head(&self, key: &[u8]) -> Result<Option<Head>, StoreError> {
        check_key(key)?;
        let mut rows = KeyRows::new(key);
        let row = rows.head();
        let value = self.rows.get(row)?;
        value
            .map(|v| decode_head(v).map_err(|e| bad_value(row, &e)))
            .transpose()
    }

    /// The header of a key: None if nothing is known of it. A deleted key whose cells wait to
    /// be purged has one of kind tombstone; an expired one is returned as it is.
    pub fn header(&self, key: &[u8]) -> Result<Option<Header>, StoreError> {
        self.check_serving()?;
        if let Some(header) = self.cache.header(key) {
            return Ok(Some(header));
        }
        Ok(self.bring_in(key, false)?.map(|cached| match cached {
            Cached::Header(header)
            | Cached::Large(header)
            | Cached::String(header, _)
            | Cached::Hash(header, _) => header,
        }))
    }

    /// The header of a key as [`ShardStore::header`] gives it, and the value if it is a string.
    pub fn string(&self, key: &[u8]) -> Result<Option<(Header, Option<Bytes>)>, StoreError> {
        let known = self.look_up(key)?;
        Ok(match known {
            None => None,
            Some(Cached::String(header, value)) => Some((header, Some(value))),
            Some(Cached::Header(header) | Cached::Large(header))
                if header.kind == KeyKind::String =>
            {
                let head = self.read_head(key)?;
                let found = head.map(|(header, string)| (header, string.map(|s| s.1)));
                if let (Some(Cached::Header(_)), Some((header, Some(value)))) = (&known, &found) {
                    self.cache.put(key, Cached::String(*header, value.clone()));
                }
                found
            }
            Some(Cached::Header(header) | Cached::Large(header) | Cached::Hash(header, _)) => {
                Some((header, None))
            }
        })
    }

    /// The fields of a hash, if it is small; for a caller that sees `header`.
    pub(super) fn small(&self, key: &[u8], header: &Header) -> Result<Option<Fields>, StoreError> {
        match self.look_up(key)? {
            Some(Cached::Hash(own, fields)) if own.deleted == header.deleted => {
                return Ok(Some(fields));
            }
            Some(Cached::Header(own))
                if own.kind == KeyKind::Hash
                    && own.fields <= HASH_FIELDS_MAX
                    && own.deleted == Stamp::ZERO
                    && header.deleted == Stamp::ZERO =>
            {
                let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
                let mut bytes = 0;
                self.read_fields(key, 0, &mut |_, (field, value), _| {
                    bytes += field.len() + value.len();
                    found.push((field.to_vec(), value.to_vec()));
                    bytes <= super::cache::HASH_BYTES_MAX
                })?;
                found.sort_unstable();
                let fields = found.iter().map(|(f, v)| (f.as_slice(), v.as_slice()));
                if bytes <= super::cache::HASH_BYTES_MAX
                    && let Some(fields) = Fields::new(fields)
                {
                    self.cache.put(key, Cached::Hash(own, fields.clone()));
                    return Ok(Some(fields));
                }
                self.cache.put(key, Cached::Large(own));
            }
            _ => {}
        }
        Ok(None)
    }

    /// The value of a live field of the hash whose header is `header`.
    pub fn field(
        &self,
        key: &[u8],
        header: &Header,
        field: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        self.check_serving()?;
        if let Some((own, value)) = self.cache.field(key, field)
            && own.deleted == header.deleted
        {
            return Ok(value);
        }
        self.read_field(key, header, field)
    }

    /// Whether the hash whose header is `header` has a field: what [`ShardStore::field`] gives
    /// is not copied for it.
    pub fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, StoreError> {
        self.check_serving()?;
        if let Some((own, found)) = self.cache.has_field(key, field)
            && own.deleted == header.deleted
        {
            return Ok(found);
        }
        if let Some(fields) = self.small(key, header)? {
            return Ok(fields.get(field).is_some());
        }
        if field.len() > FIELD_BYTES_MAX {
            return Ok(false);
        }
        let mut rows = KeyRows::new(key);
        let row = rows.field(field);
        match self.cache.cell_stamp(row) {
            Some(stamp) => Ok(stamp > header.deleted),
            None => Ok(self.read_cell(row, header)?.is_some()),
        }
    }

    /// A field of a hash that is not cached with its fields. A small one is from now on.
    fn read_field(
        &self,
        key: &[u8],
        header: &Header,
        field: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        if let Some(fields) = self.small(key, header)? {
            return Ok(fields.get(field));
        }
        if field.len() > FIELD_BYTES_MAX {
            return Ok(None);
        }
        let mut rows = KeyRows::new(key);
        let row = rows.field(field);
        match self.cache.cell(row) {
            Some((stamp, value)) => Ok((stamp > header.deleted).then_some(value)),
            None => self.read_cell(row, header),
        }
    }

    /// The field in a row, from the rows themselves. It is cached from now on, unless it is found
    /// quickly.
    fn read_cell(&self, row: &[u8], header: &Header) -> Result<Option<Bytes>, StoreError> {
        let Some(found) = self.rows.find(row)? else {
            return Ok(None);
        };
        let (stamp, value) = cell(row, &found.value)?;
        if !found.recent {
            self.cache.put_cell(row, stamp, value);
        }
        Ok((stamp > header.deleted).then(|| found.value.slice_ref(value)))
    }
}

impl<R: Rows> Drop for ShardStore<R> {
    fn drop(&mut self) {
        self.clear_cache();
    }
}

/// A key row read: its header, and a string's stamp and value.
pub(super) type Head = (Header, Option<(Stamp, Bytes)>);

fn decode_applied(value: Option<Bytes>) -> Result<Applied, StoreError> {
    value.map_or(Ok(Applied::default()), |value| {
        Applied::decode(value).map_err(|e| bad_value(APPLIED, &e))
    })
}

/// Adds the row that says how far a batch goes.
pub(super) fn put_applied(batch: &mut RowBatch, applied: &Applied) {
    let mut bytes = BytesMut::new();
    applied.encode(&mut bytes);
    batch.put(APPLIED, &bytes);
}

const _: () = assert!(END[0] > EXPIRY);
