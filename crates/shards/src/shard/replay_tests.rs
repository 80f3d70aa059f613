//! What a start makes of a log that holds tails which were cut or taken back, over a store that
//! came back at some point of it.

use super::*;
use model::{Mutation, Stamp, mutation::Header, mutation::KeyKind};
use std::ops::RangeInclusive;
use storage::store::{CacheBudget, MemoryRows, MemoryStores, Stores};

const ID: ShardId = ShardId(1);

fn entry(epoch: u64, index: u64) -> Entry {
    let mut m = Mutation::new();
    let key = format!("key{index}");
    m.put_string(key.as_bytes(), true, &Header::new(KeyKind::String), b"v");
    let at = Position::new(epoch, index);
    Entry::new(at, Stamp(index), EntryKind::Mutation, 1, m.bytes())
}

/// A replica whose store has applied these entries, (epoch, indexes).
fn shard(applied: &[(u64, RangeInclusive<u64>)]) -> Shard<MemoryRows, ()> {
    let budget = CacheBudget { bytes: 1 << 16 };
    let rows = MemoryStores::new().open(ID).unwrap();
    let mut store = ShardStore::open(rows, budget).unwrap();
    for (epoch, indexes) in applied {
        for index in indexes.clone() {
            store.apply(&[entry(*epoch, index)]).unwrap();
        }
    }
    Shard::new(ID, store)
}

enum Logged {
    Entries(u64, RangeInclusive<u64>),
    Truncate(u64),
    Rewind(u64, u64),
    Commit(u64),
    Reset(u64),
    Note(&'static [u8]),
}
use Logged::{Commit, Entries, Note, Reset, Rewind, Truncate};

fn replay(shard: &mut Shard<MemoryRows, ()>, log: &[Logged]) -> Result<(), String> {
    let mut at = 0;
    let mut take = |kind, body: &[u8]| {
        let record = Record {
            stream: 2,
            kind,
            body: Bytes::copy_from_slice(body),
        };
        at += 100_000; // a mark each
        shard.replay(Lsn(at), record)
    };
    for logged in log {
        match logged {
            Entries(epoch, indexes) => {
                for index in indexes.clone() {
                    take(ENTRY, entry(*epoch, index).bytes())?;
                }
            }
            Truncate(after) => take(TRUNCATE, &after.to_le_bytes())?,
            Rewind(common, lost) => take(REWIND, &rewind_body(*common, Epoch(*lost)))?,
            Commit(upto) => take(COMMIT, &upto.to_le_bytes())?,
            Reset(at) => take(RESET, &at.to_le_bytes())?,
            Note(note) => take(NOTE, note)?,
        }
    }
    shard.finish_replay()
}

/// The last entry, the epochs, and which entries wait to be applied.
fn found(shard: &Shard<MemoryRows, ()>) -> (Position, Vec<(u64, u64)>, Vec<Position>) {
    let starts = shard.recovered.history.starts().iter();
    (
        shard.recovered.last,
        starts.map(|(e, i)| (e.0, *i)).collect(),
        shard.unapplied.iter().map(|e| e.position).collect(),
    )
}

#[test]
fn a_tail_that_was_cut_leaves_no_trace_however_far_the_store_is() {
    let log = [Entries(1, 1..=9), Truncate(6), Entries(2, 7..=12)];
    let at = |e, i| Position::new(e, i);
    for applied in 0..=12 {
        let mut shard = match applied {
            0 => shard(&[]),
            1..=6 => shard(&[(1, 1..=applied)]),
            _ => shard(&[(1, 1..=6), (2, 7..=applied)]),
        };
        replay(&mut shard, &log).unwrap();
        let (last, epochs, waits) = found(&shard);
        assert_eq!(last, at(2, 12), "applied {applied}");
        assert_eq!(epochs, [(1, 1), (2, 7)]);
        let epoch = |i| if i <= 6 { 1 } else { 2 };
        let wanted: Vec<_> = (applied + 1..=12).map(|i| at(epoch(i), i)).collect();
        assert_eq!(waits, wanted, "applied {applied}");
    }
}

#[test]
fn a_log_may_begin_within_a_tail_that_was_cut() {
    for applied in [6, 7, 8] {
        let mut shard = match applied {
            6 => shard(&[(1, 1..=6)]),
            _ => shard(&[(1, 1..=6), (2, 7..=applied)]),
        };
        let log = [Entries(1, 9..=11), Truncate(6), Entries(2, 7..=9)];
        replay(&mut shard, &log).unwrap();
        assert_eq!(found(&shard).0, Position::new(2, 9));
    }
    let mut broken = shard(&[(1, 1..=6)]);
    let error = replay(&mut broken, &[Entries(1, 9..=11)]).unwrap_err();
    assert!(error.contains("entry 1:9 follows entry 1:6"), "{error}");
}

#[test]
fn what_was_taken_back_is_forgotten_and_the_hint_with_it() {
    let log = [
        Entries(1, 1..=9),
        Commit(9),
        Rewind(6, 1),
        Entries(2, 7..=8),
    ];
    for applied in 0..=6 {
        let mut shard = match applied {
            0 => shard(&[]),
            _ => shard(&[(1, 1..=applied)]),
        };
        replay(&mut shard, &log).unwrap();
        let (last, epochs, waits) = found(&shard);
        assert_eq!((last, epochs), (Position::new(2, 8), vec![(1, 1), (2, 7)]));
        assert_eq!(waits.len() as u64, 8 - applied);
        assert_eq!(shard.recovered.commit, 6);
        assert!(!shard.recovered.filling);
    }
    // Its own batch is there, and what followed.
    let mut rewound = shard(&[(1, 1..=6), (2, 7..=8)]);
    replay(&mut rewound, &log).unwrap();
    assert_eq!(found(&rewound).0, Position::new(2, 8));
    assert!(!rewound.recovered.filling);
}

#[test]
fn a_store_that_came_back_within_what_was_taken_back_is_filled_anew() {
    for applied in 7..=9 {
        for more in [None, Some(Entries(2, 7..=12))] {
            let mut shard = shard(&[(1, 1..=applied)]);
            let mut log = vec![Entries(1, 1..=9), Rewind(6, 1)];
            log.extend(more);
            replay(&mut shard, &log).unwrap();
            assert!(shard.recovered.filling && shard.store.is_installing());
            assert_eq!(found(&shard), (Position::ZERO, vec![], vec![]));
            assert_eq!((shard.recovered.applied, shard.recovered.commit), (0, 0));
            assert!(
                shard.recovered.stamp >= Stamp(applied),
                "the clock never goes back"
            );
        }
    }
}

#[test]
fn a_store_that_is_being_filled_takes_nothing_from_the_log() {
    let mut filling = shard(&[]);
    filling.store.begin_install().unwrap();
    replay(&mut filling, &[Entries(1, 500..=510)]).unwrap();
    assert_eq!(found(&filling), (Position::ZERO, vec![], vec![]));
}

#[test]
fn what_a_copy_has_left_behind_does_not_follow_it() {
    // The copy was finished, and the record that says so was lost.
    let mut copied = shard(&[(1, 1..=4), (2, 5..=7)]);
    replay(&mut copied, &[Entries(1, 1..=9)]).unwrap();
    assert_eq!(
        found(&copied),
        (Position::new(2, 7), vec![(1, 1), (2, 5)], vec![])
    );
}

#[test]
fn a_copy_that_came_after_another_was_dropped_has_nothing_of_it() {
    // The log begins within the copy that was dropped.
    let log = [
        Entries(1, 5..=9),
        Commit(9),
        Reset(0),
        Entries(2, 1..=7),
        Commit(3),
    ];
    for applied in [0, 2] {
        let mut again = match applied {
            0 => shard(&[]),
            _ => shard(&[(2, 1..=applied)]),
        };
        replay(&mut again, &log).unwrap();
        let (last, epochs, waits) = found(&again);
        assert_eq!((last, epochs), (Position::new(2, 7), vec![(2, 1)]));
        assert_eq!(waits.len() as u64, 7 - applied);
        assert_eq!(again.recovered.commit, 3);
    }
    // Nothing came, or the store had not been destroyed yet.
    for applied in [0, 6] {
        let mut dropped = match applied {
            0 => shard(&[]),
            _ => shard(&[(1, 1..=applied)]),
        };
        replay(&mut dropped, &log[..3]).unwrap();
        assert_eq!(found(&dropped).0.index, applied);
        assert_eq!(dropped.recovered.commit, applied);
    }
}

#[test]
fn a_rewind_that_the_log_has_forgotten_is_not_built_on() {
    let common = Position::new(1, 6);
    for (until, filled) in [(8, true), (20, false)] {
        let mut shard = shard(&[(1, 1..=9)]);
        let until = Position::new(2, until);
        let none = std::collections::BTreeSet::new();
        shard.store.rewind(common, none, &[], until).unwrap();
        let mut shard = Shard::new(ID, shard.store);
        replay(&mut shard, &[Entries(1, 1..=9), Commit(9)]).unwrap();
        assert_eq!(shard.recovered.filling, filled);
        // Else the protocol finds that its log parted before it has caught up, and copies.
        assert_eq!(shard.recovered.until, (!filled).then_some(until));
    }
}

/// A store that is ahead of a log which lost its end, as a disk that decays may leave them.
#[test]
fn a_gap_in_the_log_hides_what_is_below_it() {
    let held = |shard: &Shard<MemoryRows, ()>| {
        let held: Vec<u64> = (1..=10).filter(|i| shard.log_index.holds(*i)).collect();
        held
    };
    let mut ahead = shard(&[(1, 1..=6)]);
    replay(&mut ahead, &[Entries(1, 1..=5)]).unwrap();
    assert_eq!(found(&ahead).0, Position::new(1, 6));
    assert_eq!(held(&ahead), [0; 0], "(1:6) is in no log");
    ahead.log_index.note(7, Lsn(900_000));
    assert_eq!(held(&ahead), [7]);

    // At the next start the store is as far as the log, or it was not flushed since.
    let log = [Entries(1, 1..=5), Entries(2, 7..=9)];
    for applied in 7..=9 {
        let mut shard = shard(&[(1, 1..=6), (2, 7..=applied)]);
        replay(&mut shard, &log).unwrap();
        assert_eq!(held(&shard), [7, 8, 9], "applied {applied}");
    }
}

#[test]
fn the_last_note_is_given_back_unless_the_replica_was_destroyed_since() {
    let note_of = |log: &[Logged]| {
        let mut shard = shard(&[]);
        replay(&mut shard, log).unwrap();
        shard.recovered.note
    };
    let last = Some(Bytes::from_static(b"two"));
    let log = [Note(b"one"), Entries(1, 1..=3), Note(b"two"), Truncate(2)];
    assert_eq!(note_of(&log), last);
    // A copy takes the place of the entries; what was promised to others is kept.
    assert_eq!(note_of(&[Note(b"one"), Note(b"two"), Reset(0)]), None);
    let mut filled = shard(&[(1, 1..=9)]);
    replay(&mut filled, &[Entries(1, 1..=3), Note(b"two"), Reset(9)]).unwrap();
    assert_eq!(filled.recovered.note, last);
}
