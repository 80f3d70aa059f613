//! One member of a shard's group: feeds the core, and carries out what it wants.

use super::{
    change::{Sample, founders, is_readable},
    filling::Filling,
    freshness::{Freshness, Heard},
    log::{LogView, entry_type, to_core},
    members::{Group, core},
    membership::{Membership, Memberships},
    message::Letter,
    note::Note,
    reads::Reads,
};
use crate::{
    consensus::{Body, HardState, Message, ReadContext, group::contradiction, message::read_entry},
    protocol::{Election, Identity, Output, Reading, Recovered, Refused},
    tail::Tail,
};
use bytes::Bytes;
use model::{
    Entry, EntryKind, HybridClock, NodeId, Now, Position, ShardId, catalog::Replica,
    codec::Malformed,
};
use raft::{
    INVALID_ID, ProgressState, RawNode, StateRole,
    eraftpb::{self, MessageType},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// What the core counts time by.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// A node that did nothing for a while has not been without its leader for so long.
const TICKS_AT_ONCE_MAX: u32 = 2;
/// Ticks for which a voter of the preferred region must have been there, and level, before it is
/// handed the lead.
const HEALTHY_TICKS: u32 = 100;
/// How a member sizes what it does.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Entries that are kept in memory, in bytes.
    pub tail_bytes: usize,
    /// About how many bytes of entries go to a follower in one message.
    pub message_bytes: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            tail_bytes: 4 << 20,
            message_bytes: 256 << 10,
        }
    }
}

/// What leaves once the disk has caught up.
pub(super) struct Promise {
    pub(super) number: u64,
    /// Everything up to this entry must be durable.
    pub(super) entry: u64,
    /// And this note.
    pub(super) note: u64,
    pub(super) messages: Vec<eraftpb::Message>,
}

pub(super) struct Member {
    pub(super) raw: RawNode<LogView>,
    pub(super) tuning: Tuning,
    pub(super) group: Group,
    /// Of this process: a disk that was emptied numbers its processes anew.
    pub(super) process: u64,
    pub(super) clock: HybridClock,
    /// Entries that were proposed here, or came with the message that is being taken in: the core
    /// will want them appended.
    pub(super) incoming: VecDeque<Entry>,
    pub(super) promises: VecDeque<Promise>,
    pub(super) note: Note,
    /// The number of the newest note, and of the newest that is on the disk.
    pub(super) notes: (u64, u64),
    /// Everything up to here is on this disk.
    pub(super) durable: u64,
    pub(super) filling: Filling,
    pub(super) heard: BTreeMap<u64, Heard>,
    pub(super) freshness: Freshness,
    pub(super) reads: Reads,
    /// Up to where every member is known to hold the log durably.
    pub(super) floor: Option<u64>,
    pub(super) ticked_at: Duration,
    /// Ticks for which a voter of the preferred region has been level.
    pub(super) healthy: u32,
    pub(super) sample: Sample,
    /// When it tried last to hand over because it is to leave.
    pub(super) handed_at: Duration,
    pub(super) was_leader: bool,
    /// Whom the core has told to copy the store.
    pub(super) copied_to: Vec<u64>,
    /// Whether the log may be read for those that lag. Once in a while, and when something was heard:
    /// so it is read as fast as it is taken, and not all in one turn.
    pub(super) may_fetch: bool,
}

impl Member {
    /// As it was when its process stopped; or one that is founded now, with these members.
    pub(super) fn new(
        identity: &Identity,
        tuning: Tuning,
        found: Recovered,
        (members, election): (&[Replica], &Election),
        now: Now,
    ) -> Result<Option<Box<Self>>, String> {
        let group = Group::new(identity, members, election);
        let founders = founders(members, election);
        let founds = found.note.is_none() && founders.contains(&group.own);
        if found.note.is_none() && !founds && !group.wanted.contains(&group.own) {
            return Ok(None); // A disk that is none of the members, and is to be none.
        }
        let malformed = |e: Malformed| format!("{}: {e}", identity.shard);
        let mut note = match found.note {
            Some(note) => Note::decode(note).map_err(malformed)?,
            // Of term 0 the core can say nothing.
            None => Note {
                term: 1,
                memberships: match founds {
                    true => Memberships::from(Position::ZERO, Membership::of_voters(founders)),
                    false => Memberships::default(),
                },
                ..Note::default()
            },
        };
        note.owes = note.owes.max(found.owes);
        let (applied, last) = (found.applied, found.last.index);
        let mut memberships = note.memberships.clone();
        memberships.agree_with(&found.history, last);
        if !found.members.is_empty() {
            let members = Membership::decode(found.members).map_err(malformed)?;
            let at = Position {
                epoch: found.history.epoch_at(applied),
                index: applied,
            };
            memberships.begin(at, members);
        }
        let in_force = memberships.as_of(applied).cloned().unwrap_or_default();
        let commit = found.commit.max(applied).max(memberships.committed);
        let commit = commit.min(last);
        let first_index = found.first_index.clamp(1, found.last.index + 1);
        let hard_state = HardState {
            term: note.term.max(found.last.epoch.0),
            // In a term that the note does not know it has promised nothing to anybody else.
            vote: if note.term >= found.last.epoch.0 {
                note.vote
            } else {
                0
            },
            commit,
        };
        let tail = Tail::new(found.last.index + 1, tuning.tail_bytes);
        let log = LogView::new(
            found.history,
            found.last,
            (first_index, found.applied),
            tail,
            hard_state,
            (in_force, memberships),
        );
        let mut clock = HybridClock::default();
        clock.observe(found.stamp);
        let raw = core(&group, log, tuning)?;
        let mut member = Box::new(Member {
            durable: found.last.index,
            raw,
            tuning,
            group,
            process: identity.boot,
            clock,
            incoming: VecDeque::new(),
            promises: VecDeque::new(),
            note,
            notes: (0, 0),
            filling: match found.filling {
                true => Filling::Copying { from: None },
                false => Filling::No,
            },
            heard: BTreeMap::new(),
            freshness: Freshness::default(),
            reads: Reads::default(),
            floor: None,
            ticked_at: now.monotonic,
            healthy: 0,
            sample: Sample::default(),
            handed_at: Duration::ZERO,
            was_leader: false,
            copied_to: Vec::new(),
            may_fetch: true,
        });
        member.set_election_timeout();
        if founds && member.place() == 0 {
            // Nobody has led yet: nobody's time has to run out.
            let _is_not_alone = member.raw.campaign();
        }
        Ok(Some(member))
    }

    /// The catalog says so; who votes the group knows better.
    pub(super) fn assigned(
        &mut self,
        members: &[Replica],
        election: &Election,
        outputs: &mut VecDeque<Output>,
    ) {
        self.group.assigned(members, election);
        let is_preferred = self.group.is_preferred(self.group.own);
        self.raw.set_priority(is_preferred.into());
        if self.notes.0 == 0 {
            self.put_note(outputs);
        }
        self.set_election_timeout();
    }

    // ---- inputs -------------------------------------------------------------------------

    pub(super) fn propose(
        &mut self,
        shard: ShardId,
        (kind, ops, payload): (EntryKind, u16, &[u8]),
        now: Now,
    ) -> Result<Entry, Refused> {
        if !self.is_active() {
            return Err(Refused::NotPrimary { shard });
        }
        let raft = &self.raw.raft;
        let at = Position::new(raft.term, raft.raft_log.last_index() + 1);
        let stamp = self.clock.next(now.wall_ms);
        let entry = Entry::new(at, stamp, kind, ops, payload);
        let mut m = eraftpb::Message {
            from: self.group.own,
            ..Default::default()
        };
        m.set_msg_type(MessageType::MsgPropose);
        m.set_entries(vec![to_core(&entry)].into());
        // The core takes nothing while it hands over, or while too much is in flight.
        if self.raw.raft.step(m).is_err() {
            let bytes = self.raw.raft.uncommitted_size();
            return Err(Refused::Busy { shard, bytes });
        }
        self.clock.observe(entry.last_stamp());
        self.incoming.push_back(entry.clone());
        Ok(entry)
    }

    pub(super) fn receive(
        &mut self,
        from: &NodeId,
        message: Bytes,
        outputs: &mut VecDeque<Output>,
        now: Now,
    ) {
        let Ok(mut letter) = Letter::decode(message) else {
            return;
        };
        self.may_fetch = true;
        let is_known = self.group.nodes.get(&letter.from) == Some(from);
        if letter.to != self.group.own || letter.from == letter.to || !is_known {
            return;
        }
        if letter.message.check(None).is_err() || !letter.entries.iter().all(is_readable) {
            return;
        }
        let (term, process) = (self.raw.raft.term, self.process);
        let heard = self.heard.entry(letter.from).or_default();
        heard.heard(&letter.beside, (term, process), now.monotonic);
        if !self.may_answer(&letter.message.body) {
            return;
        }
        if !self.has_store_for(&mut letter, outputs) {
            return;
        }
        if contradiction(&self.raw, &letter.message).is_some() {
            return;
        }
        let (from, term) = (letter.from, letter.message.term);
        let asked = letter.message.read_asked();
        let is_of_this_term = letter.beside.term == self.raw.raft.term;
        let says_fresh = letter.message.is_of_a_leader();
        let mut message = letter.message.into_raft(from, self.group.own);
        message.priority = self.group.is_preferred(from).into();
        for (core, entry) in message.mut_entries().iter_mut().zip(&letter.entries) {
            core.data = entry.bytes().clone();
            core.entry_type = entry_type(entry.kind == EntryKind::Members);
        }
        if message.has_snapshot() {
            // What it holds is here already, or it had been taken for a copy. The core passes over
            // one in which this member is not.
            let own = Membership::of_voters(vec![self.group.own]).to_core();
            message.mut_snapshot().mut_metadata().set_conf_state(own);
        }
        self.incoming.extend(letter.entries);
        // Its errors say that it ignored the message, as it may.
        let _ignored = self.raw.step(message);
        if let Some(read) = asked.filter(|_| is_of_this_term) {
            self.answer_with_asker(from, read);
        }
        let raft = &self.raw.raft;
        if says_fresh && raft.term == term && raft.leader_id == from {
            self.floor = self.floor.max(Some(letter.beside.floor));
            if letter.beside.echo_process == self.process {
                let applied = self.raw.store().applied;
                self.freshness.told(&letter.beside, applied);
            }
        }
    }

    /// A follower of this term that asks for a read is as good as one that answers a heartbeat: it
    /// was of this term after the read had begun. With it and the leader three voters have their
    /// majority, and the read waits for nobody else.
    fn answer_with_asker(&mut self, from: u64, read: ReadContext) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        let Some(progress) = self.raw.raft.prs().get(from) else {
            return;
        };
        let commit = progress.committed_index;
        let read = Some(read);
        let answer = Message {
            term: self.raw.raft.term,
            body: Body::HeartbeatResponse { commit, read },
        };
        let _ignored = self.raw.step(answer.into_raft(from, self.group.own));
    }

    /// Whether what is asked here may be granted: a vote only to whose log is as new as what this
    /// member has acknowledged, be it still here or not.
    fn may_answer(&self, body: &Body) -> bool {
        match body {
            Body::Vote {
                last_index,
                last_term,
                ..
            } => Position::new(*last_term, *last_index) >= self.note.owes,
            Body::TimeoutNow => !self.owes(),
            _ => true,
        }
    }

    pub(super) fn durable(&mut self, index: u64) {
        self.durable = self.durable.max(index.min(self.raw.store().last.index));
        self.keep_promises();
    }

    pub(super) fn noted(&mut self, number: u64, outputs: &mut VecDeque<Output>) {
        self.notes.1 = self.notes.1.max(number);
        if let Filling::Noting { number, from } = self.filling
            && number <= self.notes.1
        {
            self.copy_from(from, outputs);
        }
        self.keep_promises();
    }

    pub(super) fn applied(&mut self, index: u64) {
        let log = &self.raw.raft.raft_log;
        let index = index.min(log.committed.min(log.persisted));
        if index > log.applied {
            self.raw.advance_apply_to(index);
        }
        self.raw.mut_store().applied = self.raw.store().applied.max(index);
        self.freshness.applied(index);
    }

    pub(super) fn fetched(&mut self, from: u64, entries: Option<Vec<Entry>>) {
        match entries {
            Some(entries) => self.raw.mut_store().fetched = entries,
            None => self.released(from + 1),
        }
        for context in self.raw.mut_store().take_wanted(from) {
            self.raw.on_entries_fetched(context);
        }
        self.raw.mut_store().fetched.clear();
    }

    pub(super) fn released(&mut self, first_index: u64) {
        let store = self.raw.mut_store();
        store.first = store.first.max(first_index.min(store.last.index + 1));
        let first = store.first.min(store.applied + 1);
        store.memberships.released(first);
    }

    /// What was on its way to that node may be lost.
    pub(super) fn link_made(&mut self, peer: &NodeId) {
        for id in self.group.ids_of(peer) {
            self.raw.report_unreachable(id);
        }
    }

    pub(super) fn transfer_to(&mut self, node: &NodeId) {
        let members = &self.raw.store().members;
        let mut voters = self
            .group
            .ids_of(node)
            .filter(|id| members.voters.contains(id));
        if let Some(id) = voters.next()
            && id != self.group.own
            && self.raw.raft.state == StateRole::Leader
        {
            self.raw.transfer_leader(id);
        }
    }

    pub(super) fn tick(&mut self, outputs: &mut VecDeque<Output>, now: Now) {
        let passed = now.monotonic.saturating_sub(self.ticked_at);
        let ticks = (passed.as_millis() / TICK.as_millis()) as u32;
        if ticks == 0 {
            return;
        }
        self.may_fetch = true;
        self.ticked_at = match ticks > TICKS_AT_ONCE_MAX {
            true => now.monotonic,
            false => self.ticked_at + TICK * ticks,
        };
        for _ in 0..ticks.min(TICKS_AT_ONCE_MAX) {
            // Whoever owes something does not ask to be elected, but counts for how long nobody has
            // led; a leader owes nothing.
            if self.owes() {
                self.raw.raft.election_elapsed += 1;
            } else {
                self.raw.tick();
                self.set_election_timeout();
            }
            self.give_back_the_lead();
        }
        self.change_members(outputs, now);
        self.reads.tick(now.monotonic, outputs);
    }

    /// The lead goes to the preferred region once a voter there has been level for a while.
    fn give_back_the_lead(&mut self) {
        let group = &self.group;
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || group.is_preferred(group.own) {
            self.healthy = 0;
            return;
        }
        let committed = raft.raft_log.committed;
        let is_level = |id: &&u64| {
            let progress = raft.prs().get(**id);
            group.is_preferred(**id)
                && progress.is_some_and(|p| {
                    p.recent_active && p.matched >= committed && p.state == ProgressState::Replicate
                })
        };
        let voters = &raft.prs().conf().to_conf_state().voters;
        let Some(level) = voters.iter().find(is_level).copied() else {
            self.healthy = 0;
            return;
        };
        self.healthy += 1;
        if self.healthy >= HEALTHY_TICKS && raft.lead_transferee.is_none() {
            self.healthy = 0;
            self.raw.transfer_leader(level);
        }
    }

    // ---- reads --------------------------------------------------------------------------

    pub(super) fn read(&mut self, _now: Now) -> Reading {
        let leads = self.raw.raft.state == StateRole::Leader;
        let is_known = self.raw.raft.leader_id != INVALID_ID;
        if !is_known || leads && !self.is_active() || self.is_filling() || !self.votes() {
            return Reading::Elsewhere;
        }
        match self.reads.take_ticket() {
            Some(ticket) => Reading::Wait(ticket),
            None => Reading::Elsewhere,
        }
    }

    /// Asks the core for the reads that came since it was asked last.
    pub(super) fn ask_reads(&mut self, now: Now) {
        if let Some(request) = self.reads.ask(now.monotonic) {
            let read = ReadContext {
                node: self.group.own,
                process: self.process,
                request,
            };
            let mut m = eraftpb::Message::default();
            m.set_msg_type(MessageType::MsgReadIndex);
            m.set_entries(vec![read_entry(read)].into());
            let _ignored = self.raw.raft.step(m);
        }
    }
}
