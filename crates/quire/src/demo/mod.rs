//! `quire demo`: the reference deployment as real processes on one machine, with emulated
//! links between its regions, until Ctrl-C.
//!
//! ```text
//! plan ─→ alone? ─→ ports free? ─→ home ─→ node.toml each ─→ start ─→ keyspace profiles ─→ all caught up
//!      ─→ [a plan's load ─→ a failover ─→ computed and measured (`proof`)] or [sample profiles ─→ short workload ─→ what was measured] ─→ ready ─→ Ctrl-C ─→ stop
//! ```
//! Meanwhile it takes orders from other terminals (`control`).

mod control;
mod home;
mod machine;
mod nodes;
mod plan;
mod proof;
mod showcase;

use crate::{
    Outcome,
    client::{Client, text_of},
    cluster_status::ClusterStatus,
    output::complain,
};
use capacity::demo::{DemoFile, Scaled};
use control::OrderArgs;
use home::{Home, Where};
use model::strategy::Placement;
use nodes::Nodes;
use plan::{Fsync, Plan, Wan, addr};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

/// How long the nodes may take until every replica is caught up.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether they are.
const READY_INTERVAL: Duration = Duration::from_millis(100);
/// The keyspace that the demo makes; the first, so its number is 0.
const KEYSPACE: &str = "profiles";
const KEYSPACE_ID: u32 = 0;

/// Run a whole cluster on this machine, with emulated links between its regions.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Where,
    /// Nodes of each region. The first region is the primary's.
    #[arg(long, default_value = "us=3,eu=2,asia=2")]
    nodes: Placement,
    /// A layout that `quire plan --write` wrote: its nodes and links, scaled down to this
    /// machine; prints what is measured beside what was computed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "wan", "preset"])]
    plan: Option<PathBuf>,
    /// The strategy of a system that is known, as `KEYSPACE CREATE` takes it: rds, aurora-like,
    /// github, reference, reference-sharded.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// The links between regions: `reference`, `none`, or a file.
    #[arg(long, value_name = "reference|none|FILE", default_value = "reference")]
    wan: Wan,
    /// When the nodes' logs are forced to disk: `always`, `os`, or every so many milliseconds.
    #[arg(long, value_name = "always|os|MS", default_value = "always")]
    fsync: Fsync,
    /// Load no sample profiles and run no workload.
    #[arg(long)]
    no_workload: bool,
    /// Show what the workload measured by node too, not only by region.
    #[arg(long)]
    by_node: bool,
    #[command(subcommand)]
    order: Option<OrderArgs>,
}

pub(crate) async fn run(args: Args) -> Outcome {
    if let Some(order) = &args.order {
        return control::give(order, &args.place).await;
    }
    let deployment = Deployment::of(&args)?;
    let plan = Rc::new(Plan::new(&deployment.nodes, args.place.base_port)?);
    let wan = match &args.wan {
        Wan::File(path) => {
            Wan::File(fs::canonicalize(path).map_err(|e| format!("--wan {}: {e}", path.display()))?)
        }
        other => other.clone(),
    };
    // The second of two that are alike would name all its ports, and not the first.
    home::refuse_second(&args.place)?;
    let taken = nodes::ports_in_use(&plan);
    if !taken.is_empty() {
        return Err(format!(
            "nothing was started, because ports are in use; stop what uses them or choose \
             others with --base-port:\n  {}",
            taken.join("\n  ")
        )
        .into());
    }
    // Before anything is started, so that no signal finds children and no one to stop them.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let home = Home::open(&args.place)?;
    let dir = home.path();
    let running = nodes::running_in(&plan, dir);
    if !running.is_empty() {
        return Err(still_running(&running, dir).into());
    }
    home.clear()?;
    let others = nodes::others_in(&plan, dir)?;
    if !others.is_empty() {
        return Err(format!(
            "{} holds the data of other nodes too ({}): give the same --nodes as before, or another --dir",
            dir.display(),
            others.join(", ")
        )
        .into());
    }
    let wan = match &deployment.proof {
        Some(scaled) => Wan::File(write_links(dir, &proof::links(scaled))?),
        None => wan,
    };
    nodes::write_configs(&plan, dir, &wan, args.fsync)?;
    let socket = control::listen(dir)?;
    let nodes = Nodes::start(&plan, dir)?;
    println!(
        "{} nodes started; data and logs in {}",
        plan.nodes.len(),
        dir.display()
    );

    let running = async {
        bring_up(&args, &deployment, &plan, &nodes, dir).await?;
        std::future::pending::<Result<(), String>>().await
    };
    let outcome = tokio::select! {
        failed = running => failed,
        () = control::take(socket, nodes.orders(), plan.clone()) => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    nodes.stop().await;
    control::unlisten(dir);
    if outcome.is_err() && home.is_temporary() {
        show_log_ends(&plan, dir);
    }
    let running = nodes::running_in(&plan, dir);
    if running.is_empty() {
        home.close();
    } else {
        complain(still_running(&running, dir));
    }
    outcome?;
    println!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What is to run.
struct Deployment {
    nodes: Placement,
    /// Of `KEYSPACE CREATE`, behind the name.
    options: Vec<String>,
    /// The plan that it is of, if it is of one.
    proof: Option<Scaled>,
}

impl Deployment {
    fn of(args: &Args) -> Result<Self, String> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        if let Some(path) = &args.plan {
            let called = path.display();
            let text = fs::read_to_string(path).map_err(|e| format!("can't read {called}: {e}"))?;
            let file = DemoFile::parse(&text).map_err(|e| {
                format!("{called}: {e}\n  quire plan FILE.toml --write DIR writes such a file, DIR/demo.toml")
            })?;
            let scaled = file.scaled(showcase::rate());
            let scaled = scaled.map_err(|e| format!("{called}: {e}"))?;
            let line = scaled.judged.layout.create_line(&scaled.wanted);
            let line = line.ok_or_else(|| format!("{called}: its layout has no primary"))?;
            // KEYSPACE CREATE name …
            let options = line.splitn(4, ' ').nth(3).unwrap_or_default();
            let nodes = proof::placement(&scaled).parse();
            return Ok(Deployment {
                nodes: nodes.map_err(|e| format!("{called}: {e}"))?,
                options: words(options),
                proof: Some(scaled),
            });
        }
        let options = match &args.preset {
            Some(preset) => vec!["PRESET".into(), preset.clone()],
            None => words(&format!(
                "TOPOLOGY primary-replica ACK async PLACE {}",
                args.nodes
            )),
        };
        Ok(Deployment {
            nodes: args.nodes.clone(),
            options,
            proof: None,
        })
    }
}

fn write_links(dir: &Path, text: &str) -> Result<PathBuf, String> {
    let path = dir.join("links.toml");
    fs::write(&path, text)
        .and_then(|()| fs::canonicalize(&path))
        .map_err(|e| format!("can't write {}: {e}", path.display()))
}

/// Names nodes that this demo did not start and that run on its directory.
fn still_running(running: &[(String, u32)], dir: &Path) -> String {
    let ids: Vec<&str> = running.iter().map(|(id, _)| id.as_str()).collect();
    let pids: Vec<String> = running.iter().map(|(_, pid)| pid.to_string()).collect();
    let (verb, them) = match ids.len() {
        1 => ("runs", "it"),
        _ => ("run", "them"),
    };
    format!(
        "{} still {verb} on {}, started by hand, not by this demo; stop {them} with: kill {}",
        ids.join(", "),
        dir.display(),
        pids.join(" ")
    )
}

/// From running processes to `ready`.
async fn bring_up(
    args: &Args,
    deployment: &Deployment,
    plan: &Plan,
    nodes: &Nodes,
    dir: &Path,
) -> Result<(), String> {
    let first = addr(plan.nodes[0].client_port);
    let deadline = Instant::now() + READY_TIMEOUT;
    let options = &deployment.options;
    wait(deadline, nodes, dir, || create_keyspace(&first, options)).await?;
    wait(deadline, nodes, dir, || all_caught_up(&first)).await?;
    // The cluster may know a node before that node's clients can reach it.
    wait(deadline, nodes, dir, || all_answer(plan)).await?;
    if let Some(scaled) = deployment.proof.as_ref().filter(|_| !args.no_workload) {
        let proved = proof::run(plan, scaled, &nodes.orders(), dir).await;
        if let Err(why) = proved {
            complain(format_args!("nothing was proved: {why}; the nodes go on"));
        }
    } else if !args.no_workload
        && let Err(why) = showcase::run(plan, &first, args.by_node).await
    {
        complain(format_args!(
            "the sample workload failed: {why}; the nodes go on"
        ));
    }
    showcase::say_how_to_connect(plan, &args.place, dir).await;
    println!("ready");
    std::io::stdout().flush().map_err(|e| e.to_string())
}

/// Repeats `step` until it succeeds; an error when the deadline has passed, or when a node has
/// exited, since its replicas won't catch up then.
async fn wait<S: Future<Output = Result<(), String>>>(
    deadline: Instant,
    nodes: &Nodes,
    dir: &Path,
    mut step: impl FnMut() -> S,
) -> Result<(), String> {
    loop {
        let Err(why) = step().await else {
            return Ok(());
        };
        let dead = nodes.dead();
        if let Some(id) = dead.first() {
            let log = dir.join(id).join("log");
            return Err(format!(
                "{} exited before the cluster was ready; the reason stands in {}",
                dead.join(", "),
                log.display()
            ));
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "the cluster was not ready within {READY_TIMEOUT:?}: {why}; the nodes' logs \
                 are in {}/<node>/log",
                dir.display()
            ));
        }
        sleep(READY_INTERVAL).await;
    }
}

/// Makes the keyspace unless it is there from an earlier run.
async fn create_keyspace(addr: &str, options: &[String]) -> Result<(), String> {
    let mut client = Client::connect(addr).await.map_err(|e| e.to_string())?;
    if client.call(&["KEYSPACE", "SHOW", KEYSPACE]).await.is_ok() {
        return Ok(());
    }
    client.set_reply_timeout(Duration::from_secs(10));
    let mut create = vec!["KEYSPACE", "CREATE", KEYSPACE];
    create.extend(options.iter().map(String::as_str));
    let created = client.call(&create).await;
    created.map(drop).map_err(|e| e.to_string())
}

async fn all_caught_up(addr: &str) -> Result<(), String> {
    match status(addr).await?.not_ready(KEYSPACE_ID) {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

async fn all_answer(plan: &Plan) -> Result<(), String> {
    for node in &plan.nodes {
        let mut client = Client::connect(&addr(node.client_port))
            .await
            .map_err(|e| e.to_string())?;
        client.call(&["PING"]).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The cluster as the node at `addr` sees it.
async fn status(addr: &str) -> Result<ClusterStatus, String> {
    let mut client = Client::connect(addr).await.map_err(|e| e.to_string())?;
    let reply = client.call(&["QUIRE", "STATUS"]).await;
    let json = reply.and_then(text_of).map_err(|e| e.to_string())?;
    ClusterStatus::parse(&json).map_err(|e| format!("{addr}: {e}"))
}

/// The last words of each node, because a temporary directory is about to be deleted.
fn show_log_ends(plan: &Plan, dir: &Path) {
    const LINES: usize = 5;
    for node in &plan.nodes {
        let log = fs::read(dir.join(&node.id).join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("  {}: {line}", node.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_stay_are_named() {
        let one = [("us-1".to_owned(), 7)];
        assert_eq!(
            still_running(&one, Path::new("/d")),
            "us-1 still runs on /d, started by hand, not by this demo; stop it with: kill 7"
        );
        let two = [("us-1".to_owned(), 7), ("eu-1".to_owned(), 8)];
        let text = still_running(&two, Path::new("/d"));
        assert!(text.starts_with("us-1, eu-1 still run on"), "{text}");
        assert!(text.ends_with("stop them with: kill 7 8"), "{text}");
    }
}
