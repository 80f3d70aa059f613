//! The log on a simulated disk: what it keeps, what it refuses, what it says.

mod damage;
mod files;
mod model;
mod power;
mod room;

use std::convert::Infallible;
use std::sync::Arc;

use ::model::Now;

use super::*;
use crate::disk::{Fault, SimDisk};

/// Small enough that a few dozen records fill several segments and batches.
fn options(sync: SyncPolicy) -> Options {
    Options {
        segment_bytes: 10 << 10,
        batch_bytes_max: 2 << 10,
        pending_bytes_max: 16 << 10,
        sync,
    }
}

type Replayed = Vec<(Lsn, Record)>;

fn open_with(disk: &SimDisk, options: Options) -> Result<(Log, Replayed), OpenError<Infallible>> {
    let mut replayed = Vec::new();
    let log = Log::open(Arc::new(disk.clone()), options, &mut |lsn, record| {
        replayed.push((lsn, record));
        Ok(())
    })?;
    Ok((log, replayed))
}

fn open(disk: &SimDisk) -> (Log, Replayed) {
    open_with(disk, options(SyncPolicy::Always)).unwrap()
}

/// A record whose every byte follows from its number.
fn record(n: u64) -> Record {
    let len = (n * 7919 % 701) as usize;
    let body: Vec<u8> = (0..len as u64).map(|i| (n * 31 + i * 7) as u8).collect();
    Record {
        stream: n % 5,
        kind: (n % 3) as u8,
        body: body.into(),
    }
}

fn append(log: &mut Log, record: &Record) -> Result<Lsn, AppendError> {
    let (head, tail) = record.body.split_at(record.body.len() / 3);
    log.append(record.stream, record.kind, &[head, tail])
}

fn flush(log: &mut Log) -> Result<Lsn, LogError> {
    let job = log.take_flush(Now::at_ms(0)).ok_or(LogError::Stopped)?;
    log.run_here(job)
}

/// The first half of the next flush.
fn write(log: &mut Log, ms: u64) -> SyncJob {
    let (written, sync) = log.take_flush(Now::at_ms(ms)).unwrap().write();
    log.written_to(written).unwrap();
    sync
}

fn flush_all(log: &mut Log) -> Result<(), LogError> {
    while log.written() < log.tip() {
        flush(log)?;
    }
    Ok(())
}

/// Appends and flushes records until `log` has `segments` of them.
fn fill(log: &mut Log, segments: usize) -> Replayed {
    let mut all = Vec::new();
    while log.segments() < segments {
        let record = record(all.len() as u64);
        all.push((append(log, &record).unwrap(), record));
        flush(log).unwrap();
    }
    all
}

fn read_all(log: &Log, from: Lsn) -> Replayed {
    let mut all = Vec::new();
    log.read(from, usize::MAX, &mut |lsn, record| {
        all.push((lsn, record));
        true
    })
    .unwrap();
    all
}

#[test]
fn what_is_appended_meanwhile_goes_into_the_next_flush() {
    fn sendable(_: &(impl Send + 'static)) {}
    let (mut log, _) = open(&SimDisk::new());
    let start = log.durable();
    let first = append(&mut log, &record(1)).unwrap();
    assert_eq!(log.durable(), start);
    let job = log.take_flush(Now::at_ms(0)).unwrap();
    sendable(&job);
    let second = append(&mut log, &record(2)).unwrap();
    let third = append(&mut log, &record(3)).unwrap();
    assert!(
        log.take_flush(Now::at_ms(0)).is_none(),
        "one batch is written at a time"
    );
    assert_eq!(log.run_here(job).unwrap(), first);
    assert_eq!(
        read_all(&log, start),
        [(first, record(1))],
        "only what is on disk is read"
    );
    assert_eq!(flush(&mut log).unwrap(), third);
    assert!(
        log.take_flush(Now::at_ms(0)).is_none(),
        "nothing left to do"
    );
    assert_eq!(
        read_all(&log, first),
        [(second, record(2)), (third, record(3))]
    );
    assert_eq!(log.pending_bytes(), 0);
}

#[test]
fn syncs_overlap_and_count_in_order() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let start = log.durable();
    let lsns: Vec<Lsn> = (0..LANES as u64)
        .map(|n| append(&mut log, &record(n)).map(|lsn| (lsn, log.begin_batch()).0))
        .map(Result::unwrap)
        .collect();
    let first = write(&mut log, 10);
    assert!(
        log.take_flush(Now::at_ms(10)).is_none(),
        "a disk may be fast"
    );
    let mut syncs: Vec<SyncJob> = (1..LANES as u64).map(|n| write(&mut log, 10 + n)).collect();
    append(&mut log, &record(9)).unwrap();
    assert!(
        log.take_flush(Now::at_ms(99)).is_none(),
        "all lanes are taken"
    );
    assert_eq!(log.written(), lsns[LANES - 1]);
    assert!(read_all(&log, start).is_empty(), "nothing is durable");
    // The last and the second: the first may still fail.
    for sync in [syncs.pop().unwrap(), syncs.remove(0)] {
        assert_eq!(log.synced(sync.run()).unwrap(), start);
    }
    assert_eq!(log.synced(first.run()).unwrap(), lsns[1]);
    assert_eq!(read_all(&log, start).len(), 2);
    let third = syncs.pop().unwrap();
    assert_eq!(log.synced(third.run()).unwrap(), lsns[LANES - 1]);
    flush_all(&mut log).unwrap();
    disk.crash(7);
    drop(log);
    assert_eq!(open(&disk).1.len(), LANES + 1);
}

#[test]
fn a_sync_that_fails_fails_all_that_overlap_it() {
    for fails in 0..2 {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let start = log.durable();
        append(&mut log, &record(1)).unwrap();
        let first = write(&mut log, 10);
        append(&mut log, &record(2)).unwrap();
        let second = write(&mut log, 20);
        disk.inject(Fault::SyncFails);
        let mut syncs = [Some(first), Some(second)];
        for which in [fails, 1 - fails] {
            // The error is there for both, whoever looks first.
            let synced = syncs[which].take().unwrap().run();
            assert!(synced.result.is_err());
            assert!(log.synced(synced).is_err());
        }
        assert!(log.is_stopped());
        assert_eq!(log.durable(), start);
    }
}

#[test]
fn a_segment_is_begun_when_no_sync_is_under_way() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    fill(&mut log, 2);
    let mut ms = 0;
    let mut overlapped = 0;
    while log.segments() < 4 {
        ms += 10;
        append(&mut log, &record(ms)).unwrap();
        let segments = log.segments();
        let one = write(&mut log, ms);
        append(&mut log, &record(ms + 1)).unwrap();
        match log.take_flush(Now::at_ms(ms + 1)) {
            Some(job) => {
                let (written, other) = job.write();
                assert!(written.writer.started.is_empty());
                log.written_to(written).unwrap();
                log.synced(other.run()).unwrap();
                overlapped += 1;
            }
            None => {
                log.synced(one.run()).unwrap();
                flush(&mut log).unwrap();
                assert_eq!(log.segments(), segments + 1, "that is why");
                continue;
            }
        }
        log.synced(one.run()).unwrap();
    }
    assert!(overlapped > 5);
    disk.crash(3);
    let durable = log.durable();
    drop(log);
    assert!(open(&disk).0.durable() >= durable);
}

#[test]
fn buffers_are_bounded_and_used_again() {
    let (mut log, _) = open(&SimDisk::new());
    let big = vec![1; log.body_bytes_max() + 1];
    assert!(matches!(
        log.append(1, 1, &[&big]),
        Err(AppendError::TooLarge { .. })
    ));
    let mut taken = 0;
    let full = loop {
        match log.append(1, 1, &[&[7; 300]]) {
            Ok(_) => taken += 1,
            Err(full) => break full,
        }
    };
    assert!(matches!(full, AppendError::Full { .. }) && taken > 40);
    assert!(log.pending_bytes() <= log.options.pending_bytes_max);
    flush_all(&mut log).unwrap();
    assert_eq!(log.pending_bytes(), 0);
    assert!(log.buffers.len() <= 2);
    // In the steady state one buffer is written while the other fills.
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..50 {
        append(&mut log, &record(n)).unwrap();
        let job = log.take_flush(Now::at_ms(0)).unwrap();
        seen.insert(job.batch.as_ref().map(|b| b.bytes.as_ptr() as usize));
        log.run_here(job).unwrap();
    }
    assert!(seen.len() <= 3, "{}", seen.len());
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let big = Record {
        stream: 9,
        kind: 9,
        body: vec![3; 14 << 10].into(),
    };
    let mut all = fill(&mut log, 2);
    all.push((append(&mut log, &big).unwrap(), big));
    flush_all(&mut log).unwrap();
    all.push((append(&mut log, &record(1)).unwrap(), record(1)));
    flush_all(&mut log).unwrap();
    assert!(log.bytes() > 30 << 10);
    drop(log);
    assert_eq!(open(&disk).1, all);
}

#[test]
fn reading_goes_on_from_any_position_and_stays_within_bounds() {
    let (mut log, _) = open(&SimDisk::new());
    let all = fill(&mut log, 4);
    let mut from = log.oldest();
    let mut got = Vec::new();
    while from < log.written() {
        let mut bytes = 0;
        from = log
            .read(from, 1000, &mut |lsn, record| {
                assert!(bytes < 1000);
                bytes += record.body.len();
                got.push((lsn, record));
                true
            })
            .unwrap();
    }
    assert_eq!(got, all);
    for (i, (lsn, _)) in all.iter().enumerate() {
        let mut next = None;
        let at = log
            .read(*lsn, usize::MAX, &mut |_, r| next.replace(r).is_some())
            .unwrap();
        assert_eq!(next.as_ref(), all.get(i + 1).map(|(_, r)| r));
        assert_eq!(at, all.get(i + 1).map_or(*lsn, |(l, _)| *l));
    }
    log.release_below(all[all.len() / 2].0);
    assert!(log.segments() < 4);
    assert!(matches!(
        log.read(Lsn(0), 1, &mut |_, _| true),
        Err(LogError::Released { .. })
    ));
    let oldest = log.oldest();
    let kept: Replayed = all.into_iter().filter(|(lsn, _)| *lsn > oldest).collect();
    assert_eq!(read_all(&log, oldest), kept);
}

#[test]
fn policies_differ_in_what_is_acknowledged_and_when_it_is_synced() {
    for sync in [SyncPolicy::Os, SyncPolicy::EveryMs(100)] {
        let (mut log, _) = open_with(&SimDisk::new(), options(sync)).unwrap();
        let at = |log: &mut Log, ms| {
            let lsn = append(log, &record(1)).unwrap();
            let job = log.take_flush(Now::at_ms(ms)).unwrap();
            assert_eq!(log.run_here(job).unwrap(), lsn, "written is enough");
            log.durable() == lsn
        };
        let every = sync != SyncPolicy::Os;
        assert_eq!(at(&mut log, 0), every, "never synced before");
        assert!(!at(&mut log, 99));
        assert_eq!(log.sync_due(), every.then_some(Duration::from_millis(100)));
        let late = log.take_flush(Now::at_ms(100));
        assert_eq!(
            late.is_some(),
            every,
            "a sync is due though nothing was appended"
        );
        if let Some(job) = late {
            log.run_here(job).unwrap();
            assert_eq!(log.durable(), log.written());
            assert_eq!(log.sync_due(), None);
        }
    }
}

#[test]
fn every_opening_is_an_incarnation() {
    let disk = SimDisk::new();
    for n in 1..5 {
        let (mut log, _) = open(&disk);
        assert_eq!(log.incarnation(), n);
        assert_eq!(log.was_closed(), n % 2 == 0 || n == 1);
        if n % 2 == 0 {
            drop(log);
        } else {
            log.close().unwrap();
        }
    }
}
