//! The promises of a session, checked while the bench runs.
//!
//! Each key has one connection that writes it, with numbers that only grow. On every
//! connection, therefore:
//! - **read-your-writes**: a read of a key that the connection writes itself shows at least the
//!   number of its last acknowledged write. Replies come in the order of the requests, so when
//!   a read's reply arrives, the acknowledgements seen are exactly those of the writes that
//!   were sent before it, pipelined ones included.
//! - **monotonic reads**: a read never shows a smaller number than an earlier read of that key
//!   did. This is checked for the keys of others; for own keys the first check says more.
//!
//! A write that was refused, or whose outcome is unknown, promises nothing. A session ends with
//! its connection, or where the server says so (`SESSIONLOST`): what it had seen is forgotten.

use std::collections::HashMap;

/// Keys of others that a connection remembers. Beyond it new keys are not watched, so that a
/// long run over many keys stays small.
const WATCHED_MAX: usize = 1_000_000;

/// What one check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Reads compared with something.
    pub(crate) checked: u64,
    /// Reads that broke the promise.
    pub(crate) violations: u64,
}

impl Tally {
    fn compare(&mut self, shown: u64, least: u64) {
        self.checked += 1;
        self.violations += u64::from(shown < least);
    }

    pub(super) fn add(&mut self, other: Tally) {
        self.checked += other.checked;
        self.violations += other.violations;
    }
}

/// What one session may expect, and what it found.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Own key → the last acknowledged number.
    written: HashMap<u32, u64>,
    /// Key of another → the greatest number read.
    read: HashMap<u32, u64>,
    pub(super) read_your_writes: Tally,
    pub(super) monotonic_reads: Tally,
}

impl Session {
    /// A write of `number` to an own `key` was acknowledged.
    pub(super) fn acknowledged(&mut self, key: u32, number: u64) {
        let last = self.written.entry(key).or_default();
        *last = number.max(*last);
    }

    /// A read of an own `key` showed `number` (0: the key or its field was not there).
    pub(super) fn read_own(&mut self, key: u32, number: u64) {
        if let Some(least) = self.written.get(&key) {
            self.read_your_writes.compare(number, *least);
        }
    }

    /// A read of another's `key` showed `number` (0: the key or its field was not there).
    pub(super) fn read_shared(&mut self, key: u32, number: u64) {
        if let Some(seen) = self.read.get_mut(&key) {
            self.monotonic_reads.compare(number, *seen);
            *seen = number.max(*seen);
        } else if self.read.len() < WATCHED_MAX {
            self.read.insert(key, number);
        }
    }

    /// The session is over; the next one starts without expectations.
    pub(super) fn forget(&mut self) {
        self.written.clear();
        self.read.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_must_show_the_last_acknowledged_write() {
        let mut session = Session::default();
        session.read_own(1, 0);
        assert_eq!(
            session.read_your_writes.checked, 0,
            "nothing was promised yet"
        );
        session.acknowledged(1, 10);
        session.acknowledged(1, 11);
        session.read_own(1, 11);
        session.read_own(1, 12); // written, not yet acknowledged: may show
        assert_eq!(
            session.read_your_writes,
            Tally {
                checked: 2,
                violations: 0
            }
        );
        session.read_own(1, 10);
        session.read_own(1, 0);
        assert_eq!(
            session.read_your_writes,
            Tally {
                checked: 4,
                violations: 2
            }
        );
    }

    #[test]
    fn a_read_never_goes_back() {
        let mut session = Session::default();
        for (number, violations) in [(5, 0), (5, 0), (9, 0), (8, 1), (8, 2), (9, 2)] {
            session.read_shared(1, number);
            assert_eq!(
                session.monotonic_reads.violations, violations,
                "after {number}"
            );
        }
        session.read_shared(2, 1);
        assert_eq!(session.monotonic_reads.violations, 2, "keys are apart");
    }

    #[test]
    fn a_new_session_expects_nothing_of_the_old_one() {
        let mut session = Session::default();
        session.acknowledged(1, 10);
        session.read_shared(2, 10);
        session.forget();
        session.read_own(1, 0);
        session.read_shared(2, 0);
        assert_eq!(session.read_your_writes.violations, 0);
        assert_eq!(session.monotonic_reads.violations, 0);
    }
}
