//! What a keyspace chooses: how its copies agree, how many there are and where.

use crate::id::Region;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};

/// How the replicas of a shard agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// One replica takes the writes and streams them to the others.
    PrimaryReplica,
    /// The replicas elect who takes the writes; what a majority has is committed.
    Consensus,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topology::PrimaryReplica => "primary-replica",
            Topology::Consensus => "consensus",
        })
    }
}

impl std::str::FromStr for Topology {
    type Err = InvalidStrategy;
    fn from_str(text: &str) -> Result<Self, InvalidStrategy> {
        match text.to_ascii_lowercase().as_str() {
            "primary-replica" => Ok(Topology::PrimaryReplica),
            "consensus" => Ok(Topology::Consensus),
            _ => Err(invalid(
                "TOPOLOGY",
                text,
                "use primary-replica or consensus",
            )),
        }
    }
}

/// On which disks an entry must be durable before it is committed. The primary's own disk is
/// always one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckRule {
    /// The primary alone.
    Async,
    /// The primary and `k` others of `region` (None: the primary's region).
    SemiSync {
        /// How many others.
        k: u16,
        /// Whose acknowledgements count.
        region: Option<Region>,
    },
    /// Every replica.
    Sync,
    /// A majority of all replicas.
    Quorum,
    /// A majority of the replicas in the primary's region.
    LocalQuorum,
}

impl fmt::Display for AckRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AckRule::Async => f.write_str("async"),
            AckRule::SemiSync { k, region: None } => write!(f, "semi-sync:{k}"),
            AckRule::SemiSync {
                k,
                region: Some(region),
            } => write!(f, "semi-sync:{k}@{region}"),
            AckRule::Sync => f.write_str("sync"),
            AckRule::Quorum => f.write_str("quorum"),
            AckRule::LocalQuorum => f.write_str("local-quorum"),
        }
    }
}

/// A part of a strategy that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{given}' is not valid: {expected}")]
pub struct InvalidStrategy {
    /// The part, such as `ACK`.
    pub what: &'static str,
    /// What was given.
    pub given: String,
    /// What would be right.
    pub expected: &'static str,
}

fn invalid(what: &'static str, given: &str, expected: &'static str) -> InvalidStrategy {
    InvalidStrategy {
        what,
        given: given.chars().take(80).collect(),
        expected,
    }
}

impl std::str::FromStr for AckRule {
    type Err = InvalidStrategy;
    fn from_str(text: &str) -> Result<Self, InvalidStrategy> {
        let wrong = || {
            invalid(
                "ACK",
                text,
                "use async, semi-sync:k, semi-sync:k@region, sync, quorum or local-quorum",
            )
        };
        let lower = text.to_ascii_lowercase();
        Ok(match lower.as_str() {
            "async" => AckRule::Async,
            "sync" => AckRule::Sync,
            "quorum" => AckRule::Quorum,
            "local-quorum" => AckRule::LocalQuorum,
            other => {
                let rest = other.strip_prefix("semi-sync:").ok_or_else(wrong)?;
                let (k, region) = match rest.split_once('@') {
                    Some((k, region)) => (k, Some(Region::new(region).map_err(|_| wrong())?)),
                    None => (rest, None),
                };
                let k: u16 = k.parse().map_err(|_| wrong())?;
                if k == 0 {
                    return Err(invalid(
                        "ACK",
                        text,
                        "k is at least 1; async needs no other",
                    ));
                }
                AckRule::SemiSync { k, region }
            }
        })
    }
}

/// What a write does when the rule is not met within the keyspace's timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnTimeout {
    /// It goes on waiting.
    Block,
    /// The client is told that the outcome is unknown.
    Error,
    /// The shard goes on as `async` once the catalog has recorded it, until the replicas are
    /// back. Counted, logged and shown.
    Degrade,
}

impl fmt::Display for OnTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnTimeout::Block => "block",
            OnTimeout::Error => "error",
            OnTimeout::Degrade => "degrade",
        })
    }
}

impl std::str::FromStr for OnTimeout {
    type Err = InvalidStrategy;
    fn from_str(text: &str) -> Result<Self, InvalidStrategy> {
        match text.to_ascii_lowercase().as_str() {
            "block" => Ok(OnTimeout::Block),
            "error" => Ok(OnTimeout::Error),
            "degrade" => Ok(OnTimeout::Degrade),
            _ => Err(invalid("ON_TIMEOUT", text, "use block, error or degrade")),
        }
    }
}

/// What a shard whose primary is gone does where the rule doesn't guarantee that another
/// replica has everything that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failover {
    /// It waits for the primary, or for enough others to be sure.
    Safe,
    /// The most advanced replica that can be heard takes over; what may be lost is said, and
    /// saved when the former primary returns.
    Available,
}

impl Failover {
    /// What a keyspace with this rule gets unless it chooses.
    pub fn default_for(ack: &AckRule) -> Self {
        match ack {
            AckRule::Async => Failover::Available,
            _ => Failover::Safe,
        }
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failover::Safe => "safe",
            Failover::Available => "available",
        })
    }
}

impl std::str::FromStr for Failover {
    type Err = InvalidStrategy;
    fn from_str(text: &str) -> Result<Self, InvalidStrategy> {
        match text.to_ascii_lowercase().as_str() {
            "safe" => Ok(Failover::Safe),
            "available" => Ok(Failover::Available),
            _ => Err(invalid("FAILOVER", text, "use safe or available")),
        }
    }
}

/// How long a replica's node may be silent before another node of its region takes its place,
/// unless the keyspace chooses.
pub const REPLACE_AFTER_DEFAULT: Duration = Duration::from_secs(300);

/// How many replicas of each shard a region holds, the primary's own copy included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Region → replicas, in the order given; the first is the primary's unless another is
    /// named.
    regions: Vec<(Region, u16)>,
}

impl Placement {
    /// The regions and their replicas, in the order given.
    pub fn regions(&self) -> &[(Region, u16)] {
        &self.regions
    }

    /// Replicas wanted in `region`.
    pub fn in_region(&self, region: &Region) -> u16 {
        self.regions
            .iter()
            .find(|(r, _)| r == region)
            .map_or(0, |(_, n)| *n)
    }

    /// The replication factor: replicas of each shard, everywhere.
    pub fn total(&self) -> u32 {
        self.regions.iter().map(|(_, n)| u32::from(*n)).sum()
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (region, count)) in self.regions.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{region}={count}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Placement {
    type Err = InvalidStrategy;
    fn from_str(text: &str) -> Result<Self, InvalidStrategy> {
        let wrong = |expected| invalid("placement", text, expected);
        let form = "use region=replicas, with commas between, as in us=3,eu=2,asia=2";
        let mut regions = Vec::new();
        let mut seen = BTreeMap::new();
        for part in text.split(',') {
            let (region, count) = part.split_once('=').ok_or_else(|| wrong(form))?;
            let region = Region::new(region.trim()).map_err(|_| wrong(form))?;
            let count: u16 = count.trim().parse().map_err(|_| wrong(form))?;
            if count == 0 {
                return Err(wrong("a region that is named holds at least 1 replica"));
            }
            if seen.insert(region.clone(), ()).is_some() {
                return Err(wrong("a region is named twice"));
            }
            regions.push((region, count));
        }
        Ok(Placement { regions })
    }
}

/// All that a keyspace chooses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// How its copies agree.
    pub topology: Topology,
    /// When a write is committed; with consensus always by a majority.
    pub ack: AckRule,
    /// What happens when it takes too long.
    pub on_timeout: OnTimeout,
    /// How long is too long.
    pub timeout: Duration,
    /// Copies a region.
    pub placement: Placement,
    /// The region whose node is primary.
    pub primary_region: Region,
    /// What happens when the primary is gone and a loss can't be ruled out.
    pub failover: Failover,
    /// How long a replica's node may be silent before it is replaced.
    pub replace_after: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_placements_read_back_as_written() {
        for text in [
            "async",
            "semi-sync:2",
            "semi-sync:1@eu",
            "sync",
            "quorum",
            "local-quorum",
        ] {
            assert_eq!(text.parse::<AckRule>().unwrap().to_string(), text);
        }
        for bad in ["", "semi-sync", "semi-sync:0", "semi-sync:x", "all"] {
            assert!(bad.parse::<AckRule>().is_err(), "{bad} was taken");
        }
        let p: Placement = "us=3,eu=2,asia=2".parse().unwrap();
        assert_eq!((p.total(), p.to_string().as_str()), (7, "us=3,eu=2,asia=2"));
        for bad in ["", "us", "us=0", "us=1,us=2", "US=1"] {
            assert!(bad.parse::<Placement>().is_err(), "{bad} was taken");
        }
    }
}
