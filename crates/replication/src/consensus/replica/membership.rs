//! Who is in a group, and how it becomes who is wanted in it: in steps, each of which is an entry of
//! its log that says whole who is in from there on.
//!
//! ```text
//!  nobody ─▶ learner ─ level ─▶ voter in ┐ both majorities ┌▶ voter
//!  voter ───────────────────▶ voter out ┘ agree (joint)   └▶ learner ─▶ nobody
//! ```
//! A step is taken by the leader once the one before it is applied there, and holds where it is
//! committed. Members of which a majority is gone decide nothing, and so nothing of this either.
//!
//! Source: Ongaro, *Consensus: Bridging Theory and Practice* (2014), 4.2 and 4.3.

use bytes::{BufMut, Bytes, BytesMut};
use model::{
    EpochHistory, Position,
    codec::{Malformed, Reader},
};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};
use std::collections::BTreeSet;

const VERSION: u8 = 1;
/// Members of one kind, at most: what is longer is no membership.
const MEMBERS_MAX: usize = 255;

/// Who is in a group, by the numbers of its members (`members::id`), in order.
///
/// # Bytes (little-endian)
/// ```text
/// version u8 = 1, wish 2 × u64, then four times: n u8, n × u64
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Membership {
    /// By which wish: see [`crate::protocol::Election`].
    pub(super) wish: (u64, u64),
    /// Who votes.
    pub(super) voters: Vec<u64>,
    /// While one set of voters takes another's place: who voted before. A majority of each is needed.
    pub(super) outgoing: Vec<u64>,
    /// Who is told everything, and counts for nothing.
    pub(super) learners: Vec<u64>,
    /// Who will be a learner once the others have taken over.
    pub(super) leaving: Vec<u64>,
}

impl Membership {
    pub(super) fn of_voters(voters: Vec<u64>) -> Self {
        Membership {
            voters,
            ..Membership::default()
        }
    }

    pub(super) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether it counts for any majority.
    pub(super) fn votes(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whoever counts for a majority, each once, in order.
    pub(super) fn all_voters(&self) -> Vec<u64> {
        let all: BTreeSet<u64> = self.voters.iter().chain(&self.outgoing).copied().collect();
        all.into_iter().collect()
    }

    fn has(&self, id: u64) -> bool {
        self.votes(id) || self.learners.contains(&id)
    }

    /// By what the core says, which knows nothing of wishes.
    fn from_core(state: &ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Membership {
            wish: (0, 0),
            voters: sorted(&state.voters),
            outgoing: sorted(&state.voters_outgoing),
            learners: sorted(&state.learners),
            leaving: sorted(&state.learners_next),
        }
    }

    /// Whether the core says the same.
    pub(super) fn is_as_in(&self, state: &ConfState) -> bool {
        let wish = self.wish;
        *self
            == Membership {
                wish,
                ..Membership::from_core(state)
            }
    }

    pub(super) fn to_core(&self) -> ConfState {
        ConfState {
            voters: self.voters.clone(),
            voters_outgoing: self.outgoing.clone(),
            learners: self.learners.clone(),
            learners_next: self.leaving.clone(),
            ..Default::default()
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.put(&mut out);
        out.freeze()
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u64_le(self.wish.0);
        out.put_u64_le(self.wish.1);
        for ids in [&self.voters, &self.outgoing, &self.learners, &self.leaving] {
            out.put_u8(ids.len().min(MEMBERS_MAX) as u8);
            ids.iter()
                .take(MEMBERS_MAX)
                .for_each(|id| out.put_u64_le(*id));
        }
    }

    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        if r.u8()? != VERSION {
            return Err(r.malformed());
        }
        let wish = (r.u64()?, r.u64()?);
        let mut ids = || {
            let ids = (0..r.u8()?)
                .map(|_| r.u64())
                .collect::<Result<Vec<_>, _>>()?;
            match ids.is_sorted_by(|a, b| a < b) && ids.first() != Some(&0) {
                true => Ok(ids),
                false => Err(r.malformed()),
            }
        };
        let read = Membership {
            wish,
            voters: ids()?,
            outgoing: ids()?,
            learners: ids()?,
            leaving: ids()?,
        };
        let is_learner_alone = read.learners.iter().all(|id| !read.votes(*id));
        let leaves = |id: &u64| read.outgoing.contains(id) && !read.voters.contains(id);
        match !read.voters.is_empty() && is_learner_alone && read.leaving.iter().all(leaves) {
            true => Ok(read),
            false => Err(r.malformed()),
        }
    }

    /// Reads one that is all of `bytes`.
    pub(super) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new("membership of a consensus group", bytes);
        let read = Membership::read(&mut r)?;
        match r.is_empty() {
            true => Ok(read),
            false => Err(r.malformed()),
        }
    }

    /// What the core has to do to come from here to `to`, which is one step away.
    pub(super) fn change(&self, to: &Membership) -> ConfChangeV2 {
        let mut change = ConfChangeV2::default();
        if self.is_joint() {
            return change; // An empty one leaves the joint state.
        }
        let mut add = |kind, id| {
            let mut single = ConfChangeSingle::default();
            single.set_change_type(kind);
            single.node_id = id;
            change.mut_changes().push(single);
        };
        for id in to.voters.iter().filter(|id| !self.voters.contains(id)) {
            add(ConfChangeType::AddNode, *id);
        }
        for id in to.learners.iter().chain(&to.leaving) {
            if !self.learners.contains(id) {
                add(ConfChangeType::AddLearnerNode, *id);
            }
        }
        for id in self.voters.iter().chain(&self.learners) {
            if !to.has(*id) {
                add(ConfChangeType::RemoveNode, *id);
            }
        }
        change.set_transition(match to.is_joint() {
            true => ConfChangeTransition::Explicit,
            false => ConfChangeTransition::Auto,
        });
        change
    }
}

/// What a leader does next, so that its group becomes who is wanted in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Change(Membership),
    /// It is to leave: this one leads first (or writes would wait for an election).
    HandOver(u64),
}

/// What a leader knows of the others.
pub(super) trait Known {
    /// Whether that member was heard of lately.
    fn is_heard(&self, id: u64) -> bool;
    /// Whether it stands where the leader is to stand: a voter that does gives no vote to one that
    /// does not, if that has no more than it.
    fn is_preferred(&self, id: u64) -> bool;
    /// Whether it was heard of, and has all that there was a moment ago.
    fn is_level(&self, id: u64) -> bool;
}

/// The next step of the leader `own` from `now` towards `wanted` voters. None: it is done, or waits.
/// The wish of the step is left as it was.
///
/// The voters never become fewer than they are, or are wanted, by a step: one that is to leave stays
/// until there is a level one in its place.
pub(super) fn next(
    now: &Membership,
    wanted: &BTreeSet<u64>,
    own: u64,
    known: &impl Known,
) -> Option<Step> {
    let sorted = |ids: BTreeSet<u64>| ids.into_iter().collect::<Vec<u64>>();
    let learners: BTreeSet<u64> = now.learners.iter().copied().collect();
    let heir_among = |ids: &[u64]| {
        let level = ids
            .iter()
            .copied()
            .filter(|id| *id != own && known.is_level(*id));
        level.min_by_key(|id| (!known.is_preferred(*id), *id))
    };
    if !now.voters.contains(&own) {
        // It was elected by those who voted before, and is on its way out.
        return heir_among(&now.voters).map(Step::HandOver);
    }
    if now.is_joint() {
        let leaving = now.leaving.iter().copied();
        return Some(Step::Change(Membership {
            wish: now.wish,
            voters: now.voters.clone(),
            learners: sorted(learners.into_iter().chain(leaving).collect()),
            ..Membership::default()
        }));
    }
    let with_learners = |learners| {
        let step = Membership {
            wish: now.wish,
            voters: now.voters.clone(),
            learners: sorted(learners),
            ..Membership::default()
        };
        Some(Step::Change(step))
    };
    if let Some(new) = wanted.iter().find(|id| !now.has(**id)) {
        return with_learners(learners.into_iter().chain([*new]).collect());
    }
    let voters: BTreeSet<u64> = now.voters.iter().copied().collect();
    let risen = wanted.difference(&voters).filter(|id| known.is_level(**id));
    let mut next: BTreeSet<u64> = voters.intersection(wanted).chain(risen).copied().collect();
    let mut leaving: Vec<u64> = voters.difference(wanted).copied().collect();
    leaving.sort_by_key(|id| (!known.is_heard(*id), *id));
    let size = wanted.len().min(voters.len());
    let kept = size.saturating_sub(next.len());
    next.extend(leaving.drain(..kept.min(leaving.len())));
    if next != voters {
        if leaving.contains(&own) {
            let stay: Vec<u64> = next.intersection(&voters).copied().collect();
            if let Some(heir) = heir_among(&stay) {
                return Some(Step::HandOver(heir));
            }
            // Nobody can lead yet in its place: it stays for this step.
            leaving.retain(|id| *id != own);
            next.insert(own);
            if next == voters {
                return None;
            }
        }
        let is_rise_of_one = leaving.is_empty() && next.len() == voters.len() + 1;
        return Some(Step::Change(Membership {
            wish: now.wish,
            learners: sorted(learners.difference(&next).copied().collect()),
            voters: sorted(next),
            outgoing: if is_rise_of_one {
                Vec::new()
            } else {
                now.voters.clone()
            },
            leaving: sorted(leaving.into_iter().collect()),
        }));
    }
    // Whoever waits to become a voter is wanted.
    let unwanted = learners.iter().find(|id| !wanted.contains(id)).copied()?;
    with_learners(learners.into_iter().filter(|id| *id != unwanted).collect())
}

/// Who was in the group from where on, as far as the log says so that this member holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memberships {
    /// In the order of their positions. The first may lie before the log: who was in as of a copy, or
    /// as of the founding (at position 0). Empty: it has not been told yet.
    list: Vec<(Position, Membership)>,
    /// Up to where changes are known to be committed. A member that knew it must not forget it: it
    /// would count a majority of those who were in before.
    pub(super) committed: u64,
}

impl Memberships {
    pub(super) fn from(at: Position, membership: Membership) -> Self {
        Memberships {
            list: vec![(at, membership)],
            committed: at.index,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn is_change(&self, at: Position) -> bool {
        at.index > 0 && self.list.iter().any(|(p, _)| *p == at)
    }

    /// Who was in as of an index.
    pub(super) fn as_of(&self, index: u64) -> Option<&Membership> {
        let mut before = self.list.iter().rev();
        before.find(|(at, _)| at.index <= index).map(|(_, m)| m)
    }

    /// The last change that is not above `index`.
    pub(super) fn last_upto(&self, index: u64) -> Option<u64> {
        let mut before = self.list.iter().rev().map(|(at, _)| at.index);
        before.find(|at| *at <= index)
    }

    /// The first change above `index` and not above `upto`.
    pub(super) fn next(&self, index: u64, upto: u64) -> Option<(u64, &Membership)> {
        let mut above = self.list.iter().filter(|(at, _)| at.index > index);
        above
            .next()
            .map(|(at, m)| (at.index, m))
            .filter(|(at, _)| *at <= upto)
    }

    pub(super) fn push(&mut self, at: Position, membership: Membership) {
        self.truncate_after(at.index.saturating_sub(1));
        // No leader proposes a change while one before it is not in force.
        if let Some((before, _)) = self.list.last() {
            self.committed = self.committed.max(before.index);
        }
        self.list.push((at, membership));
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        self.list.retain(|(at, _)| at.index <= index);
    }

    /// Forgets what a log does not hold that ends at `last` and has this history: it was overwritten,
    /// or had not become durable.
    pub(super) fn agree_with(&mut self, history: &EpochHistory, last: u64) {
        let holds = |at: &Position| at.index <= last && history.epoch_at(at.index) == at.epoch;
        self.list.retain(|(at, _)| at.index == 0 || holds(at));
        if let [.., (before, _), _] = &self.list[..] {
            self.committed = self.committed.max(before.index);
        }
    }

    /// The store says who is in as of `at`, up to where it holds everything.
    pub(super) fn begin(&mut self, at: Position, membership: Membership) {
        self.list.retain(|(later, _)| later.index > at.index);
        self.list.insert(0, (at, membership));
    }

    /// The log begins at `first` now: who was in before that counts no more.
    pub(super) fn released(&mut self, first: u64) {
        let begins = self.list.iter().rposition(|(at, _)| at.index < first);
        self.list.drain(..begins.unwrap_or(0));
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.committed);
        out.put_u32_le(self.list.len() as u32);
        for (at, membership) in &self.list {
            out.put_u64_le(at.epoch.0);
            out.put_u64_le(at.index);
            membership.put(out);
        }
    }

    pub(super) fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let committed = r.number()?;
        let mut list: Vec<(Position, Membership)> = Vec::new();
        for _ in 0..r.u32()? {
            let at = Position::new(r.number()?, r.number()?);
            if list
                .last()
                .is_some_and(|(before, _)| before.index >= at.index)
            {
                return Err(r.malformed());
            }
            list.push((at, Membership::read(r)?));
        }
        Ok(Memberships { list, committed })
    }
}

#[cfg(test)]
mod tests;
