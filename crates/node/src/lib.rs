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
//! | `settle` | carrying out what strategies ask for; giving up old log |
//! | `assign` | shards come, change and go with the catalog |
//! | `route`, `order`, `stalled` | where a command goes, and what it waits for |
//! | `admission`, `evaluate` | whether it may be evaluated at this node's replica; evaluating it |
//! | `waiting` | replies that wait to be committed, reads that wait for what was seen |
//! | `request` | a command on its way, and what goes with it |
//! | `reply`, `replies` | replies, to whomever they belong; the memory that they may take |
//! | `transaction`, `carried`, `watched` | MULTI to EXEC |
//! | `pulse`, `timers`, `touched` | shards at rest; what is to be looked at when |
//! | `stall` | a disk that hangs |
//! | `expire` | keys whose time is over, and dead cells |
//! | `split` | commands over several shards |
//! | `crossing` | COPY and MOVE from one shard to another |
//! | `forward` | commands that travel to another node |
//! | `session` | a connection's choices, positions and replies in order |
//! | `input` | what clients have sent and is not done: counted and bounded |
//! | `shard`, `tip` | a replica: its log, store and waiting replies; what is in flight |
//! | `cluster_door` | between this node and what all nodes agree on (the crate [`cluster`]) |
//! | `seal`, `leaving` | replicas that are sealed for a failover; those whose place another node has taken |
//! | `status` | what `QUIRE STATUS` answers |
//! | `admin`, `connection`, `client_command`, `config_command`, `slowlog`, `latency`, `info`, `save`, `pause`, `monitor` | commands that the node itself answers |
//! | `protected` | whom it takes as a client |
//! | `stats` | what it counts of its work |
//! | `copy`, `verify` | filling a replica from another; comparing replicas |
//! | `damage`, `scrub` | a replica whose store is damaged; looking through what is on the disk |
//! | `rewind`, `rewound` | taking back a tail that a failover lost; the files that keep it |
//! | `aside` | work for another thread |
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

mod admin;
mod admission;
mod ahead;
mod aside;
mod assign;
mod carried;
mod client_command;
mod cluster_door;
mod config_command;
mod connection;
mod copy;
mod crossing;
mod damage;
mod evaluate;
mod expire;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod info;
mod input;
mod latency;
mod leaving;
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
mod pulse;
mod replies;
mod reply;
mod request;
mod rewind;
mod rewound;
mod route;
mod save;
mod scrub;
mod seal;
mod session;
mod settle;
mod shard;
mod slowlog;
mod split;
mod stall;
mod stalled;
mod stats;
mod status;
mod timers;
mod tip;
mod touched;
mod traffic;
mod transaction;
mod turn;
mod verify;
mod waiting;
mod watched;

pub use admin::is_administration;
pub use ahead::AHEAD_MAX;
pub use aside::{Aside, AsideDone};
pub use cluster::{Doubt, Introduction, NotAdmitted, PeerConfig};
pub use commands::work::WORK_MAX as COMMAND_WORK_MAX;
pub use copy::COPY_BYTES_PER_SECOND_MIN;
pub use info::Usage;
pub use input::{ClientBounds, QueryBuffer};
pub use limits::NodeLimits;
pub use message::MESSAGE_BYTES_MAX;
pub use node::{ConnId, Disks, Effect, Lane, Node, NodeConfig, OpenError};
pub use onlooker::ShardStanding;
pub use replies::REPLY_MEMORY_BYTES_MIN;
pub use scrub::ScrubConfig;
pub use traffic::Traffic;
pub use turn::COMMAND_WORK_MIN;
