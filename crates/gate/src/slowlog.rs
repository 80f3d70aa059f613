//! SLOWLOG: the commands that kept this node's thread busy for longest, the newest first.
//!
//! A node has no clock of its own: whoever hosts it measures each
//! [`Gate::command`] and reports what took as long as [`Gate::slow_from`] says. As in Redis
//! what counts is the work: looking up, scanning, making the reply. Not counted is the wait for
//! disks, replicas and other nodes, and what other nodes do for it.

use crate::{latency::Event, room::Gate};
use bytes::Bytes;
use commands::{node_command::SlowlogCommand, numbers};
use std::{collections::VecDeque, net::SocketAddr, time::Duration};

/// Arguments of a command that are kept, and bytes of each.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;
/// The greatest `slowlog-max-len`: so much is a few hundred megabytes at worst.
pub const COMMANDS_MAX: usize = 100_000;
/// How many SLOWLOG GET tells unless it is told.
const TOLD: i64 = 10;

/// A command, cut to what is kept.
#[derive(Debug)]
struct SlowCommand {
    number: i64,
    /// Unix time, seconds.
    at_s: u64,
    took: Duration,
    args: Vec<Bytes>,
    addr: SocketAddr,
    client: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// Microseconds from which on a command is slow; negative: none is.
    pub(crate) from_us: i64,
    pub(crate) commands_max: usize,
    /// The newest first.
    commands: VecDeque<SlowCommand>,
    next: i64,
}

impl Default for SlowLog {
    fn default() -> Self {
        SlowLog {
            from_us: 10_000,
            commands_max: 128,
            commands: VecDeque::new(),
            next: 0,
        }
    }
}

impl SlowLog {
    fn from(&self) -> Option<Duration> {
        let from = u64::try_from(self.from_us).ok()?;
        Some(Duration::from_micros(from))
    }

    /// Keeps so many from now on.
    pub(crate) fn set_max(&mut self, commands: usize) {
        self.commands_max = commands;
        self.commands.truncate(commands);
    }
}

/// What is kept of a command's arguments, in Redis's words where it is not all.
pub(crate) fn cut(args: &[&[u8]]) -> Vec<Bytes> {
    let whole = if args.len() > ARGS_MAX {
        ARGS_MAX - 1
    } else {
        args.len()
    };
    let mut kept: Vec<Bytes> = Vec::with_capacity(whole + 1);
    for arg in &args[..whole] {
        kept.push(match arg.split_at_checked(ARG_BYTES_MAX) {
            Some((first, rest)) if !rest.is_empty() => {
                let more = format!("... ({} more bytes)", rest.len());
                [first, more.as_bytes()].concat().into()
            }
            _ => Bytes::copy_from_slice(arg),
        });
    }
    if whole < args.len() {
        kept.push(format!("... ({} more arguments)", args.len() - whole).into());
    }
    kept
}

/// In whose place a password is shown.
const REDACTED: &[u8] = b"(redacted)";

/// A command without the passwords in it, as it may be shown and kept. None if it has none.
pub(crate) fn without_secrets<'a>(args: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let is = |arg: &[u8], name: &str| arg.eq_ignore_ascii_case(name.as_bytes());
    let (name, rest) = args.split_first()?;
    let secret = if is(name, "auth") {
        1..args.len()
    } else if is(name, "hello") {
        // Whatever is like it, also where HELLO takes it for something else.
        let at = rest.iter().position(|arg| is(arg, "auth"))? + 2;
        at..args.len().min(at + 2)
    } else {
        return None;
    };
    let mut shown = args.to_vec();
    shown[secret].fill(REDACTED);
    Some(shown)
}

impl Gate {
    /// How long a command takes that is to be reported to [`Gate::took`]; None: none is.
    pub fn slow_from(&self) -> Option<Duration> {
        [self.slow_log.from(), self.latency.from()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A command that the client had just given took so long.
    pub fn took(&mut self, conn: u64, args: &[&[u8]], took: Duration) {
        // One that closed its connection leaves none to name.
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        let at_s = self.now.wall_ms / 1000;
        let is_fast = commands::find(args).is_ok_and(|spec| spec.is_fast());
        let event = if is_fast {
            Event::FastCommand
        } else {
            Event::Command
        };
        self.latency.note(event, at_s, took);
        let log = &mut self.slow_log;
        if log.from().is_none_or(|from| took < from) {
            return;
        }
        log.commands.push_front(SlowCommand {
            number: log.next,
            at_s,
            took,
            args: cut(without_secrets(args).as_deref().unwrap_or(args)),
            addr: session.addr,
            client: session.name.clone(),
        });
        log.next += 1;
        log.commands.truncate(log.commands_max);
    }

    pub(crate) fn slowlog(&mut self, conn: u64, command: SlowlogCommand, args: &[&[u8]]) {
        let told = match (command, args.get(2..).unwrap_or_default()) {
            (SlowlogCommand::Help, _) => return self.answer_help(conn, args),
            (SlowlogCommand::Len, _) => {
                let len = self.slow_log.commands.len();
                return self.answer(conn, |out| out.integer(len as i64));
            }
            (SlowlogCommand::Reset, _) => {
                self.slow_log.commands.clear();
                return self.answer(conn, |out| out.ok());
            }
            (SlowlogCommand::Get, []) => TOLD,
            (SlowlogCommand::Get, [count]) => match numbers::parse(count) {
                Some(count @ -1..) => count,
                _ => {
                    let line = "ERR count should be greater than or equal to -1";
                    return self.answer_error(conn, line);
                }
            },
            (SlowlogCommand::Get, _) => {
                let line = "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.";
                return self.answer_error(conn, line);
            }
        };
        let commands = std::mem::take(&mut self.slow_log.commands);
        let told = usize::try_from(told).unwrap_or(commands.len());
        let told = told.min(commands.len());
        self.answer(conn, |out| {
            out.array(told);
            for slow in commands.iter().take(told) {
                out.array(6);
                out.integer(slow.number);
                out.integer(slow.at_s as i64);
                out.integer(slow.took.as_micros() as i64);
                out.array(slow.args.len());
                for arg in &slow.args {
                    out.bulk(arg);
                }
                out.bulk(slow.addr.to_string());
                out.bulk(&slow.client);
            }
        });
        self.slow_log.commands = commands;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_kept() {
        let shown = |line: &'static str| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let shown = without_secrets(&args).unwrap_or(args);
            String::from_utf8(shown.join(&b' ')).unwrap()
        };
        assert_eq!(shown("AUTH pw"), "AUTH (redacted)");
        assert_eq!(shown("auth ada pw"), "auth (redacted) (redacted)");
        assert_eq!(
            shown("HELLO 3 AUTH ada pw SETNAME x"),
            "HELLO 3 AUTH (redacted) (redacted) SETNAME x"
        );
        assert_eq!(shown("HELLO 3 AUTH ada"), "HELLO 3 AUTH (redacted)");
        assert_eq!(shown("HELLO 3 AUTH"), "HELLO 3 AUTH");
        assert_eq!(shown("GET auth"), "GET auth");
    }

    #[test]
    fn long_commands_are_cut_as_redis_cuts_them() {
        let long = [b'x'; 130];
        let args: Vec<&[u8]> = std::iter::repeat_n(&long[..], 33).collect();
        let kept = cut(&args);
        assert_eq!(kept.len(), 32);
        let expected = format!("{}... (2 more bytes)", "x".repeat(128));
        assert_eq!(kept[30], expected.as_bytes());
        assert_eq!(kept[31], "... (2 more arguments)".as_bytes());
        let kept = cut(&args[..32]);
        assert_eq!(kept[31], expected.as_bytes());
        assert_eq!(cut(&[&long[..128]]), [Bytes::copy_from_slice(&long[..128])]);
    }
}
