//! The node: its parts and its inputs. It begins in `open`; what inputs cause is settled in
//! `settle`; what the catalog asks of its shards is done in `assign`.

mod open;

pub use open::{Disks, NodeConfig, OpenError};

use crate::{
    aside::Asides,
    cluster_door::Wish,
    copy::Copies,
    expire::DueShards,
    forward::Forwards,
    input::InputMemory,
    latency::LatencyMonitor,
    message::{self, Incoming, Message},
    monitor::Monitor,
    pause::Pause,
    pulse::Pulses,
    replies::Replies,
    request::Request,
    rewind::Rewinds,
    rewound::Rewound,
    save::Saves,
    scrub::Scrubs,
    seal::Sealing,
    session::Session,
    shard::Shard,
    slowlog::SlowLog,
    split::Splits,
    stall::DiskWatch,
    stats::Stats,
    timers::Timers,
    touched::Touched,
    turn::Deferred,
    verify::Verifications,
};
use bytes::{Bytes, BytesMut};
use cluster::{Cluster, Doubt, Introduction, NotAdmitted};
use model::{Address, Boot, Catalog, Mutation, NodeId, Now, Parts, ShardId};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use storage::{
    log::{AppendError, FlushJob, Lacking, Log, LogError, Lsn, Synced, Written},
    store::{Prefetch, Rows, Stores},
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
/// How long a full disk is left alone before the log tries again.
const NO_SPACE_PAUSE: Duration = Duration::from_millis(200);
/// How often the node looks after what is not urgent.
pub(crate) const UPKEEP: Duration = Duration::from_millis(200);

/// Ticks that are farther apart mean that this node itself did nothing in between.
const ABSENT: Duration = Duration::from_millis(150);

const REMADE: &str = "its connection was made anew";

/// The control group's stream in the shared log.
pub(crate) const CONTROL_STREAM: u64 = 0;

/// A shard's stream in the shared log.
pub(crate) fn stream(id: ShardId) -> u64 {
    id.0 + CONTROL_STREAM + 1
}

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
    pub(crate) stores: S,
    pub(crate) log: Log,
    /// Entries in the log that are not acknowledgeable yet: (position, shard, index).
    pub(crate) appended: VecDeque<(Lsn, ShardId, u64)>,
    pub(crate) shards: BTreeMap<ShardId, Shard<S::Rows>>,
    /// Shards that have something to settle.
    pub(crate) dirty: BTreeSet<ShardId>,
    /// When their strategies want to act by themselves.
    pub(crate) timers: Timers,
    /// Which of them have what there is to do now and then.
    pub(crate) touched: Touched,
    /// By which its shards and its commands go.
    pub(crate) catalog: Arc<Catalog>,
    /// Seals whose records are not durable yet, in the order of the log.
    pub(crate) sealing: VecDeque<Sealing>,
    /// Shards whose stores go once the log is durable up to there.
    pub(crate) dropping: VecDeque<(Lsn, ShardId)>,
    /// Shards whose place another node has taken, and when their primary was asked for its log.
    pub(crate) leaving: BTreeMap<ShardId, Duration>,
    /// The shard that is just giving its office away.
    pub(crate) gives_up: Option<ShardId>,
    pub(crate) pulses: Pulses,
    pub(crate) links: Links,
    pub(crate) sessions: FxHashMap<u64, Session>,
    pub(crate) input: InputMemory,
    /// When an HTTP request on the client port is to be warned of again.
    pub(crate) warn_of_http_at: Duration,
    pub(crate) forwards: Forwards,
    pub(crate) splits: Splits,
    pub(crate) copies: Copies<<S::Rows as Rows>::Snapshot>,
    pub(crate) rewinds: Rewinds<<S::Rows as Rows>::Snapshot>,
    pub(crate) rewound: Rewound,
    /// Shards whose damage is borne, since nobody else could lead, and was told.
    pub(crate) damage_borne: BTreeSet<ShardId>,
    pub(crate) scrubs: Scrubs,
    /// When the next scrub begins by itself.
    pub(crate) scrub_due: Option<Duration>,
    pub(crate) waiters: Vec<crate::connection::Waiter>,
    /// Connections that DEBUG SLEEP holds up, and until when.
    pub(crate) sleepers: Vec<(Duration, u64)>,
    pub(crate) slow_log: SlowLog,
    pub(crate) latency: LatencyMonitor,
    pub(crate) admin: crate::admin::Pending,
    pub(crate) verifications: Verifications<<S::Rows as Rows>::Snapshot>,
    pub(crate) asides: Asides,
    /// Requests that can't go anywhere for the moment, or wait for the next turn.
    pub(crate) stalled: VecDeque<Request>,
    /// What the next turn begins with.
    pub(crate) deferred: Deferred,
    /// Work that was done in this turn.
    pub(crate) worked: u64,
    /// See [`Node::unsettled`].
    pub(crate) unsettled: u64,
    pub(crate) replies: Replies,
    pub(crate) effects: VecDeque<Effect>,
    /// To be taken.
    pub(crate) prefetches: VecDeque<(ConnId, Prefetch)>,
    pub(crate) mutation: Mutation,
    pub(crate) scratch: BytesMut,
    /// Bytes waiting for the disk above which replicas' entries are not taken.
    pub(crate) log_room: usize,
    /// When what is in the log's buffer is to be on its way to the disk.
    pub(crate) flush_at: Option<Duration>,
    pub(crate) disk_watch: DiskWatch,
    /// After a full disk: when to try again.
    pub(crate) flush_not_before: Duration,
    /// When keys whose time is over are looked for again before the next tick, and of which
    /// shard first.
    pub(crate) expire_at: Option<Duration>,
    pub(crate) expire_first: ShardId,
    pub(crate) due: DueShards,
    /// The last tick: this node was away if it is long ago.
    ticked_at: Duration,
    pub(crate) next_upkeep: Duration,
    pub(crate) next_release: Duration,
    pub(crate) stopped: bool,
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
        let behind = self.log.pending_bytes().max(self.forwards.bytes()) >= BEHIND_BYTES;
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
        let now = self.arrives(now);
        let state = self.links.state().clone();
        self.send(peer, Lane::Bypass, &Message::Wan(state));
        self.with_cluster(|cluster, here| cluster.connected(peer, here));
        for (id, shard) in &mut self.shards {
            if let Some(strategy) = &mut shard.strategy {
                strategy.link_changed(peer, true, now);
                self.dirty.insert(*id);
            }
        }
    }

    /// The outgoing link broke; what was sent may be lost.
    pub fn peer_disconnected(&mut self, peer: &NodeId, now: Now) {
        let now = self.arrives(now);
        self.cluster.disconnected(peer);
        self.forwards_lost(peer, "its connection broke");
        for (id, shard) in &mut self.shards {
            if let Some(strategy) = &mut shard.strategy {
                strategy.link_changed(peer, false, now);
                self.dirty.insert(*id);
            }
        }
    }

    /// `from`, which was admitted as it introduced itself, has made a new link to us; messages of
    /// its former one may be lost.
    pub fn peer_inbound(&mut self, from: &NodeId, introduced: &Introduction, now: Now) {
        self.arrives(now);
        if !self.with_cluster(|cluster, _| cluster.linked(from, introduced)) {
            return;
        }
        self.pulses_linked(from, introduced.boot);
        self.forwards_lost(from, REMADE);
    }

    /// A message from `from`.
    pub fn peer_message(&mut self, from: &NodeId, bytes: Bytes, now: Now) {
        let now = self.arrives(now);
        if self.cluster.heard(from) {
            // Until it knew the new link itself it could answer nothing.
            self.forwards_lost(from, REMADE);
        }
        match message::decode(bytes, self.config.release.levels) {
            // With no room to log more, what comes is as good as lost: it is sent again.
            Ok(Incoming::Replica(..)) if self.log.pending_bytes() > self.log_room => {}
            // Nor does a process hold anything for others that the catalog does not know of: it
            // could be put back to before it without being missed.
            Ok(Incoming::Replica(..)) if !self.cluster.holds_for_others() => {}
            Ok(Incoming::Replica(..)) if self.disk_watch.is_stalled() => {}
            Ok(Incoming::Message(message))
                if self.disk_watch.is_stalled() && message.needs_disk() => {}
            Ok(Incoming::Replica(id, bytes)) => {
                let bytes = if bytes.len() < SHARED_FROM {
                    Bytes::copy_from_slice(&bytes)
                } else {
                    bytes
                };
                if let Some(strategy) = self.shards.get_mut(&id).and_then(|s| s.strategy.as_mut()) {
                    strategy.receive(from, bytes, now);
                    self.dirty.insert(id);
                }
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
            Message::CopyAsk {
                shard,
                copy,
                from: row,
            } => self.copy_asked(from, shard, copy, row),
            Message::CopyChunk(chunk) => self.copy_chunk(from, chunk),
            Message::CopyLost { shard, copy } => self.copy_lost(from, shard, copy),
            Message::RewindAsk(ask) => self.rewind_asked(from, ask),
            Message::RewindChunk(chunk) => self.rewind_chunk(from, chunk),
            Message::RewindLost { shard, rewind } => self.rewind_lost(from, shard, rewind),
            Message::HistoryAsk { shard } => self.history_asked(from, shard),
            Message::History(history) => self.history_told(from, history),
            Message::VerifyAsk { id, shard } => self.verify_asked(from, id, shard),
            Message::Digest(report) => self.digest_reported(from, report),
            Message::DigestKeysAsk { id, shard, bucket } => {
                self.digest_keys_asked(id, shard, bucket);
            }
            Message::DigestKeys(keys) => self.digest_keys(from, keys),
            Message::DigestProgress(progress) => self.digest_progressed(from, progress),
            Message::VerifyHeld { id, shard } => self.verify_held(id, shard),
            Message::VerifyOver { id, shard } => self.verify_over(id, shard),
            Message::Pulse(pulse) => self.pulse_heard(from, pulse),
        }
    }

    /// An input came at this time by the machine's clocks; returns it as this node keeps it.
    pub(crate) fn arrives(&mut self, machine: Now) -> Now {
        self.now = self.cluster.arrives(machine);
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
        let now = self.arrives(now);
        self.settle();
        let due = self.flush_at.is_some_and(|at| at <= now.monotonic)
            || self.log.sync_due().is_some_and(|at| at <= now.monotonic);
        if self.stopped || !due || now.monotonic < self.flush_not_before {
            return None;
        }
        let job = self.log.take_flush(now)?;
        // What is left is as urgent as what was taken.
        self.flush_at = (self.log.pending_bytes() > job.bytes()).then_some(now.monotonic);
        Some(job)
    }

    /// The first half of a flush has ended.
    pub fn flush_written(&mut self, done: Written, now: Now) {
        let now = self.arrives(now);
        match self.log.written_to(done) {
            Ok(durable) => self.durable(durable),
            Err(error) => {
                let Some(lacking) = error.lacking() else {
                    return self.stop(error.to_string());
                };
                tracing::warn!(%error, "writes are refused");
                self.flush_not_before = now.monotonic + NO_SPACE_PAUSE;
                self.flush_at = Some(self.flush_not_before);
                self.give_up_all(match lacking {
                    Lacking::Space => "the disk of the shard's primary is full",
                    Lacking::Descriptors => "the shard's primary can't open another log file",
                });
            }
        }
    }

    /// The second half of a flush has ended.
    pub fn flush_synced(&mut self, done: Synced, now: Now) {
        self.arrives(now);
        match self.log.synced(done) {
            Ok(durable) => self.durable(durable),
            Err(error) => self.stop(error.to_string()),
        }
    }

    /// Up to where the log survives a loss of power.
    pub fn log_durable(&self) -> Lsn {
        self.log.durable()
    }

    fn durable(&mut self, durable: Lsn) {
        let mut reached: BTreeMap<ShardId, u64> = BTreeMap::new();
        while let Some((lsn, shard, index)) = self.appended.front().copied()
            && lsn <= durable
        {
            self.appended.pop_front();
            reached.insert(shard, index);
        }
        for (id, index) in reached {
            if let Some(strategy) = self.shards.get_mut(&id).and_then(|s| s.strategy.as_mut()) {
                strategy.durable(index, self.now);
                self.dirty.insert(id);
            }
        }
        self.seals_durable(durable);
        self.rewinds_durable(durable);
        self.drops_durable(durable);
        self.cluster.durable(durable);
        self.log_survives(durable);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        let pause = now.monotonic.saturating_sub(self.ticked_at);
        self.ticked_at = now.monotonic;
        if pause > ABSENT {
            self.cluster.absent(pause);
            self.disk_watch.absent(now.monotonic);
        }
        let now = self.arrives(now);
        self.replies.tick();
        self.stall_tick();
        self.look_at_touched();
        self.with_cluster(|cluster, here| cluster.tick(here));
        self.fire_timers();
        self.maintain_pressed();
        self.expire();
        self.forwards_tick();
        self.retry_stalled();
        self.waiting_tick();
        self.pulse_tick();
        self.copies_tick();
        if !self.disk_watch.is_stalled() {
            self.rewinds_tick();
            self.leaving_tick();
        }
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
        let flush = (self.flush_at).and_then(|at| Some(at.max(self.log.flush_from()?)));
        let slowed = (!self.stalled.is_empty()).then(|| self.slowed_until());
        (self.timers.first().into_iter())
            .chain(slowed.flatten())
            .chain(flush)
            .chain(self.copies.wake_at())
            .chain(self.expire_at)
            .chain(self.deferred.is_any().then_some(self.now.monotonic))
            .min()
    }

    /// A moment that `wake_at` named has come: entries and acknowledgements that were gathered
    /// go out, and rows of copies.
    pub fn wake(&mut self, now: Now) {
        let now = self.arrives(now);
        self.give_rows();
        if self.expire_at.is_some_and(|at| at <= now.monotonic) {
            self.expire();
        }
        self.resume_deferred();
        if !self.stalled.is_empty() {
            self.retry_stalled();
        }
        self.fire_timers();
    }

    /// The next thing to do, until there is none: then all before it has been done, or is kept
    /// back as [`Node::doubt`] wants it.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() {
            self.cluster.lease().said();
            self.settle();
            if self.effects.is_empty() {
                self.worked = 0;
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

    pub(crate) fn append_shard(
        &mut self,
        id: ShardId,
        kind: u8,
        body: &[u8],
    ) -> Result<Lsn, AppendError> {
        self.flush_within(Duration::ZERO);
        self.log.append(stream(id), kind, &[body])
    }

    /// Forgets entries of a shard that were on their way to the disk.
    pub(crate) fn forget_appended(&mut self, id: ShardId) {
        self.appended.retain(|(_, shard, _)| *shard != id);
    }

    /// Closes the log, so that the next start knows that nothing of it is missing. No flush may be
    /// under way. Nothing is taken any more.
    pub fn close(&mut self) -> Result<(), LogError> {
        self.stopped = true;
        self.log.close().map(drop)
    }

    /// What the log lacks, so that writes are refused.
    pub(crate) fn lacking(&self) -> Option<Lacking> {
        self.log.lacking()
    }
}
