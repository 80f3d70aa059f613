//! The room: its parts and its doors.

use crate::{
    clock::Clock,
    control::{Asker, Control},
    failover::Leading,
    figures::KnownFigures,
    hand_over::HandingOver,
    host::Host,
    lease::{Doubt, Lease},
    level::Levelling,
    message::{Message, Sealed},
    peers::Peers,
    rehearsal::Rehearsal,
    replay::Replay,
    standing::{Introduction, Standing},
    timekeeping::Timekeeping,
};
use model::{Address, Boot, Catalog, DiskId, Lsn, NodeId, Now, Region, Release, ShardId};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// What this room must know from the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name.
    pub id: NodeId,
    /// What it can work with.
    pub release: Release,
    /// Where it stands.
    pub region: Region,
    /// Where within the region.
    pub zone: String,
    /// Where clients reach it.
    pub client_addr: Address,
    /// Where other nodes reach it.
    pub peer_addr: Address,
    /// Where people and monitoring reach it.
    pub http_addr: Address,
    /// Nodes to begin with; the catalog names the rest.
    pub peers: Vec<PeerConfig>,
    /// The voters of the control group: the same list on every node, for good.
    pub control_voters: Vec<NodeId>,
    /// The disk took the place of one that was set aside.
    pub emptied: bool,
    /// The disk that the data directory lies on.
    pub disk: DiskId,
    /// This process: greater than any before it on this disk.
    pub process: u64,
    /// Where this process begins to number what it asks of others, so that an answer to what an
    /// earlier one asked is not taken for an answer to this.
    pub first_number: u64,
    /// The process as the operating system numbers it, for people.
    pub pid: u32,
    /// The release that it runs.
    pub version: &'static str,
    /// Bytes of the log that the group's records may span before they are written anew.
    pub control_log_bytes: u64,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its name.
    pub id: NodeId,
    /// Where it stands.
    pub region: Region,
    /// Where nodes reach it.
    pub peer_addr: Address,
}

/// What the node is to do, in order. `A` is who asks this room for something.
#[derive(Debug)]
pub enum Output<A> {
    /// Send a message; it may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// A newer catalog was adopted.
    Adopted(Arc<Catalog>),
    /// [`Cluster::addresses`] answers differently now.
    PeersChanged,
    /// A lease began.
    Leased,
    /// A replica of this node is to be sealed.
    Seal {
        /// Which.
        shard: ShardId,
        /// For which epoch.
        epoch: model::Epoch,
        /// Who is to hear of it.
        from: NodeId,
    },
    /// What was asked for was done, in this version of the catalog, or why not.
    Answered(A, Result<u64, String>),
    /// The newest catalog is known (true), or nobody could be asked in time.
    Refreshed(A, bool),
    /// The node can't go on, for this reason.
    Stop(String),
    /// The node's disk must not be used again, for this reason.
    Discard(String),
}

/// What a node has of what all nodes agree on. See the crate's documentation.
pub struct Cluster<A> {
    pub(crate) config: Config,
    pub(crate) boot: Boot,
    pub(crate) standing: Standing,
    pub(crate) levelling: Levelling,
    pub(crate) rehearsal: Rehearsal,
    /// The time as this node keeps it, when it was told last.
    pub(crate) now: Now,
    pub(crate) started: Duration,
    pub(crate) clock: Clock,
    pub(crate) timekeeping: Timekeeping,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) control: Control<A>,
    /// Whether the catalog has this node for primary of anything.
    pub(crate) is_any_primary: bool,
    /// While this node may be primary of anything.
    pub(crate) lease: Lease,
    /// Set while this node gives away its offices.
    pub(crate) handing_over: Option<HandingOver>,
    /// What it has observed, if it leads the control group.
    pub(crate) leading: Option<Leading>,
    pub(crate) peers: Peers,
    pub(crate) figures: KnownFigures,
    /// It must take up nothing more.
    pub(crate) stopped: bool,
    outputs: VecDeque<Output<A>>,
}

impl<A> Cluster<A> {
    /// At the start of a process, with what its log has of this room. `notes`: what is to be
    /// written down once the node is registered.
    pub fn new(
        config: Config,
        boot: Boot,
        replay: Replay,
        notes: Vec<(&'static str, String)>,
        now: Now,
    ) -> Result<Self, String> {
        let muted = replay.is_muted();
        Ok(Cluster {
            levelling: replay.levelling,
            rehearsal: replay.rehearsal,
            standing: Standing::new(notes),
            now,
            started: now.monotonic,
            clock: Clock::new(now),
            timekeeping: Timekeeping::new(config.first_number),
            catalog: Arc::default(),
            control: Control::new(&config, replay.recovered, muted)?,
            is_any_primary: false,
            lease: Lease::new(config.first_number),
            handing_over: None,
            leading: None,
            peers: Peers::new(&config, now.monotonic),
            figures: KnownFigures::default(),
            stopped: false,
            outputs: VecDeque::new(),
            boot,
            config,
        })
    }

    // ---- what happens -----------------------------------------------------------------------

    /// An input came at this time by the machine's clocks; returns it as this node keeps it.
    pub fn arrives(&mut self, machine: Now) -> Now {
        self.now = self.clock.read(machine);
        self.now
    }

    /// Time has passed.
    pub fn tick(&mut self, host: &mut impl Host) {
        self.clock_tick(host);
        self.control_tick(host);
        self.lease_tick(host);
        self.report_tick(host);
        self.figures_tick(host);
        self.hand_over_tick(host);
        self.failover_tick(host);
        self.standing_tick();
        self.level_tick();
        self.rehearsal_tick(host);
    }

    /// A message from `from`.
    pub fn message(&mut self, from: &NodeId, message: Message, host: &mut impl Host) {
        match message {
            Message::Raft(_)
            | Message::Propose { .. }
            | Message::Outcome { .. }
            | Message::NotLeader { .. }
            | Message::ReadCatalog { .. }
            | Message::CatalogRead { .. }
            | Message::Catalog { .. } => self.control_message(from, message, host),
            Message::LeaseAsk(ask) => self.lease_asked(from, ask),
            Message::LeaseGranted { number } => self.lease_granted(number),
            Message::Seal { shard, epoch } => self.seal(from, shard, epoch),
            Message::Sealed(sealed) => self.sealed(from, sealed, host),
            Message::HandOver { shard, epoch, why } => {
                self.hand_over_asked(from, shard, epoch, why, host);
            }
            Message::Report(report) => self.reported(from, report),
            Message::CopyProgress(copies) => self.peers.copying(from, copies),
            Message::Figures(figures) => self.figures_told(from, figures),
            Message::ClockAsk { number } => self.clock_asked(from, number),
            Message::ClockTold {
                number,
                wall_ms,
                kept_ms,
            } => self.clock_told(from, number, wall_ms, kept_ms),
            Message::Rehearsal => self.rehearsal.heard(),
        }
    }

    /// The outgoing link to `peer` is newly made.
    pub fn connected(&mut self, peer: &NodeId, host: &impl Host) {
        self.peers.connected(peer);
        self.timekeeping.connected(peer);
        self.tell_report(peer, host);
    }

    /// The outgoing link to `peer` broke.
    pub fn disconnected(&mut self, peer: &NodeId) {
        self.peers.disconnected(peer);
    }

    /// `from`, which was [admitted](Cluster::admit) as it introduced itself, has made a new link to
    /// this node. Returns whether this node can go on.
    pub fn linked(&mut self, from: &NodeId, introduced: &Introduction) -> bool {
        if !self.knows_level(introduced.level) {
            return false;
        }
        self.peers.linked(from, introduced.boot);
        self.peers.remade(from);
        true
    }

    /// Something came from there. True if it is the first over a new link.
    pub fn heard(&mut self, from: &NodeId) -> bool {
        self.peers.heard(from, self.now.monotonic)
    }

    /// This node itself did nothing for so long: nobody was silent meanwhile.
    pub fn absent(&mut self, pause: Duration) {
        self.peers.absent(pause);
    }

    /// A replica here was sealed.
    pub fn sealed_here(&mut self, sealed: Sealed, host: &impl Host) {
        let me = self.config.id.clone();
        self.sealed(&me, sealed, host);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output<A>> {
        self.outputs.pop_front()
    }

    // ---- what is agreed on ------------------------------------------------------------------

    /// The other nodes, as far as they are heard.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Who leads the voters' group, as far as is known.
    pub fn leader(&self) -> Option<NodeId> {
        self.control.leader()
    }

    /// The voters.
    pub fn voters(&self) -> &[NodeId] {
        self.control.voters()
    }

    /// Whether this process knows what time it is.
    pub fn is_clock_settled(&self) -> bool {
        self.clock.is_settled()
    }

    /// This start of the node.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether nobody else may have been named primary in this node's place.
    pub fn is_leased(&self, now: Duration) -> bool {
        self.lease.holds(now)
    }

    /// The lease itself, for who answers under it.
    pub fn lease(&mut self) -> &mut Lease {
        &mut self.lease
    }

    /// Whether what was answered to clients, and to nodes that forwarded commands, may be said,
    /// at the time that `clock` gives: it is read only if there is something to judge.
    pub fn doubt(&mut self, clock: fn() -> Now) -> Doubt {
        match self.lease.has_answered() {
            true => self.lease.doubt(clock().monotonic),
            false => Doubt::None,
        }
    }

    /// The log is durable up to `durable`.
    pub fn durable(&mut self, durable: Lsn) {
        self.control.durable(durable);
        self.levelling.mark.durable(durable);
    }

    /// From where on the log is needed for this room, if it is.
    pub fn log_needed_from(&self) -> Option<Lsn> {
        let needed = [
            self.control.log_needed_from(),
            self.levelling.mark.log_needed_from(),
        ];
        needed.into_iter().flatten().min()
    }

    // ---- within the room --------------------------------------------------------------------

    pub(crate) fn put(&mut self, output: Output<A>) {
        self.outputs.push_back(output);
    }

    pub(crate) fn send(&mut self, to: &NodeId, message: Message) {
        let to = to.clone();
        self.put(Output::Send { to, message });
    }

    pub(crate) fn stop(&mut self, reason: String) {
        self.stopped = true;
        self.put(Output::Stop(reason));
    }

    /// A replica here is to be sealed, and `from` to hear of it.
    pub(crate) fn seal(&mut self, from: &NodeId, shard: ShardId, epoch: model::Epoch) {
        let from = from.clone();
        self.put(Output::Seal { shard, epoch, from });
    }

    /// A newer catalog is known.
    pub fn adopt(&mut self, catalog: impl Into<Arc<Catalog>>, host: &mut impl Host) {
        let catalog = catalog.into();
        if catalog.version <= self.catalog.version {
            return;
        }
        if !self.knows_level(catalog.level) {
            return;
        }
        self.catalog = catalog;
        self.mark_level(None, host);
        let me = &self.config.id;
        self.is_any_primary = self.catalog.named().any(|(_, s)| s.primary == *me);
        if let Some(leading) = &mut self.leading {
            leading.forget_who_left(&self.catalog);
        }
        self.follow_standing();
        if self.stopped {
            return; // Its disk is stale, or takes nothing more: it must take up nothing.
        }
        if self.peers.follow(&self.catalog, self.now.monotonic) {
            self.put(Output::PeersChanged);
        }
        self.put(Output::Adopted(self.catalog.clone()));
        self.report_soon();
    }

    /// Asks for a change that nobody waits for.
    pub(crate) fn ask_to_note(&mut self, command: control::command::Command) {
        self.ask_for(command, Asker::Note);
    }
}
