//! The state machine: the next committed command, applied to the catalog. Deterministic: the
//! same commands give the same catalog on every voter.
//!
//! The catalog's version is the index of the last entry applied. A refused command changes
//! nothing else.

mod register;
mod replicas;

use crate::{
    check,
    command::{Command, CreateKeyspace, Frames, RequestId, UnknownCommand},
    failover::{self, Promotion},
    level,
    planner::{self, Inventory},
    policy,
    refusal::Refusal,
};
use model::{
    Catalog, DiskId, Epoch, KeyspaceId, KeyspaceName, NodeId, OnTimeout, ShardId,
    catalog::{EVENTS_MAX, Event, Keyspace, Shard},
    release::Span,
};

/// The most nodes of a cluster.
pub const NODES_MAX: usize = 1024;
/// The most keyspaces of a cluster.
pub const KEYSPACES_MAX: usize = 4096;
/// The most shards of all keyspaces.
pub const SHARDS_ALL_MAX: usize = 16_384;
/// Replicas of all shards together: the whole catalog travels in one message, of 64 MiB at most,
/// and a replica takes up to some 200 bytes of it.
pub const REPLICAS_ALL_MAX: usize = 262_144;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node is, or stays, a member.
    NodeRegistered {
        /// Its id.
        id: NodeId,
    },
    /// The keyspace is there.
    KeyspaceCreated {
        /// Its number.
        id: KeyspaceId,
        /// Its shards, in the order of their slots.
        shards: Vec<ShardId>,
    },
    /// The keyspace is gone.
    KeyspaceDropped {
        /// Its number, never used again.
        id: KeyspaceId,
        /// Its shards, never used again.
        shards: Vec<ShardId>,
    },
    /// The primary may write in `epoch`, once its barrier is committed.
    EpochStarted {
        /// The shard.
        shard: ShardId,
        /// Its new epoch.
        epoch: Epoch,
    },
    /// The rule is suspended, or in force again.
    DegradedSet {
        /// The shard.
        shard: ShardId,
        /// Whether the rule is suspended.
        degraded: bool,
    },
    /// Another replica is primary.
    Promoted {
        /// The shard.
        shard: ShardId,
        /// Who.
        node: NodeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// A learner is a member now.
    ReplicaConfirmed {
        /// The shard.
        shard: ShardId,
        /// Who.
        node: NodeId,
    },
    /// A node is being filled, to take another's place.
    ReplicaJoins {
        /// The shard.
        shard: ShardId,
        /// Who.
        node: NodeId,
    },
    /// It was written down.
    Noted,
    /// The feature level is this, at least.
    LevelRaised {
        /// The level.
        level: u32,
    },
    /// The level is held, or not any more.
    LevelHeld {
        /// Whether it is.
        held: bool,
    },
}

/// What became of one entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose commands they were.
    pub request: RequestId,
    /// What each command did.
    pub results: Vec<Result<Outcome, Refusal>>,
}

impl Applied {
    /// Why nothing was done, if that is so: what the first command was refused for.
    pub fn refused(&self) -> Option<&Refusal> {
        let done = self.results.iter().any(Result::is_ok);
        let first = self.results.iter().find_map(|result| result.as_ref().err());
        first.filter(|_| !done)
    }
}

/// Applies the committed entry (`index`, `data`) at a node whose release knows `levels`. None for
/// an entry without data (a leader's first). An error means that this node can't go on, and that
/// the catalog may have been changed in part: see [`UnknownCommand`].
///
/// Commands above the catalog's level are refused unread, so that the machines of two releases
/// stay equal, command by command, until a level is reached that one of them does not know.
pub fn apply_entry(
    catalog: &mut Catalog,
    index: u64,
    data: &[u8],
    levels: Span,
) -> Result<Option<Applied>, UnknownCommand> {
    if data.is_empty() {
        catalog.version = catalog.version.max(index);
        return Ok(None);
    }
    let Frames { request, frames } = Frames::decode(data)?;
    let version = catalog.version;
    let is_new = index > version;
    catalog.version = version.max(index);
    let mut results = Vec::with_capacity(frames.len());
    for frame in frames {
        let (needs, level) = (frame.level, catalog.level);
        results.push(match is_new {
            false => Err(Refusal::AlreadyApplied { index, version }),
            true if needs > level => Err(Refusal::AboveLevel { needs, level }),
            true => apply_one(catalog, frame.read(levels)?),
        });
        // One that it was at before is no hindrance: the group's log may begin there.
        if levels.newest < catalog.level
            && let Some(why) = levels.unfit_for(catalog.level)
        {
            return Err(UnknownCommand::Level(why));
        }
    }
    Ok(Some(Applied { request, results }))
}

/// Applies `command`, which the group committed at `index`.
pub fn apply(catalog: &mut Catalog, index: u64, command: Command) -> Result<Outcome, Refusal> {
    if index <= catalog.version {
        return Err(Refusal::AlreadyApplied {
            index,
            version: catalog.version,
        });
    }
    catalog.version = index;
    let (needs, level) = (command.level(), catalog.level);
    if needs > level {
        return Err(Refusal::AboveLevel { needs, level });
    }
    apply_one(catalog, command)
}

fn apply_one(catalog: &mut Catalog, command: Command) -> Result<Outcome, Refusal> {
    match command {
        Command::RegisterNode { id, info } => register::register_node(catalog, id, info),
        Command::CreateKeyspace(wanted) => create_keyspace(catalog, wanted),
        Command::DropKeyspace { name } => drop_keyspace(catalog, name),
        Command::StartEpoch {
            shard,
            node,
            process,
            disk,
            expected,
        } => start_epoch(catalog, shard, node, process, disk, expected),
        Command::SetDegraded {
            shard,
            epoch,
            degraded,
        } => set_degraded(catalog, shard, epoch, degraded),
        Command::Promote(plan) => promote(catalog, plan),
        Command::ConfirmReplica {
            shard,
            epoch,
            node,
            disk,
            at_ms,
        } => replicas::confirm(catalog, shard, epoch, node, disk, at_ms),
        Command::ReplaceReplica {
            shard,
            epoch,
            gone,
            newcomer,
            cause,
            at_ms,
        } => {
            let outcome = replicas::replace(catalog, shard, epoch, &gone, newcomer.clone())?;
            let text = format!(
                "{newcomer} is to take the place of {gone} in shard {shard}: {cause}; it is being filled"
            );
            note(catalog, at_ms, Some(shard), "replacing", text);
            Ok(outcome)
        }
        Command::Note {
            shard,
            kind,
            text,
            at_ms,
        } => {
            if let Some(shard) = shard {
                shard_mut(catalog, shard)?;
            }
            // Asked twice, it is written down once.
            let same = |e: &Event| e.at_ms == at_ms && e.kind == kind && e.text == text;
            if catalog.events.iter().any(same) {
                return Ok(Outcome::Noted);
            }
            note(catalog, at_ms, shard, &kind, text);
            Ok(Outcome::Noted)
        }
        Command::RaiseLevel {
            level,
            by_itself,
            at_ms,
        } => level::raise(catalog, level, by_itself, at_ms),
        Command::HoldLevel { held, at_ms } => level::hold(catalog, held, at_ms),
        Command::Rehearse { node, at_ms } => {
            note(catalog, at_ms, None, "rehearsed", node.to_string());
            Ok(Outcome::Noted)
        }
    }
}

/// The longest text of an event, in characters.
const EVENT_MAX: usize = 1000;

pub(crate) fn note(
    catalog: &mut Catalog,
    at_ms: u64,
    shard: Option<ShardId>,
    kind: &str,
    text: String,
) {
    if catalog.events.len() >= EVENTS_MAX {
        catalog.events.pop_front();
    }
    catalog.events.push_back(Event {
        version: catalog.version,
        at_ms,
        shard,
        kind: kind.chars().take(32).collect(),
        text: text.chars().take(EVENT_MAX).collect(),
    });
}

fn promote(catalog: &mut Catalog, plan: Promotion) -> Result<Outcome, Refusal> {
    let id = plan.shard;
    let version = catalog.version;
    let shard = shard_mut(catalog, id)?;
    in_epoch(id, shard, plan.expected)?;
    let keyspace = shard.keyspace;
    let Some(keyspace) = catalog.keyspaces.get(&keyspace) else {
        return Err(Refusal::UnknownShard { shard: id });
    };
    let name = keyspace.name.clone();
    let rule = keyspace.strategy.ack.clone();
    let checked = check::promotion(&plan, shard_ref(catalog, id)?, keyspace, &catalog.nodes)?;
    let shard = shard_mut(catalog, id)?;
    let gave_up = plan
        .heard
        .iter()
        .any(|h| h.node == shard.primary && (h.process, h.disk) == (shard.process, shard.disk));
    let former = std::mem::replace(&mut shard.primary, plan.node.clone());
    shard.epoch = shard.epoch.next();
    shard.process = checked.process;
    shard.disk = checked.disk;
    shard.decreed = checked.may_lose.is_some().then_some(checked.last);
    // Nobody takes the place of a primary.
    let place = Some(&plan.node);
    shard.replicas.retain(|r| r.replaces.as_ref() != place);
    let epoch = shard.epoch;
    catalog.last_promotion = version;

    let heard: Vec<String> = plan.heard.iter().map(ToString::to_string).collect();
    let heard = heard.join(", ");
    let kept = match &checked.may_lose {
        None => format!("nothing acknowledged is lost (ACK {rule}; heard {heard})"),
        Some(_) if checked.is_everyone => format!(
            "every member was heard whose disk is still there ({heard}); what was cut from the ends of their logs, if it was acknowledged, is nowhere (ACK {rule})"
        ),
        Some(_) if plan.node == former => format!(
            "what was acknowledged and only members have that were not heard may be lost (ACK {rule}; heard {heard}); they save it when they are back, see `quire rewound list`"
        ),
        Some(_) => {
            let last = checked.last.index;
            let behind = plan.reported.map_or(0, |p| p.index.saturating_sub(last));
            format!(
                "what {former} acknowledged and {} did not have may be lost (ACK {rule}; heard {heard}): {behind} entries by its last report, and what it wrote after that; when {former} is back it saves them, see `quire rewound list`",
                plan.node
            )
        }
    };
    let cause = plan.cause;
    let (kind, what) = match plan.node == former {
        true => (
            "resumed",
            format!("{former} is primary of shard {id} of {name} again"),
        ),
        false => (
            if gave_up { "handover" } else { "failover" },
            format!(
                "{} takes over shard {id} of {name} from {former}",
                plan.node
            ),
        ),
    };
    let text = format!("{what} in epoch {epoch}: {cause}; {kept}");
    note(catalog, plan.at_ms, Some(id), kind, text);
    Ok(Outcome::Promoted {
        shard: id,
        node: plan.node,
        epoch,
    })
}

fn create_keyspace(catalog: &mut Catalog, wanted: CreateKeyspace) -> Result<Outcome, Refusal> {
    if catalog.keyspace_named(wanted.name.as_str()).is_some() {
        return Err(Refusal::KeyspaceExists { name: wanted.name });
    }
    let full = |what, max| Err(Refusal::Full { what, max });
    if catalog.keyspaces.len() >= KEYSPACES_MAX || catalog.next_keyspace == u32::MAX {
        return full("keyspaces", KEYSPACES_MAX);
    }
    if catalog.shards.len() + usize::from(wanted.shards) > SHARDS_ALL_MAX {
        return full("shards", SHARDS_ALL_MAX);
    }
    let inventory = Inventory::of(catalog).avoiding(&wanted.avoid);
    policy::check(&wanted, &inventory)?;
    let replicas: usize = catalog.shards.values().map(|s| s.replicas.len()).sum();
    let each: usize = (wanted.strategy.placement.regions().iter())
        .map(|(_, n)| usize::from(*n))
        .sum();
    if replicas + usize::from(wanted.shards) * each > REPLICAS_ALL_MAX {
        return full("replicas", REPLICAS_ALL_MAX);
    }
    let CreateKeyspace {
        name,
        strategy,
        shards,
        avoid: _,
    } = wanted;
    let plan = planner::plan(&inventory, &strategy, shards, ShardId(catalog.next_shard));
    let plan = check::plan(plan, &strategy, &inventory)?.into_plan();

    let id = KeyspaceId(catalog.next_keyspace);
    catalog.next_keyspace += 1;
    catalog.next_shard += u64::from(shards);
    let ids: Vec<ShardId> = plan.shards.iter().map(|s| s.id).collect();
    for planned in plan.shards {
        // Checked: a sound plan has a primary for each shard.
        let Some(primary) = planned.replicas.first().map(|r| r.node.clone()) else {
            continue;
        };
        let shard = Shard {
            keyspace: id,
            slots: planned.slots,
            replicas: planned.replicas,
            primary,
            epoch: Epoch(0),
            process: 0,
            disk: DiskId(0),
            degraded: false,
            decreed: None,
        };
        catalog.shards.insert(planned.id, shard);
    }
    let keyspace = Keyspace {
        name,
        strategy,
        shards: ids.clone(),
    };
    catalog.keyspaces.insert(id, keyspace);
    Ok(Outcome::KeyspaceCreated { id, shards: ids })
}

fn drop_keyspace(catalog: &mut Catalog, name: KeyspaceName) -> Result<Outcome, Refusal> {
    let Some((id, keyspace)) = catalog.keyspace_named(name.as_str()) else {
        let known = catalog.keyspaces.values().map(|k| k.name.clone()).collect();
        return Err(Refusal::UnknownKeyspace { name, known });
    };
    let shards = keyspace.shards.clone();
    for shard in &shards {
        catalog.shards.remove(shard);
    }
    catalog.keyspaces.remove(&id);
    Ok(Outcome::KeyspaceDropped { id, shards })
}

fn start_epoch(
    catalog: &mut Catalog,
    id: ShardId,
    node: NodeId,
    process: u64,
    disk: DiskId,
    expected: Epoch,
) -> Result<Outcome, Refusal> {
    let shard = shard_ref(catalog, id)?;
    if shard.primary != node {
        return Err(Refusal::NotPrimary {
            shard: id,
            node,
            primary: shard.primary.clone(),
        });
    }
    in_epoch(id, shard, expected)?;
    // Acknowledged writes are on the disk of the last epoch.
    if shard.epoch > Epoch(0) && shard.disk != disk {
        return Err(Refusal::OtherDisk {
            shard: id,
            node,
            found: disk,
            expected: shard.disk,
        });
    }
    let boot = catalog.nodes.get(&node).map(|info| info.boot);
    let Some(boot) = boot.filter(|b| (b.disk, b.process) == (disk, process)) else {
        return Err(Refusal::NotRegistered { node, process });
    };
    let keyspace = catalog.keyspaces.get(&shard.keyspace);
    if keyspace.is_some_and(|k| !failover::may_resume(shard, &k.strategy.ack, &boot)) {
        return Err(Refusal::MustBeHeard { shard: id, node });
    }
    let shard = shard_mut(catalog, id)?;
    shard.epoch = shard.epoch.next();
    shard.process = process;
    shard.disk = disk;
    if let Some(own) = shard.replicas.iter_mut().find(|r| r.node == node) {
        own.disk = Some(disk);
    }
    Ok(Outcome::EpochStarted {
        shard: id,
        epoch: shard.epoch,
    })
}

fn set_degraded(
    catalog: &mut Catalog,
    id: ShardId,
    epoch: Epoch,
    degraded: bool,
) -> Result<Outcome, Refusal> {
    let keyspace = shard_mut(catalog, id)?.keyspace;
    let chosen = catalog.keyspaces.get(&keyspace);
    let on_timeout = chosen.map_or(OnTimeout::Block, |k| k.strategy.on_timeout);
    let shard = shard_mut(catalog, id)?;
    in_epoch(id, shard, epoch)?;
    if degraded && on_timeout != OnTimeout::Degrade {
        return Err(Refusal::MayNotDegrade {
            shard: id,
            on_timeout,
        });
    }
    shard.degraded = degraded;
    Ok(Outcome::DegradedSet {
        shard: id,
        degraded,
    })
}

fn shard_mut(catalog: &mut Catalog, id: ShardId) -> Result<&mut Shard, Refusal> {
    let unknown = Refusal::UnknownShard { shard: id };
    catalog.shards.get_mut(&id).ok_or(unknown)
}

fn shard_ref(catalog: &Catalog, id: ShardId) -> Result<&Shard, Refusal> {
    let unknown = Refusal::UnknownShard { shard: id };
    catalog.shards.get(&id).ok_or(unknown)
}

fn in_epoch(id: ShardId, shard: &Shard, expected: Epoch) -> Result<(), Refusal> {
    if shard.epoch == expected {
        return Ok(());
    }
    Err(Refusal::StaleEpoch {
        shard: id,
        expected,
        current: shard.epoch,
        primary: shard.primary.clone(),
        process: shard.process,
    })
}
