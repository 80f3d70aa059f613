//! SAVE, BGSAVE, LASTSAVE and BGREWRITEAOF: what tools ask before they copy files, or trust a
//! server with what they wrote.
//!
//! There is no snapshot to write: what was acknowledged is in the log, and how soon it survives a
//! loss of power `fsync` says. SAVE waits until all that is in the log now does; BGSAVE begins
//! that. LASTSAVE is the moment as of which everything survives: now, if nothing waits for the
//! disk. Where the system alone decides when it writes (`fsync = "os"`) neither can be promised.

use crate::node::Node;
use bytes::Bytes;
use commands::node_command::SaveCommand;
use gate::Target;
use storage::{
    log::{Lsn, SyncPolicy},
    store::Stores,
};

/// How many may wait for a SAVE.
const WAITING_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Saves {
    /// Who waits until the log survives up to where.
    waiting: Vec<(Lsn, Target)>,
    /// Up to where a BGSAVE goes.
    begun: Option<Lsn>,
    /// Unix time at which more of the log survived last.
    at_ms: u64,
}

impl Saves {
    /// What the log holds at the start has survived that long.
    pub(crate) fn new(at_ms: u64) -> Self {
        Saves {
            at_ms,
            ..Saves::default()
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.begun.is_some() || !self.waiting.is_empty()
    }
}

impl<S: Stores> Node<S> {
    pub(crate) fn save_command(&mut self, conn: u64, command: SaveCommand, args: &[&[u8]]) {
        let (name, waits) = match command {
            SaveCommand::Save => ("SAVE", true),
            SaveCommand::BgSave => ("BGSAVE", false),
            SaveCommand::LastSave => {
                let at = self.saved_at_s();
                return self.answer(conn, |out| out.integer(at as i64));
            }
            // The log gives up by itself what the stores have.
            SaveCommand::BgRewriteAof => {
                let line = "Background append only file rewriting started";
                return self.answer(conn, |out| out.simple(line));
            }
        };
        let schedule = |word: &[u8]| word.eq_ignore_ascii_case(b"schedule");
        if !matches!(&args[1..], [] | [_]) || args.get(1).is_some_and(|word| !schedule(word)) {
            return self.answer_error(conn, "ERR syntax error");
        }
        if matches!(self.config.log.sync, SyncPolicy::Os) {
            let line = format!(
                "ERR {name} is not supported with fsync = \"os\": the system decides when it writes"
            );
            return self.answer_error(conn, &line);
        }
        let tip = self.shards.log().tip();
        self.shards.flush_soon();
        if !waits {
            self.saves.begun = Some(tip);
            self.answer(conn, |out| out.simple("Background saving started"));
        } else if self.saves.waiting.len() >= WAITING_MAX {
            self.answer_error(conn, "ERR too many clients wait for a SAVE; try again");
        } else if let Some(target) = self.hold(conn) {
            self.saves.waiting.push((tip, target));
        }
        self.answer_saves(self.shards.log().durable());
    }

    /// Unix time as of which everything survives a loss of power, in seconds.
    pub(crate) fn saved_at_s(&self) -> u64 {
        let all = self.shards.log().durable() >= self.shards.log().tip();
        let at_ms = if all {
            self.now.wall_ms
        } else {
            self.saves.at_ms
        };
        at_ms / 1000
    }

    /// The log has come to survive up to `durable`.
    pub(crate) fn log_survives(&mut self, durable: Lsn) {
        self.saves.at_ms = self.now.wall_ms;
        if self.saves.is_any() {
            self.answer_saves(durable);
        }
    }

    fn answer_saves(&mut self, durable: Lsn) {
        self.saves.begun.take_if(|upto| *upto <= durable);
        let waiting = std::mem::take(&mut self.saves.waiting);
        let (done, waiting) = waiting.into_iter().partition(|(upto, _)| *upto <= durable);
        self.saves.waiting = waiting;
        let done: Vec<(Lsn, Target)> = done;
        for (_, target) in done {
            let ok = Bytes::from_static(b"+OK\r\n");
            self.deliver(&target, ok);
        }
    }
}
