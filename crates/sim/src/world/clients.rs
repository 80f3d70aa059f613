//! Clients and administrators: how their commands reach a node, and the replies them.

use super::{Event, Shown, World, Wrong};
use crate::client::Client;
use bytes::{Bytes, BytesMut};
use node::ConnId;
use resp::{Frame, FrameDecoder, FrameLimits};
use std::time::Duration;

/// Answers that a client lets stand out before it sends more.
const CLIENT_WAITS_MAX: usize = 8;
/// How long an administrator waits for an answer.
const ASK_MAX: Duration = Duration::from_secs(30);

/// A client and its connection.
pub(super) struct Attached {
    pub(super) client: Client,
    keyspace: String,
    pub(super) home: usize,
    pub(super) conn: Option<ConnId>,
    /// The answer to its SELECT is still to come.
    greeting: bool,
}

/// Who reads what comes out of a connection.
pub(super) struct Connection {
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
        self.clients_act = true;
        for n in 0..a_node * self.machines.len() {
            let at = self.clients.len();
            self.clients.push(Attached {
                client: Client::new(format!("c{at}")),
                keyspace: keyspace.to_owned(),
                home: n % self.machines.len(),
                conn: None,
                greeting: false,
            });
            let wait = Duration::from_millis(self.random.below(20));
            self.schedule_for_all(wait, Event::ClientActs(at));
        }
    }

    /// No client sends anything more.
    pub fn stop_clients(&mut self) {
        self.clients_act = false;
    }

    pub(super) fn client_acts(&mut self, at: usize) {
        if !self.clients_act {
            return;
        }
        let wait = Duration::from_micros(self.random.between(500, 30_000));
        self.schedule_for_all(wait, Event::ClientActs(at));
        let home = self.clients[at].home;
        if self.machines[home].node.is_none()
            || self.clients[at].client.waits_for() > CLIENT_WAITS_MAX
        {
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
                return self.command(home, conn, &select);
            }
        };
        if self.clients[at].greeting {
            return;
        }
        let commands = (self.clients[at].client).next_commands(&mut self.random, self.now);
        for command in commands {
            self.command(home, conn, &command);
        }
    }

    fn connect_client(&mut self, at: usize, reader: Reader) -> Option<ConnId> {
        let machine = self.machines.get_mut(at)?;
        let now = machine.now(self.now);
        let node = machine.node.as_mut()?;
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        node.client_connected(conn, ([127, 0, 0, 1], 1).into(), now);
        let connection = Connection {
            decoder: FrameDecoder::new(FrameLimits::default()),
            input: BytesMut::new(),
            reader,
        };
        self.connections.insert(conn, connection);
        Some(conn)
    }

    fn command(&mut self, at: usize, conn: ConnId, words: &[Bytes]) {
        let shown: Vec<_> = words.iter().map(|w| Shown(w)).collect();
        self.note(at, format_args!("client {} asks {shown:?}", conn.0));
        let now = self.machines[at].now(self.now);
        if let Some(node) = &mut self.machines[at].node {
            let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
            node.client_command(conn, &words, now);
        }
        self.turn(at);
    }

    /// Sends commands over a connection of their own and waits for the answers.
    pub fn ask_all(
        &mut self,
        node: &str,
        keyspace: Option<&str>,
        commands: &[Vec<&str>],
    ) -> Result<Vec<Frame>, Wrong> {
        let at = self.machine(node)?;
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
            self.command(at, conn, &words);
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
                return Ok(replies);
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
                    let judged = match (greeting, frame.as_error()) {
                        // It selects again.
                        (true, Some(line)) if line.starts_with(b"TRYAGAIN") => {
                            attached.conn = None;
                            Ok(())
                        }
                        (true, Some(line)) => Err(String::from_utf8_lossy(line).into_owned()),
                        (true, None) => Ok(()),
                        (false, _) => attached.client.answered(&frame, self.now),
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
