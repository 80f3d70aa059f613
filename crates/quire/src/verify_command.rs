//! `quire verify`: do all replicas of a keyspace hold the same data? The node compares; this
//! prints what differs and exits with 1 if anything does.

use crate::{
    Outcome,
    client::{NodeArg, text_of},
    output::{say, sayln},
    table::{render, table},
};
use serde::Deserialize;
use std::{process::ExitCode, time::Duration};

/// How long a comparison may take before the node is given up: it reads every key.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(600);

/// Compare all replicas of a keyspace, key by key.
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
    equal: bool,
    shards: Vec<Shard>,
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
}

#[derive(Deserialize)]
struct Difference {
    key: String,
    node: String,
    what: String,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    client.set_reply_timeout(VERIFY_TIMEOUT);
    let reply = client.call(&["QUIRE", "VERIFY", &args.keyspace]).await?;
    let json = text_of(reply)?;
    let verdict: Verdict = args.node.read(&json, "a verdict")?;
    if args.json {
        sayln!("{json}");
    } else {
        say!("{}", show(&verdict));
    }
    Ok(if verdict.is_equal() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Verdict {
    /// Equal as the node judged it, and nothing in its own findings that says otherwise.
    fn is_equal(&self) -> bool {
        self.equal
            && self
                .shards
                .iter()
                .all(|s| s.differences.is_empty() && s.replicas.iter().all(|r| r.state == "ok"))
    }
}

fn show(verdict: &Verdict) -> String {
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
            text.push_str(&format!(
                " shard {}: key {} on {}: {}\n",
                s.id, d.key, d.node, d.what
            ));
        }
    }
    text.push_str(&format!(
        " keyspace {}: {}\n",
        verdict.keyspace,
        if verdict.is_equal() {
            "all replicas are equal"
        } else {
            "replicas DIFFER"
        }
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EQUAL: &str = r#"{"keyspace":"profiles","equal":true,"shards":[{"id":7,"position":"3:9",
        "replicas":[{"node":"us-1","digest":"ab12","keys":5,"state":"ok"}],"differences":[]}]}"#;

    #[test]
    fn equal_only_if_every_finding_agrees() {
        let parse = |json: &str| serde_json::from_str::<Verdict>(json).unwrap();
        assert!(parse(EQUAL).is_equal());
        for (from, to) in [
            (r#""equal":true"#, r#""equal":false"#),
            (r#""state":"ok""#, r#""state":"missing""#),
            (
                r#""differences":[]"#,
                r#""differences":[{"key":"k1","node":"eu-1","what":"field a differs"}]"#,
            ),
        ] {
            let verdict = parse(&EQUAL.replace(from, to));
            assert!(!verdict.is_equal(), "{to}");
            assert!(show(&verdict).contains("DIFFER"));
        }
    }

    #[test]
    fn names_what_differs() {
        let json = EQUAL.replace(
            r#""differences":[]"#,
            r#""differences":[{"key":"k1","node":"eu-1","what":"field a differs"}]"#,
        );
        let shown = show(&serde_json::from_str(&json).unwrap());
        assert!(
            shown.contains("shard 7: key k1 on eu-1: field a differs"),
            "{shown}"
        );
    }
}
