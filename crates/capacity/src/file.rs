//! The plan file: what is wanted and what there is to build it from, as a person writes it in
//! TOML. Units stand in the names. [`crate::Wanted`] is the same, checked.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// What the keyspace is called; in `KEYSPACE CREATE` too.
    pub name: String,
    /// What comes in.
    pub load: Load,
    /// What is kept.
    pub data: Data,
    /// What users are told that they may rely on.
    #[serde(default)]
    pub promises: Promises,
    /// What bounds the search.
    #[serde(default)]
    pub constraints: Constraints,
    /// What nobody promises and the figures depend on.
    #[serde(default)]
    pub assumptions: Assumptions,
    /// Where users and servers are.
    pub regions: Vec<RegionFile>,
    /// How far the regions are from each other; each pair once.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What can be rented.
    pub server_types: Vec<ServerType>,
}

/// Writes and reads of all regions together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// In all.
    pub writes_per_s: f64,
    /// In all.
    pub reads_per_s: f64,
}

/// What one copy of everything is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// How many keys.
    pub keys: u64,
    /// Of a key with its value, as it lies on a disk.
    pub bytes_per_key: f64,
    /// What a write sends to each copy; without it, `bytes_per_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_write: Option<f64>,
    /// What a read is answered with; without it, `bytes_per_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_read: Option<f64>,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Survives {
    /// The loss of the server that took it may lose its last moments.
    #[default]
    Nothing,
    /// The loss of any one server.
    Server,
    /// The loss of any one region with all its servers.
    Region,
}

/// What a connection sees of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sessions {
    /// Its own writes, and never an older state than before.
    #[default]
    ReadYourWrites,
    /// Whatever the copy has.
    None,
}

/// See [`PlanFile::promises`]. A bound that is absent is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Promises {
    /// What an acknowledged write survives at least.
    pub survives: Survives,
    /// The acknowledgement rule, where it is not left open, as in `ACK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether writes of two regions to one key at once may merge; else a key has one writer.
    pub may_merge: bool,
    /// What a connection sees of itself.
    pub sessions: Sessions,
    /// How old a read's answer may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness_ms_max: Option<f64>,
    /// Region → how long a write from there may take.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub write_ms_max: BTreeMap<String, f64>,
    /// Region → how long a read from there may take.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub read_ms_max: BTreeMap<String, f64>,
    /// Of reads and of writes, each: the part of them that is answered, as in 0.9999.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_min: Option<f64>,
    /// Whether a read that only a copy beyond `read_ms_max` can answer counts as not answered.
    pub late_is_down: bool,
}

/// How reads and writes share a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// They take from the same: writes / capacity + reads / capacity.
    #[default]
    Shared,
    /// Neither is in the other's way: the greater of the two.
    Independent,
}

/// See [`PlanFile::constraints`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Constraints {
    /// How reads and writes share a server.
    pub utilisation: Sharing,
    /// How much of a server may be used, as in 0.8.
    pub utilisation_max: f64,
    /// What all servers and the network may cost together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_per_month: Option<f64>,
    /// What is taken off the price of servers that are reserved, as in 0.3.
    pub reserved_discount: f64,
    /// Of network traffic between regions.
    pub network_price_per_gb: f64,
    /// Topologies that are considered; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topologies: Vec<String>,
    /// Shards at most.
    pub shards_max: u16,
    /// Copies of a shard in one region at most.
    pub copies_max_per_region: u16,
    /// Servers in one region at most.
    pub servers_max_per_region: u32,
}

impl Default for Constraints {
    fn default() -> Self {
        Constraints {
            utilisation: Sharing::Shared,
            utilisation_max: 1.0,
            budget_per_month: None,
            reserved_discount: 0.0,
            network_price_per_gb: 0.0,
            topologies: Vec::new(),
            shards_max: 64,
            copies_max_per_region: 3,
            servers_max_per_region: 32,
        }
    }
}

/// See [`PlanFile::assumptions`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Assumptions {
    /// From one server of a region to another.
    pub in_region_one_way_ms: f64,
    /// What a server takes for one command, its disk included.
    pub service_ms: f64,
    /// How often a primary says how far it is while nothing is written.
    pub pulse_ms: f64,
    /// From a server's failure until it serves again.
    pub repair_hours: f64,
    /// Until a primary's silence is taken for its end.
    pub detection_s: f64,
    /// From there until another takes writes.
    pub failover_s: f64,
    /// Until a failed copy is asked no more.
    pub reads_move_s: f64,
    /// How often a whole region is gone.
    pub region_outages_per_year: f64,
    /// For how long it is gone then.
    pub region_outage_hours: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Assumptions {
            in_region_one_way_ms: 0.25,
            service_ms: 1.0,
            pulse_ms: 100.0,
            repair_hours: 4.0,
            detection_s: 0.5,
            failover_s: 0.5,
            reads_move_s: 0.5,
            region_outages_per_year: 0.1,
            region_outage_hours: 4.0,
        }
    }
}

/// A region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionFile {
    /// As in `PLACE`.
    pub name: String,
    /// Its part of the load, in proportion to the others' weights.
    #[serde(default = "one")]
    pub load_weight: f64,
    /// The same of writes alone, where these come from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_weight: Option<f64>,
    /// The same of reads alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_weight: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl RegionFile {
    /// Its weight among the writes.
    pub fn of_writes(&self) -> f64 {
        self.write_weight.unwrap_or(self.load_weight)
    }

    /// Its weight among the reads.
    pub fn of_reads(&self) -> f64 {
        self.read_weight.unwrap_or(self.load_weight)
    }
}

/// Between two regions, in both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The two.
    pub between: [String; 2],
    /// From one to the other.
    pub one_way_ms: f64,
}

/// What can be rented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerType {
    /// As layouts name it.
    pub name: String,
    /// What it takes if it reads nothing.
    pub writes_per_s: f64,
    /// What it answers if it writes nothing.
    pub reads_per_s: f64,
    /// What its disk holds; absent: enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_gb: Option<f64>,
    /// The part of the time in which it runs, as in 0.999.
    pub availability: f64,
    /// Before any discount.
    pub price_per_month: f64,
}
