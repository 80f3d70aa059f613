//! When keys expire: EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL EXPIRETIME PEXPIRETIME PERSIST.

use crate::{
    error::{Refusal, c_line},
    evaluate::Evaluation,
    numbers,
};

type Outcome = Result<(), Refusal>;

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
                _ => return Err(Refusal::UnsupportedOption(c_line(word))),
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

/// `since_ms` is what the time that was given counts from.
fn expire_at(e: &mut Evaluation<'_>, unit_ms: i64, since_ms: u64) -> Outcome {
    let key = e.args[1];
    let options = ExpireOptions::parse(&e.args[3..])?;
    let time = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    let at_ms = time
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add_unsigned(since_ms))
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
    expire_at(e, 1000, e.cx.now_ms)
}

pub(crate) fn pexpire(e: &mut Evaluation<'_>) -> Outcome {
    expire_at(e, 1, e.cx.now_ms)
}

pub(crate) fn expireat(e: &mut Evaluation<'_>) -> Outcome {
    expire_at(e, 1000, 0)
}

pub(crate) fn pexpireat(e: &mut Evaluation<'_>) -> Outcome {
    expire_at(e, 1, 0)
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

fn to_seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1000
}

pub(crate) fn ttl(e: &mut Evaluation<'_>) -> Outcome {
    let left = left_ms(e)?;
    e.reply()
        .integer(if left < 0 { left } else { to_seconds(left) });
    Ok(())
}

pub(crate) fn pttl(e: &mut Evaluation<'_>) -> Outcome {
    let left = left_ms(e)?;
    e.reply().integer(left);
    Ok(())
}

/// When a key expires, in milliseconds since the Unix epoch; -1 for never, -2 if it is not
/// there.
fn expires_ms(e: &mut Evaluation<'_>) -> Result<i64, Refusal> {
    Ok(match e.key(e.args[1])?.live {
        None => -2,
        Some(header) if header.expires_ms == 0 => -1,
        Some(header) => i64::try_from(header.expires_ms).unwrap_or(i64::MAX),
    })
}

pub(crate) fn expiretime(e: &mut Evaluation<'_>) -> Outcome {
    let at = expires_ms(e)?;
    e.reply().integer(if at < 0 { at } else { to_seconds(at) });
    Ok(())
}

pub(crate) fn pexpiretime(e: &mut Evaluation<'_>) -> Outcome {
    let at = expires_ms(e)?;
    e.reply().integer(at);
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
