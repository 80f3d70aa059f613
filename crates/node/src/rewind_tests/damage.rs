//! The former primary's store is damaged: its tail is saved from the log all the same, and it is
//! filled from the new primary, whenever it is found and whenever the node dies meanwhile.

use super::*;

fn is_stopped(world: &mut World) -> bool {
    let shards = &world.node(OLD).shards;
    shards.is_stopped_one(SHARD) && shards.is_damaged(SHARD)
}

/// Long enough for a question that was lost.
fn heal_fully(world: &mut World) {
    world.run(150);
}

#[test]
fn a_store_that_is_lost_at_a_start_is_filled_and_the_tail_that_only_the_log_has_is_saved() {
    let mut points = 0;
    for seed in 0..4 {
        for after in 0..40 {
            let mut world = part(seed, &TAIL);
            world.crash(OLD);
            world.machines[OLD].stores.damage(SHARD, "a flipped bit");
            world.start(OLD);
            assert!(is_stopped(&mut world));
            world.heal();
            world.crash_at = (after > 0).then_some(world.steps + after * 2);
            heal_fully(&mut world);
            points += u64::from(world.crash_at.is_some_and(|at| at <= world.steps));
            check(&mut world);
            assert_eq!(world.node(OLD).shards.damaged_count(), 0);
        }
    }
    assert!(points > 100, "{points} points");
}

#[test]
fn a_primary_whose_store_is_lost_serves_nothing_and_is_filled_once_another_is_named() {
    let mut world = World::new(3);
    world.ask(OLD, "SET key value");
    world.settle();
    world.crash(OLD);
    world.machines[OLD].stores.damage(SHARD, "a flipped bit");
    world.start(OLD);
    world.run(100);
    assert!(is_stopped(&mut world), "the catalog names nobody else yet");
    let report = world.node(NEW).replica_report(&id(OLD), SHARD).unwrap();
    assert!(report.stopped, "so that another is named");
    // Another start changes nothing: it is not a store that was only being copied.
    world.crash(OLD);
    world.start(OLD);
    world.run(100);
    assert!(is_stopped(&mut world));
    world.fail_over();
    world.heal();
    heal_fully(&mut world);
    assert!(world.equal());
    assert_eq!(world.ask(OLD, "GET key"), "$5\r\nvalue\r\n");
}

#[test]
fn damage_that_is_found_later_stops_the_replica_and_heals_too() {
    for seed in 0..4 {
        let mut world = part(seed, &TAIL);
        world.heal();
        world.settle();
        check(&mut world);
        let copies = world.node(OLD).shards.figures().copies;
        world.machines[OLD].stores.damage(SHARD, "a flipped bit");
        heal_fully(&mut world);
        check(&mut world);
        assert_eq!(world.node(OLD).shards.figures().copies, copies + 1);
    }
}

#[test]
fn a_primary_keeps_a_damaged_store_while_nobody_could_take_over() {
    let mut world = World::new(5);
    world.ask(OLD, "SET key value");
    world.settle();
    world.cut = true;
    world.run(100);
    world.machines[OLD].stores.damage(SHARD, "a flipped bit");
    world.run(100);
    assert!(!is_stopped(&mut world));
    assert_eq!(world.ask(OLD, "GET key"), "$5\r\nvalue\r\n");
    // Now somebody could.
    world.cut = false;
    let now = world.now();
    for n in [OLD, NEW] {
        world.node(n).peer_disconnected(&id(1 - n), now);
        world.node(n).peer_connected(&id(1 - n), now);
    }
    world.run(100);
    assert!(is_stopped(&mut world));
    world.fail_over();
    world.heal();
    heal_fully(&mut world);
    assert!(world.equal());
}

#[test]
fn a_replica_that_was_sealed_stays_so_when_it_is_filled() {
    let mut world = World::new(6);
    world.ask(OLD, "SET key value");
    world.settle();
    let seal = Epoch(2);
    world
        .node(NEW)
        .with_shards(|shards| shards.seal_asked(&id(OLD), SHARD, seal));
    world.settle();
    world.machines[NEW].stores.damage(SHARD, "a flipped bit");
    world.settle();
    // Nobody was named; the primary takes an epoch that is not refused.
    world.catalog.version += 1;
    world.catalog.shards.get_mut(&SHARD).unwrap().epoch = seal.next();
    let catalog = world.catalog.clone();
    for n in [OLD, NEW] {
        world.node(n).adopt(catalog.clone());
    }
    heal_fully(&mut world);
    assert!(world.equal());
    let shards = &world.node(NEW).shards;
    assert!(!shards.is_damaged(SHARD));
    assert_eq!(
        shards.sealed(SHARD),
        Some((seal, Some(seal))),
        "and its record is kept"
    );
}
