//! The other nodes, as far as they are heard.

use crate::{
    cluster::Config,
    hand_over::Why,
    message::{CopyProgress, ReplicaReport, Report, ReportedRole},
    whereabouts::Whereabouts,
};
use control::detector::Detector;
use model::{Address, Boot, Catalog, DiskId, NodeId, Region, ShardId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A node that was not heard for this long is taken for dead: nothing is sent there, and what
/// is away there is given up. Well above what a busy machine delays a report by, and below the
/// second within which a client is promised an answer.
pub const SILENT: Duration = Duration::from_millis(850);
/// Within this time a node tells that it hears another.
const HEARS_WITHIN: Duration = Duration::from_millis(650);

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
pub struct Peers {
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
    pub(crate) fn new(config: &Config, now: Duration) -> Self {
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
    pub fn addresses(&self) -> Vec<(NodeId, Vec<Address>)> {
        self.known
            .iter()
            .map(|(id, p)| (id.clone(), p.whereabouts.addresses().to_vec()))
            .collect()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.known.keys().cloned().collect()
    }

    pub fn region(&self, id: &NodeId) -> Option<&Region> {
        self.known.get(id).map(|p| &p.region)
    }

    /// Whether there is a link to it.
    pub fn is_connected(&self, id: &NodeId) -> bool {
        self.known.get(id).is_some_and(|p| p.connected)
    }

    /// Whether the link to it broke.
    pub fn is_cut_off(&self, id: &NodeId) -> bool {
        (self.known.get(id)).is_some_and(|p| !p.connected && p.was_connected)
    }

    /// The nodes that there is a link to.
    pub fn connected_nodes(&self) -> Vec<NodeId> {
        self.known
            .iter()
            .filter(|(_, p)| p.connected)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Every node known and its region, this one not included.
    pub fn regions(&self) -> impl Iterator<Item = (&NodeId, &Region)> {
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
    pub fn stalled(&self) -> BTreeMap<NodeId, Duration> {
        let stalled = self.known.iter().filter_map(|(id, peer)| {
            let ms = peer.report.as_ref()?.stalled_ms?;
            Some((id.clone(), Duration::from_millis(ms)))
        });
        stalled.collect()
    }

    /// Whether the disk of `id` does not answer.
    pub fn is_stalled(&self, id: &NodeId) -> bool {
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
    pub fn silence(&self, id: &NodeId, now: Duration) -> Option<Duration> {
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
    pub fn is_up(&self, id: &NodeId, now: Duration) -> bool {
        self.known.get(id).is_some_and(|p| {
            p.connected
                && p.heard_at.is_some_and(|at| now.saturating_sub(at) < SILENT)
                && p.report
                    .as_ref()
                    .is_some_and(|r| r.hears.contains(&self.me))
        })
    }

    pub(crate) fn heard_lately(&self, now: Duration) -> Vec<NodeId> {
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

    pub(crate) fn report(&self, id: &NodeId) -> Option<&Report> {
        self.known.get(id)?.report.as_ref()
    }

    /// How its replica of a shard stood when it reported last, and how old what that showed was.
    pub(crate) fn replica(
        &self,
        id: &NodeId,
        shard: ShardId,
    ) -> Option<(&ReplicaReport, Option<u64>)> {
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

    // ---- reports ------------------------------------------------------------------------------

    /// The next report is due at once.
    pub(crate) fn report_soon(&mut self) {
        self.next_report = Duration::ZERO;
    }

    /// If a report is due: the shards that something happened to since the one before. The next
    /// is due after `every`.
    pub(crate) fn take_due(&mut self, now: Duration, every: Duration) -> Option<BTreeSet<ShardId>> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + every;
        self.number += 1;
        Some(std::mem::take(&mut self.changed))
    }

    /// The number of the last report.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether this node has a lease now and had none with the last report, or the other way round.
    pub(crate) fn lease_changed(&mut self, is_leased: bool) -> bool {
        std::mem::replace(&mut self.was_leased, is_leased) != is_leased
    }

    /// Whether the next report to `id` must tell of all replicas.
    pub(crate) fn takes_full(&mut self, id: &NodeId) -> bool {
        let peer = self.known.get_mut(id);
        peer.is_some_and(|peer| std::mem::take(&mut peer.wants_full))
    }

    /// Takes in a report. Returns whether its sender is known.
    pub(crate) fn reported(&mut self, from: &NodeId, mut report: Report, now: Duration) -> bool {
        let Some(peer) = self.known.get_mut(from) else {
            return false;
        };
        peer.wants_full |= report.lacks.contains(&self.me);
        peer.take_replicas(&mut report, now);
        peer.log = peer.log.max(report.log);
        peer.report = Some(report);
        peer.reported_at = now;
        true
    }

    /// Whether `id`, which lags, is to be sent the catalog: at most once in `every`.
    pub(crate) fn is_due_a_catalog(&mut self, id: &NodeId, now: Duration, every: Duration) -> bool {
        let Some(peer) = self.known.get_mut(id) else {
            return false;
        };
        let sent_at = peer.catalog_sent_at;
        let due = sent_at.is_none_or(|at| now.saturating_sub(at) >= every);
        if due {
            peer.catalog_sent_at = Some(now);
        }
        due
    }

    /// The copies that `id` takes, as it said last.
    pub fn copies_of(&self, id: &NodeId) -> Vec<CopyProgress> {
        let peer = self.known.get(id);
        peer.map_or_else(Vec::new, |peer| peer.copying.clone())
    }

    /// The process of `id`, as the operating system numbers it, and whether it is ready.
    pub fn process(&self, id: &NodeId) -> Option<(u32, bool)> {
        self.report(id).map(|report| (report.pid, report.ready))
    }

    /// How long ago `id` said how it stands.
    pub fn report_age(&self, id: &NodeId, now: Duration) -> Option<Duration> {
        let peer = self.known.get(id)?;
        Some(now.saturating_sub(peer.reported_at))
    }

    /// Whose reports are lacking.
    pub(crate) fn lacking(&self) -> Vec<NodeId> {
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
