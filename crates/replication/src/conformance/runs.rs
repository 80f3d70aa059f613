//! Many seeds of the suite.

use super::{Rules, World};
use model::EpochHistory;
use std::collections::BTreeMap;

/// What happened in all runs of the suite.
#[derive(Debug, Default)]
pub(crate) struct Happened {
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Epochs that something was acknowledged in.
    pub(crate) epochs: u64,
    /// Reads that waited for a round, and were answered.
    pub(crate) reads: u64,
    /// Members on other disks than before.
    pub(crate) members: u64,
}

/// Runs the suite for one topology: `rules` of each seed.
pub(crate) fn run<R: Rules>(seeds: u64, steps: u64, rules: impl Fn(u64) -> R) -> Happened {
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    let mut happened = Happened::default();
    for seed in 0..seeds {
        let mut world = World::new(seed, rules(seed));
        for _ in 0..steps {
            world.step();
        }
        world.heal();
        happened.reads += world.read;
        happened.acknowledged += world.acknowledged.len() as u64;
        let mut history = EpochHistory::default();
        let held = world
            .hosts
            .iter()
            .find_map(|h| (!h.store.is_empty()).then_some(&h.store));
        held.into_iter()
            .flatten()
            .for_each(|e| history.note(e.position));
        happened.epochs += history.starts().len() as u64;
        happened.members += world.faults.get("member").copied().unwrap_or(0);
        for (fault, times) in world.faults {
            *faults.entry(fault).or_default() += times;
        }
    }
    // A fault that never happened was not survived.
    for fault in [
        "loss",
        "duplicate",
        "crash",
        "down",
        "copy",
        "release",
        "link",
        "truncate",
        "cut",
    ] {
        assert!(
            faults.get(fault).is_some_and(|n| *n > seeds / 20),
            "{fault} was too rare: {faults:?}"
        );
    }
    happened
}
