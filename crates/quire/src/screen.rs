//! What standard output and standard error are: how wide, and whether they show colours. Asked at
//! the edge; what is shown is made by pure functions that are told.

use anstyle::{AnsiColor, Style};
use std::{
    io::{self, IsTerminal},
    os::fd::AsFd,
};

/// Narrower, text is no longer wrapped: a word a line helps nobody.
const WIDTH_MIN: usize = 40;

/// Where something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns; None where lines are not to be broken: a file, a pipe.
    pub(crate) width: Option<usize>,
    /// Whether colours are wanted: a terminal, unless `NO_COLOR` or a `TERM` of `dumb` says no.
    pub(crate) colour: bool,
}

impl Screen {
    pub(crate) fn of_stdout() -> Self {
        Screen::of(&io::stdout())
    }

    pub(crate) fn of_stderr() -> Self {
        Screen::of(&io::stderr())
    }

    fn of<S: anstream::stream::RawStream + IsTerminal + AsFd>(stream: &S) -> Self {
        let choice = anstream::AutoStream::choice(stream);
        let size =
            IsTerminal::is_terminal(stream).then(|| rustix::termios::tcgetwinsize(stream).ok());
        let width = size.flatten().map(|size| usize::from(size.ws_col));
        Screen {
            width: width.filter(|width| *width > 0),
            colour: choice != anstream::ColorChoice::Never,
        }
    }

    /// How trouble is shown.
    pub(crate) fn alarm(self) -> Option<Style> {
        self.style(AnsiColor::Red.on_default().bold())
    }

    /// How what is not as it will be is shown.
    pub(crate) fn notice(self) -> Option<Style> {
        self.style(AnsiColor::Yellow.on_default())
    }

    fn style(self, style: Style) -> Option<Style> {
        self.colour.then_some(style)
    }

    /// `text` in lines that fit: what doesn't fit goes on in a line that is indented by `indent`.
    /// Words that are longer than a line stay whole, and so does what fits.
    pub(crate) fn wrap(self, text: &str, indent: usize) -> String {
        let Some(width) = self.width.filter(|width| *width >= WIDTH_MIN) else {
            return text.to_owned();
        };
        let lines = text.split('\n');
        let wrapped: Vec<String> = lines.map(|line| wrap_line(line, width, indent)).collect();
        wrapped.join("\n")
    }
}

fn wrap_line(text: &str, width: usize, indent: usize) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    // Whether the line has no word yet.
    let mut fresh = true;
    // Blanks between words are kept as they are within a line: they align columns.
    for word in text.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ').chars().count();
        if bare > 0 && !fresh && column + bare > width {
            wrapped.truncate(wrapped.trim_end_matches(' ').len());
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            (column, fresh) = (indent, true);
        }
        fresh = fresh && bare == 0;
        wrapped.push_str(word);
        column += word.chars().count();
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wide(width: usize) -> Screen {
        Screen {
            width: Some(width),
            colour: false,
        }
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = "at noon  failover    us-2 takes over shard 0 of profiles";
        assert_eq!(
            wide(40).wrap(text, 4),
            "at noon  failover    us-2 takes over\n    shard 0 of profiles"
        );
        assert_eq!(wide(80).wrap(text, 4), text);
        assert_eq!(wide(20).wrap(text, 4), text, "too narrow to help");
        assert_eq!(Screen::default().wrap(text, 4), text);
    }

    #[test]
    fn each_line_is_wrapped_by_itself() {
        let text = "ports are in use; choose others with --base-port:\n  port 7001\n  port 7002";
        assert_eq!(
            wide(40).wrap(text, 2),
            "ports are in use; choose others with\n  --base-port:\n  port 7001\n  port 7002"
        );
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_only_long_words_stand_out(
            words in proptest::collection::vec("[a-z]{1,60}", 1..40),
            width in 40_usize..100,
        ) {
            let text = words.join(" ");
            let wrapped = wide(width).wrap(&text, 4);
            let found: Vec<&str> = wrapped.split_whitespace().collect();
            prop_assert_eq!(found, words);
            for line in wrapped.lines() {
                let words = line.split_whitespace().count();
                prop_assert!(line.len() <= width || words == 1, "{line}");
            }
        }
    }
}
