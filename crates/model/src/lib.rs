//! The values that every part of Quire shares, and nothing that acts.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | names of nodes, regions, keyspaces and shards, checked when made |
//! | [`address`] | where something is reached: a name or an IP, and a port |
//! | [`lsn`] | a position in a node's log |
//! | [`position`] | (epoch, index) in a shard's log, and the history of epochs |
//! | [`stamp`] | the hybrid logical clock |
//! | [`slot`] | key → hash slot, as in Redis Cluster |
//! | [`cursor`] | where a scan of keys goes on |
//! | [`strategy`] | topology, acknowledgement rule, placement: what a keyspace chooses |
//! | [`catalog`] | the cluster's agreed facts |
//! | [`cell`] | versioned cells that merge |
//! | [`mutation`] | the effect of a command: what to write |
//! | [`fold`] | what each op of a mutation means |
//! | [`limits`] | how long keys, fields and strings may be |
//! | [`entry`] | a mutation in a shard's log; the same bytes on disk and on the wire |
//! | [`work`] | what a value costs |
//! | [`release`] | which versions a release can work with |
//! | [`parts`] | bytes in parts, so that what is large is sent without a copy |
//!
//! Everything here is plain data: no clock, no randomness, no IO. A type that can be
//! wrong is checked by its constructor; holding one is the proof.

pub mod address;
pub mod catalog;
pub mod cell;
pub mod codec;
pub mod cursor;
pub mod entry;
pub mod few;
pub mod fold;
pub mod id;
pub mod limits;
pub mod lsn;
pub mod mutation;
pub mod parts;
pub mod planted;
pub mod position;
pub mod release;
pub mod slot;
pub mod stamp;
pub mod strategy;
pub mod time;
pub mod work;

pub use address::{Address, AddressError};
pub use catalog::{Boot, Catalog};
pub use entry::{Entry, EntryKind};
pub use id::{DiskId, Epoch, KeyspaceId, KeyspaceName, NodeId, Region, ShardId};
pub use lsn::Lsn;
pub use mutation::{Mutation, Op};
pub use parts::Parts;
pub use position::{EpochHistory, Position};
pub use release::Release;
pub use stamp::{HybridClock, Stamp};
pub use strategy::{AckRule, Failover, OnTimeout, Placement, Topology};
pub use time::Now;
