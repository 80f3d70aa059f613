//! A replica whose store is damaged: it hands over, saves what only its log has, and is filled
//! anew from the shard's primary (docs/adr/0004-the-store).
//!
//! ```text
//!  the store can't be opened ─▶ set aside, an empty one marked so in its place ─┐
//!  a read, a compaction or a scrub meets damage ─▶ the replica stops ───────────┤
//!                                                                              ▼
//!      Damaged ── this node is primary: another is named (`failover`: its replica has stopped)
//!         │ another is primary
//!         ▼
//!      Leaving ── HistoryAsk, and the tail that it lacks is saved (`leaving`, `rewind::save`)
//!         │
//!         ▼
//!      Filling ── set aside if it isn't, an empty store that says that it is being filled; a
//!                 learner until it holds what its primary held when it answered (`copy`)
//! ```
//!
//! Always:
//! - A damaged replica is not heard in a failover and acknowledges nothing: it has stopped, and
//!   then it is a learner. The seal that it gave is kept.
//! - It may have acknowledged what its primary still counts on it for: that is no more than the
//!   primary's log held when it answered, and before it holds so much it doesn't count.
//! - An empty store never counts as one that nothing was written to: the mark that it is being
//!   filled is in it from its first moment on, whatever a crash leaves.
//! - Nothing is deleted: the damaged files stay where a person finds them.
//! - A primary hands over only to somebody who could lead by what is known now; if there is
//!   nobody, what can still be read is answered, and the rest is an error.

use crate::{Output, Shards, shard::Shard};
use model::{Epoch, Position, ShardId};
use std::collections::BTreeSet;
use storage::store::{CacheBudget, Rows, ShardStore, StoreError, Stores};

/// Stores that are asked at a time whether damage was met in them.
const DAMAGE_A_TURN: usize = 128;

/// Opens a shard's store. One that is damaged is set aside.
pub(crate) fn open_shard<S: Stores, T>(
    stores: &S,
    id: ShardId,
    cache: CacheBudget,
) -> Result<Shard<S::Rows, T>, StoreError> {
    let opened = stores
        .open(id)
        .and_then(|rows| ShardStore::open(rows, cache));
    let store = match opened {
        Err(error) if error.is_damage() => {
            tracing::error!(shard = id.0, %error, "a store is damaged: it is set aside");
            set_aside(stores, id, &error.to_string(), cache)?
        }
        opened => opened?,
    };
    Ok(Shard::new(id, store))
}

fn set_aside<S: Stores>(
    stores: &S,
    id: ShardId,
    damaged: &str,
    cache: CacheBudget,
) -> Result<ShardStore<S::Rows>, StoreError> {
    let rows = ShardStore::<S::Rows>::in_place_of_damaged(damaged);
    ShardStore::open(stores.replace(id, rows)?, cache)
}

impl<R: Rows, T> Shard<R, T> {
    /// Its store is damaged: it stops until it is filled.
    fn note_damage(&mut self, what: String, now: model::Now) {
        if let Some(protocol) = &self.protocol {
            // What its log has, for the saving of what others lack.
            let state = protocol.state(now);
            self.recovered.history = protocol.history().clone();
            self.recovered.last = state.tip;
            self.recovered.commit = state.commit;
            self.recovered.sealed = self.recovered.sealed.max(state.epoch);
        }
        self.damaged = Some(what);
    }
}

/// The look for damaged stores.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    /// Which is asked next.
    next: ShardId,
    /// Whose damage is borne, since nobody else could lead, and was told.
    borne: BTreeSet<ShardId>,
}

impl<S: Stores, T> Shards<S, T> {
    /// How many shards here have a damaged store.
    pub fn damaged_count(&self) -> usize {
        let damaged = |s: &&Shard<S::Rows, T>| s.damaged.is_some() || s.store.damage().is_some();
        self.all.values().filter(damaged).count()
    }

    /// Now and then: stores that were found to be damaged since.
    pub(crate) fn damage_upkeep(&mut self) {
        let known = |shard: &Shard<S::Rows, T>| {
            let what = shard.store.damage().filter(|_| shard.damaged.is_none())?;
            Some((shard.id, what.to_owned()))
        };
        // A part of them at a time, in turn.
        let from = self.damages.next;
        let some: Vec<&Shard<S::Rows, T>> = (self.all.range(from..).map(|(_, s)| s))
            .take(DAMAGE_A_TURN + 1)
            .collect();
        let next = some.get(DAMAGE_A_TURN).map_or(ShardId(0), |s| s.id);
        let found: Vec<_> = some
            .into_iter()
            .take(DAMAGE_A_TURN)
            .filter_map(known)
            .collect();
        self.damages.next = next;
        for (id, what) in found {
            self.out.put(Output::Damaged { shard: id, what });
        }
    }

    /// `could`: somebody else would be named if this were a primary, and gone.
    pub fn store_damaged(&mut self, id: ShardId, what: String, could: bool) {
        let Some(facts) = self.catalog.shards.get(&id) else {
            return; // It is known once there is a catalog.
        };
        if facts.primary == self.config.id && !could {
            if self.damages.borne.insert(id) {
                tracing::error!(shard = id.0, %what, "the store of a primary is damaged and no other replica could take over now: what can be read of it is answered");
            }
            return;
        }
        let now = self.now;
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        shard.note_damage(what.clone(), now);
        if shard.stopped.is_none() {
            self.stop_shard(id, what);
        }
        self.retire(id, "this replica's store is damaged");
        self.heal(id);
        self.out.put(Output::ReportSoon);
    }

    /// A damaged replica goes on towards being filled, if another is primary.
    pub(crate) fn heal(&mut self, id: ShardId) {
        let Some(facts) = self.catalog.shards.get(&id) else {
            return;
        };
        let is_damaged = self.all.get(&id).is_some_and(|s| s.damaged.is_some());
        let may_fill = facts.primary != self.config.id && !self.leaving.is_to_save(id);
        if is_damaged && may_fill {
            self.ask_history(id);
        }
    }

    /// Nothing of this copy is left to save: it goes, or, if only its store is damaged, it is filled
    /// anew.
    pub(crate) fn nothing_left_to_save(&mut self, id: ShardId) {
        let me = &self.config.id;
        let is_held = (self.catalog.shards.get(&id)).is_some_and(|s| s.has_replica(me));
        let upto = self.all.get(&id).and_then(|s| s.fill_upto);
        match upto.filter(|_| is_held) {
            Some(upto) => self.fill_damaged(id, upto),
            None => self.drop_shard(id),
        }
    }

    /// Puts an empty store that is being filled in the place of a damaged one.
    fn fill_damaged(&mut self, id: ShardId, upto: Position) {
        self.retire(id, "this replica's store is damaged");
        self.leaving.saved(id);
        let Some(shard) = self.all.remove(&id) else {
            return;
        };
        let (sealed, cut_at, note) = (shard.sealed, shard.cut_at, shard.note.clone());
        let owes = shard.recovered.owes.max(shard.recovered.last);
        let floor = sealed.map_or(Epoch(0), |(epoch, _)| epoch);
        let floor = floor.max(shard.recovered.sealed);
        let what = shard.damaged.clone().unwrap_or_default();
        // Its handle goes before another is opened.
        let is_aside = shard.store.lost_to().is_some();
        let store = match is_aside {
            true => Ok(shard.store),
            false => {
                drop(shard);
                set_aside(&self.stores, id, &what, self.caches.all())
            }
        };
        let filled = store.and_then(|mut store| store.begin_install_upto(upto).map(|()| store));
        match filled {
            Ok(store) => {
                let mut shard = Shard::new(id, store);
                (shard.sealed, shard.cut_at) = (sealed, cut_at);
                shard.recovered.note = note.as_ref().map(|(bytes, _)| bytes.clone());
                shard.note = note;
                shard.recovered.owes = owes;
                shard.recovered.sealed = floor;
                self.all.insert(id, shard);
            }
            // Opened without its log it would be less than it was, and count.
            Err(error) => return self.stop(error.to_string()),
        }
        self.caches.share_anew();
        self.share_cache();
        let catalog = self.catalog.clone();
        self.readopt(id, &catalog);
    }
}
