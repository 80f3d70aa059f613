//! Power is lost during every single call that changes the disk, once and once more.

use super::*;

/// What the outside knows: everything that was appended, and what it was promised.
#[derive(Clone, Default)]
struct Outside {
    appended: Replayed,
    durable: Lsn,
    released: Lsn,
    next: u64,
}

impl Outside {
    /// The replay must be a run of what was appended, from at most the released position to at
    /// least the durable one. What it lacks was lost, rightly, and is forgotten.
    fn check(&mut self, replayed: Replayed, context: &str) {
        let position = |lsn: Lsn| self.appended.iter().position(|(l, _)| *l == lsn);
        let start = match replayed.first() {
            Some((lsn, _)) => position(*lsn).expect("a record that nobody appended"),
            None => self.appended.len(),
        };
        let end = start + replayed.len();
        assert!(end <= self.appended.len(), "invented records: {context}");
        assert_eq!(replayed, self.appended[start..end], "{context}");
        let missing = |(lsn, _): &(Lsn, Record)| *lsn > self.released && *lsn <= self.durable;
        let lost_before = self.appended[..start].iter().any(missing);
        let lost_behind = self.appended[end..].iter().any(missing);
        assert!(
            !lost_before && !lost_behind,
            "lost durable records: {context}"
        );
        self.appended = replayed;
    }
}

/// Appends, flushes, releases, closes and opens, until the disk fails.
fn live(disk: &SimDisk, sync: SyncPolicy, outside: &mut Outside, context: &str) {
    for round in 0..3 {
        let Ok((mut log, replayed)) = open_with(disk, options(sync)) else {
            return;
        };
        outside.check(replayed, context);
        outside.durable = log.durable();
        for batch in 0..14 {
            for _ in 0..1 + batch % 3 {
                let record = record(outside.next);
                outside.next += 1;
                let lsn = append(&mut log, &record).unwrap();
                outside.appended.push((lsn, record));
            }
            let result = flush(&mut log);
            outside.durable = log.durable();
            if result.is_err() {
                return;
            }
            if batch % 5 == 4 {
                outside.released = Lsn(log.written().0.saturating_sub(5000));
                log.release_below(outside.released);
            }
        }
        if round == 0 {
            let Ok(end) = log.close() else { return };
            outside.durable = end;
        }
    }
}

fn lose_power_everywhere(sync: SyncPolicy, seeds: u64) {
    let disk = SimDisk::new();
    live(&disk, sync, &mut Outside::default(), "undisturbed");
    let calls = disk.calls();
    assert!(calls > 90, "{calls}");
    let (mut cuts, mut clean) = (0, 0);
    for n in 1..=calls {
        for seed in 0..seeds {
            let context = format!("{sync:?}, call {n}, seed {seed}");
            let (disk, mut outside) = (SimDisk::new(), Outside::default());
            disk.fail_after(n);
            live(&disk, sync, &mut outside, &context);
            disk.crash(seed);
            // Again, during the recovery or soon after.
            disk.fail_after(1 + (n * 13 + seed * 7) % 40);
            live(&disk, sync, &mut outside, &context);
            disk.crash(seed + 1000);
            let (log, replayed) = open_with(&disk, options(sync))
                .unwrap_or_else(|error| panic!("{error}: {context}"));
            outside.check(replayed, &context);
            match log.cut() {
                Some(_) => cuts += 1,
                None => clean += 1,
            }
            let names = crate::disk::Disk::list(&disk).unwrap();
            // The extent, and two spares.
            assert!(names.len() <= log.segments() + 3, "{names:?}: {context}");
        }
    }
    assert!(
        cuts > 50 && clean > 50,
        "one-sided: {cuts} cut, {clean} clean"
    );
}

#[test]
fn durable_records_survive_when_every_flush_syncs() {
    lose_power_everywhere(SyncPolicy::Always, 6);
}

#[test]
fn durable_records_survive_when_the_system_syncs() {
    lose_power_everywhere(SyncPolicy::Os, 6);
}

#[test]
fn a_cut_is_remembered_by_later_openings() {
    let mut cuts = 0;
    for seed in 0..40 {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        fill(&mut log, 1);
        disk.fail_after(2); // the batch is written, its sync fails
        for n in 0..4 {
            append(&mut log, &record(n)).unwrap();
        }
        assert!(flush(&mut log).is_err());
        disk.crash(seed);
        let cut = open(&disk).0.cut();
        disk.crash(seed);
        assert_eq!(open(&disk).0.cut(), cut);
        cuts += usize::from(cut.is_some());
    }
    assert!(cuts > 5, "{cuts}");
}

/// A batch that never reached the disk, with a later one that did, as the system may leave them.
fn hole() -> (SimDisk, Replayed, Lsn) {
    let disk = SimDisk::new();
    let (mut log, _) = open_with(&disk, options(SyncPolicy::Os)).unwrap();
    let lsn = append(&mut log, &record(5)).unwrap();
    flush(&mut log).unwrap();
    for n in 6..9 {
        append(&mut log, &record(n)).unwrap();
        flush(&mut log).unwrap();
    }
    let segment = Arc::clone(&log.segments[0].segment);
    segment
        .file
        .write_at(segment.offset_of(lsn), &[0; 64])
        .unwrap();
    segment.file.sync().unwrap();
    (disk, vec![(lsn, record(5))], lsn)
}

#[test]
fn what_lies_behind_a_cut_is_gone_for_good() {
    let (disk, kept, at) = hole();
    for _ in 0..3 {
        let (mut log, replayed) = open(&disk);
        assert_eq!(log.cut(), Some(at), "cut once, and not again further on");
        assert!(replayed.starts_with(&kept));
        append(&mut log, &record(1)).unwrap();
        flush(&mut log).unwrap();
    }
}

#[test]
fn power_lost_while_cutting_does_not_hide_the_cut() {
    for n in 1..12 {
        for seed in 0..20 {
            let (disk, kept, at) = hole();
            disk.fail_after(n);
            drop(open_with(&disk, options(SyncPolicy::Always)));
            disk.crash(seed);
            let (log, replayed) = open(&disk);
            assert_eq!(
                (log.cut(), replayed),
                (Some(at), kept),
                "call {n}, seed {seed}"
            );
        }
    }
}
