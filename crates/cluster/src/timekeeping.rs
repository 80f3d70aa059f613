//! Asking peers for their wall clocks, and saying when this machine's is off (`clock` decides).

use crate::{clock::OFFSET_MAX, cluster::Cluster, host::Host, message::Message};
use control::command::Command;
use model::NodeId;
use std::{collections::BTreeMap, time::Duration};

/// How often a peer is asked that answers, and one that doesn't.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How often one that doesn't, by a process that has not compared its clock: the peer's own link,
/// over which it answers, may be made later than ours, and its answer be lost. It is longer than
/// the way around the world and back, since an answer to an earlier question does not count.
const ASK_SOON: Duration = Duration::from_millis(600);
/// How long a clock has to be off until this node gives away its offices: longer than it takes
/// until a step that most clocks bear out is followed.
const HANDS_OVER_AFTER: Duration = Duration::from_secs(15);
/// A clock that comes and goes is written down this often at most.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// What was asked and said.
#[derive(Debug)]
pub(crate) struct Timekeeping {
    /// The number of the last question.
    number: u64,
    /// The last question to each peer.
    asked: BTreeMap<NodeId, Asked>,
    /// Whether the machine's clock was off when it was last written down, and when that was.
    noted: (bool, Option<Duration>),
    /// Since when the machine's clock has been off.
    off_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u64,
    /// By the monotonic clock.
    at: Duration,
    answered: bool,
}

impl Timekeeping {
    /// At the start of a process that numbers its questions from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Timekeeping {
            number: first,
            asked: BTreeMap::new(),
            noted: (false, None),
            off_since: None,
        }
    }

    /// There is a new link to this peer: what was asked over the last one may be lost.
    pub(crate) fn connected(&mut self, peer: &NodeId) {
        self.asked.remove(peer);
    }
}

impl<A> Cluster<A> {
    pub(crate) fn clock_tick(&mut self, host: &impl Host) {
        let now = self.now.monotonic;
        for peer in self.peers.connected_nodes() {
            let rests = self.timekeeping.asked.get(&peer).is_some_and(|asked| {
                let wait = match asked.answered {
                    true => ASK_EVERY,
                    false if self.clock.is_compared() => ASK_AGAIN,
                    false => ASK_SOON,
                };
                now.saturating_sub(asked.at) < wait
            });
            if !rests {
                let number = self.timekeeping.number.wrapping_add(1);
                self.timekeeping.number = number;
                let asked = Asked {
                    number,
                    at: now,
                    answered: false,
                };
                self.timekeeping.asked.insert(peer.clone(), asked);
                self.send(&peer, Message::ClockAsk { number });
            }
        }
        let nodes = self.peers.regions().count() + 1;
        let set = self.clock.tick(nodes);
        let me = self.config.id.clone();
        if let Some(by_ms) = set {
            self.note_clock(format!(
                "{me} has set the time that it keeps {}: that is what most of the clocks of the nodes say",
                offset(by_ms, "forward", "back"),
            ));
        }
        let ahead_ms = self.clock.machine_ahead_ms();
        let is_off = ahead_ms.unsigned_abs() > OFFSET_MAX.as_millis() as u64;
        let off_since = is_off.then(|| self.timekeeping.off_since.unwrap_or(now));
        self.timekeeping.off_since = off_since;
        let for_long = off_since.is_some_and(|at| now.saturating_sub(at) >= HANDS_OVER_AFTER);
        self.clock_is_off(for_long, host);
        let (noted, at) = self.timekeeping.noted;
        let rests = at.is_some_and(|at| now.saturating_sub(at) < NOTE_EVERY);
        if is_off == noted || rests || !self.clock.is_settled() {
            return;
        }
        self.timekeeping.noted = (is_off, Some(now));
        self.note_clock(if is_off {
            format!(
                "the wall clock of {me} is {} of the time that it keeps, and is not followed: keys expire as if it were right; see to its time synchronisation",
                offset(ahead_ms, "ahead", "behind"),
            )
        } else {
            format!("the wall clock of {me} agrees again with the time that it keeps")
        });
    }

    pub(crate) fn clock_asked(&mut self, from: &NodeId, number: u64) {
        let told = Message::ClockTold {
            number,
            wall_ms: self.clock.machine_ms(),
            kept_ms: self.clock.kept_ms(),
        };
        self.send(from, told);
    }

    pub(crate) fn clock_told(
        &mut self,
        from: &NodeId,
        number: u64,
        wall_ms: u64,
        kept_ms: Option<u64>,
    ) {
        if let Some(asked) = self.timekeeping.asked.get_mut(from)
            && asked.number == number
            && !asked.answered
        {
            asked.answered = true;
            self.clock.told(from, asked.at, wall_ms, kept_ms);
        }
    }

    /// Writes down something about this node's clocks.
    fn note_clock(&mut self, text: String) {
        tracing::warn!("{text}");
        let command = Command::Note {
            shard: None,
            kind: "clock".to_owned(),
            text,
            at_ms: self.now.wall_ms,
        };
        self.ask_to_note(command);
    }
}

fn offset(ms: i64, ahead: &str, behind: &str) -> String {
    let seconds = ms.unsigned_abs() as f64 / 1000.0;
    let which = if ms < 0 { behind } else { ahead };
    format!("{seconds:.1} s {which}")
}
