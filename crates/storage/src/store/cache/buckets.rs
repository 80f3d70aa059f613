//! Where the entries of a table are: their numbers, by tags, which are halves of hashes.
//!
//! - Buckets are filled at most by half, and probed one after the other. One holds a tag and a
//!   number plus one; zero is an empty one. The highest bits of a tag say where it belongs, so
//!   their number is doubled in one pass from the first to the last, which asks for nothing else.
//! - They are in [`PARTS`] parts, which grow each by itself: doubling millions at once takes a tenth
//!   of a second, in which nobody is served.

/// Bits of a tag that say which part it is in.
const PART_BITS: u32 = 6;
const PARTS: usize = 1 << PART_BITS;
const PART_BUCKETS_MIN: usize = 8;

/// See the module.
pub(super) struct Buckets {
    parts: Vec<Part>,
}

/// A bucket, valid until the next change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    part: usize,
    at: usize,
}

struct Part {
    /// A power of two of them.
    buckets: Vec<u64>,
    filled: usize,
}

impl Buckets {
    pub(super) fn new() -> Self {
        let part = || Part {
            buckets: vec![0; PART_BUCKETS_MIN],
            filled: 0,
        };
        Buckets {
            parts: std::iter::repeat_with(part).take(PARTS).collect(),
        }
    }

    fn part_of(tag: u32) -> usize {
        (tag >> (u32::BITS - PART_BITS)) as usize
    }

    /// Any bits of a tag's own bucket: to have asked for them is to have it near.
    pub(super) fn touch(&self, tag: u32) -> u64 {
        let part = &self.parts[Self::part_of(tag)];
        part.buckets[part.home(tag)]
    }

    /// The first bucket from a tag's own on, before an empty one, whose number `is` what is
    /// looked for: the bucket and the number.
    pub(super) fn probe(&self, tag: u32, is: impl Fn(usize) -> bool) -> Option<(Bucket, usize)> {
        let number_of_part = Self::part_of(tag);
        let part = &self.parts[number_of_part];
        let mut at = part.home(tag);
        loop {
            let (found, number) = content(*part.buckets.get(at)?);
            let number = number?;
            if found == tag && is(number) {
                let part = number_of_part;
                return Some((Bucket { part, at }, number));
            }
            at = part.next(at);
        }
    }

    /// Another number; below `u32::MAX`.
    pub(super) fn insert(&mut self, tag: u32, number: usize) {
        let part = &mut self.parts[Self::part_of(tag)];
        if part.filled * 2 >= part.buckets.len() {
            part.grow();
        }
        part.fill(u64::from(tag) << 32 | (number as u64 + 1));
        part.filled += 1;
    }

    /// Empties one that was found.
    pub(super) fn remove(&mut self, bucket: Bucket) {
        self.parts[bucket.part].vacate(bucket.at);
    }

    /// All tags and numbers, having checked that they are where they belong.
    #[cfg(test)]
    pub(super) fn checked(&self) -> Vec<(u32, usize)> {
        let mut all = Vec::new();
        for (n, part) in self.parts.iter().enumerate() {
            let filled = part.buckets.iter().filter(|bucket| **bucket != 0);
            assert_eq!(filled.count(), part.filled);
            assert!(part.filled * 2 <= part.buckets.len());
            for bucket in &part.buckets {
                if let (tag, Some(number)) = content(*bucket) {
                    assert_eq!(Self::part_of(tag), n);
                    assert!(self.probe(tag, |found| found == number).is_some());
                    all.push((tag, number));
                }
            }
        }
        all
    }
}

impl Part {
    fn home(&self, tag: u32) -> usize {
        // A power of two has as many zeros behind its one.
        ((tag << PART_BITS) >> (u32::BITS - self.buckets.len().trailing_zeros())) as usize
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.buckets.len() - 1)
    }

    /// Puts a bucket's content where it belongs, or behind that.
    fn fill(&mut self, new: u64) {
        let mut at = self.home(content(new).0);
        while self.buckets[at] != 0 {
            at = self.next(at);
        }
        self.buckets[at] = new;
    }

    fn grow(&mut self) {
        let twice = vec![0; self.buckets.len() * 2];
        let old = std::mem::replace(&mut self.buckets, twice);
        old.into_iter()
            .filter(|bucket| *bucket != 0)
            .for_each(|bucket| self.fill(bucket));
    }

    /// Empties a bucket. Those behind it move up, unless that took them before their own.
    fn vacate(&mut self, mut hole: usize) {
        let mask = self.buckets.len() - 1;
        let mut at = self.next(hole);
        while let (tag, Some(_)) = content(self.buckets[at]) {
            let from_home = at.wrapping_sub(self.home(tag)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                self.buckets[hole] = self.buckets[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.buckets[hole] = 0;
        self.filled -= 1;
    }
}

/// A bucket's tag, and its number if it is not empty.
fn content(bucket: u64) -> (u32, Option<usize>) {
    let number = (bucket as u32).checked_sub(1);
    ((bucket >> 32) as u32, number.map(|number| number as usize))
}
