//! Two nodes and a thousand shards, counted: what they do and say while nothing happens to them.

use crate::{
    Disks, Effect, Introduction, Node, NodeConfig, PeerConfig, message::Incoming, message::Message,
    rewind_tests as fixture,
};
use bytes::Bytes;
use model::{
    Boot, Catalog, DiskId, Epoch, NodeId, Now, Region, ShardId,
    catalog::{NodeInfo, Replica, Shard},
};
use replication::protocol::Role;
use std::{sync::Arc, time::Duration};
use storage::{
    disk::SimDisk,
    store::{CacheBudget, MemoryStores},
};

const SHARDS: u64 = 1000;

struct Two {
    now_ms: u64,
    nodes: Vec<Node<MemoryStores>>,
    /// Messages so far, and those of replicas among them.
    sent: u64,
    of_replicas: u64,
    /// Messages of replicas are lost.
    loses: bool,
}

fn node_id(n: usize) -> NodeId {
    fixture::id(n)
}

fn boot(n: usize) -> Boot {
    Boot {
        disk: DiskId(n as u64),
        process: 1,
        nonce: 70 + n as u64,
        log: 0,
        intact_since: 1,
    }
}

fn catalog() -> Catalog {
    let mut catalog = fixture::catalog();
    let region = Region::new("us").unwrap();
    for n in 0..2 {
        let info = NodeInfo {
            region: region.clone(),
            zone: String::new(),
            client_addr: fixture::addr(1).into(),
            peer_addr: fixture::addr(2).into(),
            http_addr: fixture::addr(3).into(),
            boot: boot(n),
            levels: model::Release::THIS.levels,
        };
        catalog.nodes.insert(node_id(n), info);
    }
    let (keyspace, facts) = catalog.keyspaces.iter_mut().next().unwrap();
    let ids: Vec<ShardId> = (1..=SHARDS).map(ShardId).collect();
    facts.shards.clone_from(&ids);
    catalog.shards.clear();
    for id in ids {
        let primary = (id.0 % 2) as usize;
        let replica = |n: usize| Replica {
            node: node_id(n),
            region: region.clone(),
            disk: Some(DiskId(n as u64)),
            replaces: None,
            added: 0,
        };
        let shard = Shard {
            keyspace: *keyspace,
            slots: (16 * (id.0 as u16 - 1), 16 * id.0 as u16 - 1),
            replicas: vec![replica(primary), replica(1 - primary)],
            primary: node_id(primary),
            epoch: Epoch(1),
            process: 1,
            disk: DiskId(primary as u64),
            degraded: false,
            decreed: None,
        };
        catalog.shards.insert(id, shard);
    }
    catalog.next_shard = SHARDS + 1;
    catalog
}

impl Two {
    fn new() -> Self {
        let mut two = Two {
            now_ms: 1000,
            nodes: Vec::new(),
            sent: 0,
            of_replicas: 0,
            loses: false,
        };
        let catalog = Arc::new(catalog());
        for n in 0..2 {
            let config = NodeConfig {
                peers: vec![PeerConfig {
                    id: node_id(1 - n),
                    region: Region::new("us").unwrap(),
                    peer_addr: fixture::addr(2).into(),
                }],
                cache: CacheBudget { bytes: 64 << 10 },
                seed: boot(n).nonce,
                ..fixture::config(n, 1)
            };
            let disks = Disks {
                log: Arc::new(SimDisk::new()),
                rewound: Arc::new(SimDisk::new()),
            };
            let mut node = Node::open(config, disks, MemoryStores::new(), two.now()).unwrap();
            node.cluster.lease().never_ends();
            two.nodes.push(node);
        }
        let now = two.now();
        for n in 0..2 {
            let introduced = Introduction {
                boot: boot(1 - n),
                ..two.nodes[1 - n].introduction()
            };
            two.nodes[n].peer_inbound(&node_id(1 - n), &introduced, now);
            two.nodes[n].peer_connected(&node_id(1 - n), now);
            two.nodes[n].adopt(Catalog::clone(&catalog));
        }
        two
    }

    fn now(&self) -> Now {
        Now::at_ms(self.now_ms)
    }

    /// Carries out what the nodes ask for, until none asks.
    fn settle(&mut self) {
        let now = self.now();
        let mut quiet = 0;
        while quiet < 2 {
            quiet += 1;
            for n in 0..2 {
                let mut said: Vec<Bytes> = Vec::new();
                if let Some(job) = self.nodes[n].take_flush(now) {
                    let (written, synced) = job.run();
                    self.nodes[n].flush_written(written, now);
                    self.nodes[n].flush_synced(synced, now);
                    quiet = 0;
                }
                while let Some(effect) = self.nodes[n].poll_effect() {
                    if let Effect::Send { to, message, .. } = effect
                        && to == node_id(1 - n)
                    {
                        said.push(message.into_bytes());
                    }
                }
                for message in said {
                    quiet = 0;
                    self.sent += 1;
                    let of_replica = message[1] == 1;
                    self.of_replicas += u64::from(of_replica);
                    if !(of_replica && self.loses) {
                        self.nodes[1 - n].peer_message(&node_id(n), message, now);
                    }
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 20 {
            self.now_ms += 20;
            let now = self.now();
            for node in &mut self.nodes {
                node.tick(now);
                node.wake(now);
            }
            self.settle();
        }
    }

    /// What both nodes did to shards: how often one was settled, how often one acted by itself.
    fn work(&self) -> (u64, u64) {
        let (one, two) = (self.nodes[0].shards.looks(), self.nodes[1].shards.looks());
        (one.0 + two.0, one.1 + two.1)
    }

    fn resting(&self) -> usize {
        let rests = |node: &Node<MemoryStores>| {
            let replicas = node.shards.replicas();
            replicas.filter(|replica| replica.rests(node.now)).count()
        };
        self.nodes.iter().map(rests).sum()
    }

    /// How old what the replica of a shard shows is, and what it has.
    fn lag(&self, id: ShardId) -> (u64, u64) {
        let node = &self.nodes[1 - (id.0 % 2) as usize];
        let state = node.shards.replica(id).unwrap().state(node.now).unwrap();
        assert_eq!(state.role, Role::Replica);
        let lag = self.now().monotonic - state.fresh_at.unwrap();
        (lag.as_millis() as u64, state.commit)
    }
}

#[test]
fn a_thousand_shards_at_rest_cost_no_more_than_two_nodes() {
    let mut two = Two::new();
    two.settle();
    two.run(Duration::from_secs(3));
    assert_eq!(two.resting() as u64, SHARDS);
    let (sent, of_replicas, work) = (two.sent, two.of_replicas, two.work());
    two.run(Duration::from_secs(2));
    assert_eq!(two.work(), work, "nothing was done for any shard");
    assert_eq!(two.of_replicas, of_replicas);
    // A pulse ten times, a report five times a second each way, and what else there is.
    assert!(two.sent - sent < 2 * 2 * 40, "{}", two.sent - sent);
    assert_eq!(two.nodes[0].wake_at(), None);
    // They are as fresh as if each had been told for itself.
    for id in [1, 2, SHARDS] {
        assert!(two.lag(ShardId(id)).0 <= 220, "{:?}", two.lag(ShardId(id)));
    }
}

#[test]
fn a_shard_that_wakes_is_as_fresh_as_what_it_was_sent() {
    let mut two = Two::new();
    two.settle();
    two.run(Duration::from_secs(3));
    let id = ShardId(4);
    let (_, before) = two.lag(id);
    two.nodes[0].shards.propose_nothing(id);
    // What says what is new is lost, and with it every heartbeat: the pulses go on.
    two.loses = true;
    two.settle();
    two.run(Duration::from_secs(2));
    let (lag, commit) = two.lag(id);
    assert_eq!(commit, before);
    assert!(lag >= 2000, "it is said to be {lag} ms old");
    assert!(two.lag(ShardId(6)).0 <= 220, "the others rest on");
    two.loses = false;
    two.run(Duration::from_secs(2));
    let (lag, commit) = two.lag(id);
    assert_eq!(commit, before + 1);
    assert!(lag <= 220, "it is level, and rests: {lag}");
    assert_eq!(two.resting() as u64, SHARDS);
}

#[test]
fn a_report_tells_what_has_changed() {
    let mut two = Two::new();
    two.settle();
    two.run(Duration::from_secs(3));
    let now = two.now();
    let told = |two: &mut Two| -> Vec<(bool, usize)> {
        let mut told = Vec::new();
        for _ in 0..20 {
            two.now_ms += 20;
            let now = two.now();
            two.nodes[0].tick(now);
            while let Some(effect) = two.nodes[0].poll_effect() {
                let Effect::Send { message, .. } = effect else {
                    continue;
                };
                let message =
                    crate::message::decode(message.into_bytes(), model::Release::THIS.levels)
                        .unwrap();
                if let Incoming::Message(message) = message
                    && let Message::Cluster(cluster::Message::Report(report)) = *message
                {
                    told.push((report.is_full, report.replicas.len()));
                }
            }
        }
        told
    };
    assert_eq!(told(&mut two), [(false, 0), (false, 0)]);
    // Who is linked anew, and who lacks one, is told everything.
    two.nodes[0].peer_connected(&node_id(1), now);
    let all = SHARDS as usize;
    assert_eq!(told(&mut two)[0], (true, all));
}
