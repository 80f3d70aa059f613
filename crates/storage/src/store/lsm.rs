//! Rows in an lsm-tree: one tree a shard, in a directory of its own.
//!
//! ```text
//! <dir>/<shard>/CURRENT     the name of the tree in use, "g" and a number, and a newline
//! <dir>/<shard>/g<number>/  that tree
//! <dir>/<shard>.gone        a shard that is being destroyed
//! <dir>/<shard>.new         what is to take the place of a damaged one
//! <dir>/<shard>.damaged-<n> what was damaged, for people: nothing removes it
//! <dir>.held                the shards that there should be (`held`)
//! ```
//! [`Rows::reset`] builds the next tree beside the one in use and then replaces `CURRENT`;
//! whichever tree it does not name is a leftover and is removed on opening. Before a tree is opened
//! its files are checked (`files`); what doesn't fit together is damage, and nothing is removed.
//!
//! How lsm-tree 3.1.10 is used, and why:
//! - For its files and compactions alone: what is not in a file yet is in [`Memtable`]s of
//!   ours, the tree's own stay empty. A flush hands rows to `flush_to_tables`, in order, and
//!   puts the files before all others with `register_tables`.
//! - Memtables are set aside between batches only, so what is flushed is whole batches.
//! - A flush takes one sequence number, from the counter that compactions use too. Reads take
//!   the newest version (sequence number MAX), a snapshot holds the version itself, by
//!   reference. Nothing is ever looked up by an old number (which panics once the version is
//!   gone), so every flush and compaction may drop all it supersedes.
//!
//! ```text
//! write ──▶ active ── full, or seen by a snapshot ──▶ sealed ── flushed ──▶ files
//!             newest      read in this order            ...                oldest
//! ```
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // the tree talks to the file system itself; so does its directory

use super::{
    background::{Background, Debt, flush},
    error::StoreError,
    files,
    generation::{current, file_error, remove_others, set_current, sync_dir},
    layout::APPLIED,
    memtable::{self, Memtable},
    prefetch::{Prefetch, Waits},
    pressure::pressure,
    rows::{
        Found, Pressure, ROW_KEY_BYTES_MAX, RowBatch, RowStats, Rows, RowsSnapshot, ScrubFiles,
        Visit,
    },
    stores::HeldList,
    writeback::{OfCompactions, Writeback},
};
use bytes::Bytes;
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, InternalValue, SeqNo,
    SequenceNumberCounter, UserKey, UserValue,
    config::{CompressionPolicy, PartitioningPolicy, PinningPolicy},
};
use model::{ShardId, limits::TooLong};
use std::{
    any::Any,
    cell::Cell,
    collections::VecDeque,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// A tree and what the background threads need to know of it.
pub(super) struct Tree {
    /// None before anything of it is in files: all of it is in memtables then, and in the log.
    files: OnceLock<lsm_tree::Tree>,
    birth: Birth,
    making: Mutex<()>,
    pub(super) path: PathBuf,
    pub(super) sequence: SequenceNumberCounter,
    visible: SequenceNumberCounter,
    pub(super) writeback: Arc<Writeback>,
    pub(super) debt: Debt,
    waits: Arc<Waits>,
    /// To be flushed, the oldest first.
    set_aside: Mutex<Vec<Arc<Memtable>>>,
    /// Replaced by another tree: its files go with the last reference to it.
    doomed: AtomicBool,
    /// What was found to be damaged, first.
    damage: OnceLock<String>,
}

/// What the files of a tree are made with.
struct Birth {
    /// The shard's directory.
    dir: PathBuf,
    generation: u64,
    /// Where it is noted that there are files, unless the directory is to be renamed.
    noted: Option<(HeldList, ShardId)>,
    blocks: Arc<Cache>,
    descriptors: Arc<DescriptorTable>,
}

impl Birth {
    /// Makes the shard's directory, and notes that there is one, durably.
    fn make_place(&self) -> Result<(), StoreError> {
        fs::create_dir_all(&self.dir).map_err(file_error(&self.dir))?;
        if let Some(parent) = self.dir.parent() {
            sync_dir(parent)?;
        }
        match &self.noted {
            Some((held, shard)) => held.with(|held| held.add(*shard)),
            None => Ok(()),
        }
    }
}

impl Tree {
    /// Its files, if it has any.
    pub(super) fn files(&self) -> Option<&lsm_tree::Tree> {
        self.files.get()
    }

    /// Its files, which are made if there are none.
    pub(super) fn made(&self) -> Result<&lsm_tree::Tree, StoreError> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        // Nothing is left half-done by who panics here.
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.get().is_none() && !self.is_doomed() {
            self.birth.make_place()?;
            let files = self.open_files()?;
            set_current(&self.birth.dir, self.birth.generation)?;
            let _ = self.files.set(files);
        }
        let unmade = || StoreError::damaged("a tree without files");
        self.files.get().ok_or_else(unmade) // it was set above, but for one that is doomed
    }

    fn open_files(&self) -> Result<lsm_tree::Tree, StoreError> {
        let path = self.path.clone();
        let of_compactions = OfCompactions(self.writeback.clone());
        let opened = Config::new(&path, self.sequence.clone(), self.visible.clone())
            .use_cache(self.birth.blocks.clone())
            .use_descriptor_table(Some(self.birth.descriptors.clone()))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .filter_block_partitioning_policy(PartitioningPolicy::all(false))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .with_compaction_filter_factory(Some(Arc::new(of_compactions)));
        // It asserts what a damaged file may break.
        let opened = panic::catch_unwind(AssertUnwindSafe(|| opened.open()));
        let Ok(opened) = opened else {
            let what = format!("{} can't be opened", path.display());
            return Err(StoreError::damaged(what));
        };
        let tree = match opened {
            Ok(AnyTree::Standard(tree)) => tree,
            Ok(AnyTree::Blob(_)) => {
                let what = format!("{} is a blob tree", path.display());
                return Err(StoreError::damaged(what));
            }
            Err(source) => return Err(StoreError::Tree { path, source }),
        };
        self.writeback.opened(&tree.table_id_counter);
        let first = tree.get_highest_persisted_seqno().map_or(1, |n| n + 1);
        self.sequence.set(first);
        self.visible.set(first);
        Ok(tree)
    }

    pub(super) fn set_aside(&self) -> MutexGuard<'_, Vec<Arc<Memtable>>> {
        // It is whole after each statement.
        self.set_aside
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.load(SeqCst)
    }

    /// The newest version of a row in the files.
    fn look_up(&self, row: &[u8]) -> lsm_tree::Result<Option<UserValue>> {
        match self.files() {
            Some(files) => self.waits.look_up(|| files.get(row, SeqNo::MAX)),
            None => Ok(None),
        }
    }

    pub(super) fn error(&self, source: lsm_tree::Error) -> StoreError {
        let path = self.path.clone();
        StoreError::Tree { path, source }
    }

    pub(super) fn failed(&self, source: lsm_tree::Error) -> StoreError {
        self.found(self.error(source))
    }

    /// Remembers an error if it means that a file is damaged.
    pub(super) fn found(&self, error: StoreError) -> StoreError {
        if error.is_damage() && self.damage.set(error.to_string()).is_ok() {
            tracing::error!(%error, "a store is damaged");
        }
        error
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.is_doomed()
            && self.files().is_some()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a replaced tree is left until the next start");
        }
    }
}

/// One shard's rows in an lsm-tree.
pub struct LsmRows {
    /// The shard's directory.
    dir: PathBuf,
    tree: Arc<Tree>,
    /// What is written goes here, unless a snapshot holds it.
    active: Arc<Memtable>,
    /// Set aside, and not known to be flushed; the oldest first.
    sealed: VecDeque<Arc<Memtable>>,
    /// Bytes of those whose flush was not asked for yet.
    small_bytes: u64,
    /// The applied row that the files hold, unless a flushed one of `sealed` has a later.
    flushed: Option<Bytes>,
    background: Arc<Background>,
    written_bytes: u64,
}

impl LsmRows {
    /// Opens what there is. Files are made once there is something to be put into them: a shard that
    /// holds little, and whose log is held, needs none.
    pub(super) fn open(
        dir: PathBuf,
        background: Arc<Background>,
        noted: Option<(HeldList, ShardId)>,
    ) -> Result<Self, StoreError> {
        let found = current(&dir)?;
        if found.is_none() && files::holds_tables(&dir) {
            let what = format!("{} is gone", dir.join("CURRENT").display());
            return Err(StoreError::damaged(what));
        }
        if let Some(generation) = found {
            let path = dir.join(format!("g{generation}"));
            if !files::is_tree(&path) {
                let what = format!("{} holds no tree any more", path.display());
                return Err(StoreError::damaged(what));
            }
            files::check(&path)?;
        }
        if dir.exists() {
            remove_others(&dir, found)?;
        }
        if let Some(generation) = found {
            background.note_generation(generation);
        }
        let generation = found.unwrap_or_else(|| background.new_generation());
        let tree = Self::tree(&dir, generation, &background, noted);
        let mut applied = None;
        if found.is_some() {
            tree.birth.make_place()?;
            let files = tree.open_files()?;
            let row = files.get(APPLIED, SeqNo::MAX);
            applied = row.map_err(|e| tree.failed(e))?;
            let _ = tree.files.set(files);
            background.compact(&tree);
        }
        let mut rows = Self::of_tree(dir, tree, background);
        rows.flushed = applied.map(|v| Bytes::copy_from_slice(&v));
        Ok(rows)
    }

    fn of_tree(dir: PathBuf, tree: Arc<Tree>, background: Arc<Background>) -> Self {
        LsmRows {
            dir,
            tree,
            active: Arc::default(),
            sealed: VecDeque::new(),
            small_bytes: 0,
            flushed: None,
            background,
            written_bytes: 0,
        }
    }

    /// A tree without files.
    pub(super) fn tree(
        dir: &Path,
        generation: u64,
        background: &Background,
        noted: Option<(HeldList, ShardId)>,
    ) -> Arc<Tree> {
        let path = dir.join(format!("g{generation}"));
        Arc::new(Tree {
            files: OnceLock::new(),
            birth: Birth {
                dir: dir.to_owned(),
                generation,
                noted,
                blocks: background.blocks.clone(),
                descriptors: background.files.clone(),
            },
            making: Mutex::default(),
            writeback: Writeback::new(&path),
            path,
            sequence: SequenceNumberCounter::default(),
            visible: SequenceNumberCounter::default(),
            debt: Debt::default(),
            waits: background.waits.clone(),
            set_aside: Mutex::default(),
            doomed: AtomicBool::new(false),
            damage: OnceLock::new(),
        })
    }

    pub(super) fn insert(&mut self, batch: &mut RowBatch) -> Result<(), StoreError> {
        // Checked before the first goes in: a batch is written whole or not at all.
        let too_long = |what, bytes, max| Err(TooLong { what, bytes, max }.into());
        for (key, value) in batch.rows() {
            if key.is_empty() || key.len() > ROW_KEY_BYTES_MAX {
                return too_long("row key", key.len(), ROW_KEY_BYTES_MAX);
            }
            let bytes = value.map_or(0, <[u8]>::len);
            if bytes > VALUE_BYTES_MAX {
                return too_long("value", bytes, VALUE_BYTES_MAX);
            }
        }
        if Arc::get_mut(&mut self.active).is_none() {
            // A snapshot holds it: it stays as it is.
            self.seal();
        }
        let Some(active) = Arc::get_mut(&mut self.active) else {
            return Err(StoreError::damaged("a new memtable is shared")); // It can't be.
        };
        self.written_bytes += batch.bytes() as u64;
        active.insert(batch);
        Ok(())
    }

    /// Sets the active memtable aside; called between batches only.
    fn seal(&mut self) {
        let sealed = std::mem::take(&mut self.active);
        if !sealed.is_empty() {
            self.small_bytes += sealed.bytes();
            self.tree.set_aside().push(sealed.clone());
            self.sealed.push_back(sealed);
        }
    }

    /// Forgets the memtables that files hold by now.
    fn prune(&mut self) {
        while self.sealed.front().is_some_and(|m| m.is_flushed())
            && let Some(memtable) = self.sealed.pop_front()
        {
            self.flushed = applied_in(&memtable).or_else(|| self.flushed.take());
            self.background.reap(memtable);
        }
    }

    fn unflushed_bytes(&self) -> u64 {
        let sealed = self.sealed.iter().filter(|m| !m.is_flushed());
        self.active.bytes() + sealed.map(|m| m.bytes()).sum::<u64>()
    }

    /// The memtables, the newest first.
    fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.sealed.iter().rev())
    }
}

fn applied_in(memtable: &Memtable) -> Option<Bytes> {
    let applied = memtable.get(APPLIED).flatten();
    applied.map(Bytes::copy_from_slice)
}

/// Visits the rows of memtables, the newest first, and of the files below them.
fn scan<'a>(
    memtables: impl Iterator<Item = &'a Memtable>,
    files: impl Iterator<Item = lsm_tree::Result<(UserKey, UserValue)>>,
    (from, to): (&'a [u8], &'a [u8]),
    visit: Visit<'_>,
) -> lsm_tree::Result<()> {
    let mut unflushed = memtable::newest(memtables, from, to).peekable();
    for row in files {
        let (key, value) = row?;
        let key = key.as_ref();
        while let Some((before, value)) = unflushed.next_if(|row| row.0 < key) {
            if value.is_some_and(|value| !visit(before, value)) {
                return Ok(());
            }
        }
        let newest = match unflushed.next_if(|row| row.0 == key) {
            Some((_, newer)) => newer,
            None => Some(&value[..]),
        };
        if newest.is_some_and(|value| !visit(key, value)) {
            return Ok(());
        }
    }
    for (key, value) in unflushed {
        if value.is_some_and(|value| !visit(key, value)) {
            return Ok(());
        }
    }
    Ok(())
}

impl Drop for LsmRows {
    fn drop(&mut self) {
        if self.tree.is_doomed() {
            // Nobody opens it again: no need to wait, and removing its files takes time.
            self.background.reap(self.tree.clone());
        } else {
            self.background.close(&self.tree);
        }
    }
}

impl Rows for LsmRows {
    type Snapshot = LsmSnapshot;

    fn find(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        if let Some(found) = self.memtables().find_map(|m| m.get(key)) {
            let value = found.map(Bytes::copy_from_slice);
            let recent = true;
            return Ok(value.map(|value| Found { value, recent }));
        }
        let found = self.tree.look_up(key).map_err(|e| self.tree.failed(e))?;
        // Copied: a slice would hold its whole block.
        Ok(found.map(|value| Found {
            value: Bytes::copy_from_slice(&value),
            recent: false,
        }))
    }

    fn is_cold(&self) -> bool {
        self.tree.waits.is_cold()
    }

    fn prefetch(&self, mut rows: Vec<Vec<u8>>) -> Option<Prefetch> {
        rows.retain(|row| self.memtables().all(|m| m.get(row).is_none()));
        // It may wait for long: a tree that is gone by then is not kept for it.
        let tree = Arc::downgrade(&self.tree);
        (!rows.is_empty()).then(|| {
            Prefetch::new(move || {
                let Some(tree) = tree.upgrade() else {
                    return;
                };
                for row in rows {
                    // If it can't be read, who looks it up is told.
                    let _ = tree.look_up(&row);
                }
            })
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let memtables = self.memtables().map(Arc::as_ref);
        let files = self.tree.files();
        let files = files.map(|files| files.create_range(&(from..to), SeqNo::MAX, None));
        scan(memtables, files.into_iter().flatten(), (from, to), visit)
            .map_err(|e| self.tree.failed(e))
    }

    fn write(&mut self, batch: &mut RowBatch) -> Result<(), StoreError> {
        self.insert(batch)
    }

    fn reset(&mut self, batch: &mut RowBatch) -> Result<(), StoreError> {
        let generation = self.background.new_generation();
        let leftover = self.dir.join(format!("g{generation}"));
        if leftover.exists() {
            // A reset that failed half-way.
            fs::remove_dir_all(&leftover).map_err(file_error(&leftover))?;
        }
        let birth = &self.tree.birth;
        birth.make_place()?;
        let tree = Self::tree(&self.dir, generation, &self.background, birth.noted.clone());
        // Until all of it is there, what was there before counts.
        let _ = tree.files.set(tree.open_files()?);
        let (dir, background) = (self.dir.clone(), self.background.clone());
        let mut next = Self::of_tree(dir, tree, background);
        next.insert(batch)?;
        next.flush()?;
        {
            // The tree of before may just be making its files, and must not name itself behind
            // the new one: doomed, it makes none.
            let making = &self.tree.making;
            let _one_at_a_time = making.lock().unwrap_or_else(PoisonError::into_inner);
            set_current(&self.dir, generation)?;
            self.tree.doomed.store(true, SeqCst);
        }
        let _old = std::mem::replace(self, next);
        Ok(()) // dropping it takes leave of its tree
    }

    fn snapshot(&self) -> LsmSnapshot {
        // First the memtables: what is flushed meanwhile is in both.
        let memtables = self.memtables().cloned().collect();
        let files = self.tree.files();
        let version = files.map(|f| f.get_version_history_lock().latest_version());
        LsmSnapshot {
            tree: self.tree.clone(),
            memtables,
            files: Box::new(move |from, to| {
                let range = from.to_vec()..to.to_vec();
                let Some(version) = version.clone() else {
                    return Box::new(std::iter::empty());
                };
                let rows = lsm_tree::Tree::create_internal_range(version, &range, SeqNo::MAX, None);
                Box::new(rows)
            }),
        }
    }

    fn flushed_applied(&self) -> Result<Option<Bytes>, StoreError> {
        let flushed = self.sealed.iter().take_while(|m| m.is_flushed());
        let newest = flushed.filter_map(|m| applied_in(m)).last();
        Ok(newest.or_else(|| self.flushed.clone()))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.seal();
        self.small_bytes = 0;
        flush(&self.tree).map_err(|e| self.tree.found(e))?;
        self.prune();
        self.background.flush(&self.tree);
        Ok(())
    }

    fn reap(&self, gone: Box<dyn Any + Send>) {
        self.background.reap(gone);
    }

    fn flush_soon(&mut self) -> Result<(), StoreError> {
        self.prune();
        self.seal();
        self.small_bytes = 0;
        if !self.sealed.is_empty() {
            self.background.flush(&self.tree);
        }
        Ok(())
    }

    fn damage(&self) -> Option<&str> {
        self.tree.damage.get().map(String::as_str)
    }

    fn scrub(&self) -> Option<ScrubFiles> {
        // A tree that is gone by then is not kept for it.
        let tree = Arc::downgrade(&self.tree);
        Some(Box::new(move |paced| scrub(&tree, paced)))
    }

    fn maintain(&mut self) -> Result<Pressure, StoreError> {
        self.prune();
        let limit = self.background.options.memtable_bytes;
        if self.active.bytes() + self.small_bytes >= limit || self.sealed.len() > SEALED_MAX {
            self.flush_soon()?;
        }
        if let Some(reason) = self.tree.debt.failure() {
            self.background.flush(&self.tree);
            return Err(StoreError::Background {
                path: self.tree.path.clone(),
                reason,
            });
        }
        let memtables = self.unflushed_bytes() as f64 / limit as f64;
        let written = std::mem::take(&mut self.written_bytes);
        let runs = self.tree.debt.l0_runs.load(SeqCst);
        Ok(pressure(memtables, runs, written))
    }

    fn stats(&self) -> RowStats {
        let debt = &self.tree.debt;
        RowStats {
            unflushed_bytes: self.unflushed_bytes(),
            disk_bytes: debt.disk_bytes.load(SeqCst),
            runs: debt.l0_runs.load(SeqCst) as u64,
        }
    }
}

/// Reads all that a tree has on disk; what is damaged the tree then knows.
fn scrub(tree: &Weak<Tree>, paced: &mut dyn FnMut(u64) -> bool) {
    let tables = |tree: Arc<Tree>| {
        let version = tree.files().map(|files| files.current_version());
        let tables = version.iter().flat_map(|version| version.iter_tables());
        tables.cloned().collect::<VecDeque<_>>()
    };
    let Some(mut tables) = tree.upgrade().map(tables) else {
        return;
    };
    let goes_on = Cell::new(true);
    let mut paced = |bytes| {
        goes_on.set(paced(bytes) && tree.strong_count() > 0);
        goes_on.get()
    };
    // A table that a compaction replaces meanwhile is there as long as it is held here.
    while let Some(table) = tables.pop_front() {
        let done = files::scrub(&table.path, table.checksum().into_u128(), &mut paced);
        if let Err(error) = done
            && let Some(tree) = tree.upgrade()
        {
            tree.found(error);
        }
        if !goes_on.get() {
            return;
        }
    }
}

/// What a row of the tree has room for, and its key beside it in a memtable.
const VALUE_BYTES_MAX: usize = u32::MAX as usize - 1 - ROW_KEY_BYTES_MAX;
/// Memtables set aside above which they are flushed, however small: a look-up asks each.
const SEALED_MAX: usize = 4;

type Files = Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>>>;
/// The rows between two keys in the files of a version that it holds. (The version's own type
/// is private to lsm-tree.)
type Pinned = Box<dyn Fn(&[u8], &[u8]) -> Files + Send>;

/// The rows of a tree as they were. Holding it keeps the files and the memtables that it
/// sees, no more; later writes cost it nothing.
pub struct LsmSnapshot {
    tree: Arc<Tree>,
    /// The newest first.
    memtables: Vec<Arc<Memtable>>,
    files: Pinned,
}

impl RowsSnapshot for LsmSnapshot {
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let files = (self.files)(from, to).map(|row| row.map(|r| (r.key.user_key, r.value)));
        let memtables = self.memtables.iter().map(Arc::as_ref);
        scan(memtables, files, (from, to), visit).map_err(|e| self.tree.failed(e))
    }
}
