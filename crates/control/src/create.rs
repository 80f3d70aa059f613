//! The words of `KEYSPACE CREATE`:
//!
//! ```text
//! KEYSPACE CREATE name [PRESET preset] [TOPOLOGY primary-replica | consensus]
//!     [ACK async | semi-sync:k[@region] | sync | quorum | local-quorum]
//!     [ON_TIMEOUT block | error | degrade] [TIMEOUT ms]
//!     PLACE region=replicas[,…] [PRIMARY region] [SHARDS n]
//!     [FAILOVER safe | available] [REPLACE_AFTER ms]
//! ```
//! What follows the name comes in any order; keywords in any case. A preset is spelled out before
//! (`preset`), and then there is a `PLACE`. Defaults: `ACK async`,
//! `ON_TIMEOUT block`, `TIMEOUT 10000`, the primary in the first region of `PLACE`,
//! `SHARDS 1`, `FAILOVER available` with `ACK async` and `safe` with the other rules,
//! `REPLACE_AFTER 300000`.

use crate::{
    command::CreateKeyspace,
    policy::{self, REPLACE_AFTER_MAX, REPLACE_AFTER_MIN, SHARDS_MAX, TIMEOUT_MAX},
    refusal::StrategyRefusal,
};
use model::{
    AckRule, Failover, KeyspaceName, OnTimeout, Placement, Region, Topology,
    id::InvalidName,
    strategy::{InvalidStrategy, REPLACE_AFTER_DEFAULT, Strategy},
};
use std::time::Duration;

/// The words, for whoever gets them wrong.
pub const SYNTAX: &str = "KEYSPACE CREATE name [PRESET rds|aurora-like|github|reference|reference-sharded] [TOPOLOGY primary-replica|consensus] [ACK async|semi-sync:k[@region]|sync|quorum|local-quorum] [ON_TIMEOUT block|error|degrade] [TIMEOUT ms] PLACE us=3,eu=2 [PRIMARY region] [SHARDS n] [FAILOVER safe|available] [REPLACE_AFTER ms]";

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What is wrong with the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// There is none.
    #[error("the keyspace's name is missing: {SYNTAX}")]
    NameMissing,
    /// Not a keyword.
    #[error("unknown argument '{given}': {SYNTAX}")]
    Unknown {
        /// What was given.
        given: String,
    },
    /// Given twice.
    #[error("{keyword} is given twice: give it once")]
    Duplicate {
        /// The keyword.
        keyword: &'static str,
    },
    /// Nothing follows a keyword.
    #[error("{keyword} needs a value: {SYNTAX}")]
    ValueMissing {
        /// The keyword.
        keyword: &'static str,
    },
    /// Without a default.
    #[error(
        "PLACE is missing: say how many replicas each region holds, as in PLACE us=3,eu=2, or name a PRESET"
    )]
    PlaceMissing,
    /// Not a value of its keyword.
    #[error("{keyword} '{given}' is not valid: use {expected}")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// What was given.
        given: String,
        /// What would be right.
        expected: String,
    },
    /// Not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// `SELECT` would take it for the number of another keyspace.
    #[error(
        "keyspace name '{name}' is a number, which SELECT takes for a keyspace's number: put a letter into it"
    )]
    NumberAsName {
        /// The name.
        name: KeyspaceName,
    },
    /// What another topology leaves to choose.
    #[error(
        "{keyword} is not a choice of consensus: a write is acknowledged once a majority of the replicas has it, and they elect another primary by themselves; leave it out"
    )]
    NotOfConsensus {
        /// The keyword.
        keyword: &'static str,
    },
    /// Not a rule or placement.
    #[error(transparent)]
    Part(#[from] InvalidStrategy),
    /// Each part is right, the whole isn't.
    #[error(transparent)]
    Strategy(#[from] StrategyRefusal),
}

/// What only primary-replica leaves to choose.
const OF_PRIMARY_REPLICA: [&str; 4] = ["ACK", "ON_TIMEOUT", "TIMEOUT", "FAILOVER"];

const KEYWORDS: [&str; 9] = [
    "TOPOLOGY",
    "ACK",
    "ON_TIMEOUT",
    "TIMEOUT",
    "PLACE",
    "PRIMARY",
    "SHARDS",
    "FAILOVER",
    "REPLACE_AFTER",
];

/// Reads the name and what follows it. What depends on the nodes that there are is judged
/// when the command is applied.
pub fn parse(args: &[&[u8]]) -> Result<CreateKeyspace, CreateError> {
    let (name, rest) = args.split_first().ok_or(CreateError::NameMissing)?;
    let name = KeyspaceName::new(&text(name))?;
    if name.as_str().bytes().all(|b| b.is_ascii_digit()) {
        return Err(CreateError::NumberAsName { name });
    }
    let values = collect(rest)?;
    let value = |keyword: &str| {
        let at = KEYWORDS.iter().position(|k| *k == keyword)?;
        values[at].as_deref()
    };

    let topology = match value("TOPOLOGY") {
        None => Topology::PrimaryReplica,
        Some(given) => given.parse()?,
    };
    if topology == Topology::Consensus
        && let Some(keyword) = OF_PRIMARY_REPLICA.into_iter().find(|k| value(k).is_some())
    {
        return Err(CreateError::NotOfConsensus { keyword });
    }
    let placement: Placement = value("PLACE").ok_or(CreateError::PlaceMissing)?.parse()?;
    let primary_region = match value("PRIMARY") {
        Some(given) => Region::new(given)?,
        // A placement that was read holds at least one region.
        None => match placement.regions().first() {
            Some((region, _)) => region.clone(),
            None => return Err(CreateError::PlaceMissing),
        },
    };
    let ack = match topology {
        Topology::PrimaryReplica => value("ACK").map_or(Ok(AckRule::Async), str::parse)?,
        Topology::Consensus => AckRule::Quorum,
    };
    let on_timeout = value("ON_TIMEOUT").map_or(Ok(OnTimeout::Block), str::parse)?;
    let failover = match value("FAILOVER") {
        None => Failover::default_for(&ack),
        Some(given) => given.parse()?,
    };
    let within = |keyword, unless, least, most: Duration| match value(keyword) {
        None => Ok(unless),
        Some(given) => match given.parse().map(Duration::from_millis) {
            Ok(given) if (least..=most).contains(&given) => Ok(given),
            _ => {
                let (least, most) = (least.as_millis(), most.as_millis());
                let expected = format!("{least} to {most} milliseconds");
                Err(invalid(keyword, given, &expected))
            }
        },
    };
    let timeout = within(
        "TIMEOUT",
        TIMEOUT_DEFAULT,
        Duration::from_millis(1),
        TIMEOUT_MAX,
    )?;
    let replace_after = within(
        "REPLACE_AFTER",
        REPLACE_AFTER_DEFAULT,
        REPLACE_AFTER_MIN,
        REPLACE_AFTER_MAX,
    )?;
    let shards = match value("SHARDS") {
        None => 1,
        Some(given) => match given.parse() {
            Ok(n) if (1..=SHARDS_MAX).contains(&n) => n,
            _ => return Err(invalid("SHARDS", given, &format!("1 to {SHARDS_MAX}"))),
        },
    };
    let strategy = Strategy {
        topology,
        ack,
        on_timeout,
        timeout,
        placement,
        primary_region,
        failover,
        replace_after,
    };
    policy::check_rule(&strategy)?;
    Ok(CreateKeyspace {
        name,
        strategy,
        shards,
        avoid: Vec::new(),
    })
}

/// The value of each keyword, in the order of [`KEYWORDS`].
fn collect(args: &[&[u8]]) -> Result<[Option<String>; KEYWORDS.len()], CreateError> {
    let mut values: [Option<String>; KEYWORDS.len()] = Default::default();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let word = text(word);
        let at = KEYWORDS
            .iter()
            .position(|k| k.eq_ignore_ascii_case(&word))
            .ok_or(CreateError::Unknown {
                given: shown(&word),
            })?;
        let keyword = KEYWORDS[at];
        if values[at].is_some() {
            return Err(CreateError::Duplicate { keyword });
        }
        let value = args.next().ok_or(CreateError::ValueMissing { keyword })?;
        values[at] = Some(text(value));
    }
    Ok(values)
}

/// Bytes that are not UTF-8 stay wrong, and visible, in the text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn invalid(keyword: &'static str, given: &str, expected: &str) -> CreateError {
    CreateError::Value {
        keyword,
        given: shown(given),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<CreateKeyspace, CreateError> {
        let args: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        parse(&args)
    }

    #[test]
    fn defaults_and_any_order_and_case() {
        let k = parse_words("profiles PLACE us=3,eu=2,asia=2").unwrap();
        assert_eq!(k.name.as_str(), "profiles");
        assert_eq!(k.shards, 1);
        assert_eq!(
            k.strategy,
            Strategy {
                topology: Topology::PrimaryReplica,
                ack: AckRule::Async,
                on_timeout: OnTimeout::Block,
                timeout: Duration::from_secs(10),
                placement: "us=3,eu=2,asia=2".parse().unwrap(),
                primary_region: Region::new("us").unwrap(),
                failover: Failover::Available,
                replace_after: Duration::from_secs(300),
            }
        );
        let k = parse_words(
            "p shards 8 Primary eu ack SEMI-SYNC:1@eu place us=3,eu=2 timeout 250 on_timeout DEGRADE topology Primary-Replica",
        )
        .unwrap();
        assert_eq!((k.shards, k.strategy.timeout.as_millis()), (8, 250));
        assert_eq!(k.strategy.ack.to_string(), "semi-sync:1@eu");
        assert_eq!(k.strategy.on_timeout, OnTimeout::Degrade);
        assert_eq!(k.strategy.primary_region.as_str(), "eu");
        assert_eq!(k.strategy.failover, Failover::Safe);
        let k = parse_words("p PLACE us=2 ACK sync failover AVAILABLE REPLACE_AFTER 1000").unwrap();
        assert_eq!(k.strategy.failover, Failover::Available);
        assert_eq!(k.strategy.replace_after, Duration::from_secs(1));
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, golden) in [
            ("", "the keyspace's name is missing"),
            ("P PLACE us=1", "keyspace name 'P' is not valid"),
            ("7 PLACE us=1", "keyspace name '7' is a number"),
            ("p", "PLACE is missing"),
            ("p PLACE", "PLACE needs a value"),
            ("p PLACE us=1 place us=2", "PLACE is given twice"),
            ("p PLACE us=1 COLOUR red", "unknown argument 'COLOUR'"),
            ("p PLACE us", "placement 'us' is not valid"),
            ("p PLACE us=1 ACK all", "ACK 'all' is not valid: use async"),
            (
                "p PLACE us=1 SHARDS 0",
                "SHARDS '0' is not valid: use 1 to 1024",
            ),
            ("p PLACE us=1 SHARDS 1025", "SHARDS '1025' is not valid"),
            (
                "p PLACE us=1 TIMEOUT 0",
                "TIMEOUT '0' is not valid: use 1 to 3600000 milliseconds",
            ),
            ("p PLACE us=1 TIMEOUT 1s", "TIMEOUT '1s' is not valid"),
            (
                "p PLACE us=1 ON_TIMEOUT panic",
                "ON_TIMEOUT 'panic' is not valid: use block, error or degrade",
            ),
            (
                "p PLACE us=1 TOPOLOGY ring",
                "TOPOLOGY 'ring' is not valid: use primary-replica or consensus",
            ),
            (
                "p PLACE us=3 TOPOLOGY consensus ACK sync",
                "ACK is not a choice of consensus: a write is acknowledged once a majority",
            ),
            (
                "p PLACE us=3 FAILOVER safe TOPOLOGY consensus",
                "FAILOVER is not a choice of consensus",
            ),
            ("p PLACE us=1 PRIMARY US", "region 'US' is not valid"),
            (
                "p PLACE us=1 FAILOVER never",
                "FAILOVER 'never' is not valid: use safe or available",
            ),
            (
                "p PLACE us=1 REPLACE_AFTER 999",
                "REPLACE_AFTER '999' is not valid: use 1000 to 604800000 milliseconds",
            ),
        ] {
            let error = parse_words(words).unwrap_err().to_string();
            assert!(error.starts_with(golden), "{words}: {error}");
        }
        assert!(parse(&[b"p", b"PLACE", b"\xff=1"]).is_err());
    }
}
