//! What can be asked of the control plane, and its bytes in the group's log.
//!
//! # Bytes
//! ```text
//! 0  version   u8   5
//! 1  proposal  postcard of [`Frames`]: who asks, and of each command the feature level that it
//!              came with, and its own postcard behind its length
//! ```
//! The order of the fields and of the variants is part of the format: add at the end only. So a
//! command of a newer kind is one that an older release can step over, and does, together with
//! every newer one, while the catalog's level is below the command's (docs/adr/0017-versions).
//! Versions 3 and 4 had no levels; they are refused.

use crate::failover::Promotion;
use model::{
    DiskId, Epoch, KeyspaceName, NodeId, ShardId,
    catalog::NodeInfo,
    release::{FIRST_LEVEL, REHEARSAL_LEVEL, Release, Span},
    strategy::Strategy,
};
use serde::{Deserialize, Serialize};
use std::fmt;

const VERSION: u8 = 5;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Names the request.
    pub request: RequestId,
    /// What is asked, at most [`COMMANDS_MAX`]: done in this order, each by itself and whatever
    /// becomes of the others, as if they stood one behind the other in the group's log.
    pub commands: Vec<Command>,
}

/// A proposal of any release, in its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Names the request.
    pub request: RequestId,
    /// A command each.
    pub frames: Vec<Frame>,
}

/// A command of any release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The feature level that its kind came with: below it the command is not to be read.
    pub level: u32,
    body: Vec<u8>,
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
    /// From now on what came with this feature level may be used.
    RaiseLevel {
        /// The level.
        level: u32,
        /// Nobody has asked for it: not while an operator holds the level.
        by_itself: bool,
        /// The wall clock of whoever proposed it, in ms since 1970.
        at_ms: u64,
    },
    /// The level is not to be raised by itself, or may be again.
    HoldLevel {
        /// Whether it is held.
        held: bool,
        /// The wall clock of whoever proposed it, in ms since 1970.
        at_ms: u64,
    },
    /// In rehearsals of an upgrade alone: a command of the next release.
    Rehearse {
        /// Who proposed it.
        node: NodeId,
        /// The wall clock of whoever proposed it, in ms since 1970.
        at_ms: u64,
    },
}

impl Command {
    /// The feature level that its kind came with.
    pub fn level(&self) -> u32 {
        match self {
            Command::RegisterNode { .. }
            | Command::CreateKeyspace(_)
            | Command::DropKeyspace { .. }
            | Command::StartEpoch { .. }
            | Command::SetDegraded { .. }
            | Command::Promote(_)
            | Command::ConfirmReplica { .. }
            | Command::ReplaceReplica { .. }
            | Command::Note { .. }
            | Command::RaiseLevel { .. }
            | Command::HoldLevel { .. } => FIRST_LEVEL,
            Command::Rehearse { .. } => REHEARSAL_LEVEL,
        }
    }
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

/// A committed entry with which this node can't go on. It must stop: others may go on, and their
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
    /// The level was raised above what this node's release knows.
    #[error("{0}")]
    Level(String),
}

impl Proposal {
    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>, UnknownCommand> {
        let frames = self.commands.iter().map(|command| {
            let body = postcard::to_extend(command, Vec::new()).map_err(malformed)?;
            let level = command.level();
            Ok(Frame { level, body })
        });
        Frames {
            request: self.request,
            frames: frames.collect::<Result<_, _>>()?,
        }
        .encode()
    }

    /// Reads a proposal that is all of `bytes`, and of whose commands the next release knows each.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        let Frames { request, frames } = Frames::decode(bytes)?;
        let commands = frames.iter().map(|frame| frame.read(Release::NEXT.levels));
        let commands = commands.collect::<Result<_, _>>()?;
        Ok(Proposal { request, commands })
    }
}

impl Frames {
    fn encode(&self) -> Result<Vec<u8>, UnknownCommand> {
        postcard::to_extend(self, vec![VERSION]).map_err(malformed)
    }

    /// Reads a proposal that is all of `bytes`, whatever its commands are.
    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownCommand> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                let proposal: Frames = read_all(rest)?;
                match proposal.frames.len() {
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

impl Frame {
    /// The command, if a release knows it that knows `levels`.
    pub fn read(&self, levels: Span) -> Result<Command, UnknownCommand> {
        if self.level > levels.newest {
            return Err(UnknownCommand::Malformed {
                why: format!(
                    "it needs feature level {}, and this release knows {levels}",
                    self.level
                ),
            });
        }
        let command: Command = read_all(&self.body)?;
        match command.level() == self.level {
            true => Ok(command),
            false => Err(UnknownCommand::Malformed {
                why: format!(
                    "it came with feature level {}, and claims {}",
                    command.level(),
                    self.level
                ),
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
