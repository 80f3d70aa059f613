//! The only place that reads clocks.

use model::Now;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CLOCK_BOOTTIME, so that a machine that was suspended notices.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::Boottime)
}

/// The same, and the wall clock.
pub(crate) fn now() -> Now {
    let wall = read(ClockId::Realtime);
    Now {
        monotonic: monotonic(),
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(0),
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
