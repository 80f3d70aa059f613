//! CLIENT: what a node knows of its connections.

use crate::{
    connection::{BAD_NAME, is_name},
    node::{ConnId, Effect, Node},
};
use bytes::Bytes;
use commands::numbers;
use resp::Version;
use storage::store::Stores;

/// What a client may be, in Redis's words; here each is a normal one.
const TYPES: [&[u8]; 5] = [b"normal", b"master", b"replica", b"slave", b"pubsub"];

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

impl<S: Stores> Node<S> {
    pub(crate) fn client(&mut self, conn: u64, subcommand: &str, args: &[&[u8]]) {
        let rest = args.get(2..).unwrap_or_default();
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        match (subcommand, rest) {
            ("id", _) => self.answer(conn, |out| out.integer(conn as i64)),
            ("getname", _) => {
                let name = session.name.clone();
                self.answer(conn, |out| {
                    if name.is_empty() {
                        out.null();
                    } else {
                        out.bulk(&name);
                    }
                });
            }
            ("setname", [name]) => {
                if !is_name(name) {
                    return self.answer_error(conn, BAD_NAME);
                }
                session.name = Bytes::copy_from_slice(name);
                self.answer(conn, |out| out.ok());
            }
            ("setinfo", [option, value]) => {
                match option.to_ascii_lowercase().as_slice() {
                    b"lib-name" => session.library.0 = Bytes::copy_from_slice(value),
                    b"lib-ver" => session.library.1 = Bytes::copy_from_slice(value),
                    _ => {
                        let option = String::from_utf8_lossy(option);
                        let line = format!("ERR Unrecognized option '{option}'");
                        return self.answer_error(conn, &line);
                    }
                }
                self.answer(conn, |out| out.ok());
            }
            // Nothing is evicted, and no access times are kept: both hold already.
            ("no-evict" | "no-touch", [word]) => {
                if [&b"on"[..], b"off"].iter().any(|w| word.eq_ignore_ascii_case(w)) {
                    self.answer(conn, |out| out.ok());
                } else {
                    self.answer_error(conn, "ERR syntax error");
                }
            }
            ("info", _) => {
                let line = self.client_line(conn);
                self.answer(conn, |out| out.verbatim(b"txt", &line));
            }
            ("list", rest) => match self.client_list(rest) {
                Ok(text) => self.answer(conn, |out| out.verbatim(b"txt", &text)),
                Err(line) => self.answer_error(conn, &line),
            },
            ("kill", [addr]) => {
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
            ("kill", filters) => match Wanted::parse(filters) {
                Ok(wanted) => {
                    let killed = self.kill_clients(conn, &wanted);
                    self.answer(conn, |out| out.integer(killed));
                }
                Err(line) => self.answer_error(conn, &line),
            },
            ("reply", [word]) if word.eq_ignore_ascii_case(b"on") => {
                self.answer(conn, |out| out.ok());
            }
            ("tracking", [word]) if word.eq_ignore_ascii_case(b"off") => {
                self.answer(conn, |out| out.ok());
            }
            ("trackinginfo", _) => self.answer(conn, |out| {
                out.map(3);
                out.bulk("flags");
                out.set(1);
                out.bulk("off");
                out.bulk("redirect");
                out.integer(-1);
                out.bulk("prefixes");
                out.array(0);
            }),
            ("getredir", _) => self.answer(conn, |out| out.integer(-1)),
            ("caching", _) => self.answer_error(
                conn,
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            ),
            // No command blocks its client in Redis's sense.
            ("unblock", [id, ..]) => match numbers::parse(id) {
                Some(_) => self.answer(conn, |out| out.integer(0)),
                None => self.answer_error(conn, "ERR value is not an integer or out of range"),
            },
            (subcommand, _) => {
                let line = format!(
                    "ERR CLIENT {} is not supported in this form: replies are always sent, and clients neither paused nor tracked",
                    subcommand.to_ascii_uppercase()
                );
                self.answer_error(conn, &line);
            }
        }
    }

    /// Closes those that are wanted; how many.
    fn kill_clients(&mut self, own: u64, wanted: &Wanted) -> i64 {
        let laddr = self.config.client_addr.to_string();
        let mut killed: Vec<u64> = self
            .sessions
            .values()
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
            if let Some(session) = self.sessions.get_mut(conn) {
                session.closing = true;
            }
            // Itself it is told first, and closed once that is out.
            if *conn != own {
                self.effects.push_back(Effect::CloseClient(ConnId(*conn)));
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
        let Some(s) = self.sessions.get(&conn) else {
            return String::new();
        };
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle=0 flags=N db={} sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 obl={} oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            s.conn,
            s.addr,
            self.config.client_addr,
            String::from_utf8_lossy(&s.name),
            self.now.monotonic.saturating_sub(s.since).as_secs(),
            s.keyspace,
            s.out.len(),
            s.last_command,
            if s.version == Version::Resp3 { 3 } else { 2 },
            String::from_utf8_lossy(&s.library.0),
            String::from_utf8_lossy(&s.library.1),
        )
    }
}
