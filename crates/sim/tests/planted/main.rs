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

/// The first seed.
const FROM: u64 = 1000;

/// A bug, what the scenarios are about that meet it, who says who is primary there, and within how
/// many seeds it is found.
struct Row(Bug, Trouble, Primary, u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Primary {
    Named,
    Elected,
}
use Primary::{Elected, Named};

const TABLE: [Row; 21] = [
    Row(Bug::AckBeforeSync, Trouble::Power, Named, 100),
    Row(Bug::ResumeInOldEpoch, Trouble::Any, Named, 60),
    Row(Bug::PromoteWithoutSealing, Trouble::Takeover, Named, 20),
    Row(Bug::NoBarrier, Trouble::Takeover, Named, 200),
    Row(Bug::IgnoreLease, Trouble::Takeover, Named, 60),
    Row(Bug::ForgetOldLeases, Trouble::Takeover, Named, 300),
    Row(Bug::AcceptOlderEpoch, Trouble::Any, Named, 150),
    Row(Bug::CountAckTwice, Trouble::Power, Named, 300),
    Row(Bug::CountLearner, Trouble::Members, Named, 400),
    Row(Bug::RewindByMerging, Trouble::Takeover, Named, 60),
    Row(Bug::ForgetSessionAcrossForward, Trouble::Any, Named, 60),
    Row(Bug::RetryForwardedWrite, Trouble::Any, Named, 60),
    Row(Bug::ReplayOneLate, Trouble::Power, Named, 60),
    Row(Bug::ExpireOnReplicaClock, Trouble::Any, Named, 60),
    Row(Bug::OfficeWithoutHearing, Trouble::Disks, Named, 100),
    Row(Bug::ForgetGreatestProcess, Trouble::Disks, Named, 300),
    Row(Bug::FollowWallClock, Trouble::Any, Named, 150),
    Row(Bug::ExpireBelowTip, Trouble::Any, Named, 60),
    Row(Bug::RestOnThoughWoken, Trouble::Any, Named, 100),
    Row(Bug::PromiseBeforeSync, Trouble::Power, Elected, 200),
    Row(Bug::CopyWithoutMembers, Trouble::Rare, Elected, 100),
];

/// What is wrong with a seed, with its story; None if nothing is.
fn wrong(seed: u64, trouble: Trouble, primary: Primary) -> Option<String> {
    let limits = Limits {
        time: Some(TIME),
        trouble: Some(trouble),
        consensus: primary == Elected,
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
    let missed = on_threads(&TABLE, |Row(bug, trouble, primary, seeds)| {
        plant(Some(*bug));
        let mut all = FROM..FROM + seeds;
        let found = all.find_map(|seed| Some((seed, wrong(seed, *trouble, *primary)?)));
        plant(None);
        match found {
            Some((seed, wrong)) => {
                // The story comes first, indented but for its head.
                let verdict = wrong.rsplit_once("}\n").map_or(&*wrong, |(_, v)| v);
                let verdict: String = verdict.chars().take(100).collect();
                let within = seed - FROM + 1;
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
    let mut seeds: Vec<(Trouble, Primary, u64)> = Vec::new();
    for Row(_, trouble, primary, count) in &TABLE {
        seeds.extend((FROM..FROM + count).map(|seed| (*trouble, *primary, seed)));
    }
    seeds.sort_by_key(|(trouble, primary, seed)| (*trouble as u8, *primary, *seed));
    seeds.dedup();
    let wrong = on_threads(&seeds, |(trouble, primary, seed)| {
        wrong(*seed, *trouble, *primary)
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
