//! One choice of group and copies, completed: the number of shards with which it fits and costs
//! least, and the fewest servers.

use super::{Group, Primaries};
use crate::{
    availability,
    judge::{self, Judged, Violation, judge},
    latency,
    layout::{Layout, Servers, Topology},
    load,
    wanted::Wanted,
};

/// A group with copies, that makes sense: primaries are where copies are.
pub(super) struct Choice<'a> {
    group: &'a Group,
    copies: &'a [u16],
    /// Regions that may lead.
    leading: Vec<usize>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(wanted: &Wanted, group: &'a Group, copies: &'a [u16]) -> Option<Self> {
        let voting = |r: usize| copies[r] > 0 && group.voters[r];
        let leading: Vec<usize> = match group.primaries {
            Primaries::In(home) if voting(home) => vec![home],
            Primaries::In(_) => return None,
            Primaries::Spread => (0..wanted.regions()).filter(|&r| voting(r)).collect(),
            Primaries::None => Vec::new(),
        };
        // Spread over one region is what another group has.
        if group.primaries == Primaries::Spread && leading.len() < 2 {
            return None;
        }
        // A set of voting regions of which one has no copy is what another group has.
        let idle = |r: usize| group.voters[r] && copies[r] == 0;
        if group.topology == Topology::Consensus && (0..wanted.regions()).any(idle) {
            return None;
        }
        Some(Choice {
            group,
            copies,
            leading,
        })
    }

    /// With so many shards, and no servers yet.
    fn layout(&self, shards: u16) -> Layout {
        let mut primaries = vec![0; self.copies.len()];
        let parts = u16::try_from(self.leading.len()).unwrap_or(u16::MAX);
        for (place, &region) in self.leading.iter().enumerate() {
            let rest = usize::from(shards % parts) > place;
            primaries[region] = shards / parts + u16::from(rest);
        }
        Layout {
            topology: self.group.topology,
            rule: self.group.rule,
            shards,
            copies: self.copies.to_vec(),
            primaries,
            voters: self.group.voters.clone(),
            servers: vec![Vec::new(); self.copies.len()],
        }
    }

    fn shards_min(&self) -> u16 {
        u16::try_from(self.leading.len().max(1)).unwrap_or(u16::MAX)
    }

    /// A useful type for each region with copies, in every way; for the rest it says nothing.
    pub(super) fn types(&self, wanted: &Wanted) -> Vec<Vec<usize>> {
        let useful = wanted.useful_types();
        let mut all = vec![Vec::new()];
        for &copies in self.copies {
            let choices = if copies == 0 {
                &useful[..1]
            } else {
                &useful[..]
            };
            all = all
                .into_iter()
                .flat_map(|so_far: Vec<usize>| {
                    choices.iter().map(move |&t| {
                        let mut more = so_far.clone();
                        more.push(t);
                        more
                    })
                })
                .collect();
        }
        all
    }

    /// With these types, the number of shards that fits and costs least; the smallest of such.
    pub(super) fn judged(&self, wanted: &Wanted, types: &[usize]) -> Judged {
        let c = &wanted.file().constraints;
        let mut best: Option<((u32, u64), Layout)> = None;
        // Of too many shards the fewest is judged all the same, and says so.
        for shards in self.shards_min()..=c.shards_max.max(self.shards_min()) {
            let mut layout = self.layout(shards);
            let readers: Vec<_> = (0..wanted.regions())
                .map(|from| latency::reader(wanted, &layout, from))
                .collect();
            let incoming = load::incoming(wanted, &readers);
            let max = wanted.file().promises.staleness_ms_max;
            let stale = readers
                .iter()
                .filter(|(_, age)| max.is_some_and(|max| *age > max));
            let mut broken = u32::try_from(stale.count()).unwrap_or(u32::MAX);
            let network = load::network_bytes_per_s(wanted, &layout, &readers);
            let mut cents = judge::network_cents(wanted, network);
            for (region, &copies) in self.copies.iter().enumerate() {
                if copies == 0 {
                    continue;
                }
                let of = wanted.server_type(types[region]);
                let needed = load::servers_needed(wanted, &layout, region, incoming[region], of);
                // One server a copy is the most that can be of use.
                let count = needed.unwrap_or(u32::from(shards) * u32::from(copies));
                broken += u32::from(needed.is_none() || count > c.servers_max_per_region);
                let (_, paid) = judge::price_cents(wanted, types[region], count);
                cents = cents.saturating_add(paid);
                layout.servers[region].push(Servers {
                    server_type: types[region],
                    count,
                });
            }
            let score = (broken, cents);
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, layout));
            }
        }
        let layout = best.map_or_else(|| self.layout(self.shards_min()), |(_, layout)| layout);
        judge(wanted, layout)
    }
}

/// What a choice breaks whatever its shards and servers are.
pub(super) fn quick_violations(wanted: &Wanted, choice: &Choice<'_>) -> Vec<Violation> {
    let layout = choice.layout(choice.shards_min());
    let promises = &wanted.file().promises;
    let mut found = judge::of_topology_and_rule(wanted, &layout);
    if judge::is_empty(&layout) {
        found.push(Violation::Empty);
    }
    if availability::survives(wanted, &layout) < promises.survives {
        found.push(Violation::Survives);
    }
    for from in 0..wanted.regions() {
        let Some(write) = latency::write_ms(wanted, &layout, from) else {
            found.push(Violation::Unmeetable);
            break;
        };
        let max = wanted.write_ms_max(from);
        let slow = max.is_some_and(|max| write.worst > max + load::SLACK);
        if slow && wanted.writes_from(from) > 0.0 {
            found.push(Violation::Write(from));
        }
        // Who answers reads depends on shards only where staleness is bounded.
        if promises.staleness_ms_max.is_none() && wanted.reads_from(from) > 0.0 {
            let (reader, _) = latency::reader(wanted, &layout, from);
            let ms = latency::read_ms(wanted, &layout, from, reader);
            if wanted
                .read_ms_max(from)
                .is_some_and(|max| ms > max + load::SLACK)
            {
                found.push(Violation::Read(from));
            }
        }
    }
    found
}
