//! A layout: topology, rule, shards, where copies and primaries are, and the servers under
//! them. [`Layout`] has regions and types as numbers of a [`Wanted`]; [`LayoutFile`] has their
//! names, and what is claimed of the layout, as a person writes it.

use crate::wanted::{PlanError, Wanted, number_of};
use model::AckRule;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// How the copies of a shard agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// One copy takes the writes and streams them to the others.
    PrimaryReplica,
    /// Raft: a majority of the voters has a write before it is acknowledged.
    Consensus,
    /// Every copy takes writes; what was written at once merges.
    MultiPrimary,
}

impl Topology {
    /// All of them; those that this release runs first.
    pub const ALL: [Topology; 3] = [
        Topology::PrimaryReplica,
        Topology::Consensus,
        Topology::MultiPrimary,
    ];
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Topology::PrimaryReplica => "primary-replica",
            Topology::Consensus => "consensus",
            Topology::MultiPrimary => "multi-primary",
        })
    }
}

impl FromStr for Topology {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Topology::ALL.into_iter();
        all.find(|t| t.to_string() == text).ok_or(())
    }
}

/// On which copies a write is durable before it is acknowledged. The copy that takes it is
/// always one of them. Which of these a topology has: [`Rule::fits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The one that takes it. With multi-primary it is called `local`.
    Async,
    /// That and `k` others of a region; of the primary's own where none is named.
    SemiSync {
        /// How many others.
        k: u16,
        /// Whose.
        region: Option<usize>,
    },
    /// A majority of the copies in the region that takes it.
    LocalQuorum,
    /// A majority of all copies; with consensus, of all voters.
    Quorum,
    /// Every copy. With multi-primary it is called `all`.
    Sync,
}

impl Rule {
    /// Whether a topology has such a rule.
    pub fn fits(self, topology: Topology) -> bool {
        match topology {
            Topology::PrimaryReplica => true,
            Topology::Consensus => self == Rule::Quorum,
            Topology::MultiPrimary => !matches!(self, Rule::SemiSync { .. }),
        }
    }

    /// Reads a rule as `ACK` takes it, or `local` and `all`.
    pub(crate) fn parse(text: &str, regions: &[String]) -> Result<Self, String> {
        let ack = match text {
            "local" => return Ok(Rule::Async),
            "all" => return Ok(Rule::Sync),
            _ => text.parse::<AckRule>().map_err(|e| e.to_string())?,
        };
        Ok(match ack {
            AckRule::Async => Rule::Async,
            AckRule::Sync => Rule::Sync,
            AckRule::Quorum => Rule::Quorum,
            AckRule::LocalQuorum => Rule::LocalQuorum,
            AckRule::SemiSync { k, region } => Rule::SemiSync {
                k,
                region: match region {
                    None => None,
                    Some(region) => Some(
                        number_of(text, region.as_str(), regions.iter().map(String::as_str))
                            .map_err(|e| e.to_string())?,
                    ),
                },
            },
        })
    }

    /// As it is called in `topology`.
    pub fn named(self, topology: Topology, wanted: &Wanted) -> String {
        match (self, topology) {
            (Rule::Async, Topology::MultiPrimary) => "local".into(),
            (Rule::Sync, Topology::MultiPrimary) => "all".into(),
            (Rule::Async, _) => "async".into(),
            (Rule::Sync, _) => "sync".into(),
            (Rule::LocalQuorum, _) => "local-quorum".into(),
            (Rule::Quorum, _) => "quorum".into(),
            (Rule::SemiSync { k, region: None }, _) => format!("semi-sync:{k}"),
            (Rule::SemiSync { k, region: Some(r) }, _) => {
                format!("semi-sync:{k}@{}", wanted.region(r))
            }
        }
    }
}

/// Servers of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// The type, as a number of the [`Wanted`].
    pub server_type: usize,
    /// How many.
    pub count: u32,
}

/// See the module. Shards are equal to each other; so are a region's copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How the copies agree.
    pub topology: Topology,
    /// When a write is acknowledged.
    pub rule: Rule,
    /// How many shards there are.
    pub shards: u16,
    /// By region, how many copies of each shard it holds.
    pub copies: Vec<u16>,
    /// By region, of how many shards the primary (or the leader) is there. With multi-primary
    /// none is anywhere.
    pub primaries: Vec<u16>,
    /// By region, whether its copies vote. Only consensus looks at it.
    pub voters: Vec<bool>,
    /// By region, the servers that hold its copies, all types together in equal parts.
    pub servers: Vec<Vec<Servers>>,
}

impl Layout {
    /// The replication factor.
    pub fn replication_factor(&self) -> u32 {
        self.copies.iter().map(|&n| u32::from(n)).sum()
    }

    /// Servers of a region.
    pub fn servers_in(&self, region: usize) -> u32 {
        self.servers[region].iter().map(|s| s.count).sum()
    }

    /// All servers.
    pub fn servers_in_all(&self) -> u32 {
        (0..self.servers.len()).map(|r| self.servers_in(r)).sum()
    }

    /// The regions in which there are primaries, with their part of all.
    pub fn homes(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let shards = f64::from(self.shards);
        self.primaries
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(move |(region, n)| (region, f64::from(*n) / shards))
    }

    /// Whether this release of Quire serves such a layout, or why not.
    pub fn runs(&self) -> Result<(), &'static str> {
        match self.topology {
            Topology::Consensus => {
                Err("computed only: this release of Quire makes no consensus keyspaces of plans")
            }
            Topology::MultiPrimary => {
                Err("computed only: this release of Quire does not serve multi-primary keyspaces")
            }
            Topology::PrimaryReplica if self.homes().count() > 1 => {
                Err("computed only: in this release a keyspace has its primaries in one region")
            }
            Topology::PrimaryReplica => Ok(()),
        }
    }

    /// The words that make the keyspace, where this release serves it.
    pub fn create_line(&self, wanted: &Wanted) -> Option<String> {
        self.runs().ok()?;
        let (home, _) = self.homes().next()?;
        let places: Vec<String> = (0..wanted.regions())
            .filter(|&r| self.copies[r] > 0)
            .map(|r| format!("{}={}", wanted.region(r), self.copies[r]))
            .collect();
        Some(format!(
            "KEYSPACE CREATE {} ACK {} PLACE {} PRIMARY {} SHARDS {}",
            wanted.file().name,
            self.rule.named(self.topology, wanted),
            places.join(","),
            wanted.region(home),
            self.shards
        ))
    }
}

/// A layout as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutFile {
    /// What it is called.
    pub name: String,
    /// The preset whose requirements it is meant for, unless a plan file is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// `primary-replica`, `consensus` or `multi-primary`.
    pub topology: String,
    /// As in `ACK`; with multi-primary `local`, `local-quorum`, `quorum` or `all`.
    pub rule: String,
    /// How many.
    pub shards: u16,
    /// Region → copies of each shard.
    pub copies: BTreeMap<String, u16>,
    /// Region → shards whose primary is there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub primaries: BTreeMap<String, u16>,
    /// Regions whose copies vote, with consensus; none named: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<String>,
    /// What is claimed of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// What it runs on.
    pub servers: Vec<ServersFile>,
}

/// Servers of one type in one region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServersFile {
    /// Where.
    pub region: String,
    /// Of which type.
    pub server_type: String,
    /// How many.
    pub count: u32,
}

/// What is said of a layout by whoever drew it; each is compared with what is computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// What each replica answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_per_s_per_replica: Option<f64>,
    /// What all replicas can answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_per_s_in_all: Option<f64>,
    /// Primaries that the words give each region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primaries_per_region: Option<u32>,
    /// Replicas, beside primaries, that the words give each region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas_per_region: Option<u32>,
    /// Copies of each shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u32>,
    /// What all copies take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_gb_in_all: Option<f64>,
    /// Servers that may fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_tolerated: Option<u32>,
    /// Region → how long a write takes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub write_ms: BTreeMap<String, f64>,
    /// Before the discount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_month: Option<f64>,
    /// After it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_month_reserved: Option<f64>,
    /// In a year.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downtime_minutes_per_year: Option<f64>,
    /// The part of the time, as in 0.99998.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
}

impl LayoutFile {
    /// Reads a layout.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|e| PlanError::Syntax(e.to_string().trim_end().into()))
    }

    /// The file that reads back as this.
    pub fn to_toml(&self) -> Result<String, PlanError> {
        toml::to_string(self).map_err(|e| PlanError::Syntax(e.to_string()))
    }

    /// A layout with its names.
    pub fn of(layout: &Layout, wanted: &Wanted) -> Self {
        let counts = |of: &[u16]| -> BTreeMap<String, u16> {
            let held = of.iter().enumerate().filter(|(_, n)| **n > 0);
            held.map(|(r, n)| (wanted.region(r).into(), *n)).collect()
        };
        let mut servers = Vec::new();
        for (region, of_region) in layout.servers.iter().enumerate() {
            for s in of_region {
                servers.push(ServersFile {
                    region: wanted.region(region).into(),
                    server_type: wanted.server_type(s.server_type).name.clone(),
                    count: s.count,
                });
            }
        }
        let voters = match layout.topology {
            Topology::Consensus => (0..wanted.regions())
                .filter(|&r| layout.voters[r] && layout.copies[r] > 0)
                .map(|r| wanted.region(r).into())
                .collect(),
            _ => Vec::new(),
        };
        LayoutFile {
            name: wanted.file().name.clone(),
            preset: None,
            topology: layout.topology.to_string(),
            rule: layout.rule.named(layout.topology, wanted),
            shards: layout.shards,
            copies: counts(&layout.copies),
            primaries: counts(&layout.primaries),
            voters,
            claims: None,
            servers,
        }
    }

    /// The layout that is meant, if it is one: its names are known, its primaries are where
    /// copies are, and no two copies of a shard share a server.
    pub fn resolve(&self, wanted: &Wanted) -> Result<Layout, PlanError> {
        let names = || wanted.region_names();
        let wrong = |what: String, given: u32, expected| PlanError::Number {
            what,
            given: given.to_string(),
            expected,
        };
        let topology: Topology = self.topology.parse().map_err(|()| PlanError::Unknown {
            what: "topology".into(),
            given: self.topology.clone(),
            known: "primary-replica, consensus, multi-primary".into(),
        })?;
        let all: Vec<String> = names().map(Into::into).collect();
        let rule = Rule::parse(&self.rule, &all).map_err(PlanError::Rule)?;
        if !rule.fits(topology) {
            let known = match topology {
                Topology::Consensus => "quorum",
                _ => "local, local-quorum, quorum, all",
            };
            return Err(PlanError::Unknown {
                what: format!("the rule of a {topology} layout"),
                given: self.rule.clone(),
                known: known.into(),
            });
        }
        if !(1..=1024).contains(&self.shards) {
            return Err(wrong("shards".into(), self.shards.into(), "1 to 1024"));
        }
        let counted = |what: &str, by_name: &BTreeMap<String, u16>| {
            let mut counts = vec![0; wanted.regions()];
            for (name, n) in by_name {
                counts[number_of(what, name, names())?] = *n;
            }
            Ok::<_, PlanError>(counts)
        };
        let copies = counted("copies", &self.copies)?;
        let primaries = counted("primaries", &self.primaries)?;
        let led: u32 = primaries.iter().map(|&n| u32::from(n)).sum();
        let needed = match topology {
            Topology::MultiPrimary => 0,
            _ => u32::from(self.shards),
        };
        if led != needed {
            let expected = "as many as there are shards; with multi-primary, none";
            return Err(wrong("the sum of primaries".into(), led, expected));
        }
        let mut voters = vec![self.voters.is_empty(); wanted.regions()];
        for name in &self.voters {
            voters[number_of("voters", name, names())?] = true;
        }
        let mut servers = vec![Vec::new(); wanted.regions()];
        let types = || wanted.file().server_types.iter().map(|t| t.name.as_str());
        for s in &self.servers {
            let server_type = number_of("servers.server_type", &s.server_type, types())?;
            let region = number_of("servers.region", &s.region, names())?;
            if !(1..=10_000).contains(&s.count) {
                return Err(wrong("servers.count".into(), s.count, "1 to 10000"));
            }
            servers[region].push(Servers {
                server_type,
                count: s.count,
            });
        }
        let layout = Layout {
            topology,
            rule,
            shards: self.shards,
            copies,
            primaries,
            voters,
            servers,
        };
        if layout.replication_factor() == 0 {
            return Err(PlanError::None("copies"));
        }
        for region in 0..wanted.regions() {
            let (name, held) = (wanted.region(region), layout.copies[region]);
            let there = layout.servers_in(region);
            if there < u32::from(held) {
                let what = format!("the servers of {name}, for {held} copies of each shard,");
                return Err(wrong(what, there, "at least one for each copy"));
            }
            if layout.primaries[region] > 0 && held == 0 {
                let what = format!("primaries.{name}, where no copy is,");
                let led = layout.primaries[region].into();
                return Err(wrong(what, led, "0, or copies there"));
            }
            if layout.primaries[region] > 0 && !layout.voters[region] {
                let what = format!("primaries.{name}, whose copies don't vote,");
                let led = layout.primaries[region].into();
                return Err(wrong(what, led, "0, or let them vote"));
            }
        }
        Ok(layout)
    }
}
