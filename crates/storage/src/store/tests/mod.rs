//! The store against a plain model of keys, on both kinds of rows.

mod damage;
mod fixture;
mod primary;
mod random;
mod rewind;
mod rows;
mod scans;
mod stories;

use super::*;

fn budget() -> CacheBudget {
    // Small, so that keys are evicted.
    CacheBudget { bytes: 6 << 10 }
}

fn roomy() -> CacheBudget {
    // All that a test reads and writes is kept.
    CacheBudget { bytes: 4 << 20 }
}

fn lsm(dir: &std::path::Path) -> LsmStores {
    let options = BackgroundOptions {
        compaction_threads: 2,
        memtable_bytes: 8 << 10,
        block_cache_bytes: 1 << 20,
        ..BackgroundOptions::default()
    };
    LsmStores::new(dir, Background::start(options).unwrap())
}
