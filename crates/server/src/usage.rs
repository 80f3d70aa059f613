//! What this process takes, as the kernel counts it: read when a client asks for INFO.
#![allow(clippy::disallowed_methods)] // reads what the kernel says of the process

use crate::memory;
use node::Usage;
use std::{fs, time::Duration};

/// The kernel shows times in hundredths of a second, whatever it counts in.
const TICKS_A_SECOND: u32 = 100;

/// None if the kernel does not say.
pub(crate) fn usage() -> Option<Usage> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (cpu_user, cpu_system) = times_of(&stat)?;
    Some(Usage {
        resident_bytes: memory::bytes_of(&status, "VmRSS:")?,
        resident_bytes_max: memory::bytes_of(&status, "VmHWM:")?,
        memory_bytes: memory::memory(),
        cpu_user,
        cpu_system,
        os: format!("Linux {} {}", release.trim(), std::env::consts::ARCH),
    })
}

/// The times of a process in the program and in the kernel: the 14th and 15th number of its line,
/// in which the second is its name, in parentheses, of any characters.
fn times_of(stat: &str) -> Option<(Duration, Duration)> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11).map(|ticks| {
        let ticks: u32 = ticks.parse().ok()?;
        Some(Duration::from_secs(1) * ticks / TICKS_A_SECOND)
    });
    Some((times.next()??, times.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_process_is_called() {
        let line = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 9 0 1 2 3";
        let expected = (Duration::from_millis(2500), Duration::from_millis(310));
        assert_eq!(times_of(line), Some(expected));
        assert_eq!(times_of("77 (a) S 1 2"), None);
    }

    #[test]
    fn this_process_takes_something() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 0 && usage.resident_bytes <= usage.resident_bytes_max);
        assert!(usage.memory_bytes > 0 && usage.os.starts_with("Linux "));
    }
}
