//! Whether this machine can tell how fast a cluster is that runs on it, clients included.

use std::{fs, thread};

/// With fewer cores the nodes and the clients wait for each other, and that is what is measured.
const CORES_MIN: usize = 4;
/// A machine that is busier than this has no time left to be punctual.
const BUSY_MAX: f64 = 0.9;
/// Less of what was asked for was done.
const ACHIEVED_MIN: f64 = 0.95;

pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What process `pid` has taken of the processors, in seconds; None where the system does not tell.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|t| t as f64 / 100.0)
}

/// From `/proc/<pid>/stat`: user and system time are the 14th and 15th field; the second, a name
/// in brackets, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// What the machine's processors have done since it was started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuTimes {
    idle: u64,
    all: u64,
}

impl CpuTimes {
    /// None where the system does not tell.
    pub(super) fn now() -> Option<Self> {
        CpuTimes::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// From `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what guests take
    /// is in the first two already.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find(|line| line.starts_with("cpu "))?;
        let ticks = line.split_whitespace().skip(1).take(8);
        let ticks: Vec<u64> = ticks.map_while(|word| word.parse().ok()).collect();
        Some(CpuTimes {
            idle: ticks.get(3)? + ticks.get(4)?,
            all: ticks.iter().sum(),
        })
    }

    /// Which part of the time since `before` was not idle.
    fn busy_since(self, before: CpuTimes) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let idle = self.idle.saturating_sub(before.idle);
        Some(1.0 - idle as f64 / all as f64)
    }
}

/// Why latencies that were measured here say nothing of Quire; None if they may.
pub(super) fn unfit(
    cores: usize,
    times: Option<(CpuTimes, CpuTimes)>,
    asked: f64,
    achieved: f64,
) -> Option<String> {
    let busy = times.and_then(|(before, after)| after.busy_since(before));
    if cores < CORES_MIN {
        let s = if cores == 1 { "" } else { "s" };
        Some(format!(
            "it has {cores} core{s} for all nodes and the clients"
        ))
    } else if let Some(busy) = busy.filter(|busy| *busy > BUSY_MAX) {
        let percent = busy * 100.0;
        Some(format!(
            "its {cores} cores were busy {percent:.0} % of the time"
        ))
    } else if achieved < asked * ACHIEVED_MIN {
        let percent = achieved / asked * 100.0;
        Some(format!(
            "{percent:.0} % of what was asked for was done in time"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_was_not_idle_is_busy() {
        let before = CpuTimes::parse("cpu  10 0 10 70 10 0 0 0 9 9\ncpu0 1 2 3 4 5\n").unwrap();
        assert_eq!(before, CpuTimes { idle: 80, all: 100 });
        let after = CpuTimes::parse("cpu  55 0 50 75 15 0 5 0 9 9\n").unwrap();
        assert_eq!(after.busy_since(before), Some(0.9));
        assert_eq!(before.busy_since(before), None);
        assert_eq!(CpuTimes::parse("cpu  1 2\n"), None);
        assert_eq!(CpuTimes::parse(""), None);
    }

    #[test]
    fn a_machine_that_is_small_or_busy_can_not_tell() {
        let times = |idle| {
            let before = CpuTimes { idle: 0, all: 0 };
            Some((before, CpuTimes { idle, all: 100 }))
        };
        assert_eq!(unfit(8, times(50), 100.0, 99.0), None);
        assert_eq!(unfit(8, None, 100.0, 99.0), None);
        let why = |cores, idle, achieved| unfit(cores, times(idle), 100.0, achieved).unwrap();
        assert_eq!(
            why(2, 50, 99.0),
            "it has 2 cores for all nodes and the clients"
        );
        assert_eq!(why(8, 5, 99.0), "its 8 cores were busy 95 % of the time");
        assert_eq!(
            why(8, 50, 80.0),
            "80 % of what was asked for was done in time"
        );
    }
}
