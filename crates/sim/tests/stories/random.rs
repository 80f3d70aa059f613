//! Random scenarios: a few of those that `cargo run -p sim` draws without end.

use sim::{
    scenario::{Limits, Outcome, Scenario},
    world::Faults,
};
use std::{thread, time::Duration};

/// Long enough for a few faults each, short enough for many seeds.
const TIME: Duration = Duration::from_secs(12);

fn limits() -> Limits {
    Limits {
        time: Some(TIME),
        ..Limits::default()
    }
}

fn all(seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    seeds
        .map(|seed| {
            let scenario = Scenario::draw(seed, &limits());
            match scenario.run().1 {
                Ok(outcome) => outcome,
                Err(wrong) => panic!("{}\n{wrong}", scenario.told()),
            }
        })
        .collect()
}

#[test]
fn nothing_breaks_and_every_kind_of_fault_happens() {
    let outcomes = thread::scope(|threads| {
        let halves = [1..46, 46..91].map(|seeds| threads.spawn(|| all(seeds)));
        halves.map(|half| half.join().unwrap()).concat()
    });
    let mut faults = Faults::default();
    for outcome in &outcomes {
        faults += outcome.faults;
    }
    for (kind, count) in faults.by_kind() {
        assert!(count > 0, "{kind} never happened");
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert_eq!(sum(|o| o.judged.gave_up), 0);
    // Of each kind of history there was something to judge.
    assert!(sum(|o| o.judged.operations) > 10_000);
    assert!(sum(|o| o.judged.unknown) > 10);
    assert!(sum(|o| o.sessions.reads) > 10_000);
    assert!(sum(|o| o.owned_writes) > 10_000);
}

#[test]
fn a_seed_tells_the_same_twice_byte_for_byte() {
    for seed in [3, 7, 20] {
        let limits = Limits {
            trace_kept: true,
            ..limits()
        };
        let tell = || Scenario::draw(seed, &limits).run();
        let ((first, ran), (again, _)) = (tell(), tell());
        for (a, b) in first.trace().lines().iter().zip(again.trace().lines()) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(first.trace(), again.trace(), "seed {seed}");
        // What keeps only the hash finds the same one.
        let hashed = Scenario::draw(seed, &self::limits()).run().1;
        assert_eq!(hashed.unwrap().trace, ran.unwrap().trace);
    }
}
