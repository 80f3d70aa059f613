//! Comparing replicas at one position, on the side: reads, writes and heartbeats go on.
//!
//! ```text
//! coordinator                          primary            every replica
//!   VerifyAsk ───────────────────────▶ digest entry ────▶ applied: its store is pinned there
//!   DigestProgress ◀───────────────────────────────────── at once, then twice a second
//!   VerifyHeld ─────────────────────────────────────────▶ every 2 s: it is still wanted
//!   Digest ◀───────────────────────────────────────────── the digests of 256 buckets
//!   DigestKeysAsk ──────────────────────────────────────▶ which keys are in a bucket that
//!   DigestKeys ◀─────────────────────────────────────────   differs? One bucket at a time
//!   VerifyOver ─────────────────────────────────────────▶ the pin is let go
//! ```
//!
//! - A replica reads its pinned store in slices on another thread ([`Aside`](crate::Aside)), one
//!   slice a tick, so that a tick's time does not depend on what the store holds: that is the work of
//!   the room of replicas (`shards/src/digesting.rs`).
//! - The coordinator waits for as long as anything is told of a shard. Who could not be asked, or
//!   fell silent, is `missing`, which is not `differs`: nothing is known of it ([`verdict`]).
//! - Bounded are the verifications asked for at a node, the shards of each that are compared at a
//!   time, the stores that a node pins, and the keys that are held to name what differs.
//! - When the client that asked is gone, so is its verification: replicas are told, and let go by
//!   themselves if they aren't.

#[cfg(test)]
mod tests;
mod verdict;

use crate::{
    message::Message as PeerMessage,
    node::{Lane, Node},
};
use bytes::Bytes;
use gate::Target;
use model::{Catalog, KeyspaceId, NodeId, Position, ShardId};
use serde_json::{Value, json};
use shards::{
    BUCKETS_MAX, Message,
    message::{DigestKeys, DigestProgress, DigestReport},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use storage::store::Stores;
use verdict::{Finding, differing, name_differences};

/// Verifications that are asked for at one node, at a time.
const ASKED_MAX: usize = 4;
/// Shards of one that are compared at a time: each pins its replicas' stores.
const SHARDS_AT_ONCE: usize = 4;
/// How long a shard of which nothing is heard is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// After so long without a word its primary is asked again: it was not there, or lost the question.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often replicas are told that a verification goes on.
const HELD_EVERY: Duration = Duration::from_secs(2);
/// Keys that are named, in all.
const DIFFERENCES_MAX: usize = 100;

/// One replica's part in a comparison.
#[derive(Debug, Default)]
struct Part {
    keys: u64,
    keys_total: u64,
    report: Option<DigestReport>,
    /// Why it gives none.
    failed: Option<String>,
}

/// The bucket whose keys are asked for.
#[derive(Debug)]
struct Asked {
    bucket: u32,
    at: Duration,
    answers: BTreeMap<NodeId, DigestKeys>,
}

/// One shard that is being compared.
#[derive(Debug)]
struct Comparison {
    /// When the primary was asked last.
    asked_at: Duration,
    /// When anything was told of it last; at first when it began.
    heard_at: Duration,
    /// Whether anything was.
    heard: bool,
    parts: BTreeMap<NodeId, Part>,
    /// Buckets that differ and were not looked into; None before all have reported.
    buckets: Option<VecDeque<u32>>,
    asked: Option<Asked>,
    differences: Vec<Value>,
}

#[derive(Debug)]
struct Verification {
    target: Target,
    keyspace: KeyspaceId,
    began: Duration,
    held_at: Duration,
    /// Shards that were not begun.
    waiting: VecDeque<ShardId>,
    comparing: BTreeMap<ShardId, Comparison>,
    findings: BTreeMap<ShardId, Finding>,
}

impl Verification {
    fn named(&self) -> usize {
        let over = self.findings.values().map(|f| f.differences.len());
        let now = self.comparing.values().map(|c| c.differences.len());
        over.chain(now).sum()
    }
}

/// Verifications that were asked for here.
#[derive(Debug, Default)]
pub(crate) struct Verifications {
    asked: BTreeMap<u64, Verification>,
}

/// What a comparison wants next.
enum Step {
    Wait,
    /// Ask the primary again.
    Again,
    /// Ask these for the keys of a bucket.
    Keys(u32, Vec<NodeId>),
    Over,
}

impl<S: Stores> Node<S> {
    /// A client wants to know whether all replicas of a keyspace are equal.
    pub(crate) fn verify(&mut self, conn: u64, keyspace: KeyspaceId) {
        let Some(facts) = self.catalog.keyspaces.get(&keyspace) else {
            return;
        };
        if self.verifications.asked.len() >= ASKED_MAX {
            let line = format!(
                "ERR {ASKED_MAX} verifications are under way at this node: wait, or ask another"
            );
            return self.answer_error(conn, &line);
        }
        let waiting = facts.shards.iter().copied().collect();
        let Some(target) = self.hold(conn) else {
            return;
        };
        // Told apart from those of other nodes and of earlier processes of this one.
        let id = self.config.first_number().wrapping_add(self.gate.draw());
        let now = self.now.monotonic;
        let verification = Verification {
            target,
            keyspace,
            began: now,
            held_at: now,
            waiting,
            comparing: BTreeMap::new(),
            findings: BTreeMap::new(),
        };
        self.verifications.asked.insert(id, verification);
        self.verification_on(id);
    }

    /// The client that asked is gone: nobody wants to know any more.
    pub(crate) fn verifications_left_by(&mut self, conn: u64) {
        let gone = |v: &Verification| v.target.client() == Some(conn);
        let asked = self.verifications.asked.iter();
        let gone: Vec<u64> = asked.filter(|(_, v)| gone(v)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(verification) = self.verifications.asked.remove(&id) {
                for shard in verification.comparing.into_keys() {
                    self.comparison_over(id, shard);
                }
            }
        }
    }

    fn ask_digest(&mut self, id: u64, shard: ShardId) {
        let Some(primary) = self.catalog.shards.get(&shard).map(|s| s.primary.clone()) else {
            return;
        };
        self.tell(&primary, Lane::Ordinary, Message::VerifyAsk { id, shard });
    }

    /// To another node, or to this one.
    /// A replica tells of its part.
    pub(crate) fn verification_told(&mut self, from: &NodeId, message: Message) {
        match message {
            Message::Digest(report) => self.digest_reported(from, report),
            Message::DigestKeys(keys) => self.digest_keys(from, keys),
            Message::DigestProgress(progress) => self.digest_progressed(from, progress),
            _ => {}
        }
    }

    fn tell(&mut self, to: &NodeId, lane: Lane, message: Message) {
        if *to == self.config.id {
            let me = to.clone();
            self.with_shards(|shards| shards.message(&me, message));
        } else {
            self.send(to, lane, &PeerMessage::Shards(message));
        }
    }

    /// A replica's part, of which something was told now.
    fn part_of(&mut self, from: &NodeId, id: u64, shard: ShardId) -> Option<&mut Part> {
        let verification = self.verifications.asked.get_mut(&id)?;
        let comparison = verification.comparing.get_mut(&shard)?;
        comparison.heard_at = self.now.monotonic;
        comparison.heard = true;
        // Only those that hold it are counted in the end, so no more are kept.
        let facts = self.catalog.shards.get(&shard)?;
        let holds = facts.replicas.iter().any(|r| r.node == *from);
        holds.then(|| comparison.parts.entry(from.clone()).or_default())
    }

    pub(crate) fn digest_progressed(&mut self, from: &NodeId, progress: DigestProgress) {
        if let Some(part) = self.part_of(from, progress.id, progress.shard) {
            (part.keys, part.keys_total) = (progress.keys, progress.keys_total);
            part.failed = progress.failed;
        }
    }

    pub(crate) fn digest_reported(&mut self, from: &NodeId, report: DigestReport) {
        if let Some(part) = self.part_of(from, report.id, report.shard) {
            (part.keys, part.keys_total) = (report.keys, report.keys);
            part.report = Some(report);
        }
    }

    pub(crate) fn digest_keys(&mut self, from: &NodeId, keys: DigestKeys) {
        if self.part_of(from, keys.id, keys.shard).is_some()
            && let Some(verification) = self.verifications.asked.get_mut(&keys.id)
            && let Some(comparison) = verification.comparing.get_mut(&keys.shard)
            && let Some(asked) = &mut comparison.asked
            && asked.bucket == keys.bucket
        {
            asked.answers.insert(from.clone(), keys);
        }
    }

    pub(crate) fn verify_tick(&mut self) {
        let ids: Vec<u64> = self.verifications.asked.keys().copied().collect();
        for id in ids {
            self.verification_on(id);
        }
    }

    /// Takes a verification as far as it goes now.
    fn verification_on(&mut self, id: u64) {
        let now = self.now.monotonic;
        let Some(verification) = self.verifications.asked.get_mut(&id) else {
            return;
        };
        let mut begun = Vec::new();
        while verification.comparing.len() < SHARDS_AT_ONCE
            && let Some(shard) = verification.waiting.pop_front()
        {
            let comparison = Comparison {
                asked_at: now,
                heard_at: now,
                heard: false,
                parts: BTreeMap::new(),
                buckets: None,
                asked: None,
                differences: Vec::new(),
            };
            verification.comparing.insert(shard, comparison);
            begun.push(shard);
        }
        let hold = now.saturating_sub(verification.held_at) >= HELD_EVERY;
        if hold {
            verification.held_at = now;
        }
        let shards: Vec<ShardId> = verification.comparing.keys().copied().collect();
        for shard in begun {
            self.ask_digest(id, shard);
        }
        for shard in shards {
            if hold {
                self.tell_replicas(shard, &Message::VerifyHeld { id, shard });
            }
            self.comparison_on(id, shard);
        }
        let over = |v: &Verification| v.waiting.is_empty() && v.comparing.is_empty();
        if self.verifications.asked.get(&id).is_some_and(over) {
            self.verified(id);
        }
    }

    /// To every node that holds a replica of the shard.
    fn tell_replicas(&mut self, shard: ShardId, message: &Message) {
        let catalog = self.catalog.clone();
        if let Some(facts) = catalog.shards.get(&shard) {
            for replica in &facts.replicas {
                self.tell(&replica.node, Lane::Ordinary, message.clone());
            }
        }
    }

    fn comparison_on(&mut self, id: u64, shard: ShardId) {
        let now = self.now.monotonic;
        let catalog = self.catalog.clone();
        let up: Vec<&NodeId> = replicas(&catalog, shard)
            .filter(|node| **node == self.config.id || self.cluster.peers().is_up(node, now))
            .collect();
        let Some(verification) = self.verifications.asked.get_mut(&id) else {
            return;
        };
        let room = DIFFERENCES_MAX.saturating_sub(verification.named());
        let Some(comparison) = verification.comparing.get_mut(&shard) else {
            return;
        };
        match comparison.step(&up, room, now) {
            Step::Wait => {}
            Step::Again => self.ask_digest(id, shard),
            Step::Keys(bucket, nodes) => {
                for node in nodes {
                    let message = Message::DigestKeysAsk { id, shard, bucket };
                    self.tell(&node, Lane::Ordinary, message);
                }
            }
            Step::Over => {
                let nodes: Vec<&NodeId> = replicas(&catalog, shard).collect();
                let comparison = verification.comparing.remove(&shard);
                let finding = comparison.map(|c| Finding::of(c, &nodes, &up));
                verification
                    .findings
                    .extend(finding.map(|finding| (shard, finding)));
                self.comparison_over(id, shard);
            }
        }
    }

    fn comparison_over(&mut self, id: u64, shard: ShardId) {
        self.tell_replicas(shard, &Message::VerifyOver { id, shard });
    }

    fn verified(&mut self, id: u64) {
        let Some(verification) = self.verifications.asked.remove(&id) else {
            return;
        };
        let Some(keyspace) = self.catalog.keyspaces.get(&verification.keyspace) else {
            let line = "NOKEYSPACE it was dropped while it was verified";
            return self.reply_error(&verification.target, line);
        };
        let text = verdict::describe(keyspace.name.as_str(), &verification.findings).to_string();
        let reply = Bytes::from(format!("${}\r\n{text}\r\n", text.len()));
        self.deliver(&verification.target, reply);
    }

    /// What `QUIRE VERIFICATIONS` answers: how far those are that were asked for here.
    pub(crate) fn verifications(&self) -> Value {
        let now = self.now.monotonic;
        let asked = self.verifications.asked.values().map(|v| {
            let parts = v.comparing.iter().flat_map(|(shard, comparison)| {
                comparison.parts.iter().map(|(node, part)| {
                    json!({
                        "shard": shard.0,
                        "node": node.as_str(),
                        "keys": part.keys,
                        "keys_total": part.keys_total,
                    })
                })
            });
            let name = self.catalog.keyspaces.get(&v.keyspace);
            json!({
                "keyspace": name.map(|k| k.name.as_str()),
                "elapsed_ms": now.saturating_sub(v.began).as_millis() as u64,
                "shards": v.waiting.len() + v.comparing.len() + v.findings.len(),
                "shards_done": v.findings.len(),
                "replicas": parts.collect::<Vec<_>>(),
            })
        });
        json!({ "verifications": asked.collect::<Vec<_>>() })
    }
}

fn replicas(catalog: &Catalog, shard: ShardId) -> impl Iterator<Item = &NodeId> {
    let facts = catalog.shards.get(&shard);
    facts
        .into_iter()
        .flat_map(|s| s.replicas.iter().map(|r| &r.node))
}

impl Comparison {
    /// What is to be done next, with these nodes up and room to name so many differences.
    fn step(&mut self, up: &[&NodeId], room: usize, now: Duration) -> Step {
        let silent = now.saturating_sub(self.heard_at) > SILENCE_MAX;
        let Some(buckets) = &mut self.buckets else {
            let position = self.position();
            let open = up.iter().any(|node| {
                self.parts.get(*node).is_none_or(|part| {
                    let report = part.report.as_ref();
                    let here = report.is_some_and(|r| Some(r.position) == position);
                    part.failed.is_none() && !here
                })
            });
            if open && !silent {
                if !self.heard && now.saturating_sub(self.asked_at) > ASK_AGAIN {
                    self.asked_at = now;
                    return Step::Again;
                }
                return Step::Wait;
            }
            self.buckets = Some(differing(self.reports()).take(BUCKETS_MAX).collect());
            return self.step(up, room, now);
        };
        if let Some(asked) = &self.asked {
            let nodes = self.reporters();
            let open = nodes
                .iter()
                .any(|node| up.contains(&node) && !asked.answers.contains_key(node));
            if open && now.saturating_sub(asked.at) <= SILENCE_MAX {
                return Step::Wait;
            }
            let answers = self.asked.take().map(|asked| asked.answers);
            let named = name_differences(&answers.unwrap_or_default(), room);
            self.differences.extend(named);
            return Step::Wait;
        }
        match buckets.pop_front() {
            Some(bucket) if room > 0 => {
                self.asked = Some(Asked {
                    bucket,
                    at: now,
                    answers: BTreeMap::new(),
                });
                Step::Keys(bucket, self.reporters())
            }
            _ => Step::Over,
        }
    }

    /// Where the replicas are compared: at the last digest entry that any has reported.
    fn position(&self) -> Option<Position> {
        let reports = self.parts.values().filter_map(|p| p.report.as_ref());
        reports.map(|r| r.position).max()
    }

    /// What can be compared.
    fn reports(&self) -> impl Iterator<Item = &DigestReport> {
        let position = self.position();
        let reports = self.parts.values().filter_map(|p| p.report.as_ref());
        reports.filter(move |r| Some(r.position) == position)
    }

    /// Who has reported that.
    fn reporters(&self) -> Vec<NodeId> {
        let position = self.position();
        let at = |p: &Part| p.report.as_ref().map(|r| r.position);
        let parts = self.parts.iter().filter(|(_, p)| at(p) == position);
        parts.map(|(node, _)| node.clone()).collect()
    }
}
