//! A transaction on its way: the arguments of one `EXEC`, from the client's node to the shard.
//!
//! # Arguments (between nodes of one version of the peer messages)
//! ```text
//! EXEC, postcard of `Head`, then the arguments of every command, one after the other
//! ```

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::evaluate::too_long;
use bytes::Bytes;
use commands::{Spec, transaction};
use model::Position;
use serde::{Deserialize, Serialize};

/// What stands before the commands.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Head {
    /// Keys, and as of where they must be unchanged.
    watches: Vec<(Vec<u8>, Position)>,
    /// How many arguments each command has.
    counts: Vec<u32>,
    /// Whether all of them only read.
    reads: bool,
}

/// A transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub watches: Vec<(Bytes, Position)>,
    pub commands: Vec<Vec<Bytes>>,
    pub reads: bool,
}

const NAME: &[u8] = b"EXEC";

impl Carried {
    pub fn spec(&self) -> &'static Spec {
        match self.reads && self.watches.is_empty() {
            true => &transaction::EXEC_READ,
            false => &transaction::EXEC,
        }
    }

    pub fn to_args(&self) -> Vec<Bytes> {
        let watch = |(key, at): &(Bytes, Position)| (key.to_vec(), *at);
        let head = Head {
            watches: self.watches.iter().map(watch).collect(),
            counts: self.commands.iter().map(|c| c.len() as u32).collect(),
            reads: self.reads,
        };
        // Writing to memory does not fail; what is empty is refused where it is read.
        let head = postcard::to_allocvec(&head).unwrap_or_default();
        let mut args = vec![Bytes::from_static(NAME), head.into()];
        args.extend(self.commands.iter().flatten().cloned());
        args
    }
}

fn borrow(args: &[Bytes]) -> Vec<&[u8]> {
    args.iter().map(AsRef::as_ref).collect()
}

/// The spec of a command that came from another node; None if there is no such command.
pub fn spec_of(args: &[Bytes]) -> Option<&'static Spec> {
    match args {
        [name, head, ..] if name == NAME => {
            let head: Head = postcard::from_bytes(head).ok()?;
            let (watches, reads) = (Vec::new(), head.reads && head.watches.is_empty());
            let commands = Vec::new();
            Some(
                Carried {
                    watches,
                    commands,
                    reads,
                }
                .spec(),
            )
        }
        _ => commands::find(&borrow(args)).ok(),
    }
}

/// A transaction at the shard: its watched keys and its commands.
pub struct Arrived<'a> {
    pub watches: Vec<(Vec<u8>, Position)>,
    pub commands: Vec<&'a [&'a [u8]]>,
}

impl<'a> Arrived<'a> {
    /// Reads the arguments; None if they make no sense, or are not to be evaluated.
    pub fn read(args: &'a [&'a [u8]]) -> Option<Self> {
        let [_, head, rest @ ..] = args else {
            return None;
        };
        let mut rest = rest;
        let Head {
            watches, counts, ..
        } = postcard::from_bytes(head).ok()?;
        let mut commands = Vec::with_capacity(counts.len().min(rest.len()));
        for count in counts {
            let (command, behind) = rest.split_at_checked(count as usize)?;
            let spec = commands::find(command).ok()?;
            if !transaction::takes(spec) || too_long(spec, command).is_some() {
                return None;
            }
            commands.push(command);
            rest = behind;
        }
        rest.is_empty().then_some(Arrived { watches, commands })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn carried(lines: &[&str], watches: &[&str]) -> Carried {
        let command = |line: &&str| line.split(' ').map(|w| Bytes::from(w.to_owned())).collect();
        let watch = |key: &&str| (Bytes::from((*key).to_owned()), Position::new(2, 7));
        Carried {
            watches: watches.iter().map(watch).collect(),
            commands: lines.iter().map(command).collect(),
            reads: lines.iter().all(|line| line.starts_with("GET")),
        }
    }

    #[test]
    fn it_arrives_as_it_was_sent() {
        for (lines, watches, writes) in [
            (&["SET a 1", "INCR a", "PING"][..], &["a", "b"][..], true),
            (&["GET a"], &[], false),
            (&["GET a"], &["a"], true),
            (&[], &["a"], true),
        ] {
            let sent = carried(lines, watches);
            let args = sent.to_args();
            assert_eq!(spec_of(&args).unwrap().is_write(), writes);
            let args = borrow(&args);
            let arrived = Arrived::read(&args).unwrap();
            let words: Vec<Vec<&[u8]>> = lines
                .iter()
                .map(|line| line.split(' ').map(str::as_bytes).collect())
                .collect();
            assert_eq!(arrived.commands, words);
            let keys: Vec<&[u8]> = arrived.watches.iter().map(|(k, _)| k.as_slice()).collect();
            assert_eq!(
                keys,
                watches.iter().map(|w| w.as_bytes()).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn what_a_shard_does_not_evaluate_is_refused_whole() {
        for line in ["SELECT 1", "WATCH a", "EXEC", "NOSUCH", "GET"] {
            let args = carried(&["SET a 1", line], &[]).to_args();
            assert!(Arrived::read(&borrow(&args)).is_none(), "{line}");
        }
        let mut short = carried(&["SET a 1"], &[]).to_args();
        short.pop();
        assert!(Arrived::read(&borrow(&short)).is_none());
        short.extend(["1".into(), "2".into()]);
        assert!(Arrived::read(&borrow(&short)).is_none());
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_panic(args in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..12), 0..5)) {
            let mut all = vec![Bytes::from_static(NAME)];
            all.extend(args.into_iter().map(Bytes::from));
            let _ = spec_of(&all);
            let _ = Arrived::read(&borrow(&all));
        }
    }
}
