//! Where the corpus begins: the fixtures of the crates, in the form that the checks take. With
//! `QUIRE_WRITE_CAPTURES` set they are written anew; otherwise this test sees that they are
//! there, so that a change of a format brings its new bytes to the fuzzers too.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the corpus and fixtures are files"
)]

use fuzz_checks::{log_reader, peer_decoder::KINDS};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// Longer fixtures are runs of one byte.
const SEED_BYTES_MAX: usize = 4 << 10;

type Seeds = BTreeMap<String, Vec<u8>>;

fn crates() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture(path: &str) -> Vec<u8> {
    fs::read(crates().join(path)).unwrap()
}

/// The captures in a file, each behind its length, u32 LE.
fn captures(path: &str) -> Vec<Vec<u8>> {
    let bytes = fixture(path);
    let mut rest = &bytes[..];
    let mut all = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let (one, more) = more.split_at(u32::from_le_bytes(*length) as usize);
        all.push(one.to_vec());
        rest = more;
    }
    all
}

fn compare(target: &str, seeds: &Seeds) {
    let directory = crates().join("../fuzz/corpus").join(target);
    for (name, bytes) in seeds {
        let path = directory.join(name);
        if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        let there = fs::read(&path).unwrap_or_default();
        assert!(there == *bytes, "{}", path.display());
    }
}

#[test]
fn resp_decoder() {
    let mut seeds = Seeds::new();
    let malformed = crates().join("resp/testdata/malformed");
    for entry in fs::read_dir(malformed).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        if name != "INDEX" && bytes.len() <= SEED_BYTES_MAX {
            seeds.insert(name, bytes);
        }
    }
    let replies: [(&str, &[u8]); 6] = [
        ("reply-resp2", b"+OK\r\n-ERR no\r\n:12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n"),
        ("reply-resp3", b"%2\r\n+a\r\n#t\r\n$1\r\nb\r\n,3.5\r\n~2\r\n_\r\n(123456789012345678901\r\n=7\r\ntxt:abc\r\n!5\r\nERR x\r\n>1\r\n+p\r\n"),
        ("reply-attribute", b"|1\r\n+ttl\r\n:3600\r\n*1\r\n$1\r\nk\r\n"),
        ("reply-doubles", b",inf\r\n,-inf\r\n,nan\r\n,1e300\r\n,-0\r\n"),
        ("reply-streamed", b"*?\r\n:1\r\n.\r\n"),
        ("reply-deep", b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
    ];
    seeds.extend(replies.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
    compare("resp_decoder", &seeds);
}

/// What was recorded from Redis, some commands a seed.
#[test]
fn command_parser() {
    const LINES: usize = 8;
    const SEEDS: usize = 150;
    let transcript = String::from_utf8(fixture("commands/testdata/transcript.txt")).unwrap();
    let commands: Vec<String> = transcript
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .map(inline)
        .filter(|line| line.len() < 200)
        .collect();
    let chunks: Vec<&[String]> = commands.chunks(LINES).collect();
    let every = (chunks.len() / SEEDS).max(1);
    let mut seeds: Seeds = (chunks.iter().step_by(every).enumerate())
        .map(|(n, lines)| (format!("transcript-{n:03}"), lines.concat().into_bytes()))
        .collect();
    let more: [(&str, &str); 7] = [
        (
            "by-hand-bits",
            "setbit b 100 1\r\nbitfield b set u8 #1 200 overflow sat incrby i5 100 9 get i64 0\r\nbitop xor d b n\r\nbitpos b 0 2 -1 bit\r\nbitcount b -3 -1\r\nbitfield_ro b get u63 7\r\n",
        ),
        ("by-hand-large", "setrange s 50331000 xyz\r\n"),
        (
            "by-hand-strings",
            "setrange s 31 xyz\r\nlcs s t idx withmatchlen minmatchlen 2\r\nlcs s t len\r\nappend s 0123\r\ngetrange s -4 -2\r\nincrbyfloat n 1.5e300\r\ndecrby n -9223372036854775808\r\ngetex s exat 9999999999 \r\ngetdel t\r\n",
        ),
        (
            "by-hand-hashes",
            "hrandfield big -70 withvalues\r\nhscan big 0 match f1* count 3\r\nhincrby big f1 9223372036854775807\r\nhincrbyfloat h c 1e-20\r\nhdel h a b c\r\nhset h a 1\r\ndel big\r\nhset big x y\r\nhstrlen big x\r\n",
        ),
        (
            "by-hand-keys",
            "rename big other\r\ncopy h s replace\r\nobject encoding big\r\nexpire h -1\r\npexpireat h 9223372036854775807 nx\r\ntype buried\r\ntouch a h s\r\nscan 0 type hash count 1\r\nkeys *[a-c\\\\]*\r\nrandomkey\r\nsort h\r\nflushall\r\n",
        ),
        (
            "by-hand-dump",
            "dump big\r\ndump s\r\nrestore r 0 \"\\x10\\x0d\\x0d\\x00\\x00\\x00\\x02\\x00\\x81a\\x02\\x81b\\x02\\xff\\x0a\\x00........\" replace\r\nrestore r 5 \"\\x00\\xc3\\x04\\x0a\\x00a\\xe0\\x00\\x00\\x0a\\x00........\" absttl replace\r\n",
        ),
        (
            "by-hand-server",
            "command\r\ncommand docs get object|help\r\ncommand list filterby pattern h*\r\ncommand getkeys mset a 1 b 2\r\nobject help\r\nkeyspace help\r\n",
        ),
    ];
    seeds.extend(more.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
    compare("command_parser", &seeds);
}

/// A line of the transcript as one that a person might type.
fn inline(words: &str) -> String {
    let word = |word: &str| match word {
        "\"\"" => word.to_owned(),
        word => format!("\"{}\"", word.replace('"', "\\\"")),
    };
    words.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\r\n"
}

#[test]
fn log_reader() {
    let segment = |n: u8| fixture(&format!("storage/testdata/log-v1/{n:020}.log"));
    let (two, three) = (segment(2), segment(3));
    let both = [(2, two.clone()), (3, three.clone())];
    let mut seeds = Seeds::new();
    for (name, flags) in [
        ("as-is", 0),
        ("checksums", 9),
        ("chain", 11),
        ("places", 7 | 16),
    ] {
        seeds.insert(format!("both-{name}"), log_reader::input(flags, &both));
    }
    seeds.insert("last".into(), log_reader::input(1, &both[1..]));
    seeds.insert("first".into(), log_reader::input(8, &both[..1]));
    seeds.insert("none".into(), vec![8]);
    let spare = [(3, three.clone()), (8 | 2, two.clone()), (16 | 4, two)];
    seeds.insert("with-spares".into(), log_reader::input(0, &spare));
    // A few batches are enough for most of what can be wrong.
    let mut short = three.clone();
    short[4096 + 1000..].fill(0);
    for (name, flags) in [("as-is", 8), ("mended", 7)] {
        seeds.insert(
            format!("torn-{name}"),
            log_reader::input(flags, &[(3, short.clone())]),
        );
    }
    compare("log_reader", &seeds);
}

fn part(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag][..], &(bytes.len() as u16).to_le_bytes(), bytes].concat()
}

#[test]
fn peer_decoder() {
    let mut seeds = Seeds::new();
    let mut add = |kind: &str, name: String, bytes: &[u8]| {
        let number = KINDS.iter().position(|(is, _)| *is == kind).unwrap();
        seeds.insert(name, [&[number as u8], bytes].concat());
    };
    let nodes = captures("node/testdata/messages-v3.bin");
    for (n, message) in nodes.iter().enumerate() {
        add("messages between nodes", format!("node-{n:02}"), message);
    }
    let replicas = captures("replication/testdata/messages-v3.bin");
    for (n, message) in replicas.iter().enumerate() {
        add("messages between replicas", format!("replica-{n}"), message);
        for from in [0, 1] {
            let name = format!("replicas-at-work-{n}-{from}");
            add("replicas at work", name, &part(from | 12, message));
        }
    }
    let all = [&replicas[..], &replicas[..]].concat();
    let all: Vec<Vec<u8>> = (0..).zip(&all).map(|(n, m)| part((n % 3) | 4, m)).collect();
    add(
        "replicas at work",
        "replicas-at-work-all".into(),
        &all.concat(),
    );
    let group = captures("replication/testdata/group-messages-v1.bin");
    let parts = |list: &[Vec<u8>], tag: u8| -> Vec<u8> {
        list.iter().flat_map(|one| part(tag, one)).collect()
    };
    add(
        "messages of the control group",
        "group".into(),
        &parts(&group, 2),
    );
    add(
        "messages of the control group",
        "group-ticks".into(),
        &parts(&group, 0x4b),
    );
    for (n, message) in group.iter().enumerate() {
        add(
            "messages of the control group",
            format!("group-{n:02}"),
            &part(2, message),
        );
    }
    let records = captures("replication/testdata/group-records-v1.bin");
    add(
        "records of the control group",
        "records".into(),
        &parts(&records, 0),
    );
    let frame = |payload: &[u8]| {
        let crc = crc32c::crc32c(payload).to_le_bytes();
        [&(payload.len() as u32).to_le_bytes()[..], &crc, payload].concat()
    };
    let hello = b"QUIREPER\x04\0\x04\0\x01\x07\0\0\0\0\0\0\0\x04\0demo\x01\0a\x01\0b\
        \x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\
        \x01\0\0\0\x01\0\0\0\x01\0\0\0";
    add("hello", "hello".into(), hello);
    add(
        "frames",
        "frames".into(),
        &[frame(hello), frame(b""), frame(&nodes[4])].concat(),
    );
    add("orders to the links", "links-none".into(), &[0, 0, 0]);
    let order = b"\x01\x01\x04us-1\x02\0\x02us\x01\x04eu-1\x02eu\0\x01\x04eu-1\x02eu\0\x02us\x02\x01\x80\x02";
    add("orders to the links", "links".into(), order);
    let append = &replicas[0];
    add("entry", "entry".into(), &append[67..67 + 41]);
    let ops = b"\x01\x01k\x01\x01\0\0\0\x01v\x02\x01h\0\x01\x02\x80\x01\x09\x03\x01\x01f\x011\x03\x01h\0\x01\x01f\x04\x01h\x02\0\0\x01\x05\x01h\x03\x01\x06";
    add("mutation", "mutation".into(), ops);
    let short = b"\x01\x07\0\0\0\0\0\0\0v";
    let long = b"\x02\x01\x01\x05\x01v\x01\x02\x07\0\0\0\0\0\0\0\x06\x01\x03\x04";
    add(
        "cells",
        "cells".into(),
        &[part(0, short), part(0, long)].concat(),
    );
    let mut applied = vec![1];
    for number in [4u64, 79, 1_700_000_000_000 << 16] {
        applied.extend_from_slice(&number.to_le_bytes());
    }
    applied.extend_from_slice(b"\x07\x02\x01\x01\x04\x4d");
    add("applied position", "applied".into(), &applied);
    let rows = [
        b"k\x2f\x96\x33\x62\x12\x52\x8d\x16\x03foo\0".to_vec(),
        b"\x01\x01\0\0\0\x01\x07\0\0\0\0\0\0\0v".to_vec(),
    ];
    add("rows of a copy", "rows".into(), &parts(&rows, 0));
    let catalog = fixture("control/testdata/catalog-v5.bin");
    add("catalog", "catalog-v5".into(), &catalog);
    let commands = captures("control/testdata/commands-v5.bin");
    let commands = parts(&commands, 0);
    add("commands to the catalog", "commands-v5".into(), &commands);
    compare("peer_decoder", &seeds);
}
