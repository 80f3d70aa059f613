//! Reading back what the disk holds.

use crate::{damage::open_shard, shard::Shard};
use model::ShardId;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};
use storage::{
    disk::Disk,
    log::{self, Log, Lsn, Options, Record},
    store::{CacheBudget, StoreError, Stores},
};

/// The replicas and the log that a node found on its disks.
pub struct Found<S: Stores, T> {
    pub(crate) stores: S,
    pub(crate) log: Log,
    pub(crate) shards: BTreeMap<ShardId, Shard<S::Rows, T>>,
}

/// A record of the log that is no shard's: its kind, where it begins, its body.
pub type OfOthers<'a> = &'a mut dyn FnMut(u8, Lsn, &[u8]) -> Result<(), String>;

/// Why they can't be read.
#[derive(Debug)]
pub enum NotFound {
    /// The log, or that and the stores don't fit together.
    Log(log::OpenError<String>),
    /// A store.
    Store(StoreError),
}

impl<S: Stores, T> Found<S, T> {
    /// Reads them. Nothing is served before the catalog is known.
    pub fn open(
        stores: S,
        disk: Arc<dyn Disk>,
        (options, cache): (Options, CacheBudget),
        of_others: OfOthers<'_>,
    ) -> Result<Self, NotFound> {
        let mut shards = BTreeMap::new();
        for id in stores.list().map_err(NotFound::Store)? {
            let shard = open_shard(&stores, id, cache).map_err(NotFound::Store)?;
            shards.insert(id, shard);
        }
        let mut previous = None;
        let log = Log::open(disk, options, &mut |at: Lsn, record: Record| {
            // The record ends at `at`, and begins where the one before it ended.
            let before = previous.unwrap_or(Lsn(at.0 - record.body.len() as u64 - 13));
            previous = Some(at);
            let Some(id) = record.stream.checked_sub(1).map(ShardId) else {
                return of_others(record.kind, before, &record.body);
            };
            let shard = match shards.entry(id) {
                Entry::Occupied(shard) => shard.into_mut(),
                Entry::Vacant(place) => {
                    let shard = open_shard(&stores, id, cache);
                    place.insert(shard.map_err(|e| e.to_string())?)
                }
            };
            shard.replay(before, record)
        });
        let log = log.map_err(NotFound::Log)?;
        for shard in shards.values_mut() {
            shard.note_cut(log.cut());
            // The log's checksums hold, so log and store are not of one life.
            if let Err(reason) = shard.finish_replay() {
                tracing::error!(shard = shard.id.0, %reason, "a shard stops");
                shard.stopped = Some(reason.clone());
                shard.damaged = Some(reason);
            }
        }
        Ok(Found {
            stores,
            log,
            shards,
        })
    }

    /// The log, as it was found.
    pub fn log(&self) -> &Log {
        &self.log
    }
}
