//! What can go wrong, by what the caller does about it.

use std::io;

use super::Lsn;

/// Why the log can't do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing was acknowledged and nothing is lost: the batch waits, and the next flush
    /// writes it to the same place. Refuse writers until one succeeds.
    #[error("no space left for log file {file}: free some on its disk; writing resumes by itself")]
    NoSpace {
        /// The file that could not be written or created.
        file: String,
    },
    /// The same for want of a file descriptor.
    #[error(
        "log file {file} can't be opened, since no file descriptors are left: raise the node's limit of open files (ulimit -n); writing resumes by itself once there are some"
    )]
    NoDescriptors {
        /// The file that could not be opened or created.
        file: String,
    },
    /// The disk failed to make written bytes durable; what is on it is unknown from the last
    /// durable position on. The log accepts nothing more.
    #[error(
        "log file {file} could not be synced: replace or repair the disk, then restart: {source}"
    )]
    SyncFailed {
        /// The file, or `.` for the directory.
        file: String,
        /// As the operating system says it.
        source: io::Error,
    },
    /// The disk failed in another way. If it was a flush, the log accepts nothing more.
    #[error("cannot {operation} log file {file}: check the disk, then restart: {source}")]
    Io {
        /// The file, or `.` for the directory.
        file: String,
        /// What was tried.
        operation: &'static str,
        /// As the operating system says it.
        source: io::Error,
    },
    /// Bytes that were durable are damaged. Nothing was cut or changed. The node can't be
    /// trusted with any shard of this log and is to be refilled from other replicas.
    #[error("log file {file} is damaged at byte {offset} ({lsn}): {what}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where in the file the first unreadable thing begins, in bytes.
        offset: u64,
        /// The same place as a position of the log.
        lsn: Lsn,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a version of Quire that this one does not know.
    #[error("log file {file} has format version {version}, this Quire reads version {known}: upgrade it", known = super::format::VERSION)]
    Version {
        /// The file.
        file: String,
        /// Its format version.
        version: u32,
    },
    /// The asked-for records were released.
    #[error("the log begins at {oldest}, {from} is gone: send a snapshot instead")]
    Released {
        /// What was asked for.
        from: Lsn,
        /// What is left.
        oldest: Lsn,
    },
    /// A flush is under way; hand its result in first.
    #[error("a flush of the log is under way")]
    Busy,
    /// An earlier failure stopped the log for good.
    #[error("the log stopped after an earlier failure of its disk: restart the node")]
    Stopped,
}

impl LogError {
    /// What is lacking, if that is all: then it passes.
    pub fn lacking(&self) -> Option<Lacking> {
        match self {
            LogError::NoSpace { .. } => Some(Lacking::Space),
            LogError::NoDescriptors { .. } => Some(Lacking::Descriptors),
            _ => None,
        }
    }
}

/// What a log can lack for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// Room on its disk.
    Space,
    /// File descriptors of its process.
    Descriptors,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much is waiting for the disk; try again after a flush.
    #[error("{pending_bytes} bytes wait for the disk, the bound is {pending_bytes_max}")]
    Full {
        /// What waits.
        pending_bytes: usize,
        /// [`Options::pending_bytes_max`](super::Options::pending_bytes_max).
        pending_bytes_max: usize,
    },
    /// The record alone exceeds what the log ever takes; refuse it.
    #[error("a record of {bytes} bytes exceeds the log's bound of {bytes_max}")]
    TooLarge {
        /// The body's length.
        bytes: usize,
        /// The greatest length of a body.
        bytes_max: usize,
    },
    /// An earlier failure stopped the log for good.
    #[error("the log stopped after an earlier failure of its disk: restart the node")]
    Stopped,
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The log or its disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The visitor refused a record.
    #[error("a record of the log was refused: {0}")]
    Visit(E),
}
