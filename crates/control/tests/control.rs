//! The control plane as its callers see it: stories with golden outcomes, properties over
//! random commands, and the promise that old snapshots stay readable.

#![allow(clippy::unwrap_used)] // helpers of tests; what fails here is a test

use control::{
    check,
    command::{Command, CreateKeyspace, Proposal, RequestId},
    create,
    failover::{Heard, Promotion},
    machine,
    planner::Inventory,
    snapshot,
};
use model::{
    AckRule, Catalog, DiskId, Epoch, Failover, KeyspaceName, NodeId, OnTimeout, Placement,
    Position, Region, ShardId, Topology, catalog::NodeInfo, strategy::Strategy,
};
use proptest::prelude::{Strategy as _, *};
use std::time::Duration;

/// The reference deployment's nodes.
const NODES: [(&str, u64); 9] = [
    ("us-1", 11),
    ("us-2", 12),
    ("us-3", 13),
    ("eu-1", 21),
    ("eu-2", 22),
    ("eu-3", 23),
    ("asia-1", 31),
    ("asia-2", 32),
    ("asia-3", 33),
];

fn register(name: &str, disk: u64) -> Command {
    let region = name.split('-').next().unwrap();
    Command::RegisterNode {
        id: NodeId::new(name).unwrap(),
        info: NodeInfo {
            region: Region::new(region).unwrap(),
            zone: "a".to_owned(),
            client_addr: "127.0.0.1:6379".parse().unwrap(),
            peer_addr: "127.0.0.1:7379".parse().unwrap(),
            http_addr: "127.0.0.1:8379".parse().unwrap(),
            disk: DiskId(disk),
        },
    }
}

fn create(words: &str) -> Command {
    let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    Command::CreateKeyspace(create::parse(&args).unwrap())
}

fn start(shard: u64, node: &str, process: u64, disk: u64, expected: u64) -> Command {
    Command::StartEpoch {
        shard: ShardId(shard),
        node: NodeId::new(node).unwrap(),
        process,
        disk: DiskId(disk),
        expected: Epoch(expected),
    }
}

fn degrade(shard: u64, epoch: u64, degraded: bool) -> Command {
    Command::SetDegraded {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        degraded,
    }
}

fn drop_keyspace(name: &str) -> Command {
    Command::DropKeyspace {
        name: KeyspaceName::new(name).unwrap(),
    }
}

/// Applies as the next entry; the outcome, or the refusal in its own words.
fn apply(catalog: &mut Catalog, command: Command) -> String {
    let index = catalog.version + 1;
    match machine::apply(catalog, index, command) {
        Ok(outcome) => format!("{outcome:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

fn cluster() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, disk) in NODES {
        apply(&mut catalog, register(name, disk));
    }
    catalog
}

fn expect(catalog: &mut Catalog, command: Command, golden: &str) {
    assert_eq!(apply(catalog, command), golden);
    assert_eq!(check::catalog(catalog), Ok(()));
}

fn show(catalog: &Catalog, shard: u64) -> String {
    let s = &catalog.shards[&ShardId(shard)];
    let replicas: Vec<&str> = s.replicas.iter().map(|r| r.node.as_str()).collect();
    format!(
        "{}-{} {} [{}]",
        s.slots.0,
        s.slots.1,
        s.primary,
        replicas.join(" ")
    )
}

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
        "refused: there is no keyspace 'b'; there are the keyspaces a",
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
            "there is no node in region mars; there are the regions asia, eu, us",
        ),
        (
            "k PLACE us=4",
            "region us has 3 nodes, 4 replicas were asked",
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
    assert_eq!(c.nodes[&NodeId::new("us-1").unwrap()].disk, DiskId(111));
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
    assert_eq!(machine::apply_entry(&mut c, index + 1, b""), Ok(None));
    assert_eq!(c.version, index + 1);
    assert!(machine::apply_entry(&mut c, index + 2, &[9, 0]).is_err());
}

#[test]
fn proposals_read_back_and_nonsense_is_refused() {
    let proposal = Proposal {
        request: RequestId {
            node: 1,
            process: 2,
            sequence: 3,
        },
        command: create("profiles PLACE us=3,eu=2,asia=2 ACK semi-sync:1"),
    };
    let bytes = proposal.encode().unwrap();
    assert_eq!(Proposal::decode(&bytes).unwrap(), proposal);
    for end in 0..bytes.len() {
        assert!(Proposal::decode(&bytes[..end]).is_err());
    }
    assert!(Proposal::decode(&[&bytes[..], &[0]].concat()).is_err());
    let mut c = cluster();
    let index = c.version + 1;
    let applied = machine::apply_entry(&mut c, index, &bytes)
        .unwrap()
        .unwrap();
    assert_eq!(applied.request, proposal.request);
    assert!(applied.result.is_ok());
}

/// What `testdata/catalog-v1.bin` holds.
fn fixture() -> Catalog {
    let mut c = cluster();
    for command in [
        create("profiles PLACE us=3,eu=2,asia=2 ACK semi-sync:1@eu ON_TIMEOUT degrade SHARDS 2"),
        create("gone PLACE us=1"),
        create("counters PLACE eu=3 ACK quorum TIMEOUT 250"),
        drop_keyspace("gone"),
        start(0, "us-1", 77, 11, 0),
        degrade(0, 1, true),
    ] {
        let outcome = apply(&mut c, command);
        assert!(!outcome.starts_with("refused"), "{outcome}");
    }
    c
}

fn promote(shard: u64, expected: u64, node: &str, heard: &[(&str, u64, u64)]) -> Command {
    Command::Promote(Promotion {
        shard: ShardId(shard),
        expected: Epoch(expected),
        node: NodeId::new(node).unwrap(),
        heard: (heard.iter())
            .map(|(node, disk, index)| Heard {
                node: NodeId::new(node).unwrap(),
                process: 5,
                disk: DiskId(*disk),
                sealed: Epoch(expected + 1),
                last: Position::new(expected, *index),
            })
            .collect(),
        reported: Some(Position::new(expected, 20)),
        cause: "us-1 was silent for 0.5 s".to_owned(),
        at_ms: 1000,
    })
}

fn confirm(shard: u64, epoch: u64, node: &str, disk: u64) -> Command {
    Command::ConfirmReplica {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        node: NodeId::new(node).unwrap(),
        disk: DiskId(disk),
        at_ms: 2000,
    }
}

fn replace(shard: u64, epoch: u64, gone: &str, newcomer: &str) -> Command {
    Command::ReplaceReplica {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        gone: NodeId::new(gone).unwrap(),
        newcomer: NodeId::new(newcomer).unwrap(),
        cause: format!("{gone} was silent for 300 s"),
        at_ms: 3000,
    }
}

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

/// What `testdata/catalog-v2.bin` holds.
fn with_events() -> Catalog {
    let mut c = fixture();
    for command in [
        register("us-3", 99),
        promote(
            0,
            1,
            "eu-1",
            &[("us-2", 12, 9), ("eu-1", 21, 9), ("eu-2", 22, 3)],
        ),
        replace(0, 2, "asia-1", "asia-3"),
        confirm(0, 2, "us-3", 99),
        Command::Note {
            shard: ShardId(0),
            kind: "waiting".to_owned(),
            text: "for no reason".to_owned(),
            at_ms: 5,
        },
    ] {
        let outcome = apply(&mut c, command);
        println!("{outcome}");
    }
    c
}

/// What `testdata/commands-v1.bin` holds, and `-v2.bin` begins with.
fn first_commands() -> Vec<Command> {
    vec![
        register("us-1", 11),
        create("profiles PLACE us=3,eu=2,asia=2 ACK semi-sync:1@eu ON_TIMEOUT degrade SHARDS 2"),
        start(0, "us-1", 77, 11, 0),
        degrade(0, 1, true),
        drop_keyspace("gone"),
    ]
}

/// One of each command; a variant that is added needs a line here.
fn all_commands() -> Vec<Command> {
    let mut all = first_commands();
    all.push(promote(0, 1, "us-2", &[("us-2", 12, 9)]));
    all.push(confirm(0, 2, "us-3", 99));
    all.push(replace(0, 2, "asia-1", "asia-3"));
    all.push(Command::Note {
        shard: ShardId(0),
        kind: "waiting".to_owned(),
        text: "for no reason".to_owned(),
        at_ms: 5,
    });
    for command in &all {
        match command {
            Command::RegisterNode { .. }
            | Command::CreateKeyspace(_)
            | Command::DropKeyspace { .. }
            | Command::StartEpoch { .. }
            | Command::SetDegraded { .. }
            | Command::Promote(_)
            | Command::ConfirmReplica { .. }
            | Command::ReplaceReplica { .. }
            | Command::Note { .. } => {}
        }
    }
    all
}

fn proposals(commands: Vec<Command>) -> Vec<Proposal> {
    let with_request = |(sequence, command)| Proposal {
        request: RequestId {
            node: 1,
            process: 2,
            sequence,
        },
        command,
    };
    (0..).zip(commands).map(with_request).collect()
}

/// Proposals, each behind its length.
fn read_capture(mut bytes: &[u8]) -> Vec<Proposal> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (one, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        found.push(Proposal::decode(one).unwrap());
        bytes = rest;
    }
    found
}

#[test]
fn commands_of_every_version_are_still_read() {
    let v1 = include_bytes!("../testdata/commands-v1.bin");
    assert_eq!(read_capture(v1), proposals(first_commands()));

    let mut written = Vec::new();
    for proposal in proposals(all_commands()) {
        let bytes = proposal.encode().unwrap();
        written.extend((bytes.len() as u32).to_le_bytes());
        written.extend(bytes);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/commands-v2.bin");
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
        #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
        std::fs::write(path, &written).unwrap();
    }
    let v2: &[u8] = include_bytes!("../testdata/commands-v2.bin");
    assert_eq!(v2, written);
    assert_eq!(read_capture(v2), proposals(all_commands()));
}

#[test]
fn a_catalog_of_version_1_is_still_read() {
    let bytes = include_bytes!("../testdata/catalog-v1.bin");
    assert_eq!(snapshot::decode(bytes).unwrap(), fixture());
}

#[test]
fn a_catalog_of_version_2_is_still_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/catalog-v2.bin");
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
        #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
        std::fs::write(path, snapshot::encode(&with_events()).unwrap()).unwrap();
    }
    let bytes = include_bytes!("../testdata/catalog-v2.bin");
    let found = snapshot::decode(bytes).unwrap();
    assert_eq!(found, with_events());
    assert_eq!(snapshot::encode(&found).unwrap(), bytes);
}

#[test]
fn a_snapshot_is_checked() {
    let bytes = snapshot::encode(&fixture()).unwrap();
    for end in 0..bytes.len() {
        assert!(snapshot::decode(&bytes[..end]).is_err());
    }
    assert!(snapshot::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(snapshot::decode(&[&[3], &bytes[1..]].concat()).is_err());

    let spoil = |spoil: &dyn Fn(&mut Catalog)| {
        let mut c = fixture();
        spoil(&mut c);
        snapshot::decode(&snapshot::encode(&c).unwrap()).is_err()
    };
    let shard = ShardId(0);
    assert!(!spoil(&|_| {}));
    assert!(spoil(&|c| c.shards.get_mut(&shard).unwrap().slots.1 -= 1));
    assert!(spoil(&|c| c
        .shards
        .get_mut(&shard)
        .unwrap()
        .replicas
        .truncate(6)));
    assert!(spoil(&|c| {
        let replicas = &mut c.shards.get_mut(&shard).unwrap().replicas;
        replicas[1] = replicas[0].clone();
    }));
    assert!(spoil(&|c| {
        c.shards.get_mut(&shard).unwrap().primary = NodeId::new("eu-3").unwrap();
    }));
    assert!(spoil(&|c| {
        c.shards.remove(&shard);
    }));
    assert!(spoil(&|c| c.next_shard = 1));
    assert!(spoil(&|c| c.next_keyspace = 1));
}

fn any_strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    let ack = prop_oneof![
        Just("async".to_owned()),
        Just("sync".to_owned()),
        Just("quorum".to_owned()),
        Just("local-quorum".to_owned()),
        (1..4u16).prop_map(|k| format!("semi-sync:{k}")),
        (1..3u16).prop_map(|k| format!("semi-sync:{k}@eu")),
    ];
    let place = prop::sample::select(vec![
        "us=3,eu=2,asia=2",
        "us=1",
        "us=2,eu=1",
        "eu=3,us=1",
        "asia=2,eu=4",
        "mars=1,us=2",
    ]);
    let on_timeout =
        prop::sample::select(vec![OnTimeout::Block, OnTimeout::Error, OnTimeout::Degrade]);
    let primary = prop::sample::select(vec!["us", "us", "eu", "asia"]);
    (ack, place, on_timeout, 0..4u64, primary).prop_map(
        |(ack, place, on_timeout, seconds, primary)| Strategy {
            topology: Topology::PrimaryReplica,
            ack: ack.parse::<AckRule>().unwrap(),
            on_timeout,
            timeout: Duration::from_secs(seconds),
            placement: place.parse::<Placement>().unwrap(),
            primary_region: Region::new(primary).unwrap(),
            failover: if seconds % 2 == 0 {
                Failover::Safe
            } else {
                Failover::Available
            },
            replace_after: Duration::from_secs(seconds + 1),
        },
    )
}

fn any_command() -> impl proptest::strategy::Strategy<Value = Command> {
    let name = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let node = || prop::sample::select(NODES.to_vec());
    let shards = prop_oneof![9 => 1..20u16, 1 => any::<u16>()];
    prop_oneof![
        2 => (node(), 0..3u64).prop_map(|((name, disk), more)| register(name, disk + more * 10)),
        3 => (name(), any_strategy(), shards).prop_map(|(name, strategy, shards)| {
            Command::CreateKeyspace(CreateKeyspace {
                name: KeyspaceName::new(name).unwrap(),
                strategy,
                shards,
                avoid: Vec::new(),
            })
        }),
        1 => name().prop_map(drop_keyspace),
        4 => (0..30u64, node(), 0..5u64, 0..4u64)
            .prop_map(|(shard, (name, disk), process, e)| start(shard, name, process, disk, e)),
        2 => (0..30u64, 0..3u64, any::<bool>()).prop_map(|(s, e, on)| degrade(s, e, on)),
        3 => (0..6u64, 0..4u64, prop::collection::vec((node(), 0..9u64), 1..5)).prop_map(
            |(shard, epoch, heard)| {
                let heard: Vec<_> = heard.into_iter().map(|((n, d), i)| (n, d, i)).collect();
                promote(shard, epoch, heard[0].0, &heard)
            }
        ),
        2 => (0..6u64, 0..4u64, node())
            .prop_map(|(shard, epoch, (name, disk))| confirm(shard, epoch, name, disk)),
        2 => (0..6u64, 0..4u64, node(), node())
            .prop_map(|(shard, epoch, (gone, _), (new, _))| replace(shard, epoch, gone, new)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_commands_break_the_catalog_and_the_same_give_the_same(
        nodes in 0..10usize,
        commands in prop::collection::vec(any_command(), 1..80),
    ) {
        let (mut one, mut other) = (Catalog::default(), Catalog::default());
        for (name, disk) in &NODES[..nodes.min(NODES.len())] {
            apply(&mut one, register(name, *disk));
            apply(&mut other, register(name, *disk));
        }
        for command in commands {
            let before = one.clone();
            let outcome = apply(&mut one, command.clone());
            let planned = !matches!(command, Command::Promote(_));
            prop_assert!(!(planned && outcome.contains("not sound")), "{}", outcome);
            prop_assert_eq!(check::catalog(&one), Ok(()), "after {:?}", command);
            prop_assert_eq!(check::succession(&before, &one), Ok(()), "after {:?}", command);
            if outcome.starts_with("refused") {
                prop_assert_eq!(&one, &Catalog { version: one.version, ..before });
            }
            // The other goes by the bytes, as a voter that restarted from a snapshot would.
            let proposal = Proposal {
                request: RequestId { node: 1, process: 1, sequence: one.version },
                command,
            };
            let bytes = proposal.encode().unwrap();
            machine::apply_entry(&mut other, one.version, &bytes).unwrap();
            prop_assert_eq!(&one, &other);
            other = snapshot::decode(&snapshot::encode(&other).unwrap()).unwrap();
        }
    }

    /// Nobody carries more than one copy above another node of the region, and primaries,
    /// which are chosen among the copies, stay within two.
    #[test]
    fn load_is_even(shards in 1..200u16, us in 1..4u16, eu in 1..4u16) {
        let mut c = cluster();
        let outcome = apply(&mut c, create(&format!("k PLACE us={us},eu={eu} SHARDS {shards}")));
        prop_assert!(outcome.starts_with("KeyspaceCreated"));
        let inventory = Inventory::of(&c);
        let loads = |region: &str| -> Vec<_> {
            let here = NODES.iter().filter(|(n, _)| n.starts_with(region));
            here.map(|(n, _)| inventory.load(&NodeId::new(n).unwrap()).unwrap()).collect()
        };
        let spread = |of: Vec<usize>| of.iter().max().unwrap() - of.iter().min().unwrap();
        for region in ["us", "eu"] {
            prop_assert!(spread(loads(region).iter().map(|l| l.replicas).collect()) <= 1);
        }
        let primaries: Vec<usize> = loads("us").iter().map(|l| l.primaries).collect();
        prop_assert_eq!(primaries.iter().sum::<usize>(), usize::from(shards));
        prop_assert!(spread(primaries.clone()) <= 2, "{:?}", primaries);
        prop_assert!(loads("eu").iter().all(|l| l.primaries == 0));
    }

    #[test]
    fn nonsense_is_never_read_as_something_else(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let marked = [&[1], &bytes[..]].concat();
        let _ = snapshot::decode(&marked);
        if let Ok(proposal) = Proposal::decode(&marked) {
            prop_assert!(Proposal::decode(&proposal.encode().unwrap()).unwrap() == proposal);
        }
        let words: Vec<&[u8]> = bytes.split(|b| *b < 32).collect();
        let _ = create::parse(&words);
    }
}
