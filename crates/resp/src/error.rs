//! What can be wrong with bytes that a peer sent.

/// Bytes that are not RESP, or exceed a limit. The connection can't go on after it.
///
/// The text of each error of a request is that of Redis 7, since clients match on it; those
/// that Redis lacks, because it is laxer there, say so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count behind `*` is no number, or greater than `args_max`.
    #[error("invalid multibulk length")]
    InvalidMultibulkLength,
    /// The length behind `$` is no number, negative, or greater than `bulk_len_max`.
    #[error("invalid bulk length")]
    InvalidBulkLength,
    /// An argument of a command is not a bulk string; this byte stands in the place of `$`.
    #[error("expected '$', got '{}'", shown(*.0))]
    ExpectedBulk(u8),
    /// A line without `*` exceeds `inline_len_max`.
    #[error("too big inline request")]
    TooBigInline,
    /// The line of a count exceeds `inline_len_max`.
    #[error("too big mbulk count string")]
    TooBigMultibulkCount,
    /// The line of a length exceeds `inline_len_max`.
    #[error("too big bulk count string")]
    TooBigBulkCount,
    /// A quote in an inline command does not end, or something follows it without a space.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    /// More arguments than a client may send before it has authenticated.
    #[error("unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// A longer argument than a client may send before it has authenticated.
    #[error("unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// A bulk string is not followed by CR LF: its length was wrong. (Redis skips two bytes
    /// unseen, and reads on from a place that the client did not mean.)
    #[error("expected CRLF after bulk string")]
    MissingBulkEnd,
    /// The whole frame exceeds `frame_len_max`. (Redis closes the connection in silence.)
    #[error("too big request, the limit is {limit} bytes")]
    TooBigFrame {
        /// `frame_len_max`, in bytes.
        limit: usize,
    },
    /// A reply begins with a byte that is no type of RESP.
    #[error("unknown reply type '{}'", shown(*.0))]
    UnknownType(u8),
    /// The line of a reply is not what its type asks for.
    #[error("invalid {0} in reply")]
    InvalidReply(&'static str),
    /// A reply exceeds one of the limits of [`FrameLimits`](crate::FrameLimits).
    #[error("reply exceeds the limit of {limit} on {what}")]
    ReplyLimit {
        /// What there is too much of, such as `nesting`.
        what: &'static str,
        /// The limit that was set.
        limit: usize,
    },
}

impl ProtocolError {
    /// The error line to send before closing, without `-` and CR LF: the argument of
    /// [`Encoder::error`](crate::Encoder::error).
    pub fn line(&self) -> String {
        format!("ERR Protocol error: {self}")
    }
}

/// A byte as it can stand in an error line.
fn shown(byte: u8) -> String {
    match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}
