//! Keyspaces, nodes, offices: stories with golden outcomes.

use super::*;

#[test]
fn the_reference_deployment_is_placed() {
    let c = &mut cluster();
    expect(
        c,
        create("profiles PLACE us=3,eu=2,asia=2"),
        "KeyspaceCreated { id: KeyspaceId(0), shards: [ShardId(0)] }",
    );
    assert_eq!(
        show(c, 0),
        "0-16383 us-1 [us-1 us-2 us-3 eu-1 eu-2 asia-1 asia-2]"
    );
    // The next ones fill up what is less loaded; the primaries take turns.
    expect(
        c,
        create("posts PLACE eu=2,us=2 PRIMARY us SHARDS 3"),
        "KeyspaceCreated { id: KeyspaceId(1), shards: [ShardId(1), ShardId(2), ShardId(3)] }",
    );
    assert_eq!(show(c, 1), "0-5460 us-2 [us-2 us-3 eu-3 eu-1]");
    assert_eq!(show(c, 2), "5461-10921 us-3 [us-3 us-1 eu-2 eu-3]");
    assert_eq!(show(c, 3), "10922-16383 us-1 [us-1 us-2 eu-1 eu-2]");
}

#[test]
fn who_is_not_heard_gets_no_more_than_it_must() {
    let c = &mut cluster();
    let avoiding = |words: &str, avoid: &[&str]| match create(words) {
        Command::CreateKeyspace(wanted) => Command::CreateKeyspace(CreateKeyspace {
            avoid: avoid.iter().map(|n| NodeId::new(n).unwrap()).collect(),
            ..wanted
        }),
        other => other,
    };
    apply(c, avoiding("a PLACE us=1", &["us-1"]));
    apply(c, avoiding("b PLACE us=3", &["us-1", "us-2"]));
    assert_eq!(
        (show(c, 0).as_str(), show(c, 1).as_str()),
        ("0-16383 us-2 [us-2]", "0-16383 us-3 [us-3 us-1 us-2]")
    );
    expect(
        c,
        avoiding("c PLACE us=1", &["us-1", "us-2", "us-3"]),
        "refused: no node of the primary's region us is up: start one, or name another PRIMARY",
    );
}

#[test]
fn a_primary_takes_up_its_office_once_an_epoch_and_on_its_disk() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2 SHARDS 1"));
    expect(
        c,
        start(0, "us-1", 100, 11, 0),
        "EpochStarted { shard: ShardId(0), epoch: Epoch(1) }",
    );
    expect(
        c,
        start(0, "us-1", 100, 11, 0),
        "refused: shard 0 is in epoch 1 (process 100 of us-1), not in 0: follow the catalog and ask again",
    );
    expect(
        c,
        start(0, "us-2", 200, 12, 1),
        "refused: us-2 is not the primary of shard 0; us-1 is",
    );
    expect(
        c,
        start(0, "us-1", 101, 99, 1),
        "refused: the disk of us-1 is not the one that held shard 0: it is 99, and acknowledged writes are on 11; put that disk back, or promote another replica",
    );
    expect(
        c,
        start(0, "us-1", 101, 11, 1),
        "EpochStarted { shard: ShardId(0), epoch: Epoch(2) }",
    );
    expect(
        c,
        start(9, "us-1", 101, 11, 1),
        "refused: there is no shard 9; its keyspace was dropped, or never was",
    );
    assert_eq!(c.shards[&ShardId(0)].process, 101);
}

#[test]
fn a_rule_is_suspended_only_where_that_was_chosen_and_in_the_right_epoch() {
    let c = &mut cluster();
    apply(c, create("a PLACE us=2 ACK semi-sync:1 ON_TIMEOUT degrade"));
    apply(c, create("b PLACE us=2 ACK semi-sync:1"));
    apply(c, start(0, "us-1", 1, 11, 0));
    expect(
        c,
        degrade(0, 1, true),
        "DegradedSet { shard: ShardId(0), degraded: true }",
    );
    assert!(c.shards[&ShardId(0)].degraded);
    apply(c, start(0, "us-1", 2, 11, 1));
    assert!(c.shards[&ShardId(0)].degraded, "failover must still know");
    expect(
        c,
        degrade(0, 1, false),
        "refused: shard 0 is in epoch 2 (process 2 of us-1), not in 1: follow the catalog and ask again",
    );
    expect(
        c,
        degrade(1, 0, true),
        "refused: shard 1 may not be degraded: its keyspace has ON_TIMEOUT block, and only degrade allows it",
    );
}

#[test]
fn names_and_numbers_are_used_once() {
    let c = &mut cluster();
    apply(c, create("a PLACE us=1 SHARDS 2"));
    expect(
        c,
        create("a PLACE us=1"),
        "refused: keyspace 'a' exists: choose another name, or drop it first",
    );
    expect(
        c,
        drop_keyspace("b"),
        "refused: there is no keyspace 'b'; keyspaces: a",
    );
    expect(
        c,
        drop_keyspace("a"),
        "KeyspaceDropped { id: KeyspaceId(0), shards: [ShardId(0), ShardId(1)] }",
    );
    expect(
        c,
        drop_keyspace("a"),
        "refused: there is no keyspace 'a'; there are no keyspaces yet",
    );
    expect(
        c,
        create("a PLACE us=1"),
        "KeyspaceCreated { id: KeyspaceId(1), shards: [ShardId(2)] }",
    );
}

#[test]
fn a_wish_that_cannot_be_met_or_means_nothing_is_refused_with_what_would_be_right() {
    let c = &mut cluster();
    for (words, golden) in [
        (
            "k PLACE us=1,mars=1",
            "there is no node in region mars; regions: asia, eu, us",
        ),
        (
            "k PLACE us=4",
            "region us has 3 nodes, 4 replicas were asked for",
        ),
    ] {
        expect(c, create(words), &format!("refused: {golden}"));
    }
    // These need no nodes to be judged, so they are refused before they are proposed.
    for (words, golden) in [
        (
            "k PLACE us=3 PRIMARY eu",
            "the primary's region eu is not in the placement us=3: add eu=1 to it, or name another PRIMARY",
        ),
        (
            "k PLACE us=3 ACK semi-sync:3",
            "ACK semi-sync:3 needs 3 others in us, where the placement us=3 has 2 copies beside the primary: use k = 2 or less, or more replicas",
        ),
        (
            "k PLACE us=3,eu=1 ACK semi-sync:2@eu",
            "ACK semi-sync:2@eu needs 2 others in eu, where the placement us=3,eu=1 has 1 copy beside the primary: use k = 1 or less, or more replicas",
        ),
        (
            "k PLACE us=3 ACK semi-sync:1@eu",
            "ACK semi-sync:1@eu counts copies in eu, and the placement us=3 has none there",
        ),
        (
            "k PLACE us=1,eu=2 ACK local-quorum",
            "ACK local-quorum promises no more than async where there is 1 copy (us=1,eu=2): use ACK async, or place more replicas in us",
        ),
        (
            "k PLACE us=1,eu=2 ACK semi-sync:1",
            "ACK semi-sync:1 promises no more than async where there is 1 copy (us=1,eu=2): use ACK async, or place more replicas in us",
        ),
        (
            "k PLACE us=1 ACK quorum",
            "ACK quorum promises no more than async where there is 1 copy (us=1): use ACK async, or place more replicas anywhere",
        ),
    ] {
        let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        assert_eq!(create::parse(&args).unwrap_err().to_string(), golden);
    }
    for fine in [
        "a PLACE us=3,eu=2 ACK semi-sync:2@eu",
        "b PLACE us=2 ACK local-quorum",
        "c PLACE us=1,eu=1 ACK quorum",
        "d PLACE us=1,eu=1 ACK sync",
    ] {
        assert!(!apply(c, create(fine)).starts_with("refused"), "{fine}");
    }
}

#[test]
fn a_node_comes_back_but_not_from_elsewhere_nor_as_a_copy() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2"));
    expect(c, register("us-1", 111), "NodeRegistered { id: us-1 }");
    assert_eq!(
        c.nodes[&NodeId::new("us-1").unwrap()].boot.disk,
        DiskId(111)
    );
    expect(
        c,
        register("us-4", 12),
        "refused: node us-4 can't join: its disk is that of node us-2; start it with a data directory of its own, not a copy",
    );
    let Command::RegisterNode { id, mut info } = register("us-1", 111) else {
        unreachable!()
    };
    info.region = Region::new("eu").unwrap();
    expect(
        c,
        Command::RegisterNode { id, info },
        "refused: node us-1 holds 1 replica in region us and can't move to eu: start it in us, or give the node in eu another id",
    );
}

#[test]
fn an_entry_is_applied_once_and_a_refused_one_only_moves_the_version() {
    let mut c = cluster();
    let before = c.clone();
    let refusal = machine::apply(&mut c, before.version, create("k PLACE us=1"));
    assert!(refusal.is_err());
    assert_eq!(c, before);
    let index = before.version + 5;
    assert!(machine::apply(&mut c, index, drop_keyspace("x")).is_err());
    assert_eq!(
        c,
        Catalog {
            version: index,
            ..before
        }
    );
    assert_eq!(
        machine::apply_entry(&mut c, index + 1, b"", LEVELS),
        Ok(None)
    );
    assert_eq!(c.version, index + 1);
    assert!(machine::apply_entry(&mut c, index + 2, &[9, 0], LEVELS).is_err());
}
