//! The network between machines: what was sent arrives after a latency, in order within a link
//! and lane, until the link breaks.
//!
//! ```text
//!            made (a new number)            broken: the sender is told
//!   Down ───────────────────────▶ Up ───────────────────────────────────▶ Down
//!                                 │ ▲
//!                            cut  ▼ │ (only by being made anew)
//!                     what is sent is lost, nobody is told
//! ```
//!
//! A link is one-way and has a number: what was sent over an earlier one never arrives after
//! it was made anew. That is what TCP gives; what it does not give (repeats, lateness beyond a
//! link's end, gaps) comes from `world::adversary`.

use crate::random::Random;
use model::Region;
use node::Lane;
use std::time::Duration;

/// One way from a machine to another.
#[derive(Clone, Debug, Default)]
struct Link {
    number: u64,
    /// The sender takes it for there.
    up: bool,
    cut: bool,
    /// The node at its end died, or it has lost what was sent: nothing that is sent arrives
    /// until it is made anew.
    dead: bool,
    /// What every message takes longer.
    delay: Duration,
    /// When the last message of each lane arrives.
    last: [Duration; 4],
}

/// All links; machines by their numbers.
#[derive(Debug)]
pub(crate) struct Network {
    machines: usize,
    links: Vec<Link>,
    numbers: u64,
}

/// The number of a link that a message goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkNumber(u64);

impl Network {
    pub(crate) fn new(machines: usize) -> Self {
        Network {
            machines,
            links: vec![Link::default(); machines * machines],
            numbers: 0,
        }
    }

    fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.machines + to]
    }

    fn link_mut(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.machines + to]
    }

    /// Whether the sender takes the link for there.
    pub(crate) fn is_up(&self, from: usize, to: usize) -> bool {
        self.link(from, to).up
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.link(from, to).cut
    }

    /// Whether what is sent arrives: since the receiver knows the link, nothing has happened
    /// to it.
    pub(crate) fn is_whole(&self, from: usize, to: usize) -> bool {
        let link = self.link(from, to);
        !link.cut && !link.dead
    }

    /// The receiver knows the link: nothing of an earlier one arrives any more.
    pub(crate) fn accept(&mut self, from: usize, to: usize) {
        self.lose(from, to);
        let link = self.link_mut(from, to);
        link.dead = false;
        link.last = [Duration::ZERO; 4];
    }

    /// The sender knows it too.
    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        self.link_mut(from, to).up = true;
    }

    /// The sender gives it up. Returns whether it was there.
    pub(crate) fn disconnect(&mut self, from: usize, to: usize) -> bool {
        std::mem::take(&mut self.link_mut(from, to).up)
    }

    /// What is under way is lost.
    pub(crate) fn lose(&mut self, from: usize, to: usize) {
        self.numbers += 1;
        let number = self.numbers;
        self.link_mut(from, to).number = number;
    }

    /// The node at the link's end is gone, or the link is: what is sent is lost until it is
    /// made anew, and the sender does not know.
    pub(crate) fn die(&mut self, from: usize, to: usize) {
        self.lose(from, to);
        self.link_mut(from, to).dead = true;
    }

    /// From now on what is sent is lost, as is what is under way.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.lose(from, to);
        self.link_mut(from, to).cut = true;
    }

    /// What it is made anew for: the old link has a gap, and nothing more comes over it.
    pub(crate) fn heal(&mut self, from: usize, to: usize) {
        let link = self.link_mut(from, to);
        link.dead |= std::mem::take(&mut link.cut);
    }

    /// From now on every message takes so much longer.
    pub(crate) fn delay(&mut self, from: usize, to: usize, by: Duration) {
        self.link_mut(from, to).delay = by;
    }

    /// When a message that is sent now arrives, and over which link; None if it is lost.
    pub(crate) fn send(
        &mut self,
        from: usize,
        to: usize,
        lane: Lane,
        now: Duration,
        latency: Duration,
    ) -> Option<(Duration, LinkNumber)> {
        let link = self.link_mut(from, to);
        if !link.up || link.cut || link.dead {
            return None;
        }
        let lane = match lane {
            Lane::Ordinary => 0,
            Lane::Bulk => 1,
            Lane::Bypass => 2,
            Lane::Control => 3,
        };
        let at = (now + latency + link.delay).max(link.last[lane]);
        link.last[lane] = at;
        Some((at, LinkNumber(link.number)))
    }

    /// The link as it is now.
    pub(crate) fn number(&self, from: usize, to: usize) -> LinkNumber {
        LinkNumber(self.link(from, to).number)
    }

    /// Whether a message that went over this link still arrives.
    pub(crate) fn arrives(&self, from: usize, to: usize, number: LinkNumber) -> bool {
        self.link(from, to).number == number.0
    }
}

/// How long a message takes one way: as in the reference deployment, but less than half.
pub(crate) fn latency(random: &mut Random, from: &Region, to: &Region) -> Duration {
    let us = match (from.as_str(), to.as_str()) {
        (a, b) if a == b => random.between(100, 900),
        ("asia", _) | (_, "asia") => random.between(78_000, 86_000),
        _ => random.between(38_000, 44_000),
    };
    Duration::from_micros(us)
}
