//! The contract between a topology and the node that hosts it: one value of a type that
//! implements [`Protocol`] for each replica on the node.
//!
//! ```text
//!  catalog ── assign ─────▶ ┌───────────┐ ── Append, Truncate ─▶ shared log
//!  failover ─ order ──────▶ │           │ ── Wish ─────────────▶ catalog
//!  commands ─ propose ────▶ │           │ ── Commit ───────────▶ store, waiting replies
//!  peers ──── receive ────▶ │ Protocol  │ ── Send ─────────────▶ peers
//!  log ────── durable ────▶ │           │ ── Fetch ────────────▶ log  ─ fetched ─▶
//!             noted ──────▶ │           │ ── Note ─────────────▶ log
//!  store ──── applied ────▶ │           │ ── NeedsCopy ────────▶ copy ─ installed ▶
//!  clock ──── tick ───────▶ └───────────┘ ── NeedsRewind ──────▶ rewind ─ order ───▶
//! ```
//!
//! # Rules for the host
//! - After any call, [`Protocol::poll`] until it returns None. Outputs are carried out in the
//!   order in which they come.
//! - `tick` is called when the moment has come that `wake_at` named last, and need not be called
//!   otherwise: a replica that names none costs nothing.
//! - `durable(i)` is called when entry i *and all before it* are on this node's disk by the
//!   node's sync policy, and never for an entry that a later `Truncate` took back.
//! - The host keeps the newest note beside the entries, under the same sync. `noted(n)` is called
//!   when note n and all that was asked for before it are on this node's disk.
//! - After a crash the host makes a new value from what the log and the store still hold
//!   ([`Recovered`]); nothing else survives.
//!
//! # What every topology keeps
//! 1. `Commit { upto }` is given only for entries that the acknowledgement rule in force holds
//!    for, that are durable here, and, at a replica, that its primary has committed.
//! 2. What was committed anywhere is never truncated anywhere (within what the rule covers;
//!    what it doesn't cover is taken back by `NeedsRewind` alone, never by `Truncate`).
//! 3. No process proposes in an epoch that another process proposed in.
//! 4. A message of an older epoch changes nothing. Once sealed for an epoch, also after a
//!    restart, a replica takes in and acknowledges nothing of the epochs before it.
//! 5. Messages may be lost, repeated and reordered without harm; within a bounded time after
//!    the links are whole again, all replicas hold the same.

use crate::session::Satisfied;
use bytes::Bytes;
use model::{
    AckRule, DiskId, Entry, EntryKind, Epoch, EpochHistory, NodeId, Now, OnTimeout, Parts,
    Position, Region, ShardId, Stamp, catalog::Replica,
};
use std::time::Duration;

/// What the catalog says of one shard, as far as a replica must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The shard.
    pub shard: ShardId,
    /// Every replica, this one included; with who is to take another's place.
    pub members: Vec<Replica>,
    /// What was decided of it by the rules of its own topology.
    pub office: Office,
}

/// What is decided of a shard for one topology alone. A protocol that is given another one's stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Office {
    /// See [`crate::primary_replica`].
    PrimaryReplica(Primacy),
    /// See [`crate::consensus::replica`].
    Consensus(Election),
}

/// What of a group of voters is decided by the catalog. Who leads it the voters decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Election {
    /// Where the leader is to stand, while a voter there can lead.
    pub preferred: Option<Region>,
    /// Whether the members are still those that the shard was made with: who of them finds nothing
    /// on its disk begins the group, and does not join it.
    pub founding: bool,
    /// On which disk each node is now that is to vote, in the place of whom it replaces. The group
    /// takes them in, and the others out, and [`Wish::Confirm`] says that it has.
    pub wanted: Vec<(NodeId, DiskId)>,
    /// Which wish that is: a greater one was made later. A group that has followed a later one does
    /// not go back, whoever leads it: who left by it may be gone for good.
    pub wish: (u64, u64),
}

/// Who is primary, and when what it takes is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primacy {
    /// The epoch in force.
    pub epoch: Epoch,
    /// Who takes writes in it.
    pub primary: NodeId,
    /// Whether *this process* took up the office in this epoch. False for an earlier process
    /// of the same node: that epoch is over.
    pub in_office: bool,
    /// When an entry is committed.
    pub ack: AckRule,
    /// What happens when that takes too long.
    pub on_timeout: OnTimeout,
    /// How long is too long.
    pub timeout: Duration,
    /// Whether the rule is suspended (`on_timeout = degrade`).
    pub degraded: bool,
    /// Up to where the primary's log is committed whatever the rule says: it was named though
    /// others may have had more.
    pub decreed: Option<Position>,
}

/// What another part of the node decided or did for one topology alone. A protocol that is given
/// another one's stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Another primary may be named in this epoch: from now on nothing of an older one is taken in
    /// or acknowledged, and nothing is proposed in it. The host makes that durable before it
    /// tells anybody how far this log goes.
    Seal(Epoch),
    /// Answers `NeedsRewind`: log and store end at `common` now, durably; but the keys that
    /// what was taken back had touched are in the store as of `until`, a position of the log of
    /// whom they were fetched from. It can't be read before it has applied as much.
    Rewound {
        /// The last entry that both have.
        common: Position,
        /// What must be applied before it is read.
        until: Position,
    },
    /// Answers `NeedsRewind`: nothing was changed, and nothing will be. Whom it was to be done
    /// with is no longer the one to ask; it is found out anew.
    RewindGivenUp,
    /// Of consensus: if this replica leads, the one on that node is to lead in its place, once it
    /// has all that there is.
    TransferTo(NodeId),
}

/// What only the catalog can do for a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Suspend the rule for this shard, or put it in force again.
    SetDegraded(bool),
    /// This node holds all that is committed on that disk (of consensus: it votes there, and whom it
    /// was to replace is out of the group): make it a member, in the place of whom it was to
    /// replace. Wished again until the catalog says so.
    Confirm {
        /// Who.
        node: NodeId,
        /// On which disk.
        disk: DiskId,
    },
}

/// What a replica's disk still holds when its node starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Where each epoch began, in log and store together.
    pub history: EpochHistory,
    /// The last entry.
    pub last: Position,
    /// The greatest stamp seen.
    pub stamp: Stamp,
    /// The lowest index whose entry is still in the log; `last.index + 1` if none is.
    pub first_index: u64,
    /// Up to where entries are known to be committed (noted in the log now and then).
    pub commit: u64,
    /// Up to where the store has applied them.
    pub applied: u64,
    /// The store is being filled by a copy, or must be: nothing is taken in before
    /// [`Protocol::installed`].
    pub filling: bool,
    /// The store holds some keys as of this position of its primary's log, and can't be read
    /// before it has applied as much.
    pub until: Option<Position>,
    /// The greatest epoch that it was sealed for.
    pub sealed: Epoch,
    /// The newest note, as it was given.
    pub note: Option<Bytes>,
    /// See [`Copied::members`], as of what the store has applied.
    pub members: Bytes,
    /// The last entry that the log held when the store was emptied, to be filled or because it was
    /// damaged: this replica may have acknowledged as much. Zero: it was not.
    pub owes: Position,
}

/// What a copied store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The last entry that it holds.
    pub at: Position,
    /// Where each epoch began, up to there.
    pub history: EpochHistory,
    /// The greatest stamp in it.
    pub stamp: Stamp,
    /// The payload of the last [`EntryKind::Members`] in it; empty: there was none.
    pub members: Bytes,
}

/// Why a proposal was not taken. It was not appended: it is safe to try elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another replica takes the writes.
    #[error("this replica of shard {shard} is not its primary")]
    NotPrimary {
        /// The shard.
        shard: ShardId,
    },
    /// Too many entries wait to be committed.
    #[error("shard {shard} has {bytes} bytes of writes waiting to be committed")]
    Busy {
        /// The shard.
        shard: ShardId,
        /// What waits.
        bytes: usize,
    },
}

/// What a topology asks of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Put this entry behind the last one of this shard in the log. `durable` answers.
    Append {
        /// The entry.
        entry: Entry,
        /// Whether somebody waits until it is durable here; else it may be gathered with
        /// others for some milliseconds.
        urgent: bool,
    },
    /// Forget every entry above this index, durably and before anything appended later.
    Truncate {
        /// The last index that stays.
        after: u64,
    },
    /// Keep this, in the place of the note before it. `noted` answers.
    Note {
        /// Counts from 1 in each process.
        number: u64,
        /// The topology's own encoding.
        bytes: Bytes,
    },
    /// Entries up to `upto` are committed: apply them, release what waits for them.
    Commit {
        /// The last committed index.
        upto: u64,
    },
    /// Give this to the replica on `to`. It may be lost.
    Send {
        /// Which node.
        to: NodeId,
        /// The topology's own encoding.
        message: Parts,
    },
    /// Read entries from the log for `to`; `fetched` answers.
    Fetch {
        /// For whom.
        to: NodeId,
        /// The first index wanted.
        from: u64,
        /// About how many bytes.
        bytes_max: usize,
    },
    /// The log of `from` no longer holds what this replica lacks: copy its store.
    /// `installed` answers. Nothing is taken in before that.
    NeedsCopy {
        /// Whom to copy from.
        from: NodeId,
        /// The last index at which both logs agree: what is above it here is lost.
        common: u64,
    },
    /// What is committed here above `common` is not part of the log of `from`, and never will
    /// be: take it back, out of log and store. `rewound` answers, or `rewind_given_up`, or,
    /// after a copy in its place, `installed`. Nothing is taken in before that.
    NeedsRewind {
        /// Whom to fetch the keys from as they are without it.
        from: NodeId,
        /// The last entry that both have.
        common: Position,
    },
    /// The replica on `node` has all that there is, which ends at `at` and is committed, and it is
    /// known there: it may rest. `rests` answers; until then it is said again now and then.
    MayRest {
        /// Who.
        node: NodeId,
        /// The last entry.
        at: Position,
    },
    /// What is committed when everything up to `index` is applied here is all that was committed
    /// when the reads of this ticket were asked.
    ReadReady {
        /// As [`Reading::Wait`] gave it.
        ticket: u64,
        /// What to have applied.
        index: u64,
    },
    /// The reads of this ticket will not be answered here: they are to be asked anew.
    ReadLost {
        /// As [`Reading::Wait`] gave it.
        ticket: u64,
    },
    /// Ask the catalog for this.
    Wish(Wish),
    /// This replica takes no writes any more: the outcome of everything proposed above `commit` is
    /// unknown.
    Lost {
        /// The last index whose outcome is known.
        commit: u64,
    },
    /// A rule was broken that must never be (two entries at one position). The shard stops
    /// here, and says so.
    Stop {
        /// What was seen.
        reason: String,
    },
}

/// How one replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes the writes, and its barrier is committed.
    Primary,
    /// It is to take the writes; its barrier is not committed yet.
    Starting,
    /// It follows.
    Replica,
    /// It is being filled, or is no member on this disk yet: it can't be read, and doesn't
    /// count.
    Learner,
}

/// What is known of another member, as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// Who.
    pub node: NodeId,
    /// Up to where it is known to hold this log durably.
    pub matched: u64,
    /// When it was heard of last.
    pub heard_at: Option<Duration>,
    /// Whether it rests, and need not be heard of.
    pub rests: bool,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its role.
    pub role: Role,
    /// The epoch in force.
    pub epoch: Epoch,
    /// The last entry of its log.
    pub tip: Position,
    /// The last committed index it knows of.
    pub commit: u64,
    /// Shard time, in ms since 1970: what expiry is judged by. At a primary its node's time; at a
    /// replica the primary's when it said how far its log went, once that is applied here.
    pub time_ms: u64,
    /// The moment, by this node's monotonic clock, as of which it has everything. For a
    /// primary: now. None before the first sign of its primary.
    pub fresh_at: Option<Duration>,
    /// Whether what it does as primary holds only while its node's lease runs.
    pub by_lease: bool,
}

/// Whether what is committed here is all that was committed anywhere when this was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is, as far as the replica's own office goes (and its node's lease, see
    /// [`State::by_lease`]).
    Now,
    /// Once [`Output::ReadReady`] says so of this ticket.
    Wait(u64),
    /// Nobody here can tell.
    Elsewhere,
}

/// One replica of one shard, under some topology.
pub trait Protocol {
    /// The catalog changed, or was read for the first time.
    fn assign(&mut self, assignment: Assignment, now: Now);

    /// What another part of the node decided or did for this topology.
    fn order(&mut self, order: Order, now: Now);

    /// Appends an entry with the next index and stamp. `ops` is how many stamps it takes.
    fn propose(
        &mut self,
        kind: EntryKind,
        ops: u16,
        payload: &[u8],
        now: Now,
    ) -> Result<Entry, Refused>;

    /// A message of the replica on `from`. Nonsense is dropped.
    fn receive(&mut self, from: &NodeId, message: Bytes, now: Now);

    /// Everything up to `index` is on this disk.
    fn durable(&mut self, index: u64, now: Now);

    /// The note of this number, or a later one, is on this disk, with all that was asked for before.
    fn noted(&mut self, number: u64, now: Now);

    /// Everything up to `index` is in the store and can be read.
    fn applied(&mut self, index: u64, now: Now);

    /// Answers `Fetch`: entries from `from` on (as many as fit), or none if the log does not hold
    /// them.
    fn fetched(&mut self, to: &NodeId, from: u64, entries: Option<Vec<Entry>>, now: Now);

    /// Answers `NeedsCopy`: the store is this copy now, and the log of this shard is empty.
    fn installed(&mut self, copied: Copied, now: Now);

    /// Answers `MayRest`: the replica on `peer` rests at `at`, and says nothing any more while that
    /// is all that there is; nor need it be told anything. The host vouches for it
    /// ([`crate::rest`]).
    fn rests(&mut self, peer: &NodeId, at: Position);

    /// The replica on `peer` rests no more.
    fn roused(&mut self, peer: &NodeId);

    /// Whether this replica, whose primary is on `peer`, may rest at `at`: that is its last entry,
    /// and it has all up to there as that primary has it, on disk and in the store.
    fn may_rest(&self, peer: &NodeId, at: Position) -> bool;

    /// While this replica rested it was vouched for that it had everything as of `fresh_at`, by its
    /// own clock, when shard time was `time_ms`.
    fn vouched(&mut self, fresh_at: Duration, time_ms: u64);

    /// Every member is known to hold the log durably up to here: nobody will ever ask for an
    /// entry at or below it, and no rewind goes below it. None: not known yet.
    fn floor(&self) -> Option<u64>;

    /// The log no longer holds entries below `first_index`.
    fn released(&mut self, first_index: u64);

    /// The link to `peer` was made anew, or broke: what was under way may be lost. Nothing need be
    /// sent there before it is made again.
    fn link_changed(&mut self, peer: &NodeId, up: bool, now: Now);

    /// A moment that `wake_at` named has come.
    fn tick(&mut self, now: Now);

    /// Whether nobody else may be primary now, so that what this one sends says how fresh it is; else
    /// another may have committed more. At first nobody is.
    fn vouch(&mut self, may: bool);

    /// The next thing to do.
    fn poll(&mut self, now: Now) -> Option<Output>;

    /// When `tick` is wanted (monotonic), after all that was polled was carried out: it names
    /// whatever this replica will do by itself, and without it time means nothing to it. In the
    /// past: at once.
    fn wake_at(&self) -> Option<Duration>;

    /// How this replica stands.
    fn state(&self, now: Now) -> State;

    /// Whether a read here, now, sees all that was committed before it.
    fn read(&mut self, now: Now) -> Reading;

    /// Whether what can be read here has all that a session has seen, which is up to `seen`.
    fn has(&self, seen: Position) -> Satisfied;

    /// Who takes the writes, as far as this replica knows: an observation, which moves without the
    /// catalog where the topology elects.
    fn leader(&self) -> Option<&NodeId>;

    /// The epochs of its log.
    fn history(&self) -> &EpochHistory;

    /// The other members, if this is the primary.
    fn members(&self) -> Vec<MemberState>;

    /// The stamp of the first op of an entry that is proposed next, at this same `now`.
    fn next_stamp(&self, now: Now) -> Stamp;
}

/// Why a shard stops whose protocol is given what is another topology's (an office, an order).
pub(crate) fn not_ours(shard: ShardId, topology: &str, what: &str) -> String {
    format!("shard {shard} is one of {topology}, and was given another topology's {what}")
}

/// Who a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its node.
    pub node: NodeId,
    /// Where that stands.
    pub region: Region,
    /// Its shard.
    pub shard: ShardId,
    /// The disk that it is on.
    pub disk: DiskId,
    /// A random number of the process that it lives in: a disk that was emptied numbers its
    /// processes anew.
    pub boot: u64,
}
