//! Shards at rest: what two nodes tell each other so that replicas of a shard to which nothing
//! happens need not hear of it one by one (docs/adr/0016-idle-shards).
//!
//! ```text
//!   primary's node                                        replica's node
//!   ask(shard, at) ── Pulse n { rest: shard, at } ──────▶ does it hold `at`, as its last, applied?
//!        resting   ◀── Pulse m { resting: shard, n } ──── it rests at `at`
//!           │  ─────── Pulse n+1, n+2, … ───────────────▶ fresh as of what each pulse echoes
//!   woke(shard) ────── Pulse { woke: shard } ───────────▶ it rests no more
//!        forgotten ◀── Pulse { heard ≥ the first of these }
//!           ◀───────── Pulse { left: shard, n } ───────── it ended that by itself: woke
//! ```
//!
//! A *pulse* says: when this was sent there was nothing new in any shard that rests with you and
//! is not listed here. It goes one way between two processes, and there is one of them for all
//! their shards. A [`Pair`] is what one process keeps of another one.
//!
//! # What always holds
//! 1. If the peer may believe that `shard` rests at `at`, then either `at` is the last entry of
//!    its primary here, and committed; or the shard is in every pulse from some number on (as
//!    woken, or as asked to rest elsewhere) until a pulse with that number or a later one was
//!    heard there.
//! 2. Pulses are heard in the order of their numbers; what is late is dropped. With 1, whoever
//!    has heard pulse n and believes that a shard rests at `at` has all that was committed when
//!    n was sent.
//! 3. What is vouched for is a moment of the replica's own clock that the primary's node had been
//!    told of before it sent the pulse.
//! 4. All of it is between two processes, each known by a number that no other process has; a
//!    pulse from or to another one is dropped, and with another process of the peer everything
//!    begins anew. A process that was followed by another never counts again.
//!
//! Loss, repetition and reordering of pulses, and of all other messages, are therefore harmless:
//! a replica that hears no pulse only gets older.

use model::{
    Position, ShardId,
    planted::{self, Bug},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Former processes of a peer that are remembered.
const FORMER_MAX: usize = 64;

/// One node's word to another about all the shards that both hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// The process that sends it.
    pub from: u64,
    /// The process that it is for.
    pub to: u64,
    /// Counts from 1.
    pub number: u64,
    /// The greatest number that was heard from `to`.
    pub heard: u64,
    /// Replicas that may rest, and where.
    pub rest: Vec<(ShardId, Position)>,
    /// Replicas that rest no more.
    pub woke: Vec<ShardId>,
    /// The sender's replicas that rest, by the number of the pulse that asked for it.
    pub resting: Vec<(ShardId, u64)>,
    /// Those that did, by the same number, and don't.
    pub left: Vec<(ShardId, u64)>,
    /// The sender's monotonic clock in ms, to be echoed.
    pub probe: u64,
    /// The latest probe of the receiver's that the sender had; 0 for none.
    pub echo: u64,
    /// Shard time at the sender, in ms since 1970.
    pub time_ms: u64,
    /// Whether the sender's lease ran: else it may be primary of nothing any more.
    pub vouches: bool,
}

/// What holds for every replica that rests with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The moment of this node's clock as of which it has everything.
    pub fresh_at: Duration,
    /// Shard time then, or later.
    pub time_ms: u64,
}

/// What came of a pulse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Replicas at the peer that rest by now.
    pub resting: Vec<(ShardId, Position)>,
    /// Replicas at the peer that rest no more, though nothing new was said of their shards.
    pub left: Vec<ShardId>,
    /// Replicas here that began to rest, and where.
    pub began: Vec<(ShardId, Position)>,
    /// Replicas here that rest no more; what is vouched for them holds as of before the pulse.
    pub ended: Vec<ShardId>,
    /// What was vouched for before.
    pub vouched: Option<Vouched>,
}

/// What the peer must still hear of a shard whose primary is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed {
    /// It is in every pulse from this one on.
    first: u64,
    /// Where it may rest; None: it has woken.
    at: Option<Position>,
}

/// What the peer's process must still hear of a replica here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    first: u64,
    /// The pulse that asked for it.
    asked: u64,
    rests: bool,
}

/// What this process keeps of the shards that it has in common with a peer.
#[derive(Debug, Default)]
pub struct Pair {
    own: u64,
    peer: Option<u64>,
    former: VecDeque<u64>,
    /// The number of the last pulse that was sent, and of the last one that was heard.
    sent: u64,
    heard: u64,
    /// The peer's clock, as it said last.
    probe: u64,
    /// Of shards whose primary is here: what is to be said, and which rest there, asked for by
    /// which pulse or a later one.
    listed: BTreeMap<ShardId, Listed>,
    resting: BTreeMap<ShardId, (Position, u64)>,
    /// Of replicas here: which rest, and what is to be said.
    rests: BTreeMap<ShardId, u64>,
    said: BTreeMap<ShardId, Said>,
    vouched: Option<Vouched>,
}

impl Pair {
    /// Nothing is known of the peer. `own` is the number of this process.
    pub fn new(own: u64) -> Self {
        Pair {
            own,
            ..Pair::default()
        }
    }

    /// The peer is in this process now: if it is another one than before nothing rests any more.
    pub fn linked(&mut self, process: u64) -> Heard {
        if self.peer == Some(process) {
            return Heard::default();
        }
        let mut former = std::mem::take(&mut self.former);
        if let Some(peer) = self.peer {
            if former.len() == FORMER_MAX {
                former.pop_front();
            }
            former.push_back(peer);
        }
        let before = std::mem::replace(self, Pair::new(self.own));
        self.peer = Some(process).filter(|process| !former.contains(process));
        self.former = former;
        let there = before.listed.into_keys().chain(before.resting.into_keys());
        Heard {
            left: there.collect(),
            ended: before.rests.into_keys().collect(),
            vouched: before.vouched,
            ..Heard::default()
        }
    }

    /// Whether pulses are to be sent: some shard rests, or is to.
    pub fn is_busy(&self) -> bool {
        self.peer.is_some()
            && !(self.listed.is_empty()
                && self.resting.is_empty()
                && self.rests.is_empty()
                && self.said.is_empty())
    }

    // ---- the primary's end -----------------------------------------------------------------

    /// The peer's replica has all that the primary here has, which ends at `at` and is committed:
    /// it may rest. [`Pair::woke`] is called before that changes.
    pub fn ask(&mut self, shard: ShardId, at: Position) {
        let first = self.sent + 1;
        let same = (self.listed.get(&shard)).is_some_and(|listed| listed.at == Some(at));
        if self.peer.is_some() && !same {
            self.resting.remove(&shard);
            let at = Some(at);
            self.listed.insert(shard, Listed { first, at });
        }
    }

    /// There is something new in the shard, or its primary is here no more.
    pub fn woke(&mut self, shard: ShardId) {
        let asked = self.listed.get(&shard).is_some_and(|l| l.at.is_some());
        if self.resting.remove(&shard).is_some() || asked {
            let first = self.sent + 1;
            self.listed.insert(shard, Listed { first, at: None });
        }
    }

    // ---- the replica's end -----------------------------------------------------------------

    /// What is vouched for the replicas that rest with the peer.
    pub fn vouched(&self) -> Option<Vouched> {
        self.vouched
    }

    /// The replica here rests no more, for reasons of its own. Returns what was vouched for it.
    pub fn leave(&mut self, shard: ShardId) -> Option<Vouched> {
        let asked = self.rests.remove(&shard)?;
        self.say(shard, asked, false);
        self.vouched
    }

    fn say(&mut self, shard: ShardId, asked: u64, rests: bool) {
        let first = self.sent + 1;
        let said = Said {
            first,
            asked,
            rests,
        };
        self.said.insert(shard, said);
    }

    // ---- both ------------------------------------------------------------------------------

    /// The next pulse; None if the peer's process is not known. Nothing must have happened to a
    /// shard since [`Pair::woke`] could have been called for it.
    pub fn pulse(&mut self, now: Duration, time_ms: u64, vouches: bool) -> Option<Pulse> {
        let to = self.peer?;
        self.sent += 1;
        let (mut rest, mut woke) = (Vec::new(), Vec::new());
        for (shard, listed) in &self.listed {
            match listed.at {
                Some(at) => rest.push((*shard, at)),
                None => woke.push(*shard),
            }
        }
        let (mut resting, mut left) = (Vec::new(), Vec::new());
        for (shard, said) in &self.said {
            let to = if said.rests { &mut resting } else { &mut left };
            to.push((*shard, said.asked));
        }
        Some(Pulse {
            from: self.own,
            to,
            number: self.sent,
            heard: self.heard,
            rest,
            woke,
            resting,
            left,
            probe: (now.as_millis() as u64).max(1),
            echo: self.probe,
            time_ms,
            vouches,
        })
    }

    /// The peer's pulse came. `holds` says whether a replica here has that entry as its last one,
    /// durable, committed and applied, and as its primary's in that entry's epoch.
    pub fn receive(
        &mut self,
        pulse: Pulse,
        mut holds: impl FnMut(ShardId, Position) -> bool,
    ) -> Heard {
        let mut heard = Heard {
            vouched: self.vouched,
            ..Heard::default()
        };
        if Some(pulse.from) != self.peer || pulse.to != self.own || pulse.number <= self.heard {
            return heard;
        }
        self.heard = pulse.number;
        self.probe = self.probe.max(pulse.probe);
        let has_heard = |first: u64| first <= pulse.heard;
        (self.listed).retain(|_, listed| listed.at.is_some() || !has_heard(listed.first));
        self.said.retain(|_, said| !has_heard(said.first));

        for (shard, asked) in pulse.resting {
            if let Some(Listed {
                first,
                at: Some(at),
            }) = self.listed.get(&shard).copied()
                && asked >= first
            {
                self.listed.remove(&shard);
                self.resting.insert(shard, (at, asked));
                heard.resting.push((shard, at));
            }
        }
        for (shard, asked) in pulse.left {
            // It may have taken a later pulse for asking it to rest once more.
            if (self.resting.get(&shard)).is_some_and(|(_, accepted)| asked >= *accepted) {
                self.woke(shard);
                heard.left.push(shard);
            }
        }

        for shard in pulse.woke {
            if planted::is(Bug::RestOnThoughWoken) {
                continue;
            }
            self.said.remove(&shard);
            if self.rests.remove(&shard).is_some() {
                heard.ended.push(shard);
            }
        }
        for (shard, at) in pulse.rest {
            let rested = self.rests.remove(&shard).is_some();
            if holds(shard, at) {
                self.rests.insert(shard, pulse.number);
                self.say(shard, pulse.number, true);
                heard.began.push((shard, at));
            } else if rested {
                self.said.remove(&shard);
                heard.ended.push(shard);
            }
        }
        if pulse.vouches && pulse.echo > 0 {
            let fresh_at = Duration::from_millis(pulse.echo);
            let before = self.vouched.map_or(Duration::ZERO, |v| v.fresh_at);
            self.vouched = Some(Vouched {
                fresh_at: fresh_at.max(before),
                time_ms: pulse.time_ms,
            });
        }
        heard
    }
}

#[cfg(test)]
mod tests;
