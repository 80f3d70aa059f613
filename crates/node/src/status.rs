//! What `QUIRE STATUS` answers.

use crate::node::Node;
use cluster::{CAUGHT_UP_LAG, message::ReportedRole};
use model::{NodeId, Position, ShardId};
use serde_json::{Value, json};
use storage::store::Stores;

impl<S: Stores> Node<S> {
    /// How far the copy is that fills `shard` on `node`, if one does.
    fn copy_progress(&self, node: &NodeId, shard: ShardId) -> Option<Value> {
        let copies = match *node == self.config.id {
            true => self.shards.copies(),
            false => self.cluster.peers().copies_of(node),
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
                let up = own || self.cluster.peers().is_up(id, now);
                let process = self.cluster.peers().process(id);
                let stalled = match own {
                    true => self.shards.stalled_for().is_some(),
                    false => self.cluster.peers().is_stalled(id),
                };
                let state = match (up, own || process.is_some_and(|(_, ready)| ready)) {
                    (true, _) if stalled => "stalled",
                    (true, true) => "up",
                    (true, false) => "starting",
                    (false, _) => "down",
                };
                let pid = if own {
                    Some(self.config.pid)
                } else {
                    process.filter(|_| up).map(|(pid, _)| pid)
                };
                let figures = self.cluster.figures_of(id);
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
        let voters: Vec<&str> = self.cluster.voters().iter().map(NodeId::as_str).collect();
        json!({
            "nodes": nodes,
            "keyspaces": keyspaces,
            "control": {
                "leader": self.cluster.leader().as_ref().map(NodeId::as_str),
                "voters": voters,
            },
        })
    }

    /// What a node that is not up said last of its replica, and how long ago.
    fn last_status(&self, node: &NodeId, shard: ShardId) -> Option<Value> {
        let age = self.cluster.peers().report_age(node, self.now.monotonic)?;
        let report = self.replica_report(node, shard)?;
        Some(json!({
            "position": report.position.to_string(),
            "lag_ms": report.lag_ms,
            "age_ms": age.as_millis() as u64,
        }))
    }

    /// What the primary of `facts` has applied, as it said last, if it takes writes.
    fn primary_position(&self, id: ShardId, facts: &model::catalog::Shard) -> Option<Position> {
        let own = facts.primary == self.config.id;
        let up = own
            || self
                .cluster
                .peers()
                .is_up(&facts.primary, self.now.monotonic);
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
        let is_elected = self.catalog.is_elected(facts);
        let told = self.replica_report(&facts.primary, id);
        let epoch = match told.filter(|_| is_elected) {
            Some(report) => report.epoch,
            None => facts.epoch.0,
        };
        let replicas: Vec<Value> = facts
            .replicas
            .iter()
            .map(|replica| {
                let up = replica.node == self.config.id
                    || self
                        .cluster
                        .peers()
                        .is_up(&replica.node, self.now.monotonic);
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
                // Only `sync` puts every acknowledged write on every replica; who is elected has
                // them by how it is elected.
                let has_all = is_elected || ack == Some(model::AckRule::Sync) && !facts.degraded;
                let promotable = primary || (caught_up && has_all);
                let level = caught_up
                    && primary_position.is_some()
                    && report.as_ref().map(|r| r.position) == primary_position;
                let store = match replica.node == self.config.id {
                    true => self.shards.replica(id).map(|replica| replica.figures()),
                    false => self.cluster.store_at(&replica.node, id),
                };
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
            "epoch": epoch,
            "primary": facts.primary.as_str(),
            "replicas": replicas,
        })
    }
}
