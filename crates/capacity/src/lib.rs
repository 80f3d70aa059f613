//! The planner: what a deployment carries, promises and costs, and which one is cheapest. Pure:
//! files and screens belong to `quire`.
//!
//! ```text
//!   PlanFile ─ checked ─▶ Wanted ─┬─ search ─▶ Plan: the best, and why others fall out
//!                                 │            or Infeasible: what to relax, by how much
//!   LayoutFile ─ resolved ─▶ Layout ─ judge ─▶ Judged: figures, violations
//!                                       └─ check ─▶ findings, also on what is claimed
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`file`] | the plan file |
//! | [`wanted`] | the same, checked |
//! | [`layout`] | topology, rule, copies, primaries, servers; and its file |
//! | [`latency`] | how long writes and reads take, how old reads are |
//! | [`load`] | what each server and the network carry |
//! | [`availability`] | what is answered, and what survives |
//! | [`judge`] | one layout against what is wanted |
//! | [`search`] | the cheapest that keep everything, and the others |
//! | [`check`] | a layout that is given, and what is claimed of it |
//! | [`demo`] | a layout scaled to one machine |
//! | [`presets`] | files that come with the release |
//! | [`say`] | figures as people read them |
//!
//! Equal inputs give equal plans. The formulas: docs/adr/0019-the-planner.md.

pub mod availability;
pub mod check;
pub mod demo;
pub mod file;
pub mod judge;
pub mod latency;
pub mod layout;
pub mod load;
pub mod presets;
pub mod say;
pub mod search;
pub mod wanted;

pub use file::PlanFile;
pub use judge::{Judged, judge};
pub use layout::{Layout, LayoutFile};
pub use search::{Answer, search};
pub use wanted::{PlanError, Wanted};
