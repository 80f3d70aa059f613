//! Links are cut without a word, and healed.

use super::{
    crashes::{begin, end},
    tell,
};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn links_are_cut_and_healed(world: &mut World) -> Result<(), Wrong> {
    begin(world)?;
    for _ in 0..3 {
        let (a, b) = [("us-1", "us-2"), ("us-1", "eu-1"), ("us-2", "eu-1")]
            [world.random().below(3) as usize];
        world.cut(a, b)?;
        let away = world.random().between(50, 3000);
        world.run_for(ms(away))?;
        world.heal(a, b)?;
        let back = world.random().between(50, 2000);
        world.run_for(ms(back))?;
    }
    end(world)?;
    let faults = world.faults();
    if faults.cuts != 6 || faults.messages_lost == 0 {
        return Err(Wrong(format!("the links were not cut: {faults:?}")));
    }
    Ok(())
}

#[test]
fn nothing_is_lost_when_links_are_cut_and_healed() {
    tell(200..212, links_are_cut_and_healed);
}

fn writes_to_a_dead_primary_are_answered(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK async FAILOVER safe")?;
    let primary = world.primary_of("profiles")?;
    let other = if primary == "us-2" { "us-1" } else { "us-2" };
    world.ask(other, Some("profiles"), &["SET", "k", "before"])?;
    // Under this rule a write is acknowledged before it is anywhere else.
    world.run_for(ms(300))?;
    world.crash(&primary, Moment::Now)?;
    let pause = world.random().below(1500);
    world.run_for(ms(pause))?;
    let asked = world.now();
    let reply = world.ask(other, Some("profiles"), &["SET", "k", "after"])?;
    let took = world.now() - asked;
    let Frame::Error(line) = reply else {
        return Err(Wrong(format!(
            "a write without a primary was answered {reply:?}"
        )));
    };
    let line = String::from_utf8_lossy(&line).into_owned();
    let clear = line.starts_with("NOPRIMARY") || line.starts_with("UNKNOWN");
    if !clear || took > ms(1000) {
        return Err(Wrong(format!("answered after {took:?}: {line}")));
    }
    // What was kept is read at a replica all the same.
    let read = world.ask(other, Some("profiles"), &["GET", "k"])?;
    if read != Frame::Bulk("before".into()) {
        return Err(Wrong(format!("a replica answered {read:?}")));
    }
    Ok(())
}

#[test]
fn a_write_to_a_dead_primary_is_answered_within_a_second() {
    tell(300..320, writes_to_a_dead_primary_are_answered);
}
