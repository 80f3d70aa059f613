//! What holds for any commands.

use super::*;
use model::strategy::Strategy;
use proptest::prelude::{Strategy as _, *};

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
        4 => (node(), 0..5u64, 0..5u64, 0..9u64).prop_map(|((name, disk), process, since, log)| {
            let Command::RegisterNode { id, mut info } = register(name, disk) else {
                unreachable!()
            };
            info.boot = Boot {
                log,
                intact_since: since,
                ..boot(disk, process)
            };
            Command::RegisterNode { id, info }
        }),
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
            apply_alone(&mut one, register(name, *disk));
            apply_alone(&mut other, register(name, *disk));
        }
        for command in commands {
            let before = one.clone();
            let outcome = apply_alone(&mut one, command.clone());
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
                commands: vec![command],
            };
            let bytes = proposal.encode().unwrap();
            machine::apply_entry(&mut other, one.version, &bytes, LEVELS).unwrap();
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
