//! Clients and administrators: how their commands reach a node, and the replies them.

use super::{Event, Shown, World, Wrong};
use crate::{
    client::Client,
    expiry::ExpiryClient,
    register::{Place, RegisterClient},
    session::SessionClient,
};
use bytes::{Bytes, BytesMut};
use node::ConnId;
use resp::{Frame, FrameDecoder, FrameLimits};
use std::time::Duration;
use storage::store::Guess;

/// Answers that a client lets stand out before it sends more.
const CLIENT_WAITS_MAX: usize = 8;
/// Commands that a client sends at once.
const PIPELINE_MAX: u64 = 4;
/// How long an administrator waits for an answer.
const ASK_MAX: Duration = Duration::from_secs(30);

/// A client and its connection.
pub(super) struct Attached {
    pub(super) worker: Worker,
    keyspace: String,
    home: usize,
    conn: Option<ConnId>,
    /// The answer to its SELECT is still to come.
    greeting: bool,
    /// Whether it turns to any node when it has lost its connection.
    roams: bool,
}

/// What a client does.
pub(super) enum Worker {
    /// It writes keys of its own, and knows what each read must show.
    Owner(Client),
    /// It swaps values that others swap too, always at the primary.
    Register(RegisterClient),
    /// It reads what others write, at any node.
    Session(SessionClient),
    /// It writes keys that expire.
    Expiry(ExpiryClient),
}

impl Worker {
    fn waits_for(&self) -> usize {
        match self {
            Worker::Owner(client) => client.waits_for(),
            Worker::Register(client) => client.waits_for(),
            Worker::Session(client) => client.waits_for(),
            Worker::Expiry(client) => client.waits_for(),
        }
    }
}

/// How many clients of each kind there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    /// Clients that write keys of their own. They take it for wrong if anything acknowledged
    /// is lost.
    pub owners: usize,
    /// Clients that swap values that others swap too.
    pub registers: usize,
    /// Clients that read what others write, and append to it.
    pub sessions: usize,
    /// Clients whose keys expire.
    pub expiries: usize,
    /// Whether a failover may lose what was acknowledged, if it is reported.
    pub lossy: bool,
    /// The keyspace's shards.
    pub shards: u16,
    /// How long a client waits between commands, at most.
    pub pause_max: Duration,
    /// Whether a client sends more before it has all answers.
    pub pipelines: bool,
}

/// Who reads what comes out of a connection.
pub(super) struct Connection {
    /// The machine that it leads to.
    to: usize,
    /// The node has not closed it.
    open: bool,
    decoder: FrameDecoder,
    input: BytesMut,
    reader: Reader,
}

enum Reader {
    Client(usize),
    Ask(Vec<Frame>),
}

impl World {
    /// Adds clients to every node, which write and read a keyspace from now on.
    pub fn add_clients(&mut self, a_node: usize, keyspace: &str) {
        for n in 0..a_node * self.machines.len() {
            let client = Client::new(format!("c{}", self.clients.len()));
            let home = n % self.machines.len();
            self.attach(Worker::Owner(client), keyspace, home, false);
        }
    }

    /// Adds clients at nodes of their own choice.
    pub fn add_mix(&mut self, mix: &Mix, keyspace: &str) {
        self.pause_max = mix.pause_max;
        self.pipelines = mix.pipelines;
        self.registers.begin(mix.lossy);
        self.sessions.begin(mix.lossy, mix.shards);
        for n in 0..mix.owners + mix.registers + mix.sessions + mix.expiries {
            let name = format!("c{}", self.clients.len());
            let worker = if n < mix.owners {
                Worker::Owner(Client::new(name))
            } else if n < mix.owners + mix.registers {
                Worker::Register(RegisterClient::new(n % 2 == 1))
            } else if n < mix.owners + mix.registers + mix.sessions {
                Worker::Session(SessionClient::new(name))
            } else {
                Worker::Expiry(ExpiryClient::new(name))
            };
            let home = self.random.below(self.machines.len() as u64) as usize;
            self.attach(worker, keyspace, home, true);
        }
    }

    fn attach(&mut self, worker: Worker, keyspace: &str, home: usize, roams: bool) {
        self.clients_act = true;
        let at = self.clients.len();
        self.clients.push(Attached {
            worker,
            keyspace: keyspace.to_owned(),
            home,
            conn: None,
            greeting: false,
            roams,
        });
        let wait = Duration::from_millis(self.random.below(20));
        self.schedule_for_all(wait, Event::ClientActs(at));
    }

    /// No client sends anything more.
    pub fn stop_clients(&mut self) {
        self.clients_act = false;
    }

    /// How many answers clients wait for.
    pub fn answers_due(&self) -> usize {
        self.clients.iter().map(|a| a.worker.waits_for()).sum()
    }

    /// The connections to a dead node end, and with them the sessions.
    pub(super) fn clients_lose(&mut self, at: usize) {
        for connection in self.connections.values_mut().filter(|c| c.to == at) {
            connection.open = false;
        }
        for attached in self.clients.iter_mut().filter(|a| a.home == at) {
            if let Some(conn) = attached.conn.take() {
                self.connections.remove(&conn);
                attached.greeting = false;
                match &mut attached.worker {
                    Worker::Owner(client) => client.disconnected(),
                    Worker::Register(client) => client.disconnected(&mut self.registers),
                    Worker::Session(client) => client.disconnected(),
                    Worker::Expiry(client) => client.disconnected(),
                }
            }
        }
    }

    /// A node that goes on closes its clients' connections.
    pub(super) fn clients_end(&mut self, at: usize) {
        let ended: Vec<ConnId> = (self.connections.iter())
            .filter(|(_, c)| c.to == at && c.open)
            .map(|(conn, _)| *conn)
            .collect();
        self.clients_lose(at);
        let now = self.machines[at].now(self.now);
        if let Some(node) = &mut self.machines[at].node {
            for conn in ended {
                node.client_disconnected(conn, now);
            }
        }
    }

    pub(super) fn client_acts(&mut self, at: usize) {
        if !self.clients_act {
            return;
        }
        let pause_max = self.pause_max.as_micros() as u64;
        let wait = Duration::from_micros(self.random.between(500, pause_max));
        self.schedule_for_all(wait, Event::ClientActs(at));
        if self.clients[at].conn.is_none() && self.clients[at].roams {
            self.clients[at].home = self.random.below(self.machines.len() as u64) as usize;
        }
        let home = self.clients[at].home;
        let expires = matches!(self.clients[at].worker, Worker::Expiry(_));
        let waits_max = if self.pipelines && !expires {
            CLIENT_WAITS_MAX
        } else {
            0
        };
        if self.machines[home].node.is_none() || self.clients[at].worker.waits_for() > waits_max {
            return;
        }
        let conn = match self.clients[at].conn {
            Some(conn) => conn,
            None => {
                let Some(conn) = self.connect_client(home, Reader::Client(at)) else {
                    return;
                };
                let attached = &mut self.clients[at];
                attached.conn = Some(conn);
                attached.greeting = true;
                let select = vec!["SELECT".into(), attached.keyspace.clone().into()];
                return self.command(home, conn, select);
            }
        };
        if self.clients[at].greeting {
            return;
        }
        let most = if self.pipelines { PIPELINE_MAX } else { 1 };
        self.moments += 1;
        let (observed, sessions) = (&self.observed, &self.sessions);
        let life = self.machines[home].life;
        let place = Place {
            moment: self.moments,
            now: self.now,
            office: &|key| observed.office(sessions.shard(key), home, life),
        };
        let commands = match &mut self.clients[at].worker {
            Worker::Owner(client) => client.next_commands(&mut self.random, self.now, most),
            Worker::Register(client) => {
                client.next_commands(&mut self.random, &mut self.registers, &place, most)
            }
            Worker::Session(client) => client.next_commands(&mut self.random, self.now, most),
            Worker::Expiry(client) => vec![client.next_command(&mut self.random, self.now)],
        };
        for command in commands {
            self.command(home, conn, command);
        }
    }

    fn connect_client(&mut self, at: usize, reader: Reader) -> Option<ConnId> {
        let machine = self.machines.get_mut(at)?;
        if machine.is_paused(self.now) {
            return None;
        }
        let now = machine.now(self.now);
        let node = machine.node.as_mut()?;
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        node.client_connected(conn, ([127, 0, 0, 1], 1).into(), now);
        let connection = Connection {
            to: at,
            open: true,
            decoder: FrameDecoder::new(FrameLimits::default()),
            input: BytesMut::new(),
            reader,
        };
        self.connections.insert(conn, connection);
        Some(conn)
    }

    fn command(&mut self, at: usize, conn: ConnId, words: Vec<Bytes>) {
        let shown: Vec<_> = words.iter().map(|w| Shown(w)).collect();
        self.note(at, format_args!("client {} asks {shown:?}", conn.0));
        if self.machines[at].is_paused(self.now) {
            let life = self.machines[at].life;
            self.waiting[at].push_back((life, Event::Says { at, conn, words }));
            return;
        }
        self.says(at, conn, &words);
        self.turn(at);
    }

    pub(super) fn says(&mut self, at: usize, conn: ConnId, words: &[Bytes]) {
        let now = self.machines[at].now(self.now);
        if let Some(node) = &mut self.machines[at].node {
            let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
            if let Some(key) = words.get(1) {
                let field = words.get(2).copied();
                node.client_ahead(conn, &[Guess { key, field }]);
            }
            while let Some((conn, prefetch)) = node.take_prefetch() {
                if node.client_accepts(conn) {
                    let wrong = "commands are accepted before their keys were read".to_owned();
                    self.wrong.push_back(wrong);
                }
                prefetch.run();
                node.prefetched(conn, now);
            }
            node.client_command(conn, &words, now);
        }
    }

    /// A connection of the story's own, to a node, with a keyspace chosen.
    pub fn open_session(&mut self, node: &str, keyspace: &str) -> Result<ConnId, Wrong> {
        let at = self.machine(node)?;
        let reader = Reader::Ask(Vec::new());
        let conn = self.connect_client(at, reader);
        let conn = conn.ok_or_else(|| Wrong(format!("{node} is not there to be asked")))?;
        self.send(node, conn, &["SELECT", keyspace])?;
        Ok(conn)
    }

    /// Sends a command over a connection, and waits for nothing.
    pub fn send(&mut self, node: &str, conn: ConnId, words: &[&str]) -> Result<(), Wrong> {
        let at = self.machine(node)?;
        let words = words.iter().map(|w| Bytes::copy_from_slice(w.as_bytes()));
        self.command(at, conn, words.collect());
        Ok(())
    }

    /// What a connection of [`World::open_session`] was answered so far.
    pub fn answers(&self, conn: ConnId) -> &[Frame] {
        match self.connections.get(&conn).map(|c| &c.reader) {
            Some(Reader::Ask(replies)) => replies,
            _ => &[],
        }
    }

    /// Sends commands over a connection of their own and waits for the answers.
    pub fn ask_all(
        &mut self,
        node: &str,
        keyspace: Option<&str>,
        commands: &[Vec<&str>],
    ) -> Result<Vec<Frame>, Wrong> {
        self.ask_once(node, keyspace, commands)?
            .ok_or_else(|| Wrong(format!("{node} closes the connection of {commands:?}")))
    }

    /// As [`World::ask_all`]; None if the node closed the connection before all was answered.
    pub(crate) fn ask_once(
        &mut self,
        node: &str,
        keyspace: Option<&str>,
        commands: &[Vec<&str>],
    ) -> Result<Option<Vec<Frame>>, Wrong> {
        let at = self.machine(node)?;
        // Whoever asks a machine that stands still waits until it goes on.
        while self.machines[at].is_paused(self.now) {
            self.step()?;
        }
        let Some(conn) = self.connect_client(at, Reader::Ask(Vec::new())) else {
            return Err(Wrong(format!("{node} is not there to be asked")));
        };
        let select = keyspace.map(|name| vec!["SELECT", name]);
        let mut expected = 0;
        for words in select.iter().chain(commands) {
            let words: Vec<Bytes> = words
                .iter()
                .map(|w| Bytes::copy_from_slice(w.as_bytes()))
                .collect();
            self.command(at, conn, words);
            expected += 1;
        }
        let deadline = self.now + ASK_MAX;
        loop {
            if let Some(Connection {
                reader: Reader::Ask(replies),
                ..
            }) = self.connections.get_mut(&conn)
                && replies.len() == expected
            {
                let replies = replies.split_off(select.iter().len());
                self.connections.remove(&conn);
                let now = self.machines[at].now(self.now);
                if let Some(node) = &mut self.machines[at].node {
                    node.client_disconnected(conn, now);
                }
                return Ok(Some(replies));
            }
            if self.connections.get(&conn).is_some_and(|c| !c.open) {
                self.connections.remove(&conn);
                return Ok(None);
            }
            if self.now > deadline {
                return Err(Wrong(format!("{node} does not answer {commands:?}")));
            }
            self.step()?;
        }
    }

    /// Sends one command and waits for the answer.
    pub fn ask(
        &mut self,
        node: &str,
        keyspace: Option<&str>,
        words: &[&str],
    ) -> Result<Frame, Wrong> {
        let mut replies = self.ask_all(node, keyspace, &[words.to_vec()])?;
        replies
            .pop()
            .ok_or_else(|| Wrong(format!("{node} answered nothing")))
    }

    pub(super) fn output(&mut self, at: usize, conn: ConnId) {
        let Some(bytes) = (self.machines[at].node.as_mut())
            .and_then(|node| node.client_output(conn))
            .map(|out| out.split())
        else {
            return;
        };
        let right = self.clocks_are_right();
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        connection.input.extend_from_slice(&bytes);
        loop {
            let Some(connection) = self.connections.get_mut(&conn) else {
                return;
            };
            let frame = match connection.decoder.decode(&mut connection.input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => return self.wrong.push_back(format!("a reply is no RESP: {error}")),
            };
            match &mut connection.reader {
                Reader::Ask(replies) => replies.push(frame.clone()),
                Reader::Client(client) => {
                    let attached = &mut self.clients[*client];
                    let greeting = std::mem::take(&mut attached.greeting);
                    self.moments += 1;
                    let judged = match (greeting, frame.as_error()) {
                        // It selects again.
                        (true, Some(line)) if line.starts_with(b"TRYAGAIN") => {
                            attached.conn = None;
                            self.connections.remove(&conn);
                            Ok(())
                        }
                        (true, Some(line)) => Err(String::from_utf8_lossy(line).into_owned()),
                        (true, None) => Ok(()),
                        (false, refusal) => {
                            if refusal.is_some_and(|line| line.starts_with(b"MISCONF")) {
                                self.faults.full_disks += 1;
                            }
                            match &mut attached.worker {
                                Worker::Owner(client) => client.answered(&frame, self.now),
                                Worker::Register(client) => {
                                    let (observed, sessions) = (&self.observed, &self.sessions);
                                    let life = self.machines[at].life;
                                    let place = Place {
                                        moment: self.moments,
                                        now: self.now,
                                        office: &|key| {
                                            observed.office(sessions.shard(key), at, life)
                                        },
                                    };
                                    client.answered(&frame, &mut self.registers, &place)
                                }
                                Worker::Session(client) => {
                                    client.answered(&frame, &mut self.sessions)
                                }
                                Worker::Expiry(client) => client.answered(&frame, self.now, right),
                            }
                        }
                    };
                    if let Err(wrong) = judged {
                        self.wrong.push_back(wrong);
                    }
                }
            }
            let mut shown = BytesMut::new();
            frame.encode(resp::Version::Resp2, &mut shown);
            self.note(
                at,
                format_args!("client {} is answered {:?}", conn.0, Shown(&shown)),
            );
        }
    }
}
