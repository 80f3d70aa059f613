//! What peers send, and the records and rows that they and the disk hold: whatever the bytes,
//! they are decoded or refused; what was decoded encodes to bytes that decode to the same; and
//! what takes it in neither panics nor ends up with a state that contradicts itself.
//!
//! # The input
//! A byte that says what the rest is: its place in [`KINDS`], plus 128 for checksums to be put
//! right where there are some. Where several messages follow each other they stand as parts:
//! tag u8 (the sender), length u16 LE, bytes.

mod catalog;
mod messages;
mod records;
mod replicas;
mod store;

use bytes::{Bytes, BytesMut};
use std::fmt::Debug;

/// With this the checksums are put right.
pub const MEND: u8 = 128;

/// What the bytes behind the first one are; whether to put checksums right is the argument.
type Kind = fn(&[u8], bool);

/// Every kind, by its number. Numbers stay: the corpus has them.
pub const KINDS: [(&str, Kind); 15] = [
    ("messages between nodes", |b, _| messages::node(b)),
    ("messages between replicas", messages::replica),
    ("messages of the control group", |b, _| messages::group(b)),
    ("frames", messages::frames),
    ("hello", |b, _| messages::hello(b)),
    ("orders to the links", |b, _| messages::links(b)),
    ("entry", records::entry),
    ("mutation", |b, _| records::mutation(b)),
    ("cells", |b, _| records::cells(b)),
    ("records of the control group", |b, _| records::group(b)),
    ("applied position", |b, _| store::applied(b)),
    ("rows of a copy", |b, _| store::rows(b)),
    ("catalog", |b, _| catalog::snapshot(b)),
    ("commands to the catalog", |b, _| catalog::proposals(b)),
    ("replicas at work", replicas::at_work),
];

/// See the module.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if let Some((_, check)) = KINDS.get(usize::from(kind & !MEND)) {
        check(rest, kind & MEND != 0);
    }
}

/// What was decoded encodes to what decodes to the same; returned is what was decoded.
fn comes_back<T: PartialEq + Debug, E>(
    bytes: &[u8],
    decode: impl Fn(Bytes) -> Result<T, E>,
    encode: impl Fn(&T) -> Bytes,
) -> Option<T> {
    let value = decode(Bytes::copy_from_slice(bytes)).ok()?;
    let again = decode(encode(&value)).ok();
    assert_eq!(again.as_ref(), Some(&value));
    Some(value)
}

/// The same for what only its crate can see: told as text, and encoded again.
fn told_again(bytes: &[u8], recode: impl Fn(Bytes) -> Option<(String, Bytes)>) {
    if let Some((told, bytes)) = recode(Bytes::copy_from_slice(bytes)) {
        assert_eq!(recode(bytes.clone()), Some((told, bytes)));
    }
}

fn written(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}
