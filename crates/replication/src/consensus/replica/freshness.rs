//! How fresh a follower is: as of which moment of its own clock it has everything.
//!
//! A leader echoes the clock that it last heard of each follower, and says beside it what is committed.
//! Whatever was committed before the follower read that clock is at or below it: once it is applied
//! here, this replica is as fresh as that moment.

use super::message::Beside;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
struct Told {
    /// What has to be applied.
    upto: u64,
    /// The moment by this node's clock.
    at: Duration,
    /// Shard time then, at the leader.
    time_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Freshness {
    fresh_at: Option<Duration>,
    time_ms: u64,
    /// The oldest that is not applied yet: later ones don't take its place, or a replica that is
    /// always a little behind would never be fresh.
    waiting: Option<Told>,
    /// The newest.
    next: Option<Told>,
}

impl Freshness {
    /// Its leader said so.
    pub(super) fn told(&mut self, beside: &Beside, applied: u64) {
        self.next = Some(Told {
            upto: beside.commit,
            at: Duration::from_millis(beside.echo),
            time_ms: beside.time_ms,
        });
        self.applied(applied);
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: u64) {
        for _ in 0..2 {
            if self.waiting.is_none() {
                self.waiting = self.next.take();
            }
            if let Some(told) = self.waiting.take_if(|told| told.upto <= index) {
                self.fresh_at = self.fresh_at.max(Some(told.at));
                self.time_ms = self.time_ms.max(told.time_ms);
            }
        }
    }

    /// What was told by a leader that is no more counts as far as it is applied.
    pub(super) fn forget_told(&mut self) {
        (self.waiting, self.next) = (None, None);
    }

    pub(super) fn fresh_at(&self) -> Option<Duration> {
        self.fresh_at
    }

    pub(super) fn time_ms(&self) -> u64 {
        self.time_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(commit: u64, echo: u64) -> Beside {
        Beside {
            commit,
            echo,
            time_ms: 1000 + echo,
            ..Beside::default()
        }
    }

    #[test]
    fn a_replica_is_as_fresh_as_what_it_has_applied() {
        let mut freshness = Freshness::default();
        freshness.told(&told(5, 10), 4);
        assert_eq!(freshness.fresh_at(), None);
        // A later word doesn't put it off.
        freshness.told(&told(9, 20), 4);
        freshness.applied(5);
        assert_eq!(freshness.fresh_at(), Some(Duration::from_millis(10)));
        assert_eq!(freshness.time_ms(), 1010);
        freshness.applied(9);
        assert_eq!(freshness.fresh_at(), Some(Duration::from_millis(20)));
        freshness.told(&told(9, 15), 9);
        assert_eq!(freshness.fresh_at(), Some(Duration::from_millis(20)));
    }
}
