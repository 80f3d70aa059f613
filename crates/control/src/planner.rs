//! Who is to hold which shard: what there is (the inventory) and what is wanted (the strategy)
//! → a plan that nobody changes any more.
//!
//! Each region gives its copies to the nodes that hold the fewest; of the copies in the
//! primary's region, the node with the fewest primaries takes the writes. Ties go to the
//! smaller id, so that every voter plans the same.

use model::{Catalog, DiskId, NodeId, Region, ShardId, catalog::Replica, slot, strategy::Strategy};
use std::collections::BTreeMap;

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
    nodes: BTreeMap<NodeId, Known>,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    region: Region,
    disk: DiskId,
    load: Load,
    /// It is taken only where there are no others.
    avoided: bool,
}

impl Inventory {
    /// As the catalog records it.
    pub fn of(catalog: &Catalog) -> Self {
        let mut nodes: BTreeMap<NodeId, Known> = BTreeMap::new();
        for (id, info) in &catalog.nodes {
            let known = Known {
                region: info.region.clone(),
                disk: info.boot.disk,
                load: Load::default(),
                avoided: false,
            };
            nodes.insert(id.clone(), known);
        }
        let mut inventory = Inventory { nodes };
        for shard in catalog.shards.values() {
            for replica in &shard.replicas {
                inventory.add(&replica.node, replica.node == shard.primary);
            }
        }
        inventory
    }

    /// The same, with nodes that are taken only where there are no others.
    pub fn avoiding(mut self, nodes: &[NodeId]) -> Self {
        for node in nodes {
            if let Some(known) = self.nodes.get_mut(node) {
                known.avoided = true;
            }
        }
        self
    }

    fn in_region(&self, region: &Region) -> impl Iterator<Item = (&NodeId, &Known)> {
        self.nodes.iter().filter(move |(_, n)| n.region == *region)
    }

    /// Whether a node of `region` is there that need not be avoided.
    pub fn is_any_up(&self, region: &Region) -> bool {
        self.in_region(region).any(|(_, n)| !n.avoided)
    }

    /// Where nodes stand, each region once.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.nodes.values().map(|n| n.region.clone()).collect();
        regions.sort();
        regions.dedup();
        regions
    }

    /// How many nodes stand in `region`.
    pub fn nodes_in(&self, region: &Region) -> usize {
        self.in_region(region).count()
    }

    /// Where `node` stands.
    pub fn region_of(&self, node: &NodeId) -> Option<&Region> {
        self.nodes.get(node).map(|n| &n.region)
    }

    /// What `node` carries.
    pub fn load(&self, node: &NodeId) -> Option<Load> {
        self.nodes.get(node).map(|n| n.load)
    }

    /// The `n` nodes of `region` that carry the least.
    fn least_loaded(&self, region: &Region, n: usize) -> Vec<NodeId> {
        let mut here: Vec<(&NodeId, &Known)> = self.in_region(region).collect();
        here.sort_by_key(|(id, known)| (known.avoided, known.load, *id));
        here.into_iter().take(n).map(|(id, _)| id.clone()).collect()
    }

    fn add(&mut self, node: &NodeId, is_primary: bool) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.load.replicas += 1;
            known.load.primaries += usize::from(is_primary);
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
                let known = inventory.nodes.get(id);
                known.map(|n| (n.avoided, n.load.primaries, n.load.replicas))
            });
        }
        for node in nodes {
            inventory.add(&node, replicas.is_empty());
            replicas.push(Replica {
                // Nothing is acknowledged yet: an empty disk holds all of it.
                disk: inventory.nodes.get(&node).map(|n| n.disk),
                node,
                region: region.clone(),
                replaces: None,
                added: 0,
            });
        }
    }
    replicas
}
