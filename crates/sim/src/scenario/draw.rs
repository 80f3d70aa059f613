//! Drawing a scenario from a seed.

use super::{Fault, Limits, Scenario, Trouble};
use crate::{
    random::Random,
    world::{Mix, Setup},
};
use std::time::Duration;

/// Nodes of each region, and which of them vote in the control group.
type Place = (&'static [(&'static str, usize)], &'static [usize]);

const PLACES: [Place; 5] = [
    (&[("us", 2), ("eu", 1)], &[0, 1, 2]),
    (&[("us", 3)], &[0, 1, 2]),
    (&[("us", 2), ("eu", 2)], &[0, 1, 2]),
    (&[("us", 3), ("eu", 1)], &[0, 1, 2]),
    (&[("us", 3), ("eu", 2), ("asia", 2)], &[0, 1, 3, 4, 5]),
];
/// A majority is near.
const PLACES_NEAR: [Place; 2] = [
    (&[("us", 3)], &[0, 1, 2]),
    (&[("us", 4), ("eu", 1)], &[0, 1, 2, 3, 4]),
];
/// The control group's leader is far from the primary, or near.
const PLACES_FAR: [Place; 5] = [
    (&[("us", 1), ("eu", 3)], &[1, 2, 3]),
    (&[("us", 2), ("eu", 3)], &[2, 3, 4]),
    (&[("us", 3)], &[0, 1, 2]),
    (&[("us", 2), ("eu", 2)], &[1, 2, 3]),
    (&[("us", 3), ("eu", 2)], &[0, 1, 2, 3, 4]),
];
/// A node of us holds no copy.
const PLACES_SPARE: [Place; 1] = [(&[("us", 4), ("eu", 2)], &[3, 4, 5])];
/// Most nodes have no vote, so that their disks may go again and again.
const PLACES_WIDE: [Place; 2] = [
    (&[("us", 3), ("eu", 2), ("asia", 2)], &[0, 3, 5]),
    (&[("us", 3), ("eu", 3)], &[0, 1, 3]),
];
const RULES: [&str; 5] = ["async", "semi-sync:1", "quorum", "sync", "local-quorum"];
const ON_TIMEOUT: [&str; 3] = ["block", "error", "degrade"];

fn ms(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64, limits: &Limits) -> Self {
        let mut random = Random::new(seed ^ 0x5ce4_a510);
        let trouble = limits.trouble.unwrap_or_else(|| Trouble::draw(seed));
        let places: &[Place] = match trouble {
            Trouble::Any | Trouble::Power | Trouble::Disks => &PLACES,
            Trouble::Flapping => &PLACES_NEAR,
            Trouble::Takeover => &PLACES_FAR,
            Trouble::Members => &PLACES_SPARE,
            Trouble::Rare => &PLACES_WIDE,
        };
        let (regions, voters) = places[random.below(places.len() as u64) as usize];
        let regions = regions.to_vec();
        let nodes: Vec<(String, String)> = (regions.iter())
            .flat_map(|(region, n)| (1..=*n).map(move |i| (*region, i)))
            .map(|(region, i)| (format!("{region}-{i}"), region.into()))
            .collect();
        let rule = match RULES[random.below(5) as usize] {
            // Rules of the primary's region promise nothing where that holds one copy.
            "semi-sync:1" | "local-quorum" if regions[0].1 == 1 => "quorum",
            // It does not cover the loss of a disk.
            "async" if matches!(trouble, Trouble::Rare | Trouble::Disks) => "quorum",
            // Nobody that is away is waited for.
            "sync" if matches!(trouble, Trouble::Takeover | Trouble::Flapping) => "quorum",
            rule => rule,
        };
        let on_timeout = match ON_TIMEOUT[random.below(3) as usize] {
            "degrade" if matches!(trouble, Trouble::Rare | Trouble::Disks) => "block",
            on_timeout => on_timeout,
        };
        let timeout = random.between(300, 4000);
        let shards = if random.once_in(2) { 1 } else { 3 };
        let shards = if trouble == Trouble::Any { shards } else { 1 };
        let mut place: Vec<String> = regions.iter().map(|(r, n)| format!("{r}={n}")).collect();
        if trouble == Trouble::Members {
            place = vec!["us=3".into()];
        }
        let mut words = format!(
            "ACK {rule} ON_TIMEOUT {on_timeout} TIMEOUT {timeout} PLACE {} SHARDS {shards}",
            place.join(",")
        );
        let available = limits.failover
            && !matches!(trouble, Trouble::Rare | Trouble::Disks)
            && match rule {
                // Else nobody takes over.
                "async" if matches!(trouble, Trouble::Members | Trouble::Flapping) => true,
                "async" => !random.once_in(4),
                _ => random.once_in(4),
            };
        if limits.failover {
            words += if available {
                " FAILOVER available"
            } else {
                " FAILOVER safe"
            };
        }
        if trouble == Trouble::Members {
            words += &format!(" REPLACE_AFTER {}", random.between(1000, 2500));
        }
        // By half of the seeds a replica that was away finds the log gone, and copies.
        // But a lost tail that is longer than that can't be saved, so it is kept where tails
        // may be lost.
        let pipelines = limits.pipelines || random.once_in(4);
        let short = random.once_in(2) && !available;
        let log_retention_bytes = if short { 96 << 10 } else { 64 << 20 };
        let mix = Mix {
            owners: if available {
                0
            } else {
                random.below(4) as usize
            },
            registers: match trouble {
                Trouble::Takeover => random.between(4, 9) as usize,
                _ => random.between(1, 5) as usize,
            },
            sessions: random.between(1, 5) as usize,
            expiries: random.below(4) as usize,
            lossy: available,
            shards,
            pause_max: match trouble {
                Trouble::Any | Trouble::Flapping => ms(&mut random, 20, 120),
                _ => ms(&mut random, 5, 40),
            },
            pipelines,
        };
        let time = limits
            .time
            .unwrap_or_else(|| ms(&mut random, 10_000, 40_000));
        // The rule must cover the loss of a disk: while it is suspended, or where the last
        // primary alone has everything, none does.
        let disks_go = match (rule, available) {
            (_, true) => random.once_in(3),
            ("async", false) => !limits.failover,
            _ => on_timeout != "degrade" || !limits.failover,
        };
        let mut scenario = Scenario {
            seed,
            trouble,
            regions,
            setup: Setup {
                nodes,
                voters: voters.to_vec(),
                log_retention_bytes,
                trace_kept: limits.trace_kept,
            },
            rule,
            words,
            mix,
            time,
            faults: Vec::new(),
            failover: limits.failover,
            voters_lose_disks: limits.voters_lose_disks,
        };
        match trouble {
            Trouble::Any => scenario.draw_faults(&mut random, disks_go),
            Trouble::Power => scenario.draw_power(&mut random),
            Trouble::Takeover => scenario.draw_takeover(&mut random),
            Trouble::Members => scenario.draw_members(&mut random),
            Trouble::Rare => scenario.draw_rare(&mut random),
            Trouble::Flapping => scenario.draw_flapping(&mut random),
            Trouble::Disks => scenario.draw_disks(&mut random),
        }
        if limits.consensus {
            scenario.elects(shards);
        }
        scenario.draw_clocks();
        scenario.draw_stalls();
        scenario.faults.sort_by_key(|(at, _)| *at);
        scenario
    }

    /// The same with a keyspace whose replicas elect their primary. The end of a log that decays when
    /// all lose power is more than a majority is made for.
    fn elects(&mut self, shards: u16) {
        let place: Vec<String> = match self.trouble {
            Trouble::Members => vec!["us=3".into()],
            _ => (self.regions.iter())
                .map(|(region, n)| format!("{region}={n}"))
                .collect(),
        };
        let place = place.join(",");
        let words = std::mem::take(&mut self.words);
        self.words = format!("TOPOLOGY consensus PLACE {place} SHARDS {shards}");
        if let Some(replace) = words.split_once(" REPLACE_AFTER ") {
            self.words += &format!(" REPLACE_AFTER {}", replace.1);
        }
        self.rule = "quorum";
        self.mix.lossy = false;
        self.faults
            .retain(|(_, fault)| !matches!(fault, Fault::Decay { .. }));
    }

    fn draw_faults(&mut self, random: &mut Random, disks_go: bool) {
        // Some seeds see few kinds of faults, but many of these.
        let kinds = 14;
        let favourite = random.once_in(3).then(|| random.below(kinds));
        let count = random.between(2, 4 + self.time.as_secs() / 2);
        let span = self.time.as_millis() as u64;
        let mut at: Vec<u64> = (0..count).map(|_| random.below(span)).collect();
        at.sort_unstable();
        for at in at {
            let kind = match favourite {
                Some(kind) if !random.once_in(3) => kind,
                _ => random.below(kinds),
            };
            if let Some(fault) = self.draw_fault(random, kind, disks_go) {
                self.faults.push((Duration::from_millis(at), fault));
            }
        }
    }

    fn draw_fault(&self, random: &mut Random, kind: u64, disks_go: bool) -> Option<Fault> {
        let nodes = &self.setup.nodes;
        let pick = |random: &mut Random| random.below(nodes.len() as u64) as usize;
        let (a, b) = (pick(random), pick(random));
        let node = nodes[a].0.clone();
        let other = (a != b).then(|| nodes[b].0.clone());
        let away = match random.below(4) {
            0 => ms(random, 1, 300),
            1 | 2 => ms(random, 300, 4000),
            _ => ms(random, 4000, 12_000),
        };
        let time = away;
        Some(match kind {
            0 | 1 => Fault::Crash {
                node,
                how: random.below(7),
                twice: random.once_in(5),
                away,
            },
            2 if disks_go => Fault::Empty { node, away },
            3 if disks_go => Fault::Rot { node, away },
            4 => Fault::Break {
                node,
                sync: random.once_in(2),
                away,
            },
            5 => Fault::Pause {
                node,
                time: match random.below(3) {
                    0 => ms(random, 10, 400),
                    1 => ms(random, 400, 3000),
                    _ => ms(random, 3000, 30_000),
                },
            },
            6 => Fault::Cut {
                from: node,
                to: other?,
                one_way: random.once_in(2),
                time,
            },
            7 if random.once_in(2) => Fault::Isolate { node, time },
            7 => Fault::CutRegion {
                region: nodes[b].1.clone(),
                time,
            },
            8 => Fault::BreakLink {
                from: node,
                to: other?,
            },
            9 => Fault::Delay {
                from: node,
                to: other?,
                by: ms(random, 5, 1500),
                time,
            },
            10 => Fault::SlowDisk {
                node,
                longest: ms(random, 200, 4000),
                time,
            },
            11 => Fault::FullDisk {
                node,
                // Less than a segment, so that the next one does not fit.
                room: random.below(64 << 10),
                time,
            },
            12 if random.once_in(2) => Fault::Step {
                node,
                ms: random.below(20_000) as i64 - 10_000,
            },
            12 => Fault::Rate {
                node,
                ppm: random.below(40_001) as i64 - 20_000,
            },
            _ => Fault::Meddle {
                repeats: random.between(2, 40),
                drops: if random.once_in(2) {
                    0
                } else {
                    random.between(10, 200)
                },
                late: ms(random, 50, 8000),
                time,
            },
        })
    }
}
