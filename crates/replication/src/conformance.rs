//! One suite that every topology runs: a small cluster under a network and disks that do their
//! worst, and the promises of [`crate::protocol`] checked at every step.
//!
//! The host here is a model: its disk is a journal with a durable prefix, the store a list of applied
//! entries that survives a crash only up to what it flushed. One seed decides everything.
//!
//! What a topology decides in its own way it says as [`Rules`]: who is assigned what when a process
//! starts. Who takes writes is asked of the replicas.

mod host;
mod rules;
mod runs;

use crate::{
    protocol::{Assignment, Copied, Identity, Output, Protocol, Reading, Recovered, Role, Wish},
    session::Satisfied,
};
use bytes::Bytes;
use host::{Awaited, Host, Record};
pub(crate) use host::{Dice, disk, member};
use model::{Entry, EntryKind, EpochHistory, Now, Position, ShardId, Stamp};
pub(crate) use rules::{Cluster, NODES, Rules};
pub(crate) use runs::run;
use std::{collections::BTreeMap, time::Duration};

struct World<R: Rules> {
    dice: Dice,
    now_ms: u64,
    rules: R,
    hosts: Vec<Host<R::Replica>>,
    /// (to, from, message): any of them may be delivered next, or lost.
    network: Vec<(usize, usize, Bytes)>,
    /// Nothing reaches this node, or comes from it, before that time (ms).
    cut: Option<(usize, u64)>,
    processes: u64,
    /// Which catalog there is.
    version: u64,
    /// What clients were told is written: (index, checksum).
    acknowledged: BTreeMap<u64, u32>,
    /// What was ever applied at an index anywhere.
    applied_anywhere: BTreeMap<u64, u32>,
    /// Reads that were answered.
    read: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl<R: Rules> World<R> {
    fn new(seed: u64, rules: R) -> Self {
        let places = [("us-1", "us"), ("us-2", "us"), ("eu-1", "eu")];
        let mut world = World {
            dice: Dice::new(seed),
            now_ms: 1,
            rules,
            hosts: places.map(|(id, region)| Host::new(id, region)).into(),
            network: Vec::new(),
            cut: None,
            processes: 0,
            version: 0,
            acknowledged: BTreeMap::new(),
            applied_anywhere: BTreeMap::new(),
            read: 0,
            faults: BTreeMap::new(),
        };
        (0..NODES).for_each(|n| world.start(n));
        world
    }

    fn now(&self) -> Now {
        Now::at_ms(self.now_ms)
    }

    fn fault(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn start(&mut self, n: usize) {
        self.processes += 1;
        let host = &mut self.hosts[n];
        let mut history = EpochHistory::default();
        for e in host.store.iter().chain(&host.log) {
            history.note(e.position);
        }
        let last = host.log.last().or(host.store.last());
        let entries = host.store.iter().chain(&host.log);
        let recovered = Recovered {
            history,
            last: last.map_or(Position::ZERO, |e| e.position),
            stamp: entries.map(Entry::last_stamp).max().unwrap_or(Stamp::ZERO),
            first_index: host.log_first,
            commit: host.commit_noted,
            applied: host.applied(),
            note: host.note.clone(),
            members: host.members(),
            ..Recovered::default()
        };
        let identity = Identity {
            node: host.id.clone(),
            region: host.region.clone(),
            shard: ShardId(1),
            disk: host.disk,
            boot: self.processes,
        };
        host.committed = host.applied();
        host.replica = Some(R::replica(identity, recovered));
        for node in self.rules.started(n) {
            self.assign(node);
        }
        self.drain(n);
    }

    fn assign(&mut self, n: usize) {
        let hosts = self.hosts.iter();
        let members = hosts.clone().map(|h| model::catalog::Replica {
            disk: Some(h.member),
            ..member(&h.id, &h.region)
        });
        let cluster = Cluster {
            version: self.version,
            disks: hosts.clone().map(|h| (h.id.clone(), h.disk)).collect(),
            founding: hosts.clone().all(|h| h.member == disk(&h.id)),
        };
        let assignment = Assignment {
            shard: ShardId(1),
            members: members.collect(),
            office: self.rules.office(n, &cluster),
        };
        let now = self.now();
        self.hosts[n].told = self.version;
        if let Some(replica) = &mut self.hosts[n].replica {
            replica.assign(assignment, now);
            self.drain(n);
        }
    }

    /// Who takes writes, if anybody does: the first, if two believe that they do.
    fn primary(&self) -> Option<usize> {
        let now = self.now();
        let is_primary = |host: &Host<R::Replica>| {
            let state = host.replica.as_ref().map(|r| r.state(now));
            state.is_some_and(|state| state.role == Role::Primary)
        };
        self.hosts.iter().position(is_primary)
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
                    let index = entry.position.index;
                    assert_eq!(index, host.last_index() + 1);
                    host.log.push(entry.clone());
                    host.append(Record::Entry(entry), Some(Awaited::Entry(index)));
                }
                Output::Truncate { after } => {
                    assert!(after >= host.applied(), "what was applied is never cut");
                    host.truncate_after(after);
                    host.append(Record::Truncate(after), None);
                    self.fault("truncate");
                }
                Output::Note { number, bytes } => {
                    host.note = Some(bytes.clone());
                    host.append(Record::Note(bytes), Some(Awaited::Note(number)));
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
                    let last = host.log_first + host.log.len() as u64 - 1;
                    assert!(from <= last, "{from} is in no log yet");
                    let entries = (from >= host.log_first).then(|| {
                        let skip = (from - host.log_first) as usize;
                        host.log.iter().skip(skip).take(3).cloned().collect()
                    });
                    replica.fetched(&to, from, entries, now);
                }
                Output::NeedsCopy { from, .. } => {
                    host.copies = Some(from);
                    self.copy(n);
                }
                Output::ReadReady { ticket, index } => {
                    let reads = host.reads.extract_if(.., |(t, _)| *t == ticket);
                    host.reads_ready
                        .extend(reads.map(|(_, must)| (index, must)));
                    self.answer_reads(n);
                }
                Output::ReadLost { ticket } => host.reads.retain(|(t, _)| *t != ticket),
                Output::NeedsRewind { .. } => panic!("nothing committed is lost here"),
                Output::Wish(Wish::Confirm { node, disk }) => {
                    let host = self.hosts.iter_mut().find(|h| h.id == node).unwrap();
                    if host.disk == disk && host.member != disk {
                        host.member = disk;
                        self.version += 1;
                        self.fault("member");
                    }
                }
                Output::Wish(_) | Output::MayRest { .. } => {}
                Output::Lost { .. } => {}
                Output::Stop { reason } => panic!("{reason}"),
            }
        }
    }

    fn copy(&mut self, n: usize) {
        let Some(from) = self.hosts[n].copies.clone() else {
            return;
        };
        let source = self.hosts.iter().find(|h| h.id == from).unwrap();
        if source.replica.is_none() || source.store.is_empty() {
            return;
        }
        let store = source.store.clone();
        let members = source.members();
        let mut history = EpochHistory::default();
        store.iter().for_each(|e| history.note(e.position));
        let at = store.last().map_or(Position::ZERO, |e| e.position);
        let stamp = store.iter().map(Entry::last_stamp).max().unwrap();
        let now = self.now();
        self.fault("copy");
        let host = &mut self.hosts[n];
        host.copied(store, at.index);
        let replica = host.replica.as_mut().unwrap();
        let copied = Copied {
            at,
            history,
            stamp,
            members,
        };
        replica.installed(copied, now);
    }

    fn apply(&mut self, n: usize) {
        let is_primary = self.primary() == Some(n);
        let host = &mut self.hosts[n];
        for index in host.applied() + 1..=host.committed {
            let entry = host.log[(index - host.log_first) as usize].clone();
            let known = *self
                .applied_anywhere
                .entry(index)
                .or_insert(entry.checksum());
            assert_eq!(known, entry.checksum(), "two histories at {index}");
            if is_primary {
                self.acknowledged.insert(index, entry.checksum());
            }
            host.store.push(entry);
        }
        let (applied, now) = (host.applied(), Now::at_ms(self.now_ms));
        if let Some(replica) = &mut host.replica {
            replica.applied(applied, now);
        }
        self.answer_reads(n);
    }

    /// A read sees what was acknowledged to anybody before it was asked.
    fn answer_reads(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let applied = host.applied();
        for (_, must) in host
            .reads_ready
            .extract_if(.., |(index, _)| *index <= applied)
        {
            assert!(must <= applied, "a read at {applied} misses {must}");
            self.read += 1;
        }
    }

    fn ask_read(&mut self, n: usize) {
        let now = self.now();
        let must = self.acknowledged.keys().next_back().copied().unwrap_or(0);
        let host = &mut self.hosts[n];
        let Some(replica) = &mut host.replica else {
            return;
        };
        match replica.read(now) {
            // Who may say so by a lease alone does not know here whether that runs.
            Reading::Now if replica.state(now).by_lease => {}
            Reading::Now => assert!(must <= host.applied()),
            Reading::Wait(ticket) => host.reads.push((ticket, must)),
            Reading::Elsewhere => {}
        }
        self.drain(n);
    }

    fn sync(&mut self, n: usize, upto: usize) {
        let now = self.now();
        let host = &mut self.hosts[n];
        host.synced = host.synced.max(upto);
        let (mut entry, mut note) = (None, None);
        while let Some((at, awaited)) = host.awaited.front()
            && *at <= host.synced
        {
            match awaited {
                Awaited::Entry(index) => entry = Some(*index),
                Awaited::Note(number) => note = Some(*number),
            }
            host.awaited.pop_front();
        }
        host.durable = host.durable.max(entry.unwrap_or(0));
        let Some(replica) = &mut host.replica else {
            return;
        };
        if let Some(index) = entry {
            replica.durable(index, now);
        }
        if let Some(number) = note {
            replica.noted(number, now);
        }
        self.drain(n);
    }

    fn deliver(&mut self, at: usize) {
        let now = self.now();
        let (to, from, message) = self.network.remove(at);
        let is_cut = |(n, end): (usize, u64)| self.now_ms < end && (n == to || n == from);
        if self.cut.is_some_and(is_cut) {
            return;
        }
        let from = self.hosts[from].id.clone();
        if let Some(replica) = &mut self.hosts[to].replica {
            replica.receive(&from, message, now);
            self.drain(to);
        }
    }

    /// `unevenly`: some are late.
    fn tick(&mut self, unevenly: bool) {
        let now = self.now();
        for n in 0..NODES {
            if unevenly && self.dice.below(4) == 0 {
                continue;
            }
            // Some hear late of what the catalog says.
            if self.hosts[n].told < self.version && !(unevenly && self.dice.below(20) > 0) {
                self.assign(n);
            }
            self.copy(n);
            self.drain(n);
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
        // Whoever believes it is primary, now and then also where it is not the only one.
        let first = self.dice.below(NODES as u64) as usize;
        for n in (0..NODES).map(|n| (first + n) % NODES) {
            let Some(replica) = &mut self.hosts[n].replica else {
                continue;
            };
            if replica.state(now).role != Role::Primary {
                continue;
            }
            let at = replica.state(now).tip.index + 1;
            let stamp = replica.next_stamp(now);
            if let Ok(entry) = replica.propose(EntryKind::Mutation, 1, &payload, now) {
                assert_eq!((entry.position.index, entry.stamp), (at, stamp));
                assert_eq!(replica.state(now).tip, entry.position);
                assert_ne!(replica.has(entry.position), Satisfied::Lost);
            }
            self.drain(n);
            return;
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        self.now_ms += self.dice.below(30);
        let n = self.dice.below(NODES as u64) as usize;
        let is_spared = self.dice.below(self.rules.faults_one_in()) > 0;
        let kinds = 105 + u64::from(self.rules.disks_go());
        let happens = match self.dice.below(kinds) {
            fault @ (88..100 | 104..) if is_spared => fault % 88,
            what => what,
        };
        match happens {
            0..30 => self.propose(),
            30..60 => {
                if !self.network.is_empty() {
                    let at = self.dice.below(self.network.len() as u64) as usize;
                    self.deliver(at);
                }
            }
            60..75 => {
                let host = &self.hosts[n];
                let pending = (host.journal.len() - host.synced) as u64;
                let upto = host.synced + self.dice.below(pending + 1) as usize;
                self.sync(n, upto);
            }
            75..88 => self.tick(true),
            88..91 if !self.network.is_empty() => {
                let at = self.dice.below(self.network.len() as u64) as usize;
                self.network.swap_remove(at);
                self.fault("loss");
            }
            91..93 if !self.network.is_empty() => {
                let at = self.dice.below(self.network.len() as u64) as usize;
                let again = self.network[at].clone();
                self.network.push(again);
                self.fault("duplicate");
            }
            93..95 => {
                self.hosts[n].crash();
                self.start(n);
                self.fault("crash");
            }
            95 => {
                self.hosts[n].crash();
                self.fault("down");
            }
            96..98 => {
                let down = self.hosts.iter().position(|h| h.replica.is_none());
                if let Some(down) = down {
                    self.start(down);
                }
            }
            98 => self.release(n),
            100..104 => self.ask_read(n),
            104 => {
                let until = self.now_ms + self.dice.below(4000);
                self.cut = Some((n, until));
                self.fault("cut");
            }
            105 => {
                if self
                    .hosts
                    .iter()
                    .all(|h| h.disk == h.member && h.replica.is_some())
                {
                    self.hosts[n].lose_disk();
                    self.version += 1;
                    self.start(n);
                    self.fault("disk");
                }
            }
            _ => {
                let peer = self.dice.below(NODES as u64) as usize;
                let (id, now) = (self.hosts[peer].id.clone(), self.now());
                self.network
                    .retain(|(to, from, _)| (*to, *from) != (peer, n));
                if let Some(replica) = &mut self.hosts[n].replica {
                    replica.link_changed(&id, true, now);
                    self.drain(n);
                }
                self.fault("link");
            }
        }
        self.check();
    }

    /// The log lets go of what the store has flushed.
    fn release(&mut self, n: usize) {
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
        self.fault("release");
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

    fn states(&self) -> Vec<String> {
        let now = self.now();
        let state = |host: &Host<R::Replica>| {
            let state = host.replica.as_ref().map(|r| (r.state(now), r.leader()));
            format!("{}: {state:?}", host.id)
        };
        self.hosts.iter().map(state).collect()
    }

    /// Everything works again: within a bounded time all hold the same, and it holds all that
    /// was acknowledged.
    fn heal(&mut self) {
        for n in 0..NODES {
            if self.hosts[n].replica.is_none() {
                self.start(n);
            }
        }
        self.cut = None;
        let mut proposed = false;
        for _ in 0..1000 {
            self.now_ms += 20;
            self.tick(false);
            for n in 0..NODES {
                let all = self.hosts[n].journal.len();
                self.sync(n, all);
            }
            let mut delivered = 0;
            while !self.network.is_empty() {
                self.deliver(0);
                delivered += 1;
                assert!(delivered < 10_000, "the replicas never come to rest");
            }
            let Some(primary) = self.primary() else {
                continue;
            };
            if !std::mem::replace(&mut proposed, true) {
                self.propose();
                continue;
            }
            let last = self.hosts[primary].last_index();
            let is_whole = |(n, host): (usize, &Host<R::Replica>)| {
                let role = match n == primary {
                    true => Role::Primary,
                    false => Role::Replica,
                };
                let replica = host.replica.as_ref();
                let state = replica.map(|r| r.state(self.now()));
                let fresh_at = state.as_ref().and_then(|s| s.fresh_at).unwrap_or_default();
                // Once whole, a replica knows how fresh it is.
                let is_fresh = self.now().monotonic - fresh_at < Duration::from_secs(1);
                let is_whole = is_fresh && host.applied() == last;
                let is_member = host.disk == host.member;
                is_whole && is_member && state.is_some_and(|s| s.role == role)
            };
            if self.hosts.iter().enumerate().all(is_whole) {
                break;
            }
        }
        let Some(primary) = self.primary() else {
            panic!("nobody takes writes: {:#?}", self.states());
        };
        let expected: Vec<u32> = self.hosts[primary]
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
        let now = self.now().monotonic;
        for replica in self.hosts.iter().filter_map(|h| h.replica.as_ref()) {
            let behind = now - replica.state(self.now()).fresh_at.unwrap();
            assert!(behind < Duration::from_secs(1), "{behind:?} behind");
        }
    }
}
