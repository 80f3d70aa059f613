//! Keys of any kind: DEL UNLINK EXISTS TOUCH TYPE SCAN KEYS RANDOMKEY DBSIZE FLUSHDB FLUSHALL.

use crate::random::Random;
use crate::{error::Refusal, evaluate::Evaluation, numbers};
use bytes::Bytes;
use model::{cursor, mutation::KeyKind, slot};

type Outcome = Result<(), Refusal>;

pub(crate) fn del(e: &mut Evaluation<'_>) -> Outcome {
    let mut deleted = 0;
    for key in &e.args[1..] {
        let found = e.key(key)?;
        deleted += i64::from(e.delete(key, &found));
    }
    e.reply().integer(deleted);
    Ok(())
}

pub(crate) fn exists(e: &mut Evaluation<'_>) -> Outcome {
    let mut there = 0;
    for key in &e.args[1..] {
        there += i64::from(e.key(key)?.live.is_some());
    }
    e.reply().integer(there);
    Ok(())
}

/// Redis's name of what a key holds.
fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Tombstone => "none",
        KeyKind::String => "string",
        KeyKind::Hash => "hash",
    }
}

pub(crate) fn type_of(e: &mut Evaluation<'_>) -> Outcome {
    let found = e.key(e.args[1])?;
    let kind = found.live.map_or(KeyKind::Tombstone, |header| header.kind);
    e.reply().simple(kind_name(kind));
    Ok(())
}

/// Keys that one SCAN goes over at most, give or take what shares a cursor: COUNT is a hint,
/// and a shard must not be held up.
const SCAN_COUNT_MAX: usize = 10_000;

/// What follows `SCAN cursor`, or `HSCAN key cursor`.
pub(crate) struct ScanOptions<'a> {
    pub(crate) count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// `of_keys`: whether a type may be asked for.
    pub(crate) fn parse(args: &'a [&'a [u8]], of_keys: bool) -> Result<Self, Refusal> {
        let mut options = ScanOptions {
            count: 10,
            pattern: None,
            kind: None,
        };
        let (pairs, odd) = args.as_chunks::<2>();
        for [word, value] in pairs {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("count") {
                let count = numbers::parse(value).ok_or(Refusal::NotAnInteger)?;
                if count < 1 {
                    return Err(Refusal::Syntax);
                }
                options.count = usize::try_from(count)
                    .unwrap_or(usize::MAX)
                    .min(SCAN_COUNT_MAX);
            } else if is("match") {
                options.pattern = Some(value).filter(|pattern| **pattern != b"*").copied();
            } else if of_keys && is("type") {
                options.kind = Some(value);
            } else {
                return Err(Refusal::Syntax);
            }
        }
        if !odd.is_empty() {
            return Err(Refusal::Syntax);
        }
        Ok(options)
    }

    fn wants(&self, kind: KeyKind) -> bool {
        let name = kind_name(kind).as_bytes();
        self.kind
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
    }

    pub(crate) fn wants_name(&self, e: &Evaluation<'_>, name: &[u8]) -> Result<bool, Refusal> {
        self.pattern
            .map_or(Ok(true), |pattern| e.matches(pattern, name))
    }
}

pub(crate) fn scan(e: &mut Evaluation<'_>) -> Outcome {
    let cursor = numbers::parse_cursor(e.args[1]).ok_or(Refusal::Cursor)?;
    let options = ScanOptions::parse(&e.args[2..], true)?;
    let mut keys = Vec::new();
    let next = e.scan_live(cursor, options.count, &mut |key, kind| {
        if options.wants(kind) {
            keys.push(Bytes::copy_from_slice(key));
        }
    })?;
    // The reply begins with the cursor and how many keys there are.
    let keys = wanted(e, keys, |e, key| options.wants_name(e, key))?;
    let mut reply = e.reply();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// Those of `keys` of which `wants` holds.
fn wanted(
    e: &Evaluation<'_>,
    mut keys: Vec<Bytes>,
    wants: impl Fn(&Evaluation<'_>, &[u8]) -> Result<bool, Refusal>,
) -> Result<Vec<Bytes>, Refusal> {
    let mut refusal = None;
    keys.retain(|key| {
        refusal.is_none()
            && wants(e, key).unwrap_or_else(|error| {
                refusal = Some(error);
                false
            })
    });
    refusal.map_or(Ok(keys), Err)
}

/// Keys of a shard that KEYS goes over: what is slower than some 100 ms is for SCAN.
const KEYS_COUNT_MAX: u64 = 100_000;

pub(crate) fn keys(e: &mut Evaluation<'_>) -> Outcome {
    let pattern = e.args[1];
    let there = e.key_count()?;
    if there > KEYS_COUNT_MAX {
        return Err(Refusal::TooManyToList {
            name: e.spec.name,
            keys: there,
            keys_max: KEYS_COUNT_MAX,
        });
    }
    let mut keys = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = e.scan_live(cursor, SCAN_COUNT_MAX, &mut |key, _| {
            keys.push(Bytes::copy_from_slice(key));
        })?;
        if cursor == 0 {
            break;
        }
    }
    let all = pattern == b"*";
    let keys = wanted(e, keys, |e, key| match all {
        true => Ok(true),
        false => e.matches(pattern, key),
    })?;
    let mut reply = e.reply();
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// Neighbours that RANDOMKEY chooses among, so that wide gaps before a key matter little.
const NEIGHBOURS: usize = 64;

/// A key by chance. Every key of a shard with up to 64 is as likely as any other; of more,
/// about so.
pub(crate) fn randomkey(e: &mut Evaluation<'_>) -> Outcome {
    let mut random = Random(e.cx.random);
    let slot = (random.next() % u64::from(slot::SLOTS)) as u16;
    let mut near = neighbours(e, cursor::at_slot(slot), 1)?;
    if let Some(key) = near.first() {
        // Within the slot that was met, from anywhere on: one slot may hold all keys.
        let from = cursor::within(slot::of(key), random.next());
        near = neighbours(e, from, NEIGHBOURS)?;
    }
    match near.get(random.below(near.len())) {
        Some(key) => e.reply().bulk(key),
        None => e.reply().null(),
    }
    Ok(())
}

/// Up to `count` keys that are there, from `from` on and, at the end, from the beginning.
fn neighbours(e: &mut Evaluation<'_>, from: u64, count: usize) -> Result<Vec<Bytes>, Refusal> {
    let mut found: Vec<Bytes> = Vec::new();
    let (mut cursor, mut wrapped) = (from, false);
    while found.len() < count {
        cursor = e.scan_live(cursor, count, &mut |key, _| {
            found.push(Bytes::copy_from_slice(key));
        })?;
        if wrapped && (cursor == 0 || cursor > from) {
            break;
        }
        wrapped |= cursor == 0;
    }
    // The last round may have come by the first keys again.
    found.truncate(count);
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

pub(crate) fn dbsize(e: &mut Evaluation<'_>) -> Outcome {
    let keys = e.key_count()?;
    e.reply().integer(i64::try_from(keys).unwrap_or(i64::MAX));
    Ok(())
}

pub(crate) fn flushdb(e: &mut Evaluation<'_>) -> Outcome {
    let known = |word: &[u8]| {
        [&b"sync"[..], b"async"]
            .iter()
            .any(|w| word.eq_ignore_ascii_case(w))
    };
    match &e.args[1..] {
        [] => {}
        [word] if known(word) => {}
        _ => return Err(Refusal::Syntax),
    }
    e.mutation.clear_shard();
    e.reply().ok();
    Ok(())
}
