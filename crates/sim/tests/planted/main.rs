//! The simulator proves itself: for each rule of the protocols there is a bug that breaks it
//! (`model::planted`), and each is found within so many seeds. Without a bug the same seeds show
//! nothing.

use model::planted::{Bug, plant};
use sim::scenario::{Limits, Scenario, Trouble};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

const TIME: Duration = Duration::from_secs(15);
/// Each thread has planted what it runs.
const THREADS: usize = 2;

/// A bug, what scenarios are about that meet it, the first seed, and within how many it is found.
struct Row(Bug, Trouble, u64, u64);

/// The seeds of a bug are about three times as many as it took when this was written.
const TABLE: [Row; 14] = [
    Row(Bug::AckBeforeSync, Trouble::Power, 1000, 60),
    Row(Bug::ResumeInOldEpoch, Trouble::Any, 1, 20),
    Row(Bug::PromoteWithoutSealing, Trouble::Takeover, 1000, 20),
    Row(Bug::NoBarrier, Trouble::Takeover, 1000, 100),
    Row(Bug::IgnoreLease, Trouble::Takeover, 1000, 100),
    Row(Bug::ForgetOldLeases, Trouble::Takeover, 1000, 100),
    Row(Bug::AcceptOlderEpoch, Trouble::Any, 1, 60),
    Row(Bug::CountAckTwice, Trouble::Power, 1000, 200),
    Row(Bug::CountLearner, Trouble::Members, 1000, 100),
    Row(Bug::RewindByMerging, Trouble::Takeover, 1000, 30),
    Row(Bug::ForgetSessionAcrossForward, Trouble::Any, 1, 20),
    Row(Bug::RetryForwardedWrite, Trouble::Any, 1, 20),
    Row(Bug::ReplayOneLate, Trouble::Any, 1, 20),
    Row(Bug::ExpireOnReplicaClock, Trouble::Any, 1, 20),
];

fn run(seed: u64, trouble: Trouble) -> Result<(), String> {
    let limits = Limits {
        time: Some(TIME),
        trouble: Some(trouble),
        ..Limits::default()
    };
    let scenario = Scenario::draw(seed, &limits);
    match scenario.run().1 {
        Ok(_) => Ok(()),
        Err(wrong) => Err(format!("{}{wrong}", scenario.told())),
    }
}

/// Runs `work` for each of so many, on all threads, in order of their beginning.
fn on_threads(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    work(n);
                }
            });
        }
    });
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let rows = TABLE.iter().filter(|row| row.0 == bug).count();
        assert_eq!(rows, 1, "{bug:?} has a row of its own");
    }
    let missed = std::sync::Mutex::new(Vec::new());
    on_threads(TABLE.len(), |n| {
        let Row(bug, trouble, from, seeds) = TABLE[n];
        plant(Some(bug));
        let found = (from..from + seeds).find_map(|seed| Some((seed, run(seed, trouble).err()?)));
        plant(None);
        match found {
            Some((seed, wrong)) => {
                let told = wrong
                    .lines()
                    .find(|line| !line.starts_with(' '))
                    .map(str::len);
                let _ = told;
                println!(
                    "{bug:?}: seed {seed} of {trouble:?}, {} of {seeds}",
                    seed - from + 1
                );
            }
            None => missed.lock().unwrap().push(bug),
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn with_nothing_planted_the_same_seeds_show_nothing() {
    let seeds: BTreeSet<(String, u64)> = TABLE
        .iter()
        .flat_map(|Row(_, trouble, from, seeds)| {
            (*from..from + seeds).map(move |seed| (format!("{trouble:?}"), seed))
        })
        .collect();
    let seeds: Vec<(String, u64)> = seeds.into_iter().collect();
    let wrong = std::sync::Mutex::new(Vec::new());
    on_threads(seeds.len(), |n| {
        let (name, seed) = &seeds[n];
        let trouble = Trouble::ALL.into_iter().find(|t| format!("{t:?}") == *name);
        if let Err(told) = run(*seed, trouble.unwrap()) {
            wrong.lock().unwrap().push(told);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
