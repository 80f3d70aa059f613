//! Which record is asked for, when few are popular: the item of rank i (from 1) comes up in
//! proportion to 1 / i^theta.
//!
//! In: a fraction in [0, 1), evenly spread. Out: a rank (`Zipfian`), or a record that was
//! given such a rank by a hash, so that the popular ones don't lie side by side (`Scrambled`).
//! Pure, and without tables, so that a hundred million records cost no more than ten.
//!
//! The generator is that of J. Gray, P. Sundaresan, S. Englert, K. Baclawski, P. Weinberger:
//! "Quickly generating billion-record synthetic databases", SIGMOD 1994. It is exact for the
//! two most popular items and approximates the others by inverting the integral: the rank 3
//! comes up a fifth too often, and any number of the first ranks together at most 6 %. The
//! scrambling is that of the `ScrambledZipfianGenerator` of YCSB (B. F. Cooper et al.:
//! "Benchmarking cloud serving systems with YCSB", SoCC 2010), which always draws from 10^10
//! ranks and hashes these (FNV-1a) onto the records: the most popular record then gets 3.8 %
//! of all requests, whatever the number of records. Its figures are reproduced here, so that
//! results can be held against others'.

/// YCSB's exponent.
const THETA: f64 = 0.99;
/// YCSB's number of ranks.
const RANKS: u64 = 10_000_000_000;

/// Ranks, the most popular one being 0.
#[derive(Clone, Copy, Debug)]
struct Zipfian {
    items: f64,
    zeta_items: f64,
    /// Where the second rank ends, on the scale on which the first ends at 1.
    second_end: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    /// `items` is at least 3, `theta` in (0, 1).
    fn new(items: u64, theta: f64) -> Self {
        let zeta_items = zeta(items, theta);
        let second_end = zeta(2, theta);
        Zipfian {
            items: items as f64,
            zeta_items,
            second_end,
            alpha: 1.0 / (1.0 - theta),
            eta: (1.0 - (2.0 / items as f64).powf(1.0 - theta)) / (1.0 - second_end / zeta_items),
        }
    }

    /// The rank at `fraction` of all requests, below `items`.
    fn rank(&self, fraction: f64) -> u64 {
        let scaled = fraction * self.zeta_items;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < self.second_end {
            return 1;
        }
        let rank = self.items * (self.eta * fraction - self.eta + 1.0).powf(self.alpha);
        // A fraction next to 1 may be rounded up to one.
        (rank as u64).min(self.items as u64 - 1)
    }
}

/// The sum of 1 / i^theta for i from 1 to `n`: the first terms one by one, the others by the
/// Euler-Maclaurin formula, whose error here is below 10^-9.
fn zeta(n: u64, theta: f64) -> f64 {
    const ONE_BY_ONE: u64 = 1_000;
    let term = |i: u64| (i as f64).powf(-theta);
    let first = n.min(ONE_BY_ONE);
    let sum: f64 = (1..=first).map(term).sum();
    if n == first {
        return sum;
    }
    let integral = |i: u64| (i as f64).powf(1.0 - theta) / (1.0 - theta);
    let slope = |i: u64| -theta * (i as f64).powf(-theta - 1.0);
    sum + integral(n) - integral(first)
        + (term(n) - term(first)) / 2.0
        + (slope(n) - slope(first)) / 12.0
}

/// Records by popularity, as YCSB draws them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrambled {
    ranks: Zipfian,
    records: u32,
}

impl Scrambled {
    /// Of at least one record.
    pub(super) fn new(records: u32) -> Self {
        Scrambled {
            ranks: Zipfian::new(RANKS, THETA),
            records: records.max(1),
        }
    }

    /// The record at `fraction` of all requests.
    pub(super) fn record(&self, fraction: f64) -> u32 {
        (hash(self.ranks.rank(fraction)) % u64::from(self.records)) as u32
    }
}

/// YCSB's `fnvhash64`: FNV-1a of the eight bytes, the lowest first, and of that, read as a
/// signed number, what is left without its sign.
pub(super) fn hash(number: u64) -> u64 {
    let hashed = number
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
    hashed.cast_signed().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::random::Random;

    const DRAWS: u32 = 400_000;

    /// How often each of the first ranks came up.
    fn draw(items: u64, seed: u64) -> Vec<u32> {
        let zipfian = Zipfian::new(items, THETA);
        let mut random = Random::new(seed);
        let mut counts = vec![0; items as usize];
        for _ in 0..DRAWS {
            counts[zipfian.rank(random.fraction()) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_sum_is_right_for_few_and_for_many() {
        let plain = |n: u64| (1..=n).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        for n in [1, 2, 999, 1_000, 1_001, 50_000] {
            assert!((zeta(n, THETA) - plain(n)).abs() < 1e-8, "{n}");
        }
        // The constant in YCSB's source.
        assert!((zeta(RANKS, THETA) - 26.46902820178302).abs() < 1e-8);
    }

    #[test]
    fn the_most_popular_come_up_as_the_formula_says() {
        for items in [1_000, 100_000] {
            let counts = draw(items, 3);
            let share = |ranks: usize| {
                let drawn: u32 = counts[..ranks].iter().sum();
                f64::from(drawn) / f64::from(DRAWS)
            };
            let formula = |ranks: u64| zeta(ranks, THETA) / zeta(items, THETA);
            // Exact but for chance (the smallest of these shares is 0.078: one standard
            // deviation is half a percent of it) ...
            for ranks in [1, 2] {
                let off = share(ranks) / formula(ranks as u64) - 1.0;
                assert!(off.abs() < 0.02, "{ranks} of {items}: {off}");
            }
            // ... and then as near as the approximation.
            for ranks in [3, 5, 10, 100, 500] {
                let off = share(ranks) / formula(ranks as u64) - 1.0;
                assert!((-0.02..0.07).contains(&off), "{ranks} of {items}: {off}");
            }
            assert!(counts[0] > counts[1] && counts[1] > counts[2] && counts[2] > counts[9]);
        }
    }

    #[test]
    fn ranks_stay_in_their_range_to_its_ends() {
        for items in [3, 10, 1_000_000, RANKS] {
            let zipfian = Zipfian::new(items, THETA);
            let largest = 1.0 - f64::EPSILON / 2.0;
            assert_eq!(zipfian.rank(0.0), 0);
            assert!(zipfian.rank(largest) < items && zipfian.rank(1.0) < items);
            let mut last = 0;
            for n in 0..=10_000 {
                let rank = zipfian.rank(f64::from(n) / 10_000.0);
                assert!(rank >= last && rank < items);
                last = rank;
            }
            assert!(last >= items - items.div_ceil(100), "{last} of {items}");
        }
    }

    #[test]
    fn a_seed_draws_the_same_records_again() {
        let records = |seed| {
            let (popular, mut random) = (Scrambled::new(1_000), Random::new(seed));
            (0..1_000)
                .map(|_| popular.record(random.fraction()))
                .collect::<Vec<_>>()
        };
        assert_eq!(records(5), records(5));
        assert_ne!(records(5), records(6));
        assert!(records(5).iter().all(|record| *record < 1_000));
        assert_eq!(Scrambled::new(1).record(0.7), 0);
    }

    #[test]
    fn popular_records_are_scattered_and_as_popular_as_in_ycsb() {
        let (popular, mut random) = (Scrambled::new(100_000), Random::new(2));
        let mut counts = std::collections::BTreeMap::<u32, u32>::new();
        for _ in 0..DRAWS {
            *counts.entry(popular.record(random.fraction())).or_default() += 1;
        }
        let first = (hash(0) % 100_000) as u32;
        let second = (hash(1) % 100_000) as u32;
        assert!(first.abs_diff(second) > 1);
        let share = |record| f64::from(counts[&record]) / f64::from(DRAWS);
        assert!(
            (share(first) - 1.0 / 26.469).abs() < 0.0015,
            "{}",
            share(first)
        );
        assert!((share(second) - 0.5f64.powf(THETA) / 26.469).abs() < 0.0015);
        // The tail is long: most records come up, none but the first as often as that.
        assert!(counts.len() > 50_000, "{}", counts.len());
        assert_eq!(counts.values().max(), Some(&counts[&first]));
    }
}
