//! Links between nodes.
//!
//! A **link** goes one way: from the node that made it to its peer. It is one TCP connection
//! for ordinary messages and, from the first bulk message on, a second one; both carry the
//! link's session number, and when either breaks the whole link is given up and made anew, so
//! that within one link there is never a gap. What comes back on these connections is only the
//! answer to the handshake.
//!
//! | state | to `Up` when | leaves it when |
//! |---|---|---|
//! | `Down` (messages are dropped) | connected, handshake accepted: `peer_connected` | – |
//! | `Up` | – | a connection breaks, another boot of the peer comes in while the former is silent, or more is queued than the limit: `peer_disconnected`, connect again after 50 to 500 ms (up to 2 s while no name of it can be resolved), at once when the peer comes in |
//! | `Up`, cut by the emulation | – | healed: as if it had broken, without the wait. Until then ordinary and bulk messages are dropped, those in flight included; bypass messages pass |
//!
//! | module | holds |
//! |---|---|
//! | [`frame`] | messages on the wire |
//! | [`handshake`] | who speaks to whom, and what versions |
//! | [`queue`] | what waits to be sent: the emulated latency (pure) |
//! | [`link`] | the outgoing side |
//! | [`incoming`] | the accepting side |

pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod incoming;
pub(crate) mod link;
pub(crate) mod queue;
