//! The primary deletes keys whose time is over, and purges the dead cells of deleted ones.

use crate::{node::Node, tip::at_tip};
use commands::View;
use model::{EntryKind, ShardId, mutation::KeyKind};
use storage::store::Stores;

/// Keys that one entry expires, and rows that one entry purges.
const EXPIRE_KEYS: usize = 256;

impl<S: Stores> Node<S> {
    /// The primary deletes keys whose time is over, and purges dead cells.
    pub(crate) fn expire(&mut self) {
        let ids: Vec<ShardId> = self.shards.keys().copied().collect();
        for id in ids {
            if let Err(reason) = self.expire_shard(id) {
                self.stop_shard(id, reason);
            }
        }
    }

    fn expire_shard(&mut self, id: ShardId) -> Result<(), String> {
        if self.disk_is_full() || !self.may_act(id) {
            return Ok(());
        }
        let Some(shard) = self.shards.get_mut(&id) else {
            return Ok(());
        };
        let Some(strategy) = &mut shard.strategy else {
            return Ok(());
        };
        if !shard.store.is_serving() {
            return Ok(());
        }
        let now_ms = strategy.close(self.now).ms();
        let due = shard
            .store
            .expired(now_ms, EXPIRE_KEYS)
            .map_err(|e| e.to_string())?;
        let view = at_tip(&shard.tip, &shard.store);
        self.mutation.clear();
        for key in &due {
            if let Some(header) = view.header(key).map_err(|e| e.to_string())?
                && header.kind != KeyKind::Tombstone
                && header.is_expired(now_ms)
            {
                self.mutation.delete(key, &header);
            }
        }
        // Dead cells are purged only while nothing is in flight, not even what was proposed in
        // this turn: what the store shows is then what the next entry meets.
        let tip = strategy.state(self.now).tip;
        if self.mutation.is_empty() && tip.index == shard.store.applied().position.index {
            let dead = shard
                .store
                .to_purge(EXPIRE_KEYS)
                .map_err(|e| e.to_string())?;
            if let Some((key, fields)) = dead {
                if fields.is_empty() {
                    if let Some(header) = shard.store.header(&key).map_err(|e| e.to_string())? {
                        self.mutation.finish_purge(&key, &header);
                    }
                } else {
                    self.mutation
                        .remove_fields(&key, None, fields.iter().map(AsRef::as_ref));
                }
            }
        }
        if self.mutation.is_empty() {
            return Ok(());
        }
        let (ops, payload) = (self.mutation.ops(), self.mutation.bytes());
        if let Ok(entry) = strategy.propose(EntryKind::Mutation, ops, payload, self.now) {
            self.dirty.insert(id);
            shard.proposed(&entry).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}
