//! Primary-replica: one replica takes the writes, appends them, and streams its log to the
//! others (the shape of PacificA and of Kafka's in-sync replicas).
//!
//! ```text
//!           assigned, this process in office          barrier committed
//! Replica ────────────────────────────────▶ Starting ───────────────────▶ Primary
//!    ▲  │                                       │ another epoch              │
//!    │  └─ NeedsCopy, NeedsRewind ─▶ Learner ─▶ Replica ◀───────────────────┘ Lost
//! ```
//!
//! # Invariants
//! - Within an epoch only one process appends; it begins with a *barrier*, and nothing of the
//!   epoch, and nothing inherited, counts as committed before the barrier does; but for what
//!   the plan that named its primary has *decreed* to be, because it may lose something.
//! - A replica appends an entry only behind the entry that precedes it in its primary's log
//!   (same epoch and index), so two logs that share an entry share all before it.
//! - `verified` at a replica is the index up to which its log is known to be its primary's *in
//!   this epoch*; what it acknowledges is never above that, nor above what is durable.
//! - Committed is never above durable here, on the primary and on a replica alike. A tail that
//!   parts from the primary's is therefore cut from the log alone; if what was applied has
//!   parted too, the replica rewinds: its host takes back what the tail had touched.
//! - While its host fills or rewinds the store a replica takes in nothing; from then on until
//!   it has applied as much as was fetched (`until`) it is a learner, and what it acknowledges
//!   counts only once its log holds `until`. If a later primary's log lacks `until`, what was
//!   fetched is part of no history any more: the store is copied.
//! - Sealed for an epoch it takes part in none before it: `epoch` is at least what it was
//!   sealed for, and what it says and hears is of `epoch` alone.
//! - Only members on the disk that the catalog has for them count for the rule. Who has caught
//!   up on another disk, or in another's place, is confirmed through the catalog; from asking
//!   for that until the catalog says so, what is committed satisfies the members as they are
//!   and as they will be.
//! - `floor` only grows: a log that every member holds durably is part of every later
//!   primary's.
//! - A replica that rests at the last entry, has all of it and was told so is told nothing by
//!   its primary: with the next entry it rests no more.
//! - With `async` an entry leaves the primary once it is durable there; with the other rules
//!   at once, while its own sync is under way.
//!
//! `message` has the messages, `primary` and `replica` the two halves, this file what they
//! share.

mod core;
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod primary;
mod replica;
mod tuning;

use self::core::{Assigned, Core};
use crate::{
    protocol::{
        Assignment, Copied, Identity, MemberState, Office, Order, Output, Protocol, Reading,
        Recovered, Refused, Role, State, not_ours,
    },
    session::{Satisfied, satisfied},
    tail::Tail,
};
use bytes::Bytes;
use message::{Body, Message};
use model::{
    Entry, EntryKind, Epoch, EpochHistory, HybridClock, NodeId, Now, Position, Stamp,
    planted::{self, Bug},
};
use primary::Primary;
use replica::Follower;
use std::{collections::VecDeque, time::Duration};
pub use tuning::Tuning;

#[derive(Debug)]
enum Half {
    Primary(Primary),
    Follower(Follower),
}

const TOPOLOGY: &str = "primary-replica";

/// One replica of one shard under this topology. See the module's documentation.
#[derive(Debug)]
pub struct PrimaryReplica {
    core: Core,
    half: Half,
}

impl PrimaryReplica {
    /// A replica with what its disk still holds. It follows until it is assigned.
    pub fn new(identity: Identity, recovered: Recovered, tuning: Tuning) -> Self {
        let mut clock = HybridClock::default();
        clock.observe(recovered.stamp);
        let commit = recovered
            .commit
            .max(recovered.applied)
            .min(recovered.last.index);
        let mut core = Core {
            identity,
            epoch: recovered.last.epoch.max(recovered.sealed),
            history: recovered.history,
            last: recovered.last,
            durable: recovered.last.index,
            commit,
            applied: recovered.applied,
            first_index: recovered.first_index,
            clock,
            tail: Tail::new(recovered.last.index + 1, tuning.tail_bytes),
            outputs: VecDeque::new(),
            assigned: None,
            filling: recovered.filling,
            until: recovered.until,
            floor: None,
            vouches: true,
            stopped: None,
            tuning,
        };
        if commit > recovered.applied {
            core.outputs.push_back(Output::Commit { upto: commit });
        }
        let half = Half::Follower(Follower::new(&core));
        PrimaryReplica { core, half }
    }

    fn depose(&mut self) {
        if let Half::Primary(primary) = &self.half {
            self.core.floor = Some(primary.floor(&self.core)).max(self.core.floor);
            self.core.outputs.push_back(Output::Lost {
                commit: self.core.commit,
            });
            self.half = Half::Follower(Follower::new(&self.core));
        }
    }

    /// In another epoch it follows anew, and can be read as before until its primary speaks: what it
    /// has only gets older.
    fn follow(&mut self) {
        self.depose();
        let mut follower = Follower::new(&self.core);
        if let Half::Follower(before) = &self.half {
            follower.shows_as_before(before);
        }
        self.half = Half::Follower(follower);
    }

    fn seal(&mut self, epoch: Epoch) {
        if epoch > self.core.epoch && self.core.stopped.is_none() {
            self.core.epoch = epoch;
            self.follow();
        }
    }

    fn rewound(&mut self, common: Position, until: Position, now: Now) {
        let core = &mut self.core;
        core.history.truncate_after(common.index);
        core.last = common;
        core.durable = common.index;
        core.commit = common.index;
        core.applied = common.index;
        core.tail = Tail::new(common.index + 1, core.tuning.tail_bytes);
        core.filling = false;
        core.until = (until.index > common.index).then_some(until);
        if let Half::Follower(follower) = &mut self.half {
            follower.begin_anew(core, now);
        }
    }

    fn rewind_given_up(&mut self, now: Now) {
        self.core.filling = false;
        if let Half::Follower(follower) = &mut self.half {
            follower.begin_anew(&mut self.core, now);
        }
    }
}

impl Protocol for PrimaryReplica {
    fn assign(&mut self, assignment: Assignment, now: Now) {
        let core = &mut self.core;
        let Office::PrimaryReplica(primacy) = assignment.office else {
            return core.stop(not_ours(core.identity.shard, TOPOLOGY, "office"));
        };
        let members = assignment.members;
        let assigned = Assigned { members, primacy };
        if assigned.primacy.epoch < core.epoch
            || core.assigned.as_ref() == Some(&assigned)
            || core.stopped.is_some()
        {
            return;
        }
        let primacy = &assigned.primacy;
        let newer = primacy.epoch > core.epoch
            || core
                .assigned
                .as_ref()
                .is_none_or(|a| a.primacy.epoch < primacy.epoch);
        core.epoch = primacy.epoch;
        let in_office = primacy.in_office && primacy.primary == core.identity.node;
        core.assigned = Some(assigned);
        if !newer {
            if let Half::Primary(primary) = &mut self.half {
                primary.reassigned(core, now);
            }
            return;
        }
        self.follow();
        if in_office {
            self.half = Half::Primary(Primary::take_office(&mut self.core, now));
        }
    }

    fn order(&mut self, order: Order, now: Now) {
        match order {
            Order::Seal(epoch) => self.seal(epoch),
            Order::Rewound { common, until } => self.rewound(common, until, now),
            Order::RewindGivenUp => self.rewind_given_up(now),
            Order::TransferTo(_) => {
                let shard = self.core.identity.shard;
                self.core.stop(not_ours(shard, TOPOLOGY, "order"));
            }
        }
    }

    fn propose(
        &mut self,
        kind: EntryKind,
        ops: u16,
        payload: &[u8],
        now: Now,
    ) -> Result<Entry, Refused> {
        match &mut self.half {
            Half::Primary(primary) if self.core.stopped.is_none() => {
                primary.propose(&mut self.core, kind, ops, payload, now)
            }
            _ => Err(Refused::NotPrimary {
                shard: self.core.identity.shard,
            }),
        }
    }

    fn receive(&mut self, from: &NodeId, message: Bytes, now: Now) {
        let Ok(message) = Message::decode(message) else {
            return;
        };
        let core = &mut self.core;
        let known = core
            .assigned
            .as_ref()
            .is_none_or(|a| a.members.iter().any(|r| r.node == *from));
        if core.stopped.is_some() || !known {
            return;
        }
        if message.epoch < core.epoch && !planted::is(Bug::AcceptOlderEpoch) {
            if let Body::Append(_) | Body::Behind { .. } = message.body {
                core.send(from, Body::Stale);
            }
            return;
        }
        let from_primary = matches!(message.body, Body::Append(_) | Body::Behind { .. });
        if message.epoch > core.epoch {
            // Only a primary in office speaks in an epoch; the catalog will tell us too. What
            // a replica says of a newer epoch is for whoever holds it.
            if !from_primary && !matches!(message.body, Body::Stale) {
                return;
            }
            core.epoch = message.epoch;
            self.follow();
        }
        let core = &mut self.core;
        match (&mut self.half, message.body) {
            (Half::Primary(primary), Body::Ack(ack)) => {
                primary.acknowledged(core, from, ack, now);
            }
            (
                Half::Primary(primary),
                Body::Report {
                    last,
                    history,
                    probe,
                },
            ) => {
                primary.reported(core, from, last, &history, probe, now);
            }
            (Half::Follower(follower), Body::Append(append)) => {
                follower.append(core, from, append, now);
            }
            (
                Half::Follower(follower),
                Body::Behind {
                    first,
                    last,
                    history,
                },
            ) => follower.behind(core, from, first, last, &history, now),
            // Two primaries in one epoch can't be; a stale word about an epoch we hold can.
            (Half::Primary(_), Body::Append(_) | Body::Behind { .. }) => core.stop(format!(
                "{from} acts as primary of shard {} in {}, which is this node's epoch",
                core.identity.shard, core.epoch
            )),
            (_, Body::Stale | Body::Ack(_) | Body::Report { .. }) => {}
        }
    }

    fn durable(&mut self, index: u64, now: Now) {
        let core = &mut self.core;
        core.durable = core.durable.max(index.min(core.last.index));
        match &mut self.half {
            Half::Primary(primary) => primary.durable(core, now),
            Half::Follower(follower) => follower.durable(core, now),
        }
    }

    /// It makes none.
    fn noted(&mut self, _number: u64, _now: Now) {}

    fn applied(&mut self, index: u64, _now: Now) {
        self.core.applied = self.core.applied.max(index);
        if self.core.until.is_some_and(|until| until.index <= index) {
            self.core.until = None;
        }
        if let Half::Follower(follower) = &mut self.half {
            follower.applied(index);
        }
    }

    fn fetched(&mut self, to: &NodeId, from: u64, entries: Option<Vec<Entry>>, now: Now) {
        if let Half::Primary(primary) = &mut self.half {
            primary.fetched(&mut self.core, to, from, entries, now);
        }
    }

    fn installed(&mut self, copied: Copied, now: Now) {
        let Copied {
            at, history, stamp, ..
        } = copied;
        let core = &mut self.core;
        core.history = history;
        core.last = at;
        core.durable = at.index;
        core.commit = at.index;
        core.applied = at.index;
        core.first_index = at.index + 1;
        core.clock.observe(stamp);
        core.tail = Tail::new(at.index + 1, core.tuning.tail_bytes);
        core.filling = false;
        core.until = None;
        if let Half::Follower(follower) = &mut self.half {
            follower.begin_anew(core, now);
        }
    }

    fn rests(&mut self, peer: &NodeId, at: Position) {
        if let Half::Primary(primary) = &mut self.half {
            primary.rests(peer, at);
        }
    }

    fn roused(&mut self, peer: &NodeId) {
        if let Half::Primary(primary) = &mut self.half {
            primary.roused(peer);
        }
    }

    fn may_rest(&self, peer: &NodeId, at: Position) -> bool {
        let core = &self.core;
        let Half::Follower(follower) = &self.half else {
            return false;
        };
        core.stopped.is_none()
            && !core.filling
            && core.until.is_none()
            && core.is_member()
            && core.epoch == at.epoch
            && core.last == at
            && core.commit == at.index
            && core.applied == at.index
            && follower.follows(peer, at.index)
    }

    fn vouch(&mut self, may: bool) {
        self.core.vouches = may;
    }

    fn vouched(&mut self, fresh_at: Duration, time_ms: u64) {
        if let Half::Follower(follower) = &mut self.half {
            follower.vouched(fresh_at, time_ms);
        }
    }

    fn floor(&self) -> Option<u64> {
        match &self.half {
            Half::Primary(primary) => Some(primary.floor(&self.core)).max(self.core.floor),
            Half::Follower(_) => self.core.floor,
        }
    }

    fn released(&mut self, first_index: u64) {
        self.core.first_index = self.core.first_index.max(first_index);
    }

    fn link_changed(&mut self, peer: &NodeId, up: bool, _now: Now) {
        if let Half::Primary(primary) = &mut self.half {
            primary.link_changed(peer, up);
        }
    }

    fn tick(&mut self, now: Now) {
        if self.core.stopped.is_some() {
            return;
        }
        match &mut self.half {
            Half::Primary(primary) => primary.tick(&mut self.core, now),
            Half::Follower(follower) => follower.tick(&mut self.core, now),
        }
    }

    fn poll(&mut self, now: Now) -> Option<Output> {
        if self.core.outputs.is_empty()
            && self.core.stopped.is_none()
            && let Half::Primary(primary) = &mut self.half
        {
            primary.send_due(&mut self.core, now);
        }
        self.core.outputs.pop_front()
    }

    fn wake_at(&self) -> Option<Duration> {
        match &self.half {
            Half::Primary(primary) => primary.wake_at(&self.core),
            Half::Follower(follower) => follower.wake_at(&self.core),
        }
    }

    fn state(&self, now: Now) -> State {
        let (role, time_ms, fresh_at) = match &self.half {
            Half::Primary(primary) => {
                let role = if primary.is_active(&self.core) {
                    Role::Primary
                } else {
                    Role::Starting
                };
                (role, now.wall_ms, Some(now.monotonic))
            }
            Half::Follower(follower) => {
                let core = &self.core;
                let role = if core.filling || core.until.is_some() || !core.is_member() {
                    Role::Learner
                } else {
                    Role::Replica
                };
                (role, follower.time_ms(), follower.fresh_at())
            }
        };
        State {
            role,
            epoch: self.core.epoch,
            tip: self.core.last,
            commit: self.core.commit,
            time_ms,
            fresh_at,
            by_lease: true,
        }
    }

    fn read(&mut self, _now: Now) -> Reading {
        match &self.half {
            Half::Primary(primary) if primary.is_active(&self.core) => Reading::Now,
            _ => Reading::Elsewhere,
        }
    }

    fn has(&self, seen: Position) -> Satisfied {
        satisfied(seen, &self.core.history, self.core.applied)
    }

    fn leader(&self) -> Option<&NodeId> {
        self.core.primacy().map(|primacy| &primacy.primary)
    }

    fn history(&self) -> &EpochHistory {
        &self.core.history
    }

    fn members(&self) -> Vec<MemberState> {
        match &self.half {
            Half::Primary(primary) => primary.members(&self.core),
            Half::Follower(_) => Vec::new(),
        }
    }

    fn next_stamp(&self, now: Now) -> Stamp {
        self.core.clock.next(now.wall_ms)
    }
}

#[cfg(test)]
mod failover_tests;
#[cfg(test)]
mod tests;
