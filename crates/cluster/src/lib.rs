//! What the nodes of a cluster agree on, as one node takes part in it: the voters' group, the
//! catalog and how it spreads, leases, suspicion and failover, who the nodes are, what they report
//! of themselves, and what time it is.
//!
//! ```text
//!   messages of other nodes ─┐                      ┌─▶ messages to other nodes
//!   ticks, `settle`          │    ┌───────────┐     │   a newer catalog, a lease
//!   wishes: ask, confirm, …  ├───▶│  Cluster  ├─────┤   seals for replicas of this node
//!   `durable`                │    └─────┬─────┘     │   outcomes of what was asked
//!   peers that come and go  ─┘          │           └─▶ stop, discard
//!                                     Host: the replicas and the disk of this node, as they are
//! ```
//!
//! The doors are [`Cluster`]'s methods, [`Output`], which the node carries out in order after each
//! of them, and [`Host`], by which this room looks at the rest of its node. It knows neither
//! commands nor sessions nor stores.
//!
//! | module | holds |
//! |---|---|
//! | [`cluster`](mod@cluster) | the room: its parts and its doors |
//! | [`host`] | what it sees of its node |
//! | [`message`] | what it tells its like on other nodes |
//! | `control` | the group that agrees on the catalog: its voters, followers, and what is asked of it |
//! | `failover`, `hand_over` | another primary for a shard whose own is gone, or is to end |
//! | `lease` | who may act as primary |
//! | `peers`, `report`, `figures` | how nodes and replicas stand: heartbeats, and what people want to see |
//! | `standing`, `whereabouts` | who a node is to the others; where it looks for them |
//! | `level`, `rehearsal` | what may be used while nodes run two releases; tests of that |
//! | `replay` | what the node's log has of this room |
//! | `clock`, `timekeeping` | the time that the node keeps, out of its machine's clocks and its peers' |
//!
//! Always:
//! - A catalog that is adopted was agreed on, and is newer than the one before.
//! - A lease is held only until another node could be named in this one's place.
//! - Nothing is proposed that rests on a lease, or on silence, but by the leader that watched it.

mod clock;
pub mod cluster;
mod control;
mod failover;
mod figures;
mod hand_over;
pub mod host;
mod lease;
mod level;
pub mod message;
mod peers;
mod rehearsal;
mod replay;
mod report;
mod standing;
mod timekeeping;
mod whereabouts;

pub use cluster::{Cluster, Config, Output, PeerConfig};
pub use figures::ShownFigures;
pub use hand_over::Why;
pub use host::Host;
pub use lease::Doubt;
pub use message::Message;
pub use peers::SILENT;
pub use replay::Replay;
pub use report::CAUGHT_UP_LAG;
pub use standing::{Introduction, NotAdmitted};
