//! What a copy of a shard's store brings, and how far a store has come.

use super::{comes_back, written};
use crate::input::parts;
use bytes::Bytes;
use model::ShardId;
use storage::store::{
    Applied, CacheBudget, DeadPlace, DigestState, ExpiryPlace, MemoryStores, ShardStore, Stores,
};

pub(super) fn applied(bytes: &[u8]) {
    let encode = |applied: &Applied| written(|out| applied.encode(out));
    comes_back(bytes, Applied::decode, encode);
}

/// Rows, each a part for its key and one for its value: a store takes them or refuses them, and
/// then reads, copies and digests what it took without a panic.
pub(super) fn rows(bytes: &[u8]) {
    let stores = MemoryStores::new();
    let rows = stores.open(ShardId(1)).unwrap();
    let mut store = ShardStore::open(rows, CacheBudget { bytes: 1 << 16 }).unwrap();
    store.begin_install().unwrap();
    let mut parts = parts(bytes).map(|(_, part)| Bytes::copy_from_slice(part));
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        // Refused rows are left out, so that one does not hide what the others do.
        let _ = store.install_chunk(&[(key, value)]);
    }
    store.finish_install(Applied::default()).unwrap();
    use_all(&mut store);
}

/// Errors are fine: a row that is well-formed may still not fit its neighbours.
fn use_all(store: &mut ShardStore<storage::store::MemoryRows>) {
    let mut keys = Vec::new();
    let _ = store.scan(0, (usize::MAX, u64::MAX), &mut |key, header| {
        keys.push((key.to_vec(), *header));
    });
    for (key, header) in keys {
        let _ = store.string(&key);
        let _ = store.field(&key, &header, b"f");
        let _ = store.fields(&key, &header, 0, (usize::MAX, u64::MAX), &mut |_, _| ());
    }
    let _ = store.expired(u64::MAX, &ExpiryPlace::at(0), 100);
    let _ = store.to_purge(&DeadPlace::default(), 100);
    let snapshot = store.snapshot().unwrap();
    let mut from: Option<Vec<u8>> = None;
    while let Ok(chunk) = snapshot.next_chunk(from.as_deref(), 64) {
        assert!(chunk.next.is_none() || chunk.next > from, "it goes on");
        from = chunk.next;
        if from.is_none() {
            break;
        }
    }
    let mut digest = DigestState::new();
    while let Ok(false) = snapshot.digest(3, &mut digest) {}
}
