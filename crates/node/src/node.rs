//! The node: its parts and its inputs. It begins in `open`; what passes between it and its rooms is
//! in `cluster_door` and `shards_door`.

mod open;

pub use open::{Disks, NodeConfig, OpenError};

use crate::{
    cluster_door::Wish,
    forward::Forwards,
    input::InputMemory,
    latency::LatencyMonitor,
    message::{self, Incoming, Message},
    monitor::Monitor,
    pause::Pause,
    readers::Readers,
    replies::Replies,
    request::Target,
    save::Saves,
    session::Session,
    slowlog::SlowLog,
    split::Splits,
    stalled::Line,
    stats::Stats,
    verify::Verifications,
};
use bytes::{Bytes, BytesMut};
use cluster::{Cluster, Doubt, Introduction, NotAdmitted};
use model::{Address, Boot, Catalog, NodeId, Now, Parts};
use rustc_hash::FxHashMap;
use shards::Shards;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use storage::{
    log::{FlushJob, LogError, Lsn, Synced, Written},
    store::{Prefetch, Stores},
};
use wan::Links;

/// A client's connection. Never used again in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// How a message to a peer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// In order with the other ordinary messages, under the emulated latency and cuts.
    Ordinary,
    /// Like `Ordinary`, on a connection of its own, so that copies don't hold up the rest.
    Bulk,
    /// At once, also over a cut link, ahead of ordinary messages.
    Bypass,
    /// Like `Ordinary`, on a connection of its own: what leases, failovers and the control group
    /// need must not wait behind entries.
    Control,
}

/// What the host is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The client's output has grown.
    ClientOutput(ConnId),
    /// The client accepts commands again.
    ClientResumed(ConnId),
    /// Close the connection once its output is written.
    CloseClient(ConnId),
    /// Send a message to a peer. Lost without notice while there is no link to it.
    Send {
        /// To whom.
        to: NodeId,
        /// How.
        lane: Lane,
        /// What.
        message: Parts,
    },
    /// Like `Send`: what a client is to be answered.
    Answer {
        /// To whom.
        to: NodeId,
        /// How.
        lane: Lane,
        /// What.
        message: Parts,
    },
    /// [`Node::peers`] answers differently now.
    PeersChanged,
    /// The node can't go on, for this reason. Nothing more is flushed.
    Stop(String),
    /// The node can't go on, and its disk must not be used again, for this reason: what it holds
    /// is an older state of what it held. It is to begin anew on an empty one.
    Discard(String),
}

/// Replicas' messages of so many bytes keep the memory that they came in; smaller ones get
/// their own. The host reads 64 KiB at a time, and a replica keeps recent entries: each of a
/// hundred bytes would hold 64 KiB.
const SHARED_FROM: usize = 32 << 10;
/// From so many bytes on that wait for the disk, or for other nodes, clients wait that have
/// commands among them: well below what the log's buffer takes.
const BEHIND_BYTES: usize = 8 << 20;
/// How often the node looks after what is not urgent.
pub(crate) const UPKEEP: Duration = Duration::from_millis(200);

/// Ticks that are farther apart mean that this node itself did nothing in between.
const ABSENT: Duration = Duration::from_millis(150);

const REMADE: &str = "its connection was made anew";

/// One node. See the crate's documentation.
pub struct Node<S: Stores> {
    pub(crate) config: NodeConfig,
    /// What all nodes agree on, as this one knows it.
    pub(crate) cluster: Cluster<Wish>,
    /// Something that it wants is just being done.
    pub(crate) is_carrying_out: bool,
    /// The time as this node keeps it.
    pub(crate) now: Now,
    pub(crate) started: Duration,
    /// The replicas here, and the log.
    pub(crate) shards: Shards<S, Target>,
    /// Its outputs are just being carried out.
    pub(crate) is_carrying_out_shards: bool,
    /// By which its shards and its commands go.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) links: Links,
    pub(crate) sessions: FxHashMap<u64, Session>,
    pub(crate) input: InputMemory,
    /// When an HTTP request on the client port is to be warned of again.
    pub(crate) warn_of_http_at: Duration,
    pub(crate) forwards: Forwards,
    pub(crate) splits: Splits,
    /// Reads that wait for what their session has seen.
    pub(crate) readers: Readers,
    pub(crate) waiters: Vec<crate::connection::Waiter>,
    /// Connections that DEBUG SLEEP holds up, and until when.
    pub(crate) sleepers: Vec<(Duration, u64)>,
    pub(crate) slow_log: SlowLog,
    pub(crate) latency: LatencyMonitor,
    pub(crate) admin: crate::admin::Pending,
    pub(crate) verifications: Verifications,
    pub(crate) line: Line,
    /// See [`Node::unsettled`].
    pub(crate) unsettled: u64,
    pub(crate) replies: Replies,
    pub(crate) effects: VecDeque<Effect>,
    /// To be taken.
    pub(crate) prefetches: VecDeque<(ConnId, Prefetch)>,
    /// The last tick: this node was away if it is long ago.
    ticked_at: Duration,
    pub(crate) next_upkeep: Duration,
    pub(crate) stats: Stats,
    pub(crate) saves: Saves,
    pub(crate) pause: Option<Pause>,
    pub(crate) monitors: Vec<Monitor>,
    /// How long a client may be idle; 0: for good.
    pub(crate) idle_max: Duration,
    /// Numbers drawn so far.
    pub(crate) draws: u64,
}

impl<S: Stores> Node<S> {
    // ---- inputs -------------------------------------------------------------------------

    /// A client connected.
    pub fn client_connected(&mut self, conn: ConnId, addr: SocketAddr, now: Now) {
        let now = self.arrives(now);
        self.stats.connections += 1;
        self.sessions
            .insert(conn.0, Session::new(conn.0, addr, now.monotonic));
    }

    /// A client is gone.
    pub fn client_disconnected(&mut self, conn: ConnId, now: Now) {
        self.arrives(now);
        self.let_go_of_input(conn.0);
        self.end_monitor(conn.0);
        self.sessions.remove(&conn.0);
        self.splits.left_by(conn.0);
        self.verifications_left_by(conn.0);
    }

    /// One command, its name first. Its reply appears in `client_output`, in order.
    pub fn client_command(&mut self, conn: ConnId, args: &[&[u8]], now: Now) {
        self.arrives(now);
        self.stats.handed_over();
        self.command(conn.0, args);
    }

    /// The client sent what isn't RESP: an error behind the earlier replies, then the end.
    pub fn client_protocol_error(&mut self, conn: ConnId, line: &str, now: Now) {
        self.arrives(now);
        let Some(session) = self.sessions.get_mut(&conn.0) else {
            return;
        };
        if session.killed {
            return;
        }
        session.closing = true;
        session.last_words = Some(line.to_owned());
        self.say_last_words(conn.0);
        self.close_if_done(conn.0);
    }

    /// Whether the client may go on. While much waits for the disk, or for other nodes, only those
    /// may that wait for nothing themselves.
    pub fn client_accepts(&mut self, conn: ConnId) -> bool {
        let behind = self.shards.log().pending_bytes().max(self.forwards.bytes()) >= BEHIND_BYTES;
        match self.sessions.get_mut(&conn.0) {
            Some(session) => {
                session.paused = !session.accepts() || behind && session.in_flight() > 0;
                !session.paused
            }
            None => false,
        }
    }

    /// Bytes that are ready to go out; the host takes them.
    pub fn client_output(&mut self, conn: ConnId) -> Option<&mut BytesMut> {
        let session = self.sessions.get_mut(&conn.0)?;
        session.announced = false;
        Some(&mut session.out)
    }

    /// The outgoing link to `peer` is newly made.
    pub fn peer_connected(&mut self, peer: &NodeId, now: Now) {
        self.arrives(now);
        let state = self.links.state().clone();
        self.send(peer, Lane::Bypass, &Message::Wan(state));
        self.with_cluster(|cluster, here| cluster.connected(peer, here));
        self.shards.link_changed(peer, true);
    }

    /// The outgoing link broke; what was sent may be lost.
    pub fn peer_disconnected(&mut self, peer: &NodeId, now: Now) {
        self.arrives(now);
        self.cluster.disconnected(peer);
        self.forwards_lost(peer, "its connection broke");
        self.shards.link_changed(peer, false);
    }

    /// `from`, which was admitted as it introduced itself, has made a new link to us; messages of
    /// its former one may be lost.
    pub fn peer_inbound(&mut self, from: &NodeId, introduced: &Introduction, now: Now) {
        self.arrives(now);
        if !self.with_cluster(|cluster, _| cluster.linked(from, introduced)) {
            return;
        }
        self.with_shards(|shards| shards.pulses_linked(from, introduced.boot));
        self.forwards_lost(from, REMADE);
    }

    /// A message from `from`.
    pub fn peer_message(&mut self, from: &NodeId, bytes: Bytes, now: Now) {
        self.arrives(now);
        if self.cluster.heard(from) {
            // Until it knew the new link itself it could answer nothing.
            self.forwards_lost(from, REMADE);
        }
        match message::decode(bytes, self.config.release.levels) {
            Ok(Incoming::Message(message))
                if self.shards.stalled_for().is_some() && message.needs_disk() => {}
            Ok(Incoming::Replica(id, bytes)) => {
                let bytes = if bytes.len() < SHARED_FROM {
                    Bytes::copy_from_slice(&bytes)
                } else {
                    bytes
                };
                self.shards.replica_message(from, id, bytes);
            }
            Ok(Incoming::Message(message)) => self.message(from, *message),
            Ok(Incoming::Unknown { level }) => self.cluster.unknown_message(from, level),
            Err(error) => tracing::warn!(%from, %error, "a message was dropped"),
        }
    }

    pub(crate) fn message(&mut self, from: &NodeId, message: Message) {
        match message {
            Message::Cluster(message) => {
                self.with_cluster(|cluster, here| cluster.message(from, message, here));
            }
            Message::Forward(forward) => self.forwarded_here(from, forward),
            Message::Forwarded { id, answer } => self.forward_answered(from, id, answer),
            Message::Wan(state) => self.links_told(from, &state),
            Message::WanSeen { counter } => self.links_seen(from, counter),
            Message::Shards(message) => {
                self.with_shards(|shards| shards.message(from, message));
            }
        }
    }

    /// An input came at this time by the machine's clocks; returns it as this node keeps it.
    pub(crate) fn arrives(&mut self, machine: Now) -> Now {
        self.now = self.cluster.arrives(machine);
        self.shards.arrives(self.now);
        self.now
    }

    /// To whom links are kept, and where they are reached, the likeliest first.
    pub fn peers(&self) -> Vec<(NodeId, Vec<Address>)> {
        self.cluster.peers().addresses()
    }

    /// What the emulation says of the link to `to`.
    pub fn link(&self, to: &NodeId) -> wan::Link {
        let region = self
            .cluster
            .peers()
            .region(to)
            .unwrap_or(&self.config.region);
        self.links
            .delay(&self.config.id, &self.config.region, to, region)
    }

    /// Whether what was answered to clients, and to nodes that forwarded commands, may be said,
    /// at the time that `clock` gives: it is read only if there is something to judge.
    pub fn doubt(&mut self, clock: fn() -> Now) -> Doubt {
        self.cluster.doubt(clock)
    }

    /// What is to be made durable next, if it may begin by now.
    pub fn take_flush(&mut self, now: Now) -> Option<FlushJob> {
        self.arrives(now);
        self.settle();
        self.shards.take_flush()
    }

    /// The first half of a flush has ended.
    pub fn flush_written(&mut self, done: Written, now: Now) {
        self.arrives(now);
        if let Some(durable) = self.with_shards(|shards| shards.flush_written(done)) {
            self.durable(durable);
        }
    }

    /// The second half of a flush has ended.
    pub fn flush_synced(&mut self, done: Synced, now: Now) {
        self.arrives(now);
        if let Some(durable) = self.with_shards(|shards| shards.flush_synced(done)) {
            self.durable(durable);
        }
    }

    /// Up to where the log survives a loss of power.
    pub fn log_durable(&self) -> Lsn {
        self.shards.log().durable()
    }

    fn durable(&mut self, durable: Lsn) {
        self.with_shards(|shards| shards.durable(durable));
        self.cluster.durable(durable);
        self.log_survives(durable);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        let pause = now.monotonic.saturating_sub(self.ticked_at);
        self.ticked_at = now.monotonic;
        if pause > ABSENT {
            self.cluster.absent(pause);
            self.shards.absent();
        }
        let now = self.arrives(now);
        self.replies.tick();
        self.stall_tick();
        self.with_shards(Shards::tick_first);
        self.with_cluster(|cluster, here| cluster.tick(here));
        self.with_shards(Shards::tick);
        self.forwards_tick();
        self.retry_stalled();
        self.readers_tick();
        self.with_shards(Shards::tick_last);
        self.verify_tick();
        self.admin_tick();
        self.waiters_tick();
        self.sleepers_tick();
        self.end_pause(false);
        if now.monotonic >= self.next_upkeep {
            self.next_upkeep = now.monotonic + UPKEEP;
            self.upkeep();
            self.stats.sample(now.monotonic, (self.config.traffic)());
            self.close_idle();
        }
    }

    /// When `wake` is wanted at the latest, by the monotonic clock.
    pub fn wake_at(&self) -> Option<Duration> {
        let slowed = (!self.line.is_empty()).then(|| self.shards.slowed_until());
        (self.shards.wake_at())
            .chain(slowed.flatten())
            .chain(self.line.has_deferred().then_some(self.now.monotonic))
            .min()
    }

    /// A moment that `wake_at` named has come: entries and acknowledgements that were gathered
    /// go out, and rows of copies.
    pub fn wake(&mut self, now: Now) {
        self.arrives(now);
        self.with_shards(Shards::wake);
        self.resume_deferred();
        if !self.line.is_empty() {
            self.retry_stalled();
        }
        self.with_shards(Shards::fire_timers);
    }

    /// The next thing to do, until there is none: then all before it has been done, or is kept
    /// back as [`Node::doubt`] wants it.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() {
            self.cluster.lease().said();
            self.settle();
            if self.effects.is_empty() {
                self.shards.turn_ends();
            }
        }
        self.effects.pop_front()
    }

    /// What this node says of itself when it connects.
    pub fn introduction(&self) -> Introduction {
        self.cluster.introduction()
    }

    /// The feature level, as far as this node knows.
    pub fn level(&self) -> u32 {
        self.catalog.level
    }

    /// Whether a peer may be linked to this node. `is_linked`: whether a link that came
    /// from its id is still open.
    pub fn admit(
        &self,
        from: &NodeId,
        introduced: &Introduction,
        is_linked: bool,
        now: Now,
    ) -> Result<(), NotAdmitted> {
        self.cluster.admit(from, introduced, is_linked, now)
    }

    /// A peer does not let this node in.
    pub fn not_admitted(&mut self, by: &NodeId, why: NotAdmitted, now: Now) {
        self.arrives(now);
        self.with_cluster(|cluster, _| cluster.not_admitted(by, why));
    }

    /// This start of the node.
    pub fn boot(&self) -> Boot {
        self.cluster.boot()
    }

    /// The boot with which a node is registered, as this voter's own log has it.
    pub fn registered(&self, id: &NodeId) -> Option<Boot> {
        self.cluster.registered(id)
    }

    /// This node is to end: from now on it gives away its offices.
    pub fn end(&mut self, now: Now) {
        self.arrives(now);
        self.with_cluster(|cluster, here| cluster.end(here));
    }

    /// Whether there is nothing left that this node could give away, and what others sent here
    /// before they knew is answered.
    pub fn has_handed_over(&self) -> bool {
        self.cluster.has_handed_over()
    }

    /// Whether a client waits for an answer.
    pub fn owes_answers(&self) -> bool {
        (self.sessions.values()).any(|session| !session.is_idle() || !session.out.is_empty())
    }

    // ---- sending ------------------------------------------------------------------------

    /// Sends a message, unless it came with a later feature level than the catalog's.
    pub(crate) fn send(&mut self, to: &NodeId, lane: Lane, message: &Message) {
        if message.level() > self.catalog.level {
            return;
        }
        self.send_encoded(to, lane, message.encode());
    }

    pub(crate) fn send_encoded(&mut self, to: &NodeId, lane: Lane, message: Bytes) {
        let to = to.clone();
        let message = message.into();
        (self.effects).push_back(Effect::Send { to, lane, message });
    }

    /// Closes the log, so that the next start knows that nothing of it is missing. No flush may be
    /// under way. Nothing is taken any more.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.shards.close()
    }
}
