//! Clients whose keys expire.
//!
//! Nobody knows from outside when a key's time is over: that is the shard's own time, and the
//! clocks of machines are off, step and drift. But each client writes keys of its own and asks
//! for them in one session, so whatever the clocks do:
//!
//! | once this was answered | this is wrong |
//! |---|---|
//! | the key is gone: `GET` nil, `PEXPIRE` or `PERSIST` 0 | that it is there |
//! | `PERSIST` 1 | that it is gone |
//!
//! Reads are answered by any replica, `PEXPIRE` and `PERSIST` by the primary: a replica that
//! judges by a clock of its own is found out by the primary.

use crate::{client::is_refusal, random::Random};
use bytes::Bytes;
use resp::Frame;

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
    sent: Option<Ask>,
}

impl ExpiryClient {
    pub(crate) fn new(name: String) -> Self {
        ExpiryClient {
            name,
            keys: 0,
            known: Known::Nothing,
            looks: 0,
            sent: None,
        }
    }

    pub(crate) fn waits_for(&self) -> usize {
        self.sent.iter().count()
    }

    pub(crate) fn next_command(&mut self, random: &mut Random) -> Vec<Bytes> {
        if matches!(self.known, Known::Gone | Known::Stays) && self.looks >= LOOKS {
            self.known = Known::Nothing;
        }
        let ms = random.between(100, 2500);
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
        self.sent = Some(ask);
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

    /// The answer. Err: what is wrong with it.
    pub(crate) fn answered(&mut self, reply: &Frame) -> Result<(), String> {
        let Some(ask) = self.sent.take() else {
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
        client.sent = Some(ask);
        client.answered(&reply)
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
}
