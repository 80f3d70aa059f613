//! One client connection: it sends what is due, reads what comes, and keeps the account.
//!
//! ```text
//!            due or room            written            reply
//!   waiting ────────────→ buffered ────────→ in flight ──────→ recorded (latency or error)
//!      │ not connected                           │ connection lost, or no reply for 10 s
//!      └───────────→ error "not-connected"       └──────→ error "connection-lost" / "no-reply"
//! ```
//! Invariant: every operation that was due is recorded once, as an answer or as an error.
//! Requests of one tick leave in one write; replies are scanned where they were received.
//! What is written before the measuring begins is in `fill`.

mod fill;

use super::{
    checks::Session,
    recorder::Recorder,
    scan,
    schedule::{Schedule, TICK_NS},
    workload::{Generator, NUMBER_FIELD, Operation, Request},
};
use crate::connect::connect;
use std::{collections::VecDeque, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause before the next attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long the reply to one request may take before the connection is given up.
const REPLY_TIMEOUT_NS: u64 = 10_000_000_000;
/// Requests in flight at most in an open loop. More than that wait, and their wait is counted.
const IN_FLIGHT_MAX: usize = 32_768;
/// Bytes read at once, at most.
const READ_BYTES: usize = 256 * 1024;
/// The longest reply that is waited for.
const REPLY_BYTES_MAX: usize = 32 << 20;

/// How a connection paces itself.
pub(super) enum Pace {
    /// By schedule, whatever the server does.
    Open(Schedule),
    /// So many in flight, until `end_ns`.
    Closed { in_flight: usize, end_ns: u64 },
}

/// A request in flight.
struct InFlight {
    request: Request,
    /// The moment that its latency counts from, nanoseconds since the start.
    from_ns: u64,
    /// When it was written out, nanoseconds since the start.
    sent_ns: u64,
}

/// One connection and its accounts.
pub(super) struct Connection {
    addr: String,
    keyspace: Option<String>,
    generator: Generator,
    pub(super) recorder: Recorder,
    pub(super) session: Session,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    /// How much of `out` was written.
    written: usize,
    received: Vec<u8>,
    in_flight: VecDeque<InFlight>,
}

/// Why a connection ended.
enum Lost {
    Io,
    NoReply,
    Malformed,
}

impl Lost {
    fn kind(&self) -> &'static str {
        match self {
            Lost::Io => "connection-lost",
            Lost::NoReply => "no-reply",
            Lost::Malformed => "malformed-reply",
        }
    }
}

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Lost::Io
    }
}

impl Connection {
    /// Connects, and chooses the keyspace.
    pub(super) async fn open(
        addr: String,
        keyspace: Option<String>,
        generator: Generator,
    ) -> Result<Self, String> {
        let mut connection = Connection {
            addr,
            keyspace,
            generator,
            recorder: Recorder::default(),
            session: Session::default(),
            stream: None,
            out: Vec::new(),
            written: 0,
            received: Vec::new(),
            in_flight: VecDeque::new(),
        };
        connection.connect().await?;
        Ok(connection)
    }

    async fn connect(&mut self) -> Result<(), String> {
        let addr = &self.addr;
        let mut stream = connect(addr, CONNECT_TIMEOUT)
            .await
            .map_err(|e| format!("{addr}: {e}"))?;
        stream
            .set_nodelay(true)
            .map_err(|e| format!("{addr}: {e}"))?;
        self.received.clear();
        if let Some(keyspace) = &self.keyspace {
            let select = format!(
                "*2\r\n$6\r\nSELECT\r\n${}\r\n{keyspace}\r\n",
                keyspace.len()
            );
            let lost = |e: io::Error| format!("{addr}: {e}");
            stream.write_all(select.as_bytes()).await.map_err(lost)?;
            let len = timeout(
                2 * CONNECT_TIMEOUT,
                read_reply(&mut stream, &mut self.received),
            )
            .await
            .map_err(|_| format!("{addr}: no reply to SELECT {keyspace}"))??;
            if let Some(error) = scan::error_of(&self.received[..len]) {
                let error = String::from_utf8_lossy(error);
                return Err(format!("{addr}: SELECT {keyspace}: {error}"));
            }
            self.received.drain(..len);
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Runs until the pace ends and every request is answered, or given up.
    pub(super) async fn run(mut self, mut pace: Pace, start: Instant) -> Self {
        loop {
            let lost = match self.serve(&mut pace, start).await {
                Ok(()) => return self,
                Err(lost) => lost,
            };
            self.abandon(&lost);
            // Who is not connected can't ask: what falls due meanwhile has failed.
            loop {
                let attempt = self.connect().await;
                let now_ns = nanos_since(start);
                if self.skip_due(&mut pace, now_ns) {
                    return self;
                }
                if attempt.is_ok() {
                    break;
                }
                sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    /// Counts what is in flight as failed and ends the session.
    fn abandon(&mut self, lost: &Lost) {
        for in_flight in self.in_flight.drain(..) {
            let operation = in_flight.request.operation;
            self.recorder.failed(operation, lost.kind(), 1);
        }
        self.stream = None;
        self.out.clear();
        self.written = 0;
        self.received.clear();
        self.session.forget();
    }

    /// Counts what fell due while there was no connection. True when the pace has ended.
    fn skip_due(&mut self, pace: &mut Pace, now_ns: u64) -> bool {
        match pace {
            Pace::Open(schedule) => {
                while schedule.take(now_ns).is_some() {
                    let request = self.generator.next(&mut self.out);
                    self.out.clear();
                    self.recorder.failed(request.operation, "not-connected", 1);
                }
                schedule.next_ns().is_none()
            }
            Pace::Closed { end_ns, .. } => now_ns >= *end_ns,
        }
    }

    async fn serve(&mut self, pace: &mut Pace, start: Instant) -> Result<(), Lost> {
        let Some(stream) = self.stream.take() else {
            return Err(Lost::Io);
        };
        // The deadline only ever moves by ticks, so one timer serves the whole run.
        let sleep = sleep_until(start);
        tokio::pin!(sleep);
        loop {
            let now_ns = nanos_since(start);
            let next_ns = self.issue(pace, now_ns);
            self.send(&stream)?;
            let oldest_ns = self.in_flight.front().map(|f| f.sent_ns + REPLY_TIMEOUT_NS);
            if oldest_ns.is_some_and(|at| at <= now_ns) {
                return Err(Lost::NoReply);
            }
            let Some(wake_ns) = next_ns.into_iter().chain(oldest_ns).min() else {
                return Ok(());
            };
            let deadline = start + Duration::from_nanos(wake_ns);
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                readable = stream.readable() => {
                    readable?;
                    self.receive(&stream, start)?;
                }
                writable = stream.writable(), if self.written < self.out.len() => writable?,
                () = &mut sleep => {}
            }
        }
    }

    /// Writes out what may be asked now. Returns when to look again, unless a reply comes
    /// first; None when there is nothing more to ask.
    fn issue(&mut self, pace: &mut Pace, now_ns: u64) -> Option<u64> {
        match pace {
            Pace::Open(schedule) => {
                while self.in_flight.len() < IN_FLIGHT_MAX {
                    let Some(due_ns) = schedule.take(now_ns) else {
                        break;
                    };
                    self.ask(due_ns, now_ns);
                }
                // When it is due but there is no room, a reply or the next tick will wake us.
                schedule.next_ns().map(|at| at.max(now_ns + TICK_NS / 4))
            }
            Pace::Closed { in_flight, end_ns } => {
                if now_ns >= *end_ns {
                    return None;
                }
                while self.in_flight.len() < *in_flight {
                    self.ask(now_ns, now_ns);
                }
                Some(*end_ns)
            }
        }
    }

    fn ask(&mut self, from_ns: u64, now_ns: u64) {
        let request = self.generator.next(&mut self.out);
        self.in_flight.push_back(InFlight {
            request,
            from_ns,
            sent_ns: now_ns,
        });
    }

    fn send(&mut self, stream: &TcpStream) -> Result<(), Lost> {
        while self.written < self.out.len() {
            match stream.try_write(&self.out[self.written..]) {
                Ok(0) => return Err(Lost::Io),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    fn receive(&mut self, stream: &TcpStream, start: Instant) -> Result<(), Lost> {
        // One read a wake-up: whatever is left wakes us again.
        let before = self.received.len();
        self.received.reserve(READ_BYTES);
        match stream.try_read_buf(&mut self.received) {
            Ok(0) => return Err(Lost::Io),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        debug_assert!(self.received.len() > before);
        let now_ns = nanos_since(start);
        let mut at = 0;
        while let Some(len) = scan::reply_len(&self.received[at..]).map_err(|_| Lost::Malformed)? {
            // A reply that nobody asked for: the stream can't be trusted further.
            let in_flight = self.in_flight.pop_front().ok_or(Lost::Malformed)?;
            let reply = &self.received[at..at + len];
            account(
                &mut self.recorder,
                &mut self.session,
                &self.generator,
                &in_flight,
                reply,
                now_ns,
            );
            at += len;
        }
        self.received.drain(..at);
        if self.received.len() > REPLY_BYTES_MAX {
            return Err(Lost::Malformed);
        }
        Ok(())
    }
}

/// Records one reply and holds it against what the session may expect.
fn account(
    recorder: &mut Recorder,
    session: &mut Session,
    generator: &Generator,
    in_flight: &InFlight,
    reply: &[u8],
    now_ns: u64,
) {
    let Request {
        operation,
        key,
        number,
    } = in_flight.request;
    let latency_ns = now_ns.saturating_sub(in_flight.from_ns);
    if let Some(error) = scan::error_of(reply) {
        let kind = error.split(|b| *b == b' ').next().unwrap_or_default();
        if kind == b"SESSIONLOST" {
            // The server took back what it had promised, and said so.
            session.forget();
        }
        recorder.failed(operation, &String::from_utf8_lossy(kind), 1);
        return;
    }
    if generator.workload().is_ycsb() {
        // There are no promises to check, but a record that isn't there costs less to read
        // than one that is, and its latency would flatter.
        if operation == Operation::Read && scan::is_empty(reply) {
            recorder.failed(operation, "not-found", 1);
        } else {
            recorder.answered(operation, latency_ns);
        }
        return;
    }
    recorder.answered(operation, latency_ns);
    let shown = match operation {
        Operation::Update | Operation::Set => {
            session.acknowledged(key, number);
            return;
        }
        Operation::Read | Operation::ReadOwn => scan::number_in_field(reply, NUMBER_FIELD),
        Operation::Get => scan::number_in_string(reply),
    };
    if generator.ownership.owns(key) {
        session.read_own(key, shown.unwrap_or(0));
    } else {
        session.read_shared(key, shown.unwrap_or(0));
    }
}

/// Reads until `received` starts with a whole reply; its length.
async fn read_reply(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<usize, String> {
    loop {
        if let Some(len) = scan::reply_len(received).map_err(|e| e.to_string())? {
            return Ok(len);
        }
        let n = stream.read_buf(received).await.map_err(|e| e.to_string())?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
    }
}

fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
