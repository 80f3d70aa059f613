//! Which shards have what there is to do now and then, so that it is not looked for among all.
//!
//! Whatever happens to a shard ends in its being settled, or is said by [`Shards::touch`]; with the
//! next tick it is looked at once, and goes onto the lists of what it needs. Each list is
//! gone through by who does that work, and whom it finds to need nothing it takes off.

use crate::{Output, Shards};
use model::ShardId;
use replication::protocol::Role;
use std::{
    collections::{BTreeSet, btree_set},
    time::Duration,
};
use storage::store::Stores;

/// The lists.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Something happened to them since the last tick.
    list: Vec<ShardId>,
    /// Their stores are behind, or can't write in the background.
    pressed: BTreeSet<ShardId>,
    /// Their writes may be slowed down.
    slowed: BTreeSet<ShardId>,
    /// Replies, or reads, may wait there.
    waited_for: Vec<ShardId>,
    /// Their keys that expire may not be counted.
    uncounted: BTreeSet<ShardId>,
    /// What a cut of the log took may be missing there.
    cut: BTreeSet<ShardId>,
    /// They have stopped.
    stopped: BTreeSet<ShardId>,
    /// This node is their primary, but not, or not yet, in office.
    offices: BTreeSet<ShardId>,
}

impl Touched {
    /// Somebody waits at `id` for something.
    pub(crate) fn waits(&mut self, id: ShardId, listed: &mut bool) {
        if !std::mem::replace(listed, true) {
            self.waited_for.push(id);
        }
    }

    /// Where somebody waits, or did.
    pub(crate) fn waited_for(&self) -> Vec<ShardId> {
        self.waited_for.clone()
    }

    /// The same, to be listed again where somebody still does.
    pub(crate) fn take_waited_for(&mut self) -> Vec<ShardId> {
        std::mem::take(&mut self.waited_for)
    }

    /// Somebody still waits at `id`, which was taken off the list.
    pub(crate) fn still_waits(&mut self, id: ShardId) {
        self.waited_for.push(id);
    }

    /// Writes of a shard are slowed down.
    pub(crate) fn slows(&mut self, id: ShardId) {
        self.slowed.insert(id);
    }

    /// Whose keys that expire may not be counted.
    pub(crate) fn uncounted(&self) -> BTreeSet<ShardId> {
        self.uncounted.clone()
    }

    pub(crate) fn counted(&mut self, id: ShardId) {
        self.uncounted.remove(&id);
    }

    /// Goes through those that a cut of the log may have taken something from: whether it still may.
    pub(crate) fn retain_cut(&mut self, is_cut: impl FnMut(&ShardId) -> bool) {
        self.cut.retain(is_cut);
    }

    pub(crate) fn stopped(&self) -> btree_set::Iter<'_, ShardId> {
        self.stopped.iter()
    }

    /// The shards whose offices are to be taken up.
    pub(crate) fn offices(&self) -> Vec<ShardId> {
        self.offices.iter().copied().collect()
    }

    pub(crate) fn has_office(&mut self, id: ShardId) {
        self.offices.remove(&id);
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Something happened to a shard.
    pub(crate) fn touch(&mut self, id: ShardId) {
        if let Some(shard) = self.all.get_mut(&id)
            && !std::mem::replace(&mut shard.touched, true)
        {
            self.touched.list.push(id);
        }
    }

    /// Puts those that something happened to onto the lists of what they need.
    pub(crate) fn look_at_touched(&mut self) {
        for id in std::mem::take(&mut self.touched.list) {
            let me = &self.config.id;
            let facts = self.catalog.shards.get(&id);
            let is_own = facts.is_some_and(|facts| facts.primary == *me);
            let Some(shard) = self.all.get_mut(&id) else {
                continue;
            };
            shard.touched = false;
            self.out.put(Output::Changed(id));
            let lists = &mut self.touched;
            let mut list = |list: fn(&mut Touched) -> &mut BTreeSet<ShardId>, on: bool| {
                let list = list(lists);
                if on {
                    list.insert(id);
                } else {
                    list.remove(&id);
                }
            };
            list(
                |l| &mut l.pressed,
                shard.pressure.stop || shard.upkeep_error.is_some(),
            );
            list(|l| &mut l.uncounted, shard.store.expiring().is_none());
            list(|l| &mut l.cut, shard.cut_at.is_some());
            list(|l| &mut l.stopped, shard.stopped.is_some());
            list(|l| &mut l.offices, is_own);
            let primary = shard
                .state(self.now)
                .is_some_and(|s| s.role == Role::Primary);
            if primary {
                self.expiries.look(id);
            }
        }
    }

    /// Stores that are behind get on by themselves; it is seen here that they did.
    pub(crate) fn maintain_pressed(&mut self) {
        let now = self.now;
        let lists = &mut self.touched;
        lists.pressed.retain(|id| {
            let Some(shard) = self.all.get_mut(id) else {
                return false;
            };
            shard.maintain(now);
            if shard.not_before > now.monotonic {
                lists.slowed.insert(*id);
            }
            shard.pressure.stop || shard.upkeep_error.is_some()
        });
        let shards = &self.all;
        (lists.slowed).retain(|id| shards.get(id).is_some_and(|s| s.not_before > now.monotonic));
    }

    /// When the first shard takes writes again that has slowed them down.
    pub fn slowed_until(&self) -> Option<Duration> {
        let shards = self.touched.slowed.iter();
        let until = shards.filter_map(|id| Some(self.all.get(id)?.not_before));
        until.filter(|at| *at > self.now.monotonic).min()
    }
}
