//! The most recent entries of a log, in memory: what a primary sends from, and what a replica
//! compares repeats with. Contiguous, ends at the last entry, bounded by bytes.

use model::Entry;
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    /// The index of the first of `entries`, or of the entry to come.
    first: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) fn new(next: u64, bytes_max: usize) -> Self {
        Tail {
            entries: VecDeque::new(),
            first: next,
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.position.index, self.first + self.entries.len() as u64);
        self.bytes += entry.bytes().len();
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max
            && self.entries.len() > 1
            && let Some(old) = self.entries.pop_front()
        {
            self.bytes -= old.bytes().len();
            self.first += 1;
        }
    }

    pub(crate) fn truncate_after(&mut self, index: u64) {
        while self.first + self.entries.len() as u64 > index + 1
            && let Some(cut) = self.entries.pop_back()
        {
            self.bytes -= cut.bytes().len();
        }
        if self.entries.is_empty() {
            self.first = index + 1;
        }
    }

    /// The entry at `index`, if it is recent enough.
    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.first)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Entries from `from` to `upto`, about `bytes_max` of them and at least one; None if
    /// `from` is no longer here.
    pub(crate) fn range(&self, from: u64, upto: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        self.get(from)?;
        let mut bytes = 0;
        let mut taken = Vec::new();
        for index in from..=upto {
            let Some(entry) = self.get(index) else { break };
            if !taken.is_empty() && bytes + entry.bytes().len() > bytes_max {
                break;
            }
            bytes += entry.bytes().len();
            taken.push(entry.clone());
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{EntryKind, Position, Stamp};

    fn entry(index: u64) -> Entry {
        Entry::new(
            Position::new(1, index),
            Stamp(index),
            EntryKind::Mutation,
            1,
            &[0; 65],
        )
    }

    #[test]
    fn keeps_the_newest_within_its_bound() {
        let mut tail = Tail::new(1, 350); // an entry takes 100 bytes
        (1..=5).for_each(|i| tail.push(entry(i)));
        assert!(tail.get(2).is_none());
        assert_eq!(tail.get(3), Some(&entry(3)));
        assert!(tail.range(2, 5, 1000).is_none());
        assert_eq!(tail.range(3, 5, 250).unwrap().len(), 2);
        assert_eq!(tail.range(3, 5, 1).unwrap().len(), 1, "at least one");
        tail.truncate_after(4);
        tail.push(entry(5));
        assert_eq!(tail.range(4, 9, 1000).unwrap().len(), 2);
        tail.truncate_after(1);
        tail.push(entry(2));
        assert_eq!(tail.get(2), Some(&entry(2)));
    }
}
