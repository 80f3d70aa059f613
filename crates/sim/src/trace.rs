//! What happened, line by line, with a hash of all of it: two runs of one seed are compared by
//! it, and a run that failed is read in it.

use std::{fmt, time::Duration};

/// The lines of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    lines: Vec<String>,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Self {
        // FNV-1a's start.
        let hash = 0xcbf2_9ce4_8422_2325;
        let lines = Vec::new();
        Trace { lines, hash }
    }
}

impl Trace {
    /// Appends `<seconds> <who> <what>`.
    pub(crate) fn note(&mut self, at: Duration, who: &str, what: fmt::Arguments<'_>) {
        let line = format!("{:>4}.{:06} {who} {what}", at.as_secs(), at.subsec_micros());
        self.hash = hash(self.hash, line.as_bytes());
        self.lines.push(line);
    }

    /// A hash of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// All lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The last lines, for a report of what went wrong.
    pub fn tail(&self, count: usize) -> String {
        let from = self.lines.len().saturating_sub(count);
        self.lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// FNV-1a, going on from `state`.
pub(crate) fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}
