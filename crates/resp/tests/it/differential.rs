//! Against `redis-protocol`, an independent decoder.
//!
//! It is laxer than ours (it skips the two bytes behind a string unseen, whatever they are,
//! and any text in a null), drops repeated members of sets, and knows streamed values. So:
//! what ours accepts, it accepts, with the same meaning and length; what it refuses, ours does
//! not accept.

use crate::{
    RESP2_PIECES,
    frames::{encoded, resp2_frame, resp3_frame},
};
use bytes::BytesMut;
use proptest::prelude::*;
use redis_protocol::{
    resp2::{self, types::OwnedFrame as Frame2},
    resp3::{
        self,
        types::{OwnedFrame as Frame3, VerbatimStringFormat},
    },
};
use resp::{Frame, FrameDecoder, FrameLimits, Version};

fn ours(bytes: &[u8]) -> Option<(Frame, usize)> {
    let mut input = BytesMut::from(bytes);
    let frame = FrameDecoder::new(FrameLimits::default())
        .decode(&mut input)
        .ok()??;
    Some((frame, bytes.len() - input.len()))
}

/// Theirs as ours; the two nulls of RESP2 are one to them.
fn from_resp2(frame: &Frame2) -> Frame {
    match frame {
        Frame2::SimpleString(line) => Frame::Simple(line.clone().into()),
        Frame2::Error(line) => Frame::Error(line.clone().into()),
        Frame2::Integer(value) => Frame::Integer(*value),
        Frame2::BulkString(bytes) => Frame::Bulk(bytes.clone().into()),
        Frame2::Array(values) => Frame::Array(values.iter().map(from_resp2).collect()),
        Frame2::Null => Frame::Null,
    }
}

fn one_null(frame: Frame) -> Frame {
    match frame {
        Frame::NullArray => Frame::Null,
        Frame::Array(values) => Frame::Array(values.into_iter().map(one_null).collect()),
        other => other,
    }
}

/// A text that is the same for the same meaning: sets and maps have no order.
fn meaning(frame: &Frame) -> String {
    match frame {
        Frame::Set(values) => {
            let mut all: Vec<String> = values.iter().map(meaning).collect();
            all.sort_unstable();
            format!("set{all:?}")
        }
        Frame::Map(pairs) => {
            let mut all: Vec<String> = pairs
                .iter()
                .map(|(key, value)| meaning(key) + "=" + &meaning(value))
                .collect();
            all.sort_unstable();
            format!("map{all:?}")
        }
        Frame::Array(values) => {
            format!("array{:?}", values.iter().map(meaning).collect::<Vec<_>>())
        }
        Frame::Push(values) => format!("push{:?}", values.iter().map(meaning).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

fn from_resp3(frame: &Frame3) -> Option<Frame> {
    let list = |values: &[Frame3]| values.iter().map(from_resp3).collect::<Option<Vec<_>>>();
    Some(match frame {
        Frame3::SimpleString { data, .. } => Frame::Simple(data.clone().into()),
        Frame3::SimpleError { data, .. } => Frame::Error(data.to_string().into()),
        Frame3::BlobString { data, .. } => Frame::Bulk(data.clone().into()),
        Frame3::BlobError { data, .. } => Frame::BlobError(data.clone().into()),
        Frame3::Number { data, .. } => Frame::Integer(*data),
        Frame3::Double { data, .. } => Frame::Double(*data),
        Frame3::Boolean { data, .. } => Frame::Boolean(*data),
        Frame3::Null => Frame::Null,
        Frame3::BigNumber { data, .. } => Frame::BigNumber(data.clone().into()),
        Frame3::VerbatimString { data, format, .. } => Frame::Verbatim {
            format: match format {
                VerbatimStringFormat::Text => *b"txt",
                VerbatimStringFormat::Markdown => *b"mkd",
            },
            text: data.clone().into(),
        },
        Frame3::Array { data, .. } => Frame::Array(list(data)?),
        Frame3::Push { data, .. } => Frame::Push(list(data)?),
        Frame3::Set { data, .. } => {
            Frame::Set(data.iter().map(from_resp3).collect::<Option<Vec<_>>>()?)
        }
        Frame3::Map { data, .. } => Frame::Map(
            data.iter()
                .map(|(key, value)| Some((from_resp3(key)?, from_resp3(value)?)))
                .collect::<Option<Vec<_>>>()?,
        ),
        _ => return None,
    })
}

/// Whether `redis-protocol` can hold the frame as it is: its sets and its maps' keys are
/// hashed, so they are scalars, each there once; its error lines are text; and a RESP3 map or
/// array is never `-1` long.
fn fits_resp3(frame: &Frame) -> bool {
    let scalars = |values: Vec<&Frame>| {
        let hashable = |frame: &&Frame| {
            matches!(
                frame,
                Frame::Simple(_) | Frame::Integer(_) | Frame::Bulk(_) | Frame::Boolean(_)
            )
        };
        let mut names: Vec<String> = values.iter().map(|v| meaning(v)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        values.iter().all(hashable) && names.len() == count
    };
    match frame {
        Frame::Error(line) => std::str::from_utf8(line).is_ok(),
        Frame::Array(values) | Frame::Push(values) => values.iter().all(fits_resp3),
        Frame::Set(values) => scalars(values.iter().collect()),
        Frame::Map(pairs) => {
            scalars(pairs.iter().map(|(key, _)| key).collect())
                && pairs.iter().all(|(_, value)| fits_resp3(value))
        }
        Frame::NullArray => false,
        _ => true,
    }
}

fn same_in_resp2(bytes: &[u8]) {
    let theirs = resp2::decode::decode(bytes);
    let Some((frame, len)) = ours(bytes) else {
        return;
    };
    match theirs {
        Ok(Some((theirs, their_len))) => {
            assert_eq!(one_null(frame), from_resp2(&theirs));
            assert_eq!(len, their_len);
        }
        other => panic!("ours took {frame:?}, theirs: {other:?}"),
    }
}

proptest! {
    #[test]
    fn resp2_frames_mean_the_same(frame in resp2_frame(), cut in any::<prop::sample::Index>()) {
        // Their error lines are text.
        let bytes = encoded(Version::Resp2, &[frame]);
        let text = String::from_utf8_lossy(&bytes);
        if text.as_bytes() == &bytes[..] {
            assert!(ours(&bytes).is_some());
            same_in_resp2(&bytes);
        }
        let part = &bytes[..cut.index(bytes.len())];
        assert!(ours(part).is_none());
        assert!(!matches!(resp2::decode::decode(part), Ok(Some(_))));
    }

    #[test]
    fn resp2_like_bytes_mean_the_same(
        pieces in prop::collection::vec(prop::sample::select(RESP2_PIECES), 1..8),
    ) {
        same_in_resp2(&pieces.concat());
    }

    #[test]
    fn resp3_frames_mean_the_same(frame in resp3_frame()) {
        if fits_resp3(&frame) {
            let bytes = encoded(Version::Resp3, std::slice::from_ref(&frame));
            let (theirs, len) = resp3::decode::complete::decode(&bytes).unwrap().unwrap();
            prop_assert_eq!(len, bytes.len());
            prop_assert_eq!(meaning(&from_resp3(&theirs).unwrap()), meaning(&frame));
            let (ours, len) = ours(&bytes).unwrap();
            prop_assert_eq!(len, bytes.len());
            prop_assert_eq!(meaning(&ours), meaning(&frame));
        }
    }
}
