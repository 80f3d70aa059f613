//! What can be asked of the control plane, and its bytes in the group's log.
//!
//! # Bytes
//! ```text
//! 0  version   u8   4
//! 1  proposal  postcard of [`Proposal`]
//! ```
//! The order of the fields and of the variants is part of the format: add at the end only.
//! Version 3 had one command in a proposal; it is refused.

use crate::failover::Promotion;
use model::{DiskId, Epoch, KeyspaceName, NodeId, ShardId, catalog::NodeInfo, strategy::Strategy};
use serde::{Deserialize, Serialize};
use std::fmt;

const VERSION: u8 = 4;

/// By which a proposer finds the outcome of its command among all that are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId {
    /// The proposer ([`NodeId::number`]).
    pub node: u64,
    /// Which of its processes.
    pub process: u64,
    /// Which of that process's requests.
    pub sequence: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{}", self.node, self.process, self.sequence)
    }
}

/// The most commands of one proposal.
pub const COMMANDS_MAX: usize = 512;

/// Commands and who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Names the request.
    pub request: RequestId,
    /// What is asked, at most [`COMMANDS_MAX`]: done in this order, each by itself and whatever
    /// becomes of the others, as if they stood one behind the other in the group's log.
    pub commands: Vec<Command>,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A node joins, or comes back with other addresses or another disk.
    RegisterNode {
        /// Its id.
        id: NodeId,
        /// How it introduces itself.
        info: NodeInfo,
    },
    /// A new keyspace; its shards are planned when the command is applied.
    CreateKeyspace(CreateKeyspace),
    /// A keyspace goes, with its data.
    DropKeyspace {
        /// Its name.
        name: KeyspaceName,
    },
    /// The primary of a shard takes up its office, in the epoch after `expected`.
    StartEpoch {
        /// The shard.
        shard: ShardId,
        /// The primary.
        node: NodeId,
        /// Which of its processes.
        process: u64,
        /// The disk on which it holds the shard.
        disk: DiskId,
        /// The shard's epoch as the primary knows it.
        expected: Epoch,
    },
    /// The primary of a shard suspends the keyspace's rule, or puts it in force again.
    SetDegraded {
        /// The shard.
        shard: ShardId,
        /// The epoch in which the primary writes.
        epoch: Epoch,
        /// Whether the rule is suspended.
        degraded: bool,
    },
    /// Another replica becomes primary, in the epoch after the plan's. Taking up the office is
    /// part of it.
    Promote(Promotion),
    /// The primary of a shard has seen a learner hold all that is committed: from now on it is
    /// a member on this disk, and takes the place of the one that it was to replace.
    ConfirmReplica {
        /// The shard.
        shard: ShardId,
        /// The epoch in which the primary writes.
        epoch: Epoch,
        /// The learner.
        node: NodeId,
        /// The disk on which it holds everything.
        disk: DiskId,
        /// The wall clock of the primary, in ms since 1970.
        at_ms: u64,
    },
    /// A node is to take the place of a replica whose node is gone.
    ReplaceReplica {
        /// The shard.
        shard: ShardId,
        /// Its epoch when this was decided.
        epoch: Epoch,
        /// Who is gone.
        gone: NodeId,
        /// Who takes its place, once it holds everything.
        newcomer: NodeId,
        /// Why, for people.
        cause: String,
        /// The wall clock of whoever decided, in ms since 1970.
        at_ms: u64,
    },
    /// Something that an operator wants to know of.
    Note {
        /// Which shard it is about, if any.
        shard: Option<ShardId>,
        /// What kind of event.
        kind: String,
        /// What happened, and why.
        text: String,
        /// The wall clock of whoever noticed, in ms since 1970.
        at_ms: u64,
    },
}

/// What a new keyspace is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKeyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// What it chooses.
    pub strategy: Strategy,
    /// Into how many shards it is split, 1 to [`crate::policy::SHARDS_MAX`].
    pub shards: u16,
    /// Nodes that the proposer doesn't hear: they get replicas only where there are no others,
    /// and are not made primary.
    pub avoid: Vec<NodeId>,
}

/// A committed entry that can't be read. The node must stop: others may read it, and their
/// catalogs would part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCommand {
    /// Written by a newer version.
    #[error(
        "a control command has format {version}, and this version knows {VERSION}: upgrade this node before the others use what is new"
    )]
    Version {
        /// The format's version.
        version: u8,
    },
    /// Not a command.
    #[error(
        "a control command can't be read: {why}; was it written by a newer Quire? Then upgrade this node"
    )]
    Malformed {
        /// What the codec says.
        why: String,
    },
}

impl Proposal {
    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>, UnknownCommand> {
        postcard::to_extend(self, vec![VERSION]).map_err(malformed)
    }

    /// Reads a proposal that is all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                let proposal: Proposal = read_all(rest)?;
                match proposal.commands.len() {
                    1..=COMMANDS_MAX => Ok(proposal),
                    count => Err(UnknownCommand::Malformed {
                        why: format!("it is {count} commands"),
                    }),
                }
            }
            Some((&version, _)) => Err(UnknownCommand::Version { version }),
            None => Err(UnknownCommand::Malformed {
                why: "it is empty".to_owned(),
            }),
        }
    }
}

fn read_all<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnknownCommand> {
    match postcard::take_from_bytes(bytes).map_err(malformed)? {
        (value, []) => Ok(value),
        (_, more) => Err(UnknownCommand::Malformed {
            why: format!("{} bytes are left over", more.len()),
        }),
    }
}

fn malformed(e: postcard::Error) -> UnknownCommand {
    UnknownCommand::Malformed { why: e.to_string() }
}
