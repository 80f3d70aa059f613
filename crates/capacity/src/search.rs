//! The cheapest layouts that keep everything, found by looking at all of them.
//!
//! What is looked at: every topology, every rule of it, every region for the primaries (or all
//! of them in turn), every set of voting regions, every number of copies a region, every useful
//! server type a region, every number of shards; all within the plan's bounds. What is folded:
//! shards are equal, copies of a region are equal, servers of a region are of one type and have
//! no order; and the number of servers is not searched but follows, the fewest that carry it.
//! What is pruned: types that another beats in everything, and choices that break a promise
//! which depends on neither shards nor servers.

mod candidates;
mod entangled;
mod reasons;

pub use reasons::{FallsOut, Relaxation};

use crate::{
    judge::Judged,
    layout::{Layout, Rule, Topology},
    wanted::Wanted,
};
use candidates::{Choice, quick_violations};
use std::cmp::Ordering;

/// How many layouts are shown as the best.
pub const BEST: usize = 3;
/// The most others that `semi-sync` is tried with.
const SEMI_SYNC_MAX: u16 = 2;

/// What a search ends in.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// There are layouts that keep everything.
    Plan(Plan),
    /// There are none.
    Infeasible(Infeasible),
}

/// See [`Answer::Plan`].
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The best first; at least one, [`BEST`] at most, none better than another in everything.
    pub best: Vec<Judged>,
    /// What comes next, and why it does not come first.
    pub others: Vec<FallsOut>,
    /// How many choices of topology, rule, primaries and copies were looked at.
    pub considered: usize,
}

/// See [`Answer::Infeasible`].
#[derive(Clone, Debug, PartialEq)]
pub struct Infeasible {
    /// Each alone makes a layout possible; if `together`, all of them do.
    pub relaxations: Vec<Relaxation>,
    /// Whether one alone is not enough.
    pub together: bool,
    /// How many choices of topology, rule, primaries and copies were looked at.
    pub considered: usize,
}

/// Where the primaries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Primaries {
    /// All in one region.
    In(usize),
    /// In every region that may lead, in equal parts.
    Spread,
    /// There are none.
    None,
}

/// What is the same of all layouts that are compared with each other by their copies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    topology: Topology,
    rule: Rule,
    primaries: Primaries,
    voters: Vec<bool>,
}

impl Group {
    /// What a reader takes for the same choice: topology and rule, whatever their numbers.
    fn family(&self) -> (Topology, u8) {
        let rule = match self.rule {
            Rule::Async => 0,
            Rule::SemiSync { region: None, .. } => 1,
            Rule::SemiSync { .. } => 2,
            Rule::LocalQuorum => 3,
            Rule::Quorum => 4,
            Rule::Sync => 5,
        };
        (self.topology, rule)
    }
}

fn groups(wanted: &Wanted) -> Vec<Group> {
    let regions = wanted.regions();
    let all = vec![true; regions];
    let mut homes: Vec<Primaries> = (0..regions).map(Primaries::In).collect();
    if regions > 1 {
        homes.push(Primaries::Spread);
    }
    let most = wanted.file().constraints.copies_max_per_region;
    let mut rules = vec![Rule::Async];
    for k in 1..=SEMI_SYNC_MAX.min(most) {
        rules.push(Rule::SemiSync { k, region: None });
        rules.extend((0..regions).map(|r| Rule::SemiSync { k, region: Some(r) }));
    }
    rules.extend([Rule::LocalQuorum, Rule::Quorum, Rule::Sync]);
    let mut groups = Vec::new();
    for &rule in &rules {
        for &primaries in &homes {
            // From the primary's own region by name is the same as without a name.
            let named_home = matches!(
                (rule, primaries),
                (Rule::SemiSync { region: Some(r), .. }, Primaries::In(home)) if r == home
            );
            if !named_home {
                groups.push(Group {
                    topology: Topology::PrimaryReplica,
                    rule,
                    primaries,
                    voters: all.clone(),
                });
            }
        }
    }
    for set in 1..1_u32 << regions {
        let voters: Vec<bool> = (0..regions).map(|r| set & (1 << r) != 0).collect();
        for &primaries in &homes {
            let leads = match primaries {
                Primaries::In(home) => voters[home],
                _ => set.count_ones() > 1,
            };
            if leads {
                groups.push(Group {
                    topology: Topology::Consensus,
                    rule: Rule::Quorum,
                    primaries,
                    voters: voters.clone(),
                });
            }
        }
    }
    for rule in [Rule::Async, Rule::LocalQuorum, Rule::Quorum, Rule::Sync] {
        groups.push(Group {
            topology: Topology::MultiPrimary,
            rule,
            primaries: Primaries::None,
            voters: all.clone(),
        });
    }
    groups
}

/// Every number of copies in every region, but for none at all.
fn placements(wanted: &Wanted) -> Vec<Vec<u16>> {
    let most = wanted.file().constraints.copies_max_per_region;
    let mut all = vec![Vec::new()];
    for _ in 0..wanted.regions() {
        all = all
            .into_iter()
            .flat_map(|so_far: Vec<u16>| {
                (0..=most).map(move |n| {
                    let mut more = so_far.clone();
                    more.push(n);
                    more
                })
            })
            .collect();
    }
    all.retain(|copies| copies.iter().any(|n| *n > 0));
    all
}

/// The cheaper first; of equals what this release runs, what survives more, what is quicker,
/// and what is smaller. Two different layouts are never equal.
fn order(wanted: &Wanted, a: &Judged, b: &Judged) -> Ordering {
    let slowness = |j: &Judged| -> f64 {
        let regions = j.figures.regions.iter().enumerate();
        regions
            .map(|(r, f)| {
                wanted.writes_from(r) * f.write_ms.map_or(f64::INFINITY, |w| w.mean)
                    + wanted.reads_from(r) * f.read_ms
            })
            .sum()
    };
    let size = |l: &Layout| (l.replication_factor(), l.servers_in_all(), l.shards);
    let types = |l: &Layout| -> Vec<(usize, u32)> {
        let all = l.servers.iter().flatten();
        all.map(|s| (s.server_type, s.count)).collect()
    };
    let runs = |l: &Layout| l.runs().is_err();
    let (x, y) = (&a.layout, &b.layout);
    a.figures
        .cents()
        .cmp(&b.figures.cents())
        .then(runs(x).cmp(&runs(y)))
        .then(b.figures.survives.cmp(&a.figures.survives))
        .then(slowness(a).total_cmp(&slowness(b)))
        .then(size(x).cmp(&size(y)))
        .then(x.topology.cmp(&y.topology))
        .then(x.rule.cmp(&y.rule))
        .then(y.copies.cmp(&x.copies))
        .then(y.primaries.cmp(&x.primaries))
        .then(y.voters.cmp(&x.voters))
        .then(types(x).cmp(&types(y)))
}

/// Whether `b` is better than `a` in nothing that anybody would notice.
fn dominates(a: &Judged, b: &Judged) -> bool {
    /// Three seconds of a year.
    const NOTICED: f64 = 1e-7;
    let no_slower = a
        .figures
        .regions
        .iter()
        .zip(&b.figures.regions)
        .all(|(x, y)| {
            let write =
                |f: &crate::judge::RegionFigures| f.write_ms.map_or(f64::INFINITY, |w| w.worst);
            write(x) <= write(y) && x.read_ms <= y.read_ms && x.staleness_ms <= y.staleness_ms
        });
    no_slower
        && a.figures.cents() <= b.figures.cents()
        && a.figures.survives >= b.figures.survives
        && a.figures.availability() >= b.figures.availability() - NOTICED
        && (a.layout.runs().is_ok() || b.layout.runs().is_err())
}

/// The nearest to keeping everything first.
fn nearness(wanted: &Wanted, a: &Judged, b: &Judged) -> Ordering {
    let broken = |j: &Judged| j.violations.len();
    broken(a).cmp(&broken(b)).then_with(|| order(wanted, a, b))
}

/// What keeps everything, and what comes nearest.
struct Looked {
    /// The best first; each with the number of its group.
    kept: Vec<(usize, Judged)>,
    /// By group: of what was judged and does not keep everything.
    near: Vec<Option<Judged>>,
}

fn look(wanted: &Wanted, groups: &[Group], placements: &[Vec<u16>]) -> Looked {
    let mut kept: Vec<(usize, Judged)> = Vec::new();
    let mut near: Vec<Option<Judged>> = vec![None; groups.len()];
    for (number, group) in groups.iter().enumerate() {
        for copies in placements {
            let Some(choice) = Choice::new(wanted, group, copies) else {
                continue;
            };
            if !quick_violations(wanted, &choice).is_empty() {
                continue;
            }
            let mut best: Option<Judged> = None;
            for types in choice.types(wanted) {
                let judged = choice.judged(wanted, &types);
                let slot = if judged.violations.is_empty() {
                    &mut best
                } else {
                    &mut near[number]
                };
                if slot
                    .as_ref()
                    .is_none_or(|b| nearness(wanted, &judged, b).is_lt())
                {
                    *slot = Some(judged);
                }
            }
            kept.extend(best.map(|judged| (number, judged)));
        }
    }
    kept.sort_by(|(_, a), (_, b)| order(wanted, a, b));
    Looked { kept, near }
}

/// Looks at everything.
pub fn search(wanted: &Wanted) -> Answer {
    let groups = groups(wanted);
    let placements = placements(wanted);
    let considered = groups.len() * placements.len();
    let Looked { kept, near } = look(wanted, &groups, &placements);
    if kept.is_empty() {
        return Answer::Infeasible(reasons::infeasible(
            wanted,
            &groups,
            &placements,
            considered,
        ));
    }
    let mut best: Vec<Judged> = Vec::new();
    for (_, judged) in &kept {
        if best.len() < BEST && !best.iter().any(|b| dominates(b, judged)) {
            best.push(judged.clone());
        }
    }
    let others = reasons::others(wanted, &groups, &placements, &kept, near, &best);
    Answer::Plan(Plan {
        best,
        others,
        considered,
    })
}
