//! The log-sync threads: each makes one batch durable at a time, while the node's thread goes on
//! reading and collects the next. Group commit is nothing more than that.
//!
//! ```text
//! submit ─▶ a free thread: write ─▶ take_written (nobody is woken) ─▶ the next may be submitted
//!                          sync  ─▶ the receiver wakes the runtime
//! ```
//! On a fast disk a batch is synced before the next is wanted, and one thread does it all. Where
//! a sync takes long, other threads write and sync what has come meanwhile.

use crate::host::Host;
use std::{
    cell::Cell,
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, Builder, JoinHandle},
};
use storage::log::LANES;
use tokio::sync::mpsc::{Receiver as DoneReceiver, Sender as DoneSender, channel as wake_channel};

/// What a thread says when it is free again: its number, and what came of the flush.
pub(crate) type Ended<H> = (usize, <H as Host>::Synced);

/// The node's end of the threads.
pub(crate) struct SyncThreads<H: Host> {
    threads: Vec<SyncThread<H>>,
    written: Receiver<H::Written>,
}

struct SyncThread<H: Host> {
    jobs: Option<Sender<H::Flush>>,
    busy: Cell<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Tells, if its thread panics, that there is one less.
struct Watch<H: Host>(DoneSender<Option<Ended<H>>>);

impl<H: Host> Drop for Watch<H> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nobody waits any more if this fails.
            let _ = self.0.blocking_send(None);
        }
    }
}

impl<H: Host> SyncThreads<H> {
    /// Starts them. Results come out of the receiver, which wakes the runtime once for each; None
    /// for a thread that is no more.
    pub(crate) fn start() -> io::Result<(Self, DoneReceiver<Option<Ended<H>>>)> {
        let (done, results) = wake_channel(LANES);
        let (tell, written) = channel();
        let mut threads = Vec::new();
        for number in 0..LANES {
            let (jobs, todo) = channel::<H::Flush>();
            let (done, tell) = (done.clone(), tell.clone());
            let name = format!("log-sync-{number}");
            let thread = Builder::new().name(name).spawn(move || {
                let done = Watch::<H>(done);
                while let Ok(flush) = todo.recv() {
                    // If nobody listens any more the next send tells.
                    let synced = H::run_flush(flush, |written| drop(tell.send(written)));
                    if done.0.blocking_send(Some((number, synced))).is_err() {
                        return;
                    }
                }
            })?;
            threads.push(SyncThread {
                jobs: Some(jobs),
                busy: Cell::new(false),
                thread: Some(thread),
            });
        }
        Ok((SyncThreads { threads, written }, results))
    }

    fn free(&self) -> Option<&SyncThread<H>> {
        self.threads.iter().find(|thread| !thread.busy.get())
    }

    /// Whether a batch may be handed over.
    pub(crate) fn has_room(&self) -> bool {
        self.free().is_some()
    }

    /// Whether a batch is under way.
    pub(crate) fn busy(&self) -> bool {
        self.threads.iter().any(|thread| thread.busy.get())
    }

    /// Hands over a batch; only while there is room. False if the thread is gone.
    pub(crate) fn submit(&self, flush: H::Flush) -> bool {
        self.free().is_some_and(|thread| {
            thread.busy.set(true);
            (thread.jobs.as_ref()).is_some_and(|jobs| jobs.send(flush).is_ok())
        })
    }

    /// The first half of a batch, if one has ended. It comes before the batch's second half.
    pub(crate) fn take_written(&self) -> Option<H::Written> {
        self.written.try_recv().ok()
    }

    /// A thread's result was taken.
    pub(crate) fn finished(&self, number: usize) {
        if let Some(thread) = self.threads.get(number) {
            thread.busy.set(false);
        }
    }
}

impl<H: Host> Drop for SyncThread<H> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The thread ends after the batch under way; if it panicked that was reported.
            let _ = thread.join();
        }
    }
}
