//! Random commands at the tip, against the store that they will have been carried out in.

use super::*;
use bytes::BytesMut;
use commands::{Context, view::Limit};
use model::{Mutation, Position, ShardId, mutation::KeyKind};
use proptest::prelude::*;
use storage::store::{CacheBudget, MemoryRows, MemoryStores, Stores};

const NOW_MS: u64 = 1_700_000_000_000;

/// A shard whose entries are proposed one by one, and carried out when it is asked to.
struct Shard {
    store: ShardStore<MemoryRows>,
    tip: Tip,
    in_flight: Vec<Entry>,
    proposed: u64,
}

impl Shard {
    fn new() -> Self {
        let rows = MemoryStores::new().open(ShardId(0)).unwrap();
        Shard {
            store: ShardStore::open(rows, CacheBudget { bytes: 1 << 16 }).unwrap(),
            tip: Tip::default(),
            in_flight: Vec::new(),
            proposed: 0,
        }
    }

    /// Proposes a write.
    fn write(&mut self, line: &str) {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (mut mutation, mut reply) = (Mutation::new(), BytesMut::new());
        let view = at_tip(&self.tip, &self.store);
        let cx = Context {
            now_ms: NOW_MS,
            random: 0,
            keyspace: 0,
            version: resp::Version::Resp2,
        };
        let spec = commands::find(&args).unwrap();
        let work = commands::Work::new(u64::MAX);
        commands::evaluate(spec, &args, &view, &cx, &work, &mut mutation, &mut reply).unwrap();
        self.proposed += 1;
        let entry = Entry::new(
            Position::new(1, self.proposed),
            Stamp(Stamp::from_ms(NOW_MS).0 + 10 * self.proposed),
            EntryKind::Mutation,
            mutation.ops(),
            mutation.bytes(),
        );
        self.tip.append(&entry, &self.store).unwrap();
        self.in_flight.push(entry);
    }

    fn carry_out(&mut self, entries: usize) {
        let entries = entries.min(self.in_flight.len());
        let done: Vec<Entry> = self.in_flight.drain(..entries).collect();
        self.store.apply(&done).unwrap();
        if let Some(last) = done.last() {
            self.tip.applied(last.position.index);
        }
    }

    fn at_tip(&self) -> Over<'_, Committed<'_, MemoryRows>> {
        at_tip(&self.tip, &self.store)
    }
}

type Content = Vec<(Bytes, Bytes)>;

fn limit(count: usize) -> Limit {
    let work = u64::MAX;
    Limit { count, work }
}

/// Every key, by scans of a few keys each, with its fields or its string, which has no name;
/// and the count that the view gives.
fn listed(view: &dyn View) -> (Vec<(Bytes, Content)>, u64) {
    let (mut keys, mut cursor) = (Vec::new(), 0);
    loop {
        let mut visit = |key: &[u8], header: &Header| {
            keys.push((Bytes::copy_from_slice(key), *header));
        };
        cursor = view.scan(cursor, limit(2), &mut visit).unwrap().next;
        if cursor == 0 {
            break;
        }
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    let with_content = |(key, header): (Bytes, Header)| {
        let mut content = Content::new();
        if header.kind == KeyKind::String {
            let (_, value) = view.string(&key).unwrap().unwrap();
            content.push((Bytes::new(), value));
        }
        let mut visit = |field: &[u8], value: &[u8]| {
            let (field, value) = (Bytes::copy_from_slice(field), Bytes::copy_from_slice(value));
            content.push((field, value));
        };
        let mut cursor = 0;
        loop {
            let passed = view.fields(&key, &header, cursor, limit(2), &mut visit);
            cursor = passed.unwrap().next;
            if cursor == 0 {
                break;
            }
        }
        content.sort();
        for (field, value) in content.iter().filter(|(field, _)| !field.is_empty()) {
            let found = view.field(&key, &header, field).unwrap();
            assert!(view.has_field(&key, &header, field).unwrap());
            assert_eq!(found.as_ref(), Some(value));
        }
        assert!(header.kind != KeyKind::Hash || header.fields == content.len() as u64);
        (key, content)
    };
    let keys = keys.into_iter().map(with_content).collect();
    (keys, view.key_count().unwrap().0)
}

/// All that lets a key expire, or no more.
fn write_with_time() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "SET [a-d] 1",
        3 => "SET [a-d] 1 (EXAT 17000000[0-9]{2}|KEEPTTL)",
        2 => "EXPIREAT [a-d] 17000000[0-9]{2}",
        1 => "GETEX [a-d] (EXAT 17000000[0-9]{2}|PERSIST)",
        1 => "(PERSIST|INCR|GETDEL|DEL) [a-d]",
        1 => "APPEND [a-d] 1",
        1 => "(MSET|GETSET|MSETNX) [a-d] 1",
        1 => "HSET [a-d] f 1",
        1 => "(RENAME|COPY|BITOP NOT) [a-d] [a-d]",
        1 => "COPY [a-d] [a-d] REPLACE",
        1 => Just("FLUSHDB".to_owned()),
    ]
}

fn write() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "SET [a-f] 1",
        2 => "HSET [a-f] [v-z] 1 y [1-9]",
        1 => "HDEL [a-f] [v-z] y",
        3 => "DEL [a-f] [a-f]",
        2 => "RENAME [a-f] [a-f]",
        1 => Just("FLUSHDB".to_owned()),
    ]
}

proptest! {
    #[test]
    fn keys_that_expire_are_counted(
        steps in proptest::collection::vec((write_with_time(), 0usize..4, 0usize..3), 1..60),
    ) {
        let mut shard = Shard::new();
        for (line, carried_out, counted) in steps {
            shard.write(&line);
            shard.carry_out(carried_out);
            shard.store.count_expiring(counted).unwrap();
        }
        shard.carry_out(usize::MAX);
        shard.store.count_expiring(usize::MAX).unwrap();
        let (mut keys, mut sum) = (0, 0);
        let mut visit = |_: &[u8], header: &Header| {
            keys += u64::from(header.expires_ms > 0);
            sum += u128::from(header.expires_ms);
        };
        Committed(&shard.store).scan(0, limit(usize::MAX), &mut visit).unwrap();
        prop_assert_eq!(shard.store.expiring(), Some((keys, sum)));
    }

    #[test]
    fn the_tip_lists_what_the_store_will(
        steps in proptest::collection::vec((write(), 0usize..4), 1..30),
    ) {
        let (mut shard, mut later) = (Shard::new(), Shard::new());
        for (line, carried_out) in steps {
            shard.write(&line);
            // What the store holds once everything is carried out.
            later.store.apply(&shard.in_flight[shard.in_flight.len() - 1..]).unwrap();
            let expected = listed(&Committed(&later.store));
            prop_assert_eq!(&listed(&shard.at_tip()), &expected, "{}", line);
            shard.carry_out(carried_out);
            prop_assert_eq!(&listed(&shard.at_tip()), &expected, "{}", line);
        }
        shard.carry_out(usize::MAX);
        prop_assert!(shard.tip.keys.is_empty() && shard.tip.cleared.is_none());
    }
}
