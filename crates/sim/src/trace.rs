//! What happened, line by line, with a hash of all of it: two runs of one seed are compared by
//! it, and a run that failed is read in it.

use std::{
    fmt::{self, Write},
    time::Duration,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The lines of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Empty unless lines are kept.
    lines: Vec<String>,
    kept: bool,
    count: u64,
    hash: u64,
    line: String,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    pub fn new(kept: bool) -> Self {
        Trace {
            kept,
            ..Trace::default()
        }
    }

    /// Appends `<seconds> <who> <what>`.
    pub(crate) fn note(&mut self, at: Duration, who: &str, what: fmt::Arguments<'_>) {
        self.line.clear();
        let (s, us) = (at.as_secs(), at.subsec_micros());
        // Writing to a string can't fail.
        let _ = write!(self.line, "{s:>4}.{us:06} {who} {what}");
        self.hash = hash(self.hash, self.line.as_bytes());
        self.count += 1;
        if self.kept {
            self.lines.push(self.line.clone());
        }
    }

    /// A hash of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All lines, if they are kept.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The last lines, for a report of what went wrong.
    pub fn tail(&self, count: usize) -> String {
        let from = self.lines.len().saturating_sub(count);
        self.lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// Goes on from `state`.
pub(crate) fn hash(state: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, state)
}
