//! What was lost in a failover, saved where an operator can read it and write it again: one
//! file for each tail that this node takes back, in `rewound/` of its data directory.
//!
//! # Files
//! `<shard>-<epoch>.jsonl`, the epoch being that in which it was taken back; the second of the
//! same name is `<shard>-<epoch>-2.jsonl`. One JSON object a line:
//! ```text
//! {"rewound":1,"node":"us-1","shard":7,"keyspace":"profiles","epoch":3,"common":"1:100"}
//! {"position":"1:101","stamp":"1700000000123.0","time":"2023-11-14T22:13:20.123Z",
//!  "committed":true,"effects":[…]}                                     for each lost entry
//! {"end":true,"entries":12,"effects":15}
//! ```
//! `common` is the last entry that was kept. `committed` says whether the entry was known to be
//! committed here, and so whether a client may have been told that it is written; one that is
//! not may have been acknowledged all the same, if the node crashed since. A file without the
//! last line was not finished: nothing had been changed then, and the next start took the tail
//! back again, with a file of its own. Entries without effect (barriers) are left out.
//!
//! | `op` of an effect | members besides `key` |
//! |---|---|
//! | `set` | `value`, `expires_ms` (since 1970; absent for never) |
//! | `hset` | `fields`: pairs of field and value; `created`; `expires_ms`, if known |
//! | `hdel` | `fields` |
//! | `expire` | `expires_ms`; null: no longer expires |
//! | `del` | |
//! | `flush` | no `key`: all keys of the shard were removed |
//!
//! Bytes that are not UTF-8 stand as `{"base64":"…"}` where the others stand as a string.
//!
//! What is saved is durable, file and name, when [`Saving::finish`] returns.

use model::{
    Entry, EntryKind, Epoch, NodeId, Op, Position, ShardId, codec::Malformed, mutation::Ops,
    time::rfc3339,
};
use serde_json::{Map, Value, json};
use std::{io, sync::Arc};
use storage::disk::{Disk, DiskFile};

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 256 << 10;
/// Files of one name.
const SUFFIX_MAX: u32 = 1000;
/// The longest first and last line that a listing looks for.
const EDGE_BYTES: usize = 4 << 10;
/// Bytes of a file that are shown at a time, unless a line is longer.
pub(crate) const SHOW_BYTES: usize = 1 << 20;

/// The directory.
pub(crate) struct Rewound {
    disk: Arc<dyn Disk>,
}

/// Whose tail is taken back, and from where.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) node: NodeId,
    pub(crate) shard: ShardId,
    pub(crate) keyspace: Option<String>,
    pub(crate) epoch: Epoch,
    pub(crate) common: Position,
}

/// A file in the making; there is none before the first entry with an effect.
pub(crate) struct Saving {
    disk: Arc<dyn Disk>,
    about: About,
    file: Option<(String, Arc<dyn DiskFile>)>,
    written: u64,
    buffer: Vec<u8>,
    entries: u64,
    effects: u64,
}

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// None: there was nothing to save.
    pub(crate) file: Option<String>,
    pub(crate) entries: u64,
    pub(crate) effects: u64,
}

impl Rewound {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Rewound { disk }
    }

    pub(crate) fn begin(&self, about: About) -> Saving {
        Saving {
            disk: self.disk.clone(),
            about,
            file: None,
            written: 0,
            buffer: Vec::new(),
            entries: 0,
            effects: 0,
        }
    }

    /// All files: the members of the first line, and what the last one says.
    pub(crate) fn list(&self) -> io::Result<Vec<Value>> {
        let mut files = Vec::new();
        for name in self.disk.list()? {
            if !name.ends_with(".jsonl") {
                continue;
            }
            let file = self.disk.open(&name)?;
            let bytes = file.len()?;
            let first = read(&*file, 0, EDGE_BYTES)?;
            let from = bytes.saturating_sub(EDGE_BYTES as u64);
            let last = read(&*file, from, EDGE_BYTES)?;
            let first = object(first.split(|b| *b == b'\n').next());
            let end = object(last.split(|b| *b == b'\n').rfind(|line| !line.is_empty()));
            let complete = end.contains_key("end");
            let count = |what: &str| end.get(what).filter(|_| complete).cloned();
            let of = |what: &str| first.get(what).cloned();
            files.push(json!({
                "file": name,
                "bytes": bytes,
                "shard": of("shard"),
                "keyspace": of("keyspace"),
                "epoch": of("epoch"),
                "common": of("common"),
                "complete": complete,
                "entries": count("entries"),
                "effects": count("effects"),
            }));
        }
        Ok(files)
    }

    /// Whole lines of a file from byte `from` on, and where to go on: 0 at the end.
    pub(crate) fn show(&self, name: &str, from: u64) -> io::Result<(Vec<u8>, u64)> {
        // Only what is listed: a name must not lead out of the directory.
        if !self.disk.list()?.iter().any(|n| n == name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.disk.open(name)?;
        let end = file.len()?;
        let mut bytes_max = SHOW_BYTES;
        loop {
            let mut text = read(&*file, from, bytes_max)?;
            let to = from + text.len() as u64;
            if to >= end {
                return Ok((text, 0));
            }
            if let Some(at) = text.iter().rposition(|b| *b == b'\n') {
                text.truncate(at + 1);
                let next = from + text.len() as u64;
                return Ok((text, next));
            }
            bytes_max = bytes_max.saturating_mul(4);
        }
    }
}

fn read(file: &dyn DiskFile, from: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let left = file.len()?.saturating_sub(from);
    let mut bytes = vec![0; bytes_max.min(usize::try_from(left).unwrap_or(bytes_max))];
    let read = file.read_at(from, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn object(line: Option<&[u8]>) -> Map<String, Value> {
    line.and_then(|line| serde_json::from_slice(line).ok())
        .unwrap_or_default()
}

impl Saving {
    /// Adds an entry, unless it has no effect. `committed`: it is known to be committed here.
    pub(crate) fn add(&mut self, entry: &Entry, committed: bool) -> io::Result<()> {
        let effects = match effects(entry) {
            Ok(effects) => effects,
            // It is in the log with a good checksum, so some primary wrote it: shown as it is.
            Err(error) => vec![json!({
                "op": "unreadable", "why": error.to_string(), "payload": text(&entry.payload()),
            })],
        };
        if effects.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.create()?);
            let about = &self.about;
            let first = json!({
                "rewound": 1,
                "node": about.node.as_str(),
                "shard": about.shard.0,
                "keyspace": about.keyspace,
                "epoch": about.epoch.0,
                "common": about.common.to_string(),
            });
            self.line(&first);
        }
        self.entries += 1;
        self.effects += effects.len() as u64;
        let line = json!({
            "position": entry.position.to_string(),
            "stamp": entry.stamp.to_string(),
            "time": rfc3339(entry.stamp.ms()),
            "committed": committed,
            "effects": effects,
        });
        self.line(&line);
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn create(&self) -> io::Result<(String, Arc<dyn DiskFile>)> {
        let base = format!("{}-{}", self.about.shard, self.about.epoch);
        for suffix in 1..SUFFIX_MAX {
            let name = match suffix {
                1 => format!("{base}.jsonl"),
                n => format!("{base}-{n}.jsonl"),
            };
            match self.disk.create(&name, 0) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                created => return Ok((name, created?)),
            }
        }
        let why = format!("{SUFFIX_MAX} files {base}*.jsonl: move them away");
        Err(io::Error::other(why))
    }

    fn line(&mut self, line: &Value) {
        self.buffer.extend_from_slice(line.to_string().as_bytes());
        self.buffer.push(b'\n');
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some((_, file)) = &self.file {
            file.write_at(self.written, &self.buffer)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes it durable.
    pub(crate) fn finish(mut self) -> io::Result<Saved> {
        if self.file.is_some() {
            let (entries, effects) = (self.entries, self.effects);
            self.line(&json!({ "end": true, "entries": entries, "effects": effects }));
            self.write()?;
        }
        let (entries, effects) = (self.entries, self.effects);
        let Some((name, file)) = self.file.take() else {
            let file = None;
            return Ok(Saved {
                file,
                entries,
                effects,
            });
        };
        file.sync()?;
        self.disk.sync_dir()?;
        Ok(Saved {
            file: Some(name),
            entries,
            effects,
        })
    }

    /// Leaves no file behind, as far as that can be done.
    pub(crate) fn discard(self) {
        if let Some((name, _)) = &self.file
            && let Err(error) = self.disk.remove(name)
        {
            tracing::warn!(file = %name, %error, "an unfinished file of lost entries is left");
        }
    }
}

/// What an entry did, as in the file.
fn effects(entry: &Entry) -> Result<Vec<Value>, Malformed> {
    let mut effects = Vec::new();
    if entry.kind != EntryKind::Mutation {
        return Ok(effects);
    }
    for op in Ops::new(entry.payload()) {
        let mut effect = Map::new();
        let op = op?;
        if let Some(key) = op.key() {
            effect.insert("key".into(), text(key));
        }
        let mut put = |name: &str, value: Value| effect.insert(name.into(), value);
        match &op {
            Op::PutString { header, value, .. } => {
                put("op", "set".into());
                put("value", text(value));
                if header.expires_ms != 0 {
                    put("expires_ms", header.expires_ms.into());
                }
            }
            Op::SetFields {
                created,
                header,
                fields,
                ..
            } => {
                put("op", "hset".into());
                let pairs = fields.iter().map(|(f, v)| json!([text(f), text(v)]));
                put("fields", pairs.collect());
                put("created", (*created).into());
                if let Some(header) = header.filter(|h| h.expires_ms != 0) {
                    put("expires_ms", header.expires_ms.into());
                }
            }
            // Without a header it only removes what no client could see.
            Op::RemoveFields { header: None, .. } => continue,
            Op::RemoveFields { fields, .. } => {
                put("op", "hdel".into());
                put("fields", fields.iter().map(|f| text(f)).collect());
            }
            Op::SetHeader { header, .. } => {
                put("op", "expire".into());
                let at = (header.expires_ms != 0).then_some(header.expires_ms);
                put("expires_ms", at.into());
            }
            Op::Delete { .. } => {
                put("op", "del".into());
            }
            Op::Clear => {
                put("op", "flush".into());
            }
        }
        effects.push(effect.into());
    }
    Ok(effects)
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": base64(bytes) }),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            if digit <= group.len() {
                let at = bits >> (18 - 6 * digit) & 63;
                out.push(char::from(DIGITS[at as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
