//! What is left to chance or to an order of one's own, and what is bounded here and not in
//! Redis.

use super::{NOW_MS, Shard};
use model::Op;
use resp::{Frame, FrameDecoder, FrameLimits, Version};
use std::collections::BTreeSet;

fn frame(s: &mut Shard, args: &[&[u8]]) -> Frame {
    let (mut reply, _) = s.run(args);
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    decoder.decode(&mut reply).unwrap().unwrap()
}

fn words(s: &mut Shard, line: &str) -> Frame {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    frame(s, &args)
}

fn texts(frame: &Frame) -> Vec<String> {
    let values = frame.as_values().unwrap().iter();
    let text = |value: &Frame| String::from_utf8(value.as_bytes().unwrap().to_vec()).unwrap();
    values.map(text).collect()
}

/// A hash of `n` fields, too large for one call of HSCAN if that is above 512.
fn hash(s: &mut Shard, n: usize) {
    let pairs: String = (0..n).map(|n| format!(" f{n} {n}")).collect();
    s.reply(&format!("HSET h{pairs}"));
}

/// All fields that a scan gives, and how many calls it took; `between` is called after each.
fn scan(s: &mut Shard, between: &mut dyn FnMut(&mut Shard, usize)) -> (Vec<String>, usize) {
    let (mut cursor, mut found, mut calls) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = words(s, &format!("HSCAN h {cursor} COUNT 20"));
        let [next, pairs] = reply.as_values().unwrap() else {
            panic!("{reply:?}");
        };
        let pairs = texts(pairs);
        assert!(pairs.len() <= 2 * 21);
        for pair in pairs.chunks(2) {
            assert_eq!(pair[0][1..], pair[1]);
            found.push(pair[0].clone());
        }
        calls += 1;
        cursor = String::from_utf8(next.as_bytes().unwrap().to_vec()).unwrap();
        if cursor == "0" {
            return (found, calls);
        }
        between(s, calls);
    }
}

#[test]
fn a_scan_of_a_large_hash_gives_each_field_once() {
    let mut s = Shard::new();
    hash(&mut s, 1000);
    let (found, calls) = scan(&mut s, &mut |_, _| {});
    assert!(calls >= 1000 / 21);
    assert_eq!(found.len(), 1000);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 1000);
}

#[test]
fn a_field_that_stays_is_found_whatever_comes_and_goes() {
    let mut s = Shard::new();
    hash(&mut s, 1000);
    let (found, _) = scan(&mut s, &mut |s, call| {
        s.reply(&format!("HDEL h f{call}"));
        s.reply(&format!("HSET h f{} {}", 2000 + call, 2000 + call));
    });
    let found: BTreeSet<_> = found.into_iter().collect();
    assert!((100..1000).all(|n| found.contains(&format!("f{n}"))));
}

#[test]
fn random_fields_are_of_the_hash_and_all_of_them_come() {
    let mut s = Shard::new();
    hash(&mut s, 10);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let one = words(&mut s, "HRANDFIELD h");
        seen.insert(one.as_bytes().unwrap().clone());
        let four = texts(&words(&mut s, "HRANDFIELD h 4"));
        assert_eq!(four.iter().collect::<BTreeSet<_>>().len(), 4);
        let many = texts(&words(&mut s, "HRANDFIELD h -30 WITHVALUES"));
        assert_eq!(many.len(), 60);
        assert!(many.chunks(2).all(|pair| pair[0][1..] == pair[1]));
    }
    assert_eq!(seen.len(), 10);
    s.cx.version = Version::Resp3;
    let pairs = words(&mut s, "HRANDFIELD h 100 WITHVALUES");
    assert_eq!(pairs.as_values().unwrap().len(), 10);
    assert_eq!(texts(&pairs.as_values().unwrap()[0]).len(), 2);
    let refused = s.reply("HRANDFIELD h -9223372036854775807");
    assert!(
        refused.starts_with("-ERR 'hrandfield' takes more work "),
        "{refused}"
    );
}

#[test]
fn a_random_key_is_one_that_is_there() {
    let mut s = Shard::new();
    assert_eq!(s.reply("RANDOMKEY"), "$-1\r\n");
    s.reply("SET over x PX 1");
    for n in 0..5 {
        // All in one slot, and one elsewhere.
        s.reply(&format!("SET {{a}}{n} x"));
    }
    s.reply("SET b x");
    s.cx.now_ms = NOW_MS + 1;
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        seen.insert(words(&mut s, "RANDOMKEY").as_bytes().unwrap().clone());
    }
    assert_eq!(seen.len(), 6);
    assert!(!seen.contains(&b"over"[..]));
    assert!(s.header("over").is_none(), "it was met, and deleted");
}

#[test]
fn what_was_dumped_is_restored_with_its_time() {
    let mut s = Shard::new();
    hash(&mut s, 600);
    let before = s.reply("HGETALL h");
    let dumped = words(&mut s, "DUMP h").as_bytes().unwrap().clone();
    assert_eq!(s.reply("DUMP nope"), "$-1\r\n");
    s.run(&[b"RESTORE", b"to", b"5000", &dumped]);
    assert_eq!(s.reply("HGETALL to"), before);
    assert_eq!(s.reply("PTTL to"), ":5000\r\n");
    let (refused, ops) = s.run(&[b"RESTORE", b"to", b"0", &dumped]);
    assert_eq!(refused, "-BUSYKEY Target key name already exists.\r\n");
    assert!(ops.is_empty());
    // Over before it is there: what is left is that the key is gone.
    let (_, ops) = s.run(&[b"RESTORE", b"to", b"1", &dumped, b"ABSTTL", b"REPLACE"]);
    assert!(matches!(&ops[..], [Op::Delete { .. }]), "{ops:?}");
    let (refused, _) = s.run(&[b"RESTORE", b"to", b"9223372036854775807", &dumped]);
    assert_eq!(refused, "-ERR invalid expire time in 'restore' command\r\n");
}

#[test]
fn a_restored_field_has_the_bound_of_any_other() {
    let mut s = Shard::new();
    let long = vec![b'f'; model::limits::FIELD_BYTES_MAX + 1];
    s.run(&[b"HSET", b"h", &long, b"v"]);
    let dumped = words(&mut s, "DUMP h").as_bytes().unwrap().clone();
    let (refused, ops) = s.run(&[b"RESTORE", b"to", b"0", &dumped]);
    assert_eq!(refused, "-ERR a field is longer than 32000 bytes\r\n");
    assert!(ops.is_empty());
}

#[test]
fn a_large_hash_is_renamed_over_another() {
    let mut s = Shard::new();
    hash(&mut s, 100);
    s.reply("PEXPIRE h 7000");
    s.reply("COPY h other");
    s.reply("HSET other more 1");
    assert_eq!(s.reply("RENAME other h"), "+OK\r\n");
    assert_eq!(s.reply("HLEN h"), ":101\r\n");
    assert_eq!(s.reply("PTTL h"), ":7000\r\n");
    assert_eq!(s.reply("EXISTS other"), ":0\r\n");
}

#[test]
fn what_would_hold_up_a_shard_is_refused() {
    let mut s = Shard::new();
    let long = vec![b'a'; 10_000];
    s.run(&[b"SET", b"a", &long]);
    let refused = s.reply("LCS a a LEN");
    assert!(
        refused.starts_with(
            "-ERR 'lcs' takes more work than a command may (limits.command_work_max is"
        ),
        "{refused}"
    );
    for (line, name) in [("COPY a b DB 1", "copy"), ("MOVE a 1", "move")] {
        let refused = s.reply(line);
        let expected = format!("-CROSSSLOT '{name}' goes to another shard");
        assert!(refused.starts_with(&expected), "{refused}");
    }
    assert_eq!(s.reply("COPY a b DB 0"), ":1\r\n");
}

#[test]
fn a_key_whose_time_is_over_is_deleted_once_however_often_it_is_met() {
    let mut s = Shard::new();
    // One of them is gone, and RANDOMKEY goes round: it looks for a slot, then for neighbours.
    for line in ["SET a 1", "SET gone 1 PX 5", "SET b 1"] {
        s.reply(line);
    }
    s.cx.now_ms += 5;
    let before = s.clone();
    for seed in 0..50 {
        let mut s = before.clone();
        s.cx.random = seed;
        // Applying them refuses a second deletion.
        let ops = s.ops("RANDOMKEY");
        assert!(matches!(&ops[..], [] | [Op::Delete { .. }]), "{ops:?}");
    }
}
