//! The table of a cache: what is known of keys, and of fields of hashes too large to be held
//! whole, within a budget of bytes and of entries.
//!
//! ```text
//! hash of a name ──▶ bucket ──▶ slot ──▶ one allocation: the name, then the value
//!           ([`Buckets`])
//! ```
//! A key's name is the key, a field's is its row. Either may be any bytes: which of the two an
//! entry is of is part of the question ([`Of`]).
//!
//! A look-up that finds its key waits for memory three times, one after the other. The keys of
//! several commands that came together are therefore looked up beforehand, step by step for all
//! of them at once ([`Table::warm`]): their waits overlap, and the look-ups proper find all of it
//! near the processor. This is why it is a table of our own. (In `quick_cache`, whose order of
//! eviction is better, a look-up waits five times, and nothing can overlap that; what the whole is
//! worth stands in docs/benchmarks.)
//!
//! - Eviction is CLOCK: a hand goes round the slots and evicts what was not read since it came by
//!   last. What comes in counts as not read, so that a scan pushes out little else.
//! - A call evicts a bounded number, also after the budget was lowered.

use super::{
    Cached, FieldSlice, Fields, HASH_FIELDS_MAX, HashChange, STRING_BYTES_MAX,
    buckets::{Bucket, Buckets},
    packed, taken,
};
use bytes::{BufMut, Bytes, BytesMut};
use model::{
    Stamp,
    mutation::{Header, KeyKind},
};
use std::{cell::Cell, hash::BuildHasher, hash::RandomState, hint::black_box};

/// What an entry costs besides key and value: its place in slots and buckets, its allocations.
const ENTRY_BYTES: u64 = 144;
/// Entries of one table, at most.
const ENTRIES_MAX: usize = 4 << 20;
/// Slots that are allocated together, so that growing never moves those that are there.
const CHUNK: usize = 1024;
/// Steps of the hand in one call.
const STEPS_MAX: usize = 64;
/// Bytes of an entry that [`Table::warm`] touches, and how far they are apart: a line.
const WARM_BYTES: usize = 512;
const LINE_BYTES: usize = 64;
/// How many keys are looked up together.
pub const WARM_KEYS_MAX: usize = 16;

/// What an entry is of.
#[derive(Clone, Copy)]
pub(super) enum Of<'a> {
    Key(&'a [u8]),
    /// The field whose row this is.
    Cell(&'a [u8]),
}

impl<'a> Of<'a> {
    fn name(self) -> &'a [u8] {
        match self {
            Of::Key(name) | Of::Cell(name) => name,
        }
    }
}

/// [`Cached`], without the bytes; or what is held of a field.
#[derive(Debug, Default)]
enum Held {
    /// A slot without an entry.
    #[default]
    None,
    Header(Header),
    Large(Header),
    String(Header),
    Hash(Header),
    /// A field's stamp and value.
    Cell(Stamp),
    /// Its stamp alone.
    CellStamp(Stamp),
}

impl Held {
    fn is_cell(&self) -> bool {
        matches!(self, Held::Cell(_) | Held::CellStamp(_))
    }

    /// Of a hash whose fields are held one by one.
    fn is_large_hash(&self) -> bool {
        match self {
            Held::Large(header) => header.kind == KeyKind::Hash,
            Held::Header(header) => header.kind == KeyKind::Hash && header.fields > HASH_FIELDS_MAX,
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    held: Held,
    /// The name, then the value of a string or a field, or the fields of a hash.
    bytes: Bytes,
    name_len: u32,
    tag: u32,
    /// Read since the hand came by.
    used: Cell<bool>,
}

impl Slot {
    fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len as usize]
    }

    /// The value of a string or a field, or the fields of a hash.
    fn value(&self) -> &[u8] {
        &self.bytes[self.name_len as usize..]
    }

    fn is(&self, of: Of<'_>) -> bool {
        self.held.is_cell() == matches!(of, Of::Cell(_)) && self.name() == of.name()
    }

    fn cost(&self) -> u64 {
        self.bytes.len() as u64 + ENTRY_BYTES
    }

    fn cached(&self) -> Option<Cached> {
        let value = || taken(&self.bytes, self.value());
        Some(match &self.held {
            Held::None | Held::Cell(_) | Held::CellStamp(_) => return None,
            Held::Header(header) => Cached::Header(*header),
            Held::Large(header) => Cached::Large(*header),
            Held::String(header) => Cached::String(*header, value()),
            Held::Hash(header) => Cached::Hash(*header, Fields(value())),
        })
    }

    fn header(&self) -> Option<Header> {
        match self.held {
            Held::None | Held::Cell(_) | Held::CellStamp(_) => None,
            Held::Header(header)
            | Held::Large(header)
            | Held::String(header)
            | Held::Hash(header) => Some(header),
        }
    }
}

/// See the module.
pub(super) struct Table {
    hasher: RandomState,
    buckets: Buckets,
    slots: Vec<Vec<Slot>>,
    /// Slots without an entry.
    free: Vec<u32>,
    entries: usize,
    /// Those of fields.
    cells: usize,
    bytes: u64,
    hand: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Table {
            hasher: RandomState::new(),
            buckets: Buckets::new(),
            slots: Vec::new(),
            free: Vec::new(),
            entries: 0,
            cells: 0,
            bytes: 0,
            hand: 0,
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.entries - self.cells
    }

    pub(super) fn cells(&self) -> usize {
        self.cells
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether an eighth of what it may hold is left, so that nothing has to go yet.
    pub(super) fn has_room(&self, budget: u64) -> bool {
        self.bytes < budget / 8 * 7 && self.entries < ENTRIES_MAX / 8 * 7
    }

    fn tag(&self, name: &[u8]) -> u32 {
        (self.hasher.hash_one(name) >> 32) as u32
    }

    fn slot(&self, number: usize) -> Option<&Slot> {
        self.slots.get(number / CHUNK)?.get(number % CHUNK)
    }

    fn slot_mut(&mut self, number: usize) -> Option<&mut Slot> {
        self.slots.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }

    fn find(&self, tag: u32, of: Of<'_>) -> Option<(Bucket, usize)> {
        let is = |number| self.slot(number).is_some_and(|slot| slot.is(of));
        self.buckets.probe(tag, is)
    }

    /// The tag, and the number of the slot if there is one.
    fn place(&self, of: Of<'_>) -> (u32, Option<usize>) {
        let tag = self.tag(of.name());
        (tag, self.find(tag, of).map(|(_, number)| number))
    }

    /// An entry, which is kept longer for being used.
    fn used(&self, of: Of<'_>) -> Option<&Slot> {
        let slot = self.slot(self.place(of).1?)?;
        slot.used.set(true);
        Some(slot)
    }

    /// What is held of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Cached> {
        self.used(Of::Key(key))?.cached()
    }

    pub(super) fn header(&self, key: &[u8]) -> Option<Header> {
        self.used(Of::Key(key))?.header()
    }

    /// Of a hash that is held with its fields: the header, and what `take` makes of the field's
    /// value and the allocation that it is part of.
    pub(super) fn field<T>(
        &self,
        key: &[u8],
        field: &[u8],
        take: impl FnOnce(&Bytes, &[u8]) -> T,
    ) -> Option<(Header, Option<T>)> {
        let slot = self.used(Of::Key(key))?;
        let Held::Hash(header) = slot.held else {
            return None;
        };
        let value = FieldSlice(slot.value()).get(field);
        Some((header, value.map(|value| take(&slot.bytes, value))))
    }

    /// The stamp of a field that is held.
    pub(super) fn stamp(&self, row: &[u8]) -> Option<Stamp> {
        match self.used(Of::Cell(row))?.held {
            Held::Cell(stamp) | Held::CellStamp(stamp) => Some(stamp),
            _ => None,
        }
    }

    /// The stamp and the value of a field that is held with its value.
    pub(super) fn cell(&self, row: &[u8]) -> Option<(Stamp, Bytes)> {
        let slot = self.used(Of::Cell(row))?;
        match slot.held {
            Held::Cell(stamp) => Some((stamp, taken(&slot.bytes, slot.value()))),
            _ => None,
        }
    }

    /// Brings what is held of these keys near the processor; see the module.
    pub(super) fn warm(&self, keys: &[&[u8]]) {
        let mut tags = [0; WARM_KEYS_MAX];
        let keys = keys.iter().take(WARM_KEYS_MAX);
        let count = keys.len();
        for (tag, key) in tags.iter_mut().zip(keys) {
            *tag = self.tag(key);
        }
        let tags = &tags[..count];
        // Without this the buckets are waited for one by one, as which to look at next hangs on
        // what is found.
        let homes = tags.iter().map(|tag| self.buckets.touch(*tag));
        black_box(homes.fold(0, |all, bucket| all ^ bucket));
        let mut found = [None; WARM_KEYS_MAX];
        for (found, tag) in found.iter_mut().zip(tags) {
            *found = self.buckets.probe(*tag, |_| true).map(|(_, number)| number);
        }
        let touched = found[..count].iter().flatten().map(|number| {
            let bytes = self.slot(*number).map_or(&[][..], |slot| &slot.bytes);
            let lines = bytes.chunks(LINE_BYTES).take(WARM_BYTES / LINE_BYTES);
            lines.fold(0, |all, line| all ^ line[0])
        });
        black_box(touched.fold(0, |all, byte| all ^ byte));
    }

    fn held(&self, of: Of<'_>) -> &Held {
        let slot = self.place(of).1.and_then(|number| self.slot(number));
        slot.map_or(&Held::None, |slot| &slot.held)
    }

    /// Whether a string, the fields of a hash or the value of a field are held.
    pub(super) fn holds_value(&self, of: Of<'_>) -> bool {
        matches!(
            self.held(of),
            Held::String(_) | Held::Hash(_) | Held::Cell(_)
        )
    }

    /// Whether a key is known to be a hash whose fields are held one by one.
    pub(super) fn holds_large_hash(&self, key: &[u8]) -> bool {
        self.held(Of::Key(key)).is_large_hash()
    }

    /// Holds this of a key, whose bytes and a string's are copied, and evicts others if all of
    /// it costs more than `budget`.
    pub(super) fn put(&mut self, key: &[u8], cached: Cached, budget: u64) {
        let (held, value) = match &cached {
            Cached::Header(header) => (Held::Header(*header), &[][..]),
            Cached::Large(header) => (Held::Large(*header), &[][..]),
            Cached::String(header, value) => (Held::String(*header), &value[..]),
            Cached::Hash(header, fields) => (Held::Hash(*header), &fields.0[..]),
        };
        let place = self.place(Of::Key(key));
        self.hold_value(place, held, (key, value), budget);
    }

    /// Holds this of a field, the value if `whole`; if there is nothing held of it, `brings` says
    /// whether it comes in. A value that is held stays so.
    pub(super) fn put_cell(
        &mut self,
        row: &[u8],
        (stamp, value): (Stamp, &[u8]),
        (brings, whole): (bool, bool),
        budget: u64,
    ) {
        let place = self.place(Of::Cell(row));
        let slot = place.1.and_then(|number| self.slot(number));
        let whole = match slot {
            None if !brings => return,
            Some(slot) if matches!(slot.held, Held::Cell(_)) => true,
            _ => whole,
        };
        let (held, value) = match whole && value.len() <= STRING_BYTES_MAX {
            true => (Held::Cell(stamp), value),
            false => (Held::CellStamp(stamp), &[][..]),
        };
        self.hold_value(place, held, (row, value), budget);
    }

    /// See [`super::Cache::change_hash`].
    pub(super) fn change_hash(&mut self, key: &[u8], change: HashChange<'_>, budget: u64) -> bool {
        let (tag, found) = self.place(Of::Key(key));
        let slot = found.and_then(|number| self.slot(number));
        let held = slot.map_or(&Held::None, |slot| &slot.held);
        let header = match (change.header, held) {
            (Some(header), _) => header,
            (None, Held::Hash(header)) => *header,
            (None, held) => return held.is_large_hash(),
        };
        let old = match (held, slot) {
            _ if change.whole => Some(FieldSlice::NONE),
            (Held::None, _) => return false,
            (Held::Hash(_), Some(slot)) => Some(FieldSlice(slot.value())),
            _ => None,
        };
        let without_fields = match held {
            Held::Header(_) if !change.whole => Held::Header(header),
            _ => Held::Large(header),
        };
        let changes = change.fields.iter().map(|(field, put)| {
            let alive = put.as_ref().filter(|(stamp, _)| *stamp > header.deleted);
            (&field[..], alive.map(|(_, value)| &value[..]))
        });
        let fields = old.and_then(|old| packed(key, old.changed(changes).into_iter()));
        let (held, bytes) = match fields {
            Some(bytes) => (Held::Hash(header), bytes),
            None => (without_fields, BytesMut::from(key)),
        };
        let is_large = held.is_large_hash();
        self.hold((tag, found), held, key, bytes, budget);
        is_large
    }

    /// Holds this in the slot of a name that was found, or in a new one. A value of the same length
    /// as before takes its place: to allocate is to wait for other memory.
    fn hold_value(
        &mut self,
        place: (u32, Option<usize>),
        held: Held,
        (name, value): (&[u8], &[u8]),
        budget: u64,
    ) {
        if let Some(slot) = place.1.and_then(|number| self.slot_mut(number))
            && slot.bytes.len() == name.len() + value.len()
        {
            match std::mem::take(&mut slot.bytes).try_into_mut() {
                Ok(mut bytes) => {
                    bytes[name.len()..].copy_from_slice(value);
                    slot.bytes = bytes.freeze();
                    slot.held = held;
                    return self.evict(budget);
                }
                Err(shared) => slot.bytes = shared,
            }
        }
        self.hold(place, held, name, bytes_of(name, value), budget);
    }

    /// Holds this in the slot of a name that was found, or in a new one; `bytes` begin with the
    /// name.
    fn hold(
        &mut self,
        (tag, found): (u32, Option<usize>),
        held: Held,
        name: &[u8],
        bytes: BytesMut,
        budget: u64,
    ) {
        let new = Slot {
            held,
            bytes: bytes.freeze(),
            name_len: name.len() as u32,
            tag,
            used: Cell::new(false),
        };
        let cost = new.cost();
        if let Some(slot) = found.and_then(|number| self.slot_mut(number)) {
            let used = slot.used.get();
            let old = std::mem::replace(slot, new);
            slot.used.set(used);
            self.bytes = self.bytes - old.cost() + cost;
        } else {
            if self.entries >= ENTRIES_MAX {
                self.evict(self.bytes.saturating_sub(1));
            }
            if self.entries >= ENTRIES_MAX {
                return; // All that the hand passed was read lately.
            }
            self.insert(new);
            self.bytes += cost;
        }
        self.evict(budget);
    }

    /// An entry whose name is not there; there is room for it.
    fn insert(&mut self, new: Slot) {
        let tag = new.tag;
        self.cells += usize::from(new.held.is_cell());
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(slot) = self.slot_mut(number as usize) {
                    *slot = new;
                }
                number as usize
            }
            None => {
                let number = self.entries;
                if number.is_multiple_of(CHUNK) {
                    self.slots.push(Vec::with_capacity(CHUNK));
                }
                self.slots[number / CHUNK].push(new);
                number
            }
        };
        self.buckets.insert(tag, number);
        self.entries += 1;
    }

    pub(super) fn remove(&mut self, of: Of<'_>) {
        if let Some((bucket, number)) = self.find(self.tag(of.name()), of) {
            self.remove_at(bucket, number);
        }
    }

    fn remove_at(&mut self, bucket: Bucket, number: usize) {
        if let Some(slot) = self.slot_mut(number) {
            let old = std::mem::take(slot);
            self.bytes -= old.cost();
            self.cells -= usize::from(old.held.is_cell());
            self.free.push(number as u32);
            self.entries -= 1;
        }
        self.buckets.remove(bucket);
    }

    /// Moves the hand on until all of it costs at most `budget`, or it has made its steps.
    pub(super) fn evict(&mut self, budget: u64) {
        let mut steps = 0;
        while self.bytes > budget && steps < STEPS_MAX {
            steps += 1;
            let number = self.hand;
            let Some(slot) = self.slot(number) else {
                self.hand = 0;
                continue;
            };
            let stays = matches!(slot.held, Held::None) || slot.used.replace(false);
            let found = self.buckets.probe(slot.tag, |other| other == number);
            self.hand += 1;
            if let (false, Some((bucket, _))) = (stays, found) {
                self.remove_at(bucket, number);
            }
        }
    }
}

/// A name and a value in one allocation.
fn bytes_of(name: &[u8], value: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(name.len() + value.len());
    bytes.put_slice(name);
    bytes.put_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::mutation::KeyKind;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What a string of a model is, as it comes out.
    fn string(table: &Table, key: &[u8]) -> Option<Bytes> {
        table.get(key).map(|cached| match cached {
            Cached::String(_, value) => value,
            other => panic!("{other:?} was never put"),
        })
    }

    fn put(table: &mut Table, key: &[u8], value: &[u8], budget: u64) {
        let header = Header::new(KeyKind::String);
        let value = Bytes::copy_from_slice(value);
        table.put(key, Cached::String(header, value), budget);
    }

    /// The buckets and the slots agree, and what is counted is there.
    fn check(table: &Table) {
        assert_eq!(table.buckets.checked().len(), table.entries);
        let slots = || table.slots.iter().flatten();
        let held = || slots().filter(|slot| !matches!(slot.held, Held::None));
        assert_eq!(held().count(), table.entries);
        assert_eq!(slots().count(), table.entries + table.free.len());
        assert_eq!(held().map(Slot::cost).sum::<u64>(), table.bytes);
        assert_eq!(
            held().filter(|slot| slot.held.is_cell()).count(),
            table.cells
        );
        for slot in held() {
            let of = match slot.held.is_cell() {
                true => Of::Cell(slot.name()),
                false => Of::Key(slot.name()),
            };
            let (_, number) = table.find(slot.tag, of).unwrap();
            assert!(std::ptr::eq(table.slot(number).unwrap(), slot));
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(u16, usize),
        Remove(u16),
        Get(u16),
        /// A field whose row is the same bytes as that key; whether it comes in, and whole.
        PutCell(u16, usize, (bool, bool)),
        RemoveCell(u16),
        GetCell(u16),
        Evict(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let key = 0u16..300;
        prop_oneof![
            4 => (key.clone(), prop_oneof![0..40usize, 1000..1100usize]).prop_map(|(k, n)| Act::Put(k, n)),
            2 => key.clone().prop_map(Act::Remove),
            1 => key.clone().prop_map(Act::Get),
            3 => (key.clone(), prop_oneof![0..40usize, 70_000..70_010usize], any::<(bool, bool)>())
                .prop_map(|(k, n, how)| Act::PutCell(k, n, how)),
            2 => key.clone().prop_map(Act::RemoveCell),
            1 => key.prop_map(Act::GetCell),
            1 => (0u64..60_000).prop_map(Act::Evict),
        ]
    }

    proptest! {
        /// It may have forgotten a key; what it says of one is what was put last.
        #[test]
        fn it_never_holds_anything_else(acts in proptest::collection::vec(act(), 1..400)) {
            let (mut table, mut model) = (Table::new(), BTreeMap::new());
            let mut cells = BTreeMap::new();
            let budget = 50_000;
            for (n, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Put(key, bytes) => {
                        let value = vec![n as u8; bytes];
                        put(&mut table, &key.to_be_bytes(), &value, budget);
                        model.insert(key, value);
                    }
                    Act::Remove(key) => {
                        table.remove(Of::Key(&key.to_be_bytes()));
                        model.remove(&key);
                        prop_assert_eq!(string(&table, &key.to_be_bytes()), None);
                    }
                    Act::Get(key) => {
                        string(&table, &key.to_be_bytes());
                    }
                    Act::PutCell(key, bytes, how) => {
                        let (stamp, value) = (Stamp(n as u64), vec![n as u8; bytes]);
                        table.put_cell(&key.to_be_bytes(), (stamp, &value), how, budget);
                        cells.insert(key, (stamp, value));
                    }
                    Act::RemoveCell(key) => {
                        table.remove(Of::Cell(&key.to_be_bytes()));
                        cells.remove(&key);
                        prop_assert_eq!(table.stamp(&key.to_be_bytes()), None);
                    }
                    Act::GetCell(key) => {
                        table.stamp(&key.to_be_bytes());
                    }
                    Act::Evict(budget) => table.evict(budget),
                }
                check(&table);
            }
            let keys: Vec<[u8; 2]> = (0u16..300).map(u16::to_be_bytes).collect();
            for some in keys.chunks(20) {
                table.warm(&some.iter().map(|key| &key[..]).collect::<Vec<_>>());
            }
            for key in 0..300u16 {
                if let Some(found) = string(&table, &key.to_be_bytes()) {
                    prop_assert_eq!(Some(&found[..]), model.get(&key).map(|v| &v[..]));
                }
                let row = key.to_be_bytes();
                if let Some(stamp) = table.stamp(&row) {
                    prop_assert_eq!(Some(stamp), cells.get(&key).map(|(stamp, _)| *stamp));
                }
                if let Some((stamp, value)) = table.cell(&row) {
                    prop_assert_eq!(Some(&(stamp, value.to_vec())), cells.get(&key));
                }
            }
        }
    }

    #[test]
    fn what_was_read_stays_as_it_was() {
        let mut table = Table::new();
        for bytes in [10, 2000] {
            put(&mut table, b"key", &vec![1; bytes], u64::MAX);
            let read = string(&table, b"key").unwrap();
            put(&mut table, b"key", &vec![2; bytes], u64::MAX);
            assert_eq!(read, vec![1; bytes]);
            assert_eq!(string(&table, b"key").unwrap(), vec![2; bytes]);
            check(&table);
        }
    }

    #[test]
    fn all_of_it_is_held_that_fits() {
        let mut table = Table::new();
        for key in 0..20_000u32 {
            put(&mut table, &key.to_be_bytes(), &key.to_le_bytes(), u64::MAX);
        }
        check(&table);
        for key in 0..20_000u32 {
            let found = string(&table, &key.to_be_bytes());
            assert_eq!(found.as_deref(), Some(&key.to_le_bytes()[..]));
        }
    }

    #[test]
    fn what_is_read_stays_when_much_is_written() {
        let (mut table, budget) = (Table::new(), 1000 * 200);
        for n in 0..20_000u32 {
            put(&mut table, &n.to_be_bytes(), b"", budget);
            for read in 0..100u32 {
                string(&table, &read.to_be_bytes());
            }
        }
        check(&table);
        assert!(table.bytes() <= budget);
        let kept =
            |from, to| (from..to).filter(|n: &u32| string(&table, &n.to_be_bytes()).is_some());
        assert_eq!(kept(0, 100).count(), 100, "those that were read");
        assert!(kept(19_000, 20_000).count() > 500, "and the newest");
    }
}
