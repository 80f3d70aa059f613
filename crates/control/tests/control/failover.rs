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
            c.nodes[&NodeId::new(&primary).unwrap()].boot.disk.0,
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

#[test]
fn a_primary_that_may_lack_the_end_of_its_log_is_named_like_any_other() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=3 ACK quorum"));
    apply(c, create("loose PLACE us=2"));
    apply(c, start(0, "us-1", 1, 11, 0));
    let unclean = Boot {
        intact_since: 2,
        ..boot(11, 2)
    };
    reboot(c, "us-1", unclean);
    expect(
        c,
        start(0, "us-1", 2, 11, 1),
        "refused: us-1 did not leave its log closed: what of shard 0 others have must be heard before it is primary again",
    );
    // A restart in good order does not make good what an earlier one may have lost.
    reboot(
        c,
        "us-1",
        Boot {
            process: 3,
            nonce: 3,
            ..unclean
        },
    );
    assert!(apply(c, start(0, "us-1", 3, 11, 1)).contains("did not leave its log closed"));

    let heard = |c: &mut Catalog, named: &str, said: &[(&str, u64, u64)], whole: bool| {
        let mut plan = promote(0, 1, named, said);
        if let Command::Promote(plan) = &mut plan {
            for heard in &mut plan.heard {
                heard.whole = whole;
                if heard.node.as_str() == "us-1" {
                    heard.process = 3;
                    heard.intact_since = 2;
                }
            }
        }
        apply(c, plan)
    };
    let (us1, us2, us3) = (("us-1", 11, 8), ("us-2", 12, 8), ("us-3", 13, 9));
    // It does not stand for what it may lack, nor does who has cut its log.
    assert!(heard(c, "us-1", &[us1, us2], true).contains("2 must be heard"));
    assert!(heard(c, "us-2", &[us2, ("us-3", 13, 8)], false).contains("2 must be heard"));
    assert!(heard(c, "us-1", &[us1, us2, us3], true).contains("another that was heard has more"));
    let level = [us1, us2, ("us-3", 13, 8)];
    assert!(heard(c, "us-1", &level, true).starts_with("Promoted"));
    let event = c.events.back().unwrap();
    assert_eq!(event.kind, "resumed");
    assert!(
        event
            .text
            .starts_with("us-1 is primary of shard 0 of k again in epoch 2"),
        "{}",
        event.text
    );
    assert!(
        event.text.contains("nothing acknowledged is lost"),
        "{}",
        event.text
    );
    assert_eq!(c.shards[&ShardId(0)].process, 3);
    // With async nobody else would have it.
    let loose = c.shards[&ShardId(1)].primary.to_string();
    let disk = c.nodes[&NodeId::new(&loose).unwrap()].boot.disk.0;
    apply(c, start(1, &loose, 7, disk, 0));
    reboot(
        c,
        &loose,
        Boot {
            intact_since: 8,
            ..boot(disk, 8)
        },
    );
    assert!(apply(c, start(1, &loose, 8, disk, 1)).starts_with("EpochStarted"));
}

#[test]
fn where_every_member_is_heard_nobody_is_waited_for() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=3 ACK quorum"));
    apply(c, start(0, "us-1", 1, 11, 0));
    let all = [("us-1", 11, 8), ("us-2", 12, 9), ("us-3", 13, 7)];
    let mut plan = promote(0, 1, "us-2", &all);
    if let Command::Promote(plan) = &mut plan {
        for heard in &mut plan.heard {
            heard.whole = false;
            heard.intact_since = 5;
        }
    }
    assert!(apply(c, plan).starts_with("Promoted"));
    let text = &c.events.back().unwrap().text;
    assert!(text.contains("every member was heard"), "{text}");
}

#[test]
fn a_disk_that_is_gone_is_not_waited_for_once_the_primary_is_back() {
    let c = &mut cluster();
    apply(c, create("k PLACE us=3 ACK quorum"));
    apply(c, start(0, "us-1", 1, 11, 0));
    let plan = |named: &str, heard: &[(&str, u64, u64)]| {
        let mut plan = promote(0, 1, named, heard);
        if let Command::Promote(plan) = &mut plan {
            plan.heard
                .iter_mut()
                .for_each(|heard| heard.intact_since = 5);
        }
        plan
    };
    let both = [("us-1", 11, 8), ("us-2", 12, 7)];
    assert!(apply(c, plan("us-1", &both)).contains("2 must be heard"));
    assert!(apply(c, register("us-3", 99)).starts_with("NodeRegistered"));
    assert!(
        apply(c, plan("us-2", &both[1..])).contains("2 must be heard"),
        "the primary has more"
    );
    assert!(apply(c, plan("us-1", &both)).starts_with("Promoted"));
}

#[test]
fn a_disk_that_was_put_back_to_an_older_state_is_refused() {
    let c = &mut cluster();
    let at = |process, nonce, log| Boot {
        process,
        nonce,
        log,
        ..boot(11, 1)
    };
    assert!(reboot(c, "us-1", at(5, 50, 900)).starts_with("NodeRegistered"));
    assert!(
        reboot(c, "us-1", at(5, 50, 900)).starts_with("NodeRegistered"),
        "asked twice"
    );
    for stale in [at(4, 40, 900), at(5, 51, 900), at(6, 60, 899)] {
        let outcome = reboot(c, "us-1", stale);
        assert!(outcome.contains("the disk of us-1 is stale"), "{outcome}");
    }
    // Neither is it forgotten over another disk of the node.
    assert!(reboot(c, "us-1", boot(111, 1)).starts_with("NodeRegistered"));
    assert!(reboot(c, "us-1", at(5, 51, 900)).contains("is stale"));
    assert!(reboot(c, "us-1", at(6, 60, 900)).starts_with("NodeRegistered"));
    // Disks that were left long ago are, one by one.
    for disk in 200..220 {
        assert!(reboot(c, "us-1", boot(disk, 1)).starts_with("NodeRegistered"));
        let of_node = c.disks.values().filter(|d| d.node.as_str() == "us-1");
        assert!(of_node.count() <= model::catalog::DISKS_MAX);
        assert!(c.disks.contains_key(&DiskId(disk)));
    }
}
