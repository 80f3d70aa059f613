//! What the core wants, and how it is carried out: entries and notes for the log, messages at once and
//! messages that wait for the disk.

use super::{
    freshness::led_at,
    log::{barrier, is_barrier},
    member::{Member, Promise},
    message::{Beside, Letter},
};
use crate::{
    consensus::{HardState, Message, ReadContext},
    protocol::Output,
};
use model::{
    Entry, Epoch, Now, Position,
    planted::{self, Bug},
};
use raft::{
    SnapshotStatus, StateRole,
    eraftpb::{self, MessageType},
};
use std::{collections::VecDeque, mem};

impl Member {
    /// Carries out all that the core wants. An error stops the shard.
    pub(super) fn drain(&mut self, outputs: &mut VecDeque<Output>, now: Now) -> Result<(), String> {
        // Before anything that another leader has committed.
        let leads = self.raw.raft.state == StateRole::Leader;
        if self.was_leader && !leads {
            outputs.push_back(Output::Lost {
                commit: self.raw.raft.raft_log.committed,
            });
        }
        self.was_leader = leads;
        self.send_kept(outputs, now);
        while self.raw.has_ready() {
            self.round(outputs, now)?;
            self.keep_promises();
            self.send_kept(outputs, now);
            // How its copy goes is nothing to the core: it is asked where it stands all the time.
            for to in mem::take(&mut self.copied_to) {
                self.raw.report_snapshot(to, SnapshotStatus::Finish);
            }
        }
        self.incoming.clear();
        self.pay_debt(outputs);
        self.fetch_wanted(outputs);
        self.set_election_timeout();
        self.note_floor();
        Ok(())
    }

    pub(super) fn round(&mut self, outputs: &mut VecDeque<Output>, now: Now) -> Result<(), String> {
        let mut ready = self.raw.ready();
        if ready.ss().is_some() {
            // Another leads, or nobody: nobody answers what was asked of the one before.
            self.reads.lose_all(outputs);
            self.freshness.forget_told();
        }
        if let Some(hs) = ready.hs().map(HardState::from_raft) {
            self.raw.mut_store().hard_state = hs;
            if (hs.term, hs.vote) != (self.note.term, self.note.vote) {
                (self.note.term, self.note.vote) = (hs.term, hs.vote);
                self.put_note(outputs);
            }
        }
        for entry in ready.take_entries() {
            let entry = self.entry_of(entry)?;
            self.append(entry, outputs)?;
        }
        self.note_committed(outputs);
        let promise = Promise {
            number: ready.number(),
            entry: self.raw.store().last.index,
            note: self.notes.0,
            messages: ready.take_persisted_messages(),
        };
        for message in ready.take_messages() {
            self.send(message, outputs, now);
        }
        for read in ready.take_read_states() {
            if let Some(context) = ReadContext::from_bytes(&read.request_ctx)
                && (context.node, context.process) == (self.group.own, self.process)
            {
                (self.reads).answered(context.request, read.index, outputs);
            }
        }
        if let Some(last) = ready.take_committed_entries().last() {
            self.apply_members(last.index)?;
            outputs.push_back(Output::Commit { upto: last.index });
        }
        self.raw.advance_append_async(ready);
        self.promises.push_back(promise);
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        entry: Entry,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), String> {
        let after = entry.position.index - 1;
        let store = self.raw.mut_store();
        if after < store.last.index {
            store.truncate_after(after);
            self.durable = self.durable.min(after);
            // What was to become durable will not, and is waited for no more.
            for promise in &mut self.promises {
                promise.entry = promise.entry.min(after);
            }
            outputs.push_back(Output::Truncate { after });
        }
        self.clock.observe(entry.last_stamp());
        self.raw.mut_store().append(entry.clone());
        // Before the entry: a disk that holds it knows what it says.
        if self.members_told(&entry)? {
            self.put_note(outputs);
        }
        outputs.push_back(Output::Append {
            entry,
            urgent: true,
        });
        Ok(())
    }

    /// The entry that the core means, as it was proposed or received.
    pub(super) fn entry_of(&mut self, wanted: eraftpb::Entry) -> Result<Entry, String> {
        let at = Position {
            epoch: Epoch(wanted.term),
            index: wanted.index,
        };
        while let Some(entry) = self.incoming.pop_front() {
            if entry.position == at {
                return Ok(entry);
            }
        }
        if is_barrier(&wanted) {
            return Ok(barrier(at));
        }
        Entry::decode(wanted.data).map_err(|e| format!("{}: entry {at}: {e}", self.group.shard))
    }

    pub(super) fn put_note(&mut self, outputs: &mut VecDeque<Output>) -> u64 {
        let memberships = &self.raw.store().memberships;
        self.note.memberships.clone_from(memberships);
        self.notes.0 += 1;
        outputs.push_back(Output::Note {
            number: self.notes.0,
            bytes: self.note.encode(),
        });
        self.notes.0
    }

    /// Tells the core how far the disk is.
    pub(super) fn keep_promises(&mut self) {
        let kept = |p: &&Promise| self.is_kept(p);
        if let Some(last) = self.promises.iter().take_while(kept).last() {
            self.raw.on_persist_ready(last.number);
        }
    }

    /// Whether the disk has what a promise depends on.
    fn is_kept(&self, promise: &Promise) -> bool {
        promise.entry <= self.durable && promise.note <= self.notes.1
            || planted::is(Bug::PromiseBeforeSync)
    }

    /// Sends what waited for the disk.
    pub(super) fn send_kept(&mut self, outputs: &mut VecDeque<Output>, now: Now) {
        while self
            .promises
            .front()
            .is_some_and(|promise| self.is_kept(promise))
        {
            let messages = self.promises.pop_front().map(|p| p.messages);
            for message in messages.into_iter().flatten() {
                // What was promised in an earlier term may have been overwritten since. A question
                // for a read promises nothing, and names no term.
                let is_question = message.msg_type == MessageType::MsgReadIndex;
                if is_question || message.term >= self.raw.raft.term {
                    self.send(message, outputs, now);
                }
            }
        }
    }

    pub(super) fn send(
        &mut self,
        mut message: eraftpb::Message,
        outputs: &mut VecDeque<Output>,
        now: Now,
    ) {
        let to = message.to;
        let Some(node) = self.group.nodes.get(&to).cloned() else {
            return;
        };
        let mut entries = Vec::new();
        if message.msg_type == MessageType::MsgAppend {
            for core in message.take_entries() {
                match self.entry_sent(core) {
                    Some(entry) => entries.push(entry),
                    None => break,
                }
            }
        }
        if message.msg_type == MessageType::MsgSnapshot {
            self.copied_to.push(to);
        }
        let Some((_, message)) = Message::from_raft(message) else {
            return;
        };
        let clock = now.monotonic.as_millis() as u64;
        let raft = &self.raw.raft;
        let led_at = (raft.state == StateRole::Leader).then(|| {
            // Before its first commit a leader does not know what those before it have committed.
            let is_active = raft.commit_to_current_term();
            if is_active { self.led_at(clock) } else { 0 }
        });
        let (echo, echo_process) = self.heard.entry(to).or_default().echo(led_at);
        let letter = Letter {
            from: self.group.own,
            to,
            beside: Beside {
                term: self.raw.raft.term,
                clock,
                process: self.process,
                echo,
                echo_process,
                time_ms: now.wall_ms,
                commit: self.raw.raft.raft_log.committed,
                floor: self.floor.unwrap_or(0),
            },
            message,
            entries,
        };
        outputs.push_back(Output::Send {
            to: node,
            message: letter.encode(),
        });
    }

    /// When it led for sure, by its clock, which says `now` (ms).
    fn led_at(&self, now: u64) -> u64 {
        let term = self.raw.raft.term;
        let echoed = |voter: &u64| match *voter == self.group.own {
            true => now,
            false => self
                .heard
                .get(voter)
                .map_or(0, |heard| heard.echoed_in(term)),
        };
        let members = &self.raw.store().members;
        let led = led_at(members.voters.iter().map(echoed).collect());
        match members.is_joint() {
            true => led.min(led_at(members.outgoing.iter().map(echoed).collect())),
            false => led,
        }
    }

    pub(super) fn entry_sent(&self, core: eraftpb::Entry) -> Option<Entry> {
        let at = Position {
            epoch: Epoch(core.term),
            index: core.index,
        };
        if is_barrier(&core) {
            return Some(barrier(at));
        }
        let recent = self.raw.store().tail.get(core.index);
        match recent.filter(|entry| entry.position == at) {
            Some(entry) => Some(entry.clone()),
            // What the core calls a change of members it was told in its own words.
            None => Entry::decode(core.data).ok(),
        }
    }

    pub(super) fn fetch_wanted(&mut self, outputs: &mut VecDeque<Output>) {
        if !mem::take(&mut self.may_fetch) {
            return;
        }
        let wanted = self.raw.mut_store().newly_wanted();
        self.may_fetch = wanted.is_empty();
        let raft = &self.raw.raft;
        for from in wanted {
            let progress = raft.prs().iter();
            let lags = progress.filter(|(id, p)| **id != self.group.own && p.next_idx == from);
            let to = lags.filter_map(|(id, _)| self.group.nodes.get(id)).next();
            if let Some(to) = to.or(self.group.nodes.get(&self.group.own)) {
                outputs.push_back(Output::Fetch {
                    to: to.clone(),
                    from,
                    bytes_max: self.tuning.message_bytes,
                });
            }
        }
    }

    /// It holds as much again as it has told a leader that it holds.
    pub(super) fn pay_debt(&mut self, outputs: &mut VecDeque<Output>) {
        if self.note.owes > Position::ZERO && !self.owes() {
            self.note.owes = Position::ZERO;
            self.put_note(outputs);
        }
    }

    pub(super) fn note_floor(&mut self) {
        let raft = &self.raw.raft;
        if raft.state == StateRole::Leader {
            let least = raft
                .prs()
                .iter()
                .map(|(_, progress)| progress.matched)
                .min();
            self.floor = self.floor.max(least);
        }
    }

    /// The core draws the timeout at random whenever it resets; ours takes its place, so that the
    /// members take turns.
    pub(super) fn set_election_timeout(&mut self) {
        let (election, turn) = self.group.spread();
        let ticks = election + 1 + self.place() * turn;
        self.raw
            .raft
            .set_randomized_election_timeout(ticks as usize);
    }

    pub(super) fn place(&self) -> u32 {
        let term = self.raw.raft.term + 1;
        let members = &self.raw.store().members;
        match members.is_joint() {
            true => self
                .group
                .place(&members.all_voters(), term, self.group.own),
            false => self.group.place(&members.voters, term, self.group.own),
        }
    }
}
