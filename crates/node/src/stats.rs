//! What a node counts of its work, for INFO.
//!
//! Counting must cost a command nothing that could be measured: each count is an addition to a
//! number, none reads a clock or allocates. How long commands took is what the host has measured
//! for SLOWLOG anyway ([`Node::client_worked`]): the work of this node's thread, not the wait for
//! disks, replicas and other nodes.

use crate::node::Node;
use commands::{Spec, table::TABLE, work::Seen};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use storage::store::Stores;

/// Error codes that are told apart: there are some twenty, and none comes from a client.
const CODES_MAX: usize = 128;
/// How many samples `instantaneous_ops_per_sec` goes back.
const SAMPLES: usize = 8;

/// Buckets of a histogram: up to 1 µs, 2 µs, 4 µs and so on, the last without a bound.
const BUCKETS: usize = 24;

/// Of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) calls: u64,
    /// Those that were measured, and how long they took together.
    pub(crate) measured: u64,
    pub(crate) took: Duration,
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
pub(crate) struct Stats {
    pub(crate) commands: u64,
    pub(crate) connections: u64,
    /// Keys that reads looked up and found, or did not.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Keys that were deleted because their time was over, by this node as primary.
    pub(crate) expired: u64,
    pub(crate) errors: u64,
    codes: BTreeMap<String, u64>,
    /// By the number of the command: see [`number`].
    calls: Vec<Calls>,
    /// The command that was begun last, since the host handed one over.
    current: Option<usize>,
    /// Whether LATENCY HISTOGRAM goes on.
    pub(crate) is_tracking: bool,
    /// When a sample was taken, and `commands` then.
    samples: VecDeque<(Duration, u64)>,
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
    /// Counts anew.
    pub(crate) fn reset(&mut self) {
        *self = Stats {
            is_tracking: self.is_tracking,
            ..Stats::default()
        };
    }

    /// The host hands over a command.
    pub(crate) fn handed_over(&mut self) {
        self.current = None;
    }

    /// A command is looked at.
    pub(crate) fn begun(&mut self, spec: &'static Spec) {
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

    /// A reply goes to a client.
    pub(crate) fn replied(&mut self, reply: &[u8]) {
        if let [b'-', error @ ..] = reply {
            self.failed(error);
        }
    }

    #[cold]
    fn failed(&mut self, error: &[u8]) {
        self.errors += 1;
        let end = error.iter().position(|b| b" \r\n".contains(b));
        let code = String::from_utf8_lossy(&error[..end.unwrap_or(error.len())]).into_owned();
        if self.codes.len() < CODES_MAX || self.codes.contains_key(&code) {
            *self.codes.entry(code).or_default() += 1;
        }
    }

    /// Time has passed.
    pub(crate) fn sample(&mut self, now: Duration) {
        self.samples.push_back((now, self.commands));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Commands a second, over the last samples.
    pub(crate) fn commands_a_second(&self) -> u64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let ms = last.0.saturating_sub(first.0).as_millis().max(1);
        let commands = u128::from(last.1.saturating_sub(first.1));
        u64::try_from(commands * 1000 / ms).unwrap_or(u64::MAX)
    }

    /// Every command that was called, with its counts.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&'static str, Calls)> {
        let specs = TABLE.iter().chain(subcommands());
        let all = specs
            .zip(&self.calls)
            .map(|(spec, calls)| (spec.name, *calls));
        all.filter(|(_, calls)| calls.calls > 0)
    }

    /// Error codes, and how many replies had each.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.codes
            .iter()
            .map(|(code, count)| (code.as_str(), *count))
    }
}

impl<S: Stores> Node<S> {
    /// The last [`Node::client_command`] took so long.
    pub fn client_worked(&mut self, took: Duration) {
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
            stats.replied(reply.as_bytes());
        }
        let codes: Vec<_> = stats.codes().collect();
        assert_eq!(
            (stats.errors, codes),
            (3, vec![("ERR", 2), ("WRONGTYPE", 1)])
        );
        for n in 0..10 * CODES_MAX {
            stats.replied(format!("-E{n} x\r\n").as_bytes());
        }
        assert!(stats.codes().count() <= CODES_MAX);
    }

    #[test]
    fn commands_a_second_are_those_of_the_last_samples() {
        let mut stats = Stats::default();
        assert_eq!(stats.commands_a_second(), 0);
        for n in 0..100 {
            stats.commands += if n < 50 { 1_000_000 } else { 20 };
            stats.sample(Duration::from_millis(200 * n));
        }
        assert_eq!(stats.commands_a_second(), 100);
    }
}
