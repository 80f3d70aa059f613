use super::*;
use commands::{View, view::Limit};
use model::{Entry, Position, mutation::Header};
use storage::store::{CacheBudget, MemoryRows, MemoryStores, ShardStore};

const ID: ShardId = ShardId(1);
const KEY: &[u8] = b"large";

fn shard() -> Shard<MemoryRows, ()> {
    let rows = MemoryStores::new().open(ID).unwrap();
    let store = ShardStore::open(rows, CacheBudget { bytes: 1 << 16 }).unwrap();
    Shard::new(ID, store)
}

fn news(expires_ms: u64) -> News {
    News {
        expires_ms,
        dead: false,
    }
}

fn at(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        wall_ms: ms,
    }
}

fn found(more: Option<u64>, next_ms: u64) -> Expired {
    Expired {
        keys: Vec::new(),
        more: more.map(|ms| (ExpiryPlace::at(ms), ms)),
        next_ms,
    }
}

#[test]
fn nothing_is_looked_for_before_something_may_be_due() {
    let mut expiry = Expiry::default();
    expiry.follow(Epoch(3), 10, news(0));
    assert!(expiry.is_due(at(5000)), "a new primary knows nothing");
    expiry.passed(found(None, 9000), 5000);
    expiry.follow(
        Epoch(3),
        10,
        News {
            expires_ms: u64::MAX,
            dead: false,
        },
    );
    assert!(!expiry.is_due(at(8999)) && expiry.is_due(at(9000)));
    expiry.follow(Epoch(3), 11, news(7000));
    assert!(!expiry.is_due(at(6999)) && expiry.is_due(at(7000)));
    // Stopped amid keys that are due: it goes on at once, from there.
    expiry.passed(found(Some(6500), u64::MAX), 7000);
    assert!(expiry.is_due(at(7000)));
    assert_eq!(expiry.from, ExpiryPlace::at(6500));
    // Another epoch: what was in flight may be lost.
    expiry.follow(Epoch(4), 11, news(u64::MAX));
    assert_eq!(expiry.from, ExpiryPlace::at(0));
}

#[test]
fn what_is_put_behind_is_looked_for_once_in_a_while() {
    let mut expiry = Expiry::default();
    expiry.follow(Epoch(1), 0, news(0));
    assert!(expiry.is_due(at(5000)));
    expiry.passed(found(None, u64::MAX), 5000);
    expiry.follow(Epoch(1), 1, news(4000));
    assert!(expiry.is_due(at(5001)));
    assert_eq!(expiry.from, ExpiryPlace::at(4000));
    expiry.passed(found(None, u64::MAX), 5001);
    expiry.follow(Epoch(1), 2, news(4900));
    expiry.follow(Epoch(1), 3, news(4800));
    assert!(!expiry.is_due(at(5500)));
    assert!(expiry.is_due(at(6001)));
    assert_eq!(expiry.from, ExpiryPlace::at(4800));
}

#[test]
fn deletions_in_flight_are_bounded() {
    let mut expiry = Expiry::default();
    expiry.follow(Epoch(1), 0, news(0));
    for index in 1..=(IN_FLIGHT_MAX / KEYS_A_TURN) as u64 {
        assert!(expiry.is_due(at(5000)));
        expiry.in_flight.push_back((index, KEYS_A_TURN));
        expiry.deleting += KEYS_A_TURN;
    }
    assert!(!expiry.is_due(at(5000)));
    expiry.follow(Epoch(1), 1, news(u64::MAX));
    assert!(expiry.is_due(at(5000)));
}

/// A shard's own log: entries are in flight until they are applied.
struct Log {
    shard: Shard<MemoryRows, ()>,
    entries: Vec<Entry>,
}

impl Log {
    fn write(&mut self, m: &Mutation) {
        let index = self.entries.len() as u64 + 1;
        let at = Position::new(1, index);
        let stamp = Stamp(index * 100);
        let entry = Entry::new(at, stamp, EntryKind::Mutation, m.ops(), m.bytes());
        self.shard.tip.append(&entry, &self.shard.store).unwrap();
        self.entries.push(entry);
    }

    fn apply(&mut self) {
        self.apply_first(self.entries.len());
    }

    fn apply_first(&mut self, count: usize) {
        let applied = self.shard.store.applied().position.index as usize;
        self.shard
            .store
            .apply(&self.entries[applied..count])
            .unwrap();
        self.shard.tip.applied(count as u64);
    }

    fn set_fields(&mut self, names: std::ops::Range<u64>, value: &str) {
        let view = at_tip(&self.shard.tip, &self.shard.store);
        let before = view.header(KEY).unwrap();
        let created = before.is_none_or(|h| h.kind == KeyKind::Tombstone);
        let mut header = Header::new(KeyKind::Hash);
        header.deleted = before.map_or(Stamp::ZERO, |h| h.deleted);
        header.fields = names.end - names.start;
        let names: Vec<String> = names.map(|n| format!("f{n}")).collect();
        let pairs = names.iter().map(|n| (n.as_bytes(), value.as_bytes()));
        let mut m = Mutation::new();
        m.set_fields(KEY, created, Some(&header), pairs);
        self.write(&m);
    }

    fn delete(&mut self) {
        let view = at_tip(&self.shard.tip, &self.shard.store);
        let header = view.header(KEY).unwrap().unwrap();
        let mut m = Mutation::new();
        m.delete(KEY, &header);
        self.write(&m);
    }

    fn purge(&mut self) -> u16 {
        let (dead, _) = self
            .shard
            .store
            .to_purge(&DeadPlace::default(), 1000)
            .unwrap();
        let mut m = Mutation::new();
        purges(&self.shard, &dead, &mut m).unwrap();
        if !m.is_empty() {
            self.write(&m);
        }
        m.ops()
    }

    fn fields(&self) -> usize {
        let view = at_tip(&self.shard.tip, &self.shard.store);
        let header = view.header(KEY).unwrap().unwrap();
        let mut seen = 0;
        let (count, work) = (usize::MAX, u64::MAX);
        view.fields(KEY, &header, 0, Limit { count, work }, &mut |_, value| {
            assert_eq!(value, b"new");
            seen += 1;
        })
        .unwrap();
        seen
    }
}

/// A large hash that was deleted.
fn with_dead_cells() -> Log {
    let mut log = Log {
        shard: shard(),
        entries: Vec::new(),
    };
    log.set_fields(0..100, "old");
    log.delete();
    log.apply();
    log
}

#[test]
fn dead_cells_are_purged_while_their_key_is_written_to() {
    let mut log = with_dead_cells();
    log.set_fields(0..3, "new");
    assert_eq!(log.purge(), 2, "fields, and the end");
    assert_eq!(log.fields(), 3);
    log.set_fields(2..4, "new");
    assert_eq!(log.fields(), 4);
    log.apply();
    assert_eq!(log.fields(), 4);
    let header = log.shard.store.header(KEY).unwrap().unwrap();
    assert_eq!(header.deleted, Stamp::ZERO);
    assert_eq!(log.purge(), 0);
}

/// The deletion is applied, and what came behind it is not: the tip hides all that the store holds.
#[test]
fn what_a_key_lost_does_not_return_if_it_is_made_anew_right_behind_its_deletion() {
    let mut log = Log {
        shard: shard(),
        entries: Vec::new(),
    };
    log.set_fields(0..100, "old");
    log.apply();
    log.delete();
    log.set_fields(0..3, "new");
    log.apply_first(2);
    assert_eq!(log.purge(), 2, "fields, and the end");
    assert_eq!(log.fields(), 3);
    log.apply();
    assert_eq!(log.fields(), 3);
    let header = log.shard.store.header(KEY).unwrap().unwrap();
    assert_eq!(header.deleted, Stamp::ZERO);
}

#[test]
fn a_key_deleted_once_more_in_flight_is_not_done() {
    let mut log = with_dead_cells();
    log.set_fields(0..100, "older");
    log.delete();
    log.set_fields(0..1, "new");
    // Only what was dead before; all of it is touched in flight as a whole.
    log.purge();
    assert_eq!(log.fields(), 1);
    log.apply();
    assert_eq!(log.fields(), 1);
    let header = log.shard.store.header(KEY).unwrap().unwrap();
    assert_ne!(header.deleted, Stamp::ZERO);
    log.purge();
    log.apply();
    assert_eq!(log.fields(), 1);
    let header = log.shard.store.header(KEY).unwrap().unwrap();
    assert_eq!(header.deleted, Stamp::ZERO);
}

#[test]
fn who_watches_a_key_is_not_concerned_by_a_purge() {
    let mut shard = shard();
    shard.watched.add(KEY, 5, true);
    let entry = |index| {
        let mut mutation = Mutation::new();
        mutation.remove_fields(KEY, None, [&b"dead"[..]].into_iter());
        let (ops, bytes) = (mutation.ops(), mutation.bytes());
        let at = Position::new(1, index);
        Entry::new(at, Stamp(index), EntryKind::Mutation, ops, bytes)
    };
    shard.purged(&entry(6)).unwrap();
    assert!(shard.watched.is_unchanged_since(KEY, 5));
    shard.proposed(&entry(7)).unwrap();
    assert!(!shard.watched.is_unchanged_since(KEY, 5));
}
