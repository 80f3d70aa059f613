//! Rows that may be in no memory are read by another thread first.
//!
//! A look-up in files waits for the disk where the system does not hold the block: milliseconds
//! in which a thread that looks up does nothing else. Once that has taken a notable part of the
//! time ([`Waits`]), what is about to be asked for is read by a [`Prefetch`] on another thread,
//! and looked up when that is through. Nothing but time depends on it: what it reads it drops,
//! and the blocks are in memory then.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // it measures what a disk takes

use std::{
    cell::Cell,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What a command that is about to come probably looks up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guess<'a> {
    /// A key.
    pub key: &'a [u8],
    /// A field, if the key is a hash.
    pub field: Option<&'a [u8]>,
}

/// Reads rows, for nothing but that they are in memory then. Run it where blocking is allowed.
#[must_use]
pub struct Prefetch(Box<dyn FnOnce() + Send>);

impl Prefetch {
    /// Reads them by `read`.
    pub fn new(read: impl FnOnce() + Send + 'static) -> Self {
        Prefetch(Box::new(read))
    }

    /// Blocks for as long as the disk takes.
    pub fn run(self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Prefetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prefetch")
    }
}

/// A look-up that takes longer may have waited for a disk.
const LONG: Duration = Duration::from_micros(200);
/// What is waited for disks within [`WINDOW`] before it counts.
const WAITED: Duration = Duration::from_millis(20);
/// See [`WAITED`].
const WINDOW: Duration = Duration::from_secs(1);
/// For how long it counts after the last time.
const COLD_FOR: Duration = Duration::from_secs(5);

/// How much look-ups have waited for disks lately, on all threads of a node.
pub(super) struct Waits {
    start: Instant,
    recent: Mutex<Recent>,
    /// In microseconds since `start`; 0 if look-ups have not waited.
    cold_until: AtomicU64,
}

#[derive(Debug, Default)]
struct Recent {
    since: Duration,
    waited: Duration,
}

impl Recent {
    /// A look-up waited for `took`. Whether it was too much lately.
    fn add(&mut self, now: Duration, took: Duration) -> bool {
        if now.saturating_sub(self.since) > WINDOW {
            *self = Recent {
                since: now,
                waited: Duration::ZERO,
            };
        }
        self.waited += took;
        self.waited >= WAITED
    }
}

impl Waits {
    pub(super) fn new() -> Self {
        Waits {
            start: Instant::now(),
            recent: Mutex::default(),
            cold_until: AtomicU64::new(0),
        }
    }

    /// Looks up, and notes how long that waited for a disk.
    pub(super) fn look_up<T>(&self, look_up: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let found = look_up();
        let took = began.elapsed();
        // A thread that waited for a processor took long, too.
        if took >= LONG && has_read_from_disk() {
            self.note(self.start.elapsed(), took);
        }
        found
    }

    /// Whether look-ups have waited for disks so much that it is better to prefetch.
    pub(super) fn is_cold(&self) -> bool {
        self.cold_until.load(Relaxed) > 0 && self.is_cold_at(self.start.elapsed())
    }

    fn is_cold_at(&self, now: Duration) -> bool {
        let until = self.cold_until.load(Relaxed);
        let cold = Duration::from_micros(until) > now;
        if !cold && until > 0 {
            // Unless another thread has just put it off.
            let _ = (self.cold_until).compare_exchange(until, 0, Relaxed, Relaxed);
        }
        cold
    }

    #[cfg(test)]
    pub(super) fn are_long(&self) {
        self.note(self.start.elapsed(), WAITED);
    }

    fn note(&self, now: Duration, took: Duration) {
        // It is whole after each statement.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.add(now, took) {
            let until = (now + COLD_FOR).as_micros() as u64;
            self.cold_until.fetch_max(until, Relaxed);
        }
    }
}

/// Whether this thread has read from a disk since this was asked last, and not for the first
/// time; if the system does not say, it may have. What else it read since counts, too: that is
/// seldom, and costs time alone.
fn has_read_from_disk() -> bool {
    thread_local!(static BEFORE: Cell<u64> = const { Cell::new(u64::MAX) });
    let io = fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let bytes = io
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: ")?.parse::<u64>().ok());
    bytes.is_none_or(|bytes| BEFORE.replace(bytes) < bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_is_cold_while_look_ups_wait_for_disks() {
        let waits = Waits::new();
        assert!(!waits.is_cold());
        // Now and then one waits.
        for second in 0..10 {
            waits.note(ms(second * 1100), ms(15));
            assert!(!waits.is_cold_at(ms(second * 1100)));
        }
        // Many do.
        waits.note(ms(20_000), ms(12));
        waits.note(ms(20_500), ms(12));
        assert!(waits.is_cold_at(ms(20_500)) && waits.is_cold_at(ms(25_499)));
        waits.note(ms(24_000), ms(30));
        assert!(waits.is_cold_at(ms(28_999)));
        assert!(!waits.is_cold_at(ms(29_000)));
        assert_eq!(
            waits.cold_until.load(Relaxed),
            0,
            "asked without a clock again"
        );
        assert!(!waits.is_cold());
    }
}
