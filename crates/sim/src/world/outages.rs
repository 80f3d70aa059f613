//! What befalls processes, clocks, disks and whole regions, beyond crashes and cuts.

use super::{Event, World, Wrong};
use std::time::Duration;
use storage::disk::{Disk, Fault};

/// The header of a log segment has a page of its own; batches begin behind it.
const SEGMENT_HEADER_BYTES: u64 = 4096;
/// And each batch has a header of its own.
const BATCH_HEADER_BYTES: u64 = 64;
/// Where in it the segment's first position stands.
const FIRST_LSN_AT: u64 = 24;

impl World {
    /// Whether a node runs, paused or not.
    pub fn is_running(&self, node: &str) -> Result<bool, Wrong> {
        Ok(self.machines[self.machine(node)?].node.is_some())
    }

    /// A node other than this one that runs and can be asked.
    pub fn witness(&self, but: &str) -> Option<String> {
        let others = self.machines.iter().filter(|m| m.id.as_str() != but);
        let mut there = others.filter(|m| m.node.is_some() && !m.is_paused(self.now));
        there.next().map(|m| m.id.to_string())
    }

    /// A node's process gets no time; what comes to it waits, its clocks go on.
    pub fn pause(&mut self, node: &str, time: Duration) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        if self.machines[at].node.is_none() || self.machines[at].is_paused(self.now) {
            return Ok(());
        }
        self.note(at, format_args!("is paused for {time:?}"));
        self.faults.pauses += 1;
        self.faults.paused_ms += time.as_millis() as u64;
        self.machines[at].paused_until = Some(self.now + time);
        self.schedule(time, at, Event::Resumes(at));
        Ok(())
    }

    pub(super) fn resumes(&mut self, at: usize) {
        self.machines[at].paused_until = None;
        self.note(at, format_args!("goes on"));
        self.turn(at);
        while let Some((life, event)) = self.waiting[at].pop_front() {
            self.comes(at, life, event);
        }
    }

    /// Nothing passes from one node to another; the other way all is well.
    pub fn cut_one_way(&mut self, from: &str, to: &str) -> Result<(), Wrong> {
        let (from, to) = (self.machine(from)?, self.machine(to)?);
        self.faults.one_way_cuts += 1;
        self.cut_way(from, to);
        Ok(())
    }

    /// Nothing passes into or out of a region.
    pub fn cut_region(&mut self, region: &str) -> Result<(), Wrong> {
        self.faults.region_cuts += 1;
        for (from, to) in self.across(region) {
            self.cut_way(from, to);
        }
        Ok(())
    }

    /// All links into and out of a region are made anew.
    pub fn heal_region(&mut self, region: &str) -> Result<(), Wrong> {
        for (from, to) in self.across(region) {
            self.heal_way(from, to);
        }
        Ok(())
    }

    fn across(&self, region: &str) -> Vec<(usize, usize)> {
        let inside = |at: usize| self.machines[at].region.as_str() == region;
        let all = 0..self.machines.len();
        all.clone()
            .flat_map(|from| all.clone().map(move |to| (from, to)))
            .filter(|(from, to)| inside(*from) != inside(*to))
            .collect()
    }

    /// Every link that is cut is made anew.
    pub fn heal_all(&mut self) {
        for from in 0..self.machines.len() {
            for to in 0..self.machines.len() {
                self.network.delay(from, to, Duration::ZERO);
                if self.network.is_cut(from, to) {
                    self.heal_way(from, to);
                }
            }
        }
    }

    /// A link breaks with what is under way; its sender notices soon.
    pub fn break_link(&mut self, from: &str, to: &str) -> Result<(), Wrong> {
        let (from, to) = (self.machine(from)?, self.machine(to)?);
        if !self.network.is_up(from, to) {
            return Ok(());
        }
        self.faults.broken_links += 1;
        let peer = self.machines[to].id.clone();
        self.note(from, format_args!("is about to lose its link to {peer}"));
        self.network.die(from, to);
        let number = self.network.number(from, to);
        let wait = Duration::from_millis(self.random.between(1, 400));
        self.schedule(wait, from, Event::Broken { from, to, number });
        Ok(())
    }

    /// From now on messages on a link take so much longer.
    pub fn delay(&mut self, from: &str, to: &str, by: Duration) -> Result<(), Wrong> {
        let (from, to) = (self.machine(from)?, self.machine(to)?);
        self.faults.delays += u64::from(by > Duration::ZERO);
        let peer = self.machines[to].id.clone();
        self.note(from, format_args!("reaches {peer} {by:?} later"));
        self.network.delay(from, to, by);
        Ok(())
    }

    /// For a while each flush takes up to `longest`.
    pub fn slow_disk(
        &mut self,
        node: &str,
        time: Duration,
        longest: Duration,
    ) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.note(at, format_args!("has a slow disk for {time:?}"));
        self.machines[at].slow_disk = Some((self.now + time, longest));
        Ok(())
    }

    /// The log's disk has room for so much more; None lifts the bound.
    pub fn limit_disk(&mut self, node: &str, more: Option<u64>) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        let disk = &self.machines[at].disk;
        let used = match more {
            None => 0,
            Some(_) => used_bytes(disk).map_err(|e| Wrong(e.to_string()))?,
        };
        disk.set_capacity(more.map(|more| used + more));
        self.note(at, format_args!("has room for {more:?} bytes more"));
        Ok(())
    }

    /// The next write, or the next sync, of the log's disk fails: the node is to stop.
    pub fn break_disk(&mut self, node: &str, sync: bool) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        if self.machines[at].node.is_none() {
            return Ok(());
        }
        let fault = if sync {
            Fault::SyncFails
        } else {
            Fault::WriteFails
        };
        self.note(at, format_args!("has a broken disk: {fault:?}"));
        self.machines[at].may_stop = true;
        self.machines[at].disk.inject(fault);
        Ok(())
    }

    /// The wall clock of a machine is set.
    pub fn step_clock(&mut self, node: &str, ms: i64) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.faults.clock_steps += 1;
        self.note(at, format_args!("has its wall clock set by {ms} ms"));
        self.machines[at].clock.step_wall(ms);
        self.clocks_off.insert(at);
        Ok(())
    }

    /// The wall clock of a machine is set far off, for a while.
    pub fn jump_clock(&mut self, node: &str, ms: i64) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.faults.clock_jumps += 1;
        self.note(at, format_args!("has a wall clock that jumps by {ms} ms"));
        self.machines[at].clock.step_wall(ms);
        self.clocks_off.insert(at);
        Ok(())
    }

    /// It is set back by as much.
    pub fn set_clock_back(&mut self, node: &str, ms: i64) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.faults.clock_returns += 1;
        self.note(at, format_args!("has its wall clock set back by {ms} ms"));
        self.machines[at].clock.step_wall(-ms);
        Ok(())
    }

    /// Whether most wall clocks have been right all along, and there for whoever started with one
    /// that was not.
    pub(super) fn clocks_are_right(&self) -> bool {
        2 * self.clocks_off.len() < self.machines.len() && !self.clocks_in_doubt
    }

    /// The clocks of a machine run faster from now on, by so many millionths.
    pub fn set_clock_rate(&mut self, node: &str, ppm: i64) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        self.faults.clock_rates += 1;
        self.note(at, format_args!("has clocks that run {ppm} ppm faster"));
        self.machines[at].clock.set_rate(self.now, ppm);
        // What it wanted to be woken for comes at another time now.
        self.machines[at].wakes_at = None;
        self.turn(at);
        Ok(())
    }

    /// A bit of a dead node's log flips, somewhere that was durable and is still needed, and
    /// the node is started: it must refuse. False if its log has no such place.
    pub fn rot_and_start(&mut self, node: &str) -> Result<bool, Wrong> {
        let at = self.machine(node)?;
        let Some((name, offset)) = self.durable_place(at).map_err(|e| Wrong(e.to_string()))? else {
            return Ok(false);
        };
        let bit = self.random.below(8) as u32;
        self.note(at, format_args!("rots in bit {bit} at {offset} of {name}"));
        let flipped = self.machines[at].disk.flip_bit(&name, offset, bit);
        flipped.map_err(|e| Wrong(e.to_string()))?;
        match self.open(at) {
            Ok(()) => Err(self.wrong_at(
                at,
                &format!("serves a log with a flipped bit at {offset} of {name}"),
            )),
            Err(error) => {
                self.note(at, format_args!("does not start: {error}"));
                self.faults.bit_rots += 1;
                Ok(true)
            }
        }
    }

    /// A bit of a dead node's last batch flips, and the node is started: the batch may have been
    /// durable, but looks as if it had not been. Damage below what the node knows to have been
    /// durable keeps it from starting: false.
    pub fn decay_and_start(&mut self, node: &str) -> Result<bool, Wrong> {
        let at = self.machine(node)?;
        if let Some((name, from, to)) = self.last_batch(at).map_err(|e| Wrong(e.to_string()))? {
            let offset = self.random.between(from, to - 1);
            let bit = self.random.below(8) as u32;
            self.note(
                at,
                format_args!("decays in bit {bit} at {offset} of {name}"),
            );
            let flipped = self.machines[at].disk.flip_bit(&name, offset, bit);
            flipped.map_err(|e| Wrong(e.to_string()))?;
            self.faults.decayed_ends += 1;
        }
        match self.open(at) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.note(at, format_args!("does not start: {error}"));
                Ok(false)
            }
        }
    }

    /// The last batch of a log: its file, where it begins, and where it ends.
    fn last_batch(&self, at: usize) -> std::io::Result<Option<(String, u64, u64)>> {
        let disk = &self.machines[at].disk;
        let mut live: Vec<String> = disk.list()?;
        live.retain(|name| name.ends_with(".log"));
        let Some(name) = live.into_iter().max() else {
            return Ok(None);
        };
        let file = disk.open(&name)?;
        let mut last = None;
        let mut from = SEGMENT_HEADER_BYTES;
        loop {
            let mut head = [0; BATCH_HEADER_BYTES as usize];
            file.read_at(from, &mut head)?;
            let &[b'Q', b'B', b'A', b'T', _, _, _, _, a, b, c, d, ..] = &head else {
                return Ok(last);
            };
            let to = from + BATCH_HEADER_BYTES + u64::from(u32::from_le_bytes([a, b, c, d]));
            last = Some((name.clone(), from, to));
            from = to;
        }
    }

    /// A place in a batch of a segment that is not the last.
    fn durable_place(&mut self, at: usize) -> std::io::Result<Option<(String, u64)>> {
        let disk = self.machines[at].disk.clone();
        let mut live: Vec<String> = disk.list()?;
        live.retain(|name| name.ends_with(".log"));
        live.sort();
        // Where a segment ends the next one begins: behind that is what the file held before.
        let Some(last) = live.len().checked_sub(1) else {
            return Ok(None);
        };
        let n = self.random.below(last as u64) as usize;
        let (Some(name), Some(next)) = (live.get(n), live.get(n + 1)) else {
            return Ok(None);
        };
        let batches = first_lsn(&disk, next)? - first_lsn(&disk, name)?;
        let end = SEGMENT_HEADER_BYTES + batches;
        Ok(Some((
            name.clone(),
            self.random.between(SEGMENT_HEADER_BYTES, end),
        )))
    }
}

/// Where a segment begins, by its header.
fn first_lsn(disk: &dyn Disk, name: &str) -> std::io::Result<u64> {
    let mut lsn = [0; 8];
    disk.open(name)?.read_at(FIRST_LSN_AT, &mut lsn)?;
    Ok(u64::from_le_bytes(lsn))
}

fn used_bytes(disk: &dyn Disk) -> std::io::Result<u64> {
    let mut used = 0;
    for name in disk.list()? {
        used += disk.open(&name)?.len()?;
    }
    Ok(used)
}
