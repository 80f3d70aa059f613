//! Every assignment of every copy to every server, counted out one by one: none that keeps what
//! is wanted is cheaper than what the search finds. It shares no formula with the planner, and
//! folds nothing: copies stand on servers of their own choice, and any shard is led anywhere.

use super::{inputs::tiny, *};
use capacity::file::{RegionFile, Sharing, Survives};
use proptest::prelude::*;

/// A copy: its region and its server there.
type Copy = (usize, usize);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ack {
    Async,
    SemiSync(usize),
    SemiSyncFrom(usize, usize),
    LocalQuorum,
    Quorum,
    Sync,
}

struct World<'a> {
    file: &'a PlanFile,
    way: f64,
}

impl World<'_> {
    fn round_trip(&self, a: usize, b: usize) -> f64 {
        2.0 * if a == b {
            self.file.assumptions.in_region_one_way_ms
        } else {
            self.way
        }
    }

    fn writes(&self, region: usize) -> f64 {
        let weights = self.file.regions.iter().map(|r| r.load_weight);
        let weight = self.file.regions[region].load_weight;
        self.file.load.writes_per_s * weight / weights.sum::<f64>()
    }

    fn reads(&self, region: usize) -> f64 {
        let weight = |r: &RegionFile| r.read_weight.unwrap_or(r.load_weight);
        let all: f64 = self.file.regions.iter().map(weight).sum();
        self.file.load.reads_per_s * weight(&self.file.regions[region]) / all
    }

    fn bound(&self, region: usize, of: &std::collections::BTreeMap<String, f64>) -> f64 {
        of.get(&self.file.regions[region].name)
            .copied()
            .unwrap_or(f64::INFINITY)
    }

    /// The sets of copies of a shard, as bits, that acknowledge a write at the least.
    fn ack_sets(&self, copies: &[Copy], primary: usize, ack: Ack) -> Vec<u32> {
        let home = copies[primary].0;
        let near = copies.iter().filter(|c| c.0 == home).count();
        let holds = |set: u32| {
            let within = (0..copies.len()).filter(|i| set & (1 << i) != 0);
            let of_home = within.clone().filter(|&i| copies[i].0 == home).count();
            match ack {
                Ack::Async => true,
                Ack::SemiSync(k) => of_home > k,
                Ack::SemiSyncFrom(k, region) => {
                    within
                        .filter(|&i| copies[i].0 == region && i != primary)
                        .count()
                        >= k
                }
                Ack::LocalQuorum => 2 * of_home > near,
                Ack::Quorum => 2 * within.count() > copies.len(),
                Ack::Sync => within.count() == copies.len(),
            }
        };
        let full = 1_u32 << copies.len();
        let sets = (0..full).filter(|set| set & (1 << primary) != 0 && holds(*set));
        let sets: Vec<u32> = sets.collect();
        let minimal = |set: &u32| !sets.iter().any(|s| s != set && s & set == *s);
        sets.iter().copied().filter(|s| minimal(s)).collect()
    }

    /// Whether one shard's copies, the primary among them, keep what is promised.
    fn keeps(&self, copies: &[Copy], primary: usize, ack: Ack) -> bool {
        let sets = self.ack_sets(copies, primary, ack);
        if sets.is_empty() {
            return false;
        }
        let members = |set: u32| (0..copies.len()).filter(move |i| set & (1 << i) != 0);
        let alone = sets.iter().any(|&s| s.count_ones() < 2);
        let one_region = sets.iter().any(|&s| {
            let mut regions = members(s).map(|i| copies[i].0);
            let first = regions.next();
            regions.all(|r| Some(r) == first)
        });
        if alone && ack != Ack::Async {
            return false; // async by another name
        }
        let survives = match self.file.promises.survives {
            Survives::Nothing => true,
            Survives::Server => !alone,
            Survives::Region => !alone && !one_region,
        };
        let home = copies[primary].0;
        let slowest = |set: u32| {
            let others = members(set).filter(|&i| i != primary);
            others
                .map(|i| self.round_trip(home, copies[i].0))
                .fold(0.0, f64::max)
        };
        let commit = sets
            .iter()
            .map(|&s| slowest(s))
            .fold(f64::INFINITY, f64::min);
        let service = self.file.assumptions.service_ms;
        survives
            && (0..self.file.regions.len()).all(|from| {
                let write = service + self.round_trip(from, home) + commit;
                let writes = self.writes(from);
                let reads = self.reads(from);
                let read = service + self.round_trip(from, self.reads_at(copies, from));
                (writes == 0.0 || write <= self.bound(from, &self.file.promises.write_ms_max))
                    && (reads == 0.0 || read <= self.bound(from, &self.file.promises.read_ms_max))
            })
    }

    fn reads_at(&self, copies: &[Copy], from: usize) -> usize {
        if copies.iter().any(|c| c.0 == from) {
            from
        } else {
            copies[0].0
        }
    }

    /// Whether every server carries its part; servers' types by region.
    fn carries(&self, shards: &[Vec<Copy>], counts: &[usize], types: &[usize]) -> bool {
        let n = shards.len() as f64;
        (0..counts.len()).all(|region| {
            (0..counts[region]).all(|server| {
                let (mut writes, mut reads, mut bytes) = (0.0, 0.0, 0.0);
                for copies in shards {
                    if !copies.contains(&(region, server)) {
                        continue;
                    }
                    let here = copies.iter().filter(|c| c.0 == region).count() as f64;
                    writes += self.file.load.writes_per_s / n;
                    bytes += self.file.data.keys as f64 * self.file.data.bytes_per_key / n;
                    for from in 0..counts.len() {
                        if self.reads_at(copies, from) == region {
                            reads += self.reads(from) / n / here;
                        }
                    }
                }
                let t = &self.file.server_types[types[region]];
                let (w, r) = (writes / t.writes_per_s, reads / t.reads_per_s);
                let used = match self.file.constraints.utilisation {
                    Sharing::Shared => w + r,
                    Sharing::Independent => w.max(r),
                };
                used <= 1.0 + 1e-9 && t.storage_gb.is_none_or(|gb| bytes <= gb * 1e9)
            })
        })
    }
}

/// All ways to choose `of` of `n`, as bits.
fn subsets(n: usize, of: usize) -> Vec<u32> {
    (0..1_u32 << n)
        .filter(|s| s.count_ones() as usize == of)
        .collect()
}

/// All vectors with one of each of `choices`.
fn product<T: Clone>(choices: &[Vec<T>]) -> Vec<Vec<T>> {
    choices.iter().fold(vec![Vec::new()], |all, of| {
        let with = |so_far: &Vec<T>| {
            let so_far = so_far.clone();
            of.iter()
                .map(move |x| so_far.iter().cloned().chain([x.clone()]).collect())
                .collect()
        };
        all.iter()
            .flat_map(|so_far| -> Vec<Vec<T>> { with(so_far) })
            .collect()
    })
}

/// The least price, in cents, of a primary-replica layout; None if there is none.
fn cheapest(file: &PlanFile) -> Option<u64> {
    let regions = file.regions.len();
    let way = file.links.first().map_or(0.0, |l| l.one_way_ms);
    let world = World { file, way };
    let c = &file.constraints;
    let servers: Vec<usize> = (0..=c.servers_max_per_region as usize).collect();
    let all_types: Vec<usize> = (0..file.server_types.len()).collect();
    let held: Vec<usize> = (0..=usize::from(c.copies_max_per_region)).collect();
    let mut least: Option<u64> = None;
    for counts in product(&vec![servers; regions]) {
        for types in product(&vec![all_types.clone(); regions]) {
            let price = |r: usize| file.server_types[types[r]].price_per_month;
            let cents: f64 = (0..regions)
                .map(|r| 100.0 * price(r) * counts[r] as f64)
                .sum();
            let cents = cents.round() as u64;
            if least.is_some_and(|least| least <= cents) {
                continue;
            }
            for copies in product(&vec![held.clone(); regions]) {
                let fits = (0..regions).all(|r| copies[r] <= counts[r]);
                if copies.iter().sum::<usize>() == 0 || !fits {
                    continue;
                }
                // Where the copies of one shard may stand.
                let sets: Vec<Vec<u32>> = (0..regions)
                    .map(|r| subsets(counts[r], copies[r]))
                    .collect();
                let stands: Vec<Vec<Copy>> = product(&sets)
                    .into_iter()
                    .map(|chosen| {
                        let on = |(r, set): (usize, &u32)| {
                            let set = *set;
                            (0..8)
                                .filter(move |s| set & (1 << s) != 0)
                                .map(move |s| (r, s))
                        };
                        chosen.iter().enumerate().flat_map(on).collect()
                    })
                    .collect();
                let found = (1..=usize::from(c.shards_max)).any(|n| {
                    product(&vec![stands.clone(); n])
                        .iter()
                        .any(|shards| world.carries(shards, &counts, &types))
                });
                let mut acks = vec![Ack::Async, Ack::LocalQuorum, Ack::Quorum, Ack::Sync];
                for k in 1..=2 {
                    acks.push(Ack::SemiSync(k));
                    acks.extend((0..regions).map(|r| Ack::SemiSyncFrom(k, r)));
                }
                let promised = || {
                    acks.iter().any(|&ack| {
                        let copies = &stands[0];
                        // One shard led from a region that keeps everything is enough: all are.
                        (0..copies.len()).any(|primary| world.keeps(copies, primary, ack))
                    })
                };
                if found && promised() {
                    least = Some(cents);
                    break;
                }
            }
        }
    }
    least
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_cheaper_is_found_by_trying_everything(file in tiny()) {
        let mut file = file;
        file.constraints.topologies = vec!["primary-replica".into()];
        let wanted = Wanted::new(file.clone()).unwrap();
        let found = match search::search(&wanted) {
            Answer::Plan(plan) => Some(plan.best[0].figures.cents()),
            Answer::Infeasible(_) => None,
        };
        prop_assert_eq!(found, cheapest(&file));
    }
}
