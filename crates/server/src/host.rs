//! What the server needs of a node, and nothing more: a state machine that is fed inputs and
//! asked for effects. It has no sockets and no clock of its own.
//!
//! ```text
//! client_*, peer_*, tick, flush_*    ──▶ Host ──▶ client_output   bytes for clients
//!                                             ──▶ poll_effect     what to do with sockets
//!                                             ──▶ take_flush      what the log must make durable
//!                                             ──▶ take_prefetch   what is to be read from files
//!                                             ──▶ take_aside      what takes a while
//! ```
//!
//! After every batch of inputs the server takes what is to be flushed (if a thread is free) and
//! drains the effects. A host is never called from within one of its own calls, and
//! always on one thread; only [`Host::run_flush`], [`Prefetch::run`] and [`Aside::run`] run on
//! others.

use crate::Limits;
use bytes::{Bytes, BytesMut};
use model::{Address, NodeId, Now};
use std::{net::SocketAddr, time::Duration};

pub use node::{
    AHEAD_MAX, Aside, AsideDone, ConnId, Doubt, Effect, Introduction, Lane, NotAdmitted,
    QueryBuffer,
};
pub use storage::store::{Guess, Prefetch};
pub use wan::Link as LinkState;

/// A node, as the server sees it.
pub trait Host: 'static {
    /// A batch of appended entries that is to become durable.
    type Flush: Send + 'static;
    /// What came of its first half, which writes: the next may be taken.
    type Written: Send + 'static;
    /// What came of its second, which syncs.
    type Synced: Send + 'static;

    /// Whether a client may come from `from`; an error is the line (without `-` and CR LF) that it
    /// is told.
    fn admit_client(&self, _from: SocketAddr) -> Result<(), &'static str> {
        Ok(())
    }
    /// A client connected. `conn` is valid until `client_disconnected`.
    fn client_connected(&mut self, conn: ConnId, addr: SocketAddr, now: Now);
    /// A client is gone, whoever closed the connection.
    fn client_disconnected(&mut self, conn: ConnId, now: Now);
    /// The next commands will probably look these up, at most [`AHEAD_MAX`]. The client may not
    /// go on at once then.
    fn client_ahead(&mut self, _conn: ConnId, _guesses: &[Guess<'_>]) {}
    /// The next of what is to be read on another thread, for a client.
    fn take_prefetch(&mut self) -> Option<(ConnId, Prefetch)> {
        None
    }
    /// That was read.
    fn prefetched(&mut self, _conn: ConnId, _now: Now) {}
    /// The next piece of work for another thread, if none is under way.
    fn take_aside(&mut self) -> Option<Aside> {
        None
    }
    /// It is over.
    fn aside_done(&mut self, _done: AsideDone, _now: Now) {}
    /// One command, its name first. Its reply appears in `client_output`, in order.
    fn client_command(&mut self, conn: ConnId, args: &[&[u8]], now: Now);
    /// Whether a command is administration, for which there is room above `max_clients`.
    fn is_administration(&self, _args: &[&[u8]]) -> bool {
        false
    }
    /// How long a command takes that is to be reported to `client_took`; None: none is, and the
    /// clock is not read for it.
    fn slow_from(&self) -> Option<Duration> {
        None
    }
    /// `client_command` took so long.
    fn client_took(&mut self, _conn: ConnId, _args: &[&[u8]], _took: Duration) {}
    /// The last `client_command` took so long, slow or not; told only where the clock is read.
    fn client_worked(&mut self, _took: Duration) {}
    /// The client sent what isn't RESP: queue `line` (without CR LF) as an error behind the
    /// earlier replies, then close.
    fn client_protocol_error(&mut self, conn: ConnId, line: &str, now: Now);
    /// What is held of the client's input that was not consumed is this now.
    fn client_query(&mut self, _conn: ConnId, _query: QueryBuffer, _now: Now) {}
    /// Whether the client may go on. While it may not the server neither reads nor decodes;
    /// it asks again at `ClientResumed` and when it has written all of the client's output.
    fn client_accepts(&mut self, conn: ConnId) -> bool;
    /// Whether this turn has had its work: no more commands are handed over before the next.
    fn is_worn(&self) -> bool {
        false
    }
    /// Bytes that are ready to go out. The server removes from the front what it has written
    /// and leaves the rest, so its length is what the client has still to take.
    fn client_output(&mut self, conn: ConnId) -> &mut BytesMut;

    /// The outgoing link to `peer` is newly made: what is sent from now on arrives in order
    /// and without a gap, until `peer_disconnected`.
    fn peer_connected(&mut self, peer: &NodeId, now: Now);
    /// The outgoing link broke; what was sent may be lost.
    fn peer_disconnected(&mut self, peer: &NodeId, now: Now);
    /// What other nodes are told when a link to them is made: this start of the node, and what
    /// its release can work with.
    fn introduction(&self) -> Introduction;
    /// Whether a link from `from`, as it introduces itself, is taken. `is_linked`: one that came from its id
    /// before is still open.
    fn admit(
        &self,
        _from: &NodeId,
        _introduced: &Introduction,
        _is_linked: bool,
        _now: Now,
    ) -> Result<(), NotAdmitted> {
        Ok(())
    }
    /// `by` does not take a link from this node.
    fn not_admitted(&mut self, _by: &NodeId, _why: NotAdmitted, _now: Now) {}
    /// `from`, admitted as it introduced itself, has made a new link to us; messages of its former one may
    /// be lost.
    fn peer_inbound(&mut self, from: &NodeId, introduced: &Introduction, now: Now);
    /// A message from `from`, in order within its lane. It may share memory with others that
    /// came with it: copy what is kept for long.
    fn peer_message(&mut self, from: &NodeId, message: Bytes, now: Now);
    /// So much waits to be sent to a peer. Told before each `tick`.
    fn peer_queued(&mut self, _peer: &NodeId, _bytes: usize) {}
    /// To whom links are kept, and where they are reached: at least one address, the likeliest
    /// first.
    fn peers(&self) -> Vec<(NodeId, Vec<Address>)>;
    /// What the emulation says of the link to `to`.
    fn link(&self, to: &NodeId) -> LinkState;

    /// What is to be made durable next, if that may begin by now: earlier flushes may be under
    /// way.
    fn take_flush(&mut self, now: Now) -> Option<Self::Flush>;
    /// The first half of a flush has ended.
    fn flush_written(&mut self, done: Self::Written, now: Now);
    /// The second half of a flush has ended. Those of several may end in any order.
    fn flush_synced(&mut self, done: Self::Synced, now: Now);
    /// Time has passed; called every 20 ms.
    fn tick(&mut self, now: Now);
    /// Told before each `tick`: by how much it comes too late.
    fn held_up(&mut self, _late: Duration) {}
    /// Asked before each effect is carried out: whether what was answered may be said (the
    /// process may have been stopped within the turn). In doubt it is kept back; what is void
    /// is never said, and every connection is closed instead.
    /// The clock is read only if there is anything to judge.
    fn doubt(&mut self, _clock: fn() -> Now) -> Doubt {
        Doubt::None
    }
    /// When `wake` is wanted at the latest, by the monotonic clock; it may be in the past.
    fn wake_at(&self) -> Option<Duration>;
    /// A moment that `wake_at` named has come: what could wait until now is done.
    fn wake(&mut self, now: Now);
    /// The next thing to do, until there is none: then all before it has been done, or is kept
    /// back as `doubt` wants it.
    fn poll_effect(&mut self) -> Option<Effect>;
    /// Makes a batch durable, and tells when it is written. Runs on a log-sync thread.
    fn run_flush(flush: Self::Flush, tell: impl FnOnce(Self::Written)) -> Self::Synced;
    /// Its configuration was read again: these limits hold from now on.
    fn set_limits(&mut self, _limits: &Limits) {}
    /// The node is to end: it lets others take over what they can.
    fn end(&mut self, _now: Now) {}
    /// Whether there is nothing left that others could take over.
    fn has_handed_over(&self) -> bool {
        true
    }
    /// Whether clients wait for answers to what was handed over of theirs.
    fn owes_answers(&self) -> bool {
        false
    }
    /// The node ends in good order: no flush is under way, and nothing else is asked of it any
    /// more. Blocks on the disk. An error is for people.
    fn close(&mut self) -> Result<(), String> {
        Ok(())
    }
}
