//! Every error line that a command answers with. The texts are Redis 7.0.15's; clients match
//! on them.

use crate::view::ViewError;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each line says it")]
pub enum Refusal {
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    #[error("ERR syntax error")]
    Syntax,
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("ERR hash value is not an integer")]
    HashValueNotAnInteger,
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    NxWithOthers,
    #[error("ERR GT and LT options at the same time are not compatible")]
    GtWithLt,
    #[error("ERR invalid cursor")]
    Cursor,
    /// Ours: one command is one entry of the shard's log.
    #[error("ERR '{name}' has {keys} keys, at most {keys_max} fit into one command: split it")]
    TooManyKeys {
        name: &'static str,
        keys: usize,
        keys_max: usize,
    },
    /// Ours: one command is one entry of the shard's log.
    #[error("ERR '{name}' has {bytes} bytes, at most {bytes_max} fit into one command: split it")]
    TooManyBytes {
        name: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
    /// Ours: a router sent a shard what the node itself answers.
    #[error("ERR '{0}' is not evaluated by a shard")]
    NotEvaluated(&'static str),
    /// Not a reply: the evaluation as a whole failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// How many bytes of the arguments an error line repeats.
const REPEATED_BYTES_MAX: usize = 128;

/// The error line for a command that is not in the table; `args` begin with its name.
pub fn unknown_command(args: &[&[u8]]) -> String {
    let name = args.first().copied().unwrap_or_default();
    let mut repeated = Vec::new();
    for arg in args.iter().skip(1) {
        if repeated.len() >= REPEATED_BYTES_MAX {
            break;
        }
        let room = REPEATED_BYTES_MAX - repeated.len();
        repeated.push(b'\'');
        repeated.extend_from_slice(c_string(arg, room));
        repeated.extend_from_slice(b"' ");
    }
    format!(
        "ERR unknown command '{}', with args beginning with: {}",
        line(c_string(name, REPEATED_BYTES_MAX)),
        line(&repeated),
    )
}

/// At most `len` bytes, up to the first NUL, as C prints them.
fn c_string(bytes: &[u8], len: usize) -> &[u8] {
    let end = bytes.iter().take(len).position(|b| *b == 0);
    &bytes[..end.unwrap_or(bytes.len().min(len))]
}

/// A client's bytes as they may stand in an error line: no line breaks.
pub(crate) fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(['\r', '\n'], " ")
}
