//! What may change while a node runs: its host sets it anew when it has read its configuration
//! again. All else of the configuration holds until the node ends.

use crate::{node::Node, scrub::ScrubConfig};
use commands::work::WORK_MAX;
use std::time::Duration;
use storage::store::Stores;

/// How much a node takes, and how much it does at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    /// Bytes that are held of what all clients have sent and is not done.
    pub input_bytes_max: usize,
    /// Memory for replies that were not taken yet, all clients' together, in bytes; at least
    /// [`crate::REPLY_MEMORY_BYTES_MIN`].
    pub reply_memory_bytes: usize,
    /// What one command, or one transaction, may cost ([`commands::Work`]).
    pub command_work_max: u64,
    /// What copies for other nodes may take together, in bytes a second.
    pub copy_bytes_per_second: u64,
    /// How long a write or sync of the log may be outstanding before the disk counts as stalled.
    pub disk_stall_after: Duration,
    /// How what is on the disk is looked through.
    pub scrub: ScrubConfig,
}

impl Default for NodeLimits {
    fn default() -> Self {
        NodeLimits {
            input_bytes_max: 256 << 20,
            reply_memory_bytes: 512 << 20,
            command_work_max: WORK_MAX,
            copy_bytes_per_second: 64 << 20,
            disk_stall_after: Duration::from_secs(3),
            scrub: ScrubConfig {
                every: Some(Duration::from_secs(7 * 24 * 3600)),
                bytes_per_second: 8 << 20,
            },
        }
    }
}

impl<S: Stores> Node<S> {
    /// From now on these hold. What is under way goes on under those before.
    pub fn set_limits(&mut self, limits: NodeLimits) {
        self.replies.set_max(limits.reply_memory_bytes);
        self.disk_watch.set_bound(limits.disk_stall_after);
        if limits.scrub.every != self.config.limits.scrub.every {
            // Counted from now: when the last one ended is not what it is due by any more.
            let now = self.now.monotonic;
            self.scrub_due = limits.scrub.every.map(|every| now + every);
        }
        self.config.limits = limits;
    }
}
