//! The time that a node keeps: wall time that goes on at the rate of the monotonic clock, and
//! is led by the machine's wall clock only as far as that can be believed.
//!
//! ```text
//!   the machine's clocks ─┐                        ┌─ within STEP: slewed, at most 1 %
//!                         ├─ votes ─▶ wanted time ─┤
//!   peers' wall clocks ───┘                        └─ beyond: waits until it has lasted
//! ```
//!
//! A clock is held as its *origin*: the wall time at which this process's monotonic clock said
//! zero. It stays the same but for drift and for steps, so that clocks can be compared whenever
//! they were read.
//!
//! # Who is believed
//! The machine's own wall clock votes, and each peer's as it was told lately, as the range that
//! the way there and back leaves it in. The time kept so far votes too once it is apart from the
//! machine's clock: then that has stepped, and is a witness of its own. While the machine's clock
//! is within [`OFFSET_MAX`] of the median it is what is wanted; else the median is.
//!
//! # Always
//! - A wall clock that is off for a moment, by however much, moves the time kept by 1 % of that
//!   moment at most.
//! - A step is taken over only after it has lasted: [`LASTS`] if enough clocks bear it out (three,
//!   or those of most nodes), [`LASTS_ALONE`] on a node that is alone in its cluster,
//!   [`LASTS_UNHEARD`] where too few others are heard.
//! - Before a process has compared its clock with others (three votes, or all that there are) it
//!   is not [settled](Clock::is_settled), unless they are silent for [`SETTLE_MAX`]: it takes no
//!   office. The first comparison is taken over at once.
//! - Once it has compared, no node is led by what another *keeps*, only by what another's wall
//!   clock says: nodes don't follow each other in circles. Before that the time that a peer keeps
//!   votes as well, so that with only one to be heard the newcomer yields.

use model::{
    NodeId, Now,
    planted::{self, Bug},
};
use std::{collections::BTreeMap, time::Duration};

/// A wall clock farther than this from the median is off.
pub(crate) const OFFSET_MAX: Duration = Duration::from_millis(500);
/// The time kept is slewed over less than this, and steps over more.
const STEP_MS: i64 = 2 * OFFSET_MAX.as_millis() as i64;
/// How long until a slew moves the time kept by a millisecond.
const SLEW_EVERY: Duration = Duration::from_millis(100);
/// For how long a step must have lasted.
const LASTS: Duration = Duration::from_secs(10);
const LASTS_ALONE: Duration = Duration::from_secs(60);
const LASTS_UNHEARD: Duration = Duration::from_secs(600);
/// How long a new process waits for others to compare its clock with.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// How long a peer's answer counts; clocks drift.
const FRESH: Duration = Duration::from_secs(6);
/// An answer is replaced by one that is less exact once it is so old.
const EXACT_FOR: Duration = Duration::from_secs(3);

/// What a peer's clock was heard to say.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// Its origin, by this process's monotonic clock.
    origin_ms: i64,
    /// That of the time that it keeps, if it has compared its clock.
    kept_ms: Option<i64>,
    /// By how much these may be wrong: half of the way there and back.
    slack_ms: i64,
    at: Duration,
}

/// The clocks of one process.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The time kept.
    origin_ms: i64,
    /// What the machine said last.
    raw: Now,
    began: Duration,
    slewed_at: Duration,
    /// The origin that the time kept may have to step to, and since when it is wanted.
    step: Option<(i64, Duration)>,
    heard: BTreeMap<NodeId, Heard>,
    compared: bool,
}

/// Whole milliseconds of a monotonic clock.
fn ms(monotonic: Duration) -> i64 {
    monotonic.as_secs() as i64 * 1000 + i64::from(monotonic.subsec_millis())
}

fn origin(now: Now) -> i64 {
    (now.wall_ms as i64).wrapping_sub(ms(now.monotonic))
}

impl Clock {
    pub(crate) fn new(now: Now) -> Self {
        Clock {
            origin_ms: origin(now),
            raw: now,
            began: now.monotonic,
            slewed_at: now.monotonic,
            step: None,
            heard: BTreeMap::new(),
            compared: false,
        }
    }

    /// The time kept, when the machine's clocks say this.
    pub(crate) fn read(&mut self, raw: Now) -> Now {
        self.raw = raw;
        if planted::is(Bug::FollowWallClock) {
            return raw;
        }
        let wall_ms = self.origin_ms.saturating_add(ms(raw.monotonic));
        Now {
            monotonic: raw.monotonic,
            wall_ms: wall_ms.max(0) as u64,
        }
    }

    /// What the machine's wall clock said last: what peers are told.
    pub(crate) fn machine_ms(&self) -> u64 {
        self.raw.wall_ms
    }

    /// By how many milliseconds the machine's wall clock is ahead of the time kept.
    pub(crate) fn machine_ahead_ms(&self) -> i64 {
        origin(self.raw).saturating_sub(self.origin_ms)
    }

    /// Whether it was compared with others'.
    pub(crate) fn is_compared(&self) -> bool {
        self.compared
    }

    /// Whether an office may be taken up.
    pub(crate) fn is_settled(&self) -> bool {
        self.compared || self.raw.monotonic.saturating_sub(self.began) >= SETTLE_MAX
    }

    /// The time kept, for peers: nothing to go by before it was compared with others'.
    pub(crate) fn kept_ms(&self) -> Option<u64> {
        let kept = self.origin_ms.saturating_add(ms(self.raw.monotonic));
        self.compared.then_some(kept.max(0) as u64)
    }

    /// A peer was asked at `sent` and has answered now: what its machine's wall clock says, and
    /// the time that it keeps.
    pub(crate) fn told(
        &mut self,
        peer: &NodeId,
        sent: Duration,
        wall_ms: u64,
        kept_ms: Option<u64>,
    ) {
        let now = self.raw.monotonic;
        let half = ms(now.saturating_sub(sent)) / 2;
        let origin = |wall_ms: u64| {
            let wall_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
            wall_ms.saturating_add(half).saturating_sub(ms(now))
        };
        let heard = Heard {
            origin_ms: origin(wall_ms),
            kept_ms: kept_ms.map(origin),
            slack_ms: half + 1,
            at: now,
        };
        let keeps =
            |old: &Heard| old.slack_ms < heard.slack_ms && now.saturating_sub(old.at) < EXACT_FOR;
        if !self.heard.get(peer).is_some_and(keeps) {
            self.heard.insert(peer.clone(), heard);
        }
    }

    /// The longest way to a peer and back that was measured lately.
    pub(crate) fn longest_round_trip(&self) -> Duration {
        let longest = self.heard.values().map(|heard| heard.slack_ms).max();
        Duration::from_millis(2 * longest.unwrap_or(0).max(0) as u64)
    }

    /// Looks at all clocks, in a cluster of so many nodes. If the time kept has stepped: by how
    /// many milliseconds.
    pub(crate) fn tick(&mut self, nodes: usize) -> Option<i64> {
        let now = self.raw.monotonic;
        self.heard
            .retain(|_, heard| now.saturating_sub(heard.at) < FRESH);
        let most = self.heard.len() >= 2 || (self.heard.len() + 1) * 2 > nodes;
        let (wanted, votes) = self.wanted();
        let apart = wanted.saturating_sub(self.origin_ms);
        if !self.compared && (votes >= 3 || self.heard.len() + 1 == nodes) {
            self.compared = true;
            return self.set(wanted);
        }
        if apart.abs() <= STEP_MS {
            self.step = None;
            self.slew(apart);
            return None;
        }
        self.slewed_at = now;
        let lasts = match most {
            true if nodes <= 1 => LASTS_ALONE,
            true => LASTS,
            false => LASTS_UNHEARD,
        };
        match self.step {
            Some((to, since)) if (wanted.saturating_sub(to)).abs() <= STEP_MS => {
                if now.saturating_sub(since) < lasts {
                    return None;
                }
                self.set(wanted)
            }
            _ => {
                self.step = Some((wanted, now));
                None
            }
        }
    }

    /// The origin that is to be kept, and how many votes that is made of.
    fn wanted(&self) -> (i64, usize) {
        let machine = origin(self.raw);
        let bound = OFFSET_MAX.as_millis() as i64;
        let apart = machine.saturating_sub(self.origin_ms);
        let kept = (apart.saturating_abs() > bound).then_some((self.origin_ms, 0));
        let (mut lows, mut highs): (Vec<i64>, Vec<i64>) = (self.heard.values())
            .flat_map(|heard| {
                let kept = heard.kept_ms.filter(|_| !self.compared);
                [Some(heard.origin_ms), kept]
                    .into_iter()
                    .flatten()
                    .map(|at| (at, heard.slack_ms))
            })
            .chain([(machine, 0)])
            .chain(kept)
            .map(|(at, slack)| (at.saturating_sub(slack), at.saturating_add(slack)))
            .unzip();
        lows.sort_unstable();
        highs.sort_unstable();
        // Of an even number both in the middle may be the median.
        let (low, high) = (lows[(lows.len() - 1) / 2], highs[highs.len() / 2]);
        let is_off = machine < low.saturating_sub(bound) || machine > high.saturating_add(bound);
        let wanted = if is_off {
            machine.clamp(low, high)
        } else {
            machine
        };
        (wanted, lows.len())
    }

    fn set(&mut self, origin_ms: i64) -> Option<i64> {
        let by_ms = origin_ms.saturating_sub(self.origin_ms);
        self.origin_ms = origin_ms;
        self.slewed_at = self.raw.monotonic;
        self.step = None;
        (by_ms.saturating_abs() > STEP_MS).then_some(by_ms)
    }

    fn slew(&mut self, apart: i64) {
        let passed = self.raw.monotonic.saturating_sub(self.slewed_at);
        let most = (passed.as_millis() / SLEW_EVERY.as_millis()) as i64;
        if most > 0 {
            self.slewed_at = self.raw.monotonic;
            self.origin_ms += apart.clamp(-most, most);
        }
    }
}

#[cfg(test)]
mod tests;
