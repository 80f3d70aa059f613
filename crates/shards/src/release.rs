//! Giving up the part of the log that nobody needs any more: no store here, no replica that lags, no
//! copy that goes on from there, no seal, no note, and not the voters' group.

use crate::{Shards, shard};
use bytes::Bytes;
use model::Epoch;
use storage::{log::Lsn, store::Stores};

/// What one record alone says.
enum Only {
    Seal(Epoch),
    Note(Bytes),
}

impl<S: Stores, T> Shards<S, T> {
    /// Once in a while: whether a part of the log is to be given up soon, and up to where.
    pub fn release_due(&mut self) -> Option<Option<Lsn>> {
        match self.log.is_release_due(self.now.monotonic) {
            true => Some(self.log_given_up_to()),
            false => None,
        }
    }

    /// Gives up what nobody needs of the log any more.
    pub fn release(&mut self, given_up: Option<Lsn>) {
        let settled = self.unsettled.settled();
        if self.log.looks_for_free(settled, given_up.is_some()) {
            self.release_log(given_up);
        }
    }

    /// Gives up the part of the log that nobody needs any more; what is `given_up` as soon as the
    /// stores have it.
    fn release_log(&mut self, given_up: Option<Lsn>) {
        let tip = self.log.tip();
        let retained = tip.0.saturating_sub(self.config.log_retention_bytes);
        let kept_for_others = given_up.map_or(Lsn(retained), |end| end.max(Lsn(retained)));
        let mut keep = self.terms.log_needed_from.unwrap_or(tip);
        for (id, shard) in &mut self.all {
            let flushed = match shard.store.flushed() {
                Ok(position) => position.index,
                Err(_) => 0,
            };
            let own = shard.log_index.before(flushed + 1);
            if let Some(own) = own
                && (own.0 + self.config.log.segment_bytes * 4 < tip.0 || Some(own) < given_up)
                && flushed < shard.applied().index
            {
                // A cold shard must not pin the log that all share.
                if let Err(error) = shard.store.flush_soon() {
                    tracing::warn!(shard = id.0, %error, "a cold shard could not be flushed");
                }
            }
            if flushed < shard.applied().index || !shard.unapplied.is_empty() {
                keep = keep.min(own.unwrap_or(Lsn(0)));
            }
            // What a member may lack, or may have to be taken back here. Not known before a
            // primary has told it: then everything may be.
            match shard.protocol.as_ref().and_then(|s| s.floor()) {
                Some(floor) => {
                    if let Some(wanted) = shard.log_index.keep_from(floor + 1) {
                        keep = keep.min(wanted.max(kept_for_others));
                    }
                }
                None => keep = keep.min(kept_for_others),
            }
            // The log is all that knows of the cut.
            if let Some(cut) = shard.cut_at {
                keep = keep.min(cut.max(kept_for_others));
            }
            if let Some(pinned) = self.copies.pinned(*id)
                && let Some(wanted) = shard.log_index.keep_from(pinned + 1)
            {
                keep = keep.min(wanted.max(kept_for_others));
            }
        }
        keep = keep.min(self.records_needed_from(given_up));
        self.log.release_below(keep);
        if given_up.is_some() {
            // The next flush has the files go, and a start must not find them.
            self.log.flush_by(self.now.monotonic);
        }
        let oldest = self.log.get().oldest();
        for shard in self.all.values_mut() {
            let next = shard
                .unapplied
                .back()
                .map_or(shard.store.applied().position.index, |e| e.position.index)
                + 1;
            if shard.log_index.release_below(oldest, next)
                && let Some(protocol) = &mut shard.protocol
            {
                protocol.released(shard.log_index.first);
            }
        }
    }

    /// Where the oldest record stands that is the only one of what it says: a note, or a seal of
    /// whose epoch, or a later one, nothing was appended. One that would pin the log for long is
    /// written once more.
    fn records_needed_from(&mut self, given_up: Option<Lsn>) -> Lsn {
        let tip = self.log.tip();
        let mut from = tip;
        let mut again = Vec::new();
        for (id, shard) in &mut self.all {
            let last = || shard.protocol.as_ref().map(|s| s.state(self.now).tip.epoch);
            let is_needed = |(epoch, _): &(Epoch, Lsn)| last().is_none_or(|last| last < *epoch);
            let seal = shard.sealed.filter(is_needed);
            let seal = seal.map(|(epoch, at)| (Only::Seal(epoch), at));
            let note = shard.note.clone().map(|(note, at)| (Only::Note(note), at));
            for (only, at) in seal.into_iter().chain(note) {
                from = from.min(Lsn(at.0.saturating_sub(1))); // within the record
                if at.0 + self.config.log.segment_bytes * 4 < tip.0 || Some(at) <= given_up {
                    again.push((*id, only));
                }
            }
        }
        for (id, only) in again {
            // Whatever comes of it the old record stays until the new one stands before it.
            let written = match &only {
                Only::Seal(epoch) => self.append_shard(id, shard::SEAL, &epoch.0.to_le_bytes()),
                Only::Note(note) => self.append_shard(id, shard::NOTE, note),
            };
            if let Ok(at) = written
                && let Some(shard) = self.all.get_mut(&id)
            {
                match only {
                    Only::Seal(epoch) => shard.sealed = Some((epoch, at)),
                    Only::Note(note) => shard.note = Some((note, at)),
                }
            }
        }
        from
    }
}
