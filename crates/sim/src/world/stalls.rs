//! Disks that hang, and turns that take long.
//!
//! A hung disk takes part in nothing: flushes that were handed over wait until it moves again. In
//! a long turn a node has dealt with what came and stands still before it says the answer: what it
//! caused goes out late, if its host's rule lets it (`Node::doubt`), and what comes meanwhile
//! comes at once.

use super::{Event, World, Wrong};
use model::Now;
use node::{Doubt, Effect};
use std::{cell::Cell, time::Duration};

thread_local! {
    /// What `Node::doubt` reads: the clock of the machine whose turn it is.
    static CLOCK: Cell<Now> = const { Cell::new(Now { monotonic: Duration::ZERO, wall_ms: 0 }) };
}

impl World {
    /// A machine's disk answers nothing for so long.
    pub fn hang_disk(&mut self, node: &str, time: Duration) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.note(at, format_args!("has a disk that hangs for {time:?}"));
        self.machines[at].disk_hangs_until = Some(self.now + time);
        Ok(())
    }

    /// The next turn of a node that answers a client takes so long: between what it hears and what
    /// it says.
    pub fn busy(&mut self, node: &str, time: Duration) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.note(at, format_args!("is about to be busy for {time:?}"));
        self.machines[at].next_turn_takes = Some(time);
        Ok(())
    }

    /// Puts off what a disk that hangs was asked to do. True if it was.
    pub(super) fn hangs(&mut self, at: usize, event: &Event) -> bool {
        let until = self.machines[at].disk_hangs_until;
        let Some(until) = until.filter(|until| self.now < *until) else {
            return false;
        };
        let again = match event {
            Event::FlushRuns(_) => Event::FlushRuns(at),
            Event::SyncRuns(_, number) => Event::SyncRuns(at, *number),
            _ => return false,
        };
        self.faults.hung_flushes += 1;
        self.schedule(until - self.now, at, again);
        true
    }

    fn stand_still(&mut self, at: usize, time: Duration) {
        self.faults.long_turns += 1;
        self.note(at, format_args!("is busy"));
        self.machines[at].paused_until = Some(self.now + time);
        self.schedule(time, at, Event::Resumes(at));
    }

    /// Carries out all that a node wants, but for answers of which it is in doubt whether they
    /// may be said: as a host does.
    pub(super) fn carry_out_all(&mut self, at: usize) {
        self.judge(at);
        loop {
            let machine = &mut self.machines[at];
            let released = machine.released.pop_front();
            let next = released.or_else(|| machine.node.as_mut()?.poll_effect());
            let Some(effect) = next else {
                let node = machine.node.as_ref();
                if node.is_some_and(|node| node.unsettled() > 0) {
                    let wrong = self.wrong_at(at, "shards do not come to rest");
                    self.wrong.push_back(wrong.0);
                }
                return;
            };
            let answers = matches!(
                effect,
                Effect::ClientOutput(_) | Effect::CloseClient(_) | Effect::Answer { .. }
            );
            let machine = &mut self.machines[at];
            if answers && let Some(time) = machine.next_turn_takes.take() {
                machine.released.push_front(effect);
                return self.stand_still(at, time);
            }
            self.judge(at);
            match &mut self.machines[at].withheld {
                Some(withheld) if answers => {
                    withheld.push(effect);
                    self.faults.answers_withheld += 1;
                }
                _ => self.carry_out(at, effect),
            }
        }
    }

    fn judge(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        CLOCK.set(machine.now(self.now));
        let Some(node) = &mut machine.node else {
            return;
        };
        match node.doubt(|| CLOCK.get()) {
            Doubt::Open => {
                machine.withheld.get_or_insert_with(Vec::new);
            }
            Doubt::None => {
                if let Some(kept) = machine.withheld.take() {
                    machine.released.extend(kept);
                }
            }
            Doubt::Void => {
                machine.withheld = None;
                self.sever(at);
            }
        }
    }

    /// A node closes all its connections.
    fn sever(&mut self, at: usize) {
        self.note(at, format_args!("closes all its connections"));
        self.clients_end(at);
        for to in (0..self.machines.len()).filter(|to| *to != at) {
            if self.network.is_up(at, to) {
                self.network.die(at, to);
                let number = self.network.number(at, to);
                let from = at;
                let wait = Duration::from_millis(1);
                self.schedule(wait, at, Event::Broken { from, to, number });
            }
        }
    }
}
