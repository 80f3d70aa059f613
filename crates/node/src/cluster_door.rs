//! The door between this node and what all nodes agree on: what the cluster room sees of the node
//! ([`Here`]), and what the node does of what that room wants ([`Node::with_cluster`]).

use crate::{
    copy::Copies,
    node::{CONTROL_STREAM, Effect, Lane, Node},
    pulse::Pulses,
    request::{Target, borrow},
    rewind::Rewinds,
    shard::Shard,
    stall::DiskWatch,
    touched::Touched,
};
use bytes::Bytes;
use cluster::{
    Cluster, Host, Output,
    message::{CopyProgress, ReplicaReport, ReportedRole, StoreFigures},
};
use commands::Fanout;
use model::{Epoch, KeyspaceName, Lsn, NodeId, Now, Position, ShardId};
use replication::strategy::{Role, State};
use std::{collections::BTreeMap, time::Duration};
use storage::{
    log::Log,
    store::{Rows, Stores},
};

/// Who asks the cluster room for something.
#[derive(Debug)]
pub(crate) enum Wish {
    /// A client creates a keyspace.
    Create { target: Target, name: KeyspaceName },
    /// A client drops one.
    Drop { target: Target },
    /// A client gives an order about the feature level.
    Level { target: Target },
    /// A client's command names a keyspace that is unknown here.
    Newest { conn: u64, args: Vec<Bytes> },
}

/// The replicas on this node, its disk and its log.
pub(crate) struct Here<'a, R: Rows> {
    now: Now,
    shards: &'a BTreeMap<ShardId, Shard<R>>,
    touched: &'a mut Touched,
    pulses: &'a Pulses,
    copies: &'a Copies<R::Snapshot>,
    rewinds: &'a Rewinds<R::Snapshot>,
    disk_watch: &'a DiskWatch,
    log: &'a mut Log,
}

/// How a replica stands, as others are told. A primary is one whether it has a lease or not.
pub(crate) fn report_of<R: Rows>(shard: &Shard<R>, pulses: &Pulses, now: Now) -> ReplicaReport {
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
pub(crate) fn figures_of<R: Rows>(shard: &Shard<R>) -> StoreFigures {
    let stats = shard.store.row_stats();
    StoreFigures {
        keys: shard.store.key_count(),
        bytes: stats.disk_bytes + stats.unflushed_bytes,
    }
}

impl<R: Rows> Here<'_, R> {
    fn state(&self, shard: ShardId) -> Option<State> {
        self.shards.get(&shard)?.state(self.now)
    }
}

impl<R: Rows> Host for Here<'_, R> {
    fn append(&mut self, kind: u8, body: &[u8]) -> Result<Lsn, String> {
        (self.log.append(CONTROL_STREAM, kind, &[body]))
            .map_err(|error| format!("the log takes nothing more: {error}"))
    }

    fn log_end(&self) -> Lsn {
        self.log.tip()
    }

    fn log_durable(&self) -> Lsn {
        self.log.durable()
    }

    fn stalled_for(&self) -> Option<Duration> {
        self.disk_watch.stalled_for(self.now.monotonic)
    }

    fn replica(&self, shard: ShardId) -> Option<ReplicaReport> {
        let shard = self.shards.get(&shard)?;
        Some(report_of(shard, self.pulses, self.now))
    }

    fn replicas(&self) -> Vec<ReplicaReport> {
        let shards = self.shards.values();
        shards
            .map(|shard| report_of(shard, self.pulses, self.now))
            .collect()
    }

    fn is_primary(&self, shard: ShardId) -> bool {
        let shard = self.shards.get(&shard);
        shard.is_some_and(|shard| shard.is_primary(self.now))
    }

    fn stopped(&self) -> Vec<ShardId> {
        self.touched.stopped().copied().collect()
    }

    fn stop_reason(&self, shard: ShardId) -> Option<String> {
        self.shards.get(&shard)?.stopped.clone()
    }

    fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        self.state(shard).map(|state| state.epoch)
    }

    fn offices(&self) -> Vec<ShardId> {
        self.touched.offices()
    }

    fn has_office(&mut self, shard: ShardId) {
        self.touched.has_office(shard);
    }

    fn can_lead(&self, id: ShardId) -> bool {
        let shard = self.shards.get(&id);
        shard.is_some_and(|s| s.stopped.is_none() && s.store.is_serving())
            && !self.rewinds.is_past_return(id)
    }

    fn is_done(&self, id: ShardId) -> bool {
        let shard = self.shards.get(&id);
        let done = self.state(id).is_some_and(|s| s.commit == s.tip.index);
        done && shard.is_some_and(|shard| shard.waiting.is_empty())
    }

    fn lacks(&self, id: ShardId) -> Vec<(NodeId, u64)> {
        let shard = self.shards.get(&id);
        let Some(strategy) = shard.and_then(|s| s.strategy.as_ref()) else {
            return Vec::new();
        };
        let tip = strategy.state(self.now).tip.index;
        let members = strategy.members().into_iter();
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
        let shards = self.shards.iter();
        shards.map(|(id, shard)| (*id, figures_of(shard))).collect()
    }
}

impl<S: Stores> Node<S> {
    /// Something happens in the cluster room; what it wants then is done.
    pub(crate) fn with_cluster<T>(
        &mut self,
        happens: impl FnOnce(&mut Cluster<Wish>, &mut Here<'_, S::Rows>) -> T,
    ) -> T {
        let end = self.log.tip();
        let mut here = Here {
            now: self.now,
            shards: &self.shards,
            touched: &mut self.touched,
            pulses: &self.pulses,
            copies: &self.copies,
            rewinds: &self.rewinds,
            disk_watch: &self.disk_watch,
            log: &mut self.log,
        };
        let result = happens(&mut self.cluster, &mut here);
        if self.log.tip() != end {
            self.flush_within(Duration::ZERO);
        }
        self.carry_out_cluster();
        result
    }

    /// Does what the cluster room wants, one thing after the other: what is wanted meanwhile waits
    /// until the first is done.
    fn carry_out_cluster(&mut self) {
        if std::mem::replace(&mut self.is_carrying_out, true) {
            return;
        }
        while let Some(output) = self.cluster.poll() {
            match output {
                Output::Send { to, message } => {
                    let lane = match message.is_urgent() {
                        true => Lane::Control,
                        false => Lane::Ordinary,
                    };
                    self.send(&to, lane, &crate::message::Message::Cluster(message));
                }
                Output::Adopted(catalog) => self.follow_catalog(catalog),
                Output::PeersChanged => self.effects.push_back(Effect::PeersChanged),
                Output::Leased => self.leased(),
                Output::Seal { shard, epoch, from } => self.seal_asked(&from, shard, epoch),
                Output::Answered(wish, result) => self.wish_answered(wish, result),
                Output::Refreshed(wish, known) => self.newest_is_known(wish, known),
                Output::Stop(reason) => self.stop(reason),
                Output::Discard(reason) => {
                    self.stopped = true;
                    self.effects.push_back(Effect::Discard(reason));
                }
            }
        }
        self.is_carrying_out = false;
    }

    /// A catalog becomes known.
    #[cfg(test)]
    pub(crate) fn adopt(&mut self, catalog: model::Catalog) {
        self.with_cluster(|cluster, here| cluster.adopt(catalog, here));
    }

    /// What waited for a lease goes on.
    fn leased(&mut self) {
        for id in self.touched.waited_for.clone() {
            self.release_waiting(id);
        }
        self.retry_stalled();
    }

    fn wish_answered(&mut self, wish: Wish, result: Result<u64, String>) {
        match (wish, result) {
            (Wish::Create { target, name }, Ok(version)) => self.created(target, name, version),
            (Wish::Drop { target } | Wish::Level { target }, Ok(_)) => {
                let done = Bytes::from_static(b"+OK\r\n");
                self.deliver(&target, ShardId(0), Position::ZERO, done);
            }
            (
                Wish::Create { target, .. } | Wish::Drop { target } | Wish::Level { target },
                Err(line),
            ) => {
                self.reply_error(&target, &format!("ERR {line}"));
            }
            (Wish::Newest { .. }, _) => {}
        }
    }

    /// The catalog is the newest, or (`known` is false) nobody could be asked in time.
    fn newest_is_known(&mut self, wish: Wish, known: bool) {
        let Wish::Newest { conn, args } = wish else {
            return;
        };
        let args = borrow(&args);
        match commands::find(&args) {
            Ok(spec) if spec.fanout == Fanout::Across => self.cross_finally(conn, &args, known),
            _ => self.select_finally(conn, &args, known),
        }
    }

    /// A command goes on once the newest catalog is known here.
    pub(crate) fn refresh_catalog(&mut self, conn: u64, args: Vec<Bytes>) {
        self.with_cluster(|cluster, _| cluster.refresh(Wish::Newest { conn, args }));
    }

    /// How the replica of a shard on `node` stands, as that said last.
    pub(crate) fn replica_report(&self, node: &NodeId, shard: ShardId) -> Option<ReplicaReport> {
        if *node != self.config.id {
            return self.cluster.replica_at(node, shard);
        }
        let shard = self.shards.get(&shard)?;
        let mut report = report_of(shard, &self.pulses, self.now);
        self.cluster.judge_own(&mut report);
        Some(report)
    }

    /// Whether the primary of `shard` says that it takes writes.
    pub(crate) fn is_writable(&self, shard: ShardId) -> bool {
        let Some(facts) = self.catalog.shards.get(&shard) else {
            return false;
        };
        match facts.primary == self.config.id {
            true => self.may_act(shard),
            false => self.cluster.is_primary_at(&facts.primary, shard),
        }
    }
}
