//! A replica whose disk is lost comes back empty and is filled by a copy.

use super::{
    crashes::{RULES, begin_with, end},
    start_with, tell,
};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

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

/// What `primary` is told of the copy on `node`: keys that have arrived, of how many.
fn progress(world: &mut World, primary: &str, node: &str) -> Result<Option<(u64, u64)>, Wrong> {
    let status = world.status(primary)?;
    let replicas = status["keyspaces"][0]["shards"][0]["replicas"].as_array();
    let of_it = |r: &&serde_json::Value| r["node"] == node;
    let replica = replicas.into_iter().flatten().find(of_it);
    let copy = replica.map(|r| &r["copy"]);
    Ok(copy.and_then(|c| Some((c["keys"].as_u64()?, c["keys_total"].as_u64()?))))
}

fn is_under_way(world: &mut World, primary: &str, node: &str) -> Result<(u64, u64), Wrong> {
    for _ in 0..500 {
        match progress(world, primary, node)? {
            Some((keys, total)) if 0 < keys && keys < total => return Ok((keys, total)),
            _ => world.run_for(ms(20))?,
        }
    }
    Err(Wrong(format!("no copy to {node} is under way")))
}

/// While a copy is given at a low rate its connection breaks again and again; clients write and
/// read all the time. It goes on where it was.
fn a_copy_outlives_its_connections(world: &mut World) -> Result<(), Wrong> {
    start_with(world, &["us-1", "us-2", "us-3", "eu-1"], &[3], 96 << 10)?;
    let rule = RULES[world.random().below(3) as usize];
    let line = format!("KEYSPACE CREATE profiles ACK {rule} FAILOVER safe PLACE us=3");
    world.order("eu-1", &line.split(' ').collect::<Vec<_>>())?;
    let first = world.primary_of("profiles")?;
    for n in 0..2500 {
        let (key, value) = (format!("filled:{n}"), "v".repeat(900));
        world.ask(&first, Some("profiles"), &["SET", &key, &value])?;
    }
    world.run_for(Duration::from_secs(4))?;
    // The log has lost its beginning; what nodes keep of it in memory goes with them.
    for node in ["us-1", "us-2", "us-3"] {
        world.crash(node, Moment::Now)?;
    }
    for node in ["us-1", "us-2", "us-3"] {
        world.start(node)?;
    }
    world.every_shard_serves("eu-1", "profiles")?;
    world.until_settled()?;
    let primary = world.primary_of("profiles")?;
    for node in ["us-1", "us-2", "us-3"] {
        let rate = ["CONFIG", "SET", "copy-bytes-per-second", "262144"];
        world.ask(node, None, &rate)?;
    }
    world.add_clients(2, "profiles");
    let replica = if primary == "us-2" { "us-3" } else { "us-2" };
    world.crash(replica, Moment::Now)?;
    world.replace_disk(replica)?;
    world.start(replica)?;
    let mut seen = 0;
    for turn in 0..5 {
        let (keys, total) = is_under_way(world, &primary, replica)?;
        if keys < seen || total < 2500 {
            return Err(Wrong(format!("{keys} of {total} keys, after {seen}")));
        }
        seen = keys;
        if turn % 2 == 0 {
            world.cut(&primary, replica)?;
            let time = world.random().between(50, 700);
            world.run_for(ms(time))?;
            world.heal(&primary, replica)?;
        } else {
            world.break_link(&primary, replica)?;
            world.break_link(replica, &primary)?;
        }
        world.run_for(ms(800))?;
    }
    world.run_for(Duration::from_secs(15))?;
    end(world)?;
    if progress(world, &primary, replica)?.is_some() {
        return Err(Wrong("a copy that has ended is still told of".into()));
    }
    let info = format!("{:?}", world.ask(replica, None, &["INFO", "replication"])?);
    if !info.contains("copies:1\\r\\ncopying_shards:0") {
        return Err(Wrong(format!("it was begun more than once: {info}")));
    }
    Ok(())
}

#[test]
fn a_copy_goes_on_where_its_connection_broke() {
    tell(440..446, a_copy_outlives_its_connections);
}
