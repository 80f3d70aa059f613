//! A primary and a replica, whose turns and replies have little room.

use crate::{
    ConnId, Effect,
    rewind_tests::{NEW, OLD, SHARD, World, addr, id},
};
use bytes::Bytes;
use gate::FORWARD_BYTES_MAX;
use model::Position;

fn connect(world: &mut World, n: usize, conn: u64) -> ConnId {
    let (conn, now) = (ConnId(conn), world.now());
    world.node(n).client_connected(conn, addr(9), now);
    conn
}

fn send(world: &mut World, n: usize, conn: ConnId, args: &[&[u8]]) {
    let now = world.now();
    world.node(n).client_command(conn, args, now);
}

fn output(world: &mut World, n: usize, conn: ConnId) -> String {
    let out = world.node(n).client_output(conn).unwrap().split();
    String::from_utf8(out.to_vec()).unwrap()
}

/// What a node sends now.
fn sent(world: &mut World, n: usize) -> Vec<Bytes> {
    let mut sent = Vec::new();
    while let Some(effect) = world.node(n).poll_effect() {
        if let Effect::Send { message, .. } = effect {
            sent.push(message.into_bytes());
        }
    }
    sent
}

#[test]
fn what_a_turn_has_no_room_for_comes_in_its_order_in_the_next_ones() {
    let mut world = World::new(1);
    let conn = connect(&mut world, NEW, 100);
    sent(&mut world, NEW);
    for _ in 0..20 {
        send(&mut world, NEW, conn, &[b"INCR", b"n"]);
        send(&mut world, NEW, conn, &[b"GET", b"n"]);
    }
    let forwarded = sent(&mut world, NEW);
    assert!(forwarded.len() >= 40);
    // All of it comes at once. A few commands are a turn's work.
    let node = world.node(OLD);
    node.change_limits(|limits| limits.command_work_max = 40_000);
    let now = world.now();
    for message in forwarded {
        world.node(OLD).peer_message(&id(NEW), message, now);
    }
    assert!(world.node(OLD).is_worn());
    let left = world.node(OLD).gate.in_line().0;
    assert!((20..40).contains(&left), "{left}");
    assert_eq!(world.node(OLD).wake_at(), Some(now.monotonic));
    // One that comes later stays behind them, though its turn has room.
    while world.node(OLD).poll_effect().is_some() {}
    assert!(!world.node(OLD).is_worn());
    send(&mut world, NEW, conn, &[b"INCR", b"n"]);
    for message in sent(&mut world, NEW) {
        world.node(OLD).peer_message(&id(NEW), message, now);
    }
    assert!(world.node(OLD).gate.in_line().0 > left);
    world.run(5);
    assert!(
        world.node(OLD).gate.in_line().0 > 0,
        "a turn is not all of it"
    );
    world.run(50);
    assert_eq!(world.node(OLD).gate.in_line().0, 0);
    assert!(!world.node(OLD).gate.in_line().1);
    let replies = world.ask(OLD, "GET n");
    assert_eq!(replies, "$2\r\n21\r\n");
}

#[test]
fn a_backlog_goes_on_in_the_next_turn() {
    let mut world = World::new(1);
    let conn = connect(&mut world, OLD, 100);
    // The second waits for the first, and the rest behind it.
    world.node(OLD).gate.hold_up(conn.0);
    for n in 1..=20 {
        send(
            &mut world,
            OLD,
            conn,
            &[b"SET", b"k", format!("{n}").as_bytes()],
        );
    }
    let node = world.node(OLD);
    node.change_limits(|limits| limits.command_work_max = 40_000);
    node.with_gate(|gate, here| gate.go_on(conn.0, here));
    let left = node.gate.backlog_of(conn.0);
    assert!((10..20).contains(&left), "{left}");
    send(&mut world, OLD, conn, &[b"GET", b"k"]);
    world.run(50);
    assert_eq!(
        output(&mut world, OLD, conn),
        "+OK\r\n".repeat(20) + "$2\r\n20\r\n"
    );
}

#[test]
fn who_holds_most_is_closed_where_there_is_no_room_for_replies() {
    let mut world = World::new(1);
    let value = vec![b'v'; 600 << 10];
    let setter = connect(&mut world, OLD, 100);
    send(&mut world, OLD, setter, &[b"SET", b"k", &value]);
    world.settle();
    (world.node(OLD)).change_limits(|limits| limits.reply_memory_bytes = 2 << 20);
    let (slow, other) = (connect(&mut world, OLD, 101), connect(&mut world, OLD, 102));
    for _ in 0..2 {
        send(&mut world, OLD, slow, &[b"GET", b"k"]);
    }
    send(&mut world, OLD, other, &[b"GET", b"k"]);
    let mut closed = Vec::new();
    while let Some(effect) = world.node(OLD).poll_effect() {
        if let Effect::CloseClient(conn) = effect {
            closed.push(conn);
        }
    }
    assert_eq!(closed, [slow]);
    assert_eq!(output(&mut world, OLD, slow), "");
    assert!(output(&mut world, OLD, other).starts_with("$614400\r\n"));
}

#[test]
fn who_asks_is_told_where_nobody_holds_much_and_nothing_is_done() {
    let mut world = World::new(1);
    let value = vec![b'v'; 600 << 10];
    let setter = connect(&mut world, OLD, 100);
    send(&mut world, OLD, setter, &[b"SET", b"k", &value]);
    world.settle();
    (world.node(OLD)).change_limits(|limits| limits.reply_memory_bytes = 2 << 20);
    for n in 101..104 {
        let conn = connect(&mut world, OLD, n);
        send(&mut world, OLD, conn, &[b"GET", b"k"]);
    }
    let conn = connect(&mut world, OLD, 104);
    for args in [&[&b"GET"[..], b"k"][..], &[b"GETDEL", b"k"]] {
        send(&mut world, OLD, conn, args);
        world.settle();
        let reply = output(&mut world, OLD, conn);
        assert!(
            reply.starts_with("-BUSY replies that were not taken"),
            "{reply}"
        );
    }
    // Once somebody has taken one, there is room again.
    output(&mut world, OLD, ConnId(101));
    world.run(1);
    send(&mut world, OLD, conn, &[b"GET", b"k"]);
    assert!(output(&mut world, OLD, conn).starts_with("$614400\r\n"));
}

#[test]
fn answers_that_wait_on_a_link_leave_less_room_for_more() {
    let mut world = World::new(1);
    let value = vec![b'v'; 600 << 10];
    let conn = connect(&mut world, NEW, 100);
    send(&mut world, NEW, conn, &[b"SET", b"k", &value]);
    world.settle();
    assert_eq!(output(&mut world, NEW, conn), "+OK\r\n");
    world.node(OLD).peer_queued(&id(NEW), 128 << 20);
    send(&mut world, NEW, conn, &[b"GETDEL", b"k"]);
    world.settle();
    let reply = output(&mut world, NEW, conn);
    assert!(
        reply.starts_with("-BUSY replies that were not taken"),
        "{reply}"
    );
    world.node(OLD).peer_queued(&id(NEW), 0);
    send(&mut world, NEW, conn, &[b"GETDEL", b"k"]);
    world.settle();
    assert!(output(&mut world, NEW, conn).starts_with("$614400\r\n"));
}

#[test]
fn a_command_that_no_message_has_room_for_does_not_travel() {
    let mut world = World::new(1);
    let conn = connect(&mut world, NEW, 100);
    sent(&mut world, NEW);
    let value = vec![b'v'; FORWARD_BYTES_MAX];
    send(&mut world, NEW, conn, &[b"SET", b"k", &value]);
    assert!(
        sent(&mut world, NEW)
            .iter()
            .all(|message| message.len() < 1 << 20)
    );
    let reply = output(&mut world, NEW, conn);
    assert!(reply.starts_with("-ERR 'set' has 32505"), "{reply}");
    assert!(world.node(NEW).gate.is_order_empty(conn.0));
}

/// A part that was not taken where it was sent waits here, and goes with its client.
#[test]
fn nothing_is_left_of_a_split_command_whose_client_is_gone() {
    let mut world = World::new(1);
    let conn = connect(&mut world, NEW, 100);
    sent(&mut world, NEW);
    for _ in 0..2 {
        send(&mut world, NEW, conn, &[b"FLUSHALL"]);
    }
    assert!(world.node(NEW).gate.is_any_split());
    let now = world.now();
    world.node(NEW).client_disconnected(conn, now);
    assert!(!world.node(NEW).gate.is_any_split());
    world.settle();
    assert_eq!(world.node(NEW).gate.away_bytes(), 0);
}

/// One that waits for the replica here may be given up and sent to the primary: a later read that
/// had gone there at once, since the replica could not answer it, would have shown less.
#[test]
fn a_read_does_not_overtake_one_that_waits_here() {
    let mut world = World::new(1);
    let conn = connect(&mut world, NEW, 100);
    world.settle();
    let applied = world.node(NEW).shards.replica(SHARD).unwrap().applied();
    let ahead = Position {
        index: applied.index + 10,
        ..applied
    };
    world.node(NEW).gate.has_seen(conn.0, SHARD, ahead);
    send(&mut world, NEW, conn, &[b"GET", b"k"]);
    assert_eq!(world.node(NEW).gate.readers_at(SHARD), 1);
    let strategy = world.node(NEW).shards.swap_protocol(SHARD, None);
    send(&mut world, NEW, conn, &[b"GET", b"k"]);
    let (are_reads_away, queued_bytes) = world.node(NEW).gate.under_way(conn.0, SHARD);
    assert!(!are_reads_away && queued_bytes > 0);
    world.node(NEW).shards.swap_protocol(SHARD, strategy);
}

#[test]
fn what_the_node_itself_answers_takes_few_arguments() {
    let mut world = World::new(1);
    let conn = connect(&mut world, OLD, 100);
    let many: Vec<&[u8]> = [&b"COMMAND"[..], b"DOCS"]
        .into_iter()
        .chain([&b"get"[..]; 2000])
        .collect();
    send(&mut world, OLD, conn, &many);
    let reply = output(&mut world, OLD, conn);
    assert_eq!(
        reply,
        "-ERR 'command|docs' takes at most 1024 arguments of 65536 bytes together\r\n"
    );
    let long = vec![b'p'; 70_000];
    send(&mut world, OLD, conn, &[b"ECHO", &long]);
    assert_eq!(output(&mut world, OLD, conn).len(), long.len() + 10);
}
