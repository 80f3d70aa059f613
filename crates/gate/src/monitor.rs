//! MONITOR: a connection is shown every command that this node takes from its clients.
//!
//! What it does not read is bounded: while it has more than [`UNREAD_MAX`] bytes before it nothing
//! more is shown, and how many commands that left out stands in a line of its own behind the gap.
//! Long commands are cut as SLOWLOG cuts them, passwords are not shown, and as in Redis neither is
//! what COMMAND flags as `admin`.

use crate::{
    room::Gate,
    slowlog::{cut, without_secrets},
};
use bytes::{BufMut, BytesMut};
use commands::{Flags, Spec};

/// What one connection may leave unread, in bytes.
const UNREAD_MAX: usize = 1 << 20;

/// One connection that is shown commands.
#[derive(Debug)]
pub(crate) struct Monitor {
    conn: u64,
    /// Commands that were not shown since one was.
    left_out: u64,
}

impl Gate {
    pub(crate) fn monitor(&mut self, conn: u64) {
        self.answer(conn, |out| out.ok());
        if self.monitors.iter().all(|monitor| monitor.conn != conn) {
            self.monitors.push(Monitor { conn, left_out: 0 });
        }
    }

    /// Whether it is shown what others do.
    pub(crate) fn is_monitor(&self, conn: u64) -> bool {
        self.monitors.iter().any(|monitor| monitor.conn == conn)
    }

    /// It is shown nothing more.
    pub(crate) fn end_monitor(&mut self, conn: u64) {
        self.monitors.retain(|monitor| monitor.conn != conn);
    }

    /// A command was taken from `conn`.
    #[cold]
    pub(crate) fn show_to_monitors(&mut self, conn: u64, spec: &Spec, args: &[&[u8]]) {
        if spec.flags.has(Flags::ADMIN) {
            return;
        }
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        let (at, keyspace, addr) = (self.now.wall_ms, session.keyspace, session.addr);
        let head = format!("+{}.{:06} ", at / 1000, at % 1000 * 1000);
        let mut line = BytesMut::from(head.as_bytes());
        line.extend_from_slice(format!("[{keyspace} {addr}]").as_bytes());
        for arg in cut(without_secrets(args).as_deref().unwrap_or(args)) {
            line.put_u8(b' ');
            put_quoted(&arg, &mut line);
        }
        line.extend_from_slice(b"\r\n");
        let line = line.freeze();
        let mut monitors = std::mem::take(&mut self.monitors);
        monitors.retain_mut(|monitor| {
            let Some(session) = self.sessions.get_mut(&monitor.conn) else {
                return false;
            };
            if session.killed {
                return false;
            }
            if session.reply_bytes() + line.len() > UNREAD_MAX {
                monitor.left_out += 1;
                return true;
            }
            let left_out = std::mem::take(&mut monitor.left_out);
            if left_out > 0 {
                let gap = format!("{head}{left_out} commands are left out: they were not read\r\n");
                session.show(gap.into());
            }
            session.show(line.clone());
            self.announce(monitor.conn);
            true
        });
        self.monitors = monitors;
    }
}

/// As Redis quotes what it shows (`sdscatrepr`).
fn put_quoted(arg: &[u8], line: &mut BytesMut) {
    line.put_u8(b'"');
    for byte in arg {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.put_u8(*byte),
            other => line.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_redis_quotes_them() {
        let mut line = BytesMut::new();
        put_quoted(b"a b\"\\\r\n\t\x07\x08\0\xff", &mut line);
        assert_eq!(line, &br#""a b\"\\\r\n\t\a\b\x00\xff""#[..]);
    }
}
