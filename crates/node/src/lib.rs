//! One node of a cluster: routing, shards, sessions, and the catalog by which they go. No sockets,
//! no clock, no threads: the host feeds inputs and carries out effects, so that a server and a
//! simulator host the same code.
//!
//! ```text
//!  client_*  peer_*  flush_*     tick           (inputs, each with the time)
//!      │        │         │        │
//!      ▼        ▼         ▼        ▼
//!  ┌───────┐ route ┌────────┐ propose ┌──────────┐ append  ┌─────┐ take_flush
//!  │session│──────▶│ shard  │────────▶│ strategy │────────▶│ log │──────────▶ disk
//!  └───────┘       └────────┘         └──────────┘         └─────┘
//!      ▲ reply          ▲ apply, release      │ commit
//!      └────────────────┴────────────────────┘            poll_effect ──▶ sockets
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`node`](mod@node) | the node: its parts, opening it, inputs |
//! | `cluster_door`, `shards_door` | between this node and its rooms: what all nodes agree on ([`cluster`]), the replicas here ([`shards`]) |
//! | `route`, `order`, `stalled` | where a command goes, and what it waits for |
//! | `readers` | what becomes of a command that was evaluated here; reads that wait for what was seen |
//! | `request` | a command on its way, and what goes with it |
//! | `reply`, `replies` | replies, to whomever they belong; the memory that they may take |
//! | `transaction` | MULTI to EXEC |
//! | `stall` | what is done when the disk hangs |
//! | `split` | commands over several shards |
//! | `crossing` | COPY and MOVE from one shard to another |
//! | `forward` | commands that travel to another node |
//! | `session` | a connection's choices, positions and replies in order |
//! | `input` | what clients have sent and is not done: counted and bounded |
//! | `status` | what `QUIRE STATUS` answers |
//! | `admin`, `connection`, `client_command`, `config_command`, `slowlog`, `latency`, `info`, `save`, `pause`, `monitor` | commands that the node itself answers |
//! | `protected` | whom it takes as a client |
//! | `stats` | what it counts of its work |
//! | `verify` | comparing replicas |
//! | `message` | what nodes tell each other |
//!
//! Invariants:
//! - A reply goes out only once the tip that it was computed from is committed and in the
//!   store here; so only committed data is ever visible.
//! - A session's position moves when its write is appended, and a read on the same connection
//!   is not answered from less.
//! - A primary answers, and acknowledges, only while its node's lease runs.
//! - What was refused before it was appended may be tried again; anything else whose answer is
//!   lost is answered with "outcome unknown", never tried again.

#![allow(
    unreachable_pub,
    reason = "what is public of the gate is so once it is a crate"
)]

mod admin;
mod administration;
mod ahead;
mod client_command;
mod cluster_door;
mod config_command;
mod connection;
mod crossing;
#[cfg(test)]
mod crossing_tests;
mod debug;
mod door;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod gate_door;
mod host;
mod info;
mod input;
#[cfg(test)]
mod input_tests;
#[cfg(test)]
mod inside;
mod latency;
mod level_command;
mod limits;
mod message;
mod monitor;
pub mod node;
#[doc(hidden)]
pub mod observed;
mod onlooker;
mod order;
mod pause;
mod protected;
#[cfg(test)]
mod pulse_tests;
mod readers;
mod replies;
mod reply;
mod request;
#[cfg(test)]
mod rewind_tests;
mod room;
mod route;
mod save;
mod session;
mod settings;
mod shards_door;
mod slowlog;
mod split;
mod stall;
mod stalled;
mod stats;
mod status;
mod traffic;
mod transaction;
mod turn;
#[cfg(test)]
mod turn_tests;
mod verify;

pub use administration::is_administration;
pub use ahead::AHEAD_MAX;
pub use cluster::{Doubt, Introduction, NotAdmitted, PeerConfig};
pub use commands::work::WORK_MAX as COMMAND_WORK_MAX;
pub use info::Usage;
pub use input::QueryBuffer;
pub use limits::{ClientBounds, NodeLimits};
pub use node::{ConnId, Disks, Effect, Lane, Node, NodeConfig, OpenError};
pub use onlooker::ShardStanding;
pub use replies::REPLY_MEMORY_BYTES_MIN;
pub use shards::{
    Aside, AsideDone, COPY_BYTES_PER_SECOND_MIN, ScrubConfig, reply_room::MESSAGE_BYTES_MAX,
};
pub use traffic::Traffic;
pub use turn::COMMAND_WORK_MIN;
