//! The primary deletes keys whose time is over, and purges the dead cells of deleted ones.
//!
//! Nothing is deleted that was set anew or extended in flight: what an index of the store points
//! at is judged at the tip. A look goes on where the last one ended, beyond what is on its way
//! already, so a turn deletes as much as there is, up to [`KEYS_A_TURN`], however long an entry
//! takes to be committed. Only keys that the store was told of behind that place (a short life
//! that ended before its entry was committed) need another look, and they get it
//! [once in a while](LOOK_BACK_EVERY).
//!
//! ```text
//!  index of expiry  ──── looked at, deletions in flight ────┤──── due ────┤──── later ───▶ time
//!                            ▲ put behind: back to here   from           now
//! ```

use crate::{
    room::Shards,
    shard::Shard,
    tip::{Committed, at_tip},
};
use commands::View;
use model::{
    Entry, EntryKind, Epoch, Mutation, Now, ShardId, Stamp,
    mutation::KeyKind,
    planted::{self, Bug},
};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};
use storage::store::{Dead, DeadPlace, Expired, ExpiryPlace, News, Rows, Stores};

/// Keys that one turn deletes, of all shards together.
const KEYS_A_TURN: usize = 1024;
/// How long until the next turn, if there is more: clients come in between.
const NEXT_TURN: Duration = Duration::from_millis(5);
/// Deletions of one shard that may be in flight.
const IN_FLIGHT_MAX: usize = 64 << 10;
/// Dead cells that one entry purges.
const CELLS_AN_ENTRY: usize = 1024;
/// How often keys are looked for that were put where the look had passed.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(1);

/// How far a shard's primary has looked.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// What follows holds in this epoch: in another, what was in flight may be lost.
    epoch: Epoch,
    /// Every key that expires before it was looked at, but for those put since.
    from: ExpiryPlace,
    /// All keys before `from` expire before this.
    passed_ms: u64,
    /// No key from `from` on expires before this.
    next_ms: u64,
    /// The earliest that was put where the look had passed.
    behind_ms: Option<u64>,
    looked_back_at: Duration,
    /// Deletions in flight: index of the entry, keys.
    in_flight: VecDeque<(u64, usize)>,
    deleting: usize,
    /// Where the look for dead cells goes on; None: there are none.
    dead: Option<DeadPlace>,
    /// Dead cells were put since it began.
    more_dead: bool,
    /// The last entry that purges some.
    purging: u64,
}

impl Default for Expiry {
    fn default() -> Self {
        Expiry {
            epoch: Epoch(0),
            from: ExpiryPlace::at(0),
            passed_ms: 0,
            next_ms: 0,
            behind_ms: None,
            looked_back_at: Duration::ZERO,
            in_flight: VecDeque::new(),
            deleting: 0,
            dead: Some(DeadPlace::default()),
            more_dead: false,
            purging: 0,
        }
    }
}

impl Expiry {
    /// In this epoch entries up to `applied` are in the store, and `news` was put into it.
    fn follow(&mut self, epoch: Epoch, applied: u64, news: News) {
        if epoch != self.epoch {
            *self = Expiry {
                epoch,
                ..Expiry::default()
            };
        }
        if news.expires_ms < self.passed_ms {
            let earlier = self
                .behind_ms
                .map_or(news.expires_ms, |ms| ms.min(news.expires_ms));
            self.behind_ms = Some(earlier);
        } else {
            self.next_ms = self.next_ms.min(news.expires_ms);
        }
        while let Some((index, keys)) = self.in_flight.front().copied()
            && index <= applied
        {
            self.in_flight.pop_front();
            self.deleting -= keys;
        }
        self.more_dead |= news.dead;
        if self.dead.is_none() && self.more_dead && applied >= self.purging {
            self.dead = Some(DeadPlace::default());
            self.more_dead = false;
        }
    }

    /// Whether there may be keys to delete.
    fn is_due(&mut self, now: Now) -> bool {
        if let Some(behind) = self.behind_ms
            && behind <= now.wall_ms
            && now.monotonic.saturating_sub(self.looked_back_at) >= LOOK_BACK_EVERY
        {
            self.from = ExpiryPlace::at(behind);
            self.passed_ms = behind;
            self.next_ms = behind;
            self.behind_ms = None;
            self.looked_back_at = now.monotonic;
        }
        self.next_ms <= now.wall_ms && self.deleting < IN_FLIGHT_MAX
    }

    /// From when on there may be keys to delete, or dead cells to purge, if nothing is put into
    /// the store meanwhile, or applied.
    fn due_ms(&self) -> u64 {
        match &self.dead {
            Some(_) => 0,
            None => self.next_ms.min(self.behind_ms.unwrap_or(u64::MAX)),
        }
    }

    /// What was found up to `now_ms` is deleted, or need not be.
    fn passed(&mut self, found: Expired, now_ms: u64) {
        let end = now_ms.saturating_add(1);
        (self.from, self.passed_ms, self.next_ms) = match found.more {
            Some((place, ms)) => (place, ms.saturating_add(1), ms),
            None => (ExpiryPlace::at(end), end, found.next_ms),
        };
    }
}

/// Which shards may have keys to delete: those that something happened to, and those whose next
/// key has come to its end. Places are as in [`crate::timers`], by wall time.
#[derive(Debug, Default)]
struct DueShards {
    now: BTreeSet<ShardId>,
    later: BTreeSet<(u64, ShardId)>,
}

impl DueShards {
    /// There may be something to be done in it.
    fn look(&mut self, id: ShardId) {
        self.now.insert(id);
    }

    /// There is nothing to be done in it before `at_ms`.
    fn rests_until(&mut self, id: ShardId, placed: &mut Option<u64>, at_ms: u64) {
        self.now.remove(&id);
        if at_ms == u64::MAX || placed.is_some_and(|at| at <= at_ms) {
            return;
        }
        if let Some(at) = placed.replace(at_ms) {
            self.later.remove(&(at, id));
        }
        self.later.insert((at_ms, id));
    }

    /// The next one whose moment has come.
    fn pop(&mut self, now_ms: u64) -> Option<(u64, ShardId)> {
        let first = self
            .later
            .first()
            .filter(|(at, _)| *at <= now_ms)
            .copied()?;
        self.later.remove(&first);
        Some(first)
    }
}

/// Expiry in all shards.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    due: DueShards,
    /// When it goes on before the next tick …
    again_at: Option<Duration>,
    /// … and with which shard.
    first: ShardId,
    /// Keys that were deleted.
    deleted: u64,
    /// What is proposed, in memory that is used again.
    mutation: Mutation,
}

impl Expiries {
    /// There may be something to be done in a shard.
    pub(crate) fn look(&mut self, id: ShardId) {
        self.due.look(id);
    }

    /// Those that are looked at: whoever was left over in the last turn comes first in this one.
    fn in_turn(&self) -> Vec<ShardId> {
        let after = self.due.now.range(self.first..);
        let all = after.chain(self.due.now.range(..self.first));
        all.copied().collect()
    }

    /// When it goes on before the next tick.
    pub(crate) fn again_at(&self) -> Option<Duration> {
        self.again_at
    }

    /// How many keys were deleted since their time was over.
    pub(crate) fn deleted(&self) -> u64 {
        self.deleted
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// The primary deletes keys whose time is over, and purges dead cells.
    pub(crate) fn expire(&mut self) {
        while let Some((at, id)) = self.expiries.due.pop(self.now.wall_ms) {
            if let Some(shard) = self.all.get_mut(&id)
                && shard.expires == Some(at)
            {
                shard.expires = None;
                self.expiries.due.look(id);
            }
        }
        let mut left = KEYS_A_TURN;
        for id in self.expiries.in_turn() {
            if left == 0 {
                self.expiries.first = id;
                break;
            }
            match self.expire_shard(id, &mut left) {
                Ok(looked) => self.expires_next(id, looked),
                Err(reason) => {
                    self.expiries.due.now.remove(&id);
                    self.stop_shard(id, reason);
                }
            }
        }
        self.expiries.again_at = (left == 0).then(|| self.now.monotonic + NEXT_TURN);
    }

    /// When a shard is to be looked at again, which may just have been `looked` at: a primary that
    /// could not act is asked again, and whoever is none is not before it is one.
    fn expires_next(&mut self, id: ShardId, looked: bool) {
        let Some(shard) = self.all.get_mut(&id) else {
            self.expiries.due.now.remove(&id);
            return;
        };
        let next_ms = match (shard.is_primary(self.now), looked) {
            (true, true) => shard.expiry.due_ms(),
            (true, false) => return,
            (false, _) => u64::MAX,
        };
        if next_ms > self.now.wall_ms {
            let due = &mut self.expiries.due;
            due.rests_until(id, &mut shard.expires, next_ms);
        }
    }

    /// Returns whether it was looked at.
    fn expire_shard(&mut self, id: ShardId, left: &mut usize) -> Result<bool, String> {
        let no_room = !self.log.has_room_for_replicas();
        if self.lacking().is_some() || !self.may_act(id) || self.terms.held.contains(&id) || no_room
        {
            return Ok(false);
        }
        let Some(shard) = self.all.get_mut(&id) else {
            return Ok(false);
        };
        let Some(protocol) = &shard.protocol else {
            return Ok(false);
        };
        if !shard.store.is_serving() {
            return Ok(false);
        }
        let epoch = protocol.state(self.now).epoch;
        let news = shard.store.take_news();
        shard.expiry.follow(epoch, shard.applied().index, news);
        if shard.expiry.is_due(self.now) {
            let from = &shard.expiry.from;
            let found = shard
                .store
                .expired(self.now.wall_ms, from, *left)
                .map_err(|e| e.to_string())?;
            let keys = deletions(shard, &found, self.now.wall_ms, &mut self.expiries.mutation)?;
            let more = found.more.is_some();
            if keys == 0 {
                shard.expiry.passed(found, self.now.wall_ms);
            } else if let Some(entry) = proposed(shard, &self.expiries.mutation, self.now) {
                shard.proposed(&entry).map_err(|e| e.to_string())?;
                self.unsettled.add(id);
                self.expiries.deleted += keys as u64;
                shard.expiry.passed(found, self.now.wall_ms);
                let index = entry.position.index;
                shard.expiry.in_flight.push_back((index, keys));
                shard.expiry.deleting += keys;
            }
            *left -= keys.min(*left);
            if more {
                // A look that met rows without a use is a turn's work too.
                *left = 0;
            }
        }
        let Some(place) = shard.expiry.dead.take() else {
            return Ok(true);
        };
        let (dead, next) = shard
            .store
            .to_purge(&place, CELLS_AN_ENTRY)
            .map_err(|e| e.to_string())?;
        purges(shard, &dead, &mut self.expiries.mutation)?;
        shard.expiry.dead = next;
        shard.expiry.more_dead |= dead.iter().any(|dead| !dead.all || !dead.fields.is_empty());
        if self.expiries.mutation.is_empty() {
            return Ok(true);
        }
        match proposed(shard, &self.expiries.mutation, self.now) {
            Some(entry) => {
                shard.purged(&entry).map_err(|e| e.to_string())?;
                self.unsettled.add(id);
                shard.expiry.purging = entry.position.index;
            }
            None => shard.expiry.dead = Some(place),
        }
        Ok(true)
    }
}

/// Makes deletions of the keys whose time is over at the tip too. Returns how many.
fn deletions<R: Rows, T>(
    shard: &Shard<R, T>,
    found: &Expired,
    now_ms: u64,
    mutation: &mut Mutation,
) -> Result<usize, String> {
    let view = at_tip(&shard.tip, &shard.store);
    mutation.clear();
    for key in &found.keys {
        let header = if planted::is(Bug::ExpireBelowTip) {
            Committed(&shard.store).header(key)
        } else {
            view.header(key)
        };
        if let Some(header) = header.map_err(|e| e.to_string())?
            && header.kind != KeyKind::Tombstone
            && header.is_expired(now_ms)
        {
            mutation.delete(key, &header);
        }
    }
    Ok(mutation.ops().into())
}

/// Makes purges of dead cells. What is written to these keys in flight stays: such a field is
/// left out, and a cell written later than the deletion is not dead when the entry is applied.
/// A key is done once all its dead cells go, unless it is deleted once more in flight.
fn purges<R: Rows, T>(
    shard: &Shard<R, T>,
    dead: &[Dead],
    mutation: &mut Mutation,
) -> Result<(), String> {
    let view = at_tip(&shard.tip, &shard.store);
    mutation.clear();
    for dead in dead {
        let written = |field: &&[u8]| shard.tip.touches(&dead.key, field);
        let fields = dead.fields.iter().map(|field| &field[..]);
        let fields: Vec<&[u8]> = fields.filter(|field| !written(field)).collect();
        if !fields.is_empty() {
            mutation.remove_fields(&dead.key, None, fields.into_iter());
        }
        if dead.all
            && dead.deleted != Stamp::ZERO
            && let Some(header) = view.header(&dead.key).map_err(|e| e.to_string())?
            && header.deleted == dead.deleted
        {
            mutation.finish_purge(&dead.key, &header);
        }
    }
    Ok(())
}

/// Proposes it; None if it can't be for the moment.
fn proposed<R: Rows, T>(shard: &mut Shard<R, T>, mutation: &Mutation, now: Now) -> Option<Entry> {
    let (ops, payload) = (mutation.ops(), mutation.bytes());
    let protocol = shard.protocol.as_mut()?;
    protocol
        .propose(EntryKind::Mutation, ops, payload, now)
        .ok()
}

#[cfg(test)]
mod tests;
