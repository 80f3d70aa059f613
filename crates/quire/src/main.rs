//! The `quire` binary: a node (`server`), a whole cluster on one machine (`demo`), and the
//! commands that administer, fill and measure one.
//!
//! Administration goes through a node's client port, in RESP; a command here builds one
//! request, prints one answer, and keeps nothing. The exit status is 0 only on success: 1 when
//! the command failed or found what it was asked to look for (a replica that differs, a broken
//! promise, a bad line), 2 when it was called wrongly.
//!
//! ```text
//! main ── *_command ── client ── resp ── a node's client port
//!      ├─ plan/    capacity → show, json, report
//!      ├─ moving/  import and export: live (another server) and target (a cluster)
//!      ├─ bench/   schedule → connection (workload, scan, checks) → recorder → report
//!      └─ demo/    plan → ports → nodes (child processes) → steps
//! ```
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the binary is where clocks, files and sockets are"
)]

mod address;
mod bench;
mod choose_command;
mod client;
mod cluster_status;
mod connect;
mod demo;
mod events_command;
mod export_command;
mod import_command;
mod keyspace_command;
mod load_command;
mod logging;
mod manuals;
mod moving;
mod output;
mod plan;
mod rewound_command;
mod rewound_file;
mod screen;
mod scrub_command;
mod server_command;
mod status_command;
mod table;
mod update;
mod verify_command;
mod voters;
mod wan_command;

use clap::{Parser, Subcommand};
use std::{error::Error, process::ExitCode};

/// A node's path of a command is full of small, short-lived buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What every command gives back: its exit status, or an error that is printed.
type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Quire: a durable, geo-replicated database that speaks the Redis protocol.
#[derive(Parser)]
#[command(name = "quire", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node.
    Server(server_command::Args),
    /// Run a whole cluster on this machine, with emulated links between its regions.
    Demo(demo::Args),
    /// Show the nodes, and who holds which shard how freshly.
    Status(status_command::Args),
    /// Show what was decided about shards, and why.
    Events(events_command::Args),
    /// Create, list, show or drop keyspaces.
    Keyspace(keyspace_command::Args),
    /// Show or change the emulated links between regions.
    Wan(wan_command::Args),
    Plan(plan::Args),
    Choose(choose_command::Args),
    /// Compare all replicas of a keyspace, key by key.
    Verify(verify_command::Args),
    /// Have a node look through everything on its disk for damage, now.
    Scrub(scrub_command::Args),
    /// Show what failovers lost, and write it again.
    Rewound(rewound_command::Args),
    /// Load a file of hashes, one JSON object a line.
    Load(load_command::Args),
    Import(import_command::Args),
    Export(export_command::Args),
    /// Measure latency and throughput, and check the sessions' promises meanwhile.
    Bench(bench::Args),
    /// Print what lets a shell complete commands and options.
    #[command(after_help = manuals::COMPLETIONS_HELP)]
    Completions(manuals::CompletionsArgs),
    /// Write a manual page for each command into a directory.
    Man(manuals::ManArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        // A node builds its own runtimes.
        Command::Server(args) => server_command::run(&args),
        command => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| {
                let outcome = runtime.block_on(dispatch(command));
                // A look-up of a name that nobody waits for any more may take half a minute.
                runtime.shutdown_background();
                outcome
            }),
    };
    outcome.unwrap_or_else(|error| {
        output::complain(error);
        ExitCode::FAILURE
    })
}

async fn dispatch(command: Command) -> Outcome {
    match command {
        Command::Server(args) => server_command::run(&args),
        Command::Demo(args) => demo::run(args).await,
        Command::Status(args) => status_command::run(&args).await,
        Command::Events(args) => events_command::run(&args).await,
        Command::Keyspace(args) => keyspace_command::run(&args).await,
        Command::Wan(args) => wan_command::run(&args).await,
        Command::Plan(args) => plan::run(&args),
        Command::Choose(args) => choose_command::run(&args),
        Command::Verify(args) => verify_command::run(&args).await,
        Command::Scrub(args) => scrub_command::run(&args).await,
        Command::Rewound(args) => rewound_command::run(&args).await,
        Command::Load(args) => load_command::run(&args).await,
        Command::Import(args) => import_command::run(&args).await,
        Command::Export(args) => export_command::run(&args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Completions(args) => manuals::completions(&args),
        Command::Man(args) => manuals::man(&args),
    }
}
