//! The format on disk: what each row's key and value are. Tags are persisted: never used
//! again for something else.
//!
//! ```text
//! prefix      'k' | slot u16 BE | hash48 | len LEB128 | key
//! hash48      the upper 6 bytes of xxh3_64(key), big-endian
//! hash32      the upper 4 bytes of xxh3_64(field), big-endian
//!
//! row         key                               value
//! key         prefix | 0                        1 | header | for a string: its cell
//! field       prefix | 2 | hash32 | field       cell
//! purge       'p' | prefix                      stamp of the deletion, u64 LE
//! expiry      'x' | expires_ms u64 BE | prefix  empty
//! applied     'm' | "applied"                   see [`Applied`]
//! format      'm' | "format"                    2
//! installing  'm' | "installing"                see `copy`: why it is filled
//! rewinding   'm' | "rewinding"                 see `rewind`
//! ```
//! Header and cell are `model`'s encodings; here cells have the short form. Rows of a key are
//! neighbours, its key row first; keys follow each other in slot order, and within a slot in
//! the order of a hash, which gives SCAN its cursor. So do fields within their key, for HSCAN,
//! and for draws by chance: a part of a hash costs no more than that part. In version 1 field
//! rows, of tag 1, stood in order of their names.
//!
//! A purge row is there while cells that a deletion covered may be left. An expiry row is
//! there for each key that expires; one that does not match its key's header is stale, and
//! harmless. Rows under 'm' are local: they are not copied.

use super::error::StoreError;
use bytes::{BufMut, Bytes, BytesMut};
use model::{
    Epoch, EpochHistory, Position, Stamp,
    cell::{decode_sequenced, encode_sequenced},
    codec::{Malformed, Reader, put_len},
    cursor,
    mutation::{Header, KeyKind},
    slot,
};
use xxhash_rust::xxh3::xxh3_64;

pub(super) const KEY: u8 = b'k';
pub(super) const LOCAL: u8 = b'm';
pub(super) const PURGE: u8 = b'p';
pub(super) const EXPIRY: u8 = b'x';
/// After every row.
pub(super) const END: &[u8] = &[0xff];

const HEAD_ROW: u8 = 0;
const FIELD_ROW: u8 = 2;
const AFTER: u8 = 3;

/// The row that says which position its batch brought the shard to.
pub(super) const APPLIED: &[u8] = b"mapplied";
pub(super) const FORMAT: &[u8] = b"mformat";
pub(super) const INSTALLING: &[u8] = b"minstalling";
pub(super) const REWINDING: &[u8] = b"mrewinding";
/// What this version reads and writes.
pub(super) const FORMAT_VERSION: u8 = 2;
/// The version of a key row's value, its first byte.
const KEY_ROW_VERSION: u8 = 1;
/// Bytes of that and of a header, at most.
const HEAD_BYTES_MAX: usize = 32;

/// Bytes of 'k', slot and hash.
const PLACE: usize = 9;
/// Bytes of a field's tag and hash.
const FIELD_PLACE: usize = 5;

fn field_place(field: &[u8]) -> u32 {
    (xxh3_64(field) >> 32) as u32
}

/// The cursor at which a scan of a hash meets `field`: below 2³². See
/// [`ShardStore::fields`](super::ShardStore::fields).
pub fn field_cursor_of(field: &[u8]) -> u64 {
    field_place(field).into()
}

/// The rows of one key: its prefix, and room for one more part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRows {
    bytes: Vec<u8>,
    prefix: usize,
}

impl KeyRows {
    pub(super) fn new(key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(PLACE + 3 + key.len() + 32);
        bytes.push(KEY);
        bytes.extend_from_slice(&slot::of(key).to_be_bytes());
        bytes.extend_from_slice(&xxh3_64(key).to_be_bytes()[..6]);
        let mut n = key.len();
        while n >= 0x80 {
            bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes.extend_from_slice(key);
        let prefix = bytes.len();
        KeyRows { bytes, prefix }
    }

    fn with(&mut self, tag: u8, rest: &[u8]) -> &[u8] {
        self.bytes.truncate(self.prefix);
        self.bytes.push(tag);
        self.bytes.extend_from_slice(rest);
        &self.bytes
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix]
    }

    /// The key row.
    pub(super) fn head(&mut self) -> &[u8] {
        self.with(HEAD_ROW, &[])
    }

    pub(super) fn field(&mut self, field: &[u8]) -> &[u8] {
        self.with(FIELD_ROW, &field_place(field).to_be_bytes());
        self.bytes.extend_from_slice(field);
        &self.bytes
    }

    /// The range of all field rows whose cursor is `from` or later.
    pub(super) fn fields(&self, from: u32) -> (Vec<u8>, Vec<u8>) {
        let mut start = self.prefix().to_vec();
        let mut end = start.clone();
        start.push(FIELD_ROW);
        start.extend_from_slice(&from.to_be_bytes());
        end.push(AFTER);
        (start, end)
    }

    /// The same from a field row on, of which this is what follows its tag; from the first, if
    /// that is nothing.
    pub(super) fn fields_behind(&self, rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut start, end) = self.fields(0);
        if !rest.is_empty() {
            start.truncate(self.prefix + 1);
            start.extend_from_slice(rest);
        }
        (start, end)
    }

    /// What follows the tag of one of its field rows: never nothing.
    pub(super) fn rest_of<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        row.get(self.prefix + 1..).unwrap_or_default()
    }

    /// The field of one of its field rows.
    pub(super) fn field_of<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        row.get(self.prefix + FIELD_PLACE..).unwrap_or_default()
    }

    /// The cursor of one of its field rows.
    pub(super) fn field_cursor(&self, row: &[u8]) -> u64 {
        let place = row.get(self.prefix + 1..).and_then(<[u8]>::first_chunk);
        place.map_or(0, |place| u32::from_be_bytes(*place).into())
    }

    pub(super) fn purge(&self) -> Vec<u8> {
        [&[PURGE], self.prefix()].concat()
    }

    pub(super) fn expiry(&self, expires_ms: u64) -> Vec<u8> {
        [&[EXPIRY][..], &expires_ms.to_be_bytes(), self.prefix()].concat()
    }
}

/// What a row under 'k' is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyRow<'a> {
    Head { key: &'a [u8] },
    Field { key: &'a [u8], field: &'a [u8] },
}

/// Reads the row key of a key or field row.
pub(super) fn key_row(row: &[u8]) -> Result<KeyRow<'_>, StoreError> {
    let (key, rest) = split_prefix(row)?;
    match rest {
        [HEAD_ROW] => Ok(KeyRow::Head { key }),
        [FIELD_ROW, rest @ ..] => match rest.split_first_chunk() {
            Some((place, field)) if *place == field_place(field).to_be_bytes() => {
                Ok(KeyRow::Field { key, field })
            }
            _ => Err(bad_row(row)),
        },
        _ => Err(bad_row(row)),
    }
}

/// Splits what starts with a prefix into its key and what follows the prefix.
pub(super) fn split_prefix(row: &[u8]) -> Result<(&[u8], &[u8]), StoreError> {
    let bad = || bad_row(row);
    if row.first() != Some(&KEY) {
        return Err(bad());
    }
    let mut rest = row.get(PLACE..).ok_or_else(bad)?;
    let mut len = 0usize;
    for shift in [0, 7, 14] {
        let (byte, tail) = rest.split_first().ok_or_else(bad)?;
        rest = tail;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.split_at_checked(len).ok_or_else(bad);
        }
    }
    Err(bad())
}

/// The key of a purge row.
pub(super) fn purge_row(row: &[u8]) -> Result<&[u8], StoreError> {
    match row.split_first() {
        Some((&PURGE, prefix)) => whole_prefix(prefix),
        _ => Err(bad_row(row)),
    }
}

/// The time and the key of an expiry row.
pub(super) fn expiry_row(row: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    match row.split_first_chunk::<9>() {
        Some(([EXPIRY, at @ ..], prefix)) => Ok((u64::from_be_bytes(*at), whole_prefix(prefix)?)),
        _ => Err(bad_row(row)),
    }
}

fn whole_prefix(prefix: &[u8]) -> Result<&[u8], StoreError> {
    match split_prefix(prefix)? {
        (key, []) => Ok(key),
        _ => Err(bad_row(prefix)),
    }
}

/// A row of a copy.
#[derive(Debug)]
pub(super) struct CopiedRow<'a> {
    pub(super) key: &'a [u8],
    /// Whether it is the key row; each key has one.
    pub(super) is_head: bool,
}

/// Checks a row that comes from a peer: well-formed, in its place, and not local.
pub(super) fn check_copied<'a>(row: &'a [u8], value: &Bytes) -> Result<CopiedRow<'a>, StoreError> {
    let mut is_head = false;
    let key = match row.first() {
        Some(&KEY) => match key_row(row)? {
            KeyRow::Head { key } => {
                decode_head(value.clone()).map_err(|e| bad_value(row, &e))?;
                is_head = true;
                key
            }
            KeyRow::Field { key, .. } => {
                cell(row, value)?;
                key
            }
        },
        Some(&PURGE) => purge_row(row)?,
        Some(&EXPIRY) => expiry_row(row)?.1,
        _ => return Err(bad_row(row)),
    };
    let rows = KeyRows::new(key);
    let at = match row.first() {
        Some(&PURGE) => 1,
        Some(&EXPIRY) => 9,
        _ => 0,
    };
    if row.len() > super::rows::ROW_KEY_BYTES_MAX || !row[at..].starts_with(rows.prefix()) {
        return Err(bad_row(row));
    }
    Ok(CopiedRow { key, is_head })
}

/// SCAN's cursor of the key that a row under 'k' belongs to.
pub(super) fn place(row: &[u8]) -> u64 {
    let mut place = [0; 8];
    for (to, from) in place.iter_mut().zip(row.iter().skip(1)) {
        *to = *from;
    }
    let place = u64::from_be_bytes(place);
    cursor::of((place >> 48) as u16, place)
}

/// The cursor at which a scan meets `key`: see [`ShardStore::scan`](super::ShardStore::scan).
pub fn cursor_of(key: &[u8]) -> u64 {
    place(KeyRows::new(key).head())
}

/// The first row at or after a cursor.
pub(super) fn row_at_place(cursor: u64) -> Vec<u8> {
    let place = cursor::place(cursor).map_or(u64::MAX, |(slot, hash)| u64::from(slot) << 48 | hash);
    [&[KEY][..], &place.to_be_bytes()].concat()
}

/// The first row at or after a slot.
pub(super) fn row_at_slot(slot: u16) -> Vec<u8> {
    [&[KEY][..], &slot.to_be_bytes()].concat()
}

/// The first row after all rows of the key that `row` belongs to.
pub(super) fn row_after_key(row: &[u8]) -> Result<Vec<u8>, StoreError> {
    let (_, rest) = split_prefix(row)?;
    let mut after = row[..row.len() - rest.len()].to_vec();
    after.push(AFTER);
    Ok(after)
}

pub(super) fn bad_row(row: &[u8]) -> StoreError {
    let shown = &row[..row.len().min(64)];
    StoreError::damaged(format!("row key '{}'", shown.escape_ascii()))
}

pub(super) fn bad_value(row: &[u8], error: &Malformed) -> StoreError {
    let shown = &row[..row.len().min(64)];
    StoreError::damaged(format!("{error} in row '{}'", shown.escape_ascii()))
}

/// Appends the value of a key row.
pub(super) fn encode_head(header: &Header, string: Option<(Stamp, &[u8])>, out: &mut Vec<u8>) {
    out.push(KEY_ROW_VERSION);
    header.encode(out);
    if let Some((stamp, value)) = string {
        encode_sequenced(stamp, value, out);
    }
}

/// Reads the value of a key row: its header, and a string's stamp and value.
pub(super) fn decode_head(value: Bytes) -> Result<(Header, Option<(Stamp, Bytes)>), Malformed> {
    let mut r = Reader::new("key row", value);
    if r.u8()? != KEY_ROW_VERSION {
        return Err(r.malformed());
    }
    let header = Header::decode(&mut r)?;
    let string = if header.kind == KeyKind::String {
        let malformed = r.malformed();
        Some(decode_sequenced(&r.rest()).ok_or(malformed)?)
    } else if r.is_empty() {
        None
    } else {
        return Err(r.malformed());
    };
    Ok((header, string))
}

/// Reads the header in the value of a key row, and nothing else of it.
pub(super) fn decode_header(value: &[u8]) -> Result<Header, Malformed> {
    let value = value.get(..HEAD_BYTES_MAX).unwrap_or(value);
    let mut r = Reader::new("key row", Bytes::copy_from_slice(value));
    if r.u8()? != KEY_ROW_VERSION {
        return Err(r.malformed());
    }
    Header::decode(&mut r)
}

/// The stamp and value of a field row's cell.
pub(super) fn cell<'a>(row: &[u8], value: &'a [u8]) -> Result<(Stamp, &'a [u8]), StoreError> {
    // The short form read in place; `model::cell` owns the format.
    match value.split_first_chunk::<9>() {
        Some(([1, stamp @ ..], rest)) => Ok((Stamp(u64::from_le_bytes(*stamp)), rest)),
        _ => Err(bad_value(row, &Malformed { what: "cell" })),
    }
}

/// How far a shard has come. Its row is written in every batch, so it and the data agree.
///
/// Bytes: 1, epoch u64 LE, index u64 LE, stamp u64 LE, then LEB128: keys, n, n × (epoch,
/// first index). With members: 2, the same, and members to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied.
    pub position: Position,
    /// Its last stamp, or a greater one of an earlier entry: what the shard's clock must pass.
    pub stamp: Stamp,
    /// Keys that are there, expired ones that were not deleted yet included.
    pub keys: u64,
    /// Where each epoch began, up to the position.
    pub history: EpochHistory,
    /// What the last [`model::EntryKind::Members`] up to the position says; empty: there was none.
    pub members: Bytes,
}

impl Applied {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(1 + u8::from(!self.members.is_empty()));
        out.put_u64_le(self.position.epoch.0);
        out.put_u64_le(self.position.index);
        out.put_u64_le(self.stamp.0);
        put_len(out, self.keys);
        put_len(out, self.history.starts().len() as u64);
        for (epoch, index) in self.history.starts() {
            put_len(out, epoch.0);
            put_len(out, *index);
        }
        out.put_slice(&self.members);
    }

    /// Reads what [`Applied::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new("applied position", bytes);
        let has_members = match r.u8()? {
            1 => false,
            2 => true,
            _ => return Err(r.malformed()),
        };
        let position = Position {
            epoch: Epoch(r.number()?),
            index: r.number()?,
        };
        let stamp = Stamp(r.number()?);
        let keys = r.len()?;
        let mut history = EpochHistory::default();
        for _ in 0..r.count()? {
            if !history.note_told(Epoch(r.len()?), r.len()?) {
                return Err(r.malformed());
            }
        }
        if r.is_empty() == has_members {
            return Err(r.malformed());
        }
        Ok(Applied {
            position,
            stamp,
            keys,
            history,
            members: r.rest(),
        })
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_laid_out_as_written_down() {
        let mut rows = KeyRows::new(b"foo");
        assert_eq!(&rows.head()[..3], &[b'k', 0x2f, 0x96]); // slot 12182
        assert_eq!(&rows.head()[9..], b"\x03foo\0");
        let place = (xxh3_64(b"f") >> 32).to_be_bytes();
        let field = [b"\x03foo\x02", &place[4..], b"f"].concat();
        assert_eq!(&rows.field(b"f")[9..], field);
        assert_eq!(rows.purge()[0], b'p');
        assert_eq!(&rows.expiry(258)[..9], b"x\0\0\0\0\0\0\x01\x02");
    }

    #[test]
    fn the_cell_in_place_is_the_models_short_form() {
        let mut ours = Vec::new();
        encode_sequenced(Stamp(77), b"v", &mut ours);
        let mut models = BytesMut::new();
        encode_sequenced(Stamp(77), b"v", &mut models);
        assert_eq!(ours, models);
        assert_eq!(cell(b"", &ours).unwrap(), (Stamp(77), &b"v"[..]));
    }

    proptest! {
        #[test]
        fn row_keys_read_back(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            field in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<u64>(),
        ) {
            let mut rows = KeyRows::new(&key);
            prop_assert_eq!(key_row(rows.head()).unwrap(), KeyRow::Head { key: &key });
            let row = rows.field(&field).to_vec();
            prop_assert_eq!(key_row(&row).unwrap(), KeyRow::Field { key: &key, field: &field });
            prop_assert_eq!(rows.field_of(&row), &field);
            prop_assert_eq!(rows.field_cursor(&row), field_cursor_of(&field));
            let (from, to) = rows.fields(field_place(&field));
            prop_assert!(from <= row && row < to);
            let purge = rows.purge();
            prop_assert_eq!(purge_row(&purge).unwrap(), &key);
            let expiry = rows.expiry(at);
            prop_assert_eq!(expiry_row(&expiry).unwrap(), (at, &key[..]));
            prop_assert!(check_copied(&rows.purge(), &Bytes::new()).is_ok());
            let head = rows.head().to_vec();
            prop_assert!(row_at_place(place(&head)).as_slice() <= &head[..]);
            prop_assert!(row_after_key(&head).unwrap() > row);
        }

        #[test]
        fn no_bytes_make_them_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let value = Bytes::from(bytes.clone());
            for tag in [KEY, LOCAL, PURGE, EXPIRY] {
                let row = [&[tag], &bytes[..]].concat();
                let _ = check_copied(&row, &value);
                let _ = row_after_key(&row);
            }
            let _ = Applied::decode(value.clone());
            let _ = decode_head(value);
        }
    }

    #[test]
    fn the_longest_key_and_field_fit() {
        use model::limits::{FIELD_BYTES_MAX, KEY_BYTES_MAX};
        let mut rows = KeyRows::new(&vec![b'k'; KEY_BYTES_MAX]);
        let field = vec![b'f'; FIELD_BYTES_MAX];
        assert!(rows.field(&field).len() <= super::super::rows::ROW_KEY_BYTES_MAX);
        assert!(rows.expiry(1).len() <= super::super::rows::ROW_KEY_BYTES_MAX);
    }
}
