//! Old commands and snapshots stay readable, and nonsense is refused.

use super::*;

#[test]
fn proposals_read_back_and_nonsense_is_refused() {
    let proposal = Proposal {
        request: RequestId {
            node: 1,
            process: 2,
            sequence: 3,
        },
        commands: vec![create("profiles PLACE us=3,eu=2,asia=2 ACK semi-sync:1")],
    };
    let bytes = proposal.encode().unwrap();
    assert_eq!(Proposal::decode(&bytes).unwrap(), proposal);
    for end in 0..bytes.len() {
        assert!(Proposal::decode(&bytes[..end]).is_err());
    }
    assert!(Proposal::decode(&[&bytes[..], &[0]].concat()).is_err());
    let mut c = cluster();
    let index = c.version + 1;
    let applied = machine::apply_entry(&mut c, index, &bytes, LEVELS)
        .unwrap()
        .unwrap();
    assert_eq!(applied.request, proposal.request);
    assert!(applied.refused().is_none());
}

fn fixture() -> Catalog {
    let mut c = cluster();
    for command in [
        create("profiles PLACE us=3,eu=2,asia=2 ACK semi-sync:1@eu ON_TIMEOUT degrade SHARDS 2"),
        create("gone PLACE us=1"),
        create("counters PLACE eu=3 ACK quorum TIMEOUT 250"),
        drop_keyspace("gone"),
        start(0, "us-1", 1, 11, 0),
        degrade(0, 1, true),
    ] {
        let outcome = apply(&mut c, command);
        assert!(!outcome.starts_with("refused"), "{outcome}");
    }
    c
}

/// What `testdata/catalog-v5.bin` holds.
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
            shard: Some(ShardId(0)),
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

/// One of each command; a variant that is added needs a line here.
fn all_commands() -> Vec<Command> {
    let all = vec![
        register("us-1", 11),
        create("profiles PLACE us=3,eu=2,asia=2 ACK semi-sync:1@eu ON_TIMEOUT degrade SHARDS 2"),
        start(0, "us-1", 77, 11, 0),
        degrade(0, 1, true),
        drop_keyspace("gone"),
        promote(0, 1, "us-2", &[("us-2", 12, 9)]),
        confirm(0, 2, "us-3", 99),
        replace(0, 2, "asia-1", "asia-3"),
        Command::Note {
            shard: Some(ShardId(0)),
            kind: "waiting".to_owned(),
            text: "for no reason".to_owned(),
            at_ms: 5,
        },
        Command::RaiseLevel {
            level: 2,
            by_itself: true,
            at_ms: 6,
        },
        Command::HoldLevel {
            held: true,
            at_ms: 7,
        },
        Command::Rehearse {
            node: NodeId::new("us-1").unwrap(),
            at_ms: 8,
        },
    ];
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
            | Command::Note { .. }
            | Command::RaiseLevel { .. }
            | Command::HoldLevel { .. }
            | Command::Rehearse { .. } => {}
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
        commands: vec![command],
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
    let mut written = Vec::new();
    for proposal in proposals(all_commands()) {
        let bytes = proposal.encode().unwrap();
        written.extend((bytes.len() as u32).to_le_bytes());
        written.extend(bytes);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/commands-v5.bin");
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
        #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
        std::fs::write(path, &written).unwrap();
    }
    let v5: &[u8] = include_bytes!("../../testdata/commands-v5.bin");
    assert_eq!(v5, written);
    assert_eq!(read_capture(v5), proposals(all_commands()));
}

#[test]
fn a_catalog_of_version_5_is_still_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/catalog-v5.bin");
    if std::env::var_os("QUIRE_WRITE_CAPTURES").is_some() {
        #[allow(clippy::disallowed_methods)] // a test that renews its own fixture
        std::fs::write(path, snapshot::encode(&with_events()).unwrap()).unwrap();
    }
    let bytes = include_bytes!("../../testdata/catalog-v5.bin");
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

#[test]
fn commands_of_one_proposal_are_done_each_by_itself() {
    let mut c = cluster();
    apply(&mut c, create("k PLACE us=2 SHARDS 3"));
    let request = RequestId {
        node: 1,
        process: 2,
        sequence: 3,
    };
    let shards = [0, 1, 2].map(ShardId);
    let primaries = shards.map(|id| c.shards[&id].primary.clone());
    let office = |n: usize| {
        let node = primaries[n].as_str();
        let disk = c.nodes[&primaries[n]].boot.disk.0;
        let process = c.nodes[&primaries[n]].boot.process;
        start(n as u64, node, process, disk, 0)
    };
    // One by one, or together: but for the version the same comes of it.
    let commands = vec![office(0), office(1), office(0), office(2), office(9 % 3)];
    let (mut together, mut alone) = (c.clone(), c.clone());
    let index = c.version + 1;
    let proposal = Proposal {
        request,
        commands: commands.clone(),
    };
    let bytes = proposal.encode().unwrap();
    let applied = machine::apply_entry(&mut together, index, &bytes, LEVELS).unwrap();
    let applied = applied.unwrap();
    let done: Vec<bool> = applied.results.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, false, true, false]);
    assert!(applied.refused().is_none(), "some of it was done");
    for command in commands {
        apply(&mut alone, command);
    }
    assert_eq!(together.version, index);
    assert_eq!(together.shards, alone.shards);

    let again = machine::apply_entry(&mut together, index + 1, &bytes, LEVELS).unwrap();
    let again = again.unwrap();
    assert!(again.refused().is_some(), "nothing of it was done");
}

#[test]
fn a_proposal_is_of_so_many_commands() {
    let proposal = |count: usize| Proposal {
        request: RequestId {
            node: 1,
            process: 2,
            sequence: 3,
        },
        commands: vec![drop_keyspace("k"); count],
    };
    for (count, is_read) in [(0, false), (1, true), (512, true), (513, false)] {
        let bytes = proposal(count).encode().unwrap();
        assert_eq!(Proposal::decode(&bytes).is_ok(), is_read, "{count}");
    }
}
