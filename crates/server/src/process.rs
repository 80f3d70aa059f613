//! Which process holds a data directory.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// The process that has `data_dir` open as a node, if the system tells: whoever holds the lock of
/// its log.
pub fn who_uses(data_dir: &Path) -> Option<u32> {
    let inode = fs::metadata(data_dir.join("log")).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // File systems share inode numbers; a process that does not have the directory open is
    // another's.
    holders(&locks, inode).find(|pid| has_open(*pid, inode))
}

/// The processes that hold a `flock` of `inode`, as `/proc/locks` has them.
fn holders(locks: &str, inode: u64) -> impl Iterator<Item = u32> {
    locks.lines().filter_map(move |line| {
        // 7: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF; `->` before a kind is a waiter.
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, _, pid, file, ..] = words.get(1..)? else {
            return None;
        };
        let of_file: u64 = file.rsplit(':').next()?.parse().ok()?;
        (of_file == inode).then_some(pid.parse().ok()?)
    })
}

/// Whether `pid` has a directory of that inode open, or nobody may tell.
fn has_open(pid: u32, inode: u64) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Path::new(&format!("/proc/{pid}")).exists();
    };
    let mut files = files.flatten().filter_map(|f| fs::metadata(f.path()).ok());
    files.any(|file| file.is_dir() && file.ino() == inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::disk::RealDisk;

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 08:01:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF
3: FLOCK  ADVISORY  WRITE 14 fe:00:78 0 EOF
nonsense
4: FLOCK";
        assert_eq!(holders(locks, 77).collect::<Vec<_>>(), [12]);
        assert_eq!(holders(locks, 79).count(), 0);
    }

    #[test]
    fn a_directory_is_used_as_long_as_it_is_open() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(who_uses(dir.path()), None);
        let disk = RealDisk::open(dir.path().join("log")).unwrap();
        assert_eq!(who_uses(dir.path()), Some(std::process::id()));
        drop(disk);
        assert_eq!(who_uses(dir.path()), None);
    }
}
