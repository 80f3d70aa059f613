//! The world: one clock, one queue of events, the machines, and the verbs of a story.
//!
//! A story calls verbs; those that let time pass (`run_for`, `ask`, `until_…`, `crash`) handle
//! one event after the other. Every input to a node is followed by its host's turn: a flush is
//! taken if none is under way, then every effect is carried out.

mod clients;
mod faults;

pub use faults::{Faults, Moment};

use crate::{
    client::Client,
    machine::{Flush, Machine},
    network::{LinkNumber, Network, latency},
    random::Random,
    trace::{Trace, hash},
};
use bytes::Bytes;
use clients::{Attached, Connection};
use model::NodeId;
use node::{ConnId, Effect, Lane};
use std::{
    collections::{BTreeMap, VecDeque},
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
    FlushEnds(usize),
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
    /// `from` notices that its link to `to` broke.
    Broken {
        from: usize,
        to: usize,
        number: LinkNumber,
    },
    ClientActs(usize),
}

/// A cluster of three nodes, and all that surrounds it.
pub struct World {
    now: Duration,
    random: Random,
    /// By time, then in the order in which they were scheduled; with the life of the machine
    /// that they are for.
    queue: BTreeMap<(Duration, u64), (u64, Event)>,
    scheduled: u64,
    machines: Vec<Machine>,
    network: Network,
    clients: Vec<Attached>,
    clients_act: bool,
    connections: BTreeMap<ConnId, Connection>,
    next_conn: u64,
    faults: Faults,
    trace: Trace,
    /// What clients and nodes found wrong.
    wrong: VecDeque<String>,
}

impl World {
    /// Three machines, us-1, us-2 and eu-1, all control voters, none started.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // By half of the seeds a replica that was away finds the log gone, and copies.
        let retention = if random.once_in(2) {
            96 << 10
        } else {
            64 << 20
        };
        let machines = [("us-1", "us"), ("us-2", "us"), ("eu-1", "eu")]
            .iter()
            .enumerate()
            .filter_map(|(n, (id, region))| {
                Machine::new(id, region, n as u16, retention, &mut random)
            })
            .collect();
        World {
            now: Duration::ZERO,
            random,
            queue: BTreeMap::new(),
            scheduled: 0,
            machines,
            network: Network::default(),
            clients: Vec::new(),
            clients_act: false,
            connections: BTreeMap::new(),
            next_conn: 0,
            faults: Faults::default(),
            trace: Trace::default(),
            wrong: VecDeque::new(),
        }
    }

    // ---- what a story asks ----------------------------------------------------------------

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

    /// The clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().map(|a| &a.client)
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

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Wrong> {
        let until = self.now + time;
        while self
            .queue
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= until)
        {
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
        self.enqueue(wait, u64::MAX, event);
    }

    fn enqueue(&mut self, wait: Duration, life: u64, event: Event) {
        self.scheduled += 1;
        self.queue
            .insert((self.now + wait, self.scheduled), (life, event));
    }

    /// The next event.
    fn step(&mut self) -> Result<(), Wrong> {
        let Some(((at, _), (life, event))) = self.queue.pop_first() else {
            return Err(Wrong("nothing will ever happen again".into()));
        };
        self.now = self.now.max(at);
        let machine = match &event {
            Event::Tick(m) | Event::Wake(m) | Event::FlushRuns(m) | Event::FlushEnds(m) => *m,
            Event::Deliver { to, .. } => *to,
            Event::Connect { from, .. }
            | Event::Connected { from, .. }
            | Event::Broken { from, .. } => *from,
            Event::ClientActs(client) => {
                self.client_acts(*client);
                return self.nothing_wrong();
            }
        };
        if self.machines[machine].life == life {
            self.happen(machine, event);
            self.turn(machine);
        } else if let Event::Deliver { .. } = event {
            self.faults.messages_lost += 1;
        }
        self.nothing_wrong()
    }

    fn happen(&mut self, at: usize, event: Event) {
        let now = self.machines[at].now(self.now);
        let machine = &mut self.machines[at];
        let Some(node) = &mut machine.node else {
            return;
        };
        match event {
            Event::Tick(_) => {
                node.tick(now);
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
                    machine.flush = Some(Flush::Ran(job.run()));
                    let wait = Duration::from_micros(self.random.between(5, 100));
                    self.note(at, format_args!("has flushed"));
                    self.schedule(wait, at, Event::FlushEnds(at));
                }
            }
            Event::FlushEnds(_) => {
                if let Some(Flush::Ran(done)) = machine.flush.take() {
                    node.flush_done(done, now);
                }
            }
            Event::Deliver {
                from,
                lane,
                number,
                message,
                ..
            } => {
                let (from, to) = self.ids(from, at);
                if !self.network.arrives(&from, &to, number) {
                    self.faults.messages_lost += 1;
                    return;
                }
                if lane == Lane::Bulk {
                    self.faults.bulk_messages += 1;
                }
                self.note(at, format_args!("hears {} from {from}", Digest(&message)));
                self.machines[at].receive(&from, message, self.now);
            }
            Event::Connect { from, to } => self.connect(from, to),
            Event::Connected { from, to, receiver } => self.connected(from, to, receiver),
            Event::Broken { from, to, number } => self.broken(from, to, number),
            Event::ClientActs(_) => {}
        }
    }

    // ---- the host's turn ------------------------------------------------------------------

    fn turn(&mut self, at: usize) {
        let now = self.machines[at].now(self.now);
        let machine = &mut self.machines[at];
        let Some(node) = &mut machine.node else {
            return;
        };
        if machine.flush.is_none()
            && let Some(job) = node.take_flush(now)
        {
            machine.flush = Some(Flush::Taken(job));
            // Now and then the disk is busy with something else.
            let us = if self.random.once_in(50) { 20_000 } else { 300 };
            let wait = Duration::from_micros(self.random.between(20, us));
            self.schedule(wait, at, Event::FlushRuns(at));
        }
        while let Some(effect) = (self.machines[at].node.as_mut()).and_then(|n| n.poll_effect()) {
            self.carry_out(at, effect);
        }
        let machine = &mut self.machines[at];
        if let Some(wake_at) = machine.node.as_ref().and_then(|n| n.wake_at()) {
            let wake_at = machine.world_time(wake_at).max(self.now + TIMER);
            if machine.wakes_at.is_none_or(|sooner| wake_at < sooner) {
                machine.wakes_at = Some(wake_at);
                self.schedule(wake_at.saturating_sub(self.now), at, Event::Wake(at));
            }
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::ClientOutput(conn) => self.output(at, conn),
            Effect::Send { to, lane, message } => {
                let Ok(to) = self.machine(to.as_str()) else {
                    return;
                };
                let (f, t) = self.ids(at, to);
                if !self.network.is_up(&f, &t) {
                    return;
                }
                let latency = self.latency(at, to);
                match self.network.send(&f, &t, lane, self.now, latency) {
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
                let wrong = self.wrong_at(at, &format!("stops: {reason}"));
                self.wrong.push_back(wrong.0);
            }
            Effect::ClientResumed(_) | Effect::CloseClient(_) | Effect::PeersChanged => {}
        }
    }

    // ---- small things ---------------------------------------------------------------------

    fn machine(&self, node: &str) -> Result<usize, Wrong> {
        let found = self.machines.iter().position(|m| m.id.as_str() == node);
        found.ok_or_else(|| Wrong(format!("there is no node {node}")))
    }

    fn ids(&self, from: usize, to: usize) -> (NodeId, NodeId) {
        (self.machines[from].id.clone(), self.machines[to].id.clone())
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
        Wrong(format!("at {:?} {} {what}", self.now, self.machines[at].id))
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
