//! A replica's part in a comparison: its store, pinned where the digest entry was applied, is
//! digested in slices on another thread, one a tick, and kept to name keys until nobody wants
//! it any more.

use crate::{
    aside::Aside,
    door::Lane,
    message::{DigestKeys, DigestProgress, DigestReport, DigestRequest, Message},
    room::Shards,
};
use model::{Entry, NodeId, Position, ShardId};
use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};
use storage::store::{
    BucketKeys, DigestState, Rows, RowsSnapshot, ShardSnapshot, StoreError, Stores,
};

/// Bytes of rows that a slice reads: some milliseconds, and at most 200 MB a second.
const SLICE_BYTES: usize = 4 << 20;
/// Bytes of keys that are named of one bucket.
const KEYS_BYTES_MAX: usize = 2 << 20;
/// Buckets of a shard of which keys are named.
pub const BUCKETS_MAX: usize = 8;
/// Stores that are pinned on one node, at a time.
const PINNED_MAX: usize = 64;
/// How often the coordinator is told how far a digest is.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// A slice that takes longer waits for a disk that is stuck.
const SLICE_MAX: Duration = Duration::from_secs(10);
/// What its coordinator has not asked for since is given up.
const WANTED_FOR: Duration = Duration::from_secs(20);

/// A verification and one of its shards.
type Key = (u64, ShardId);

/// What is read of a pinned store.
enum Reading {
    Digest(DigestState),
    Keys(u32, BucketKeys),
    Nothing,
}

/// A pinned store, and how far it was read: what travels to the other thread and back.
struct Scan<Snap> {
    snapshot: ShardSnapshot<Snap>,
    reading: Reading,
}

impl<Snap: RowsSnapshot> Scan<Snap> {
    fn slice(&mut self) -> Result<bool, StoreError> {
        match &mut self.reading {
            Reading::Digest(state) => self.snapshot.digest(SLICE_BYTES, state),
            Reading::Keys(_, state) => self.snapshot.bucket_keys(SLICE_BYTES, state),
            Reading::Nothing => Ok(true),
        }
    }
}

/// A slice that was read.
struct Sliced<Snap> {
    key: Key,
    scan: Scan<Snap>,
    done: Result<bool, StoreError>,
}

/// A store that is compared.
struct Digesting<Snap> {
    coordinator: NodeId,
    position: Position,
    /// None while a slice of it is being read.
    scan: Option<Scan<Snap>>,
    keys: u64,
    keys_total: u64,
    failed: Option<String>,
    /// Whether nothing more is to be told of how far it is.
    told_all: bool,
    told_at: Option<Duration>,
    /// Buckets whose keys were asked for.
    questions: VecDeque<u32>,
    wanted_at: Duration,
}

impl<Snap> Digesting<Snap> {
    /// What is to be read next of it, if anything.
    fn take_scan(&mut self) -> Option<Scan<Snap>> {
        if let Some(scan) = &mut self.scan
            && let Reading::Nothing = scan.reading
        {
            let bucket = self.questions.pop_front()?;
            scan.reading = Reading::Keys(bucket, BucketKeys::new(bucket as usize, KEYS_BYTES_MAX));
        }
        self.scan.take()
    }

    fn is_wanted(&self, now: Duration) -> bool {
        now.saturating_sub(self.wanted_at) < WANTED_FOR
    }
}

/// The stores of this node that are compared.
pub(crate) struct Digestings<Snap> {
    all: BTreeMap<Key, Digesting<Snap>>,
    /// Of which a slice was read last.
    last: Option<Key>,
    /// Since when one is being read.
    reading: Option<Duration>,
}

impl<Snap> Default for Digestings<Snap> {
    fn default() -> Self {
        Digestings {
            all: BTreeMap::new(),
            last: None,
            reading: None,
        }
    }
}

impl<Snap> Digestings<Snap> {
    /// The next slice to read: each store has its turn.
    fn next(&mut self) -> Option<(Key, Scan<Snap>)> {
        let behind = match self.last {
            Some(last) => (Excluded(last), Unbounded),
            None => (Unbounded, Unbounded),
        };
        let keys: Vec<Key> = (self.all.range(behind))
            .chain(self.all.iter())
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter().find_map(|key| {
            let scan = self.all.get_mut(&key)?.take_scan()?;
            self.last = Some(key);
            Some((key, scan))
        })
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// A digest entry was applied: the store is as of its position at this moment.
    pub(crate) fn digest_due(&mut self, shard_id: ShardId, entry: &Entry) {
        let Ok(request) = postcard::from_bytes::<DigestRequest>(&entry.payload()) else {
            return;
        };
        let Some(shard) = self.all.get(&shard_id) else {
            return;
        };
        let key = (request.id, shard_id);
        let full =
            self.digestings.all.len() >= PINNED_MAX && !self.digestings.all.contains_key(&key);
        let pinned = if full {
            Err(format!("its node compares {PINNED_MAX} stores already"))
        } else {
            shard.store.snapshot().map_err(|error| error.to_string())
        };
        match pinned {
            Ok(snapshot) => {
                let digesting = Digesting {
                    coordinator: request.coordinator,
                    position: snapshot.applied().position,
                    keys: 0,
                    keys_total: snapshot.applied().keys,
                    scan: Some(Scan {
                        snapshot,
                        reading: Reading::Digest(DigestState::new()),
                    }),
                    failed: None,
                    told_all: false,
                    told_at: None,
                    questions: VecDeque::new(),
                    wanted_at: self.now.monotonic,
                };
                // Asked for again: the former place is of no use.
                let former = self.digestings.all.insert(key, digesting);
                self.let_go(former);
            }
            Err(why) => {
                tracing::warn!(shard = shard_id.0, %why, "no digest is computed");
                let progress = DigestProgress {
                    id: request.id,
                    shard: shard_id,
                    keys: 0,
                    keys_total: 0,
                    failed: Some(why),
                };
                let message = Message::DigestProgress(progress);
                self.tell(&request.coordinator, Lane::Ordinary, message);
            }
        }
    }

    fn let_go(&mut self, digesting: Option<Digesting<<S::Rows as Rows>::Snapshot>>) {
        if let Some(scan) = digesting.and_then(|d| d.scan) {
            self.asides.drop_aside(scan);
        }
    }

    pub(crate) fn digest_keys_asked(&mut self, id: u64, shard: ShardId, bucket: u32) {
        if let Some(digesting) = self.digestings.all.get_mut(&(id, shard))
            && !digesting.questions.contains(&bucket)
            && digesting.questions.len() < BUCKETS_MAX
        {
            digesting.questions.push_back(bucket);
        }
    }

    pub(crate) fn verify_held(&mut self, id: u64, shard: ShardId) {
        let now = self.now.monotonic;
        if let Some(digesting) = self.digestings.all.get_mut(&(id, shard)) {
            digesting.wanted_at = now;
        }
    }

    pub(crate) fn verify_over(&mut self, id: u64, shard: ShardId) {
        let gone = self.digestings.all.remove(&(id, shard));
        self.let_go(gone);
    }

    /// Lets go of what nobody wants, tells how far the rest is, and begins the next slice.
    pub(crate) fn digestings_tick(&mut self) {
        let now = self.now.monotonic;
        let all = &mut self.digestings.all;
        let gone: Vec<Key> = all
            .iter()
            .filter(|(_, d)| !d.is_wanted(now))
            .map(|(key, _)| *key)
            .collect();
        let mut told = Vec::new();
        // What does not go on is not told of, so that it is given up.
        let reading = self.digestings.reading;
        let stuck = reading.is_some_and(|since| now.saturating_sub(since) > SLICE_MAX);
        for ((id, shard), digesting) in all.iter_mut() {
            let due = digesting
                .told_at
                .is_none_or(|at| now.saturating_sub(at) >= TELL_EVERY);
            if due && !stuck && !digesting.told_all {
                digesting.told_at = Some(now);
                digesting.told_all = digesting.failed.is_some();
                let progress = DigestProgress {
                    id: *id,
                    shard: *shard,
                    keys: digesting.keys,
                    keys_total: digesting.keys_total,
                    failed: digesting.failed.clone(),
                };
                told.push((digesting.coordinator.clone(), progress));
            }
        }
        for (id, shard) in gone {
            self.verify_over(id, shard);
        }
        for (coordinator, progress) in told {
            let message = Message::DigestProgress(progress);
            self.tell(&coordinator, Lane::Ordinary, message);
        }
        if self.digestings.reading.is_none()
            && let Some((key, mut scan)) = self.digestings.next()
        {
            self.digestings.reading = Some(now);
            self.asides.push(Aside::new(move || {
                let done = scan.slice();
                Sliced { key, scan, done }
            }));
        }
    }

    /// What ran on the other thread is back: a slice, if it was one.
    pub(crate) fn slice_done(&mut self, done: Box<dyn Any + Send>) {
        let Ok(sliced) = done.downcast::<Sliced<<S::Rows as Rows>::Snapshot>>() else {
            return;
        };
        let Sliced {
            key: (id, shard),
            mut scan,
            done,
        } = *sliced;
        self.digestings.reading = None;
        let position = scan.snapshot.applied().position;
        let digesting = self.digestings.all.get_mut(&(id, shard));
        let Some(digesting) = digesting.filter(|d| d.position == position) else {
            // It was given up meanwhile, or asked for again.
            return self.asides.drop_aside(scan);
        };
        let coordinator = digesting.coordinator.clone();
        if let Reading::Digest(state) = &scan.reading {
            digesting.keys = state.keys();
        }
        let message = match done {
            Ok(false) => None,
            Ok(true) => match std::mem::replace(&mut scan.reading, Reading::Nothing) {
                Reading::Digest(state) => {
                    digesting.told_all = true;
                    Some(Message::Digest(DigestReport {
                        id,
                        shard,
                        position,
                        keys: state.keys(),
                        buckets: state.buckets().to_vec(),
                    }))
                }
                Reading::Keys(bucket, state) => {
                    let (keys, complete) = state.finish();
                    Some(Message::DigestKeys(DigestKeys {
                        id,
                        shard,
                        bucket,
                        keys: keys.into_iter().map(|(k, d)| (k.to_vec(), d)).collect(),
                        complete,
                    }))
                }
                Reading::Nothing => None,
            },
            Err(error) => {
                tracing::warn!(shard = shard.0, %error, "a store could not be digested");
                scan.reading = Reading::Nothing;
                digesting.failed = Some(error.to_string());
                None
            }
        };
        digesting.scan = Some(scan);
        if let Some(message) = message {
            self.tell(&coordinator, Lane::Bulk, message);
        }
    }
}
