//! Machines lose power and come back, while clients write and read.

use super::tell;
use sim::{
    Moment, World,
    world::{Faults, Wrong},
};
use std::{cell::Cell, time::Duration};

pub(super) const RULES: [&str; 4] = ["async", "semi-sync:1", "quorum", "sync"];
const MOMENTS: [Moment; 5] = [
    Moment::Now,
    Moment::BeforeFlush,
    Moment::InFlush,
    Moment::BeforeSync,
    Moment::AfterFlush,
];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A cluster with clients at work under a rule that the seed chooses.
pub(super) fn begin(world: &mut World) -> Result<(), Wrong> {
    let shards = if world.random().once_in(2) { 1 } else { 3 };
    begin_with(world, shards)
}

/// The same with so many shards.
pub(super) fn begin_with(world: &mut World, shards: u64) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    let rule = RULES[world.random().below(4) as usize];
    world.create_keyspace(
        "profiles",
        &format!("ACK {rule} SHARDS {shards} FAILOVER safe"),
    )?;
    world.add_clients(2, "profiles");
    world.run_for(ms(500))
}

/// Everything is there, everywhere the same.
pub(super) fn end(world: &mut World) -> Result<(), Wrong> {
    world.stop_clients();
    world.until_answered()?;
    world.until_settled()?;
    world.verify("profiles")?;
    world.all_kept_everywhere("profiles")
}

fn nodes_crash_and_come_back(world: &mut World) -> Result<(), Wrong> {
    begin(world)?;
    for _ in 0..world.random().between(2, 5) {
        let node = ["us-1", "us-2", "eu-1"][world.random().below(3) as usize];
        let moment = MOMENTS[world.random().below(MOMENTS.len() as u64) as usize];
        if world.random().once_in(5) {
            world.kill(node)?;
        } else {
            world.crash(node, moment)?;
        }
        let away = world.random().between(1, 2500);
        world.run_for(ms(away))?;
        if world.random().once_in(4) {
            world.start_and_crash(node)?;
        }
        world.start(node)?;
        let back = world.random().between(1, 2500);
        world.run_for(ms(back))?;
    }
    world.run_for(ms(500))?;
    end(world)
}

fn over(seeds: std::ops::Range<u64>) {
    let sum = Cell::new(Faults::default());
    let acknowledged = Cell::new(0);
    let reads = Cell::new(0);
    tell(seeds, |world| {
        nodes_crash_and_come_back(world)?;
        let (mut all, new) = (sum.get(), world.faults());
        all.idle += new.idle;
        all.before_flush += new.before_flush;
        all.in_flush += new.in_flush;
        all.before_sync += new.before_sync;
        all.overlapping_syncs += new.overlapping_syncs;
        all.after_flush += new.after_flush;
        all.in_start += new.in_start;
        all.kills += new.kills;
        all.messages_lost += new.messages_lost;
        sum.set(all);
        for client in world.clients() {
            acknowledged.set(acknowledged.get() + client.counts().acknowledged);
            reads.set(reads.get() + client.counts().reads);
        }
        Ok(())
    });
    let all = sum.get();
    println!(
        "{all:?}, {} writes, {} reads",
        acknowledged.get(),
        reads.get()
    );
    assert!(
        all.idle > 0 && all.before_flush > 0 && all.in_flush > 0,
        "{all:?}"
    );
    assert!(
        all.before_sync > 0 && all.after_flush > 0 && all.in_start > 0 && all.kills > 0,
        "{all:?}"
    );
    assert!(
        all.messages_lost > 0 && all.overlapping_syncs > 0,
        "{all:?}"
    );
    assert!(acknowledged.get() > 1000 && reads.get() > 1000);
}

#[test]
fn nothing_acknowledged_is_lost_when_machines_crash() {
    over(0..20);
}

#[test]
fn nothing_acknowledged_is_lost_when_machines_crash_again() {
    over(20..40);
}
