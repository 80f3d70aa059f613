//! The demo's nodes as child processes: started, watched, stopped.
//!
//! ```text
//!   start ──→ running ──exits by itself──→ reported on standard error, not restarted
//!                │ stop: SIGTERM ──exits──→ stopped
//!                └────────────── 4 s ─────→ SIGKILL
//! ```
//! Each node holds the reading end of a pipe whose writing end lives here: should the demo be
//! killed, the pipe ends and the nodes stop (`--stop-on-stdin-eof`). They are in process groups
//! of their own, so that Ctrl-C reaches the demo alone, which then stops them in order.

use super::plan::{NodePlan, Plan, Wan, addr};
use crate::demo::plan::Fsync;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, OpenOptions},
    net::TcpListener,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

/// From SIGTERM to SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(4);

/// The running nodes.
pub(super) struct Nodes {
    watchers: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// The ids of nodes that exited by themselves.
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
        let mut watchers = JoinSet::new();
        for node in &plan.nodes {
            let child = spawn(node, dir)?;
            watchers.spawn(watch_child(
                node.id.clone(),
                child,
                stopping.clone(),
                died.clone(),
            ));
        }
        Ok(Nodes {
            watchers,
            stop,
            dead,
        })
    }

    /// Those that exited by themselves.
    pub(super) fn dead(&self) -> Vec<String> {
        self.dead.borrow().clone()
    }

    /// Stops them all; returns when none is left, within five seconds.
    pub(super) async fn stop(mut self) {
        // Nobody listens any more if all have exited.
        let _ = self.stop.send(true);
        while self.watchers.join_next().await.is_some() {}
    }
}

fn spawn(node: &NodePlan, dir: &Path) -> Result<(Child, Option<ChildStdin>), String> {
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
    Ok((child, stdin))
}

async fn watch_child(
    id: String,
    (mut child, stdin): (Child, Option<ChildStdin>),
    mut stopping: watch::Receiver<bool>,
    died: watch::Sender<Vec<String>>,
) {
    tokio::select! {
        status = child.wait() => {
            eprintln!("quire: node {id} is gone: {}; it is not restarted", describe(status));
            died.send_modify(|dead| dead.push(id));
            return;
        }
        // An error says that the demo itself is gone.
        _ = stopping.changed() => {}
    }
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // The one failure is that it is gone already.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(TERM_TIMEOUT, child.wait()).await.is_err() {
        eprintln!("quire: node {id} did not stop within {TERM_TIMEOUT:?} and was killed");
        let _ = child.kill().await;
    }
    drop(stdin);
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(e) => format!("its exit status is not known: {e}"),
    }
}
