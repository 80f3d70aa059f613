//! The first version's bytes of what a group says and keeps.

use super::super::{message::Hint, record::*, *};
use bytes::Bytes;

fn read() -> ReadContext {
    ReadContext {
        node: 1,
        process: 2,
        request: 3,
    }
}

fn entry(index: u64) -> Entry {
    Entry {
        term: 4,
        index,
        data: Bytes::from(vec![b'd'; index as usize]),
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        index: 5,
        term: 4,
        voters: vec![1, 2, 300],
        data: Bytes::from_static(b"state"),
    }
}

/// One of each; a variant that is added needs a line here.
fn one_of_each() -> Vec<Message> {
    let hint = Hint { index: 7, term: 3 };
    let bodies = vec![
        Body::Append {
            after_index: 5,
            after_term: 4,
            commit: 5,
            entries: vec![entry(6), entry(7)],
        },
        Body::AppendResponse {
            index: 7,
            commit: 6,
            rejected: None,
        },
        Body::AppendResponse {
            index: 9,
            commit: 6,
            rejected: Some(hint),
        },
        Body::Vote {
            pre: true,
            forced: false,
            last_index: 300,
            last_term: 4,
            commit: 200,
            commit_term: 3,
        },
        Body::VoteResponse {
            pre: false,
            granted: true,
            commit: 200,
            commit_term: 3,
        },
        Body::Heartbeat {
            commit: 5,
            read: Some(read()),
        },
        Body::HeartbeatResponse {
            commit: 5,
            read: None,
        },
        Body::Snapshot(snapshot()),
        Body::TimeoutNow,
        Body::ReadIndex(read()),
        Body::ReadIndexResponse {
            read: read(),
            index: 5,
        },
        Body::Learned {
            index: 7,
            commit: 6,
        },
    ];
    for body in &bodies {
        match body {
            Body::Append { .. }
            | Body::AppendResponse { .. }
            | Body::Vote { .. }
            | Body::VoteResponse { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::Snapshot(_)
            | Body::TimeoutNow
            | Body::ReadIndex(_)
            | Body::ReadIndexResponse { .. }
            | Body::Learned { .. } => {}
        }
    }
    let message = |body| Message { term: 4, body };
    bodies.into_iter().map(message).collect()
}

fn records() -> Vec<LogRecord> {
    let hard_state = HardState {
        term: 4,
        vote: 300,
        commit: 5,
    };
    vec![
        LogRecord::Entry(entry(6)),
        LogRecord::HardState(hard_state),
        LogRecord::Snapshot(Checkpoint {
            hard_state,
            snapshot: snapshot(),
            tail: vec![entry(6), entry(7)],
        }),
    ]
}

/// Each behind its length.
fn capture(parts: impl Iterator<Item = Bytes>) -> Vec<u8> {
    let mut written = Vec::new();
    for part in parts {
        written.extend((part.len() as u32).to_le_bytes());
        written.extend(part);
    }
    written
}

fn parts(mut capture: &'static [u8]) -> Vec<Bytes> {
    let mut found = Vec::new();
    while let Some((length, rest)) = capture.split_first_chunk::<4>() {
        let (one, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        found.push(Bytes::from_static(one));
        capture = rest;
    }
    found
}

fn renew(name: &str, written: &[u8]) {
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
        let path = format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
        #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
        std::fs::write(path, written).unwrap();
    }
}

#[test]
fn the_groups_messages_read_back() {
    let encode = |m: &Message| Bytes::from(postcard::to_stdvec(m).unwrap());
    let written = capture(one_of_each().iter().map(encode));
    renew("group-messages-v1.bin", &written);
    let v1: &[u8] = include_bytes!("../../../testdata/group-messages-v1.bin");
    assert_eq!(v1, written);
    let decode = |bytes: Bytes| postcard::from_bytes::<Message>(&bytes).unwrap();
    let found: Vec<Message> = parts(v1).into_iter().map(decode).collect();
    assert_eq!(found, one_of_each());
}

#[test]
fn the_groups_records_read_back() {
    let written = capture(records().iter().map(LogRecord::encode));
    renew("group-records-v1.bin", &written);
    let v1: &[u8] = include_bytes!("../../../testdata/group-records-v1.bin");
    assert_eq!(v1, written);
    let decode = |bytes| LogRecord::decode(bytes).unwrap();
    let found: Vec<LogRecord> = parts(v1).into_iter().map(decode).collect();
    assert_eq!(found, records());
}
