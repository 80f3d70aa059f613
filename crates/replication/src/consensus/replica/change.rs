//! The members change: what the leader proposes, what every member applies and remembers.

use super::{
    freshness::Heard,
    log::LogView,
    member::Member,
    members::{Group, Seat, id},
    membership::{Known, Membership, Step, next},
};
use crate::protocol::{Election, Output, Wish};
use model::{Entry, EntryKind, NodeId, Now, Position, catalog::Replica};
use raft::{ProgressState, RawNode};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// How often a leader looks how far the group has come: whoever has all that was committed then, and is
/// heard, is level.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Who was silent for longer is not there.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// How often a leader that is to leave tries to hand over.
const HAND_OVER_EVERY: Duration = Duration::from_secs(3);

/// How far the group had come a moment ago.
#[derive(Debug, Default)]
pub(super) struct Sample {
    at: Duration,
    committed: u64,
}

/// Who begins a group: its members, on the disks that they were placed on.
pub(super) fn founders(members: &[Replica], election: &Election) -> Vec<u64> {
    let placed = members
        .iter()
        .filter(|m| m.replaces.is_none() && election.founding);
    let disks: BTreeSet<u64> = placed.filter_map(|m| Some(id(m.disk?, m.added))).collect();
    disks.into_iter().collect()
}

/// Whether an entry of a peer says what this release can read.
pub(super) fn is_readable(entry: &Entry) -> bool {
    entry.kind != EntryKind::Members || told(entry).is_some()
}

/// Who is in the group from this entry on.
fn told(entry: &Entry) -> Option<Membership> {
    Membership::decode(entry.payload()).ok()
}

/// What a leader knows of the others.
struct Others<'a> {
    raw: &'a RawNode<LogView>,
    heard: &'a BTreeMap<u64, Heard>,
    committed: u64,
    now: Duration,
    group: &'a Group,
}

impl Known for Others<'_> {
    fn is_heard(&self, id: u64) -> bool {
        let at = self.heard.get(&id).and_then(|heard| heard.at);
        id == self.raw.raft.id || at.is_some_and(|at| self.now.saturating_sub(at) <= HEARD_MAX)
    }

    fn is_preferred(&self, id: u64) -> bool {
        self.group.is_preferred(id)
    }

    fn is_level(&self, id: u64) -> bool {
        let progress = self.raw.raft.prs().get(id);
        self.is_heard(id)
            && progress
                .is_some_and(|p| p.state == ProgressState::Replicate && p.matched >= self.committed)
    }
}

impl Member {
    /// Whether it counts for the majority, as far as it knows.
    pub(super) fn votes(&self) -> bool {
        self.raw.store().members.votes(self.group.own)
    }

    /// Whether it has not been told yet who is in the group that it is to join.
    pub(super) fn knows_nobody(&self) -> bool {
        self.raw.store().memberships.is_empty()
    }

    /// Takes the next step towards who is wanted in the group, or says that they are in it.
    pub(super) fn change_members(&mut self, outputs: &mut VecDeque<Output>, now: Now) {
        let raft = &self.raw.raft;
        if !self.is_active() || raft.has_pending_conf() || raft.lead_transferee.is_some() {
            return;
        }
        let members = &self.raw.store().members;
        let wish = self.group.wish;
        // What has begun is ended, also by who has not heard of it.
        if wish < members.wish && !members.is_joint() {
            return;
        }
        let is_in = |id: &u64| members.voters.contains(id);
        // Whom it replaces is out, and what its node was before.
        let is_alone = |seat: &Seat| {
            let mut all = members.voters.iter().chain(&members.learners);
            all.all(|id| {
                let node = self.group.nodes.get(id);
                let is_other =
                    |node: &NodeId| *node != seat.node && Some(node) != seat.replaces.as_ref();
                *id == seat.id || node.is_some_and(is_other)
            })
        };
        let seats = self.group.seats.iter().filter(|seat| !seat.is_confirmed);
        let told = seats.filter(|s| !members.is_joint() && is_in(&s.id) && is_alone(s));
        let confirms = told.map(|seat| Wish::Confirm {
            node: seat.node.clone(),
            disk: seat.disk,
        });
        outputs.extend(confirms.map(Output::Wish));
        let is_done = members.voters == self.group.wanted
            && !members.is_joint()
            && members.learners.is_empty();
        if is_done || self.group.wanted.is_empty() {
            return;
        }
        let committed = raft.raft_log.committed;
        if now.monotonic.saturating_sub(self.sample.at) >= SAMPLE_EVERY {
            let at = now.monotonic;
            self.sample = Sample { at, committed };
        }
        let others = Others {
            raw: &self.raw,
            heard: &self.heard,
            committed: self.sample.committed,
            now: now.monotonic,
            group: &self.group,
        };
        let wanted = self.group.wanted.iter().copied().collect();
        match next(members, &wanted, self.group.own, &others) {
            Some(Step::Change(mut to)) => {
                to.wish = to.wish.max(wish);
                self.propose_members(&to, now);
            }
            // One that fails keeps writes waiting: it is not tried again at once.
            Some(Step::HandOver(to))
                if now.monotonic.saturating_sub(self.handed_at) >= HAND_OVER_EVERY =>
            {
                self.handed_at = now.monotonic;
                self.raw.transfer_leader(to);
            }
            Some(Step::HandOver(_)) | None => {}
        }
    }

    fn propose_members(&mut self, to: &Membership, now: Now) {
        let raft = &self.raw.raft;
        let at = Position::new(raft.term, raft.raft_log.last_index() + 1);
        let change = self.raw.store().members.change(to);
        let stamp = self.clock.next(now.wall_ms);
        let entry = Entry::new(at, stamp, EntryKind::Members, 0, &to.encode());
        // The core takes nothing while too much is in flight: it is tried again with the next tick.
        if self.raw.propose_conf_change(Vec::new(), change).is_ok() {
            self.clock.observe(entry.last_stamp());
            self.incoming.push_back(entry);
        }
    }

    /// An entry stands in the log. Whether it says who is in the group.
    pub(super) fn members_told(&mut self, entry: &Entry) -> Result<bool, String> {
        if entry.kind != EntryKind::Members {
            return Ok(false);
        }
        let shard = self.group.shard;
        let at = entry.position;
        let members = told(entry).ok_or_else(|| format!("{shard}: entry {at} can't be read"))?;
        self.raw.mut_store().memberships.push(at, members);
        Ok(true)
    }

    /// A change that is known to be committed is remembered before anything behind it is
    /// acknowledged.
    pub(super) fn note_committed(&mut self, outputs: &mut VecDeque<Output>) {
        let committed = self.raw.raft.raft_log.committed;
        let memberships = &mut self.raw.mut_store().memberships;
        if let Some(last) = memberships.last_upto(committed)
            && last > memberships.committed
        {
            memberships.committed = last;
            self.put_note(outputs);
        }
    }

    /// What is committed up to `upto` is in force. An error stops the shard.
    pub(super) fn apply_members(&mut self, upto: u64) -> Result<(), String> {
        let shard = self.group.shard;
        while let Some((at, to)) = {
            let store = self.raw.store();
            store.memberships.next(store.members_at, upto)
        } {
            let to = to.clone();
            let change = self.raw.store().members.change(&to);
            let applied = self.raw.apply_conf_change(&change);
            let state = applied.map_err(|e| format!("{shard}: change {at} of its members: {e}"))?;
            if !to.is_as_in(&state) {
                return Err(format!(
                    "{shard}: change {at} of its members is to give {to:?}, and gives {state:?}"
                ));
            }
            let store = self.raw.mut_store();
            (store.members, store.members_at) = (to, at);
        }
        Ok(())
    }
}
