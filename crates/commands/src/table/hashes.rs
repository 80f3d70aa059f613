//! Hashes.

use super::flags::*;
use crate::{
    hash_scan, hashes,
    spec::{Family::Hash, Fanout::OneShard, Spec},
};

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("hset", -4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, hashes::hset)
        .takes("key {field_value=field value}...")
        .doc("Set the string value of a hash field", "2.0.0", "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs"),
    Spec::new("hmset", -4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, hashes::hmset)
        .takes("key {field_value=field value}...")
        .doc("Set multiple hash fields to multiple values", "2.0.0", "O(N) where N is the number of fields being set."),
    Spec::new("hget", 3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hget)
        .takes("key field")
        .doc("Get the value of a hash field", "2.0.0", "O(1)"),
    Spec::new("hmget", -3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hmget)
        .takes("key field...")
        .doc("Get the values of all the given hash fields", "2.0.0", "O(N) where N is the number of fields being requested."),
    Spec::new("hgetall", 2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hgetall)
        .tips(&["nondeterministic_output_order"])
        .takes("key")
        .doc("Get all the fields and values in a hash", "2.0.0", "O(N) where N is the size of the hash."),
    Spec::new("hdel", -3, WRITE.and(FAST), Hash)
        .keys_at(1, 1, &["RW", "delete"])
        .runs(OneShard, hashes::hdel)
        .takes("key field...")
        .doc("Delete one or more hash fields", "2.0.0", "O(N) where N is the number of fields to be removed."),
    Spec::new("hexists", 3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, hashes::hexists)
        .takes("key field")
        .doc("Determine if a hash field exists", "2.0.0", "O(1)"),
    Spec::new("hlen", 2, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, hashes::hlen)
        .takes("key")
        .doc("Get the number of fields in a hash", "2.0.0", "O(1)"),
    Spec::new("hkeys", 2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hkeys)
        .tips(&["nondeterministic_output_order"])
        .takes("key")
        .doc("Get all the fields in a hash", "2.0.0", "O(N) where N is the size of the hash."),
    Spec::new("hvals", 2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hvals)
        .tips(&["nondeterministic_output_order"])
        .takes("key")
        .doc("Get all the values in a hash", "2.0.0", "O(N) where N is the size of the hash."),
    Spec::new("hincrby", 4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, hashes::hincrby)
        .takes("key field increment:int")
        .doc("Increment the integer value of a hash field by the given number", "2.0.0", "O(1)"),
    Spec::new("hsetnx", 4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "insert"])
        .runs(OneShard, hashes::hsetnx)
        .takes("key field value")
        .doc("Set the value of a hash field, only if the field does not exist", "2.0.0", "O(1)"),
    Spec::new("hstrlen", 3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, hashes::hstrlen)
        .takes("key field")
        .doc("Get the length of the value of a hash field", "3.2.0", "O(1)"),
    Spec::new("hincrbyfloat", 4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, hashes::hincrbyfloat)
        .takes("key field increment:double")
        .doc("Increment the float value of a hash field by the given amount", "2.6.0", "O(1)"),
    Spec::new("hscan", -3, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hash_scan::hscan)
        .tips(&["nondeterministic_output"])
        .takes("key cursor:int [MATCH pattern] [COUNT count:int]")
        .doc("Incrementally iterate hash fields and associated values", "2.8.0", "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection."),
    Spec::new("hrandfield", -2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hash_scan::hrandfield)
        .tips(&["nondeterministic_output"])
        .takes("key [options=count:int [WITHVALUES]]")
        .doc("Get one or multiple random fields from a hash", "6.2.0", "O(N) where N is the number of fields returned"),
];
