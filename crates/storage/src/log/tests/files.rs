//! Real files: the disk of the operating system, and a log that this format's first version wrote.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // real files are the point

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::disk::{Disk, RealDisk};

fn open_real(path: &Path) -> (Log, Replayed) {
    let mut replayed = Vec::new();
    let disk = Arc::new(RealDisk::open(path).unwrap());
    let log = Log::open(disk, options(SyncPolicy::Always), &mut |lsn, record| {
        replayed.push((lsn, record));
        Ok::<(), Infallible>(())
    });
    (log.unwrap(), replayed)
}

#[test]
fn a_real_directory_keeps_recycles_and_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (mut log, _) = open_real(&path);
    let second = RealDisk::open(&path).map(|_| ()).map_err(|e| e.kind());
    assert_eq!(second, Err(std::io::ErrorKind::WouldBlock));
    let mut all = fill(&mut log, 4);
    log.release_below(all[all.len() / 2].0);
    for n in 0..40 {
        all.push((append(&mut log, &record(n)).unwrap(), record(n)));
        flush(&mut log).unwrap();
    }
    let oldest = log.oldest();
    assert!(oldest > Lsn(0));
    all.retain(|(lsn, _)| *lsn > oldest);
    assert_eq!(read_all(&log, oldest), all);
    log.close().unwrap();
    drop(log);
    let (log, replayed) = open_real(&path);
    assert_eq!(replayed, all);
    assert_eq!(log.cut(), None);
}

#[test]
fn a_real_disk_does_what_the_simulated_one_does() {
    let directory = tempfile::tempdir().unwrap();
    let real = RealDisk::open(directory.path()).unwrap();
    let disks: [&dyn Disk; 2] = [&real, &SimDisk::new()];
    let seen = disks.map(|disk| {
        let file = disk.create("b", 1000).unwrap();
        let taken = disk.create("b", 10).map(|_| ()).unwrap_err().kind();
        let absent = disk.open("a").map(|_| ()).unwrap_err().kind();
        file.write_at(990, &[7; 20]).unwrap();
        file.sync().unwrap();
        disk.rename("b", "a").unwrap();
        disk.create("c", 5).unwrap();
        disk.sync_dir().unwrap();
        let mut tail = [1; 40];
        let n = disk.open("a").unwrap().read_at(980, &mut tail).unwrap();
        file.set_len(995).unwrap();
        file.set_len(1002).unwrap();
        let mut cut = [1; 10];
        let m = file.read_at(993, &mut cut).unwrap();
        disk.remove("a").unwrap();
        let len = file.len().unwrap(); // a handle outlives its name
        assert!(disk.free_bytes().unwrap() > 0);
        (taken, absent, n, tail, m, cut, len, disk.list().unwrap())
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].2, 30);
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/log-v1")
}

fn names(path: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    names
}

/// 31 records, a recycled segment, two incarnations, proper ends.
fn write_known_log(path: &Path) {
    let (mut log, _) = open_real(path);
    for n in 0..30 {
        append(&mut log, &record(n)).unwrap();
        if n % 2 == 1 {
            flush(&mut log).unwrap();
        }
        if n == 24 {
            log.release_below(log.written());
        }
    }
    log.close().unwrap();
    drop(log);
    let (mut log, _) = open_real(path);
    append(&mut log, &record(30)).unwrap();
    log.close().unwrap();
    drop(log);
}

#[test]
fn the_first_version_of_the_format_is_read_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    for name in names(&fixture()) {
        fs::copy(fixture().join(&name), directory.path().join(&name)).unwrap();
    }
    let (log, replayed) = open_real(directory.path());
    let records: Vec<Record> = replayed.iter().map(|(_, record)| record.clone()).collect();
    let first = 31 - records.len() as u64;
    assert_eq!(records, (first..31).map(record).collect::<Vec<_>>());
    assert_eq!(
        (first, replayed[0].0, log.incarnation(), log.cut()),
        FIXTURE
    );
    assert!(log.was_closed());
}

const FIXTURE: (u64, Lsn, u64, Option<Lsn>) = (14, Lsn(5787), 3, None);

#[test]
fn this_version_writes_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    write_known_log(directory.path());
    // The extent came later; without it the fixture is read as before.
    fs::remove_file(directory.path().join("extent")).unwrap();
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
        for name in names(directory.path()) {
            fs::copy(directory.path().join(&name), fixture().join(&name)).unwrap();
        }
    }
    assert_eq!(names(directory.path()), names(&fixture()));
    for name in names(&fixture()) {
        let ours = fs::read(directory.path().join(&name)).unwrap();
        assert!(
            ours == fs::read(fixture().join(&name)).unwrap(),
            "{name:?} differs"
        );
    }
}
