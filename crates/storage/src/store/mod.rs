//! The current values of a shard.
//!
//! In go committed entries, in order ([`ShardStore::apply`]). Out come headers, values and
//! fields, the position that has been applied, a pinned view to copy or to digest, and what
//! is due: keys whose time is over, and dead cells to purge.
//!
//! ```text
//! ShardStore   keys, fields, expiry, purging, copying, digests,    shard, apply, copy, digest,
//!              taking back a tail that was lost                    rewind
//!   Cache      small keys as they are read, within a byte budget   cache
//!   layout     what the rows are: the format on disk               layout
//! Rows         ordered rows, written in batches                    rows
//!   LsmRows    one lsm-tree a shard, threads shared by a node      lsm, stores, memtable, background
//!   MemoryRows a model of the same, with its crashes, for tests    memory
//! ```
//!
//! # What holds
//! - There is no write-ahead log here: the shared log is the only one. A batch holds the rows
//!   of whole entries and the position it brings the shard to, and is there whole or not at
//!   all. After a crash the store is at the boundary of some batch, at or above the last
//!   flush; [`ShardStore::applied`] says which, and the log is replayed from there.
//! - The log may be cut only at or below [`ShardStore::flushed`].
//! - Entries at or below the applied position are skipped, so replaying is harmless; a gap
//!   is refused.
//! - Equal entries applied from equal state give equal state: nothing in
//!   [`ShardStore::apply`] depends on the cache, the clock or the cut of the batches.
//! - One thread owns a `ShardStore`; its snapshots may go to others.

mod apply;
mod background;
mod cache;
mod copy;
mod digest;
mod due;
mod error;
mod expiring;
mod files;
mod generation;
mod held;
mod layout;
mod lsm;
mod memory;
mod memtable;
mod prefetch;
mod pressure;
mod rewind;
mod rows;
mod scan;
mod shard;
mod stores;
mod writeback;

#[cfg(test)]
mod tests;

pub use background::{Background, BackgroundOptions};
pub use cache::{CacheBudget, CacheStats, WARM_KEYS_MAX};
pub use copy::{Chunk, ShardSnapshot};
pub use digest::{BUCKETS, BucketKeys, DigestState, KeyDigest, bucket_of, key_order};
pub use due::{Dead, DeadPlace, Expired, ExpiryPlace, News};
pub use error::StoreError;
pub use layout::{Applied, cursor_of, field_cursor_of};
pub use lsm::{LsmRows, LsmSnapshot};
pub use memory::{MemoryRows, MemorySnapshot, MemoryStores};
pub use prefetch::{Guess, Prefetch};
pub use rewind::KeysChunk;
pub use rows::{
    Found, Pressure, RowBatch, RowStats, Rows, RowsSnapshot, ScrubFiles, Stores, Visit,
};
pub use scan::{Passed, ROW_WORK};
pub use shard::ShardStore;
pub use stores::LsmStores;
