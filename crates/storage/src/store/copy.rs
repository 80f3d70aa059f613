//! A full copy of a shard: pinned at one position and read in chunks by the sender, written
//! into an emptied store by the receiver while the sender goes on writing.

use super::{
    due::News,
    error::StoreError,
    layout::{Applied, END, FORMAT, FORMAT_VERSION, INSTALLING, LOCAL, check_copied},
    rows::{RowBatch, Rows, RowsSnapshot},
    shard::{ShardStore, put_applied},
};
use bytes::Bytes;

/// A shard as it was at one position. Holding it costs the files that it sees.
pub struct ShardSnapshot<S> {
    pub(super) rows: S,
    pub(super) applied: Applied,
}

/// Some rows of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Row keys and values, in order.
    pub rows: Vec<(Bytes, Bytes)>,
    /// The row to ask for next; None at the end.
    pub next: Option<Vec<u8>>,
}

impl<S: RowsSnapshot> ShardSnapshot<S> {
    /// The position it is pinned at, and what goes with it.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// The rows from `from` (None: the first) on, without local ones: at least one, and no
    /// more once their bytes reach `bytes_max`.
    pub fn next_chunk(&self, from: Option<&[u8]>, bytes_max: usize) -> Result<Chunk, StoreError> {
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        self.rows
            .scan(from.unwrap_or_default(), END, &mut |row, value| {
                if row.first() == Some(&LOCAL) {
                    return true;
                }
                if bytes >= bytes_max && !chunk.rows.is_empty() {
                    chunk.next = Some(row.to_vec());
                    return false;
                }
                bytes += row.len() + value.len();
                let row = Bytes::copy_from_slice(row);
                chunk.rows.push((row, Bytes::copy_from_slice(value)));
                true
            })?;
        Ok(chunk)
    }
}

impl<R: Rows> ShardStore<R> {
    /// Pins the shard as it is now.
    pub fn snapshot(&self) -> Result<ShardSnapshot<R::Snapshot>, StoreError> {
        self.check_serving()?;
        Ok(ShardSnapshot {
            rows: self.rows.snapshot(),
            applied: self.applied.clone(),
        })
    }

    /// Empties the store, durably, to take a copy. Begin again at will.
    pub fn begin_install(&mut self) -> Result<(), StoreError> {
        let mut batch = RowBatch::new();
        batch.put(FORMAT, &[FORMAT_VERSION]);
        batch.put(INSTALLING, &[]);
        self.rows.reset(&batch)?;
        self.clear_cache();
        self.applied = Applied::default();
        self.rewinding = None;
        self.installing = true;
        self.lost_to = None;
        Ok(())
    }

    /// Whether its store was damaged, which is set aside, and why: it is empty, and nothing of the
    /// shard's log that others may lack has been saved yet. Until a copy is begun.
    pub fn lost_to(&self) -> Option<&str> {
        self.lost_to.as_deref()
    }

    /// The rows that take the place of a store that is `damaged`.
    pub fn in_place_of_damaged(damaged: &str) -> RowBatch {
        let mut batch = RowBatch::new();
        batch.put(FORMAT, &[FORMAT_VERSION]);
        batch.put(INSTALLING, damaged.as_bytes());
        batch
    }

    /// Takes rows of a copy, in any order, each once or more often; returns how many of them are
    /// key rows. Rows that are not well-formed are refused, with all of their chunk.
    pub fn install_chunk(&mut self, rows: &[(Bytes, Bytes)]) -> Result<u64, StoreError> {
        if !self.installing {
            return Err(StoreError::NotInstalling);
        }
        let mut batch = RowBatch::new();
        let mut keys = 0;
        for (row, value) in rows {
            keys += u64::from(check_copied(row, value)?.is_head);
            batch.put(row, value);
        }
        self.rows.write(&batch)?;
        Ok(keys)
    }

    /// All rows are here: the store is now at `applied`, durably.
    pub fn finish_install(&mut self, applied: Applied) -> Result<(), StoreError> {
        if !self.installing {
            return Err(StoreError::NotInstalling);
        }
        let mut batch = RowBatch::new();
        batch.remove(INSTALLING);
        put_applied(&mut batch, &applied);
        self.rows.write(&batch)?;
        self.rows.flush()?;
        self.applied = applied;
        self.installing = false;
        self.news = News::ANYTHING;
        Ok(())
    }

    /// Whether a copy is under way, or was cut short by a crash: it must begin again.
    pub fn is_installing(&self) -> bool {
        self.installing
    }
}
