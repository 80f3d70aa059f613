//! What must be right about a tree's files before lsm-tree sees them, and the look through all of
//! their bytes that a scrub takes.
//!
//! lsm-tree 3.1.10 checks every block that it reads. What says which blocks and files there are
//! it takes as it stands: a flipped bit there is a file that no longer belongs to the tree, and
//! is removed, or memory without bound. So this is checked first:
//!
//! ```text
//! current     number of the version (u64), xxh3-128 of its file, kind of checksum (0): 25 bytes
//! v<number>   its bytes give that checksum; it names the tables
//! tables/<id> is there, and its end, the contents and the trailer, is whole
//! ```
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // the tree's files are on the file system

use super::error::StoreError;
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Magic, version, kind of checksum, checksum of the contents, where they begin, their length.
const TRAILER_LEN: usize = 4 + 1 + 1 + 16 + 8 + 8;
/// Far more than names a table's few sections.
const CONTENTS_LEN_MAX: u64 = 64 << 10;
/// Far more than a version of a million tables takes.
const VERSION_LEN_MAX: u64 = 256 << 20;
const READ_LEN: usize = 256 << 10;

/// A tree that has been made has this.
pub(super) fn is_tree(path: &Path) -> bool {
    path.join("current").exists()
}

/// Whether anything was ever flushed into one of the trees in a shard's directory.
pub(super) fn holds_tables(dir: &Path) -> bool {
    let items = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut trees = items.filter(|item| item.file_name().as_encoded_bytes().starts_with(b"g"));
    trees.any(|tree| {
        let tables = fs::read_dir(tree.path().join("tables"));
        tables.is_ok_and(|mut tables| tables.next().is_some())
    })
}

/// Whether the tree in `path` can be handed to lsm-tree.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let damaged =
        |file: &Path, what: &str| Err(StoreError::damaged(format!("{} {what}", file.display())));
    let current = path.join("current");
    let named = read(&current, 1 << 10)?;
    let (Some(number), Some(checksum), Some([0])) =
        (u64_at(&named, 0), u128_at(&named, 8), named.get(24..))
    else {
        return damaged(&current, "names no version");
    };
    let file = path.join(format!("v{number}"));
    let version = read(&file, VERSION_LEN_MAX)?;
    if xxh3_128(&version) != checksum {
        return damaged(&file, "is not what it was when it was written");
    }
    let Some(tables) = tables_of(&version) else {
        return damaged(&file, "lists no tables");
    };
    for id in tables {
        let table = path.join("tables").join(id.to_string());
        if !has_whole_end(&table).map_err(|source| io_error(&table, source))? {
            return damaged(&table, "has no readable end");
        }
    }
    Ok(())
}

/// Compares a file's bytes with the checksum that its tree has for it; `paced` is told how many
/// were read, and ends it by false.
pub(super) fn scrub(
    file: &Path,
    checksum: u128,
    paced: &mut dyn FnMut(u64) -> bool,
) -> Result<(), StoreError> {
    let failed = |source| io_error(file, source);
    let mut reader = File::open(file).map_err(failed)?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; READ_LEN];
    loop {
        let n = reader.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            break;
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        if !paced(n as u64) {
            return Ok(());
        }
    }
    if hasher.digest128() == checksum {
        return Ok(());
    }
    let what = format!("{} is not what it was when it was written", file.display());
    Err(StoreError::damaged(what))
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path, len_max: u64) -> Result<Vec<u8>, StoreError> {
    let failed = |source| io_error(path, source);
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(len_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Whether what a table ends in, the contents and the trailer that says where they are, is as it
/// was written.
fn has_whole_end(table: &Path) -> io::Result<bool> {
    let file = File::open(table)?;
    let Some(at) = file.metadata()?.len().checked_sub(TRAILER_LEN as u64) else {
        return Ok(false);
    };
    let mut trailer = [0; TRAILER_LEN];
    file.read_exact_at(&mut trailer, at)?;
    let Some((checksum, begin, len)) = trailer_of(&trailer) else {
        return Ok(false);
    };
    if len > CONTENTS_LEN_MAX || begin.checked_add(len) != Some(at) {
        return Ok(false);
    }
    let mut contents = vec![0; len as usize];
    file.read_exact_at(&mut contents, begin)?;
    let inside = |(_, from, len): &(Vec<u8>, u64, u64)| {
        u32::try_from(*len).is_ok() && from.checked_add(*len).is_some_and(|end| end <= begin)
    };
    let sections = contents_of(&contents);
    Ok(xxh3_128(&contents) == checksum && sections.is_some_and(|all| all.iter().all(inside)))
}

/// Checksum, begin and length of the contents.
fn trailer_of(trailer: &[u8]) -> Option<(u128, u64, u64)> {
    let known = trailer.get(..6)? == b"SFA!\x01\x00";
    let contents = (
        u128_at(trailer, 6)?,
        u64_at(trailer, 22)?,
        u64_at(trailer, 30)?,
    );
    known.then_some(contents)
}

/// Name, begin and length of each section.
fn contents_of(contents: &[u8]) -> Option<Vec<(Vec<u8>, u64, u64)>> {
    let mut at = 8; // magic and number
    let mut sections = Vec::new();
    while at < contents.len() {
        let (begin, len) = (u64_at(contents, at)?, u64_at(contents, at + 8)?);
        let name_len = u16::from_le_bytes(field(contents, at + 16)?) as usize;
        let name = contents.get(at + 18..at + 18 + name_len)?.to_vec();
        sections.push((name, begin, len));
        at += 18 + name_len;
    }
    Some(sections)
}

/// The tables that a version names.
fn tables_of(version: &[u8]) -> Option<Vec<u64>> {
    let at = version.len().checked_sub(TRAILER_LEN)?;
    let (_, begin, _) = trailer_of(version.get(at..)?)?;
    let sections = contents_of(version.get(begin as usize..at)?)?;
    let (_, from, len) = sections.into_iter().find(|(name, ..)| name == b"tables")?;
    let mut left = version.get(from as usize..)?.get(..len as usize)?;
    let mut take = |n: usize| {
        let (head, rest) = left.split_at_checked(n)?;
        left = rest;
        Some(head)
    };
    let mut tables = Vec::new();
    for _level in 0..*take(1)?.first()? {
        for _run in 0..*take(1)?.first()? {
            for _table in 0..u32::from_le_bytes(take(4)?.try_into().ok()?) {
                // Number, kind of checksum, checksum, sequence number.
                tables.push(u64_at(take(8 + 1 + 16 + 8)?, 0)?);
            }
        }
    }
    Some(tables)
}

fn field<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u64_at(from: &[u8], at: usize) -> Option<u64> {
    field(from, at).map(u64::from_le_bytes)
}

fn u128_at(from: &[u8], at: usize) -> Option<u128> {
    field(from, at).map(u128::from_le_bytes)
}
