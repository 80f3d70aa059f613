//! The one way that time enters the pure crates: as an argument; and how it is written.

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

/// A moment in UTC, given in ms since the Unix epoch, as RFC 3339 writes it.
pub fn rfc3339(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days to a date in the proleptic Gregorian calendar, by eras of 400 years that begin in
    // March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_others_write_them() {
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_641_231_042), "2026-11-25T21:13:51.042Z");
    }
}
