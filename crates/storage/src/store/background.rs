//! The threads that flush and compact, shared by all shards of a node.
//!
//! In go trees that have something to do; what comes out is left in the tree's [`Debt`],
//! which writers read without taking the tree's locks. One thread flushes, so that a flush
//! never waits behind a compaction; the others compact. A tree waits at most once in each
//! queue. A failure is kept in the debt until the same work succeeds; the writers' next call
//! of `maintain` starts it again.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // this is the one place of the store with threads of its own

use super::{
    error::{StoreError, advice},
    layout::END,
    lsm::Tree,
    memtable::newest,
    prefetch::Waits,
};
use lsm_tree::{AbstractTree, InternalValue, ValueType, compaction::Leveled};
use std::{
    any::Any,
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

/// Everything older than the newest version may go: what is pinned is held by reference, not
/// by sequence number.
const WATERMARK: u64 = u64::MAX;

/// Sizes and numbers; one set a node.
#[derive(Clone, Copy, Debug)]
pub struct BackgroundOptions {
    /// Threads that compact; at least one.
    pub compaction_threads: usize,
    /// Bytes a shard collects in memory before they are flushed.
    pub memtable_bytes: u64,
    /// Bytes of uncompressed blocks kept in memory, for all shards together.
    pub block_cache_bytes: u64,
    /// Files of all trees that are kept open.
    pub open_files_max: usize,
}

impl Default for BackgroundOptions {
    fn default() -> Self {
        BackgroundOptions {
            compaction_threads: 2,
            memtable_bytes: 32 << 20,
            block_cache_bytes: 256 << 20,
            open_files_max: 512,
        }
    }
}

/// What a tree owes: read by its writer, written by the threads.
#[derive(Debug, Default)]
pub(super) struct Debt {
    pub(super) l0_runs: AtomicUsize,
    pub(super) disk_bytes: AtomicU64,
    flush_queued: AtomicBool,
    compaction_queued: AtomicBool,
    /// Threads that work on it now; changed under the lock of the queues only.
    busy: AtomicUsize,
    /// Its owner is gone: nothing is started any more.
    closed: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Debt {
    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Queues {
    flush: VecDeque<Arc<Tree>>,
    compact: VecDeque<Arc<Tree>>,
    /// What takes time to drop: trees that were replaced, with their files, and memtables.
    reap: VecDeque<Box<dyn Any + Send>>,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
    done: Condvar,
}

/// The pool. Dropping it waits for what is being written.
pub struct Background {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    pub(super) options: BackgroundOptions,
    pub(super) blocks: Arc<lsm_tree::Cache>,
    pub(super) files: Arc<lsm_tree::DescriptorTable>,
    /// Of look-ups in files.
    pub(super) waits: Arc<Waits>,
    /// The number that the next new tree gets. None is used twice in one process: who holds files of
    /// a tree that is gone removes them by their path.
    generations: AtomicU64,
}

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Background")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Background {
    /// Starts the threads.
    pub fn start(options: BackgroundOptions) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        let spawn = |name: String, work: fn(&Shared)| {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(name)
                .spawn(move || work(&shared))
        };
        threads.push(spawn("store-flush".into(), flush_thread)?);
        for n in 0..options.compaction_threads.max(1) {
            threads.push(spawn(format!("store-compact-{n}"), compaction_thread)?);
        }
        Ok(Arc::new(Background {
            shared,
            threads,
            options,
            blocks: Arc::new(lsm_tree::Cache::with_capacity_bytes(
                options.block_cache_bytes,
            )),
            files: Arc::new(lsm_tree::DescriptorTable::new(options.open_files_max)),
            waits: Arc::new(Waits::new()),
            generations: AtomicU64::new(0),
        }))
    }

    /// The number of a new tree.
    pub(super) fn new_generation(&self) -> u64 {
        self.generations.fetch_add(1, SeqCst)
    }

    /// A tree of this number was found.
    pub(super) fn note_generation(&self, generation: u64) {
        self.generations
            .fetch_max(generation.saturating_add(1), SeqCst);
    }

    pub(super) fn flush(&self, tree: &Arc<Tree>) {
        if !tree.debt.flush_queued.swap(true, SeqCst) {
            lock(&self.shared.queues).flush.push_back(tree.clone());
            self.shared.work.notify_all();
        }
    }

    /// Takes a tree out of the queues and waits for what is being done to it: afterwards its
    /// directory may be opened again. (Two trees on one directory would destroy it.)
    pub(super) fn close(&self, tree: &Arc<Tree>) {
        let mut queues = lock(&self.shared.queues);
        tree.debt.closed.store(true, SeqCst);
        queues.flush.retain(|t| !Arc::ptr_eq(t, tree));
        queues.compact.retain(|t| !Arc::ptr_eq(t, tree));
        while tree.debt.busy.load(SeqCst) > 0 {
            queues = self
                .shared
                .done
                .wait(queues)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn compact(&self, tree: &Arc<Tree>) {
        self.shared.compact(tree);
    }

    /// Does work that takes long on a thread of its own; whatever it is told to do when the node
    /// ends, it does itself.
    pub(super) fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        let spawned = std::thread::Builder::new()
            .name("store-scrub".into())
            .spawn(move || {
                // Everybody else goes first where the processor is short.
                let _ = rustix::process::setpriority_process(None, 19);
                work();
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread could be started");
        }
    }

    /// Drops it elsewhere.
    pub(super) fn reap(&self, gone: impl Any + Send) {
        lock(&self.shared.queues).reap.push_back(Box::new(gone));
        self.shared.work.notify_all();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        lock(&self.shared.queues).stop = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn compact(&self, tree: &Arc<Tree>) {
        if !tree.debt.compaction_queued.swap(true, SeqCst) {
            let mut queues = lock(&self.queues);
            if !tree.debt.closed.load(SeqCst) && !tree.is_doomed() {
                queues.compact.push_back(tree.clone());
                self.work.notify_all();
            }
        }
    }

    /// The next of what `take` picks; None when it is time to stop.
    fn next(&self, take: impl Fn(&mut Queues) -> Option<Job>) -> Option<Job> {
        let mut queues = lock(&self.queues);
        loop {
            if queues.stop {
                return None;
            }
            if let Some(job) = take(&mut queues) {
                if let Job::Work(tree) = &job {
                    tree.debt.busy.fetch_add(1, SeqCst);
                }
                return Some(job);
            }
            queues = self
                .work
                .wait(queues)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn finished(&self, tree: &Tree) {
        let _queues = lock(&self.queues);
        tree.debt.busy.fetch_sub(1, SeqCst);
        self.done.notify_all();
    }
}

enum Job {
    Work(Arc<Tree>),
    Reap(Box<dyn Any + Send>),
}

fn flush_thread(shared: &Shared) {
    // Leases and replies come first; if it is held up for long, writers are slowed.
    let _ = rustix::process::setpriority_process(None, 5);
    while let Some(Job::Work(tree)) = shared.next(|q| q.flush.pop_front().map(Job::Work)) {
        tree.debt.flush_queued.store(false, SeqCst);
        let done = flush(&tree);
        report(&tree, "flush", done);
        shared.compact(&tree);
        shared.finished(&tree);
    }
}

fn compaction_thread(shared: &Shared) {
    // Writers and the flush go first where the processor is short.
    let _ = rustix::process::setpriority_process(None, 10);
    let take = |q: &mut Queues| {
        let work = q.compact.pop_front().map(Job::Work);
        work.or_else(|| q.reap.pop_front().map(Job::Reap))
    };
    while let Some(job) = shared.next(take) {
        let tree = match job {
            Job::Work(tree) => tree,
            Job::Reap(last) => {
                drop(last);
                continue;
            }
        };
        tree.debt.compaction_queued.store(false, SeqCst);
        if let Some(files) = tree.files() {
            let before = files.current_version().id();
            let strategy = Arc::new(Leveled::default());
            let done = files.compact(strategy, WATERMARK);
            let fine = done.is_ok();
            report(&tree, "compaction", done.map_err(|e| tree.error(e)));
            if fine && files.current_version().id() != before {
                shared.compact(&tree);
            }
        }
        shared.finished(&tree);
    }
}

/// Writes what a tree's owner has set aside into files, as one run, and then says so.
pub(super) fn flush(tree: &Tree) -> Result<(), StoreError> {
    if tree.set_aside().is_empty() || tree.is_doomed() && tree.files().is_none() {
        return Ok(());
    }
    let files = match tree.made() {
        Ok(files) => files,
        Err(_) if tree.is_doomed() => return Ok(()),
        Err(error) => return Err(error),
    };
    let _one_at_a_time = files.get_flush_lock();
    let memtables = tree.set_aside().clone();
    if memtables.is_empty() {
        return Ok(());
    }
    let number = tree.sequence.next();
    let rows = newest(memtables.iter().rev().map(Arc::as_ref), &[], END);
    let mut progress = tree.writeback.begin();
    let rows = rows.map(|(key, value)| {
        progress.wrote(key.len() + value.map_or(0, <[u8]>::len));
        Ok(match value {
            Some(value) => InternalValue::from_components(key, value, number, ValueType::Value),
            None => InternalValue::new_tombstone(key, number),
        })
    });
    let error = |source| tree.error(source);
    if let Some((tables, _)) = files.flush_to_tables(rows).map_err(error)? {
        (files.register_tables(&tables, None, None, &[], WATERMARK)).map_err(error)?;
    }
    // A reader that finds one of them flushed finds its rows in the files.
    for memtable in &memtables {
        memtable.set_flushed();
    }
    tree.set_aside().drain(..memtables.len());
    Ok(())
}

fn report(tree: &Tree, what: &str, done: Result<(), StoreError>) {
    let debt = &tree.debt;
    if let Some(files) = tree.files() {
        debt.l0_runs.store(files.l0_run_count(), SeqCst);
        debt.disk_bytes.store(files.disk_space(), SeqCst);
    }
    let mut failure = lock(&debt.failure);
    match done {
        Ok(()) => {
            if failure.as_ref().is_some_and(|f| f.starts_with(what)) {
                *failure = None;
            }
        }
        Err(error) => {
            tracing::error!(path = %tree.path.display(), %error, "{what} failed");
            *failure = Some(match &error {
                StoreError::Tree { source, .. } => format!("{what}: {source}; {}", advice(source)),
                other => format!("{what}: {other}"),
            });
            tree.found(error);
        }
    }
}
