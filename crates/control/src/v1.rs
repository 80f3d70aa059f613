//! The first version of the catalog and of the commands, as they are still found on disks:
//! read, and turned into what they mean today. Nothing writes it.
//!
//! What it lacked: `FAILOVER` and `REPLACE_AFTER` of a keyspace (their defaults are taken), the
//! disks of replicas (those that their nodes came with last are taken), events.

use crate::command::{self, RequestId};
use model::{
    AckRule, DiskId, Epoch, Failover, KeyspaceId, KeyspaceName, NodeId, OnTimeout, Placement,
    Region, ShardId, Topology,
    catalog::{self, NodeInfo},
    strategy::{self, REPLACE_AFTER_DEFAULT},
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// The first byte.
pub(crate) const VERSION: u8 = 1;

#[derive(Deserialize)]
pub(crate) struct Proposal {
    request: RequestId,
    command: Command,
}

#[derive(Deserialize)]
enum Command {
    RegisterNode {
        id: NodeId,
        info: NodeInfo,
    },
    CreateKeyspace {
        name: KeyspaceName,
        strategy: Strategy,
        shards: u16,
    },
    DropKeyspace {
        name: KeyspaceName,
    },
    StartEpoch {
        shard: ShardId,
        node: NodeId,
        process: u64,
        disk: DiskId,
        expected: Epoch,
    },
    SetDegraded {
        shard: ShardId,
        epoch: Epoch,
        degraded: bool,
    },
}

#[derive(Deserialize)]
struct Strategy {
    topology: Topology,
    ack: AckRule,
    on_timeout: OnTimeout,
    timeout: Duration,
    placement: Placement,
    primary_region: Region,
}

#[derive(Deserialize)]
pub(crate) struct Catalog {
    version: u64,
    nodes: BTreeMap<NodeId, NodeInfo>,
    keyspaces: BTreeMap<KeyspaceId, Keyspace>,
    shards: BTreeMap<ShardId, Shard>,
    next_keyspace: u32,
    next_shard: u64,
}

#[derive(Deserialize)]
struct Keyspace {
    name: KeyspaceName,
    strategy: Strategy,
    shards: Vec<ShardId>,
}

#[derive(Deserialize)]
struct Shard {
    keyspace: KeyspaceId,
    slots: (u16, u16),
    replicas: Vec<Replica>,
    primary: NodeId,
    epoch: Epoch,
    process: u64,
    disk: DiskId,
    degraded: bool,
}

#[derive(Deserialize)]
struct Replica {
    node: NodeId,
    region: Region,
}

impl From<Proposal> for command::Proposal {
    fn from(old: Proposal) -> Self {
        let command = match old.command {
            Command::RegisterNode { id, info } => command::Command::RegisterNode { id, info },
            Command::CreateKeyspace {
                name,
                strategy,
                shards,
            } => command::Command::CreateKeyspace(command::CreateKeyspace {
                name,
                strategy: strategy.into(),
                shards,
                avoid: Vec::new(),
            }),
            Command::DropKeyspace { name } => command::Command::DropKeyspace { name },
            Command::StartEpoch {
                shard,
                node,
                process,
                disk,
                expected,
            } => command::Command::StartEpoch {
                shard,
                node,
                process,
                disk,
                expected,
            },
            Command::SetDegraded {
                shard,
                epoch,
                degraded,
            } => command::Command::SetDegraded {
                shard,
                epoch,
                degraded,
            },
        };
        command::Proposal {
            request: old.request,
            command,
        }
    }
}

impl From<Strategy> for strategy::Strategy {
    fn from(old: Strategy) -> Self {
        strategy::Strategy {
            failover: Failover::default_for(&old.ack),
            replace_after: REPLACE_AFTER_DEFAULT,
            topology: old.topology,
            ack: old.ack,
            on_timeout: old.on_timeout,
            timeout: old.timeout,
            placement: old.placement,
            primary_region: old.primary_region,
        }
    }
}

impl From<Catalog> for model::Catalog {
    fn from(old: Catalog) -> Self {
        let disk_of = |node: &NodeId| old.nodes.get(node).map(|info| info.disk);
        let shard = |shard: Shard| catalog::Shard {
            replicas: (shard.replicas.into_iter())
                .map(|r| catalog::Replica {
                    disk: disk_of(&r.node),
                    node: r.node,
                    region: r.region,
                    replaces: None,
                })
                .collect(),
            keyspace: shard.keyspace,
            slots: shard.slots,
            primary: shard.primary,
            epoch: shard.epoch,
            process: shard.process,
            disk: shard.disk,
            degraded: shard.degraded,
            decreed: None,
        };
        let shards = old.shards.into_iter().map(|(id, s)| (id, shard(s)));
        let shards = shards.collect();
        let keyspace = |keyspace: Keyspace| catalog::Keyspace {
            name: keyspace.name,
            strategy: keyspace.strategy.into(),
            shards: keyspace.shards,
        };
        let keyspaces = old.keyspaces.into_iter();
        model::Catalog {
            version: old.version,
            keyspaces: keyspaces.map(|(id, k)| (id, keyspace(k))).collect(),
            shards,
            next_keyspace: old.next_keyspace,
            next_shard: old.next_shard,
            nodes: old.nodes,
            ..model::Catalog::default()
        }
    }
}
