//! What a node shows to who looks on from outside: a simulator that judges it.

use crate::node::Node;
use model::{Epoch, Now, Position, ShardId};
use replication::protocol::Role;
use std::time::Duration;
use storage::store::Stores;

/// How a replica on a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStanding {
    /// Of which shard.
    pub shard: ShardId,
    /// Whether it acts as primary, under a lease if it was named.
    pub is_primary: bool,
    /// The epoch that it takes part in.
    pub epoch: Epoch,
    /// What is in its store.
    pub applied: Position,
    /// Of a replica: the moment of its own clock as of which it says that it has everything.
    pub fresh_at: Option<Duration>,
    /// Of a replica: whether it rests.
    pub rests: bool,
}

impl<S: Stores> Node<S> {
    /// Whether this node acts as primary of a shard that it was named for, under a lease that runs.
    pub fn is_primary_under_lease(&self, shard: ShardId, now: Now) -> bool {
        let replica = self.shards.replica(shard);
        let primary = replica.is_some_and(|replica| replica.is_primary(now));
        let is_named = self.catalog.named_shard(shard).is_some();
        primary && is_named && self.cluster.is_leased(now.monotonic)
    }

    /// Whether its replica of a shard is a learner.
    pub fn learns(&self, shard: ShardId, now: Now) -> bool {
        let replica = self.shards.replica(shard);
        let state = replica.and_then(|replica| replica.state(now));
        state.is_some_and(|state| state.role == Role::Learner)
    }

    /// How its replicas stand, for who looks on from outside.
    pub fn standings(&self, now: Now) -> impl Iterator<Item = ShardStanding> {
        let leased = self.cluster.is_leased(now.monotonic);
        let serving = self.shards.replicas().filter(|r| r.store().is_serving());
        serving.filter_map(move |replica| {
            let state = replica.state(now)?;
            Some(ShardStanding {
                shard: replica.id(),
                is_primary: (leased || !state.by_lease) && state.role == Role::Primary,
                epoch: state.epoch,
                applied: replica.applied(),
                fresh_at: state.fresh_at.filter(|_| state.role == Role::Replica),
                rests: replica.rests(now),
            })
        })
    }
}
