//! Wall clocks that are wrong, and what becomes of keys that expire.

use super::{start_with, tell};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
const KEYS: Option<&str> = Some("profiles");

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three nodes with a keyspace; its primary.
fn begin(world: &mut World) -> Result<String, Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK quorum FAILOVER safe")?;
    world.run_for(s(3))?;
    world.primary_of("profiles")
}

fn expect(world: &mut World, node: &str, words: &[&str], reply: &Frame) -> Result<(), Wrong> {
    let given = world.ask(node, KEYS, words)?;
    if given != *reply {
        return Err(Wrong(format!(
            "{words:?} at {node} was answered {given:?}, not {reply:?}"
        )));
    }
    Ok(())
}

fn ok() -> Frame {
    Frame::Simple("OK".into())
}

/// Keys live as long as they are to, wherever that is asked.
fn keys_live_as_long_as_they_are_to(world: &mut World, node: &str) -> Result<(), Wrong> {
    expect(world, node, &["SET", "brief", "v", "EX", "5"], &ok())?;
    expect(world, node, &["SET", "long", "v", "EX", "60"], &ok())?;
    world.run_for(s(2))?;
    expect(world, node, &["GET", "brief"], &Frame::Bulk("v".into()))?;
    world.run_for(s(5))?;
    for node in world.nodes() {
        if world.is_running(&node)? {
            expect(world, &node, &["GET", "brief"], &Frame::Null)?;
            expect(world, &node, &["GET", "long"], &Frame::Bulk("v".into()))?;
        }
    }
    Ok(())
}

fn events(world: &mut World, node: &str) -> Result<String, Wrong> {
    let reply = world.ask(node, None, &["QUIRE", "EVENTS"])?;
    Ok(format!("{reply:?}"))
}

/// The wall clock of the primary is off for a second, and writes come meanwhile; then others take
/// its place, and it comes back.
fn a_primary_with_a_clock_off_for_a_second(world: &mut World, off: i64) -> Result<(), Wrong> {
    let primary = begin(world)?;
    expect(world, &primary, &["SET", "kept", "v", "EX", "600"], &ok())?;
    world.step_clock(&primary, off)?;
    world.run_for(ms(300))?;
    expect(
        world,
        &primary,
        &["SET", "meanwhile", "v", "EX", "5"],
        &ok(),
    )?;
    world.run_for(ms(700))?;
    world.step_clock(&primary, -off)?;
    keys_live_as_long_as_they_are_to(world, &primary)?;
    expect(world, &primary, &["GET", "meanwhile"], &Frame::Null)?;
    expect(world, &primary, &["GET", "kept"], &Frame::Bulk("v".into()))?;
    if !events(world, &primary)?.contains("the wall clock of") {
        return Err(Wrong("no event says that a clock was off".into()));
    }
    world.crash(&primary, Moment::Now)?;
    world.run_for(s(8))?;
    let next = world.primary_of("profiles")?;
    keys_live_as_long_as_they_are_to(world, &next)?;
    world.start(&primary)?;
    world.run_for(s(5))?;
    keys_live_as_long_as_they_are_to(world, &primary)?;
    world.until_settled()?;
    world.verify("profiles")
}

#[test]
fn a_clock_that_is_an_hour_ahead_for_a_second_changes_no_life() {
    tell(1100..1104, |world| {
        a_primary_with_a_clock_off_for_a_second(world, HOUR_MS)
    });
}

#[test]
fn a_clock_that_is_an_hour_behind_for_a_second_changes_no_life() {
    tell(1110..1114, |world| {
        a_primary_with_a_clock_off_for_a_second(world, -HOUR_MS)
    });
}

/// A clock is wrong for good: at the primary while it runs, and from the beginning at whoever
/// starts with it and takes an office.
fn a_clock_that_stays_wrong(world: &mut World) -> Result<(), Wrong> {
    let primary = begin(world)?;
    let off = if world.random().below(2) == 0 {
        HOUR_MS
    } else {
        -HOUR_MS
    };
    world.step_clock(&primary, off)?;
    world.run_for(s(30))?;
    keys_live_as_long_as_they_are_to(world, &primary)?;
    world.crash(&primary, Moment::Now)?;
    world.run_for(ms(200))?;
    world.start(&primary)?;
    world.run_for(s(8))?;
    let now = world.primary_of("profiles")?;
    keys_live_as_long_as_they_are_to(world, &now)?;
    // Now it is the only one that has everything but for the other that is left.
    let others: Vec<String> = world.nodes();
    for other in others.iter().filter(|n| **n != primary) {
        if world.primary_of("profiles")? == primary {
            break;
        }
        world.crash(other, Moment::Now)?;
        world.run_for(s(8))?;
        let now = world.primary_of("profiles")?;
        keys_live_as_long_as_they_are_to(world, &now)?;
        world.start(other)?;
        world.run_for(s(8))?;
    }
    let now = world.primary_of("profiles")?;
    keys_live_as_long_as_they_are_to(world, &now)
}

#[test]
fn a_clock_that_stays_wrong_is_not_followed_across_failovers_and_starts() {
    tell(1120..1126, a_clock_that_stays_wrong);
}

/// The wall clock of a primary stays wrong: another of its region leads soon, without a failover
/// and without a write refused, and another again when that one's is wrong and the first one's right.
fn a_clock_that_stays_wrong_ends_an_office(world: &mut World) -> Result<(), Wrong> {
    let first = begin(world)?;
    world.step_clock(&first, HOUR_MS)?;
    for _ in 0..40 {
        world.run_for(s(1))?;
        expect(world, &first, &["SET", "k", "v"], &ok())?;
    }
    let second = world.primary_of("profiles")?;
    if second == first {
        return Err(Wrong(format!("{first} leads with a wrong clock")));
    }
    keys_live_as_long_as_they_are_to(world, &second)?;
    world.step_clock(&first, -HOUR_MS)?;
    world.run_for(s(20))?;
    if world.primary_of("profiles")? != second {
        return Err(Wrong(format!("{second} had no reason to hand over")));
    }
    world.step_clock(&second, -HOUR_MS)?;
    for _ in 0..40 {
        world.run_for(s(1))?;
        expect(world, &second, &["SET", "k", "v"], &ok())?;
    }
    let third = world.primary_of("profiles")?;
    if third == second {
        return Err(Wrong(format!("{second} leads with a wrong clock")));
    }
    let told = events(world, &third)?;
    let handovers = told.matches("has a wrong clock").count();
    if handovers < 2 || told.contains("\\\"failover\\\"") {
        return Err(Wrong(format!("not two handovers alone: {told}")));
    }
    world.until_settled()?;
    world.verify("profiles")
}

#[test]
fn a_primary_whose_clock_stays_wrong_hands_over() {
    tell(1127..1132, a_clock_that_stays_wrong_ends_an_office);
}

/// A replica starts with a wrong clock, and what it first asks the others may be lost: their links
/// to it are made a moment later than its own.
fn a_start_with_a_wrong_clock(world: &mut World) -> Result<(), Wrong> {
    let primary = begin(world)?;
    let replica = (world.nodes().into_iter())
        .find(|node| *node != primary)
        .ok_or_else(|| Wrong("there is one node".into()))?;
    world.step_clock(&replica, -HOUR_MS)?;
    world.crash(&replica, Moment::Now)?;
    world.run_for(s(5))?;
    world.start(&replica)?;
    world.run_for(ms(2800))?;
    let set = format!("{replica} has set the time that it keeps");
    if !events(world, &primary)?.contains(&set) {
        return Err(Wrong(format!("{replica} has not compared its clock")));
    }
    Ok(())
}

#[test]
fn a_clock_is_compared_soon_after_the_start() {
    tell(1140..1170, a_start_with_a_wrong_clock);
}

/// A node that is alone must follow its clock in the end; when that is set right again keys
/// expire by it, though every stamp that it gave is an hour ahead.
fn stamps_that_are_an_hour_ahead(world: &mut World) -> Result<(), Wrong> {
    start_with(world, &["us-1"], &[0], 64 << 20)?;
    let create = [
        "KEYSPACE", "CREATE", "profiles", "ACK", "async", "PLACE", "us=1",
    ];
    world.ask("us-1", None, &create)?;
    world.step_clock("us-1", HOUR_MS)?;
    world.run_for(s(65))?;
    expect(world, "us-1", &["SET", "k", "v"], &ok())?;
    if !events(world, "us-1")?.contains("has set the time that it keeps") {
        return Err(Wrong("no event says that the step was taken over".into()));
    }
    world.step_clock("us-1", -HOUR_MS)?;
    world.run_for(s(65))?;
    keys_live_as_long_as_they_are_to(world, "us-1")?;
    world.kill("us-1")?;
    world.start("us-1")?;
    world.until_all_are_up()?;
    world.run_for(s(3))?;
    keys_live_as_long_as_they_are_to(world, "us-1")
}

#[test]
fn stamps_ahead_of_the_time_do_not_hold_up_expiry() {
    tell(1130..1132, stamps_that_are_an_hour_ahead);
}

fn number(frame: &Frame) -> Result<i64, Wrong> {
    match frame {
        Frame::Integer(n) => Ok(*n),
        other => Err(Wrong(format!("not a number: {other:?}"))),
    }
}

/// Every write takes half a second to be committed; keys live for less than that, and more.
fn brief_keys_far_from_their_replicas(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK sync FAILOVER safe")?;
    world.run_for(s(3))?;
    let primary = world.primary_of("profiles")?;
    for node in world.nodes().iter().filter(|n| **n != primary) {
        world.delay(&primary, node, ms(250))?;
        world.delay(node, &primary, ms(250))?;
    }
    world.run_for(s(2))?;
    let conn = world.open_session(&primary, "profiles")?;
    let mut written = 0;
    for round in 0..100 {
        for n in 0..100 {
            let (key, life) = (format!("k{round}:{n}"), (200 + 8 * n).to_string());
            world.send(&primary, conn, &["SET", &key, "v", "PX", &life])?;
            written += 1;
        }
        world.run_for(ms(50))?;
    }
    // Two thousand a second were written without a pause. What is there still has its life, or a
    // write or a deletion under way.
    let there = number(&world.ask(&primary, KEYS, &["DBSIZE"])?)?;
    if there > written / 2 {
        return Err(Wrong(format!("{there} of {written} keys are there")));
    }
    world.run_for(s(4))?;
    expect(world, &primary, &["DBSIZE"], &Frame::Integer(0))?;
    world.verify("profiles")
}

#[test]
fn expired_keys_go_as_fast_as_they_come_however_far_the_replicas_are() {
    tell(1140..1142, brief_keys_far_from_their_replicas);
}

/// A key's time is over while what gives it more, or sets it anew, is under way.
fn keys_extended_in_flight(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK sync FAILOVER safe")?;
    world.run_for(s(3))?;
    let primary = world.primary_of("profiles")?;
    for node in world.nodes().iter().filter(|n| **n != primary) {
        world.delay(&primary, node, ms(250))?;
        world.delay(node, &primary, ms(250))?;
    }
    world.run_for(s(2))?;
    let conn = world.open_session(&primary, "profiles")?;
    for key in ["extended", "kept", "anew"] {
        world.send(&primary, conn, &["SET", key, "v", "PX", "1000"])?;
    }
    world.run_for(ms(900))?;
    world.send(&primary, conn, &["PEXPIRE", "extended", "60000"])?;
    world.send(&primary, conn, &["PERSIST", "kept"])?;
    world.send(&primary, conn, &["SET", "anew", "v"])?;
    world.run_for(s(3))?;
    for key in ["extended", "kept", "anew"] {
        expect(world, &primary, &["GET", key], &Frame::Bulk("v".into()))?;
    }
    Ok(())
}

#[test]
fn what_is_extended_or_set_anew_in_flight_is_not_deleted() {
    tell(1150..1154, keys_extended_in_flight);
}
