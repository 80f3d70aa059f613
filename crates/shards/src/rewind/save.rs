//! Saving a lost tail, piece by piece, before anything is changed.

use super::{AGAIN, BYTES_MAX, Fetching, KEYS_MAX, Step, Taking};
use crate::{Output, Shards, rewound::Saved};
use model::{Entry, EntryKind, Position, ShardId, mutation::Ops};
use std::{collections::BTreeSet, io, time::Duration};
use storage::store::Stores;

/// Bytes of log that are saved at a time, between other work.
const SAVE_BYTES: usize = 1 << 20;
/// A tail that the log does not show within this time (its last entries may still be on their
/// way to the disk) is given up.
const READ_WITHIN: Duration = Duration::from_secs(30);

impl<S: Stores, T> Shards<S, T> {
    /// Saves what a protocol cuts from its log: it was never known to be committed here, but
    /// if this node crashed it may have been. False if it could not be saved.
    pub(crate) fn save_truncated(&mut self, id: ShardId, after: u64) -> bool {
        let Some(shard) = self.all.get(&id) else {
            return true;
        };
        let lost: Vec<Entry> = shard
            .unapplied
            .iter()
            .filter(|e| e.position.index > after)
            .cloned()
            .collect();
        let common = Position {
            epoch: shard.history().epoch_at(after),
            index: after,
        };
        let mut saving = self.rewinds.files.begin(self.about(id, common));
        let saved = lost
            .iter()
            .try_for_each(|entry| saving.add(entry, false))
            .and_then(|()| saving.finish());
        match saved {
            Ok(saved) => {
                self.count_saved(id, &saved);
                true
            }
            Err(error) => {
                self.stop_shard(id, not_saved(&error));
                false
            }
        }
    }

    fn count_saved(&mut self, id: ShardId, saved: &Saved) {
        self.rewinds.counts.entries += saved.entries;
        if let Some(file) = &saved.file {
            let me = &self.config.id;
            let entries = saved.entries;
            let text = format!(
                "{me} takes back {entries} entries that its primary does not have; they are saved in {file} on {me}, see `quire rewound show`"
            );
            self.out.put(Output::Note {
                shard: id,
                kind: "rewound",
                text,
            });
        }
    }

    pub(super) fn save_on(&mut self, id: ShardId) {
        let Some(mut taking) = self.rewinds.taking.remove(&id) else {
            return;
        };
        match self.save_more(id, &mut taking) {
            Ok(false) => {
                self.rewinds.taking.insert(id, taking);
            }
            Ok(true) => self.saved(id, taking),
            Err(error) => {
                // Nothing may be changed before it is saved: that is tried until it can be.
                tracing::error!(shard = id.0, reason = %not_saved(&error), "a rewind waits");
                let fresh = self.rewinds.files.begin(self.about(id, taking.common));
                let now = self.now.monotonic;
                let step = Step::Saving {
                    next: taking.common.index + 1,
                    since: now + AGAIN,
                    at: now + AGAIN,
                    saving: Box::new(fresh),
                };
                if let Step::Saving { saving, .. } = std::mem::replace(&mut taking.step, step) {
                    saving.discard();
                }
                taking.keys.clear();
                taking.keys_bytes = 0;
                self.rewinds.taking.insert(id, taking);
            }
        }
    }

    /// Saves one more piece. True if that was all.
    fn save_more(&mut self, id: ShardId, taking: &mut Taking) -> io::Result<bool> {
        let now = self.now.monotonic;
        let Step::Saving {
            next,
            since,
            saving,
            ..
        } = &mut taking.step
        else {
            return Ok(false);
        };
        let first = self.all.get(&id).map_or(0, |s| s.log_index.first);
        if *next < first {
            tracing::error!(
                shard = id.0,
                from = *next,
                to = first.min(taking.last + 1) - 1,
                "lost entries are not in the log any more, and can't be saved"
            );
            *next = first;
            taking.copy = true;
        }
        if *next > taking.last {
            return Ok(true);
        }
        let read = self.read_entries(id, *next, SAVE_BYTES);
        let late = now.saturating_sub(*since) > READ_WITHIN;
        let entries = match read {
            Some(entries) if !entries.is_empty() => entries,
            Some(_) if !late => return Ok(false),
            _ => {
                tracing::error!(
                    shard = id.0,
                    from = *next,
                    to = taking.last,
                    "lost entries could not be read, and are not saved"
                );
                taking.copy = true;
                return Ok(true);
            }
        };
        for entry in entries {
            let index = entry.position.index;
            if index > taking.last {
                break;
            }
            saving.add(&entry, index <= taking.committed)?;
            if index <= taking.applied && !touch(&mut taking.keys, &mut taking.keys_bytes, &entry) {
                taking.copy = true;
            }
            *next = index + 1;
        }
        *since = now;
        if taking.keys.len() > KEYS_MAX || taking.keys_bytes > BYTES_MAX {
            taking.keys.clear();
            taking.keys_bytes = 0;
            taking.copy = true;
        }
        Ok(*next > taking.last)
    }

    fn saved(&mut self, id: ShardId, mut taking: Taking) {
        let now = self.now.monotonic;
        let step = Step::Fetching(Fetching {
            number: 0,
            question: 0,
            left: Vec::new(),
            from: None,
            asked_at: now,
            rows: Vec::new(),
            bytes: 0,
            applied: None,
        });
        if let Step::Saving { saving, .. } = std::mem::replace(&mut taking.step, step) {
            match saving.finish() {
                Ok(saved) => self.count_saved(id, &saved),
                Err(error) => {
                    tracing::error!(shard = id.0, reason = %not_saved(&error), "a rewind waits");
                    let saving = Box::new(self.rewinds.files.begin(self.about(id, taking.common)));
                    taking.step = Step::Saving {
                        next: taking.common.index + 1,
                        since: now + AGAIN,
                        at: now + AGAIN,
                        saving,
                    };
                    self.rewinds.taking.insert(id, taking);
                    return;
                }
            }
        }
        if self.leaving.is_to_save(id) {
            return self.nothing_left_to_save(id);
        }
        if taking.copy {
            return self.start_copy(id, &taking.source);
        }
        let (nothing, common) = (taking.keys.is_empty(), taking.common);
        self.rewinds.taking.insert(id, taking);
        if nothing {
            return self.log_rewind(id, Vec::new(), common);
        }
        self.fetch_anew(id);
    }
}

/// Notes what an entry touched. False if that is everything, or can't be told.
fn touch(keys: &mut BTreeSet<bytes::Bytes>, bytes: &mut usize, entry: &Entry) -> bool {
    if entry.kind != EntryKind::Mutation {
        return true;
    }
    for op in Ops::new(entry.payload()) {
        let Ok(op) = op else { return false };
        let Some(key) = op.key() else { return false };
        if !keys.contains(key) {
            *bytes += key.len();
            // Its own bytes: a slice would hold the whole entry.
            keys.insert(bytes::Bytes::copy_from_slice(key));
        }
    }
    true
}

fn not_saved(error: &io::Error) -> String {
    format!(
        "entries that a failover lost can't be saved in the directory `rewound` ({error}): make room, or restore access, and restart the node; nothing was taken back"
    )
}
