//! Messages by themselves, and the control group that takes some in.

use super::{comes_back, told_again};
use crate::input::{Dice, parts, put, put_crc, u32_at};
use bytes::{Bytes, BytesMut};
use model::{NodeId, Region};
use replication::consensus::{GroupConfig, Message, RaftGroup, Recovered};
use wan::{Base, Links};

pub(super) fn node(bytes: &[u8]) {
    told_again(bytes, node::fuzzing::message);
}

pub(super) fn replica(bytes: &[u8], mend: bool) {
    let mut bytes = bytes.to_vec();
    if mend {
        mend_entries(&mut bytes);
    }
    told_again(&bytes, replication::primary_replica::fuzzing::message);
}

/// Where the entries of an append stand.
const ENTRIES_AT: usize = 67;

/// Puts the checksums of the entries in an append right.
pub(super) fn mend_entries(message: &mut [u8]) {
    let mut at = ENTRIES_AT;
    while let Some(entry) = message.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let Some(end) = mend_entry(entry) else {
            return;
        };
        at += end;
    }
}

/// Puts the checksum of the entry at the front right; returns where it ends.
pub(super) fn mend_entry(entry: &mut [u8]) -> Option<usize> {
    const HEAD: usize = 31;
    let payload = u32_at(entry, HEAD - 4)? as usize;
    let end = HEAD.checked_add(payload)?;
    entry.get(end..end.checked_add(4)?)?;
    put_crc(entry, 0, end);
    Some(end + 4)
}

pub(super) fn frames(bytes: &[u8], mend: bool) {
    const MAX: usize = 512;
    let mut bytes = bytes.to_vec();
    if mend {
        let mut at = 0;
        while let Some(len) = u32_at(&bytes, at) {
            let payload = bytes.get(at + 8..).unwrap_or_default();
            let Some(payload) = payload.get(..len as usize) else {
                break;
            };
            let crc = crc32c::crc32c(payload);
            put(&mut bytes, at + 4, &crc.to_le_bytes());
            at += 8 + len as usize;
        }
    }
    let taken = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut input, mut frames) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match server::fuzzing::frame(&mut input, MAX) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(input.len() < MAX + 8, "what is kept is part of one frame");
        }
        (frames, None)
    };
    let whole = taken(&mut bytes.chunks(usize::MAX));
    let step = 1 + Dice::of(&bytes).below(20);
    assert_eq!(whole, taken(&mut bytes.chunks(step)));
    let mut again = BytesMut::new();
    for frame in &whole.0 {
        assert!(frame.len() <= MAX);
        server::fuzzing::put_frame(frame, &mut again);
    }
    assert!(bytes.starts_with(&again));
}

pub(super) fn hello(bytes: &[u8]) {
    told_again(bytes, server::fuzzing::hello);
}

pub(super) fn links(bytes: &[u8]) {
    let decode = |bytes: Bytes| postcard::from_bytes::<wan::State>(&bytes);
    let encode = |state: &wan::State| postcard::to_stdvec(state).unwrap().into();
    let Some(state) = comes_back(bytes, decode, encode) else {
        return;
    };
    let mut links = Links::new(Base::reference());
    links.merge(&state);
    assert!(!links.merge(&state), "the same state changes nothing");
    let places: Vec<(NodeId, Region)> = [("us-1", "us"), ("eu-1", "eu")]
        .map(|(id, region)| (NodeId::new(id).unwrap(), Region::new(region).unwrap()))
        .into();
    for (from, from_region) in &places {
        for (to, to_region) in &places {
            let _ = links.delay(from, from_region, to, to_region);
        }
    }
    let known = wan::Known {
        nodes: places.into_iter().collect(),
    };
    let _ = links.show(&known);
}

const VOTERS: [u64; 3] = [1, 2, 3];

/// A member of a group of three that the two others say anything to.
pub(super) fn group(bytes: &[u8]) {
    let mut group = member(Recovered::default()).unwrap();
    for (tag, message) in parts(bytes) {
        // So many ticks go by, and it may be asked to say something of itself.
        for _ in 0..tag >> 4 {
            group.tick();
            drive(&mut group);
        }
        if tag & 8 != 0 {
            let _ = group.propose(Bytes::from_static(b"proposal"));
            let _ = group.read_index(1);
        }
        let decode = |bytes: Bytes| postcard::from_bytes::<Message>(&bytes);
        let encode = |message: &Message| postcard::to_stdvec(message).unwrap().into();
        if let Some(message) = comes_back(message, decode, encode) {
            let _ = message.check(Some(&VOTERS));
            group.receive(u64::from(tag & 3), message);
        }
        drive(&mut group);
    }
}

pub(super) fn member(
    recovered: Recovered,
) -> Result<RaftGroup, replication::consensus::InvalidGroup> {
    let config = GroupConfig {
        group: 0,
        id: 1,
        process: 1,
        voters: VOTERS.to_vec(),
        election_ticks: 5,
        turn_ticks: 2,
        heartbeat_ticks: 1,
    };
    RaftGroup::new(config, recovered)
}

/// Does what the group asks for. It asks for a bounded number of things.
pub(super) fn drive(group: &mut RaftGroup) {
    let mut commit = 0;
    for _ in 0..1000 {
        let Some(work) = group.ready() else {
            return;
        };
        for committed in &work.committed {
            assert!(committed.index > commit, "in order");
            commit = committed.index;
        }
        for (to, message) in &work.send {
            assert!(VOTERS.contains(to));
            assert_eq!(message.check(Some(&VOTERS)), Ok(()), "{message:?}");
        }
        if work.must_sync {
            group.synced();
        }
    }
    panic!("a group that is never done");
}
