//! One node of a cluster: its three rooms (docs/adr/0018-rooms.md), what wires them, and what answers for
//! all of them. No sockets, no clock, no threads: the host feeds inputs and carries out effects, so that
//! a server and a simulator host the same code.
//!
//! ```text
//!  client_*      peer_*      flush_*      tick          (inputs, each with the time)
//!     │       ┌────┼────────────┘          │ all
//!     ▼       ▼    ▼
//!  ┌──────┐ evaluate ┌────────┐ terms, seals ┌─────────┐
//!  │ gate │─────────▶│ shards │◀────────────▶│ cluster │
//!  └──┬───┘◀─────────└──┬─────┘              └───┬─────┘
//!     │   replies       │                        │ catalogs
//!     └────── what each puts out: `*_door` ──────┘ ─────▶ poll_effect ──▶ sockets
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`node`](mod@node) | the node: its parts, opening it, inputs |
//! | `gate_door`, `shards_door`, `cluster_door` | between this node and its rooms: clients and commands on their way ([`gate`]), the replicas here ([`shards`]), what all nodes agree on ([`cluster`]) |
//! | `ahead` | what commands that are about to come look up |
//! | `admin`, `level_command`, `status`, `config_command`, `info`, `save`, `verify` | commands that look at the whole node |
//! | `leaders` | who leads the shards that elect their primary |
//! | `limits` | what may change while it runs |
//! | `stall` | what is done when the disk hangs |
//! | `message` | what nodes tell each other |
//! | `onlooker`, `observed` | what a simulator sees |
//!
//! Invariants:
//! - A reply goes out only once the tip that it was computed from is committed and in the
//!   store here; so only committed data is ever visible.
//! - A primary answers, and acknowledges, only while its node's lease runs.
//! - No room is called while it works: what one wants of another waits in its queue until it is at rest.

mod admin;
mod ahead;
mod cluster_door;
mod config_command;
#[cfg(test)]
mod crossing_tests;
#[doc(hidden)]
pub mod fuzzing;
mod gate_door;
mod info;
#[cfg(test)]
mod input_tests;
mod leaders;
mod level_command;
mod limits;
mod message;
pub mod node;
#[doc(hidden)]
pub mod observed;
mod onlooker;
#[cfg(test)]
mod pulse_tests;
#[cfg(test)]
mod rewind_tests;
mod save;
mod shards_door;
mod stall;
mod status;
#[cfg(test)]
mod turn_tests;
mod verify;

pub use ahead::AHEAD_MAX;
pub use cluster::{Doubt, Introduction, NotAdmitted, PeerConfig};
pub use commands::work::WORK_MAX as COMMAND_WORK_MAX;
pub use gate::{COMMAND_WORK_MIN, QueryBuffer, REPLY_MEMORY_BYTES_MIN, Traffic, is_administration};
pub use info::Usage;
pub use limits::{ClientBounds, NodeLimits};
pub use node::{ConnId, Disks, Effect, Lane, Node, NodeConfig, OpenError};
pub use onlooker::ShardStanding;
pub use shards::{
    Aside, AsideDone, COPY_BYTES_PER_SECOND_MIN, ScrubConfig, reply_room::MESSAGE_BYTES_MAX,
};
