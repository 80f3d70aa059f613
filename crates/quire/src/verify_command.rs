//! `quire verify`: do all replicas of a keyspace hold the same data? The node compares; this shows
//! how far it is, prints what differs, and says by its exit status which of three it was.

use crate::{
    Outcome,
    client::{ClientError, NodeArg, text_of},
    output::{say, sayln},
    screen::Screen,
    table::{render, table},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::{convert::Infallible, future::pending, process::ExitCode, time::Duration};

/// How long a comparison may take before the node is given up: it reads every key, and gives up by
/// itself what does not go on.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How often the node is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The exit status if nothing was found to differ, and not everything could be compared.
const INCOMPLETE: u8 = 3;

/// Compare all replicas of a keyspace, key by key. The exit status is 0 if they are equal, 1 if
/// some differ, 3 if some could not be compared.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The keyspace to compare.
    #[arg(long, value_name = "NAME")]
    keyspace: String,
    /// Print the node's JSON as it is (documented in docs/cli.md).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: NodeArg,
}

#[derive(Deserialize)]
struct Verdict {
    keyspace: String,
    verdict: Kind,
    shards: Vec<Shard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Equal,
    Differs,
    Incomplete,
}

#[derive(Deserialize)]
struct Shard {
    id: u64,
    position: Option<String>,
    replicas: Vec<Replica>,
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
struct Replica {
    node: String,
    digest: Option<String>,
    keys: Option<u64>,
    /// `ok`, `missing` or `differs`.
    state: String,
    /// Why it is missing.
    why: Option<String>,
}

#[derive(Deserialize)]
struct Difference {
    key: String,
    node: String,
    what: String,
}

/// What `QUIRE VERIFICATIONS` answers.
#[derive(Deserialize)]
struct Progress {
    verifications: Vec<UnderWay>,
}

#[derive(Deserialize)]
struct UnderWay {
    keyspace: Option<String>,
    shards: u64,
    shards_done: u64,
    replicas: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    keys: u64,
    keys_total: u64,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    client.set_reply_timeout(VERIFY_TIMEOUT);
    let asked = ["QUIRE", "VERIFY", &args.keyspace];
    let reply = tokio::select! {
        reply = client.call(&asked) => reply?,
        never = show_progress(args) => match never {},
    };
    let json = text_of(reply)?;
    let verdict: Verdict = args.node.read(&json, "a verdict")?;
    if args.json {
        sayln!("{json}");
    } else {
        say!("{}", show(&verdict, Screen::of_stdout()));
    }
    Ok(match verdict.verdict {
        Kind::Equal => ExitCode::SUCCESS,
        Kind::Differs => ExitCode::FAILURE,
        Kind::Incomplete => ExitCode::from(INCOMPLETE),
    })
}

/// Shows how far the node is, over a connection of its own, until it is dropped.
async fn show_progress(args: &Args) -> Infallible {
    // If it can't be shown any more the verdict comes all the same.
    let _ = try_to_show_progress(args).await;
    pending().await
}

async fn try_to_show_progress(args: &Args) -> Result<(), ClientError> {
    // Hidden by indicatif itself where standard error is not a terminal.
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message("waiting for all replicas to be at one position");
    if bar.is_hidden() {
        return Ok(());
    }
    let mut client = args.node.connect().await?;
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let reply = text_of(client.call(&["QUIRE", "VERIFICATIONS"]).await?)?;
        let Ok(progress) = args.node.read::<Progress>(&reply, "its progress") else {
            return Ok(());
        };
        let mut under_way = progress.verifications.iter();
        if let Some(own) = under_way.find(|v| v.keyspace.as_deref() == Some(&args.keyspace)) {
            let keys_total = own.replicas.iter().map(|r| r.keys_total).sum();
            if keys_total > 0 {
                bar.set_message(format!("shard {} of {}", own.shards_done + 1, own.shards));
                if bar.length().is_none() {
                    let counting = "{bar:40} {pos}/{len} keys {msg} {elapsed}";
                    if let Ok(style) = ProgressStyle::with_template(counting) {
                        bar.set_style(style);
                    }
                }
                bar.set_length(keys_total);
                bar.set_position(own.replicas.iter().map(|r| r.keys).sum());
            }
        }
        bar.tick();
    }
}

fn show(verdict: &Verdict, screen: Screen) -> String {
    let mut rows = table(
        &["SHARD", "POSITION", "NODE", "KEYS", "DIGEST", "STATE"],
        &[0, 1, 3],
    );
    let dash = || "-".to_string();
    for s in &verdict.shards {
        for r in &s.replicas {
            rows.add_row([
                s.id.to_string(),
                s.position.clone().unwrap_or_else(dash),
                r.node.clone(),
                r.keys.map_or_else(dash, |k| k.to_string()),
                r.digest.clone().unwrap_or_else(dash),
                r.state.clone(),
            ]);
        }
    }
    let mut text = render(&rows);
    for s in &verdict.shards {
        for d in &s.differences {
            let line = format!(" shard {}: key {} on {}: {}\n", s.id, d.key, d.node, d.what);
            text.push_str(&screen.wrap(&line, 4));
        }
    }
    for s in &verdict.shards {
        for r in &s.replicas {
            if let Some(why) = &r.why {
                let line = format!(" shard {}: {} was not compared: {why}\n", s.id, r.node);
                text.push_str(&screen.wrap(&line, 4));
            }
        }
    }
    text.push_str(&format!(
        " keyspace {}: {}\n",
        verdict.keyspace,
        match verdict.verdict {
            Kind::Equal => "all replicas are equal",
            Kind::Differs => "replicas DIFFER",
            Kind::Incomplete => "not all replicas could be compared; those that were are equal",
        }
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EQUAL: &str = r#"{"keyspace":"profiles","equal":true,"verdict":"equal","shards":[{"id":7,
        "position":"3:9","replicas":[{"node":"us-1","digest":"ab12","keys":5,"state":"ok","why":null}],
        "differences":[]}]}"#;

    fn shown(json: &str) -> String {
        show(
            &serde_json::from_str::<Verdict>(json).unwrap(),
            Screen::default(),
        )
    }

    #[test]
    fn tells_three_outcomes_apart() {
        assert!(shown(EQUAL).ends_with("profiles: all replicas are equal\n"));
        let missing = EQUAL
            .replace(r#""verdict":"equal""#, r#""verdict":"incomplete""#)
            .replace(
                r#""state":"ok","why":null"#,
                r#""state":"missing","why":"it is down""#,
            );
        let missing = shown(&missing);
        assert!(!missing.contains("DIFFER"), "{missing}");
        assert!(
            missing.contains("shard 7: us-1 was not compared: it is down"),
            "{missing}"
        );
        let differs = EQUAL.replace(r#""verdict":"equal""#, r#""verdict":"differs""#);
        assert!(shown(&differs).ends_with("profiles: replicas DIFFER\n"));
    }

    #[test]
    fn names_what_differs() {
        let json = EQUAL.replace(
            r#""differences":[]"#,
            r#""differences":[{"key":"k1","node":"eu-1","what":"field a differs"}]"#,
        );
        let shown = shown(&json);
        assert!(
            shown.contains("shard 7: key k1 on eu-1: field a differs"),
            "{shown}"
        );
    }
}
