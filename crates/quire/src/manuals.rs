//! `quire completions` and `quire man`: what a package ships beside the binary, made from the
//! command line's own description, so that it can't differ from it.

use crate::{Outcome, output};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What a page says that it is of.
const SOURCE: &str = concat!("Quire ", env!("CARGO_PKG_VERSION"));

/// Where shells look for it.
pub(crate) const COMPLETIONS_HELP: &str = "\
Examples:
  quire completions bash > ~/.local/share/bash-completion/completions/quire
  quire completions zsh > \"${fpath[1]}/_quire\"
  quire completions fish > ~/.config/fish/completions/quire.fish";

/// Print what lets a shell complete commands and options.
#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Whose.
    shell: Shell,
}

/// Write a manual page for each command into a directory.
#[derive(clap::Args)]
pub(crate) struct ManArgs {
    /// Made if it is not there. Read a page with: man -l DIR/quire.1
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "quire", &mut script);
    output::write_bytes(&script);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(args: &ManArgs) -> Outcome {
    let pages = pages(&mut crate::Cli::command())?;
    let failed = |path: &Path, e| format!("can't write {}: {e}", path.display());
    fs::create_dir_all(&args.dir).map_err(|e| failed(&args.dir, e))?;
    for (name, page) in &pages {
        let path = args.dir.join(name);
        fs::write(&path, page).map_err(|e| failed(&path, e))?;
    }
    output::sayln!("{} pages in {}", pages.len(), args.dir.display());
    Ok(ExitCode::SUCCESS)
}

/// A page, as a file's name and its text, for `command` and for each command below it.
fn pages(command: &mut Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    // Names and options that are handed down are filled in.
    command.build();
    let mut pages = Vec::new();
    add_pages(command, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let man = clap_mangen::Man::new(command.clone()).source(SOURCE);
    let mut page = Vec::new();
    man.render(&mut page)?;
    pages.push((man.get_filename(), page));
    for below in command.get_subcommands() {
        if below.get_name() != "help" && !below.is_hide_set() {
            add_pages(below, pages)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_described_without_contradiction() {
        crate::Cli::command().debug_assert();
    }

    /// Each command, with its path as people type it.
    fn for_each(command: &Command, path: &str, look: &mut impl FnMut(&str, &Command)) {
        look(path, command);
        for below in command.get_subcommands() {
            if below.get_name() != "help" {
                for_each(below, &format!("{path} {}", below.get_name()), look);
            }
        }
    }

    /// clap breaks what is too wide wherever it is, examples and tables too.
    #[test]
    fn what_help_ends_with_fits_80_columns() {
        for_each(&crate::Cli::command(), "quire", &mut |path, command| {
            let ends = [command.get_after_help(), command.get_after_long_help()];
            let lines = ends.into_iter().flatten().map(ToString::to_string);
            for line in lines.collect::<Vec<_>>().join("\n").lines() {
                assert!(line.chars().count() <= 80, "{path} --help: {line}");
            }
        });
    }

    #[test]
    fn help_says_what_each_argument_is() {
        for_each(&crate::Cli::command(), "quire", &mut |path, command| {
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "{path} --help: {id}");
            }
        });
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = pages(&mut crate::Cli::command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for wanted in [
            "quire.1",
            "quire-status.1",
            "quire-keyspace-create.1",
            "quire-demo-kill.1",
        ] {
            assert!(names.contains(&wanted), "{wanted} is not among {names:?}");
        }
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page);
            assert!(
                page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
                "{name}"
            );
        }
    }
}
