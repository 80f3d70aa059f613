//! A node without a keyspace, and what its clients hold of it.

use crate::{ClientBounds, ConnId, Disks, Effect, Node, NodeConfig, QueryBuffer};
use model::{DiskId, NodeId, Now, Region};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use storage::{
    disk::SimDisk,
    log::Options,
    store::{CacheBudget, MemoryStores},
};

const MAX: usize = 100_000;

/// A node without a keyspace, with clients 1 to 3.
fn node() -> Node<MemoryStores> {
    let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let config = NodeConfig {
        id: NodeId::new("a").unwrap(),
        release: model::Release::THIS,
        region: Region::new("us").unwrap(),
        zone: String::new(),
        listens: addr(1),
        client_addr: addr(1).into(),
        peer_addr: addr(2).into(),
        http_addr: addr(3).into(),
        protected_mode: true,
        peers: Vec::new(),
        control_voters: vec![NodeId::new("elsewhere").unwrap()],
        links: wan::Links::absent(),
        clients: ClientBounds::default(),
        log: Options::default(),
        cache: CacheBudget { bytes: 64 << 10 },
        log_retention_bytes: 1 << 20,
        limits: crate::NodeLimits {
            input_bytes_max: MAX,
            ..crate::NodeLimits::default()
        },
        emptied: false,
        disk: DiskId(1),
        process: 1,
        intact_since: 1,
        log_was: 0,
        usage: || None,
        traffic: Default::default,
        notes: Vec::new(),
        pid: 1,
        seed: 1,
    };
    let disks = Disks {
        log: Arc::new(SimDisk::new()),
        rewound: Arc::new(SimDisk::new()),
    };
    let mut node = Node::open(config, disks, MemoryStores::new(), NOW).unwrap();
    for conn in 1..=3 {
        node.client_connected(ConnId(conn), addr(1000), NOW);
    }
    node
}

const NOW: Now = Now {
    monotonic: Duration::from_secs(100),
    wall_ms: 1_000_000,
};

fn ask(node: &mut Node<MemoryStores>, conn: u64, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
    node.client_command(ConnId(conn), &words, NOW);
    output(node, conn)
}

fn output(node: &mut Node<MemoryStores>, conn: u64) -> String {
    let out = node.client_output(ConnId(conn)).unwrap().split();
    String::from_utf8(out.to_vec()).unwrap()
}

fn held(node: &mut Node<MemoryStores>, conn: u64, used: usize) {
    let query = QueryBuffer {
        used,
        free: used / 4,
        args: 0,
    };
    node.client_query(ConnId(conn), query, NOW);
}

fn input_bytes(node: &Node<MemoryStores>) -> usize {
    node.gate.figures().input_bytes
}

fn closed(node: &mut Node<MemoryStores>) -> Vec<u64> {
    let effects = std::iter::from_fn(|| node.poll_effect());
    effects
        .filter_map(|effect| match effect {
            Effect::CloseClient(conn) => Some(conn.0),
            _ => None,
        })
        .collect()
}

#[test]
fn above_the_bound_who_holds_most_is_closed() {
    let mut node = node();
    held(&mut node, 1, 30_000);
    held(&mut node, 2, 40_000);
    assert!(closed(&mut node).is_empty());
    // Growth of another is what it is seen by.
    held(&mut node, 3, 16_000);
    assert_eq!(closed(&mut node), [2]);
    assert!(output(&mut node, 2).starts_with("-ERR this node holds 100000 bytes"));
    assert_eq!(input_bytes(&node), (30_000 + 16_000) / 4 * 5);
    let listed = ask(&mut node, 1, &["CLIENT", "LIST"]);
    assert!(
        listed.contains("id=3 ") && !listed.contains("id=2 "),
        "{listed}"
    );
    assert!(listed.contains("qbuf=30000 qbuf-free=7500 "), "{listed}");
    // What the host still says of it counts no more.
    held(&mut node, 2, 90_000);
    assert!(closed(&mut node).is_empty());
    for conn in 1..=3 {
        node.client_disconnected(ConnId(conn), NOW);
    }
    assert_eq!((input_bytes(&node), node.gate.figures().evicted), (0, 1));
}

#[test]
fn transactions_and_commands_that_wait_count_too() {
    let value = "x".repeat(30_000);
    let mut node = node();
    ask(&mut node, 1, &["MULTI"]);
    assert_eq!(ask(&mut node, 1, &["PING", &value]), "+QUEUED\r\n");
    assert!(input_bytes(&node) > 30_000);
    ask(&mut node, 2, &["DEBUG", "SLEEP", "60"]);
    ask(&mut node, 2, &["PING", &value]);
    assert!(input_bytes(&node) > 60_000);
    assert_eq!(ask(&mut node, 1, &["DISCARD"]), "+OK\r\n");
    assert!((30_000..40_000).contains(&input_bytes(&node)));
    for _ in 0..3 {
        ask(&mut node, 2, &["PING", &value]);
    }
    assert_eq!(closed(&mut node), [2]);
    assert_eq!(input_bytes(&node), 0);
}

#[test]
fn a_line_of_http_ends_the_connection_and_what_is_behind_it() {
    for first in [&["POST", "/", "HTTP/1.1"][..], &["hOsT:", "localhost"]] {
        let mut node = node();
        assert_eq!(ask(&mut node, 1, first), "");
        assert_eq!(ask(&mut node, 1, &["PING"]), "");
        assert_eq!(closed(&mut node), [1]);
        assert!(!node.client_accepts(ConnId(1)));
    }
}

#[test]
fn nothing_behind_quit_is_done_though_it_waited() {
    let mut node = node();
    ask(&mut node, 1, &["DEBUG", "SLEEP", "1"]);
    for words in [&["QUIT"][..], &["PING"]] {
        assert_eq!(ask(&mut node, 1, words), "");
    }
    let later = Now {
        monotonic: NOW.monotonic + Duration::from_secs(2),
        ..NOW
    };
    node.tick(later);
    assert_eq!(output(&mut node, 1), "+OK\r\n+OK\r\n");
    assert!(closed(&mut node).contains(&1));
    assert_eq!(input_bytes(&node), 0);
}

#[test]
fn a_client_that_was_killed_is_not_there_any_more() {
    let mut node = node();
    assert_eq!(ask(&mut node, 1, &["CLIENT", "KILL", "ID", "2"]), ":1\r\n");
    assert_eq!(ask(&mut node, 1, &["CLIENT", "KILL", "ID", "2"]), ":0\r\n");
    assert!(!ask(&mut node, 1, &["CLIENT", "LIST"]).contains("id=2 "));
    assert!(ask(&mut node, 1, &["INFO", "clients"]).contains("connected_clients:2\r\n"));
}

#[test]
fn names_that_could_forge_a_list_are_refused() {
    let mut node = node();
    for value in ["a b", "a\nid=9", "\u{e9}"] {
        let refused = ask(&mut node, 1, &["CLIENT", "SETINFO", "lib-name", value]);
        assert_eq!(
            refused,
            "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n"
        );
    }
    let long = "x".repeat(2000);
    assert!(ask(&mut node, 1, &["CLIENT", "SETNAME", &long]).starts_with("-ERR Client names"));
}
