//! Reading a running Redis, Valkey or Quire, key by key: see [`transfer::live`].
//!
//! [`Live::scan`] gives names, [`Live::ask`] takes those whose values are wanted, and
//! [`Live::next`] gives the values. So names are read by thousands, values by megabytes, and no
//! more is held than a few of these.
//!
//! A hash that is too large for one answer is read in parts ([`large`]).

mod large;

pub(crate) use large::Fields;

use crate::{
    client::{Client, ClientError, refusal},
    moving::{Keyspace, REPLY_TIMEOUT, target},
};
use bytes::Bytes;
use commands::rdb::Value;
use resp::Frame;
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, sleep};
use transfer::{
    Expiring,
    address::Server,
    live::{self, Facts, Held},
    writer::{Advice, advice},
};

/// Names that one SCAN goes over.
const SCAN_COUNT: &str = "1000";
/// Bytes of values, about, that are asked for at once.
const WAVE_BYTES: u64 = 4 << 20;
/// Bytes of values, about, and values of one transaction.
const GROUP_BYTES: u64 = 1 << 20;
const GROUP_KEYS: usize = 100;
/// How long a connection may take to stand: a source may be far away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a key holds.
pub(crate) enum Found {
    Value(Value, Option<u64>),
    /// It is gone, or its time is over.
    Gone,
    /// Quire has no type for it.
    Other(String),
    Failed(String),
    /// A hash that is read by [`Live::fields`].
    Large,
}

/// Where a server is.
enum Where {
    Redis {
        addr: String,
        /// What a connection begins with.
        opening: Vec<Vec<String>>,
    },
    /// The first of the addresses is the one to connect to.
    Quire(Keyspace),
}

/// A running server.
pub(crate) struct Live {
    /// What it is called in messages.
    name: String,
    at: Where,
    client: Option<Client>,
    expiring: Expiring,
    pattern: Option<String>,
    patience: Duration,
    /// None once all names were given.
    cursor: Option<Bytes>,
    /// Keys of one transaction at most.
    together: usize,
    has_expiretime: bool,
    has_field_times: bool,
    wanted: VecDeque<(Bytes, Facts)>,
    found: VecDeque<(Bytes, Found)>,
    /// The large hash that was given last.
    reading: Option<large::Reading>,
}

/// What to read, and how.
pub(crate) struct Options {
    pub(crate) pattern: Option<String>,
    pub(crate) expiring: Expiring,
    pub(crate) patience: Duration,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Live {
    /// A Redis, Valkey, or anything that speaks like it.
    pub(crate) async fn redis(server: &Server, options: Options) -> Result<Self, String> {
        let mut opening = Vec::new();
        let password = server.password.clone();
        if let Some(password) = password.or_else(|| std::env::var("REDISCLI_AUTH").ok()) {
            opening.push(match &server.user {
                Some(user) => words(&["AUTH", user, &password]),
                None => words(&["AUTH", &password]),
            });
        }
        if let Some(database) = server.database.filter(|database| *database > 0) {
            opening.push(words(&["SELECT", &database.to_string()]));
        }
        let addr = server.addr.clone();
        let at = Where::Redis { addr, opening };
        let mut live = Live::new(server.to_string(), at, options);
        let probe = live.exchange(&[words(&["PEXPIRETIME", "a"])]).await?;
        let refused = probe.first().and_then(refusal);
        if let Some(refused) = &refused
            && !refused.contains("unknown command")
        {
            return Err(format!("{}: {refused}", live.name));
        }
        live.has_expiretime = refused.is_none();
        Ok(live)
    }

    /// A keyspace of Quire.
    pub(crate) async fn quire(keyspace: Keyspace, options: Options) -> Result<Self, String> {
        let name = keyspace.addrs.first().cloned().unwrap_or_default();
        let mut live = Live::new(name, Where::Quire(keyspace), options);
        // Keys of several shards are in no transaction.
        live.together = 1;
        live.has_field_times = false;
        live.exchange(&[words(&["PING"])]).await?;
        Ok(live)
    }

    fn new(name: String, at: Where, options: Options) -> Self {
        Live {
            name,
            at,
            client: None,
            expiring: options.expiring,
            pattern: options.pattern,
            patience: options.patience,
            cursor: Some(Bytes::from_static(b"0")),
            together: GROUP_KEYS,
            has_expiretime: true,
            has_field_times: true,
            wanted: VecDeque::new(),
            found: VecDeque::new(),
            reading: None,
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        self.client = Some(match &self.at {
            Where::Quire(keyspace) => {
                let addr = keyspace.addrs.first().map_or("", String::as_str);
                keyspace.connect(addr, CONNECT_TIMEOUT).await?
            }
            Where::Redis { addr, opening } => {
                let mut client = Client::connect_within(addr, CONNECT_TIMEOUT).await?;
                client.set_reply_timeout(REPLY_TIMEOUT);
                for request in opening {
                    client.call(request).await?;
                }
                client
            }
        });
        Ok(())
    }

    /// The answers to `requests`. A node of Quire that is lost is replaced by another, as long
    /// as the patience lasts; a Redis that is lost may have forgotten what SCAN's cursors mean.
    async fn exchange<A: AsRef<[u8]>>(
        &mut self,
        requests: &[Vec<A>],
    ) -> Result<Vec<Frame>, String> {
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.try_exchange(requests).await {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            let was_connected = self.client.take().is_some();
            let is_final = match &mut self.at {
                Where::Redis { .. } => true,
                Where::Quire(keyspace) => {
                    keyspace.addrs.rotate_left(1);
                    target::is_final(&error) || Instant::now() > deadline
                }
            };
            if is_final {
                return Err(match (&error, was_connected) {
                    (ClientError::Connect { cause, .. }, _) => {
                        format!("can't connect to {}: {cause}", self.name)
                    }
                    (ClientError::Refused(why), _) => format!("{}: {why}", self.name),
                    (error, true) => format!("the connection to {} failed: {error}", self.name),
                    (error, false) => format!("{}: {error}", self.name),
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_exchange<A: AsRef<[u8]>>(
        &mut self,
        requests: &[Vec<A>],
    ) -> Result<Vec<Frame>, ClientError> {
        if self.client.is_none() {
            // What was watched is watched no more.
            if let Some(reading) = &mut self.reading {
                reading.start_over();
            }
            self.connect().await?;
        }
        let Some(client) = &mut self.client else {
            return Ok(Vec::new());
        };
        for request in requests {
            client.push(request);
        }
        client.flush().await?;
        let mut replies = Vec::new();
        for _ in requests {
            replies.push(client.pull().await?);
        }
        Ok(replies)
    }

    /// One request, sent again while its answer is that it may work later.
    async fn patiently<A: AsRef<[u8]>>(&mut self, request: Vec<A>) -> Result<Frame, String> {
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let reply = self.exchange(std::slice::from_ref(&request)).await?.pop();
            let reply = reply.unwrap_or(Frame::Null);
            match reply.as_error() {
                Some(line) if advice(line) == Advice::Never || Instant::now() > deadline => {
                    let line = String::from_utf8_lossy(line);
                    return Err(format!("{}: {line}", self.name));
                }
                Some(_) => sleep(pause).await,
                None => return Ok(reply),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Some names; None when there are no more. A name may come more than once.
    pub(crate) async fn scan(&mut self) -> Result<Option<Vec<Bytes>>, String> {
        let Some(cursor) = self.cursor.take() else {
            return Ok(None);
        };
        let mut request = vec![Bytes::from_static(b"SCAN"), cursor];
        let word = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        request.extend([word("COUNT"), word(SCAN_COUNT)]);
        if let Some(pattern) = &self.pattern {
            request.extend([word("MATCH"), word(pattern)]);
        }
        let reply = self.patiently(request).await?;
        let wrong = || format!("{}: SCAN was answered with something else", self.name);
        let Some([next, names]) = reply.as_values() else {
            return Err(wrong());
        };
        let next = next.as_bytes().ok_or_else(wrong)?;
        let names = names.as_values().ok_or_else(wrong)?;
        self.cursor = Some(next.clone()).filter(|next| &next[..] != b"0");
        Ok(Some(
            names
                .iter()
                .filter_map(|name| name.as_bytes().cloned())
                .collect(),
        ))
    }

    /// What these hold is wanted.
    pub(crate) async fn ask(&mut self, keys: Vec<Bytes>) -> Result<(), String> {
        let mut requests = Vec::new();
        for key in &keys {
            requests.push(vec![&b"TYPE"[..], key]);
            requests.push(vec![&b"MEMORY"[..], b"USAGE", key]);
        }
        let replies = self.exchange(&requests).await?;
        let pairs = replies.chunks(2).filter(|pair| pair.len() == 2);
        let facts = pairs.map(|pair| match pair[0].as_error() {
            // Its value is asked for all the same, and says what is wrong.
            Some(_) => Facts::Small(live::LARGE_BYTES),
            None => live::facts(&pair[0], &pair[1]),
        });
        self.wanted.extend(keys.iter().cloned().zip(facts));
        Ok(())
    }

    /// The next of the keys that were asked for; None when there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<(Bytes, Found)>, String> {
        if self.reading.take().is_some() {
            // What was watched would otherwise end the next transaction.
            self.exchange(&[words(&["UNWATCH"])]).await?;
        }
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        while self.found.is_empty() {
            if self.wanted.is_empty() {
                return Ok(None);
            }
            let is_late = Instant::now() > deadline;
            if self.wave(is_late).await? {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        let next = self.found.pop_front();
        if let Some((key, Found::Large)) = &next {
            self.reading = Some(large::Reading::new(key.clone()));
        }
        Ok(next)
    }

    /// Asks for some values. True if some are to be asked for again, after a while; not if it
    /// `is_late`.
    async fn wave(&mut self, is_late: bool) -> Result<bool, String> {
        let mut groups: Vec<Vec<(Bytes, u64)>> = Vec::new();
        let (mut bytes, mut group_bytes) = (0, 0);
        while bytes < WAVE_BYTES {
            let Some((key, facts)) = self.wanted.pop_front() else {
                break;
            };
            let size = match facts {
                Facts::Small(size) => size,
                Facts::Gone => {
                    self.found.push_back((key, Found::Gone));
                    continue;
                }
                Facts::Other(name) => {
                    self.found.push_back((key, Found::Other(name)));
                    continue;
                }
                Facts::LargeHash(_) => {
                    self.found.push_back((key, Found::Large));
                    continue;
                }
            };
            bytes += size;
            match groups.last_mut() {
                Some(group) if group.len() < self.together && group_bytes + size <= GROUP_BYTES => {
                    group_bytes += size;
                    group.push((key, size));
                }
                _ => {
                    group_bytes = size;
                    groups.push(vec![(key, size)]);
                }
            }
        }
        let expiry: &[u8] = if self.has_expiretime {
            b"PEXPIRETIME"
        } else {
            b"PTTL"
        };
        let mut requests: Vec<Vec<&[u8]>> = Vec::new();
        for group in &groups {
            requests.push(vec![b"MULTI"]);
            if !self.has_expiretime {
                requests.push(vec![b"TIME"]);
            }
            for (key, _) in group {
                requests.push(vec![expiry, key]);
                requests.push(vec![b"DUMP", key]);
            }
            requests.push(vec![b"EXEC"]);
        }
        let mut replies = self.exchange(&requests).await?.into_iter();
        let mut is_again = false;
        for group in groups {
            let queued = 1 + usize::from(!self.has_expiretime) + 2 * group.len();
            let queued: Vec<Frame> = replies.by_ref().take(queued).collect();
            let done = replies.next().unwrap_or(Frame::Null);
            // The first error says why, that of EXEC only that there was one.
            let error = queued.iter().chain([&done]).find_map(Frame::as_error);
            match (error, done.as_values()) {
                (None, Some(values)) => self.take(&group, values),
                (error, _) => is_again |= self.refused(group, error.cloned(), is_late),
            }
        }
        Ok(is_again)
    }

    /// What a transaction said of the keys of `group`.
    fn take(&mut self, group: &[(Bytes, u64)], values: &[Frame]) {
        let (time, values) = match self.has_expiretime {
            true => (None, values),
            false => match values.split_first() {
                Some((time, values)) => (live::time_ms(time), values),
                None => (None, values),
            },
        };
        let pairs = values.chunks(2).filter(|pair| pair.len() == 2);
        for ((key, _), pair) in group.iter().zip(pairs) {
            let expires = match time {
                Some(now) => live::expires_after(&pair[0], now),
                None => live::expires_ms(&pair[0]),
            };
            let held = match expires {
                Ok(at) => live::held(&pair[1], at, self.expiring),
                Err(held) => held,
            };
            let found = match held {
                Held::Value(value, at) => Found::Value(value, at),
                Held::Gone => Found::Gone,
                Held::Other(name) => Found::Other(name.to_owned()),
                Held::Failed(_) if pair[1].as_error().is_some_and(live::is_too_much) => {
                    Found::Large
                }
                Held::Failed(why) => Found::Failed(why),
            };
            self.found.push_back((key.clone(), found));
        }
    }

    /// A transaction was refused. True if it is worth a second try after a while.
    fn refused(&mut self, group: Vec<(Bytes, u64)>, error: Option<Bytes>, is_late: bool) -> bool {
        let error = error.unwrap_or_else(|| Bytes::from_static(b"ERR no sensible answer"));
        let is_again = advice(&error) != Advice::Never && !is_late;
        // Together they are too much, or in several slots: one by one it will show which are.
        let is_split = group.len() > 1;
        if is_split {
            self.together = 1;
        }
        for (key, size) in group.into_iter().rev() {
            if is_again || is_split {
                self.wanted.push_front((key, Facts::Small(size)));
            } else if live::is_too_much(&error) {
                self.found.push_back((key, Found::Large));
            } else {
                let why = format!("the source says {}", String::from_utf8_lossy(&error));
                self.found.push_back((key, Found::Failed(why)));
            }
        }
        is_again
    }
}
