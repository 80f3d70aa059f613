//! Years of failures and repairs, in which the control plane's own code decides who may be
//! promoted when; what that comes to agrees with the closed form, within its interval.
//!
//! Servers here fail far more often than any that one would rent, so that what is rare happens
//! often enough to be counted.

use super::*;
use capacity::{Layout, availability, latency::Reader, layout::ServersFile};
use control::failover::{Decision, Heard, Nodes, decide};
use model::{
    AckRule, DiskId, Epoch, KeyspaceId, NodeId, Position, Region, ShardId,
    catalog::{Keyspace, Replica, Shard},
};
use std::collections::{BTreeMap, BTreeSet};

const YEAR_H: f64 = 8760.0;
const BATCHES: usize = 30;
const YEARS_PER_BATCH: f64 = 100.0;

/// splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Of an exponential distribution.
    fn wait_h(&mut self, mean_h: f64) -> f64 {
        let unit = ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -mean_h * unit.ln()
    }
}

/// What is up or down, and until when.
struct Part {
    up: bool,
    until_h: f64,
    up_h: f64,
    down_h: f64,
}

impl Part {
    fn new(random: &mut Random, up_h: f64, down_h: f64) -> Self {
        let until_h = random.wait_h(up_h);
        Part {
            up: true,
            until_h,
            up_h,
            down_h,
        }
    }

    fn turn(&mut self, random: &mut Random) {
        self.up = !self.up;
        let mean = if self.up { self.up_h } else { self.down_h };
        self.until_h += random.wait_h(mean);
    }
}

/// Minutes of a year.
#[derive(Clone, Default)]
pub(super) struct Down {
    pub(super) moving_min: f64,
    pub(super) other_min: f64,
    /// By the region of those who read.
    pub(super) reads_min: Vec<f64>,
}

/// Who answers a region's reads.
struct Reading {
    /// Where a copy is asked, as long as one is up there.
    home: Region,
    /// The copy that is asked, as a place in the shard's; None if none is up.
    at: Option<usize>,
    /// From when on that one answers.
    answers_h: f64,
}

pub(super) struct Simulated {
    readings: Vec<Reading>,
    reads_move_h: f64,
    keyspace: Keyspace,
    shard: Shard,
    servers: Vec<Part>,
    regions: BTreeMap<Region, Part>,
    random: Random,
    now_h: f64,
    /// Whether the primary is up and holds its office.
    serves: bool,
    /// When the last primary that is gone was lost.
    lost_h: f64,
    /// When the primary that was named last takes writes.
    takes_writes_h: f64,
    takeover_h: f64,
}

impl Simulated {
    pub(super) fn new(wanted: &Wanted, layout: &Layout, seed: u64) -> Self {
        let line = layout.create_line(wanted).unwrap();
        let words = line.strip_prefix("KEYSPACE CREATE ").unwrap();
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let create = control::create::parse(&words).unwrap();
        control::policy::check_rule(&create.strategy).unwrap();
        let keyspace = Keyspace {
            name: create.name,
            strategy: create.strategy,
            shards: vec![ShardId(0)],
        };
        let mut replicas = Vec::new();
        let home = keyspace.strategy.primary_region.clone();
        for (region, copies) in keyspace.strategy.placement.regions() {
            for n in 1..=*copies {
                replicas.push(Replica {
                    node: NodeId::new(&format!("{region}-{n}")).unwrap(),
                    region: region.clone(),
                    disk: Some(DiskId(replicas.len() as u64 + 1)),
                    replaces: None,
                    added: 0,
                });
            }
        }
        replicas.sort_by_key(|r| r.region != home);
        let mut random = Random(seed);
        let a = &wanted.file().assumptions;
        let server_up_h = |region: &Region| {
            let number = wanted.region_names().position(|r| r == region.as_str());
            let of = layout.servers[number.unwrap()][0].server_type;
            let available = wanted.server_type(of).availability;
            a.repair_hours * available / (1.0 - available)
        };
        let region_up_h = YEAR_H / a.region_outages_per_year - a.region_outage_hours;
        let servers = (replicas.iter())
            .map(|r: &Replica| Part::new(&mut random, server_up_h(&r.region), a.repair_hours))
            .collect();
        let regions = (keyspace.strategy.placement.regions().iter())
            .map(|(r, _)| {
                (
                    r.clone(),
                    Part::new(&mut random, region_up_h, a.region_outage_hours),
                )
            })
            .collect();
        let readings = (0..wanted.regions()).map(|from| {
            let (reader, _) = capacity::latency::reader(wanted, layout, from);
            let Reader::Copies(home) = reader else {
                panic!("only what copies answer is simulated");
            };
            Reading {
                home: Region::new(wanted.region(home)).unwrap(),
                at: None,
                answers_h: 0.0,
            }
        });
        Simulated {
            readings: readings.collect(),
            reads_move_h: a.reads_move_s / 3600.0,
            shard: Shard {
                keyspace: KeyspaceId(0),
                slots: (0, 16_383),
                primary: replicas[0].node.clone(),
                epoch: Epoch(1),
                process: 1,
                disk: replicas[0].disk.unwrap(),
                degraded: false,
                decreed: None,
                replicas,
            },
            keyspace,
            servers,
            regions,
            random,
            now_h: 0.0,
            serves: true,
            lost_h: 0.0,
            takes_writes_h: 0.0,
            takeover_h: (a.detection_s + a.failover_s) / 3600.0,
        }
    }

    fn is_up(&self, place: usize) -> bool {
        self.servers[place].up && self.regions[&self.shard.replicas[place].region].up
    }

    /// Replicas that are up, of a region if one is named, but for the primary.
    fn others_up(&self, region: Option<&Region>) -> usize {
        let counts = |r: &Replica| {
            r.node != self.shard.primary && region.is_none_or(|region| r.region == *region)
        };
        let all = self.shard.replicas.iter().enumerate();
        all.filter(|(i, r)| counts(r) && self.is_up(*i)).count()
    }

    /// Whether the primary's writes are acknowledged.
    fn rule_holds(&self) -> bool {
        let home = &self.shard.replica(&self.shard.primary).unwrap().region;
        let held = |of: Option<&Region>| {
            let all = self.shard.replicas.iter();
            all.filter(|r| of.is_none_or(|region| r.region == *region))
                .count()
        };
        match &self.keyspace.strategy.ack {
            AckRule::Async => true,
            AckRule::SemiSync { k, region } => {
                self.others_up(Some(region.as_ref().unwrap_or(home))) >= usize::from(*k)
            }
            AckRule::Sync => self.others_up(None) + 1 == held(None),
            AckRule::Quorum => 2 * (self.others_up(None) + 1) > held(None),
            AckRule::LocalQuorum => 2 * (self.others_up(Some(home)) + 1) > held(Some(home)),
        }
    }

    /// The control plane's turn: everybody who is up has been sealed and heard.
    fn decide(&mut self) {
        let primary = self
            .shard
            .replicas
            .iter()
            .position(|r| r.node == self.shard.primary);
        if self.serves && !self.is_up(primary.unwrap()) {
            self.serves = false;
            self.lost_h = self.now_h;
        }
        if self.serves {
            return;
        }
        let next = Epoch(self.shard.epoch.0 + 1);
        let heard: Vec<Heard> = (self.shard.replicas.iter().enumerate())
            .filter(|(i, _)| self.is_up(*i))
            .map(|(_, r)| Heard {
                node: r.node.clone(),
                process: 1,
                disk: r.disk.unwrap(),
                sealed: next,
                last: Position::new(self.shard.epoch.0, 9),
                intact_since: 1,
                whole: true,
                level: true,
            })
            .collect();
        let leader = NodeId::new("leader").unwrap();
        let decision = decide(
            ShardId(0),
            &self.shard,
            &self.keyspace,
            &heard,
            &Nodes::new(),
            &leader,
            &BTreeSet::new(),
        );
        if let Decision::Name { node, .. } = decision {
            // Silence and lease run from the loss on; who was waited for finds both over.
            let is_another = node != self.shard.primary;
            let over_h = self.lost_h + if is_another { self.takeover_h } else { 0.0 };
            self.takes_writes_h = self.now_h.max(over_h);
            self.shard.disk = self.shard.replica(&node).unwrap().disk.unwrap();
            self.shard.primary = node;
            self.shard.epoch = next;
            self.serves = true;
        }
    }

    /// Readers ask another copy where theirs is gone, and one of their own region where it is back.
    fn read_elsewhere(&mut self) {
        for n in 0..self.readings.len() {
            let is_home = |at: &usize| self.shard.replicas[*at].region == self.readings[n].home;
            let before = self.readings[n].at;
            let is_up = before.is_some_and(|at| self.is_up(at));
            if is_up && before.as_ref().is_some_and(is_home) {
                continue;
            }
            let up = || (0..self.shard.replicas.len()).filter(|at| self.is_up(*at));
            let home = up().find(is_home);
            let at = home.or(before.filter(|_| is_up)).or_else(|| up().next());
            let lost = before.is_some() && !is_up;
            let reading = &mut self.readings[n];
            if lost {
                reading.answers_h = self.now_h + self.reads_move_h;
            }
            reading.at = at;
        }
    }

    /// The downtime of so many years from now on.
    pub(super) fn run(&mut self, years: f64) -> Down {
        let mut down = Down {
            reads_min: vec![0.0; self.readings.len()],
            ..Down::default()
        };
        self.read_elsewhere();
        let end_h = self.now_h + years * YEAR_H;
        while self.now_h < end_h {
            let parts = self.servers.iter().chain(self.regions.values());
            let next_h = parts.map(|p| p.until_h).fold(end_h, f64::min);
            let moving = if self.serves {
                (self.takes_writes_h.min(next_h) - self.now_h).max(0.0)
            } else {
                0.0
            };
            if self.serves && self.rule_holds() {
                down.moving_min += moving * 60.0;
            } else {
                down.other_min += (next_h - self.now_h) * 60.0;
            }
            for (reading, down) in self.readings.iter().zip(&mut down.reads_min) {
                let until_h = match reading.at {
                    Some(_) => reading.answers_h.min(next_h),
                    None => next_h,
                };
                *down += (until_h - self.now_h).max(0.0) * 60.0;
            }
            self.now_h = next_h;
            let parts = self.servers.iter_mut().chain(self.regions.values_mut());
            for part in parts.filter(|p| p.until_h <= next_h) {
                part.turn(&mut self.random);
            }
            self.decide();
            self.read_elsewhere();
        }
        down.moving_min /= years;
        down.other_min /= years;
        down.reads_min.iter_mut().for_each(|min| *min /= years);
        down
    }
}

/// The mean of `values`, and how far it may be from the truth: four standard errors.
pub(super) fn interval(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, 4.0 * (variance / n).sqrt())
}

fn frail() -> Wanted {
    changed(|file| {
        file.assumptions.repair_hours = 24.0;
        file.assumptions.detection_s = 60.0;
        file.assumptions.failover_s = 60.0;
        file.assumptions.reads_move_s = 60.0;
        file.promises.staleness_ms_max = None;
        file.assumptions.region_outages_per_year = 1.0;
        file.assumptions.region_outage_hours = 24.0;
        for t in &mut file.server_types {
            t.availability = 0.97;
        }
    })
}

fn layout(rule: &str, copies: &[(&str, u16)]) -> LayoutFile {
    let mut file = as_drawn();
    file.claims = None;
    file.rule = rule.into();
    file.copies = copies.iter().map(|(r, n)| ((*r).into(), *n)).collect();
    file.servers = (copies.iter())
        .map(|(region, n)| ServersFile {
            region: (*region).into(),
            server_type: "replica".into(),
            count: u32::from(*n),
        })
        .collect();
    file
}

#[test]
fn the_closed_form_agrees_with_the_decisions_of_failover() {
    let wanted = frail();
    let layouts = [
        layout("async", &[("us", 1), ("eu", 1), ("asia", 1)]),
        layout("async", &[("us", 2)]),
        layout("semi-sync:1", &[("us", 3), ("eu", 1)]),
        layout("semi-sync:1@eu", &[("us", 2), ("eu", 1)]),
        layout("local-quorum", &[("us", 3), ("eu", 1), ("asia", 1)]),
        layout("quorum", &[("us", 1), ("eu", 1), ("asia", 1)]),
        layout("quorum", &[("us", 3), ("eu", 2)]),
        layout("sync", &[("us", 2), ("eu", 1)]),
    ];
    for (seed, layout) in layouts.iter().enumerate() {
        let resolved = layout.resolve(&wanted).unwrap();
        let mut simulated = Simulated::new(&wanted, &resolved, seed as u64);
        let batches: Vec<Down> = (0..BATCHES)
            .map(|_| simulated.run(YEARS_PER_BATCH))
            .collect();
        let of = |figure: &dyn Fn(&Down) -> f64| {
            interval(&batches.iter().map(figure).collect::<Vec<_>>())
        };
        let closed = availability::writes(&wanted, &resolved);
        for from in 0..wanted.regions() {
            let (mean, within) = of(&|d| d.reads_min[from]);
            let (reader, _) = capacity::latency::reader(&wanted, &resolved, from);
            let computed = availability::reads(&wanted, &resolved, from, reader).minutes();
            assert!(
                (mean - computed).abs() <= within + 0.01 * computed + 0.1,
                "{} {:?}: reads of {from} {computed:.1} min a year computed, {mean:.1} ± {within:.1} simulated",
                layout.rule,
                layout.copies
            );
        }
        for (what, (mean, within), computed) in [
            ("moving", of(&|d| d.moving_min), closed.moving_min),
            (
                "other",
                of(&|d| d.other_min),
                closed.servers_min + closed.regions_min,
            ),
        ] {
            // That two things happen at once within seconds is of second order.
            let slack = 0.01 * computed + 0.1;
            assert!(
                (mean - computed).abs() <= within + slack,
                "{} {:?}: {what} {computed:.1} min a year computed, {mean:.1} ± {within:.1} simulated",
                layout.rule,
                layout.copies
            );
            // With sync nothing is served until the one that failed is back.
            let never = what == "moving" && layout.rule == "sync";
            assert!(
                never || mean > 0.0,
                "{}: nothing of {what} happened",
                layout.rule
            );
        }
    }
}
