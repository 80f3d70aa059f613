//! What both halves of a replica work on: its log as far as it is known, and what it asks for.

use super::{
    Tuning,
    message::{Body, Message},
};
use crate::{
    protocol::{Identity, Output, Primacy},
    tail::Tail,
};
use model::{
    Entry, Epoch, EpochHistory, HybridClock, NodeId, Position,
    catalog::Replica,
    planted::{self, Bug},
};
use std::collections::VecDeque;

/// What the catalog said last.
#[derive(Debug, PartialEq)]
pub(super) struct Assigned {
    pub(super) members: Vec<Replica>,
    pub(super) primacy: Primacy,
}

/// What both halves work on.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) identity: Identity,
    pub(super) tuning: Tuning,
    pub(super) assigned: Option<Assigned>,
    /// The newest epoch heard of, from the catalog or from a message.
    pub(super) epoch: Epoch,
    pub(super) history: EpochHistory,
    /// The last entry of the log.
    pub(super) last: Position,
    /// Everything up to here is on this disk.
    pub(super) durable: u64,
    /// Everything up to here is committed. Never above `durable`.
    pub(super) commit: u64,
    /// Everything up to here is in the store.
    pub(super) applied: u64,
    /// The lowest index that the log still holds.
    pub(super) first_index: u64,
    pub(super) clock: HybridClock,
    /// Recent entries.
    pub(super) tail: Tail,
    pub(super) outputs: VecDeque<Output>,
    /// The host fills or rewinds the store: nothing is taken in before it is done.
    pub(super) filling: bool,
    /// Some keys are in the store as of this position, which is not applied yet.
    pub(super) until: Option<Position>,
    /// Up to where every member is known to hold the log durably.
    pub(super) floor: Option<u64>,
    /// Whether what is sent says how fresh it is.
    pub(super) vouches: bool,
    /// Why the shard stopped, if it did.
    pub(super) stopped: Option<String>,
}

impl Core {
    pub(super) fn send(&mut self, to: &NodeId, body: Body) {
        let message = Message {
            epoch: self.epoch,
            body,
        };
        self.outputs.push_back(Output::Send {
            to: to.clone(),
            message: message.encode(),
        });
    }

    pub(super) fn append(&mut self, entry: Entry, urgent: bool) {
        self.last = entry.position;
        self.history.note(entry.position);
        self.clock.observe(entry.last_stamp());
        self.tail.push(entry.clone());
        self.outputs.push_back(Output::Append { entry, urgent });
    }

    pub(super) fn truncate_after(&mut self, index: u64) {
        self.history.truncate_after(index);
        self.last = Position {
            epoch: self.history.epoch_at(index),
            index,
        };
        self.durable = self.durable.min(index);
        self.tail.truncate_after(index);
        self.outputs.push_back(Output::Truncate { after: index });
    }

    /// What this replica may say that it holds.
    pub(super) fn acknowledgeable(&self) -> u64 {
        if planted::is(Bug::AckBeforeSync) {
            self.last.index
        } else {
            self.durable
        }
    }

    /// Moves the committed index on, never beyond what is durable here.
    pub(super) fn commit_to(&mut self, index: u64) -> bool {
        let index = index.min(self.acknowledgeable());
        if index <= self.commit {
            return false;
        }
        self.commit = index;
        self.outputs.push_back(Output::Commit { upto: index });
        true
    }

    pub(super) fn stop(&mut self, reason: String) {
        if self.stopped.is_none() {
            self.stopped = Some(reason.clone());
            self.outputs.push_back(Output::Stop { reason });
        }
    }

    /// Whether the catalog, as far as it is known, has this replica for a member on this disk.
    pub(super) fn is_member(&self) -> bool {
        let of_own = |r: &&Replica| r.node == self.identity.node;
        let own = self.assigned.as_ref();
        let own = own.map(|a| a.members.iter().find(of_own));
        own.is_none_or(|own| {
            own.is_some_and(|r| r.disk == Some(self.identity.disk) && r.replaces.is_none())
        })
    }

    pub(super) fn primacy(&self) -> Option<&Primacy> {
        self.assigned.as_ref().map(|a| &a.primacy)
    }

    /// The position of the entry at `index`, as far as the history knows.
    pub(super) fn position_at(&self, index: u64) -> Position {
        Position {
            epoch: self.history.epoch_at(index),
            index,
        }
    }
}
