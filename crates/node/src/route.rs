//! Where a command goes, and evaluating it here.
//!
//! A write goes to the shard's primary. A read is answered by the replica on this node if it
//! has all that the session has seen; else after a short wait, or by another replica. A
//! command that can't go anywhere for the moment waits in `stalled`, for at most
//! [`STALL_MAX`]; then the client is told that it was not taken.

use crate::{
    node::Node,
    request::{ReadFrom, Request, Target, borrow, own},
    shard::{Waiting, WaitingFor},
    tip::{AtTip, Committed},
};
use bytes::Bytes;
use commands::{Context, Family, Fanout, Spec};
use model::{
    EntryKind, KeyspaceId, NodeId, OnTimeout, Position, ShardId,
    planted::{self, Bug},
    slot,
};
use replication::{
    session::{Satisfied, satisfied},
    strategy::{Refused, Role},
};
use resp::{Encoder, Version};
use std::{collections::BTreeSet, time::Duration};
use storage::store::{FIELD_BYTES_MAX, KEY_BYTES_MAX, Stores};

/// How long a command waits for somewhere to go before it is refused.
pub(crate) const STALL_MAX: Duration = Duration::from_millis(850);
/// How long a read waits here for what its session has seen before it goes elsewhere.
const READ_WAIT_MAX: Duration = Duration::from_millis(100);
/// Why a write is given up that a primary without a lease has taken.
const LAPSED: &str =
    "this node can't reach most of the control group's voters, and another may be primary by now";
/// Commands that may wait for somewhere to go.
const STALLED_MAX: usize = 100_000;

/// How a command goes that must not overtake reads of its connection.
enum Way {
    /// Behind them, over the same link, to a replica of this shard.
    Along(NodeId, ShardId),
    /// Only once they were answered.
    Wait,
    /// As if they were not there.
    Any,
}

/// What came of evaluating a command here. A reply is in the node's scratch buffer.
pub(crate) enum Evaluated {
    /// It may go out; it shows this position.
    Ready(Position),
    /// It may go out once this position is in the store.
    Wait { position: Position, wrote: bool },
    /// The command is to be evaluated once this index is in the store.
    ReadAt(u64),
    /// Not here, or not now; nothing was appended.
    NotNow,
    /// Refused for good, nothing was appended; the error is in the scratch buffer.
    Refused,
    /// What the session has seen was thrown away.
    Lost,
}

impl<S: Stores> Node<S> {
    /// A command of a client, behind those it sent before.
    pub(crate) fn command(&mut self, conn: u64, args: &[&[u8]]) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.closing {
            return;
        }
        if session.must_wait() || !session.backlog.is_empty() {
            session.backlog.push_back((self.now.monotonic, own(args)));
            return;
        }
        self.dispatch(conn, args, self.now.monotonic);
    }

    /// What waited behind a command goes on.
    pub(crate) fn resume(&mut self, conn: u64) {
        while let Some(session) = self.sessions.get_mut(&conn)
            && !session.must_wait()
            && let Some((since, args)) = session.backlog.pop_front()
        {
            // It may have to wait again: then it stays first in line.
            let behind = std::mem::take(&mut session.backlog);
            self.dispatch(conn, &borrow(&args), since);
            if let Some(session) = self.sessions.get_mut(&conn) {
                let again = !session.backlog.is_empty();
                session.backlog.extend(behind);
                if again {
                    break;
                }
            }
        }
        self.say_last_words(conn);
        self.announce(conn);
    }

    /// What wasn't RESP is answered behind all that came before it.
    pub(crate) fn say_last_words(&mut self, conn: u64) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && !session.must_wait()
            && session.backlog.is_empty()
            && let Some(line) = session.last_words.take()
        {
            let slot = session.reserve();
            self.reply_error(&Target::Client { conn, slot }, &line);
        }
    }

    /// Evaluates or sends a command that came at `since`, or puts it first in line again.
    fn dispatch(&mut self, conn: u64, args: &[&[u8]], since: Duration) {
        if args.is_empty() {
            return;
        }
        self.commands_processed += 1;
        let spec = match commands::find(args) {
            Ok(spec) => spec,
            Err(line) => return self.answer_error(conn, &line),
        };
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.last_command = spec.name;
        session.commands += 1;
        if spec.fanout == Fanout::Node {
            return self.node_command(conn, spec, args);
        }
        let keyspace = session.keyspace;
        let must_follow = session.must_follow(spec);
        let shard = self.only_shard(keyspace, spec, args);
        if must_follow && let Ok(shard) = shard {
            match self.way_behind_reads(conn, spec, shard) {
                Way::Along(node, shard) => {
                    return self.send_along(conn, spec, args, keyspace, shard, &node, since);
                }
                Way::Wait => {
                    if let Some(session) = self.sessions.get_mut(&conn) {
                        session.backlog.push_front((since, own(args)));
                    }
                    return;
                }
                Way::Any => {}
            }
        }
        match shard {
            Ok(Some(shard)) => self.run(conn, spec, args, keyspace, shard, since),
            Ok(None) => self.split(conn, spec, args, keyspace),
            Err(line) => self.answer_error(conn, &line),
        }
    }

    /// How a command goes that comes behind reads of its connection that are away, or wait here.
    fn way_behind_reads(&self, conn: u64, spec: &Spec, shard: Option<ShardId>) -> Way {
        let session = self.sessions.get(&conn);
        let Some((session, shard)) = session.zip(shard) else {
            return Way::Wait;
        };
        let (Some((there, node)), 0) = (&session.reads_to, session.reads_waiting) else {
            return Way::Wait;
        };
        if *there != shard {
            return Way::Any; // What they show is of another shard.
        }
        // Links keep the order. A replica never goes back; a primary answers a read as soon as
        // it comes, and what comes behind it after that.
        let primary = self.catalog.shards.get(&shard).map(|s| &s.primary);
        let in_order = !spec.is_write() || primary == Some(node);
        if in_order && self.peers.is_up(node, self.now.monotonic) {
            Way::Along(node.clone(), shard)
        } else {
            Way::Wait
        }
    }

    /// Sends a command to where the reads before it went.
    #[allow(clippy::too_many_arguments)] // what a request is made of
    fn send_along(
        &mut self,
        conn: u64,
        spec: &'static Spec,
        args: &[&[u8]],
        keyspace: KeyspaceId,
        shard: ShardId,
        node: &NodeId,
        since: Duration,
    ) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let slot = session.reserve();
        let request = Request {
            target: Target::Client { conn, slot },
            spec,
            args: own(args),
            keyspace,
            shard,
            seen: session.seen.get(shard),
            version: session.version,
            since,
            read_from: ReadFrom::Any,
        };
        self.forward(request, node);
    }

    /// The shard that all of a command's keys are in; None if there are several and the
    /// command may be split.
    fn only_shard(
        &self,
        keyspace: KeyspaceId,
        spec: &Spec,
        args: &[&[u8]],
    ) -> Result<Option<ShardId>, String> {
        if spec.fanout == Fanout::EveryKeyspaceOk {
            return Ok(None);
        }
        let facts = self
            .catalog
            .keyspaces
            .get(&keyspace)
            .ok_or_else(|| no_keyspace(keyspace))?;
        if let [only] = facts.shards[..] {
            if spec.fanout == Fanout::OneShard && !spec.is_evaluated() {
                return Err(format!("ERR '{}' can't be evaluated here", spec.name));
            }
            return Ok(Some(only));
        }
        match spec.fanout {
            Fanout::EveryShardSum
            | Fanout::EveryShardOk
            | Fanout::EveryShardArray
            | Fanout::EveryShardAny
            | Fanout::Scan => return Ok(None),
            _ => {}
        }
        let mut found = None;
        for key in spec.keys(args) {
            let shard = self.catalog.shard_of_slot(keyspace, slot::of(key));
            let shard = shard.ok_or_else(|| no_keyspace(keyspace))?;
            if found.is_some_and(|f| f != shard) {
                return match spec.fanout {
                    Fanout::OneShard => {
                        Err("CROSSSLOT Keys in request don't hash to the same shard".into())
                    }
                    _ => Ok(None),
                };
            }
            found = Some(shard);
        }
        Ok(found)
    }

    /// A client's command for one shard. The straight way: no copy of the arguments, and the
    /// reply goes right behind the last one, where nothing has to be waited for.
    fn run(
        &mut self,
        conn: u64,
        spec: &'static Spec,
        args: &[&[u8]],
        keyspace: KeyspaceId,
        shard: ShardId,
        since: Duration,
    ) {
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        let (seen, version) = (session.seen.get(shard), session.version);
        let read_from = session.read_from(spec);
        let evaluated = self.evaluate(shard, spec, args, seen, version, read_from);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        match evaluated {
            Evaluated::Ready(position) if session.is_in_turn() => {
                session.seen.advance(shard, position);
                session.out.extend_from_slice(&self.scratch);
                self.announce(conn);
            }
            Evaluated::Refused if session.is_in_turn() => {
                session.out.extend_from_slice(&self.scratch);
                self.announce(conn);
            }
            evaluated => {
                let slot = session.reserve();
                let target = Target::Client { conn, slot };
                if let Evaluated::NotNow | Evaluated::ReadAt(_) = evaluated {
                    let request = Request {
                        target,
                        spec,
                        args: own(args),
                        keyspace,
                        shard,
                        seen,
                        version,
                        since,
                        read_from,
                    };
                    self.not_now(request, evaluated);
                } else {
                    self.finish(target, shard, evaluated);
                }
            }
        }
    }

    /// A command that is on its own: evaluated here if it can be, else sent where it can.
    pub(crate) fn route(&mut self, request: Request) {
        let args = borrow(&request.args);
        let evaluated = self.evaluate(
            request.shard,
            request.spec,
            &args,
            request.seen,
            request.version,
            request.read_from,
        );
        drop(args);
        match evaluated {
            Evaluated::NotNow | Evaluated::ReadAt(_) => self.not_now(request, evaluated),
            evaluated => self.finish(request.target, request.shard, evaluated),
        }
    }

    fn not_now(&mut self, request: Request, evaluated: Evaluated) {
        match evaluated {
            Evaluated::ReadAt(index) => self.read_later(request, index),
            _ => self.elsewhere(request),
        }
    }

    /// Evaluates at this node's replica, if that may.
    pub(crate) fn evaluate(
        &mut self,
        id: ShardId,
        spec: &Spec,
        args: &[&[u8]],
        seen: Position,
        version: Version,
        read_from: ReadFrom,
    ) -> Evaluated {
        let full = self.disk_is_full();
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
        let state = strategy.state(self.now);
        let primary = state.role == Role::Primary && leased;
        let elsewhere = spec.is_write() || read_from != ReadFrom::Any;
        if !primary && (elsewhere || state.role != Role::Replica) {
            return Evaluated::NotNow;
        }
        if let Some(line) = too_long(spec, args) {
            return self.refuse(version, line);
        }
        let applied = shard.store.applied().position;
        let mut cx = Context {
            now_ms: state.closed.ms(),
            may_write: primary,
            random,
            keyspace: shard.keyspace.map_or(0, |keyspace| keyspace.0),
            version,
        };
        if primary {
            cx.now_ms = strategy.close(self.now).ms();
        } else if planted::is(Bug::ExpireOnReplicaClock) {
            cx.now_ms = self.now.wall_ms;
        }
        let mut at_tip = spec.is_write();
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
                Satisfied::NotYet if !primary => return Evaluated::ReadAt(seen.index),
                // Behind its own writes in flight: read now, before later ones of the same
                // connection come. The reply waits for what it shows.
                _ => at_tip = true,
            }
        }
        if !at_tip {
            let view = Committed(&shard.store);
            if let Err(error) = commands::evaluate(
                spec,
                args,
                &view,
                &cx,
                &mut self.mutation,
                &mut self.scratch,
            ) {
                return self.refuse(version, &error.to_string());
            }
            if self.mutation.is_empty() {
                if primary {
                    self.lease.answer();
                }
                return Evaluated::Ready(applied);
            }
            // It met a key whose time is over: that is committed before it is answered.
            self.scratch.clear();
            self.mutation.clear();
        }
        // All but a read at the tip writes: what it was sent for, or an expiry.
        let writes = spec.is_write() || !at_tip;
        if writes && full {
            let line = "MISCONF the disk of this shard's primary is full: writes are refused until there is room; free space or add it";
            return self.refuse(version, line);
        }
        if writes && let Some(error) = &shard.upkeep_error {
            let line = format!("MISCONF writes are refused: {error}");
            return self.refuse(version, &line);
        }
        if writes && (shard.pressure.stop || self.now.monotonic < shard.not_before) {
            return Evaluated::NotNow;
        }
        let view = AtTip {
            tip: &shard.tip,
            store: &shard.store,
        };
        if let Err(error) = commands::evaluate(
            spec,
            args,
            &view,
            &cx,
            &mut self.mutation,
            &mut self.scratch,
        ) {
            return self.refuse(version, &error.to_string());
        }
        if self.mutation.is_empty() {
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
        if self.log.pending_bytes() + self.mutation.bytes().len() + LOG_HEADROOM
            > self.config.log.pending_bytes_max
        {
            let line = "BUSY writes arrive faster than this node's disk takes them; this one was not taken, try again";
            return self.refuse(version, line);
        }
        let (ops, payload) = (self.mutation.ops(), self.mutation.bytes());
        let entry = match strategy.propose(EntryKind::Mutation, ops, payload, self.now) {
            Ok(entry) => entry,
            Err(Refused::NotPrimary { .. }) => return Evaluated::NotNow,
            Err(busy @ Refused::Busy { .. }) => {
                let line = format!("BUSY {busy}; this write was not taken, try again");
                return self.refuse(version, &line);
            }
        };
        self.dirty.insert(id);
        if let Err(error) = shard.tip.append(&entry, &shard.store) {
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
        self.scratch.clear();
        Encoder::new(version, &mut self.scratch).error(line);
        Evaluated::Refused
    }

    /// Sees to it that the reply in the scratch buffer goes out when it may.
    pub(crate) fn finish(&mut self, target: Target, id: ShardId, evaluated: Evaluated) {
        match evaluated {
            Evaluated::Ready(position) => {
                let reply = self.take_scratch();
                self.deliver(&target, id, position, reply);
            }
            Evaluated::Refused => {
                let reply = self.take_scratch();
                self.deliver(&target, id, Position::ZERO, reply);
            }
            Evaluated::Lost => self.deliver_lost(&target, id),
            Evaluated::Wait { position, wrote } => {
                // Later reads of the connection must not show less, though this is not committed.
                if let Some(conn) = self.client_of(&target)
                    && let Some(session) = self.sessions.get_mut(&conn)
                {
                    session.seen.advance(id, position);
                    if wrote {
                        session.last_write = Some((id, position));
                    }
                }
                let reply = self.take_scratch();
                let since = self.now.monotonic;
                if let Some(shard) = self.shards.get_mut(&id) {
                    shard.waiting.push_back(Waiting {
                        index: position.index,
                        since,
                        target,
                        wrote,
                        what: WaitingFor::Reply(reply, position),
                    });
                }
            }
            Evaluated::ReadAt(_) | Evaluated::NotNow => {
                self.reply_error(
                    &target,
                    "TRYAGAIN the command could not be placed; try again",
                );
            }
        }
    }

    fn take_scratch(&mut self) -> Bytes {
        if self.scratch.as_ref() == b"+OK\r\n" {
            return Bytes::from_static(b"+OK\r\n");
        }
        Bytes::copy_from_slice(&self.scratch)
    }

    /// A read waits for what its session has seen.
    fn read_later(&mut self, mut request: Request, index: u64) {
        let now = self.now.monotonic;
        if request.read_from == ReadFrom::PrimaryTip {
            // The tip of now is what it waits for.
            request.read_from = ReadFrom::Primary;
        }
        let Some(shard) = self.shards.get_mut(&request.shard) else {
            return self.elsewhere(request);
        };
        if shard.is_primary(self.now) && self.lease.holds(self.now.monotonic) {
            // Its own write, not committed yet: behind all that waits, to keep the order.
            let last = shard.waiting.back().map_or(0, |w| w.index);
            shard.waiting.push_back(Waiting {
                index: index.max(last),
                since: now,
                target: request.target.clone(),
                wrote: false,
                what: WaitingFor::Read(Box::new(request)),
            });
        } else {
            shard.readers.push((now + READ_WAIT_MAX, request.clone()));
            self.count_waiting(&request, 1);
        }
    }

    /// Keeps count of the reads of a session that wait here. Its client, if it has one.
    pub(crate) fn count_waiting(&mut self, request: &Request, by: i32) -> Option<u64> {
        let conn = self.client_of(&request.target)?;
        let session = self.sessions.get_mut(&conn)?;
        session.reads_waiting = session.reads_waiting.saturating_add_signed(by);
        Some(conn)
    }

    /// Sends a command to where it can be evaluated, or lets it wait until it can.
    fn elsewhere(&mut self, mut request: Request) {
        let Some(facts) = self.catalog.shards.get(&request.shard) else {
            return self.reply_error(&request.target, &no_keyspace(request.keyspace));
        };
        if let Target::Remote { .. } = request.target {
            // It has travelled once; whoever sent it looks again.
            return self.answer_not_here(&request.target);
        }
        let primary = facts.primary.clone();
        if primary != self.config.id && self.peers.is_up(&primary, self.now.monotonic) {
            if request.read_from == ReadFrom::Any {
                request.read_from = ReadFrom::Primary;
            }
            return self.forward(request, &primary);
        }
        // A read can go to any other replica that is there.
        if !request.spec.is_write() && request.read_from == ReadFrom::Any {
            let others = facts.replicas.iter().filter_map(|r| {
                let (late, lag) = self.readable_lag(&r.node, request.shard)?;
                Some((late, r.region != self.config.region, lag, &r.node))
            });
            if let Some((_, _, _, node)) = others.min() {
                let node = node.clone();
                return self.forward(request, &node);
            }
        }
        self.stall(request);
    }

    pub(crate) fn stall(&mut self, mut request: Request) {
        if self.stalled.len() >= STALLED_MAX {
            return self.refuse_stalled(&request);
        }
        request.read_from = ReadFrom::Any;
        if let Some(conn) = self.client_of(&request.target)
            && let Some(session) = self.sessions.get_mut(&conn)
        {
            session.stalled += 1;
        }
        self.stalled.push_back(request);
    }

    /// Tries every stalled command once more; what still can't go stalls again.
    pub(crate) fn retry_stalled(&mut self) {
        let mut conns = Vec::new();
        for _ in 0..self.stalled.len() {
            let Some(mut request) = self.stalled.pop_front() else {
                break;
            };
            if let Some(conn) = self.client_of(&request.target)
                && let Some(session) = self.sessions.get_mut(&conn)
            {
                session.stalled -= 1;
                conns.push(conn);
                // What was answered meanwhile, or is away still, came before it.
                request.seen = request.seen.max(session.seen.get(request.shard));
                request.read_from = session.read_from(request.spec);
            }
            if self.now.monotonic.saturating_sub(request.since) > STALL_MAX {
                self.refuse_stalled(&request);
            } else {
                self.route(request);
            }
        }
        for conn in conns {
            self.resume(conn);
        }
    }

    pub(crate) fn refuse_stalled(&mut self, request: &Request) {
        if self.may_act(request.shard) {
            let line = "BUSY the store of this node can't keep up with writes: this one was not taken, try again";
            return self.reply_error(&request.target, line);
        }
        let facts = self.catalog.shards.get(&request.shard);
        let primary = facts.map_or("?", |s| s.primary.as_str());
        let line = if request.spec.is_write() {
            format!(
                "NOPRIMARY shard {} has no primary that can be reached ({primary} is down, starting or cut off): the write was not taken",
                request.shard
            )
        } else {
            format!(
                "MASTERDOWN shard {} has no replica that can answer this session now (its primary is {primary}); try again",
                request.shard
            )
        };
        self.reply_error(&request.target, &line);
    }

    /// Whether this node's replica is primary, and nobody else may be by now.
    pub(crate) fn may_act(&self, id: ShardId) -> bool {
        let shard = self.shards.get(&id);
        shard.is_some_and(|s| s.is_primary(self.now)) && self.lease.holds(self.now.monotonic)
    }

    /// The store of a shard has moved on: replies and reads that waited for it go.
    pub(crate) fn release_waiting(&mut self, id: ShardId) {
        let leased = self.lease.holds(self.now.monotonic);
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let applied = shard.applied().index;
        // Without a lease, or no longer primary, another may have answered otherwise by now:
        // nothing is acknowledged. What waits goes out with the next lease, or as unknown.
        let ready = if leased && shard.is_primary(self.now) {
            shard.waiting.partition_point(|w| w.index <= applied)
        } else {
            0
        };
        let released: Vec<Waiting> = shard.waiting.drain(..ready).collect();
        if !released.is_empty() {
            self.lease.answer();
        }
        let readers = std::mem::take(&mut shard.readers);
        for waiting in released {
            match waiting.what {
                WaitingFor::Reply(reply, position) => {
                    self.deliver(&waiting.target, id, position, reply);
                }
                WaitingFor::Read(request) => self.route(*request),
            }
        }
        for (deadline, request) in readers {
            if request.seen.index <= applied {
                let conn = self.count_waiting(&request, -1);
                self.route(request);
                if let Some(conn) = conn {
                    self.resume(conn);
                }
            } else if let Some(shard) = self.shards.get_mut(&id) {
                shard.readers.push((deadline, request));
            }
        }
    }

    /// Reads and writes that waited long enough.
    pub(crate) fn waiting_tick(&mut self) {
        let now = self.now.monotonic;
        let lapsed = now.saturating_sub(self.lease.until()) > STALL_MAX;
        let mut late_reads = Vec::new();
        let mut late_replies = Vec::new();
        for (id, shard) in &mut self.shards {
            // Those of one client stay together: what one shows elsewhere, the next must too.
            let mut late = BTreeSet::new();
            for (deadline, request) in std::mem::take(&mut shard.readers) {
                let client = self.splits.client_of(&request.target);
                if deadline <= now || client.is_some_and(|c| late.contains(&c)) {
                    late.extend(client);
                    late_reads.push(request);
                } else {
                    shard.readers.push((deadline, request));
                }
            }
            // In doubt whether anybody else is primary by now; for how long, nobody knows.
            if shard.is_primary(self.now) && lapsed {
                late_replies.extend(shard.waiting.drain(..).map(|late| (*id, late, LAPSED)));
            }
            let strategy = shard
                .keyspace
                .and_then(|k| self.catalog.keyspaces.get(&k))
                .map(|k| &k.strategy);
            if let Some(strategy) = strategy
                && strategy.on_timeout == OnTimeout::Error
            {
                while shard
                    .waiting
                    .front()
                    .is_some_and(|w| now.saturating_sub(w.since) > strategy.timeout)
                    && let Some(late) = shard.waiting.pop_front()
                {
                    late_replies.push((*id, late, "its acknowledgement rule was not met in time"));
                }
            }
        }
        for mut request in late_reads {
            let conn = self.count_waiting(&request, -1);
            request.read_from = ReadFrom::Primary;
            self.elsewhere(request);
            if let Some(conn) = conn {
                self.resume(conn);
            }
        }
        for (id, late, why) in late_replies {
            self.give_up(id, &late, why);
        }
    }

    /// What waits to be committed is not waited for any longer. It promises nothing: the
    /// session goes on from what is committed, which holds all that was acknowledged to it,
    /// and from what it still waits for.
    pub(crate) fn give_up(&mut self, id: ShardId, waiting: &Waiting, why: &str) {
        if let Some(conn) = self.client_of(&waiting.target)
            && let Some(session) = self.sessions.get_mut(&conn)
            && let Some(shard) = self.shards.get(&id)
        {
            session.seen.forget(id);
            session.seen.advance(id, shard.applied());
            // What it sent later may still be acknowledged: reads must follow that.
            let of_client = |w: &&Waiting| self.splits.client_of(&w.target) == Some(conn);
            for later in shard.waiting.iter().filter(of_client) {
                if let WaitingFor::Reply(_, position) = &later.what {
                    session.seen.advance(id, *position);
                }
            }
        }
        if waiting.wrote {
            self.reply_unknown(&waiting.target, why);
        } else {
            let line = format!(
                "TRYAGAIN what this command would show depends on a write that is not committed ({why})"
            );
            self.reply_error(&waiting.target, &line);
        }
    }

    /// The disk is full: what waits for it is told so.
    pub(crate) fn give_up_all(&mut self, why: &str) {
        let mut late = Vec::new();
        for (id, shard) in &mut self.shards {
            late.extend(shard.waiting.drain(..).map(|waiting| (*id, waiting)));
        }
        for (id, waiting) in late {
            self.give_up(id, &waiting, why);
        }
    }
}

/// Keys and fields have a bound of their own, which Redis has not: the store's.
fn too_long(spec: &Spec, args: &[&[u8]]) -> Option<&'static str> {
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

pub(crate) fn no_keyspace(keyspace: KeyspaceId) -> String {
    format!(
        "NOKEYSPACE there is no keyspace {keyspace}: KEYSPACE LIST shows those there are, KEYSPACE CREATE makes one, SELECT chooses one"
    )
}
