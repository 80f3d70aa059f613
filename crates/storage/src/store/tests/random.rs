//! Random histories.

use super::{primary::*, *};
use model::ShardId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SHARD: ShardId = ShardId(7);

fn open<S: Stores>(stores: &S) -> ShardStore<S::Rows> {
    open_with(stores, budget())
}

fn open_with<S: Stores>(stores: &S, cache: CacheBudget) -> ShardStore<S::Rows> {
    ShardStore::open(stores.open(SHARD).unwrap(), cache).unwrap()
}

fn budgets() -> impl Strategy<Value = CacheBudget> {
    prop_oneof![Just(budget()), Just(roomy())]
}

fn digest<S: RowsSnapshot>(snapshot: &ShardSnapshot<S>, rows: usize) -> BTreeMap<usize, u128> {
    let mut state = DigestState::new();
    while !snapshot.digest(rows, &mut state).unwrap() {}
    assert_eq!(state.keys(), snapshot.applied().keys);
    let buckets = state.buckets().iter().copied().enumerate();
    buckets.filter(|(_, sum)| *sum != 0).collect()
}

/// Copies `from` into `to` in small chunks, running `between` after each.
fn copy<A: Rows, B: Rows>(
    from: &ShardSnapshot<A::Snapshot>,
    to: &mut ShardStore<B>,
    mut between: impl FnMut(),
) {
    to.begin_install().unwrap();
    let mut next = None;
    loop {
        let chunk = from.next_chunk(next.as_deref(), 300).unwrap();
        to.install_chunk(&chunk.rows).unwrap();
        between();
        next = chunk.next;
        if next.is_none() {
            break;
        }
    }
    to.finish_install(from.applied().clone()).unwrap();
}

/// Applies `commands`, reopening at each cut with `crash`, and checks all along.
fn replays<S: Stores>(
    stores: &S,
    cache: CacheBudget,
    parts: &[Vec<Command>],
    mut crash: impl FnMut(),
) -> (Primary, ShardStore<S::Rows>) {
    let mut primary = Primary::default();
    let mut store = open_with(stores, cache);
    for part in parts {
        for command in part {
            primary.run(&mut store, command);
        }
        assert_eq!(content(&store), primary.model);
        let flushed = store.flushed().unwrap();
        let before = digest(&store.snapshot().unwrap(), 1000);
        drop(store);
        crash();
        store = open_with(stores, cache);
        assert!(
            store.applied().position >= flushed,
            "a flushed batch is lost"
        );
        // Whatever was applied is skipped, whatever was lost is applied again.
        store.apply(&primary.log).unwrap();
        assert_eq!(content(&store), primary.model);
        assert_eq!(digest(&store.snapshot().unwrap(), 3), before);
        store.apply(&primary.log).unwrap();
        assert_eq!(digest(&store.snapshot().unwrap(), 50), before);
    }
    (primary, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_the_model_through_crashes(
        parts in proptest::collection::vec(commands(60), 1..4),
        cache in budgets(),
        seed in any::<u64>(),
    ) {
        let stores = MemoryStores::new();
        let mut seed = seed;
        replays(&stores, cache, &parts, || {
            seed = seed.wrapping_add(1);
            stores.crash(seed);
        });
    }

    #[test]
    fn any_cut_into_batches_gives_the_same(
        commands in commands(80),
        cuts in proptest::collection::vec(1..12usize, 80),
        cache in budgets(),
    ) {
        let stores = MemoryStores::new();
        let mut primary = Primary::default();
        let mut store = open_with(&stores, cache);
        for command in &commands {
            primary.run(&mut store, command);
        }
        let other = MemoryStores::new();
        let mut replica = open_with(&other, cache);
        let mut at = 0;
        for cut in cuts {
            let end = (at + cut).min(primary.log.len());
            replica.apply(&primary.log[at..end]).unwrap();
            at = end;
        }
        replica.apply(&primary.log).unwrap();
        prop_assert_eq!(replica.applied(), store.applied());
        prop_assert_eq!(content(&replica), primary.model);
        // Not only the same content: the same rows, the index of expiry included unless
        // stale rows of it were dropped.
        let rows = |s: &ShardStore<MemoryRows>| {
            let all = s.snapshot().unwrap().next_chunk(None, usize::MAX).unwrap();
            let mut rows = all.rows;
            rows.retain(|(k, _)| k[0] != b'x');
            rows
        };
        prop_assert!(rows(&replica) == rows(&store), "the rows differ");
    }

    #[test]
    fn equal_digests_mean_equal_content(a in commands(25), b in commands(25)) {
        let run = |commands: &[Command]| {
            let stores = MemoryStores::new();
            let mut primary = Primary::default();
            let mut store = open(&stores);
            for command in commands {
                primary.run(&mut store, command);
            }
            (primary.model, digest(&store.snapshot().unwrap(), 7), store)
        };
        let (model_a, digest_a, store_a) = run(&a);
        let (model_b, digest_b, store_b) = run(&b);
        prop_assert_eq!(model_a == model_b, digest_a == digest_b);
        for key in (0..6).map(name) {
            let bucket = bucket_of(&key);
            let of = |store: &ShardStore<MemoryRows>| {
                let snapshot = store.snapshot().unwrap();
                let mut state = BucketKeys::new(bucket, usize::MAX);
                while !snapshot.bucket_keys(1, &mut state).unwrap() {}
                let (keys, all) = state.finish();
                assert!(all);
                let sum = keys.iter().fold(0u128, |sum, (_, d)| sum.wrapping_add(*d));
                let found = keys.into_iter().find(|(k, _)| *k == key).map(|(_, d)| d);
                (found, sum)
            };
            let ((one, sum_a), (other, sum_b)) = (of(&store_a), of(&store_b));
            prop_assert_eq!(model_a.get(&key) == model_b.get(&key), one == other);
            prop_assert_eq!(sum_a, digest_a.get(&bucket).copied().unwrap_or(0));
            prop_assert_eq!(sum_b, digest_b.get(&bucket).copied().unwrap_or(0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_the_model_through_restarts(
        parts in proptest::collection::vec(commands(120), 1..4),
        cache in budgets(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let stores = lsm(dir.path());
        let (primary, store) = replays(&stores, cache, &parts, || {});
        // Memory agrees with the tree, digest by digest.
        let memory = MemoryStores::new();
        let mut replica = open(&memory);
        replica.apply(&primary.log).unwrap();
        prop_assert_eq!(
            digest(&replica.snapshot().unwrap(), 11),
            digest(&store.snapshot().unwrap(), 13)
        );
    }

    #[test]
    fn a_copy_under_writes_is_the_pinned_position(
        before in commands(80),
        after in commands(80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let stores = lsm(dir.path());
        let mut primary = Primary::default();
        let mut store = open(&stores);
        for command in &before {
            primary.run(&mut store, command);
        }
        let pinned = store.snapshot().unwrap();
        let model = primary.model.clone();
        let memory = MemoryStores::new();
        let mut replica = open(&memory);
        let mut left = after.iter();
        copy::<LsmRows, MemoryRows>(&pinned, &mut replica, || {
            for command in left.by_ref().take(3) {
                primary.run(&mut store, command);
                store.maintain().unwrap();
            }
        });
        for command in left {
            primary.run(&mut store, command);
        }
        store.flush().unwrap();
        prop_assert_eq!(content(&replica), model);
        prop_assert_eq!(digest(&replica.snapshot().unwrap(), 9), digest(&pinned, 5));
        prop_assert_eq!(replica.applied(), pinned.applied());
        drop(replica);
        memory.crash(1);
        let mut replica = open(&memory);
        prop_assert!(!replica.is_installing(), "a finished copy is durable");
        replica.apply(&primary.log).unwrap();
        prop_assert_eq!(content(&replica), primary.model);
    }
}
