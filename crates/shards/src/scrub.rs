//! Looking through what is on the disk (`storage::scrub`): when, how it stands, and what becomes
//! of a log that has decayed.
//!
//! A damaged store is `damage`'s. Of the log what is damaged is given up: once everything in it is
//! in the stores' files it is needed only for replicas that lag, which copy instead. So all
//! stores are flushed, the control group's state is written anew, and the segment goes, without
//! a restart, and before one would have to do without it.

use crate::room::Shards;
use std::time::Duration;
use storage::{
    log::{Decay, Lsn},
    scrub::{Scrub, ScrubWatch},
    store::Stores,
};

/// How what is on the disk is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// How long after the end of one the next begins; none begins by itself without.
    pub every: Option<Duration>,
    /// How much is read of a second, at most.
    pub bytes_per_second: u64,
}

/// After a start a node has other things to do first.
const FIRST_AFTER: Duration = Duration::from_secs(3600);

/// One that has ended.
#[derive(Clone, Copy, Debug)]
struct Last {
    at_ms: u64,
    took: Duration,
    bytes: u64,
}

/// Scrubs of this node.
#[derive(Default)]
pub(crate) struct Scrubs {
    under_way: Option<(ScrubWatch, Duration)>,
    last: Option<Last>,
    /// What of the log is damaged, and still there.
    decays: Vec<Decay>,
    /// When the next one begins by itself.
    due: Option<Duration>,
}

impl Scrubs {
    /// From now on they begin by themselves so far apart: counted from now, since when the last one
    /// ended is not what the next is due by any more.
    pub(crate) fn come_every(&mut self, every: Option<Duration>, now: Duration) {
        self.due = every.map(|every| now + every);
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Begins one; false if one is under way.
    pub fn begin_scrub(&mut self) -> bool {
        if self.scrubs.under_way.is_some() {
            return false;
        }
        let scrub = Scrub {
            stores: (self.all.values().filter_map(|s| s.store.scrub())).collect(),
            log: self.log.get().scrub(),
            bytes_per_second: self.config.limits.scrub.bytes_per_second,
        };
        let (work, watch) = scrub.begin();
        self.scrubs.under_way = Some((watch, self.now.monotonic));
        self.stores.spawn(work);
        true
    }

    pub(crate) fn scrub_upkeep(&mut self) {
        let now = self.now.monotonic;
        if let Some((watch, began)) = &self.scrubs.under_way
            && let Some(found) = watch.take()
        {
            let took = now.saturating_sub(*began);
            let (bytes, seconds) = (found.bytes, took.as_secs());
            tracing::info!(bytes, seconds, "everything on the disk was looked through");
            self.scrubs.last = Some(Last {
                at_ms: self.now.wall_ms,
                took,
                bytes,
            });
            self.scrubs.under_way = None;
            self.scrubs.decays = found.decays;
            for decay in &self.scrubs.decays {
                if self.log.get().is_decayed(decay).is_some() {
                    tracing::error!(what = %decay.what, "the log is damaged: what is in it is written to the stores, and then that part of it is given up");
                }
            }
            self.scrubs.due = self.config.limits.scrub.every.map(|every| now + every);
        }
        let due = *(self.scrubs.due).get_or_insert_with(|| now + FIRST_AFTER);
        if self.config.limits.scrub.every.is_some() && due <= now {
            self.begin_scrub();
        }
    }

    /// Up to where the log is to be given up, whoever might want it.
    pub(crate) fn log_given_up_to(&mut self) -> Option<Lsn> {
        let log = self.log.get();
        let had = self.scrubs.decays.len();
        self.scrubs
            .decays
            .retain(|decay| log.is_decayed(decay).is_some());
        if had > 0 && self.scrubs.decays.is_empty() {
            tracing::info!("the damaged part of the log is gone");
        }
        let ends: Vec<_> = self
            .scrubs
            .decays
            .iter()
            .filter_map(|d| log.is_decayed(d))
            .collect();
        if ends.iter().any(Option::is_none) {
            // It is the one that is written to.
            self.log.begin_segment();
            self.log.flush_by(self.now.monotonic);
        }
        ends.into_iter().flatten().max()
    }

    /// For INFO.
    pub fn scrub_lines(&self) -> String {
        let under_way = self.scrubs.under_way.as_ref();
        let mut lines = format!(
            "damaged_shards:{}\r\ndamaged_log_segments:{}\r\nscrub_in_progress:{}\r\n",
            self.damaged_count(),
            self.scrubs.decays.len(),
            u8::from(under_way.is_some()),
        );
        if let Some((watch, _)) = under_way {
            lines.push_str(&format!("scrub_current_bytes:{}\r\n", watch.bytes()));
        }
        if let Some(last) = self.scrubs.last {
            lines.push_str(&format!(
                "scrub_last_time:{}\r\nscrub_last_seconds:{}\r\nscrub_last_bytes:{}\r\n",
                last.at_ms / 1000,
                last.took.as_secs(),
                last.bytes,
            ));
        }
        lines
    }
}
