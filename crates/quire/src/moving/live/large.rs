//! A hash of a running server that is too large for one answer.
//!
//! ```text
//! WATCH ─▶ HSCAN, HSCAN, … ─▶ MULTI, HLEN, PEXPIRETIME, EXEC ─▶ its length and time: done
//!   ▲                                                   │ nil: it was changed
//!   └───────────────────────────────────────────────────┘ READS_MAX times at most
//! ```
//! It begins anew, too, when the connection that watches it is lost.

use super::{Live, PAUSE_MAX};
use crate::{client::refusal, moving::now_ms};
use bytes::Bytes;
use resp::Frame;
use tokio::time::sleep;
use transfer::{
    Expiring,
    fields::EXPIRING,
    live,
    rdb::{PART_BYTES, PART_FIELDS},
    writer::{Advice, advice},
};

/// How often a large hash is read that is changed each time.
const READS_MAX: u32 = 5;

/// Some of a large hash.
pub(crate) enum Fields {
    /// All of it comes from its beginning, whatever came before.
    Begin,
    /// These, and more to come.
    Some(Vec<(Bytes, Bytes)>),
    /// There were so many, and so long does it last.
    End(u64, Option<u64>),
    Gone,
    Other(String),
    Failed(String),
}

/// A large hash that is being read.
pub(super) struct Reading {
    key: Bytes,
    at: At,
    /// About how many fields a part has.
    count: u64,
    /// Fields whose time was over, which are left out.
    left_out: u64,
    reads: u32,
}

#[derive(Clone)]
enum At {
    Start,
    Cursor(Bytes),
    End,
}

impl Reading {
    pub(super) fn new(key: Bytes) -> Self {
        Reading {
            key,
            at: At::Start,
            count: PART_FIELDS as u64,
            left_out: 0,
            reads: 0,
        }
    }

    /// What watched it is gone.
    pub(super) fn start_over(&mut self) {
        self.at = At::Start;
    }
}

impl Live {
    /// Some of the large hash that [`next`](Self::next) gave.
    pub(crate) async fn fields(&mut self) -> Result<Fields, String> {
        let Some(reading) = &self.reading else {
            return Ok(Fields::Gone);
        };
        let key = reading.key.clone();
        match reading.at.clone() {
            At::Start => self.watch(key).await,
            At::Cursor(cursor) => self.part(key, cursor).await,
            At::End => self.end(key).await,
        }
    }

    async fn watch(&mut self, key: Bytes) -> Result<Fields, String> {
        let requests = [
            vec![&b"WATCH"[..], &key],
            vec![b"HLEN", &key],
            vec![b"MEMORY", b"USAGE", &key],
        ];
        let replies = self.exchange(&requests).await?;
        if let Some(why) = replies.first().and_then(refusal) {
            return Ok(self.refused_fields(&why).await);
        }
        let number = |at: usize| replies.get(at).and_then(Frame::as_integer).unwrap_or(0);
        let (length, bytes) = (number(1).max(1).unsigned_abs(), number(2).unsigned_abs());
        let each = (bytes / length).max(1);
        if let Some(reading) = &mut self.reading {
            reading.reads += 1;
            if reading.reads > READS_MAX {
                return Ok(Fields::Failed(format!(
                    "a large hash that was changed while it was read, {READS_MAX} times"
                )));
            }
            reading.count = (PART_BYTES / each).clamp(1, PART_FIELDS as u64);
            reading.left_out = 0;
            reading.at = At::Cursor(Bytes::from_static(b"0"));
        }
        Ok(Fields::Begin)
    }

    async fn part(&mut self, key: Bytes, cursor: Bytes) -> Result<Fields, String> {
        let count = self.reading.as_ref().map_or(1, |reading| reading.count);
        let count = count.to_string();
        let request = vec![&b"HSCAN"[..], &key, &cursor, b"COUNT", count.as_bytes()];
        let reply = self.exchange(&[request]).await?.pop();
        let reply = reply.unwrap_or(Frame::Null);
        if let Some(why) = refusal(&reply) {
            return Ok(self.refused_fields(&why).await);
        }
        let Some([next, flat]) = reply.as_values() else {
            let why = "HSCAN was answered with something else";
            return Ok(Fields::Failed(why.to_owned()));
        };
        let flat = flat.as_values().unwrap_or_default();
        let pairs = flat.chunks(2).filter(|pair| pair.len() == 2);
        let pair =
            |pair: &[Frame]| Some((pair[0].as_bytes()?.clone(), pair[1].as_bytes()?.clone()));
        let fields: Vec<(Bytes, Bytes)> = pairs.filter_map(pair).collect();
        if let Some(reading) = &mut self.reading
            && !matches!(reading.at, At::Start)
        {
            reading.at = match next.as_bytes() {
                Some(next) if &next[..] != b"0" => At::Cursor(next.clone()),
                _ => At::End,
            };
        }
        self.without_times(&key, fields).await
    }

    /// What can't be read now is read later, from its beginning.
    async fn refused_fields(&mut self, why: &str) -> Fields {
        if advice(why.as_bytes()) == Advice::Never {
            return Fields::Failed(format!("the source says {why}"));
        }
        sleep(PAUSE_MAX).await;
        self.changed()
    }

    /// It begins anew.
    fn changed(&mut self) -> Fields {
        if let Some(reading) = &mut self.reading {
            reading.start_over();
        }
        Fields::Some(Vec::new())
    }

    /// Leaves out fields whose time is over, if hashes with such are taken at all.
    async fn without_times(
        &mut self,
        key: &Bytes,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<Fields, String> {
        if !self.has_field_times || fields.is_empty() {
            return Ok(Fields::Some(fields));
        }
        let count = fields.len().to_string();
        let mut request = vec![&b"HPEXPIRETIME"[..], key, b"FIELDS", count.as_bytes()];
        request.extend(fields.iter().map(|(field, _)| &field[..]));
        let reply = self
            .exchange(&[request])
            .await?
            .pop()
            .unwrap_or(Frame::Null);
        let Some(times) = reply.as_values() else {
            // Fields of this server don't expire.
            self.has_field_times = false;
            return Ok(Fields::Some(fields));
        };
        let times: Vec<i64> = times
            .iter()
            .map(|time| time.as_integer().unwrap_or(-1))
            .collect();
        let expires = times.iter().any(|time| *time >= 0);
        if expires && self.expiring == Expiring::Pass {
            return Ok(Fields::Other(EXPIRING.to_owned()));
        }
        let now_ms = i64::try_from(now_ms()).unwrap_or(i64::MAX);
        let before = fields.len();
        let left = fields
            .into_iter()
            .zip(times)
            .filter(|(_, time)| *time < 0 || *time > now_ms);
        let left: Vec<(Bytes, Bytes)> = left.map(|(field, _)| field).collect();
        if let Some(reading) = &mut self.reading {
            reading.left_out += (before - left.len()) as u64;
        }
        Ok(Fields::Some(left))
    }

    /// The hash was read to its end. Was it changed meanwhile?
    async fn end(&mut self, key: Bytes) -> Result<Fields, String> {
        let expiry: &[u8] = match self.has_expiretime {
            true => b"PEXPIRETIME",
            false => b"PTTL",
        };
        let requests = [
            vec![&b"MULTI"[..]],
            vec![b"HLEN", &key],
            vec![expiry, &key],
            vec![b"TIME"],
            vec![b"EXEC"],
        ];
        let done = self.exchange(&requests).await?.pop();
        let done = done.unwrap_or(Frame::Null);
        if let Some(why) = refusal(&done) {
            return Ok(self.refused_fields(&why).await);
        }
        let was_watched = matches!(&self.reading, Some(Reading { at: At::End, .. }));
        let Some([length, expires, time]) = done.as_values().filter(|_| was_watched) else {
            return Ok(self.changed());
        };
        let expires = match (self.has_expiretime, live::time_ms(time)) {
            (false, Some(now)) => live::expires_after(expires, now),
            _ => live::expires_ms(expires),
        };
        let left_out = self.reading.as_ref().map_or(0, |reading| reading.left_out);
        let length = length.as_integer().unwrap_or(0).unsigned_abs();
        Ok(match (length.saturating_sub(left_out), expires) {
            (left @ 1.., Ok(at)) => Fields::End(left, at),
            _ => Fields::Gone,
        })
    }
}
