//! What SET and GETEX may be told: when the key expires, on what it depends.

use crate::{error::Refusal, numbers};

/// When a key expires from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry<'a> {
    /// Never.
    Clear,
    /// When it did before.
    Keep,
    /// At this time.
    At(Time<'a>),
}

/// A time as it was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) unit: Unit,
}

/// Which word gave the time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds from now.
    Ex,
    /// Milliseconds from now.
    Px,
    /// Seconds since the Unix epoch.
    ExAt,
    /// Milliseconds since the Unix epoch.
    PxAt,
}

impl Time<'_> {
    /// In milliseconds since the Unix epoch; `name` is the command's, for the refusal.
    pub(crate) fn expires_ms(self, now_ms: u64, name: &'static str) -> Result<u64, Refusal> {
        let invalid = Refusal::ExpireTime(name);
        let time = numbers::parse(self.text).ok_or(Refusal::NotAnInteger)?;
        if time <= 0 {
            return Err(invalid);
        }
        let ms = match self.unit {
            Unit::Ex | Unit::ExAt => time.checked_mul(1000),
            Unit::Px | Unit::PxAt => Some(time),
        };
        let at = match self.unit {
            Unit::Ex | Unit::Px => ms.and_then(|ms| ms.checked_add_unsigned(now_ms)),
            Unit::ExAt | Unit::PxAt => ms,
        };
        at.map(i64::unsigned_abs).ok_or(invalid)
    }
}

/// On what a SET depends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    Absent,
    Present,
}

/// What follows `SET key value`, or `GETEX key`.
pub(crate) struct SetOptions<'a> {
    pub(crate) expiry: Expiry<'a>,
    pub(crate) condition: Condition,
    pub(crate) get: bool,
}

impl<'a> SetOptions<'a> {
    /// What follows `SET key value`: without a word, the key never expires.
    pub(crate) fn of_set(args: &'a [&'a [u8]]) -> Result<Self, Refusal> {
        Self::parse(args, Expiry::Clear, "keepttl")
    }

    /// What follows `GETEX key`: without a word, the key expires as before.
    pub(crate) fn of_getex(args: &'a [&'a [u8]]) -> Result<Self, Refusal> {
        Self::parse(args, Expiry::Keep, "persist")
    }

    /// `other` is the word for what `unless_told` is not.
    fn parse(args: &'a [&'a [u8]], unless_told: Expiry<'a>, other: &str) -> Result<Self, Refusal> {
        let is_set = unless_told == Expiry::Clear;
        let told = if is_set { Expiry::Keep } else { Expiry::Clear };
        let mut options = SetOptions {
            expiry: unless_told,
            condition: Condition::Always,
            get: false,
        };
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is_set && is("nx") && options.condition != Condition::Present {
                options.condition = Condition::Absent;
            } else if is_set && is("xx") && options.condition != Condition::Absent {
                options.condition = Condition::Present;
            } else if is_set && is("get") {
                options.get = true;
            } else if is(other) && !matches!(options.expiry, Expiry::At(_)) {
                options.expiry = told;
            } else {
                let unit = match () {
                    () if is("ex") => Unit::Ex,
                    () if is("px") => Unit::Px,
                    () if is("exat") => Unit::ExAt,
                    () if is("pxat") => Unit::PxAt,
                    () => return Err(Refusal::Syntax),
                };
                // The same word twice is no error to Redis: the later one holds.
                match options.expiry {
                    Expiry::At(before) if before.unit == unit => {}
                    before if before == unless_told => {}
                    _ => return Err(Refusal::Syntax),
                }
                let text = rest.next().ok_or(Refusal::Syntax)?;
                options.expiry = Expiry::At(Time { text, unit });
            }
        }
        Ok(options)
    }
}
