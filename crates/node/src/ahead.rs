//! What commands that are about to come look up.
//!
//! A client that pipelines sends many commands at once. What the stores hold of their keys, and of
//! fields of large hashes, lies far from the processor, and is fetched for all of them together
//! before the first is evaluated.
//! Where looking up has meant to wait for a disk, what is in no memory is read on other threads,
//! also for a single command, and the client's commands come when that is through: the node's
//! thread goes on with those of others.
//!
//! ```text
//! client_ahead ─▶ take_prefetch ─▶ Prefetch::run   (other threads)
//!                                        │
//! commands ◀─ the client accepts ◀─ prefetched
//! ```
//! Nothing else depends on it: it is a guess.

use crate::node::{ConnId, Node};
use model::{Now, ShardId, slot};
use storage::store::{Guess, Prefetch, Stores, WARM_KEYS_MAX};

/// How many guesses [`Node::client_ahead`] takes.
pub const AHEAD_MAX: usize = WARM_KEYS_MAX;

impl<S: Stores> Node<S> {
    /// The next commands of a client will probably look these up, [`AHEAD_MAX`] at most. It may
    /// not accept them at once then.
    pub fn client_ahead(&mut self, conn: ConnId, guesses: &[Guess<'_>]) {
        if self.shards.stalled_for().is_some() {
            return;
        }
        let Some(keyspace) = self.gate.keyspace_of(conn.0) else {
            return;
        };
        let Some(facts) = self.catalog.keyspaces.get(&keyspace) else {
            return;
        };
        let mut fetch = |shard: ShardId, guesses: &[Guess<'_>]| {
            let Some(replica) = self.shards.replica(shard) else {
                return;
            };
            if guesses.len() > 1 {
                replica.store().warm(guesses);
            }
            if let Some(prefetch) = replica.store().prefetch(guesses) {
                self.gate.prefetching(conn.0);
                self.prefetches.push_back((conn, prefetch));
            }
        };
        if let [only] = facts.shards[..] {
            return fetch(only, guesses);
        }
        let mut of = [None; AHEAD_MAX];
        for (of, guess) in of.iter_mut().zip(guesses) {
            let slot = slot::of(guess.key);
            *of = self.catalog.shard_of_slot(keyspace, slot);
        }
        // However many shards there are, few keys are in few of them.
        for first in 0..guesses.len().min(AHEAD_MAX) {
            let Some(shard) = of[first] else {
                continue;
            };
            let mut some = [Guess::default(); AHEAD_MAX];
            let mut count = 0;
            for (guess, of) in guesses.iter().zip(&mut of) {
                if of.take_if(|of| *of == shard).is_some() {
                    some[count] = *guess;
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
        self.arrives(now);
        self.with_gate(|gate, _| gate.prefetched(conn.0));
    }
}
