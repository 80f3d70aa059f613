//! Evaluating a command at this node's replica, if that may.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{
    admission::{Admission, Expired, Here, Over, Question, admit, met_expired},
    carried::Arrived,
    reply_room::{LARGE, ReplyRoom},
    room::Shards,
    shard::Shard,
    tip::{Committed, Staging, at_tip},
    watched::Watched,
};
use bytes::BytesMut;
use commands::{Context, Family, Fanout, Spec, View, Work, transaction, work::Seen};
use model::{
    EntryKind, Epoch, Mutation, Position, ShardId, Stamp,
    entry::WRITE_BYTES_MAX,
    limits::{FIELD_BYTES_MAX, KEY_BYTES_MAX},
    mutation::KeyKind,
    planted::{self, Bug},
};
use replication::protocol::{Reading, Refused, State};
use resp::{Encoder, Version};
use std::borrow::Cow;
use storage::{log::Lacking, store::Stores};

/// What came of evaluating a command here. A reply is in [`Shards::reply`].
pub enum Evaluated {
    /// It may go out; it shows this position.
    Ready(Position),
    /// It may go out once this position is in the store.
    Wait { position: Position, wrote: bool },
    /// Not yet: this replica lacks what the session has seen.
    ReadLater,
    /// Not yet: whether this replica has all that is committed anywhere is found out in a round of
    /// this ticket (see `Output::Round`).
    ReadWhen(u64),
    /// Not here, or not now; nothing was appended.
    NotNow,
    /// Refused for good, nothing was appended; the error is the reply.
    Refused,
    /// What the session has seen was thrown away.
    Lost,
}

impl<S: Stores, T> Shards<S, T> {
    /// Evaluates at this node's replica, if that may.
    pub fn evaluate(
        &mut self,
        id: ShardId,
        spec: &Spec,
        args: &[&[u8]],
        asking: &Asking,
    ) -> Evaluated {
        self.evaluation.clear();
        let Some(shard) = self.all.get(&id) else {
            return Evaluated::NotNow;
        };
        let Some(protocol) = &shard.protocol else {
            return Evaluated::NotNow;
        };
        let state = (self.pulses).vouch(shard.rest.as_ref(), protocol.state(self.now));
        let applied = shard.store.applied().position;
        let here = Here {
            role: state.role,
            is_leased: self.is_leased() || !state.by_lease,
            is_fresh: state.fresh_at.is_some(),
            is_stalled: self.log.is_stalled(),
            is_sound: self.terms.is_sound,
        };
        let question = Question {
            is_write: spec.is_write(),
            read_from: asking.read_from,
            sees: protocol.has(asking.seen),
        };
        let over = match admit(question, here) {
            Admission::Over(over) => over,
            Admission::Later => return Evaluated::ReadLater,
            Admission::Elsewhere => return Evaluated::NotNow,
            Admission::Lost => return Evaluated::Lost,
        };
        let version = asking.version;
        if let Some(line) = too_long(spec, args) {
            return self.evaluation.refuse(version, line);
        }
        if over == Over::Committed && !state.by_lease {
            match asking.round {
                Some(index) if index <= applied.index => {}
                Some(_) => return Evaluated::ReadLater,
                None => return self.ask_round(id),
            }
        }
        let wrong_clock = !here.is_primary() && planted::is(Bug::ExpireOnReplicaClock);
        let cx = Context {
            now_ms: match wrong_clock {
                true => self.now.wall_ms,
                false => state.time_ms,
            },
            random: asking.random,
            keyspace: shard.keyspace.map_or(0, |keyspace| keyspace.0),
            version,
        };
        let asked = Asked {
            spec,
            args,
            cx,
            work: Work::new(self.config.limits.command_work_max),
            first: protocol.next_stamp(self.now),
            reply_room: asking.reply_room,
        };
        if over == Over::Tip {
            return self.evaluate_at_tip(id, &asked, &state, spec.is_write());
        }
        let view = Committed(&shard.store);
        let seen = match self.evaluation.run(&asked, &view, None) {
            Ok(seen) => seen,
            Err(line) => return self.evaluation.refuse(version, &line),
        };
        if self.evaluation.mutation.is_empty() {
            self.evaluation.saw(seen);
            if here.is_primary() && state.by_lease {
                self.out.answer();
            }
            self.evaluation.holds_reply();
            return Evaluated::Ready(applied);
        }
        let lists = matches!(
            spec.fanout,
            Fanout::Scan | Fanout::EveryShardArray | Fanout::EveryShardAny
        );
        match met_expired(here.is_primary(), lists || wrong_clock) {
            Expired::Delete => {
                self.evaluation.clear();
                self.evaluate_at_tip(id, &asked, &state, true)
            }
            Expired::LeaveOut => {
                self.evaluation.saw(Seen { expired: 0, ..seen });
                Evaluated::Ready(applied)
            }
            Expired::Elsewhere => Evaluated::NotNow,
        }
    }

    /// Evaluates at a primary over what is committed and in flight, and appends what it writes.
    /// `writes`: it was sent to, or has to delete what has expired.
    fn evaluate_at_tip(
        &mut self,
        id: ShardId,
        asked: &Asked<'_>,
        state: &State,
        writes: bool,
    ) -> Evaluated {
        let Asked { spec, args, .. } = *asked;
        let version = asked.cx.version;
        if writes && let Some(shard) = self.all.get(&id) {
            if let Some(line) = self.lacks(shard) {
                return self.evaluation.refuse(version, &line);
            }
            if !self.has_room(shard) {
                return Evaluated::NotNow;
            }
        }
        let Some(shard) = self.all.get_mut(&id) else {
            return Evaluated::NotNow;
        };
        let view = at_tip(&shard.tip, &shard.store);
        if transaction::is_watch(spec) {
            for key in &args[1..] {
                let header = view.header(key);
                let there =
                    header.map_or(true, |h| h.is_some_and(|h| h.kind != KeyKind::Tombstone));
                shard.watched.add(key, state.tip.index, there);
            }
        }
        let watched = Some((&shard.watched, state.epoch));
        let seen = match self.evaluation.run(asked, &view, watched) {
            Ok(seen) => seen,
            Err(line) => return self.evaluation.refuse(version, &line),
        };
        self.evaluation.holds_reply();
        if self.evaluation.mutation.is_empty() {
            self.evaluation.saw(seen);
            // It was computed from the tip: it waits for the tip.
            let applied = shard.store.applied().position;
            return if state.tip.index <= applied.index {
                if !state.by_lease {
                    return self.append_barrier(id);
                }
                self.out.answer();
                Evaluated::Ready(applied)
            } else {
                Evaluated::Wait {
                    position: state.tip,
                    wrote: false,
                }
            };
        }
        self.append_mutation(id, asked, seen)
    }

    /// Begins a round, or joins the one that begins with this turn's end, for a read of what is
    /// committed.
    fn ask_round(&mut self, id: ShardId) -> Evaluated {
        let protocol = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut());
        let reading = protocol.map_or(Reading::Elsewhere, |protocol| protocol.read(self.now));
        self.unsettled.add(id);
        match reading {
            Reading::Wait(ticket) => Evaluated::ReadWhen(ticket),
            // No lease makes it so, and no other way is known here.
            Reading::Now | Reading::Elsewhere => Evaluated::NotNow,
        }
    }

    /// Appends an entry that changes nothing: what an elected primary answers from a tip that is all
    /// committed it may answer once this is, since it still was primary then.
    fn append_barrier(&mut self, id: ShardId) -> Evaluated {
        let Some(shard) = self.all.get_mut(&id) else {
            return Evaluated::NotNow;
        };
        let Some(protocol) = &mut shard.protocol else {
            return Evaluated::NotNow;
        };
        let Ok(entry) = protocol.propose(EntryKind::Barrier, 0, &[], self.now) else {
            return Evaluated::NotNow;
        };
        self.unsettled.add(id);
        if let Err(error) = shard.purged(&entry) {
            self.stop_shard(id, error.to_string());
            return Evaluated::NotNow;
        }
        Evaluated::Wait {
            position: entry.position,
            wrote: false,
        }
    }

    /// Appends what a command has made of the tip.
    fn append_mutation(&mut self, id: ShardId, asked: &Asked<'_>, seen: Seen) -> Evaluated {
        let spec = asked.spec;
        let bytes = self.evaluation.mutation.bytes().len();
        let most = self.log.room_of_clients().min(WRITE_BYTES_MAX);
        if bytes > most {
            let name = spec.name;
            let line = format!(
                "ERR '{name}' would write {bytes} bytes, and one command may write at most {most}: write less at a time"
            );
            return self.evaluation.refuse(asked.cx.version, &line);
        }
        if !self.log.has_room_for(bytes) {
            return Evaluated::NotNow; // The disk is about to make some.
        }
        let Some(shard) = self.all.get_mut(&id) else {
            return Evaluated::NotNow;
        };
        let Some(protocol) = &mut shard.protocol else {
            return Evaluated::NotNow;
        };
        let mutation = &self.evaluation.mutation;
        let (ops, payload) = (mutation.ops(), mutation.bytes());
        let entry = match protocol.propose(EntryKind::Mutation, ops, payload, self.now) {
            Ok(entry) => entry,
            // Replicas are about to acknowledge what was proposed before.
            Err(Refused::NotPrimary { .. } | Refused::Busy { .. }) => return Evaluated::NotNow,
        };
        self.evaluation.saw(seen);
        self.unsettled.add(id);
        // Tombstones within a transaction carry the stamps that were expected.
        if transaction::is_exec(spec) && entry.stamp != asked.first {
            let line = format!("entry {} has another stamp than expected", entry.position);
            self.stop_shard(id, line);
            return Evaluated::NotNow;
        }
        if let Err(error) = shard.proposed(&entry) {
            self.stop_shard(id, error.to_string());
            return Evaluated::NotNow;
        }
        Evaluated::Wait {
            position: entry.position,
            wrote: true,
        }
    }

    /// Why this node takes no writes of a shard before somebody sees to it.
    fn lacks(&self, shard: &Shard<S::Rows, T>) -> Option<Cow<'static, str>> {
        match self.lacking() {
            Some(Lacking::Space) => {
                return Some("MISCONF the disk of this shard's primary is full: writes are refused until there is room; free space or add it".into());
            }
            Some(Lacking::Descriptors) => {
                return Some("MISCONF this shard's primary has no file descriptors left for its log: writes are refused until it has; raise its limit of open files (ulimit -n)".into());
            }
            None => {}
        }
        let error = shard.upkeep_error.as_ref()?;
        Some(format!("MISCONF writes are refused: {error}").into())
    }

    /// Whether a write can be taken now: the log and the store have room, and the shard is not
    /// about to be handed over.
    fn has_room(&self, shard: &Shard<S::Rows, T>) -> bool {
        self.log.has_room_for(1)
            && !shard.pressure.stop
            && self.now.monotonic >= shard.not_before
            && !self.terms.held.contains(&shard.id)
    }
}

/// Which replica may answer a read. It is set anew at each try: nothing that a session chose may
/// stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// Whichever has what the session has seen.
    Any,
    /// Only the primary: others were tried in vain.
    Primary,
    /// Only the primary, as of all that came to it before: writes of the same connection are
    /// on their way there, and nobody knows their positions yet.
    PrimaryTip,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Asking {
    /// What the session has seen of the shard.
    pub seen: Position,
    pub version: Version,
    pub read_from: ReadFrom,
    /// What a round that was asked for has said: what to have applied.
    pub round: Option<u64>,
    /// A number for what the command leaves to chance.
    pub random: u64,
    pub reply_room: ReplyRoom,
}

/// What evaluating has done that others count.
#[derive(Debug, Default)]
pub struct Did {
    pub seen: Seen,
    /// Bytes of replies that are held from now on.
    pub reply_bytes: usize,
}

/// What evaluating makes, in memory that one command after the other uses, and what it has cost.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// The reply to the command that was evaluated last …
    reply: BytesMut,
    /// … and what that writes.
    mutation: Mutation,
    /// What was done that nobody has counted yet.
    did: Did,
    /// Work that was done in this turn, by whomever.
    worked: u64,
}

impl Evaluation {
    fn clear(&mut self) {
        self.reply.clear();
        self.mutation.clear();
    }

    /// Evaluates over a view; `watched`: what is watched there, and the epoch, at a primary. An
    /// error is a line for the client. So is a reply for which there is no room: that is judged
    /// before anything is appended, and what could not be answered is not done.
    fn run<V: View>(
        &mut self,
        asked: &Asked<'_>,
        view: &V,
        watched: Option<(&Watched, Epoch)>,
    ) -> Result<Seen, String> {
        let before = asked.work.done();
        let evaluated = asked.of(view, watched, &mut self.mutation, &mut self.reply);
        self.worked += asked.work.done() - before;
        let seen = asked.work.take_seen();
        evaluated?;
        let refusal = (asked.reply_room).refusal(asked.spec.name, self.reply.len());
        refusal.map_or(Ok(seen), Err)
    }

    /// The reply of the command is that it is refused.
    fn refuse(&mut self, version: Version, line: &str) -> Evaluated {
        if self.reply.capacity() > LARGE {
            self.reply = BytesMut::new();
        }
        self.reply.clear();
        Encoder::new(version, &mut self.reply).error(line);
        Evaluated::Refused
    }

    /// The command has taken effect.
    fn saw(&mut self, seen: Seen) {
        let all = &mut self.did.seen;
        all.hits += seen.hits;
        all.misses += seen.misses;
        all.expired += seen.expired;
    }

    /// Its reply is held until somebody takes it.
    fn holds_reply(&mut self) {
        self.did.reply_bytes += self.reply.len();
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// What evaluating has done since this was asked last.
    pub fn take_did(&mut self) -> Did {
        std::mem::take(&mut self.evaluation.did)
    }

    /// The reply that evaluating has made last.
    pub fn reply(&mut self) -> &mut BytesMut {
        &mut self.evaluation.reply
    }

    /// So much work was done in this turn, by whomever.
    pub fn work(&mut self, more: u64) {
        self.evaluation.worked += more;
    }

    /// How much was done in this turn.
    pub fn worked(&self) -> u64 {
        self.evaluation.worked
    }

    /// Another turn begins.
    pub fn turn_ends(&mut self) {
        self.evaluation.worked = 0;
    }
}

/// What is to be evaluated.
struct Asked<'a> {
    spec: &'a Spec,
    args: &'a [&'a [u8]],
    cx: Context,
    /// What it may cost.
    work: Work,
    /// The stamp of what it will append, if it does.
    first: Stamp,
    /// How much of replies may be held besides.
    reply_room: ReplyRoom,
}

impl Asked<'_> {
    /// Evaluates it over a view; `watched`: what is watched there, and the epoch, at a primary.
    /// An error is a line for the client, and nothing is to be kept.
    fn of<V: View>(
        &self,
        view: &V,
        watched: Option<(&Watched, Epoch)>,
        mutation: &mut Mutation,
        reply: &mut BytesMut,
    ) -> Result<(), String> {
        let Asked {
            spec,
            args,
            cx,
            work,
            first,
            ..
        } = self;
        if !transaction::is_exec(spec) {
            let evaluated = commands::evaluate(spec, args, view, cx, work, mutation, reply);
            return evaluated.map_err(|e| e.to_string());
        }
        let Some(arrived) = Arrived::read(args) else {
            return Err("ERR a transaction came damaged, or from another version of Quire".into());
        };
        for (key, at) in &arrived.watches {
            let same = watched.is_some_and(|(watched, epoch)| {
                at.epoch == epoch && watched.is_unchanged_since(key, at.index)
            });
            let header = view.header(key).map_err(|e| e.to_string())?;
            if !same || header.is_some_and(|h| h.is_expired(cx.now_ms)) {
                Encoder::new(cx.version, reply).null_array();
                return Ok(());
            }
        }
        let mut staging = Staging::new(view, *first);
        transaction::run(&arrived.commands, &mut staging, cx, work, mutation, reply)
            .map_err(|e| e.to_string())
    }
}

/// Keys and fields have a bound of their own, which Redis has not: the store's.
pub fn too_long(spec: &Spec, args: &[&[u8]]) -> Option<&'static str> {
    if spec.keys(args).any(|key| key.len() > KEY_BYTES_MAX) {
        return Some("ERR a key is longer than 32000 bytes");
    }
    let fields = spec.family == Family::Hash && spec.is_write();
    if fields
        && args
            .iter()
            .skip(2)
            .step_by(2)
            .any(|f| f.len() > FIELD_BYTES_MAX)
    {
        return Some("ERR a field is longer than 32000 bytes");
    }
    None
}
