//! The types of values in a snapshot, and how to take one whose content doesn't matter.
//!
//! ```text
//!  0 string            string
//!  1 list   2 set      length, strings
//!  3 sorted set        length, (string, score as text)…       5   score f64 LE
//!  4 hash              length, (field, value)…
//!  7 module            length (of which), (length opcode, value)… up to opcode 0
//!  9 10 11 12 13       string: a zipmap hash, ziplist list, intset, ziplist sorted set and hash
//! 14 list              length, ziplist strings…               18  (length, string)…
//! 15 19 21 stream      below
//! 16 17 20             string: a listpack hash, sorted set, set
//!
//! Redis, hashes whose fields expire:
//! 22                   length, (length ms, field, value)…
//! 23                   string: a listpack of field, value, ms
//! 24                   least ms u64 LE, length, (length ms - least + 1 or 0, field, value)…
//! 25                   least ms u64 LE, string: a listpack of field, value, ms
//! Valkey:
//! 22                   length, (field, value, ms or -1 i64 LE)…
//! ```

use super::{Error, input::Input};
use std::io::Read;

pub(crate) const STRING: u8 = 0;
pub(crate) const HASH: u8 = 4;
/// Of Redis; Valkey's number for another layout.
pub(crate) const HASH_EXPIRING_FIRST: u8 = 22;
pub(crate) const HASH_LISTPACK_EXPIRING_FIRST: u8 = 23;
pub(crate) const HASH_EXPIRING: u8 = 24;
pub(crate) const HASH_LISTPACK_EXPIRING: u8 = 25;

/// Whose numbers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Redis,
    Valkey,
}

/// What a type is called; None if it is not known.
pub(crate) fn name(family: Family, kind: u8) -> Option<&'static str> {
    Some(match kind {
        0 => "string",
        1 | 10 | 14 | 18 => "list",
        2 | 11 | 20 => "set",
        3 | 5 | 12 | 17 => "sorted set",
        4 | 9 | 13 | 16 | 22 => "hash",
        23..=25 if family == Family::Redis => "hash",
        6 | 7 => "module value",
        15 | 19 | 21 => "stream",
        _ => return None,
    })
}

impl<R: Read> Input<R> {
    /// Takes the value whose type is `kind`.
    pub(super) fn value(&mut self, family: Family, kind: u8) -> Result<(), Error> {
        match kind {
            0 | 9..=13 | 16 | 17 | 20 => self.strings(1),
            1 | 2 | 14 => {
                let count = self.length()?;
                self.strings(count)
            }
            3 => self.each(|input| {
                input.string()?;
                // Longer ones are the infinities and what is no number.
                match input.byte()? {
                    253..=255 => Ok(()),
                    length => input.pass(length.into()),
                }
            }),
            4 => self.each(|input| input.strings(2)),
            5 => self.each(|input| {
                input.string()?;
                input.pass(8)
            }),
            7 => {
                self.length()?;
                self.module()
            }
            15 | 19 | 21 => self.stream(kind),
            18 => self.each(|input| {
                input.length()?;
                input.strings(1)
            }),
            22 if family == Family::Valkey => self.each(|input| {
                input.strings(2)?;
                input.pass(8)
            }),
            22 | 24 if family == Family::Redis => {
                if kind == HASH_EXPIRING {
                    self.pass(8)?;
                }
                self.each(|input| {
                    input.length()?;
                    input.strings(2)
                })
            }
            23 | 25 if family == Family::Redis => {
                if kind == HASH_LISTPACK_EXPIRING {
                    self.pass(8)?;
                }
                self.strings(1)
            }
            _ => Err(self.unsupported(match kind {
                6 => "a module's value in the format of Redis 4.0's release candidates".into(),
                _ => format!("a value of type {kind}"),
            })),
        }
    }

    pub(super) fn unsupported(&self, what: String) -> Error {
        Error::Unsupported {
            offset: self.offset(),
            what,
        }
    }

    fn each(&mut self, one: impl Fn(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        for _ in 0..self.length()? {
            one(self)?;
        }
        Ok(())
    }

    /// What a module wrote, behind the number of the module.
    pub(super) fn module(&mut self) -> Result<(), Error> {
        loop {
            match self.length()? {
                0 => return Ok(()),
                1 | 2 => self.lengths(1)?,
                3 => self.pass(4)?,
                4 => self.pass(8)?,
                5 => self.strings(1)?,
                other => return Err(self.damaged(format!("no module writes opcode {other}"))),
            }
        }
    }

    /// ```text
    /// stream    length, (id string, listpack string)… | entries | last id: 2 lengths
    ///           [first id, greatest deleted id, entries added: 5 lengths] from 19 on
    ///           length, group…
    /// group     name string | last id: 2 lengths | [entries read] from 19 on
    ///           length, (id of 16 bytes, ms i64, deliveries)…
    ///           length, consumer…
    /// consumer  name string | seen ms | [active ms] from 21 on | length, ids of 16 bytes…
    /// ```
    fn stream(&mut self, kind: u8) -> Result<(), Error> {
        self.each(|input| input.strings(2))?;
        self.lengths(if kind >= 19 { 8 } else { 3 })?;
        self.each(|input| {
            input.string()?;
            input.lengths(if kind >= 19 { 3 } else { 2 })?;
            input.each(|input| {
                input.pass(24)?;
                input.lengths(1)
            })?;
            input.each(|input| {
                input.string()?;
                input.pass(if kind >= 21 { 16 } else { 8 })?;
                let pending = input.length()?;
                let bytes = pending.checked_mul(16);
                let bytes = bytes.ok_or_else(|| input.damaged("more is pending than can be"))?;
                input.pass(bytes)
            })
        })
    }
}
