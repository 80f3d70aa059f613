//! Whole clusters in one process under virtual time: the same [`node::Node`] that the server
//! hosts, on simulated disks, stores, links and clocks.
//!
//! ```text
//!   story (tests/) ── verbs ──▶ World ── inputs ──▶ Node ×3
//!        ▲                        │  ◀── effects ───  │
//!        │                        ▼                   ▼
//!     Client ◀── replies ──  event queue       SimDisk, MemoryStores
//!        └─ what must hold        └──▶ Trace       (outlive the node)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`world`] | the clock, the event queue, the machines, and the verbs of a story |
//! | `machine` | one machine: its disks, its clocks, the node that runs on it |
//! | `network` | links between nodes: latency, order, cuts |
//! | [`client`] | clients, and what each may be answered |
//! | `session`, `register`, `expiry` | clients of other kinds, each with a promise that it judges |
//! | [`scenario`] | a cluster, its clients and what befalls them, drawn from a seed |
//! | [`check`] | what must hold at the end of a story |
//! | [`linearizability`] | whether what clients saw of one key fits a single copy |
//! | [`trace`] | everything that happened, and a hash of it |
//! | [`random`] | the only source of chance |
//!
//! That it finds what is wrong is tested with bugs that are planted (`model::planted`): each
//! breaks one rule of the protocols and is found within a stated number of seeds
//! (`tests/planted`, with the feature `planted-bugs`; `sim --plant NAME` shows one).
//!
//! What always holds:
//! - A seed decides everything: the same seed gives the same trace, byte for byte.
//! - Time passes only between events; nothing waits, nothing is slept through.
//! - A fault that a story asks for and that did not happen is seen in [`world::Faults`].

pub mod check;
pub mod client;
mod expiry;
pub mod linearizability;
pub mod lost;
mod machine;
mod network;
pub mod random;
pub mod register;
pub mod scenario;
pub mod session;
pub mod trace;
pub mod world;

pub use world::{Moment, World};
