//! What a node does when its disk answers nothing, and when it does again.

use crate::node::Node;
use storage::store::Stores;

impl<S: Stores> Node<S> {
    /// Looks whether the disk answers.
    pub(crate) fn stall_tick(&mut self) {
        match self.shards.look_at_disk() {
            Some(true) => {}
            Some(false) => self.leave_prefetches(),
            None => return,
        }
        self.cluster.report_soon();
    }

    /// Commands that wait for reads of a disk that hangs go on without: elsewhere, mostly.
    fn leave_prefetches(&mut self) {
        let waiting = self.sessions.values_mut().filter(|s| s.prefetching > 0);
        let mut conns = Vec::new();
        for session in waiting {
            session.prefetching = 0;
            conns.push(session.conn);
        }
        for conn in conns {
            self.announce(conn);
        }
    }
}
