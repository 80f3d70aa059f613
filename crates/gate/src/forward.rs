//! Commands that travel to another node, both ends.
//!
//! At the sending end a command is away until it is answered, or until the link or the node
//! is given up: then a read is tried elsewhere, and a write's outcome is unknown. Only what
//! the other end refused before appending anything (`NotHere`) is ever sent again.

use crate::{
    door::{Answer, Forward, Output},
    host::Host,
    request::{ReadFrom, Request, Round, Target, bytes_of},
    room::Gate,
    route::kind_of,
};
use bytes::Bytes;
use commands::{Fanout, NodeCommand, Refusal};
use model::{
    NodeId, Position,
    planted::{self, Bug},
};
use resp::Version;
use shards::{Evaluated, carried, reply_room::MESSAGE_BYTES_MAX};
use std::collections::BTreeMap;

/// Bytes of a forwarded command's arguments: a message has room for them and what goes with them.
pub const FORWARD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (1 << 20);
/// What an argument takes besides its own bytes.
const ARG_BYTES: usize = 5;

#[derive(Debug)]
struct Away {
    request: Request,
    to: NodeId,
}

/// What is away.
#[derive(Debug)]
pub(crate) struct Forwards {
    away: BTreeMap<u64, Away>,
    /// Of the commands of clients among them.
    bytes: usize,
    next: u64,
}

impl Forwards {
    /// Numbers begin at `first`: an answer to an earlier process must find nothing.
    pub(crate) fn new(first: u64) -> Self {
        Forwards {
            away: BTreeMap::new(),
            bytes: 0,
            next: first,
        }
    }

    /// Bytes of clients' commands that are away.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Gate {
    /// Sends a command to `to`.
    pub(crate) fn forward(&mut self, request: Request, to: &NodeId, here: &mut impl Host) {
        let bytes = request.args.iter().map(|arg| arg.len() + ARG_BYTES).sum();
        if bytes > FORWARD_BYTES_MAX {
            let refusal = Refusal::TooManyBytes {
                name: request.spec.name,
                bytes,
                bytes_max: FORWARD_BYTES_MAX,
            };
            return self.reply_error(&request.target, &refusal.to_string(), here);
        }
        self.forwards.next = self.forwards.next.wrapping_add(1);
        let id = self.forwards.next;
        let behind = self.is_behind_reads(&request, to);
        self.goes_away(&request, to);
        let forward = Forward {
            id,
            shard: request.shard,
            seen: if planted::is(Bug::ForgetSessionAcrossForward) {
                Position::ZERO
            } else {
                request.seen
            },
            at_tip: behind || request.read_from == ReadFrom::PrimaryTip,
            resp3: request.version == Version::Resp3,
            args: request.args.clone(),
        };
        let to = to.clone();
        self.out.put(Output::Forward {
            to: to.clone(),
            forward,
        });
        self.forwards.away.insert(id, Away { request, to });
    }

    /// Whether a read goes to a primary that reads before it went to. One of those may have
    /// shown what is in flight there, so that this one must not show what is committed alone.
    fn is_behind_reads(&self, request: &Request, to: &NodeId) -> bool {
        let conn = self.client_of(&request.target);
        let session = conn.and_then(|conn| self.sessions.get(&conn));
        let facts = self.catalog.shards.get(&request.shard);
        !request.spec.is_write()
            && session.is_some_and(|s| s.order.has_reads_away(request.shard))
            && facts.is_some_and(|facts| facts.primary == *to)
    }

    /// Notes what goes to `to`.
    fn goes_away(&mut self, request: &Request, to: &NodeId) {
        self.forwards.bytes += bytes_of(&request.args);
        if let Some((conn, number)) = self.splits.place_of(&request.target)
            && let Some(session) = self.sessions.get_mut(&conn)
        {
            let kind = kind_of(request.spec);
            (session.order).sent(request.shard, number, kind, request.seen, to);
        }
    }

    /// Notes that it is away no more, and refuses what it has `overtaken`: what came before it and
    /// was not taken. Returns its client. To be called before its reply is delivered: the last
    /// part's reply is the end of a split command.
    fn returned(
        &mut self,
        request: &Request,
        from: &NodeId,
        overtakes: bool,
        here: &mut impl Host,
    ) -> Option<u64> {
        self.forwards.bytes -= bytes_of(&request.args);
        let (conn, number) = self.splits.place_of(&request.target)?;
        let session = self.sessions.get_mut(&conn)?;
        session
            .order
            .answered(request.shard, kind_of(request.spec), from);
        if overtakes {
            for request in session.order.overtaken(request.shard, number) {
                self.refuse_stalled(&request, here);
            }
        }
        Some(conn)
    }

    /// It was refused where it was sent before anything was appended: it is tried again, in a
    /// while, in its place among those of its client.
    fn comes_back(&mut self, request: Request, from: &NodeId, here: &mut impl Host) {
        let (shard, conn) = (request.shard, self.returned(&request, from, false, here));
        if self.splits.is_crossing(&request.target) {
            return self.stall(request, here);
        }
        self.stand_in_order(request);
        let session = conn.and_then(|conn| self.sessions.get_mut(&conn));
        if let Some(first) = session.and_then(|s| s.order.first_to_stall(shard)) {
            self.stall(first, here);
        }
        if let Some(conn) = conn {
            self.continue_shard(conn, shard, here);
        }
    }

    /// The client that waits for a reply, also behind a split command.
    pub(crate) fn client_of(&self, target: &Target) -> Option<u64> {
        self.splits.client_of(target)
    }

    // ---- the end that evaluates -----------------------------------------------------------

    /// Another node sends a command here.
    pub fn forwarded(&mut self, from: &NodeId, forward: Forward, here: &mut impl Host) {
        let target = Target::Remote {
            node: from.clone(),
            id: forward.id,
        };
        let keyspace = self.catalog.shards.get(&forward.shard).map(|s| s.keyspace);
        let spec = carried::spec_of(&forward.args);
        let (Some(keyspace), Some(spec)) = (keyspace, spec) else {
            return self.answer_not_here(&target);
        };
        if spec.fanout == Fanout::Node(NodeCommand::Wait) {
            return self.wait_for_copies(target, forward.shard, forward.seen, &forward.args, here);
        }
        self.route(
            Request {
                target,
                spec,
                args: forward.args,
                keyspace,
                shard: forward.shard,
                seen: forward.seen,
                version: if forward.resp3 {
                    Version::Resp3
                } else {
                    Version::Resp2
                },
                since: self.now.monotonic,
                read_from: if forward.at_tip {
                    ReadFrom::PrimaryTip
                } else {
                    ReadFrom::Any
                },
                round: Round::None,
                went_near: false,
            },
            here,
        );
    }

    pub(crate) fn answer_forwarded(
        &mut self,
        node: &NodeId,
        id: u64,
        reply: Bytes,
        position: Position,
    ) {
        self.replies.answered(node, reply.len());
        self.tell(node, id, Answer::Reply { reply, position });
    }

    pub(crate) fn answer_not_here(&mut self, target: &Target) {
        if let Target::Remote { node, id } = target {
            self.tell(node, *id, Answer::NotHere);
        }
    }

    pub(crate) fn answer_lost(&mut self, target: &Target) {
        if let Target::Remote { node, id } = target {
            self.tell(node, *id, Answer::Lost);
        }
    }

    /// Tells a node what came of a command that it has sent.
    fn tell(&mut self, node: &NodeId, id: u64, answer: Answer) {
        let to = node.clone();
        self.out.put(Output::Answer { to, id, answer });
    }

    // ---- the end that sent ----------------------------------------------------------------

    /// What came of a command that was sent to `from`.
    pub fn forward_answered(
        &mut self,
        from: &NodeId,
        id: u64,
        answer: Answer,
        here: &mut impl Host,
    ) {
        let known = self.forwards.away.get(&id).is_some_and(|a| a.to == *from);
        let Some(Away { request, .. }) = known.then(|| self.forwards.away.remove(&id)).flatten()
        else {
            return;
        };
        let shard = request.shard;
        match answer {
            Answer::Reply { reply, position } => {
                if request.spec.is_write()
                    && position.index > 0
                    && let Some(conn) = self.client_of(&request.target)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.last_write = Some((shard, position));
                }
                let position = if planted::is(Bug::ForgetSessionAcrossForward) {
                    Position::ZERO
                } else {
                    position
                };
                if position.index > 0
                    && let Some(conn) = self.client_of(&request.target)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.seen.advance(shard, position);
                }
                let conn = self.returned(&request, from, true, here);
                self.hold_reply(reply.len(), here);
                self.deliver(&request.target, shard, position, reply, here);
                if let Some(conn) = conn {
                    self.continue_shard(conn, shard, here);
                }
            }
            Answer::NotHere => self.comes_back(request, from, here),
            Answer::Lost => {
                let conn = self.returned(&request, from, true, here);
                self.finish(request.target, shard, Evaluated::Lost, here);
                if let Some(conn) = conn {
                    self.continue_shard(conn, shard, here);
                }
            }
        }
    }

    /// Answers of `peer` may never come.
    pub fn peer_lost(&mut self, peer: &NodeId, why: &str, here: &mut impl Host) {
        let lost: Vec<u64> = self
            .forwards
            .away
            .iter()
            .filter(|(_, a)| a.to == *peer)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let Some(Away { request, to }) = self.forwards.away.remove(&id) else {
                continue;
            };
            if request.spec.is_write() && !planted::is(Bug::RetryForwardedWrite) {
                let conn = self.returned(&request, &to, true, here);
                self.reply_unknown(
                    &request.target,
                    &format!("{to} did not answer: {why}"),
                    here,
                );
                if let Some(conn) = conn {
                    self.continue_shard(conn, request.shard, here);
                }
            } else {
                self.comes_back(request, &to, here);
            }
        }
    }

    pub(crate) fn forwards_tick(&mut self, here: &mut impl Host) {
        let mut silent: Vec<NodeId> = self
            .forwards
            .away
            .values()
            .map(|a| a.to.clone())
            .filter(|to| !here.is_up(to))
            .collect();
        silent.sort();
        silent.dedup();
        for peer in silent {
            self.peer_lost(&peer, "it is silent", here);
        }
    }
}
