//! MULTI, EXEC and WATCH of several clients on several nodes, while primaries come and go.

use super::tell;
use resp::Frame;
use sim::{
    Moment, World,
    world::{Setup, Wrong},
};
use std::time::Duration;

const NODES: [&str; 4] = ["us-1", "us-2", "us-3", "eu-1"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn begin(world: &mut World, rule: &str) -> Result<(), Wrong> {
    let names = NODES.map(|n| (n.to_owned(), n[..2].to_owned()));
    let setup = Setup {
        nodes: names.to_vec(),
        voters: vec![0, 1, 3],
        log_retention_bytes: 64 << 20,
        trace_kept: true,
    };
    *world = World::with(&setup, world.random().clone());
    world.start_all()?;
    world.until_all_are_up()?;
    let line = format!("KEYSPACE CREATE profiles ACK {rule} FAILOVER safe PLACE us=3");
    world.order("eu-1", &line.split(' ').collect::<Vec<_>>())
}

/// What an attempt at an increment came to.
#[derive(Default)]
struct Counted {
    done: u64,
    unknown: u64,
    refused: u64,
    /// Answered nil: somebody else was faster, or the primary is another.
    overtaken: u64,
}

fn number(frame: &Frame) -> Option<u64> {
    match frame {
        Frame::Null => Some(0),
        Frame::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// One after the other over its own connection: WATCH, GET, then MULTI, two SETs, EXEC, all of
/// it sent at once. The connections of all clients take turns in the middle of it.
fn increments(world: &mut World, rule: &str, rounds: u64) -> Result<Counted, Wrong> {
    let mut counted = Counted::default();
    for round in 0..rounds {
        let clients = world.random().between(1, 3);
        let mut begun = Vec::new();
        for _ in 0..clients {
            let node = NODES[world.random().below(4) as usize];
            if !world.is_running(node)? {
                continue;
            }
            // It may be standing still.
            let Ok(conn) = world.open_session(node, "profiles") else {
                continue;
            };
            world.send(node, conn, &["WATCH", "a"])?;
            world.send(node, conn, &["GET", "a"])?;
            begun.push((node, conn));
        }
        let wait = world.random().between(1, 300);
        world.run_for(ms(wait))?;
        if round % 5 == 2 {
            trouble(world)?;
        }
        let mut sent = Vec::new();
        for (node, conn) in begun {
            let read = match world.answers(conn) {
                [_, Frame::Simple(_), read] => number(read),
                _ => None, // refused, or not there in time
            };
            if let (Some(value), true) = (read, world.is_running(node)?) {
                let next = (value + 1).to_string();
                for words in [
                    &["MULTI"][..],
                    &["SET", "a", &next],
                    &["INCR", "b"],
                    &["EXEC"],
                ] {
                    world.send(node, conn, words)?;
                }
                sent.push(conn);
            }
        }
        world.run_for(ms(if rule == "async" { 500 } else { 800 }))?;
        for conn in sent {
            match world.answers(conn).get(6) {
                Some(Frame::Array(replies)) if replies.len() == 2 => counted.done += 1,
                Some(Frame::NullArray) => counted.overtaken += 1,
                Some(Frame::Error(line)) if !line.starts_with(b"UNKNOWN") => counted.refused += 1,
                Some(Frame::Error(_)) | None => counted.unknown += 1,
                Some(other) => return Err(Wrong(format!("EXEC answered {other:?}"))),
            }
        }
    }
    Ok(counted)
}

/// Something happens to a primary's node.
fn trouble(world: &mut World) -> Result<(), Wrong> {
    for node in NODES {
        if !world.is_running(node)? {
            world.start(node)?;
            return Ok(());
        }
    }
    let Ok(primary) = world.primary_of("profiles") else {
        return Ok(());
    };
    match world.random().below(3) {
        0 => world.crash(&primary, Moment::Now),
        1 => world.kill(&primary),
        _ => {
            let time = world.random().between(100, 3000);
            world.pause(&primary, ms(time))
        }
    }
}

fn nothing_is_counted_twice_nor_by_half(world: &mut World) -> Result<(), Wrong> {
    let rule = ["semi-sync:1", "quorum"][world.random().below(2) as usize];
    begin(world, rule)?;
    let counted = increments(world, rule, 30)?;
    for node in NODES {
        if !world.is_running(node)? {
            world.start(node)?;
        }
    }
    // One may be standing still.
    world.run_for(ms(4000))?;
    world.until_settled()?;
    world.every_shard_serves("eu-1", "profiles")?;
    world.verify("profiles")?;
    let both = world.ask_all(
        "us-2",
        Some("profiles"),
        &[
            vec!["MULTI"],
            vec!["GET", "a"],
            vec!["GET", "b"],
            vec!["EXEC"],
        ],
    )?;
    let Some(Frame::Array(both)) = both.get(3) else {
        return Err(Wrong(format!("{both:?}")));
    };
    let (Some(a), Some(b)) = (number(&both[0]), number(&both[1])) else {
        return Err(Wrong(format!("{both:?}")));
    };
    let most = counted.done + counted.unknown;
    if a != b || a < counted.done || a > most {
        return Err(Wrong(format!(
            "a is {a}, b is {b}; {} were done, {} perhaps",
            counted.done, counted.unknown
        )));
    }
    if counted.done == 0 || counted.overtaken == 0 {
        return Err(Wrong("nothing happened".into()));
    }
    Ok(())
}

#[test]
fn a_transaction_is_done_once_and_whole() {
    tell(800..820, nothing_is_counted_twice_nor_by_half);
}

/// Whoever reads both keys at once never sees one without the other.
fn halves_are_never_seen(world: &mut World) -> Result<(), Wrong> {
    begin(world, "async")?;
    let writer = world.open_session("eu-1", "profiles")?;
    let mut readers = Vec::new();
    for node in NODES {
        readers.push((node, world.open_session(node, "profiles")?));
    }
    for n in 0..60u64 {
        let value = n.to_string();
        for words in [
            &["MULTI"][..],
            &["DEL", "h"],
            &["HSET", "h", "n", &value],
            &["EXPIRE", "h", "1000"],
            &["SET", "n", &value],
            &["EXEC"],
        ] {
            world.send("eu-1", writer, words)?;
        }
        let wait = world.random().between(1, 80);
        world.run_for(ms(wait))?;
        for (node, conn) in &readers {
            for words in [
                &["MULTI"][..],
                &["HGET", "h", "n"],
                &["GET", "n"],
                &["HLEN", "h"],
                &["EXEC"],
            ] {
                world.send(node, *conn, words)?;
            }
        }
    }
    world.run_for(ms(2000))?;
    let mut seen = 0;
    for (node, conn) in readers {
        for answer in world.answers(conn) {
            if let Frame::Array(values) = answer {
                let [hash, text, fields] = &values[..] else {
                    return Err(Wrong(format!("{node} shows {values:?}")));
                };
                let there = i64::from(*text != Frame::Null);
                if hash != text || *fields != Frame::Integer(there) {
                    return Err(Wrong(format!("{node} shows {values:?}")));
                }
                seen += 1;
            }
        }
    }
    world.until_settled()?;
    world.verify("profiles")?;
    match seen {
        240 => Ok(()),
        seen => Err(Wrong(format!("{seen} of 240 were answered"))),
    }
}

#[test]
fn nobody_sees_half_of_a_transaction() {
    tell(830..840, halves_are_never_seen);
}

/// What changes a watched key, and what does not.
fn watching(world: &mut World) -> Result<(), Wrong> {
    begin(world, "async")?;
    let node = |world: &mut World| NODES[world.random().below(4) as usize];
    for (change, nil) in [
        (&["SET", "w", "2"][..], true),
        (&["DEL", "w"], true),
        (&["SET", "other", "2"], false),
        (&["GET", "w"], false),
        (&["DEL", "absent"], false),
        (&["EXPIRE", "w", "100"], true),
        (&["FLUSHDB"], true),
        (&["HSET", "hash", "f", "2"], true),
        (&["HSET", "hash", "f", "2"], true),
        (&["HDEL", "hash", "none"], false),
    ] {
        let (a, b) = (node(world), node(world));
        world.ask(a, Some("profiles"), &["SET", "w", "1"])?;
        world.ask(a, Some("profiles"), &["HSET", "hash", "f", "1"])?;
        let conn = world.open_session(a, "profiles")?;
        world.send(a, conn, &["WATCH", "w", "hash"])?;
        world.run_for(ms(500))?;
        world.ask(b, Some("profiles"), change)?;
        for words in [&["MULTI"][..], &["SET", "done", "1"], &["EXEC"]] {
            world.send(a, conn, words)?;
        }
        world.run_for(ms(500))?;
        let answer = world.answers(conn).last().cloned();
        let is_nil = answer == Some(Frame::NullArray);
        if is_nil != nil {
            return Err(Wrong(format!("after {change:?}: {answer:?}")));
        }
    }
    // A key whose time is over while it is watched, though nobody has looked yet.
    let a = node(world);
    world.ask(a, Some("profiles"), &["SET", "w", "1", "PX", "300"])?;
    let conn = world.open_session(a, "profiles")?;
    world.send(a, conn, &["WATCH", "w"])?;
    world.run_for(ms(1000))?;
    for words in [&["MULTI"][..], &["SET", "done", "1"], &["EXEC"]] {
        world.send(a, conn, words)?;
    }
    world.run_for(ms(500))?;
    match world.answers(conn).last() {
        Some(Frame::NullArray) => Ok(()),
        other => Err(Wrong(format!("after its time: {other:?}"))),
    }
}

#[test]
fn exec_is_nil_exactly_if_a_watched_key_was_changed() {
    tell(850..858, watching);
}
