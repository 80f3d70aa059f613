//! What became of the keys: counts, names and examples, for people and as JSON.
//!
//! Every key that was looked at is in exactly one of `imported` (or `exported`), `existing`,
//! `expired`, `skipped` and `failed`; keys that were not asked for are in none.

use bytes::Bytes;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write as _};

/// Kinds of failures that are told apart; the rest are together.
const KINDS_MAX: usize = 32;
/// Bytes of a key, or of a reason, that are shown.
const SHOWN_BYTES: usize = 120;

/// What became of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Keys that were written as they should be, by type.
    pub done: BTreeMap<&'static str, u64>,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Keys that were there already and left alone.
    pub existing: u64,
    /// Keys whose time was over, or that were gone when it was their turn.
    pub expired: u64,
    /// Keys that were passed over, by the reason.
    pub skipped: BTreeMap<String, u64>,
    /// Keys that could not be moved, by the reason.
    pub failed: BTreeMap<String, Failed>,
    /// Requests that were sent again.
    pub retries: u64,
    /// Connections to Quire that were lost and made again.
    pub reconnects: u64,
    /// Libraries of functions that were passed over.
    pub functions: u64,
}

/// Keys that could not be moved for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub key: String,
}

/// Bytes as text that fits a line.
pub fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(SHOWN_BYTES);
    let more = if end < bytes.len() { "…" } else { "" };
    format!("{}{more}", bytes[..end].escape_ascii())
}

impl Report {
    /// A key was written.
    pub fn done(&mut self, kind: &'static str, bytes: u64) {
        *self.done.entry(kind).or_default() += 1;
        self.bytes += bytes;
    }

    /// A key was passed over.
    pub fn skip(&mut self, why: impl Into<String>) {
        *self.skipped.entry(why.into()).or_default() += 1;
    }

    /// A key could not be moved.
    pub fn fail(&mut self, why: &str, key: &Bytes) {
        let mut why = shown(why.as_bytes());
        if self.failed.len() >= KINDS_MAX && !self.failed.contains_key(&why) {
            why = "other reasons".into();
        }
        let failed = self.failed.entry(why).or_insert_with(|| Failed {
            count: 0,
            key: shown(key),
        });
        failed.count += 1;
    }

    /// Keys that were written.
    pub fn done_count(&self) -> u64 {
        self.done.values().sum()
    }

    /// Keys that could not be moved.
    pub fn failed_count(&self) -> u64 {
        self.failed.values().map(|failed| failed.count).sum()
    }

    /// Keys that something became of.
    pub fn keys(&self) -> u64 {
        let skipped: u64 = self.skipped.values().sum();
        self.done_count() + self.existing + self.expired + skipped + self.failed_count()
    }

    /// Lines for people. `done` says what was done to those that were written.
    pub fn text(&self, done: &str) -> String {
        let mut text = String::new();
        let mut line = |what: &str, count: u64, why: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, " {what:<9} {count:>12}  {why}");
        };
        let by_type: Vec<_> = self.done.iter().map(|(k, n)| format!("{k} {n}")).collect();
        line(done, self.done_count(), &by_type.join(", "));
        if self.existing > 0 {
            line(
                "existing",
                self.existing,
                "were there already and are left alone (--replace)",
            );
        }
        if self.expired > 0 {
            line(
                "expired",
                self.expired,
                "their time was over, or they were deleted meanwhile",
            );
        }
        for (why, count) in &self.skipped {
            line("skipped", *count, why);
        }
        if self.functions > 0 {
            line("skipped", self.functions, "libraries of functions");
        }
        for (why, failed) in &self.failed {
            line(
                "failed",
                failed.count,
                &format!("{why}; the first is \"{}\"", failed.key),
            );
        }
        if self.retries > 0 {
            line("retried", self.retries, "requests");
        }
        if self.reconnects > 0 {
            let why = "times the connection was lost: if a failover lost writes (quire events), start this again";
            line("connected", self.reconnects, why);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_failures_are_bounded_and_have_an_example() {
        let mut report = Report::default();
        for n in 0..100 {
            report.fail(&format!("reason {n}"), &Bytes::from(format!("key\n{n}")));
        }
        report.fail("reason 1", &Bytes::from_static(b"again"));
        assert_eq!(report.failed.len(), KINDS_MAX + 1);
        assert_eq!(report.failed_count(), 101);
        assert_eq!(report.failed["other reasons"].count, 100 - KINDS_MAX as u64);
        let first = Failed {
            count: 2,
            key: "key\\n1".into(),
        };
        assert_eq!(report.failed["reason 1"], first);
        assert_eq!(report.keys(), 101);
    }

    #[test]
    fn every_line_says_what_became_of_how_many() {
        let mut report = Report::default();
        report.done("string", 3);
        report.done("hash", 4);
        report.skip("list");
        report.existing = 5;
        report.fail("ERR no", &Bytes::from_static(b"k"));
        let text = report.text("imported");
        for line in [
            " imported             2  hash 1, string 1\n",
            " existing             5  were",
            " skipped              1  list\n",
            " failed               1  ERR no; the first is \"k\"\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
