//! A node that is told to end gives away its offices first, so that nobody waits for a failover
//! and no outcome is unknown (docs/adr/0011-failover, "A planned end"). One whose wall clock is
//! wrong does the same, as long as it is (docs/adr/0006-positions, "The time that a node keeps").
//!
//! ```text
//!       the shard's primary, handing over                the control leader
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

use crate::{cluster::Cluster, host::Host, message::Message};
use control::failover;
use model::{Epoch, NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// How long writes wait before an attempt is given up: less than what is refused in the end has
/// waited, at this node or another.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// With how many entries still on their way a member counts as nearly level.
const NEARLY: u64 = 4096;
/// How often the control leader is asked.
const ASK_EVERY: Duration = Duration::from_millis(60);
/// How much longer than it takes others to send, and to be answered, a node is there that has
/// handed over.
const LINGER: Duration = Duration::from_millis(100);
/// For how long a question counts.
const ASKED_FOR: Duration = Duration::from_millis(300);

/// Why a node gives away its offices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It is told to end.
    Ends,
    /// Its machine's wall clock is wrong. It gives away what another node of its region could
    /// lead, and serves the rest.
    ClockIsOff,
}

impl Why {
    /// How long an attempt that was given up rests. A wrong clock is no reason to let writes wait
    /// again and again.
    fn rest(self) -> Duration {
        match self {
            Why::Ends => Duration::from_secs(1),
            Why::ClockIsOff => Duration::from_secs(60),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Ends => "is about to end",
            Why::ClockIsOff => "has a wrong clock",
        })
    }
}

/// A node that gives away its offices.
#[derive(Debug)]
pub(crate) struct HandingOver {
    why: Why,
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

/// What primaries have asked a control leader for.
#[derive(Debug, Default)]
pub(crate) struct HandOvers(BTreeMap<ShardId, Asked>);

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The epoch that is to end.
    epoch: Epoch,
    why: Why,
    at: Duration,
}

impl HandOvers {
    /// Which are asked for.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &ShardId> {
        self.0.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why this shard is to be handed over, if it is. `is_sealed`: its primary has answered, and
    /// asks no more.
    pub(crate) fn wanted(
        &self,
        shard: ShardId,
        epoch: Epoch,
        is_sealed: bool,
        now: Duration,
    ) -> Option<Why> {
        let asked = self.0.get(&shard).filter(|asked| asked.epoch == epoch)?;
        let counts = is_sealed || now.saturating_sub(asked.at) < ASKED_FOR;
        counts.then_some(asked.why)
    }

    /// Forgets what was done. `epoch_of`: that of a shard that is there.
    pub(crate) fn retain(&mut self, epoch_of: impl Fn(ShardId) -> Option<Epoch>) {
        self.0
            .retain(|id, asked| epoch_of(*id) == Some(asked.epoch));
    }
}

impl<A> Cluster<A> {
    /// This node is to end: from now on it gives away its offices.
    pub fn end(&mut self, host: &impl Host) {
        if !self.is_ending() {
            tracing::info!(
                offices = self.offices(),
                "the node is to end, and hands over"
            );
            self.begin_handing_over(Why::Ends, host);
        }
    }

    /// From now on the node gives away its offices.
    fn begin_handing_over(&mut self, why: Why, host: &impl Host) {
        self.handing_over = Some(HandingOver {
            why,
            had_offices: self.offices() > 0 || host.leads_any(),
            known_at: None,
            shards: BTreeMap::new(),
        });
        self.report_soon();
        self.hand_over_tick(host);
    }

    /// The machine's wall clock has been wrong for so long that others had better lead, or isn't.
    pub(crate) fn clock_is_off(&mut self, is_off: bool, host: &impl Host) {
        let why = self.handing_over.as_ref().map(|h| h.why);
        match (is_off, why) {
            (true, None) => self.begin_handing_over(Why::ClockIsOff, host),
            (false, Some(Why::ClockIsOff)) => {
                self.handing_over = None;
                self.report_soon();
            }
            _ => {}
        }
    }

    /// Whether there is nothing left that this node could give away, and what others sent here
    /// before they knew is answered.
    pub fn has_handed_over(&self) -> bool {
        let Some(ending) = self.handing_over.as_ref().filter(|_| self.is_ending()) else {
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

    /// Of how many shards this node is primary.
    pub fn offices(&self) -> usize {
        let shards = self.catalog.named();
        shards.filter(|(_, s)| s.primary == self.config.id).count()
    }

    /// Why this node gives away its offices, if it does.
    pub(crate) fn hands_over(&self) -> Option<Why> {
        self.handing_over.as_ref().map(|h| h.why)
    }

    /// Whether this node is to end.
    pub fn is_ending(&self) -> bool {
        self.hands_over() == Some(Why::Ends)
    }

    /// The shards whose writes wait because they are about to be handed over.
    pub fn held(&self) -> impl Iterator<Item = ShardId> {
        let shards = self.handing_over.iter().flat_map(|h| &h.shards);
        let held = shards.filter(|(_, holding)| !holding.given_up);
        held.map(|(id, _)| *id)
    }

    /// Who gives away its offices, as far as is known here.
    pub fn handing_over(&self) -> BTreeSet<NodeId> {
        let mut nodes = self.peers.handing_over();
        nodes.extend(self.hands_over().map(|_| self.config.id.clone()));
        nodes
    }

    fn could_another_lead_the_group(&self) -> bool {
        let now = self.now.monotonic;
        let voters = self.control.voters().iter();
        voters
            .filter(|voter| **voter != self.config.id && !self.peers.hands_over(voter))
            .any(|voter| self.peers.is_up(voter, now))
    }

    /// The shards whose office another could take.
    fn to_hand_over(&self) -> impl Iterator<Item = ShardId> {
        let own = |(_, facts): &(ShardId, &model::catalog::Shard)| facts.primary == self.config.id;
        let shards = self.catalog.named().filter(own).map(|(id, _)| id);
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
        let stays_near = self.hands_over() == Some(Why::ClockIsOff);
        let others = others.filter(|m| !stays_near || m.region == self.config.region);
        others
            .filter(|m| m.disk.is_some() && failover::may_lead_from(keyspace, &m.region))
            .map(|m| m.node.clone())
            .filter(|node| self.peers.is_up(node, now) && !self.peers.hands_over(node))
            .filter(|node| !self.peers.is_stalled(node) && !self.peers.has_stopped(node, id))
            .collect()
    }

    pub(crate) fn hand_over_tick(&mut self, host: &impl Host) {
        let Some(handing_over) = &mut self.handing_over else {
            return;
        };
        let why = handing_over.why;
        let mut shards = std::mem::take(&mut handing_over.shards);
        let catalog = self.catalog.clone();
        let now = self.now.monotonic;
        let me = &self.config.id;
        shards.retain(|id, holding| {
            let facts = catalog.shards.get(id);
            facts.is_some_and(|f| f.primary == *me && f.epoch == holding.epoch)
        });
        let own = catalog.named().filter(|(_, f)| f.primary == *me);
        let mut asks = Vec::new();
        for (id, facts) in own {
            self.hold_back(&mut shards, id, facts.epoch, why, host);
            if let Some(holding) = shards.get_mut(&id)
                && self.is_to_ask(id, holding, host)
                && holding
                    .asked_at
                    .is_none_or(|at| now.saturating_sub(at) >= ASK_EVERY)
            {
                holding.asked_at = Some(now);
                asks.push((id, facts.epoch));
            }
        }
        let known = self.is_known_to_have_handed_over();
        if let Some(handing_over) = &mut self.handing_over {
            handing_over.shards = shards;
            handing_over.known_at = known.then(|| handing_over.known_at.unwrap_or(now));
        }
        for (shard, epoch) in asks {
            let me = self.config.id.clone();
            match self.control.leader() {
                Some(leader) if leader == me => self.hand_over_asked(&me, shard, epoch, why, host),
                Some(leader) => {
                    let message = Message::HandOver { shard, epoch, why };
                    self.send(&leader, message);
                }
                None => {}
            }
        }
    }

    /// Begins to let writes of a shard wait, or gives that up.
    fn hold_back(
        &self,
        shards: &mut BTreeMap<ShardId, Holding>,
        id: ShardId,
        epoch: Epoch,
        why: Why,
        host: &impl Host,
    ) {
        let now = self.now.monotonic;
        let is_primary = host.is_primary(id) && self.is_leased(now);
        match shards.get_mut(&id) {
            Some(holding) if holding.given_up => {
                let rests = now.saturating_sub(holding.since) < HOLD_MAX + why.rest();
                if !rests {
                    shards.remove(&id);
                }
            }
            Some(holding) => {
                // Once it is sealed nothing more is taken anyway.
                holding.given_up = is_primary && now.saturating_sub(holding.since) >= HOLD_MAX;
            }
            None if is_primary && self.is_level(id, NEARLY, host) => {
                let holding = Holding {
                    epoch,
                    since: now,
                    given_up: false,
                    asked_at: None,
                };
                shards.insert(id, holding);
            }
            None => {}
        }
    }

    /// Whether the control leader is to be asked: all is done and held by another, or this
    /// replica is sealed and nobody was named yet.
    fn is_to_ask(&self, id: ShardId, holding: &Holding, host: &impl Host) -> bool {
        let Some(epoch) = host.epoch(id) else {
            return false;
        };
        let is_sealed = epoch > holding.epoch;
        !holding.given_up && (is_sealed || host.is_done(id) && self.is_level(id, 0, host))
    }

    /// Whether somebody who could lead lacks at most so many of this primary's entries.
    fn is_level(&self, id: ShardId, at_most: u64, host: &impl Host) -> bool {
        let successors = self.successors(id);
        let mut able = (host.lacks(id).into_iter()).filter(|(node, _)| successors.contains(node));
        able.any(|(_, lacks)| lacks <= at_most)
    }

    /// At the control leader: `from` asks for another primary in its place.
    pub(crate) fn hand_over_asked(
        &mut self,
        from: &NodeId,
        shard: ShardId,
        epoch: Epoch,
        why: Why,
        host: &impl Host,
    ) {
        let at = self.now.monotonic;
        let facts = self.catalog.named_shard(shard);
        if facts.is_none_or(|facts| facts.primary != *from || facts.epoch != epoch) {
            return;
        }
        if let Some(leading) = &mut self.leading {
            let asked = Asked { epoch, why, at };
            leading.hand_overs.0.insert(shard, asked);
            self.look_after_now(shard, host);
        }
    }
}
