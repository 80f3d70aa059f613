//! Reads that wait for what their session has seen, and what becomes of a command once it was
//! evaluated here. Reads are looked at again when their shard's store has moved on, and by the tick
//! for their deadline; not when a replica only becomes fresher.

use crate::{
    node::Node,
    request::{ReadFrom, Request, Target},
};
use bytes::Bytes;
use model::{Position, ShardId};
use shards::{Evaluated, reply_room::LARGE};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::store::Stores;

/// How long a read waits here for what its session has seen before it goes elsewhere.
const READ_WAIT_MAX: Duration = Duration::from_millis(100);

/// The reads, and until when they wait here.
pub(crate) type Readers = BTreeMap<ShardId, Vec<(Duration, Request)>>;

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
                self.shards.wait(id, position, wrote, target, reply);
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
        let scratch = self.shards.reply();
        if scratch.as_ref() == b"+OK\r\n" {
            return Bytes::from_static(b"+OK\r\n");
        }
        if scratch.len() > LARGE {
            return std::mem::take(scratch).freeze();
        }
        Bytes::copy_from_slice(scratch)
    }

    /// A read at a replica waits for what its session has seen.
    pub(crate) fn read_later(&mut self, request: Request) {
        if self.shards.replica(request.shard).is_none() {
            return self.elsewhere(request);
        }
        let until = self.now.monotonic + READ_WAIT_MAX;
        let conn = self.client_of(&request.target);
        if let Some(session) = conn.and_then(|conn| self.sessions.get_mut(&conn)) {
            session.order.waits(request.shard, request.seen);
        }
        let readers = self.readers.entry(request.shard).or_default();
        readers.push((until, request));
    }

    /// A read does not wait here any more. Its client, if it has one.
    fn has_waited(&mut self, request: &Request) -> Option<u64> {
        let conn = self.client_of(&request.target)?;
        let session = self.sessions.get_mut(&conn)?;
        session.order.waited(request.shard);
        Some(conn)
    }

    /// The store of a shard has moved on: reads that waited for it go.
    pub(crate) fn release_readers(&mut self, id: ShardId) {
        let Some(readers) = self.readers.remove(&id) else {
            return;
        };
        let replica = self.shards.replica(id);
        let applied = replica.map_or(0, |replica| replica.applied().index);
        let (ready, wait): (Vec<_>, Vec<_>) =
            (readers.into_iter()).partition(|(_, request)| request.seen.index <= applied);
        if !wait.is_empty() {
            self.readers.insert(id, wait);
        }
        for (_, request) in ready {
            let conn = self.has_waited(&request);
            self.route(request);
            if let Some(conn) = conn {
                self.continue_shard(conn, id);
            }
        }
    }

    /// A shard is here no more: its reads go elsewhere.
    pub(crate) fn readers_leave(&mut self, id: ShardId) {
        for (_, request) in self.readers.remove(&id).into_iter().flatten() {
            self.reads_elsewhere(request);
        }
    }

    fn reads_elsewhere(&mut self, request: Request) {
        let (conn, shard) = (self.has_waited(&request), request.shard);
        self.elsewhere(request);
        if let Some(conn) = conn {
            self.continue_shard(conn, shard);
        }
    }

    /// Reads that waited long enough.
    pub(crate) fn readers_tick(&mut self) {
        let now = self.now.monotonic;
        let mut late_reads = Vec::new();
        for (id, readers) in std::mem::take(&mut self.readers) {
            // Those of one client stay together: what one shows elsewhere, the next must too.
            let mut late = BTreeSet::new();
            let mut wait = Vec::new();
            for (deadline, request) in readers {
                let client = self.splits.client_of(&request.target);
                if deadline <= now || client.is_some_and(|c| late.contains(&c)) {
                    late.extend(client);
                    late_reads.push(request);
                } else {
                    wait.push((deadline, request));
                }
            }
            if !wait.is_empty() {
                self.readers.insert(id, wait);
            }
        }
        for mut request in late_reads {
            request.read_from = ReadFrom::Primary;
            self.reads_elsewhere(request);
        }
    }

    /// The commit of a command is not waited for any longer. Its reply promises nothing: the session
    /// goes on from what is committed, which holds all that was acknowledged to it, and from what
    /// it still waits for.
    pub(crate) fn given_up(&mut self, target: &Target, id: ShardId, wrote: bool, why: &str) {
        if let Some(conn) = self.client_of(target)
            && let Some(session) = self.sessions.get_mut(&conn)
            && let Some(replica) = self.shards.replica(id)
        {
            session.seen.forget(id);
            session.seen.advance(id, replica.applied());
            // What it sent later may still be acknowledged: reads must follow that.
            for (later, position) in self.shards.waiting(id) {
                if self.splits.client_of(later) == Some(conn) {
                    session.seen.advance(id, position);
                }
            }
            // Nor may a read show less than one that is under way.
            session.seen.advance(id, session.order.asked(id));
        }
        if wrote {
            self.reply_unknown(target, why);
        } else {
            let line = format!(
                "TRYAGAIN what this command would show depends on a write that is not committed ({why})"
            );
            self.reply_error(target, &line);
        }
    }
}
