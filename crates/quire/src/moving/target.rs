//! Writing to a cluster: [`transfer::writer`] says what is sent when, this sends it.
//!
//! Two connections: values go through one, in a pipeline; questions whether keys are there
//! already through the other, so that they need not wait for values. A node that is lost is
//! replaced by the next one of the cluster.

use crate::{
    client::{CONNECT_TIMEOUT, Client, ClientError, refusal},
    moving::Keyspace,
};
use bytes::Bytes;
use commands::rdb::{self, Value};
use resp::Frame;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use transfer::{
    Report, UNFINISHED_MS,
    rdb::{PART_BYTES, PART_FIELDS},
    script,
    writer::{Advice, Request, Writer, advice},
};

/// Bytes that are gathered before they are sent.
const SEND_BYTES: usize = 64 * 1024;
/// How often it is looked for when a key expires that is said to be there, and isn't.
const LOOKS_MAX: u32 = 100;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where values go.
pub(crate) struct Target {
    values: Link,
    questions: Link,
    writer: Writer,
    replace: bool,
    /// Everything is read, nothing written.
    is_trial: bool,
    patience: Duration,
    began: Instant,
    /// Of the large hash that is being written: its fields' bytes.
    hash_bytes: u64,
    pub(crate) report: Report,
}

/// How to write.
pub(crate) struct Options {
    pub(crate) replace: bool,
    pub(crate) is_trial: bool,
    pub(crate) patience: Duration,
}

/// A connection to some node of a cluster.
struct Link {
    /// The first of its addresses is the one to connect to.
    keyspace: Keyspace,
    client: Option<Client>,
}

impl Link {
    async fn client(&mut self) -> Result<&mut Client, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let addr = self.keyspace.addrs.first().map_or("", String::as_str);
                self.keyspace.connect(addr, CONNECT_TIMEOUT).await?
            }
        };
        Ok(self.client.insert(client))
    }

    /// The connection is of no use: the next one is to the next node. False if there was none.
    fn lose(&mut self) -> bool {
        self.keyspace.addrs.rotate_left(1);
        self.client.take().is_some()
    }
}

/// Whether a second try would be refused like the first.
pub(crate) fn is_final(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(why) if advice(why.as_bytes()) == Advice::Never)
}

impl Target {
    /// Connects, so that a wrong address or keyspace is said at once.
    pub(crate) async fn connect(keyspace: Keyspace, options: Options) -> Result<Self, ClientError> {
        let link = || Link {
            keyspace: keyspace.clone(),
            client: None,
        };
        let patience_ms = u64::try_from(options.patience.as_millis()).unwrap_or(u64::MAX);
        let mut target = Target {
            values: link(),
            questions: link(),
            writer: Writer::new(options.replace, patience_ms),
            replace: options.replace,
            is_trial: options.is_trial,
            patience: options.patience,
            began: Instant::now(),
            hash_bytes: 0,
            report: Report::default(),
        };
        target.values.client().await?;
        Ok(target)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends what may be sent, and waits for something to come of it. `left` requests may be
    /// left without an answer.
    async fn turn(&mut self, left: usize) -> Result<(), String> {
        let now = self.now_ms();
        if self.writer.is_stalled(now) {
            return Err(format!(
                "nothing was taken for {:?}: quire status and quire events say why; then start this again",
                self.patience
            ));
        }
        let pause_ms = self.writer.pause_ms(now);
        if self.values.client.is_none() && pause_ms > 0 {
            sleep(Duration::from_millis(pause_ms)).await;
        }
        match self.exchange(left).await {
            Ok(true) => {}
            Ok(false) => sleep(Duration::from_millis(pause_ms.max(1))).await,
            Err(error) if is_final(&error) => return Err(error.to_string()),
            Err(_) => self.lost(),
        }
        Ok(())
    }

    fn lost(&mut self) {
        self.report.reconnects += u64::from(self.values.lose());
        self.writer.lost(self.now_ms(), &mut self.report);
    }

    /// False if there was nothing that could be sent or waited for.
    async fn exchange(&mut self, left: usize) -> Result<bool, ClientError> {
        self.send(0).await?;
        if self.writer.in_flight() == 0 {
            return Ok(false);
        }
        let client = self.values.client().await?;
        loop {
            let reply = client.pull().await?;
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.writer.reply(&reply, now, &mut self.report);
            if self.writer.in_flight() <= left {
                return Ok(true);
            }
        }
    }

    /// Sends what may be sent, if it comes to so many bytes.
    async fn send(&mut self, enough: usize) -> Result<(), ClientError> {
        let now = self.now_ms();
        let client = self.values.client().await?;
        while self.writer.next(now, client.pipeline()) {
            if client.unsent() >= SEND_BYTES {
                client.flush().await?;
            }
        }
        if client.unsent() > enough {
            client.flush().await?;
        }
        Ok(())
    }

    async fn submit(&mut self, request: Request) -> Result<(), String> {
        while !self.writer.has_room() {
            // By half, so that the node has work while the source is read.
            self.turn(self.writer.in_flight() / 2).await?;
        }
        let now = self.now_ms();
        self.writer.submit(request, now);
        if self.send(SEND_BYTES).await.is_err() {
            self.lost();
        }
        Ok(())
    }

    /// Waits until everything is answered.
    pub(crate) async fn drain(&mut self) -> Result<(), String> {
        while !self.writer.is_idle() {
            self.turn(0).await?;
        }
        Ok(())
    }

    /// Of `keys`, those that are worth reading: all, unless what is there stays.
    pub(crate) async fn wanted(&mut self, keys: Vec<Bytes>) -> Vec<Bytes> {
        if self.replace || self.is_trial {
            return keys;
        }
        match self.times(&keys).await {
            Ok(times) => {
                let unfinished = i64::try_from(UNFINISHED_MS).unwrap_or(i64::MAX);
                let is_wanted =
                    |time: &Option<i64>| time.is_none_or(|t| t == -2 || t == unfinished);
                let before = keys.len();
                let pairs = keys.into_iter().zip(times);
                let wanted = pairs
                    .filter(|(_, time)| is_wanted(time))
                    .map(|(key, _)| key);
                let wanted: Vec<Bytes> = wanted.collect();
                self.report.existing += (before - wanted.len()) as u64;
                wanted
            }
            // Then each says so when it is written.
            Err(_) => {
                self.questions.lose();
                keys
            }
        }
    }

    async fn times(&mut self, keys: &[Bytes]) -> Result<Vec<Option<i64>>, ClientError> {
        let client = self.questions.client().await?;
        for key in keys {
            client.push(&[&b"PEXPIRETIME"[..], key]);
        }
        client.flush().await?;
        let mut times = Vec::new();
        for _ in keys {
            times.push(client.pull().await?.as_integer());
        }
        Ok(times)
    }

    /// All of a key.
    pub(crate) async fn put(
        &mut self,
        key: Bytes,
        value: Value,
        expires_ms: Option<u64>,
    ) -> Result<(), String> {
        let fields = match value {
            Value::Hash(fields) if is_large(&fields) => fields,
            value if self.is_trial => {
                let (kind, bytes) = size(&value);
                self.report.done(kind, bytes + key.len() as u64);
                return Ok(());
            }
            value => return self.submit(Request::value(key, &value, expires_ms)).await,
        };
        let mut is_begun = false;
        for part in script::parts(&fields) {
            if is_begun {
                self.add(&key, part.to_vec()).await?;
            } else if !self.begin(&key, part.to_vec()).await? {
                return Ok(());
            } else {
                is_begun = true;
            }
        }
        self.end(key, fields.len() as u64, expires_ms).await
    }

    /// The first fields of a large hash. False if the others are not wanted.
    pub(crate) async fn begin(
        &mut self,
        key: &Bytes,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<bool, String> {
        self.hash_bytes = bytes_of(&fields);
        if self.is_trial {
            return Ok(true);
        }
        self.drain().await?;
        self.writer.take_refused();
        let payload = rdb::hash(fields).map(|value| rdb::encode(&value));
        let Some(payload) = payload else {
            self.report
                .fail("a large hash with a field that comes twice", key);
            return Ok(false);
        };
        let unfinished = UNFINISHED_MS.to_string();
        let restore: [&[u8]; 6] = [
            b"RESTORE",
            key,
            unfinished.as_bytes(),
            &payload,
            b"ABSTTL",
            b"REPLACE",
        ];
        let first = if self.replace { 6 } else { 5 };
        let mut reply = self.call(&restore[..first]).await?;
        let is_there = |reply: &Frame| {
            let line = reply.as_error();
            line.is_some_and(|line| line.starts_with(b"BUSYKEY"))
        };
        let mut looks = 0;
        while is_there(&reply) {
            let there = self.call(&[b"PEXPIRETIME", key]).await?.as_integer();
            if there == i64::try_from(UNFINISHED_MS).ok() {
                // An import that was interrupted, or this one, has begun it.
                reply = self.call(&restore).await?;
            } else if there == Some(-2) && looks < LOOKS_MAX {
                // It came so lately that it is not in the copy that was asked.
                sleep(PAUSE_MIN).await;
                looks += 1;
                reply = self.call(&restore[..first]).await?;
            } else {
                self.report.existing += 1;
                return Ok(false);
            }
        }
        if let Some(why) = refusal(&reply) {
            self.report.fail(&why, key);
            return Ok(false);
        }
        Ok(true)
    }

    /// More fields of it.
    pub(crate) async fn add(
        &mut self,
        key: &Bytes,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<(), String> {
        self.hash_bytes += bytes_of(&fields);
        if self.is_trial || fields.is_empty() {
            return Ok(());
        }
        self.submit(Request::fields(key.clone(), fields)).await
    }

    /// It has so many fields: if that is so, it gets its time.
    pub(crate) async fn end(
        &mut self,
        key: Bytes,
        fields: u64,
        expires_ms: Option<u64>,
    ) -> Result<(), String> {
        if self.is_trial {
            self.report.done("hash", self.hash_bytes);
            return Ok(());
        }
        self.drain().await?;
        if let Some(why) = self.writer.take_refused() {
            return self.abandon(&key, &why).await;
        }
        let length = self.call(&[b"HLEN", &key]).await?.as_integer();
        let time = self.call(&[b"PEXPIRETIME", &key]).await?.as_integer();
        let is_as_written =
            length == i64::try_from(fields).ok() && time == i64::try_from(UNFINISHED_MS).ok();
        if !is_as_written {
            // It is somebody else's now.
            self.report.fail("a large hash that something else wrote to while it was imported, or with a field that comes twice", &key);
            return Ok(());
        }
        let at = expires_ms.unwrap_or(0).to_string();
        let done = match expires_ms {
            Some(_) => self.call(&[b"PEXPIREAT", &key, at.as_bytes()]).await?,
            None => self.call(&[b"PERSIST", &key]).await?,
        };
        match refusal(&done) {
            Some(why) => self.report.fail(&why, &key),
            None => self.report.done("hash", self.hash_bytes),
        }
        Ok(())
    }

    /// What there is of it goes again.
    pub(crate) async fn abandon(&mut self, key: &Bytes, why: &str) -> Result<(), String> {
        self.remove(key).await?;
        self.report.fail(why, key);
        Ok(())
    }

    /// Removes a large hash that was begun.
    pub(crate) async fn remove(&mut self, key: &Bytes) -> Result<(), String> {
        if !self.is_trial {
            self.drain().await?;
            self.call(&[b"DEL", key]).await?;
        }
        Ok(())
    }

    /// One request through the connection of values, when nothing else is on its way there: it
    /// may be sent again.
    async fn call(&mut self, request: &[&[u8]]) -> Result<Frame, String> {
        let deadline = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let why = match self.try_call(request).await {
                Ok(reply) => match reply.as_error() {
                    Some(line) if advice(line) != Advice::Never => {
                        String::from_utf8_lossy(line).into_owned()
                    }
                    _ => return Ok(reply),
                },
                Err(error) => {
                    self.report.reconnects += u64::from(self.values.lose());
                    if is_final(&error) {
                        return Err(error.to_string());
                    }
                    error.to_string()
                }
            };
            if Instant::now() > deadline {
                return Err(format!("nothing was taken for {:?}: {why}", self.patience));
            }
            self.report.retries += 1;
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_call(&mut self, request: &[&[u8]]) -> Result<Frame, ClientError> {
        let client = self.values.client().await?;
        client.push(request);
        client.flush().await?;
        client.pull().await
    }
}

fn bytes_of(fields: &[(Bytes, Bytes)]) -> u64 {
    fields.iter().map(|(f, v)| (f.len() + v.len()) as u64).sum()
}

fn is_large(fields: &[(Bytes, Bytes)]) -> bool {
    fields.len() > PART_FIELDS || (fields.len() > 1 && bytes_of(fields) > PART_BYTES)
}

fn size(value: &Value) -> (&'static str, u64) {
    match value {
        Value::String(value) => ("string", value.len() as u64),
        Value::Hash(fields) => ("hash", bytes_of(fields)),
    }
}
