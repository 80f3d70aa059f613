//! Requests: what was encoded comes back, however it is cut; limits hold; nothing is reserved
//! for what was only announced.

use crate::{blob, commands, cut, cuts, soup};
use bytes::BytesMut;
use proptest::prelude::*;
use resp::{
    Frame, FrameDecoder, FrameLimits, Limits, ProtocolError, RequestDecoder, encode_command,
    request::recycle,
};

/// An inline line that Redis reads as `args`.
fn inline(args: &[Vec<u8>]) -> Vec<u8> {
    let mut line = Vec::new();
    for arg in args {
        line.push(b'"');
        for byte in arg {
            line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
        line.extend_from_slice(b"\" ");
    }
    line.extend_from_slice(b"\r\n");
    line
}

fn args() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(blob(), 1..6)
}

/// Commands as bytes, in either form, with empty ones between.
fn stream() -> impl Strategy<Value = (Vec<Vec<Vec<u8>>>, Vec<u8>)> {
    let empty = prop::sample::select(vec!["", "", "\r\n", "\n", " \t\r\n", "*0\r\n", "*-1\r\n"]);
    prop::collection::vec((args(), any::<bool>(), empty), 0..5).prop_map(|list| {
        let (mut commands, mut bytes) = (Vec::new(), BytesMut::new());
        for (args, is_inline, empty) in list {
            bytes.extend_from_slice(empty.as_bytes());
            match is_inline {
                true => bytes.extend_from_slice(&inline(&args)),
                false => encode_command(&args, &mut bytes),
            }
            commands.push(args);
        }
        (commands, bytes.to_vec())
    })
}

proptest! {
    #[test]
    fn commands_come_back((sent, bytes) in stream(), cuts in cuts()) {
        let whole = commands(Limits::default(), [&bytes[..]]);
        prop_assert_eq!(&whole, &(sent, None));
        prop_assert_eq!(&whole, &commands(Limits::default(), cut(&bytes, &cuts)));
        prop_assert_eq!(&whole, &commands(Limits::default(), bytes.chunks(1)));
    }

    /// What a client sends is an array of bulk strings to the other decoder too.
    #[test]
    fn a_command_is_a_frame(args in args()) {
        let mut bytes = BytesMut::new();
        encode_command(&args, &mut bytes);
        let frame = FrameDecoder::new(FrameLimits::default()).decode(&mut bytes);
        let bulks = args.into_iter().map(|arg| Frame::Bulk(arg.into())).collect();
        prop_assert_eq!(frame, Ok(Some(Frame::Array(bulks))));
    }

    #[test]
    fn the_cuts_do_not_matter_for_any_bytes(bytes in soup(), cuts in cuts()) {
        let tight = Limits { args_max: 3, bulk_len_max: 8, inline_len_max: 12, frame_len_max: 32,
            authenticated: true };
        for limits in [Limits::default(), tight] {
            let whole = commands(limits.clone(), [&bytes[..]]);
            prop_assert_eq!(&whole, &commands(limits.clone(), cut(&bytes, &cuts)));
            prop_assert_eq!(&whole, &commands(limits, bytes.chunks(1)));
        }
    }

    #[test]
    fn noise_never_panics(bytes: Vec<u8>, first in prop::sample::select(b"*$a\"".to_vec())) {
        let bytes = [&[first], &bytes[..]].concat();
        let whole = commands(Limits::default(), [&bytes[..]]);
        prop_assert_eq!(whole, commands(Limits::default(), bytes.chunks(1)));
    }
}

fn outcome(limits: Limits, bytes: &[u8]) -> Option<ProtocolError> {
    commands(limits, [bytes]).1
}

#[test]
fn each_limit_refuses_one_more_than_it_allows() {
    let limits = Limits {
        bulk_len_max: 4,
        args_max: 2,
        inline_len_max: 8,
        frame_len_max: 22,
        authenticated: true,
    };
    let check = |bytes: &str, error| {
        assert_eq!(
            outcome(limits.clone(), bytes.as_bytes()),
            error,
            "{bytes:?}"
        );
    };
    check("*2\r\n$4\r\nPING\r\n$2\r\nab\r\n", None);
    check("*1\r\n$4\r\nPING\r\n", None);
    check("*1\r\n$5\r\n", Some(ProtocolError::InvalidBulkLength));
    check("*3\r\n", Some(ProtocolError::InvalidMultibulkLength));
    check(
        "*2\r\n$4\r\nPING\r\n$3\r\n",
        Some(ProtocolError::TooBigFrame { limit: 22 }),
    );
    check("12345678\n", None);
    check("12345678", None);
    check("123456789", Some(ProtocolError::TooBigInline));
    check("123456789\n", Some(ProtocolError::TooBigInline));
    check("*1234567", None);
    check("*12345678", Some(ProtocolError::TooBigMultibulkCount));
    check("*1\r\n$12345678", Some(ProtocolError::TooBigBulkCount));
}

#[test]
fn a_stranger_gets_less_until_it_has_authenticated() {
    let stranger = Limits {
        authenticated: false,
        ..Limits::default()
    };
    for (bytes, error) in [
        ("*10\r\n", None),
        (
            "*11\r\n",
            Some(ProtocolError::UnauthenticatedMultibulkLength),
        ),
        ("*1\r\n$16384\r\n", None),
        (
            "*1\r\n$16385\r\n",
            Some(ProtocolError::UnauthenticatedBulkLength),
        ),
    ] {
        assert_eq!(outcome(stranger.clone(), bytes.as_bytes()), error);
    }
    let mut decoder = RequestDecoder::new(stranger);
    assert!(decoder.decode(b"PING\r\n").unwrap().is_some());
    decoder.set_limits(Limits::default());
    assert_eq!(decoder.decode(b"*11\r\n"), Ok(None));
}

#[test]
fn an_error_stays() {
    // Behind the broken argument stands what would be a command.
    let input = b"*1\r\n$1\r\n$4\r\nPING\r\n";
    let mut decoder = RequestDecoder::new(Limits::default());
    let error = decoder.decode(input).unwrap_err();
    assert_eq!(error, ProtocolError::MissingBulkEnd);
    assert_eq!(decoder.decode(input), Err(error.clone()));
    assert_eq!(decoder.decode(b"PING\r\n"), Err(error));
    assert_eq!(decoder.args(b"PING\r\n").len(), 0);
}

#[test]
fn what_is_needed_follows_what_has_come() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = b"*2\r\n$3\r\nGET\r\n$9\r\nabc".to_vec();
    assert_eq!(decoder.decode(&input), Ok(None));
    assert_eq!(decoder.needed(), 8);
    input.extend_from_slice(b"defghi\r");
    assert_eq!(decoder.decode(&input), Ok(None));
    assert_eq!(decoder.needed(), 1);

    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = b"*2\r\n$3\r\nSET\r\n$536870912\r\n".to_vec();
    assert_eq!(decoder.decode(&input), Ok(None));
    assert_eq!(decoder.needed(), 64 << 10);
    input.resize(200_000, b'x');
    assert_eq!(decoder.decode(&input), Ok(None));
    assert_eq!(decoder.needed(), 600_000);
}

#[test]
fn a_list_of_arguments_is_reused() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut spare = Vec::with_capacity(8);
    let place = spare.as_ptr() as usize;
    for input in [&b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"[..], b"GET k\r\n"] {
        assert!(decoder.decode(input).unwrap().is_some());
        let args = decoder.args_in(input, spare);
        assert_eq!(args, [&b"GET"[..], b"k"]);
        assert_eq!(args.as_ptr() as usize, place, "the list was allocated anew");
        spare = recycle(args);
    }
}

#[test]
fn what_very_many_arguments_took_is_given_back_behind_them() {
    let mut decoder = RequestDecoder::new(Limits::default());
    let bytes = [&b"*100000\r\n"[..], &b"$1\r\nx\r\n".repeat(100_000)].concat();
    let most = bytes.len() - 1;
    assert_eq!(decoder.decode(&bytes[..most]).unwrap(), None);
    assert!(
        decoder.held_bytes() >= 99_999 * 8,
        "{}",
        decoder.held_bytes()
    );
    decoder.trim();
    assert_eq!(
        decoder.decode(&bytes).unwrap().map(|r| r.arg_count),
        Some(100_000)
    );
    assert_eq!(decoder.args(&bytes).len(), 100_000);
    decoder.trim();
    assert!(decoder.held_bytes() <= 1024 * 8, "{}", decoder.held_bytes());
    assert_eq!(
        decoder.decode(b"PING\r\n").unwrap().map(|r| r.arg_count),
        Some(1)
    );
}
