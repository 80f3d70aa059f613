//! The replicas on this node (docs/adr/0018-rooms.md): what each has applied and what is in
//! flight above it, evaluation, replies that wait for a commit, expiry, copies, rewinds, seals, and
//! the log that all of them share.
//!
//! ```text
//!   commands to evaluate ───┐                     ┌─▶ messages to other nodes
//!   messages of other nodes │    ┌──────────┐     │   replies whose commit has come, or never will
//!   a newer catalog, terms  ├───▶│  Shards  ├─────┤   shards whose reads may go on
//!   seals                   │    └──────────┘     │   what the cluster room is told, or asked
//!   ticks, what is durable ─┘                     └─▶ stop
//! ```
//!
//! The doors are the methods of [`Shards`] and [`Output`], which the node carries out in order
//! after each of them. The room knows of the cluster what [`Terms`] say and the catalog that it was
//! given; of clients it knows where a reply goes, and not what that is (`T`).
//!
//! | module | holds |
//! |---|---|
//! | `room`, `door`, `host` | its parts; what leaves it and what it is told; what the cluster room sees of it |
//! | `settle` | carrying out what protocols ask for |
//! | `release` | giving up old log |
//! | `assign` | shards come, change and go with the catalog |
//! | `admission`, `evaluate` | whether a command may be evaluated at a replica here; evaluating it |
//! | `waiting` | replies that wait to be committed |
//! | `carried`, `watched` | transactions: how they travel; keys that are watched |
//! | `shard`, `tip` | a replica: its log, store and waiting replies; what is in flight |
//! | `lead` | elected primaries that hand over |
//! | `log_index` | where its entries stand in the shared log |
//! | `pulse`, `timers`, `touched` | shards at rest; what is to be looked at when |
//! | `shared_log`, `stall` | the log: what is on its way to the disk; a disk that hangs |
//! | `expire` | keys whose time is over, and dead cells |
//! | `seal`, `leaving` | replicas that are sealed for a failover; those whose place another node has taken |
//! | `copy`, `digesting` | filling a replica from another; digests, for comparing replicas |
//! | `damage`, `scrub` | a replica whose store is damaged; looking through what is on the disk |
//! | `rewind`, `rewound` | taking back a tail that a failover lost; the files that keep it |
//! | `aside` | work for another thread |
//! | `message` | what replicas on two nodes tell each other |
//!
//! Always:
//! - A reply goes out only once the tip that it was computed from is committed and in the store here.
//! - A primary answers, and acknowledges, only while its node's lease runs.
//! - What was refused before it was appended may be tried again.

mod admission;
mod aside;
mod assign;
pub mod carried;
mod copy;
mod damage;
mod digesting;
mod door;
mod evaluate;
mod expire;
mod host;
mod input;
mod inside;
mod lead;
mod leaving;
mod log_index;
pub mod message;
mod opening;
mod pulse;
mod release;
pub mod reply_room;
mod rewind;
mod rewound;
mod room;
mod scrub;
mod seal;
mod settle;
mod shard;
mod shared_log;
mod stall;
mod timers;
mod tip;
mod touched;
mod view;
mod waiting;
mod watched;

pub use aside::{Aside, AsideDone};
pub use copy::COPY_BYTES_PER_SECOND_MIN;
pub use digesting::BUCKETS_MAX;
pub use door::{Lane, Output, Terms};
pub use evaluate::{Asking, Did, Evaluated, ReadFrom, too_long};
pub use message::Message;
pub use opening::{Found, NotFound, OfOthers};
pub use room::{Config, Limits, Shards};
pub use scrub::ScrubConfig;
pub use view::{Figures, Replica};
