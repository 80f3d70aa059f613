//! The feature level: when it may be raised, and who may join below or above it
//! (docs/adr/0017-versions).
//!
//! Always: every registered node knows the catalog's level. A raise and a registration are two
//! commands of one order, so whichever comes later is judged by what the earlier one left.

use crate::{
    machine::{Outcome, note},
    refusal::Refusal,
};
use model::{Catalog, NodeId, release::Span};

/// The greatest level that every registered node knows.
pub fn known_to_all(catalog: &Catalog) -> Option<u32> {
    catalog.nodes.values().map(|info| info.levels.newest).min()
}

pub(crate) fn raise(
    catalog: &mut Catalog,
    level: u32,
    by_itself: bool,
    at_ms: u64,
) -> Result<Outcome, Refusal> {
    let current = catalog.level;
    if level < current {
        return Err(Refusal::LevelPast { level, current });
    }
    // Whoever else proposed it was sooner.
    if level == current {
        return Ok(Outcome::LevelRaised { level });
    }
    if by_itself && catalog.level_held {
        return Err(Refusal::LevelHeld { level });
    }
    if known_to_all(catalog).is_none_or(|known| known < level) {
        let lacking = (catalog.nodes.iter()).filter(|(_, info)| info.levels.newest < level);
        let nodes = lacking.map(|(id, info)| (id.clone(), info.levels));
        return Err(Refusal::LevelUnknown {
            level,
            nodes: nodes.collect(),
        });
    }
    catalog.level = level;
    let how = match by_itself {
        true => "every node knows it",
        false => "an operator asked for it",
    };
    let text = format!(
        "the feature level is {level}, and was {current}: {how}; no node can go back to a release that does not know it"
    );
    note(catalog, at_ms, None, "level", text);
    Ok(Outcome::LevelRaised { level })
}

pub(crate) fn hold(catalog: &mut Catalog, held: bool, at_ms: u64) -> Result<Outcome, Refusal> {
    if catalog.level_held != held {
        catalog.level_held = held;
        let level = catalog.level;
        let text = match held {
            true => format!("the feature level stays {level} until an operator says otherwise"),
            false => "the feature level is raised by itself again".to_owned(),
        };
        note(catalog, at_ms, None, "level", text);
    }
    Ok(Outcome::LevelHeld { held })
}

/// The level once a node is registered whose release knows `levels`. The first one begins at the
/// oldest of them.
pub(crate) fn admit(catalog: &Catalog, node: &NodeId, levels: Span) -> Result<u32, Refusal> {
    let level = match catalog.nodes.is_empty() {
        true => catalog.level.max(levels.oldest),
        false => catalog.level,
    };
    match levels.unfit_for(level) {
        None => Ok(level),
        Some(why) => Err(Refusal::LevelUnfit {
            node: node.clone(),
            why,
        }),
    }
}
