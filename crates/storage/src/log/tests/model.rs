//! Random lives of a log against a list of records.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Append {
        stream: u64,
        kind: u8,
        len: usize,
    },
    /// Takes a flush, if none is out.
    Take,
    /// Writes the one that is out.
    Write,
    /// Syncs one of those that were written.
    Sync {
        which: usize,
    },
    Release {
        percent: u64,
    },
    Read {
        percent: u64,
        bytes_max: usize,
    },
    Close,
    /// The process dies; what it wrote stays.
    Die,
    LosePower {
        seed: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..4u64, any::<u8>(), prop_oneof![0..40usize, 200..900usize, 5000..9000usize])
            .prop_map(|(stream, kind, len)| Act::Append { stream, kind, len }),
        8 => Just(Act::Take),
        8 => Just(Act::Write),
        6 => any::<usize>().prop_map(|which| Act::Sync { which }),
        1 => (0..=100u64).prop_map(|percent| Act::Release { percent }),
        2 => (0..=100u64, 0..3000usize)
            .prop_map(|(percent, bytes_max)| Act::Read { percent, bytes_max }),
        1 => Just(Act::Close),
        1 => Just(Act::Die),
        1 => any::<u64>().prop_map(|seed| Act::LosePower { seed }),
    ]
}

fn policy() -> impl Strategy<Value = SyncPolicy> {
    use SyncPolicy::{Always, EveryMs, Os};
    prop_oneof![Just(Always), Just(EveryMs(5)), Just(Os)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_log_is_a_list_that_survives(sync in policy(), acts in prop::collection::vec(act(), 1..120)) {
        let disk = SimDisk::new();
        let (mut log, _) = open_with(&disk, options(sync)).unwrap();
        let mut all: Replayed = Vec::new();
        let mut out: Option<FlushJob> = None;
        let mut syncs: Vec<SyncJob> = Vec::new();
        let mut ms = 0;
        for act in acts {
            ms += 1;
            let mut keep = None;
            match act {
                Act::Append { stream, kind, len } => {
                    let record = Record { stream, kind, body: vec![kind ^ len as u8; len].into() };
                    match append(&mut log, &record) {
                        Ok(lsn) => all.push((lsn, record)),
                        Err(AppendError::Full { .. }) => prop_assert!(log.pending_bytes() > 0),
                        Err(error) => panic!("{error}"),
                    }
                }
                Act::Take => {
                    if out.is_none() {
                        out = log.take_flush(Now::at_ms(ms));
                    } else {
                        prop_assert!(log.take_flush(Now::at_ms(ms)).is_none());
                    }
                }
                Act::Write => {
                    if let Some(job) = out.take() {
                        let (written, sync) = job.write();
                        log.written_to(written).unwrap();
                        syncs.push(sync);
                    }
                }
                Act::Sync { which } => {
                    if !syncs.is_empty() {
                        let sync = syncs.swap_remove(which % syncs.len());
                        log.synced(sync.run()).unwrap();
                    }
                }
                Act::Release { percent } => {
                    let lsn = Lsn(log.tip().0 * percent / 100);
                    let before = log.oldest();
                    log.release_below(lsn);
                    prop_assert!(log.oldest() <= lsn.max(before));
                    all.retain(|(l, _)| *l > log.oldest());
                }
                Act::Read { percent, bytes_max } => {
                    let oldest = log.oldest();
                    let i = all.len() * percent as usize / 100;
                    let from = i.checked_sub(1).map_or(oldest, |i| all[i].0);
                    let mut got = Vec::new();
                    let at = log.read(from, bytes_max, &mut |lsn, record| {
                        got.push((lsn, record));
                        true
                    }).unwrap();
                    prop_assert!(all[i..].starts_with(&got));
                    let unread = all[i..].get(got.len()).filter(|(lsn, _)| *lsn <= log.acknowledgeable());
                    let bytes: usize = got.iter().map(|(_, r)| r.body.len()).sum();
                    prop_assert!(unread.is_none() || (!got.is_empty() && bytes >= bytes_max));
                    prop_assert!(got.last().is_none_or(|(lsn, _)| at >= *lsn));
                }
                Act::Close => {
                    if let Some(job) = out.take() {
                        log.run_here(job).unwrap();
                    }
                    for sync in syncs.drain(..).rev() {
                        log.synced(sync.run()).unwrap();
                    }
                    keep = Some(log.tip());
                }
                Act::Die => keep = Some(log.written()),
                Act::LosePower { .. } => keep = Some(log.durable()),
            }
            prop_assert!(log.durable() <= log.written() && log.written() <= log.tip());
            if let Some(keep) = keep {
                let tip = log.tip();
                let oldest = log.oldest();
                match act {
                    Act::Close => prop_assert_eq!(log.close().unwrap(), tip),
                    Act::LosePower { seed } => disk.crash(seed),
                    _ => drop(log),
                }
                out = None;
                syncs.clear();
                let (reopened, mut replayed) = open_with(&disk, options(sync)).unwrap();
                log = reopened;
                // Releases that did not reach the disk are undone.
                replayed.retain(|(lsn, _)| *lsn > oldest);
                prop_assert!(all.starts_with(&replayed));
                prop_assert!(all[replayed.len()..].iter().all(|(lsn, _)| *lsn > keep));
                all.retain(|(lsn, _)| replayed.last().is_some_and(|(last, _)| lsn <= last));
                log.release_below(oldest);
                prop_assert_eq!(log.oldest().max(oldest), oldest);
            }
        }
    }
}
