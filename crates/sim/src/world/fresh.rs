//! How fresh replicas say that they are, against what was committed when: whoever says that it has
//! everything as of a moment has all that its primary had committed before.
//!
//! What a primary had is looked at when it ticks, under its lease; what a replica says, when that
//! ticks. A replica is compared with primaries of its epoch and of later ones: what a failover lost is
//! no debt, and a primary that was replaced must vouch for nothing.

use super::World;
use model::{Epoch, Position, ShardId};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Moments of a shard that are remembered.
const KEPT: usize = 64;
/// Claims as of moments longer ago say little, and are not judged.
const JUDGED: Duration = Duration::from_secs(5);
/// How much earlier than it says a replica may be judged: a moment travels in whole milliseconds.
const MARGIN: Duration = Duration::from_millis(5);

/// What primaries had when.
#[derive(Debug, Default)]
pub(super) struct Committed {
    shards: BTreeMap<(ShardId, Epoch), VecDeque<(Duration, Position)>>,
}

impl Committed {
    fn note(&mut self, shard: (ShardId, Epoch), now: Duration, applied: Position) {
        let noted = self.shards.entry(shard).or_default();
        if noted.back().is_some_and(|(_, before)| *before == applied) {
            return;
        }
        if noted.len() == KEPT {
            noted.pop_front();
        }
        noted.push_back((now, applied));
    }

    /// What its primary had before `moment`, the one of that epoch or a later one.
    fn before(&self, shard: (ShardId, Epoch), moment: Duration) -> Option<(Duration, Position)> {
        let later = self.shards.range(shard..=(shard.0, Epoch(u64::MAX)));
        later
            .filter_map(|(_, noted)| noted.iter().rev().find(|(at, _)| *at < moment).copied())
            .max_by_key(|(_, had)| had.index)
    }
}

impl World {
    /// The machine has ticked.
    pub(super) fn judges_freshness(&mut self, at: usize) {
        // With a clock of another rate its moments can't be told from here.
        if self.faults.clock_rates > 0 {
            return;
        }
        let machine = &self.machines[at];
        let Some(node) = &machine.node else {
            return;
        };
        let mut wrong = None;
        for said in node.standings(machine.now(self.now)) {
            let shard = (said.shard, said.epoch);
            match said.fresh_at {
                None if said.is_primary => self.committed.note(shard, self.now, said.applied),
                None => {}
                Some(fresh_at) => {
                    let moment = machine.clock.world_time(fresh_at).saturating_sub(MARGIN);
                    if self.now.saturating_sub(moment) > JUDGED {
                        continue;
                    }
                    if moment > self.now {
                        wrong = Some(format!(
                            "says that it has all of shard {} as of {moment:?}, which is yet to come",
                            said.shard
                        ));
                    }
                    if let Some((at, had)) = self.committed.before(shard, moment)
                        && had.index > said.applied.index
                    {
                        wrong = Some(format!(
                            "says that it has all of shard {} as of {moment:?}, and has {} (it rests: {}): its primary had {had} at {at:?}",
                            said.shard, said.applied, said.rests
                        ));
                    }
                }
            }
        }
        if let Some(wrong) = wrong {
            let wrong = self.wrong_at(at, &wrong);
            self.wrong.push_back(wrong.0);
        }
    }
}
