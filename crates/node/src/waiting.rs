//! Replies that wait for what they show to be committed, reads that wait for what their session
//! has seen, and giving either up. They are looked at again when something is applied or a lease
//! comes, and by the tick for their deadline; not when a replica only becomes fresher.

use crate::{
    evaluate::Evaluated,
    node::Node,
    replies::LARGE,
    request::{ReadFrom, Request, Target},
    shard::Waiting,
    stalled::STALL_MAX,
};
use bytes::Bytes;
use model::{OnTimeout, Position, ShardId};
use std::{collections::BTreeSet, time::Duration};
use storage::store::Stores;

/// How long a read waits here for what its session has seen before it goes elsewhere.
const READ_WAIT_MAX: Duration = Duration::from_millis(100);
/// Why a write is given up that a primary without a lease has taken.
const LAPSED: &str =
    "this node can't reach most of the control group's voters, and another may be primary by now";
/// The same where it asks for none.
const STALLED: &str = "this node's disk does not answer, and another may be primary by now";

impl<S: Stores> Node<S> {
    /// Sees to it that the reply in the scratch buffer goes out when it may.
    pub(crate) fn finish(&mut self, target: Target, id: ShardId, evaluated: Evaluated) {
        match evaluated {
            Evaluated::Ready(position) => {
                let reply = self.take_scratch();
                self.deliver(&target, id, position, reply);
            }
            Evaluated::Refused => {
                let reply = self.take_scratch();
                self.deliver(&target, id, Position::ZERO, reply);
            }
            Evaluated::Lost => self.deliver_lost(&target, id),
            Evaluated::Wait { position, wrote } => {
                // Later reads of the connection must not show less, though this is not committed.
                if let Some(conn) = self.client_of(&target)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.seen.advance(id, position);
                    if wrote {
                        session.last_write = Some((id, position));
                    }
                }
                let reply = self.take_scratch();
                let since = self.now.monotonic;
                if let Some(shard) = self.shards.get_mut(&id) {
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
            Evaluated::ReadLater | Evaluated::NotNow => {
                self.reply_error(
                    &target,
                    "TRYAGAIN the command could not be placed; try again",
                );
            }
        }
    }

    fn take_scratch(&mut self) -> Bytes {
        if self.scratch.as_ref() == b"+OK\r\n" {
            return Bytes::from_static(b"+OK\r\n");
        }
        if self.scratch.len() > LARGE {
            return std::mem::take(&mut self.scratch).freeze();
        }
        Bytes::copy_from_slice(&self.scratch)
    }

    /// A read at a replica waits for what its session has seen.
    pub(crate) fn read_later(&mut self, request: Request) {
        let Some(shard) = self.shards.get_mut(&request.shard) else {
            return self.elsewhere(request);
        };
        let until = self.now.monotonic + READ_WAIT_MAX;
        self.touched.waits(request.shard, &mut shard.waited_for);
        shard.readers.push((until, request.clone()));
        let conn = self.client_of(&request.target);
        if let Some(session) = conn.and_then(|conn| self.sessions.get_mut(&conn)) {
            session.order.waits(request.shard, request.seen);
        }
    }

    /// A read does not wait here any more. Its client, if it has one.
    pub(crate) fn has_waited(&mut self, request: &Request) -> Option<u64> {
        let conn = self.client_of(&request.target)?;
        let session = self.sessions.get_mut(&conn)?;
        session.order.waited(request.shard);
        Some(conn)
    }

    /// Whether this node's replica is primary, and nobody else may be by now.
    pub(crate) fn may_act(&self, id: ShardId) -> bool {
        let shard = self.shards.get(&id);
        shard.is_some_and(|s| s.is_primary(self.now)) && self.cluster.is_leased(self.now.monotonic)
    }

    /// The store of a shard has moved on: replies and reads that waited for it go.
    pub(crate) fn release_waiting(&mut self, id: ShardId) {
        let leased = self.cluster.is_leased(self.now.monotonic);
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let applied = shard.applied().index;
        // Without a lease, or no longer primary, another may have answered otherwise by now:
        // nothing is acknowledged. What waits goes out with the next lease, or as unknown.
        let ready = if leased && shard.is_primary(self.now) {
            shard
                .waiting
                .partition_point(|w| w.position.index <= applied)
        } else {
            0
        };
        let released: Vec<Waiting> = shard.waiting.drain(..ready).collect();
        if !released.is_empty() {
            self.cluster.lease().answer();
        }
        let readers = std::mem::take(&mut shard.readers);
        for waiting in released {
            self.deliver(&waiting.target, id, waiting.position, waiting.reply);
        }
        for (deadline, request) in readers {
            if request.seen.index <= applied {
                let conn = self.has_waited(&request);
                self.route(request);
                if let Some(conn) = conn {
                    self.continue_shard(conn, id);
                }
            } else if let Some(shard) = self.shards.get_mut(&id) {
                shard.readers.push((deadline, request));
            }
        }
    }

    /// Reads and writes that waited long enough.
    pub(crate) fn waiting_tick(&mut self) {
        let now = self.now.monotonic;
        let lapsed = now.saturating_sub(self.cluster.lease().until()) > STALL_MAX;
        let lapse = match self.disk_watch.is_stalled() {
            true => STALLED,
            false => LAPSED,
        };
        let mut late_reads = Vec::new();
        let mut late_replies = Vec::new();
        let waited_for = std::mem::take(&mut self.touched.waited_for);
        for id in &waited_for {
            let Some(shard) = self.shards.get_mut(id) else {
                continue;
            };
            // Those of one client stay together: what one shows elsewhere, the next must too.
            let mut late = BTreeSet::new();
            for (deadline, request) in std::mem::take(&mut shard.readers) {
                let client = self.splits.client_of(&request.target);
                if deadline <= now || client.is_some_and(|c| late.contains(&c)) {
                    late.extend(client);
                    late_reads.push(request);
                } else {
                    shard.readers.push((deadline, request));
                }
            }
            // In doubt whether anybody else is primary by now; for how long, nobody knows.
            if shard.is_primary(self.now) && lapsed {
                late_replies.extend(shard.waiting.drain(..).map(|late| (*id, late, lapse)));
            }
            let strategy = shard
                .keyspace
                .and_then(|k| self.catalog.keyspaces.get(&k))
                .map(|k| &k.strategy);
            if let Some(strategy) = strategy
                && strategy.on_timeout == OnTimeout::Error
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
            shard.waited_for = !shard.waiting.is_empty() || !shard.readers.is_empty();
            if shard.waited_for {
                self.touched.waited_for.push(*id);
            }
        }
        for mut request in late_reads {
            let (conn, shard) = (self.has_waited(&request), request.shard);
            request.read_from = ReadFrom::Primary;
            self.elsewhere(request);
            if let Some(conn) = conn {
                self.continue_shard(conn, shard);
            }
        }
        for (id, late, why) in late_replies {
            self.give_up(id, &late, why);
        }
    }

    /// What waits to be committed is not waited for any longer. It promises nothing: the
    /// session goes on from what is committed, which holds all that was acknowledged to it,
    /// and from what it still waits for.
    pub(crate) fn give_up(&mut self, id: ShardId, waiting: &Waiting, why: &str) {
        if let Some(conn) = self.client_of(&waiting.target)
            && let Some(session) = self.sessions.get_mut(&conn)
            && let Some(shard) = self.shards.get(&id)
        {
            session.seen.forget(id);
            session.seen.advance(id, shard.applied());
            // What it sent later may still be acknowledged: reads must follow that.
            let of_client = |w: &&Waiting| self.splits.client_of(&w.target) == Some(conn);
            for later in shard.waiting.iter().filter(of_client) {
                session.seen.advance(id, later.position);
            }
            // Nor may a read show less than one that is under way.
            session.seen.advance(id, session.order.asked(id));
        }
        if waiting.wrote {
            self.reply_unknown(&waiting.target, why);
        } else {
            let line = format!(
                "TRYAGAIN what this command would show depends on a write that is not committed ({why})"
            );
            self.reply_error(&waiting.target, &line);
        }
    }

    /// The disk is full: what waits for it is told so.
    pub(crate) fn give_up_all(&mut self, why: &str) {
        let mut late = Vec::new();
        for (id, shard) in &mut self.shards {
            late.extend(shard.waiting.drain(..).map(|waiting| (*id, waiting)));
        }
        for (id, waiting) in late {
            self.give_up(id, &waiting, why);
        }
    }
}
