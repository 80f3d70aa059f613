//! What the suite asks of a topology.

use crate::protocol::{Identity, Office, Protocol, Recovered};
use model::{DiskId, NodeId};

/// How many nodes there are.
pub(crate) const NODES: usize = 3;

/// The nodes as their catalog knows them.
pub(crate) struct Cluster {
    /// Each, and the disk that it is on.
    pub(crate) disks: Vec<(NodeId, DiskId)>,
    /// How often something was said of them.
    pub(crate) version: u64,
    /// Whether nobody has become a member on another disk than its first.
    pub(crate) founding: bool,
}

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
    fn office(&self, node: usize, cluster: &Cluster) -> Office;

    /// Whether a node may lose its disk while all others are members.
    fn disks_go(&self) -> bool {
        false
    }
}
