//! The crate from outside: round trips, arbitrary cuts, arbitrary bytes, limits, the corpus of
//! malformed requests, and an independent decoder to compare with.

mod differential;
mod frames;
mod malformed;
mod requests;

use bytes::BytesMut;
use proptest::prelude::*;
use resp::{Frame, FrameDecoder, FrameLimits, Limits, ProtocolError, RequestDecoder};

/// The arguments of each command, without the empty ones, and the error after them.
type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// What a connection makes of bytes that arrive in `pieces`.
fn commands<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Commands {
    let mut decoder = RequestDecoder::new(limits);
    let mut input = BytesMut::new();
    let mut commands = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&input) {
                Err(error) => return (commands, Some(error)),
                Ok(None) => break,
                Ok(Some(request)) => {
                    let args: Vec<_> = decoder.args(&input).map(<[u8]>::to_vec).collect();
                    assert_eq!(args.len(), request.arg_count);
                    assert!(request.consumed > 0 && request.consumed <= input.len());
                    if !args.is_empty() {
                        commands.push(args);
                    }
                    bytes::Buf::advance(&mut input, request.consumed);
                }
            }
        }
        assert!(decoder.needed() >= 1);
    }
    (commands, None)
}

/// What a client makes of bytes that arrive in `pieces`.
fn frames<'a>(
    limits: FrameLimits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Option<ProtocolError>) {
    let mut decoder = FrameDecoder::new(limits);
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Err(error) => return (frames, Some(error)),
                Ok(None) => break,
                Ok(Some(frame)) => frames.push(frame),
            }
        }
        assert!(decoder.needed() >= 1);
    }
    (frames, None)
}

/// `bytes` in pieces that end at `cuts`, wherever these lie.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|w| &bytes[w[0]..w[1]]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
        .prop_map(|all| all.iter().map(|i| i.index(1 << 20)).collect())
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..24),
        1 => prop::collection::vec(any::<u8>(), 24..400),
        1 => Just(b"\r\n$-1\r\n*3\r\n".to_vec()),
    ]
}

/// Pieces of requests and of RESP2 replies, whole and broken.
const RESP2_PIECES: &[&[u8]] = &[
    b"*1\r\n",
    b"*2\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*",
    b"$1\r\na\r\n",
    b"$3\r\n",
    b"$0\r\n",
    b"$-1\r\n",
    b"$",
    b"\r\n",
    b"\r",
    b"\n",
    b"abc",
    b"PING",
    b"\"",
    b"'",
    b"\\x4",
    b" ",
    b"+OK\r\n",
    b"-ERR\r\n",
    b":12\r\n",
    b":",
    b"9",
    b"1",
    b"-",
    b"*999999999\r\n",
    b"$536870912\r\n",
];

/// What RESP3 adds.
const RESP3_PIECES: &[&[u8]] = &[
    b"%1\r\n",
    b"~2\r\n",
    b">1\r\n",
    b"|1\r\n",
    b"#t\r\n",
    b"_\r\n",
    b",1.5\r\n",
    b"(99\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"!3\r\nERR\r\n",
];

/// Bytes that are nearly RESP, so that they reach further than noise does.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(RESP2_PIECES).prop_map(<[u8]>::to_vec),
        2 => prop::sample::select(RESP3_PIECES).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}
