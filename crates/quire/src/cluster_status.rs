//! What `QUIRE STATUS` answers, as types. The JSON itself is documented in docs/cli.md.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A node's view of the cluster.
#[derive(Debug, Deserialize)]
pub(crate) struct ClusterStatus {
    pub(crate) nodes: Vec<NodeStatus>,
    pub(crate) keyspaces: Vec<KeyspaceStatus>,
    #[serde(default)]
    pub(crate) control: ControlStatus,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ControlStatus {
    /// None where it is not known.
    pub(crate) leader: Option<String>,
    pub(crate) voters: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) client_addr: String,
    pub(crate) pid: Option<u32>,
    /// `up`, `stalled` (its disk does not answer), `starting` or `down`.
    pub(crate) state: String,
    /// The release that it runs, as it said last.
    #[serde(default)]
    pub(crate) version: Option<String>,
    /// None while it is not up.
    #[serde(default)]
    pub(crate) uptime_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct KeyspaceStatus {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) topology: String,
    pub(crate) ack: String,
    pub(crate) shards: Vec<ShardStatus>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ShardStatus {
    pub(crate) id: u64,
    pub(crate) epoch: u64,
    /// None while nobody may take writes.
    pub(crate) primary: Option<String>,
    pub(crate) replicas: Vec<ReplicaStatus>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ReplicaStatus {
    pub(crate) node: String,
    /// `primary`, `replica`, `learner`, `origin` or `witness`.
    pub(crate) role: String,
    pub(crate) caught_up: bool,
    pub(crate) promotable: bool,
    /// `epoch:index`; None where the node asked has not heard it.
    pub(crate) position: Option<String>,
    pub(crate) lag_ms: Option<f64>,
    /// It is caught up, and holds exactly what the primary holds, as both said last.
    #[serde(default)]
    pub(crate) level: bool,
    /// Of a node that is not up: what it said last.
    #[serde(default)]
    pub(crate) last: Option<LastStatus>,
    /// What its store holds, as its node said last.
    #[serde(default)]
    pub(crate) keys: Option<u64>,
    #[serde(default)]
    pub(crate) bytes: Option<u64>,
    /// How far it is filled from another one, while it is.
    #[serde(default)]
    pub(crate) copy: Option<CopyStatus>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LastStatus {
    pub(crate) position: String,
    pub(crate) lag_ms: Option<f64>,
    /// How long ago that was.
    pub(crate) age_ms: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CopyStatus {
    pub(crate) from: String,
    pub(crate) keys: u64,
    /// None before anything has arrived.
    pub(crate) keys_total: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) elapsed_ms: u64,
}

impl ClusterStatus {
    /// The status in `json`, or what is wrong with it.
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The greatest lag of `keyspace`'s replicas in each region, milliseconds.
    pub(crate) fn lag_ms_max_by_region(&self, keyspace: u32) -> BTreeMap<&str, f64> {
        let mut lags = BTreeMap::new();
        for replica in self.replicas_of(keyspace) {
            let region = self.nodes.iter().find(|n| n.id == replica.node);
            if let (Some(node), Some(lag_ms)) = (region, replica.lag_ms) {
                let worst: &mut f64 = lags.entry(node.region.as_str()).or_insert(0.0);
                *worst = worst.max(lag_ms);
            }
        }
        lags
    }

    /// What keyspace `id` still waits for before every replica of it may be read; None when
    /// there is nothing.
    pub(crate) fn not_ready(&self, id: u32) -> Option<String> {
        if let Some(node) = self.nodes.iter().find(|n| n.state != "up") {
            return Some(format!("node {} is {}", node.id, node.state));
        }
        let Some(keyspace) = self.keyspaces.iter().find(|k| k.id == id) else {
            return Some(format!("keyspace {id} is not there yet"));
        };
        for shard in &keyspace.shards {
            if shard.primary.is_none() {
                return Some(format!("shard {} has no primary", shard.id));
            }
            if let Some(replica) = shard.replicas.iter().find(|r| !r.caught_up) {
                return Some(format!(
                    "shard {} is not caught up on {}",
                    shard.id, replica.node
                ));
            }
        }
        keyspace
            .shards
            .is_empty()
            .then(|| format!("keyspace {id} has no shards yet"))
    }

    fn replicas_of(&self, keyspace: u32) -> impl Iterator<Item = &ReplicaStatus> {
        self.keyspaces
            .iter()
            .filter(move |k| k.id == keyspace)
            .flat_map(|k| &k.shards)
            .flat_map(|s| &s.replicas)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = r#"{"nodes":[
        {"id":"us-1","region":"us","client_addr":"127.0.0.1:7001","pid":41,"state":"up","version":"0.1.0","uptime_ms":61000},
        {"id":"eu-1","region":"eu","client_addr":"127.0.0.1:7004","pid":null,"state":"up"}],
      "keyspaces":[{"id":0,"name":"profiles","topology":"primary-replica","ack":"async","shards":[
        {"id":7,"epoch":3,"primary":"us-1","replicas":[
          {"node":"us-1","role":"primary","caught_up":true,"promotable":true,"position":"3:9","lag_ms":0,"keys":537,"bytes":86016},
          {"node":"eu-1","role":"replica","caught_up":true,"promotable":false,"position":null,"lag_ms":104.5}]}]}],
      "control":{"leader":"us-1","voters":["us-1","eu-1"]}}"#;

    #[test]
    fn a_keyspace_is_ready_when_all_its_replicas_are_caught_up() {
        let ready = ClusterStatus::parse(EXAMPLE).unwrap();
        assert_eq!(ready.not_ready(0), None);
        assert_eq!(ready.lag_ms_max_by_region(0)["eu"], 104.5);
        assert!(ready.not_ready(1).unwrap().contains("keyspace 1"));

        for (from, to, says) in [
            (
                r#""pid":null,"state":"up""#,
                r#""pid":null,"state":"down""#,
                "eu-1 is down",
            ),
            (
                r#""primary":"us-1""#,
                r#""primary":null"#,
                "shard 7 has no primary",
            ),
            (
                r#""caught_up":true,"promotable":false"#,
                r#""caught_up":false,"promotable":false"#,
                "not caught up on eu-1",
            ),
        ] {
            assert!(EXAMPLE.contains(from), "{from} is not in the example");
            let status = ClusterStatus::parse(&EXAMPLE.replace(from, to)).unwrap();
            let why = status.not_ready(0).unwrap();
            assert!(why.contains(says), "{why}");
        }
    }
}
