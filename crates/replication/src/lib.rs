//! How the copies of a shard agree, without IO.
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | the contract: what every topology is told, and what it asks for |
//! | [`acknowledgement`] | rule + who has what on disk → what is committed |
//! | [`progress`] | what a primary knows of one replica's log |
//! | [`session`] | what a client has seen, and whether a replica may answer it |
//! | [`rest`] | shards that nothing happens to: one word between two nodes for all of them |
//! | [`primary_replica`] | one replica takes the writes and streams them to the others |
//! | [`consensus`] | a group that agrees by Raft: the control plane's, and a shard's |
//! | `tail` | the most recent entries of a log, in memory |
//! | `conformance` | one suite that every topology runs |
//!
//! Nothing here knows what a mutation means, where a log lies or what a socket is. Time is an
//! argument, and there is no randomness.

pub mod acknowledgement;
#[cfg(test)]
mod conformance;
pub mod consensus;
pub mod primary_replica;
pub mod progress;
pub mod protocol;
pub mod rest;
pub mod session;
mod tail;
