//! The door between this node and what all nodes agree on: what the node does of what that room
//! wants ([`Node::with_cluster`]).

use crate::node::{Effect, Lane, Node};
use bytes::Bytes;
use cluster::{Cluster, Output, message::ReplicaReport};
use gate::Target;
use model::{KeyspaceName, NodeId, ShardId};
use shards::Shards;
use storage::store::Stores;

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

impl<S: Stores> Node<S> {
    /// Something happens in the cluster room; what it wants then is done.
    pub(crate) fn with_cluster<T>(
        &mut self,
        happens: impl FnOnce(&mut Cluster<Wish>, &mut Shards<S, Target>) -> T,
    ) -> T {
        let end = self.shards.log().tip();
        let result = happens(&mut self.cluster, &mut self.shards);
        if self.shards.log().tip() != end {
            self.shards.appended_by_others();
        }
        self.tell_terms();
        self.carry_out_cluster();
        result
    }

    /// Does what the cluster room wants, one thing after the other: what is wanted meanwhile waits
    /// until the first is done.
    fn carry_out_cluster(&mut self) {
        if std::mem::replace(&mut self.carrying_out.cluster, true) {
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
                Output::Adopted(catalog) => self.catalog_adopted(catalog),
                Output::PeersChanged => self.effects.push_back(Effect::PeersChanged),
                Output::Leased => self.leased(),
                Output::Seal { shard, epoch, from } => {
                    self.with_shards(|shards| shards.seal_asked(&from, shard, epoch));
                }
                Output::Answered(wish, result) => self.wish_answered(wish, result),
                Output::Refreshed(wish, known) => self.newest_is_known(wish, known),
                Output::Stop(reason) => self.with_shards(|shards| shards.stop(reason)),
                Output::Discard(reason) => {
                    self.shards.discard();
                    self.effects.push_back(Effect::Discard(reason));
                }
            }
        }
        self.carrying_out.cluster = false;
    }

    /// A catalog becomes known.
    #[cfg(test)]
    pub(crate) fn adopt(&mut self, catalog: model::Catalog) {
        self.with_cluster(|cluster, here| cluster.adopt(catalog, here));
    }

    /// What waited for a lease goes on.
    fn leased(&mut self) {
        self.with_shards(Shards::leased);
        self.with_gate(|gate, here| gate.leased(here));
    }

    fn wish_answered(&mut self, wish: Wish, result: Result<u64, String>) {
        match (wish, result) {
            (Wish::Create { target, name }, Ok(version)) => self.created(target, name, version),
            (Wish::Drop { target } | Wish::Level { target }, Ok(_)) => {
                let done = Bytes::from_static(b"+OK\r\n");
                self.deliver(&target, done);
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
        self.with_gate(|gate, here| gate.newest_is_known(conn, &args, known, here));
    }

    /// How the replica of a shard on `node` stands, as that said last.
    pub(crate) fn replica_report(&self, node: &NodeId, shard: ShardId) -> Option<ReplicaReport> {
        if *node != self.config.id {
            return self.cluster.replica_at(node, shard);
        }
        let mut report = self.shards.replica(shard)?.report();
        self.cluster.judge_own(&mut report);
        Some(report)
    }

    /// Whether the primary of `shard` says that it takes writes.
    pub(crate) fn is_writable(&self, shard: ShardId) -> bool {
        let Some(facts) = self.catalog.shards.get(&shard) else {
            return false;
        };
        match facts.primary == self.config.id {
            true => self.shards.may_act(shard),
            false => self.cluster.is_primary_at(&facts.primary, shard),
        }
    }
}
