//! What can go wrong in the store.

use crate::disk::{is_no_descriptors, is_no_space};
use model::{Position, ShardId, codec::Malformed, limits::TooLong};
use std::path::PathBuf;

/// An error of the store. After one that [is damage](StoreError::is_damage) the shard is to be
/// filled from another replica; after another [`StoreError::Tree`] or [`StoreError::Malformed`] it
/// must stop; the others are refusals that change nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The tree failed: the disk is full or failing, or a table is damaged.
    #[error(
        "store at {path}: {source}; {}, then restart the node", advice(.source)
    )]
    Tree {
        /// The tree's directory.
        path: PathBuf,
        /// What the tree said.
        source: lsm_tree::Error,
    },
    /// A file or directory of the store could not be read or written.
    #[error("store at {path}: {source}; check permissions, free space and the disk's health")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Flushing or compacting in the background fails. It is tried again; writes must wait.
    #[error("store at {path} can't write in the background: {reason}")]
    Background {
        /// The tree's directory.
        path: PathBuf,
        /// What failed, and what helps.
        reason: String,
    },
    /// A row is not what its key says.
    #[error("store of this shard is damaged: {what}")]
    Damaged {
        /// Which row or file, and how.
        what: String,
    },
    /// It was damaged too often.
    #[error(
        "store of this shard was damaged {times} times before: replace this node's disk, or, if the cause is known, remove {path} and its like and restart the node"
    )]
    DamagedAgain {
        /// How often.
        times: u32,
        /// What was set aside first.
        path: PathBuf,
    },
    /// The directory was written by another version.
    #[error(
        "store has format {found}, this version reads format {known}: upgrade or downgrade the node"
    )]
    Format {
        /// What the directory says.
        found: u8,
        /// What this version writes.
        known: u8,
    },
    /// A committed entry can't be read.
    #[error("entry {position} can't be applied: {source}")]
    Malformed {
        /// Which entry.
        position: Position,
        /// How.
        source: Malformed,
    },
    /// Entries are missing before this one.
    #[error("entry {entry} does not follow {applied}: replay the log from there")]
    Gap {
        /// What has been applied.
        applied: Position,
        /// What came.
        entry: Position,
    },
    /// A key or a field is longer than a row's key can be.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// A copy is under way, or was cut short: there is nothing to read or to apply to yet.
    #[error("this shard is being copied here; start the copy again if it was cut short")]
    Installing,
    /// The shard was rewound and has not caught up with what was fetched for it.
    #[error("this shard was rewound here and has not caught up yet: read from another replica")]
    Rewinding,
    /// [`crate::store::ShardStore::begin_install`] was not called.
    #[error("no copy is under way on this shard")]
    NotInstalling,
    /// The handle belongs to an earlier life of the store.
    #[error("shard {shard} was opened again since: drop this handle")]
    Retired {
        /// Which shard.
        shard: ShardId,
    },
}

impl StoreError {
    /// Whether files are not what they were when they were written, or are gone: what they held
    /// has to come from elsewhere.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged { .. } => true,
            StoreError::File { source, .. } => io_is_damage(source),
            StoreError::Tree { source, .. } => match source {
                lsm_tree::Error::Io(source) => io_is_damage(source),
                lsm_tree::Error::InvalidVersion(_) => false,
                _ => true,
            },
            _ => false,
        }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        StoreError::Damaged { what: what.into() }
    }
}

/// What helps against a failure of the tree.
pub(super) fn advice(error: &lsm_tree::Error) -> &'static str {
    match error {
        lsm_tree::Error::Io(error) if is_no_descriptors(error) => {
            "no file descriptors are left: raise the node's limit of open files (ulimit -n)"
        }
        lsm_tree::Error::Io(error) if is_no_space(error) => "free space on its disk",
        _ => "check its disk's free space and health",
    }
}

/// Whether a file is gone, is shorter than it was, makes no sense, or can't be read off its disk.
fn io_is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    let kinds = [
        NotFound,
        UnexpectedEof,
        InvalidData,
        IsADirectory,
        NotADirectory,
    ];
    kinds.contains(&error.kind())
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
