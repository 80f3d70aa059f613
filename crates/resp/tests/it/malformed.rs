//! The corpus in `testdata/malformed`: each file has the outcome that its index says, in
//! whatever pieces it arrives.

#![allow(clippy::disallowed_methods, reason = "the corpus is files")]

use crate::commands;
use resp::Limits;
use std::{collections::BTreeSet, fs, path::PathBuf};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/malformed")
}

#[test]
fn each_file_ends_as_the_index_says() {
    let index = fs::read_to_string(directory().join("INDEX")).unwrap();
    let mut indexed = BTreeSet::new();
    for line in index.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let [file, count, outcome] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not three columns: {line}");
        };
        assert!(indexed.insert(file.to_owned()), "{file} is named twice");
        let bytes = fs::read(directory().join(file)).unwrap();
        // The long files are runs of one byte; cutting them finely shows nothing new.
        let step = if bytes.len() > 60_000 { 1009 } else { 1 };
        for pieces in [bytes.chunks(bytes.len()), bytes.chunks(step)] {
            let (commands, error) = commands(Limits::default(), pieces);
            assert_eq!(commands.len().to_string(), count, "commands of {file}");
            let ended = error.map_or("open".to_owned(), |error| error.line());
            assert_eq!(ended, outcome, "outcome of {file}");
        }
    }
    let mut present: BTreeSet<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(present.remove("INDEX"));
    assert_eq!(present, indexed);
    assert!(indexed.len() >= 40);
}
