//! A gate against a host that does as it is told.

use crate::{Config, Gate, Host, Limits, Output, Target, WholeNode};
use bytes::{Bytes, BytesMut};
use commands::Spec;
use model::{
    AckRule, Catalog, DiskId, Epoch, Failover, KeyspaceId, KeyspaceName, NodeId, Now, OnTimeout,
    Position, Region, ShardId, Topology,
    catalog::{Keyspace, Replica, Shard},
    strategy::Strategy,
};
use shards::{Asking, Did, Evaluated};
use std::{collections::VecDeque, sync::Arc, time::Duration};

const CONN: u64 = 7;
const SHARD: ShardId = ShardId(1);

/// What the replicas answer next, and the replies that wait for their commits.
#[derive(Default)]
struct Told {
    evaluated: VecDeque<(Evaluated, &'static str)>,
    reply: BytesMut,
    waiting: Vec<(Target, Position, Bytes)>,
    /// Whether the primary can be reached.
    is_up: bool,
    /// There is no replica here.
    holds_none: bool,
    /// How far behind the replicas are that may be read.
    lags: Vec<(NodeId, Duration)>,
}

impl Host for Told {
    fn evaluate(&mut self, _: ShardId, _: &Spec, _: &[&[u8]], _: &Asking) -> Evaluated {
        let (evaluated, reply) = self.evaluated.pop_front().unwrap();
        self.reply = BytesMut::from(reply);
        evaluated
    }
    fn reply(&mut self) -> &mut BytesMut {
        &mut self.reply
    }
    fn take_did(&mut self) -> Did {
        Did::default()
    }
    fn wait(&mut self, _: ShardId, position: Position, _: bool, to: Target, reply: Bytes) {
        self.waiting.push((to, position, reply));
    }
    fn waiting(&self, _: ShardId) -> impl Iterator<Item = (&Target, Position)> {
        self.waiting.iter().map(|(to, position, _)| (to, *position))
    }
    fn waiting_bytes(&self) -> usize {
        0
    }
    fn applied(&self, _: ShardId) -> Option<Position> {
        (!self.holds_none).then_some(Position::new(1, 5))
    }
    fn is_primary(&self, _: ShardId) -> bool {
        true
    }
    fn may_act(&self, _: ShardId) -> bool {
        false
    }
    fn matched(&self, _: ShardId, _: u64) -> usize {
        0
    }
    fn work(&mut self, _: u64) {}
    fn worked(&self) -> u64 {
        0
    }
    fn is_up(&self, _: &NodeId) -> bool {
        self.is_up
    }
    fn is_primary_at(&self, _: &NodeId, _: ShardId) -> bool {
        self.is_up
    }
    fn readable_lag(&self, node: &NodeId, _: ShardId) -> Option<(bool, Duration)> {
        let lag = self.lags.iter().find(|(of, _)| of == node);
        lag.map(|(_, lag)| (*lag > Duration::from_secs(5), *lag))
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Of one shard, whose primary is `there`.
fn catalog() -> Catalog {
    let us = Region::new("us").unwrap();
    let keyspace = Keyspace {
        name: KeyspaceName::new("profiles").unwrap(),
        strategy: Strategy {
            topology: Topology::PrimaryReplica,
            ack: AckRule::Async,
            on_timeout: OnTimeout::Block,
            timeout: Duration::from_secs(1),
            placement: "us=2".parse().unwrap(),
            primary_region: us.clone(),
            failover: Failover::Safe,
            replace_after: Duration::from_secs(300),
        },
        shards: vec![SHARD],
    };
    let replica = |name| Replica {
        node: id(name),
        region: us.clone(),
        disk: Some(DiskId(1)),
        replaces: None,
        added: 0,
    };
    let shard = Shard {
        keyspace: KeyspaceId(0),
        slots: (0, 16_383),
        replicas: vec![replica("here"), replica("there")],
        primary: id("there"),
        epoch: Epoch(1),
        process: 1,
        disk: DiskId(1),
        degraded: false,
        decreed: None,
    };
    let mut catalog = Catalog::default();
    catalog.keyspaces.insert(KeyspaceId(0), keyspace);
    catalog.shards.insert(SHARD, shard);
    catalog
}

/// A gate with one client.
fn gate() -> Gate {
    let addr = ([127, 0, 0, 1], 1).into();
    let config = Config {
        id: id("here"),
        region: Region::new("us").unwrap(),
        zone: String::new(),
        client_addr: std::net::SocketAddr::into(addr),
        protected_mode: true,
        first_number: 1,
        limits: Limits {
            input_bytes_max: 1 << 20,
            reply_memory_bytes: 1 << 30,
            command_work_max: 1 << 20,
        },
        usage: |_| None,
    };
    let now = Now {
        monotonic: Duration::from_secs(100),
        wall_ms: 1_000_000,
    };
    let mut gate = Gate::new(config, now);
    gate.follow(Arc::new(catalog()));
    gate.connected(CONN, addr);
    gate
}

fn send(gate: &mut Gate, here: &mut Told, command: &str) {
    let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    gate.command(CONN, &args, here);
}

fn output(gate: &mut Gate) -> String {
    let out = gate.output(CONN).unwrap().split();
    String::from_utf8(out.to_vec()).unwrap()
}

/// The commands that it asks of the whole node now.
fn asked(gate: &mut Gate) -> Vec<WholeNode> {
    let outputs = std::iter::from_fn(|| gate.poll());
    let asked = outputs.filter_map(|output| match output {
        Output::Asked { conn, command, .. } if conn == CONN => Some(command),
        _ => None,
    });
    asked.collect()
}

#[test]
fn what_is_asked_of_the_whole_node_keeps_its_place() {
    let (mut gate, mut here) = (gate(), Told::default());
    for command in ["ECHO 1", "INFO", "ECHO 2", "ROLE", "ECHO 3"] {
        send(&mut gate, &mut here, command);
    }
    assert_eq!(asked(&mut gate), [WholeNode::Info]);
    assert_eq!(output(&mut gate), "$1\r\n1\r\n");
    // Answered at once.
    gate.answer(CONN, |out| out.simple("info"));
    gate.go_on(CONN, &mut here);
    assert_eq!(asked(&mut gate), [WholeNode::Role]);
    assert_eq!(output(&mut gate), "+info\r\n$1\r\n2\r\n");
    // Answered later: what comes behind it goes on, and its reply waits.
    let target = gate.hold(CONN).unwrap();
    gate.go_on(CONN, &mut here);
    assert_eq!(
        (output(&mut gate), asked(&mut gate)),
        (String::new(), vec![])
    );
    gate.deliver(
        &target,
        ShardId(0),
        Position::ZERO,
        "+role\r\n".into(),
        &mut here,
    );
    assert_eq!(output(&mut gate), "+role\r\n$1\r\n3\r\n");
}

#[test]
fn a_reply_waits_for_its_commit_and_those_behind_it_for_that() {
    let (mut gate, mut here) = (gate(), Told::default());
    let position = Position::new(1, 6);
    here.evaluated.push_back((
        Evaluated::Wait {
            position,
            wrote: true,
        },
        "+OK\r\n",
    ));
    here.evaluated
        .push_back((Evaluated::Ready(position), "$1\r\nv\r\n"));
    send(&mut gate, &mut here, "SET k v");
    let (target, at, reply) = here.waiting.pop().unwrap();
    assert_eq!((at, &reply[..]), (position, &b"+OK\r\n"[..]));
    send(&mut gate, &mut here, "GET k");
    assert_eq!(output(&mut gate), "");
    gate.deliver(&target, SHARD, at, reply, &mut here);
    assert_eq!(output(&mut gate), "+OK\r\n$1\r\nv\r\n");
}

/// The session goes on from what is committed, and what is evaluated meanwhile finds its way first.
#[test]
fn a_command_that_is_evaluated_as_its_shard_stops_finds_its_way_before_the_earlier_are_given_up() {
    let (mut gate, mut here) = (gate(), Told::default());
    here.is_up = true;
    let position = Position::new(1, 6);
    here.evaluated.push_back((
        Evaluated::Wait {
            position,
            wrote: true,
        },
        "+OK\r\n",
    ));
    here.evaluated.push_back((Evaluated::NotNow, ""));
    send(&mut gate, &mut here, "SET k v");
    send(&mut gate, &mut here, "SET k w");
    let outputs: Vec<Output> = std::iter::from_fn(|| gate.poll()).collect();
    let [Output::Forward { to, forward }] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!((to, forward.seen), (&id("there"), position));
    let (target, ..) = here.waiting.pop().unwrap();
    gate.gave_up(&target, SHARD, true, "it stopped", &mut here);
    let told = output(&mut gate);
    assert!(
        told.starts_with("-UNKNOWN") && told.contains("it stopped"),
        "{told}"
    );
    let answer = crate::Answer::Reply {
        reply: "+OK\r\n".into(),
        position: Position::new(2, 7),
    };
    let forward_id = forward.id;
    gate.forward_answered(&id("there"), forward_id, answer, &mut here);
    assert_eq!(output(&mut gate), "+OK\r\n");
}

#[test]
fn a_command_without_anywhere_to_go_waits_and_is_refused_in_the_end() {
    let (mut gate, mut here) = (gate(), Told::default());
    for _ in 0..3 {
        here.evaluated.push_back((Evaluated::NotNow, ""));
    }
    send(&mut gate, &mut here, "SET k v");
    send(&mut gate, &mut here, "SET k w");
    gate.tick(&mut here);
    assert!(gate.is_any_stalled());
    assert_eq!(output(&mut gate), "");
    let now = Now {
        monotonic: Duration::from_secs(101),
        wall_ms: 1_001_000,
    };
    gate.arrives(now);
    gate.tick(&mut here);
    let told = output(&mut gate);
    assert_eq!(told.matches("-NOPRIMARY").count(), 2, "{told}");
    assert!(!gate.is_any_stalled());
}

/// Where the next command goes that is sent to another node, and its number.
fn forwarded(gate: &mut Gate) -> Option<(NodeId, u64)> {
    let mut outputs = std::iter::from_fn(|| gate.poll());
    outputs.find_map(|output| match output {
        Output::Forward { to, forward } => Some((to, forward.id)),
        _ => None,
    })
}

#[test]
fn a_read_that_no_replica_here_can_answer_goes_to_one_nearby_and_only_once() {
    let mut catalog = catalog();
    let shard = catalog.shards.get_mut(&SHARD).unwrap();
    shard.replicas[0].node = id("near");
    shard.replicas[1].region = Region::new("eu").unwrap();
    let mut nearer = shard.replicas[0].clone();
    nearer.node = id("nearer");
    shard.replicas.push(nearer);
    let ms = Duration::from_millis;
    let mut here = Told {
        is_up: true,
        holds_none: true,
        lags: vec![
            (id("near"), ms(200)),
            (id("nearer"), ms(100)),
            (id("there"), ms(0)),
        ],
        ..Told::default()
    };
    let mut gate = gate();
    let catalog = Arc::new(catalog);
    gate.follow(catalog.clone());
    let ask = |gate: &mut Gate, here: &mut Told, command| {
        here.evaluated.push_back((Evaluated::NotNow, ""));
        send(gate, here, command);
        forwarded(gate).unwrap()
    };
    let (to, id_of_read) = ask(&mut gate, &mut here, "GET k");
    assert_eq!(to, id("nearer"));
    // It lacks what the session has seen: the primary has it.
    here.evaluated.push_back((Evaluated::NotNow, ""));
    gate.forward_answered(&to, id_of_read, crate::Answer::NotHere, &mut here);
    gate.tick(&mut here);
    let (to, id_of_read) = forwarded(&mut gate).unwrap();
    assert_eq!(to, id("there"));
    let answer = crate::Answer::Reply {
        reply: "$1\r\nv\r\n".into(),
        position: Position::new(1, 5),
    };
    gate.forward_answered(&to, id_of_read, answer, &mut here);
    assert_eq!(output(&mut gate), "$1\r\nv\r\n");
    // A write has one place to go to, and so has a read where nobody near is fresh.
    assert_eq!(ask(&mut gate, &mut here, "SET k v").0, id("there"));
    here.lags.truncate(0);
    let mut far = self::gate();
    far.follow(catalog);
    assert_eq!(ask(&mut far, &mut here, "GET k").0, id("there"));
}
