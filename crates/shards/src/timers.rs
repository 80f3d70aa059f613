//! When each shard wants to be looked at next, so that a shard that wants nothing costs nothing.
//!
//! Always, once all shards are settled: a shard whose protocol names a moment is in the index,
//! not later than at that moment. It may be there earlier, since a later wish leaves an earlier
//! place alone: whoever comes to such a place looks what is wished by now.

use crate::room::Shards;
use model::ShardId;
use std::{collections::BTreeSet, time::Duration};
use storage::store::Stores;

/// The moments, and whose they are.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeSet<(Duration, ShardId)>,
    /// How often a shard acted by itself.
    fired: u64,
}

impl Timers {
    /// `id`, which has the place `placed`, wants `wanted`.
    pub(crate) fn want(
        &mut self,
        id: ShardId,
        placed: &mut Option<Duration>,
        wanted: Option<Duration>,
    ) {
        let Some(wanted) = wanted else {
            return;
        };
        match *placed {
            Some(at) if at <= wanted => return,
            Some(at) => {
                self.at.remove(&(at, id));
            }
            None => {}
        }
        self.at.insert((wanted, id));
        *placed = Some(wanted);
    }

    /// The first moment.
    pub(crate) fn first(&self) -> Option<Duration> {
        self.at.first().map(|(at, _)| *at)
    }

    /// How often a shard acted by itself.
    pub(crate) fn fired(&self) -> u64 {
        self.fired
    }

    /// The next shard whose moment has come by `now`.
    fn pop(&mut self, now: Duration) -> Option<(Duration, ShardId)> {
        let first = self.at.first().filter(|(at, _)| *at <= now).copied()?;
        self.at.remove(&first);
        Some(first)
    }
}

impl<S: Stores, T> Shards<S, T> {
    /// Lets those shards act whose moment has come.
    pub fn fire_timers(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        while let Some((at, id)) = self.timers.pop(now.monotonic) {
            let Some(shard) = self.all.get_mut(&id) else {
                continue;
            };
            if shard.timer != Some(at) {
                continue; // Of a former copy of the shard.
            }
            shard.timer = None;
            let wanted = shard.protocol.as_ref().and_then(|s| s.wake_at());
            if wanted.is_some_and(|at| at <= now.monotonic) {
                due.push(id);
            } else {
                self.timers.want(id, &mut shard.timer, wanted);
            }
        }
        for id in due {
            if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
                protocol.tick(now);
                self.timers.fired += 1;
                self.unsettled.add(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_shard_has_one_place_which_is_never_later_than_it_wants() {
        let mut timers = Timers::default();
        let (mut one, mut two) = (None, None);
        timers.want(ShardId(1), &mut one, Some(ms(100)));
        timers.want(ShardId(2), &mut two, Some(ms(50)));
        timers.want(ShardId(1), &mut one, Some(ms(120)));
        assert_eq!((timers.first(), one), (Some(ms(50)), Some(ms(100))));
        timers.want(ShardId(1), &mut one, Some(ms(20)));
        timers.want(ShardId(1), &mut one, None);
        assert_eq!((timers.at.len(), one), (2, Some(ms(20))));
        assert_eq!(timers.pop(ms(10)), None);
        assert_eq!(timers.pop(ms(60)), Some((ms(20), ShardId(1))));
        assert_eq!(timers.pop(ms(60)), Some((ms(50), ShardId(2))));
        assert_eq!(timers.first(), None);
    }
}
