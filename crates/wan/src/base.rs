//! Base latencies: what holds before anybody gives an order.
//!
//! A file says (milliseconds, one way, fractions allowed):
//!
//! ```toml
//! inside_ms = 0.5               # between two nodes of one region; 0 if left out
//!
//! [[link]]
//! between = ["us", "eu"]        # both ways
//! latency_ms = 100
//!
//! [[link]]
//! from = "eu"                   # one way; a later entry replaces an earlier one
//! to = "us"
//! latency_ms = 105.5
//! ```
//!
//! A pair of regions that isn't listed has no delay.

use model::{Region, id::InvalidName};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The longest latency that can be set, in a file or by an order.
pub const LATENCY_MAX: Duration = Duration::from_secs(60);

/// One-way latencies between regions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    inside: Duration,
    between: BTreeMap<(Region, Region), Duration>,
}

/// A file of latencies that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It isn't TOML, or has unknown or missing keys.
    #[error("{0}")]
    Format(String),
    /// A region's name breaks the rule.
    #[error("link {number}: {source}")]
    Name {
        /// Which `[[link]]`, from 1.
        number: usize,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// It says neither or both of `between` and `from`/`to`.
    #[error("link {number}: say either `between = [a, b]` or both `from` and `to`")]
    Ends {
        /// Which `[[link]]`, from 1.
        number: usize,
    },
    /// A latency is negative, not a number, or too long.
    #[error("{what}: {ms} is not a latency: use 0 to {} milliseconds", LATENCY_MAX.as_millis())]
    Latency {
        /// Where it stands.
        what: String,
        /// The number as it came.
        ms: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    inside_ms: f64,
    #[serde(default)]
    link: Vec<FileLink>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLink {
    between: Option<(String, String)>,
    from: Option<String>,
    to: Option<String>,
    latency_ms: f64,
}

impl Base {
    /// No delay anywhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// US–EU 100 ms, US–Asia 200 ms, EU–Asia 150 ms one way; 0.5 ms inside a region.
    pub fn reference() -> Self {
        let mut base = Base {
            inside: Duration::from_micros(500),
            between: BTreeMap::new(),
        };
        for (a, b, ms) in [("us", "eu", 100), ("us", "asia", 200), ("eu", "asia", 150)] {
            // These three names keep the rule of regions.
            if let (Ok(a), Ok(b)) = (Region::new(a), Region::new(b)) {
                base.set_both(a, b, Duration::from_millis(ms));
            }
        }
        base
    }

    /// Reads the format above.
    pub fn from_toml(text: &str) -> Result<Self, BaseError> {
        let file: File = toml::from_str(text).map_err(|e| BaseError::Format(e.to_string()))?;
        let mut base = Base {
            inside: latency("inside_ms", file.inside_ms)?,
            between: BTreeMap::new(),
        };
        for (at, link) in file.link.into_iter().enumerate() {
            let number = at + 1;
            let region =
                |text: &str| Region::new(text).map_err(|source| BaseError::Name { number, source });
            let time = latency(&format!("link {number}"), link.latency_ms)?;
            match (link.between, link.from, link.to) {
                (Some((a, b)), None, None) => base.set_both(region(&a)?, region(&b)?, time),
                (None, Some(from), Some(to)) => {
                    base.between.insert((region(&from)?, region(&to)?), time);
                }
                _ => return Err(BaseError::Ends { number }),
            }
        }
        Ok(base)
    }

    fn set_both(&mut self, a: Region, b: Region, time: Duration) {
        self.between.insert((b.clone(), a.clone()), time);
        self.between.insert((a, b), time);
    }

    /// One way, between two different nodes of these regions.
    pub fn latency(&self, from: &Region, to: &Region) -> Duration {
        // Looked up by clones: a name is a shared pointer, and this is asked once a message.
        match self.between.get(&(from.clone(), to.clone())) {
            Some(time) => *time,
            None if from == to => self.inside,
            None => Duration::ZERO,
        }
    }

    /// Every region that the base names.
    pub fn regions(&self) -> BTreeSet<Region> {
        self.between.keys().map(|(from, _)| from.clone()).collect()
    }
}

fn latency(what: &str, ms: f64) -> Result<Duration, BaseError> {
    Duration::try_from_secs_f64(ms / 1000.0)
        .ok()
        .filter(|time| *time <= LATENCY_MAX)
        .ok_or_else(|| BaseError::Latency {
            what: what.to_owned(),
            ms: ms.to_string(),
        })
}
