//! Why a snapshot can't be read any further.

use std::io;

/// Why a snapshot can't be read any further. What was read before is whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or whatever is read from, failed.
    #[error("the file can't be read at byte {offset}: {source}")]
    Read {
        /// How far it was read.
        offset: u64,
        /// What failed.
        source: io::Error,
    },
    /// It ends too early.
    #[error(
        "the file is cut short: it ends at byte {offset}, within {what} that begins at {began}"
    )]
    Truncated {
        /// How long it is.
        offset: u64,
        /// What is not all there.
        what: &'static str,
        /// Where that begins.
        began: u64,
    },
    /// Bytes that make no sense.
    #[error("the file is damaged at byte {offset}, in {what} that begins at {began}: {why}")]
    Damaged {
        /// Behind what makes no sense.
        offset: u64,
        /// What it is in.
        what: &'static str,
        /// Where that begins.
        began: u64,
        /// What is wrong.
        why: String,
    },
    /// All of it made sense, and yet it is not what was written.
    #[error(
        "the file is damaged somewhere before byte {offset}: its checksum is {found:016x} and should be {expected:016x}; any value that was read from it may be wrong"
    )]
    Checksum {
        /// Where the checksum is.
        offset: u64,
        /// The checksum of what is there.
        found: u64,
        /// The checksum that it ends with.
        expected: u64,
    },
    /// It is no snapshot, or one of a version that is not known.
    #[error("{0}")]
    Unknown(String),
    /// It has something whose length is not known.
    #[error(
        "what is at byte {offset} can't be read or passed over: {what}; import from the running server instead (--from redis://…)"
    )]
    Unsupported {
        /// Where it is.
        offset: u64,
        /// What it is.
        what: String,
    },
}
