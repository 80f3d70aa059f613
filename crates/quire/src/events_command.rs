//! `quire events`: what the control plane decided about shards and why, the newest last.

use crate::{
    Outcome,
    client::{NodeArg, text_of},
    output::{say, sayln},
};
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
    let events: Events = serde_json::from_str(&json)
        .map_err(|e| format!("{} answered events that can't be read: {e}", args.node.addr))?;
    say!("{}", show(&events));
    Ok(ExitCode::SUCCESS)
}

fn show(events: &Events) -> String {
    if events.events.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let line = |e: &Event| format!("{}  {:<10}  {}\n", utc(e.at_ms), e.kind, e.text);
    events.events.iter().map(line).collect()
}

/// `2026-11-24 21:13:51.042` of ms since 1970, by the civil calendar (Hinnant's
/// `civil_from_days`).
fn utc(at_ms: u64) -> String {
    let (days, ms) = ((at_ms / 86_400_000) as i64, at_ms % 86_400_000);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{:03}",
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_with_their_time() {
        let json = r#"{"events":[{"version":7,"at_ms":1795641231042,"shard":0,"kind":"failover","text":"us-2 takes over"}]}"#;
        let events: Events = serde_json::from_str(json).unwrap();
        let shown = show(&events);
        assert_eq!(
            shown,
            "2026-11-25 21:13:51.042  failover    us-2 takes over\n"
        );
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(
            show(&Events { events: vec![] }),
            "nothing has happened yet\n"
        );
    }
}
