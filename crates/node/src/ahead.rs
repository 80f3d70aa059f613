//! Keys of commands that are about to come.
//!
//! A client that pipelines sends many commands at once. What the stores hold of their keys lies
//! far from the processor, and is fetched for all of them together before the first is evaluated.
//! Nothing depends on it: the keys are a guess.

use crate::node::{ConnId, Node};
use model::{ShardId, slot};
use storage::store::{Stores, WARM_KEYS_MAX};

/// How many keys [`Node::client_ahead`] takes.
pub const AHEAD_MAX: usize = WARM_KEYS_MAX;

impl<S: Stores> Node<S> {
    /// The next commands of a client will probably name these keys, [`AHEAD_MAX`] at most.
    pub fn client_ahead(&self, conn: ConnId, keys: &[&[u8]]) {
        let keyspace = self.sessions.get(&conn.0).map(|session| session.keyspace);
        let facts = keyspace.and_then(|id| self.catalog.keyspaces.get(&id));
        let (Some(keyspace), Some(facts)) = (keyspace, facts) else {
            return;
        };
        if let [only] = facts.shards[..] {
            return self.warm(only, keys);
        }
        let mut of = [None; AHEAD_MAX];
        for (of, key) in of.iter_mut().zip(keys) {
            *of = self.catalog.shard_of_slot(keyspace, slot::of(key));
        }
        for shard in &facts.shards {
            let mut some = [&[][..]; AHEAD_MAX];
            let mut count = 0;
            for (key, _) in keys.iter().zip(of).filter(|(_, of)| *of == Some(*shard)) {
                some[count] = key;
                count += 1;
            }
            self.warm(*shard, &some[..count]);
        }
    }

    fn warm(&self, shard: ShardId, keys: &[&[u8]]) {
        if let Some(shard) = self.shards.get(&shard) {
            shard.store.warm(keys);
        }
    }
}
