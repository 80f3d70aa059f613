//! Strings.

use super::flags::*;
use crate::{
    spec::{
        Family::String,
        Fanout::{AllOk, Gather, OneShard},
        Spec,
    },
    strings, substrings,
};

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("get", 2, READONLY.and(FAST), String)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, strings::get)
        .takes("key")
        .doc("Get the value of a key", "1.0.0", "O(1)"),
    Spec::new("set", -3, WRITE.and(DENYOOM), String)
        .keys_at(1, 1, &["RW", "access", "update", "variable_flags"])
        .key_notes("RW and ACCESS due to the optional `GET` argument")
        .runs(OneShard, strings::set)
        .takes("key value [condition=NX|XX] [GET] [expiration=EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT unix-time-milliseconds:time|KEEPTTL]")
        .doc("Set the string value of a key", "1.0.0", "O(1)"),
    Spec::new("mget", -2, READONLY.and(FAST), String)
        .keys_at(-1, 1, &["RO", "access"])
        .runs(Gather, strings::mget)
        .tips(&["request_policy:multi_shard"])
        .takes("key...")
        .doc("Get the values of all the given keys", "1.0.0", "O(N) where N is the number of keys to retrieve."),
    Spec::new("mset", -3, WRITE.and(DENYOOM), String)
        .keys_at(-1, 2, &["OW", "update"])
        .runs(AllOk, strings::mset)
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .takes("{key_value=key value}...")
        .doc("Set multiple keys to multiple values", "1.0.1", "O(N) where N is the number of keys to set."),
    Spec::new("setnx", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["OW", "insert"])
        .runs(OneShard, strings::setnx)
        .takes("key value")
        .doc("Set the value of a key, only if the key does not exist", "1.0.0", "O(1)"),
    Spec::new("getset", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::getset)
        .takes("key value")
        .doc("Set the string value of a key and return its old value", "1.0.0", "O(1)"),
    Spec::new("getdel", 2, WRITE.and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "delete"])
        .runs(OneShard, strings::getdel)
        .takes("key")
        .doc("Get the value of a key and delete the key", "6.2.0", "O(1)"),
    Spec::new("incr", 2, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::incr)
        .takes("key")
        .doc("Increment the integer value of a key by one", "1.0.0", "O(1)"),
    Spec::new("incrby", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::incrby)
        .takes("key increment:int")
        .doc("Increment the integer value of a key by the given amount", "1.0.0", "O(1)"),
    Spec::new("decr", 2, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::decr)
        .takes("key")
        .doc("Decrement the integer value of a key by one", "1.0.0", "O(1)"),
    Spec::new("decrby", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::decrby)
        .takes("key decrement:int")
        .doc("Decrement the integer value of a key by the given number", "1.0.0", "O(1)"),
    Spec::new("append", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "insert"])
        .runs(OneShard, strings::append)
        .takes("key value")
        .doc("Append a value to a key", "2.0.0", "O(1)"),
    Spec::new("strlen", 2, READONLY.and(FAST), String)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, strings::strlen)
        .takes("key")
        .doc("Get the length of the value stored in a key", "2.2.0", "O(1)"),
    Spec::new("getex", -2, WRITE.and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .key_notes("RW and UPDATE because it changes the TTL")
        .runs(OneShard, strings::getex)
        .takes("key [expiration=EX seconds:int|PX milliseconds:int|EXAT unix-time-seconds:time|PXAT unix-time-milliseconds:time|PERSIST]")
        .doc("Get the value of a key and optionally set its expiration", "6.2.0", "O(1)"),
    Spec::new("setex", 4, WRITE.and(DENYOOM), String)
        .keys_at(1, 1, &["OW", "update"])
        .runs(OneShard, strings::setex)
        .takes("key seconds:int value")
        .doc("Set the value and expiration of a key", "2.0.0", "O(1)"),
    Spec::new("psetex", 4, WRITE.and(DENYOOM), String)
        .keys_at(1, 1, &["OW", "update"])
        .runs(OneShard, strings::psetex)
        .takes("key milliseconds:int value")
        .doc("Set the value and expiration in milliseconds of a key", "2.6.0", "O(1)"),
    Spec::new("incrbyfloat", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::incrbyfloat)
        .takes("key increment:double")
        .doc("Increment the float value of a key by the given amount", "2.6.0", "O(1)"),
    Spec::new("msetnx", -3, WRITE.and(DENYOOM), String)
        .keys_at(-1, 2, &["OW", "insert"])
        .runs(OneShard, strings::msetnx)
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .takes("{key_value=key value}...")
        .doc("Set multiple keys to multiple values, only if none of the keys exist", "1.0.1", "O(N) where N is the number of keys to set."),
    Spec::new("setrange", 4, WRITE.and(DENYOOM), String)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, substrings::setrange)
        .takes("key offset:int value")
        .doc("Overwrite part of a string at key starting at the specified offset", "2.2.0", "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument."),
    Spec::new("getrange", 4, READONLY, String)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, substrings::getrange)
        .takes("key start:int end:int")
        .doc("Get a substring of the string stored at a key", "2.4.0", "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings."),
    Spec::new("substr", 4, READONLY, String)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, substrings::getrange)
        .takes("key start:int end:int")
        .doc("Get a substring of the string stored at a key", "1.0.0", "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings."),
    Spec::new("lcs", -3, READONLY, String)
        .keys_at(2, 1, &["RO", "access"])
        .runs(OneShard, substrings::lcs)
        .takes("key1:key key2:key [LEN] [IDX] [MINMATCHLEN len:int] [WITHMATCHLEN]")
        .doc("Find longest common substring", "7.0.0", "O(N*M) where N and M are the lengths of s1 and s2, respectively"),
];
