//! Every input of the corpus through the check that the fuzzer runs. An input that once failed
//! is added there, and fails here.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test, whose corpus is files"
)]

use std::{fs, path::PathBuf};

/// What a checkout carries: small enough to be read on every run.
const FILES_MAX: usize = 600;
const BYTES_MAX: u64 = 400 << 10;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn replay(target: &str) {
    let (_, check) = fuzz_checks::TARGETS
        .iter()
        .find(|(name, _)| *name == target)
        .unwrap();
    let mut inputs: Vec<PathBuf> = fs::read_dir(corpus().join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        // Shown only if the check fails, and then this names the input.
        eprintln!("{}", input.display());
        check(&bytes);
    }
}

#[test]
fn resp_decoder() {
    replay("resp_decoder");
}

#[test]
fn command_parser() {
    replay("command_parser");
}

#[test]
fn log_reader() {
    replay("log_reader");
}

#[test]
fn peer_decoder() {
    replay("peer_decoder");
}

#[test]
fn every_target_has_a_corpus_and_it_is_small() {
    let mut named: Vec<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    named.sort();
    let mut targets: Vec<&str> = fuzz_checks::TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(named, targets);
    let files = targets.iter().flat_map(|target| {
        let files = fs::read_dir(corpus().join(target)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len())
    });
    let sizes: Vec<u64> = files.collect();
    let bytes: u64 = sizes.iter().sum();
    assert!(
        sizes.len() <= FILES_MAX && bytes <= BYTES_MAX,
        "{} files of {bytes} bytes: minimise the corpus (see fuzz/README.md)",
        sizes.len()
    );
}
