//! How much memory there is.
#![allow(clippy::disallowed_methods)] // reads what the kernel says of the machine

use std::fs;

/// What is counted on where nothing is known, in bytes.
const UNKNOWN: u64 = 1 << 30;

/// Memory for the caches of a node's shards together, unless the configuration says otherwise, in
/// bytes: a quarter of what `nodes` processes on this machine may use each.
pub fn default_cache_bytes(nodes: usize) -> u64 {
    memory() / 4 / nodes.max(1) as u64
}

/// The machine's memory, or what this process's control group is limited to if that is less.
pub(crate) fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limits = limits.iter().filter_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        text.trim().parse().ok() // "max": there is none
    });
    let total = machine
        .as_deref()
        .and_then(|table| bytes_of(table, "MemTotal:"));
    limits.chain(total).min().unwrap_or(UNKNOWN)
}

/// What one of the kernel's tables has behind `name`, in bytes.
pub(crate) fn bytes_of(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "MemTotal:       24737380 kB\nMemFree:        21870380 kB\n";
        assert_eq!(bytes_of(table, "MemTotal:"), Some(24_737_380 << 10));
        assert_eq!(bytes_of("MemFree: 1 kB\n", "MemTotal:"), None);
        assert!(default_cache_bytes(1) >= 16 << 20);
        assert!(default_cache_bytes(7) <= default_cache_bytes(1) / 7);
    }
}
