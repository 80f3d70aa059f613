//! What a run found, for people and, with stable names, for programs (docs/cli.md).

use super::{checks::Tally, recorder::Recorder, workload::Operation};
use crate::table::{render, table};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: &'static str,
    /// How long operations were asked for.
    pub(crate) seconds: f64,
    /// Operations a second that were asked for; None in a closed loop.
    pub(crate) rate_asked: Option<f64>,
    /// Operations a second that succeeded.
    pub(crate) rate_achieved: f64,
    pub(crate) clients: usize,
    pub(crate) operations: Vec<Row>,
    /// Kind (the error's first word, or what the bench saw) → how often.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) read_your_writes: Promise,
    pub(crate) monotonic_reads: Promise,
}

/// One operation in one region.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) region: String,
    pub(crate) operation: &'static str,
    /// Operations that succeeded.
    pub(crate) count: u64,
    pub(crate) rate: f64,
    pub(crate) errors: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_9_ms: f64,
    pub(crate) max_ms: f64,
}

/// What one check found.
#[derive(Debug, Serialize)]
pub(crate) struct Promise {
    pub(crate) checked: u64,
    pub(crate) violations: u64,
}

impl From<Tally> for Promise {
    fn from(tally: Tally) -> Self {
        Promise {
            checked: tally.checked,
            violations: tally.violations,
        }
    }
}

/// The rows of all regions, in the order of their names, and all errors.
pub(super) fn rows(
    regions: BTreeMap<String, Recorder>,
    seconds: f64,
) -> (Vec<Row>, BTreeMap<String, u64>) {
    let mut rows = Vec::new();
    let mut errors = BTreeMap::new();
    for (region, recorder) in regions {
        for operation in Operation::ALL {
            let Some(measured) = recorder.operations.get(&operation) else {
                continue;
            };
            let latency = &measured.latency_us;
            rows.push(Row {
                region: region.clone(),
                operation: operation.name(),
                count: latency.len(),
                rate: per_second(latency.len(), seconds),
                errors: measured.errors,
                p50_ms: quantile_ms(latency, 0.5),
                p90_ms: quantile_ms(latency, 0.9),
                p99_ms: quantile_ms(latency, 0.99),
                p99_9_ms: quantile_ms(latency, 0.999),
                max_ms: quantile_ms(latency, 1.0),
            });
        }
        for (kind, count) in recorder.errors {
            *errors.entry(kind).or_default() += count;
        }
    }
    (rows, errors)
}

fn quantile_ms(latency_us: &Histogram<u64>, quantile: f64) -> f64 {
    latency_us.value_at_quantile(quantile) as f64 / 1_000.0
}

/// `count` in `seconds`, to a tenth.
pub(super) fn per_second(count: u64, seconds: f64) -> f64 {
    (count as f64 / seconds * 10.0).round() / 10.0
}

impl Report {
    /// Whether the run broke no promise and got anything done at all.
    pub(crate) fn is_success(&self) -> bool {
        self.read_your_writes.violations == 0
            && self.monotonic_reads.violations == 0
            && self.operations.iter().any(|row| row.count > 0)
    }

    /// For people.
    pub(crate) fn show(&self) -> String {
        let mut rows = table(
            &[
                "REGION",
                "OPERATION",
                "COUNT",
                "PER-S",
                "ERRORS",
                "P50-MS",
                "P90-MS",
                "P99-MS",
                "P99.9-MS",
                "MAX-MS",
            ],
            &[2, 3, 4, 5, 6, 7, 8, 9],
        );
        for r in &self.operations {
            let mut cells = vec![
                r.region.clone(),
                r.operation.to_string(),
                r.count.to_string(),
                format!("{:.0}", r.rate),
                r.errors.to_string(),
            ];
            let latencies = [r.p50_ms, r.p90_ms, r.p99_ms, r.p99_9_ms, r.max_ms];
            cells.extend(latencies.map(|ms| format!("{ms:.2}")));
            rows.add_row(cells);
        }
        let mut text = render(&rows);
        let asked = match self.rate_asked {
            Some(rate) => format!("{rate:.0}/s asked"),
            None => "closed loop".into(),
        };
        text.push_str(&format!(
            "\n {}: {:.0} operations/s achieved, {asked}, {} clients, {:.1} s\n",
            self.workload, self.rate_achieved, self.clients, self.seconds
        ));
        for (kind, count) in &self.errors {
            text.push_str(&format!(" errors: {kind} {count}\n"));
        }
        for (promise, found) in [
            ("read-your-writes", &self.read_your_writes),
            ("monotonic reads", &self.monotonic_reads),
        ] {
            text.push_str(&format!(
                " {promise}: {} reads checked, {} violations\n",
                found.checked, found.violations
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(violations: u64, answered: bool) -> Report {
        let mut recorder = Recorder::default();
        recorder.failed(Operation::Update, "NOREPLICAS", 2);
        if answered {
            (1..=1000).for_each(|ms| recorder.answered(Operation::Update, ms * 1_000_000));
        }
        let (operations, errors) = rows(BTreeMap::from([("us".into(), recorder)]), 10.0);
        Report {
            workload: "reference",
            seconds: 10.0,
            rate_asked: Some(120.0),
            rate_achieved: 100.0,
            clients: 1,
            operations,
            errors,
            read_your_writes: Promise {
                checked: 5,
                violations,
            },
            monotonic_reads: Promise {
                checked: 6,
                violations: 0,
            },
        }
    }

    #[test]
    fn percentiles_are_within_their_precision() {
        let report = report(0, true);
        let row = &report.operations[0];
        assert_eq!((row.count, row.rate, row.errors), (1000, 100.0, 2));
        for (found, wanted) in [
            (row.p50_ms, 500.0),
            (row.p90_ms, 900.0),
            (row.p99_ms, 990.0),
            (row.p99_9_ms, 999.0),
            (row.max_ms, 1000.0),
        ] {
            assert!(
                (found - wanted).abs() <= wanted / 1000.0,
                "{found} is not {wanted}"
            );
        }
    }

    #[test]
    fn a_violation_or_no_answer_at_all_is_a_failure() {
        assert!(report(0, true).is_success());
        assert!(!report(1, true).is_success());
        assert!(!report(0, false).is_success());
    }

    #[test]
    fn shows_what_people_ask_for() {
        let shown = report(3, true).show();
        for wanted in [
            "reference: 100 operations/s achieved, 120/s asked",
            "errors: NOREPLICAS 2",
            "read-your-writes: 5 reads checked, 3 violations",
        ] {
            assert!(shown.contains(wanted), "{wanted} is missing in:\n{shown}");
        }
    }
}
