//! The log-sync thread: it makes one batch durable at a time, while the node's thread goes on
//! reading and collects the next. Group commit is nothing more than that.

use crate::host::Host;
use std::{
    cell::Cell,
    io,
    sync::mpsc::{Sender, channel},
    thread::{Builder, JoinHandle},
};
use tokio::sync::mpsc::{Receiver, channel as wake_channel};

/// The node's end of the thread.
pub(crate) struct SyncThread<H: Host> {
    jobs: Option<Sender<H::Flush>>,
    busy: Cell<bool>,
    thread: Option<JoinHandle<()>>,
}

impl<H: Host> SyncThread<H> {
    /// Starts it. Results come out of the receiver, which wakes the runtime once for each.
    pub(crate) fn start() -> io::Result<(Self, Receiver<H::FlushDone>)> {
        let (jobs, todo) = channel::<H::Flush>();
        let (done, results) = wake_channel(1);
        let thread = Builder::new().name("log-sync".into()).spawn(move || {
            while let Ok(flush) = todo.recv() {
                if done.blocking_send(H::run_flush(flush)).is_err() {
                    return;
                }
            }
        })?;
        let sync = SyncThread {
            jobs: Some(jobs),
            busy: Cell::new(false),
            thread: Some(thread),
        };
        Ok((sync, results))
    }

    /// Whether a batch is under way.
    pub(crate) fn busy(&self) -> bool {
        self.busy.get()
    }

    /// Hands over a batch; only while it isn't busy. False if the thread is gone.
    pub(crate) fn submit(&self, flush: H::Flush) -> bool {
        self.busy.set(true);
        self.jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(flush).is_ok())
    }

    /// A result was taken.
    pub(crate) fn finished(&self) {
        self.busy.set(false);
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
