//! Who may know whom (ARCHITECTURE.md, "Crates"), and how long a file may get.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each crate, and the crates of ours that it may use. None stands above one that it may use.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("resp", &[]),
    ("wan", &["model"]),
    ("capacity", &["model"]),
    ("control", &["model"]),
    ("commands", &["model", "resp"]),
    ("replication", &["model"]),
    ("storage", &["model"]),
    ("cluster", &["control", "model", "replication"]),
    (
        "shards",
        &[
            "cluster",
            "commands",
            "model",
            "replication",
            "resp",
            "storage",
        ],
    ),
    (
        "gate",
        &["commands", "model", "replication", "resp", "shards"],
    ),
    (
        "node",
        &[
            "cluster",
            "commands",
            "control",
            "gate",
            "model",
            "replication",
            "resp",
            "shards",
            "storage",
            "wan",
        ],
    ),
    ("server", &["model", "node", "resp", "storage", "wan"]),
    ("transfer", &["commands", "model", "resp"]),
    (
        "quire",
        &[
            "capacity", "commands", "model", "resp", "server", "transfer",
        ],
    ),
    ("sim", &["model", "node", "resp", "storage", "wan"]),
    (
        "fuzz-checks",
        &[
            "commands",
            "control",
            "model",
            "node",
            "replication",
            "resp",
            "server",
            "storage",
            "wan",
        ],
    ),
    // Not of the workspace's members: the fuzzers themselves.
    ("fuzz", &["fuzz-checks"]),
];

/// Lines that a file has at most, with its tests where they stand in it; a table may be longer.
const LINES_MAX: usize = 600;

/// Files that are longer, and how long they may be: none of them may grow.
const LONGER: [(&str, usize); 7] = [
    ("replication/src/consensus/group.rs", 700),
    ("server/src/config.rs", 620),
    ("sim/src/world.rs", 670),
    ("storage/src/log/mod.rs", 690),
    ("storage/src/store/cache/table.rs", 680),
    ("storage/src/store/lsm.rs", 650),
    ("storage/src/store/memtable.rs", 620),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names under `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let section = manifest
        .split("\n[")
        .find(|s| s.starts_with("dependencies]"));
    let lines = section.unwrap_or_default().lines().skip(1);
    lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn nobody_uses_who_is_not_known_below() {
    let ours: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let mut above = BTreeSet::new();
    for (name, may_use) in MAY_USE {
        assert!(
            may_use.iter().all(|used| above.contains(used)),
            "{name} may use only what stands above it in the list"
        );
        above.insert(name);
        let dir = match name {
            "fuzz" => crates().join("../fuzz"),
            _ => crates().join(name),
        };
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let uses: BTreeSet<&str> = dependencies(&manifest)
            .intersection(&ours)
            .copied()
            .collect();
        let may_use: BTreeSet<&str> = may_use.iter().copied().collect();
        assert_eq!(uses, may_use, "what {name} uses of ours");
    }
    for entry in fs::read_dir(crates()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            ours.contains(&*name),
            "{name} is in no list of who may use whom"
        );
    }
}

#[test]
fn no_file_grows_beyond_what_one_reads() {
    let mut dirs = vec![crates()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.to_string_lossy().into_owned();
            if path.is_dir() {
                // Tests beside the code may be as long as there are cases.
                if !(shown.ends_with("tests") || shown.ends_with("/target")) {
                    dirs.push(path);
                }
                continue;
            }
            if !shown.ends_with(".rs") || shown.ends_with("tests.rs") {
                continue;
            }
            seen += 1;
            let longer = LONGER.iter().find(|(name, _)| shown.ends_with(name));
            let most = longer.map_or(LINES_MAX, |(_, most)| *most);
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(
                lines <= most,
                "{shown} has {lines} lines, and {most} at most"
            );
        }
    }
    assert!(seen > 200, "{seen} files were found");
}
