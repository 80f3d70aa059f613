//! Stories of whole clusters, over many seeds.
//!
//! `SIM_SEED=7 cargo test -p sim <story> -- --nocapture` tells one of them line by line,
//! `SIM_SEED=0..1000` many.

mod clocks;
mod copy;
mod crashes;
mod cuts;
mod disks;
mod failover;
mod handover;
mod log;
mod many;
mod members;
mod random;
mod sessions;
mod stalls;
mod trace;
mod transactions;
mod versions;

use sim::{
    World,
    world::{Setup, Wrong},
};

/// Begins a world of `nodes`, named `<region>-<n>`, instead of the usual one, and starts them all.
fn start_with(
    world: &mut World,
    nodes: &[&str],
    voters: &[usize],
    log_retention_bytes: u64,
) -> Result<(), Wrong> {
    let named = |node: &&str| {
        let region = node.split('-').next().unwrap_or(node);
        (node.to_string(), region.to_owned())
    };
    let setup = Setup {
        nodes: nodes.iter().map(named).collect(),
        voters: voters.to_vec(),
        log_retention_bytes,
        trace_kept: true,
    };
    *world = World::with(&setup, world.random().clone());
    world.start_all()?;
    world.until_all_are_up()
}

/// Tells a story once for each seed; the first that goes wrong is reported with its seed.
fn tell(seeds: std::ops::Range<u64>, story: impl Fn(&mut World) -> Result<(), Wrong>) {
    let wanted = std::env::var("SIM_SEED").unwrap_or_default();
    let number = |text: &str| -> Option<u64> { text.parse().ok() };
    let only = number(&wanted);
    let range = wanted
        .split_once("..")
        .and_then(|(from, to)| Some(number(from)?..number(to)?));
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => range.unwrap_or(seeds),
    };
    if only.is_some() {
        let _ = tracing_subscriber::fmt().without_time().try_init();
    }
    for seed in seeds {
        let mut world = World::new(seed);
        let told = story(&mut world);
        if only.is_some() {
            println!("{}", world.trace().tail(usize::MAX));
        }
        if let Err(wrong) = told {
            let tail = world.trace().tail(40);
            panic!("seed {seed}: {wrong}\nthe last that happened:\n{tail}");
        }
    }
}
