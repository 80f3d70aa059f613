//! What leaves the room of replicas, and what it is told of the others.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::message::Message;
use bytes::Bytes;
use cluster::message::Sealed;
use model::{DiskId, Epoch, Lsn, NodeId, Parts, Position, ShardId};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// What the room knows of the cluster, as that stands now.
#[derive(Debug, Default)]
pub struct Terms {
    /// Until when nobody else is named primary in this node's place.
    pub leased_until: Duration,
    /// Whether the node is who it says it is.
    pub is_sound: bool,
    /// Whether it knows what time it is.
    pub is_clock_settled: bool,
    /// Whether the catalog knows of this process, so that it may hold something for others.
    pub holds_for_others: bool,
    /// Where the log has to begin for the voters' group.
    pub log_needed_from: Option<Lsn>,
    /// Whether the node is to end.
    pub is_ending: bool,
    /// Shards whose writes are held back, since they are handed over.
    pub held: BTreeSet<ShardId>,
    /// Nodes that there is a link to …
    linked: BTreeSet<NodeId>,
    /// … and those whose link broke.
    cut_off: BTreeSet<NodeId>,
}

impl Terms {
    pub(super) fn link_changed(&mut self, peer: &NodeId, linked: bool) {
        let (now, before) = match linked {
            true => (&mut self.linked, &mut self.cut_off),
            false => (&mut self.cut_off, &mut self.linked),
        };
        before.remove(peer);
        now.insert(peer.clone());
    }

    pub fn is_linked(&self, peer: &NodeId) -> bool {
        self.linked.contains(peer)
    }

    pub fn is_cut_off(&self, peer: &NodeId) -> bool {
        self.cut_off.contains(peer)
    }
}

/// How a message to another node travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// In order with the others.
    Ordinary,
    /// On a connection of its own, so that copies don't hold up the rest.
    Bulk,
    /// On a connection of its own: what leases and failovers need must not wait behind entries.
    Control,
}

/// What the node is to do for the room.
#[derive(Debug)]
pub enum Output<T> {
    /// Send a message.
    Send {
        to: NodeId,
        lane: Lane,
        message: Message,
    },
    /// Send what a shard's protocol says to its replica there.
    SendReplica {
        to: NodeId,
        shard: ShardId,
        message: Parts,
    },
    /// This node itself is to be told something that others are told by messages.
    Told { from: NodeId, message: Message },
    /// Reply to a command: what it shows is committed, at this position of the shard.
    Reply {
        target: T,
        shard: ShardId,
        position: Position,
        reply: Bytes,
    },
    /// Nobody waits for a command's commit any longer, for this reason; `wrote`: it may still come.
    GaveUp {
        target: T,
        shard: ShardId,
        wrote: bool,
        why: &'static str,
    },
    /// The store of a shard has moved on, or its replica here is given up: reads that wait for it
    /// are looked at.
    MovedOn(ShardId),
    /// A shard is no longer here: reads that wait for it go elsewhere.
    Retired(ShardId),
    /// A round that reads of a shard wait for has ended: they go once what it says is applied.
    /// None: it has not said anything, and they are to be asked anew.
    Round {
        shard: ShardId,
        ticket: u64,
        round: Option<u64>,
    },
    /// Somebody else leads a shard whose replicas elect who does.
    Led { shard: ShardId, leader: NodeId },
    /// Others are to be told how a shard's replica stands.
    Changed(ShardId),
    /// The next report is to be sent at once.
    ReportSoon,
    /// This node may soon be primary: it wants a lease.
    WantLease,
    /// It is no longer primary of something.
    Deposed,
    /// A seal that `to` asked for is durable.
    Sealed { to: NodeId, sealed: Sealed },
    /// The catalog is to say that a replica on this disk has everything.
    Confirm {
        shard: ShardId,
        node: NodeId,
        disk: DiskId,
    },
    /// The catalog is to say whether a shard's rule is suspended.
    Degraded {
        shard: ShardId,
        epoch: Epoch,
        degraded: bool,
    },
    /// A store was found to be damaged, in this way: whether the replica may stop is to be judged.
    Damaged { shard: ShardId, what: String },
    /// An event for people.
    Note {
        shard: ShardId,
        kind: &'static str,
        text: String,
    },
    /// The node can't go on.
    Stop(String),
}

/// What has not been carried out yet.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    outputs: VecDeque<Output<T>>,
    /// Something was answered under the lease.
    answered: bool,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Outgoing {
            outputs: VecDeque::new(),
            answered: false,
        }
    }
}

impl<T> Outgoing<T> {
    pub(crate) fn put(&mut self, output: Output<T>) {
        self.outputs.push_back(output);
    }

    /// Something is answered under the lease.
    pub(crate) fn answer(&mut self) {
        self.answered = true;
    }

    pub(crate) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    pub(crate) fn take(&mut self) -> Option<Output<T>> {
        self.outputs.pop_front()
    }
}
