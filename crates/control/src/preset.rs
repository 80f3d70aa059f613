//! `PRESET` of `KEYSPACE CREATE`: the strategies of systems that people know, spelled out as the
//! options that they stand for, before these are read. An option that is given takes the place
//! of the preset's; the keyspace keeps what was spelled out, and not the preset's name.

use model::Region;

/// Each, with what it takes after.
pub const PRESETS: [(&str, Preset); 7] = [
    (
        "rds",
        Preset::Options {
            place: Place::Around { home: 3, others: 0 },
            options: &[("ACK", "async"), ("FAILOVER", "available")],
        },
    ),
    (
        "aurora-like",
        Preset::Options {
            place: Place::Around { home: 3, others: 1 },
            options: &[("ACK", "local-quorum"), ("FAILOVER", "safe")],
        },
    ),
    (
        "github",
        Preset::Options {
            place: Place::Around { home: 3, others: 2 },
            options: &[
                ("ACK", "semi-sync:1"),
                ("ON_TIMEOUT", "degrade"),
                ("TIMEOUT", "500"),
                ("FAILOVER", "available"),
            ],
        },
    ),
    (
        "reference",
        Preset::Options {
            place: Place::Fixed("us=3,eu=2,asia=2"),
            options: &[("ACK", "async"), ("SHARDS", "1"), ("FAILOVER", "available")],
        },
    ),
    (
        "reference-sharded",
        Preset::Options {
            place: Place::Fixed("us=1,eu=1,asia=1"),
            options: &[("ACK", "async"), ("SHARDS", "3"), ("FAILOVER", "available")],
        },
    ),
    (
        "spanner",
        Preset::Waits {
            needs: "consensus with learners and reads by lease",
            nearest: "ACK quorum over three regions keeps an acknowledged write when any one of them is lost, and so does TOPOLOGY consensus, which elects by itself",
        },
    ),
    (
        "cassandra",
        Preset::Waits {
            needs: "multi-primary",
            nearest: "ACK local-quorum with PLACE us=3,eu=3,asia=3 is read everywhere and written in one region",
        },
    ),
];

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Options.
    Options {
        /// `PLACE`.
        place: Place,
        /// The others.
        options: &'static [(&'static str, &'static str)],
    },
    /// A topology that this release does not serve so: it is refused, since what it promises
    /// elsewhere would be believed.
    Waits {
        /// Which.
        needs: &'static str,
        /// What comes nearest until then.
        nearest: &'static str,
    },
}

/// Where a preset has its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// So many in the primary's region, and in each of the others: as many as it has nodes, at
    /// most.
    Around {
        /// The primary's region.
        home: usize,
        /// Each other.
        others: usize,
    },
    /// In regions of these names.
    Fixed(&'static str),
}

/// What a preset is laid out over.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The regions that there are, with their nodes.
    pub regions: &'a [(Region, usize)],
    /// The region of the node that was asked: the primary's, unless `PRIMARY` says another.
    pub own: &'a Region,
}

/// What is wrong with a preset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// Nothing follows.
    #[error("PRESET needs a name: use {}", names())]
    NameMissing,
    /// Given twice.
    #[error("PRESET is given twice: give it once")]
    Duplicate,
    /// There is none of that name.
    #[error("PRESET '{given}' is not known: use {}", names())]
    Unknown {
        /// What was given.
        given: String,
    },
    /// See [`Preset::Waits`].
    #[error(
        "PRESET {name} needs TOPOLOGY {needs}, which this release does not serve; what comes nearest: {nearest}"
    )]
    Waits {
        /// The preset.
        name: &'static str,
        /// Which topology.
        needs: &'static str,
        /// What comes nearest.
        nearest: &'static str,
    },
}

fn names() -> String {
    let served = PRESETS
        .iter()
        .filter(|(_, p)| !matches!(p, Preset::Waits { .. }));
    let names: Vec<&str> = served.map(|(name, _)| *name).collect();
    names.join(", ")
}

/// The words of `KEYSPACE CREATE`, the name first, with the options in the preset's place.
/// Without a preset they are what they were.
pub fn spell_out(args: &[&[u8]], around: Around<'_>) -> Result<Vec<Vec<u8>>, PresetError> {
    let mut words: Vec<Vec<u8>> = args.iter().map(|word| word.to_vec()).collect();
    // Behind the name keywords and values take turns.
    let is_preset = |at: &usize| at % 2 == 1 && args[*at].eq_ignore_ascii_case(b"PRESET");
    let mut found = (0..args.len()).filter(is_preset);
    let Some(at) = found.next() else {
        return Ok(words);
    };
    if found.next().is_some() {
        return Err(PresetError::Duplicate);
    }
    let given = args.get(at + 1).ok_or(PresetError::NameMissing)?;
    let known = PRESETS
        .iter()
        .find(|(name, _)| given.eq_ignore_ascii_case(name.as_bytes()));
    let Some((name, preset)) = known else {
        let given = String::from_utf8_lossy(given).chars().take(80).collect();
        return Err(PresetError::Unknown { given });
    };
    let (place, options) = match *preset {
        Preset::Options { place, options } => (place, options),
        Preset::Waits { needs, nearest } => {
            return Err(PresetError::Waits {
                name,
                needs,
                nearest,
            });
        }
    };
    words.drain(at..at + 2);
    let value = |keyword: &str| {
        let mut pairs = words
            .iter()
            .skip(1)
            .step_by(2)
            .zip(words.iter().skip(2).step_by(2));
        let found = pairs.find(|(word, _)| word.eq_ignore_ascii_case(keyword.as_bytes()));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    let mut more: Vec<(&str, String)> = Vec::new();
    if value("PLACE").is_none() {
        let home = value("PRIMARY");
        more.push(("PLACE", placed(place, home.as_deref(), around)));
    }
    for (keyword, option) in options {
        if value(keyword).is_none() {
            more.push((keyword, (*option).to_owned()));
        }
    }
    for (keyword, option) in more {
        words.extend([keyword.as_bytes().to_vec(), option.into_bytes()]);
    }
    Ok(words)
}

/// A value of `PLACE`, the primary's region first. Whether there are such regions is judged with
/// all other placements.
fn placed(place: Place, home: Option<&str>, around: Around<'_>) -> String {
    let (at_home, others) = match place {
        Place::Fixed(place) => return place.to_owned(),
        Place::Around { home, others } => (home, others),
    };
    let home = home.unwrap_or(around.own.as_str());
    let nodes = around.regions.iter().find(|(r, _)| r.as_str() == home);
    let copies = at_home.min(nodes.map_or(0, |(_, n)| *n)).max(1);
    let mut text = format!("{home}={copies}");
    for (region, nodes) in around.regions.iter().filter(|(r, _)| r.as_str() != home) {
        let copies = others.min(*nodes);
        if copies > 0 {
            text.push_str(&format!(",{region}={copies}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create;

    fn spelled(words: &str, regions: &[(&str, usize)]) -> Result<String, String> {
        let regions: Vec<(Region, usize)> = (regions.iter())
            .map(|(r, n)| (Region::new(r).unwrap(), *n))
            .collect();
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let around = Around {
            regions: &regions,
            own: &regions[0].0,
        };
        let words = spell_out(&args, around).map_err(|e| e.to_string())?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        create::parse(&words).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(words.join(&b' ')).unwrap())
    }

    const THREE: [(&str, usize); 3] = [("us", 3), ("asia", 1), ("eu", 2)];

    #[test]
    fn a_preset_stands_for_its_options() {
        for (words, golden) in [
            ("p PRESET rds", "p PLACE us=3 ACK async FAILOVER available"),
            (
                "p preset Aurora-like SHARDS 8",
                "p SHARDS 8 PLACE us=3,asia=1,eu=1 ACK local-quorum FAILOVER safe",
            ),
            (
                "p PRESET github",
                "p PLACE us=3,asia=1,eu=2 ACK semi-sync:1 ON_TIMEOUT degrade TIMEOUT 500 FAILOVER available",
            ),
            (
                "p PRESET reference",
                "p PLACE us=3,eu=2,asia=2 ACK async SHARDS 1 FAILOVER available",
            ),
            (
                "p PRESET reference-sharded",
                "p PLACE us=1,eu=1,asia=1 ACK async SHARDS 3 FAILOVER available",
            ),
        ] {
            assert_eq!(spelled(words, &THREE).unwrap(), golden);
        }
        assert_eq!(spelled("p PLACE us=1", &THREE).unwrap(), "p PLACE us=1");
    }

    #[test]
    fn what_is_given_takes_the_place_of_the_presets() {
        let words = "p ack async PRESET github PRIMARY eu timeout 9 PLACE eu=2";
        assert_eq!(
            spelled(words, &THREE).unwrap(),
            "p ack async PRIMARY eu timeout 9 PLACE eu=2 ON_TIMEOUT degrade FAILOVER available"
        );
        let words = "p PRIMARY eu PRESET rds";
        assert_eq!(
            spelled(words, &THREE).unwrap(),
            "p PRIMARY eu PLACE eu=2 ACK async FAILOVER available"
        );
    }

    #[test]
    fn what_this_release_does_not_serve_is_refused_with_what_comes_nearest() {
        for (name, topology) in [("spanner", "consensus"), ("cassandra", "multi-primary")] {
            let refused = spelled(&format!("p PRESET {name}"), &THREE).unwrap_err();
            let golden = format!("PRESET {name} needs TOPOLOGY {topology}");
            assert!(refused.starts_with(&golden), "{refused}");
            assert!(refused.contains("comes nearest: ACK"), "{refused}");
        }
    }

    #[test]
    fn wrong_words_are_named() {
        let known = "use rds, aurora-like, github, reference, reference-sharded";
        for (words, golden) in [
            ("p PRESET", format!("PRESET needs a name: {known}")),
            (
                "p PRESET mars",
                format!("PRESET 'mars' is not known: {known}"),
            ),
            (
                "p PRESET rds preset rds",
                "PRESET is given twice: give it once".into(),
            ),
            // One node can't hold what survives it.
            (
                "p PRESET aurora-like PRIMARY asia",
                "ACK local-quorum promises".into(),
            ),
        ] {
            let refused = spelled(words, &THREE).unwrap_err();
            assert!(
                refused.starts_with(&golden) || refused.contains("local-quorum"),
                "{refused}"
            );
        }
    }
}
