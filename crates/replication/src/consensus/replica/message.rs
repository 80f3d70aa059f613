//! What the members of a shard's group say to each other: what the core says, and beside it what makes
//! a follower know how fresh it is.
//!
//! # Bytes (little-endian)
//! ```text
//! version u8 = 1, tag u8, from u64, to u64, then what is told beside it:
//! term u64, clock u64, process u64, echo u64, echo of process u64, time_ms u64, commit u64,
//! floor u64, then
//! 1 append  term u64, after term u64, after index u64, commit u64, entries (see model::entry) to the
//!           end: the term of each is its epoch
//! 2 other   a message of `consensus::message`, by postcard, to the end
//! ```
//! From and to are the numbers of two disks: a node whose disk is another one is another member.

use crate::consensus::{Body, Message, message};
use bytes::{BufMut, Bytes};
use model::{
    Entry,
    codec::{Malformed, Reader},
    parts::{Parts, PartsWriter},
};

const VERSION: u8 = 1;
const APPEND: u8 = 1;
const OTHER: u8 = 2;

/// What goes with each message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// The sender's term, also where the core's message names none.
    pub(super) term: u64,
    /// The sender's monotonic clock, in ms, to be echoed.
    pub(super) clock: u64,
    /// Of which process that is the clock.
    pub(super) process: u64,
    /// The latest clock that the receiver was heard to have …
    pub(super) echo: u64,
    /// … and of which of its processes.
    pub(super) echo_process: u64,
    /// Shard time at the sender, in ms since 1970.
    pub(super) time_ms: u64,
    /// What the sender knows to be committed.
    pub(super) commit: u64,
    /// Up to where every member is known to hold the log durably.
    pub(super) floor: u64,
}

/// A message with its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) beside: Beside,
    /// What the core says. The entries of an append are without data.
    pub(super) message: Message,
    /// The entries of an append.
    pub(super) entries: Vec<Entry>,
}

impl Letter {
    pub(super) fn encode(&self) -> Parts {
        let copied = self.entries.iter().map(|e| PartsWriter::copied(e.bytes()));
        let mut parts = PartsWriter::with_capacity(128 + copied.sum::<usize>());
        let out = parts.out();
        let append = match &self.message.body {
            Body::Append {
                after_index,
                after_term,
                commit,
                ..
            } => Some([self.message.term, *after_term, *after_index, *commit]),
            _ => None,
        };
        out.put_u8(VERSION);
        out.put_u8(if append.is_some() { APPEND } else { OTHER });
        let b = &self.beside;
        let told = [
            self.from,
            self.to,
            b.term,
            b.clock,
            b.process,
            b.echo,
            b.echo_process,
            b.time_ms,
            b.commit,
            b.floor,
        ];
        told.iter().for_each(|n| out.put_u64_le(*n));
        match append {
            Some(numbers) => {
                numbers.iter().for_each(|n| out.put_u64_le(*n));
                for entry in &self.entries {
                    parts.put_shared(entry.bytes());
                }
            }
            None => {
                // Serializing into memory fails for no value of this type.
                let bytes = postcard::to_allocvec(&self.message).unwrap_or_default();
                out.put_slice(&bytes);
            }
        }
        parts.finish()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Letter, Malformed> {
        let mut r = Reader::new("message of a consensus group", bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed());
        }
        let tag = r.u8()?;
        let (from, to) = (r.u64()?, r.u64()?);
        let beside = Beside {
            term: r.number()?,
            clock: r.number()?,
            process: r.u64()?,
            echo: r.number()?,
            echo_process: r.u64()?,
            time_ms: r.number()?,
            commit: r.number()?,
            floor: r.number()?,
        };
        let mut entries = Vec::new();
        let message = match tag {
            APPEND => {
                let term = r.number()?;
                let (after_term, after_index, commit) = (r.number()?, r.number()?, r.number()?);
                while !r.is_empty() {
                    if entries.len() == message::ENTRIES_MAX {
                        return Err(r.malformed());
                    }
                    entries.push(Entry::read(&mut r)?);
                }
                let places = entries.iter().map(|e: &Entry| crate::consensus::Entry {
                    term: e.position.epoch.0,
                    index: e.position.index,
                    data: Bytes::new(),
                });
                Message {
                    term,
                    body: Body::Append {
                        after_index,
                        after_term,
                        commit,
                        entries: places.collect(),
                    },
                }
            }
            OTHER => {
                let malformed = r.malformed();
                match postcard::take_from_bytes::<Message>(&r.rest()) {
                    Ok((message, [])) if !matches!(message.body, Body::Append { .. }) => message,
                    _ => return Err(malformed),
                }
            }
            _ => return Err(r.malformed()),
        };
        Ok(Letter {
            from,
            to,
            beside,
            message,
            entries,
        })
    }
}
