//! Rewinds against a store that only ever saw the new history: row by row.

use super::{primary::*, *};
use bytes::Bytes;
use model::{Entry, EntryKind, Op, Position, ShardId, mutation::Ops};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SHARD: ShardId = ShardId(7);

fn open<S: Stores>(stores: &S) -> ShardStore<S::Rows> {
    ShardStore::open(stores.open(SHARD).unwrap(), budget()).unwrap()
}

/// All rows but those of the index of expiry: stale ones of it may be left.
fn rows<R: Rows>(store: &ShardStore<R>) -> Vec<(Bytes, Bytes)> {
    let all = store.snapshot().unwrap().next_chunk(None, usize::MAX);
    let mut rows = all.unwrap().rows;
    rows.retain(|(row, _)| row[0] != b'x');
    rows
}

fn touched(entries: &[Entry]) -> BTreeSet<Bytes> {
    entries
        .iter()
        .filter(|e| e.kind == EntryKind::Mutation)
        .flat_map(|e| Ops::new(e.payload()))
        .filter_map(|op: Result<Op, _>| op.unwrap().key().cloned())
        .collect()
}

/// All rows of `keys`, fetched in small pieces.
fn fetch<S: RowsSnapshot>(from: &ShardSnapshot<S>, keys: &BTreeSet<Bytes>) -> Vec<(Bytes, Bytes)> {
    let mut left: Vec<Vec<u8>> = keys.iter().map(|k| k.to_vec()).collect();
    let (mut rows, mut next) = (Vec::new(), None);
    while !left.is_empty() {
        let asked = &left[..left.len().min(3)];
        let chunk = from.rows_of_keys(asked, next.as_deref(), 300).unwrap();
        assert!(chunk.done > 0 || !chunk.rows.is_empty(), "no progress");
        rows.extend(chunk.rows);
        left.drain(..chunk.done);
        next = chunk.next;
    }
    rows
}

/// What happened, and to whom.
#[derive(Clone, Debug)]
struct Story {
    before: Vec<Command>,
    tail: Vec<Command>,
    /// At the new primary, until the keys are fetched, and then.
    until: Vec<Command>,
    after: Vec<Command>,
    /// Whether what comes then is there when it catches up, in one piece with what came before.
    goes_on: bool,
    /// By how much the stamps of the new primary are ahead of those of the lost tail's.
    ahead: u64,
    cuts: Vec<usize>,
    seed: u64,
}

fn story(max: usize) -> impl Strategy<Value = Story> {
    let tail = proptest::collection::vec(command(), 1..max);
    let cuts = proptest::collection::vec(1..12usize, 40);
    let all = (commands(max), tail, commands(max), commands(max));
    let numbers = (0..300u64, any::<bool>(), any::<u64>());
    (all, cuts, numbers).prop_map(|(all, cuts, (ahead, goes_on, seed))| Story {
        before: all.0,
        tail: all.1,
        until: all.2,
        after: all.3,
        goes_on,
        ahead,
        cuts,
        seed,
    })
}

fn tell<S: Stores>(stores: &S, story: &Story, crash: impl Fn(u64)) {
    let mut old = Primary::default();
    let mut store = open(stores);
    for command in &story.before {
        old.run(&mut store, command);
    }
    let others = MemoryStores::new();
    let mut straight = open(&others);
    straight.apply(&old.log).unwrap();
    let mut new = old.depart(story.ahead);
    let common = store.applied().position;
    for command in &story.tail {
        old.run(&mut store, command);
    }
    let keys = touched(&old.log[common.index as usize..]);
    let stamp = store.applied().stamp;

    new.run(&mut straight, &Command::Barrier);
    for command in &story.until {
        new.run(&mut straight, command);
    }
    let pinned = straight.snapshot().unwrap();
    let until = pinned.applied().position;
    let model = new.model.clone();
    let straight_rows = rows(&straight);
    let fetched = fetch(&pinned, &keys);
    store.rewind(common, keys, &fetched, until).unwrap();
    assert_eq!(store.applied().position, common);
    assert_eq!(store.applied().stamp, stamp, "the clock never goes back");
    assert_eq!(store.flushed().unwrap(), common);
    assert!(matches!(store.header(b"k"), Err(StoreError::Rewinding)));
    assert!(matches!(store.snapshot(), Err(StoreError::Rewinding)));

    if story.goes_on {
        for command in &story.after {
            new.run(&mut straight, command);
        }
    }
    // It catches up in pieces, and dies a few times: then it begins at what was flushed.
    let mut deaths = 0;
    let mut cuts = story.cuts.iter().cycle();
    let mut seed = story.seed;
    let entries = new.log.clone();
    while !store.is_serving() {
        assert_eq!(store.rewinding_until(), Some(until));
        let at = store.applied().position.index as usize;
        let end = (at + cuts.next().unwrap()).min(entries.len());
        store.apply(&entries[..end]).unwrap();
        seed = seed.rotate_left(7).wrapping_add(1);
        if seed.is_multiple_of(3) && deaths < 3 {
            deaths += 1;
            drop(store);
            crash(seed);
            store = open(stores);
            assert!(store.applied().position >= common);
        }
    }
    if !story.goes_on {
        assert_eq!(store.applied().position, until);
        assert_eq!(content(&store), model);
        assert!(rows(&store) == straight_rows, "the rows differ at {until}");
        for command in &story.after {
            new.run(&mut straight, command);
        }
    }
    store.apply(&new.log).unwrap();
    assert_eq!(content(&store), new.model);
    assert!(rows(&store) == rows(&straight), "the rows differ");
    let (own, other) = (store.applied(), straight.applied());
    assert_eq!((own.position, own.keys), (other.position, other.keys));
    assert_eq!(own.history, other.history);
    drop(store);
    crash(seed);
    let mut store = open(stores);
    store.apply(&new.log).unwrap();
    assert_eq!(content(&store), new.model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_rewound_store_is_one_that_never_saw_the_tail(story in story(40)) {
        let stores = MemoryStores::new();
        tell(&stores, &story, |seed| {
            stores.crash(seed);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn a_rewound_tree_is_one_that_never_saw_the_tail(story in story(60)) {
        let dir = tempfile::tempdir().unwrap();
        tell(&lsm(dir.path()), &story, |_| {});
    }
}

#[test]
fn a_rewind_is_there_whole_or_not_at_all() {
    let mut lost = 0;
    for seed in 0..20 {
        let stores = MemoryStores::new();
        let mut old = Primary::default();
        let mut store = open(&stores);
        let set = |key, value: &str| Command::Set {
            key,
            value: value.into(),
            expires_ms: 0,
        };
        old.run(&mut store, &Command::Barrier);
        old.run(&mut store, &set(1, "kept"));
        let common = store.applied().position;
        let others = MemoryStores::new();
        let mut straight = open(&others);
        straight.apply(&old.log).unwrap();
        let mut new = old.depart(0);
        old.run(&mut store, &set(1, "lost"));
        old.run(&mut store, &set(2, "lost"));
        let tail = store.applied().clone();
        new.run(&mut straight, &Command::Barrier);
        let pinned = straight.snapshot().unwrap();
        let keys = touched(&old.log[2..]);
        let fetched = fetch(&pinned, &keys);
        // Rows of keys that were not asked for are refused, and nothing is changed.
        let other = BTreeSet::from([Bytes::from("other")]);
        assert!(
            store
                .rewind(common, other, &fetched, pinned.applied().position)
                .is_err()
        );
        assert_eq!(store.applied(), &tail);
        store
            .rewind(common, keys, &fetched, pinned.applied().position)
            .unwrap();
        drop(store);
        lost += stores.crash(seed);
        let mut store = open(&stores);
        assert_eq!(store.applied().position, common, "durable when it returned");
        assert!(!store.is_serving());
        store.apply(&new.log).unwrap();
        assert_eq!(content(&store), new.model);
    }
    assert_eq!(lost, 0);
}

#[test]
fn only_a_position_that_was_applied_can_be_gone_back_to() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    primary.run(&mut store, &Command::Barrier);
    for (common, until) in [((1, 2), (1, 3)), ((2, 1), (2, 3)), ((1, 1), (1, 0))] {
        let (common, until) = (
            Position::new(common.0, common.1),
            Position::new(until.0, until.1),
        );
        let refused = store.rewind(common, BTreeSet::new(), &[], until);
        assert!(
            matches!(refused, Err(StoreError::Gap { .. })),
            "{refused:?}"
        );
    }
}
