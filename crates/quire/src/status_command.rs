//! `quire status`: the nodes, then the keyspaces, their shards and replicas.

use crate::{
    Outcome,
    client::{NodeArg, text_of},
    cluster_status::ClusterStatus,
    output::{say, sayln},
    table::{render, table},
};
use std::{fmt::Display, process::ExitCode};

/// Show the nodes, and who holds which shard how freshly.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArg,
    /// Print the node's JSON as it is (documented in docs/cli.md).
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    let json = text_of(client.call(&["QUIRE", "STATUS"]).await?)?;
    let status: ClusterStatus = args.node.read(&json, "a status")?;
    if args.json {
        sayln!("{json}");
    } else {
        say!("{}", show(&status));
    }
    Ok(ExitCode::SUCCESS)
}

/// Both tables.
fn show(status: &ClusterStatus) -> String {
    let mut nodes = table(&["NODE", "REGION", "ADDRESS", "PID", "STATE"], &[3]);
    for n in &status.nodes {
        nodes.add_row([
            n.id.clone(),
            n.region.clone(),
            n.client_addr.clone(),
            or_dash(n.pid),
            n.state.clone(),
        ]);
    }
    let mut text = render(&nodes);
    for k in &status.keyspaces {
        text.push_str(&format!(
            "\n keyspace {} {} ({}, ack {})\n",
            k.id, k.name, k.topology, k.ack
        ));
        let mut shards = table(
            &[
                "SHARD",
                "EPOCH",
                "NODE",
                "ROLE",
                "CAUGHT-UP",
                "PROMOTABLE",
                "POSITION",
                "LAG-MS",
            ],
            &[0, 1, 6, 7],
        );
        for s in &k.shards {
            if s.primary.is_none() {
                shards.add_row([
                    s.id.to_string(),
                    s.epoch.to_string(),
                    "-".into(),
                    "no primary".into(),
                ]);
            }
            for r in &s.replicas {
                shards.add_row([
                    s.id.to_string(),
                    s.epoch.to_string(),
                    r.node.clone(),
                    r.role.clone(),
                    yes_no(r.caught_up),
                    yes_no(r.promotable),
                    or_dash(r.position.as_deref()),
                    or_dash(r.lag_ms.map(|ms| ms.round())),
                ]);
            }
        }
        text.push_str(&render(&shards));
    }
    if status.keyspaces.is_empty() {
        text.push_str("\n no keyspaces; make one with: quire keyspace create NAME\n");
    }
    text
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_status::tests::EXAMPLE;

    #[test]
    fn shows_each_node_and_replica_in_a_line() {
        let shown = show(&ClusterStatus::parse(EXAMPLE).unwrap());
        assert_eq!(
            shown,
            " NODE  REGION  ADDRESS         PID  STATE
 us-1  us      127.0.0.1:7001   41  up
 eu-1  eu      127.0.0.1:7004    -  up

 keyspace 0 profiles (primary-replica, ack async)
 SHARD  EPOCH  NODE  ROLE     CAUGHT-UP  PROMOTABLE  POSITION  LAG-MS
     7      3  us-1  primary  yes        yes              3:9       0
     7      3  eu-1  replica  yes        no                 -     105
"
        );
    }

    #[test]
    fn a_shard_without_a_primary_says_so() {
        let json = EXAMPLE.replace(r#""primary":"us-1""#, r#""primary":null"#);
        assert!(show(&ClusterStatus::parse(&json).unwrap()).contains("no primary"));
    }
}
