//! Disks that are not what they were (docs/adr/0013-disks-and-boots).

use super::{crashes::end, tell};
use sim::{Moment, World, world::Wrong};
use std::{cell::Cell, time::Duration};

const NODES: [&str; 3] = ["us-1", "us-2", "eu-1"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Clients at work under a rule that the loss of one disk takes nothing from.
fn begin(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    let rule = ["quorum", "sync"][world.random().below(2) as usize];
    world.create_keyspace("profiles", &format!("ACK {rule} FAILOVER safe"))?;
    world.add_clients(2, "profiles");
    world.run_for(ms(500))
}

fn all_lose_power(world: &mut World) -> Result<(), Wrong> {
    NODES
        .iter()
        .try_for_each(|node| world.crash(node, Moment::Now))
}

/// A disk is copied, its node goes on as another process, and then all begin anew, this one on
/// the copy.
fn a_disk_is_put_back(world: &mut World, node: &str) -> Result<(), Wrong> {
    begin(world)?;
    world.crash(node, Moment::Now)?;
    world.copy_disks(node)?;
    world.start(node)?;
    world.run_for(ms(2500))?;
    world.until_all_are_up()?;
    world.run_for(ms(1000))?;
    world.stop_clients();
    world.until_answered()?;
    world.until_settled()?;
    all_lose_power(world)?;
    world.put_back(node)?;
    let mut nodes = NODES;
    nodes.rotate_left(world.random().below(3) as usize);
    for node in nodes {
        world.start(node)?;
        let wait = world.random().below(800);
        world.run_for(ms(wait))?;
    }
    world.run_for(ms(3000))?;
    end(world)?;
    match world.faults().stale_disks {
        1 => Ok(()),
        n => Err(Wrong(format!("{n} disks were refused"))),
    }
}

#[test]
fn a_disk_that_is_put_back_is_refused_and_nothing_is_lost() {
    // Each of them votes, and one is the primary.
    tell(900..909, |world| {
        let node = NODES[world.random().below(3) as usize];
        a_disk_is_put_back(world, node)
    });
}

/// All lose power, and a replica's disk is put back to a moment within its last process, which
/// nothing tells from that crash; the third comes later, and the primary's disk is slow to say
/// what it holds.
fn a_copy_of_a_running_disk_is_heard_first(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK sync FAILOVER safe")?;
    world.add_clients(2, "profiles");
    world.run_for(ms(1500))?;
    let primary = world.primary_of("profiles")?;
    let mut others = NODES.into_iter().filter(|node| *node != primary);
    let (Some(behind), Some(late)) = (others.next(), others.next()) else {
        return Err(Wrong(format!("{primary} is no node of this world")));
    };
    world.copy_disks(behind)?;
    world.run_for(ms(1000))?;
    world.stop_clients();
    world.until_answered()?;
    all_lose_power(world)?;
    world.put_back(behind)?;
    world.start(behind)?;
    world.start(&primary)?;
    world.slow_disk(&primary, ms(6000), ms(1500))?;
    world.run_for(ms(5000))?;
    world.start(late)?;
    world.run_for(ms(12_000))?;
    end(world)
}

#[test]
fn who_may_be_on_an_older_copy_does_not_lead_before_the_others_are_heard() {
    tell(970..990, a_copy_of_a_running_disk_is_heard_first);
}

/// What a node said before its disk was replaced is heard once more when it goes on with the new
/// one: that is no word of the new disk, and the next start of it is no older state of it.
fn words_of_a_former_disk_come_late(world: &mut World) -> Result<(), Wrong> {
    begin(world)?;
    world.run_for(ms(5000))?;
    world.meddle(2, 0, ms(2500));
    world.run_for(ms(500))?;
    world.stop_clients();
    world.crash("eu-1", Moment::Now)?;
    world.replace_disk("eu-1")?;
    world.start("eu-1")?;
    world.run_for(ms(2600))?;
    world.meddle(0, 0, ms(0));
    world.run_for(ms(500))?;
    world.crash("eu-1", Moment::Now)?;
    world.start("eu-1")?;
    world.run_for(ms(3000))?;
    end(world)?;
    match world.faults().stale_disks {
        0 => Ok(()),
        n => Err(Wrong(format!("{n} disks were refused"))),
    }
}

#[test]
fn what_a_former_disk_said_is_no_word_of_the_new_one() {
    tell(960..970, words_of_a_former_disk_come_late);
}

/// The last batch of the primary's log decays while all are down.
fn the_end_of_a_log_decays(world: &mut World) -> Result<(), Wrong> {
    begin(world)?;
    let primary = world.primary_of("profiles")?;
    all_lose_power(world)?;
    for node in NODES.iter().filter(|n| **n != primary) {
        world.start(node)?;
    }
    if !world.decay_and_start(&primary)? {
        world.replace_disk(&primary)?;
        world.start(&primary)?;
    }
    world.run_for(ms(3000))?;
    end(world)
}

#[test]
fn a_primary_without_the_end_of_its_log_hears_the_others_first() {
    let resumed = Cell::new(0);
    tell(910..930, |world| {
        the_end_of_a_log_decays(world)?;
        let changes = world.primary_changes();
        resumed.set(resumed.get() + changes.same_node);
        Ok(())
    });
    assert!(resumed.get() > 0, "nobody was primary again");
}

/// One node alone is stopped by `kill -9` and begins again: it is primary again soon, since the
/// others have no more than it.
#[test]
fn a_primary_whose_process_was_killed_is_named_again_if_nobody_has_more() {
    tell(930..936, |world| {
        begin(world)?;
        let primary = world.primary_of("profiles")?;
        world.stop_clients();
        world.until_answered()?;
        world.kill(&primary)?;
        world.run_for(ms(20))?;
        world.start(&primary)?;
        world.run_for(ms(6000))?;
        world.every_shard_serves(&primary, "profiles")?;
        end(world)
    });
}
