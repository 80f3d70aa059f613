//! Who holds a shard changes: a node is to take another's place, or has.

use super::{Outcome, in_epoch, note, shard_mut, shard_ref};
use crate::refusal::Refusal;
use model::{Catalog, DiskId, Epoch, NodeId, ShardId, catalog::Replica};

pub(super) fn confirm(
    catalog: &mut Catalog,
    id: ShardId,
    epoch: Epoch,
    node: NodeId,
    disk: DiskId,
    at_ms: u64,
) -> Result<Outcome, Refusal> {
    let present = catalog.nodes.get(&node).map(|info| info.boot.disk);
    let is_elected = catalog.is_elected(shard_ref(catalog, id)?);
    let shard = shard_mut(catalog, id)?;
    in_epoch(id, shard, epoch)?;
    let Some(replica) = shard.replicas.iter_mut().find(|r| r.node == node) else {
        return Err(Refusal::NoReplica { shard: id, node });
    };
    if replica.replaces.as_ref() == Some(&shard.primary) && !is_elected {
        return Err(Refusal::MayNotReplace {
            shard: id,
            gone: shard.primary.clone(),
            newcomer: node,
            what: "it is the primary again",
        });
    }
    if present != Some(disk) {
        return Err(Refusal::DiskGone {
            shard: id,
            node,
            disk,
        });
    }
    let before = replica.disk.replace(disk);
    let replaced = replica.replaces.take();
    if let Some(gone) = &replaced {
        shard.replicas.retain(|r| r.node != *gone);
    }
    if is_elected && (replaced.is_some() || before != Some(disk)) {
        // Of a shard that elects its primary the epoch counts who its members are: whoever finds
        // nothing on its disk joins them from now on, and founds nothing.
        shard.epoch = shard.epoch.next();
        if replaced.as_ref() == Some(&shard.primary) {
            shard.primary = node.clone();
        }
    }
    let what = match (replaced, before == Some(disk)) {
        (Some(gone), _) => format!("{node} has taken the place of {gone} in shard {id}"),
        (None, false) => {
            format!("{node} holds all of shard {id} again, on another disk than before")
        }
        (None, true) => return Ok(Outcome::ReplicaConfirmed { shard: id, node }),
    };
    note(catalog, at_ms, Some(id), "refilled", what);
    Ok(Outcome::ReplicaConfirmed { shard: id, node })
}

pub(super) fn replace(
    catalog: &mut Catalog,
    id: ShardId,
    epoch: Epoch,
    gone: &NodeId,
    newcomer: NodeId,
) -> Result<Outcome, Refusal> {
    let region = catalog.nodes.get(&newcomer).map(|info| info.region.clone());
    let is_elected = catalog.is_elected(shard_ref(catalog, id)?);
    let version = catalog.version;
    let shard = shard_mut(catalog, id)?;
    in_epoch(id, shard, epoch)?;
    let may_not = |what| {
        Err(Refusal::MayNotReplace {
            shard: id,
            gone: gone.clone(),
            newcomer: newcomer.clone(),
            what,
        })
    };
    let Some(member) = shard.members().find(|r| r.node == *gone) else {
        return may_not("the one that is gone is no member");
    };
    if region.as_ref() != Some(&member.region) {
        return may_not("they don't stand in one region");
    }
    if shard.primary == *gone && !is_elected {
        return may_not("a primary is replaced by a failover first");
    }
    if shard.has_replica(&newcomer) {
        return may_not("the newcomer holds a replica already");
    }
    if shard
        .replicas
        .iter()
        .any(|r| r.replaces.as_ref() == Some(gone))
    {
        return may_not("another takes that place");
    }
    let newcomer = Replica {
        node: newcomer,
        region: member.region.clone(),
        disk: None,
        replaces: Some(gone.clone()),
        added: version,
    };
    let node = newcomer.node.clone();
    shard.replicas.push(newcomer);
    Ok(Outcome::ReplicaJoins { shard: id, node })
}
