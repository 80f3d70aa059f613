//! A look through everything on a node's disk, stores and log, beside the node and at a bounded
//! rate: decay is found before a read, a restart or a failover depends on what has decayed.
//!
//! ```text
//! Scrub ── work ─▶ a thread of its own: reads, compares checksums, sleeps
//!    └──── watch ─▶ the node: how far it is, and what became of it; dropped, the work ends
//! ```
//! What a store's files have is known to the store then ([`Rows::damage`](crate::store::Rows::damage));
//! what the log has is told.

use crate::{
    log::{Decay, ScrubLog},
    store::ScrubFiles,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What is to be looked through, and how fast.
#[must_use]
pub struct Scrub {
    /// The files of each shard's rows.
    pub stores: Vec<ScrubFiles>,
    /// The log.
    pub log: ScrubLog,
    /// How much is read of a second, at most.
    pub bytes_per_second: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// How much was read.
    pub bytes: u64,
    /// Damage of the log.
    pub decays: Vec<Decay>,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicU64,
    ended: Mutex<Option<Vec<Decay>>>,
    stop: AtomicBool,
}

/// The node's end of it.
pub struct ScrubWatch(Arc<Shared>);

/// For so long at most a thread sleeps that nobody waits for any more.
const SLEEP_MAX: Duration = Duration::from_millis(100);

impl Scrub {
    /// What is to be done where blocking is allowed, and what tells of it.
    pub fn begin(self) -> (Box<dyn FnOnce() + Send>, ScrubWatch) {
        let shared = Arc::new(Shared::default());
        let watch = ScrubWatch(shared.clone());
        (Box::new(move || self.run(&shared)), watch)
    }

    fn run(self, shared: &Shared) {
        let rate = self.bytes_per_second.max(1);
        let mut paced = |bytes: u64| {
            shared.bytes.fetch_add(bytes, Relaxed);
            let mut left = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
            while !left.is_zero() && !shared.stop.load(Relaxed) {
                let nap = left.min(SLEEP_MAX);
                left -= nap;
                #[allow(clippy::disallowed_methods)] // a thread of its own, that nobody waits for
                std::thread::sleep(nap);
            }
            !shared.stop.load(Relaxed)
        };
        for scrub in self.stores {
            scrub(&mut paced);
        }
        let decays = self.log.run(&mut paced);
        *shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(decays);
    }
}

impl ScrubWatch {
    /// How much was read so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// What was found, once it has ended.
    pub fn take(&self) -> Option<Scrubbed> {
        let mut ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.bytes();
        ended.take().map(|decays| Scrubbed { bytes, decays })
    }
}

impl Drop for ScrubWatch {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}
