//! `quire events`: what the control plane decided about shards and why, the newest last.

use crate::{
    Outcome,
    client::{NodeArg, text_of},
    output::{say, sayln},
    screen::Screen,
};
use model::time::rfc3339;
use serde::Deserialize;
use std::process::ExitCode;

/// Show what was decided about shards, and why.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArg,
    /// Print the node's JSON as it is (documented in docs/cli.md).
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    at_ms: u64,
    kind: String,
    text: String,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    let json = text_of(client.call(&["QUIRE", "EVENTS"]).await?)?;
    if args.json {
        sayln!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    let events: Events = args.node.read(&json, "events")?;
    say!("{}", show(&events, Screen::of_stdout()));
    Ok(ExitCode::SUCCESS)
}

/// An event a line; on a terminal that is too narrow for one, its further lines are indented.
fn show(events: &Events, screen: Screen) -> String {
    if events.events.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let line = |e: &Event| {
        let line = format!("{}  {:<10}  {}", rfc3339(e.at_ms), e.kind, e.text);
        screen.wrap(&line, 4) + "\n"
    };
    events.events.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_with_their_time() {
        let json = r#"{"events":[{"version":7,"at_ms":1795641231042,"shard":0,"kind":"failover","text":"us-2 takes over"}]}"#;
        let events: Events = serde_json::from_str(json).unwrap();
        let shown = show(&events, Screen::default());
        assert_eq!(
            shown,
            "2026-11-25T21:13:51.042Z  failover    us-2 takes over\n"
        );
        let narrow = Screen {
            width: Some(50),
            colour: false,
        };
        assert_eq!(
            show(&events, narrow),
            "2026-11-25T21:13:51.042Z  failover    us-2 takes\n    over\n"
        );
        assert_eq!(
            show(&Events { events: vec![] }, narrow),
            "nothing has happened yet\n"
        );
    }
}
