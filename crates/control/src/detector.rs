//! Whether a node is silent for longer than its own habit explains: the phi-accrual failure
//! detector (Hayashibara et al., 2004), with the logistic approximation of the normal
//! distribution that Akka uses.
//!
//! ```text
//!   heard(now) ─▶ intervals ─▶ mean, deviation ─┐
//!                                  silence ─────┴─▶ phi ≥ 8, and silent for 400 ms ─▶ suspected
//! ```
//!
//! phi 8 means: by what was seen so far such a silence comes once in 10⁸ intervals. A machine
//! that is busy gives irregular intervals, and is suspected later.

use std::{collections::VecDeque, time::Duration};

/// Intervals that are remembered.
const WINDOW: usize = 64;
/// Arrivals closer together than this are one: what matters is the heartbeat, not the traffic.
const MERGED_MS: f64 = 80.0;
/// A node that was never heard is expected to speak this often.
const FIRST_MS: f64 = 200.0;
/// However regular a node is, a scheduler may delay it.
const DEVIATION_MIN_MS: f64 = 40.0;
/// Above this a node is suspected.
const THRESHOLD: f64 = 8.0;
/// Never before so much silence.
const SILENCE_MIN: Duration = Duration::from_millis(400);

/// What is known of one node's heartbeat. Times are of the observer's monotonic clock.
#[derive(Clone, Debug)]
pub struct Detector {
    /// Milliseconds.
    intervals: VecDeque<f64>,
    /// When the last interval ended.
    sampled_at: Duration,
    heard_at: Duration,
    /// How long the observer itself was not there since then.
    absent: Duration,
}

impl Detector {
    /// A node that is expected to be heard from `now` on.
    pub fn new(now: Duration) -> Self {
        Detector {
            intervals: VecDeque::new(),
            sampled_at: now,
            heard_at: now,
            absent: Duration::ZERO,
        }
    }

    /// Something came from the node.
    pub fn heard(&mut self, now: Duration) {
        let interval = now.saturating_sub(self.sampled_at).as_secs_f64() * 1e3;
        let pause = self.absent > Duration::ZERO || self.is_suspected(now);
        self.heard_at = now;
        self.absent = Duration::ZERO;
        if pause {
            // Its end says nothing of the habit.
            self.sampled_at = now;
        } else if interval >= MERGED_MS {
            self.sampled_at = now;
            if self.intervals.len() == WINDOW {
                self.intervals.pop_front();
            }
            self.intervals.push_back(interval);
        }
    }

    /// The observer itself did nothing for so long: that is no silence of the node's.
    pub fn absent(&mut self, pause: Duration) {
        self.absent += pause;
    }

    /// For how long nothing was heard.
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard_at)
            .saturating_sub(self.absent)
    }

    /// Whether the silence is out of the ordinary.
    pub fn is_suspected(&self, now: Duration) -> bool {
        self.silence(now) >= SILENCE_MIN && self.phi(now) >= THRESHOLD
    }

    /// How unlikely the silence is: the negative decimal logarithm of its probability.
    pub fn phi(&self, now: Duration) -> f64 {
        let count = self.intervals.len().max(1) as f64;
        let mean = match self.intervals.is_empty() {
            true => FIRST_MS,
            false => self.intervals.iter().sum::<f64>() / count,
        };
        let squares = self.intervals.iter().map(|i| (i - mean) * (i - mean));
        let deviation = (squares.sum::<f64>() / count).sqrt().max(DEVIATION_MIN_MS);
        let y = (self.silence(now).as_secs_f64() * 1e3 - mean) / deviation;
        let e = (-y * (1.5976 + 0.070_566 * y * y)).exp();
        if y > 0.0 {
            // exp(-y…) may be 0: phi is infinite then, which is above any threshold.
            -(e / (1.0 + e)).log10()
        } else {
            -(1.0 - 1.0 / (1.0 + e)).log10()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When it is suspected, in ms of silence.
    fn patience(detector: &Detector, last: u64) -> u64 {
        (0..100_000)
            .find(|silence| detector.is_suspected(ms(last + silence)))
            .unwrap()
    }

    fn with_intervals(intervals: impl Iterator<Item = u64>) -> (Detector, u64) {
        let mut now = 1000;
        let mut detector = Detector::new(ms(now));
        for interval in intervals {
            now += interval;
            assert!(!detector.is_suspected(ms(now)));
            detector.heard(ms(now));
        }
        (detector, now)
    }

    #[test]
    fn a_regular_node_is_suspected_soon_and_an_irregular_one_later() {
        let (regular, last) = with_intervals((0..100).map(|_| 100));
        assert_eq!(patience(&regular, last), 400);
        let (busy, last) = with_intervals((0..100).map(|n| 60 + n * 7 % 300));
        assert!((500..1500).contains(&patience(&busy, last)));
    }

    #[test]
    fn a_node_that_was_never_heard_is_suspected_too() {
        let detector = Detector::new(ms(500));
        assert!((400..600).contains(&patience(&detector, 500)));
    }

    #[test]
    fn traffic_does_not_make_it_impatient() {
        let (chatty, last) = with_intervals((0..5000).map(|_| 3));
        assert_eq!(patience(&chatty, last), 400);
    }

    #[test]
    fn the_observers_own_pause_is_not_the_nodes_silence() {
        let (mut detector, last) = with_intervals((0..100).map(|_| 100));
        detector.absent(ms(5000));
        assert!(!detector.is_suspected(ms(last + 5300)));
        assert!(detector.is_suspected(ms(last + 5400)));
        // Nor does the end of a pause or of a silence change what is expected.
        detector.heard(ms(last + 6000));
        assert_eq!(patience(&detector, last + 6000), 400);
    }
}
