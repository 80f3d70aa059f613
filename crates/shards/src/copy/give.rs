//! The giving side of a copy: chunks of a pinned store, a few ahead of the taker, at a limited
//! rate for all copies together.
//!
//! ```text
//! CopyAsk(row) ─▶ asked ─┬─ a chunk under way begins there: what lies before has arrived
//!                        └─ else, or asked again: begin there anew, one chunk
//! wake, tick   ─▶ give   ── the next chunk of the next copy, while the rate and its window allow
//! ```
//! The window grows as TCP's does when it starts: a link that is slower than the rate is not
//! filled with what has to be sent once more.

use super::Copies;
use crate::{
    door::Lane,
    message::{CopyChunk, Message},
    room::Shards,
};
use bytes::{Bytes, BytesMut};
use model::{NodeId, ShardId};
use std::{
    collections::VecDeque,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};
use storage::store::{RowsSnapshot, ShardSnapshot, Stores};

/// Rows a chunk, in bytes: well below a millisecond of a node's time.
const CHUNK_BYTES: usize = 128 << 10;
/// Chunks that are under way to one taker, at most.
const WINDOW_MAX: usize = 32;
/// And bytes of them, before the last: a single row may be as large as a value.
const WINDOW_BYTES: usize = 2 * WINDOW_MAX * CHUNK_BYTES;
/// Chunks that are given in one go, at most, before the node turns to something else.
const AT_ONCE: usize = 4;
/// The lowest rate that may be asked for: a chunk in two seconds.
pub const COPY_BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Time that was not used can be made up for within so long: timers come late.
const MADE_UP: Duration = Duration::from_millis(20);
/// A snapshot that nobody asked of for so long is let go.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Copies that one node gives at a time; more wait.
const GIVEN_MAX: usize = 4;

/// Who takes a copy of which shard, and by which number.
pub(super) type Key = (NodeId, ShardId, u64);

/// A copy that this node gives.
pub(super) struct Giving<Snap> {
    snapshot: ShardSnapshot<Snap>,
    /// What goes with the rows, encoded.
    applied: Bytes,
    asked_at: Duration,
    /// The row that was asked for last: all before it has arrived.
    asked: Option<Vec<u8>>,
    /// The rows that chunks under way begin with, oldest first, and the bytes of each chunk.
    away: VecDeque<(Option<Vec<u8>>, usize)>,
    /// How many may be.
    window: usize,
    /// The row that the next chunk begins with.
    next: Option<Vec<u8>>,
    /// There is no next.
    all_away: bool,
}

impl<Snap: RowsSnapshot> Giving<Snap> {
    fn new(snapshot: ShardSnapshot<Snap>, now: Duration) -> Self {
        let mut applied = BytesMut::new();
        snapshot.applied().encode(&mut applied);
        Giving {
            snapshot,
            applied: applied.freeze(),
            asked_at: now,
            asked: None,
            away: VecDeque::new(),
            window: 1,
            next: None,
            all_away: false,
        }
    }

    /// The taker has everything before `row`, and wants what follows.
    fn asked(&mut self, row: Option<Vec<u8>>, now: Duration) {
        self.asked_at = now;
        let arrived = self.away.iter().position(|(from, _)| *from == row);
        match arrived {
            Some(arrived) if row != self.asked => {
                self.away.drain(..arrived);
                self.window = (self.window + arrived).min(WINDOW_MAX);
            }
            // All that was under way has arrived.
            None if !self.all_away && row == self.next && row != self.asked => {
                self.window = (self.window + self.away.len()).min(WINDOW_MAX);
                self.away.clear();
            }
            // Something was lost: the taker makes nothing of what comes behind a gap.
            _ => {
                self.away.clear();
                self.window = 1;
                self.next.clone_from(&row);
                self.all_away = false;
            }
        }
        self.asked = row;
    }

    fn wants(&self) -> bool {
        let bytes: usize = self.away.iter().map(|(_, bytes)| bytes).sum();
        !self.all_away && self.away.len() < self.window && bytes < WINDOW_BYTES
    }

    fn chunk(
        &mut self,
        shard: ShardId,
        copy: u64,
    ) -> Result<CopyChunk, storage::store::StoreError> {
        let from = self.next.take();
        let chunk = self.snapshot.next_chunk(from.as_deref(), CHUNK_BYTES)?;
        let bytes = chunk
            .rows
            .iter()
            .map(|(row, value)| row.len() + value.len());
        self.away.push_back((from.clone(), bytes.sum()));
        self.next.clone_from(&chunk.next);
        self.all_away = chunk.next.is_none();
        Ok(CopyChunk {
            shard,
            copy,
            from,
            rows: chunk.rows,
            next: chunk.next,
            applied: self.applied.clone(),
        })
    }

    /// The position that the taker goes on from in the log.
    pub(super) fn pinned(&self) -> u64 {
        self.snapshot.applied().position.index
    }
}

/// Spreads bytes over time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    free_at: Duration,
}

impl Pace {
    /// So many bytes are given: nothing more until their time is over.
    fn spend(&mut self, bytes: u64, per_second: u64, now: Duration) {
        let began = self.free_at.max(now.saturating_sub(MADE_UP));
        let us = bytes.saturating_mul(1_000_000) / per_second.max(1);
        self.free_at = began.saturating_add(Duration::from_micros(us));
    }
}

impl<Snap: RowsSnapshot> Copies<Snap> {
    /// When the next chunk may go, if one is wanted.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let wanted = self.giving.values().any(Giving::wants);
        wanted.then_some(self.pace.free_at)
    }

    /// The copy whose turn it is.
    fn next_given(&mut self) -> Option<&Key> {
        let behind = match &self.given_last {
            Some(last) => (Excluded(last), Unbounded),
            None => (Unbounded, Unbounded),
        };
        let mut wanting = (self.giving.range(behind))
            .chain(self.giving.iter())
            .filter(|(_, giving)| giving.wants());
        let key = wanting.next()?.0.clone();
        self.given_last = Some(key);
        self.given_last.as_ref()
    }

    fn is_full(&self) -> bool {
        // What has all been sent costs nothing more.
        self.giving.values().filter(|g| !g.all_away).count() >= GIVEN_MAX
    }
}

impl<S: Stores, T> Shards<S, T> {
    pub(crate) fn copy_asked(
        &mut self,
        from: &NodeId,
        id: ShardId,
        copy: u64,
        row: Option<Vec<u8>>,
    ) {
        let key = (from.clone(), id, copy);
        let now = self.now.monotonic;
        if !self.copies.giving.contains_key(&key) {
            if row.is_some() {
                return self.send(from, Lane::Ordinary, Message::CopyLost { shard: id, copy });
            }
            let snapshot = (self.all.get(&id))
                .filter(|_| !self.copies.is_full())
                .and_then(|shard| shard.store.snapshot().ok());
            let Some(snapshot) = snapshot else {
                return; // It asks again, in a while.
            };
            // Of an earlier copy of it nothing more is wanted.
            (self.copies.giving).retain(|(to, shard, _), _| (to, *shard) != (from, id));
            self.copies
                .giving
                .insert(key.clone(), Giving::new(snapshot, now));
        }
        if let Some(giving) = self.copies.giving.get_mut(&key) {
            giving.asked(row, now);
        }
        self.give_rows();
    }

    /// Sends what may be sent by now.
    pub(crate) fn give_rows(&mut self) {
        for _ in 0..AT_ONCE {
            if self.now.monotonic < self.copies.pace.free_at {
                return;
            }
            let Some((to, id, copy)) = self.copies.next_given().cloned() else {
                return;
            };
            let key = (to.clone(), id, copy);
            let Some(giving) = self.copies.giving.get_mut(&key) else {
                return;
            };
            match giving.chunk(id, copy) {
                Ok(chunk) => {
                    let bytes = chunk
                        .rows
                        .iter()
                        .map(|(key, value)| key.len() + value.len());
                    self.copies.pace.spend(
                        bytes.sum::<usize>() as u64,
                        self.config.limits.copy_bytes_per_second,
                        self.now.monotonic,
                    );
                    self.send(&to, Lane::Bulk, Message::CopyChunk(chunk));
                    // Kept for a while also after the last: that may be asked for again, and
                    // the log is needed until the replica has caught up.
                }
                Err(error) => {
                    tracing::error!(shard = id.0, %error, "a copy could not be read");
                    self.copies.giving.remove(&key);
                    self.send(&to, Lane::Ordinary, Message::CopyLost { shard: id, copy });
                }
            }
        }
    }

    /// Lets go of copies that nobody asks of any more.
    pub(super) fn giving_tick(&mut self) {
        let now = self.now.monotonic;
        self.copies
            .giving
            .retain(|_, g| now.saturating_sub(g.asked_at) < FORGET_AFTER);
        self.give_rows();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        Entry, EntryKind, Position, Stamp,
        mutation::{Header, KeyKind, Mutation},
    };
    use proptest::prelude::*;
    use storage::store::{CacheBudget, MemorySnapshot, MemoryStores, ShardStore};

    const SHARD: ShardId = ShardId(1);

    /// A store of strings of 30 kB: about four make a chunk.
    fn giving(keys: u64) -> Giving<MemorySnapshot> {
        giving_values(keys, 30_000)
    }

    fn giving_values(keys: u64, bytes: usize) -> Giving<MemorySnapshot> {
        let rows = MemoryStores::new().open(SHARD).unwrap();
        let mut store = ShardStore::open(rows, CacheBudget { bytes: 1 << 20 }).unwrap();
        for n in 1..=keys {
            let mut m = Mutation::new();
            let (key, value) = (format!("key{n}"), vec![b'v'; bytes]);
            m.put_string(key.as_bytes(), true, &Header::new(KeyKind::String), &value);
            let at = Position::new(1, n);
            let entry = Entry::new(at, Stamp(n), EntryKind::Mutation, 1, m.bytes());
            store.apply(&[entry]).unwrap();
        }
        Giving::new(store.snapshot().unwrap(), Duration::ZERO)
    }

    proptest! {
        /// Whatever is lost of chunks and questions, every row arrives, once and in order, as
        /// long as the taker asks again when nothing more comes.
        #[test]
        fn every_row_arrives(keys in 0..120u64, lost in proptest::collection::vec(any::<bool>(), 0..60)) {
            let mut giving = giving(keys);
            let mut lost = lost.into_iter();
            let mut is_lost = || lost.next().unwrap_or(false);
            let (mut from, mut rows, mut sent) = (None, Vec::new(), 0);
            let mut wire = VecDeque::new();
            giving.asked(None, Duration::ZERO);
            loop {
                while giving.wants() {
                    wire.push_back(giving.chunk(SHARD, 1).unwrap());
                    sent += 1;
                }
                prop_assert!(wire.len() <= WINDOW_MAX && sent < 3000);
                let Some(chunk) = wire.pop_front() else {
                    // The first may seem to say what has arrived; the second can't.
                    giving.asked(from.clone(), Duration::ZERO);
                    if !giving.wants() {
                        giving.asked(from.clone(), Duration::ZERO);
                    }
                    prop_assert!(giving.wants());
                    continue;
                };
                if is_lost() || chunk.from != from {
                    continue;
                }
                rows.extend(chunk.rows);
                from = chunk.next;
                if from.is_none() {
                    break;
                }
                if !is_lost() {
                    giving.asked(from.clone(), Duration::ZERO);
                }
            }
            let all = giving.snapshot.next_chunk(None, usize::MAX).unwrap();
            prop_assert_eq!(rows, all.rows);
        }
    }

    #[test]
    fn the_window_grows_to_its_limit_while_nothing_is_lost() {
        let mut giving = giving(600);
        let mut wire = VecDeque::new();
        let mut most = 0;
        giving.asked(None, Duration::ZERO);
        loop {
            while giving.wants() {
                wire.push_back(giving.chunk(SHARD, 1).unwrap());
            }
            most = most.max(wire.len());
            let Some(row) = wire.pop_front().unwrap().next else {
                break;
            };
            giving.asked(Some(row), Duration::ZERO);
        }
        assert_eq!(most, WINDOW_MAX);
    }

    #[test]
    fn large_rows_narrow_the_window() {
        let mut giving = giving_values(20, 3 << 20);
        giving.asked(None, Duration::ZERO);
        giving.window = WINDOW_MAX;
        let mut bytes = 0;
        while giving.wants() {
            let chunk = giving.chunk(SHARD, 1).unwrap();
            bytes += chunk
                .rows
                .iter()
                .map(|(_, value)| value.len())
                .sum::<usize>();
        }
        assert!(bytes < WINDOW_BYTES + (4 << 20), "{bytes}");
    }

    #[test]
    fn bytes_are_spread_over_time() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        pace.spend(500, 1000, 5 * second);
        assert_eq!(pace.free_at, 5 * second - MADE_UP + second / 2);
        pace.spend(500, 1000, 5 * second);
        assert_eq!(pace.free_at, 6 * second - MADE_UP);
        pace.spend(u64::MAX, 1, 6 * second);
    }
}
