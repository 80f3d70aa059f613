//! Entries, what they carry, and what the control group keeps.

use super::{comes_back, messages, written};
use crate::input::parts;
use bytes::Bytes;
use model::{
    Entry, Mutation, Op, Stamp,
    cell::Cell,
    mutation::{DELETE_AT_ONCE_CELLS_MAX, Header, KeyKind, Ops},
};
use replication::consensus::{LogRecord, Recovered};

pub(super) fn entry(bytes: &[u8], mend: bool) {
    let mut bytes = bytes.to_vec();
    if mend {
        messages::mend_entry(&mut bytes);
    }
    let Some(entry) = comes_back(&bytes, Entry::decode, |entry| entry.bytes().clone()) else {
        return;
    };
    assert_eq!(entry.bytes(), &bytes, "an entry has one encoding");
    assert!(entry.last_stamp() >= entry.stamp);
    let anew = Entry::new(
        entry.position,
        entry.stamp,
        entry.kind,
        entry.ops,
        &entry.payload(),
    );
    assert_eq!(anew, entry);
    mutation(&entry.payload());
}

pub(super) fn mutation(bytes: &[u8]) {
    let decode = |bytes| {
        let ops = Ops::new(bytes).map(|op| op.map(as_written));
        ops.collect::<Result<Vec<Op>, _>>()
    };
    comes_back(bytes, decode, |ops| {
        Bytes::copy_from_slice(encoded(ops).bytes())
    });
    // What stands before something unreadable is read, and then it ends.
    let errors = Ops::new(Bytes::copy_from_slice(bytes)).filter(Result::is_err);
    assert!(errors.count() <= 1);
}

/// A deletion without a tombstone of more cells than are removed at once is never written: the
/// encoder makes a tombstone of it.
fn as_written(mut op: Op) -> Op {
    if let Op::Delete {
        cells, tombstone, ..
    } = &mut op
    {
        *tombstone |= *cells > DELETE_AT_ONCE_CELLS_MAX;
    }
    op
}

fn encoded(ops: &[Op]) -> Mutation {
    let mut out = Mutation::new();
    for op in ops {
        match op {
            Op::PutString {
                key,
                created,
                header,
                value,
            } => out.put_string(key, *created, header, value),
            Op::SetFields {
                key,
                created,
                header,
                fields,
            } => out.set_fields(
                key,
                *created,
                header.as_ref(),
                fields.iter().map(|(field, value)| (&field[..], &value[..])),
            ),
            Op::RemoveFields {
                key,
                header,
                fields,
            } => out.remove_fields(key, header.as_ref(), fields.iter().map(|field| &field[..])),
            Op::SetHeader { key, header } => out.set_header(key, header),
            Op::Delete {
                key,
                cells,
                tombstone,
            } => {
                let mut header = Header::new(KeyKind::Hash);
                header.fields = *cells;
                header.deleted = Stamp(u64::from(*tombstone));
                out.delete(key, &header);
            }
            Op::Clear => out.clear_shard(),
        }
    }
    out
}

/// Two copies of one cell, the first behind its length u16 LE: they come back, and merging
/// them is idempotent.
pub(super) fn cells(bytes: &[u8]) {
    let encode = |cell: &Cell| written(|out| cell.encode(out));
    let mut cells = parts(bytes).filter_map(|(_, part)| comes_back(part, Cell::decode, encode));
    let (Some(one), Some(other)) = (cells.next(), cells.next()) else {
        return;
    };
    let mut merged = one.clone();
    merged.merge(&other);
    let once = merged.clone();
    merged.merge(&other);
    assert_eq!(merged, once);
    let bytes = encode(&once);
    assert_eq!(Cell::decode(bytes).as_ref(), Ok(&once));
}

/// Records of the group in its node's log, replayed; a member that begins with them.
pub(super) fn group(bytes: &[u8]) {
    let mut recovered = Recovered::default();
    for (_, record) in parts(bytes) {
        let Some(record) = comes_back(record, LogRecord::decode, LogRecord::encode) else {
            continue;
        };
        recovered.replay(record);
    }
    let Ok(mut group) = messages::member(recovered) else {
        return;
    };
    messages::drive(&mut group);
    for _ in 0..20 {
        group.tick();
        messages::drive(&mut group);
    }
}
