//! Reading what follows each other: the keys of a shard, the fields of a hash. Both from a
//! cursor on, and no further than the caller says, so that a part costs what the part does
//! however much lies behind it.

use super::{
    error::StoreError,
    layout::{
        KEY, KeyRow, KeyRows, bad_value, cell, decode_header, field_cursor_of, key_row, place,
        row_after_key, row_at_place,
    },
    rows::Rows,
    shard::ShardStore,
};
use model::{
    Stamp,
    mutation::{Header, KeyKind},
    work::of_value,
};

/// Field rows that [`ShardStore::scan`] steps over before it seeks past a key.
const STEP_ROWS_MAX: u64 = 32;

/// What stepping to a row costs, in bytes that could be copied meanwhile: the unit of
/// [`Passed::work`] is a byte.
pub const ROW_WORK: u64 = 512;

/// Called with a field's cursor, the field and its value, and its stamp; false ends the scan.
type VisitField<'a> = &'a mut dyn FnMut(u64, (&[u8], &[u8]), Stamp) -> bool;

/// How far a scan went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The cursor to go on from; 0 at the end.
    pub next: u64,
    /// The rows that it stepped over, shown or not: [`ROW_WORK`] for each, its bytes, and its value
    /// once more, since mostly it is replied.
    pub work: u64,
}

impl Passed {
    fn row(&mut self, row: &[u8], value: &[u8]) {
        self.work += ROW_WORK + row.len() as u64 + of_value(2 * value.len());
    }
}

impl<R: Rows> ShardStore<R> {
    /// Visits the live fields of the hash whose header is `header`, from `cursor` on (0 to
    /// begin): all, unless there are more than `count`, or stepping over them, dead ones
    /// included, takes more than `work`. Those whose cursors are equal are visited together,
    /// and all of a hash that is held in one piece. A field that is there from the first call to
    /// the last is visited, once.
    pub fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        (count, work): (usize, u64),
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, StoreError> {
        let mut passed = Passed::default();
        if let Some(fields) = self.small(key, header)? {
            for (field, value) in fields.iter() {
                if cursor == 0 || field_cursor_of(field) >= cursor {
                    passed.row(field, value);
                    visit(field, value);
                }
            }
            return Ok(passed);
        }
        let Ok(from) = u32::try_from(cursor) else {
            return Ok(passed); // Behind the last.
        };
        let mut left = count.max(1);
        let mut last = None;
        self.read_fields(key, from, &mut |at, (field, value), stamp| {
            if (left == 0 || passed.work > work) && last.is_some_and(|last| last != at) {
                passed.next = at;
                return false;
            }
            last = Some(at);
            passed.row(field, value);
            if stamp > header.deleted {
                left = left.saturating_sub(1);
                visit(field, value);
            }
            true
        })?;
        Ok(passed)
    }

    /// Visits the field rows of a key from a cursor on, with cursor and stamp, until `visit`
    /// returns false.
    pub(super) fn read_fields(
        &self,
        key: &[u8],
        from: u32,
        visit: VisitField<'_>,
    ) -> Result<(), StoreError> {
        let rows = KeyRows::new(key);
        let (from, to) = rows.fields(from);
        let mut failed = None;
        self.rows
            .scan(&from, &to, &mut |row, value| match cell(row, value) {
                Ok((stamp, value)) => {
                    let field = rows.field_of(row);
                    visit(rows.field_cursor(row), (field, value), stamp)
                }
                Err(e) => {
                    failed = Some(e);
                    false
                }
            })?;
        failed.map_or(Ok(()), Err)
    }

    /// Visits keys that are there, from `cursor` on (0 to begin): `count`, unless the end is
    /// reached or stepping over their rows takes more than `work`. A key that is there from the
    /// first call to the last is visited, once; keys come in order of slot and hash. A few more
    /// come where hashes are equal.
    pub fn scan(
        &self,
        cursor: u64,
        (count, work): (usize, u64),
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, StoreError> {
        self.check_serving()?;
        let mut from = row_at_place(cursor);
        let mut passed = Passed::default();
        let mut left = count.max(1);
        let mut last = None;
        loop {
            let mut again = None;
            let mut failed = None;
            self.rows.scan(&from, &[KEY + 1], &mut |row, value| {
                let mut step = || -> Result<bool, StoreError> {
                    let KeyRow::Head { key } = key_row(row)? else {
                        passed.row(row, value);
                        return Ok(true);
                    };
                    let at = place(row);
                    let is_over = left == 0 || passed.work > work;
                    if is_over && last.is_some_and(|last| last != at) {
                        passed.next = at;
                        return Ok(false);
                    }
                    passed.row(row, value);
                    last = Some(at);
                    let header = decode_header(value).map_err(|e| bad_value(row, &e))?;
                    if header.kind != KeyKind::Tombstone {
                        visit(key, &header);
                        left = left.saturating_sub(1);
                    }
                    if header.fields > STEP_ROWS_MAX || header.deleted != Stamp::ZERO {
                        again = Some(row_after_key(row)?);
                        return Ok(false);
                    }
                    Ok(true)
                };
                step().unwrap_or_else(|e| {
                    failed = Some(e);
                    false
                })
            })?;
            match (failed, again) {
                (Some(error), _) => return Err(error),
                (None, Some(next)) => from = next,
                (None, None) => return Ok(passed),
            }
        }
    }
}
