//! Which nodes a demo has, where they listen, and what each one's `node.toml` says. Pure.
//!
//! Ids are the region and a number: `us-1`, `us-2`, … in the order of the placement. Client
//! ports follow each other from the base; a node's peer port is 20 above its client port, its
//! HTTP port 40 above.

use crate::voters;
use model::strategy::Placement;
use serde::Serialize;
use std::{net::Ipv4Addr, path::PathBuf, str::FromStr};

/// From a client port to the peer port, and from there to the HTTP port. So many nodes fit.
const PORT_STEP: u16 = 20;

/// When a node's log is forced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Fsync {
    Named(FsyncName),
    /// At most so many milliseconds after the write.
    EveryMs(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FsyncName {
    /// Before a write is acknowledged.
    Always,
    /// When the operating system thinks fit.
    Os,
}

impl FromStr for Fsync {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Fsync::Named(FsyncName::Always)),
            "os" => Ok(Fsync::Named(FsyncName::Os)),
            _ => match text.trim_end_matches("ms").parse() {
                Ok(ms) if ms > 0 => Ok(Fsync::EveryMs(ms)),
                _ => Err("use always, os, or milliseconds".into()),
            },
        }
    }
}

/// The emulated links between the regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wan {
    Reference,
    None,
    File(PathBuf),
}

impl FromStr for Wan {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "reference" => Wan::Reference,
            "none" => Wan::None,
            path => Wan::File(path.into()),
        })
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodePlan {
    pub(super) id: String,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    pub(super) http_port: u16,
}

/// All nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// At least one.
    pub(super) nodes: Vec<NodePlan>,
    /// The ids of those that hold the catalog; an odd number.
    pub(super) voters: Vec<String>,
}

/// A demo that can't be laid out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPlan {
    #[error(
        "{nodes} nodes don't fit: peers listen {PORT_STEP} ports above clients, so there can \
         be at most {PORT_STEP} nodes; give fewer with --nodes"
    )]
    TooMany { nodes: u32 },
    #[error(
        "ports up to {last} would be needed, and there is none above 65535; give a lower \
         --base-port"
    )]
    PortTooHigh { last: u32 },
}

impl Plan {
    pub(super) fn new(placement: &Placement, base_port: u16) -> Result<Self, InvalidPlan> {
        let nodes = placement.total();
        if nodes > u32::from(PORT_STEP) {
            return Err(InvalidPlan::TooMany { nodes });
        }
        let last = u32::from(base_port) + nodes - 1 + 2 * u32::from(PORT_STEP);
        if last > u32::from(u16::MAX) {
            return Err(InvalidPlan::PortTooHigh { last });
        }
        let mut client_port = base_port;
        let mut nodes = Vec::new();
        for (region, count) in placement.regions() {
            for n in 1..=*count {
                // At most twenty nodes: the letter stays within a to t.
                let letter = char::from(b'a' + (n - 1) as u8);
                nodes.push(NodePlan {
                    id: format!("{region}-{n}"),
                    region: region.to_string(),
                    zone: format!("{region}-{letter}"),
                    client_port,
                    peer_port: client_port + PORT_STEP,
                    http_port: client_port + 2 * PORT_STEP,
                });
                client_port += 1;
            }
        }
        let voters = voters::of(nodes.iter().map(|n| (n.id.as_str(), n.region.as_str())));
        Ok(Plan { nodes, voters })
    }

    /// The `node.toml` of `node`; `cache_bytes`: for its caches, as the machine is shared.
    pub(super) fn config(
        &self,
        node: &NodePlan,
        wan: &Wan,
        fsync: Fsync,
        cache_bytes: u64,
    ) -> Result<String, toml::ser::Error> {
        let links = match wan {
            Wan::Reference => "reference".to_string(),
            Wan::None => "none".to_string(),
            Wan::File(path) => path.to_string_lossy().into_owned(),
        };
        toml::to_string(&Config {
            id: &node.id,
            region: &node.region,
            zone: &node.zone,
            client_addr: addr(node.client_port),
            peer_addr: addr(node.peer_port),
            http_addr: addr(node.http_port),
            data_dir: "data",
            fsync,
            limits: LimitsConfig { cache_bytes },
            wan: WanConfig { links },
            cluster: ClusterConfig {
                name: "demo",
                control_voters: &self.voters,
                peers: self
                    .nodes
                    .iter()
                    .filter(|peer| peer.id != node.id)
                    .map(|peer| PeerConfig {
                        id: &peer.id,
                        region: &peer.region,
                        peer_addr: addr(peer.peer_port),
                    })
                    .collect(),
            },
        })
    }
}

/// A loopback address, as the demo's nodes and their clients use it.
pub(super) fn addr(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

/// `node.toml`; the format is documented in docs/cli.md.
#[derive(Serialize)]
struct Config<'a> {
    id: &'a str,
    region: &'a str,
    zone: &'a str,
    client_addr: String,
    peer_addr: String,
    http_addr: String,
    data_dir: &'a str,
    fsync: Fsync,
    limits: LimitsConfig,
    wan: WanConfig,
    cluster: ClusterConfig<'a>,
}

#[derive(Serialize)]
struct ClusterConfig<'a> {
    name: &'a str,
    control_voters: &'a [String],
    peers: Vec<PeerConfig<'a>>,
}

#[derive(Serialize)]
struct LimitsConfig {
    cache_bytes: u64,
}

#[derive(Serialize)]
struct WanConfig {
    links: String,
}

#[derive(Serialize)]
struct PeerConfig<'a> {
    id: &'a str,
    region: &'a str,
    peer_addr: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(placement: &str) -> Result<Plan, InvalidPlan> {
        Plan::new(&placement.parse().unwrap(), 7001)
    }

    #[test]
    fn the_reference_is_seven_nodes_on_consecutive_ports() {
        let nodes = plan("us=3,eu=2,asia=2").unwrap().nodes;
        let ids: Vec<&str> = nodes.iter().map(|n| n.id.as_str()).collect();
        assert_eq!(
            ids,
            ["us-1", "us-2", "us-3", "eu-1", "eu-2", "asia-1", "asia-2"]
        );
        assert_eq!(
            nodes[3],
            NodePlan {
                id: "eu-1".into(),
                region: "eu".into(),
                zone: "eu-a".into(),
                client_port: 7004,
                peer_port: 7024,
                http_port: 7044,
            }
        );
    }

    #[test]
    fn voters_are_odd_in_number_and_spread() {
        for (placement, wanted) in [
            ("us=3,eu=2,asia=2", "us-1 us-2 eu-1 eu-2 asia-1"),
            ("us=3,eu=1,asia=1", "us-1 us-2 eu-1 asia-1 us-3"),
            ("us=2,eu=2", "us-1 us-2 eu-1"),
            ("us=1,eu=1,asia=1", "us-1 eu-1 asia-1"),
            ("us=6", "us-1 us-2 us-3 us-4 us-5"),
            ("us=2", "us-1"),
            ("us=1", "us-1"),
        ] {
            assert_eq!(
                plan(placement).unwrap().voters.join(" "),
                wanted,
                "{placement}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(plan("us=21"), Err(InvalidPlan::TooMany { nodes: 21 }));
        assert!(plan("us=20").is_ok());
        let placement: Placement = "us=2".parse().unwrap();
        assert!(Plan::new(&placement, 65_494).is_ok());
        assert_eq!(
            Plan::new(&placement, 65_495),
            Err(InvalidPlan::PortTooHigh { last: 65_536 })
        );
    }

    #[test]
    fn a_node_is_told_all_it_needs() {
        let plan = plan("us=1,eu=1").unwrap();
        let config = plan
            .config(
                &plan.nodes[0],
                &Wan::Reference,
                "always".parse().unwrap(),
                1 << 30,
            )
            .unwrap();
        assert_eq!(
            config,
            r#"id = "us-1"
region = "us"
zone = "us-a"
client_addr = "127.0.0.1:7001"
peer_addr = "127.0.0.1:7021"
http_addr = "127.0.0.1:7041"
data_dir = "data"
fsync = "always"

[limits]
cache_bytes = 1073741824

[wan]
links = "reference"

[cluster]
name = "demo"
control_voters = ["us-1"]

[[cluster.peers]]
id = "eu-1"
region = "eu"
peer_addr = "127.0.0.1:7022"
"#
        );
        let every = plan
            .config(
                &plan.nodes[0],
                &Wan::File("/tmp/a \"b\".toml".into()),
                "20ms".parse().unwrap(),
                1 << 30,
            )
            .unwrap();
        assert!(every.contains("fsync = 20\n"), "{every}");
        let read: toml::Table = every.parse().unwrap();
        assert_eq!(read["wan"]["links"].as_str(), Some("/tmp/a \"b\".toml"));
        assert!("0".parse::<Fsync>().is_err() && "sometimes".parse::<Fsync>().is_err());
    }
}
