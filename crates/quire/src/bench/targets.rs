//! Where the clients connect to: as given, or as the cluster tells.

use crate::{
    client::{Client, text_of},
    cluster_status::ClusterStatus,
};

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

/// The nodes named in `given`; of a single plain address, all nodes that are up in its
/// cluster, or itself alone where the server knows no `QUIRE STATUS`.
pub(super) async fn find(given: &[String]) -> Result<Targets, String> {
    let named: Vec<Target> = given.iter().map(|node| parse(node)).collect();
    let mut client = Client::connect(&named[0].addr)
        .await
        .map_err(|e| e.to_string())?;
    let status = client
        .call(&["QUIRE", "STATUS"])
        .await
        .and_then(text_of)
        .ok()
        .and_then(|json| ClusterStatus::parse(&json).ok());
    let is_cluster = status.is_some();
    let ask = named.len() == 1 && !given[0].contains('=');
    let Some(status) = status.filter(|_| ask) else {
        return Ok(Targets {
            targets: named,
            is_cluster,
        });
    };
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
        is_cluster,
    })
}

fn parse(node: &str) -> Target {
    let (region, addr) = node.split_once('=').unwrap_or(("-", node));
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
}
