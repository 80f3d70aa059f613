//! Why the layouts that come next don't come first; and where there is none at all, which bound
//! to relax, and by how much.

use super::{Group, Infeasible, Primaries, candidates::Choice, entangled, nearness, order};
use crate::{
    file::Survives,
    judge::{Judged, Violation, judge},
    layout::{Layout, Servers, Topology},
    load::GB,
    say,
    wanted::Wanted,
};

/// A layout that is not among the best.
#[derive(Clone, Debug, PartialEq)]
pub struct FallsOut {
    /// What it differs in.
    pub what: String,
    /// Why it falls out, in a sentence.
    pub why: String,
    /// The layout that was nearest.
    pub judged: Judged,
}

/// A bound that keeps layouts from being possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Relaxation {
    /// Which bound, by its name in the plan file, and what it has to be.
    pub what: String,
    /// The layout that is possible then.
    pub judged: Judged,
}

fn sentences(wanted: &Wanted, judged: &Judged) -> String {
    let broken = judged.violations.iter().map(|v| v.say(wanted, judged));
    broken.take(2).collect::<Vec<_>>().join("; ")
}

fn dearer(best: &Judged, judged: &Judged) -> String {
    let (least, this) = (best.figures.cents(), judged.figures.cents());
    if this > least {
        let (more, all) = (say::money(this - least), say::money(this));
        return format!("{all} a month, {more} more");
    }
    match judged.layout.runs() {
        Err(why) if best.layout.runs().is_ok() => format!("costs the same; {why}"),
        _ => "costs the same, and is slower or larger".into(),
    }
}

fn title(wanted: &Wanted, best: &Layout, layout: &Layout) -> String {
    let rule = layout.rule.named(layout.topology, wanted);
    let mut title = match layout.topology {
        Topology::PrimaryReplica => rule,
        topology => format!("{topology} {rule}"),
    };
    let homes = |l: &Layout| -> Vec<usize> { l.homes().map(|(home, _)| home).collect() };
    let there = homes(layout);
    if !there.is_empty() && there != homes(best) {
        let names: Vec<&str> = there.iter().map(|&home| wanted.region(home)).collect();
        title.push_str(&format!(", primaries in {}", names.join(", ")));
    }
    title
}

/// Whether a topology as such is not to be had.
fn is_barred(violation: &Violation) -> bool {
    matches!(violation, Violation::Merges | Violation::Topology)
}

/// See [`super::Plan::others`].
pub(super) fn others(
    wanted: &Wanted,
    groups: &[Group],
    placements: &[Vec<u16>],
    kept: &[(usize, Judged)],
    near: Vec<Option<Judged>>,
    best: &[Judged],
) -> Vec<FallsOut> {
    let Some(first) = best.first() else {
        return Vec::new();
    };
    let mut found = smaller(wanted, first);
    let same = |a: &Judged, b: &Judged| {
        (a.layout.topology, a.layout.rule) == (b.layout.topology, b.layout.rule)
    };
    // The same with other primaries' regions.
    for (number, group) in groups.iter().enumerate() {
        let is_same = (group.topology, group.rule) == (first.layout.topology, first.layout.rule)
            && group.topology != Topology::MultiPrimary
            && group.voters == first.layout.voters;
        if !is_same {
            continue;
        }
        let feasible = kept
            .iter()
            .find(|(n, _)| *n == number)
            .map(|(_, j)| j.clone());
        let judged = feasible.or_else(|| {
            near[number]
                .clone()
                .or_else(|| nearest(wanted, group, placements, false))
        });
        let Some(judged) = judged.filter(|j| !best.contains(j)) else {
            continue;
        };
        let what = match group.primaries {
            Primaries::In(home) => format!("primaries in {}", wanted.region(home)),
            _ => "primaries in every region".into(),
        };
        let why = match judged.violations.is_empty() {
            true => dearer(first, &judged),
            false => sentences(wanted, &judged),
        };
        found.push(FallsOut { what, why, judged });
    }
    // The other topologies and rules, each at its best.
    let mut families: Vec<(Topology, u8)> = groups.iter().map(Group::family).collect();
    families.sort();
    families.dedup();
    for family in families {
        let of = |number: usize| groups[number].family() == family;
        let feasible = kept.iter().find(|(n, _)| of(*n)).map(|(_, j)| j.clone());
        let judged = feasible.or_else(|| {
            let mut nearest_of: Vec<Judged> = (0..groups.len())
                .filter(|&n| of(n))
                .filter_map(|n| {
                    near[n]
                        .clone()
                        .or_else(|| nearest(wanted, &groups[n], placements, false))
                })
                .collect();
            nearest_of.sort_by(|a, b| nearness(wanted, a, b));
            nearest_of.into_iter().next()
        });
        let Some(judged) = judged else { continue };
        if same(&judged, first) || best.contains(&judged) {
            continue;
        }
        if let Some(barred) = judged.violations.iter().find(|v| is_barred(v)) {
            let what = judged.layout.topology.to_string();
            let why = barred.say(wanted, &judged);
            if !found.iter().any(|f| f.what == what) {
                found.push(FallsOut { what, why, judged });
            }
            continue;
        }
        let why = match judged.violations.is_empty() {
            true => dearer(first, &judged),
            false => sentences(wanted, &judged),
        };
        let what = title(wanted, &first.layout, &judged.layout);
        found.push(FallsOut { what, why, judged });
    }
    found
}

/// The best layout with a server less, and with no copy, in each region.
fn smaller(wanted: &Wanted, best: &Judged) -> Vec<FallsOut> {
    let mut found = Vec::new();
    let layout = &best.layout;
    for region in 0..wanted.regions() {
        let name = wanted.region(region);
        let [Servers { server_type, count }] = layout.servers[region][..] else {
            continue;
        };
        if count > u32::from(layout.copies[region]) {
            // Every number of shards, since another may share out better.
            let shards = layout.homes().count().max(1);
            let shards = u16::try_from(shards).unwrap_or(u16::MAX);
            let tries = (shards..=wanted.file().constraints.shards_max).map(|shards| {
                let mut fewer = layout.clone();
                fewer.shards = shards;
                spread(&mut fewer, layout);
                fewer.servers[region] = vec![Servers {
                    server_type,
                    count: count - 1,
                }];
                judge(wanted, fewer)
            });
            let used = |j: &Judged| {
                let of = &j.figures.regions[region].servers;
                of.first().map_or(0.0, |s| s.utilisation.both)
            };
            let judged = tries.min_by(|a, b| used(a).total_cmp(&used(b)));
            let broken = |j: &Judged| {
                let of_servers = j.violations.iter().find(|v| {
                    matches!(v, Violation::Utilisation { region: r, .. } | Violation::Storage { region: r, .. } if *r == region)
                });
                of_servers.map(|v| v.say(wanted, j))
            };
            if let Some((judged, why)) = judged.and_then(|j| broken(&j).map(|why| (j, why))) {
                let what = format!("{} in {name}", say::count(count - 1, "server"));
                // The sentence begins with the number of servers itself.
                let why = why
                    .strip_prefix(&format!("{what}: "))
                    .unwrap_or(&why)
                    .to_string();
                found.push(FallsOut { what, why, judged });
            }
        }
        if layout.primaries[region] == 0 && layout.replication_factor() > 1 {
            let mut without = layout.clone();
            without.copies[region] = 0;
            without.servers[region].clear();
            let mut judged = judge(wanted, without);
            // Other servers could be added for what they get besides.
            let full = |v: &Violation| matches!(v, Violation::Utilisation { .. });
            judged.violations.retain(|v| !full(v));
            if !judged.violations.is_empty() {
                found.push(FallsOut {
                    what: format!("no copy in {name}"),
                    why: sentences(wanted, &judged),
                    judged,
                });
            }
        }
    }
    found
}

/// Gives `to`'s shards the primaries' regions that `from` has, in equal parts.
fn spread(to: &mut Layout, from: &Layout) {
    let homes: Vec<usize> = from.homes().map(|(home, _)| home).collect();
    let parts = u16::try_from(homes.len()).unwrap_or(u16::MAX);
    for (place, &home) in homes.iter().enumerate() {
        let rest = usize::from(to.shards % parts) > place;
        to.primaries[home] = to.shards / parts + u16::from(rest);
    }
}

/// The layout of a group that breaks least; with every type, or only the first useful one.
fn nearest(
    wanted: &Wanted,
    group: &Group,
    placements: &[Vec<u16>],
    every_type: bool,
) -> Option<Judged> {
    let mut best: Option<Judged> = None;
    each(wanted, group, placements, every_type, &mut |judged| {
        if best
            .as_ref()
            .is_none_or(|b| nearness(wanted, &judged, b).is_lt())
        {
            best = Some(judged);
        }
    });
    best
}

fn each(
    wanted: &Wanted,
    group: &Group,
    placements: &[Vec<u16>],
    every_type: bool,
    see: &mut dyn FnMut(Judged),
) {
    for copies in placements {
        if let Some(choice) = Choice::new(wanted, group, copies) {
            let types = choice.types(wanted);
            let types = if every_type { &types[..] } else { &types[..1] };
            for types in types {
                see(choice.judged(wanted, types));
            }
        }
    }
}

/// See [`Infeasible`].
pub(super) fn infeasible(
    wanted: &Wanted,
    groups: &[Group],
    placements: &[Vec<u16>],
    considered: usize,
) -> Infeasible {
    // Bound → how much it has to give, and the layout that needs the least.
    let mut alone: Vec<(String, f64, Judged)> = Vec::new();
    let mut nearest: Option<Judged> = None;
    for group in groups {
        each(wanted, group, placements, true, &mut |judged| {
            // No bound makes a rule hold that has too few copies.
            let no_rule = |v: &Violation| matches!(v, Violation::Unmeetable | Violation::Empty);
            if judged.violations.iter().any(no_rule) {
                return;
            }
            if nearest
                .as_ref()
                .is_none_or(|n| nearness(wanted, &judged, n).is_lt())
            {
                nearest = Some(judged.clone());
            }
            let mut needs = judged.violations.iter().map(|v| need(wanted, &judged, v));
            let Some((bound, value, _)) = needs.next() else {
                return;
            };
            if needs.any(|(other, ..)| other != bound) {
                return;
            }
            let all = judged.violations.iter().map(|v| need(wanted, &judged, v).1);
            let value = all.fold(value, f64::max);
            let better = |known: &(String, f64, Judged)| {
                let by_cost = || order(wanted, &judged, &known.2);
                value.total_cmp(&known.1).then_with(by_cost).is_lt()
            };
            match alone.iter_mut().find(|(known, ..)| *known == bound) {
                Some(known) if better(known) => *known = (bound, value, judged),
                Some(_) => {}
                None => alone.push((bound, value, judged)),
            }
        });
    }
    let worst = |judged: &Judged| {
        let mut needs: Vec<(String, f64, String)> = judged
            .violations
            .iter()
            .map(|v| need(wanted, judged, v))
            .collect();
        needs.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        needs.dedup_by(|a, b| a.0 == b.0);
        needs
    };
    let entangled = entangled::relaxations(wanted, groups, placements);
    let together = alone.is_empty() && entangled.is_empty();
    let chosen: Vec<Judged> = match together {
        true => nearest.into_iter().collect(),
        false => (alone.into_iter())
            .filter(|(bound, ..)| !entangled.iter().any(|e| e.what.starts_with(bound.as_str())))
            .map(|(.., judged)| judged)
            .collect(),
    };
    let relaxations = chosen
        .into_iter()
        .flat_map(|judged| {
            worst(&judged)
                .into_iter()
                .map(move |(_, _, what)| Relaxation {
                    what,
                    judged: judged.clone(),
                })
        })
        .chain(entangled)
        .collect();
    Infeasible {
        relaxations,
        together,
        considered,
    }
}

/// The bound that a violation breaks, how much it would have to give (comparable among layouts
/// that break the same), and that in words.
fn need(wanted: &Wanted, judged: &Judged, violation: &Violation) -> (String, f64, String) {
    let figures = &judged.figures;
    let file = wanted.file();
    let promises = &file.promises;
    let up = |ms: f64| (ms * 10.0 - 1e-6).ceil() / 10.0;
    let bound = |name: String, value: f64, to: String, is: String| {
        let words = format!("{name} = {to} (it is {is})");
        (name, value, words)
    };
    let plain = |max: Option<f64>| max.map_or("none".into(), |max| max.to_string());
    match *violation {
        Violation::Write(r) => {
            let ms = up(figures.regions[r].write_ms.map_or(0.0, |w| w.worst));
            let name = format!("promises.write_ms_max.{}", wanted.region(r));
            bound(name, ms, ms.to_string(), plain(wanted.write_ms_max(r)))
        }
        Violation::Read(r) => {
            let ms = up(figures.regions[r].read_ms);
            let name = format!("promises.read_ms_max.{}", wanted.region(r));
            bound(name, ms, ms.to_string(), plain(wanted.read_ms_max(r)))
        }
        Violation::Staleness(r) => {
            let ms = up(figures.regions[r].staleness_ms);
            let name = "promises.staleness_ms_max".to_string();
            bound(name, ms, ms.to_string(), plain(promises.staleness_ms_max))
        }
        Violation::Availability { reads_of } => {
            let down = match reads_of {
                None => &figures.write_downtime,
                Some(r) => &figures.regions[r].read_downtime,
            };
            let part = (down.availability() * 1e9).floor() / 1e9;
            let name = "promises.availability_min".to_string();
            bound(
                name,
                1.0 - part,
                part.to_string(),
                plain(promises.availability_min),
            )
        }
        Violation::Survives => {
            let word = |s: Survives| match s {
                Survives::Nothing => "\"nothing\"",
                Survives::Server => "\"server\"",
                Survives::Region => "\"region\"",
            };
            let less = f64::from(promises.survives as u8 - figures.survives as u8);
            let (to, is) = (word(figures.survives), word(promises.survives));
            bound("promises.survives".into(), less, to.into(), is.into())
        }
        Violation::Budget => {
            let dollars = figures.cents() as f64 / 100.0;
            let name = "constraints.budget_per_month".to_string();
            bound(
                name,
                dollars,
                dollars.to_string(),
                plain(file.constraints.budget_per_month),
            )
        }
        Violation::Servers { needed, .. } => {
            let name = "constraints.servers_max_per_region".to_string();
            let is = file.constraints.servers_max_per_region.to_string();
            bound(name, needed.into(), needed.to_string(), is)
        }
        Violation::Copies { region } => {
            let name = "constraints.copies_max_per_region".to_string();
            let (to, is) = (
                judged.layout.copies[region],
                file.constraints.copies_max_per_region,
            );
            bound(name, to.into(), to.to_string(), is.to_string())
        }
        Violation::Shards => {
            let name = "constraints.shards_max".to_string();
            let (to, is) = (judged.layout.shards, file.constraints.shards_max);
            bound(name, to.into(), to.to_string(), is.to_string())
        }
        Violation::Utilisation { region, servers } => {
            let s = figures.regions[region].servers[servers];
            let t = wanted.server_type(s.server_type);
            let times = s.utilisation.both / file.constraints.utilisation_max;
            let words = format!(
                "constraints.shards_max above {} (one copy of a shard takes {} of a {}), or a server type that does {} times as much",
                file.constraints.shards_max,
                say::percent(s.utilisation.both),
                t.name,
                (times * 100.0).ceil() / 100.0
            );
            ("what a server does".into(), times, words)
        }
        Violation::Storage { region, .. } => {
            let gb = (figures.regions[region].busiest.bytes / GB).ceil();
            let words = format!(
                "constraints.shards_max above {}, or a server type with storage_gb = {gb}",
                file.constraints.shards_max
            );
            ("storage_gb".into(), gb, words)
        }
        Violation::Merges => {
            let to = "true, where the application takes merged writes".into();
            bound("promises.may_merge".into(), 0.0, to, "false".into())
        }
        Violation::Rule | Violation::Unmeetable | Violation::Empty => {
            let rule = judged.layout.rule.named(judged.layout.topology, wanted);
            let name = "promises.rule".to_string();
            let is = promises.rule.clone().unwrap_or("left open".into());
            bound(name, 0.0, format!("\"{rule}\""), is)
        }
        Violation::Topology => {
            let name = "constraints.topologies".to_string();
            let is = file.constraints.topologies.join(", ");
            bound(
                name,
                0.0,
                format!("one with \"{}\"", judged.layout.topology),
                is,
            )
        }
    }
}
