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
//! - What clients send meanwhile the host leaves unread ([`Gate::is_worn_by`]).

use crate::{
    host::Host,
    request::{Request, Target},
    room::Gate,
};
use std::time::Duration;

/// The least that one command must be able to do.
pub const COMMAND_WORK_MIN: u64 = 1 << 20;

/// When a deferred request came: it is not for want of a place to go that it waits, and it does
/// so for as long as it takes.
pub(crate) const DEFERRED: Duration = Duration::MAX;

impl Gate {
    /// Whether so much is a turn's work: no more commands of clients are handed over then.
    #[inline]
    pub fn is_worn_by(&self, worked: u64) -> bool {
        worked > self.config.limits.command_work_max / 4
    }

    pub(crate) fn is_worn(&self, here: &impl Host) -> bool {
        self.is_worn_by(here.worked())
    }

    /// Whether a request waits for the next turn.
    pub(crate) fn must_defer(&self, target: &Target, here: &impl Host) -> bool {
        let is_remote = matches!(target, Target::Remote { .. });
        self.is_worn(here) || is_remote && self.line.has_remote()
    }

    /// A request waits for the next turn, and what its connection sends meanwhile behind it.
    pub(crate) fn defer(&mut self, mut request: Request, here: &mut impl Host) {
        if self.line.is_full() {
            return self.refuse_stalled(&request, here);
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
    pub(crate) fn resume_deferred(&mut self, here: &mut impl Host) {
        for _ in 0..self.line.backlogs() {
            if self.is_worn(here) {
                break;
            }
            if let Some(conn) = self.line.pop_backlog() {
                self.resume(conn, here);
            }
        }
    }
}
