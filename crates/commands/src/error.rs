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
    #[error("ERR unknown subcommand '{subcommand}'. Try {container} HELP.")]
    UnknownSubcommand {
        subcommand: String,
        container: String,
    },
    #[error("ERR value is not a valid float")]
    NotAFloat,
    #[error("ERR hash value is not a float")]
    HashValueNotAFloat,
    #[error("ERR value is NaN or Infinity")]
    NotFinite,
    #[error("ERR increment would produce NaN or Infinity")]
    NotFiniteResult,
    #[error("ERR offset is out of range")]
    Offset,
    #[error("ERR bit offset is not an integer or out of range")]
    BitOffset,
    #[error("ERR bit is not an integer or out of range")]
    Bit,
    #[error("ERR The bit argument must be 1 or 0.")]
    BitArgument,
    #[error("ERR BITOP NOT must be called with a single source key.")]
    BitopNot,
    #[error("ERR Invalid OVERFLOW type specified")]
    OverflowType,
    #[error(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
    )]
    BitfieldType,
    #[error("ERR BITFIELD_RO only supports the GET subcommand")]
    BitfieldReadOnly,
    #[error("ERR If you want both the length and indexes, please just use IDX.")]
    LcsLengthAndIndexes,
    #[error("ERR The specified keys must contain string values")]
    LcsNotStrings,
    #[error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")]
    LcsTooLarge,
    #[error("ERR no such key")]
    NoSuchKey,
    #[error("ERR source and destination objects are the same")]
    SameObject,
    #[error("ERR value is out of range")]
    OutOfRange,
    #[error("ERR value is out of range, value must between {0} and {1}")]
    OutOfRangeBetween(i64, i64),
    #[error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
    )]
    NoFrequency,
    #[error("BUSYKEY Target key name already exists.")]
    BusyKey,
    #[error("ERR Invalid TTL value, must be >= 0")]
    RestoreTtl,
    #[error("ERR Invalid IDLETIME value, must be >= 0")]
    RestoreIdleTime,
    #[error("ERR Invalid FREQ value, must be >= 0 and <= 255")]
    RestoreFrequency,
    #[error("ERR DUMP payload version or checksum are wrong")]
    PayloadChecksum,
    #[error("ERR Bad data format")]
    PayloadFormat,
    /// Ours: what a payload holds that Quire has no type for.
    #[error("ERR Bad data format: Quire holds strings and hashes, this is a {0}")]
    PayloadType(&'static str),
    /// Ours: the store's bound.
    #[error("ERR a field is longer than 32000 bytes")]
    FieldTooLong,
    /// Ours: no access times are kept.
    #[error("ERR OBJECT IDLETIME is not supported: Quire does not keep when a key was read last")]
    NoIdleTime,
    /// Ours: what is part of a transaction stays in its shard.
    #[error(
        "CROSSSLOT '{0}' goes to another shard, and a transaction has one: send it outside of MULTI"
    )]
    AnotherShard(&'static str),
    /// Ours: a shard's thread must not be held up.
    #[error("ERR '{name}' would go over {keys} keys, at most {keys_max} are allowed: use SCAN")]
    TooManyToList {
        name: &'static str,
        keys: u64,
        keys_max: u64,
    },
    /// Ours: a shard's thread must not be held up.
    #[error(
        "ERR '{name}' takes more work than a command may (limits.command_work_max is {work_max}): ask for less at once"
    )]
    TooMuchWork { name: &'static str, work_max: u64 },
    /// The same of a transaction.
    #[error(
        "ERR a transaction takes more work than a command may (limits.command_work_max is {work_max}): nothing of it was done, make it smaller"
    )]
    TransactionTooMuchWork { work_max: u64 },
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
    /// Ours: the same of a value, key included, that can't be written at all.
    #[error(
        "ERR '{name}' would make a value of {bytes} bytes, at most {bytes_max} can be written: keep it in several"
    )]
    ValueTooLong {
        name: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
    /// A transaction that does more than an entry of the log has room for.
    #[error("ERR a transaction has more than 65534 effects: nothing of it was done")]
    TooManyEffects,
    /// The same, in bytes.
    #[error(
        "ERR a transaction writes {bytes} bytes, at most {bytes_max} fit into one: nothing of it was done"
    )]
    TransactionTooManyBytes { bytes: usize, bytes_max: usize },
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

/// A client's bytes in an error line as far as C prints them.
pub(crate) fn c_line(bytes: &[u8]) -> String {
    line(c_string(bytes, bytes.len()))
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
