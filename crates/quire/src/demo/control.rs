//! Orders to a running demo from another terminal: `quire demo kill|stop|start NODE`.
//!
//! ```text
//! quire demo kill us-1 ──"kill us-1\n"──▶ DIR/demo.sock ─▶ the node's supervisor (`nodes`)
//!                      ◀──"ok us-1 is killed …\n", or "error …\n"──┘
//! ```
//! A connection carries one order. `start` is answered once the node takes clients.

use super::{
    home::Where,
    nodes::{Order, Orders},
    plan::{Plan, addr},
};
use crate::{Outcome, client::Client, output::sayln};
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    time::{Instant, sleep, timeout},
};

const SOCKET: &str = "demo.sock";
/// An order, and an answer, in bytes.
const LINE_LEN_MAX: u64 = 4_096;
/// From a connection to its order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node that was started may take until it answers clients.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than any order takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);

#[derive(clap::Subcommand)]
pub(super) enum OrderArgs {
    /// Kill a node of the demo that runs in another terminal (SIGKILL), as if its machine died.
    Kill {
        /// Its id, as in us-1.
        node: String,
    },
    /// Stop a node of that demo in order (SIGTERM).
    Stop {
        /// Its id, as in us-1.
        node: String,
    },
    /// Start a node of that demo again, and wait until it takes clients.
    Start {
        /// Its id, as in us-1.
        node: String,
    },
}

impl OrderArgs {
    fn line(&self) -> String {
        match self {
            OrderArgs::Kill { node } => format!("kill {node}\n"),
            OrderArgs::Stop { node } => format!("stop {node}\n"),
            OrderArgs::Start { node } => format!("start {node}\n"),
        }
    }
}

/// The order in a line, and whom it is for.
fn parse(line: &str) -> Result<(Order, &str), String> {
    let order = |word| match word {
        "kill" => Some(Order::Kill),
        "stop" => Some(Order::Stop),
        "start" => Some(Order::Start),
        _ => None,
    };
    let (word, node) = line.trim_end().split_once(' ').unwrap_or((line, ""));
    match order(word) {
        Some(order) if !node.is_empty() => Ok((order, node)),
        _ => Err("use kill, stop or start, and a node".into()),
    }
}

/// The demo's side. A path of a socket has hardly a hundred bytes; this one is short wherever
/// the directory is, as long as `dir` is open.
fn path_in(dir: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()).into()
}

/// Takes orders at `dir`, which this demo holds, so that a socket there is of one that is gone.
pub(super) fn listen(dir: &Path) -> Result<UnixListener, String> {
    let failed = |e: io::Error| format!("{}: {e}", dir.join(SOCKET).display());
    match fs::remove_file(dir.join(SOCKET)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let open = File::open(dir).map_err(failed)?;
    UnixListener::bind(path_in(&open)).map_err(failed)
}

/// The demo is over: nobody is to knock any more.
pub(super) fn unlisten(dir: &Path) {
    // It may be gone with the directory.
    let _ = fs::remove_file(dir.join(SOCKET));
}

/// Takes orders until it is dropped.
pub(super) async fn take(listener: UnixListener, orders: Orders, plan: Rc<Plan>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Want of descriptors passes.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One after the other: each is bounded, and people type them.
        let _ = serve(stream, &orders, &plan).await;
    }
}

async fn serve(stream: UnixStream, orders: &Orders, plan: &Plan) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut bounded = (&mut stream).take(LINE_LEN_MAX);
    timeout(ORDER_TIMEOUT, bounded.read_line(&mut line)).await??;
    let done = match parse(&line) {
        Ok((order, node)) => obey(order, node, orders, plan).await,
        Err(why) => Err(why),
    };
    let answer = match done {
        Ok(done) => format!("ok {done}\n"),
        Err(why) => format!("error {}\n", why.replace('\n', " ")),
    };
    stream.write_all(answer.as_bytes()).await
}

async fn obey(order: Order, node: &str, orders: &Orders, plan: &Plan) -> Result<String, String> {
    let done = orders.give(order, node).await?;
    let planned = plan.nodes.iter().find(|n| n.id == node);
    let Some(planned) = planned.filter(|_| order == Order::Start) else {
        return Ok(done);
    };
    let deadline = Instant::now() + START_TIMEOUT;
    let addr = addr(planned.client_port);
    loop {
        let answered = match Client::connect(&addr).await {
            Ok(mut client) => client.call(&["PING"]).await.is_ok(),
            Err(_) => false,
        };
        if answered {
            return Ok(done);
        }
        if orders.is_dead(node) {
            return Err(format!("{node} has ended again: its log says why"));
        }
        if Instant::now() >= deadline {
            return Err(format!("{done}, and does not answer yet: see its log"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The other terminal's side.
pub(super) async fn give(order: &OrderArgs, place: &Where) -> Outcome {
    let dir = place.path();
    let line = ask(&dir, &order.line()).await?;
    match line.trim_end().split_once(' ') {
        Some(("ok", done)) => {
            sayln!("{done}");
            Ok(ExitCode::SUCCESS)
        }
        Some(("error", why)) => Err(why.into()),
        _ => Err("the demo ended before it answered".into()),
    }
}

async fn ask(dir: &Path, order: &str) -> Result<String, String> {
    let none = || {
        format!(
            "no demo runs in {}: start one with `quire demo`, or say its --dir or --base-port",
            dir.display()
        )
    };
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => none(),
        _ => format!("{}: {e}", dir.join(SOCKET).display()),
    };
    let open = File::open(dir).map_err(failed)?;
    let stream = UnixStream::connect(path_in(&open)).await.map_err(failed)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(order.as_bytes()).await.map_err(failed)?;
    let mut answer = String::new();
    let mut bounded = stream.take(LINE_LEN_MAX);
    let read = timeout(ANSWER_TIMEOUT, bounded.read_line(&mut answer)).await;
    let late = || format!("the demo did not answer within {ANSWER_TIMEOUT:?}");
    read.map_err(|_| late())?.map_err(failed)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_as_it_is_written() {
        let node = || "us-1".to_owned();
        for (args, order) in [
            (OrderArgs::Kill { node: node() }, Order::Kill),
            (OrderArgs::Stop { node: node() }, Order::Stop),
            (OrderArgs::Start { node: node() }, Order::Start),
        ] {
            assert_eq!(parse(&args.line()), Ok((order, "us-1")));
        }
        for wrong in ["", "kill", "kill \n", "shoot us-1\n"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
