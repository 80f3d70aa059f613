//! Decay: every kind of byte, below and above what is known to be durable.

use super::*;
use crate::disk::Disk;

fn log_files(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".log"));
    names
}

fn three_segments() -> (SimDisk, Replayed, Lsn) {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let mut all = fill(&mut log, 3);
    for n in 0..3 {
        all.push((append(&mut log, &record(n)).unwrap(), record(n)));
        flush(&mut log).unwrap();
    }
    // The last batch records that everything before it is durable.
    let known_durable = all[all.len() - 2].0;
    (disk, all, known_durable)
}

#[test]
fn a_flipped_bit_is_named_or_cut_but_never_passed_over() {
    let (mut disk, all, known_durable) = three_segments();
    let (mut corrupt, mut cut, mut harmless) = (0, 0, 0);
    for name in log_files(&disk) {
        for offset in (0..80).chain((4090..10 << 10).step_by(5)) {
            disk.flip_bit(&name, offset, offset as u32).unwrap();
            match open_with(&disk, options(SyncPolicy::Always)) {
                Err(OpenError::Log(LogError::Corrupt {
                    file,
                    offset: at,
                    lsn,
                    ..
                })) => {
                    assert_eq!(file, name);
                    assert!(at <= offset, "{at} {offset}");
                    assert!(lsn < known_durable);
                    corrupt += 1;
                    // Nothing was changed: without the flip it opens as before.
                    disk.flip_bit(&name, offset, offset as u32).unwrap();
                    continue;
                }
                Err(error) => panic!("{error} for {name} at {offset}"),
                Ok((log, replayed)) => {
                    assert!(all.starts_with(&replayed));
                    let last = replayed.last().unwrap().0;
                    match log.cut() {
                        Some(at) => {
                            assert!(at >= known_durable && last >= known_durable);
                            cut += 1;
                        }
                        None => {
                            assert_eq!(replayed, all, "lost in silence: {name} at {offset}");
                            harmless += 1;
                        }
                    }
                }
            }
            (disk, ..) = three_segments();
        }
    }
    assert!(
        corrupt > 1000 && cut > 10 && harmless > 10,
        "{corrupt} {cut} {harmless}"
    );
}

#[test]
fn a_closed_log_names_damage_of_its_last_batch_too() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let before = log.written();
    append(&mut log, &record(5)).unwrap();
    log.close().unwrap();
    let file = disk.list().unwrap().remove(0);
    let offset = SEGMENT_HEADER_BYTES as u64 + before.0;
    disk.flip_bit(&file, offset + 100, 3).unwrap();
    match open_with(&disk, options(SyncPolicy::Always)) {
        Err(OpenError::Log(LogError::Corrupt {
            file: f,
            offset: o,
            lsn,
            ..
        })) => {
            assert_eq!((f, o, lsn), (file, offset, before));
        }
        other => panic!("{:?}", other.map(|(_, replayed)| replayed)),
    }
}

#[test]
fn a_log_whose_end_decayed_was_not_closed() {
    for bit in 0..BATCH_HEADER_BYTES * 8 {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let end = append(&mut log, &record(5)).unwrap();
        log.close().unwrap();
        let file = disk.list().unwrap().remove(0);
        let offset = SEGMENT_HEADER_BYTES as u64 + end.0 + bit as u64 / 8;
        disk.flip_bit(&file, offset, bit as u32 % 8).unwrap();
        let (log, replayed) = open(&disk);
        assert_eq!(replayed.len(), 1);
        assert!(!log.was_closed() && log.cut() == Some(end), "bit {bit}");
    }
}

#[test]
fn a_file_that_is_missing_or_short_or_of_another_version_is_named() {
    let error = |spoil: &dyn Fn(&SimDisk, &[String])| {
        let (disk, ..) = three_segments();
        spoil(&disk, &log_files(&disk));
        open_with(&disk, options(SyncPolicy::Always))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let missing = error(&|disk, names| disk.remove(&names[1]).unwrap());
    assert!(missing.contains("00000000000000000002.log") && missing.contains("missing"));
    let short = error(&|disk, names| disk.open(&names[2]).unwrap().set_len(5000).unwrap());
    assert!(short.contains("00000000000000000003.log") && short.contains("cut short"));
    let swapped = error(&|disk, names| disk.rename(&names[2], &names[1]).unwrap());
    assert!(swapped.contains("00000000000000000002.log") && swapped.contains("another segment"));
    let newer = error(&|disk, names| {
        let file = disk.open(&names[0]).unwrap();
        let mut head = [0; 64];
        file.read_at(0, &mut head).unwrap();
        head[8] = 2;
        let crc = crc32c::crc32c(&head[..60]);
        head[60..].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &head).unwrap();
    });
    assert!(newer.contains("version 2"), "{newer}");
}

#[test]
fn damage_is_found_by_reading_too() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let all = fill(&mut log, 2);
    disk.flip_bit(&disk.list().unwrap()[0], 6000, 0).unwrap();
    let mut got = Vec::new();
    let result = log.read(Lsn(0), usize::MAX, &mut |lsn, record| {
        got.push((lsn, record));
        true
    });
    assert!(
        matches!(
            result,
            Err(LogError::Corrupt {
                offset: 4000..=6000,
                ..
            })
        ),
        "{result:?}"
    );
    assert!(all.starts_with(&got) && got.len() < all.len());
}

#[test]
fn a_recycled_segment_never_shows_its_former_batches() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    let mut all = fill(&mut log, 4);
    log.release_below(log.written());
    // Into a recycled file, stopping in the midst of its former batches.
    let start = log.oldest();
    let sequence = log.segments.back().unwrap().segment.header.sequence;
    while log.segments.back().unwrap().segment.header.sequence == sequence {
        let record = record(all.len() as u64);
        all.push((append(&mut log, &record).unwrap(), record));
        flush(&mut log).unwrap();
    }
    let reused = log.segments.back().unwrap().segment.clone();
    let mut rest = vec![0; 2000];
    reused
        .file
        .read_at(reused.offset_of(log.written()) + 64, &mut rest)
        .unwrap();
    assert!(rest.iter().any(|b| *b != 0), "the file was not recycled");
    drop(log);
    all.retain(|(lsn, _)| *lsn > start);
    let (log, replayed) = open(&disk);
    assert_eq!(replayed, all);
    assert_eq!(log.cut(), None, "former batches are no torn tail");
}

#[test]
fn what_is_left_of_a_removed_log_does_not_join_a_new_one() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    fill(&mut log, 2);
    log.release_below(log.written());
    log.close().unwrap();
    let names = disk.list().unwrap();
    assert!(names.iter().any(|name| name.ends_with(".spare")));
    for name in names.iter().filter(|name| !name.ends_with(".spare")) {
        disk.remove(name).unwrap();
    }
    let (mut log, _) = open(&disk);
    let record = record(3);
    let at = append(&mut log, &record).unwrap();
    flush_all(&mut log).unwrap();
    drop(log);
    let (log, replayed) = open(&disk);
    assert_eq!(replayed, [(at, record)]);
    assert_eq!(log.cut(), None, "former batches are no torn tail");
}

#[test]
fn a_number_that_no_log_reaches_is_damage() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    fill(&mut log, 1);
    log.close().unwrap();
    let [name] = &log_files(&disk)[..] else {
        panic!("one segment");
    };
    let file = disk.open(name).unwrap();
    let mut head = [0; 64];
    file.read_at(0, &mut head).unwrap();
    let mut header = format::SegmentHeader::decode(&head).unwrap();
    header.incarnation = ::model::codec::NUMBER_MAX;
    header.encode(&mut head);
    file.write_at(0, &head).unwrap();
    let refused = open_with(&disk, options(SyncPolicy::Always));
    assert!(matches!(
        refused,
        Err(OpenError::Log(LogError::Corrupt { .. }))
    ));
}

/// Until the extent was kept, a log without its newest segment was one that had ended before, and
/// one without its oldest one that had released it.
#[test]
fn a_log_whose_oldest_or_newest_file_is_gone_is_refused() {
    for gone in [0, 2] {
        let (disk, ..) = three_segments();
        let names = log_files(&disk);
        assert_eq!(names.len(), 3);
        disk.remove(&names[gone]).unwrap();
        match open_with(&disk, options(SyncPolicy::Always)) {
            Err(OpenError::Log(LogError::Corrupt { file, what, .. })) => {
                assert_eq!((&file, what), (&names[gone], "the file is missing"));
            }
            other => panic!("{:?}", other.map(|(_, replayed)| replayed.len())),
        }
    }
    let (disk, ..) = three_segments();
    for name in log_files(&disk) {
        disk.remove(&name).unwrap();
    }
    assert!(open_with(&disk, options(SyncPolicy::Always)).is_err());
}

#[test]
fn what_was_released_is_not_missed() {
    let (disk, all, _) = three_segments();
    let (mut log, _) = open(&disk);
    log.release_below(Lsn(u64::MAX));
    flush(&mut log).unwrap();
    drop(log);
    let (log, replayed) = open(&disk);
    assert!(log.segments() == 1 && all.ends_with(&replayed[..]));
    // Without the extent nothing can be said, and it is made again.
    drop(log);
    disk.remove("extent").unwrap();
    drop(open(&disk));
    assert!(disk.list().unwrap().contains(&"extent".to_owned()));
}

#[test]
fn a_scrub_finds_decay_and_a_segment_of_its_own_is_rid_of_it() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    fill(&mut log, 3);
    assert_eq!(log.scrub().run(&mut |_| true), []);
    for gone in 0..3 {
        let file = format!("{:020}.log", gone + 1);
        disk.flip_bit(&file, 4200, 3).unwrap();
        let decay = log.scrub().run(&mut |_| true);
        assert!(
            decay.len() == 1 && decay[0].what.contains(&file),
            "{decay:?}"
        );
        let end = log.is_decayed(&decay[0]).unwrap();
        assert_eq!(end.is_none(), gone == 2);
        if end.is_none() {
            log.begin_segment();
            flush_all(&mut log).unwrap();
        }
        let end = log.is_decayed(&decay[0]).unwrap().unwrap();
        log.release_below(end);
        flush(&mut log).unwrap();
        assert_eq!(log.is_decayed(&decay[0]), None);
    }
    assert_eq!(log.scrub().run(&mut |_| true), []);
    drop(log);
    open(&disk);
}
