//! What this node asks of the control group, until there is an outcome; and what other nodes
//! ask of this one, if it is a voter.

use super::Control;
use crate::{
    cluster::{Cluster, Output},
    host::Host,
    message::Message,
};
use control::{
    command::{COMMANDS_MAX, Command, Frames, Proposal, RequestId},
    failover,
};
use model::{
    DiskId, Epoch, NodeId, ShardId,
    catalog::Shard,
    planted::{self, Bug},
};
use replication::consensus::NotTaken;
use std::time::Duration;

/// Who waits for what was asked.
#[derive(Debug)]
pub(crate) enum Asker<A> {
    /// This node introduces itself.
    Register,
    /// This node takes up the offices of these shards' primaries.
    Offices(Vec<ShardId>),
    /// A shard's rule is to be suspended, or put in force again, in this epoch.
    Degraded(ShardId, Epoch, bool),
    /// Other primaries are named for shards, or it is found out that none will be.
    Promotions(Vec<ShardId>),
    /// Learners become members.
    Confirms(Vec<(ShardId, NodeId)>),
    /// Something is written down, or a replica replaced: nobody waits.
    Note,
    /// Somebody outside of this room.
    Outside(A),
}

#[derive(Debug)]
pub(super) struct Asked<A> {
    commands: Vec<Command>,
    asker: Asker<A>,
    since: Duration,
    sent_at: Duration,
    /// Who led, as far as was known, when it was sent.
    leader: Option<NodeId>,
    pub(super) tries: u32,
    /// It must not be sent again: it holds only for the term in which it was made.
    once: bool,
}

/// How long until a question is asked again, of another voter.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(700);

/// How often a voter's word on who leads is followed at once.
pub(super) const HINTS_MAX: u32 = 4;

/// How long a client waits for an outcome.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a plan is waited for.
const PLAN_MAX: Duration = Duration::from_secs(3);

impl<A> Control<A> {
    /// Plans of an earlier term are not waited for.
    pub(crate) fn forget_plans(&mut self) {
        self.asked.retain(|_, asked| !asked.once);
    }

    /// Whom to ask next.
    pub(super) fn whom(&self, tries: u32) -> Option<NodeId> {
        if tries == 0
            && let Some(leader) = self.leader()
        {
            return Some(leader);
        }
        self.voters.get(tries as usize % self.voters.len()).cloned()
    }
}

impl<A> Cluster<A> {
    /// Asks the group for a change. `asker` is given back with what came of it.
    pub fn ask(&mut self, command: Command, asker: A) {
        self.ask_all(vec![command], Asker::Outside(asker));
    }

    /// Asks for a change, and nobody waits for it.
    pub(crate) fn ask_for(&mut self, command: Command, asker: Asker<A>) {
        self.ask_all(vec![command], asker);
    }

    /// Asks the group for several, at most [`COMMANDS_MAX`], at once.
    fn ask_all(&mut self, commands: Vec<Command>, asker: Asker<A>) {
        let sequence = self.control.next_sequence();
        self.remember(sequence, commands, asker, false);
        self.ask_again(sequence, None);
    }

    /// Proposes to this node's own group, which it leads, and to nobody else, once. Returns
    /// whether it was taken.
    pub(crate) fn propose_once(&mut self, commands: Vec<Command>, asker: Asker<A>) -> bool {
        let sequence = self.control.next_sequence();
        let Ok(bytes) = self.proposal(sequence, commands.clone()).encode() else {
            return false;
        };
        let group = self.control.group.as_mut();
        let taken = group.is_some_and(|group| group.propose(bytes.into()).is_ok());
        if taken {
            self.remember(sequence, commands, asker, true);
        }
        taken
    }

    fn remember(&mut self, sequence: u64, commands: Vec<Command>, asker: Asker<A>, once: bool) {
        let now = self.now.monotonic;
        let asked = Asked {
            commands,
            asker,
            since: now,
            sent_at: now,
            leader: self.control.leader(),
            tries: 0,
            once,
        };
        self.control.asked.insert(sequence, asked);
    }

    fn proposal(&self, sequence: u64, commands: Vec<Command>) -> Proposal {
        Proposal {
            request: RequestId {
                node: self.config.id.number(),
                process: self.config.process,
                sequence,
            },
            commands,
        }
    }

    /// Asks the leader, or who is to be tried next, or `whom`.
    pub(super) fn ask_again(&mut self, sequence: u64, whom: Option<NodeId>) {
        let leader = self.control.leader();
        let Some(asked) = self.control.asked.get_mut(&sequence) else {
            return;
        };
        let tries = asked.tries;
        asked.tries += 1;
        asked.sent_at = self.now.monotonic;
        asked.leader = leader;
        let commands = asked.commands.clone();
        let Ok(bytes) = self.proposal(sequence, commands).encode() else {
            return;
        };
        match whom.or_else(|| self.control.whom(tries)) {
            Some(to) if to == self.config.id => {
                if let Some(group) = &mut self.control.group {
                    // Busy or no longer the leader: it is asked again.
                    let _ = group.propose(bytes.into());
                }
            }
            Some(to) => {
                let message = Message::Propose {
                    request: sequence,
                    command: bytes,
                };
                self.send(&to, message);
            }
            None => {}
        }
    }

    /// Asks the catalog to suspend a shard's rule, or to put it in force again, for a primary in
    /// office in `epoch`: what came of that office's writes says nothing of a later one's.
    pub fn ask_degraded(&mut self, shard: ShardId, epoch: Epoch, degraded: bool) {
        let facts = self.catalog.shards.get(&shard);
        let Some(facts) = facts.filter(|facts| facts.epoch == epoch) else {
            return;
        };
        tracing::warn!(
            shard = shard.0,
            degraded,
            "the acknowledgement rule changes"
        );
        let command = Command::SetDegraded {
            shard,
            epoch: facts.epoch,
            degraded,
        };
        self.ask_for(command, Asker::Degraded(shard, epoch, degraded));
    }

    /// The catalog is to make a learner a member: it is asked with the next tick.
    pub fn ask_confirm(&mut self, shard: ShardId, node: NodeId, disk: DiskId) {
        self.control.confirms.insert((shard, node), disk);
    }

    /// Asks the catalog to make learners members.
    pub(super) fn confirm_members(&mut self) {
        let confirms = std::mem::take(&mut self.control.confirms);
        let mut commands = Vec::new();
        let mut asker = Vec::new();
        for ((shard, node), disk) in confirms {
            let key = (shard, node.clone());
            let Some(facts) = self.catalog.shards.get(&shard) else {
                continue;
            };
            if !self.control.asked_confirms.insert(key.clone()) {
                continue; // Under way. Its strategy asks again.
            }
            commands.push(Command::ConfirmReplica {
                shard,
                epoch: facts.epoch,
                node,
                disk,
                at_ms: self.now.wall_ms,
            });
            asker.push(key);
        }
        self.ask_in_parts(commands, asker, Asker::Confirms);
    }

    /// Asks for all of these, in as few proposals as may be; `asker` is of as many.
    fn ask_in_parts<T>(
        &mut self,
        commands: Vec<Command>,
        asker: Vec<T>,
        wrap: fn(Vec<T>) -> Asker<A>,
    ) {
        let (mut commands, mut asker) = (commands.into_iter(), asker.into_iter());
        loop {
            let some: Vec<Command> = commands.by_ref().take(COMMANDS_MAX).collect();
            if some.is_empty() {
                return;
            }
            let of_some = asker.by_ref().take(some.len()).collect();
            self.ask_all(some, wrap(of_some));
        }
    }

    pub(super) fn proposed(&mut self, from: &NodeId, request: u64, command: Vec<u8>) {
        if self.control.group.is_none() {
            let message = Message::NotLeader {
                request,
                leader: None,
            };
            return self.send(from, message);
        };
        let levels = self.config.release.levels;
        let Ok(Frames {
            request: of,
            frames,
        }) = Frames::decode(&command)
        else {
            return;
        };
        // Those that this release does not know are refused by the machine, unread. Of the others
        // what can't be read must not get into the group's log.
        let known = frames.iter().filter(|frame| frame.level <= levels.newest);
        let commands: Result<Vec<Command>, _> = known.map(|frame| frame.read(levels)).collect();
        let Ok(commands) = commands else {
            return;
        };
        let refused = (commands.iter()).find_map(|command| self.registration_refused(command));
        let Some(group) = &mut self.control.group else {
            return;
        };
        if let Some(line) = refused.filter(|_| group.is_leader()) {
            tracing::warn!(%from, reason = %line, "a node may not register");
            let result = Err(line);
            return self.send(from, Message::Outcome { request, result });
        }
        match group.propose(command.into()) {
            Ok(()) => {
                self.control.proposers.insert(of, from.clone());
            }
            Err(NotTaken::NotLeader { leader }) => {
                self.send(from, Message::NotLeader { request, leader });
            }
            // It is asked again.
            Err(NotTaken::Busy | NotTaken::Size { .. }) => {}
        }
    }

    pub(super) fn register(&mut self) {
        let config = &self.config;
        let asked = self
            .control
            .asked
            .values()
            .any(|a| matches!(a.asker, Asker::Register));
        if asked || self.now.monotonic < self.control.next_registration {
            return;
        }
        let info = self.own_info();
        if self.is_registered() && self.catalog.nodes.get(&config.id) == Some(&info) {
            return;
        }
        let id = config.id.clone();
        self.ask_for(Command::RegisterNode { id, info }, Asker::Register);
    }

    /// Shards whose primary this node is, but not yet this process: every process takes a new
    /// epoch before it writes.
    pub(super) fn take_offices(&mut self, host: &mut impl Host) {
        // On a disk that hangs no office can be taken up, and asking would keep others from it.
        if self.now.monotonic < self.control.next_offices
            || !self.is_registered()
            || !self.clock.is_settled()
            || host.stalled_for().is_some()
            || self.is_ending()
        {
            return;
        }
        let catalog = self.catalog.clone();
        let (mut commands, mut asker) = (Vec::new(), Vec::new());
        for id in host.offices() {
            let facts = catalog.named_shard(id);
            let Some(facts) = facts.filter(|facts| facts.primary == self.config.id) else {
                host.has_office(id);
                continue;
            };
            if self.is_in_office(id, facts, host) {
                host.has_office(id);
                continue;
            }
            let asked = self.control.asked_offices.contains(&id);
            let keyspace = catalog.keyspaces.get(&facts.keyspace);
            // Else the control leader asks the others first.
            let may =
                keyspace.is_some_and(|k| failover::may_resume(facts, &k.strategy.ack, &self.boot));
            if host.can_lead(id) && may && !asked {
                self.control.asked_offices.insert(id);
                asker.push(id);
                commands.push(Command::StartEpoch {
                    shard: id,
                    node: self.config.id.clone(),
                    process: self.config.process,
                    disk: self.config.disk,
                    expected: facts.epoch,
                });
            }
        }
        self.ask_in_parts(commands, asker, Asker::Offices);
    }

    /// Whether this process is in office in a shard of which the catalog has this node for primary.
    fn is_in_office(&self, id: ShardId, facts: &Shard, host: &impl Host) -> bool {
        // Processes are numbered on each disk: another disk has a first one too.
        facts.epoch > Epoch(0)
            && (facts.process == self.config.process || planted::is(Bug::ResumeInOldEpoch))
            && facts.disk == self.config.disk
            // A replica that was sealed for a later epoch, in which nobody was named, takes the next
            // one, as a new process does.
            && host.epoch(id).is_none_or(|epoch| epoch <= facts.epoch)
    }

    pub(super) fn outcome(&mut self, sequence: u64, result: Result<u64, String>, host: &impl Host) {
        let Some(asked) = self.control.asked.remove(&sequence) else {
            return;
        };
        match (asked.asker, result) {
            (Asker::Register, Ok(_)) => {}
            (Asker::Outside(asker), result) => {
                // Asked twice, it may have been done the first time.
                let done = asked.tries > 1 && self.is_there(&asked.commands);
                let result = match done {
                    true => result.or(Ok(self.catalog.version)),
                    false => result,
                };
                self.put(Output::Answered(asker, result));
            }
            (Asker::Degraded(..) | Asker::Note, Ok(_)) => {}
            (Asker::Promotions(shards), result) => {
                let result = result.map(|_| ());
                for shard in shards {
                    self.plan_ended(shard, Some(result.clone()));
                }
            }
            (Asker::Confirms(learners), result) => {
                if let Err(line) = result {
                    let count = learners.len();
                    tracing::info!(count, reason = %line, "learners stay what they are");
                }
                for learner in learners {
                    self.control.asked_confirms.remove(&learner);
                }
            }
            (Asker::Offices(shards), result) => {
                let catalog = self.catalog.clone();
                let mut refused = 0;
                for shard in shards {
                    self.control.asked_offices.remove(&shard);
                    let facts = catalog.shards.get(&shard);
                    let facts = facts.filter(|facts| facts.primary == self.config.id);
                    refused +=
                        usize::from(facts.is_some_and(|f| !self.is_in_office(shard, f, host)));
                }
                if refused > 0 || result.is_err() {
                    self.control.next_offices = self.now.monotonic + ASK_AGAIN;
                    let reason = result.err();
                    tracing::warn!(refused, ?reason, "the control group refused offices");
                }
            }
            (Asker::Note, Err(line)) => tracing::info!(reason = %line, "it was not written down"),
            (Asker::Degraded(shard, epoch, degraded), Err(line)) => {
                tracing::warn!(shard = shard.0, degraded, reason = %line, "the rule was not changed");
                // The strategy waits for it: as long as this is the primary it is asked again.
                let facts = self.catalog.shards.get(&shard);
                if host.is_primary(shard) && facts.is_some_and(|f| f.degraded != degraded) {
                    self.ask_degraded(shard, epoch, degraded);
                }
            }
            (Asker::Register, Err(line)) => {
                self.control.next_registration = self.now.monotonic + ASK_AGAIN;
                tracing::warn!(reason = %line, "the control group refused to register this node");
            }
        }
    }

    /// Whether a keyspace that was asked for is there, just so.
    fn is_there(&self, commands: &[Command]) -> bool {
        let [Command::CreateKeyspace(wanted)] = commands else {
            return false;
        };
        let found = self.catalog.keyspace_named(wanted.name.as_str());
        found.is_some_and(|(_, found)| found.strategy == wanted.strategy)
    }

    pub(super) fn agreed(
        &mut self,
        request: RequestId,
        result: Result<u64, String>,
        host: &mut impl Host,
    ) {
        if request.node == self.config.id.number() && request.process == self.config.process {
            // What is answered may read the catalog.
            self.adopt(self.control.machine.clone(), host);
            self.outcome(request.sequence, result, host);
        } else if let Some(node) = self.control.proposers.remove(&request) {
            self.send_catalog(&node, &self.control.machine.clone());
            let message = Message::Outcome {
                request: request.sequence,
                result,
            };
            self.send(&node, message);
        }
    }

    /// What got no answer is asked again, or given up; if another leader is known by now than
    /// when it was sent, it is asked of that one without a wait.
    pub(super) fn ask_tick(&mut self, host: &impl Host) {
        let now = self.now.monotonic;
        let leader = self.control.leader();
        let due: Vec<(u64, bool, Option<NodeId>)> = self
            .control
            .asked
            .iter()
            .filter_map(|(sequence, a)| {
                let elected = leader.clone().filter(|_| leader != a.leader);
                let due = elected.is_some() || now.saturating_sub(a.sent_at) >= ASK_AGAIN;
                let most = if a.once { PLAN_MAX } else { ANSWER_MAX };
                let over = now.saturating_sub(a.since) >= most;
                (due && (over || !a.once)).then_some((*sequence, over, elected))
            })
            .collect();
        for (sequence, over, elected) in due {
            if !over {
                self.ask_again(sequence, elected);
            } else if let Some(Asked {
                asker: Asker::Promotions(shards),
                ..
            }) = self.control.asked.get(&sequence)
            {
                let shards = shards.clone();
                self.control.asked.remove(&sequence);
                for shard in shards {
                    self.plan_ended(shard, None);
                }
            } else {
                let line = "the control group did not answer in time: most of its voters must be reachable; whether it was done is unknown".to_owned();
                self.outcome(sequence, Err(line), host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::Alone,
        standing::tests::{id, node},
    };
    use model::{Catalog, KeyspaceId, catalog::Shard};

    /// A primary that was deposed while it waited says nothing of its successor's rule.
    #[test]
    fn a_rule_is_suspended_in_the_epoch_of_who_asks_alone() {
        let mut node = node();
        let mut catalog = Catalog {
            version: 1,
            ..Catalog::default()
        };
        let shard = Shard {
            keyspace: KeyspaceId(1),
            slots: (0, 16_383),
            replicas: Vec::new(),
            primary: id("a"),
            epoch: Epoch(6),
            process: 1,
            disk: DiskId(1),
            degraded: false,
            decreed: None,
        };
        catalog.shards.insert(ShardId(1), shard);
        node.adopt(catalog, &mut Alone);
        node.ask_degraded(ShardId(1), Epoch(5), true);
        assert!(node.control.asked.is_empty());
        node.ask_degraded(ShardId(1), Epoch(6), true);
        assert_eq!(node.control.asked.len(), 1);
    }
}
