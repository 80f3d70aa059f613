//! Leases (docs/adr/0011-failover): while a node's lease runs nobody else is named primary of
//! a shard of which it is. Both ends.
//!
//! ```text
//!  a node that is primary of something            the control leader
//!  ─ LeaseAsk { catalog version, length } ─▶ a round to a majority of the voters that begins now
//!     │ counts from here                              │ knows of every failover, no plan against it
//!     ▼                                               ▼
//!  valid until sent + length  ◀─ LeaseGranted ─ remembers: until arrived + length · 1.05
//! ```
//!
//! Always: whatever a holder believes, the leader that granted it, and every later leader,
//! names nobody in its place before that is over. For the leader that granted: it looks at what
//! it remembers. For a later one: the round proves that it was elected after the question was
//! sent, and it waits [`LENGTH_MAX`] · 1.05 from its election, less what no voter that elected
//! it had heard a leader for.

use crate::{
    cluster::{Cluster, Output},
    host::Host,
    message::{LeaseAsk, Message},
};
use model::NodeId;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How often a lease is asked for.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// The shortest lease, and the longest.
const LENGTH_MIN: Duration = Duration::from_millis(500);
/// See [`LENGTH_MIN`].
pub(crate) const LENGTH_MAX: Duration = Duration::from_millis(1200);
/// What a lease is longer than twice the way of a question and its grant: a burst of work makes
/// that way longer before it is measured.
const LENGTH_MORE: Duration = Duration::from_millis(300);
/// Without an answer for so long every voter is asked: one of them leads.
const LOST_AFTER: Duration = Duration::from_millis(400);
/// How long a node that may become primary asks for a lease beforehand.
const BEFOREHAND: Duration = Duration::from_secs(10);
/// Questions without an answer that are remembered.
const ASKED_MAX: usize = 32;
/// Questions that wait for a majority at a leader.
const WAITING_MAX: usize = 4096;

/// How long after the end of a lease what was answered under it may still be said. A part of
/// what [`with_drift`] adds, of which clocks need less.
const SAY_WITHIN: Duration = Duration::from_millis(10);

/// How long it may stay in doubt whether what was answered may be said.
const DOUBT_MAX: Duration = Duration::from_secs(1);

/// With what the clocks of two machines may differ in rate, and [`SAY_WITHIN`].
pub(crate) fn with_drift(length: Duration) -> Duration {
    length + length / 20
}

/// Whether what a node has answered may be said to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It may.
    None,
    /// Not yet: the lease ended before it was said, and another may be primary. It is kept.
    Open,
    /// Never: another was primary, or may have been for too long.
    Void,
}

/// A question that was sent.
#[derive(Debug)]
struct Asked {
    number: u64,
    at: Duration,
    length: Duration,
}

/// What a node holds. Times are of its own monotonic clock.
#[derive(Debug)]
pub struct Lease {
    until: Duration,
    asked: VecDeque<Asked>,
    number: u64,
    next_ask: Duration,
    granted_at: Duration,
    /// The way of a question and its grant: follows a slower one at once, a faster one slowly.
    round_trip: Duration,
    /// Whether it ran at the last look.
    held: bool,
    /// Something was answered under it that has not been said yet.
    answered: bool,
    /// Since it was, this node is no longer primary of something.
    lost: bool,
    /// Since when it is in doubt whether what was answered may be said.
    doubted_since: Option<Duration>,
    /// Until when one is wanted though this node is primary of nothing.
    wanted_until: Duration,
}

impl Lease {
    /// None, at the start of a process that numbers its questions from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Lease {
            until: Duration::ZERO,
            asked: VecDeque::new(),
            number: first,
            next_ask: Duration::ZERO,
            granted_at: Duration::ZERO,
            round_trip: Duration::ZERO,
            held: false,
            answered: false,
            lost: false,
            doubted_since: None,
            wanted_until: Duration::ZERO,
        }
    }

    /// Makes it one that never ends, for tests in which there is no control group.
    #[doc(hidden)]
    pub fn never_ends(&mut self) {
        self.until = Duration::MAX;
    }

    /// Whether nobody else may have been named in this node's place.
    pub(crate) fn holds(&self, now: Duration) -> bool {
        now < self.until
    }

    /// Something is answered under it.
    pub fn answer(&mut self) {
        self.answered = true;
    }

    /// This node is no longer primary of something.
    pub fn deposed(&mut self) {
        self.lost |= self.answered || self.doubted_since.is_some();
    }

    /// Whether there is something for [`Lease::doubt`] to judge.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered || self.doubted_since.is_some()
    }

    /// Whether what was answered and not yet [`said`](Lease::said) may be. Under a lease it
    /// may, if this node is still primary: whoever gets a lease knows of every failover.
    pub(crate) fn doubt(&mut self, now: Duration) -> Doubt {
        debug_assert!(self.has_answered() || !self.lost);
        if self.doubted_since.is_none() && self.answered && now >= self.until + SAY_WITHIN {
            self.doubted_since = Some(now);
        }
        let for_too_long = |since| now.saturating_sub(since) > DOUBT_MAX;
        if std::mem::take(&mut self.lost) || self.doubted_since.is_some_and(for_too_long) {
            self.doubted_since = None;
            self.answered = false;
            return Doubt::Void;
        }
        if self.doubted_since.is_some() && !self.holds(now) {
            return Doubt::Open;
        }
        self.doubted_since = None;
        Doubt::None
    }

    /// All that was answered has been said, but for what is in doubt.
    pub fn said(&mut self) {
        if self.doubted_since.is_none() {
            self.answered = false;
            self.lost = false;
        }
    }

    /// Whether it has ended since this was asked last.
    fn has_lapsed(&mut self, now: Duration) -> bool {
        let holds = self.holds(now);
        std::mem::replace(&mut self.held, holds) && !holds
    }

    /// When it ends, or ended.
    pub fn until(&self) -> Duration {
        self.until
    }

    /// This node may soon be primary.
    pub fn want(&mut self, now: Duration) {
        self.wanted_until = now + BEFOREHAND;
        if !self.holds(now) {
            self.next_ask = now;
        }
    }

    fn length(&self) -> Duration {
        (self.round_trip * 2 + LENGTH_MORE).clamp(LENGTH_MIN, LENGTH_MAX)
    }

    /// The number and length of a question that is sent now.
    fn ask(&mut self, now: Duration) -> (u64, Duration) {
        self.next_ask = now + ASK_EVERY;
        self.number = self.number.wrapping_add(1);
        let (number, length) = (self.number, self.length());
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked {
            number,
            at: now,
            length,
        });
        (number, length)
    }

    /// A question was granted. True if there was no lease and is one now.
    fn granted(&mut self, number: u64, now: Duration) -> bool {
        let Some(at) = self.asked.iter().position(|a| a.number == number) else {
            return false;
        };
        let before = self.holds(now);
        if let Some(asked) = self.asked.drain(..=at).next_back() {
            let took = now.saturating_sub(asked.at);
            self.round_trip = took.max((self.round_trip * 7 + took) / 8);
            self.granted_at = now;
            self.until = self.until.max(asked.at + asked.length);
        }
        !before && self.holds(now)
    }
}

/// A question that waits for a majority.
#[derive(Debug)]
struct Waiting {
    node: NodeId,
    ask: LeaseAsk,
    arrived: Duration,
}

/// What a leader has granted. Thrown away when it stops leading.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    /// By node and process.
    until: BTreeMap<(NodeId, u64), Duration>,
    /// By the number of the round.
    waiting: BTreeMap<u64, Waiting>,
}

impl Granted {
    /// Whether this process of `node` may still believe that it holds a lease.
    pub(crate) fn may_hold(&self, node: &NodeId, process: u64, now: Duration) -> bool {
        let until = self.until.get(&(node.clone(), process));
        until.is_some_and(|until| now < *until)
    }
}

impl<A> Cluster<A> {
    /// Asks for a lease, if one is wanted.
    pub(crate) fn lease_tick(&mut self, host: &impl Host) {
        let now = self.now.monotonic;
        if self.lease.has_lapsed(now) && self.is_any_primary {
            let round_trip_ms = self.lease.round_trip.as_millis() as u64;
            tracing::warn!(
                round_trip_ms,
                "the lease has ended: primaries here wait for another"
            );
        }
        let due = now >= self.lease.next_ask && host.stalled_for().is_none();
        if !due || now >= self.lease.wanted_until && !self.is_any_primary {
            return;
        }
        let (number, length) = self.lease.ask(now);
        let ask = LeaseAsk {
            number,
            nonce: self.boot.nonce,
            catalog_version: self.catalog.version,
            length_ms: length.as_millis() as u32,
        };
        let lost = now.saturating_sub(self.lease.granted_at) > LOST_AFTER;
        let leader = self.control.leader().filter(|_| !lost);
        let voters: Vec<NodeId> = match leader {
            Some(leader) => vec![leader],
            None => self.control.voters().to_vec(),
        };
        for to in voters {
            if to == self.config.id {
                let me = self.config.id.clone();
                self.lease_asked(&me, ask);
            } else {
                self.send(&to, Message::LeaseAsk(ask));
            }
        }
    }

    /// `number` was granted to this node.
    pub(crate) fn lease_granted(&mut self, number: u64) {
        if self.lease.granted(number, self.now.monotonic) {
            self.put(Output::Leased);
            tracing::info!("a lease is held");
            self.report_soon();
        }
    }

    // ---- the leader's end -----------------------------------------------------------------

    /// `node` wants a lease. Only a leader hears it, and answers after a round.
    pub(crate) fn lease_asked(&mut self, node: &NodeId, ask: LeaseAsk) {
        let length = Duration::from_millis(ask.length_ms.into());
        let arrived = self.now.monotonic;
        let Some(leading) = &mut self.leading else {
            return;
        };
        if length > LENGTH_MAX || leading.granted.waiting.len() >= WAITING_MAX {
            return;
        }
        if let Some(round) = self.control.begin_round() {
            let waiting = Waiting {
                node: node.clone(),
                ask,
                arrived,
            };
            leading.granted.waiting.insert(round, waiting);
        }
    }

    /// A round is over that proves that this node still led when it began. Returns whether it
    /// was for a lease.
    pub(crate) fn lease_round(&mut self, round: u64, applied: bool) -> bool {
        let Some(leading) = &mut self.leading else {
            return false;
        };
        let Some(asked) = leading.granted.waiting.remove(&round) else {
            return false;
        };
        let Waiting { node, ask, arrived } = asked;
        let catalog = self.control.catalog();
        let knows = ask.catalog_version >= catalog.last_promotion;
        let boot = catalog.nodes.get(&node).map(|info| info.boot);
        let Some(boot) = boot.filter(|boot| boot.nonce == ask.nonce) else {
            return true; // Another process has registered as this node, or none yet.
        };
        if !applied || !knows || leading.is_planned_against(&node) {
            return true; // It asks again.
        }
        let now = self.now.monotonic;
        let until = arrived + with_drift(Duration::from_millis(ask.length_ms.into()));
        let granted = &mut leading.granted.until;
        granted.retain(|_, until| now < *until);
        let known = granted.entry((node.clone(), boot.process)).or_default();
        *known = until.max(*known);
        let number = ask.number;
        if node == self.config.id {
            self.lease_granted(number);
        } else {
            self.send(&node, Message::LeaseGranted { number });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_was_answered_under_a_lease_is_said_while_nobody_else_may_be_primary() {
        let mut lease = Lease::new(7);
        let renew = |lease: &mut Lease, at: u64| {
            let (number, _) = lease.ask(ms(at));
            lease.granted(number, ms(at));
        };
        renew(&mut lease, 1000);
        assert_eq!(lease.doubt(ms(9000)), Doubt::None, "nothing was answered");
        renew(&mut lease, 9000);
        lease.answer();
        assert_eq!(lease.doubt(ms(9499)), Doubt::None);
        lease.said();
        assert_eq!(lease.doubt(ms(9600)), Doubt::None, "it was said in time");
        lease.answer();
        assert_eq!(lease.doubt(ms(9600)), Doubt::Open);
        lease.said();
        assert_eq!(lease.doubt(ms(9700)), Doubt::Open, "it was kept back");
        renew(&mut lease, 9800);
        assert_eq!(lease.doubt(ms(9801)), Doubt::None, "it is primary still");
        let stopped_before_all_was_said = lease.doubt(ms(10_400));
        assert_eq!(stopped_before_all_was_said, Doubt::Open);
        lease.deposed();
        renew(&mut lease, 10_500);
        assert_eq!(lease.doubt(ms(10_501)), Doubt::Void, "another was primary");
        assert_eq!(lease.doubt(ms(10_502)), Doubt::None);
        lease.answer();
        assert_eq!(lease.doubt(ms(11_100)), Doubt::Open);
        assert_eq!(lease.doubt(ms(12_200)), Doubt::Void, "too long");
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for() {
        let mut lease = Lease::new(7);
        assert!(!lease.holds(ms(0)));
        let (number, length) = lease.ask(ms(1000));
        assert_eq!(length, LENGTH_MIN);
        assert!(lease.granted(number, ms(1200)));
        assert!(lease.holds(ms(1499)) && !lease.holds(ms(1500)));
        assert!(!lease.granted(number, ms(1600)), "an answer counts once");
        assert!(!lease.holds(ms(1600)));
        // The next one allows for the way that was seen.
        let (second, length) = lease.ask(ms(2000));
        assert_eq!(length, ms(700));
        let (third, _) = lease.ask(ms(2100));
        assert!(lease.granted(third, ms(2500)));
        assert!(
            !lease.granted(second, ms(2510)),
            "what came late was overtaken"
        );
        assert_eq!(lease.ask(ms(2600)).1, ms(1100));
        // A faraway leader can't make it longer than a new leader waits.
        let (fourth, _) = lease.ask(ms(3000));
        lease.granted(fourth, ms(9000));
        assert_eq!(lease.ask(ms(9000)).1, LENGTH_MAX);
    }
}
