//! Positions in a shard's log, and the history that says which of them still exist.

use crate::id::Epoch;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in a shard's log: the entry `index`, written in `epoch`. Indexes count from 1
/// without gaps; index 0 is the empty log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The epoch in which the entry was written.
    pub epoch: Epoch,
    /// Its place in the log.
    pub index: u64,
}

impl Position {
    /// Before the first entry.
    pub const ZERO: Position = Position {
        epoch: Epoch(0),
        index: 0,
    };

    /// The position (`epoch`, `index`).
    pub fn new(epoch: u64, index: u64) -> Self {
        Position {
            epoch: Epoch(epoch),
            index,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.index)
    }
}

/// Where each epoch of a shard's log begins: strictly growing in epoch, growing in index.
///
/// It answers three questions: in which epoch an index was written, where an epoch ended,
/// and whether a position that a session has seen is still part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHistory {
    /// (epoch, index of its first entry)
    starts: Vec<(Epoch, u64)>,
}

impl EpochHistory {
    /// Notes that `at` was appended. An epoch is noted at its first entry.
    pub fn note(&mut self, at: Position) {
        match self.starts.last() {
            Some((last, _)) if *last >= at.epoch => {}
            _ => self.starts.push((at.epoch, at.index)),
        }
    }

    /// Notes where an epoch began, as somebody else says; false, and nothing is noted, if no log
    /// has such a history.
    #[must_use]
    pub fn note_told(&mut self, epoch: Epoch, start: u64) -> bool {
        let follows = match self.starts.last() {
            Some((last_epoch, last_start)) => epoch > *last_epoch && start > *last_start,
            None => start > 0,
        };
        if follows {
            self.starts.push((epoch, start));
        }
        follows
    }

    /// Forgets everything after `index`, as when a tail was cut.
    pub fn truncate_after(&mut self, index: u64) {
        while self.starts.last().is_some_and(|(_, start)| *start > index) {
            self.starts.pop();
        }
    }

    /// The epoch in which `index` was written; epoch 0 for index 0 and for what is unknown.
    pub fn epoch_at(&self, index: u64) -> Epoch {
        self.starts
            .iter()
            .rev()
            .find(|(_, start)| *start <= index && index > 0)
            .map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    /// The last index of `epoch` in a log whose last entry is `last_index`: None if the
    /// epoch wrote nothing here.
    pub fn end_of(&self, epoch: Epoch, last_index: u64) -> Option<u64> {
        let at = self.starts.iter().position(|(e, _)| *e == epoch)?;
        Some(match self.starts.get(at + 1) {
            Some((_, next)) => next - 1,
            None => last_index,
        })
    }

    /// Whether the entry at `position` is part of the log whose last entry is `last_index`.
    pub fn contains(&self, position: Position, last_index: u64) -> bool {
        position.index == 0
            || (position.index <= last_index && self.epoch_at(position.index) == position.epoch)
    }

    /// Whether `position` is known to have been thrown away: its epoch ended before it.
    /// A position of the newest epoch, or of one not heard of yet, may still arrive.
    pub fn discarded(&self, position: Position) -> bool {
        let Some((newest, _)) = self.starts.last() else {
            return false;
        };
        if position.index == 0 || position.epoch >= *newest {
            return false;
        }
        match self.end_of(position.epoch, 0) {
            Some(end) => position.index > end,
            None => true,
        }
    }

    /// The last index at which two logs are certain to agree, for logs that end at
    /// `own_last` and `other_last`.
    pub fn common_with(&self, own_last: u64, other: &EpochHistory, other_last: u64) -> u64 {
        let mut common = 0;
        for (epoch, _) in &self.starts {
            if let (Some(own), Some(theirs)) = (
                self.end_of(*epoch, own_last),
                other.end_of(*epoch, other_last),
            ) {
                common = common.max(own.min(theirs));
            }
        }
        common
    }

    /// The epochs and their first indexes, oldest first.
    pub fn starts(&self) -> &[(Epoch, u64)] {
        &self.starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(starts: &[(u64, u64)]) -> EpochHistory {
        let mut h = EpochHistory::default();
        for (e, i) in starts {
            h.note(Position::new(*e, *i));
        }
        h
    }

    #[test]
    fn says_what_exists_and_what_was_thrown_away() {
        let h = history(&[(1, 1), (2, 101)]);
        assert_eq!(h.epoch_at(100), Epoch(1));
        assert_eq!(h.epoch_at(101), Epoch(2));
        assert!(h.contains(Position::new(1, 100), 105));
        assert!(!h.contains(Position::new(1, 110), 120));
        assert!(h.discarded(Position::new(1, 110)));
        assert!(!h.discarded(Position::new(2, 999)));
        assert!(!h.discarded(Position::new(1, 100)));
    }

    #[test]
    fn finds_where_two_logs_part() {
        let a = history(&[(1, 1), (2, 101)]);
        let b = history(&[(1, 1)]);
        assert_eq!(a.common_with(150, &b, 110), 100);
        assert_eq!(b.common_with(90, &a, 150), 90);
        let c = history(&[(1, 1), (3, 121)]);
        assert_eq!(a.common_with(150, &c, 200), 100);
    }

    #[test]
    fn a_history_that_no_log_has_is_not_believed() {
        let mut h = EpochHistory::default();
        assert!(!h.note_told(Epoch(1), 0), "indexes count from 1");
        assert!(h.note_told(Epoch(1), 1) && h.note_told(Epoch(3), 9));
        assert!(!h.note_told(Epoch(3), 10) && !h.note_told(Epoch(2), 10));
        assert!(!h.note_told(Epoch(4), 9), "every epoch has a barrier");
        assert_eq!(h, history(&[(1, 1), (3, 9)]));
    }

    #[test]
    fn forgets_a_tail() {
        let mut h = history(&[(1, 1), (2, 101)]);
        h.truncate_after(100);
        assert_eq!(h.starts(), &[(Epoch(1), 1)]);
        h.truncate_after(101);
        assert_eq!(h.epoch_at(101), Epoch(1));
    }
}
