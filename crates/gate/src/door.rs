//! What leaves the gate, and what it tells its like on other nodes.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use bytes::Bytes;
use commands::node_command::{ConfigCommand, KeyspaceCommand, QuireCommand, SaveCommand};
use model::{NodeId, Position, ShardId};
use serde::{Deserialize, Serialize};
use shards::reply_room::LARGE;
use std::collections::VecDeque;

/// What the node is to do for the gate.
#[derive(Debug)]
pub enum Output {
    /// A client's output has grown.
    Grown(u64),
    /// A client accepts commands again.
    Accepts(u64),
    /// A connection is to be closed once its output is written.
    Close(u64),
    /// Send a command to another node.
    Forward { to: NodeId, forward: Forward },
    /// Tell a node what came of a command that it has sent.
    Answer { to: NodeId, id: u64, answer: Answer },
    /// A client's command looks at the whole node. Its connection takes nothing further until
    /// [`Gate::go_on`](crate::room::Gate::go_on): before, it is to be answered, or a place taken for
    /// its reply.
    Asked {
        conn: u64,
        command: WholeNode,
        args: Vec<Bytes>,
    },
    /// A client's command names a keyspace that none here has: it goes on once the newest catalog is
    /// here ([`Gate::newest_is_known`](crate::room::Gate::newest_is_known)).
    Refresh { conn: u64, args: Vec<Bytes> },
}

/// What a client may ask that needs all of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeNode {
    Info,
    Role,
    MemoryStats,
    Config(ConfigCommand),
    Save(SaveCommand),
    Keyspace(KeyspaceCommand),
    Quire(QuireCommand),
}

/// A command that travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forward {
    pub id: u64,
    pub shard: ShardId,
    /// What the session has seen of the shard.
    pub seen: Position,
    /// Whether it must see what came before it on the same link.
    pub at_tip: bool,
    pub resp3: bool,
    pub args: Vec<Bytes>,
}

/// What came of a forwarded command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The reply, as RESP, and what it shows.
    Reply { reply: Bytes, position: Position },
    /// Refused before anything was appended: try elsewhere or later.
    NotHere,
    /// What the session had seen was thrown away.
    Lost,
}

impl Answer {
    /// Whether it is so long that nothing should have to wait for it.
    pub fn is_long(&self) -> bool {
        matches!(self, Answer::Reply { reply, .. } if reply.len() >= LARGE)
    }
}

/// What has not been carried out yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(VecDeque<Output>);

impl Outgoing {
    #[inline]
    pub(crate) fn put(&mut self, output: Output) {
        self.0.push_back(output);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<Output> {
        self.0.pop_front()
    }
}
