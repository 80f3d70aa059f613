//! What a connection measured, and how it adds up.

use super::workload::Operation;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies above this are recorded as this, microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Kinds of errors that are told apart; the rest are `other`.
const ERROR_KINDS_MAX: usize = 32;

/// Latencies and errors of one operation.
pub(super) struct Measured {
    /// From the moment it was due (open loop) or sent (closed loop) to its reply, microseconds.
    pub(super) latency_us: Histogram<u64>,
    pub(super) errors: u64,
}

/// All that one connection, or one region, measured.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) operations: BTreeMap<Operation, Measured>,
    pub(super) errors: BTreeMap<String, u64>,
}

impl Recorder {
    pub(super) fn answered(&mut self, operation: Operation, latency_ns: u64) {
        if let Some(measured) = self.measured(operation) {
            measured.latency_us.saturating_record(latency_ns / 1_000);
        }
    }

    /// `count` operations failed; `kind` is the error's first word, or what the bench saw.
    pub(super) fn failed(&mut self, operation: Operation, kind: &str, count: u64) {
        if let Some(measured) = self.measured(operation) {
            measured.errors += count;
        }
        self.count_error(kind, count);
    }

    fn count_error(&mut self, kind: &str, count: u64) {
        if let Some(errors) = self.errors.get_mut(kind) {
            *errors += count;
        } else {
            let full = self.errors.len() >= ERROR_KINDS_MAX;
            let kind = if full { "other" } else { kind };
            *self.errors.entry(kind.to_string()).or_default() += count;
        }
    }

    pub(super) fn add(&mut self, other: &Recorder) {
        for (operation, theirs) in &other.operations {
            if let Some(mine) = self.measured(*operation) {
                // Both have the same bounds, so that nothing can fall outside.
                let _ = mine.latency_us.add(&theirs.latency_us);
                mine.errors += theirs.errors;
            }
        }
        for (kind, count) in &other.errors {
            self.count_error(kind, *count);
        }
    }

    /// None only if the histogram's bounds were refused, which are constants.
    fn measured(&mut self, operation: Operation) -> Option<&mut Measured> {
        use std::collections::btree_map::Entry;
        match self.operations.entry(operation) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => Some(entry.insert(Measured {
                latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).ok()?,
                errors: 0,
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorders_add_up() {
        let mut all = Recorder::default();
        for latency_ns in [1_000_000, 3_000_000] {
            let mut one = Recorder::default();
            one.answered(Operation::Read, latency_ns);
            one.failed(Operation::Read, "TRYAGAIN", 2);
            all.add(&one);
        }
        let read = &all.operations[&Operation::Read];
        assert_eq!((read.latency_us.len(), read.errors), (2, 4));
        assert!(read.latency_us.max().abs_diff(3_000) <= 3);
        assert_eq!(all.errors["TRYAGAIN"], 4);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut recorder = Recorder::default();
        for n in 0..100 {
            recorder.failed(Operation::Get, &format!("E{n}"), 1);
        }
        assert_eq!(recorder.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(recorder.errors.values().sum::<u64>(), 100);
    }
}
