//! Commands whose keys lie in several shards: taken apart, evaluated shard by shard, and the
//! replies put together. Atomic only within a shard.

use crate::{
    crossing::Crossing,
    host::Host,
    request::{ReadFrom, Request, Round, Target, bytes_of, own},
    room::Gate,
};
use bytes::{Bytes, BytesMut};
use commands::{Fanout, Spec, evaluate::KEYS_MAX};
use model::{KeyspaceId, Position, ShardId, cursor, slot};
use resp::{Encoder, Frame, FrameDecoder, FrameLimits, Version};
use shards::reply_room::{REPLY_BYTES_MAX, too_long};
use std::collections::BTreeMap;

/// One command that was split.
#[derive(Debug)]
struct Split {
    conn: u64,
    slot: u64,
    version: Version,
    fanout: Fanout,
    name: &'static str,
    /// The reply of each part, as it comes.
    parts: Vec<Option<Bytes>>,
    /// Bytes of those that have come.
    bytes: usize,
    /// For Gather: which part, and which of its values, each key's value is.
    places: Vec<(usize, usize)>,
    /// For Scan: the cursor to go on from when the shard is through.
    next_cursor: u64,
    /// For EveryShardAny: which of those that have something.
    choice: u64,
    left: usize,
}

/// Every command that is split now, or goes from one shard to another.
#[derive(Debug, Default)]
pub(crate) struct Splits {
    open: BTreeMap<u64, Split>,
    /// Numbered as those in `open` are: the parts of both have the same kind of target.
    pub(crate) crossings: BTreeMap<u64, Crossing>,
    next: u64,
}

impl Splits {
    /// Bytes of the replies that have come.
    pub(crate) fn reply_bytes(&self) -> usize {
        let split: usize = self.open.values().map(|split| split.bytes).sum();
        split + self.crossings.values().map(Crossing::bytes).sum::<usize>()
    }

    /// A number for a command from one shard to another that begins.
    pub(crate) fn add_crossing(&mut self, crossing: Crossing) -> u64 {
        self.next += 1;
        self.crossings.insert(self.next, crossing);
        self.next
    }

    /// Whether it is a part of one of these.
    pub(crate) fn is_crossing(&self, target: &Target) -> bool {
        matches!(target, Target::Part { split, .. } if self.crossings.contains_key(split))
    }

    /// The client of a command, and its place in the order of that: what goes from one shard to
    /// another has none, since nothing else of its connection goes on meanwhile.
    pub(crate) fn place_of(&self, target: &Target) -> Option<(u64, u64)> {
        match self.is_crossing(target) {
            true => None,
            false => Some((self.client_of(target)?, self.slot_of(target)?)),
        }
    }

    /// A client is gone: nobody waits for its commands, and parts that had not gone anywhere yet
    /// never will.
    pub(crate) fn left_by(&mut self, conn: u64) {
        self.open.retain(|_, split| split.conn != conn);
    }

    /// Whether none is taken apart now.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The client that a split command is for.
    pub(crate) fn conn(&self, id: u64) -> Option<u64> {
        let crossing = || self.crossings.get(&id).map(|c| c.conn);
        self.open.get(&id).map(|s| s.conn).or_else(crossing)
    }

    /// The client that waits for a reply, also behind a split command.
    pub(crate) fn client_of(&self, target: &Target) -> Option<u64> {
        match target {
            Target::Client { conn, .. } => Some(*conn),
            Target::Part { split, .. } => self.conn(*split),
            Target::Remote { .. } => None,
        }
    }

    /// Which of the client's replies it is, or is part of.
    pub(crate) fn slot_of(&self, target: &Target) -> Option<u64> {
        match target {
            Target::Client { slot, .. } => Some(*slot),
            Target::Part { split, .. } => {
                let crossing = || self.crossings.get(split).map(|c| c.slot);
                self.open.get(split).map(|s| s.slot).or_else(crossing)
            }
            Target::Remote { .. } => None,
        }
    }
}

impl Gate {
    /// Takes a client's command apart.
    pub(crate) fn split(
        &mut self,
        conn: u64,
        spec: &'static Spec,
        args: &[&[u8]],
        keyspace: KeyspaceId,
        here: &mut impl Host,
    ) {
        let choice = self.draw();
        let Some(facts) = self.catalog.keyspaces.get(&keyspace) else {
            return self.answer_error(conn, &crate::route::no_keyspace(keyspace));
        };
        let mut parts: Vec<(ShardId, Vec<Bytes>)> = Vec::new();
        let mut places = Vec::new();
        let mut next_cursor = 0;
        match spec.fanout {
            Fanout::EveryKeyspaceOk => {
                parts.extend(self.catalog.shards.keys().map(|id| (*id, own(args))));
            }
            Fanout::EveryShardSum
            | Fanout::EveryShardOk
            | Fanout::EveryShardArray
            | Fanout::EveryShardAny => {
                parts.extend(facts.shards.iter().map(|id| (*id, own(args))));
            }
            Fanout::Scan => {
                let cursor = args
                    .get(1)
                    .and_then(|c| commands::numbers::parse_cursor(c))
                    .unwrap_or(0);
                let from = cursor::slot(cursor).unwrap_or(slot::SLOTS - 1);
                let Some(id) = self.catalog.shard_of_slot(keyspace, from) else {
                    return self.answer_error(conn, "ERR invalid cursor");
                };
                let last = self.catalog.shards.get(&id).map_or(0, |s| s.slots.1);
                if last + 1 < slot::SLOTS {
                    next_cursor = cursor::at_slot(last + 1);
                }
                parts.push((id, own(args)));
            }
            _ => {
                let step = usize::try_from(spec.step).unwrap_or(1).max(1);
                // No part may be carried out of what is refused as a whole.
                if !(args.len() - 1).is_multiple_of(step) {
                    let refusal = commands::Refusal::Arity(spec.name);
                    return self.answer_error(conn, &refusal.to_string());
                }
                let keys = spec.key_positions(args.len()).count();
                if keys > KEYS_MAX {
                    let refusal = commands::Refusal::TooManyKeys {
                        name: spec.name,
                        keys,
                        keys_max: KEYS_MAX,
                    };
                    return self.answer_error(conn, &refusal.to_string());
                }
                let mut part_of = BTreeMap::new();
                for at in spec.key_positions(args.len()) {
                    let Some(id) = self.catalog.shard_of_key(keyspace, args[at]) else {
                        return self.answer_error(conn, &crate::route::no_keyspace(keyspace));
                    };
                    let part = *part_of.entry(id).or_insert_with(|| {
                        parts.push((id, own(&args[..1])));
                        parts.len() - 1
                    });
                    let end = (at + step).min(args.len());
                    places.push((part, (parts[part].1.len() - 1) / step));
                    parts[part].1.extend(own(&args[at..end]));
                }
            }
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let slot = session.reserve(bytes_of(args));
        let version = session.version;
        let sees = |(id, _): &(ShardId, _)| (session.seen.get(*id), session.read_from(*id, spec));
        let sees: Vec<(Position, ReadFrom)> = parts.iter().map(sees).collect();
        self.splits.next += 1;
        let id = self.splits.next;
        self.splits.open.insert(
            id,
            Split {
                conn,
                slot,
                version,
                fanout: spec.fanout,
                name: spec.name,
                bytes: 0,
                left: parts.len(),
                parts: vec![None; parts.len()],
                places,
                next_cursor,
                choice,
            },
        );
        for (part, ((shard, args), (seen, read_from))) in parts.into_iter().zip(sees).enumerate() {
            let keyspace = self
                .catalog
                .shards
                .get(&shard)
                .map_or(keyspace, |s| s.keyspace);
            self.route(
                Request {
                    target: Target::Part { split: id, part },
                    spec,
                    args,
                    keyspace,
                    shard,
                    seen,
                    version,
                    since: self.now.monotonic,
                    read_from,
                    round: Round::None,
                    went_near: false,
                },
                here,
            );
        }
    }

    /// One part was answered.
    pub(crate) fn part_done(
        &mut self,
        id: u64,
        part: usize,
        shard: ShardId,
        position: Position,
        reply: Bytes,
        here: &mut impl Host,
    ) {
        let Some(split) = self.splits.open.get_mut(&id) else {
            return self.crossing_answered(id, part, shard, position, reply, here);
        };
        if let Some(session) = self.sessions.get_mut(&split.conn)
            && position.index > 0
        {
            session.seen.advance(shard, position);
        }
        match split.parts.get_mut(part) {
            Some(place @ None) => {
                split.bytes += reply.len();
                // Together they are one reply: the first error of a part is that of the whole.
                *place = Some(match split.bytes {
                    0..=REPLY_BYTES_MAX => reply,
                    bytes => {
                        let line = too_long(split.name, bytes);
                        let mut error = BytesMut::new();
                        Encoder::new(split.version, &mut error).error(line);
                        error.freeze()
                    }
                });
            }
            _ => return,
        }
        split.left -= 1;
        if split.left > 0 {
            return;
        }
        if let Some(split) = self.splits.open.remove(&id) {
            let target = Target::Client {
                conn: split.conn,
                slot: split.slot,
            };
            let reply = put_together(&split);
            self.deliver(&target, ShardId(0), Position::ZERO, reply, here);
        }
    }
}

/// The reply of the whole: the first error of a part, or what the parts make together.
fn put_together(split: &Split) -> Bytes {
    let mut frames = Vec::new();
    for part in split.parts.iter().flatten() {
        let mut input = BytesMut::from(part.as_ref());
        match FrameDecoder::new(FrameLimits::default()).decode(&mut input) {
            Ok(Some(frame)) if frame.as_error().is_none() => frames.push(frame),
            // An error, or what nobody can read, is passed on as it is.
            _ => return part.clone(),
        }
    }
    let mut reply = BytesMut::new();
    let mut out = Encoder::new(split.version, &mut reply);
    match split.fanout {
        Fanout::Sum | Fanout::EveryShardSum => {
            out.integer(frames.iter().filter_map(Frame::as_integer).sum());
        }
        Fanout::Gather => {
            out.array(split.places.len());
            for (part, at) in &split.places {
                match frames
                    .get(*part)
                    .and_then(Frame::as_values)
                    .and_then(|values| values.get(*at))
                {
                    Some(value) => value.encode_to(&mut out),
                    None => out.null(),
                }
            }
        }
        Fanout::EveryShardArray => {
            let all = || frames.iter().filter_map(Frame::as_values).flatten();
            out.array(all().count());
            all().for_each(|value| value.encode_to(&mut out));
        }
        Fanout::EveryShardAny => {
            let some: Vec<&Bytes> = frames.iter().filter_map(Frame::as_bytes).collect();
            match some.get((split.choice % some.len().max(1) as u64) as usize) {
                Some(value) => out.bulk(value),
                None => out.null(),
            }
        }
        Fanout::Scan => {
            let values = frames.first().and_then(Frame::as_values).unwrap_or(&[]);
            out.array(2);
            match values.first().and_then(Frame::as_bytes) {
                Some(cursor) if cursor.as_ref() != b"0" => out.bulk(cursor),
                _ => out.bulk(split.next_cursor.to_string()),
            }
            match values.get(1) {
                Some(keys) => keys.encode_to(&mut out),
                None => out.array(0),
            }
        }
        _ => out.ok(),
    }
    reply.freeze()
}
