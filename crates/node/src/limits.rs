//! What may change while a node runs: its host sets it anew when it has read its configuration
//! again. All else of the configuration holds until the node ends.

use crate::node::Node;
use commands::work::WORK_MAX;
use model::entry;
use shards::ScrubConfig;
use std::time::Duration;
use storage::store::Stores;

/// How many clients there may be, and how long what each sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientBounds {
    /// Clients at once. The host refuses more.
    pub clients_max: usize,
    /// Bytes of one argument. The host refuses more.
    pub bulk_bytes_max: usize,
}

impl Default for ClientBounds {
    fn default() -> Self {
        ClientBounds {
            clients_max: 10_000,
            bulk_bytes_max: entry::WRITE_BYTES_MAX,
        }
    }
}

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

impl NodeLimits {
    pub(crate) fn of_gate(&self) -> gate::Limits {
        gate::Limits {
            input_bytes_max: self.input_bytes_max,
            reply_memory_bytes: self.reply_memory_bytes,
            command_work_max: self.command_work_max,
        }
    }

    pub(crate) fn of_shards(&self) -> shards::Limits {
        shards::Limits {
            command_work_max: self.command_work_max,
            copy_bytes_per_second: self.copy_bytes_per_second,
            disk_stall_after: self.disk_stall_after,
            scrub: self.scrub,
        }
    }
}

impl<S: Stores> Node<S> {
    /// From now on these hold. What is under way goes on under those before.
    pub fn set_limits(&mut self, limits: NodeLimits) {
        self.gate.set_limits(limits.of_gate());
        self.shards.set_limits(limits.of_shards());
        self.config.limits = limits;
    }

    /// Some of them change; the rooms that have their part of them are told.
    pub(crate) fn change_limits(&mut self, change: impl FnOnce(&mut NodeLimits)) {
        let mut limits = self.config.limits.clone();
        change(&mut limits);
        self.set_limits(limits);
    }
}
