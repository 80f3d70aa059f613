//! Random plans: they read back as written, and equal plans have equal answers.

use super::*;
use capacity::{
    file::{
        Assumptions, Constraints, Data, Link, Load, Promises, RegionFile, ServerType, Sessions,
        Sharing, Survives,
    },
    search::search,
};
use proptest::{collection::vec, option, prelude::*};

const NAMES: [&str; 3] = ["us", "eu", "asia"];

fn server_type() -> impl Strategy<Value = ServerType> {
    (
        1..40_u32,
        1..40_u32,
        option::of(1..10_u32),
        1..20_u32,
        90..100_u32,
    )
        .prop_map(|(writes, reads, storage, price, percent)| ServerType {
            name: "t".into(),
            writes_per_s: f64::from(writes) * 100.0,
            reads_per_s: f64::from(reads) * 100.0,
            storage_gb: storage.map(f64::from),
            availability: f64::from(percent) / 100.0,
            price_per_month: f64::from(price) * 10.0,
        })
}

fn survives() -> impl Strategy<Value = Survives> {
    prop_oneof![
        3 => Just(Survives::Nothing),
        1 => Just(Survives::Server),
        1 => Just(Survives::Region),
    ]
}

/// Small enough that everything can be tried: two regions, two shards, two copies and three
/// servers a region.
pub(super) fn tiny() -> impl Strategy<Value = PlanFile> {
    let weights = vec((1..4_u32, option::of(1..4_u32)), 1..3);
    let load = (0..30_u32, 0..30_u32, weights);
    let promises = (
        survives(),
        option::of(2..60_u32),
        option::of(2..60_u32),
        0..40_u32,
        any::<bool>(),
    );
    (
        load,
        promises,
        vec(server_type(), 1..3),
        1..30_u32,
        any::<bool>(),
    )
        .prop_map(
            |(
                (writes, reads, weights),
                (survives, write, read, bytes, merge),
                types,
                way,
                shared,
            )| {
                let names: Vec<String> =
                    NAMES[..weights.len()].iter().map(|n| (*n).into()).collect();
                let bound = |ms: Option<u32>| {
                    let ms = ms.map(|ms| (names[0].clone(), f64::from(ms)));
                    ms.into_iter().collect()
                };
                PlanFile {
                    name: "tiny".into(),
                    load: Load {
                        writes_per_s: f64::from(writes) * 100.0,
                        reads_per_s: f64::from(reads) * 100.0,
                    },
                    data: Data {
                        keys: 1_000_000,
                        bytes_per_key: f64::from(bytes) * 100.0 + 1.0,
                        bytes_per_write: None,
                        bytes_per_read: Some(1.0),
                    },
                    promises: Promises {
                        survives,
                        may_merge: merge,
                        sessions: Sessions::ReadYourWrites,
                        write_ms_max: bound(write),
                        read_ms_max: bound(read),
                        ..Promises::default()
                    },
                    constraints: Constraints {
                        utilisation: if shared {
                            Sharing::Shared
                        } else {
                            Sharing::Independent
                        },
                        shards_max: 2,
                        copies_max_per_region: 2,
                        servers_max_per_region: 3,
                        ..Constraints::default()
                    },
                    assumptions: Assumptions::default(),
                    regions: (names.iter().zip(&weights))
                        .map(|(name, (weight, of_reads))| RegionFile {
                            name: name.clone(),
                            load_weight: f64::from(*weight),
                            write_weight: None,
                            read_weight: of_reads.map(f64::from),
                        })
                        .collect(),
                    links: (names.get(1).iter())
                        .map(|second| Link {
                            between: [names[0].clone(), (*second).clone()],
                            one_way_ms: f64::from(way),
                        })
                        .collect(),
                    server_types: (types.into_iter().enumerate())
                        .map(|(n, mut t)| {
                            t.name = format!("t{n}");
                            t
                        })
                        .collect(),
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_read_back_as_written_and_equal_plans_have_equal_answers(file in tiny()) {
        let again = PlanFile::parse(&file.to_toml().unwrap()).unwrap();
        prop_assert_eq!(&again, &file);
        let (a, b) = (Wanted::new(file).unwrap(), Wanted::new(again).unwrap());
        let answer = search(&a);
        prop_assert_eq!(&answer, &search(&b));
        if let Answer::Plan(plan) = answer {
            for best in plan.best {
                prop_assert!(best.violations.is_empty());
                let written = LayoutFile::of(&best.layout, &a);
                let read = LayoutFile::parse(&written.to_toml().unwrap()).unwrap();
                prop_assert_eq!(&read, &written);
                prop_assert_eq!(read.resolve(&a).unwrap(), best.layout);
            }
        }
    }
}

#[test]
fn presets_read_back_as_written() {
    let file = reference().file().clone();
    assert_eq!(PlanFile::parse(&file.to_toml().unwrap()).unwrap(), file);
    let drawn = as_drawn();
    assert_eq!(LayoutFile::parse(&drawn.to_toml().unwrap()).unwrap(), drawn);
}
