//! Which of the trees in a shard's directory is the one in use (`lsm` draws the directory).
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // beside the tree, which talks to the file system itself

use super::error::StoreError;
use std::{fs, io, path::Path};

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { path, source }
}

pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let sync = || fs::File::open(path)?.sync_all();
    sync().map_err(file_error(path))
}

/// Writes `CURRENT` so that it holds the old or the new name, whatever happens.
pub(super) fn set_current(dir: &Path, generation: u64) -> Result<(), StoreError> {
    let next = dir.join("CURRENT.next");
    let write = || {
        fs::write(&next, format!("g{generation}\n"))?;
        fs::File::open(&next)?.sync_all()?;
        fs::rename(&next, dir.join("CURRENT"))
    };
    write().map_err(file_error(&next))?;
    sync_dir(dir)
}

pub(super) fn current(dir: &Path) -> Result<Option<u64>, StoreError> {
    let path = dir.join("CURRENT");
    match fs::read_to_string(&path) {
        Ok(text) => text
            .strip_prefix('g')
            .and_then(|t| t.strip_suffix('\n'))
            .and_then(|t| t.parse().ok())
            .map(Some)
            .ok_or_else(|| StoreError::damaged(format!("{} names no tree", path.display()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error(&path)(e)),
    }
}

pub(super) fn remove_others(dir: &Path, generation: Option<u64>) -> Result<(), StoreError> {
    let keep = generation.map(|g| format!("g{g}"));
    for item in fs::read_dir(dir).map_err(file_error(dir))? {
        let item = item.map_err(file_error(dir))?;
        let name = item.file_name();
        if name.as_encoded_bytes().starts_with(b"g") && name.to_str() != keep.as_deref() {
            // A replaced tree may still be at work when its shard is opened again: then this
            // fails, and the next start does it.
            if let Err(error) = fs::remove_dir_all(item.path()) {
                tracing::warn!(path = %item.path().display(), %error, "a replaced tree is left until the next start");
            }
        }
    }
    Ok(())
}
