//! Reads that wait for what their session has seen, or for a round of their shard's replicas, and what
//! becomes of a command once it was evaluated here. Reads are looked at again when their shard's store
//! has moved on or a round has ended, and by the tick for their deadline; not when a replica only
//! becomes fresher. One that has to wait again gets a new deadline.

use crate::{
    host::Host,
    request::{ReadFrom, Request, Round, Target},
    room::Gate,
};
use bytes::Bytes;
use model::{Position, ShardId};
use shards::{Evaluated, reply_room::LARGE};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long a read waits here for what its session has seen, or for what a round has told, before it
/// goes elsewhere.
const READ_WAIT_MAX: Duration = Duration::from_millis(100);
/// How long it waits for a round: two ways to the other end of the world and back.
const ROUND_WAIT_MAX: Duration = Duration::from_millis(700);

/// The reads of each shard in their order, and until when they wait here.
#[derive(Debug, Default)]
pub(crate) struct Readers(BTreeMap<ShardId, Vec<(Duration, Request)>>);

impl Readers {
    fn wait(&mut self, request: Request, until: Duration) {
        let of_shard = self.0.entry(request.shard).or_default();
        of_shard.push((until, request));
    }

    /// All of a shard.
    fn take(&mut self, id: ShardId) -> Vec<Request> {
        self.take_if(id, |_, _| true)
    }

    /// Those of a shard that have seen, and were told to wait for, no more than what is in its
    /// store.
    fn take_ready(&mut self, id: ShardId, applied: u64) -> Vec<Request> {
        self.take_if(id, |_, request| {
            let is_told = match request.round {
                Round::None => true,
                Round::Asked(_) => false,
                Round::Ended(index) => index <= applied,
            };
            is_told && request.seen.index <= applied
        })
    }

    /// Those of a shard that wait for a round.
    fn take_asked(&mut self, id: ShardId, ticket: u64) -> Vec<Request> {
        self.take_if(id, |_, request| request.round == Round::Asked(ticket))
    }

    /// Those whose time is over, and what the same client reads of their shard behind them: what one
    /// shows elsewhere, the next must too.
    fn take_late(
        &mut self,
        now: Duration,
        client_of: impl Fn(&Request) -> Option<u64>,
    ) -> Vec<Request> {
        let mut all = Vec::new();
        for id in self.0.keys().copied().collect::<Vec<_>>() {
            let mut late = BTreeSet::new();
            all.extend(self.take_if(id, |until, request| {
                let client = client_of(request);
                let is_late = until <= now || client.is_some_and(|c| late.contains(&c));
                if is_late {
                    late.extend(client);
                }
                is_late
            }));
        }
        all
    }

    fn take_if(
        &mut self,
        id: ShardId,
        mut goes: impl FnMut(Duration, &Request) -> bool,
    ) -> Vec<Request> {
        let Some(all) = self.0.remove(&id) else {
            return Vec::new();
        };
        let (go, wait): (Vec<_>, Vec<_>) =
            (all.into_iter()).partition(|(until, request)| goes(*until, request));
        if !wait.is_empty() {
            self.0.insert(id, wait);
        }
        go.into_iter().map(|(_, request)| request).collect()
    }

    /// How many reads of a shard wait.
    pub(crate) fn at(&self, id: ShardId) -> usize {
        self.0.get(&id).map_or(0, Vec::len)
    }
}

impl Gate {
    /// Sees to it that the reply in the scratch buffer goes out when it may.
    pub(crate) fn finish(
        &mut self,
        target: Target,
        id: ShardId,
        evaluated: Evaluated,
        here: &mut impl Host,
    ) {
        match evaluated {
            Evaluated::Ready(position) => {
                let reply = self.take_scratch(here);
                self.deliver(&target, id, position, reply, here);
            }
            Evaluated::Refused => {
                let reply = self.take_scratch(here);
                self.deliver(&target, id, Position::ZERO, reply, here);
            }
            Evaluated::Lost => self.deliver_lost(&target, id, here),
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
                let reply = self.take_scratch(here);
                here.wait(id, position, wrote, target, reply);
            }
            Evaluated::ReadLater | Evaluated::ReadWhen(_) | Evaluated::NotNow => {
                self.reply_error(
                    &target,
                    "TRYAGAIN the command could not be placed; try again",
                    here,
                );
            }
        }
    }

    fn take_scratch(&mut self, here: &mut impl Host) -> Bytes {
        let scratch = here.reply();
        if scratch.as_ref() == b"+OK\r\n" {
            return Bytes::from_static(b"+OK\r\n");
        }
        if scratch.len() > LARGE {
            return std::mem::take(scratch).freeze();
        }
        Bytes::copy_from_slice(scratch)
    }

    /// A read at a replica waits for what its session has seen.
    pub(crate) fn read_later(&mut self, request: Request, here: &mut impl Host) {
        if here.applied(request.shard).is_none() {
            return self.elsewhere(request, here);
        }
        let wait = match request.round {
            Round::Asked(_) => ROUND_WAIT_MAX,
            Round::None | Round::Ended(_) => READ_WAIT_MAX,
        };
        let until = self.now.monotonic + wait;
        let conn = self.client_of(&request.target);
        if let Some(session) = conn.and_then(|conn| self.sessions.get_mut(&conn)) {
            session.order.waits(request.shard, request.seen);
        }
        self.readers.wait(request, until);
    }

    /// A read does not wait here any more. Its client, if it has one.
    fn has_waited(&mut self, request: &Request) -> Option<u64> {
        let conn = self.client_of(&request.target)?;
        let session = self.sessions.get_mut(&conn)?;
        session.order.waited(request.shard);
        Some(conn)
    }

    /// The store of a shard has moved on: reads that waited for it go.
    pub fn moved_on(&mut self, id: ShardId, here: &mut impl Host) {
        if self.readers.0.is_empty() {
            return; // As after most commits.
        }
        let applied = here.applied(id).map_or(0, |applied| applied.index);
        for request in self.readers.take_ready(id, applied) {
            let conn = self.has_waited(&request);
            self.route(request, here);
            if let Some(conn) = conn {
                self.continue_shard(conn, id, here);
            }
        }
    }

    /// A round that reads of a shard waited for has ended; it has told nothing if `told` is None, and
    /// they look for another way.
    pub fn round_ended(
        &mut self,
        id: ShardId,
        ticket: u64,
        told: Option<u64>,
        here: &mut impl Host,
    ) {
        for mut request in self.readers.take_asked(id, ticket) {
            let conn = self.has_waited(&request);
            match told {
                Some(index) => {
                    request.round = Round::Ended(index);
                    self.route(request, here);
                }
                None => {
                    request.round = Round::None;
                    self.elsewhere(request, here);
                }
            }
            if let Some(conn) = conn {
                self.continue_shard(conn, id, here);
            }
        }
    }

    /// A shard is here no more: its reads go elsewhere.
    pub fn retired(&mut self, id: ShardId, here: &mut impl Host) {
        for request in self.readers.take(id) {
            self.reads_elsewhere(request, here);
        }
    }

    fn reads_elsewhere(&mut self, request: Request, here: &mut impl Host) {
        let (conn, shard) = (self.has_waited(&request), request.shard);
        self.elsewhere(request, here);
        if let Some(conn) = conn {
            self.continue_shard(conn, shard, here);
        }
    }

    /// Reads that waited long enough.
    pub(crate) fn readers_tick(&mut self, here: &mut impl Host) {
        let client_of = |request: &Request| self.splits.client_of(&request.target);
        let late = (self.readers).take_late(self.now.monotonic, client_of);
        for mut request in late {
            request.read_from = ReadFrom::Primary;
            request.round = Round::None;
            self.reads_elsewhere(request, here);
        }
    }

    /// The commit of a command is not waited for any longer. Its reply promises nothing: the session
    /// goes on from what is committed, which holds all that was acknowledged to it, and from what
    /// it still waits for.
    pub fn gave_up(
        &mut self,
        target: &Target,
        id: ShardId,
        wrote: bool,
        why: &str,
        here: &mut impl Host,
    ) {
        if let Some(conn) = self.client_of(target)
            && let Some(session) = self.sessions.get_mut(&conn)
            && let Some(applied) = here.applied(id)
        {
            session.seen.forget(id);
            session.seen.advance(id, applied);
            // What it sent later may still be acknowledged: reads must follow that.
            for (later, position) in here.waiting(id) {
                if self.splits.client_of(later) == Some(conn) {
                    session.seen.advance(id, position);
                }
            }
            // Nor may a read show less than one that is under way.
            session.seen.advance(id, session.order.asked(id));
        }
        if wrote {
            self.reply_unknown(target, why, here);
        } else {
            let line = format!(
                "TRYAGAIN what this command would show depends on a write that is not committed ({why})"
            );
            self.reply_error(target, &line, here);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Epoch, KeyspaceId};
    use resp::Version;

    fn read(conn: u64, slot: u64, index: u64) -> Request {
        let epoch = Epoch(1);
        Request {
            target: Target::Client { conn, slot },
            spec: commands::find(&[b"GET".as_slice(), b"k"]).unwrap(),
            args: Vec::new(),
            keyspace: KeyspaceId(0),
            shard: ShardId(1),
            seen: Position { epoch, index },
            version: Version::Resp2,
            since: Duration::ZERO,
            read_from: ReadFrom::Any,
            round: Round::None,
            went_near: false,
        }
    }

    fn targets(requests: &[Request]) -> Vec<(u64, u64)> {
        let target = |request: &Request| match request.target {
            Target::Client { conn, slot } => (conn, slot),
            _ => panic!("a client's"),
        };
        requests.iter().map(target).collect()
    }

    #[test]
    fn what_a_client_reads_behind_a_late_read_goes_along_with_it() {
        let at = Duration::from_millis;
        let mut readers = Readers::default();
        for (request, until) in [
            (read(1, 0, 7), at(10)),
            (read(2, 0, 7), at(20)),
            (read(1, 1, 5), at(20)),
            (read(1, 2, 9), at(20)),
        ] {
            readers.wait(request, until);
        }
        assert_eq!(targets(&readers.take_ready(ShardId(1), 5)), [(1, 1)]);
        let client_of = |request: &Request| Some(targets(std::slice::from_ref(request))[0].0);
        let late = readers.take_late(at(15), client_of);
        assert_eq!(targets(&late), [(1, 0), (1, 2)]);
        assert_eq!(targets(&readers.take(ShardId(1))), [(2, 0)]);
        assert!(
            readers.0.is_empty(),
            "nothing is kept of a shard without any"
        );
    }
}
