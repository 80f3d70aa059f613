//! A copy whose place another node has taken goes; but what it holds and the shard's primary
//! does not, a failover lost, and nobody else may have it: that is saved first
//! (docs/adr/0010-rewind).
//!
//! ```text
//! replaced ─▶ HistoryAsk ─▶ its primary       nothing is served here any more
//!                  ◀─ History ─               where the logs part
//!          ─▶ Saving (`rewind`) ─▶ dropped
//! ```
//! Until the primary has answered the copy stays; a restart asks again. A place in the same
//! shard that is given to this node meanwhile is taken once the former copy is gone. A copy whose
//! store is damaged goes the same way, and is filled anew in the end (`damage`).
//!
//! A copy is dropped in two steps, once nothing in it is left to save: the log is told that all that
//! it holds of the shard is forgotten (RESET), and once that is durable the store is destroyed. So a
//! start finds both, or none: what the log still holds never follows upon a store that is gone, nor
//! upon one that came later.

use crate::{
    door::Lane,
    message::{History, Message},
    rewind::AGAIN,
    room::Shards,
    shard,
};
use model::{EpochHistory, NodeId, Position, ShardId};
use replication::protocol::Role;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use storage::{log::Lsn, store::Stores};

/// Copies that go.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// Something in them may be left to save: when their primary was asked for its log.
    asked: BTreeMap<ShardId, Duration>,
    /// Their stores go once the log is durable up to there.
    dropping: VecDeque<(Lsn, ShardId)>,
}

impl Leaving {
    /// How many copies are here whose place another node has.
    pub(crate) fn count(&self) -> usize {
        self.asked.len()
    }

    /// Whether something of a former copy may be left to save.
    pub(crate) fn is_to_save(&self, id: ShardId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Whether a former copy of a shard is still there: none is opened in its place.
    pub(crate) fn has(&self, id: ShardId) -> bool {
        self.is_to_save(id) || self.dropping.iter().any(|(_, dropped)| *dropped == id)
    }

    /// Nothing of it is left to save.
    pub(crate) fn saved(&mut self, id: ShardId) {
        self.asked.remove(&id);
    }

    /// The next whose store goes, the log being durable up to there.
    fn pop(&mut self, durable: Lsn) -> Option<ShardId> {
        self.dropping.front().filter(|(lsn, _)| *lsn <= durable)?;
        self.dropping.pop_front().map(|(_, id)| id)
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Another node holds what this one held.
    pub(crate) fn leave_shard(&mut self, id: ShardId) {
        if self.leaving.is_to_save(id) {
            return;
        }
        let facts = self.catalog.shards.get(&id);
        if facts.is_some_and(|facts| self.catalog.is_elected(facts)) {
            // Whatever was acknowledged is in the log of a majority of who is in the group now.
            return self.drop_shard(id);
        }
        let past_return = self.rewinds.is_past_return(id);
        let now = self.now;
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        let recovered = &mut shard.recovered;
        if let Some(protocol) = &shard.protocol {
            let state = protocol.state(now);
            recovered.history = protocol.history().clone();
            recovered.last = state.tip;
            recovered.commit = state.commit;
        }
        // What is no state that ever was has had its own tail saved before it became that; and
        // of a replica that has stopped the log can't be believed, unless it is its store that is
        // damaged.
        let gone = past_return || !shard.store.is_serving() || shard.stopped.is_some();
        if recovered.last.index == 0 || (gone && shard.damaged.is_none()) {
            return self.drop_shard(id);
        }
        self.retire(id, "another node holds its shard now");
        if let Some(shard) = self.all.get_mut(&id) {
            shard.protocol = None;
            shard.tip.reset();
        }
        self.ask_history(id);
    }

    pub(crate) fn ask_history(&mut self, id: ShardId) {
        self.leaving.asked.insert(id, self.now.monotonic);
        let primary = self.catalog.shards.get(&id).map(|s| s.primary.clone());
        if let Some(primary) = primary.filter(|p| *p != self.config.id) {
            self.send(&primary, Lane::Ordinary, Message::HistoryAsk { shard: id });
        }
    }

    /// A node that has lost its place wants to know whether it has what is in no other log.
    pub(crate) fn history_asked(&mut self, from: &NodeId, id: ShardId) {
        let Some(protocol) = self.all.get(&id).and_then(|s| s.protocol.as_ref()) else {
            return;
        };
        let state = protocol.state(self.now);
        if state.role != Role::Primary {
            return;
        }
        let history = History {
            shard: id,
            epoch: state.epoch,
            starts: protocol.history().starts().to_vec(),
            last: state.tip.index,
        };
        self.send(from, Lane::Ordinary, Message::History(history));
    }

    /// The log of the shard's primary.
    pub(crate) fn history_told(&mut self, from: &NodeId, told: History) {
        let id = told.shard;
        let facts = self.catalog.shards.get(&id);
        let current = facts.is_some_and(|f| f.primary == *from && f.epoch == told.epoch);
        if !current || !self.leaving.is_to_save(id) || self.rewinds.is_taking(id) {
            return;
        }
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        let mut theirs = EpochHistory::default();
        for (epoch, first) in told.starts {
            if !theirs.note_told(epoch, first) {
                tracing::warn!(shard = id.0, %from, "a history that no log has was ignored");
                return;
            }
        }
        let own = &shard.recovered;
        let mut common = own.history.common_with(own.last.index, &theirs, told.last);
        if shard.damaged.is_some() {
            // What the log has released was flushed once, and is not known any more.
            common = common.max(shard.log_index.first.saturating_sub(1));
            shard.fill_upto = Some(Position {
                epoch: theirs.epoch_at(told.last),
                index: told.last,
            });
        }
        if common >= own.last.index {
            return self.nothing_left_to_save(id);
        }
        let common = Position {
            epoch: own.history.epoch_at(common),
            index: common,
        };
        self.save_before_leaving(id, from, common);
    }

    pub(crate) fn leaving_tick(&mut self) {
        let now = self.now.monotonic;
        let late = |(id, at): &(&ShardId, &Duration)| {
            now.saturating_sub(**at) >= AGAIN && !self.rewinds.is_taking(**id)
        };
        let asked = self.leaving.asked.iter();
        let late: Vec<ShardId> = asked.filter(late).map(|(id, _)| *id).collect();
        for id in late {
            self.ask_history(id);
        }
    }

    /// Its keyspace was dropped, or another node has taken this one's place and nothing is left
    /// to save.
    pub(crate) fn drop_shard(&mut self, id: ShardId) {
        let why = match self.catalog.shards.contains_key(&id) {
            true => "another node holds its shard now",
            false => "the keyspace was dropped",
        };
        self.retire(id, why);
        self.leaving.saved(id);
        self.all.remove(&id);
        match self.append_shard(id, shard::RESET, &0u64.to_le_bytes()) {
            Ok(lsn) => self.leaving.dropping.push_back((lsn, id)),
            Err(error) => self.stop(format!("the log takes nothing more: {error}")),
        }
    }

    /// The log is durable up to `durable`: the stores that it forgets go.
    pub(crate) fn drops_durable(&mut self, durable: Lsn) {
        while let Some(id) = self.leaving.pop(durable) {
            if let Err(error) = self.stores.destroy(id) {
                tracing::error!(shard = id.0, %error, "the data of a dropped shard could not be removed");
            }
            // It may have been given a place in the same shard meanwhile.
            let catalog = self.catalog.clone();
            self.readopt(id, &catalog);
        }
    }
}
