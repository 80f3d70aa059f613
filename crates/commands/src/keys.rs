//! Keys of any kind: DEL UNLINK EXISTS TYPE EXPIRE PEXPIRE TTL PTTL PERSIST SCAN DBSIZE
//! FLUSHDB.

use crate::{
    error::{Refusal, line},
    evaluate::Evaluation,
    glob, numbers,
};
use bytes::BytesMut;
use model::mutation::KeyKind;
use resp::reply::Encoder;

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

/// When EXPIRE does something.
#[derive(Default)]
struct ExpireOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireOptions {
    fn parse(args: &[&[u8]]) -> Result<Self, Refusal> {
        let mut options = ExpireOptions::default();
        for word in args {
            let flag = match word.to_ascii_lowercase().as_slice() {
                b"nx" => &mut options.nx,
                b"xx" => &mut options.xx,
                b"gt" => &mut options.gt,
                b"lt" => &mut options.lt,
                _ => return Err(Refusal::UnsupportedOption(line(word))),
            };
            *flag = true;
        }
        if options.nx && (options.xx || options.gt || options.lt) {
            return Err(Refusal::NxWithOthers);
        }
        if options.gt && options.lt {
            return Err(Refusal::GtWithLt);
        }
        Ok(options)
    }

    /// Whether a key that expires at `before_ms` (0 for never, which is after any time) may
    /// expire at `at_ms` instead.
    fn allow(&self, before_ms: u64, at_ms: i64) -> bool {
        let before = (before_ms != 0).then_some(i64::try_from(before_ms).unwrap_or(i64::MAX));
        !(self.nx && before.is_some()
            || self.xx && before.is_none()
            || self.gt && before.is_none_or(|before| at_ms <= before)
            || self.lt && before.is_some_and(|before| at_ms >= before))
    }
}

fn expire_in(e: &mut Evaluation<'_>, unit_ms: i64) -> Outcome {
    let key = e.args[1];
    let options = ExpireOptions::parse(&e.args[3..])?;
    let time = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    let at_ms = time
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add_unsigned(e.cx.now_ms))
        .ok_or(Refusal::ExpireTime(e.spec.name))?;
    let found = e.key(key)?;
    let changed = match found.live {
        Some(mut header) if options.allow(header.expires_ms, at_ms) => {
            match u64::try_from(at_ms) {
                Ok(at_ms) if at_ms > e.cx.now_ms => {
                    header.expires_ms = at_ms;
                    e.mutation.set_header(key, &header);
                }
                // Its time is over already.
                _ => {
                    e.delete(key, &found);
                }
            }
            true
        }
        _ => false,
    };
    e.reply().integer(changed.into());
    Ok(())
}

pub(crate) fn expire(e: &mut Evaluation<'_>) -> Outcome {
    expire_in(e, 1000)
}

pub(crate) fn pexpire(e: &mut Evaluation<'_>) -> Outcome {
    expire_in(e, 1)
}

/// How long a key still lives, in milliseconds; -1 for ever, -2 if it is not there.
fn left_ms(e: &mut Evaluation<'_>) -> Result<i64, Refusal> {
    let now_ms = e.cx.now_ms;
    Ok(match e.key(e.args[1])?.live {
        None => -2,
        Some(header) if header.expires_ms == 0 => -1,
        Some(header) => i64::try_from(header.expires_ms - now_ms).unwrap_or(i64::MAX),
    })
}

pub(crate) fn ttl(e: &mut Evaluation<'_>) -> Outcome {
    let left = left_ms(e)?;
    let rounded = if left < 0 {
        left
    } else {
        left.saturating_add(500) / 1000
    };
    e.reply().integer(rounded);
    Ok(())
}

pub(crate) fn pttl(e: &mut Evaluation<'_>) -> Outcome {
    let left = left_ms(e)?;
    e.reply().integer(left);
    Ok(())
}

pub(crate) fn persist(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let lifted = match e.key(key)?.live {
        Some(mut header) if header.expires_ms != 0 => {
            header.expires_ms = 0;
            e.mutation.set_header(key, &header);
            true
        }
        _ => false,
    };
    e.reply().integer(lifted.into());
    Ok(())
}

/// Keys that one SCAN goes over at most, give or take what shares a cursor: COUNT is a hint,
/// and a shard must not be held up.
const SCAN_COUNT_MAX: usize = 10_000;

/// What follows `SCAN cursor`.
struct ScanOptions<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    fn parse(args: &'a [&'a [u8]]) -> Result<Self, Refusal> {
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
            } else if is("type") {
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

    fn wants(&self, key: &[u8], kind: KeyKind) -> bool {
        let name = kind_name(kind).as_bytes();
        self.kind
            .is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
            && self
                .pattern
                .is_none_or(|pattern| glob::matches(pattern, key))
    }
}

pub(crate) fn scan(e: &mut Evaluation<'_>) -> Outcome {
    let cursor = numbers::parse_cursor(e.args[1]).ok_or(Refusal::Cursor)?;
    let options = ScanOptions::parse(&e.args[2..])?;
    let cx = e.cx;
    // The reply begins with what is known last: the cursor and how many keys there are.
    let mut part = BytesMut::new();
    let mut keys = Encoder::new(cx.version, &mut part);
    let mut found = 0;
    let mutation = &mut *e.mutation;
    let next = e.view.scan(cursor, options.count, &mut |key, header| {
        if header.is_live(cx.now_ms) {
            if options.wants(key, header.kind) {
                keys.bulk(key);
                found += 1;
            }
        } else if cx.may_write && header.kind != KeyKind::Tombstone && mutation.ops() < u16::MAX {
            // What doesn't fit is met by the next scan.
            mutation.delete(key, header);
        }
    })?;
    let mut reply = e.reply();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(found);
    e.reply_raw(&part);
    Ok(())
}

pub(crate) fn dbsize(e: &mut Evaluation<'_>) -> Outcome {
    let keys = e.view.key_count()?;
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
