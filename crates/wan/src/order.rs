//! Orders: `SHOW`, `CUT from to`, `HEAL from to`, `SET from to 250ms`. Each end is a region or
//! a node id; durations are `250ms`, `0.5ms` or `2s`. Words are taken in any case, names as
//! they are written.

use crate::base::LATENCY_MAX;
use model::{NodeId, Region};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// All nodes of a region.
    Region(Region),
    /// One node.
    Node {
        /// Which.
        id: NodeId,
        /// Where it stood when the order was given.
        region: Region,
    },
}

/// What an order does to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// Messages are lost.
    Cut,
    /// Messages pass.
    Open,
    /// Messages take this long, one way.
    Latency(Duration),
}

/// An order that changes links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// The sending end.
    pub from: Side,
    /// The receiving end.
    pub to: Side,
    /// What happens to it.
    pub what: What,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// List the links.
    Show,
    /// Change some.
    Change(Change),
}

/// The names that an order may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Every node and where it stands. Regions are those of the nodes.
    pub nodes: BTreeMap<NodeId, Region>,
}

/// An order that can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// This node was started without emulation.
    #[error(
        "this cluster has no emulated links: start its nodes with a [wan] section to have them"
    )]
    Absent,
    /// It isn't one of the orders.
    #[error("expected SHOW, CUT from to, HEAL from to, or SET from to latency (as in 250ms)")]
    Unknown,
    /// A name is neither a region nor a node of the cluster.
    #[error("'{name}' is neither a region ({regions}) nor a node ({nodes})")]
    Name {
        /// The name as it came, cut to 80 characters.
        name: String,
        /// The known regions.
        regions: String,
        /// The known nodes.
        nodes: String,
    },
    /// A latency can't be read or is too long.
    #[error("'{0}' is not a latency: write 250ms, 0.5ms or 2s, at most {max} s", max = LATENCY_MAX.as_secs())]
    Latency(String),
    /// Too many orders are in force.
    #[error("{max} orders are in force already: HEAL some, or SET whole regions")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

impl Side {
    /// The region, or the region of the node.
    pub fn region(&self) -> &Region {
        match self {
            Side::Region(region) | Side::Node { region, .. } => region,
        }
    }

    /// Whether every node of `other` belongs to this.
    pub fn covers(&self, other: &Side) -> bool {
        match (self, other) {
            (Side::Region(region), other) => region == other.region(),
            (Side::Node { id, .. }, Side::Node { id: other, .. }) => id == other,
            (Side::Node { .. }, Side::Region(_)) => false,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Side::Region(region) => region.fmt(f),
            Side::Node { id, .. } => id.fmt(f),
        }
    }
}

impl Change {
    /// Whether this leaves nothing of an earlier change.
    pub(crate) fn covers(&self, earlier: &Change) -> bool {
        let latency = |what| matches!(what, What::Latency(_));
        latency(self.what) == latency(earlier.what)
            && self.from.covers(&earlier.from)
            && self.to.covers(&earlier.to)
    }

    /// Whether some pair of nodes belongs to both.
    pub(crate) fn overlaps(&self, other: &Change) -> bool {
        let meet = |a: &Side, b: &Side| a.covers(b) || b.covers(a);
        meet(&self.from, &other.from) && meet(&self.to, &other.to)
    }
}

impl Known {
    /// The regions of the nodes.
    pub fn regions(&self) -> BTreeSet<Region> {
        self.nodes.values().cloned().collect()
    }

    fn side(&self, name: &[u8]) -> Result<Side, OrderError> {
        let text = String::from_utf8_lossy(name);
        if let Some((id, region)) = self.nodes.iter().find(|(id, _)| id.as_str() == text) {
            return Ok(Side::Node {
                id: id.clone(),
                region: region.clone(),
            });
        }
        let regions = self.regions();
        if let Some(region) = regions.iter().find(|region| region.as_str() == text) {
            return Ok(Side::Region(region.clone()));
        }
        let list = |names: Vec<&str>| names.join(", ");
        Err(OrderError::Name {
            name: text.chars().take(80).collect(),
            regions: list(regions.iter().map(Region::as_str).collect()),
            nodes: list(self.nodes.keys().map(NodeId::as_str).collect()),
        })
    }
}

/// Reads an order from the words of a command.
pub fn parse_order(words: &[&[u8]], known: &Known) -> Result<Order, OrderError> {
    let Some((verb, ends)) = words.split_first() else {
        return Err(OrderError::Unknown);
    };
    let (from, to, what) = match (verb.to_ascii_uppercase().as_slice(), ends) {
        (b"SHOW", []) => return Ok(Order::Show),
        (b"CUT", [from, to]) => (from, to, What::Cut),
        (b"HEAL", [from, to]) => (from, to, What::Open),
        (b"SET", [from, to, time]) => (from, to, What::Latency(latency(time)?)),
        _ => return Err(OrderError::Unknown),
    };
    Ok(Order::Change(Change {
        from: known.side(from)?,
        to: known.side(to)?,
        what,
    }))
}

fn latency(word: &[u8]) -> Result<Duration, OrderError> {
    let text = String::from_utf8_lossy(word).to_ascii_lowercase();
    let read = |digits: &str, unit_seconds: f64| {
        // Plain decimals only: no sign, exponent, `inf` or `nan`.
        digits
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.')
            .then(|| digits.parse::<f64>().ok())
            .flatten()
            .and_then(|n| Duration::try_from_secs_f64(n * unit_seconds).ok())
            .filter(|time| *time <= LATENCY_MAX)
    };
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => read(digits, 0.001),
        (None, Some(digits)) => read(digits, 1.0),
        (None, None) => None,
    }
    .ok_or_else(|| OrderError::Latency(text.chars().take(80).collect()))
}
