//! Two nodes, each the primary of one keyspace: other clients, and crashes, at every point of a
//! MOVE.

use crate::{
    ConnId,
    rewind_tests::{NEW, OLD, SHARD, World, addr, catalog, id},
};
use bytes::Bytes;
use model::{Catalog, DiskId, KeyspaceId, KeyspaceName, ShardId};

const OTHER: ShardId = ShardId(2);

/// Keyspace 0, of OLD, and keyspace 1, of NEW; each node holds both.
fn two_keyspaces() -> Catalog {
    let mut catalog = catalog();
    let mut keyspace = catalog.keyspaces[&KeyspaceId(0)].clone();
    keyspace.name = KeyspaceName::new("orders").unwrap();
    keyspace.shards = vec![OTHER];
    catalog.keyspaces.insert(KeyspaceId(1), keyspace);
    let mut shard = catalog.shards[&SHARD].clone();
    (shard.keyspace, shard.primary, shard.disk) = (KeyspaceId(1), id(NEW), DiskId(NEW as u64));
    catalog.shards.insert(OTHER, shard);
    (catalog.next_keyspace, catalog.next_shard) = (2, 3);
    catalog
}

/// Keyspace 0 of two shards.
fn two_shards() -> Catalog {
    let mut catalog = two_keyspaces();
    catalog.keyspaces.remove(&KeyspaceId(1));
    let half = |shard: &ShardId| match *shard {
        SHARD => (0, 8_191),
        _ => (8_192, 16_383),
    };
    for (id, shard) in &mut catalog.shards {
        (shard.keyspace, shard.slots) = (KeyspaceId(0), half(id));
    }
    let keyspace = catalog.keyspaces.get_mut(&KeyspaceId(0)).unwrap();
    keyspace.shards = vec![SHARD, OTHER];
    catalog
}

fn world(seed: u64) -> World {
    World::with(seed, two_keyspaces())
}

fn connect(world: &mut World, n: usize, conn: u64, keyspace: u32) -> ConnId {
    let (conn, now) = (ConnId(conn), world.now());
    world.node(n).client_connected(conn, addr(9), now);
    let number = keyspace.to_string();
    let select = [&b"SELECT"[..], number.as_bytes()];
    world.node(n).client_command(conn, &select, now);
    assert_eq!(output(world, n, conn), "+OK\r\n");
    conn
}

fn send(world: &mut World, n: usize, conn: ConnId, command: &str) {
    let now = world.now();
    let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    world.node(n).client_command(conn, &args, now);
}

fn output(world: &mut World, n: usize, conn: ConnId) -> String {
    let out = world.node(n).client_output(conn);
    let out = out.map(|out| out.split().to_vec()).unwrap_or_default();
    String::from_utf8(out).unwrap()
}

/// What a connection is told when all that can happen has happened.
fn reply(world: &mut World, n: usize, conn: ConnId) -> String {
    for _ in 0..300 {
        while world.step() {}
        let out = output(world, n, conn);
        if !out.is_empty() {
            return out;
        }
        world.run(1);
    }
    panic!("no answer");
}

fn call(world: &mut World, n: usize, conn: ConnId, command: &str) -> String {
    send(world, n, conn, command);
    reply(world, n, conn)
}

/// The value of `k` in each keyspace, as a client of `n` is told.
fn held(world: &mut World, n: usize, conn: u64) -> [String; 2] {
    [0, 1].map(|keyspace| {
        let conn = connect(world, n, conn + u64::from(keyspace), keyspace);
        let value = call(world, n, conn, "GET k");
        value.split("\r\n").nth(1).unwrap_or_default().to_owned()
    })
}

/// So is a key that is not there shown.
const NONE: &str = "";

#[test]
fn keys_go_from_one_keyspace_to_another_whoever_is_asked() {
    for n in [OLD, NEW] {
        let mut world = world(n as u64);
        let (here, there) = (
            connect(&mut world, n, 101, 0),
            connect(&mut world, n, 102, 1),
        );
        let mut is = |conn, command: &str, expected: &str| {
            world.run(3); // The other connection has not seen it, and reads its node's copy.
            let told = call(&mut world, n, conn, command);
            assert_eq!(
                told,
                expected.replace('|', "\r\n") + "\r\n",
                "{n}: {command}"
            );
        };
        is(here, "MOVE k 1", ":0");
        is(here, "COPY k k DB 1", ":0");
        is(here, "SET k v PX 100000000", "+OK");
        is(here, "COPY k c DB 1", ":1");
        is(here, "COPY k c DB 1", ":0");
        is(there, "GET c", "$1|v");
        is(here, "SET k w KEEPTTL", "+OK");
        is(here, "COPY k c DB 1 REPLACE", ":1");
        is(there, "GET c", "$1|w");
        is(here, "MOVE k 1", ":1");
        is(here, "EXISTS k", ":0");
        is(there, "GET k", "$1|w");
        is(there, "PERSIST k", ":1");
        is(there, "MOVE k 0", ":1");
        is(here, "PERSIST k", ":0");
        is(there, "SET k x", "+OK");
        is(here, "MOVE k 1", ":0");
        is(here, "GET k", "$1|w");
        is(here, "HSET h a 1 b 2", ":2");
        is(here, "MOVE h 1", ":1");
        is(there, "HGETALL h", "*4|$1|a|$1|1|$1|b|$1|2");
        // By name, as SELECT does; to where it is; and to where there is nothing.
        is(there, "MOVE h profiles", ":1");
        is(here, "COPY h h2 DB orders", ":1");
        is(here, "COPY h h3 DB profiles", ":1");
        is(here, "COPY h h3 DB profiles REPLACE", ":1");
        is(here, "HLEN h3", ":2");
        let same = "-ERR source and destination objects are the same";
        is(here, "MOVE h 0", same);
        is(here, "MOVE h profiles", same);
        is(here, "COPY h h DB 0", same);
        is(here, "COPY h h DB profiles", same);
        is(here, "COPY h i DB", "-ERR syntax error");
        is(
            here,
            "MOVE h 99999999999",
            "-ERR value is out of range, value must between -2147483648 and 2147483647",
        );
        let range =
            "-ERR DB index is out of range: there is no keyspace of this number, see KEYSPACE LIST";
        is(here, "MOVE h -1", range);
        // Within a transaction it is refused, and spoils it.
        is(here, "MULTI", "+OK");
        is(here, "COPY h i DB 0", "+QUEUED");
        is(
            here,
            "COPY h i DB 1",
            "-CROSSSLOT 'copy' goes to another shard, and a transaction has one: send it outside of MULTI",
        );
        is(
            here,
            "MOVE h 1",
            "-CROSSSLOT 'move' goes to another shard, and a transaction has one: send it outside of MULTI",
        );
        is(
            here,
            "EXEC",
            "-EXECABORT Transaction discarded because of previous errors.",
        );
        is(here, "MULTI", "+OK");
        is(here, "COPY h i DB 0", "+QUEUED");
        is(here, "COPY h i DB x", "+QUEUED");
        is(
            here,
            "EXEC",
            "*2|:1|-ERR value is not an integer or out of range",
        );
        assert!(!world.node(n).gate.is_any_crossing());
    }
}

#[test]
fn copy_goes_from_one_shard_to_another() {
    let mut world = World::with(1, two_shards());
    let conn = connect(&mut world, OLD, 101, 0);
    // `a` is in the second shard, `b` in the first.
    for (command, expected) in [
        ("SET a v", "+OK\r\n"),
        ("COPY a b", ":1\r\n"),
        ("COPY a b", ":0\r\n"),
        ("GET b", "$1\r\nv\r\n"),
        ("SET a w EX 100", "+OK\r\n"),
        ("COPY a b DB 0 REPLACE", ":1\r\n"),
        ("GET b", "$1\r\nw\r\n"),
        ("PERSIST b", ":1\r\n"),
        ("COPY a c{a}", ":1\r\n"),
        ("MULTI", "+OK\r\n"),
    ] {
        assert_eq!(call(&mut world, OLD, conn, command), expected, "{command}");
    }
    assert!(call(&mut world, OLD, conn, "COPY a b").starts_with("-CROSSSLOT 'copy'"));
}

#[test]
fn what_comes_behind_it_on_its_connection_waits() {
    for n in [OLD, NEW] {
        let mut world = world(1);
        let conn = connect(&mut world, n, 101, 0);
        for command in [
            "SET k 1", "INCR k", "MOVE k 1", "GET k", "INCR k", "SELECT 1", "INCR k",
        ] {
            send(&mut world, n, conn, command);
        }
        let mut told = String::new();
        while told.matches("\r\n").count() < 7 {
            told += &reply(&mut world, n, conn);
        }
        assert_eq!(told, "+OK\r\n:2\r\n:1\r\n$-1\r\n:1\r\n+OK\r\n:3\r\n");
    }
}

#[test]
fn who_watches_either_key_is_told() {
    for (keyspace, key) in [(0, "k"), (1, "k")] {
        let mut world = world(1);
        let conn = connect(&mut world, OLD, 101, 0);
        call(&mut world, OLD, conn, "SET k v");
        let other = connect(&mut world, NEW, 102, keyspace);
        for command in [&format!("WATCH {key}"), "MULTI", "PING"] {
            call(&mut world, NEW, other, command);
        }
        assert_eq!(call(&mut world, OLD, conn, "MOVE k 1"), ":1\r\n");
        assert_eq!(call(&mut world, NEW, other, "EXEC"), "*-1\r\n");
    }
}

/// A MOVE of `k` from keyspace 0, where it is 5, to keyspace 1, sent to `n`; another client's
/// command comes after so many steps. What the two are told, and what each keyspace holds then.
/// None: it was over before.
fn meet(
    n: usize,
    after: u32,
    (keyspace, command): (u32, &str),
) -> Option<(String, String, [String; 2])> {
    let mut world = world(u64::from(after));
    let (conn, other) = (
        connect(&mut world, n, 101, 0),
        connect(&mut world, OLD, 102, keyspace),
    );
    call(&mut world, n, conn, "SET k 5");
    world.run(5);
    send(&mut world, n, conn, "MOVE k 1");
    for _ in 0..after {
        if !world.step() {
            world.run(1);
        }
    }
    let is_over = !world.node(n).client_output(conn).unwrap().is_empty();
    send(&mut world, OLD, other, command);
    let (told, told_other) = (reply(&mut world, n, conn), reply(&mut world, OLD, other));
    world.run(5);
    let held = held(&mut world, NEW, 200);
    (!is_over).then_some((told, told_other, held))
}

#[test]
fn another_client_comes_before_it_or_behind_it() {
    // Its command, and all that may come of it and the MOVE in one order or the other: what the
    // MOVE is told, what it is told itself, what is held.
    type Outcome<'a> = (&'a str, &'a str, [&'a str; 2]);
    let cases: [((u32, &str), &[Outcome<'_>]); 7] = [
        (
            (0, "INCR k"),
            &[(":1", ":6", [NONE, "6"]), (":1", ":1", ["1", "5"])],
        ),
        (
            (0, "DEL k"),
            &[(":0", ":1", [NONE, NONE]), (":1", ":0", [NONE, "5"])],
        ),
        (
            (0, "GETSET k 9"),
            &[(":1", "$1\r\n5", [NONE, "9"]), (":1", "$-1", ["9", "5"])],
        ),
        (
            (0, "FLUSHDB"),
            &[(":0", "+OK", [NONE, NONE]), (":1", "+OK", [NONE, "5"])],
        ),
        (
            (0, "RENAME k j"),
            &[
                (":0", "+OK", [NONE, NONE]),
                (":1", "-ERR no such key", [NONE, "5"]),
            ],
        ),
        (
            (1, "SET k 7 NX"),
            &[(":0", "+OK", ["5", "7"]), (":1", "$-1", [NONE, "5"])],
        ),
        (
            (1, "INCR k"),
            &[(":0", ":1", ["5", "1"]), (":1", ":6", [NONE, "6"])],
        ),
    ];
    let (mut points, mut changed) = (0, 0);
    for n in [OLD, NEW] {
        for (other, outcomes) in &cases {
            for after in 0.. {
                let Some((told, told_other, held)) = meet(n, after, *other) else {
                    break;
                };
                let [told, told_other] = [&told, &told_other].map(|told| told.trim_end());
                let held = held.each_ref().map(String::as_str);
                let outcome = (told, told_other, held);
                assert!(
                    outcomes.contains(&outcome),
                    "{other:?} at {after}: {outcome:?}"
                );
                points += 1;
                changed += u32::from(outcome == outcomes[0]);
            }
        }
    }
    assert!(
        points > 150 && changed > 40,
        "{changed} of {points} came before it"
    );
}

#[test]
fn a_key_that_others_never_leave_alone_stays_where_it_is() {
    let mut world = world(1);
    let (conn, other) = (
        connect(&mut world, NEW, 101, 0),
        connect(&mut world, OLD, 102, 0),
    );
    call(&mut world, NEW, conn, "SET k 0");
    send(&mut world, NEW, conn, "MOVE k 1");
    let mut written = 0;
    let told = loop {
        let out = output(&mut world, NEW, conn);
        if !out.is_empty() {
            break out;
        }
        written += 1;
        send(&mut world, OLD, other, "INCR k");
        for _ in 0..8 {
            if !world.step() {
                world.run(1);
            }
        }
        assert!(written < 10_000);
    };
    assert!(told.starts_with("-TRYAGAIN "), "{told}");
    world.run(5);
    assert_eq!(
        held(&mut world, OLD, 200),
        [written.to_string(), NONE.into()]
    );
    assert_eq!(call(&mut world, NEW, conn, "MOVE k 1"), ":1\r\n");
}

#[test]
fn no_crash_at_any_point_leaves_the_key_in_neither_place() {
    let (mut points, mut both) = (0, 0);
    // Who dies, OLD, is the primary of keyspace 0; and the client's node, or not.
    for (n, from) in [(NEW, 0), (NEW, 1), (OLD, 0), (OLD, 1)] {
        for after in 0..400 {
            let mut world = world(after);
            let conn = connect(&mut world, n, 101, from);
            assert_eq!(call(&mut world, n, conn, "SET k 5"), "+OK\r\n");
            world.run(5);
            send(&mut world, n, conn, &format!("MOVE k {}", 1 - from));
            for _ in 0..after {
                if !world.step() {
                    world.run(1);
                }
            }
            let before = output(&mut world, n, conn);
            world.crash(OLD);
            world.start(OLD);
            world.run(1);
            world.resume(OLD);
            world.run(100);
            let told = match (n, &before[..]) {
                (NEW, "") => reply(&mut world, n, conn),
                _ => before.clone(),
            };
            let held = held(&mut world, NEW, 200);
            let [source, destination] = match from {
                0 => [&held[0], &held[1]],
                _ => [&held[1], &held[0]],
            }
            .map(|value| value == "5");
            let case = format!("{told:?} at {after} of {n} from {from}: {held:?}");
            assert!(source || destination, "{case}");
            match told.split(' ').next().unwrap() {
                ":1\r\n" => assert!(!source && destination, "{case}"),
                "" | "-UNKNOWN" => {}
                "-NOPRIMARY" | "-TRYAGAIN" => assert!(source && !destination, "{case}"),
                _ => panic!("{case}"),
            }
            points += 1;
            both += u32::from(source && destination);
            if !before.is_empty() {
                break;
            }
        }
    }
    assert!(
        points > 40 && both > 5,
        "{points} points, {both} times in both"
    );
}

#[test]
fn it_is_done_though_its_client_is_gone() {
    for n in [OLD, NEW] {
        let mut world = world(1);
        let conn = connect(&mut world, n, 101, 0);
        call(&mut world, n, conn, "SET k v");
        send(&mut world, n, conn, "MOVE k 1");
        let now = world.now();
        world.node(n).client_disconnected(conn, now);
        world.run(20);
        assert_eq!(held(&mut world, NEW, 200), [NONE, "v"]);
        assert!(!world.node(n).gate.is_any_crossing());
    }
}

/// The control group has said that there is no newer catalog, and a command goes on that waited for it.
fn newest_is_known(world: &mut World, n: usize, conn: ConnId, command: &str) {
    let args: Vec<Bytes> = (command.split(' ').map(str::to_owned))
        .map(Bytes::from)
        .collect();
    let node = world.node(n);
    node.with_gate(|gate, here| gate.newest_is_known(conn.0, &args, true, here));
}

#[test]
fn a_keyspace_that_is_not_known_is_asked_for() {
    let mut world = world(1);
    let conn = connect(&mut world, OLD, 101, 0);
    // Nobody answers: the control group is elsewhere.
    for command in ["MOVE k 7", "COPY k k DB nowhere"] {
        let told = call(&mut world, OLD, conn, command);
        assert!(
            told.starts_with("-TRYAGAIN this keyspace is not known here"),
            "{told}"
        );
    }
    send(&mut world, OLD, conn, "MOVE k 7");
    let now = world.now();
    newest_is_known(&mut world, OLD, conn, "MOVE k 7");
    let told = output(&mut world, OLD, conn);
    assert!(told.starts_with("-ERR DB index is out of range"), "{told}");
    send(&mut world, OLD, conn, "MOVE k x");
    newest_is_known(&mut world, OLD, conn, "MOVE k x");
    let told = output(&mut world, OLD, conn);
    assert_eq!(told, "-ERR value is not an integer or out of range\r\n");
    // It was created a moment ago, and is known now.
    send(&mut world, OLD, conn, "MOVE k 7");
    let mut catalog = two_keyspaces();
    let other = catalog.keyspaces[&KeyspaceId(1)].clone();
    catalog.keyspaces.insert(KeyspaceId(7), other);
    catalog.version = 9;
    world.node(OLD).adopt(catalog);
    newest_is_known(&mut world, OLD, conn, "MOVE k 7");
    world.node(OLD).tick(now);
    assert_eq!(reply(&mut world, OLD, conn), ":0\r\n");
}

#[test]
fn what_all_carry_is_bounded() {
    let mut world = world(1);
    let value = "v".repeat(9 << 20);
    let conns: Vec<ConnId> = (0..9)
        .map(|n| connect(&mut world, OLD, 101 + n, 0))
        .collect();
    call(&mut world, OLD, conns[0], &format!("SET k {value}"));
    world.run(5);
    // All in one turn.
    let node = world.node(OLD);
    node.change_limits(|limits| limits.command_work_max = 1 << 40);
    for (n, conn) in conns.iter().enumerate() {
        send(&mut world, OLD, *conn, &format!("COPY k k{n} DB 1"));
    }
    let told: Vec<String> = conns
        .iter()
        .map(|conn| reply(&mut world, OLD, *conn))
        .collect();
    let busy = told
        .iter()
        .filter(|told| told.starts_with("-BUSY COPY and MOVE"))
        .count();
    let done = told.iter().filter(|told| *told == ":1\r\n").count();
    assert_eq!((busy, done), (2, 7), "{told:?}");
    assert_eq!(call(&mut world, OLD, conns[8], "COPY k k8 DB 1"), ":1\r\n");
}
