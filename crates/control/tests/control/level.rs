//! The feature level, and voters of two releases.

use super::*;
use proptest::prelude::{Strategy as _, *};

const NEXT: Span = Release::NEXT.levels;

fn register_as(name: &str, disk: u64, levels: Span) -> Command {
    let Command::RegisterNode { id, mut info } = register(name, disk) else {
        unreachable!()
    };
    info.levels = levels;
    Command::RegisterNode { id, info }
}

fn raise(level: u32, by_itself: bool) -> Command {
    Command::RaiseLevel {
        level,
        by_itself,
        at_ms: 1,
    }
}

fn hold(held: bool) -> Command {
    Command::HoldLevel { held, at_ms: 2 }
}

fn rehearse(name: &str) -> Command {
    Command::Rehearse {
        node: NodeId::new(name).unwrap(),
        at_ms: 3,
    }
}

#[test]
fn the_level_is_raised_once_every_node_knows_it() {
    let c = &mut Catalog::default();
    expect(
        c,
        raise(2, false),
        "refused: the feature level can't be raised to 2: no node is registered; upgrade every node first",
    );
    apply(c, register_as("us-1", 11, NEXT));
    apply(c, register_as("us-2", 12, LEVELS));
    expect(
        c,
        raise(2, false),
        "refused: the feature level can't be raised to 2: us-2 knows 1 alone; upgrade every node first",
    );
    expect(
        c,
        rehearse("us-1"),
        "refused: this needs feature level 2, and the cluster is at 1: QUIRE LEVEL says which nodes keep it there",
    );
    apply(c, register_as("us-2", 12, NEXT));
    expect(c, hold(true), "LevelHeld { held: true }");
    expect(
        c,
        raise(2, true),
        "refused: the feature level is held, and not raised to 2 by itself: QUIRE LEVEL AUTO lets it go",
    );
    expect(c, hold(false), "LevelHeld { held: false }");
    expect(c, raise(2, true), "LevelRaised { level: 2 }");
    let events = c.events.len();
    expect(c, raise(2, true), "LevelRaised { level: 2 }");
    expect(c, hold(false), "LevelHeld { held: false }");
    assert_eq!(c.events.len(), events, "what changes nothing is no event");
    expect(
        c,
        raise(1, false),
        "refused: the feature level is 2 already, and does not go back to 1",
    );
    expect(c, rehearse("us-1"), "Noted");
    expect(
        c,
        register_as("us-1", 11, LEVELS),
        "refused: node us-1 can't join: the cluster is at feature level 2, and this release knows 1 alone: start the node with a release that knows level 2",
    );
    let third = Span {
        oldest: 3,
        newest: 4,
    };
    let outcome = apply(c, register_as("us-1", 11, third));
    assert!(outcome.contains("too new"), "{outcome}");
}

#[test]
fn an_operator_raises_a_level_that_is_held() {
    let c = &mut Catalog::default();
    apply(c, register_as("us-1", 11, NEXT));
    apply(c, hold(true));
    expect(c, raise(2, false), "LevelRaised { level: 2 }");
}

#[test]
fn a_cluster_begins_at_the_oldest_level_of_its_first_node() {
    let c = &mut Catalog::default();
    let levels = Span {
        oldest: 5,
        newest: 6,
    };
    apply(c, register_as("us-1", 11, levels));
    assert_eq!(c.level, 5);
}

fn bytes(commands: Vec<Command>) -> Vec<u8> {
    let request = RequestId {
        node: 1,
        process: 1,
        sequence: 1,
    };
    Proposal { request, commands }.encode().unwrap()
}

#[test]
fn a_voter_stops_by_name_above_what_its_release_knows() {
    let mut c = Catalog::default();
    apply(&mut c, register_as("us-1", 11, NEXT));
    let together = bytes(vec![raise(2, true), rehearse("us-1")]);
    let (mut old, mut new) = (c.clone(), c.clone());
    let index = c.version + 1;
    let applied = machine::apply_entry(&mut new, index, &together, NEXT).unwrap();
    assert!(applied.unwrap().results.iter().all(Result::is_ok));
    let stops = machine::apply_entry(&mut old, index, &together, LEVELS).unwrap_err();
    let stops = stops.to_string();
    assert!(
        stops.contains("at feature level 2") && stops.contains("start the node"),
        "{stops}"
    );
}

/// A proposal with a command that no release knows yet.
fn from_the_future(level: u8) -> Vec<u8> {
    let mut written = bytes(vec![rehearse("us-1")]);
    // The one command: its level, its length, and its variant.
    let at = written.len() - 2 - "us-1".len() - 3;
    assert_eq!(written[at..at + 3], [2, 7, 11]);
    written[at] = level;
    written[at + 2] = 99;
    written
}

#[test]
fn a_command_that_nobody_knows_stops_no_voter_unless_its_level_is_reached() {
    let mut c = cluster();
    let before = c.clone();
    let index = c.version + 1;
    let applied = machine::apply_entry(&mut c, index, &from_the_future(9), LEVELS);
    let refused = applied.unwrap().unwrap().refused().unwrap().to_string();
    assert!(refused.contains("needs feature level 9"), "{refused}");
    let version = index;
    assert_eq!(c, Catalog { version, ..before });
    // At the level that it claims others may know it: going on would part their catalogs.
    let stops = machine::apply_entry(&mut c, index + 1, &from_the_future(1), LEVELS);
    assert!(stops.is_err());
}

fn any_command() -> impl proptest::strategy::Strategy<Value = Command> {
    let node = || prop::sample::select(NODES[..4].to_vec());
    prop_oneof![
        4 => (node(), any::<bool>()).prop_map(|((name, disk), new)| {
            register_as(name, disk, if new { NEXT } else { LEVELS })
        }),
        3 => (1..4u32, any::<bool>()).prop_map(|(level, by_itself)| raise(level, by_itself)),
        1 => any::<bool>().prop_map(hold),
        3 => node().prop_map(|(name, _)| rehearse(name)),
        1 => Just(create("k PLACE us=1")),
        1 => Just(drop_keyspace("k")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Until the one stops by name, which it does only when no node of its release is registered.
    #[test]
    fn voters_of_two_releases_stay_equal(
        entries in prop::collection::vec(prop::collection::vec(any_command(), 1..4), 1..60),
    ) {
        let (mut old, mut new) = (Catalog::default(), Catalog::default());
        let mut old_goes_on = true;
        for (index, commands) in (1..).zip(entries) {
            let before = new.clone();
            let bytes = bytes(commands);
            let applied = machine::apply_entry(&mut new, index, &bytes, NEXT).unwrap();
            prop_assert_eq!(check::catalog(&new), Ok(()));
            prop_assert_eq!(check::succession(&before, &new), Ok(()));
            if old_goes_on {
                match machine::apply_entry(&mut old, index, &bytes, LEVELS) {
                    Ok(same) => {
                        prop_assert_eq!(same, applied);
                        prop_assert_eq!(&old, &new);
                    }
                    Err(_) => {
                        prop_assert_eq!(new.level, NEXT.newest);
                        prop_assert!(new.nodes.values().all(|info| info.levels == NEXT));
                        old_goes_on = false;
                    }
                }
            }
        }
        prop_assert_eq!(old_goes_on, new.level < NEXT.newest);
    }
}
