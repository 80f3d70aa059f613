//! What one command, or one transaction, may cost: counted before and while the work is done,
//! so that no command holds up the node's thread for long, whatever it asks and however much
//! lies there.
//!
//! ```text
//! a byte read, written, or replied                   1, or 3 beyond 64 KiB ([`model::work`])
//! a row that is passed by                            [`ROW`], and its bytes
//! a key or a field that is looked up                 [`LOOK_UP`], and its value's bytes
//! a key or a field that is written                   [`WRITE`], and its value's bytes
//! a pair of bytes that LCS compares                  [`PAIR`]
//! a byte of a pattern that is compared               [`STEP`]
//! ```
//! A unit is about what copying a byte costs, half a nanosecond: [`WORK_MAX`] is some 60 ms (150 on
//! a machine whose memory is slow), and enough to read the largest string and to reply it, or to
//! write it again. What is written costs as much once more when it is applied, in a turn of its own.

use std::cell::Cell;

/// A row that a scan passes by.
pub const ROW: u64 = 512;
/// A key or a field that is looked up.
pub const LOOK_UP: u64 = 1024;
/// A key or a field that is written.
pub const WRITE: u64 = 2048;
/// A pair of bytes that LCS compares: a step of its table, which has two bytes.
pub(crate) const PAIR: u64 = 8;
/// A byte of a pattern that is compared.
pub(crate) const STEP: u64 = 8;

/// What one command may cost if nothing else is configured (`limits.command_work_max`).
pub const WORK_MAX: u64 = 128 << 20;

/// How much a command may still do, and has done.
#[derive(Debug)]
pub struct Work {
    max: u64,
    left: Cell<u64>,
    over: Cell<bool>,
    seen: Cell<Seen>,
}

/// What a command met, for whoever counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Keys that it looked up to read them, and found.
    pub hits: u64,
    /// The same, of those that it did not find.
    pub misses: u64,
    /// Keys that it deletes because their time is over.
    pub expired: u64,
}

/// More was asked than is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl Work {
    /// So much.
    pub fn new(max: u64) -> Self {
        Work {
            max,
            left: Cell::new(max),
            over: Cell::new(false),
            seen: Cell::default(),
        }
    }

    /// Notes a key that was looked up to be read.
    pub(crate) fn looked_up(&self, found: bool) {
        let mut seen = self.seen.get();
        seen.hits += u64::from(found);
        seen.misses += u64::from(!found);
        self.seen.set(seen);
    }

    /// Notes a key that is deleted because its time is over.
    pub(crate) fn expired(&self) {
        let mut seen = self.seen.get();
        seen.expired += 1;
        self.seen.set(seen);
    }

    /// What was noted since this was asked last.
    pub fn take_seen(&self) -> Seen {
        self.seen.take()
    }

    /// How much there was.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How much is left.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// How much was done.
    pub fn done(&self) -> u64 {
        self.max - self.left.get()
    }

    /// Whether more was asked than there was.
    pub fn is_exhausted(&self) -> bool {
        self.over.get()
    }

    /// Takes `work` from what is left. Where that is not enough, nothing is left.
    pub fn spend(&self, work: u64) -> Result<(), Exhausted> {
        match self.left.get().checked_sub(work) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                self.over.set(true);
                Err(Exhausted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_beyond_the_end_leaves_nothing() {
        let work = Work::new(10);
        assert_eq!(work.spend(10), Ok(()));
        assert!(!work.is_exhausted() && work.left() == 0);
        assert_eq!(work.spend(1), Err(Exhausted));
        assert!(work.is_exhausted());
        assert_eq!((work.left(), work.done(), work.max()), (0, 10, 10));
    }
}
