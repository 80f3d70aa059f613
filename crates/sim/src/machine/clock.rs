//! One machine's clocks: they run at a rate of their own, and the wall clock can be stepped.

use crate::random::Random;
use model::Now;
use std::time::Duration;

/// When the world began, as wall clocks count.
const EPOCH_MS: i64 = 1_700_000_000_000;
const MILLION: i128 = 1_000_000;

/// Two clocks over the world's one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The world's time at which the rest was fixed.
    since: Duration,
    /// What the monotonic clock said then.
    monotonic: Duration,
    /// By how many microseconds the wall clock was ahead of the world's then.
    wall_ahead_us: i64,
    /// By how much faster than the world both run, in millionths.
    rate_ppm: i64,
}

impl Clock {
    /// Clocks that are off by up to 200 ms and run true.
    pub(crate) fn new(random: &mut Random) -> Self {
        Clock {
            since: Duration::ZERO,
            monotonic: Duration::from_millis(random.below(1_000_000)),
            wall_ahead_us: (random.below(400) as i64 - 200) * 1000,
            rate_ppm: 0,
        }
    }

    /// What both say at the world's `now`.
    pub(crate) fn now(&self, now: Duration) -> Now {
        let passed = now.saturating_sub(self.since);
        let drift_us = self.drift_us(passed);
        let wall_us = now.as_micros() as i64 + self.wall_ahead_us + drift_us;
        let monotonic = self.monotonic + passed;
        Now {
            monotonic: if drift_us < 0 {
                monotonic.saturating_sub(Duration::from_micros(drift_us.unsigned_abs()))
            } else {
                monotonic + Duration::from_micros(drift_us.unsigned_abs())
            },
            wall_ms: EPOCH_MS.saturating_add(wall_us / 1000).max(0) as u64,
        }
    }

    fn drift_us(&self, passed: Duration) -> i64 {
        (passed.as_micros() as i128 * i128::from(self.rate_ppm) / MILLION) as i64
    }

    /// A moment of the monotonic clock, as the world counts; at most a few microseconds late.
    pub(crate) fn world_time(&self, monotonic: Duration) -> Duration {
        let ahead = monotonic.saturating_sub(self.monotonic);
        if self.rate_ppm == 0 {
            return self.since + ahead;
        }
        let us = ahead.as_micros() as i128 * MILLION / (MILLION + i128::from(self.rate_ppm));
        self.since + Duration::from_micros(us as u64 + 2)
    }

    /// From now on both run at this rate.
    pub(crate) fn set_rate(&mut self, now: Duration, rate_ppm: i64) {
        let drift_us = self.drift_us(now.saturating_sub(self.since));
        self.monotonic = self.now(now).monotonic;
        self.wall_ahead_us += drift_us;
        self.since = now;
        self.rate_ppm = rate_ppm;
    }

    /// The wall clock is set.
    pub(crate) fn step_wall(&mut self, ms: i64) {
        self.wall_ahead_us += ms * 1000;
    }

    /// The machine starts anew: so does the monotonic clock.
    pub(crate) fn restart(&mut self, now: Duration, random: &mut Random) {
        self.set_rate(now, self.rate_ppm);
        self.monotonic = Duration::from_millis(random.below(1_000_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_fast_clock_gains_and_keeps_what_it_gained() {
        let mut clock = Clock::new(&mut Random::new(1));
        let began = clock.now(s(10));
        clock.set_rate(s(10), 20_000);
        assert_eq!(clock.now(s(10)), began);
        let later = clock.now(s(110));
        assert_eq!(later.monotonic - began.monotonic, s(102));
        assert_eq!(later.wall_ms - began.wall_ms, 102_000);
        clock.set_rate(s(110), 0);
        assert_eq!(clock.now(s(120)).monotonic - began.monotonic, s(112));
        clock.step_wall(-5_000);
        assert_eq!(clock.now(s(120)).wall_ms - began.wall_ms, 107_000);
        assert_eq!(clock.now(s(120)).monotonic - began.monotonic, s(112));
    }

    #[test]
    fn a_moment_of_the_clock_is_found_in_the_worlds_time() {
        for rate in [-20_000, -7, 0, 13, 20_000] {
            let mut clock = Clock::new(&mut Random::new(2));
            clock.set_rate(s(3), rate);
            let moment = clock.now(s(500)).monotonic;
            let found = clock.world_time(moment);
            assert!(found >= s(500) && found < s(500) + Duration::from_micros(5));
            assert!(clock.now(found).monotonic >= moment);
        }
    }
}
