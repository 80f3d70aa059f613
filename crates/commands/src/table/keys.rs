//! Keys of any kind, and whole keyspaces.

use super::flags::*;
use crate::{
    dump, expiry, keys,
    node_command::{MemoryCommand, NodeCommand},
    object, rename,
    spec::{
        Categories,
        Family::{Generic, Server},
        Fanout::{
            Across, EveryKeyspaceOk, EveryShardAny, EveryShardArray, EveryShardOk, EveryShardSum,
            OneShard, Scan, Sum,
        },
        Spec,
    },
};

#[rustfmt::skip]
pub(super) const SPECS: &[Spec] = &[
    Spec::new("del", -2, WRITE, Generic)
        .keys_at(-1, 1, &["RM", "delete"])
        .runs(Sum, keys::del)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .takes("key...")
        .doc("Delete a key", "1.0.0", "O(N) where N is the number of keys that will be removed"),
    Spec::new("unlink", -2, WRITE.and(FAST), Generic)
        .keys_at(-1, 1, &["RM", "delete"])
        .runs(Sum, keys::del)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .takes("key...")
        .doc("Delete a key, as DEL does", "4.0.0", "O(1) for each key removed regardless of its size"),
    Spec::new("exists", -2, READONLY.and(FAST), Generic)
        .keys_at(-1, 1, &["RO"])
        .runs(Sum, keys::exists)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .takes("key...")
        .doc("Determine if a key exists", "1.0.0", "O(N) where N is the number of keys to check."),
    Spec::new("type", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO"])
        .runs(OneShard, keys::type_of)
        .also(Categories::KEYSPACE)
        .takes("key")
        .doc("Determine the type stored at key", "1.0.0", "O(1)"),
    Spec::new("expire", -3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, expiry::expire)
        .also(Categories::KEYSPACE)
        .takes("key seconds:int [condition=NX|XX|GT|LT]")
        .doc("Set a key's time to live in seconds", "1.0.0", "O(1)"),
    Spec::new("pexpire", -3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, expiry::pexpire)
        .also(Categories::KEYSPACE)
        .takes("key milliseconds:int [condition=NX|XX|GT|LT]")
        .doc("Set a key's time to live in milliseconds", "2.6.0", "O(1)"),
    Spec::new("ttl", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, expiry::ttl)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output"])
        .takes("key")
        .doc("Get the time to live for a key in seconds", "1.0.0", "O(1)"),
    Spec::new("pttl", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, expiry::pttl)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output"])
        .takes("key")
        .doc("Get the time to live for a key in milliseconds", "2.6.0", "O(1)"),
    Spec::new("persist", 2, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, expiry::persist)
        .also(Categories::KEYSPACE)
        .takes("key")
        .doc("Remove the expiration from a key", "2.2.0", "O(1)"),
    Spec::new("scan", -2, READONLY, Generic)
        .runs(Scan, keys::scan)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output", "request_policy:special"])
        .takes("cursor:int [MATCH pattern] [COUNT count:int] [TYPE type]")
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
        .takes("[async=ASYNC|SYNC]")
        .doc("Remove all keys from the current database", "1.0.0", "O(N) where N is the number of keys in the selected database"),
    Spec::new("touch", -2, READONLY.and(FAST), Generic)
        .keys_at(-1, 1, &["RO"])
        .runs(Sum, keys::exists)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .takes("key...")
        .doc("Count those of the keys that exist: no access times are kept", "3.2.1", "O(N) where N is the number of keys that will be touched."),
    Spec::new("expireat", -3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, expiry::expireat)
        .also(Categories::KEYSPACE)
        .takes("key unix-time-seconds:time [condition=NX|XX|GT|LT]")
        .doc("Set the expiration for a key as a UNIX timestamp", "1.2.0", "O(1)"),
    Spec::new("pexpireat", -3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "update"])
        .runs(OneShard, expiry::pexpireat)
        .also(Categories::KEYSPACE)
        .takes("key unix-time-milliseconds:time [condition=NX|XX|GT|LT]")
        .doc("Set the expiration for a key as a UNIX timestamp specified in milliseconds", "2.6.0", "O(1)"),
    Spec::new("expiretime", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, expiry::expiretime)
        .also(Categories::KEYSPACE)
        .takes("key")
        .doc("Get the expiration Unix timestamp for a key", "7.0.0", "O(1)"),
    Spec::new("pexpiretime", 2, READONLY.and(FAST), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, expiry::pexpiretime)
        .also(Categories::KEYSPACE)
        .takes("key")
        .doc("Get the expiration Unix timestamp for a key in milliseconds", "7.0.0", "O(1)"),
    Spec::new("rename", 3, WRITE, Generic)
        .keys_at(1, 1, &["RW", "access", "delete"])
        .and_keys(2, 2, &["OW", "update"])
        .runs(OneShard, rename::rename)
        .also(Categories::KEYSPACE)
        .takes("key newkey:key1")
        .doc("Rename a key", "1.0.0", "O(1)"),
    Spec::new("renamenx", 3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "access", "delete"])
        .and_keys(2, 2, &["OW", "insert"])
        .runs(OneShard, rename::renamenx)
        .also(Categories::KEYSPACE)
        .takes("key newkey:key1")
        .doc("Rename a key, only if the new key does not exist", "1.0.0", "O(1)"),
    Spec::new("copy", -3, WRITE.and(DENYOOM), Generic)
        .keys_at(1, 1, &["RO", "access"])
        .and_keys(2, 2, &["OW", "update"])
        .runs(Across, rename::copy)
        .also(Categories::KEYSPACE)
        .takes("source:key destination:key1 [DB keyspace] [REPLACE]")
        .doc("Copy a key", "6.2.0", "O(N) worst case for collections, where N is the number of nested items. O(1) for string values."),
    Spec::new("move", 3, WRITE.and(FAST), Generic)
        .keys_at(1, 1, &["RW", "access", "update"])
        .runs(Across, rename::move_key)
        .also(Categories::KEYSPACE)
        .takes("key keyspace")
        .doc("Move a key to another database", "1.0.0", "O(1)"),
    Spec::new("keys", 2, READONLY, Generic)
        .runs(EveryShardArray, keys::keys)
        .also(Categories::KEYSPACE.and(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .takes("pattern")
        .doc("Find all keys matching the given pattern", "1.0.0", "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length."),
    Spec::new("randomkey", 1, READONLY, Generic)
        .runs(EveryShardAny, keys::randomkey)
        .also(Categories::KEYSPACE)
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .doc("Return a random key from the keyspace", "1.0.0", "O(1)"),
    Spec::new("flushall", -1, WRITE, Server)
        .runs(EveryKeyspaceOk, keys::flushdb)
        .also(Categories::KEYSPACE.and(Categories::DANGEROUS))
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .takes("[async=ASYNC|SYNC]")
        .doc("Remove all keys from all databases", "1.0.0", "O(N) where N is the total number of keys in all databases"),
    Spec::new("dump", 2, READONLY, Generic)
        .keys_at(1, 1, &["RO", "access"])
        .runs(OneShard, dump::dump)
        .also(Categories::KEYSPACE)
        .tips(&["nondeterministic_output"])
        .takes("key")
        .doc("Return a serialized version of the value stored at the specified key.", "2.6.0", "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1)."),
    Spec::new("restore", -4, WRITE.and(DENYOOM), Generic)
        .keys_at(1, 1, &["OW", "update"])
        .runs(OneShard, dump::restore)
        .also(Categories::KEYSPACE.and(Categories::DANGEROUS))
        .takes("key ttl:int serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds:int] [FREQ frequency:int]")
        .doc("Create a key using the provided serialized value, previously obtained using DUMP.", "2.6.0", "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of Redis objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is O(log(N))."),
    Spec::new("object", -2, NONE, Generic)
        .subcommands(&[
            Spec::new("object|encoding", 3, READONLY, Generic)
                .keys_from(2, 2, 1, &["RO"])
                .runs(OneShard, object::encoding)
                .also(Categories::KEYSPACE)
                .tips(&["nondeterministic_output"])
                .takes("key")
                .doc("Name the encoding that Redis would have chosen for a value", "2.2.3", "O(1)"),
            Spec::new("object|freq", 3, READONLY, Generic)
                .keys_from(2, 2, 1, &["RO"])
                .runs(OneShard, object::freq)
                .also(Categories::KEYSPACE)
                .tips(&["nondeterministic_output"])
                .takes("key")
                .doc("An error, as in Redis without an LFU policy: no accesses are counted", "4.0.0", "O(1)"),
            Spec::new("object|idletime", 3, READONLY, Generic)
                .keys_from(2, 2, 1, &["RO"])
                .runs(OneShard, object::idletime)
                .also(Categories::KEYSPACE)
                .tips(&["nondeterministic_output"])
                .takes("key")
                .doc("Not supported: no access times are kept", "2.2.3", "O(1)"),
            Spec::new("object|refcount", 3, READONLY, Generic)
                .keys_from(2, 2, 1, &["RO"])
                .runs(OneShard, object::refcount)
                .also(Categories::KEYSPACE)
                .tips(&["nondeterministic_output"])
                .takes("key")
                .doc("Get the number of references to the value of the key", "2.2.3", "O(1)"),
            Spec::new("object|help", 2, LOADING.and(STALE), Generic)
                .at_node(NodeCommand::ObjectHelp)
                .also(Categories::KEYSPACE)
                .doc("Show helpful text about the different subcommands", "6.2.0", "O(1)"),
        ])
        .doc("A container for object introspection commands", "2.2.3", "Depends on subcommand."),
    Spec::new("memory", -2, NONE, Server)
        .subcommands(&[
            Spec::new("memory|usage", -3, READONLY, Server)
                .keys_from(2, 2, 1, &["RO"])
                .runs(OneShard, object::memory_usage)
                .takes("key [SAMPLES count:int]")
                .doc("Count the bytes of a key's rows before the store packs them", "4.0.0", "O(N) where N is the number of samples."),
            Spec::new("memory|stats", 2, NONE, Server)
                .at_node(NodeCommand::Memory(MemoryCommand::Stats))
                .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
                .doc("Show what is known of the memory that this node uses", "4.0.0", "O(N) where N is the number of clients"),
            Spec::new("memory|help", 2, LOADING.and(STALE), Server)
                .at_node(NodeCommand::Memory(MemoryCommand::Help))
                .doc("Show helpful text about the different subcommands", "4.0.0", "O(1)"),
        ])
        .doc("A container for memory diagnostics commands", "4.0.0", "Depends on subcommand."),
];
