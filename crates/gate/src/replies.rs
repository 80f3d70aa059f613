//! Room for replies: how long one may be, and how much memory all of them together take.
//!
//! ```text
//! evaluated ─▶ scratch ─ fits? ─▶ waits for its commit ─▶ behind earlier ones ─▶ output ─▶ socket
//!                 │                 shard.waiting, splits      session.slots     session.out
//!                 └ refused, before anything is appended   or ─▶ answer ─▶ the link to a peer
//! ```
//! - A reply is at most [`REPLY_BYTES_MAX`] long, wherever it is made, so that it fits into one
//!   message between nodes: none is tried elsewhere because it was too long here.
//! - What is held of all of them is at most `limits.reply_memory_bytes`: where the next may not
//!   fit, the client that has left most unread is closed; if that is not enough, what asks is
//!   told `BUSY`, and was not carried out.
//! - What waits on the link to one peer is at most [`ANSWERS_BYTES_MAX`], by the same means.
//!
//! What is held is counted anew only where an estimate, which never falls short of it, says that
//! it may be too much: taking output costs nothing.

use crate::{host::Host, request::Target, room::Gate};
use bytes::BytesMut;
use model::NodeId;
pub(crate) use shards::reply_room::{LARGE, REPLY_BYTES_MAX};
use shards::reply_room::{MESSAGE_BYTES_MAX, ReplyRoom};
use std::collections::BTreeMap;

/// The least that there must be for all replies together: a few long ones.
pub const REPLY_MEMORY_BYTES_MIN: usize = 2 * MESSAGE_BYTES_MAX;
/// Answers that wait to be sent to one peer.
const ANSWERS_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Clients that hold less are not closed to make room.
const CLOSED_FROM: usize = 1 << 20;
/// What is held is counted once more after a tick, or when the estimate has grown by this part of
/// what may be held.
const COUNT_AGAIN: usize = 64;

/// How much is held.
#[derive(Debug)]
pub(crate) struct Replies {
    max: usize,
    /// At least what is held.
    estimate: usize,
    /// Below this the estimate is good enough.
    count_at: usize,
    /// What waits on the link to each peer, at least.
    queued: BTreeMap<NodeId, usize>,
    /// Clients that were closed to make room.
    pub(crate) closed: u64,
}

impl Replies {
    pub(crate) fn new(max: usize) -> Self {
        Replies {
            max,
            estimate: 0,
            count_at: max.saturating_sub(REPLY_BYTES_MAX),
            queued: BTreeMap::new(),
            closed: 0,
        }
    }

    /// From now on so much is held.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.count_at = max.saturating_sub(REPLY_BYTES_MAX);
    }

    /// A reply was made that is held from now on.
    pub(crate) fn held(&mut self, bytes: usize) {
        self.estimate = self.estimate.saturating_add(bytes);
    }

    /// Time has passed: some of it may have been taken.
    pub(crate) fn tick(&mut self) {
        self.count_at = self.max.saturating_sub(REPLY_BYTES_MAX);
    }

    /// A reply goes to a peer.
    pub(crate) fn answered(&mut self, peer: &NodeId, bytes: usize) {
        match self.queued.get_mut(peer) {
            Some(queued) => *queued = queued.saturating_add(bytes),
            None => drop(self.queued.insert(peer.clone(), bytes)),
        }
    }
}

impl Gate {
    /// The host says how much waits to be sent to a peer.
    pub fn peer_queued(&mut self, peer: &NodeId, bytes: usize) {
        if bytes > 0 || self.replies.queued.contains_key(peer) {
            self.replies.queued.insert(peer.clone(), bytes);
        }
    }

    /// How long a reply to `target` may be now.
    #[inline]
    pub(crate) fn reply_room(
        &mut self,
        target: Option<&Target>,
        here: &mut impl Host,
    ) -> ReplyRoom {
        if self.replies.estimate > self.replies.count_at {
            self.make_reply_room(here);
        }
        let mut room = self.replies.max.saturating_sub(self.replies.estimate);
        if let Some(Target::Remote { node, .. }) = target
            && let Some(queued) = self.replies.queued.get(node)
        {
            room = room.min(ANSWERS_BYTES_MAX.saturating_sub(*queued));
        }
        ReplyRoom {
            bytes: room.min(REPLY_BYTES_MAX),
            max: self.replies.max,
        }
    }

    /// A reply has come from another node. It was made already: room is made for it.
    pub(crate) fn hold_reply(&mut self, bytes: usize, here: &mut impl Host) {
        self.replies.held(bytes);
        if self.replies.estimate > self.replies.count_at {
            self.make_reply_room(here);
        }
    }

    /// Counts what is held, and closes the client that holds most while there is not enough room
    /// for one more reply.
    fn make_reply_room(&mut self, here: &mut impl Host) {
        let mut held = here.waiting_bytes();
        held += self.splits.reply_bytes();
        held += self.replies.queued.values().sum::<usize>();
        held += self
            .sessions
            .values()
            .map(|s| s.reply_bytes())
            .sum::<usize>();
        while held > self.replies.max.saturating_sub(REPLY_BYTES_MAX) {
            let most = self.sessions.values_mut().max_by_key(|s| s.reply_bytes());
            let Some(session) = most.filter(|s| s.reply_bytes() >= CLOSED_FROM) else {
                break;
            };
            let (conn, bytes) = (session.conn, session.reply_bytes());
            tracing::warn!(
                conn,
                bytes,
                "a client doesn't take its replies and all of them need too much memory (limits.reply_memory_bytes): closed"
            );
            held -= bytes;
            session.out = BytesMut::new();
            session.forget_replies();
            self.replies.closed += 1;
            self.kill_client(conn, None);
        }
        self.replies.estimate = held;
        let again = held.saturating_add(self.replies.max / COUNT_AGAIN);
        self.replies.count_at = self.replies.count_at.max(again);
    }
}
