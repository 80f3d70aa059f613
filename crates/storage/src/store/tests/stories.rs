//! Particular cases, told one by one.

use super::{primary::*, *};
use model::{Entry, EntryKind, Position, ShardId, Stamp, mutation::KeyKind};

fn open<S: Stores>(stores: &S) -> ShardStore<S::Rows> {
    ShardStore::open(stores.open(ShardId(1)).unwrap(), budget()).unwrap()
}

fn big_hash(key: u8, value: u8) -> Command {
    Command::HSet {
        key,
        first: 0,
        count: 200,
        value,
    }
}

#[test]
fn a_large_hash_deleted_and_made_again_is_purged_and_never_comes_back() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    for command in [
        big_hash(1, 1),
        Command::Del(1),
        Command::HSet {
            key: 1,
            first: 10,
            count: 2,
            value: 9,
        },
    ] {
        primary.run(&mut store, &command);
    }
    let key = name(1);
    let header = store.header(&key).unwrap().unwrap();
    assert_ne!(header.deleted, Stamp::ZERO);
    assert_eq!(content(&store), primary.model);
    let mut steps = 0;
    while !dead(&store, 50).is_empty() {
        primary.run(&mut store, &Command::Purge(50));
        assert_eq!(content(&store), primary.model);
        steps += 1;
    }
    assert_eq!(steps, 4, "198 dead fields by 50, the end with the last");
    let header = store.header(&key).unwrap().unwrap();
    assert_eq!((header.deleted, header.fields), (Stamp::ZERO, 2));
    let rows = store
        .snapshot()
        .unwrap()
        .next_chunk(None, usize::MAX)
        .unwrap();
    assert_eq!(rows.rows.len(), 3, "the key row and two fields are left");
}

#[test]
fn purging_spares_a_field_written_since_it_was_found_dead() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    for command in [big_hash(1, 1), Command::Del(1)] {
        primary.run(&mut store, &command);
    }
    let found = dead(&store, 1000).remove(0);
    assert_eq!(found.fields.len(), 200);
    primary.run(
        &mut store,
        &Command::HSet {
            key: 1,
            first: 3,
            count: 1,
            value: 5,
        },
    );
    let mut m = model::Mutation::new();
    m.remove_fields(&found.key, None, found.fields.iter().map(|f| &f[..]));
    primary.submit(&mut store, &m);
    assert_eq!(content(&store), primary.model);
}

#[test]
fn gaps_are_refused_and_nothing_changes() {
    let stores = MemoryStores::new();
    let mut store = open(&stores);
    let entry = |epoch, index| {
        let position = Position::new(epoch, index);
        Entry::new(position, Stamp(index), EntryKind::Barrier, 0, &[])
    };
    store.apply(&[entry(2, 1)]).unwrap();
    for bad in [entry(2, 3), entry(1, 2)] {
        let refused = store.apply(&[bad]);
        assert!(
            matches!(refused, Err(StoreError::Gap { .. })),
            "{refused:?}"
        );
    }
    let garbage = Entry::new(
        Position::new(2, 2),
        Stamp(9),
        EntryKind::Mutation,
        1,
        b"\x09zz",
    );
    assert!(matches!(
        store.apply(&[garbage]),
        Err(StoreError::Malformed { .. })
    ));
    assert_eq!(store.applied().position, Position::new(2, 1));
    assert_eq!(store.applied().history.starts().len(), 1);
}

#[test]
fn a_copy_cut_short_begins_again_and_serves_nothing_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let stores = lsm(dir.path());
    let mut primary = Primary::default();
    let mut store = open(&stores);
    primary.run(&mut store, &big_hash(1, 1));
    let chunk = store.snapshot().unwrap().next_chunk(None, 500).unwrap();
    store.begin_install().unwrap();
    store.install_chunk(&chunk.rows).unwrap();
    drop(store);
    let mut store = open(&stores);
    assert!(store.is_installing());
    assert!(matches!(store.header(b"k"), Err(StoreError::Installing)));
    assert!(matches!(
        store.apply(&primary.log),
        Err(StoreError::Installing)
    ));
    assert_eq!(store.flushed().unwrap(), Position::ZERO);
    store.begin_install().unwrap();
    store.finish_install(Applied::default()).unwrap();
    store.apply(&primary.log).unwrap();
    assert_eq!(content(&store), primary.model);
}

#[test]
fn rows_of_a_peer_are_checked() {
    let stores = MemoryStores::new();
    let mut store = open(&stores);
    store.begin_install().unwrap();
    for row in [
        &b""[..],
        b"mapplied",
        b"k",
        b"kxxxxxxxx\x03foo\0",
        b"z",
        b"p",
        b"x1",
    ] {
        let rows = [(row.to_vec().into(), bytes::Bytes::new())];
        assert!(store.install_chunk(&rows).is_err(), "{row:?} was taken");
    }
}

#[test]
fn clearing_survives_a_restart_whole() {
    let dir = tempfile::tempdir().unwrap();
    let stores = lsm(dir.path());
    let mut primary = Primary::default();
    let mut store = open(&stores);
    for key in 0..6 {
        primary.run(&mut store, &big_hash(key, 1));
    }
    store.flush().unwrap();
    let old = store.snapshot().unwrap();
    primary.run(&mut store, &Command::Clear);
    assert_eq!(store.flushed().unwrap(), store.applied().position);
    assert_eq!(
        old.next_chunk(None, usize::MAX).unwrap().rows.len(),
        6 * 201
    );
    drop((old, store));
    let store = open(&stores);
    assert_eq!(store.applied().position.index, 7);
    assert_eq!(content(&store), Model::new());
}

#[test]
fn renewing_an_expiry_leaves_one_row_of_the_index() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    for expires_ms in 1..20 {
        let value = b"v".to_vec();
        primary.run(
            &mut store,
            &Command::Set {
                key: 1,
                value,
                expires_ms,
            },
        );
    }
    let rows = store
        .snapshot()
        .unwrap()
        .next_chunk(None, usize::MAX)
        .unwrap()
        .rows;
    assert_eq!(rows.iter().filter(|(k, _)| k[0] == b'x').count(), 1);
    let begin = ExpiryPlace::at(0);
    let found = store.expired(18, &begin, 10).unwrap();
    assert!(found.keys.is_empty() && found.more.is_none());
    assert_eq!(found.next_ms, 19);
    let found = store.expired(19, &begin, 10).unwrap();
    assert_eq!(found.keys, vec![name(1)]);
    assert_eq!(found.next_ms, u64::MAX);
}

#[test]
fn a_look_for_expired_keys_goes_on_where_the_last_one_ended_and_news_tell_what_came_behind() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    assert_eq!(store.take_news().expires_ms, 0, "what is there is unknown");
    let mut set = |store: &mut ShardStore<MemoryRows>, key: u8, expires_ms| {
        let value = b"v".to_vec();
        primary.run(
            store,
            &Command::Set {
                key,
                value,
                expires_ms,
            },
        );
    };
    for key in 0..10 {
        set(&mut store, key, 100 + u64::from(key) / 4);
    }
    set(&mut store, 10, 0);
    assert_eq!(store.take_news().expires_ms, 100);
    let mut place = ExpiryPlace::at(0);
    let mut all = Vec::new();
    loop {
        let found = store.expired(101, &place, 3).unwrap();
        assert!(found.keys.len() <= 3);
        all.extend(found.keys);
        let Some((next, ms)) = found.more else {
            assert_eq!(found.next_ms, 102);
            break;
        };
        assert!((100..=101).contains(&ms));
        place = next;
    }
    all.sort();
    assert_eq!(all, (0..8).map(name).collect::<Vec<_>>());
    assert_eq!(store.take_news().expires_ms, u64::MAX);
    set(&mut store, 11, 101);
    assert_eq!(store.take_news().expires_ms, 101);
}

#[test]
fn keys_with_dead_cells_are_found_one_after_the_other() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    for key in 0..3 {
        primary.run(&mut store, &big_hash(key, 1));
    }
    store.take_news();
    for key in 0..3 {
        primary.run(&mut store, &Command::Del(key));
        assert!(store.take_news().dead);
    }
    let (mut place, mut seen) = (DeadPlace::default(), Vec::new());
    loop {
        let (found, next) = store.to_purge(&place, 150).unwrap();
        let fields: usize = found.iter().map(|dead| dead.fields.len()).sum();
        assert!(fields <= 150);
        seen.extend(
            found
                .iter()
                .map(|dead| (dead.key.clone(), dead.fields.len(), dead.all)),
        );
        let Some(next) = next else { break };
        place = next;
    }
    let cells = |key| {
        seen.iter()
            .filter(|s| s.0 == name(key))
            .map(|s| s.1)
            .sum::<usize>()
    };
    assert!((0..3).all(|key| cells(key) == 200));
    assert!(
        seen.iter().all(|(_, _, all)| !all),
        "none of them was seen whole"
    );
    let (found, next) = store.to_purge(&DeadPlace::default(), 1000).unwrap();
    assert!(next.is_none() && found.len() == 3 && found.iter().all(|dead| dead.all));
}

#[test]
fn a_handle_from_before_a_crash_is_refused() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    primary.run(&mut store, &big_hash(1, 1));
    stores.crash(0);
    assert!(matches!(store.flush(), Err(StoreError::Retired { .. })));
}

#[test]
fn shards_are_listed_and_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let stores = lsm(&dir.path().join("new"));
    assert_eq!(stores.list().unwrap(), vec![]);
    for shard in [3, 20] {
        let mut rows = stores.open(ShardId(shard)).unwrap();
        let mut batch = RowBatch::new();
        batch.put(b"k", b"v");
        rows.write(&mut batch).unwrap();
        rows.flush().unwrap();
    }
    assert_eq!(stores.list().unwrap(), vec![ShardId(3), ShardId(20)]);
    stores.destroy(ShardId(3)).unwrap();
    stores.destroy(ShardId(3)).unwrap();
    assert_eq!(stores.list().unwrap(), vec![ShardId(20)]);
}

#[test]
fn small_keys_are_served_from_the_cache() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let bytes = 1 << 20;
    let mut store =
        ShardStore::open(stores.open(ShardId(1)).unwrap(), CacheBudget { bytes }).unwrap();
    primary.run(
        &mut store,
        &Command::HSet {
            key: 1,
            first: 0,
            count: 9,
            value: 1,
        },
    );
    primary.run(
        &mut store,
        &Command::Set {
            key: 2,
            value: vec![1],
            expires_ms: 0,
        },
    );
    let mut misses = Vec::new();
    for _ in 0..2 {
        let before = store.cache_stats().misses;
        assert_eq!(content(&store), primary.model);
        assert_eq!(store.header(&name(1)).unwrap().unwrap().kind, KeyKind::Hash);
        misses.push(store.cache_stats().misses - before);
    }
    assert_eq!(misses[1], 8, "the four absent keys, asked twice each");
    primary.run(&mut store, &Command::Del(2));
    assert_eq!(content(&store), primary.model);
}

#[test]
fn fields_of_a_large_hash_are_served_from_the_cache() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = ShardStore::open(stores.open(ShardId(1)).unwrap(), roomy()).unwrap();
    let hset = |first, count| Command::HSet {
        key: 1,
        first,
        count,
        value: 1,
    };
    let hdel = |first, count| Command::HDel {
        key: 1,
        first,
        count,
    };
    primary.run(&mut store, &hset(0, 200));
    assert_eq!(
        store.cache_stats().fields,
        200,
        "all came in as they were written"
    );
    let misses = |store: &ShardStore<MemoryRows>| {
        let before = store.cache_stats().misses;
        let header = store.header(&name(1)).unwrap().unwrap();
        for n in 0..200 {
            let field = format!("f{n}");
            assert!(
                store
                    .has_field(&name(1), &header, field.as_bytes())
                    .unwrap()
            );
            let value = store.field(&name(1), &header, field.as_bytes()).unwrap();
            assert_eq!(value.as_deref(), Some(&[1; 7][..]));
        }
        store.cache_stats().misses - before
    };
    assert_eq!(misses(&store), 0);
    primary.run(&mut store, &hdel(0, 60));
    assert_eq!(store.cache_stats().fields, 140);
    primary.run(&mut store, &hset(0, 60));
    assert_eq!(misses(&store), 0);
    assert_eq!(content(&store), primary.model);
    // Read from files they come in, too.
    store.clear_cache();
    assert!(misses(&store) > 0);
    assert!(store.cache_stats().fields > 50);
    assert_eq!(content(&store), primary.model);
    // It has become small, and goes without a tombstone: nothing is left of it in another.
    primary.run(&mut store, &hdel(0, 190));
    assert_eq!(content(&store), primary.model);
    primary.run(&mut store, &Command::Del(1));
    assert_eq!(store.header(&name(1)).unwrap(), None);
    assert_eq!(store.cache_stats().fields, 0);
    primary.run(&mut store, &hset(0, 150));
    assert_eq!(content(&store), primary.model);
}

#[test]
fn what_is_in_no_memory_is_read_elsewhere_once_look_ups_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let background = Background::start(BackgroundOptions::default()).unwrap();
    let stores = LsmStores::new(dir.path(), background.clone());
    let mut store = open(&stores);
    let mut primary = Primary::default();
    let set = |key| Command::Set {
        key,
        value: vec![key; 100],
        expires_ms: 0,
    };
    for key in 0..3 {
        primary.run(&mut store, &set(key));
    }
    let hset = |first, count| Command::HSet {
        key: 4,
        first,
        count,
        value: 1,
    };
    primary.run(&mut store, &hset(0, 150));
    store.flush().unwrap();
    store.clear_cache();
    store.string(&name(0)).unwrap();
    let header = store.header(&name(4)).unwrap().unwrap();
    store.field(&name(4), &header, b"f0").unwrap();
    primary.run(&mut store, &set(3));
    primary.run(&mut store, &hset(149, 1));
    let names: Vec<_> = (0..5).map(name).collect();
    let key = |key: usize| Guess {
        key: &names[key],
        field: None,
    };
    let field = |field| Guess {
        field: Some(field),
        ..key(4)
    };
    assert!(store.prefetch(&[key(1)]).is_none(), "it need not wait");
    background.waits.are_long();
    // Cached or not flushed; what is not there is asked for as well.
    let known = [key(0), key(3), field(b"f0"), field(b"f149")];
    assert!(store.prefetch(&known).is_none());
    let too_long = [b'x'; model::limits::KEY_BYTES_MAX + 1];
    let of_none = Guess {
        key: &too_long,
        field: None,
    };
    assert!(store.prefetch(&[of_none]).is_none());
    let absent = Guess {
        key: b"absent",
        field: None,
    };
    let fields = [field(b"f1"), field(b"absent"), field(&too_long), key(4)];
    let unknown = [&[key(1), key(2), absent][..], &fields].concat();
    store.warm(&unknown);
    let prefetches: Vec<_> = (unknown.iter())
        .map(|guess| store.prefetch(&[known[0], *guess, known[1]]).unwrap())
        .collect();
    // They may outlive what they read for.
    let before = content(&store);
    store.flush().unwrap();
    drop(store);
    for prefetch in prefetches {
        prefetch.run();
    }
    let store = open(&stores);
    assert_eq!(content(&store), before);
}

#[test]
fn a_slice_of_a_digest_reads_so_many_bytes_however_many_rows_they_are() {
    let stores = MemoryStores::new();
    let mut primary = Primary::default();
    let mut store = open(&stores);
    primary.run(&mut store, &big_hash(1, 1));
    let snapshot = store.snapshot().unwrap();
    let rows = snapshot.next_chunk(None, usize::MAX).unwrap().rows;
    let bytes: usize = rows
        .iter()
        .map(|(row, value)| row.len() + value.len())
        .sum();
    let slices = |bytes_max| {
        let (mut state, mut slices) = (DigestState::new(), 1);
        while !snapshot.digest(bytes_max, &mut state).unwrap() {
            slices += 1;
        }
        let (mut keys, mut keys_slices) = (BucketKeys::new(bucket_of(&name(1)), usize::MAX), 1);
        while !snapshot.bucket_keys(bytes_max, &mut keys).unwrap() {
            keys_slices += 1;
        }
        assert_eq!(slices, keys_slices);
        slices
    };
    assert_eq!(slices(usize::MAX), 1);
    assert!(
        slices(1000) >= bytes / 1000,
        "{} of {bytes} bytes",
        slices(1000)
    );
    assert!(slices(1) >= rows.len());
}
