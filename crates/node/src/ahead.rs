//! Keys of commands that are about to come.
//!
//! A client that pipelines sends many commands at once. What the stores hold of their keys lies
//! far from the processor, and is fetched for all of them together before the first is evaluated.
//! Where looking up has meant to wait for a disk, what is in no memory is read on other threads,
//! also for a single command, and the client's commands come when that is through: the node's
//! thread goes on with those of others.
//!
//! ```text
//! client_ahead ─▶ take_prefetch ─▶ Prefetch::run   (other threads)
//!                                        │
//! commands ◀─ the client accepts ◀─ prefetched
//! ```
//! Nothing else depends on it: the keys are a guess.

use crate::node::{ConnId, Node};
use model::{Now, ShardId, slot};
use storage::store::{Prefetch, Stores, WARM_KEYS_MAX};

/// How many keys [`Node::client_ahead`] takes.
pub const AHEAD_MAX: usize = WARM_KEYS_MAX;

impl<S: Stores> Node<S> {
    /// The next commands of a client will probably name these keys, [`AHEAD_MAX`] at most. It
    /// may not accept them at once then.
    pub fn client_ahead(&mut self, conn: ConnId, keys: &[&[u8]]) {
        let Some(session) = self.sessions.get_mut(&conn.0) else {
            return;
        };
        let Some(facts) = self.catalog.keyspaces.get(&session.keyspace) else {
            return;
        };
        let mut fetch = |shard: ShardId, keys: &[&[u8]]| {
            let Some(shard) = self.shards.get(&shard) else {
                return;
            };
            if keys.len() > 1 {
                shard.store.warm(keys);
            }
            if let Some(prefetch) = shard.store.prefetch(keys) {
                session.prefetching += 1;
                self.prefetches.push_back((conn, prefetch));
            }
        };
        if let [only] = facts.shards[..] {
            return fetch(only, keys);
        }
        let mut of = [None; AHEAD_MAX];
        for (of, key) in of.iter_mut().zip(keys) {
            *of = self.catalog.shard_of_slot(session.keyspace, slot::of(key));
        }
        // However many shards there are, few keys are in few of them.
        for first in 0..keys.len().min(AHEAD_MAX) {
            let Some(shard) = of[first] else {
                continue;
            };
            let mut some = [&[][..]; AHEAD_MAX];
            let mut count = 0;
            for (key, of) in keys.iter().zip(&mut of) {
                if of.take_if(|of| *of == shard).is_some() {
                    some[count] = key;
                    count += 1;
                }
            }
            fetch(shard, &some[..count]);
        }
    }

    /// The next of what is to be read elsewhere, and for whom: `prefetched` says when it is.
    pub fn take_prefetch(&mut self) -> Option<(ConnId, Prefetch)> {
        self.prefetches.pop_front()
    }

    /// What was taken for `conn` is in memory, or its client may go on without.
    pub fn prefetched(&mut self, conn: ConnId, now: Now) {
        self.now = now;
        if let Some(session) = self.sessions.get_mut(&conn.0) {
            session.prefetching = session.prefetching.saturating_sub(1);
        }
        self.announce(conn.0);
    }
}
