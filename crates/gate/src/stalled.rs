//! Commands that can't go anywhere for the moment. Each waits in the [`Line`], for at most
//! [`STALL_MAX`], or [`ROOM_MAX`] if all it lacks is room; then the client is told that it was
//! not taken. A client that is ahead of the disk is not read meanwhile
//! ([`Gate::accepts`]), so few come to that.

use crate::{
    host::Host,
    request::{ReadFrom, Request, Target},
    room::Gate,
    turn::DEFERRED,
};
use model::NodeId;
use std::{collections::VecDeque, time::Duration};

/// How long a command waits for somewhere to go before it is refused.
pub(crate) const STALL_MAX: Duration = Duration::from_millis(850);
/// How long a write waits for room behind those that came before it.
const ROOM_MAX: Duration = Duration::from_secs(10);
/// Commands that may wait for somewhere to go.
const STALLED_MAX: usize = 100_000;

/// Commands that wait for somewhere to go, or for the next turn, and clients whose later ones do.
#[derive(Debug, Default)]
pub(crate) struct Line {
    requests: VecDeque<Request>,
    /// How many of them other nodes wait for.
    remote: usize,
    /// Some of them only wait for the next turn.
    deferred: bool,
    /// Connections whose backlog goes on in the next turn.
    backlogs: VecDeque<u64>,
}

impl Line {
    /// Whether no other command may wait here.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= STALLED_MAX
    }

    /// Whether no command waits here.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether other nodes wait for some of them.
    pub(crate) fn has_remote(&self) -> bool {
        self.remote > 0
    }

    /// Whether the next turn has something to do here.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred || !self.backlogs.is_empty()
    }

    /// A command that comes to stand here only waits for the next turn.
    pub(crate) fn note_deferred(&mut self) {
        self.deferred = true;
    }

    fn push(&mut self, request: Request) {
        self.remote += usize::from(is_remote(&request));
        self.requests.push_back(request);
    }

    fn pop(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        self.remote -= usize::from(is_remote(&request));
        Some(request)
    }

    /// The backlog of a connection goes on in the next turn.
    pub(crate) fn defer_backlog(&mut self, conn: u64) {
        if !self.backlogs.contains(&conn) {
            self.backlogs.push_back(conn);
        }
    }

    /// How many backlogs go on.
    pub(crate) fn backlogs(&self) -> usize {
        self.backlogs.len()
    }

    /// The next of them.
    pub(crate) fn pop_backlog(&mut self) -> Option<u64> {
        self.backlogs.pop_front()
    }

    /// How many of them other nodes wait for.
    pub(crate) fn remote(&self) -> usize {
        self.remote
    }
}

/// Whether another node waits for it.
fn is_remote(request: &Request) -> bool {
    matches!(request.target, Target::Remote { .. })
}

impl Gate {
    pub(crate) fn stall(&mut self, mut request: Request, here: &mut impl Host) {
        if self.line.is_full() || self.is_out_of_patience(&request, here) {
            return self.refuse_stalled(&request, here);
        }
        request.read_from = ReadFrom::Any;
        self.stand_in_line(request);
    }

    /// A request waits, and what its connection sends meanwhile behind it.
    pub(crate) fn stand_in_line(&mut self, request: Request) {
        if let Some((conn, _)) = self.splits.place_of(&request.target)
            && let Some(session) = self.sessions.get_mut(&conn)
        {
            session.order.stalls(request.shard);
        }
        self.line.push(request);
    }

    /// Tries every stalled command once more; what still can't go stalls again.
    pub(crate) fn retry_stalled(&mut self, here: &mut impl Host) {
        let mut conns = Vec::new();
        self.line.deferred = false;
        for _ in 0..self.line.requests.len() {
            if self.is_worn(here) {
                self.line.deferred = true;
                break;
            }
            let Some(mut request) = self.line.pop() else {
                break;
            };
            if request.since == DEFERRED {
                request.since = self.now.monotonic;
            }
            let mut lost = false;
            if self.splits.is_crossing(&request.target) {
                request.read_from = ReadFrom::PrimaryTip;
            } else if let Some((conn, slot)) = self.splits.place_of(&request.target)
                && let Some(session) = self.sessions.get_mut(&conn)
            {
                let shard = request.shard;
                session.order.stalled(shard);
                conns.push((conn, shard));
                if session.order.is_preceded(shard, slot) {
                    self.stand_in_order(request);
                    continue;
                }
                // What came behind it was told of a loss, and its session goes on from what is
                // left: this one's reply comes first, and must not show that already.
                let told = session.told_lost.get(&request.shard).copied();
                lost = request.seen.index > 0 && told.is_some_and(|told| slot < told);
                // What was answered meanwhile, or is away still, came before it.
                request.seen = request.seen.max(session.seen.get(request.shard));
                request.read_from = session.read_from(shard, request.spec);
            }
            if lost {
                self.tell_lost(&request.target, request.shard, here);
            } else if self.is_out_of_patience(&request, here) {
                self.refuse_stalled(&request, here);
            } else {
                self.route_now(request, here);
            }
        }
        for (conn, shard) in conns {
            self.continue_shard(conn, shard, here);
        }
    }

    fn is_out_of_patience(&self, request: &Request, here: &impl Host) -> bool {
        self.now.monotonic.saturating_sub(request.since) > self.patience(request, here)
    }

    /// How long a stalled command waits: for room as long as there is hope, else for a primary.
    fn patience(&self, request: &Request, here: &impl Host) -> Duration {
        match here.may_act(request.shard) {
            true => ROOM_MAX,
            false => STALL_MAX,
        }
    }

    pub(crate) fn refuse_stalled(&mut self, request: &Request, here: &mut impl Host) {
        let facts = self.catalog.shards.get(&request.shard);
        if here.may_act(request.shard) {
            let line = "BUSY more writes wait at this node than its disk, its store or its replicas take: this one was not taken, try again";
            return self.reply_error(&request.target, line, here);
        }
        let takes_writes =
            |primary: &NodeId| here.is_up(primary) && here.is_primary_at(primary, request.shard);
        if request.spec.is_write() && facts.is_some_and(|s| takes_writes(&s.primary)) {
            let line = "BUSY more writes wait at the shard's primary than it takes: this one was not taken, try again";
            return self.reply_error(&request.target, line, here);
        }
        let primary = facts.map_or("?", |s| s.primary.as_str());
        let line = if request.spec.is_write() {
            format!(
                "NOPRIMARY shard {} has no primary that can be reached ({primary} is down, starting or cut off): the write was not taken",
                request.shard
            )
        } else {
            format!(
                "MASTERDOWN shard {} has no replica that can answer this session now (its primary is {primary}); try again",
                request.shard
            )
        };
        self.reply_error(&request.target, &line, here);
    }
}
