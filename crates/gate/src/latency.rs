//! LATENCY: when this node took longer than `latency-monitor-threshold` milliseconds, and at what.
//!
//! ```text
//! took ───────── "command", "fast-command" ──┐
//! flush_took ──── "log-sync" ────────────────┤
//! held_up ─────── "event-loop" ──────────────┴▶ LatencyMonitor ─▶ LATEST, HISTORY, DOCTOR
//! ```
//! As in Redis the monitor is off until a threshold is set, an event has one sample a second, the
//! worst, and the last [`SAMPLES_MAX`] are kept. A command counts by its work alone, as in SLOWLOG.

use crate::room::Gate;
use commands::node_command::LatencyCommand;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Samples of an event.
const SAMPLES_MAX: usize = 160;

const OFF: &str = "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep space mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n";
const NOTHING: &str = "Nothing has taken longer than latency-monitor-threshold since the monitor was switched on or reset.\n";

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Command,
    /// One that COMMAND flags as fast.
    FastCommand,
    /// A batch of the log: written, and synced where that is due.
    LogSync,
    /// The node's thread came round too late.
    Turn,
}

impl Event {
    const ALL: [Event; 4] = [
        Event::Command,
        Event::FastCommand,
        Event::LogSync,
        Event::Turn,
    ];

    fn name(self) -> &'static str {
        match self {
            Event::Command => "command",
            Event::FastCommand => "fast-command",
            Event::LogSync => "log-sync",
            Event::Turn => "event-loop",
        }
    }

    fn named(name: &[u8]) -> Option<Event> {
        let is = |event: &Event| event.name().as_bytes() == name;
        Event::ALL.into_iter().find(is)
    }
}

/// Of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// Unix time, seconds.
    at_s: u64,
    ms: u64,
}

/// Never empty.
#[derive(Debug, Default)]
struct History {
    /// The oldest first.
    samples: VecDeque<Sample>,
    worst_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LatencyMonitor {
    /// Milliseconds; 0: it is off.
    pub(crate) threshold_ms: u64,
    events: BTreeMap<Event, History>,
}

impl LatencyMonitor {
    /// From when on something is to be noted; None: nothing is.
    pub(crate) fn from(&self) -> Option<Duration> {
        (self.threshold_ms > 0).then(|| Duration::from_millis(self.threshold_ms))
    }

    /// An event ended at `at_s` and took so long.
    pub(crate) fn note(&mut self, event: Event, at_s: u64, took: Duration) {
        if self.from().is_none_or(|from| took < from) {
            return;
        }
        let ms = took.as_millis() as u64;
        let history = self.events.entry(event).or_default();
        history.worst_ms = history.worst_ms.max(ms);
        match history.samples.back_mut() {
            Some(last) if last.at_s == at_s => last.ms = last.ms.max(ms),
            _ => history.samples.push_back(Sample { at_s, ms }),
        }
        if history.samples.len() > SAMPLES_MAX {
            history.samples.pop_front();
        }
    }

    /// Forgets these events, or all if none is named. How many it had.
    fn reset(&mut self, names: &[&[u8]]) -> usize {
        let before = self.events.len();
        self.events.retain(|event, _| {
            !names.is_empty() && !names.iter().any(|name| Event::named(name) == Some(*event))
        });
        before - self.events.len()
    }

    fn samples(&self, name: &[u8]) -> Option<&VecDeque<Sample>> {
        Some(&self.events.get(&Event::named(name)?)?.samples)
    }

    fn report(&self) -> String {
        match (self.events.is_empty(), self.threshold_ms) {
            (true, 0) => return OFF.to_owned(),
            (true, _) => return NOTHING.to_owned(),
            (false, _) => {}
        }
        let mut report =
            "The worst of each second that had one, as far as they are kept:\n".to_owned();
        for (event, history) in &self.events {
            let (name, worst) = (event.name(), history.worst_ms);
            let seconds = history.samples.len();
            let mean = history.samples.iter().map(|s| s.ms).sum::<u64>() / seconds.max(1) as u64;
            report +=
                &format!("{name}: {seconds} seconds, {mean} ms on average, {worst} ms at worst\n");
        }
        report += "command, fast-command: while one is at work no other client of this node is served. SLOWLOG GET tells which, from slowlog-log-slower-than microseconds on.\nlog-sync: the disk of the log is slow, or busy with something else. Reads don't wait for it; writes do, with fsync = always.\nevent-loop: the node's thread came round so much too late. Its log says, from 200 ms on, whether it was at work or the machine did not let it run.\n";
        report
    }
}

impl Gate {
    /// Both halves of a flush took so long.
    pub fn flush_took(&mut self, took: Duration) {
        let at_s = self.now.wall_ms / 1000;
        self.latency.note(Event::LogSync, at_s, took);
    }

    /// This node's thread came round so much too late.
    pub fn held_up(&mut self, late: Duration) {
        let at_s = self.now.wall_ms / 1000;
        self.latency.note(Event::Turn, at_s, late);
    }

    /// Of these commands, all of a container's if it is named; of all that were measured, if none is.
    fn histogram(&mut self, conn: u64, names: &[&[u8]]) {
        let is_wanted = |of: &str| {
            let container = of.split('|').next().unwrap_or_default();
            let is = |name: &&[u8]| {
                [of, container]
                    .iter()
                    .any(|of| of.as_bytes().eq_ignore_ascii_case(name))
            };
            names.is_empty() || names.iter().any(is)
        };
        let measured = self
            .stats
            .calls()
            .map(|(of, calls)| (of, calls.histogram()));
        let measured: Vec<(&str, Vec<(u64, u64)>)> = measured
            .filter(|(of, histogram)| !histogram.is_empty() && is_wanted(of))
            .collect();
        self.answer(conn, |out| {
            out.map(measured.len());
            for (of, histogram) in measured {
                out.bulk(of);
                out.map(2);
                out.bulk("calls");
                out.integer(histogram.last().map_or(0, |(_, calls)| *calls as i64));
                out.bulk("histogram_usec");
                out.map(histogram.len());
                for (bound, calls) in histogram {
                    out.integer(bound as i64);
                    out.integer(calls as i64);
                }
            }
        });
    }

    pub(crate) fn latency(&mut self, conn: u64, command: LatencyCommand, args: &[&[u8]]) {
        let rest = args.get(2..).unwrap_or_default();
        let name = rest.first().copied().unwrap_or_default();
        let mut monitor = std::mem::take(&mut self.latency);
        match command {
            LatencyCommand::Latest => self.answer(conn, |out| {
                out.array(monitor.events.len());
                for (event, history) in &monitor.events {
                    let last = history.samples.back();
                    out.array(4);
                    out.bulk(event.name());
                    out.integer(last.map_or(0, |last| last.at_s as i64));
                    out.integer(last.map_or(0, |last| last.ms as i64));
                    out.integer(history.worst_ms as i64);
                }
            }),
            LatencyCommand::History => self.answer(conn, |out| {
                let samples = monitor.samples(name);
                out.array(samples.map_or(0, VecDeque::len));
                for sample in samples.into_iter().flatten() {
                    out.array(2);
                    out.integer(sample.at_s as i64);
                    out.integer(sample.ms as i64);
                }
            }),
            LatencyCommand::Doctor => {
                self.answer(conn, |out| out.verbatim(b"txt", monitor.report()))
            }
            LatencyCommand::Histogram => self.histogram(conn, rest),
            LatencyCommand::Reset => {
                let gone = monitor.reset(rest);
                self.answer(conn, |out| out.integer(gone as i64));
            }
            LatencyCommand::Help => self.answer_help(conn, args),
            LatencyCommand::Graph => {
                let event = String::from_utf8_lossy(name);
                let line = match monitor.samples(name) {
                    None => format!("ERR No samples available for event '{event}'"),
                    Some(_) => format!(
                        "ERR LATENCY GRAPH is not supported: LATENCY HISTORY {event} has the samples"
                    ),
                };
                self.answer_error(conn, &line);
            }
        }
        self.latency = monitor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(notes: &[(Event, u64, u64)]) -> LatencyMonitor {
        let mut monitor = LatencyMonitor {
            threshold_ms: 10,
            ..LatencyMonitor::default()
        };
        for (event, at_s, ms) in notes {
            monitor.note(*event, *at_s, Duration::from_millis(*ms));
        }
        monitor
    }

    #[test]
    fn a_second_has_its_worst_sample_and_what_is_below_the_threshold_none() {
        let monitor = noted(&[
            (Event::Command, 5, 30),
            (Event::Command, 5, 12),
            (Event::Command, 6, 9),
            (Event::Command, 7, 10),
        ]);
        let samples: Vec<_> = monitor.samples(b"command").unwrap().iter().collect();
        assert_eq!(
            samples,
            [&Sample { at_s: 5, ms: 30 }, &Sample { at_s: 7, ms: 10 }]
        );
        assert!(monitor.samples(b"log-sync").is_none() && monitor.samples(b"other").is_none());
        let report = monitor.report();
        let off = LatencyMonitor {
            threshold_ms: 0,
            ..monitor
        };
        assert_eq!(off.report(), report);
        assert!(
            report.contains("command: 2 seconds, 20 ms on average, 30 ms at worst"),
            "{report}"
        );
    }

    #[test]
    fn the_last_samples_are_kept_and_the_worst_is_remembered() {
        let notes: Vec<_> = (0..1000).map(|s| (Event::LogSync, s, 1010 - s)).collect();
        let monitor = noted(&notes);
        let history = &monitor.events[&Event::LogSync];
        assert_eq!(
            (history.samples.len(), history.worst_ms),
            (SAMPLES_MAX, 1010)
        );
        assert_eq!(history.samples.back(), Some(&Sample { at_s: 999, ms: 11 }));
    }

    #[test]
    fn events_are_reset_by_name_or_all() {
        let all = [(Event::Command, 1, 50), (Event::LogSync, 1, 50)];
        let mut monitor = noted(&all);
        assert_eq!(monitor.reset(&[b"log-sync", b"nothing"]), 1);
        assert_eq!(monitor.reset(&[]), 1);
        assert_eq!(monitor.reset(&[]), 0);
        assert!(monitor.report().starts_with("Nothing"));
        assert!(LatencyMonitor::default().report().starts_with("I'm sorry"));
        let mut off = LatencyMonitor::default();
        off.note(Event::Command, 1, Duration::from_secs(9));
        assert!(off.events.is_empty());
    }
}
