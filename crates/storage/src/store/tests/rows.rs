//! Rows in a tree against an ordered map: whatever is in memtables, set aside, flushed or being
//! compacted, they read as one, and so do snapshots, as of when they were taken.

use super::lsm;
use crate::store::{RowBatch, Rows, RowsSnapshot, Stores, Visit};
use model::ShardId;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    /// Rows by number, with the length of a value; None removes.
    Write(Vec<(u8, Option<u16>)>),
    Snapshot,
    /// Drops the oldest snapshot.
    Forget,
    Maintain,
    FlushSoon,
    Flush,
    Reset,
    /// Everything is flushed first: this is no crash.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let row = (any::<u8>(), proptest::option::weighted(0.7, 0..900u16));
    prop_oneof![
        8 => proptest::collection::vec(row, 1..12).prop_map(Step::Write),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Forget),
        4 => Just(Step::Maintain),
        1 => Just(Step::FlushSoon),
        1 => Just(Step::Flush),
        1 => Just(Step::Reset),
        1 => Just(Step::Reopen),
    ]
}

/// Some share their first eight bytes, some are shorter than that.
fn row_key(number: u8) -> Vec<u8> {
    match number % 3 {
        0 => format!("k{number}").into_bytes(),
        1 => format!("k-the-same-beginning-{number}").into_bytes(),
        _ => [&[b'k', number, 0, 0][..], &vec![0; usize::from(number)]].concat(),
    }
}

fn read(
    scan: impl FnOnce(&[u8], &[u8], Visit<'_>),
    from: &[u8],
    to: &[u8],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    scan(from, to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        true
    });
    found
}

fn range(map: &Map, from: &[u8], to: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = map
        .iter()
        .filter(|(k, _)| k.as_slice() >= from && k.as_slice() < to);
    rows.map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn check(rows: &impl Rows, map: &Map, held: &[(impl RowsSnapshot, Map)]) {
    let all = read(|f, t, v| rows.scan(f, t, v).unwrap(), b"k", b"l");
    assert_eq!(all, range(map, b"k", b"l"));
    let (from, to) = (row_key(40), row_key(190));
    let some = read(|f, t, v| rows.scan(f, t, v).unwrap(), &from, &to);
    assert_eq!(some, range(map, &from, &to));
    for number in 0..=255 {
        let key = row_key(number);
        let value = rows.get(&key).unwrap();
        assert_eq!(value.as_deref(), map.get(&key).map(Vec::as_slice));
    }
    for (snapshot, then) in held {
        let all = read(|f, t, v| snapshot.scan(f, t, v).unwrap(), b"k", b"l");
        assert_eq!(all, range(then, b"k", b"l"));
    }
    let mut visits = 0;
    rows.scan(b"k", b"l", &mut |_, _| {
        visits += 1;
        visits < 3
    })
    .unwrap();
    assert_eq!(visits, map.len().min(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn rows_in_a_tree_are_an_ordered_map(steps in proptest::collection::vec(step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let stores = lsm(dir.path());
        let mut rows = stores.open(ShardId(1)).unwrap();
        let (mut map, mut held) = (Map::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(changes) => {
                    let mut batch = RowBatch::new();
                    for (row, length) in changes {
                        let key = row_key(row);
                        if let Some(length) = length {
                            let value = vec![number as u8; length.into()];
                            batch.put(&key, &value);
                            map.insert(key, value);
                        } else {
                            batch.remove(&key);
                            map.remove(&key);
                        }
                    }
                    rows.write(&mut batch).unwrap();
                }
                Step::Snapshot => held.push((rows.snapshot(), map.clone())),
                Step::Forget if held.is_empty() => {}
                Step::Forget => drop(held.remove(0)),
                Step::Maintain => drop(rows.maintain().unwrap()),
                Step::FlushSoon => rows.flush_soon().unwrap(),
                Step::Flush => rows.flush().unwrap(),
                Step::Reset => {
                    let mut batch = RowBatch::new();
                    batch.put(b"k-reset", &[number as u8]);
                    rows.reset(&mut batch).unwrap();
                    map = Map::from([(b"k-reset".to_vec(), vec![number as u8])]);
                }
                Step::Reopen => {
                    rows.flush().unwrap();
                    held.clear();
                    drop(rows);
                    rows = stores.open(ShardId(1)).unwrap();
                }
            }
            if number % 5 == 0 {
                check(&rows, &map, &held);
            }
        }
        check(&rows, &map, &held);
    }
}

/// What holds little, all of which is in the log as well, costs no file before it is flushed.
#[test]
fn a_shard_has_files_once_there_is_something_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let stores = lsm(&path);
    let mut open: Vec<_> = (0..50).map(|n| stores.open(ShardId(n)).unwrap()).collect();
    for rows in &mut open {
        let mut batch = RowBatch::new();
        batch.put(b"k", b"v");
        rows.write(&mut batch).unwrap();
        rows.maintain().unwrap();
    }
    assert!(!path.exists());
    assert_eq!(stores.list().unwrap(), []);
    let snapshot = open[7].snapshot();
    open[7].flush().unwrap();
    assert_eq!(stores.list().unwrap(), [ShardId(7)]);
    let seen = |scan: &dyn Fn(Visit<'_>)| {
        let mut seen = Vec::new();
        scan(&mut |row, value| {
            seen.push((row.to_vec(), value.to_vec()));
            true
        });
        seen
    };
    let row = vec![(b"k".to_vec(), b"v".to_vec())];
    assert_eq!(seen(&|visit| open[7].scan(b"a", b"z", visit).unwrap()), row);
    assert_eq!(
        seen(&|visit| snapshot.scan(b"a", b"z", visit).unwrap()),
        row
    );
    drop((open, snapshot));

    // What was in memory is gone with the process, and the log's to bring back.
    let rows = |n| stores.open(ShardId(n)).unwrap();
    assert_eq!(rows(7).find(b"k").unwrap().unwrap().value, "v");
    assert!(rows(8).find(b"k").unwrap().is_none());
    stores.destroy(ShardId(8)).unwrap();
    stores.destroy(ShardId(7)).unwrap();
    assert_eq!(stores.list().unwrap(), []);
    assert!(rows(7).find(b"k").unwrap().is_none());
    // A directory that was there and is gone is no shard that was never written to.
    rows(9).flush().unwrap();
    let mut nine = rows(9);
    let mut batch = RowBatch::new();
    batch.put(b"k", b"v");
    nine.write(&mut batch).unwrap();
    nine.flush().unwrap();
    drop(nine);
    #[allow(clippy::disallowed_methods)] // it is what a test takes away
    std::fs::remove_dir_all(path.join("9")).unwrap();
    assert!(stores.open(ShardId(9)).is_err());
}
