//! The shared log and the store: all that a node keeps on disk.
//!
//! | module | holds |
//! |---|---|
//! | [`disk`] | a trait over a directory of files, the real one, and a simulated one |
//! | [`log`] | the only write-ahead log of a node, shared by its shards |
//! | [`store`] | the current values of each shard, rebuilt from the log after a crash |
//! | [`scrub`] | a look through all of it for decay |

pub mod disk;
pub mod log;
pub mod scrub;
pub mod store;
