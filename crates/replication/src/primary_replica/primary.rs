//! The half that takes writes.

use super::{
    Core,
    message::{Ack, Append, Body},
};
use crate::{
    acknowledgement::{self, Other},
    progress::{Phase, Progress},
    protocol::{MemberState, Output, Refused, Wish},
};
use bytes::BytesMut;
use model::{
    AckRule, DiskId, Entry, EntryKind, EpochHistory, NodeId, Now, OnTimeout, Position,
    planted::{self, Bug},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// How long until the catalog is asked once more to make a learner a member.
const CONFIRM_AGAIN: Duration = Duration::from_secs(1);

/// A replica may rest once it was sent so many heartbeats with nothing in them.
const QUIET_BEATS: u8 = 3;

#[derive(Debug)]
pub(super) struct Primary {
    /// The first entry of this epoch. Nothing is committed before it is.
    barrier: u64,
    others: BTreeMap<NodeId, Progress>,
    /// Since when the entry at `commit + 1` waits; None if nothing does.
    waiting: Option<(u64, Duration)>,
    /// What was asked of the catalog and has not come back: to suspend the rule, or to put it
    /// in force again.
    asked_degraded: Option<bool>,
    /// Learners that the catalog was asked to make members, on which disk, and when.
    asked_confirm: BTreeMap<NodeId, (DiskId, Duration)>,
    /// What was proposed and is not committed: (index, bytes), oldest first.
    uncommitted: VecDeque<(u64, usize)>,
    uncommitted_bytes: usize,
    /// Room for the next entries.
    buffer: BytesMut,
}

impl Primary {
    pub(super) fn take_office(core: &mut Core, now: Now) -> Self {
        let mut primary = Primary {
            barrier: if planted::is(Bug::NoBarrier) {
                0
            } else {
                core.last.index + 1
            },
            others: BTreeMap::new(),
            waiting: None,
            asked_degraded: None,
            asked_confirm: BTreeMap::new(),
            uncommitted: VecDeque::new(),
            buffer: BytesMut::new(),
            uncommitted_bytes: 0,
        };
        // Those that have parted from it must take back what they have before they can
        // acknowledge the barrier, and for that ask for what both have: as committed.
        let decreed = core.primacy().and_then(|p| p.decreed);
        if let Some(decreed) = decreed
            && core.history.contains(decreed, core.last.index)
        {
            core.commit_to(decreed.index);
        }
        primary.reassigned(core, now);
        primary.append(core, EntryKind::Barrier, 0, &[], now);
        primary
    }

    /// Members or rule changed within the epoch.
    pub(super) fn reassigned(&mut self, core: &mut Core, now: Now) {
        let Some(assigned) = &core.assigned else {
            return;
        };
        if self.asked_degraded == Some(assigned.primacy.degraded) {
            self.asked_degraded = None;
        }
        let next = core.last.index + 1;
        let mut before = std::mem::take(&mut self.others);
        for replica in &assigned.members {
            if replica.node != core.identity.node {
                let mut progress = before
                    .remove(&replica.node)
                    .unwrap_or_else(|| Progress::new(replica.clone(), next));
                progress.reassigned(replica.clone());
                self.others.insert(replica.node.clone(), progress);
            }
        }
        self.asked_confirm.retain(|node, (disk, _)| {
            let replica = self.others.get(node).map(|p| &p.replica);
            replica.is_some_and(|r| r.disk != Some(*disk) || r.replaces.is_some())
        });
        self.advance_commit(core, now);
    }

    pub(super) fn is_active(&self, core: &Core) -> bool {
        core.commit >= self.barrier
    }

    pub(super) fn members(&self, core: &Core) -> Vec<MemberState> {
        self.others
            .iter()
            .map(|(node, p)| MemberState {
                node: node.clone(),
                matched: p.matched,
                heard_at: p.heard_at,
                rests: p.rests_at == Some(core.last),
            })
            .collect()
    }

    pub(super) fn propose(
        &mut self,
        core: &mut Core,
        kind: EntryKind,
        ops: u16,
        payload: &[u8],
        now: Now,
    ) -> Result<Entry, Refused> {
        if self.uncommitted_bytes > core.tuning.uncommitted_bytes {
            return Err(Refused::Busy {
                shard: core.identity.shard,
                bytes: self.uncommitted_bytes,
            });
        }
        Ok(self.append(core, kind, ops, payload, now))
    }

    fn append(
        &mut self,
        core: &mut Core,
        kind: EntryKind,
        ops: u16,
        payload: &[u8],
        now: Now,
    ) -> Entry {
        let position = Position {
            epoch: core.epoch,
            index: core.last.index + 1,
        };
        let stamp = core.clock.take(now.wall_ms, ops);
        let entry = Entry::new_in(&mut self.buffer, position, stamp, kind, ops, payload);
        let bytes = entry.bytes().len();
        self.uncommitted.push_back((position.index, bytes));
        self.uncommitted_bytes += bytes;
        if self.waiting.is_none() {
            self.waiting = Some((position.index, now.monotonic));
        }
        core.append(entry.clone(), true);
        entry
    }

    pub(super) fn durable(&mut self, core: &mut Core, now: Now) {
        self.advance_commit(core, now);
    }

    /// The rule in force: `async` while the catalog has it suspended, unless we have asked
    /// for it to be put in force again (from then on nothing may be committed without it).
    fn rule<'a>(&self, core: &'a Core) -> &'a AckRule {
        match core.primacy() {
            Some(p) if p.degraded && self.asked_degraded != Some(false) => &AckRule::Async,
            Some(p) => &p.ack,
            None => &AckRule::Sync,
        }
    }

    /// Up to where every member holds this log durably, this one included.
    pub(super) fn floor(&self, core: &Core) -> u64 {
        let others = self.others.values().map(|p| p.matched);
        others.fold(core.durable, u64::min)
    }

    /// Up to where the log is committed under `rule`, by the members as they are and, if
    /// somebody is about to take another's place, as they will be.
    fn committed_under(&self, rule: &AckRule, core: &Core) -> u64 {
        let own_region = &core.identity.region;
        let committed = |others: &[Other]| {
            acknowledgement::committed(rule, own_region, core.acknowledgeable(), others)
        };
        let members = || {
            self.others
                .values()
                .filter(|p| p.replica.replaces.is_none() || planted::is(Bug::CountLearner))
        };
        let mut as_they_are: Vec<Other> = members().map(|p| counted(p, p.matched)).collect();
        if planted::is(Bug::CountAckTwice) {
            // As many members as before, the best of them twice.
            as_they_are.sort_by_key(|o| std::cmp::Reverse(o.matched));
            if let [first, second, ..] = &mut as_they_are[..] {
                second.matched = first.matched;
            }
        }
        let index = committed(&as_they_are);
        if self.asked_confirm.is_empty() {
            return index;
        }
        let newcomers: Vec<&Progress> = (self.asked_confirm.keys())
            .filter_map(|node| self.others.get(node))
            .filter(|p| p.replica.replaces.is_some())
            .collect();
        let leaves = |p: &&Progress| {
            let gone = Some(&p.replica.node);
            newcomers
                .iter()
                .any(|n| n.replica.replaces.as_ref() == gone)
        };
        let stay = members()
            .filter(|p| !leaves(p))
            .map(|p| counted(p, p.matched));
        let come = newcomers
            .iter()
            .map(|p| counted(p, p.held.map_or(0, |(_, held)| held)));
        let as_they_will_be: Vec<Other> = stay.chain(come).collect();
        index.min(committed(&as_they_will_be))
    }

    /// When the catalog is to be asked to make `progress` a member: at once, or once more; None
    /// if it is one, or does not hold all that is committed. What was committed before the barrier
    /// lies below it; that it is committed itself is not waited for, because a rule may need the
    /// learner for that.
    fn confirm_at(&self, core: &Core, node: &NodeId, progress: &Progress) -> Option<Duration> {
        let disk = progress.has_caught_up(core.commit.max(self.barrier))?;
        match self.asked_confirm.get(node) {
            Some((before, at)) if *before == disk => Some(*at + CONFIRM_AGAIN),
            _ => Some(Duration::ZERO),
        }
    }

    fn confirm_learners(&mut self, core: &mut Core, now: Now) {
        for (node, progress) in &self.others {
            let at = self.confirm_at(core, node, progress);
            if at.is_some_and(|at| at <= now.monotonic)
                && let Some((disk, _)) = progress.held
            {
                let asked = (disk, now.monotonic);
                self.asked_confirm.insert(node.clone(), asked);
                let node = node.clone();
                core.outputs
                    .push_back(Output::Wish(Wish::Confirm { node, disk }));
            }
        }
    }

    /// When the catalog is to be asked to suspend the rule, or to put it in force again: once
    /// all that is committed satisfies it.
    fn degrade_at(&self, core: &Core) -> Option<Duration> {
        let primacy = core.primacy()?;
        if primacy.on_timeout != OnTimeout::Degrade || self.asked_degraded.is_some() {
            return None;
        }
        if primacy.degraded {
            let held = self.committed_under(&primacy.ack, core);
            return (held >= core.commit && held >= self.barrier).then_some(Duration::ZERO);
        }
        let (_, since) = self.waiting?;
        Some(since + primacy.timeout)
    }

    fn advance_commit(&mut self, core: &mut Core, now: Now) {
        let index = self.committed_under(self.rule(core), core);
        if index < self.barrier || !core.commit_to(index) {
            return;
        }
        while let Some((index, bytes)) = self.uncommitted.front().copied()
            && index <= core.commit
        {
            self.uncommitted.pop_front();
            self.uncommitted_bytes -= bytes;
        }
        self.waiting = (core.commit < core.last.index).then_some((core.commit + 1, now.monotonic));
    }

    pub(super) fn acknowledged(&mut self, core: &mut Core, from: &NodeId, ack: Ack, now: Now) {
        let Some(progress) = self.others.get_mut(from) else {
            return;
        };
        progress.heard_at = Some(now.monotonic);
        progress.echo = ack.probe;
        if ack.matched > ack.received || ack.received > core.last.index {
            return; // It can't have what we never wrote.
        }
        match progress.phase {
            Phase::Probe => {
                progress.phase = Phase::Stream;
                progress.next = ack.received + 1;
            }
            Phase::Stream => {}
            Phase::Copy => return,
        }
        let news = progress.acknowledged(ack.matched, ack.disk, ack.counts);
        if news || self.asked_confirm.contains_key(from) {
            self.advance_commit(core, now);
        }
    }

    pub(super) fn reported(
        &mut self,
        core: &mut Core,
        from: &NodeId,
        last: Position,
        history: &EpochHistory,
        probe: u64,
        now: Now,
    ) {
        let common = core
            .history
            .common_with(core.last.index, history, last.index);
        let Some(progress) = self.others.get_mut(from) else {
            return;
        };
        progress.heard_at = Some(now.monotonic);
        progress.echo = probe;
        let next = common + 1;
        if progress.phase != Phase::Probe || progress.next != next {
            progress.probe_from(next);
        }
    }

    pub(super) fn rests(&mut self, peer: &NodeId, at: Position) {
        if let Some(progress) = self.others.get_mut(peer) {
            progress.rests_at = Some(at);
        }
    }

    pub(super) fn roused(&mut self, peer: &NodeId) {
        if let Some(progress) = self.others.get_mut(peer) {
            progress.roused();
        }
    }

    pub(super) fn link_changed(&mut self, peer: &NodeId, up: bool) {
        let Some(progress) = self.others.get_mut(peer) else {
            return;
        };
        progress.is_linked = up;
        progress.roused();
        // It may be another process now, whose clock says less.
        progress.echo = 0;
        if progress.phase != Phase::Copy {
            // What was under way may be lost. It says what it has if that is less.
            progress.probe_from(progress.next);
        }
    }

    pub(super) fn fetched(
        &mut self,
        core: &mut Core,
        to: &NodeId,
        from: u64,
        entries: Option<Vec<Entry>>,
        now: Now,
    ) {
        let Some(progress) = self.others.get_mut(to) else {
            return;
        };
        if progress.fetching != Some(from) || progress.next != from {
            return;
        }
        progress.fetching = None;
        match entries {
            Some(entries) if entries.first().is_some_and(|e| e.position.index == from) => {
                progress.fetched = entries;
            }
            _ => {
                progress.probe_from(from);
                progress.phase = Phase::Copy;
                progress.sent_at = Some(now.monotonic);
                core.first_index = core.first_index.max(from + 1);
                let behind = behind(core);
                core.send(to, behind);
            }
        }
    }

    pub(super) fn tick(&mut self, core: &mut Core, now: Now) {
        self.confirm_learners(core, now);
        let due = self.degrade_at(core).is_some_and(|at| at <= now.monotonic);
        if due && let Some(primacy) = core.primacy() {
            let degraded = !primacy.degraded;
            self.asked_degraded = Some(degraded);
            let wish = Wish::SetDegraded(degraded);
            core.outputs.push_back(Output::Wish(wish));
        }
    }

    /// How far entries may go out: with `async` only what is durable here (which commits it).
    fn shippable(&self, core: &Core) -> u64 {
        match self.rule(core) {
            AckRule::Async => core.durable,
            _ => core.last.index,
        }
    }

    /// Whether the next entries may go to `progress` now. What is in memory no more is read from the
    /// log, which gives what is durable.
    fn may_ship(&self, core: &Core, progress: &Progress) -> bool {
        let next = progress.next;
        progress.phase == Phase::Stream
            && next <= self.shippable(core)
            && progress.fetching.is_none()
            && progress.has_room(core.tuning.window_bytes)
            && (!progress.fetched.is_empty()
                || core.tail.get(next).is_some()
                || next <= core.durable)
    }

    /// Whether somebody may wait for what `progress` acknowledges.
    fn is_waited_for(&self, core: &Core, progress: &Progress) -> bool {
        let own_region = &core.identity.region;
        match self.rule(core) {
            AckRule::Async => false,
            AckRule::Sync | AckRule::Quorum => true,
            AckRule::LocalQuorum => progress.replica.region == *own_region,
            AckRule::SemiSync { region, .. } => {
                progress.replica.region == *region.as_ref().unwrap_or(own_region)
            }
        }
    }

    fn pace(&self, core: &Core, progress: &Progress) -> Duration {
        if self.is_waited_for(core, progress) {
            Duration::ZERO
        } else if progress.replica.region == core.identity.region {
            core.tuning.pace_near
        } else {
            core.tuning.pace_far
        }
    }

    /// Whether `progress` has all that there is, as far as this replica will ever tell it.
    fn is_level(&self, core: &Core, floor: u64, progress: &Progress) -> bool {
        let last = core.last.index;
        progress.phase == Phase::Stream
            && self.is_active(core)
            && (progress.matched, core.commit, progress.told_commit) == (last, last, last)
            && progress.told_floor == floor
            && progress.replica.replaces.is_none()
    }

    /// When `progress` is to be sent something next; None: not before something happens.
    fn due_at(&self, core: &Core, floor: u64, progress: &Progress) -> Option<Duration> {
        let rests = progress.rests_at == Some(core.last) && self.is_level(core, floor, progress);
        if rests || !progress.is_linked {
            return None;
        }
        let Some(sent_at) = progress.sent_at else {
            return Some(Duration::ZERO);
        };
        let news = match progress.phase {
            Phase::Stream => self.may_ship(core, progress) || progress.told_commit < core.commit,
            Phase::Probe | Phase::Copy => false,
        };
        let wait = if news {
            self.pace(core, progress)
        } else {
            core.tuning.heartbeat
        };
        Some(sent_at + wait)
    }

    pub(super) fn wake_at(&self, core: &Core) -> Option<Duration> {
        let floor = self.floor(core);
        let sends = (self.others.values()).filter_map(|p| self.due_at(core, floor, p));
        let confirms = (self.others.iter()).filter_map(|(node, p)| self.confirm_at(core, node, p));
        sends.chain(confirms).chain(self.degrade_at(core)).min()
    }

    /// Sends to each replica what is due.
    pub(super) fn send_due(&mut self, core: &mut Core, now: Now) {
        let floor = self.floor(core);
        let is_due = |p: &Progress| {
            let at = self.due_at(core, floor, p);
            at.is_some_and(|at| at <= now.monotonic)
        };
        let due: Vec<NodeId> = self
            .others
            .iter()
            .filter(|(_, progress)| is_due(progress))
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
            self.send_to(core, &node, now);
        }
    }

    fn send_to(&mut self, core: &mut Core, node: &NodeId, now: Now) {
        let floor = self.floor(core);
        let Some(mut progress) = self.others.remove(node) else {
            return;
        };
        let mut entries = Vec::new();
        if self.may_ship(core, &progress) {
            let (from, upto) = (progress.next, self.shippable(core));
            if !progress.fetched.is_empty() {
                entries = std::mem::take(&mut progress.fetched);
            } else if let Some(recent) = core.tail.range(from, upto, core.tuning.message_bytes) {
                entries = recent;
            } else {
                progress.fetching = Some(from);
                core.outputs.push_back(Output::Fetch {
                    to: node.clone(),
                    from,
                    bytes_max: core.tuning.message_bytes,
                });
            }
        }
        if self.is_level(core, floor, &progress) {
            progress.quiet_beats = progress.quiet_beats.saturating_add(1);
        } else {
            progress.quiet_beats = 0;
        }
        let body = if progress.phase == Phase::Copy {
            behind(core)
        } else {
            let append = Append {
                prev: core.position_at(progress.next - 1),
                commit: core.commit,
                last: core.last.index,
                time_ms: now.wall_ms,
                echo: if core.vouches { progress.echo } else { 0 },
                floor,
                urgent: self.is_waited_for(core, &progress),
                entries,
            };
            if let Some(last) = append.entries.last() {
                let bytes = append.entries.iter().map(|e| e.bytes().len()).sum();
                progress.sent(last.position.index, bytes);
            }
            progress.told_commit = core.commit;
            progress.told_floor = floor;
            Body::Append(append)
        };
        progress.sent_at = Some(now.monotonic);
        core.send(node, body);
        if progress.quiet_beats >= QUIET_BEATS {
            let (node, at) = (node.clone(), core.last);
            core.outputs.push_back(Output::MayRest { node, at });
        }
        self.others.insert(node.clone(), progress);
    }
}

fn counted(progress: &Progress, matched: u64) -> Other<'_> {
    Other {
        region: &progress.replica.region,
        matched,
    }
}

/// To a replica that lacks what this log no longer holds.
fn behind(core: &Core) -> Body {
    Body::Behind {
        first: core.first_index,
        last: core.last.index,
        history: core.history.clone(),
    }
}
