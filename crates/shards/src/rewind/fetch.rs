//! Fetching the keys that a lost tail touched, and giving them.

use super::{BYTES_MAX, Fetching, GIVEN_MAX, Giving, Step};
use crate::{
    door::Lane,
    message::{Message, RewindAsk, RewindChunk},
    room::Shards,
};
use bytes::BytesMut;
use model::{NodeId, ShardId};
use storage::store::{Applied, Stores};

/// Keys, and their bytes, that one question asks for.
const ASK_KEYS: usize = 1024;
const ASK_BYTES: usize = 64 << 10;
/// Rows a message, in bytes.
const CHUNK_BYTES: usize = 512 << 10;

impl<S: Stores, T> Shards<S, T> {
    /// Begins to fetch, from a new snapshot.
    pub(super) fn fetch_anew(&mut self, id: ShardId) {
        self.rewinds.next = self.rewinds.next.wrapping_add(1);
        let number = self.rewinds.next;
        let Some(taking) = self.rewinds.taking.get_mut(&id) else {
            return;
        };
        taking.step = Step::Fetching(Fetching {
            number,
            question: 0,
            left: taking.keys.iter().rev().cloned().collect(),
            from: None,
            asked_at: self.now.monotonic,
            rows: Vec::new(),
            bytes: 0,
            applied: None,
        });
        self.ask_keys_of(id);
    }

    pub(super) fn ask_keys_of(&mut self, id: ShardId) {
        let Some(taking) = self.rewinds.taking.get_mut(&id) else {
            return;
        };
        let Step::Fetching(fetching) = &mut taking.step else {
            return;
        };
        fetching.asked_at = self.now.monotonic;
        let mut bytes = 0;
        let keys = fetching
            .left
            .iter()
            .rev()
            .take(ASK_KEYS)
            .take_while(|key| {
                let fits = bytes < ASK_BYTES;
                bytes += key.len();
                fits
            })
            .map(|key| key.to_vec())
            .collect();
        let message = Message::RewindAsk(RewindAsk {
            shard: id,
            rewind: fetching.number,
            question: fetching.question,
            common: taking.common,
            keys,
            from: fetching.from.clone(),
        });
        let to = taking.source.clone();
        self.send(&to, Lane::Ordinary, message);
    }

    pub(crate) fn rewind_asked(&mut self, from: &NodeId, ask: RewindAsk) {
        let id = ask.shard;
        let key = (from.clone(), id, ask.rewind);
        let now = self.now.monotonic;
        if ask.is_thanks() {
            self.rewinds.giving.remove(&key);
            return;
        }
        if !self.rewinds.giving.contains_key(&key) {
            if ask.question > 0 {
                let rewind = ask.rewind;
                let message = Message::RewindLost { shard: id, rewind };
                return self.send(from, Lane::Ordinary, message);
            }
            let full = self.rewinds.giving.len() >= GIVEN_MAX;
            let has_common = |applied: &Applied| {
                let (common, at) = (ask.common, applied.position.index);
                common.index <= at && applied.history.contains(common, at)
            };
            // It asks again, in a while; then what both have may be applied here.
            let Some(snapshot) = self
                .all
                .get(&id)
                .filter(|s| !full && has_common(s.store.applied()))
                .and_then(|s| s.store.snapshot().ok())
            else {
                return;
            };
            let asked_at = now;
            let giving = Giving { snapshot, asked_at };
            self.rewinds.giving.insert(key.clone(), giving);
        }
        let Some(giving) = self.rewinds.giving.get_mut(&key) else {
            return;
        };
        giving.asked_at = now;
        let mut applied = BytesMut::new();
        giving.snapshot.applied().encode(&mut applied);
        let found = giving
            .snapshot
            .rows_of_keys(&ask.keys, ask.from.as_deref(), CHUNK_BYTES);
        match found {
            Ok(chunk) => {
                let message = Message::RewindChunk(RewindChunk {
                    shard: id,
                    rewind: ask.rewind,
                    question: ask.question,
                    rows: chunk.rows,
                    done: chunk.done as u64,
                    next: chunk.next,
                    applied: applied.freeze(),
                });
                self.send(from, Lane::Bulk, message);
            }
            Err(error) => {
                tracing::error!(shard = id.0, %error, "keys could not be read for a rewind");
                self.rewinds.giving.remove(&key);
                let rewind = ask.rewind;
                let message = Message::RewindLost { shard: id, rewind };
                self.send(from, Lane::Ordinary, message);
            }
        }
    }

    pub(crate) fn rewind_chunk(&mut self, from: &NodeId, chunk: RewindChunk) {
        let id = chunk.shard;
        let Some(taking) = self.rewinds.taking.get_mut(&id) else {
            return;
        };
        let Step::Fetching(fetching) = &mut taking.step else {
            return;
        };
        if taking.source != *from
            || fetching.number != chunk.rewind
            || fetching.question != chunk.question
        {
            return; // An answer to a question that was asked twice.
        }
        let Ok(applied) = Applied::decode(chunk.applied) else {
            return;
        };
        let at = applied.position;
        let fits = at.index >= taking.common.index
            && applied.history.contains(taking.common, at.index)
            && fetching.applied.as_ref().is_none_or(|a| a.position == at);
        let done = usize::try_from(chunk.done).unwrap_or(usize::MAX);
        if !fits || done > fetching.left.len() {
            return; // Not what was asked for: it is asked again.
        }
        fetching.applied = Some(applied);
        fetching.bytes += chunk
            .rows
            .iter()
            .map(|(k, v)| k.len() + v.len())
            .sum::<usize>();
        fetching.rows.extend(chunk.rows);
        fetching.left.truncate(fetching.left.len() - done);
        fetching.from = chunk.next;
        fetching.question += 1;
        let too_much = fetching.bytes > BYTES_MAX;
        if !fetching.left.is_empty() && !too_much {
            return self.ask_keys_of(id);
        }
        let rows = std::mem::take(&mut fetching.rows);
        let thanks = Message::RewindAsk(RewindAsk {
            shard: id,
            rewind: fetching.number,
            question: fetching.question,
            common: taking.common,
            keys: Vec::new(),
            from: None,
        });
        let source = taking.source.clone();
        self.send(&source, Lane::Ordinary, thanks);
        if too_much {
            self.rewinds.taking.remove(&id);
            return self.start_copy(id, &source);
        }
        self.log_rewind(id, rows, at);
    }

    pub(crate) fn rewind_lost(&mut self, from: &NodeId, id: ShardId, rewind: u64) {
        let lost = self.rewinds.taking.get(&id).is_some_and(|t| {
            t.source == *from && matches!(&t.step, Step::Fetching(f) if f.number == rewind)
        });
        if lost {
            self.fetch_anew(id);
        }
    }
}
