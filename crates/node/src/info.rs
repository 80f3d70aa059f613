//! INFO and ROLE: what a node and its replicas are, in Redis's words where it has any.
//!
//! Only what is true is said: a field of Redis that means nothing here (memory that jemalloc has
//! cached, a fork's copies) is left out. What a role is depends on the keyspace: of several nodes
//! each may be the primary of one, and a client that asks all of them must find one primary. So
//! INFO, ROLE and HELLO answer for the keyspace that the connection has selected, by its first
//! shard; fields that begin with `shard` are for the node as a whole.

use crate::node::Node;
use gate::{REDIS_VERSION, Target, no_keyspace};
use model::{KeyspaceId, ShardId, catalog};
use replication::protocol::Role;
use shards::Replica;
use std::{
    fmt::{Display, Write},
    time::Duration,
};
use storage::store::Stores;

/// What the process takes, as its host knows. It is asked only when a client asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory of the process that is in the machine's memory, in bytes.
    pub resident_bytes: u64,
    /// The most that was since it began.
    pub resident_bytes_max: u64,
    /// Memory of the machine, or what the process may use of it if that is less.
    pub memory_bytes: u64,
    /// Time on processors, in the program and in the kernel.
    pub cpu_user: Duration,
    /// See `cpu_user`.
    pub cpu_system: Duration,
    /// The operating system and the processor's kind.
    pub os: String,
}

/// The lines of one section.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, name: &str, value: impl Display) {
        // Writing to memory does not fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A number of bytes, and the same for people.
    fn put_bytes(&mut self, name: &str, bytes: u64) {
        self.put(name, bytes);
        self.put(&format!("{name}_human"), human(bytes));
    }
}

/// Bytes as Redis writes them for people.
fn human(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    let mut shown = (bytes as f64, None);
    for unit in UNITS {
        if shown.0 < 1024.0 {
            break;
        }
        shown = (shown.0 / 1024.0, Some(unit));
    }
    match shown {
        (bytes, None) => format!("{bytes}B"),
        (value, Some(unit)) => format!("{value:.2}{unit}"),
    }
}

/// Whether a section is there unless others are asked for by name.
const DEFAULT: bool = true;

/// Which sections are asked for.
struct Wanted<'a>(&'a [&'a [u8]]);

impl Wanted<'_> {
    fn has(&self, section: &str, is_default: bool) -> bool {
        let by_word = |word: &&[u8]| {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            is("all") || is("everything") || is("default") && is_default || is(section)
        };
        self.0.is_empty() && is_default || self.0.iter().any(by_word)
    }
}

/// A keyspace as its first shard stands here.
struct Stand<'a, S: Stores> {
    id: ShardId,
    facts: &'a catalog::Shard,
    /// None: this node holds no replica of it.
    own: Option<Replica<'a, S, Target>>,
    /// Whether this node is the primary.
    primary: bool,
}

type Section<S> = fn(&Node<S>, KeyspaceId, &mut Lines);

impl<S: Stores> Node<S> {
    pub(crate) fn info(&mut self, conn: u64, args: &[&[u8]]) {
        let Some(keyspace) = self.gate.keyspace_of(conn) else {
            return;
        };
        let wanted = Wanted(args.get(1..).unwrap_or_default());
        let sections: [(&str, bool, Section<S>); 12] = [
            ("Server", DEFAULT, Self::server_section),
            ("Clients", DEFAULT, Self::clients_section),
            ("Memory", DEFAULT, Self::memory_section),
            ("Persistence", DEFAULT, Self::persistence_section),
            ("Stats", DEFAULT, Self::stats_section),
            ("Replication", DEFAULT, Self::replication_section),
            ("CPU", DEFAULT, Self::cpu_section),
            ("Modules", DEFAULT, |_, _, _| {}),
            ("Commandstats", !DEFAULT, Self::commandstats_section),
            ("Errorstats", DEFAULT, Self::errorstats_section),
            ("Cluster", DEFAULT, |_, _, lines| {
                lines.put("cluster_enabled", 0)
            }),
            ("Keyspace", DEFAULT, Self::keyspace_section),
        ];
        let mut text = String::new();
        for (name, is_default, write) in sections {
            if wanted.has(name, is_default) {
                let mut lines = Lines::default();
                write(self, keyspace, &mut lines);
                let between = if text.is_empty() { "" } else { "\r\n" };
                text.push_str(&format!("{between}# {name}\r\n{}", lines.0));
            }
        }
        self.answer(conn, |out| out.verbatim(b"txt", &text));
    }

    fn server_section(&self, _: KeyspaceId, lines: &mut Lines) {
        let up = self.now.monotonic.saturating_sub(self.started).as_secs();
        lines.put("redis_version", REDIS_VERSION);
        lines.put("quire_version", env!("CARGO_PKG_VERSION"));
        lines.put("redis_mode", "standalone");
        if let Some(usage) = (self.config.usage)() {
            lines.put("os", usage.os);
        }
        lines.put("arch_bits", usize::BITS);
        lines.put("process_id", self.config.pid);
        lines.put("run_id", self.run_id());
        lines.put("tcp_port", self.config.listens.port());
        lines.put("server_time_usec", self.now.wall_ms * 1000);
        lines.put("uptime_in_seconds", up);
        lines.put("uptime_in_days", up / 86_400);
        lines.put("node_id", &self.config.id);
        lines.put("region", &self.config.region);
        lines.put("availability_zone", self.gate.settings().zone);
    }

    /// Another one for each start: 40 hexadecimal digits, as Redis has them.
    fn run_id(&self) -> String {
        let (disk, seed) = (self.config.disk.0, self.config.seed);
        format!("{disk:016x}{:08x}{seed:016x}", self.config.process as u32)
    }

    fn persistence_section(&self, _: KeyspaceId, lines: &mut Lines) {
        let stalled = self.shards.stalled_for().is_some();
        let outstanding = (self.shards.log().outstanding_since())
            .map_or(Duration::ZERO, |at| self.now.monotonic.saturating_sub(at));
        let status = match self.shards.lacking().is_some() || stalled {
            true => "err",
            false => "ok",
        };
        lines.put("loading", 0);
        lines.put("async_loading", 0);
        // The log is what is saved: what is not in it yet are changes since the last save.
        lines.put(
            "rdb_changes_since_last_save",
            self.shards.figures().appended,
        );
        lines.put("rdb_bgsave_in_progress", u8::from(self.saves.is_any()));
        lines.put("rdb_last_save_time", self.saved_at_s());
        lines.put("rdb_last_bgsave_status", status);
        lines.put("aof_enabled", 1);
        lines.put("aof_rewrite_in_progress", 0);
        lines.put("aof_rewrite_scheduled", 0);
        lines.put("aof_last_bgrewrite_status", status);
        lines.put("aof_last_write_status", status);
        lines.put("aof_current_size", self.shards.log().bytes());
        lines.put("log_bytes", self.shards.log().bytes());
        lines.put("log_segments", self.shards.log().segments());
        lines.put("log_pending_bytes", self.shards.log().pending_bytes());
        lines.put("log_outstanding_ms", outstanding.as_millis());
        lines.put("log_stalled", u8::from(stalled));
        lines.0.push_str(&self.shards.scrub_lines());
    }

    fn clients_section(&self, _: KeyspaceId, lines: &mut Lines) {
        let figures = self.gate.figures();
        lines.put("connected_clients", figures.clients);
        lines.put("cluster_connections", 0);
        lines.put("maxclients", self.config.clients.clients_max);
        lines.put("client_recent_max_input_buffer", figures.query_bytes_max);
        lines.put("client_recent_max_output_buffer", figures.output_bytes_max);
        lines.put("blocked_clients", figures.waiting);
        lines.put("tracking_clients", 0);
    }

    fn memory_section(&self, _: KeyspaceId, lines: &mut Lines) {
        if let Some(usage) = (self.config.usage)() {
            // The allocator is not asked: what the process has is what the node uses.
            lines.put_bytes("used_memory", usage.resident_bytes);
            lines.put_bytes("used_memory_rss", usage.resident_bytes);
            lines.put_bytes("used_memory_peak", usage.resident_bytes_max);
            lines.put_bytes("total_system_memory", usage.memory_bytes);
        }
        lines.put_bytes("maxmemory", 0);
        lines.put("maxmemory_policy", "noeviction");
        lines.put("mem_allocator", "mimalloc");
        let figures = self.gate.figures();
        lines.put("mem_clients_normal", figures.memory);
        lines.put("mem_clients_input", figures.input_bytes);
        lines.put("mem_clients_input_max", self.config.limits.input_bytes_max);
    }

    /// `MEMORY STATS`: what of it is known here.
    pub(crate) fn memory_stats(&mut self, conn: u64) {
        let mut stats = vec![("clients.normal", self.gate.figures().memory as u64)];
        if let Some(usage) = (self.config.usage)() {
            stats.push(("peak.allocated", usage.resident_bytes_max));
            stats.push(("total.allocated", usage.resident_bytes));
        }
        let replicas = self.shards.replicas();
        let keys = replicas.map(|replica| replica.store().key_count());
        stats.push(("keys.count", keys.sum()));
        self.answer(conn, |out| {
            out.map(stats.len());
            for (name, value) in stats {
                out.bulk(name);
                out.integer(value as i64);
            }
        });
    }

    fn stats_section(&self, _: KeyspaceId, lines: &mut Lines) {
        let stats = self.gate.stats();
        let traffic = stats.traffic((self.config.traffic)());
        let (commands, bytes) = stats.a_second();
        let kib = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
        lines.put("total_connections_received", stats.connections);
        lines.put("total_commands_processed", stats.commands);
        lines.put("instantaneous_ops_per_sec", commands);
        lines.put("total_net_input_bytes", traffic.input_bytes);
        lines.put("total_net_output_bytes", traffic.output_bytes);
        lines.put("instantaneous_input_kbps", kib(bytes.input_bytes));
        lines.put("instantaneous_output_kbps", kib(bytes.output_bytes));
        lines.put("rejected_connections", traffic.turned_away);
        lines.put(
            "expired_keys",
            stats.expired + self.shards.figures().expired,
        );
        lines.put("evicted_keys", 0);
        lines.put("evicted_clients", self.gate.figures().evicted);
        lines.put("keyspace_hits", stats.hits);
        lines.put("keyspace_misses", stats.misses);
        lines.put("pubsub_channels", 0);
        lines.put("pubsub_patterns", 0);
        lines.put("latest_fork_usec", 0);
        lines.put("total_forks", 0);
        lines.put("tracking_total_keys", 0);
        lines.put("total_error_replies", stats.errors);
    }

    fn cpu_section(&self, _: KeyspaceId, lines: &mut Lines) {
        if let Some(usage) = (self.config.usage)() {
            lines.put(
                "used_cpu_sys",
                format!("{:.6}", usage.cpu_system.as_secs_f64()),
            );
            lines.put(
                "used_cpu_user",
                format!("{:.6}", usage.cpu_user.as_secs_f64()),
            );
            // It starts no other processes.
            lines.put("used_cpu_sys_children", "0.000000");
            lines.put("used_cpu_user_children", "0.000000");
        }
    }

    fn commandstats_section(&self, _: KeyspaceId, lines: &mut Lines) {
        for (name, calls) in self.gate.stats().calls() {
            // Programs take the values by their places: what was not measured is 0.
            let us = calls.took.as_nanos() as f64 / 1e3;
            let each = us / calls.measured.max(1) as f64;
            let value = format!(
                "calls={},usec={us:.0},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                calls.calls, calls.rejected, calls.failed
            );
            lines.put(&format!("cmdstat_{name}"), value);
        }
    }

    fn errorstats_section(&self, _: KeyspaceId, lines: &mut Lines) {
        for (code, count) in self.gate.stats().codes() {
            lines.put(&format!("errorstat_{code}"), format!("count={count}"));
        }
    }

    /// Those keyspaces of which this node holds keys, with what it holds.
    fn keyspace_section(&self, _: KeyspaceId, lines: &mut Lines) {
        for (id, facts) in &self.catalog.keyspaces {
            let stores = || {
                let shards = facts
                    .shards
                    .iter()
                    .filter_map(|id| self.shards.replica(*id));
                shards.map(|replica| replica.store())
            };
            let keys: u64 = stores().map(|store| store.key_count()).sum();
            if keys == 0 {
                continue;
            }
            let expiring = stores().map(|store| store.expiring());
            let expiring = expiring.reduce(|a, b| Some((a?.0 + b?.0, a?.1 + b?.1)));
            let mut value = format!("keys={keys}");
            // Not known for a while after a start.
            if let Some((expires, sum_ms)) = expiring.flatten() {
                let mean_ms = sum_ms / u128::from(expires.max(1));
                let ttl_ms = mean_ms.saturating_sub(self.now.wall_ms.into());
                value.push_str(&format!(",expires={expires},avg_ttl={ttl_ms}"));
            }
            lines.put(&format!("db{id}"), value);
        }
    }

    /// How the keyspace stands here; None: there is none of this number.
    fn stand(&self, keyspace: KeyspaceId) -> Option<Stand<'_, S>> {
        let id = *self.catalog.keyspaces.get(&keyspace)?.shards.first()?;
        let facts = self.catalog.shards.get(&id)?;
        Some(Stand {
            id,
            facts,
            own: self.shards.replica(id),
            primary: facts.primary == self.config.id,
        })
    }

    fn replication_section(&self, keyspace: KeyspaceId, lines: &mut Lines) {
        match self.stand(keyspace) {
            Some(stand) if stand.primary => self.primary_lines(&stand, lines),
            Some(stand) => self.replica_lines(&stand, lines),
            None => lines.put("role", "slave"),
        }
        self.node_replication_lines(lines);
    }

    fn primary_lines(&self, stand: &Stand<'_, S>, lines: &mut Lines) {
        let tip = stand
            .own
            .as_ref()
            .and_then(|own| own.state(self.now))
            .map_or(0, |s| s.tip.index);
        let members = stand.own.as_ref().map(|own| own.members());
        let members = members.unwrap_or_default();
        let up: Vec<_> = members
            .into_iter()
            .filter(|member| self.cluster.peers().is_up(&member.node, self.now.monotonic))
            .filter_map(|member| {
                let addr = &self.catalog.nodes.get(&member.node)?.client_addr;
                Some((addr, member))
            })
            .collect();
        lines.put("role", "master");
        lines.put("connected_slaves", up.len());
        for (n, (addr, member)) in up.iter().enumerate() {
            let now = self.now.monotonic;
            let silence = member.heard_at.map(|at| now.saturating_sub(at));
            // Of who rests nothing is heard but by its node.
            let silence = match member.rests {
                true => self.cluster.peers().silence(&member.node, now),
                false => silence,
            };
            let silent = silence.map_or(-1, seconds);
            let value = format!(
                "ip={},port={},state=online,offset={},lag={silent},lag_entries={}",
                addr.host(),
                addr.port(),
                member.matched,
                tip.saturating_sub(member.matched),
            );
            lines.put(&format!("slave{n}"), value);
        }
        self.history_lines(stand, tip, lines);
    }

    fn replica_lines(&self, stand: &Stand<'_, S>, lines: &mut Lines) {
        let primary = &stand.facts.primary;
        lines.put("role", "slave");
        if let Some(info) = self.catalog.nodes.get(primary) {
            lines.put("master_host", info.client_addr.host());
            lines.put("master_port", info.client_addr.port());
        }
        let up = self.cluster.peers().is_up(primary, self.now.monotonic);
        lines.put("master_link_status", if up { "up" } else { "down" });
        let silence = self.cluster.peers().silence(primary, self.now.monotonic);
        let silence = silence.map_or(-1, seconds);
        lines.put("master_last_io_seconds_ago", silence);
        let applied = (stand.own.as_ref()).map_or(0, |own| own.applied().index);
        let filled = (stand.own.as_ref()).is_some_and(|own| !own.store().is_serving());
        lines.put("master_sync_in_progress", u8::from(filled));
        lines.put("slave_read_repl_offset", applied);
        lines.put("slave_repl_offset", applied);
        if !up {
            lines.put("master_link_down_since_seconds", silence);
        }
        // What is written here goes to the primary.
        lines.put("slave_read_only", 0);
        lines.put("connected_slaves", 0);
        self.history_lines(stand, applied, lines);
    }

    /// Which history of which shard it is, and how far that goes here.
    fn history_lines(&self, stand: &Stand<'_, S>, offset: u64, lines: &mut Lines) {
        lines.put("master_failover_state", "no-failover");
        let (id, epoch) = (stand.id.0, stand.facts.epoch.0);
        lines.put("master_replid", format!("{id:020x}{epoch:020x}"));
        lines.put("master_replid2", "0".repeat(40));
        lines.put("master_repl_offset", offset);
        lines.put("second_repl_offset", -1);
    }

    /// All that this node holds a replica of, in Quire's words.
    fn node_replication_lines(&self, lines: &mut Lines) {
        let mut degraded = 0;
        for replica in self.shards.replicas() {
            let id = replica.id();
            let Some(state) = replica.state(self.now) else {
                continue;
            };
            let facts = self.catalog.shards.get(&id);
            degraded += usize::from(facts.is_some_and(|f| f.degraded));
            if state.role == Role::Primary {
                for (n, member) in replica.members().into_iter().enumerate() {
                    let info = self.catalog.nodes.get(&member.node);
                    let (ip, port) = info.map_or(("?".into(), 0), |i| {
                        (i.client_addr.host(), i.client_addr.port())
                    });
                    let up = self.cluster.peers().is_up(&member.node, self.now.monotonic);
                    let value = format!(
                        "ip={ip},port={port},state={},offset={},lag_entries={}",
                        if up { "online" } else { "offline" },
                        member.matched,
                        state.tip.index.saturating_sub(member.matched),
                    );
                    lines.put(&format!("shard{id}_slave{n}"), value);
                }
            } else {
                let lag = state.fresh_at.map_or(-1, |at| {
                    self.now.monotonic.saturating_sub(at).as_millis() as i64
                });
                let value = format!(
                    "{},offset={},data_lag_ms={lag}",
                    facts.map_or("?", |f| f.primary.as_str()),
                    replica.applied().index,
                );
                lines.put(&format!("shard{id}_master"), value);
            }
        }
        lines.put("degraded_shards", degraded);
        let figures = self.shards.figures();
        lines.put("copies", figures.copies);
        lines.put("copying_shards", figures.copying);
        lines.put("leaving_shards", figures.leaving);
        lines.put("rewinding_shards", figures.rewinding);
        lines.put("rewinds", figures.rewinds);
        lines.put("rewound_entries", figures.rewound_entries);
        lines.put("rewound_keys", figures.rewound_keys);
    }

    pub(crate) fn role(&mut self, conn: u64) {
        let Some(keyspace) = self.gate.keyspace_of(conn) else {
            return;
        };
        let Some(stand) = self.stand(keyspace) else {
            return self.answer_error(conn, &no_keyspace(keyspace));
        };
        let (facts, own) = (stand.facts, stand.own);
        let position = own.as_ref().map_or(0, |own| own.applied().index) as i64;
        if stand.primary {
            let members = own.map(|own| own.members()).unwrap_or_default();
            let members: Vec<_> = members
                .into_iter()
                .filter_map(|m| {
                    let addr = self.catalog.nodes.get(&m.node)?.client_addr.clone();
                    Some((addr, m.matched))
                })
                .collect();
            self.answer(conn, |out| {
                out.array(3);
                out.bulk("master");
                out.integer(position);
                out.array(members.len());
                for (addr, matched) in members {
                    out.array(3);
                    out.bulk(addr.host());
                    out.bulk(addr.port().to_string());
                    out.bulk(matched.to_string());
                }
            });
        } else {
            let primary = self.catalog.nodes.get(&facts.primary);
            let (ip, port) = primary.map_or((String::new(), 0), |i| {
                (i.client_addr.host(), i.client_addr.port())
            });
            let up = self
                .cluster
                .peers()
                .is_up(&facts.primary, self.now.monotonic);
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

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &str, section: &str, is_default: bool) -> bool {
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        Wanted(&words).has(section, is_default)
    }

    #[test]
    fn sections_are_those_asked_for() {
        assert!(wanted("", "Server", true) && !wanted("", "Commandstats", false));
        assert!(wanted("default", "Server", true) && !wanted("DEFAULT", "Commandstats", false));
        assert!(wanted("all", "Commandstats", false) && wanted("everything", "Server", true));
        assert!(wanted("cpu commandstats", "Commandstats", false));
        assert!(wanted("cpu default", "Server", true) && !wanted("cpu", "Server", true));
        assert!(!wanted("nosuch", "Server", true));
    }

    #[test]
    fn bytes_are_written_as_redis_writes_them() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1_831_368, "1.75M"),
            (7_368_704, "7.03M"),
            (25_276_502_016, "23.54G"),
        ] {
            assert_eq!(human(bytes), shown);
        }
    }
}
