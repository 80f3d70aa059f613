//! Which part of the requests is answered, in closed form, and what an acknowledged write
//! survives.
//!
//! Servers fail and are repaired independently of each other; a region takes all of its servers
//! with it. Of each region's copies the number that is up is binomial, or 0 with the region;
//! every combination of such numbers is looked at, and either the rule can be met in it or not.
//! To that comes what each failure of a primary takes until another is named.

use crate::{
    file::Survives,
    latency::{self, Reader},
    layout::{Layout, Rule, Topology},
    wanted::Wanted,
};

/// Hours of a year.
const YEAR_H: f64 = 8760.0;
/// Minutes of a year.
pub(crate) const YEAR_MIN: f64 = 525_600.0;

/// Minutes a year in which requests are not answered, by what keeps them from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Downtime {
    /// Too few servers are up.
    pub servers_min: f64,
    /// A region is gone, and too few servers are left.
    pub regions_min: f64,
    /// A failure is noticed, and another copy takes over.
    pub moving_min: f64,
}

impl Downtime {
    /// All of it.
    pub fn minutes(&self) -> f64 {
        self.servers_min + self.regions_min + self.moving_min
    }

    /// The part of the time in which requests are answered.
    pub fn availability(&self) -> f64 {
        (1.0 - self.minutes() / YEAR_MIN).max(0.0)
    }
}

/// The part of the time in which a server of `region` runs.
fn server_up(wanted: &Wanted, layout: &Layout, region: usize) -> f64 {
    let (mut all, mut up) = (0.0, 0.0);
    for servers in &layout.servers[region] {
        let count = f64::from(servers.count);
        all += count;
        up += count * wanted.server_type(servers.server_type).availability;
    }
    if all > 0.0 { up / all } else { 1.0 }
}

fn region_up(wanted: &Wanted) -> f64 {
    let a = &wanted.file().assumptions;
    1.0 - a.region_outages_per_year * a.region_outage_hours / YEAR_H
}

/// How often a server of `region` fails in a year: it is down for the time of a repair each
/// time, and for this part of the year in all.
pub fn failures_per_year(wanted: &Wanted, layout: &Layout, region: usize) -> f64 {
    (1.0 - server_up(wanted, layout, region)) * YEAR_H / wanted.file().assumptions.repair_hours
}

fn binomial(n: u16, k: u16) -> f64 {
    (0..k).fold(1.0, |product, i| {
        product * f64::from(n - i) / f64::from(i + 1)
    })
}

/// How many copies of each region are up together, how likely that is, and whether it is so
/// because a region is gone.
struct State {
    up: Vec<u16>,
    probability: f64,
    is_gone: bool,
}

/// Every combination that can be.
fn states(wanted: &Wanted, layout: &Layout) -> Vec<State> {
    let mut states = vec![State {
        up: Vec::new(),
        probability: 1.0,
        is_gone: false,
    }];
    for region in 0..wanted.regions() {
        let copies = layout.copies[region];
        let there = if copies == 0 { 1.0 } else { region_up(wanted) };
        let server = server_up(wanted, layout, region);
        let mut more = Vec::new();
        for state in &states {
            let mut add = |running: u16, p: f64, is_gone: bool| {
                if p > 0.0 {
                    let mut up = state.up.clone();
                    up.push(running);
                    more.push(State {
                        up,
                        probability: state.probability * p,
                        is_gone,
                    });
                }
            };
            for running in 0..=copies {
                let some = i32::from(running);
                let others = i32::from(copies) - some;
                let p = binomial(copies, running) * server.powi(some) * (1.0 - server).powi(others);
                add(running, there * p, state.is_gone);
            }
            add(0, 1.0 - there, true);
        }
        states = more;
    }
    states
}

/// The downtime of requests that go to `home` as long as a copy is up there. `fails`: whether
/// they can't be answered while so many are up. Each time that the one who answers is lost, and
/// another can answer then, that takes `seconds`; where none can, that is too few that are up.
fn downtime(
    wanted: &Wanted,
    layout: &Layout,
    home: usize,
    seconds: f64,
    fails: &dyn Fn(&[u16]) -> bool,
) -> Downtime {
    let outages = wanted.file().assumptions.region_outages_per_year / region_up(wanted);
    let mut down = Downtime::default();
    let mut moves_per_year = 0.0;
    for state in states(wanted, layout) {
        let State { mut up, .. } = state;
        if fails(&up) {
            let minutes = state.probability * YEAR_MIN;
            *(if state.is_gone {
                &mut down.regions_min
            } else {
                &mut down.servers_min
            }) += minutes;
            continue;
        }
        let answers = |r: &usize| up[*r] > 0;
        let Some(at) = Some(home)
            .filter(answers)
            .or_else(|| (0..up.len()).find(answers))
        else {
            continue;
        };
        // Who answers is up, so it fails more often than one that may be down already.
        let failures = failures_per_year(wanted, layout, at) / server_up(wanted, layout, at);
        for (after, rate) in [(up[at] - 1, failures), (0, outages)] {
            let before = std::mem::replace(&mut up[at], after);
            if !fails(&up) {
                moves_per_year += state.probability * rate;
            }
            up[at] = before;
        }
    }
    down.moving_min = moves_per_year * seconds / 60.0;
    down
}

fn add(sum: &mut Downtime, part: f64, down: Downtime) {
    sum.servers_min += part * down.servers_min;
    sum.regions_min += part * down.regions_min;
    sum.moving_min += part * down.moving_min;
}

/// Whether a shard whose primary was in `home` takes writes while so many copies are up: the
/// rule can be met, and another can be named without losing what the rule promises.
pub(crate) fn is_writable(layout: &Layout, home: usize, up: &[u16]) -> bool {
    let all: u32 = up.iter().map(|&n| u32::from(n)).sum();
    let counted = || (0..up.len()).filter(|&r| latency::counts(layout, r));
    let voters_up: u32 = counted().map(|r| u32::from(up[r])).sum();
    let majority_of = |n: u16| n / 2 + 1;
    match layout.rule {
        Rule::Async => all > 0,
        Rule::SemiSync { k, region } => {
            let from = region.unwrap_or(home);
            let n = layout.copies[from];
            if from == home {
                up[from] > k && up[from] >= n.saturating_sub(k)
            } else {
                // The office stays where a failover took it; there the primary is no other.
                let may_lead = u16::from(n > k);
                let enough = up[from] >= k + may_lead && up[from] > n.saturating_sub(k);
                enough && all > u32::from(k)
            }
        }
        Rule::LocalQuorum if layout.topology == Topology::MultiPrimary => {
            let mut held = (0..up.len()).filter(|&r| layout.copies[r] > 0);
            held.any(|r| up[r] >= majority_of(layout.copies[r]))
        }
        Rule::LocalQuorum => up[home] >= majority_of(layout.copies[home]),
        Rule::Quorum => voters_up > latency::voting(layout) / 2,
        Rule::Sync => voters_up == latency::voting(layout),
    }
}

/// Of writes.
pub fn writes(wanted: &Wanted, layout: &Layout) -> Downtime {
    let a = &wanted.file().assumptions;
    let of = |home: usize, seconds: f64| {
        let fails = |up: &[u16]| !is_writable(layout, home, up);
        downtime(wanted, layout, home, seconds, &fails)
    };
    let mut sum = Downtime::default();
    if layout.topology == Topology::MultiPrimary {
        let written = wanted.file().load.writes_per_s;
        for from in (0..wanted.regions()).filter(|_| written > 0.0) {
            let part = wanted.writes_from(from) / written;
            let entry = latency::entry(wanted, layout, from);
            add(&mut sum, part, of(entry, a.reads_move_s));
        }
    } else {
        for (home, part) in layout.homes() {
            add(&mut sum, part, of(home, a.detection_s + a.failover_s));
        }
    }
    sum
}

/// Of the reads of `from`.
pub fn reads(wanted: &Wanted, layout: &Layout, from: usize, reader: Reader) -> Downtime {
    let a = &wanted.file().assumptions;
    let promises = &wanted.file().promises;
    let late = |r: usize| {
        let max = wanted.read_ms_max(from).filter(|_| promises.late_is_down);
        max.is_some_and(|max| latency::read_ms(wanted, layout, from, Reader::Copies(r)) > max)
    };
    let may_answer: Vec<bool> = (0..wanted.regions())
        .map(|r| {
            let max = promises.staleness_ms_max;
            let fresh = max.is_none_or(|max| latency::staleness_ms(wanted, layout, r) <= max);
            layout.copies[r] > 0 && fresh && !late(r)
        })
        .collect();
    let copies_fail = |up: &[u16]| !(0..up.len()).any(|r| may_answer[r] && up[r] > 0);
    let primaries_do = promises.staleness_ms_max.is_some();
    let homes: Vec<(usize, f64)> = match layout.topology {
        Topology::MultiPrimary => vec![(from, 1.0)],
        _ => layout.homes().collect(),
    };
    let mut sum = Downtime::default();
    for (home, part) in homes {
        let fails = |up: &[u16]| {
            let is_primary = primaries_do && layout.primaries[home] > 0 && !late(home);
            copies_fail(up) && !(is_primary && is_writable(layout, home, up))
        };
        let (at, seconds) = match reader {
            Reader::Copies(r) => (r, a.reads_move_s),
            Reader::Primaries => (home, a.detection_s + a.failover_s),
        };
        add(
            &mut sum,
            part,
            downtime(wanted, layout, at, seconds, &fails),
        );
    }
    sum
}

/// What an acknowledged write survives, in the worst choice of the copies that acknowledged it.
pub fn survives(wanted: &Wanted, layout: &Layout) -> Survives {
    let counted = || (0..wanted.regions()).filter(|&r| latency::counts(layout, r));
    let voting = latency::voting(layout);
    let majority = voting / 2 + 1;
    let homes: Vec<usize> = match layout.topology {
        Topology::MultiPrimary => counted().collect(),
        _ => layout.homes().map(|(home, _)| home).collect(),
    };
    let (server, region) = match layout.rule {
        Rule::Async => (false, false),
        Rule::SemiSync { region, .. } => (true, region.is_some_and(|from| !homes.contains(&from))),
        Rule::LocalQuorum => (homes.iter().all(|&r| layout.copies[r] > 1), false),
        Rule::Quorum => (
            majority > 1,
            counted().all(|r| u32::from(layout.copies[r]) < majority),
        ),
        Rule::Sync => (voting > 1, counted().count() > 1),
    };
    match (server, region) {
        (true, true) => Survives::Region,
        (true, false) => Survives::Server,
        (false, _) => Survives::Nothing,
    }
}

/// Acknowledged writes of a year that lie on one server alone at the moment when it fails, or
/// in one region when it goes: lag times rate, for each failure.
pub fn writes_at_risk_per_year(wanted: &Wanted, layout: &Layout) -> f64 {
    if survives(wanted, layout) != Survives::Nothing {
        return 0.0;
    }
    let interval = latency::interval_ms(wanted, layout.shards);
    let per_s = wanted.file().load.writes_per_s;
    let outages = wanted.file().assumptions.region_outages_per_year;
    let lag_s = |home: usize, beyond: bool| {
        let others = (0..wanted.regions())
            .filter(|&r| layout.copies[r] > u16::from(r == home) && !(beyond && r == home));
        let ways = others.map(|r| wanted.one_way_ms(home, r));
        let nearest = ways.fold(f64::INFINITY, f64::min);
        if nearest.is_finite() {
            (nearest + interval) / 1000.0
        } else {
            0.0
        }
    };
    let of = |home: usize, part: f64| {
        let failures = failures_per_year(wanted, layout, home);
        part * per_s * (failures * lag_s(home, false) + outages * lag_s(home, true))
    };
    match layout.topology {
        Topology::MultiPrimary => (0..wanted.regions())
            .map(|from| {
                let part = if per_s > 0.0 {
                    wanted.writes_from(from) / per_s
                } else {
                    0.0
                };
                of(latency::entry(wanted, layout, from), part)
            })
            .sum(),
        _ => layout.homes().map(|(home, part)| of(home, part)).sum(),
    }
}
