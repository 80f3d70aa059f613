//! What this node asks of the control group, until there is an outcome; and what other nodes
//! ask of this one, if it is a voter.

use super::Control;
use crate::{
    message::Message,
    node::{Lane, Node},
    request::Target,
};
use bytes::Bytes;
use control::{
    command::{Command, Proposal, RequestId},
    failover,
};
use model::{
    Epoch, KeyspaceName, NodeId, ShardId,
    planted::{self, Bug},
};
use replication::consensus::NotTaken;
use std::time::Duration;
use storage::store::Stores;

/// Who waits for what was asked.
#[derive(Debug)]
pub(crate) enum Asker {
    /// This node introduces itself.
    Register,
    /// This node takes up the office of a shard's primary.
    Epoch(ShardId),
    /// A shard's rule is to be suspended, or put in force again.
    Degraded(ShardId, bool),
    /// Another primary is named for a shard, or it is found out that none will be.
    Promotion(ShardId),
    /// A learner becomes a member.
    Confirm(ShardId),
    /// Something is written down, or a replica replaced: nobody waits.
    Note,
    /// A client creates a keyspace.
    Create { target: Target, name: KeyspaceName },
    /// A client drops one.
    Drop { target: Target },
}

#[derive(Debug)]
pub(super) struct Asked {
    command: Command,
    asker: Asker,
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

impl Control {
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

impl<S: Stores> Node<S> {
    /// Asks the group for a change.
    pub(crate) fn ask(&mut self, command: Command, asker: Asker) {
        let sequence = self.control.next_sequence();
        self.remember(sequence, command, asker, false);
        self.ask_again(sequence, None);
    }

    /// Proposes to this node's own group, which it leads, and to nobody else, once. Returns
    /// whether it was taken.
    pub(crate) fn propose_once(&mut self, command: Command, asker: Asker) -> bool {
        let sequence = self.control.next_sequence();
        let Ok(bytes) = self.proposal(sequence, command.clone()).encode() else {
            return false;
        };
        let group = self.control.group.as_mut();
        let taken = group.is_some_and(|group| group.propose(bytes.into()).is_ok());
        if taken {
            self.remember(sequence, command, asker, true);
        }
        taken
    }

    fn remember(&mut self, sequence: u64, command: Command, asker: Asker, once: bool) {
        let now = self.now.monotonic;
        let asked = Asked {
            command,
            asker,
            since: now,
            sent_at: now,
            leader: self.control.leader(),
            tries: 0,
            once,
        };
        self.control.asked.insert(sequence, asked);
    }

    fn proposal(&self, sequence: u64, command: Command) -> Proposal {
        Proposal {
            request: RequestId {
                node: self.config.id.number(),
                process: self.config.process,
                sequence,
            },
            command,
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
        let command = asked.command.clone();
        let Ok(bytes) = self.proposal(sequence, command).encode() else {
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
                self.send(&to, Lane::Ordinary, &message);
            }
            None => {}
        }
    }

    /// Asks the catalog to suspend a shard's rule, or to put it in force again.
    pub(crate) fn ask_degraded(&mut self, shard: ShardId, degraded: bool) {
        let Some(facts) = self.catalog.shards.get(&shard) else {
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
        self.ask(command, Asker::Degraded(shard, degraded));
    }

    /// Asks the catalog to make a learner a member.
    pub(crate) fn ask_confirm(&mut self, shard: ShardId, node: NodeId, disk: model::DiskId) {
        let Some(facts) = self.catalog.shards.get(&shard) else {
            return;
        };
        let under_way = |a: &Asked| matches!(&a.command, Command::ConfirmReplica { shard: s, node: n, .. } if *s == shard && *n == node);
        if self.control.asked.values().any(under_way) {
            return;
        }
        let command = Command::ConfirmReplica {
            shard,
            epoch: facts.epoch,
            node,
            disk,
            at_ms: self.now.wall_ms,
        };
        self.ask(command, Asker::Confirm(shard));
    }

    pub(super) fn proposed(&mut self, from: &NodeId, request: u64, command: Vec<u8>) {
        if self.control.group.is_none() {
            let message = Message::NotLeader {
                request,
                leader: None,
            };
            return self.send(from, Lane::Ordinary, &message);
        };
        let Ok(proposal) = Proposal::decode(&command) else {
            return;
        };
        let refused = self.registration_refused(&proposal.command);
        let Some(group) = &mut self.control.group else {
            return;
        };
        if let Some(line) = refused.filter(|_| group.is_leader()) {
            tracing::warn!(%from, reason = %line, "a node may not register");
            let result = Err(line);
            return self.send(from, Lane::Ordinary, &Message::Outcome { request, result });
        }
        match group.propose(command.into()) {
            Ok(()) => {
                self.control
                    .proposers
                    .insert(proposal.request, from.clone());
            }
            Err(NotTaken::NotLeader { leader }) => {
                self.send(
                    from,
                    Lane::Ordinary,
                    &Message::NotLeader { request, leader },
                );
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
        self.ask(Command::RegisterNode { id, info }, Asker::Register);
    }

    /// Shards whose primary this node is, but not yet this process: every process takes a new
    /// epoch before it writes.
    pub(super) fn take_offices(&mut self) {
        // On a disk that hangs no office can be taken up, and asking would keep others from it.
        if self.now.monotonic < self.control.next_offices
            || !self.is_registered()
            || !self.clock.is_settled()
            || self.disk_watch.is_stalled()
            || self.is_ending()
        {
            return;
        }
        let catalog = self.catalog.clone();
        for (id, facts) in &catalog.shards {
            if facts.primary != self.config.id {
                continue;
            }
            // Processes are numbered on each disk: another disk has a first one too.
            let in_office = facts.epoch > Epoch(0)
                && (facts.process == self.config.process || planted::is(Bug::ResumeInOldEpoch))
                && facts.disk == self.config.disk
                && !self.is_sealed_above(*id, facts.epoch);
            let ready = self
                .shards
                .get(id)
                .is_some_and(|s| s.stopped.is_none() && s.store.is_serving())
                && !self.rewinds.is_past_return(*id);
            let asked = self
                .control
                .asked
                .values()
                .any(|a| matches!(a.asker, Asker::Epoch(shard) if shard == *id));
            let keyspace = catalog.keyspaces.get(&facts.keyspace);
            // Else the control leader asks the others first.
            let may =
                keyspace.is_some_and(|k| failover::may_resume(facts, &k.strategy.ack, &self.boot));
            if !in_office && ready && may && !asked {
                let command = Command::StartEpoch {
                    shard: *id,
                    node: self.config.id.clone(),
                    process: self.config.process,
                    disk: self.config.disk,
                    expected: facts.epoch,
                };
                self.ask(command, Asker::Epoch(*id));
            }
        }
    }

    /// Whether this node's replica was sealed for a later epoch, and nobody was named in it:
    /// then its primary takes the next one, as a new process does.
    fn is_sealed_above(&self, id: ShardId, epoch: Epoch) -> bool {
        let state = self.shards.get(&id).and_then(|s| s.state(self.now));
        state.is_some_and(|s| s.epoch > epoch)
    }

    pub(super) fn outcome(&mut self, sequence: u64, result: Result<u64, String>) {
        let Some(asked) = self.control.asked.remove(&sequence) else {
            return;
        };
        match (asked.asker, result) {
            (Asker::Register, Ok(_)) => {}
            (Asker::Create { target, name }, Ok(version)) => {
                self.created(target, name, version);
            }
            (Asker::Create { target, name }, Err(line)) => {
                // Asked twice, it may have been done the first time.
                let done = asked.tries > 1
                    && matches!(&asked.command, Command::CreateKeyspace(wanted)
                        if self.catalog.keyspace_named(name.as_str())
                            .is_some_and(|(_, found)| found.strategy == wanted.strategy));
                if done {
                    self.created(target, name, self.catalog.version);
                } else {
                    self.reply_error(&target, &format!("ERR {line}"));
                }
            }
            (Asker::Drop { target }, Ok(_)) => {
                self.deliver(
                    &target,
                    ShardId(0),
                    model::Position::ZERO,
                    Bytes::from_static(b"+OK\r\n"),
                );
            }
            (Asker::Drop { target }, Err(line)) => {
                self.reply_error(&target, &format!("ERR {line}"));
            }
            (Asker::Epoch(_) | Asker::Degraded(..) | Asker::Confirm(_) | Asker::Note, Ok(_)) => {}
            (Asker::Promotion(shard), result) => {
                self.plan_ended(shard, Some(result.map(|_| ())));
            }
            (Asker::Confirm(shard), Err(line)) => {
                tracing::info!(shard = shard.0, reason = %line, "a learner stays one");
            }
            (Asker::Note, Err(line)) => tracing::info!(reason = %line, "it was not written down"),
            (Asker::Degraded(shard, degraded), Err(line)) => {
                tracing::warn!(shard = shard.0, degraded, reason = %line, "the rule was not changed");
                // The strategy waits for it: as long as this is the primary it is asked again.
                let primary = self
                    .shards
                    .get(&shard)
                    .is_some_and(|s| s.is_primary(self.now));
                let facts = self.catalog.shards.get(&shard);
                if primary && facts.is_some_and(|f| f.degraded != degraded) {
                    self.ask_degraded(shard, degraded);
                }
            }
            (asker @ (Asker::Register | Asker::Epoch(_)), Err(line)) => {
                let again = self.now.monotonic + ASK_AGAIN;
                match asker {
                    Asker::Register => self.control.next_registration = again,
                    _ => self.control.next_offices = again,
                }
                tracing::warn!(?asker, reason = %line, "the control group refused");
            }
        }
    }

    pub(super) fn agreed(&mut self, request: RequestId, result: Result<u64, String>) {
        if request.node == self.config.id.number() && request.process == self.config.process {
            // What is answered may read the catalog.
            self.adopt(self.control.machine.clone());
            self.outcome(request.sequence, result);
        } else if let Some(node) = self.control.proposers.remove(&request) {
            self.send_catalog(&node, &self.control.machine.clone());
            let message = Message::Outcome {
                request: request.sequence,
                result,
            };
            self.send(&node, Lane::Ordinary, &message);
        }
    }

    /// What got no answer is asked again, or given up; if another leader is known by now than
    /// when it was sent, it is asked of that one without a wait.
    pub(super) fn ask_tick(&mut self) {
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
                asker: Asker::Promotion(shard),
                ..
            }) = self.control.asked.get(&sequence)
            {
                let shard = *shard;
                self.control.asked.remove(&sequence);
                self.plan_ended(shard, None);
            } else {
                let line = "the control group did not answer in time: most of its voters must be reachable; whether it was done is unknown".to_owned();
                self.outcome(sequence, Err(line));
            }
        }
    }
}
