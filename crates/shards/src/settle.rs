//! Settling: carrying out what strategies ask for, until none asks; and giving up the part of
//! the log that nobody needs any more.

use crate::{
    Output as Wanted, Shards,
    room::stream,
    shard::{self, Shard},
};
use bytes::Bytes;
use model::ShardId;
use replication::strategy::{Output, Role};
use std::time::Duration;
use storage::{
    log::{AppendError, Lsn, Record},
    store::Stores,
};

/// How long entries that nobody waits for are gathered before they are made durable: each
/// sync costs the disk as much for one as for a hundred.
const GATHER: Duration = Duration::from_millis(10);
/// How long a hint for the next start may wait for something better to go with.
const HINT_WITHIN: Duration = Duration::from_secs(1);

/// Each round of settling answers what the one before caused; a topology comes to rest in a few.
const SETTLE_ROUNDS_MAX: u32 = 64;
/// What one shard may ask for in a round: more than the smallest entries of a full message.
const OUTPUTS_A_ROUND: u32 = 1 << 15;

/// Of how many looks for a part of the log that is free one is taken while nothing is written.
const RELEASES_IDLE: u32 = 30;

/// Rows of the index of expiry that are counted at a time: a few milliseconds.
const EXPIRING_A_TURN: usize = 10_000;

impl<S: Stores, T> Shards<S, T> {
    /// Carries out what strategies ask for; that may have them ask for more.
    pub fn settle_once(&mut self) {
        for id in std::mem::take(&mut self.dirty) {
            self.settle_shard(id);
            self.settled(id);
        }
    }

    /// Until its own shards come to rest, which they do in a few rounds.
    pub(crate) fn settle_own(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if self.dirty.is_empty() || self.stopped {
                return;
            }
            self.settle_once();
        }
    }

    /// All that a shard asked for is carried out: what follows from that.
    fn settled(&mut self, id: ShardId) {
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        self.touched.settled += 1;
        let wanted = shard.strategy.as_ref().and_then(|s| s.wake_at());
        self.timers.want(id, &mut shard.timer, wanted);
        self.rests_settled(id);
        self.touch(id);
    }

    fn settle_shard(&mut self, id: ShardId) {
        let leased = self.is_leased();
        for _ in 0..OUTPUTS_A_ROUND {
            let Some(shard) = self.all.get_mut(&id) else {
                return;
            };
            let Some(strategy) = &mut shard.strategy else {
                return;
            };
            strategy.vouch(leased);
            let Some(output) = strategy.poll(self.now) else {
                return;
            };
            match output {
                Output::Append { entry, urgent } => {
                    let before = self.log.tip();
                    match self.log.append(stream(id), shard::ENTRY, &[entry.bytes()]) {
                        Ok(lsn) => {
                            let index = entry.position.index;
                            shard.log_index.note(index, before);
                            self.appended.push_back((lsn, id, index));
                            shard.unapplied.push_back(entry);
                            self.flush_within(if urgent { Duration::ZERO } else { GATHER });
                        }
                        Err(error) => {
                            // The strategy has it and the log has not: only a restart, which
                            // reads back what the log has, makes them agree again.
                            return self.stop_for(error);
                        }
                    }
                }
                Output::Truncate { after } => {
                    if !self.save_truncated(id, after) {
                        return;
                    }
                    let Some(shard) = self.all.get_mut(&id) else {
                        return;
                    };
                    shard.forget_after(after);
                    self.appended
                        .retain(|(_, shard, index)| *shard != id || *index <= after);
                    self.flush_within(Duration::ZERO);
                    if let Err(error) =
                        self.log
                            .append(stream(id), shard::TRUNCATE, &[&after.to_le_bytes()])
                    {
                        return self.stop_for(error);
                    }
                }
                Output::Commit { upto } => self.committed(id, upto),
                Output::Send { to, message } => {
                    self.out.put(Wanted::SendReplica {
                        to,
                        shard: id,
                        message,
                    });
                }
                Output::Fetch {
                    to,
                    from,
                    bytes_max,
                } => {
                    let entries = self.read_entries(id, from, bytes_max);
                    if let Some(shard) = self.all.get_mut(&id)
                        && let Some(strategy) = &mut shard.strategy
                    {
                        strategy.fetched(&to, from, entries, self.now);
                    }
                }
                Output::NeedsCopy { from, common } => self.start_rewind(id, &from, common, true),
                Output::NeedsRewind { from, common } => {
                    self.start_rewind(id, &from, common.index, false);
                }
                Output::Confirm { node, disk } => self.out.put(Wanted::Confirm {
                    shard: id,
                    node,
                    disk,
                }),
                Output::MayRest { node, at } => self.may_rest(id, &node, at),
                Output::SetDegraded(degraded) => {
                    if let Some(state) = shard.state(self.now) {
                        self.out.put(Wanted::Degraded {
                            shard: id,
                            epoch: state.epoch,
                            degraded,
                        });
                    }
                }
                Output::Deposed { .. } => self.deposed(id),
                Output::Stop { reason } => self.stop_shard(id, reason),
            }
        }
        self.dirty.insert(id);
    }

    /// What was appended is to be on its way to the disk within `within`.
    pub(crate) fn flush_within(&mut self, within: Duration) {
        let at = self.now.monotonic + within;
        self.flush_at = Some(self.flush_at.map_or(at, |before| before.min(at)));
    }

    fn stop_for(&mut self, error: AppendError) {
        self.stop(format!("the log takes nothing more: {error}"));
    }

    /// The node can't go on, for this reason: nothing is taken any more.
    pub fn stop(&mut self, reason: String) {
        if !self.stopped {
            tracing::error!(%reason, "the node stops");
            self.stopped = true;
            self.out.put(Wanted::Stop(reason));
        }
    }

    /// One shard can't go on; the others can.
    pub(crate) fn stop_shard(&mut self, id: ShardId, reason: String) {
        tracing::error!(shard = id.0, %reason, "a shard stops");
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        shard.strategy = None;
        let waiting = std::mem::take(&mut shard.waiting);
        shard.tip.reset();
        shard.stopped = Some(reason);
        self.touch(id);
        self.forget_rests(id);
        self.rewinds.forget(id);
        for waiting in waiting {
            self.give_up(id, waiting, "this replica stopped");
        }
    }

    /// What was committed while the lease ran has been answered. What still waits is not
    /// committed, or was when another may have been primary: both may be lost.
    fn deposed(&mut self, id: ShardId) {
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        shard.tip.reset();
        // Who gives its office away may say what it has answered: nobody is named before its
        // own seal was answered, which happens later.
        if self.gives_up != Some(id) {
            self.out.put(Wanted::Deposed);
        }
        for waiting in std::mem::take(&mut shard.waiting) {
            self.give_up(id, waiting, "another node became the shard's primary");
        }
    }

    /// Entries up to `upto` are committed: into the store with them, and out with the replies.
    fn committed(&mut self, id: ShardId, upto: u64) {
        loop {
            let Some(shard) = self.all.get_mut(&id) else {
                return;
            };
            let applied = match shard.apply(upto) {
                Ok(applied) => applied,
                Err(reason) => return self.stop_shard(id, reason),
            };
            let index = shard.applied().index;
            if let Some(strategy) = &mut shard.strategy {
                strategy.applied(index, self.now);
            }
            for entry in &applied.digests {
                self.digest_due(id, entry);
            }
            if !applied.more {
                break;
            }
        }
        if let Some(shard) = self.all.get_mut(&id) {
            shard.maintain(self.now);
            if shard.not_before > self.now.monotonic {
                self.touched.slowed.insert(id);
            }
            if shard.commit_noted < upto {
                shard.commit_noted = upto;
                // Only a hint for the next start: what does not fit is left out.
                let _ = self
                    .log
                    .append(stream(id), shard::COMMIT, &[&upto.to_le_bytes()]);
                self.flush_within(HINT_WITHIN);
            }
        }
        self.release_waiting(id);
    }

    /// Entries from the log, for a replica that lags or to be saved. None: they are gone. The
    /// log also holds what was cut or taken back; only what the shard's history has is given.
    pub(crate) fn read_entries(
        &mut self,
        id: ShardId,
        from: u64,
        bytes_max: usize,
    ) -> Option<Vec<model::Entry>> {
        let shard = self.all.get(&id)?;
        if !shard.log_index.holds(from) {
            return None;
        }
        let start = shard.log_index.before(from)?;
        let history = shard.history();
        let mut entries: Vec<model::Entry> = Vec::new();
        let mut bytes = 0;
        let mut visit = |_: Lsn, record: Record| {
            if record.stream != stream(id) {
                return true;
            }
            if record.kind != shard::ENTRY {
                return true;
            }
            let body = Bytes::copy_from_slice(&record.body);
            let Ok(entry) = model::Entry::decode(body) else {
                return false;
            };
            let next = from + entries.len() as u64;
            let at = entry.position;
            if at.index == next && history.epoch_at(next) == at.epoch {
                bytes += entry.bytes().len();
                entries.push(entry);
            }
            bytes < bytes_max
        };
        // The bound is generous: records of other shards lie between.
        if let Err(error) = self.log.read(start, 64 << 20, &mut visit) {
            tracing::warn!(shard = id.0, %error, "the log could not be read for a replica");
            return None;
        }
        Some(entries)
    }

    /// Where the oldest seal stands that only its record keeps: nothing of its epoch, or of a
    /// later one, was appended. One that would pin the log for long is written once more.
    fn seals_needed_from(&mut self, given_up: Option<Lsn>) -> Lsn {
        let tip = self.log.tip();
        let mut from = tip;
        let mut again = Vec::new();
        for (id, shard) in &mut self.all {
            let Some((epoch, at)) = shard.sealed else {
                continue;
            };
            let last = shard.strategy.as_ref().map(|s| s.state(self.now).tip.epoch);
            if last.is_some_and(|last| last >= epoch) {
                continue;
            }
            from = from.min(Lsn(at.0.saturating_sub(1))); // within the record
            if at.0 + self.config.log.segment_bytes * 4 < tip.0 || Some(at) <= given_up {
                again.push((*id, epoch));
            }
        }
        for (id, epoch) in again {
            // Whatever comes of it the old record stays until the new one stands before it.
            if let Ok(at) = self.append_shard(id, shard::SEAL, &epoch.0.to_le_bytes())
                && let Some(shard) = self.all.get_mut(&id)
            {
                shard.sealed = Some((epoch, at));
            }
        }
        from
    }

    /// What is done now and then.
    pub fn upkeep(&mut self) {
        self.damage_upkeep();
        self.share_cache();
        self.count_expiring();
        self.scrub_upkeep();
        self.note_whole();
    }

    /// Once in a while: whether a part of the log is to be given up soon, and up to where.
    pub fn release_due(&mut self) -> Option<Option<Lsn>> {
        if self.now.monotonic < self.next_release {
            return None;
        }
        self.next_release = self.now.monotonic + Duration::from_secs(1);
        Some(self.log_given_up_to())
    }

    /// Gives up what nobody needs of the log any more.
    pub fn release(&mut self, given_up: Option<Lsn>) {
        // While nothing happens to a shard nothing becomes free but by the stores, which are in
        // no hurry.
        let seen = (self.log.tip(), self.touched.settled);
        let is_idle = seen == self.touched.released_at && given_up.is_none();
        self.touched.idle_releases = if is_idle {
            self.touched.idle_releases + 1
        } else {
            0
        };
        if self.touched.idle_releases.is_multiple_of(RELEASES_IDLE) {
            self.release_log(given_up);
            self.touched.released_at = seen;
        }
    }

    /// Counts keys that expire, where they are not counted yet.
    fn count_expiring(&mut self) {
        let mut left = EXPIRING_A_TURN;
        let mut failed = None;
        for id in self.touched.uncounted.clone() {
            if left == 0 || self.disk_watch.is_stalled() {
                break;
            }
            let counted = match self.all.get_mut(&id) {
                Some(shard) => match shard.store.count_expiring(left) {
                    Ok(counted) => {
                        left -= counted.min(left);
                        shard.store.expiring().is_some()
                    }
                    Err(error) => {
                        failed = Some((id, error.to_string()));
                        true
                    }
                },
                None => true,
            };
            if counted {
                self.touched.uncounted.remove(&id);
            }
        }
        if let Some((id, reason)) = failed {
            self.stop_shard(id, reason);
        }
    }

    /// What the cut of the log's tail may have taken is there again, once a replica has held all
    /// that its primary had committed; in whatever a primary lacked it was not named.
    fn note_whole(&mut self) {
        let now = self.now;
        let is_whole = |shard: &Shard<S::Rows, T>| {
            let state = shard
                .state(now)
                .map(|s| self.pulses.vouch(shard.rest.as_ref(), s));
            state.is_some_and(|state| match state.role {
                Role::Primary => true,
                Role::Replica => state.fresh_at.is_some(),
                Role::Starting | Role::Learner => false,
            })
        };
        let mut whole: Vec<(ShardId, Lsn)> = Vec::new();
        self.touched.cut.retain(|id| {
            let Some(shard) = self.all.get_mut(id) else {
                return false;
            };
            if is_whole(shard) {
                whole.extend(shard.cut_at.take().map(|cut| (*id, cut)));
            }
            shard.cut_at.is_some()
        });
        for (id, cut) in whole {
            if let Err(error) = self.append_shard(id, shard::WHOLE, &cut.0.to_le_bytes()) {
                return self.stop_for(error);
            }
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
            match shard.strategy.as_ref().and_then(|s| s.floor()) {
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
        keep = keep.min(self.seals_needed_from(given_up));
        self.log.release_below(keep);
        if given_up.is_some() {
            // The next flush has the files go, and a start must not find them.
            self.flush_within(Duration::ZERO);
        }
        let oldest = self.log.oldest();
        for shard in self.all.values_mut() {
            let next = shard
                .unapplied
                .back()
                .map_or(shard.store.applied().position.index, |e| e.position.index)
                + 1;
            if shard.log_index.release_below(oldest, next)
                && let Some(strategy) = &mut shard.strategy
            {
                strategy.released(shard.log_index.first);
            }
        }
    }
}
