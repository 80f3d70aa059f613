//! Commands that travel to another node, both ends.
//!
//! At the sending end a command is away until it is answered, or until the link or the node
//! is given up: then a read is tried elsewhere, and a write's outcome is unknown. Only what
//! the other end refused before appending anything (`NotHere`) is ever sent again.

use crate::{
    carried,
    message::{Answer, Forward, MESSAGE_BYTES_MAX, Message},
    node::{Effect, Lane, Node},
    replies::LARGE,
    request::{ReadFrom, Request, Target, bytes_of},
};
use bytes::Bytes;
use commands::Refusal;
use model::{
    NodeId, Position,
    planted::{self, Bug},
};
use resp::Version;
use std::collections::BTreeMap;
use storage::store::Stores;

/// Bytes of a forwarded command's arguments: a message has room for them and what goes with them.
pub(crate) const FORWARD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (1 << 20);
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

impl<S: Stores> Node<S> {
    /// Sends a command to `to`.
    pub(crate) fn forward(&mut self, request: Request, to: &NodeId) {
        let bytes = request.args.iter().map(|arg| arg.len() + ARG_BYTES).sum();
        if bytes > FORWARD_BYTES_MAX {
            let refusal = Refusal::TooManyBytes {
                name: request.spec.name,
                bytes,
                bytes_max: FORWARD_BYTES_MAX,
            };
            return self.reply_error(&request.target, &refusal.to_string());
        }
        self.forwards.next = self.forwards.next.wrapping_add(1);
        let id = self.forwards.next;
        let behind = self.is_behind_reads(&request, to);
        self.note_away(&request, to);
        self.count_away(&request, 1);
        let message = Message::Forward(Forward {
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
        });
        self.send(to, Lane::Ordinary, &message);
        let to = to.clone();
        self.forwards.away.insert(id, Away { request, to });
    }

    /// Whether a read goes to a primary that reads before it went to. One of those may have
    /// shown what is in flight there, so that this one must not show what is committed alone.
    fn is_behind_reads(&self, request: &Request, to: &NodeId) -> bool {
        let conn = self.client_of(&request.target);
        let session = conn.and_then(|conn| self.sessions.get(&conn));
        let facts = self.catalog.shards.get(&request.shard);
        !request.spec.is_write()
            && session.is_some_and(|s| s.reads_away > 0)
            && facts.is_some_and(|facts| facts.primary == *to)
    }

    /// Notes where the writes of a session are; and its reads, if all went to one place.
    fn note_away(&mut self, request: &Request, to: &NodeId) {
        let conn = self.client_of(&request.target);
        let Some(session) = conn.and_then(|conn| self.sessions.get_mut(&conn)) else {
            return;
        };
        let there = (request.shard, to.clone());
        if request.spec.is_write() {
            if session.writes_away == 0 {
                session.writes_to.clear();
            }
            if !session.writes_to.contains(&there) {
                session.writes_to.push(there);
            }
        } else if session.reads_away == 0 {
            session.reads_to = Some(there);
        } else if session.reads_to.as_ref() != Some(&there) {
            session.reads_to = None;
        }
    }

    /// Keeps count of what is away, of a session and in all, and lets it go on. To be called before a reply
    /// is delivered: the last part's reply is the end of a split command.
    fn count_away(&mut self, request: &Request, by: i32) {
        let bytes = bytes_of(&request.args);
        self.forwards.bytes = match by {
            1 => self.forwards.bytes + bytes,
            _ => self.forwards.bytes - bytes,
        };
        let Some(conn) = self.client_of(&request.target) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&conn) {
            let away = if request.spec.is_write() {
                &mut session.writes_away
            } else {
                &mut session.reads_away
            };
            *away = away.saturating_add_signed(by);
            if *away == 0 {
                self.resume(conn);
            }
        }
    }

    /// The client that waits for a reply, also behind a split command.
    pub(crate) fn client_of(&self, target: &Target) -> Option<u64> {
        self.splits.client_of(target)
    }

    // ---- the end that evaluates -----------------------------------------------------------

    pub(crate) fn forwarded_here(&mut self, from: &NodeId, forward: Forward) {
        let target = Target::Remote {
            node: from.clone(),
            id: forward.id,
        };
        let keyspace = self.catalog.shards.get(&forward.shard).map(|s| s.keyspace);
        let spec = carried::spec_of(&forward.args);
        let (Some(keyspace), Some(spec)) = (keyspace, spec) else {
            return self.answer_not_here(&target);
        };
        if spec.name.eq_ignore_ascii_case("wait") {
            return self.wait_for_copies(target, forward.shard, forward.seen, &forward.args);
        }
        self.route(Request {
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
        });
    }

    pub(crate) fn answer_forwarded(
        &mut self,
        node: &NodeId,
        id: u64,
        reply: Bytes,
        position: Position,
    ) {
        self.replies.answered(node, reply.len());
        // What comes behind a long one must not wait for it: heartbeats, leases.
        let lane = match reply.len() {
            ..LARGE => Lane::Ordinary,
            _ => Lane::Bulk,
        };
        let answer = Answer::Reply { reply, position };
        self.effects.push_back(Effect::Answer {
            to: node.clone(),
            lane,
            message: Message::Forwarded { id, answer }.encode().into(),
        });
    }

    pub(crate) fn answer_not_here(&mut self, target: &Target) {
        if let Target::Remote { node, id } = target {
            let answer = Answer::NotHere;
            self.send(
                node,
                Lane::Ordinary,
                &Message::Forwarded { id: *id, answer },
            );
        }
    }

    pub(crate) fn answer_lost(&mut self, target: &Target) {
        if let Target::Remote { node, id } = target {
            let answer = Answer::Lost;
            self.send(
                node,
                Lane::Ordinary,
                &Message::Forwarded { id: *id, answer },
            );
        }
    }

    // ---- the end that sent ----------------------------------------------------------------

    pub(crate) fn forward_answered(&mut self, from: &NodeId, id: u64, answer: Answer) {
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
                self.count_away(&request, -1);
                self.hold_reply(reply.len());
                self.deliver(&request.target, shard, position, reply);
            }
            Answer::NotHere => {
                // Refused before anything was appended: it may be tried again, in a while. But
                // not behind what this client sent after it, which is away already.
                if self.is_followed(&request) {
                    self.refuse_stalled(&request);
                } else {
                    self.stall(request.clone());
                }
                self.count_away(&request, -1);
            }
            Answer::Lost => {
                self.count_away(&request, -1);
                self.finish(request.target, shard, crate::evaluate::Evaluated::Lost);
            }
        }
    }

    /// Answers of `peer` may never come.
    pub(crate) fn forwards_lost(&mut self, peer: &NodeId, why: &str) {
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
                self.reply_unknown(&request.target, &format!("{to} did not answer: {why}"));
            } else if self.is_followed(&request) {
                self.refuse_stalled(&request);
            } else {
                self.stall(request.clone());
            }
            self.count_away(&request, -1);
        }
    }

    /// Whether its client has anything else away, or stalled: what was sent behind it may take
    /// effect before it is tried again.
    fn is_followed(&self, request: &Request) -> bool {
        self.client_of(&request.target)
            .and_then(|conn| self.sessions.get(&conn))
            .is_some_and(|s| s.writes_away + s.reads_away > 1 || s.stalled > 0)
    }

    pub(crate) fn forwards_tick(&mut self) {
        let mut silent: Vec<NodeId> = self
            .forwards
            .away
            .values()
            .map(|a| a.to.clone())
            .filter(|to| !self.peers.is_up(to, self.now.monotonic))
            .collect();
        silent.sort();
        silent.dedup();
        for peer in silent {
            self.forwards_lost(&peer, "it is silent");
        }
    }
}
