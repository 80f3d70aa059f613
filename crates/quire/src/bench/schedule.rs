//! When operations are due in an open loop.
//!
//! Operation n of a connection is due at a fixed moment, whatever happened to those before it:
//! a server that stalls for a second owes a second's worth of operations afterwards, each with
//! its wait counted (no coordinated omission). Operations come in bursts, one a tick: all that
//! fall into a tick are due at its end. That is the arrival process, not a rounding of the
//! measurement, and it keeps the number of system calls small.
//!
//! Pure: `now` is nanoseconds since the start, given by the caller.

/// The bursts' distance.
pub(super) const TICK_NS: u64 = 2_000_000;

/// The due times of one connection's operations.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Operations a second; positive and finite.
    rate: f64,
    /// Shifts this connection's operations within its rate, in [0, 1): at low rates the
    /// connections take turns instead of all sending at once.
    phase: f64,
    /// No operation is due at or after this moment.
    end_ns: u64,
    /// Operations already taken.
    taken: u64,
}

impl Schedule {
    pub(super) fn new(rate: f64, phase: f64, end_ns: u64) -> Self {
        Schedule {
            rate,
            phase,
            end_ns,
            taken: 0,
        }
    }

    /// When operation `n` is due: the end of the tick that its even spacing falls into.
    fn due_ns(&self, n: u64) -> u64 {
        let even_ns = (n as f64 + self.phase) / self.rate * 1e9;
        (even_ns as u64 / TICK_NS + 1) * TICK_NS
    }

    /// The due time of the next operation if it is due by `now_ns`, and takes it.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns()?;
        (due_ns <= now_ns).then(|| {
            self.taken += 1;
            due_ns
        })
    }

    /// When the next operation is due; None when there are no more.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let due_ns = self.due_ns(self.taken);
        (due_ns < self.end_ns).then_some(due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_stall_is_owed_and_its_wait_is_counted() {
        let mut schedule = Schedule::new(1_000.0, 0.0, 10 * SECOND_NS);
        let mut worst_wait_ns = 0;
        let mut owed = 0;
        // Nobody looked for a second.
        while let Some(due_ns) = schedule.take(SECOND_NS) {
            worst_wait_ns = worst_wait_ns.max(SECOND_NS - due_ns);
            owed += 1;
        }
        assert_eq!(owed, 1_000);
        assert_eq!(worst_wait_ns, SECOND_NS - TICK_NS);
    }

    proptest! {
        #[test]
        fn keeps_the_rate_and_the_order(
            rate in 1.0f64..200_000.0, phase in 0.0f64..1.0, steps in proptest::collection::vec(1u64..50, 1..40),
        ) {
            let end_ns = 2 * SECOND_NS;
            let mut schedule = Schedule::new(rate, phase, end_ns);
            let (mut now_ns, mut count, mut last_ns) = (0, 0u64, 0);
            let jumps = steps.iter().map(|ms| ms * 1_000_000).chain([2 * end_ns]);
            for step in jumps {
                now_ns += step;
                while let Some(due_ns) = schedule.take(now_ns) {
                    prop_assert!(due_ns >= last_ns && due_ns <= now_ns && due_ns < end_ns);
                    last_ns = due_ns;
                    count += 1;
                }
                let due_by_now = rate * (now_ns.min(end_ns) as f64 / 1e9);
                let slack = rate * (TICK_NS as f64 / 1e9) + 2.0;
                prop_assert!((count as f64 - due_by_now).abs() <= slack, "{count} of {due_by_now}");
            }
            prop_assert_eq!(schedule.next_ns(), None);
        }
    }
}
