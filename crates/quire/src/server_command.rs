//! `quire server`: one node, as its configuration file says. The file's format stands in
//! docs/cli.md.

use crate::{
    Outcome,
    logging::{self, Format},
};
use std::{path::PathBuf, process::ExitCode};

/// Run one node.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    /// Stop when standard input ends: a parent that dies takes its nodes along.
    #[arg(long)]
    stop_on_stdin_eof: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let filter = logging::begin(args.log_format)?;
    server::run(&args.config, args.stop_on_stdin_eof, &filter)?;
    Ok(ExitCode::SUCCESS)
}
