//! A layout that runs on one machine: the plan and the layout in one file, and the same with
//! fewer servers and less load. What is computed then is computed for what runs.

use crate::{
    file::PlanFile,
    judge::{Judged, judge},
    layout::{Layout, LayoutFile},
    wanted::{PlanError, Wanted},
};
use serde::{Deserialize, Serialize};

/// Processes that stand for a layout's servers, at most.
pub const PROCESSES_MAX: u32 = 14;

/// A whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoFile {
    /// By how much the load is divided; absent: by as much as the machine needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// What is wanted.
    pub plan: PlanFile,
    /// What is to run.
    pub layout: LayoutFile,
}

/// What runs, and what is computed of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    /// With the load that is asked for.
    pub wanted: Wanted,
    /// With the servers that run.
    pub judged: Judged,
    /// By how much the load was divided.
    pub scale: f64,
    /// How many servers the layout has.
    pub servers: u32,
}

/// A file that can't be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DemoError {
    /// Not a plan, or no layout for it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// This release does not serve it.
    #[error("{0}")]
    Unserved(&'static str),
    /// The copies alone are too many.
    #[error(
        "each shard has {copies} copies, which take as many nodes; a demo has {PROCESSES_MAX} at most"
    )]
    TooManyCopies {
        /// Copies of each shard.
        copies: u32,
    },
}

impl DemoFile {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|e| PlanError::Syntax(e.to_string().trim_end().into()))
    }

    /// The file that reads back as this.
    pub fn to_toml(&self) -> Result<String, PlanError> {
        toml::to_string(self).map_err(|e| PlanError::Syntax(e.to_string()))
    }

    /// The same for a machine that holds so many operations a second.
    pub fn scaled(&self, operations_per_s: f64) -> Result<Scaled, DemoError> {
        let asked = Wanted::new(self.plan.clone())?;
        let mut layout = self.layout.resolve(&asked)?;
        layout.runs().map_err(DemoError::Unserved)?;
        let load = &asked.file().load;
        let needed = (load.writes_per_s + load.reads_per_s) / operations_per_s;
        let scale = match self.scale {
            Some(scale) if (1.0..=1e12).contains(&scale) => scale,
            Some(given) => {
                return Err(DemoError::Plan(PlanError::Number {
                    what: "scale".into(),
                    given: given.to_string(),
                    expected: "1 or more",
                }));
            }
            None => needed.max(1.0),
        };
        let servers = layout.servers_in_all();
        fold(&mut layout)?;
        let mut file = self.plan.clone();
        file.load.writes_per_s /= scale;
        file.load.reads_per_s /= scale;
        let wanted = Wanted::new(file)?;
        let judged = judge(&wanted, layout);
        Ok(Scaled {
            wanted,
            judged,
            scale,
            servers,
        })
    }
}

/// Takes servers away where a region has the most for each copy, until few enough are left.
fn fold(layout: &mut Layout) -> Result<(), DemoError> {
    let copies = layout.replication_factor();
    if copies > PROCESSES_MAX {
        return Err(DemoError::TooManyCopies { copies });
    }
    // A server without a copy carries nothing.
    for region in 0..layout.servers.len() {
        if layout.copies[region] == 0 {
            layout.servers[region].clear();
        }
    }
    while layout.servers_in_all() > PROCESSES_MAX {
        let spare = |r: &usize| {
            layout
                .servers_in(*r)
                .saturating_sub(layout.copies[*r].into())
        };
        let Some(region) = (0..layout.servers.len()).max_by_key(spare) else {
            break;
        };
        // There are fewer copies than servers, so one region has a server to spare.
        let Some(servers) = layout.servers[region].iter_mut().max_by_key(|s| s.count) else {
            break;
        };
        servers.count -= 1;
        layout.servers[region].retain(|s| s.count > 0);
    }
    Ok(())
}
