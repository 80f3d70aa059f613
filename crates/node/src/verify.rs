//! Comparing replicas at one position: the primary appends a digest entry, and every replica
//! that applies it digests its store as of exactly that entry, a little at a time. Whoever
//! asked compares, and names the keys of buckets that differ.

use crate::{
    message::{DigestReport, DigestRequest, Message},
    node::{Lane, Node},
    request::Target,
};
use bytes::Bytes;
use model::{Entry, EntryKind, KeyspaceId, NodeId, Position, ShardId};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use storage::store::{DigestState, ShardSnapshot, Stores};

/// Rows digested a tick.
const ROWS_A_TICK: usize = 20_000;
/// How long a digest may take.
const DIGEST_MAX: Duration = Duration::from_secs(300);
/// How long a replica that says nothing is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a snapshot is kept to name what differs.
const KEEP: Duration = Duration::from_secs(30);
/// Keys that are named.
const DIFFERENCES_MAX: usize = 100;
/// Keys that are looked at in a bucket that differs.
const BUCKET_KEYS_MAX: usize = 20_000;

/// A digest that this node computes, or has computed and keeps for questions.
struct Digesting<Snap> {
    coordinator: NodeId,
    snapshot: ShardSnapshot<Snap>,
    state: DigestState,
    done: bool,
    since: Duration,
}

type KeyDigests = BTreeMap<Vec<u8>, u128>;

/// One shard, as its coordinator sees it.
#[derive(Debug, Default)]
struct ShardCheck {
    reports: BTreeMap<NodeId, DigestReport>,
    /// Bucket → node → keys, of buckets that differ.
    keys: BTreeMap<u32, BTreeMap<NodeId, KeyDigests>>,
    asked_at: Duration,
}

#[derive(Debug)]
struct Verification {
    target: Target,
    keyspace: KeyspaceId,
    shards: BTreeMap<ShardId, ShardCheck>,
    /// When a report came last.
    heard_at: Duration,
    /// Whether the keys of buckets that differ were asked for, and when.
    keys_asked_at: Option<Duration>,
}

/// Verifications under way: those asked here, and this node's part in others.
pub(crate) struct Verifications<Snap> {
    asked: BTreeMap<u64, Verification>,
    digesting: BTreeMap<(u64, ShardId), Digesting<Snap>>,
}

impl<Snap> Default for Verifications<Snap> {
    fn default() -> Self {
        Verifications {
            asked: BTreeMap::new(),
            digesting: BTreeMap::new(),
        }
    }
}

impl<S: Stores> Node<S> {
    /// A client wants to know whether all replicas of a keyspace are equal.
    pub(crate) fn verify(&mut self, conn: u64, keyspace: KeyspaceId) {
        let Some(facts) = self.catalog.keyspaces.get(&keyspace) else {
            return;
        };
        let shards = facts.shards.clone();
        let Some(target) = self.hold(conn) else {
            return;
        };
        // Told apart from those of other nodes and of earlier processes of this one.
        let id = self.config.seed
            ^ self.config.process.rotate_left(20)
            ^ (self.verifications.asked.len() as u64)
            ^ self.now.monotonic.as_micros() as u64;
        self.verifications.asked.insert(
            id,
            Verification {
                target,
                keyspace,
                shards: shards.iter().map(|s| (*s, ShardCheck::default())).collect(),
                heard_at: self.now.monotonic,
                keys_asked_at: None,
            },
        );
        for shard in shards {
            self.ask_digest(id, shard);
        }
    }

    fn ask_digest(&mut self, id: u64, shard: ShardId) {
        let now = self.now.monotonic;
        if let Some(check) = self
            .verifications
            .asked
            .get_mut(&id)
            .and_then(|v| v.shards.get_mut(&shard))
        {
            check.asked_at = now;
        }
        let Some(primary) = self.catalog.shards.get(&shard).map(|s| s.primary.clone()) else {
            return;
        };
        let me = self.config.id.clone();
        if primary == me {
            self.verify_asked(&me, id, shard);
        } else {
            self.send(&primary, Lane::Ordinary, &Message::VerifyAsk { id, shard });
        }
    }

    /// At the primary: append the digest entry.
    pub(crate) fn verify_asked(&mut self, from: &NodeId, id: u64, shard_id: ShardId) {
        let request = DigestRequest {
            id,
            coordinator: from.clone(),
        };
        let Ok(payload) = postcard::to_stdvec(&request) else {
            return;
        };
        if let Some(shard) = self.shards.get_mut(&shard_id)
            && shard.is_primary(self.now)
            && let Some(strategy) = &mut shard.strategy
            && strategy
                .propose(EntryKind::Digest, 0, &payload, self.now)
                .is_ok()
        {
            self.dirty.insert(shard_id);
        }
    }

    /// A digest entry was applied: the store is as of its position at this moment.
    pub(crate) fn digest_due(&mut self, shard_id: ShardId, entry: &Entry) {
        let Ok(request) = postcard::from_bytes::<DigestRequest>(&entry.payload()) else {
            return;
        };
        let Some(shard) = self.shards.get(&shard_id) else {
            return;
        };
        match shard.store.snapshot() {
            Ok(snapshot) => {
                self.verifications.digesting.insert(
                    (request.id, shard_id),
                    Digesting {
                        coordinator: request.coordinator,
                        snapshot,
                        state: DigestState::new(),
                        done: false,
                        since: self.now.monotonic,
                    },
                );
            }
            Err(error) => tracing::warn!(shard = shard_id.0, %error, "no digest is computed"),
        }
    }

    pub(crate) fn digest_reported(&mut self, from: &NodeId, report: DigestReport) {
        let now = self.now.monotonic;
        if let Some(verification) = self.verifications.asked.get_mut(&report.id) {
            verification.heard_at = now;
            if let Some(check) = verification.shards.get_mut(&report.shard) {
                check.reports.insert(from.clone(), report);
            }
        }
    }

    pub(crate) fn digest_keys_asked(
        &mut self,
        from: &NodeId,
        id: u64,
        shard: ShardId,
        bucket: u32,
    ) {
        let Some(digesting) = self.verifications.digesting.get(&(id, shard)) else {
            return;
        };
        match digesting
            .snapshot
            .keys_in_bucket(bucket as usize, None, BUCKET_KEYS_MAX)
        {
            Ok(keys) => {
                let keys = keys.into_iter().map(|(k, d)| (k.to_vec(), d)).collect();
                let message = Message::DigestKeys {
                    id,
                    shard,
                    bucket,
                    keys,
                };
                if *from == self.config.id {
                    let me = from.clone();
                    self.message(&me, message);
                } else {
                    self.send(from, Lane::Bulk, &message);
                }
            }
            Err(error) => tracing::warn!(shard = shard.0, %error, "keys could not be digested"),
        }
    }

    pub(crate) fn digest_keys(
        &mut self,
        from: &NodeId,
        id: u64,
        shard: ShardId,
        bucket: u32,
        keys: Vec<(Vec<u8>, u128)>,
    ) {
        let now = self.now.monotonic;
        if let Some(verification) = self.verifications.asked.get_mut(&id) {
            verification.heard_at = now;
            if let Some(check) = verification.shards.get_mut(&shard) {
                let nodes = check.keys.entry(bucket).or_default();
                nodes.insert(from.clone(), keys.into_iter().collect());
            }
        }
    }

    pub(crate) fn verify_tick(&mut self) {
        self.digest_on();
        let now = self.now.monotonic;
        let ids: Vec<u64> = self.verifications.asked.keys().copied().collect();
        for id in ids {
            self.verification_on(id, now);
        }
    }

    /// Digests a little further.
    fn digest_on(&mut self) {
        let now = self.now.monotonic;
        let mut done = Vec::new();
        for ((id, shard), digesting) in &mut self.verifications.digesting {
            if digesting.done {
                continue;
            }
            match digesting.snapshot.digest(ROWS_A_TICK, &mut digesting.state) {
                Ok(false) => {}
                Ok(true) => {
                    digesting.done = true;
                    digesting.since = now;
                    done.push((
                        digesting.coordinator.clone(),
                        DigestReport {
                            id: *id,
                            shard: *shard,
                            position: digesting.snapshot.applied().position,
                            keys: digesting.state.keys(),
                            buckets: digesting.state.buckets().to_vec(),
                        },
                    ));
                }
                Err(error) => {
                    tracing::warn!(shard = shard.0, %error, "the digest failed");
                    digesting.done = true;
                }
            }
            // One at a time: this is work on the side.
            break;
        }
        self.verifications.digesting.retain(|_, d| {
            let age = now.saturating_sub(d.since);
            age < if d.done { KEEP } else { DIGEST_MAX }
        });
        for (coordinator, report) in done {
            if coordinator == self.config.id {
                self.digest_reported(&coordinator, report);
            } else {
                self.send(&coordinator, Lane::Bulk, &Message::Digest(report));
            }
        }
    }

    fn verification_on(&mut self, id: u64, now: Duration) {
        let catalog = self.catalog.clone();
        let Some(verification) = self.verifications.asked.get(&id) else {
            return;
        };
        let silent = now.saturating_sub(verification.heard_at) > SILENCE_MAX;
        // A primary that was not there, or lost the question: ask again.
        let unanswered: Vec<ShardId> = verification
            .shards
            .iter()
            .filter(|(_, c)| {
                c.reports.is_empty() && now.saturating_sub(c.asked_at) > Duration::from_secs(5)
            })
            .map(|(shard, _)| *shard)
            .collect();
        let complete = verification.shards.iter().all(|(shard, check)| {
            catalog.shards.get(shard).is_none_or(|facts| {
                let position = check.reports.values().map(|r| r.position).max();
                facts.replicas.iter().all(|r| {
                    check
                        .reports
                        .get(&r.node)
                        .is_some_and(|report| Some(report.position) == position)
                        || (r.node != self.config.id && !self.peers.is_up(&r.node, now))
                })
            })
        });
        let answered = verification.shards.values().all(|check| {
            differing(check).iter().all(|bucket| {
                check
                    .keys
                    .get(bucket)
                    .is_some_and(|nodes| nodes.len() >= check.reports.len())
            })
        });
        let asked = verification.keys_asked_at;
        let keys_late = asked.is_some_and(|at| now.saturating_sub(at) > SILENCE_MAX);
        if silent || (complete && (answered || keys_late)) {
            return self.verified(id);
        }
        if complete && asked.is_none() {
            return self.ask_keys(id, now);
        }
        if !complete {
            for shard in unanswered {
                self.ask_digest(id, shard);
            }
        }
    }

    /// Asks for the keys of the buckets that differ.
    fn ask_keys(&mut self, id: u64, now: Duration) {
        let Some(verification) = self.verifications.asked.get_mut(&id) else {
            return;
        };
        verification.keys_asked_at = Some(now);
        let mut questions = Vec::new();
        for (shard, check) in &verification.shards {
            for bucket in differing(check) {
                for node in check.reports.keys() {
                    questions.push((node.clone(), *shard, bucket));
                }
            }
        }
        for (node, shard, bucket) in questions {
            if node == self.config.id {
                self.digest_keys_asked(&node, id, shard, bucket);
            } else {
                let message = Message::DigestKeysAsk { id, shard, bucket };
                self.send(&node, Lane::Ordinary, &message);
            }
        }
    }

    fn verified(&mut self, id: u64) {
        let Some(verification) = self.verifications.asked.remove(&id) else {
            return;
        };
        let catalog = self.catalog.clone();
        let mut equal = true;
        let mut shards = Vec::new();
        for (shard, check) in &verification.shards {
            let nodes: Vec<&NodeId> = catalog
                .shards
                .get(shard)
                .map(|s| s.replicas.iter().map(|r| &r.node).collect())
                .unwrap_or_default();
            let (all_equal, value) = describe(*shard, check, &nodes);
            equal &= all_equal;
            shards.push(value);
        }
        let name = catalog
            .keyspaces
            .get(&verification.keyspace)
            .map_or("", |k| k.name.as_str());
        let text = json!({ "keyspace": name, "equal": equal, "shards": shards }).to_string();
        let reply = Bytes::from(format!("${}\r\n{text}\r\n", text.len()));
        self.deliver(&verification.target, ShardId(0), Position::ZERO, reply);
    }
}

/// The buckets in which not all reports agree (at most a few are looked into).
fn differing(check: &ShardCheck) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut reports = check.reports.values();
    if let Some(first) = reports.next() {
        for other in reports {
            for (at, (a, b)) in first.buckets.iter().zip(&other.buckets).enumerate() {
                if a != b && found.len() < 8 {
                    found.insert(at as u32);
                }
            }
        }
    }
    found
}

/// One shard's part of the answer, and whether its replicas are all there and equal.
fn describe(shard: ShardId, check: &ShardCheck, nodes: &[&NodeId]) -> (bool, Value) {
    let position = check.reports.values().map(|r| r.position).max();
    let expected = nodes
        .first()
        .and_then(|n| check.reports.get(*n))
        .or(check.reports.values().next());
    let mut equal = true;
    let replicas: Vec<Value> = nodes
        .iter()
        .map(|node| match check.reports.get(*node) {
            Some(report) => {
                let same = Some(report.position) == position
                    && expected.is_some_and(|e| e.buckets == report.buckets);
                equal &= same;
                let digest = report
                    .buckets
                    .iter()
                    .enumerate()
                    .fold(0u128, |sum, (at, b)| {
                        sum.rotate_left(1) ^ b.wrapping_add(at as u128)
                    });
                json!({
                    "node": node.as_str(),
                    "digest": format!("{digest:032x}"),
                    "keys": report.keys,
                    "state": if same { "ok" } else { "differs" },
                })
            }
            None => {
                equal = false;
                json!({
                    "node": node.as_str(),
                    "digest": null,
                    "keys": null,
                    "state": "missing",
                })
            }
        })
        .collect();
    let value = json!({
        "id": shard.0,
        "position": position.map(|p| p.to_string()),
        "replicas": replicas,
        "differences": differences(check, nodes),
    });
    (equal, value)
}

/// Which keys differ, and where, against the first replica that answered.
fn differences(check: &ShardCheck, nodes: &[&NodeId]) -> Vec<Value> {
    let mut found = Vec::new();
    for by_node in check.keys.values() {
        let Some(reference) = nodes.iter().find_map(|n| by_node.get(*n)) else {
            continue;
        };
        for (node, keys) in by_node {
            let all: BTreeSet<&Vec<u8>> = reference.keys().chain(keys.keys()).collect();
            for key in all {
                let what = match (reference.get(key), keys.get(key)) {
                    (Some(a), Some(b)) if a == b => continue,
                    (Some(_), Some(_)) => "differs",
                    (Some(_), None) => "missing",
                    (None, _) => "extra",
                };
                if found.len() < DIFFERENCES_MAX {
                    found.push(json!({
                        "key": String::from_utf8_lossy(key),
                        "node": node.as_str(),
                        "what": what,
                    }));
                }
            }
        }
    }
    found
}
