//! A command on its way: who wants to know, and what it needs.

use bytes::Bytes;
use commands::Spec;
use model::{KeyspaceId, NodeId, Position, ShardId};
use resp::Version;
pub(crate) use shards::ReadFrom;
use std::time::Duration;

/// Where a reply goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a client of this node: its connection, and which of its replies.
    Client {
        /// The connection.
        conn: u64,
        /// Its command's number on that connection.
        slot: u64,
    },
    /// To the node that forwarded it.
    Remote {
        /// Which node.
        node: NodeId,
        /// The node's number for it.
        id: u64,
    },
    /// To a command that was split: which one, and which part.
    Part {
        /// The split command.
        split: u64,
        /// Its part.
        part: usize,
    },
}

impl Target {
    /// The client whose reply it is, as a whole.
    pub fn client(&self) -> Option<u64> {
        match self {
            Target::Client { conn, .. } => Some(*conn),
            _ => None,
        }
    }
}

/// A command for one shard, owned, so that it can wait or travel.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: Target,
    pub(crate) spec: &'static Spec,
    pub(crate) args: Vec<Bytes>,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) shard: ShardId,
    /// What its session has seen of the shard.
    pub(crate) seen: Position,
    pub(crate) version: Version,
    /// When it came, by the monotonic clock.
    pub(crate) since: Duration,
    /// Who may answer it, if it is a read.
    pub(crate) read_from: ReadFrom,
    /// How far it is with a round that it needs, if it is a read here that needs one.
    pub(crate) round: Round,
    /// Whether it went to a replica nearby that is not the primary: once is enough.
    pub(crate) went_near: bool,
}

/// How far a read is with the round of its shard's replicas that it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Round {
    /// It needs none, or has not asked.
    #[default]
    None,
    /// It waits for the round of this ticket.
    Asked(u64),
    /// It may be answered here once this is applied.
    Ended(u64),
}

/// How many bytes the arguments hold.
pub(crate) fn bytes_of(args: &[impl AsRef<[u8]>]) -> usize {
    args.iter().map(|arg| arg.as_ref().len()).sum()
}

/// Borrows the arguments.
pub(crate) fn borrow(args: &[Bytes]) -> Vec<&[u8]> {
    args.iter().map(AsRef::as_ref).collect()
}

/// Owns the arguments.
pub(crate) fn own(args: &[&[u8]]) -> Vec<Bytes> {
    args.iter().map(|a| Bytes::copy_from_slice(a)).collect()
}
