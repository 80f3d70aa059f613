use super::*;
use crate::{check, create};
use model::{KeyspaceId, catalog::Shard};
use proptest::prelude::*;
use replication::acknowledgement::{self, Other};

const REGIONS: [&str; 3] = ["us", "eu", "asia"];

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn region(name: &str) -> Region {
    Region::new(name).unwrap()
}

/// Members in us, eu and asia; the first of us is primary, in epoch 4, on disk 1.
fn shard(counts: [usize; 3]) -> Shard {
    let mut replicas = Vec::new();
    for (name, count) in REGIONS.iter().zip(counts) {
        for n in 1..=count {
            replicas.push(Replica {
                node: node(&format!("{name}-{n}")),
                region: region(name),
                disk: Some(DiskId(replicas.len() as u64 + 1)),
                replaces: None,
                added: 0,
            });
        }
    }
    Shard {
        keyspace: KeyspaceId(0),
        slots: (0, 16_383),
        primary: node("us-1"),
        epoch: Epoch(4),
        process: 1,
        disk: DiskId(1),
        degraded: false,
        decreed: None,
        replicas,
    }
}

fn keyspace(words: &str) -> Keyspace {
    let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    let wanted = create::parse(&args).unwrap();
    Keyspace {
        name: wanted.name,
        strategy: wanted.strategy,
        shards: vec![ShardId(0)],
    }
}

fn heard(shard: &Shard, name: &str, epoch: u64, index: u64) -> Heard {
    let replica = shard.replica(&node(name)).unwrap();
    Heard {
        node: node(name),
        process: 7,
        disk: replica.disk.unwrap(),
        sealed: Epoch(5),
        last: Position::new(epoch, index),
        intact_since: 1,
        whole: true,
        level: true,
    }
}

/// Who is named, or why nobody is.
fn decided(shard: &Shard, keyspace: &Keyspace, heard: &[Heard]) -> String {
    match decide(
        ShardId(0),
        shard,
        keyspace,
        heard,
        &Nodes::new(),
        &node("us-9"),
        &BTreeSet::new(),
    ) {
        Decision::Name { node, .. } => node.to_string(),
        Decision::Wait(why) => why.to_string(),
    }
}

#[test]
fn the_most_advanced_is_named_and_home_comes_first_among_equals() {
    let s = shard([3, 2, 0]);
    let k = keyspace("k ACK semi-sync:1 PLACE us=3,eu=2");
    let say = |heard: &[Heard]| decided(&s, &k, heard);
    let (us2, us3) = (heard(&s, "us-2", 4, 90), heard(&s, "us-3", 4, 90));
    let eu1 = heard(&s, "eu-1", 4, 90);
    assert_eq!(say(&[eu1.clone(), us3.clone(), us2.clone()]), "us-2");
    let all = [eu1.clone(), us3.clone(), us2.clone()];
    for (leader, named) in [("us-2", "us-3"), ("us-3", "us-2"), ("eu-1", "us-2")] {
        let nobody = BTreeSet::new();
        let decided = decide(
            ShardId(0),
            &s,
            &k,
            &all,
            &Nodes::new(),
            &node(leader),
            &nobody,
        );
        let (node, is_safe) = (node(named), true);
        assert_eq!(decided, Decision::Name { node, is_safe });
    }
    let us3 = Heard {
        last: Position::new(4, 91),
        ..us3
    };
    assert_eq!(say(&[us3.clone(), us2.clone()]), "us-3");
    // An epoch outweighs any index.
    let us3 = Heard {
        last: Position::new(3, 200),
        ..us3
    };
    assert_eq!(say(&[us3, us2.clone()]), "us-2");
    // One of two may have acknowledged what the other lacks.
    assert!(say(std::slice::from_ref(&us2)).contains("2 must be heard"));
    assert!(say(&[us2, eu1]).contains("2 must be heard"));
    assert!(say(&[]).contains("no replica of shard 0 that could take over"));
}

#[test]
fn a_primary_that_ends_is_named_only_if_nobody_else_has_as_much() {
    let mut s = shard([3, 0, 0]);
    (s.process, s.disk) = (7, s.replicas[0].disk.unwrap());
    let k = keyspace("k ACK async PLACE us=3");
    let ending = BTreeSet::from([node("us-1"), node("us-3")]);
    let named = |heard: &[Heard]| match decide(
        ShardId(0),
        &s,
        &k,
        heard,
        &Nodes::new(),
        &node("us-2"),
        &ending,
    ) {
        Decision::Name { node, is_safe } => (node.to_string(), is_safe),
        Decision::Wait(why) => (why.to_string(), false),
    };
    let all = |us2, us3| {
        [("us-1", 90), ("us-2", us2), ("us-3", us3)].map(|(name, last)| heard(&s, name, 4, last))
    };
    assert_eq!(named(&all(90, 90)), ("us-2".to_owned(), true));
    assert_eq!(named(&all(89, 90)), ("us-1".to_owned(), true));
    assert_eq!(named(&all(90, 90)[1..]), ("us-2".to_owned(), false));
}

#[test]
fn who_is_not_sealed_or_has_another_disk_does_not_count() {
    let mut s = shard([3, 0, 0]);
    let k = keyspace("k ACK sync PLACE us=3");
    let good = heard(&s, "us-2", 4, 90);
    assert_eq!(decided(&s, &k, std::slice::from_ref(&good)), "us-2");
    let unsealed = Heard {
        sealed: Epoch(4),
        ..good.clone()
    };
    let emptied = Heard {
        disk: DiskId(99),
        ..good.clone()
    };
    for bad in [unsealed, emptied] {
        assert!(decided(&s, &k, &[bad]).contains("no replica"));
    }
    s.replicas[1].replaces = Some(node("us-3"));
    assert!(decided(&s, &k, &[good]).contains("no replica"));
}

#[test]
fn a_loss_is_only_taken_where_the_keyspace_takes_it() {
    let mut s = shard([2, 2, 0]);
    let us2 = heard(&s, "us-2", 4, 90);
    let both = [us2.clone(), heard(&s, "eu-1", 4, 90)];
    let safe = keyspace("k FAILOVER safe PLACE us=2,eu=2");
    let why = decided(&s, &safe, &both);
    assert!(why.contains("waits for us-1, which alone is sure"), "{why}");
    let available = keyspace("k PLACE us=2,eu=2");
    assert_eq!(decided(&s, &available, &both), "us-2");
    // The primary itself, on its disk, is enough.
    let us1 = heard(&s, "us-1", 4, 95);
    assert_eq!(decided(&s, &safe, &[us2.clone(), us1.clone()]), "us-1");
    // A rule that is suspended promises no more than async.
    let quorum = keyspace("k ACK quorum ON_TIMEOUT degrade PLACE us=2,eu=2");
    assert_eq!(decided(&s, &quorum, &both), "us-2");
    s.degraded = true;
    assert!(decided(&s, &quorum, &both).contains("suspended"));
}

#[test]
fn nobody_leads_where_the_rule_promises_nothing() {
    let s = shard([2, 1, 0]);
    let k = keyspace("k ACK local-quorum FAILOVER available PLACE us=2,eu=1");
    let eu1 = heard(&s, "eu-1", 4, 90);
    let us2 = heard(&s, "us-2", 4, 90);
    assert!(decided(&s, &k, std::slice::from_ref(&eu1)).contains("no replica"));
    assert_eq!(decided(&s, &k, &[eu1, us2]), "us-2");

    // Who may not lead, and whose acknowledgement doesn't count, may have more.
    let k = keyspace("k ACK semi-sync:1 PLACE us=2,eu=1");
    let (us2, eu1) = (heard(&s, "us-2", 4, 90), heard(&s, "eu-1", 4, 95));
    assert_eq!(decided(&s, &k, &[us2.clone(), eu1.clone()]), "us-2");
    // Where it counts, what it has may have been acknowledged.
    let k = keyspace("k ACK local-quorum PLACE us=2,eu=1");
    assert_eq!(decided(&s, &k, &[us2.clone(), eu1.clone()]), "us-2");
    let k = keyspace("k ACK semi-sync:1@eu PLACE us=2,eu=1");
    assert!(decided(&s, &k, &[us2, eu1]).contains("eu-1 may not lead where it stands"));
}

#[test]
fn an_unsound_plan_is_refused() {
    let s = shard([3, 0, 0]);
    let k = keyspace("k ACK quorum PLACE us=3");
    let (us2, us3) = (heard(&s, "us-2", 4, 90), heard(&s, "us-3", 4, 91));
    let plan = |name: &str, heard: &[Heard]| {
        let plan = Promotion {
            shard: ShardId(0),
            expected: Epoch(4),
            node: node(name),
            heard: heard.to_vec(),
            reported: None,
            cause: String::new(),
            at_ms: 0,
        };
        check::promotion(&plan, &s, &k, &Nodes::new()).map(|checked| checked.may_lose)
    };
    assert_eq!(plan("us-3", &[us2.clone(), us3.clone()]), Ok(None));
    for (name, heard) in [
        ("us-2", vec![us2.clone(), us3.clone()]), // another has more
        ("us-3", vec![us2.clone()]),              // was not heard
        ("us-3", vec![us3.clone()]),              // too few
        ("us-3", vec![us3.clone(), us3.clone()]), // one counted twice
        (
            "us-3",
            vec![
                us2.clone(),
                Heard {
                    sealed: Epoch(4),
                    ..us3
                },
            ],
        ),
    ] {
        assert!(plan(name, &heard).is_err(), "{name} {heard:?}");
    }
}

const RULES: [&str; 8] = [
    "async",
    "sync",
    "quorum",
    "local-quorum",
    "semi-sync:1",
    "semi-sync:2",
    "semi-sync:1@eu",
    "semi-sync:2@eu",
];

proptest! {
    /// Whatever the members hold, have lost, and whoever is heard: if it is called safe, the most
    /// advanced of the heard holds all that the rule has ever acknowledged.
    #[test]
    fn what_is_called_safe_loses_nothing(
        counts in (1usize..4, 0usize..4, 0usize..3),
        logs in proptest::collection::vec(0u64..6, 10),
        ears in proptest::collection::vec(any::<bool>(), 10),
        cuts in proptest::collection::vec(0u64..4, 10),
        rule in prop::sample::select(RULES.to_vec()),
    ) {
        let s = shard([counts.0, counts.1, counts.2]);
        let rule: AckRule = rule.parse().unwrap();
        let own = logs[0].max(5); // the primary has everything
        let others: Vec<(&Replica, u64)> =
            s.replicas.iter().skip(1).zip(logs.iter().skip(1).copied()).collect();
        let matched: Vec<Other> =
            others.iter().map(|(r, m)| Other { region: &r.region, matched: *m }).collect();
        let acknowledged = acknowledgement::committed(&rule, &region("us"), own, &matched);
        let said: Vec<Heard> = others
            .iter()
            .zip(ears.iter().zip(&cuts))
            .filter(|(_, (hears, _))| **hears)
            .map(|((r, m), (_, cut))| Heard {
                // Some have lost the end of their logs since, and know it.
                whole: *cut == 0,
                ..heard(&s, r.node.as_str(), 4, m.saturating_sub(*cut))
            })
            .chain(ears[9].then(|| Heard {
                intact_since: 1 + cuts[9],
                ..heard(&s, "us-1", 4, own.saturating_sub(cuts[9]))
            }))
            .collect();
        let counted = counted(&s, &said);
        for (named, _) in &counted {
            if is_safe(ShardId(0), &s, &rule, &counted, named).is_ok() {
                prop_assert!(named.last.index >= acknowledged, "{:?} < {acknowledged}", named.last);
            }
        }
    }

    /// Nor does anybody on an older copy of his disk, who can't know that he lacks something,
    /// cost what was acknowledged, where what was heard is vouched for.
    #[test]
    fn what_is_vouched_for_loses_nothing_by_an_older_copy(
        counts in (1usize..4, 0usize..4, 0usize..3),
        logs in proptest::collection::vec(0u64..6, 10),
        ears in proptest::collection::vec(any::<bool>(), 10),
        copies in proptest::collection::vec(0u64..4, 10),
        rule in prop::sample::select(RULES.to_vec()),
    ) {
        let s = shard([counts.0, counts.1, counts.2]);
        let rule: AckRule = rule.parse().unwrap();
        let others: Vec<(&Replica, u64)> =
            s.replicas.iter().skip(1).zip(logs.iter().skip(1).copied()).collect();
        let matched: Vec<Other> =
            others.iter().map(|(r, m)| Other { region: &r.region, matched: *m }).collect();
        let acknowledged = acknowledgement::committed(&rule, &region("us"), 5, &matched);
        let said: Vec<Heard> = others
            .iter()
            .zip(ears.iter().zip(&copies))
            .filter(|(_, (hears, _))| **hears)
            .map(|((r, m), (_, older))| Heard {
                level: *older == 0,
                ..heard(&s, r.node.as_str(), 4, m.saturating_sub(*older))
            })
            .collect();
        let counted = counted(&s, &said);
        for (named, _) in &counted {
            if is_safe(ShardId(0), &s, &rule, &counted, named).is_ok()
                && is_vouched(&s, &rule, &counted)
            {
                prop_assert!(named.last.index >= acknowledged, "{:?} < {acknowledged}", named.last);
            }
        }
    }

    /// It is never stricter than it must be: with one fewer heard there are logs that lose.
    #[test]
    fn what_is_called_unsafe_could_lose(
        counts in (1usize..4, 0usize..4, 0usize..3),
        ears in proptest::collection::vec(any::<bool>(), 10),
        rule in prop::sample::select(RULES.to_vec()),
    ) {
        let s = shard([counts.0, counts.1, counts.2]);
        let rule: AckRule = rule.parse().unwrap();
        let others: Vec<&Replica> = s.replicas.iter().skip(1).collect();
        let said: Vec<Heard> = others
            .iter()
            .zip(&ears)
            .filter(|(_, hears)| **hears)
            .map(|(r, _)| heard(&s, r.node.as_str(), 4, 0))
            .collect();
        let counted = counted(&s, &said);
        let safe = |(named, _): &(&Heard, &Replica)| {
            is_safe(ShardId(0), &s, &rule, &counted, named).is_ok()
        };
        if !counted.first().is_some_and(safe) {
            // Entry 1 is exactly on those that were not heard.
            let matched: Vec<Other> = others
                .iter()
                .zip(&ears)
                .map(|(r, hears)| Other { region: &r.region, matched: u64::from(!hears) })
                .collect();
            let acknowledged = acknowledgement::committed(&rule, &region("us"), 1, &matched);
            // A rule that can't be met acknowledges nothing, and only its primary knows.
            let met = needed(&s, &rule) != Needed::Primary || rule == AckRule::Async;
            prop_assert!(acknowledged == 1 || !met);
        }
    }
}
