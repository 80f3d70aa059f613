//! Two nodes, whose shards are written to, rest and wake, over links that lose, repeat and reorder
//! everything; and the one promise: whoever says how fresh a replica is has all that was committed
//! before that moment.

use super::*;
use crate::conformance::Dice;

const SHARDS: u64 = 4;

fn at(index: u64) -> Position {
    Position::new(1, index)
}

/// A shard: its primary here, its replica there.
#[derive(Clone, Copy, Debug, Default)]
struct Shard {
    /// The last entry, which is committed at once.
    last: u64,
    /// Up to where the replica has it.
    applied: u64,
    /// Where the replica rests.
    rests: Option<u64>,
}

struct World {
    dice: Dice,
    now_ms: u64,
    primary: Pair,
    replica: Pair,
    processes: u64,
    shards: Vec<Shard>,
    /// Entries under way: (shard, index).
    entries: Vec<(usize, u64)>,
    /// Pulses under way, to the replica's node and from there.
    there: Vec<Pulse>,
    back: Vec<Pulse>,
    /// (shard, moment, last index then), as it was committed.
    committed: Vec<(usize, u64, u64)>,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (mut primary, mut replica) = (Pair::new(1), Pair::new(2));
        primary.linked(2);
        replica.linked(1);
        World {
            dice: Dice::new(seed),
            now_ms: 1,
            primary,
            replica,
            processes: 2,
            shards: vec![Shard::default(); SHARDS as usize],
            entries: Vec::new(),
            there: Vec::new(),
            back: Vec::new(),
            committed: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms)
    }

    fn pick(&mut self, from: usize) -> Option<usize> {
        (from > 0).then(|| self.dice.below(from as u64) as usize)
    }

    fn hear_there(&mut self, pulse: Pulse) {
        let shards = &self.shards;
        let holds = |shard: ShardId, at: Position| shards[shard.0 as usize].applied == at.index;
        let heard = self.replica.receive(pulse, holds);
        for shard in &heard.ended {
            self.shards[shard.0 as usize].rests = None;
        }
        for (shard, at) in &heard.began {
            self.shards[shard.0 as usize].rests = Some(at.index);
        }
        if !heard.ended.is_empty() {
            self.count("ended");
        }
        if !heard.began.is_empty() {
            self.count("began");
        }
    }

    fn hear_back(&mut self, pulse: Pulse) {
        let heard = self.primary.receive(pulse, |_, _| false);
        for (shard, at) in &heard.resting {
            assert_eq!(self.shards[shard.0 as usize].last, at.index);
        }
        if !heard.left.is_empty() {
            self.count("left");
        }
    }

    fn step(&mut self) {
        self.now_ms += 1 + self.dice.below(20);
        let shard = self.dice.below(SHARDS) as usize;
        let id = ShardId(shard as u64);
        match self.dice.below(100) {
            0..8 => {
                let last = &mut self.shards[shard].last;
                *last += 1;
                self.committed.push((shard, self.now_ms, *last));
                self.entries.push((shard, *last));
                self.primary.woke(id);
            }
            8..20 => {
                // Even of what the replica has not got: it must refuse that.
                self.primary.ask(id, at(self.shards[shard].last));
            }
            20..35 => {
                if let Some(n) = self.pick(self.entries.len()) {
                    let (shard, index) = self.entries[n];
                    let known = &mut self.shards[shard];
                    if index == known.applied + 1 {
                        self.entries.swap_remove(n);
                        known.applied = index;
                        if known.rests.take().is_some() {
                            self.replica.leave(ShardId(shard as u64));
                        }
                    }
                }
            }
            35..38 => {
                // What was lost is sent again, some time.
                let known = self.shards[shard];
                self.entries
                    .extend((known.applied + 1..=known.last).map(|i| (shard, i)));
            }
            38..52 => {
                let (now, vouches) = (self.now(), self.dice.below(10) > 0);
                self.there
                    .extend(self.primary.pulse(now, self.now_ms, vouches));
            }
            52..64 => {
                let now = self.now();
                self.back.extend(self.replica.pulse(now, 0, false));
            }
            64..76 => {
                if let Some(n) = self.pick(self.there.len()) {
                    let pulse = self.there.swap_remove(n);
                    self.hear_there(pulse);
                }
            }
            76..88 => {
                if let Some(n) = self.pick(self.back.len()) {
                    let pulse = self.back.swap_remove(n);
                    self.hear_back(pulse);
                }
            }
            88..92 => {
                self.count("loss");
                if let Some(n) = self.pick(self.there.len()) {
                    self.there.swap_remove(n);
                }
                if let Some(n) = self.pick(self.entries.len()) {
                    self.entries.swap_remove(n);
                }
                if let Some(n) = self.pick(self.back.len()) {
                    self.back.swap_remove(n);
                }
            }
            92..95 => {
                self.count("repeated");
                if let Some(n) = self.pick(self.there.len()) {
                    self.there.push(self.there[n].clone());
                }
                if let Some(n) = self.pick(self.back.len()) {
                    self.back.push(self.back[n].clone());
                }
            }
            95..97 if self.shards[shard].rests.take().is_some() => {
                self.replica.leave(id);
            }
            97 if self.dice.below(8) == 0 => {
                // The primary's process ends, and the next one has all that was committed.
                self.count("another primary");
                self.processes += 1;
                self.primary = Pair::new(self.processes);
                self.primary.linked(self.replica.own);
                for shard in self.replica.linked(self.processes).ended {
                    self.shards[shard.0 as usize].rests = None;
                }
            }
            98 if self.dice.below(8) == 0 => {
                // The replica's process ends; its clock goes on, and what was applied is kept.
                self.count("another replica");
                self.processes += 1;
                self.replica = Pair::new(self.processes);
                self.replica.linked(self.primary.own);
                self.primary.linked(self.processes);
                for shard in &mut self.shards {
                    shard.rests = None;
                }
            }
            _ => {}
        }
    }

    /// Whatever rests, and is vouched for, has all that was committed before that moment.
    fn check(&mut self) {
        let Some(vouched) = self.replica.vouched() else {
            return;
        };
        let fresh_ms = vouched.fresh_at.as_millis() as u64;
        for (n, shard) in self.shards.iter().enumerate() {
            if shard.rests.is_none() {
                continue;
            }
            let before = (self.committed.iter()).filter(|(s, ms, _)| *s == n && *ms < fresh_ms);
            let last = before.map(|(_, _, index)| *index).max().unwrap_or(0);
            assert!(
                shard.applied >= last,
                "shard {n} is said to be fresh as of {fresh_ms}, when {last} was committed: {shard:?}"
            );
        }
    }

    /// Once nothing is lost any more everything rests, and is fresh.
    fn come_to_rest(&mut self) {
        self.entries.clear();
        for _ in 0..10 {
            self.now_ms += 100;
            for n in 0..self.shards.len() {
                let shard = &mut self.shards[n];
                if shard.applied < shard.last {
                    shard.applied = shard.last;
                    if shard.rests.take().is_some() {
                        self.replica.leave(ShardId(n as u64));
                    }
                }
                let last = at(shard.last);
                let id = ShardId(n as u64);
                if self.primary.resting.get(&id).map(|(at, _)| *at) != Some(last) {
                    self.primary.ask(id, last);
                }
            }
            let pulse = self.primary.pulse(self.now(), self.now_ms, true).unwrap();
            self.hear_there(pulse);
            let pulse = self.replica.pulse(self.now(), 0, false).unwrap();
            self.hear_back(pulse);
            self.check();
        }
        assert!(self.shards.iter().all(|s| s.rests == Some(s.last)));
        let fresh_at = self.replica.vouched().unwrap().fresh_at;
        assert!(self.now() - fresh_at <= Duration::from_millis(200));
        let pulse = self.primary.pulse(self.now(), 0, true).unwrap();
        assert!(pulse.rest.is_empty() && pulse.woke.is_empty(), "{pulse:?}");
        let pulse = self.replica.pulse(self.now(), 0, true).unwrap();
        assert!(
            pulse.resting.is_empty() && pulse.left.is_empty(),
            "{pulse:?}"
        );
    }
}

#[test]
fn who_rests_is_never_fresher_than_it_is() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..600 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
            world.check();
        }
        world.come_to_rest();
        for (what, times) in world.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    for what in [
        "began",
        "ended",
        "left",
        "loss",
        "repeated",
        "another primary",
        "another replica",
    ] {
        assert!(counts.get(what).is_some_and(|n| *n > 100), "{counts:?}");
    }
}

/// Exchanges a pulse each way.
fn exchange(primary: &mut Pair, replica: &mut Pair, ms: u64, holds: bool) -> (Heard, Heard) {
    let now = Duration::from_millis(ms);
    let pulse = primary.pulse(now, ms, true).unwrap();
    let there = replica.receive(pulse, |_, _| holds);
    let pulse = replica.pulse(now, 0, false).unwrap();
    (there, primary.receive(pulse, |_, _| false))
}

fn pair() -> (Pair, Pair) {
    let (mut primary, mut replica) = (Pair::new(1), Pair::new(2));
    primary.linked(2);
    replica.linked(1);
    (primary, replica)
}

#[test]
fn a_shard_that_woke_is_said_until_it_was_heard() {
    let (mut primary, mut replica) = pair();
    let shard = ShardId(7);
    primary.ask(shard, at(3));
    let (there, back) = exchange(&mut primary, &mut replica, 100, true);
    assert_eq!(there.began, [(shard, at(3))]);
    assert_eq!(back.resting, [(shard, at(3))]);
    exchange(&mut primary, &mut replica, 200, true);
    let fresh_at = replica.vouched().unwrap().fresh_at;
    assert_eq!(fresh_at, Duration::from_millis(100), "as the echo says");
    primary.woke(shard);
    for ms in [300, 400] {
        let lost = primary.pulse(Duration::from_millis(ms), ms, true).unwrap();
        assert_eq!(lost.woke, [shard]);
    }
    let (there, _) = exchange(&mut primary, &mut replica, 500, true);
    assert_eq!(there.ended, [shard]);
    let freshest = there.vouched.unwrap().fresh_at;
    assert_eq!(freshest, fresh_at, "not as of the pulse that woke it");
    let next = primary
        .pulse(Duration::from_millis(600), 600, true)
        .unwrap();
    assert!(next.woke.is_empty());
}

#[test]
fn who_lacks_something_does_not_rest() {
    let (mut primary, mut replica) = pair();
    primary.ask(ShardId(7), at(3));
    let (there, back) = exchange(&mut primary, &mut replica, 100, false);
    assert!(there.began.is_empty() && back.resting.is_empty());
    assert!(primary.is_busy(), "it is asked again");
}

#[test]
fn without_a_lease_nothing_is_vouched_for() {
    let (mut primary, mut replica) = pair();
    primary.ask(ShardId(7), at(3));
    exchange(&mut primary, &mut replica, 100, true);
    let pulse = primary
        .pulse(Duration::from_millis(200), 200, false)
        .unwrap();
    assert_eq!(pulse.echo, 100);
    replica.receive(pulse, |_, _| true);
    assert_eq!(replica.vouched(), None);
}

#[test]
fn another_process_begins_anew_and_a_former_one_never_comes_back() {
    let (mut primary, mut replica) = pair();
    primary.ask(ShardId(7), at(3));
    let old = primary
        .pulse(Duration::from_millis(100), 100, true)
        .unwrap();
    replica.receive(old.clone(), |_, _| true);
    assert_eq!(replica.linked(9).ended, [ShardId(7)]);
    let heard = replica.receive(Pulse { number: 99, ..old }, |_, _| true);
    assert_eq!(heard, Heard::default());
    replica.linked(1);
    assert_eq!(replica.pulse(Duration::ZERO, 0, false), None);
}
