//! Taking back a tail that was lost in a failover: the store goes back to the last entry that
//! it has in common with the new primary, without undoing anything.
//!
//! Cells can't be undone: what a lost write replaced is gone, and its stamp may be greater
//! than that of what the new primary writes. So each key that the lost tail touched is
//! *replaced*, absence included, by what it is at the new primary at one pinned position
//! (`until`), all in one batch with the applied position, which goes back to the common entry.
//! All other keys are as the common entry left them.
//!
//! ```text
//!            common                 until
//! log   ───────┼──────────────────────┼────────▶   applied from common on
//! touched keys └────── left alone ────┤ applied
//! other keys   └─────────── applied ──┴────────▶
//! ```
//! Until then the store is no state that ever was and is not serving. The entries up to `until`
//! must not be applied to the fetched keys: not every op can be repeated over a later state
//! (a new header for a string that is gone by `until`; a creation counted twice).
//!
//! # Bytes of the row `mrewinding`
//! ```text
//! 1, until: epoch u64 LE, index u64 LE, then LEB128: n, n × (length, key)
//! ```
//! It is there as long as the store has not caught up, a crash or not.

use super::{
    copy::ShardSnapshot,
    due::News,
    error::StoreError,
    expiring::Counting,
    layout::{
        KEY, KeyRow, KeyRows, REWINDING, bad_row, bad_value, check_copied, decode_head, key_row,
    },
    rows::{RowBatch, Rows, RowsSnapshot, Visit},
    shard::{ShardStore, put_applied},
};
use bytes::{BufMut, Bytes, BytesMut};
use model::{
    Position,
    codec::{Malformed, Reader, put_bytes, put_len},
    mutation::{Header, KeyKind},
    planted::{self, Bug},
};
use std::collections::{BTreeMap, BTreeSet};

/// What was fetched: which keys, and as of when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewinding {
    until: Position,
    keys: BTreeSet<Bytes>,
}

impl Rewinding {
    /// No key was fetched, but it counts only from there on.
    pub(super) fn of_nothing(until: Position) -> Self {
        let keys = BTreeSet::new();
        Rewinding { until, keys }
    }

    pub(super) fn until(&self) -> Position {
        self.until
    }

    pub(super) fn holds(&self, key: &Bytes) -> bool {
        self.keys.contains(key)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(1);
        out.put_u64_le(self.until.epoch.0);
        out.put_u64_le(self.until.index);
        put_len(&mut out, self.keys.len() as u64);
        for key in &self.keys {
            put_bytes(&mut out, key);
        }
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new("rewinding", bytes);
        if r.u8()? != 1 {
            return Err(r.malformed());
        }
        let until = Position::new(r.u64()?, r.u64()?);
        let mut keys = BTreeSet::new();
        for _ in 0..r.count()? {
            keys.insert(r.bytes()?);
        }
        if !r.is_empty() {
            return Err(r.malformed());
        }
        Ok(Rewinding { until, keys })
    }
}

/// Rows of some of the keys that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysChunk {
    /// Row keys and values.
    pub rows: Vec<(Bytes, Bytes)>,
    /// How many of the keys are complete.
    pub done: usize,
    /// The row of the key after those to go on from, if it was begun.
    pub next: Option<Vec<u8>>,
}

type Scan<'a> = &'a dyn Fn(&[u8], &[u8], Visit<'_>) -> Result<(), StoreError>;

/// A key row's header, if the row is one.
fn header_of(row: &[u8], value: &[u8]) -> Result<Option<Header>, StoreError> {
    if row.first() != Some(&KEY) {
        return Ok(None);
    }
    let KeyRow::Head { .. } = key_row(row)? else {
        return Ok(None);
    };
    let value = Bytes::copy_from_slice(value);
    let (header, _) = decode_head(value).map_err(|e| bad_value(row, &e))?;
    Ok(Some(header))
}

/// Visits the rows of a key from `from` on, those of the indexes last.
fn rows_of(
    scan: Scan<'_>,
    key: &[u8],
    from: Option<&[u8]>,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    let mut rows = KeyRows::new(key);
    let mut header = Ok(None);
    let head = rows.head().to_vec();
    scan(&head, &after(&head), &mut |row, value| {
        header = header_of(row, value);
        false
    })?;
    let expires_ms = header?.map_or(0, |h| h.expires_ms);
    let (_, to) = rows.fields(0);
    let mut more = true;
    scan(from.unwrap_or(&head), &to, &mut |row, value| {
        more = visit(row, value);
        more
    })?;
    if more && expires_ms != 0 {
        more = visit(&rows.expiry(expires_ms), &[]);
    }
    if more {
        let purge = rows.purge();
        scan(&purge, &after(&purge), visit)?;
    }
    Ok(())
}

/// The first row key after this one.
fn after(row: &[u8]) -> Vec<u8> {
    [row, &[0]].concat()
}

/// Whether a row is that of a key that is there.
fn is_live(row: &[u8], value: &[u8]) -> Result<bool, StoreError> {
    let header = header_of(row, value)?;
    Ok(header.is_some_and(|h| h.kind != KeyKind::Tombstone))
}

impl<S: RowsSnapshot> ShardSnapshot<S> {
    /// All rows of `keys`, the first of them from its row `from` on: at least one, and no more
    /// once their bytes reach `bytes_max`. A key without rows is absent.
    pub fn rows_of_keys(
        &self,
        keys: &[Vec<u8>],
        from: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<KeysChunk, StoreError> {
        let mut chunk = KeysChunk::default();
        let mut bytes = 0;
        let mut from = from;
        for key in keys {
            let own = KeyRows::new(key);
            if from.is_some_and(|from| !from.starts_with(own.prefix())) {
                return Err(bad_row(from.unwrap_or_default()));
            }
            // The rows of the indexes come with the last of its own, however large they are.
            let mut cut = None;
            rows_of(
                &|a, b, v| self.rows.scan(a, b, v),
                key,
                from,
                &mut |row, value| {
                    let may_stop = row.first() == Some(&KEY) && !chunk.rows.is_empty();
                    if bytes >= bytes_max && may_stop {
                        cut = Some(row.to_vec());
                        return false;
                    }
                    bytes += row.len() + value.len();
                    let row = Bytes::copy_from_slice(row);
                    chunk.rows.push((row, Bytes::copy_from_slice(value)));
                    true
                },
            )?;
            if cut.is_some() {
                chunk.next = cut;
                return Ok(chunk);
            }
            from = None;
            chunk.done += 1;
        }
        Ok(chunk)
    }
}

impl<R: Rows> ShardStore<R> {
    /// Takes the store back to `common`, an entry that it has applied: `rows` are all rows of
    /// `keys` as of `until`, a position of the log that follows `common` from here on. Every
    /// key that an applied entry above `common` touched must be among `keys`. Durable, whole or
    /// not at all, when it returns.
    pub fn rewind(
        &mut self,
        common: Position,
        keys: BTreeSet<Bytes>,
        rows: &[(Bytes, Bytes)],
        until: Position,
    ) -> Result<(), StoreError> {
        self.check_serving()?;
        let mut applied = self.applied.clone();
        if !applied.history.contains(common, applied.position.index) || until.index < common.index {
            let (applied, entry) = (applied.position, common);
            return Err(StoreError::Gap { applied, entry });
        }
        let mut changes: BTreeMap<Vec<u8>, Option<&Bytes>> = BTreeMap::new();
        let mut failed = None;
        for key in &keys {
            rows_of(
                &|a, b, v| self.rows.scan(a, b, v),
                key,
                None,
                &mut |row, value| {
                    match is_live(row, value) {
                        Ok(live) => applied.keys = applied.keys.saturating_sub(live.into()),
                        Err(error) => failed = Some(error),
                    }
                    if !planted::is(Bug::RewindByMerging) {
                        changes.insert(row.to_vec(), None);
                    }
                    failed.is_none()
                },
            )?;
        }
        for (row, value) in rows {
            let key = check_copied(row, value)?.key;
            if !keys.contains(key) {
                return Err(bad_row(row));
            }
            if changes
                .insert(row.to_vec(), Some(value))
                .flatten()
                .is_none()
            {
                applied.keys += u64::from(is_live(row, value)?);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let mut batch = RowBatch::new();
        for (row, value) in changes {
            match value {
                Some(value) => batch.put(&row, value),
                None => batch.remove(&row),
            }
        }
        // The stamp stays: whatever this replica writes as a primary passes the lost tail's.
        applied.position = common;
        applied.history.truncate_after(common.index);
        put_applied(&mut batch, &applied);
        let rewinding = Rewinding { until, keys };
        let ahead = until.index > common.index;
        if ahead {
            batch.put(REWINDING, &rewinding.encode());
        }
        self.rows.write(&mut batch)?;
        self.applied = applied;
        self.rewinding = ahead.then_some(rewinding);
        self.clear_cache();
        self.news = News::ANYTHING;
        self.expiring = Counting::begin();
        self.rows.flush()
    }

    /// The position that it must reach before it serves again, after a rewind.
    pub fn rewinding_until(&self) -> Option<Position> {
        self.rewinding.as_ref().map(Rewinding::until)
    }

    /// Puts the rows of all fetched keys into a batch that replaces everything. How many of
    /// the keys are there.
    pub(super) fn put_fetched(
        &self,
        fetched: &Rewinding,
        batch: &mut RowBatch,
    ) -> Result<u64, StoreError> {
        let mut live = 0;
        let mut failed = None;
        for key in &fetched.keys {
            rows_of(
                &|a, b, v| self.rows.scan(a, b, v),
                key,
                None,
                &mut |row, value| {
                    match is_live(row, value) {
                        Ok(is_live) => live += u64::from(is_live),
                        Err(error) => failed = Some(error),
                    }
                    batch.put(row, value);
                    failed.is_none()
                },
            )?;
        }
        failed.map_or(Ok(live), Err)
    }
}
