//! The thread that does what takes a while and holds up nobody: a piece at a time.

use crate::host::{Aside, AsideDone};
use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The node's end of the thread.
pub(crate) struct AsideThread {
    jobs: Option<SyncSender<Aside>>,
    thread: Option<JoinHandle<()>>,
}

impl AsideThread {
    /// Starts it. What came of each piece comes out of the receiver, which holds one at most: the
    /// host gives the next only then.
    pub(crate) fn start() -> io::Result<(Self, UnboundedReceiver<AsideDone>)> {
        let (jobs, todo) = sync_channel::<Aside>(1);
        let (tell, done) = unbounded_channel();
        let thread = Builder::new().name("aside".into()).spawn(move || {
            // Everything else goes first where the processor is short.
            let _ = rustix::process::setpriority_process(None, 10);
            while let Ok(job) = todo.recv() {
                // Nobody waits any more if this fails: the node stops.
                let _ = tell.send(job.run());
            }
        })?;
        let aside = AsideThread {
            jobs: Some(jobs),
            thread: Some(thread),
        };
        Ok((aside, done))
    }

    /// Hands over a piece. If the thread is gone it is never done.
    pub(crate) fn submit(&self, aside: Aside) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.try_send(aside);
        }
    }
}

impl Drop for AsideThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends after the piece at hand; if it panicked that was reported.
            let _ = thread.join();
        }
    }
}
