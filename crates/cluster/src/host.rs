//! What this room sees of the rest of its node.

use crate::message::{CopyProgress, ReplicaReport, StoreFigures};
use model::{Epoch, Lsn, NodeId, ShardId};
use std::{collections::BTreeMap, time::Duration};

/// The replicas on this node, its disk and its log, as they are now.
pub trait Host {
    /// Puts a record of the voters' group into the log; returns where it ends, or why it can't be.
    fn append(&mut self, kind: u8, body: &[u8]) -> Result<Lsn, String>;

    /// Where the log ends.
    fn log_end(&self) -> Lsn;

    /// Up to where the log survives a loss of power.
    fn log_durable(&self) -> Lsn;

    /// For how long the disk has not answered, if that is too long.
    fn stalled_for(&self) -> Option<Duration>;

    /// How the replica of a shard stands. A primary is one whether it has a lease or not.
    fn replica(&self, shard: ShardId) -> Option<ReplicaReport>;

    /// How all of them stand.
    fn replicas(&self) -> Vec<ReplicaReport>;

    /// Whether a shard's replica acts as primary, but for the lease.
    fn is_primary(&self, shard: ShardId) -> bool;

    /// Which replicas have stopped.
    fn stopped(&self) -> Vec<ShardId>;

    /// Why a replica has stopped, if it has.
    fn stop_reason(&self, shard: ShardId) -> Option<String>;

    /// The epoch that a replica takes part in.
    fn epoch(&self, shard: ShardId) -> Option<Epoch>;

    /// Whether this node leads a shard that another could be elected to lead.
    fn leads_any(&self) -> bool;

    /// The shards whose offices this node may have to take up.
    fn offices(&self) -> Vec<ShardId>;

    /// There is nothing to be taken up in this one.
    fn has_office(&mut self, shard: ShardId);

    /// Whether a replica has what a primary needs.
    fn can_lead(&self, shard: ShardId) -> bool;

    /// Whether nothing is under way in a shard whose primary is here.
    fn is_done(&self, shard: ShardId) -> bool;

    /// How many of its entries each other member lacks of a shard whose primary is here, as far
    /// as they have said.
    fn lacks(&self, shard: ShardId) -> Vec<(NodeId, u64)>;

    /// How far the copies are that fill replicas here.
    fn copies(&self) -> Vec<CopyProgress>;

    /// How old what those replicas show is that rest with a node.
    fn rest_lags_ms(&self) -> Vec<(NodeId, u64)>;

    /// What the store of each shard holds.
    fn stores(&self) -> BTreeMap<ShardId, StoreFigures>;
}

/// A node without replicas, whose log takes everything.
#[cfg(test)]
pub(crate) struct Alone;

#[cfg(test)]
impl Host for Alone {
    fn append(&mut self, _kind: u8, _body: &[u8]) -> Result<Lsn, String> {
        Ok(Lsn(1))
    }
    fn log_end(&self) -> Lsn {
        Lsn(0)
    }
    fn log_durable(&self) -> Lsn {
        Lsn(0)
    }
    fn stalled_for(&self) -> Option<Duration> {
        None
    }
    fn replica(&self, _shard: ShardId) -> Option<ReplicaReport> {
        None
    }
    fn replicas(&self) -> Vec<ReplicaReport> {
        Vec::new()
    }
    fn is_primary(&self, _shard: ShardId) -> bool {
        false
    }
    fn stopped(&self) -> Vec<ShardId> {
        Vec::new()
    }
    fn stop_reason(&self, _shard: ShardId) -> Option<String> {
        None
    }
    fn epoch(&self, _shard: ShardId) -> Option<Epoch> {
        None
    }
    fn leads_any(&self) -> bool {
        false
    }
    fn offices(&self) -> Vec<ShardId> {
        Vec::new()
    }
    fn has_office(&mut self, _shard: ShardId) {}
    fn can_lead(&self, _shard: ShardId) -> bool {
        false
    }
    fn is_done(&self, _shard: ShardId) -> bool {
        false
    }
    fn lacks(&self, _shard: ShardId) -> Vec<(NodeId, u64)> {
        Vec::new()
    }
    fn copies(&self) -> Vec<CopyProgress> {
        Vec::new()
    }
    fn rest_lags_ms(&self) -> Vec<(NodeId, u64)> {
        Vec::new()
    }
    fn stores(&self) -> BTreeMap<ShardId, StoreFigures> {
        BTreeMap::new()
    }
}
