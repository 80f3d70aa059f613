//! Transactions at the client's node: what is gathered between `MULTI` and `EXEC`, and what the
//! connection watches (docs/adr/0012-transactions).
//!
//! ```text
//! WATCH ─▶ the primary's tip ─▶ position        nothing else of the connection goes on meanwhile
//! MULTI ─▶ gathering ── a command: QUEUED, or refused, which spoils it
//!              │ EXEC                        DISCARD, RESET ─▶ forgotten
//!              ▼
//!          carried to the shard ─▶ an array, or nil: a watched key was changed
//! ```

use crate::{
    host::Host,
    input::kept_bytes,
    request::{ReadFrom, borrow, own},
    room::Gate,
    route::{Coming, no_keyspace},
};
use bytes::Bytes;
use commands::{Fanout, Refusal, Spec, node_command::TransactionCommand, transaction};
use model::{Position, ShardId, entry::WRITE_BYTES_MAX};
use shards::{carried::Carried, too_long};
use std::time::Duration;

/// Commands that one transaction gathers.
const COMMANDS_MAX: usize = 65_536;

/// What a connection has gathered since `MULTI`.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    commands: Vec<Vec<Bytes>>,
    bytes: usize,
    /// What they take in memory.
    kept_bytes: usize,
    /// Where all of it is, once something asks for a key.
    shard: Option<ShardId>,
    writes: bool,
    /// Something was refused: nothing of it will be done.
    spoiled: bool,
}

impl Gathering {
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether a command of it may write.
    pub(crate) fn writes(&self) -> bool {
        self.writes
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }
}

/// A key that a connection watches.
#[derive(Debug)]
pub(crate) struct Watch {
    shard: ShardId,
    key: Bytes,
    /// The reply that says as of where.
    slot: u64,
    /// None: that is waited for.
    position: Option<Position>,
}

impl Watch {
    /// The reply in `slot` is here, and shows `position`; none, if it is an error. Returns
    /// whether it was waited for.
    pub(crate) fn answered(watches: &mut Vec<Watch>, slot: u64, position: Position) -> bool {
        let mut waits = false;
        watches.retain_mut(|watch| {
            if watch.slot == slot && watch.position.is_none() {
                waits = true;
                watch.position = Some(position);
            }
            watch.position != Some(Position::ZERO)
        });
        waits
    }
}

impl Gate {
    pub(crate) fn transaction_command(
        &mut self,
        conn: u64,
        command: TransactionCommand,
        since: Duration,
        here: &mut impl Host,
    ) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let gathering = session.gathering.is_some();
        match (command, gathering) {
            (TransactionCommand::Multi, true) => {
                self.answer_error(conn, "ERR MULTI calls can not be nested")
            }
            (TransactionCommand::Multi, false) => {
                session.gathering = Some(Gathering::default());
                self.answer(conn, |out| out.ok());
            }
            (TransactionCommand::Discard, false) => {
                self.answer_error(conn, "ERR DISCARD without MULTI")
            }
            (TransactionCommand::Discard, true) | (TransactionCommand::Unwatch, _) => {
                session.gathering = None;
                session.watches.clear();
                self.answer(conn, |out| out.ok());
            }
            (TransactionCommand::Exec, false) => self.answer_error(conn, "ERR EXEC without MULTI"),
            (TransactionCommand::Exec, true) => self.exec(conn, since, here),
        }
    }

    /// A command between `MULTI` and `EXEC`.
    pub(crate) fn gather(&mut self, conn: u64, spec: &'static Spec, args: &[&[u8]]) {
        if transaction::is_watch(spec) {
            return self.answer_error(conn, "ERR WATCH inside MULTI is not allowed");
        }
        let place = self.place_in_transaction(conn, spec, args);
        let gathering = self
            .sessions
            .get_mut(&conn)
            .and_then(|s| s.gathering.as_mut());
        match (place, gathering) {
            (Ok(shard), Some(gathering)) => {
                gathering.shard = gathering.shard.or(shard);
                gathering.writes |= spec.is_write();
                // What is spoiled is answered, and not kept.
                if !gathering.spoiled {
                    gathering.bytes += args.iter().map(|a| a.len()).sum::<usize>();
                    let args = own(args);
                    gathering.kept_bytes += kept_bytes(&args);
                    gathering.commands.push(args);
                }
                self.answer(conn, |out| out.simple("QUEUED"));
            }
            (Err(line), _) => {
                self.spoil(conn);
                self.reject(conn, &line);
            }
            (Ok(_), None) => {}
        }
    }

    /// The shard that a command asks, if it asks for one; or why it can't be gathered.
    fn place_in_transaction(
        &self,
        conn: u64,
        spec: &'static Spec,
        args: &[&[u8]],
    ) -> Result<Option<ShardId>, String> {
        let Some(session) = self.sessions.get(&conn) else {
            return Ok(None);
        };
        let Some(gathering) = &session.gathering else {
            return Ok(None);
        };
        if !transaction::takes(spec) {
            return Err(format!(
                "ERR '{}' can't be part of a transaction: it does not ask a shard",
                spec.name
            ));
        }
        let bytes = gathering.bytes + args.iter().map(|a| a.len()).sum::<usize>();
        if gathering.commands.len() >= COMMANDS_MAX || bytes > WRITE_BYTES_MAX {
            return Err(format!(
                "ERR a transaction has at most {COMMANDS_MAX} commands and {WRITE_BYTES_MAX} bytes"
            ));
        }
        if let Some(line) = too_long(spec, args) {
            return Err(line.to_owned());
        }
        if !spec.is_evaluated() {
            return Ok(None);
        }
        if spec.fanout == Fanout::Across && self.leaves_shard(session.keyspace, spec, args) {
            return Err(Refusal::AnotherShard(spec.name).to_string());
        }
        match self.only_shard(session.keyspace, spec, args)? {
            None => Err(format!(
                "CROSSSLOT '{}' asks several shards, a transaction has one",
                spec.name
            )),
            found if gathering.shard.is_some() && gathering.shard != found => {
                Err("CROSSSLOT Keys in a transaction don't hash to the same shard".into())
            }
            found => Ok(found),
        }
    }

    /// A command that there isn't, or with too few or many arguments: it spoils a transaction. An
    /// `EXEC` of that kind ends it, as with Redis.
    pub(crate) fn refuse_transaction(&mut self, conn: u64, args: &[&[u8]], line: String) {
        let is_exec = args
            .first()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"exec"));
        if let Some(session) = self.sessions.get_mut(&conn)
            && is_exec
        {
            session.gathering = None;
            session.watches.clear();
            let why = line.strip_prefix("ERR ").unwrap_or(&line);
            let line = format!("EXECABORT Transaction discarded because of: {why}");
            return self.reject(conn, &line);
        }
        self.spoil(conn);
        self.reject(conn, &line);
    }

    /// Something that was to be part of a transaction was refused.
    pub(crate) fn spoil(&mut self, conn: u64) {
        let session = self.sessions.get_mut(&conn);
        if let Some(gathering) = session.and_then(|s| s.gathering.as_mut()) {
            gathering.spoiled = true;
            gathering.commands = Vec::new();
            gathering.kept_bytes = 0;
        }
    }

    fn exec(&mut self, conn: u64, since: Duration, here: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let keyspace = session.keyspace;
        let Some(mut gathering) = session.gathering.take() else {
            return;
        };
        if gathering.spoiled {
            session.watches.clear();
            let line = "EXECABORT Transaction discarded because of previous errors.";
            return self.answer_error(conn, line);
        }
        let watched = session.watches.first().map(|w| w.shard);
        if gathering.commands.is_empty() && watched.is_none() {
            return self.answer(conn, |out| out.array(0));
        }
        // What asks for no key can be done anywhere.
        let any = self.catalog.keyspaces.get(&keyspace);
        let any = any.and_then(|k| k.shards.first().copied());
        let Some(shard) = gathering.shard.or(watched).or(any) else {
            session.watches.clear();
            return self.answer_error(conn, &no_keyspace(keyspace));
        };
        if session.watches.iter().any(|w| w.shard != shard) {
            session.watches.clear();
            let line = "CROSSSLOT Keys that are watched don't hash to the shard of the transaction";
            return self.answer_error(conn, line);
        }
        let watch = |w: &Watch| (w.key.clone(), w.position.unwrap_or_default());
        let carried = Carried {
            watches: session.watches.iter().map(watch).collect(),
            commands: std::mem::take(&mut gathering.commands),
            reads: !gathering.writes,
        };
        let args = carried.to_args();
        let coming = Coming {
            conn,
            spec: carried.spec(),
            args: &borrow(&args),
            keyspace,
            shard,
            since,
        };
        let placed = self.place(&coming, here);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if placed {
            session.watches.clear();
        } else {
            gathering.commands = carried.commands;
            session.gathering = Some(gathering);
            session.is_begun = true;
            session.put_back(since, vec!["EXEC".into()]);
        }
    }

    /// Keys are watched from where their primary's log ends now. Nothing else of the connection
    /// goes on before that is known.
    pub(crate) fn watch(&mut self, coming: &Coming<'_>, here: &mut impl Host) {
        let Some(request) = self.take_in(coming, ReadFrom::PrimaryTip) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&coming.conn)
            && let crate::request::Target::Client { slot, .. } = request.target
        {
            session.held = true;
            let shard = coming.shard;
            let watch = |key: &&[u8]| Watch {
                shard,
                key: Bytes::copy_from_slice(key),
                slot,
                position: None,
            };
            if session.watches.is_empty() {
                session.watched_bytes = 0;
            }
            let keys = &coming.args[1..];
            session.watched_bytes += keys
                .iter()
                .map(|k| k.len() + size_of::<Watch>())
                .sum::<usize>();
            session.watches.extend(keys.iter().map(watch));
            self.count_input(coming.conn);
        }
        self.route(request, here);
    }
}
