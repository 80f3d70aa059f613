//! The catalog, and commands to it.

use super::comes_back;
use crate::input::parts;
use bytes::Bytes;
use control::{
    check,
    command::{Command, Proposal},
    create, machine, snapshot,
};
use model::{Boot, Catalog, DiskId, NodeId, Region, Release, catalog::NodeInfo};
use std::sync::LazyLock;

pub(super) fn snapshot(bytes: &[u8]) {
    let decode = |bytes: Bytes| snapshot::decode(&bytes);
    let encode = |catalog: &Catalog| snapshot::encode(catalog).unwrap().into();
    let Some(catalog) = comes_back(bytes, decode, encode) else {
        return;
    };
    assert_eq!(check::catalog(&catalog), Ok(()));
    for id in catalog.keyspaces.keys() {
        for slot in [0, 8191, 16383] {
            assert!(catalog.shard_of_slot(*id, slot).is_some());
        }
    }
}

/// Commands that a group committed, one behind the other, applied to the catalog of a small
/// cluster: a command that is refused changes nothing but the version, and no command makes a
/// catalog that contradicts itself.
pub(super) fn proposals(bytes: &[u8]) {
    static CLUSTER: LazyLock<Catalog> = LazyLock::new(cluster);
    let mut catalog = CLUSTER.clone();
    for (_, part) in parts(bytes) {
        let decode = |bytes: Bytes| Proposal::decode(&bytes);
        let encode = |proposal: &Proposal| proposal.encode().unwrap().into();
        let Some(proposal) = comes_back(part, decode, encode) else {
            continue;
        };
        for command in proposal.commands {
            apply(&mut catalog, command);
        }
    }
}

fn apply(catalog: &mut Catalog, command: Command) {
    let before = catalog.clone();
    let outcome = machine::apply(catalog, before.version + 1, command);
    assert_eq!(check::catalog(catalog), Ok(()), "{outcome:?}");
    assert_eq!(check::succession(&before, catalog), Ok(()), "{outcome:?}");
    if outcome.is_err() {
        let version = catalog.version;
        assert_eq!(*catalog, Catalog { version, ..before });
    }
    let bytes = snapshot::encode(catalog).unwrap();
    assert_eq!(snapshot::decode(&bytes).as_ref(), Ok(&*catalog));
}

/// Four nodes in two regions, a keyspace of one shard and one of two.
fn cluster() -> Catalog {
    let mut catalog = Catalog::default();
    for (name, disk) in [("us-1", 11), ("us-2", 12), ("us-3", 13), ("eu-1", 21)] {
        let (region, _) = name.split_once('-').unwrap();
        let info = NodeInfo {
            region: Region::new(region).unwrap(),
            zone: "a".to_owned(),
            client_addr: "db1.example:6379".parse().unwrap(),
            peer_addr: "127.0.0.1:7379".parse().unwrap(),
            http_addr: "127.0.0.1:8379".parse().unwrap(),
            boot: Boot {
                disk: DiskId(disk),
                process: 1,
                nonce: 1,
                log: 0,
                intact_since: 1,
            },
            levels: Release::THIS.levels,
        };
        let id = NodeId::new(name).unwrap();
        apply(&mut catalog, Command::RegisterNode { id, info });
    }
    for words in [
        "one PLACE us=2,eu=1",
        "two ACK semi-sync:1 PLACE us=2,eu=1 SHARDS 2",
    ] {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let wanted = create::parse(&words).unwrap();
        apply(&mut catalog, Command::CreateKeyspace(wanted));
    }
    catalog
}
