//! A group whose members agree by Raft: the core is TiKV's `raft`, made deterministic and kept
//! out of reach of bad input. No clock, no randomness, no IO.
//!
//! ```text
//!          tick ─┐
//!       receive ─┤                   ┌─ persist ──→ the node's log ── durable ──→ synced
//!       propose ─┼→ RaftGroup ─ ready ├─ send ─────→ peers
//!    read_index ─┤                   ├─ snapshot, then committed ──→ the state machine
//!       compact ─┘                   └─ reads, role, refused
//! ```
//!
//! Call [`RaftGroup::ready`] after any input, until it gives nothing, and do what it says in
//! this order: write `persist` to the log; send `send`; hand `snapshot` and then `committed`
//! to the state machine. If `must_sync`, make the log durable and call
//! [`RaftGroup::synced`]. Until then the group stands still: `ready` gives nothing, inputs
//! queue up (bounded), and messages that promise what is not durable yet are held back *here*,
//! so `send` may always go at once. A member whose disk hangs thereby falls silent and is
//! replaced, which is right.
//!
//! Invariants:
//! - nothing leaves in `send` that depends on a record which isn't durable;
//! - `committed` is consecutive: each index once, in order, after the last snapshot handed out;
//!   an entry whose `data` is empty only marks a leader's new term;
//! - after a restart the state machine starts empty: a recovered snapshot comes first;
//! - the same inputs give the same outputs: the election timeout comes from (group, term, node),
//!   never from the core's own random source;
//! - a peer's message can't reach the core's assertions: [`Message::check`] and
//!   `contradiction` go before it.
//!
//! Messages may be lost, repeated and reordered. The voters are fixed for now. A member that
//! lost its disk is to be muted until its host knows that it has caught up with what it may
//! have forgotten ([`RaftGroup::mute`]), and its leader told ([`RaftGroup::forget_progress`]).

mod group;
mod memory;
pub mod message;
pub mod record;
pub mod replica;
#[cfg(test)]
mod tests;

pub use group::RaftGroup;
pub use message::{Body, Message, ReadContext, Refused};
pub use record::{Checkpoint, DamagedLog, Entry, HardState, LogRecord, Recovered, Snapshot};

use bytes::Bytes;
use message::PROPOSAL_BYTES_MAX;

/// What a member must know from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group; with the term it says in which order members campaign.
    pub group: u64,
    /// This member.
    pub id: u64,
    /// Which process of this node; greater than any before, or drawn at random.
    pub process: u64,
    /// Every member, this one included.
    pub voters: Vec<u64>,
    /// Ticks for which a member that has heard a leader is loyal to it. One more, and the first
    /// in turn campaigns.
    pub election_ticks: u32,
    /// Ticks from one member's turn to the next one's.
    pub turn_ticks: u32,
    /// Ticks between a leader's heartbeats; less than `election_ticks`.
    pub heartbeat_ticks: u32,
}

/// A group that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    /// The numbers don't fit together.
    #[error("consensus group {group}: {what}")]
    Config {
        /// The group.
        group: u64,
        /// What is wrong, and what would be right.
        what: &'static str,
    },
    /// What was read back belongs to another group.
    #[error(
        "consensus group {group} was written with voters {found:?}, and is configured with {expected:?}: put the old list back"
    )]
    Voters {
        /// The group.
        group: u64,
        /// In the log.
        found: Vec<u64>,
        /// In the configuration.
        expected: Vec<u64>,
    },
    /// What was read back has a gap.
    #[error("consensus group {group}: {damage}")]
    Damaged {
        /// The group.
        group: u64,
        /// Where.
        damage: DamagedLog,
    },
    /// The core found something that we did not.
    #[error("consensus group {group} can't start: {why}")]
    Core {
        /// The group.
        group: u64,
        /// In the core's words.
        why: String,
    },
}

/// Why nothing was proposed, or no read was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Another member leads, or nobody does.
    #[error("this node does not lead the consensus group")]
    NotLeader {
        /// Who does, as far as is known.
        leader: Option<u64>,
    },
    /// Too much is in flight, or a new leader has not yet committed anything. Try again.
    #[error("the consensus group is busy; try again")]
    Busy,
    /// It is empty or too large.
    #[error("a proposal of {bytes} bytes was made; 1 to {PROPOSAL_BYTES_MAX} are taken")]
    Size {
        /// Its size.
        bytes: usize,
    },
}

/// An entry that the group has agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub index: u64,
    /// Its leader's term.
    pub term: u64,
    /// What was proposed; empty for the first entry of a leader's term.
    pub data: Bytes,
}

/// A read that may be served once `index` is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// As given to [`RaftGroup::read_index`].
    pub request: u64,
    /// What to have applied first.
    pub index: u64,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// This member's term.
    pub term: u64,
    /// Who leads it, as far as is known.
    pub leader: Option<u64>,
    /// Whether this member does. When it turns false, the outcome of every proposal that is
    /// not yet committed is unknown.
    pub leading: bool,
}

/// One round of work; see the module's head for the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Records for the node's log, in order.
    pub persist: Vec<LogRecord>,
    /// Whether the group waits for [`RaftGroup::synced`].
    pub must_sync: bool,
    /// Messages that may go at once, each to its receiver.
    pub send: Vec<(u64, Message)>,
    /// The state machine is to be replaced: (index, bytes). Comes before `committed`.
    pub snapshot: Option<(u64, Bytes)>,
    /// Entries to apply.
    pub committed: Vec<Committed>,
    /// Reads that may be served.
    pub reads: Vec<ReadState>,
    /// Present when it changed.
    pub role: Option<Role>,
    /// Messages that were not taken, each with its sender: count and log them.
    pub refused: Vec<(u64, Refused)>,
}
