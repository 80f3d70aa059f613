//! The order of a connection's commands against its definition: a home node that does what
//! `Order` says, other nodes that answer, lag, hand over and get lost, and a judge that knows
//! only what was promised.

use super::*;
use model::Position;
use std::collections::BTreeMap;

const NODES: usize = 3;
const HOME: usize = 0;
const SHARDS: usize = 2;

/// Xorshift, seeded.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }
}

fn id(n: usize) -> NodeId {
    NodeId::new(&format!("n-{n}")).unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Command {
    number: usize,
    shard: usize,
    is_write: bool,
    /// What its session had seen of the shard when it was sent.
    seen: usize,
    at_tip: bool,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It wrote, or shows, this index.
    At(usize),
    NotHere,
}

#[derive(Default)]
struct Link {
    there: VecDeque<Command>,
    /// Reads that wait there for what their session has seen.
    waiting: Vec<Command>,
    back: VecDeque<(Command, Answer)>,
    down: bool,
}

/// One shard: who is primary, how many entries there are, how many each node has applied.
#[derive(Default)]
struct Copies {
    primary: usize,
    log: usize,
    applied: [usize; NODES],
}

struct World {
    random: Random,
    order: Order<Command>,
    shards: [Copies; SHARDS],
    seen: [usize; SHARDS],
    links: [Link; NODES],
    stalled: VecDeque<Command>,
    waiting: Vec<Command>,
    /// Writes that took effect here, and are not known to be committed.
    pending: Vec<(Command, usize)>,
    /// This node has no lease: it answers nothing as a primary.
    lapsed: bool,
    next: usize,
    /// Where each write took effect, whether or not anybody knows.
    effects: BTreeMap<usize, (usize, usize)>,
    /// What each command was answered that was.
    answers: BTreeMap<usize, (usize, bool, usize)>,
    /// Commands that went before another shard's earlier ones were answered.
    passed: usize,
    refused: usize,
}

fn kind(command: &Command) -> Kind {
    match command.is_write {
        true => Kind::Write,
        false => Kind::Read,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            order: Order::default(),
            shards: Default::default(),
            seen: [0; SHARDS],
            links: Default::default(),
            stalled: VecDeque::new(),
            waiting: Vec::new(),
            pending: Vec::new(),
            lapsed: false,
            next: 0,
            effects: BTreeMap::new(),
            answers: BTreeMap::new(),
            passed: 0,
            refused: 0,
        }
    }

    fn with_there<R>(
        &mut self,
        shard: usize,
        act: impl FnOnce(&mut Order<Command>, There<'_>) -> R,
    ) -> R {
        let primary = id(self.shards[shard].primary);
        let up: Vec<NodeId> = (0..NODES)
            .filter(|n| !self.links[*n].down)
            .map(id)
            .collect();
        let there = There {
            primary: Some(&primary),
            reads_by_rounds: false,
            is_up: &|node| up.contains(node),
        };
        act(&mut self.order, there)
    }

    fn client_sends(&mut self) {
        self.next += 1;
        let command = Command {
            number: self.next,
            shard: self.random.below(SHARDS),
            is_write: self.random.below(2) == 0,
            seen: 0,
            at_tip: false,
        };
        let shard = ShardId(command.shard as u64);
        match self.with_there(command.shard, |o, there| {
            o.way(shard, kind(&command), there)
        }) {
            Way::Wait => self.order.queue(shard, command.number as u64, 1, command),
            way => self.goes(command, way),
        }
    }

    fn goes(&mut self, command: Command, way: Way) {
        if !self.order.is_empty() && self.order.lane(ShardId(command.shard as u64)).is_none() {
            self.passed += 1;
        }
        let seen = self.seen[command.shard];
        match way {
            Way::Wait => unreachable!("it does not go"),
            Way::Free => self.runs(Command {
                seen,
                at_tip: false,
                ..command
            }),
            Way::AtTip => self.runs(Command {
                seen,
                at_tip: true,
                ..command
            }),
            Way::Along(node) => {
                let to = (0..NODES).find(|n| id(*n) == node).unwrap();
                self.forward(
                    Command {
                        seen,
                        at_tip: false,
                        ..command
                    },
                    to,
                );
            }
        }
    }

    /// As a node evaluates, or sends elsewhere.
    fn runs(&mut self, command: Command) {
        let copies = &self.shards[command.shard];
        if copies.primary == HOME && self.lapsed {
            return self.elsewhere(command);
        }
        if copies.primary == HOME {
            let at = self.evaluate_at_primary(command);
            if command.is_write && self.random.below(2) == 0 {
                self.seen[command.shard] = self.seen[command.shard].max(at);
                return self.pending.push((command, at));
            }
            return self.answered(command, at);
        }
        let here = copies.applied[HOME];
        if !command.is_write && !command.at_tip {
            if here >= command.seen && self.random.below(4) > 0 {
                return self.answered(command, here);
            }
            if here < command.seen && self.random.below(2) == 0 {
                let seen = Position::new(1, command.seen as u64);
                self.order.waits(ShardId(command.shard as u64), seen);
                return self.waiting.push(command);
            }
        }
        self.elsewhere(command);
    }

    fn elsewhere(&mut self, command: Command) {
        let primary = self.shards[command.shard].primary;
        if primary != HOME && !self.links[primary].down {
            return self.forward(command, primary);
        }
        let other = 1 + self.random.below(NODES - 1);
        if !command.is_write && !command.at_tip && !self.links[other].down {
            return self.forward(command, other);
        }
        self.stall(command);
    }

    fn stall(&mut self, command: Command) {
        self.order.stalls(ShardId(command.shard as u64));
        self.stalled.push_back(command);
    }

    fn forward(&mut self, mut command: Command, to: usize) {
        let shard = ShardId(command.shard as u64);
        let to_primary = self.shards[command.shard].primary == to;
        command.at_tip |= !command.is_write && to_primary && self.order.has_reads_away(shard);
        let seen = Position::new(1, command.seen as u64);
        let number = command.number as u64;
        self.order
            .sent(shard, number, kind(&command), seen, &id(to));
        self.links[to].there.push_back(command);
    }

    fn evaluate_at_primary(&mut self, command: Command) -> usize {
        let copies = &mut self.shards[command.shard];
        if command.is_write {
            copies.log += 1;
            copies.applied[copies.primary] = copies.log;
            self.effects
                .insert(command.number, (command.shard, copies.log));
        }
        copies.log
    }

    fn answered(&mut self, command: Command, at: usize) {
        self.seen[command.shard] = self.seen[command.shard].max(at);
        let answer = (command.shard, command.is_write, at);
        assert_eq!(self.answers.insert(command.number, answer), None);
    }

    /// What may go on now does.
    fn go_on(&mut self, shard: usize) {
        let id = ShardId(shard as u64);
        while let Some((command, way)) = self.with_there(shard, |o, there| o.next(id, kind, there))
        {
            self.goes(command, way);
        }
    }

    fn arrives_there(&mut self, node: usize) {
        let Some(command) = self.links[node].there.pop_front() else {
            return;
        };
        let copies = &self.shards[command.shard];
        let answer = if copies.primary == node {
            // A read that is behind nothing may be answered from what is committed alone; here
            // all is.
            Answer::At(self.evaluate_at_primary(command))
        } else if command.is_write || command.at_tip {
            Answer::NotHere
        } else if copies.applied[node] < command.seen {
            return self.links[node].waiting.push(command);
        } else {
            Answer::At(copies.applied[node])
        };
        self.links[node].back.push_back((command, answer));
    }

    /// Reads that wait at another node are answered there, or not for long.
    fn waiting_there_ends(&mut self, node: usize) {
        for command in std::mem::take(&mut self.links[node].waiting) {
            let applied = self.shards[command.shard].applied[node];
            let answer = match applied >= command.seen {
                true => Answer::At(applied),
                false if self.random.below(3) == 0 => Answer::NotHere,
                false => {
                    self.links[node].waiting.push(command);
                    continue;
                }
            };
            self.links[node].back.push_back((command, answer));
        }
    }

    /// Writes are committed; or not in time: then the session goes on from what it knows of.
    fn pending_ends(&mut self, shard: usize) {
        let (ends, stay) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(command, _)| command.shard == shard);
        self.pending = stay;
        let ends: Vec<(Command, usize)> = ends;
        if self.random.below(4) == 0 {
            ends.into_iter()
                .for_each(|(command, at)| self.answered(command, at));
            return;
        }
        let answered = (self.answers.values().filter(|a| a.0 == shard)).map(|a| a.2);
        let asked = self.order.asked(ShardId(shard as u64)).index as usize;
        self.seen[shard] = answered.chain([asked]).max().unwrap_or(0);
    }

    fn arrives_back(&mut self, node: usize) {
        let Some((command, answer)) = self.links[node].back.pop_front() else {
            return;
        };
        let shard = ShardId(command.shard as u64);
        self.order.answered(shard, kind(&command), &id(node));
        match answer {
            Answer::At(at) => {
                self.took_effect(command);
                self.answered(command, at);
            }
            Answer::NotHere => self.comes_back(command),
        }
        self.go_on(command.shard);
    }

    fn took_effect(&mut self, command: Command) {
        let shard = ShardId(command.shard as u64);
        self.refused += self.order.overtaken(shard, command.number as u64).len();
    }

    fn comes_back(&mut self, command: Command) {
        let shard = ShardId(command.shard as u64);
        self.order.queue(shard, command.number as u64, 1, command);
        if let Some(first) = self.order.first_to_stall(shard) {
            self.stall(first);
        }
    }

    fn link_breaks(&mut self, node: usize) {
        let link = &mut self.links[node];
        link.down = true;
        let mut lost: Vec<Command> = std::mem::take(&mut link.there).into();
        lost.append(&mut link.waiting);
        lost.extend(
            std::mem::take(&mut link.back)
                .into_iter()
                .map(|(command, _)| command),
        );
        lost.sort_by_key(|command| command.number);
        for command in lost {
            let shard = ShardId(command.shard as u64);
            self.order.answered(shard, kind(&command), &id(node));
            match command.is_write {
                true => self.took_effect(command),
                false => self.comes_back(command),
            }
            self.go_on(command.shard);
        }
    }

    fn retries(&mut self) {
        for _ in 0..self.stalled.len() {
            let Some(mut command) = self.stalled.pop_front() else {
                return;
            };
            let shard = ShardId(command.shard as u64);
            self.order.stalled(shard);
            if self.order.is_preceded(shard, command.number as u64) {
                (self.order).queue(shard, command.number as u64, 1, command);
                self.go_on(command.shard);
                continue;
            }
            command.seen = self.seen[command.shard];
            command.at_tip = !command.is_write && self.order.has_writes_away(shard);
            self.runs(command);
            self.go_on(command.shard);
        }
    }

    fn waiting_ends(&mut self) {
        for command in std::mem::take(&mut self.waiting) {
            let has_it = self.shards[command.shard].applied[HOME] >= command.seen;
            if !has_it && self.random.below(3) > 0 {
                self.waiting.push(command);
                continue;
            }
            self.order.waited(ShardId(command.shard as u64));
            match has_it {
                true => self.runs(command),
                false => self.elsewhere(command),
            }
            self.go_on(command.shard);
        }
    }

    fn step(&mut self) {
        let (node, shard) = (1 + self.random.below(NODES - 1), self.random.below(SHARDS));
        match self.random.below(40) {
            0 => {
                // Whoever has all takes over; what is on its way meets it, or not.
                let copies = &mut self.shards[shard];
                copies.applied[node] = copies.log;
                copies.primary = node;
                self.waiting_there_ends(node);
                self.go_on(shard);
            }
            1 => {
                let copies = &mut self.shards[shard];
                copies.applied[HOME] = copies.log;
                copies.primary = HOME;
                self.waiting_ends();
                self.go_on(shard);
            }
            2 => self.link_breaks(node),
            3 | 4 => self.lapsed = !self.lapsed,
            5 => {
                self.links[node].down = false;
                self.go_on(shard);
            }
            6..14 => self.client_sends(),
            14..22 => self.arrives_there(node),
            22..30 => self.arrives_back(node),
            30 => self.waiting_there_ends(node),
            31 => self.pending_ends(shard),
            32..34 => {
                let copies = &mut self.shards[shard];
                let at = self.random.below(NODES);
                let lacks = copies.log - copies.applied[at];
                copies.applied[at] += self.random.below(lacks + 1);
                // Whoever waited for it is answered before anybody who comes later.
                match at {
                    HOME => self.waiting_ends(),
                    at => self.waiting_there_ends(at),
                }
            }
            34..37 => self.waiting_ends(),
            _ => self.retries(),
        }
    }

    /// Everything comes to an end.
    fn ends(&mut self) {
        for _ in 0..10_000 {
            if self.order.is_empty() {
                return;
            }
            for node in 1..NODES {
                self.links[node].down = false;
                while !self.links[node].there.is_empty() {
                    self.arrives_there(node);
                }
                self.waiting_there_ends(node);
                while !self.links[node].back.is_empty() {
                    self.arrives_back(node);
                }
            }
            self.lapsed = false;
            self.waiting_ends();
            self.retries();
        }
        panic!("something is never done: {:?}", self.order);
    }

    fn judge(&self) {
        for shard in 0..SHARDS {
            let effects: Vec<(usize, usize)> = (self.effects.iter())
                .filter(|(_, (of, _))| *of == shard)
                .map(|(number, (_, at))| (*number, *at))
                .collect();
            assert!(
                effects.is_sorted_by_key(|(_, at)| *at),
                "writes took effect out of order: {effects:?}"
            );
            let mut least = 0;
            for (number, (_, is_write, at)) in self.answers.iter().filter(|a| a.1.0 == shard) {
                assert!(
                    *is_write || *at >= least,
                    "{number} shows {at}, and {least} was seen or written before it"
                );
                let later = effects
                    .iter()
                    .find(|(of, at_of)| of > number && at_of <= at);
                assert!(
                    *is_write || later.is_none(),
                    "{number} shows {at}, and with it what came behind it: {later:?}"
                );
                least = least.max(*at);
            }
        }
    }
}

#[test]
fn nothing_is_out_of_order_and_no_read_shows_less_than_was_seen() {
    let (mut answered, mut passed, mut refused) = (0, 0, 0);
    for seed in 1..=12_000 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        world.ends();
        world.judge();
        answered += world.answers.len();
        passed += world.passed;
        refused += world.refused;
    }
    assert!(answered > 500_000, "{answered} answered");
    assert!(passed > 10_000, "{passed} passed another shard's");
    assert!(refused < answered / 5, "{refused} of {answered} refused");
}

#[test]
fn a_shard_without_a_primary_holds_up_no_other() {
    let mut order: Order<u32> = Order::default();
    let (held, other) = (ShardId(1), ShardId(2));
    let primary = id(1);
    let there = There {
        primary: Some(&primary),
        reads_by_rounds: false,
        is_up: &|_| true,
    };
    order.stalls(held);
    assert_eq!(order.way(held, Kind::Write, there), Way::Wait);
    order.queue(held, 1, 10, 7);
    assert_eq!(order.way(other, Kind::Write, there), Way::Free);
    assert_eq!(order.next(held, |_| Kind::Write, there), None);
    order.stalled(held);
    let next = order.next(held, |_| Kind::Write, there);
    assert_eq!((next, order.queued_bytes()), (Some((7, Way::Free)), 0));
    assert!(order.is_empty());
}

#[test]
fn where_reads_take_rounds_a_write_waits_for_them_and_reads_do_not() {
    let primary = NodeId::new("us-1").unwrap();
    let shard = ShardId(1);
    let there = |reads_by_rounds| There {
        primary: Some(&primary),
        reads_by_rounds,
        is_up: &|_| true,
    };
    let mut here = Order::<()>::default();
    here.waits(shard, Position::ZERO);
    assert_eq!(here.way(shard, Kind::Read, there(true)), Way::Free);
    assert_eq!(here.way(shard, Kind::Read, there(false)), Way::Wait);
    assert_eq!(here.way(shard, Kind::Write, there(true)), Way::Wait);
    let mut away = Order::<()>::default();
    away.sent(shard, 1, Kind::Read, Position::ZERO, &primary);
    let along = Way::Along(primary.clone());
    assert_eq!(away.way(shard, Kind::Write, there(false)), along);
    assert_eq!(away.way(shard, Kind::Write, there(true)), Way::Wait);
    assert_eq!(away.way(shard, Kind::Read, there(true)), along);
}
