//! A plan file that makes sense: regions are numbers, every pair of them has a latency, and
//! every figure is one that can be reckoned with. Holding a [`Wanted`] is the proof.

use crate::{
    file::{PlanFile, RegionFile, ServerType},
    layout::{Rule, Topology},
};
use model::{KeyspaceName, Region};

/// Regions at most: the search looks at every placement over them.
pub const REGIONS_MAX: usize = 6;
/// Server types at most.
pub const TYPES_MAX: usize = 8;
/// Placements, and choices of types, that are looked at at most.
pub const PLACEMENTS_MAX: usize = 2_000;

/// What is wrong with a plan file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Not the TOML of a plan file.
    #[error("{0}")]
    Syntax(String),
    /// A number out of its range.
    #[error("{what} is {given}: give {expected}")]
    Number {
        /// Where it stands.
        what: String,
        /// What stands there.
        given: String,
        /// What may.
        expected: &'static str,
    },
    /// A name that can't be one.
    #[error("{what} '{given}' is no name: use 1 to 64 of a-z, 0-9, '-' and '_'")]
    Name {
        /// Whose.
        what: &'static str,
        /// As given.
        given: String,
    },
    /// A name that stands for nothing.
    #[error("{what} names '{given}', which is none of {known}")]
    Unknown {
        /// Where it stands.
        what: String,
        /// As given.
        given: String,
        /// What it may be.
        known: String,
    },
    /// Named twice.
    #[error("{what} '{given}' is there twice: name it once")]
    Twice {
        /// What is.
        what: &'static str,
        /// Its name.
        given: String,
    },
    /// Two regions without a latency.
    #[error(
        "how far {from} is from {to} is not said: add a [[links]] with between = [\"{from}\", \"{to}\"] and one_way_ms"
    )]
    LinkMissing {
        /// One.
        from: String,
        /// The other.
        to: String,
    },
    /// None where one is needed.
    #[error("there are no {0}: add at least one")]
    None(&'static str),
    /// More than the search can look at.
    #[error("{what}: {given} are more than {max}, the most that are searched")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        given: usize,
        /// How many may be.
        max: usize,
    },
    /// A rule that isn't one.
    #[error("promises.rule: {0}")]
    Rule(String),
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    file: PlanFile,
    /// One way, in milliseconds, by the numbers of two regions; within one too.
    one_way_ms: Vec<Vec<f64>>,
    /// Of all regions together.
    write_weights: f64,
    read_weights: f64,
    write_ms_max: Vec<Option<f64>>,
    read_ms_max: Vec<Option<f64>>,
    topologies: Vec<Topology>,
    rule: Option<Rule>,
}

/// Whether `value` lies in a range, both ends included, and is a number at all.
fn within(
    what: &str,
    value: f64,
    min: f64,
    max: f64,
    expected: &'static str,
) -> Result<(), PlanError> {
    // NaN is in no range.
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(PlanError::Number {
        what: what.into(),
        given: value.to_string(),
        expected,
    })
}

const FINITE_MAX: f64 = 1e15;
const POSITIVE: &str = "a number above 0";
const NOT_NEGATIVE: &str = "0 or more";
const PART: &str = "a part between 0 and 1, as in 0.999";

fn positive(what: &str, value: f64) -> Result<(), PlanError> {
    within(what, value, f64::MIN_POSITIVE, FINITE_MAX, POSITIVE)
}

fn not_negative(what: &str, value: f64) -> Result<(), PlanError> {
    within(what, value, 0.0, FINITE_MAX, NOT_NEGATIVE)
}

/// The place of `name` among `names`.
pub(crate) fn number_of<'a>(
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<usize, PlanError> {
    names
        .clone()
        .position(|known| known == name)
        .ok_or_else(|| PlanError::Unknown {
            what: what.into(),
            given: name.into(),
            known: names.collect::<Vec<_>>().join(", "),
        })
}

fn once<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), PlanError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let given = name.into();
            return Err(PlanError::Twice { what, given });
        }
    }
    Ok(())
}

impl PlanFile {
    /// Reads a plan file.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|e| PlanError::Syntax(e.to_string().trim_end().into()))
    }

    /// The file that reads back as this.
    pub fn to_toml(&self) -> Result<String, PlanError> {
        toml::to_string(self).map_err(|e| PlanError::Syntax(e.to_string()))
    }
}

impl Wanted {
    /// Checks a file.
    pub fn new(file: PlanFile) -> Result<Self, PlanError> {
        check_numbers(&file)?;
        check_names(&file)?;
        let regions = || file.regions.iter().map(|r| r.name.as_str());
        let sum = |of: fn(&RegionFile) -> f64| file.regions.iter().map(of).sum::<f64>();
        let (write_weights, read_weights) = (sum(RegionFile::of_writes), sum(RegionFile::of_reads));
        positive("the sum of the regions' weights of writes", write_weights)?;
        positive("the sum of the regions' weights of reads", read_weights)?;
        let mut one_way: Vec<Vec<Option<f64>>> =
            vec![vec![None; file.regions.len()]; file.regions.len()];
        for link in &file.links {
            let [a, b] = [
                number_of("links.between", &link.between[0], regions())?,
                number_of("links.between", &link.between[1], regions())?,
            ];
            if a == b || one_way[a][b].is_some() {
                let given = link.between.join(" and ");
                return Err(PlanError::Twice {
                    what: "the link between",
                    given,
                });
            }
            one_way[a][b] = Some(link.one_way_ms);
            one_way[b][a] = Some(link.one_way_ms);
        }
        let mut one_way_ms = vec![vec![0.0; file.regions.len()]; file.regions.len()];
        for (a, row) in one_way.iter().enumerate() {
            for (b, known) in row.iter().enumerate() {
                one_way_ms[a][b] = match known {
                    _ if a == b => file.assumptions.in_region_one_way_ms,
                    Some(ms) => *ms,
                    None => {
                        return Err(PlanError::LinkMissing {
                            from: file.regions[a].name.clone(),
                            to: file.regions[b].name.clone(),
                        });
                    }
                };
            }
        }
        let mut write_ms_max = vec![None; file.regions.len()];
        for (region, ms) in &file.promises.write_ms_max {
            write_ms_max[number_of("promises.write_ms_max", region, regions())?] = Some(*ms);
        }
        let mut read_ms_max = vec![None; file.regions.len()];
        for (region, ms) in &file.promises.read_ms_max {
            read_ms_max[number_of("promises.read_ms_max", region, regions())?] = Some(*ms);
        }
        let mut topologies = Vec::new();
        for name in &file.constraints.topologies {
            topologies.push(name.parse().map_err(|()| PlanError::Unknown {
                what: "constraints.topologies".into(),
                given: name.clone(),
                known: "primary-replica, consensus, multi-primary".into(),
            })?);
        }
        if topologies.is_empty() {
            topologies = Topology::ALL.to_vec();
        }
        let names: Vec<String> = regions().map(Into::into).collect();
        let rule = file.promises.rule.as_deref();
        let rule = rule
            .map(|rule| Rule::parse(rule, &names).map_err(PlanError::Rule))
            .transpose()?;
        let copies = usize::from(file.constraints.copies_max_per_region) + 1;
        let placements = copies.checked_pow(names.len().try_into().unwrap_or(u32::MAX));
        let placements = placements.unwrap_or(usize::MAX);
        let wanted = Wanted {
            file,
            one_way_ms,
            write_weights,
            read_weights,
            write_ms_max,
            read_ms_max,
            topologies,
            rule,
        };
        let types = wanted.useful_types().len();
        let kinds = types.checked_pow(names.len().try_into().unwrap_or(u32::MAX));
        let given = placements.saturating_mul(kinds.unwrap_or(usize::MAX));
        if given > PLACEMENTS_MAX {
            return Err(PlanError::TooMany {
                what: "placements of copies and server types over the regions (lower constraints.copies_max_per_region)",
                given,
                max: PLACEMENTS_MAX,
            });
        }
        Ok(wanted)
    }

    /// Reads and checks a file's text.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        Wanted::new(PlanFile::parse(text)?)
    }

    /// The same with a bound that is lower: `change` sets nothing else, and nothing to what
    /// could not be written in a file.
    pub(crate) fn relaxed(&self, change: impl FnOnce(&mut PlanFile)) -> Self {
        let mut relaxed = self.clone();
        change(&mut relaxed.file);
        relaxed
    }

    /// As it was written.
    pub fn file(&self) -> &PlanFile {
        &self.file
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.file.regions.len()
    }

    /// A region's name.
    pub fn region(&self, region: usize) -> &str {
        &self.file.regions[region].name
    }

    /// All regions' names.
    pub fn region_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.file.regions.iter().map(|r| r.name.as_str())
    }

    /// One way, in milliseconds.
    pub fn one_way_ms(&self, from: usize, to: usize) -> f64 {
        self.one_way_ms[from][to]
    }

    /// There and back.
    pub fn round_trip_ms(&self, from: usize, to: usize) -> f64 {
        2.0 * self.one_way_ms[from][to]
    }

    /// What users of a region write.
    pub fn writes_from(&self, region: usize) -> f64 {
        self.file.load.writes_per_s * self.file.regions[region].of_writes() / self.write_weights
    }

    /// What users of a region read.
    pub fn reads_from(&self, region: usize) -> f64 {
        self.file.load.reads_per_s * self.file.regions[region].of_reads() / self.read_weights
    }

    /// The bound on a write from `region`.
    pub fn write_ms_max(&self, region: usize) -> Option<f64> {
        self.write_ms_max[region]
    }

    /// The bound on a read from `region`.
    pub fn read_ms_max(&self, region: usize) -> Option<f64> {
        self.read_ms_max[region]
    }

    /// One copy of everything.
    pub fn data_bytes(&self) -> f64 {
        self.file.data.keys as f64 * self.file.data.bytes_per_key
    }

    /// What a write sends to each copy.
    pub fn bytes_per_write(&self) -> f64 {
        let data = &self.file.data;
        data.bytes_per_write.unwrap_or(data.bytes_per_key)
    }

    /// What a read is answered with.
    pub fn bytes_per_read(&self) -> f64 {
        let data = &self.file.data;
        data.bytes_per_read.unwrap_or(data.bytes_per_key)
    }

    /// A server type.
    pub fn server_type(&self, number: usize) -> &ServerType {
        &self.file.server_types[number]
    }

    /// Topologies that are considered.
    pub fn topologies(&self) -> &[Topology] {
        &self.topologies
    }

    /// The rule that is asked for, if one is.
    pub fn rule(&self) -> Option<Rule> {
        self.rule
    }

    /// Types that no other beats or equals in everything: a layout with one of the rest is
    /// never cheaper, nor better, than the same with the type that beats it. Of equals the
    /// first is kept.
    pub fn useful_types(&self) -> Vec<usize> {
        let types = &self.file.server_types;
        let beats = |a: &ServerType, b: &ServerType| {
            let room = |t: &ServerType| t.storage_gb.unwrap_or(f64::INFINITY);
            a.price_per_month <= b.price_per_month
                && a.writes_per_s >= b.writes_per_s
                && a.reads_per_s >= b.reads_per_s
                && a.availability >= b.availability
                && room(a) >= room(b)
        };
        (0..types.len())
            .filter(|&b| {
                !(0..types.len()).any(|a| {
                    a != b && beats(&types[a], &types[b]) && (a < b || !beats(&types[b], &types[a]))
                })
            })
            .collect()
    }
}

fn check_numbers(file: &PlanFile) -> Result<(), PlanError> {
    not_negative("load.writes_per_s", file.load.writes_per_s)?;
    not_negative("load.reads_per_s", file.load.reads_per_s)?;
    positive("data.bytes_per_key", file.data.bytes_per_key)?;
    for (what, bytes) in [
        ("data.bytes_per_write", file.data.bytes_per_write),
        ("data.bytes_per_read", file.data.bytes_per_read),
    ] {
        bytes.map_or(Ok(()), |bytes| not_negative(what, bytes))?;
    }
    let promises = &file.promises;
    if let Some(ms) = promises.staleness_ms_max {
        not_negative("promises.staleness_ms_max", ms)?;
    }
    if let Some(part) = promises.availability_min {
        within("promises.availability_min", part, 0.0, 1.0, PART)?;
    }
    for (what, bounds) in [
        ("write_ms_max", &promises.write_ms_max),
        ("read_ms_max", &promises.read_ms_max),
    ] {
        for (region, ms) in bounds {
            not_negative(&format!("promises.{what}.{region}"), *ms)?;
        }
    }
    let c = &file.constraints;
    let used = "a part above 0 and at most 1, as in 0.8";
    let least = f64::MIN_POSITIVE;
    within(
        "constraints.utilisation_max",
        c.utilisation_max,
        least,
        1.0,
        used,
    )?;
    within(
        "constraints.reserved_discount",
        c.reserved_discount,
        0.0,
        1.0,
        PART,
    )?;
    not_negative("constraints.network_price_per_gb", c.network_price_per_gb)?;
    if let Some(budget) = c.budget_per_month {
        not_negative("constraints.budget_per_month", budget)?;
    }
    for (what, given, max, expected) in [
        ("shards_max", u32::from(c.shards_max), 1024, "1 to 1024"),
        (
            "copies_max_per_region",
            c.copies_max_per_region.into(),
            15,
            "1 to 15",
        ),
        (
            "servers_max_per_region",
            c.servers_max_per_region,
            10_000,
            "1 to 10000",
        ),
    ] {
        within(
            &format!("constraints.{what}"),
            given.into(),
            1.0,
            max.into(),
            expected,
        )?;
    }
    let a = &file.assumptions;
    positive("assumptions.repair_hours", a.repair_hours)?;
    for (what, given) in [
        ("in_region_one_way_ms", a.in_region_one_way_ms),
        ("service_ms", a.service_ms),
        ("pulse_ms", a.pulse_ms),
        ("detection_s", a.detection_s),
        ("failover_s", a.failover_s),
        ("reads_move_s", a.reads_move_s),
        ("region_outages_per_year", a.region_outages_per_year),
        ("region_outage_hours", a.region_outage_hours),
    ] {
        not_negative(&format!("assumptions.{what}"), given)?;
    }
    let gone = a.region_outages_per_year * a.region_outage_hours;
    let year = "less than a year's 8,760 hours";
    within(
        "the hours of a year in which a region is gone",
        gone,
        0.0,
        8760.0,
        year,
    )?;
    for region in &file.regions {
        for (what, weight) in [
            ("load_weight", Some(region.load_weight)),
            ("write_weight", region.write_weight),
            ("read_weight", region.read_weight),
        ] {
            let what = format!("{what} of region {}", region.name);
            weight.map_or(Ok(()), |weight| not_negative(&what, weight))?;
        }
    }
    for link in &file.links {
        let what = format!("one_way_ms between {}", link.between.join(" and "));
        not_negative(&what, link.one_way_ms)?;
    }
    for t in &file.server_types {
        positive(
            &format!("writes_per_s of server type {}", t.name),
            t.writes_per_s,
        )?;
        positive(
            &format!("reads_per_s of server type {}", t.name),
            t.reads_per_s,
        )?;
        let what = format!("availability of server type {}", t.name);
        within(&what, t.availability, least, 1.0, PART)?;
        not_negative(
            &format!("price_per_month of server type {}", t.name),
            t.price_per_month,
        )?;
        if let Some(gb) = t.storage_gb {
            positive(&format!("storage_gb of server type {}", t.name), gb)?;
        }
    }
    Ok(())
}

fn check_names(file: &PlanFile) -> Result<(), PlanError> {
    let wrong = |what, given: &str| PlanError::Name {
        what,
        given: given.into(),
    };
    if KeyspaceName::new(&file.name).is_err() {
        return Err(wrong("the plan's name", &file.name));
    }
    for (what, given, max) in [
        ("regions", file.regions.len(), REGIONS_MAX),
        ("server_types", file.server_types.len(), TYPES_MAX),
    ] {
        if given == 0 {
            return Err(PlanError::None(what));
        }
        if given > max {
            return Err(PlanError::TooMany { what, given, max });
        }
    }
    for region in &file.regions {
        if Region::new(&region.name).is_err() {
            return Err(wrong("region", &region.name));
        }
    }
    once("region", file.regions.iter().map(|r| r.name.as_str()))?;
    once(
        "server type",
        file.server_types.iter().map(|t| t.name.as_str()),
    )
}
