//! Sockets and the runtime around one node, and nothing else.
//!
//! ```text
//!            clients          peers           HTTP           one thread, one tokio runtime
//!               │               │               │
//!           [client]         [peer]          [http]
//!               └──────▶ [core] ◀──────────────┘
//!                          │  ▲
//!                  [host::Host]│       the node: a state machine without IO
//!                          ▼  │
//!                        [sync]                              a second thread: the log's fsync
//! ```
//!
//! [`serve`] is the entrance. The server decides nothing: what a command means, whom a message
//! is for and what must be durable is the host's; see [`host`] for the line between the two.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "sockets, threads and clocks are what this crate is for"
)]

mod accept;
mod addresses;
mod aside;
mod client;
mod clock;
pub mod config;
mod core;
mod damaged;
mod data_dir;
mod descriptors;
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
mod http;
mod memory;
mod node_host;
mod peer;
mod prefetch;
mod process;
mod pulse;
mod reload;
mod resolve;
mod run;
mod signals;
mod sync;
mod traffic;
mod turned_away;
mod turns;
mod usage;

pub use config::{Config, ConfigError, Limits};
pub use data_dir::DataDirError;
pub use descriptors::{Descriptors, TooFewDescriptors};
pub use host::{
    Aside, AsideDone, ConnId, Doubt, Effect, Guess, Host, Introduction, Lane, LinkState,
    NotAdmitted, Prefetch, QueryBuffer,
};
pub use memory::default_cache_bytes;
pub use peer::frame::MESSAGE_LEN_MAX;
pub use process::who_uses;
pub use reload::Logs;
pub use resolve::Resolver;
pub use run::{RunError, run};

use crate::core::{Core, SYNC_THREAD_ENDED};
use aside::AsideThread;
use prefetch::PrefetchThreads;
use pulse::Pulse;
use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    time::Duration,
};
use sync::{Ended, SyncThreads};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::{
        mpsc::{Receiver, UnboundedReceiver},
        watch,
    },
    task::{LocalSet, spawn_local, yield_now},
    time::{MissedTickBehavior, interval, timeout},
};

/// Between two calls of [`Host::tick`].
const TICK: Duration = Duration::from_millis(20);
/// Between two calls of [`Host::wake`], at least.
const WAKE_MIN: Duration = Duration::from_micros(500);
/// For letting other nodes take over when this one is told to stop.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// For answers to what clients have asked until then.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);
/// For making durable what is pending when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error("{field} {addr}: {source}{}", hint(source))]
    Bind {
        /// The field of the configuration.
        field: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The runtime, a thread or the signal handlers can't be set up.
    #[error("can't start: {0}")]
    Start(#[from] io::Error),
    /// The host gave up.
    #[error("the node stopped: {0}")]
    Stopped(String),
    /// Its disk is an older state of what it was, and must not be used again.
    #[error("{0}")]
    StaleDisk(String),
    /// The log could not be closed.
    #[error("the log could not be closed: {0}; the next start is as after a crash")]
    NotClosed(String),
    /// What was pending could not be made durable in time.
    #[error("the log was not durable {} s after the node was told to stop; unacknowledged writes may be lost", STOP_TIMEOUT.as_secs())]
    NotFlushed,
}

/// What is likely wrong with an address that can't be listened on.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there: is this node running already?"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: listen on one that it has, or on 0.0.0.0 or [::], and advertise the one at which it is reached"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        _ => "",
    }
}

/// The listening sockets of a node.
#[derive(Debug)]
pub struct Listeners {
    client: StdListener,
    peer: StdListener,
    http: StdListener,
}

impl Listeners {
    /// Listens on the addresses of `config`; port 0 takes any free one.
    pub fn bind(config: &Config) -> Result<Self, ServeError> {
        let bind = |field, addr: SocketAddr| {
            StdListener::bind(addr)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(|source| ServeError::Bind {
                    field,
                    addr,
                    source,
                })
        };
        Ok(Listeners {
            client: bind("client_addr", config.client_addr)?,
            peer: bind("peer_addr", config.peer_addr)?,
            http: bind("http_addr", config.http_addr)?,
        })
    }

    /// Where it listens: for clients, peers, HTTP.
    pub fn addresses(&self) -> io::Result<[SocketAddr; 3]> {
        Ok([
            self.client.local_addr()?,
            self.peer.local_addr()?,
            self.http.local_addr()?,
        ])
    }
}

/// Runs a node until SIGTERM, SIGINT or [`Effect::Stop`].
///
/// # Errors
/// `Ok` only if the node was told to stop and everything pending was made durable.
pub fn serve<H: Host>(config: &Config, host: H) -> Result<(), ServeError> {
    let told = signals::told_to_stop(|| tracing::info!("SIGHUP: nothing is to be read again"));
    let (_, reloads) = watch::channel(config.limits.clone());
    serve_until(config, Listeners::bind(config)?, host, told, reloads)
}

/// Runs a node on listening sockets until `stop` is ready or [`Effect::Stop`]; under those limits
/// that `reloads` had last.
pub fn serve_until<H: Host>(
    config: &Config,
    listeners: Listeners,
    host: H,
    stop: impl Future<Output = ()>,
    reloads: watch::Receiver<Limits>,
) -> Result<(), ServeError> {
    let resolver = Resolver::system();
    serve_with(config, listeners, host, resolver, stop, reloads)
}

/// The same, where `resolver` knows what the names of other nodes mean.
pub fn serve_with<H: Host>(
    config: &Config,
    listeners: Listeners,
    host: H,
    resolver: Resolver,
    stop: impl Future<Output = ()>,
    reloads: watch::Receiver<Limits>,
) -> Result<(), ServeError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (sync, results) = SyncThreads::<H>::start()?;
    let (prefetch, prefetched) = PrefetchThreads::start()?;
    let (aside, asides) = AsideThread::start()?;
    let core = Core::new(host, config, resolver, sync, prefetch, aside);
    let tasks = LocalSet::new();
    tasks.spawn_local(take_limits(core.clone(), reloads));
    let ended = (results, prefetched, asides);
    let result = runtime.block_on(tasks.run_until(serve_on(core, listeners, ended, stop)));
    // Connections end here; the sync threads with the last owner of the core.
    drop(tasks);
    result
}

async fn serve_on<H: Host>(
    core: Rc<Core<H>>,
    listeners: Listeners,
    (results, prefetched, asides): (
        Receiver<Option<Ended<H>>>,
        UnboundedReceiver<ConnId>,
        UnboundedReceiver<AsideDone>,
    ),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let accepting = [
        spawn_local(client::listen(
            core.clone(),
            TcpListener::from_std(listeners.client)?,
        )),
        spawn_local(peer::incoming::listen(
            core.clone(),
            TcpListener::from_std(listeners.peer)?,
        )),
        spawn_local(http::listen(
            TcpListener::from_std(listeners.http)?,
            core.limits().descriptors.http,
        )),
    ];
    core.reconcile_links(&*core.host.borrow());
    spawn_local(take_turns(core.clone()));
    spawn_local(take_results(core.clone(), results));
    spawn_local(take_prefetched(core.clone(), prefetched));
    spawn_local(take_asides(core.clone(), asides));
    spawn_local(tick(core.clone()));
    spawn_local(wake(core.clone()));
    core.turn.notify_one();

    tokio::select! {
        () = async { stop.await; hand_over(&core).await } => {}
        () = core.stop.notified() => {}
    }
    for task in &accepting {
        task.abort();
    }
    core.draining.set(true);
    let flushed = timeout(STOP_TIMEOUT, drain(&core)).await;
    if let Some(fatal) = core.fatal.borrow_mut().take() {
        return Err(fatal);
    }
    flushed.map_err(|_| ServeError::NotFlushed)?;
    let closed = core.host.borrow_mut().close();
    closed.map_err(ServeError::NotClosed)
}

async fn take_limits<H: Host>(core: Rc<Core<H>>, mut reloads: watch::Receiver<Limits>) {
    while reloads.changed().await.is_ok() {
        let limits = reloads.borrow_and_update().clone();
        core.set_limits(limits);
    }
}

/// Once after each batch of inputs: whoever asks is queued behind the tasks that are ready,
/// so one turn serves all of them.
async fn take_turns<H: Host>(core: Rc<Core<H>>) {
    loop {
        core.turn.notified().await;
        core.take_turn();
    }
}

async fn take_results<H: Host>(core: Rc<Core<H>>, mut results: Receiver<Option<Ended<H>>>) {
    while let Some(ended) = results.recv().await {
        let Some((thread, synced)) = ended else {
            return core.fail(ServeError::Stopped(SYNC_THREAD_ENDED.into()));
        };
        core.sync.finished(thread);
        let now = clock::now();
        let mut host = core.host.borrow_mut();
        core.take_written(&mut *host, now);
        host.flush_synced(synced, now);
        drop(host);
        core.take_turn();
    }
}

async fn take_prefetched<H: Host>(core: Rc<Core<H>>, mut prefetched: UnboundedReceiver<ConnId>) {
    while let Some(conn) = prefetched.recv().await {
        let now = clock::now();
        core.host.borrow_mut().prefetched(conn, now);
        while let Ok(conn) = prefetched.try_recv() {
            core.host.borrow_mut().prefetched(conn, now);
        }
        core.take_turn();
    }
}

async fn take_asides<H: Host>(core: Rc<Core<H>>, mut asides: UnboundedReceiver<AsideDone>) {
    while let Some(done) = asides.recv().await {
        core.host.borrow_mut().aside_done(done, clock::now());
        core.take_turn();
    }
}

async fn tick<H: Host>(core: Rc<Core<H>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pulse = Pulse::new(TICK, clock::monotonic(), clock::thread());
    loop {
        ticks.tick().await;
        // What peers have sent by now is heard before anybody is judged silent.
        yield_now().await;
        let held_up = pulse.beat(clock::monotonic(), clock::thread());
        held_up.tell();
        {
            let mut host = core.host.borrow_mut();
            host.held_up(held_up.late);
            core.tell_queued(&mut *host);
            host.tick(clock::now());
        }
        core.observe_links();
        core.take_turn();
    }
}

/// Between two ticks, when the host asks for it: what it gathered goes out. The runtime's timer
/// counts whole milliseconds.
async fn wake<H: Host>(core: Rc<Core<H>>) {
    loop {
        let now = clock::now().monotonic;
        let wanted = core.host.borrow().wake_at();
        let wait = match wanted {
            Some(at) => at.saturating_sub(now).clamp(WAKE_MIN, TICK),
            None => TICK,
        };
        core.sleeps_until.set(now + wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                let now = clock::now();
                if wanted.is_some_and(|at| at <= now.monotonic) {
                    core.host.borrow_mut().wake(now);
                    core.take_turn();
                }
            }
            () = core.rearm.notified() => {}
        }
    }
}

/// Lets other nodes take over, and then answers what clients have asked: both while the node
/// goes on as ever, and within bounds.
async fn hand_over<H: Host>(core: &Rc<Core<H>>) {
    async fn until(within: Duration, done: impl Fn() -> bool) -> bool {
        let done = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(within, done).await.is_ok()
    }
    core.host.borrow_mut().end(clock::now());
    core.turn.notify_one();
    if !until(HAND_OVER_TIMEOUT, || core.host.borrow().has_handed_over()).await {
        tracing::warn!("not everything could be handed over in time: the node stops all the same");
    }
    core.draining.set(true);
    if !until(ANSWERS_TIMEOUT, || !core.host.borrow().owes_answers()).await {
        tracing::warn!("some clients were not answered in time: the node stops all the same");
    }
}

/// Until nothing is left to flush; replies that this makes ready are written.
async fn drain<H: Host>(core: &Rc<Core<H>>) {
    loop {
        core.take_turn();
        if core.fatal.borrow().is_some() {
            return;
        }
        if !core.sync.busy() {
            // What was queued for peers and clients in the last turn goes out.
            yield_now().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
