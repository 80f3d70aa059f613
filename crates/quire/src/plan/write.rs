//! `--write DIR`: the best layout that this release runs, as files to begin a deployment with.
//!
//! ```text
//! DIR/plan.toml, layout.toml     what quire plan check takes
//! DIR/demo.toml                  what quire demo --plan takes
//! DIR/create.txt                 the words that make the keyspace
//! DIR/nodes/<id>/node.toml       what quire server --config takes, one for each server
//! ```
//! Pure but for [`write`]. Where servers will be reached is not known: their names are their ids
//! in a domain that is given.

use crate::voters;
use capacity::{Judged, LayoutFile, Wanted, demo::DemoFile};
use std::{fmt::Write, fs, path::Path};

/// A file's path under the directory, and its text.
type Text = (String, String);

/// Ports that each server listens on: they are machines of their own.
const CLIENT_PORT: u16 = 7001;
const PEER_PORT: u16 = 7021;
const HTTP_PORT: u16 = 7041;

struct Node {
    id: String,
    region: String,
    zone: String,
}

/// A node for each server of the layout, in the regions' order. Zones take turns: a, b, c.
fn nodes(wanted: &Wanted, judged: &Judged) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (region, name) in wanted.region_names().enumerate() {
        for n in 1..=judged.layout.servers_in(region) {
            let letter = ['a', 'b', 'c'][(n as usize - 1) % 3];
            nodes.push(Node {
                id: format!("{name}-{n}"),
                region: name.into(),
                zone: format!("{name}-{letter}"),
            });
        }
    }
    nodes
}

/// All files of `judged`, which this release runs.
pub(super) fn files(wanted: &Wanted, judged: &Judged, domain: &str) -> Result<Vec<Text>, String> {
    let failed = |e: capacity::PlanError| e.to_string();
    let layout = LayoutFile::of(&judged.layout, wanted);
    let plan = wanted.file().clone();
    let create = judged.layout.create_line(wanted).ok_or_else(|| {
        let why = judged.layout.runs().err().unwrap_or("it has no primary");
        format!("the layout can't be written: {why}")
    })?;
    let mut files = vec![
        ("plan.toml".into(), plan.to_toml().map_err(failed)?),
        ("layout.toml".into(), layout.to_toml().map_err(failed)?),
        ("create.txt".into(), format!("{create}\n")),
    ];
    let nodes = nodes(wanted, judged);
    let demo = DemoFile {
        scale: None,
        plan,
        layout,
    };
    files.push(("demo.toml".into(), demo.to_toml().map_err(failed)?));
    let voters = voters::of(nodes.iter().map(|n| (n.id.as_str(), n.region.as_str())));
    for node in &nodes {
        let text = node_file(wanted, &nodes, node, &voters, domain);
        files.push((format!("nodes/{}/node.toml", node.id), text));
    }
    Ok(files)
}

/// Ids, regions and domains need no escapes: their characters are checked.
fn node_file(
    wanted: &Wanted,
    nodes: &[Node],
    node: &Node,
    voters: &[String],
    domain: &str,
) -> String {
    let Node { id, region, zone } = node;
    let voters: Vec<String> = voters.iter().map(|v| format!("\"{v}\"")).collect();
    let mut text = format!(
        "# {id} of {name}, as quire plan computed it. Every field: docs/cli.md.
id = \"{id}\"
region = \"{region}\"
# Where within the region it stands: say what is true.
zone = \"{zone}\"
client_addr = \"0.0.0.0:{CLIENT_PORT}\"
peer_addr = \"0.0.0.0:{PEER_PORT}\"
http_addr = \"0.0.0.0:{HTTP_PORT}\"
# By these the others and the clients reach it.
advertise_client_addr = \"{id}.{domain}:{CLIENT_PORT}\"
advertise_peer_addr = \"{id}.{domain}:{PEER_PORT}\"
advertise_http_addr = \"{id}.{domain}:{HTTP_PORT}\"
# Clients of other machines are turned away until this is false: then whoever
# reaches client_addr may do everything.
protected_mode = true
data_dir = \"data\"
fsync = \"always\"

[cluster]
name = \"{name}\"
# For good.
control_voters = [{}]
",
        voters.join(", "),
        name = wanted.file().name,
    );
    for peer in nodes.iter().filter(|peer| peer.id != *id) {
        let _ = write!(
            text,
            "
[[cluster.peers]]
id = \"{}\"
region = \"{}\"
peer_addr = \"{}.{domain}:{PEER_PORT}\"
",
            peer.id, peer.region, peer.id
        );
    }
    text
}

/// Whether a domain may stand in an address, unescaped.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    match text.len() <= 200 && text.split('.').all(label) {
        true => Ok(text.into()),
        false => Err("use a domain of letters, digits, '-' and '.', as in db.example".into()),
    }
}

/// Writes files under `dir`, which may not hold any of them.
pub(super) fn write(dir: &Path, files: &[Text]) -> Result<(), String> {
    for (name, _) in files {
        let path = dir.join(name);
        if path.exists() {
            return Err(format!(
                "{} is there already, and nothing was written: name a directory without it",
                path.display()
            ));
        }
    }
    for (name, text) in files {
        let path = dir.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text))
            .map_err(|e| format!("can't write {}: {e}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::reference, *};
    use capacity::Answer;

    #[test]
    fn a_file_for_each_server_and_what_goes_with_them() {
        let wanted = reference();
        let Answer::Plan(plan) = capacity::search(&wanted) else {
            panic!("no layout");
        };
        let files = files(&wanted, &plan.best[0], "db.example").unwrap();
        assert_eq!(files.len(), 4 + 9);
        let text = |name: &str| &files.iter().find(|(n, _)| n == name).unwrap().1;
        assert!(text("create.txt").starts_with("KEYSPACE CREATE profiles ACK async"));
        let read = LayoutFile::parse(text("layout.toml")).unwrap();
        assert_eq!(read.resolve(&wanted).unwrap(), plan.best[0].layout);
        let demo = DemoFile::parse(text("demo.toml")).unwrap();
        assert_eq!((&demo.plan, &demo.layout), (wanted.file(), &read));

        let node: toml::Table = text("nodes/eu-2/node.toml").parse().unwrap();
        assert_eq!(
            node["advertise_peer_addr"].as_str(),
            Some("eu-2.db.example:7021")
        );
        let cluster = &node["cluster"];
        let voters = cluster["control_voters"].as_array().unwrap();
        assert_eq!(voters.len(), 5);
        assert_eq!(cluster["peers"].as_array().unwrap().len(), 8);

        // Only what runs is written.
        let consensus = &plan.best[1];
        let refused = super::files(&wanted, consensus, "x").unwrap_err();
        assert!(
            refused.contains("makes no consensus keyspaces"),
            "{refused}"
        );
    }

    #[test]
    fn a_domain_has_no_quotes() {
        assert_eq!(domain("db.example"), Ok("db.example".into()));
        assert!(domain("a\"b").is_err() && domain("").is_err() && domain("a..b").is_err());
    }
}
