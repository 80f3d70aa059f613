//! The catalog: the control group's voters among the nodes, everybody else who follows, and
//! what a node asks of the group.
//!
//! A voter applies the group's entries to its own catalog; every node adopts only greater
//! versions of committed states, from its own group or from any peer that has one. What a node
//! asks for is sent to the leader until an outcome comes or the time is up; asking twice is
//! harmless, since every command names what it expects to find.

use crate::{
    message::{ControlReport, Message},
    node::{CONTROL_ADMITTED, CONTROL_MUTED, Lane, Node, NodeConfig},
    request::{Target, borrow},
};
use bytes::Bytes;
use control::{
    command::{Command, Proposal, RequestId},
    machine, snapshot,
};
use model::{
    Catalog, Epoch, KeyspaceName, NodeId, ShardId,
    catalog::NodeInfo,
    planted::{self, Bug},
};
use replication::consensus::{GroupConfig, LogRecord, NotTaken, RaftGroup, Recovered, Work};
use std::{collections::BTreeMap, time::Duration};
use storage::{log::Lsn, store::Stores};

/// One tick of the group's clock. A leader's heartbeat takes two, an election 10 to 20: well
/// above a round trip between the farthest regions.
const TICK: Duration = Duration::from_millis(100);
/// How long until a question is asked again, of another voter.
const ASK_AGAIN: Duration = Duration::from_millis(700);
/// How often a voter's word on who leads is followed at once.
const HINTS_MAX: u32 = 4;
/// Reads for other nodes that may wait for a majority.
const READS_MAX: usize = 10_000;
/// How long a client waits for an outcome.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a SELECT of an unknown name waits for the newest catalog.
const REFRESH_MAX: Duration = Duration::from_millis(1500);
/// How many bytes of log the group's records may span before they are written anew.
const COMPACT_BYTES: u64 = 32 << 20;

/// Who waits for what was asked.
#[derive(Debug)]
pub(crate) enum Asker {
    /// This node introduces itself.
    Register,
    /// This node takes up the office of a shard's primary.
    Epoch(ShardId),
    /// A shard's rule is to be suspended, or put in force again.
    Degraded(ShardId, bool),
    /// Another primary is named for a shard.
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
struct Asked {
    command: Command,
    asker: Asker,
    since: Duration,
    sent_at: Duration,
    tries: u32,
    /// It must not be sent again: it holds only for the term in which it was made.
    once: bool,
}

/// A voter that said nothing for so long is not known to stand as it said.
const SAID_WITHIN: Duration = Duration::from_secs(1);
/// How long a voter on a new disk must have caught up before it votes, once the group exists.
const ADMIT_AFTER: Duration = Duration::from_secs(1);

/// How long a plan is waited for.
const PLAN_MAX: Duration = Duration::from_secs(3);

/// A SELECT that waits for the newest catalog.
#[derive(Debug)]
struct Refresh {
    conn: u64,
    args: Vec<Bytes>,
    since: Duration,
    sent_at: Duration,
    tries: u32,
}

pub(crate) struct Control {
    /// This node's member, if it is a voter.
    group: Option<RaftGroup>,
    /// The group's state machine, if it is.
    machine: Catalog,
    voters: Vec<NodeId>,
    /// Up to where the log must be durable before the group goes on.
    sync_at: Option<Lsn>,
    synced: bool,
    /// Where the group's records begin in the log.
    first_record: Option<Lsn>,
    asked: BTreeMap<u64, Asked>,
    sequence: u64,
    /// Proposals that came from other nodes: whom to answer.
    proposers: BTreeMap<RequestId, NodeId>,
    /// Reads of the catalog: for a client here, or for another node.
    refreshes: BTreeMap<u64, Refresh>,
    reads: BTreeMap<u64, (NodeId, u64)>,
    next_tick: Duration,
    /// When an office that was refused is asked for again, at the earliest.
    next_offices: Duration,
    registered: bool,
    leader_hint: Option<NodeId>,
    /// The highest term in which a node has said that it leads.
    leader_term: u64,
    /// What the other voters said of themselves last, and when.
    said: BTreeMap<NodeId, (Duration, ControlReport)>,
    /// The log has it that this voter is muted.
    mute_noted: bool,
    /// Since when this voter, which is muted, could be admitted.
    admissible_since: Option<Duration>,
}

impl Control {
    pub(crate) fn new(
        config: &NodeConfig,
        recovered: Recovered,
        muted: bool,
    ) -> Result<Self, String> {
        let voters = config.control_voters.clone();
        let mut group = None;
        if voters.contains(&config.id) {
            let config = GroupConfig {
                group: 0,
                id: config.id.number(),
                process: config.process,
                voters: voters.iter().map(NodeId::number).collect(),
                seed: config.seed,
                election_ticks: 10,
                heartbeat_ticks: 2,
            };
            let mut member = RaftGroup::new(config, recovered).map_err(|e| e.to_string())?;
            if muted {
                member.mute();
            }
            group = Some(member);
        }
        Ok(Control {
            group,
            machine: Catalog::default(),
            voters,
            sync_at: None,
            synced: false,
            first_record: None,
            asked: BTreeMap::new(),
            sequence: config.first_number(),
            proposers: BTreeMap::new(),
            refreshes: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_tick: Duration::ZERO,
            next_offices: Duration::ZERO,
            registered: false,
            leader_hint: None,
            leader_term: 0,
            said: BTreeMap::new(),
            mute_noted: false,
            admissible_since: None,
        })
    }

    /// The log is durable up to `durable`.
    pub(crate) fn durable(&mut self, durable: Lsn) {
        if self.sync_at.is_some_and(|at| at <= durable) {
            self.sync_at = None;
            self.synced = true;
        }
    }

    /// Where the group's records begin, if they are needed.
    pub(crate) fn log_needed_from(&self) -> Option<Lsn> {
        self.group.as_ref()?;
        Some(self.first_record.unwrap_or(Lsn(0)))
    }

    fn voter(&self, number: u64) -> Option<&NodeId> {
        self.voters.iter().find(|v| v.number() == number)
    }

    /// Who leads, as far as is known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match &self.group {
            Some(group) => group.leader().and_then(|n| self.voter(n)).cloned(),
            None => self.leader_hint.clone(),
        }
    }

    /// The voters.
    pub(crate) fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// `node` says that it leads.
    pub(crate) fn follow_leader(&mut self, node: &NodeId, term: u64) {
        if term >= self.leader_term {
            self.leader_term = term;
            self.leader_hint = Some(node.clone());
        }
    }

    /// For how long, at least, no majority had heard a leader when this node was elected.
    pub(crate) fn quiet_before_election(&self) -> Duration {
        let ticks = self
            .group
            .as_ref()
            .map_or(0, RaftGroup::quiet_before_election);
        TICK * ticks
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leads(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        group.is_leader().then(|| group.term())
    }

    /// The catalog as the group has agreed on it, at a voter.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.machine
    }

    /// How this voter stands, if it is one.
    pub(crate) fn own_report(&self) -> Option<ControlReport> {
        let group = self.group.as_ref()?;
        Some(ControlReport {
            term: group.term(),
            commit: group.commit_index(),
            muted: group.is_muted(),
        })
    }

    /// How another voter stands.
    pub(crate) fn voter_said(&mut self, node: &NodeId, now: Duration, report: ControlReport) {
        if !self.voters.contains(node) {
            return;
        }
        if let Some(group) = self
            .group
            .as_mut()
            .filter(|g| report.muted && g.commit_index() > 0)
            && report.commit == 0
        {
            group.forget_progress(node.number());
        }
        self.said.insert(node.clone(), (now, report));
    }

    /// Whether this voter, which is muted, may vote again. It may have forgotten a vote, or an
    /// entry that it acknowledged. Either the group was never founded: every voter says that it
    /// knows of nothing agreed. Or every other voter was heard of late, and this one has caught
    /// up with all of them: whoever was elected with its forgotten vote is among them, and its
    /// term was followed; whatever was agreed with its acknowledgement it holds again.
    fn is_admissible(&self, me: &NodeId, now: Duration) -> bool {
        let Some(group) = &self.group else {
            return false;
        };
        let lately = |node: &NodeId| {
            let (at, report) = self.said.get(node)?;
            (now.saturating_sub(*at) < SAID_WITHIN).then_some(report)
        };
        let others: Vec<_> = self
            .voters
            .iter()
            .filter(|v| *v != me)
            .map(lately)
            .collect();
        let Some(others) = others.into_iter().collect::<Option<Vec<_>>>() else {
            return false;
        };
        let founded = group.commit_index() > 0 || others.iter().any(|o| o.commit > 0);
        let level = |o: &&ControlReport| o.term <= group.term() && o.commit <= group.commit_index();
        !founded || (group.leader().is_some() && others.iter().all(level))
    }

    /// Begins a round to a majority, which ends in `Node::lease_round`.
    pub(crate) fn begin_round(&mut self) -> Option<u64> {
        self.sequence = self.sequence.wrapping_add(1);
        let round = self.sequence;
        let begun = self.group.as_mut()?.read_index(round);
        begun.is_ok().then_some(round)
    }

    /// Lets another voter lead, if it is up to date.
    pub(crate) fn hand_over(&mut self, to: &NodeId) {
        if let Some(group) = &mut self.group {
            group.transfer(to.number());
        }
    }

    /// Plans of an earlier term are not waited for.
    pub(crate) fn forget_plans(&mut self) {
        self.asked.retain(|_, asked| !asked.once);
    }

    /// Whom to ask next.
    fn whom(&self, tries: u32) -> Option<NodeId> {
        if tries == 0
            && let Some(leader) = self.leader()
        {
            return Some(leader);
        }
        self.voters.get(tries as usize % self.voters.len()).cloned()
    }

    /// Whether this node leads the group.
    pub(crate) fn is_leader(&self) -> bool {
        self.group.as_ref().is_some_and(RaftGroup::is_leader)
    }
}

impl<S: Stores> Node<S> {
    /// Asks the group for a change.
    pub(crate) fn ask(&mut self, command: Command, asker: Asker) {
        self.control.sequence = self.control.sequence.wrapping_add(1);
        let sequence = self.control.sequence;
        let now = self.now.monotonic;
        self.control.asked.insert(
            sequence,
            Asked {
                command,
                asker,
                since: now,
                sent_at: now,
                tries: 0,
                once: false,
            },
        );
        self.ask_again(sequence, None);
    }

    /// Proposes to this node's own group, which it leads, and to nobody else, once. Returns the
    /// request's number if it was taken.
    pub(crate) fn propose_once(&mut self, command: Command, asker: Asker) -> Option<u64> {
        self.control.sequence = self.control.sequence.wrapping_add(1);
        let sequence = self.control.sequence;
        let bytes = self.proposal(sequence, command.clone()).encode().ok()?;
        self.control.group.as_mut()?.propose(bytes.into()).ok()?;
        let now = self.now.monotonic;
        self.control.asked.insert(
            sequence,
            Asked {
                command,
                asker,
                since: now,
                sent_at: now,
                tries: 1,
                once: true,
            },
        );
        Some(sequence)
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
    fn ask_again(&mut self, sequence: u64, whom: Option<NodeId>) {
        let Some(asked) = self.control.asked.get_mut(&sequence) else {
            return;
        };
        let tries = asked.tries;
        asked.tries += 1;
        asked.sent_at = self.now.monotonic;
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

    /// Answers a SELECT once the newest catalog is known here.
    pub(crate) fn refresh_catalog(&mut self, conn: u64, args: Vec<Bytes>) {
        self.control.sequence = self.control.sequence.wrapping_add(1);
        let sequence = self.control.sequence;
        let now = self.now.monotonic;
        self.control.refreshes.insert(
            sequence,
            Refresh {
                conn,
                args,
                since: now,
                sent_at: now,
                tries: 0,
            },
        );
        self.refresh_again(sequence);
    }

    fn refresh_again(&mut self, request: u64) {
        let Some(refresh) = self.control.refreshes.get_mut(&request) else {
            return;
        };
        let tries = refresh.tries;
        refresh.tries += 1;
        refresh.sent_at = self.now.monotonic;
        if let Some(group) = &mut self.control.group {
            let _ = group.read_index(request);
        } else if let Some(to) = self.control.whom(tries) {
            self.send(&to, Lane::Ordinary, &Message::ReadCatalog { request });
        }
    }

    /// The catalog is the newest, or (`known` is false) nobody could be asked in time.
    fn refreshed(&mut self, request: u64, known: bool) {
        if let Some(refresh) = self.control.refreshes.remove(&request) {
            self.select_finally(refresh.conn, &borrow(&refresh.args), known);
        }
    }

    pub(crate) fn control_message(&mut self, from: &NodeId, message: Message) {
        match message {
            Message::Raft(message) => {
                if let Some(group) = &mut self.control.group {
                    group.receive(from.number(), message);
                }
            }
            Message::Propose { request, command } => self.proposed(from, request, command),
            Message::Outcome { request, result } => {
                self.control.leader_hint = Some(from.clone());
                self.outcome(request, result);
            }
            Message::NotLeader { request, leader } => {
                let leader = leader.and_then(|n| self.control.voter(n)).cloned();
                self.control.leader_hint.clone_from(&leader);
                let tries = self.control.asked.get(&request).map_or(0, |a| a.tries);
                if leader.is_some() && (1..HINTS_MAX).contains(&tries) {
                    self.ask_again(request, leader);
                }
            }
            Message::ReadCatalog { request } => {
                if let Some(group) = &mut self.control.group
                    && self.control.reads.len() < READS_MAX
                {
                    self.control.sequence = self.control.sequence.wrapping_add(1);
                    let own = self.control.sequence;
                    if group.read_index(own).is_ok() {
                        self.control.reads.insert(own, (from.clone(), request));
                    }
                }
            }
            Message::CatalogRead { request, version } if self.catalog.version >= version => {
                self.refreshed(request, true);
            }
            Message::Catalog { bytes } => match snapshot::decode(&bytes) {
                Ok(catalog) => self.adopt(catalog),
                Err(error) => tracing::error!(%from, %error, "a catalog was dropped"),
            },
            _ => {}
        }
    }

    fn proposed(&mut self, from: &NodeId, request: u64, command: Vec<u8>) {
        let Some(group) = &mut self.control.group else {
            let message = Message::NotLeader {
                request,
                leader: None,
            };
            return self.send(from, Lane::Ordinary, &message);
        };
        let Ok(proposal) = Proposal::decode(&command) else {
            return;
        };
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

    pub(crate) fn control_tick(&mut self) {
        let now = self.now.monotonic;
        while self.control.next_tick <= now {
            self.control.next_tick = (self.control.next_tick + TICK).max(now.saturating_sub(TICK));
            if let Some(group) = &mut self.control.group {
                group.tick();
            }
        }
        self.admit_voter();
        self.register();
        self.take_offices();
        let due: Vec<(u64, bool)> = self
            .control
            .asked
            .iter()
            .filter(|(_, a)| now.saturating_sub(a.sent_at) >= ASK_AGAIN)
            .filter_map(|(sequence, a)| {
                let most = if a.once { PLAN_MAX } else { ANSWER_MAX };
                let over = now.saturating_sub(a.since) >= most;
                (over || !a.once).then_some((*sequence, over))
            })
            .collect();
        for (sequence, over) in due {
            if over {
                let line = "the control group did not answer in time: most of its voters must be reachable; whether it was done is unknown".to_owned();
                self.outcome(sequence, Err(line));
            } else {
                self.ask_again(sequence, None);
            }
        }
        let due: Vec<(u64, bool)> = self
            .control
            .refreshes
            .iter()
            .filter(|(_, r)| now.saturating_sub(r.sent_at) >= ASK_AGAIN)
            .map(|(request, r)| (*request, now.saturating_sub(r.since) >= REFRESH_MAX))
            .collect();
        for (request, over) in due {
            if over {
                self.refreshed(request, false);
            } else {
                self.refresh_again(request);
            }
        }
    }

    /// A voter on a new disk votes only once that can do no harm.
    fn admit_voter(&mut self) {
        let now = self.now.monotonic;
        let Some(group) = self.control.group.as_ref().filter(|g| g.is_muted()) else {
            return;
        };
        let founded = group.commit_index() > 0;
        if !self.control.mute_noted {
            self.control.mute_noted = true;
            self.note_voter(CONTROL_MUTED);
        }
        if !self.control.is_admissible(&self.config.id, now) {
            self.control.admissible_since = None;
            return;
        }
        let since = *self.control.admissible_since.get_or_insert(now);
        if !founded || now.saturating_sub(since) >= ADMIT_AFTER {
            self.note_voter(CONTROL_ADMITTED);
            if let Some(group) = &mut self.control.group {
                group.admit();
            }
        }
    }

    fn note_voter(&mut self, kind: u8) {
        if let Err(error) = self.append_control_kind(kind, &[]) {
            self.stop(format!("the log takes nothing more: {error}"));
        }
    }

    fn register(&mut self) {
        let config = &self.config;
        let info = NodeInfo {
            region: config.region.clone(),
            zone: config.zone.clone(),
            client_addr: config.client_addr,
            peer_addr: config.peer_addr,
            http_addr: config.http_addr,
            disk: config.disk,
        };
        let asked = self
            .control
            .asked
            .values()
            .any(|a| matches!(a.asker, Asker::Register));
        if self.control.registered || asked {
            return;
        }
        if self.catalog.nodes.get(&config.id) == Some(&info) {
            self.control.registered = true;
            return;
        }
        let id = config.id.clone();
        self.ask(Command::RegisterNode { id, info }, Asker::Register);
    }

    /// Shards whose primary this node is, but not yet this process: every process takes a new
    /// epoch before it writes.
    fn take_offices(&mut self) {
        if self.now.monotonic < self.control.next_offices {
            return;
        }
        let catalog = self.catalog.clone();
        for (id, facts) in &catalog.shards {
            let mine = facts.primary == self.config.id;
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
            if mine && !in_office && ready && !asked {
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

    /// Carries out what the group asks for.
    pub(crate) fn control_settle(&mut self) {
        if std::mem::take(&mut self.control.synced)
            && let Some(group) = &mut self.control.group
        {
            group.synced();
        }
        let mut changed = false;
        while let Some(work) = self.control.group.as_mut().and_then(RaftGroup::ready) {
            changed |= self.control_work(work);
        }
        self.follow_leadership();
        if changed {
            self.adopt(self.control.machine.clone());
            self.take_offices();
            self.publish();
        }
    }

    /// Returns whether the catalog changed.
    fn control_work(&mut self, work: Work) -> bool {
        for record in &work.persist {
            let before = self.log.tip();
            match self.append_control(&record.encode()) {
                Ok(lsn) => {
                    if let LogRecord::Snapshot(_) = record {
                        self.control.first_record = Some(before);
                    }
                    if work.must_sync {
                        self.control.sync_at = Some(lsn);
                    }
                }
                Err(error) => self.stop(format!("the log takes nothing more: {error}")),
            }
        }
        if work.must_sync && work.persist.is_empty() {
            self.control.synced = true;
        }
        for (to, message) in work.send {
            if let Some(to) = self.control.voter(to).cloned() {
                self.send(&to, Lane::Ordinary, &Message::Raft(message));
            }
        }
        for (from, why) in work.refused {
            tracing::warn!(from, %why, "a control message was refused");
        }
        let mut changed = false;
        if let Some((_, bytes)) = work.snapshot {
            match snapshot::decode(&bytes) {
                Ok(catalog) => {
                    self.control.machine = catalog;
                    changed = true;
                }
                Err(error) => self.stop(error.to_string()),
            }
        }
        for entry in work.committed {
            changed = true;
            match machine::apply_entry(&mut self.control.machine, entry.index, &entry.data) {
                Ok(Some(applied)) => {
                    let version = self.control.machine.version;
                    let result = match applied.result {
                        Ok(_) => Ok(version),
                        Err(refusal) => Err(refusal.to_string()),
                    };
                    self.agreed(applied.request, result);
                }
                Ok(None) => {}
                Err(error) => self.stop(error.to_string()),
            }
        }
        for read in work.reads {
            let applied = self.control.machine.version >= read.index;
            if self.lease_round(read.request, applied) {
            } else if let Some((node, request)) = self.control.reads.remove(&read.request) {
                self.send_catalog(&node, &self.control.machine.clone());
                let version = self.control.machine.version;
                let message = Message::CatalogRead { request, version };
                self.send(&node, Lane::Ordinary, &message);
            } else if self.control.refreshes.contains_key(&read.request) {
                self.adopt(self.control.machine.clone());
                self.refreshed(read.request, true);
            }
        }
        changed
    }

    fn agreed(&mut self, request: RequestId, result: Result<u64, String>) {
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

    fn outcome(&mut self, sequence: u64, result: Result<u64, String>) {
        let Some(asked) = self.control.asked.remove(&sequence) else {
            return;
        };
        match (asked.asker, result) {
            (Asker::Register, Ok(_)) => self.control.registered = true,
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
            (
                Asker::Epoch(_)
                | Asker::Degraded(..)
                | Asker::Promotion(_)
                | Asker::Confirm(_)
                | Asker::Note,
                Ok(_),
            ) => {}
            (Asker::Promotion(shard), Err(line)) => self.plan_failed(shard, &line),
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
                self.control.next_offices = self.now.monotonic + ASK_AGAIN;
                tracing::warn!(?asker, reason = %line, "the control group refused");
            }
        }
    }

    /// The leader hands the newest catalog to those who are not voters; a voter has it from
    /// the group.
    fn publish(&mut self) {
        if !self.control.is_leader() {
            return;
        }
        for (node, _) in self.peers.addresses() {
            if !self.control.voters.contains(&node) {
                self.send_catalog(&node, &self.control.machine.clone());
            }
        }
    }

    pub(crate) fn send_catalog(&mut self, to: &NodeId, catalog: &Catalog) {
        match snapshot::encode(catalog) {
            Ok(bytes) => self.send(to, Lane::Ordinary, &Message::Catalog { bytes }),
            Err(error) => tracing::error!(%error, "the catalog could not be sent"),
        }
    }

    /// Writes the group's records anew when they span too much of the log.
    pub(crate) fn compact_control(&mut self) {
        let tip = self.log.tip();
        let from = self.control.first_record.unwrap_or(Lsn(0));
        // That it is muted stands in the log, and must not be forgotten.
        let (Some(group), Ok(bytes)) = (
            self.control.group.as_mut().filter(|g| !g.is_muted()),
            snapshot::encode(&self.control.machine),
        ) else {
            return;
        };
        if tip.0 - from.0 > COMPACT_BYTES && self.control.machine.version > 0 {
            // Not while a round is under way: then a second later.
            group.compact(self.control.machine.version, bytes.into());
        }
    }
}
