//! Reading a snapshot of Redis or Valkey (an RDB file), from its beginning to its end.
//!
//! ```text
//! "REDIS" version as 4 digits  |  "VALKEY" version as 3 digits
//! record…
//! ff | CRC-64 of all before u64 LE, or 0 (from version 5 on)
//!
//! record  [fd seconds u32 LE | fc ms u64 LE]  [f8 idle length | f9 frequency u8]  type u8, key string, value
//!         fe database length        fb keys length, expiring length
//!         fa name string, value string          f4 slot, keys, expiring: 3 lengths
//!         f7 a module's: which length, 2 lengths, (opcode, value)… | f5 functions string
//! ```
//!
//! [`Reader::next`] goes to the next key; [`Reader::piece`] reads what it holds, a large hash in
//! parts; a value that nobody asks for is passed over. So it takes the memory of one value of
//! [`WRITE_BYTES_MAX`] at most, or of a part, whatever the size of the file.
//!
//! It is read as it comes, and the checksum stands at its end: whoever acts on a value does so
//! before it is known that the file is whole, and must say so if [`Error::Checksum`] comes.
//!
//! Why no crate: `rdb` 0.4 (MIT, maintained) reads Redis's versions up to 13, but gives whole
//! values, however large, says neither where a file is damaged nor when its checksum is wrong,
//! hides the times of fields, knows no file of Valkey 9, and brings `clap`, `regex`, `lzf`.
//! `librdb` binds Redis's own parser, in C, and asks for a newer Rust. What a value looks like
//! inside was in `commands::rdb` already, for RESTORE.

mod error;
mod input;
pub(crate) mod kind;
#[cfg(test)]
mod tests;

pub use error::Error;

use crate::fields::{self, Expiring, Layout, Parsed};
use bytes::Bytes;
use commands::rdb::{self, Value};
use input::Input;
use kind::Family;
use model::entry::WRITE_BYTES_MAX;
use std::io::Read;

/// Fields of a hash that are given at once.
pub const PART_FIELDS: usize = 4_096;
/// Bytes of fields and values that are given at once, but for a single one that is larger.
pub const PART_BYTES: u64 = 4 << 20;
/// Bytes of a hash that is stored as one string: listpack, ziplist, zipmap. Redis makes them
/// where a hash is small; a greater one would take many times its size in memory.
const COMPACT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a key, more than Quire or anybody has.
const KEY_BYTES_MAX: u64 = 16 << 20;

/// Reads one snapshot.
pub struct Reader<R> {
    input: Input<R>,
    family: Family,
    version: u32,
    expiring: Expiring,
    database: u64,
    at: At,
    functions: u64,
}

/// Where the input is.
enum At {
    /// Before a record.
    Record,
    /// Before the value of a key.
    Value(u8),
    /// Among the fields of a hash, of which so many are left and so many were given.
    Fields {
        layout: Layout,
        left: u64,
        given: u64,
    },
    End,
}

/// A key, and when it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub key: Bytes,
    /// The number of the database that it is in.
    pub database: u64,
    /// When its time is over, ms since 1970.
    pub expires_ms: Option<u64>,
    /// What the type of its value is called.
    pub kind: &'static str,
}

/// What a key holds, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole(Value),
    /// Some fields of a hash; more pieces follow, the last of which is [`Piece::End`].
    Fields(Vec<(Bytes, Bytes)>),
    /// There were so many fields.
    End(u64),
    /// A hash all of whose fields have expired.
    Expired,
    /// A value that Quire has no type for.
    Other(&'static str),
    /// A value that is larger than Quire can take.
    TooLarge,
    /// A value that makes no sense inside.
    Damaged,
}

impl<R: Read> Reader<R> {
    /// Begins to read a snapshot.
    ///
    /// # Errors
    /// It is none, or one of a version that is not known.
    pub fn new(from: R, expiring: Expiring) -> Result<Self, Error> {
        let mut input = Input::new(from);
        let header: [u8; 9] = input.array().map_err(|error| match error {
            Error::Truncated { offset, .. } => {
                Error::Unknown(format!("this is no RDB file: it has only {offset} bytes"))
            }
            other => other,
        })?;
        let (family, digits) = match header {
            [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (Family::Redis, digits.to_vec()),
            [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (Family::Valkey, digits.to_vec()),
            _ => {
                return Err(Error::Unknown(format!(
                    "this is no RDB file: it begins with \"{}\", not with REDIS or VALKEY",
                    header.escape_ascii()
                )));
            }
        };
        let digits = std::str::from_utf8(&digits).ok();
        let version = digits.and_then(|digits| digits.parse::<u32>().ok());
        let known = match family {
            Family::Redis => 1..=12,
            Family::Valkey => 80..=81,
        };
        let version = version.filter(|version| known.contains(version)).ok_or_else(|| {
            Error::Unknown(format!(
                "RDB files that begin with \"{}\" are not known here (REDIS0001 to REDIS0012, VALKEY080 and VALKEY081 are); import from the running server instead (--from redis://…)",
                header.escape_ascii()
            ))
        })?;
        Ok(Reader {
            input,
            family,
            version,
            expiring,
            database: 0,
            at: At::Record,
            functions: 0,
        })
    }

    /// How many bytes were read.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// How many libraries of functions were passed over.
    pub fn functions(&self) -> u64 {
        self.functions
    }

    /// Goes to the next key, past what is left of the last one. None at the end, when the
    /// checksum was right.
    ///
    /// # Errors
    /// The rest can't be read.
    #[allow(
        clippy::should_implement_trait,
        reason = "an error ends it, and next is the word"
    )]
    pub fn next(&mut self) -> Result<Option<Head>, Error> {
        self.pass_value()?;
        if matches!(self.at, At::End) {
            return Ok(None);
        }
        let mut expires_ms = None;
        loop {
            let began = self.input.offset();
            self.input.begin("a record", began);
            match self.input.byte()? {
                0xff => return self.end().map(|()| None),
                0xfe => self.database = self.input.length()?,
                0xfd => {
                    let seconds = i32::from_le_bytes(self.input.array()?);
                    expires_ms = Some(i64::from(seconds) * 1_000);
                }
                0xfc => expires_ms = Some(i64::from_le_bytes(self.input.array()?)),
                0xfb => self.input.lengths(2)?,
                0xfa => self.input.strings(2)?,
                0xf9 => self.input.pass(1)?,
                0xf8 => self.input.lengths(1)?,
                0xf7 => {
                    self.input.lengths(3)?;
                    self.input.module()?;
                }
                0xf5 => {
                    self.input.strings(1)?;
                    self.functions += 1;
                }
                0xf4 => self.input.lengths(3)?,
                opcode @ 0xc8.. => {
                    return Err(self.input.unsupported(format!("a record of type {opcode}")));
                }
                kind => {
                    self.input.begin("a key", began);
                    let key = self.key()?;
                    let name = kind::name(self.family, kind).ok_or_else(|| {
                        let key = key.escape_ascii();
                        let what = format!("the value of \"{key}\" is of type {kind}");
                        self.input.unsupported(what)
                    })?;
                    self.input.begin("a value", self.input.offset());
                    self.at = At::Value(kind);
                    return Ok(Some(Head {
                        key,
                        database: self.database,
                        // A time before 1970 is over.
                        expires_ms: expires_ms.map(|ms| u64::try_from(ms).unwrap_or(1).max(1)),
                        kind: name,
                    }));
                }
            }
        }
    }

    fn key(&mut self) -> Result<Bytes, Error> {
        self.input.keep(KEY_BYTES_MAX);
        self.input.string()?;
        let kept = self.input.kept();
        let key = kept.and_then(|kept| rdb::Input::new(&kept).string());
        Ok(key.ok_or_else(|| self.input.damaged("no key"))?.into())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.at = At::End;
        self.input.begin("the checksum", self.input.offset());
        if self.version >= 5 {
            let (offset, found) = (self.input.offset(), self.input.checksum());
            let expected = u64::from_le_bytes(self.input.array()?);
            if expected != 0 && expected != found {
                return Err(Error::Checksum {
                    offset,
                    found,
                    expected,
                });
            }
        }
        if self.input.is_at_end()? {
            return Ok(());
        }
        self.input.begin("what", self.input.offset());
        Err(self.input.damaged(
            "the snapshot has ended and the file has not; an append-only file has commands there, which are not read",
        ))
    }

    /// Takes what nobody asked for.
    fn pass_value(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.at, At::Record) {
            At::Record => Ok(()),
            At::Value(kind) => self.input.value(self.family, kind),
            At::Fields { layout, left, .. } => {
                for _ in 0..left {
                    self.field(layout)?;
                }
                Ok(())
            }
            At::End => {
                self.at = At::End;
                Ok(())
            }
        }
    }

    /// What the key of the last [`next`](Self::next) holds, or a part of it: after
    /// [`Piece::Fields`], and only then, there is another one.
    ///
    /// # Errors
    /// The rest can't be read.
    pub fn piece(&mut self) -> Result<Piece, Error> {
        match std::mem::replace(&mut self.at, At::Record) {
            At::Value(kind) => self.begin(kind),
            At::Fields {
                layout,
                left,
                given,
            } => self.part(layout, left, given),
            At::Record => Ok(Piece::End(0)),
            At::End => {
                self.at = At::End;
                Ok(Piece::End(0))
            }
        }
    }

    fn begin(&mut self, kind: u8) -> Result<Piece, Error> {
        let layout = match (self.family, kind) {
            (_, kind::HASH) => Layout::Plain,
            (Family::Redis, kind::HASH_EXPIRING_FIRST) => Layout::Absolute,
            (Family::Redis, kind::HASH_EXPIRING) => {
                Layout::Relative(u64::from_le_bytes(self.input.array()?))
            }
            (Family::Valkey, kind::HASH_EXPIRING_FIRST) => Layout::Behind,
            (_, kind::STRING) => return self.stored(kind, WRITE_BYTES_MAX as u64),
            _ if kind::name(self.family, kind) == Some("hash") => {
                return self.stored(kind, COMPACT_BYTES_MAX);
            }
            _ => {
                self.input.value(self.family, kind)?;
                let name = kind::name(self.family, kind).unwrap_or("value");
                return Ok(Piece::Other(name));
            }
        };
        let left = self.input.length()?;
        self.part(layout, left, 0)
    }

    /// A value that is one string, of at most `room` bytes.
    fn stored(&mut self, kind: u8, room: u64) -> Result<Piece, Error> {
        self.input.keep(room);
        self.input.value(self.family, kind)?;
        let Some(kept) = self.input.kept() else {
            return Ok(Piece::TooLarge);
        };
        Ok(
            match fields::stored(self.family, kind, &kept, self.expiring) {
                Parsed::Value(value) => Piece::Whole(value),
                Parsed::Expired => Piece::Expired,
                Parsed::Other(name) => Piece::Other(name),
                Parsed::Damaged => Piece::Damaged,
            },
        )
    }

    /// Takes one field with its value, and says how many bytes they are.
    fn field(&mut self, layout: Layout) -> Result<u64, Error> {
        if matches!(layout, Layout::Absolute | Layout::Relative(_)) {
            self.input.length()?;
        }
        let bytes = self.input.string()?.saturating_add(self.input.string()?);
        if layout == Layout::Behind {
            self.input.pass(8)?;
        }
        Ok(bytes)
    }

    /// The next fields of a hash, of which `given` came before and `left` are left.
    fn part(&mut self, layout: Layout, mut left: u64, given: u64) -> Result<Piece, Error> {
        if left == 0 {
            // A hash without a field is none.
            return Ok(if given == 0 {
                Piece::Damaged
            } else {
                Piece::End(given)
            });
        }
        self.input.keep(WRITE_BYTES_MAX as u64);
        let (mut count, mut bytes) = (0, 0);
        while left > 0 && count < PART_FIELDS && bytes < PART_BYTES {
            bytes += self.field(layout)?;
            left -= 1;
            count += 1;
        }
        let Some(kept) = self.input.kept() else {
            return self.instead(layout, left, Piece::TooLarge);
        };
        let fields = match fields::parse(layout, count, &kept, self.expiring) {
            Ok(fields) => fields,
            Err(Parsed::Other(name)) => return self.instead(layout, left, Piece::Other(name)),
            Err(_) => return self.instead(layout, left, Piece::Damaged),
        };
        if left == 0 && given == 0 {
            return Ok(match fields.len() {
                0 => Piece::Expired,
                _ => rdb::hash(fields).map_or(Piece::Damaged, Piece::Whole),
            });
        }
        let given = given + fields.len() as u64;
        self.at = At::Fields {
            layout,
            left,
            given,
        };
        Ok(Piece::Fields(fields))
    }

    /// `piece` for the whole hash, the rest of which is passed over.
    fn instead(&mut self, layout: Layout, left: u64, piece: Piece) -> Result<Piece, Error> {
        for _ in 0..left {
            self.field(layout)?;
        }
        Ok(piece)
    }
}
