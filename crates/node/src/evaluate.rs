//! Evaluating a command at this node's replica, if that may.

use crate::{
    carried::Arrived,
    node::Node,
    replies::LARGE,
    request::{ReadFrom, Target},
    tip::{Committed, Staging, at_tip},
    watched::Watched,
};
use bytes::BytesMut;
use commands::{Context, Family, Fanout, Spec, View, Work, transaction, work::Seen};
use model::{
    EntryKind, Epoch, Mutation, Position, ShardId, Stamp,
    entry::WRITE_BYTES_MAX,
    mutation::KeyKind,
    planted::{self, Bug},
};
use replication::{
    session::{Satisfied, satisfied},
    strategy::{Refused, Role},
};
use resp::{Encoder, Version};
use storage::{
    log::Lacking,
    store::{FIELD_BYTES_MAX, KEY_BYTES_MAX, Stores},
};

/// What came of evaluating a command here. A reply is in the node's scratch buffer.
pub(crate) enum Evaluated {
    /// It may go out; it shows this position.
    Ready(Position),
    /// It may go out once this position is in the store.
    Wait { position: Position, wrote: bool },
    /// Not yet: this replica lacks what the session has seen.
    ReadLater,
    /// Not here, or not now; nothing was appended.
    NotNow,
    /// Refused for good, nothing was appended; the error is in the scratch buffer.
    Refused,
    /// What the session has seen was thrown away.
    Lost,
}

impl<S: Stores> Node<S> {
    /// Evaluates at this node's replica, if that may.
    pub(crate) fn evaluate(
        &mut self,
        id: ShardId,
        spec: &Spec,
        args: &[&[u8]],
        asking: Asking<'_>,
    ) -> Evaluated {
        let Asking {
            seen,
            version,
            read_from,
            target,
        } = asking;
        let reply_room = self.reply_room(target);
        let lacking = self.lacking();
        let held = self.is_held(id);
        let leased = self.lease.holds(self.now.monotonic);
        let random = self.draw();
        self.scratch.clear();
        self.mutation.clear();
        let Some(shard) = self.shards.get_mut(&id) else {
            return Evaluated::NotNow;
        };
        let Some(strategy) = &mut shard.strategy else {
            return Evaluated::NotNow;
        };
        if !self.standing.is_sound() {
            return Evaluated::NotNow;
        }
        let state = strategy.state(self.now);
        let primary = state.role == Role::Primary && leased;
        // What is not in memory could only be waited for.
        let elsewhere =
            spec.is_write() || read_from != ReadFrom::Any || self.disk_watch.is_stalled();
        if !primary && (elsewhere || state.role != Role::Replica) {
            return Evaluated::NotNow;
        }
        if let Some(line) = too_long(spec, args) {
            return self.refuse(version, line);
        }
        let applied = shard.store.applied().position;
        let mut cx = Context {
            now_ms: state.time_ms,
            random,
            keyspace: shard.keyspace.map_or(0, |keyspace| keyspace.0),
            version,
        };
        if !primary && planted::is(Bug::ExpireOnReplicaClock) {
            cx.now_ms = self.now.wall_ms;
        }
        let asked = Asked {
            spec,
            args,
            cx,
            work: Work::new(self.config.limits.command_work_max),
            first: strategy.next_stamp(self.now),
        };
        let mut tip = spec.is_write();
        let sees = satisfied(seen, strategy.history(), applied.index);
        if spec.is_write() {
            // Its answer would show the loss, and move the session past it, without a word.
            if sees == Satisfied::Lost {
                return Evaluated::Lost;
            }
        } else {
            if !primary && state.fresh_at.is_none() {
                return Evaluated::NotNow;
            }
            let behind = read_from == ReadFrom::PrimaryTip;
            match sees {
                Satisfied::Lost => return Evaluated::Lost,
                Satisfied::Yes if !behind => {}
                Satisfied::NotYet if !primary => return Evaluated::ReadLater,
                // Behind its own writes in flight: read now, before later ones of the same
                // connection come. The reply waits for what it shows.
                _ => tip = true,
            }
        }
        if !tip {
            let view = Committed(&shard.store);
            let evaluated = asked.of(&view, None, &mut self.mutation, &mut self.scratch);
            self.worked += asked.work.done();
            let seen = asked.work.take_seen();
            if let Err(line) = evaluated {
                return self.refuse(version, &line);
            }
            if let Some(line) = (self.replies).refusal(spec.name, self.scratch.len(), reply_room) {
                return self.refuse(version, &line);
            }
            if self.mutation.is_empty() {
                self.stats.seen(seen);
                if primary {
                    self.lease.answer();
                }
                self.replies.held(self.scratch.len());
                return Evaluated::Ready(applied);
            }
            // It met a key whose time is over: that is committed before it is answered. A
            // replica can't, and a later primary with a clock behind would show the key again.
            if !primary {
                // What lists keys leaves it out, and says nothing of it.
                let lists = matches!(
                    spec.fanout,
                    Fanout::Scan | Fanout::EveryShardArray | Fanout::EveryShardAny
                );
                if lists || planted::is(Bug::ExpireOnReplicaClock) {
                    self.stats.seen(Seen { expired: 0, ..seen });
                    return Evaluated::Ready(applied);
                }
                return Evaluated::NotNow;
            }
            self.scratch.clear();
            self.mutation.clear();
        }
        // All but a read at the tip writes: what it was sent for, or an expiry.
        let writes = spec.is_write() || !tip;
        if writes && let Some(lacking) = lacking {
            let line = match lacking {
                Lacking::Space => {
                    "MISCONF the disk of this shard's primary is full: writes are refused until there is room; free space or add it"
                }
                Lacking::Descriptors => {
                    "MISCONF this shard's primary has no file descriptors left for its log: writes are refused until it has; raise its limit of open files (ulimit -n)"
                }
            };
            return self.refuse(version, line);
        }
        if writes && let Some(error) = &shard.upkeep_error {
            let line = format!("MISCONF writes are refused: {error}");
            return self.refuse(version, &line);
        }
        let room = self
            .config
            .log
            .pending_bytes_max
            .saturating_sub(LOG_HEADROOM);
        let no_room = self.log.pending_bytes() >= room;
        if writes
            && (held || no_room || shard.pressure.stop || self.now.monotonic < shard.not_before)
        {
            return Evaluated::NotNow;
        }
        if transaction::is_watch(spec) {
            let view = at_tip(&shard.tip, &shard.store);
            for key in &args[1..] {
                let header = view.header(key);
                let there =
                    header.map_or(true, |h| h.is_some_and(|h| h.kind != KeyKind::Tombstone));
                shard.watched.add(key, state.tip.index, there);
            }
        }
        let view = at_tip(&shard.tip, &shard.store);
        let watched = Some((&shard.watched, state.epoch));
        let before = asked.work.done();
        let evaluated = asked.of(&view, watched, &mut self.mutation, &mut self.scratch);
        self.worked += asked.work.done() - before;
        let seen = asked.work.take_seen();
        if let Err(line) = evaluated {
            return self.refuse(version, &line);
        }
        // Before anything is appended: what could not be answered is not done.
        if let Some(line) = (self.replies).refusal(spec.name, self.scratch.len(), reply_room) {
            return self.refuse(version, &line);
        }
        self.replies.held(self.scratch.len());
        if self.mutation.is_empty() {
            self.stats.seen(seen);
            // It was computed from the tip: it waits for the tip.
            return if state.tip.index <= applied.index {
                self.lease.answer();
                Evaluated::Ready(applied)
            } else {
                Evaluated::Wait {
                    position: state.tip,
                    wrote: false,
                }
            };
        }
        let bytes = self.mutation.bytes().len();
        let most = room.min(WRITE_BYTES_MAX);
        if bytes > most {
            let name = spec.name;
            let line = format!(
                "ERR '{name}' would write {bytes} bytes, and one command may write at most {most}: write less at a time"
            );
            return self.refuse(version, &line);
        }
        if self.log.pending_bytes() + bytes > room {
            return Evaluated::NotNow; // The disk is about to make some.
        }
        let (ops, payload) = (self.mutation.ops(), self.mutation.bytes());
        let entry = match strategy.propose(EntryKind::Mutation, ops, payload, self.now) {
            Ok(entry) => entry,
            // Replicas are about to acknowledge what was proposed before.
            Err(Refused::NotPrimary { .. } | Refused::Busy { .. }) => return Evaluated::NotNow,
        };
        self.stats.seen(seen);
        self.dirty.insert(id);
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

    /// A number for what a command leaves to chance: not repeated, nor meant to be secret.
    pub(crate) fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(1);
        self.config.first_number().rotate_left(17) ^ self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn refuse(&mut self, version: Version, line: &str) -> Evaluated {
        if self.scratch.capacity() > LARGE {
            self.scratch = BytesMut::new();
        }
        self.scratch.clear();
        Encoder::new(version, &mut self.scratch).error(line);
        Evaluated::Refused
    }
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// What the session has seen of the shard.
    pub(crate) seen: Position,
    pub(crate) version: Version,
    pub(crate) read_from: ReadFrom,
    /// Where the reply goes, if that is not a client of this node that waits for nothing else.
    pub(crate) target: Option<&'a Target>,
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
pub(crate) fn too_long(spec: &Spec, args: &[&[u8]]) -> Option<&'static str> {
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

/// Room that is left in the log's buffer for what must not be refused: barriers, what a
/// primary sends us, the control group.
const LOG_HEADROOM: usize = 16 << 20;
