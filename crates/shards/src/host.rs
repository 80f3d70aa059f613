//! What the cluster room sees of the replicas here, the disk and the log.

use crate::{Shards, pulse::Pulses, shard::Shard};
use cluster::{
    Host,
    message::{CopyProgress, ReplicaReport, ReportedRole, StoreFigures},
};
use model::{Epoch, Lsn, NodeId, Now, ShardId};
use replication::protocol::Role;
use std::{collections::BTreeMap, time::Duration};
use storage::store::{Rows, Stores};

/// How a replica stands, as others are told. A primary is one whether it has a lease or not.
pub(crate) fn report_of<R: Rows, T>(
    shard: &Shard<R, T>,
    pulses: &Pulses,
    now: Now,
) -> ReplicaReport {
    let state = shard
        .state(now)
        .map(|state| pulses.vouch(shard.rest.as_ref(), state));
    let rests_with = state.as_ref().and_then(|s| shard.rests_with(s)).cloned();
    let fresh_at = state.as_ref().and_then(|s| s.fresh_at);
    let lag = fresh_at.map(|at| now.monotonic.saturating_sub(at));
    let role = match state.as_ref().map(|s| s.role) {
        _ if !shard.store.is_serving() => ReportedRole::Learner,
        Some(Role::Primary) => ReportedRole::Primary,
        Some(Role::Starting) => ReportedRole::Starting,
        Some(Role::Learner) => ReportedRole::Learner,
        Some(Role::Replica) | None => ReportedRole::Replica,
    };
    ReplicaReport {
        shard: shard.id,
        role,
        epoch: state.map_or(0, |s| s.epoch.0),
        position: shard.applied(),
        lag_ms: lag.map(|lag| lag.as_millis() as u64),
        stopped: shard.stopped.is_some(),
        rests_with,
    }
}

/// What a store holds.
pub(crate) fn figures_of<R: Rows, T>(shard: &Shard<R, T>) -> StoreFigures {
    let stats = shard.store.row_stats();
    StoreFigures {
        keys: shard.store.key_count(),
        bytes: stats.disk_bytes + stats.unflushed_bytes,
    }
}

impl<S: Stores, T> Host for Shards<S, T> {
    fn append(&mut self, kind: u8, body: &[u8]) -> Result<Lsn, String> {
        (self.log.append_control(kind, body))
            .map_err(|error| format!("the log takes nothing more: {error}"))
    }

    fn log_end(&self) -> Lsn {
        self.log.tip()
    }

    fn log_durable(&self) -> Lsn {
        self.log.get().durable()
    }

    fn stalled_for(&self) -> Option<Duration> {
        self.log.stalled_for(self.now.monotonic)
    }

    fn replica(&self, shard: ShardId) -> Option<ReplicaReport> {
        let shard = self.all.get(&shard)?;
        Some(report_of(shard, &self.pulses, self.now))
    }

    fn replicas(&self) -> Vec<ReplicaReport> {
        let shards = self.all.values();
        shards
            .map(|shard| report_of(shard, &self.pulses, self.now))
            .collect()
    }

    fn is_primary(&self, shard: ShardId) -> bool {
        let shard = self.all.get(&shard);
        shard.is_some_and(|shard| shard.is_primary(self.now))
    }

    fn stopped(&self) -> Vec<ShardId> {
        self.touched.stopped().copied().collect()
    }

    fn stop_reason(&self, shard: ShardId) -> Option<String> {
        self.all.get(&shard)?.stopped.clone()
    }

    fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        let state = self.all.get(&shard)?.state(self.now)?;
        Some(state.epoch)
    }

    fn leads_any(&self) -> bool {
        self.elected_here().next().is_some()
    }

    fn offices(&self) -> Vec<ShardId> {
        self.touched.offices()
    }

    fn has_office(&mut self, shard: ShardId) {
        self.touched.has_office(shard);
    }

    fn can_lead(&self, id: ShardId) -> bool {
        let shard = self.all.get(&id);
        shard.is_some_and(|s| s.stopped.is_none() && s.store.is_serving())
            && !self.rewinds.is_past_return(id)
    }

    fn is_done(&self, id: ShardId) -> bool {
        self.all.get(&id).is_some_and(|shard| {
            let state = shard.state(self.now);
            state.is_some_and(|s| s.commit == s.tip.index) && shard.waiting.is_empty()
        })
    }

    fn lacks(&self, id: ShardId) -> Vec<(NodeId, u64)> {
        let shard = self.all.get(&id);
        let Some(protocol) = shard.and_then(|s| s.protocol.as_ref()) else {
            return Vec::new();
        };
        let tip = protocol.state(self.now).tip.index;
        let members = protocol.members().into_iter();
        members
            .map(|member| (member.node, tip.saturating_sub(member.matched)))
            .collect()
    }

    fn copies(&self) -> Vec<CopyProgress> {
        self.copies.progress(self.now.monotonic)
    }

    fn rest_lags_ms(&self) -> Vec<(NodeId, u64)> {
        self.pulses.lags_ms(self.now.monotonic)
    }

    fn stores(&self) -> BTreeMap<ShardId, StoreFigures> {
        let shards = self.all.iter();
        shards.map(|(id, shard)| (*id, figures_of(shard))).collect()
    }
}
