//! A model of the store for the simulator: ordered rows in memory, on a "disk" that outlives
//! its handles and that comes back from a crash at any batch boundary at or above the last
//! flush.

use super::{
    error::StoreError,
    layout::APPLIED,
    prefetch::Prefetch,
    rows::{Found, Pressure, RowBatch, RowStats, Rows, RowsSnapshot, Stores, Visit},
};
use bytes::Bytes;
use model::ShardId;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

type Table = BTreeMap<Vec<u8>, Bytes>;

/// Unflushed bytes above which [`Rows::maintain`] flushes, as the real store does.
const UNFLUSHED_BYTES_MAX: usize = 1 << 20;

/// What would be found after a crash: `flushed`, and then any number of `batches`.
#[derive(Debug, Default)]
struct Disk {
    flushed: Table,
    batches: Vec<RowBatch>,
    unflushed_bytes: usize,
    /// Counts openings and crashes: a handle of an earlier life is refused.
    life: u64,
    damage: Arc<OnceLock<String>>,
}

impl Disk {
    /// Makes the first `count` batches part of what is flushed, and forgets the others.
    fn settle(&mut self, count: usize) {
        for batch in self.batches.drain(..).take(count) {
            write(&mut self.flushed, &batch);
        }
        self.unflushed_bytes = 0;
    }
}

fn write(table: &mut Table, batch: &RowBatch) {
    for (key, value) in batch.rows() {
        match value {
            Some(value) => table.insert(key.to_vec(), Bytes::copy_from_slice(value)),
            None => table.remove(key),
        };
    }
}

fn scan(table: &Table, from: &[u8], to: &[u8], visit: Visit<'_>) {
    if from >= to {
        return;
    }
    for (key, value) in table.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
        if !visit(key, value) {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves whole batches here at worst.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One shard's rows in memory.
#[derive(Debug)]
pub struct MemoryRows {
    shard: ShardId,
    disk: Arc<Mutex<Disk>>,
    life: u64,
    damage: Arc<OnceLock<String>>,
    /// Everything written. Shared with snapshots, copied when written to while one is held.
    rows: Arc<Table>,
}

impl MemoryRows {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        let disk = lock(&self.disk);
        if disk.life == self.life {
            Ok(disk)
        } else {
            Err(StoreError::Retired { shard: self.shard })
        }
    }
}

impl Rows for MemoryRows {
    type Snapshot = MemorySnapshot;

    fn find(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        // Some are recent and some are not, for the same key always.
        let recent = key.len().is_multiple_of(2);
        let value = self.rows.get(key).cloned();
        Ok(value.map(|value| Found { value, recent }))
    }

    /// Always: whoever looks ahead and does not wait is found out.
    fn is_cold(&self) -> bool {
        true
    }

    fn prefetch(&self, rows: Vec<Vec<u8>>) -> Option<Prefetch> {
        (!rows.is_empty()).then(|| Prefetch::new(|| ()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        scan(&self.rows, from, to, visit);
        Ok(())
    }

    fn write(&mut self, batch: &mut RowBatch) -> Result<(), StoreError> {
        write(Arc::make_mut(&mut self.rows), batch);
        let mut disk = self.disk()?;
        disk.unflushed_bytes += batch.bytes();
        disk.batches.push(std::mem::take(batch));
        Ok(())
    }

    fn reset(&mut self, batch: &mut RowBatch) -> Result<(), StoreError> {
        let mut table = Table::new();
        write(&mut table, batch);
        batch.clear();
        let mut disk = self.disk()?;
        disk.settle(0);
        disk.flushed.clone_from(&table);
        drop(disk);
        self.rows = Arc::new(table);
        Ok(())
    }

    fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot(self.rows.clone())
    }

    fn flushed_applied(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.disk()?.flushed.get(APPLIED).cloned())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let mut disk = self.disk()?;
        let all = disk.batches.len();
        disk.settle(all);
        Ok(())
    }

    fn flush_soon(&mut self) -> Result<(), StoreError> {
        self.flush()
    }

    fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    fn maintain(&mut self) -> Result<Pressure, StoreError> {
        if self.disk()?.unflushed_bytes > UNFLUSHED_BYTES_MAX {
            self.flush()?;
        }
        Ok(Pressure::default())
    }

    fn stats(&self) -> RowStats {
        RowStats {
            unflushed_bytes: lock(&self.disk).unflushed_bytes as u64,
            ..RowStats::default()
        }
    }
}

/// Rows in memory as they were.
#[derive(Clone, Debug)]
pub struct MemorySnapshot(Arc<Table>);

impl RowsSnapshot for MemorySnapshot {
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        scan(&self.0, from, to, visit);
        Ok(())
    }
}

/// The rows of one node's shards in memory. A clone is the same disk: keep one to open the
/// stores again after the node died.
#[derive(Clone, Debug, Default)]
pub struct MemoryStores {
    disks: Arc<Mutex<BTreeMap<ShardId, Arc<Mutex<Disk>>>>>,
}

impl MemoryStores {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk that holds what of this one is flushed now.
    pub fn copy(&self) -> Self {
        let disks = lock(&self.disks);
        let copies = disks.iter().map(|(shard, disk)| {
            let copy = Disk {
                flushed: lock(disk).flushed.clone(),
                ..Disk::default()
            };
            (*shard, Arc::new(Mutex::new(copy)))
        });
        MemoryStores {
            disks: Arc::new(Mutex::new(copies.collect())),
        }
    }

    /// What there is of a shard decays: whoever has it open can be told so, and it can't be opened
    /// again.
    pub fn damage(&self, shard: ShardId, what: &str) {
        if let Some(disk) = lock(&self.disks).get(&shard) {
            // What was found first counts.
            let _ = lock(disk).damage.set(what.to_owned());
        }
    }

    /// The node dies: each shard is left at some batch boundary at or above its last flush,
    /// which one being drawn from `seed`. Handles opened before are refused from now on.
    /// Returns how many batches were lost.
    pub fn crash(&self, seed: u64) -> usize {
        let mut lost = 0;
        for (shard, disk) in lock(&self.disks).iter() {
            let mut disk = lock(disk);
            let all = disk.batches.len();
            let draw = xxhash_rust::xxh3::xxh3_64_with_seed(&shard.0.to_le_bytes(), seed);
            let kept = (draw % (all as u64 + 1)) as usize;
            disk.settle(kept);
            disk.life += 1;
            lost += all - kept;
        }
        lost
    }
}

impl Stores for MemoryStores {
    type Rows = MemoryRows;

    fn open(&self, shard: ShardId) -> Result<MemoryRows, StoreError> {
        let disk = lock(&self.disks).entry(shard).or_default().clone();
        let mut held = lock(&disk);
        if let Some(what) = held.damage.get() {
            return Err(StoreError::damaged(what));
        }
        let damage = held.damage.clone();
        let all = held.batches.len();
        held.settle(all);
        held.life += 1;
        let life = held.life;
        let rows = Arc::new(held.flushed.clone());
        drop(held);
        Ok(MemoryRows {
            shard,
            disk,
            life,
            damage,
            rows,
        })
    }

    fn list(&self) -> Result<Vec<ShardId>, StoreError> {
        Ok(lock(&self.disks).keys().copied().collect())
    }

    fn replace(&self, shard: ShardId, mut rows: RowBatch) -> Result<MemoryRows, StoreError> {
        self.destroy(shard)?;
        let mut opened = self.open(shard)?;
        opened.reset(&mut rows)?;
        Ok(opened)
    }

    fn destroy(&self, shard: ShardId) -> Result<(), StoreError> {
        if let Some(disk) = lock(&self.disks).remove(&shard) {
            lock(&disk).life += 1;
        }
        Ok(())
    }
}
