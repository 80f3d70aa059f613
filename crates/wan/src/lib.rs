//! Emulated links between regions and nodes: how long a message takes, and which links are cut.
//! For demonstrations and tests; in production a cluster has no emulation and nothing of this
//! is consulted but [`Links::delay`], which then answers `Up(0)`.
//!
//! In: a base of latencies (`reference`, `none`, or a file, see [`base`]), and orders
//! (`CUT us eu`, `HEAL us eu`, `SET us eu 250ms`, see [`order`]). Out: for a pair of nodes,
//! whether the link from one to the other is up and its one-way latency.
//!
//! Rules:
//! - Everything is one-way: `CUT us eu` leaves the way from eu to us open.
//! - An order names a region (all its nodes) or one node. Where several orders match a pair of
//!   nodes **the latest wins**, whether it named regions or nodes. Latency and cut are judged
//!   apart: a cut link keeps the latency that was set for it.
//! - `HEAL a b` opens every way from a to b: it removes each cut that lies within a → b, and
//!   where a wider cut covers a → b it stands as an exception to it.
//! - A name that is both a node and a region means the node.
//! - A node reaches itself at once, always.
//!
//! The orders in force are one value, [`State`], versioned by (counter, node that gave the last
//! order). Nodes exchange it; the greater one wins as a whole, so that of two orders given at
//! the same time at two nodes one may be lost. Every node ends with the same state.

pub mod base;
pub mod order;

pub use base::{Base, BaseError};
pub use order::{Change, Known, Order, OrderError, Side, What, parse_order};

use model::{NodeId, Region};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// How many orders can be in force at once. A state with more is neither made nor taken.
pub const ORDERS_MAX: usize = 4096;

/// What a message from one node to another meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It arrives after this one-way latency.
    Up(Duration),
    /// It is lost, and its sender is not told.
    Cut,
}

/// The emulated links: the base latencies and the orders in force.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// `None`: there is no emulation here at all.
    base: Option<Base>,
    state: State,
}

/// The orders in force: what nodes send each other.
///
/// Compared by version first. Two different states of one version (a node restarted and
/// counted anew) are told apart by their content, so that every node still picks the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct State {
    /// Grows by one with each order.
    counter: u64,
    /// Who gave the last order; `None` before the first.
    by: Option<NodeId>,
    /// From the oldest to the latest. None is wholly covered by a later one of its kind.
    changes: Vec<Change>,
}

impl State {
    /// (how many orders were given, who gave the last).
    pub fn version(&self) -> (u64, Option<&NodeId>) {
        (self.counter, self.by.as_ref())
    }
}

/// One line of [`Links::show`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// A region, or a node that an order names.
    pub from: String,
    /// Likewise.
    pub to: String,
    /// One way.
    pub latency: Duration,
    /// Whether messages are lost on it.
    pub cut: bool,
}

impl Links {
    /// No emulation: every link is up without delay, and orders are refused.
    pub fn absent() -> Self {
        Self::default()
    }

    /// Links with these base latencies and no orders yet.
    pub fn new(base: Base) -> Self {
        Links {
            base: Some(base),
            state: State::default(),
        }
    }

    /// Whether there is no emulation.
    pub fn is_absent(&self) -> bool {
        self.base.is_none()
    }

    /// What a message from `from` to `to` meets.
    pub fn delay(
        &self,
        from: &NodeId,
        from_region: &Region,
        to: &NodeId,
        to_region: &Region,
    ) -> Link {
        let Some(base) = &self.base else {
            return Link::Up(Duration::ZERO);
        };
        if from == to {
            return Link::Up(Duration::ZERO);
        }
        let here = |side: &Side, id: &NodeId, region: &Region| match side {
            Side::Region(named) => named == region,
            Side::Node { id: named, .. } => named == id,
        };
        let (cut, latency) = self.latest(|change| {
            here(&change.from, from, from_region) && here(&change.to, to, to_region)
        });
        if cut {
            Link::Cut
        } else {
            Link::Up(latency.unwrap_or_else(|| base.latency(from_region, to_region)))
        }
    }

    /// The latest word on cut and on latency among the changes that match.
    fn latest(&self, matches: impl Fn(&Change) -> bool) -> (bool, Option<Duration>) {
        let (mut cut, mut latency) = (false, None);
        for change in self.state.changes.iter().filter(|c| matches(c)) {
            match change.what {
                What::Cut => cut = true,
                What::Open => cut = false,
                What::Latency(set) => latency = Some(set),
            }
        }
        (cut, latency)
    }

    /// Carries out an order given at node `by`. The state is worth telling others afterwards.
    pub fn apply(&mut self, change: Change, by: &NodeId) -> Result<(), OrderError> {
        if self.base.is_none() {
            return Err(OrderError::Absent);
        }
        let mut changes = self.state.changes.clone();
        changes.retain(|earlier| !change.covers(earlier));
        // An opening is worth keeping only as an exception to a wider cut.
        let keep = change.what != What::Open
            || changes
                .iter()
                .any(|c| c.what == What::Cut && c.overlaps(&change));
        if keep {
            if changes.len() >= ORDERS_MAX {
                return Err(OrderError::TooMany { max: ORDERS_MAX });
            }
            changes.push(change);
        }
        self.state = State {
            counter: self.state.counter.saturating_add(1),
            by: Some(by.clone()),
            changes,
        };
        Ok(())
    }

    /// The orders in force, to send to other nodes.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes another node's state if it is greater. Whether anything changed.
    pub fn merge(&mut self, other: &State) -> bool {
        let take = self.base.is_some() && *other > self.state && other.changes.len() <= ORDERS_MAX;
        if take {
            self.state = other.clone();
        }
        take
    }

    /// Every ordered pair of regions, then every pair that an order on a node names.
    pub fn show(&self, known: &Known) -> Vec<Row> {
        let Some(base) = &self.base else {
            return Vec::new();
        };
        let mut pairs = Vec::new();
        let mut seen = BTreeSet::new();
        let regions = known.regions();
        for from in &regions {
            for to in &regions {
                pairs.push((Side::Region(from.clone()), Side::Region(to.clone())));
            }
        }
        for change in &self.state.changes {
            pairs.push((change.from.clone(), change.to.clone()));
        }
        pairs.retain(|pair| seen.insert(pair.clone()));
        pairs
            .into_iter()
            .map(|(from, to)| {
                let (cut, latency) = self.latest(|c| c.from.covers(&from) && c.to.covers(&to));
                Row {
                    latency: latency.unwrap_or_else(|| base.latency(from.region(), to.region())),
                    cut,
                    from: from.to_string(),
                    to: to.to_string(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
