//! The state machine: the next committed command, applied to the catalog. Deterministic: the
//! same commands give the same catalog on every voter.
//!
//! The catalog's version is the index of the last entry applied. A refused command changes
//! nothing else.

use crate::{
    check,
    command::{Command, CreateKeyspace, Proposal, RequestId, UnknownCommand},
    planner::{self, Inventory},
    policy,
    refusal::Refusal,
};
use model::{
    Catalog, DiskId, Epoch, KeyspaceId, KeyspaceName, NodeId, OnTimeout, ShardId,
    catalog::{Keyspace, NodeInfo, Shard},
};

/// The most nodes of a cluster.
pub const NODES_MAX: usize = 1024;
/// The most keyspaces of a cluster.
pub const KEYSPACES_MAX: usize = 4096;
/// The most shards of all keyspaces.
pub const SHARDS_ALL_MAX: usize = 16_384;
/// The longest name of a zone, in characters.
pub const ZONE_MAX: usize = 64;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node is, or stays, a member.
    NodeRegistered {
        /// Its id.
        id: NodeId,
    },
    /// The keyspace is there.
    KeyspaceCreated {
        /// Its number.
        id: KeyspaceId,
        /// Its shards, in the order of their slots.
        shards: Vec<ShardId>,
    },
    /// The keyspace is gone.
    KeyspaceDropped {
        /// Its number, never used again.
        id: KeyspaceId,
        /// Its shards, never used again.
        shards: Vec<ShardId>,
    },
    /// The primary may write in `epoch`, once its barrier is committed.
    EpochStarted {
        /// The shard.
        shard: ShardId,
        /// Its new epoch.
        epoch: Epoch,
    },
    /// The rule is suspended, or in force again.
    DegradedSet {
        /// The shard.
        shard: ShardId,
        /// Whether the rule is suspended.
        degraded: bool,
    },
}

/// What became of one entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose command it was.
    pub request: RequestId,
    /// What it did.
    pub result: Result<Outcome, Refusal>,
}

/// Applies the committed entry (`index`, `data`). None for an entry without data (a leader's
/// first). An error means that this node can't go on: see [`UnknownCommand`].
pub fn apply_entry(
    catalog: &mut Catalog,
    index: u64,
    data: &[u8],
) -> Result<Option<Applied>, UnknownCommand> {
    if data.is_empty() {
        catalog.version = catalog.version.max(index);
        return Ok(None);
    }
    let Proposal { request, command } = Proposal::decode(data)?;
    let result = apply(catalog, index, command);
    Ok(Some(Applied { request, result }))
}

/// Applies `command`, which the group committed at `index`.
pub fn apply(catalog: &mut Catalog, index: u64, command: Command) -> Result<Outcome, Refusal> {
    if index <= catalog.version {
        return Err(Refusal::AlreadyApplied {
            index,
            version: catalog.version,
        });
    }
    catalog.version = index;
    match command {
        Command::RegisterNode { id, info } => register_node(catalog, id, info),
        Command::CreateKeyspace(wanted) => create_keyspace(catalog, wanted),
        Command::DropKeyspace { name } => drop_keyspace(catalog, name),
        Command::StartEpoch {
            shard,
            node,
            process,
            disk,
            expected,
        } => start_epoch(catalog, shard, node, process, disk, expected),
        Command::SetDegraded {
            shard,
            epoch,
            degraded,
        } => set_degraded(catalog, shard, epoch, degraded),
    }
}

fn register_node(catalog: &mut Catalog, id: NodeId, info: NodeInfo) -> Result<Outcome, Refusal> {
    let length = info.zone.chars().count();
    if length > ZONE_MAX {
        let max = ZONE_MAX;
        return Err(Refusal::ZoneTooLong {
            node: id,
            length,
            max,
        });
    }
    for (other, known) in catalog.nodes.iter().filter(|(other, _)| **other != id) {
        let clashes = |what, cure| {
            Err(Refusal::NodeClashes {
                node: id.clone(),
                other: other.clone(),
                what,
                cure,
            })
        };
        if known.disk == info.disk {
            return clashes(
                "disk",
                "start it with a data directory of its own, not a copy",
            );
        }
        if other.number() == id.number() {
            return clashes("number", "give it another id");
        }
    }
    match catalog.nodes.get(&id) {
        None if catalog.nodes.len() >= NODES_MAX => {
            return Err(Refusal::Full {
                what: "nodes",
                max: NODES_MAX,
            });
        }
        Some(known) if known.region != info.region => {
            let holds = |shard: &&Shard| shard.has_replica(&id);
            let replicas = catalog.shards.values().filter(holds).count();
            if replicas > 0 {
                return Err(Refusal::NodeMoved {
                    from: known.region.clone(),
                    to: info.region,
                    node: id,
                    replicas,
                });
            }
        }
        _ => {}
    }
    catalog.nodes.insert(id.clone(), info);
    Ok(Outcome::NodeRegistered { id })
}

fn create_keyspace(catalog: &mut Catalog, wanted: CreateKeyspace) -> Result<Outcome, Refusal> {
    if catalog.keyspace_named(wanted.name.as_str()).is_some() {
        return Err(Refusal::KeyspaceExists { name: wanted.name });
    }
    let full = |what, max| Err(Refusal::Full { what, max });
    if catalog.keyspaces.len() >= KEYSPACES_MAX || catalog.next_keyspace == u32::MAX {
        return full("keyspaces", KEYSPACES_MAX);
    }
    if catalog.shards.len() + usize::from(wanted.shards) > SHARDS_ALL_MAX {
        return full("shards", SHARDS_ALL_MAX);
    }
    let inventory = Inventory::of(catalog);
    policy::check(&wanted, &inventory)?;
    let CreateKeyspace {
        name,
        strategy,
        shards,
    } = wanted;
    let plan = planner::plan(&inventory, &strategy, shards, ShardId(catalog.next_shard));
    let plan = check::plan(plan, &strategy, &inventory)?.into_plan();

    let id = KeyspaceId(catalog.next_keyspace);
    catalog.next_keyspace += 1;
    catalog.next_shard += u64::from(shards);
    let ids: Vec<ShardId> = plan.shards.iter().map(|s| s.id).collect();
    for planned in plan.shards {
        // Checked: a sound plan has a primary for each shard.
        let Some(primary) = planned.replicas.first().map(|r| r.node.clone()) else {
            continue;
        };
        let shard = Shard {
            keyspace: id,
            slots: planned.slots,
            replicas: planned.replicas,
            primary,
            epoch: Epoch(0),
            process: 0,
            disk: DiskId(0),
            degraded: false,
        };
        catalog.shards.insert(planned.id, shard);
    }
    let keyspace = Keyspace {
        name,
        strategy,
        shards: ids.clone(),
    };
    catalog.keyspaces.insert(id, keyspace);
    Ok(Outcome::KeyspaceCreated { id, shards: ids })
}

fn drop_keyspace(catalog: &mut Catalog, name: KeyspaceName) -> Result<Outcome, Refusal> {
    let Some((id, keyspace)) = catalog.keyspace_named(name.as_str()) else {
        let known = catalog.keyspaces.values().map(|k| k.name.clone()).collect();
        return Err(Refusal::UnknownKeyspace { name, known });
    };
    let shards = keyspace.shards.clone();
    for shard in &shards {
        catalog.shards.remove(shard);
    }
    catalog.keyspaces.remove(&id);
    Ok(Outcome::KeyspaceDropped { id, shards })
}

fn start_epoch(
    catalog: &mut Catalog,
    id: ShardId,
    node: NodeId,
    process: u64,
    disk: DiskId,
    expected: Epoch,
) -> Result<Outcome, Refusal> {
    let shard = shard_mut(catalog, id)?;
    if shard.primary != node {
        return Err(Refusal::NotPrimary {
            shard: id,
            node,
            primary: shard.primary.clone(),
        });
    }
    in_epoch(id, shard, expected)?;
    // Acknowledged writes are on the disk of the last epoch.
    if shard.epoch > Epoch(0) && shard.disk != disk {
        return Err(Refusal::OtherDisk {
            shard: id,
            node,
            found: disk,
            expected: shard.disk,
        });
    }
    shard.epoch = shard.epoch.next();
    shard.process = process;
    shard.disk = disk;
    Ok(Outcome::EpochStarted {
        shard: id,
        epoch: shard.epoch,
    })
}

fn set_degraded(
    catalog: &mut Catalog,
    id: ShardId,
    epoch: Epoch,
    degraded: bool,
) -> Result<Outcome, Refusal> {
    let keyspace = shard_mut(catalog, id)?.keyspace;
    let chosen = catalog.keyspaces.get(&keyspace);
    let on_timeout = chosen.map_or(OnTimeout::Block, |k| k.strategy.on_timeout);
    let shard = shard_mut(catalog, id)?;
    in_epoch(id, shard, epoch)?;
    if degraded && on_timeout != OnTimeout::Degrade {
        return Err(Refusal::MayNotDegrade {
            shard: id,
            on_timeout,
        });
    }
    shard.degraded = degraded;
    Ok(Outcome::DegradedSet {
        shard: id,
        degraded,
    })
}

fn shard_mut(catalog: &mut Catalog, id: ShardId) -> Result<&mut Shard, Refusal> {
    let unknown = Refusal::UnknownShard { shard: id };
    catalog.shards.get_mut(&id).ok_or(unknown)
}

fn in_epoch(id: ShardId, shard: &Shard, expected: Epoch) -> Result<(), Refusal> {
    if shard.epoch == expected {
        return Ok(());
    }
    Err(Refusal::StaleEpoch {
        shard: id,
        expected,
        current: shard.epoch,
        primary: shard.primary.clone(),
        process: shard.process,
    })
}
