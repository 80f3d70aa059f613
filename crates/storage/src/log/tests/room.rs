//! A full disk passes; a broken one does not.

use super::*;
use crate::disk::{Disk, Fault};

#[test]
fn a_full_disk_refuses_keeps_the_batch_and_recovers_by_itself() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(25 << 10)); // two segments and a half
    let (mut log, _) = open(&disk);
    let mut all = Vec::new();
    let mut waiting = loop {
        let record = record(all.len() as u64);
        all.push((append(&mut log, &record).unwrap(), record));
        let durable = log.durable();
        match flush(&mut log) {
            Ok(lsn) => assert_eq!(lsn, log.tip()),
            Err(LogError::NoSpace { file }) => {
                assert_eq!(file, "00000000000000000003.new");
                break durable;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(log.lacking() == Some(Lacking::Space) && !log.is_stopped());
    for _ in 0..3 {
        assert!(matches!(flush(&mut log), Err(LogError::NoSpace { .. })));
        assert_eq!((log.durable(), log.written()), (waiting, waiting));
    }
    all.push((append(&mut log, &record(1)).unwrap(), record(1)));
    // Once by giving up a segment, once by the disk growing.
    log.release_below(waiting);
    flush_all(&mut log).unwrap();
    assert!(log.lacking().is_none());
    while flush_all(&mut log).is_ok() {
        waiting = log.durable();
        let record = record(all.len() as u64);
        all.push((append(&mut log, &record).unwrap(), record));
    }
    assert!(log.lacking() == Some(Lacking::Space) && log.durable() == waiting);
    disk.set_capacity(None);
    flush_all(&mut log).unwrap();
    assert_eq!(log.durable(), log.tip());
    let oldest = log.oldest();
    all.retain(|(lsn, _)| *lsn > oldest);
    drop(log);
    disk.crash(1);
    let (log, replayed) = open(&disk);
    assert_eq!(replayed, all);
    assert_eq!(log.cut(), None);
}

#[test]
fn no_descriptor_for_the_next_file_passes_as_a_full_disk_does() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let mut all = fill(&mut log, 2);
    disk.inject(Fault::CreateHasNoDescriptor);
    let error = loop {
        let record = record(all.len() as u64);
        all.push((append(&mut log, &record).unwrap(), record));
        if let Err(error) = flush(&mut log) {
            break error;
        }
    };
    assert!(matches!(error, LogError::NoDescriptors { .. }), "{error}");
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    assert_eq!(log.lacking(), Some(Lacking::Descriptors));
    assert!(!log.is_stopped() && log.durable() < log.tip());
    flush_all(&mut log).unwrap();
    assert_eq!(log.lacking(), None);
    drop(log);
    disk.crash(1);
    assert_eq!(open(&disk).1, all);
}

#[test]
fn half_a_batch_on_a_full_disk_is_written_again_in_its_place() {
    for crash in [false, true] {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let mut all = fill(&mut log, 2);
        for n in 0..5 {
            all.push((append(&mut log, &record(n)).unwrap(), record(n)));
        }
        disk.inject(Fault::WriteHasNoSpace);
        let durable = log.durable();
        assert!(matches!(flush(&mut log), Err(LogError::NoSpace { .. })));
        assert_eq!(log.durable(), durable);
        assert_eq!(read_all(&log, durable), []);
        if crash {
            all.retain(|(lsn, _)| *lsn <= durable);
        } else {
            all.push((append(&mut log, &record(9)).unwrap(), record(9)));
            flush_all(&mut log).unwrap();
            assert_eq!(read_all(&log, Lsn(0)), all);
        }
        drop(log);
        assert_eq!(open(&disk).1, all);
    }
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(1000));
    let (mut log, replayed) = open(&disk);
    assert!(log.lacking() == Some(Lacking::Space) && replayed.is_empty());
    let lsn = append(&mut log, &record(7)).unwrap();
    assert!(flush(&mut log).is_err());
    disk.set_capacity(None);
    flush_all(&mut log).unwrap();
    assert_eq!(log.durable(), lsn);
    drop(log);
    assert_eq!(open(&disk).1, [(lsn, record(7))]);
}

#[test]
fn a_failed_sync_or_write_is_final() {
    for fault in [Fault::SyncFails, Fault::WriteFails] {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let all = fill(&mut log, 2);
        let durable = log.durable();
        append(&mut log, &record(1)).unwrap();
        disk.inject(fault);
        match (fault, flush(&mut log)) {
            (Fault::SyncFails, Err(LogError::SyncFailed { file, .. })) => {
                assert!(disk.list().unwrap().contains(&file));
            }
            (
                Fault::WriteFails,
                Err(LogError::Io {
                    operation: "write", ..
                }),
            ) => {}
            (_, other) => panic!("{other:?}"),
        }
        assert!(log.is_stopped());
        assert_eq!(log.durable(), durable);
        assert_eq!(append(&mut log, &record(2)), Err(AppendError::Stopped));
        assert!(log.take_flush(Now::at_ms(9)).is_none());
        assert!(matches!(log.close(), Err(LogError::Stopped)));
        disk.crash(3);
        assert_eq!(open(&disk).1, all);
    }
}
