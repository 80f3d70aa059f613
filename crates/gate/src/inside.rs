//! What tests of whole nodes see, and do, within the room. Nobody else does.

use crate::room::Gate;
use model::{Position, ShardId};

#[doc(hidden)]
#[allow(missing_docs, reason = "tests say what they want")]
impl Gate {
    /// A connection is held up until [`Gate::go_on`].
    pub fn hold_up(&mut self, conn: u64) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held = true;
        }
    }

    /// A session has seen this of a shard.
    pub fn has_seen(&mut self, conn: u64, shard: ShardId, position: Position) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.seen.advance(shard, position);
        }
    }

    /// Commands of a connection that wait behind one that must come first.
    pub fn backlog_of(&self, conn: u64) -> usize {
        self.sessions.get(&conn).map_or(0, |s| s.backlog.len())
    }

    /// Whether nothing of a connection is under way.
    pub fn is_order_empty(&self, conn: u64) -> bool {
        self.sessions.get(&conn).is_none_or(|s| s.order.is_empty())
    }

    /// Whether reads of a connection are away, and bytes of its commands that wait in their places.
    pub fn under_way(&self, conn: u64, shard: ShardId) -> (bool, usize) {
        let order = self.sessions.get(&conn).map(|s| &s.order);
        order.map_or((false, 0), |order| {
            (order.has_reads_away(shard), order.queued_bytes())
        })
    }

    /// Commands of other nodes that stand in line, and whether some only wait for the next turn.
    pub fn in_line(&self) -> (usize, bool) {
        (self.line.remote(), self.line.has_deferred())
    }

    /// Reads of a shard that wait here.
    pub fn readers_at(&self, shard: ShardId) -> usize {
        self.readers.at(shard)
    }

    pub fn is_any_split(&self) -> bool {
        !self.splits.is_empty()
    }

    pub fn is_any_crossing(&self) -> bool {
        !self.splits.crossings.is_empty()
    }

    /// Bytes of clients' commands that are away.
    pub fn away_bytes(&self) -> usize {
        self.forwards.bytes()
    }
}
