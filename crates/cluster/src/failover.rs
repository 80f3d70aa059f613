//! Another primary for a shard whose own is gone (docs/adr/0011-failover): the control leader,
//! which suspects, seals (the other end is the node's, `Output::Seal`), waits and names.
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
//! | module | holds |
//! |---|---|
//! | `leading` | what a leader has observed, and what it is doing about it |
//! | `gone` | whose primaries are taken to be gone, and why |
//! | `places` | better places for the leadership, and for replicas whose nodes are away |
//!
//! Always: a plan is proposed by the leader that made it, in the term in which it watched the
//! leases; it is never sent on nor repeated. From proposing it until it is known what became of
//! it the primary gets no lease: not even when the plan seems to be lost, since it may stand in
//! the group's log and be agreed on at any time.

mod gone;
mod leading;
mod places;

use crate::{
    cluster::Cluster,
    control::Asker,
    host::Host,
    message::{Message, Sealed},
};
use control::{
    command::Command,
    failover::{self, Decision, Heard, Promotion},
};
pub(crate) use leading::Leading;
use leading::{Case, Plan};
use model::{
    NodeId, ShardId, catalog,
    planted::{self, Bug},
};
use std::{collections::BTreeSet, time::Duration};

/// How often a seal that was not answered is sent again.
const SEAL_AGAIN: Duration = Duration::from_millis(200);
/// How long a loss is put off for a replica that could reduce it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a primary that ends, and was heard, waits for another to be heard that is level.
const ANOTHER_WITHIN: Duration = Duration::from_millis(500);
/// How long all members are waited for where those that were heard came back from an unclean end:
/// some round trips over the longest link,
const ALL_WITHIN: Duration = Duration::from_millis(1500);
/// and, where nothing may be lost, about as long as processes need that begin together.
const ALL_WITHIN_SAFE: Duration = Duration::from_secs(10);
/// How much later than a replica's disk the primary's may move without its losing the office.
const MOVES_WITHIN: Duration = Duration::from_millis(300);
/// A wait that is longer is written down.
const NOTE_AFTER: Duration = Duration::from_millis(1500);
/// How long the last primary has to come back after this node's own start.
const STARTUP_GRACE: Duration = Duration::from_secs(10);
/// Plans that are proposed together: some hundred KiB.
const PLANS_MAX: usize = 256;
/// With no more shards in trouble than these each is looked after as soon as something is heard of
/// it; else with the next tick, all at once.
const CASES_FEW: usize = 4;

impl<A> Cluster<A> {
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

    pub(crate) fn failover_tick(&mut self, host: &impl Host) {
        let Some(mut leading) = self.leading.take() else {
            return;
        };
        leading.silent = self.peers.silent(self.now.monotonic);
        self.note_unleased(&mut leading);
        self.note_stalled(&mut leading);
        let catalog = self.catalog.clone();
        let mut own_seals = Vec::new();
        let stopped = host.stopped();
        if !self.is_calm(&leading, &stopped) {
            for id in self.suspects(&mut leading, stopped) {
                if let Some(facts) = catalog.named_shard(id)
                    && self.look_after(&mut leading, id, facts, host)
                {
                    own_seals.push((id, facts.epoch.next()));
                }
            }
            let there = |id: &ShardId| catalog.shards.contains_key(id);
            leading.cases.retain(|id, _| there(id));
            (leading.hand_overs).retain(|id| catalog.shards.get(&id).map(|s| s.epoch));
        }
        self.propose_plans(&mut leading);
        self.replace_members(&mut leading);
        self.place_leadership(&mut leading, host);
        self.leading = Some(leading);
        for (id, epoch) in own_seals {
            let me = self.config.id.clone();
            self.seal(&me, id, epoch);
        }
    }

    /// The shards that can have lost their primary since all were looked at: all, if the catalog
    /// is another one.
    fn suspects(&self, leading: &mut Leading, stopped: Vec<ShardId>) -> BTreeSet<ShardId> {
        if leading.looked_at != self.catalog.version {
            leading.looked_at = self.catalog.version;
            leading.by_primary.clear();
            for (id, facts) in self.catalog.named() {
                let shards = leading.by_primary.entry(facts.primary.clone());
                shards.or_default().push(id);
            }
            return self.catalog.named().map(|(id, _)| id).collect();
        }
        let nodes = leading.silent.keys().chain(leading.stalled.keys());
        let nodes = nodes.chain(leading.unleased.keys());
        let theirs = nodes.filter_map(|node| leading.by_primary.get(node));
        let mut suspects: BTreeSet<ShardId> = theirs.flatten().copied().collect();
        suspects.extend(leading.cases.keys());
        suspects.extend(leading.hand_overs.shards());
        suspects.extend(self.peers.stopped_shards());
        suspects.extend(stopped);
        suspects
    }

    /// Whether no shard can have lost its primary since all were looked at.
    fn is_calm(&self, leading: &Leading, stopped: &[ShardId]) -> bool {
        leading.looked_at == self.catalog.version
            && leading.cases.is_empty()
            && leading.silent.is_empty()
            && leading.stalled.is_empty()
            && leading.unleased.is_empty()
            && leading.hand_overs.is_empty()
            && !self.peers.any_stopped()
            && stopped.is_empty()
    }

    /// One step for a shard. Returns whether the replica on this node is to be sealed.
    fn look_after(
        &mut self,
        leading: &mut Leading,
        id: ShardId,
        facts: &catalog::Shard,
        host: &impl Host,
    ) -> bool {
        let now = self.now.monotonic;
        let mut case = match leading.cases.remove(&id) {
            Some(case) if case.epoch == facts.epoch => Some(case),
            _ => None,
        };
        let sealed = case
            .as_ref()
            .is_some_and(|case| case.has_heard_office(facts));
        let hands_over = (leading.hand_overs).wanted(id, facts.epoch, sealed, now);
        let gone = self.gone(leading, id, facts, host);
        let planned = gone.is_none();
        let asks = || hands_over.map(|why| format!("{} {why}", facts.primary));
        let own = match gone.or_else(asks) {
            Some(cause) => {
                let case = case.get_or_insert_with(|| Case::new(facts, now));
                self.pursue(leading, case, id, facts, (cause, planned), host)
            }
            None => {
                case = case.and_then(|case| self.is_back(case, id));
                false
            }
        };
        if let Some(case) = case {
            leading.cases.insert(id, case);
        }
        own
    }

    /// The primary is there again. The case goes on until nothing planned for it can be agreed
    /// on any more.
    fn is_back(&mut self, mut case: Case, id: ShardId) -> Option<Case> {
        case.ready = None;
        let text = format!("{} is back before another was named", case.primary);
        match case.plan {
            Plan::Proposed => Some(case),
            Plan::Lost => {
                let command = self.noted(id, "recovered", text);
                if self.propose_once(vec![command], Asker::Promotions(vec![id])) {
                    case.plan = Plan::Proposed;
                    case.noted = None;
                }
                Some(case)
            }
            Plan::None => {
                if case.noted.is_some() {
                    self.note(id, "recovered", text);
                }
                None
            }
        }
    }

    /// One step for a shard whose primary is gone, or (`planned`) only hands over: for that
    /// nothing may be lost. Returns whether the replica on this node is to be sealed.
    fn pursue(
        &mut self,
        leading: &Leading,
        case: &mut Case,
        id: ShardId,
        facts: &catalog::Shard,
        (cause, planned): (String, bool),
        host: &impl Host,
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
            let hands_over = (leading.hand_overs.wanted(id, facts.epoch, false, now)).is_some();
            for member in facts.members() {
                let is_gone =
                    member.node == facts.primary && !self.has_returned(facts) && !hands_over;
                if is_gone || case.heard.contains_key(&member.node) {
                    continue;
                }
                if member.node == self.config.id {
                    own = true;
                } else {
                    let message = Message::Seal { shard: id, epoch };
                    self.send(&member.node, message);
                }
            }
        }
        let heard: Vec<Heard> = case.heard.values().cloned().collect();
        let decision = failover::decide(
            id,
            facts,
            &keyspace,
            &heard,
            &self.catalog.nodes,
            &self.config.id,
            &self.handing_over(),
        );
        let (node, safe) = match decision {
            Decision::Name { node, is_safe } => (node, is_safe),
            Decision::Wait(why) => {
                case.ready = None;
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
        if !safe && (planned || !self.is_as_good_as_it_gets(leading, case, facts)) {
            return own;
        }
        let gave_up = case.has_heard_office(facts);
        let alone = gave_up && node == facts.primary;
        if alone && now.saturating_sub(case.since) < ANOTHER_WITHIN {
            return own;
        }
        let unheard = self.unheard(&heard, facts, &keyspace);
        let within = match keyspace.strategy.failover {
            model::Failover::Safe => ALL_WITHIN_SAFE,
            model::Failover::Available => ALL_WITHIN,
        };
        if !unheard.is_empty() && now.saturating_sub(case.since) < within {
            return own;
        }
        let ready = *case.ready.get_or_insert(now);
        let leased = leading.may_be_leased_from_before(now)
            || leading.granted.may_hold(&facts.primary, facts.process, now);
        let leased = leased && !gave_up;
        // Where a disk is shared it moves again for all at once, and the primary says so next.
        let on_disk = leading.stalled.contains_key(&facts.primary);
        let settles = on_disk && now.saturating_sub(ready) < MOVES_WITHIN;
        if (leased && !planted::is(Bug::IgnoreLease)) || case.plan == Plan::Proposed || settles {
            return own;
        }
        let named = now.saturating_sub(case.since).as_millis();
        let sealed = ready.saturating_sub(case.since).as_millis();
        let waited = named.saturating_sub(sealed);
        let lacking = match unheard.as_slice() {
            [] => String::new(),
            unheard => {
                let names: Vec<&str> = unheard.iter().map(NodeId::as_str).collect();
                format!(
                    "; too few that were heard were level since an unclean end, and {} did not come",
                    names.join(", ")
                )
            }
        };
        let plan = Promotion {
            shard: id,
            expected: facts.epoch,
            node,
            heard,
            reported: self.reported_position(&facts.primary, id, host),
            cause: format!(
                "{cause}; named {named} ms after the first doubt, of which sealing took {sealed} ms and waiting for its lease {waited} ms{lacking}"
            ),
            at_ms: self.now.wall_ms,
        };
        tracing::warn!(shard = id.0, node = %plan.node, cause = %plan.cause, "another primary is named");
        case.proposes = Some(plan);
        own
    }

    /// Who may hold what those that were heard lack, because too few of them can vouch for their
    /// disks: after an unclean end one may be on an older copy of its disk, which nothing tells
    /// from a crash, and under `sync` one is enough.
    fn unheard(
        &self,
        heard: &[Heard],
        facts: &catalog::Shard,
        keyspace: &catalog::Keyspace,
    ) -> Vec<NodeId> {
        let counted = failover::counted(facts, heard);
        if failover::is_vouched(facts, &keyspace.strategy.ack, &counted) {
            return Vec::new();
        }
        failover::missed(facts, &counted, &self.catalog.nodes)
            .cloned()
            .collect()
    }

    fn reported_position(
        &self,
        node: &NodeId,
        id: ShardId,
        host: &impl Host,
    ) -> Option<model::Position> {
        let replica = match *node == self.config.id {
            true => host.replica(id),
            false => self.replica_at(node, id),
        };
        replica.map(|replica| replica.position)
    }

    /// Proposes what is planned for shards, in as few proposals as may be.
    fn propose_plans(&mut self, leading: &mut Leading) {
        loop {
            let (mut shards, mut commands) = (Vec::new(), Vec::new());
            let planned = leading
                .cases
                .iter_mut()
                .filter(|(_, c)| c.proposes.is_some());
            for (id, case) in planned.take(PLANS_MAX) {
                commands.extend(case.proposes.take().map(Command::Promote));
                shards.push(*id);
            }
            if shards.is_empty() {
                return;
            }
            if self.propose_once(commands, Asker::Promotions(shards.clone())) {
                for id in shards {
                    if let Some(case) = leading.cases.get_mut(&id) {
                        case.plan = Plan::Proposed;
                    }
                }
            }
        }
    }

    /// Whether nobody that could reduce the loss is likely to be heard soon.
    fn is_as_good_as_it_gets(
        &self,
        leading: &Leading,
        case: &Case,
        facts: &catalog::Shard,
    ) -> bool {
        let now = self.now.monotonic;
        let heard = |r: &catalog::Replica| case.heard.contains_key(&r.node);
        let not_yet = |r: &catalog::Replica| {
            !heard(r) && r.node != facts.primary && !self.peers.was_heard(&r.node)
        };
        let starts = now.saturating_sub(self.started) < STARTUP_GRACE;
        if starts && self.has_returned(facts) && facts.members().any(not_yet) {
            return false; // All begin at once: the others are about to come.
        }
        if now.saturating_sub(case.since) >= PATIENCE {
            return true;
        }
        let home = facts.replica(&facts.primary).map(|r| &r.region);
        let mut near = facts
            .members()
            .filter(|r| Some(&r.region) == home && r.node != facts.primary)
            .filter(|r| leading.away(&r.node).is_none())
            .peekable();
        near.peek().is_some() && near.all(heard)
    }

    /// A replica was sealed.
    pub(crate) fn sealed(&mut self, from: &NodeId, sealed: Sealed, host: &impl Host) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        let id = sealed.shard;
        let few = leading.cases.len() <= CASES_FEW;
        let case = leading.cases.get_mut(&id);
        if let Some(case) = case.filter(|c| sealed.epoch > c.epoch) {
            let heard = Heard {
                node: from.clone(),
                process: sealed.process,
                disk: sealed.disk,
                sealed: sealed.epoch,
                last: sealed.last,
                intact_since: sealed.intact_since,
                whole: sealed.whole,
                level: sealed.level,
            };
            case.heard.insert(from.clone(), heard);
            if few {
                self.look_after_now(id, host);
            }
        }
    }

    /// What there is to be done for a shard that something was heard of.
    pub(crate) fn look_after_now(&mut self, id: ShardId, host: &impl Host) {
        let Some(mut leading) = self.leading.take() else {
            return;
        };
        let mut own_seal = None;
        if let Some(facts) = self.catalog.clone().shards.get(&id)
            && self.look_after(&mut leading, id, facts, host)
        {
            own_seal = Some(facts.epoch.next());
        }
        self.propose_plans(&mut leading);
        self.leading = Some(leading);
        if let Some(epoch) = own_seal {
            let me = self.config.id.clone();
            self.seal(&me, id, epoch);
        }
    }

    /// What was proposed for a shard has an outcome; None: there was none in time.
    pub(crate) fn plan_ended(&mut self, id: ShardId, outcome: Option<Result<(), String>>) {
        if let Some(Err(line)) = &outcome {
            tracing::warn!(shard = id.0, reason = line, "no other primary was named");
        }
        if let Some(leading) = &mut self.leading
            && let Some(case) = leading.cases.get_mut(&id)
        {
            case.end_plan(outcome.is_some());
        }
    }

    /// Writes something down for operators.
    pub fn note(&mut self, shard: ShardId, kind: &str, text: String) {
        let command = self.noted(shard, kind, text);
        self.ask_for(command, Asker::Note);
    }

    fn noted(&self, shard: ShardId, kind: &str, text: String) -> Command {
        tracing::warn!(shard = shard.0, kind, text);
        let name = (self.catalog.shards.get(&shard))
            .and_then(|s| self.catalog.keyspaces.get(&s.keyspace))
            .map_or_else(|| "?".to_owned(), |k| k.name.to_string());
        Command::Note {
            shard: Some(shard),
            kind: kind.to_owned(),
            text: format!("shard {shard} of {name}: {text}"),
            at_ms: self.now.wall_ms,
        }
    }
}
