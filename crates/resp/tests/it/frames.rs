//! Frames: what was encoded comes back, however it is cut; limits hold on announcement.

use crate::{blob, cut, cuts, frames, soup};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use resp::{Frame, FrameDecoder, FrameLimits, ProtocolError, Version};

fn line() -> impl Strategy<Value = Bytes> {
    blob().prop_map(|mut bytes| {
        bytes.retain(|byte| !b"\r\n".contains(byte));
        Bytes::from(bytes)
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    blob().prop_map(Bytes::from)
}

/// Values that both versions tell apart.
fn resp2_scalar() -> impl Strategy<Value = Frame> {
    prop_oneof![
        line().prop_map(Frame::Simple),
        line().prop_map(Frame::Error),
        any::<i64>().prop_map(Frame::Integer),
        bytes().prop_map(Frame::Bulk),
        Just(Frame::Null),
    ]
}

pub(crate) fn resp2_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![9 => resp2_scalar(), 1 => Just(Frame::NullArray)].prop_recursive(
        4,
        24,
        5,
        |inner| prop::collection::vec(inner, 0..5).prop_map(Frame::Array),
    )
}

fn resp3_scalar() -> impl Strategy<Value = Frame> {
    let not_nan = any::<f64>().prop_filter("NaN is no equal of itself", |d| !d.is_nan());
    prop_oneof![
        4 => resp2_scalar(),
        1 => not_nan.prop_map(Frame::Double),
        1 => any::<bool>().prop_map(Frame::Boolean),
        1 => "[+-]?[0-9]{1,40}".prop_map(|digits| Frame::BigNumber(digits.into())),
        1 => bytes().prop_map(Frame::BlobError),
        1 => (any::<bool>(), bytes()).prop_map(|(text, bytes)| Frame::Verbatim {
            format: if text { *b"txt" } else { *b"mkd" },
            text: bytes,
        }),
    ]
}

pub(crate) fn resp3_frame() -> impl Strategy<Value = Frame> {
    resp3_scalar().prop_recursive(4, 24, 5, |inner| {
        let list = || prop::collection::vec(inner.clone(), 0..5);
        prop_oneof![
            list().prop_map(Frame::Array),
            list().prop_map(Frame::Set),
            list().prop_map(Frame::Push),
            prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Frame::Map),
        ]
    })
}

pub(crate) fn encoded(version: Version, list: &[Frame]) -> Vec<u8> {
    let mut out = BytesMut::new();
    list.iter()
        .for_each(|frame| frame.encode(version, &mut out));
    out.to_vec()
}

fn check(version: Version, sent: Vec<Frame>, cuts: &[usize]) {
    let bytes = encoded(version, &sent);
    let expected = (sent, None);
    let limits = FrameLimits::default;
    assert_eq!(frames(limits(), [&bytes[..]]), expected);
    assert_eq!(frames(limits(), cut(&bytes, cuts)), expected);
    assert_eq!(frames(limits(), bytes.chunks(1)), expected);
}

proptest! {
    #[test]
    fn resp2_comes_back(sent in prop::collection::vec(resp2_frame(), 0..4), cuts in cuts()) {
        check(Version::Resp2, sent, &cuts);
    }

    #[test]
    fn resp3_comes_back(sent in prop::collection::vec(resp3_frame(), 0..4), cuts in cuts()) {
        check(Version::Resp3, sent, &cuts);
    }

    /// A RESP2 client understands every frame, and gets no type it does not know.
    #[test]
    fn resp3_frames_are_resp2_for_an_older_client(frame in resp3_frame()) {
        let bytes = encoded(Version::Resp2, &[frame]);
        let (read, error) = frames(FrameLimits::default(), [&bytes[..]]);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(encoded(Version::Resp2, &read), bytes);
    }

    #[test]
    fn the_cuts_do_not_matter_for_any_bytes(bytes in soup(), cuts in cuts()) {
        let tight = FrameLimits { bulk_len_max: 8, line_len_max: 12, frame_len_max: 48,
            values_max: 6, depth_max: 2 };
        for limits in [FrameLimits::default(), tight] {
            let whole = frames(limits.clone(), [&bytes[..]]);
            prop_assert_eq!(&whole, &frames(limits.clone(), cut(&bytes, &cuts)));
            prop_assert_eq!(&whole, &frames(limits, bytes.chunks(1)));
        }
    }

    #[test]
    fn noise_never_panics(
        bytes: Vec<u8>,
        first in prop::sample::select(b"+-:$*_,#(!=%~>|?".to_vec()),
    ) {
        let bytes = [&[first], &bytes[..]].concat();
        let whole = frames(FrameLimits::default(), [&bytes[..]]);
        prop_assert_eq!(format!("{whole:?}"),
            format!("{:?}", frames(FrameLimits::default(), bytes.chunks(1))));
    }
}

fn one(text: &str) -> Result<Option<Frame>, ProtocolError> {
    FrameDecoder::new(FrameLimits::default()).decode(&mut BytesMut::from(text))
}

#[test]
fn attributes_are_read_and_dropped() {
    for (text, frame) in [
        ("|1\r\n+ttl\r\n:3\r\n:7\r\n", Frame::Integer(7)),
        ("|0\r\n:7\r\n", Frame::Integer(7)),
        (
            "|1\r\n+a\r\n*1\r\n|1\r\n+b\r\n+c\r\n+d\r\n:7\r\n",
            Frame::Integer(7),
        ),
        (
            "*2\r\n:1\r\n|1\r\n+k\r\n+v\r\n:2\r\n",
            Frame::Array(vec![Frame::Integer(1), Frame::Integer(2)]),
        ),
    ] {
        assert_eq!(one(text), Ok(Some(frame)), "{text:?}");
    }
    assert_eq!(one("|1\r\n+k\r\n+v\r\n"), Ok(None));
}

#[test]
fn numbers_of_replies_are_read_generously() {
    assert_eq!(one(":+007\r\n"), Ok(Some(Frame::Integer(7))));
    assert_eq!(one(",1e3\r\n"), Ok(Some(Frame::Double(1000.0))));
    assert_eq!(one(",-inf\r\n"), Ok(Some(Frame::Double(f64::NEG_INFINITY))));
    assert!(matches!(one(",nan\r\n"), Ok(Some(Frame::Double(d))) if d.is_nan()));
}

#[test]
fn what_is_not_resp_is_refused() {
    use ProtocolError::{InvalidReply, UnknownType};
    for (text, error) in [
        ("?", UnknownType(b'?')),
        ("HELLO\r\n", UnknownType(b'H')),
        ("\r\n", UnknownType(b'\r')),
        ("+a\rb\r\n", InvalidReply("line end")),
        ("+a\nb\r\n", InvalidReply("line end")),
        (":\r\n", InvalidReply("integer")),
        (":1.5\r\n", InvalidReply("integer")),
        (":9223372036854775808\r\n", InvalidReply("integer")),
        (",\r\n", InvalidReply("double")),
        (",x\r\n", InvalidReply("double")),
        ("#\r\n", InvalidReply("boolean")),
        ("#true\r\n", InvalidReply("boolean")),
        ("_x\r\n", InvalidReply("null")),
        ("(\r\n", InvalidReply("big number")),
        ("(1x\r\n", InvalidReply("big number")),
        ("$\r\n", InvalidReply("string length")),
        ("$-2\r\n", InvalidReply("string length")),
        ("$?\r\n", InvalidReply("string length")),
        ("$3\r\nabcd\r\n", InvalidReply("string end")),
        ("!-1\r\n", InvalidReply("string length")),
        ("=3\r\ntxt\r\n", InvalidReply("verbatim string")),
        ("=5\r\ntxt_a\r\n", InvalidReply("verbatim string")),
        ("*-2\r\n", InvalidReply("aggregate length")),
        ("*?\r\n", InvalidReply("aggregate length")),
        ("*9223372036854775808\r\n", InvalidReply("aggregate length")),
        ("%-1\r\n", InvalidReply("aggregate length")),
        ("~x\r\n", InvalidReply("aggregate length")),
    ] {
        assert_eq!(one(text), Err(error), "{text:?}");
    }
}

fn beyond(what: &'static str, limit: usize) -> Option<ProtocolError> {
    Some(ProtocolError::ReplyLimit { what, limit })
}

#[test]
fn each_limit_refuses_one_more_than_it_allows() {
    let limits = FrameLimits {
        bulk_len_max: 9,
        line_len_max: 8,
        frame_len_max: 29,
        values_max: 4,
        depth_max: 2,
    };
    for (text, error) in [
        ("$9\r\n", None),
        ("$10\r\n", beyond("a string's bytes", 9)),
        ("+1234567\r\n", None),
        ("+12345678", beyond("a line's bytes", 8)),
        ("*4\r\n", None),
        ("*5\r\n", beyond("values", 4)),
        ("%3\r\n", beyond("values", 4)),
        ("*2\r\n*3\r\n", beyond("values", 4)),
        ("*1\r\n*1\r\n:1\r\n", None),
        ("*1\r\n*1\r\n*0\r\n", beyond("nesting", 2)),
        ("|1\r\n+a\r\n%1\r\n:1\r\n|0\r\n", beyond("nesting", 2)),
        ("*3\r\n$9\r\n123456789\r\n$4\r\n", None),
        (
            "*3\r\n$9\r\n123456789\r\n$5\r\n",
            beyond("a frame's bytes", 29),
        ),
        // Each frame is counted by itself.
        (
            ":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
            None,
        ),
        ("*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n*4\r\n", None),
    ] {
        let bytes = text.as_bytes();
        assert_eq!(frames(limits.clone(), [bytes]).1, error, "{text:?}");
        assert_eq!(frames(limits.clone(), bytes.chunks(1)).1, error, "{text:?}");
    }
}

#[test]
fn deep_nesting_is_refused_and_costs_no_stack() {
    let bytes = b"*1\r\n".repeat(1_000_000);
    let (_, error) = frames(FrameLimits::default(), [&bytes[..]]);
    assert_eq!(error, beyond("nesting", 32));
}

#[test]
fn what_is_needed_follows_what_has_come() {
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut input = BytesMut::from("*2\r\n$9\r\nabc");
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.needed(), 8);

    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut input = BytesMut::from("$536870912\r\nabc");
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.needed(), 64 << 10);
    input.resize(200_000, b'x');
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.needed(), 600_000);
}

#[test]
fn an_error_stays() {
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let error = decoder.decode(&mut BytesMut::from("?\r\n")).unwrap_err();
    assert_eq!(decoder.decode(&mut BytesMut::from("+OK\r\n")), Err(error));
}
