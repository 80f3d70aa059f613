//! One node's host, its connections, and the turn: what happens after every batch of inputs.
//!
//! ```text
//! sockets readable ─▶ tasks read, hand over commands and messages ─▶ ask for a turn
//!                                                                       │
//!     turn (once, after all tasks that were ready):  flush → a sync thread, if one is free
//!                                                    effects: write replies, queue messages
//! ```
//!
//! Everything runs on one thread. The host is borrowed for one call or one batch, never
//! across an await.

use crate::{
    ServeError,
    aside::AsideThread,
    client::Client,
    clock,
    config::{Config, Limits},
    host::{ConnId, Doubt, Effect, Host, Lane},
    peer::{incoming::Session, link::Link},
    prefetch::PrefetchThreads,
    resolve::Resolver,
    sync::SyncThreads,
    turns::Turns,
};
use model::{NodeId, Now, Parts};
use rustc_hash::FxHashMap;
use std::{
    cell::{Cell, Ref, RefCell},
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};
use tokio::{sync::Notify, task::yield_now};

/// What one read of a socket takes at most, in bytes.
const SCRATCH_LEN: usize = 64 << 10;

/// How long clients, and what they cause, may keep the node's thread before the runtime looks at
/// sockets and timers again: by itself it does so only after 61 tasks, or when none is ready.
const ROUND: Duration = Duration::from_millis(10);

/// Why a node stops whose log can't be synced any more.
pub(crate) const SYNC_THREAD_ENDED: &str = "a log-sync thread has ended";

/// Clients' time with the node's thread, all of them together.
#[derive(Default)]
struct Round {
    /// When the first command came, by the monotonic clock.
    began: Cell<Option<Duration>>,
    is_over: Cell<bool>,
    number: Cell<u64>,
}

/// What all tasks of a node share.
pub(crate) struct Core<H: Host> {
    pub(crate) host: RefCell<H>,
    pub(crate) id: NodeId,
    pub(crate) cluster: String,
    limits: RefCell<Limits>,
    /// Who knows what the names of other nodes mean.
    pub(crate) resolver: Resolver,
    pub(crate) clients: RefCell<FxHashMap<ConnId, Rc<Client>>>,
    pub(crate) links: RefCell<BTreeMap<NodeId, Rc<Link>>>,
    /// The current link of each peer to us.
    pub(crate) sessions: RefCell<BTreeMap<NodeId, Rc<Session>>>,
    /// Where clients' bytes are read first; an idle client needs no buffer.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    pub(crate) sync: SyncThreads<H>,
    prefetch: PrefetchThreads,
    aside: AsideThread,
    /// Until when the waking task sleeps, by the monotonic clock.
    pub(crate) sleeps_until: Cell<Duration>,
    /// It is to wake earlier.
    pub(crate) rearm: Notify,
    /// Answers that are kept back while it is in doubt whether they may be said.
    withheld: RefCell<Option<Vec<Effect>>>,
    /// Such answers, once it isn't any more; carried out before anything else.
    released: RefCell<VecDeque<Effect>>,
    round: Round,
    /// Someone asks for a turn.
    pub(crate) turn: Notify,
    /// Whose turn it is, where one has not room for all.
    pub(crate) turns: Turns,
    /// Set once: commands are no longer taken.
    pub(crate) draining: Cell<bool>,
    /// Why the node must stop.
    pub(crate) fatal: RefCell<Option<ServeError>>,
    /// `fatal` was set.
    pub(crate) stop: Notify,
}

impl<H: Host> Core<H> {
    pub(crate) fn new(
        host: H,
        config: &Config,
        resolver: Resolver,
        sync: SyncThreads<H>,
        prefetch: PrefetchThreads,
        aside: AsideThread,
    ) -> Rc<Self> {
        Rc::new(Core {
            host: RefCell::new(host),
            id: config.id.clone(),
            cluster: config.cluster.name.clone(),
            limits: RefCell::new(config.limits.clone()),
            resolver,
            clients: RefCell::default(),
            links: RefCell::default(),
            sessions: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_LEN].into()),
            sync,
            prefetch,
            aside,
            sleeps_until: Cell::new(Duration::MAX),
            rearm: Notify::new(),
            withheld: RefCell::default(),
            released: RefCell::default(),
            round: Round::default(),
            turn: Notify::new(),
            turns: Turns::default(),
            draining: Cell::new(false),
            fatal: RefCell::new(None),
            stop: Notify::new(),
        })
    }

    pub(crate) fn limits(&self) -> Ref<'_, Limits> {
        self.limits.borrow()
    }

    /// From now on these hold, as far as they can change while the node runs.
    pub(crate) fn set_limits(&self, limits: Limits) {
        for link in self.links.borrow().values() {
            link.set_queue_bytes_max(limits.peer_queue_bytes_max);
        }
        self.host.borrow_mut().set_limits(&limits);
        self.limits.replace(limits);
    }

    /// Hands over what is to be flushed, then drains the effects.
    pub(crate) fn take_turn(self: &Rc<Self>) {
        if self.fatal.borrow().is_some() {
            return;
        }
        let now = clock::now();
        let mut host = self.host.borrow_mut();
        self.take_written(&mut *host, now);
        if self.sync.has_room()
            && let Some(flush) = host.take_flush(now)
            && !self.sync.submit(flush)
        {
            self.fail(ServeError::Stopped(SYNC_THREAD_ENDED.into()));
            return;
        }
        // What was kept back may be said by now.
        self.judge(&mut *host);
        while self.fatal.borrow().is_none() {
            let released = self.released.borrow_mut().pop_front();
            let Some(effect) = released.or_else(|| host.poll_effect()) else {
                break;
            };
            self.judge(&mut *host);
            let is_answer = matches!(
                effect,
                Effect::ClientOutput(_) | Effect::CloseClient(_) | Effect::Answer { .. }
            );
            if is_answer && self.is_in_doubt() {
                self.withheld
                    .borrow_mut()
                    .get_or_insert_with(Vec::new)
                    .push(effect);
            } else {
                self.carry_out(&mut *host, effect, now);
            }
        }
        if let Some(aside) = host.take_aside() {
            self.aside.submit(aside);
        }
        self.turns.turned();
        if host
            .wake_at()
            .is_some_and(|at| at < self.sleeps_until.get())
        {
            self.rearm.notify_one();
        }
    }

    /// A client's commands are about to be handed over, or are being. `now` is monotonic.
    pub(crate) fn enter_round(&self, now: Duration) {
        match self.round.began.get() {
            None => self.round.began.set(Some(now)),
            Some(began) => {
                let took = now.saturating_sub(began);
                self.round.is_over.set(took >= ROUND);
            }
        }
    }

    /// Whether clients have had their time.
    pub(crate) fn is_round_over(&self) -> bool {
        self.round.is_over.get()
    }

    /// Returns once sockets and timers have been looked at, and whoever they woke comes first.
    pub(crate) async fn await_next_round(&self) {
        let number = self.round.number.get();
        yield_now().await;
        if self.round.number.get() == number {
            self.round.number.set(number.wrapping_add(1));
            self.round.is_over.set(false);
            self.round.began.set(None);
        }
    }

    /// Tells the host what was written by now.
    pub(crate) fn take_written(&self, host: &mut H, now: Now) {
        while let Some(written) = self.sync.take_written() {
            host.flush_written(written, now);
        }
    }

    /// Hands over what is to be read for clients.
    pub(crate) fn start_prefetches(&self, host: &mut H) {
        while let Some((conn, prefetch)) = host.take_prefetch() {
            self.prefetch.submit(conn, prefetch);
        }
    }

    /// Keeps answers back while it is in doubt whether they may be said.
    pub(crate) fn judge(&self, host: &mut H) {
        let mut withheld = self.withheld.borrow_mut();
        match host.doubt(clock::now) {
            Doubt::Open => {
                withheld.get_or_insert_with(Vec::new);
            }
            Doubt::None => {
                if let Some(kept) = withheld.take() {
                    self.released.borrow_mut().extend(kept);
                }
            }
            Doubt::Void => {
                *withheld = None;
                self.sever();
            }
        }
    }

    /// Whether answers are kept back.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.withheld.borrow().is_some()
    }

    /// Writes to a client later, once it is no longer in doubt.
    pub(crate) fn write_later(&self, conn: ConnId) {
        if let Some(kept) = &mut *self.withheld.borrow_mut() {
            kept.push(Effect::ClientOutput(conn));
        }
    }

    fn carry_out(self: &Rc<Self>, host: &mut H, effect: Effect, now: Now) {
        match effect {
            Effect::ClientOutput(conn) => {
                if let Some(client) = self.client(conn) {
                    client.write(self, host);
                }
            }
            Effect::ClientResumed(conn) => {
                if let Some(client) = self.client(conn) {
                    client.resume();
                }
            }
            Effect::CloseClient(conn) => {
                if let Some(client) = self.client(conn) {
                    client.close_after_output();
                    client.write(self, host);
                }
            }
            Effect::Send { to, lane, message } => self.send(host, &to, lane, message, now),
            Effect::Answer { to, lane, message } => self.send(host, &to, lane, message, now),
            Effect::PeersChanged => self.reconcile_links(host),
            Effect::Stop(reason) => self.fail(ServeError::Stopped(reason)),
            Effect::Discard(reason) => self.fail(ServeError::StaleDisk(reason)),
        }
    }

    fn send(&self, host: &H, to: &NodeId, lane: Lane, message: Parts, now: Now) {
        if let Some(link) = self.links.borrow().get(to) {
            link.observe(host.link(to));
            link.send(lane, message, host.link(to), now);
        }
    }

    /// Closes every connection: what was about to be said on them is no longer true.
    fn sever(&self) {
        tracing::warn!("this process stood still for too long: all its connections are closed");
        for client in self.clients.borrow().values() {
            client.abort();
        }
        for link in self.links.borrow().values() {
            link.sever();
        }
    }

    /// Tells the host how much waits to be sent.
    pub(crate) fn tell_queued(&self, host: &mut H) {
        for (peer, link) in &*self.links.borrow() {
            host.peer_queued(peer, link.queued_bytes());
        }
    }

    /// Notices what the emulation did to links on which nothing is being sent.
    pub(crate) fn observe_links(&self) {
        let host = self.host.borrow();
        for (peer, link) in &*self.links.borrow() {
            link.observe(host.link(peer));
        }
    }

    /// Starts and ends links so that there is one to each of the host's peers.
    pub(crate) fn reconcile_links(self: &Rc<Self>, host: &H) {
        let wanted: BTreeMap<_, _> = host
            .peers()
            .into_iter()
            .filter(|(peer, _)| *peer != self.id)
            .collect();
        let mut links = self.links.borrow_mut();
        links.retain(|peer, link| {
            // The peer at another address is another link, though mostly to the same process.
            let keep = wanted.get(peer) == Some(&link.addresses);
            if !keep {
                link.end();
            }
            keep
        });
        for (peer, addresses) in wanted {
            links
                .entry(peer.clone())
                .or_insert_with(|| Link::start(self.clone(), peer, addresses));
        }
    }

    fn client(&self, conn: ConnId) -> Option<Rc<Client>> {
        self.clients.borrow().get(&conn).cloned()
    }

    pub(crate) fn fail(&self, why: ServeError) {
        self.fatal.borrow_mut().get_or_insert(why);
        self.stop.notify_one();
    }
}
