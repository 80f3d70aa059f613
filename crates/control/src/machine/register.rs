//! Nodes introduce themselves.

use super::{NODES_MAX, Outcome};
use crate::{level, refusal::Refusal};
use model::{
    Boot, Catalog, NodeId,
    catalog::{self, DISKS_MAX, NodeInfo, Shard},
};

/// The longest name of a zone, in characters.
const ZONE_MAX: usize = 64;

pub(super) fn register_node(
    catalog: &mut Catalog,
    id: NodeId,
    info: NodeInfo,
) -> Result<Outcome, Refusal> {
    let length = info.zone.chars().count();
    if length > ZONE_MAX {
        let max = ZONE_MAX;
        return Err(Refusal::ZoneTooLong {
            node: id,
            length,
            max,
        });
    }
    for (other, known) in catalog.nodes.iter().filter(|(other, _)| **other != id) {
        let clashes = |what, cure| {
            Err(Refusal::NodeClashes {
                node: id.clone(),
                other: other.clone(),
                what,
                cure,
            })
        };
        if known.boot.disk == info.boot.disk {
            return clashes(
                "disk",
                "start it with a data directory of its own, not a copy",
            );
        }
        if other.number() == id.number() {
            return clashes("number", "give it another id");
        }
    }
    match catalog.nodes.get(&id) {
        None if catalog.nodes.len() >= NODES_MAX => {
            return Err(Refusal::Full {
                what: "nodes",
                max: NODES_MAX,
            });
        }
        Some(known) if known.region != info.region => {
            let holds = |shard: &&Shard| shard.has_replica(&id);
            let replicas = catalog.shards.values().filter(holds).count();
            if replicas > 0 {
                return Err(Refusal::NodeMoved {
                    from: known.region.clone(),
                    to: info.region,
                    node: id,
                    replicas,
                });
            }
        }
        _ => {}
    }
    let level = level::admit(catalog, &id, info.levels)?;
    remember_disk(catalog, &id, info.boot)?;
    catalog.level = level;
    catalog.nodes.insert(id.clone(), info);
    Ok(Outcome::NodeRegistered { id })
}

/// The disk of `boot` is known to be as it is now, unless it was further already.
fn remember_disk(catalog: &mut Catalog, id: &NodeId, boot: Boot) -> Result<(), Refusal> {
    if let Some(known) = catalog.disks.get(&boot.disk)
        && boot.is_stale_beside(&known.boot)
    {
        return Err(Refusal::StaleDisk {
            node: id.clone(),
            found: boot,
            known: known.boot,
        });
    }
    let disk = catalog::Disk {
        node: id.clone(),
        boot,
        version: catalog.version,
    };
    catalog.disks.insert(boot.disk, disk);
    let of_node = catalog.disks.iter().filter(|(_, d)| d.node == *id);
    if of_node.clone().count() > DISKS_MAX
        && let Some(oldest) = of_node
            .min_by_key(|(_, d)| d.version)
            .map(|(disk, _)| *disk)
    {
        catalog.disks.remove(&oldest);
    }
    Ok(())
}
