//! The accepting side: checks who comes, and hands its messages to the host.

use super::{
    frame::{self, FrameError, MESSAGE_LEN_MAX},
    handshake::{self, HandshakeError, Hello, Refusal},
};
use crate::{
    accept::Acceptor,
    clock,
    core::Core,
    host::{Host, Lane},
};
use bytes::BytesMut;
use model::Boot;
use std::{cell::Cell, io, rc::Rc};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{spawn_local, yield_now},
};

/// Room for one read, in bytes.
const READ_LEN: usize = 256 << 10;
/// The room for a message grows to so many times what has come of it: fast, that little is copied,
/// and never as far as a header claims.
const GROWTH: usize = 8;
/// After a read of so many bytes others are served before the next one.
const LONG_READ: usize = 64 << 10;

/// A peer's link to us, as long as no newer one has replaced it.
pub(crate) struct Session {
    number: u64,
    boot: Boot,
    alive: Cell<bool>,
    ended: Notify,
}

impl Session {
    fn end(&self) {
        self.alive.set(false);
        self.ended.notify_waiters();
    }
}

#[derive(Debug, thiserror::Error)]
enum IncomingError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Accepts peers for as long as the node runs.
pub(crate) async fn listen<H: Host>(core: Rc<Core<H>>, listener: TcpListener) {
    let open = Rc::new(Cell::new(0));
    let mut acceptor = Acceptor::new(listener, "a peer");
    loop {
        let (stream, addr) = acceptor.next().await;
        if open.get() >= core.limits().descriptors.peers_in {
            acceptor.tell(|_| {
                tracing::warn!(%addr, "too many connections on the peer port: some are closed");
            });
            continue;
        }
        open.set(open.get() + 1);
        let (core, open) = (core.clone(), open.clone());
        spawn_local(async move {
            if let Err(error) = serve(core, stream).await {
                tracing::warn!(%addr, %error, "a connection on the peer port was closed");
            }
            open.set(open.get() - 1);
        });
    }
}

async fn serve<H: Host>(core: Rc<Core<H>>, mut stream: TcpStream) -> Result<(), IncomingError> {
    stream.set_nodelay(true)?;
    let ours = core.host.borrow().introduction().release.protocol;
    let hello = match Hello::receive(&mut stream, ours).await {
        Err(error @ HandshakeError::Versions { .. }) => {
            // It understands an answer of any version.
            let refusal = Refusal::other(&error.to_string());
            handshake::answer(&mut stream, ours, Some(&refusal)).await?;
            return Err(error.into());
        }
        received => received?,
    };
    let current = core.sessions.borrow().get(&hello.from).cloned();
    let refusal = hello.refusal(&core.cluster, &core.id).or_else(|| {
        let is_linked = current.as_ref().is_some_and(|s| s.alive.get());
        let known = current.as_ref().is_some_and(|s| s.number == hello.session);
        let host = core.host.borrow();
        match host.admit(&hello.from, &hello.introduced, is_linked, clock::now()) {
            Err(why) => Some(Refusal::NotAdmitted(why)),
            Ok(()) if hello.lane != Lane::Ordinary && !known => {
                Some(Refusal::other("its link is not the current one"))
            }
            Ok(()) => None,
        }
    });
    handshake::answer(&mut stream, ours, refusal.as_ref()).await?;
    if let Some(refusal) = refusal {
        return Err(IncomingError::Refused(refusal.to_string()));
    }
    let session = match current {
        Some(session) if hello.lane != Lane::Ordinary => session,
        _ => begin(&core, &hello),
    };
    let result = tokio::select! {
        result = receive(&core, &hello, &session, &mut stream) => result,
        () = session.ended.notified() => Ok(()),
    };
    // One connection gone: the sender gives up the link, and so do we.
    session.end();
    result
}

/// A new link replaces the former one, of which nothing is delivered any more.
fn begin<H: Host>(core: &Core<H>, hello: &Hello) -> Rc<Session> {
    let session = Rc::new(Session {
        number: hello.session,
        boot: hello.introduced.boot,
        alive: Cell::new(true),
        ended: Notify::new(),
    });
    let former = core
        .sessions
        .borrow_mut()
        .insert(hello.from.clone(), session.clone());
    // A process that ended has closed its connections. One that is silent (its machine is cut off,
    // it stands still) has not, and the link to it would stay up although its successor is here.
    let elsewhere = former.is_some_and(|former| {
        let is_other = former.alive.get() && former.boot.nonce != hello.introduced.boot.nonce;
        former.end();
        is_other
    });
    core.host
        .borrow_mut()
        .peer_inbound(&hello.from, &hello.introduced, clock::now());
    if let Some(link) = core.links.borrow().get(&hello.from) {
        link.peer_came(elsewhere);
    }
    core.turn.notify_one();
    session
}

async fn receive<H: Host>(
    core: &Core<H>,
    hello: &Hello,
    session: &Session,
    stream: &mut TcpStream,
) -> Result<(), IncomingError> {
    let mut input = BytesMut::new();
    loop {
        let missing = frame::missing(&input, MESSAGE_LEN_MAX);
        input.reserve(missing.min(GROWTH * input.len()).max(READ_LEN));
        let read = stream.read_buf(&mut input).await?;
        if read == 0 || !session.alive.get() {
            return Ok(());
        }
        {
            let mut host = core.host.borrow_mut();
            let now = clock::now();
            while let Some(message) = frame::decode(&mut input, MESSAGE_LEN_MAX)? {
                host.peer_message(&hello.from, message, now);
            }
        }
        core.turn.notify_one();
        if read >= LONG_READ {
            // More is there: the turn of the others, this node's other peers above all.
            yield_now().await;
        }
    }
}
