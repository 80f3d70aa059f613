//! Two nodes, a failover by decree, and a crash at every point of the rewind.

mod damage;

use crate::{ClientBounds, ConnId, Disks, Effect, Node, NodeConfig, PeerConfig};
use bytes::Bytes;
use model::{
    AckRule, Boot, Catalog, DiskId, Epoch, Failover, KeyspaceId, KeyspaceName, NodeId, Now,
    OnTimeout, Region, ShardId,
    catalog::{Keyspace, NodeInfo, Replica, Shard},
    strategy::{Strategy, Topology},
};
use replication::protocol::Role;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use storage::{
    disk::SimDisk,
    log::{FlushJob, Options, Synced, Written},
    store::{CacheBudget, MemoryStores},
};

pub(crate) const SHARD: ShardId = ShardId(1);
/// The former primary, and the new one.
pub(crate) const OLD: usize = 0;
pub(crate) const NEW: usize = 1;
const NAMES: [&str; 2] = ["us-1", "us-2"];

struct Machine {
    disk: SimDisk,
    rewound: SimDisk,
    stores: MemoryStores,
    process: u64,
    node: Option<Node<MemoryStores>>,
    flush: Option<Flush>,
}

/// A flush that is under way: the disk has it before the node knows.
enum Flush {
    Taken(FlushJob),
    Ran(Written, Synced),
}

pub(crate) struct World {
    now_ms: u64,
    machines: Vec<Machine>,
    catalog: Catalog,
    network: VecDeque<(usize, usize, Bytes)>,
    cut: bool,
    steps: u64,
    /// The former primary dies at this step.
    crash_at: Option<u64>,
    seed: u64,
    conns: u64,
    /// Whether it came back with a store that held what the log had taken back.
    came_back_parted: bool,
}

pub(crate) fn id(n: usize) -> NodeId {
    NodeId::new(NAMES[n]).unwrap()
}

fn us() -> Region {
    Region::new("us").unwrap()
}

pub(crate) fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn boot(n: usize) -> Boot {
    Boot {
        disk: DiskId(n as u64),
        process: 1,
        nonce: 0,
        log: 0,
        intact_since: 1,
    }
}

pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog {
        version: 1,
        next_keyspace: 1,
        next_shard: 2,
        ..Catalog::default()
    };
    for n in [OLD, NEW] {
        let info = NodeInfo {
            region: us(),
            zone: String::new(),
            client_addr: addr(1).into(),
            peer_addr: addr(2).into(),
            http_addr: addr(3).into(),
            boot: boot(n),
            levels: model::Release::THIS.levels,
        };
        catalog.nodes.insert(id(n), info);
    }
    let keyspace = Keyspace {
        name: KeyspaceName::new("profiles").unwrap(),
        strategy: Strategy {
            topology: Topology::PrimaryReplica,
            ack: AckRule::Async,
            on_timeout: OnTimeout::Block,
            timeout: Duration::from_secs(1),
            placement: "us=2".parse().unwrap(),
            primary_region: us(),
            failover: Failover::Available,
            replace_after: Duration::from_secs(300),
        },
        shards: vec![SHARD],
    };
    catalog.keyspaces.insert(KeyspaceId(0), keyspace);
    let replica = |n| Replica {
        node: id(n),
        region: us(),
        disk: Some(DiskId(n as u64)),
        replaces: None,
        added: 0,
    };
    let shard = Shard {
        keyspace: KeyspaceId(0),
        slots: (0, 16_383),
        replicas: vec![replica(OLD), replica(NEW)],
        primary: id(OLD),
        epoch: Epoch(1),
        process: 1,
        disk: DiskId(0),
        degraded: false,
        decreed: None,
    };
    catalog.shards.insert(SHARD, shard);
    catalog
}

/// How node `n` begins in its process.
pub(crate) fn config(n: usize, process: u64) -> NodeConfig {
    NodeConfig {
        id: id(n),
        release: model::Release::THIS,
        region: us(),
        zone: String::new(),
        listens: addr(1),
        client_addr: addr(1).into(),
        peer_addr: addr(2).into(),
        http_addr: addr(3).into(),
        protected_mode: true,
        peers: vec![PeerConfig {
            id: id(1 - n),
            region: us(),
            peer_addr: addr(2).into(),
        }],
        control_voters: vec![NodeId::new("elsewhere").unwrap()],
        links: wan::Links::absent(),
        clients: ClientBounds::default(),
        log: Options {
            segment_bytes: 8 << 10,
            batch_bytes_max: 4 << 10,
            ..Options::default()
        },
        cache: CacheBudget { bytes: 64 << 10 },
        log_retention_bytes: 1 << 20,
        limits: crate::NodeLimits::default(),
        emptied: false,
        disk: DiskId(n as u64),
        process,
        pid: 1,
        intact_since: 1,
        log_was: 0,
        usage: || None,
        traffic: Default::default,
        notes: Vec::new(),
        seed: 0,
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        World::with(seed, catalog())
    }

    pub(crate) fn with(seed: u64, catalog: Catalog) -> Self {
        let machines = [OLD, NEW].map(|_| Machine {
            disk: SimDisk::new(),
            rewound: SimDisk::new(),
            stores: MemoryStores::new(),
            process: 0,
            node: None,
            flush: None,
        });
        let mut world = World {
            now_ms: 1000,
            machines: machines.into(),
            catalog,
            network: VecDeque::new(),
            cut: false,
            steps: 0,
            crash_at: None,
            seed,
            conns: 0,
            came_back_parted: false,
        };
        world.start(OLD);
        world.start(NEW);
        world.settle();
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now::at_ms(self.now_ms)
    }

    pub(crate) fn start(&mut self, n: usize) {
        let now = self.now();
        let machine = &mut self.machines[n];
        machine.process += 1;
        let other = 1 - n;
        let config = NodeConfig {
            seed: self.seed,
            ..config(n, machine.process)
        };
        let disks = Disks {
            log: Arc::new(machine.disk.clone()),
            rewound: Arc::new(machine.rewound.clone()),
        };
        let mut node = Node::open(config, disks, machine.stores.clone(), now).unwrap();
        node.cluster.lease().never_ends();
        node.peer_connected(&id(other), now);
        let replica = node.shards.replica(SHARD);
        self.came_back_parted |= replica.is_some_and(|r| r.store().is_installing());
        node.adopt(self.catalog.clone());
        let introduced = node.introduction();
        machine.node = Some(node);
        if let Some(node) = &mut self.machines[other].node {
            node.peer_inbound(&id(n), &introduced, now);
            node.peer_connected(&id(n), now);
        }
    }

    pub(crate) fn crash(&mut self, n: usize) {
        let machine = &mut self.machines[n];
        machine.node = None;
        machine.flush = None;
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005) + 1;
        let seed = self.seed >> 20;
        machine.disk.crash(seed);
        machine.rewound.crash(seed);
        machine.stores.crash(seed);
        self.network.retain(|(from, to, _)| *from != n && *to != n);
    }

    /// One thing happens. False: there is nothing to do at this moment.
    pub(crate) fn step(&mut self) -> bool {
        self.steps += 1;
        if self.crash_at == Some(self.steps) {
            self.crash(OLD);
            self.start(OLD);
        }
        let now = self.now();
        for n in [OLD, NEW] {
            let machine = &mut self.machines[n];
            let Some(node) = &mut machine.node else {
                continue;
            };
            match machine.flush.take() {
                Some(Flush::Taken(job)) => {
                    let (written, synced) = job.run();
                    machine.flush = Some(Flush::Ran(written, synced));
                    return true;
                }
                Some(Flush::Ran(written, synced)) => {
                    node.flush_written(written, now);
                    node.flush_synced(synced, now);
                    return true;
                }
                None => {}
            }
            machine.flush = node.take_flush(now).map(Flush::Taken);
            if machine.flush.is_some() {
                return true;
            }
            while let Some(effect) = node.poll_effect() {
                match effect {
                    Effect::Send { to, message, .. } | Effect::Answer { to, message, .. } => {
                        if let Some(to) = NAMES.iter().position(|n| *n == to.as_str()) {
                            self.network.push_back((n, to, message.into_bytes()));
                        }
                    }
                    Effect::Stop(reason) | Effect::Discard(reason) => {
                        panic!("{} stops: {reason}", NAMES[n])
                    }
                    _ => {}
                }
            }
        }
        if let Some((from, to, message)) = self.network.pop_front() {
            if let (false, Some(node)) = (self.cut, &mut self.machines[to].node) {
                node.peer_message(&id(from), message, now);
            }
            return true;
        }
        false
    }

    pub(crate) fn settle(&mut self) {
        self.run(25);
    }

    /// So many ticks of 20 ms, and all that happens at each.
    pub(crate) fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            while self.step() {}
            self.now_ms += 20;
            let now = self.now();
            for machine in &mut self.machines {
                if let Some(node) = &mut machine.node {
                    node.tick(now);
                    node.wake(now);
                }
            }
        }
    }

    pub(crate) fn node(&mut self, n: usize) -> &mut Node<MemoryStores> {
        self.machines[n].node.as_mut().unwrap()
    }

    pub(crate) fn ask(&mut self, n: usize, command: &str) -> String {
        self.conns += 1;
        let (conn, now) = (ConnId(self.conns), self.now());
        self.node(n).client_connected(conn, addr(9), now);
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.node(n).client_command(conn, &args, now);
        for _ in 0..100 {
            while self.step() {}
            let out = self.node(n).client_output(conn).unwrap().split();
            if !out.is_empty() {
                return String::from_utf8_lossy(&out).into_owned();
            }
            self.now_ms += 20;
            let now = self.now();
            (0..2).for_each(|n| self.node(n).tick(now));
        }
        panic!("no answer to {command}");
    }

    /// The catalog names the new primary; the former one does not know yet.
    fn fail_over(&mut self) {
        self.catalog.version += 1;
        let process = self.machines[NEW].process;
        let shard = self.catalog.shards.get_mut(&SHARD).unwrap();
        shard.primary = id(NEW);
        shard.epoch = shard.epoch.next();
        shard.process = process;
        shard.disk = DiskId(NEW as u64);
        let catalog = self.catalog.clone();
        self.node(NEW).adopt(catalog);
    }

    /// The catalog gives a node that started again its offices back.
    pub(crate) fn resume(&mut self, n: usize) {
        self.catalog.version += 1;
        let process = self.machines[n].process;
        for shard in self.catalog.shards.values_mut() {
            if shard.primary == id(n) {
                (shard.epoch, shard.process) = (shard.epoch.next(), process);
            }
        }
        for n in [OLD, NEW] {
            let catalog = self.catalog.clone();
            self.node(n).adopt(catalog);
        }
    }

    fn heal(&mut self) {
        self.cut = false;
        let now = self.now();
        for n in [OLD, NEW] {
            self.node(n).peer_disconnected(&id(1 - n), now);
            self.node(n).peer_connected(&id(1 - n), now);
        }
        let catalog = self.catalog.clone();
        self.node(OLD).adopt(catalog);
    }

    fn rows(&mut self, n: usize) -> Vec<(Bytes, Bytes)> {
        let replica = self.node(n).shards.replica(SHARD).unwrap();
        let chunk = replica
            .store()
            .snapshot()
            .unwrap()
            .next_chunk(None, usize::MAX);
        let mut rows = chunk.unwrap().rows;
        rows.retain(|(row, _)| row[0] != b'x'); // stale ones may be left
        rows
    }

    fn equal(&mut self) -> bool {
        let now = self.now();
        let serving = [OLD, NEW].iter().all(|n| {
            let shards = &self.machines[*n].node.as_ref().unwrap().shards;
            let replica = shards.replica(SHARD).unwrap();
            let role = replica.state(now).map(|s| s.role);
            replica.store().is_serving() && matches!(role, Some(Role::Primary | Role::Replica))
        });
        serving && self.rows(OLD) == self.rows(NEW)
    }

    /// Everything that the files of the former primary have saved.
    fn saved(&mut self) -> String {
        let shards = &self.node(OLD).shards;
        let mut text = Vec::new();
        for file in shards.rewound_files().unwrap() {
            if file["complete"] == true {
                let name = file["file"].as_str().unwrap();
                text.extend(shards.rewound_lines(name, 0).unwrap().0);
            }
        }
        String::from_utf8(text).unwrap()
    }
}

/// What the former primary wrote, and nobody else has.
const TAIL: [&str; 7] = [
    "SET kept lost-value",
    "SET lost-key lost",
    "HSET hash lost 1 both 1",
    "DEL deleted",
    "SET expiring lost PX 100000000",
    "INCR counter",
    "SET kept lost-value-2",
];

/// A failover that loses the tail, and what the new primary writes meanwhile.
fn part(seed: u64, tail: &[&str]) -> World {
    let mut world = World::new(seed);
    for command in [
        "SET kept kept",
        "SET counter 5",
        "SET deleted here",
        "HSET hash both 0 kept 0",
    ] {
        assert!(!world.ask(OLD, command).starts_with('-'));
    }
    world.settle();
    assert_eq!(world.ask(NEW, "GET counter"), "$1\r\n5\r\n");
    world.cut = true;
    for (n, command) in tail.iter().enumerate() {
        let reply = world.ask(OLD, command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
        if n as u64 == seed % 10 {
            // Some of it reaches the store's files, some is only in memory.
            let flushed = world.node(OLD).shards.flush_store(SHARD);
            flushed.unwrap().unwrap();
        }
    }
    world.fail_over();
    world.settle();
    for command in [
        "SET counter 6",
        "DEL hash",
        "HSET hash new 1",
        "EXPIRE kept 100000",
        "SET kept new",
        "PERSIST kept",
        "DEL kept",
    ] {
        let reply = world.ask(NEW, command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }
    world
}

fn check(world: &mut World) {
    assert!(world.equal(), "the replicas differ");
    assert_eq!(world.ask(OLD, "GET lost-key"), "$-1\r\n");
    assert_eq!(world.ask(OLD, "GET deleted"), "$4\r\nhere\r\n");
    assert_eq!(world.ask(OLD, "GET counter"), "$1\r\n6\r\n");
    assert_eq!(world.ask(OLD, "DBSIZE"), world.ask(NEW, "DBSIZE"));
    world.ask(NEW, "SET later 1");
    world.settle();
    assert_eq!(world.ask(OLD, "GET later"), "$1\r\n1\r\n");
    let saved = world.saved();
    for lost in ["lost-value", "lost-value-2", "lost-key", "\"op\":\"del\""] {
        assert!(saved.contains(lost), "{lost} is not in\n{saved}");
    }
}

#[test]
fn a_former_primary_takes_its_tail_back_without_a_copy() {
    let mut world = part(9, &TAIL);
    let conn = ConnId(7777);
    let now = world.now();
    world.node(OLD).client_connected(conn, addr(9), now);
    world
        .node(OLD)
        .client_command(conn, &[b"GET", b"lost-key"], now);
    while world.step() {}
    let seen = world.node(OLD).client_output(conn).unwrap().split();
    assert_eq!(seen, "$4\r\nlost\r\n", "it is not deposed yet");
    world.heal();
    world.settle();
    check(&mut world);
    let counts = world.node(OLD).shards.figures();
    assert_eq!((counts.rewinds, counts.rewound_entries), (1, 7));
    assert_eq!(counts.rewound_keys, 6);
    assert!(world.saved().contains("\"committed\":true"));
    let info = world.ask(OLD, "INFO replication");
    assert!(
        info.contains("rewinding_shards:0\r\nrewinds:1\r\nrewound_entries:7\r\nrewound_keys:6")
    );
    let listed = world.ask(OLD, "QUIRE REWOUND LIST");
    assert!(listed.contains("\"file\":\"1-2.jsonl\""), "{listed}");
    let shown = world.ask(OLD, "QUIRE REWOUND SHOW 1-2.jsonl");
    assert!(shown.starts_with("*2\r\n$1\r\n0\r\n$"), "{shown}");

    // The session that had seen the lost tail is told so, once.
    let now = world.now();
    let mut replies = Vec::new();
    for _ in 0..2 {
        world
            .node(OLD)
            .client_command(conn, &[b"GET", b"lost-key"], now);
        while world.step() {}
        let reply = world.node(OLD).client_output(conn).unwrap().split();
        replies.push(String::from_utf8_lossy(&reply).into_owned());
    }
    assert!(replies[0].starts_with("-SESSIONLOST"), "{replies:?}");
    assert_eq!(replies[1], "$-1\r\n");
}

#[test]
fn what_was_taken_back_is_never_read_from_the_log_again() {
    let mut world = part(9, &TAIL);
    world.heal();
    world.settle();
    let shards = &world.node(OLD).shards;
    let history = shards.history(SHARD).unwrap();
    let first = shards.log_from(SHARD).unwrap();
    let last = shards.replica(SHARD).unwrap().applied().index;
    assert!(first < 6 && last > 10, "{first} to {last}");
    for index in first..=last {
        // So little that the reading ends before the record that takes the tail back.
        let read = world.node(OLD).shards.entries(SHARD, index, 1).unwrap();
        assert_eq!(read[0].position.index, index);
        assert_eq!(read[0].position.epoch, history.epoch_at(index));
    }
}

#[test]
fn a_tail_that_cleared_the_shard_is_replaced_by_a_copy() {
    let mut tail = TAIL.to_vec();
    tail.push("FLUSHDB");
    let mut world = part(9, &tail);
    world.heal();
    world.settle();
    check(&mut world);
    assert_eq!(world.node(OLD).shards.figures().rewinds, 0);
    assert!(world.saved().contains("\"op\":\"flush\""));
}

#[test]
fn a_tail_that_is_not_known_to_be_committed_is_saved_before_it_is_cut() {
    let mut cut = 0;
    for seed in 0..12 {
        let mut world = part(seed, &["SET lost-key lost"]);
        // It was acknowledged; after the crash only the log has it, and no hint that says so.
        world.crash(OLD);
        world.start(OLD);
        world.heal();
        world.settle();
        assert!(world.equal());
        assert_eq!(world.ask(OLD, "GET lost-key"), "$-1\r\n");
        let saved = world.saved();
        assert!(saved.contains("lost-key"), "{saved}");
        if world.node(OLD).shards.figures().rewinds == 0 {
            assert!(saved.contains("\"committed\":false"));
            cut += 1;
        }
    }
    assert!(cut > 0, "nothing was cut from the log alone");
}

#[test]
fn a_crash_at_any_point_loses_neither_data_nor_what_is_saved() {
    let (mut points, mut parted) = (0, 0);
    for seed in 0..10 {
        let mut after = 1;
        loop {
            let mut world = part(seed, &TAIL);
            world.heal();
            world.crash_at = Some(world.steps + after);
            world.settle();
            let done = world.steps;
            let crashed = world.crash_at.is_some_and(|at| at <= done);
            world.settle();
            check(&mut world);
            parted += u64::from(world.came_back_parted);
            points += 1;
            after += 1;
            if !crashed || after > 60 {
                break;
            }
        }
    }
    assert!(points > 300, "{points} points");
    assert!(parted > 0, "no store came back within the tail");
}

#[test]
fn the_log_is_kept_for_a_rewind_until_every_member_has_it() {
    let mut world = World::new(1);
    let value = "x".repeat(6000);
    for n in 0..20 {
        let reply = world.ask(OLD, &format!("SET key{n} {value}"));
        assert_eq!(reply, "+OK\r\n");
    }
    world.run(5);
    let applied = |world: &mut World| {
        world
            .node(NEW)
            .shards
            .replica(SHARD)
            .unwrap()
            .applied()
            .index
    };
    assert!(applied(&mut world) > 20);

    // It starts again and hears of no primary: what it holds may have to be taken back.
    world.crash(NEW);
    world.cut = true;
    world.start(NEW);
    let flushed = world.node(NEW).shards.flush_store(SHARD);
    flushed.unwrap().unwrap();
    world.run(200);
    assert_eq!(world.node(NEW).shards.log().oldest(), storage::log::Lsn(0));

    world.heal();
    world.run(200);
    assert!(
        world.node(NEW).shards.log().oldest() > storage::log::Lsn(0),
        "told, it lets go"
    );
}
