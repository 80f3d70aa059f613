//! SCAN's cursor: where among the keys of a keyspace a scan goes on.
//!
//! ```text
//! bits   63 … 53 | 52 … 39 | 38 … 0
//!        zero    | slot    | the upper bits of the key's hash
//! ```
//! Client libraries keep a cursor in what their language has for numbers: JavaScript in a double,
//! which holds integers below 2⁵³, PHP in a signed integer. A cursor that comes back rounded skips
//! keys without a word, so every cursor stays below 2⁵³.
//!
//! A cursor is a function of a key alone: of its slot and its hash, which are the same on every
//! node, whatever that has flushed, copied or taken over. A scan visits keys in the order of their
//! cursors, and those that share one together; it answers the cursor of the first key that it did
//! not visit. So each key whose cursor is at least that is still to come, each below it has been
//! visited, and no node remembers anything of a scan: another node, another primary or the same
//! one after a start goes on with it. A key that is there from the first call to the last is
//! visited, once, at the moment at which its cursor is passed, whatever is put or deleted beside it.
//! Fewer bits than the rows' order has cost nothing but that: two keys of one slot share a cursor
//! with a chance of one in 2³⁹, and then come in one reply.
//!
//! 0 begins a scan and, answered, ends it. Nothing stands before the first key, so that no scan is
//! ever to go on at 0.

use crate::slot::SLOTS;

/// Bits of the hash.
const HASH_BITS: u32 = 39;
/// Bits of the hash by which rows of a slot are ordered; the cursor has the upper ones.
const ORDER_BITS: u32 = 48;
/// Every cursor is below this.
pub const END: u64 = 1 << 53;

const _: () = assert!((SLOTS as u64) << HASH_BITS == END);

/// The cursor of a key in `slot` whose 48 bits of hash are `hash`.
pub fn of(slot: u16, hash: u64) -> u64 {
    at_slot(slot) | (hash >> (ORDER_BITS - HASH_BITS)) & ((1 << HASH_BITS) - 1)
}

/// The cursor before all keys of `slot`. Behind the last slot that is [`END`].
pub fn at_slot(slot: u16) -> u64 {
    u64::from(slot) << HASH_BITS
}

/// The slot in which a scan goes on; None: behind the last one. A client may send any number.
pub fn slot(cursor: u64) -> Option<u16> {
    (cursor < END).then_some((cursor >> HASH_BITS) as u16)
}

/// The slot, and the least 48 bits of hash of a key that is not before `cursor`.
pub fn place(cursor: u64) -> Option<(u16, u64)> {
    let hash = cursor & ((1 << HASH_BITS) - 1);
    Some((slot(cursor)?, hash << (ORDER_BITS - HASH_BITS)))
}

/// A place within `slot` drawn by chance, of which `random` has the bits.
pub fn within(slot: u16, random: u64) -> u64 {
    at_slot(slot) | random >> (u64::BITS - HASH_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_holds_every_cursor() {
        for (slot_, hash) in [(0, 0), (1, 1), (SLOTS - 1, (1 << 48) - 1), (SLOTS - 1, 0)] {
            let cursor = of(slot_, hash);
            assert!(cursor < END && cursor as f64 as u64 == cursor, "{cursor}");
            assert_eq!(slot(cursor), Some(slot_));
        }
        assert!(within(SLOTS - 1, u64::MAX) < END);
        assert_eq!(within(7, 0), at_slot(7));
    }

    #[test]
    fn a_place_is_at_or_before_all_keys_of_its_cursor_and_behind_those_before() {
        for hash in [0, 1, 511, 512, 513, 0x1234_5678_9abc, (1 << 48) - 1] {
            let cursor = of(5, hash);
            let (slot, first) = place(cursor).unwrap();
            assert_eq!((slot, of(slot, first)), (5, cursor));
            assert!(first <= hash);
            assert!(first == 0 || of(5, first - 1) < cursor);
        }
        assert_eq!(place(END), None);
        assert_eq!(place(u64::MAX), None);
    }
}
