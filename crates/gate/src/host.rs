//! What the gate sees of its node while it works.

use crate::request::Target;
use bytes::{Bytes, BytesMut};
use commands::Spec;
use model::{NodeId, Position, ShardId};
use shards::{Asking, Did, Evaluated};
use std::time::Duration;

/// The replicas here, and other nodes, as they stand. Nothing that is asked of it puts out a client's
/// reply, so that the gate is never called while it works.
pub trait Host {
    // ---- the replicas here ----------------------------------------------------------------

    /// Evaluates a command at the replica of a shard, if that may.
    fn evaluate(
        &mut self,
        shard: ShardId,
        spec: &Spec,
        args: &[&[u8]],
        asking: &Asking,
    ) -> Evaluated;

    /// The reply that evaluating has made last.
    fn reply(&mut self) -> &mut BytesMut;

    /// What evaluating has done since this was asked last.
    fn take_did(&mut self) -> Did;

    /// A reply goes out once its position is committed. To be called before anything else is
    /// evaluated.
    fn wait(&mut self, shard: ShardId, position: Position, wrote: bool, to: Target, reply: Bytes);

    /// Whose replies wait in a shard, and for which positions.
    fn waiting(&self, shard: ShardId) -> impl Iterator<Item = (&Target, Position)>;

    /// Bytes of the replies that wait in all shards.
    fn waiting_bytes(&self) -> usize;

    /// What is in the store of a shard; None: there is no replica of it here.
    fn applied(&self, shard: ShardId) -> Option<Position>;

    /// Whether the replica of a shard acts as primary, but for the lease.
    fn is_primary(&self, shard: ShardId) -> bool;

    /// The same under a lease.
    fn may_act(&self, shard: ShardId) -> bool;

    /// How many replicas of a shard whose primary is here have its log up to `index`.
    fn matched(&self, shard: ShardId, index: u64) -> usize;

    /// So much work was done in this turn besides evaluating.
    fn work(&mut self, more: u64);

    /// How much was done in this turn.
    fn worked(&self) -> u64;

    // ---- other nodes ----------------------------------------------------------------------

    /// Whether what is sent to a node is likely to arrive, and its answer here.
    fn is_up(&self, node: &NodeId) -> bool;

    /// Whether a node says that it is primary of a shard and takes writes.
    fn is_primary_at(&self, node: &NodeId, shard: ShardId) -> bool;

    /// How far behind a node's replica is that could be read: by much, and by how much. None: it
    /// can't be read.
    fn readable_lag(&self, node: &NodeId, shard: ShardId) -> Option<(bool, Duration)>;
}
