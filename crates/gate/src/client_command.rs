//! CLIENT: what a node knows of its connections.

use crate::{
    host::Host,
    room::Gate,
    session::{Session, Wants},
};
use bytes::Bytes;
use commands::{node_command::ClientCommand, numbers};
use resp::Version;
use std::time::Duration;

/// What a client may be, in Redis's words; here each is a normal one.
const TYPES: [&[u8]; 5] = [b"normal", b"master", b"replica", b"slave", b"pubsub"];

/// The longest name of a client or its library.
const NAME_BYTES_MAX: usize = 1024;
/// How often HTTP requests are warned of, at most.
const WARN_OF_HTTP_EVERY: Duration = Duration::from_secs(60);

/// Which clients CLIENT KILL means. Nothing named: all.
struct Wanted {
    id: Option<u64>,
    addr: Option<String>,
    laddr: Option<String>,
    normal: bool,
    own_too: bool,
}

impl Wanted {
    fn parse(args: &[&[u8]]) -> Result<Self, String> {
        let mut wanted = Wanted {
            id: None,
            addr: None,
            laddr: None,
            normal: true,
            own_too: false,
        };
        let (pairs, odd) = args.as_chunks::<2>();
        for [option, value] in pairs {
            let text = || String::from_utf8_lossy(value).into_owned();
            match option.to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = numbers::parse(value).and_then(|id| u64::try_from(id).ok());
                    let id = id.filter(|id| *id > 0);
                    wanted.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
                }
                b"addr" => wanted.addr = Some(text()),
                b"laddr" => wanted.laddr = Some(text()),
                b"type" => wanted.normal = check_type(value)?,
                b"user" if *value == b"default" => {}
                b"user" => return Err(format!("ERR No such user '{}'", text())),
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => wanted.own_too = false,
                b"skipme" if value.eq_ignore_ascii_case(b"no") => wanted.own_too = true,
                _ => return Err("ERR syntax error".into()),
            }
        }
        if !odd.is_empty() {
            return Err("ERR syntax error".into());
        }
        Ok(wanted)
    }
}

/// Whether clients of this type are the normal ones.
fn check_type(text: &[u8]) -> Result<bool, String> {
    if TYPES.iter().any(|known| known.eq_ignore_ascii_case(text)) {
        return Ok(text.eq_ignore_ascii_case(b"normal"));
    }
    let text = String::from_utf8_lossy(text);
    Err(format!("ERR Unknown client type '{text}'"))
}

impl Gate {
    pub(crate) fn client(
        &mut self,
        conn: u64,
        command: ClientCommand,
        args: &[&[u8]],
        here: &mut impl Host,
    ) {
        let rest = args.get(2..).unwrap_or_default();
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        match (command, rest) {
            (ClientCommand::Id, _) => self.answer(conn, |out| out.integer(conn as i64)),
            (ClientCommand::GetName, _) => {
                let name = session.name.clone();
                self.answer(conn, |out| {
                    if name.is_empty() {
                        out.null();
                    } else {
                        out.bulk(&name);
                    }
                });
            }
            (ClientCommand::SetName, [name]) => {
                if let Err(line) = check_name("Client names", name) {
                    return self.answer_error(conn, &line);
                }
                session.name = Bytes::copy_from_slice(name);
                self.answer(conn, |out| out.ok());
            }
            (ClientCommand::SetInfo, [option, value]) => {
                let shown = String::from_utf8_lossy(option);
                let checked = check_name(&shown, value);
                let place = match option.to_ascii_lowercase().as_slice() {
                    b"lib-name" => &mut session.library.0,
                    b"lib-ver" => &mut session.library.1,
                    _ => {
                        let line = format!("ERR Unrecognized option '{shown}'");
                        return self.answer_error(conn, &line);
                    }
                };
                if let Err(line) = checked {
                    return self.answer_error(conn, &line);
                }
                *place = Bytes::copy_from_slice(value);
                self.answer(conn, |out| out.ok());
            }
            // Nothing is evicted, and no access times are kept: both hold already.
            (ClientCommand::NoEvict | ClientCommand::NoTouch, [word]) => {
                if [&b"on"[..], b"off"].iter().any(|w| word.eq_ignore_ascii_case(w)) {
                    self.answer(conn, |out| out.ok());
                } else {
                    self.answer_error(conn, "ERR syntax error");
                }
            }
            (ClientCommand::Info, _) => {
                let line = self.client_line(conn);
                self.answer(conn, |out| out.verbatim(b"txt", &line));
            }
            (ClientCommand::List, rest) => match self.client_list(rest) {
                Ok(text) => self.answer(conn, |out| out.verbatim(b"txt", &text)),
                Err(line) => self.answer_error(conn, &line),
            },
            (ClientCommand::Kill, [addr]) => {
                let wanted = Wanted {
                    id: None,
                    addr: Some(String::from_utf8_lossy(addr).into_owned()),
                    laddr: None,
                    normal: true,
                    own_too: true,
                };
                if self.kill_clients(conn, &wanted) > 0 {
                    self.answer(conn, |out| out.ok());
                } else {
                    self.answer_error(conn, "ERR No such client");
                }
            }
            (ClientCommand::Kill, filters) => match Wanted::parse(filters) {
                Ok(wanted) => {
                    let killed = self.kill_clients(conn, &wanted);
                    self.answer(conn, |out| out.integer(killed));
                }
                Err(line) => self.answer_error(conn, &line),
            },
            (ClientCommand::Reply, [word]) => {
                let wants = match word.to_ascii_lowercase().as_slice() {
                    b"on" => Wants::All,
                    b"off" => Wants::None,
                    // Of none, none is left out.
                    b"skip" if session.wants == Wants::None => Wants::None,
                    b"skip" => Wants::AllButNext,
                    _ => return self.answer_error(conn, "ERR syntax error"),
                };
                session.wants = wants;
                session.muted = wants != Wants::All;
                self.answer(conn, |out| out.ok());
            }
            (ClientCommand::Pause, rest) => self.pause_clients(conn, rest),
            (ClientCommand::Unpause, _) => {
                self.answer(conn, |out| out.ok());
                self.end_pause(true, here);
            }
            (ClientCommand::Tracking, [word]) if word.eq_ignore_ascii_case(b"off") => {
                self.answer(conn, |out| out.ok());
            }
            (ClientCommand::TrackingInfo, _) => self.answer(conn, |out| {
                out.map(3);
                out.bulk("flags");
                out.set(1);
                out.bulk("off");
                out.bulk("redirect");
                out.integer(-1);
                out.bulk("prefixes");
                out.array(0);
            }),
            (ClientCommand::GetRedir, _) => self.answer(conn, |out| out.integer(-1)),
            (ClientCommand::Caching, _) => self.answer_error(
                conn,
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            ),
            // No command blocks its client in Redis's sense.
            (ClientCommand::Unblock, [id, rest @ ..]) => {
                let is_reason = |word: &[u8]| {
                    [&b"timeout"[..], b"error"].iter().any(|w| word.eq_ignore_ascii_case(w))
                };
                match (numbers::parse(id), rest) {
                    (_, [_, _, ..]) => self.answer_error(
                        conn,
                        "ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.",
                    ),
                    (_, [reason]) if !is_reason(reason) => self.answer_error(
                        conn,
                        "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
                    ),
                    (Some(_), _) => self.answer(conn, |out| out.integer(0)),
                    (None, _) => {
                        let line = "ERR value is not an integer or out of range";
                        self.answer_error(conn, line);
                    }
                }
            }
            (ClientCommand::Help, _) => self.answer_help(conn, args),
            (ClientCommand::Tracking, _) => self.answer_error(
                conn,
                "ERR CLIENT TRACKING is not supported in this form: clients are not tracked",
            ),
            // Their number of arguments was looked at.
            (
                ClientCommand::SetName
                | ClientCommand::SetInfo
                | ClientCommand::NoEvict
                | ClientCommand::NoTouch
                | ClientCommand::Reply
                | ClientCommand::Unblock,
                _,
            ) => self.answer_error(conn, "ERR syntax error"),
        }
    }

    /// Closes those that are wanted; how many.
    fn kill_clients(&mut self, own: u64, wanted: &Wanted) -> i64 {
        let laddr = self.config.client_addr.to_string();
        let mut killed: Vec<u64> = self
            .sessions
            .values()
            .filter(|s| !s.killed)
            .filter(|s| wanted.normal && (wanted.own_too || s.conn != own))
            .filter(|s| wanted.id.is_none_or(|id| id == s.conn))
            .filter(|s| {
                wanted
                    .addr
                    .as_ref()
                    .is_none_or(|a| *a == s.addr.to_string())
            })
            .filter(|_| wanted.laddr.as_ref().is_none_or(|a| *a == laddr))
            .map(|s| s.conn)
            .collect();
        killed.sort_unstable();
        for conn in &killed {
            if *conn != own {
                self.kill_client(*conn, None);
            } else if let Some(session) = self.sessions.get_mut(conn) {
                // It is told first, and closed once that is out.
                session.closing = true;
            }
        }
        killed.len() as i64
    }

    fn client_list(&self, options: &[&[u8]]) -> Result<String, String> {
        let mut conns: Vec<u64> = match options {
            [] => self.sessions.keys().copied().collect(),
            [word, kind] if word.eq_ignore_ascii_case(b"type") => {
                let normal = check_type(kind)?;
                self.sessions.keys().copied().filter(|_| normal).collect()
            }
            [word, ids @ ..] if word.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
                let id = |id: &&[u8]| numbers::parse(id).ok_or("ERR Invalid client ID");
                let ids = ids.iter().map(id).collect::<Result<Vec<i64>, _>>()?;
                ids.into_iter().map(|id| id as u64).collect()
            }
            _ => return Err("ERR syntax error".into()),
        };
        conns.sort_unstable();
        Ok(conns.iter().map(|conn| self.client_line(*conn)).collect())
    }

    fn client_line(&self, conn: u64) -> String {
        let Some(s) = self.sessions.get(&conn).filter(|s| !s.killed) else {
            return String::new();
        };
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} obl={} oll=0 omem=0 tot-mem={} events=r cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            s.conn,
            s.addr,
            self.config.client_addr,
            String::from_utf8_lossy(&s.name),
            self.now.monotonic.saturating_sub(s.since).as_secs(),
            self.now.monotonic.saturating_sub(s.heard_at).as_secs(),
            if self.is_monitor(conn) { "O" } else { "N" },
            s.keyspace,
            s.gathering.as_ref().map_or(-1, |g| g.len() as i64),
            s.query.used,
            s.query.free,
            s.query.args + s.waiting_bytes(),
            s.transaction_bytes(),
            s.out.len(),
            s.memory(),
            s.last_command.map_or("NULL", |spec| spec.name),
            if s.version == Version::Resp3 { 3 } else { 2 },
            String::from_utf8_lossy(&s.library.0),
            String::from_utf8_lossy(&s.library.1),
        )
    }

    /// Closes those that have been idle for longer than `timeout` says, but for those that wait
    /// for an answer, or are shown what others do.
    pub(crate) fn close_idle(&mut self) {
        if self.idle_max.is_zero() {
            return;
        }
        let since = |s: &Session| self.now.monotonic.saturating_sub(s.heard_at);
        let is_idle = |s: &&Session| {
            let is_new = s.killed || s.closing || since(s) <= self.idle_max;
            !is_new && s.is_idle() && !s.held && !self.is_monitor(s.conn)
        };
        let mut idle: Vec<u64> = self
            .sessions
            .values()
            .filter(is_idle)
            .map(|s| s.conn)
            .collect();
        idle.sort_unstable();
        for conn in idle {
            self.kill_client(conn, None);
        }
    }

    /// A line of an HTTP request came as a command: a web page, most likely, that makes a browser
    /// speak to this port. What follows may be commands.
    pub(crate) fn refuse_http(&mut self, conn: u64) {
        let now = self.now.monotonic;
        if self.input.warn_of_http_at <= now
            && let Some(session) = self.sessions.get(&conn)
        {
            self.input.warn_of_http_at = now + WARN_OF_HTTP_EVERY;
            tracing::warn!(
                addr = %session.addr,
                "POST or Host: came as a command: an HTTP request, which a web page may have sent to attack this node; its connection is closed"
            );
        }
        self.kill_client(conn, None);
    }
}

/// Whether a command is a line of an HTTP request that begins what may not be read on.
pub(crate) fn is_http(args: &[&[u8]]) -> bool {
    let name = args.first().copied().unwrap_or_default();
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// A client's names are shown in lines of words.
pub(crate) fn check_name(what: &str, text: &[u8]) -> Result<(), String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!(
            "ERR {what} cannot be longer than {NAME_BYTES_MAX} bytes"
        ));
    }
    if !text.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Err(format!(
            "ERR {what} cannot contain spaces, newlines or special characters."
        ));
    }
    Ok(())
}
