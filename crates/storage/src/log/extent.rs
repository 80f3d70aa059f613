//! From which segment to which the log reaches at least, in a file of its own: that the oldest or
//! the newest of its files is gone shows nowhere else.
//!
//! | `extent`: 32 bytes | |
//! |---|---|
//! | 0..8 | `QUIREEXT` |
//! | 8..16 | the oldest segment that may be needed |
//! | 16..24 | the newest in which a batch may be |
//! | 24..28 | zeros |
//! | 28..32 | CRC-32C of 0..28 |
//!
//! It is replaced before a released segment goes, and before the first batch is written to a new
//! one: so what it names is there, always. A file that is gone itself, or damaged, says nothing,
//! and is made anew at the next opening.

use super::LogError;
use super::flush::{failed, sync_file};
use crate::disk::Disk;

const NAME: &str = "extent";
const NEW_NAME: &str = "extent.next";
const MAGIC: &[u8; 8] = b"QUIREEXT";
const LEN: usize = 32;

/// Sequence numbers of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

impl Extent {
    /// What the disk says, if it says anything.
    pub(super) fn read(disk: &dyn Disk) -> Result<Option<Extent>, LogError> {
        let io = |operation, source| LogError::Io {
            file: NAME.to_owned(),
            operation,
            source,
        };
        let names = disk.list().map_err(|e| io("list", e))?;
        if names.iter().any(|name| name == NEW_NAME) {
            disk.remove(NEW_NAME).map_err(|e| io("remove", e))?;
        }
        if !names.iter().any(|name| name == NAME) {
            return Ok(None);
        }
        let file = disk.open(NAME).map_err(|e| io("open", e))?;
        let mut bytes = [0; LEN];
        let n = file.read_at(0, &mut bytes).map_err(|e| io("read", e))?;
        let extent = decode(&bytes).filter(|_| n == LEN);
        if extent.is_none() {
            tracing::warn!("the log's file `extent` is damaged: it is made anew");
        }
        Ok(extent)
    }

    /// Durable when it returns.
    pub(super) fn write(&self, disk: &dyn Disk) -> Result<(), LogError> {
        // One that was not finished.
        drop(disk.remove(NEW_NAME));
        let file = (disk.create(NEW_NAME, LEN as u64))
            .map_err(|e| failed(NEW_NAME.to_owned(), "create", e))?;
        file.write_at(0, &encode(self))
            .map_err(|e| failed(NEW_NAME.to_owned(), "write", e))?;
        sync_file(&*file, || NEW_NAME.to_owned())?;
        disk.rename(NEW_NAME, NAME)
            .map_err(|e| failed(NEW_NAME.to_owned(), "rename", e))?;
        disk.sync_dir().map_err(|source| LogError::SyncFailed {
            file: ".".to_owned(),
            source,
        })
    }
}

fn encode(extent: &Extent) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&extent.oldest.to_le_bytes());
    bytes[16..24].copy_from_slice(&extent.newest.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LEN]) -> Option<Extent> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let crc = u32::from_le_bytes(bytes.get(28..)?.try_into().ok()?);
    let whole = bytes.starts_with(MAGIC) && crc32c::crc32c(&bytes[..28]) == crc;
    whole.then_some(Extent {
        oldest: number(8)?,
        newest: number(16)?,
    })
}
