//! Disks that hang, and nodes that are busy.

use super::tell;
use resp::Frame;
use sim::{World, world::Wrong};
use std::time::Duration;

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn begin(world: &mut World, options: &str) -> Result<(String, String), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", options)?;
    // Leadership finds its place.
    world.run_for(s(4))?;
    let primary = world.primary_of("profiles")?;
    world.ask(&primary, Some("profiles"), &["SET", "k", "before"])?;
    let other = world.witness(&primary).unwrap_or_default();
    Ok((primary, other))
}

fn is_ok(answer: &Frame) -> Result<(), Wrong> {
    match answer.as_error() {
        None => Ok(()),
        Some(line) => Err(Wrong(String::from_utf8_lossy(line).into_owned())),
    }
}

/// A primary's disk answers nothing for half a minute: another takes over, whoever waited is told
/// that the outcome is unknown, and nothing that was acknowledged is lost.
fn a_hung_disk_costs_the_office(world: &mut World) -> Result<(), Wrong> {
    let (primary, other) = begin(world, "ACK quorum")?;
    world.hang_disk(&primary, s(30))?;
    let conn = world.open_session(&primary, "profiles")?;
    world.send(&primary, conn, &["SET", "k", "hanging"])?;
    world.run_for(s(8))?;
    match world.answers(conn) {
        [_, Frame::Error(line)] if line.starts_with(b"UNKNOWN") => {}
        answers => return Err(Wrong(format!("{answers:?}"))),
    }
    if world.primary_changes().another_node != 1 {
        return Err(Wrong("nobody took over".into()));
    }
    is_ok(&world.ask(&other, Some("profiles"), &["SET", "k", "after"])?)?;
    // A client of the node whose disk hangs is served, by others.
    world.send(&primary, conn, &["SET", "l", "there"])?;
    world.send(&primary, conn, &["GET", "l"])?;
    world.run_for(s(2))?;
    match world.answers(conn) {
        [_, _, set, get] => {
            is_ok(set)?;
            is_ok(get)?;
        }
        answers => return Err(Wrong(format!("{answers:?}"))),
    }
    world.run_for(s(25))?;
    world.until_settled()?;
    if world.faults().hung_flushes == 0 {
        return Err(Wrong("nothing was asked of the disk".into()));
    }
    world.verify("profiles")
}

#[test]
fn another_takes_over_when_a_primarys_disk_hangs() {
    tell(900..908, a_hung_disk_costs_the_office);
}

/// The disk of a replica hangs: writes go on with the others, and its node is asked by nobody.
fn a_hung_replica_holds_up_nobody(world: &mut World) -> Result<(), Wrong> {
    let (primary, other) = begin(world, "ACK quorum")?;
    world.hang_disk(&other, s(20))?;
    for n in 0..40 {
        let value = n.to_string();
        is_ok(&world.ask(&primary, Some("profiles"), &["SET", "k", &value])?)?;
        world.run_for(Duration::from_millis(200))?;
    }
    let read = world.ask(&other, Some("profiles"), &["GET", "k"])?;
    if read != Frame::Bulk("39".into()) {
        return Err(Wrong(format!(
            "{other} reads {read:?} from a disk that hangs"
        )));
    }
    world.run_for(s(20))?;
    world.until_settled()?;
    if world.primary_changes().another_node != 0 {
        return Err(Wrong("the primary was replaced".into()));
    }
    world.verify("profiles")
}

#[test]
fn a_replica_whose_disk_hangs_is_neither_waited_for_nor_read() {
    tell(910..918, a_hung_replica_holds_up_nobody);
}

/// The disk of the control group's leader hangs: the group goes on with another.
fn a_hung_leader_does_not_stop_the_group(world: &mut World) -> Result<(), Wrong> {
    begin(world, "ACK quorum")?;
    let roles = world.roles("profiles")?;
    let leader = roles.leader.ok_or_else(|| Wrong("nobody leads".into()))?;
    world.hang_disk(&leader, s(60))?;
    // Something to be made durable there.
    let other = world.witness(&leader).unwrap_or_default();
    world.ask(&other, Some("profiles"), &["SET", "k", "v"])?;
    world.run_for(s(8))?;
    let create = [
        "KEYSPACE", "CREATE", "more", "ACK", "async", "PLACE", "us=1",
    ];
    world.order(&other, &create)
}

#[test]
fn the_control_group_goes_on_without_a_leader_whose_disk_hangs() {
    tell(920..928, a_hung_leader_does_not_stop_the_group);
}

/// A primary stands still within its turns, with answers that it has not said yet.
fn a_busy_primary_says_nothing_that_is_not_so(world: &mut World) -> Result<(), Wrong> {
    let (primary, _) = begin(world, "ACK quorum")?;
    let conn = world.open_session(&primary, "profiles")?;
    for time_ms in [300, 700, 1500, 4000, 100, 2500] {
        world.busy(&primary, Duration::from_millis(time_ms))?;
        world.send(&primary, conn, &["SET", "k", "v"])?;
        world.send(&primary, conn, &["GET", "k"])?;
        world.run_for(s(6))?;
    }
    if world.faults().long_turns == 0 || world.faults().answers_withheld == 0 {
        return Err(Wrong("nothing was said late".into()));
    }
    world.until_settled()?;
    world.nothing_wrong()?;
    world.verify("profiles")
}

#[test]
fn long_turns_lose_nothing() {
    tell(930..938, a_busy_primary_says_nothing_that_is_not_so);
}
