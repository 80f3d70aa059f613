//! Another node takes a primary's place.

use super::{start_with, tell};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A replica comes back with an empty disk just as another primary begins, under a rule that
/// asks for every replica: the barrier needs the replica, so it must not wait for the barrier.
fn an_emptied_replica_joins_a_primary_that_waits_for_it(world: &mut World) -> Result<(), Wrong> {
    // A voter of its own, so that the control group has a majority meanwhile.
    start_with(
        world,
        &["us-1", "us-2", "eu-1", "eu-2"],
        &[0, 1, 3],
        64 << 20,
    )?;
    world.create_keyspace("profiles", "ACK sync")?;
    let primary = world.primary_of("profiles")?;
    world.ask(&primary, Some("profiles"), &["SET", "k", "kept"])?;
    world.crash("eu-1", Moment::Now)?;
    world.replace_disk("eu-1")?;
    world.crash(&primary, Moment::Now)?;
    world.run_for(s(1))?;
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

/// Two voters of three lose their disks, one after the other is back: what the group had agreed
/// on is still agreed on, and nobody founds another.
fn emptied_voters_forget_nothing(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK quorum")?;
    for node in ["us-1", "us-2", "eu-1"] {
        world.crash(node, Moment::Now)?;
        world.replace_disk(node)?;
        world.start(node)?;
        world.run_for(s(12))?;
        world.every_shard_serves(node, "profiles")?;
    }
    world.verify("profiles")
}

#[test]
fn voters_on_new_disks_catch_up_before_they_vote() {
    tell(620..626, emptied_voters_forget_nothing);
}

/// Two of three at once: there is no majority that knows, so there is no group, and above all
/// no other one.
fn two_emptied_voters_found_nothing(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK quorum")?;
    world.run_for(s(2))?;
    for node in ["us-1", "us-2"] {
        world.crash(node, Moment::Now)?;
        world.replace_disk(node)?;
    }
    for node in ["us-1", "us-2"] {
        world.start(node)?;
    }
    world.run_for(s(20))?;
    match world.ask("eu-1", None, &["KEYSPACE", "SHOW", "profiles"])? {
        Frame::Error(line) => Err(Wrong(String::from_utf8_lossy(&line).into_owned())),
        _ => Ok(()),
    }
}

#[test]
fn emptied_voters_do_not_found_another_group() {
    tell(630..634, two_emptied_voters_found_nothing);
}
