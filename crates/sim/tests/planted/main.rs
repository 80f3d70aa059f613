//! The simulator proves itself: for each rule of the protocols there is a bug that breaks it
//! (`model::planted`), and each is found within so many seeds. Without a bug the same seeds show
//! nothing.

use model::planted::{Bug, plant};
use sim::scenario::{Limits, Scenario, Trouble};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

const TIME: Duration = Duration::from_secs(15);
/// Bugs are planted in a thread, so each thread has one of its own.
const THREADS: usize = 2;

/// A bug, what the scenarios are about that meet it, the first seed, and within how many it is
/// found.
struct Row(Bug, Trouble, u64, u64);

const TABLE: [Row; 19] = [
    Row(Bug::AckBeforeSync, Trouble::Power, 1000, 100),
    Row(Bug::ResumeInOldEpoch, Trouble::Any, 1000, 60),
    Row(Bug::PromoteWithoutSealing, Trouble::Takeover, 1000, 20),
    Row(Bug::NoBarrier, Trouble::Takeover, 1000, 200),
    Row(Bug::IgnoreLease, Trouble::Takeover, 1000, 60),
    Row(Bug::ForgetOldLeases, Trouble::Takeover, 1000, 300),
    Row(Bug::AcceptOlderEpoch, Trouble::Any, 1000, 150),
    Row(Bug::CountAckTwice, Trouble::Power, 1000, 300),
    Row(Bug::CountLearner, Trouble::Members, 1000, 400),
    Row(Bug::RewindByMerging, Trouble::Takeover, 1000, 60),
    Row(Bug::ForgetSessionAcrossForward, Trouble::Any, 1000, 60),
    Row(Bug::RetryForwardedWrite, Trouble::Any, 1000, 60),
    Row(Bug::ReplayOneLate, Trouble::Power, 1000, 60),
    Row(Bug::ExpireOnReplicaClock, Trouble::Any, 1000, 60),
    Row(Bug::OfficeWithoutHearing, Trouble::Disks, 1000, 100),
    Row(Bug::ForgetGreatestProcess, Trouble::Disks, 1000, 300),
    Row(Bug::FollowWallClock, Trouble::Any, 1000, 150),
    Row(Bug::ExpireBelowTip, Trouble::Any, 1000, 60),
    Row(Bug::RestOnThoughWoken, Trouble::Any, 1000, 100),
];

/// What is wrong with a seed, with its story; None if nothing is.
fn wrong(seed: u64, trouble: Trouble) -> Option<String> {
    let limits = Limits {
        time: Some(TIME),
        trouble: Some(trouble),
        ..Limits::default()
    };
    let scenario = Scenario::draw(seed, &limits);
    let wrong = scenario.run().1.err()?;
    Some(format!("{}{wrong}", scenario.told()))
}

/// What `work` makes of each, on all threads.
fn on_threads<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> Option<O> + Sync) -> Vec<O> {
    let next = AtomicUsize::new(0);
    thread::scope(|threads| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                threads.spawn(|| {
                    let mut made = Vec::new();
                    while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                        made.extend(work(item));
                    }
                    made
                })
            })
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<O>>| match worker.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect()
    })
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let rows = TABLE.iter().filter(|row| row.0 == bug).count();
        assert_eq!(rows, 1, "{bug:?} has a row of its own");
    }
    let missed = on_threads(&TABLE, |Row(bug, trouble, from, seeds)| {
        plant(Some(*bug));
        let found = (*from..from + seeds).find_map(|seed| Some((seed, wrong(seed, *trouble)?)));
        plant(None);
        match found {
            Some((seed, wrong)) => {
                // The story comes first, indented but for its head.
                let verdict = wrong.rsplit_once("}\n").map_or(&*wrong, |(_, v)| v);
                let verdict: String = verdict.chars().take(100).collect();
                let within = seed - from + 1;
                println!("{bug:?}: found within {within} of {seeds} seeds: {verdict}");
                None
            }
            None => Some(*bug),
        }
    });
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn with_nothing_planted_the_same_seeds_show_nothing() {
    let mut seeds: Vec<(Trouble, u64)> = Vec::new();
    for Row(_, trouble, from, count) in &TABLE {
        seeds.extend((*from..from + count).map(|seed| (*trouble, seed)));
    }
    seeds.sort_by_key(|(trouble, seed)| (*trouble as u8, *seed));
    seeds.dedup();
    let wrong = on_threads(&seeds, |(trouble, seed)| wrong(*seed, *trouble));
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
