//! INFO and ROLE: what a node and its replicas are, in Redis's words where it has any.

use crate::{connection::REDIS_VERSION, node::Node};
use replication::strategy::Role;
use std::time::Duration;
use storage::store::Stores;

impl<S: Stores> Node<S> {
    pub(crate) fn holds_a_primary(&self) -> bool {
        self.catalog
            .shards
            .values()
            .any(|s| s.primary == self.config.id)
    }

    pub(crate) fn info(&mut self, conn: u64, args: &[&[u8]]) {
        let wanted: Vec<Vec<u8>> = args[1..].iter().map(|a| a.to_ascii_lowercase()).collect();
        let all = wanted.is_empty()
            || wanted
                .iter()
                .any(|w| matches!(w.as_slice(), b"all" | b"default" | b"everything"));
        let mut text = String::new();
        for (section, lines) in self.sections() {
            if all
                || wanted
                    .iter()
                    .any(|w| w == section.to_ascii_lowercase().as_bytes())
            {
                text.push_str(&format!("# {section}\r\n{lines}\r\n"));
            }
        }
        self.answer(conn, |out| out.verbatim(b"txt", &text));
    }

    fn sections(&self) -> [(&'static str, String); 7] {
        let up = self.now.monotonic.saturating_sub(self.started).as_secs();
        let server = format!(
            "redis_version:{REDIS_VERSION}\r\nquire_version:{}\r\nredis_mode:standalone\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{up}\r\nuptime_in_days:{}\r\nnode_id:{}\r\nregion:{}\r\navailability_zone:{}\r\n",
            env!("CARGO_PKG_VERSION"),
            self.config.pid,
            self.config.client_addr.port(),
            up / 86_400,
            self.config.id,
            self.config.region,
            self.config.zone,
        );
        let clients = self.clients_section();
        let memory = self.memory_section();
        let stalled = self.disk_watch.is_stalled();
        let outstanding = (self.log.outstanding_since())
            .map_or(Duration::ZERO, |at| self.now.monotonic.saturating_sub(at));
        let persistence = format!(
            "loading:0\r\naof_enabled:1\r\naof_last_write_status:{}\r\nlog_bytes:{}\r\nlog_segments:{}\r\nlog_pending_bytes:{}\r\nlog_outstanding_ms:{}\r\nlog_stalled:{}\r\n{}",
            if self.lacking().is_some() || stalled {
                "err"
            } else {
                "ok"
            },
            self.log.bytes(),
            self.log.segments(),
            self.log.pending_bytes(),
            outstanding.as_millis(),
            u8::from(stalled),
            self.scrub_lines(),
        );
        let stats = format!(
            "total_connections_received:{}\r\ntotal_commands_processed:{}\r\nevicted_clients:{}\r\n",
            self.connections_received, self.commands_processed, self.input.evicted
        );
        let mut keyspace = String::new();
        for (id, facts) in &self.catalog.keyspaces {
            let keys: u64 = facts
                .shards
                .iter()
                .filter_map(|s| self.shards.get(s))
                .map(|s| s.store.key_count())
                .sum();
            keyspace.push_str(&format!(
                "db{id}:keys={keys},expires=0,avg_ttl=0,name={}\r\n",
                facts.name
            ));
        }
        [
            ("Server", server),
            ("Clients", clients),
            ("Memory", memory),
            ("Persistence", persistence),
            ("Stats", stats),
            ("Replication", self.replication_section()),
            ("Keyspace", keyspace),
        ]
    }

    /// Redis's names, for the node as a whole: what it is to most tools.
    fn replication_section(&self) -> String {
        let primary = self.holds_a_primary();
        let mut text = format!("role:{}\r\n", if primary { "master" } else { "slave" });
        let mut degraded = 0;
        for (id, shard) in &self.shards {
            let Some(state) = shard.state(self.now) else {
                continue;
            };
            let facts = self.catalog.shards.get(id);
            degraded += usize::from(facts.is_some_and(|f| f.degraded));
            if state.role == Role::Primary {
                let members = shard.strategy.iter().flat_map(|s| s.members());
                for (n, member) in members.enumerate() {
                    let info = self.catalog.nodes.get(&member.node);
                    let (ip, port) = info.map_or(("?".into(), 0), |i| {
                        (i.client_addr.ip().to_string(), i.client_addr.port())
                    });
                    let up = self.peers.is_up(&member.node, self.now.monotonic);
                    text.push_str(&format!(
                        "shard{id}_slave{n}:ip={ip},port={port},state={},offset={},lag_entries={}\r\n",
                        if up { "online" } else { "offline" },
                        member.matched,
                        state.tip.index.saturating_sub(member.matched),
                    ));
                }
            } else {
                let lag = state.fresh_at.map_or(-1, |at| {
                    self.now.monotonic.saturating_sub(at).as_millis() as i64
                });
                text.push_str(&format!(
                    "shard{id}_master:{},offset={},data_lag_ms={lag}\r\n",
                    facts.map_or("?", |f| f.primary.as_str()),
                    shard.applied().index,
                ));
            }
        }
        text.push_str(&format!(
            "connected_slaves:{}\r\ndegraded_shards:{degraded}\r\ncopies:{}\r\ncopying_shards:{}\r\nleaving_shards:{}\r\nrewinding_shards:{}\r\nrewinds:{}\r\nrewound_entries:{}\r\nrewound_keys:{}\r\n",
            if primary {
                self.peers
                    .regions()
                    .filter(|(id, _)| self.peers.is_up(id, self.now.monotonic))
                    .count()
            } else {
                0
            },
            self.copies.begun,
            self.copies.under_way(),
            self.leaving_count(),
            self.rewinds.under_way(),
            self.rewinds.counts.rewinds,
            self.rewinds.counts.entries,
            self.rewinds.counts.keys,
        ));
        text
    }

    pub(crate) fn role(&mut self, conn: u64) {
        let Some(session) = self.sessions.get(&conn) else {
            return;
        };
        let shard = self
            .catalog
            .keyspaces
            .get(&session.keyspace)
            .and_then(|k| k.shards.first())
            .and_then(|id| Some((self.catalog.shards.get(id)?, self.shards.get(id))));
        let Some((facts, own)) = shard else {
            return self.answer_error(conn, &crate::route::no_keyspace(session.keyspace));
        };
        let position = own.map_or(0, |s| s.applied().index) as i64;
        if facts.primary == self.config.id {
            let members: Vec<_> = own
                .and_then(|s| s.strategy.as_ref())
                .map(|s| s.members())
                .unwrap_or_default()
                .into_iter()
                .filter_map(|m| Some((self.catalog.nodes.get(&m.node)?.client_addr, m.matched)))
                .collect();
            self.answer(conn, |out| {
                out.array(3);
                out.bulk("master");
                out.integer(position);
                out.array(members.len());
                for (addr, matched) in members {
                    out.array(3);
                    out.bulk(addr.ip().to_string());
                    out.bulk(addr.port().to_string());
                    out.bulk(matched.to_string());
                }
            });
        } else {
            let primary = self.catalog.nodes.get(&facts.primary);
            let (ip, port) = primary.map_or((String::new(), 0), |i| {
                (i.client_addr.ip().to_string(), i.client_addr.port())
            });
            let up = self.peers.is_up(&facts.primary, self.now.monotonic);
            self.answer(conn, |out| {
                out.array(5);
                out.bulk("slave");
                out.bulk(&ip);
                out.integer(i64::from(port));
                out.bulk(if up { "connected" } else { "connect" });
                out.integer(position);
            });
        }
    }
}
