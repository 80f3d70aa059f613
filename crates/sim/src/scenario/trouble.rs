//! Scenarios about one kind of trouble: whatever befalls a cluster at random seldom meets the
//! narrow moments for which a rule is there, so these are looked for. The seed chooses the rest.
//!
//! A fault names a node, or one of these, which is looked up when its time comes:
//! [`PRIMARY`] and [`LEADER`], [`replica`]s of the first shard, [`other`] nodes.

use super::{Fault, Scenario};
use crate::random::Random;
use std::time::Duration;

/// The primary of the first shard.
pub(super) const PRIMARY: &str = "PRIMARY";
/// The leader of the control group.
pub(super) const LEADER: &str = "LEADER";
const REPLICA: &str = "REPLICA-";
const OTHER: &str = "OTHER-";

/// A member of the first shard that is not its primary.
pub(super) fn replica(n: usize) -> String {
    format!("{REPLICA}{n}")
}

/// A node that is neither primary of the first shard nor leader of the control group.
pub(super) fn other(n: usize) -> String {
    format!("{OTHER}{n}")
}

/// What a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Anything.
    Any,
    /// Several machines lose power at one moment, some of them with slow disks.
    Power,
    /// A primary is cut off, wholly or from some, while the control group loses its leader.
    Takeover,
    /// Replicas are away for so long that others take their place.
    Members,
    /// What anything seldom holds, again and again: disks that go or rot, clocks that step,
    /// regions cut off.
    Rare,
    /// Primaries go as fast as others are named.
    Flapping,
    /// Disks come back as they once were, and the ends of logs decay.
    Disks,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 7] = [
        Trouble::Any,
        Trouble::Power,
        Trouble::Takeover,
        Trouble::Members,
        Trouble::Rare,
        Trouble::Flapping,
        Trouble::Disks,
    ];

    pub(super) fn draw(seed: u64) -> Self {
        match Random::new(seed ^ 0x7a0b_1e55).below(11) {
            0..=3 => Trouble::Any,
            4 | 5 => Trouble::Takeover,
            6 => Trouble::Power,
            7 => Trouble::Members,
            8 => Trouble::Rare,
            9 => Trouble::Flapping,
            _ => Trouble::Disks,
        }
    }
}

/// Who is what at a moment.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// The primary of the first shard.
    pub primary: Option<String>,
    /// Its other members.
    pub replicas: Vec<String>,
    /// The leader of the control group.
    pub leader: Option<String>,
    /// All nodes.
    pub nodes: Vec<String>,
}

impl Roles {
    fn node(&self, name: &str) -> Option<String> {
        if name == PRIMARY {
            return self.primary.clone();
        }
        if name == LEADER {
            return self.leader.clone();
        }
        if let Some(n) = name.strip_prefix(REPLICA) {
            return self.replicas.get(n.parse::<usize>().ok()?).cloned();
        }
        if let Some(n) = name.strip_prefix(OTHER) {
            let known = [self.primary.as_ref(), self.leader.as_ref()];
            let mut others = self.nodes.iter().filter(|n| !known.contains(&Some(n)));
            return others.nth(n.parse().ok()?).cloned();
        }
        Some(name.to_owned())
    }
}

impl Fault {
    fn names(&mut self) -> Vec<&mut String> {
        match self {
            Fault::Crash { node, .. }
            | Fault::Empty { node, .. }
            | Fault::Rot { node, .. }
            | Fault::PutBack { node, .. }
            | Fault::Decay { node, .. }
            | Fault::Break { node, .. }
            | Fault::Pause { node, .. }
            | Fault::Isolate { node, .. }
            | Fault::SlowDisk { node, .. }
            | Fault::FullDisk { node, .. }
            | Fault::HangDisk { node, .. }
            | Fault::Busy { node, .. }
            | Fault::Step { node, .. }
            | Fault::Jump { node, .. }
            | Fault::Rate { node, .. } => vec![node],
            Fault::Cut { from, to, .. }
            | Fault::BreakLink { from, to }
            | Fault::Delay { from, to, .. } => vec![from, to],
            Fault::CutRegion { .. } | Fault::Meddle { .. } => Vec::new(),
        }
    }

    /// The same with nodes in place of roles; None if somebody has none, or two are one.
    pub(super) fn with(&self, roles: &Roles) -> Option<Fault> {
        let mut fault = self.clone();
        let mut seen: Vec<String> = Vec::new();
        for name in fault.names() {
            *name = roles.node(name)?;
            if seen.contains(name) {
                return None;
            }
            seen.push(name.clone());
        }
        Some(fault)
    }
}

fn ms(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.between(from, to))
}

const fn after(time: Duration, ms: u64) -> Duration {
    Duration::from_millis(time.as_millis() as u64 + ms)
}

impl Scenario {
    /// Several machines lose power at one moment: what was acknowledged is on disks, or nowhere.
    pub(super) fn draw_power(&mut self, random: &mut Random) {
        let others = self.setup.nodes.len() - 1;
        let mut at = ms(random, 500, 3000);
        while at < self.time {
            for n in 0..others {
                if random.once_in(2) {
                    let slow = Fault::SlowDisk {
                        node: replica(n),
                        longest: ms(random, 300, 4000),
                        time: ms(random, 500, 3000),
                    };
                    self.faults.push((at, slow));
                }
                if random.once_in(3) {
                    let late = Fault::Delay {
                        from: PRIMARY.into(),
                        to: replica(n),
                        by: ms(random, 50, 800),
                        time: ms(random, 500, 3000),
                    };
                    self.faults.push((at, late));
                }
            }
            let lost = after(at, random.between(200, 1500));
            let mut crash = |random: &mut Random, node: String, longest: u64| {
                let crash = Fault::Crash {
                    node,
                    how: random.between(1, 6),
                    twice: random.once_in(8),
                    away: ms(random, 1, longest),
                };
                self.faults.push((lost, crash));
            };
            crash(random, PRIMARY.into(), 9000);
            for n in 0..others {
                if random.once_in(2) {
                    let longest = if random.once_in(2) { 300 } else { 9000 };
                    crash(random, replica(n), longest);
                }
            }
            at = after(lost, random.between(2000, 7000));
        }
    }

    /// A primary is cut off: by what it was told last it may go on, while another is named.
    pub(super) fn draw_takeover(&mut self, random: &mut Random) {
        let nodes = self.setup.nodes.len();
        self.draw_rates(random);
        let mut at = ms(random, 500, 2500);
        while at < self.time {
            if random.once_in(2) {
                // The way to the leader and back is long, so that leases are; then it is short.
                let time = ms(random, 1000, 1800);
                for (from, to, most) in [(PRIMARY, LEADER, 250), (LEADER, PRIMARY, 900)] {
                    let (from, to, by) = (from.into(), to.into(), ms(random, 10, most));
                    let late = Fault::Delay { from, to, by, time };
                    self.faults.push((at, late));
                }
                at = after(at, time.as_millis() as u64 + random.below(500));
            }
            let time = ms(random, 800, 3500);
            let leader_goes = self.draw_cut_off(random, at, time, nodes);
            if leader_goes || random.once_in(4) {
                let node = LEADER.to_owned();
                let gone = if random.once_in(2) {
                    let time = ms(random, 1000, 4000);
                    Fault::Pause { node, time }
                } else {
                    Fault::Crash {
                        node,
                        how: random.below(2),
                        twice: false,
                        away: ms(random, 1000, 4000),
                    }
                };
                let at = after(at, random.below(1500));
                self.faults.push((at, gone));
            }
            at = after(at, time.as_millis() as u64 + random.between(1000, 2500));
        }
    }

    /// Half of the clocks are as fast or as slow as a clock may be.
    fn draw_rates(&mut self, random: &mut Random) {
        for (node, _) in &self.setup.nodes {
            if random.once_in(2) {
                let ppm = if random.once_in(2) { 20_000 } else { -20_000 };
                let node = node.clone();
                self.faults
                    .push((Duration::ZERO, Fault::Rate { node, ppm }));
            }
        }
    }

    /// Whether the leader is the only one that the primary still hears.
    fn draw_cut_off(
        &mut self,
        random: &mut Random,
        at: Duration,
        time: Duration,
        nodes: usize,
    ) -> bool {
        let node = PRIMARY.to_owned();
        let mut cut = |to: String| {
            let cut = Fault::Cut {
                from: PRIMARY.into(),
                to,
                one_way: false,
                time,
            };
            self.faults.push((at, cut));
        };
        match random.below(9) {
            0 | 1 => self.faults.push((at, Fault::Isolate { node, time })),
            2 => self.faults.push((at, Fault::Pause { node, time })),
            3 => {
                let crash = Fault::Crash {
                    node,
                    how: random.below(7),
                    twice: false,
                    away: time,
                };
                self.faults.push((at, crash));
            }
            4 | 5 => {
                (0..nodes).for_each(|n| cut(other(n)));
                return true;
            }
            6 | 7 => {
                cut(LEADER.into());
                self.draw_estrangement(random, at, time, nodes);
            }
            _ => {
                cut(LEADER.into());
                for n in 0..nodes {
                    if !random.once_in(3) {
                        cut(other(n));
                    }
                }
            }
        }
        false
    }

    /// One replica after the other loses the primary, which goes on with the rest; what they say
    /// of themselves is late.
    fn draw_estrangement(
        &mut self,
        random: &mut Random,
        at: Duration,
        time: Duration,
        nodes: usize,
    ) {
        for n in 0..nodes - 1 {
            if random.once_in(2) {
                let by = ms(random, 100, 700);
                let (from, to) = (replica(n), LEADER.into());
                let late = Fault::Delay { from, to, by, time };
                self.faults.push((at, late));
            }
            if random.once_in(2) {
                let cut = Fault::Cut {
                    from: PRIMARY.into(),
                    to: replica(n),
                    one_way: false,
                    time,
                };
                self.faults
                    .push((after(at, random.between(200, 1400)), cut));
            }
        }
    }

    /// Replicas are away until a newcomer takes a place, and the primary goes right then.
    pub(super) fn draw_members(&mut self, random: &mut Random) {
        let mut at = ms(random, 500, 2500);
        let voters: Vec<String> = (self.setup.voters.iter())
            .filter_map(|v| self.setup.nodes.get(*v))
            .map(|(node, _)| node.clone())
            .collect();
        while at < self.time {
            if !random.once_in(4) {
                for to in &voters {
                    let late = Fault::Delay {
                        from: PRIMARY.into(),
                        to: to.clone(),
                        by: ms(random, 200, 800),
                        time: ms(random, 6000, 9000),
                    };
                    self.faults.push((at, late));
                }
            }
            for n in 0..2 {
                if random.once_in(5) {
                    continue;
                }
                let gone = Fault::Crash {
                    node: replica(n),
                    how: random.below(7),
                    twice: false,
                    away: ms(random, 3000, 8000),
                };
                self.faults.push((at, gone));
            }
            let crash = Fault::Crash {
                node: PRIMARY.into(),
                how: random.below(7),
                twice: false,
                away: ms(random, 3000, 12_000),
            };
            let lost = after(at, random.between(1500, 6000));
            self.faults.push((lost, crash));
            at = after(lost, random.between(8000, 14_000));
        }
    }

    /// A primary is hardly named when it goes, and is back soon; now and then a disk is full.
    pub(super) fn draw_flapping(&mut self, random: &mut Random) {
        self.draw_rates(random);
        let mut at = ms(random, 500, 1500);
        while at < self.time {
            let node = PRIMARY.to_owned();
            let fault = match random.below(10) {
                0..=6 => Fault::Crash {
                    node,
                    how: random.below(7),
                    twice: random.once_in(6),
                    away: ms(random, 100, 1000),
                },
                7 => Fault::Pause {
                    node,
                    time: ms(random, 700, 1800),
                },
                _ => Fault::Isolate {
                    node,
                    time: ms(random, 700, 1800),
                },
            };
            self.faults.push((at, fault));
            if random.once_in(3) {
                let full = Fault::FullDisk {
                    node: replica(random.below(2) as usize),
                    room: random.below(16 << 10),
                    time: ms(random, 300, 1500),
                };
                self.faults.push((after(at, random.below(500)), full));
            }
            at = after(at, random.between(700, 1600));
        }
    }

    /// A disk comes back as it once was, alone or while all begin anew, or has lost the end of
    /// its log; between two of these all copies become whole again.
    pub(super) fn draw_disks(&mut self, random: &mut Random) {
        let mut at = ms(random, 500, 3000);
        while at < self.time {
            let node = match random.below(4) {
                0 | 1 => PRIMARY.to_owned(),
                2 => replica(random.below(2) as usize),
                _ => self.setup.nodes[random.below(self.setup.nodes.len() as u64) as usize]
                    .0
                    .clone(),
            };
            let away = ms(random, 20, 2500);
            let later = random.between(300, 3000);
            if random.once_in(2) {
                self.faults.push((at, Fault::Decay { node, away }));
                at = after(at, 3000 + random.below(3000));
            } else {
                let (restarts, all) = (!random.once_in(3), random.once_in(2));
                let put_back = Fault::PutBack {
                    node,
                    restarts,
                    after: Duration::from_millis(later),
                    all,
                    away,
                };
                self.faults.push((at, put_back));
                at = after(at, later + 4000 + random.below(4000));
            }
            if random.once_in(3) {
                let crash = Fault::Crash {
                    node: PRIMARY.into(),
                    how: random.below(7),
                    twice: random.once_in(6),
                    away: ms(random, 50, 2000),
                };
                self.faults.push((after(at, random.below(1500)), crash));
                at = after(at, 3000);
            }
        }
    }

    /// What the log, the clock and whole regions must survive, most of it where nobody votes.
    pub(super) fn draw_rare(&mut self, random: &mut Random) {
        let nodes = self.setup.nodes.clone();
        let is_voter = |n: &usize| self.setup.voters.contains(n);
        let (voters, others): (Vec<usize>, Vec<usize>) = (0..nodes.len()).partition(is_voter);
        let name = |n: usize| nodes[n].0.clone();
        let mut at = ms(random, 300, 1500);
        while at < self.time {
            let pick =
                |random: &mut Random, of: &[usize]| of[random.below(of.len() as u64) as usize];
            let (other, voter) = (pick(random, &others), pick(random, &voters));
            let any = if random.once_in(3) { voter } else { other };
            let away = ms(random, 50, 1500);
            let fault = match random.below(12) {
                0..=3 => Fault::Rot {
                    node: name(other),
                    away,
                },
                4 => Fault::Empty {
                    node: name(other),
                    away,
                },
                5 => Fault::Step {
                    node: name(any),
                    ms: random.below(20_000) as i64 - 10_000,
                },
                6 => Fault::CutRegion {
                    region: nodes[any].1.clone(),
                    time: away,
                },
                7 | 8 => Fault::Cut {
                    from: name(voter),
                    to: name(other),
                    one_way: true,
                    time: away,
                },
                9 => Fault::BreakLink {
                    from: name(voter),
                    to: name(other),
                },
                10 => Fault::Crash {
                    node: name(any),
                    how: random.below(2),
                    twice: true,
                    away,
                },
                _ => Fault::Break {
                    node: name(any),
                    sync: random.once_in(2),
                    away,
                },
            };
            self.faults.push((at, fault));
            at = after(at, random.between(150, 700));
        }
    }
}
