//! A node that is told to end gives away its offices first, so that nobody waits for a failover
//! and no outcome is unknown (docs/adr/0011-failover, "A planned end").
//!
//! ```text
//!       the shard's primary, ending                      the control leader
//!   Serves ── a member that could lead is nearly level
//!     ▲  ▼
//!    Holds: no write is taken, and what came waits
//!     ▲  │ all is committed, and one such member has it durably
//!     │  ▼
//!    Asks ── HandOver, again and again ───────────────▶ Sealing, this primary too
//!        │ sealed: it serves nothing more                  │ heard this primary, and another
//!        ▼                                                 ▼
//!      Follows ◀──────────────────────────────────────── Named
//! ```
//!
//! Always:
//! - A primary asks only while nothing is under way: its seal leaves no outcome unknown.
//! - Another is named without waiting for its lease only if this very process has answered the
//!   seal. Before that answer it said all that it had answered as primary, and since the seal it
//!   answers nothing.
//! - Who is named holds all that the primary held. If nobody else does, the primary is named
//!   again, and serves until it ends.
//! - All of this is bounded: writes wait for [`HOLD_MAX`] at most before they are taken again,
//!   and the host gives the whole up in the end and stops all the same.

use crate::{
    message::Message,
    node::{Lane, Node},
};
use control::failover;
use model::{Epoch, NodeId, ShardId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::store::Stores;

/// How long writes wait before an attempt is given up: less than what is refused in the end has
/// waited, at this node or another.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// How long until the next one.
const REST: Duration = Duration::from_secs(1);
/// With how many entries still on their way a member counts as nearly level.
const NEARLY: u64 = 4096;
/// How often the control leader is asked.
const ASK_EVERY: Duration = Duration::from_millis(60);
/// How much longer than it takes others to send, and to be answered, a node is there that has
/// handed over.
const LINGER: Duration = Duration::from_millis(100);
/// For how long a question counts.
const ASKED_FOR: Duration = Duration::from_millis(300);

/// A node that ends.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Whether others have sent commands here as to a primary.
    had_offices: bool,
    /// Since when there is nothing to hand over any more, and all others know.
    known_at: Option<Duration>,
    shards: BTreeMap<ShardId, Holding>,
}

/// How far a shard is of which this node is primary.
#[derive(Clone, Copy, Debug)]
struct Holding {
    /// The epoch that is to end.
    epoch: Epoch,
    /// Since when writes wait, or, in an attempt that was given up, waited.
    since: Duration,
    given_up: bool,
    asked_at: Option<Duration>,
}

/// What primaries have asked a control leader for: the epoch that is to end, and when.
#[derive(Debug, Default)]
pub(crate) struct HandOvers(BTreeMap<ShardId, (Epoch, Duration)>);

impl HandOvers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this shard is to be handed over. `is_sealed`: its primary has answered, and asks
    /// no more.
    pub(crate) fn is_wanted(
        &self,
        shard: ShardId,
        epoch: Epoch,
        is_sealed: bool,
        now: Duration,
    ) -> bool {
        let asked = self.0.get(&shard).filter(|(ends, _)| *ends == epoch);
        asked.is_some_and(|(_, at)| is_sealed || now.saturating_sub(*at) < ASKED_FOR)
    }

    /// Forgets what was done. `epoch_of`: that of a shard that is there.
    pub(crate) fn retain(&mut self, epoch_of: impl Fn(ShardId) -> Option<Epoch>) {
        self.0
            .retain(|id, (epoch, _)| epoch_of(*id) == Some(*epoch));
    }
}

impl<S: Stores> Node<S> {
    /// This node is to end: from now on it gives away its offices.
    pub fn end(&mut self, now: model::Now) {
        self.arrives(now);
        if self.ending.is_none() {
            tracing::info!(
                offices = self.offices(),
                "the node is to end, and hands over"
            );
            self.ending = Some(Ending {
                had_offices: self.offices() > 0,
                ..Ending::default()
            });
            self.report_soon();
            self.hand_over_tick();
        }
    }

    /// Whether there is nothing left that this node could give away, and what others sent here
    /// before they knew is answered.
    pub fn has_handed_over(&self) -> bool {
        let Some(ending) = &self.ending else {
            return false;
        };
        let stays = self.peers.catalogs_of_who_stays(self.now.monotonic).next();
        let rest = match ending.had_offices && stays.is_some() {
            true => self.clock.longest_round_trip() * 2 + LINGER,
            false => Duration::ZERO,
        };
        let known = |at| self.now.monotonic.saturating_sub(at) >= rest;
        ending.known_at.is_some_and(known)
    }

    fn is_known_to_have_handed_over(&self) -> bool {
        let leads = self.control.leads().is_some() && self.could_another_lead_the_group();
        let version = self.catalog.last_promotion;
        let mut catalogs = self.peers.catalogs_of_who_stays(self.now.monotonic);
        !leads && self.to_hand_over().next().is_none() && catalogs.all(|known| known >= version)
    }

    /// Whether a client waits for an answer.
    pub fn owes_answers(&self) -> bool {
        (self.sessions.values()).any(|session| !session.is_idle() || !session.out.is_empty())
    }

    /// Of how many shards this node is primary.
    pub(crate) fn offices(&self) -> usize {
        let shards = self.catalog.shards.values();
        shards.filter(|s| s.primary == self.config.id).count()
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether writes of a shard wait because it is about to be handed over.
    pub(crate) fn is_held(&self, shard: ShardId) -> bool {
        let ending = self.ending.as_ref();
        ending.is_some_and(|e| e.shards.get(&shard).is_some_and(|h| !h.given_up))
    }

    /// Who ends, as far as is known here.
    pub(crate) fn endings(&self) -> BTreeSet<NodeId> {
        let mut ending = self.peers.ending();
        ending.extend(self.is_ending().then(|| self.config.id.clone()));
        ending
    }

    fn could_another_lead_the_group(&self) -> bool {
        let now = self.now.monotonic;
        let voters = self.control.voters().iter();
        voters
            .filter(|voter| **voter != self.config.id && !self.peers.is_ending(voter))
            .any(|voter| self.peers.is_up(voter, now))
    }

    /// The shards whose office another could take.
    fn to_hand_over(&self) -> impl Iterator<Item = ShardId> {
        let own = |(_, facts): &(&ShardId, &model::catalog::Shard)| facts.primary == self.config.id;
        let shards = self.catalog.shards.iter().filter(own).map(|(id, _)| *id);
        shards.filter(|id| !self.successors(*id).is_empty())
    }

    /// The members of a shard that could lead it in this node's place.
    fn successors(&self, id: ShardId) -> Vec<NodeId> {
        let Some(facts) = self.catalog.shards.get(&id) else {
            return Vec::new();
        };
        let Some(keyspace) = self.catalog.keyspaces.get(&facts.keyspace) else {
            return Vec::new();
        };
        let now = self.now.monotonic;
        let others = facts.members().filter(|m| m.node != self.config.id);
        others
            .filter(|m| m.disk.is_some() && failover::may_lead_from(keyspace, &m.region))
            .map(|m| m.node.clone())
            .filter(|node| self.peers.is_up(node, now) && !self.peers.is_ending(node))
            .filter(|node| !self.peers.is_stalled(node) && !self.peers.has_stopped(node, id))
            .collect()
    }

    pub(crate) fn hand_over_tick(&mut self) {
        let Some(mut ending) = self.ending.take() else {
            return;
        };
        let catalog = self.catalog.clone();
        let now = self.now.monotonic;
        let me = &self.config.id;
        ending.shards.retain(|id, holding| {
            let facts = catalog.shards.get(id);
            facts.is_some_and(|f| f.primary == *me && f.epoch == holding.epoch)
        });
        let own = catalog.shards.iter().filter(|(_, f)| f.primary == *me);
        let mut asks = Vec::new();
        for (id, facts) in own {
            self.hold_back(&mut ending, *id, facts.epoch);
            if let Some(holding) = ending.shards.get_mut(id)
                && self.is_to_ask(*id, holding)
                && holding
                    .asked_at
                    .is_none_or(|at| now.saturating_sub(at) >= ASK_EVERY)
            {
                holding.asked_at = Some(now);
                asks.push((*id, facts.epoch));
            }
        }
        let known = self.is_known_to_have_handed_over();
        ending.known_at = known.then(|| ending.known_at.unwrap_or(now));
        self.ending = Some(ending);
        for (shard, epoch) in asks {
            let me = self.config.id.clone();
            match self.control.leader() {
                Some(leader) if leader == me => self.hand_over_asked(&me, shard, epoch),
                Some(leader) => {
                    let message = Message::HandOver { shard, epoch };
                    self.send(&leader, Lane::Control, &message);
                }
                None => {}
            }
        }
    }

    /// Begins to let writes of a shard wait, or gives that up.
    fn hold_back(&self, ending: &mut Ending, id: ShardId, epoch: Epoch) {
        let now = self.now.monotonic;
        let is_primary = self.may_act(id);
        match ending.shards.get_mut(&id) {
            Some(holding) if holding.given_up => {
                let rests = now.saturating_sub(holding.since) < HOLD_MAX + REST;
                if !rests {
                    ending.shards.remove(&id);
                }
            }
            Some(holding) => {
                // Once it is sealed nothing more is taken anyway.
                holding.given_up = is_primary && now.saturating_sub(holding.since) >= HOLD_MAX;
            }
            None if is_primary && self.is_level(id, NEARLY) => {
                let holding = Holding {
                    epoch,
                    since: now,
                    given_up: false,
                    asked_at: None,
                };
                ending.shards.insert(id, holding);
            }
            None => {}
        }
    }

    /// Whether the control leader is to be asked: all is done and held by another, or this
    /// replica is sealed and nobody was named yet.
    fn is_to_ask(&self, id: ShardId, holding: &Holding) -> bool {
        let Some(shard) = self.shards.get(&id) else {
            return false;
        };
        let Some(state) = shard.state(self.now) else {
            return false;
        };
        let done = state.commit == state.tip.index && shard.waiting.is_empty();
        !holding.given_up && (state.epoch > holding.epoch || done && self.is_level(id, 0))
    }

    /// Whether somebody who could lead lacks at most so many of this primary's entries.
    fn is_level(&self, id: ShardId, at_most: u64) -> bool {
        let successors = self.successors(id);
        let shard = self.shards.get(&id);
        let Some(strategy) = shard.and_then(|s| s.strategy.as_ref()) else {
            return false;
        };
        let tip = strategy.state(self.now).tip.index;
        let members = strategy.members();
        let mut able = members.iter().filter(|m| successors.contains(&m.node));
        able.any(|m| tip.saturating_sub(m.matched) <= at_most)
    }

    /// At the control leader: `from`, which ends, asks for another primary in its place.
    pub(crate) fn hand_over_asked(&mut self, from: &NodeId, shard: ShardId, epoch: Epoch) {
        let now = self.now.monotonic;
        let facts = self.catalog.shards.get(&shard);
        if facts.is_none_or(|facts| facts.primary != *from || facts.epoch != epoch) {
            return;
        }
        if let Some(leading) = &mut self.leading {
            leading.hand_overs.0.insert(shard, (epoch, now));
            self.look_after_now(shard);
        }
    }
}
