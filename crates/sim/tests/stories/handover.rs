//! Nodes that are told to end.

use super::tell;
use resp::Frame;
use sim::{World, world::Wrong};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Somebody writes every 5 ms at another node while the primary is told to end: all is taken,
/// each within half a lease, and a handover is told of, no failover.
fn a_primary_that_is_told_to_end(world: &mut World, options: &str) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", options)?;
    world.run_for(Duration::from_secs(3))?;
    let primary = world.primary_of("profiles")?;
    let others: Vec<String> = (world.nodes().into_iter())
        .filter(|node| *node != primary)
        .collect();
    let home = &others[world.random().below(others.len() as u64) as usize];
    let conn = world.open_session(home, "profiles")?;
    let mut sent = 1; // SELECT.
    let mut longest = Duration::ZERO;
    let mut told = false;
    let mut handed_over = false;
    for number in 0..400 {
        if number == 100 {
            world.begin_end(&primary)?;
            told = true;
        }
        handed_over |= told && world.has_handed_over(&primary)?;
        world.send(home, conn, &["SET", &format!("k{}", number % 7), "v"])?;
        sent += 1;
        let since = world.now();
        while world.answers(conn).len() < sent && world.now() - since < ms(2000) {
            world.run_for(ms(1))?;
        }
        longest = longest.max(world.now() - since);
        world.run_for(ms(4))?;
    }
    if !handed_over {
        return Err(Wrong(format!("{primary} has not handed over")));
    }
    let refused = |frame: &&Frame| frame.as_error().is_some();
    if let Some(refused) = world.answers(conn).iter().find(refused) {
        return Err(Wrong(format!("a write was answered {refused:?}")));
    }
    if longest > ms(450) {
        return Err(Wrong(format!("a write took {longest:?}")));
    }
    world.kill(&primary)?;
    world.run_for(Duration::from_secs(3))?;
    let events = format!("{:?}", world.ask(home, None, &["QUIRE", "EVENTS"])?);
    if !events.contains("\\\"handover\\\"") || events.contains("\\\"failover\\\"") {
        return Err(Wrong(format!("no handover alone: {events}")));
    }
    world.start(&primary)?;
    world.until_settled()?;
    world.verify("profiles")
}

#[test]
fn nobody_waits_for_a_primary_that_ends() {
    for (number, options) in ["ACK async", "ACK quorum", "ACK sync", "ACK semi-sync:1"]
        .into_iter()
        .enumerate()
    {
        let first = 1200 + 20 * number as u64;
        tell(first..first + 10, |world| {
            a_primary_that_is_told_to_end(world, options)
        });
    }
}

/// Somebody counts in a pipeline over another node while the primary is told to end: what the
/// primary did not take any more is taken by the next one, in its order.
fn a_pipeline_over_another_node(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK quorum")?;
    world.run_for(Duration::from_secs(3))?;
    let primary = world.primary_of("profiles")?;
    let conn = world.open_session("eu-1", "profiles")?;
    for turn in 0..100 {
        if turn == 20 {
            world.begin_end(&primary)?;
        }
        for _ in 0..10 {
            world.send("eu-1", conn, &["INCR", "n"])?;
        }
        world.run_for(ms(10))?;
    }
    world.run_for(Duration::from_secs(2))?;
    if world.primary_of("profiles")? == primary {
        return Err(Wrong(format!("{primary} is primary still")));
    }
    let answers = world.answers(conn).iter().skip(1);
    let wrong = (answers.zip(1..)).find(|(answer, n)| **answer != Frame::Integer(*n));
    match (wrong, world.answers(conn).len()) {
        (None, 1001) => Ok(()),
        (wrong, answered) => Err(Wrong(format!("{answered} answered, one so: {wrong:?}"))),
    }
}

#[test]
fn a_pipeline_goes_over_to_the_next_primary_whole() {
    tell(1340..1360, a_pipeline_over_another_node);
}

/// The node that leads the control group, and is primary of several shards, is told to end while
/// it answers its own clients: it is sealed for all of them at once, by itself, and what it has
/// answered is said all the same.
fn a_leader_of_many_shards_that_ends(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK quorum SHARDS 12")?;
    world.run_for(Duration::from_secs(3))?;
    let home = world.nodes()[0].clone();
    let status = format!("{:?}", world.ask(&home, None, &["QUIRE", "STATUS"])?);
    let leader = (world.nodes().into_iter())
        .find(|node| status.contains(&format!("\\\"leader\\\":\\\"{node}\\\"")))
        .ok_or_else(|| Wrong(format!("nobody leads: {status}")))?;
    let conn = world.open_session(&leader, "profiles")?;
    for turn in 0..1500 {
        if turn == 300 {
            world.begin_end(&leader)?;
        }
        for key in 0..12 {
            world.send(&leader, conn, &["GET", &format!("k{key}")])?;
            world.send(&leader, conn, &["SET", &format!("k{key}"), "v"])?;
        }
        world.run_for(ms(1))?;
    }
    world.run_for(Duration::from_secs(2))?;
    if !world.has_handed_over(&leader)? {
        return Err(Wrong(format!("{leader} has not handed over")));
    }
    // A write that the next primary did not take yet may be refused, if one behind it was taken.
    let lost = |frame: &&Frame| (frame.as_error()).is_some_and(|e| e.starts_with(b"UNKNOWN"));
    match world.answers(conn).iter().find(lost) {
        Some(lost) => Err(Wrong(format!("a command was answered {lost:?}"))),
        None => Ok(()),
    }
}

#[test]
fn a_leader_of_many_shards_hands_all_of_them_over() {
    tell(1360..1370, a_leader_of_many_shards_that_ends);
}

/// All nodes are told to end at once: nobody hands anything to one that ends, and all have done
/// soon.
fn all_end_at_once(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK quorum")?;
    world.run_for(Duration::from_secs(2))?;
    let nodes = world.nodes();
    for node in &nodes {
        world.begin_end(node)?;
    }
    world.run_for(ms(1500))?;
    for node in &nodes {
        if !world.has_handed_over(node)? {
            return Err(Wrong(format!("{node} still waits")));
        }
    }
    Ok(())
}

#[test]
fn nobody_waits_where_all_end_at_once() {
    tell(1300..1310, all_end_at_once);
}

/// The disk of a primary that is told to end answers nothing for a while, so that its seal comes
/// late: it is waited for, whatever the keyspace would lose in a failover.
fn a_primary_that_ends_on_a_slow_disk(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK async FAILOVER available")?;
    world.run_for(Duration::from_secs(3))?;
    let primary = world.primary_of("profiles")?;
    world.ask(&primary, Some("profiles"), &["SET", "k", "v"])?;
    world.run_for(ms(500))?;
    world.hang_disk(&primary, ms(2000))?;
    world.begin_end(&primary)?;
    world.run_for(Duration::from_secs(4))?;
    let events = format!("{:?}", world.ask(&primary, None, &["QUIRE", "EVENTS"])?);
    if events.contains("may be lost") || !events.contains("handover") {
        return Err(Wrong(format!("no handover without a loss: {events}")));
    }
    Ok(())
}

#[test]
fn nothing_is_lost_for_a_primary_that_only_ends() {
    tell(1320..1330, a_primary_that_ends_on_a_slow_disk);
}
