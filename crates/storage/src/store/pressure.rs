//! How much writers are slowed down while a tree is behind.

use super::rows::Pressure;

/// Memtables (in memtables' worth of bytes, the active one included) and sorted runs above
/// which writers are slowed, and at which they stop.
const MEMTABLES: (f64, f64) = (2.0, 5.0);
const RUNS: (f64, f64) = (8.0, 24.0);
/// A MiB costs half of this half-way to the stop, in microseconds, and twenty times as much as this
/// just before it: what the disk bears is not known, and writers are to be slowed to that before
/// they are stopped.
const DELAY_US_PER_MIB: f64 = 20_000.0;

/// Of so many memtables that are not in files, and sorted runs, for so many bytes written.
pub(super) fn pressure(memtables: f64, runs: usize, written_bytes: u64) -> Pressure {
    let over = |at: f64, (slow, stop): (f64, f64)| ((at - slow) / (stop - slow)).max(0.0);
    let over = over(memtables, MEMTABLES).max(over(runs as f64, RUNS));
    let over = over.min(1.0);
    let mib = written_bytes as f64 / f64::from(1 << 20);
    let delay_us = over.powi(2) / (1.05 - over) * DELAY_US_PER_MIB * mib;
    Pressure {
        delay_us: delay_us as u32,
        stop: over >= 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_slowed_more_and_more_before_they_are_stopped() {
        let of = |memtables| pressure(memtables, 0, 1 << 20);
        assert_eq!((of(1.9).delay_us, of(1.9).stop), (0, false));
        let delays: Vec<_> = (0..10).map(|n| of(2.0 + 0.3 * f64::from(n))).collect();
        assert!(delays.iter().all(|pressure| !pressure.stop));
        assert!(delays.is_sorted_by(|a, b| a.delay_us < b.delay_us));
        assert!(of(5.0).stop);
        let half_way = of(3.5).delay_us;
        assert!((8_000..10_000).contains(&half_way) && of(4.9).delay_us > 20 * half_way);
        // Of what is further behind; and as much for a byte, however many came at once.
        assert_eq!(pressure(3.0, 24, 1 << 20), of(5.0));
        assert!(
            pressure(5.0, 0, 8 << 20)
                .delay_us
                .abs_diff(8 * of(5.0).delay_us)
                < 8
        );
    }
}
