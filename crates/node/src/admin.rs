//! Administration over the client port: `KEYSPACE …` and `QUIRE …`.

use crate::{
    cluster_door::Wish,
    message::Message,
    node::{Lane, Node},
};
use bytes::Bytes;
use commands::{
    Fanout, NodeCommand,
    node_command::{KeyspaceCommand, QuireCommand},
};
use control::{
    command::{Command, CreateKeyspace},
    create,
    preset::{self, Around},
};
use gate::Target;
use model::{KeyspaceId, KeyspaceName, NodeId, Region};
use resp::Encoder;
use serde_json::json;
use shards::Shards;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::store::Stores;
use wan::{Known, Order};

/// How long a creation waits until every shard takes writes.
const CREATE_MAX: Duration = Duration::from_secs(8);
/// How long an order to the links waits for nodes that don't answer.
const ORDER_MAX: Duration = Duration::from_secs(1);

/// A keyspace that is there, but not known to take writes on every shard yet.
#[derive(Debug)]
struct Creating {
    target: Target,
    name: KeyspaceName,
    version: u64,
    since: Duration,
}

/// An order to the links that other nodes have not confirmed yet.
#[derive(Debug)]
struct Ordered {
    target: Target,
    counter: u64,
    missing: BTreeSet<NodeId>,
    since: Duration,
}

/// What administrators wait for.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    creating: Vec<Creating>,
    ordered: Vec<Ordered>,
}

/// What is said of a command of ours that is not there, or has too few or too many arguments.
/// None: it is one of Redis's, for which Redis's words will do.
pub(crate) fn usage(args: &[&[u8]]) -> Option<String> {
    let (name, _subcommand) = (args.first()?, args.get(1)?);
    let any = commands::lookup(name)?.subcommands.first()?;
    match any.fanout {
        Fanout::Node(NodeCommand::Keyspace(_)) => Some(format!(
            "ERR use {}, KEYSPACE LIST, KEYSPACE SHOW name or KEYSPACE DROP name; KEYSPACE HELP explains them",
            create::SYNTAX
        )),
        Fanout::Node(NodeCommand::Quire(_)) => Some(QUIRE_USAGE.to_owned()),
        _ => None,
    }
}

const QUIRE_USAGE: &str = "ERR use QUIRE STATUS, QUIRE EVENTS, QUIRE VERIFY keyspace, QUIRE VERIFICATIONS, QUIRE SCRUB, QUIRE LEVEL [n | HOLD | AUTO], QUIRE REWOUND LIST | SHOW file [cursor], or QUIRE WAN SHOW | CUT from to | HEAL from to | SET from to 250ms";

const OK: Bytes = Bytes::from_static(b"+OK\r\n");

/// Lines that fit into 80 columns as redis-cli shows them, numbered.
const KEYSPACE_HELP: [&str; 21] = [
    "KEYSPACE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <name> PLACE us=3,eu=2 [PRIMARY region] [SHARDS n]",
    "        [ACK async|semi-sync:k[@region]|sync|quorum|local-quorum]",
    "        [ON_TIMEOUT block|error|degrade] [TIMEOUT ms]",
    "        [FAILOVER safe|available] [REPLACE_AFTER ms]",
    "        [TOPOLOGY primary-replica|consensus]",
    "CREATE <name> PRESET rds|aurora-like|github|reference|reference-sharded",
    "        [any of the options above, in place of the preset's]",
    "    Create a keyspace. It answers OK and the keyspace's number once all of",
    "    its shards take writes.",
    "    SHOW says what a preset stood for.",
    "LIST",
    "    Show every keyspace: its number (id), its name, and what it has chosen.",
    "SHOW <name>",
    "    Show one keyspace.",
    "DROP <name>",
    "    Drop a keyspace with all that it holds.",
    "HELP",
    "    Print this help.",
    "A connection chooses a keyspace by number or name: SELECT 1, SELECT orders.",
    "Clients that take a number alone: redis-cli -n 1, redis://HOST:PORT/1.",
];

const QUIRE_HELP: [&str; 20] = [
    "QUIRE <subcommand> [<arg> ...]. Subcommands are:",
    "STATUS",
    "    Nodes, and the replicas of each shard, as this node sees them. JSON.",
    "EVENTS",
    "    What was decided about shards and nodes, and why. JSON.",
    "VERIFY <keyspace>",
    "    Compare all copies of a keyspace at one position. JSON.",
    "VERIFICATIONS",
    "    How far those are that go on now. JSON.",
    "SCRUB",
    "    Look through all files of this node for damage.",
    "LEVEL [n | HOLD | AUTO]",
    "    Show what each node's release knows. JSON. Raise the feature level,",
    "    keep it, or let it rise by itself.",
    "REWOUND LIST | SHOW <file> [cursor]",
    "    What failovers lost, as this node has saved it.",
    "WAN SHOW | CUT <from> <to> | HEAL <from> <to> | SET <from> <to> 250ms",
    "    Show and change links that are emulated.",
    "HELP",
    "    Print this help.",
];

impl<S: Stores> Node<S> {
    pub(crate) fn keyspace_command(&mut self, conn: u64, command: KeyspaceCommand, args: &[&[u8]]) {
        match command {
            KeyspaceCommand::Create => match self.wanted_keyspace(&args[2..]) {
                Ok(mut wanted) => {
                    wanted.avoid = self.cluster.unfit(self.shards.stalled_for());
                    let Some(target) = self.hold(conn) else {
                        return;
                    };
                    let name = wanted.name.clone();
                    let asker = Wish::Create { target, name };
                    self.with_cluster(|cluster, _| {
                        cluster.ask(Command::CreateKeyspace(wanted), asker)
                    });
                }
                Err(line) => self.answer_error(conn, &line),
            },
            KeyspaceCommand::Drop => match name(args[2]) {
                Ok(name) => {
                    let Some(target) = self.hold(conn) else {
                        return;
                    };
                    self.with_cluster(|cluster, _| {
                        cluster.ask(Command::DropKeyspace { name }, Wish::Drop { target })
                    });
                }
                Err(line) => self.answer_error(conn, &line),
            },
            KeyspaceCommand::List => {
                let catalog = self.catalog.clone();
                self.answer(conn, |out| {
                    out.array(catalog.keyspaces.len());
                    for id in catalog.keyspaces.keys() {
                        show(out, &catalog, *id);
                    }
                });
            }
            KeyspaceCommand::Show => {
                let catalog = self.catalog.clone();
                let text = String::from_utf8_lossy(args[2]);
                match catalog.keyspace_named(&text) {
                    Some((id, _)) => self.answer(conn, |out| show(out, &catalog, id)),
                    None => {
                        let line = format!(
                            "ERR there is no keyspace '{text}': KEYSPACE LIST shows those there are"
                        );
                        self.answer_error(conn, &line);
                    }
                }
            }
            KeyspaceCommand::Help => self.answer_lines(conn, &KEYSPACE_HELP),
        }
    }

    /// Reads the words of `KEYSPACE CREATE`; a preset is laid out over the nodes that there are.
    fn wanted_keyspace(&self, words: &[&[u8]]) -> Result<CreateKeyspace, String> {
        let mut nodes: BTreeMap<Region, usize> = BTreeMap::new();
        for info in self.catalog.nodes.values() {
            *nodes.entry(info.region.clone()).or_default() += 1;
        }
        let regions: Vec<(Region, usize)> = nodes.into_iter().collect();
        let around = Around {
            regions: &regions,
            own: &self.config.region,
        };
        let words = preset::spell_out(words, around).map_err(|e| format!("ERR {e}"))?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        create::parse(&words).map_err(|e| format!("ERR {e}"))
    }

    /// The catalog has the keyspace: it is answered when it can be written everywhere.
    pub(crate) fn created(&mut self, target: Target, name: KeyspaceName, version: u64) {
        self.admin.creating.push(Creating {
            target,
            name,
            version,
            since: self.now.monotonic,
        });
    }

    /// Its number, if it can be written everywhere.
    fn created_as(&self, creating: &Creating) -> Option<KeyspaceId> {
        let (id, keyspace) = self.catalog.keyspace_named(creating.name.as_str())?;
        let everywhere = keyspace.shards.iter().all(|shard| self.is_writable(*shard))
            && self
                .cluster
                .peers()
                .regions()
                .filter(|(id, _)| self.cluster.peers().is_up(id, self.now.monotonic))
                .all(|(id, _)| self.cluster.follows(id, creating.version));
        everywhere.then_some(id)
    }

    fn answer_lines(&mut self, conn: u64, lines: &[&str]) {
        self.answer(conn, |out| {
            out.array(lines.len());
            lines.iter().for_each(|line| out.simple(line));
        });
    }

    pub(crate) fn admin_tick(&mut self) {
        let now = self.now.monotonic;
        for creating in std::mem::take(&mut self.admin.creating) {
            if let Some(id) = self.created_as(&creating) {
                // The number is what URLs and most client libraries take.
                let addr = &self.config.client_addr;
                let line = format!(
                    "+OK keyspace {id}: SELECT {id}, redis-cli -n {id}, redis://{addr}/{id}\r\n"
                );
                self.deliver(&creating.target, line.into());
            } else if now.saturating_sub(creating.since) > CREATE_MAX {
                let line = format!(
                    "TRYAGAIN keyspace {} was created, but a shard of it has no primary that takes writes yet: see QUIRE STATUS",
                    creating.name
                );
                self.reply_error(&creating.target, &line);
            } else {
                self.admin.creating.push(creating);
            }
        }
        for ordered in std::mem::take(&mut self.admin.ordered) {
            if ordered.missing.is_empty() || now.saturating_sub(ordered.since) > ORDER_MAX {
                // A node that is away takes the links as they are when it comes back.
                self.deliver(&ordered.target, OK);
            } else {
                self.admin.ordered.push(ordered);
            }
        }
    }

    pub(crate) fn quire_command(&mut self, conn: u64, command: QuireCommand, args: &[&[u8]]) {
        match command {
            QuireCommand::Status => {
                let status = self.status().to_string();
                self.answer(conn, |out| out.bulk(&status));
            }
            QuireCommand::Events => {
                let events: Vec<_> = self.catalog.events.iter().map(event).collect();
                let text = json!({ "events": events }).to_string();
                self.answer(conn, |out| out.bulk(&text));
            }
            QuireCommand::Scrub => match self.with_shards(Shards::begin_scrub) {
                true => self.answer(conn, |out| out.simple("OK")),
                false => self.answer_error(
                    conn,
                    "ERR a scrub is under way here: INFO persistence shows how far it is",
                ),
            },
            QuireCommand::Help => self.answer_lines(conn, &QUIRE_HELP),
            QuireCommand::Level => self.level_command(conn, &args[2..]),
            QuireCommand::Rewound => self.rewound_command(conn, &args[2..]),
            QuireCommand::Wan => self.wan_command(conn, &args[2..]),
            QuireCommand::Verify => {
                let text = String::from_utf8_lossy(args[2]);
                match self.catalog.keyspace_named(&text).map(|(id, _)| id) {
                    Some(id) => self.verify(conn, id),
                    None => {
                        let line = format!(
                            "ERR there is no keyspace '{text}': KEYSPACE LIST shows those there are"
                        );
                        self.answer_error(conn, &line);
                    }
                }
            }
            QuireCommand::Verifications => {
                let text = self.verifications().to_string();
                self.answer(conn, |out| out.bulk(&text));
            }
        }
    }

    /// `LIST`: the files of this node. `SHOW file [cursor]`: the cursor to go on from, 0 at the
    /// end, and whole lines.
    fn rewound_command(&mut self, conn: u64, words: &[&[u8]]) {
        let what = words[0].to_ascii_uppercase();
        let failed = |error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                "ERR there is no such file here: QUIRE REWOUND LIST shows those of this node"
                    .to_owned()
            } else {
                format!("ERR the files of this node can't be read: {error}")
            }
        };
        match (what.as_slice(), &words[1..]) {
            (b"LIST", []) => match self.shards.rewound_files() {
                Ok(files) => {
                    let node = self.config.id.as_str();
                    let text = json!({ "node": node, "files": files }).to_string();
                    self.answer(conn, |out| out.bulk(&text));
                }
                Err(error) => self.answer_error(conn, &failed(error)),
            },
            (b"SHOW", [file, rest @ ..]) if rest.len() <= 1 => {
                let from = match rest.first() {
                    None => Some(0),
                    Some(cursor) => {
                        commands::numbers::parse(cursor).and_then(|n| u64::try_from(n).ok())
                    }
                };
                let Some(from) = from else {
                    return self.answer_error(conn, "ERR invalid cursor");
                };
                let file = String::from_utf8_lossy(file);
                match self.shards.rewound_lines(&file, from) {
                    Ok((text, next)) => self.answer(conn, |out| {
                        out.array(2);
                        out.bulk(next.to_string());
                        out.bulk(&text);
                    }),
                    Err(error) => self.answer_error(conn, &failed(error)),
                }
            }
            _ => self.answer_error(
                conn,
                "ERR use QUIRE REWOUND LIST or QUIRE REWOUND SHOW file [cursor]",
            ),
        }
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        for (id, region) in self.cluster.peers().regions() {
            known.nodes.insert(id.clone(), region.clone());
        }
        known
            .nodes
            .insert(self.config.id.clone(), self.config.region.clone());
        known
    }

    fn wan_command(&mut self, conn: u64, words: &[&[u8]]) {
        let known = self.known();
        if self.links.is_absent() {
            let line = "ERR this cluster's links are not emulated: give every node a [wan] section to do that";
            return self.answer_error(conn, line);
        }
        match wan::parse_order(words, &known) {
            Ok(Order::Show) => {
                let links: Vec<_> = self
                    .links
                    .show(&known)
                    .iter()
                    .map(|row| {
                        json!({
                            "from": row.from,
                            "to": row.to,
                            "latency_ms": row.latency.as_secs_f64() * 1e3,
                            "state": if row.cut { "cut" } else { "up" },
                        })
                    })
                    .collect();
                let text = json!({ "links": links }).to_string();
                self.answer(conn, |out| out.bulk(&text));
            }
            Ok(Order::Change(change)) => {
                if let Err(error) = self.links.apply(change, &self.config.id) {
                    return self.answer_error(conn, &format!("ERR {error}"));
                }
                let Some(target) = self.hold(conn) else {
                    return;
                };
                let state = self.links.state().clone();
                let missing = self.cluster.peers().connected_nodes();
                self.admin.ordered.push(Ordered {
                    target,
                    counter: state.version().0,
                    missing: missing.iter().cloned().collect(),
                    since: self.now.monotonic,
                });
                for peer in missing {
                    self.send(&peer, Lane::Bypass, &Message::Wan(state.clone()));
                }
                self.admin_tick();
            }
            Err(error) => self.answer_error(conn, &format!("ERR {error}")),
        }
    }

    /// Another node says how the links are.
    pub(crate) fn links_told(&mut self, from: &NodeId, state: &wan::State) {
        self.links.merge(state);
        let counter = self.links.state().version().0;
        let message = Message::WanSeen { counter };
        self.send(from, Lane::Bypass, &message);
    }

    pub(crate) fn links_seen(&mut self, from: &NodeId, counter: u64) {
        for ordered in &mut self.admin.ordered {
            if counter >= ordered.counter {
                ordered.missing.remove(from);
            }
        }
        self.admin_tick();
    }
}

fn event(event: &model::catalog::Event) -> serde_json::Value {
    json!({
        "version": event.version,
        "at_ms": event.at_ms,
        "shard": event.shard.map(|s| s.0),
        "kind": event.kind,
        "text": event.text,
    })
}

fn name(text: &[u8]) -> Result<KeyspaceName, String> {
    KeyspaceName::new(&String::from_utf8_lossy(text)).map_err(|e| format!("ERR {e}"))
}

fn show(out: &mut Encoder<'_>, catalog: &model::Catalog, id: model::KeyspaceId) {
    let Some(keyspace) = catalog.keyspaces.get(&id) else {
        return out.null();
    };
    let strategy = &keyspace.strategy;
    out.map(11);
    out.bulk("id");
    out.integer(i64::from(id.0));
    for (field, value) in [
        ("name", keyspace.name.to_string()),
        ("topology", strategy.topology.to_string()),
        ("ack", strategy.ack.to_string()),
        ("on_timeout", strategy.on_timeout.to_string()),
    ] {
        out.bulk(field);
        out.bulk(value);
    }
    out.bulk("timeout_ms");
    out.integer(strategy.timeout.as_millis() as i64);
    out.bulk("placement");
    out.bulk(strategy.placement.to_string());
    out.bulk("primary_region");
    out.bulk(strategy.primary_region.as_str());
    out.bulk("shards");
    out.integer(keyspace.shards.len() as i64);
    out.bulk("failover");
    out.bulk(strategy.failover.to_string());
    out.bulk("replace_after_ms");
    out.integer(strategy.replace_after.as_millis() as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What redis-cli puts before each line of a long array.
    const NUMBER_LEN: usize = "21) ".len();

    #[test]
    fn help_fits_80_columns() {
        for line in KEYSPACE_HELP.iter().chain(&QUIRE_HELP) {
            assert!(NUMBER_LEN + line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn help_has_all_that_a_keyspace_may_choose() {
        let help = KEYSPACE_HELP.join(" ");
        for option in create::SYNTAX.split(['[', ']']) {
            let keyword = option.split(' ').find(|word| !word.is_empty());
            let keyword =
                keyword.filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
            if let Some(keyword) = keyword {
                assert!(help.contains(keyword), "{keyword}");
            }
        }
    }
}
