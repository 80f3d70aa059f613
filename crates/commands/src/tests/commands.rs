//! What the transcript can't show: ops, headers, times, RESP3, and the view's failures.

use super::{NOW_MS, Shard};
use crate::{
    Context, View, ViewError, Work, evaluate, lookup,
    view::{Limit, Passed},
    work::WORK_MAX,
};
use bytes::{Bytes, BytesMut};
use model::{
    Mutation, Op, Stamp,
    mutation::{DELETE_AT_ONCE_CELLS_MAX, Header, KeyKind},
};
use resp::Version;

fn header(kind: KeyKind, expires_ms: u64, fields: u64) -> Header {
    Header {
        expires_ms,
        fields,
        ..Header::new(kind)
    }
}

fn put(key: &'static str, created: bool, expires_ms: u64, value: &'static str) -> Op {
    Op::PutString {
        key: key.into(),
        created,
        header: header(KeyKind::String, expires_ms, 0),
        value: value.into(),
    }
}

fn delete(key: &'static str, cells: u64) -> Op {
    Op::Delete {
        key: key.into(),
        cells,
        tombstone: false,
    }
}

#[test]
fn a_write_says_the_outcome() {
    let mut s = Shard::new();
    assert_eq!(s.ops("SET k v"), [put("k", true, 0, "v")]);
    assert_eq!(
        s.ops("SET k 7 EX 10"),
        [put("k", false, NOW_MS + 10_000, "7")]
    );
    assert_eq!(s.ops("INCR k"), [put("k", false, NOW_MS + 10_000, "8")]);
    assert_eq!(
        s.ops("APPEND k 0"),
        [put("k", false, NOW_MS + 10_000, "80")]
    );
    assert_eq!(
        s.ops("SET k x KEEPTTL"),
        [put("k", false, NOW_MS + 10_000, "x")]
    );
    // That it expires no more is said by itself: a string's op alone is applied unseen.
    let lasting = Op::SetHeader {
        key: "k".into(),
        header: header(KeyKind::String, 0, 0),
    };
    assert_eq!(s.ops("SET k y"), [lasting, put("k", false, 0, "y")]);
    assert_eq!(s.ops("SET k y"), [put("k", false, 0, "y")]);
    assert_eq!(s.ops("GETDEL k"), [delete("k", 0)]);
    assert_eq!(
        s.ops("MSET b 1 a 2 b 3"),
        [put("a", true, 0, "2"), put("b", true, 0, "3")]
    );
    assert_eq!(s.ops("DEL a a b nope"), [delete("a", 0), delete("b", 0)]);
}

#[test]
fn a_hash_counts_its_fields() {
    let mut s = Shard::new();
    let pair = |f: &'static str, v: &'static str| (Bytes::from(f), Bytes::from(v));
    assert_eq!(
        s.ops("HSET h b 1 a 2 b 3"),
        [Op::SetFields {
            key: "h".into(),
            created: true,
            header: Some(header(KeyKind::Hash, 0, 2)),
            fields: vec![pair("a", "2"), pair("b", "3")],
        }]
    );
    assert_eq!(
        s.ops("HINCRBY h a 5"),
        [Op::SetFields {
            key: "h".into(),
            created: false,
            header: None,
            fields: vec![pair("a", "7")],
        }]
    );
    assert_eq!(
        s.ops("HDEL h a a nope"),
        [Op::RemoveFields {
            key: "h".into(),
            header: Some(header(KeyKind::Hash, 0, 1)),
            fields: vec!["a".into()],
        }]
    );
    assert_eq!(s.ops("HDEL h b"), [delete("h", 1)]);
    assert_eq!(s.header("h"), None);
}

#[test]
fn a_string_over_a_hash_deletes_it_first() {
    let mut s = Shard::new();
    s.ops("HSET h a 1 b 2");
    assert_eq!(s.ops("SET h v"), [delete("h", 2), put("h", true, 0, "v")]);
}

#[test]
fn what_changes_nothing_or_is_refused_adds_no_op() {
    let mut s = Shard::new();
    s.ops("SET k v EX 100");
    s.ops("SET forever v");
    s.ops("HSET h f v");
    for line in [
        "GET k",
        "GET nope",
        "SET k w NX",
        "SET nope v XX",
        "SETNX k w",
        "INCR k",
        "INCR h",
        "SET h v GET",
        "DEL nope",
        "HDEL h nope",
        "HDEL nope f",
        "HSETNX h f w",
        "HINCRBY h f 1",
        "HSET k f v",
        "HSET h f",
        "MSET k 1 l",
        "PERSIST forever",
        "PERSIST nope",
        "EXPIRE nope 1",
        "EXPIRE k 1 GT",
        "EXPIRE k 1 bogus",
        "GETDEL nope",
        "GETDEL h",
        "GETSET h v",
        "FLUSHDB x",
        "APPEND h x",
        "SCAN 0",
        "DBSIZE",
        "TTL k",
        "SET k v EX 0",
        "PING",
    ] {
        assert_eq!(s.ops(line), [], "{line}");
    }
}

#[test]
fn time_passes() {
    let mut s = Shard::new();
    s.reply("SET k v PX 1500");
    s.reply("HSET h f v");
    assert_eq!(s.reply("PEXPIRE h 1499"), ":1\r\n");
    assert_eq!(s.reply("TTL k"), ":2\r\n");
    assert_eq!(s.reply("TTL h"), ":1\r\n");
    assert_eq!(s.reply("PTTL k"), ":1500\r\n");
    s.cx.now_ms += 1499;
    assert_eq!(s.reply("TTL k"), ":0\r\n");
    assert_eq!(s.reply("EXISTS k h"), ":1\r\n");
    s.cx.now_ms += 1;
    for (line, reply) in [
        ("EXISTS k", ":0\r\n"),
        ("PTTL k", ":-2\r\n"),
        ("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("DBSIZE", ":0\r\n"),
    ] {
        assert_eq!(s.reply(line), reply, "{line}");
    }
}

#[test]
fn an_expired_key_is_deleted_before_it_is_called_absent() {
    for (line, rest) in [
        ("GET k", vec![]),
        ("MGET k k", vec![]),
        ("EXISTS k k", vec![]),
        ("TTL k", vec![]),
        ("HGET k f", vec![]),
        ("DEL k k", vec![]),
        ("SCAN 0 MATCH nothing", vec![]),
        ("SET k w XX", vec![]),
        ("SET k w", vec![put("k", true, 0, "w")]),
        ("SET k w KEEPTTL", vec![put("k", true, 0, "w")]),
        ("INCR k", vec![put("k", true, 0, "1")]),
        ("MSET k 1 k 2", vec![put("k", true, 0, "2")]),
    ] {
        let mut s = Shard::new();
        s.ops("SET k v PX 1");
        s.cx.now_ms += 1;
        let expected = [vec![delete("k", 0)], rest].concat();
        assert_eq!(s.ops(line), expected, "{line}");
    }
}

#[test]
fn a_time_in_the_past_deletes() {
    let mut s = Shard::new();
    for line in [
        "EXPIRE k 0",
        "EXPIRE k -1",
        "PEXPIRE k -9223372036854775808",
        "SET k w EXAT 1",
        "SET k w PXAT 1700000000000",
    ] {
        s.ops("SET k v");
        assert_eq!(s.ops(line), [delete("k", 0)], "{line}");
    }
    assert_eq!(s.ops("SET k w PXAT 1"), []);
    assert_eq!(s.reply("SET k w PXAT 1700000000001"), "+OK\r\n");
    assert_eq!(s.reply("PTTL k"), ":1\r\n");
}

/// A hash with more cells than are removed at once.
fn large_hash(s: &mut Shard, key: &str) -> u64 {
    let fields = DELETE_AT_ONCE_CELLS_MAX + 1;
    let pairs: Vec<String> = (0..fields).map(|n| format!("f{n} old")).collect();
    s.reply(&format!("HSET {key} {}", pairs.join(" ")));
    fields
}

#[test]
fn dead_cells_stay_dead() {
    let mut s = Shard::new();
    large_hash(&mut s, "h");
    s.reply("DEL h");
    let deleted = s.header("h").unwrap().deleted;
    assert!(deleted > Stamp::ZERO);
    assert_eq!(s.reply("HSET h f0 new"), ":1\r\n");
    assert_eq!(s.reply("HGETALL h"), "*2\r\n$2\r\nf0\r\n$3\r\nnew\r\n");
    assert_eq!(s.header("h").unwrap().deleted, deleted);
    // Overwritten by a string, and again a hash: what was written in between is dead too.
    s.reply("SET h v");
    assert!(s.header("h").unwrap().deleted > deleted);
    s.reply("SET h w");
    s.reply("DEL h");
    assert_eq!(s.reply("HSET h f1 newer"), ":1\r\n");
    assert_eq!(s.reply("HGETALL h"), "*2\r\n$2\r\nf1\r\n$5\r\nnewer\r\n");
}

#[test]
fn a_large_hash_expires_and_is_written_anew_within_one_command() {
    let mut s = Shard::new();
    large_hash(&mut s, "h");
    s.reply("PEXPIRE h 1");
    s.cx.now_ms += 1;
    assert_eq!(s.ops("HSET h f0 new").len(), 2);
    assert_eq!(s.reply("HGETALL h"), "*2\r\n$2\r\nf0\r\n$3\r\nnew\r\n");
    assert_eq!(s.reply("TTL h"), ":-1\r\n");
}

#[test]
fn resp3_has_maps_and_nulls_of_its_own() {
    let mut s = Shard::new();
    s.cx.version = Version::Resp3;
    s.reply("HSET h a 1 b 2");
    for (line, reply) in [
        (
            "HGETALL h",
            "%2\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n",
        ),
        ("HGETALL nope", "%0\r\n"),
        ("HKEYS h", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("HVALS nope", "*0\r\n"),
        ("GET nope", "_\r\n"),
        ("SET nope v XX", "_\r\n"),
        ("HMGET h a c", "*2\r\n$1\r\n1\r\n_\r\n"),
        ("COMMAND INFO nope", "*1\r\n_\r\n"),
        (
            "COMMAND DOCS dbsize",
            "%1\r\n$6\r\ndbsize\r\n%4\r\n$7\r\nsummary\r\n$50\r\nReturn the number of keys in the \
             selected database\r\n$5\r\nsince\r\n$5\r\n1.0.0\r\n$5\r\ngroup\r\n$6\r\nserver\r\n$10\r\n\
             complexity\r\n$4\r\nO(1)\r\n",
        ),
    ] {
        assert_eq!(s.reply(line), reply, "{line}");
    }
}

#[test]
fn a_scan_comes_by_every_key_once() {
    let mut s = Shard::new();
    for n in 0..200 {
        s.reply(&format!("SET key:{n} v"));
    }
    let (mut cursor, mut keys) = (String::from("0"), Vec::new());
    loop {
        let reply = s.reply(&format!("SCAN {cursor} COUNT 7"));
        let lines: Vec<&str> = reply.split("\r\n").collect();
        cursor = lines[2].to_string();
        keys.extend(lines[4..].chunks_exact(2).map(|pair| pair[1].to_string()));
        if cursor == "0" {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 200);
}

#[test]
fn too_much_for_one_command_is_refused() {
    let mut s = Shard::new();
    let keys = vec![&b"k"[..]; 32_768];
    let args = [&[&b"DEL"[..]], &keys[..]].concat();
    let (reply, ops) = s.run(&args);
    assert_eq!(ops, []);
    assert_eq!(
        str::from_utf8(&reply).unwrap(),
        "-ERR 'del' has 32768 keys, at most 32767 fit into one command: split it\r\n"
    );
    assert!(s.run(&args[1..]).0.starts_with(b"-ERR unknown command 'k'"));
    assert_eq!(s.run(&args[..32_768]).0, ":0\r\n");
}

#[test]
fn strings_are_at_most_as_long_as_in_redis() {
    /// One string of 512 MB less one byte, all zero: its pages are never touched.
    struct Huge(Bytes);
    impl View for Huge {
        fn header(&self, _: &[u8]) -> Result<Option<Header>, ViewError> {
            Ok(Some(Header::new(KeyKind::String)))
        }
        fn string(&self, _: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
            Ok(Some((Header::new(KeyKind::String), self.0.clone())))
        }
        fn field(&self, _: &[u8], _: &Header, _: &[u8]) -> Result<Option<Bytes>, ViewError> {
            Ok(None)
        }
        fn fields(
            &self,
            _: &[u8],
            _: &Header,
            _: u64,
            _: Limit,
            _: &mut dyn FnMut(&[u8], &[u8]),
        ) -> Result<Passed, ViewError> {
            Ok(Passed { next: 0, work: 0 })
        }
        fn scan(
            &self,
            _: u64,
            _: Limit,
            _: &mut dyn FnMut(&[u8], &Header),
        ) -> Result<Passed, ViewError> {
            Ok(Passed { next: 0, work: 0 })
        }
        fn key_count(&self) -> Result<(u64, u64), ViewError> {
            Ok((1, 0))
        }
    }
    let view = Huge(vec![0; (512 << 20) - 1].into());
    let (mut mutation, mut reply) = (Mutation::new(), BytesMut::new());
    let args = [&b"APPEND"[..], b"k", b"ab"];
    let spec = lookup(b"append").unwrap();
    evaluate(
        spec,
        &args,
        &view,
        &Shard::new().cx,
        &Work::new(u64::MAX),
        &mut mutation,
        &mut reply,
    )
    .unwrap();
    assert_eq!(
        reply,
        "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
    );
    assert!(mutation.is_empty());
}

#[test]
fn a_view_that_fails_leaves_no_reply() {
    struct Damaged;
    fn damaged<T>() -> Result<T, ViewError> {
        Err(ViewError::new("block 7 is damaged"))
    }
    impl View for Damaged {
        fn header(&self, _: &[u8]) -> Result<Option<Header>, ViewError> {
            Ok(Some(header(KeyKind::Hash, 0, 1)))
        }
        fn string(&self, _: &[u8]) -> Result<Option<(Header, Bytes)>, ViewError> {
            damaged()
        }
        fn field(&self, _: &[u8], _: &Header, _: &[u8]) -> Result<Option<Bytes>, ViewError> {
            damaged()
        }
        fn fields(
            &self,
            _: &[u8],
            _: &Header,
            _: u64,
            _: Limit,
            visit: &mut dyn FnMut(&[u8], &[u8]),
        ) -> Result<Passed, ViewError> {
            visit(b"f", b"v");
            damaged()
        }
        fn scan(
            &self,
            _: u64,
            _: Limit,
            _: &mut dyn FnMut(&[u8], &Header),
        ) -> Result<Passed, ViewError> {
            damaged()
        }
        fn key_count(&self) -> Result<(u64, u64), ViewError> {
            damaged()
        }
    }
    let cx: Context = Shard::new().cx;
    for line in [
        "GET k",
        "MGET k l",
        "HGETALL k",
        "HMGET k a b",
        "SCAN 0",
        "DBSIZE",
        "INCR k",
    ] {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (mut mutation, mut reply) = (Mutation::new(), BytesMut::from("+before\r\n"));
        let spec = lookup(args[0]).unwrap();
        let work = Work::new(WORK_MAX);
        let error =
            evaluate(spec, &args, &Damaged, &cx, &work, &mut mutation, &mut reply).unwrap_err();
        assert_eq!(error.to_string(), "IOERR block 7 is damaged");
        assert_eq!(reply, "+before\r\n", "{line}");
    }
}

#[test]
fn command_lists_the_table() {
    let mut s = Shard::new();
    let hashes = s.reply("COMMAND LIST FILTERBY ACLCAT hash");
    assert!(hashes.starts_with("*16\r\n") && hashes.contains("\r\nhsetnx\r\n"));
    assert_eq!(
        s.reply("COMMAND LIST FILTERBY PATTERN hge*"),
        "*2\r\n$4\r\nhget\r\n$7\r\nhgetall\r\n"
    );
    let count = format!(":{}\r\n", crate::table::TABLE.len());
    assert_eq!(s.reply("COMMAND COUNT"), count);
    let all = s.reply("COMMAND");
    assert_eq!(all, s.reply("COMMAND INFO"));
    assert!(all.starts_with('*'));
}

#[test]
fn fields_whose_rows_would_repeat_a_long_key_too_often_are_refused() {
    let (key, fields) = (vec![b'k'; 32_000], 18_000);
    let names: Vec<String> = (0..fields).map(|n| n.to_string()).collect();
    let mut args: Vec<&[u8]> = vec![b"hset", &key];
    for name in &names {
        args.extend([name.as_bytes(), b"v"]);
    }
    let mut shard = Shard::new();
    let (reply, ops) = shard.run(&args);
    assert!(reply.starts_with(b"-ERR 'hset' has 576000000 bytes, at most "));
    assert!(ops.is_empty());
    let (reply, _) = shard.run(&args[..2 + 2 * 500]);
    assert_eq!(&reply[..], b":500\r\n");
    args[1] = b"short";
    let (reply, _) = shard.run(&args);
    assert_eq!(&reply[..], b":18000\r\n");
    let (reply, ops) = shard.run(&[b"copy", b"short", &key, b"replace"]);
    assert!(reply.starts_with(b"-ERR 'copy' has 576000000 bytes, at most "));
    assert!(ops.is_empty());
}
