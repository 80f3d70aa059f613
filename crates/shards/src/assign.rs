//! What the catalog asks of this node: shards come, change and go with it.

use crate::{Output, Shards, damage::open_shard};
use model::{
    Catalog, DiskId, NodeId, ShardId, Topology,
    planted::{self, Bug},
};
use replication::{
    consensus::replica::{self as consensus, Consensus},
    primary_replica::{PrimaryReplica, Tuning},
    protocol::{Assignment, Election, Identity, Office, Primacy, Protocol},
};
use std::sync::Arc;
use storage::store::{CacheBudget, StoreError, Stores};

/// The caches in front of the shards' stores: each has the same part of what there is for all.
#[derive(Debug)]
pub(crate) struct Caches {
    all: CacheBudget,
    /// Among how many shards it is shared; 0: it is to be shared anew.
    among: usize,
}

impl Caches {
    pub(crate) fn new(all: CacheBudget) -> Self {
        Caches { all, among: 0 }
    }

    /// What there is for all: what a store is opened with, before it is given its part.
    pub(crate) fn all(&self) -> CacheBudget {
        self.all
    }

    /// There is a store that has not been given its part.
    pub(crate) fn share_anew(&mut self) {
        self.among = 0;
    }

    /// What each of so many shards gets from now on, if that is another part than before.
    fn share(&mut self, among: usize) -> Option<CacheBudget> {
        if std::mem::replace(&mut self.among, among) == among {
            return None;
        }
        let bytes = self.all.bytes / among.max(1) as u64;
        Some(CacheBudget { bytes })
    }
}

/// Who is to vote in a shard that elects its primary, on the disks that they are on now.
fn wanted(facts: &model::catalog::Shard, catalog: &Catalog) -> Vec<(NodeId, DiskId)> {
    let is_replaced = |node: &NodeId| {
        let mut newcomers = facts.replicas.iter().filter_map(|r| r.replaces.as_ref());
        newcomers.any(|gone| gone == node)
    };
    let stay = facts.replicas.iter().filter(|r| !is_replaced(&r.node));
    stay.filter_map(|r| Some((r.node.clone(), catalog.nodes.get(&r.node)?.boot.disk)))
        .collect()
}

/// The version of the catalog in which one of the shard's replicas was added, or the node of one has
/// registered its disk, last: with the shard's epoch that orders what was ever wanted of its members.
fn wanted_as_of(facts: &model::catalog::Shard, catalog: &Catalog) -> u64 {
    let present = facts
        .replicas
        .iter()
        .filter_map(|r| catalog.nodes.get(&r.node));
    let disks = present.filter_map(|info| catalog.disks.get(&info.boot.disk));
    let added = facts.replicas.iter().map(|r| r.added);
    disks
        .map(|disk| disk.version)
        .chain(added)
        .max()
        .unwrap_or(0)
}

/// The nodes that have started since.
fn started<'a>(before: &Catalog, now: &'a Catalog) -> Vec<&'a NodeId> {
    let boot = |catalog: &Catalog, node| catalog.nodes.get(node).map(|info| info.boot);
    let nodes = now.nodes.keys();
    nodes
        .filter(|node| boot(before, node) != boot(now, node))
        .collect()
}

impl<S: Stores, T> Shards<S, T> {
    /// A newer catalog is known: shards come, change and go with it.
    pub fn follow_catalog(&mut self, catalog: Arc<Catalog>) {
        let me = self.config.id.clone();
        let before = std::mem::replace(&mut self.catalog, catalog.clone());
        let added = |shard: &model::catalog::Shard| shard.replica(&me).map(|r| r.added);
        // Who elect a primary count votes by replica: what it was before is another.
        let is_another = |id: &ShardId, shard: &model::catalog::Shard| {
            let was = before.shards.get(id).and_then(added);
            catalog.is_elected(shard) && was.is_some() && was != added(shard)
        };
        let gone: Vec<ShardId> = self
            .all
            .keys()
            .filter(|id| {
                // Numbers are never used again: one that was given and isn't there was dropped.
                id.0 < catalog.next_shard
                    && catalog
                        .shards
                        .get(id)
                        .is_none_or(|shard| !shard.has_replica(&me) || is_another(id, shard))
            })
            .copied()
            .collect();
        for id in gone {
            match catalog.shards.contains_key(&id) {
                true => self.leave_shard(id),
                false => self.drop_shard(id),
            }
        }
        let started = started(&before, &catalog);
        for (id, facts) in &catalog.shards {
            let is_same = before.shards.get(id) == Some(facts)
                && !(catalog.is_elected(facts) && started.iter().any(|n| facts.has_replica(n)));
            if facts.has_replica(&me)
                && !(is_same && self.is_taken_up(*id))
                && let Err(error) = self.take_up(*id, facts, &catalog)
            {
                tracing::error!(shard = id.0, %error, "a shard could not be opened");
            }
        }
        self.share_cache();
    }

    /// Nothing of it is served here any more, for this reason.
    pub(crate) fn retire(&mut self, id: ShardId, why: &'static str) {
        let waiting = self
            .all
            .get_mut(&id)
            .map(|s| std::mem::take(&mut s.waiting));
        for waiting in waiting.into_iter().flatten() {
            self.give_up(id, waiting, why);
        }
        self.out.put(Output::Retired(id));
        self.log.forget(id);
        self.forget_rests(id);
        self.out.put(Output::Changed(id));
        self.unsettled.forget(id);
        self.copies.forget(id);
        self.rewinds.forget(id);
    }

    /// Shares the memory of caches, if there are more shards or fewer than when it was shared last.
    pub(crate) fn share_cache(&mut self) {
        let Some(budget) = self.caches.share(self.all.len()) else {
            return;
        };
        for shard in self.all.values_mut() {
            shard.store.set_cache_budget(budget);
        }
    }

    /// Whether a shard is as the catalog wants it, as long as that says the same of it.
    fn is_taken_up(&self, id: ShardId) -> bool {
        self.all.get(&id).is_some_and(|shard| {
            shard.assigned
                && shard.protocol.is_some()
                && shard.stopped.is_none()
                && shard.damaged.is_none()
                && !shard.store.is_installing()
        })
    }

    fn take_up(
        &mut self,
        id: ShardId,
        facts: &model::catalog::Shard,
        catalog: &Catalog,
    ) -> Result<(), StoreError> {
        let Some(keyspace) = catalog.keyspaces.get(&facts.keyspace) else {
            return Ok(());
        };
        if self.leaving.has(id) {
            return Ok(());
        }
        if !self.all.contains_key(&id) {
            let shard = open_shard(&self.stores, id, self.caches.all())?;
            self.all.insert(id, shard);
            self.caches.share_anew();
        }
        self.rewind_follows(id, &facts.primary);
        let Some(shard) = self.all.get_mut(&id) else {
            return Ok(());
        };
        shard.keyspace = Some(facts.keyspace);
        if shard.damaged.is_some() {
            self.heal(id);
            return Ok(());
        }
        if shard.stopped.is_some() {
            return Ok(());
        }
        let own_process = facts.process == self.config.boot.process;
        let in_office = facts.primary == self.config.id
            && (own_process || planted::is(Bug::ResumeInOldEpoch))
            && facts.disk == self.config.boot.disk
            && facts.epoch.0 > 0;
        let topology = keyspace.strategy.topology;
        shard.is_elected = topology == Topology::Consensus;
        let in_office = in_office && !shard.is_elected;
        let office = match topology {
            Topology::PrimaryReplica => Office::PrimaryReplica(Primacy {
                epoch: facts.epoch,
                primary: facts.primary.clone(),
                in_office,
                ack: keyspace.strategy.ack.clone(),
                on_timeout: keyspace.strategy.on_timeout,
                timeout: keyspace.strategy.timeout,
                degraded: facts.degraded,
                decreed: facts.decreed,
            }),
            Topology::Consensus => Office::Consensus(Election {
                preferred: Some(keyspace.strategy.primary_region.clone()),
                founding: facts.epoch.0 == 0,
                wish: (facts.epoch.0, wanted_as_of(facts, catalog)),
                wanted: wanted(facts, catalog),
            }),
        };
        let assignment = Assignment {
            shard: id,
            members: facts.replicas.clone(),
            office,
        };
        let installing = shard.store.is_installing();
        // It takes no office with a store that is no state that ever was.
        let ready = shard.store.is_serving() && !self.rewinds.is_past_return(id);
        let protocol = shard.protocol.get_or_insert_with(|| {
            let identity = Identity {
                node: self.config.id.clone(),
                region: self.config.region.clone(),
                shard: id,
                disk: self.config.boot.disk,
                boot: self.config.boot.nonce,
            };
            let found = shard.recovered.clone();
            let protocol: Box<dyn Protocol> = match topology {
                Topology::PrimaryReplica => {
                    Box::new(PrimaryReplica::new(identity, found, Tuning::default()))
                }
                Topology::Consensus => Box::new(Consensus::new(
                    identity,
                    found,
                    consensus::Tuning::default(),
                )),
            };
            protocol
        });
        if ready || !in_office {
            shard.assigned = true;
            protocol.assign(assignment, self.now);
            for replica in &facts.replicas {
                if self.terms.is_cut_off(&replica.node) {
                    protocol.link_changed(&replica.node, false, self.now);
                }
            }
        }
        self.unsettled.add(id);
        // Who elect a primary know best whose copy is good.
        if installing && topology == Topology::PrimaryReplica {
            self.start_copy(id, &facts.primary);
        }
        Ok(())
    }

    /// Takes up a shard whose copy is complete, or whose former one is gone.
    pub(crate) fn readopt(&mut self, id: ShardId, catalog: &Catalog) {
        if let Some(facts) = catalog.shards.get(&id)
            && facts.has_replica(&self.config.id)
            && let Err(error) = self.take_up(id, facts, catalog)
        {
            tracing::error!(shard = id.0, %error, "a shard could not be opened");
        }
        self.out.put(Output::ReportSoon);
    }
}
