//! What befalls machines and links: starts, losses of power, cuts; and how links are made.

use super::{Event, TIMER, World, Wrong};
use crate::{machine::Flush, network::LinkNumber};
use node::OpenError;
use std::time::Duration;

/// How long a process that is told to end may hand over.
const END_MAX: Duration = Duration::from_secs(5);

/// When a machine loses power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Now, whatever is under way.
    Now,
    /// When a flush was handed over and nothing of it is written.
    BeforeFlush,
    /// In the middle of a flush, between two calls of the disk.
    InFlush,
    /// When a batch is written and not synced.
    BeforeSync,
    /// When a flush is durable and the node was not told.
    AfterFlush,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Which faults really happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Faults {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl std::ops::AddAssign for Faults {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Faults {
            /// Each kind by name.
            pub fn by_kind(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

faults! {
    /// Losses of power while no flush was under way.
    idle,
    /// Losses of power with a flush handed over and not begun.
    before_flush,
    /// Losses of power within a flush.
    in_flush,
    /// Losses of power with a batch written and not synced.
    before_sync,
    /// Losses of power with a flush done and not reported.
    after_flush,
    /// Losses of power while a node read back its log.
    in_start,
    /// Ends of a process on a machine that went on.
    kills,
    /// Of these, those that were asked for, and handed over first.
    ends,
    /// Disks that were replaced by empty ones.
    disks_replaced,
    /// Links cut, each way counted.
    cuts,
    /// Messages that did not arrive.
    messages_lost,
    /// Messages of copies that arrived.
    bulk_messages,
    /// Links that broke with what was under way.
    broken_links,
    /// Cuts of one way only.
    one_way_cuts,
    /// Regions cut off whole.
    region_cuts,
    /// Links on which messages took longer for a while.
    delays,
    /// Messages that came again, late.
    repeated,
    /// Messages taken out of a link that went on.
    dropped,
    /// Processes that stood still.
    pauses,
    /// For how many milliseconds they did in all.
    paused_ms,
    /// Steps of a wall clock.
    clock_steps,
    /// Wall clocks that were set far off …
    clock_jumps,
    /// … and back.
    clock_returns,
    /// Changes of a clock's rate.
    clock_rates,
    /// Flushes that took a slow disk's time.
    slow_flushes,
    /// Batches that were written while an earlier one was being synced.
    overlapping_syncs,
    /// Disks that had no room: clients were refused a write for it.
    full_disks,
    /// Bits of a log that flipped, and were noticed.
    bit_rots,
    /// Nodes that stopped because a write or a sync failed.
    stops,
    /// Disks in whose place an older copy of them was put.
    put_back,
    /// Such disks that were refused, and given up.
    stale_disks,
    /// Last batches of a log that decayed after a loss of power.
    decayed_ends,
    /// Writes and syncs that a disk which hung kept waiting.
    hung_flushes,
    /// Turns in which a node stood still before it said an answer.
    long_turns,
    /// Answers that were kept back, as the lease had ended in such a turn.
    answers_withheld,
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
        while !self.has_come(at, moment) {
            if self.now > deadline {
                return Err(Wrong(format!("{node} makes nothing durable")));
            }
            self.step()?;
        }
        let machine = &mut self.machines[at];
        let synced = machine.has_synced();
        match (machine.flush.take(), moment) {
            (Some(Flush::Taken(job)), Moment::InFlush) => {
                machine.disk.fail_after(self.random.between(1, 7));
                // Some flushes take fewer calls: then it dies with the flush just done.
                drop(job.run());
                self.faults.in_flush += 1;
            }
            (_, Moment::AfterFlush) if synced => self.faults.after_flush += 1,
            (Some(Flush::Taken(_)), _) => self.faults.before_flush += 1,
            _ if machine.is_syncing() => self.faults.before_sync += 1,
            _ if synced => self.faults.after_flush += 1,
            _ => self.faults.idle += 1,
        }
        self.power_is_lost(at);
        Ok(())
    }

    /// The machine loses power at a moment of this kind if one comes within a while, else now.
    pub fn crash_if_it_comes(&mut self, node: &str, moment: Moment) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        if self.machines[at].is_paused(self.now) || !self.flushes_soon(at, moment)? {
            return self.crash(node, Moment::Now);
        }
        self.crash(node, moment)
    }

    fn flushes_soon(&mut self, at: usize, moment: Moment) -> Result<bool, Wrong> {
        let deadline = self.now + Duration::from_secs(1);
        while !self.has_come(at, moment) {
            if self.now > deadline || self.machines[at].node.is_none() {
                return Ok(false);
            }
            self.step()?;
        }
        Ok(true)
    }

    fn has_come(&self, at: usize, moment: Moment) -> bool {
        let machine = &self.machines[at];
        match moment {
            Moment::Now => true,
            Moment::BeforeFlush | Moment::InFlush => {
                matches!(machine.flush, Some(Flush::Taken(_)))
            }
            Moment::BeforeSync => machine.is_syncing(),
            Moment::AfterFlush => machine.has_synced(),
        }
    }

    /// A process is told to end, and hands over.
    pub fn begin_end(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.note(at, format_args!("is told to end"));
        let now = self.machines[at].now(self.now);
        if let Some(node) = &mut self.machines[at].node {
            node.end(now);
        }
        self.turn(at);
        Ok(())
    }

    /// Whether such a process has nothing left to hand over.
    pub fn has_handed_over(&self, node: &str) -> Result<bool, Wrong> {
        let machine = &self.machines[self.machine(node)?];
        Ok(machine.node.as_ref().is_none_or(|n| n.has_handed_over()))
    }

    /// A process is told to end, and does, once it has handed over or has tried for a while.
    pub fn end(&mut self, node: &str) -> Result<(), Wrong> {
        self.begin_end(node)?;
        let deadline = self.now + END_MAX;
        while !self.has_handed_over(node)? && self.now < deadline {
            self.step()?;
        }
        self.faults.ends += u64::from(self.has_handed_over(node)?);
        self.kill(node)
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
        let rewound = &self.machines[at].rewound;
        self.lost.read(rewound).map_err(|e| Wrong(e.to_string()))?;
        self.machines[at].replace_disk(&mut self.random);
        Ok(())
    }

    /// A copy is made of what a node's disks hold, running or not.
    pub fn copy_disks(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.note(at, format_args!("has its disks copied"));
        self.machines[at].copy_disks();
        Ok(())
    }

    /// Whether no majority of the control group is without a voter that runs and has this node's
    /// present process in its own log, be that node itself among it.
    pub fn is_known_to_voters(&self, node: &str) -> Result<bool, Wrong> {
        let at = self.machine(node)?;
        let (id, boot) = {
            let machine = &self.machines[at];
            (&machine.id, machine.node.as_ref().map(|n| n.boot().nonce))
        };
        let others = (self.machines.iter()).filter(|m| m.id != *id && self.voters.contains(&m.id));
        let registered = others.map(|m| m.node.as_ref()?.registered(id));
        let unaware = registered.filter(|other| other.map(|b| b.nonce) != boot);
        Ok(boot.is_some() && unaware.count() < self.voters.len() / 2)
    }

    /// The copy that was made takes the place of a dead node's disks.
    pub fn put_back(&mut self, node: &str) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        let rewound = &self.machines[at].rewound;
        self.lost.read(rewound).map_err(|e| Wrong(e.to_string()))?;
        if self.machines[at].put_back() {
            self.faults.put_back += 1;
            self.note(at, format_args!("gets back the disks that were copied"));
        }
        Ok(())
    }

    /// A node finds that its disk is stale, and begins anew on an empty one.
    pub(super) fn discards(&mut self, at: usize, reason: &str) {
        self.note(at, format_args!("gives up its disk: {reason}"));
        if !self.machines[at].may_be_stale {
            let wrong = self.wrong_at(at, &format!("gives up its disk: {reason}"));
            return self.wrong.push_back(wrong.0);
        }
        self.faults.stale_disks += 1;
        self.machines[at].kill();
        self.is_gone(at);
        self.machines[at].replace_disk(&mut self.random);
        if let Err(error) = self.open(at) {
            let wrong = self.wrong_at(at, &format!("does not start: {error}"));
            self.wrong.push_back(wrong.0);
        }
    }

    /// Nothing passes between two nodes any more, and neither is told.
    pub fn cut(&mut self, a: &str, b: &str) -> Result<(), Wrong> {
        let (a, b) = (self.machine(a)?, self.machine(b)?);
        for (from, to) in [(a, b), (b, a)] {
            self.cut_way(from, to);
        }
        Ok(())
    }

    /// The links between two nodes are made anew.
    pub fn heal(&mut self, a: &str, b: &str) -> Result<(), Wrong> {
        let (a, b) = (self.machine(a)?, self.machine(b)?);
        for (from, to) in [(a, b), (b, a)] {
            self.heal_way(from, to);
        }
        Ok(())
    }

    /// The link from one node to another is made anew, and the way back unless only this way
    /// was cut.
    pub fn heal_ways(&mut self, from: &str, to: &str, one_way: bool) -> Result<(), Wrong> {
        if !one_way {
            return self.heal(from, to);
        }
        let (from, to) = (self.machine(from)?, self.machine(to)?);
        self.heal_way(from, to);
        Ok(())
    }

    pub(super) fn cut_way(&mut self, from: usize, to: usize) {
        self.faults.cuts += 1;
        let peer = self.machines[to].id.clone();
        self.note(from, format_args!("is cut off from {peer}"));
        self.network.cut(from, to);
    }

    pub(super) fn heal_way(&mut self, from: usize, to: usize) {
        self.network.heal(from, to);
        let wait = Duration::from_millis(self.random.between(1, 20));
        let number = self.network.number(from, to);
        self.schedule(wait, from, Event::Broken { from, to, number });
    }

    pub(super) fn open(&mut self, at: usize) -> Result<(), OpenError> {
        let others = self.machines.iter().enumerate().filter(|(n, _)| *n != at);
        let others = others.map(|(_, m)| m.as_peer()).collect();
        let voters = self.voters.clone();
        let is_right = |n: &usize| self.machines[*n].node.is_some() && !self.clocks_off.contains(n);
        let right = (0..self.machines.len()).filter(is_right).count();
        self.clocks_in_doubt |= self.clocks_off.contains(&at) && 2 * right <= self.machines.len();
        self.machines[at].start(others, voters, self.now, &mut self.random)?;
        self.note(at, format_args!("starts"));
        let wait = Duration::from_micros(self.random.below(20_000));
        self.schedule(wait, at, Event::Tick(at));
        for to in (0..self.machines.len()).filter(|to| *to != at) {
            let wait = Duration::from_millis(self.random.between(1, 60));
            self.schedule(wait, at, Event::Connect { from: at, to });
            // What others still send to the dead process is refused by the new one.
            let number = self.network.number(to, at);
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

    pub(super) fn power_is_lost(&mut self, at: usize) {
        self.note(at, format_args!("loses power"));
        self.machines[at].lose_power(self.now, &mut self.random);
        self.is_gone(at);
    }

    /// Links to and from a dead node break; its clients are disconnected.
    fn is_gone(&mut self, at: usize) {
        for other in (0..self.machines.len()).filter(|other| *other != at) {
            self.network.disconnect(at, other);
            if self.random.once_in(2) {
                // Else what has left the machine still arrives.
                self.network.lose(at, other);
            }
            self.network.die(other, at);
            let notice_ms = if self.random.once_in(2) {
                self.random.between(1, 50)
            } else {
                self.random.between(100, 3000)
            };
            let number = self.network.number(other, at);
            let event = Event::Broken {
                from: other,
                to: at,
                number,
            };
            self.schedule(Duration::from_millis(notice_ms), other, event);
        }
        self.clients_lose(at);
    }

    pub(super) fn connect(&mut self, from: usize, to: usize) {
        let there = self.machines[to].node.is_some() && !self.machines[to].is_paused(self.now);
        if !there || self.network.is_cut(from, to) || self.network.is_cut(to, from) {
            let wait = Duration::from_millis(self.random.between(50, 300));
            return self.schedule(wait, from, Event::Connect { from, to });
        }
        let now = self.machines[to].now(self.now);
        let peer = self.machines[from].id.clone();
        let introduced = self.machines[from].node.as_ref().map(|n| n.introduction());
        if let Some(node) = &mut self.machines[to].node
            && let Some(introduced) = introduced
        {
            // A machine runs one process, so no link of another one is open.
            if let Err(why) = node.admit(&peer, &introduced, false, now) {
                let wait = self.latency(to, from);
                self.schedule(wait, from, Event::NotAdmitted { from, to, why });
                let wait = Duration::from_millis(self.random.between(50, 500));
                return self.schedule(wait, from, Event::Connect { from, to });
            }
            node.peer_inbound(&peer, &introduced, now);
        }
        self.network.accept(from, to);
        self.turn(to);
        let wait = self.latency(to, from);
        let receiver = self.machines[to].life;
        self.schedule(wait, from, Event::Connected { from, to, receiver });
    }

    pub(super) fn connected(&mut self, from: usize, to: usize, receiver: u64) {
        let peer = self.machines[to].id.clone();
        if self.machines[to].life != receiver || !self.network.is_whole(from, to) {
            return self.schedule(TIMER, from, Event::Connect { from, to });
        }
        let now = self.machines[from].now(self.now);
        if self.network.disconnect(from, to)
            && let Some(node) = &mut self.machines[from].node
        {
            node.peer_disconnected(&peer, now);
        }
        self.network.connect(from, to);
        self.note(from, format_args!("has a link to {peer}"));
        if let Some(node) = &mut self.machines[from].node {
            node.peer_connected(&peer, now);
        }
    }

    pub(super) fn broken(&mut self, from: usize, to: usize, number: LinkNumber) {
        if !self.network.arrives(from, to, number) || !self.network.disconnect(from, to) {
            return;
        }
        let peer = self.machines[to].id.clone();
        self.note(from, format_args!("has lost its link to {peer}"));
        let now = self.machines[from].now(self.now);
        if let Some(node) = &mut self.machines[from].node {
            node.peer_disconnected(&peer, now);
        }
        let wait = Duration::from_millis(self.random.between(1, 100));
        self.schedule(wait, from, Event::Connect { from, to });
    }
}
