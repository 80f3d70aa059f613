//! Replies that wait for what they show to be committed, and giving them up. They are looked at
//! again when something is applied or a lease comes, and by the tick for their deadline.

use crate::{Output, Shards, shard::Waiting};
use bytes::Bytes;
use model::{OnTimeout, Position, ShardId};
use std::{collections::VecDeque, time::Duration};
use storage::store::Stores;

/// How long after the end of its lease a primary keeps what it can't acknowledge.
const LAPSE_MAX: Duration = Duration::from_millis(850);
/// Why a write is given up that a primary without a lease has taken.
const LAPSED: &str =
    "this node can't reach most of the control group's voters, and another may be primary by now";
/// Why a write is given up that an elected primary has taken and its successor has not.
const OVERWRITTEN: &str = "another node became the shard's primary, and did not have it";
/// The same where it asks for none.
const STALLED: &str = "this node's disk does not answer, and another may be primary by now";

fn reply_to<T>(shard: ShardId, waiting: Waiting<T>) -> Output<T> {
    Output::Reply {
        target: waiting.target,
        shard,
        position: waiting.position,
        reply: waiting.reply,
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// A reply goes out once its position is committed.
    pub fn wait(&mut self, id: ShardId, position: Position, wrote: bool, target: T, reply: Bytes) {
        let since = self.now.monotonic;
        if let Some(shard) = self.all.get_mut(&id) {
            self.touched.waits(id, &mut shard.waited_for);
            shard.waiting.push_back(Waiting {
                position,
                since,
                target,
                wrote,
                reply,
            });
        }
    }

    /// For whom replies wait in a shard, and for which positions, the earliest first.
    pub fn waiting(&self, id: ShardId) -> impl Iterator<Item = (&T, Position)> {
        let waiting = self.all.get(&id).into_iter().flat_map(|s| &s.waiting);
        waiting.map(|waiting| (&waiting.target, waiting.position))
    }

    /// A lease is held: what waited for one goes on.
    pub fn leased(&mut self) {
        for id in self.touched.waited_for() {
            self.release_waiting(id);
        }
    }

    /// The store of a shard has moved on: replies and reads that waited for it go.
    pub(crate) fn release_waiting(&mut self, id: ShardId) {
        let leased = self.is_leased();
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        let applied = shard.applied().index;
        // Without a lease, or no longer primary, another may have answered otherwise by now:
        // nothing is acknowledged. What waits goes out with the next lease, or as unknown.
        let ready = if shard.is_elected || leased && shard.is_primary(self.now) {
            shard
                .waiting
                .partition_point(|w| w.position.index <= applied)
        } else {
            0
        };
        if shard.is_elected {
            let ready = shard.waiting.drain(..ready).collect();
            self.release_elected(id, ready);
            return self.out.put(Output::MovedOn(id));
        }
        if ready > 0 {
            self.out.answer();
        }
        for waiting in shard.waiting.drain(..ready) {
            self.out.put(reply_to(id, waiting));
        }
        self.out.put(Output::MovedOn(id));
    }

    /// What an elected primary has proposed is acknowledged whoever leads when it is committed. What
    /// stands in its place may be another's.
    fn release_elected(&mut self, id: ShardId, ready: Vec<Waiting<T>>) {
        let shard = self.all.get(&id);
        let is_primary = shard.is_some_and(|s| s.is_primary(self.now));
        for waiting in ready {
            let at = waiting.position;
            let shard = self.all.get(&id);
            let is_there = shard.is_some_and(|s| s.history().epoch_at(at.index) == at.epoch);
            match is_there && (waiting.wrote || is_primary) {
                true => self.out.put(reply_to(id, waiting)),
                false => self.give_up(id, waiting, OVERWRITTEN),
            }
        }
    }

    /// An elected primary is one no more. What it has proposed may be committed yet; but another may
    /// have taken what its reads should have shown.
    pub(crate) fn give_up_reads(&mut self, id: ShardId) {
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        let (writes, reads) = (std::mem::take(&mut shard.waiting).into_iter())
            .partition::<VecDeque<_>, _>(|waiting| waiting.wrote);
        shard.waiting = writes;
        for waiting in reads {
            self.give_up(id, waiting, "another node became the shard's primary");
        }
    }

    /// Of an elected primary: its entries above `after` have made way for another's.
    pub(crate) fn give_up_overwritten(&mut self, id: ShardId, after: u64) {
        let Some(shard) = self.all.get_mut(&id).filter(|shard| shard.is_elected) else {
            return;
        };
        let kept = shard.waiting.partition_point(|w| w.position.index <= after);
        for waiting in shard.waiting.split_off(kept) {
            self.give_up(id, waiting, OVERWRITTEN);
        }
    }

    /// Replies that waited long enough.
    pub(crate) fn waiting_tick(&mut self) {
        let now = self.now.monotonic;
        let lapsed = now.saturating_sub(self.terms.leased_until) > LAPSE_MAX;
        let lapse = match self.log.is_stalled() {
            true => STALLED,
            false => LAPSED,
        };
        let mut late_replies = Vec::new();
        let waited_for = self.touched.take_waited_for();
        for id in &waited_for {
            let Some(shard) = self.all.get_mut(id) else {
                continue;
            };
            // In doubt whether anybody else is primary by now; for how long, nobody knows.
            if lapsed && !shard.is_elected && shard.is_primary(self.now) {
                late_replies.extend(shard.waiting.drain(..).map(|late| (*id, late, lapse)));
            }
            let strategy = shard
                .keyspace
                .and_then(|k| self.catalog.keyspaces.get(&k))
                .map(|k| &k.strategy);
            // Who waits where nobody leads, as far as is known here, is told so in the end.
            let is_led = shard.is_primary(self.now) || !shard.is_elected;
            if let Some(strategy) = strategy
                && (strategy.on_timeout == OnTimeout::Error || !is_led)
            {
                while shard
                    .waiting
                    .front()
                    .is_some_and(|w| now.saturating_sub(w.since) > strategy.timeout)
                    && let Some(late) = shard.waiting.pop_front()
                {
                    late_replies.push((*id, late, "its acknowledgement rule was not met in time"));
                }
            }
            shard.waited_for = !shard.waiting.is_empty();
            if shard.waited_for {
                self.touched.still_waits(*id);
            }
        }
        for (id, late, why) in late_replies {
            self.give_up(id, late, why);
        }
    }

    /// What waits to be committed is not waited for any longer.
    pub(crate) fn give_up(&mut self, shard: ShardId, waiting: Waiting<T>, why: &'static str) {
        self.out.put(Output::GaveUp {
            target: waiting.target,
            shard,
            wrote: waiting.wrote,
            why,
        });
    }

    /// The disk is full: what waits for it is told so.
    pub(crate) fn give_up_all(&mut self, why: &'static str) {
        let mut late = Vec::new();
        for (id, shard) in &mut self.all {
            late.extend(shard.waiting.drain(..).map(|waiting| (*id, waiting)));
        }
        for (id, waiting) in late {
            self.give_up(id, waiting, why);
        }
    }
}
