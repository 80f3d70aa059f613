//! Every command as data, and the lookup by name.
//!
//! Names, arities, flags, key positions, categories and tips are Redis 7.0.15's, except
//! `KEYSPACE` and `QUIRE`, which are ours. A command that is not here doesn't exist; one that
//! is here without `runs` is answered by the node.

pub use crate::spec::{Categories, Family, Fanout, Flags, Spec};
use crate::{hashes, keys, strings};
use Family::{Cluster, Connection, Generic, Hash, Server, String};
use Fanout::{AllOk, EveryShardOk, EveryShardSum, Gather, OneShard, Scan, Sum};

const NONE: Flags = Flags::NONE;
const WRITE: Flags = Flags::WRITE;
const READONLY: Flags = Flags::READONLY;
const DENYOOM: Flags = Flags::DENYOOM;
const ADMIN: Flags = Flags::ADMIN;
const NOSCRIPT: Flags = Flags::NOSCRIPT;
const LOADING: Flags = Flags::LOADING;
const STALE: Flags = Flags::STALE;
const FAST: Flags = Flags::FAST;
const NO_AUTH: Flags = Flags::NO_AUTH;
const ALLOW_BUSY: Flags = Flags::ALLOW_BUSY;

/// Every command, by family.
#[rustfmt::skip]
pub static TABLE: &[Spec] = &[
    Spec::new("get", 2, READONLY.and(FAST), String)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, strings::get)
        .doc("Get the value of a key", "1.0.0", "O(1)"),
    Spec::new("set", -3, WRITE.and(DENYOOM), String)
        .keys_at(1, 1, &["RW", "access", "update", "variable_flags"])
        .key_notes("RW and ACCESS due to the optional `GET` argument")
        .runs(OneShard, strings::set)
        .doc("Set the string value of a key", "1.0.0", "O(1)"),
    Spec::new("mget", -2, READONLY.and(FAST), String)
        .keys_at(-1, 1, &["RO", "access"])
        .runs(Gather, strings::mget)
        .tips(&["request_policy:multi_shard"])
        .doc("Get the values of all the given keys", "1.0.0", "O(N) where N is the number of keys to retrieve."),
    Spec::new("mset", -3, WRITE.and(DENYOOM), String)
        .keys_at(-1, 2, &["OW", "update"])
        .runs(AllOk, strings::mset)
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .doc("Set multiple keys to multiple values", "1.0.1", "O(N) where N is the number of keys to set."),
    Spec::new("setnx", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["OW", "insert"])
        .runs(OneShard, strings::setnx)
        .doc("Set the value of a key, only if the key does not exist", "1.0.0", "O(1)"),
    Spec::new("getset", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::getset)
        .doc("Set the string value of a key and return its old value", "1.0.0", "O(1)"),
    Spec::new("getdel", 2, WRITE.and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "delete"])
        .runs(OneShard, strings::getdel)
        .doc("Get the value of a key and delete the key", "6.2.0", "O(1)"),
    Spec::new("incr", 2, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::incr)
        .doc("Increment the integer value of a key by one", "1.0.0", "O(1)"),
    Spec::new("incrby", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::incrby)
        .doc("Increment the integer value of a key by the given amount", "1.0.0", "O(1)"),
    Spec::new("decr", 2, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::decr)
        .doc("Decrement the integer value of a key by one", "1.0.0", "O(1)"),
    Spec::new("decrby", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, strings::decrby)
        .doc("Decrement the integer value of a key by the given number", "1.0.0", "O(1)"),
    Spec::new("append", 3, WRITE.and(DENYOOM).and(FAST), String)
        .keys_at(1, 1, &["RW", "insert"])
        .runs(OneShard, strings::append)
        .doc("Append a value to a key", "2.0.0", "O(1)"),
    Spec::new("strlen", 2, READONLY.and(FAST), String)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, strings::strlen)
        .doc("Get the length of the value stored in a key", "2.2.0", "O(1)"),
    Spec::new("hset", -4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, hashes::hset)
        .doc("Set the string value of a hash field", "2.0.0", "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs"),
    Spec::new("hmset", -4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, hashes::hmset)
        .doc("Set multiple hash fields to multiple values", "2.0.0", "O(N) where N is the number of fields being set."),
    Spec::new("hget", 3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hget)
        .doc("Get the value of a hash field", "2.0.0", "O(1)"),
    Spec::new("hmget", -3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hmget)
        .doc("Get the values of all the given hash fields", "2.0.0", "O(N) where N is the number of fields being requested."),
    Spec::new("hgetall", 2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hgetall)
        .tips(&["nondeterministic_output_order"])
        .doc("Get all the fields and values in a hash", "2.0.0", "O(N) where N is the size of the hash."),
    Spec::new("hdel", -3, WRITE.and(FAST), Hash)
        .keys_at(1, 1, &["RW", "delete"])
        .runs(OneShard, hashes::hdel)
        .doc("Delete one or more hash fields", "2.0.0", "O(N) where N is the number of fields to be removed."),
    Spec::new("hexists", 3, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, hashes::hexists)
        .doc("Determine if a hash field exists", "2.0.0", "O(1)"),
    Spec::new("hlen", 2, READONLY.and(FAST), Hash)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, hashes::hlen)
        .doc("Get the number of fields in a hash", "2.0.0", "O(1)"),
    Spec::new("hkeys", 2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hkeys)
        .tips(&["nondeterministic_output_order"])
        .doc("Get all the fields in a hash", "2.0.0", "O(N) where N is the size of the hash."),
    Spec::new("hvals", 2, READONLY, Hash)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, hashes::hvals)
        .tips(&["nondeterministic_output_order"])
        .doc("Get all the values in a hash", "2.0.0", "O(N) where N is the size of the hash."),
    Spec::new("hincrby", 4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(OneShard, hashes::hincrby)
        .doc("Increment the integer value of a hash field by the given number", "2.0.0", "O(1)"),
    Spec::new("hsetnx", 4, WRITE.and(DENYOOM).and(FAST), Hash)
        .keys_at(1, 1, &["RW", "insert"])
        .runs(OneShard, hashes::hsetnx)
        .doc("Set the value of a hash field, only if the field does not exist", "2.0.0", "O(1)"),
    Spec::new("del", -2, WRITE, Generic)
        .keys_at(-1, 1, &["RM", "delete"])
        .runs(Sum, keys::del)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .doc("Delete a key", "1.0.0", "O(N) where N is the number of keys that will be removed"),
    Spec::new("unlink", -2, WRITE.and(FAST), Generic)
        .keys_at(-1, 1, &["RM", "delete"])
        .runs(Sum, keys::del)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .doc("Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking", "4.0.0", "O(1) for each key removed regardless of its size"),
    Spec::new("exists", -2, READONLY.and(FAST), Generic)
        .keys_at(-1, 1, &["RO"])
        .runs(Sum, keys::exists)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .doc("Determine if a key exists", "1.0.0", "O(N) where N is the number of keys to check."),
    Spec::new("type", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, keys::type_of)
        .also(Categories::KEYSPACE)
        .doc("Determine the type stored at key", "1.0.0", "O(1)"),
    Spec::new("expire", -3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, keys::expire)
        .also(Categories::KEYSPACE)
        .doc("Set a key's time to live in seconds", "1.0.0", "O(1)"),
    Spec::new("pexpire", -3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, keys::pexpire)
        .also(Categories::KEYSPACE)
        .doc("Set a key's time to live in milliseconds", "2.6.0", "O(1)"),
    Spec::new("ttl", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, keys::ttl)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output"])
        .doc("Get the time to live for a key in seconds", "1.0.0", "O(1)"),
    Spec::new("pttl", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, keys::pttl)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output"])
        .doc("Get the time to live for a key in milliseconds", "2.6.0", "O(1)"),
    Spec::new("persist", 2, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, keys::persist)
        .also(Categories::KEYSPACE)
        .doc("Remove the expiration from a key", "2.2.0", "O(1)"),
    Spec::new("scan", -2, READONLY, Generic)
        .runs(Scan, keys::scan)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output", "request_policy:special"])
        .doc("Incrementally iterate the keys space", "2.8.0", "O(1) for every call"),
    Spec::new("dbsize", 1, READONLY.and(FAST), Server)
        .runs(EveryShardSum, keys::dbsize)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .doc("Return the number of keys in the selected database", "1.0.0", "O(1)"),
    Spec::new("flushdb", -1, WRITE, Server)
        .runs(EveryShardOk, keys::flushdb)
        .also(Categories::KEYSPACE.and(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .doc("Remove all keys from the current database", "1.0.0", "O(N) where N is the number of keys in the selected database"),
    Spec::new("ping", -1, FAST, Connection)
        .also(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .doc("Ping the server", "1.0.0", "O(1)"),
    Spec::new("echo", 2, LOADING.and(STALE).and(FAST), Connection)
        .also(Categories::CONNECTION)
        .doc("Echo the given string", "1.0.0", "O(1)"),
    Spec::new("hello", -1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .also(Categories::CONNECTION)
        .doc("Handshake with Redis", "6.0.0", "O(1)"),
    Spec::new("select", 2, LOADING.and(STALE).and(FAST), Connection)
        .also(Categories::CONNECTION)
        .doc("Change the selected database for the current connection", "1.0.0", "O(1)"),
    Spec::new("reset", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .also(Categories::CONNECTION)
        .doc("Reset the connection", "6.2.0", "O(1)"),
    Spec::new("quit", -1, NOSCRIPT.and(LOADING).and(STALE).and(FAST).and(NO_AUTH).and(ALLOW_BUSY), Connection)
        .also(Categories::CONNECTION)
        .doc("Close the connection", "1.0.0", "O(1)"),
    Spec::new("client", -2, NONE, Connection)
        .doc("A container for client connection commands", "2.4.0", "Depends on subcommand."),
    Spec::new("command", -1, LOADING.and(STALE), Server)
        .also(Categories::CONNECTION)
        .tips(&["nondeterministic_output_order"])
        .doc("Get array of Redis command details", "2.8.13", "O(N) where N is the total number of Redis commands"),
    Spec::new("config", -2, NONE, Server)
        .doc("A container for server configuration commands", "2.0.0", "Depends on subcommand."),
    Spec::new("info", -1, LOADING.and(STALE), Server)
        .also(Categories::DANGEROUS)
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .doc("Get information and statistics about the server", "1.0.0", "O(1)"),
    Spec::new("role", 1, NOSCRIPT.and(LOADING).and(STALE).and(FAST), Server)
        .also(Categories::ADMIN.and(Categories::DANGEROUS))
        .doc("Return the role of the instance in the context of replication", "2.8.12", "O(1)"),
    Spec::new("time", 1, LOADING.and(STALE).and(FAST), Server)
        .tips(&["nondeterministic_output"])
        .doc("Return the current server time", "2.6.0", "O(1)"),
    Spec::new("wait", 3, NOSCRIPT, Generic)
        .also(Categories::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .doc("Wait for the synchronous replication of all the write commands sent in the context of the current connection", "3.0.0", "O(1)"),
    Spec::new("readonly", 1, LOADING.and(STALE).and(FAST), Cluster)
        .also(Categories::CONNECTION)
        .doc("Enables read queries for a connection to a cluster replica node", "3.0.0", "O(1)"),
    Spec::new("readwrite", 1, LOADING.and(STALE).and(FAST), Cluster)
        .also(Categories::CONNECTION)
        .doc("Disables read queries for a connection to a cluster replica node", "3.0.0", "O(1)"),
    Spec::new("keyspace", -2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
        .doc("Create, alter, drop and describe keyspaces", "0.1.0", "Depends on subcommand"),
    Spec::new("quire", -2, ADMIN.and(NOSCRIPT).and(LOADING).and(STALE), Server)
        .doc("A container for what only Quire has", "0.1.0", "Depends on subcommand"),
];

/// The longest name, with room for more.
const NAME_BYTES_MAX: usize = 16;
/// Slots of [`INDEX`]: a power of two, about four a command.
const INDEX_SLOTS: usize = 256;
/// What an empty slot holds.
const EMPTY: u8 = u8::MAX;

/// Hash of a name → its place in [`TABLE`], linear probing; made at compile time.
static INDEX: [u8; INDEX_SLOTS] = {
    let mut index = [EMPTY; INDEX_SLOTS];
    let mut at = 0;
    assert!(TABLE.len() < INDEX_SLOTS / 2);
    while at < TABLE.len() {
        let name = TABLE[at].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX);
        let mut slot = hash(name);
        while index[slot] != EMPTY {
            slot = (slot + 1) % INDEX_SLOTS;
        }
        index[slot] = at as u8;
        at += 1;
    }
    index
};

/// The slot where a name's search starts, the same for either case (FNV-1a, folded).
const fn hash(name: &[u8]) -> usize {
    let mut h = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        h = (h ^ (name[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((h >> 16) ^ h) as usize % INDEX_SLOTS
}

/// The command of this name, in any case. Allocates nothing.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut slot = hash(name);
    while INDEX[slot] != EMPTY {
        let spec = &TABLE[usize::from(INDEX[slot])];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        slot = (slot + 1) % INDEX_SLOTS;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_once() {
        for (at, spec) in TABLE.iter().enumerate() {
            let upper = spec.name.to_ascii_uppercase();
            for name in [spec.name, &upper] {
                assert!(
                    std::ptr::eq(lookup(name.as_bytes()).unwrap(), spec),
                    "{name}"
                );
            }
            assert!(TABLE[..at].iter().all(|other| other.name != spec.name));
        }
        for name in [
            "",
            "ge",
            "gett",
            "foo",
            "get\0",
            "a name longer than any command",
        ] {
            assert!(lookup(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn what_a_shard_evaluates_is_what_has_a_fanout() {
        for spec in TABLE {
            assert_eq!(
                spec.is_evaluated(),
                spec.fanout != Fanout::Node,
                "{}",
                spec.name
            );
            assert!(spec.is_evaluated() || spec.first_key == 0, "{}", spec.name);
        }
    }

    #[test]
    fn keys_stand_where_the_table_says() {
        let keys = |line: &str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let keys: Vec<&[u8]> = lookup(args[0]).unwrap().keys(&args).collect();
            std::string::String::from_utf8(keys.join(&b' ')).unwrap()
        };
        assert_eq!(keys("get a"), "a");
        assert_eq!(keys("set a b ex 1"), "a");
        assert_eq!(keys("mget a b c"), "a b c");
        assert_eq!(keys("mset a 1 b 2"), "a b");
        assert_eq!(keys("mset a 1 b"), "a b");
        assert_eq!(keys("ping a"), "");
        assert_eq!(keys("scan 0"), "");
        assert_eq!(keys("get"), "");
        assert_eq!(keys("del"), "");
    }

    #[test]
    fn arity_is_checked_in_both_forms() {
        let ok = |line: &str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            lookup(args[0]).unwrap().check_arity(&args).is_ok()
        };
        assert!(ok("get a") && !ok("get") && !ok("get a b"));
        assert!(ok("set a b") && ok("set a b nx") && !ok("set a"));
    }
}
