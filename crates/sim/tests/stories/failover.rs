//! Another node takes a primary's place.

use super::tell;
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A replica comes back with an empty disk just as another primary begins, under a rule that
/// asks for every replica: the barrier needs the replica, so it must not wait for the barrier.
fn an_emptied_replica_joins_a_primary_that_waits_for_it(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK sync")?;
    let primary = world.primary_of("profiles")?;
    world.ask(&primary, Some("profiles"), &["SET", "k", "kept"])?;
    world.crash("eu-1", Moment::Now)?;
    world.replace_disk("eu-1")?;
    world.crash(&primary, Moment::Now)?;
    world.run_for(s(1))?;
    // With it the control group has a majority again.
    world.start("eu-1")?;
    world.run_for(s(6))?;
    world.start(&primary)?;
    world.until_settled()?;
    if world.primary_changes().another_node != 1 {
        return Err(Wrong("nobody took over".into()));
    }
    world.every_shard_serves("eu-1", "profiles")?;
    world.verify("profiles")
}

#[test]
fn a_primary_that_needs_every_replica_takes_in_one_that_was_emptied() {
    tell(
        600..606,
        an_emptied_replica_joins_a_primary_that_waits_for_it,
    );
}

/// What a connection wrote was lost. If it writes on, it is told so before anything that it
/// does shows that it went back in time.
fn a_writer_is_told_what_it_lost(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK async FAILOVER available")?;
    world.run_for(s(3))?;
    let primary = world.primary_of("profiles")?;
    let conn = world.open_session(&primary, "profiles")?;
    let others: Vec<String> = world.nodes();
    let others = others.iter().filter(|n| **n != primary);
    for other in others.clone() {
        world.cut(&primary, other)?;
    }
    world.send(&primary, conn, &["APPEND", "k", "lost"])?;
    world.run_for(s(5))?;
    for other in others {
        world.heal(&primary, other)?;
    }
    world.run_for(s(5))?;
    world.send(&primary, conn, &["APPEND", "k", "next"])?;
    // What was sent before the answer is refused too.
    world.run_for(s(1))?;
    world.send(&primary, conn, &["APPEND", "k", "more"])?;
    world.run_for(s(2))?;
    match world.answers(conn) {
        [_, Frame::Integer(4), Frame::Error(told), Frame::Integer(4)]
            if told.starts_with(b"SESSIONLOST") =>
        {
            Ok(())
        }
        answers => Err(Wrong(format!("{answers:?}"))),
    }
}

#[test]
fn a_write_does_not_pass_over_what_its_session_lost() {
    tell(700..706, a_writer_is_told_what_it_lost);
}
