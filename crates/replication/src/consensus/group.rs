//! One member: feeds the core, and turns its rounds into work. The contract is the parent's.

use super::{
    Body, Checkpoint, Committed, Entry, GroupConfig, HardState, InvalidGroup, LogRecord, Message,
    NotTaken, ReadContext, ReadState, Recovered, Refused, Role, Snapshot, Work,
    memory::Memory,
    message::{PROPOSAL_BYTES_MAX, SNAPSHOT_BYTES_MAX},
};
use bytes::Bytes;
use raft::{
    Config, RawNode, Ready, SnapshotStatus, StateRole, Storage,
    eraftpb::{self, MessageType},
};
use std::{
    collections::{BTreeSet, VecDeque},
    mem,
};

/// The most inputs that wait for the disk.
const INBOX_MAX: usize = 4096;
/// The most bytes of inputs that wait for the disk.
const INBOX_BYTES_MAX: usize = 64 << 20;
/// The most reads that wait for a majority.
const READS_MAX: usize = 1024;
/// The most refusals reported in one round; the rest are only counted.
const REFUSED_MAX: usize = 16;

enum Input {
    Tick,
    Message(u64, Message),
    Propose(Bytes),
    Read(ReadContext),
    Transfer(u64),
}

impl Input {
    fn bytes(&self) -> usize {
        match self {
            Input::Propose(data) => data.len(),
            Input::Message(_, m) => match &m.body {
                Body::Append { entries, .. } => entries.iter().map(|e| e.data.len()).sum(),
                Body::Snapshot(s) => s.data.len(),
                _ => 0,
            },
            _ => 0,
        }
    }
}

/// One member of a group.
pub struct RaftGroup {
    config: GroupConfig,
    raw: RawNode<Memory>,
    /// The round whose records are being made durable.
    in_flight: Option<Ready>,
    /// Inputs that came meanwhile.
    inbox: VecDeque<Input>,
    inbox_bytes: usize,
    /// What the last `synced` set free, or a recovered snapshot.
    released: Option<Work>,
    /// A compaction's record, to go with the next round.
    checkpoint: Option<Checkpoint>,
    /// Whom a snapshot was sent to; the core stops talking to them until it is told.
    snapshots_sent: Vec<u64>,
    refused: Vec<(u64, Refused)>,
    role: Role,
    /// Ticks since this member started, heard a leader, or led.
    quiet_ticks: u32,
    /// For the term named, the place of the first in turn that has asked for a pre-vote.
    first_asked: Option<(u64, u32)>,
    /// The term in which it campaigned because a leader asked it to.
    forced_term: u64,
    /// It follows, neither votes nor campaigns, and is not counted: its disk may have forgotten
    /// a vote.
    muted: bool,
    /// Who else is muted, by what this leader heard of them last.
    muted_others: BTreeSet<u64>,
}

impl RaftGroup {
    /// A member as it was when it stopped; `Recovered::default()` for a new one.
    pub fn new(mut config: GroupConfig, recovered: Recovered) -> Result<Self, InvalidGroup> {
        let group = config.group;
        let invalid = |what| Err(InvalidGroup::Config { group, what });
        config.voters.sort_unstable();
        if config.voters.windows(2).any(|w| w[0] == w[1]) {
            return invalid("a voter is named twice: name each once");
        }
        if config.id == 0 || !config.voters.contains(&config.id) {
            return invalid(
                "this node is not among the voters: add it, or don't start the group here",
            );
        }
        if config.heartbeat_ticks == 0 || config.election_ticks <= config.heartbeat_ticks {
            return invalid(
                "election_ticks must be greater than heartbeat_ticks, and that greater than 0",
            );
        }
        if config.turn_ticks == 0 {
            return invalid("turn_ticks must be greater than 0");
        }
        if let Some(damage) = recovered.gap {
            return Err(InvalidGroup::Damaged { group, damage });
        }
        if recovered.snapshot.index > 0 && recovered.snapshot.voters != config.voters {
            return Err(InvalidGroup::Voters {
                group,
                found: recovered.snapshot.voters,
                expected: config.voters,
            });
        }
        let memory = Memory::new(recovered, &config.voters);
        let snapshot = memory.snapshot_ref();
        let released = (snapshot.index > 0).then(|| Work {
            snapshot: Some((snapshot.index, snapshot.data.clone())),
            ..Work::default()
        });
        let election_tick = config.election_ticks as usize;
        let core = Config {
            id: config.id,
            applied: snapshot.index,
            election_tick,
            min_election_tick: election_tick,
            max_election_tick: config.silence_max() as usize,
            heartbeat_tick: config.heartbeat_ticks as usize,
            check_quorum: true,
            pre_vote: true,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 64,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: 16 << 20,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&core, memory, &logger).map_err(|e| InvalidGroup::Core {
            group,
            why: e.to_string(),
        })?;
        let mut new = RaftGroup {
            config,
            raw,
            in_flight: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            released,
            checkpoint: None,
            snapshots_sent: Vec::new(),
            refused: Vec::new(),
            role: Role::default(),
            quiet_ticks: 0,
            first_asked: None,
            forced_term: 0,
            muted: false,
            muted_others: BTreeSet::new(),
        };
        new.set_election_timeout();
        Ok(new)
    }

    /// This member's disk is new: others may know of votes and entries of it that it doesn't.
    /// Until it is admitted it follows, neither votes nor campaigns, and is not counted.
    pub fn mute(&mut self) {
        self.muted = true;
    }

    /// It knows at least what it had known, or there was nothing to know.
    pub fn admit(&mut self) {
        self.muted = false;
    }

    /// Whether it is muted.
    pub fn is_muted(&self) -> bool {
        self.muted
    }

    /// The disk of `member` is new: what it had acknowledged, as this leader remembers it, it
    /// holds no longer.
    pub fn forget_progress(&mut self, member: u64) {
        if self.is_leader()
            && let Some(progress) = self.raw.raft.mut_prs().get_mut(member)
            && progress.matched > 0
        {
            progress.matched = 0;
            progress.become_probe();
        }
    }

    /// Time goes on by one tick.
    pub fn tick(&mut self) {
        self.input(Input::Tick);
    }

    /// A message came from `from`, which the connection has proven to be that member. What is
    /// refused shows in [`Work::refused`].
    pub fn receive(&mut self, from: u64, message: Message) {
        let checked = if from != self.config.id && self.config.voters.contains(&from) {
            message.check(Some(&self.config.voters))
        } else {
            let group = self.config.group;
            Err(Refused::Stranger { from, group })
        };
        match checked {
            Err(refused) => self.refuse(from, refused),
            Ok(()) => {
                if !self.input(Input::Message(from, message)) {
                    self.refuse(from, Refused::Busy);
                }
            }
        }
    }

    /// Asks the group to agree on `data`. Ok means that it was taken, not that it will be
    /// committed: put something into it by which its proposer finds it in `committed`.
    pub fn propose(&mut self, data: Bytes) -> Result<(), NotTaken> {
        let bytes = data.len();
        if bytes == 0 || bytes > PROPOSAL_BYTES_MAX {
            return Err(NotTaken::Size { bytes });
        }
        if !self.is_leader() {
            let leader = self.leader();
            return Err(NotTaken::NotLeader { leader });
        }
        if self.input(Input::Propose(data)) {
            Ok(())
        } else {
            Err(NotTaken::Busy)
        }
    }

    /// Asks for the index that a linearizable read must have applied; the answer comes in
    /// [`Work::reads`], on any member. It may get lost: ask again, under another number.
    pub fn read_index(&mut self, request: u64) -> Result<(), NotTaken> {
        let raft = &self.raw.raft;
        let leader = self.leader();
        if leader.is_none() {
            return Err(NotTaken::NotLeader { leader });
        }
        let too_early = self.is_leader() && !raft.commit_to_current_term();
        if too_early || raft.pending_read_count() >= READS_MAX {
            return Err(NotTaken::Busy);
        }
        let read = ReadContext {
            node: self.config.id,
            process: self.config.process,
            request,
        };
        if self.input(Input::Read(read)) {
            Ok(())
        } else {
            Err(NotTaken::Busy)
        }
    }

    /// Asks this member, if it leads, to hand over to `to`. Nothing happens if `to` isn't
    /// reachable within an election timeout.
    pub fn transfer(&mut self, to: u64) {
        if self.config.voters.contains(&to) && self.is_leader() {
            self.input(Input::Transfer(to));
        }
    }

    /// The next round of work, if there is any and no other is being made durable.
    pub fn ready(&mut self) -> Option<Work> {
        if self.in_flight.is_some() {
            return None;
        }
        // Alone: its entries come before a snapshot that the next round may hold.
        if let Some(released) = self.released.take() {
            return Some(released);
        }
        let mut work = Work {
            refused: mem::take(&mut self.refused),
            ..Work::default()
        };
        if let Some(checkpoint) = self.checkpoint.take() {
            work.persist.push(LogRecord::Snapshot(checkpoint));
        }
        let role = self.current_role();
        if role != self.role {
            self.role = role;
            work.role = Some(role);
        }
        if self.raw.has_ready() {
            self.drain_core(&mut work);
        }
        (work != Work::default()).then_some(work)
    }

    fn drain_core(&mut self, work: &mut Work) {
        let mut ready = self.raw.ready();
        if let Some(hs) = ready.hs().map(HardState::from_raft) {
            self.raw.mut_store().set_hard_state(hs);
        }
        let hard_state = HardState::from_raft(&self.raw.raft.hard_state());
        if ready.snapshot().is_empty() {
            // Before the entries: a term that is durable without its entries is harmless.
            if ready.hs().is_some() {
                work.persist.push(LogRecord::HardState(hard_state));
            }
        } else {
            let snapshot = Snapshot::from_raft(ready.snapshot().clone());
            work.snapshot = Some((snapshot.index, snapshot.data.clone()));
            self.raw.mut_store().install(snapshot.clone());
            work.persist.push(LogRecord::Snapshot(Checkpoint {
                hard_state,
                snapshot,
                tail: Vec::new(),
            }));
        }
        self.raw.mut_store().append(ready.entries());
        let entries = ready.entries().iter().cloned().map(Entry::from_raft);
        work.persist.extend(entries.map(LogRecord::Entry));
        let reads = ready.take_read_states().into_iter();
        work.reads = reads.filter_map(|r| self.own_read(r)).collect();
        self.hand_out(work, ready.take_messages(), ready.take_committed_entries());
        if ready.must_sync() {
            work.must_sync = true;
            self.in_flight = Some(ready);
        } else {
            self.finish(ready, work);
        }
    }

    /// What the last round asked to persist is durable. Messages that waited for it come with
    /// the next round; inputs that waited are taken.
    pub fn synced(&mut self) {
        let Some(ready) = self.in_flight.take() else {
            return;
        };
        let mut released = Work::default();
        self.finish(ready, &mut released);
        if released != Work::default() {
            self.released = Some(released);
        }
        self.inbox_bytes = 0;
        for input in mem::take(&mut self.inbox) {
            self.step(input);
        }
    }

    fn finish(&mut self, mut ready: Ready, work: &mut Work) {
        let waited = ready.take_persisted_messages();
        self.hand_out(work, waited, Vec::new());
        let mut light = self.raw.advance(ready);
        self.hand_out(work, light.take_messages(), light.take_committed_entries());
        self.raw.advance_apply();
        // If it gets lost, the follower's next refusal tells, and it is sent again.
        for to in mem::take(&mut self.snapshots_sent) {
            self.raw.report_snapshot(to, SnapshotStatus::Finish);
        }
        self.set_election_timeout();
    }

    fn hand_out(
        &mut self,
        work: &mut Work,
        messages: Vec<eraftpb::Message>,
        committed: Vec<eraftpb::Entry>,
    ) {
        for m in messages {
            if m.get_msg_type() == MessageType::MsgSnapshot {
                self.snapshots_sent.push(m.to);
            }
            let message = Message::from_raft(m);
            let muted = self.muted;
            work.send
                .extend(message.map(|(to, m)| (to, if muted { m.muted() } else { m })));
        }
        work.committed
            .extend(committed.into_iter().map(|e| Committed {
                index: e.index,
                term: e.term,
                data: e.data,
            }));
    }

    /// The state machine's bytes as of `upto`, which it has applied, take the place of the
    /// entries up to there; if `upto` is where the last ones stood, those are kept. The next round
    /// persists them, with all that the group still needs: once that is durable, the log may
    /// forget this group's earlier records. Returns false, and changes nothing, if `upto` is below
    /// the last or not applied, the bytes are too many, or a round is under way.
    pub fn compact(&mut self, upto: u64, snapshot: Bytes) -> bool {
        let applied = self.raw.raft.raft_log.applied;
        // While a round is in flight the core's log is split between it and us.
        if upto > applied || self.in_flight.is_some() || snapshot.len() > SNAPSHOT_BYTES_MAX {
            return false;
        }
        match self.raw.mut_store().compact(upto, snapshot) {
            Some(checkpoint) => {
                self.checkpoint = Some(checkpoint);
                true
            }
            None => false,
        }
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<u64> {
        let leader = self.raw.raft.leader_id;
        (leader != raft::INVALID_ID).then_some(leader)
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// How many ticks, at least, a member of any majority had heard no leader for when this one
    /// was elected in its present term; 0 if a leader handed over to it.
    pub fn quiet_before_election(&self) -> u32 {
        if self.forced_term == self.term() {
            0
        } else {
            // The first of them may have come at once.
            self.quiet_min() - 1
        }
    }

    /// A member votes only when it was without a leader for so many ticks, unless a leader asks
    /// for it: so a leader that a majority has just heard is not followed by another at once.
    /// The core sees to it too, but forgets it with a restart and with some messages.
    pub(super) fn quiet_min(&self) -> u32 {
        (self.config.election_ticks * 9 / 10).max(1)
    }

    /// This member's term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Up to where this member knows entries to be committed.
    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The last entry that a snapshot covers, and the last that there is.
    pub fn log_range(&self) -> (u64, u64) {
        let log = &self.raw.raft.raft_log;
        (self.raw.store().snapshot_ref().index, log.last_index())
    }

    fn current_role(&self) -> Role {
        Role {
            term: self.term(),
            leader: self.leader(),
            leading: self.is_leader(),
        }
    }

    fn own_read(&self, read: raft::ReadState) -> Option<ReadState> {
        let context = ReadContext::from_bytes(&read.request_ctx)?;
        let own = context.node == self.config.id && context.process == self.config.process;
        own.then_some(ReadState {
            request: context.request,
            index: read.index,
        })
    }

    fn refuse(&mut self, from: u64, refused: Refused) {
        if self.refused.len() < REFUSED_MAX {
            self.refused.push((from, refused));
        }
    }

    /// Takes an input now, or keeps it while a round is in flight. False: there is no room.
    fn input(&mut self, input: Input) -> bool {
        if self.in_flight.is_none() {
            return self.step(input);
        }
        let bytes = input.bytes();
        if self.inbox.len() >= INBOX_MAX || self.inbox_bytes + bytes > INBOX_BYTES_MAX {
            return false;
        }
        self.inbox_bytes += bytes;
        self.inbox.push_back(input);
        true
    }

    fn step(&mut self, input: Input) -> bool {
        let taken = match input {
            Input::Tick => {
                self.quiet_ticks = self.quiet_ticks.saturating_add(1);
                // They keep no leader in office either.
                for muted in &self.muted_others {
                    if let Some(progress) = self.raw.raft.mut_prs().get_mut(*muted) {
                        progress.recent_active = false;
                    }
                }
                if !self.muted {
                    self.raw.tick();
                }
                true
            }
            Input::Message(_, message) if self.is_too_early(&message) => true,
            Input::Message(from, message) if self.is_out_of_turn(from, &message) => true,
            Input::Message(from, message) => {
                self.note_leader(&message);
                match contradiction(&self.raw, &message) {
                    Some(refused) => self.refuse(from, refused),
                    // The core's errors here say that it ignored the message, as it may.
                    None => {
                        let lacks = self.note_learned(from, &message);
                        let _ignored = self.raw.step(message.into_raft(from, self.config.id));
                        if lacks && self.is_leader() {
                            self.raw.raft.send_append(from);
                        }
                    }
                }
                true
            }
            // Led when it was proposed, but maybe not now: a follower would pass it on.
            Input::Propose(data) if self.is_leader() => {
                let mut m = eraftpb::Message {
                    from: self.config.id,
                    ..Default::default()
                };
                m.set_msg_type(MessageType::MsgPropose);
                let entry = eraftpb::Entry {
                    data,
                    ..Default::default()
                };
                m.set_entries(vec![entry].into());
                self.raw.raft.step(m).is_ok()
            }
            Input::Propose(_) => false,
            Input::Read(read) => {
                self.raw.read_index(read.to_bytes().to_vec());
                true
            }
            Input::Transfer(to) => {
                if self.is_leader() {
                    self.raw.transfer_leader(to);
                }
                true
            }
        };
        if self.is_leader() {
            self.quiet_ticks = 0;
        }
        self.set_election_timeout();
        taken
    }

    /// Whether somebody wants a vote, or a campaign, of a member that has heard a leader lately
    /// or may not give one.
    fn is_too_early(&self, message: &Message) -> bool {
        let muted = matches!(message.body, Body::Vote { .. } | Body::TimeoutNow) && self.muted;
        muted
            || matches!(message.body, Body::Vote { forced: false, .. })
                && self.quiet_ticks < self.quiet_min()
    }

    /// Whether a pre-vote is asked for by a member that comes in turn after one known to be
    /// there: this one, if it could be elected itself, or another that has asked. Else two of
    /// them are soon in the middle of each other's election, each with its own vote. The first
    /// may still be unable to win: once all had their turns, anybody may.
    fn is_out_of_turn(&mut self, from: u64, message: &Message) -> bool {
        let Body::Vote {
            pre: true,
            forced: false,
            last_index,
            last_term,
            ..
        } = message.body
        else {
            return false;
        };
        if self.quiet_ticks > self.config.silence_max() {
            return false;
        }
        let log = &self.raw.raft.raft_log;
        let own = (log.last_term(), log.last_index());
        if (last_term, last_index) < own {
            return false; // The core refuses it.
        }
        let place = self.config.place(message.term, from);
        let others = self.first_asked.filter(|(term, _)| *term == message.term);
        let first = others.map_or(place, |(_, other)| other.min(place));
        self.first_asked = Some((message.term, first));
        let could_win = own == (last_term, last_index);
        first < place || could_win && self.config.place(message.term, self.config.id) < place
    }

    /// A muted member tells its leader what to send next. It may have forgotten a later term
    /// that it voted for, and what was agreed there: this leader must not agree on anything, or
    /// serve a read, by its help. Whether there is more to send.
    fn note_learned(&mut self, from: u64, message: &Message) -> bool {
        if let Body::AppendResponse { rejected: None, .. } = message.body {
            self.muted_others.remove(&from);
        }
        let Body::Learned { index, commit } = message.body else {
            return false;
        };
        self.muted_others.insert(from);
        let log = &self.raw.raft.raft_log;
        let (last, committed) = (log.last_index(), log.committed);
        if message.term == self.term()
            && self.is_leader()
            && index <= last
            && let Some(progress) = self.raw.raft.mut_prs().get_mut(from)
        {
            progress.matched = 0;
            progress.become_probe();
            progress.next_idx = index + 1;
            return index < last || commit < committed;
        }
        false
    }

    fn note_leader(&mut self, message: &Message) {
        match message.body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_)
                if message.term >= self.term() =>
            {
                self.quiet_ticks = 0;
            }
            // The core campaigns at once, in the next term.
            Body::TimeoutNow if message.term == self.term() => {
                self.forced_term = self.term() + 1;
            }
            _ => {}
        }
    }

    /// The core draws the timeout at random whenever it resets; put ours in its place: the
    /// members take turns. Drawn by each for itself two are soon so close that each has its own
    /// vote before it hears of the other; across oceans that was one election in five, and a
    /// second or two each time.
    fn set_election_timeout(&mut self) {
        let place = self.config.place(self.term() + 1, self.config.id);
        let ticks = self.config.silence(place);
        self.raw
            .raft
            .set_randomized_election_timeout(ticks as usize);
    }
}

impl GroupConfig {
    /// How many members campaign before `member` to lead in `term`: the term shuffles them.
    fn place(&self, term: u64, member: u64) -> u32 {
        let key = |voter: u64| (mix(mix(self.group ^ mix(term)) ^ mix(voter)), voter);
        let before = self.voters.iter().filter(|v| key(**v) < key(member));
        before.count() as u32
    }

    /// Ticks of silence after which it is the turn of the member at `place`. When the first one's
    /// request arrives nobody is loyal any more, though their clocks tick apart: whoever heard
    /// the leader's last heartbeat later is as much farther away.
    fn silence(&self, place: u32) -> u32 {
        self.election_ticks + 1 + place * self.turn_ticks
    }

    /// The longest of all.
    fn silence_max(&self) -> u32 {
        self.silence(self.voters.len() as u32)
    }
}

/// SplitMix64: each bit of the result depends on each bit of `n`.
pub(super) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// What would trip the core's assertions, and no honest peer can say to a member that
/// kept what it had made durable.
pub(super) fn contradiction<S: Storage>(raw: &RawNode<S>, message: &Message) -> Option<Refused> {
    let raft = &raw.raft;
    let (log, leads) = (&raft.raft_log, raft.state == StateRole::Leader);
    let last_index = log.last_index();
    let contradicts = |what| Some(Refused::Contradiction { what });
    match &message.body {
        _ if message.term != 0 && message.term < raft.term => None,
        Body::Heartbeat { commit, .. } if *commit > last_index => {
            contradicts("the leader counts on entries that are not here")
        }
        Body::AppendResponse {
            index,
            rejected: None,
            ..
        } if leads && message.term == raft.term && *index > last_index => {
            contradicts("a follower has entries that its leader never sent")
        }
        // The request waits here until all before it is durable.
        Body::VoteResponse { pre: false, .. }
            if raft.state == StateRole::Candidate && log.persisted != last_index =>
        {
            contradicts("a vote came that was not asked for yet")
        }
        // A follower would pass it on under its own name; the reader asks again.
        Body::ReadIndex(_) if !leads || raft.pending_read_count() >= READS_MAX => {
            Some(Refused::Busy)
        }
        _ => None,
    }
}
