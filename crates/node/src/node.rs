//! The node: its parts and its inputs. It begins in `open`; what passes between it and its rooms is
//! in `cluster_door` and `shards_door`.

mod open;

pub use open::{Disks, NodeConfig, OpenError};

use crate::{
    cluster_door::Wish,
    leaders::Leaders,
    message::{self, Incoming, Message},
    save::Saves,
    verify::Verifications,
};
use bytes::{Bytes, BytesMut};
use cluster::{Cluster, Doubt, Introduction, NotAdmitted};
use gate::{Gate, QueryBuffer, Target};
use model::{Address, Boot, Catalog, NodeId, Now, Parts};
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
/// How often the node looks after what is not urgent.
pub(crate) const UPKEEP: Duration = Duration::from_millis(200);

/// Ticks that are farther apart mean that this node itself did nothing in between.
const ABSENT: Duration = Duration::from_millis(150);

const REMADE: &str = "its connection was made anew";

/// Whose outputs are just being carried out: what is put out meanwhile waits until that is done.
#[derive(Debug, Default)]
pub(crate) struct CarryingOut {
    pub(crate) cluster: bool,
    pub(crate) shards: bool,
    pub(crate) gate: bool,
}

/// One node: its three rooms, what all of them go by, and what clients ask of all of them together.
/// It has more than fifteen fields since it is what holds them all; each of its files is about one
/// section. See the crate's documentation.
pub struct Node<S: Stores> {
    pub(crate) config: NodeConfig,
    /// The time as this node keeps it.
    pub(crate) now: Now,
    pub(crate) started: Duration,
    /// By which its shards and its commands go: what was agreed on, with who was seen to lead where
    /// nobody is named.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) leaders: Leaders,

    /// What all nodes agree on, as this one knows it.
    pub(crate) cluster: Cluster<Wish>,
    /// The replicas here, and the log.
    pub(crate) shards: Shards<S, Target>,
    /// Clients, and commands on their way.
    pub(crate) gate: Gate,
    pub(crate) carrying_out: CarryingOut,
    /// See [`Node::unsettled`].
    pub(crate) unsettled: u64,

    pub(crate) links: Links,
    pub(crate) admin: crate::admin::Pending,
    pub(crate) verifications: Verifications,
    pub(crate) saves: Saves,

    pub(crate) effects: VecDeque<Effect>,
    /// To be taken.
    pub(crate) prefetches: VecDeque<(ConnId, Prefetch)>,
    /// The last tick: this node was away if it is long ago.
    ticked_at: Duration,
    pub(crate) next_upkeep: Duration,
}

impl<S: Stores> Node<S> {
    // ---- inputs -------------------------------------------------------------------------

    /// A client connected.
    pub fn client_connected(&mut self, conn: ConnId, addr: SocketAddr, now: Now) {
        self.arrives(now);
        self.gate.connected(conn.0, addr);
    }

    /// A client is gone.
    pub fn client_disconnected(&mut self, conn: ConnId, now: Now) {
        self.arrives(now);
        self.with_gate(|gate, _| gate.disconnected(conn.0));
        self.verifications_left_by(conn.0);
    }

    /// One command, its name first. Its reply appears in `client_output`, in order.
    pub fn client_command(&mut self, conn: ConnId, args: &[&[u8]], now: Now) {
        self.arrives(now);
        self.with_gate(|gate, here| gate.command(conn.0, args, here));
    }

    /// The client sent what isn't RESP: an error behind the earlier replies, then the end.
    pub fn client_protocol_error(&mut self, conn: ConnId, line: &str, now: Now) {
        self.arrives(now);
        self.with_gate(|gate, here| gate.protocol_error(conn.0, line, here));
    }

    /// What the host holds of a client's input is this now.
    pub fn client_query(&mut self, conn: ConnId, query: QueryBuffer, now: Now) {
        self.now = now;
        self.with_gate(|gate, _| gate.query(conn.0, query));
    }

    /// Whether a client may come from `from`; an error is the line that it is told.
    pub fn admit_client(&self, from: SocketAddr) -> Result<(), &'static str> {
        self.gate.admit(from)
    }

    /// How long a command takes that is to be reported to [`Node::client_took`]; None: none is.
    pub fn slow_from(&self) -> Option<Duration> {
        self.gate.slow_from()
    }

    /// A command that the client had just given took so long.
    pub fn client_took(&mut self, conn: ConnId, args: &[&[u8]], took: Duration) {
        self.gate.took(conn.0, args, took);
    }

    /// The last [`Node::client_command`] took so long.
    pub fn client_worked(&mut self, took: Duration) {
        self.gate.worked(took);
    }

    /// Both halves of a flush took so long.
    pub fn flush_took(&mut self, took: Duration) {
        self.gate.flush_took(took);
    }

    /// This node's thread came round so much too late.
    pub fn held_up(&mut self, late: Duration) {
        self.gate.held_up(late);
    }

    /// Whether this turn has had its work: the host hands over no more commands of clients.
    pub fn is_worn(&self) -> bool {
        self.gate.is_worn_by(self.shards.worked())
    }

    /// The host says how much waits to be sent to a peer.
    pub fn peer_queued(&mut self, peer: &NodeId, bytes: usize) {
        self.gate.peer_queued(peer, bytes);
    }

    /// Whether the client may go on. While much waits for the disk, or for other nodes, only those
    /// may that wait for nothing themselves.
    pub fn client_accepts(&mut self, conn: ConnId) -> bool {
        let pending_bytes = self.shards.log().pending_bytes();
        self.gate.accepts(conn.0, pending_bytes)
    }

    /// Bytes that are ready to go out; the host takes them.
    pub fn client_output(&mut self, conn: ConnId) -> Option<&mut BytesMut> {
        self.gate.output(conn.0)
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
        self.peer_lost(peer, "its connection broke");
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
        self.peer_lost(from, REMADE);
    }

    /// A message from `from`.
    pub fn peer_message(&mut self, from: &NodeId, bytes: Bytes, now: Now) {
        self.arrives(now);
        if self.cluster.heard(from) {
            // Until it knew the new link itself it could answer nothing.
            self.peer_lost(from, REMADE);
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
            Message::Forward(forward) => {
                self.with_gate(|gate, here| gate.forwarded(from, forward, here));
            }
            Message::Forwarded { id, answer } => {
                self.with_gate(|gate, here| gate.forward_answered(from, id, answer, here));
            }
            Message::Wan(state) => self.links_told(from, &state),
            Message::WanSeen { counter } => self.links_seen(from, counter),
            Message::Shards(message) => {
                self.with_shards(|shards| shards.message(from, message));
            }
        }
    }

    /// What `peer` was sent may never be answered.
    fn peer_lost(&mut self, peer: &NodeId, why: &str) {
        self.with_gate(|gate, here| gate.peer_lost(peer, why, here));
    }

    /// An input came at this time by the machine's clocks; returns it as this node keeps it.
    pub(crate) fn arrives(&mut self, machine: Now) -> Now {
        self.now = self.cluster.arrives(machine);
        self.shards.arrives(self.now);
        self.gate.arrives(self.now);
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
        self.stall_tick();
        self.leaders_tick();
        self.with_shards(Shards::tick_first);
        self.with_cluster(|cluster, here| cluster.tick(here));
        self.with_shards(Shards::tick);
        self.with_gate(|gate, here| gate.tick(here));
        self.with_shards(Shards::tick_last);
        self.verify_tick();
        self.admin_tick();
        self.with_gate(|gate, here| gate.tick_last(here));
        if now.monotonic >= self.next_upkeep {
            self.next_upkeep = now.monotonic + UPKEEP;
            self.upkeep();
            let traffic = (self.config.traffic)();
            self.with_gate(|gate, _| gate.upkeep(traffic));
        }
    }

    /// When `wake` is wanted at the latest, by the monotonic clock.
    pub fn wake_at(&self) -> Option<Duration> {
        let slowed = (self.gate.is_any_stalled()).then(|| self.shards.slowed_until());
        (self.shards.wake_at())
            .chain(slowed.flatten())
            .chain(self.gate.wake_at())
            .min()
    }

    /// A moment that `wake_at` named has come: entries and acknowledgements that were gathered
    /// go out, and rows of copies.
    pub fn wake(&mut self, now: Now) {
        self.arrives(now);
        self.with_shards(Shards::wake);
        self.with_gate(|gate, here| gate.wake(here));
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
        self.cluster.has_handed_over() && !cluster::Host::leads_any(&self.shards)
    }

    /// Whether a client waits for an answer.
    pub fn owes_answers(&self) -> bool {
        self.gate.owes_answers()
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
