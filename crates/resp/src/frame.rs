//! What servers send, as owned values: for clients, and for a router that puts the replies of
//! a split command together.
//!
//! A [`Frame`] tells apart all that RESP3 does, and RESP2's two nulls. Attributes, which RESP3
//! allows in front of any value, are read and dropped: nothing in Quire sends or uses them.

mod decoder;

pub use decoder::{FrameDecoder, FrameLimits};

use crate::{
    Encoder, Version,
    reply::{put_bulk, put_len},
};
use bytes::{Bytes, BytesMut};

/// One value of RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `+` A short word.
    Simple(Bytes),
    /// `-` An error line, its code first.
    Error(Bytes),
    /// `:` An integer.
    Integer(i64),
    /// `$` Any bytes.
    Bulk(Bytes),
    /// `_`, or in RESP2 `$-1`.
    Null,
    /// `*-1`, which only RESP2 tells apart from [`Null`](Frame::Null).
    NullArray,
    /// `*` Values in order.
    Array(Vec<Frame>),
    /// `,` A double.
    Double(f64),
    /// `#` A boolean.
    Boolean(bool),
    /// `(` An integer of any size: an optional sign and decimal digits.
    BigNumber(Bytes),
    /// `!` An error of any bytes.
    BlobError(Bytes),
    /// `=` Text to be shown as it is.
    Verbatim {
        /// `txt` or `mkd`.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
    /// `%` Keys and values, in the order sent.
    Map(Vec<(Frame, Frame)>),
    /// `~` Values, in the order sent.
    Set(Vec<Frame>),
    /// `>` A message that answers no command.
    Push(Vec<Frame>),
}

impl Frame {
    /// The error that it is, if it is one.
    pub fn as_error(&self) -> Option<&Bytes> {
        match self {
            Frame::Error(line) | Frame::BlobError(line) => Some(line),
            _ => None,
        }
    }

    /// The bytes of a string of any kind; none for errors, numbers and the rest.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Frame::Simple(bytes) | Frame::Bulk(bytes) | Frame::Verbatim { text: bytes, .. } => {
                Some(bytes)
            }
            _ => None,
        }
    }

    /// The integer that it is, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Frame::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The values of an array, set or push.
    pub fn as_values(&self) -> Option<&[Frame]> {
        match self {
            Frame::Array(values) | Frame::Set(values) | Frame::Push(values) => Some(values),
            _ => None,
        }
    }

    /// Writes it at the end of `out`. Recurses as deep as the frame is nested, which the
    /// decoder bounds.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        self.encode_to(&mut Encoder::new(version, out));
    }

    /// As [`encode`](Self::encode), among other replies.
    pub fn encode_to(&self, out: &mut Encoder<'_>) {
        match self {
            Frame::Simple(line) => out.simple(line),
            Frame::Error(line) => out.error(line),
            Frame::Integer(value) => out.integer(*value),
            Frame::Bulk(bytes) => out.bulk(bytes),
            Frame::Null => out.null(),
            Frame::NullArray => out.null_array(),
            Frame::Double(value) => out.double(*value),
            Frame::Boolean(value) => out.boolean(*value),
            Frame::BigNumber(digits) => out.big_number(digits),
            Frame::BlobError(bytes) => out.blob_error(bytes),
            Frame::Verbatim { format, text } => out.verbatim(format, text),
            Frame::Array(values) => {
                out.array(values.len());
                values.iter().for_each(|value| value.encode_to(out));
            }
            Frame::Set(values) => {
                out.set(values.len());
                values.iter().for_each(|value| value.encode_to(out));
            }
            Frame::Push(values) => {
                out.push(values.len());
                values.iter().for_each(|value| value.encode_to(out));
            }
            Frame::Map(pairs) => {
                out.map(pairs.len());
                for (key, value) in pairs {
                    key.encode_to(out);
                    value.encode_to(out);
                }
            }
        }
    }
}

/// Writes a command at the end of `out`, as every client sends it: an array of bulk strings.
pub fn encode_command<A>(args: A, out: &mut BytesMut)
where
    A: IntoIterator<IntoIter: ExactSizeIterator, Item: AsRef<[u8]>>,
{
    let args = args.into_iter();
    put_len(out, b'*', args.len());
    for arg in args {
        put_bulk(out, b'$', arg.as_ref());
    }
}
