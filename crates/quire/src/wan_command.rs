//! `quire wan`: the emulated links between regions, as the demo and the tests use them.

use crate::{
    Outcome,
    client::{NodeArg, expect_ok, text_of},
    output::{say, sayln},
    table::{render, table},
};
use clap::Subcommand;
use serde::Deserialize;
use std::process::ExitCode;

/// Show or change the emulated links between regions.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    node: NodeArg,
}

#[derive(Subcommand)]
enum Action {
    /// Show every link, its one-way latency and whether it is cut.
    Show {
        /// Print the node's JSON as it is.
        #[arg(long)]
        json: bool,
    },
    /// Lose everything sent from one region to another, until healed.
    Cut {
        /// A region, or a node.
        from: String,
        /// A region, or a node.
        to: String,
    },
    /// Undo a cut.
    Heal {
        /// A region, or a node.
        from: String,
        /// A region, or a node.
        to: String,
    },
    /// Set the one-way latency, as in `250ms`.
    Set {
        /// A region, or a node.
        from: String,
        /// A region, or a node.
        to: String,
        /// With its unit: 250ms, 0.5ms, 2s.
        latency: String,
    },
}

#[derive(Deserialize)]
struct Links {
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    from: String,
    to: String,
    latency_ms: f64,
    state: String,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let request = match &args.action {
        Action::Show { .. } => vec!["QUIRE", "WAN", "SHOW"],
        Action::Cut { from, to } => vec!["QUIRE", "WAN", "CUT", from, to],
        Action::Heal { from, to } => vec!["QUIRE", "WAN", "HEAL", from, to],
        Action::Set { from, to, latency } => vec!["QUIRE", "WAN", "SET", from, to, latency],
    };
    let reply = args.node.connect().await?.call(&request).await?;
    let Action::Show { json } = args.action else {
        expect_ok(reply)?;
        sayln!("OK");
        return Ok(ExitCode::SUCCESS);
    };
    let text = text_of(reply)?;
    let links: Links = args.node.read(&text, "links")?;
    if json {
        sayln!("{text}");
    } else {
        say!("{}", show(&links));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(links: &Links) -> String {
    let mut rows = table(&["FROM", "TO", "LATENCY-MS", "STATE"], &[2]);
    for l in &links.links {
        rows.add_row([&l.from, &l.to, &l.latency_ms.to_string(), &l.state]);
    }
    render(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_link_a_line() {
        let links: Links = serde_json::from_str(
            r#"{"links":[{"from":"us","to":"eu","latency_ms":100,"state":"cut"}]}"#,
        )
        .unwrap();
        assert_eq!(
            show(&links),
            " FROM  TO  LATENCY-MS  STATE\n us    eu         100  cut\n"
        );
    }
}
