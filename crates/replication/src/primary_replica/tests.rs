use super::*;
use crate::conformance;
use model::{AckRule, OnTimeout, Region, ShardId};

#[test]
fn conforms() {
    let make = |identity, recovered| {
        let tuning = Tuning {
            tail_bytes: 300, // a handful of entries, so that the log is read too
            message_bytes: 120,
            ..Tuning::default()
        };
        PrimaryReplica::new(identity, recovered, tuning)
    };
    conformance::run(600, 400, make);
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn identity(name: &str) -> Identity {
    Identity {
        node: node(name),
        region: Region::new("us").unwrap(),
        shard: ShardId(7),
    }
}

fn assignment(epoch: u64, ack: AckRule, on_timeout: OnTimeout) -> Assignment {
    let us = Region::new("us").unwrap();
    Assignment {
        shard: ShardId(7),
        epoch: Epoch(epoch),
        primary: node("us-1"),
        in_office: true,
        members: vec![(node("us-1"), us.clone()), (node("us-2"), us)],
        ack,
        on_timeout,
        timeout: Duration::from_millis(500),
        degraded: false,
    }
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
        body: Body::Ack {
            matched,
            received: matched,
            probe: 1,
        },
    };
    p.receive(&node("us-2"), ack(1).encode(), now);
    assert_eq!(commits(&outputs(&mut p, now)), [1]);
    assert_eq!(p.state(now).role, Role::Primary);
    // A repeated acknowledgement, and one from a stranger, count for nothing.
    p.receive(&node("us-2"), ack(1).encode(), now);
    p.receive(&node("us-9"), ack(2).encode(), now);
    assert_eq!(commits(&outputs(&mut p, now)), Vec::<u64>::new());
    p.receive(&node("us-2"), ack(2).encode(), now);
    assert_eq!(commits(&outputs(&mut p, now)), [2]);
}

#[test]
fn an_older_epoch_changes_nothing() {
    let now = Now::at_ms(1);
    let mut r = PrimaryReplica::new(identity("us-2"), Recovered::default(), Tuning::default());
    let mut a = assignment(5, AckRule::Async, OnTimeout::Block);
    a.in_office = false;
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
            closed: Stamp(9),
            echo: 0,
            urgent: true,
            entries: vec![entry],
        }),
    };
    r.receive(&node("us-1"), message.encode(), now);
    let outputs = outputs(&mut r, now);
    assert_eq!(r.state(now).tip, Position::ZERO);
    assert!(
        matches!(&outputs[..], [Output::Send { message, .. }]
            if matches!(Message::decode(message.clone()).unwrap().body, Body::Stale)),
        "{outputs:?}"
    );
}

#[test]
fn two_entries_at_one_position_stop_the_shard() {
    let now = Now::at_ms(1);
    let mut r = PrimaryReplica::new(identity("us-2"), Recovered::default(), Tuning::default());
    let mut a = assignment(1, AckRule::Async, OnTimeout::Block);
    a.in_office = false;
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
                closed: Stamp(9),
                echo: 0,
                urgent: true,
                entries: vec![entry],
            }),
        };
        r.receive(&node("us-1"), message.encode(), now);
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
    assert!(out.contains(&Output::SetDegraded(true)), "{out:?}");
    assert_eq!(commits(&out), Vec::<u64>::new());

    let mut degraded = assignment(1, rule.clone(), OnTimeout::Degrade);
    degraded.degraded = true;
    p.assign(degraded, later);
    assert_eq!(commits(&outputs(&mut p, later)), [1]);

    // The replica is back and has all: the rule counts at once, before the catalog says so.
    let ack = Message {
        epoch: Epoch(1),
        body: Body::Ack {
            matched: 1,
            received: 1,
            probe: 1,
        },
    };
    p.receive(&node("us-2"), ack.encode(), later);
    p.tick(later);
    assert!(outputs(&mut p, later).contains(&Output::SetDegraded(false)));
    p.propose(EntryKind::Mutation, 1, b"x", later).unwrap();
    p.durable(2, later);
    assert_eq!(commits(&outputs(&mut p, later)), Vec::<u64>::new());
}
