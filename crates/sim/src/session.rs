//! Clients that read at any replica what others write: what sessions are judged by.
//!
//! Everything written here only grows, so that a read shows by itself how new it is:
//!
//! | key | a write | a read must show |
//! |---|---|---|
//! | `text:…` | `APPEND` of a piece that is never used twice | all that the session was shown, as a prefix, and each piece of its own where it was put |
//! | `hash:…` | `HSET` of a field that is never used twice | all fields that the session was shown or has set |
//! | `pair:…:a`, `pair:…:b` | `SET a n`, and once that is done `SET b n` | what the session was shown or has set, or more; an a that is no older than any b shown (where nothing may be lost: else the writer may have gone on from an a that is gone) |
//!
//! A write of unknown outcome may take effect at any time later, so a pair is left alone after
//! one, until the writer goes on with the next.
//!
//! A session is one connection: when it ends, so do its claims. `-SESSIONLOST` ends those on
//! keys of that shard, where a failover may lose what was acknowledged; elsewhere it does not,
//! because nothing that a session was shown may be lost there.
//!
//! [`Keys`] also holds what is true across sessions where nothing may be lost: of any two texts
//! shown of a key, one is a prefix of the other; and what was acknowledged is there in the end.

use crate::{
    client::is_refusal,
    lost::{Lost, PIECE_END},
    random::Random,
    register::number,
};
use bytes::Bytes;
use model::slot;
use resp::Frame;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Keys whose tag is one of these; they fall into different shards.
const TAGS: [&str; 4] = ["a", "b", "c", "d"];
/// Clients whose pairs are looked at; some of them write none.
const CLIENTS: u64 = 10;
/// How long a key is written to.
const GENERATION: Duration = Duration::from_secs(4);

#[derive(Clone, Debug)]
enum Ask {
    Append(String),
    SetField(String),
    Set(u64),
    Text,
    Fields,
    Number,
    /// Both of a pair at once; the key is that of `a`.
    Both,
}

#[derive(Clone, Debug)]
struct Sent {
    key: String,
    ask: Ask,
}

/// What all clients together know of the keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    lossy: bool,
    /// The slots of each shard.
    shards: Vec<(u16, u16)>,
    /// The longest text shown of each key.
    longest: BTreeMap<String, String>,
    /// By key, the pieces and fields that were acknowledged.
    acknowledged: BTreeMap<String, Vec<String>>,
    counts: Counts,
}

/// How often what happened in sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Writes whose outcome is unknown.
    pub unknown: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Reads that were judged.
    pub reads: u64,
    /// Answers that said that a failover lost what the session had seen.
    pub lost: u64,
}

impl Keys {
    pub(crate) fn begin(&mut self, lossy: bool, shards: u16) {
        self.lossy = lossy;
        self.shards = slot::ranges(shards).collect();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The shard of a key; the keyspace is the first there is.
    pub(crate) fn shard(&self, key: &str) -> usize {
        let slot = slot::of(key.as_bytes());
        self.shards.partition_point(|(_, to)| *to < slot)
    }

    /// A text was shown to somebody.
    fn shown(&mut self, key: &str, text: &str) -> Result<(), String> {
        if self.lossy {
            return Ok(());
        }
        let Some(longest) = self.longest.get_mut(key) else {
            self.longest.insert(key.to_owned(), text.to_owned());
            return Ok(());
        };
        if text.len() > longest.len() {
            if !text.starts_with(longest.as_str()) {
                return Err(format!("{key} is {text:?}, after {longest:?}"));
            }
            text.clone_into(longest);
        } else if !longest.starts_with(text) {
            return Err(format!("{key} is {text:?}, after {longest:?}"));
        }
        Ok(())
    }

    fn acknowledge(&mut self, key: &str, mark: &str) {
        let marks = self.acknowledged.entry(key.to_owned()).or_default();
        marks.push(mark.to_owned());
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.acknowledged.keys().cloned().collect()
    }

    /// How what a key holds is asked for.
    pub(crate) fn read(key: &str) -> &'static str {
        if key.starts_with("hash") {
            "HGETALL"
        } else {
            "GET"
        }
    }

    /// Everything acknowledged is in the end, or was reported as lost. Returns how much was
    /// lost.
    pub(crate) fn check(
        &self,
        finals: &BTreeMap<String, Frame>,
        lost: &Lost,
    ) -> Result<u64, String> {
        let mut count = 0;
        for (key, marks) in &self.acknowledged {
            let Some(end) = finals.get(key) else {
                return Err(format!("{key} was not read"));
            };
            let there = match end {
                Frame::Array(_) => fields(end),
                _ => pieces(&text(end).ok_or_else(|| format!("{key} is {end:?}"))?),
            };
            for mark in marks.iter().filter(|m| !there.contains(m.as_str())) {
                if !self.lossy || !lost.holds(key, mark) {
                    return Err(format!(
                        "{mark} was acknowledged in {key} and is gone{}: {end:?}",
                        if self.lossy { ", unreported" } else { "" }
                    ));
                }
                count += 1;
            }
        }
        Ok(count)
    }
}

fn text(reply: &Frame) -> Option<String> {
    match reply {
        Frame::Null => Some(String::new()),
        other => Some(String::from_utf8_lossy(other.as_bytes()?).into_owned()),
    }
}

fn pieces(text: &str) -> BTreeSet<String> {
    text.split_inclusive(PIECE_END).map(str::to_owned).collect()
}

fn fields(reply: &Frame) -> BTreeSet<String> {
    let values = reply.as_values().unwrap_or_default();
    let names = values.chunks(2).filter_map(|pair| pair[0].as_bytes());
    names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// What a session may expect of a key.
#[derive(Clone, Debug, Default)]
struct Claim {
    /// The longest text it was shown.
    text: String,
    /// Pieces of its own behind that: where each begins.
    own: Vec<(usize, String)>,
    fields: BTreeSet<String>,
    number: u64,
}

/// The pair that a client writes.
#[derive(Clone, Copy, Debug, Default)]
struct OwnPair {
    generation: u64,
    /// The number that is written.
    n: u64,
    /// Whether `a` has it already.
    half: bool,
    /// Whether the outcome of a write to it is unknown.
    unknown: bool,
}

/// One client, and its session.
#[derive(Debug)]
pub(crate) struct SessionClient {
    name: String,
    written: u64,
    pair: OwnPair,
    claims: BTreeMap<String, Claim>,
    sent: VecDeque<Sent>,
}

impl SessionClient {
    pub(crate) fn new(name: String) -> Self {
        SessionClient {
            name,
            written: 0,
            pair: OwnPair::default(),
            claims: BTreeMap::new(),
            sent: VecDeque::new(),
        }
    }

    pub(crate) fn waits_for(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn next_commands(
        &mut self,
        random: &mut Random,
        now: Duration,
        most: u64,
    ) -> Vec<Vec<Bytes>> {
        let count = random.between(1, most + 1);
        (0..count).map(|_| self.next_command(random, now)).collect()
    }

    fn next_command(&mut self, random: &mut Random, now: Duration) -> Vec<Bytes> {
        let tag = TAGS[random.below(TAGS.len() as u64) as usize];
        let generation = now.as_secs() / GENERATION.as_secs();
        // The generation before is read for a while longer.
        let shown = generation.saturating_sub(u64::from(random.once_in(4)));
        let key = |kind: &str, generation: u64| format!("{kind}:{generation}:{{{tag}}}");
        let may_write_pair =
            !self.writes_pair() && (self.pair.generation != generation || !self.pair.unknown);
        let (key, ask) = match random.below(14) {
            0..=2 => (key("text", generation), Ask::Append(self.mark())),
            3 => (key("hash", generation), Ask::SetField(self.mark())),
            4 | 5 if may_write_pair => self.next_of_pair(generation),
            6..=9 => (key("text", shown), Ask::Text),
            10 => (key("hash", shown), Ask::Fields),
            11 => (pair(&any_client(random), shown, "a"), Ask::Number),
            12 => (pair(&any_client(random), shown, "b"), Ask::Number),
            _ => (pair(&any_client(random), shown, "a"), Ask::Both),
        };
        let words = words(&key, &ask);
        self.sent.push_back(Sent { key, ask });
        words
    }

    /// Whether a write to its pair is under way.
    fn writes_pair(&self) -> bool {
        self.sent.iter().any(|s| matches!(s.ask, Ask::Set(_)))
    }

    fn next_of_pair(&mut self, generation: u64) -> (String, Ask) {
        if self.pair.generation != generation {
            self.pair = OwnPair {
                generation,
                n: self.pair.n,
                ..OwnPair::default()
            };
        }
        let half = if self.pair.half {
            "b"
        } else {
            self.pair.n += 1;
            "a"
        };
        (pair(&self.name, generation, half), Ask::Set(self.pair.n))
    }

    /// Never the same twice.
    fn mark(&mut self) -> String {
        self.written += 1;
        format!("{}.{}{PIECE_END}", self.name, self.written)
    }

    /// An answer to the oldest command. Err: what is wrong with it.
    pub(crate) fn answered(&mut self, reply: &Frame, keys: &mut Keys) -> Result<(), String> {
        let Some(sent) = self.sent.pop_front() else {
            return Err(format!("{}: a reply that nobody waits for", self.name));
        };
        if let Some(line) = reply.as_error() {
            return self.refused(&sent, &String::from_utf8_lossy(line), keys);
        }
        let judged = self.judge(&sent, reply, keys);
        judged.map_err(|wrong| format!("{}: {:?}: {wrong}", self.name, sent.ask))
    }

    fn refused(&mut self, sent: &Sent, line: &str, keys: &mut Keys) -> Result<(), String> {
        if line.starts_with("SESSIONLOST") {
            keys.counts.lost += 1;
            if keys.lossy {
                let shard = keys.shard(&sent.key);
                self.claims.retain(|key, _| keys.shard(key) != shard);
            }
        }
        if line.starts_with("UNKNOWN") {
            keys.counts.unknown += 1;
            if let Ask::Set(_) = sent.ask {
                self.pair.unknown = true;
            }
        } else if is_refusal(line) {
            keys.counts.refused += 1;
            // Another number, from `a` on.
            if let Ask::Set(_) = sent.ask {
                self.pair.half = false;
            }
        } else {
            return Err(format!("{}: {sent:?} was answered {line}", self.name));
        }
        Ok(())
    }

    fn judge(&mut self, sent: &Sent, reply: &Frame, keys: &mut Keys) -> Result<(), String> {
        let key = &sent.key;
        let unreadable = || format!("{key} was answered {reply:?}");
        match &sent.ask {
            Ask::Append(piece) => {
                keys.counts.writes += 1;
                let len = reply.as_integer().ok_or_else(unreadable)? as usize;
                let claim = self.claims.entry(key.clone()).or_default();
                let at = len.checked_sub(piece.len()).ok_or_else(unreadable)?;
                let known = claim.own.last().map_or(0, |(at, p)| at + p.len());
                if at < known.max(claim.text.len()) {
                    return Err(format!(
                        "{key} was {at} long before, though this session knows {} of it: back in time without a word",
                        known.max(claim.text.len())
                    ));
                }
                claim.own.push((at, piece.clone()));
                keys.acknowledge(key, piece);
            }
            Ask::SetField(field) => {
                keys.counts.writes += 1;
                let claim = self.claims.entry(key.clone()).or_default();
                claim.fields.insert(field.clone());
                keys.acknowledge(key, field);
            }
            Ask::Set(n) => {
                keys.counts.writes += 1;
                self.is_at_least(key, *n, keys.lossy)?;
                self.pair.half = !self.pair.half;
            }
            Ask::Text => {
                keys.counts.reads += 1;
                let shown = text(reply).ok_or_else(unreadable)?;
                keys.shown(key, &shown)?;
                let claim = self.claims.entry(key.clone()).or_default();
                if !shown.starts_with(&claim.text) {
                    return Err(format!("{key} is {shown:?}, after {:?}", claim.text));
                }
                for (at, piece) in &claim.own {
                    if shown.get(*at..at + piece.len()) != Some(piece.as_str()) {
                        return Err(format!(
                            "{key} is {shown:?}, without its own {piece} at {at}"
                        ));
                    }
                }
                claim.text = shown;
                claim.own.clear();
            }
            Ask::Fields => {
                keys.counts.reads += 1;
                let shown = fields(reply);
                let claim = self.claims.entry(key.clone()).or_default();
                if let Some(gone) = claim.fields.difference(&shown).next() {
                    return Err(format!("{key} is {shown:?}, without {gone}"));
                }
                claim.fields = shown;
            }
            Ask::Number => {
                keys.counts.reads += 1;
                let n = number(reply).ok_or_else(unreadable)? as u64;
                self.is_at_least(key, n, keys.lossy)?;
            }
            Ask::Both => {
                keys.counts.reads += 1;
                let Some([a, b]) = reply.as_values() else {
                    return Err(unreadable());
                };
                let (Some(a), Some(b)) = (number(a), number(b)) else {
                    return Err(unreadable());
                };
                if a < b && !keys.lossy {
                    return Err(format!("{key} is {a}, and its other half {b} already"));
                }
                self.is_at_least(key, a as u64, keys.lossy)?;
                self.is_at_least(&other_half(key), b as u64, keys.lossy)?;
            }
        }
        Ok(())
    }

    /// A half of a pair was shown, or written.
    fn is_at_least(&mut self, key: &str, n: u64, lossy: bool) -> Result<(), String> {
        let claim = self.claims.entry(key.to_owned()).or_default();
        if n < claim.number {
            return Err(format!("{key} is {n}, after {}", claim.number));
        }
        claim.number = n;
        if key.ends_with(":b") && !lossy {
            let claim = self.claims.entry(other_half(key)).or_default();
            claim.number = claim.number.max(n);
        }
        Ok(())
    }

    pub(crate) fn disconnected(&mut self) {
        self.pair.unknown |= self.writes_pair();
        self.sent.clear();
        self.claims.clear();
    }
}

/// Both halves of a client's pair are in one shard.
fn pair(client: &str, generation: u64, half: &str) -> String {
    format!("pair:{generation}:{{{client}}}:{half}")
}

fn any_client(random: &mut Random) -> String {
    format!("c{}", random.below(CLIENTS))
}

fn other_half(key: &str) -> String {
    let (pair, half) = key.split_at(key.len() - 1);
    format!("{pair}{}", if half == "a" { "b" } else { "a" })
}

fn words(key: &str, ask: &Ask) -> Vec<Bytes> {
    let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    match ask {
        Ask::Append(piece) => vec!["APPEND".into(), own(key), own(piece)],
        Ask::SetField(field) => vec!["HSET".into(), own(key), own(field), "1".into()],
        Ask::Set(n) => vec!["SET".into(), own(key), n.to_string().into()],
        Ask::Text => vec!["GET".into(), own(key)],
        Ask::Fields => vec!["HGETALL".into(), own(key)],
        Ask::Number => vec!["GET".into(), own(key)],
        Ask::Both => vec!["MGET".into(), own(key), own(&other_half(key))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        client: &mut SessionClient,
        keys: &mut Keys,
        key: &str,
        ask: Ask,
        reply: Frame,
    ) -> Result<(), String> {
        client.sent.push_back(Sent {
            key: key.to_owned(),
            ask,
        });
        client.answered(&reply, keys)
    }

    fn new(lossy: bool) -> (SessionClient, Keys) {
        let mut keys = Keys::default();
        keys.begin(lossy, 3);
        (SessionClient::new("c1".into()), keys)
    }

    #[test]
    fn a_session_that_goes_back_in_time_is_seen() {
        let (mut c, mut keys) = new(true);
        let bulk = |s: &str| Frame::Bulk(Bytes::copy_from_slice(s.as_bytes()));
        let mut ask = |ask, reply| answer(&mut c, &mut keys, "text:0:{a}", ask, reply);
        ask(Ask::Text, bulk("x.1;")).unwrap();
        ask(Ask::Append("c1.1;".into()), Frame::Integer(14)).unwrap();
        ask(Ask::Text, bulk("x.1;x.2;c1.1;")).unwrap_err();
        let again = |ask: &mut dyn FnMut(Ask, Frame) -> Result<(), String>| {
            ask(Ask::Text, bulk("x.1;x.20;c1.1;y.1;"))
        };
        again(&mut ask).unwrap();
        ask(Ask::Text, bulk("x.1;x.20;c1.1;")).unwrap_err();
        ask(Ask::Append("c1.2;".into()), Frame::Integer(9)).unwrap_err();
        // Once it was told, it begins anew.
        ask(Ask::Text, Frame::Error("SESSIONLOST shard 1".into())).unwrap();
        ask(Ask::Text, bulk("x.1;")).unwrap();
    }

    #[test]
    fn half_a_pair_shows_how_new_the_other_must_be() {
        let (mut c, mut keys) = new(false);
        let mut ask = |key: &str, ask, n| {
            answer(
                &mut c,
                &mut keys,
                key,
                ask,
                Frame::Bulk(Bytes::copy_from_slice(n)),
            )
        };
        ask("pair:0:{c0}:b", Ask::Number, b"7").unwrap();
        ask("pair:0:{c0}:a", Ask::Number, b"6").unwrap_err();
        ask("pair:0:{c0}:a", Ask::Number, b"8").unwrap();
        ask("pair:0:{c0}:b", Ask::Number, b"6").unwrap_err();
    }

    #[test]
    fn what_was_acknowledged_and_is_gone_is_seen_unless_it_was_reported() {
        for lossy in [false, true] {
            let (mut c, mut keys) = new(lossy);
            let key = "hash:0:{a}";
            answer(
                &mut c,
                &mut keys,
                key,
                Ask::SetField("c1.1;".into()),
                Frame::Integer(1),
            )
            .unwrap();
            let gone = BTreeMap::from([(key.to_owned(), Frame::Array(Vec::new()))]);
            keys.check(&gone, &Lost::default()).unwrap_err();
            let mut lost = Lost::default();
            lost.add(key, "c1.1;");
            assert_eq!(keys.check(&gone, &lost).ok(), lossy.then_some(1));
            let there = Frame::Array(vec![Frame::Bulk("c1.1;".into()), Frame::Bulk("1".into())]);
            let there = BTreeMap::from([(key.to_owned(), there)]);
            assert_eq!(keys.check(&there, &lost), Ok(0));
        }
    }
}
