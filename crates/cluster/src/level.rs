//! The feature level of the cluster, as this node follows it (docs/adr/0017-versions).
//!
//! ```text
//!   every node registers what it knows ─▶ all know more, for a while ─▶ the control leader
//!                                                                      proposes the raise
//!   a catalog with a greater level ─┬─ known here: a mark in the log, then it is adopted
//!                                   └─ not known: the node stops, and says what to start
//! ```
//!
//! Always: nothing of a level above the adopted catalog's is sent (by the node that carries out [`Output::Send`](crate::Output)) or written; the
//! mark of a level is written before anything that came with it; a mark of the greatest level is in
//! the log for as long as there is a log. (The log is cut by whole segments, so what is left may
//! begin with newer records, and the mark come behind them: then they are refused by their kind.)

use crate::{
    cluster::Cluster,
    control::{Asker, LEVEL},
    host::Host,
};
use control::{command::Command, level};
use model::{
    Lsn, NodeId,
    release::{FIRST_LEVEL, Span},
};
use std::time::Duration;

/// How often the control leader looks whether the level can be raised.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long all nodes must have been there before the level is raised by itself.
const SETTLED: Duration = Duration::from_secs(5);

/// What the log says of the level that its disk was used at.
#[derive(Debug)]
pub(crate) struct LevelMark {
    level: u32,
    /// Where the mark begins that is durable.
    first: Option<Lsn>,
    /// Where one begins and ends that is on its way to the disk.
    next: Option<(Lsn, Lsn)>,
}

impl Default for LevelMark {
    fn default() -> Self {
        LevelMark {
            level: FIRST_LEVEL,
            first: None,
            next: None,
        }
    }
}

impl LevelMark {
    /// Takes in a mark as the log is replayed by a release that knows `levels`.
    pub(crate) fn replay(&mut self, before: Lsn, body: &[u8], levels: Span) -> Result<(), String> {
        let level = body.try_into().map(u32::from_le_bytes);
        let level = level.map_err(|_| "the record of the feature level is malformed")?;
        if level > levels.newest {
            return Err(format!(
                "this disk was used at feature level {level}, and this release knows {levels}: start the node with a release that knows level {level}"
            ));
        }
        self.level = self.level.max(level);
        self.first = Some(before);
        Ok(())
    }

    /// Whether a mark of `level` has to be written, with the log's end at `tip`: there is none, or
    /// it would keep the log from being cut.
    fn is_due(&self, level: u32, tip: Lsn, span: u64, given_up: Option<Lsn>) -> bool {
        let is_far =
            (self.first).is_some_and(|first| tip.0 - first.0 > span || Some(first) < given_up);
        level > self.level || is_far && self.next.is_none()
    }

    fn written(&mut self, level: u32, before: Lsn, after: Lsn) {
        self.level = level;
        // With none before it, it is needed from where it is.
        self.first.get_or_insert(before);
        self.next = Some((before, after));
    }

    /// The log is durable up to there.
    pub(crate) fn durable(&mut self, durable: Lsn) {
        if let Some((first, end)) = self.next
            && end <= durable
        {
            self.next = None;
            self.first = Some(first);
        }
    }

    /// From where on the log is needed for it.
    pub(crate) fn log_needed_from(&self) -> Option<Lsn> {
        self.first
    }
}

/// When the level may be raised.
#[derive(Debug, Default)]
pub(crate) struct Levelling {
    pub(crate) mark: LevelMark,
    next_look: Duration,
    /// To which level it could be raised, and since when.
    ready: Option<(u32, Duration)>,
    /// Messages that this node's release does not know.
    pub(crate) unknown_messages: u64,
}

impl<A> Cluster<A> {
    /// The feature level, as far as this node knows.
    pub fn level(&self) -> u32 {
        self.catalog.level
    }

    /// Whether this node's release knows `level`, which others are at; else the node stops.
    pub(crate) fn knows_level(&mut self, level: u32) -> bool {
        let levels = self.config.release.levels;
        // One that is too old for this release keeps it from being registered, and is raised.
        let why = (levels.newest < level).then(|| levels.unfit_for(level));
        match why.flatten() {
            Some(why) => {
                self.stop(why);
                false
            }
            None => true,
        }
    }

    /// The log says which level the disk is used at, before anything is done at it; and says so
    /// again before the beginning of the log is cut, or a part of it is `given_up`.
    pub fn mark_level(&mut self, given_up: Option<Lsn>, host: &mut impl Host) {
        let (level, before) = (self.catalog.level, host.log_end());
        let span = self.config.control_log_bytes;
        if self.stopped || !self.levelling.mark.is_due(level, before, span, given_up) {
            return;
        }
        match host.append(LEVEL, &level.to_le_bytes()) {
            Ok(after) => self.levelling.mark.written(level, before, after),
            Err(error) => self.stop(error),
        }
    }

    pub(crate) fn level_tick(&mut self) {
        let now = self.now.monotonic;
        if now < self.levelling.next_look {
            return;
        }
        self.levelling.next_look = now + LOOK_EVERY;
        let Some(level) = self.level_to_raise() else {
            self.levelling.ready = None;
            return;
        };
        match self.levelling.ready {
            Some((ready, since)) if ready == level => {
                if now.saturating_sub(since) >= SETTLED {
                    self.levelling.next_look = now + SETTLED;
                    let command = Command::RaiseLevel {
                        level,
                        by_itself: true,
                        at_ms: self.now.wall_ms,
                    };
                    self.propose_once(vec![command], Asker::Note);
                }
            }
            _ => self.levelling.ready = Some((level, now)),
        }
    }

    /// The level that this node, if it leads the control group, may propose by itself: every node
    /// that is registered knows it, and is there, in the process that is registered; a node that is
    /// away may be on its way back to the release before.
    fn level_to_raise(&self) -> Option<u32> {
        let catalog = self.control.catalog();
        let level = level::known_to_all(catalog)?;
        if !self.control.is_leader() || catalog.level_held || level <= catalog.level {
            return None;
        }
        let is_registered = |voter: &NodeId| catalog.nodes.contains_key(voter);
        let is_there =
            |(id, info): (&NodeId, &model::catalog::NodeInfo)| match *id == self.config.id {
                true => info.boot == self.boot,
                false => {
                    let boot = self.peers.boot(id);
                    boot.is_some_and(|boot| boot.nonce == info.boot.nonce)
                        && self.peers.is_up(id, self.now.monotonic)
                }
            };
        let all =
            self.control.voters().iter().all(is_registered) && catalog.nodes.iter().all(is_there);
        all.then_some(level)
    }

    /// How many messages came that this node's release does not know.
    pub fn unknown_messages(&self) -> u64 {
        self.levelling.unknown_messages
    }

    /// A message of a level that this node's release does not know.
    pub fn unknown_message(&mut self, from: &NodeId, level: u32) {
        if self.levelling.unknown_messages == 0 {
            tracing::warn!(%from, level, "a message came that this release does not know; it is dropped, and so are further ones, which QUIRE LEVEL counts");
        }
        self.levelling.unknown_messages += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Span = Span {
        oldest: 1,
        newest: 3,
    };

    #[test]
    fn a_disk_of_a_newer_level_is_refused_by_name() {
        let mut mark = LevelMark::default();
        mark.replay(Lsn(10), &3u32.to_le_bytes(), KNOWN).unwrap();
        let refused = mark.replay(Lsn(20), &4u32.to_le_bytes(), KNOWN);
        let refused = refused.unwrap_err();
        assert!(refused.contains("used at feature level 4"), "{refused}");
        assert!(refused.contains("knows 1 to 3"), "{refused}");
        assert!(mark.replay(Lsn(20), &[1, 2], KNOWN).is_err());
    }

    #[test]
    fn a_mark_is_kept_until_the_next_one_is_durable() {
        let mut mark = LevelMark::default();
        assert!(
            !mark.is_due(1, Lsn(1 << 40), 100, None),
            "the first needs none"
        );
        assert!(mark.is_due(2, Lsn(50), 100, None));
        mark.written(2, Lsn(50), Lsn(67));
        assert_eq!(mark.log_needed_from(), Some(Lsn(50)));
        mark.durable(Lsn(67));
        assert!(!mark.is_due(2, Lsn(150), 100, None));
        assert!(mark.is_due(2, Lsn(151), 100, None));
        mark.written(2, Lsn(151), Lsn(168));
        assert!(!mark.is_due(2, Lsn(900), 100, None), "one is on its way");
        mark.durable(Lsn(167));
        assert_eq!(mark.log_needed_from(), Some(Lsn(50)));
        mark.durable(Lsn(168));
        assert_eq!(mark.log_needed_from(), Some(Lsn(151)));
        assert!(mark.is_due(3, Lsn(170), 100, None));
        assert!(!mark.is_due(2, Lsn(170), 100, Some(Lsn(151))));
        assert!(mark.is_due(2, Lsn(170), 100, Some(Lsn(152))));
    }
}
