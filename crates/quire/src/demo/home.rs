//! The directory of a demo: found by whoever wants to speak to it, held by one demo at a time.
//!
//! ```text
//! DIR/demo.lock     locked while a demo runs
//! DIR/demo.sock     takes orders (`control`) while a demo runs
//! DIR/<node>/       node.toml, log, data
//! ```
//! Without `--dir` it is named after the user and the first port, in the directory for temporary
//! files, and deleted at the end. Whatever lies there is used only if it is this user's alone.

use crate::output::complain;
use rustix::{
    fs::{FlockOperation, flock},
    process::getuid,
};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

const LOCK: &str = "demo.lock";

/// Where a demo is, given what its command line says.
#[derive(clap::Args)]
pub(super) struct Where {
    /// The demo's directory, where its nodes keep their data. A demo started again on the same
    /// one, with the same nodes, goes on with it. Default: a directory for temporary files,
    /// deleted at the end.
    #[arg(long, global = true)]
    pub(super) dir: Option<PathBuf>,
    /// The first client port; each node takes the next.
    #[arg(long, global = true, default_value_t = BASE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) base_port: u16,
}

const BASE_PORT: u16 = 7001;

impl Where {
    pub(super) fn path(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| {
            let name = format!("quire-demo-{}-{}", getuid().as_raw(), self.base_port);
            std::env::temp_dir().join(name)
        })
    }

    /// What is added to `quire demo kill NODE` to reach this demo.
    pub(super) fn options(&self) -> String {
        match &self.dir {
            Some(dir) => format!(" --dir {}", dir.display()),
            None if self.base_port == BASE_PORT => String::new(),
            None => format!(" --base-port {}", self.base_port),
        }
    }
}

/// An error if a demo runs at `place` already. Nothing is made there.
pub(super) fn refuse_second(place: &Where) -> Result<(), String> {
    let path = place.path();
    // No lock, no demo.
    let Ok(lock) = File::open(path.join(LOCK)) else {
        return Ok(());
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(held(&path)),
        _ => Ok(()),
    }
}

fn held(path: &Path) -> String {
    format!(
        "another demo runs in {}: stop it with Ctrl-C where it was started, or choose another \
         --base-port or --dir",
        path.display()
    )
}

/// A demo's directory, held by this process.
pub(super) struct Home {
    path: PathBuf,
    is_temporary: bool,
    _lock: File,
}

impl Home {
    /// Makes it, or takes what is there. What a demo that was killed has left in a directory for
    /// temporary files is deleted first.
    pub(super) fn open(place: &Where) -> Result<Self, String> {
        let is_temporary = place.dir.is_none();
        let path = place.path();
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        if is_temporary {
            make_private(&path)?;
        } else {
            fs::create_dir_all(&path).map_err(|e| format!("--dir {}", failed(e)))?;
        }
        let path = fs::canonicalize(&path).map_err(failed)?;
        let lock = File::create(path.join(LOCK)).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => held(&path),
            e => failed(e.into()),
        })?;
        Ok(Home {
            path,
            is_temporary,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// Deletes all nodes' directories of an earlier demo, if this is a directory for temporary
    /// files.
    pub(super) fn clear(&self) -> Result<(), String> {
        if !self.is_temporary {
            return Ok(());
        }
        let failed = |e: io::Error| format!("can't clear {}: {e}", self.path.display());
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.path().join("node.toml").is_file() {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The end: deletes it if it is one for temporary files.
    pub(super) fn close(self) {
        if self.is_temporary
            && let Err(e) = fs::remove_dir_all(&self.path)
        {
            complain(format_args!("can't delete {}: {e}", self.path.display()));
        }
    }
}

/// A directory that only this user can read and write, made unless it is there.
fn make_private(path: &Path) -> Result<(), String> {
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let own = found.is_dir() && found.uid() == getuid().as_raw() && found.mode() & 0o077 == 0;
    if own {
        return Ok(());
    }
    Err(format!(
        "{} is not a directory of yours alone: remove it, or choose another with --dir",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn place(dir: Option<&Path>) -> Where {
        Where {
            dir: dir.map(Path::to_owned),
            base_port: BASE_PORT,
        }
    }

    #[test]
    fn a_directory_is_held_by_one_demo() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let home = Home::open(&place(Some(&path))).unwrap();
        let error = Home::open(&place(Some(&path))).err().unwrap();
        assert!(error.starts_with("another demo runs in"), "{error}");
        assert_eq!(refuse_second(&place(Some(&path))), Err(error));
        home.close();
        assert_eq!(refuse_second(&place(Some(&path))), Ok(()));
        assert!(path.exists(), "a directory that was named is kept");
        Home::open(&place(Some(&path))).unwrap();
    }

    #[test]
    fn only_what_is_this_users_alone_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo");
        make_private(&path).unwrap();
        make_private(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_private(&path).is_err());
        let link = dir.path().join("link");
        fs::create_dir(dir.path().join("target")).unwrap();
        symlink(dir.path().join("target"), &link).unwrap();
        assert!(make_private(&link).is_err());
    }

    #[test]
    fn a_demo_is_reached_as_it_was_started() {
        assert_eq!(place(None).options(), "");
        let moved = Where {
            dir: None,
            base_port: 9001,
        };
        assert_eq!(moved.options(), " --base-port 9001");
        assert_ne!(moved.path(), place(None).path());
        assert_eq!(place(Some(Path::new("d"))).options(), " --dir d");
    }
}
