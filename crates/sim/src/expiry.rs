//! Clients whose keys expire.
//!
//! Nobody knows from outside exactly when a key's time is over: that is the shard's own time, and
//! the clocks of machines are off, step and drift. But each client writes keys of its own and asks
//! for them in one session, so whatever the clocks do:
//!
//! | once this was answered | this is wrong |
//! |---|---|
//! | the key is gone: `GET` nil, `PEXPIRE` or `PERSIST` 0 | that it is there |
//! | `PERSIST` 1 | that it is gone |
//!
//! And while most wall clocks are right, the key goes within [`OFF_MAX`] of its time, however far
//! off the others are: nobody finds it gone before, and its primary not there afterwards.
//!
//! Reads are answered by any replica, `PEXPIRE` and `PERSIST` by the primary: a replica that
//! judges by a clock of its own is found out by the primary.

use crate::{client::is_refusal, random::Random};
use bytes::Bytes;
use resp::Frame;
use std::time::Duration;

/// By how much more or less a key may live than it was to. Clocks are off by some, and run
/// faster or slower; what a node makes of all of them is off by more, on slow links.
const OFF_MAX: Duration = Duration::from_secs(5);

/// Answers about a key that is gone, or was made to stay, until another takes its place.
const LOOKS: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Set(u64),
    Get,
    Extend(u64),
    Persist,
}

/// What is known of the present key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Expires,
    Gone,
    Stays,
}

/// One client, and its session.
#[derive(Debug)]
pub(crate) struct ExpiryClient {
    name: String,
    keys: u64,
    known: Known,
    /// Answers since that was known.
    looks: u64,
    sent: Option<(Ask, Duration)>,
    /// When the key is to go, at the earliest and at the latest, in the world's time.
    goes: Option<(Duration, Duration)>,
}

impl ExpiryClient {
    pub(crate) fn new(name: String) -> Self {
        ExpiryClient {
            name,
            keys: 0,
            known: Known::Nothing,
            looks: 0,
            sent: None,
            goes: None,
        }
    }

    pub(crate) fn waits_for(&self) -> usize {
        self.sent.iter().count()
    }

    pub(crate) fn next_command(&mut self, random: &mut Random, now: Duration) -> Vec<Bytes> {
        if matches!(self.known, Known::Gone | Known::Stays) && self.looks >= LOOKS {
            self.known = Known::Nothing;
        }
        let ms = match random.below(5) {
            0 => random.between(7000, 15_000),
            _ => random.between(100, 2500),
        };
        let ask = match (self.known, random.below(16)) {
            (Known::Nothing, _) => {
                self.keys += 1;
                Ask::Set(ms)
            }
            (Known::Gone, 0..=7) => Ask::Extend(ms),
            (Known::Gone, 8) => Ask::Persist,
            (Known::Expires, 0) => Ask::Extend(ms),
            (Known::Expires, 1) if random.once_in(3) => Ask::Persist,
            _ => Ask::Get,
        };
        self.sent = Some((ask, now));
        self.words(ask)
    }

    fn words(&self, ask: Ask) -> Vec<Bytes> {
        let key = Bytes::from(format!("brief:{}:{}", self.name, self.keys));
        let number = |n: u64| Bytes::from(n.to_string());
        match ask {
            Ask::Set(ms) => vec!["SET".into(), key, "there".into(), "PX".into(), number(ms)],
            Ask::Get => vec!["GET".into(), key],
            Ask::Extend(ms) => vec!["PEXPIRE".into(), key, number(ms)],
            Ask::Persist => vec!["PERSIST".into(), key],
        }
    }

    /// The answer. Err: what is wrong with it. `right`: most clocks have been right all along.
    pub(crate) fn answered(
        &mut self,
        reply: &Frame,
        now: Duration,
        right: bool,
    ) -> Result<(), String> {
        let Some((ask, sent)) = self.sent.take() else {
            return Err(format!("{}: a reply that nobody waits for", self.name));
        };
        let wrong = |what: &str| {
            let (name, n) = (&self.name, self.keys);
            Err(format!(
                "brief:{name}:{n}: {ask:?} was answered {reply:?}: {what}"
            ))
        };
        if let Some(line) = reply.as_error() {
            let line = String::from_utf8_lossy(line);
            if !is_refusal(&line) && !line.starts_with("UNKNOWN") {
                return wrong("an error that it must not be");
            }
            if ask != Ask::Get || line.starts_with("SESSIONLOST") {
                self.known = Known::Nothing;
            }
            return Ok(());
        }
        let there = !matches!(reply, Frame::Null | Frame::Integer(0));
        if let Some((earliest, latest)) = self.goes
            && self.known == Known::Expires
            && right
        {
            if !there && now + OFF_MAX < earliest {
                return wrong("its time is not over yet");
            }
            // What a replica shows may be old.
            if there && matches!(ask, Ask::Extend(_) | Ask::Persist) && sent > latest + OFF_MAX {
                return wrong("its time is over");
            }
        }
        if let Ask::Set(ms) | Ask::Extend(ms) = ask
            && there
        {
            let life = Duration::from_millis(ms);
            self.goes = Some((sent + life, now + life));
        }
        let known = match (self.known, ask, there) {
            (Known::Gone, _, true) => return wrong("it was gone"),
            // It was persisted, so PERSIST changes nothing.
            (Known::Stays, Ask::Get | Ask::Extend(_), false) => return wrong("it was to stay"),
            (Known::Stays, _, _) => Known::Stays,
            (_, Ask::Set(_), _) => Known::Expires,
            (_, _, false) => Known::Gone,
            (_, Ask::Persist, true) => Known::Stays,
            (known, _, true) => known,
        };
        self.looks = if known == self.known {
            self.looks + 1
        } else {
            0
        };
        self.known = known;
        Ok(())
    }

    pub(crate) fn disconnected(&mut self) {
        self.sent = None;
        self.known = Known::Nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(client: &mut ExpiryClient, ask: Ask, reply: Frame) -> Result<(), String> {
        client.sent = Some((ask, Duration::ZERO));
        client.answered(&reply, Duration::ZERO, true)
    }

    #[test]
    fn what_was_gone_does_not_come_back() {
        let mut c = ExpiryClient::new("c".into());
        let there = || Frame::Bulk("there".into());
        answer(&mut c, Ask::Set(100), Frame::Simple("OK".into())).unwrap();
        answer(&mut c, Ask::Get, there()).unwrap();
        answer(&mut c, Ask::Get, Frame::Null).unwrap();
        answer(&mut c, Ask::Extend(5), Frame::Integer(0)).unwrap();
        answer(&mut c, Ask::Extend(5), Frame::Integer(1)).unwrap_err();
        answer(&mut c, Ask::Get, there()).unwrap_err();
        // Another session knows nothing of it.
        c.disconnected();
        answer(&mut c, Ask::Get, there()).unwrap();
    }

    #[test]
    fn what_was_to_stay_stays() {
        let mut c = ExpiryClient::new("c".into());
        answer(&mut c, Ask::Set(100), Frame::Simple("OK".into())).unwrap();
        answer(&mut c, Ask::Persist, Frame::Integer(1)).unwrap();
        answer(&mut c, Ask::Get, Frame::Bulk("there".into())).unwrap();
        answer(&mut c, Ask::Get, Frame::Null).unwrap_err();
    }

    #[test]
    fn a_key_goes_in_time_unless_the_clocks_are_wrong() {
        let s = Duration::from_secs;
        let ok = || Frame::Simple("OK".into());
        let at = |ask, sent, now, reply, right| {
            let mut c = ExpiryClient::new("c".into());
            answer(&mut c, Ask::Set(10_000), ok()).unwrap();
            c.sent = Some((ask, s(sent)));
            c.answered(&reply, s(now), right)
        };
        at(Ask::Get, 1, 2, Frame::Null, true).unwrap_err();
        at(Ask::Get, 1, 2, Frame::Null, false).unwrap();
        at(Ask::Get, 1, 6, Frame::Null, true).unwrap();
        at(Ask::Get, 20, 20, ok(), true).unwrap();
        at(Ask::Extend(1), 14, 20, Frame::Integer(1), true).unwrap();
        at(Ask::Extend(1), 16, 20, Frame::Integer(1), true).unwrap_err();
        at(Ask::Persist, 16, 20, Frame::Integer(1), true).unwrap_err();
    }
}
