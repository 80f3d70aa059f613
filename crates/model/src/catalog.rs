//! The cluster's agreed facts. The control plane changes them through its Raft group; every
//! node follows and routes by its own copy.

use crate::{
    address::Address,
    id::{DiskId, Epoch, KeyspaceId, KeyspaceName, NodeId, Region, ShardId},
    planted::{self, Bug},
    position::Position,
    release::{FIRST_LEVEL, Span},
    slot,
    strategy::{Strategy, Topology},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

/// Everything that the cluster has agreed on, as of `version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The control group's applied index that produced this state. A node adopts only
    /// greater versions, and only committed states are ever passed on.
    pub version: u64,
    /// Every node that has joined.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// Every keyspace, by number.
    pub keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    /// Every shard of every keyspace.
    pub shards: BTreeMap<ShardId, Shard>,
    /// The next keyspace number to give.
    pub next_keyspace: u32,
    /// The next shard number to give.
    pub next_shard: u64,
    /// The version in which a primary was last named in another's place. A lease is granted
    /// only to a node that knows of it.
    pub last_promotion: u64,
    /// What was decided and why, the oldest first; at most [`EVENTS_MAX`].
    pub events: VecDeque<Event>,
    /// Every disk that a node has registered with, but for each node's oldest; at most
    /// [`DISKS_MAX`] a node.
    pub disks: BTreeMap<DiskId, Disk>,
    /// The feature level: nothing that came with a greater one is used, and every node that is
    /// registered knows it (docs/adr/0017-versions). It only grows.
    pub level: u32,
    /// An operator keeps the level from being raised by itself.
    pub level_held: bool,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog {
            version: 0,
            nodes: BTreeMap::new(),
            keyspaces: BTreeMap::new(),
            shards: BTreeMap::new(),
            next_keyspace: 0,
            next_shard: 0,
            last_promotion: 0,
            events: VecDeque::new(),
            disks: BTreeMap::new(),
            level: FIRST_LEVEL,
            level_held: false,
        }
    }
}

/// Disks of one node that are remembered.
pub const DISKS_MAX: usize = 8;

/// The latest that is known of a disk: an older state of it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Whose it is.
    pub node: NodeId,
    /// The last boot that registered with it.
    pub boot: Boot,
    /// The version of the catalog in which it did.
    pub version: u64,
}

/// Events that are kept.
pub const EVENTS_MAX: usize = 100;

/// Something that an operator wants to know of, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The version of the catalog that it came with.
    pub version: u64,
    /// The wall clock of the node that proposed it, in ms since 1970.
    pub at_ms: u64,
    /// Which shard it is about, if any.
    pub shard: Option<ShardId>,
    /// What kind of event: a word that stays the same, for programs.
    pub kind: String,
    /// What happened, and why.
    pub text: String,
}

/// A node, as it introduced itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Where it stands.
    pub region: Region,
    /// Where within the region.
    pub zone: String,
    /// Where clients reach it.
    pub client_addr: Address,
    /// Where other nodes reach it.
    pub peer_addr: Address,
    /// Where people and monitoring reach it.
    pub http_addr: Address,
    /// Its last start.
    pub boot: Boot,
    /// The feature levels that its release knows.
    pub levels: Span,
}

/// One start of a node on one disk (docs/adr/0013-disks-and-boots).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The disk.
    pub disk: DiskId,
    /// Which process of the disk: grows by one with each start.
    pub process: u64,
    /// Drawn at random at the start: tells two processes with one number apart, of which one
    /// began with a copy of the disk.
    pub nonce: u64,
    /// Bytes of the log, over its whole life, that were durable at the start.
    pub log: u64,
    /// The first process of the disk from which on each left its log closed: nothing that was
    /// durable since then can be missing.
    pub intact_since: u64,
}

impl Boot {
    /// Whether the disk of `self` is an older state of what `known` was started on, or another
    /// copy of it.
    pub fn is_stale_beside(&self, known: &Boot) -> bool {
        self.disk == known.disk
            && (self.process, self.nonce) != (known.process, known.nonce)
            && (self.process <= known.process || self.log < known.log)
            && !planted::is(Bug::ForgetGreatestProcess)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on disk {}", self.process, self.disk)
    }
}

/// A keyspace and what it chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// What it chose.
    pub strategy: Strategy,
    /// Its shards, in the order of their slots.
    pub shards: Vec<ShardId>,
}

/// A shard and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Whose it is.
    pub keyspace: KeyspaceId,
    /// Its slots, first and last.
    pub slots: (u16, u16),
    /// Who holds a copy, in the order of preference for the primary.
    pub replicas: Vec<Replica>,
    /// Who takes writes.
    pub primary: NodeId,
    /// The epoch in which `primary` writes; 0 until it first took up its office. Where the replicas
    /// elect it: how often its members have changed.
    pub epoch: Epoch,
    /// Which process of `primary` took up the office in `epoch`. A later process of the same
    /// node must take a new epoch first (soundness: no process resumes writing in an epoch
    /// that it held).
    pub process: u64,
    /// The disk on which `primary` held the shard when it took up the office. Another disk
    /// of the same node doesn't hold what was acknowledged, and is refused.
    pub disk: DiskId,
    /// Whether the keyspace's rule is suspended for this shard (`on_timeout = degrade`).
    pub degraded: bool,
    /// Up to where `primary` held the log when it was named though something acknowledged may
    /// be lost by it: committed by that plan, whatever the rule asks for. None: it was not.
    pub decreed: Option<Position>,
}

/// One copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The node that holds it.
    pub node: NodeId,
    /// Where that node stands; kept here so that rules can be judged by the shard alone.
    pub region: Region,
    /// The disk on which it holds everything that a member must. On another disk the node is a
    /// learner: it doesn't acknowledge, is not heard and is not read. None: on no disk yet.
    pub disk: Option<DiskId>,
    /// The member whose place it takes once it has everything. Until then it is no member.
    pub replaces: Option<NodeId>,
    /// The version of the catalog in which it was added; 0: with the shard. A node that left and was
    /// added again is another replica than it was.
    pub added: u64,
}

impl Catalog {
    /// Whether the replicas of a shard elect its primary. Then the catalog names none: its
    /// `primary` is where the first is to be, or, as a node shows it to its own rooms, who was seen
    /// to lead.
    pub fn is_elected(&self, shard: &Shard) -> bool {
        let keyspace = self.keyspaces.get(&shard.keyspace);
        keyspace.is_some_and(|k| k.strategy.topology == Topology::Consensus)
    }

    /// The shards whose primary is named here.
    pub fn named(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        let all = self.shards.iter().map(|(id, shard)| (*id, shard));
        all.filter(|(_, shard)| !self.is_elected(shard))
    }

    /// A shard, if its primary is named here.
    pub fn named_shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(&id).filter(|shard| !self.is_elected(shard))
    }

    /// The keyspace called `name`.
    pub fn keyspace_named(&self, name: &str) -> Option<(KeyspaceId, &Keyspace)> {
        self.keyspaces
            .iter()
            .find(|(_, k)| k.name.as_str() == name)
            .map(|(id, k)| (*id, k))
    }

    /// The shard of `keyspace` that holds `key_slot`.
    pub fn shard_of_slot(&self, keyspace: KeyspaceId, key_slot: u16) -> Option<ShardId> {
        let shards = &self.keyspaces.get(&keyspace)?.shards;
        let at = shards.partition_point(|id| {
            self.shards
                .get(id)
                .is_some_and(|shard| shard.slots.1 < key_slot)
        });
        shards.get(at).copied()
    }

    /// The shard of `keyspace` that holds `key`.
    pub fn shard_of_key(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<ShardId> {
        self.shard_of_slot(keyspace, slot::of(key))
    }
}

impl Shard {
    /// Whether `node` holds a copy.
    pub fn has_replica(&self, node: &NodeId) -> bool {
        self.replica(node).is_some()
    }

    /// The copy on `node`.
    pub fn replica(&self, node: &NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|r| r.node == *node)
    }

    /// The replicas that count: all but those that are to take another's place.
    pub fn members(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|r| r.replaces.is_none())
    }
}
