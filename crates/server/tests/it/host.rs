//! A host whose clients can make it do everything a node does:
//! `SPIN` (a millisecond's work), `ECHO x` (of an `x` that begins with `cold` it looks ahead, and waits until it may read), `APPEND` (replies once flushed), `BIG n` (n bytes), `QUIT`, `STOP`, and
//! `SEND peer lane text`, `LINK peer cut|ms` for its links.

use bytes::{Bytes, BytesMut};
use model::{Address, Boot, NodeId, Now, Release};
use server::{
    ConnId, Doubt, Effect, Guess, Host, Introduction, Lane, LinkState, Prefetch, QueryBuffer,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// While a client has more to take it may not go on.
pub(crate) const OUTPUT_MAX: usize = 1 << 20;

/// How many hosts there were: each is a boot of its own.
static BOOTS: AtomicU64 = AtomicU64::new(1);

/// What a test sees of its host.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) events: Vec<String>,
    pub(crate) commands: usize,
    /// The most commands between two ticks, and how many there are since the last.
    pub(crate) between_ticks_max: usize,
    since_tick: usize,
    pub(crate) output_len_max: usize,
    /// When each message was handed to the server, or came from it.
    pub(crate) times: BTreeMap<String, Duration>,
    /// How many answers may be said until it is in doubt whether more may.
    pub(crate) certain: Option<usize>,
    /// What is in doubt is void.
    pub(crate) void: bool,
    /// The most flushes at a time.
    pub(crate) flushes_max: usize,
    /// How many commands were looked at ahead.
    pub(crate) ahead: usize,
    /// What is held of clients' input now, and was at most.
    pub(crate) query: BTreeMap<ConnId, usize>,
    pub(crate) query_max: usize,
    /// What a client is told that may not come.
    pub(crate) strangers: Option<&'static str>,
    /// Holds up syncs.
    pub(crate) sync_gate: Arc<Mutex<()>>,
    /// Holds up what is to be read.
    pub(crate) gate: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Conn {
    output: BytesMut,
    /// Replies in order, each with the flush that it waits for.
    waiting: VecDeque<(u64, Bytes)>,
    close: bool,
    prefetching: usize,
}

pub(crate) struct TestHost {
    shared: Arc<Mutex<Shared>>,
    boot: Boot,
    peers: Vec<(NodeId, Vec<Address>)>,
    links: BTreeMap<NodeId, LinkState>,
    conns: BTreeMap<ConnId, Conn>,
    effects: VecDeque<Effect>,
    prefetches: VecDeque<(ConnId, Prefetch)>,
    appended: u64,
    /// Up to where flushes were begun, and have ended.
    begun: u64,
    flushed: u64,
    /// One is being written.
    writing: bool,
    /// Those that were written or are being, and whether they are synced.
    syncing: BTreeMap<u64, bool>,
}

impl TestHost {
    pub(crate) fn new(shared: Arc<Mutex<Shared>>, peers: Vec<(NodeId, Vec<Address>)>) -> Self {
        TestHost {
            shared,
            boot: Boot {
                nonce: BOOTS.fetch_add(1, Ordering::Relaxed),
                ..Boot::default()
            },
            peers,
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            effects: VecDeque::new(),
            prefetches: VecDeque::new(),
            appended: 0,
            begun: 0,
            flushed: 0,
            writing: false,
            syncing: BTreeMap::new(),
        }
    }

    fn event(&self, event: String) {
        self.shared.lock().unwrap().events.push(event);
    }

    fn reply(&mut self, id: ConnId, after: u64, reply: Bytes) {
        let conn = self.conns.get_mut(&id).unwrap();
        conn.waiting.push_back((after, reply));
        self.release(id);
    }

    fn release(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(&id).unwrap();
        while conn.waiting.front().is_some_and(|w| w.0 <= self.flushed) {
            conn.output
                .extend_from_slice(&conn.waiting.pop_front().unwrap().1);
        }
        let mut shared = self.shared.lock().unwrap();
        shared.output_len_max = shared.output_len_max.max(conn.output.len());
        self.effects.push_back(Effect::ClientOutput(id));
        if conn.close && conn.waiting.is_empty() {
            self.effects.push_back(Effect::CloseClient(id));
        }
    }
}

impl Host for TestHost {
    type Flush = (u64, Arc<Mutex<()>>);
    type Written = u64;
    type Synced = u64;

    fn admit_client(&self, _: SocketAddr) -> Result<(), &'static str> {
        self.shared.lock().unwrap().strangers.map_or(Ok(()), Err)
    }
    fn client_connected(&mut self, conn: ConnId, _: SocketAddr, _: Now) {
        self.conns.insert(conn, Conn::default());
    }
    fn client_disconnected(&mut self, conn: ConnId, _: Now) {
        assert!(self.conns.remove(&conn).is_some());
        self.event("client gone".into());
    }
    fn client_ahead(&mut self, id: ConnId, guesses: &[Guess<'_>]) {
        let mut shared = self.shared.lock().unwrap();
        shared.ahead += guesses.len();
        for _ in guesses
            .iter()
            .filter(|guess| guess.key.starts_with(b"cold"))
        {
            let gate = shared.gate.clone();
            let read = Prefetch::new(move || drop(gate.lock().unwrap()));
            self.prefetches.push_back((id, read));
            self.conns.get_mut(&id).unwrap().prefetching += 1;
        }
    }
    fn take_prefetch(&mut self) -> Option<(ConnId, Prefetch)> {
        self.prefetches.pop_front()
    }
    fn prefetched(&mut self, id: ConnId, _: Now) {
        // It may have gone meanwhile.
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.prefetching -= 1;
            self.effects.push_back(Effect::ClientResumed(id));
        }
    }
    fn client_command(&mut self, id: ConnId, args: &[&[u8]], now: Now) {
        assert!(self.client_accepts(id), "a command came uninvited");
        let words: Vec<_> = args.iter().map(|a| String::from_utf8_lossy(a)).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        {
            let mut shared = self.shared.lock().unwrap();
            shared.commands += 1;
            shared.since_tick += 1;
            shared.between_ticks_max = shared.between_ticks_max.max(shared.since_tick);
        }
        let now_flushed = self.flushed;
        match words.as_slice() {
            ["ECHO", text] => self.reply(id, now_flushed, format!("+{text}\r\n").into()),
            ["COUNT", ..] => {
                let count = format!(":{}\r\n", args.len());
                self.reply(id, now_flushed, count.into());
            }
            ["SPIN"] => {
                let began = std::time::Instant::now();
                while began.elapsed() < Duration::from_millis(1) {}
                self.reply(id, now_flushed, "+OK\r\n".into());
            }
            ["APPEND"] => {
                self.appended += 1;
                self.reply(id, self.appended, ":1\r\n".into());
            }
            ["BIG", len] => {
                let len = len.parse().unwrap();
                self.reply(id, now_flushed, vec![b'x'; len].into());
            }
            ["QUIT"] => {
                self.conns.get_mut(&id).unwrap().close = true;
                self.reply(id, now_flushed, "+OK\r\n".into());
            }
            ["STOP"] => self.effects.push_back(Effect::Stop("told to".into())),
            ["SEND", to, lane, text] => {
                let lane = match *lane {
                    "bulk" => Lane::Bulk,
                    "bypass" => Lane::Bypass,
                    "control" => Lane::Control,
                    _ => Lane::Ordinary,
                };
                self.shared
                    .lock()
                    .unwrap()
                    .times
                    .insert((*text).to_owned(), now.monotonic);
                self.effects.push_back(Effect::Send {
                    to: NodeId::new(to).unwrap(),
                    lane,
                    message: Bytes::from((*text).to_owned()).into(),
                });
                self.reply(id, now_flushed, "+OK\r\n".into());
            }
            ["LINK", to, state] => {
                let state = match *state {
                    "cut" => LinkState::Cut,
                    ms => LinkState::Up(Duration::from_millis(ms.parse().unwrap())),
                };
                self.links.insert(NodeId::new(to).unwrap(), state);
                self.reply(id, now_flushed, "+OK\r\n".into());
            }
            _ => self.reply(id, now_flushed, "-ERR unknown\r\n".into()),
        }
    }
    fn client_protocol_error(&mut self, id: ConnId, line: &str, _: Now) {
        self.conns.get_mut(&id).unwrap().close = true;
        let last = self.appended;
        self.reply(id, last, format!("-{line}\r\n").into());
    }
    fn client_query(&mut self, conn: ConnId, query: QueryBuffer, _: Now) {
        let mut shared = self.shared.lock().unwrap();
        let bytes = query.used + query.free + query.args;
        shared.query.insert(conn, bytes);
        shared.query_max = shared.query_max.max(bytes);
    }
    fn is_administration(&self, args: &[&[u8]]) -> bool {
        args[0] == b"COUNT"
    }
    fn client_accepts(&mut self, conn: ConnId) -> bool {
        let conn = &self.conns[&conn];
        conn.output.len() < OUTPUT_MAX && !conn.close && conn.prefetching == 0
    }
    fn client_output(&mut self, conn: ConnId) -> &mut BytesMut {
        let output = &mut self.conns.get_mut(&conn).unwrap().output;
        if let Some(certain) = &mut self.shared.lock().unwrap().certain {
            *certain = certain.saturating_sub(usize::from(!output.is_empty()));
        }
        output
    }
    fn peer_connected(&mut self, peer: &NodeId, _: Now) {
        self.event(format!("connected {peer}"));
    }
    fn peer_disconnected(&mut self, peer: &NodeId, _: Now) {
        self.event(format!("disconnected {peer}"));
    }
    fn introduction(&self) -> Introduction {
        Introduction {
            boot: self.boot,
            release: Release::THIS,
            level: 1,
        }
    }
    fn peer_inbound(&mut self, from: &NodeId, _: &Introduction, _: Now) {
        self.event(format!("inbound {from}"));
    }
    fn peer_message(&mut self, from: &NodeId, message: Bytes, now: Now) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        self.event(format!("{from}: {text}"));
        self.shared
            .lock()
            .unwrap()
            .times
            .insert(text, now.monotonic);
    }
    fn peers(&self) -> Vec<(NodeId, Vec<Address>)> {
        self.peers.clone()
    }
    fn link(&self, to: &NodeId) -> LinkState {
        *self.links.get(to).unwrap_or(&LinkState::Up(Duration::ZERO))
    }
    fn take_flush(&mut self, _: Now) -> Option<Self::Flush> {
        (self.appended > self.begun && !self.writing).then(|| {
            self.begun = self.appended;
            self.writing = true;
            self.syncing.insert(self.begun, false);
            let under_way = self.syncing.values().filter(|synced| !**synced).count();
            let mut shared = self.shared.lock().unwrap();
            shared.flushes_max = shared.flushes_max.max(under_way);
            (self.begun, shared.sync_gate.clone())
        })
    }
    fn flush_written(&mut self, done: u64, _: Now) {
        assert!(self.writing && done == self.begun);
        self.writing = false;
    }
    fn flush_synced(&mut self, done: u64, _: Now) {
        assert!(!self.writing || done < self.begun, "it has been written");
        assert_eq!(self.syncing.insert(done, true), Some(false));
        while let Some(first) = self.syncing.first_entry()
            && *first.get()
        {
            self.flushed = *first.key();
            first.remove();
        }
        let flushed = self.flushed;
        self.event(format!("flushed {flushed}"));
        for id in self.conns.keys().copied().collect::<Vec<_>>() {
            self.release(id);
        }
    }
    fn tick(&mut self, _: Now) {
        self.shared.lock().unwrap().since_tick = 0;
    }
    fn doubt(&mut self, _: fn() -> Now) -> Doubt {
        let shared = self.shared.lock().unwrap();
        match shared.certain {
            Some(0) if shared.void => Doubt::Void,
            Some(0) => Doubt::Open,
            _ => Doubt::None,
        }
    }
    fn wake_at(&self) -> Option<Duration> {
        None
    }
    fn wake(&mut self, _now: Now) {}
    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
    fn run_flush((flush, gate): Self::Flush, tell: impl FnOnce(u64)) -> u64 {
        tell(flush);
        drop(gate.lock().unwrap());
        // Some overtake others.
        std::thread::sleep(Duration::from_millis(1 + 2 * (flush % 2)));
        flush
    }
}
