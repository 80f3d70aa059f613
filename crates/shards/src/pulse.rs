//! Shards at rest, at the node (docs/adr/0016-idle-shards): one pulse to each node with which any
//! rests, ten times a second, in place of a heartbeat and its acknowledgement for each of them.
//! What a pulse means, and why that is sound, is said in [`replication::rest`].
//!
//! ```text
//!  protocol ─ MayRest ─▶ Pair::ask                       protocol.may_rest ◀─ Pair::receive
//!  settled, and there is news ─▶ Pair::woke              settled, and it is another ─▶ Pair::leave
//!                 │            Pulse                                  ▲
//!                 └──────────────────────────────────────────────────▶│ protocol.vouched
//! ```
//!
//! Always: before a pulse is made every shard that something happened to is settled, and whoever
//! is settled and has anything new, or is no primary any more, has woken its replicas.

use crate::{door::Lane, message::Message, room::Shards, shard::Shard};
use model::{Boot, NodeId, Position, ShardId};
use replication::{
    protocol::{Role, State},
    rest::{Heard, Pair, Pulse, Vouched},
};
use std::{collections::BTreeMap, time::Duration};
use storage::store::{Rows, Stores};

/// How often a pulse is sent.
const PULSE_EVERY: Duration = Duration::from_millis(100);

/// A replica here that rests.
#[derive(Clone, Debug)]
pub(crate) struct AtRest {
    /// With the primary on this node …
    with: NodeId,
    /// … at this entry, its last.
    at: Position,
}

impl AtRest {
    /// Whether a replica that stands so is still the one that began to rest. If it is not, nothing
    /// is vouched for it any more, whether its primary's node has heard of that or not.
    fn still_is(&self, state: &State) -> bool {
        (state.role, state.epoch, state.tip) == (Role::Replica, self.at.epoch, self.at)
    }
}

/// The pairs with all other nodes.
#[derive(Debug, Default)]
pub(crate) struct Pulses {
    pairs: BTreeMap<NodeId, Pair>,
    next: Duration,
    /// How many were sent.
    pub(crate) sent: u64,
}

impl Pulses {
    /// How a replica stands, with what is vouched for it.
    pub(crate) fn vouch(&self, rest: Option<&AtRest>, mut state: State) -> State {
        if let Some(rest) = rest.filter(|rest| rest.still_is(&state))
            && let Some(vouched) = self.vouched(&rest.with)
        {
            state.fresh_at = state.fresh_at.max(Some(vouched.fresh_at));
            state.time_ms = vouched.time_ms;
        }
        state
    }

    fn vouched(&self, peer: &NodeId) -> Option<Vouched> {
        self.pairs.get(peer)?.vouched()
    }

    /// How old what those replicas show is that rest with a node.
    pub(crate) fn lags_ms(&self, now: Duration) -> Vec<(NodeId, u64)> {
        let pairs = self.pairs.iter().filter(|(_, pair)| pair.is_busy());
        let lags = pairs.filter_map(|(peer, pair)| {
            let lag = now.saturating_sub(pair.vouched()?.fresh_at);
            Some((peer.clone(), lag.as_millis() as u64))
        });
        lags.collect()
    }
}

impl<R: Rows, T> Shard<R, T> {
    /// With which node it rests, if it does.
    pub(crate) fn rests_with(&self, state: &State) -> Option<&NodeId> {
        let rest = self.rest.as_ref().filter(|rest| rest.still_is(state))?;
        Some(&rest.with)
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// `from` is in this boot now.
    pub fn pulses_linked(&mut self, from: &NodeId, boot: Boot) {
        self.settle_own();
        let own = self.config.boot.nonce;
        let pair = (self.pulses.pairs.entry(from.clone())).or_insert_with(|| Pair::new(own));
        let heard = pair.linked(boot.nonce);
        self.rests_heard(from, heard);
    }

    fn roused(&mut self, peer: &NodeId, id: ShardId) {
        if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
            protocol.roused(peer);
            self.unsettled.add(id);
        }
    }

    /// The replica of a shard on `peer` has all that the primary here has.
    pub(crate) fn may_rest(&mut self, id: ShardId, peer: &NodeId, at: Position) {
        if let Some(shard) = self.all.get_mut(&id)
            && let Some(pair) = self.pulses.pairs.get_mut(peer)
        {
            // It is settled at `at`: others that rest do so there.
            shard.rested_at = Some(at);
            pair.ask(id, at);
        }
    }

    /// A shard was settled: whoever rests and does not fit any more is woken, there and here.
    pub(crate) fn rests_settled(&mut self, id: ShardId) {
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        if shard.rested_at.is_none() && shard.rest.is_none() {
            return;
        }
        let state = shard.state(self.now);
        if let Some(at) = shard.rested_at {
            let same = state.as_ref().is_some_and(|state| {
                (state.role, state.epoch, state.tip) == (Role::Primary, at.epoch, at)
            });
            if !same {
                return self.wake_others(id);
            }
        }
        if let Some(rest) = &shard.rest
            && !state.as_ref().is_some_and(|state| rest.still_is(state))
        {
            let has_it = |s: State| {
                let history = shard.protocol.as_ref().map(|protocol| protocol.history());
                s.role == Role::Replica
                    && history.is_some_and(|history| history.contains(rest.at, s.tip.index))
            };
            let follows = state.is_some_and(has_it);
            self.end_rest(id, follows);
        }
    }

    /// There is something new in a shard, or its primary is here no more.
    pub(crate) fn wake_others(&mut self, id: ShardId) {
        if let Some(shard) = self.all.get_mut(&id) {
            shard.rested_at = None;
        }
        for pair in self.pulses.pairs.values_mut() {
            pair.woke(id);
        }
    }

    /// The replica here rests no more. What was vouched for it stays true if its log is the same,
    /// or the same and more.
    pub(crate) fn end_rest(&mut self, id: ShardId, follows: bool) {
        let Some(shard) = self.all.get_mut(&id) else {
            return;
        };
        if let Some(rest) = shard.rest.take()
            && let Some(pair) = self.pulses.pairs.get_mut(&rest.with)
            && let Some(vouched) = pair.leave(id)
            && follows
            && let Some(protocol) = &mut shard.protocol
        {
            protocol.vouched(vouched.fresh_at, vouched.time_ms);
        }
    }

    /// A shard is given up here: nothing of it rests.
    pub(crate) fn forget_rests(&mut self, id: ShardId) {
        self.wake_others(id);
        self.end_rest(id, false);
    }

    pub(crate) fn pulse_tick(&mut self) {
        let now = self.now;
        if now.monotonic < self.pulses.next {
            return;
        }
        self.pulses.next = now.monotonic + PULSE_EVERY;
        let busy = self.pulses.pairs.iter().filter(|(_, pair)| pair.is_busy());
        let busy = busy.map(|(id, _)| id).filter(|id| self.terms.is_linked(id));
        let busy: Vec<NodeId> = busy.cloned().collect();
        if busy.is_empty() {
            return;
        }
        self.settle_own();
        // Else something may have happened that nobody has heard of.
        if self.stopped || !self.unsettled.is_empty() {
            return;
        }
        let leased = self.is_leased();
        for peer in busy {
            let pair = self.pulses.pairs.get_mut(&peer);
            if let Some(pulse) = pair.and_then(|p| p.pulse(now.monotonic, now.wall_ms, leased)) {
                self.pulses.sent += 1;
                self.send(&peer, Lane::Control, Message::Pulse(pulse));
            }
        }
    }

    pub(crate) fn pulse_heard(&mut self, from: &NodeId, pulse: Pulse) {
        // What has come before it is judged first: what rests no more is not vouched for.
        self.settle_own();
        let sound = self.terms.holds_for_others && !self.log.is_stalled();
        let shards = &self.all;
        let holds = |id: ShardId, at: Position| {
            let protocol = shards.get(&id).and_then(|s| s.protocol.as_ref());
            sound && protocol.is_some_and(|s| s.may_rest(from, at))
        };
        let Some(pair) = self.pulses.pairs.get_mut(from) else {
            return;
        };
        let heard = pair.receive(pulse, holds);
        self.rests_heard(from, heard);
    }

    fn rests_heard(&mut self, from: &NodeId, heard: Heard) {
        for (id, at) in heard.resting {
            if let Some(shard) = self.all.get_mut(&id)
                && shard.rested_at == Some(at)
                && let Some(protocol) = &mut shard.protocol
            {
                protocol.rests(from, at);
                self.unsettled.add(id);
            }
        }
        for id in heard.left {
            self.roused(from, id);
        }
        for id in heard.ended {
            let Some(shard) = self.all.get_mut(&id) else {
                continue;
            };
            if shard.rest.take().is_some()
                && let Some(vouched) = heard.vouched
                && let Some(protocol) = &mut shard.protocol
            {
                protocol.vouched(vouched.fresh_at, vouched.time_ms);
                self.unsettled.add(id);
            }
        }
        for (id, at) in heard.began {
            if let Some(shard) = self.all.get_mut(&id) {
                let with = from.clone();
                shard.rest = Some(AtRest { with, at });
                self.touch(id);
            }
        }
    }
}
