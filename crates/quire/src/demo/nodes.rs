//! The demo's nodes as child processes: started, watched, stopped. A supervisor for each, which
//! alone starts and ends its node's process.
//!
//! ```text
//!              exits by itself: reported on standard error, not restarted
//!              Order::Kill: SIGKILL
//!              Order::Stop: SIGTERM, after 12 s SIGKILL
//!              the demo's end: SIGTERM, after 4 s SIGKILL
//!   running ───────────────────────────────────────────────────────────────▶ gone
//!      ◀──────────────────────────────── Order::Start ─────────────────────────┘
//! ```
//! Each node holds the reading end of a pipe whose writing end lives here: should the demo be
//! killed, the pipe ends and the nodes stop (`--stop-on-stdin-eof`). They are in process groups
//! of their own, so that Ctrl-C reaches the demo alone, which then stops them in order.

use super::plan::{NodePlan, Plan, Wan, addr};
use crate::{demo::plan::Fsync, output::complain};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

/// From SIGTERM to SIGKILL, when the demo ends: there is nobody left to hand over to.
const TERM_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for one node: longer than it takes to hand over, to answer, and to sync.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Orders to one node that wait.
const ORDERS_MAX: usize = 8;

/// The nodes, running or not.
pub(super) struct Nodes {
    supervisors: JoinSet<()>,
    stop: watch::Sender<bool>,
    orders: Orders,
    /// The ids of nodes that exited by themselves and were not started again.
    dead: watch::Receiver<Vec<String>>,
}

/// What may be done to a node while the demo runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// SIGKILL: as if its machine had died.
    Kill,
    /// SIGTERM: in order.
    Stop,
    Start,
}

struct Asked {
    order: Order,
    answer: oneshot::Sender<Result<String, String>>,
}

/// Where orders are given.
#[derive(Clone)]
pub(super) struct Orders {
    nodes: Rc<BTreeMap<String, mpsc::Sender<Asked>>>,
    dead: watch::Receiver<Vec<String>>,
}

/// Ports that are taken, each with whose it would be; nothing when all are free.
pub(super) fn ports_in_use(plan: &Plan) -> Vec<String> {
    let mut taken = Vec::new();
    for node in &plan.nodes {
        for (port, what) in [
            (node.client_port, "clients"),
            (node.peer_port, "peers"),
            (node.http_port, "HTTP"),
        ] {
            if let Err(e) = TcpListener::bind(addr(port)) {
                taken.push(format!("port {port} ({} of {}): {e}", what, node.id));
            }
        }
    }
    taken
}

/// Nodes that have data under `dir` and are not of the plan: a cluster that was another.
pub(super) fn others_in(plan: &Plan, dir: &Path) -> std::io::Result<Vec<String>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let planned = plan.nodes.iter().any(|n| n.id == name);
        if !planned && entry.path().join("node.toml").exists() {
            others.push(name);
        }
    }
    others.sort();
    Ok(others)
}

/// The nodes of the plan that run on `dir`, and their processes.
pub(super) fn running_in(plan: &Plan, dir: &Path) -> Vec<(String, u32)> {
    let running = |node: &NodePlan| {
        let pid = server::who_uses(&dir.join(&node.id).join("data"))?;
        Some((node.id.clone(), pid))
    };
    plan.nodes.iter().filter_map(running).collect()
}

/// Writes each node's `node.toml` under `dir`, creating what is missing.
pub(super) fn write_configs(
    plan: &Plan,
    dir: &Path,
    wan: &Wan,
    fsync: Fsync,
) -> Result<(), String> {
    let cache_bytes = server::default_cache_bytes(plan.nodes.len());
    for node in &plan.nodes {
        let config = plan
            .config(node, wan, fsync, cache_bytes)
            .map_err(|e| e.to_string())?;
        let dir = dir.join(&node.id);
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(dir.join("node.toml"), config))
            .map_err(|e| format!("can't write {}/node.toml: {e}", dir.display()))?;
    }
    Ok(())
}

impl Nodes {
    /// Starts every node of `plan`. If one can't be started, those that were are killed.
    pub(super) fn start(plan: &Plan, dir: &Path) -> Result<Self, String> {
        let (stop, stopping) = watch::channel(false);
        let (died, dead) = watch::channel(Vec::new());
        let mut supervisors = JoinSet::new();
        let mut orders = BTreeMap::new();
        for node in &plan.nodes {
            let (ask, asked) = mpsc::channel(ORDERS_MAX);
            let supervisor = Supervisor {
                node: node.clone(),
                dir: dir.to_owned(),
                running: Some(Running::start(node, dir)?),
                died: died.clone(),
                stopping: stopping.clone(),
            };
            supervisors.spawn(supervisor.run(asked));
            orders.insert(node.id.clone(), ask);
        }
        Ok(Nodes {
            supervisors,
            stop,
            orders: Orders {
                nodes: Rc::new(orders),
                dead: dead.clone(),
            },
            dead,
        })
    }

    /// Those that exited by themselves and were not started again.
    pub(super) fn dead(&self) -> Vec<String> {
        self.dead.borrow().clone()
    }

    pub(super) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Stops them all; returns when none is left, within five seconds.
    pub(super) async fn stop(mut self) {
        // Nobody listens any more if all have ended.
        let _ = self.stop.send(true);
        while self.supervisors.join_next().await.is_some() {}
    }
}

impl Orders {
    /// Has `order` done to `node`. Returns what was done, or why nothing was.
    pub(super) async fn give(&self, order: Order, node: &str) -> Result<String, String> {
        let Some(ask) = self.nodes.get(node) else {
            let known: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
            return Err(format!("there is no node {node}: use {}", known.join(", ")));
        };
        let stopping = |_| "the demo is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        let asked = Asked { order, answer };
        ask.send(asked).await.map_err(|_| stopping(()))?;
        answered.await.map_err(|_| stopping(()))?
    }

    /// Whether `node` has exited by itself.
    pub(super) fn is_dead(&self, node: &str) -> bool {
        self.dead.borrow().iter().any(|id| id == node)
    }
}

/// One process of a node.
struct Running {
    child: Child,
    /// The writing end of its standard input, open for as long as it is to run.
    _stdin: Option<ChildStdin>,
}

impl Running {
    fn start(node: &NodePlan, dir: &Path) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("can't start {}: {e}", node.id);
        let dir = dir.join(&node.id);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .map_err(failed)?;
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("server")
            .arg("--config")
            .arg(dir.join("node.toml"))
            .arg("--stop-on-stdin-eof")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        // Waiting for a child closes the standard input that it still owns.
        let stdin = child.stdin.take();
        Ok(Running {
            child,
            _stdin: stdin,
        })
    }

    fn pid(&self) -> u32 {
        // It has none only once it was waited for.
        self.child.id().unwrap_or(0)
    }

    /// SIGTERM, and SIGKILL if that takes longer than `within`. Returns whether it ended by the
    /// first.
    async fn stop(&mut self, within: Duration) -> bool {
        if let Some(pid) = Pid::from_raw(self.pid().cast_signed()) {
            // The one failure is that it is gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = timeout(within, self.child.wait()).await.is_ok();
        if !ended {
            let _ = self.child.kill().await;
        }
        ended
    }
}

/// Keeps one node as it is asked to be.
struct Supervisor {
    node: NodePlan,
    /// The demo's.
    dir: PathBuf,
    running: Option<Running>,
    died: watch::Sender<Vec<String>>,
    /// True once the demo ends.
    stopping: watch::Receiver<bool>,
}

impl Supervisor {
    async fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        let id = self.node.id.clone();
        loop {
            let exited = async {
                match &mut self.running {
                    Some(running) => running.child.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = exited => {
                    self.running = None;
                    complain(format_args!(
                        "node {id} is gone: {}; quire demo start {id} starts it again",
                        describe(status)
                    ));
                    self.died.send_modify(|dead| dead.push(id.clone()));
                }
                Some(Asked { order, answer }) = asked.recv() => {
                    let done = self.obey(order).await;
                    if let Ok(done) = &done {
                        println!("{done}");
                    }
                    // Whoever asked may be gone.
                    let _ = answer.send(done);
                }
                () = demo_ends(&mut self.stopping) => break,
            }
        }
        if let Some(mut running) = self.running
            && !running.stop(TERM_TIMEOUT).await
        {
            complain(format_args!(
                "node {id} did not stop within {TERM_TIMEOUT:?} and was killed"
            ));
        }
    }

    async fn obey(&mut self, order: Order) -> Result<String, String> {
        let id = &self.node.id.clone();
        match (order, self.running.take()) {
            (Order::Kill, Some(mut running)) => {
                let pid = running.pid();
                let killed = running.child.kill().await;
                killed.map_err(|e| format!("can't kill {id} (process {pid}): {e}"))?;
                Ok(format!("{id} is killed (process {pid})"))
            }
            (Order::Stop, Some(mut running)) => {
                let pid = running.pid();
                tokio::select! {
                    ended = running.stop(STOP_TIMEOUT) => Ok(if ended {
                        format!("{id} is stopped (process {pid})")
                    } else {
                        format!("{id} did not stop within {STOP_TIMEOUT:?} and is killed (process {pid})")
                    }),
                    () = demo_ends(&mut self.stopping) => {
                        self.running = Some(running);
                        Err("the demo is stopping".into())
                    }
                }
            }
            (Order::Start, Some(running)) => {
                let pid = running.pid();
                self.running = Some(running);
                Err(format!("{id} runs already (process {pid})"))
            }
            (order, None) => {
                if let Some(pid) = server::who_uses(&self.dir.join(id).join("data")) {
                    return Err(format!(
                        "{id} runs as process {pid}, which this demo did not start: end that first (kill {pid})"
                    ));
                }
                if order != Order::Start {
                    return Err(format!(
                        "{id} does not run; quire demo start {id} starts it"
                    ));
                }
                let running = Running::start(&self.node, &self.dir)?;
                let pid = running.pid();
                self.running = Some(running);
                self.died.send_modify(|dead| dead.retain(|dead| dead != id));
                Ok(format!("{id} is started (process {pid})"))
            }
        }
    }
}

/// Ready once the demo ends, and ever after.
async fn demo_ends(stopping: &mut watch::Receiver<bool>) {
    // An error says that the demo itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(e) => format!("its exit status is not known: {e}"),
    }
}
