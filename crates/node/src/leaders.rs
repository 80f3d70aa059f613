//! Who leads the shards whose replicas elect their primary, as this node sees it: by its own replica,
//! or by what the nodes say that hold one.
//!
//! The catalog can't know, and need not: a leader is elected while the control group is away. What this
//! node gives its rooms is the catalog with who was seen in it, so that whoever asks it for a shard's
//! primary finds who takes the writes.

use crate::node::Node;
use model::{Catalog, DiskId, NodeId, ShardId, catalog::Shard};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use storage::store::Stores;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    /// Who was seen last.
    seen: BTreeMap<ShardId, NodeId>,
    /// Elected shards of which no copy is here that takes part: others have to say who leads.
    elsewhere: BTreeSet<ShardId>,
    /// Somebody else was seen since the rooms were told.
    is_news: bool,
    /// What the cluster has agreed on.
    agreed: Arc<Catalog>,
}

impl Leaders {
    /// The catalog with who was seen to lead.
    fn shown(&self) -> Arc<Catalog> {
        let catalog = &self.agreed;
        let holds = |catalog: &Catalog, id, node: &NodeId| {
            catalog.shards.get(id).is_some_and(|shard| {
                shard.has_replica(node) && shard.primary != *node && catalog.is_elected(shard)
            })
        };
        let mut shown = catalog.clone();
        for (id, node) in &self.seen {
            if holds(catalog, id, node)
                && let Some(shard) = Arc::make_mut(&mut shown).shards.get_mut(id)
            {
                shard.primary = node.clone();
            }
        }
        shown
    }

    /// `me`: this node, and the disk that it is on: on another one it is none of the members.
    fn follow(&mut self, catalog: Arc<Catalog>, me: (&NodeId, DiskId)) {
        let is_there = |id: &ShardId| catalog.shards.contains_key(id);
        self.seen.retain(|id, _| is_there(id));
        let elected = (catalog.shards.iter()).filter(|(_, shard)| catalog.is_elected(shard));
        let (node, disk) = me;
        let takes_part =
            |shard: &Shard| (shard.replica(node)).is_some_and(|r| r.disk == Some(disk));
        let elsewhere = elected.filter(|(_, shard)| !takes_part(shard));
        self.elsewhere = elsewhere.map(|(id, _)| *id).collect();
        self.agreed = catalog;
    }

    pub(crate) fn saw(&mut self, shard: ShardId, leader: NodeId) {
        if self.seen.get(&shard) != Some(&leader) {
            self.seen.insert(shard, leader);
            self.is_news = true;
        }
    }
}

impl<S: Stores> Node<S> {
    /// A newer catalog is known.
    pub(crate) fn catalog_adopted(&mut self, catalog: Arc<Catalog>) {
        let me = (&self.config.id, self.shards.disk());
        self.leaders.follow(catalog, me);
        let shown = self.leaders.shown();
        self.follow_catalog(shown);
    }

    /// Who leads is looked for where nobody here knows, and the rooms are told of whom is new.
    pub(crate) fn leaders_tick(&mut self) {
        for id in self.leaders.elsewhere.clone() {
            // A replica here knows best, also while it is no member yet: the last report of a node
            // that was replaced says that it leads.
            if let Some(leader) = self.shards.leader(id) {
                self.leaders.saw(id, leader.clone());
                continue;
            }
            let Some(facts) = self.catalog.shards.get(&id) else {
                continue;
            };
            if self.cluster.is_primary_at(&facts.primary, id) {
                continue;
            }
            let mut holders = facts.replicas.iter();
            let leader = holders.find(|r| self.cluster.is_primary_at(&r.node, id));
            if let Some(leader) = leader.map(|r| r.node.clone()) {
                self.leaders.saw(id, leader);
            }
        }
        if std::mem::take(&mut self.leaders.is_news) {
            let shown = self.leaders.shown();
            self.follow_catalog(shown);
        }
    }
}
