//! How a member stands, for whoever asks.

use super::{
    filling::Filling,
    has,
    member::{Member, TICK},
};
use crate::{
    protocol::{MemberState, Role, State},
    session::Satisfied,
};
use model::{Epoch, EpochHistory, NodeId, Now, Position, Stamp};
use raft::StateRole;
use std::time::Duration;

impl Member {
    /// Whether it leads, and what it began its term with is committed.
    pub(super) fn is_active(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state == StateRole::Leader && raft.commit_to_current_term()
    }

    pub(super) fn is_filling(&self) -> bool {
        !matches!(self.filling, Filling::No)
    }

    /// Whether its log is older than what it may have told a leader that it holds.
    pub(super) fn owes(&self) -> bool {
        self.is_filling() || self.raw.store().last < self.note.owes
    }

    pub(super) fn wake_at(&self) -> Duration {
        self.ticked_at + TICK
    }

    pub(super) fn state(&self, now: Now) -> State {
        let raft = &self.raw.raft;
        let (role, time_ms, fresh_at) = match raft.state {
            StateRole::Leader => {
                let role = match self.is_active() {
                    true => Role::Primary,
                    false => Role::Starting,
                };
                (role, now.wall_ms, Some(now.monotonic))
            }
            _ => {
                let role = match self.is_filling() || !self.votes() {
                    true => Role::Learner,
                    false => Role::Replica,
                };
                (role, self.freshness.time_ms(), self.freshness.fresh_at())
            }
        };
        State {
            role,
            epoch: Epoch(raft.term),
            tip: self.tip(),
            commit: raft.raft_log.committed.min(raft.raft_log.persisted),
            time_ms,
            fresh_at,
            by_lease: false,
        }
    }

    /// The last entry, though the host may not have been asked to append it yet.
    pub(super) fn tip(&self) -> Position {
        let log = &self.raw.raft.raft_log;
        Position::new(log.last_term(), log.last_index())
    }

    pub(super) fn has(&self, seen: Position) -> Satisfied {
        let store = self.raw.store();
        let commit = self.raw.raft.raft_log.committed;
        has(seen, &store.history, (commit, store.applied))
    }

    pub(super) fn leader(&self) -> Option<&NodeId> {
        self.group.nodes.get(&self.raw.raft.leader_id)
    }

    pub(super) fn history(&self) -> &EpochHistory {
        &self.raw.store().history
    }

    pub(super) fn floor(&self) -> Option<u64> {
        self.floor
    }

    pub(super) fn members(&self) -> Vec<MemberState> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let is_other = |id: u64| id != self.group.own && !self.group.is_former(id);
        let others = raft.prs().iter().filter(|(id, _)| is_other(**id));
        others
            .filter_map(|(id, progress)| {
                Some(MemberState {
                    node: self.group.nodes.get(id)?.clone(),
                    matched: progress.matched,
                    heard_at: self.heard.get(id).and_then(|heard| heard.at),
                    rests: false,
                })
            })
            .collect()
    }

    pub(super) fn next_stamp(&self, now: Now) -> Stamp {
        self.clock.next(now.wall_ms)
    }
}
