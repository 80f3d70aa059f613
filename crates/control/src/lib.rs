//! The control plane's decisions: pure functions from the catalog and a command to the next
//! catalog. The consensus group that orders the commands, the disk and the network are the
//! node's.
//!
//! ```text
//! KEYSPACE CREATE … ─ create ─→ Command ─ encode ─→ the group's log
//!                                                        │ committed
//!      inventory (from the catalog) ┐                    ▼
//!      policy (is the wish sound?)  ├── planner ──→ machine::apply ──→ Catalog, Outcome | Refusal
//!      check (is the plan sound?)   ┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`command`] | what can be asked of the control plane, and its bytes in the log |
//! | [`machine`] | the state machine: a committed command → the next catalog |
//! | [`refusal`] | why a command was refused, and what would be right |
//! | [`policy`] | whether a strategy promises something, and can be met |
//! | [`planner`] | inventory + strategy → who holds which shard |
//! | [`detector`] | arrivals of heartbeats → whether a node is suspected |
//! | [`failover`] | shard + strategy + what was heard → who takes over, or why nobody does |
//! | [`check`] | whether a plan, or a whole catalog, is sound |
//! | [`level`] | the feature level: when it may be raised, and who may join |
//! | [`create`] | the words of `KEYSPACE CREATE` → a request |
//! | [`preset`] | a preset → the words that it stands for |
//! | [`snapshot`] | the catalog's bytes |
//!
//! Everything is decided inside [`machine::apply`], from the catalog and the command alone:
//! every voter computes the same. What a leader has observed (who is silent, who was heard)
//! comes with the command, as evidence that each voter judges.

pub mod check;
pub mod command;
pub mod create;
pub mod detector;
pub mod failover;
pub mod level;
pub mod machine;
pub mod planner;
pub mod policy;
pub mod preset;
pub mod refusal;
pub mod snapshot;
