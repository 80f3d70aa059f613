//! `quire rewound`: what failovers lost, as the node that took it back has saved it, and
//! writing it again.
//!
//! A lost write can't simply be repeated: the key may have been written since. So each key is
//! read first. What is absent now is written; what is there with another value is a conflict,
//! and left alone unless `--overwrite` says otherwise. Absent is checked again by the node when
//! it writes (`SET … NX`, `HSETNX`).

use crate::{
    Outcome,
    client::{Client, NodeArg, refusal, text_of},
    output::{count, say, sayln},
    rewound_file::{Lost, Wanted},
    table::{render, table},
};
use clap::Subcommand;
use resp::Frame;
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    error::Error,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Show what failovers lost, and write it again.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    node: NodeArg,
}

#[derive(Subcommand)]
enum Action {
    /// List the files of a node: one for each tail that it took back.
    List {
        /// Print the node's JSON as it is (documented in docs/cli.md).
        #[arg(long)]
        json: bool,
    },
    /// Print a file, one JSON object a line.
    Show {
        /// A file's name, as `list` shows it.
        file: String,
    },
    /// Write what was lost again: shows what it would do, and does it with --yes.
    Reapply {
        /// A file's name, as `list` shows it.
        file: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
        /// Also write keys and fields that have another value now.
        #[arg(long)]
        overwrite: bool,
        /// The keyspace, if the file doesn't name it.
        #[arg(long, value_name = "NAME")]
        keyspace: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

type Request = Vec<Vec<u8>>;

/// What is to be done with a key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Writes what is absent.
    write: Vec<Request>,
    /// What is there now with another value, and what would overwrite it.
    conflicts: Vec<(String, Request)>,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    let mut client = args.node.connect().await?;
    match &args.action {
        Action::List { json } => {
            let text = text_of(client.call(&["QUIRE", "REWOUND", "LIST"]).await?)?;
            if *json {
                sayln!("{text}");
            } else {
                let listed: Listed = args.node.read(&text, "a list")?;
                say!("{}", show_list(&listed));
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Show { file } => {
            say!("{}", fetch(&mut client, file).await?);
            Ok(ExitCode::SUCCESS)
        }
        Action::Reapply {
            file,
            yes,
            overwrite,
            keyspace,
            json,
        } => {
            let lost = Lost::parse(&fetch(&mut client, file).await?)?;
            let keyspace = keyspace.as_ref().or(lost.keyspace.as_ref());
            let keyspace = keyspace.ok_or("the file names no keyspace: say --keyspace NAME")?;
            client.call(&["SELECT", keyspace]).await?;
            let done = reapply(&mut client, &lost, *yes, *overwrite).await?;
            if *json {
                sayln!("{}", done.json(file, keyspace, &lost));
            } else {
                say!("{}", done.text(keyspace, &lost));
            }
            let left = done.yes && !overwrite && !done.conflicts.is_empty();
            Ok(if left {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    node: String,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    file: String,
    keyspace: Option<String>,
    shard: Option<u64>,
    epoch: Option<u64>,
    common: Option<String>,
    complete: bool,
    entries: Option<u64>,
    effects: Option<u64>,
}

fn show_list(listed: &Listed) -> String {
    if listed.files.is_empty() {
        return format!(" {} has taken nothing back\n", listed.node);
    }
    let headers = [
        "FILE",
        "KEYSPACE",
        "SHARD",
        "EPOCH",
        "KEPT-UPTO",
        "ENTRIES",
        "EFFECTS",
        "STATE",
    ];
    let mut rows = table(&headers, &[2, 3, 5, 6]);
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "-".into());
    for f in &listed.files {
        rows.add_row([
            f.file.clone(),
            text(&f.keyspace),
            number(f.shard),
            number(f.epoch),
            text(&f.common),
            number(f.entries),
            number(f.effects),
            if f.complete { "complete" } else { "unfinished" }.into(),
        ]);
    }
    render(&rows)
}

/// The whole file.
async fn fetch(client: &mut Client, file: &str) -> Result<String, Box<dyn Error>> {
    let (mut text, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let request = ["QUIRE", "REWOUND", "SHOW", file, &cursor];
        let reply = client.call(&request).await?;
        let Some([next, more]) = reply.as_values() else {
            return Err("the node answered something else than a cursor and text".into());
        };
        text.extend_from_slice(more.as_bytes().map_or(&[], |b| &b[..]));
        cursor = text_of(next.clone())?;
        if cursor == "0" {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Done {
    yes: bool,
    overwrite: bool,
    same: u64,
    /// Keys that were written, or would be.
    written: Vec<String>,
    /// (key, what is there now)
    conflicts: Vec<(String, String)>,
}

async fn reapply(
    client: &mut Client,
    lost: &Lost,
    yes: bool,
    overwrite: bool,
) -> Result<Done, Box<dyn Error>> {
    let mut done = Done {
        yes,
        overwrite,
        ..Done::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as u64);
    for (key, wanted) in &lost.keys {
        let name = key.escape_ascii().to_string();
        let plan = plan(key, wanted, &read(client, key).await?, now_ms);
        if plan == Plan::default() {
            done.same += 1;
            continue;
        }
        let mut requests = plan.write;
        for (why, request) in plan.conflicts {
            done.conflicts.push((name.clone(), why));
            if overwrite {
                requests.push(request);
            }
        }
        if requests.is_empty() {
            continue;
        }
        done.written.push(name);
        if yes {
            requests.iter().for_each(|request| client.push(request));
            client.flush().await?;
            for _ in &requests {
                let reply = client.pull().await?;
                if let Some(refusal) = refusal(&reply) {
                    return Err(format!(
                        "{refusal} (key {}; {} keys were written before it: it is safe to say it again)",
                        key.escape_ascii(),
                        done.written.len() - 1
                    )
                    .into());
                }
            }
        }
    }
    Ok(done)
}

/// What a key is now.
#[derive(Debug, PartialEq, Eq)]
enum Present {
    Absent,
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

async fn read(client: &mut Client, key: &[u8]) -> Result<Present, Box<dyn Error>> {
    let kind = text_of(client.call(&[b"TYPE", key]).await?)?;
    Ok(match kind.as_str() {
        "string" => match client.call(&[b"GET", key]).await?.as_bytes() {
            Some(value) => Present::String(value.to_vec()),
            None => Present::Absent,
        },
        "hash" => {
            let reply = client.call(&[&b"HGETALL"[..], key]).await?;
            let values = reply.as_values().unwrap_or_default();
            let bytes = |frame: &Frame| frame.as_bytes().map(|b| b.to_vec()).unwrap_or_default();
            let pairs = values.chunks(2).filter(|pair| pair.len() == 2);
            Present::Hash(pairs.map(|p| (bytes(&p[0]), bytes(&p[1]))).collect())
        }
        _ => Present::Absent,
    })
}

fn request(words: &[&[u8]]) -> Request {
    words.iter().map(|w| w.to_vec()).collect()
}

fn shown(value: &[u8]) -> String {
    let text = value.escape_ascii().to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("\"{}…\"", &text[..at]),
        None => format!("\"{text}\""),
    }
}

fn plan(key: &[u8], wanted: &Wanted, present: &Present, now_ms: u64) -> Plan {
    let mut plan = Plan::default();
    let is_now = match present {
        Present::Absent => "absent now".to_owned(),
        Present::String(value) => format!("now {}", shown(value)),
        Present::Hash(fields) => format!("now a hash of {} fields", fields.len()),
    };
    let expire = |at: Option<u64>| match at {
        Some(at) => {
            let left = at.saturating_sub(now_ms).max(1).to_string();
            request(&[b"PEXPIRE", key, left.as_bytes()])
        }
        None => request(&[b"PERSIST", key]),
    };
    match (wanted, present) {
        (Wanted::Absent, Present::Absent) | (Wanted::Expiry(_), Present::Absent) => {}
        (Wanted::Absent, _) => plan.conflicts.push((is_now, request(&[b"DEL", key]))),
        (Wanted::Expiry(at), _) => plan.conflicts.push((is_now, expire(*at))),
        (Wanted::String(value, _), Present::String(now)) if value == now => {}
        // Its time would be over.
        (Wanted::String(_, Some(at)), Present::Absent) if *at <= now_ms => {}
        (Wanted::String(value, at), _) => {
            let mut set = request(&[b"SET", key, value]);
            if let Some(at) = at {
                set.extend(request(&[b"PXAT", at.to_string().as_bytes()]));
            }
            if *present == Present::Absent {
                set.push(b"NX".to_vec());
                plan.write.push(set);
            } else {
                plan.conflicts.push((is_now, set));
            }
        }
        (Wanted::Hash(_, Some(Some(at))), Present::Absent) if *at <= now_ms => {}
        (Wanted::Hash(fields, _), Present::String(_)) => {
            plan.conflicts.push((is_now, request(&[b"DEL", key])));
            for (field, value) in fields {
                if let Some(value) = value {
                    let why = "the key is a string now".to_owned();
                    let write = request(&[b"HSET", key, field, value]);
                    plan.conflicts.push((why, write));
                }
            }
        }
        (Wanted::Hash(fields, at), _) => {
            let none = BTreeMap::new();
            let now = match present {
                Present::Hash(now) => now,
                _ => &none,
            };
            for (field, value) in fields {
                let is_now = |now: &Vec<u8>| format!("field {} is {}", shown(field), shown(now));
                match (value, now.get(field)) {
                    (Some(value), None) => {
                        plan.write.push(request(&[b"HSETNX", key, field, value]));
                    }
                    (Some(value), Some(now)) if value != now => {
                        let write = request(&[b"HSET", key, field, value]);
                        plan.conflicts.push((is_now(now), write));
                    }
                    (None, Some(now)) => {
                        let write = request(&[b"HDEL", key, field]);
                        plan.conflicts.push((is_now(now), write));
                    }
                    _ => {}
                }
            }
            if let (Present::Absent, Some(at @ Some(_)), false) =
                (present, at, plan.write.is_empty())
            {
                plan.write.push(expire(*at));
            }
        }
    }
    plan
}

impl Done {
    fn text(&self, keyspace: &str, lost: &Lost) -> String {
        let mut text = String::new();
        // Those of conflicts that are overwritten are among `written`, and said below.
        let overwritten =
            |key: &str| self.overwrite && self.conflicts.iter().any(|(name, _)| name == key);
        for key in self.written.iter().filter(|key| !overwritten(key)) {
            let did = if self.yes {
                "written"
            } else {
                "would be written"
            };
            text.push_str(&format!(" {key}: {did}\n"));
        }
        for (key, why) in &self.conflicts {
            let did = match (self.overwrite, self.yes) {
                (true, true) => "overwritten; before:",
                (true, false) => "would be overwritten:",
                (false, _) => "left alone:",
            };
            text.push_str(&format!(" {key}: {did} {why}\n"));
        }
        if lost.flushed {
            text.push_str(" the shard was cleared (FLUSHDB): that is not done again\n");
        }
        if !lost.complete {
            text.push_str(" the file is unfinished: another one has all of it\n");
        }
        text.push_str(&format!(
            " keyspace {keyspace}: {}, {}: {} as now, {} {}, {}\n",
            count(lost.entries, "entry", "entries"),
            count(lost.keys.len() as u64, "key", "keys"),
            self.same,
            self.written.len(),
            if self.yes {
                "written"
            } else {
                "to write (say --yes)"
            },
            count(self.conflicts.len() as u64, "conflict", "conflicts"),
        ));
        text
    }

    fn json(&self, file: &str, keyspace: &str, lost: &Lost) -> serde_json::Value {
        let conflicts = self.conflicts.iter();
        let conflicts: Vec<_> = conflicts
            .map(|(key, why)| json!({ "key": key, "why": why }))
            .collect();
        json!({
            "file": file,
            "keyspace": keyspace,
            "done": self.yes,
            "overwrite": self.overwrite,
            "entries": lost.entries,
            "keys": lost.keys.len(),
            "same": self.same,
            "written": self.written,
            "conflicts": conflicts,
            "flushed": lost.flushed,
            "complete": lost.complete,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(requests: &[Request]) -> Vec<String> {
        let line = |r: &Request| r.iter().map(|w| w.escape_ascii().to_string()).collect();
        let lines = requests.iter().map(line);
        lines.map(|l: Vec<String>| l.join(" ")).collect()
    }

    #[test]
    fn only_what_is_absent_is_written_unasked() {
        let hash = |fields: &[(&str, Option<&str>)], at| {
            let fields = fields.iter();
            let fields = fields.map(|(f, v)| (f.as_bytes().to_vec(), v.map(|v| v.into())));
            Wanted::Hash(fields.collect(), at)
        };
        let now = |fields: &[(&str, &str)]| {
            let fields = fields
                .iter()
                .map(|(f, v)| (f.as_bytes().to_vec(), v.as_bytes().to_vec()));
            Present::Hash(fields.collect())
        };
        let string = |v: &str, at| Wanted::String(v.into(), at);
        let is = |v: &str| Present::String(v.into());
        let absent = || Present::Absent;
        for (wanted, present, write, conflicts) in [
            (string("v", None), absent(), vec!["SET k v NX"], vec![]),
            (
                string("v", Some(99)),
                absent(),
                vec!["SET k v PXAT 99 NX"],
                vec![],
            ),
            (string("v", Some(40)), absent(), vec![], vec![]),
            (string("v", None), is("v"), vec![], vec![]),
            (string("v", None), is("w"), vec![], vec!["SET k v"]),
            (Wanted::Absent, absent(), vec![], vec![]),
            (Wanted::Absent, is("w"), vec![], vec!["DEL k"]),
            (Wanted::Expiry(None), is("w"), vec![], vec!["PERSIST k"]),
            (
                hash(&[("a", Some("1")), ("b", None)], Some(Some(99))),
                absent(),
                vec!["HSETNX k a 1", "PEXPIRE k 49"],
                vec![],
            ),
            (
                hash(
                    &[
                        ("a", Some("1")),
                        ("b", Some("2")),
                        ("c", None),
                        ("d", Some("4")),
                    ],
                    None,
                ),
                now(&[("b", "3"), ("c", "5"), ("d", "4")]),
                vec!["HSETNX k a 1"],
                vec!["HSET k b 2", "HDEL k c"],
            ),
            (
                hash(&[("a", Some("1"))], None),
                is("w"),
                vec![],
                vec!["DEL k", "HSET k a 1"],
            ),
        ] {
            let plan = plan(b"k", &wanted, &present, 50);
            assert_eq!(words(&plan.write), write, "{wanted:?} over {present:?}");
            let overwrite: Vec<Request> = plan.conflicts.into_iter().map(|(_, r)| r).collect();
            assert_eq!(words(&overwrite), conflicts, "{wanted:?} over {present:?}");
        }
    }

    #[test]
    fn each_key_is_said_once() {
        let lost = Lost {
            entries: 1,
            ..Lost::default()
        };
        let mut done = Done {
            yes: true,
            overwrite: true,
            written: vec!["a".into(), "k".into()],
            conflicts: vec![("k".into(), "field \"city\" is \"Paris\"".into())],
            ..Done::default()
        };
        let text = done.text("profiles", &lost);
        assert!(
            text.starts_with(" a: written\n k: overwritten; before: field \"city\" is \"Paris\"\n"),
            "{text}"
        );
        assert!(text.contains(" 1 entry, 0 keys: 0 as now, 2 written, 1 conflict\n"));
        // Of a hash with a conflict, fields that are absent are written.
        done.overwrite = false;
        let text = done.text("profiles", &lost);
        assert!(
            text.contains(" k: written\n k: left alone: field"),
            "{text}"
        );
    }

    #[test]
    fn lists_files() {
        let listed = r#"{"node":"us-1","files":[{"file":"7-3.jsonl","bytes":9,"shard":7,"keyspace":"profiles","epoch":3,"common":"1:100","complete":true,"entries":2,"effects":7}]}"#;
        let shown = show_list(&serde_json::from_str(listed).unwrap());
        assert!(
            shown.contains(
                " 7-3.jsonl  profiles      7      3  1:100            2        7  complete\n"
            ),
            "{shown}"
        );
        let none = r#"{"node":"us-1","files":[]}"#;
        assert!(show_list(&serde_json::from_str(none).unwrap()).contains("nothing"));
    }
}
