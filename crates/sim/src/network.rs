//! The network between nodes: what was sent arrives after a latency, in order within a link
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
//! it was made anew.

use crate::random::Random;
use model::{NodeId, Region};
use node::Lane;
use std::{collections::BTreeMap, time::Duration};

/// One way from a node to another.
#[derive(Debug, Default)]
struct Link {
    number: u64,
    /// The sender takes it for there.
    up: bool,
    cut: bool,
    /// The node at its end died: nothing that is sent arrives until it is made anew.
    dead: bool,
    /// When the last message of each lane arrives.
    last: [Duration; 3],
}

/// All links.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<(NodeId, NodeId), Link>,
    numbers: u64,
}

/// The number of a link that a message goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkNumber(u64);

impl Network {
    fn link(&mut self, from: &NodeId, to: &NodeId) -> &mut Link {
        self.links.entry((from.clone(), to.clone())).or_default()
    }

    /// Whether the sender takes the link for there.
    pub(crate) fn is_up(&self, from: &NodeId, to: &NodeId) -> bool {
        let link = self.links.get(&(from.clone(), to.clone()));
        link.is_some_and(|l| l.up)
    }

    pub(crate) fn is_cut(&self, from: &NodeId, to: &NodeId) -> bool {
        let link = self.links.get(&(from.clone(), to.clone()));
        link.is_some_and(|l| l.cut)
    }

    /// The receiver knows the link: nothing of an earlier one arrives any more.
    pub(crate) fn accept(&mut self, from: &NodeId, to: &NodeId) {
        self.numbers += 1;
        let number = self.numbers;
        let link = self.link(from, to);
        link.number = number;
        link.dead = false;
        link.last = [Duration::ZERO; 3];
    }

    /// The sender knows it too.
    pub(crate) fn connect(&mut self, from: &NodeId, to: &NodeId) {
        self.link(from, to).up = true;
    }

    /// The sender gives it up. Returns whether it was there.
    pub(crate) fn disconnect(&mut self, from: &NodeId, to: &NodeId) -> bool {
        std::mem::take(&mut self.link(from, to).up)
    }

    /// What is under way is lost.
    pub(crate) fn lose(&mut self, from: &NodeId, to: &NodeId) {
        self.numbers += 1;
        let number = self.numbers;
        self.link(from, to).number = number;
    }

    /// The node at the link's end is gone; the sender does not know.
    pub(crate) fn receiver_died(&mut self, from: &NodeId, to: &NodeId) {
        self.lose(from, to);
        self.link(from, to).dead = true;
    }

    /// From now on what is sent is lost, as is what is under way.
    pub(crate) fn cut(&mut self, from: &NodeId, to: &NodeId) {
        self.lose(from, to);
        self.link(from, to).cut = true;
    }

    pub(crate) fn heal(&mut self, from: &NodeId, to: &NodeId) {
        self.link(from, to).cut = false;
    }

    /// When a message that is sent now arrives, and over which link; None if it is lost.
    pub(crate) fn send(
        &mut self,
        from: &NodeId,
        to: &NodeId,
        lane: Lane,
        now: Duration,
        latency: Duration,
    ) -> Option<(Duration, LinkNumber)> {
        let link = self.link(from, to);
        if !link.up || link.cut || link.dead {
            return None;
        }
        let lane = match lane {
            Lane::Ordinary => 0,
            Lane::Bulk => 1,
            Lane::Bypass => 2,
        };
        let at = (now + latency).max(link.last[lane]);
        link.last[lane] = at;
        Some((at, LinkNumber(link.number)))
    }

    /// The link as it is now.
    pub(crate) fn number(&mut self, from: &NodeId, to: &NodeId) -> LinkNumber {
        LinkNumber(self.link(from, to).number)
    }

    /// Whether a message that went over this link still arrives.
    pub(crate) fn arrives(&self, from: &NodeId, to: &NodeId, number: LinkNumber) -> bool {
        let link = self.links.get(&(from.clone(), to.clone()));
        link.is_some_and(|l| l.number == number.0)
    }
}

/// How long a message takes one way.
pub(crate) fn latency(random: &mut Random, from: &Region, to: &Region) -> Duration {
    let us = if from == to {
        random.between(100, 900)
    } else {
        random.between(38_000, 44_000)
    };
    Duration::from_micros(us)
}
