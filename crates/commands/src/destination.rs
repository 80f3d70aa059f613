//! Where COPY and MOVE put a value.

use crate::{error::Refusal, numbers};

/// What a command says of it besides keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<K> {
    /// The keyspace that is named, the last one if there are several.
    pub keyspace: Option<K>,
    /// Whether what is there goes.
    pub replace: bool,
}

impl<K> Destination<K> {
    /// Of `COPY source destination [DB keyspace] [REPLACE]`; `find` knows what a keyspace's number
    /// or name means.
    ///
    /// # Errors
    /// Those of `find`, and what is no option of COPY, whichever comes first.
    pub fn of_copy<E: From<Refusal>>(
        args: &[&[u8]],
        mut find: impl FnMut(&[u8]) -> Result<K, E>,
    ) -> Result<Self, E> {
        let mut destination = Destination {
            keyspace: None,
            replace: false,
        };
        let mut rest = args.get(3..).unwrap_or_default();
        while let [word, more @ ..] = rest {
            rest = more;
            if word.eq_ignore_ascii_case(b"replace") {
                destination.replace = true;
            } else if word.eq_ignore_ascii_case(b"db")
                && let [keyspace, more @ ..] = more
            {
                destination.keyspace = Some(find(keyspace)?);
                rest = more;
            } else {
                return Err(Refusal::Syntax.into());
            }
        }
        Ok(destination)
    }

    /// Of `MOVE key keyspace`.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn of_move<E: From<Refusal>>(
        args: &[&[u8]],
        find: impl FnOnce(&[u8]) -> Result<K, E>,
    ) -> Result<Self, E> {
        let keyspace = args.get(2).ok_or(Refusal::Syntax)?;
        Ok(Destination {
            keyspace: Some(find(keyspace)?),
            replace: false,
        })
    }
}

/// The number of a database, of which Redis takes those of an `int`.
///
/// # Errors
/// Redis's, for what is none.
pub fn database(text: &[u8]) -> Result<i32, Refusal> {
    let number = numbers::parse(text).ok_or(Refusal::NotAnInteger)?;
    let refusal = Refusal::OutOfRangeBetween(i32::MIN.into(), i32::MAX.into());
    i32::try_from(number).map_err(|_| refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Destination<i32>, Refusal> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        match args[0] {
            b"MOVE" => Destination::of_move(&args, database),
            _ => Destination::of_copy(&args, database),
        }
    }

    #[test]
    fn options_come_in_any_order_and_the_last_database_counts() {
        for (line, keyspace, replace) in [
            ("COPY a b", None, false),
            ("COPY a b replace", None, true),
            ("COPY a b DB 1 REPLACE", Some(1), true),
            ("COPY a b REPLACE db 1 REPLACE DB 2", Some(2), true),
            ("MOVE a 3", Some(3), false),
            ("MOVE a -1", Some(-1), false),
        ] {
            let expected = Destination { keyspace, replace };
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn the_first_error_counts() {
        let range = Refusal::OutOfRangeBetween(-2_147_483_648, 2_147_483_647);
        for (line, refusal) in [
            ("COPY a b DB", Refusal::Syntax),
            ("COPY a b c", Refusal::Syntax),
            ("COPY a b DB x c", Refusal::NotAnInteger),
            ("COPY a b c DB x", Refusal::Syntax),
            ("COPY a b DB 99999999999", range.clone()),
            ("MOVE a 99999999999", range),
            ("MOVE a 00", Refusal::NotAnInteger),
        ] {
            assert_eq!(parse(line), Err(refusal), "{line}");
        }
    }
}
