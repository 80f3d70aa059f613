//! What one connection sees while its writes wait for replicas.

use super::tell;
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One write of a connection is given up, a later one is not: a read behind that one must
/// show it, because it is acknowledged first.
fn a_read_follows_the_write_that_was_not_given_up(world: &mut World) -> Result<(), Wrong> {
    world.start_all()?;
    world.until_all_are_up()?;
    world.create_keyspace("profiles", "ACK semi-sync:1 ON_TIMEOUT error TIMEOUT 1500")?;
    let primary = world.primary_of("profiles")?;
    let other = if primary == "us-2" { "us-1" } else { "us-2" };
    let conn = world.open_session(&primary, "profiles")?;
    world.run_for(ms(200))?;
    world.crash(other, Moment::Now)?;
    world.send(&primary, conn, &["SET", "first", "1"])?;
    world.run_for(ms(1400))?;
    world.send(&primary, conn, &["SET", "second", "2"])?;
    world.run_for(ms(200))?;
    world.send(&primary, conn, &["GET", "second"])?;
    // The first write is given up by now; the replica has 1.3 s until the second one is.
    world.start(other)?;
    world.run_for(ms(2000))?;
    match world.answers(conn) {
        [_, Frame::Error(first), Frame::Simple(_), Frame::Bulk(read)]
            if first.starts_with(b"UNKNOWN") && read == "2" =>
        {
            Ok(())
        }
        answers => Err(Wrong(format!("not what the story is about: {answers:?}"))),
    }
}

#[test]
fn a_read_behind_an_acknowledged_write_shows_it() {
    tell(500..510, a_read_follows_the_write_that_was_not_given_up);
}
