//! The outgoing side: keeps a link to one peer, for as long as the host wants it.
//!
//! A peer's address may be a name. It is resolved each time that the link is made, and never while
//! it is up: a peer that went elsewhere has broken it, or comes in as another boot while the former
//! is not heard. Where it means several IPs they are tried in order, and so are the peer's other
//! addresses: the first is taken where the peer itself answers. Another node, or another cluster's,
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
    resolve::Lookup,
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
/// The same where no name means anything: each attempt asks a server that many may ask.
const BACKOFF_UNKNOWN_MAX: Duration = Duration::from_secs(2);
/// The same where the peer speaks no version that this node does: it takes a person to change that.
const BACKOFF_UNLIKE_MAX: Duration = Duration::from_secs(10);
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
    /// Where it is reached, the likeliest first.
    pub(crate) addresses: Vec<Address>,
    /// Messages are taken.
    up: Cell<bool>,
    cut: Cell<bool>,
    ended: Cell<bool>,
    ordinary: Channel,
    bulk: Channel,
    control: Channel,
    /// The link is to be given up and made anew.
    reset: Notify,
    /// The peer has come in: it is there.
    came: Notify,
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
    /// At each place where it was tried, and why not there.
    #[error("{0}")]
    Nowhere(String),
    /// The same, and at one of them there is a peer that speaks no version that this node does.
    #[error("{0}")]
    Unlike(String),
    /// There was no place to try: why no name means one.
    #[error("{0}")]
    Unknown(String),
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

    /// The wait before the attempt after the next, where it was `backoff` before this one.
    fn longer(&self, backoff: Duration) -> Duration {
        let max = match self {
            LinkError::Unknown(_) => BACKOFF_UNKNOWN_MAX,
            LinkError::Unlike(_) => BACKOFF_UNLIKE_MAX,
            _ => BACKOFF_MAX,
        };
        (backoff * 2).min(max)
    }
}

/// The ordinary connection of a link that was made.
struct Made {
    stream: TcpStream,
    /// The protocol version that it speaks.
    protocol: u32,
    at: SocketAddr,
    /// Which of the peer's addresses led there.
    address: usize,
    /// Where it was tried before, and why it was not there.
    failed: Failed,
}

/// Where a peer was not, and why.
#[derive(Default)]
struct Failed {
    lines: Vec<String>,
    tried: Vec<SocketAddr>,
    /// Something there speaks no version that this node does.
    unlike: bool,
}

impl Failed {
    /// One text for the same failures, also where resolvers change the order from one time to the
    /// next.
    fn text(&mut self) -> String {
        self.lines.sort_unstable();
        self.lines.join("; ")
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
    pub(crate) fn start<H: Host>(
        core: Rc<Core<H>>,
        peer: NodeId,
        addresses: Vec<Address>,
    ) -> Rc<Self> {
        let link = Rc::new(Link {
            peer,
            addresses,
            up: Cell::new(false),
            cut: Cell::new(false),
            ended: Cell::new(false),
            ordinary: Channel::default(),
            bulk: Channel::default(),
            control: Channel::default(),
            reset: Notify::new(),
            came: Notify::new(),
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

    /// The peer has made a link to this node: it need not be waited for. `elsewhere`: as another
    /// process than the one that this link may still lead to.
    pub(crate) fn peer_came(&self, elsewhere: bool) {
        match self.up.get() {
            true if elsewhere => self.sever(),
            true => {}
            false => self.came.notify_one(),
        }
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
        let mut lookups = Vec::new();
        lookups.resize_with(self.addresses.len(), Lookup::default);
        while !self.ended.get() {
            // Wall-clock nanoseconds: greater than any of this node's former ones is not
            // needed, only that it differs.
            let session = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let session = (session.tv_sec as u64)
                .wrapping_mul(1_000_000_000)
                .wrapping_add(session.tv_nsec as u64);
            let error = match self.make(&core, &mut lookups, session).await {
                Ok(mut made) => {
                    let (address, at) = (&self.addresses[made.address], made.at);
                    tracing::info!(peer = %self.peer, addr = %address, %at, protocol = made.protocol, "link made");
                    if made.address > 0 {
                        let (advertised, failed) = (&self.addresses[0], made.failed.text());
                        tracing::warn!(peer = %self.peer, %advertised, %address, %failed, "the peer is not reached where it says that it is, but as this node's cluster.peers has it");
                    }
                    backoff = BACKOFF_MIN;
                    told = Told::default();
                    let Err(error) = self.keep(&core, made.stream, at, session).await;
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
                        tracing::warn!(peer = %self.peer, addr = self.shown(), %error, "can't make a link; trying on");
                    }
                    error
                }
            };
            if !matches!(error, LinkError::Reset) {
                tokio::select! {
                    () = sleep(backoff) => {}
                    () = self.came.notified() => {}
                }
                backoff = error.longer(backoff);
            }
        }
    }

    /// Its addresses, as a log line has them.
    fn shown(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(Address::to_string).collect();
        addresses.join(", ")
    }

    /// Makes the ordinary connection. `lookups`: one for each of the peer's addresses.
    async fn make<H: Host>(
        &self,
        core: &Core<H>,
        lookups: &mut [Lookup],
        session: u64,
    ) -> Result<Made, LinkError> {
        let is_only = self.addresses.len() == 1;
        // Where there is another address to try its turn comes soon; what is found meanwhile is there
        // for the next attempt.
        let within = if is_only {
            RESOLVE_TIMEOUT
        } else {
            CONNECT_TIMEOUT
        };
        let mut failed = Failed::default();
        for (n, (address, lookup)) in self.addresses.iter().zip(lookups).enumerate() {
            let places = match lookup.find(&core.resolver, address, within).await {
                Ok(places) => places,
                Err(error) => {
                    failed.lines.push(match is_only {
                        true => error.to_string(),
                        false => format!("{address}: {error}"),
                    });
                    continue;
                }
            };
            for at in places {
                if self.ended.get() {
                    return Err(LinkError::Reset);
                }
                if failed.tried.contains(&at) {
                    continue;
                }
                failed.tried.push(at);
                match self.connect(core, session, Lane::Ordinary, at).await {
                    Ok((stream, protocol)) => {
                        return Ok(Made {
                            stream,
                            protocol,
                            at,
                            address: n,
                            failed,
                        });
                    }
                    Err(error) if error.not_admitted().is_some() => return Err(error),
                    Err(error @ LinkError::Handshake(HandshakeError::Versions { .. })) => {
                        failed.unlike = true;
                        failed.lines.push(format!("{at}: {error}"));
                    }
                    Err(error) if is_only && address.socket().is_some() => return Err(error),
                    Err(error) => failed.lines.push(format!("{at}: {error}")),
                }
            }
        }
        let why = failed.text();
        Err(match failed.tried.is_empty() {
            true => LinkError::Unknown(why),
            false if failed.unlike => LinkError::Unlike(why),
            false => LinkError::Nowhere(why),
        })
    }

    async fn connect<H: Host>(
        &self,
        core: &Core<H>,
        session: u64,
        lane: Lane,
        at: SocketAddr,
    ) -> Result<(TcpStream, u32), LinkError> {
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
            introduced: core.host.borrow().introduction(),
        };
        let protocol = hello.offer(&mut stream).await?;
        Ok((stream, protocol))
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
        let (stream, _) = self.connect(core, session, lane, at).await?;
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
    fn name_servers_are_asked_less_often_than_places_are_tried() {
        let after = |error: &LinkError, from| (0..20).fold(from, |wait, _| error.longer(wait));
        let unknown = LinkError::Unknown(String::new());
        let nowhere = LinkError::Nowhere(String::new());
        let known = after(&nowhere, BACKOFF_MIN);
        assert_eq!(known, BACKOFF_MAX);
        let waited = after(&unknown, known);
        assert_eq!(waited, BACKOFF_UNKNOWN_MAX);
        assert_eq!(nowhere.longer(waited), BACKOFF_MAX);
        let unlike = LinkError::Unlike(String::new());
        assert_eq!(after(&unlike, known), BACKOFF_UNLIKE_MAX);
    }

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
