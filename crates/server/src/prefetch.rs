//! The threads that read from files what clients are about to ask for, so that the node's thread
//! finds it in memory. They wait for the disk most of the time.

use crate::host::{ConnId, Prefetch};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{Builder, JoinHandle},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Reads at a time: a disk serves several best.
const THREADS: usize = 16;

/// What a client waits for.
struct Job {
    prefetch: Prefetch,
    _done: Done,
}

/// Tells that a client need not wait any longer, whatever became of its job.
struct Done {
    conn: ConnId,
    tell: UnboundedSender<ConnId>,
}

impl Drop for Done {
    fn drop(&mut self) {
        // Nobody waits any more if this fails.
        let _ = self.tell.send(self.conn);
    }
}

/// The node's end of the threads. What is under way, and what is done and not looked at, is
/// bounded by the node's clients: each waits for its own.
pub(crate) struct PrefetchThreads {
    jobs: Option<Sender<Job>>,
    tell: UnboundedSender<ConnId>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl PrefetchThreads {
    /// Starts them. Clients come out of the receiver, once for each job.
    pub(crate) fn start() -> io::Result<(Self, UnboundedReceiver<ConnId>)> {
        let (jobs, todo) = channel();
        let (tell, done) = unbounded_channel();
        let todo = Arc::new(Mutex::new(todo));
        let stop = Arc::<AtomicBool>::default();
        let spawn = |number| {
            let (todo, stop) = (todo.clone(), stop.clone());
            Builder::new()
                .name(format!("prefetch-{number}"))
                .spawn(move || work(&todo, &stop))
        };
        let threads = (0..THREADS).map(spawn).collect::<io::Result<_>>()?;
        let threads = PrefetchThreads {
            jobs: Some(jobs),
            tell,
            stop,
            threads,
        };
        Ok((threads, done))
    }

    /// Hands over what is to be read for a client.
    pub(crate) fn submit(&self, conn: ConnId, prefetch: Prefetch) {
        let tell = self.tell.clone();
        let _done = Done { conn, tell };
        if let Some(jobs) = &self.jobs {
            // If the threads are gone the client goes on without.
            let _ = jobs.send(Job { prefetch, _done });
        }
    }
}

fn work(todo: &Mutex<Receiver<Job>>, stop: &AtomicBool) {
    loop {
        // Whoever holds the lock waits for the next job; a receiver has no state to be broken.
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        if !stop.load(SeqCst) {
            job.prefetch.run();
        }
    }
}

impl Drop for PrefetchThreads {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Each ends after what it reads; if one panicked that was reported.
            let _ = thread.join();
        }
    }
}
