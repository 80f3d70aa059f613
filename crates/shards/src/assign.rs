//! What the catalog asks of this node: shards come, change and go with it.
//!
//! A copy goes in two steps, once nothing in it is left to save (`leaving`): the log is told that all that it holds of the shard is forgotten
//! (RESET), and once that is durable the store is destroyed. So a start finds both, or none: what
//! the log still holds never follows upon a store that is gone, nor upon one that came later.

use crate::{Output, Shards, damage::open_shard, shard};
use model::{
    Catalog, ShardId,
    planted::{self, Bug},
};
use replication::{
    primary_replica::{PrimaryReplica, Tuning},
    strategy::{Assignment, Identity},
};
use std::sync::Arc;
use storage::{
    log::Lsn,
    store::{CacheBudget, StoreError, Stores},
};

impl<S: Stores, T> Shards<S, T> {
    /// A newer catalog is known: shards come, change and go with it.
    pub fn follow_catalog(&mut self, catalog: Arc<Catalog>) {
        let me = self.config.id.clone();
        let before = std::mem::replace(&mut self.catalog, catalog.clone());
        let gone: Vec<ShardId> = self
            .all
            .keys()
            .filter(|id| {
                // Numbers are never used again: one that was given and isn't there was dropped.
                id.0 < catalog.next_shard
                    && catalog
                        .shards
                        .get(id)
                        .is_none_or(|shard| !shard.has_replica(&me))
            })
            .copied()
            .collect();
        for id in gone {
            match catalog.shards.contains_key(&id) {
                true => self.leave_shard(id),
                false => self.drop_shard(id),
            }
        }
        for (id, facts) in &catalog.shards {
            if facts.has_replica(&me)
                && !(before.shards.get(id) == Some(facts) && self.is_taken_up(*id))
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
        self.dirty.remove(&id);
        self.copies.forget(id);
        self.rewinds.forget(id);
    }

    /// Its keyspace was dropped, or another node has taken this one's place and nothing is left
    /// to save.
    pub(crate) fn drop_shard(&mut self, id: ShardId) {
        let why = match self.catalog.shards.contains_key(&id) {
            true => "another node holds its shard now",
            false => "the keyspace was dropped",
        };
        self.retire(id, why);
        self.leaving.remove(&id);
        self.all.remove(&id);
        match self.append_shard(id, shard::RESET, &0u64.to_le_bytes()) {
            Ok(lsn) => self.dropping.push_back((lsn, id)),
            Err(error) => self.stop(format!("the log takes nothing more: {error}")),
        }
    }

    /// The log is durable up to `durable`: the stores that it forgets go.
    pub(crate) fn drops_durable(&mut self, durable: Lsn) {
        while self
            .dropping
            .front()
            .is_some_and(|(lsn, _)| *lsn <= durable)
            && let Some((_, id)) = self.dropping.pop_front()
        {
            if let Err(error) = self.stores.destroy(id) {
                tracing::error!(shard = id.0, %error, "the data of a dropped shard could not be removed");
            }
            // It may have been given a place in the same shard meanwhile.
            let catalog = self.catalog.clone();
            self.readopt(id, &catalog);
        }
    }

    /// Every shard's cache gets the same part of what there is for all.
    pub(crate) fn share_cache(&mut self) {
        if std::mem::replace(&mut self.touched.share_a_cache, self.all.len()) == self.all.len() {
            return;
        }
        let all = self.config.cache.bytes;
        let bytes = all / self.all.len().max(1) as u64;
        for shard in self.all.values_mut() {
            shard.store.set_cache_budget(CacheBudget { bytes });
        }
    }

    /// Whether a shard is as the catalog wants it, as long as that says the same of it.
    fn is_taken_up(&self, id: ShardId) -> bool {
        self.all.get(&id).is_some_and(|shard| {
            shard.assigned
                && shard.strategy.is_some()
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
        if self.leaving.contains_key(&id) || self.dropping.iter().any(|(_, d)| *d == id) {
            return Ok(());
        }
        if !self.all.contains_key(&id) {
            let shard = open_shard(&self.stores, id, self.config.cache)?;
            self.all.insert(id, shard);
            self.touched.share_a_cache = 0;
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
        let assignment = Assignment {
            shard: id,
            epoch: facts.epoch,
            primary: facts.primary.clone(),
            in_office,
            members: facts.replicas.clone(),
            ack: keyspace.strategy.ack.clone(),
            on_timeout: keyspace.strategy.on_timeout,
            timeout: keyspace.strategy.timeout,
            degraded: facts.degraded,
            decreed: facts.decreed,
        };
        let installing = shard.store.is_installing();
        // It takes no office with a store that is no state that ever was.
        let ready = shard.store.is_serving() && !self.rewinds.is_past_return(id);
        let strategy = shard.strategy.get_or_insert_with(|| {
            let identity = Identity {
                node: self.config.id.clone(),
                region: self.config.region.clone(),
                shard: id,
                disk: self.config.boot.disk,
                boot: self.config.boot.nonce,
            };
            let recovered = shard.recovered.clone();
            Box::new(PrimaryReplica::new(identity, recovered, Tuning::default()))
        });
        if ready || !in_office {
            shard.assigned = true;
            strategy.assign(assignment, self.now);
            for replica in &facts.replicas {
                if self.terms.is_cut_off(&replica.node) {
                    strategy.link_changed(&replica.node, false, self.now);
                }
            }
        }
        self.dirty.insert(id);
        if installing {
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
