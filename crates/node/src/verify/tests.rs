use super::*;
use verdict::describe;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn comparison() -> Comparison {
    Comparison {
        asked_at: Duration::ZERO,
        heard_at: Duration::ZERO,
        heard: false,
        parts: BTreeMap::new(),
        buckets: None,
        asked: None,
        differences: Vec::new(),
    }
}

fn report(index: u64, buckets: [u128; 2]) -> Part {
    Part {
        report: Some(DigestReport {
            id: 1,
            shard: ShardId(0),
            position: Position::new(1, index),
            keys: 1,
            buckets: buckets.to_vec(),
        }),
        ..Part::default()
    }
}

fn verdict_of(comparison: Comparison, nodes: &[&NodeId], up: &[&NodeId]) -> Value {
    let finding = Finding::of(comparison, nodes, up);
    describe("k", &BTreeMap::from([(ShardId(0), finding)]))
}

const NOW: Duration = Duration::from_secs(1);

#[test]
fn a_replica_that_is_away_is_missing_and_what_differs_differs_all_the_same() {
    let (a, b, c) = (node("a"), node("b"), node("c"));
    let (nodes, up) = ([&a, &b, &c], [&a, &b]);
    for (of_b, verdict, state) in [([1, 2], "incomplete", "ok"), ([1, 3], "differs", "differs")] {
        let mut comparison = comparison();
        comparison.parts.insert(a.clone(), report(5, [1, 2]));
        assert!(
            matches!(comparison.step(&up, 9, NOW), Step::Wait),
            "b is there"
        );
        comparison.parts.insert(b.clone(), report(5, of_b));
        match comparison.step(&up, 9, NOW) {
            Step::Over => assert_eq!(verdict, "incomplete"),
            Step::Keys(1, asked) => assert_eq!(asked, [a.clone(), b.clone()]),
            _ => panic!("it goes on"),
        }
        let found = verdict_of(comparison, &nodes, &up);
        assert_eq!(found["verdict"], verdict);
        assert_eq!(found["equal"], false);
        assert_eq!(found["shards"][0]["replicas"][1]["state"], state);
        let missing = &found["shards"][0]["replicas"][2];
        assert_eq!(missing["state"], "missing");
        assert_eq!(missing["why"], "its node can't be reached");
    }
}

#[test]
fn a_shard_is_waited_for_as_long_as_anything_is_told_of_it() {
    let (a, b) = (node("a"), node("b"));
    let up = [&a, &b];
    let mut comparison = comparison();
    let at = Duration::from_secs;
    assert!(matches!(comparison.step(&up, 9, at(6)), Step::Again));
    assert!(matches!(comparison.step(&up, 9, at(7)), Step::Wait));
    // A digest that takes long is not asked for anew, which would begin it anew.
    comparison.heard = true;
    for second in (10..600).step_by(10) {
        comparison.heard_at = at(second);
        assert!(matches!(
            comparison.step(&up, 9, at(second + 9)),
            Step::Wait
        ));
    }
    comparison.parts.insert(a.clone(), report(5, [1, 2]));
    comparison.heard_at = at(600);
    assert!(matches!(comparison.step(&up, 9, at(619)), Step::Wait));
    assert!(matches!(comparison.step(&up, 9, at(621)), Step::Over));
    let found = verdict_of(comparison, &[&a, &b], &up);
    assert_eq!(found["verdict"], "incomplete");
}

#[test]
fn a_report_of_another_position_is_not_compared() {
    let (a, b) = (node("a"), node("b"));
    let mut comparison = comparison();
    comparison.parts.insert(a.clone(), report(5, [1, 2]));
    comparison.parts.insert(b.clone(), report(7, [1, 3]));
    assert!(matches!(comparison.step(&[&a, &b], 9, NOW), Step::Wait));
    let found = verdict_of(comparison, &[&a, &b], &[&a, &b]);
    assert_eq!(found["verdict"], "incomplete");
}

#[test]
fn keys_are_named_as_far_as_every_list_goes() {
    let keys = |names: &[String], complete| DigestKeys {
        id: 1,
        shard: ShardId(0),
        bucket: 0,
        keys: names.iter().map(|k| (k.clone().into_bytes(), 1)).collect(),
        complete,
    };
    let mut names: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    names.sort_by_key(|name| storage::store::key_order(name.as_bytes()));
    let extra = names.remove(3);
    let all: Vec<String> = [&names[..3], std::slice::from_ref(&extra), &names[3..]].concat();
    // The second was cut short: what lies behind is not missing there.
    let answers = BTreeMap::from([
        (node("a"), keys(&names, true)),
        (node("b"), keys(&all[..9], false)),
    ]);
    let found = name_differences(&answers, 100);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["key"], &found[0]["what"]),
        (&json!(extra), &json!("extra"))
    );
    assert!(name_differences(&answers, 0).is_empty());
}
