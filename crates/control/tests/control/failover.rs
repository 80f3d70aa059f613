//! Failovers and members.

use super::*;

#[test]
fn a_failover_names_the_heard_and_says_what_it_means() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2,eu=1 ACK quorum"));
    apply(c, create("loose PLACE us=2,eu=1"));
    apply(c, start(0, "us-1", 1, 11, 0));
    let loose = &c.shards[&ShardId(1)];
    let other = loose.members().find(|r| r.node != loose.primary).unwrap();
    let (primary, other) = (loose.primary.to_string(), other.clone());
    let refused = "refused: the plan that was made is not sound, so it is not carried out: ";
    let both = [("us-2", 12, 9), ("eu-1", 21, 8)];
    expect(
        c,
        promote(0, 1, "us-2", &both[..1]),
        &format!(
            "{refused}shard 0 waits for us-1 or for more replicas: with ACK quorum 2 must be heard to be sure of every acknowledged write, and 1 was; FAILOVER available would not wait"
        ),
    );
    expect(
        c,
        promote(0, 1, "eu-1", &both),
        &format!(
            "{refused}eu-1 may not become primary of shard 0: another that was heard has more"
        ),
    );
    expect(
        c,
        promote(0, 1, "us-2", &both),
        "Promoted { shard: ShardId(0), node: us-2, epoch: Epoch(2) }",
    );
    assert_eq!(c.last_promotion, c.version);
    let shard = &c.shards[&ShardId(0)];
    assert_eq!((shard.process, shard.disk), (5, DiskId(12)));
    let text = &c.events.back().unwrap().text;
    assert!(text.starts_with("us-2 takes over shard 0 of k from us-1 in epoch 2: us-1 was silent for 0.5 s; nothing acknowledged is lost (ACK quorum; heard us-2 at 1:9, eu-1 at 1:8)"), "{text}");
    // The same plan once more is stale, and the former primary may not go on.
    assert!(apply(c, promote(0, 1, "us-2", &both)).contains("is in epoch 2"));
    assert!(apply(c, start(0, "us-1", 2, 11, 1)).starts_with("refused: us-1 is not the primary"));

    let node = other.node.as_str();
    let disk = other.disk.unwrap().0;
    apply(
        c,
        start(
            1,
            &primary,
            1,
            c.nodes[&NodeId::new(&primary).unwrap()].disk.0,
            0,
        ),
    );
    apply(c, promote(1, 1, node, &[(node, disk, 9)]));
    let text = &c.events.back().unwrap().text;
    assert!(
        text.contains("may be lost (ACK async;") && text.contains("11 entries by its last report"),
        "{text}"
    );
}

#[test]
fn what_a_primary_holds_that_may_lose_something_is_decreed() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2,eu=2 ACK quorum FAILOVER available"));
    apply(c, start(0, "us-1", 1, 11, 0));
    let decreed = |c: &Catalog| c.shards[&ShardId(0)].decreed;
    // One of three others: what a majority has acknowledged may be elsewhere.
    assert!(apply(c, promote(0, 1, "us-2", &[("us-2", 12, 9)])).starts_with("Promoted"));
    assert_eq!(decreed(c), Some(Position::new(1, 9)));
    // A later process of the same primary has to go on from there, too.
    apply(c, start(0, "us-2", 2, 12, 2));
    assert_eq!(decreed(c), Some(Position::new(1, 9)));
    // What was decreed may be nowhere else: whoever lacks it goes on by a decree of its own.
    let heard = [("us-1", 11, 8), ("eu-1", 21, 7)];
    let mut plan = promote(0, 3, "us-1", &heard);
    if let Command::Promote(plan) = &mut plan {
        let last = plan.heard.iter_mut().map(|h| &mut h.last);
        last.for_each(|last| last.epoch = Epoch(1));
    }
    assert!(apply(c, plan).starts_with("Promoted"));
    assert_eq!(decreed(c), Some(Position::new(1, 8)));
    let heard = [("us-2", 12, 9), ("eu-1", 21, 9)];
    assert!(apply(c, promote(0, 4, "us-2", &heard)).starts_with("Promoted"));
    assert_eq!(decreed(c), None);
}

#[test]
fn a_replica_is_a_member_again_once_it_is_confirmed_on_its_disk() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2,eu=1 ACK quorum"));
    apply(c, start(0, "us-1", 1, 11, 0));
    apply(c, register("us-2", 99));
    let heard = [("us-2", 99, 9), ("eu-1", 21, 9)];
    assert!(apply(c, promote(0, 1, "us-2", &heard)).contains("on the disk that the catalog has"));
    expect(
        c,
        confirm(0, 1, "us-2", 98),
        "refused: us-2 no longer has the disk 98 on which it held shard 0",
    );
    expect(
        c,
        confirm(0, 1, "us-2", 99),
        "ReplicaConfirmed { shard: ShardId(0), node: us-2 }",
    );
    assert!(apply(c, promote(0, 1, "us-2", &heard)).starts_with("Promoted"));
}

#[test]
fn a_newcomer_takes_the_place_of_who_is_gone() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2 ACK sync"));
    apply(c, start(0, "us-1", 1, 11, 0));
    for (gone, newcomer, why) in [
        ("us-1", "us-3", "a primary is replaced by a failover first"),
        ("us-2", "eu-1", "they don't stand in one region"),
        ("us-2", "us-1", "the newcomer holds a replica already"),
        ("us-3", "us-2", "the one that is gone is no member"),
    ] {
        assert!(apply(c, replace(0, 1, gone, newcomer)).ends_with(why));
    }
    expect(
        c,
        replace(0, 1, "us-2", "us-3"),
        "ReplicaJoins { shard: ShardId(0), node: us-3 }",
    );
    assert!(apply(c, replace(0, 1, "us-2", "us-3")).contains("holds a replica already"));
    expect(
        c,
        confirm(0, 1, "us-3", 13),
        "ReplicaConfirmed { shard: ShardId(0), node: us-3 }",
    );
    assert_eq!(show(c, 0), "0-16383 us-1 [us-1 us-3]");
    let kinds: Vec<&str> = c.events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["replacing", "refilled"]);
}

#[test]
fn nobody_takes_the_place_of_who_became_primary_meanwhile() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=2 ACK sync"));
    apply(c, start(0, "us-1", 1, 11, 0));
    apply(c, replace(0, 1, "us-2", "us-3"));
    expect(
        c,
        promote(0, 1, "us-2", &[("us-2", 12, 9)]),
        "Promoted { shard: ShardId(0), node: us-2, epoch: Epoch(2) }",
    );
    assert_eq!(show(c, 0), "0-16383 us-2 [us-1 us-2]");
    expect(
        c,
        confirm(0, 2, "us-3", 13),
        "refused: us-3 holds no replica of shard 0",
    );
}
