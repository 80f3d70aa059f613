//! What a release can work with, so that two neighbouring ones form one cluster
//! (docs/adr/0017-versions). The numbers of this release stand here alone.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The feature level that every release knows, and at which a catalog begins.
pub const FIRST_LEVEL: u32 = 1;

/// All versions from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The least of them.
    pub oldest: u32,
    /// The greatest.
    pub newest: u32,
}

impl Span {
    /// Whether `version` is one of them.
    pub fn holds(&self, version: u32) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// The greatest version in both.
    pub fn common(&self, other: &Span) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }

    /// Of the levels of a release: why it can't work at `level`, and what can.
    pub fn unfit_for(&self, level: u32) -> Option<String> {
        if self.newest < level {
            Some(format!(
                "the cluster is at feature level {level}, and this release knows {self}: start the node with a release that knows level {level}"
            ))
        } else if self.oldest > level {
            Some(format!(
                "the cluster is at feature level {level}, and this release knows {self}: it is too new; run the release before it on every node first, until QUIRE LEVEL says {} or more",
                self.oldest
            ))
        } else {
            None
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "{} alone", self.newest),
            false => write!(f, "{} to {}", self.oldest, self.newest),
        }
    }
}

/// What a release can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Versions of the links between nodes: hello, answer and frames.
    pub protocol: Span,
    /// Feature levels of a cluster.
    pub levels: Span,
}

impl Release {
    /// This one.
    pub const THIS: Release = Release {
        protocol: Span {
            oldest: 4,
            newest: 4,
        },
        levels: Span {
            oldest: FIRST_LEVEL,
            newest: FIRST_LEVEL,
        },
    };

    /// What a node pretends to be in tests of upgrades: the release after this one.
    pub const NEXT: Release = Release {
        protocol: Span {
            oldest: Self::THIS.protocol.newest,
            newest: Self::THIS.protocol.newest + 1,
        },
        levels: Span {
            oldest: Self::THIS.levels.newest,
            newest: REHEARSAL_LEVEL,
        },
    };
}

/// The level that only a node knows that pretends to be [`Release::NEXT`].
pub const REHEARSAL_LEVEL: u32 = Release::THIS.levels.newest + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_a_version_in_common_and_others_do_not() {
        let span = |oldest, newest| Span { oldest, newest };
        assert_eq!(span(1, 2).common(&span(2, 3)), Some(2));
        assert_eq!(span(2, 3).common(&span(1, 2)), Some(2));
        assert_eq!(span(1, 3).common(&span(1, 5)), Some(3));
        assert_eq!(span(1, 1).common(&span(2, 3)), None);
        let (this, next) = (Release::THIS, Release::NEXT);
        assert_eq!(
            this.protocol.common(&next.protocol),
            Some(this.protocol.newest)
        );
        assert_eq!(this.levels.common(&next.levels), Some(this.levels.newest));
    }

    #[test]
    fn who_does_not_fit_is_told_what_does() {
        let levels = Span {
            oldest: 2,
            newest: 3,
        };
        assert_eq!(levels.unfit_for(2), None);
        assert_eq!(levels.unfit_for(3), None);
        let old = levels.unfit_for(4).unwrap();
        assert!(
            old.contains("knows level 4") && old.contains("2 to 3"),
            "{old}"
        );
        let new = levels.unfit_for(1).unwrap();
        assert!(new.contains("too new") && new.contains("says 2"), "{new}");
    }
}
