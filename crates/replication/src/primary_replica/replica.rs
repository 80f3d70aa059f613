//! The half that follows.

use super::{
    Core,
    message::{Ack, Append, Body},
};
use crate::protocol::Output;
use model::{EpochHistory, NodeId, Now, codec::NUMBER_MAX};
use std::{collections::VecDeque, time::Duration};

/// What a primary said of its log at one moment; it holds for us once we have applied as much.
#[derive(Clone, Copy, Debug)]
struct News {
    /// Its last index, and shard time then: entries above it were made later.
    last: u64,
    time_ms: u64,
    /// Its committed index, and the moment of our clock as of which that was all.
    commit: u64,
    fresh_at: Option<Duration>,
}

/// More than this many pieces of news at once are thinned out.
const NEWS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Follower {
    /// Whom we follow, once it has spoken.
    primary: Option<NodeId>,
    /// Up to where our log is known to be the primary's in this epoch.
    verified: u64,
    /// What the primary has committed, as far as we know.
    primary_commit: u64,
    /// The `matched` that was acknowledged last.
    acknowledged: u64,
    /// When an acknowledgement is due.
    ack_at: Option<Duration>,
    news: VecDeque<News>,
    time_ms: u64,
    fresh_at: Option<Duration>,
    applied: u64,
}

impl Follower {
    pub(super) fn new(core: &Core) -> Self {
        Follower {
            primary: None,
            // Not even what is committed here need be part of a later primary's log: with
            // `async` a failover may lose a tail.
            verified: 0,
            primary_commit: 0,
            acknowledged: 0,
            ack_at: None,
            news: VecDeque::new(),
            time_ms: 0,
            fresh_at: None,
            applied: core.applied,
        }
    }

    pub(super) fn shows_as_before(&mut self, before: &Follower) {
        self.fresh_at = before.fresh_at;
        self.time_ms = before.time_ms;
    }

    pub(super) fn time_ms(&self) -> u64 {
        self.time_ms
    }

    pub(super) fn fresh_at(&self) -> Option<Duration> {
        self.fresh_at
    }

    pub(super) fn append(&mut self, core: &mut Core, from: &NodeId, append: Append, now: Now) {
        self.primary = Some(from.clone());
        core.floor = core.floor.max(Some(append.floor));
        if core.filling {
            return;
        }
        let prev = append.prev;
        if !core.history.contains(prev, core.last.index) {
            // Where they agree the histories tell the primary: what came with a store copy has
            // no entries to show.
            return self.report(core, from, now);
        }
        let mut upto = prev.index;
        for entry in append.entries {
            let index = entry.position.index;
            upto = index;
            if let Some(until) = core.until
                && (index < until.index && entry.position.epoch > until.epoch
                    || index == until.index && entry.position.epoch != until.epoch)
            {
                // The keys that were fetched are as of a position that was lost in turn.
                return self.copy(core, from, index - 1);
            }
            if index <= core.last.index {
                if core.history.epoch_at(index) == entry.position.epoch {
                    if let Some(own) = core.tail.get(index)
                        && own.checksum() != entry.checksum()
                    {
                        let shard = core.identity.shard;
                        return core.stop(format!(
                            "shard {shard}: this node and {from} hold different entries at {}",
                            entry.position
                        ));
                    }
                    continue;
                }
                // All before agrees, so this is exactly where the logs part.
                if index <= core.commit {
                    return self.rewind(core, from, index - 1);
                }
                core.truncate_after(index - 1);
            }
            core.append(entry, append.urgent);
        }
        self.verified = self.verified.max(upto);
        self.primary_commit = self.primary_commit.max(append.commit);
        let echo = moment(core.identity.boot, append.echo, now);
        self.note_news(&append.commit, append.last, append.time_ms, echo);
        self.commit(core);

        let wait = if append.urgent {
            Duration::ZERO
        } else {
            core.tuning.pace_ack
        };
        let due = now.monotonic + wait;
        self.ack_at = Some(self.ack_at.map_or(due, |at| at.min(due)));
        // With nothing to wait for, an answer to a heartbeat or a probe goes at once.
        if self.verified.min(core.acknowledgeable()) == self.verified {
            self.acknowledge_if_due(core, now);
        }
    }

    /// Whether `peer` is its primary, and its log up to `index` known to be that one's.
    pub(super) fn follows(&self, peer: &NodeId, index: u64) -> bool {
        self.primary.as_ref() == Some(peer)
            && self.verified >= index
            && self.acknowledged >= index
            && self.applied >= index
    }

    pub(super) fn vouched(&mut self, fresh_at: Duration, time_ms: u64) {
        if self.fresh_at < Some(fresh_at) {
            self.fresh_at = Some(fresh_at);
            self.time_ms = time_ms;
        }
    }

    fn note_news(&mut self, commit: &u64, last: u64, time_ms: u64, fresh_at: Option<Duration>) {
        if self.news.len() == NEWS_MAX {
            self.news.remove(NEWS_MAX / 2);
        }
        self.news.push_back(News {
            last,
            time_ms,
            commit: *commit,
            fresh_at,
        });
        self.settle_news();
    }

    /// Takes in the news that what is applied has caught up with; none while what is applied
    /// is not known to be the primary's: it may be a tail that was lost, and must not be read.
    fn settle_news(&mut self) {
        let applied = self.applied;
        if applied > self.verified {
            return;
        }
        for news in &mut self.news {
            if news.commit <= applied {
                self.fresh_at = self.fresh_at.max(news.fresh_at.take());
            }
            if news.last <= applied {
                // The latest counts, not the greatest: a clock that was ahead has been set right.
                self.time_ms = news.time_ms;
            }
        }
        while self.news.front().is_some_and(|n| n.last <= applied) {
            self.news.pop_front();
        }
    }

    fn commit(&mut self, core: &mut Core) {
        core.commit_to(self.primary_commit.min(self.verified));
    }

    pub(super) fn durable(&mut self, core: &mut Core, now: Now) {
        self.commit(core);
        self.acknowledge_if_due(core, now);
    }

    pub(super) fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
        self.settle_news();
    }

    pub(super) fn tick(&mut self, core: &mut Core, now: Now) {
        self.acknowledge_if_due(core, now);
    }

    pub(super) fn wake_at(&self, core: &Core) -> Option<Duration> {
        // What waits for the disk goes out when `durable` says so, whatever the time.
        self.ack_at.filter(|_| !self.waits_for_disk(core))
    }

    /// Whether nothing new can be acknowledged before more is durable, or copied.
    fn waits_for_disk(&self, core: &Core) -> bool {
        let matched = self.verified.min(core.acknowledgeable());
        core.filling || (matched < self.verified && matched <= self.acknowledged)
    }

    fn acknowledge_if_due(&mut self, core: &mut Core, now: Now) {
        let (Some(due), Some(primary)) = (self.ack_at, self.primary.clone()) else {
            return;
        };
        let matched = self.verified.min(core.acknowledgeable());
        if now.monotonic < due || self.waits_for_disk(core) {
            return;
        }
        self.ack_at = (matched < self.verified).then_some(due);
        self.acknowledged = matched;
        core.send(
            &primary,
            Body::Ack(Ack {
                matched,
                received: self.verified,
                probe: probe(core.identity.boot, now),
                counts: core.until.is_none_or(|until| matched >= until.index),
                disk: core.identity.disk,
            }),
        );
    }

    fn report(&mut self, core: &mut Core, to: &NodeId, now: Now) {
        let body = Body::Report {
            last: core.last,
            history: core.history.clone(),
            probe: probe(core.identity.boot, now),
        };
        core.send(to, body);
    }

    /// The log of `from` begins at `first`, ends at `last` and has these epochs.
    pub(super) fn behind(
        &mut self,
        core: &mut Core,
        from: &NodeId,
        first: u64,
        last: u64,
        history: &EpochHistory,
        now: Now,
    ) {
        self.primary = Some(from.clone());
        let common = history.common_with(last, &core.history, core.last.index);
        if core.filling {
        } else if common + 1 < first {
            self.copy(core, from, common);
        } else {
            // Said before the last copy was filled in, or before our last word arrived.
            self.report(core, from, now);
        }
    }

    fn copy(&mut self, core: &mut Core, from: &NodeId, common: u64) {
        core.filling = true;
        self.news.clear();
        let from = from.clone();
        core.outputs.push_back(Output::NeedsCopy { from, common });
    }

    fn rewind(&mut self, core: &mut Core, from: &NodeId, common: u64) {
        if core.until.is_some() {
            // What the last rewind fetched is as of a later position, which is lost too.
            return self.copy(core, from, common);
        }
        core.filling = true;
        self.news.clear();
        let (from, common) = (from.clone(), core.position_at(common));
        core.outputs.push_back(Output::NeedsRewind { from, common });
    }

    /// Log and store are others now: agreement is sought anew.
    pub(super) fn begin_anew(&mut self, core: &mut Core, now: Now) {
        let primary = self.primary.take();
        *self = Follower::new(core);
        if let Some(primary) = primary {
            self.report(core, &primary, now);
            self.primary = Some(primary);
        }
    }
}

/// A moment of this process's monotonic clock, as it goes on the wire: some bits of the boot's number
/// above, the moment in ms below; 0 stands for none.
fn probe(boot: u64, now: Now) -> u64 {
    let ms = (now.monotonic.as_millis() as u64).clamp(1, MOMENT_MAX);
    (boot & BOOT_MAX) << MOMENT_BITS | ms
}

/// What a probe of this process has said. One of a former process, whose machine or disk may have
/// begun anew since, came late to the primary, and says nothing here; nor does what is yet to come.
fn moment(boot: u64, echo: u64, now: Now) -> Option<Duration> {
    let own = echo > 0 && echo >> MOMENT_BITS == boot & BOOT_MAX;
    let moment = Duration::from_millis(echo & MOMENT_MAX);
    // The first moment of all is told as one.
    (own && moment <= now.monotonic.max(Duration::from_millis(1))).then_some(moment)
}

/// Of a moment in ms: more than a century.
const MOMENT_BITS: u32 = 42;
const MOMENT_MAX: u64 = (1 << MOMENT_BITS) - 1;
/// Of the boot: what is left of a number on the wire.
const BOOT_MAX: u64 = (NUMBER_MAX >> MOMENT_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_says_something_to_its_own_process_alone() {
        let now = Now::at_ms(12_345);
        for boot in [0, 1, BOOT_MAX, BOOT_MAX + 2, u64::MAX] {
            let echo = probe(boot, now);
            assert!(echo < NUMBER_MAX);
            assert_eq!(moment(boot, echo, now), Some(now.monotonic));
            assert_eq!(moment(boot.wrapping_add(1), echo, now), None);
            assert_eq!(moment(boot, echo, Now::at_ms(12_344)), None);
        }
        assert_eq!(moment(0, 0, now), None);
        // The first moment of all is one, too.
        let first = Now::at_ms(0);
        assert!(moment(0, probe(0, first), first).is_some());
    }
}
