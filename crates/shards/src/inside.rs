//! What tests of whole nodes see, and do, within the room. Nobody else does.

use crate::Shards;
use model::{Entry, EntryKind, Epoch, EpochHistory, ShardId};
use replication::protocol::Protocol;
use storage::store::{StoreError, Stores};

#[doc(hidden)]
#[allow(missing_docs, reason = "tests say what they want")]
impl<S: Stores, T> Shards<S, T> {
    /// How often a shard was settled, and how often one acted by itself.
    pub fn looks(&self) -> (u64, u64) {
        (self.unsettled.settled(), self.timers.fired())
    }

    /// A primary proposes an entry that changes nothing.
    pub fn propose_nothing(&mut self, id: ShardId) {
        if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
            let proposed = protocol.propose(EntryKind::Mutation, 0, b"", self.now);
            assert!(proposed.is_ok());
            self.unsettled.add(id);
        }
    }

    /// Takes a replica out of its shard's protocol, or puts it back.
    pub fn swap_protocol(
        &mut self,
        id: ShardId,
        protocol: Option<Box<dyn Protocol>>,
    ) -> Option<Box<dyn Protocol>> {
        let shard = self.all.get_mut(&id)?;
        std::mem::replace(&mut shard.protocol, protocol)
    }

    pub fn is_damaged(&self, id: ShardId) -> bool {
        self.all.get(&id).is_some_and(|s| s.damaged.is_some())
    }

    pub fn is_stopped_one(&self, id: ShardId) -> bool {
        self.all.get(&id).is_some_and(|s| s.stopped.is_some())
    }

    /// For which epoch a replica is sealed, as it knows and as the log has it.
    pub fn sealed(&self, id: ShardId) -> Option<(Epoch, Option<Epoch>)> {
        let shard = self.all.get(&id)?;
        Some((shard.recovered.sealed, shard.sealed.map(|(epoch, _)| epoch)))
    }

    pub fn flush_store(&mut self, id: ShardId) -> Option<Result<(), StoreError>> {
        Some(self.all.get_mut(&id)?.store.flush())
    }

    /// The lowest entry of a shard that the log holds.
    pub fn log_from(&self, id: ShardId) -> Option<u64> {
        Some(self.all.get(&id)?.log_index.first)
    }

    pub fn history(&self, id: ShardId) -> Option<EpochHistory> {
        let shard = self.all.get(&id)?;
        shard.protocol.as_ref().map(|s| s.history().clone())
    }

    pub fn entries(&mut self, id: ShardId, from: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        self.read_entries(id, from, bytes_max)
    }
}
