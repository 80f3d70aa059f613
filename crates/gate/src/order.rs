//! What a connection's commands wait for, shard by shard.
//!
//! ```text
//!            ┌─ Free, AtTip ─▶ evaluated here, or sent ──▶ away ─▶ answered
//! command ─ way ─ Along ─────▶ sent behind what is away ─▶ away ─▶ answered
//!            └─ Wait ──┐                                      │
//!                      ▼                                      │ it was not taken
//!             queue of its shard ◀────────────────────────────┘
//!                      └─ next ─▶ (as above)
//! ```
//!
//! # What is promised
//! Of the commands of one connection on one shard, in the order in which they were sent:
//! 1. Writes take effect in this order.
//! 2. A read shows every earlier write that is acknowledged, and no later one.
//! 3. A read shows at least what each earlier read shows.
//!
//! Nothing is promised between shards, so that a shard without a primary holds up no other.
//!
//! # How
//! - Links keep the order: what goes to the primary behind other commands that went there is
//!   evaluated behind them. A primary answers a read behind the same connection's reads and
//!   writes as of its tip, so that it shows as much as they did, or will have done.
//! - Where a read takes a round of the replicas, also the primary does not answer it before what
//!   comes behind it, so that a write waits for the reads before it.
//! - What is at another node than the shard's primary may not be taken there, and is tried again
//!   then; what waits here may be given up and go elsewhere: nothing of the shard may come before.
//! - What was not taken goes again once all that was sent behind it has come back, in its old
//!   place. If one of those was taken, or may have been, it has been *overtaken*, and can only be
//!   refused.
//! - What a session has *seen* of a shard (`replication::session`) says how much a read must
//!   show once the commands before it are answered; this says what to do before they are.
//!
//! Commands are numbered in the order in which they came. A connection has few shards and nodes at
//! a time, so lists are searched; a shard with nothing under way takes no room.

use model::{NodeId, Position, ShardId};
use std::collections::VecDeque;

/// What a command does, as far as its order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// WATCH: a read at the primary's tip, behind everything.
    Watch,
}

/// How a command goes that comes behind others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As if it were alone.
    Free,
    /// To the primary, which answers as of all that came to it before.
    AtTip,
    /// Over the link to this node, behind what went there.
    Along(NodeId),
    /// Not yet.
    Wait,
}

/// Who is there for a shard.
#[derive(Clone, Copy)]
pub(crate) struct There<'a> {
    pub(crate) primary: Option<&'a NodeId>,
    /// Whether a read takes a round of the replicas, also at the primary. Rounds end in the order in
    /// which they were asked for, and reads that wait for them are answered in theirs.
    pub(crate) reads_by_rounds: bool,
    pub(crate) is_up: &'a dyn Fn(&NodeId) -> bool,
}

/// Commands on their way to other nodes: how many to each.
#[derive(Debug, Default)]
struct Away(Vec<(NodeId, u32)>);

impl Away {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, node: &NodeId) {
        match self.0.iter_mut().find(|(to, _)| to == node) {
            Some((_, count)) => *count += 1,
            None => self.0.push((node.clone(), 1)),
        }
    }

    fn remove(&mut self, node: &NodeId) {
        if let Some(at) = self.0.iter().position(|(to, _)| to == node) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.swap_remove(at);
            }
        }
    }

    /// Where all of them are, if that is one node.
    fn only(&self) -> Option<&NodeId> {
        match &self.0[..] {
            [(node, _)] => Some(node),
            _ => None,
        }
    }
}

/// What is under way of one shard.
#[derive(Debug)]
struct Lane<T> {
    shard: ShardId,
    writes: Away,
    reads: Away,
    /// The most that the reads among these, or that wait here, want to be shown.
    asked: Position,
    /// The greatest number of what went away since nothing was.
    last: u64,
    /// Reads that wait here for what the session has seen.
    waiting: u32,
    /// Commands that wait for somewhere to go, or for the next turn.
    stalled: u32,
    /// Commands that wait for what came before them, or that were not taken where they were sent:
    /// by number.
    queue: VecDeque<Queued<T>>,
}

#[derive(Debug)]
struct Queued<T> {
    number: u64,
    bytes: usize,
    command: T,
}

impl<T> Lane<T> {
    fn new(shard: ShardId) -> Self {
        Lane {
            shard,
            writes: Away::default(),
            reads: Away::default(),
            asked: Position::ZERO,
            last: 0,
            waiting: 0,
            stalled: 0,
            queue: VecDeque::new(),
        }
    }

    /// A read is under way of a session that has seen this.
    fn asks(&mut self, seen: Position) {
        self.asked = match self.reads.is_empty() && self.waiting == 0 {
            true => seen,
            false => self.asked.max(seen),
        };
    }

    fn is_any_away(&self) -> bool {
        !self.writes.is_empty() || !self.reads.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.is_any_away() && self.waiting == 0 && self.stalled == 0 && self.queue.is_empty()
    }

    /// How a command goes that comes behind all but the queue.
    fn way(&self, kind: Kind, there: There<'_>) -> Way {
        let is_primary = |node: &NodeId| there.primary == Some(node);
        if self.stalled > 0 || self.writes.0.iter().any(|(node, _)| !is_primary(node)) {
            return Way::Wait;
        }
        let reads = !self.reads.is_empty() || self.waiting > 0;
        match kind {
            Kind::Watch if reads || !self.writes.is_empty() => Way::Wait,
            Kind::Watch => Way::Free,
            Kind::Read if !self.writes.is_empty() => Way::AtTip,
            Kind::Read | Kind::Write if !reads => Way::Free,
            Kind::Read if there.reads_by_rounds && self.reads.is_empty() => Way::Free,
            // It would be done before the reads are, and they would show it.
            Kind::Write if there.reads_by_rounds => Way::Wait,
            Kind::Read | Kind::Write if self.waiting > 0 => Way::Wait,
            Kind::Read | Kind::Write => match self.reads.only() {
                // A replica never goes back, and a primary answers a read as soon as it comes.
                Some(node) if (kind == Kind::Read || is_primary(node)) && (there.is_up)(node) => {
                    Way::Along(node.clone())
                }
                _ => Way::Wait,
            },
        }
    }
}

/// What is under way of a connection.
#[derive(Debug)]
pub(crate) struct Order<T> {
    lanes: Vec<Lane<T>>,
    /// Of the commands in queues.
    queued_bytes: usize,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Order {
            lanes: Vec::new(),
            queued_bytes: 0,
        }
    }
}

impl<T> Order<T> {
    fn lane(&self, shard: ShardId) -> Option<&Lane<T>> {
        self.lanes.iter().find(|lane| lane.shard == shard)
    }

    fn change(&mut self, shard: ShardId, change: impl FnOnce(&mut Lane<T>)) {
        let at = match self.lanes.iter().position(|lane| lane.shard == shard) {
            Some(at) => at,
            None => {
                self.lanes.push(Lane::new(shard));
                self.lanes.len() - 1
            }
        };
        change(&mut self.lanes[at]);
        if self.lanes[at].is_empty() {
            self.lanes.swap_remove(at);
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Bytes of the commands in queues.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// How a command goes that comes now.
    pub(crate) fn way(&self, shard: ShardId, kind: Kind, there: There<'_>) -> Way {
        match self.lane(shard) {
            None => Way::Free,
            Some(lane) if !lane.queue.is_empty() => Way::Wait,
            Some(lane) => lane.way(kind, there),
        }
    }

    /// Whether a command may go that asks several shards.
    pub(crate) fn lets_all_go<'a>(&self, kind: Kind, there: impl Fn(ShardId) -> There<'a>) -> bool {
        self.lanes.iter().all(|lane| {
            let way = lane.way(kind, there(lane.shard));
            lane.queue.is_empty() && matches!(way, Way::Free | Way::AtTip)
        })
    }

    /// Whether a read that is sent to the primary now has to be answered as of its tip, because of
    /// the writes before it.
    pub(crate) fn has_writes_away(&self, shard: ShardId) -> bool {
        self.lane(shard).is_some_and(|lane| !lane.writes.is_empty())
    }

    /// The same because of the reads before it: one of them may show what is in flight there.
    pub(crate) fn has_reads_away(&self, shard: ShardId) -> bool {
        self.lane(shard).is_some_and(|lane| !lane.reads.is_empty())
    }

    /// What a read must show at least so that it shows as much as those under way may.
    pub(crate) fn asked(&self, shard: ShardId) -> Position {
        self.lane(shard).map_or(Position::ZERO, |lane| lane.asked)
    }

    /// A command went to `node`, of a session that has seen this.
    pub(crate) fn sent(
        &mut self,
        shard: ShardId,
        number: u64,
        kind: Kind,
        seen: Position,
        node: &NodeId,
    ) {
        self.change(shard, |lane| {
            lane.last = match lane.is_any_away() {
                true => lane.last.max(number),
                false => number,
            };
            match kind {
                Kind::Write => lane.writes.add(node),
                Kind::Read | Kind::Watch => {
                    lane.asks(seen);
                    lane.reads.add(node);
                }
            }
        });
    }

    /// One that went to `node` was answered, or is given up.
    pub(crate) fn answered(&mut self, shard: ShardId, kind: Kind, node: &NodeId) {
        self.change(shard, |lane| match kind {
            Kind::Write => lane.writes.remove(node),
            Kind::Read | Kind::Watch => lane.reads.remove(node),
        });
    }

    /// A read waits here for what its session has seen.
    pub(crate) fn waits(&mut self, shard: ShardId, seen: Position) {
        self.change(shard, |lane| {
            lane.asks(seen);
            lane.waiting += 1;
        });
    }

    /// One waits no more.
    pub(crate) fn waited(&mut self, shard: ShardId) {
        self.change(shard, |lane| lane.waiting = lane.waiting.saturating_sub(1));
    }

    /// A command waits for somewhere to go, or for the next turn.
    pub(crate) fn stalls(&mut self, shard: ShardId) {
        self.change(shard, |lane| lane.stalled += 1);
    }

    /// One waits no more.
    pub(crate) fn stalled(&mut self, shard: ShardId) {
        self.change(shard, |lane| lane.stalled = lane.stalled.saturating_sub(1));
    }

    /// A command waits in its place.
    pub(crate) fn queue(&mut self, shard: ShardId, number: u64, bytes: usize, command: T) {
        self.queued_bytes += bytes;
        self.change(shard, |lane| {
            let at = lane.queue.partition_point(|before| before.number < number);
            let queued = Queued {
                number,
                bytes,
                command,
            };
            lane.queue.insert(at, queued);
        });
    }

    /// Whether one that stalled has to let others pass which came back meanwhile.
    pub(crate) fn is_preceded(&self, shard: ShardId, number: u64) -> bool {
        let first = self.lane(shard).and_then(|lane| lane.queue.front());
        first.is_some_and(|first| first.number < number)
    }

    /// The next of a shard's queue, if it may go, and how.
    pub(crate) fn next(
        &mut self,
        shard: ShardId,
        kind: impl FnOnce(&T) -> Kind,
        there: There<'_>,
    ) -> Option<(T, Way)> {
        let lane = self.lane(shard)?;
        let first = lane.queue.front()?;
        let is_last = !lane.is_any_away() || first.number > lane.last;
        let way = lane.way(kind(&first.command), there);
        if !is_last || way == Way::Wait {
            return None;
        }
        Some((self.pop(shard)?, way))
    }

    /// The first of a shard's queue, if it was not taken where it was sent and nothing is under
    /// way any more: it has to wait for somewhere to go.
    pub(crate) fn first_to_stall(&mut self, shard: ShardId) -> Option<T> {
        let lane = self.lane(shard)?;
        let rests = !lane.is_any_away() && lane.stalled == 0 && lane.waiting == 0;
        if rests { self.pop(shard) } else { None }
    }

    /// Those in a shard's queue that came before one which has taken effect, or may have.
    pub(crate) fn overtaken(&mut self, shard: ShardId, number: u64) -> Vec<T> {
        let mut overtaken = Vec::new();
        while self.is_preceded(shard, number) {
            overtaken.extend(self.pop(shard));
        }
        overtaken
    }

    fn pop(&mut self, shard: ShardId) -> Option<T> {
        let mut first = None;
        self.change(shard, |lane| first = lane.queue.pop_front());
        let Queued { bytes, command, .. } = first?;
        self.queued_bytes -= bytes;
        Some(command)
    }

    /// Forgets what is in queues: the connection is closed.
    pub(crate) fn let_go(&mut self) {
        self.queued_bytes = 0;
        self.lanes.iter_mut().for_each(|lane| lane.queue.clear());
        self.lanes.retain(|lane| !lane.is_empty());
    }
}

#[cfg(test)]
mod tests;
