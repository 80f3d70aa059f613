//! A data directory written by this version of the format must be readable by later ones, unless
//! they say otherwise.
//!
//! `testdata/store-v2` was written from `history`; it is never written again.
#![allow(clippy::disallowed_methods)] // files are the point of it

use super::{primary::*, *};
use model::{Position, ShardId};
use std::{fs, path::Path};

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/store-v2")
}

fn history() -> Vec<Command> {
    let hash = |key, count, value| Command::HSet {
        key,
        first: 0,
        count,
        value,
    };
    vec![
        Command::Barrier,
        Command::Set {
            key: 0,
            value: b"hello".to_vec(),
            expires_ms: 0,
        },
        Command::Set {
            key: 1,
            value: b"expires".to_vec(),
            expires_ms: 40,
        },
        hash(2, 3, 7),
        hash(3, 200, 1), // deleted, with cells to purge
        Command::Del(3),
        hash(4, 150, 2), // and one that lives again over dead cells
        Command::Del(4),
        hash(4, 2, 3),
        Command::Barrier,
    ]
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let to = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_tree(&item.path(), &to);
        } else {
            fs::copy(item.path(), to).unwrap();
        }
    }
}

#[test]
fn a_store_of_version_2_is_read() {
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() && !fixture().exists() {
        write_fixture();
    }
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixture(), dir.path());
    let rows = lsm(dir.path()).open(ShardId(1)).unwrap();
    let mut store = ShardStore::open(rows, budget()).unwrap();
    assert_eq!(store.applied().position, Position::new(2, 10));
    assert_eq!(store.applied().history.starts().len(), 2);
    let (_, value) = store.string(&name(0)).unwrap().unwrap();
    assert_eq!(value.as_deref(), Some(&b"hello"[..]));
    let found = store.expired(40, &ExpiryPlace::at(0), 9).unwrap();
    assert_eq!(found.keys, vec![name(1)]);
    let header = store.header(&name(2)).unwrap().unwrap();
    let field = store.field(&name(2), &header, b"f2").unwrap().unwrap();
    assert_eq!(field, vec![7; 7]);
    let (dead, _) = store.to_purge(&DeadPlace::default(), 10).unwrap();
    assert_eq!(dead.len(), 1);
    // All of it, and what it becomes from here on.
    let memory = MemoryStores::new().open(ShardId(1)).unwrap();
    let mut other = ShardStore::open(memory, budget()).unwrap();
    let mut primary = Primary::default();
    for command in history() {
        primary.run(&mut other, &command);
    }
    assert_eq!(content(&store), primary.model);
    primary.run(&mut store, &Command::Del(4));
    assert_eq!(content(&store), primary.model);
}

/// Writes the fixture, which must not be there yet.
fn write_fixture() {
    let stores = lsm(&fixture());
    let mut store = ShardStore::open(stores.open(ShardId(1)).unwrap(), budget()).unwrap();
    let mut primary = Primary::default();
    for command in history() {
        primary.run(&mut store, &command);
    }
    store.flush().unwrap();
}
