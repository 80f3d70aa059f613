//! Carrying out a scenario's faults, and undoing what lasts.
//!
//! A fault that makes no sense when its time comes (its node is down already) is left out; what
//! is counted in `Faults` is what happened.

use super::{Fault, KEYSPACE, Scenario};
use crate::world::{Moment, World, Wrong};
use std::{collections::BTreeMap, time::Duration};

/// What ends a fault that lasts.
#[derive(Clone, Debug)]
enum Undo {
    Start(String),
    StartTwice(String),
    Refill(String),
    Rot(String),
    PutBack {
        node: String,
        all: bool,
        away: Duration,
    },
    Decayed(String),
    Mend(String),
    Heal(String, String, bool),
    Rejoin(String),
    HealRegion(String),
    Undelay(String, String),
    Room(String),
    SetBack(String, i64),
    LetBe,
    Nothing,
}

pub(super) struct Injector<'a> {
    scenario: &'a Scenario,
    began: Duration,
    undo: BTreeMap<(Duration, usize), Undo>,
    /// How many there were.
    undone: usize,
    /// A disk that was emptied, until all is whole again.
    filling: bool,
    /// Whether a voter's disk was emptied.
    voter_emptied: bool,
}

impl<'a> Injector<'a> {
    pub(super) fn new(scenario: &'a Scenario, began: Duration) -> Self {
        Injector {
            scenario,
            began,
            undo: BTreeMap::new(),
            undone: 0,
            filling: false,
            voter_emptied: false,
        }
    }

    /// Until the clients' time is over and everything is undone.
    pub(super) fn run(mut self, world: &mut World) -> Result<(), Wrong> {
        let mut next = 0;
        while let Some((at, fault)) = self.scenario.faults.get(next) {
            let at = self.began + *at;
            if let Some(first) = self.undo.first_entry()
                && first.key().0 <= at
            {
                self.undo_first(world)?;
                continue;
            }
            world.run_until(at)?;
            let roles = world.roles(KEYSPACE)?;
            let lasts = match fault.with(&roles) {
                Some(fault) => self.inject(world, &fault)?,
                None => None,
            };
            if let Some((time, undo)) = lasts {
                self.later(world, time, undo);
            }
            next += 1;
        }
        while !self.undo.is_empty() {
            self.undo_first(world)?;
        }
        world.run_until(self.began + self.scenario.time)?;
        world.meddle(0, 0, Duration::ZERO);
        world.heal_all();
        for node in world.nodes() {
            world.limit_disk(&node, None)?;
            if !world.is_running(&node)? {
                world.start(&node)?;
            }
        }
        world.run_for(Duration::from_millis(500))
    }

    fn later(&mut self, world: &World, time: Duration, undo: Undo) {
        self.undone += 1;
        self.undo.insert((world.now() + time, self.undone), undo);
    }

    /// All machines but this one lose power, to come back one by one.
    fn all_lose_power(&mut self, world: &mut World, but: &str) -> Result<(), Wrong> {
        let others: Vec<String> = world.nodes().into_iter().filter(|n| n != but).collect();
        for node in others {
            if self.is_at_hand(world, &node)? {
                world.crash(&node, Moment::Now)?;
                let away = Duration::from_millis(world.random().between(20, 2500));
                self.later(world, away, Undo::Start(node));
            }
        }
        Ok(())
    }

    fn undo_first(&mut self, world: &mut World) -> Result<(), Wrong> {
        let Some(((at, _), undo)) = self.undo.pop_first() else {
            return Ok(());
        };
        world.run_until(at)?;
        let start = |world: &mut World, node: &str| {
            // A log that can't be opened for want of room is no matter of recovery.
            world.limit_disk(node, None)?;
            world.start(node)
        };
        match undo {
            Undo::Start(node) => start(world, &node)?,
            Undo::StartTwice(node) => {
                world.limit_disk(&node, None)?;
                world.start_and_crash(&node)?;
                start(world, &node)?;
            }
            Undo::Refill(node) => {
                world.replace_disk(&node)?;
                start(world, &node)?;
            }
            Undo::Rot(node) => {
                if world.rot_and_start(&node)? {
                    world.replace_disk(&node)?;
                }
                start(world, &node)?;
            }
            Undo::PutBack { node, all, away } => {
                // Else nobody who lives may have heard of what is lost (ADR 13, Limits).
                let voter = self.scenario.is_voter(&node);
                if voter && all && !world.is_known_to_voters(&node)? {
                    return Ok(());
                }
                if !self.disk_may_go(world, &node)? {
                    return Ok(());
                }
                world.crash(&node, Moment::Now)?;
                if all {
                    self.all_lose_power(world, &node)?;
                }
                world.put_back(&node)?;
                self.later(world, away, Undo::Start(node));
            }
            Undo::Decayed(node) => {
                world.limit_disk(&node, None)?;
                if !world.decay_and_start(&node)? {
                    world.replace_disk(&node)?;
                    start(world, &node)?;
                }
            }
            Undo::Mend(node) => {
                if world.is_running(&node)? {
                    world.crash(&node, Moment::Now)?;
                }
                start(world, &node)?;
            }
            Undo::Heal(from, to, one_way) => world.heal_ways(&from, &to, one_way)?,
            Undo::Rejoin(node) => {
                for other in world.nodes().iter().filter(|o| **o != node) {
                    world.heal(&node, other)?;
                }
            }
            Undo::HealRegion(region) => world.heal_region(&region)?,
            Undo::Undelay(from, to) => world.delay(&from, &to, Duration::ZERO)?,
            Undo::Room(node) => world.limit_disk(&node, None)?,
            Undo::SetBack(node, ms) => world.set_clock_back(&node, ms)?,
            Undo::LetBe => world.meddle(0, 0, Duration::ZERO),
            Undo::Nothing => {}
        }
        Ok(())
    }

    /// Whether a node runs and nothing is to start it later.
    fn is_at_hand(&self, world: &World, node: &str) -> Result<bool, Wrong> {
        let away = self.undo.values().any(|undo| match undo {
            Undo::Start(n)
            | Undo::StartTwice(n)
            | Undo::Refill(n)
            | Undo::Rot(n)
            | Undo::Decayed(n)
            | Undo::Mend(n) => n == node,
            _ => false,
        });
        Ok(!away && world.is_running(node)?)
    }

    fn inject(
        &mut self,
        world: &mut World,
        fault: &Fault,
    ) -> Result<Option<(Duration, Undo)>, Wrong> {
        Ok(Some(match fault {
            Fault::Crash {
                node,
                how,
                twice,
                away,
            } => {
                if !self.is_at_hand(world, node)? {
                    return Ok(None);
                }
                match how {
                    0 => world.kill(node)?,
                    6 => world.end(node)?,
                    1 => world.crash(node, Moment::Now)?,
                    2 => world.crash_if_it_comes(node, Moment::BeforeFlush)?,
                    3 => world.crash_if_it_comes(node, Moment::InFlush)?,
                    4 => world.crash_if_it_comes(node, Moment::BeforeSync)?,
                    _ => world.crash_if_it_comes(node, Moment::AfterFlush)?,
                }
                let undo = if *twice {
                    Undo::StartTwice
                } else {
                    Undo::Start
                };
                (*away, undo(node.clone()))
            }
            Fault::Empty { node, away } => {
                if !self.disk_may_go(world, node)? {
                    return Ok(None);
                }
                world.crash(node, Moment::Now)?;
                (*away, Undo::Refill(node.clone()))
            }
            Fault::Rot { node, away } => {
                if !self.disk_may_go(world, node)? {
                    return Ok(None);
                }
                world.crash(node, Moment::Now)?;
                (*away, Undo::Rot(node.clone()))
            }
            Fault::PutBack {
                node,
                restarts,
                after,
                all,
                away,
            } => {
                if !self.is_at_hand(world, node)? {
                    return Ok(None);
                }
                world.copy_disks(node)?;
                if *restarts {
                    world.crash(node, Moment::Now)?;
                    self.later(world, *after / 4, Undo::Start(node.clone()));
                }
                let put_back = Undo::PutBack {
                    node: node.clone(),
                    all: *all,
                    away: *away,
                };
                (*after, put_back)
            }
            Fault::Decay { node, away } => {
                if !self.disk_may_go(world, node)? {
                    return Ok(None);
                }
                world.crash(node, Moment::Now)?;
                self.all_lose_power(world, node)?;
                (*away, Undo::Decayed(node.clone()))
            }
            Fault::Break { node, sync, away } => {
                if !self.is_at_hand(world, node)? {
                    return Ok(None);
                }
                world.break_disk(node, *sync)?;
                (*away, Undo::Mend(node.clone()))
            }
            Fault::Pause { node, time } => {
                if !self.is_at_hand(world, node)? {
                    return Ok(None);
                }
                world.pause(node, *time)?;
                // Nothing ends before the process goes on.
                (*time, Undo::Nothing)
            }
            Fault::Cut {
                from,
                to,
                one_way,
                time,
            } => {
                if *one_way {
                    world.cut_one_way(from, to)?;
                } else {
                    world.cut(from, to)?;
                }
                (*time, Undo::Heal(from.clone(), to.clone(), *one_way))
            }
            Fault::Isolate { node, time } => {
                for other in world.nodes().iter().filter(|o| *o != node) {
                    world.cut(node, other)?;
                }
                (*time, Undo::Rejoin(node.clone()))
            }
            Fault::CutRegion { region, time } => {
                if self.scenario.regions.len() < 2 {
                    return Ok(None);
                }
                world.cut_region(region)?;
                (*time, Undo::HealRegion(region.clone()))
            }
            Fault::BreakLink { from, to } => {
                world.break_link(from, to)?;
                return Ok(None);
            }
            Fault::Delay { from, to, by, time } => {
                world.delay(from, to, *by)?;
                (*time, Undo::Undelay(from.clone(), to.clone()))
            }
            Fault::SlowDisk {
                node,
                longest,
                time,
            } => {
                world.slow_disk(node, *time, *longest)?;
                (*time, Undo::Nothing)
            }
            Fault::HangDisk { node, time } => {
                world.hang_disk(node, *time)?;
                (*time, Undo::Nothing)
            }
            Fault::Busy { node, time } => {
                if !self.is_at_hand(world, node)? {
                    return Ok(None);
                }
                world.busy(node, *time)?;
                (*time, Undo::Nothing)
            }
            Fault::FullDisk { node, room, time } => {
                world.limit_disk(node, Some(*room))?;
                (*time, Undo::Room(node.clone()))
            }
            Fault::Step { node, ms } => {
                world.step_clock(node, *ms)?;
                return Ok(None);
            }
            Fault::Jump { node, ms, time } => {
                world.jump_clock(node, *ms)?;
                (*time, Undo::SetBack(node.clone(), *ms))
            }
            Fault::Rate { node, ppm } => {
                world.set_clock_rate(node, *ppm)?;
                return Ok(None);
            }
            Fault::Meddle {
                repeats,
                drops,
                late,
                time,
            } => {
                world.meddle(*repeats, *drops, *late);
                (*time, Undo::LetBe)
            }
        }))
    }

    /// A disk may go only if the rule covers it: all copies are whole, and while nobody takes a
    /// primary's place, it is not a primary's.
    fn disk_may_go(&mut self, world: &mut World, node: &str) -> Result<bool, Wrong> {
        if !self.is_at_hand(world, node)?
            || !self.scenario.failover && world.primaries().iter().any(|p| p == node)
        {
            return Ok(false);
        }
        let voter = self.scenario.is_voter(node);
        if voter && self.voter_emptied && !self.scenario.voters_lose_disks {
            return Ok(false);
        }
        if self.filling {
            let Some(witness) = world.witness(node) else {
                return Ok(false);
            };
            if !world.is_whole(&witness)? {
                return Ok(false);
            }
        }
        self.filling = true;
        self.voter_emptied |= voter;
        Ok(true)
    }
}
