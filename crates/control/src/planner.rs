//! Who is to hold which shard: what there is (the inventory) and what is wanted (the strategy)
//! → a plan that nobody changes any more.
//!
//! Each region gives its copies to the nodes that hold the fewest; of the copies in the
//! primary's region, the node with the fewest primaries takes the writes. Ties go to the
//! smaller id, so that every voter plans the same.

use model::{Catalog, DiskId, NodeId, Region, ShardId, catalog::Replica, slot, strategy::Strategy};
use std::collections::{BTreeMap, BTreeSet};

/// What a node carries already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Copies.
    pub replicas: usize,
    /// Of these, how many take writes.
    pub primaries: usize,
}

/// The nodes that there are, and what they carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    nodes: BTreeMap<NodeId, (Region, Load)>,
    disks: BTreeMap<NodeId, DiskId>,
    avoided: BTreeSet<NodeId>,
}

impl Inventory {
    /// As the catalog records it.
    pub fn of(catalog: &Catalog) -> Self {
        let mut nodes: BTreeMap<NodeId, (Region, Load)> = catalog
            .nodes
            .iter()
            .map(|(id, info)| (id.clone(), (info.region.clone(), Load::default())))
            .collect();
        for shard in catalog.shards.values() {
            for replica in &shard.replicas {
                if let Some((_, load)) = nodes.get_mut(&replica.node) {
                    load.replicas += 1;
                    load.primaries += usize::from(replica.node == shard.primary);
                }
            }
        }
        let disks = (catalog.nodes.iter()).map(|(id, info)| (id.clone(), info.disk));
        Inventory {
            nodes,
            disks: disks.collect(),
            avoided: BTreeSet::new(),
        }
    }

    /// The same, with nodes that are taken only where there are no others.
    pub fn avoiding(mut self, nodes: &[NodeId]) -> Self {
        self.avoided.extend(nodes.iter().cloned());
        self
    }

    /// Whether a node of `region` is there that need not be avoided.
    pub fn is_any_up(&self, region: &Region) -> bool {
        (self.nodes.iter()).any(|(id, (r, _))| r == region && !self.avoided.contains(id))
    }

    /// Where nodes stand, each region once.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.nodes.values().map(|(r, _)| r.clone()).collect();
        regions.sort();
        regions.dedup();
        regions
    }

    /// How many nodes stand in `region`.
    pub fn nodes_in(&self, region: &Region) -> usize {
        self.nodes.values().filter(|(r, _)| r == region).count()
    }

    /// Where `node` stands.
    pub fn region_of(&self, node: &NodeId) -> Option<&Region> {
        self.nodes.get(node).map(|(region, _)| region)
    }

    /// What `node` carries.
    pub fn load(&self, node: &NodeId) -> Option<Load> {
        self.nodes.get(node).map(|(_, load)| *load)
    }

    /// The `n` nodes of `region` that carry the least.
    pub(crate) fn least_loaded(&self, region: &Region, n: usize) -> Vec<NodeId> {
        let mut here: Vec<(bool, Load, &NodeId)> = self
            .nodes
            .iter()
            .filter(|(_, (r, _))| r == region)
            .map(|(id, (_, load))| (self.avoided.contains(id), *load, id))
            .collect();
        here.sort();
        let here = here.into_iter().take(n);
        here.map(|(_, _, id)| id.clone()).collect()
    }

    fn add(&mut self, node: &NodeId, is_primary: bool) {
        if let Some((_, load)) = self.nodes.get_mut(node) {
            load.replicas += 1;
            load.primaries += usize::from(is_primary);
        }
    }
}

/// A shard as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedShard {
    /// Its number.
    pub id: ShardId,
    /// Its slots, first and last.
    pub slots: (u16, u16),
    /// Who holds a copy, in the order of preference for the primary; the first is it.
    pub replicas: Vec<Replica>,
}

/// Who is to hold the shards of a keyspace, in the order of their slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The shards.
    pub shards: Vec<PlannedShard>,
}

/// A plan for `shards` shards, numbered from `first`. If the inventory can't give what the
/// strategy wants, the plan falls short, and [`crate::check::plan`] refuses it.
pub fn plan(inventory: &Inventory, strategy: &Strategy, shards: u16, first: ShardId) -> Plan {
    let mut inventory = inventory.clone();
    let shards = slot::ranges(shards)
        .zip(first.0..)
        .map(|(slots, id)| PlannedShard {
            id: ShardId(id),
            slots,
            replicas: place(&mut inventory, strategy),
        })
        .collect();
    Plan { shards }
}

/// Who is to take the place of a silent replica of `shard` in `region`: the node there that
/// carries the least and holds none, unless it is silent itself.
pub fn newcomer(
    catalog: &Catalog,
    shard: ShardId,
    region: &Region,
    silent: impl Fn(&NodeId) -> bool,
) -> Option<NodeId> {
    let shard = catalog.shards.get(&shard)?;
    Inventory::of(catalog)
        .least_loaded(region, usize::MAX)
        .into_iter()
        .find(|node| !shard.has_replica(node) && !silent(node))
}

fn place(inventory: &mut Inventory, strategy: &Strategy) -> Vec<Replica> {
    let home = &strategy.primary_region;
    let (at_home, away): (Vec<_>, Vec<_>) = strategy
        .placement
        .regions()
        .iter()
        .partition(|(region, _)| region == home);
    let mut replicas = Vec::new();
    for (region, copies) in at_home.into_iter().chain(away) {
        let mut nodes = inventory.least_loaded(region, usize::from(*copies));
        if region == home {
            nodes.sort_by_key(|id| {
                let load = inventory.load(id).map(|l| (l.primaries, l.replicas));
                (inventory.avoided.contains(id), load)
            });
        }
        for node in nodes {
            inventory.add(&node, replicas.is_empty());
            replicas.push(Replica {
                // Nothing is acknowledged yet: an empty disk holds all of it.
                disk: inventory.disks.get(&node).copied(),
                node,
                region: region.clone(),
                replaces: None,
            });
        }
    }
    replicas
}
