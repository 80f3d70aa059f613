//! Values that several clients change at once, each change showing what was there before: what
//! linearizability is judged by.
//!
//! ```text
//!   RegisterClient ── GETSET k 17 ──▶ node ──▶ … ──▶ primary
//!        │ call, return                                        what failovers lost (`Lost`)
//!        ▼                                                              │
//!   Registers: a history for each key ────────── check ◀────────────────┘
//!                                                  └──▶ the key whose history fits no single copy
//! ```
//! Reads at replicas are consistent within a session, not linearizable. So every command here
//! is one that changes something and answers with what it found: it is evaluated by the
//! primary, whoever took it.
//!
//! # What a failover may lose, and how that is judged
//! Where the rule allows it (`async`, `FAILOVER available`), a failover throws away a tail and
//! its former holders save it to files. A change that stands in such a file is one **whose
//! outcome is unknown**, though it was acknowledged: it took effect on a branch that may be
//! gone. It is not taken for one that never happened, because a holder that saved its tail can
//! still be named before it has cut it. Whatever was built on a lost change is in the same tail
//! behind it, so it is in the file too. All other acknowledged changes must fit one order
//! without a gap: an acknowledged change that is in no file and that no later one shows is
//! found.
//!
//! Values are never used twice, so an unknown change whose value nobody was shown need not be
//! tried: had it taken effect, the next one would have shown it.

use crate::{
    client::is_refusal,
    linearizability::{self, Model, Operation, Verdict},
    lost::Lost,
    random::Random,
};
use bytes::Bytes;
use resp::Frame;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Keys in use at a time.
const KEYS: u64 = 4;
/// Operations on a key, and unknown ones among them, after which another key takes its place.
const OPERATIONS_MAX: usize = 80;
const UNKNOWN_MAX: usize = 8;
const STEPS_MAX: u64 = 3_000_000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// GETSET: answered with the value before.
    Swap(i64),
    /// GETDEL: answered with the value before.
    Take,
    /// INCRBY: answered with the value after.
    Add(i64),
    /// SET NX GET: answered with the value before; a read, if there was one.
    Fill(i64),
    /// GET at the primary, or of a cluster at rest.
    Read,
}

/// One key. 0 stands for absence.
struct Register;

impl Model for Register {
    type State = i64;
    type Action = Action;
    type Answer = i64;

    fn step(state: &i64, action: &Action, answer: Option<&i64>) -> Option<i64> {
        let (shown, after) = match action {
            Action::Swap(to) => (*state, *to),
            Action::Take => (*state, 0),
            Action::Add(by) => (state + by, state + by),
            Action::Fill(to) if *state == 0 => (0, *to),
            Action::Fill(_) => (*state, *state),
            Action::Read => (*state, *state),
        };
        answer.is_none_or(|a| *a == shown).then_some(after)
    }
}

type Call = Operation<Action, i64>;

/// All histories.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    lossy: bool,
    /// Grows with each value that is written.
    values: i64,
    names: u64,
    current: Vec<String>,
    /// By key; None was refused.
    histories: BTreeMap<String, Vec<Option<Call>>>,
    unknown: BTreeMap<String, usize>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Keys.
    pub histories: u64,
    /// Operations with a known outcome on them.
    pub operations: u64,
    /// Operations whose outcome nobody knows.
    pub unknown: u64,
    /// Keys on which the search gave up: nothing is known of these.
    pub gave_up: u64,
}

impl Registers {
    /// `lossy`: only what a file of lost changes can name is written.
    pub(crate) fn begin(&mut self, lossy: bool) {
        self.lossy = lossy;
        self.current = (0..KEYS).map(|_| self.fresh_name()).collect();
    }

    fn fresh_name(&mut self) -> String {
        self.names += 1;
        // Every third is a counter, whose sums a file of lost changes can't tell apart.
        let kind = if !self.lossy && self.names.is_multiple_of(3) {
            "sum"
        } else {
            "swap"
        };
        format!("{kind}:{}", self.names)
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.histories.keys().cloned().collect()
    }

    fn call(&mut self, random: &mut Random, at: &Place<'_>, reads: bool) -> (Sent, Vec<Bytes>) {
        let n = random.below(KEYS) as usize;
        let spent = |key: &String| {
            self.histories.get(key).map_or(0, Vec::len) >= OPERATIONS_MAX
                || self.unknown.get(key).is_some_and(|u| *u >= UNKNOWN_MAX)
        };
        if spent(&self.current[n]) {
            self.current[n] = self.fresh_name();
        }
        let key = self.current[n].clone();
        // Where a tail may be lost, so may what a read showed.
        let office = (at.office)(&key).filter(|_| !self.lossy);
        let action = if office.is_some() && (reads || random.once_in(4)) {
            Action::Read
        } else if key.starts_with("sum") {
            Action::Add(random.between(1, 9) as i64)
        } else if !self.lossy && random.once_in(6) {
            Action::Take
        } else {
            self.values += 1;
            if !self.lossy && (reads || random.once_in(4)) {
                Action::Fill(self.values)
            } else {
                Action::Swap(self.values)
            }
        };
        let (name, argument, options): (_, _, &[&'static str]) = match action {
            Action::Swap(value) => ("GETSET", Some(value), &[]),
            Action::Add(by) => ("INCRBY", Some(by), &[]),
            Action::Take => ("GETDEL", None, &[]),
            Action::Fill(value) => ("SET", Some(value), &["NX", "GET"]),
            Action::Read => ("GET", None, &[]),
        };
        let mut words = vec![name.into(), Bytes::from(key.clone())];
        words.extend(argument.map(|n| Bytes::from(n.to_string())));
        words.extend(options.iter().map(|o| Bytes::from(*o)));
        let history = self.histories.entry(key.clone()).or_default();
        history.push(Some(Operation {
            called: at.moment,
            returned: None,
            action,
        }));
        let sent = Sent {
            at: history.len() - 1,
            key,
            read_at: (action == Action::Read).then_some((office, at.now)),
        };
        (sent, words)
    }

    fn operation(&mut self, sent: &Sent) -> Option<&mut Option<Call>> {
        self.histories.get_mut(&sent.key)?.get_mut(sent.at)
    }

    /// As if it had never been asked.
    fn forget(&mut self, sent: &Sent) {
        if let Some(operation) = self.operation(sent) {
            *operation = None;
        }
    }

    fn is_unknown(&mut self, sent: &Sent) {
        if sent.read_at.is_some() {
            return self.forget(sent);
        }
        *self.unknown.entry(sent.key.clone()).or_default() += 1;
    }

    /// Judges every key. `finals` is what each holds at the end.
    pub(crate) fn check(
        &self,
        finals: &BTreeMap<String, i64>,
        lost: &Lost,
    ) -> Result<Judged, String> {
        let mut judged = Judged::default();
        for (key, calls) in &self.histories {
            let history = history(key, calls, finals.get(key).copied(), lost);
            judged.histories += 1;
            let known = history.iter().filter(|o| o.returned.is_some()).count();
            judged.operations += known as u64;
            judged.unknown += (history.len() - known) as u64;
            match linearizability::check::<Register>(&history, &[0], STEPS_MAX) {
                Verdict::Linearizable => {}
                Verdict::GaveUp { .. } => judged.gave_up += 1,
                Verdict::NotLinearizable { stuck, .. } => {
                    return Err(format!(
                        "what clients saw of {key} fits no single copy; what fits nowhere is {:?} in\n{}",
                        history.get(stuck),
                        told(&history)
                    ));
                }
            }
        }
        Ok(judged)
    }
}

fn told(history: &[Call]) -> String {
    let lines = history.iter().map(|o| match o.returned {
        Some((at, shown)) => format!("  {}..{at} {:?} → {shown}\n", o.called, o.action),
        None => format!("  {}.. {:?} unknown\n", o.called, o.action),
    });
    lines.collect()
}

/// What is to be judged of a key's calls.
fn history(key: &str, calls: &[Option<Call>], end: Option<i64>, lost: &Lost) -> Vec<Call> {
    let mut history: Vec<Call> = calls.iter().flatten().cloned().collect();
    for call in &mut history {
        if let Action::Swap(value) = call.action
            && lost.holds(key, &value.to_string())
        {
            call.returned = None;
        }
    }
    if let Some(shown) = end {
        history.push(Operation {
            called: u64::MAX - 1,
            returned: Some((u64::MAX, shown)),
            action: Action::Read,
        });
    }
    let shown: BTreeSet<i64> = (history.iter())
        .filter_map(|o| Some(o.returned.as_ref()?.1))
        .collect();
    history.retain(|o| match o.action {
        Action::Swap(value) | Action::Fill(value) => o.returned.is_some() || shown.contains(&value),
        _ => true,
    });
    history
}

/// A command that was not answered yet.
#[derive(Debug)]
struct Sent {
    key: String,
    at: usize,
    /// Of a read: the epoch in which this node was primary, and when.
    read_at: Option<(Option<u64>, Duration)>,
}

/// Where and when a client acts.
pub(crate) struct Place<'a> {
    /// As a number that only grows.
    pub(crate) moment: u64,
    pub(crate) now: Duration,
    /// The epoch in which the client's node is primary of a key, for all that it knows.
    pub(crate) office: &'a dyn Fn(&str) -> Option<u64>,
}

/// A client of registers.
#[derive(Debug)]
pub(crate) struct RegisterClient {
    /// Whether it rather reads: a write in doubt keeps a client from asking on.
    reads: bool,
    sent: VecDeque<Sent>,
}

impl RegisterClient {
    pub(crate) fn new(reads: bool) -> Self {
        RegisterClient {
            reads,
            sent: VecDeque::new(),
        }
    }

    pub(crate) fn waits_for(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn next_commands(
        &mut self,
        random: &mut Random,
        registers: &mut Registers,
        place: &Place<'_>,
        most: u64,
    ) -> Vec<Vec<Bytes>> {
        let count = if random.once_in(4) { 2.min(most) } else { 1 };
        (0..count)
            .map(|_| {
                let (sent, words) = registers.call(random, place, self.reads);
                self.sent.push_back(sent);
                words
            })
            .collect()
    }

    /// An answer to the oldest command. Err: what is wrong with it.
    pub(crate) fn answered(
        &mut self,
        reply: &Frame,
        registers: &mut Registers,
        place: &Place<'_>,
    ) -> Result<(), String> {
        let Some(sent) = self.sent.pop_front() else {
            return Err("a reply that nobody waits for".into());
        };
        if let Some(line) = reply.as_error() {
            let line = String::from_utf8_lossy(line);
            if line.starts_with("UNKNOWN") {
                registers.is_unknown(&sent);
                return Ok(());
            }
            if is_refusal(&line) {
                registers.forget(&sent);
                return Ok(());
            }
            return Err(format!("{}: {line}", sent.key));
        }
        let shown = number(reply).ok_or_else(|| format!("{} was answered {reply:?}", sent.key))?;
        // Only what a primary answers at once is sure to be of its own copy.
        if sent
            .read_at
            .is_some_and(|(epoch, at)| at != place.now || epoch != (place.office)(&sent.key))
        {
            registers.forget(&sent);
        } else if let Some(Some(operation)) = registers.operation(&sent) {
            operation.returned = Some((place.moment, shown));
        }
        Ok(())
    }

    pub(crate) fn disconnected(&mut self, registers: &mut Registers) {
        for sent in std::mem::take(&mut self.sent) {
            registers.is_unknown(&sent);
        }
    }
}

/// A value as an answer shows it.
pub(crate) fn number(reply: &Frame) -> Option<i64> {
    match reply {
        Frame::Integer(n) => Some(*n),
        Frame::Null => Some(0),
        other => std::str::from_utf8(other.as_bytes()?).ok()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = (u64, Option<(u64, i64)>, Action);

    fn registers(calls: &[Told]) -> Registers {
        let calls = calls.iter().map(|(called, returned, action)| {
            Some(Operation {
                called: *called,
                returned: *returned,
                action: *action,
            })
        });
        Registers {
            histories: BTreeMap::from([("swap:1".to_owned(), calls.collect())]),
            ..Registers::default()
        }
    }

    #[test]
    fn an_acknowledged_change_that_is_gone_must_have_been_reported() {
        let history = registers(&[
            (1, Some((2, 0)), Action::Swap(10)),
            (3, Some((4, 10)), Action::Swap(11)),
            (5, Some((6, 10)), Action::Swap(12)),
        ]);
        let end = BTreeMap::from([("swap:1".to_owned(), 12)]);
        history.check(&end, &Lost::default()).unwrap_err();
        let mut lost = Lost::default();
        lost.add("swap:1", "11");
        history.check(&end, &lost).unwrap();
        // Not whatever else is gone, though.
        let end = BTreeMap::from([("swap:1".to_owned(), 10)]);
        history.check(&end, &lost).unwrap_err();
    }

    #[test]
    fn a_reported_change_may_have_lasted() {
        let history = registers(&[
            (1, Some((2, 0)), Action::Swap(10)),
            (3, Some((4, 10)), Action::Swap(11)),
        ]);
        let mut lost = Lost::default();
        lost.add("swap:1", "10");
        let end = BTreeMap::from([("swap:1".to_owned(), 11)]);
        history.check(&end, &lost).unwrap();
    }

    #[test]
    fn the_end_shows_what_was_acknowledged_last() {
        let history = registers(&[(1, Some((2, 0)), Action::Swap(10))]);
        let end = BTreeMap::from([("swap:1".to_owned(), 0)]);
        history.check(&end, &Lost::default()).unwrap_err();
    }
}
