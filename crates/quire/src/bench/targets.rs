//! Where the clients connect to: as given, or as the cluster tells.

use crate::{
    client::{Client, text_of},
    cluster_status::ClusterStatus,
};

/// The region of a node of which none is known.
const UNKNOWN: &str = "-";

/// One node to send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// What the report calls it by; `-` where it isn't known.
    pub(crate) region: String,
    pub(crate) addr: String,
}

/// All nodes to send to.
pub(super) struct Targets {
    pub(super) targets: Vec<Target>,
    /// Whether a Quire cluster answered.
    pub(super) is_cluster: bool,
}

/// Asks the first of the nodes in `given` for its cluster, and chooses.
pub(super) async fn find(given: &[String]) -> Result<Targets, String> {
    let first = &named(given)[0].addr;
    let mut client = Client::connect(first).await.map_err(|e| e.to_string())?;
    let status = client
        .call(&["QUIRE", "STATUS"])
        .await
        .and_then(text_of)
        .ok()
        .and_then(|json| ClusterStatus::parse(&json).ok());
    choose(given, status)
}

/// The nodes in `given`, as they were named.
pub(super) fn named(given: &[String]) -> Vec<Target> {
    given.iter().map(|node| parse(node)).collect()
}

/// The nodes named in `given`, with the regions that the cluster knows them in; of a single
/// plain address, all nodes that are up in its cluster, or itself alone where the server knows
/// no `QUIRE STATUS`.
fn choose(given: &[String], status: Option<ClusterStatus>) -> Result<Targets, String> {
    let mut named = named(given);
    let Some(status) = status else {
        return Ok(Targets {
            targets: named,
            is_cluster: false,
        });
    };
    if named.len() > 1 || given[0].contains('=') {
        for target in named.iter_mut().filter(|target| target.region == UNKNOWN) {
            let known = status.nodes.iter().find(|n| n.client_addr == target.addr);
            if let Some(node) = known {
                target.region.clone_from(&node.region);
            }
        }
        return Ok(Targets {
            targets: named,
            is_cluster: true,
        });
    }
    let targets: Vec<Target> = status
        .nodes
        .into_iter()
        .filter(|node| node.state == "up")
        .map(|node| Target {
            region: node.region,
            addr: node.client_addr,
        })
        .collect();
    if targets.is_empty() {
        return Err(format!(
            "{} says that no node of its cluster is up; name nodes with --node REGION=ADDR",
            named[0].addr
        ));
    }
    Ok(Targets {
        targets,
        is_cluster: true,
    })
}

fn parse(node: &str) -> Target {
    let (region, addr) = node.split_once('=').unwrap_or((UNKNOWN, node));
    Target {
        region: region.into(),
        addr: addr.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_name_its_region() {
        let target = parse("eu=10.0.0.1:7001");
        assert_eq!(
            (target.region.as_str(), target.addr.as_str()),
            ("eu", "10.0.0.1:7001")
        );
        assert_eq!(parse("10.0.0.1:7001").region, "-");
    }

    fn choose(given: &[&str], is_cluster: bool) -> Result<Vec<(String, String)>, String> {
        let status = r#"{"keyspaces": [], "nodes": [
            {"id": "us-1", "region": "us", "client_addr": "h:1", "pid": 1, "state": "up"},
            {"id": "eu-1", "region": "eu", "client_addr": "h:2", "pid": 2, "state": "up"},
            {"id": "eu-2", "region": "eu", "client_addr": "h:3", "pid": 3, "state": "down"}]}"#;
        let status = ClusterStatus::parse(status).unwrap();
        let given: Vec<String> = given.iter().map(|node| node.to_string()).collect();
        let found = super::choose(&given, is_cluster.then_some(status))?;
        assert_eq!(found.is_cluster, is_cluster);
        let pair = |target: Target| (target.region, target.addr);
        Ok(found.targets.into_iter().map(pair).collect())
    }

    #[test]
    fn one_plain_address_stands_for_its_cluster_and_several_for_themselves() {
        let pairs = |list: &[(&str, &str)]| {
            let owned = |(region, addr): &(&str, &str)| (region.to_string(), addr.to_string());
            Ok(list.iter().map(owned).collect::<Vec<_>>())
        };
        let (us, eu) = (("us", "h:1"), ("eu", "h:2"));
        assert_eq!(choose(&["h:2"], true), pairs(&[us, eu]));
        assert_eq!(choose(&["h:2"], false), pairs(&[("-", "h:2")]));
        // Several get their regions from the cluster, unless they name another.
        let several = ["h:2", "x=h:1", "h:9"];
        let found = pairs(&[eu, ("x", "h:1"), ("-", "h:9")]);
        assert_eq!(choose(&several, true), found);
        assert_eq!(choose(&["y=h:1"], true), pairs(&[("y", "h:1")]));
    }
}
