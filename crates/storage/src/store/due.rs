//! What the primary looks for now and then: keys whose time is over, and dead cells to purge.
//!
//! Both are found by an index: expiry rows in the order of time, purge rows in that of keys. A
//! row that went leaves a marker in the files below for a while, and a look from the beginning
//! steps over all of them; so a look goes on where the last one ended, and what was put since
//! then is told by [`ShardStore::take_news`].

use super::{
    error::StoreError,
    layout::{EXPIRY, KeyRows, PURGE, cell, expiry_row, purge_row},
    rows::{RowBatch, Rows},
    shard::ShardStore,
};
use bytes::Bytes;
use model::{Stamp, mutation::KeyKind};

/// Expiry rows that one call of [`ShardStore::expired`] looks at, stale ones included.
const EXPIRY_ROWS_MAX: usize = 4096;
/// Field rows that one call of [`ShardStore::to_purge`] looks at.
const PURGE_ROWS_MAX: usize = 16_384;
/// Keys that it looks at.
const PURGE_KEYS_MAX: usize = 256;

/// What was put since it was asked for last, of what the primary looks for now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The earliest time at which a key that was put expires; [`u64::MAX`]: none does.
    pub expires_ms: u64,
    /// Whether a deletion may have left dead cells.
    pub dead: bool,
}

impl News {
    pub(super) const ANYTHING: News = News {
        expires_ms: 0,
        dead: true,
    };
    pub(super) const NONE: News = News {
        expires_ms: u64::MAX,
        dead: false,
    };

    pub(super) fn add(&mut self, more: News) {
        self.expires_ms = self.expires_ms.min(more.expires_ms);
        self.dead |= more.dead;
    }
}

/// Where in the index of expiry a look begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryPlace(Vec<u8>);

impl ExpiryPlace {
    /// Before all keys that expire at `ms` or later.
    pub fn at(ms: u64) -> Self {
        ExpiryPlace([&[EXPIRY][..], &ms.to_be_bytes()].concat())
    }
}

/// What a look at the index of expiry has found.
#[derive(Debug)]
pub struct Expired {
    /// Keys whose time is over, the earliest first; they are there until their deletion is
    /// applied.
    pub keys: Vec<Bytes>,
    /// Where to go on, and the time that was come to, if there may be more of them.
    pub more: Option<(ExpiryPlace, u64)>,
    /// If not: when the next key expires; [`u64::MAX`] if none does.
    pub next_ms: u64,
}

/// Where a look for dead cells begins: the key, and the first of its fields that was not looked
/// at, as it stands in its row behind the tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadPlace {
    key: Vec<u8>,
    field: Vec<u8>,
}

/// Dead cells of one key.
#[derive(Debug)]
pub struct Dead {
    /// The key.
    pub key: Bytes,
    /// The fields that have them.
    pub fields: Vec<Bytes>,
    /// Those written up to then are dead.
    pub deleted: Stamp,
    /// Whether that is all of them.
    pub all: bool,
}

impl<R: Rows> ShardStore<R> {
    /// What was put since this was asked last; of a store just opened, filled or rewound,
    /// anything.
    pub fn take_news(&mut self) -> News {
        std::mem::replace(&mut self.news, News::NONE)
    }

    /// Up to `limit` keys from `from` on whose time is over at shard time `now_ms`. Drops stale
    /// rows of the index on the way.
    pub fn expired(
        &mut self,
        now_ms: u64,
        from: &ExpiryPlace,
        limit: usize,
    ) -> Result<Expired, StoreError> {
        self.check_serving()?;
        let mut rows: Vec<Vec<u8>> = Vec::new();
        let rows_max = EXPIRY_ROWS_MAX.max(limit);
        let mut next_ms = u64::MAX;
        let mut more = None;
        let mut failed = None;
        self.rows.scan(&from.0, &[EXPIRY + 1], &mut |row, _| {
            match expiry_row(row) {
                Ok((at, _)) if at > now_ms => next_ms = at,
                Ok((at, _)) if rows.len() == rows_max => {
                    more = Some((ExpiryPlace(row.to_vec()), at));
                }
                Ok(_) => {
                    rows.push(row.to_vec());
                    return true;
                }
                Err(error) => failed = Some(error),
            }
            false
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut stale = RowBatch::new();
        let mut keys = Vec::new();
        for row in rows {
            let (at, key) = expiry_row(&row)?;
            if keys.len() >= limit {
                more = Some((ExpiryPlace(row), at));
                break;
            }
            match self.header(key)? {
                Some(h) if h.kind != KeyKind::Tombstone && h.expires_ms == at => {
                    keys.push(Bytes::copy_from_slice(key));
                }
                _ => {
                    stale.remove(&row);
                    self.expiring.removed(&row, at);
                }
            }
        }
        if !stale.is_empty() {
            self.rows.write(&mut stale)?;
        }
        Ok(Expired {
            keys,
            more,
            next_ms,
        })
    }

    /// Keys with dead cells from `from` on, with up to `limit` of these in all; and where to go
    /// on, unless that was the last key.
    ///
    /// The caller turns them into ops: dead fields into a `RemoveFields` without a header, and
    /// behind that, for a key of which `all` are among them, the end: `Delete { tombstone: false }`
    /// for a tombstone or `SetHeader` with `deleted` zero for a key that lives again. A key with
    /// more gets its end only once a look at all of it finds no more than a call returns.
    pub fn to_purge(
        &self,
        from: &DeadPlace,
        limit: usize,
    ) -> Result<(Vec<Dead>, Option<DeadPlace>), StoreError> {
        self.check_serving()?;
        let mut keys = Vec::new();
        let begin = [&[PURGE][..], &from.key].concat();
        let keys_max = limit.clamp(1, PURGE_KEYS_MAX);
        self.rows.scan(&begin, &[PURGE + 1], &mut |row, _| {
            keys.push(row.to_vec());
            keys.len() <= keys_max
        })?;
        let (mut left, mut rows_left) = (limit.max(1), PURGE_ROWS_MAX);
        let mut dead = Vec::new();
        for row in keys {
            let prefix = row.get(1..).unwrap_or_default();
            let key = Bytes::copy_from_slice(purge_row(&row)?);
            let first = if prefix == from.key {
                &from.field[..]
            } else {
                &[]
            };
            let place = |field: &[u8]| DeadPlace {
                key: prefix.to_vec(),
                field: field.to_vec(),
            };
            if left == 0 || rows_left == 0 || dead.len() == keys_max {
                return Ok((dead, Some(place(first))));
            }
            let (of_key, next) = self.dead_of(&key, first, &mut left, &mut rows_left)?;
            dead.push(of_key);
            if let Some(next) = next {
                return Ok((dead, Some(place(&next))));
            }
        }
        Ok((dead, None))
    }

    /// Dead cells of one key from this field on, and the first field not looked at, if any.
    fn dead_of(
        &self,
        key: &Bytes,
        first: &[u8],
        left: &mut usize,
        rows_left: &mut usize,
    ) -> Result<(Dead, Option<Vec<u8>>), StoreError> {
        let Some(header) = self.header(key)? else {
            return Err(StoreError::damaged("a purge row without its key"));
        };
        let rows = KeyRows::new(key);
        let (from, to) = rows.fields_behind(first);
        let mut fields = Vec::new();
        let mut next = None;
        let mut failed = None;
        self.rows.scan(&from, &to, &mut |row, value| {
            if *left == 0 || *rows_left == 0 {
                next = Some(rows.rest_of(row).to_vec());
                return false;
            }
            *rows_left -= 1;
            match cell(row, value) {
                Ok((stamp, _)) if stamp <= header.deleted => {
                    *left -= 1;
                    fields.push(Bytes::copy_from_slice(rows.field_of(row)));
                }
                Ok(_) => {}
                Err(e) => failed = Some(e),
            }
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let dead = Dead {
            key: key.clone(),
            fields,
            deleted: header.deleted,
            all: first.is_empty() && next.is_none(),
        };
        Ok((dead, next))
    }
}
