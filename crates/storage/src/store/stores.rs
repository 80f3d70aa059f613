//! The stores of one node's shards: which there are, and one in the place of another (`lsm` draws the
//! directory).
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // beside the tree, which talks to the file system itself

use super::{
    background::Background,
    error::StoreError,
    generation::{file_error, sync_dir},
    held::Held,
    lsm::LsmRows,
    rows::{RowBatch, Rows, Stores},
};
use model::ShardId;
use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// The rows of one node's shards, each in a directory under one.
#[derive(Clone, Debug)]
pub struct LsmStores {
    dir: PathBuf,
    background: Arc<Background>,
    held: HeldList,
}

/// Which shards have files, under one directory.
#[derive(Clone, Debug)]
pub(super) struct HeldList {
    dir: PathBuf,
    /// Known once it was asked for.
    held: Arc<Mutex<Option<Held>>>,
}

/// Damaged stores of one shard that are set aside. What is damaged that often is a matter of its
/// disk, and a person's.
const DAMAGED_MAX: u32 = 3;

impl LsmStores {
    /// Keeps them under `dir`.
    pub fn new(dir: impl Into<PathBuf>, background: Arc<Background>) -> Self {
        let dir = dir.into();
        LsmStores {
            held: HeldList {
                dir: dir.clone(),
                held: Arc::default(),
            },
            dir,
            background,
        }
    }

    fn dir_of(&self, shard: ShardId) -> PathBuf {
        self.dir.join(shard.to_string())
    }
}

impl HeldList {
    /// The shards that have a directory; what was being destroyed or made is cleared away.
    fn there(&self) -> Result<Vec<ShardId>, StoreError> {
        let mut shards = Vec::new();
        let items = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(shards),
            items => items.map_err(file_error(&self.dir))?,
        };
        for item in items {
            let item = item.map_err(file_error(&self.dir))?;
            let name = item.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".gone") || name.ends_with(".new") {
                fs::remove_dir_all(item.path()).map_err(file_error(&item.path()))?;
            } else if let Ok(shard) = name.parse() {
                shards.push(ShardId(shard));
            }
        }
        Ok(shards)
    }

    /// What the list says, or is told; it is read when it is asked for first.
    pub(super) fn with<T>(
        &self,
        use_it: impl FnOnce(&mut Held) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        // It is whole after each statement.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let there = self.there()?;
            *held = Some(Held::open(&self.dir, &there).map_err(file_error(&self.dir))?);
        }
        let Some(held) = held.as_mut() else {
            return Err(StoreError::damaged("no list of shards")); // There is one by now.
        };
        use_it(held).map_err(file_error(&self.dir))
    }
}

impl Stores for LsmStores {
    type Rows = LsmRows;

    fn open(&self, shard: ShardId) -> Result<LsmRows, StoreError> {
        let dir = self.dir_of(shard);
        if self.held.with(|held| Ok(held.contains(shard)))? && !dir.exists() {
            return Err(StoreError::damaged(format!("{} is gone", dir.display())));
        }
        LsmRows::open(
            dir,
            self.background.clone(),
            Some((self.held.clone(), shard)),
        )
    }

    fn list(&self) -> Result<Vec<ShardId>, StoreError> {
        self.held.with(|held| Ok(held.all()))
    }

    fn replace(&self, shard: ShardId, mut rows: RowBatch) -> Result<LsmRows, StoreError> {
        let (dir, next) = (self.dir_of(shard), self.dir.join(format!("{shard}.new")));
        let names = (1..=DAMAGED_MAX).map(|n| self.dir.join(format!("{shard}.damaged-{n}")));
        let Some(aside) = names.into_iter().find(|path| !path.exists()) else {
            return Err(StoreError::DamagedAgain {
                times: DAMAGED_MAX,
                path: dir.with_extension("damaged-1"),
            });
        };
        if next.exists() {
            fs::remove_dir_all(&next).map_err(file_error(&next))?;
        }
        // Made elsewhere: whenever this ends, what stands in the shard's place is the damaged
        // one, or none though one is held, or the new one with all of `rows`.
        let mut made = LsmRows::open(next.clone(), self.background.clone(), None)?;
        made.insert(&mut rows)?;
        made.flush()?;
        drop(made);
        match fs::rename(&dir, &aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            renamed => {
                renamed.map_err(file_error(&dir))?;
                sync_dir(&self.dir)?;
                tracing::warn!(shard = shard.0, path = %aside.display(), "a damaged store is set aside: remove it once its shard is whole again");
            }
        }
        fs::rename(&next, &dir).map_err(file_error(&next))?;
        sync_dir(&self.dir)?;
        self.open(shard)
    }

    fn destroy(&self, shard: ShardId) -> Result<(), StoreError> {
        self.held.with(|held| held.remove(shard))?;
        let dir = self.dir_of(shard);
        let gone = self.dir.join(format!("{shard}.gone"));
        match fs::rename(&dir, &gone) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(file_error(&dir))?,
        }
        sync_dir(&self.dir)?;
        fs::remove_dir_all(&gone).map_err(file_error(&gone))
    }

    fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        self.background.spawn(work);
    }
}
