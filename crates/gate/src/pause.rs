//! CLIENT PAUSE: this node's clients are held up until a moment, all of them or only those that
//! want to write.
//!
//! A command that comes while it must not go on stands first among those of its connection that
//! wait, and holds them up; with the end of the pause they go on in order. What is on its way goes
//! on, and so does what other nodes send here for their clients: a pause is one of clients, not of
//! shards. Administration, by which it can be ended, always gets through.

use crate::{administration::is_administration, host::Host, room::Gate};
use bytes::Bytes;
use commands::{Fanout, Spec, node_command::TransactionCommand, numbers};
use std::time::Duration;

/// A pause, and who is held up by it.
#[derive(Debug)]
pub(crate) struct Pause {
    until: Duration,
    /// Only what may write is held up.
    writes_only: bool,
    conns: Vec<u64>,
}

impl Gate {
    /// `PAUSE ms [WRITE|ALL]`, behind PAUSE.
    pub(crate) fn pause_clients(&mut self, conn: u64, args: &[&[u8]]) {
        let (timeout, writes_only) = match args {
            [timeout] => (timeout, false),
            [timeout, mode] if mode.eq_ignore_ascii_case(b"all") => (timeout, false),
            [timeout, mode] if mode.eq_ignore_ascii_case(b"write") => (timeout, true),
            [_, _] => {
                let line = "ERR CLIENT PAUSE mode must be WRITE or ALL";
                return self.answer_error(conn, line);
            }
            _ => {
                let line = "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.";
                return self.answer_error(conn, line);
            }
        };
        let Some(ms) = numbers::parse(timeout) else {
            return self.answer_error(conn, "ERR timeout is not an integer or out of range");
        };
        let Ok(ms) = u64::try_from(ms) else {
            return self.answer_error(conn, "ERR timeout is negative");
        };
        let until = (self.now.monotonic).saturating_add(Duration::from_millis(ms));
        // As in Redis, of two pauses the longer time and the stricter mode hold.
        let pause = self.pause.get_or_insert(Pause {
            until,
            writes_only,
            conns: Vec::new(),
        });
        pause.until = pause.until.max(until);
        pause.writes_only &= writes_only;
        self.answer(conn, |out| out.ok());
    }

    /// Whether a command must not go on now; then it waits.
    pub(crate) fn is_paused(
        &mut self,
        conn: u64,
        spec: &Spec,
        args: &[&[u8]],
        since: Duration,
    ) -> bool {
        let Some(pause) = &mut self.pause else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(&conn) else {
            return false;
        };
        let is_exec = spec.fanout == Fanout::Transaction(TransactionCommand::Exec);
        let writes = match &session.gathering {
            Some(gathering) => is_exec && gathering.writes(),
            None => spec.is_write(),
        };
        if pause.writes_only && !writes || is_administration(args) {
            return false;
        }
        pause.conns.push(conn);
        session.held = true;
        let args: Vec<Bytes> = crate::request::own(args);
        session.put_back(since, args);
        self.count_input(conn);
        true
    }

    /// Ends it if its time is over, or it is to end `now`.
    pub(crate) fn end_pause(&mut self, now: bool, here: &mut impl Host) {
        let over = |pause: &mut Pause| now || pause.until <= self.now.monotonic;
        let Some(pause) = self.pause.take_if(over) else {
            return;
        };
        for conn in pause.conns {
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.held = false;
            }
            self.resume(conn, here);
        }
    }
}
