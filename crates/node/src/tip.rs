//! The tip: what is committed, and on top of it the shard's own entries still in flight.
//!
//! Commands that write are evaluated against the tip, so that a hot counter is not limited to
//! one increment a round trip. Only the overlay lives here; a key leaves it once the entry
//! that touched it last is in the store.
//!
//! Clients choose the keys, so they are hashed with a key drawn at the start of the process;
//! what lists them sorts them.
#![allow(clippy::disallowed_types)] // a hash map, for the reason above

use bytes::Bytes;
use commands::{
    Passed, View, ViewError,
    transaction::Staged,
    view::{FIELD_CURSORS, Limit},
    work::LOOK_UP,
};
use model::{
    Entry, EntryKind, Op, Stamp,
    codec::Malformed,
    few::FewMap,
    mutation::{Header, KeyKind, Ops},
    work::of_value,
};
use std::collections::{HashMap, VecDeque, hash_map};
use storage::store::{self, ROW_WORK, Rows, ShardStore, StoreError, cursor_of, field_cursor_of};

/// A key as the entries in flight leave it.
#[derive(Debug)]
struct PendingKey {
    /// None: there is no row.
    header: Option<Header>,
    /// The value, if it is a string that was written in flight.
    string: Option<Bytes>,
    /// Fields written (Some) or removed (None) in flight.
    fields: FewMap<Option<Bytes>>,
    /// Whether the cells in the store are out of sight.
    hides_store: bool,
    /// The last entry that touched it.
    index: u64,
}

/// The overlay of one shard.
#[derive(Debug, Default)]
pub(crate) struct Tip {
    keys: HashMap<Bytes, PendingKey>,
    /// Which entry touched which key, in order.
    touched: VecDeque<(u64, Bytes)>,
    /// The entry that cleared the shard, if one is in flight: nothing in the store counts.
    cleared: Option<u64>,
}

/// Work of looking at one key or field in flight that may not be shown.
const LOOK: u64 = ROW_WORK / 8;

const _: () = assert!(FIELD_CURSORS == 1 << 32, "as the store has them");

fn passed(passed: store::Passed) -> Passed {
    let store::Passed { next, work } = passed;
    Passed { next, work }
}

fn view_error(error: StoreError) -> ViewError {
    ViewError::new(error.to_string())
}

impl Tip {
    /// Forgets everything, as when what was in flight is lost.
    pub(crate) fn reset(&mut self) {
        *self = Tip::default();
    }

    /// Whether an entry in flight has written or removed this field, and none behind it has
    /// deleted the key.
    pub(crate) fn touches(&self, key: &[u8], field: &[u8]) -> bool {
        let pending = self.keys.get(key);
        pending.is_some_and(|p| p.fields.get(field).is_some())
    }

    /// Takes in an entry that was just appended.
    pub(crate) fn append<R: Rows>(
        &mut self,
        entry: &Entry,
        store: &ShardStore<R>,
    ) -> Result<(), ViewError> {
        if entry.kind != EntryKind::Mutation {
            return Ok(());
        }
        let (ops, index) = (entry.payload(), entry.position.index);
        self.take(ops, entry.stamp, index, &Committed(store))?;
        Ok(())
    }

    /// Takes in ops over what is below; the first is stamped `first`. Returns how many.
    fn take<V: View>(
        &mut self,
        ops: Bytes,
        first: Stamp,
        index: u64,
        below: &V,
    ) -> Result<u64, ViewError> {
        let malformed = |e: Malformed| ViewError::new(format!("own entry {index}: {e}"));
        let mut stamp = first;
        for op in Ops::new(ops) {
            self.op(op.map_err(malformed)?, stamp, index, below)?;
            stamp.0 += 1;
        }
        Ok(stamp.0 - first.0)
    }

    fn op<V: View>(
        &mut self,
        op: Op,
        stamp: Stamp,
        index: u64,
        below: &V,
    ) -> Result<(), ViewError> {
        match op {
            Op::PutString {
                key,
                mut header,
                value,
                ..
            } => {
                let pending = self.touch_blindly(key, index);
                pending.inherit(&mut header);
                pending.header = Some(header);
                pending.string = Some(value);
                pending.fields.clear();
                pending.hides_store = true;
            }
            Op::SetFields {
                key,
                header,
                fields,
                ..
            } => {
                let pending = match header {
                    Some(mut header) => {
                        let pending = self.touch_blindly(key, index);
                        pending.inherit(&mut header);
                        pending.header = Some(header);
                        pending
                    }
                    None => self.touch(key, index, below)?,
                };
                pending.string = None;
                for (field, value) in fields {
                    pending.fields.insert(field, Some(value));
                }
            }
            Op::RemoveFields {
                key,
                header,
                fields,
            } => {
                let pending = match header {
                    Some(header) => {
                        let pending = self.touch_blindly(key, index);
                        pending.header = Some(header);
                        pending
                    }
                    None => self.touch(key, index, below)?,
                };
                for field in fields {
                    pending.fields.insert(field, None);
                }
            }
            Op::SetHeader { key, header } => {
                self.touch_blindly(key, index).header = Some(header);
            }
            Op::Delete { key, tombstone, .. } => {
                let pending = self.touch_blindly(key, index);
                pending.header = tombstone.then_some(Header {
                    deleted: stamp,
                    ..Header::new(KeyKind::Tombstone)
                });
                pending.string = None;
                pending.fields.clear();
                pending.hides_store = true;
            }
            Op::Clear => {
                self.keys.clear();
                self.touched.clear();
                self.cleared = Some(index);
            }
        }
        Ok(())
    }

    /// The overlay of `key`, begun with the header that counts now.
    fn touch<V: View>(
        &mut self,
        key: Bytes,
        index: u64,
        below: &V,
    ) -> Result<&mut PendingKey, ViewError> {
        let header = if self.cleared.is_some() || self.keys.contains_key(&key) {
            None
        } else {
            below.header(&key)?
        };
        Ok(self.begin(key, index, header))
    }

    /// The same for an op that brings the whole header: it was made of the one that counts now,
    /// which need not be looked up again.
    fn touch_blindly(&mut self, key: Bytes, index: u64) -> &mut PendingKey {
        self.begin(key, index, None)
    }

    /// The overlay of `key`; if there is none yet it begins with `header`.
    fn begin(&mut self, key: Bytes, index: u64, header: Option<Header>) -> &mut PendingKey {
        let hides_store = self.cleared.is_some();
        self.touched.push_back((index, key.clone()));
        let pending = self.keys.entry(key).or_insert_with(|| PendingKey {
            header,
            string: None,
            fields: FewMap::default(),
            hides_store,
            index,
        });
        pending.index = index;
        pending
    }

    /// Entries up to this one are in the store: what they touched last is read from there again.
    pub(crate) fn applied(&mut self, upto: u64) {
        if self.cleared.is_some_and(|at| at <= upto) {
            self.cleared = None;
        }
        while let Some((index, _)) = self.touched.front()
            && *index <= upto
            && let Some((_, key)) = self.touched.pop_front()
        {
            if let hash_map::Entry::Occupied(pending) = self.keys.entry(key)
                && pending.get().index <= upto
            {
                pending.remove();
            }
        }
    }
}

impl PendingKey {
    /// A header written over a tombstone keeps what that covers.
    fn inherit(&self, header: &mut Header) {
        if let Some(old) = &self.header {
            header.deleted = header.deleted.max(old.deleted);
        }
    }
}

/// Reads what is committed.
pub(crate) struct Committed<'a, R: Rows>(pub(crate) &'a ShardStore<R>);

impl<R: Rows> View for Committed<'_, R> {
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError> {
        self.0.header(key).map_err(view_error)
    }

    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
        let found = self.0.string(key).map_err(view_error)?;
        Ok(found.map(|(header, value)| (header, value.unwrap_or_default())))
    }

    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.0.field(key, header, field).map_err(view_error)
    }

    fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, ViewError> {
        self.0.has_field(key, header, field).map_err(view_error)
    }

    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        Limit { count, work }: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError> {
        let gone = self.0.fields(key, header, cursor, (count, work), visit);
        gone.map(passed).map_err(view_error)
    }

    fn scan(
        &self,
        cursor: u64,
        Limit { count, work }: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError> {
        let gone = self.0.scan(cursor, (count, work), visit);
        gone.map(passed).map_err(view_error)
    }

    fn key_count(&self) -> Result<(u64, u64), ViewError> {
        Ok((self.0.key_count(), 0))
    }
}

/// Reads an overlay and what is below it: the tip over the store, what a transaction has done so
/// far over the tip.
pub(crate) struct Over<'a, V: View> {
    pub(crate) tip: &'a Tip,
    pub(crate) below: V,
}

/// The tip of a shard.
pub(crate) fn at_tip<'a, R: Rows>(
    tip: &'a Tip,
    store: &'a ShardStore<R>,
) -> Over<'a, Committed<'a, R>> {
    let below = Committed(store);
    Over { tip, below }
}

impl<V: View> Over<'_, V> {
    /// What is below, if it counts at all.
    fn below(&self) -> Option<&V> {
        self.tip.cleared.is_none().then_some(&self.below)
    }

    fn place(&self, key: &[u8], field: &[u8]) -> Place<'_, V> {
        let pending = self.tip.keys.get(key);
        if let Some(own) = pending.and_then(|pending| pending.fields.get(field)) {
            return Place::Here(own.as_ref());
        }
        match self.below() {
            Some(below) if pending.is_none_or(|p| !p.hides_store) => Place::Below(below),
            _ => Place::Here(None),
        }
    }
}

/// Where what is known of a field stands.
enum Place<'a, V> {
    Here(Option<&'a Bytes>),
    Below(&'a V),
}

impl<V: View> View for Over<'_, V> {
    fn header(&self, key: &[u8]) -> Result<Option<Header>, ViewError> {
        if let Some(pending) = self.tip.keys.get(key) {
            return Ok(pending.header);
        }
        self.below().map_or(Ok(None), |below| below.header(key))
    }

    fn string(&self, key: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
        let Some(pending) = self.tip.keys.get(key) else {
            return self.below().map_or(Ok(None), |below| below.string(key));
        };
        let Some(header) = pending.header else {
            return Ok(None);
        };
        if let Some(value) = &pending.string {
            return Ok(Some((header, value.clone())));
        }
        if header.kind == KeyKind::String && !pending.hides_store {
            let found = self.below.string(key)?;
            let value = found.map_or_else(Bytes::new, |(_, value)| value);
            return Ok(Some((header, value)));
        }
        Ok(Some((header, Bytes::new())))
    }

    fn field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<Option<Bytes>, ViewError> {
        match self.place(key, field) {
            Place::Here(value) => Ok(value.cloned()),
            Place::Below(below) => below.field(key, header, field),
        }
    }

    fn has_field(&self, key: &[u8], header: &Header, field: &[u8]) -> Result<bool, ViewError> {
        match self.place(key, field) {
            Place::Here(value) => Ok(value.is_some()),
            Place::Below(below) => below.has_field(key, header, field),
        }
    }

    fn fields(
        &self,
        key: &[u8],
        header: &Header,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Passed, ViewError> {
        let pending = self.tip.keys.get(key);
        let mut passed = Passed { next: 0, work: 0 };
        if pending.is_none_or(|p| !p.hides_store)
            && let Some(below) = self.below()
        {
            passed = below.fields(key, header, cursor, limit, &mut |field, value| {
                if pending.is_none_or(|p| p.fields.get(field).is_none()) {
                    visit(field, value);
                }
            })?;
        }
        for (field, value) in pending.iter().flat_map(|p| p.fields.iter()) {
            passed.work += LOOK;
            let at = field_cursor_of(field);
            if let Some(value) = value
                && at >= cursor
                && (passed.next == 0 || at < passed.next)
            {
                passed.work += field.len() as u64 + of_value(2 * value.len());
                visit(field, value);
            }
        }
        Ok(passed)
    }

    fn scan(
        &self,
        cursor: u64,
        limit: Limit,
        visit: &mut dyn FnMut(&[u8], &Header),
    ) -> Result<Passed, ViewError> {
        let mut passed = Passed { next: 0, work: 0 };
        if let Some(below) = self.below() {
            passed = below.scan(cursor, limit, &mut |key, header| {
                if !self.tip.keys.contains_key(key) {
                    visit(key, header);
                }
            })?;
        }
        let next = passed.next;
        passed.work += LOOK * self.tip.keys.len() as u64;
        let mut listed: Vec<(&Bytes, &Header)> = Vec::new();
        for (key, pending) in &self.tip.keys {
            let at = cursor_of(key);
            if at >= cursor
                && (next == 0 || at < next)
                && let Some(header) = &pending.header
                && header.kind != KeyKind::Tombstone
            {
                listed.push((key, header));
            }
        }
        listed.sort_unstable_by_key(|(key, _)| *key);
        listed
            .into_iter()
            .for_each(|(key, header)| visit(key, header));
        Ok(passed)
    }

    fn key_count(&self) -> Result<(u64, u64), ViewError> {
        let (mut count, mut work) = match self.below() {
            Some(below) => below.key_count()?,
            None => (0, 0),
        };
        let is_there =
            |header: Option<Header>| header.is_some_and(|header| header.kind != KeyKind::Tombstone);
        work += LOOK_UP * self.tip.keys.len() as u64;
        for (key, pending) in &self.tip.keys {
            let before = match self.below() {
                Some(below) => is_there(below.header(key)?),
                None => false,
            };
            match (before, is_there(pending.header)) {
                (false, true) => count += 1,
                (true, false) => count = count.saturating_sub(1),
                _ => {}
            }
        }
        Ok((count, work))
    }
}

/// What a transaction has done so far, over a view.
pub(crate) struct Staging<'a, V: View> {
    done: Tip,
    below: &'a V,
    /// Of the next op.
    stamp: Stamp,
}

impl<'a, V: View> Staging<'a, V> {
    /// `first`: the stamp of the first op of the entry that it will become.
    pub(crate) fn new(below: &'a V, first: Stamp) -> Self {
        let (done, stamp) = (Tip::default(), first);
        Staging { done, below, stamp }
    }
}

impl<V: View> Staged for Staging<'_, V> {
    fn with_view(
        &self,
        read: &mut dyn FnMut(&dyn View) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let (tip, below) = (&self.done, self.below);
        read(&Over { tip, below })
    }

    fn stage(&mut self, ops: Bytes) -> Result<(), ViewError> {
        self.stamp.0 += self.done.take(ops, self.stamp, 0, self.below)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use commands::Context;
    use model::{Mutation, Position, ShardId};
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
}
