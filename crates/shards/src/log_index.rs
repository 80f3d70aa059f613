//! Where a shard's entries stand in the shared log.

use std::collections::VecDeque;
use storage::log::Lsn;

/// Bytes of log between two marks.
const MARK_BYTES: u64 = 64 << 10;

/// Where entries stand in the shared log: one mark every so often, so that a read starts near.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    /// (index of an entry, the log's position before it), both growing.
    pub(crate) marks: VecDeque<(u64, Lsn)>,
    /// The lowest index that the log still holds.
    pub(crate) first: u64,
    /// What follows the entry that was noted last.
    pub(crate) next: u64,
}

impl LogIndex {
    pub(crate) fn note(&mut self, index: u64, before: Lsn) {
        if index > self.next {
            // The store was ahead of the log, which had lost its end: what is below is cut off by a
            // gap.
            self.reset(index);
        }
        self.next = index + 1;
        if self.marks.is_empty() {
            self.first = index;
        }
        if self
            .marks
            .back()
            .is_none_or(|(_, at)| before.0 >= at.0 + MARK_BYTES)
        {
            self.marks.push_back((index, before));
        }
    }

    pub(crate) fn truncate_after(&mut self, index: u64) {
        while self.marks.back().is_some_and(|(i, _)| *i > index) {
            self.marks.pop_back();
        }
        self.next = self.next.min(index + 1);
    }

    /// Whether the log holds entry `index`.
    pub(crate) fn holds(&self, index: u64) -> bool {
        (self.first..self.next).contains(&index)
    }

    /// A position in the log at or before entry `index`.
    pub(crate) fn before(&self, index: u64) -> Option<Lsn> {
        let at = self.marks.partition_point(|(i, _)| *i <= index);
        self.marks.get(at.checked_sub(1)?).map(|(_, lsn)| *lsn)
    }

    /// Where the log has to begin so that it holds what there is from entry `index` on; None if
    /// there is nothing.
    pub(crate) fn keep_from(&self, index: u64) -> Option<Lsn> {
        let first = self.marks.front().map(|(_, lsn)| *lsn);
        self.before(index).or(first)
    }

    /// The log begins at `oldest` now. True if entries are gone.
    pub(crate) fn release_below(&mut self, oldest: Lsn, next: u64) -> bool {
        let before = self.first;
        while self.marks.front().is_some_and(|(_, at)| *at < oldest) {
            self.marks.pop_front();
        }
        self.first = self.marks.front().map_or(next, |(index, _)| *index);
        self.first > before
    }

    pub(crate) fn reset(&mut self, next: u64) {
        self.marks.clear();
        self.first = next;
        self.next = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_index_finds_a_place_at_or_before_an_entry() {
        let mut index = LogIndex::default();
        for i in 1..=100 {
            index.note(i, Lsn(i * 10_000));
        }
        assert!(index.before(0).is_none());
        assert_eq!(index.before(1), Some(Lsn(10_000)));
        let near = index.before(50).unwrap();
        assert!(near.0 <= 500_000 && near.0 + MARK_BYTES + 10_000 > 500_000);
        assert!(index.release_below(Lsn(300_000), 101));
        assert!(index.first > 30 && index.first < 45);
        assert!(index.before(20).is_none());
        assert!(index.keep_from(20).is_some_and(|lsn| lsn >= Lsn(300_000)));
        assert_eq!(index.keep_from(50), index.before(50));
        index.truncate_after(60);
        assert!(index.before(100).is_some_and(|lsn| lsn.0 <= 600_000));
        assert!(index.release_below(Lsn(2_000_000), 61));
        assert_eq!(index.first, 61);
    }
}
