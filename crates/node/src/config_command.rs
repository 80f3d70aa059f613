//! CONFIG: a node as an operator's tools look at it.

use crate::{COPY_BYTES_PER_SECOND_MIN, node::Node};
use commands::{glob, node_command::ConfigCommand};
use gate::{SLOW_COMMANDS_MAX, Setting};
use std::{borrow::Cow, time::Duration};
use storage::{log::SyncPolicy, store::Stores};

/// What copies for other nodes may take together.
const COPY_RATE: &str = "copy-bytes-per-second";

const LATENCY_FROM: &str = "latency-monitor-threshold";
const LATENCY_TRACKING: &str = "latency-tracking";
const PROTECTED: &str = "protected-mode";
const TIMEOUT: &str = "timeout";
const SLOWER_THAN: &str = "slowlog-log-slower-than";
const SLOW_MAX: &str = "slowlog-max-len";

/// An option that can be set while the node runs.
enum Change {
    OfGate(Setting),
    CopyRate(u64),
}

impl Change {
    /// `option` is to be `value`; an error says what it must be. None: it is not among them.
    fn of(option: &str, value: &str) -> Option<Result<Change, String>> {
        let number = |from: i64, to: i64| match value.parse() {
            Ok(number) if (from..=to).contains(&number) => Ok(number),
            Ok(_) => Err(format!(
                "argument must be between {from} and {to} inclusive"
            )),
            Err(_) => Err("argument couldn't be parsed into an integer".to_owned()),
        };
        let of_gate = |setting: Result<Setting, String>| setting.map(Change::OfGate);
        Some(match option {
            "availability-zone" => Ok(Change::OfGate(Setting::Zone(value.to_owned()))),
            COPY_RATE => match value.parse() {
                Ok(rate) if rate >= COPY_BYTES_PER_SECOND_MIN => Ok(Change::CopyRate(rate)),
                _ => Err(format!(
                    "argument must be a number of bytes a second, at least {COPY_BYTES_PER_SECOND_MIN}"
                )),
            },
            SLOWER_THAN => of_gate(number(-1, i64::MAX).map(Setting::SlowFrom)),
            SLOW_MAX => {
                of_gate(number(0, SLOW_COMMANDS_MAX as i64).map(|n| Setting::SlowMax(n as usize)))
            }
            LATENCY_FROM => of_gate(number(0, i64::MAX).map(|ms| Setting::LatencyFrom(ms as u64))),
            LATENCY_TRACKING => of_gate(is_yes(value).map(Setting::LatencyTracking)),
            PROTECTED => of_gate(is_yes(value).map(Setting::Protected)),
            TIMEOUT => of_gate(
                number(0, i64::from(i32::MAX))
                    .map(|seconds| Setting::IdleMax(Duration::from_secs(seconds as u64))),
            ),
            _ => return None,
        })
    }
}

fn is_yes(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".to_owned()),
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes".into() } else { "no".into() }
}

/// The name of an option as CONFIG GET replies it: a name is repeated as it was asked for.
/// Nothing matches any more once `steps` are used up.
fn shown_as<'a>(name: &'a str, pattern: &'a [u8], steps: &mut u64) -> Option<&'a [u8]> {
    if pattern.iter().any(|byte| b"[*?".contains(byte)) {
        let pattern = pattern.to_ascii_lowercase();
        let found = glob::matches_within(&pattern, name.as_bytes(), steps);
        if found.is_none() {
            *steps = 0;
        }
        (found == Some(true)).then_some(name.as_bytes())
    } else {
        pattern
            .eq_ignore_ascii_case(name.as_bytes())
            .then_some(pattern)
    }
}

impl<S: Stores> Node<S> {
    /// Options that client programs and tools ask for, and what they are here; by name.
    fn options(&self) -> [(&'static str, String); 32] {
        let gate = self.gate.settings();
        let fsync = match self.config.log.sync {
            SyncPolicy::Always => "always",
            SyncPolicy::Os => "no",
            SyncPolicy::EveryMs(_) => "everysec",
        };
        // Tools go through all numbers below it.
        let last = self.catalog.keyspaces.keys().next_back();
        let databases = last
            .map_or(0, |id| id.0.saturating_add(1))
            .max(16)
            .to_string();
        let port = self.config.listens.port().to_string();
        let addr = self.config.listens.ip().to_string();
        [
            ("activedefrag", "no".into()),
            ("appendfsync", fsync.into()),
            ("appendonly", "yes".into()),
            ("availability-zone", gate.zone),
            ("bind", addr),
            ("cluster-enabled", "no".into()),
            (
                COPY_RATE,
                self.config.limits.copy_bytes_per_second.to_string(),
            ),
            ("databases", databases),
            ("hash-max-listpack-entries", "512".into()),
            ("hash-max-listpack-value", "64".into()),
            (LATENCY_FROM, gate.latency_from_ms.to_string()),
            (LATENCY_TRACKING, yes_or_no(gate.is_tracking)),
            ("maxclients", self.config.clients.clients_max.to_string()),
            ("maxmemory", "0".into()),
            ("maxmemory-clients", "0".into()),
            ("maxmemory-policy", "noeviction".into()),
            ("min-replicas-to-write", "0".into()),
            ("notify-keyspace-events", String::new()),
            ("port", port),
            (
                "proto-max-bulk-len",
                self.config.clients.bulk_bytes_max.to_string(),
            ),
            (PROTECTED, yes_or_no(gate.is_protected)),
            // What is written at a replica goes to the primary.
            ("replica-read-only", "no".into()),
            ("requirepass", String::new()),
            ("save", String::new()),
            ("slave-read-only", "no".into()),
            (SLOWER_THAN, gate.slow_from_us.to_string()),
            (SLOW_MAX, gate.slow_max.to_string()),
            ("stop-writes-on-bgsave-error", "yes".into()),
            ("tcp-keepalive", "300".into()),
            (TIMEOUT, gate.idle_max.as_secs().to_string()),
            ("tls-port", "0".into()),
            ("unixsocket", String::new()),
        ]
    }

    pub(crate) fn config_command(&mut self, conn: u64, command: ConfigCommand, args: &[&[u8]]) {
        let rest = args.get(2..).unwrap_or_default();
        match command {
            ConfigCommand::Get => {
                let options = self.options();
                let mut steps = glob::STEPS_MAX;
                let mut shown = |name| {
                    let mut shown = rest
                        .iter()
                        .map(|pattern| shown_as(name, pattern, &mut steps));
                    shown.find_map(|shown| shown)
                };
                let found = options
                    .iter()
                    .filter_map(|(name, value)| Some((shown(*name)?, value)));
                let found: Vec<_> = found.collect();
                if steps == 0 {
                    return self.answer_error(conn, glob::TOO_MANY_STEPS);
                }
                self.answer(conn, |out| {
                    out.map(found.len());
                    for (name, value) in found {
                        out.bulk(name);
                        out.bulk(value);
                    }
                });
            }
            ConfigCommand::Set => match self.config_set(rest) {
                Ok(()) => self.answer(conn, |out| out.ok()),
                Err(line) => self.answer_error(conn, &line),
            },
            ConfigCommand::ResetStat => {
                self.gate.reset_stats((self.config.traffic)());
                self.answer(conn, |out| out.ok());
            }
            ConfigCommand::Help => self.answer_help(conn, args),
            ConfigCommand::Rewrite => self.answer_error(
                conn,
                "ERR CONFIG REWRITE is not supported: change the node's configuration file",
            ),
        }
    }

    /// All or nothing. What an option is already may be set again.
    fn config_set(&mut self, args: &[&[u8]]) -> Result<(), String> {
        let (pairs, odd) = args.as_chunks::<2>();
        if !odd.is_empty() {
            return Err("ERR syntax error".into());
        }
        let options = self.options();
        let mut changes = Vec::new();
        let failed = |name: &str, why: &str| {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
        };
        let mut named: Vec<(&str, &String, Cow<'_, str>)> = Vec::new();
        for [given, value] in pairs {
            let given = String::from_utf8_lossy(given);
            let known = |(known, _): &&(&str, String)| known.eq_ignore_ascii_case(&given);
            let Some((name, is)) = options.iter().find(known) else {
                return Err(format!(
                    "ERR Unknown option or number of arguments for CONFIG SET - '{given}'"
                ));
            };
            if named.iter().any(|(before, ..)| before == name) {
                return Err(failed(&given, "duplicate parameter"));
            }
            named.push((*name, is, String::from_utf8_lossy(value)));
        }
        for (name, is, value) in named {
            match Change::of(name, &value) {
                Some(change) => changes.push(change.map_err(|why| failed(name, &why))?),
                None if is.eq_ignore_ascii_case(&value) => {}
                None => {
                    return Err(failed(
                        name,
                        "can't set immutable config: change it in the node's configuration file, if it can be changed",
                    ));
                }
            }
        }
        for change in changes {
            match change {
                Change::OfGate(setting) => self.gate.set(setting),
                Change::CopyRate(rate) => {
                    self.change_limits(|limits| limits.copy_bytes_per_second = rate);
                }
            }
        }
        Ok(())
    }
}
