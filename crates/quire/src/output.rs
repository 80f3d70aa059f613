//! Standard output, and errors. When whoever reads it has seen enough (`quire status | head`), the command
//! ends as if it had written everything: there is nobody left to tell.

use crate::screen::Screen;
use std::{
    fmt,
    io::{self, Write},
    process,
};

/// Writes to standard output.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    ended(io::stdout().lock().write_fmt(text));
}

/// The same, for what need not be text.
pub(crate) fn write_bytes(bytes: &[u8]) {
    ended(io::stdout().lock().write_all(bytes));
}

fn ended(written: io::Result<()>) {
    match written.and_then(|()| io::stdout().flush()) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(e) => {
            complain(format_args!("standard output: {e}"));
            process::exit(1);
        }
    }
}

/// Says on standard error what went wrong. Nothing can be done if nobody can be told.
pub(crate) fn complain(text: impl fmt::Display) {
    let text = Screen::of_stderr().wrap(&format!("quire: {text}"), 2);
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// "1 key", "2 keys".
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Like `print!`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::write(format_args!($($text)*))
    };
}

/// Like `println!`.
macro_rules! sayln {
    ($($text:tt)*) => {
        $crate::output::write(format_args!("{}\n", format_args!($($text)*)))
    };
}

pub(crate) use {say, sayln};
