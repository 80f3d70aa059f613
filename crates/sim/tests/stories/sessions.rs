//! What one connection sees while its writes wait for replicas.

use super::tell;
use model::slot;
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::{cell::Cell, time::Duration};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One write of a connection is given up, a later one is not: a read behind that one must
/// show it, because it is acknowledged first.
fn a_read_follows_the_write_that_was_not_given_up(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK semi-sync:1 ON_TIMEOUT error TIMEOUT 1500")?;
    let primary = world.primary_of("profiles")?;
    let other = if primary == "us-2" { "us-1" } else { "us-2" };
    let conn = world.open_session(&primary, "profiles")?;
    world.run_for(ms(200))?;
    world.crash(other, Moment::Now)?;
    world.send(&primary, conn, &["SET", "first", "1"])?;
    world.run_for(ms(1400))?;
    world.send(&primary, conn, &["SET", "second", "2"])?;
    world.run_for(ms(200))?;
    world.send(&primary, conn, &["GET", "second"])?;
    // The first write is given up by now; the replica has 1.3 s until the second one is.
    world.start(other)?;
    world.run_for(ms(2000))?;
    match world.answers(conn) {
        [_, Frame::Error(first), Frame::Simple(_), Frame::Bulk(read)]
            if first.starts_with(b"UNKNOWN") && read == "2" =>
        {
            Ok(())
        }
        answers => Err(Wrong(format!("not what the story is about: {answers:?}"))),
    }
}

#[test]
fn a_read_behind_an_acknowledged_write_shows_it() {
    tell(500..510, a_read_follows_the_write_that_was_not_given_up);
}

/// A key of the first or the second half of the slots.
fn key_of(half: u16) -> String {
    let is_there = |key: &String| slot::of(key.as_bytes()) / (slot::SLOTS / 2) == half;
    let mut keys = (0..).map(|n| format!("k{n}"));
    keys.find(is_there).unwrap_or_default()
}

/// One of two shards has no primary: what a pipeline asks of the other is done meanwhile.
fn a_pipeline_over_a_shard_without_a_primary(world: &mut World) -> Result<bool, Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    // Nobody takes over where acknowledged writes could be lost.
    world.create_keyspace("profiles", "ACK async FAILOVER safe SHARDS 2")?;
    world.run_for(ms(2000))?;
    let primaries = world.primaries();
    let [lost, stays] = &primaries[..] else {
        return Err(Wrong(format!("not two shards: {primaries:?}")));
    };
    if lost == stays || lost == "eu-1" {
        return Ok(false);
    }
    let (conn, other) = (
        world.open_session("eu-1", "profiles")?,
        world.open_session("eu-1", "profiles")?,
    );
    world.crash(lost, Moment::Now)?;
    world.run_for(ms(2000))?;
    let (gone, there) = (key_of(0), key_of(1));
    world.send("eu-1", conn, &["SET", &gone, "1"])?;
    world.send("eu-1", conn, &["SET", &there, "1"])?;
    world.send("eu-1", conn, &["INCR", &there])?;
    world.run_for(ms(400))?;
    if world.answers(conn).len() != 1 {
        return Err(Wrong(format!("answered: {:?}", world.answers(conn))));
    }
    world.send("eu-1", other, &["INCR", &there])?;
    world.run_for(ms(1500))?;
    let (answers, others) = (world.answers(conn), world.answers(other));
    match (answers, others) {
        ([_, Frame::Error(first), Frame::Simple(_), Frame::Integer(2)], [_, Frame::Integer(3)])
            if first.starts_with(b"NOPRIMARY") =>
        {
            Ok(true)
        }
        answers => Err(Wrong(format!("not what the story is about: {answers:?}"))),
    }
}

#[test]
fn a_shard_without_a_primary_holds_up_no_other_of_a_pipeline() {
    let told = Cell::new(0);
    tell(520..540, |world| {
        told.set(told.get() + u32::from(a_pipeline_over_a_shard_without_a_primary(world)?));
        Ok(())
    });
    assert!(told.get() > 0, "both shards had one primary each time");
}
