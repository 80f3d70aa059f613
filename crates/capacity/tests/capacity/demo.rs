//! A layout that runs on one machine.

use super::*;
use capacity::demo::{DemoFile, PROCESSES_MAX};

fn best() -> DemoFile {
    let wanted = reference();
    DemoFile {
        scale: None,
        plan: wanted.file().clone(),
        layout: LayoutFile::of(&plan(&wanted).best[0].layout, &wanted),
    }
}

#[test]
fn the_reference_runs_as_it_is_with_a_tenth_of_its_load() {
    let scaled = best().scaled(11_000.0).unwrap();
    assert_eq!((scaled.scale, scaled.servers), (10.0, 9));
    assert_eq!(scaled.judged.layout.servers_in_all(), 9);
    assert_eq!(scaled.wanted.file().load.writes_per_s, 1_000.0);
    // An entry of a shard every 3 ms now, not every 0.3.
    let ages = scaled.judged.figures.regions.iter().map(|r| r.staleness_ms);
    assert_eq!(ages.collect::<Vec<_>>(), [0.0, 103.0, 203.0]);
    let again = DemoFile::parse(&best().to_toml().unwrap()).unwrap();
    assert_eq!(again, best());
}

#[test]
fn servers_are_folded_where_there_are_most_for_each_copy() {
    let mut file = best();
    file.scale = Some(4.0);
    for (servers, count) in file.layout.servers.iter_mut().zip([3, 40, 1]) {
        servers.count = count;
    }
    let scaled = file.scaled(1.0).unwrap();
    let layout = &scaled.judged.layout;
    assert_eq!((scaled.scale, scaled.servers), (4.0, 44));
    assert_eq!(layout.servers_in_all(), PROCESSES_MAX);
    let by_region: Vec<u32> = (0..3).map(|r| layout.servers_in(r)).collect();
    assert_eq!(by_region, [3, 10, 1]);
}

#[test]
fn what_can_t_run_is_refused() {
    let refused = |change: fn(&mut DemoFile)| {
        let mut file = best();
        change(&mut file);
        file.scaled(1e6).unwrap_err().to_string()
    };
    assert!(refused(|f| f.scale = Some(0.1)).contains("scale is 0.1: give 1 or more"));
    let many = refused(|f| {
        f.layout.copies.insert("eu".into(), 15);
        f.layout.servers[1].count = 15;
    });
    assert!(many.contains("17 copies"), "{many}");
    let merging = refused(|f| {
        f.layout.topology = "multi-primary".into();
        f.layout.rule = "local".into();
        f.layout.primaries.clear();
    });
    assert!(
        merging.contains("does not serve multi-primary"),
        "{merging}"
    );
}
