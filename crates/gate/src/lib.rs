//! The gate of a node (docs/adr/0018-rooms.md, docs/adr/0021-the-gate.md): its clients, and commands on
//! their way.
//!
//! ```text
//!   clients: commands, input ──────┐              ┌─▶ output for clients
//!   other nodes: commands, answers │   ┌──────┐   │   commands and answers for other nodes
//!   replies whose commit has come  ├──▶│ Gate ├───┤   what a client asks of the whole node
//!   a newer catalog, a lease       │   └──┬───┘   └─▶ whether there is a newer catalog
//!   ticks ─────────────────────────┘      │
//!                                         ▼ while it works
//!                        Host: the replicas here, and who is up
//! ```
//!
//! The doors are the methods of [`Gate`]:
//!
//! | who | tells it |
//! |---|---|
//! | a client | [`connected`](Gate::connected), [`command`](Gate::command) with borrowed arguments, [`query`](Gate::query), [`protocol_error`](Gate::protocol_error), [`disconnected`](Gate::disconnected); and asks [`admit`](Gate::admit), [`accepts`](Gate::accepts), [`output`](Gate::output) |
//! | another node | [`forwarded`](Gate::forwarded), [`forward_answered`](Gate::forward_answered), [`peer_lost`](Gate::peer_lost), [`peer_queued`](Gate::peer_queued) |
//! | the room of replicas | [`deliver`](Gate::deliver), [`gave_up`](Gate::gave_up), [`moved_on`](Gate::moved_on), [`retired`](Gate::retired) |
//! | the cluster room | [`follow`](Gate::follow), [`leased`](Gate::leased), [`newest_is_known`](Gate::newest_is_known) |
//! | the node, of what is its own to answer | [`answer`](Gate::answer), [`hold`](Gate::hold) and [`deliver`](Gate::deliver), [`go_on`](Gate::go_on) |
//! | time | [`arrives`](Gate::arrives), [`tick`](Gate::tick), [`tick_last`](Gate::tick_last), [`wake`](Gate::wake), [`upkeep`](Gate::upkeep) |
//!
//! What it wants of the node ([`Output`]) waits in a queue ([`Gate::poll`]) until it is at rest; what
//! it has to know at once it asks of its [`Host`], which calls nothing of it. So nothing happens in
//! here while something happens in here.
//!
//! | module | holds |
//! |---|---|
//! | `room`, `door`, `host` | its parts; what leaves it; what it asks while it works |
//! | `settings` | what people may change while it works |
//! | `session`, `slots`, `input` | a connection's choices and positions; its replies in order; what clients have sent and is not done, counted and bounded |
//! | `route`, `order`, `stalled`, `turn` | where a command goes, and what it waits for |
//! | `readers` | what becomes of a command that was evaluated here; reads that wait for what was seen |
//! | `request` | a command on its way, and what goes with it |
//! | `reply`, `replies` | replies, to whomever they belong; the memory that they may take |
//! | `transaction` | MULTI to EXEC |
//! | `split`, `crossing` | commands over several shards; COPY and MOVE from one shard to another |
//! | `forward` | commands that travel to another node |
//! | `connection`, `client_command`, `debug`, `pause`, `monitor`, `slowlog`, `latency` | commands that it answers by itself |
//! | `administration` | which commands are an operator's |
//! | `protected` | whom it takes as a client |
//! | `stats`, `traffic` | what is counted of its work, and by its host |
//!
//! Always:
//! - Replies go out in the order of their commands.
//! - A session's position moves when its write is appended, and a read on the same connection is not
//!   answered from less.
//! - What was refused before it was appended may be tried again; anything else whose answer is lost is
//!   answered with "outcome unknown", never tried again.
//! - What waits is bounded, and told what it waited for in vain.

mod administration;
mod client_command;
mod connection;
mod crossing;
mod debug;
mod door;
mod forward;
mod host;
mod input;
mod inside;
mod latency;
mod monitor;
mod order;
mod pause;
mod protected;
mod readers;
mod replies;
mod reply;
mod request;
mod room;
mod route;
mod session;
mod settings;
mod slots;
mod slowlog;
mod split;
mod stalled;
mod stats;
#[cfg(test)]
mod tests;
mod traffic;
mod transaction;
mod turn;

pub use administration::is_administration;
pub use connection::REDIS_VERSION;
pub use door::{Answer, Forward, Output, WholeNode};
pub use forward::FORWARD_BYTES_MAX;
pub use host::Host;
pub use input::QueryBuffer;
pub use replies::REPLY_MEMORY_BYTES_MIN;
pub use request::Target;
pub use room::{Config, Figures, Gate, Limits};
pub use route::no_keyspace;
pub use settings::{Setting, Settings};
pub use slowlog::COMMANDS_MAX as SLOW_COMMANDS_MAX;
pub use stats::{Calls, Stats};
pub use traffic::Traffic;
pub use turn::COMMAND_WORK_MIN;
