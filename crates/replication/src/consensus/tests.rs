//! Whole groups over a network and disks that do their worst, from a seed. Every message goes
//! through its wire form, every record through its bytes.

mod captures;
mod nonsense;
mod turns;

use super::{group::mix, *};
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 300;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % sides
    }
}

/// A state machine that shows every difference in what was applied: a chain of hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chain {
    index: u64,
    hash: u64,
}

impl Chain {
    fn apply(&mut self, entry: &Committed) {
        assert_eq!(
            entry.index,
            self.index + 1,
            "committed entries are consecutive"
        );
        self.index = entry.index;
        let data = entry.data.iter().fold(0, |h, b| mix(h ^ u64::from(*b)));
        self.hash = mix(self.hash ^ mix(data ^ entry.term));
    }
}

#[derive(Default)]
struct Node {
    group: Option<RaftGroup>,
    process: u64,
    durable: Vec<Bytes>,
    /// Written, but lost if the node dies now.
    unsynced: Vec<Bytes>,
    chain: Chain,
    asked: BTreeMap<u64, u64>,
    requests: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Fired {
    dropped: u64,
    repeated: u64,
    partitions: u64,
    lost_records: u64,
    compactions: u64,
    snapshots: u64,
    elections: u64,
    reads: u64,
}

struct World {
    dice: Dice,
    nodes: BTreeMap<u64, Node>,
    wire: Vec<(u64, u64, Vec<u8>)>,
    cut: BTreeSet<(u64, u64)>,
    leaders: BTreeMap<u64, u64>,
    /// What the group has agreed on: the chain after each index.
    agreed: BTreeMap<u64, u64>,
    proposed: u64,
    committed: BTreeSet<Bytes>,
    fired: Fired,
    trace: u64,
}

impl World {
    fn new(seed: u64, size: u64) -> Self {
        let mut world = World {
            dice: Dice(mix(seed)),
            nodes: (1..=size).map(|id| (id, Node::default())).collect(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            agreed: BTreeMap::from([(0, 0)]),
            proposed: 0,
            committed: BTreeSet::new(),
            fired: Fired::default(),
            trace: 0,
        };
        for id in 1..=size {
            world.start(id);
        }
        world
    }

    fn start(&mut self, id: u64) {
        let voters = self.nodes.keys().copied().collect();
        let node = self.nodes.get_mut(&id).unwrap();
        node.process += 1;
        let mut recovered = Recovered::default();
        for bytes in &node.durable {
            recovered.replay(LogRecord::decode(bytes.clone()).unwrap());
        }
        let config = GroupConfig {
            group: 1,
            id,
            process: node.process,
            voters,
            election_ticks: 10,
            turn_ticks: 2,
            heartbeat_ticks: 2,
        };
        node.chain = Chain::default();
        node.group = Some(RaftGroup::new(config, recovered).unwrap());
    }

    fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.group = None;
        node.asked.clear();
        // Any part of what was not synced may be gone, from the end.
        let kept = self.dice.roll(node.unsynced.len() as u64 + 1) as usize;
        self.fired.lost_records += (node.unsynced.len() - kept) as u64;
        node.unsynced.truncate(kept);
        node.durable.append(&mut node.unsynced);
        // Any part before the last snapshot may have been given up, from the beginning.
        let is_snapshot =
            |b: &Bytes| matches!(LogRecord::decode(b.clone()), Ok(LogRecord::Snapshot(_)));
        if let Some(last) = node.durable.iter().rposition(is_snapshot) {
            let gone = self.dice.roll(last as u64 + 1) as usize;
            node.durable.drain(..gone);
        }
    }

    fn work(&mut self, id: u64) {
        let World { nodes, .. } = self;
        let node = nodes.get_mut(&id).unwrap();
        let Some(group) = node.group.as_mut() else {
            return;
        };
        let Some(work) = group.ready() else {
            return;
        };
        for record in &work.persist {
            node.unsynced.push(record.encode());
        }
        self.trace = mix(self.trace ^ id);
        for (to, message) in &work.send {
            let bytes = postcard::to_stdvec(message).unwrap();
            self.trace = bytes.iter().fold(self.trace, |h, b| mix(h ^ u64::from(*b)));
            if matches!(message.body, Body::Snapshot(_)) {
                self.fired.snapshots += 1;
            }
            self.wire.push((id, *to, bytes));
        }
        if let Some((index, data)) = &work.snapshot {
            assert!(*index >= node.chain.index);
            node.chain = Chain {
                index: *index,
                hash: u64::from_le_bytes(data[..].try_into().unwrap()),
            };
            assert_eq!(self.agreed.get(index), Some(&node.chain.hash));
        }
        for entry in &work.committed {
            node.chain.apply(entry);
            let agreed = *self.agreed.entry(entry.index).or_insert(node.chain.hash);
            assert_eq!(agreed, node.chain.hash, "node {id} at {}", entry.index);
            self.committed.insert(entry.data.clone());
        }
        for read in &work.reads {
            if let Some(committed_before) = node.asked.remove(&read.request) {
                assert!(read.index >= committed_before, "a stale read");
                self.fired.reads += 1;
            }
        }
        if let Some(role) = work.role
            && role.leading
        {
            let leader = *self.leaders.entry(role.term).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", role.term);
            self.fired.elections += 1;
        }
        for (from, refused) in &work.refused {
            assert_eq!(*refused, Refused::Busy, "from {from}");
        }
    }

    fn sync(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(group) = node.group.as_mut() {
            node.durable.append(&mut node.unsynced);
            // A snapshot is enough by itself, so the log forgets what was before.
            let is_snapshot = |bytes: &Bytes| bytes[1] == 3;
            if let Some(at) = node.durable.iter().rposition(is_snapshot) {
                node.durable.drain(..at);
            }
            group.synced();
        }
    }

    fn deliver(&mut self, at: usize, keep: bool) {
        let (from, to, bytes) = if keep {
            self.wire[at].clone()
        } else {
            self.wire.swap_remove(at)
        };
        if self.cut.contains(&(from, to)) {
            self.fired.dropped += 1;
            return;
        }
        if let Some(group) = self.nodes.get_mut(&to).unwrap().group.as_mut() {
            group.receive(from, postcard::from_bytes(&bytes).unwrap());
        }
    }

    fn any(&mut self) -> u64 {
        self.dice.roll(self.nodes.len() as u64) + 1
    }

    fn propose(&mut self, id: u64) {
        self.proposed += 1;
        let data = Bytes::from(self.proposed.to_le_bytes().to_vec());
        if let Some(group) = self.nodes.get_mut(&id).unwrap().group.as_mut() {
            let _ = group.propose(data);
        }
    }

    fn read(&mut self, id: u64) {
        let committed = *self.agreed.last_key_value().unwrap().0;
        let node = self.nodes.get_mut(&id).unwrap();
        node.requests += 1;
        if let Some(group) = node.group.as_mut()
            && group.read_index(node.requests).is_ok()
        {
            node.asked.insert(node.requests, committed);
        }
    }

    fn compact(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(group) = node.group.as_mut() {
            let data = Bytes::from(node.chain.hash.to_le_bytes().to_vec());
            if group.compact(node.chain.index, data) {
                self.fired.compactions += 1;
            }
        }
    }

    fn step(&mut self) {
        let id = self.any();
        match self.dice.roll(100) {
            0..15 => {
                if let Some(group) = self.nodes.get_mut(&id).unwrap().group.as_mut() {
                    group.tick();
                }
            }
            15..35 => self.work(id),
            35..50 => self.sync(id),
            50..85 if !self.wire.is_empty() => {
                let at = self.dice.roll(self.wire.len() as u64) as usize;
                match self.dice.roll(20) {
                    0 => {
                        self.wire.swap_remove(at);
                        self.fired.dropped += 1;
                    }
                    1 => {
                        self.fired.repeated += 1;
                        self.deliver(at, true);
                    }
                    _ => self.deliver(at, false),
                }
            }
            85..94 => self.propose(id),
            94..96 => self.read(id),
            96 => self.compact(id),
            97 => {
                let other = self.any();
                if self.dice.roll(3) == 0 {
                    self.cut.clear();
                } else {
                    self.fired.partitions += 1;
                    self.cut.extend([(id, other), (other, id)]);
                }
            }
            98 if self.dice.roll(3) == 0 => {
                if self.nodes[&id].group.is_some() {
                    self.crash(id);
                }
            }
            _ => {
                if self.nodes[&id].group.is_none() {
                    self.start(id);
                }
            }
        }
    }

    /// One tick everywhere, with a network and disks that work.
    fn calm_round(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.nodes
                .get_mut(id)
                .unwrap()
                .group
                .as_mut()
                .unwrap()
                .tick();
        }
        for _ in 0..6 {
            for id in &ids {
                for _ in 0..3 {
                    self.work(*id);
                    self.sync(*id);
                }
            }
            for _ in 0..self.wire.len() {
                self.deliver(0, false);
            }
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in &ids {
            if self.nodes[id].group.is_none() {
                self.start(*id);
            }
        }
        for _ in 0..200 {
            self.calm_round();
        }
        let before = self.committed.len();
        for id in &ids {
            self.propose(*id);
        }
        for _ in 0..10 {
            self.calm_round();
        }
        assert_eq!(
            self.committed.len(),
            before + 1,
            "the one leader committed its own"
        );
        let last = self.agreed.last_key_value().map(|(i, h)| (*i, *h)).unwrap();
        for (id, node) in &self.nodes {
            assert_eq!((node.chain.index, node.chain.hash), last, "node {id}");
        }
    }
}

fn run(seed: u64, size: u64, steps: u64) -> World {
    let mut world = World::new(seed, size);
    for _ in 0..steps {
        world.step();
    }
    world.heal();
    world
}

#[test]
fn agreement_survives_a_bad_network_bad_disks_and_restarts() {
    let mut fired = Fired::default();
    for seed in 0..SEEDS {
        let world = run(seed, if seed % 3 == 0 { 5 } else { 3 }, 6000);
        fired.dropped += world.fired.dropped;
        fired.repeated += world.fired.repeated;
        fired.partitions += world.fired.partitions;
        fired.lost_records += world.fired.lost_records;
        fired.compactions += world.fired.compactions;
        fired.snapshots += world.fired.snapshots;
        fired.elections += world.fired.elections;
        fired.reads += world.fired.reads;
    }
    // Faults that never happened would prove nothing.
    let least = [
        fired.dropped,
        fired.repeated,
        fired.partitions,
        fired.lost_records,
        fired.compactions,
        fired.snapshots,
        fired.elections,
        fired.reads,
    ];
    assert!(least.iter().all(|n| *n >= SEEDS), "{fired:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let traces: Vec<u64> = [7, 7, 8].map(|seed| run(seed, 3, 1500).trace).to_vec();
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], traces[2]);
}

fn calm(size: u64) -> World {
    let mut world = World::new(1, size);
    for _ in 0..40 {
        world.calm_round();
    }
    world
}

fn leader_of(world: &World) -> u64 {
    let leads = |(_, n): &(&u64, &Node)| n.group.as_ref().is_some_and(RaftGroup::is_leader);
    *world.nodes.iter().find(leads).unwrap().0
}

#[test]
fn a_lagging_follower_gets_a_snapshot_and_goes_on_from_it() {
    let mut world = calm(3);
    let leader = leader_of(&world);
    let lagging = if leader == 1 { 2 } else { 1 };
    for other in 1..=3 {
        world.cut.extend([(other, lagging), (lagging, other)]);
    }
    for _ in 0..20 {
        world.propose(leader);
        world.calm_round();
    }
    world.compact(leader);
    assert_eq!(world.fired.compactions, 1);
    world.calm_round();
    let (first, last) = world.nodes[&leader].group.as_ref().unwrap().log_range();
    assert_eq!(first, last, "all of it is in the snapshot");
    world.heal();
    assert!(world.fired.snapshots >= 1);
    // And once more from its own records.
    world.crash(lagging);
    world.heal();
}

#[test]
fn a_group_of_one_leads_itself() {
    let mut world = calm(1);
    assert_eq!(leader_of(&world), 1);
    world.propose(1);
    world.calm_round();
    let before = world.nodes[&1].chain;
    world.crash(1);
    world.heal();
    assert!(world.nodes[&1].chain.index > before.index);
}

#[test]
fn leadership_can_be_handed_over() {
    let mut world = calm(3);
    let leader = leader_of(&world);
    let to = leader % 3 + 1;
    world
        .nodes
        .get_mut(&leader)
        .unwrap()
        .group
        .as_mut()
        .unwrap()
        .transfer(to);
    world.calm_round();
    assert_eq!(leader_of(&world), to);
}

#[test]
fn only_the_leader_takes_proposals_and_only_of_a_sane_size() {
    let mut world = calm(3);
    let leader = leader_of(&world);
    let follower = leader % 3 + 1;
    let mut propose = |id: u64, bytes: usize| {
        let group = world.nodes.get_mut(&id).unwrap().group.as_mut().unwrap();
        group.propose(Bytes::from(vec![0; bytes]))
    };
    assert_eq!(
        propose(follower, 1),
        Err(NotTaken::NotLeader {
            leader: Some(leader)
        })
    );
    assert_eq!(propose(leader, 0), Err(NotTaken::Size { bytes: 0 }));
    let bytes = PROPOSAL_BYTES_MAX + 1;
    assert_eq!(propose(leader, bytes), Err(NotTaken::Size { bytes }));
    assert_eq!(propose(leader, 1), Ok(()));
}

#[test]
fn who_has_just_heard_a_leader_gives_no_vote_unless_that_asks_for_it() {
    let vote = |term, forced| Message {
        term,
        body: Body::Vote {
            pre: false,
            forced,
            last_index: 1 << 20,
            last_term: term - 1,
            commit: 0,
            commit_term: 0,
        },
    };
    let asked = |world: &mut World, ticks: u32, forced: bool| {
        let leader = leader_of(world);
        let (voter, candidate) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let group = world.nodes.get_mut(&voter).unwrap().group.as_mut().unwrap();
        while let Some(work) = group.ready() {
            if work.must_sync {
                group.synced();
            }
        }
        (0..ticks).for_each(|_| group.tick());
        let term = group.term() + 1;
        group.receive(candidate, vote(term, forced));
        group.term() == term
    };
    assert!(!asked(&mut calm(3), 0, false));
    assert!(asked(&mut calm(3), 0, true));
    let world = &mut calm(3);
    let quiet = world.nodes[&1].group.as_ref().unwrap().quiet_min();
    assert!(!asked(world, quiet - 1, false));
    // The core's own patience is a little longer.
    assert!(asked(&mut calm(3), 2 * quiet, false));
}

/// One that was emptied may have helped to elect another leader, and forgotten that.
#[test]
fn a_muted_member_follows_and_is_not_counted() {
    let mut world = calm(3);
    let leader = leader_of(&world);
    let (emptied, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    for at in [leader, emptied] {
        world.cut.extend([(at, other), (other, at)]);
    }
    world.crash(emptied);
    let node = world.nodes.get_mut(&emptied).unwrap();
    node.durable.clear();
    world.start(emptied);
    fn group(world: &mut World, id: u64) -> &mut RaftGroup {
        world.nodes.get_mut(&id).unwrap().group.as_mut().unwrap()
    }
    group(&mut world, emptied).mute();
    group(&mut world, leader).forget_progress(emptied);
    let before = group(&mut world, leader).commit_index();
    world.propose(leader);
    world.read(leader);
    for _ in 0..6 {
        world.calm_round();
    }
    let there = group(&mut world, leader).log_range().1;
    assert_eq!(group(&mut world, emptied).log_range().1, there);
    assert_eq!(group(&mut world, leader).commit_index(), before);
    assert!(!world.nodes[&leader].asked.is_empty(), "the read waits");

    world.cut.clear();
    for _ in 0..100 {
        world.calm_round();
    }
    assert!(group(&mut world, emptied).commit_index() > before);
    group(&mut world, emptied).admit();
    world.heal();
}
