//! A directory of files, narrow enough that a simulator can stand in for it.
//!
//! | | |
//! |---|---|
//! | goes in | names within one flat directory, offsets, bytes |
//! | comes out | bytes, or an [`io::Error`] as the operating system words it |
//! | [`RealDisk`] | one directory of the file system, locked against a second process |
//! | [`SimDisk`] | memory that loses power, fills up, fails and rots on demand |
//!
//! What a caller may rely on, and what both implementations keep to:
//! - Written bytes survive a loss of power only after [`DiskFile::sync`] of that file
//!   returned; until then each 512-byte sector may hold any of the contents it had since the
//!   last sync, independently of the others.
//! - A created, renamed or removed name survives only after [`Disk::sync_dir`] returned.
//! - A handle stays good when its file is renamed or removed.
//! - After a failed sync nothing is known about what was written since the last good one, and
//!   a later sync that succeeds proves nothing about it.

mod real;
mod sim;

pub use real::RealDisk;
pub use sim::{Fault, SimDisk};

use std::io;
use std::sync::Arc;

/// The unit in which a device tears a write.
pub const SECTOR_BYTES: usize = 512;

/// A flat directory of files.
pub trait Disk: Send + Sync + 'static {
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file of `bytes` zeros whose space is reserved; fails if the name is taken, and
    /// with [`io::ErrorKind::StorageFull`] (leaving no file) if there is no room.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// An existing file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Room left for new files, in bytes. It may hang with the disk: not for the node's thread.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file, read and written at offsets.
pub trait DiskFile: Send + Sync {
    /// Reads at `offset` until `into` is full or the file ends; returns how much it read.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the contents durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Whether an error says that there is no room, a failure of a disk that passes.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether an error says that the process, or the system, can have no more files open. It passes
/// too, and no file was touched.
pub fn is_no_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE]
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}
