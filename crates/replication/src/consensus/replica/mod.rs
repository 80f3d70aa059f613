//! A replica of a shard whose members agree by Raft: every acknowledged write is on the disks of a
//! majority, and a majority elects who takes the next.
//!
//! ```text
//!              silence, in turn        a majority votes        barrier committed
//!  Replica ────────────────▶ (asks) ───────────────▶ Starting ───────────────▶ Primary
//!     ▲ │                                               │ a later term, or no majority │
//!     │ └─ NeedsCopy ─▶ Learner ── installed ─▶ Replica ◀────────────────────────┘ Lost
//! ```
//!
//! The core is TiKV's `raft`. A term is an epoch, an index an index: entries stand in the shared log
//! as those of any other topology, and its epochs are the terms that wrote there.
//!
//! # Invariants
//! - A message that promises something leaves once all that was asked for before it is on the disk:
//!   entries and note. If an entry that it promises is overwritten before, it never leaves: it is of
//!   an older term by then.
//! - A leader's own entries count for its majority once they are durable, as everybody's.
//! - Nothing is committed here that is not durable here.
//! - A member is a replica on a disk, not a node: who comes back on an empty disk, or after it had
//!   left, is somebody else, and none of the voters.
//! - A member that has thrown away what it had acknowledged, for a copy of the store, owes it: until
//!   its log is as new again it asks for no vote, and gives none to whose log is older than that.
//! - What a session has seen is judged by what is committed here: above that the log may still be
//!   overwritten, and says nothing of what was thrown away.
//! - Nobody becomes a voter before it is level, and the leader takes itself out of no group: it hands
//!   over before.
//! - Whoever has acknowledged an entry remembers each change of membership that it knew to be committed
//!   then, also after a crash: it asks no voters that have been replaced by them.
//!
//! `member` feeds the core, `round` carries out what it wants, `standing` says how it stands, `members`
//! who is who; `membership` says who is in the group and who is next, and `change` makes it so; `filling`
//! has a store copied; `log` is what the core reads, `note` what survives, `message` what members tell
//! each other, `reads` and `freshness` what a reader may see.
//!
//! Sources: Ongaro, *Consensus: Bridging Theory and Practice* (2014), 6.4 and 10.2.1.

mod change;
mod filling;
mod freshness;
mod log;
mod member;
mod members;
mod membership;
mod message;
mod note;
mod reads;
mod round;
mod standing;
#[cfg(test)]
mod tests;

pub use member::Tuning;

use crate::{
    protocol::{
        Assignment, Copied, Identity, MemberState, Office, Order, Output, Protocol, Reading,
        Recovered, Refused, Role, State, not_ours,
    },
    session::{Satisfied, satisfied},
};
use bytes::Bytes;
use member::Member;
use model::{Entry, EntryKind, EpochHistory, NodeId, Now, Position, Stamp};
use std::{collections::VecDeque, time::Duration};

const TOPOLOGY: &str = "consensus";

/// One replica of one shard under this topology. See the module's documentation.
pub struct Consensus {
    identity: Identity,
    tuning: Tuning,
    /// What the disk held when the process began.
    found: Recovered,
    /// None before the group's members are known, and on a disk that is none of them.
    member: Option<Box<Member>>,
    outputs: VecDeque<Output>,
    stopped: Option<String>,
}

impl Consensus {
    /// A replica with what its disk still holds. It does nothing until it is assigned.
    pub fn new(identity: Identity, recovered: Recovered, tuning: Tuning) -> Self {
        Consensus {
            identity,
            tuning,
            found: recovered,
            member: None,
            outputs: VecDeque::new(),
            stopped: None,
        }
    }

    fn stop(&mut self, reason: String) {
        if self.stopped.is_none() {
            self.stopped = Some(reason.clone());
            self.outputs.push_back(Output::Stop { reason });
        }
    }

    /// Has the member do something, and carries out what comes of it.
    fn with(&mut self, now: Now, act: impl FnOnce(&mut Member, &mut VecDeque<Output>)) {
        if self.stopped.is_some() {
            return;
        }
        let Some(member) = &mut self.member else {
            return;
        };
        act(member, &mut self.outputs);
        if let Err(reason) = member.drain(&mut self.outputs, now) {
            self.stop(reason);
        }
    }
}

impl Protocol for Consensus {
    fn assign(&mut self, assignment: Assignment, now: Now) {
        let Office::Consensus(election) = assignment.office else {
            return self.stop(not_ours(self.identity.shard, TOPOLOGY, "office"));
        };
        if self.stopped.is_some() {
            return;
        }
        if self.member.is_none() {
            let found = self.found.clone();
            let told = (&assignment.members[..], &election);
            match Member::new(&self.identity, self.tuning, found, told, now) {
                Ok(member) => self.member = member,
                Err(reason) => return self.stop(reason),
            }
        }
        self.with(now, |member, outputs| {
            member.assigned(&assignment.members, &election, outputs);
        });
    }

    fn order(&mut self, order: Order, now: Now) {
        match order {
            Order::TransferTo(node) => self.with(now, |member, _| member.transfer_to(&node)),
            Order::Seal(_) | Order::Rewound { .. } | Order::RewindGivenUp => {
                self.stop(not_ours(self.identity.shard, TOPOLOGY, "order"));
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
        let shard = self.identity.shard;
        match &mut self.member {
            Some(member) if self.stopped.is_none() => {
                member.propose(shard, (kind, ops, payload), now)
            }
            _ => Err(Refused::NotPrimary { shard }),
        }
    }

    fn receive(&mut self, from: &NodeId, message: Bytes, now: Now) {
        self.with(now, |member, outputs| {
            member.receive(from, message, outputs, now);
        });
    }

    fn durable(&mut self, index: u64, now: Now) {
        self.with(now, |member, _| member.durable(index));
    }

    fn noted(&mut self, number: u64, now: Now) {
        self.with(now, |member, outputs| member.noted(number, outputs));
    }

    fn applied(&mut self, index: u64, now: Now) {
        self.with(now, |member, _| member.applied(index));
    }

    fn fetched(&mut self, _to: &NodeId, from: u64, entries: Option<Vec<Entry>>, now: Now) {
        self.with(now, |member, _| member.fetched(from, entries));
    }

    fn installed(&mut self, copied: Copied, now: Now) {
        if let Some(member) = &mut self.member
            && let Err(reason) = member.installed(copied, &mut self.outputs)
        {
            return self.stop(reason);
        }
        self.with(now, |_, _| {});
    }

    /// Its members are told of each other by heartbeats.
    fn rests(&mut self, _peer: &NodeId, _at: Position) {}

    fn roused(&mut self, _peer: &NodeId) {}

    fn may_rest(&self, _peer: &NodeId, _at: Position) -> bool {
        false
    }

    fn vouched(&mut self, _fresh_at: Duration, _time_ms: u64) {}

    fn floor(&self) -> Option<u64> {
        self.member.as_ref().and_then(|member| member.floor())
    }

    fn released(&mut self, first_index: u64) {
        match &mut self.member {
            Some(member) => member.released(first_index),
            None => self.found.first_index = self.found.first_index.max(first_index),
        }
    }

    fn link_changed(&mut self, peer: &NodeId, up: bool, now: Now) {
        self.with(now, |member, _| {
            if up {
                member.link_made(peer);
            }
        });
    }

    fn tick(&mut self, now: Now) {
        self.with(now, |member, outputs| member.tick(outputs, now));
    }

    /// The node's lease is nothing to it: its own majority says who leads.
    fn vouch(&mut self, _may: bool) {}

    fn poll(&mut self, now: Now) -> Option<Output> {
        if self.outputs.is_empty() {
            self.with(now, |member, _| member.ask_reads(now));
        }
        self.outputs.pop_front()
    }

    fn wake_at(&self) -> Option<Duration> {
        match &self.member {
            Some(member) if self.stopped.is_none() => Some(member.wake_at()),
            _ => None,
        }
    }

    fn state(&self, now: Now) -> State {
        match &self.member {
            Some(member) => member.state(now),
            None => State {
                role: Role::Learner,
                epoch: self.found.last.epoch,
                tip: self.found.last,
                commit: self.found.commit,
                time_ms: 0,
                fresh_at: None,
                by_lease: false,
            },
        }
    }

    fn has(&self, seen: Position) -> Satisfied {
        match &self.member {
            Some(member) => member.has(seen),
            None => match seen.index {
                0 => Satisfied::Yes,
                _ => Satisfied::NotYet,
            },
        }
    }

    fn read(&mut self, now: Now) -> Reading {
        match &mut self.member {
            Some(member) if self.stopped.is_none() => member.read(now),
            _ => Reading::Elsewhere,
        }
    }

    fn leader(&self) -> Option<&NodeId> {
        self.member.as_ref().and_then(|member| member.leader())
    }

    fn history(&self) -> &EpochHistory {
        match &self.member {
            Some(member) => member.history(),
            None => &self.found.history,
        }
    }

    fn members(&self) -> Vec<MemberState> {
        self.member.as_ref().map_or_else(Vec::new, |m| m.members())
    }

    fn next_stamp(&self, now: Now) -> Stamp {
        match &self.member {
            Some(member) => member.next_stamp(now),
            None => self.found.stamp,
        }
    }
}

/// Whether a log that is committed up to `commit`, and applied up to `applied`, has what a session
/// has seen. What is not committed may be overwritten, and says nothing of what is gone.
fn has(seen: Position, history: &EpochHistory, (commit, applied): (u64, u64)) -> Satisfied {
    if seen.index > commit {
        return Satisfied::NotYet;
    }
    let at = history.epoch_at(seen.index);
    match seen.index == 0 || at == seen.epoch {
        true => satisfied(seen, history, applied),
        false => Satisfied::Lost,
    }
}
