//! What a primary knows of one replica's log, and how it streams to it.
//!
//! ```text
//!            ack                     report, link made anew, silence
//!   Probe ──────────▶ Stream   Stream ─────────────────────────────▶ Probe
//!     │ its log parted below what ours still holds
//!     ▼
//!   Copy ── the replica reports the position it was filled to ──▶ Probe
//! ```

use model::{
    DiskId,
    catalog::Replica,
    planted::{self, Bug},
};
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
    /// What the catalog says of it.
    pub replica: Replica,
    /// How entries go to it.
    pub phase: Phase,
    /// Up to where its log is known to be ours and durable, as far as that counts: on the disk
    /// on which it is a member. Only grows within an epoch.
    pub matched: u64,
    /// The disk that it spoke of last, and up to where its log is ours and durable there.
    pub held: Option<(DiskId, u64)>,
    /// The first index not sent yet; in Probe, one more than where the logs may agree.
    pub next: u64,
    /// Committed index that it was told last.
    pub told_commit: u64,
    /// The floor that it was told last.
    pub told_floor: u64,
    /// Heartbeats that it was sent, one after the other, while it had everything.
    pub quiet_beats: u8,
    /// The last entry there was when it began to rest, if it did.
    pub rests_at: Option<model::Position>,
    /// Whether there is a link to it, as far as is known.
    pub is_linked: bool,
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
    pub fn new(replica: Replica, next: u64) -> Self {
        Progress {
            replica,
            phase: Phase::Probe,
            matched: 0,
            held: None,
            next,
            told_commit: 0,
            told_floor: 0,
            quiet_beats: 0,
            rests_at: None,
            is_linked: true,
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

    /// The catalog says something else of it now.
    pub fn reassigned(&mut self, replica: Replica) {
        if replica != self.replica {
            self.roused();
        }
        self.replica = replica;
        if let Some((disk, held)) = self.held
            && self.counts_on(disk)
        {
            self.matched = self.matched.max(held);
        }
    }

    fn counts_on(&self, disk: DiskId) -> bool {
        self.replica.disk == Some(disk)
    }

    /// The disk on which it holds everything up to `commit` and is no member yet, if so.
    pub fn has_caught_up(&self, commit: u64) -> Option<DiskId> {
        let (disk, held) = self.held?;
        (held >= commit && (!self.counts_on(disk) || self.replica.replaces.is_some()))
            .then_some(disk)
    }

    /// It holds our log durably up to `matched` on `disk`. True if that is news that `counts`.
    pub fn acknowledged(&mut self, matched: u64, disk: DiskId, counts: bool) -> bool {
        while let Some((last, bytes)) = self.window.front().copied()
            && last <= matched
        {
            self.window.pop_front();
            self.window_bytes -= bytes;
        }
        if counts {
            let before = self.held.filter(|(d, _)| *d == disk).map_or(0, |(_, m)| m);
            self.held = Some((disk, matched.max(before)));
        }
        let counts = counts && (self.counts_on(disk) || planted::is(Bug::CountLearner));
        let news = counts && matched > self.matched;
        if news {
            self.matched = matched;
        }
        news
    }

    /// It rests no more, and is sent heartbeats.
    pub fn roused(&mut self) {
        self.rests_at = None;
        self.quiet_beats = 0;
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
    use model::{NodeId, Region};

    fn replica() -> Replica {
        Replica {
            node: NodeId::new("us-2").unwrap(),
            region: Region::new("us").unwrap(),
            disk: Some(DiskId(2)),
            replaces: None,
            added: 0,
        }
    }

    #[test]
    fn the_window_opens_as_acknowledgements_come() {
        let mut p = Progress::new(replica(), 1);
        let disk = DiskId(2);
        p.sent(10, 600);
        p.sent(20, 600);
        assert!(!p.has_room(1000));
        assert!(p.acknowledged(15, disk, true));
        assert!(p.has_room(1000));
        assert!(
            !p.acknowledged(12, disk, true),
            "an old acknowledgement is no news"
        );
        assert!(!p.acknowledged(18, disk, false), "it does not count");
        assert_eq!((p.matched, p.next), (15, 21));
        p.probe_from(16);
        assert_eq!((p.phase, p.matched, p.next), (Phase::Probe, 15, 16));
        assert!(p.has_room(1));
    }

    #[test]
    fn another_disk_counts_once_the_catalog_says_so() {
        let mut p = Progress::new(replica(), 1);
        assert!(p.acknowledged(15, DiskId(2), true));
        assert!(!p.acknowledged(12, DiskId(3), true));
        assert_eq!(
            (p.has_caught_up(13), p.has_caught_up(12)),
            (None, Some(DiskId(3)))
        );
        assert!(!p.acknowledged(20, DiskId(3), true));
        assert_eq!(p.matched, 15);
        p.reassigned(Replica {
            disk: Some(DiskId(3)),
            ..replica()
        });
        assert_eq!((p.matched, p.has_caught_up(12)), (20, None));
    }
}
