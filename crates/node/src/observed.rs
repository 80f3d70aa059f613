//! What a simulator must tell apart in the messages between nodes, and nobody else: how the bytes
//! of such a message begin. A test of `message` keeps it true.

use crate::message::VERSION;

/// A command that was forwarded.
pub const FORWARD: [u8; 4] = [VERSION, 2, 1, 1];
/// Its answer.
pub const FORWARDED: [u8; 4] = [VERSION, 2, 1, 2];
/// The emulated links.
pub const WAN: [u8; 4] = [VERSION, 2, 1, 3];
/// A replica says that it is sealed.
pub const SEALED: [u8; 5] = [VERSION, 2, 1, 0, 11];
/// What replicas of a shard tell each other.
pub const REPLICA: [u8; 2] = [VERSION, 1];
