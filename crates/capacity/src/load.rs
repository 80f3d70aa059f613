//! What each server carries. Every copy applies every write of its shard; reads are spread
//! over the copies that answer them.
//!
//! The copies of a region are dealt out to its servers in turn, so the busiest holds
//! ⌈shards · copies / servers⌉ of them. How many it leads: [`led`].

use crate::{
    file::{ServerType, Sharing},
    latency::{self, Reader},
    layout::{Layout, Topology},
    wanted::Wanted,
};

/// What is allowed beyond a bound: sums of binary fractions are not exact.
pub(crate) const SLACK: f64 = 1e-9;
/// Bytes of a gigabyte, as those who sell them count.
pub(crate) const GB: f64 = 1e9;
/// Seconds of a month: a twelfth of 365 days.
pub(crate) const MONTH_S: f64 = 2_628_000.0;

/// What comes to a region's copies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Incoming {
    /// Reads that any copy there may answer.
    pub(crate) reads: f64,
    /// Reads that go to primaries alone, of all regions together.
    pub(crate) primary_reads: f64,
}

/// By region.
pub(crate) fn incoming(wanted: &Wanted, readers: &[(Reader, f64)]) -> Vec<Incoming> {
    let mut by_region = vec![Incoming::default(); wanted.regions()];
    for (from, (reader, _)) in readers.iter().enumerate() {
        let reads = wanted.reads_from(from);
        match reader {
            Reader::Copies(r) => by_region[*r].reads += reads,
            Reader::Primaries => by_region.iter_mut().for_each(|i| i.primary_reads += reads),
        }
    }
    by_region
}

/// What the busiest server of a region does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busiest {
    /// Copies of shards on it.
    pub copies: u32,
    /// Writes that it applies.
    pub writes_per_s: f64,
    /// Reads that it answers.
    pub reads_per_s: f64,
    /// What lies on its disk.
    pub bytes: f64,
}

/// Shards that one of `servers` servers leads at most. Each shard is led by the one of its
/// copies that leads the fewest, when it is dealt out: where that is not any of the servers, one
/// may lead one more than its part.
fn led(layout: &Layout, region: usize, servers: u32) -> u32 {
    let copies = u32::from(layout.copies[region]);
    let part = u32::from(layout.primaries[region]).div_ceil(servers);
    let held = (u32::from(layout.shards) * copies).div_ceil(servers);
    match copies > 1 && copies < servers {
        true => held.min(part + 1),
        false => part,
    }
}

/// The busiest of `servers` servers.
pub(crate) fn busiest(
    wanted: &Wanted,
    layout: &Layout,
    region: usize,
    incoming: Incoming,
    servers: u32,
) -> Busiest {
    let held = u32::from(layout.shards) * u32::from(layout.copies[region]);
    if held == 0 || servers == 0 {
        return Busiest::default();
    }
    let copies = held.div_ceil(servers);
    let led = led(layout, region, servers);
    let shards = f64::from(layout.shards);
    let of_copies = f64::from(copies);
    Busiest {
        copies,
        writes_per_s: of_copies * wanted.file().load.writes_per_s / shards,
        reads_per_s: of_copies * incoming.reads / f64::from(held)
            + f64::from(led) * incoming.primary_reads / shards,
        bytes: of_copies * wanted.data_bytes() / shards,
    }
}

/// How much of a server is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Utilisation {
    /// By writes.
    pub writes: f64,
    /// By reads.
    pub reads: f64,
    /// By both, as the plan says that they share.
    pub both: f64,
}

/// What `busiest` is of a server of type `of`.
pub(crate) fn utilisation(wanted: &Wanted, busiest: Busiest, of: &ServerType) -> Utilisation {
    let writes = busiest.writes_per_s / of.writes_per_s;
    let reads = busiest.reads_per_s / of.reads_per_s;
    let both = match wanted.file().constraints.utilisation {
        Sharing::Shared => writes + reads,
        Sharing::Independent => writes.max(reads),
    };
    Utilisation {
        writes,
        reads,
        both,
    }
}

/// The fewest servers of a type that carry a region's copies; None if one copy is too much for
/// one server already.
pub(crate) fn servers_needed(
    wanted: &Wanted,
    layout: &Layout,
    region: usize,
    incoming: Incoming,
    of: &ServerType,
) -> Option<u32> {
    let copies = u32::from(layout.copies[region]);
    let held = u32::from(layout.shards) * copies;
    let fits = |servers: u32| {
        let busiest = busiest(wanted, layout, region, incoming, servers);
        let used = utilisation(wanted, busiest, of).both;
        let room = of
            .storage_gb
            .is_none_or(|gb| busiest.bytes <= gb * GB * (1.0 + SLACK));
        room && used <= wanted.file().constraints.utilisation_max + SLACK
    };
    if held == 0 {
        return Some(0);
    }
    if !fits(held) {
        return None;
    }
    // More servers never carry more each, so the bound is found by halving.
    let (mut too_few, mut enough) = (copies - 1, held);
    while too_few + 1 < enough {
        let middle = too_few + (enough - too_few) / 2;
        if fits(middle) {
            enough = middle;
        } else {
            too_few = middle;
        }
    }
    Some(enough)
}

/// How much of the busiest server is used while any one server is down, at most: another may
/// hold copies of all its shards, as far as it holds so many, and gets their reads. These go to
/// the other copies of the region, or, where it has one copy of each shard, to the nearest
/// region that has one; writes are applied by every copy anyway.
pub(crate) fn used_with_one_down(
    wanted: &Wanted,
    layout: &Layout,
    readers: &[(Reader, f64)],
) -> f64 {
    let incoming = incoming(wanted, readers);
    let shards = f64::from(layout.shards);
    let of = |r: usize| busiest(wanted, layout, r, incoming[r], layout.servers_in(r));
    let mut most = 0.0_f64;
    for down in (0..wanted.regions()).filter(|&r| layout.copies[r] > 0) {
        let lost = of(down).copies;
        let led = led(layout, down, layout.servers_in(down).max(1));
        let others = layout.copies[down] - 1;
        let elsewhere = |from: usize| {
            let held = (0..wanted.regions()).filter(|&r| r != down && layout.copies[r] > 0);
            latency::nearest(wanted, from, held)
        };
        for region in (0..wanted.regions()).filter(|&r| layout.copies[r] > 0) {
            if region == down && layout.servers_in(down) < 2 {
                continue;
            }
            let mut busiest = of(region);
            let shared = f64::from(lost.min(busiest.copies));
            let is_heir = |from: usize| match others {
                0 => elsewhere(from) == Some(region),
                _ => region == down,
            };
            for (from, (reader, _)) in readers.iter().enumerate() {
                let reads = wanted.reads_from(from) / shards;
                busiest.reads_per_s += match reader {
                    Reader::Copies(at) if *at == down && is_heir(from) => {
                        let before = f64::from(layout.copies[down]);
                        match others {
                            0 => shared * reads / f64::from(layout.copies[region]),
                            n => shared * reads * (1.0 / f64::from(n) - 1.0 / before),
                        }
                    }
                    Reader::Primaries if is_heir(down) => {
                        f64::from(led.min(busiest.copies)) * reads
                    }
                    _ => 0.0,
                };
            }
            for servers in &layout.servers[region] {
                let of = wanted.server_type(servers.server_type);
                most = most.max(utilisation(wanted, busiest, of).both);
            }
        }
    }
    most
}

/// Bytes a second that go from one region to another.
pub fn network_bytes_per_s(wanted: &Wanted, layout: &Layout, readers: &[(Reader, f64)]) -> f64 {
    let copies_beyond = |home: usize| -> f64 {
        let others = (0..wanted.regions()).filter(|&r| r != home);
        others.map(|r| f64::from(layout.copies[r])).sum()
    };
    let mut writes = 0.0;
    for from in 0..wanted.regions() {
        let written = wanted.writes_from(from);
        let mut to = |home: usize, part: f64| {
            let forwarded = f64::from(u8::from(home != from));
            writes += written * part * (forwarded + copies_beyond(home));
        };
        if layout.topology == Topology::MultiPrimary {
            to(latency::entry(wanted, layout, from), 1.0);
        } else {
            layout.homes().for_each(|(home, part)| to(home, part));
        }
    }
    let mut reads = 0.0;
    for (from, (reader, _)) in readers.iter().enumerate() {
        let abroad: f64 = match reader {
            Reader::Copies(r) => f64::from(u8::from(*r != from)),
            Reader::Primaries => {
                let others = layout.homes().filter(|(home, _)| *home != from);
                others.map(|(_, part)| part).sum()
            }
        };
        reads += wanted.reads_from(from) * abroad;
    }
    writes * wanted.bytes_per_write() + reads * wanted.bytes_per_read()
}
