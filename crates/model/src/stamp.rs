//! Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): wall-clock time
//! that never steps back, with a counter for what happens within one millisecond. It orders
//! writes and says nothing of the time that it is: one clock that was ahead is in it for good.

use serde::{Deserialize, Serialize};
use std::fmt;

/// 48 bits of milliseconds since the Unix epoch, 16 bits of counter. Within a shard stamps
/// only grow, also across a change of primary.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Before every write.
    pub const ZERO: Stamp = Stamp(0);

    /// The first stamp of a millisecond.
    pub fn from_ms(ms: u64) -> Self {
        Stamp(ms << 16)
    }

    /// Its milliseconds since the Unix epoch.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.0 & 0xffff)
    }
}

/// Gives stamps to the writes of one shard.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    /// The greatest stamp given or seen.
    last: Stamp,
}

impl HybridClock {
    /// What is given next: max(now, greatest stamp + 1).
    pub fn next(&self, wall_ms: u64) -> Stamp {
        Stamp(self.last.0 + 1).max(Stamp::from_ms(wall_ms))
    }

    /// `count` stamps in a row (at least one); returns the first.
    pub fn take(&mut self, wall_ms: u64, count: u16) -> Stamp {
        let first = self.next(wall_ms);
        self.last = Stamp(first.0 + u64::from(count.max(1)) - 1);
        first
    }

    /// Takes note of a stamp from elsewhere: what is given next is greater.
    pub fn observe(&mut self, seen: Stamp) {
        self.last = self.last.max(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grows() {
        let mut clock = HybridClock::default();
        let a = clock.take(1000, 1);
        let b = clock.take(1000, 1);
        let c = clock.take(10, 1);
        assert!(a < b && b < c);
        assert_eq!(c.ms(), 1000);
        clock.observe(Stamp::from_ms(5000));
        assert!(clock.next(1001) > Stamp::from_ms(5000));
    }
}
