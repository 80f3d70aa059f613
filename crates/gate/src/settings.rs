//! What of the gate people may see and change while the node runs: `CONFIG GET` and `CONFIG SET`.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::{room::Gate, traffic::Traffic};
use std::time::Duration;

/// One that is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Zone(String),
    /// Clients of other machines are turned away.
    Protected(bool),
    /// How long a client may be idle; 0: for good.
    IdleMax(Duration),
    /// Microseconds from which on a command is slow; negative: none is.
    SlowFrom(i64),
    /// How many slow commands are kept.
    SlowMax(usize),
    /// Milliseconds from which on something has taken long; 0: nothing has.
    LatencyFrom(u64),
    /// Whether it is counted how long commands take.
    LatencyTracking(bool),
}

/// All of them, as [`Setting`] has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub zone: String,
    pub is_protected: bool,
    pub idle_max: Duration,
    pub slow_from_us: i64,
    pub slow_max: usize,
    pub latency_from_ms: u64,
    pub is_tracking: bool,
}

impl Gate {
    /// As they are.
    pub fn settings(&self) -> Settings {
        Settings {
            zone: self.config.zone.clone(),
            is_protected: self.config.protected_mode,
            idle_max: self.idle_max,
            slow_from_us: self.slow_log.from_us,
            slow_max: self.slow_log.commands_max,
            latency_from_ms: self.latency.threshold_ms,
            is_tracking: self.stats.is_tracking,
        }
    }

    /// One changes.
    pub fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Zone(zone) => self.config.zone = zone,
            Setting::Protected(on) => self.config.protected_mode = on,
            Setting::IdleMax(time) => self.idle_max = time,
            Setting::SlowFrom(from_us) => self.slow_log.from_us = from_us,
            Setting::SlowMax(commands) => self.slow_log.set_max(commands),
            Setting::LatencyFrom(ms) => self.latency.threshold_ms = ms,
            Setting::LatencyTracking(on) => self.stats.is_tracking = on,
        }
    }

    /// What is counted is counted anew; the node's host has counted so much by now.
    pub fn reset_stats(&mut self, traffic: Traffic) {
        self.stats.reset(traffic);
    }
}
