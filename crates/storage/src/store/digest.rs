//! A digest of what a shard holds, to compare replicas that stand at the same position.
//!
//! It covers what clients can see: each key that is there, with its kind, its expiry, and its
//! value or live fields with theirs. It does not cover what may rightly differ: dead cells,
//! deletion contexts, stamps, the indexes.
//!
//! ```text
//! key digest     xxh3_128 of: len, key, kind u8, expires_ms,
//!                then len, value; or for each field in order: len, field, len, value
//!                (numbers u64 LE)
//! bucket digest  the sum, modulo 2^128, of the digests of its keys
//! bucket         slot / 64
//! ```
//! It finds damage and bugs; it is not made to withstand someone who crafts collisions.
//!
//! Both scans ([`DigestState`], [`BucketKeys`]) go on where they stopped, in slices of so many
//! bytes: whoever has other things to do does them in between. The snapshot that they read
//! stays as it was meanwhile, and costs the files and memtables that it sees.

use super::{
    copy::ShardSnapshot,
    error::StoreError,
    layout::{KEY, KeyRow, KeyRows, bad_value, cell, decode_head, key_row, row_at_slot},
    rows::RowsSnapshot,
};
use bytes::Bytes;
use model::{Stamp, mutation::KeyKind, slot};
use xxhash_rust::xxh3::Xxh3Default;

/// How many buckets the slots are divided into.
pub const BUCKETS: usize = 256;
const SLOTS_PER_BUCKET: u16 = slot::SLOTS / BUCKETS as u16;
/// What reading a row costs beside its bytes, in bytes.
const ROW_COST: usize = 64;

/// The bucket of a key.
pub fn bucket_of(key: &[u8]) -> usize {
    usize::from(slot::of(key) / SLOTS_PER_BUCKET)
}

/// What puts keys into the order of [`BucketKeys`].
pub fn key_order(key: &[u8]) -> Vec<u8> {
    KeyRows::new(key).head().to_vec()
}

/// A key and the digest of what it holds.
pub type KeyDigest = (Bytes, u128);

/// A key whose rows are being read.
struct Open {
    key: Bytes,
    deleted: Stamp,
    hash: Box<Xxh3Default>,
}

impl Open {
    fn finish(self) -> KeyDigest {
        (self.key, self.hash.digest128())
    }
}

/// A digest in the making; the result once [`ShardSnapshot::digest`] said that it is done.
pub struct DigestState {
    /// Where to go on.
    from: Option<Vec<u8>>,
    open: Option<Open>,
    buckets: Box<[u128; BUCKETS]>,
    keys: u64,
}

impl Default for DigestState {
    fn default() -> Self {
        Self::new()
    }
}

impl DigestState {
    /// Before the first row.
    pub fn new() -> Self {
        DigestState {
            from: Some(row_at_slot(0)),
            open: None,
            buckets: Box::new([0; BUCKETS]),
            keys: 0,
        }
    }

    /// The digest of each bucket.
    pub fn buckets(&self) -> &[u128; BUCKETS] {
        &self.buckets
    }

    /// How many keys it covers.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    fn add(&mut self, digest: Option<KeyDigest>) {
        if let Some((key, digest)) = digest {
            let bucket = &mut self.buckets[bucket_of(&key) % BUCKETS];
            *bucket = bucket.wrapping_add(digest);
            self.keys += 1;
        }
    }
}

/// The keys of one bucket in the making, in the order of their rows; the result once
/// [`ShardSnapshot::bucket_keys`] said that it is done.
pub struct BucketKeys {
    from: Option<Vec<u8>>,
    to: Vec<u8>,
    open: Option<Open>,
    keys: Vec<KeyDigest>,
    bytes: usize,
    bytes_max: usize,
}

impl BucketKeys {
    /// Those of a bucket, until they take so many bytes.
    pub fn new(bucket: usize, bytes_max: usize) -> Self {
        let first = (bucket.min(BUCKETS) as u16) * SLOTS_PER_BUCKET;
        BucketKeys {
            from: Some(row_at_slot(first)),
            to: row_at_slot(first + SLOTS_PER_BUCKET),
            open: None,
            keys: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The keys, and whether they are all there are.
    pub fn finish(self) -> (Vec<KeyDigest>, bool) {
        (self.keys, self.bytes < self.bytes_max)
    }

    fn add(&mut self, digest: KeyDigest) -> bool {
        self.bytes += digest.0.len() + size_of::<KeyDigest>();
        self.keys.push(digest);
        self.bytes < self.bytes_max
    }
}

impl<S: RowsSnapshot> ShardSnapshot<S> {
    /// Reads rows of about `bytes_max` bytes, at least one, further into `state`. True when it
    /// is done.
    pub fn digest(&self, bytes_max: usize, state: &mut DigestState) -> Result<bool, StoreError> {
        let Some(from) = state.from.take() else {
            return Ok(true);
        };
        let mut open = state.open.take();
        state.from = self.read_keys(&from, &[KEY + 1], bytes_max, &mut open, &mut |digest| {
            state.add(Some(digest));
            true
        })?;
        if state.from.is_none() {
            state.add(open.map(Open::finish));
            return Ok(true);
        }
        state.open = open;
        Ok(false)
    }

    /// The same for the keys of a bucket.
    pub fn bucket_keys(
        &self,
        bytes_max: usize,
        state: &mut BucketKeys,
    ) -> Result<bool, StoreError> {
        let Some(from) = state.from.take() else {
            return Ok(true);
        };
        let (to, mut open) = (state.to.clone(), state.open.take());
        let next = self.read_keys(&from, &to, bytes_max, &mut open, &mut |digest| {
            state.add(digest)
        })?;
        if state.bytes >= state.bytes_max {
            return Ok(true);
        }
        match next {
            Some(next) => {
                state.from = Some(next);
                state.open = open;
                Ok(false)
            }
            None => {
                if let Some(open) = open {
                    state.add(open.finish());
                }
                Ok(true)
            }
        }
    }

    /// Digests the keys of `from..to`, giving each to `done` when its last row was read;
    /// `open` is the key at hand. Returns where to go on if it stopped for what it had read.
    fn read_keys(
        &self,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
        open: &mut Option<Open>,
        done: &mut dyn FnMut(KeyDigest) -> bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut read = 0;
        let mut next = None;
        let mut failed = None;
        self.rows.scan(from, to, &mut |row, value| {
            if read >= bytes_max.max(1) {
                next = Some(row.to_vec());
                return false;
            }
            read += row.len() + value.len() + ROW_COST;
            read_row(row, value, open, done).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        })?;
        failed.map_or(Ok(next), Err)
    }
}

fn put(hash: &mut Xxh3Default, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn read_row(
    row: &[u8],
    value: &[u8],
    open: &mut Option<Open>,
    done: &mut dyn FnMut(KeyDigest) -> bool,
) -> Result<bool, StoreError> {
    match key_row(row)? {
        KeyRow::Head { key } => {
            let more = open.take().is_none_or(|last| done(last.finish()));
            let (header, string) =
                decode_head(Bytes::copy_from_slice(value)).map_err(|e| bad_value(row, &e))?;
            if more && header.kind != KeyKind::Tombstone {
                let mut hash = Box::new(Xxh3Default::new());
                put(&mut hash, key);
                hash.update(&[header.kind as u8]);
                hash.update(&header.expires_ms.to_le_bytes());
                if let Some((_, value)) = string {
                    put(&mut hash, &value);
                }
                *open = Some(Open {
                    key: Bytes::copy_from_slice(key),
                    deleted: header.deleted,
                    hash,
                });
            }
            Ok(more)
        }
        KeyRow::Field { key, field } => {
            let (stamp, value) = cell(row, value)?;
            if let Some(open) = open
                && open.key == key
                && stamp > open.deleted
            {
                put(&mut open.hash, field);
                put(&mut open.hash, value);
            }
            Ok(true)
        }
    }
}
