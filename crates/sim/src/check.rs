//! What a story waits for, and what must hold at its end. Everything is asked as a client
//! asks it.

use crate::{
    client::{SHARED, Value, value_of},
    register::{Judged, number},
    scenario::Roles,
    session,
    world::{World, Wrong},
};
use resp::Frame;
use serde_json::Value as Json;
use std::{collections::BTreeMap, time::Duration};

/// How often the state of the cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the cluster may take to come to rest.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long the shards of a cluster at rest may refuse writes.
const SERVES_WITHIN: Duration = Duration::from_secs(5);

impl World {
    /// What `QUIRE STATUS` says at a node. A node that closes its connections meanwhile is asked
    /// again: it does so whenever it stood still for too long to vouch for what it was about to say.
    pub fn status(&mut self, node: &str) -> Result<Json, Wrong> {
        let deadline = self.now() + SETTLE_MAX;
        loop {
            let replies = self.ask_once(node, None, &[vec!["QUIRE", "STATUS"]])?;
            match replies.as_deref() {
                Some([reply]) => return json(reply),
                None if self.now() < deadline => {}
                _ => return Err(Wrong(format!("{node} says no status"))),
            }
        }
    }

    /// Waits until the node's status is as wanted.
    pub fn until(
        &mut self,
        node: &str,
        what: &str,
        mut wanted: impl FnMut(&Json) -> bool,
    ) -> Result<(), Wrong> {
        let deadline = self.now() + SETTLE_MAX;
        loop {
            let status = self.status(node)?;
            if wanted(&status) {
                return Ok(());
            }
            if self.now() > deadline {
                return Err(Wrong(format!(
                    "not within {SETTLE_MAX:?}: {what}: {status}"
                )));
            }
            self.run_for(LOOK_EVERY)?;
        }
    }

    /// Who is what, as a node that can be asked sees it.
    pub fn roles(&mut self, keyspace: &str) -> Result<Roles, Wrong> {
        let nodes = self.nodes();
        let Some(witness) = self.witness("") else {
            return Ok(Roles::default());
        };
        let status = self.status(&witness)?;
        Ok(roles(&status, keyspace, nodes))
    }

    fn first_node(&self) -> String {
        self.nodes().into_iter().next().unwrap_or_default()
    }

    /// Waits until every node is known to be up.
    pub fn until_all_are_up(&mut self) -> Result<(), Wrong> {
        let count = self.nodes().len();
        let node = self.first_node();
        self.until(&node, "all nodes up", |status| {
            list(&status["nodes"]).len() == count && all_up(status)
        })
    }

    /// Waits until every node sees every node up, and every replica caught up with its primary.
    pub fn until_settled(&mut self) -> Result<(), Wrong> {
        for node in self.nodes() {
            self.until(&node, "all up and caught up", |status| {
                all_up(status)
                    && replicas(status).all(|replica| replica["caught_up"] == true)
                    && shards(status).all(|shard| {
                        let replicas = list(&shard["replicas"]);
                        replicas
                            .iter()
                            .all(|r| r["position"] == replicas[0]["position"])
                    })
            })?;
        }
        self.until_replaced_copies_are_gone()
    }

    fn until_replaced_copies_are_gone(&mut self) -> Result<(), Wrong> {
        let deadline = self.now() + SETTLE_MAX;
        while let Some(node) = self.who_holds_a_replaced_copy() {
            if self.now() > deadline {
                return Err(Wrong(format!("{node} keeps a copy whose place is taken")));
            }
            self.run_for(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Waits until every client has all its answers.
    pub fn until_answered(&mut self) -> Result<(), Wrong> {
        let deadline = self.now() + SETTLE_MAX;
        loop {
            let due = self.answers_due();
            if due == 0 {
                return Ok(());
            }
            if self.now() > deadline {
                return Err(Wrong(format!("{due} commands were not answered")));
            }
            self.run_for(LOOK_EVERY)?;
        }
    }

    /// Creates a keyspace with two copies in us and one in eu.
    pub fn create_keyspace(&mut self, name: &str, options: &str) -> Result<(), Wrong> {
        let command = format!("KEYSPACE CREATE {name} PLACE us=2,eu=1 {options}");
        let words: Vec<&str> = command.split_whitespace().collect();
        self.order("us-2", &words)
    }

    /// Asks for what is answered with OK.
    pub fn order(&mut self, node: &str, words: &[&str]) -> Result<(), Wrong> {
        match self.ask(node, None, words)? {
            Frame::Simple(_) => Ok(()),
            other => Err(Wrong(format!("{}: {other:?}", words.join(" ")))),
        }
    }

    /// Whether a node says at once that all is well: every node up, every replica caught up
    /// and none being filled.
    pub fn is_whole(&mut self, node: &str) -> Result<bool, Wrong> {
        let status = self.status(node)?;
        Ok(all_up(&status)
            && replicas(&status).all(|r| r["caught_up"] == true && r["role"] != "learner"))
    }

    /// Every shard takes a write. One that was suspected right before may get another primary
    /// still.
    pub fn every_shard_serves(&mut self, node: &str, keyspace: &str) -> Result<(), Wrong> {
        for n in 0..24 {
            let until = self.now() + SERVES_WITHIN;
            let key = format!("last:{n}");
            loop {
                let set = self.ask(node, Some(keyspace), &["SET", &key, "there"])?;
                if let Frame::Simple(_) = set {
                    break;
                }
                if self.now() >= until || set.as_error().is_none() {
                    return Err(Wrong(format!("{node} answers SET {key}: {set:?}")));
                }
                self.run_for(LOOK_EVERY)?;
            }
        }
        Ok(())
    }

    /// What clients of registers and sessions saw fits what the keyspace holds now and what
    /// nodes report as lost. Returns what was judged, and how many acknowledged writes of
    /// sessions were lost.
    pub fn histories_hold(&mut self, node: &str, keyspace: &str) -> Result<(Judged, u64), Wrong> {
        let lost = self.lost()?;
        let mut finals = BTreeMap::new();
        for (key, reply) in self.read_frames(node, keyspace, &self.registers.keys(), |_| "GET")? {
            let value = number(&reply).ok_or_else(|| Wrong(format!("{key} is {reply:?}")))?;
            finals.insert(key, value);
        }
        let judged = self.registers.check(&finals, &lost).map_err(Wrong)?;
        let finals =
            self.read_frames(node, keyspace, &self.sessions.keys(), session::Keys::read)?;
        let gone = self.sessions.check(&finals.into_iter().collect(), &lost);
        Ok((judged, gone.map_err(Wrong)?))
    }

    fn read_frames(
        &mut self,
        node: &str,
        keyspace: &str,
        keys: &[String],
        read: impl Fn(&str) -> &'static str,
    ) -> Result<Vec<(String, Frame)>, Wrong> {
        let mut found = Vec::new();
        for some in keys.chunks(500) {
            let commands: Vec<Vec<&str>> = some.iter().map(|k| vec![read(k), k.as_str()]).collect();
            let replies = self.ask_all(node, Some(keyspace), &commands)?;
            for (key, reply) in some.iter().zip(replies) {
                if let Some(line) = reply.as_error() {
                    return Err(Wrong(format!("{node} answers {line:?} for {key}")));
                }
                found.push((key.clone(), reply));
            }
        }
        Ok(found)
    }

    /// The node that is the primary of a keyspace's first shard.
    pub fn primary_of(&mut self, keyspace: &str) -> Result<String, Wrong> {
        let status = self.status("us-1").or_else(|_| self.status("us-2"))?;
        let found = list(&status["keyspaces"])
            .iter()
            .find(|k| k["name"] == keyspace);
        let primary = found.and_then(|k| k["shards"][0]["primary"].as_str());
        primary
            .map(str::to_owned)
            .ok_or_else(|| Wrong(format!("{keyspace} has no primary in {status}")))
    }

    /// Every replica holds the same, by the digests that the nodes compare themselves.
    pub fn verify(&mut self, keyspace: &str) -> Result<(), Wrong> {
        let node = self.nodes().pop().unwrap_or_default();
        let reply = self.ask(&node, None, &["QUIRE", "VERIFY", keyspace])?;
        let verdict = json(&reply)?;
        if verdict["equal"] == true {
            Ok(())
        } else {
            Err(Wrong(format!("replicas differ: {verdict}")))
        }
    }

    /// At every node every key is as its client may expect it: what was acknowledged is there,
    /// what was refused is not, and all nodes answer the same.
    pub fn all_kept_everywhere(&mut self, keyspace: &str) -> Result<(), Wrong> {
        let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for client in self.clients() {
            expected.extend(client.keys().map(|(k, v)| (k.to_owned(), v.to_vec())));
        }
        let keys: Vec<String> = expected.keys().cloned().collect();
        let mut seen: Option<(String, Vec<Value>, Vec<i64>)> = None;
        for node in self.nodes() {
            let values = self.read_all(&node, keyspace, &keys)?;
            for ((key, possible), value) in expected.iter().zip(&values) {
                if !possible.contains(value) {
                    return Err(Wrong(format!(
                        "{node} holds {value:?} in {key}, expected one of {possible:?}"
                    )));
                }
            }
            let sums = self.shared_sums(&node, keyspace)?;
            if let Some((other, known, known_sums)) = &seen {
                let differs = keys
                    .iter()
                    .zip(known.iter().zip(&values))
                    .find(|(_, (a, b))| a != b);
                if let Some((key, (a, b))) = differs {
                    return Err(Wrong(format!("{key} is {a:?} at {other}, {b:?} at {node}")));
                }
                if *known_sums != sums {
                    return Err(Wrong(format!(
                        "counters are {known_sums:?} at {other}, {sums:?} at {node}"
                    )));
                }
            } else {
                seen = Some((node, values, sums));
            }
        }
        Ok(())
    }

    fn read_all(
        &mut self,
        node: &str,
        keyspace: &str,
        keys: &[String],
    ) -> Result<Vec<Value>, Wrong> {
        let read = |key: &str| {
            if key.contains(":hash") {
                "HGETALL"
            } else {
                "GET"
            }
        };
        let frames = self.read_frames(node, keyspace, keys, |key| read(key))?;
        Ok(frames.iter().map(|(_, reply)| value_of(reply)).collect())
    }

    fn shared_sums(&mut self, node: &str, keyspace: &str) -> Result<Vec<i64>, Wrong> {
        let mut sums = Vec::new();
        for key in SHARED {
            let (mut least, mut most) = (0, 0);
            for client in self.clients() {
                let known = client.shared(key);
                least += known.acknowledged;
                most += known.acknowledged + known.unknown;
            }
            let reply = self.ask(node, Some(keyspace), &["GET", key])?;
            let sum = match value_of(&reply) {
                Value::String(digits) => String::from_utf8_lossy(&digits).parse().unwrap_or(-1),
                _ => 0,
            };
            if sum < least || sum > most {
                return Err(Wrong(format!(
                    "{key} is {sum} at {node}, not {least} to {most}"
                )));
            }
            sums.push(sum);
        }
        Ok(sums)
    }
}

fn roles(status: &Json, keyspace: &str, nodes: Vec<String>) -> Roles {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let keyspaces = list(&status["keyspaces"]).iter();
    let shard = keyspaces
        .filter(|k| k["name"] == keyspace)
        .find_map(|k| list(&k["shards"]).first());
    let primary = shard.and_then(|s| text(&s["primary"]));
    let replicas = shard.map(|s| list(&s["replicas"])).unwrap_or_default();
    let members = replicas.iter().filter(|r| r["role"] != "learner");
    Roles {
        replicas: members
            .filter_map(|r| text(&r["node"]))
            .filter(|node| Some(node) != primary.as_ref())
            .collect(),
        primary,
        leader: text(&status["control"]["leader"]),
        nodes,
    }
}

fn json(reply: &Frame) -> Result<Json, Wrong> {
    let parsed = reply.as_bytes().map(|b| serde_json::from_slice(b));
    match parsed {
        Some(Ok(value)) => Ok(value),
        _ => Err(Wrong(format!("not JSON: {reply:?}"))),
    }
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn all_up(status: &Json) -> bool {
    list(&status["nodes"])
        .iter()
        .all(|node| node["state"] == "up")
}

fn shards(status: &Json) -> impl Iterator<Item = &Json> {
    list(&status["keyspaces"])
        .iter()
        .flat_map(|k| list(&k["shards"]))
}

fn replicas(status: &Json) -> impl Iterator<Item = &Json> {
    shards(status).flat_map(|shard| list(&shard["replicas"]))
}
