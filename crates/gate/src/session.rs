//! One client's connection, as the node sees it: what it has chosen, what it has seen, and its
//! replies in order.

use crate::{
    input::{Backlog, QueryBuffer},
    order::Order,
    replies::LARGE,
    request::{ReadFrom, Request},
    slots::Slots,
    transaction::{Gathering, Watch},
};
use bytes::{Bytes, BytesMut};
use commands::{Spec, transaction};
use model::{KeyspaceId, Position, ShardId};
use replication::session::SessionPositions;
use resp::Version;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// Replies that may be outstanding before the client's input is left unread.
const SLOTS_MAX: usize = 8192;
/// Commands that may wait behind one that must come first.
const BACKLOG_MAX: usize = 1024;
/// Bytes of commands that may be outstanding, or wait behind one that must come first, before the
/// client's input is left unread.
const IN_FLIGHT_MAX: usize = 8 << 20;
/// Output that the client may leave unread before its input is left unread too, in bytes.
const OUTPUT_MAX: usize = 16 << 20;

/// Which replies a client wants, as CLIENT REPLY says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wants {
    #[default]
    All,
    /// All but that to the next command.
    AllButNext,
    None,
}

/// One connection: what has rules of its own is a type (its order, its slots, its backlog, what it
/// gathers); the rest are what it has chosen, and marks that stand alone.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) conn: u64,
    pub(crate) addr: SocketAddr,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) version: Version,
    pub(crate) name: Bytes,
    pub(crate) library: (Bytes, Bytes),
    pub(crate) since: Duration,
    /// When it sent its last command, by the monotonic clock.
    pub(crate) heard_at: Duration,
    pub(crate) wants: Wants,
    /// The reply to the command at hand is not wanted.
    pub(crate) muted: bool,
    /// None: there is no such command.
    pub(crate) last_command: Option<&'static Spec>,
    pub(crate) commands: u64,
    /// The command that is first in line was looked at before, and counted.
    pub(crate) is_begun: bool,
    /// What it has written and read.
    pub(crate) seen: SessionPositions,
    /// Which of its replies told it last that a failover threw away what it had seen.
    pub(crate) told_lost: BTreeMap<ShardId, u64>,
    /// Its last write, for WAIT.
    pub(crate) last_write: Option<(ShardId, Position)>,
    /// What is under way, and what waits for that.
    pub(crate) order: Order<Request>,
    /// Reads of files that its next commands wait for: they don't come before.
    pub(crate) prefetching: u32,
    /// What came since MULTI, if that did.
    pub(crate) gathering: Option<Gathering>,
    /// What it watches.
    pub(crate) watches: Vec<Watch>,
    /// What that takes in memory, if it watches anything.
    pub(crate) watched_bytes: usize,
    /// Whether a command runs that must be over before the next begins.
    pub(crate) held: bool,
    /// Commands that wait.
    pub(crate) backlog: Backlog,
    /// What the host holds of its input.
    pub(crate) query: QueryBuffer,
    /// What was counted of its input last.
    pub(crate) counted: usize,
    /// Bytes that are ready to go out.
    pub(crate) out: BytesMut,
    /// Replies that are not ready, or ready behind one that is not.
    slots: Slots,
    /// To be closed once everything was answered.
    pub(crate) closing: bool,
    /// It is being closed by others: nothing is known of it any more.
    pub(crate) killed: bool,
    /// What wasn't RESP: the error that comes behind all replies.
    pub(crate) last_words: Option<String>,
    /// Whether the server was told of the output that is here.
    pub(crate) announced: bool,
    /// Whether the server was told to wait.
    pub(crate) paused: bool,
}

impl Session {
    pub(crate) fn new(conn: u64, addr: SocketAddr, now: Duration) -> Self {
        Session {
            conn,
            addr,
            keyspace: KeyspaceId(0),
            version: Version::Resp2,
            name: Bytes::new(),
            library: (Bytes::new(), Bytes::new()),
            since: now,
            heard_at: now,
            wants: Wants::All,
            muted: false,
            last_command: None,
            commands: 0,
            is_begun: false,
            seen: SessionPositions::default(),
            told_lost: BTreeMap::new(),
            last_write: None,
            order: Order::default(),
            prefetching: 0,
            gathering: None,
            watches: Vec::new(),
            watched_bytes: 0,
            held: false,
            backlog: Backlog::default(),
            query: QueryBuffer::default(),
            counted: 0,
            out: BytesMut::new(),
            slots: Slots::default(),
            closing: false,
            killed: false,
            last_words: None,
            announced: false,
            paused: false,
        }
    }

    /// Back to how it began, as RESET does.
    pub(crate) fn reset(&mut self) {
        self.keyspace = KeyspaceId(0);
        self.version = Version::Resp2;
        self.name = Bytes::new();
        self.wants = Wants::All;
        self.muted = false;
        self.end_transaction();
    }

    /// Forgets what came since MULTI, and what is watched.
    pub(crate) fn end_transaction(&mut self) {
        self.gathering = None;
        self.watches.clear();
    }

    /// Whether a reply may be written straight to `out`.
    pub(crate) fn is_in_turn(&self) -> bool {
        self.slots.is_empty()
    }

    /// A place for a reply that comes later, to the last command, which is of so many bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) -> u64 {
        (self.slots).reserve(bytes, self.muted, self.last_command)
    }

    /// The command whose reply has this place, if that is not filled yet.
    pub(crate) fn command_of(&self, slot: u64) -> Option<&'static Spec> {
        self.slots.command_of(slot)
    }

    /// Fills a place, and moves what is ready to `out`.
    pub(crate) fn fill(&mut self, slot: u64, reply: Bytes) {
        let out = &mut self.out;
        self.slots.fill(slot, reply, |reply| put_out(out, reply));
    }

    /// Begins a command: whether its reply is wanted.
    pub(crate) fn begin_command(&mut self) {
        self.muted = self.wants != Wants::All;
        if self.wants == Wants::AllButNext {
            self.wants = Wants::All;
        }
    }

    /// The command at hand waits, first in line, to be begun again.
    pub(crate) fn put_back(&mut self, since: Duration, args: Vec<Bytes>) {
        if self.muted && self.wants == Wants::All {
            self.wants = Wants::AllButNext;
        }
        self.backlog.push_front(since, args);
    }

    /// Puts what no command asked for behind all that was asked before.
    pub(crate) fn show(&mut self, bytes: Bytes) {
        if self.is_in_turn() {
            put_out(&mut self.out, bytes);
        } else {
            let (muted, slot) = (std::mem::take(&mut self.muted), self.reserve(0));
            self.muted = muted;
            self.fill(slot, bytes);
        }
    }

    /// Puts what `reply` holds behind what is to go out; `reply` is empty then.
    pub(crate) fn take_out(&mut self, reply: &mut BytesMut) {
        if self.muted {
            reply.clear();
        } else if reply.len() > LARGE && self.out.is_empty() {
            self.out = std::mem::take(reply);
        } else {
            self.out.extend_from_slice(reply);
            reply.clear();
        }
    }

    /// Bytes of replies that are here.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.out.len() + self.slots.ready_bytes()
    }

    /// Nobody will take its replies any more, those that are still to come included.
    pub(crate) fn forget_replies(&mut self) {
        self.slots.forget();
    }

    /// A reply is here that shows `position`. True if it is that of WATCH, which others wait for.
    pub(crate) fn watch_answered(&mut self, slot: u64, position: Position) -> bool {
        let waits = Watch::answered(&mut self.watches, slot, position);
        if waits {
            self.held = false;
        }
        waits
    }

    /// Who may answer a command of this shard behind what is away.
    pub(crate) fn read_from(&self, shard: ShardId, spec: &Spec) -> ReadFrom {
        let behind = || !spec.is_write() && self.order.has_writes_away(shard);
        match transaction::is_watch(spec) || behind() {
            true => ReadFrom::PrimaryTip,
            false => ReadFrom::Any,
        }
    }

    /// Whether more commands may come.
    pub(crate) fn accepts(&self) -> bool {
        !self.closing
            && self.prefetching == 0
            && self.slots.len() < SLOTS_MAX
            && self.backlog.len() < BACKLOG_MAX
            && self.in_flight() + self.backlog.bytes() < IN_FLIGHT_MAX
            && self.reply_bytes() < OUTPUT_MAX
    }

    /// Bytes of its commands that are not answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// Whether everything was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.backlog.is_empty() && self.last_words.is_none()
    }
}

/// Puts a reply behind what is to go out. A large one keeps its memory, if it can.
fn put_out(out: &mut BytesMut, reply: Bytes) {
    if reply.len() <= LARGE || !out.is_empty() {
        return out.extend_from_slice(&reply);
    }
    match reply.try_into_mut() {
        Ok(reply) => *out = reply,
        Err(reply) => out.extend_from_slice(&reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_go_out_in_the_order_of_their_commands() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let mut s = Session::new(1, addr, Duration::ZERO);
        let (a, b, c) = (s.reserve(1), s.reserve(IN_FLIGHT_MAX), s.reserve(1));
        assert!(!s.accepts(), "so much is outstanding");
        s.fill(b, "b".into());
        assert!(s.out.is_empty() && s.accepts() && s.in_flight() == 2);
        s.fill(a, "a".into());
        assert_eq!(s.out.as_ref(), b"ab");
        assert!(!s.is_in_turn());
        s.fill(c, "c".into());
        assert_eq!(s.out.as_ref(), b"abc");
        assert!(s.is_in_turn() && s.is_idle() && s.in_flight() == 0);
        // What CLIENT REPLY says holds for the commands behind it.
        s.wants = Wants::AllButNext;
        for (command, reply) in [(1, "x"), (2, "y")] {
            s.begin_command();
            let slot = s.reserve(command);
            s.fill(slot, reply.into());
        }
        assert_eq!(s.out.as_ref(), b"abcy");
        // One that waits and is begun again is still the one without.
        s.wants = Wants::AllButNext;
        s.begin_command();
        s.put_back(Duration::ZERO, Vec::new());
        assert!(s.wants == Wants::AllButNext && s.backlog.pop_front().is_some());
        s.begin_command();
        let (first, second) = (s.reserve(1), {
            s.begin_command();
            s.reserve(1)
        });
        s.fill(second, "z".into());
        s.fill(first, "x".into());
        assert_eq!(s.out.as_ref(), b"abcyz");
        // A reply for a slot that is gone (the client was told already) changes nothing.
        s.fill(a, "x".into());
        assert_eq!(s.out.as_ref(), b"abcyz");
    }
}
