//! The catalog: the control group's voters among the nodes, everybody else who follows, and
//! what a node asks of the group.
//!
//! A voter applies the group's entries to its own catalog; every node adopts only greater
//! versions of committed states, from its own group or from any peer that has one. What a node
//! asks for is sent to the leader until an outcome comes or the time is up; asking twice is
//! harmless, since every command names what it expects to find.
//!
//! | module | holds |
//! |---|---|
//! | this one | this node's member of the group, and what it asks for; catalogs that come and go |
//! | `ask` | what nodes ask of the group |
//! | `admission` | a voter on a new disk |
//! | `refresh` | who reads the catalog at a majority |

mod admission;
mod ask;
mod refresh;

use crate::{
    cluster::{Cluster, Config},
    host::Host,
    message::{ControlReport, Message},
};
pub(crate) use ask::Asker;
use ask::{Asked, HINTS_MAX};
use control::{
    command::{Command, Frames, RequestId},
    machine, snapshot,
};
use model::{Boot, Catalog, DiskId, Lsn, NodeId, ShardId, release::Span};
use refresh::Refresh;
use replication::consensus::{GroupConfig, LogRecord, RaftGroup, Recovered, Work};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// One tick of the group's clock. A leader's heartbeat takes two, and 11 of silence, which is well
/// above a round trip between the farthest regions, make the first member campaign.
const TICK: Duration = Duration::from_millis(100);
/// Reads for other nodes that may wait for a majority.
const READS_MAX: usize = 10_000;

/// Kinds of records in the node's log: `replication::consensus::LogRecord`; …
pub(crate) const RECORD: u8 = 1;
/// … this voter's disk is new, and it is muted; …
pub(crate) const MUTED: u8 = 2;
/// … it was admitted; …
pub(crate) const ADMITTED: u8 = 3;
/// … the feature level that the disk is used at; …
pub(crate) const LEVEL: u8 = 4;
/// … a rehearsal of another.
pub(crate) const REHEARSAL: u8 = 5;

pub(crate) struct Control<A> {
    /// This node's member, if it is a voter.
    group: Option<RaftGroup>,
    /// The group's state machine, if it is.
    machine: Arc<Catalog>,
    voters: Vec<NodeId>,
    /// Up to where the log must be durable before the group goes on.
    sync_at: Option<Lsn>,
    synced: bool,
    /// Where the group's records begin in the log.
    first_record: Option<Lsn>,
    /// The same once the log is durable up to the second: a snapshot is on its way to the disk.
    next_first: Option<(Lsn, Lsn)>,
    asked: BTreeMap<u64, Asked<A>>,
    sequence: u64,
    /// Proposals that came from other nodes: whom to answer.
    proposers: BTreeMap<RequestId, NodeId>,
    /// Reads of the catalog: for a client here, or for another node.
    refreshes: BTreeMap<u64, Refresh<A>>,
    reads: BTreeMap<u64, (NodeId, u64)>,
    next_tick: Duration,
    /// When an office that was refused is asked for again, at the earliest.
    next_offices: Duration,
    /// The same of the registration.
    next_registration: Duration,
    /// Offices that were asked for and have no outcome yet.
    asked_offices: BTreeSet<ShardId>,
    /// Learners that are to become members, and those of them that were asked for.
    confirms: BTreeMap<(ShardId, NodeId), DiskId>,
    asked_confirms: BTreeSet<(ShardId, NodeId)>,
    /// Boots that this voter's part of the group's log names, whether it is agreed on or not.
    boots: BTreeMap<DiskId, Boot>,
    leader_hint: Option<NodeId>,
    /// The highest term in which a node has said that it leads.
    leader_term: u64,
    /// What the other voters said of themselves last, and when.
    said: BTreeMap<NodeId, (Duration, ControlReport)>,
    /// The log has it that this voter is muted.
    mute_noted: bool,
    /// Since when this voter, which is muted, could be admitted.
    admissible_since: Option<Duration>,
    /// Its disk took the place of one that was set aside.
    emptied: bool,
}

impl<A> Control<A> {
    pub(crate) fn new(config: &Config, recovered: Recovered, muted: bool) -> Result<Self, String> {
        let voters = config.control_voters.clone();
        let mut group = None;
        let boots = boots_named(&recovered, config.release.levels);
        if voters.contains(&config.id) {
            let config = GroupConfig {
                group: 0,
                id: config.id.number(),
                process: config.process,
                voters: voters.iter().map(NodeId::number).collect(),
                election_ticks: 10,
                turn_ticks: 2,
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
            machine: Arc::default(),
            voters,
            sync_at: None,
            synced: false,
            first_record: None,
            next_first: None,
            asked: BTreeMap::new(),
            sequence: config.first_number,
            proposers: BTreeMap::new(),
            refreshes: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_tick: Duration::ZERO,
            next_offices: Duration::ZERO,
            next_registration: Duration::ZERO,
            asked_offices: BTreeSet::new(),
            confirms: BTreeMap::new(),
            asked_confirms: BTreeSet::new(),
            boots,
            leader_hint: None,
            leader_term: 0,
            said: BTreeMap::new(),
            mute_noted: false,
            admissible_since: None,
            emptied: config.emptied,
        })
    }

    /// The log is durable up to `durable`.
    pub(crate) fn durable(&mut self, durable: Lsn) {
        if self.sync_at.is_some_and(|at| at <= durable) {
            self.sync_at = None;
            self.synced = true;
        }
        if let Some((first, end)) = self.next_first
            && end <= durable
        {
            self.next_first = None;
            self.first_record = Some(first);
        }
    }

    /// Where the group's records begin, if they are needed.
    pub(crate) fn log_needed_from(&self) -> Option<Lsn> {
        self.group.as_ref()?;
        Some(self.first_record.unwrap_or(Lsn(0)))
    }

    /// The latest boot of a disk that this voter's log had when it was opened.
    pub(crate) fn boot_of(&self, disk: &DiskId) -> Option<Boot> {
        self.boots.get(disk).copied()
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

    /// A number for what is asked next.
    fn next_sequence(&mut self) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Begins a round to a majority, which ends in `Cluster::lease_round`.
    pub(crate) fn begin_round(&mut self) -> Option<u64> {
        let round = self.next_sequence();
        let begun = self.group.as_mut()?.read_index(round);
        begun.is_ok().then_some(round)
    }

    /// Lets another voter lead, if it is up to date.
    pub(crate) fn hand_over(&mut self, to: &NodeId) {
        if let Some(group) = &mut self.group {
            group.transfer(to.number());
        }
    }

    /// Whether this node leads the group.
    pub(crate) fn is_leader(&self) -> bool {
        self.group.as_ref().is_some_and(RaftGroup::is_leader)
    }
}

/// The latest boot of each disk that a voter's log names: what was not yet known to be agreed on
/// when it ended is told apart from what is only after a leader was found.
fn boots_named(recovered: &Recovered, levels: Span) -> BTreeMap<DiskId, Boot> {
    let mut boots = BTreeMap::new();
    if let Ok(catalog) = snapshot::decode(recovered.snapshot()) {
        boots.extend(catalog.disks.into_iter().map(|(disk, d)| (disk, d.boot)));
    }
    for data in recovered.entries() {
        if let Ok(proposal) = Frames::decode(data) {
            for frame in proposal.frames {
                let Ok(Command::RegisterNode { info, .. }) = frame.read(levels) else {
                    continue;
                };
                let boot = info.boot;
                let known = boots.entry(boot.disk).or_insert(boot);
                if !boot.is_stale_beside(known) {
                    *known = boot;
                }
            }
        }
    }
    boots
}

impl<A> Cluster<A> {
    pub(crate) fn control_message(
        &mut self,
        from: &NodeId,
        message: Message,
        host: &mut impl Host,
    ) {
        match message {
            Message::Raft(message) => {
                if let Some(group) = &mut self.control.group {
                    group.receive(from.number(), message);
                }
            }
            Message::Propose { request, command } => self.proposed(from, request, command),
            Message::Outcome { request, result } => {
                self.control.leader_hint = Some(from.clone());
                self.outcome(request, result, host);
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
                let own = self.control.next_sequence();
                if let Some(group) = &mut self.control.group
                    && self.control.reads.len() < READS_MAX
                    && group.read_index(own).is_ok()
                {
                    self.control.reads.insert(own, (from.clone(), request));
                }
            }
            Message::CatalogRead { request, version } if self.catalog.version >= version => {
                self.refreshed(request, true);
            }
            Message::Catalog { bytes } => match snapshot::decode(&bytes) {
                Ok(catalog) => self.adopt(catalog, host),
                // It is written so only at a level that this release does not know.
                Err(error) if error.is_newer() => self.stop(error.to_string()),
                Err(error) => tracing::error!(%from, %error, "a catalog was dropped"),
            },
            _ => {}
        }
    }

    pub(crate) fn control_tick(&mut self, host: &mut impl Host) {
        let now = self.now.monotonic;
        while self.control.next_tick <= now {
            self.control.next_tick = (self.control.next_tick + TICK).max(now.saturating_sub(TICK));
            if let Some(group) = &mut self.control.group {
                group.tick();
            }
        }
        self.admit_voter(host);
        self.register();
        self.take_offices(host);
        self.confirm_members();
        self.ask_tick(host);
        self.refresh_tick();
    }

    /// Carries out what the group asks for.
    pub fn settle(&mut self, host: &mut impl Host) {
        if std::mem::take(&mut self.control.synced)
            && let Some(group) = &mut self.control.group
        {
            group.synced();
        }
        let mut changed = false;
        while let Some(work) = self.control.group.as_mut().and_then(RaftGroup::ready) {
            changed |= self.control_work(work, host);
        }
        self.follow_leadership();
        if changed {
            self.adopt(self.control.machine.clone(), host);
            self.take_offices(host);
            self.publish();
        }
    }

    /// Returns whether the catalog changed.
    fn control_work(&mut self, work: Work, host: &mut impl Host) -> bool {
        for record in &work.persist {
            let before = host.log_end();
            match host.append(RECORD, &record.encode()) {
                Ok(lsn) => {
                    if let LogRecord::Snapshot(_) = record {
                        self.control.next_first = Some((before, lsn));
                    }
                    if work.must_sync {
                        self.control.sync_at = Some(lsn);
                    }
                }
                Err(error) => self.stop(error),
            }
        }
        if work.must_sync && work.persist.is_empty() {
            self.control.synced = true;
        }
        for (to, message) in work.send {
            if let Some(to) = self.control.voter(to).cloned() {
                self.send(&to, Message::Raft(message));
            }
        }
        for (from, why) in work.refused {
            tracing::warn!(from, %why, "a control message was refused");
        }
        let mut changed = false;
        if let Some((_, bytes)) = work.snapshot {
            match snapshot::decode(&bytes) {
                Ok(catalog) if self.knows_level(catalog.level) => {
                    self.control.machine = Arc::new(catalog);
                    changed = true;
                }
                Ok(_) => return false,
                Err(error) => self.stop(error.to_string()),
            }
        }
        for entry in work.committed {
            changed = true;
            let machine = Arc::make_mut(&mut self.control.machine);
            let levels = self.config.release.levels;
            match machine::apply_entry(machine, entry.index, &entry.data, levels) {
                Ok(Some(applied)) => {
                    let version = self.control.machine.version;
                    let result = match applied.refused() {
                        None => Ok(version),
                        Some(refusal) => Err(refusal.to_string()),
                    };
                    self.agreed(applied.request, result, host);
                }
                Ok(None) => {}
                Err(error) => {
                    // The catalog may be changed in part: nobody must see it.
                    self.stop(error.to_string());
                    return false;
                }
            }
        }
        for read in work.reads {
            let applied = self.control.machine.version >= read.index;
            if self.lease_round(read.request, applied) {
            } else if let Some((node, request)) = self.control.reads.remove(&read.request) {
                self.send_catalog(&node, &self.control.machine.clone());
                let version = self.control.machine.version;
                let message = Message::CatalogRead { request, version };
                self.send(&node, message);
            } else if self.control.refreshes.contains_key(&read.request) {
                self.adopt(self.control.machine.clone(), host);
                self.refreshed(read.request, true);
            }
        }
        changed
    }

    /// The leader hands the newest catalog to those who are not voters; a voter has it from
    /// the group.
    fn publish(&mut self) {
        if !self.control.is_leader() {
            return;
        }
        for node in self.peers.ids() {
            if !self.control.voters.contains(&node) {
                self.send_catalog(&node, &self.control.machine.clone());
            }
        }
    }

    pub(crate) fn send_catalog(&mut self, to: &NodeId, catalog: &Catalog) {
        match snapshot::encode(catalog) {
            Ok(bytes) => self.send(to, Message::Catalog { bytes }),
            Err(error) => tracing::error!(%error, "the catalog could not be sent"),
        }
    }

    /// Writes the group's records anew once they span too much of the log, or begin in a part of it
    /// that is given up, so that it can give up its beginning.
    pub fn compact(&mut self, given_up: Option<Lsn>, host: &impl Host) {
        let tip = host.log_end();
        let from = self.control.first_record.unwrap_or(Lsn(0));
        let is_long = tip.0 - from.0 > self.config.control_log_bytes;
        if !(is_long || Some(from) < given_up) || self.control.machine.version == 0 {
            return;
        }
        // That it is muted stands in the log, and must not be forgotten.
        if let Some(group) = self.control.group.as_mut().filter(|g| !g.is_muted())
            && let Ok(bytes) = snapshot::encode(&self.control.machine)
        {
            // Not while a round is under way: then a second later.
            group.compact(self.control.machine.version, bytes.into());
        }
    }
}
