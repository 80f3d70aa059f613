//! What commands may cost: refused before it is done, and for a part of a large value only that
//! part.

use super::Shard;
use crate::{
    transaction::{Staged, run},
    view::{View, ViewError},
    work::{LOOK_UP, ROW, WORK_MAX, Work},
};
use bytes::{Bytes, BytesMut};
use model::{Mutation, entry::WRITE_BYTES_MAX};

const REFUSED: &str = "takes more work than a command may (limits.command_work_max is 134217728)";

/// A hash of `n` fields.
fn hash(s: &mut Shard, n: usize) {
    for from in (0..n).step_by(10_000) {
        let pairs: String = (from..n.min(from + 10_000))
            .map(|n| format!(" f{n} {n}"))
            .collect();
        s.reply(&format!("HSET h{pairs}"));
    }
}

#[track_caller]
fn refused(s: &mut Shard, line: &str) {
    let name = line.split(' ').next().unwrap().to_ascii_lowercase();
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let (reply, ops) = s.run(&args);
    let reply = String::from_utf8(reply.to_vec()).unwrap();
    assert!(
        reply.starts_with(&format!("-ERR '{name}' {REFUSED}")),
        "{reply}"
    );
    assert_eq!(ops, [], "{line}");
}

#[test]
fn a_large_string_is_read_and_written_again_but_not_twenty_times() {
    let mut s = Shard::new();
    let large = vec![b'a'; 15 << 20];
    s.run(&[b"SET", b"a", &large]);
    assert_eq!(s.run(&[b"GET", b"a"]).0.len(), large.len() + 13);
    assert_eq!(s.reply("APPEND a b"), format!(":{}\r\n", large.len() + 1));
    assert_eq!(s.reply("BITCOUNT a 0 1"), ":6\r\n");
    assert_eq!(s.reply("STRLEN a"), format!(":{}\r\n", large.len() + 1));
    let many = " a".repeat(20);
    refused(&mut s, &format!("MGET{many}"));
    refused(&mut s, &format!("BITOP XOR b{many}"));
    // What it would be is refused before it is made.
    let too_long = WRITE_BYTES_MAX + 1;
    let reply = s.reply(&format!("SETRANGE new {too_long} x"));
    assert!(
        reply.starts_with("-ERR 'setrange' would make a value of "),
        "{reply}"
    );
}

#[test]
fn what_goes_over_a_whole_hash_is_refused_where_that_is_too_large() {
    let mut s = Shard::new();
    hash(&mut s, 300_000);
    for line in [
        "HGETALL h",
        "HKEYS h",
        "RENAME h other",
        "COPY h other",
        "DUMP h",
        "MEMORY USAGE h",
        "HRANDFIELD h 200000",
        "HRANDFIELD h -1000000",
    ] {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let (reply, ops) = s.run(&args);
        let reply = String::from_utf8_lossy(&reply).into_owned();
        assert!(reply.contains(REFUSED), "{line}: {reply:.200}");
        assert_eq!(ops, [], "{line}");
    }
    assert_eq!(s.reply("HLEN h"), ":300000\r\n");
    assert_eq!(s.reply("DEL h"), ":1\r\n");
}

#[test]
fn a_part_of_a_large_hash_costs_what_the_part_does() {
    let mut s = Shard::new();
    hash(&mut s, 100_000);
    for (line, rows) in [
        ("HRANDFIELD h", 40),
        ("HRANDFIELD h 10", 400),
        ("HRANDFIELD h -10", 400),
        ("HSCAN h 0 COUNT 100", 110),
        ("HLEN h", 4),
        ("HGET h f1", 4),
    ] {
        s.reply(line);
        assert!(s.work_done < rows * (ROW + 100), "{line}: {}", s.work_done);
    }
    // Where a good part is asked for, it is read once.
    s.reply("HRANDFIELD h 20000");
    assert!(s.work_done < 100_000 * (ROW + 100), "{}", s.work_done);
}

#[test]
fn a_pattern_takes_no_longer_than_a_command_may() {
    let mut s = Shard::new();
    let (key, pattern) = (
        vec![b'a'; 32_000],
        [&b"*"[..], &[b'?'; 15_000], b"b"].concat(),
    );
    s.run(&[b"SET", &key, b"x"]);
    for args in [
        &[b"KEYS", &pattern[..]][..],
        &[b"SCAN", b"0", b"MATCH", &pattern],
    ] {
        let reply = String::from_utf8(s.run(args).0.to_vec()).unwrap();
        assert!(reply.contains(REFUSED), "{reply}");
    }
    s.run(&[b"HSET", b"h", &key, b"x"]);
    let reply = s.run(&[b"HSCAN", b"h", b"0", b"MATCH", &pattern]).0;
    assert!(String::from_utf8_lossy(&reply).contains(REFUSED));
}

#[test]
fn steps_of_a_bitfield_are_counted() {
    let mut s = Shard::new();
    let args: Vec<&[u8]> = [&b"BITFIELD"[..], b"k"]
        .into_iter()
        .chain([&b"GET"[..], b"i64", b"0"].repeat(300_000))
        .collect();
    assert!(String::from_utf8_lossy(&s.run(&args).0).contains(REFUSED));
}

/// A transaction that sees nothing of what it did.
struct Blind<'a>(&'a dyn View);

impl Staged for Blind<'_> {
    fn with_view(
        &self,
        read: &mut dyn FnMut(&dyn View) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        read(self.0)
    }

    fn stage(&mut self, _: Bytes) -> Result<(), ViewError> {
        Ok(())
    }
}

fn transaction(s: &Shard, commands: &[&[&[u8]]]) -> Result<BytesMut, String> {
    let (mut mutation, mut reply) = (Mutation::new(), BytesMut::new());
    let work = Work::new(WORK_MAX);
    let mut staged = Blind(&s.view);
    let done = run(
        commands,
        &mut staged,
        &s.cx,
        &work,
        &mut mutation,
        &mut reply,
    );
    done.map(|()| reply).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_transaction_may_cost_what_one_command_may() {
    let mut s = Shard::new();
    s.run(&[b"SET", b"a", &vec![b'a'; 3000]]);
    let lcs = [&b"LCS"[..], b"a", b"a", b"LEN"];
    assert!(transaction(&s, &[&lcs]).is_ok());
    let refused = transaction(&s, &[&lcs[..]; 20]).unwrap_err();
    assert!(
        refused.starts_with("ERR a transaction takes more work than a command may (limits."),
        "{refused}"
    );
    // Those that ask for nothing cost their arguments.
    let echo = [&b"ECHO"[..], &vec![b'a'; 1 << 20]];
    assert!(transaction(&s, &[&echo[..]; 100]).is_ok());
    assert!(transaction(&s, &[&echo[..]; 200]).is_err());
    // What it writes is one entry of the log.
    s.run(&[b"SET", b"large", &vec![b'a'; 10 << 20]]);
    let append = [&b"APPEND"[..], b"large", b"a"];
    let refused = transaction(&s, &[&append[..]; 5]).unwrap_err();
    assert!(
        refused.starts_with("ERR a transaction writes "),
        "{refused}"
    );
}

#[test]
fn the_work_of_ordinary_commands_is_small() {
    let mut s = Shard::new();
    for line in [
        "SET k v",
        "GET k",
        "INCR n",
        "HSET h f v",
        "HGET h f",
        "HGETALL h",
        "DEL k",
    ] {
        s.reply(line);
        assert!(s.work_done <= 8 * LOOK_UP, "{line}: {}", s.work_done);
    }
}
