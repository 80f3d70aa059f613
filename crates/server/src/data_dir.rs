//! The data directory beside what lies in it: which disk it is, which process is the next, and
//! how a disk that must not be used again makes room for an empty one.
//!
//! ```text
//! data_dir/identity   crc <hex> of what follows; disk <hex>, process <number>, intact since
//!                     <number>, log <bytes>: the last start on this disk (model::Boot); and
//!                     emptied, if it took the place of one that was set aside
//! data_dir/discard    why this disk must not be used again: it is set aside at the next start
//! data_dir/set-aside-<time>/   identity, log and store of such a disk, for people
//! ```
//!
//! Always: an identity is written once the log is open and before anything that depends on it is
//! sent; none is drawn over what is there; a disk is set aside whole, however often that is
//! interrupted.

use model::{Boot, DiskId};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

const IDENTITY: &str = "identity";
const DISCARD: &str = "discard";
/// What a disk is, in the order in which it is set aside: the log last, which is locked.
const PARTS: [&str; 4] = [IDENTITY, "store.held", "store", "log"];
/// What directories of disks that were set aside are called, without the time.
const ASIDE: &str = "set-aside-";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file or directory.
    #[error("{path}: {source}{}", advice(source))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is the node that it belongs to.
    #[error(
        "another process{} uses the data directory {data}: two processes on one disk would be two nodes; stop it, or give this node another data_dir", named(*.process)
    )]
    InUse {
        /// The directory.
        data: PathBuf,
        /// Which, if the system tells.
        process: Option<u32>,
    },
    /// The identity file is not one, or is gone and other files are not.
    #[error("{0} is damaged or gone, so that nothing beside it can be trusted")]
    Identity(PathBuf),
}

/// What to do about an error that the system names alone.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": free some on its disk, then start again"
        }
        _ => "",
    }
}

fn named(process: Option<u32>) -> String {
    process.map_or_else(String::new, |pid| format!(" ({pid})"))
}

/// What is known of a disk before its log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastBoot {
    pub(crate) disk: DiskId,
    /// 0: there was none.
    pub(crate) process: u64,
    pub(crate) intact_since: u64,
    pub(crate) log: u64,
    /// It took the place of a disk that was set aside.
    pub(crate) emptied: bool,
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        path: path.clone(),
        source,
    }
}

/// The last start on this disk; of a new one, called `new`, there was none.
pub(crate) fn last_boot(data: &Path, new: DiskId) -> Result<LastBoot, DataDirError> {
    let path = data.join(IDENTITY);
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or(DataDirError::Identity(path)),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(DataDirError::Identity(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if PARTS.iter().any(|part| holds_something(&data.join(part))) {
                return Err(DataDirError::Identity(path));
            }
            Ok(LastBoot {
                disk: new,
                process: 0,
                intact_since: 1,
                log: 0,
                emptied: !kept(data)?.is_empty(),
            })
        }
        Err(e) => Err(io_at(&path)(e)),
    }
}

/// Whether it is a file, or a directory with something in it.
fn holds_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut items) => items.next().is_some(),
        Err(_) => path.exists(),
    }
}

/// The disks that are set aside here.
pub(crate) fn kept(data: &Path) -> Result<Vec<PathBuf>, DataDirError> {
    let items = fs::read_dir(data).map_err(io_at(data))?.flatten();
    let kept = items.filter(|i| {
        i.file_name()
            .as_encoded_bytes()
            .starts_with(ASIDE.as_bytes())
    });
    Ok(kept.map(|item| item.path()).collect())
}

/// Writes this start down, durably.
pub(crate) fn write_boot(data: &Path, boot: &Boot, emptied: bool) -> Result<(), DataDirError> {
    let emptied = if emptied { "emptied\n" } else { "" };
    let text = format!(
        "disk {:016x}\nprocess {}\nintact since {}\nlog {}\n{emptied}",
        boot.disk.0, boot.process, boot.intact_since, boot.log
    );
    let crc = crc32c::crc32c(text.as_bytes());
    write(data, IDENTITY, &format!("crc {crc:08x}\n{text}"))
}

fn parse(text: &str) -> Option<LastBoot> {
    let (crc, text) = text.strip_prefix("crc ")?.split_once('\n')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(text.as_bytes()) {
        return None;
    }
    let mut lines = text.lines();
    let disk = lines.next()?.strip_prefix("disk ")?;
    let mut number = |name: &str| lines.next()?.strip_prefix(name)?.parse().ok();
    Some(LastBoot {
        disk: DiskId(u64::from_str_radix(disk, 16).ok()?),
        process: number("process ")?,
        intact_since: number("intact since ")?,
        log: number("log ")?,
        emptied: match lines.next() {
            None => false,
            Some(line) => (line == "emptied").then_some(true)?,
        },
    })
}

/// This disk must not be used again, for this reason.
pub(crate) fn discard(data: &Path, reason: &str) -> Result<(), DataDirError> {
    write(data, DISCARD, reason)
}

/// Sets a disk aside that must not be used again. Returns where it lies now, and why.
pub(crate) fn set_aside(
    data: &Path,
    now_ms: u64,
) -> Result<Option<(PathBuf, String)>, DataDirError> {
    let marker = data.join(DISCARD);
    let reason = match fs::read_to_string(&marker) {
        Ok(reason) => reason,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_at(&marker)(e)),
    };
    let aside = data.join(format!("{ASIDE}{now_ms}"));
    fs::create_dir_all(&aside).map_err(io_at(&aside))?;
    for part in PARTS {
        let from = data.join(part);
        match fs::rename(&from, aside.join(part)) {
            Ok(()) => {}
            // A start before this one came so far.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io_at(&from)(e)),
        }
    }
    sync_dir(data)?;
    fs::remove_file(&marker).map_err(io_at(&marker))?;
    sync_dir(data)?;
    Ok(Some((aside, reason)))
}

fn write(data: &Path, name: &str, text: &str) -> Result<(), DataDirError> {
    let path = data.join(name);
    let fresh = data.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    };
    write().map_err(io_at(&path))?;
    sync_dir(data)
}

fn sync_dir(data: &Path) -> Result<(), DataDirError> {
    let sync = || File::open(data)?.sync_all();
    sync().map_err(io_at(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_on_a_full_disk_says_what_to_do() {
        let said = |kind: io::ErrorKind| io_at(Path::new("data/identity"))(kind.into()).to_string();
        let full = said(io::ErrorKind::StorageFull);
        assert!(full.starts_with("data/identity: "), "{full}");
        assert!(
            full.ends_with(": free some on its disk, then start again"),
            "{full}"
        );
        assert!(!said(io::ErrorKind::NotFound).contains("free"));
    }

    #[test]
    fn a_start_is_known_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let new = last_boot(dir.path(), DiskId(7)).unwrap();
        assert_eq!((new.disk, new.process), (DiskId(7), 0));
        let boot = Boot {
            disk: DiskId(7),
            process: 1,
            nonce: 3,
            log: 4096,
            intact_since: 1,
        };
        write_boot(dir.path(), &boot, false).unwrap();
        let last = last_boot(dir.path(), DiskId(8)).unwrap();
        let expected = LastBoot {
            disk: DiskId(7),
            process: 1,
            intact_since: 1,
            log: 4096,
            emptied: false,
        };
        assert_eq!(last, expected);
        write_boot(dir.path(), &boot, true).unwrap();
        assert!(last_boot(dir.path(), DiskId(8)).unwrap().emptied);
        damage_is_told(dir.path(), &expected);
        for nonsense in [
            "",
            "nonsense",
            "disk 07\nprocess 1\n",
            "disk 07\nprocess x\n",
        ] {
            fs::write(dir.path().join(IDENTITY), nonsense).unwrap();
            let error = last_boot(dir.path(), DiskId(8)).unwrap_err();
            assert!(matches!(error, DataDirError::Identity(_)), "{nonsense:?}");
        }
        fs::write(dir.path().join(IDENTITY), [0xff; 40]).unwrap();
        assert!(last_boot(dir.path(), DiskId(8)).is_err());
    }

    fn damage_is_told(data: &Path, known: &LastBoot) {
        let path = data.join(IDENTITY);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut zeroed = whole.clone();
            zeroed[at..].fill(0);
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            for bytes in [&whole[..at], &zeroed, &flipped] {
                fs::write(&path, bytes).unwrap();
                assert!(last_boot(data, DiskId(8)).is_err(), "{at}");
            }
        }
        fs::remove_file(&path).unwrap();
        assert_ne!(
            last_boot(data, DiskId(8)).unwrap().disk,
            known.disk,
            "nothing is there"
        );
        fs::create_dir(data.join("store")).unwrap();
        fs::write(data.join("store.held"), "crc").unwrap();
        let gone = last_boot(data, DiskId(8));
        assert!(matches!(gone, Err(DataDirError::Identity(_))), "{gone:?}");
        fs::remove_file(data.join("store.held")).unwrap();
    }

    #[test]
    fn a_disk_is_set_aside_whole_however_often_that_is_interrupted() {
        for parts_gone in 0..=PARTS.len() {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(set_aside(dir.path(), 1).unwrap(), None);
            for part in PARTS.iter().skip(parts_gone) {
                fs::write(dir.path().join(part), part).unwrap();
            }
            fs::create_dir(dir.path().join("rewound")).unwrap();
            discard(dir.path(), "stale").unwrap();
            let (aside, reason) = set_aside(dir.path(), 2).unwrap().unwrap();
            assert_eq!(reason, "stale");
            for part in PARTS.iter().skip(parts_gone) {
                assert!(aside.join(part).exists() && !dir.path().join(part).exists());
            }
            assert!(
                dir.path().join("rewound").exists(),
                "that stays where people look"
            );
            assert_eq!(set_aside(dir.path(), 3).unwrap(), None);
            assert_eq!(kept(dir.path()).unwrap().len(), 1);
            assert!(last_boot(dir.path(), DiskId(8)).unwrap().emptied);
        }
    }
}
