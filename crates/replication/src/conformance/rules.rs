//! What the suite asks of a topology.

use crate::protocol::{Identity, Office, Protocol, Recovered};
use model::NodeId;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// What a topology decides in its own way.
pub(crate) trait Rules {
    /// Its protocol.
    type Replica: Protocol;

    /// A replica with what its disk holds.
    fn replica(identity: Identity, recovered: Recovered) -> Self::Replica;

    /// The process of this node has started: to whom there is something new to say.
    fn started(&mut self, node: usize) -> Vec<usize>;

    /// One in so many faults happens: what takes long to come up again has to have the time.
    fn faults_one_in(&self) -> u64;

    /// What is said to a node.
    fn office(&self, node: usize, all: &[NodeId]) -> Office;
}
