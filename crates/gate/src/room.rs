//! The gate: its parts, and its plainer doors.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{
    connection::Waiter,
    door::{Outgoing, Output},
    forward::Forwards,
    host::Host,
    input::InputMemory,
    latency::LatencyMonitor,
    monitor::Monitor,
    pause::Pause,
    readers::Readers,
    replies::Replies,
    request::Target,
    session::Session,
    slowlog::SlowLog,
    split::Splits,
    stalled::Line,
    stats::Stats,
    traffic::Traffic,
};
use bytes::BytesMut;
use model::{Address, Catalog, KeyspaceId, NodeId, Now, Region};
use rustc_hash::FxHashMap;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// From so many bytes on that wait for the disk, or for other nodes, clients wait that have
/// commands among them: well below what the log's buffer takes.
const BEHIND_BYTES: usize = 8 << 20;

/// What of a node's configuration concerns its clients.
#[derive(Debug)]
pub struct Config {
    pub id: NodeId,
    pub region: Region,
    pub zone: String,
    /// Where clients reach the node.
    pub client_addr: Address,
    /// Clients of other machines are turned away.
    pub protected_mode: bool,
    /// Where this process begins to number what it asks of others.
    pub first_number: u64,
    pub limits: Limits,
    /// What is said of a command that is the whole node's, and that there isn't, or has too few or
    /// too many arguments.
    pub usage: fn(&[&[u8]]) -> Option<String>,
}

/// What of it may change while the node runs.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes that are held of what all clients have sent and is not done.
    pub input_bytes_max: usize,
    /// Memory for replies that were not taken yet, all clients' together, in bytes.
    pub reply_memory_bytes: usize,
    /// What one command, or one transaction, may cost ([`commands::Work`]).
    pub command_work_max: u64,
}

/// The room: a value for each thing that it does, whose file says what is always true of it, and
/// what all of them look at.
#[derive(Debug)]
pub struct Gate {
    // What it was told.
    pub(crate) config: Config,
    pub(crate) now: Now,
    /// By which commands go.
    pub(crate) catalog: Arc<Catalog>,

    // Clients, and what holds some of them up.
    pub(crate) sessions: FxHashMap<u64, Session>,
    pub(crate) input: InputMemory,
    pub(crate) replies: Replies,
    pub(crate) pause: Option<Pause>,
    /// Connections that DEBUG SLEEP holds up, and until when.
    pub(crate) sleepers: Vec<(Duration, u64)>,
    /// How long a client may be idle; 0: for good.
    pub(crate) idle_max: Duration,

    // Commands on their way.
    pub(crate) line: Line,
    /// Reads that wait for what their session has seen.
    pub(crate) readers: Readers,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) forwards: Forwards,
    pub(crate) splits: Splits,

    // What people see of them.
    pub(crate) monitors: Vec<Monitor>,
    pub(crate) slow_log: SlowLog,
    pub(crate) latency: LatencyMonitor,
    pub(crate) stats: Stats,

    // What leaves it.
    pub(crate) out: Outgoing,
    /// Numbers drawn so far.
    draws: u64,
}

/// What clients hold of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub clients: usize,
    /// The most that the host holds of one client's input, and that waits to be read by one.
    pub query_bytes_max: usize,
    pub output_bytes_max: usize,
    /// Clients that WAIT holds up.
    pub waiting: usize,
    /// What all of them take, about.
    pub memory: usize,
    /// What all of them have sent and is not done.
    pub input_bytes: usize,
    /// Clients that were closed for it.
    pub evicted: u64,
}

impl Gate {
    pub fn new(config: Config, now: Now) -> Self {
        let forwards = Forwards::new(config.first_number);
        let replies = Replies::new(config.limits.reply_memory_bytes);
        Gate {
            config,
            now,
            catalog: Arc::default(),
            sessions: FxHashMap::default(),
            input: InputMemory::default(),
            replies,
            pause: None,
            sleepers: Vec::new(),
            idle_max: Duration::ZERO,
            line: Line::default(),
            readers: Readers::default(),
            waiters: Vec::new(),
            forwards,
            splits: Splits::default(),
            monitors: Vec::new(),
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            stats: Stats::default(),
            out: Outgoing::default(),
            draws: 0,
        }
    }

    /// It is this time, as the node keeps it.
    #[inline]
    pub fn arrives(&mut self, now: Now) {
        self.now = now;
    }

    /// Commands go by this catalog from now on.
    pub fn follow(&mut self, catalog: Arc<Catalog>) {
        self.catalog = catalog;
    }

    /// From now on these hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.replies.set_max(limits.reply_memory_bytes);
        self.config.limits = limits;
    }

    /// Whether something is wanted of the node: after most of its work nothing is.
    #[inline]
    pub fn wants_something(&self) -> bool {
        !self.out.is_empty()
    }

    /// The next thing that is wanted of the node.
    #[inline]
    pub fn poll(&mut self) -> Option<Output> {
        self.out.take()
    }

    /// A number for what is left to chance: not repeated, nor meant to be secret.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(1);
        self.config.first_number.rotate_left(17) ^ self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    // ---- clients ------------------------------------------------------------------------------

    /// A client connected. Its number is never used again in one process.
    pub fn connected(&mut self, conn: u64, addr: SocketAddr) {
        self.stats.connections += 1;
        self.sessions
            .insert(conn, Session::new(conn, addr, self.now.monotonic));
    }

    /// A client is gone.
    pub fn disconnected(&mut self, conn: u64) {
        self.let_go_of_input(conn);
        self.end_monitor(conn);
        self.sessions.remove(&conn);
        self.splits.left_by(conn);
    }

    /// The client sent what isn't RESP: an error behind the earlier replies, then the end.
    pub fn protocol_error(&mut self, conn: u64, line: &str, here: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.killed {
            return;
        }
        session.closing = true;
        session.last_words = Some(line.to_owned());
        self.say_last_words(conn, here);
        self.close_if_done(conn);
    }

    /// Whether the client may go on. While much waits for the disk, or for other nodes, only those
    /// may that wait for nothing themselves. `pending_bytes`: what waits for the disk.
    #[inline]
    pub fn accepts(&mut self, conn: u64, pending_bytes: usize) -> bool {
        let behind = pending_bytes.max(self.forwards.bytes()) >= BEHIND_BYTES;
        match self.sessions.get_mut(&conn) {
            Some(session) => {
                session.paused = !session.accepts() || behind && session.in_flight() > 0;
                !session.paused
            }
            None => false,
        }
    }

    /// Bytes that are ready to go out; they are taken.
    #[inline]
    pub fn output(&mut self, conn: u64) -> Option<&mut BytesMut> {
        let session = self.sessions.get_mut(&conn)?;
        session.announced = false;
        Some(&mut session.out)
    }

    /// The keyspace that a client has selected.
    #[inline]
    pub fn keyspace_of(&self, conn: u64) -> Option<KeyspaceId> {
        let session = self.sessions.get(&conn)?;
        Some(session.keyspace)
    }

    /// A client's next commands wait until something was read for them ([`Gate::prefetched`]).
    pub fn prefetching(&mut self, conn: u64) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.prefetching += 1;
        }
    }

    /// That is in memory, or its client may go on without.
    pub fn prefetched(&mut self, conn: u64) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.prefetching = session.prefetching.saturating_sub(1);
        }
        self.announce(conn);
    }

    /// Clients that wait for reads of a disk that hangs go on without.
    pub fn leave_prefetches(&mut self) {
        let waiting = self.sessions.values_mut().filter(|s| s.prefetching > 0);
        let mut conns = Vec::new();
        for session in waiting {
            session.prefetching = 0;
            conns.push(session.conn);
        }
        for conn in conns {
            self.announce(conn);
        }
    }

    /// A place for a reply that comes later.
    pub fn hold(&mut self, conn: u64) -> Option<Target> {
        let slot = self.sessions.get_mut(&conn)?.reserve(0);
        Some(Target::Client { conn, slot })
    }

    /// Whether a client waits for an answer.
    pub fn owes_answers(&self) -> bool {
        (self.sessions.values()).any(|session| !session.is_idle() || !session.out.is_empty())
    }

    // ---- time ---------------------------------------------------------------------------------

    /// A lease is held: what waited for one goes on.
    pub fn leased(&mut self, here: &mut impl Host) {
        self.retry_stalled(here);
    }

    /// Time has passed.
    pub fn tick(&mut self, here: &mut impl Host) {
        self.replies.tick();
        self.forwards_tick(here);
        self.retry_stalled(here);
        self.readers_tick(here);
    }

    /// The same, once the replicas have heard of it.
    pub fn tick_last(&mut self, here: &mut impl Host) {
        self.waiters_tick(here);
        self.sleepers_tick(here);
        self.end_pause(false, here);
    }

    /// What is done now and then. The node's host has counted so much by now.
    pub fn upkeep(&mut self, traffic: Traffic) {
        self.stats.sample(self.now.monotonic, traffic);
        self.close_idle();
    }

    /// When [`Gate::wake`] is wanted at the latest, by the monotonic clock, if commands don't wait
    /// for what the replicas have slowed down.
    pub fn wake_at(&self) -> Option<Duration> {
        self.line.has_deferred().then_some(self.now.monotonic)
    }

    /// Whether commands wait for somewhere to go.
    pub fn is_any_stalled(&self) -> bool {
        !self.line.is_empty()
    }

    /// The next turn has come.
    pub fn wake(&mut self, here: &mut impl Host) {
        self.resume_deferred(here);
        if !self.line.is_empty() {
            self.retry_stalled(here);
        }
    }

    // ---- what others may see ------------------------------------------------------------------

    /// What is counted of clients' commands.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What clients hold.
    pub fn figures(&self) -> Figures {
        let listed = || self.sessions.values().filter(|s| !s.killed);
        let most = |of: fn(&Session) -> usize| listed().map(of).max().unwrap_or(0);
        Figures {
            clients: listed().count(),
            query_bytes_max: most(|s| s.query.used + s.query.free),
            output_bytes_max: most(|s| s.out.capacity()),
            waiting: self.waiting_clients(),
            memory: self.sessions.values().map(Session::memory).sum(),
            input_bytes: self.input.bytes,
            evicted: self.input.evicted,
        }
    }
}
