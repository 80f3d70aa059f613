//! Whether a strategy promises something, and can be met by the nodes that there are.
//!
//! A rule that can never be met would block every write; one that promises nothing in a place
//! would be believed. Both are refused when they are asked for, not found out in a failover.

use crate::{command::CreateKeyspace, planner::Inventory, refusal::StrategyRefusal};
use model::{AckRule, Placement, Region, strategy::Strategy};
use std::{collections::BTreeSet, time::Duration};

/// The most shards of a keyspace.
pub const SHARDS_MAX: u16 = 1024;
/// The longest timeout of an acknowledgement.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The shortest and the longest time after which a silent replica is replaced.
pub const REPLACE_AFTER_MIN: Duration = Duration::from_secs(1);
/// See [`REPLACE_AFTER_MIN`].
pub const REPLACE_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whether `wanted` can be had, and means what it says.
pub fn check(wanted: &CreateKeyspace, inventory: &Inventory) -> Result<(), StrategyRefusal> {
    if !(1..=SHARDS_MAX).contains(&wanted.shards) {
        return Err(StrategyRefusal::Shards {
            given: wanted.shards,
            max: SHARDS_MAX,
        });
    }
    check_rule(&wanted.strategy)?;
    for (region, replicas) in wanted.strategy.placement.regions() {
        let nodes = inventory.nodes_in(region);
        if nodes == 0 {
            return Err(StrategyRefusal::UnknownRegion {
                region: region.clone(),
                known: inventory.regions(),
            });
        }
        if *region == wanted.strategy.primary_region && !inventory.is_any_up(region) {
            return Err(StrategyRefusal::NoNodeUp {
                region: region.clone(),
            });
        }
        if usize::from(*replicas) > nodes {
            return Err(StrategyRefusal::TooFewNodes {
                region: region.clone(),
                nodes,
                replicas: *replicas,
            });
        }
    }
    Ok(())
}

/// What can be judged without knowing the nodes.
pub fn check_rule(strategy: &Strategy) -> Result<(), StrategyRefusal> {
    let placement = &strategy.placement;
    let primary_region = &strategy.primary_region;
    let timeout = strategy.timeout;
    if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
        return Err(StrategyRefusal::Timeout {
            given_ms: timeout.as_millis(),
            max_ms: TIMEOUT_MAX.as_secs() * 1000,
        });
    }
    if !(REPLACE_AFTER_MIN..=REPLACE_AFTER_MAX).contains(&strategy.replace_after) {
        return Err(StrategyRefusal::ReplaceAfter {
            given_ms: strategy.replace_after.as_millis(),
            min_ms: REPLACE_AFTER_MIN.as_millis(),
            max_ms: REPLACE_AFTER_MAX.as_millis(),
        });
    }
    // A placement from the wire was not read by its parser.
    let regions: BTreeSet<&Region> = placement.regions().iter().map(|(r, _)| r).collect();
    let sane = !regions.is_empty()
        && regions.len() == placement.regions().len()
        && placement.regions().iter().all(|(_, n)| *n > 0);
    if !sane {
        return Err(StrategyRefusal::Placement {
            placement: placement.clone(),
        });
    }
    if placement.in_region(primary_region) == 0 {
        return Err(StrategyRefusal::PrimaryNotPlaced {
            region: primary_region.clone(),
            placement: placement.clone(),
        });
    }
    let nothing = |place: String| {
        Err(StrategyRefusal::PromisesNothing {
            rule: strategy.ack.clone(),
            placement: placement.clone(),
            place,
        })
    };
    match &strategy.ack {
        AckRule::Async => Ok(()),
        AckRule::SemiSync { k, region } => {
            let region = region.as_ref().unwrap_or(primary_region);
            check_semi_sync(strategy, *k, region, placement)
        }
        AckRule::Sync | AckRule::Quorum if placement.total() < 2 => nothing("anywhere".to_owned()),
        AckRule::LocalQuorum if placement.in_region(primary_region) < 2 => {
            nothing(format!("in {primary_region}"))
        }
        AckRule::Sync | AckRule::Quorum | AckRule::LocalQuorum => Ok(()),
    }
}

fn check_semi_sync(
    strategy: &Strategy,
    k: u16,
    region: &Region,
    placement: &Placement,
) -> Result<(), StrategyRefusal> {
    let copies = placement.in_region(region);
    if copies == 0 {
        return Err(StrategyRefusal::NoCopiesThere {
            rule: strategy.ack.clone(),
            region: region.clone(),
            placement: placement.clone(),
        });
    }
    let own = u16::from(*region == strategy.primary_region);
    let counted = copies.saturating_sub(own);
    if counted == 0 || k == 0 {
        return Err(StrategyRefusal::PromisesNothing {
            rule: strategy.ack.clone(),
            placement: placement.clone(),
            place: format!("in {region}"),
        });
    }
    if k > counted {
        return Err(StrategyRefusal::TooFewCopies {
            rule: strategy.ack.clone(),
            k,
            region: region.clone(),
            counted,
            placement: placement.clone(),
        });
    }
    Ok(())
}
