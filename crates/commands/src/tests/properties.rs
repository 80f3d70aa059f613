//! Random commands as time passes, against the plainest model there is.

use super::{NOW_MS, Shard};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
enum Value {
    String(String),
    Hash(BTreeMap<String, String>),
}

/// Key → value and when it expires.
#[derive(Default)]
struct Model(BTreeMap<String, (Value, Option<u64>)>);

impl Model {
    fn expire(&mut self, now_ms: u64) {
        self.0.retain(|_, (_, at)| at.is_none_or(|at| at > now_ms));
    }

    /// Carries out one command; returns the reply.
    fn run(&mut self, step: &Step, now_ms: u64) -> String {
        const WRONG: &str =
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        let integer = |n: usize| format!(":{n}\r\n");
        match step {
            Step::Set(key, value, ttl) => {
                let at = ttl.map(|ttl| now_ms + ttl);
                let value = Value::String(value.to_string());
                self.0.insert(key.to_string(), (value, at));
                "+OK\r\n".into()
            }
            Step::Get(key) => match self.0.get(key) {
                None => "$-1\r\n".into(),
                Some((Value::String(v), _)) => format!("${}\r\n{v}\r\n", v.len()),
                Some(_) => WRONG.into(),
            },
            Step::Del(keys) => integer(keys.iter().filter(|k| self.0.remove(*k).is_some()).count()),
            Step::Hset(key, fields) => {
                let fresh = || (Value::Hash(BTreeMap::new()), None);
                let (Value::Hash(hash), _) = self.0.entry(key.clone()).or_insert_with(fresh) else {
                    return WRONG.into();
                };
                let new = |(f, v): &(String, u8)| hash.insert(f.clone(), v.to_string()).is_none();
                integer(fields.iter().map(new).filter(|new| *new).count())
            }
            Step::Hdel(key, fields) => match self.0.get_mut(key) {
                None => integer(0),
                Some((Value::String(_), _)) => WRONG.into(),
                Some((Value::Hash(hash), _)) => {
                    let gone = fields.iter().filter(|f| hash.remove(*f).is_some()).count();
                    if hash.is_empty() {
                        self.0.remove(key);
                    }
                    integer(gone)
                }
            },
            Step::Hgetall(key) => match self.0.get(key) {
                None => "*0\r\n".into(),
                Some((Value::String(_), _)) => WRONG.into(),
                Some((Value::Hash(hash), _)) => {
                    let mut reply = format!("*{}\r\n", 2 * hash.len());
                    for text in hash.iter().flat_map(|(f, v)| [f, v]) {
                        reply += &format!("${}\r\n{text}\r\n", text.len());
                    }
                    reply
                }
            },
            Step::Pexpire(key, ttl) => match self.0.get_mut(key) {
                None => integer(0),
                Some((_, at)) => {
                    *at = Some(now_ms + ttl);
                    self.expire(now_ms);
                    integer(1)
                }
            },
            Step::Exists(keys) => integer(keys.iter().filter(|k| self.0.contains_key(*k)).count()),
            Step::Wait(_) => String::new(),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(String, u8, Option<u64>),
    Get(String),
    Del(Vec<String>),
    Hset(String, Vec<(String, u8)>),
    Hdel(String, Vec<String>),
    Hgetall(String),
    Pexpire(String, u64),
    Exists(Vec<String>),
    Wait(u64),
}

impl Step {
    fn line(&self) -> String {
        match self {
            Step::Set(key, value, None) => format!("SET {key} {value}"),
            Step::Set(key, value, Some(ttl)) => format!("SET {key} {value} PX {ttl}"),
            Step::Get(key) => format!("GET {key}"),
            Step::Del(keys) => format!("DEL {}", keys.join(" ")),
            Step::Hset(key, fields) => {
                let pairs: Vec<_> = fields.iter().map(|(f, v)| format!("{f} {v}")).collect();
                format!("HSET {key} {}", pairs.join(" "))
            }
            Step::Hdel(key, fields) => format!("HDEL {key} {}", fields.join(" ")),
            Step::Hgetall(key) => format!("HGETALL {key}"),
            Step::Pexpire(key, ttl) => format!("PEXPIRE {key} {ttl}"),
            Step::Exists(keys) => format!("EXISTS {}", keys.join(" ")),
            Step::Wait(_) => String::new(),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = || "[abc]";
    let field = || "f[0-9]";
    let keys = || proptest::collection::vec("[abc]", 1..4);
    // Now and then a hash so large that its deletion leaves a tombstone.
    let fields = prop_oneof![
        4 => proptest::collection::vec((field(), any::<u8>()), 1..4),
        1 => Just((0..70).map(|n| (format!("f{n}"), n)).collect()),
    ];
    prop_oneof![
        (key(), any::<u8>(), proptest::option::of(1..50u64))
            .prop_map(|(k, v, t)| Step::Set(k, v, t)),
        key().prop_map(Step::Get),
        keys().prop_map(Step::Del),
        (key(), fields).prop_map(|(k, f)| Step::Hset(k, f)),
        (key(), proptest::collection::vec(field(), 1..4)).prop_map(|(k, f)| Step::Hdel(k, f)),
        key().prop_map(Step::Hgetall),
        (key(), 0..50u64).prop_map(|(k, t)| Step::Pexpire(k, t)),
        keys().prop_map(Step::Exists),
        (1..40u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn a_shard_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let mut shard = Shard::new();
        let mut model = Model::default();
        for step in &steps {
            if let Step::Wait(ms) = step {
                shard.cx.now_ms += ms;
                continue;
            }
            prop_assert!(shard.cx.now_ms >= NOW_MS);
            model.expire(shard.cx.now_ms);
            let expected = model.run(step, shard.cx.now_ms);
            prop_assert_eq!(shard.reply(&step.line()), expected, "{:?}", step);
        }
    }

    #[test]
    fn no_arguments_make_it_panic(
        name in proptest::sample::select(crate::table::TABLE),
        args in proptest::collection::vec("[a0-9-]{0,3}|NX|XX|GET|EX|PX|GT|MATCH|COUNT|TYPE|LIST|INFO", 0..6),
    ) {
        let mut shard = Shard::new();
        let args: Vec<&[u8]> = std::iter::once(name.name).chain(args.iter().map(String::as_str))
            .map(str::as_bytes).collect();
        let (reply, _) = shard.run(&args);
        prop_assert!(reply.ends_with(b"\r\n"));
    }
}
