use super::*;

const HOUR_MS: i64 = 3_600_000;
const BEGAN_MS: i64 = 1_700_000_000_000;

/// Nodes with a clock each, all that they tell each other takes `delay`; true time is known.
struct Cluster {
    delay: Duration,
    /// Since the beginning.
    now: Duration,
    nodes: Vec<Machine>,
}

struct Machine {
    clock: Clock,
    /// By how much its wall clock is ahead of true time.
    ahead_ms: i64,
    heard: bool,
    asked_at: Option<Duration>,
}

impl Machine {
    fn raw(ahead_ms: i64, n: usize, now: Duration) -> Now {
        Now {
            // Each has a monotonic clock of its own.
            monotonic: now + Duration::from_secs(1000 * n as u64),
            wall_ms: (BEGAN_MS + now.as_millis() as i64 + ahead_ms) as u64,
        }
    }
}

impl Cluster {
    fn new(ahead_ms: &[i64]) -> Self {
        let nodes = (ahead_ms.iter().enumerate())
            .map(|(n, ahead_ms)| Machine {
                clock: Clock::new(Machine::raw(*ahead_ms, n, Duration::ZERO)),
                ahead_ms: *ahead_ms,
                heard: true,
                asked_at: None,
            })
            .collect();
        Cluster {
            delay: Duration::from_millis(100),
            now: Duration::ZERO,
            nodes,
        }
    }

    /// Time passes; each node looks at all clocks every 20 ms and asks every second.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let count = self.nodes.len();
        while self.now < end {
            self.now += Duration::from_millis(20);
            for n in 0..count {
                let (now, delay) = (self.now, self.delay);
                let raw = Machine::raw(self.nodes[n].ahead_ms, n, now);
                self.nodes[n].clock.read(raw);
                let due = self.nodes[n]
                    .asked_at
                    .is_none_or(|at| now - at >= Duration::from_secs(1));
                if due && now > 2 * delay && self.nodes[n].heard {
                    self.nodes[n].asked_at = Some(now);
                    for m in (0..count).filter(|m| *m != n) {
                        if self.nodes[m].heard {
                            let answered = Machine::raw(self.nodes[m].ahead_ms, m, now - delay);
                            let sent = raw.monotonic - 2 * delay;
                            let id = NodeId::new(&format!("n{m}")).unwrap();
                            let kept = self.nodes[m].clock.kept_ms();
                            let told = &mut self.nodes[n].clock;
                            told.told(&id, sent, answered.wall_ms, kept.map(|k| k - 100));
                        }
                    }
                }
                self.nodes[n].clock.tick(count);
            }
        }
    }

    /// By how much the time that a node keeps is ahead of true time.
    fn ahead(&mut self, n: usize) -> i64 {
        let raw = Machine::raw(self.nodes[n].ahead_ms, n, self.now);
        let kept = self.nodes[n].clock.read(raw).wall_ms as i64;
        kept - BEGAN_MS - self.now.as_millis() as i64
    }
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn a_clock_that_is_an_hour_off_for_a_second_changes_nothing() {
    for nodes in [1, 2, 3, 5] {
        for step in [HOUR_MS, -HOUR_MS, 60_000, 800] {
            let mut cluster = Cluster::new(&vec![0; nodes]);
            cluster.run(s(5));
            cluster.nodes[0].ahead_ms = step;
            cluster.run(s(1));
            let off = cluster.ahead(0);
            assert!(off.abs() <= 20, "{nodes} nodes, {step} ms: {off} ms ahead");
            cluster.nodes[0].ahead_ms = 0;
            cluster.run(s(2));
            assert_eq!(cluster.ahead(0), 0);
        }
    }
}

#[test]
fn one_clock_that_stays_off_is_never_followed_by_a_node_that_hears_another() {
    for nodes in [2, 3, 4] {
        let mut cluster = Cluster::new(&vec![0; nodes]);
        cluster.run(s(5));
        cluster.nodes[0].ahead_ms = HOUR_MS;
        cluster.run(s(700));
        assert!(cluster.ahead(0).abs() <= 200);
        assert!(cluster.ahead(1).abs() <= 200);
        assert!(cluster.nodes[0].clock.machine_ahead_ms() > HOUR_MS - 300);
    }
}

#[test]
fn a_node_that_starts_with_a_wrong_clock_takes_the_time_of_the_others_before_it_is_settled() {
    for wrong in [HOUR_MS, -HOUR_MS] {
        let mut cluster = Cluster::new(&[wrong, 0, 0]);
        cluster.delay = Duration::from_millis(300);
        while !cluster.nodes[0].clock.is_settled() {
            assert!(cluster.now < s(2));
            cluster.run(Duration::from_millis(20));
        }
        assert!(cluster.ahead(0).abs() <= 310, "{}", cluster.ahead(0));
        cluster.run(s(100));
        assert!(cluster.ahead(0).abs() <= 310, "{}", cluster.ahead(0));
    }
}

#[test]
fn who_starts_later_with_one_to_be_heard_yields() {
    for wrong in [HOUR_MS, -HOUR_MS] {
        let mut cluster = Cluster::new(&[0, 0, 0]);
        cluster.run(s(5));
        cluster.nodes[2].heard = false;
        let now = cluster.now;
        cluster.nodes[0].ahead_ms = wrong;
        cluster.nodes[0].clock = Clock::new(Machine::raw(wrong, 0, now));
        cluster.run(s(1));
        assert!(cluster.nodes[0].clock.is_settled());
        cluster.run(s(100));
        assert!(cluster.ahead(0).abs() <= 310, "{}", cluster.ahead(0));
        assert!(cluster.ahead(1).abs() <= 310, "{}", cluster.ahead(1));
    }
}

#[test]
fn a_step_that_most_clocks_take_and_that_lasts_is_taken_over_by_all() {
    let mut cluster = Cluster::new(&[0; 3]);
    cluster.run(s(5));
    for n in [0, 1] {
        cluster.nodes[n].ahead_ms = -HOUR_MS;
        cluster.run(s(3));
    }
    assert!(cluster.ahead(0).abs() <= 200);
    cluster.run(s(15));
    for n in 0..3 {
        assert!(
            (cluster.ahead(n) + HOUR_MS).abs() <= 700,
            "{n}: {}",
            cluster.ahead(n)
        );
    }
}

#[test]
fn a_lone_node_takes_over_a_step_after_a_minute_and_one_cut_off_keeps_its_time_for_long() {
    for (nodes, after) in [(1, LASTS_ALONE), (3, LASTS_UNHEARD)] {
        let mut cluster = Cluster::new(&vec![0; nodes]);
        cluster.run(s(5));
        cluster.nodes[0].heard = false;
        cluster.nodes[0].ahead_ms = HOUR_MS;
        cluster.run(after - s(1));
        assert!(cluster.ahead(0).abs() <= 200);
        cluster.run(s(2) + FRESH);
        assert!((cluster.ahead(0) - HOUR_MS).abs() <= 200);
    }
}

#[test]
fn a_small_difference_is_slewed_over() {
    let mut cluster = Cluster::new(&[0; 3]);
    cluster.run(s(5));
    cluster.nodes[0].ahead_ms = 300;
    cluster.run(s(10));
    let on_the_way = cluster.ahead(0);
    assert!((80..=110).contains(&on_the_way), "{on_the_way}");
    cluster.run(s(30));
    assert_eq!(cluster.ahead(0), 300);
}

#[test]
fn clocks_at_the_ends_of_time_are_added_up_without_harm() {
    let mut clock = Clock::new(Now {
        monotonic: s(5),
        wall_ms: u64::MAX,
    });
    let peer = NodeId::new("peer").unwrap();
    for wall_ms in [0, u64::MAX, i64::MAX as u64] {
        clock.told(&peer, s(9), wall_ms, Some(wall_ms));
        clock.tick(2);
        clock.read(Now {
            monotonic: s(6),
            wall_ms,
        });
        clock.tick(1);
    }
}
