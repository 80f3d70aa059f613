//! The one way that time enters the pure crates: as an argument.

use std::time::Duration;

/// What the host's clocks said when an input arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Since an arbitrary start; never steps back, and counts time spent suspended.
    /// Only its rate is trusted, and only within one process.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch by the wall clock. May step in any direction.
    pub wall_ms: u64,
}

impl Now {
    /// A moment for tests and simulations, where both clocks agree.
    pub fn at_ms(ms: u64) -> Self {
        Now {
            monotonic: Duration::from_millis(ms),
            wall_ms: 1_700_000_000_000 + ms,
        }
    }
}
