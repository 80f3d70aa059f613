//! How many keys expire, and when on average: for people, counted in memory alone.
//!
//! The index of expiry has one row for each key that expires. It is gone through once, a part at a
//! time, and what is put or removed where it was counted already changes the count:
//!
//! ```text
//!  index of expiry  ──── counted ────┤──── not yet ────▶ time
//!                                   upto
//! ```
//! Until its end is reached nothing is said; from then on the count is exact, as long as every
//! row that is put is new and every row that is removed is there. That holds since whoever
//! writes ops changes a header, which is looked up here, where a key that expires becomes one
//! that does not (`commands` does). A copy or a rewind, which write rows past this, begin anew.

use super::{
    error::StoreError,
    layout::{EXPIRY, expiry_row},
    rows::Rows,
    shard::ShardStore,
};

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counting {
    /// The rows before this are counted; None: all are.
    upto: Option<Vec<u8>>,
    keys: u64,
    /// The times at which they expire, added up.
    sum_ms: u128,
}

impl Counting {
    /// Nothing is counted yet.
    pub(super) fn begin() -> Self {
        Counting {
            upto: Some(vec![EXPIRY]),
            ..Counting::nothing()
        }
    }

    /// There is nothing to count.
    pub(super) fn nothing() -> Self {
        Counting {
            upto: None,
            keys: 0,
            sum_ms: 0,
        }
    }

    fn has_counted(&self, row: &[u8]) -> bool {
        self.upto.as_ref().is_none_or(|upto| row < &upto[..])
    }

    /// A row is put that was not there.
    pub(super) fn put(&mut self, row: &[u8], expires_ms: u64) {
        if self.has_counted(row) {
            self.keys += 1;
            self.sum_ms += u128::from(expires_ms);
        }
    }

    /// A row is removed that was there.
    pub(super) fn removed(&mut self, row: &[u8], expires_ms: u64) {
        if self.has_counted(row) {
            self.keys = self.keys.saturating_sub(1);
            self.sum_ms = self.sum_ms.saturating_sub(expires_ms.into());
        }
    }
}

impl<R: Rows> ShardStore<R> {
    /// How many keys expire, and the times at which they do added up, expired ones that were not
    /// deleted yet included. None while they are not all counted.
    pub fn expiring(&self) -> Option<(u64, u128)> {
        let Counting { upto, keys, sum_ms } = &self.expiring;
        (upto.is_none() && self.check_serving().is_ok()).then_some((*keys, *sum_ms))
    }

    /// Counts up to `rows_max` rows more; how many it did.
    pub fn count_expiring(&mut self, rows_max: usize) -> Result<usize, StoreError> {
        let Some(from) = self.expiring.upto.take() else {
            return Ok(0);
        };
        if self.check_serving().is_err() {
            self.expiring.upto = Some(from);
            return Ok(0);
        }
        let (mut rows, mut failed) = (0, None);
        let counting = &mut self.expiring;
        let scanned = self.rows.scan(&from, &[EXPIRY + 1], &mut |row, _| {
            if rows == rows_max {
                counting.upto = Some(row.to_vec());
                return false;
            }
            match expiry_row(row) {
                Ok((at, _)) => {
                    rows += 1;
                    counting.keys += 1;
                    counting.sum_ms += u128::from(at);
                    true
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        if let Some(error) = scanned.err().or(failed) {
            self.expiring = Counting::begin();
            return Err(error);
        }
        Ok(rows)
    }
}
