//! Has what flushes and compactions write on the disk bit by bit.
//!
//! lsm-tree syncs each of its files once, when it is whole. That is up to 64 MiB for the disk at
//! once, and what else wants the disk then, the log's sync before all, waits behind them. Here
//! the thread that writes a file says after each row what it has written, and every
//! [`SYNC_EVERY`] it syncs what there is of it, and of what others have written since: for each
//! thread that writes about so much is under way, and who is faster than the disk waits for it.
//!
//! ```text
//! a flush's rows ─────────────┐
//!                             ├▶ Progress::wrote ─ every SYNC_EVERY ─▶ fdatasync of what grew
//! a compaction's (a filter) ──┘
//! ```
//!
//! It is about time only: a file counts when lsm-tree has synced it itself, which also reports
//! what fails here, by its own handle.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // it syncs the tree's files, which are on the file system

use lsm_tree::{
    SequenceNumberCounter,
    compaction::filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict},
};
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Bytes of rows that a thread writes between two syncs.
const SYNC_EVERY: usize = 2 << 20;
/// Files are numbered in the order in which they are begun: those that are still written are
/// among the newest few, as only few threads write. One that isn't is synced when it is whole.
const NEWEST: u64 = 8;

/// The files of one tree that may still be written.
pub(super) struct Writeback {
    /// Where they are.
    tables: PathBuf,
    /// The tree's counter of files, once it is open.
    next: OnceLock<SequenceNumberCounter>,
    /// How much of each of the newest was synced.
    synced: Mutex<BTreeMap<u64, u64>>,
}

impl Writeback {
    /// Of the tree in `dir`.
    pub(super) fn new(dir: &Path) -> Arc<Self> {
        Arc::new(Writeback {
            tables: dir.join("tables"),
            next: OnceLock::new(),
            synced: Mutex::default(),
        })
    }

    /// From now on what is written is synced.
    pub(super) fn opened(&self, next: &SequenceNumberCounter) {
        // Told once; a second time would be the same counter.
        let _ = self.next.set(next.clone());
    }

    pub(super) fn begin(self: &Arc<Self>) -> Progress {
        Progress {
            writeback: self.clone(),
            bytes: 0,
        }
    }

    fn sync(&self) {
        let Some(next) = self.next.get().map(SequenceNumberCounter::get) else {
            return;
        };
        let first = next.saturating_sub(NEWEST);
        for number in first..next {
            // It may have been removed, or not be there yet.
            let file = File::open(self.tables.join(number.to_string()));
            if let Ok(file) = file
                && let Ok(len) = file.metadata().map(|m| m.len())
                && self.claims(first, number, len)
            {
                let _ = file.sync_data();
            }
        }
    }

    /// Whether the file has grown since anyone synced it: then that is up to the caller.
    fn claims(&self, first: u64, number: u64, len: u64) -> bool {
        // It is whole after each statement.
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        *synced = synced.split_off(&first);
        let before = synced.insert(number, len);
        before.unwrap_or(0) < len
    }
}

/// What one thread writes.
pub(super) struct Progress {
    writeback: Arc<Writeback>,
    /// Since the last sync.
    bytes: usize,
}

impl Progress {
    /// A row of so many bytes was handed on to be written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= SYNC_EVERY {
            self.bytes = 0;
            self.writeback.sync();
        }
    }
}

/// Keeps every row, and counts it.
impl CompactionFilter for Progress {
    fn filter_item(&mut self, row: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        self.wrote(row.key().len() + row.value()?.len());
        Ok(Verdict::Keep)
    }
}

/// Makes the filter of each compaction.
pub(super) struct OfCompactions(pub(super) Arc<Writeback>);

impl Factory for OfCompactions {
    fn name(&self) -> &str {
        "writeback"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(self.0.begin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Background, BackgroundOptions, RowBatch, background::flush, lsm::LsmRows,
        memtable::Memtable,
    };
    use lsm_tree::{AbstractTree, compaction::Leveled};

    /// Rows that do not compress, all over the keys.
    fn flush_some(tree: &crate::store::lsm::Tree, seed: u64) {
        let mut batch = RowBatch::new();
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            x.to_be_bytes()
        };
        for _ in 0..5000 {
            let key = next();
            let value: Vec<u8> = (0..125).flat_map(|_| next()).collect();
            batch.put(&key, &value);
        }
        assert!(batch.bytes() > 2 * SYNC_EVERY);
        let mut memtable = Memtable::default();
        memtable.insert(&mut batch);
        tree.set_aside().push(Arc::new(memtable));
        flush(tree).unwrap();
    }

    #[test]
    fn what_flushes_and_compactions_write_is_synced_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let background = Background::start(BackgroundOptions::default()).unwrap();
        let tree = LsmRows::tree(dir.path(), 0, &background, None);
        let synced = || tree.writeback.synced.lock().unwrap().clone();
        for seed in 0..4 {
            flush_some(&tree, seed);
            let (_, len) = synced().pop_last().unwrap();
            assert!(len > SYNC_EVERY as u64 / 2, "{len} bytes of a file");
        }
        let flushed = *synced().last_key_value().unwrap().0;
        (tree.files().unwrap())
            .compact(Arc::new(Leveled::default()), u64::MAX)
            .unwrap();
        let (number, len) = synced().pop_last().unwrap();
        assert!(number > flushed && len > 8 * SYNC_EVERY as u64, "{len}");
    }

    #[test]
    fn a_file_is_synced_once_for_what_it_has_grown_by() {
        let writeback = Writeback::new(Path::new("nowhere"));
        assert!(writeback.claims(0, 3, 10));
        assert!(!writeback.claims(0, 3, 10) && writeback.claims(0, 3, 11));
        assert!(writeback.claims(0, 4, 5) && !writeback.claims(0, 5, 0));
        // Those that are old are forgotten.
        assert!(writeback.claims(4, 6, 1));
        assert_eq!(writeback.synced.lock().unwrap().len(), 3);
    }
}
