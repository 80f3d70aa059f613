//! The reference's figures, each with the numbers in it.

use super::*;
use capacity::{
    check::{Kind, check},
    file::Survives,
    judge,
    latency::Reader,
    layout::{Rule, Topology},
    say,
};

fn findings() -> Vec<String> {
    let found = check(&reference(), &as_drawn()).unwrap().findings;
    found.into_iter().map(|f| f.says).collect()
}

#[track_caller]
fn says(parts: &[&str]) {
    let findings = findings();
    assert!(
        findings
            .iter()
            .any(|f| parts.iter().all(|part| f.contains(part))),
        "nothing says {parts:?} in {findings:#?}"
    );
}

#[test]
fn one_primary_takes_twice_what_a_server_does() {
    says(&[
        "the primary in us takes 10,000 writes/s",
        "a server does 5,000",
        "200 %",
    ]);
}

#[test]
fn so_must_every_replica() {
    for region in ["us", "eu", "asia"] {
        says(&[&format!(
            "every copy in {region} applies each write too, 10,000 writes/s"
        )]);
    }
    for region in ["eu", "asia"] {
        says(&[
            &format!("every copy in {region}"),
            "2 servers of 5,000 writes/s full before the first read",
        ]);
    }
}

#[test]
fn reads_a_replica_are_half_of_what_is_drawn() {
    says(&["100,000 reads/s over 6 replicas are 16,667 each, not 33,333"]);
}

#[test]
fn all_reads_only_if_nothing_is_written() {
    says(&[
        "6 × 50,000 = 300,000 reads/s only if no write is applied",
        "room for none",
    ]);
}

#[test]
fn the_words_and_the_picture_differ() {
    says(&["1 primary and 2 replicas a region, in 3 regions, are 9 servers; the layout has 7"]);
}

#[test]
fn the_replication_factor_is_seven() {
    says(&["the replication factor is 7, not 3"]);
    says(&["500 GB in 7 copies are 3.5 TB, not 1.5 TB"]);
}

#[test]
fn writes_from_afar_cross_the_ocean_twice() {
    says(&["a write from eu takes 200 ms to us and back, not 10 ms"]);
    says(&["a write from asia takes 400 ms to us and back, not 10 ms"]);
    says(&["since eu has no primary"]);
    says(&["since asia has no primary"]);
}

#[test]
fn three_copies_are_a_majority_with_one_gone() {
    says(&["3 copies tolerate 2 failures for the data, but one for a majority of them"]);
}

#[test]
fn the_price_is_that_of_a_layout_that_does_not_carry_the_load() {
    says(&[
        "$500 + 6 × $250 = $2,000 a month, with 30 % off $1,400",
        "does not carry the load",
    ]);
}

#[test]
fn the_claimed_availability_stands_beside_the_computed_one() {
    says(&["10 min of a year's 525,600 are 0.0019 %, so 99.998 % are left, as claimed"]);
    // 0.1 % of 8,760 hours, 4 hours each: 2.19 failures, and 0.1 of the region, 1 s each.
    let drawn = check(&reference(), &as_drawn()).unwrap().judged.figures;
    let moving_s = drawn.write_downtime.moving_min * 60.0;
    assert!((moving_s - 2.29).abs() < 0.01, "{moving_s} s");
    assert_eq!(say::availability(drawn.availability()), "99.999992 %");
    says(&[
        "a primary fails 2.2 times a year (repair 4 h)",
        "2.3 s",
        "99.999992 %",
    ]);
}

#[test]
fn what_is_broken_comes_first_and_is_no_claim() {
    let checked = check(&reference(), &as_drawn()).unwrap();
    assert!(!checked.is_sound());
    let kinds: Vec<Kind> = checked.findings.iter().map(|f| f.kind).collect();
    assert!(kinds.is_sorted(), "{kinds:?}");
    let broken = kinds.iter().filter(|k| **k == Kind::Broken).count();
    assert_eq!(broken, 4, "the primary, and the copies of three regions");
}

#[test]
fn nine_servers_do_it() {
    let plan = plan(&reference());
    let best = &plan.best[0];
    let layout = &best.layout;
    assert_eq!(
        (layout.topology, layout.rule),
        (Topology::PrimaryReplica, Rule::Async)
    );
    assert_eq!(
        (&layout.copies[..], &layout.primaries[..]),
        (&[1, 1, 1][..], &[3, 0, 0][..])
    );
    assert_eq!((layout.shards, layout.servers_in_all()), (3, 9));
    // 9 × $250 × 0.7.
    assert_eq!(best.figures.cents(), 157_500);
    assert_eq!(best.figures.storage_bytes, 1.5e12);
    for region in &best.figures.regions {
        let used = region.servers[0].utilisation;
        // A third of 10,000 of 5,000, and a third of 33,333 of 50,000.
        assert!((used.writes - 2.0 / 3.0).abs() < 1e-9, "{used:?}");
        assert!((used.reads - 2.0 / 9.0).abs() < 1e-9, "{used:?}");
        assert!((used.both - 8.0 / 9.0).abs() < 1e-9, "{used:?}");
        assert_eq!(region.read_ms, 1.5);
    }
    let writes = best
        .figures
        .regions
        .iter()
        .map(|r| r.write_ms.unwrap().worst);
    assert_eq!(writes.collect::<Vec<_>>(), [1.5, 201.0, 401.0]);
    let ages = best.figures.regions.iter().map(|r| r.staleness_ms);
    assert_eq!(ages.collect::<Vec<_>>(), [0.0, 100.3, 200.3]);
    assert_eq!(
        layout.create_line(&reference()).unwrap(),
        "KEYSPACE CREATE profiles ACK async PLACE us=1,eu=1,asia=1 PRIMARY us SHARDS 3"
    );
}

#[test]
fn the_next_ones_fall_out_for_a_reason() {
    let plan = plan(&reference());
    let why = |what: &str| {
        let found = plan.others.iter().find(|o| o.what == what);
        &found
            .unwrap_or_else(|| panic!("no {what} in {:#?}", plan.others))
            .why
    };
    let full = "5,000 writes/s fill both; no room for 33,333 reads/s";
    assert_eq!(why("2 servers in asia"), full);
    assert!(why("no copy in asia").contains("a read from asia takes 301 ms"));
    assert!(why("primaries in eu").contains("a write from us takes 201 ms, and may take 10"));
    assert!(why("multi-primary").contains("may_merge is false"));
}

#[test]
fn losing_nothing_costs_more_servers() {
    let safe = changed(|file| file.promises.survives = Survives::Server);
    let safe = plan(&safe);
    // Three voters, two of them near the leader; but no release runs it yet.
    assert!(safe.best[0].layout.runs().is_err());
    let runs = safe.best.iter().find(|j| j.layout.runs().is_ok()).unwrap();
    assert_eq!(
        runs.layout.copies,
        [3, 1, 1],
        "two near copies stop when one is gone"
    );
    // us: 30,000 writes/s applied and 33,333 reads/s are 6.67 servers; and 3 in eu and asia.
    assert_eq!(
        (runs.layout.servers_in_all(), runs.figures.cents()),
        (13, 227_500)
    );
    assert!(runs.figures.writes_at_risk_per_year.abs() < 1e-9);
}

#[test]
fn merging_writes_are_quick_everywhere() {
    let merging = changed(|file| {
        file.promises.may_merge = true;
        for ms in file.promises.write_ms_max.values_mut() {
            *ms = 10.0;
        }
    });
    let plan = plan(&merging);
    assert_eq!(plan.best[0].layout.topology, Topology::MultiPrimary);
    assert_eq!(plan.best[0].figures.cents(), 157_500);
    let writes = plan.best[0]
        .figures
        .regions
        .iter()
        .map(|r| r.write_ms.unwrap().worst);
    assert_eq!(writes.collect::<Vec<_>>(), [1.5, 1.5, 1.5]);
    // Asia's copy lags behind the farthest of the others.
    assert_eq!(plan.best[0].figures.regions[2].staleness_ms, 200.3);
    assert!(
        plan.best[0]
            .layout
            .runs()
            .unwrap_err()
            .contains("does not serve multi-primary")
    );
}

#[test]
fn reads_that_may_not_be_old_go_to_the_primary() {
    let fresh = changed(|file| {
        file.promises.staleness_ms_max = Some(0.0);
        file.promises.read_ms_max.clear();
    });
    let drawn = judge(&fresh, as_drawn().resolve(&fresh).unwrap()).figures;
    assert!(drawn.regions.iter().all(|r| r.reader == Reader::Primaries));
    assert_eq!(drawn.regions[2].read_ms, 401.0);
    // All of them on the one primary, and none on the six replicas.
    assert_eq!(drawn.regions[0].busiest.reads_per_s.round(), 100_000.0);
    assert_eq!(drawn.regions[1].busiest.reads_per_s, 0.0);
}

#[test]
fn independent_reads_and_writes_need_fewer_servers() {
    let independent =
        changed(|file| file.constraints.utilisation = capacity::file::Sharing::Independent);
    // 10,000 of 5,000 writes/s fill two; 33,333 of 100,000 reads/s fit beside them.
    assert_eq!(plan(&independent).best[0].layout.servers_in_all(), 6);
}

#[test]
fn what_one_server_leaves_to_another_is_computed() {
    // One copy a region: eu's server of the shard applies a third of the writes (66.7 %) and
    // answers a third of two regions' reads (2 × 22.2 %).
    let best = &plan(&reference()).best[0];
    let used = best.figures.used_with_one_down;
    assert!((used - (2.0 / 3.0 + 4.0 / 9.0)).abs() < 1e-9, "{used}");
    let file = capacity::LayoutFile::of(&best.layout, &reference());
    let notes = check(&reference(), &file).unwrap().findings;
    assert!(
        notes.iter().any(|n| n.says.contains("up to 111.1 %")),
        "{notes:?}"
    );
    // Two copies in eu: the other one there gets the half that it did not have.
    let two = changed(|f| f.load.writes_per_s = 1000.0);
    let mut file = as_drawn();
    file.copies.remove("asia");
    file.servers.truncate(3);
    let judged = judge(&two, file.resolve(&two).unwrap());
    // 20 % by writes; the reads of eu and asia on one server.
    let used = judged.figures.used_with_one_down;
    assert!((used - (0.2 + 4.0 / 3.0)).abs() < 1e-9, "{used}");
}

#[test]
fn regions_may_write_and_read_in_different_parts() {
    let wanted = changed(|f| {
        f.regions[0].write_weight = Some(8.0);
        f.regions[2].read_weight = Some(0.0);
    });
    let parts = |of: &dyn Fn(usize) -> f64| [of(0), of(1), of(2)];
    assert_eq!(parts(&|r| wanted.writes_from(r)), [8000.0, 1000.0, 1000.0]);
    assert_eq!(parts(&|r| wanted.reads_from(r)), [50_000.0, 50_000.0, 0.0]);
    // Nobody reads in asia, so it needs no copy, and the read's bound there binds nobody.
    assert_eq!(plan(&wanted).best[0].layout.copies, [1, 1, 0]);
}

#[test]
fn a_check_of_the_best_finds_nothing_broken() {
    let wanted = reference();
    for best in plan(&wanted).best {
        let file = capacity::LayoutFile::of(&best.layout, &wanted);
        let checked = check(&wanted, &file).unwrap();
        assert!(checked.is_sound(), "{:#?}", checked.findings);
        assert_eq!(checked.judged, best);
    }
    let drawn = judge(&wanted, as_drawn().resolve(&wanted).unwrap());
    assert_eq!(drawn.layout.replication_factor(), 7);
}
