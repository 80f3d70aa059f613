//! What a replica waits for, and how much it holds.

use std::time::Duration;

/// Times and bounds. The defaults fit regions up to half a second apart.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// A primary lets each replica hear from it this often.
    pub heartbeat: Duration,
    /// How long entries for a replica that nobody waits for are gathered: in the primary's
    /// region …
    pub pace_near: Duration,
    /// … and in others.
    pub pace_far: Duration,
    /// How long a replica may gather acknowledgements that nobody waits for.
    pub pace_ack: Duration,
    /// Bytes under way to one replica.
    pub window_bytes: usize,
    /// Bytes of entries in one message, unless a single entry is larger.
    pub message_bytes: usize,
    /// Bytes of recent entries kept in memory to send from.
    pub tail_bytes: usize,
    /// Bytes of proposed entries that may wait to be committed.
    pub uncommitted_bytes: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            heartbeat: Duration::from_millis(100),
            pace_near: Duration::from_millis(2),
            pace_far: Duration::from_millis(5),
            pace_ack: Duration::from_millis(20),
            window_bytes: 32 << 20,
            message_bytes: 1 << 20,
            tail_bytes: 8 << 20,
            uncommitted_bytes: 64 << 20,
        }
    }
}
