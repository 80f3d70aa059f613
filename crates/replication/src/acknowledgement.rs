//! The acknowledgement rules: who has what on disk → up to where the log is committed.
//!
//! A pure function. The primary's own disk always counts and is always needed, so nothing is
//! committed that the primary could lose by a restart.

use model::{AckRule, Region};

/// A member other than the primary.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// Where it stands.
    pub region: &'a Region,
    /// Up to where it is known to hold the primary's log durably.
    pub matched: u64,
}

/// How many of the others, and which, an entry must be durable on.
///
/// None: as many as there are can't be enough (the rule asks for more than the members
/// offer), so nothing is ever committed.
fn needed(rule: &AckRule, others: usize, others_counted: usize) -> Option<usize> {
    let wanted = match rule {
        AckRule::Async => 0,
        AckRule::SemiSync { k, .. } => usize::from(*k),
        AckRule::Sync => others,
        // A majority of all n = others_counted + 1 copies is n / 2 + 1, the primary among them.
        AckRule::Quorum | AckRule::LocalQuorum => others_counted.div_ceil(2),
    };
    (wanted <= others_counted).then_some(wanted)
}

/// The greatest index that is committed under `rule`.
pub fn committed(
    rule: &AckRule,
    primary_region: &Region,
    own_durable: u64,
    others: &[Other<'_>],
) -> u64 {
    let region = match rule {
        AckRule::SemiSync { region, .. } => Some(region.as_ref().unwrap_or(primary_region)),
        AckRule::LocalQuorum => Some(primary_region),
        AckRule::Async | AckRule::Sync | AckRule::Quorum => None,
    };
    let mut matched: Vec<u64> = others
        .iter()
        .filter(|o| region.is_none_or(|r| r == o.region))
        .map(|o| o.matched)
        .collect();
    match needed(rule, others.len(), matched.len()) {
        None => 0,
        Some(0) => own_durable,
        Some(n) => {
            matched.sort_unstable_by(|a, b| b.cmp(a));
            own_durable.min(matched[n - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(name: &str) -> Region {
        Region::new(name).unwrap()
    }

    fn commit(rule: &str, own: u64, others: &[(&str, u64)]) -> u64 {
        let regions: Vec<Region> = others.iter().map(|(r, _)| region(r)).collect();
        let others: Vec<Other> = regions
            .iter()
            .zip(others)
            .map(|(region, (_, matched))| Other {
                region,
                matched: *matched,
            })
            .collect();
        committed(&rule.parse().unwrap(), &region("us"), own, &others)
    }

    #[test]
    fn each_rule_counts_whom_it_names() {
        let six = [
            ("us", 9),
            ("us", 8),
            ("eu", 7),
            ("eu", 6),
            ("asia", 5),
            ("asia", 4),
        ];
        assert_eq!(commit("async", 10, &six), 10);
        assert_eq!(commit("semi-sync:1", 10, &six), 9);
        assert_eq!(commit("semi-sync:2", 10, &six), 8);
        assert_eq!(commit("semi-sync:1@eu", 10, &six), 7);
        assert_eq!(commit("semi-sync:3", 10, &six), 0);
        assert_eq!(commit("sync", 10, &six), 4);
        assert_eq!(commit("quorum", 10, &six), 7);
        assert_eq!(commit("local-quorum", 10, &six), 9);
        // The primary's own disk is always needed.
        assert_eq!(commit("quorum", 3, &six), 3);
        // A single copy is a majority of itself.
        assert_eq!(commit("quorum", 3, &[]), 3);
        // Two copies: a majority is both.
        assert_eq!(commit("quorum", 3, &[("us", 2)]), 2);
    }

    proptest! {
        /// By the definition of each rule, counted anew: enough copies hold what is committed,
        /// and not enough hold the entry after it.
        #[test]
        fn commits_exactly_what_enough_copies_hold(
            own in 0u64..20,
            others in proptest::collection::vec((prop::sample::select(vec!["us", "eu"]), 0u64..20), 0..6),
            rule in prop::sample::select(vec!["async", "semi-sync:1", "semi-sync:2@eu", "sync", "quorum", "local-quorum"]),
        ) {
            let holds = |i: u64| {
                let all = others.len() + 1;
                let local = others.iter().filter(|o| o.0 == "us").count() + 1;
                let have = |region: &str| others.iter().filter(|o| (region.is_empty() || o.0 == region) && o.1 >= i).count();
                own >= i && match rule {
                    "async" => true,
                    "semi-sync:1" => have("us") >= 1,
                    "semi-sync:2@eu" => have("eu") >= 2,
                    "sync" => have("") == others.len(),
                    "quorum" => have("") + 1 > all / 2,
                    _ => have("us") + 1 > local / 2,
                }
            };
            let at = commit(rule, own, &others);
            prop_assert!(at == 0 || holds(at));
            prop_assert!(!holds(at + 1));
        }
    }
}
