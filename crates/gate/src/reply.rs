//! Replies: to a client, to the node that forwarded a command, or to a command that was split.

use crate::{door::Output, host::Host, request::Target, room::Gate, stats::Ended};
use bytes::Bytes;
use model::{Position, ShardId};
use resp::{Encoder, Version};

/// What stands before and behind why an outcome is unknown.
const UNKNOWN: &str = "UNKNOWN the outcome of this command is unknown (";
const READ_FIRST: &str = "): it may have taken effect, read before you repeat it";

/// Why an outcome is unknown, if that is what an error says.
pub(crate) fn why_unknown(line: &str) -> Option<&str> {
    line.strip_prefix(UNKNOWN)?.strip_suffix(READ_FIRST)
}

impl Gate {
    /// Gives a reply to whom it belongs.
    pub fn deliver(
        &mut self,
        target: &Target,
        id: ShardId,
        position: Position,
        reply: Bytes,
        here: &mut impl Host,
    ) {
        match target {
            Target::Client { conn, slot } => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    if position.index > 0 {
                        session.seen.advance(id, position);
                    }
                    let command = || session.command_of(*slot);
                    self.stats.replied(&reply, Ended::Called, command);
                    session.fill(*slot, reply);
                    if !session.watches.is_empty() && session.watch_answered(*slot, position) {
                        self.resume(*conn, here);
                    }
                    self.announce(*conn);
                }
            }
            Target::Remote { node, id: number } => {
                self.answer_forwarded(node, *number, reply, position);
            }
            Target::Part { split, part } => {
                self.part_done(*split, *part, id, position, reply, here)
            }
        }
    }

    /// What the session has seen was thrown away: it forgets that, and is told.
    pub(crate) fn deliver_lost(&mut self, target: &Target, id: ShardId, here: &mut impl Host) {
        if let Some(conn) = self.client_of(target)
            && let Some(slot) = self.splits.slot_of(target)
            && let Some(session) = self.sessions.get_mut(&conn)
        {
            session.seen.forget(id);
            session.told_lost.insert(id, slot);
        }
        self.tell_lost(target, id, here);
    }

    pub(crate) fn tell_lost(&mut self, target: &Target, id: ShardId, here: &mut impl Host) {
        let line = format!(
            "SESSIONLOST a failover threw away writes of shard {id} that this session had seen; it goes on from what is left"
        );
        match target {
            Target::Remote { .. } => self.answer_lost(target),
            _ => self.reply_error(target, &line, here),
        }
    }

    /// An error for whoever waits, with no position to show.
    pub fn reply_error(&mut self, target: &Target, line: &str, here: &mut impl Host) {
        let mut reply = bytes::BytesMut::with_capacity(line.len() + 3);
        Encoder::new(Version::Resp2, &mut reply).error(line);
        self.deliver(target, ShardId(0), Position::ZERO, reply.freeze(), here);
    }

    /// The command may have taken effect or not.
    pub(crate) fn reply_unknown(&mut self, target: &Target, why: &str, here: &mut impl Host) {
        self.reply_error(target, &format!("{UNKNOWN}{why}{READ_FIRST}"), here);
    }

    /// An error as the next reply of a client.
    pub fn answer_error(&mut self, conn: u64, line: &str) {
        self.answer(conn, |out| out.error(line));
    }

    /// An error as the next reply of a client whose command is not called.
    pub(crate) fn reject(&mut self, conn: u64, line: &str) {
        self.answer_as(conn, Ended::Uncalled, |out| out.error(line));
    }

    /// The next reply of a client.
    pub fn answer(&mut self, conn: u64, write: impl FnOnce(&mut Encoder<'_>)) {
        self.answer_as(conn, Ended::Called, write);
    }

    fn answer_as(&mut self, conn: u64, ended: Ended, write: impl FnOnce(&mut Encoder<'_>)) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.is_in_turn() && !session.muted {
            let before = session.out.len();
            write(&mut Encoder::new(session.version, &mut session.out));
            self.replies.held(session.out.len() - before);
            let command = session.last_command;
            (self.stats).replied(&session.out[before..], ended, || command);
        } else {
            let mut reply = bytes::BytesMut::new();
            write(&mut Encoder::new(session.version, &mut reply));
            self.stats.replied(&reply, ended, || session.last_command);
            let slot = session.reserve(0);
            session.fill(slot, reply.freeze());
        }
        self.announce(conn);
    }

    /// Tells the host that a client has output, once until it is taken.
    #[inline]
    pub(crate) fn announce(&mut self, conn: u64) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if !session.announced && !session.out.is_empty() {
            session.announced = true;
            self.out.put(Output::Grown(conn));
        }
        if session.paused && session.accepts() {
            session.paused = false;
            self.out.put(Output::Accepts(conn));
        }
        self.close_if_done(conn);
    }

    pub(crate) fn close_if_done(&mut self, conn: u64) {
        if let Some(session) = self.sessions.get(&conn)
            && session.closing
            && session.is_idle()
        {
            self.out.put(Output::Close(conn));
        }
    }
}
