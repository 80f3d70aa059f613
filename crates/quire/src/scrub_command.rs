//! `quire scrub`: has a node look through everything on its disk for damage, now.

use crate::{Outcome, client::NodeArg, output::sayln};
use std::process::ExitCode;

/// Have a node look through everything on its disk for damage, now.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArg,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    client.call(&["QUIRE", "SCRUB"]).await?;
    sayln!("it has begun; the node's INFO persistence shows how far it is and what it finds");
    Ok(ExitCode::SUCCESS)
}
