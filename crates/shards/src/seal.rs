//! A replica that is sealed (docs/adr/0011-failover): from the record in the log on, also after
//! a restart, it takes part in no epoch before the seal's.
//!
//! Always: a seal is answered once its record is durable, with a log that no older epoch can
//! lengthen any more.

use crate::{Output, Shards, shard};
use cluster::message::Sealed;
use model::{
    Epoch, NodeId, Position, ShardId,
    planted::{self, Bug},
};
use replication::protocol::{Order, Role};
use std::collections::VecDeque;
use storage::{log::Lsn, store::Stores};

/// A seal whose record is on its way to the disk.
#[derive(Debug)]
pub(crate) struct Sealing {
    /// Where the record ends.
    lsn: Lsn,
    shard: ShardId,
    epoch: Epoch,
    /// Who waits for the answer.
    to: NodeId,
}

/// Seals that are being given.
#[derive(Debug, Default)]
pub(crate) struct Seals {
    /// Their records are not durable yet; in the order of the log.
    logging: VecDeque<Sealing>,
    /// The shard that is just giving its office away.
    gives_up: Option<ShardId>,
}

impl Seals {
    /// Whether a shard is just giving its office away.
    pub(crate) fn gives_up(&self, id: ShardId) -> bool {
        self.gives_up == Some(id)
    }

    /// The next one whose record is durable, the log being so up to there.
    fn pop(&mut self, durable: Lsn) -> Option<Sealing> {
        self.logging.front().filter(|first| first.lsn <= durable)?;
        self.logging.pop_front()
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// A control leader is about to name another primary in `epoch`.
    pub fn seal_asked(&mut self, from: &NodeId, id: ShardId, epoch: Epoch) {
        if !self.terms.is_clock_settled {
            return; // It is asked again; and heard once it knows what time it is.
        }
        let now = self.now;
        let gives_up = self.terms.held.contains(&id) && self.may_act(id);
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        if shard.is_elected
            || shard.stopped.is_some()
            || !shard.store.is_serving()
            || self.rewinds.is_past_return(id)
        {
            return;
        }
        let Some(protocol) = &mut shard.protocol else {
            return;
        };
        let state = protocol.state(now);
        tracing::debug!(shard = id.0, %epoch, ?state, "to be sealed");
        // A learner is no member: what it has must not be counted on.
        if state.role == Role::Learner || epoch < state.epoch {
            return;
        }
        self.out.put(Output::WantLease);
        if planted::is(Bug::PromoteWithoutSealing) {
            return self.answer_sealed(from, id, epoch);
        }
        protocol.order(Order::Seal(epoch), now);
        self.unsettled.add(id);
        self.seals.gives_up = gives_up.then_some(id);
        self.settle_own();
        self.seals.gives_up = None;
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        if shard.sealed.is_some_and(|(sealed, _)| sealed >= epoch) {
            // Once more: if it is on its way to the disk it is answered then.
            let durable = self.log.get().acknowledgeable();
            if shard.sealed.is_some_and(|(_, at)| at <= durable) {
                self.answer_sealed(from, id, epoch);
            }
            return;
        }
        match self.append_shard(id, shard::SEAL, &epoch.0.to_le_bytes()) {
            Ok(lsn) => {
                if let Some(shard) = self.all.get_mut(&id) {
                    shard.sealed = Some((epoch, lsn));
                }
                self.seals.logging.push_back(Sealing {
                    lsn,
                    shard: id,
                    epoch,
                    to: from.clone(),
                });
            }
            Err(error) => self.stop(format!("the log takes nothing more: {error}")),
        }
    }

    /// The log is durable up to `durable`: seals among it are answered.
    pub(crate) fn seals_durable(&mut self, durable: Lsn) {
        while let Some(sealing) = self.seals.pop(durable) {
            self.answer_sealed(&sealing.to, sealing.shard, sealing.epoch);
        }
    }

    fn answer_sealed(&mut self, to: &NodeId, id: ShardId, epoch: Epoch) {
        let Some(last) = self.durable_end(id, epoch) else {
            return;
        };
        let boot = self.config.boot;
        let sealed = Sealed {
            shard: id,
            epoch,
            disk: boot.disk,
            process: boot.process,
            last,
            intact_since: boot.intact_since,
            whole: self.all.get(&id).is_some_and(|s| s.cut_at.is_none()),
            level: boot.intact_since < boot.process || self.was_level(id),
        };
        let to = to.clone();
        self.out.put(Output::Sealed { to, sealed });
    }

    /// Whether the replica here held all that its primary had committed, once in this process.
    fn was_level(&self, id: ShardId) -> bool {
        let state = self.all.get(&id).and_then(|s| s.state(self.now));
        state.is_some_and(|state| state.fresh_at.is_some())
    }

    /// The last entry, if the log is as a seal for `epoch` left it: everything that was in it
    /// is durable with the record, and nothing of an older epoch came behind.
    fn durable_end(&self, id: ShardId, epoch: Epoch) -> Option<Position> {
        let shard = self.all.get(&id)?;
        let state = shard.state(self.now)?;
        let sealed = state.epoch == epoch || planted::is(Bug::PromoteWithoutSealing);
        (state.role != Role::Learner && sealed && state.tip.epoch < epoch).then_some(state.tip)
    }
}
