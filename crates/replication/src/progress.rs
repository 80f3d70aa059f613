//! What a primary knows of one replica's log, and how it streams to it.
//!
//! ```text
//!            ack                     report, link made anew, silence
//!   Probe ──────────▶ Stream   Stream ─────────────────────────────▶ Probe
//!     │ its log parted below what ours still holds
//!     ▼
//!   Copy ── the replica reports the position it was filled to ──▶ Probe
//! ```

use model::Region;
use std::{collections::VecDeque, time::Duration};

/// How entries go to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Where its log agrees with ours is not known: one empty append at a time.
    Probe,
    /// It is known to agree below `next`: entries are sent without waiting.
    Stream,
    /// It lacks entries that our log no longer holds, and copies the store. Nothing is sent
    /// but heartbeats.
    Copy,
}

/// One replica, as its primary sees it.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Where it stands.
    pub region: Region,
    /// How entries go to it.
    pub phase: Phase,
    /// Up to where its log is known to be ours and durable. Only grows within an epoch.
    pub matched: u64,
    /// The first index not sent yet; in Probe, one more than where the logs may agree.
    pub next: u64,
    /// Committed index that it was told last.
    pub told_commit: u64,
    /// When something was sent last.
    pub sent_at: Option<Duration>,
    /// When it was heard of last.
    pub heard_at: Option<Duration>,
    /// The moment of *its* clock that it told us last, to be echoed; 0 if that may have been an
    /// earlier process.
    pub echo: u64,
    /// The index that is being read from the log for it, if any.
    pub fetching: Option<u64>,
    /// Entries read from the log for it, to be sent next.
    pub fetched: Vec<model::Entry>,
    /// What is under way: (last index, bytes), oldest first.
    window: VecDeque<(u64, usize)>,
    /// The bytes of `window`.
    window_bytes: usize,
}

impl Progress {
    /// Nothing is known yet; the first probe asks about `next - 1`.
    pub fn new(region: Region, next: u64) -> Self {
        Progress {
            region,
            phase: Phase::Probe,
            matched: 0,
            next,
            told_commit: 0,
            sent_at: None,
            heard_at: None,
            echo: 0,
            fetching: None,
            fetched: Vec::new(),
            window: VecDeque::new(),
            window_bytes: 0,
        }
    }

    /// Whether more may be sent before something is acknowledged.
    pub fn has_room(&self, bytes_max: usize) -> bool {
        self.window_bytes < bytes_max
    }

    /// Entries up to `last` went out.
    pub fn sent(&mut self, last: u64, bytes: usize) {
        self.next = last + 1;
        self.window.push_back((last, bytes));
        self.window_bytes += bytes;
    }

    /// It holds our log durably up to `matched`. True if that is news that `counts`.
    pub fn acknowledged(&mut self, matched: u64, counts: bool) -> bool {
        while let Some((last, bytes)) = self.window.front().copied()
            && last <= matched
        {
            self.window.pop_front();
            self.window_bytes -= bytes;
        }
        let news = counts && matched > self.matched;
        if news {
            self.matched = matched;
        }
        news
    }

    /// Back to asking: its log may agree with ours up to `next - 1`.
    pub fn probe_from(&mut self, next: u64) {
        self.phase = Phase::Probe;
        self.next = next.max(1);
        self.sent_at = None;
        self.fetching = None;
        self.fetched.clear();
        self.window.clear();
        self.window_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_as_acknowledgements_come() {
        let mut p = Progress::new(Region::new("us").unwrap(), 1);
        p.sent(10, 600);
        p.sent(20, 600);
        assert!(!p.has_room(1000));
        assert!(p.acknowledged(15, true));
        assert!(p.has_room(1000));
        assert!(
            !p.acknowledged(12, true),
            "an old acknowledgement is no news"
        );
        assert!(!p.acknowledged(18, false), "it does not count");
        assert_eq!((p.matched, p.next), (15, 21));
        p.probe_from(16);
        assert_eq!((p.phase, p.matched, p.next), (Phase::Probe, 15, 16));
        assert!(p.has_room(1));
    }
}
