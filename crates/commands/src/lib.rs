//! Arguments → reply and mutation, over a read view.
//!
//! ```text
//! args ──lookup──▶ Spec ──evaluate(view, shard time)──▶ one reply, ops for the mutation
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | every command as data: arity, flags, where its keys stand, how it spreads over shards |
//! | [`node_command`] | those that the node answers itself, for it to match |
//! | [`view`] | what a command may read, and what it is told ([`Context`]) |
//! | [`evaluate`](mod@evaluate) | the frame of every evaluation: arity, expiry, error replies |
//! | `strings`, `substrings`, `bits`, `bitfield` | strings and their parts; `set_options` parses for SET and GETEX |
//! | `hashes`, `hash_scan` | hashes |
//! | `keys`, `expiry`, `rename`, `object`, `dump` | keys of any kind; [`rdb`] is the format of DUMP |
//! | [`transaction`] | several commands as one |
//! | [`server_reply`] | what a node answers without a shard, where that needs no node: HELP |
//! | [`command_reply`] | `COMMAND` and its subcommands, answered from the table |
//! | `syntax` | what a command takes, as the table writes it and COMMAND DOCS tells it |
//! | [`numbers`], [`float`], [`glob`] | Redis's integers, floats and patterns |
//! | [`work`](mod@work) | what a command may cost |
//! | [`error`] | every error line that a command answers with |
//!
//! Replies, options, limits and error texts are those of Redis 7.0.15, byte for byte, in
//! RESP2 and RESP3. Where Redis leaves an order open (fields of a hash, a scan) it is the
//! view's. What holds for every evaluation:
//!
//! - It writes exactly one reply. An error reply is written before any op is added, but for
//!   the deletion of expired keys that it met.
//! - Its ops say outcomes, in the terms of [`model::mutation`]; a command that changes nothing
//!   adds none. Integers are stored as their decimal text.
//! - A key whose time is over (judged by shard time) is absent. Where writing is allowed, its
//!   deletion is added to the mutation, also by a read: so it is committed before the reply.
//! - `created` is true exactly where no live key was there before. A new header carries the
//!   old one's `deleted`, since dead cells may still wait to be purged.
//! - It ends within the [`Work`] that it is given, refused if that is not enough; of a
//!   transaction nothing is done then.
//! - Nothing here knows of shards, sessions or logs: the node splits a command by its
//!   [`Fanout`] and evaluates each part at its shard.

mod bitfield;
mod bits;
pub mod command_reply;
pub mod destination;
mod dump;
pub mod error;
pub mod evaluate;
mod expiry;
pub mod float;
pub mod glob;
mod hash_scan;
mod hashes;
mod keys;
pub mod node_command;
pub mod numbers;
mod object;
mod random;
pub mod rdb;
mod rename;
pub mod server_reply;
mod set_options;
mod spec;
mod strings;
mod substrings;
mod syntax;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod view;
pub mod work;

pub use error::Refusal;
pub use evaluate::evaluate;
pub use node_command::NodeCommand;
pub use table::{Family, Fanout, Flags, Spec, called, find, lookup};
pub use view::{Context, Passed, View, ViewError};
pub use work::Work;
