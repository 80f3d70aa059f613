//! Which shards a node's directory of stores holds, in a file beside it: a store whose directory
//! is gone would otherwise come back as one that nothing was ever written to, and count.
//!
//! ```text
//! <dir>.held    one shard's number a line; the last line: crc and the CRC-32C, in hex, of all before
//! ```
//! A shard is noted before it is written to, and struck out before it is destroyed. If the file
//! itself is gone or damaged, it is made anew from the directories that there are.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a file beside the directories of the trees

use model::ShardId;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Shards that were opened and not destroyed since.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    shards: BTreeSet<ShardId>,
}

impl Held {
    /// As noted beside `dir`, with those that are `there`.
    pub(super) fn open(dir: &Path, there: &[ShardId]) -> io::Result<Held> {
        let path = dir.with_extension("held");
        let noted = match fs::read(&path) {
            Ok(bytes) => parse(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(BTreeSet::new()),
            Err(e) => return Err(e),
        };
        if noted.is_none() {
            tracing::warn!(path = %path.display(), "the list of the shards that are held here is damaged: it is made anew");
        }
        let shards = noted.unwrap_or_default();
        let mut held = Held { path, shards };
        if !there.iter().all(|shard| held.shards.contains(shard)) {
            held.shards.extend(there);
            held.write()?;
        }
        Ok(held)
    }

    pub(super) fn all(&self) -> Vec<ShardId> {
        self.shards.iter().copied().collect()
    }

    pub(super) fn contains(&self, shard: ShardId) -> bool {
        self.shards.contains(&shard)
    }

    /// Durable when it returns.
    pub(super) fn add(&mut self, shard: ShardId) -> io::Result<()> {
        match self.shards.insert(shard) {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Durable when it returns.
    pub(super) fn remove(&mut self, shard: ShardId) -> io::Result<()> {
        match self.shards.remove(&shard) {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut text: String = self
            .shards
            .iter()
            .map(|shard| format!("{shard}\n"))
            .collect();
        text.push_str(&format!("crc {:08x}\n", crc32c::crc32c(text.as_bytes())));
        let next = self.path.with_extension("held.new");
        let mut file = File::create(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeSet<ShardId>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (shards, crc) = text.strip_suffix('\n')?.rsplit_once("crc ")?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc32c::crc32c(shards.as_bytes()) != crc {
        return None;
    }
    shards
        .lines()
        .map(|line| line.parse().ok().map(ShardId))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_found_again_and_damage_is_told_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let stores = dir.path().join("store");
        let all = || Held::open(&stores, &[]).unwrap().all();
        let mut held = Held::open(&stores, &[ShardId(3)]).unwrap();
        held.add(ShardId(7)).unwrap();
        assert_eq!(all(), [ShardId(3), ShardId(7)]);
        held.remove(ShardId(3)).unwrap();
        assert_eq!(all(), [ShardId(7)]);
        let path = dir.path().join("store.held");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 2;
            assert_eq!(parse(&bytes), None, "{at}");
            assert_eq!(parse(&whole[..at]), None);
        }
    }
}
