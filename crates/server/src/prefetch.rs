//! The threads that read from files what clients are about to ask for, so that the node's thread
//! finds it in memory. They wait for the disk most of the time, each for one block.

use crate::host::{ConnId, Prefetch};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{Builder, JoinHandle},
};
use tokio::sync::mpsc::{Receiver as DoneReceiver, Sender as DoneSender, channel as wake_channel};

/// Reads at a time: a disk serves several best.
const THREADS: usize = 16;
/// Of finished ones that the node has not looked at; a thread waits while there are more.
const DONE_MAX: usize = 256;

type Job = (ConnId, Prefetch);

/// The node's end of the threads. What waits for them is bounded by the node's clients, each of
/// which waits for its own.
pub(crate) struct PrefetchThreads {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// Tells that a client's rows were read, whatever became of it.
struct Done {
    conn: ConnId,
    tell: DoneSender<ConnId>,
}

impl Drop for Done {
    fn drop(&mut self) {
        // Nobody waits any more if this fails.
        let _ = self.tell.blocking_send(self.conn);
    }
}

impl PrefetchThreads {
    /// Starts them. Clients come out of the receiver, once for each job.
    pub(crate) fn start() -> io::Result<(Self, DoneReceiver<ConnId>)> {
        let (jobs, todo) = channel();
        let (tell, done) = wake_channel(DONE_MAX);
        let todo = Arc::new(Mutex::new(todo));
        let spawn = |number| {
            let (todo, tell) = (todo.clone(), tell.clone());
            Builder::new()
                .name(format!("prefetch-{number}"))
                .spawn(move || work(&todo, &tell))
        };
        let threads = (0..THREADS).map(spawn).collect::<io::Result<_>>()?;
        let jobs = Some(jobs);
        Ok((PrefetchThreads { jobs, threads }, done))
    }

    /// Hands over a job. False if the threads are gone.
    pub(crate) fn submit(&self, job: Job) -> bool {
        (self.jobs.as_ref()).is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

fn work(todo: &Mutex<Receiver<Job>>, tell: &DoneSender<ConnId>) {
    loop {
        // Whoever holds the lock waits for the next job; a receiver has no state to be broken.
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((conn, prefetch)) = next else {
            return;
        };
        let tell = tell.clone();
        let _done = Done { conn, tell };
        prefetch.run();
    }
}

impl Drop for PrefetchThreads {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // Each ends after what it reads; if one panicked that was reported.
            let _ = thread.join();
        }
    }
}
