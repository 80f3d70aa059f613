//! Why a command was refused. Each says what is wrong and what would be right.

use model::{
    AckRule, Boot, DiskId, Epoch, KeyspaceName, NodeId, OnTimeout, Region, ShardId, release::Span,
    strategy::Placement,
};
use std::fmt;

use crate::check::Unsound;

/// Why a command was refused. The catalog stays as it was, but for its version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Replayed: nothing changes, the version included.
    #[error("entry {index} is applied already (the catalog is at {version})")]
    AlreadyApplied {
        /// The entry.
        index: u64,
        /// The catalog's version.
        version: u64,
    },
    /// The wish itself.
    #[error(transparent)]
    Strategy(#[from] StrategyRefusal),
    /// The name is taken.
    #[error("keyspace '{name}' exists: choose another name, or drop it first")]
    KeyspaceExists {
        /// The name.
        name: KeyspaceName,
    },
    /// There is no such keyspace.
    #[error("there is no keyspace '{name}'; {}", there_are(.known, "keyspaces"))]
    UnknownKeyspace {
        /// The name.
        name: KeyspaceName,
        /// What there is.
        known: Vec<KeyspaceName>,
    },
    /// There is no such shard.
    #[error("there is no shard {shard}; its keyspace was dropped, or never was")]
    UnknownShard {
        /// The shard.
        shard: ShardId,
    },
    /// A bound of the catalog.
    #[error("the cluster holds at most {max} {what}: drop what is not needed")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A node can't move with its replicas.
    #[error(
        "node {node} holds {} in region {from} and can't move to {to}: start it in {from}, or give the node in {to} another id",
        count(*.replicas, "replica")
    )]
    NodeMoved {
        /// The node.
        node: NodeId,
        /// Where it is registered.
        from: Region,
        /// Where it says it is.
        to: Region,
        /// How many replicas it holds.
        replicas: usize,
    },
    /// Two nodes with one disk, or one number.
    #[error("node {node} can't join: its {what} is that of node {other}; {cure}")]
    NodeClashes {
        /// The node.
        node: NodeId,
        /// The other.
        other: NodeId,
        /// What clashes.
        what: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// A field of a node's introduction.
    #[error(
        "node {node} can't join: its zone is {length} characters long, and at most {max} are taken"
    )]
    ZoneTooLong {
        /// The node.
        node: NodeId,
        /// How long it is.
        length: usize,
        /// How long it may be.
        max: usize,
    },
    /// Somebody else is primary.
    #[error("{node} is not the primary of shard {shard}; {primary} is")]
    NotPrimary {
        /// The shard.
        shard: ShardId,
        /// Who asked.
        node: NodeId,
        /// Who is.
        primary: NodeId,
    },
    /// The shard is in another epoch.
    #[error(
        "shard {shard} is in epoch {current} (process {process} of {primary}), not in {expected}: follow the catalog and ask again"
    )]
    StaleEpoch {
        /// The shard.
        shard: ShardId,
        /// What was expected.
        expected: Epoch,
        /// What is.
        current: Epoch,
        /// Who is primary.
        primary: NodeId,
        /// Which of its processes took up the office.
        process: u64,
    },
    /// The primary lost its disk.
    #[error(
        "the disk of {node} is not the one that held shard {shard}: it is {found}, and acknowledged writes are on {expected}; put that disk back, or promote another replica"
    )]
    OtherDisk {
        /// The shard.
        shard: ShardId,
        /// The primary.
        node: NodeId,
        /// The disk it came with.
        found: DiskId,
        /// The disk it held the shard on.
        expected: DiskId,
    },
    /// A disk that was further already.
    #[error(
        "the disk of {node} is stale: it comes as {found} with a log of {} bytes, and was seen as {known} with {}: an older copy was put in its place; put the newest one back, or let it be filled anew as an empty disk",
        found.log, known.log
    )]
    StaleDisk {
        /// The node.
        node: NodeId,
        /// What it came with.
        found: Boot,
        /// The latest that the catalog knows.
        known: Boot,
    },
    /// A process that the catalog does not know.
    #[error("process {process} of {node} is not registered: another one is, or none")]
    NotRegistered {
        /// The node.
        node: NodeId,
        /// The process.
        process: u64,
    },
    /// The end of the primary's log may be missing.
    #[error(
        "{node} did not leave its log closed: what of shard {shard} others have must be heard before it is primary again"
    )]
    MustBeHeard {
        /// The shard.
        shard: ShardId,
        /// The primary.
        node: NodeId,
    },
    /// The keyspace's rule doesn't allow it.
    #[error(
        "shard {shard} may not be degraded: its keyspace has ON_TIMEOUT {on_timeout}, and only degrade allows it"
    )]
    MayNotDegrade {
        /// The shard.
        shard: ShardId,
        /// What the keyspace chose.
        on_timeout: OnTimeout,
    },
    /// There is no such replica.
    #[error("{node} holds no replica of shard {shard}")]
    NoReplica {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
    },
    /// A replica was filled on a disk that its node has no longer.
    #[error("{node} no longer has the disk {disk} on which it held shard {shard}")]
    DiskGone {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
        /// The disk.
        disk: DiskId,
    },
    /// A replica can't be replaced so.
    #[error("{newcomer} can't take the place of {gone} in shard {shard}: {what}")]
    MayNotReplace {
        /// The shard.
        shard: ShardId,
        /// Whose place.
        gone: NodeId,
        /// Who was to take it.
        newcomer: NodeId,
        /// What is wrong.
        what: &'static str,
    },
    /// A node whose release can't work with the others.
    #[error("node {node} can't join: {why}")]
    LevelUnfit {
        /// The node.
        node: NodeId,
        /// Why, and what to start instead.
        why: String,
    },
    /// The command came with a later feature level.
    #[error(
        "this needs feature level {needs}, and the cluster is at {level}: QUIRE LEVEL says which nodes keep it there"
    )]
    AboveLevel {
        /// What it needs.
        needs: u32,
        /// What is.
        level: u32,
    },
    /// Nodes would be left behind.
    #[error(
        "the feature level can't be raised to {level}: {}; upgrade every node first", unaware(.nodes)
    )]
    LevelUnknown {
        /// The level.
        level: u32,
        /// Who does not know it, and what each knows.
        nodes: Vec<(NodeId, Span)>,
    },
    /// The level never goes down.
    #[error("the feature level is {current} already, and does not go back to {level}")]
    LevelPast {
        /// What was asked.
        level: u32,
        /// What is.
        current: u32,
    },
    /// An operator holds the level.
    #[error(
        "the feature level is held, and not raised to {level} by itself: QUIRE LEVEL AUTO lets it go"
    )]
    LevelHeld {
        /// The level.
        level: u32,
    },
    /// A defect of ours, or a plan that came too late, caught before it did harm.
    #[error("the plan that was made is not sound, so it is not carried out: {0}")]
    Unsound(#[from] Unsound),
}

/// Why a strategy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyRefusal {
    /// Not a number of shards.
    #[error("SHARDS {given} is not valid: use 1 to {max}")]
    Shards {
        /// What was asked.
        given: u16,
        /// What may be.
        max: u16,
    },
    /// Not a placement.
    #[error(
        "placement '{placement}' is not valid: name each region once, with at least 1 replica, as in us=3,eu=2,asia=2"
    )]
    Placement {
        /// What was asked.
        placement: Placement,
    },
    /// Not a timeout.
    #[error("TIMEOUT {given_ms} ms is not valid: use 1 to {max_ms}")]
    Timeout {
        /// What was asked, in milliseconds.
        given_ms: u128,
        /// What may be, in milliseconds.
        max_ms: u64,
    },
    /// Not a time after which a replica is replaced.
    #[error("REPLACE_AFTER {given_ms} ms is not valid: use {min_ms} to {max_ms}")]
    ReplaceAfter {
        /// What was asked, in milliseconds.
        given_ms: u128,
        /// The least that may be, in milliseconds.
        min_ms: u128,
        /// The most that may be, in milliseconds.
        max_ms: u128,
    },
    /// No node stands there.
    #[error("there is no node in region {region}; {}", there_are(.known, "regions"))]
    UnknownRegion {
        /// The region.
        region: Region,
        /// Where nodes stand.
        known: Vec<Region>,
    },
    /// Nobody could be primary.
    #[error("no node of the primary's region {region} is up: start one, or name another PRIMARY")]
    NoNodeUp {
        /// The region.
        region: Region,
    },
    /// More replicas than nodes.
    #[error("region {region} has {}, {} asked for", count(*.nodes, "node"), were(*.replicas))]
    TooFewNodes {
        /// The region.
        region: Region,
        /// Nodes in it.
        nodes: usize,
        /// Replicas asked for.
        replicas: u16,
    },
    /// The primary has no place.
    #[error(
        "the primary's region {region} is not in the placement {placement}: add {region}=1 to it, or name another PRIMARY"
    )]
    PrimaryNotPlaced {
        /// The region.
        region: Region,
        /// The placement.
        placement: Placement,
    },
    /// The rule counts copies where there are none.
    #[error("ACK {rule} counts copies in {region}, and the placement {placement} has none there")]
    NoCopiesThere {
        /// The rule.
        rule: AckRule,
        /// Where it counts.
        region: Region,
        /// The placement.
        placement: Placement,
    },
    /// The rule can never be met.
    #[error("ACK {rule} needs {k} others in {region}, where the placement {placement} has {} beside the primary: use k = {counted} or less, or more replicas", copies(*.counted))]
    TooFewCopies {
        /// The rule.
        rule: AckRule,
        /// How many it needs.
        k: u16,
        /// Where it counts.
        region: Region,
        /// How many count.
        counted: u16,
        /// The placement.
        placement: Placement,
    },
    /// The rule promises nothing.
    #[error(
        "ACK {rule} promises no more than async where there is 1 copy ({placement}): use ACK async, or place more replicas {place}"
    )]
    PromisesNothing {
        /// The rule.
        rule: AckRule,
        /// The placement.
        placement: Placement,
        /// Where more are needed.
        place: String,
    },
}

/// "there are no regions yet" | "regions: us, eu"
fn there_are<T: fmt::Display>(known: &[T], what: &str) -> String {
    const SHOWN_MAX: usize = 20;
    if known.is_empty() {
        return format!("there are no {what} yet");
    }
    let mut names: Vec<String> = known.iter().take(SHOWN_MAX).map(T::to_string).collect();
    if known.len() > SHOWN_MAX {
        names.push(format!("… ({} in all)", known.len()));
    }
    format!("{what}: {}", names.join(", "))
}

/// "a knows 1 alone, b knows 1 to 2"
fn unaware(nodes: &[(NodeId, Span)]) -> String {
    const SHOWN_MAX: usize = 20;
    if nodes.is_empty() {
        return "no node is registered".to_owned();
    }
    let shown = nodes.iter().take(SHOWN_MAX);
    let mut shown: Vec<String> = shown.map(|(id, k)| format!("{id} knows {k}")).collect();
    if nodes.len() > SHOWN_MAX {
        shown.push(format!("… ({} in all)", nodes.len()));
    }
    shown.join(", ")
}

fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

fn were(replicas: u16) -> String {
    let verb = if replicas == 1 { "was" } else { "were" };
    format!("{} {verb}", count(replicas.into(), "replica"))
}

fn copies(n: u16) -> String {
    match n {
        1 => "1 copy".to_owned(),
        n => format!("{n} copies"),
    }
}
