//! A client: what it sends, what it may be answered, and what must be kept for it.
//!
//! Each client writes keys of its own, so that it knows what every read must show: exactly
//! what its own writes made of the key. All clients together increment a few shared counters,
//! whose value must lie between what was acknowledged and that plus what may have been done.
//!
//! | reply | what the client takes it for |
//! |---|---|
//! | anything but an error | done: kept from now on |
//! | `UNKNOWN …`, or the connection ended | may have been done |
//! | `NOPRIMARY`, `MASTERDOWN`, `TRYAGAIN`, `BUSY`, `MISCONF`, `SESSIONLOST` | not done |
//! | any other error | wrong |
//!
//! A key with a write of unknown outcome is never written again, nor is any key of a
//! connection that ended; so one write in doubt does not blur the others.

use crate::random::Random;
use bytes::Bytes;
use resp::Frame;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// The keys that all clients increment.
pub const SHARED: [&str; 3] = ["shared:0", "shared:1", "shared:2"];

const REFUSALS: [&str; 6] = [
    "NOPRIMARY",
    "MASTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "MISCONF",
    "SESSIONLOST",
];

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing: there is no such key.
    #[default]
    None,
    /// A string, a counter's digits included.
    String(Bytes),
    /// A hash.
    Hash(BTreeMap<Bytes, Bytes>),
}

/// What a client asks.
#[derive(Clone, Debug)]
enum Ask {
    Set(Bytes),
    Get,
    Increment(i64),
    Delete,
    SetField(Bytes, Bytes),
    GetField(Bytes),
    GetAll,
    IncrementField(Bytes, i64),
}

/// A command that was not answered yet.
#[derive(Clone, Debug)]
struct Sent {
    key: String,
    ask: Ask,
    at: Duration,
}

/// How often what happened to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose outcome is unknown.
    pub unknown: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Reads that were answered.
    pub reads: u64,
}

/// A shared counter, as one client knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Increments {
    /// The sum of what was acknowledged.
    pub acknowledged: i64,
    /// The sum of what may have been done.
    pub unknown: i64,
    /// The greatest value that this connection was shown.
    seen: i64,
}

/// One client. It knows nothing of how its commands travel.
#[derive(Debug)]
pub struct Client {
    name: String,
    /// Grows when the keys so far are let be.
    generation: u64,
    written: u64,
    /// What each of its keys may hold; one value unless there was a write in doubt.
    keys: BTreeMap<String, Vec<Value>>,
    shared: BTreeMap<&'static str, Increments>,
    sent: VecDeque<Sent>,
    counts: Counts,
    /// The longest that any answer took.
    slowest: Duration,
}

impl Client {
    pub(crate) fn new(name: String) -> Self {
        Client {
            name,
            generation: 0,
            written: 0,
            keys: BTreeMap::new(),
            shared: BTreeMap::new(),
            sent: VecDeque::new(),
            counts: Counts::default(),
            slowest: Duration::ZERO,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The longest that any answer took.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Every key of its own that it ever wrote, and what each may hold now.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[Value])> {
        self.keys.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }

    /// What it did to a shared counter.
    pub fn shared(&self, key: &str) -> Increments {
        self.shared.get(key).copied().unwrap_or_default()
    }

    /// How many answers it waits for.
    pub fn waits_for(&self) -> usize {
        self.sent.len()
    }

    /// The next few commands, to be sent at once.
    pub(crate) fn next_commands(
        &mut self,
        random: &mut Random,
        now: Duration,
        most: u64,
    ) -> Vec<Vec<Bytes>> {
        let count = random.between(1, most + 1);
        (0..count).map(|_| self.next_command(random, now)).collect()
    }

    fn next_command(&mut self, random: &mut Random, at: Duration) -> Vec<Bytes> {
        let kind = random.below(16);
        let own = |kind: &str, n: u64| format!("{}:{}:{kind}{n}", self.name, self.generation);
        let field = Bytes::from(format!("f{}", random.below(4)));
        let by = random.between(1, 9) as i64;
        let key = match kind {
            0..=4 => own("string", random.below(3)),
            5..=6 => own("counter", random.below(2)),
            7..=12 => own("hash", random.below(2)),
            _ => SHARED[random.below(3) as usize].to_owned(),
        };
        let ask = match kind {
            0..=2 => Ask::Set(self.value(random)),
            3 | 6 | 14 => Ask::Get,
            4 => Ask::Delete,
            5 | 13 | 15 => Ask::Increment(by),
            7..=8 => Ask::SetField(field, self.value(random)),
            9 => Ask::GetField(field),
            10 => Ask::IncrementField("n".into(), by),
            11 => Ask::GetAll,
            _ => Ask::Delete,
        };
        let words = words(&key, &ask);
        self.sent.push_back(Sent { key, ask, at });
        words
    }

    /// Never the same twice.
    fn value(&mut self, random: &mut Random) -> Bytes {
        self.written += 1;
        let mut value = format!("{}-{}-", self.name, self.written);
        let len = random.between(1, 900) as usize;
        value.extend(std::iter::repeat_n('.', len));
        value.into()
    }

    /// An answer to the oldest command. Err: what is wrong with it.
    pub(crate) fn answered(&mut self, reply: &Frame, now: Duration) -> Result<(), String> {
        let Some(sent) = self.sent.pop_front() else {
            return Err(format!("{}: a reply that nobody waits for", self.name));
        };
        self.slowest = self.slowest.max(now.saturating_sub(sent.at));
        if let Some(line) = reply.as_error() {
            let line = String::from_utf8_lossy(line);
            match line.split(' ').next().unwrap_or_default() {
                "UNKNOWN" => self.in_doubt(&sent),
                _ if is_refusal(&line) => self.counts.refused += 1,
                _ => {
                    return Err(format!(
                        "{}: {} {:?}: {line}",
                        self.name, sent.key, sent.ask
                    ));
                }
            }
            return Ok(());
        }
        if is_write(&sent.ask) {
            self.counts.acknowledged += 1;
        } else {
            self.counts.reads += 1;
        }
        if let Some(shared) = SHARED.iter().find(|s| **s == sent.key) {
            return self.shared_answered(shared, &sent.ask, reply);
        }
        let possible = self
            .keys
            .entry(sent.key.clone())
            .or_insert_with(|| vec![Value::None]);
        let mut expected = Vec::new();
        let mut left = Vec::new();
        for value in possible.iter() {
            let mut value = value.clone();
            let answer = apply(&mut value, &sent.ask);
            if same(&answer, reply) {
                left.push(value);
            }
            expected.push(answer);
        }
        if left.is_empty() {
            return Err(format!(
                "{}: {} {:?} was answered {reply:?}, expected one of {expected:?}",
                self.name, sent.key, sent.ask
            ));
        }
        // A read that does not show a write in doubt does not end the doubt: it may still be
        // waiting for its acknowledgement rule.
        if is_write(&sent.ask) {
            *possible = left;
        }
        Ok(())
    }

    fn shared_answered(
        &mut self,
        key: &'static str,
        ask: &Ask,
        reply: &Frame,
    ) -> Result<(), String> {
        let known = self.shared.entry(key).or_default();
        let shown = match reply {
            Frame::Integer(n) => *n,
            Frame::Null => 0,
            other => other
                .as_bytes()
                .and_then(|b| std::str::from_utf8(b).ok()?.parse().ok())
                .ok_or_else(|| format!("{key} was answered {other:?}"))?,
        };
        let by = if let Ask::Increment(by) = ask { *by } else { 0 };
        if shown < known.seen + by {
            return Err(format!(
                "{}: {key} {ask:?} was answered {shown}, after {}: back in time",
                self.name, known.seen
            ));
        }
        known.seen = shown;
        known.acknowledged += by;
        Ok(())
    }

    fn in_doubt(&mut self, sent: &Sent) {
        if !is_write(&sent.ask) {
            self.counts.refused += 1;
            return;
        }
        self.counts.unknown += 1;
        self.generation += 1;
        if let Some(shared) = SHARED.iter().find(|s| **s == sent.key) {
            if let Ask::Increment(by) = sent.ask {
                self.shared.entry(shared).or_default().unknown += by;
            }
            return;
        }
        let possible = self
            .keys
            .entry(sent.key.clone())
            .or_insert_with(|| vec![Value::None]);
        for mut value in possible.clone() {
            apply(&mut value, &sent.ask);
            if !possible.contains(&value) {
                possible.push(value);
            }
        }
    }

    /// Its connection ended: what was not answered is in doubt, and a new session begins.
    pub(crate) fn disconnected(&mut self) {
        for sent in std::mem::take(&mut self.sent) {
            self.in_doubt(&sent);
        }
        self.generation += 1;
        for known in self.shared.values_mut() {
            known.seen = 0;
        }
    }
}

/// Whether an error says that nothing was done.
pub(crate) fn is_refusal(line: &str) -> bool {
    let code = line.split(' ').next().unwrap_or_default();
    REFUSALS.contains(&code)
}

fn is_write(ask: &Ask) -> bool {
    !matches!(ask, Ask::Get | Ask::GetField(_) | Ask::GetAll)
}

fn words(key: &str, ask: &Ask) -> Vec<Bytes> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let number = |n: &i64| Bytes::from(n.to_string());
    match ask {
        Ask::Set(value) => vec!["SET".into(), key, value.clone()],
        Ask::Get => vec!["GET".into(), key],
        Ask::Increment(by) => vec!["INCRBY".into(), key, number(by)],
        Ask::Delete => vec!["DEL".into(), key],
        Ask::SetField(field, value) => vec!["HSET".into(), key, field.clone(), value.clone()],
        Ask::GetField(field) => vec!["HGET".into(), key, field.clone()],
        Ask::GetAll => vec!["HGETALL".into(), key],
        Ask::IncrementField(field, by) => {
            vec!["HINCRBY".into(), key, field.clone(), number(by)]
        }
    }
}

/// What a command makes of a key, and its answer. Keys are never used for two types.
fn apply(value: &mut Value, ask: &Ask) -> Frame {
    let bulk = |found: Option<&Bytes>| found.map_or(Frame::Null, |b| Frame::Bulk(b.clone()));
    if let Ask::SetField(..) | Ask::IncrementField(..) = ask
        && *value == Value::None
    {
        *value = Value::Hash(BTreeMap::new());
    }
    match (ask, value) {
        (Ask::Set(new), value) => {
            *value = Value::String(new.clone());
            Frame::Simple("OK".into())
        }
        (Ask::Get, Value::String(found)) => bulk(Some(found)),
        (Ask::Increment(by), value) => {
            let before = match value {
                Value::String(digits) => number(Some(digits)),
                _ => 0,
            };
            *value = Value::String((before + by).to_string().into());
            Frame::Integer(before + by)
        }
        (Ask::Delete, value) => {
            let there = *value != Value::None;
            *value = Value::None;
            Frame::Integer(there.into())
        }
        (Ask::SetField(field, new), Value::Hash(fields)) => {
            let fresh = fields.insert(field.clone(), new.clone()).is_none();
            Frame::Integer(fresh.into())
        }
        (Ask::GetField(field), Value::Hash(fields)) => bulk(fields.get(field)),
        (Ask::IncrementField(field, by), Value::Hash(fields)) => {
            let sum = number(fields.get(field)) + by;
            fields.insert(field.clone(), sum.to_string().into());
            Frame::Integer(sum)
        }
        (Ask::GetAll, Value::Hash(fields)) => Frame::Array(
            (fields.iter())
                .flat_map(|(f, v)| [Frame::Bulk(f.clone()), Frame::Bulk(v.clone())])
                .collect(),
        ),
        (Ask::GetAll, _) => Frame::Array(Vec::new()),
        _ => Frame::Null,
    }
}

fn number(digits: Option<&Bytes>) -> i64 {
    let text = digits.and_then(|d| std::str::from_utf8(d).ok());
    text.and_then(|t| t.parse().ok()).unwrap_or_default()
}

/// Whether two answers say the same; the fields of a hash come in any order.
fn same(expected: &Frame, found: &Frame) -> bool {
    match (expected, found) {
        (Frame::Array(_), Frame::Array(_)) => value_of(expected) == value_of(found),
        _ => expected == found,
    }
}

/// What a key holds, from the answer to GET or HGETALL.
pub fn value_of(reply: &Frame) -> Value {
    match reply {
        Frame::Array(values) if !values.is_empty() => Value::Hash(
            values
                .chunks_exact(2)
                .filter_map(|pair| Some((pair[0].as_bytes()?.clone(), pair[1].as_bytes()?.clone())))
                .collect(),
        ),
        Frame::Bulk(bytes) => Value::String(bytes.clone()),
        _ => Value::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(client: &mut Client, ask: Ask) {
        client.sent.push_back(Sent {
            key: "k".into(),
            ask,
            at: Duration::ZERO,
        });
    }

    #[test]
    fn a_client_notices_a_lost_write_and_a_forged_one() {
        let ok = Frame::Simple("OK".into());
        let now = Duration::ZERO;
        let mut client = Client::new("c".into());
        sent(&mut client, Ask::Set("a".into()));
        client.answered(&ok, now).unwrap();
        for wrong in [Frame::Null, Frame::Bulk("b".into())] {
            sent(&mut client, Ask::Get);
            client.answered(&wrong, now).unwrap_err();
        }
        sent(&mut client, Ask::Get);
        client.answered(&Frame::Bulk("a".into()), now).unwrap();
    }

    #[test]
    fn a_write_in_doubt_may_show_or_not_until_another_was_built_on_it() {
        let now = Duration::ZERO;
        let unknown = Frame::Error("UNKNOWN who knows".into());
        let refused = Frame::Error("NOPRIMARY not taken".into());
        let mut client = Client::new("c".into());
        sent(&mut client, Ask::Increment(2));
        client.answered(&unknown, now).unwrap();
        sent(&mut client, Ask::Increment(3));
        client.answered(&refused, now).unwrap();
        let two = Value::String("2".into());
        assert_eq!(client.keys["k"], [Value::None, two.clone()]);
        for shown in [Frame::Null, Frame::Bulk("2".into()), Frame::Null] {
            sent(&mut client, Ask::Get);
            client.answered(&shown, now).unwrap();
        }
        sent(&mut client, Ask::Increment(1));
        client.answered(&Frame::Integer(3), now).unwrap();
        assert_eq!(client.keys["k"], [Value::String("3".into())]);
        sent(&mut client, Ask::Get);
        client.answered(&Frame::Null, now).unwrap_err();
    }
}
