use super::*;
use model::{
    Mutation, Stamp,
    mutation::{Header, KeyKind},
};
use storage::disk::{Fault, SimDisk};

fn about(epoch: u64) -> About {
    About {
        node: NodeId::new("us-1").unwrap(),
        shard: ShardId(7),
        keyspace: Some("profiles".into()),
        epoch: Epoch(epoch),
        common: Position::new(1, 100),
    }
}

fn entry(index: u64, mutation: &Mutation) -> Entry {
    let kind = match mutation.is_empty() {
        true => EntryKind::Barrier,
        false => EntryKind::Mutation,
    };
    let stamp = Stamp::from_ms(1_700_000_000_123 + index);
    let at = Position::new(1, index);
    Entry::new(at, stamp, kind, mutation.ops(), mutation.bytes())
}

fn string(value: &str) -> Mutation {
    let mut m = Mutation::new();
    m.put_string(b"k", true, &Header::new(KeyKind::String), value.as_bytes());
    m
}

#[test]
fn every_effect_stands_in_the_file_so_that_it_can_be_written_again() {
    let disk = SimDisk::new();
    let rewound = Rewound::new(Arc::new(disk.clone()));
    let mut header = Header::new(KeyKind::Hash);
    header.expires_ms = 5000;
    let mut m = Mutation::new();
    m.put_string(b"k\xff", true, &Header::new(KeyKind::String), b"v");
    let pairs = [(&b"name"[..], &b"Ada \xe2\x98\x83"[..])];
    m.set_fields(b"h", true, Some(&header), pairs.into_iter());
    m.remove_fields(b"h", Some(&header), [&b"name"[..]].into_iter());
    m.remove_fields(b"h", None, [&b"dead"[..]].into_iter());
    m.set_header(
        b"h",
        &Header {
            expires_ms: 0,
            ..header
        },
    );
    m.delete(b"h", &header);
    m.clear_shard();
    let mut saving = rewound.begin(about(3));
    saving.add(&entry(101, &Mutation::new()), true).unwrap();
    saving.add(&entry(102, &m), true).unwrap();
    saving.add(&entry(103, &string("x")), false).unwrap();
    let saved = saving.finish().unwrap();
    assert_eq!((saved.entries, saved.effects), (2, 7));

    disk.crash(1);
    let (text, next) = rewound.show("7-3.jsonl", 0).unwrap();
    assert_eq!(next, 0);
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"rewound":1,"node":"us-1","shard":7,"keyspace":"profiles","epoch":3,"common":"1:100"}"#,
            r#"{"position":"1:102","stamp":"1700000000225.0","time":"2023-11-14T22:13:20.225Z","committed":true,"effects":[{"key":{"base64":"a/8="},"op":"set","value":"v"},{"key":"h","op":"hset","fields":[["name","Ada ☃"]],"created":true,"expires_ms":5000},{"key":"h","op":"hdel","fields":["name"]},{"key":"h","op":"expire","expires_ms":null},{"key":"h","op":"del"},{"op":"flush"}]}"#,
            r#"{"position":"1:103","stamp":"1700000000226.0","time":"2023-11-14T22:13:20.226Z","committed":false,"effects":[{"key":"k","op":"set","value":"x"}]}"#,
            r#"{"end":true,"entries":2,"effects":7}"#,
        ]
    );
}

#[test]
fn a_file_is_never_written_over_and_nothing_to_save_makes_none() {
    let disk = SimDisk::new();
    let rewound = Rewound::new(Arc::new(disk.clone()));
    let mut nothing = rewound.begin(about(3));
    nothing.add(&entry(101, &Mutation::new()), true).unwrap();
    assert_eq!(nothing.finish().unwrap().file, None);
    assert!(disk.list().unwrap().is_empty());

    for wanted in ["7-3.jsonl", "7-3-2.jsonl", "7-3-3.jsonl"] {
        let mut saving = rewound.begin(about(3));
        saving.add(&entry(101, &string(wanted)), true).unwrap();
        assert_eq!(saving.finish().unwrap().file.as_deref(), Some(wanted));
    }
    let mut unfinished = rewound.begin(about(4));
    unfinished.add(&entry(101, &string("x")), true).unwrap();
    drop(unfinished);
    let mut given_up = rewound.begin(about(5));
    given_up.add(&entry(101, &string("x")), true).unwrap();
    given_up.discard();

    let listed = rewound.list().unwrap();
    let names: Vec<&str> = listed.iter().map(|f| f["file"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["7-3-2.jsonl", "7-3-3.jsonl", "7-3.jsonl", "7-4.jsonl"]
    );
    assert_eq!(listed[0]["entries"], 1);
    assert_eq!(listed[0]["common"], "1:100");
    assert_eq!(listed[0]["complete"], true);
    assert_eq!(listed[3]["complete"], false);
    assert_eq!(listed[3]["entries"], Value::Null);
    for outside in ["../identity", "7-9.jsonl", ""] {
        assert!(rewound.show(outside, 0).is_err());
    }
}

#[test]
fn a_large_file_is_shown_in_whole_lines() {
    let rewound = Rewound::new(Arc::new(SimDisk::new()));
    let mut saving = rewound.begin(about(3));
    let long = "x".repeat(3 * SHOW_BYTES);
    for index in 101..120 {
        let value = if index == 110 { &long } else { "short" };
        saving.add(&entry(index, &string(value)), true).unwrap();
    }
    saving.finish().unwrap();
    let (mut text, mut from, mut pieces) = (Vec::new(), 0, 0);
    loop {
        let (more, next) = rewound.show("7-3.jsonl", from).unwrap();
        assert_eq!(more.last(), Some(&b'\n'));
        text.extend(more);
        pieces += 1;
        if next == 0 {
            break;
        }
        from = next;
    }
    assert_eq!(text.iter().filter(|b| **b == b'\n').count(), 21);
    assert!(pieces > 1);
}

#[test]
fn a_disk_that_fails_is_told() {
    for fault in [Fault::WriteFails, Fault::WriteHasNoSpace, Fault::SyncFails] {
        let disk = SimDisk::new();
        let rewound = Rewound::new(Arc::new(disk.clone()));
        let mut saving = rewound.begin(about(3));
        disk.inject(fault);
        saving.add(&entry(101, &string("x")), true).unwrap();
        assert!(saving.finish().is_err(), "{fault:?}");
    }
}

#[test]
fn base64_and_time_are_what_others_write() {
    for (bytes, wanted) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(bytes.as_bytes()), wanted);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
    assert_eq!(rfc3339(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
}
