//! Files of a store flipped, zeroed, cut and deleted at random: what is answered is what was
//! written, or an error that says that the store is damaged; never a panic, never less in silence.
#![allow(clippy::disallowed_methods)] // the files are those of the trees

use super::*;
use model::{
    Entry, EntryKind, Position, ShardId, Stamp,
    mutation::{Header, KeyKind, Mutation},
};
use proptest::prelude::*;
use std::{
    fs,
    path::{Path, PathBuf},
};

const SHARD: ShardId = ShardId(4);
const KEYS: u64 = 600;

fn key(n: u64) -> Vec<u8> {
    format!("key{n:05}").into_bytes()
}

fn value(n: u64) -> Vec<u8> {
    (0..120).map(|i| (n * 31 + i * n) as u8).collect()
}

fn put(store: &mut ShardStore<LsmRows>, n: u64) {
    let mut m = Mutation::new();
    m.put_string(&key(n), true, &Header::new(KeyKind::String), &value(n));
    let entry = Entry::new(
        Position::new(1, n),
        Stamp(n),
        EntryKind::Mutation,
        1,
        m.bytes(),
    );
    store.apply(&[entry]).unwrap();
}

fn open(dir: &Path) -> Result<ShardStore<LsmRows>, StoreError> {
    ShardStore::open(lsm(&dir.join("store")).open(SHARD)?, budget())
}

/// Several files, all of it flushed.
fn fill(dir: &Path) {
    let mut store = open(dir).unwrap();
    for n in 1..=KEYS {
        put(&mut store, n);
        if n % 150 == 0 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for item in fs::read_dir(dir).unwrap().flatten() {
        match item.file_type().unwrap().is_dir() {
            true => all.extend(files(&item.path())),
            false => all.push(item.path()),
        }
    }
    all.sort();
    all
}

/// Damages a file; false if that changed nothing.
fn spoil(path: &Path, how: u8, at: usize, len: usize) -> bool {
    let whole = fs::read(path).unwrap();
    let at = at % whole.len().max(1);
    let end = (at + len).min(whole.len());
    let mut bytes = whole.clone();
    match how {
        0 => match bytes.get_mut(at) {
            Some(byte) => *byte ^= 1 << (len % 8),
            None => return false,
        },
        1 => bytes[at..end].fill(0),
        2 => bytes.truncate(at),
        _ => {
            fs::remove_file(path).unwrap();
            return true;
        }
    }
    fs::write(path, &bytes).unwrap();
    bytes != whole
}

/// Every key is as it was written, or the store says that it is damaged.
fn judge(dir: &Path, what: &str) -> Result<bool, TestCaseError> {
    let store = match open(dir) {
        Ok(store) => store,
        Err(error) => {
            prop_assert!(error.is_damage(), "{what}: {error}");
            return Ok(true);
        }
    };
    prop_assert_eq!(
        store.applied().position.index,
        KEYS,
        "{}: lost in silence",
        what
    );
    let mut failed = false;
    for n in 1..=KEYS {
        match store.string(&key(n)) {
            Ok(found) => {
                let found = found.and_then(|(_, value)| value);
                prop_assert_eq!(found.as_deref(), Some(&value(n)[..]), "{}: key {}", what, n);
            }
            Err(error) => {
                prop_assert!(error.is_damage(), "{what}: {error}");
                failed = true;
            }
        }
    }
    prop_assert_eq!(failed, store.damage().is_some());
    // A scrub finds what no look-up has met yet.
    if let Some(scrub) = store.scrub() {
        scrub(&mut |_| true);
    }
    prop_assert!(!failed || store.damage().is_some());
    Ok(store.damage().is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_damaged_file_is_found_and_never_passed_over(
        file in any::<prop::sample::Index>(),
        how in 0..4u8,
        at in any::<usize>(),
        len in 1..300usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let store = dir.path().join("store").join(SHARD.to_string());
        let files = files(&store);
        let path = file.get(&files);
        let changed = spoil(path, how, at, len);
        let what = format!("{} how {how} at {at} len {len}", path.display());
        let found = judge(dir.path(), &what)?;
        prop_assert_eq!(found, changed, "{}", what);
    }
}

/// It is so short that random damage seldom meets each of its bytes.
#[test]
fn every_byte_of_what_names_the_version_counts() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let store = dir.path().join("store").join(SHARD.to_string());
    let current = files(&store).into_iter().find(|f| f.ends_with("current"));
    let current = current.unwrap();
    let whole = fs::read(&current).unwrap();
    for at in 0..whole.len() {
        assert!(spoil(&current, 0, at, 1));
        let error = open(dir.path()).err();
        assert!(error.is_some_and(|e| e.is_damage()), "byte {at}");
        fs::write(&current, &whole).unwrap();
    }
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_store_whose_directory_or_tree_is_gone_does_not_come_back_empty() {
    for gone in [
        "store/4",
        "store/4/CURRENT",
        "store/4/g0",
        "store/4/g0/current",
        "store",
    ] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let path = dir.path().join(gone);
        match path.is_dir() {
            true => fs::remove_dir_all(&path).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
        assert_eq!(
            lsm(&dir.path().join("store")).list().unwrap(),
            [SHARD],
            "{gone}"
        );
        let error = open(dir.path())
            .err()
            .unwrap_or_else(|| panic!("{gone}: it is opened"));
        assert!(error.is_damage(), "{gone}: {error}");
    }
}

#[test]
fn a_store_that_was_destroyed_does_come_back_empty() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let stores = lsm(&dir.path().join("store"));
    stores.destroy(SHARD).unwrap();
    assert_eq!(stores.list().unwrap(), []);
    assert_eq!(open(dir.path()).unwrap().applied().position, Position::ZERO);
}

#[test]
fn what_takes_the_place_of_a_damaged_store_says_so_and_what_was_there_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for times in 1..=3 {
        fill(dir.path());
        let store = dir.path().join("store/4");
        fs::write(store.join("CURRENT"), "nonsense").unwrap();
        let before = files(&store).len();
        let error = open(dir.path()).err().unwrap();
        let stores = lsm(&dir.path().join("store"));
        let rows = ShardStore::<LsmRows>::in_place_of_damaged(&error.to_string());
        drop(stores.replace(SHARD, rows.clone()).unwrap());
        assert_eq!(
            files(&dir.path().join(format!("store/4.damaged-{times}"))).len(),
            before
        );
        let mut opened = open(dir.path()).unwrap();
        assert!(opened.is_installing() && opened.lost_to().unwrap().contains("CURRENT"));
        opened.begin_install().unwrap();
        assert_eq!(opened.lost_to(), None);
        drop(opened);
        stores.destroy(SHARD).unwrap();
    }
    // What breaks again and again is for a person.
    fill(dir.path());
    let stores = lsm(&dir.path().join("store"));
    let rows = ShardStore::<LsmRows>::in_place_of_damaged("again");
    let error = stores.replace(SHARD, rows.clone()).err().unwrap();
    assert!(
        matches!(error, StoreError::DamagedAgain { .. }) && !error.is_damage(),
        "{error}"
    );
    assert!(!judge(dir.path(), "nothing was changed").unwrap());
}

/// A copy may be as of less than the replica had acknowledged before its store was lost: until it
/// has as much again it must not pass for one that has it.
#[test]
fn what_takes_the_place_of_a_damaged_store_counts_only_once_it_has_as_much_as_was_acknowledged() {
    let stores = MemoryStores::new();
    let entry = |epoch, n| {
        let at = Position::new(epoch, n);
        Entry::new(at, Stamp(n), EntryKind::Barrier, 0, &[])
    };
    let at = |epoch, index| {
        let position = Position::new(epoch, index);
        let mut history = model::EpochHistory::default();
        history.note(Position::new(epoch, 1));
        Applied {
            position,
            history,
            ..Applied::default()
        }
    };
    let filled = |applied: Applied| {
        let mut store = ShardStore::open(stores.open(SHARD).unwrap(), budget()).unwrap();
        store.begin_install_upto(Position::new(3, 20)).unwrap();
        // Cut short by a crash, and begun again.
        drop(store);
        let mut store = ShardStore::open(stores.open(SHARD).unwrap(), budget()).unwrap();
        store.begin_install().unwrap();
        store.finish_install(applied).unwrap();
        store
    };
    let mut store = filled(at(3, 10));
    assert!(!store.is_serving() && store.rewinding_until() == Some(Position::new(3, 20)));
    for n in 11..=20 {
        assert!(!store.is_serving(), "{n}");
        store.apply(&[entry(3, n)]).unwrap();
    }
    assert!(store.is_serving());
    assert!(filled(at(3, 20)).is_serving());
    assert!(
        filled(at(4, 10)).is_serving(),
        "of a primary that was named without it"
    );
}
