//! Whether a plan is sound, and whether a whole catalog is. A plan is only carried out as a
//! [`CheckedPlan`]: holding one is the proof.

use crate::{
    failover::{self, Promotion, Why},
    planner::{Inventory, Plan},
};
use model::{
    Catalog, DiskId, KeyspaceId, NodeId, Position, Region, ShardId,
    catalog::{Keyspace, Replica, Shard},
    slot::SLOTS,
    strategy::Strategy,
};
use std::collections::BTreeSet;

/// What is wrong with a plan or a catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// A node would hold two copies.
    #[error("shard {shard} has two copies on {node}")]
    DuplicateNode {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
    },
    /// Not as many copies as the placement says.
    #[error("shard {shard} has {found} copies in {region}, not {wanted}")]
    WrongCount {
        /// The shard.
        shard: ShardId,
        /// The region.
        region: Region,
        /// How many there are.
        found: usize,
        /// How many there should be.
        wanted: u16,
    },
    /// A node that is not there, or not where the copy says.
    #[error("shard {shard} has a copy on {node} in {region}, where that node is not")]
    WrongRegion {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
        /// Where it is said to be.
        region: Region,
    },
    /// The primary is missing or abroad.
    #[error("shard {shard} has no primary among its copies in {region}")]
    NoPrimary {
        /// The shard.
        shard: ShardId,
        /// The primary's region.
        region: Region,
    },
    /// Slots are missing or held twice.
    #[error("slot {slot} is not held by exactly one shard")]
    Slots {
        /// The first such slot.
        slot: u16,
    },
    /// A primary may not be named so.
    #[error("{node} may not become primary of shard {shard}: {what}")]
    Promotion {
        /// The shard.
        shard: ShardId,
        /// Who was to be named.
        node: NodeId,
        /// What is wrong.
        what: &'static str,
    },
    /// The keyspace has `FAILOVER safe`, and it would not be.
    #[error(transparent)]
    MayLose(#[from] Why),
    /// Numbers that don't fit together.
    #[error("the catalog contradicts itself: {what}")]
    Catalog {
        /// What.
        what: &'static str,
    },
}

/// A plan that is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPlan(Plan);

impl CheckedPlan {
    /// The plan.
    pub fn into_plan(self) -> Plan {
        self.0
    }
}

/// Whether `plan` gives `strategy` on the nodes of `inventory`.
pub fn plan(
    plan: Plan,
    strategy: &Strategy,
    inventory: &Inventory,
) -> Result<CheckedPlan, Unsound> {
    covers_slots(plan.shards.iter().map(|s| s.slots))?;
    for shard in &plan.shards {
        let region_of = |node: &NodeId| inventory.region_of(node);
        replicas(shard.id, &shard.replicas, strategy, region_of)?;
        let home = &strategy.primary_region;
        if shard.replicas.first().is_none_or(|r| r.region != *home) {
            return Err(Unsound::NoPrimary {
                shard: shard.id,
                region: home.clone(),
            });
        }
    }
    Ok(CheckedPlan(plan))
}

/// A promotion that may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPromotion {
    /// Which process of the new primary was heard.
    pub process: u64,
    /// On which disk.
    pub disk: DiskId,
    /// The last entry that it was heard to hold.
    pub last: Position,
    /// Why something that was acknowledged may be lost; None: nothing is.
    pub may_lose: Option<Why>,
    /// Whether every member was heard whose disk is still there: what may be lost is nowhere.
    pub is_everyone: bool,
}

/// Whether `plan` may be carried out on `shard`, of `keyspace`, in whose epoch it was made: by
/// the plan's own evidence the one it names is sealed and on its disk, nobody that was heard has
/// more, and nothing acknowledged is lost unless the keyspace takes that.
pub fn promotion(
    plan: &Promotion,
    shard: &Shard,
    keyspace: &Keyspace,
    nodes: &failover::Nodes,
) -> Result<CheckedPromotion, Unsound> {
    let unsound = |what| Unsound::Promotion {
        shard: plan.shard,
        node: plan.node.clone(),
        what,
    };
    let mut seen = BTreeSet::new();
    if !plan.heard.iter().all(|h| seen.insert(&h.node)) {
        return Err(unsound("one replica is counted twice"));
    }
    let counted = failover::counted(shard, &plan.heard);
    let named = counted.iter().find(|(h, _)| h.node == plan.node);
    let Some((named, member)) = named else {
        return Err(unsound(
            "it was not heard, sealed, as a member on the disk that the catalog has for it",
        ));
    };
    if !failover::may_lead_from(keyspace, &member.region) {
        return Err(unsound("the rule promises nothing where it stands"));
    }
    if failover::may_lead(keyspace, &counted).any(|(h, _)| h.last > named.last) {
        return Err(unsound("another that was heard has more"));
    }
    let rule = &keyspace.strategy.ack;
    let may_lose = failover::is_safe(plan.shard, shard, rule, &counted, named).err();
    match may_lose {
        Some(why) if failover::must_wait(shard, keyspace, &counted, nodes, &why) => Err(why.into()),
        may_lose => Ok(CheckedPromotion {
            is_everyone: failover::is_everyone(shard, &counted, nodes),
            process: named.process,
            disk: named.disk,
            last: named.last,
            may_lose,
        }),
    }
}

fn covers_slots(ranges: impl Iterator<Item = (u16, u16)>) -> Result<(), Unsound> {
    let mut next = 0;
    for (from, to) in ranges {
        if from != next || to < from || to >= SLOTS {
            return Err(Unsound::Slots { slot: next });
        }
        next = to + 1;
    }
    if next == SLOTS {
        Ok(())
    } else {
        Err(Unsound::Slots { slot: next })
    }
}

fn replicas<'a>(
    shard: ShardId,
    replicas: &[Replica],
    strategy: &Strategy,
    region_of: impl Fn(&NodeId) -> Option<&'a Region>,
) -> Result<(), Unsound> {
    let mut seen = BTreeSet::new();
    for r in replicas {
        if !seen.insert(&r.node) {
            return Err(Unsound::DuplicateNode {
                shard,
                node: r.node.clone(),
            });
        }
        let placed = strategy.placement.in_region(&r.region) > 0;
        if !placed || region_of(&r.node) != Some(&r.region) {
            return Err(Unsound::WrongRegion {
                shard,
                node: r.node.clone(),
                region: r.region.clone(),
            });
        }
    }
    for newcomer in replicas {
        let Some(gone) = &newcomer.replaces else {
            continue;
        };
        let place =
            |r: &Replica| r.node == *gone && r.region == newcomer.region && r.replaces.is_none();
        let rivals = replicas.iter().filter(|r| r.replaces == newcomer.replaces);
        if !replicas.iter().any(place) || rivals.count() > 1 {
            return Err(Unsound::Catalog {
                what: "a replica takes the place of one that is not there, or that another takes",
            });
        }
    }
    for (region, wanted) in strategy.placement.regions() {
        // Who is to take another's place is not counted beside it.
        let counts = |r: &&Replica| r.region == *region && r.replaces.is_none();
        let found = replicas.iter().filter(counts).count();
        if found != usize::from(*wanted) {
            return Err(Unsound::WrongCount {
                shard,
                region: region.clone(),
                found,
                wanted: *wanted,
            });
        }
    }
    Ok(())
}

/// Whether all that the catalog says fits together: slots covered once, copies on distinct
/// nodes and as placed, primaries among them, names and numbers used once.
pub fn catalog(catalog: &Catalog) -> Result<(), Unsound> {
    let contradiction = |what| Err(Unsound::Catalog { what });
    if catalog
        .nodes
        .values()
        .any(|info| !info.levels.holds(catalog.level))
    {
        return contradiction("a node is registered that can't work at the feature level");
    }
    let mut names = BTreeSet::new();
    let mut owned = BTreeSet::new();
    for (id, keyspace) in &catalog.keyspaces {
        if id.0 >= catalog.next_keyspace {
            return contradiction("a keyspace has a number that was not given yet");
        }
        if !names.insert(&keyspace.name) {
            return contradiction("two keyspaces have one name");
        }
        let mut ranges = Vec::new();
        for shard_id in &keyspace.shards {
            let Some(shard) = catalog.shards.get(shard_id) else {
                return contradiction("a keyspace names a shard that is not there");
            };
            if !owned.insert(*shard_id) || shard.keyspace != *id {
                return contradiction("a shard is of two keyspaces");
            }
            ranges.push(shard.slots);
            let region_of = |node: &NodeId| catalog.nodes.get(node).map(|n| &n.region);
            replicas(*shard_id, &shard.replicas, &keyspace.strategy, region_of)?;
            if !shard.members().any(|r| r.node == shard.primary) {
                return Err(Unsound::NoPrimary {
                    shard: *shard_id,
                    region: keyspace.strategy.primary_region.clone(),
                });
            }
        }
        covers_slots(ranges.into_iter())?;
    }
    if catalog.shards.keys().any(|id| !owned.contains(id)) {
        return contradiction("a shard is of no keyspace");
    }
    if catalog.shards.keys().any(|id| id.0 >= catalog.next_shard) {
        return contradiction("a shard has a number that was not given yet");
    }
    Ok(())
}

/// Whether `after` may follow `before`: versions, epochs and numbers only grow.
pub fn succession(before: &Catalog, after: &Catalog) -> Result<(), Unsound> {
    let contradiction = |what| Err(Unsound::Catalog { what });
    if after.version < before.version {
        return contradiction("the version went back");
    }
    if after.last_promotion < before.last_promotion || after.last_promotion > after.version {
        return contradiction("the version of the last failover is wrong");
    }
    if after.level < before.level {
        return contradiction("the feature level went back");
    }
    if after.next_keyspace < before.next_keyspace || after.next_shard < before.next_shard {
        return contradiction("numbers are given twice");
    }
    let returned =
        |id: &KeyspaceId| id.0 < before.next_keyspace && !before.keyspaces.contains_key(id);
    if after.keyspaces.keys().any(returned) {
        return contradiction("the number of a dropped keyspace came back");
    }
    for (id, shard) in &after.shards {
        match before.shards.get(id) {
            Some(old) if shard.epoch < old.epoch => return contradiction("an epoch went back"),
            None if id.0 < before.next_shard => {
                return contradiction("the number of a dropped shard came back");
            }
            _ => {}
        }
    }
    Ok(())
}
