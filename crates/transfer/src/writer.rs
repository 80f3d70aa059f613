//! Writing to Quire, as a state machine without sockets and clocks: which requests are sent
//! when, and what the answers mean.
//!
//! ```text
//!  submit ─▶ waiting ── next ─▶ in flight ── reply ─▶ done, existing or failed: the report
//!               ▲                   │
//!               └─── try again ◀────┴── lost (the connection)
//! ```
//!
//! - Bytes that wait or are in flight are bounded by the window. It is halved when the node says
//!   that it is too much (`BUSY`, `TRYAGAIN`) or can't (`NOPRIMARY`, …), with a pause that doubles
//!   up to [`PAUSE_MS_MAX`], and grows again with every answer that is as it should be.
//! - A request may be sent again at any time: a value goes as a whole, with its time, by RESTORE,
//!   and fields of a hash by HSET. If the first try may have been done (`UNKNOWN`, a lost
//!   connection) and the key is there at the second, its value is compared: equal means done.
//! - If nothing succeeds for the patience, [`Writer::is_stalled`]: whoever drives it gives up.

use crate::{
    report::{Report, shown},
    script,
};
use bytes::{Bytes, BytesMut};
use commands::rdb::{self, Value};
use resp::{Frame, encode_command};
use std::collections::VecDeque;

/// Bytes that wait or are in flight at most, and at least.
const WINDOW_BYTES_MAX: usize = 4 << 20;
const WINDOW_BYTES_MIN: usize = 64 << 10;
/// Requests that wait or are in flight at most.
const REQUESTS_MAX: usize = 16_384;
/// Bytes that a request takes beside those of its arguments.
const REQUEST_BYTES: usize = 64;
/// How long is waited before the second try, and at most before a later one.
const PAUSE_MS_MIN: u64 = 50;
/// See [`PAUSE_MS_MIN`].
const PAUSE_MS_MAX: u64 = 2_000;
/// How often one request is sent.
const TRIES_MAX: u32 = 100;

/// One request.
#[derive(Debug)]
pub struct Request {
    key: Bytes,
    work: Work,
    tries: u32,
    /// An earlier try may have been done.
    uncertain: bool,
}

#[derive(Debug)]
enum Work {
    Restore {
        payload: Vec<u8>,
        expires_ms: u64,
        kind: &'static str,
    },
    /// What is there instead, when a RESTORE that may have been done already met its key?
    Compare {
        payload: Vec<u8>,
        expires_ms: u64,
        kind: &'static str,
    },
    Fields(Vec<(Bytes, Bytes)>),
}

impl Request {
    /// Puts a value where nothing is, or in place of whatever is there.
    pub fn value(key: Bytes, value: &Value, expires_ms: Option<u64>) -> Self {
        let kind = match value {
            Value::String(_) => "string",
            Value::Hash(_) => "hash",
        };
        let work = Work::Restore {
            payload: rdb::encode(value),
            expires_ms: expires_ms.unwrap_or(0),
            kind,
        };
        Request::new(key, work)
    }

    /// Sets fields of a hash.
    pub fn fields(key: Bytes, fields: Vec<(Bytes, Bytes)>) -> Self {
        Request::new(key, Work::Fields(fields))
    }

    fn new(key: Bytes, work: Work) -> Self {
        Request {
            key,
            work,
            tries: 0,
            uncertain: false,
        }
    }

    fn bytes(&self) -> usize {
        let work = match &self.work {
            Work::Restore { payload, .. } | Work::Compare { payload, .. } => payload.len(),
            Work::Fields(fields) => fields.iter().map(|(f, v)| f.len() + v.len() + 16).sum(),
        };
        self.key.len() + work + REQUEST_BYTES
    }

    fn encode(&self, replace: bool, out: &mut BytesMut) {
        let key = &self.key[..];
        match &self.work {
            Work::Restore {
                payload,
                expires_ms,
                ..
            } => {
                let expires = expires_ms.to_string();
                let args = [
                    b"RESTORE",
                    key,
                    expires.as_bytes(),
                    payload,
                    b"ABSTTL",
                    b"REPLACE",
                ];
                encode_command(&args[..if replace { 6 } else { 5 }], out);
            }
            Work::Compare { .. } => encode_command([&b"DUMP"[..], key], out),
            Work::Fields(fields) => script::hset(&self.key, fields, out),
        }
    }
}

/// What an error that a node answers asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It was not done; later it may be.
    Again,
    /// It may have been done.
    Unsure,
    /// It never will be.
    Never,
}

/// What to do about the error `line`.
pub fn advice(line: &[u8]) -> Advice {
    let code = line.split(|byte| *byte == b' ').next().unwrap_or(line);
    match code {
        b"NOPRIMARY" | b"TRYAGAIN" | b"BUSY" | b"MISCONF" | b"MASTERDOWN" | b"LOADING" => {
            Advice::Again
        }
        b"UNKNOWN" | b"SESSIONLOST" => Advice::Unsure,
        // Of one connection more than there may be.
        b"ERR" if line.starts_with(b"ERR max number of clients") => Advice::Again,
        _ => Advice::Never,
    }
}

/// The requests of one import.
#[derive(Debug)]
pub struct Writer {
    replace: bool,
    patience_ms: u64,
    window_bytes: usize,
    waiting: VecDeque<Request>,
    in_flight: VecDeque<Request>,
    /// Of both.
    bytes: usize,
    flight_bytes: usize,
    pause_ms: u64,
    /// Nothing is sent before.
    not_before_ms: u64,
    /// When something succeeded last, or there was nothing to do.
    progress_ms: u64,
    /// Fields of a hash that were refused for good.
    refused: Option<String>,
}

impl Writer {
    /// With `replace`, keys that are there are overwritten. It gives up when nothing succeeds
    /// for `patience_ms`.
    pub fn new(replace: bool, patience_ms: u64) -> Self {
        Writer {
            replace,
            patience_ms,
            window_bytes: WINDOW_BYTES_MAX / 4,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes: 0,
            flight_bytes: 0,
            pause_ms: 0,
            not_before_ms: 0,
            progress_ms: 0,
            refused: None,
        }
    }

    /// Whether another request may be submitted.
    pub fn has_room(&self) -> bool {
        self.bytes < self.window_bytes && self.waiting.len() + self.in_flight.len() < REQUESTS_MAX
    }

    /// Whether all that was submitted has been answered.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Requests that were sent and not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the patience is at an end.
    pub fn is_stalled(&self, now_ms: u64) -> bool {
        !self.is_idle() && now_ms.saturating_sub(self.progress_ms) > self.patience_ms
    }

    /// How long nothing may be sent.
    pub fn pause_ms(&self, now_ms: u64) -> u64 {
        self.not_before_ms.saturating_sub(now_ms)
    }

    /// Whether fields of a hash were refused for good since this was asked last, and why.
    pub fn take_refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// Takes a request, whether or not there is room.
    pub fn submit(&mut self, request: Request, now_ms: u64) {
        if self.is_idle() {
            self.progress_ms = now_ms;
        }
        self.bytes += request.bytes();
        self.waiting.push_back(request);
    }

    /// Writes the next request that may be sent now at the end of `out`.
    pub fn next(&mut self, now_ms: u64, out: &mut BytesMut) -> bool {
        let is_full = self.flight_bytes >= self.window_bytes;
        if now_ms < self.not_before_ms || (is_full && !self.in_flight.is_empty()) {
            return false;
        }
        let Some(mut request) = self.waiting.pop_front() else {
            return false;
        };
        request.encode(self.replace, out);
        request.tries += 1;
        self.flight_bytes += request.bytes();
        self.in_flight.push_back(request);
        true
    }

    /// The answer to the request that has been in flight longest. False if there is none.
    pub fn reply(&mut self, reply: &Frame, now_ms: u64, report: &mut Report) -> bool {
        let Some(mut request) = self.in_flight.pop_front() else {
            return false;
        };
        self.flight_bytes -= request.bytes();
        let Some(line) = reply.as_error() else {
            self.progress_ms = now_ms;
            self.pause_ms = 0;
            self.window_bytes = (self.window_bytes + request.bytes()).min(WINDOW_BYTES_MAX);
            self.finish(request, reply, now_ms, report);
            return true;
        };
        let advice = advice(line);
        if advice != Advice::Never {
            request.uncertain |= advice == Advice::Unsure;
            if request.tries < TRIES_MAX {
                self.slow_down(now_ms);
                report.retries += 1;
                self.waiting.push_back(request);
                return true;
            }
        }
        self.progress_ms = now_ms;
        self.bytes -= request.bytes();
        match request.work {
            Work::Restore {
                payload,
                expires_ms,
                kind,
            } if line.starts_with(b"BUSYKEY") => {
                if request.uncertain {
                    request.work = Work::Compare {
                        payload,
                        expires_ms,
                        kind,
                    };
                    self.submit(request, now_ms);
                } else {
                    report.existing += 1;
                }
            }
            Work::Fields(_) => self.refused = Some(shown(line)),
            Work::Restore { .. } | Work::Compare { .. } => {
                report.fail(&String::from_utf8_lossy(line), &request.key);
            }
        }
        true
    }

    fn finish(&mut self, mut request: Request, reply: &Frame, now_ms: u64, report: &mut Report) {
        let bytes = request.bytes();
        self.bytes -= bytes;
        match request.work {
            Work::Restore { kind, .. } => report.done(kind, bytes as u64),
            // It is gone again, or so new that it is not in the copy that was asked.
            Work::Compare {
                payload,
                expires_ms,
                kind,
            } if *reply == Frame::Null && request.tries < TRIES_MAX => {
                request.work = Work::Restore {
                    payload,
                    expires_ms,
                    kind,
                };
                report.retries += 1;
                self.slow_down(now_ms);
                self.submit(request, now_ms);
            }
            Work::Compare { payload, kind, .. } => {
                let there = reply.as_bytes().and_then(|there| rdb::decode(there).ok());
                if there.is_some() && there == rdb::decode(&payload).ok() {
                    report.done(kind, bytes as u64);
                } else {
                    // Somebody else wrote it meanwhile.
                    report.existing += 1;
                }
            }
            Work::Fields(_) => {}
        }
    }

    /// Once for all answers to what was sent before.
    fn slow_down(&mut self, now_ms: u64) {
        if now_ms < self.not_before_ms {
            return;
        }
        self.pause_ms = (self.pause_ms * 2).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        self.not_before_ms = now_ms + self.pause_ms;
        self.window_bytes = (self.window_bytes / 2).max(WINDOW_BYTES_MIN);
    }

    /// The connection was lost: what was in flight may have been done, and is sent again first.
    pub fn lost(&mut self, now_ms: u64, report: &mut Report) {
        self.flight_bytes = 0;
        while let Some(mut request) = self.in_flight.pop_back() {
            request.uncertain = true;
            report.retries += 1;
            self.waiting.push_front(request);
        }
        self.slow_down(now_ms);
    }
}

#[cfg(test)]
mod tests;
