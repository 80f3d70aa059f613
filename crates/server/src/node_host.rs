//! A node as the server's host: nothing but names between the two.

use crate::{
    Limits, clock,
    host::{
        Aside, AsideDone, ConnId, Doubt, Effect, Host, Introduction, LinkState, NotAdmitted,
        QueryBuffer,
    },
};
use bytes::{Bytes, BytesMut};
use model::{Address, NodeId, Now};
use node::Node;
use std::{net::SocketAddr, time::Duration};
use storage::{
    log::{FlushJob, Synced, Written},
    store::{Guess, LsmStores, Prefetch},
};

/// A node on real disks.
pub(crate) struct NodeHost {
    pub(crate) node: Node<LsmStores>,
    /// What a client that the node does not know has to take: nothing.
    none: BytesMut,
}

impl NodeHost {
    pub(crate) fn new(node: Node<LsmStores>) -> Self {
        let none = BytesMut::new();
        NodeHost { node, none }
    }
}

impl Host for NodeHost {
    type Flush = FlushJob;
    type Written = Written;
    /// And how long both halves took.
    type Synced = (Synced, Duration);

    fn admit_client(&self, from: SocketAddr) -> Result<(), &'static str> {
        self.node.admit_client(from)
    }
    fn client_connected(&mut self, id: ConnId, addr: SocketAddr, now: Now) {
        self.node.client_connected(id, addr, now);
    }
    fn client_disconnected(&mut self, id: ConnId, now: Now) {
        self.node.client_disconnected(id, now);
    }
    fn client_ahead(&mut self, id: ConnId, guesses: &[Guess<'_>]) {
        self.node.client_ahead(id, guesses);
    }
    fn take_prefetch(&mut self) -> Option<(ConnId, Prefetch)> {
        self.node.take_prefetch()
    }
    fn prefetched(&mut self, id: ConnId, now: Now) {
        self.node.prefetched(id, now);
    }
    fn take_aside(&mut self) -> Option<Aside> {
        self.node.take_aside()
    }
    fn aside_done(&mut self, done: AsideDone, now: Now) {
        self.node.aside_done(done, now);
    }
    fn client_command(&mut self, id: ConnId, args: &[&[u8]], now: Now) {
        self.node.client_command(id, args, now);
    }
    fn is_administration(&self, args: &[&[u8]]) -> bool {
        node::is_administration(args)
    }
    fn slow_from(&self) -> Option<Duration> {
        self.node.slow_from()
    }
    fn client_took(&mut self, id: ConnId, args: &[&[u8]], took: Duration) {
        self.node.client_took(id, args, took);
    }
    fn client_worked(&mut self, took: Duration) {
        self.node.client_worked(took);
    }
    fn is_worn(&self) -> bool {
        self.node.is_worn()
    }
    fn peer_queued(&mut self, peer: &NodeId, bytes: usize) {
        self.node.peer_queued(peer, bytes);
    }
    fn client_protocol_error(&mut self, id: ConnId, line: &str, now: Now) {
        self.node.client_protocol_error(id, line, now);
    }
    fn client_query(&mut self, id: ConnId, query: QueryBuffer, now: Now) {
        self.node.client_query(id, query, now);
    }
    fn client_accepts(&mut self, id: ConnId) -> bool {
        self.node.client_accepts(id)
    }
    fn client_output(&mut self, id: ConnId) -> &mut BytesMut {
        match self.node.client_output(id) {
            Some(output) => output,
            None => {
                self.none.clear();
                &mut self.none
            }
        }
    }
    fn peer_connected(&mut self, peer: &NodeId, now: Now) {
        self.node.peer_connected(peer, now);
    }
    fn peer_disconnected(&mut self, peer: &NodeId, now: Now) {
        self.node.peer_disconnected(peer, now);
    }
    fn introduction(&self) -> Introduction {
        self.node.introduction()
    }
    fn admit(
        &self,
        from: &NodeId,
        introduced: &Introduction,
        is_linked: bool,
        now: Now,
    ) -> Result<(), NotAdmitted> {
        self.node.admit(from, introduced, is_linked, now)
    }
    fn not_admitted(&mut self, by: &NodeId, why: NotAdmitted, now: Now) {
        self.node.not_admitted(by, why, now);
    }
    fn peer_inbound(&mut self, from: &NodeId, introduced: &Introduction, now: Now) {
        self.node.peer_inbound(from, introduced, now);
    }
    fn peer_message(&mut self, from: &NodeId, message: Bytes, now: Now) {
        self.node.peer_message(from, message, now);
    }
    fn peers(&self) -> Vec<(NodeId, Vec<Address>)> {
        self.node.peers()
    }
    fn link(&self, to: &NodeId) -> LinkState {
        self.node.link(to)
    }
    fn take_flush(&mut self, now: Now) -> Option<FlushJob> {
        self.node.take_flush(now)
    }
    fn flush_written(&mut self, done: Written, now: Now) {
        self.node.flush_written(done, now);
    }
    fn flush_synced(&mut self, (done, took): Self::Synced, now: Now) {
        self.node.flush_synced(done, now);
        self.node.flush_took(took);
    }
    fn tick(&mut self, now: Now) {
        self.node.tick(now);
    }
    fn held_up(&mut self, late: Duration) {
        self.node.held_up(late);
    }
    fn doubt(&mut self, clock: fn() -> Now) -> Doubt {
        self.node.doubt(clock)
    }
    fn wake_at(&self) -> Option<Duration> {
        self.node.wake_at()
    }
    fn wake(&mut self, now: Now) {
        self.node.wake(now);
    }
    fn poll_effect(&mut self) -> Option<Effect> {
        self.node.poll_effect()
    }
    fn run_flush(flush: FlushJob, tell: impl FnOnce(Written)) -> Self::Synced {
        let began = clock::monotonic();
        let (written, sync) = flush.write();
        tell(written);
        let synced = sync.run();
        (synced, clock::monotonic().saturating_sub(began))
    }
    fn set_limits(&mut self, limits: &Limits) {
        self.node.set_limits(limits.of_node());
    }
    fn end(&mut self, now: Now) {
        self.node.end(now);
    }
    fn has_handed_over(&self) -> bool {
        self.node.has_handed_over()
    }
    fn owes_answers(&self) -> bool {
        self.node.owes_answers()
    }
    fn close(&mut self) -> Result<(), String> {
        self.node.close().map_err(|e| e.to_string())
    }
}
