//! What befalls machines and links: starts, losses of power, cuts; and how links are made.

use super::{Event, TIMER, World, Wrong};
use crate::{machine::Flush, network::LinkNumber};
use node::OpenError;
use std::time::Duration;

/// When a machine loses power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Now, whatever is under way.
    Now,
    /// When a flush was handed over and nothing of it is written.
    BeforeFlush,
    /// In the middle of a flush, between two calls of the disk.
    InFlush,
    /// When a flush is durable and the node was not told.
    AfterFlush,
}

/// Which faults really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Losses of power while no flush was under way.
    pub idle: u64,
    /// Losses of power with a flush handed over and not begun.
    pub before_flush: u64,
    /// Losses of power within a flush.
    pub in_flush: u64,
    /// Losses of power with a flush done and not reported.
    pub after_flush: u64,
    /// Losses of power while a node read back its log.
    pub in_start: u64,
    /// Ends of a process on a machine that went on.
    pub kills: u64,
    /// Disks that were replaced by empty ones.
    pub disks_replaced: u64,
    /// Links cut, each way counted.
    pub cuts: u64,
    /// Messages that did not arrive.
    pub messages_lost: u64,
    /// Messages of copies that arrived.
    pub bulk_messages: u64,
}

impl World {
    /// Starts every node.
    pub fn start_all(&mut self) -> Result<(), Wrong> {
        for node in self.nodes() {
            self.start(&node)?;
        }
        Ok(())
    }

    /// Starts a node from what its disks hold.
    pub fn start(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.open(at)
            .map_err(|e| self.wrong_at(at, &format!("does not start: {e}")))
    }

    /// The machine loses power while the node reads back its log. It is left dead.
    pub fn start_and_crash(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        let calls = self.random.between(1, 5);
        self.machines[at].disk.fail_after(calls);
        match self.open(at) {
            Ok(()) => self.faults.idle += 1,
            Err(_) => self.faults.in_start += 1,
        }
        self.power_is_lost(at);
        Ok(())
    }

    /// The machine loses power at a moment of this kind; time passes until it comes.
    pub fn crash(&mut self, node: &str, moment: Moment) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        let deadline = self.now + Duration::from_secs(3);
        let arrived = |world: &World| match (moment, &world.machines[at].flush) {
            (Moment::Now, _) | (_, None) => moment == Moment::Now,
            (Moment::BeforeFlush | Moment::InFlush, Some(flush)) => {
                matches!(flush, Flush::Taken(_))
            }
            (Moment::AfterFlush, Some(flush)) => matches!(flush, Flush::Ran(_)),
        };
        while !arrived(self) {
            if self.now > deadline {
                return Err(Wrong(format!("{node} makes nothing durable")));
            }
            self.step()?;
        }
        let machine = &mut self.machines[at];
        match (machine.flush.take(), moment) {
            (Some(Flush::Taken(job)), Moment::InFlush) => {
                machine.disk.fail_after(self.random.between(1, 7));
                // Some flushes take fewer calls: then it dies with the flush just done.
                drop(job.run());
                self.faults.in_flush += 1;
            }
            (None, _) => self.faults.idle += 1,
            (Some(Flush::Taken(_)), _) => self.faults.before_flush += 1,
            (Some(Flush::Ran(_)), _) => self.faults.after_flush += 1,
        }
        self.power_is_lost(at);
        Ok(())
    }

    /// The process ends; what it wrote is there, durable or not.
    pub fn kill(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.faults.kills += 1;
        self.note(at, format_args!("is killed"));
        self.machines[at].kill();
        self.is_gone(at);
        Ok(())
    }

    /// A dead node gets an empty disk.
    pub fn replace_disk(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.faults.disks_replaced += 1;
        self.note(at, format_args!("gets an empty disk"));
        self.machines[at].replace_disk(&mut self.random);
        Ok(())
    }

    /// Nothing passes between two nodes any more, and neither is told.
    pub fn cut(&mut self, a: &str, b: &str) -> Result<(), Wrong> {
        let (a, b) = (self.machine(a)?, self.machine(b)?);
        for (from, to) in [(a, b), (b, a)] {
            self.faults.cuts += 1;
            let (f, t) = self.ids(from, to);
            self.note(from, format_args!("is cut off from {t}"));
            self.network.cut(&f, &t);
        }
        Ok(())
    }

    /// The links between two nodes are made anew.
    pub fn heal(&mut self, a: &str, b: &str) -> Result<(), Wrong> {
        let (a, b) = (self.machine(a)?, self.machine(b)?);
        for (from, to) in [(a, b), (b, a)] {
            let (f, t) = self.ids(from, to);
            self.network.heal(&f, &t);
            let wait = Duration::from_millis(self.random.between(1, 20));
            let number = self.network.number(&f, &t);
            self.schedule(wait, from, Event::Broken { from, to, number });
        }
        Ok(())
    }

    pub(super) fn open(&mut self, at: usize) -> Result<(), OpenError> {
        let others = self.machines.iter().enumerate().filter(|(n, _)| *n != at);
        let others = others.map(|(_, m)| m.as_peer()).collect();
        let voters = self.machines.iter().map(|m| m.id.clone()).collect();
        self.machines[at].start(others, voters, self.now, &mut self.random)?;
        self.note(at, format_args!("starts"));
        let wait = Duration::from_micros(self.random.below(20_000));
        self.schedule(wait, at, Event::Tick(at));
        for to in (0..self.machines.len()).filter(|to| *to != at) {
            let wait = Duration::from_millis(self.random.between(1, 60));
            self.schedule(wait, at, Event::Connect { from: at, to });
            // What others still send to the dead process is refused by the new one.
            let (me, other) = self.ids(at, to);
            let number = self.network.number(&other, &me);
            let wait = Duration::from_millis(self.random.between(1, 250));
            let event = Event::Broken {
                from: to,
                to: at,
                number,
            };
            self.schedule(wait, to, event);
        }
        self.turn(at);
        Ok(())
    }

    fn power_is_lost(&mut self, at: usize) {
        self.note(at, format_args!("loses power"));
        self.machines[at].lose_power(&mut self.random);
        self.is_gone(at);
    }

    /// Links to and from a dead node break; its clients are disconnected.
    fn is_gone(&mut self, at: usize) {
        for other in (0..self.machines.len()).filter(|other| *other != at) {
            let (me, peer) = self.ids(at, other);
            self.network.disconnect(&me, &peer);
            if self.random.once_in(2) {
                // Else what has left the machine still arrives.
                self.network.lose(&me, &peer);
            }
            self.network.receiver_died(&peer, &me);
            let notice_ms = if self.random.once_in(2) {
                self.random.between(1, 50)
            } else {
                self.random.between(100, 3000)
            };
            let number = self.network.number(&peer, &me);
            let event = Event::Broken {
                from: other,
                to: at,
                number,
            };
            self.schedule(Duration::from_millis(notice_ms), other, event);
        }
        for attached in self.clients.iter_mut().filter(|a| a.home == at) {
            if let Some(conn) = attached.conn.take() {
                self.connections.remove(&conn);
                attached.client.disconnected();
            }
        }
    }

    pub(super) fn connect(&mut self, from: usize, to: usize) {
        let (f, t) = self.ids(from, to);
        let there = self.machines[to].node.is_some();
        if !there || self.network.is_cut(&f, &t) || self.network.is_cut(&t, &f) {
            let wait = Duration::from_millis(self.random.between(50, 300));
            return self.schedule(wait, from, Event::Connect { from, to });
        }
        self.network.accept(&f, &t);
        let now = self.machines[to].now(self.now);
        if let Some(node) = &mut self.machines[to].node {
            node.peer_inbound(&f, now);
        }
        self.turn(to);
        let wait = self.latency(to, from);
        let receiver = self.machines[to].life;
        self.schedule(wait, from, Event::Connected { from, to, receiver });
    }

    pub(super) fn connected(&mut self, from: usize, to: usize, receiver: u64) {
        let (f, t) = self.ids(from, to);
        if self.machines[to].life != receiver || self.network.is_cut(&f, &t) {
            return self.schedule(TIMER, from, Event::Connect { from, to });
        }
        let now = self.machines[from].now(self.now);
        if self.network.disconnect(&f, &t)
            && let Some(node) = &mut self.machines[from].node
        {
            node.peer_disconnected(&t, now);
        }
        self.network.connect(&f, &t);
        self.note(from, format_args!("has a link to {t}"));
        if let Some(node) = &mut self.machines[from].node {
            node.peer_connected(&t, now);
        }
    }

    pub(super) fn broken(&mut self, from: usize, to: usize, number: LinkNumber) {
        let (f, t) = self.ids(from, to);
        if !self.network.arrives(&f, &t, number) || !self.network.disconnect(&f, &t) {
            return;
        }
        self.note(from, format_args!("has lost its link to {t}"));
        let now = self.machines[from].now(self.now);
        if let Some(node) = &mut self.machines[from].node {
            node.peer_disconnected(&t, now);
        }
        let wait = Duration::from_millis(self.random.between(1, 100));
        self.schedule(wait, from, Event::Connect { from, to });
    }
}
