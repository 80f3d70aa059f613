//! Failovers that lose what was committed: any replica may be named primary at any moment, as
//! with `FAILOVER available`, while the former one goes on for a while. Whatever was lost, all
//! replicas hold the same in the end, and none ever builds on what it fetched from a log that
//! was lost.
//!
//! The store is a list of applied entries; `fetched` stands for keys that are as of a later
//! position. One seed decides everything.

use super::{tests::node, *};
use crate::{
    conformance::{self, Dice},
    protocol::{Copied, Primacy},
};
use model::{AckRule, OnTimeout, Region, ShardId};
use std::collections::BTreeMap;

const HOSTS: usize = 3;

/// What the host of a replica has been asked to do, and has not done.
enum Asked {
    Rewind { from: usize, common: Position },
    Copy { from: usize },
}

#[derive(Default)]
struct Host {
    replica: Option<PrimaryReplica>,
    log: Vec<Entry>,
    /// The index before the first entry of `log`.
    begin: u64,
    durable: u64,
    commit_noted: u64,
    store: Vec<Entry>,
    flushed: usize,
    /// Survives a crash, as does that the store is being filled.
    fetched: Option<Position>,
    filling: bool,
    asked: Option<Asked>,
}

impl Host {
    fn last(&self) -> u64 {
        self.begin + self.log.len() as u64
    }

    fn applied(&self) -> u64 {
        self.store.len() as u64
    }
}

struct World {
    dice: Dice,
    ack: AckRule,
    now_ms: u64,
    hosts: Vec<Host>,
    network: Vec<(usize, usize, Bytes)>,
    primary: usize,
    epoch: u64,
    decreed: Option<Position>,
    written: BTreeMap<Position, u32>,
    seen: BTreeMap<&'static str, u64>,
}

fn name(n: usize) -> NodeId {
    node(["us-1", "us-2", "eu-1"][n])
}

impl World {
    fn new(seed: u64, ack: AckRule) -> Self {
        let mut world = World {
            dice: Dice::new(seed),
            ack,
            now_ms: 1,
            hosts: (0..HOSTS).map(|_| Host::default()).collect(),
            network: Vec::new(),
            primary: 0,
            epoch: 1,
            decreed: None,
            written: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        (0..HOSTS).for_each(|n| world.start(n));
        world
    }

    fn now(&self) -> Now {
        Now::at_ms(self.now_ms)
    }

    fn pick(&mut self, n: usize) -> usize {
        self.dice.below(n as u64) as usize
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn start(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let mut history = EpochHistory::default();
        let kept = host.store.iter().filter(|e| e.position.index <= host.begin);
        kept.chain(&host.log).for_each(|e| history.note(e.position));
        let last = host.log.last().or(host.store.last());
        let recovered = Recovered {
            history,
            last: last.map_or(Position::ZERO, |e| e.position),
            stamp: last.map_or(Stamp::ZERO, Entry::last_stamp),
            first_index: host.begin + 1,
            commit: host.commit_noted.min(host.last()),
            applied: host.applied(),
            filling: host.filling,
            until: host.fetched,
            ..Recovered::default()
        };
        host.asked = host.filling.then_some(Asked::Copy { from: self.primary });
        let identity = Identity {
            node: name(n),
            region: Region::new("us").unwrap(),
            shard: ShardId(1),
            disk: conformance::disk(&name(n)),
            boot: 0,
        };
        let tuning = Tuning {
            tail_bytes: 300,
            message_bytes: 120,
            ..Tuning::default()
        };
        host.replica = Some(PrimaryReplica::new(identity, recovered, tuning));
        if n == self.primary {
            // Every process takes a new epoch.
            self.name_primary(n);
        }
        self.assign(n);
    }

    /// A failover: whatever `n` lacks is lost.
    fn name_primary(&mut self, n: usize) {
        if n != self.primary {
            // What it holds is durable with its seal.
            self.sync(n);
            let host = &self.hosts[n];
            let log = host.store.iter().chain(&host.log).map(|e| e.position);
            self.decreed = log.max();
        }
        self.primary = n;
        self.epoch += 1;
        self.assign(n);
    }

    fn assign(&mut self, n: usize) {
        let assignment = Assignment {
            shard: ShardId(1),
            members: (0..HOSTS)
                .map(|n| conformance::member(&name(n), &Region::new("us").unwrap()))
                .collect(),
            office: Office::PrimaryReplica(Primacy {
                epoch: Epoch(self.epoch),
                primary: name(self.primary),
                in_office: n == self.primary && !self.hosts[n].filling,
                ack: self.ack.clone(),
                on_timeout: OnTimeout::Block,
                timeout: Duration::from_secs(10),
                degraded: false,
                decreed: self.decreed,
            }),
        };
        let (now, primary) = (self.now(), self.primary);
        let host = &mut self.hosts[n];
        let Some(replica) = &mut host.replica else {
            return;
        };
        if matches!(&host.asked, Some(Asked::Rewind { from, .. }) if *from != primary) {
            host.asked = None;
            replica.order(Order::RewindGivenUp, now);
        }
        if let Some(Asked::Copy { from }) = &mut host.asked {
            *from = primary;
        }
        replica.assign(assignment, now);
        self.drain(n);
    }

    fn drain(&mut self, n: usize) {
        let now = self.now();
        loop {
            let host = &mut self.hosts[n];
            let Some(output) = host.replica.as_mut().and_then(|r| r.poll(now)) else {
                return;
            };
            if let Some(Asked::Rewind { .. } | Asked::Copy { .. }) = host.asked {
                let harmless = matches!(output, Output::Send { .. } | Output::Lost { .. });
                assert!(harmless, "{output:?} while the store is worked on");
            }
            match output {
                Output::Append { entry, .. } => {
                    assert_eq!(entry.position.index, host.last() + 1);
                    let known = self.written.entry(entry.position);
                    assert_eq!(*known.or_insert(entry.checksum()), entry.checksum());
                    host.log.push(entry);
                }
                Output::Truncate { after } => {
                    assert!(after >= host.applied(), "what was applied is never cut");
                    host.log.truncate((after - host.begin) as usize);
                    host.durable = host.durable.min(after);
                    self.saw("truncate");
                }
                Output::Commit { upto } => {
                    assert!(upto <= host.durable, "committed before it was durable");
                    host.commit_noted = upto;
                    self.apply(n, upto);
                }
                Output::Send { to, message } => {
                    let to = (0..HOSTS).find(|n| name(*n) == to).unwrap();
                    self.network.push((to, n, message.into_bytes()));
                }
                Output::Fetch { to, from, .. } => {
                    let entries = (from > host.begin).then(|| {
                        let skip = (from - host.begin - 1) as usize;
                        host.log.iter().skip(skip).take(3).cloned().collect()
                    });
                    let replica = host.replica.as_mut().unwrap();
                    replica.fetched(&to, from, entries, now);
                }
                Output::NeedsRewind { from, common } => {
                    let at = host.store[common.index.max(1) as usize - 1].position;
                    assert!(common.index == 0 || at == common);
                    assert!(common.index < host.commit_noted.max(host.applied()));
                    let from = (0..HOSTS).find(|n| name(*n) == from).unwrap();
                    host.asked = Some(Asked::Rewind { from, common });
                }
                Output::NeedsCopy { from, .. } => {
                    let from = (0..HOSTS).find(|n| name(*n) == from).unwrap();
                    host.filling = true;
                    host.fetched = None;
                    host.store.clear();
                    host.flushed = 0;
                    host.log.clear();
                    host.begin = 0;
                    host.durable = 0;
                    host.commit_noted = 0;
                    host.asked = Some(Asked::Copy { from });
                }
                Output::Wish(_) | Output::MayRest { .. } | Output::Lost { .. } => {}
                Output::Note { .. } | Output::ReadReady { .. } | Output::ReadLost { .. } => {
                    panic!("there are none of these")
                }
                Output::Stop { reason } => panic!("{reason}"),
            }
        }
    }

    fn apply(&mut self, n: usize, upto: u64) {
        let now = self.now();
        let host = &mut self.hosts[n];
        for index in host.applied() + 1..=upto {
            host.store
                .push(host.log[(index - host.begin) as usize - 1].clone());
        }
        if let Some(until) = host.fetched
            && host.applied() >= until.index
        {
            let reached = host.store[until.index as usize - 1].position;
            assert_eq!(
                reached, until,
                "it built on what was fetched from a lost log"
            );
            host.fetched = None;
        }
        let applied = host.applied();
        host.replica.as_mut().unwrap().applied(applied, now);
    }

    /// Does what the host of `n` was asked for, if its source can.
    fn work(&mut self, n: usize) {
        let now = self.now();
        let Some(Asked::Rewind { from, .. } | Asked::Copy { from }) = self.hosts[n].asked else {
            return;
        };
        let source = &self.hosts[from];
        if from == n || source.replica.is_none() || source.filling || source.fetched.is_some() {
            return;
        }
        let store = source.store.clone();
        let at = store.last().map_or(Position::ZERO, |e| e.position);
        let host = &mut self.hosts[n];
        match host.asked {
            Some(Asked::Rewind { common, .. }) => {
                let has = store.get((common.index as usize).wrapping_sub(1));
                if common.index > 0 && has.map(|e| e.position) != Some(common) {
                    return;
                }
                host.store.truncate(common.index as usize);
                host.flushed = host.store.len();
                host.log
                    .truncate(common.index.saturating_sub(host.begin) as usize);
                host.begin = host.begin.min(common.index);
                host.durable = common.index;
                host.commit_noted = common.index;
                host.fetched = (at.index > common.index).then_some(at);
                host.replica
                    .as_mut()
                    .unwrap()
                    .order(Order::Rewound { common, until: at }, now);
                self.saw("rewind");
            }
            _ => {
                let mut history = EpochHistory::default();
                store.iter().for_each(|e| history.note(e.position));
                let stamp = store.last().map_or(Stamp::ZERO, Entry::last_stamp);
                host.flushed = store.len();
                host.store = store;
                host.begin = at.index;
                host.durable = at.index;
                host.commit_noted = at.index;
                host.filling = false;
                let replica = host.replica.as_mut().unwrap();
                let copied = Copied {
                    at,
                    history,
                    stamp,
                    ..Copied::default()
                };
                replica.installed(copied, now);
                self.saw("copy");
            }
        }
        self.hosts[n].asked = None;
        self.drain(n);
        if n == self.primary {
            self.name_primary(n);
        }
    }

    fn crash(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        host.replica = None;
        host.asked = None;
        host.log
            .truncate(host.durable.saturating_sub(host.begin) as usize);
        host.store.truncate(host.flushed);
    }

    fn sync(&mut self, n: usize) {
        let now = self.now();
        let host = &mut self.hosts[n];
        host.durable = host.last();
        if let Some(replica) = &mut host.replica {
            replica.durable(host.durable, now);
            self.drain(n);
        }
    }

    fn deliver(&mut self, at: usize) {
        let (to, from, message) = self.network.remove(at);
        let now = self.now();
        if let Some(replica) = &mut self.hosts[to].replica {
            replica.receive(&name(from), message, now);
            self.drain(to);
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        for n in 0..HOSTS {
            if let Some(replica) = &mut self.hosts[n].replica {
                replica.tick(now);
                self.drain(n);
            }
        }
    }

    fn propose(&mut self, n: usize) {
        let now = self.now();
        let payload = self.dice.below(1 << 30).to_le_bytes();
        if let Some(replica) = &mut self.hosts[n].replica {
            // One that was deposed and doesn't know it writes, too: that is lost later.
            let _ = replica.propose(EntryKind::Mutation, 1, &payload, now);
            self.drain(n);
        }
    }

    fn step(&mut self) {
        self.now_ms += self.dice.below(30);
        let n = self.pick(HOSTS);
        match self.dice.below(100) {
            0..25 => self.propose(n),
            25..60 if !self.network.is_empty() => {
                let at = self.pick(self.network.len());
                self.deliver(at);
            }
            60..75 => self.sync(n),
            75..84 => self.tick(),
            84..87 => self.work(n),
            87..89 => self.assign(n),
            89..91 if !self.network.is_empty() => {
                let at = self.pick(self.network.len());
                self.network.swap_remove(at);
            }
            91..93 => {
                let learner = self.hosts[n]
                    .replica
                    .as_ref()
                    .is_none_or(|r| r.state(self.now()).role == Role::Learner);
                if !learner {
                    self.name_primary(n);
                    self.saw("failover");
                }
            }
            93 => {
                self.crash(n);
                self.start(n);
            }
            94 => self.hosts[n].flushed = self.hosts[n].store.len(),
            95 => {
                // The log lets go of what every store has flushed, or of more.
                let host = &mut self.hosts[n];
                let upto = host.flushed as u64;
                if let Some(replica) = &mut host.replica
                    && upto > host.begin
                    && upto <= host.durable
                    && host.asked.is_none()
                {
                    host.log.drain(..(upto - host.begin) as usize);
                    host.begin = upto;
                    replica.released(upto + 1);
                }
            }
            _ => {}
        }
    }

    fn heal(&mut self) {
        for _ in 0..600 {
            self.now_ms += 20;
            (0..HOSTS).for_each(|n| self.assign(n));
            self.tick();
            for n in 0..HOSTS {
                self.work(n);
                self.sync(n);
            }
            let mut delivered = 0;
            while !self.network.is_empty() {
                self.deliver(0);
                delivered += 1;
                assert!(delivered < 10_000, "the replicas never come to rest");
            }
            let primary = &self.hosts[self.primary];
            let all = primary.applied() == primary.last();
            // The same length is not the same log.
            let done = |h: &Host| {
                all && h.store == primary.store && h.fetched.is_none() && h.asked.is_none()
            };
            if self.hosts.iter().all(done) {
                break;
            }
        }
        let checksums = |h: &Host| h.store.iter().map(Entry::checksum).collect::<Vec<_>>();
        let expected = checksums(&self.hosts[self.primary]);
        for (n, host) in self.hosts.iter().enumerate() {
            assert!(checksums(host) == expected, "{} differs", name(n));
            assert!(host.fetched.is_none() && !host.filling);
            let state = host.replica.as_ref().unwrap().state(self.now());
            let wanted = match n == self.primary {
                true => Role::Primary,
                false => Role::Replica,
            };
            assert_eq!(state.role, wanted);
        }
    }
}

#[test]
fn whatever_a_failover_loses_all_replicas_end_up_equal() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let rules = [
        AckRule::Async,
        AckRule::Quorum,
        AckRule::SemiSync { k: 1, region: None },
    ];
    for (seed, ack) in (0..400).zip(rules.iter().cycle()) {
        let mut world = World::new(seed, ack.clone());
        for _ in 0..400 {
            world.step();
        }
        world.heal();
        for (what, times) in world.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    // What never happened was not survived.
    for what in ["failover", "rewind", "copy", "truncate"] {
        assert!(seen.get(what).is_some_and(|n| *n > 40), "{seen:?}");
    }
}
