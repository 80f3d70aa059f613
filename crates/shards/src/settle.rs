//! Settling: carrying out what protocols ask for, until none asks.

use crate::{
    Output as Wanted, Shards,
    shard::{self, Shard},
};
use model::ShardId;
use replication::protocol::{Output, Role, Wish};
use std::{collections::BTreeSet, time::Duration};
use storage::{
    log::{AppendError, Lsn},
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

/// Rows of the index of expiry that are counted at a time: a few milliseconds.
const EXPIRING_A_TURN: usize = 10_000;

/// Shards that have something to settle: whoever tells a shard's protocol something adds it.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    ids: BTreeSet<ShardId>,
    /// How often a shard was settled.
    settled: u64,
}

impl Unsettled {
    pub(crate) fn add(&mut self, id: ShardId) {
        self.ids.insert(id);
    }

    pub(crate) fn forget(&mut self, id: ShardId) {
        self.ids.remove(&id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ShardId> {
        self.ids.iter().copied()
    }

    /// How often a shard was settled.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Carries out what protocols ask for; that may have them ask for more.
    pub fn settle_once(&mut self) {
        for id in std::mem::take(&mut self.unsettled.ids) {
            self.settle_shard(id);
            self.settled(id);
        }
    }

    /// Until its own shards come to rest, which they do in a few rounds.
    pub(crate) fn settle_own(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if self.unsettled.is_empty() || self.stopped {
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
        self.unsettled.settled += 1;
        let wanted = shard.protocol.as_ref().and_then(|s| s.wake_at());
        self.timers.want(id, &mut shard.timer, wanted);
        if shard.is_elected {
            let leader = shard.protocol.as_ref().and_then(|s| s.leader());
            if let Some(leader) = leader.filter(|leader| shard.leader.as_ref() != Some(leader)) {
                let leader = leader.clone();
                shard.leader = Some(leader.clone());
                self.out.put(Wanted::Led { shard: id, leader });
            }
        }
        self.rests_settled(id);
        self.touch(id);
    }

    fn settle_shard(&mut self, id: ShardId) {
        let leased = self.is_leased();
        for _ in 0..OUTPUTS_A_ROUND {
            let Some(shard) = self.all.get_mut(&id) else {
                return;
            };
            let Some(protocol) = &mut shard.protocol else {
                return;
            };
            protocol.vouch(leased);
            let Some(output) = protocol.poll(self.now) else {
                return;
            };
            match output {
                Output::Append { entry, urgent } => {
                    let within = if urgent { Duration::ZERO } else { GATHER };
                    let by = self.now.monotonic + within;
                    match self.log.append_entry(id, &entry, by) {
                        Ok(before) => {
                            shard.log_index.note(entry.position.index, before);
                            shard.unapplied.push_back(entry);
                        }
                        Err(error) => {
                            // The protocol has it and the log has not: only a restart, which
                            // reads back what the log has, makes them agree again.
                            return self.stop_for(error);
                        }
                    }
                }
                Output::Truncate { after } => {
                    // What a majority never had nobody was told of: there is nothing to save.
                    if !shard.is_elected && !self.save_truncated(id, after) {
                        return;
                    }
                    let Some(shard) = self.all.get_mut(&id) else {
                        return;
                    };
                    shard.forget_after(after);
                    self.log.forget_after(id, after);
                    self.give_up_overwritten(id, after);
                    let cut = after.to_le_bytes();
                    if let Err(error) = self.append_shard(id, shard::TRUNCATE, &cut) {
                        return self.stop_for(error);
                    }
                }
                Output::Note { number, bytes } => {
                    match self.log.append_note(id, number, &bytes, self.now.monotonic) {
                        Ok(at) => shard.note = Some((bytes, at)),
                        Err(error) => return self.stop_for(error),
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
                        && let Some(protocol) = &mut shard.protocol
                    {
                        protocol.fetched(&to, from, entries, self.now);
                    }
                }
                Output::NeedsCopy { from, .. } if shard.is_elected => self.start_copy(id, &from),
                Output::NeedsCopy { from, common } => self.start_rewind(id, &from, common, true),
                Output::NeedsRewind { from, common } => {
                    self.start_rewind(id, &from, common.index, false);
                }
                Output::ReadReady { ticket, index } => {
                    let round = Some(index);
                    self.out.put(Wanted::Round {
                        shard: id,
                        ticket,
                        round,
                    });
                }
                Output::ReadLost { ticket } => self.out.put(Wanted::Round {
                    shard: id,
                    ticket,
                    round: None,
                }),
                Output::Wish(wish) => self.wish(id, wish),
                Output::MayRest { node, at } => self.may_rest(id, &node, at),
                Output::Lost { .. } => self.deposed(id),
                Output::Stop { reason } => self.stop_shard(id, reason),
            }
        }
        self.unsettled.add(id);
    }

    /// What only the catalog can do is asked of the node.
    fn wish(&mut self, id: ShardId, wish: Wish) {
        match wish {
            Wish::Confirm { node, disk } => self.out.put(Wanted::Confirm {
                shard: id,
                node,
                disk,
            }),
            Wish::SetDegraded(degraded) => {
                let state = self.all.get(&id).and_then(|shard| shard.state(self.now));
                if let Some(state) = state {
                    self.out.put(Wanted::Degraded {
                        shard: id,
                        epoch: state.epoch,
                        degraded,
                    });
                }
            }
        }
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
        shard.protocol = None;
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
        if shard.is_elected {
            return self.give_up_reads(id);
        }
        // Who gives its office away may say what it has answered: nobody is named before its
        // own seal was answered, which happens later.
        if !self.seals.gives_up(id) {
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
            if let Some(protocol) = &mut shard.protocol {
                protocol.applied(index, self.now);
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
                self.touched.slows(id);
            }
            if shard.commit_noted < upto {
                shard.commit_noted = upto;
                // Only a hint for the next start: what does not fit is left out.
                let by = self.now.monotonic + HINT_WITHIN;
                let _ = (self.log).append(id, shard::COMMIT, &upto.to_le_bytes(), by);
            }
        }
        self.release_waiting(id);
    }

    /// Entries from the log, for a replica that lags or to be saved. None: they are gone.
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
        let place = (from, start);
        match self.log.entries(id, place, shard.history(), bytes_max) {
            Ok(entries) => Some(entries),
            Err(error) => {
                tracing::warn!(shard = id.0, %error, "the log could not be read for a replica");
                None
            }
        }
    }

    /// What is done now and then.
    pub fn upkeep(&mut self) {
        self.damage_upkeep();
        self.share_cache();
        self.count_expiring();
        self.scrub_upkeep();
        self.note_whole();
    }

    /// Counts keys that expire, where they are not counted yet.
    fn count_expiring(&mut self) {
        let mut left = EXPIRING_A_TURN;
        let mut failed = None;
        for id in self.touched.uncounted() {
            if left == 0 || self.log.is_stalled() {
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
                self.touched.counted(id);
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
        self.touched.retain_cut(|id| {
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
}
