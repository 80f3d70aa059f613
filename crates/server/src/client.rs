//! A client's connection: bytes in, commands to the host, replies out.
//!
//! All complete commands of one read are handed over before any reply is written, so pipelined
//! commands cost one read and one write. A client that may not go on (its host says so: it
//! waits, or doesn't take its replies) is neither read nor decoded, and TCP holds it back.
//! Interest in writing exists only while the socket takes no more. A client that closes its
//! sending side is gone, as in Redis, but replies that are ready are written first.

use crate::{
    accept::Acceptor,
    clock,
    core::Core,
    descriptors::ADMINISTRATION,
    host::{AHEAD_MAX, ConnId, Guess, Host, QueryBuffer},
    turned_away::TurnedAway,
    turns::Place,
};
use bytes::{Buf, BytesMut};
use resp::{ahead::Names, request::RequestDecoder};
use rustix::net::{Shutdown, shutdown, sockopt};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::{spawn_local, yield_now},
    time::{sleep, timeout},
};

/// Commands that one client may run before the others have a turn.
const COMMANDS_PER_TURN_MAX: usize = 1024;
/// After so many it is looked whether clients have had their time.
const COMMANDS_PER_LOOK: usize = 16;
/// Up to so many arguments a command needs no memory of its own.
const ARGS_INLINE: usize = 16;
/// What was consumed of a client's input is not held for what was not if it is longer.
const CONSUMED_KEPT_MAX: usize = 64 << 10;
/// How long a connection that is being closed may take its last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what a closed client still sends is read away, so that the kernel doesn't
/// answer it with a reset that would destroy our last reply.
const LINGER: Duration = Duration::from_secs(1);
/// Memory that a client's output keeps when all of it is written.
const KEPT_MAX: usize = 256 << 10;
/// Bytes read away at once.
const LINGER_READ_LEN: usize = 16 << 10;
/// As in Redis.
const TOO_MANY: &str = "ERR max number of clients reached";
/// Within so long a client that is one too many must have asked for administration, which it may.
const ASK_WITHIN: Duration = Duration::from_millis(250);

/// A connection's writing side and state.
pub(crate) struct Client {
    id: ConnId,
    writer: OwnedWriteHalf,
    /// A task waits for the socket to take more.
    writing: Cell<bool>,
    /// To be closed once the output is written; no more commands.
    closing: Cell<bool>,
    /// The host knows it no more.
    gone: Cell<bool>,
    /// It has sent a command, if it is one too many.
    asked: Cell<bool>,
    /// The reading side waits until it may go on.
    paused: Cell<bool>,
    resumed: Notify,
    /// Wakes the reading side while it waits for bytes.
    waker: RefCell<Option<Waker>>,
    /// Where its commands stand behind others'.
    place: Place,
    /// Bytes of the output that were written and whose memory it still has.
    written: Cell<usize>,
}

/// Accepts clients for as long as the node runs.
pub(crate) async fn listen<H: Host>(core: Rc<Core<H>>, listener: TcpListener) {
    let mut next = 0;
    let turned_away = TurnedAway::default();
    let mut acceptor = Acceptor::new(listener, "a client");
    loop {
        let (stream, addr) = acceptor.next().await;
        let (clients, clients_max) = (core.clients.borrow().len(), core.limits().max_clients);
        if clients >= clients_max {
            acceptor.tell(|_| {
                tracing::warn!(clients_max, "there are as many clients as there may be");
            });
        }
        let admitted = core.host.borrow().admit_client(addr);
        if admitted.is_err() {
            acceptor.tell(|_| {
                tracing::warn!(%addr, "a client of another machine was turned away: this node is in protected mode");
            });
        }
        let is_full = clients >= clients_max + ADMINISTRATION;
        if let Some(line) = admitted.err().or(is_full.then_some(TOO_MANY)) {
            crate::traffic::turned_away();
            turned_away.tell(stream, line);
            continue;
        }
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%addr, %error, "the client was gone at once");
            continue;
        }
        next += 1;
        let spare = clients >= clients_max;
        // The client counts before its task first runs, so that a burst of connections is not let
        // in beyond the limit.
        let (reader, writer) = stream.into_split();
        let client = Rc::new(Client::new(ConnId(next), writer));
        core.clients.borrow_mut().insert(client.id, client.clone());
        spawn_local(serve(core.clone(), reader, client, addr, spare));
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A client whose machine vanished is noticed, as in Redis.
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(300))?;
    Ok(())
}

/// Refuses a client that is one too many and has not asked for administration by now.
async fn refuse_idle<H: Host>(core: Rc<Core<H>>, client: Rc<Client>) {
    sleep(ASK_WITHIN).await;
    if !client.asked.get() && !client.closing.get() && !client.gone.get() {
        crate::traffic::turned_away();
        let mut host = core.host.borrow_mut();
        host.client_protocol_error(client.id, TOO_MANY, clock::now());
        core.turn.notify_one();
    }
}

/// `spare`: it is one too many, and only there for administration.
async fn serve<H: Host>(
    core: Rc<Core<H>>,
    reader: OwnedReadHalf,
    client: Rc<Client>,
    addr: SocketAddr,
    spare: bool,
) {
    let id = client.id;
    core.host
        .borrow_mut()
        .client_connected(id, addr, clock::now());
    if spare {
        spawn_local(refuse_idle(core.clone(), client.clone()));
    }
    let mut connection = Connection {
        spare,
        decoder: RequestDecoder::new(core.limits().resp()),
        pending: BytesMut::new(),
        more: false,
        told: QueryBuffer::default(),
        looked_ahead: 0,
        broken: false,
        reader,
        client: client.clone(),
        core: core.clone(),
    };
    if let Err(error) = connection.run().await {
        tracing::debug!(%addr, %error, "a client's connection broke");
    }
    // Its end may take a while, for which nothing of it is held.
    connection.pending = BytesMut::new();
    connection.decoder = RequestDecoder::new(core.limits().resp());
    // Replies to its last commands may be ready: a client may say all it has to and close.
    core.take_turn();
    if client.closing.get() {
        connection.linger().await;
    }
    client.gone.set(true);
    client.shut(Shutdown::Both);
    core.clients.borrow_mut().remove(&id);
    core.host.borrow_mut().client_disconnected(id, clock::now());
    core.turn.notify_one();
}

/// A connection's reading side.
struct Connection<H: Host> {
    core: Rc<Core<H>>,
    client: Rc<Client>,
    reader: OwnedReadHalf,
    decoder: RequestDecoder,
    /// What was read and not consumed: mostly empty.
    pending: BytesMut,
    /// `pending` may hold a complete command.
    more: bool,
    /// What the host knows of `pending`.
    told: QueryBuffer,
    /// Of how many of the next commands the host knows.
    looked_ahead: usize,
    /// It is one too many: only administration is taken.
    spare: bool,
    /// It sent what isn't RESP: nothing more is read until the host closes it.
    broken: bool,
}

impl<H: Host> Connection<H> {
    /// Until the client closes, or is closed.
    async fn run(&mut self) -> io::Result<()> {
        loop {
            while !self.client.closing.get() && (self.broken || !self.accepts()) {
                self.client.paused.set(true);
                self.client.resumed.notified().await;
            }
            self.client.paused.set(false);
            if self.client.closing.get() {
                return Ok(());
            }
            if self.more {
                let mut input = std::mem::take(&mut self.pending);
                let consumed = self.handle(&input);
                input.advance(consumed);
                if !input.is_empty() {
                    self.pending = if consumed > CONSUMED_KEPT_MAX {
                        BytesMut::from(&input[..])
                    } else {
                        input
                    };
                }
                self.tell_query();
                if self.more && !self.core.is_round_over() {
                    // The others' turn.
                    yield_now().await;
                }
            } else if poll_fn(|cx| self.poll_read(cx)).await? == Some(0) {
                return Ok(());
            }
            if self.core.is_round_over() {
                self.core.await_next_round().await;
            }
        }
    }

    /// Reads into the shared buffer and handles what came, all in one poll, so that no other
    /// task can use the buffer in between. What isn't consumed moves to `pending`. None: the round
    /// is over, and nothing was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<usize>>> {
        if self.client.closing.get() {
            return Poll::Ready(Ok(Some(0)));
        }
        if self.core.is_round_over() {
            return Poll::Ready(Ok(None));
        }
        let core = self.core.clone();
        let mut scratch = core.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        if Pin::new(&mut self.reader)
            .poll_read(cx, &mut buffer)?
            .is_pending()
        {
            self.client.waker.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let input = buffer.filled();
        crate::traffic::read(input.len());
        if self.pending.is_empty() {
            let consumed = self.handle(input);
            let rest = input.get(consumed..).unwrap_or_default();
            self.pending.extend_from_slice(rest);
        } else {
            if self.pending.capacity() - self.pending.len() < input.len() {
                let missing = self.decoder.needed();
                self.pending.reserve(missing.max(input.len()));
            }
            self.pending.extend_from_slice(input);
            self.more = !input.is_empty();
        }
        self.tell_query();
        Poll::Ready(Ok(Some(input.len())))
    }

    /// Tells the host what is held of the client's input, if that has changed.
    fn tell_query(&mut self) {
        self.decoder.trim();
        let used = self.pending.len();
        let query = QueryBuffer {
            used,
            free: self.pending.capacity() - used,
            args: self.decoder.held_bytes(),
        };
        if query != self.told {
            self.told = query;
            let mut host = self.core.host.borrow_mut();
            host.client_query(self.client.id, query, clock::now());
            self.core.turn.notify_one();
        }
    }

    fn accepts(&self) -> bool {
        !self.core.draining.get() && self.core.host.borrow_mut().client_accepts(self.client.id)
    }

    /// Hands over the complete commands at the front of `input`; how many bytes they were.
    /// Sets `more` where it stopped before it had seen all of them.
    fn handle(&mut self, input: &[u8]) -> usize {
        let id = self.client.id;
        let now = clock::now();
        self.core.enter_round(now.monotonic);
        let mut host = self.core.host.borrow_mut();
        let mut at = 0;
        let mut since = now.monotonic;
        self.more = false;
        if !(self.core.turns).may_go_on(&self.client.place, host.is_worn()) {
            self.more = !input.is_empty();
            self.core.turn.notify_one();
            return 0;
        }
        for count in 0usize.. {
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if count == COMMANDS_PER_TURN_MAX
                || self.core.draining.get()
                || host.is_worn()
                || !host.client_accepts(id)
            {
                self.more = true;
                break;
            }
            if count > 0 && count.is_multiple_of(COMMANDS_PER_LOOK) {
                self.core.enter_round(clock::monotonic());
                if self.core.is_round_over() {
                    self.more = true;
                    break;
                }
            }
            if self.looked_ahead == 0 {
                self.looked_ahead = look_ahead(&mut *host, id, rest);
                self.core.start_prefetches(&mut *host);
                if !host.client_accepts(id) {
                    self.more = true;
                    break;
                }
            }
            match self.decoder.decode(rest) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let args = self.decoder.args(rest);
                    let (mut few, many);
                    let args = if request.arg_count > ARGS_INLINE {
                        many = args.collect::<Vec<_>>();
                        &many
                    } else {
                        few = [&[][..]; ARGS_INLINE];
                        for (place, arg) in few.iter_mut().zip(args) {
                            *place = arg;
                        }
                        &few[..request.arg_count]
                    };
                    if self.spare && !args.is_empty() {
                        self.client.asked.set(true);
                        if !host.is_administration(args) {
                            crate::traffic::turned_away();
                            host.client_protocol_error(id, TOO_MANY, now);
                            at = input.len();
                            self.broken = true;
                            break;
                        }
                    }
                    if !args.is_empty() {
                        host.client_command(id, args, now);
                        since = report_slow(&mut *host, id, args, since);
                    }
                    at += request.consumed;
                    self.looked_ahead = self.looked_ahead.saturating_sub(1);
                }
                Err(error) => {
                    // Nothing behind it can be understood. The host queues the error behind
                    // the replies still to come, and then asks for the close.
                    host.client_protocol_error(id, &error.line(), now);
                    at = input.len();
                    self.broken = true;
                    break;
                }
            }
        }
        self.core.turn.notify_one();
        at
    }

    /// Waits until the output is written and the sending side shut, then reads away what the
    /// client still sends.
    async fn linger(&mut self) {
        let finish = async {
            while self.client.writing.get() {
                self.client.resumed.notified().await;
            }
            self.client.shut(Shutdown::Write);
        };
        if timeout(CLOSE_TIMEOUT, finish).await.is_err() {
            return;
        }
        let drain = async {
            loop {
                self.pending.clear();
                self.pending.reserve(LINGER_READ_LEN);
                if !matches!(self.reader.read_buf(&mut self.pending).await, Ok(n) if n > 0) {
                    return;
                }
            }
        };
        // Long enough or not, it is closed now.
        let _ = timeout(LINGER, drain).await;
    }
}

/// Tells the host what the next commands in `input` name; of how many commands.
fn look_ahead<H: Host>(host: &mut H, id: ConnId, mut input: &[u8]) -> usize {
    let mut guesses = [Guess::default(); AHEAD_MAX];
    let mut count = 0;
    while count < AHEAD_MAX
        && let Some(Names { key, field, len }) = resp::ahead::names(input)
    {
        guesses[count] = Guess { key, field };
        count += 1;
        input = &input[len..];
    }
    if count > 0 {
        host.client_ahead(id, &guesses[..count]);
    }
    count
}

/// Reports a command that began at `since` if it was slow. When the next begins.
fn report_slow<H: Host>(host: &mut H, id: ConnId, args: &[&[u8]], since: Duration) -> Duration {
    let Some(from) = host.slow_from() else {
        return since;
    };
    let now = clock::monotonic();
    let took = now.saturating_sub(since);
    host.client_worked(took);
    if took >= from {
        host.client_took(id, args, took);
    }
    now
}

impl Client {
    fn new(id: ConnId, writer: OwnedWriteHalf) -> Self {
        Client {
            id,
            writer,
            writing: Cell::new(false),
            closing: Cell::new(false),
            gone: Cell::new(false),
            asked: Cell::new(false),
            paused: Cell::new(false),
            resumed: Notify::new(),
            waker: RefCell::new(None),
            place: Place::default(),
            written: Cell::new(0),
        }
    }

    /// Writes what the socket takes of the client's output; the rest stays where it is, and a
    /// task goes on as soon as the socket takes more.
    pub(crate) fn write<H: Host>(self: &Rc<Self>, core: &Rc<Core<H>>, host: &mut H) {
        if self.gone.get() {
            return;
        }
        if core.is_in_doubt() {
            return core.write_later(self.id);
        }
        let output = host.client_output(self.id);
        if !self.writing.get() {
            match self.write_some(output) {
                Ok(true) if self.paused.get() => self.resume(),
                Ok(true) => {}
                Ok(false) => {
                    self.writing.set(true);
                    spawn_local(self.clone().write_rest(core.clone()));
                }
                Err(_) => return self.abort(),
            }
        }
        let len = output.len();
        if len > core.limits().output_bytes_max {
            tracing::warn!(
                conn = self.id.0,
                len,
                "a client doesn't take its replies: closed"
            );
            output.clear();
            self.abort();
        }
    }

    /// Whether all of it was written.
    fn write_some(&self, output: &mut BytesMut) -> io::Result<bool> {
        while !output.is_empty() {
            match self.writer.try_write(output) {
                Ok(written) if written == output.len() => {
                    crate::traffic::written(written);
                    output.clear();
                    if output.capacity() > KEPT_MAX || self.written.take() > 0 {
                        *output = BytesMut::new();
                    }
                }
                Ok(written) => {
                    crate::traffic::written(written);
                    output.advance(written);
                    let gone = self.written.get() + written;
                    self.written.set(gone);
                    // What is written holds no more memory than what is not.
                    if gone > output.len().max(KEPT_MAX) {
                        *output = BytesMut::from(&output[..]);
                        self.written.set(0);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    async fn write_rest<H: Host>(self: Rc<Self>, core: Rc<Core<H>>) {
        while self.writer.writable().await.is_ok() && !self.gone.get() {
            let mut host = core.host.borrow_mut();
            core.judge(&mut *host);
            if core.is_in_doubt() {
                core.write_later(self.id);
                break;
            }
            match self.write_some(host.client_output(self.id)) {
                Ok(false) => {}
                Ok(true) => break,
                Err(_) => {
                    self.abort();
                    break;
                }
            }
        }
        self.writing.set(false);
        self.resume();
    }

    /// The reading side looks again whether it may go on.
    pub(crate) fn resume(&self) {
        self.resumed.notify_one();
    }

    /// No more commands; the connection ends when its output is written.
    pub(crate) fn close_after_output(&self) {
        if !self.closing.replace(true) {
            self.resume();
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends the connection, whatever is still to be written.
    pub(crate) fn abort(&self) {
        self.closing.set(true);
        self.shut(Shutdown::Both);
        self.resume();
    }

    fn shut(&self, how: Shutdown) {
        // It fails only if the other side was quicker.
        let _ = shutdown(self.writer.as_ref(), how);
    }
}
