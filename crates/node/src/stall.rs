//! What a node does when its disk answers nothing, and when it does again.

use crate::node::Node;
use storage::store::Stores;

impl<S: Stores> Node<S> {
    /// Looks whether the disk answers.
    pub(crate) fn stall_tick(&mut self) {
        match self.shards.look_at_disk() {
            Some(true) => {}
            // Elsewhere, mostly.
            Some(false) => self.with_gate(|gate, _| gate.leave_prefetches()),
            None => return,
        }
        self.cluster.report_soon();
    }
}
