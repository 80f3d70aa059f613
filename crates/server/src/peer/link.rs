//! The outgoing side: keeps a link to one peer, for as long as the host wants it.
//!
//! A peer's address may be a name. It is resolved each time that the link is made, and never while
//! it is up: a peer that went elsewhere has broken it. Where it means several IPs they are tried in
//! order, and the first is taken where the peer itself answers: another node, or another cluster's,
//! refuses the handshake by name. All connections of a link go to that IP.

use super::{
    frame::MESSAGE_LEN_MAX,
    handshake::{HandshakeError, Hello, Refusal},
    queue::Queue,
};
use crate::{
    clock,
    core::Core,
    host::{Host, Lane, LinkState, NotAdmitted},
    resolve::{Lookup, ResolveError},
};
use bytes::{Bytes, BytesMut};
use model::{Address, NodeId, Now, Parts};
use rustix::net::sockopt;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::Notify,
    task::spawn_local,
    time::{sleep, timeout},
};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After so long it is said that a name is not resolved; its look-up goes on.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Reasons that are told of until a link is made.
const TOLD_MAX: usize = 16;
/// What was written and isn't acknowledged for so long breaks the connection.
const UNACKNOWLEDGED_MS_MAX: u32 = 10_000;

/// The link to one peer.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) addr: Address,
    /// Messages are taken.
    up: Cell<bool>,
    cut: Cell<bool>,
    ended: Cell<bool>,
    ordinary: Channel,
    bulk: Channel,
    control: Channel,
    /// The link is to be given up and made anew.
    reset: Notify,
    queue_bytes_max: Cell<usize>,
}

/// One of a link's connections.
#[derive(Default)]
struct Channel {
    queue: RefCell<Queue>,
    /// The queue has grown.
    grown: Notify,
}

/// Why a link was given up.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// At each IP that a name has, and why not there.
    #[error("{0}")]
    Nowhere(String),
    #[error("can't connect within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed by the peer")]
    Closed,
    #[error("given up: it was healed after a cut, took too little, or isn't wanted any more")]
    Reset,
}

impl LinkError {
    /// What the peer itself has against this node.
    fn not_admitted(&self) -> Option<&NotAdmitted> {
        match self {
            LinkError::Handshake(HandshakeError::Refused(Refusal::NotAdmitted(why))) => Some(why),
            _ => None,
        }
    }
}

/// Why no link could be made, as far as it was told: it is tried twice a second for as long as it
/// takes, and reasons may take turns.
#[derive(Default)]
struct Told(BTreeSet<String>);

impl Told {
    fn is_news(&mut self, reason: String) -> bool {
        self.0.len() < TOLD_MAX && self.0.insert(reason)
    }
}

impl Link {
    pub(crate) fn start<H: Host>(core: Rc<Core<H>>, peer: NodeId, addr: Address) -> Rc<Self> {
        let link = Rc::new(Link {
            peer,
            addr,
            up: Cell::new(false),
            cut: Cell::new(false),
            ended: Cell::new(false),
            ordinary: Channel::default(),
            bulk: Channel::default(),
            control: Channel::default(),
            reset: Notify::new(),
            queue_bytes_max: Cell::new(core.limits().peer_queue_bytes_max),
        });
        spawn_local(link.clone().run(core));
        link
    }

    pub(crate) fn set_queue_bytes_max(&self, bytes: usize) {
        self.queue_bytes_max.set(bytes);
    }

    /// The host doesn't want it any more.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        self.give_up();
    }

    /// Nothing more goes out over it; it is made anew.
    pub(crate) fn sever(&self) {
        self.up.set(false);
        self.give_up();
    }

    /// What the emulation says now. A link that was cut has lost messages: healed, it is made
    /// anew, so that both sides know.
    pub(crate) fn observe(&self, state: LinkState) {
        let cut = state == LinkState::Cut;
        if cut && !self.cut.get() {
            self.ordinary.queue.borrow_mut().cut();
            self.bulk.queue.borrow_mut().cut();
            self.control.queue.borrow_mut().cut();
        } else if !cut && self.cut.get() {
            self.give_up();
        }
        self.cut.set(cut);
    }

    /// Queues a message; drops it while the link is down or, but for bypass, cut.
    pub(crate) fn send(&self, lane: Lane, message: Parts, state: LinkState, now: Now) {
        if !self.up.get() {
            return;
        }
        if message.len() > MESSAGE_LEN_MAX {
            // The gap must not go unnoticed.
            tracing::error!(peer = %self.peer, len = message.len(), "a message is too long to send: link reset");
            return self.give_up();
        }
        let channel = match lane {
            Lane::Ordinary | Lane::Bypass => &self.ordinary,
            Lane::Bulk => &self.bulk,
            Lane::Control => &self.control,
        };
        match (lane, state) {
            (Lane::Bypass, _) => channel.queue.borrow_mut().push_bypass(message),
            (_, LinkState::Cut) => return,
            (_, LinkState::Up(latency)) => {
                channel
                    .queue
                    .borrow_mut()
                    .push(message, latency, now.monotonic);
            }
        }
        if self.queued_bytes() > self.queue_bytes_max.get() {
            tracing::warn!(peer = %self.peer, bytes = self.queued_bytes(), "the peer takes too little: link reset");
            return self.give_up();
        }
        channel.grown.notify_one();
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        let channels = [&self.ordinary, &self.bulk, &self.control];
        channels.map(|c| c.queue.borrow().bytes()).iter().sum()
    }

    fn give_up(&self) {
        self.up.set(false);
        self.reset.notify_one();
    }

    async fn run<H: Host>(self: Rc<Self>, core: Rc<Core<H>>) {
        let mut backoff = BACKOFF_MIN;
        let mut told = Told::default();
        let mut lookup = Lookup::default();
        while !self.ended.get() {
            // Wall-clock nanoseconds: greater than any of this node's former ones is not
            // needed, only that it differs.
            let session = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let session = (session.tv_sec as u64)
                .wrapping_mul(1_000_000_000)
                .wrapping_add(session.tv_nsec as u64);
            let error = match self.make(&core, &mut lookup, session).await {
                Ok((stream, at)) => {
                    tracing::info!(peer = %self.peer, addr = %self.addr, %at, "link made");
                    backoff = BACKOFF_MIN;
                    told = Told::default();
                    let Err(error) = self.keep(&core, stream, at, session).await;
                    tracing::info!(peer = %self.peer, %error, "link broken");
                    error
                }
                Err(error) => {
                    if let Some(why) = error.not_admitted() {
                        let mut host = core.host.borrow_mut();
                        host.not_admitted(&self.peer, why.clone(), clock::now());
                        core.turn.notify_one();
                    }
                    if told.is_news(error.to_string()) {
                        tracing::warn!(peer = %self.peer, addr = %self.addr, %error, "can't make a link; trying on");
                    }
                    error
                }
            };
            if !matches!(error, LinkError::Reset) {
                sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    /// Makes the ordinary connection; where the peer was found.
    async fn make<H: Host>(
        &self,
        core: &Core<H>,
        lookup: &mut Lookup,
        session: u64,
    ) -> Result<(TcpStream, SocketAddr), LinkError> {
        let resolving = lookup.find(&core.resolver, &self.addr, RESOLVE_TIMEOUT);
        let mut failed = Vec::new();
        for at in resolving.await? {
            if self.ended.get() {
                return Err(LinkError::Reset);
            }
            match self.connect(core, session, Lane::Ordinary, at).await {
                Ok(stream) => return Ok((stream, at)),
                Err(error) if self.addr.socket().is_some() || error.not_admitted().is_some() => {
                    return Err(error);
                }
                Err(error) => failed.push(format!("{at}: {error}")),
            }
        }
        // Resolvers change the order from one time to the next.
        failed.sort_unstable();
        Err(LinkError::Nowhere(failed.join("; ")))
    }

    async fn connect<H: Host>(
        &self,
        core: &Core<H>,
        session: u64,
        lane: Lane,
        at: SocketAddr,
    ) -> Result<TcpStream, LinkError> {
        let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(at))
            .await
            .map_err(|_| LinkError::ConnectTimeout)??;
        stream.set_nodelay(true)?;
        sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX).map_err(io::Error::from)?;
        let hello = Hello {
            lane,
            session,
            cluster: core.cluster.clone(),
            from: core.id.clone(),
            to: self.peer.clone(),
            boot: core.host.borrow().boot(),
        };
        hello.offer(&mut stream).await?;
        Ok(stream)
    }

    /// From `peer_connected` to `peer_disconnected`.
    async fn keep<H: Host>(
        &self,
        core: &Rc<Core<H>>,
        stream: TcpStream,
        at: SocketAddr,
        session: u64,
    ) -> Result<Infallible, LinkError> {
        self.ordinary.queue.take();
        self.bulk.queue.take();
        self.control.queue.take();
        // A reset that was asked for before this link existed isn't meant for it, but the
        // end of it is.
        let _ = timeout(Duration::ZERO, self.reset.notified()).await;
        if self.ended.get() {
            return Err(LinkError::Reset);
        }
        {
            let mut host = core.host.borrow_mut();
            self.cut.set(host.link(&self.peer) == LinkState::Cut);
            self.up.set(true);
            host.peer_connected(&self.peer, clock::now());
        }
        core.turn.notify_one();
        let result = tokio::select! {
            result = self.ordinary.drive(stream) => result,
            result = self.drive_further(core, session, at, Lane::Control, &self.control) => result,
            result = self.drive_further(core, session, at, Lane::Bulk, &self.bulk) => result,
            () = self.reset.notified() => Err(LinkError::Reset),
        };
        self.up.set(false);
        core.host
            .borrow_mut()
            .peer_disconnected(&self.peer, clock::now());
        core.turn.notify_one();
        result
    }

    /// Connects for a further lane once there is something to send.
    async fn drive_further<H: Host>(
        &self,
        core: &Core<H>,
        session: u64,
        at: SocketAddr,
        lane: Lane,
        channel: &Channel,
    ) -> Result<Infallible, LinkError> {
        while channel.queue.borrow().due().is_none() {
            channel.grown.notified().await;
        }
        let stream = self.connect(core, session, lane, at).await?;
        channel.drive(stream).await
    }
}

/// What is being written on a connection.
#[derive(Default)]
struct Outgoing {
    frames: BytesMut,
    /// What follows them, and is written from where it is.
    large: VecDeque<Bytes>,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.large.is_empty()
    }

    async fn write_to(&mut self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        writer.write_all_buf(&mut self.frames).await?;
        while let Some(large) = self.large.front_mut() {
            writer.write_all_buf(large).await?;
            self.large.pop_front();
        }
        Ok(())
    }
}

impl Channel {
    /// Writes what is due, until the connection breaks. There is a timer only while something
    /// waits for its time.
    async fn drive(&self, stream: TcpStream) -> Result<Infallible, LinkError> {
        let (mut reader, mut writer) = stream.into_split();
        let mut out = Outgoing::default();
        // The peer sends nothing here: whatever comes, the connection is of no use any more.
        let mut end = [0];
        loop {
            let now = clock::now().monotonic;
            let due = {
                let mut queue = self.queue.borrow_mut();
                if out.is_empty() {
                    out.large = queue.release(now, &mut out.frames);
                }
                queue.due()
            };
            if out.is_empty() {
                let wait = due.unwrap_or_default().saturating_sub(now);
                tokio::select! {
                    () = self.grown.notified() => {}
                    () = sleep(wait), if due.is_some() => {}
                    read = reader.read(&mut end) => {
                        read?;
                        return Err(LinkError::Closed);
                    }
                }
            } else {
                tokio::select! {
                    written = out.write_to(&mut writer) => written?,
                    read = reader.read(&mut end) => {
                        read?;
                        return Err(LinkError::Closed);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_also_where_they_take_turns() {
        let mut told = Told::default();
        let turns = ["refused", "no answer", "refused", "no answer"];
        let news = turns.map(|reason| told.is_news(reason.to_owned()));
        assert_eq!(news, [true, true, false, false]);
        let many = (0..1000).filter(|n| told.is_news(format!("reason {n}")));
        assert_eq!(many.count(), TOLD_MAX - 2);
    }
}
