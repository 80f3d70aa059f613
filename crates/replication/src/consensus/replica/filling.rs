//! A replica that lacks what the leader's log no longer holds is filled by a copy of a store.

use super::{log::LogView, member::Member, members::core, membership::Membership, message::Letter};
use crate::{
    consensus::{Body, HardState},
    protocol::{Copied, Output},
    tail::Tail,
};
use model::{
    Position,
    planted::{self, Bug},
};
use std::collections::VecDeque;

/// The store is being filled by a copy.
pub(super) enum Filling {
    No,
    /// What it will owe is on its way to the disk.
    Noting {
        number: u64,
        from: u64,
    },
    /// From whom; None: it began in an earlier process.
    Copying {
        from: Option<u64>,
    },
}

impl Member {
    /// Whether a message of a leader is for a store that can take it. A replica that lacks what the
    /// leader's log no longer holds is filled by a copy; until it is, it is told nothing but that
    /// its leader lives.
    pub(super) fn has_store_for(
        &mut self,
        letter: &mut Letter,
        outputs: &mut VecDeque<Output>,
    ) -> bool {
        let log = &self.raw.raft.raft_log;
        let needs_copy = match &letter.message.body {
            _ if letter.message.term < self.raw.raft.term => return true,
            // Who does not know who is in the group learns it with a copy.
            Body::Append { .. } => self.is_filling() || self.knows_nobody(),
            // What it has in common with the leader's log beyond that counts, and is kept.
            Body::Snapshot(s) if log.match_term(s.index, s.term) => false,
            // Of another log than what is committed here.
            Body::Snapshot(s) if s.index <= log.committed => return false,
            Body::Snapshot(_) => true,
            _ => false,
        };
        if !needs_copy {
            return true;
        }
        letter.entries.clear();
        letter.message.body = Body::Heartbeat {
            commit: 0,
            read: None,
        };
        let from = letter.from;
        match self.filling {
            Filling::No => {
                let last = Position::new(log.last_term(), log.last_index());
                self.note.owes = self.note.owes.max(last);
                let number = self.put_note(outputs);
                self.filling = Filling::Noting { number, from };
            }
            Filling::Noting { number, .. } => self.filling = Filling::Noting { number, from },
            Filling::Copying { from: Some(source) } if source == from => {}
            Filling::Copying { .. } => self.copy_from(from, outputs),
        }
        true
    }

    pub(super) fn copy_from(&mut self, from: u64, outputs: &mut VecDeque<Output>) {
        self.filling = Filling::Copying { from: Some(from) };
        if let Some(node) = self.group.nodes.get(&from) {
            outputs.push_back(Output::NeedsCopy {
                from: node.clone(),
                common: self.raw.raft.raft_log.committed,
            });
        }
    }

    /// The store holds everything up to `at`, and the log begins behind it: the core begins anew with
    /// that, as after a restart, and with what it has promised.
    pub(super) fn installed(
        &mut self,
        copied: Copied,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), String> {
        let Copied {
            at,
            history,
            stamp,
            members,
        } = copied;
        let hard_state = self.raw.raft.hard_state();
        let hard_state = HardState {
            term: hard_state.term.max(at.epoch.0),
            vote: if hard_state.term >= at.epoch.0 {
                hard_state.vote
            } else {
                0
            },
            commit: at.index,
        };
        let mut memberships = self.raw.store().memberships.clone();
        memberships.agree_with(&history, at.index);
        if !members.is_empty() && !planted::is(Bug::CopyWithoutMembers) {
            let members = Membership::decode(members);
            let members = members.map_err(|e| format!("{}: {e}", self.group.shard))?;
            memberships.begin(at, members);
        }
        let in_force = memberships.as_of(at.index).cloned().unwrap_or_default();
        let tail = Tail::new(at.index + 1, self.tuning.tail_bytes);
        let places = (at.index + 1, at.index);
        let in_force = (in_force, memberships);
        let log = LogView::new(history, at, places, tail, hard_state, in_force);
        self.raw = core(&self.group, log, self.tuning)?;
        self.put_note(outputs);
        self.clock.observe(stamp);
        self.promises.clear();
        self.incoming.clear();
        self.durable = at.index;
        self.filling = Filling::No;
        self.freshness.forget_told();
        self.set_election_timeout();
        Ok(())
    }
}
