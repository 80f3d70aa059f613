//! `quire status`: the nodes, then the keyspaces, their shards and replicas.

use crate::{
    Outcome,
    client::{NodeArg, text_of},
    cluster_status::{ClusterStatus, CopyStatus},
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
        for s in &k.shards {
            for r in &s.replicas {
                if let Some(copy) = &r.copy {
                    text.push_str(&format!(
                        " shard {} on {}: {}\n",
                        s.id,
                        r.node,
                        progress(copy)
                    ));
                }
            }
        }
    }
    if status.keyspaces.is_empty() {
        text.push_str("\n no keyspaces; make one with: quire keyspace create NAME\n");
    }
    text
}

/// How far a copy is, how fast it goes, and how long it takes from here at that rate.
fn progress(copy: &CopyStatus) -> String {
    let (from, keys) = (&copy.from, copy.keys);
    let Some(total) = copy.keys_total else {
        return format!("waits to be copied from {from}");
    };
    let seconds = copy.elapsed_ms as f64 / 1000.0;
    let mib = copy.bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "{:.0} % copied from {from}: {keys} of {total} keys, {mib:.0} MiB, {:.1} MiB/s",
        100.0 * keys as f64 / total.max(1) as f64,
        mib / seconds.max(0.001),
    );
    if keys > 0 {
        let left = total.saturating_sub(keys) as f64 / keys as f64 * seconds;
        text.push_str(&format!(", about {left:.0} s left"));
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
    fn a_copy_under_way_says_how_far_it_is() {
        let with = |total: &str| {
            let copy = format!(
                r#""lag_ms":104.5,"copy":{{"from":"us-1","keys":250,"keys_total":{total},"bytes":52428800,"elapsed_ms":2000}}"#
            );
            let json = EXAMPLE.replace(r#""lag_ms":104.5"#, &copy);
            show(&ClusterStatus::parse(&json).unwrap())
        };
        let says = " shard 7 on eu-1: 25 % copied from us-1: 250 of 1000 keys, 50 MiB, 25.0 MiB/s, about 6 s left\n";
        assert!(with("1000").ends_with(says), "{}", with("1000"));
        let waits = " shard 7 on eu-1: waits to be copied from us-1\n";
        assert!(with("null").ends_with(waits));
    }

    #[test]
    fn a_shard_without_a_primary_says_so() {
        let json = EXAMPLE.replace(r#""primary":"us-1""#, r#""primary":null"#);
        assert!(show(&ClusterStatus::parse(&json).unwrap()).contains("no primary"));
    }
}
