use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NODES: [(&str, &str); 5] = [
    ("us-1", "us"),
    ("us-2", "us"),
    ("eu-1", "eu"),
    ("eu-2", "eu"),
    ("asia-1", "asia"),
];

fn known() -> Known {
    Known {
        nodes: NODES
            .iter()
            .map(|(id, region)| (NodeId::new(id).unwrap(), Region::new(region).unwrap()))
            .collect(),
    }
}

fn give(links: &mut Links, order: &str) -> Result<(), OrderError> {
    give_at(links, order, "us-1")
}

fn give_at(links: &mut Links, order: &str, at: &str) -> Result<(), OrderError> {
    let words: Vec<&[u8]> = order.split(' ').map(str::as_bytes).collect();
    match parse_order(&words, &known())? {
        Order::Show => Ok(()),
        Order::Change(change) => links.apply(change, &NodeId::new(at).unwrap()),
    }
}

fn link(links: &Links, from: &str, to: &str) -> Link {
    let nodes = known().nodes;
    let (from, to) = (NodeId::new(from).unwrap(), NodeId::new(to).unwrap());
    links.delay(&from, &nodes[&from], &to, &nodes[&to])
}

fn up(ms: f64) -> Link {
    Link::Up(Duration::from_secs_f64(ms / 1000.0))
}

#[test]
fn the_reference_has_its_latencies() {
    let links = Links::new(Base::reference());
    assert_eq!(link(&links, "us-1", "eu-2"), up(100.0));
    assert_eq!(link(&links, "asia-1", "us-1"), up(200.0));
    assert_eq!(link(&links, "asia-1", "eu-1"), up(150.0));
    assert_eq!(link(&links, "us-1", "us-2"), up(0.5));
    assert_eq!(link(&links, "us-1", "us-1"), up(0.0));
}

#[test]
fn orders_are_one_way_and_the_latest_wins() {
    let mut links = Links::new(Base::reference());
    give(&mut links, "cut us eu").unwrap();
    assert_eq!(link(&links, "us-2", "eu-1"), Link::Cut);
    assert_eq!(link(&links, "eu-1", "us-2"), up(100.0));

    give(&mut links, "SET us-2 eu 7ms").unwrap();
    assert_eq!(link(&links, "us-2", "eu-1"), Link::Cut);
    give(&mut links, "HEAL us-2 eu").unwrap();
    assert_eq!(link(&links, "us-2", "eu-1"), up(7.0));
    assert_eq!(link(&links, "us-1", "eu-1"), Link::Cut);

    give(&mut links, "SET us eu 2s").unwrap();
    assert_eq!(link(&links, "us-2", "eu-1"), up(2000.0));
    give(&mut links, "HEAL us eu").unwrap();
    assert_eq!(link(&links, "us-1", "eu-1"), up(2000.0));

    give(&mut links, "CUT us-1 eu-1").unwrap();
    give(&mut links, "HEAL us eu").unwrap();
    assert_eq!(link(&links, "us-1", "eu-1"), up(2000.0));
    assert_eq!(links.state().changes.len(), 1, "only the latency is left");
}

#[test]
fn bad_orders_say_what_would_be_right() {
    let mut links = Links::new(Base::none());
    let unknown = give(&mut links, "CUT mars eu").unwrap_err().to_string();
    for name in ["mars", "asia, eu, us", "us-2"] {
        assert!(unknown.contains(name), "{unknown}");
    }
    for time in [
        "5", "ms", "-1ms", "1e3ms", "infs", "nans", "61s", "1.2.3s", "",
    ] {
        assert!(
            matches!(
                give(&mut links, &format!("SET us eu {time}")),
                Err(OrderError::Latency(_))
            ),
            "{time} was taken"
        );
    }
    assert_eq!(give(&mut links, "CUT us"), Err(OrderError::Unknown));
    assert_eq!(links.state().version(), (0, None));
    assert_eq!(
        give(&mut Links::absent(), "CUT us eu"),
        Err(OrderError::Absent)
    );
}

#[test]
fn show_lists_regions_and_named_nodes() {
    let mut links = Links::new(Base::reference());
    give(&mut links, "CUT us eu").unwrap();
    give(&mut links, "CUT us-1 asia").unwrap();
    let rows: BTreeMap<_, _> = links
        .show(&known())
        .into_iter()
        .map(|row| ((row.from, row.to), (row.latency.as_millis(), row.cut)))
        .collect();
    assert_eq!(rows.len(), 10);
    let row = |from: &str, to: &str| rows[&(from.to_owned(), to.to_owned())];
    assert_eq!(row("us", "eu"), (100, true));
    assert_eq!(row("eu", "us"), (100, false));
    assert_eq!(row("us", "asia"), (200, false));
    assert_eq!(row("us-1", "asia"), (200, true));
}

#[test]
fn a_file_of_latencies_is_read_or_refused_with_its_place() {
    let base = Base::from_toml(
        "inside_ms = 1\n[[link]]\nbetween = ['us', 'eu']\nlatency_ms = 80\n\
         [[link]]\nfrom = 'eu'\nto = 'us'\nlatency_ms = 0.5\n",
    )
    .unwrap();
    let region = |name| Region::new(name).unwrap();
    let latency = |from, to| base.latency(&region(from), &region(to)).as_micros();
    assert_eq!(latency("us", "eu"), 80_000);
    assert_eq!(latency("eu", "us"), 500);
    assert_eq!(latency("eu", "eu"), 1000);
    assert_eq!(latency("eu", "mars"), 0);

    let error = |text| Base::from_toml(text).unwrap_err().to_string();
    assert!(error("inside = 1").contains("inside"));
    assert!(error("inside_ms = -1").contains("inside_ms"));
    assert!(error("[[link]]\nfrom = 'us'\nlatency_ms = 1").contains("link 1"));
    assert!(error("[[link]]\nbetween = ['US', 'eu']\nlatency_ms = 1").contains("'US'"));
}

fn any_change() -> impl Strategy<Value = String> {
    let side = prop_oneof![
        Just("us"),
        Just("eu"),
        Just("asia"),
        Just("us-1"),
        Just("us-2"),
        Just("eu-1"),
    ];
    let what = prop_oneof![
        Just(("CUT", "")),
        Just(("HEAL", "")),
        Just(("SET", " 5ms")),
        Just(("SET", " 9ms"))
    ];
    (what, side.clone(), side).prop_map(|((verb, end), a, b)| format!("{verb} {a} {b}{end}"))
}

proptest! {
    /// The compacted state answers as the plain list of all orders does, latest first.
    #[test]
    fn compaction_changes_no_answer(orders in prop::collection::vec(any_change(), 0..20)) {
        let mut links = Links::new(Base::reference());
        for order in &orders {
            give(&mut links, order).unwrap();
        }
        for (from, from_region) in NODES {
            for (to, to_region) in NODES {
                if from == to {
                    continue;
                }
                let mut of_pair = orders.iter().rev().filter_map(|order| {
                    let words: Vec<&str> = order.split(' ').collect();
                    let here = [from, from_region].contains(&words[1])
                        && [to, to_region].contains(&words[2]);
                    here.then(|| (words[0], words.get(3).copied()))
                });
                let cut = of_pair.clone().find(|(verb, _)| *verb != "SET")
                    .is_some_and(|(verb, _)| verb == "CUT");
                let set = of_pair.find_map(|(_, time)| time);
                match link(&links, from, to) {
                    Link::Cut => prop_assert!(cut, "{from} {to}"),
                    Link::Up(time) => {
                        prop_assert!(!cut, "{from} {to}");
                        if let Some(set) = set {
                            prop_assert_eq!(format!("{}ms", time.as_millis()), set);
                        }
                    }
                }
            }
        }
    }

    /// However states meet, all nodes end with the same one.
    #[test]
    fn states_converge(
        a in prop::collection::vec(any_change(), 0..6),
        b in prop::collection::vec(any_change(), 0..6),
        restarted in any::<bool>(),
    ) {
        let mut left = Links::new(Base::reference());
        let mut right = left.clone();
        for order in &a {
            give_at(&mut left, order, "us-1").unwrap();
        }
        for order in &b {
            // A node that restarted counts anew under its own name.
            give_at(&mut right, order, if restarted { "us-1" } else { "eu-1" }).unwrap();
        }
        let (was_left, was_right) = (left.state().clone(), right.state().clone());
        let changed_left = left.merge(&was_right);
        let changed_right = right.merge(&was_left);
        prop_assert_eq!(left.state(), right.state());
        prop_assert_eq!(changed_left || changed_right, was_left != was_right);
        prop_assert!(!left.merge(&was_right) && !left.merge(&was_left));
        prop_assert!(!Links::absent().merge(left.state()) );
    }
}
