//! Two hundred random inputs: each layout that the search calls sound, and that this release runs,
//! is put on its servers by the control plane's own planner, and lives through years of failures.
//! No server does more than was computed, and writes and reads are answered as often.

use super::{
    monte_carlo::{Down, Random, Simulated, interval},
    *,
};
use capacity::{
    Layout,
    file::{
        Assumptions, Constraints, Data, Link, Load, Promises, RegionFile, ServerType, Survives,
    },
    judge::Judged,
};
use control::{command::Command, machine};
use model::{Boot, Catalog, DiskId, NodeId, Region, Release, catalog::NodeInfo};

const INPUTS: usize = 200;
const BATCHES: usize = 20;
const YEARS_PER_BATCH: f64 = 15.0;

impl Random {
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize]
    }
}

fn input(random: &mut Random) -> PlanFile {
    let names = &["us", "eu", "asia"][..random.of(&[1, 2, 2, 3, 3])];
    let mut regions = Vec::new();
    for name in names {
        regions.push(RegionFile {
            name: (*name).into(),
            load_weight: random.of(&[1.0, 1.0, 2.0, 5.0]),
            write_weight: None,
            read_weight: None,
        });
    }
    let mut links = Vec::new();
    for (a, from) in names.iter().enumerate() {
        for to in &names[a + 1..] {
            links.push(Link {
                between: [(*from).into(), (*to).into()],
                one_way_ms: random.of(&[5.0, 40.0, 100.0]),
            });
        }
    }
    PlanFile {
        name: "p".into(),
        load: Load {
            writes_per_s: random.of(&[100.0, 3_000.0, 12_000.0]),
            reads_per_s: random.of(&[0.0, 10_000.0, 90_000.0]),
        },
        data: Data {
            keys: 1_000_000,
            bytes_per_key: 1000.0,
            bytes_per_write: None,
            bytes_per_read: None,
        },
        promises: Promises {
            survives: random.of(&[Survives::Nothing, Survives::Server, Survives::Region]),
            availability_min: Some(random.of(&[0.9, 0.95, 0.98, 0.99, 0.995, 0.999])),
            ..Promises::default()
        },
        constraints: Constraints {
            topologies: vec!["primary-replica".into()],
            shards_max: 24,
            ..Constraints::default()
        },
        assumptions: Assumptions {
            repair_hours: random.of(&[12.0, 24.0]),
            detection_s: 60.0,
            failover_s: 60.0,
            reads_move_s: 60.0,
            region_outages_per_year: random.of(&[0.5, 2.0]),
            region_outage_hours: 24.0,
            ..Assumptions::default()
        },
        regions,
        links,
        server_types: vec![ServerType {
            name: "t".into(),
            writes_per_s: 5_000.0,
            reads_per_s: 50_000.0,
            storage_gb: None,
            availability: random.of(&[0.93, 0.96, 0.98]),
            price_per_month: 100.0,
        }],
    }
}

/// The busiest server's copies and led shards, by region, as the control plane deals them out.
fn dealt(wanted: &Wanted, layout: &Layout) -> Vec<(u32, u32)> {
    let mut catalog = Catalog::default();
    let mut disk = 0;
    for (number, region) in wanted.region_names().enumerate() {
        for n in 1..=layout.servers_in(number) {
            disk += 1;
            let boot = Boot {
                disk: DiskId(disk),
                process: 1,
                nonce: 1,
                log: 0,
                intact_since: 1,
            };
            let register = Command::RegisterNode {
                id: NodeId::new(&format!("{region}-{n}")).unwrap(),
                info: NodeInfo {
                    region: Region::new(region).unwrap(),
                    zone: "a".into(),
                    client_addr: "127.0.0.1:1".parse().unwrap(),
                    peer_addr: "127.0.0.1:1".parse().unwrap(),
                    http_addr: "127.0.0.1:1".parse().unwrap(),
                    boot,
                    levels: Release::THIS.levels,
                },
            };
            machine::apply(&mut catalog, disk, register).unwrap();
        }
    }
    let line = layout.create_line(wanted).unwrap();
    let words = line.strip_prefix("KEYSPACE CREATE ").unwrap();
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    let create = Command::CreateKeyspace(control::create::parse(&words).unwrap());
    machine::apply(&mut catalog, disk + 1, create).unwrap();
    let most = |region: &str, counts: &dyn Fn(&NodeId) -> usize| {
        let here = catalog
            .nodes
            .iter()
            .filter(|(_, n)| n.region.as_str() == region);
        here.map(|(id, _)| counts(id)).max().unwrap_or(0) as u32
    };
    (wanted.region_names())
        .map(|region| {
            let shards = || catalog.shards.values();
            let copies = most(region, &|id| shards().filter(|s| s.has_replica(id)).count());
            let led = most(region, &|id| shards().filter(|s| s.primary == *id).count());
            (copies, led)
        })
        .collect()
}

fn deals_out_as_computed(wanted: &Wanted, judged: &Judged) {
    for (region, (copies, led)) in dealt(wanted, &judged.layout).into_iter().enumerate() {
        let layout = &judged.layout;
        let name = wanted.region(region);
        assert_eq!(
            copies, judged.figures.regions[region].busiest.copies,
            "{name} of {layout:?}"
        );
        let (servers, held) = (
            layout.servers_in(region).max(1),
            u32::from(layout.copies[region]),
        );
        let one_more = u32::from(held > 1 && held < servers);
        let computed = u32::from(layout.primaries[region]).div_ceil(servers) + one_more;
        assert!(
            led <= computed,
            "{name}: {led} led, {computed} computed, of {layout:?}"
        );
    }
}

fn lives_as_computed(wanted: &Wanted, judged: &Judged, seed: u64) {
    let mut simulated = Simulated::new(wanted, &judged.layout, seed);
    let years: Vec<Down> = (0..BATCHES)
        .map(|_| simulated.run(YEARS_PER_BATCH))
        .collect();
    let allowed = 525_600.0 * (1.0 - wanted.file().promises.availability_min.unwrap());
    let check = |what: &str, figure: &dyn Fn(&Down) -> f64, computed: f64| {
        let (mean, within) = interval(&years.iter().map(figure).collect::<Vec<_>>());
        // That two things happen at once within seconds is of second order.
        let slack = 0.01 * computed + 0.5;
        for (bound, name) in [(computed, "computed"), (allowed, "allowed")] {
            assert!(
                mean - within <= bound + slack,
                "{what}: {bound:.1} min a year are {name}, {mean:.1} ± {within:.1} simulated, of {:?}",
                judged.layout
            );
        }
    };
    let writes = judged.figures.write_downtime.minutes();
    check("writes", &|d| d.moving_min + d.other_min, writes);
    for (from, of) in judged.figures.regions.iter().enumerate() {
        check("reads", &|d| d.reads_min[from], of.read_downtime.minutes());
    }
}

/// What primaries answer is the only load that depends on who leads.
#[test]
fn no_server_leads_more_than_was_computed() {
    let fresh = changed(|file| {
        file.promises.staleness_ms_max = Some(0.0);
        file.constraints.shards_max = 1024;
    });
    for shards in (1..=24).chain([64, 100]) {
        for copies in 1..=3_u16 {
            for servers in u32::from(copies)..=12.min(u32::from(shards * copies)) {
                let mut file = as_drawn();
                file.shards = shards;
                file.copies = [("us".into(), copies)].into();
                file.primaries = [("us".into(), shards)].into();
                file.servers.truncate(1);
                file.servers[0].count = servers;
                let judged = capacity::judge(&fresh, file.resolve(&fresh).unwrap());
                let (_, led) = dealt(&fresh, &judged.layout)[0];
                let reads = 100_000.0 * f64::from(led) / f64::from(shards);
                let computed = judged.figures.regions[0].busiest.reads_per_s;
                assert!(
                    reads <= computed + 1e-6,
                    "{shards} shards, {copies} copies, {servers} servers: {led} led"
                );
            }
        }
    }
}

#[test]
fn what_is_called_sound_is_found_sound() {
    let mut random = Random(21);
    let (mut sound, mut tried, mut rules) = (0, 0, std::collections::BTreeSet::new());
    while sound < INPUTS {
        tried += 1;
        assert!(
            tried < 5 * INPUTS,
            "{sound} of {tried} inputs have a layout"
        );
        let wanted = Wanted::new(input(&mut random)).unwrap();
        let Answer::Plan(plan) = search::search(&wanted) else {
            continue;
        };
        let Some(judged) = plan.best.iter().find(|j| j.layout.runs().is_ok()) else {
            continue;
        };
        sound += 1;
        rules.insert(judged.layout.rule);
        deals_out_as_computed(&wanted, judged);
        lives_as_computed(&wanted, judged, sound as u64);
    }
    assert!(rules.len() > 3, "{rules:?}");
}
