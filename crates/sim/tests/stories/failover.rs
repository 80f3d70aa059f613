//! Another node takes a primary's place.

use super::tell;
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
