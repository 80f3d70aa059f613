//! COPY and MOVE from one shard to another: of two keyspaces, or of one.
//!
//! Two shards have two logs, so there is no entry that is in both. The client's node does what a
//! careful client would do with WATCH, DUMP, RESTORE and DEL, and each of these goes the way of any
//! command: it is evaluated at its shard's primary, wherever that is, and stalls, is forwarded and
//! bounded as others are. Nothing of this is on a disk, nor in a message of its own.
//!
//! ```text
//!            source                 destination          answer
//! look       WATCH, DUMP            WATCH (MOVE)         not there: 0
//!   │  ▲
//!   ▼  │                            RESTORE              there already: 0    COPY: 1
//! put  │ nil: it was changed          │                  refused: nothing was done
//!   │  └───────────────┐              │
//!   ▼                  │              ▼
//! delete             EXEC: DEL, if it is as it was ────▶ 1
//!                      │ refused, or changed too often: a last look, then
//! take back            └──────────▶ EXEC: DEL, if it is as it was put
//! ```
//! What always holds:
//! - The destination is written first, in one entry, and only if nothing is there (but for COPY with
//!   REPLACE). The source is deleted, in one entry, once the destination has it by its keyspace's
//!   rule, and only if no entry has changed it since it was read: the table of
//!   what is watched at its primary (`shards/src/watched.rs`) says so, which knows nothing of what was before another primary was
//!   named, and doubts what it has forgotten. So no crash and no loss of an answer at any point
//!   leaves the key in neither place; and what a command wrote to the source after it was read is
//!   not lost, but read again and put in place of the first.
//! - The destination is deleted again only if nobody else has changed it since, and only once the
//!   source was seen there, or seen gone in the epoch in which it was read: then another command
//!   deleted it. If a failover of the source may have lost it, what the destination has is kept.
//! - Whoever reads both meanwhile may see the key in both.
//!
//! What may leave the key in both places, to be compared by whoever sent the command: this node is
//! lost before the source is deleted; or an answer that is lost on its way. Then the client is told
//! `UNKNOWN`, if anybody tells it anything. A key that others change without a pause may be found
//! changed [`LOOKS_MAX`](steps::LOOKS_MAX) times: then the copy is taken back, and the client told
//! to try again. What a failover loses by the rule of the keyspace that the key is in then (`async`)
//! is lost as any write that was acknowledged there.
//!
//! A connection has one at a time, in its order: it begins once what was sent before is answered
//! wherever that waits for other nodes, and what comes behind it waits. What all of them carry is
//! bounded by [`BYTES_MAX`]. Its client may go; it is done all the same.

mod steps;

use crate::{
    connection::{NOT_ASKED, UNKNOWN_NUMBER},
    host::Host,
    request::{ReadFrom, Request, Round, Target, bytes_of, own},
    room::Gate,
    route::no_keyspace,
};
use bytes::{Bytes, BytesMut};
use commands::{
    Refusal, Spec,
    destination::{Destination, database},
    numbers,
};
use model::{KeyspaceId, Position, ShardId};
use resp::{Encoder, Frame, FrameDecoder, FrameLimits, Version};
use shards::{carried, too_long};
use std::time::Duration;
use steps::{Ask, At, Next, Plan, Reply, Steps};

/// What commands of all clients carry at a time: values that were read and are not written yet.
/// One of any size is carried in any case.
const BYTES_MAX: usize = 64 << 20;
/// Commands that are under way at a time.
const CROSSINGS_MAX: usize = 10_000;

/// One command that is under way.
#[derive(Debug)]
pub(crate) struct Crossing {
    pub(crate) conn: u64,
    pub(crate) slot: u64,
    version: Version,
    source: (KeyspaceId, ShardId),
    destination: (KeyspaceId, ShardId),
    steps: Steps,
}

impl Crossing {
    /// Bytes of a value that was read and is not written yet.
    pub(crate) fn bytes(&self) -> usize {
        self.steps.carries()
    }
}

/// Why it is not known where a value goes.
enum Unfound {
    /// It is refused.
    Refused(String),
    /// No keyspace of this number, or of this name, is known here.
    Unknown { number: bool },
}

impl From<Refusal> for Unfound {
    fn from(refusal: Refusal) -> Self {
        Unfound::Refused(refusal.to_string())
    }
}

impl Gate {
    /// Where COPY or MOVE, sent to `keyspace`, puts a value.
    fn destination(
        &self,
        keyspace: KeyspaceId,
        spec: &Spec,
        args: &[&[u8]],
    ) -> Result<Destination<KeyspaceId>, Unfound> {
        let find = |wanted: &[u8]| {
            let number = numbers::parse(wanted).is_some();
            if number && database(wanted)? < 0 {
                return Err(Unfound::Refused(UNKNOWN_NUMBER.into()));
            }
            let found = self.keyspace_called(wanted);
            let is_there =
                |id: &KeyspaceId| *id == keyspace || self.catalog.keyspaces.contains_key(id);
            found.filter(is_there).ok_or(Unfound::Unknown { number })
        };
        match spec.name {
            "move" => Destination::of_move(args, find),
            _ => Destination::of_copy(args, find),
        }
    }

    /// Whether COPY or MOVE, sent to `keyspace`, is refused in a transaction.
    pub(crate) fn leaves_shard(&self, keyspace: KeyspaceId, spec: &Spec, args: &[&[u8]]) -> bool {
        let shard = |key: &[u8]| self.catalog.shard_of_key(keyspace, key);
        match self.destination(keyspace, spec, args) {
            Ok(destination) => {
                let there = destination.keyspace.is_some_and(|there| there != keyspace);
                let mut shards = spec.keys(args).map(shard);
                let first = shards.next();
                there || shards.any(|shard| Some(shard) != first)
            }
            Err(Unfound::Unknown { number }) => number,
            // The shard refuses it as well.
            Err(Unfound::Refused(_)) => false,
        }
    }

    /// Begins COPY or MOVE, or answers it. False if one shard can do it.
    pub(crate) fn cross(
        &mut self,
        conn: u64,
        spec: &'static Spec,
        args: &[&[u8]],
        since: Duration,
        here: &mut impl Host,
    ) -> bool {
        let Some(keyspace) = self.sessions.get(&conn).map(|session| session.keyspace) else {
            return true;
        };
        let destination = match self.destination(keyspace, spec, args) {
            Ok(destination) => destination,
            Err(Unfound::Refused(line)) => {
                self.answer_error(conn, &line);
                return true;
            }
            Err(Unfound::Unknown { .. }) => {
                // Created a moment ago elsewhere, maybe: the control group knows.
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.held = true;
                    self.refresh_catalog(conn, args);
                }
                return true;
            }
        };
        let there = destination.keyspace.unwrap_or(keyspace);
        let keys = [args[1], spec.keys(args).last().unwrap_or(args[1])];
        let [Some(from), Some(to)] = [(keyspace, keys[0]), (there, keys[1])]
            .map(|(keyspace, key)| self.catalog.shard_of_key(keyspace, key))
        else {
            self.reject(conn, &no_keyspace(keyspace));
            return true;
        };
        if from == to {
            if spec.name == "move" {
                self.answer_error(conn, &Refusal::SameObject.to_string());
                return true;
            }
            return destination.keyspace.is_some() && {
                self.copy_here(conn, args, destination.replace, since, here);
                true
            };
        }
        if let Some(line) = too_long(spec, args) {
            self.answer_error(conn, line);
            return true;
        }
        if self.splits.crossings.len() >= CROSSINGS_MAX {
            let name = spec.name;
            let line = format!(
                "BUSY {CROSSINGS_MAX} COPY and MOVE to other shards are under way at this node: '{name}' was not carried out, try again"
            );
            self.answer_error(conn, &line);
            return true;
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return true;
        };
        if !session.order.is_empty() {
            session.is_begun = true;
            session.put_back(since, own(args));
            self.count_input(conn);
            return true;
        }
        session.held = true;
        let (slot, version) = (session.reserve(bytes_of(args)), session.version);
        let [source, destination_key] = keys.map(Bytes::copy_from_slice);
        let (steps, asks) = Steps::begin(Plan {
            name: spec.name,
            moves: spec.name == "move",
            source,
            destination: destination_key,
            replace: destination.replace,
            here: keyspace,
            there,
        });
        let crossing = Crossing {
            conn,
            slot,
            version,
            source: (keyspace, from),
            destination: (there, to),
            steps,
        };
        let id = self.splits.add_crossing(crossing);
        self.ask_shards(id, asks, here);
        true
    }

    fn ask_shards(&mut self, id: u64, asks: Vec<Ask>, here: &mut impl Host) {
        for Ask { part, at, args } in asks {
            let Some(crossing) = self.splits.crossings.get(&id) else {
                return;
            };
            let (keyspace, shard) = match at {
                At::Source => crossing.source,
                At::Destination => crossing.destination,
            };
            let session = self.sessions.get(&crossing.conn);
            let seen = session.map_or(Position::ZERO, |session| session.seen.get(shard));
            let target = Target::Part { split: id, part };
            let Some(spec) = carried::spec_of(&args) else {
                self.reply_error(&target, "ERR it could not be taken apart", here);
                continue;
            };
            self.route(
                Request {
                    target,
                    spec,
                    args,
                    keyspace,
                    shard,
                    seen,
                    version: Version::Resp2,
                    since: self.now.monotonic,
                    read_from: ReadFrom::PrimaryTip,
                    round: Round::None,
                    went_near: false,
                },
                here,
            );
        }
    }

    /// A shard has answered.
    pub(crate) fn crossing_answered(
        &mut self,
        id: u64,
        part: usize,
        shard: ShardId,
        position: Position,
        reply: Bytes,
        here: &mut impl Host,
    ) {
        let Some(crossing) = self.splits.crossings.get_mut(&id) else {
            return;
        };
        if position.index > 0
            && let Some(session) = self.sessions.get_mut(&crossing.conn)
        {
            session.seen.advance(shard, position);
        }
        let next = crossing.steps.answered(part, position, decode(reply));
        let (own, is_first) = (crossing.bytes(), crossing.steps.has_done_nothing());
        match next {
            Next::Wait => {}
            Next::Ask(asks) => {
                let all: usize = self.splits.crossings.values().map(Crossing::bytes).sum();
                if is_first && all > BYTES_MAX && own < all {
                    let line = format!(
                        "BUSY COPY and MOVE to other shards carry more than {BYTES_MAX} bytes at this node: nothing was done, try again"
                    );
                    return self.end_crossing(id, &Reply::Error(line), here);
                }
                self.ask_shards(id, asks, here);
            }
            Next::Done(reply) => self.end_crossing(id, &reply, here),
        }
    }

    fn end_crossing(&mut self, id: u64, reply: &Reply, here: &mut impl Host) {
        let Some(crossing) = self.splits.crossings.remove(&id) else {
            return;
        };
        let Crossing {
            conn,
            slot,
            version,
            ..
        } = crossing;
        let mut bytes = BytesMut::new();
        let mut out = Encoder::new(version, &mut bytes);
        match reply {
            Reply::Integer(n) => out.integer(*n),
            Reply::Error(line) => out.error(line),
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held = false;
        }
        let target = Target::Client { conn, slot };
        self.deliver(&target, ShardId(0), Position::ZERO, bytes.freeze(), here);
        self.resume(conn, here);
    }

    /// COPY named its own keyspace, by its name perhaps, which no shard knows.
    fn copy_here(
        &mut self,
        conn: u64,
        args: &[&[u8]],
        replace: bool,
        since: Duration,
        here: &mut impl Host,
    ) {
        let mut plain = args[..3].to_vec();
        if replace {
            plain.push(b"REPLACE");
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.is_begun = true;
            self.dispatch(conn, &plain, since, here);
        }
    }

    /// The newest catalog that can be had is here, for a command that named a keyspace which was
    /// unknown; `known` is false if the control group did not say whether there is a newer one.
    pub(crate) fn cross_finally(
        &mut self,
        conn: u64,
        args: &[&[u8]],
        known: bool,
        here: &mut impl Host,
    ) {
        let now = self.now.monotonic;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.held = false;
        let keyspace = session.keyspace;
        let destination = commands::find(args).map(|spec| self.destination(keyspace, spec, args));
        if let Ok(Err(Unfound::Unknown { number })) = destination {
            let line = match (known, number) {
                (false, _) => NOT_ASKED.to_owned(),
                (true, true) => UNKNOWN_NUMBER.to_owned(),
                (true, false) => Refusal::NotAnInteger.to_string(),
            };
            self.answer_error(conn, &line);
        } else if let Some(session) = self.sessions.get_mut(&conn) {
            session.is_begun = true;
            session.put_back(now, own(args));
        }
        self.resume(conn, here);
    }
}

/// What a shard says: an error as its line.
fn decode(reply: Bytes) -> Result<Frame, String> {
    let mut input = reply
        .try_into_mut()
        .unwrap_or_else(|reply| BytesMut::from(reply.as_ref()));
    match FrameDecoder::new(FrameLimits::default()).decode(&mut input) {
        Ok(Some(frame)) => match frame.as_error() {
            Some(line) => Err(String::from_utf8_lossy(line).into_owned()),
            None => Ok(frame),
        },
        _ => Err("ERR a shard's answer makes no sense".into()),
    }
}
