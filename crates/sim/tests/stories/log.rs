//! The log that all shards of a node and the control group share.

use super::{start_with, tell};
use resp::Frame;
use sim::{World, world::Wrong};
use std::time::Duration;

/// What a node keeps for others, and what of it may be left beside that: segments that are partly
/// needed, and what is written before it is looked at again.
const RETENTION: u64 = 96 << 10;
const SLACK: u64 = 512 << 10;

/// Nothing happens to the catalog while much is written: its records must not hold the log.
fn only_shards_write(world: &mut World) -> Result<(), Wrong> {
    let nodes = ["us-1", "us-2", "eu-1"];
    start_with(world, &nodes, &[0, 1, 2], RETENTION)?;
    world.create_keyspace("profiles", "ACK quorum")?;
    let primary = world.primary_of("profiles")?;
    for round in 0..4 {
        for n in 0..600 {
            let (key, value) = (format!("k:{n}"), "v".repeat(2000));
            world.ask(&primary, Some("profiles"), &["SET", &key, &value])?;
        }
        world.run_for(Duration::from_secs(5))?;
        for node in nodes {
            let bytes = log_bytes(world, node)?;
            if bytes > RETENTION + SLACK {
                return Err(Wrong(format!(
                    "round {round}: the log of {node} has {bytes} bytes"
                )));
            }
        }
    }
    Ok(())
}

fn log_bytes(world: &mut World, node: &str) -> Result<u64, Wrong> {
    let Frame::Bulk(text) = world.ask(node, None, &["INFO", "persistence"])? else {
        return Err(Wrong("INFO is no text".into()));
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|l| l.strip_prefix("log_bytes:"));
    line.and_then(|n| n.trim().parse().ok())
        .ok_or_else(|| Wrong(format!("no log_bytes in {text}")))
}

#[test]
fn a_quiet_catalog_does_not_hold_the_log() {
    tell(700..704, only_shards_write);
}
