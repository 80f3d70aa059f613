//! Random commands at the tip, against the store that they will have been carried out in.

use super::*;
use bytes::BytesMut;
use commands::{Context, transaction, view::Limit};
use model::{Mutation, Position, ShardId, mutation::KeyKind};
use proptest::prelude::*;
use storage::store::{CacheBudget, DeadPlace, MemoryRows, MemoryStores, Stores};

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

    /// Proposes a write; commands separated by `;` are a transaction.
    fn write(&mut self, lines: &str) {
        let commands: Vec<Vec<&[u8]>> = lines
            .split("; ")
            .map(|line| line.split(' ').map(str::as_bytes).collect())
            .collect();
        let commands: Vec<&[&[u8]]> = commands.iter().map(|args| &args[..]).collect();
        let (mut mutation, mut reply) = (Mutation::new(), BytesMut::new());
        let view = at_tip(&self.tip, &self.store);
        let cx = Context {
            now_ms: NOW_MS,
            random: 0,
            keyspace: 0,
            version: resp::Version::Resp2,
        };
        let work = commands::Work::new(u64::MAX);
        if let [args] = commands[..] {
            let spec = commands::find(args).unwrap();
            commands::evaluate(spec, args, &view, &cx, &work, &mut mutation, &mut reply).unwrap();
        } else {
            let mut staging = Staging::new(&view, self.next_stamp());
            let (mutation, reply) = (&mut mutation, &mut reply);
            transaction::run(&commands, &mut staging, &cx, &work, mutation, reply).unwrap();
        }
        self.propose(&mutation);
    }

    /// Proposes to purge some of the cells that are dead in the store.
    fn purge(&mut self, limit: usize) {
        let (dead, _) = self.store.to_purge(&DeadPlace::default(), limit).unwrap();
        let mut mutation = Mutation::new();
        for dead in dead {
            let fields = dead.fields.iter().map(|field| &field[..]);
            mutation.remove_fields(&dead.key, None, fields);
            let header = self.at_tip().header(&dead.key).unwrap();
            if dead.all
                && let Some(header) = header.filter(|h| h.deleted == dead.deleted)
            {
                mutation.finish_purge(&dead.key, &header);
            }
        }
        self.propose(&mutation);
    }

    /// Of the first op of the next entry.
    fn next_stamp(&self) -> Stamp {
        Stamp(Stamp::from_ms(NOW_MS).0 + 1000 * (self.proposed + 1))
    }

    fn propose(&mut self, mutation: &Mutation) {
        let stamp = self.next_stamp();
        self.proposed += 1;
        let entry = Entry::new(
            Position::new(1, self.proposed),
            stamp,
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

/// What leaves tombstones, and what is written over them.
fn write_large() -> impl Strategy<Value = String> {
    let large = |key| {
        let fields: Vec<_> = (0..70).map(|n| format!("f{n} 1")).collect();
        format!("HSET {key} {}", fields.join(" "))
    };
    prop_oneof![
        8 => "[ab]".prop_map(large),
        6 => "HSET [ab] f[0-9] 2 g 1",
        4 => "HDEL [ab] f[0-9] f1",
        8 => "DEL [ab]",
        3 => "SET [ab] 1",
        2 => "EXPIREAT [ab] (1|1800000000)",
        2 => "RENAME [ab] [ab]",
        1 => Just("FLUSHDB".to_owned()),
    ]
}

/// A command or a transaction; or a purge of so many cells.
fn large_step() -> impl Strategy<Value = Result<String, usize>> {
    let writes = proptest::collection::vec(write_large(), 2..5);
    prop_oneof![
        4 => write_large().prop_map(Ok),
        2 => writes.prop_map(|lines| Ok(lines.join("; "))),
        3 => prop_oneof![1..80usize, Just(500)].prop_map(Err),
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

    #[test]
    fn the_tip_is_the_store_over_tombstones_and_purges(
        steps in proptest::collection::vec((large_step(), 0usize..4), 1..30),
    ) {
        let (mut shard, mut later) = (Shard::new(), Shard::new());
        for (step, carried_out) in steps {
            match &step {
                Ok(lines) => shard.write(lines),
                Err(limit) => shard.purge(*limit),
            }
            later.store.apply(&shard.in_flight[shard.in_flight.len() - 1..]).unwrap();
            let expected = listed(&Committed(&later.store));
            prop_assert_eq!(&listed(&shard.at_tip()), &expected, "{:?}", step);
            for key in [b"a", b"b"] {
                let header = later.store.header(key).unwrap();
                prop_assert_eq!(shard.at_tip().header(key).unwrap(), header, "{:?}", step);
            }
            shard.carry_out(carried_out);
            prop_assert_eq!(&listed(&shard.at_tip()), &expected, "{:?}", step);
        }
    }
}
