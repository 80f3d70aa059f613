use super::*;
use crate::random::Random;

/// A number that can be read, set and added to.
struct Number;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Get,
    Set(i64),
    Add(i64),
}

impl Model for Number {
    type State = i64;
    type Action = Ask;
    type Answer = i64;

    fn step(state: &i64, action: &Ask, answer: Option<&i64>) -> Option<i64> {
        let after = match action {
            Ask::Get => *state,
            Ask::Set(to) => *to,
            Ask::Add(by) => state + by,
        };
        answer.is_none_or(|a| *a == after).then_some(after)
    }
}

type History = Vec<Operation<Ask, i64>>;

const STEPS: u64 = 10_000_000;

fn done(called: u64, returned: u64, action: Ask, answer: i64) -> Operation<Ask, i64> {
    Operation {
        called,
        returned: Some((returned, answer)),
        action,
    }
}

fn unknown(called: u64, action: Ask) -> Operation<Ask, i64> {
    Operation {
        called,
        returned: None,
        action,
    }
}

fn verdict(history: &History) -> Verdict {
    check::<Number>(history, &[0], STEPS)
}

fn fits(history: &[Operation<Ask, i64>]) -> bool {
    match verdict(&history.to_vec()) {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable { .. } => false,
        Verdict::GaveUp { steps } => panic!("gave up after {steps} steps: {history:?}"),
    }
}

#[test]
fn a_read_sees_the_last_write_or_one_that_overlaps_it() {
    let set = done(1, 4, Ask::Set(7), 7);
    assert!(fits(&[set.clone(), done(5, 6, Ask::Get, 7)]));
    assert!(!fits(&[set.clone(), done(5, 6, Ask::Get, 0)]));
    assert!(fits(&[set.clone(), done(2, 3, Ask::Get, 0)]));
    assert!(fits(&[set.clone(), done(2, 3, Ask::Get, 7)]));
    // Once one read has seen it, a later one must.
    let seen = done(2, 3, Ask::Get, 7);
    assert!(!fits(&[set, seen, done(4, 5, Ask::Get, 0)]));
}

#[test]
fn what_is_unknown_may_show_late_or_never_but_not_twice_and_not_before_it_was_asked() {
    let add = unknown(3, Ask::Add(5));
    assert!(fits(&[add.clone(), done(10, 11, Ask::Get, 0)]));
    assert!(fits(&[add.clone(), done(10, 11, Ask::Get, 5)]));
    assert!(fits(&[
        add.clone(),
        done(10, 11, Ask::Get, 0),
        done(12, 13, Ask::Get, 5)
    ]));
    assert!(!fits(&[
        add.clone(),
        done(10, 11, Ask::Get, 5),
        done(12, 13, Ask::Get, 0)
    ]));
    assert!(!fits(&[add.clone(), done(10, 11, Ask::Get, 10)]));
    assert!(!fits(&[add, done(1, 2, Ask::Get, 5)]));
}

#[test]
fn equal_unknown_operations_are_no_burden() {
    let mut history: History = (0..40).map(|n| unknown(n, Ask::Add(1))).collect();
    history.push(done(100, 101, Ask::Get, 17));
    history.push(done(102, 103, Ask::Get, 41));
    assert!(!fits(&history));
    history.pop();
    history.push(done(102, 103, Ask::Get, 40));
    assert!(fits(&history));
}

#[test]
fn a_bound_that_is_too_small_is_said() {
    let history: History = (0..30)
        .map(|n| done(n, 100 + n, Ask::Add(1 << n), -1))
        .collect();
    assert!(matches!(
        check::<Number>(&history, &[0], 5),
        Verdict::GaveUp { .. }
    ));
}

#[test]
fn the_operation_that_fits_nowhere_is_named() {
    let history = vec![
        done(1, 2, Ask::Set(1), 1),
        done(3, 4, Ask::Get, 1),
        done(5, 6, Ask::Get, 9),
        done(7, 8, Ask::Get, 1),
    ];
    let expected = Verdict::NotLinearizable {
        explained: 2,
        stuck: 2,
    };
    assert_eq!(verdict(&history), expected);
}

/// Runs clients against one number that really is one, and records what they saw. Values that
/// are set are never the same twice.
fn record(random: &mut Random) -> History {
    struct Busy {
        at: usize,
        takes_effect: u64,
        returns: u64,
    }
    let mut history: History = Vec::new();
    let mut number = 0;
    let mut clients: Vec<Option<Busy>> = Vec::new();
    clients.resize_with(random.between(2, 6) as usize, || None);
    // Operations that nobody waits for any more, and when they take effect.
    let mut late: Vec<(u64, usize)> = Vec::new();
    let (mut moment, mut value) = (0, 1000);
    let length = random.between(10, 90);
    while (history.len() as u64) < length || clients.iter().any(Option::is_some) {
        moment += 1;
        let which = random.below(clients.len() as u64) as usize;
        if clients[which].is_none() && (history.len() as u64) < length {
            value += 1000;
            let action = match random.below(3) {
                0 => Ask::Get,
                1 => Ask::Set(value),
                _ => Ask::Add(random.between(1, 4) as i64),
            };
            let takes_effect = moment + random.below(8);
            let at = history.len();
            if action != Ask::Get && random.once_in(8) {
                // Much later, or never.
                if random.once_in(2) {
                    late.push((takes_effect + random.below(60), at));
                }
            } else {
                clients[which] = Some(Busy {
                    at,
                    takes_effect,
                    returns: takes_effect + 1 + random.below(8),
                });
            }
            history.push(unknown(moment, action));
        }
        let mut apply = |at: usize, history: &History| {
            number = match history[at].action {
                Ask::Get => number,
                Ask::Set(to) => to,
                Ask::Add(by) => number + by,
            };
            number
        };
        for (_, at) in late.iter().filter(|(when, _)| *when == moment) {
            apply(*at, &history);
        }
        for client in &mut clients {
            let Some(busy) = client else { continue };
            if busy.takes_effect == moment {
                let answer = apply(busy.at, &history);
                history[busy.at].returned = Some((busy.returns, answer));
            }
            if busy.returns == moment {
                *client = None;
            }
        }
    }
    history
}

/// A read with an answer, and what it was.
fn reads(history: &History) -> Vec<(usize, i64)> {
    let read = |(at, o): (usize, &Operation<Ask, i64>)| {
        let (_, answer) = o.returned.as_ref()?;
        (o.action == Ask::Get).then_some((at, *answer))
    };
    history.iter().enumerate().filter_map(read).collect()
}

#[test]
fn what_one_number_answered_is_linearizable() {
    for seed in 0..2000 {
        let history = record(&mut Random::new(seed));
        assert_eq!(
            verdict(&history),
            Verdict::Linearizable,
            "{seed}: {history:?}"
        );
    }
}

#[test]
fn every_planted_anomaly_is_found() {
    let mut planted = [0; 4];
    for seed in 0..1000 {
        let random = &mut Random::new(seed);
        let honest = record(random);
        let end = 1
            + (honest.iter())
                .filter_map(|o| o.returned.as_ref().map(|(at, _)| *at))
                .max()
                .unwrap_or(0);

        // A value from nowhere: no sum of increments comes near it.
        let mut history = honest.clone();
        if let Some((at, _)) = random.pick(&reads(&history)).copied() {
            if let Some((_, answer)) = &mut history[at].returned {
                *answer = -1;
            }
            assert!(!fits(&history), "{seed}: nowhere: {history:?}");
            planted[0] += 1;
        }

        // A stale read: two writes after each other, then the former is shown.
        let mut history = honest.clone();
        history.push(done(end, end + 1, Ask::Set(-1_000_000), -1_000_000));
        history.push(done(end + 2, end + 3, Ask::Set(-2_000_000), -2_000_000));
        history.push(done(end + 4, end + 5, Ask::Get, -1_000_000));
        assert!(!fits(&history), "{seed}: stale: {history:?}");
        planted[1] += 1;

        // A lost update: two acknowledged increments, and only one shows.
        let mut history = honest.clone();
        history.push(done(end, end + 1, Ask::Set(-1_000_000), -1_000_000));
        history.push(done(end + 2, end + 5, Ask::Add(40), -999_960));
        history.push(done(end + 3, end + 6, Ask::Add(300), -999_700));
        assert!(!fits(&history), "{seed}: lost: {history:?}");
        planted[2] += 1;

        // An increment that took effect twice, far from all that unknown ones could add.
        let (low, by) = (-1 << 40, 1 << 20);
        let mut history = honest;
        history.push(done(end, end + 1, Ask::Set(low), low));
        history.push(done(end + 2, end + 3, Ask::Add(by), low + by));
        history.push(done(end + 4, end + 5, Ask::Get, low + 2 * by));
        assert!(!fits(&history), "{seed}: twice: {history:?}");
        planted[3] += 1;
    }
    assert!(planted.iter().all(|n| *n > 100), "{planted:?}");
}
