//! Nodes of two releases in one cluster, under load (docs/adr/0017-versions).

use super::{crashes::end, tell};
use resp::Frame;
use sim::{Moment, World, world::Wrong};
use std::{cell::Cell, time::Duration};

const NODES: [&str; 3] = ["us-1", "us-2", "eu-1"];
const THIS: bool = false;
const NEXT: bool = true;
/// The level of the next release, and of this one.
const NEW: u32 = 2;
const OLD: u32 = 1;

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

fn level_command(world: &mut World, node: &str, word: &str) -> Result<Frame, Wrong> {
    world.ask(node, None, &["QUIRE", "LEVEL", word])
}

fn ends(world: &mut World, node: &str) -> Result<(), Wrong> {
    match world.random().below(3) {
        0 => world.end(node),
        1 => world.kill(node),
        _ => world.crash(node, Moment::Now),
    }
}

/// A node is stopped, in order or not, and started with another release.
fn changes(world: &mut World, node: &str, to: bool) -> Result<(), Wrong> {
    ends(world, node)?;
    let away = world.random().between(1, 800);
    world.run_for(ms(away))?;
    world.install(node, to)?;
    world.start(node)?;
    let back = world.random().between(500, 2500);
    world.run_for(ms(back))
}

/// Below the level nothing of the next release was done or sent.
fn nothing_is_new(world: &mut World) -> Result<(), Wrong> {
    for node in NODES {
        let mut of = |name| world.level_figure(node, name);
        let found = (
            of("level")?,
            of("unknown_messages")?,
            of("messages")?,
            of("records")?,
            of("commands")?,
        );
        if found != (u64::from(OLD), 0, 0, 0, 0) {
            return Err(Wrong(format!(
                "at {node} there is something new: {found:?}"
            )));
        }
    }
    Ok(())
}

fn until_all_are_at(world: &mut World, level: u32) -> Result<(), Wrong> {
    let until = world.now() + ms(30_000);
    while world.now() < until {
        let mut at = 0;
        for node in NODES {
            at += usize::from(world.level(node)? == Some(level));
        }
        if at == NODES.len() {
            return Ok(());
        }
        world.run_for(ms(50))?;
    }
    Err(Wrong(format!("not all are at level {level}")))
}

fn is_told_of_the_level(why: &str) -> Result<(), Wrong> {
    // Where newer records stand before the mark, they are what is refused.
    let by_level = why.contains(&format!("knows level {NEW}"));
    match by_level || why.contains("newer release wrote: start the node with that release") {
        true => Ok(()),
        false => Err(Wrong(format!("it is not told what to start: {why}"))),
    }
}

fn upgraded_back_and_again(world: &mut World) -> Result<(), Wrong> {
    begin(world)?;
    if level_command(world, "us-1", "HOLD")?.as_error().is_some() {
        return Err(Wrong("the level is not held".into()));
    }
    for node in NODES {
        changes(world, node, NEXT)?;
    }
    world.until_all_are_up()?;
    // Longer than it takes by itself.
    world.run_for(ms(8000))?;
    nothing_is_new(world)?;
    for _ in 0..world.random().between(1, 3) {
        let node = NODES[world.random().below(3) as usize];
        changes(world, node, THIS)?;
    }
    world.until_all_are_up()?;
    nothing_is_new(world)?;
    for node in NODES {
        changes(world, node, NEXT)?;
    }
    world.until_all_are_up()?;
    let word = ["AUTO", "2"][world.random().below(2) as usize];
    let at = NODES[world.random().below(3) as usize];
    // Not before the last one has registered.
    let until = world.now() + ms(10_000);
    while let Some(error) = level_command(world, at, word)?.as_error() {
        if world.now() > until {
            return Err(Wrong(format!("LEVEL {word}: {error:?}")));
        }
        world.run_for(ms(100))?;
    }
    until_all_are_at(world, NEW)?;
    world.run_for(ms(4000))?;
    for node in NODES {
        for name in ["messages", "records"] {
            if world.level_figure(node, name)? == 0 {
                return Err(Wrong(format!("{node} has nothing new: {name}")));
            }
        }
        if world.level_figure(node, "commands")? != NODES.len() as u64 {
            return Err(Wrong(format!("at {node} a command is missing")));
        }
    }
    // What is new on the disk is read back, by who knows it.
    let node = NODES[world.random().below(3) as usize];
    changes(world, node, NEXT)?;
    world.until_all_are_up()?;

    // And by nobody else.
    ends(world, node)?;
    world.install(node, THIS)?;
    match world.start_in_doubt(node)? {
        Some(why) => is_told_of_the_level(&why)?,
        None => return Err(Wrong(format!("{node} opens what it does not know"))),
    }
    // On an empty disk it learns it from the others.
    world.replace_disk(node)?;
    if let Some(why) = world.start_in_doubt(node)? {
        return Err(Wrong(format!("{node} does not open an empty disk: {why}")));
    }
    world.run_for(ms(4000))?;
    match world.last_words(node)? {
        Some(why) => is_told_of_the_level(why)?,
        None => return Err(Wrong(format!("{node} goes on, and is too old"))),
    }
    world.install(node, NEXT)?;
    world.start(node)?;
    world.run_for(ms(3000))?;
    end(world)
}

#[test]
fn a_cluster_is_upgraded_node_by_node_and_back_and_nothing_is_lost() {
    tell(1700..1716, upgraded_back_and_again);
}

/// In the moment in which an operator raises the level a node goes back. It is registered first,
/// and the raise is refused; or it is refused itself.
fn one_goes_back_as_the_level_is_raised(world: &mut World) -> Result<bool, Wrong> {
    begin(world)?;
    level_command(world, "us-1", "HOLD")?;
    for node in NODES {
        changes(world, node, NEXT)?;
    }
    world.until_all_are_up()?;
    world.run_for(ms(1000))?;
    let node = NODES[world.random().below(3) as usize];
    let at = NODES
        .into_iter()
        .find(|other| *other != node)
        .unwrap_or(node);
    ends(world, node)?;
    world.install(node, THIS)?;
    let conn = world.open_session(at, "profiles")?;
    let wait = world.random().below(400);
    let first = world.random().once_in(2);
    let mut refused = None;
    if first {
        world.send(at, conn, &["QUIRE", "LEVEL", "2"])?;
        world.run_for(ms(wait / 4))?;
    }
    if world.start_in_doubt(node)?.is_some() {
        refused = Some("it does not open");
    }
    if !first {
        world.run_for(ms(wait))?;
        world.send(at, conn, &["QUIRE", "LEVEL", "2"])?;
    }
    world.run_for(ms(12_000))?;
    let raised = world.level(at)? == Some(NEW);
    if world.last_words(node)?.is_some() {
        refused = Some("it stopped");
    }
    if raised != refused.is_some() {
        return Err(Wrong(format!("raised {raised}, {node} {refused:?}")));
    }
    if raised {
        world.install(node, NEXT)?;
        world.start(node)?;
    } else {
        nothing_is_new(world)?;
    }
    world.run_for(ms(3000))?;
    end(world)?;
    Ok(raised)
}

#[test]
fn a_node_that_goes_back_as_the_level_is_raised_is_either_first_or_refused() {
    let raised = Cell::new([0, 0]);
    tell(1720..1744, |world| {
        let mut count = raised.get();
        count[usize::from(one_goes_back_as_the_level_is_raised(world)?)] += 1;
        raised.set(count);
        Ok(())
    });
    if std::env::var_os("SIM_SEED").is_none() {
        let [refused, raised] = raised.get();
        assert!(refused > 0 && raised > 0, "{refused} {raised}");
    }
}
