//! Runs random scenarios and looks for one that proves Quire wrong.
//!
//! Prints what was done and what befell it; at the first violation the seed, what is wrong, and
//! a file that tells the run line by line; then it exits with 1.

// It measures how fast it is, and writes traces for people.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use clap::Parser;
use sim::{
    scenario::{Limits, Outcome, Scenario, Trouble},
    world::{Faults, Wrong},
};
use std::{
    collections::BTreeSet,
    io::Write,
    path::PathBuf,
    process::{self, ExitCode},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// Random scenarios of whole clusters under virtual time, each drawn from a seed.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How long clients work in each scenario, in virtual seconds (drawn, if not given).
    #[arg(long, value_name = "SECONDS")]
    seconds_of_virtual_time: Option<u64>,
    /// Scenarios at a time.
    #[arg(long, default_value_t = 2)]
    jobs: u64,
    /// Go on after a violation.
    #[arg(long)]
    keep_going: bool,
    /// Run every seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Let more than one voter of the control group lose its disk.
    #[arg(long)]
    voters_lose_disks: bool,
    /// Let clients send more before they have all answers in every scenario, not in a quarter.
    #[arg(long)]
    pipelines: bool,
    /// What scenarios are about: Any, Power, Takeover, Members, Rare, Flapping or Disks (drawn, if not
    /// given).
    #[arg(long, value_name = "NAME", value_parser = trouble)]
    trouble: Option<Trouble>,
    /// Let the keyspace's replicas elect their primary (TOPOLOGY consensus).
    #[arg(long)]
    consensus: bool,
    /// Where the traces of violations go.
    #[arg(long, default_value = ".")]
    traces: PathBuf,
    /// Break one rule, and see whether that is found.
    #[cfg(feature = "planted-bugs")]
    #[arg(long, value_name = "NAME", value_parser = planted)]
    plant: Option<model::planted::Bug>,
    /// Tell one seed line by line.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// Of a replay: only these lines, as FROM..TO.
    #[arg(long, value_name = "FROM..TO", requires = "replay")]
    lines: Option<String>,
    /// Of a replay: what the nodes log, too.
    #[arg(long, requires = "replay")]
    logs: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    plant(&arguments);
    let limits = Limits {
        time: arguments.seconds_of_virtual_time.map(Duration::from_secs),
        voters_lose_disks: arguments.voters_lose_disks,
        pipelines: arguments.pipelines,
        trouble: arguments.trouble,
        consensus: arguments.consensus,
        trace_kept: arguments.replay.is_some(),
        ..Limits::default()
    };
    match arguments.replay {
        Some(seed) => replay(seed, &limits, &arguments),
        None => search(&limits, &arguments),
    }
}

/// Breaks what was asked to be broken, for all that runs on this thread.
#[cfg(feature = "planted-bugs")]
fn plant(arguments: &Arguments) {
    model::planted::plant(arguments.plant);
}

#[cfg(not(feature = "planted-bugs"))]
fn plant(_: &Arguments) {}

#[cfg(feature = "planted-bugs")]
fn planted(name: &str) -> Result<model::planted::Bug, String> {
    let all = model::planted::Bug::ALL;
    let found = all.into_iter().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| format!("it is none of {all:?}"))
}

fn trouble(name: &str) -> Result<Trouble, String> {
    let all = Trouble::ALL;
    let found = all
        .into_iter()
        .find(|trouble| format!("{trouble:?}") == name);
    found.ok_or_else(|| format!("it is none of {all:?}"))
}

// ---- one seed ---------------------------------------------------------------------------------

fn replay(seed: u64, limits: &Limits, arguments: &Arguments) -> ExitCode {
    let Some((from, to)) = range(arguments.lines.as_deref()) else {
        eprintln!("--lines takes FROM..TO, such as 100..200");
        return ExitCode::from(2);
    };
    if arguments.logs {
        tracing_subscriber::fmt()
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    let scenario = Scenario::draw(seed, limits);
    println!("{}", scenario.told());
    let (world, ran) = scenario.run();
    let lines = world.trace().lines();
    let to = to.min(lines.len());
    let mut out = std::io::stdout().lock();
    for (n, line) in (from..to).zip(lines.get(from..to).unwrap_or_default()) {
        if writeln!(out, "{n:>7} {line}").is_err() {
            break;
        }
    }
    match ran {
        Ok(outcome) => {
            println!("nothing wrong: {outcome:?}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("WRONG {wrong}");
            ExitCode::FAILURE
        }
    }
}

fn range(text: Option<&str>) -> Option<(usize, usize)> {
    let Some(text) = text else {
        return Some((0, usize::MAX));
    };
    let (from, to) = text.split_once("..")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

// ---- many seeds -------------------------------------------------------------------------------

/// How long no seed may come to its end: the longest takes some seconds.
const SEED_MAX: Duration = Duration::from_secs(300);

/// What came of a seed.
struct Ran {
    seed: u64,
    result: Result<Outcome, Wrong>,
}

fn search(limits: &Limits, arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let end = arguments.from.saturating_add(arguments.seeds);
    let next = AtomicU64::new(arguments.from);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let under_way = Mutex::new(BTreeSet::new());
    let (tell, told) = mpsc::channel();
    thread::scope(|threads| {
        for _ in 0..arguments.jobs.max(1) {
            let (tell, next, stop, under_way) = (tell.clone(), &next, &stop, &under_way);
            threads.spawn(move || {
                plant(arguments);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    locked(under_way).insert(seed);
                    let result = run(seed, limits, arguments.twice);
                    locked(under_way).remove(&seed);
                    if tell.send(Ran { seed, result }).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        loop {
            let ran = match told.recv_timeout(SEED_MAX) {
                Ok(ran) => ran,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // Whatever it does, it does for ever, and its thread can't be stopped.
                    let seeds: Vec<u64> = locked(&under_way).iter().copied().collect();
                    println!("seeds {seeds:?} WRONG they do not end within {SEED_MAX:?}");
                    process::exit(1);
                }
            };
            let mut sum = locked(&sum);
            match ran.result {
                Ok(outcome) => sum.add(&outcome),
                Err(wrong) => {
                    sum.violations += 1;
                    report(ran.seed, limits, &wrong, arguments);
                    if !arguments.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.print(began.elapsed());
    if sum.violations > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(seed: u64, limits: &Limits, twice: bool) -> Result<Outcome, Wrong> {
    let scenario = Scenario::draw(seed, limits);
    let outcome = scenario.run().1?;
    if twice {
        let again = scenario.run().1?;
        if outcome.trace != again.trace {
            return Err(Wrong(format!(
                "two runs of it differ: {:?} and {:?} (lines, hash)",
                outcome.trace, again.trace
            )));
        }
    }
    Ok(outcome)
}

/// Runs it once more, with a trace that is kept, and writes that down.
fn report(seed: u64, limits: &Limits, wrong: &Wrong, arguments: &Arguments) {
    println!("seed {seed} WRONG {wrong}");
    let limits = Limits {
        trace_kept: true,
        ..*limits
    };
    let scenario = Scenario::draw(seed, &limits);
    println!("{}", scenario.told());
    let (world, again) = scenario.run();
    let path = arguments.traces.join(format!("sim-{seed}.trace"));
    let again = match again {
        Ok(_) => "nothing".to_owned(),
        Err(wrong) => wrong.to_string(),
    };
    let text = format!(
        "{}\n{}\nWRONG {again}\n",
        scenario.told(),
        world.trace().lines().join("\n")
    );
    match std::fs::write(&path, text) {
        Ok(()) => println!("told in {}, or by: sim --replay {seed}", path.display()),
        Err(error) => println!("{} can't be written: {error}", path.display()),
    }
}

/// All scenarios together.
#[derive(Default)]
struct Sum {
    scenarios: u64,
    violations: u64,
    time: Duration,
    faults: Faults,
    another_node: u64,
    same_node: u64,
    histories: u64,
    operations: u64,
    unknown: u64,
    gave_up: u64,
    session_reads: u64,
    session_writes: u64,
    sessions_lost: u64,
    owned_writes: u64,
    lost: u64,
    silent: u64,
    lines: u64,
}

impl Sum {
    fn add(&mut self, o: &Outcome) {
        self.scenarios += 1;
        self.time += o.time;
        self.faults += o.faults;
        self.another_node += o.changes.another_node;
        self.same_node += o.changes.same_node;
        self.histories += o.judged.histories;
        self.operations += o.judged.operations;
        self.unknown += o.judged.unknown;
        self.gave_up += o.judged.gave_up;
        self.session_reads += o.sessions.reads;
        self.session_writes += o.sessions.writes;
        self.sessions_lost += o.sessions.lost;
        self.owned_writes += o.owned_writes;
        self.lost += o.lost;
        self.silent += u64::from(o.silent);
        self.lines += o.trace.0;
    }

    fn print(&self, took: Duration) {
        let hours = self.time.as_secs_f64() / 3600.0;
        let rate = self.time.as_secs_f64() / took.as_secs_f64().max(1e-9);
        println!(
            "{} scenarios without a violation, {} with; {hours:.2} h in {:.0} s: {rate:.1} simulated hours an hour",
            self.scenarios,
            self.violations,
            took.as_secs_f64()
        );
        println!(
            "events told: {}; epochs: {} with another primary, {} with the same",
            self.lines, self.another_node, self.same_node
        );
        println!(
            "linearizability: {} keys, {} operations, {} of unknown outcome, gave up on {} keys",
            self.histories, self.operations, self.unknown, self.gave_up
        );
        println!(
            "sessions: {} reads, {} writes, {} times told of a loss; own keys: {} writes; lost and reported: {}; loss not looked for in {} scenarios",
            self.session_reads,
            self.session_writes,
            self.sessions_lost,
            self.owned_writes,
            self.lost,
            self.silent
        );
        println!("faults that happened:");
        for (name, count) in self.faults.by_kind() {
            println!("  {count:>9} {name}");
        }
    }
}
