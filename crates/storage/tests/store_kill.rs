//! A real process writes to a real store and is killed: what comes back is a prefix of what
//! it applied, at or above what it had flushed.
//!
//! The test binary starts itself again as the writer.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // processes and pipes are the point of it
#![allow(clippy::unwrap_used)] // helpers of tests, too, may panic

use model::{
    Entry, EntryKind, Mutation, Position, ShardId, Stamp,
    mutation::{Header, KeyKind},
};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};
use storage::store::{
    Background, BackgroundOptions, CacheBudget, DigestState, LsmRows, LsmStores, MemoryStores,
    ShardStore, Stores,
};

const DIR: &str = "QUIRE_STORE_KILL_DIR";
const SHARD: ShardId = ShardId(1);

fn open(dir: &Path) -> ShardStore<LsmRows> {
    let options = BackgroundOptions {
        memtable_bytes: 64 << 10,
        ..BackgroundOptions::default()
    };
    let stores = LsmStores::new(dir, Background::start(options).unwrap());
    let budget = CacheBudget { bytes: 1 << 20 };
    ShardStore::open(stores.open(SHARD).unwrap(), budget).unwrap()
}

/// The entry at `index`: always the same, and every one of them matters to the digest.
fn entry(index: u64) -> Entry {
    let mut m = Mutation::new();
    let key = |n: u64| format!("key{n}");
    let value = format!("{index:0200}");
    if index.is_multiple_of(5000) {
        m.clear_shard();
    } else if index.is_multiple_of(7) {
        let mut header = Header::new(KeyKind::Hash);
        header.fields = 1;
        let field = [(&b"field"[..], value.as_bytes())];
        m.set_fields(
            key(index).as_bytes(),
            true,
            Some(&header),
            field.into_iter(),
        );
    } else if index.is_multiple_of(11) {
        m.delete(key(index - 1).as_bytes(), &Header::new(KeyKind::String));
    } else {
        let header = Header::new(KeyKind::String);
        m.put_string(key(index).as_bytes(), true, &header, value.as_bytes());
    }
    let position = Position::new(1, index);
    let stamp = Stamp(index * 4);
    Entry::new(position, stamp, EntryKind::Mutation, m.ops(), m.bytes())
}

fn digest(store: &ShardStore<impl storage::store::Rows>) -> (u64, Vec<u128>) {
    let mut state = DigestState::new();
    let snapshot = store.snapshot().unwrap();
    while !snapshot.digest(10_000, &mut state).unwrap() {}
    (state.keys(), state.buckets().to_vec())
}

/// The child: applies entries and says what it has flushed, until it is killed.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut store = open(Path::new(&dir));
    println!("flushed 0");
    loop {
        let next = store.applied().position.index + 1;
        let entries: Vec<Entry> = (next..next + 1 + next % 40).map(entry).collect();
        store.apply(&entries).unwrap();
        store.maintain().unwrap();
        let flushed = store.flushed().unwrap();
        println!("flushed {}", flushed.index);
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_killed_process_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = {
        let rows = MemoryStores::new().open(SHARD).unwrap();
        ShardStore::open(rows, CacheBudget { bytes: 1 << 20 }).unwrap()
    };
    for round in 0..4u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Kill it in the middle of its work, each time further on; not before it has flushed
        // something, however long its other threads wait for a processor.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = expected.applied().position.index;
        let mut flushed = 0;
        for (n, line) in lines
            .map_while(Result::ok)
            .filter_map(|l| l.strip_prefix("flushed ")?.parse().ok())
            .enumerate()
        {
            flushed = line;
            if n >= 60 + 45 * round as usize && flushed > before {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let store = open(dir.path());
        let applied = store.applied().clone();
        assert!(applied.position.index >= flushed, "{applied:?} < {flushed}");
        let from = expected.applied().position.index;
        let missing: Vec<Entry> = (from + 1..=applied.position.index).map(entry).collect();
        expected.apply(&missing).unwrap();
        assert_eq!(expected.applied(), &applied, "round {round}");
        assert_eq!(digest(&expected), digest(&store), "round {round}");
    }
    let reached = expected.applied().position.index;
    assert!(
        reached > 0,
        "nothing was ever flushed: the test tests nothing"
    );
}
