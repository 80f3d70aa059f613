//! One suite that every topology runs: a small cluster under a network and disks that do their
//! worst, and the promises of [`crate::protocol`] checked at every step.
//!
//! The host here is a model: the log is a list with a durable prefix, the store a list of
//! applied entries that survives a crash only up to what it flushed. One seed decides
//! everything.

use crate::protocol::{Assignment, Identity, Office, Output, Primacy, Protocol, Recovered, Role};
use bytes::Bytes;
use model::{
    AckRule, DiskId, Entry, EntryKind, Epoch, EpochHistory, NodeId, Now, OnTimeout, Position,
    Region, ShardId, Stamp, catalog::Replica,
};
use std::{collections::BTreeMap, time::Duration};

/// xorshift64*: enough to choose what goes wrong next.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// The disk of a node.
pub(crate) fn disk(node: &NodeId) -> DiskId {
    DiskId(node.number())
}

/// A member on its disk.
pub(crate) fn member(node: &NodeId, region: &Region) -> Replica {
    Replica {
        node: node.clone(),
        region: region.clone(),
        disk: Some(disk(node)),
        replaces: None,
    }
}

/// One node's disks and, while it runs, its replica.
struct Host<S> {
    id: NodeId,
    region: Region,
    replica: Option<S>,
    /// The log: entries `log_first ..`, of which those up to `durable` survive a crash.
    log: Vec<Entry>,
    log_first: u64,
    durable: u64,
    commit_noted: u64,
    /// The store: every entry applied, in order, and how many of them were flushed.
    store: Vec<Entry>,
    store_flushed: usize,
    committed: u64,
}

impl<S: Protocol> Host<S> {
    fn last_index(&self) -> u64 {
        self.log_first + self.log.len() as u64 - 1
    }
    fn applied(&self) -> u64 {
        self.store.last().map_or(0, |e| e.position.index)
    }
}

struct World<S> {
    dice: Dice,
    now_ms: u64,
    hosts: Vec<Host<S>>,
    /// (to, from, message): any of them may be delivered next, or lost.
    network: Vec<(usize, usize, Bytes)>,
    ack: AckRule,
    epoch: u64,
    make: fn(Identity, Recovered) -> S,
    /// What the primary's clients were told is written: (index, checksum).
    acknowledged: BTreeMap<u64, u32>,
    /// What was ever applied at an index anywhere.
    applied_anywhere: BTreeMap<u64, u32>,
    faults: BTreeMap<&'static str, u64>,
}

const PRIMARY: usize = 0;

impl<S: Protocol> World<S> {
    fn new(seed: u64, ack: AckRule, make: fn(Identity, Recovered) -> S) -> Self {
        let places = [("us-1", "us"), ("us-2", "us"), ("eu-1", "eu")];
        let hosts = places
            .iter()
            .map(|(id, region)| Host {
                id: NodeId::new(id).unwrap(),
                region: Region::new(region).unwrap(),
                replica: None,
                log: Vec::new(),
                log_first: 1,
                durable: 0,
                commit_noted: 0,
                store: Vec::new(),
                store_flushed: 0,
                committed: 0,
            })
            .collect();
        let mut world = World {
            dice: Dice::new(seed),
            now_ms: 1,
            hosts,
            network: Vec::new(),
            ack,
            epoch: 0,
            make,
            acknowledged: BTreeMap::new(),
            applied_anywhere: BTreeMap::new(),
            faults: BTreeMap::new(),
        };
        (0..3).for_each(|n| world.start(n));
        world
    }

    fn now(&self) -> Now {
        Now::at_ms(self.now_ms)
    }

    fn assignment(&self, for_node: usize) -> Assignment {
        Assignment {
            shard: ShardId(1),
            members: (self.hosts.iter())
                .map(|h| member(&h.id, &h.region))
                .collect(),
            office: Office::PrimaryReplica(Primacy {
                epoch: Epoch(self.epoch),
                primary: self.hosts[PRIMARY].id.clone(),
                in_office: for_node == PRIMARY,
                ack: self.ack.clone(),
                on_timeout: OnTimeout::Block,
                timeout: Duration::from_secs(10),
                degraded: false,
                decreed: None,
            }),
        }
    }

    fn start(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let mut history = EpochHistory::default();
        for e in host.store.iter().chain(&host.log) {
            history.note(e.position);
        }
        let last = host.log.last().or(host.store.last());
        let recovered = Recovered {
            history,
            last: last.map_or(Position::ZERO, |e| e.position),
            stamp: last.map_or(Stamp::ZERO, Entry::last_stamp),
            first_index: host.log_first,
            commit: host.commit_noted,
            applied: host.applied(),
            ..Recovered::default()
        };
        let identity = Identity {
            node: host.id.clone(),
            region: host.region.clone(),
            shard: ShardId(1),
            disk: disk(&host.id),
            boot: self.epoch,
        };
        host.committed = host.applied();
        host.replica = Some((self.make)(identity, recovered));
        if n == PRIMARY {
            // The catalog grants a new epoch to every new process, and tells the others.
            self.epoch += 1;
            for other in 0..3 {
                self.assign(other);
            }
        } else {
            self.assign(n);
        }
        self.drain(n);
    }

    fn assign(&mut self, n: usize) {
        let (assignment, now) = (self.assignment(n), self.now());
        if let Some(replica) = &mut self.hosts[n].replica {
            replica.assign(assignment, now);
            self.drain(n);
        }
    }

    fn crash(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        host.replica = None;
        let kept = host.durable + 1 - host.log_first;
        host.log.truncate(kept as usize);
        host.store.truncate(host.store_flushed);
        if n == PRIMARY {
            // Replies under way are lost with it; what was answered stays answered.
        }
    }

    /// Carries out what the replica on `n` asks for.
    fn drain(&mut self, n: usize) {
        let now = self.now();
        for round in 0.. {
            assert!(round < 1000, "a replica never comes to rest");
            let host = &mut self.hosts[n];
            let Some(replica) = &mut host.replica else {
                return;
            };
            let Some(output) = replica.poll(now) else {
                return;
            };
            match output {
                Output::Append { entry, .. } => {
                    assert_eq!(entry.position.index, host.last_index() + 1);
                    host.log.push(entry);
                }
                Output::Truncate { after } => {
                    assert!(after >= host.applied(), "what was applied is never cut");
                    host.log.truncate((after + 1 - host.log_first) as usize);
                    host.durable = host.durable.min(after);
                }
                Output::Commit { upto } => {
                    assert!(upto <= host.durable, "committed before it was durable");
                    host.commit_noted = upto;
                    host.committed = upto;
                    self.apply(n);
                }
                Output::Send { to, message } => {
                    let to = self.hosts.iter().position(|h| h.id == to).unwrap();
                    self.network.push((to, n, message.into_bytes()));
                }
                Output::Fetch { to, from, .. } => {
                    assert!(from <= host.durable, "{from} is in no log yet");
                    let entries = (from >= host.log_first).then(|| {
                        let skip = (from - host.log_first) as usize;
                        host.log.iter().skip(skip).take(3).cloned().collect()
                    });
                    replica.fetched(&to, from, entries, now);
                }
                Output::NeedsCopy { .. } => {
                    let source = &self.hosts[PRIMARY];
                    *self.faults.entry("copy").or_default() += 1;
                    let store = source.store.clone();
                    let mut history = EpochHistory::default();
                    store.iter().for_each(|e| history.note(e.position));
                    let at = store.last().map_or(Position::ZERO, |e| e.position);
                    let stamp = store.last().map_or(Stamp::ZERO, Entry::last_stamp);
                    let host = &mut self.hosts[n];
                    host.store = store;
                    host.store_flushed = host.store.len();
                    host.log.clear();
                    host.log_first = at.index + 1;
                    host.durable = at.index;
                    host.commit_noted = at.index;
                    host.committed = at.index;
                    let replica = host.replica.as_mut().unwrap();
                    replica.installed(at, history, stamp, now);
                }
                Output::NeedsRewind { .. } => panic!("nothing committed is lost here"),
                Output::Wish(_) | Output::MayRest { .. } => {}
                Output::Lost { .. } => {}
                Output::Stop { reason } => panic!("{reason}"),
            }
        }
    }

    fn apply(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        for index in host.applied() + 1..=host.committed {
            let entry = host.log[(index - host.log_first) as usize].clone();
            let known = *self
                .applied_anywhere
                .entry(index)
                .or_insert(entry.checksum());
            assert_eq!(known, entry.checksum(), "two histories at {index}");
            if n == PRIMARY {
                self.acknowledged.insert(index, entry.checksum());
            }
            host.store.push(entry);
        }
        let (applied, now) = (host.applied(), Now::at_ms(self.now_ms));
        if let Some(replica) = &mut host.replica {
            replica.applied(applied, now);
        }
    }

    fn sync(&mut self, n: usize, upto: u64) {
        let now = self.now();
        let host = &mut self.hosts[n];
        host.durable = host.durable.max(upto.min(host.last_index()));
        let durable = host.durable;
        if let Some(replica) = &mut host.replica {
            replica.durable(durable, now);
            self.drain(n);
        }
    }

    fn deliver(&mut self, at: usize) {
        let now = self.now();
        let (to, from, message) = self.network.remove(at);
        let from = self.hosts[from].id.clone();
        if let Some(replica) = &mut self.hosts[to].replica {
            replica.receive(&from, message, now);
            self.drain(to);
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        for n in 0..3 {
            // Never but when it asked for it.
            if let Some(replica) = &mut self.hosts[n].replica
                && replica.wake_at().is_some_and(|at| at <= now.monotonic)
            {
                replica.tick(now);
                self.drain(n);
            }
        }
    }

    fn propose(&mut self) {
        let now = self.now();
        let payload = self.dice.below(1 << 30).to_le_bytes();
        if let Some(replica) = &mut self.hosts[PRIMARY].replica {
            let _ = replica.propose(EntryKind::Mutation, 1, &payload, now);
            self.drain(PRIMARY);
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        self.now_ms += self.dice.below(30);
        let n = self.dice.below(3) as usize;
        let fault = match self.dice.below(100) {
            0..30 => {
                self.propose();
                None
            }
            30..60 => {
                if !self.network.is_empty() {
                    let at = self.dice.below(self.network.len() as u64) as usize;
                    self.deliver(at);
                }
                None
            }
            60..75 => {
                let host = &self.hosts[n];
                let pending = host.last_index() - host.durable.min(host.last_index());
                let upto = host.durable + self.dice.below(pending + 1);
                self.sync(n, upto);
                None
            }
            75..88 => {
                self.tick();
                None
            }
            88..91 if !self.network.is_empty() => {
                let at = self.dice.below(self.network.len() as u64) as usize;
                self.network.swap_remove(at);
                Some("loss")
            }
            91..93 if !self.network.is_empty() => {
                let at = self.dice.below(self.network.len() as u64) as usize;
                let again = self.network[at].clone();
                self.network.push(again);
                Some("duplicate")
            }
            93..95 => {
                self.crash(n);
                self.start(n);
                Some("crash")
            }
            95 => {
                self.crash(n);
                Some("down")
            }
            96..98 => {
                let down = self.hosts.iter().position(|h| h.replica.is_none());
                if let Some(down) = down {
                    self.start(down);
                }
                None
            }
            98 => {
                // The log lets go of what the store has flushed.
                let host = &mut self.hosts[n];
                host.store_flushed = host.store.len();
                let upto = host.applied().min(host.durable);
                if host.replica.is_some() && upto >= host.log_first {
                    host.log.drain(..(upto + 1 - host.log_first) as usize);
                    host.log_first = upto + 1;
                    let first = host.log_first;
                    if let Some(replica) = &mut host.replica {
                        replica.released(first);
                    }
                }
                Some("release")
            }
            _ => {
                let peer = self.dice.below(3) as usize;
                let (id, now) = (self.hosts[peer].id.clone(), self.now());
                self.network
                    .retain(|(to, from, _)| (*to, *from) != (peer, n));
                if let Some(replica) = &mut self.hosts[n].replica {
                    replica.link_changed(&id, true, now);
                    self.drain(n);
                }
                Some("link")
            }
        };
        if let Some(fault) = fault {
            *self.faults.entry(fault).or_default() += 1;
        }
        self.check();
    }

    fn check(&self) {
        for host in &self.hosts {
            if let Some(replica) = &host.replica {
                let state = replica.state(self.now());
                assert!(state.commit <= host.durable.max(host.applied()));
                assert_eq!(state.tip.index, host.last_index());
            }
        }
    }

    /// Everything works again: within a bounded time all hold the same, and it holds all that
    /// was acknowledged.
    fn heal(&mut self) {
        for n in 0..3 {
            if self.hosts[n].replica.is_none() {
                self.start(n);
            }
        }
        self.propose();
        for _ in 0..400 {
            self.now_ms += 20;
            self.tick();
            for n in 0..3 {
                let last = self.hosts[n].last_index();
                self.sync(n, last);
            }
            let mut delivered = 0;
            while !self.network.is_empty() {
                self.deliver(0);
                delivered += 1;
                assert!(delivered < 10_000, "the replicas never come to rest");
            }
            let primary = &self.hosts[PRIMARY];
            let done = self.hosts.iter().all(|h| {
                h.applied() == primary.last_index()
                    && h.replica.as_ref().is_some_and(|r| {
                        let s = r.state(self.now());
                        s.role
                            == if h.id == primary.id {
                                Role::Primary
                            } else {
                                Role::Replica
                            }
                    })
            });
            if done {
                break;
            }
        }
        let expected: Vec<u32> = self.hosts[PRIMARY]
            .store
            .iter()
            .map(Entry::checksum)
            .collect();
        assert!(!expected.is_empty());
        for host in &self.hosts {
            let held: Vec<u32> = host.store.iter().map(Entry::checksum).collect();
            assert_eq!(held, expected, "{} differs", host.id);
        }
        for (index, checksum) in &self.acknowledged {
            assert_eq!(expected.get(*index as usize - 1), Some(checksum));
        }
        // Once whole, a replica knows how fresh it is.
        let fresh = self.hosts[1].replica.as_ref().unwrap().state(self.now());
        let behind = self.now().monotonic - fresh.fresh_at.unwrap();
        assert!(behind < Duration::from_secs(1), "{behind:?} behind");
    }
}

/// Runs the suite for one topology.
pub(crate) fn run<S: Protocol>(seeds: u64, steps: u64, make: fn(Identity, Recovered) -> S) {
    let rules = [
        "async",
        "semi-sync:1",
        "semi-sync:1@eu",
        "sync",
        "quorum",
        "local-quorum",
    ];
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let rule = rules[(seed % rules.len() as u64) as usize].parse().unwrap();
        let mut world = World::new(seed, rule, make);
        for _ in 0..steps {
            world.step();
        }
        world.heal();
        for (fault, times) in world.faults {
            *faults.entry(fault).or_default() += times;
        }
    }
    // A fault that never happened was not survived.
    for fault in [
        "loss",
        "duplicate",
        "crash",
        "down",
        "copy",
        "release",
        "link",
    ] {
        assert!(
            faults.get(fault).is_some_and(|n| *n > seeds / 20),
            "{fault} was too rare: {faults:?}"
        );
    }
}
