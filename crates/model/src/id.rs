//! Names and numbers of things. Text ids are checked once, when they are made.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// A name that breaks the rule of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{given}' is not valid: use 1 to 64 of a-z, 0-9, '-' and '_'")]
pub struct InvalidName {
    /// What was being named, such as `node id`.
    pub what: &'static str,
    /// The text as it came, cut to 80 characters.
    pub given: String,
}

fn check(what: &'static str, text: &str) -> Result<Arc<str>, InvalidName> {
    let fine = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if fine {
        Ok(text.into())
    } else {
        Err(InvalidName {
            what,
            given: text.chars().take(80).collect(),
        })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name, if it keeps the rule (1 to 64 of `a-z 0-9 - _`).
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                check($what, text).map(Self)
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(&text)
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A `quire server` process, by the name its configuration gives it.
    NodeId, "node id"
);
name!(
    /// Where a node stands. A link between two regions has a one-way latency.
    Region, "region"
);
name!(
    /// The name of a keyspace, as in `SELECT profiles`.
    KeyspaceName, "keyspace name"
);

impl NodeId {
    /// A number for protocols that need one. Stable for all time; never 0.
    pub fn number(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.0.as_bytes()).max(1)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The number of a keyspace, as in `SELECT 3`. Never used again after a drop.
    KeyspaceId, u32
);
number!(
    /// A shard, cluster-wide and for all time: a number is never used again.
    ShardId, u64
);
number!(
    /// Grows by one at each change of a shard's primary (a restart of the same process
    /// included), members or topology. A message of an older epoch is refused.
    Epoch, u64
);
number!(
    /// One life of one data directory: drawn at random when the directory is made, so that a
    /// node that comes back with an emptied disk is not mistaken for the one that left.
    DiskId, u64
);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Epoch(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_rule() {
        assert!(NodeId::new("us-1").is_ok());
        assert!(KeyspaceName::new(&"x".repeat(64)).is_ok());
        for bad in ["", "US", "a b", "ä", &"x".repeat(65)] {
            assert!(KeyspaceName::new(bad).is_err(), "{bad} was taken");
        }
        let wrong = postcard::to_stdvec("Not A Name").unwrap();
        assert!(postcard::from_bytes::<NodeId>(&wrong).is_err());
    }
}
