//! What a simulator must tell apart in the messages between nodes, and nobody else. Each is how
//! the bytes of such a message begin, behind the envelope; a test of `message` keeps them true.

/// A command that was forwarded.
pub const FORWARD: u8 = 1;
/// Its answer.
pub const FORWARDED: u8 = 2;
/// The emulated links.
pub const WAN: u8 = 3;
/// A replica says that it is sealed.
pub const SEALED: [u8; 2] = [0, 11];
