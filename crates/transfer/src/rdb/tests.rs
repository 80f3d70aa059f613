//! Snapshots that redis-server wrote (`testdata/make.py`), and bytes that nobody did.

use super::*;
use crate::fields::EXPIRING;
use commands::rdb::crc64;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// By key: what it holds, and when it expires.
type Contents = BTreeMap<Bytes, (Value, Option<u64>)>;

/// A whole snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
struct Snapshot {
    keys: Contents,
    skipped: BTreeMap<&'static str, u64>,
    elsewhere: u64,
    parts: u64,
    large: u64,
    damaged: u64,
    expired: u64,
}

fn add(snapshot: &mut Snapshot, reader: &mut Reader<impl Read>) -> Result<bool, Error> {
    let Some(head) = reader.next()? else {
        return Ok(false);
    };
    if head.database != 0 {
        snapshot.elsewhere += 1;
        return Ok(true);
    }
    let mut fields = Vec::new();
    loop {
        let value = match reader.piece()? {
            Piece::Fields(part) => {
                assert!(part.len() <= PART_FIELDS);
                snapshot.parts += 1;
                fields.extend(part);
                continue;
            }
            Piece::End(count) => {
                assert_eq!(count, fields.len() as u64);
                rdb::hash(fields)
            }
            Piece::Whole(value) => Some(value),
            Piece::Other(name) => {
                *snapshot.skipped.entry(name).or_default() += 1;
                return Ok(true);
            }
            Piece::TooLarge => {
                snapshot.large += 1;
                return Ok(true);
            }
            Piece::Expired => {
                snapshot.expired += 1;
                return Ok(true);
            }
            Piece::Damaged => None,
        };
        match value {
            Some(value) => _ = snapshot.keys.insert(head.key, (value, head.expires_ms)),
            None => snapshot.damaged += 1,
        }
        return Ok(true);
    }
}

fn read(file: impl Read, expiring: Expiring) -> (Snapshot, Result<(), Error>) {
    let mut snapshot = Snapshot::default();
    let mut reader = match Reader::new(file, expiring) {
        Ok(reader) => reader,
        Err(error) => return (snapshot, Err(error)),
    };
    loop {
        match add(&mut snapshot, &mut reader) {
            Ok(true) => {}
            Ok(false) => return (snapshot, Ok(())),
            Err(error) => return (snapshot, Err(error)),
        }
    }
}

fn whole(file: &[u8]) -> Snapshot {
    let (snapshot, ended) = read(file, Expiring::Pass);
    ended.unwrap();
    snapshot
}

#[allow(clippy::disallowed_methods, reason = "the fixtures are files")]
fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn unhex(digits: &str) -> Bytes {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

/// What redis-server said of its strings and hashes.
fn expected() -> Contents {
    let json: serde_json::Value = serde_json::from_slice(&file("expected.json")).unwrap();
    let mut contents = Contents::new();
    for (key, facts) in json.as_object().unwrap() {
        let value = match facts[0].as_str().unwrap() {
            "string" => Value::String(unhex(facts[1].as_str().unwrap())),
            "hash" => {
                let fields = facts[1].as_object().unwrap().iter();
                let fields = fields.map(|(f, v)| (unhex(&f[1..]), unhex(v.as_str().unwrap())));
                rdb::hash(fields.collect()).unwrap()
            }
            _ => continue,
        };
        let expires_ms = u64::try_from(facts[2].as_i64().unwrap()).ok();
        contents.insert(unhex(&key[1..]), (value, expires_ms));
    }
    contents
}

#[test]
fn snapshots_of_redis_hold_what_redis_says() {
    let expected = expected();
    assert!(expected.len() > 60 && expected.values().any(|(_, at)| at.is_some()));
    for name in ["default", "plain", "wide", "unsummed"] {
        let snapshot = whole(&file(&format!("{name}.rdb")));
        assert!(snapshot.keys == expected, "{name}");
        let skipped = [("list", 2), ("set", 2), ("sorted set", 2), ("stream", 1)];
        assert_eq!(snapshot.skipped, skipped.into(), "{name}");
        assert_eq!((snapshot.elsewhere, snapshot.damaged), (1, 0), "{name}");
    }
}

#[test]
fn the_fixtures_have_the_encodings_that_they_are_for() {
    let types = |name: &str| {
        let file = file(name);
        let mut reader = Reader::new(&file[..], Expiring::Pass).unwrap();
        let mut kinds = std::collections::BTreeSet::new();
        while reader.next().unwrap().is_some() {
            if let At::Value(kind) = reader.at {
                kinds.insert(kind);
            }
        }
        assert_eq!(reader.functions(), 1);
        kinds
    };
    assert!(types("default.rdb").is_superset(&[0, 4, 16, 18, 11, 17, 19].into()));
    assert!(types("plain.rdb").contains(&4) && !types("plain.rdb").contains(&16));
    assert!(types("wide.rdb").contains(&16) && !types("wide.rdb").contains(&4));
    assert!(
        file("plain.rdb").len() > 3 * file("default.rdb").len(),
        "LZF"
    );
}

/// A file of Redis in version 11, with its checksum.
fn sealed(records: &[u8]) -> Vec<u8> {
    sealed_as(b"REDIS0011", records)
}

fn sealed_as(magic: &[u8], records: &[u8]) -> Vec<u8> {
    let mut file = [magic, records, &[0xff]].concat();
    file.extend_from_slice(&crc64::of(&file).to_le_bytes());
    file
}

/// A string of up to 16,383 bytes.
fn string(text: &[u8]) -> Vec<u8> {
    let length = 0x4000 | u16::try_from(text.len()).unwrap();
    [&length.to_be_bytes()[..], text].concat()
}

fn key(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &string(b"k"), body].concat()
}

fn hash(fields: &[(&str, &str)]) -> Value {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    rdb::hash(fields.iter().map(|(f, v)| (bytes(f), bytes(v))).collect()).unwrap()
}

/// A listpack of texts shorter than 64 bytes.
fn listpack(texts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        body.push(0x80 | text.len() as u8);
        body.extend_from_slice(text.as_bytes());
        body.push(text.len() as u8 + 1);
    }
    body.push(0xff);
    let mut out = (body.len() as u32 + 6).to_le_bytes().to_vec();
    out.extend_from_slice(&(texts.len() as u16).to_le_bytes());
    [out, body].concat()
}

#[test]
fn hashes_of_old_versions_are_read() {
    let zipmap = b"\x02\x01a\x03\x00one\x01b\x03\x01two!\xff";
    let ziplist = b"\x12\0\0\0\x0e\0\0\0\x02\0\0\x01a\x03\xfe\xf4\xff";
    let ziplist = {
        let mut list = ziplist.to_vec();
        list[0] = list.len() as u8;
        list
    };
    let wanted = [
        (9, &zipmap[..], hash(&[("a", "one"), ("b", "two")])),
        (13, &ziplist, hash(&[("a", "-12")])),
    ];
    for (kind, stored, value) in wanted {
        for version in [&b"REDIS0002"[..], b"REDIS0006"] {
            let file = sealed_as(version, &key(kind, &string(stored)));
            // Before version 5 there was no checksum.
            let end = if version == b"REDIS0002" {
                file.len() - 8
            } else {
                file.len()
            };
            let snapshot = whole(&file[..end]);
            assert_eq!(snapshot.keys[&b"k"[..]], (value.clone(), None));
        }
    }
}

#[test]
fn times_of_keys_are_moments() {
    let seconds = [&[0xfd][..], &7i32.to_le_bytes(), &key(0, &string(b"v"))].concat();
    let ms = [&[0xfc][..], &7_001i64.to_le_bytes(), &key(0, &string(b"v"))].concat();
    let past = [&[0xfc][..], &(-5i64).to_le_bytes(), &key(0, &string(b"v"))].concat();
    for (record, at) in [(seconds, 7_000), (ms, 7_001), (past, 1)] {
        let snapshot = whole(&sealed(&record));
        assert_eq!(snapshot.keys[&b"k"[..]].1, Some(at));
        // Nobody else has it.
        let two = [
            record,
            [&[0][..], &string(b"other"), &string(b"v")].concat(),
        ]
        .concat();
        assert_eq!(whole(&sealed(&two)).keys[&b"other"[..]].1, None);
    }
}

/// Field a without a time, field b with this one.
fn expiring_hashes(at: u64) -> Vec<(Vec<u8>, u8, Vec<u8>)> {
    let wide = |n: u64| [&[0x81][..], &n.to_be_bytes()].concat();
    let (a, b) = (
        [string(b"a"), string(b"1")].concat(),
        [string(b"b"), string(b"2")].concat(),
    );
    let digits = at.to_string();
    let list = string(&listpack(&["a", "1", "0", "b", "2", &digits]));
    let redis = b"REDIS0012".to_vec();
    let least = at - 5;
    vec![
        (redis.clone(), 22, [&[2, 0][..], &a, &wide(at), &b].concat()),
        (redis.clone(), 23, list.clone()),
        (
            redis.clone(),
            24,
            [&least.to_le_bytes()[..], &[2, 0], &a, &[6], &b].concat(),
        ),
        (redis, 25, [&least.to_le_bytes()[..], &list].concat()),
        (
            b"VALKEY080".to_vec(),
            22,
            [&[2][..], &a, &(-1i64).to_le_bytes(), &b, &at.to_le_bytes()].concat(),
        ),
    ]
}

#[test]
fn hashes_with_fields_that_expire_are_passed_over_or_lose_the_times() {
    for (magic, kind, body) in expiring_hashes(1_000) {
        let file = sealed_as(&magic, &key(kind, &body));
        let (snapshot, ended) = read(&file[..], Expiring::Pass);
        ended.unwrap();
        assert_eq!(snapshot.skipped, [(EXPIRING, 1)].into(), "{kind}");
        for (now_ms, wanted) in [
            (999, hash(&[("a", "1"), ("b", "2")])),
            (1_000, hash(&[("a", "1")])),
        ] {
            let (snapshot, ended) = read(&file[..], Expiring::Keep { now_ms });
            ended.unwrap();
            assert_eq!(
                snapshot.keys[&b"k"[..]],
                (wanted.clone(), None),
                "{kind} at {now_ms}"
            );
            // The same in the answer to DUMP.
            let version: u16 = if magic.starts_with(b"VALKEY") { 80 } else { 12 };
            let mut payload = [&[kind][..], &body, &version.to_le_bytes()].concat();
            payload.extend_from_slice(&crc64::of(&payload).to_le_bytes());
            let parsed = fields::payload(&payload, Expiring::Keep { now_ms });
            assert_eq!(parsed, fields::Parsed::Value(wanted), "{kind} at {now_ms}");
        }
    }
}

#[test]
fn a_large_hash_comes_in_parts() {
    let count = 2 * PART_FIELDS + 5;
    let mut body = [&[0x80][..], &(count as u32).to_be_bytes()].concat();
    for n in 0..count {
        body.extend(string(format!("f{n}").as_bytes()));
        body.extend(string(b"value"));
    }
    let after = [&[0][..], &string(b"after"), &string(b"v")].concat();
    let file = sealed(&[key(4, &body), after].concat());
    let snapshot = whole(&file);
    assert_eq!(snapshot.parts, 3);
    match &snapshot.keys[&b"k"[..]].0 {
        Value::Hash(fields) => assert_eq!(fields.len(), count),
        Value::String(_) => panic!(),
    }
    assert!(snapshot.keys.contains_key(&b"after"[..]));
    // Whoever wants only a part of it finds the next key all the same.
    let mut reader = Reader::new(&file[..], Expiring::Pass).unwrap();
    reader.next().unwrap();
    assert!(matches!(reader.piece().unwrap(), Piece::Fields(_)));
    assert_eq!(reader.next().unwrap().unwrap().key, b"after"[..]);
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn what_is_too_large_is_passed_over() {
    /// So many bytes of nothing behind some, then others.
    fn around(before: Vec<u8>, zeros: u64, after: Vec<u8>) -> impl Read {
        std::io::Cursor::new(before)
            .chain(std::io::repeat(0).take(zeros))
            .chain(std::io::Cursor::new(after))
    }
    let bytes = WRITE_BYTES_MAX as u32 + 1;
    let before = [&b"REDIS0011"[..], &key(0, b"\x80"), &bytes.to_be_bytes()].concat();
    let after = [&[0][..], &string(b"after"), &string(b"v"), b"\xff", &[0; 8]].concat();
    let (snapshot, ended) = read(around(before, bytes.into(), after), Expiring::Pass);
    ended.unwrap();
    assert_eq!((snapshot.large, snapshot.keys.len()), (1, 1));
    // Packed small, and large in memory.
    let lzf = [&[0xc3, 0x03, 0x80][..], &u32::MAX.to_be_bytes(), b"\x02abc"].concat();
    let snapshot = whole(&sealed(&key(0, &lzf[..lzf.len() - 1])));
    assert_eq!(snapshot.large, 1);
}

#[test]
fn modules_are_passed_over_and_what_is_not_known_is_said() {
    let value = [
        &[0x81][..],
        &7u64.to_be_bytes(),
        b"\x02\x05\x03AAAA\x04BBBBBBBB\x05",
    ]
    .concat();
    let value = [value, string(b"text"), vec![1, 9, 0]].concat();
    let aux = [&[0xf7, 0x01, 0x02, 0x02, 0x05][..], &string(b"aux"), &[0]].concat();
    let after = [&[0][..], &string(b"after"), &string(b"v")].concat();
    let file = sealed(&[aux, key(7, &value), vec![0xf4, 1, 2, 3], after].concat());
    let snapshot = whole(&file);
    assert_eq!(snapshot.skipped, [("module value", 1)].into());
    assert_eq!(snapshot.keys.len(), 1);
    for record in [key(6, b""), key(8, b""), key(77, b""), vec![0xf3, 0]] {
        let (_, ended) = read(&sealed(&record)[..], Expiring::Pass);
        assert!(matches!(ended, Err(Error::Unsupported { .. })), "{ended:?}");
    }
}

#[test]
fn types_of_all_versions_are_passed_over() {
    let two = [string(b"one"), string(b"two")].concat();
    let stream = |kind: u8| {
        let lengths = |count: usize| vec![1; count];
        [
            &[1][..],
            &two,
            &lengths(if kind >= 19 { 8 } else { 3 }),
            &[1],
            &string(b"group"),
            &lengths(if kind >= 19 { 3 } else { 2 }),
            // One is pending: its id, when it was given, and how often.
            &[1],
            &[7; 24],
            &[2],
            &[1],
            &string(b"consumer"),
            &[7; 8][..],
            &[7; 8][..if kind >= 21 { 8 } else { 0 }],
            &[1],
            &[7; 16],
        ]
        .concat()
    };
    let scores = [string(b"a"), b"\x031.5".to_vec(), string(b"b"), vec![255]].concat();
    for (kind, body, name) in [
        (1, [&[2][..], &two].concat(), "list"),
        (2, [&[2][..], &two].concat(), "set"),
        (3, [&[2][..], &scores].concat(), "sorted set"),
        (5, [&[1][..], &string(b"a"), &[0; 8]].concat(), "sorted set"),
        (10, string(b"ziplist"), "list"),
        (11, string(b"intset"), "set"),
        (12, string(b"ziplist"), "sorted set"),
        (14, [&[2][..], &two].concat(), "list"),
        (15, stream(15), "stream"),
        (18, [&[1, 1][..], &string(b"element")].concat(), "list"),
        (19, stream(19), "stream"),
        (20, string(b"listpack"), "set"),
        (21, stream(21), "stream"),
    ] {
        let after = [&[0][..], &string(b"after"), &string(b"v")].concat();
        let snapshot = whole(&sealed(&[key(kind, &body), after].concat()));
        assert_eq!(snapshot.skipped, [(name, 1)].into(), "{kind}");
        assert!(snapshot.keys.contains_key(&b"after"[..]), "{kind}");
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    for (file, said) in [
        (&b""[..], "only 0 bytes"),
        (b"REDIS", "only 5 bytes"),
        (b"*3\r\n$3\r\nSET\r\n", "begins with \"*3\\r\\n$3\\r\\nS\""),
        (b"REDIS0099rest", "REDIS0099"),
        (b"REDIS00x1rest", "not known"),
        (b"VALKEY999rest", "VALKEY999"),
    ] {
        let (_, ended) = read(file, Expiring::Pass);
        let error = ended.unwrap_err();
        assert!(matches!(error, Error::Unknown(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let mut file = file("default.rdb");
    file.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let (_, ended) = read(&file[..], Expiring::Pass);
    assert!(ended.unwrap_err().to_string().contains("append-only"));
}

#[test]
fn a_file_that_is_cut_short_says_where_and_what_came_before_is_whole() {
    let file = file("default.rdb");
    let all = expected();
    for end in (9..file.len()).step_by(7).chain([file.len() - 1]) {
        let (snapshot, ended) = read(&file[..end], Expiring::Pass);
        match ended.unwrap_err() {
            Error::Truncated { offset, began, .. } => {
                assert_eq!(offset, end as u64);
                assert!(began <= offset);
            }
            other => panic!("{end}: {other}"),
        }
        for (key, value) in &snapshot.keys {
            assert_eq!(all.get(key), Some(value), "{end}");
        }
    }
}

#[test]
fn a_flipped_bit_never_goes_unnoticed() {
    let file = file("default.rdb");
    for at in (0..file.len())
        .step_by(11)
        .chain(file.len() - 9..file.len())
    {
        let mut bad = file.clone();
        bad[at] ^= 1 << (at % 8);
        let (_, ended) = read(&bad[..], Expiring::Pass);
        assert!(ended.is_err(), "byte {at}");
    }
    // Only the checksum tells that a value is another one.
    let mut bad = sealed(&key(0, &string(b"value")));
    let at = bad.len() - 11;
    bad[at] ^= 1;
    let (snapshot, ended) = read(&bad[..], Expiring::Pass);
    assert!(matches!(ended, Err(Error::Checksum { .. })), "{ended:?}");
    assert_eq!(snapshot.keys.len(), 1);
}

/// Gives a byte at a time, and then fails.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.split_first() {
            Some((first, rest)) => {
                buffer[0] = *first;
                self.0 = rest;
                Ok(1)
            }
            None => Err(std::io::Error::other("the disk is on fire")),
        }
    }
}

#[test]
fn pieces_in_which_bytes_arrive_make_no_difference_and_a_bad_disk_is_said() {
    let file = file("default.rdb");
    let (snapshot, ended) = read(Failing(&file), Expiring::Pass);
    // It is asked once more, whether that was the end.
    let error = ended.unwrap_err().to_string();
    assert!(
        error.contains("on fire") && error.contains(&format!("byte {}", file.len())),
        "{error}"
    );
    assert_eq!(snapshot.keys, expected());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
        wide in any::<bool>(),
    ) {
        let mut file = file(if wide { "wide.rdb" } else { "default.rdb" });
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let end = if keep { file.len() } else { cut.index(file.len()) };
        let _ = read(&file[..end], Expiring::Keep { now_ms: 1 });
    }

    #[test]
    fn no_records_make_it_panic(
        records in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0u8..26,
        valkey in any::<bool>(),
    ) {
        let magic: &[u8] = if valkey { b"VALKEY080" } else { b"REDIS0012" };
        for expiring in [Expiring::Pass, Expiring::Keep { now_ms: 5 }] {
            let _ = read(&sealed_as(magic, &records)[..], expiring);
            let _ = read(&sealed_as(magic, &key(kind, &records))[..], expiring);
            let _ = read(&sealed_as(magic, &key(kind, &string(&records)))[..], expiring);
            let _ = fields::payload(&records, expiring);
        }
    }

    #[test]
    fn damage_inside_a_hash_with_times_makes_nothing_panic(
        at in any::<prop::sample::Index>(), byte: u8, which in 0usize..5,
    ) {
        let (magic, kind, mut body) = expiring_hashes(1_000).swap_remove(which);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = read(&sealed_as(&magic, &key(kind, &body))[..], Expiring::Keep { now_ms: 5 });
    }
}
