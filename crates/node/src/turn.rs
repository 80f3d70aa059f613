//! How much a node does in one turn: between two turns it hears its peers and its clock, so that
//! it keeps its lease whatever clients ask.
//!
//! ```text
//! command ─▶ evaluated, its work counted ─ enough for this turn? ─▶ stalled ─▶ the next turn (`wake`)
//! ```
//! - A turn's work is a quarter of what one command may cost, and that of the last command.
//! - What is deferred keeps its order: commands of one connection wait behind each other (as
//!   behind any that is stalled), and so do those that come from other nodes, whose links keep
//!   theirs.
//! - What clients send meanwhile the host leaves unread ([`Node::is_worn`]).

use crate::{
    node::Node,
    request::{Request, Target},
};
use std::time::Duration;
use storage::store::Stores;

/// The least that one command must be able to do.
pub const COMMAND_WORK_MIN: u64 = 1 << 20;

/// When a deferred request came: it is not for want of a place to go that it waits, and it does
/// so for as long as it takes.
pub(crate) const DEFERRED: Duration = Duration::MAX;

impl<S: Stores> Node<S> {
    /// Whether this turn has had its work: the host hands over no more commands of clients.
    pub fn is_worn(&self) -> bool {
        self.shards.worked() > self.config.limits.command_work_max / 4
    }

    /// Whether a request waits for the next turn.
    pub(crate) fn must_defer(&self, target: &Target) -> bool {
        let is_remote = matches!(target, Target::Remote { .. });
        self.is_worn() || is_remote && self.line.has_remote()
    }

    /// A request waits for the next turn, and what its connection sends meanwhile behind it.
    pub(crate) fn defer(&mut self, mut request: Request) {
        if self.line.is_full() {
            return self.refuse_stalled(&request);
        }
        request.since = DEFERRED;
        self.line.note_deferred();
        self.stand_in_line(request);
    }

    /// The backlog of a connection goes on in the next turn.
    pub(crate) fn defer_backlog(&mut self, conn: u64) {
        self.line.defer_backlog(conn);
    }

    /// Goes on with backlogs that were deferred, as far as this turn has room.
    pub(crate) fn resume_deferred(&mut self) {
        for _ in 0..self.line.backlogs() {
            if self.is_worn() {
                break;
            }
            if let Some(conn) = self.line.pop_backlog() {
                self.resume(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests;
