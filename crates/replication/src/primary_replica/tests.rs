use super::*;
use crate::{
    conformance,
    primary_replica::message::Ack,
    protocol::{Primacy, Wish},
};
use model::{AckRule, DiskId, OnTimeout, Region, ShardId, catalog::Replica};

/// One primary, named by decree, under some rule.
struct Decree {
    ack: AckRule,
    epoch: u64,
}

const PRIMARY: usize = 0;

impl conformance::Rules for Decree {
    type Replica = PrimaryReplica;

    fn replica(identity: Identity, recovered: Recovered) -> PrimaryReplica {
        let tuning = Tuning {
            tail_bytes: 300, // a handful of entries, so that the log is read too
            message_bytes: 120,
            ..Tuning::default()
        };
        PrimaryReplica::new(identity, recovered, tuning)
    }

    fn faults_one_in(&self) -> u64 {
        1
    }

    /// The catalog grants a new epoch to every new process of the primary, and tells all.
    fn started(&mut self, node: usize) -> Vec<usize> {
        if node != PRIMARY {
            return vec![node];
        }
        self.epoch += 1;
        (0..conformance::NODES).collect()
    }

    fn office(&self, node: usize, cluster: &conformance::Cluster) -> Office {
        Office::PrimaryReplica(Primacy {
            epoch: Epoch(self.epoch),
            primary: cluster.disks[PRIMARY].0.clone(),
            in_office: node == PRIMARY,
            ack: self.ack.clone(),
            on_timeout: OnTimeout::Block,
            timeout: Duration::from_secs(10),
            degraded: false,
            decreed: None,
        })
    }
}

#[test]
fn conforms() {
    let rules = [
        "async",
        "semi-sync:1",
        "semi-sync:1@eu",
        "sync",
        "quorum",
        "local-quorum",
    ];
    conformance::run(600, 400, |seed| Decree {
        ack: rules[seed as usize % rules.len()].parse().unwrap(),
        epoch: 0,
    });
}

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn identity(name: &str) -> Identity {
    Identity {
        node: node(name),
        region: Region::new("us").unwrap(),
        shard: ShardId(7),
        disk: conformance::disk(&node(name)),
        boot: 0,
    }
}

fn assignment(epoch: u64, ack: AckRule, on_timeout: OnTimeout) -> Assignment {
    let us = Region::new("us").unwrap();
    Assignment {
        shard: ShardId(7),
        members: ["us-1", "us-2"]
            .map(|name| conformance::member(&node(name), &us))
            .to_vec(),
        office: Office::PrimaryReplica(Primacy {
            epoch: Epoch(epoch),
            primary: node("us-1"),
            in_office: true,
            ack,
            on_timeout,
            timeout: Duration::from_millis(500),
            degraded: false,
            decreed: None,
        }),
    }
}

fn primacy(assignment: &mut Assignment) -> &mut Primacy {
    match &mut assignment.office {
        Office::PrimaryReplica(primacy) => primacy,
        other => panic!("{other:?}"),
    }
}

/// As it is for every other process.
fn out_of_office(mut assignment: Assignment) -> Assignment {
    primacy(&mut assignment).in_office = false;
    assignment
}

fn primary(ack: AckRule, on_timeout: OnTimeout) -> PrimaryReplica {
    let mut p = PrimaryReplica::new(identity("us-1"), Recovered::default(), Tuning::default());
    p.assign(assignment(1, ack, on_timeout), Now::at_ms(0));
    p
}

fn outputs(p: &mut PrimaryReplica, now: Now) -> Vec<Output> {
    std::iter::from_fn(|| p.poll(now)).collect()
}

fn commits(outputs: &[Output]) -> Vec<u64> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Commit { upto } => Some(*upto),
            _ => None,
        })
        .collect()
}

#[test]
fn nothing_is_committed_before_it_is_durable_here_and_where_the_rule_says() {
    let now = Now::at_ms(1);
    let mut p = primary(AckRule::SemiSync { k: 1, region: None }, OnTimeout::Block);
    p.propose(EntryKind::Mutation, 1, b"x", now).unwrap();
    p.durable(2, now);
    assert_eq!(commits(&outputs(&mut p, now)), Vec::<u64>::new());
    assert_eq!(p.state(now).role, Role::Starting);
    let ack = |matched| Message {
        epoch: Epoch(1),
        body: Body::Ack(Ack {
            matched,
            received: matched,
            probe: 1,
            counts: true,
            disk: conformance::disk(&node("us-2")),
        }),
    };
    p.receive(&node("us-2"), ack(1).encode().into_bytes(), now);
    assert_eq!(commits(&outputs(&mut p, now)), [1]);
    assert_eq!(p.state(now).role, Role::Primary);
    // A repeated acknowledgement, and one from a stranger, count for nothing.
    p.receive(&node("us-2"), ack(1).encode().into_bytes(), now);
    p.receive(&node("us-9"), ack(2).encode().into_bytes(), now);
    assert_eq!(commits(&outputs(&mut p, now)), Vec::<u64>::new());
    p.receive(&node("us-2"), ack(2).encode().into_bytes(), now);
    assert_eq!(commits(&outputs(&mut p, now)), [2]);
}

#[test]
fn an_older_epoch_changes_nothing() {
    let now = Now::at_ms(1);
    let mut r = PrimaryReplica::new(identity("us-2"), Recovered::default(), Tuning::default());
    let a = out_of_office(assignment(5, AckRule::Async, OnTimeout::Block));
    r.assign(a, now);
    let entry = Entry::new(
        Position::new(4, 1),
        Stamp(1),
        EntryKind::Mutation,
        1,
        b"old",
    );
    let message = Message {
        epoch: Epoch(4),
        body: Body::Append(message::Append {
            prev: Position::ZERO,
            commit: 1,
            last: 1,
            time_ms: 9,
            echo: 0,
            floor: 0,
            urgent: true,
            entries: vec![entry],
        }),
    };
    r.receive(&node("us-1"), message.encode().into_bytes(), now);
    let outputs = outputs(&mut r, now);
    assert_eq!(r.state(now).tip, Position::ZERO);
    assert!(
        matches!(&outputs[..], [Output::Send { message, .. }]
            if matches!(Message::decode(message.clone().into_bytes()).unwrap().body, Body::Stale)),
        "{outputs:?}"
    );
}

#[test]
fn two_entries_at_one_position_stop_the_shard() {
    let now = Now::at_ms(1);
    let mut r = PrimaryReplica::new(identity("us-2"), Recovered::default(), Tuning::default());
    let a = out_of_office(assignment(1, AckRule::Async, OnTimeout::Block));
    r.assign(a, now);
    for payload in [b"this", b"that"] {
        let entry = Entry::new(
            Position::new(1, 1),
            Stamp(1),
            EntryKind::Mutation,
            1,
            payload,
        );
        let message = Message {
            epoch: Epoch(1),
            body: Body::Append(message::Append {
                prev: Position::ZERO,
                commit: 0,
                last: 1,
                time_ms: 9,
                echo: 0,
                floor: 0,
                urgent: true,
                entries: vec![entry],
            }),
        };
        r.receive(&node("us-1"), message.encode().into_bytes(), now);
    }
    assert!(
        outputs(&mut r, now)
            .iter()
            .any(|o| matches!(o, Output::Stop { reason } if reason.contains("different entries")))
    );
}

#[test]
fn degrade_takes_effect_only_once_the_catalog_has_it() {
    let rule = AckRule::SemiSync { k: 1, region: None };
    let mut p = primary(rule.clone(), OnTimeout::Degrade);
    let start = Now::at_ms(1);
    p.durable(1, start);
    outputs(&mut p, start);
    let later = Now::at_ms(600);
    p.tick(later);
    let out = outputs(&mut p, later);
    assert!(
        out.contains(&Output::Wish(Wish::SetDegraded(true))),
        "{out:?}"
    );
    assert_eq!(commits(&out), Vec::<u64>::new());

    let mut degraded = assignment(1, rule.clone(), OnTimeout::Degrade);
    primacy(&mut degraded).degraded = true;
    p.assign(degraded, later);
    assert_eq!(commits(&outputs(&mut p, later)), [1]);

    // The replica is back and has all: the rule counts at once, before the catalog says so.
    let ack = Message {
        epoch: Epoch(1),
        body: Body::Ack(Ack {
            matched: 1,
            received: 1,
            probe: 1,
            counts: true,
            disk: conformance::disk(&node("us-2")),
        }),
    };
    p.receive(&node("us-2"), ack.encode().into_bytes(), later);
    p.tick(later);
    assert!(outputs(&mut p, later).contains(&Output::Wish(Wish::SetDegraded(false))));
    p.propose(EntryKind::Mutation, 1, b"x", later).unwrap();
    p.durable(2, later);
    assert_eq!(commits(&outputs(&mut p, later)), Vec::<u64>::new());
}

/// A replica that has applied and committed (1:1) to (1:110), under a primary of epoch 2.
fn former_primary() -> PrimaryReplica {
    let mut history = EpochHistory::default();
    history.note(Position::new(1, 1));
    let recovered = Recovered {
        history,
        last: Position::new(1, 110),
        stamp: Stamp(5000),
        first_index: 50,
        commit: 110,
        applied: 110,
        ..Recovered::default()
    };
    let mut r = PrimaryReplica::new(identity("us-2"), recovered, Tuning::default());
    let a = out_of_office(assignment(2, AckRule::Async, OnTimeout::Block));
    r.assign(a, Now::at_ms(1));
    outputs(&mut r, Now::at_ms(1));
    r
}

/// Entries `indexes` of `epoch`, behind `prev`, from a primary that has committed them.
fn append(r: &mut PrimaryReplica, prev: Position, epoch: u64, indexes: std::ops::Range<u64>) {
    let entry = |i| {
        let position = Position::new(epoch, i);
        Entry::new(position, Stamp(100 * epoch + i), EntryKind::Barrier, 0, b"")
    };
    let message = Message {
        epoch: Epoch(epoch.max(2)),
        body: Body::Append(message::Append {
            prev,
            commit: indexes.end.max(prev.index + 1) - 1,
            last: indexes.end.max(prev.index + 1) - 1,
            time_ms: 9,
            echo: 1,
            floor: 90,
            urgent: true,
            entries: indexes.map(entry).collect(),
        }),
    };
    r.receive(&node("us-1"), message.encode().into_bytes(), Now::at_ms(2));
}

fn sent(outputs: &[Output]) -> Vec<Body> {
    outputs
        .iter()
        .filter_map(|o| match o {
            Output::Send { message, .. } => {
                Some(Message::decode(message.clone().into_bytes()).unwrap().body)
            }
            _ => None,
        })
        .collect()
}

#[test]
fn what_was_committed_and_lost_is_taken_back() {
    let now = Now::at_ms(3);
    let mut r = former_primary();
    assert_eq!(r.floor(), None);
    let common = Position::new(1, 100);

    // A probe where the logs agree: nothing above that is acknowledged, nor shown.
    append(&mut r, common, 2, 0..0);
    let out = outputs(&mut r, now);
    let [
        Body::Ack(Ack {
            matched: 100,
            received: 100,
            ..
        }),
    ] = sent(&out)[..]
    else {
        panic!("{out:?}")
    };
    assert_eq!(r.floor(), Some(90));
    append(&mut r, common, 2, 101..102);
    let from = node("us-1");
    assert_eq!(outputs(&mut r, now), [Output::NeedsRewind { from, common }]);
    assert_eq!(r.state(now).role, Role::Learner);
    assert_eq!(
        r.state(now).fresh_at,
        None,
        "the tail that was lost is no news"
    );

    // Nothing is taken in meanwhile, in a later epoch neither.
    append(&mut r, common, 2, 101..104);
    append(&mut r, common, 3, 101..104);
    r.durable(110, now);
    assert_eq!(outputs(&mut r, now), []);

    let until = Position::new(3, 103);
    r.order(Order::Rewound { common, until }, now);
    let out = outputs(&mut r, now);
    assert_eq!(r.state(now).tip, common);
    let [Body::Report { last, .. }] = &sent(&out)[..] else {
        panic!("{out:?}")
    };
    assert_eq!(*last, common);

    // It does not count before its log holds what was fetched.
    append(&mut r, common, 3, 101..103);
    r.durable(102, now);
    let out = outputs(&mut r, now);
    assert_eq!(commits(&out), [102]);
    assert!(matches!(
        sent(&out)[..],
        [Body::Ack(Ack {
            matched: 102,
            counts: false,
            ..
        })]
    ));
    append(&mut r, Position::new(3, 102), 3, 103..104);
    r.durable(103, now);
    let out = outputs(&mut r, now);
    assert!(matches!(
        sent(&out)[..],
        [Body::Ack(Ack {
            matched: 103,
            counts: true,
            ..
        })]
    ));
    r.applied(102, now);
    assert_eq!(r.state(now).role, Role::Learner);
    r.applied(103, now);
    assert_eq!(r.state(now).role, Role::Replica);
    assert!(
        r.history().discarded(Position::new(1, 105)),
        "sessions are told"
    );
    assert!(!r.history().discarded(common));
}

/// A failover takes a while, and nobody may be left without a copy to read from meanwhile.
#[test]
fn in_another_epoch_a_replica_can_be_read_as_before_until_its_primary_speaks() {
    let now = Now::at_ms(3);
    let assign = |r: &mut PrimaryReplica, epoch| {
        let mut next = out_of_office(assignment(epoch, AckRule::Async, OnTimeout::Error));
        primacy(&mut next).primary = node("us-3");
        r.assign(next, now);
    };
    type Way<'a> = (&'a str, &'a dyn Fn(&mut PrimaryReplica));
    let ways: [Way; 4] = [
        ("sealed", &|r| r.order(Order::Seal(Epoch(3)), now)),
        ("assigned", &|r| assign(r, 3)),
        ("sealed and assigned", &|r| {
            r.order(Order::Seal(Epoch(3)), now);
            assign(r, 3);
        }),
        // It lacks what comes before, so this is no news yet.
        ("spoken to", &|r| append(r, Position::new(3, 9), 3, 10..12)),
    ];
    for (way, go) in ways {
        let mut r = PrimaryReplica::new(identity("us-2"), Recovered::default(), Tuning::default());
        append(&mut r, Position::ZERO, 2, 1..3);
        r.durable(2, now);
        outputs(&mut r, now);
        r.applied(2, now);
        let before = r.state(now);
        assert!(before.fresh_at.is_some());
        go(&mut r);
        let after = r.state(now);
        assert_eq!(after.epoch, Epoch(3), "{way}");
        let shown = |s: &State| (s.role, s.fresh_at, s.time_ms);
        assert_eq!(shown(&after), shown(&before), "{way}");
    }
}

#[test]
fn what_was_not_committed_is_cut_from_the_log_alone() {
    let now = Now::at_ms(3);
    let mut r = former_primary();
    append(&mut r, Position::new(1, 110), 1, 111..113);
    r.durable(112, now);
    let before = outputs(&mut r, now);
    assert_eq!(commits(&before), [112], "{before:?}");
    append(&mut r, Position::new(1, 112), 1, 113..115);
    outputs(&mut r, now);
    append(&mut r, Position::new(1, 112), 2, 113..114);
    let out = outputs(&mut r, now);
    assert!(matches!(out[0], Output::Truncate { after: 112 }), "{out:?}");
    assert!(
        matches!(&out[1], Output::Append { entry, .. } if entry.position == Position::new(2, 113))
    );
}

#[test]
fn what_was_fetched_from_a_log_that_was_lost_is_replaced_by_a_copy() {
    let now = Now::at_ms(3);
    let common = Position::new(1, 100);
    let copy = |r: &mut PrimaryReplica| {
        let out = outputs(r, now);
        out.iter().find_map(|o| match o {
            Output::NeedsCopy { common, .. } => Some(*common),
            _ => None,
        })
    };
    for fetched in [103, 120] {
        let mut r = former_primary();
        append(&mut r, common, 2, 101..102);
        r.order(
            Order::Rewound {
                common,
                until: Position::new(2, fetched),
            },
            now,
        );
        append(&mut r, common, 2, 101..102);
        outputs(&mut r, now);
        // The next primary has (2:101), and not what was fetched.
        append(&mut r, Position::new(2, 101), 3, 102..105);
        assert_eq!(copy(&mut r), Some(101), "fetched at {fetched}");
        assert_eq!(r.state(now).role, Role::Learner);
    }
    let mut r = former_primary();
    append(&mut r, common, 2, 101..102);
    r.order(
        Order::Rewound {
            common,
            until: Position::new(2, 103),
        },
        now,
    );
    append(&mut r, common, 2, 101..104);
    append(&mut r, Position::new(2, 103), 3, 104..105);
    assert_eq!(copy(&mut r), None, "it is part of the next primary's log");
}

#[test]
fn a_log_that_parted_below_what_its_primary_holds_is_replaced_by_a_copy() {
    let now = Now::at_ms(3);
    let mut history = EpochHistory::default();
    history.note(Position::new(1, 1));
    history.note(Position::new(2, 101));
    for (first, common) in [(102, Some(100)), (101, None)] {
        let mut r = former_primary();
        let body = Body::Behind {
            first,
            last: 140,
            history: history.clone(),
        };
        let epoch = Epoch(2);
        let message = Message { epoch, body };
        r.receive(&node("us-1"), message.encode().into_bytes(), now);
        let out = outputs(&mut r, now);
        let from = node("us-1");
        match common {
            Some(common) => assert_eq!(out, [Output::NeedsCopy { from, common }]),
            None => assert!(matches!(sent(&out)[..], [Body::Report { .. }])),
        }
    }
}

#[test]
fn a_rewind_that_was_given_up_is_asked_for_again() {
    let now = Now::at_ms(3);
    let mut r = former_primary();
    append(&mut r, Position::new(1, 100), 2, 101..102);
    outputs(&mut r, now);
    r.order(Order::RewindGivenUp, now);
    append(&mut r, Position::new(1, 95), 3, 96..97);
    let common = Position::new(1, 95);
    let out = outputs(&mut r, now);
    assert!(
        out.iter()
            .any(|o| matches!(o, Output::NeedsRewind { common: c, .. } if *c == common))
    );
}

/// What `us-2` acknowledges, from a disk of that number.
fn ack_from_disk(matched: u64, disk: DiskId) -> Bytes {
    let ack = Ack {
        matched,
        received: matched,
        probe: 1,
        counts: true,
        disk,
    };
    Message {
        epoch: Epoch(1),
        body: Body::Ack(ack),
    }
    .encode()
    .into_bytes()
}

#[test]
fn a_sealed_replica_is_out_of_the_epochs_before_also_after_a_restart() {
    let now = Now::at_ms(1);
    let mut p = primary(AckRule::Async, OnTimeout::Block);
    p.durable(1, now);
    outputs(&mut p, now);
    assert_eq!(p.state(now).role, Role::Primary);
    p.order(Order::Seal(Epoch(2)), now);
    assert_eq!(outputs(&mut p, now), [Output::Lost { commit: 1 }]);
    assert!(p.propose(EntryKind::Mutation, 1, b"x", now).is_err());
    p.assign(assignment(1, AckRule::Async, OnTimeout::Block), now);
    assert_eq!(p.state(now).role, Role::Replica, "its epoch is over");
    p.assign(assignment(2, AckRule::Async, OnTimeout::Block), now);
    assert_eq!(p.state(now).role, Role::Starting, "the next may be its own");

    let recovered = Recovered {
        sealed: Epoch(3),
        ..Recovered::default()
    };
    let mut r = PrimaryReplica::new(identity("us-2"), recovered, Tuning::default());
    append(&mut r, Position::ZERO, 2, 1..3);
    let out = outputs(&mut r, now);
    assert_eq!(sent(&out), [Body::Stale]);
    append(&mut r, Position::ZERO, 3, 1..3);
    assert_eq!(r.state(now).tip, Position::new(3, 2));
}

#[test]
fn another_disk_is_no_member_before_the_catalog_says_so() {
    let now = Now::at_ms(1);
    let rule = AckRule::SemiSync { k: 1, region: None };
    let mut p = primary(rule.clone(), OnTimeout::Block);
    p.durable(1, now);
    let own = conformance::disk(&node("us-2"));
    p.receive(&node("us-2"), ack_from_disk(1, own), now);
    p.propose(EntryKind::Mutation, 1, b"x", now).unwrap();
    p.durable(2, now);
    assert_eq!(commits(&outputs(&mut p, now)), [1]);
    p.receive(&node("us-2"), ack_from_disk(2, DiskId(9)), now);
    p.tick(now);
    let out = outputs(&mut p, now);
    assert_eq!(commits(&out), Vec::<u64>::new());
    let confirm = Output::Wish(Wish::Confirm {
        node: node("us-2"),
        disk: DiskId(9),
    });
    assert!(out.contains(&confirm), "{out:?}");
    p.tick(now);
    assert!(
        !outputs(&mut p, now).contains(&confirm),
        "asked once a second"
    );
    let mut confirmed = assignment(1, rule, OnTimeout::Block);
    confirmed.members[1].disk = Some(DiskId(9));
    p.assign(confirmed, now);
    assert_eq!(commits(&outputs(&mut p, now)), [2]);
    // The replica itself says no more of it than that it is a learner.
    let mut r = PrimaryReplica::new(identity("us-2"), Recovered::default(), Tuning::default());
    let mut elsewhere = out_of_office(assignment(1, AckRule::Async, OnTimeout::Block));
    elsewhere.members[1].disk = Some(DiskId(9));
    r.assign(elsewhere, now);
    assert_eq!(r.state(now).role, Role::Learner);
}

#[test]
fn who_takes_anothers_place_and_who_leaves_both_count_until_it_is_done() {
    let now = Now::at_ms(1);
    let us = Region::new("us").unwrap();
    let mut p = primary(AckRule::Sync, OnTimeout::Block);
    let mut joining = assignment(1, AckRule::Sync, OnTimeout::Block);
    joining.members.push(Replica {
        disk: None,
        replaces: Some(node("us-2")),
        added: 0,
        ..conformance::member(&node("us-3"), &us)
    });
    p.assign(joining.clone(), now);
    p.durable(1, now);
    let (two, three) = (
        conformance::disk(&node("us-2")),
        conformance::disk(&node("us-3")),
    );
    p.receive(&node("us-2"), ack_from_disk(1, two), now);
    p.receive(&node("us-3"), ack_from_disk(1, three), now);
    p.tick(now);
    let out = outputs(&mut p, now);
    assert_eq!(commits(&out), [1], "a newcomer is not waited for");
    assert!(
        out.iter().any(
            |o| matches!(o, Output::Wish(Wish::Confirm { node, .. }) if node.as_str() == "us-3")
        )
    );
    for _ in 0..2 {
        p.propose(EntryKind::Mutation, 1, b"x", now).unwrap();
    }
    p.durable(3, now);
    p.receive(&node("us-2"), ack_from_disk(3, two), now);
    p.receive(&node("us-3"), ack_from_disk(2, three), now);
    assert_eq!(commits(&outputs(&mut p, now)), [2]);
    joining.members.remove(1);
    joining.members[1].replaces = None;
    joining.members[1].disk = Some(three);
    p.assign(joining, now);
    p.receive(&node("us-3"), ack_from_disk(3, three), now);
    assert_eq!(commits(&outputs(&mut p, now)), [3]);
}

/// `from` has nothing of the log of epoch 1, and says what time it is there.
fn nothing_yet(from: &NodeId, probe: u64) -> Bytes {
    let body = Body::Ack(Ack {
        matched: 0,
        received: 0,
        probe,
        counts: true,
        disk: conformance::disk(from),
    });
    let epoch = Epoch(1);
    Message { epoch, body }.encode().into_bytes()
}

#[test]
fn a_log_that_gives_nothing_is_not_asked_over_and_over() {
    for given in [None, Some(vec![])] {
        let mut p = primary(AckRule::Quorum, OnTimeout::Error);
        p.core.tail = Tail::new(2, 1); // it keeps the last entry only
        let now = Now::at_ms(1);
        for _ in 0..3 {
            p.propose(EntryKind::Barrier, 0, b"", now).unwrap();
        }
        let to = node("us-2");
        p.link_changed(&to, true, now);
        p.receive(&to, nothing_yet(&to, 1), now);
        let fetches = |out: &[Output]| {
            let fetches = out.iter().filter(|o| matches!(o, Output::Fetch { .. }));
            fetches.count()
        };
        assert_eq!(fetches(&outputs(&mut p, now)), 0, "nothing is durable yet");
        p.durable(4, now);
        assert_eq!(fetches(&outputs(&mut p, now)), 1);
        p.fetched(&to, 1, given, now);
        let out = outputs(&mut p, now);
        assert!(matches!(sent(&out)[..], [Body::Behind { .. }]), "{out:?}");
    }
}

/// Another may have committed more: nobody is to take what it has for the newest.
#[test]
fn a_primary_that_another_may_have_replaced_vouches_for_nothing() {
    let mut p = primary(AckRule::Quorum, OnTimeout::Error);
    let to = node("us-2");
    let mut now = Now::at_ms(1);
    p.link_changed(&to, true, now);
    let mut echo = |p: &mut PrimaryReplica, may: bool| {
        now.monotonic += Duration::from_secs(1);
        p.receive(&to, nothing_yet(&to, 5), now);
        p.vouch(may);
        match sent(&outputs(p, now)).pop() {
            Some(Body::Append(append)) => append.echo,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(echo(&mut p, true), 5);
    assert_eq!(echo(&mut p, false), 0);
    assert_eq!(echo(&mut p, true), 5);
}
