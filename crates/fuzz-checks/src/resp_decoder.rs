//! Bytes of a connection, taken for requests and for replies: the outcome does not depend on
//! the pieces in which they arrive, no more is buffered than the limits allow, and what was
//! decoded encodes to what decodes to the same. A look ahead guesses right where a command is
//! complete and well-formed.

use crate::input::Dice;
use bytes::{Buf, BytesMut};
use resp::{
    Frame, FrameDecoder, FrameLimits, Limits, ProtocolError, RequestDecoder, Version,
    ahead::{ARGS_MAX, Names, names},
    encode_command,
};

/// What a decoder reserves for an announcement alone.
const RESERVE_MIN: usize = 64 << 10;
const RESERVE_FACTOR: usize = 3;

/// See the module.
pub fn check(data: &[u8]) {
    let cuts = cuts(data);
    for limits in limits() {
        let whole = commands(&limits, [data]);
        assert_eq!(whole, commands(&limits, pieces(data, &cuts)));
        assert_eq!(whole, commands(&limits, data.chunks(1)));
        commands_come_back(&whole.0);
    }
    look_ahead(data);
    for limits in frame_limits() {
        let whole = frames(&limits, [data]);
        // As text: a double may be no equal of itself.
        let told = format!("{whole:?}");
        assert_eq!(told, format!("{:?}", frames(&limits, pieces(data, &cuts))));
        assert_eq!(told, format!("{:?}", frames(&limits, data.chunks(1))));
        frames_come_back(&whole.0);
    }
}

fn look_ahead(mut data: &[u8]) {
    let mut decoder = RequestDecoder::new(Limits::default());
    loop {
        let ahead = names(data);
        let Ok(Some(request)) = decoder.decode(data) else {
            return;
        };
        let mut args = decoder.args(data).skip(1);
        let expected = args.next().map(|key| Names {
            key,
            field: args.next(),
            len: request.consumed,
        });
        if data.starts_with(b"*") && request.arg_count <= ARGS_MAX {
            assert_eq!(ahead, expected);
        } else {
            assert_eq!(ahead, None);
        }
        data = &data[request.consumed..];
    }
}

/// How much a decoder may ask for, with so much at hand.
fn needed_max(input: usize) -> usize {
    (input * RESERVE_FACTOR).max(RESERVE_MIN)
}

fn limits() -> [Limits; 3] {
    let tight = Limits {
        bulk_len_max: 16,
        args_max: 3,
        inline_len_max: 24,
        frame_len_max: 48,
        authenticated: true,
    };
    let stranger = Limits {
        authenticated: false,
        ..Limits::default()
    };
    [Limits::default(), tight, stranger]
}

fn frame_limits() -> [FrameLimits; 2] {
    let tight = FrameLimits {
        bulk_len_max: 16,
        line_len_max: 24,
        frame_len_max: 64,
        values_max: 8,
        depth_max: 2,
    };
    [FrameLimits::default(), tight]
}

fn cuts(data: &[u8]) -> Vec<usize> {
    let mut dice = Dice::of(data);
    let mut cuts: Vec<usize> = (0..dice.below(8))
        .map(|_| dice.below(data.len() + 1))
        .collect();
    cuts.extend([0, data.len()]);
    cuts.sort_unstable();
    cuts
}

fn pieces<'a>(data: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    cuts.windows(2).map(|cut| &data[cut[0]..cut[1]])
}

type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn commands<'a>(limits: &Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Commands {
    let mut decoder = RequestDecoder::new(limits.clone());
    let mut input = BytesMut::new();
    let mut commands = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&input) {
                Err(error) => {
                    assert_eq!(decoder.decode(&input), Err(error.clone()), "it stays wrong");
                    return (commands, Some(error));
                }
                Ok(None) => break,
                Ok(Some(request)) => {
                    let args: Vec<_> = decoder.args(&input).map(<[u8]>::to_vec).collect();
                    assert_eq!(args.len(), request.arg_count);
                    assert!(args.len() <= limits.args_max.max(limits.inline_len_max));
                    assert!(request.consumed > 0 && request.consumed <= input.len());
                    assert!(request.consumed <= limits.frame_len_max);
                    if !args.is_empty() {
                        commands.push(args);
                    }
                    input.advance(request.consumed);
                }
            }
        }
        // What is kept is part of one command, and what is asked for is its rest.
        assert!(input.len() <= limits.frame_len_max);
        let needed = decoder.needed();
        assert!((1..=needed_max(input.len())).contains(&needed));
        assert!(input.len() + needed <= limits.frame_len_max + 2);
    }
    (commands, None)
}

fn commands_come_back(commands: &[Vec<Vec<u8>>]) {
    let mut bytes = BytesMut::new();
    for args in commands {
        encode_command(args, &mut bytes);
    }
    let (again, error) = self::commands(&Limits::default(), [&bytes[..]]);
    assert_eq!((again.as_slice(), error), (commands, None));
}

type Frames = (Vec<Frame>, Option<ProtocolError>);

fn frames<'a>(limits: &FrameLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Frames {
    let mut decoder = FrameDecoder::new(limits.clone());
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Err(error) => {
                    let again = decoder.decode(&mut input).map(|_| ());
                    assert_eq!(again, Err(error.clone()), "it stays wrong");
                    return (frames, Some(error));
                }
                Ok(None) => break,
                Ok(Some(frame)) => frames.push(frame),
            }
        }
        assert!(input.len() <= limits.frame_len_max + 2);
        assert!((1..=needed_max(input.len())).contains(&decoder.needed()));
    }
    (frames, None)
}

fn frames_come_back(frames: &[Frame]) {
    // A client of either version gets one frame for each. What RESP2 lacks comes back as what
    // stands for it there; and RESP3 has one null.
    for version in [Version::Resp2, Version::Resp3] {
        let bytes = encoded(version, frames);
        let (again, error) = self::frames(&FrameLimits::default(), [&bytes[..]]);
        assert_eq!((again.len(), error), (frames.len(), None));
        assert_eq!(encoded(version, &again), bytes);
        if version == Version::Resp3 {
            let told = format!("{frames:?}").replace("NullArray", "Null");
            assert_eq!(format!("{again:?}").replace("NullArray", "Null"), told);
        }
    }
}

fn encoded(version: Version, frames: &[Frame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for frame in frames {
        frame.encode(version, &mut bytes);
    }
    bytes
}
