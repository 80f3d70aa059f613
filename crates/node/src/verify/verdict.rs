//! What comes of a comparison: each replica is `ok`, `differs`, or `missing`, of which nothing
//! is known; and so is the whole. What was found to differ differs, whoever is missing.

use super::{Comparison, SILENCE_MAX};
use model::{NodeId, Position, ShardId};
use serde_json::{Value, json};
use shards::message::{DigestKeys, DigestReport};
use std::collections::{BTreeMap, BTreeSet};
use storage::store::key_order;

/// What is known of one replica, or of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Equal to the others.
    Ok,
    /// It could not be compared.
    Missing,
    /// It holds something else.
    Differs,
}

/// What came of comparing one shard.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) state: State,
    position: Option<Position>,
    replicas: Vec<Value>,
    pub(super) differences: Vec<Value>,
}

impl Finding {
    /// Of the replicas on `nodes`, of which those in `up` are there.
    pub(super) fn of(comparison: Comparison, nodes: &[&NodeId], up: &[&NodeId]) -> Self {
        let position = comparison.position();
        let report = |node: &NodeId| {
            let report = comparison.parts.get(node)?.report.as_ref();
            report.filter(|r| Some(r.position) == position)
        };
        // Against the first that answered: which one is right the digests don't say.
        let reference = nodes.iter().find_map(|node| report(node));
        let mut state = State::Ok;
        let mut replicas = Vec::new();
        for node in nodes {
            let part = comparison.parts.get(*node);
            let (own, why) = match report(node) {
                Some(report) if reference.is_some_and(|r| r.buckets == report.buckets) => {
                    (State::Ok, None)
                }
                Some(_) => (State::Differs, None),
                None => {
                    let why = match part.and_then(|p| p.failed.clone()) {
                        Some(failed) => failed,
                        None if !up.contains(node) => "its node can't be reached".into(),
                        None if comparison.heard => format!(
                            "no digest of it came for {} s: it lags, is being filled, or is stuck",
                            SILENCE_MAX.as_secs()
                        ),
                        None => "the shard's primary did not begin the comparison".into(),
                    };
                    (State::Missing, Some(why))
                }
            };
            state = state.max(own);
            replicas.push(json!({
                "node": node.as_str(),
                "digest": report(node).map(digest_text),
                "keys": report(node).map(|r| r.keys),
                "state": match own {
                    State::Ok => "ok",
                    State::Missing => "missing",
                    State::Differs => "differs",
                },
                "why": why,
            }));
        }
        if nodes.is_empty() {
            state = State::Missing;
        }
        Finding {
            state,
            position,
            replicas,
            differences: comparison.differences,
        }
    }
}

fn digest_text(report: &DigestReport) -> String {
    let buckets = report.buckets.iter().enumerate();
    let digest = buckets.fold(0u128, |sum, (at, bucket)| {
        sum.rotate_left(1) ^ bucket.wrapping_add(at as u128)
    });
    format!("{digest:032x}")
}

/// What `QUIRE VERIFY` answers.
pub(super) fn describe(keyspace: &str, findings: &BTreeMap<ShardId, Finding>) -> Value {
    let state = findings.values().map(|f| f.state).max();
    let state = state.unwrap_or(State::Missing);
    let shards = findings.iter().map(|(id, finding)| {
        json!({
            "id": id.0,
            "position": finding.position.map(|p| p.to_string()),
            "replicas": finding.replicas,
            "differences": finding.differences,
        })
    });
    json!({
        "keyspace": keyspace,
        "equal": state == State::Ok,
        "verdict": match state {
            State::Ok => "equal",
            State::Missing => "incomplete",
            State::Differs => "differs",
        },
        "shards": shards.collect::<Vec<_>>(),
    })
}

/// The buckets in which not all reports agree.
pub(super) fn differing<'a>(
    mut reports: impl Iterator<Item = &'a DigestReport>,
) -> impl Iterator<Item = u32> {
    let mut found = BTreeSet::new();
    if let Some(first) = reports.next() {
        for other in reports {
            let pairs = first.buckets.iter().zip(&other.buckets);
            let pairs = pairs.enumerate().filter(|(_, (a, b))| a != b);
            found.extend(pairs.map(|(at, _)| at as u32));
        }
    }
    found.into_iter()
}

/// Which keys of a bucket differ, and where, against the first node that answered; as far as all
/// lists of keys go.
pub(super) fn name_differences(answers: &BTreeMap<NodeId, DigestKeys>, room: usize) -> Vec<Value> {
    let ends = answers.values().filter(|a| !a.complete);
    let end = ends.map(|a| {
        a.keys
            .last()
            .map(|(key, _)| key_order(key))
            .unwrap_or_default()
    });
    let end = end.min();
    let within = |key: &[u8]| end.as_ref().is_none_or(|end| key_order(key) <= *end);
    let digests = |answer: &DigestKeys| -> BTreeMap<Vec<u8>, u128> {
        let keys = answer.keys.iter().filter(|(key, _)| within(key));
        keys.cloned().collect()
    };
    let mut answers = answers.iter();
    let Some(reference) = answers.next().map(|(_, answer)| digests(answer)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (node, answer) in answers {
        let digests = digests(answer);
        let all: BTreeSet<&Vec<u8>> = reference.keys().chain(digests.keys()).collect();
        for key in all {
            let what = match (reference.get(key), digests.get(key)) {
                (Some(a), Some(b)) if a == b => continue,
                (Some(_), Some(_)) => "differs",
                (Some(_), None) => "missing",
                (None, _) => "extra",
            };
            if found.len() == room {
                return found;
            }
            found.push(json!({
                "key": String::from_utf8_lossy(key),
                "node": node.as_str(),
                "what": what,
            }));
        }
    }
    found
}
