//! Whether the node's thread comes round in time: everything of a node waits for it, its lease too.

use std::time::Duration;

/// From so late on it is worth a line in the log: at twice that leases are in danger.
const WORTH_TELLING: Duration = Duration::from_millis(200);

/// Beats at even intervals, as long as nothing holds the thread up.
pub(crate) struct Pulse {
    every: Duration,
    /// The last beat, by the monotonic clock …
    at: Duration,
    /// … and how long the thread had run by then.
    ran: Duration,
}

/// A beat that came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldUp {
    pub(crate) late: Duration,
    /// For how much of it, and of the interval before, the thread ran; for the rest it waited, for
    /// a processor or a page of memory, or the machine stood still.
    pub(crate) ran: Duration,
}

impl Pulse {
    pub(crate) fn new(every: Duration, now: Duration, ran: Duration) -> Self {
        let at = now;
        Pulse { every, at, ran }
    }

    /// `now` by the monotonic clock; `ran`: how long the thread has run in all.
    pub(crate) fn beat(&mut self, now: Duration, ran: Duration) -> HeldUp {
        let late = now.saturating_sub(self.at + self.every);
        let held_up = HeldUp {
            late,
            ran: ran.saturating_sub(self.ran),
        };
        (self.at, self.ran) = (now, ran);
        held_up
    }
}

impl HeldUp {
    pub(crate) fn tell(self) {
        if self.late >= WORTH_TELLING {
            tracing::warn!(
                late_ms = self.late.as_millis() as u64,
                ran_ms = self.ran.as_millis() as u64,
                "the node's thread was held up: by a long command, if it ran, and else by the machine"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_late_by_what_is_above_its_interval() {
        let ms = Duration::from_millis;
        let mut pulse = Pulse::new(ms(20), ms(1000), ms(5));
        let mut beat = |now, ran| {
            let HeldUp { late, ran } = pulse.beat(ms(now), ms(ran));
            (late.as_millis(), ran.as_millis())
        };
        assert_eq!(beat(1020, 6), (0, 1));
        assert_eq!(beat(1035, 7), (0, 1));
        assert_eq!(beat(1400, 300), (345, 293));
        assert_eq!(beat(1420, 300), (0, 0));
    }
}
