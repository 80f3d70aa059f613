//! What a node counts of its work, for INFO.
//!
//! Counting must cost a command nothing that could be measured: each count is an addition to a
//! number, none reads a clock or allocates. How long commands took is what the host has measured
//! for SLOWLOG anyway ([`Gate::worked`]): the work of this node's thread, not the wait for
//! disks, replicas and other nodes.
//!
//! A command is a *call* once it is looked at ([`Stats::begun`]), and once only, however often it
//! has to wait its turn. It ends in one of three ways, told apart by its reply: it is done; it has
//! *failed*; or it was *rejected*, which says that nothing was evaluated. What this node rejects on
//! sight is no call, as in Redis. What its shard turns away ([`REJECTIONS`]) has been one.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{room::Gate, traffic::Traffic};
use commands::{Spec, table::TABLE, transaction, work::Seen};
use resp::nested_errors;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Error codes that are told apart: there are some twenty, and none comes from a client.
const CODES_MAX: usize = 128;
/// How many samples `instantaneous_ops_per_sec` goes back.
const SAMPLES: usize = 8;

/// Buckets of a histogram: up to 1 µs, 2 µs, 4 µs and so on, the last without a bound.
const BUCKETS: usize = 24;

/// Codes of errors that say that nothing was evaluated.
const REJECTIONS: [&str; 7] = [
    "NOPRIMARY",
    "MASTERDOWN",
    "MISCONF",
    "BUSY",
    "TRYAGAIN",
    "NOKEYSPACE",
    "CROSSSLOT",
];

/// What an error says of the command that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was called.
    Called,
    /// It was not, here and now: it is no call.
    Uncalled,
}

/// Of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub calls: u64,
    /// Those that were answered with an error.
    pub failed: u64,
    /// Those that were answered with an error before anything was evaluated.
    pub rejected: u64,
    /// Those that were measured, and how long they took together.
    pub measured: u64,
    pub took: Duration,
    /// Those that were measured while `is_tracking`, by how long they took.
    buckets: [u32; BUCKETS],
}

impl Calls {
    /// Upper bounds in µs, and how many took no longer: only those bounds that add some.
    pub(crate) fn histogram(&self) -> Vec<(u64, u64)> {
        let mut sum = 0;
        let bounds = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let sums = bounds.map(|(n, count)| {
            sum += u64::from(*count);
            (1 << n, sum)
        });
        sums.collect()
    }
}

/// The bucket of what took so long.
fn bucket(took: Duration) -> usize {
    let us = match took.as_secs() {
        0 => took.subsec_micros(),
        1..1000 => took.as_micros() as u32,
        _ => u32::MAX,
    };
    let bits = u32::BITS - us.saturating_sub(1).leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

/// See the module.
#[derive(Debug)]
pub struct Stats {
    pub commands: u64,
    pub connections: u64,
    /// Keys that reads looked up and found, or did not.
    pub hits: u64,
    pub misses: u64,
    /// Keys that were deleted because their time was over, by this node as primary.
    pub expired: u64,
    pub errors: u64,
    codes: BTreeMap<String, u64>,
    /// By the number of the command: see [`number`].
    calls: Vec<Calls>,
    /// The command that was begun last, since the host handed one over.
    current: Option<usize>,
    /// Whether LATENCY HISTOGRAM goes on.
    pub(crate) is_tracking: bool,
    /// When a sample was taken, and what was counted by then.
    samples: VecDeque<(Duration, Sample)>,
    /// What the host had counted when this began.
    traffic_before: Traffic,
}

/// What is shown by the second.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    commands: u64,
    traffic: Traffic,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            commands: 0,
            connections: 0,
            hits: 0,
            misses: 0,
            expired: 0,
            errors: 0,
            codes: BTreeMap::new(),
            calls: vec![Calls::default(); TABLE.len() + subcommands().count()],
            current: None,
            is_tracking: true,
            samples: VecDeque::new(),
            traffic_before: Traffic::default(),
        }
    }
}

fn subcommands() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().flat_map(|spec| spec.subcommands)
}

/// Where a command's counts stand: commands as in the table, behind them all subcommands.
fn number(spec: &'static Spec) -> Option<usize> {
    spec.number().or_else(|| {
        let at = subcommands().position(|sub| std::ptr::eq(sub, spec))?;
        Some(TABLE.len() + at)
    })
}

impl Stats {
    /// Counts anew; the host, which does not, has counted so much.
    pub(crate) fn reset(&mut self, traffic: Traffic) {
        *self = Stats {
            is_tracking: self.is_tracking,
            traffic_before: traffic,
            ..Stats::default()
        };
    }

    /// The host hands over a command.
    pub(crate) fn handed_over(&mut self) {
        self.current = None;
    }

    /// A command is looked at, for the first time.
    pub(crate) fn begun(&mut self, spec: &'static Spec) {
        self.commands += 1;
        self.current = number(spec);
        if let Some(calls) = self.current.and_then(|at| self.calls.get_mut(at)) {
            calls.calls += 1;
        }
    }

    /// The command that was handed over last took so long.
    fn took(&mut self, took: Duration) {
        if let Some(calls) = self.current.and_then(|at| self.calls.get_mut(at)) {
            calls.measured += 1;
            calls.took += took;
            if self.is_tracking {
                let count = &mut calls.buckets[bucket(took)];
                *count = count.saturating_add(1);
            }
        }
    }

    /// What a command met that was carried out.
    pub(crate) fn seen(&mut self, seen: Seen) {
        self.hits += seen.hits;
        self.misses += seen.misses;
        self.expired += seen.expired;
    }

    /// A reply goes to a client that has sent `command`: none, if there is no such command.
    pub(crate) fn replied(
        &mut self,
        reply: &[u8],
        ended: Ended,
        command: impl FnOnce() -> Option<&'static Spec>,
    ) {
        match reply {
            [b'-', error @ ..] => self.failed(error, ended, command()),
            [b'*', ..] if command().is_some_and(transaction::is_exec) => self.executed(reply),
            _ => {}
        }
    }

    #[cold]
    fn failed(&mut self, error: &[u8], ended: Ended, command: Option<&'static Spec>) {
        let code = self.count_error(error);
        let Some(spec) = command else {
            return;
        };
        let rejected = ended == Ended::Uncalled || REJECTIONS.contains(&code.as_str());
        if let Some(calls) = number(spec).and_then(|at| self.calls.get_mut(at)) {
            match rejected {
                true => calls.rejected += 1,
                false => calls.failed += 1,
            }
            if ended == Ended::Uncalled {
                calls.calls = calls.calls.saturating_sub(1);
                self.commands = self.commands.saturating_sub(1);
            }
        }
    }

    /// A transaction is done. What failed within it is a failure of its EXEC, once: which of the
    /// commands failed is known only where they were evaluated.
    fn executed(&mut self, reply: &[u8]) {
        let mut failed = 0;
        for error in nested_errors(reply) {
            self.count_error(error);
            failed = 1;
        }
        let exec = commands::lookup(b"exec").and_then(number);
        if let Some(calls) = exec.and_then(|at| self.calls.get_mut(at)) {
            calls.failed += failed;
        }
    }

    /// Counts an error by its code, which it returns.
    fn count_error(&mut self, error: &[u8]) -> String {
        self.errors += 1;
        let end = error.iter().position(|b| b" \r\n".contains(b));
        let code = String::from_utf8_lossy(&error[..end.unwrap_or(error.len())]).into_owned();
        if self.codes.len() < CODES_MAX || self.codes.contains_key(&code) {
            *self.codes.entry(code.clone()).or_default() += 1;
        }
        code
    }

    /// Time has passed, and the host has counted so much by now.
    pub(crate) fn sample(&mut self, now: Duration, traffic: Traffic) {
        let commands = self.commands;
        self.samples.push_back((now, Sample { commands, traffic }));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Commands, and bytes of clients and for them, a second, over the last samples.
    pub fn a_second(&self) -> (u64, Traffic) {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back())
        else {
            return (0, Traffic::default());
        };
        let ms = to.saturating_sub(*from).as_millis().max(1);
        let rate = |first: u64, last: u64| {
            let more = u128::from(last.saturating_sub(first));
            u64::try_from(more * 1000 / ms).unwrap_or(u64::MAX)
        };
        let traffic = Traffic {
            input_bytes: rate(first.traffic.input_bytes, last.traffic.input_bytes),
            output_bytes: rate(first.traffic.output_bytes, last.traffic.output_bytes),
            ..Traffic::default()
        };
        (rate(first.commands, last.commands), traffic)
    }

    /// Of what the host has counted, what came since the counts began.
    pub fn traffic(&self, now: Traffic) -> Traffic {
        now.since(self.traffic_before)
    }

    /// Every command that was called, or rejected, with its counts.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, Calls)> {
        let specs = TABLE.iter().chain(subcommands());
        let all = specs
            .zip(&self.calls)
            .map(|(spec, calls)| (spec.name, *calls));
        all.filter(|(_, calls)| calls.calls + calls.rejected + calls.failed > 0)
    }

    /// Error codes, and how many replies had each.
    pub fn codes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.codes
            .iter()
            .map(|(code, count)| (code.as_str(), *count))
    }
}

impl Gate {
    /// The last [`Gate::command`] took so long.
    pub fn worked(&mut self, took: Duration) {
        self.stats.took(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_subcommands_are_counted_apart() {
        let mut stats = Stats::default();
        for line in [
            "GET a",
            "get b",
            "CLIENT ID",
            "CONFIG GET x",
            "MEMORY USAGE x",
        ] {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            stats.handed_over();
            stats.begun(commands::find(&args).unwrap());
            stats.took(Duration::from_micros(3));
        }
        let mut calls: Vec<_> = stats
            .calls()
            .map(|(name, c)| (name, c.calls, c.took))
            .collect();
        calls.sort_unstable();
        let us = Duration::from_micros;
        assert_eq!(
            calls,
            [
                ("client|id", 1, us(3)),
                ("config|get", 1, us(3)),
                ("get", 2, us(6)),
                ("memory|usage", 1, us(3)),
            ]
        );
        // What is not begun at once is not measured as another command.
        stats.handed_over();
        stats.took(us(1000));
        assert!(stats.calls().all(|(_, c)| c.took < us(10)));
    }

    #[test]
    fn a_histogram_adds_up() {
        let mut calls = Calls::default();
        for us in [0, 1, 2, 3, 4, 5, 1000, 1 << 40] {
            calls.buckets[bucket(Duration::from_micros(us))] += 1;
        }
        let last = 1 << (BUCKETS - 1);
        assert_eq!(
            calls.histogram(),
            [(1, 2), (2, 3), (4, 5), (8, 6), (1024, 7), (last, 8)]
        );
    }

    #[test]
    fn every_command_has_a_number_of_its_own() {
        let all = TABLE.iter().chain(subcommands());
        let numbers: Vec<_> = all.map(|spec| number(spec).unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
        assert_eq!(Stats::default().calls.len(), numbers.len());
    }

    #[test]
    fn errors_are_told_apart_by_their_code() {
        let mut stats = Stats::default();
        for reply in [
            "-ERR x\r\n",
            "+OK\r\n",
            "-WRONGTYPE y\r\n",
            "-ERR\r\n",
            "",
            "$1\r\n-\r\n",
        ] {
            stats.replied(reply.as_bytes(), Ended::Called, || None);
        }
        let codes: Vec<_> = stats.codes().collect();
        assert_eq!(
            (stats.errors, codes),
            (3, vec![("ERR", 2), ("WRONGTYPE", 1)])
        );
        for n in 0..10 * CODES_MAX {
            let reply = format!("-E{n} x\r\n");
            stats.replied(reply.as_bytes(), Ended::Called, || None);
        }
        assert!(stats.codes().count() <= CODES_MAX);
    }

    #[test]
    fn commands_a_second_are_those_of_the_last_samples() {
        let mut stats = Stats::default();
        assert_eq!(stats.a_second().0, 0);
        let mut traffic = Traffic::default();
        for n in 0..100 {
            stats.commands += if n < 50 { 1_000_000 } else { 20 };
            traffic.input_bytes += if n < 50 { 1 << 30 } else { 2048 };
            stats.sample(Duration::from_millis(200 * n), traffic);
        }
        let (commands, bytes) = stats.a_second();
        assert_eq!(
            (commands, bytes.input_bytes, bytes.output_bytes),
            (100, 10_240, 0)
        );
    }

    #[test]
    fn calls_fail_or_are_rejected() {
        let mut stats = Stats::default();
        let get = commands::find(&[b"get", b"k"]).unwrap();
        let exec = commands::find(&[b"exec"]).unwrap();
        for (reply, ended) in [
            ("$1\r\nx\r\n", Ended::Called),
            ("-WRONGTYPE x\r\n", Ended::Called),
            ("-UNKNOWN x\r\n", Ended::Called),
            ("-NOPRIMARY x\r\n", Ended::Called),
            ("-ERR wrong number\r\n", Ended::Uncalled),
        ] {
            stats.begun(get);
            stats.replied(reply.as_bytes(), ended, || Some(get));
        }
        for reply in [
            "*2\r\n*2\r\n+OK\r\n-ERR no error of a command\r\n$4\r\n-ERR\r\n",
            "*3\r\n-WRONGTYPE x\r\n-ERR y\r\n:1\r\n",
            "*-1\r\n",
        ] {
            stats.begun(exec);
            stats.replied(reply.as_bytes(), Ended::Called, || Some(exec));
        }
        // An array of another command's holds no errors.
        stats.replied(b"*1\r\n-ERR\r\n", Ended::Called, || Some(get));
        let all: Vec<_> = stats.calls().collect();
        let counts = |name| {
            let (_, c) = all.iter().find(|(of, _)| *of == name).unwrap();
            (c.calls, c.failed, c.rejected)
        };
        assert_eq!((counts("get"), counts("exec")), ((4, 2, 2), (3, 1, 0)));
        let codes: Vec<_> = stats.codes().collect();
        assert_eq!(
            codes,
            [
                ("ERR", 2),
                ("NOPRIMARY", 1),
                ("UNKNOWN", 1),
                ("WRONGTYPE", 2)
            ]
        );
        assert_eq!((stats.errors, stats.commands), (6, 7));
    }
}
