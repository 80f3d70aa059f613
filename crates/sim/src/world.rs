//! The world: one clock, one queue of events, the machines, and the verbs of a story.
//!
//! A story calls verbs; those that let time pass (`run_for`, `ask`, `until_…`, `crash`) handle
//! one event after the other. Every input to a node is followed by its host's turn: a flush is
//! taken if none is under way, then every effect is carried out.

mod adversary;
mod clients;
mod faults;
mod fresh;
mod observe;
mod outages;
mod releases;
mod stalls;

pub use clients::Mix;
pub use faults::{Faults, Moment};
pub use observe::PrimaryChanges;

use crate::{
    client::Client,
    lost::Lost,
    machine::{Flush, Machine, Sync},
    network::{LinkNumber, Network, latency},
    random::Random,
    trace::{Trace, hash},
};
use bytes::Bytes;
use clients::{Attached, Connection, Worker};
use model::NodeId;
use node::{ConnId, Effect, Lane, NotAdmitted};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    fmt,
    time::Duration,
};

const TICK: Duration = Duration::from_millis(20);
/// As fine as a host's timer is.
const TIMER: Duration = Duration::from_millis(1);

/// What went wrong in a story.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

enum Event {
    Tick(usize),
    Wake(usize),
    FlushRuns(usize),
    FlushWritten(usize),
    /// The machine's, and which.
    SyncRuns(usize, u64),
    /// See `SyncRuns`.
    SyncEnds(usize, u64),
    Deliver {
        from: usize,
        to: usize,
        lane: Lane,
        number: LinkNumber,
        message: Bytes,
    },
    /// `from` tries to make its link to `to`.
    Connect {
        from: usize,
        to: usize,
    },
    /// The receiver has answered: the link is there.
    Connected {
        from: usize,
        to: usize,
        receiver: u64,
    },
    /// `from` hears that `to` does not let it in.
    NotAdmitted {
        from: usize,
        to: usize,
        why: NotAdmitted,
    },
    /// `from` notices that its link to `to` broke.
    Broken {
        from: usize,
        to: usize,
        number: LinkNumber,
    },
    /// What was delivered before comes once more, whatever became of its link.
    Again {
        from: usize,
        to: usize,
        message: Bytes,
    },
    /// A client's command, sent while the process stood still.
    Says {
        at: usize,
        conn: ConnId,
        words: Vec<Bytes>,
    },
    /// A process that stood still goes on.
    Resumes(usize),
    ClientActs(usize),
}

/// What is to happen, and when; of two at one time the one that was scheduled first.
struct Scheduled {
    at: Duration,
    number: u64,
    /// The life of the machine that it is for.
    life: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// An event that is for whichever life of its machine.
const ANY_LIFE: u64 = u64::MAX;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Each node's name and region.
    pub nodes: Vec<(String, String)>,
    /// Which of them vote in the control group.
    pub voters: Vec<usize>,
    /// The log that a node keeps for replicas that lag, in bytes.
    pub log_retention_bytes: u64,
    /// Whether the trace keeps its lines.
    pub trace_kept: bool,
}

/// A cluster, and all that surrounds it.
pub struct World {
    now: Duration,
    random: Random,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    /// For each machine what came to it while it stood still, and for which life of it.
    waiting: Vec<VecDeque<(u64, Event)>>,
    voters: Vec<NodeId>,
    adversary: adversary::Adversary,
    observed: observe::Observed,
    committed: fresh::Committed,
    pub(crate) registers: crate::register::Registers,
    pub(crate) sessions: crate::session::Keys,
    /// What disks that are gone held of what failovers lost.
    lost: Lost,
    /// What clients did so far, as numbers that only grow.
    moments: u64,
    machines: Vec<Machine>,
    /// Of all machines.
    names: Vec<NodeId>,
    /// Machines whose wall clocks were ever set.
    clocks_off: BTreeSet<usize>,
    /// A node has started with a wrong clock while most others were down: nobody could tell it so.
    clocks_in_doubt: bool,
    network: Network,
    clients: Vec<Attached>,
    clients_act: bool,
    /// How long a client waits between commands, at most.
    pause_max: Duration,
    pipelines: bool,
    connections: BTreeMap<ConnId, Connection>,
    next_conn: u64,
    /// Flushes so far, and messages between nodes.
    flushes: u64,
    messages_sent: u64,
    faults: Faults,
    trace: Trace,
    /// What clients and nodes found wrong.
    wrong: VecDeque<String>,
}

impl Event {
    /// The machine that it is for; a client acts at none.
    fn machine(&self) -> usize {
        match self {
            Event::Tick(at)
            | Event::Wake(at)
            | Event::FlushRuns(at)
            | Event::FlushWritten(at)
            | Event::SyncRuns(at, _)
            | Event::SyncEnds(at, _)
            | Event::Resumes(at)
            | Event::ClientActs(at)
            | Event::Says { at, .. } => *at,
            Event::Deliver { to, .. } | Event::Again { to, .. } => *to,
            Event::Connect { from, .. }
            | Event::Connected { from, .. }
            | Event::NotAdmitted { from, .. }
            | Event::Broken { from, .. } => *from,
        }
    }
}

impl World {
    /// Three machines, us-1, us-2 and eu-1, all control voters, none started.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // By half of the seeds a replica that was away finds the log gone, and copies.
        let log_retention_bytes = if random.once_in(2) {
            96 << 10
        } else {
            64 << 20
        };
        let nodes = [("us-1", "us"), ("us-2", "us"), ("eu-1", "eu")];
        let setup = Setup {
            nodes: nodes.map(|(n, r)| (n.into(), r.into())).to_vec(),
            voters: vec![0, 1, 2],
            log_retention_bytes,
            trace_kept: true,
        };
        Self::with(&setup, random)
    }

    /// Machines, none started. Names that are no names, and voters that are no nodes, are left
    /// out.
    pub fn with(setup: &Setup, mut random: Random) -> Self {
        let machines: Vec<Machine> = (setup.nodes.iter().enumerate())
            .filter_map(|(n, (id, region))| {
                let retention = setup.log_retention_bytes;
                Machine::new(id, region, n as u16, retention, &mut random)
            })
            .collect();
        let voters = setup.voters.iter().filter_map(|n| machines.get(*n));
        World {
            now: Duration::ZERO,
            random,
            queue: BinaryHeap::new(),
            scheduled: 0,
            waiting: machines.iter().map(|_| VecDeque::new()).collect(),
            voters: voters.map(|m| m.id.clone()).collect(),
            adversary: adversary::Adversary::default(),
            observed: observe::Observed::default(),
            committed: fresh::Committed::default(),
            registers: crate::register::Registers::default(),
            sessions: crate::session::Keys::default(),
            lost: Lost::default(),
            moments: 0,
            network: Network::new(machines.len()),
            names: machines.iter().map(|m| m.id.clone()).collect(),
            machines,
            clocks_off: BTreeSet::new(),
            clocks_in_doubt: false,
            clients: Vec::new(),
            clients_act: false,
            pause_max: Duration::from_millis(30),
            pipelines: true,
            connections: BTreeMap::new(),
            next_conn: 0,
            flushes: 0,
            messages_sent: 0,
            faults: Faults::default(),
            trace: Trace::new(setup.trace_kept),
            wrong: VecDeque::new(),
        }
    }

    // ---- what a story asks ----------------------------------------------------------------

    /// How many messages nodes have sent each other.
    pub fn messages_sent(&self) -> u64 {
        self.messages_sent
    }

    /// The world's clock: time since its beginning.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Chance, for the story's own choices.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Which faults happened so far.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Everything that happened so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The clients that write keys of their own.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter_map(|a| match &a.worker {
            Worker::Owner(client) => Some(client),
            _ => None,
        })
    }

    /// What failovers lost, by the files that nodes saved.
    pub fn lost(&self) -> Result<Lost, Wrong> {
        let mut lost = self.lost.clone();
        for machine in &self.machines {
            let read = lost.read(&machine.rewound);
            read.map_err(|e| self.wrong_of(machine, &format!("can't read what was lost: {e}")))?;
        }
        Ok(lost)
    }

    /// How often what happened in sessions.
    pub fn session_counts(&self) -> crate::session::Counts {
        self.sessions.counts()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<String> {
        self.machines.iter().map(|m| m.id.to_string()).collect()
    }

    /// The number of the newest segment of a node's log.
    pub fn newest_segment(&self, node: &str) -> Result<u64, Wrong> {
        let machine = &self.machines[self.machine(node)?];
        let names = storage::disk::Disk::list(&machine.disk).map_err(|e| Wrong(e.to_string()))?;
        let numbers = names
            .iter()
            .filter_map(|n| n.strip_suffix(".log")?.parse().ok());
        Ok(numbers.max().unwrap_or_default())
    }

    /// Fails if a client was answered what it must not be, or a node stopped by itself.
    pub fn nothing_wrong(&self) -> Result<(), Wrong> {
        match self.wrong.front() {
            Some(first) => Err(Wrong(first.clone())),
            None => Ok(()),
        }
    }

    // ---- time -----------------------------------------------------------------------------

    /// Lets time pass until a moment of the world's clock, unless it is over.
    pub fn run_until(&mut self, moment: Duration) -> Result<(), Wrong> {
        self.run_for(moment.saturating_sub(self.now))
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Wrong> {
        let until = self.now + time;
        while self.queue.peek().is_some_and(|next| next.0.at <= until) {
            self.step()?;
        }
        self.now = until;
        Ok(())
    }

    fn schedule(&mut self, wait: Duration, machine: usize, event: Event) {
        let life = self.machines[machine].life;
        self.enqueue(wait, life, event);
    }

    /// Schedules what no machine's end makes void.
    fn schedule_for_all(&mut self, wait: Duration, event: Event) {
        self.enqueue(wait, ANY_LIFE, event);
    }

    fn enqueue(&mut self, wait: Duration, life: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + wait,
            number: self.scheduled,
            life,
            event,
        }));
    }

    /// The next event.
    fn step(&mut self) -> Result<(), Wrong> {
        let Some(Reverse(next)) = self.queue.pop() else {
            return Err(Wrong("nothing will ever happen again".into()));
        };
        self.now = self.now.max(next.at);
        match next.event {
            Event::ClientActs(client) => self.client_acts(client),
            Event::Resumes(at) => {
                if self.machines[at].life == next.life {
                    self.resumes(at);
                }
            }
            event => {
                let at = event.machine();
                if self.machines[at].is_paused(self.now) {
                    self.waiting[at].push_back((next.life, event));
                } else {
                    self.comes(at, next.life, event);
                }
            }
        }
        self.nothing_wrong()
    }

    /// An event reaches the machine that it is for.
    fn comes(&mut self, at: usize, life: u64, event: Event) {
        if life == ANY_LIFE || self.machines[at].life == life {
            let ticks = matches!(event, Event::Tick(_));
            self.happen(at, event);
            self.turn(at);
            if ticks {
                self.judges_freshness(at);
            }
        } else if let Event::Deliver { .. } = event {
            self.faults.messages_lost += 1;
        }
    }

    fn happen(&mut self, at: usize, event: Event) {
        if self.hangs(at, &event) {
            return;
        }
        let now = self.machines[at].now(self.now);
        let machine = &mut self.machines[at];
        let Some(node) = &mut machine.node else {
            return;
        };
        match event {
            Event::Tick(_) => {
                node.tick(now);
                // A link takes at once what it is given: nothing waits there to be sent.
                self.names.iter().for_each(|peer| node.peer_queued(peer, 0));
                self.schedule(TICK, at, Event::Tick(at));
            }
            Event::Wake(_) => {
                if machine
                    .wakes_at
                    .is_some_and(|wakes_at| wakes_at <= self.now)
                {
                    machine.wakes_at = None;
                    node.wake(now);
                }
            }
            Event::FlushRuns(_) => {
                if let Some(Flush::Taken(job)) = machine.flush.take() {
                    let (written, sync) = job.write();
                    machine.flush = Some(Flush::Written(written));
                    self.flushes += 1;
                    let number = self.flushes;
                    machine.syncs.insert(number, Sync::Waits(sync));
                    if machine.syncs.len() > 1 {
                        self.faults.overlapping_syncs += 1;
                    }
                    let wait = Duration::from_micros(self.random.between(5, 100));
                    self.note(at, format_args!("has written"));
                    self.schedule(wait, at, Event::FlushWritten(at));
                    let wait = self.flush_takes(at);
                    self.schedule(wait, at, Event::SyncRuns(at, number));
                }
            }
            Event::FlushWritten(_) => machine.tell_written(now),
            Event::SyncRuns(_, number) => {
                if let Some(Sync::Waits(job)) = machine.syncs.remove(&number) {
                    machine.syncs.insert(number, Sync::Ran(job.run()));
                    let wait = Duration::from_micros(self.random.between(5, 100));
                    self.note(at, format_args!("has flushed"));
                    self.schedule(wait, at, Event::SyncEnds(at, number));
                }
            }
            Event::SyncEnds(_, number) => {
                machine.tell_written(now);
                if let Some(node) = &mut machine.node
                    && let Some(Sync::Ran(done)) = machine.syncs.remove(&number)
                {
                    node.flush_synced(done, now);
                }
            }
            Event::Deliver {
                from,
                lane,
                number,
                message,
                ..
            } => {
                if !self.network.arrives(from, at, number) {
                    self.faults.messages_lost += 1;
                    return;
                }
                if lane == Lane::Bulk {
                    self.faults.bulk_messages += 1;
                }
                if self.is_meddled_with(from, at, &message) {
                    return;
                }
                self.hears(from, at, message, "hears");
            }
            Event::Again { from, message, .. } => {
                self.faults.repeated += 1;
                self.hears(from, at, message, "hears again");
            }
            Event::Says { conn, words, .. } => self.says(at, conn, &words),
            Event::Connect { from, to } => self.connect(from, to),
            Event::Connected { from, to, receiver } => self.connected(from, to, receiver),
            Event::Broken { from, to, number } => self.broken(from, to, number),
            Event::NotAdmitted { to, why, .. } => {
                let by = self.machines[to].id.clone();
                if let Some(node) = &mut self.machines[at].node {
                    node.not_admitted(&by, why, now);
                }
            }
            Event::ClientActs(_) | Event::Resumes(_) => {}
        }
    }

    fn hears(&mut self, from: usize, at: usize, message: Bytes, how: &str) {
        let from = self.machines[from].id.clone();
        self.note(at, format_args!("{how} {} from {from}", Digest(&message)));
        self.has_heard(at, &message);
        self.machines[at].receive(&from, message, self.now);
    }

    // ---- the host's turn ------------------------------------------------------------------

    fn turn(&mut self, at: usize) {
        let now = self.machines[at].now(self.now);
        let machine = &mut self.machines[at];
        if machine.is_paused(self.now) {
            return;
        }
        let Some(node) = &mut machine.node else {
            return;
        };
        while let Some(aside) = node.take_aside() {
            node.aside_done(aside.run(), now);
        }
        if machine.flush.is_none()
            && let Some(job) = node.take_flush(now)
        {
            machine.flush = Some(Flush::Taken(job));
            let wait = Duration::from_micros(self.random.between(5, 100));
            self.schedule(wait, at, Event::FlushRuns(at));
        }
        self.carry_out_all(at);
        let machine = &mut self.machines[at];
        if let Some(wake_at) = machine.node.as_ref().and_then(|n| n.wake_at()) {
            let wake_at = machine.clock.world_time(wake_at).max(self.now + TIMER);
            if machine.wakes_at.is_none_or(|sooner| wake_at < sooner) {
                machine.wakes_at = Some(wake_at);
                self.schedule(wake_at.saturating_sub(self.now), at, Event::Wake(at));
            }
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        let effect = match effect {
            Effect::Answer { to, lane, message } => Effect::Send { to, lane, message },
            other => other,
        };
        match effect {
            Effect::Answer { .. } => {}
            Effect::ClientOutput(conn) => self.output(at, conn),
            Effect::Send { to, lane, message } => {
                let Ok(to) = self.machine(to.as_str()) else {
                    return;
                };
                let message = message.into_bytes();
                self.sends(at, &message);
                self.messages_sent += 1;
                if !self.network.is_up(at, to) {
                    return;
                }
                let latency = self.latency(at, to);
                match self.network.send(at, to, lane, self.now, latency) {
                    Some((arrives, number)) => {
                        let wait = arrives.saturating_sub(self.now);
                        let from = at;
                        let event = Event::Deliver {
                            from,
                            to,
                            lane,
                            number,
                            message,
                        };
                        self.schedule(wait, to, event);
                    }
                    None => self.faults.messages_lost += 1,
                }
            }
            Effect::Stop(reason) => {
                self.note(at, format_args!("stops: {reason}"));
                if self.machines[at].may_stop {
                    self.faults.stops += 1;
                    self.machines[at].last_words = Some(reason);
                    return self.power_is_lost(at);
                }
                let wrong = self.wrong_at(at, &format!("stops: {reason}"));
                self.wrong.push_back(wrong.0);
            }
            Effect::Discard(reason) => self.discards(at, &reason),
            Effect::ClientResumed(_) | Effect::CloseClient(_) | Effect::PeersChanged => {}
        }
    }

    /// How long until the disk comes to a flush.
    fn flush_takes(&mut self, at: usize) -> Duration {
        if let Some((until, longest)) = self.machines[at].slow_disk
            && self.now < until
        {
            self.faults.slow_flushes += 1;
            let us = self.random.between(100_000, longest.as_micros() as u64);
            return Duration::from_micros(us);
        }
        // Now and then the disk is busy with something else.
        let us = if self.random.once_in(50) { 20_000 } else { 300 };
        Duration::from_micros(self.random.between(20, us))
    }

    // ---- small things ---------------------------------------------------------------------

    fn machine(&self, node: &str) -> Result<usize, Wrong> {
        let found = self.machines.iter().position(|m| m.id.as_str() == node);
        found.ok_or_else(|| Wrong(format!("there is no node {node}")))
    }

    fn latency(&mut self, from: usize, to: usize) -> Duration {
        let (from, to) = (&self.machines[from].region, &self.machines[to].region);
        latency(&mut self.random, from, to)
    }

    fn note(&mut self, at: usize, what: fmt::Arguments<'_>) {
        self.trace
            .note(self.now, self.machines[at].id.as_str(), what);
    }

    fn wrong_at(&self, at: usize, what: &str) -> Wrong {
        self.wrong_of(&self.machines[at], what)
    }

    fn wrong_of(&self, machine: &Machine, what: &str) -> Wrong {
        Wrong(format!("at {:?} {} {what}", self.now, machine.id))
    }
}

/// Bytes of a command or reply, cut short.
struct Shown<'a>(&'a [u8]);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..72) {
            Some(start) => write!(f, "{}… {}", start.escape_ascii(), Digest(self.0)),
            None => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

/// Bytes by their length and a hash.
struct Digest<'a>(&'a [u8]);

impl fmt::Display for Digest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes #{:016x}", self.0.len(), hash(0, self.0))
    }
}
