//! Chance, for RANDOMKEY and HRANDFIELD: from one number that the caller draws.

/// A sequence of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `n` − 1; 0 if `n` is.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Puts `count` of `items`, chosen by chance, first; all if there are no more.
    pub(crate) fn shuffle_some<T>(&mut self, items: &mut [T], count: usize) {
        for at in 0..count.min(items.len()) {
            items.swap(at, at + self.below(items.len() - at));
        }
    }
}
