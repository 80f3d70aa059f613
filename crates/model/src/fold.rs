//! What an op means: the one place that says what becomes of its key.
//!
//! Whoever has keys (the tip over which commands are evaluated, a store, a map in a test)
//! implements [`Keys`] in its own representation, and carries out what a [`Fold`] tells it. So
//! all of them come to the same.
//!
//! ```text
//! op                      the key from then on
//! put string              the header, one cell; no cell of before counts
//! set fields              the header, if the op has one; these cells, with the op's stamp
//! remove fields, header   the header; without these cells
//! remove fields           as it was: cells at or below the header's `deleted` may be dropped
//! set header              the header, and the cells that it had
//! delete                  a tombstone over its cells, or nothing at all
//! clear                   nothing, as every key
//! ```
//!
//! # What holds
//! - **Most ops are blind.** A fold asks what is known of a key for *set header* and *delete*
//!   alone, and takes "it was not read" for an answer ([`Known::Unread`]): an op was made of the
//!   header at the tip, so that what the op says is enough, but for what follows.
//! - **Tombstones are inherited.** The stamp of a deletion is not known to ops of the same
//!   mutation. A header that one of them writes for that key gets `deleted` = max(its own, the
//!   deletion's stamp): else cells that died would come alive with it.
//! - **A key that lives over dead cells is always deleted with a tombstone**, whatever the op
//!   says, for the same reason. It does so if its header has a `deleted`, of this mutation or of
//!   an earlier one.
//! - What is gone is not deleted again: the tombstone keeps the stamp that it has. (The end of a
//!   purge deletes the tombstone of an earlier mutation.)
//! - An op that makes no sense, or with a key or field that is too long, is an error, and leaves
//!   the keys half done: whoever has them throws them away.
//!
//! Where writes merge, ops will say what they saw in place of whole headers: then more becomes
//! of a key than its op tells, and it is said here.

use crate::{
    Op, Stamp,
    codec::Malformed,
    few::FewMap,
    limits::{TooLong, check_field, check_key},
    mutation::{Header, KeyKind},
};
use bytes::Bytes;

#[cfg(test)]
mod tests;

/// What is known of a key where an op meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<V> {
    /// It was not looked up.
    Unread,
    /// It has no header.
    Absent,
    /// Its header, with whatever is kept beside it.
    Present(Header, V),
}

/// Keys that a mutation changes. Each method carries out what was decided: the header is the
/// one to keep, inherited tombstones and all.
pub trait Keys {
    /// What is kept beside a header.
    type Value;
    /// Why something could not be looked up.
    type Error;

    /// What is known of `key`, or [`Known::Unread`] if to find out takes a look-up that can be
    /// saved.
    fn known(&mut self, key: &Bytes) -> Result<Known<Self::Value>, Self::Error>;

    /// The key holds this string, and no field that it had.
    fn put_string(
        &mut self,
        key: Bytes,
        created: bool,
        header: Header,
        stamp: Stamp,
        value: Bytes,
    ) -> Result<(), Self::Error>;

    /// The key is a hash in which these fields have these values; without a header it keeps its
    /// own.
    fn put_fields(
        &mut self,
        key: Bytes,
        created: bool,
        header: Option<Header>,
        stamp: Stamp,
        fields: Vec<(Bytes, Bytes)>,
    ) -> Result<(), Self::Error>;

    /// The key is a hash without these fields.
    fn remove_fields(
        &mut self,
        key: Bytes,
        header: Header,
        fields: Vec<Bytes>,
    ) -> Result<(), Self::Error>;

    /// Those of these fields whose cells are dead may be dropped; the others stay.
    fn purge_fields(&mut self, key: Bytes, fields: Vec<Bytes>) -> Result<(), Self::Error>;

    /// The key keeps its cells, under this header.
    fn put_header(
        &mut self,
        key: Bytes,
        known: Known<Self::Value>,
        header: Header,
    ) -> Result<(), Self::Error>;

    /// The key is gone, and its cells are dead under this tombstone.
    fn bury(
        &mut self,
        key: Bytes,
        known: Known<Self::Value>,
        tombstone: Header,
    ) -> Result<(), Self::Error>;

    /// The key is gone, and so are its cells.
    fn remove(&mut self, key: Bytes, known: Known<Self::Value>) -> Result<(), Self::Error>;

    /// Every key is gone, with all its cells.
    fn clear(&mut self) -> Result<(), Self::Error>;
}

/// Why an op was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum FoldError<E> {
    /// It makes no sense.
    Malformed(Malformed),
    /// Its key or one of its fields has no room.
    TooLong(TooLong),
    /// What the keys say.
    Keys(E),
}

impl<E> From<E> for FoldError<E> {
    fn from(error: E) -> Self {
        FoldError::Keys(error)
    }
}

/// A mutation as far as it is carried out.
#[derive(Debug)]
pub struct Fold {
    /// Of the next op.
    stamp: Stamp,
    /// Keys that it has deleted with a tombstone.
    buried: FewMap<Buried>,
}

#[derive(Debug)]
struct Buried {
    at: Stamp,
    /// It has a header of another kind by now.
    is_back: bool,
}

impl Fold {
    /// None of it yet; its first op is stamped `first`.
    pub fn new(first: Stamp) -> Self {
        Fold {
            stamp: first,
            buried: FewMap::default(),
        }
    }

    /// The stamp of the next op.
    pub fn next_stamp(&self) -> Stamp {
        self.stamp
    }

    /// Leaves the next op out. It has its stamp all the same.
    pub fn pass(&mut self) {
        // Stamps that come from a disk or a peer are far below the greatest.
        self.stamp.0 = self.stamp.0.saturating_add(1);
    }

    /// Carries out the next op.
    pub fn op<K: Keys>(&mut self, keys: &mut K, op: Op) -> Result<(), FoldError<K::Error>> {
        let stamp = self.stamp;
        self.pass();
        if let Some(key) = op.key() {
            check_key(key).map_err(FoldError::TooLong)?;
        }
        match op {
            Op::PutString {
                key,
                created,
                mut header,
                value,
            } => {
                sensible(header.kind == KeyKind::String)?;
                self.inherit(&key, &mut header);
                keys.put_string(key, created, header, stamp, value)?;
            }
            Op::SetFields {
                key,
                created,
                mut header,
                fields,
            } => {
                for (field, _) in &fields {
                    check_field(field).map_err(FoldError::TooLong)?;
                }
                match &mut header {
                    Some(header) => {
                        sensible(header.kind == KeyKind::Hash)?;
                        self.inherit(&key, header);
                    }
                    None => sensible(!created)?,
                }
                keys.put_fields(key, created, header, stamp, fields)?;
            }
            Op::RemoveFields {
                key,
                header,
                fields,
            } => {
                for field in &fields {
                    check_field(field).map_err(FoldError::TooLong)?;
                }
                match header {
                    Some(mut header) => {
                        sensible(header.kind == KeyKind::Hash)?;
                        self.inherit(&key, &mut header);
                        keys.remove_fields(key, header, fields)?;
                    }
                    None => keys.purge_fields(key, fields)?,
                }
            }
            Op::SetHeader { key, mut header } => {
                let known = keys.known(&key)?;
                let was_string = match &known {
                    Known::Unread => None,
                    Known::Absent => Some(false),
                    Known::Present(old, _) => Some(old.kind == KeyKind::String),
                };
                let is_string = header.kind == KeyKind::String;
                // There would be no value, or one without a kind.
                sensible(was_string.is_none_or(|was| was == is_string))?;
                self.inherit(&key, &mut header);
                keys.put_header(key, known, header)?;
            }
            Op::Delete { key, tombstone, .. } => self.delete(keys, key, tombstone, stamp)?,
            Op::Clear => {
                self.buried.clear();
                keys.clear()?;
            }
        }
        Ok(())
    }

    fn delete<K: Keys>(
        &mut self,
        keys: &mut K,
        key: Bytes,
        tombstone: bool,
        stamp: Stamp,
    ) -> Result<(), K::Error> {
        let over_own = match self.buried.get(&key) {
            Some(buried) if !buried.is_back => return Ok(()),
            buried => buried.is_some(),
        };
        let known = keys.known(&key)?;
        let over_dead = match &known {
            Known::Unread => false,
            Known::Absent => return Ok(()),
            Known::Present(old, _) => old.kind != KeyKind::Tombstone && old.deleted != Stamp::ZERO,
        };
        if !(tombstone || over_own || over_dead) {
            return keys.remove(key, known);
        }
        let (at, is_back) = (stamp, false);
        self.buried.insert(key.clone(), Buried { at, is_back });
        let mut header = Header::new(KeyKind::Tombstone);
        header.deleted = stamp;
        keys.bury(key, known, header)
    }

    /// A header written over a tombstone of this mutation keeps what that covers.
    fn inherit(&mut self, key: &Bytes, header: &mut Header) {
        if let Some(buried) = self.buried.get_mut(key) {
            header.deleted = header.deleted.max(buried.at);
            buried.is_back |= header.kind != KeyKind::Tombstone;
        }
    }
}

fn sensible<E>(is_sensible: bool) -> Result<(), FoldError<E>> {
    if is_sensible {
        return Ok(());
    }
    Err(FoldError::Malformed(Malformed { what: "mutation" }))
}
