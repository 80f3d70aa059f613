//! The only place that reads clocks.

use model::Now;
use rustix::time::{ClockId, clock_gettime};
use std::{
    path::Path,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

/// By how many milliseconds the wall clock is to look ahead. Zero but in tests.
static TEST_AHEAD_MS: AtomicI64 = AtomicI64::new(0);
/// How often a test's file is read.
const TEST_EVERY: Duration = Duration::from_millis(10);

/// CLOCK_BOOTTIME, so that a machine that was suspended notices.
pub(crate) fn monotonic() -> Duration {
    read(ClockId::Boottime)
}

/// The same, and the wall clock.
pub(crate) fn now() -> Now {
    let wall = read(ClockId::Realtime);
    Now {
        monotonic: monotonic(),
        wall_ms: u64::try_from(wall.as_millis())
            .unwrap_or(0)
            .saturating_add_signed(TEST_AHEAD_MS.load(Relaxed)),
    }
}

/// How long this thread has run, in the program and in the kernel.
pub(crate) fn thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// For tests of clocks that step: from now on the wall clock looks as many milliseconds ahead as
/// this file says, whenever it is changed.
pub(crate) fn follow_test_file(file: &Path) -> std::io::Result<()> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Ok(ms) = text.trim().parse() {
            TEST_AHEAD_MS.store(ms, Relaxed);
        }
    };
    tracing::warn!(file = %file.display(), "a test sets the wall clock of this process");
    read(file);
    let file = file.to_owned();
    std::thread::Builder::new()
        .name("test-clock".into())
        .spawn(move || {
            loop {
                std::thread::sleep(TEST_EVERY);
                read(&file);
            }
        })
        .map(drop)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
