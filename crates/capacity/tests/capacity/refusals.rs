//! Bad input, and input that nothing can keep.

use super::*;
use capacity::{PlanError, file::Survives};

fn refused(change: impl FnOnce(&mut PlanFile)) -> String {
    let mut file = reference().file().clone();
    change(&mut file);
    Wanted::new(file).unwrap_err().to_string()
}

#[test]
fn bad_figures_and_names_are_refused_in_a_sentence() {
    let rate = refused(|f| f.load.writes_per_s = -1.0);
    assert_eq!(rate, "load.writes_per_s is -1: give 0 or more");
    assert!(refused(|f| f.load.reads_per_s = f64::NAN).contains("reads_per_s is NaN"));
    assert!(refused(|f| f.data.bytes_per_key = 0.0).contains("above 0"));
    assert!(refused(|f| f.constraints.reserved_discount = 30.0).contains("as in 0.999"));
    let unknown = refused(|f| {
        f.promises.read_ms_max.insert("mars".into(), 1.0);
    });
    assert_eq!(
        unknown,
        "promises.read_ms_max names 'mars', which is none of us, eu, asia"
    );
    let missing = refused(|f| f.links.truncate(2));
    assert!(
        missing.contains("how far eu is from asia is not said: add a [[links]]"),
        "{missing}"
    );
    assert!(refused(|f| f.links[1] = f.links[0].clone()).contains("there twice"));
    assert!(refused(|f| f.server_types.clear()).contains("no server_types"));
    assert!(refused(|f| f.regions[0].name = "U S".into()).contains("is no name"));
    assert!(refused(|f| f.promises.rule = Some("maybe".into())).contains("semi-sync:k"));
    assert!(refused(|f| f.constraints.topologies = vec!["ring".into()]).contains("consensus"));
    let text = reference().file().to_toml().unwrap();
    let typo = Wanted::parse(&text.replace("keys =", "kyes =")).unwrap_err();
    assert!(matches!(&typo, PlanError::Syntax(e) if e.contains("kyes") && e.contains("keys")));
}

#[test]
fn a_layout_that_is_none_is_refused() {
    let refused = |change: fn(&mut LayoutFile)| {
        let mut file = as_drawn();
        change(&mut file);
        file.resolve(&reference()).unwrap_err().to_string()
    };
    let mars = |f: &mut LayoutFile| {
        f.copies.insert("mars".into(), 1);
    };
    assert!(refused(mars).contains("none of us, eu, asia"));
    assert!(refused(|f| f.servers.truncate(3)).contains("servers of asia, for 2 copies"));
    assert!(refused(|f| f.primaries.clear()).contains("sum of primaries is 0"));
    assert!(refused(|f| f.topology = "consensus".into()).contains("rule of a consensus layout"));
    assert!(refused(|f| f.servers[0].server_type = "huge".into()).contains("replica, primary"));
}

#[test]
fn what_to_relax_is_said_with_by_how_much() {
    let slow = changed(|f| {
        f.promises.write_ms_max.insert("asia".into(), 100.0);
    });
    let relaxed = infeasible(&slow);
    assert!(!relaxed.together);
    let whats: Vec<&str> = relaxed
        .relaxations
        .iter()
        .map(|r| r.what.as_str())
        .collect();
    assert_eq!(
        whats,
        [
            "promises.write_ms_max.asia = 401 (it is 100)",
            "promises.may_merge = true, where the application takes merged writes (it is false)",
        ]
    );
    let cheap = changed(|f| f.constraints.budget_per_month = Some(1400.0));
    let relaxed = infeasible(&cheap);
    assert!(
        relaxed
            .relaxations
            .iter()
            .any(|r| r.what == "constraints.budget_per_month = 1575 (it is 1400)")
    );
}

#[test]
fn a_relaxed_bound_is_enough_and_less_is_not() {
    let with = |ms: f64| {
        changed(|f| {
            f.promises.write_ms_max.insert("asia".into(), ms);
        })
    };
    plan(&with(401.0));
    infeasible(&with(400.9));
    let with = |dollars: f64| changed(|f| f.constraints.budget_per_month = Some(dollars));
    plan(&with(1575.0));
    infeasible(&with(1574.99));
}

#[test]
fn a_bound_that_decides_who_answers_is_relaxed_too() {
    // With nothing old the primaries answer, and what is too slow is the read; but a copy of
    // 200.3 ms in Asia is quick.
    let fresh = changed(|f| f.promises.staleness_ms_max = Some(0.0));
    let relaxed = infeasible(&fresh);
    let whats: Vec<&str> = (relaxed.relaxations.iter())
        .map(|r| r.what.as_str())
        .collect();
    assert_eq!(whats, ["promises.staleness_ms_max = 200.3 (it is 0)"]);
    plan(&changed(|f| f.promises.staleness_ms_max = Some(200.3)));
    infeasible(&changed(|f| f.promises.staleness_ms_max = Some(200.2)));

    // Nine servers of 89 % each will do; seven at 80 % each won't.
    let few = |part: f64| {
        changed(|f| {
            f.constraints.servers_max_per_region = 3;
            f.constraints.utilisation_max = part;
        })
    };
    let whats: Vec<String> = (infeasible(&few(0.8)).relaxations.into_iter())
        .map(|r| r.what)
        .collect();
    let part = "constraints.utilisation_max = 0.89 (it is 0.8)".to_string();
    assert!(whats.contains(&part), "{whats:?}");
    plan(&few(0.89));
    infeasible(&few(0.88));
}

#[test]
fn figures_beyond_all_measure_are_answered() {
    for change in [
        |f: &mut PlanFile| {
            f.constraints.servers_max_per_region = 10_000;
            f.constraints.utilisation_max = 0.01;
            f.server_types
                .iter_mut()
                .for_each(|t| t.price_per_month = 1e15);
        },
        |f: &mut PlanFile| f.constraints.network_price_per_gb = 1e15,
        |f: &mut PlanFile| f.load.writes_per_s = 1e15,
        |f: &mut PlanFile| f.load.reads_per_s = 1e15,
        |f: &mut PlanFile| (f.data.keys, f.data.bytes_per_key) = (u64::MAX, 1e15),
    ] {
        search::search(&changed(change));
    }
}

#[test]
fn where_one_bound_is_not_enough_all_are_named() {
    let both = changed(|f| {
        f.promises.survives = Survives::Region;
        f.promises.write_ms_max.insert("us".into(), 10.0);
        f.constraints.budget_per_month = Some(100.0);
        f.constraints.topologies = vec!["primary-replica".into()];
    });
    let relaxed = infeasible(&both);
    assert!(relaxed.together);
    assert!(relaxed.relaxations.len() > 1, "{:#?}", relaxed.relaxations);
}

#[test]
fn too_much_for_any_server_asks_for_shards_or_a_larger_one() {
    let huge = changed(|f| {
        f.load.writes_per_s = 1e6;
        f.constraints.servers_max_per_region = 10_000;
    });
    let relaxed = infeasible(&huge);
    let says = &relaxed.relaxations[0].what;
    assert!(says.contains("constraints.shards_max above 64"), "{says}");
}
