//! Where a command goes.
//!
//! A write goes to the shard's primary. A read is answered by the replica on this node if it
//! has all that the session has seen; where there is none, by one of the same region. Else after a
//! short wait (`readers`), then by the primary, and by another replica only while the primary is away. A command that can't go anywhere for the moment
//! waits (`stalled`).

use crate::{
    client_command::is_http,
    host::Host,
    input::kept_bytes,
    order::{Kind, There, Way},
    request::{ReadFrom, Request, Round, Target, borrow, bytes_of, own},
    room::Gate,
    session::Session,
    stats::Ended,
};
use commands::{Fanout, NodeCommand, Spec, node_command::TransactionCommand, transaction};
use model::{Catalog, KeyspaceId, NodeId, Position, ShardId, catalog::Replica, slot};
use resp::Version;
use shards::{Asking, Evaluated};
use std::time::Duration;

/// A client's command for one shard, as it came.
pub(crate) struct Coming<'a> {
    pub(crate) conn: u64,
    pub(crate) spec: &'static Spec,
    pub(crate) args: &'a [&'a [u8]],
    pub(crate) keyspace: KeyspaceId,
    pub(crate) shard: ShardId,
    pub(crate) since: Duration,
}

impl Gate {
    /// A command of a client, behind those it sent before.
    pub fn command(&mut self, conn: u64, args: &[&[u8]], here: &mut impl Host) {
        self.stats.handed_over();
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.closing {
            return;
        }
        session.heard_at = self.now.monotonic;
        if session.held || !session.backlog.is_empty() {
            session.backlog.push_back(self.now.monotonic, own(args));
            return self.count_input(conn);
        }
        session.begin_command();
        self.dispatch(conn, args, self.now.monotonic, here);
    }

    /// What waited behind a command goes on.
    pub(crate) fn resume(&mut self, conn: u64, here: &mut impl Host) {
        while let Some(session) = self.sessions.get(&conn)
            && !session.held
            && !session.backlog.is_empty()
        {
            if self.is_worn(here) {
                self.defer_backlog(conn);
                break;
            }
            let Some(session) = self.sessions.get_mut(&conn) else {
                break;
            };
            let Some((since, args)) = session.backlog.pop_front() else {
                break;
            };
            // It may have to wait again: then it stays first in line.
            let behind = std::mem::take(&mut session.backlog);
            session.begin_command();
            self.dispatch(conn, &borrow(&args), since, here);
            if let Some(session) = self.sessions.get_mut(&conn) {
                if session.closing {
                    break;
                }
                let again = !session.backlog.is_empty();
                session.backlog.append(behind);
                if again {
                    break;
                }
            }
        }
        self.count_input(conn);
        self.say_last_words(conn, here);
        self.announce(conn);
    }

    /// What wasn't RESP is answered behind all that came before it.
    pub(crate) fn say_last_words(&mut self, conn: u64, here: &mut impl Host) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && !session.held
            && session.backlog.is_empty()
            && let Some(line) = session.last_words.take()
        {
            session.begin_command();
            let slot = session.reserve(0);
            self.reply_error(&Target::Client { conn, slot }, &line, here);
        }
    }

    /// Evaluates or sends a command that came at `since` and was begun, or puts it first in line
    /// again.
    pub(crate) fn dispatch(
        &mut self,
        conn: u64,
        args: &[&[u8]],
        since: Duration,
        here: &mut impl Host,
    ) {
        if args.is_empty() {
            return;
        }
        let spec = match commands::find(args) {
            Ok(spec) => spec,
            Err(line) => return self.refuse_unfound(conn, args, line),
        };
        if self.pause.is_some() && self.is_paused(conn, spec, args, since) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.last_command = Some(spec);
        if !std::mem::take(&mut session.is_begun) {
            session.commands += 1;
            self.stats.begun(spec);
            if !self.monitors.is_empty() {
                self.show_to_monitors(conn, spec, args);
            }
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.gathering.is_some() && !is_at_once(spec) {
            self.gather(conn, spec, args);
            return self.count_input(conn);
        }
        let keyspace = session.keyspace;
        match spec.fanout {
            Fanout::Node(command) => return self.node_command(conn, command, spec, args, here),
            Fanout::Transaction(command) => {
                self.transaction_command(conn, command, since, here);
                return self.count_input(conn);
            }
            Fanout::Across if self.cross(conn, spec, args, since, here) => return,
            _ => {}
        }
        let shard = match self.only_shard(keyspace, spec, args) {
            Ok(shard) => shard,
            Err(line) => return self.reject(conn, &line),
        };
        let placed = match shard {
            Some(shard) => self.place(
                &Coming {
                    conn,
                    spec,
                    args,
                    keyspace,
                    shard,
                    since,
                },
                here,
            ),
            None => self.place_split(conn, spec, args, keyspace, here),
        };
        if !placed && let Some(session) = self.sessions.get_mut(&conn) {
            session.is_begun = true;
            session.put_back(since, own(args));
            self.count_input(conn);
        }
    }

    /// What there isn't, or has too few or many arguments, is answered.
    #[cold]
    fn refuse_unfound(&mut self, conn: u64, args: &[&[u8]], line: String) {
        let called = commands::called(args).ok();
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.last_command = called;
        }
        if let Some(spec) = called {
            self.stats.begun(spec);
        }
        match is_http(args) {
            true => self.refuse_http(conn),
            false => self.refuse_transaction(conn, args, (self.config.usage)(args).unwrap_or(line)),
        }
    }

    /// Evaluates or sends a command, or puts it in line behind others of its shard; false if it
    /// must wait for these with all that comes behind it.
    pub(crate) fn place(&mut self, coming: &Coming<'_>, here: &mut impl Host) -> bool {
        let Some(session) = self.sessions.get(&coming.conn) else {
            return true;
        };
        let kind = kind_of(coming.spec);
        let way = match session.order.is_empty() {
            true => Way::Free,
            false => {
                let is_up = |node: &NodeId| here.is_up(node);
                let there = there(&self.catalog, coming.shard, &is_up);
                session.order.way(coming.shard, kind, there)
            }
        };
        match way {
            Way::Free if kind == Kind::Watch => self.watch(coming, here),
            Way::Free => self.run(coming, ReadFrom::Any, here),
            Way::AtTip => self.run(coming, ReadFrom::PrimaryTip, here),
            Way::Along(node) => {
                if let Some(request) = self.take_in(coming, ReadFrom::Any) {
                    self.forward(request, &node, here);
                }
            }
            Way::Wait if kind == Kind::Watch => return false,
            Way::Wait => {
                if let Some(request) = self.take_in(coming, ReadFrom::Any) {
                    self.stand_in_order(request);
                    self.count_input(coming.conn);
                }
            }
        }
        true
    }

    /// The same for a command that asks several shards.
    fn place_split(
        &mut self,
        conn: u64,
        spec: &'static Spec,
        args: &[&[u8]],
        keyspace: KeyspaceId,
        here: &mut impl Host,
    ) -> bool {
        let Some(session) = self.sessions.get(&conn) else {
            return true;
        };
        let is_up = |node: &NodeId| here.is_up(node);
        let there = |shard| there(&self.catalog, shard, &is_up);
        if !session.order.lets_all_go(kind_of(spec), there) {
            return false;
        }
        self.split(conn, spec, args, keyspace, here);
        true
    }

    /// A request waits in its place among those of its connection and shard; not if that is gone.
    pub(crate) fn stand_in_order(&mut self, request: Request) {
        if let Some(conn) = self.client_of(&request.target)
            && let Some(number) = self.splits.slot_of(&request.target)
            && let Some(session) = self.sessions.get_mut(&conn)
        {
            let bytes = kept_bytes(&request.args);
            (session.order).queue(request.shard, number, bytes, request);
        }
    }

    /// What waited for commands of its shard that are answered now goes, and what waited behind
    /// all of its connection's.
    pub(crate) fn continue_shard(&mut self, conn: u64, shard: ShardId, here: &mut impl Host) {
        while let Some(session) = self.sessions.get_mut(&conn) {
            let is_up = |node: &NodeId| here.is_up(node);
            let there = there(&self.catalog, shard, &is_up);
            let kind = |request: &Request| kind_of(request.spec);
            let Some((mut request, way)) = session.order.next(shard, kind, there) else {
                break;
            };
            // What was answered meanwhile came before it.
            request.seen = request.seen.max(session.seen.get(shard));
            request.read_from = match way {
                Way::AtTip => ReadFrom::PrimaryTip,
                _ => ReadFrom::Any,
            };
            match way {
                Way::Along(node) => self.forward(request, &node, here),
                _ => self.route(request, here),
            }
        }
        let waits = |s: &Session| !s.backlog.is_empty() || s.last_words.is_some();
        if self.sessions.get(&conn).is_some_and(waits) {
            self.resume(conn, here);
        } else {
            self.count_input(conn);
        }
    }

    /// A command that can't be answered at once: its place among the replies is reserved.
    pub(crate) fn take_in(&mut self, coming: &Coming<'_>, read_from: ReadFrom) -> Option<Request> {
        let conn = coming.conn;
        let session = self.sessions.get_mut(&conn)?;
        let slot = session.reserve(bytes_of(coming.args));
        Some(Request {
            target: Target::Client { conn, slot },
            spec: coming.spec,
            args: own(coming.args),
            keyspace: coming.keyspace,
            shard: coming.shard,
            seen: session.seen.get(coming.shard),
            version: session.version,
            since: coming.since,
            read_from,
            round: Round::None,
            went_near: false,
        })
    }

    /// The shard that all of a command's keys are in; None if there are several and the
    /// command may be split.
    pub(crate) fn only_shard(
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
    fn run(&mut self, coming: &Coming<'_>, read_from: ReadFrom, here: &mut impl Host) {
        let &Coming {
            conn,
            spec,
            args,
            shard,
            ..
        } = coming;
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        let (seen, version) = (session.seen.get(shard), session.version);
        let asks = (seen, version, read_from, Round::None);
        let evaluated = self.evaluate(shard, (spec, args), asks, None, here);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        match evaluated {
            Evaluated::Ready(position) if session.is_in_turn() => {
                session.seen.advance(shard, position);
                self.stats
                    .replied(here.reply(), Ended::Called, || Some(spec));
                session.take_out(here.reply());
                self.announce(conn);
            }
            Evaluated::Refused if session.is_in_turn() => {
                let command = session.last_command;
                self.stats.replied(here.reply(), Ended::Called, || command);
                if !session.muted {
                    session.out.extend_from_slice(here.reply());
                }
                self.announce(conn);
            }
            Evaluated::NotNow | Evaluated::ReadLater | Evaluated::ReadWhen(_) => {
                if let Some(request) = self.take_in(coming, read_from) {
                    self.not_now(request, evaluated, here);
                }
            }
            evaluated => {
                let slot = session.reserve(bytes_of(args));
                self.finish(Target::Client { conn, slot }, shard, evaluated, here);
            }
        }
    }

    /// Evaluates a command at this node's replica of a shard, if that may. Its reply goes to
    /// `target`, if that is not a client of this node that waits for nothing else.
    fn evaluate(
        &mut self,
        shard: ShardId,
        (spec, args): (&Spec, &[&[u8]]),
        (seen, version, read_from, round): (Position, Version, ReadFrom, Round),
        target: Option<&Target>,
        here: &mut impl Host,
    ) -> Evaluated {
        let asking = Asking {
            seen,
            version,
            read_from,
            round: match round {
                Round::Ended(index) => Some(index),
                Round::None | Round::Asked(_) => None,
            },
            random: self.draw(),
            reply_room: self.reply_room(target, here),
        };
        let evaluated = here.evaluate(shard, spec, args, &asking);
        let did = here.take_did();
        self.stats.seen(did.seen);
        self.replies.held(did.reply_bytes);
        evaluated
    }

    /// A command that is on its own: evaluated here if it can be, else sent where it can; in
    /// the next turn, if this one has had its work.
    pub(crate) fn route(&mut self, request: Request, here: &mut impl Host) {
        if self.must_defer(&request.target, here) {
            self.defer(request, here);
        } else {
            self.route_now(request, here);
        }
    }

    pub(crate) fn route_now(&mut self, request: Request, here: &mut impl Host) {
        let args = borrow(&request.args);
        let asks = (
            request.seen,
            request.version,
            request.read_from,
            request.round,
        );
        let command = (request.spec, &args[..]);
        let evaluated = self.evaluate(request.shard, command, asks, Some(&request.target), here);
        drop(args);
        match evaluated {
            Evaluated::NotNow | Evaluated::ReadLater | Evaluated::ReadWhen(_) => {
                self.not_now(request, evaluated, here);
            }
            evaluated => self.finish(request.target, request.shard, evaluated, here),
        }
    }

    fn not_now(&mut self, mut request: Request, evaluated: Evaluated, here: &mut impl Host) {
        match evaluated {
            Evaluated::ReadLater => self.read_later(request, here),
            Evaluated::ReadWhen(ticket) => {
                request.round = Round::Asked(ticket);
                self.read_later(request, here);
            }
            _ => self.elsewhere(request, here),
        }
    }

    /// Sends a command to where it can be evaluated, or lets it wait until it can.
    pub(crate) fn elsewhere(&mut self, mut request: Request, here: &mut impl Host) {
        let Some(facts) = self.catalog.shards.get(&request.shard) else {
            return self.reply_error(&request.target, &no_keyspace(request.keyspace), here);
        };
        if let Target::Remote { .. } = request.target {
            // It has travelled once; whoever sent it looks again.
            return self.answer_not_here(&request.target);
        }
        if let Some(near) = self.near(&request, here) {
            request.went_near = true;
            return self.forward(request, &near, here);
        }
        let primary = facts.primary.clone();
        if primary != self.config.id && here.is_up(&primary) {
            if request.read_from == ReadFrom::Any {
                request.read_from = ReadFrom::Primary;
            }
            return self.forward(request, &primary, here);
        }
        // A read can go to any other replica that is there.
        if !request.spec.is_write() && request.read_from == ReadFrom::Any {
            let others = facts.replicas.iter().filter_map(|r| {
                let (late, lag) = here.readable_lag(&r.node, request.shard)?;
                Some((late, r.region != self.config.region, lag, &r.node))
            });
            if let Some((_, _, _, node)) = others.min() {
                let node = node.clone();
                return self.forward(request, &node, here);
            }
        }
        self.stall(request, here);
    }
}

impl Gate {
    /// The replica in this region, as fresh as there is one, that a read may go to which no replica
    /// here can answer, where the primary is farther.
    fn near(&self, request: &Request, here: &impl Host) -> Option<NodeId> {
        let facts = self.catalog.shards.get(&request.shard)?;
        let may = !request.spec.is_write() && request.read_from == ReadFrom::Any;
        if !may || request.went_near || here.applied(request.shard).is_some() {
            return None;
        }
        let near = |r: &&Replica| r.region == self.config.region;
        let all = facts.replicas.iter().filter(near);
        if all.clone().any(|r| r.node == facts.primary) {
            return None;
        }
        let fresh = all.filter_map(|r| {
            let (late, lag) = here.readable_lag(&r.node, request.shard)?;
            (!late).then_some((lag, &r.node))
        });
        fresh.min().map(|(_, node)| node.clone())
    }
}

/// What is not gathered between `MULTI` and `EXEC`.
fn is_at_once(spec: &Spec) -> bool {
    use TransactionCommand::{Discard, Exec, Multi};
    matches!(
        spec.fanout,
        Fanout::Transaction(Multi | Exec | Discard)
            | Fanout::Node(NodeCommand::Reset | NodeCommand::Quit)
    )
}

/// What a command does, as far as its order matters.
pub(crate) fn kind_of(spec: &Spec) -> Kind {
    if transaction::is_watch(spec) {
        Kind::Watch
    } else if spec.is_write() {
        Kind::Write
    } else {
        Kind::Read
    }
}

fn there<'a>(
    catalog: &'a Catalog,
    shard: ShardId,
    is_up: &'a dyn Fn(&NodeId) -> bool,
) -> There<'a> {
    let facts = catalog.shards.get(&shard);
    There {
        primary: facts.map(|s| &s.primary),
        reads_by_rounds: facts.is_some_and(|s| catalog.is_elected(s)),
        is_up,
    }
}

/// There is no such keyspace.
pub fn no_keyspace(keyspace: KeyspaceId) -> String {
    format!(
        "NOKEYSPACE there is no keyspace {keyspace}: KEYSPACE LIST shows those there are, KEYSPACE CREATE makes one, SELECT chooses one"
    )
}
