//! What redis-server 7.0.15 answered to some six thousand random commands is what we answer.

use super::Shard;

const TRANSCRIPT: &str = include_str!("../../testdata/transcript.txt");

/// The bytes of a recorded text; see `testdata/record.py`.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b'x') => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = str::from_utf8(&hex).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
            }
            other => panic!("no such escape: {other:?}"),
        }
    }
    out
}

#[test]
fn replies_are_those_of_redis() {
    let mut shard = Shard::new();
    let mut lines = TRANSCRIPT.lines().enumerate().skip(1);
    let mut replies = 0;
    while let Some((number, line)) = lines.next() {
        let (_, expected) = lines.next().unwrap();
        let words = line.strip_prefix("> ").unwrap().split(' ');
        let args: Vec<Vec<u8>> = words
            .map(|word| {
                if word == "\"\"" {
                    Vec::new()
                } else {
                    bytes(word)
                }
            })
            .collect();
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let expected = bytes(expected.strip_prefix("< ").unwrap());
        let (reply, _) = shard.run(&args);
        assert_eq!(
            reply.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "transcript.txt:{}: {line}",
            number + 1,
        );
        replies += 1;
    }
    assert!(replies > 6000);
}
