//! The control plane as its callers see it: stories with golden outcomes, properties over
//! random commands, and the promise that old snapshots stay readable.

#![allow(clippy::unwrap_used)] // helpers of tests; what fails here is a test

mod failover;
mod formats;
mod keyspaces;
mod level;
mod properties;

use control::{
    check,
    command::{Command, CreateKeyspace, Proposal, RequestId},
    create,
    failover::{Heard, Promotion},
    machine,
    planner::Inventory,
    snapshot,
};
use model::{
    AckRule, Boot, Catalog, DiskId, Epoch, Failover, KeyspaceName, NodeId, OnTimeout, Placement,
    Position, Region, Release, ShardId, Topology, catalog::NodeInfo, release::Span,
};
use std::time::Duration;

/// What this release knows.
const LEVELS: Span = Release::THIS.levels;

/// The reference deployment's nodes.
const NODES: [(&str, u64); 9] = [
    ("us-1", 11),
    ("us-2", 12),
    ("us-3", 13),
    ("eu-1", 21),
    ("eu-2", 22),
    ("eu-3", 23),
    ("asia-1", 31),
    ("asia-2", 32),
    ("asia-3", 33),
];

fn register(name: &str, disk: u64) -> Command {
    let region = name.split('-').next().unwrap();
    Command::RegisterNode {
        id: NodeId::new(name).unwrap(),
        info: NodeInfo {
            region: Region::new(region).unwrap(),
            zone: "a".to_owned(),
            client_addr: "db1.example:6379".parse().unwrap(),
            peer_addr: "127.0.0.1:7379".parse().unwrap(),
            http_addr: "127.0.0.1:8379".parse().unwrap(),
            boot: boot(disk, 1),
            levels: Release::THIS.levels,
        },
    }
}

/// A process that began with a log that its disk had left closed.
fn boot(disk: u64, process: u64) -> Boot {
    Boot {
        disk: DiskId(disk),
        process,
        nonce: process,
        log: 64 * process,
        intact_since: 1,
    }
}

/// Another start of a node.
fn reboot(catalog: &mut Catalog, name: &str, boot: Boot) -> String {
    let Command::RegisterNode { id, mut info } = register(name, 0) else {
        unreachable!()
    };
    info.boot = boot;
    apply(catalog, Command::RegisterNode { id, info })
}

fn create(words: &str) -> Command {
    let args: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    Command::CreateKeyspace(create::parse(&args).unwrap())
}

fn start(shard: u64, node: &str, process: u64, disk: u64, expected: u64) -> Command {
    Command::StartEpoch {
        shard: ShardId(shard),
        node: NodeId::new(node).unwrap(),
        process,
        disk: DiskId(disk),
        expected: Epoch(expected),
    }
}

fn degrade(shard: u64, epoch: u64, degraded: bool) -> Command {
    Command::SetDegraded {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        degraded,
    }
}

fn drop_keyspace(name: &str) -> Command {
    Command::DropKeyspace {
        name: KeyspaceName::new(name).unwrap(),
    }
}

fn promote(shard: u64, expected: u64, node: &str, heard: &[(&str, u64, u64)]) -> Command {
    Command::Promote(Promotion {
        shard: ShardId(shard),
        expected: Epoch(expected),
        node: NodeId::new(node).unwrap(),
        heard: (heard.iter())
            .map(|(node, disk, index)| Heard {
                node: NodeId::new(node).unwrap(),
                process: 5,
                disk: DiskId(*disk),
                sealed: Epoch(expected + 1),
                last: Position::new(expected, *index),
                intact_since: 1,
                whole: true,
                level: true,
            })
            .collect(),
        reported: Some(Position::new(expected, 20)),
        cause: "us-1 was silent for 0.5 s".to_owned(),
        at_ms: 1000,
    })
}

fn confirm(shard: u64, epoch: u64, node: &str, disk: u64) -> Command {
    Command::ConfirmReplica {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        node: NodeId::new(node).unwrap(),
        disk: DiskId(disk),
        at_ms: 2000,
    }
}

fn replace(shard: u64, epoch: u64, gone: &str, newcomer: &str) -> Command {
    Command::ReplaceReplica {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        gone: NodeId::new(gone).unwrap(),
        newcomer: NodeId::new(newcomer).unwrap(),
        cause: format!("{gone} was silent for 300 s"),
        at_ms: 3000,
    }
}

/// Applies as the next entry; the outcome, or the refusal in its own words. A process that takes
/// up an office has registered before.
fn apply(catalog: &mut Catalog, command: Command) -> String {
    if let Command::StartEpoch {
        node,
        process,
        disk,
        ..
    } = &command
    {
        let known = catalog.nodes.get(node).map(|info| info.boot);
        if known.is_some_and(|b| b.disk == *disk && b.process < *process) {
            reboot(catalog, node.as_str(), boot(disk.0, *process));
        }
    }
    apply_alone(catalog, command)
}

fn apply_alone(catalog: &mut Catalog, command: Command) -> String {
    let index = catalog.version + 1;
    match machine::apply(catalog, index, command) {
        Ok(outcome) => format!("{outcome:?}"),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

fn cluster() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, disk) in NODES {
        apply(&mut catalog, register(name, disk));
    }
    catalog
}

fn expect(catalog: &mut Catalog, command: Command, golden: &str) {
    assert_eq!(apply(catalog, command), golden);
    assert_eq!(check::catalog(catalog), Ok(()));
}

fn show(catalog: &Catalog, shard: u64) -> String {
    let s = &catalog.shards[&ShardId(shard)];
    let replicas: Vec<&str> = s.replicas.iter().map(|r| r.node.as_str()).collect();
    format!(
        "{}-{} {} [{}]",
        s.slots.0,
        s.slots.1,
        s.primary,
        replicas.join(" ")
    )
}
