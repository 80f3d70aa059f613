//! The narrow trait over ordered rows, and what its implementations promise:
//!
//! - A batch is visible, and survives a crash, whole or not at all.
//! - A crash loses no batch at or before the last flush, and loses later ones only from the
//!   end.
//! - [`Rows::reset`] and [`Rows::flush`] are durable when they return.
//! - A snapshot stays as it was, whatever is written, flushed or reset afterwards.

use super::{error::StoreError, prefetch::Prefetch};
use bytes::Bytes;
use model::ShardId;
use std::any::Any;

/// The longest key of a row, in bytes.
pub(super) const ROW_KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Start of a row's key, end of the key, end of the value; None: remove.
pub(super) type Span = (usize, usize, Option<usize>);

/// Rows to put and to remove in one stroke. Where it names a row twice, the later one holds.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    data: Vec<u8>,
    /// Where they are in `data`.
    rows: Vec<Span>,
}

impl RowBatch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for rows of so many bytes, keys and values.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.data.reserve(bytes);
    }

    /// Puts a row.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.put_with(key, |out| out.extend_from_slice(value));
    }

    /// Puts a row whose value `write` appends.
    pub fn put_with(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.data.len();
        self.data.extend_from_slice(key);
        let middle = self.data.len();
        write(&mut self.data);
        self.rows.push((start, middle, Some(self.data.len())));
    }

    /// Removes a row, if it is there.
    pub fn remove(&mut self, key: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(key);
        self.rows.push((start, self.data.len(), None));
    }

    /// Key and value, None to remove it, in the order they were added.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|&(start, middle, end)| {
            let value = end.map(|end| &self.data[middle..end]);
            (&self.data[start..middle], value)
        })
    }

    /// All keys and values, and where in them each row stands.
    pub(super) fn parts(&self) -> (&[u8], &[Span]) {
        (&self.data, &self.rows)
    }

    /// The same, taken out: it is empty, and has no room.
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<Span>) {
        (
            std::mem::take(&mut self.data),
            std::mem::take(&mut self.rows),
        )
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Bytes of keys and values for which it has allocated.
    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Empties it; its room is kept for the next.
    pub fn clear(&mut self) {
        self.data.clear();
        self.rows.clear();
    }
}

/// What a scan calls with each row; false stops it.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// Reads all files of a shard's rows, wherever blocking is allowed. It tells how many bytes it has
/// read since it told last, and ends when it is answered false.
pub type ScrubFiles = Box<dyn FnOnce(&mut dyn FnMut(u64) -> bool) + Send>;

/// A row that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its value.
    pub value: Bytes,
    /// Whether it is at hand still, as it was written lately: looking it up again costs no more
    /// than a cache would.
    pub recent: bool,
}

/// Ordered rows of one shard. One thread owns it.
pub trait Rows {
    /// A view at a batch boundary.
    type Snapshot: RowsSnapshot;

    /// A row.
    fn find(&self, key: &[u8]) -> Result<Option<Found>, StoreError>;

    /// The value of a row.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.find(key)?.map(|found| found.value))
    }

    /// Whether looking up rows has lately meant to wait for a disk.
    fn is_cold(&self) -> bool {
        false
    }

    /// What brings those of `rows` into memory that may not be there, if there are any.
    fn prefetch(&self, _rows: Vec<Vec<u8>>) -> Option<Prefetch> {
        None
    }

    /// Visits the rows from `from` up to, not including, `to`, in order.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Writes a batch, and leaves it empty. It is visible when this returns, and durable after the
    /// next flush.
    fn write(&mut self, batch: &mut RowBatch) -> Result<(), StoreError>;

    /// Puts the rows of `batch` in place of everything there is, and leaves it empty. Durable when it
    /// returns;
    /// after a crash in the middle either all old rows (as after any crash) or exactly the
    /// new ones are there. Costs a few syncs, however much there was.
    fn reset(&mut self, batch: &mut RowBatch) -> Result<(), StoreError>;

    /// A view pinned at the last batch.
    fn snapshot(&self) -> Self::Snapshot;

    /// The value of the applied row (see `layout`) that would be found after a crash now, or a
    /// later one.
    fn flushed_applied(&self) -> Result<Option<Bytes>, StoreError>;

    /// Makes all that was written durable; waits for it.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// The same without waiting: for a cold shard that pins the log.
    fn flush_soon(&mut self) -> Result<(), StoreError>;

    /// Drops what takes long to drop; elsewhere, if there is such a place.
    fn reap(&self, gone: Box<dyn Any + Send>) {
        drop(gone);
    }

    /// What of its files was found to be damaged, by whoever read it: what they hold can't all be
    /// read any more.
    fn damage(&self) -> Option<&str> {
        None
    }

    /// What looks through its files for damage, if it has any.
    fn scrub(&self) -> Option<ScrubFiles> {
        None
    }

    /// Bounded upkeep, to be called after batches: starts flushes and compactions where they
    /// are due, and says how much to slow writers down. An error means that the background
    /// work fails (a full disk); it is being tried again.
    fn maintain(&mut self) -> Result<Pressure, StoreError>;

    /// Figures for metrics.
    fn stats(&self) -> RowStats;
}

/// A view of rows that stays as it was.
pub trait RowsSnapshot: Send + 'static {
    /// See [`Rows::scan`].
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;
}

/// How far the background work is behind the writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// How long to wait before the next batch, in microseconds. Grows gradually with the
    /// backlog and with the bytes written since it was last asked.
    pub delay_us: u32,
    /// Write nothing until this is lifted: memory or tables would pile up without bound.
    pub stop: bool,
}

/// Figures of one shard's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowStats {
    /// Bytes not flushed yet.
    pub unflushed_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Sorted files that a read may have to look into besides the levels.
    pub runs: u64,
}

/// Where the rows of a node's shards are kept.
pub trait Stores {
    /// What it opens.
    type Rows: Rows;

    /// Opens a shard's rows, empty if there were none. A handle opened before must be gone.
    fn open(&self, shard: ShardId) -> Result<Self::Rows, StoreError>;

    /// The shards that have rows here, in order.
    fn list(&self) -> Result<Vec<ShardId>, StoreError>;

    /// Sets aside what there is of a shard's rows, for people, and opens `rows` in their place.
    /// Durable when it returns; after a crash in the middle either what was there, or an error
    /// that says that it is gone, or exactly the new rows are found. A handle must be gone.
    fn replace(&self, shard: ShardId, rows: RowBatch) -> Result<Self::Rows, StoreError>;

    /// Removes a shard's rows. Its handle must be gone.
    fn destroy(&self, shard: ShardId) -> Result<(), StoreError>;

    /// Does work that takes long and waits for the disk, elsewhere if there is such a place.
    fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
