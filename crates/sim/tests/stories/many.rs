//! Some hundred shards: nothing happens to most of them, most of the time.

use super::{start_with, tell};
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

const SHARDS: usize = 200;

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Writes so many keys, all over the shards, and reads each from another node, where it may not
/// be there yet, but must be soon.
fn write(world: &mut World, node: &str, keys: std::ops::Range<u32>) -> Result<(), Wrong> {
    for key in keys {
        let key = format!("k{key}");
        match world.ask(node, Some("many"), &["SET", &key, "v"])? {
            resp::Frame::Simple(_) => {}
            other => return Err(Wrong(format!("SET {key}: {other:?}"))),
        }
    }
    Ok(())
}

/// They are created and take writes at once; come to rest; one wakes when it is written to; a
/// node dies, and all that it led has another primary soon; it comes back, and all are level.
fn many_shards(world: &mut World) -> Result<(), Wrong> {
    start_with(world, &["us-1", "us-2", "us-3"], &[0, 1, 2], 1 << 20)?;
    let began = world.now();
    let line = format!("KEYSPACE CREATE many PLACE us=3 SHARDS {SHARDS}");
    world.order("us-1", &line.split(' ').collect::<Vec<_>>())?;
    let took = world.now() - began;
    if took > s(3) {
        return Err(Wrong(format!("created after {took:?}")));
    }
    write(world, "us-1", 0..20)?;
    world.run_for(s(3))?;
    let before = world.messages_sent();
    world.run_for(s(2))?;
    // Between three nodes there are six ways. A heartbeat for each shard and replica, and its
    // acknowledgement, would be 16,000 messages in this time.
    let sent = world.messages_sent() - before;
    if sent > 1200 {
        return Err(Wrong(format!("{sent} messages in 2 s of rest")));
    }
    write(world, "us-2", 20..40)?;
    world.until_settled()?;
    world.run_for(s(2))?;

    world.crash("us-3", Moment::Now)?;
    let began = world.now();
    loop {
        let status = world.status("us-1")?;
        let shards = status["keyspaces"][0]["shards"].as_array();
        let led = |shard: &serde_json::Value| {
            let replicas = shard["replicas"].as_array().into_iter().flatten();
            let mut primary = replicas.filter(|r| r["node"] == shard["primary"]);
            shard["primary"] != "us-3" && primary.any(|r| r["caught_up"] == true)
        };
        if shards.is_some_and(|shards| shards.iter().all(led)) {
            break;
        }
        if world.now() - began > s(4) {
            return Err(Wrong(format!("not led after {:?}", world.now() - began)));
        }
        world.run_for(Duration::from_millis(50))?;
    }
    write(world, "us-1", 40..60)?;
    world.start("us-3")?;
    world.until_settled()?;
    world.verify("many")
}

#[test]
fn many_shards_come_rest_wake_and_get_another_primary() {
    tell(900..902, many_shards);
}
