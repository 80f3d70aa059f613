//! `QUIRE LEVEL`: the feature level of the cluster (docs/adr/0017-versions).

use crate::{cluster_door::Wish, node::Node};
use control::command::Command;
use serde_json::json;
use storage::store::Stores;

impl<S: Stores> Node<S> {
    /// `QUIRE LEVEL [n | HOLD | AUTO]`.
    pub(crate) fn level_command(&mut self, conn: u64, words: &[&[u8]]) {
        let at_ms = self.now.wall_ms;
        let command = match words {
            [] => {
                let text = self.level_status().to_string();
                return self.answer(conn, |out| out.bulk(&text));
            }
            [word] if word.eq_ignore_ascii_case(b"HOLD") => {
                Command::HoldLevel { held: true, at_ms }
            }
            [word] if word.eq_ignore_ascii_case(b"AUTO") => {
                Command::HoldLevel { held: false, at_ms }
            }
            [number]
                if let Some(level) =
                    commands::numbers::parse(number).and_then(|n| u32::try_from(n).ok()) =>
            {
                Command::RaiseLevel {
                    level,
                    by_itself: false,
                    at_ms,
                }
            }
            _ => {
                return self.answer_error(
                    conn,
                    "ERR use QUIRE LEVEL, QUIRE LEVEL n, QUIRE LEVEL HOLD or QUIRE LEVEL AUTO",
                );
            }
        };
        if let Some(target) = self.hold(conn) {
            self.with_cluster(|cluster, _| cluster.ask(command, Wish::Level { target }));
        }
    }

    fn level_status(&self) -> serde_json::Value {
        let nodes = self.catalog.nodes.iter().map(|(id, info)| {
            json!({
                "id": id.as_str(),
                "oldest": info.levels.oldest,
                "newest": info.levels.newest,
            })
        });
        json!({
            "level": self.catalog.level,
            "held": self.catalog.level_held,
            "nodes": nodes.collect::<Vec<_>>(),
            "unknown_messages": self.cluster.unknown_messages(),
            "rehearsal": self.rehearsal_status(),
        })
    }

    fn rehearsal_status(&self) -> serde_json::Value {
        let (messages, records) = self.cluster.rehearsed();
        let commands = (self.catalog.events.iter()).filter(|event| event.kind == "rehearsed");
        json!({
            "messages": messages,
            "records": records,
            "commands": commands.count(),
        })
    }
}
