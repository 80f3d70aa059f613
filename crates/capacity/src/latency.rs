//! How long writes and reads take, and how old what is read may be. Every figure follows from
//! the rule, from who is where, and from the links.
//!
//! ```text
//!   user ── 2·d(user, primary) ──▶ primary: service ── commit: the slowest acknowledgement that the rule waits for
//! ```

use crate::{
    layout::{Layout, Rule, Topology},
    wanted::Wanted,
};

/// Who answers the reads of a region's users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Any copy in that region.
    Copies(usize),
    /// Primaries alone, wherever they are: no copy near is fresh enough.
    Primaries,
}

/// What the k nearest others of `home` need to acknowledge; None if there are not so many.
fn nearest_others(wanted: &Wanted, layout: &Layout, home: usize, k: u32) -> Option<f64> {
    if k == 0 {
        return Some(0.0);
    }
    let mut left = k;
    let mut regions: Vec<usize> = (0..wanted.regions())
        .filter(|&r| counts(layout, r))
        .collect();
    regions.sort_by(|&a, &b| {
        let way = |r| wanted.round_trip_ms(home, r);
        way(a).total_cmp(&way(b)).then(a.cmp(&b))
    });
    for r in regions {
        let others = u32::from(layout.copies[r]) - u32::from(r == home);
        if others >= left {
            return Some(wanted.round_trip_ms(home, r));
        }
        left -= others;
    }
    None
}

/// Whether acknowledgements of a region's copies count for a majority of all.
pub(crate) fn counts(layout: &Layout, region: usize) -> bool {
    layout.copies[region] > 0 && (layout.topology != Topology::Consensus || layout.voters[region])
}

/// Copies of which a majority is one.
pub(crate) fn voting(layout: &Layout) -> u32 {
    let regions = (0..layout.copies.len()).filter(|&r| counts(layout, r));
    regions.map(|r| u32::from(layout.copies[r])).sum()
}

/// From when a write is durable on the copy in `home` that took it until the rule holds; None
/// if there are too few copies for it ever to hold.
pub fn commit_ms(wanted: &Wanted, layout: &Layout, home: usize) -> Option<f64> {
    match layout.rule {
        Rule::Async => Some(0.0),
        Rule::SemiSync { k, region } => {
            let from = region.unwrap_or(home);
            let others = u32::from(layout.copies[from]) - u32::from(from == home);
            (others >= u32::from(k)).then(|| wanted.round_trip_ms(home, from))
        }
        Rule::LocalQuorum => Some(match layout.copies[home] {
            0 | 1 => 0.0,
            _ => wanted.round_trip_ms(home, home),
        }),
        Rule::Quorum => nearest_others(wanted, layout, home, voting(layout) / 2),
        Rule::Sync => nearest_others(wanted, layout, home, voting(layout).saturating_sub(1)),
    }
}

/// Where users of `from` find the nearest copy that takes their writes, with multi-primary.
pub(crate) fn entry(wanted: &Wanted, layout: &Layout, from: usize) -> usize {
    nearest(
        wanted,
        from,
        (0..wanted.regions()).filter(|&r| layout.copies[r] > 0),
    )
    .unwrap_or(from)
}

pub(crate) fn nearest(
    wanted: &Wanted,
    from: usize,
    among: impl Iterator<Item = usize>,
) -> Option<usize> {
    among.min_by(|&a, &b| {
        let way = |r| wanted.one_way_ms(from, r);
        way(a).total_cmp(&way(b)).then(a.cmp(&b))
    })
}

/// What a write takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteMs {
    /// Of the shard whose primary is farthest.
    pub worst: f64,
    /// Over all shards.
    pub mean: f64,
}

/// What a write of a user of `from` takes; None if the rule can never hold.
pub fn write_ms(wanted: &Wanted, layout: &Layout, from: usize) -> Option<WriteMs> {
    let service = wanted.file().assumptions.service_ms;
    let by_way_of = |home| {
        let commit = commit_ms(wanted, layout, home)?;
        Some(service + wanted.round_trip_ms(from, home) + commit)
    };
    if layout.topology == Topology::MultiPrimary {
        let ms = by_way_of(entry(wanted, layout, from))?;
        return Some(WriteMs {
            worst: ms,
            mean: ms,
        });
    }
    let (mut worst, mut mean) = (0.0_f64, 0.0);
    for (home, part) in layout.homes() {
        let ms = by_way_of(home)?;
        worst = worst.max(ms);
        mean += part * ms;
    }
    Some(WriteMs { worst, mean })
}

/// How long a copy hears nothing of its primary at most: until the next write of the shard, or
/// the next pulse.
pub(crate) fn interval_ms(wanted: &Wanted, shards: u16) -> f64 {
    let pulse = wanted.file().assumptions.pulse_ms;
    let writes = wanted.file().load.writes_per_s;
    if writes > 0.0 {
        pulse.min(1000.0 * f64::from(shards) / writes)
    } else {
        pulse
    }
}

/// How old what a copy in `region` shows may be; of the primaries themselves it is 0.
pub fn staleness_ms(wanted: &Wanted, layout: &Layout, region: usize) -> f64 {
    let interval = interval_ms(wanted, layout.shards);
    if layout.topology == Topology::MultiPrimary {
        // Every copy lags behind every other that takes writes.
        let others = (0..wanted.regions())
            .filter(|&r| layout.copies[r] > u16::from(r == region))
            .map(|r| wanted.one_way_ms(r, region) + interval);
        return others.fold(0.0, f64::max);
    }
    let lags = layout.homes().map(|(home, _)| {
        if home == region && layout.copies[region] == 1 && layout.homes().count() == 1 {
            return 0.0;
        }
        let commit = commit_ms(wanted, layout, home).unwrap_or(f64::INFINITY);
        commit + wanted.one_way_ms(home, region) + interval
    });
    lags.fold(0.0, f64::max)
}

/// Who answers reads of `from`, and how old the answers may be: the nearest copies that are
/// fresh enough, or the primaries where these are nearer or the only ones. Where nobody is
/// fresh enough it is the nearest copies.
pub fn reader(wanted: &Wanted, layout: &Layout, from: usize) -> (Reader, f64) {
    let held = || (0..wanted.regions()).filter(|&r| layout.copies[r] > 0);
    let age = |r| staleness_ms(wanted, layout, r);
    let Some(max) = wanted.file().promises.staleness_ms_max else {
        let r = nearest(wanted, from, held()).unwrap_or(from);
        return (Reader::Copies(r), age(r));
    };
    let fresh = nearest(wanted, from, held().filter(|&r| age(r) <= max));
    let way = |r| wanted.one_way_ms(from, r);
    if layout.topology != Topology::MultiPrimary {
        let to_primaries = layout.homes().map(|(r, _)| way(r)).fold(0.0, f64::max);
        if fresh.is_none_or(|r| to_primaries < way(r)) {
            return (Reader::Primaries, 0.0);
        }
    }
    let r = fresh
        .or_else(|| nearest(wanted, from, held()))
        .unwrap_or(from);
    (Reader::Copies(r), age(r))
}

/// What a read of a user of `from` takes.
pub fn read_ms(wanted: &Wanted, layout: &Layout, from: usize, reader: Reader) -> f64 {
    let service = wanted.file().assumptions.service_ms;
    let way = |r| wanted.round_trip_ms(from, r);
    service
        + match reader {
            Reader::Copies(r) => way(r),
            Reader::Primaries => layout.homes().map(|(r, _)| way(r)).fold(0.0, f64::max),
        }
}

/// How long a read of what one wrote oneself waits, after the write was acknowledged, until
/// the copies that answer have it.
pub fn own_write_wait_ms(wanted: &Wanted, layout: &Layout, from: usize, reader: Reader) -> f64 {
    let Reader::Copies(at) = reader else {
        return 0.0;
    };
    let behind = |home: usize| {
        if home == at && layout.copies[at] == 1 {
            return 0.0;
        }
        // Acknowledgement and entry leave the primary at the same moment, once it is committed.
        let entry = wanted.one_way_ms(home, at);
        let reply_and_read = wanted.one_way_ms(home, from) + wanted.one_way_ms(from, at);
        (entry - reply_and_read).max(0.0)
    };
    match layout.topology {
        Topology::MultiPrimary => behind(entry(wanted, layout, from)),
        _ => layout
            .homes()
            .map(|(home, _)| behind(home))
            .fold(0.0, f64::max),
    }
}
