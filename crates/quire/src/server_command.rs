//! `quire server`: one node, as its configuration file says. The file's format stands in
//! docs/cli.md.

use crate::Outcome;
use std::{path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Run one node.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop when standard input ends: a parent that dies takes its nodes along.
    #[arg(long)]
    stop_on_stdin_eof: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    server::run(&args.config, args.stop_on_stdin_eof)?;
    Ok(ExitCode::SUCCESS)
}
