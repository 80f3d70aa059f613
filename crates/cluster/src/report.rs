//! How nodes and replicas stand, as told several times a second to everybody: the heartbeat between
//! nodes. What only people are shown is in `figures`.
//!
//! Over a new link, and to who lacks one, a report tells of all replicas, else of those that
//! something happened to since the report before: what nothing happens to costs nothing. A lag
//! that grows is no news: whoever heard of it counts on.

use crate::{
    cluster::Cluster,
    host::Host,
    message::{Message, ReplicaReport, Report, ReportedRole},
};
use model::{NodeId, ShardId};
use std::{collections::BTreeSet, time::Duration};

/// How often a node tells how it stands.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// A replica is fresh enough to be shown as caught up within this lag.
pub const CAUGHT_UP_LAG: Duration = Duration::from_secs(5);
/// How often a peer that lags is given the catalog, at most.
const CATALOG_EVERY: Duration = Duration::from_millis(500);

impl<A> Cluster<A> {
    /// A primary here that was named is one only while its node's lease runs.
    pub fn judge_own(&self, replica: &mut ReplicaReport) {
        let is_named = self.catalog.named_shard(replica.shard).is_some();
        if is_named && replica.role == ReportedRole::Primary && !self.is_leased(self.now.monotonic)
        {
            replica.role = ReportedRole::Starting;
        }
    }

    /// How this node stands, and all replicas, or those of `shards`.
    fn own_report(&self, shards: Option<&BTreeSet<ShardId>>, host: &impl Host) -> Report {
        let (mut replicas, mut gone) = (Vec::new(), Vec::new());
        match shards {
            None => replicas = host.replicas(),
            Some(shards) => {
                for id in shards {
                    match host.replica(*id) {
                        Some(replica) => replicas.push(replica),
                        None => gone.push(*id),
                    }
                }
            }
        }
        for replica in &mut replicas {
            self.judge_own(replica);
        }
        Report {
            pid: self.config.pid,
            nonce: self.boot.nonce,
            catalog_version: self.catalog.version,
            hears: self.peers.heard_lately(self.now.monotonic),
            leads: self.control.leads(),
            unleased: self.is_any_primary && !self.lease.holds(self.now.monotonic),
            log: host.log_durable().0,
            control: self.control.own_report(),
            ready: self.catalog.nodes.contains_key(&self.config.id),
            number: self.peers.number(),
            is_full: shards.is_none(),
            replicas,
            gone,
            rest_lags_ms: host.rest_lags_ms(),
            lacks: self.peers.lacking(),
            stalled_ms: (host.stalled_for()).map(|time| time.as_millis() as u64),
            hands_over: self.hands_over(),
        }
    }

    pub(crate) fn tell_report(&mut self, to: &NodeId, host: &impl Host) {
        let report = self.own_report(None, host);
        self.send(to, Message::Report(report));
    }

    /// Something that others wait for has changed.
    pub fn report_soon(&mut self) {
        self.peers.report_soon();
    }

    /// A replica here may stand otherwise than it was reported.
    pub fn changed(&mut self, shard: ShardId) {
        self.peers.changed(shard);
    }

    pub(crate) fn report_tick(&mut self, host: &impl Host) {
        let now = self.now.monotonic;
        let Some(changed) = self.peers.take_due(now, REPORT_EVERY) else {
            return;
        };
        // With the lease all primaries here change what they are.
        let same = !self.peers.lease_changed(self.lease.holds(now));
        let report = Message::Report(self.own_report(Some(&changed).filter(|_| same), host));
        let mut full = None;
        let copying = host.copies();
        let copying = (!copying.is_empty()).then_some(Message::CopyProgress(copying));
        for to in self.peers.ids() {
            if self.peers.takes_full(&to) && same {
                let full = full.get_or_insert_with(|| Message::Report(self.own_report(None, host)));
                let full = full.clone();
                self.send(&to, full);
            } else {
                self.send(&to, report.clone());
            }
            if let Some(copying) = &copying {
                self.send(&to, copying.clone());
            }
        }
    }

    pub(crate) fn reported(&mut self, from: &NodeId, report: Report) {
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
        let lags = report.catalog_version < self.catalog.version;
        let lags = self.peers.reported(from, report, now) && lags;
        if lags && self.peers.is_due_a_catalog(from, now, CATALOG_EVERY) {
            self.send_catalog(from, &self.catalog.clone());
        }
    }

    /// Whether `id` says that its catalog is at least at `version`.
    pub fn follows(&self, id: &NodeId, version: u64) -> bool {
        let report = self.peers.report(id);
        report.is_some_and(|r| r.catalog_version >= version)
    }

    /// Whether the replica on another node says that it is a primary that takes writes.
    pub fn is_primary_at(&self, node: &NodeId, shard: ShardId) -> bool {
        let replica = self.peers.replica(node, shard);
        replica.is_some_and(|(r, _)| r.role == ReportedRole::Primary)
    }

    /// Whether the replica on `node` is too far behind to be read if another is not, and how old
    /// what it shows is, as it said last; None if it is not to be read: silent, stopped, on a disk
    /// that hangs, or being filled.
    pub fn readable_lag(&self, node: &NodeId, shard: ShardId) -> Option<(bool, Duration)> {
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

    /// How the replica of a shard on another node stands, as that said last.
    pub fn replica_at(&self, node: &NodeId, shard: ShardId) -> Option<ReplicaReport> {
        let (report, lag_ms) = self.peers.replica(node, shard)?;
        Some(ReplicaReport {
            lag_ms,
            ..report.clone()
        })
    }
}
