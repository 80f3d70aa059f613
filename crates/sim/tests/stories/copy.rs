//! A replica whose disk is lost comes back empty and is filled by a copy.

use super::{
    crashes::{RULES, begin_with, end},
    tell,
};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

fn an_emptied_replica_is_filled(world: &mut World) -> Result<(), Wrong> {
    // With one shard one node is no primary; nobody takes a primary's place yet.
    begin_with(world, 1)?;
    world.run_for(Duration::from_secs(2))?;
    let primary = world.primary_of("profiles")?;
    let replica = match primary.as_str() {
        "us-2" => "eu-1",
        _ => "us-2",
    };
    let before = world.faults().bulk_messages;
    world.crash(replica, Moment::Now)?;
    world.replace_disk(replica)?;
    world.run_for(Duration::from_millis(700))?;
    world.start(replica)?;
    world.run_for(Duration::from_secs(3))?;
    end(world)?;
    if world.faults().bulk_messages == before {
        return Err(Wrong("nothing was copied".into()));
    }
    Ok(())
}

#[test]
fn a_replica_that_lost_its_disk_is_filled_while_writes_go_on() {
    tell(100..112, an_emptied_replica_is_filled);
}

fn an_emptied_primary_does_not_go_on(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    let rule = RULES[world.random().below(4) as usize];
    world.create_keyspace("profiles", &format!("ACK {rule}"))?;
    let primary = world.primary_of("profiles")?;
    world.ask(&primary, Some("profiles"), &["SET", "k", "kept"])?;
    world.run_for(Duration::from_millis(500))?;
    world.crash(&primary, Moment::Now)?;
    world.replace_disk(&primary)?;
    world.start(&primary)?;
    world.run_for(Duration::from_secs(5))?;
    let read = world.ask(&primary, Some("profiles"), &["GET", "k"])?;
    match &read {
        Frame::Error(_) => Ok(()),
        Frame::Bulk(value) if value == "kept" => Ok(()),
        _ => Err(Wrong(format!(
            "a primary whose disk was lost answers {read:?} for what was acknowledged"
        ))),
    }
}

#[test]
fn a_primary_that_lost_its_disk_does_not_go_on_as_if_it_had_not() {
    tell(400..420, an_emptied_primary_does_not_go_on);
}
