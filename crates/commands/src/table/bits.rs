//! Bits of strings.

use super::flags::*;
use crate::{
    bitfield, bits,
    spec::{Family::Bitmap, Fanout::OneShard, Spec},
};

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("setbit", 4, WRITE.and(DENYOOM), Bitmap)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, bits::setbit)
        .takes("key offset:int value:int")
        .doc("Sets or clears the bit at offset in the string value stored at key", "2.2.0", "O(1)"),
    Spec::new("getbit", 3, READONLY.and(FAST), Bitmap)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, bits::getbit)
        .takes("key offset:int")
        .doc("Returns the bit value at offset in the string value stored at key", "2.2.0", "O(1)"),
    Spec::new("bitcount", -2, READONLY, Bitmap)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, bits::bitcount)
        .takes("key [index=start:int end:int [index_unit=BYTE|BIT]]")
        .doc("Count set bits in a string", "2.6.0", "O(N)"),
    Spec::new("bitpos", -3, READONLY, Bitmap)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, bits::bitpos)
        .takes("key bit:int [index=start:int [end_index=end:int [index_unit=BYTE|BIT]]]")
        .doc("Find first bit set or clear in a string", "2.8.7", "O(N)"),
    Spec::new("bitop", -4, WRITE.and(DENYOOM), Bitmap)
        .keys_from(2, 2, 1, &["OW", "update"])
        .and_keys(3, -1, &["RO", "access"])
        .runs(OneShard, bits::bitop)
        .takes("operation destkey:key key:key1...")
        .doc("Perform bitwise operations between strings", "2.6.0", "O(N)"),
    Spec::new("bitfield", -2, WRITE.and(DENYOOM), Bitmap)
        .keys_at(1, 1, &["RW", "access", "update", "variable_flags"])
        .key_notes("This command allows both access and modification of the key")
        .runs(OneShard, bitfield::bitfield)
        .takes("key [operation=GET {encoding_offset=encoding offset:int}|{write=[OVERFLOW {wrap_sat_fail=WRAP|SAT|FAIL}] {write_operation=SET {encoding_offset_value=encoding offset:int value:int}|INCRBY {encoding_offset_increment=encoding offset:int increment:int}}}]...")
        .doc("Perform arbitrary bitfield integer operations on strings", "3.2.0", "O(1) for each subcommand specified"),
    Spec::new("bitfield_ro", -2, READONLY.and(FAST), Bitmap)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, bitfield::bitfield_ro)
        .takes("key [GET {encoding_offset=encoding offset:int}]...")
        .doc("Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD", "6.0.0", "O(1) for each subcommand specified"),
];
