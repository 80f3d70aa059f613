//! Numbers that look random: the same from the same seed, so that a run can be done again.
//!
//! In: a seed, of each connection its own. Out: integers below a bound, and fractions. It is
//! splitmix64: the bench needs spread and speed, not secrecy.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u32
    }

    /// At least 0 and below 1, in steps of 2^-53.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything_and_bounds_hold() {
        let mut one = Random::new(7);
        let mut again = Random::new(7);
        let mut other = Random::new(8);
        let mut differs = false;
        for _ in 0..1_000 {
            let bits = one.bits();
            assert_eq!(bits, again.bits());
            differs |= bits != other.bits();
            assert!(other.below(3) < 3);
            assert!((0.0..1.0).contains(&other.fraction()));
        }
        assert!(differs);
        assert_eq!(other.below(0), 0);
    }

    #[test]
    fn fractions_are_spread_evenly() {
        let mut random = Random::new(1);
        let mut tenths = [0u32; 10];
        for _ in 0..100_000 {
            tenths[(random.fraction() * 10.0) as usize] += 1;
        }
        // Six standard deviations (95 each); the seed is fixed, so this can't flake.
        assert!(
            tenths.iter().all(|n| n.abs_diff(10_000) < 570),
            "{tenths:?}"
        );
    }
}
