//! DEBUG: what tests of client programs want of a server.

use crate::{host::Host, room::Gate};
use std::time::Duration;

/// A DEBUG SLEEP ends by then.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

impl Gate {
    /// SLEEP holds up the connection that asked for it and nothing else: its later commands
    /// wait behind it, the node goes on.
    pub(crate) fn debug(&mut self, conn: u64, args: &[&[u8]]) {
        let what = args.get(1).map(|word| word.to_ascii_lowercase());
        match (what.as_deref().unwrap_or_default(), args.get(2..)) {
            (b"sleep", Some([seconds])) => {
                // As in Redis, what is no number is none at all.
                let seconds = str::from_utf8(seconds).ok().and_then(|s| s.parse().ok());
                let sleep = Duration::try_from_secs_f64(seconds.unwrap_or(0.0));
                let sleep = sleep.unwrap_or_default().min(SLEEP_MAX);
                if sleep.is_zero() {
                    return self.answer(conn, |out| out.ok());
                }
                if let Some(session) = self.sessions.get_mut(&conn) {
                    // So there is one sleep a connection at most.
                    session.held = true;
                    self.sleepers.push((self.now.monotonic + sleep, conn));
                }
            }
            (b"help", Some([])) => self.answer(conn, |out| {
                const LINES: [&str; 5] = [
                    "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                    "SLEEP <seconds>",
                    "    Hold up this connection for <seconds>. Decimals allowed.",
                    "HELP",
                    "    Prints this help.",
                ];
                out.array(LINES.len());
                LINES.iter().for_each(|line| out.simple(line));
            }),
            _ => {
                let word = String::from_utf8_lossy(args.get(1).copied().unwrap_or_default());
                let line = format!(
                    "ERR unknown subcommand or wrong number of arguments for '{word}'. Try DEBUG HELP."
                );
                self.answer_error(conn, &line);
            }
        }
    }

    /// Wakes the connections whose sleep is over.
    pub(crate) fn sleepers_tick(&mut self, here: &mut impl Host) {
        let now = self.now.monotonic;
        for (until, conn) in std::mem::take(&mut self.sleepers) {
            if until > now {
                self.sleepers.push((until, conn));
                continue;
            }
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.held = false;
            }
            self.answer(conn, |out| out.ok());
            self.resume(conn, here);
        }
    }
}
