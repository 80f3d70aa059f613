//! Copies that go: their keyspace is dropped, or another node takes their place. Nothing that
//! they leave in the log hinders a later start.

use super::{start_with, tell};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

const MOMENTS: [Moment; 5] = [
    Moment::Now,
    Moment::BeforeFlush,
    Moment::InFlush,
    Moment::BeforeSync,
    Moment::AfterFlush,
];

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Four nodes, whose logs keep so little that they soon begin within what is written now.
fn four(world: &mut World) -> Result<(), Wrong> {
    start_with(
        world,
        &["us-1", "us-2", "us-3", "eu-1"],
        &[0, 1, 3],
        96 << 10,
    )
}

fn create(world: &mut World, name: &str) -> Result<(), Wrong> {
    let line = format!("KEYSPACE CREATE {name} ACK sync PLACE us=2 REPLACE_AFTER 3000");
    let words: Vec<&str> = line.split(' ').collect();
    world.order("eu-1", &words)
}

/// Writes 180 kB under 200 keys.
fn write(world: &mut World, keyspace: &str) -> Result<(), Wrong> {
    let primary = world.primary_of(keyspace)?;
    for n in 0..200 {
        let (key, value) = (format!("k{n}"), "v".repeat(900));
        world.ask(&primary, Some(keyspace), &["SET", &key, &value])?;
    }
    Ok(())
}

/// `gone` stays away: `newcomer` is filled while writes go on, and takes its place.
fn replace(world: &mut World, gone: &str, newcomer: &str) -> Result<(), Wrong> {
    let moment = MOMENTS[world.random().below(MOMENTS.len() as u64) as usize];
    world.crash_if_it_comes(gone, moment)?;
    world.run_for(s(15))?;
    // Under this rule nothing is taken while a member is away.
    world.every_shard_serves("eu-1", "profiles")?;
    let events = format!("{:?}", world.ask("eu-1", None, &["QUIRE", "EVENTS"])?);
    for words in ["is to take the place of", "has taken the place of"] {
        if !events.contains(&format!("{newcomer} {words} {gone}")) {
            return Err(Wrong(events));
        }
    }
    match world.ask(newcomer, Some("profiles"), &["GET", "k199"])? {
        Frame::Bulk(value) if value.len() == 900 => Ok(()),
        other => Err(Wrong(format!("{other:?}"))),
    }
}

/// Replaced nodes give up their copies when they are back, and may take such a place again.
fn places_are_taken_in_turn(world: &mut World) -> Result<(), Wrong> {
    four(world)?;
    create(world, "profiles")?;
    write(world, "profiles")?;
    let primary = world.primary_of("profiles")?;
    let mut gone = if primary == "us-1" { "us-2" } else { "us-1" };
    let mut other = "us-3";
    for _ in 0..3 {
        replace(world, gone, other)?;
        world.start(gone)?;
        let back = world.random().between(1, 3000);
        world.run_for(Duration::from_millis(back))?;
        // It has dropped its copy, or dies while it does.
        let moment = MOMENTS[world.random().below(MOMENTS.len() as u64) as usize];
        world.crash_if_it_comes(gone, moment)?;
        world.start(gone)?;
        world.run_for(s(2))?;
        write(world, "profiles")?;
        (gone, other) = (other, gone);
    }
    for node in ["us-1", "us-2", "us-3"] {
        world.crash(node, Moment::Now)?;
        world.start(node)?;
    }
    world.run_for(s(15))?;
    world.until_settled()?;
    world.every_shard_serves("eu-1", "profiles")?;
    world.verify("profiles")
}

#[test]
fn a_replica_whose_node_stays_away_is_replaced_and_may_come_back() {
    tell(640..652, places_are_taken_in_turn);
}

/// A primary that is cut off acknowledges what nobody else has. Another takes over, a third its
/// place; when it is back it has lost both, and what it acknowledged is in its file.
fn a_lost_tail_is_saved_before_the_copy_goes(world: &mut World) -> Result<(), Wrong> {
    four(world)?;
    let line =
        "KEYSPACE CREATE profiles ACK async FAILOVER available PLACE us=2 REPLACE_AFTER 3000";
    world.order("eu-1", &line.split(' ').collect::<Vec<_>>())?;
    let primary = world.primary_of("profiles")?;
    world.ask(&primary, Some("profiles"), &["SET", "kept", "v"])?;
    world.run_for(s(1))?;
    for node in ["us-1", "us-2", "us-3", "eu-1"] {
        if node != primary {
            world.cut(&primary, node)?;
        }
    }
    // Its lease runs for a moment.
    let writes = world.random().between(1, 40);
    let mut acknowledged = Vec::new();
    for n in 0..writes {
        let key = format!("lost{n}");
        match world.ask(&primary, Some("profiles"), &["SET", &key, "v"])? {
            Frame::Simple(_) => acknowledged.push(key),
            _ => break,
        }
    }
    let killed = world.random().once_in(2);
    if killed {
        world.run_for(Duration::from_millis(20))?;
        world.crash(&primary, Moment::Now)?;
    }
    world.run_for(s(15))?;
    let events = format!("{:?}", world.ask("eu-1", None, &["QUIRE", "EVENTS"])?);
    if !events.contains(&format!("us-3 has taken the place of {primary}")) {
        return Err(Wrong(events));
    }
    world.heal_all();
    if killed {
        world.start(&primary)?;
    }
    // It may die again at any moment of what it does now.
    let soon = world.random().between(1, 1500);
    world.run_for(Duration::from_millis(soon))?;
    let moment = MOMENTS[world.random().below(MOMENTS.len() as u64) as usize];
    world.crash_if_it_comes(&primary, moment)?;
    world.start(&primary)?;
    world.until_settled()?;
    world.verify("profiles")?;
    let lost = world.lost()?;
    for key in &acknowledged {
        if !lost.holds(key, "v") {
            return Err(Wrong(format!("{key} was acknowledged and is in no file")));
        }
    }
    match acknowledged.is_empty() {
        true => Err(Wrong("nothing was acknowledged".into())),
        false => Ok(()),
    }
}

#[test]
fn what_a_replaced_primary_alone_has_is_saved() {
    tell(680..700, a_lost_tail_is_saved_before_the_copy_goes);
}

/// The log still holds entries of a keyspace that was dropped, but no longer the first.
fn a_keyspace_is_dropped(world: &mut World) -> Result<(), Wrong> {
    four(world)?;
    create(world, "profiles")?;
    write(world, "profiles")?;
    create(world, "gone")?;
    write(world, "gone")?;
    world.order("eu-1", &["KEYSPACE", "DROP", "gone"])?;
    let soon = world.random().between(1, 1000);
    world.run_for(Duration::from_millis(soon))?;
    for node in ["us-1", "us-2", "us-3"] {
        let moment = MOMENTS[world.random().below(MOMENTS.len() as u64) as usize];
        world.crash_if_it_comes(node, moment)?;
        world.start(node)?;
        world.run_for(s(2))?;
    }
    world.until_settled()?;
    world.every_shard_serves("eu-1", "profiles")?;
    world.verify("profiles")
}

#[test]
fn a_dropped_keyspace_hinders_no_start() {
    tell(660..672, a_keyspace_is_dropped);
}
