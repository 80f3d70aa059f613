//! A random scenario: a cluster, a keyspace, clients, and what befalls them; all of it drawn
//! from a seed, run to its end, and judged.
//!
//! ```text
//!   seed ── draw ──▶ Scenario ── run ──▶ World … faults … all healed … at rest
//!                                           └─▶ judged: Outcome, or what is Wrong
//! ```
//!
//! | what must hold | seen by |
//! |---|---|
//! | one process writes to a shard in an epoch; none while another's lease runs; who is sealed stays so | `world::observe`, at each message |
//! | a session never goes back in time | [`crate::session`], at each answer |
//! | a key that is gone stays gone, one that was to stay stays; a key goes when its time is over, while most clocks are right | [`crate::expiry`], at each answer |
//! | a client's own keys hold what it wrote | [`crate::client`], at each answer, unless a failover may lose it |
//! | no node stops unless its disk was broken; none serves a log that rotted | `World` |
//! | everything comes to rest, and each shard takes writes again | at the end |
//! | all replicas hold the same | `QUIRE VERIFY`, and reads at every node |
//! | what clients saw fits a single copy | [`crate::register`] |
//! | what was acknowledged is there, or where that is allowed, in a file | [`crate::register`], [`crate::session`] |
//!
//! A loss that the rule allows without a report (the disk that held the tail is gone) takes the
//! last two with it: see [`Scenario::may_lose_silently`].

mod clocks;
mod draw;
mod inject;
mod stall;
mod trouble;

pub use trouble::{Roles, Trouble};

use crate::{
    random::Random,
    register::Judged,
    session::Counts,
    trace::Trace,
    world::{Faults, Mix, PrimaryChanges, Setup, World, Wrong},
};
use inject::Injector;
use std::time::Duration;

pub(crate) const KEYSPACE: &str = "profiles";

/// One thing that befalls a cluster. What lasts is undone after its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A machine loses power, or its process is killed, and comes back.
    Crash {
        /// Which.
        node: String,
        /// 0 killed, 1 whenever, 2 before, 3 in, 4 after a flush, 6 told to end.
        how: u64,
        /// Whether power is lost once more while it starts.
        twice: bool,
        /// For how long.
        away: Duration,
    },
    /// A machine comes back with an empty disk.
    Empty {
        /// Which.
        node: String,
        /// For how long.
        away: Duration,
    },
    /// A bit of a dead machine's log flips; once it has refused to start its disk is emptied.
    Rot {
        /// Which.
        node: String,
        /// For how long.
        away: Duration,
    },
    /// A machine's disks are copied; later it gets back the copy in their place.
    PutBack {
        /// Which.
        node: String,
        /// Whether its process ends, and another begins, in between.
        restarts: bool,
        /// How much later.
        after: Duration,
        /// Whether all others lose power at that moment, too.
        all: bool,
        /// For how long it is away then.
        away: Duration,
    },
    /// All machines lose power at one moment, and the last batch of one's log decays.
    Decay {
        /// Of which.
        node: String,
        /// For how long it is away.
        away: Duration,
    },
    /// The disk fails a write or a sync.
    Break {
        /// Which.
        node: String,
        /// A sync?
        sync: bool,
        /// For how long.
        away: Duration,
    },
    /// A process stands still.
    Pause {
        /// Which.
        node: String,
        /// For how long.
        time: Duration,
    },
    /// Two nodes don't hear each other, or one does not hear the other.
    Cut {
        /// From which …
        from: String,
        /// … to which.
        to: String,
        /// Only this way?
        one_way: bool,
        /// For how long.
        time: Duration,
    },
    /// A node hears nobody and is heard by nobody.
    Isolate {
        /// Which.
        node: String,
        /// For how long.
        time: Duration,
    },
    /// A region is cut off whole.
    CutRegion {
        /// Which.
        region: String,
        /// For how long.
        time: Duration,
    },
    /// A link breaks, some of what is under way with it.
    BreakLink {
        /// From which …
        from: String,
        /// … to which.
        to: String,
    },
    /// Messages on a link take longer.
    Delay {
        /// From which …
        from: String,
        /// … to which.
        to: String,
        /// By how much.
        by: Duration,
        /// For how long.
        time: Duration,
    },
    /// Flushes take long.
    SlowDisk {
        /// Which.
        node: String,
        /// How long at most.
        longest: Duration,
        /// For how long.
        time: Duration,
    },
    /// The disk answers nothing.
    HangDisk {
        /// Which.
        node: String,
        /// For how long.
        time: Duration,
    },
    /// A turn takes long: what came was dealt with, and nothing is said yet.
    Busy {
        /// Which.
        node: String,
        /// How long.
        time: Duration,
    },
    /// The log's disk has hardly any room.
    FullDisk {
        /// Which.
        node: String,
        /// How many bytes are left.
        room: u64,
        /// For how long.
        time: Duration,
    },
    /// A wall clock is set.
    Step {
        /// Which.
        node: String,
        /// By how much.
        ms: i64,
    },
    /// A wall clock is set far off, and back after a while.
    Jump {
        /// Which.
        node: String,
        /// By how much.
        ms: i64,
        /// For how long.
        time: Duration,
    },
    /// Clocks run faster or slower from now on.
    Rate {
        /// Which.
        node: String,
        /// By so many millionths.
        ppm: i64,
    },
    /// Messages come again, late, and get lost within links.
    Meddle {
        /// Once in so many.
        repeats: u64,
        /// Once in so many; 0 for never.
        drops: u64,
        /// How late at most.
        late: Duration,
        /// For how long.
        time: Duration,
    },
}

impl Fault {
    /// Whether what one disk held may be gone by it.
    fn takes_a_disk(&self) -> bool {
        matches!(
            self,
            Fault::Empty { .. } | Fault::Rot { .. } | Fault::PutBack { .. } | Fault::Decay { .. }
        )
    }
}

/// What is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long clients work, in virtual time; None: drawn.
    pub time: Option<Duration>,
    /// Whether a shard whose primary is gone gets another one.
    pub failover: bool,
    /// Whether more than one voter of the control group may lose its disk. If most of them do
    /// at once the group is gone, as it must be, and the scenario never comes to rest.
    pub voters_lose_disks: bool,
    /// Whether clients send more before they have all answers in every scenario, not only in
    /// some.
    pub pipelines: bool,
    /// What scenarios are about; None: drawn.
    pub trouble: Option<Trouble>,
    /// Whether the keyspace's replicas elect their primary.
    pub consensus: bool,
    /// Whether the trace keeps its lines.
    pub trace_kept: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: None,
            failover: true,
            voters_lose_disks: false,
            pipelines: false,
            trouble: None,
            consensus: false,
            trace_kept: false,
        }
    }
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where all chance comes from.
    pub seed: u64,
    /// What it is about.
    pub trouble: Trouble,
    /// Nodes of each region.
    pub regions: Vec<(&'static str, usize)>,
    /// The cluster.
    pub setup: Setup,
    /// The acknowledgement rule.
    pub rule: &'static str,
    /// What follows `KEYSPACE CREATE profiles`.
    pub words: String,
    /// Clients.
    pub mix: Mix,
    /// How long clients work.
    pub time: Duration,
    /// What happens when, from the clients' beginning.
    pub faults: Vec<(Duration, Fault)>,
    /// Whether there are failovers.
    pub failover: bool,
    /// Whether more than one voter of the control group may lose its disk.
    pub voters_lose_disks: bool,
}

/// What came of a scenario that nothing was wrong with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Virtual time in all.
    pub time: Duration,
    /// Faults that happened.
    pub faults: Faults,
    /// Epochs.
    pub changes: PrimaryChanges,
    /// What linearizability was judged of.
    pub judged: Judged,
    /// What happened in sessions.
    pub sessions: Counts,
    /// Writes of clients that have keys of their own.
    pub owned_writes: u64,
    /// Acknowledged writes of sessions that were lost and reported.
    pub lost: u64,
    /// Whether loss without a report was possible, so that it was not looked for.
    pub silent: bool,
    /// Lines of the trace, and their hash.
    pub trace: (u64, u64),
}

impl Scenario {
    /// Whether what was acknowledged may be lost without being in a file: a failover may lose
    /// a tail, and the disk that holds it may go.
    pub fn may_lose_silently(&self) -> bool {
        self.mix.lossy && self.faults.iter().any(|(_, f)| f.takes_a_disk())
    }

    fn is_voter(&self, node: &str) -> bool {
        let mut voters = self.setup.voters.iter();
        voters.any(|v| self.setup.nodes.get(*v).is_some_and(|(id, _)| id == node))
    }

    /// What it is, and what befalls it when, for people.
    pub fn told(&self) -> String {
        let nodes: Vec<&str> = self.setup.nodes.iter().map(|(n, _)| n.as_str()).collect();
        let mut told = format!(
            "seed {}: {:?}, {nodes:?}, voters {:?}, log kept {}
KEYSPACE CREATE {KEYSPACE} {}
{:?} for {:?}
",
            self.seed,
            self.trouble,
            self.setup.voters,
            self.setup.log_retention_bytes,
            self.words,
            self.mix,
            self.time
        );
        for (at, fault) in &self.faults {
            told += &format!("  {:>7.3} {fault:?}\n", at.as_secs_f64());
        }
        told
    }

    /// Runs it to its end. The world is given back whatever came of it.
    pub fn run(&self) -> (World, Result<Outcome, Wrong>) {
        let mut world = World::with(&self.setup, Random::new(self.seed));
        let ran = self.run_in(&mut world);
        (world, ran)
    }

    fn run_in(&self, world: &mut World) -> Result<Outcome, Wrong> {
        world.start_all()?;
        world.until_all_are_up()?;
        let node = self.setup.nodes[0].0.clone();
        let command = format!("KEYSPACE CREATE {KEYSPACE} {}", self.words);
        world.order(&node, &command.split_whitespace().collect::<Vec<_>>())?;
        world.add_mix(&self.mix, KEYSPACE);
        Injector::new(self, world.now()).run(world)?;
        self.judge(world)
    }

    fn judge(&self, world: &mut World) -> Result<Outcome, Wrong> {
        if world.primaries().is_empty() {
            return Err(Wrong("no primary was seen at work".into()));
        }
        world.stop_clients();
        world.until_answered()?;
        world.until_settled()?;
        let node = self.setup.nodes[0].0.clone();
        world.every_shard_serves(&node, KEYSPACE)?;
        world.until_settled()?;
        world.verify(KEYSPACE)?;
        if self.mix.owners > 0 {
            world.all_kept_everywhere(KEYSPACE)?;
        }
        let silent = self.may_lose_silently();
        let (judged, lost) = if silent {
            (Judged::default(), 0)
        } else {
            world.histories_hold(&node, KEYSPACE)?
        };
        world.nothing_wrong()?;
        let trace: &Trace = world.trace();
        Ok(Outcome {
            time: world.now(),
            faults: world.faults(),
            changes: world.primary_changes(),
            judged,
            sessions: world.session_counts(),
            owned_writes: world.clients().map(|c| c.counts().acknowledged).sum(),
            lost,
            silent,
            trace: (trace.count(), trace.hash()),
        })
    }
}
