//! What a control leader has observed, and what it is doing about it.

use super::places::PLACE_EVERY;
use crate::{
    hand_over::HandOvers,
    lease::{self, Granted},
};
use control::failover::{Heard, Promotion};
use model::{
    Epoch, NodeId, ShardId, catalog,
    planted::{self, Bug},
};
use std::{collections::BTreeMap, time::Duration};

/// What the control leader has observed. Thrown away when it stops leading.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(super) term: u64,
    pub(super) since: Duration,
    /// When the last lease is over that an earlier leader may have granted.
    pub(super) alone_from: Duration,
    pub(crate) granted: Granted,
    pub(super) cases: BTreeMap<ShardId, Case>,
    /// Who is silent, and for how long, as of the last tick.
    pub(super) silent: BTreeMap<NodeId, Duration>,
    /// Whose disk does not answer, and for how long.
    pub(crate) stalled: BTreeMap<NodeId, Duration>,
    /// What primaries that end have asked for.
    pub(crate) hand_overs: HandOvers,
    /// The version of the catalog that was looked through last, and whose shards are whose in it.
    pub(super) looked_at: u64,
    pub(super) by_primary: BTreeMap<NodeId, Vec<ShardId>>,
    /// Since when a node says that it is primary and has no lease.
    pub(super) unleased: BTreeMap<NodeId, Duration>,
    pub(super) next_replacements: Duration,
    pub(super) next_placement: Duration,
}

/// A shard whose primary is gone.
#[derive(Debug)]
pub(super) struct Case {
    /// The epoch that is to end.
    pub(super) epoch: Epoch,
    pub(super) primary: NodeId,
    pub(super) since: Duration,
    pub(super) sealed_at: Option<Duration>,
    pub(super) heard: BTreeMap<NodeId, Heard>,
    /// Since when somebody could be named but for the lease.
    pub(super) ready: Option<Duration>,
    pub(super) plan: Plan,
    /// What is to be proposed for it.
    pub(super) proposes: Option<Promotion>,
    /// What was written down last.
    pub(super) noted: Option<String>,
}

/// What became of the plan that was proposed for a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// There is none that could still be agreed on.
    None,
    /// Its outcome is waited for.
    Proposed,
    /// No outcome came in time. Whatever is proposed next, and agreed on or refused, comes
    /// behind it in the group's log, and ends the doubt.
    Lost,
}

impl Case {
    pub(super) fn new(facts: &catalog::Shard, now: Duration) -> Self {
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
    pub(super) fn has_heard_office(&self, facts: &catalog::Shard) -> bool {
        let heard = self.heard.get(&facts.primary);
        heard.is_some_and(|h| (h.process, h.disk) == (facts.process, facts.disk))
    }

    /// Whether its primary must get no lease.
    pub(super) fn is_planned(&self) -> bool {
        self.ready.is_some() || self.plan != Plan::None
    }

    /// The group has answered (true), or did not in time: it is planned anew.
    pub(super) fn end_plan(&mut self, answered: bool) {
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
    pub(super) fn away(&self, node: &NodeId) -> Option<Duration> {
        let time = self.silent.get(node).max(self.stalled.get(node));
        time.copied()
    }

    /// Whether a lease that an earlier leader granted may still run.
    pub(super) fn may_be_leased_from_before(&self, now: Duration) -> bool {
        now < self.alone_from && !planted::is(Bug::ForgetOldLeases)
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
