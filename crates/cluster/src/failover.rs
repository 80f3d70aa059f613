//! Another primary for a shard whose own is gone (docs/adr/0011-failover): the control leader,
//! which suspects, seals (`seal` is the other end), waits and names.
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
//! Always: a plan is proposed by the leader that made it, in the term in which it watched the
//! leases; it is never sent on nor repeated. From proposing it until it is known what became of
//! it the primary gets no lease: not even when the plan seems to be lost, since it may stand in
//! the group's log and be agreed on at any time.

use crate::{
    cluster::Cluster,
    control::Asker,
    hand_over::HandOvers,
    host::Host,
    lease::{self, Granted},
    message::{Message, Sealed},
};
use control::{
    command::Command,
    failover::{self, Decision, Heard, Promotion},
};
use model::{
    Epoch, NodeId, Region, ShardId, catalog,
    planted::{self, Bug},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How often a seal that was not answered is sent again.
const SEAL_AGAIN: Duration = Duration::from_millis(200);
/// How long a loss is put off for a replica that could reduce it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a primary that ends, and was heard, waits for another to be heard that is level.
const ANOTHER_WITHIN: Duration = Duration::from_millis(500);
/// How much later than a replica's disk the primary's may move without its losing the office.
const MOVES_WITHIN: Duration = Duration::from_millis(300);
/// A wait that is longer is written down.
const NOTE_AFTER: Duration = Duration::from_millis(1500);
/// How long the last primary has to come back after this node's own start.
const STARTUP_GRACE: Duration = Duration::from_secs(10);
/// A primary that is heard but gets no lease for so long is as good as gone.
const UNLEASED_MAX: Duration = Duration::from_secs(3);
/// How often it is looked for a better place of the leadership.
const PLACE_EVERY: Duration = Duration::from_secs(1);
/// Plans that are proposed together: some hundred KiB.
const PLANS_MAX: usize = 256;
/// With no more shards in trouble than these each is looked after as soon as something is heard of
/// it; else with the next tick, all at once.
const CASES_FEW: usize = 4;
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
    /// Who is silent, and for how long, as of the last tick.
    silent: BTreeMap<NodeId, Duration>,
    /// Whose disk does not answer, and for how long.
    pub(crate) stalled: BTreeMap<NodeId, Duration>,
    /// What primaries that end have asked for.
    pub(crate) hand_overs: HandOvers,
    /// The version of the catalog that was looked through last, and whose shards are whose in it.
    looked_at: u64,
    by_primary: BTreeMap<NodeId, Vec<ShardId>>,
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
    /// Since when somebody could be named but for the lease.
    ready: Option<Duration>,
    plan: Plan,
    /// What is to be proposed for it.
    proposes: Option<Promotion>,
    /// What was written down last.
    noted: Option<String>,
}

/// What became of the plan that was proposed for a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// There is none that could still be agreed on.
    None,
    /// Its outcome is waited for.
    Proposed,
    /// No outcome came in time. Whatever is proposed next, and agreed on or refused, comes
    /// behind it in the group's log, and ends the doubt.
    Lost,
}

impl Case {
    fn new(facts: &catalog::Shard, now: Duration) -> Self {
        Case {
            epoch: facts.epoch,
            primary: facts.primary.clone(),
            since: now,
            sealed_at: None,
            heard: BTreeMap::new(),
            ready: None,
            plan: Plan::None,
            proposes: None,
            noted: None,
        }
    }

    /// Whether its primary itself was heard, in the process that holds the office: sealed, it
    /// acts as primary no more, whatever lease it holds.
    fn has_heard_office(&self, facts: &catalog::Shard) -> bool {
        let heard = self.heard.get(&facts.primary);
        heard.is_some_and(|h| (h.process, h.disk) == (facts.process, facts.disk))
    }

    /// Whether its primary must get no lease.
    fn is_planned(&self) -> bool {
        self.ready.is_some() || self.plan != Plan::None
    }

    /// The group has answered (true), or did not in time: it is planned anew.
    fn end_plan(&mut self, answered: bool) {
        self.plan = if answered { Plan::None } else { Plan::Lost };
        self.ready = None;
        self.heard.clear();
    }
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
            silent: BTreeMap::new(),
            stalled: BTreeMap::new(),
            hand_overs: HandOvers::default(),
            looked_at: 0,
            by_primary: BTreeMap::new(),
            unleased: BTreeMap::new(),
            next_replacements: now,
            next_placement: now + PLACE_EVERY,
        }
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Forgets what was heard of replicas that are no members any more: one that comes back as a
    /// learner begins anew, its seal is gone, and it may acknowledge in this epoch again.
    pub(crate) fn forget_who_left(&mut self, catalog: &model::Catalog) {
        for (id, case) in &mut self.cases {
            let Some(facts) = catalog.shards.get(id) else {
                continue;
            };
            let is_member = |node: &NodeId, heard: &Heard| {
                (facts.members()).any(|m| m.node == *node && m.disk == Some(heard.disk))
            };
            case.heard.retain(|node, heard| is_member(node, heard));
        }
    }

    /// Whether `node` is about to lose a shard.
    pub(crate) fn is_planned_against(&self, node: &NodeId) -> bool {
        let mut planned = self.cases.values().filter(|c| c.is_planned());
        planned.any(|c| c.primary == *node)
    }

    /// For how long `node` could do nothing for its replicas, if that is out of the ordinary.
    fn away(&self, node: &NodeId) -> Option<Duration> {
        let time = self.silent.get(node).max(self.stalled.get(node));
        time.copied()
    }

    /// Whether a lease that an earlier leader granted may still run.
    fn may_be_leased_from_before(&self, now: Duration) -> bool {
        now < self.alone_from && !planted::is(Bug::ForgetOldLeases)
    }
}

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
                if let Some(facts) = catalog.shards.get(&id)
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
            for (id, facts) in &self.catalog.shards {
                let shards = leading.by_primary.entry(facts.primary.clone());
                shards.or_default().push(*id);
            }
            return self.catalog.shards.keys().copied().collect();
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

    /// Leadership goes to the voter that does best: in the region of most primaries, so that
    /// leases are near, and of those on the one with the fewest itself, so that one node's end
    /// is not the end of both. A leader whose disk does not answer lets any other lead that can.
    fn place_leadership(&mut self, leading: &mut Leading, host: &impl Host) {
        let now = self.now.monotonic;
        let stalled = host.stalled_for().is_some();
        let ends = self.is_ending() && self.offices() == 0;
        if now < leading.next_placement && !ends || !leading.cases.is_empty() && !stalled {
            return;
        }
        leading.next_placement = now + PLACE_EVERY;
        let mut primaries: BTreeMap<&Region, usize> = BTreeMap::new();
        for (node, shards) in &leading.by_primary {
            if let Some(info) = self.catalog.nodes.get(node) {
                *primaries.entry(&info.region).or_default() += shards.len();
            }
        }
        let worth = |node: &NodeId| {
            let region = self.catalog.nodes.get(node).map(|info| &info.region);
            let near = region.and_then(|r| primaries.get(r)).copied();
            let own = leading.by_primary.get(node).map_or(0, Vec::len);
            (near.unwrap_or(0), Reverse(own))
        };
        let there = |node: &&NodeId| {
            let can = !self.control.is_muted(node)
                && !self.peers.is_stalled(node)
                && !self.peers.hands_over(node);
            can && self.peers.is_up(node, now)
        };
        let voters = self.control.voters().iter();
        let best = voters.filter(there).max_by_key(|node| worth(node));
        if let Some(best) =
            best.filter(|best| stalled || ends || worth(best) > worth(&self.config.id))
        {
            let best = best.clone();
            tracing::info!(to = %best, "the control group gets another leader");
            self.control.hand_over(&best);
        }
    }

    fn note_unleased(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        for (node, unleased) in self.peers.unleased() {
            // A process that has not registered yet gets none; it has only just begun.
            let registered = self.catalog.nodes.get(&node).map(|info| info.boot);
            if unleased && registered == self.peers.boot(&node) {
                leading.unleased.entry(node).or_insert(now);
            } else {
                leading.unleased.remove(&node);
            }
        }
    }

    /// At the leader: whose disks do not answer, as they said last. What is new is written down.
    fn note_stalled(&mut self, leading: &mut Leading) {
        let stalled = self.peers.stalled();
        if stalled.is_empty() && leading.stalled.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut leading.stalled, stalled);
        let now = &leading.stalled;
        let begun = now.iter().filter(|(node, _)| !before.contains_key(*node));
        let begun: Vec<String> = begun
            .map(|(node, time)| {
                let seconds = time.as_secs_f64();
                format!(
                    "the disk of {node} has not answered for {seconds:.1} s: nothing is read there, and no write is durable there, until it does"
                )
            })
            .collect();
        let ended = before.keys().filter(|node| !now.contains_key(*node));
        let ended: Vec<String> = ended
            .map(|node| format!("the disk of {node} answers again"))
            .collect();
        for (kind, said) in [("disk-stalled", begun), ("recovered", ended)] {
            for text in said {
                self.note_of_node(kind, text);
            }
        }
    }

    /// Why the primary of a shard is taken to be gone; None if it isn't.
    fn gone(
        &self,
        leading: &Leading,
        id: ShardId,
        facts: &catalog::Shard,
        host: &impl Host,
    ) -> Option<String> {
        let now = self.now.monotonic;
        let primary = &facts.primary;
        if facts.epoch > Epoch(0) && self.disk_of(primary) != Some(facts.disk) {
            return Some(format!("{primary} came back with another disk"));
        }
        if self.has_returned(facts) {
            return Some(format!(
                "{primary} is back after an unclean end, and may lack what others have"
            ));
        }
        if *primary == self.config.id {
            let reason = host.stop_reason(id)?;
            return Some(format!("its replica on {primary} has stopped ({reason})"));
        }
        if !self.peers.was_heard(primary) && now.saturating_sub(self.started) < STARTUP_GRACE {
            return None;
        }
        if let Some(silence) = leading.silent.get(primary) {
            let seconds = silence.as_secs_f64();
            return Some(format!("{primary} has been silent for {seconds:.1} s"));
        }
        if let Some(stall) = leading.stalled.get(primary) {
            let seconds = stall.as_secs_f64();
            return Some(format!(
                "the disk of {primary} has not answered for {seconds:.1} s"
            ));
        }
        if self.peers.has_stopped(primary, id) {
            return Some(format!("its replica on {primary} has stopped"));
        }
        let since = leading.unleased.get(primary)?;
        let without = now.saturating_sub(*since.max(&leading.since));
        (without >= UNLEASED_MAX).then(|| {
            let seconds = without.as_secs_f64();
            format!("{primary} is heard, but gets no lease since {seconds:.1} s")
        })
    }

    /// Whether the primary is back in another process, and has to be heard like any other member.
    fn has_returned(&self, facts: &catalog::Shard) -> bool {
        let boot = self.catalog.nodes.get(&facts.primary).map(|info| info.boot);
        let keyspace = self.catalog.keyspaces.get(&facts.keyspace);
        boot.zip(keyspace).is_some_and(|(boot, keyspace)| {
            boot.process != facts.process
                && !failover::may_resume(facts, &keyspace.strategy.ack, &boot)
        })
    }

    fn disk_of(&self, node: &NodeId) -> Option<model::DiskId> {
        self.catalog.nodes.get(node).map(|info| info.boot.disk)
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
        let plan = Promotion {
            shard: id,
            expected: facts.epoch,
            node,
            heard,
            reported: self.reported_position(&facts.primary, id, host),
            cause: format!(
                "{cause}; named {named} ms after the first doubt, of which sealing took {sealed} ms and waiting for its lease {waited} ms"
            ),
            at_ms: self.now.wall_ms,
        };
        tracing::warn!(shard = id.0, node = %plan.node, cause = %plan.cause, "another primary is named");
        case.proposes = Some(plan);
        own
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

    /// Who should be given nothing new to hold: silent, or on a disk that does not answer.
    /// `stalled_for`: for how long that of this node has not, if that is too long.
    pub fn unfit(&self, stalled_for: Option<Duration>) -> Vec<NodeId> {
        let mut unfit = self.peers.silent(self.now.monotonic);
        unfit.extend(self.peers.stalled());
        if let Some(time) = stalled_for {
            unfit.insert(self.config.id.clone(), time);
        }
        unfit.into_keys().collect()
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

    /// Replicas whose nodes are silent for too long get another node of their region.
    fn replace_members(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        if now < leading.next_replacements || leading.may_be_leased_from_before(now) {
            return;
        }
        leading.next_replacements = now + REPLACE_EVERY;
        if leading.silent.is_empty() && leading.stalled.is_empty() {
            return;
        }
        let catalog = self.catalog.clone();
        for (id, facts) in &catalog.shards {
            let Some(keyspace) = catalog.keyspaces.get(&facts.keyspace) else {
                continue;
            };
            let replace_after = keyspace.strategy.replace_after;
            for member in facts.members() {
                let silence = leading.away(&member.node);
                // What nobody has heard since this node began may not have been silent long.
                let silence = silence.map(|s| s.min(now.saturating_sub(leading.since)));
                let Some(silence) = silence.filter(|s| *s >= replace_after) else {
                    continue;
                };
                if member.node == facts.primary || leading.away(&facts.primary).is_some() {
                    continue;
                }
                let away = |node: &NodeId| leading.away(node).is_some();
                let newcomer = control::planner::newcomer(&catalog, *id, &member.region, away);
                let taken =
                    (facts.replicas.iter()).any(|r| r.replaces.as_ref() == Some(&member.node));
                if let Some(newcomer) = newcomer.filter(|_| !taken) {
                    let seconds = silence.as_secs();
                    let command = Command::ReplaceReplica {
                        shard: *id,
                        epoch: facts.epoch,
                        gone: member.node.clone(),
                        newcomer,
                        cause: match leading.silent.get(&member.node) {
                            Some(_) => format!("{} has been silent for {seconds} s", member.node),
                            None => format!(
                                "the disk of {} has not answered for {seconds} s",
                                member.node
                            ),
                        },
                        at_ms: self.now.wall_ms,
                    };
                    self.ask_for(command, Asker::Note);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan that nobody answered may stand in the group's log. Once another leader's lease
    /// were granted the former primary could act while the plan is agreed on after all.
    #[test]
    fn a_primary_gets_no_lease_while_a_plan_against_it_could_be_agreed_on() {
        let node = NodeId::new("us-1").unwrap();
        let mut case = Case {
            epoch: Epoch(1),
            primary: node.clone(),
            since: Duration::ZERO,
            sealed_at: None,
            heard: BTreeMap::new(),
            ready: Some(Duration::ZERO),
            plan: Plan::Proposed,
            proposes: None,
            noted: None,
        };
        let planned = |case: Case| {
            let mut leading = Leading::new(3, Duration::ZERO, Duration::ZERO);
            leading.cases.insert(ShardId(0), case);
            leading.is_planned_against(&node)
        };
        let copy = |case: &Case| Case {
            primary: case.primary.clone(),
            heard: BTreeMap::new(),
            proposes: None,
            noted: None,
            ..*case
        };
        assert!(planned(copy(&case)));
        case.end_plan(false);
        assert!(planned(copy(&case)), "it was lost, or is late");
        case.plan = Plan::Proposed;
        case.end_plan(true);
        assert!(!planned(case), "what came behind it was answered");
    }
}
