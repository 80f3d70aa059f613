//! Commands about the connection and the server, which no shard answers: what the gate knows by itself
//! it says, and the rest it asks of its node ([`WholeNode`]).

use crate::{
    client_command::check_name,
    door::{Output, WholeNode},
    host::Host,
    request::{ReadFrom, Request, Round, Target, borrow, own},
    room::Gate,
};
use bytes::Bytes;
use commands::{Fanout, NodeCommand, Spec, node_command::MemoryCommand, numbers};
use model::{KeyspaceId, Position, ShardId};
use resp::Version;
use std::time::Duration;

/// The Redis version whose commands and replies are spoken.
pub const REDIS_VERSION: &str = "7.0.15";

/// Arguments of a command that the node itself answers, but for those that it repeats.
const ARGS_MAX: usize = 1024;
/// Their bytes together.
const ARG_BYTES_MAX: usize = 64 << 10;
/// Work of one of them: that of its part of the reply, which is the longest in COMMAND DOCS.
const ARG_WORK: usize = 8192;

/// Why a keyspace that a command names is not found.
pub(crate) const UNKNOWN_NUMBER: &str =
    "ERR DB index is out of range: there is no keyspace of this number, see KEYSPACE LIST";
/// The same, if the control group could not be asked.
pub(crate) const NOT_ASKED: &str = "TRYAGAIN this keyspace is not known here, and the control group did not say in time whether there is one: most of its voters must be reachable";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// A WAIT that is not over.
#[derive(Debug)]
pub(crate) struct Waiter {
    target: Target,
    shard: ShardId,
    index: u64,
    copies: usize,
    /// None: for good.
    deadline: Option<Duration>,
}

/// Bounds what is waited for.
const WAITERS_MAX: usize = 100_000;

impl Gate {
    pub(crate) fn node_command(
        &mut self,
        conn: u64,
        command: NodeCommand,
        spec: &'static Spec,
        args: &[&[u8]],
        here: &mut impl Host,
    ) {
        let bytes: usize = args.iter().map(|arg| arg.len()).sum();
        let room = self.reply_room(None, here);
        if let Some(line) = room.refusal(spec.name, bytes) {
            return self.answer_error(conn, &line);
        }
        let repeats = matches!(command, NodeCommand::Ping | NodeCommand::Echo);
        if !repeats && (args.len() > ARGS_MAX || bytes > ARG_BYTES_MAX) {
            let line = format!(
                "ERR '{}' takes at most {ARGS_MAX} arguments of {ARG_BYTES_MAX} bytes together",
                spec.name
            );
            return self.answer_error(conn, &line);
        }
        here.work((bytes + args.len() * ARG_WORK) as u64);
        match command {
            NodeCommand::Ping => match args.get(1) {
                _ if args.len() > 2 => self.answer_error(
                    conn,
                    "ERR wrong number of arguments for 'ping' command",
                ),
                Some(text) => self.answer(conn, |out| out.bulk(text)),
                None => self.answer(conn, |out| out.simple("PONG")),
            },
            NodeCommand::Echo => self.answer(conn, |out| out.bulk(args[1])),
            NodeCommand::Hello => self.hello(conn, args),
            NodeCommand::Auth => self.auth(conn, &args[1..]),
            NodeCommand::Select => self.select(conn, args),
            NodeCommand::Reset => {
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.reset();
                }
                self.end_monitor(conn);
                self.count_input(conn);
                self.answer(conn, |out| out.simple("RESET"));
            }
            NodeCommand::Quit => {
                self.answer(conn, |out| out.ok());
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.closing = true;
                }
                self.close_if_done(conn);
            }
            NodeCommand::Info => self.ask(conn, WholeNode::Info, args),
            NodeCommand::Role => self.ask(conn, WholeNode::Role, args),
            NodeCommand::Time => {
                let ms = self.now.wall_ms;
                self.answer(conn, |out| {
                    out.array(2);
                    out.bulk((ms / 1000).to_string());
                    out.bulk((ms % 1000 * 1000).to_string());
                });
            }
            NodeCommand::Wait => self.wait(conn, spec, args, here),
            // Every node takes any command: there is nothing to choose.
            NodeCommand::ReadOnly | NodeCommand::ReadWrite => {
                self.answer(conn, |out| out.ok());
            }
            NodeCommand::Monitor => self.monitor(conn),
            NodeCommand::Debug => self.debug(conn, args),
            NodeCommand::SwapDb => self.answer_error(
                conn,
                "ERR SWAPDB is not supported: a keyspace has a name, shards and a strategy of its own; SELECT the other one",
            ),
            NodeCommand::Cluster => {
                self.answer_error(conn, "ERR This instance has cluster support disabled");
            }
            NodeCommand::ObjectHelp | NodeCommand::Memory(MemoryCommand::Help) => {
                self.answer_help(conn, args);
            }
            NodeCommand::Memory(MemoryCommand::Stats) => {
                self.ask(conn, WholeNode::MemoryStats, args);
            }
            NodeCommand::Table(command) => self.answer(conn, |out| {
                commands::command_reply::answer(command, args, out);
            }),
            NodeCommand::Client(command) => self.client(conn, command, args, here),
            NodeCommand::Config(command) => self.ask(conn, WholeNode::Config(command), args),
            NodeCommand::Slowlog(command) => self.slowlog(conn, command, args),
            NodeCommand::Latency(command) => self.latency(conn, command, args),
            NodeCommand::Save(command) => self.ask(conn, WholeNode::Save(command), args),
            NodeCommand::Keyspace(command) => self.ask(conn, WholeNode::Keyspace(command), args),
            NodeCommand::Quire(command) => self.ask(conn, WholeNode::Quire(command), args),
        }
    }

    /// A command is the whole node's. Nothing else of its connection goes on before that has carried
    /// it out ([`Gate::go_on`]).
    fn ask(&mut self, conn: u64, command: WholeNode, args: &[&[u8]]) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held = true;
            let args = own(args);
            self.out.put(Output::Asked {
                conn,
                command,
                args,
            });
        }
    }

    /// What held up a connection is over.
    pub fn go_on(&mut self, conn: u64, here: &mut impl Host) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held = false;
            self.resume(conn, here);
        }
    }

    /// `HELP` of the container that `args` begin with.
    pub fn answer_help(&mut self, conn: u64, args: &[&[u8]]) {
        if let Some(container) = args.first().and_then(|name| commands::lookup(name)) {
            self.answer(conn, |out| commands::server_reply::help(container, out));
        }
    }

    fn hello(&mut self, conn: u64, args: &[&[u8]]) {
        let mut version = None;
        if let Some(wanted) = args.get(1) {
            version = match numbers::parse(wanted) {
                Some(2) => Some(Version::Resp2),
                Some(3) => Some(Version::Resp3),
                Some(_) => {
                    return self.answer_error(conn, "NOPROTO unsupported protocol version");
                }
                None => {
                    let line = "ERR Protocol version is not an integer or out of range";
                    return self.answer_error(conn, line);
                }
            };
        }
        let mut name = None;
        let mut rest = args.get(2..).unwrap_or_default();
        while let [option, more @ ..] = rest {
            match (option.to_ascii_lowercase().as_slice(), more) {
                (b"setname", [text, more @ ..]) => {
                    if let Err(line) = check_name("Client names", text) {
                        return self.answer_error(conn, &line);
                    }
                    name = Some(Bytes::copy_from_slice(text));
                    rest = more;
                }
                (b"auth", [user, _, more @ ..]) => {
                    if *user != b"default" {
                        return self.answer_error(conn, WRONG_PASSWORD);
                    }
                    rest = more;
                }
                _ => {
                    let line = format!(
                        "ERR Syntax error in HELLO option '{}'",
                        String::from_utf8_lossy(option)
                    );
                    return self.answer_error(conn, &line);
                }
            }
        }
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.version = version.unwrap_or(session.version);
        if let Some(name) = name {
            session.name = name;
        }
        let proto = if session.version == Version::Resp3 {
            3
        } else {
            2
        };
        let id = conn as i64;
        let zone = self.config.zone.clone();
        let keyspace = session.keyspace;
        let role = if self.is_primary_of(keyspace) {
            "master"
        } else {
            "replica"
        };
        self.answer(conn, |out| {
            out.map(if zone.is_empty() { 7 } else { 8 });
            for (field, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
                out.bulk(field);
                out.bulk(value);
            }
            out.bulk("proto");
            out.integer(proto);
            out.bulk("id");
            out.integer(id);
            for (field, value) in [("mode", "standalone"), ("role", role)] {
                out.bulk(field);
                out.bulk(value);
            }
            out.bulk("modules");
            out.array(0);
            if !zone.is_empty() {
                out.bulk("availability_zone");
                out.bulk(&zone);
            }
        });
    }

    /// There is one user, `default`, who needs no password and may give any.
    fn auth(&mut self, conn: u64, args: &[&[u8]]) {
        match args {
            [user, _] if *user == b"default" => self.answer(conn, |out| out.ok()),
            [_, _] => self.answer_error(conn, WRONG_PASSWORD),
            [_] => self.answer_error(
                conn,
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ),
            _ => self.answer_error(conn, "ERR syntax error"),
        }
    }

    fn select(&mut self, conn: u64, args: &[&[u8]]) {
        if self.try_select(conn, args[1]) {
            return self.answer(conn, |out| out.ok());
        }
        // Created a moment ago elsewhere, maybe: the control group knows.
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held = true;
            self.refresh_catalog(conn, args);
        }
    }

    /// The newest catalog that can be had is here; `known` is false if the control group did
    /// not say whether there is a newer one.
    pub(crate) fn select_finally(
        &mut self,
        conn: u64,
        args: &[&[u8]],
        known: bool,
        here: &mut impl Host,
    ) {
        let Some(wanted) = args.get(1) else {
            return;
        };
        if self.try_select(conn, wanted) {
            self.answer(conn, |out| out.ok());
        } else if !known {
            self.answer_error(conn, NOT_ASKED);
        } else {
            let text = String::from_utf8_lossy(wanted).into_owned();
            let line = if numbers::parse(wanted).is_some() {
                UNKNOWN_NUMBER.to_owned()
            } else {
                format!("ERR there is no keyspace '{text}': KEYSPACE LIST shows those there are")
            };
            self.answer_error(conn, &line);
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.held = false;
        }
        self.resume(conn, here);
    }

    /// The keyspace of this name, or this number, which it may be that none has.
    pub(crate) fn keyspace_called(&self, wanted: &[u8]) -> Option<KeyspaceId> {
        match numbers::parse(wanted) {
            Some(number) => u32::try_from(number).ok().map(KeyspaceId),
            None => std::str::from_utf8(wanted)
                .ok()
                .and_then(|name| self.catalog.keyspace_named(name))
                .map(|(id, _)| id),
        }
    }

    fn try_select(&mut self, conn: u64, wanted: &[u8]) -> bool {
        let found = self.keyspace_called(wanted);
        // Keyspace 0 is where every connection begins, so it can always be gone back to.
        let found = found.filter(|id| id.0 == 0 || self.catalog.keyspaces.contains_key(id));
        match (found, self.sessions.get_mut(&conn)) {
            (Some(id), Some(session)) => {
                session.keyspace = id;
                true
            }
            _ => false,
        }
    }

    /// A command goes on once the newest catalog is known here.
    pub(crate) fn refresh_catalog(&mut self, conn: u64, args: &[&[u8]]) {
        let args = own(args);
        self.out.put(Output::Refresh { conn, args });
    }

    /// The catalog is the newest, or (`known` is false) nobody could be asked in time.
    pub fn newest_is_known(
        &mut self,
        conn: u64,
        args: &[Bytes],
        known: bool,
        here: &mut impl Host,
    ) {
        let args = borrow(args);
        match commands::find(&args) {
            Ok(spec) if spec.fanout == Fanout::Across => {
                self.cross_finally(conn, &args, known, here);
            }
            _ => self.select_finally(conn, &args, known, here),
        }
    }

    /// Whether this node is the primary of the keyspace, as its first shard stands.
    fn is_primary_of(&self, keyspace: KeyspaceId) -> bool {
        let keyspace = self.catalog.keyspaces.get(&keyspace);
        let first = keyspace.and_then(|keyspace| keyspace.shards.first());
        let facts = first.and_then(|id| self.catalog.shards.get(id));
        facts.is_some_and(|facts| facts.primary == self.config.id)
    }

    // ---- WAIT -----------------------------------------------------------------------------

    fn wait(&mut self, conn: u64, spec: &'static Spec, args: &[&[u8]], here: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        // Its own writes must be answered first: then their positions are known.
        if !session.order.is_empty() {
            session.put_back(self.now.monotonic, own(args));
            return;
        }
        // As in Redis, fewer than none are none.
        let copies = numbers::parse(args[1]);
        let timeout = numbers::parse(args[2]);
        if copies.is_none() {
            return self.answer_error(conn, "ERR value is not an integer or out of range");
        }
        match timeout {
            None => {
                return self.answer_error(conn, "ERR timeout is not an integer or out of range");
            }
            Some(ms) if ms < 0 => return self.answer_error(conn, "ERR timeout is negative"),
            Some(_) => {}
        }
        let Some((shard, position)) = session.last_write else {
            // Nothing written, nothing to wait for: every replica that is there has it.
            let keyspace = session.keyspace;
            let up = self.replicas_up(keyspace, here);
            return self.answer(conn, |out| out.integer(up));
        };
        let (version, keyspace) = (session.version, session.keyspace);
        let slot = session.reserve(0);
        let target = Target::Client { conn, slot };
        if here.is_primary(shard) {
            return self.wait_for_copies(target, shard, position, &own(args), here);
        }
        let primary = self.catalog.shards.get(&shard).map(|s| s.primary.clone());
        match primary.filter(|p| here.is_up(p)) {
            Some(primary) => self.forward(
                Request {
                    target,
                    spec,
                    args: own(args),
                    keyspace,
                    shard,
                    seen: position,
                    version,
                    since: self.now.monotonic,
                    read_from: ReadFrom::Primary,
                    round: Round::None,
                    went_near: false,
                },
                &primary,
                here,
            ),
            None => self.reply_error(
                &target,
                "NOPRIMARY the primary that knows who has the write can't be reached",
                here,
            ),
        }
    }

    fn replicas_up(&self, keyspace: KeyspaceId, here: &impl Host) -> i64 {
        let shard = self
            .catalog
            .keyspaces
            .get(&keyspace)
            .and_then(|k| k.shards.first())
            .and_then(|id| self.catalog.shards.get(id));
        shard.map_or(0, |s| {
            s.replicas
                .iter()
                .filter(|r| r.node != s.primary)
                .filter(|r| r.node == self.config.id || here.is_up(&r.node))
                .count() as i64
        })
    }

    /// Answers once as many replicas as asked for have `position`, or with how many have it
    /// when the time is over.
    pub(crate) fn wait_for_copies(
        &mut self,
        target: Target,
        shard: ShardId,
        position: Position,
        args: &[Bytes],
        here: &mut impl Host,
    ) {
        let number = |n: usize| args.get(n).and_then(|a| numbers::parse(a));
        let (Some(copies), Some(timeout)) = (number(1), number(2)) else {
            return self.reply_error(&target, "ERR value is not an integer or out of range", here);
        };
        if self.waiters.len() >= WAITERS_MAX {
            return self.reply_error(&target, "ERR too many clients wait; try again", here);
        }
        self.waiters.push(Waiter {
            target,
            shard,
            index: position.index,
            copies: usize::try_from(copies).unwrap_or(0),
            deadline: (timeout > 0)
                .then(|| self.now.monotonic + Duration::from_millis(timeout as u64)),
        });
        self.waiters_tick(here);
    }

    /// Clients that WAIT holds up.
    pub(crate) fn waiting_clients(&self) -> usize {
        let client = |waiter: &&Waiter| matches!(waiter.target, Target::Client { .. });
        self.waiters.iter().filter(client).count()
    }

    /// Looks after those who wait.
    pub(crate) fn waiters_tick(&mut self, here: &mut impl Host) {
        if self.waiters.is_empty() {
            return;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            let have = here.matched(waiter.shard, waiter.index);
            let over = waiter.deadline.is_some_and(|at| at <= self.now.monotonic);
            if have >= waiter.copies || over {
                let reply = Bytes::from(format!(":{have}\r\n"));
                self.deliver(&waiter.target, waiter.shard, Position::ZERO, reply, here);
            } else {
                self.waiters.push(waiter);
            }
        }
    }
}
