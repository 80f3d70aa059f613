//! DUMP and RESTORE: a value as Redis serialises it.

use crate::{
    error::Refusal,
    evaluate::Evaluation,
    numbers, rdb,
    rename::{self, Value},
};
use model::limits::FIELD_BYTES_MAX;

type Outcome = Result<(), Refusal>;

pub(crate) fn dump(e: &mut Evaluation<'_>) -> Outcome {
    let key = e.args[1];
    let found = e.key(key)?;
    match rename::read(e, key, &found)? {
        None => e.reply().null(),
        Some(value) => e.reply().bulk(rdb::encode(&value)),
    }
    Ok(())
}

/// What follows `RESTORE key ttl payload`.
struct RestoreOptions {
    replace: bool,
    absolute: bool,
}

impl RestoreOptions {
    /// IDLETIME and FREQ are checked; no access times are kept.
    fn parse(args: &[&[u8]]) -> Result<Self, Refusal> {
        let mut options = RestoreOptions {
            replace: false,
            absolute: false,
        };
        let (mut idle, mut frequency) = (false, false);
        let mut rest = args;
        while let [word, more @ ..] = rest {
            rest = more;
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let number = |text: &[u8]| numbers::parse(text).ok_or(Refusal::NotAnInteger);
            match more {
                _ if is("replace") => options.replace = true,
                _ if is("absttl") => options.absolute = true,
                [seconds, more @ ..] if is("idletime") && !frequency => {
                    if number(seconds)? < 0 {
                        return Err(Refusal::RestoreIdleTime);
                    }
                    (idle, rest) = (true, more);
                }
                [count, more @ ..] if is("freq") && !idle => {
                    if !(0..=255).contains(&number(count)?) {
                        return Err(Refusal::RestoreFrequency);
                    }
                    (frequency, rest) = (true, more);
                }
                _ => return Err(Refusal::Syntax),
            }
        }
        Ok(options)
    }
}

pub(crate) fn restore(e: &mut Evaluation<'_>) -> Outcome {
    let (key, payload) = (e.args[1], e.args[3]);
    let options = RestoreOptions::parse(&e.args[4..])?;
    let found = e.key(key)?;
    if found.live.is_some() && !options.replace {
        return Err(Refusal::BusyKey);
    }
    let ttl = numbers::parse(e.args[2]).ok_or(Refusal::NotAnInteger)?;
    let ttl = u64::try_from(ttl).map_err(|_| Refusal::RestoreTtl)?;
    let value = rdb::decode(payload).map_err(|error| match error {
        rdb::Error::Checksum => Refusal::PayloadChecksum,
        rdb::Error::Format => Refusal::PayloadFormat,
        rdb::Error::Type(name) => Refusal::PayloadType(name),
    })?;
    if let Value::Hash(fields) = &value
        && fields
            .iter()
            .any(|(field, _)| field.len() > FIELD_BYTES_MAX)
    {
        return Err(Refusal::FieldTooLong);
    }
    let expires_ms = match ttl {
        0 => 0,
        at if options.absolute => at,
        ttl => ttl
            .checked_add(e.cx.now_ms)
            .filter(|at| *at <= i64::MAX.unsigned_abs())
            .ok_or(Refusal::ExpireTime(e.spec.name))?,
    };
    if expires_ms != 0 && expires_ms <= e.cx.now_ms {
        e.delete(key, &found);
    } else {
        rename::write(e, key, &found, expires_ms, &value)?;
    }
    e.reply().ok();
    Ok(())
}
