//! What clients have sent and is not done, which a node holds in memory for them: counted, shown
//! by `CLIENT LIST`, and bounded for all clients together.
//!
//! | what | shown as | counted until |
//! |---|---|---|
//! | bytes of a command that is not complete, and room for more | `qbuf`, `qbuf-free` | it is complete |
//! | where its arguments are; commands that wait behind one that must come first | `argv-mem` | they were done |
//! | what came since `MULTI`, and watched keys | `multi-mem` | `EXEC`, `DISCARD` |
//!
//! A connection's count is taken anew from its parts whenever one of them has grown or shrunk;
//! the sum of all counts is kept beside them. When a client has grown and the sum is above the
//! bound, whoever holds most is closed, until it is not: what a client may hold by itself is far
//! below (one command, a transaction), so the sum is above only if several do.

use crate::{door::Output, room::Gate, session::Session};
use bytes::Bytes;
use resp::Encoder;
use std::{
    cmp::Reverse,
    collections::{VecDeque, vec_deque},
    time::Duration,
};

/// What the host holds of a client's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryBuffer {
    /// Bytes that came and were not consumed.
    pub used: usize,
    /// Bytes that it has room for beyond these.
    pub free: usize,
    /// Bytes that say where the arguments of the command at hand are.
    pub args: usize,
}

impl QueryBuffer {
    fn bytes(self) -> usize {
        self.used + self.free + self.args
    }
}

/// What a command takes while it is kept.
pub(crate) fn kept_bytes(args: &[Bytes]) -> usize {
    let bytes: usize = args.iter().map(|arg| arg.len()).sum();
    // What an allocator adds to each, about.
    const EACH: usize = size_of::<Bytes>() + 16;
    bytes + args.len() * EACH + size_of::<Vec<Bytes>>()
}

/// Commands of a connection that wait, in order, and when each came.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    commands: VecDeque<(Duration, Vec<Bytes>)>,
    bytes: usize,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push_back(&mut self, since: Duration, args: Vec<Bytes>) {
        self.bytes += kept_bytes(&args);
        self.commands.push_back((since, args));
    }

    pub(crate) fn push_front(&mut self, since: Duration, args: Vec<Bytes>) {
        self.bytes += kept_bytes(&args);
        self.commands.push_front((since, args));
    }

    pub(crate) fn pop_front(&mut self) -> Option<(Duration, Vec<Bytes>)> {
        let (since, args) = self.commands.pop_front()?;
        self.bytes -= kept_bytes(&args);
        Some((since, args))
    }

    /// Puts those of `behind` behind its own.
    pub(crate) fn append(&mut self, behind: Backlog) {
        self.bytes += behind.bytes;
        let behind: vec_deque::IntoIter<_> = behind.commands.into_iter();
        self.commands.extend(behind);
    }
}

/// The sum of all counts.
#[derive(Debug, Default)]
pub(crate) struct InputMemory {
    pub(crate) bytes: usize,
    /// Clients that were closed for it.
    pub(crate) evicted: u64,
    /// When an HTTP request on the client port is to be warned of again.
    pub(crate) warn_of_http_at: Duration,
}

impl Session {
    /// What is held of what it has sent, by its parts.
    pub(crate) fn input_bytes(&self) -> usize {
        self.query.bytes() + self.waiting_bytes() + self.transaction_bytes()
    }

    /// Its commands that wait behind others.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.backlog.bytes() + self.order.queued_bytes()
    }

    /// What came since `MULTI`, and what is watched.
    pub(crate) fn transaction_bytes(&self) -> usize {
        self.gathering.as_ref().map_or(0, |g| g.kept_bytes()) + self.watched_bytes
    }

    /// Its memory in all, about.
    pub(crate) fn memory(&self) -> usize {
        let names = self.name.len() + self.library.0.len() + self.library.1.len();
        self.input_bytes() + self.out.capacity() + names + size_of::<Session>()
    }
}

impl Gate {
    /// What the host holds of a client's input is this now.
    pub fn query(&mut self, conn: u64, query: QueryBuffer) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && !session.killed
        {
            session.query = query;
            self.count_input(conn);
        }
    }

    /// Counts anew what is held of what a client has sent, and keeps to the bound.
    pub(crate) fn count_input(&mut self, conn: u64) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let before = session.counted;
        session.counted = session.input_bytes();
        let grown = session.counted > before;
        self.input.bytes = self.input.bytes + session.counted - before;
        while grown && self.input.bytes > self.config.limits.input_bytes_max {
            let holding = self.sessions.values().filter(|s| s.counted > 0);
            let Some(most) = holding.max_by_key(|s| (s.counted, Reverse(s.conn))) else {
                return;
            };
            let (conn, input_bytes_max) = (most.conn, self.config.limits.input_bytes_max);
            tracing::warn!(
                conn,
                addr = %most.addr,
                name = %String::from_utf8_lossy(&most.name),
                bytes = most.counted,
                of_all_clients = self.input.bytes,
                input_bytes_max,
                "clients have sent more that is not done than may be held: the one with the most is closed"
            );
            self.input.evicted += 1;
            let line = format!(
                "ERR this node holds {input_bytes_max} bytes of unfinished commands of all clients, most of them yours: it closes the connection"
            );
            self.kill_client(conn, Some(&line));
        }
    }

    /// Closes a client that has not asked for it: nothing more of it is done, and it is not listed
    /// any more. It is told why if it waits for no other reply.
    pub(crate) fn kill_client(&mut self, conn: u64, line: Option<&str>) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if let Some(line) = line
            && session.is_idle()
        {
            Encoder::new(session.version, &mut session.out).error(line);
        }
        session.killed = true;
        session.closing = true;
        session.last_words = None;
        self.let_go_of_input(conn);
        self.out.put(Output::Close(conn));
    }

    /// What a client has sent and is not done is forgotten.
    pub(crate) fn let_go_of_input(&mut self, conn: u64) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.query = QueryBuffer::default();
            session.backlog = Backlog::default();
            session.order.let_go();
            session.end_transaction();
            self.count_input(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_counts_what_it_keeps() {
        let mut backlog = Backlog::default();
        let command = |len| vec![Bytes::from(vec![0; len])];
        backlog.push_back(Duration::ZERO, command(100));
        backlog.push_front(Duration::ZERO, command(1000));
        assert!(backlog.bytes() > 1100);
        let mut first = Backlog::default();
        first.push_back(Duration::ZERO, command(10));
        first.append(backlog);
        assert_eq!(first.len(), 3);
        for len in [10, 1000, 100] {
            assert_eq!(first.pop_front().unwrap().1[0].len(), len);
        }
        assert_eq!((first.bytes(), first.pop_front()), (0, None));
    }
}
