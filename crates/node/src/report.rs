//! How nodes and replicas stand, as told several times a second to everybody. It is the
//! heartbeat between nodes, and what `QUIRE STATUS` answers from.
//!
//! Over a new link, and to who lacks one, a report tells of all replicas, else of those that
//! something happened to since the report before: what nothing happens to costs nothing. A lag
//! that grows is no news: whoever heard of it counts on.

use crate::{
    hand_over::Why,
    message::{CopyProgress, Message, ReplicaReport, Report, ReportedRole},
    node::{Lane, Node, NodeConfig},
    shard::Shard,
    whereabouts::Whereabouts,
};
use control::detector::Detector;
use model::{Address, Boot, Catalog, DiskId, NodeId, Position, Region, ShardId};
use replication::strategy::Role;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::store::Stores;

/// How often a node tells how it stands.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// A node that was not heard for this long is taken for dead: nothing is sent there, and what
/// is away there is given up. Well above what a busy machine delays a report by, and below the
/// second within which a client is promised an answer.
pub(crate) const SILENT: Duration = Duration::from_millis(850);
/// Within this time a node tells that it hears another.
const HEARS_WITHIN: Duration = Duration::from_millis(650);
/// A replica is fresh enough to be shown as caught up within this lag.
const CAUGHT_UP_LAG: Duration = Duration::from_secs(5);
/// How often a peer that lags is given the catalog, at most.
const CATALOG_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Peer {
    whereabouts: Whereabouts,
    region: Region,
    connected: bool,
    was_connected: bool,
    heard_at: Option<Duration>,
    /// The boot that made the link to us.
    boot: Option<Boot>,
    /// Bytes of its log that were durable, as it said last.
    log: u64,
    /// It has made a new link to us, over which nothing came yet.
    remade: bool,
    /// Without its replicas, which are kept apart.
    report: Option<Report>,
    /// How its replicas stand, and when it said so.
    replicas: BTreeMap<ShardId, (ReplicaReport, Duration)>,
    /// A report of its is lacking: how its replicas stand may be old.
    lacks_report: bool,
    /// It lacks a report of ours.
    wants_full: bool,
    /// When that came.
    reported_at: Duration,
    /// The shards whose replicas there have stopped, by that report.
    stopped: BTreeSet<ShardId>,
    /// The copies that it takes, as it said last.
    copying: Vec<CopyProgress>,
    catalog_sent_at: Option<Duration>,
    /// Whether it is silent for longer than it should be.
    detector: Detector,
}

/// The other nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    me: NodeId,
    known: BTreeMap<NodeId, Peer>,
    next_report: Duration,
    /// The number of the last report.
    number: u64,
    /// Shards that something happened to since.
    changed: BTreeSet<ShardId>,
    /// Whether this node had a lease then.
    was_leased: bool,
}

impl Peers {
    pub(crate) fn new(config: &NodeConfig, now: Duration) -> Self {
        let mut peers = Peers {
            me: config.id.clone(),
            known: BTreeMap::new(),
            next_report: Duration::ZERO,
            number: 0,
            changed: BTreeSet::new(),
            was_leased: false,
        };
        for peer in &config.peers {
            let whereabouts = Whereabouts::configured(&peer.peer_addr);
            peers.learn(&peer.id, &peer.region, whereabouts, now);
        }
        peers
    }

    /// Another node than this one, which was not known.
    fn learn(&mut self, id: &NodeId, region: &Region, whereabouts: Whereabouts, now: Duration) {
        if *id == self.me {
            return;
        }
        self.known.insert(
            id.clone(),
            Peer {
                whereabouts,
                region: region.clone(),
                connected: false,
                was_connected: false,
                heard_at: None,
                boot: None,
                log: 0,
                remade: false,
                report: None,
                replicas: BTreeMap::new(),
                lacks_report: false,
                wants_full: false,
                reported_at: Duration::ZERO,
                stopped: BTreeSet::new(),
                copying: Vec::new(),
                catalog_sent_at: None,
                detector: Detector::new(now),
            },
        );
    }

    /// Takes over the nodes of the catalog. Returns whether there is news.
    pub(crate) fn follow(&mut self, catalog: &Catalog, now: Duration) -> bool {
        let mut news = false;
        for (id, info) in &catalog.nodes {
            match self.known.get_mut(id) {
                Some(peer) => {
                    peer.region.clone_from(&info.region);
                    news |= peer.whereabouts.follow(&info.peer_addr);
                }
                None => {
                    let whereabouts = Whereabouts::agreed(&info.peer_addr);
                    self.learn(id, &info.region, whereabouts, now);
                    news |= *id != self.me;
                }
            }
        }
        news
    }

    /// Where each node is reached, the likeliest first.
    pub(crate) fn addresses(&self) -> Vec<(NodeId, Vec<Address>)> {
        self.known
            .iter()
            .map(|(id, p)| (id.clone(), p.whereabouts.addresses().to_vec()))
            .collect()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.known.keys().cloned().collect()
    }

    pub(crate) fn region(&self, id: &NodeId) -> Option<&Region> {
        self.known.get(id).map(|p| &p.region)
    }

    /// Whether there is a link to it.
    pub(crate) fn is_connected(&self, id: &NodeId) -> bool {
        self.known.get(id).is_some_and(|p| p.connected)
    }

    /// Whether the link to it broke.
    pub(crate) fn is_cut_off(&self, id: &NodeId) -> bool {
        (self.known.get(id)).is_some_and(|p| !p.connected && p.was_connected)
    }

    /// The nodes that there is a link to.
    pub(crate) fn connected_nodes(&self) -> Vec<NodeId> {
        self.known
            .iter()
            .filter(|(_, p)| p.connected)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Every node known and its region, this one not included.
    pub(crate) fn regions(&self) -> impl Iterator<Item = (&NodeId, &Region)> {
        self.known.iter().map(|(id, p)| (id, &p.region))
    }

    pub(crate) fn connected(&mut self, id: &NodeId) {
        if let Some(peer) = self.known.get_mut(id) {
            peer.connected = true;
            peer.was_connected = true;
        }
    }

    pub(crate) fn disconnected(&mut self, id: &NodeId) {
        if let Some(peer) = self.known.get_mut(id) {
            peer.connected = false;
        }
    }

    /// Something came from there. True if it is the first over a new link.
    pub(crate) fn heard(&mut self, id: &NodeId, now: Duration) -> bool {
        self.known.get_mut(id).is_some_and(|peer| {
            peer.heard_at = Some(now);
            peer.detector.heard(now);
            std::mem::take(&mut peer.remade)
        })
    }

    /// This node itself did nothing for so long: nobody was silent meanwhile.
    pub(crate) fn absent(&mut self, pause: Duration) {
        for peer in self.known.values_mut() {
            peer.detector.absent(pause);
        }
    }

    /// Who is silent for longer than is ordinary, and for how long.
    pub(crate) fn silent(&self, now: Duration) -> BTreeMap<NodeId, Duration> {
        let silent = self
            .known
            .iter()
            .filter(|(_, p)| p.detector.is_suspected(now));
        silent
            .map(|(id, p)| (id.clone(), p.detector.silence(now)))
            .collect()
    }

    /// Whether the replica of `shard` on `id` has stopped, as that said last.
    pub(crate) fn has_stopped(&self, id: &NodeId, shard: ShardId) -> bool {
        self.known
            .get(id)
            .is_some_and(|p| p.stopped.contains(&shard))
    }

    /// Whose disk does not answer, as they said last, and for how long it had not then.
    pub(crate) fn stalled(&self) -> BTreeMap<NodeId, Duration> {
        let stalled = self.known.iter().filter_map(|(id, peer)| {
            let ms = peer.report.as_ref()?.stalled_ms?;
            Some((id.clone(), Duration::from_millis(ms)))
        });
        stalled.collect()
    }

    /// Whether the disk of `id` does not answer.
    pub(crate) fn is_stalled(&self, id: &NodeId) -> bool {
        let report = self.report(id);
        report.is_some_and(|report| report.stalled_ms.is_some())
    }

    /// Who gives away its offices.
    pub(crate) fn handing_over(&self) -> BTreeSet<NodeId> {
        let nodes = self.known.keys().filter(|id| self.hands_over(id));
        nodes.cloned().collect()
    }

    /// Whether `id` gives away its offices.
    pub(crate) fn hands_over(&self, id: &NodeId) -> bool {
        self.report(id)
            .is_some_and(|report| report.hands_over.is_some())
    }

    /// Whether `id` is about to end.
    fn is_ending(&self, id: &NodeId) -> bool {
        let report = self.report(id);
        report.is_some_and(|report| report.hands_over == Some(Why::Ends))
    }

    /// The catalog's version at everybody who is up, and stays.
    pub(crate) fn catalogs_of_who_stays(&self, now: Duration) -> impl Iterator<Item = u64> {
        let stays = move |id: &&NodeId| self.is_up(id, now) && !self.is_ending(id);
        let ids = self.known.keys().filter(stays);
        ids.filter_map(|id| Some(self.report(id)?.catalog_version))
    }

    /// The shards of which a replica has, anywhere.
    pub(crate) fn stopped_shards(&self) -> impl Iterator<Item = &ShardId> {
        self.known.values().flat_map(|p| &p.stopped)
    }

    /// Whether any replica has.
    pub(crate) fn any_stopped(&self) -> bool {
        self.known.values().any(|p| !p.stopped.is_empty())
    }

    /// Whether it was ever heard by this process.
    pub(crate) fn was_heard(&self, id: &NodeId) -> bool {
        self.known.get(id).is_some_and(|p| p.heard_at.is_some())
    }

    /// Every node that has reported, and whether it wants a lease and has none.
    pub(crate) fn unleased(&self) -> Vec<(NodeId, bool)> {
        let reports = (self.known.iter()).filter_map(|(id, p)| Some((id, p.report.as_ref()?)));
        reports.map(|(id, r)| (id.clone(), r.unleased)).collect()
    }

    /// In this boot it has made a link to us.
    pub(crate) fn linked(&mut self, id: &NodeId, boot: Boot) {
        if let Some(peer) = self.known.get_mut(id) {
            let same = peer.boot.is_some_and(|before| before.disk == boot.disk);
            peer.log = if same {
                peer.log.max(boot.log)
            } else {
                boot.log
            };
            peer.boot = Some(boot);
        }
    }

    /// The boot that made the last link to us.
    pub(crate) fn boot(&self, id: &NodeId) -> Option<Boot> {
        self.known.get(id)?.boot
    }

    /// The last boot on that disk that made a link to us, with what it said since of its log.
    pub(crate) fn latest_of_disk(&self, id: &NodeId, disk: &DiskId) -> Option<Boot> {
        let peer = self.known.get(id)?;
        let boot = peer.boot.filter(|boot| boot.disk == *disk)?;
        Some(Boot {
            log: peer.log,
            ..boot
        })
    }

    /// How long nothing has come from there; None: nothing ever did.
    pub(crate) fn silence(&self, id: &NodeId, now: Duration) -> Option<Duration> {
        let heard_at = self.known.get(id)?.heard_at?;
        Some(now.saturating_sub(heard_at))
    }

    /// Whether something came from there within this time.
    pub(crate) fn was_heard_within(&self, id: &NodeId, now: Duration, time: Duration) -> bool {
        let heard_at = self.known.get(id).and_then(|p| p.heard_at);
        heard_at.is_some_and(|at| now.saturating_sub(at) < time)
    }

    /// It has made a new link to us.
    pub(crate) fn remade(&mut self, id: &NodeId) {
        if let Some(peer) = self.known.get_mut(id) {
            peer.remade = true;
        }
    }

    /// Whether a message is likely to arrive there, and its answer here.
    pub(crate) fn is_up(&self, id: &NodeId, now: Duration) -> bool {
        self.known.get(id).is_some_and(|p| {
            p.connected
                && p.heard_at.is_some_and(|at| now.saturating_sub(at) < SILENT)
                && p.report
                    .as_ref()
                    .is_some_and(|r| r.hears.contains(&self.me))
        })
    }

    fn heard_lately(&self, now: Duration) -> Vec<NodeId> {
        self.known
            .iter()
            .filter(|(_, p)| {
                p.heard_at
                    .is_some_and(|at| now.saturating_sub(at) < HEARS_WITHIN)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// It takes these copies.
    pub(crate) fn copying(&mut self, id: &NodeId, copies: Vec<CopyProgress>) {
        if let Some(peer) = self.known.get_mut(id) {
            peer.copying = copies;
        }
    }

    fn report(&self, id: &NodeId) -> Option<&Report> {
        self.known.get(id)?.report.as_ref()
    }

    /// How its replica of a shard stood when it reported last, and how old what that showed was.
    fn replica(&self, id: &NodeId, shard: ShardId) -> Option<(&ReplicaReport, Option<u64>)> {
        let peer = self.known.get(id)?;
        let (replica, told_at) = peer.replicas.get(&shard)?;
        let lags = peer.report.as_ref().map(|report| &report.rest_lags_ms);
        if let (Some(with), Some(lags)) = (&replica.rests_with, lags)
            && let Some((_, lag)) = lags.iter().find(|(node, _)| node == with)
        {
            return Some((replica, Some(*lag)));
        }
        let since = match replica.role {
            ReportedRole::Primary | ReportedRole::Starting => 0,
            _ => peer.reported_at.saturating_sub(*told_at).as_millis() as u64,
        };
        let lag_ms = replica.lag_ms.map(|lag| lag.saturating_add(since));
        Some((replica, lag_ms))
    }

    /// A shard may stand otherwise than it was reported.
    pub(crate) fn changed(&mut self, shard: ShardId) {
        self.changed.insert(shard);
    }

    /// Whose reports are lacking.
    fn lacking(&self) -> Vec<NodeId> {
        let lacking = self.known.iter().filter(|(_, p)| p.lacks_report);
        lacking.map(|(id, _)| id.clone()).collect()
    }
}

impl Peer {
    /// Takes in how its replicas stand.
    fn take_replicas(&mut self, report: &mut Report, now: Duration) {
        let follows = |before: &Report| report.number == before.number + 1;
        if report.is_full {
            self.replicas.clear();
            self.stopped.clear();
            self.lacks_report = false;
        } else if self.lacks_report || !self.report.as_ref().is_some_and(follows) {
            self.lacks_report = true;
        }
        // What stands in a report is so even if one before it is lacking.
        for id in report.gone.drain(..) {
            self.replicas.remove(&id);
            self.stopped.remove(&id);
        }
        for replica in report.replicas.drain(..) {
            let id = replica.shard;
            if replica.stopped {
                self.stopped.insert(id);
            } else {
                self.stopped.remove(&id);
            }
            self.replicas.insert(id, (replica, now));
        }
        // What is no learner any more has been filled.
        let replicas = &self.replicas;
        self.copying.retain(|copy| {
            let replica = replicas.get(&copy.shard);
            replica.is_some_and(|(r, _)| r.role == ReportedRole::Learner)
        });
    }
}

impl<S: Stores> Node<S> {
    fn own_replica(&self, shard: &Shard<S::Rows>) -> ReplicaReport {
        let leased = self.lease.holds(self.now.monotonic);
        let state = self.shard_state(shard);
        let rests_with = state.as_ref().and_then(|s| shard.rests_with(s)).cloned();
        let lag = state
            .as_ref()
            .and_then(|s| s.fresh_at)
            .map(|at| self.now.monotonic.saturating_sub(at));
        let role = match state.as_ref().map(|s| s.role) {
            _ if !shard.store.is_serving() => ReportedRole::Learner,
            Some(Role::Primary) if leased => ReportedRole::Primary,
            Some(Role::Primary) => ReportedRole::Starting,
            Some(Role::Starting) => ReportedRole::Starting,
            Some(Role::Learner) => ReportedRole::Learner,
            Some(Role::Replica) | None => ReportedRole::Replica,
        };
        ReplicaReport {
            shard: shard.id,
            role,
            epoch: state.map_or(0, |s| s.epoch.0),
            position: shard.applied(),
            lag_ms: lag.map(|l| l.as_millis() as u64),
            stopped: shard.stopped.is_some(),
            rests_with,
        }
    }

    /// How this node stands, and all replicas, or those of `shards`.
    fn own_report(&self, shards: Option<&BTreeSet<ShardId>>) -> Report {
        let (mut replicas, mut gone) = (Vec::new(), Vec::new());
        match shards {
            None => replicas.extend(self.shards.values().map(|shard| self.own_replica(shard))),
            Some(shards) => {
                for id in shards {
                    match self.shards.get(id) {
                        Some(shard) => replicas.push(self.own_replica(shard)),
                        None => gone.push(*id),
                    }
                }
            }
        }
        Report {
            pid: self.config.pid,
            nonce: self.boot.nonce,
            catalog_version: self.catalog.version,
            hears: self.peers.heard_lately(self.now.monotonic),
            leads: self.control.leads(),
            unleased: self.is_any_primary() && !self.lease.holds(self.now.monotonic),
            log: self.log.durable().0,
            control: self.control.own_report(),
            ready: self.catalog.nodes.contains_key(&self.config.id),
            number: self.peers.number,
            is_full: shards.is_none(),
            replicas,
            gone,
            rest_lags_ms: self.pulses.lags_ms(self.now.monotonic),
            lacks: self.peers.lacking(),
            stalled_ms: (self.disk_watch.stalled_for(self.now.monotonic))
                .map(|time| time.as_millis() as u64),
            hands_over: self.hands_over(),
        }
    }

    pub(crate) fn tell_report(&mut self, to: &NodeId) {
        let report = self.own_report(None);
        self.send(to, Lane::Control, &Message::Report(report));
    }

    /// Something that others wait for has changed.
    pub(crate) fn report_soon(&mut self) {
        self.peers.next_report = Duration::ZERO;
    }

    pub(crate) fn report_tick(&mut self) {
        let now = self.now.monotonic;
        if now < self.peers.next_report {
            return;
        }
        self.peers.next_report = now + REPORT_EVERY;
        self.peers.number += 1;
        let changed = std::mem::take(&mut self.peers.changed);
        let leased = self.lease.holds(now);
        // With the lease all primaries here change what they are.
        let same = std::mem::replace(&mut self.peers.was_leased, leased) == leased;
        let report = Message::Report(self.own_report(Some(&changed).filter(|_| same)));
        let mut full = None;
        let copying = self.copies.progress(now);
        let copying = (!copying.is_empty()).then_some(Message::CopyProgress(copying));
        for to in self.peers.ids() {
            let peer = self.peers.known.get_mut(&to);
            if peer.is_some_and(|peer| std::mem::take(&mut peer.wants_full)) && same {
                if full.is_none() {
                    full = Some(Message::Report(self.own_report(None)));
                }
                if let Some(full) = &full {
                    self.send(&to, Lane::Control, full);
                }
            } else {
                self.send(&to, Lane::Control, &report);
            }
            if let Some(copying) = &copying {
                self.send(&to, Lane::Control, copying);
            }
        }
    }

    pub(crate) fn reported(&mut self, from: &NodeId, mut report: Report) {
        let now = self.now.monotonic;
        if (self.peers.boot(from)).is_some_and(|boot| boot.nonce != report.nonce) {
            return;
        }
        if let Some(control) = report.control {
            self.control.voter_said(from, now, control);
        }
        if let Some(term) = report.leads {
            self.control.follow_leader(from, term);
        }
        let Some(peer) = self.peers.known.get_mut(from) else {
            return;
        };
        let lags = report.catalog_version < self.catalog.version
            && peer
                .catalog_sent_at
                .is_none_or(|at| now.saturating_sub(at) >= CATALOG_EVERY);
        if lags {
            peer.catalog_sent_at = Some(now);
        }
        peer.wants_full |= report.lacks.contains(&self.config.id);
        peer.take_replicas(&mut report, now);
        peer.log = peer.log.max(report.log);
        peer.report = Some(report);
        peer.reported_at = now;
        if lags {
            self.send_catalog(from, &self.catalog.clone());
        }
    }

    /// Whether `id` says that its catalog is at least at `version`.
    pub(crate) fn follows(&self, id: &NodeId, version: u64) -> bool {
        self.peers
            .report(id)
            .is_some_and(|r| r.catalog_version >= version)
    }

    /// Whether the primary of `shard` says that it takes writes.
    pub(crate) fn is_writable(&self, shard: ShardId) -> bool {
        let Some(facts) = self.catalog.shards.get(&shard) else {
            return false;
        };
        if facts.primary == self.config.id {
            return self.may_act(shard);
        }
        (self.peers.replica(&facts.primary, shard))
            .is_some_and(|(r, _)| r.role == ReportedRole::Primary)
    }

    /// Whether the replica on `node` is too far behind to be read if another is not, and how old
    /// what it shows is, as it said last; None if it is not to be read: silent, stopped, on a disk
    /// that hangs, or being filled.
    pub(crate) fn readable_lag(&self, node: &NodeId, shard: ShardId) -> Option<(bool, Duration)> {
        if !self.peers.is_up(node, self.now.monotonic) {
            return None;
        }
        let (report, lag_ms) = self.peers.replica(node, shard)?;
        let lag = match report.role {
            _ if report.stopped || self.peers.is_stalled(node) => None,
            ReportedRole::Primary => Some(Duration::ZERO),
            ReportedRole::Replica => lag_ms.map(Duration::from_millis),
            ReportedRole::Starting | ReportedRole::Learner => None,
        };
        lag.map(|lag| (lag >= CAUGHT_UP_LAG, lag))
    }

    pub(crate) fn replica_report(&self, node: &NodeId, shard: ShardId) -> Option<ReplicaReport> {
        if *node == self.config.id {
            return self.shards.get(&shard).map(|shard| self.own_replica(shard));
        }
        let (report, lag_ms) = self.peers.replica(node, shard)?;
        Some(ReplicaReport {
            lag_ms,
            ..report.clone()
        })
    }

    /// How far the copy is that fills `shard` on `node`, if one does.
    fn copy_progress(&self, node: &NodeId, shard: ShardId) -> Option<Value> {
        let copies = if *node == self.config.id {
            self.copies.progress(self.now.monotonic)
        } else {
            self.peers.known.get(node)?.copying.clone()
        };
        let copy = copies.into_iter().find(|copy| copy.shard == shard)?;
        Some(json!({
            "from": copy.source.as_str(),
            "keys": copy.keys,
            "keys_total": copy.keys_total,
            "bytes": copy.bytes,
            "elapsed_ms": copy.elapsed_ms,
        }))
    }

    /// What `QUIRE STATUS` answers.
    pub(crate) fn status(&self) -> Value {
        let now = self.now.monotonic;
        let nodes: Vec<Value> = self
            .catalog
            .nodes
            .iter()
            .map(|(id, info)| {
                let own = *id == self.config.id;
                let up = own || self.peers.is_up(id, now);
                let report = self.peers.report(id);
                let stalled = match own {
                    true => self.disk_watch.is_stalled(),
                    false => self.peers.is_stalled(id),
                };
                let state = match (up, own || report.is_some_and(|r| r.ready)) {
                    (true, _) if stalled => "stalled",
                    (true, true) => "up",
                    (true, false) => "starting",
                    (false, _) => "down",
                };
                let pid = if own {
                    Some(self.config.pid)
                } else {
                    report.filter(|_| up).map(|r| r.pid)
                };
                let figures = self.figures_of(id);
                json!({
                    "id": id.as_str(),
                    "region": info.region.as_str(),
                    "client_addr": info.client_addr.to_string(),
                    "pid": pid,
                    "state": state,
                    "version": figures.as_ref().map(|f| f.version.as_str()),
                    "uptime_ms": figures.filter(|_| up).map(|f| f.uptime.as_millis() as u64),
                })
            })
            .collect();
        let keyspaces: Vec<Value> = self
            .catalog
            .keyspaces
            .iter()
            .map(|(id, keyspace)| {
                let shards: Vec<Value> = keyspace
                    .shards
                    .iter()
                    .map(|s| self.shard_status(*s))
                    .collect();
                json!({
                    "id": id.0,
                    "name": keyspace.name.as_str(),
                    "topology": keyspace.strategy.topology.to_string(),
                    "ack": keyspace.strategy.ack.to_string(),
                    "shards": shards,
                })
            })
            .collect();
        let voters: Vec<&str> = self.control.voters().iter().map(NodeId::as_str).collect();
        json!({
            "nodes": nodes,
            "keyspaces": keyspaces,
            "control": {
                "leader": self.control.leader().as_ref().map(NodeId::as_str),
                "voters": voters,
            },
        })
    }

    /// What a node that is not up said last of its replica, and how long ago.
    fn last_status(&self, node: &NodeId, shard: ShardId) -> Option<Value> {
        let peer = self.peers.known.get(node)?;
        let report = self.replica_report(node, shard)?;
        let age = self.now.monotonic.saturating_sub(peer.reported_at);
        Some(json!({
            "position": report.position.to_string(),
            "lag_ms": report.lag_ms,
            "age_ms": age.as_millis() as u64,
        }))
    }

    /// What the primary of `facts` has applied, as it said last, if it takes writes.
    fn primary_position(&self, id: ShardId, facts: &model::catalog::Shard) -> Option<Position> {
        let own = facts.primary == self.config.id;
        let up = own || self.peers.is_up(&facts.primary, self.now.monotonic);
        let report = self.replica_report(&facts.primary, id).filter(|_| up)?;
        (report.role == ReportedRole::Primary && !report.stopped).then_some(report.position)
    }

    fn shard_status(&self, id: ShardId) -> Value {
        let Some(facts) = self.catalog.shards.get(&id) else {
            return Value::Null;
        };
        let ack = self
            .catalog
            .keyspaces
            .get(&facts.keyspace)
            .map(|k| k.strategy.ack.clone());
        let primary_position = self.primary_position(id, facts);
        let replicas: Vec<Value> = facts
            .replicas
            .iter()
            .map(|replica| {
                let up = replica.node == self.config.id
                    || self.peers.is_up(&replica.node, self.now.monotonic);
                let report = self.replica_report(&replica.node, id).filter(|_| up);
                let primary = report
                    .as_ref()
                    .is_some_and(|r| r.role == ReportedRole::Primary && !r.stopped);
                let caught_up = primary
                    || report.as_ref().is_some_and(|r| {
                        r.role == ReportedRole::Replica
                            && !r.stopped
                            && r.lag_ms
                                .is_some_and(|lag| u128::from(lag) < CAUGHT_UP_LAG.as_millis())
                    });
                // Only `sync` puts every acknowledged write on every replica.
                let promotable =
                    primary || (caught_up && ack == Some(model::AckRule::Sync) && !facts.degraded);
                let level = caught_up
                    && primary_position.is_some()
                    && report.as_ref().map(|r| r.position) == primary_position;
                let store = self.store_figures(&replica.node, id);
                let role = match report.as_ref().map(|r| r.role) {
                    Some(ReportedRole::Learner) => "learner",
                    _ if replica.node == facts.primary => "primary",
                    _ => "replica",
                };
                json!({
                    "node": replica.node.as_str(),
                    "role": role,
                    "caught_up": caught_up,
                    "promotable": promotable,
                    "position": report.as_ref().map(|r| r.position.to_string()),
                    "lag_ms": if primary { Some(0) } else { report.and_then(|r| r.lag_ms) },
                    "level": level,
                    "last": self.last_status(&replica.node, id).filter(|_| !up),
                    "keys": store.map(|s| s.keys),
                    "bytes": store.map(|s| s.bytes),
                    "copy": self.copy_progress(&replica.node, id).filter(|_| up),
                })
            })
            .collect();
        json!({
            "id": id.0,
            "epoch": facts.epoch.0,
            "primary": facts.primary.as_str(),
            "replicas": replicas,
        })
    }
}
