//! How fresh a follower is: as of which moment of its own clock it has everything.
//!
//! A leader echoes a clock that it has heard of each follower, and says beside it what is committed.
//! Whatever was committed before the follower read that clock is at or below it: once it is applied
//! here, this replica is as fresh as that moment. But a leader that was deposed knows nothing of what
//! its successor commits. So it echoes only what it had heard before a moment at which it surely led:
//! a majority (itself included) has echoed its clock as of then, or later, in its own term, and so had
//! voted for nobody else by then.

use super::message::Beside;
use std::{collections::VecDeque, time::Duration};

/// Clocks of a follower that wait for the leader to be sure, at most: newer ones are left out.
const UNSURE_MAX: usize = 64;

/// What was heard of another member.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Its clock, in ms, and of which of its processes that is.
    clock: u64,
    process: u64,
    pub(super) at: Option<Duration>,
    /// In which term it has echoed which moment of the clock of this process, last.
    echoed: (u64, u64),
    /// Its clocks by when they were heard here, both in ms, that are newer than `sure`.
    unsure: VecDeque<(u64, u64)>,
    /// The newest that was heard before a moment at which this member led.
    sure: u64,
}

impl Heard {
    /// `own`: the term and the process of whom it was heard by.
    pub(super) fn heard(&mut self, beside: &Beside, own: (u64, u64), now: Duration) {
        let (term, process) = own;
        if beside.process != self.process {
            *self = Heard::default();
        }
        (self.clock, self.process) = (beside.clock, beside.process);
        self.at = Some(now);
        if beside.echo_process == process && beside.term == term {
            self.echoed = self.echoed.max((term, beside.echo));
        }
        if self.unsure.len() < UNSURE_MAX {
            self.unsure
                .push_back((now.as_millis() as u64, beside.clock));
        }
    }

    /// Which moment of this member's clock it has echoed in `term`.
    pub(super) fn echoed_in(&self, term: u64) -> u64 {
        if self.echoed.0 == term {
            self.echoed.1
        } else {
            0
        }
    }

    /// What is echoed to it, and of which of its processes that is the clock: the last clock, by whom
    /// does not lead; by a leader that led for sure at `led_at` (ms) the last that it had heard then.
    pub(super) fn echo(&mut self, led_at: Option<u64>) -> (u64, u64) {
        let Some(led_at) = led_at else {
            return (self.clock, self.process);
        };
        while let Some((at, clock)) = self.unsure.front()
            && *at <= led_at
        {
            self.sure = self.sure.max(*clock);
            self.unsure.pop_front();
        }
        (self.sure, self.process)
    }
}

/// When a leader led for sure, by its clock in ms: a majority of the voters has echoed that moment, or
/// a later one. `echoed`: what each has, now for the leader itself.
pub(super) fn led_at(mut echoed: Vec<u64>) -> u64 {
    echoed.sort_unstable_by(|a, b| b.cmp(a));
    echoed.get(echoed.len() / 2).copied().unwrap_or(0)
}

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
    fn a_leader_vouches_for_what_it_heard_while_it_surely_led() {
        assert_eq!(led_at(vec![50]), 50);
        assert_eq!(led_at(vec![50, 20, 40]), 40);
        assert_eq!(led_at(vec![50, 20, 0]), 20);
        assert_eq!(led_at(vec![50, 10, 20, 40, 0]), 20);
        assert_eq!(led_at(vec![50, 30, 0, 0]), 0);
        let ms = Duration::from_millis;
        let said = |clock, term, echo| Beside {
            clock,
            process: 9,
            term,
            echo,
            echo_process: 7,
            ..Beside::default()
        };
        let mut heard = Heard::default();
        heard.heard(&said(1000, 4, 35), (4, 7), ms(40));
        heard.heard(&said(1020, 5, 50), (4, 7), ms(60));
        assert_eq!((heard.echoed_in(4), heard.echoed_in(5)), (35, 0));
        assert_eq!(heard.echo(None), (1020, 9));
        assert_eq!(heard.echo(Some(39)), (0, 9));
        assert_eq!(heard.echo(Some(40)), (1000, 9));
        assert_eq!(heard.echo(Some(70)), (1020, 9));
        // Its next process has another clock.
        let other = Beside {
            process: 8,
            ..said(3, 4, 90)
        };
        heard.heard(&other, (4, 7), ms(90));
        assert_eq!(heard.echo(Some(80)), (0, 8));
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
