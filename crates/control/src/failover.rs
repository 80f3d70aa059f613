//! Who takes over a shard whose primary is gone: the shard, its strategy and what was heard →
//! wait, and why, or a plan.
//!
//! Which members have to be heard follows from the rule in force (soundness: promotion without
//! loss). `others` are the members of the acknowledging set without the primary:
//!
//! | rule | heard, of the others |
//! |---|---|
//! | `semi-sync:k` | n − k + 1 of those in the region that counts |
//! | `quorum` of N copies | N − ⌊N/2⌋ |
//! | `local-quorum` of N copies in the primary's region | N − ⌊N/2⌋ of those there |
//! | `sync` | one |
//! | `async`, or a rule that is suspended | no number of them |
//!
//! A primary that was heard itself, on the disk it held the office with and with nothing of its
//! log missing since, is enough under any rule. Everybody counts here only as *sealed*: refusing
//! durably what is of an older epoch than the one the plan begins; and as one of the number only
//! if it is *whole*: what was cut from the end of its log, if anything was, it has again. Once
//! every member was heard whose disk is still there, there is nobody to wait for.

use crate::policy;
use model::{
    AckRule, Boot, DiskId, Epoch, Failover, NodeId, Position, Region, ShardId,
    catalog::{Keyspace, NodeInfo, Replica, Shard},
    planted::{self, Bug},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The nodes of the catalog.
pub type Nodes = BTreeMap<NodeId, NodeInfo>;

/// What a replica answered when it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Who.
    pub node: NodeId,
    /// Which of its processes.
    pub process: u64,
    /// On which disk.
    pub disk: DiskId,
    /// It refuses durably whatever is below this epoch.
    pub sealed: Epoch,
    /// The last entry of its log, which is durable.
    pub last: Position,
    /// The first process of the disk from which on none has left its log unclosed.
    pub intact_since: u64,
    /// Whether it once held all that its primary had committed, after the last time that a torn
    /// tail was cut from its log.
    pub whole: bool,
    /// Whether it once held all that its primary had committed, after the last unclean end of a
    /// process on its disk. Whoever is not level may be on an older copy of its disk.
    pub level: bool,
}

/// A plan to name a primary, with its evidence. Judged by [`crate::check::promotion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The shard.
    pub shard: ShardId,
    /// The epoch in force when it was made; the new primary's is the next.
    pub expected: Epoch,
    /// Who takes over.
    pub node: NodeId,
    /// All that were heard, the one who takes over among them.
    pub heard: Vec<Heard>,
    /// The primary's last entry that anybody has seen in a report of its own.
    pub reported: Option<Position>,
    /// Why, for people: what is known of the former primary.
    pub cause: String,
    /// The wall clock of whoever made it, in ms since 1970.
    pub at_ms: u64,
}

/// What may be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nobody can be named yet.
    Wait(Why),
    /// This one, as soon as the primary's lease is over.
    Name {
        /// Who.
        node: NodeId,
        /// Whether nothing acknowledged is lost by it, whatever others have that were not heard.
        is_safe: bool,
    },
}

/// Why nobody is named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// None of the heard may be primary.
    #[error("no replica of shard {shard} that could take over can be heard")]
    NobodyHeard {
        /// The shard.
        shard: ShardId,
    },
    /// The rule could be satisfied by one that was not heard.
    #[error(
        "shard {shard} waits for {primary} or for more replicas: with ACK {rule} {needed} must be heard to be sure of every acknowledged write, and {heard} {}; FAILOVER available would not wait", was(*.heard)
    )]
    TooFewHeard {
        /// The shard.
        shard: ShardId,
        /// The primary.
        primary: NodeId,
        /// The rule in force.
        rule: AckRule,
        /// How many that count were heard.
        heard: usize,
        /// How many must be.
        needed: usize,
    },
    /// Who may have what the most advanced that could lead has not, may not lead.
    #[error(
        "shard {shard} waits for {primary}: {node} may not lead where it stands, and has more than {best}, the best of those that may; FAILOVER available would not wait"
    )]
    MoreElsewhere {
        /// The shard.
        shard: ShardId,
        /// The primary.
        primary: NodeId,
        /// Who has more.
        node: NodeId,
        /// Who could lead.
        best: NodeId,
    },
    /// What the last failover, which lost something, went on from is not all there.
    #[error(
        "shard {shard} waits for {primary}: it went on from {decreed} when something was lost, and {node} does not have that; FAILOVER available would not wait"
    )]
    LacksDecreed {
        /// The shard.
        shard: ShardId,
        /// The primary.
        primary: NodeId,
        /// Who could lead.
        node: NodeId,
        /// What is missing there.
        decreed: Position,
    },
    /// Only the primary knows what was acknowledged.
    #[error(
        "shard {shard} waits for {primary}, which alone is sure to have every acknowledged write ({}); FAILOVER available would not wait",
        alone(rule, *degraded)
    )]
    OnlyPrimaryKnows {
        /// The shard.
        shard: ShardId,
        /// The primary.
        primary: NodeId,
        /// The keyspace's rule.
        rule: AckRule,
        /// Whether it is suspended.
        degraded: bool,
    },
}

fn was(heard: usize) -> &'static str {
    if heard == 1 { "was" } else { "were" }
}

fn alone(rule: &AckRule, degraded: bool) -> String {
    let suspended = if degraded { ", suspended" } else { "" };
    format!("ACK {rule}{suspended}")
}

/// What must be heard to be sure that nothing acknowledged is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    /// This many of the others, of this region if one is named.
    Others {
        /// How many.
        count: usize,
        /// Of where.
        region: Option<Region>,
    },
    /// The primary itself.
    Primary,
}

/// See the module's table. `shard` is as it was under its present primary.
pub fn needed(shard: &Shard, rule: &AckRule) -> Needed {
    let home = shard.replica(&shard.primary).map(|r| &r.region);
    let copies = |region: Option<&Region>| {
        let counts = |r: &&Replica| region.is_none_or(|region| r.region == *region);
        shard.members().filter(counts).count()
    };
    let majority_seen = |region: Option<&Region>| Needed::Others {
        count: copies(region) - copies(region) / 2,
        region: region.cloned(),
    };
    match rule {
        _ if shard.degraded => Needed::Primary,
        AckRule::Async => Needed::Primary,
        AckRule::SemiSync { k, region } => {
            let region = region.as_ref().or(home);
            let own = usize::from(region == home);
            let others = copies(region).saturating_sub(own);
            match (others + 1).checked_sub(usize::from(*k)) {
                Some(count @ 1..) => Needed::Others {
                    count,
                    region: region.cloned(),
                },
                // More than there are: nothing was ever acknowledged by this rule.
                _ => Needed::Primary,
            }
        }
        AckRule::Sync => Needed::Others {
            count: 1,
            region: None,
        },
        AckRule::Quorum => majority_seen(None),
        AckRule::LocalQuorum => majority_seen(home),
    }
}

/// Whether the primary may take up its office again, in another process, without anybody else
/// being heard: nothing of its log can be missing, or the rule has nobody who would have it.
pub fn may_resume(shard: &Shard, rule: &AckRule, boot: &Boot) -> bool {
    shard.epoch == Epoch(0)
        || boot.intact_since <= shard.process
        || shard.members().count() == 1
        || needed(shard, rule) == Needed::Primary
        || planted::is(Bug::OfficeWithoutHearing)
}

/// Whether there is nobody left who could have what those that count lack: the primary is among
/// them, and every other member is or has come back with another disk, as `nodes` says.
pub fn is_everyone(shard: &Shard, counted: &[(&Heard, &Replica)], nodes: &Nodes) -> bool {
    let primary = counted.iter().any(|(h, _)| h.node == shard.primary);
    primary && missed(shard, counted, nodes).next().is_none()
}

/// The members that were not heard, and whose disk is still there, as far as is known.
pub fn missed<'a>(
    shard: &'a Shard,
    counted: &'a [(&Heard, &Replica)],
    nodes: &'a Nodes,
) -> impl Iterator<Item = &'a NodeId> {
    let members = shard.members().map(|member| &member.node);
    members.filter(|node| is_missed(shard, counted, nodes, node))
}

/// Whether a member does not count now, and its disk is still there.
fn is_missed(shard: &Shard, counted: &[(&Heard, &Replica)], nodes: &Nodes, node: &NodeId) -> bool {
    !counted.iter().any(|(h, _)| h.node == *node) && is_there(shard, counted, nodes, node)
}

/// Whether the disk with which a member is one is still there, as far as is known.
fn is_there(shard: &Shard, counted: &[(&Heard, &Replica)], nodes: &Nodes, node: &NodeId) -> bool {
    let disk = nodes.get(node).map(|info| info.boot.disk);
    let member = shard.replica(node).and_then(|r| r.disk);
    disk.is_none() || disk == member || counted.iter().any(|(h, _)| h.node == *node)
}

/// What was heard, as far as it counts: members, on the disk that the catalog has for them,
/// sealed for the epoch after `shard`'s. The most advanced first; among equals the primary, and
/// its region.
pub fn counted<'a>(shard: &'a Shard, heard: &'a [Heard]) -> Vec<(&'a Heard, &'a Replica)> {
    let mut counted: Vec<(&Heard, &Replica, (bool, bool, usize))> = Vec::new();
    let home = shard.replica(&shard.primary).map(|r| &r.region);
    for (order, member) in shard.members().enumerate() {
        let said = heard.iter().find(|h| h.node == member.node);
        if let Some(said) = said
            && said.sealed > shard.epoch
            && member.disk == Some(said.disk)
        {
            let abroad = Some(&member.region) != home;
            let another = member.node != shard.primary;
            counted.push((said, member, (another, abroad, order)));
        }
    }
    counted.sort_by(|a, b| b.0.last.cmp(&a.0.last).then(a.2.cmp(&b.2)));
    counted.into_iter().map(|(h, r, _)| (h, r)).collect()
}

/// Whether what was heard is enough to be sure that nothing acknowledged is lost if `named`
/// takes over: enough of those whose acknowledgements count, and none of them has more. Err: why
/// not.
pub fn is_safe(
    id: ShardId,
    shard: &Shard,
    rule: &AckRule,
    counted: &[(&Heard, &Replica)],
    named: &Heard,
) -> Result<(), Why> {
    if shard.epoch == Epoch(0) {
        return Ok(()); // Nobody ever took a write.
    }
    let mut known = counted.iter().filter(|(h, _)| is_of_office(shard, h));
    if known.any(|(h, _)| h.last <= named.last) {
        return Ok(());
    }
    if let Some(decreed) = shard.decreed.filter(|decreed| named.last < *decreed) {
        return Err(Why::LacksDecreed {
            shard: id,
            primary: shard.primary.clone(),
            node: named.node.clone(),
            decreed,
        });
    }
    let (count, region) = match needed(shard, rule) {
        Needed::Others { count, region } => (count, region),
        Needed::Primary => {
            return Err(Why::OnlyPrimaryKnows {
                shard: id,
                primary: shard.primary.clone(),
                rule: rule.clone(),
                degraded: shard.degraded,
            });
        }
    };
    let counts = |r: &Replica| counts(shard, region.as_ref(), r);
    let heard = counted.iter().filter(|(h, r)| counts(r) && h.whole).count();
    if heard < count {
        return Err(Why::TooFewHeard {
            shard: id,
            primary: shard.primary.clone(),
            rule: rule.clone(),
            heard,
            needed: count,
        });
    }
    let mut more = counted.iter().filter(|(_, r)| counts(r));
    match more.find(|(h, _)| h.last > named.last) {
        None => Ok(()),
        Some((h, _)) => Err(Why::MoreElsewhere {
            shard: id,
            primary: shard.primary.clone(),
            node: h.node.clone(),
            best: named.node.clone(),
        }),
    }
}

/// Whether what was heard does not rest on disks that nobody can vouch for: as many as the rule
/// asks for are level, or the primary is that never was away. Else an older copy of the disk of a
/// process that lived on could be taken for what that process held when it died.
pub fn is_vouched(shard: &Shard, rule: &AckRule, counted: &[(&Heard, &Replica)]) -> bool {
    let Needed::Others { count, region } = needed(shard, rule) else {
        return true;
    };
    let vouches =
        |(h, r): &&(&Heard, &Replica)| h.whole && h.level && counts(shard, region.as_ref(), r);
    shard.epoch == Epoch(0)
        || counted.iter().any(|(h, _)| is_of_office(shard, h))
        || counted.iter().filter(vouches).count() >= count
}

/// Whether a replica's acknowledgement counts for a rule, in this region if one is named.
fn counts(shard: &Shard, region: Option<&Region>, replica: &Replica) -> bool {
    replica.node != shard.primary && region.is_none_or(|region| replica.region == *region)
}

/// Whether that is the primary on the disk that it held the office with, which lacks nothing since.
fn is_of_office(shard: &Shard, heard: &Heard) -> bool {
    heard.node == shard.primary
        && heard.disk == shard.disk
        && (heard.intact_since <= shard.process || planted::is(Bug::OfficeWithoutHearing))
}

/// Whether a plan that is not safe, for this reason, is not to be carried out.
pub fn must_wait(
    shard: &Shard,
    keyspace: &Keyspace,
    counted: &[(&Heard, &Replica)],
    nodes: &Nodes,
    why: &Why,
) -> bool {
    if keyspace.strategy.failover != Failover::Safe {
        return false;
    }
    match why {
        Why::MoreElsewhere { .. } => true,
        // As many as must be were heard, and only who cut its log is missing to the number, where
        // nobody is left who could be heard instead.
        Why::TooFewHeard { rule, .. } if !is_there(shard, counted, nodes, &shard.primary) => {
            let Needed::Others { count, region } = needed(shard, rule) else {
                return true;
            };
            let counts = |r: &Replica| region.as_ref().is_none_or(|region| r.region == *region);
            let heard = counted.iter().filter(|(_, r)| counts(r)).count();
            heard < count || missed(shard, counted, nodes).next().is_some()
        }
        _ => !is_everyone(shard, counted, nodes),
    }
}

/// Those of `counted` that the rule promises something with as primary; the most advanced
/// first.
pub fn may_lead<'a, 'b>(
    keyspace: &'b Keyspace,
    counted: &'b [(&'a Heard, &'a Replica)],
) -> impl Iterator<Item = (&'a Heard, &'a Replica)> + 'b {
    let may = |r: &Replica| may_lead_from(keyspace, &r.region);
    counted.iter().copied().filter(move |(_, r)| may(r))
}

/// Whether the rule promises something with a primary in `region`.
pub fn may_lead_from(keyspace: &Keyspace, region: &Region) -> bool {
    let mut moved = keyspace.strategy.clone();
    moved.primary_region = region.clone();
    policy::check_rule(&moved).is_ok()
}

/// Who is to take over `shard`, of `keyspace`, if anybody. `heard` may hold anything. Among
/// equals nobody is taken that is to be `avoided` (it gives away its offices) if others are not;
/// the primary itself comes first, and of one region the control group's `leader` last, so that
/// the two don't go down together.
pub fn decide(
    id: ShardId,
    shard: &Shard,
    keyspace: &Keyspace,
    heard: &[Heard],
    nodes: &Nodes,
    leader: &NodeId,
    avoided: &BTreeSet<NodeId>,
) -> Decision {
    let counted = counted(shard, heard);
    let best = may_lead(keyspace, &counted).next().map(|(h, _)| h.last);
    let mut equals: Vec<_> = may_lead(keyspace, &counted)
        .take_while(|(h, _)| Some(h.last) == best)
        .collect();
    let stays = |(h, _): &(&Heard, &Replica)| !avoided.contains(&h.node);
    if equals.iter().any(stays) {
        equals.retain(stays);
    }
    let mut equals = equals.into_iter();
    let named = equals.next().map(|(first, place)| {
        let other = (equals.filter(|_| first.node == *leader && first.node != shard.primary))
            .find(|(_, r)| r.region == place.region);
        other.map_or(first, |(other, _)| other)
    });
    let Some(named) = named else {
        return Decision::Wait(Why::NobodyHeard { shard: id });
    };
    let safe = is_safe(id, shard, &keyspace.strategy.ack, &counted, named);
    match safe {
        Err(why) if must_wait(shard, keyspace, &counted, nodes, &why) => Decision::Wait(why),
        safe => Decision::Name {
            node: named.node.clone(),
            is_safe: safe.is_ok(),
        },
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.node, self.last)
    }
}

#[cfg(test)]
mod tests;
