//! Fields of hashes as Redis and Valkey store them, some with times of their own.
//!
//! Quire's fields don't expire. A hash of which some do is passed over by name, or read without
//! their times, as [`Expiring`] says; a hash of which none does is a hash like any other,
//! however it is stored.

use crate::rdb::kind::{self, Family};
use bytes::Bytes;
use commands::rdb::{self, Input, Value, compact};

/// What a hash is called of which fields expire.
pub const EXPIRING: &str = "hash with fields that expire";

/// What becomes of a hash with fields that expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// It is passed over.
    Pass,
    /// Its fields stay for good, but for those whose time was over at this moment, ms since
    /// 1970.
    Keep {
        /// What time it is.
        now_ms: u64,
    },
}

/// Where the times of fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// There are none.
    Plain,
    /// Before the field: a length, 0 for none.
    Absolute,
    /// Before the field: a length, 0 for none, else 1 more than what to add to this.
    Relative(u64),
    /// Behind the value: eight bytes, -1 for none.
    Behind,
}

/// What bytes turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Value(Value),
    /// A hash all of whose fields have expired.
    Expired,
    /// A value that Quire has no type for.
    Other(&'static str),
    Damaged,
}

type Fields = Vec<(Bytes, Bytes)>;

impl Expiring {
    /// Adds a field whose time is `expires_ms`, or leaves it out.
    fn add(
        self,
        fields: &mut Fields,
        field: Bytes,
        value: Bytes,
        expires_ms: Option<u64>,
    ) -> Result<(), Parsed> {
        match (expires_ms, self) {
            (Some(_), Expiring::Pass) => return Err(Parsed::Other(EXPIRING)),
            (Some(at), Expiring::Keep { now_ms }) if at <= now_ms => {}
            _ => fields.push((field, value)),
        }
        Ok(())
    }
}

/// The `count` fields in `bytes`.
pub(crate) fn parse(
    layout: Layout,
    count: usize,
    bytes: &[u8],
    expiring: Expiring,
) -> Result<Fields, Parsed> {
    let mut input = Input::new(bytes);
    let mut fields = Vec::new();
    for _ in 0..count {
        let (field, value, expires_ms) = one(layout, &mut input).ok_or(Parsed::Damaged)?;
        expiring.add(&mut fields, field, value, expires_ms)?;
    }
    match input.rest().is_empty() {
        true => Ok(fields),
        false => Err(Parsed::Damaged),
    }
}

fn one(layout: Layout, input: &mut Input<'_>) -> Option<(Bytes, Bytes, Option<u64>)> {
    let before = match layout {
        Layout::Absolute | Layout::Relative(_) => input.plain_length()? as u64,
        Layout::Plain | Layout::Behind => 0,
    };
    let (field, value) = (input.string()?.into(), input.string()?.into());
    let expires_ms = match layout {
        Layout::Plain => None,
        Layout::Absolute => (before > 0).then_some(before),
        Layout::Relative(least) => match before {
            0 => None,
            more => Some(least.checked_add(more - 1)?),
        },
        Layout::Behind => u64::try_from(i64::from_le_bytes(input.array()?)).ok(),
    };
    Some((field, value, expires_ms))
}

/// What a value of type `kind` holds that is stored in `bytes`, and not in parts.
pub(crate) fn stored(family: Family, kind: u8, bytes: &[u8], expiring: Expiring) -> Parsed {
    let bytes = match (family, kind) {
        (Family::Redis, kind::HASH_LISTPACK_EXPIRING_FIRST) => Some(bytes),
        // The least time is that of one of the fields, which have theirs.
        (Family::Redis, kind::HASH_LISTPACK_EXPIRING) => bytes.get(8..),
        _ => {
            return match rdb::value(kind, bytes) {
                Ok(value) => Parsed::Value(value),
                Err(rdb::Error::Type(name)) => Parsed::Other(name),
                Err(_) => Parsed::Damaged,
            };
        }
    };
    let list = bytes.and_then(|bytes| compact::listpack(&Input::new(bytes).string()?));
    match list
        .ok_or(Parsed::Damaged)
        .and_then(|list| triples(&list, expiring))
    {
        Ok(fields) => hash(fields),
        Err(other) => other,
    }
}

/// Fields, values and times in turn.
fn triples(list: &[Bytes], expiring: Expiring) -> Result<Fields, Parsed> {
    let (triples, rest) = list.as_chunks::<3>();
    if list.is_empty() || !rest.is_empty() {
        return Err(Parsed::Damaged);
    }
    let mut fields = Vec::new();
    for [field, value, ms] in triples {
        let ms = std::str::from_utf8(ms)
            .ok()
            .and_then(|ms| ms.parse::<u64>().ok());
        let ms = ms.ok_or(Parsed::Damaged)?;
        expiring.add(
            &mut fields,
            field.clone(),
            value.clone(),
            (ms > 0).then_some(ms),
        )?;
    }
    Ok(fields)
}

/// The hash of fields that are left.
fn hash(fields: Fields) -> Parsed {
    if fields.is_empty() {
        return Parsed::Expired;
    }
    rdb::hash(fields).map_or(Parsed::Damaged, Parsed::Value)
}

/// What the answer to DUMP holds.
pub(crate) fn payload(payload: &[u8], expiring: Expiring) -> Parsed {
    let Some((version, [kind, body @ ..])) = rdb::open(payload) else {
        return Parsed::Damaged;
    };
    // Valkey has numbered its versions apart since its ninth.
    let family = match version {
        80.. => Family::Valkey,
        _ => Family::Redis,
    };
    let layout = match (family, *kind) {
        (Family::Redis, kind::HASH_EXPIRING_FIRST) => Layout::Absolute,
        (Family::Redis, kind::HASH_EXPIRING) => match body.split_first_chunk() {
            Some((least, fields)) => {
                return counted(
                    Layout::Relative(u64::from_le_bytes(*least)),
                    fields,
                    expiring,
                );
            }
            None => return Parsed::Damaged,
        },
        (Family::Valkey, kind::HASH_EXPIRING_FIRST) => Layout::Behind,
        (family, kind) => {
            return match kind::name(family, kind) {
                Some("string" | "hash") => stored(family, kind, body, expiring),
                Some(name) => Parsed::Other(name),
                None => Parsed::Other("value of a type that is not known"),
            };
        }
    };
    counted(layout, body, expiring)
}

/// As many fields as `bytes` begins with, all of them.
fn counted(layout: Layout, bytes: &[u8], expiring: Expiring) -> Parsed {
    let mut input = Input::new(bytes);
    let Some(count) = input.plain_length().filter(|count| *count <= bytes.len()) else {
        return Parsed::Damaged;
    };
    match parse(layout, count, input.rest(), expiring) {
        Ok(fields) => hash(fields),
        Err(other) => other,
    }
}
