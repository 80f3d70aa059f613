//! Another primary for a shard whose own is gone (docs/adr/0011-failover). Both ends: the
//! control leader, which suspects, seals, waits and names; and a replica that is sealed.
//!
//! ```text
//!  leader:  gone ─▶ Case ─ Seal ─▶ members        every 20 ms, for each shard
//!                    │  ◀─ Sealed ─                (who was heard, on which disk, how far)
//!                    ▼
//!           control::failover::decide ─ Wait ─▶ an event, once a reason
//!                    │ Name, and the lease is over
//!                    ▼
//!           Promote, proposed once in this leader's own term
//! ```
//!
//! Always:
//! - A plan is proposed by the leader that made it, in the term in which it watched the leases;
//!   it is never sent on nor repeated. While it is under way the primary gets no lease.
//! - A replica answers a seal once the record of it is durable, with a log that no older epoch
//!   can lengthen any more.

use crate::{
    control::Asker,
    lease::{self, Granted},
    message::{Message, Sealed},
    node::{Lane, Node},
    shard,
};
use control::{
    command::Command,
    failover::{self, Decision, Heard, Promotion},
};
use model::{
    Epoch, NodeId, Position, Region, ShardId, catalog,
    planted::{self, Bug},
};
use replication::strategy::Role;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::store::Stores;

/// How often a seal that was not answered is sent again.
const SEAL_AGAIN: Duration = Duration::from_millis(200);
/// How long a loss is put off for a replica that could reduce it.
const PATIENCE: Duration = Duration::from_millis(500);
/// A wait that is longer is written down.
const NOTE_AFTER: Duration = Duration::from_millis(1500);
/// How long the last primary has to come back after this node's own start.
const STARTUP_GRACE: Duration = Duration::from_secs(10);
/// A primary that is heard but gets no lease for so long is as good as gone.
const UNLEASED_MAX: Duration = Duration::from_secs(3);
/// How often it is looked for a better place of the leadership.
const PLACE_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for replicas to be replaced.
const REPLACE_EVERY: Duration = Duration::from_secs(1);

/// What the control leader has observed. Thrown away when it stops leading.
#[derive(Debug)]
pub(crate) struct Leading {
    term: u64,
    since: Duration,
    /// When the last lease is over that an earlier leader may have granted.
    alone_from: Duration,
    pub(crate) granted: Granted,
    cases: BTreeMap<ShardId, Case>,
    /// Since when a node says that it is primary and has no lease.
    unleased: BTreeMap<NodeId, Duration>,
    next_replacements: Duration,
    next_placement: Duration,
}

/// A shard whose primary is gone.
#[derive(Debug)]
struct Case {
    /// The epoch that is to end.
    epoch: Epoch,
    primary: NodeId,
    since: Duration,
    sealed_at: Option<Duration>,
    heard: BTreeMap<NodeId, Heard>,
    /// Somebody could be named but for the lease.
    ready: bool,
    /// The plan under way.
    proposed: Option<u64>,
    /// What was written down last.
    noted: Option<String>,
}

impl Leading {
    /// `quiet`: for how long no majority had heard another leader before.
    pub(crate) fn new(term: u64, now: Duration, quiet: Duration) -> Self {
        let longest = lease::with_drift(lease::LENGTH_MAX);
        Leading {
            term,
            since: now,
            alone_from: now + longest.saturating_sub(quiet - quiet / 20),
            granted: Granted::default(),
            cases: BTreeMap::new(),
            unleased: BTreeMap::new(),
            next_replacements: now,
            next_placement: now + PLACE_EVERY,
        }
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Whether `node` is about to lose a shard.
    pub(crate) fn is_planned_against(&self, node: &NodeId) -> bool {
        let planned = |c: &&Case| c.ready || c.proposed.is_some();
        self.cases
            .values()
            .filter(planned)
            .any(|c| c.primary == *node)
    }

    /// Whether a lease that an earlier leader granted may still run.
    fn may_be_leased_from_before(&self, now: Duration) -> bool {
        now < self.alone_from && !planted::is(Bug::ForgetOldLeases)
    }
}

impl<S: Stores> Node<S> {
    // ---- the leader's end -----------------------------------------------------------------

    /// Takes up, or gives up, what a control leader does.
    pub(crate) fn follow_leadership(&mut self) {
        let term = self.control.leads();
        if self.leading.as_ref().map(Leading::term) != term {
            let quiet = self.control.quiet_before_election();
            self.leading = term.map(|term| Leading::new(term, self.now.monotonic, quiet));
            self.control.forget_plans();
            self.report_soon();
        }
    }

    pub(crate) fn failover_tick(&mut self) {
        let now = self.now.monotonic;
        let Some(mut leading) = self.leading.take() else {
            return;
        };
        self.note_unleased(&mut leading);
        let catalog = self.catalog.clone();
        let mut own_seals = Vec::new();
        for (id, facts) in &catalog.shards {
            let Some(cause) = self.gone(&leading, *id, facts) else {
                let settled = |c: &Case| c.proposed.is_none() || c.epoch != facts.epoch;
                if leading.cases.get(id).is_some_and(settled)
                    && let Some(over) = leading.cases.remove(id)
                    && over.noted.is_some()
                    && over.epoch == facts.epoch
                {
                    let text = format!("{} is back before another was named", facts.primary);
                    self.note(*id, "recovered", text);
                }
                continue;
            };
            let fresh = || Case {
                epoch: facts.epoch,
                primary: facts.primary.clone(),
                since: now,
                sealed_at: None,
                heard: BTreeMap::new(),
                ready: false,
                proposed: None,
                noted: None,
            };
            let mut case = leading.cases.remove(id).unwrap_or_else(fresh);
            if case.epoch != facts.epoch {
                case = fresh();
            }
            if self.pursue(&leading, &mut case, *id, facts, cause) {
                own_seals.push((*id, facts.epoch.next()));
            }
            leading.cases.insert(*id, case);
        }
        leading
            .cases
            .retain(|id, _| catalog.shards.contains_key(id));
        self.replace_members(&mut leading);
        self.place_leadership(&mut leading);
        self.leading = Some(leading);
        for (id, epoch) in own_seals {
            let me = self.config.id.clone();
            self.seal_asked(&me, id, epoch);
        }
    }

    /// Leadership goes to the voter that does best: in the region of most primaries, so that
    /// leases are near, and of those on the one with the fewest itself, so that one node's end
    /// is not the end of both.
    fn place_leadership(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        if now < leading.next_placement || !leading.cases.is_empty() {
            return;
        }
        leading.next_placement = now + PLACE_EVERY;
        let mut primaries: BTreeMap<&Region, usize> = BTreeMap::new();
        let mut busy: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for shard in self.catalog.shards.values() {
            *busy.entry(&shard.primary).or_default() += 1;
            if let Some(replica) = shard.replica(&shard.primary) {
                *primaries.entry(&replica.region).or_default() += 1;
            }
        }
        let worth = |node: &NodeId| {
            let region = self.catalog.nodes.get(node).map(|info| &info.region);
            let near = region.and_then(|r| primaries.get(r)).copied();
            let own = busy.get(node).copied().unwrap_or(0);
            (near.unwrap_or(0), Reverse(own))
        };
        let there = |node: &&NodeId| self.peers.is_up(node, now);
        let voters = self.control.voters().iter();
        let best = voters.filter(there).max_by_key(|node| worth(node));
        if let Some(best) = best.filter(|best| worth(best) > worth(&self.config.id)) {
            let best = best.clone();
            tracing::info!(to = %best, "the control group gets another leader");
            self.control.hand_over(&best);
        }
    }

    fn note_unleased(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        for (node, unleased) in self.peers.unleased() {
            if unleased {
                leading.unleased.entry(node).or_insert(now);
            } else {
                leading.unleased.remove(&node);
            }
        }
    }

    /// Why the primary of a shard is taken to be gone; None if it isn't.
    fn gone(&self, leading: &Leading, id: ShardId, facts: &catalog::Shard) -> Option<String> {
        let now = self.now.monotonic;
        let primary = &facts.primary;
        if facts.epoch > Epoch(0) && self.disk_of(primary) != Some(facts.disk) {
            return Some(format!("{primary} came back with another disk"));
        }
        if *primary == self.config.id {
            let reason = self.shards.get(&id)?.stopped.as_ref()?;
            return Some(format!("its replica on {primary} has stopped ({reason})"));
        }
        if !self.peers.was_heard(primary) && now.saturating_sub(self.started) < STARTUP_GRACE {
            return None;
        }
        if let Some(silence) = self.peers.suspicion(primary, now) {
            let seconds = silence.as_secs_f64();
            return Some(format!("{primary} has been silent for {seconds:.1} s"));
        }
        if self.replica_report(primary, id).is_some_and(|r| r.stopped) {
            return Some(format!("its replica on {primary} has stopped"));
        }
        let since = leading.unleased.get(primary)?;
        let without = now.saturating_sub(*since.max(&leading.since));
        (without >= UNLEASED_MAX).then(|| {
            let seconds = without.as_secs_f64();
            format!("{primary} is heard, but gets no lease since {seconds:.1} s")
        })
    }

    fn disk_of(&self, node: &NodeId) -> Option<model::DiskId> {
        self.catalog.nodes.get(node).map(|info| info.disk)
    }

    /// One step for a shard whose primary is gone. Returns whether the replica on this node is
    /// to be sealed.
    fn pursue(
        &mut self,
        leading: &Leading,
        case: &mut Case,
        id: ShardId,
        facts: &catalog::Shard,
        cause: String,
    ) -> bool {
        let now = self.now.monotonic;
        let mut own = false;
        let Some(keyspace) = self.catalog.keyspaces.get(&facts.keyspace).cloned() else {
            return false;
        };
        if case
            .sealed_at
            .is_none_or(|at| now.saturating_sub(at) >= SEAL_AGAIN)
        {
            case.sealed_at = Some(now);
            let epoch = facts.epoch.next();
            for member in facts.members() {
                if member.node == facts.primary || case.heard.contains_key(&member.node) {
                    continue;
                }
                if member.node == self.config.id {
                    own = true;
                } else {
                    let message = Message::Seal { shard: id, epoch };
                    self.send(&member.node, Lane::Ordinary, &message);
                }
            }
        }
        let heard: Vec<Heard> = case.heard.values().cloned().collect();
        let decision = failover::decide(id, facts, &keyspace, &heard, &self.config.id);
        let (node, safe) = match decision {
            Decision::Name { node, is_safe } => (node, is_safe),
            Decision::Wait(why) => {
                case.ready = false;
                let kind = format!("{:?}", std::mem::discriminant(&why));
                if now.saturating_sub(case.since) >= NOTE_AFTER
                    && case.noted.as_ref() != Some(&kind)
                {
                    case.noted = Some(kind);
                    let answered: Vec<String> = heard.iter().map(Heard::to_string).collect();
                    let answered = match answered.is_empty() {
                        true => "none".to_owned(),
                        false => answered.join(", "),
                    };
                    let text = format!("{cause}; {why} (answered: {answered})");
                    self.note(id, "waiting", text);
                }
                return own;
            }
        };
        if !safe && !self.is_as_good_as_it_gets(case, facts) {
            return own;
        }
        case.ready = true;
        let leased =
            leading.may_be_leased_from_before(now) || leading.granted.may_hold(&facts.primary, now);
        if (leased && !planted::is(Bug::IgnoreLease)) || case.proposed.is_some() {
            return own;
        }
        let after = now.saturating_sub(case.since).as_millis();
        let plan = Promotion {
            shard: id,
            expected: facts.epoch,
            node,
            heard,
            reported: self.replica_report(&facts.primary, id).map(|r| r.position),
            cause: format!("{cause}; named {after} ms after the first doubt"),
            at_ms: self.now.wall_ms,
        };
        tracing::warn!(shard = id.0, node = %plan.node, cause = %plan.cause, "another primary is named");
        case.proposed = self.propose_once(Command::Promote(plan), Asker::Promotion(id));
        own
    }

    /// Whether nobody that could reduce the loss is likely to be heard soon.
    fn is_as_good_as_it_gets(&self, case: &Case, facts: &catalog::Shard) -> bool {
        let now = self.now.monotonic;
        if now.saturating_sub(case.since) >= PATIENCE {
            return true;
        }
        let home = facts.replica(&facts.primary).map(|r| &r.region);
        let mut near = facts
            .members()
            .filter(|r| Some(&r.region) == home && r.node != facts.primary)
            .filter(|r| self.peers.suspicion(&r.node, now).is_none())
            .peekable();
        near.peek().is_some() && near.all(|r| case.heard.contains_key(&r.node))
    }

    /// A replica was sealed.
    pub(crate) fn sealed(&mut self, from: &NodeId, sealed: Sealed) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let case = leading.cases.get_mut(&sealed.shard);
        if let Some(case) = case.filter(|c| sealed.epoch > c.epoch) {
            let heard = Heard {
                node: from.clone(),
                process: sealed.process,
                disk: sealed.disk,
                sealed: sealed.epoch,
                last: sealed.last,
            };
            case.heard.insert(from.clone(), heard);
            self.failover_tick();
        }
    }

    /// A plan was refused, or lost: it is made anew.
    pub(crate) fn plan_failed(&mut self, id: ShardId, line: &str) {
        tracing::warn!(shard = id.0, reason = line, "no other primary was named");
        if let Some(leading) = &mut self.leading
            && let Some(case) = leading.cases.get_mut(&id)
        {
            case.proposed = None;
            case.ready = false;
            case.heard.clear();
        }
    }

    /// Writes something down for operators.
    fn note(&mut self, shard: ShardId, kind: &str, text: String) {
        tracing::warn!(shard = shard.0, kind, text);
        let name = (self.catalog.shards.get(&shard))
            .and_then(|s| self.catalog.keyspaces.get(&s.keyspace))
            .map_or_else(|| "?".to_owned(), |k| k.name.to_string());
        let command = Command::Note {
            shard,
            kind: kind.to_owned(),
            text: format!("shard {shard} of {name}: {text}"),
            at_ms: self.now.wall_ms,
        };
        self.ask(command, Asker::Note);
    }

    /// Replicas whose nodes are silent for too long get another node of their region.
    fn replace_members(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        if now < leading.next_replacements || leading.may_be_leased_from_before(now) {
            return;
        }
        leading.next_replacements = now + REPLACE_EVERY;
        let catalog = self.catalog.clone();
        let suspected: BTreeSet<&NodeId> = (catalog.nodes.keys())
            .filter(|node| self.peers.suspicion(node, now).is_some())
            .collect();
        for (id, facts) in &catalog.shards {
            let Some(keyspace) = catalog.keyspaces.get(&facts.keyspace) else {
                continue;
            };
            let replace_after = keyspace.strategy.replace_after;
            for member in facts.members() {
                let silence = self.peers.suspicion(&member.node, now);
                // What nobody has heard since this node began may not have been silent long.
                let silence = silence.map(|s| s.min(now.saturating_sub(leading.since)));
                let Some(silence) = silence.filter(|s| *s >= replace_after) else {
                    continue;
                };
                if member.node == facts.primary || suspected.contains(&facts.primary) {
                    continue;
                }
                let newcomer =
                    control::planner::newcomer(&catalog, *id, &member.region, &suspected);
                let taken =
                    (facts.replicas.iter()).any(|r| r.replaces.as_ref() == Some(&member.node));
                if let Some(newcomer) = newcomer.filter(|_| !taken) {
                    let seconds = silence.as_secs();
                    let command = Command::ReplaceReplica {
                        shard: *id,
                        epoch: facts.epoch,
                        gone: member.node.clone(),
                        newcomer,
                        cause: format!("{} has been silent for {seconds} s", member.node),
                        at_ms: self.now.wall_ms,
                    };
                    self.ask(command, Asker::Note);
                }
            }
        }
    }

    // ---- a replica's end ------------------------------------------------------------------

    /// A control leader is about to name another primary in `epoch`.
    pub(crate) fn seal_asked(&mut self, from: &NodeId, id: ShardId, epoch: Epoch) {
        let now = self.now;
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        if shard.stopped.is_some() || !shard.store.is_serving() || self.rewinds.is_past_return(id) {
            return;
        }
        let Some(strategy) = &mut shard.strategy else {
            return;
        };
        let state = strategy.state(now);
        tracing::debug!(shard = id.0, %epoch, ?state, "to be sealed");
        // A learner is no member: what it has must not be counted on.
        if state.role == Role::Learner || epoch < state.epoch {
            return;
        }
        self.lease.want(now.monotonic);
        if planted::is(Bug::PromoteWithoutSealing) {
            return self.answer_sealed(from, id, epoch);
        }
        strategy.seal(epoch, now);
        self.dirty.insert(id);
        self.settle();
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        if shard.sealed.is_some_and(|(sealed, _)| sealed >= epoch) {
            // Once more: it may be on its way to the disk, or there.
            let durable = self.log.acknowledgeable();
            if shard.sealed.is_some_and(|(_, at)| at <= durable) {
                self.answer_sealed(from, id, epoch);
            } else {
                shard.sealing.insert(from.clone(), epoch);
            }
            return;
        }
        match self.append_shard(id, shard::SEAL, &epoch.0.to_le_bytes()) {
            Ok(lsn) => {
                if let Some(shard) = self.shards.get_mut(&id) {
                    shard.sealed = Some((epoch, lsn));
                    shard.sealing.insert(from.clone(), epoch);
                }
            }
            Err(error) => self.stop(format!("the log takes nothing more: {error}")),
        }
    }

    /// The log is durable up to `durable`: seals among it are answered.
    pub(crate) fn seals_durable(&mut self, durable: storage::log::Lsn) {
        let mut due = Vec::new();
        for (id, shard) in &mut self.shards {
            if shard.sealed.is_some_and(|(_, at)| at <= durable) {
                due.extend(
                    std::mem::take(&mut shard.sealing)
                        .into_iter()
                        .map(|s| (*id, s)),
                );
            }
        }
        for (id, (to, epoch)) in due {
            self.answer_sealed(&to, id, epoch);
        }
    }

    fn answer_sealed(&mut self, to: &NodeId, id: ShardId, epoch: Epoch) {
        let Some(last) = self.durable_end(id, epoch) else {
            return;
        };
        let sealed = Sealed {
            shard: id,
            epoch,
            disk: self.config.disk,
            process: self.config.process,
            last,
        };
        if *to == self.config.id {
            let me = self.config.id.clone();
            self.sealed(&me, sealed);
        } else {
            self.send(to, Lane::Ordinary, &Message::Sealed(sealed));
        }
    }

    /// The last entry, if the log is as a seal for `epoch` left it: everything that was in it
    /// is durable with the record, and nothing of an older epoch came behind.
    fn durable_end(&self, id: ShardId, epoch: Epoch) -> Option<Position> {
        let shard = self.shards.get(&id)?;
        let state = shard.state(self.now)?;
        let sealed = state.epoch == epoch || planted::is(Bug::PromoteWithoutSealing);
        (state.role != Role::Learner && sealed && state.tip.epoch < epoch).then_some(state.tip)
    }
}
