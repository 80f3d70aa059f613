//! What a run found, for people and, with stable names, for programs (docs/cli.md).

use super::{Target, checks::Tally, recorder::Recorder, workload::Operation};
use crate::table::{render, table};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a run found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: &'static str,
    /// How long operations were asked for.
    pub(crate) seconds: f64,
    /// Operations a second that were asked for; None in a closed loop.
    pub(crate) rate_asked: Option<f64>,
    /// Operations a second that succeeded.
    pub(crate) rate_achieved: f64,
    pub(crate) clients: usize,
    /// By region and operation.
    pub(crate) operations: Vec<Row>,
    /// Kind (the error's first word, or what the bench saw) → how often.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) read_your_writes: Promise,
    pub(crate) monotonic_reads: Promise,
    /// By node and operation.
    pub(crate) nodes: Vec<NodeRow>,
    /// By operation, all nodes together.
    pub(crate) total: Vec<Figures>,
    /// Requests that each client kept in flight; None in an open loop.
    pub(crate) pipeline: Option<usize>,
    pub(crate) keys: u32,
    pub(crate) value_bytes: usize,
    pub(crate) filled: Filled,
}

/// One operation in one region.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) region: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// One operation at one node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeRow {
    /// Its address.
    node: String,
    region: String,
    #[serde(flatten)]
    figures: Figures,
}

/// How one operation went.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) operation: &'static str,
    /// Operations that succeeded.
    pub(crate) count: u64,
    pub(crate) rate: f64,
    pub(crate) errors: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_9_ms: f64,
    pub(crate) p99_99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What was written before measuring.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Filled {
    pub(crate) keys: u64,
    pub(crate) seconds: f64,
}

/// What one check found.
#[derive(Debug, Default, Serialize)]
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

/// What the nodes measured, added up in three ways, and all errors.
pub(super) struct Rows {
    /// In the order of their names.
    pub(super) regions: Vec<Row>,
    /// In the order in which they were given.
    pub(super) nodes: Vec<NodeRow>,
    pub(super) total: Vec<Figures>,
    pub(super) errors: BTreeMap<String, u64>,
}

pub(super) fn rows(nodes: &[(Target, Recorder)], seconds: f64) -> Rows {
    let mut regions: BTreeMap<&str, Recorder> = BTreeMap::new();
    let mut all = Recorder::default();
    let mut node_rows = Vec::new();
    for (target, recorder) in nodes {
        regions.entry(&target.region).or_default().add(recorder);
        all.add(recorder);
        node_rows.extend(figures(recorder, seconds).map(|figures| NodeRow {
            node: target.addr.clone(),
            region: target.region.clone(),
            figures,
        }));
    }
    let of_region = |(region, recorder): (&&str, &Recorder)| {
        let row = |figures| Row {
            region: region.to_string(),
            figures,
        };
        figures(recorder, seconds).map(row).collect::<Vec<_>>()
    };
    Rows {
        regions: regions.iter().flat_map(of_region).collect(),
        nodes: node_rows,
        total: figures(&all, seconds).collect(),
        errors: all.errors,
    }
}

/// The figures of each operation that was asked for.
fn figures(recorder: &Recorder, seconds: f64) -> impl Iterator<Item = Figures> {
    Operation::ALL.into_iter().filter_map(move |operation| {
        let measured = recorder.operations.get(&operation)?;
        let latency = &measured.latency_us;
        Some(Figures {
            operation: operation.name(),
            count: latency.len(),
            rate: per_second(latency.len(), seconds),
            errors: measured.errors,
            p50_ms: quantile_ms(latency, 0.5),
            p90_ms: quantile_ms(latency, 0.9),
            p99_ms: quantile_ms(latency, 0.99),
            p99_9_ms: quantile_ms(latency, 0.999),
            p99_99_ms: quantile_ms(latency, 0.9999),
            max_ms: quantile_ms(latency, 1.0),
        })
    })
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
            && self.total.iter().any(|figures| figures.count > 0)
    }

    /// For people: by region, then in all, and by node if that is wanted.
    pub(crate) fn show(&self, by_node: bool) -> String {
        let mut regions: Vec<&str> = self.operations.iter().map(|r| r.region.as_str()).collect();
        regions.dedup();
        let mut rows: Vec<_> = self
            .operations
            .iter()
            .map(|row| (row.region.as_str(), &row.figures))
            .collect();
        if regions.len() > 1 {
            rows.extend(self.total.iter().map(|figures| ("all", figures)));
        }
        let mut text = figures_table("REGION", &rows);
        if by_node {
            let rows: Vec<_> = self
                .nodes
                .iter()
                .map(|row| (row.node.as_str(), &row.figures))
                .collect();
            text.push_str(&format!("\n{}", figures_table("NODE", &rows)));
        }
        text.push_str("\n latencies in ms; OP/S and latencies are of what succeeded\n");
        let asked = match (self.rate_asked, self.pipeline) {
            (Some(rate), _) => format!("{rate:.0}/s asked"),
            (None, Some(pipeline)) if pipeline > 1 => format!("closed loop of {pipeline}"),
            (None, _) => "closed loop".into(),
        };
        text.push_str(&format!(
            "\n {}: {:.0} operations/s achieved, {asked}, {} clients, {:.1} s\n",
            self.workload, self.rate_achieved, self.clients, self.seconds
        ));
        let Filled { keys, seconds } = &self.filled;
        text.push_str(&format!(
            " {} keys, {keys} of them written before, in {seconds:.1} s\n",
            self.keys
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

/// A line for each of `rows`, which the first column names. It fits 80 columns where names have up
/// to 14 characters; the JSON has all figures.
fn figures_table(named: &str, rows: &[(&str, &Figures)]) -> String {
    let headers = [
        named,
        "OPERATION",
        "OP/S",
        "ERRORS",
        "P50",
        "P99",
        "P99.9",
        "P99.99",
        "MAX",
    ];
    let mut shown = table(&headers, &[2, 3, 4, 5, 6, 7, 8]);
    for (name, f) in rows {
        let mut cells = vec![
            name.to_string(),
            f.operation.to_string(),
            format!("{:.0}", f.rate),
            f.errors.to_string(),
        ];
        let latencies = [f.p50_ms, f.p99_ms, f.p99_9_ms, f.p99_99_ms, f.max_ms];
        cells.extend(latencies.map(three_digits));
        shown.add_row(cells);
    }
    render(&shown)
}

/// To three digits, which is what the histograms are exact to.
fn three_digits(ms: f64) -> String {
    match ms {
        ..9.995 => format!("{ms:.2}"),
        ..99.95 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
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
        let rows = rows(&[(target("us", 1), recorder)], 10.0);
        Report {
            workload: "reference",
            seconds: 10.0,
            rate_asked: Some(120.0),
            rate_achieved: 100.0,
            clients: 1,
            operations: rows.regions,
            nodes: rows.nodes,
            total: rows.total,
            errors: rows.errors,
            read_your_writes: Promise {
                checked: 5,
                violations,
            },
            ..Report::default()
        }
    }

    fn target(region: &str, port: u16) -> Target {
        Target {
            region: region.into(),
            addr: format!("h:{port}"),
        }
    }

    #[test]
    fn nodes_add_up_to_regions_and_these_to_all() {
        let node = |ms: u64, errors| {
            let mut recorder = Recorder::default();
            recorder.answered(Operation::Read, ms * 1_000_000);
            recorder.answered(Operation::Update, 1_000_000);
            recorder.failed(Operation::Read, "not-found", errors);
            recorder
        };
        let nodes = [
            (target("us", 1), node(2, 1)),
            (target("eu", 2), node(4, 2)),
            (target("us", 3), node(8, 4)),
        ];
        let rows = rows(&nodes, 1.0);
        let reads = |f: &Figures| {
            (f.operation == "read").then(|| (f.count, f.errors, f.max_ms.round() as u64))
        };
        let by_node: Vec<_> = rows
            .nodes
            .iter()
            .filter_map(|r| reads(&r.figures))
            .collect();
        assert_eq!(by_node, [(1, 1, 2), (1, 2, 4), (1, 4, 8)]);
        let by_region: Vec<_> = rows
            .regions
            .iter()
            .filter_map(|r| Some((r.region.as_str(), reads(&r.figures)?)))
            .collect();
        assert_eq!(by_region, [("eu", (1, 2, 4)), ("us", (2, 5, 8))]);
        let total: Vec<_> = rows.total.iter().filter_map(reads).collect();
        assert_eq!(total, [(3, 7, 8)]);
        assert_eq!(rows.errors, BTreeMap::from([("not-found".into(), 7)]));

        let report = Report {
            operations: rows.regions,
            nodes: rows.nodes,
            total: rows.total,
            ..Report::default()
        };
        let shown = report.show(true);
        for line in [" eu      read ", " all     read ", " h:3   read ", "P99.99"] {
            assert!(shown.contains(line), "{line} is missing in:\n{shown}");
        }
        assert!(!report.show(false).contains("h:3"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["operations"][0]["region"], "eu");
        assert_eq!(json["nodes"][5]["node"], "h:3");
        assert_eq!(json["nodes"][5]["operation"], "read");
        assert_eq!(json["total"][1]["count"], 3);
        assert!(json["total"][1]["p99_99_ms"].is_f64());
    }

    #[test]
    fn the_tables_fit_80_columns() {
        let figures = Figures {
            operation: "read-own",
            rate: 123_456.0,
            errors: 123_456,
            p50_ms: 0.812,
            p99_ms: 99.94,
            p99_9_ms: 999.0,
            p99_99_ms: 9_999.0,
            max_ms: 12_345.0,
            ..Figures::default()
        };
        let table = figures_table("NODE", &[("127.0.0.1:7001", &figures)]);
        for line in table.lines() {
            assert!(line.len() <= 80, "{line}");
        }
        for (ms, wanted) in [
            (0.0, "0.00"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (12_345.6, "12346"),
        ] {
            assert_eq!(three_digits(ms), wanted);
        }
    }

    #[test]
    fn percentiles_are_within_their_precision() {
        let report = report(0, true);
        let row = &report.operations[0].figures;
        assert_eq!((row.count, row.rate, row.errors), (1000, 100.0, 2));
        for (found, wanted) in [
            (row.p50_ms, 500.0),
            (row.p90_ms, 900.0),
            (row.p99_ms, 990.0),
            (row.p99_9_ms, 999.0),
            (row.p99_99_ms, 1000.0),
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
        let shown = report(3, true).show(false);
        for wanted in [
            "reference: 100 operations/s achieved, 120/s asked",
            "errors: NOREPLICAS 2",
            "read-your-writes: 5 reads checked, 3 violations",
        ] {
            assert!(shown.contains(wanted), "{wanted} is missing in:\n{shown}");
        }
    }
}
