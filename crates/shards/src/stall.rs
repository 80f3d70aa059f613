//! A disk that does not answer (docs/adr/0011-failover, "A disk that hangs").
//!
//! ```text
//!  Answers ── a write or sync of the log is outstanding for `disk_stall_after` ──▶ Stalled
//!     ▲                                                                               │
//!     └───────────────────────── nothing is outstanding for so long ◀─────────────────┘
//! ```
//!
//! A stalled node asks for no lease, so that its primaries end with the one it holds; its
//! replicas answer no reads, and tell everybody; as leader of the control group it hands over.
//! The leader takes its primaries for gone and its replicas for silent. What would need the disk on
//! the node's own thread, which would hang with it, is dropped: it is sent again. Nothing else changes:
//! what waits for the disk is neither given up nor acknowledged, and is durable once the disk
//! moves again.
//!
//! Time in which this node itself did nothing is not counted: what the disk said meanwhile has
//! not been looked at.

use std::time::Duration;

/// How long this node's disk has not answered.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    /// For how long it may.
    bound: Duration,
    /// When this node was away last.
    back_at: Duration,
    /// Since when it is stalled, counted from the question that it has not answered.
    since: Option<Duration>,
}

/// What a look at the disk shows that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has not answered for too long.
    Stalled,
    /// It has answered, after so long.
    Answers(Duration),
}

impl DiskWatch {
    pub(crate) fn new(bound: Duration) -> Self {
        DiskWatch {
            bound,
            back_at: Duration::ZERO,
            since: None,
        }
    }

    /// From now on it may take so long.
    pub(crate) fn set_bound(&mut self, bound: Duration) {
        self.bound = bound;
    }

    /// This node did nothing until `now`.
    pub(crate) fn absent(&mut self, now: Duration) {
        self.back_at = now;
    }

    /// `outstanding`: when the oldest was asked that is not answered.
    pub(crate) fn look(&mut self, outstanding: Option<Duration>, now: Duration) -> Option<News> {
        let since = outstanding.map(|at| at.max(self.back_at));
        let stalled = since.filter(|at| now.saturating_sub(*at) >= self.bound);
        match (self.since, stalled) {
            (None, Some(since)) => {
                self.since = Some(since);
                Some(News::Stalled)
            }
            // After a pause of its own it waits for the same answer still.
            (Some(_), None) if outstanding.is_some_and(|at| at < self.back_at) => None,
            (Some(since), None) => {
                self.since = None;
                Some(News::Answers(now.saturating_sub(since)))
            }
            _ => None,
        }
    }

    /// Whether it has not answered for too long.
    pub(crate) fn is_stalled(&self) -> bool {
        self.since.is_some()
    }

    /// For how long it has not answered, if that is too long.
    pub(crate) fn stalled_for(&self, now: Duration) -> Option<Duration> {
        self.since.map(|since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_disk_is_stalled_while_an_answer_is_out_for_too_long() {
        let mut watch = DiskWatch::new(ms(3000));
        assert_eq!(watch.look(None, ms(9000)), None, "nothing was asked");
        assert_eq!(watch.look(Some(ms(10_000)), ms(12_999)), None);
        assert_eq!(watch.look(Some(ms(10_500)), ms(13_400)), None, "slow");
        assert_eq!(
            watch.look(Some(ms(10_500)), ms(13_500)),
            Some(News::Stalled)
        );
        assert_eq!(watch.look(Some(ms(10_500)), ms(14_000)), None, "said once");
        assert_eq!(watch.stalled_for(ms(14_000)), Some(ms(3500)));
        let answers = watch.look(Some(ms(14_100)), ms(14_200));
        assert_eq!(answers, Some(News::Answers(ms(3700))));
        assert!(!watch.is_stalled());
    }

    #[test]
    fn the_nodes_own_pause_is_not_the_disks() {
        let mut watch = DiskWatch::new(ms(3000));
        watch.absent(ms(20_000));
        assert_eq!(watch.look(Some(ms(10_000)), ms(20_000)), None);
        assert_eq!(
            watch.look(Some(ms(10_000)), ms(23_000)),
            Some(News::Stalled)
        );
        watch.absent(ms(30_000));
        assert_eq!(watch.look(Some(ms(10_000)), ms(30_000)), None);
        assert!(watch.is_stalled(), "the same answer is waited for");
        assert!(watch.look(None, ms(30_020)).is_some());
    }
}
