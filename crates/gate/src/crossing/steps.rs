//! The steps of one COPY or MOVE to another shard: what is asked of which shard next, given what
//! they have answered. Knows of no node; see [`crossing`](super).

use crate::reply::why_unknown;
use bytes::Bytes;
use model::{Epoch, KeyspaceId, Position};
use resp::Frame;
use shards::carried::Carried;

/// How often the source is looked at before a command that finds it changed gives up.
pub(crate) const LOOKS_MAX: u32 = 8;

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// The command.
    pub(super) name: &'static str,
    /// Whether the source goes.
    pub(super) moves: bool,
    pub(super) source: Bytes,
    pub(super) destination: Bytes,
    /// Whether what is at the destination goes.
    pub(super) replace: bool,
    /// The keyspaces of the two, for errors.
    pub(super) here: KeyspaceId,
    pub(super) there: KeyspaceId,
}

/// Which shard is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Source,
    Destination,
}

/// A command for one of the two shards.
#[derive(Debug)]
pub(super) struct Ask {
    /// By which number it is to be answered.
    pub(super) part: usize,
    pub(super) at: At,
    pub(super) args: Vec<Bytes>,
}

/// What follows an answer.
#[derive(Debug)]
pub(super) enum Next {
    /// Another answer.
    Wait,
    Ask(Vec<Ask>),
    Done(Reply),
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Integer(i64),
    Error(String),
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    WatchSource,
    Read,
    WatchDestination,
    Put,
    Delete,
    TakeBack,
}

/// What the source held, and as of where.
#[derive(Debug)]
struct Found {
    value: Option<Value>,
    at: Position,
}

#[derive(Debug)]
struct Value {
    /// As DUMP writes it.
    payload: Bytes,
    /// As PEXPIRETIME says it.
    expires: i64,
}

/// What the destination has got.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// The entry that put it there.
    at: Position,
    /// In which epoch of the source it was read.
    epoch: Epoch,
}

/// What it does once the destination is as it was before.
#[derive(Debug)]
struct After {
    /// The answer then.
    taken_back: Reply,
    /// And if somebody else has changed the destination.
    kept: Reply,
}

/// How far it is.
#[derive(Debug)]
pub(super) struct Steps {
    plan: Plan,
    /// Everything that was asked so far, by its number.
    asked: Vec<Question>,
    /// How many of these are not answered.
    open: usize,
    looks: u32,
    // Of the present look:
    watched: Position,
    found: Option<Found>,
    error: Option<String>,
    /// The epoch in which what is put now was read, and its bytes.
    epoch: Epoch,
    carries: usize,
    placed: Option<Placed>,
    /// Why the source will not be deleted: the present look is the last.
    refused: Option<String>,
    after: Option<After>,
}

impl Steps {
    pub(super) fn begin(plan: Plan) -> (Steps, Vec<Ask>) {
        let mut steps = Steps {
            plan,
            asked: Vec::new(),
            open: 0,
            looks: 0,
            watched: Position::ZERO,
            found: None,
            error: None,
            epoch: Epoch(0),
            carries: 0,
            placed: None,
            refused: None,
            after: None,
        };
        let asks = steps.look();
        (steps, asks)
    }

    /// Bytes of a value that was read and is not written yet.
    pub(super) fn carries(&self) -> usize {
        self.carries
    }

    /// Whether no shard has changed anything for it yet.
    pub(super) fn has_done_nothing(&self) -> bool {
        self.placed.is_none()
    }

    /// A shard has answered; `position`: as of where. An error is its line.
    pub(super) fn answered(
        &mut self,
        part: usize,
        position: Position,
        answer: Result<Frame, String>,
    ) -> Next {
        let Some(question) = self.asked.get(part).copied() else {
            return Next::Wait;
        };
        self.open = self.open.saturating_sub(1);
        match question {
            Question::WatchSource | Question::Read | Question::WatchDestination => {
                match (question, answer.and_then(|frame| whole(question, frame))) {
                    (_, Err(line)) => drop(self.error.get_or_insert(line)),
                    (Question::WatchSource, Ok(_)) => self.watched = position,
                    (Question::Read, Ok(value)) => {
                        self.found = Some(Found {
                            value,
                            at: position,
                        });
                    }
                    _ => {}
                }
                match self.open {
                    0 => self.looked(),
                    _ => Next::Wait,
                }
            }
            Question::Put => self.put_answered(position, answer),
            Question::Delete => self.delete_answered(answer),
            Question::TakeBack => self.take_back_answered(answer),
        }
    }

    // ---- looking --------------------------------------------------------------------------

    /// The source is read at its primary, and watched there from no later moment. Both are asked at
    /// once: their order is told by the positions as of which they were answered.
    fn look(&mut self) -> Vec<Ask> {
        self.looks += 1;
        (self.watched, self.found) = (Position::ZERO, None);
        let watch = |key: &Bytes| vec![Bytes::from_static(b"WATCH"), key.clone()];
        let Plan {
            source,
            destination,
            moves,
            ..
        } = &self.plan;
        let read = Carried {
            watches: Vec::new(),
            commands: vec![
                vec![Bytes::from_static(b"DUMP"), source.clone()],
                vec![Bytes::from_static(b"PEXPIRETIME"), source.clone()],
            ],
            reads: true,
        };
        let mut asks = Vec::new();
        if *moves {
            asks.push((Question::WatchSource, At::Source, watch(source)));
        }
        asks.push((Question::Read, At::Source, read.to_args()));
        if *moves && self.looks == 1 {
            let args = watch(destination);
            asks.push((Question::WatchDestination, At::Destination, args));
        }
        let ask = |(question, at, args)| self.ask(question, at, args);
        asks.into_iter().map(ask).collect()
    }

    fn look_again(&mut self) -> Next {
        Next::Ask(self.look())
    }

    /// Everything that a look asked was answered.
    fn looked(&mut self) -> Next {
        let found = self.found.take().ok_or("ERR it was not read".to_owned());
        let found = self.error.take().map_or(found, Err);
        let Found { value, at } = match (found, self.placed) {
            (Ok(found), _) => found,
            (Err(line), Some(_)) => return Next::Done(Reply::Error(self.by_half(&line))),
            (Err(line), None) => return Next::Done(Reply::Error(self.named(&line))),
        };
        let Some(value) = value else {
            return self.source_is_gone(at.epoch);
        };
        let changed =
            self.plan.moves && (self.watched.epoch != at.epoch || self.watched.index > at.index);
        match (self.refused.take(), self.placed) {
            (Some(line), Some(_)) => self.give_up(line),
            (Some(line), None) => Next::Done(Reply::Error(line)),
            (None, _) if changed => self.changed(),
            (None, _) => self.put(value, at.epoch),
        }
    }

    /// The source was looked at and is not there.
    fn source_is_gone(&mut self, epoch: Epoch) -> Next {
        match (self.placed, self.refused.take()) {
            (None, _) => Next::Done(Reply::Integer(0)),
            // Another command deleted it, or its time was over: it comes before this one. If the
            // destination is another's by now, it comes behind.
            (Some(placed), _) if placed.epoch == epoch => {
                self.take_back(Reply::Integer(0), Reply::Integer(1))
            }
            (Some(_), Some(line)) if is_lost(&line) => {
                Next::Done(Reply::Error(self.by_half(&line)))
            }
            // A failover may have lost it: what the destination has may be all there is.
            (Some(_), _) => Next::Done(Reply::Integer(1)),
        }
    }

    /// The source was changed after it was read, or its primary can't say that it was not.
    fn changed(&mut self) -> Next {
        if self.looks < LOOKS_MAX {
            return self.look_again();
        }
        let line = format!(
            "TRYAGAIN the key was changed each of {LOOKS_MAX} times that '{}' read it: nothing was done, try again",
            self.plan.name
        );
        // Whether it is there still decides over what the destination has.
        self.refused = Some(line);
        self.look_again()
    }

    // ---- writing --------------------------------------------------------------------------

    fn put(&mut self, value: Value, epoch: Epoch) -> Next {
        self.epoch = epoch;
        self.carries = value.payload.len();
        let mut restore = vec![
            Bytes::from_static(b"RESTORE"),
            self.plan.destination.clone(),
            value.expires.max(0).to_string().into(),
            value.payload,
            Bytes::from_static(b"ABSTTL"),
        ];
        if self.plan.replace || self.placed.is_some() {
            restore.push(Bytes::from_static(b"REPLACE"));
        }
        let args = match self.placed {
            None => restore,
            Some(placed) => self.if_unchanged(&self.plan.destination, placed.at, restore),
        };
        Next::Ask(vec![self.ask(Question::Put, At::Destination, args)])
    }

    fn put_answered(&mut self, position: Position, answer: Result<Frame, String>) -> Next {
        self.carries = 0;
        let again = self.placed.is_some();
        match answer.and_then(only) {
            Ok(Frame::Null | Frame::NullArray) => Next::Done(Reply::Error(
                self.by_half("another command changed it there"),
            )),
            Ok(_) => {
                let epoch = self.epoch;
                self.placed = Some(Placed {
                    at: position,
                    epoch,
                });
                if !self.plan.moves {
                    return Next::Done(Reply::Integer(1));
                }
                let key = &self.plan.source;
                let args = self.if_unchanged(key, self.watched, delete(key));
                Next::Ask(vec![self.ask(Question::Delete, At::Source, args)])
            }
            Err(line) if !again && line.starts_with("BUSYKEY ") => Next::Done(Reply::Integer(0)),
            Err(line) if is_unknown(&line) && self.plan.moves => {
                Next::Done(Reply::Error(self.by_half(&line)))
            }
            Err(line) if again && !is_unknown(&line) => self.give_up(self.named(&line)),
            Err(line) => Next::Done(Reply::Error(self.named(&line))),
        }
    }

    fn delete_answered(&mut self, answer: Result<Frame, String>) -> Next {
        match answer {
            Ok(Frame::Null | Frame::NullArray) => self.changed(),
            Ok(_) => Next::Done(Reply::Integer(1)),
            Err(line) if is_unknown(&line) => Next::Done(Reply::Error(self.by_half(&line))),
            Err(line) => {
                self.refused = Some(self.named(&line));
                self.look_again()
            }
        }
    }

    // ---- taking back ----------------------------------------------------------------------

    /// The source stays: the destination gives back what it got.
    fn give_up(&mut self, line: String) -> Next {
        let kept = Reply::Error(self.by_half(&line));
        self.take_back(Reply::Error(line), kept)
    }

    fn take_back(&mut self, taken_back: Reply, kept: Reply) -> Next {
        let Some(placed) = self.placed else {
            return Next::Done(taken_back);
        };
        self.after = Some(After { taken_back, kept });
        let key = &self.plan.destination;
        let args = self.if_unchanged(key, placed.at, delete(key));
        Next::Ask(vec![self.ask(Question::TakeBack, At::Destination, args)])
    }

    fn take_back_answered(&mut self, answer: Result<Frame, String>) -> Next {
        Next::Done(match (answer, self.after.take()) {
            (Ok(Frame::Null | Frame::NullArray), Some(after)) => after.kept,
            (Ok(_), Some(after)) => after.taken_back,
            (Err(line), _) => Reply::Error(self.by_half(&line)),
            (Ok(_), None) => Reply::Error(self.by_half("it was not to be taken back")),
        })
    }

    // ---- words ----------------------------------------------------------------------------

    fn ask(&mut self, question: Question, at: At, args: Vec<Bytes>) -> Ask {
        self.asked.push(question);
        self.open += 1;
        let part = self.asked.len() - 1;
        Ask { part, at, args }
    }

    /// A command that does nothing if `key` may have been changed since.
    fn if_unchanged(&self, key: &Bytes, since: Position, command: Vec<Bytes>) -> Vec<Bytes> {
        let carried = Carried {
            watches: vec![(key.clone(), since)],
            commands: vec![command],
            reads: false,
        };
        carried.to_args()
    }

    /// An error of a step, as one of the whole that has done nothing.
    fn named(&self, line: &str) -> String {
        match line.split_once(' ') {
            Some(("ERR", why)) => format!("ERR '{}' was not done: {why}", self.plan.name),
            // To a write it is that.
            Some(("MASTERDOWN", why)) => format!("NOPRIMARY {why}"),
            _ => line.to_owned(),
        }
    }

    /// An error that leaves the key in both places, perhaps.
    fn by_half(&self, line: &str) -> String {
        let Plan {
            name, here, there, ..
        } = &self.plan;
        match is_lost(line) {
            true => format!(
                "{line}; '{name}' has written the key to keyspace {there}: look whether it is in keyspace {here} still"
            ),
            false => format!(
                "UNKNOWN '{name}' did not come to its end ({}): the key may be in keyspace {here} and in keyspace {there}; look in both, and delete one",
                why_unknown(line).unwrap_or(line)
            ),
        }
    }
}

fn delete(key: &Bytes) -> Vec<Bytes> {
    vec![Bytes::from_static(b"DEL"), key.clone()]
}

fn is_unknown(line: &str) -> bool {
    line.starts_with("UNKNOWN ")
}

fn is_lost(line: &str) -> bool {
    line.starts_with("SESSIONLOST ")
}

/// What the only command of a transaction answered; or what was no transaction.
fn only(frame: Frame) -> Result<Frame, String> {
    let frame = match frame {
        Frame::Array(mut replies) => replies.pop().unwrap_or(Frame::Null),
        frame => frame,
    };
    match frame.as_error() {
        Some(line) => Err(String::from_utf8_lossy(line).into_owned()),
        None => Ok(frame),
    }
}

/// What DUMP and PEXPIRETIME answered; None: it is not there, or nothing was to be read.
fn whole(question: Question, frame: Frame) -> Result<Option<Value>, String> {
    if question != Question::Read {
        return Ok(None);
    }
    let Frame::Array(replies) = frame else {
        return Err("ERR what is no transaction was answered".into());
    };
    match &replies[..] {
        [Frame::Null, _] => Ok(None),
        [Frame::Bulk(payload), Frame::Integer(expires)] => Ok(Some(Value {
            payload: payload.clone(),
            expires: *expires,
        })),
        replies => {
            let error = replies.iter().find_map(Frame::as_error);
            let error = error.map(|line| String::from_utf8_lossy(line).into_owned());
            Err(error.unwrap_or_else(|| "ERR what was read makes no sense".into()))
        }
    }
}

#[cfg(test)]
mod tests;
