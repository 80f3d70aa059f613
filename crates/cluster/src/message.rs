//! What nodes tell each other of what they agree on. docs/messages says who sends what, and when.

#![allow(
    missing_docs,
    reason = "the names of most fields say all there is to say"
)]

use crate::hand_over::Why;
use model::{
    DiskId, Epoch, NodeId, Position, ShardId,
    release::{FIRST_LEVEL, REHEARSAL_LEVEL},
};
use replication::consensus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A message. Variants are only added at the end: their order is part of the format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Between voters of the control group.
    Raft(consensus::Message),
    /// To a control leader: propose this. Repeating it is harmless.
    Propose { request: u64, command: Vec<u8> },
    /// What came of it: at which version of the catalog, or why not.
    Outcome {
        request: u64,
        result: Result<u64, String>,
    },
    /// Not the leader: try this one.
    NotLeader { request: u64, leader: Option<u64> },
    /// To a control leader: tell me your catalog as of now.
    ReadCatalog { request: u64 },
    /// The catalog is (at least) as of the request; a `Catalog` went before if it is newer.
    CatalogRead { request: u64, version: u64 },
    /// The whole catalog; only ever a committed state.
    Catalog { bytes: Vec<u8> },
    /// How the sender and its replicas stand. Sent to everybody, several times a second: it is
    /// the heartbeat between nodes too.
    Report(Report),
    /// To a control leader: a lease for the sender.
    LeaseAsk(LeaseAsk),
    /// It is yours, from when you asked.
    LeaseGranted { number: u64 },
    /// From a control leader: take in nothing more of an epoch before this one, durably, and
    /// say how far your log goes.
    Seal { shard: ShardId, epoch: Epoch },
    /// It is done.
    Sealed(Sealed),
    /// How far each copy is that the sender takes. Goes with its report while there are any.
    CopyProgress(Vec<CopyProgress>),
    /// What does your machine's wall clock say?
    ClockAsk { number: u64 },
    /// This.
    ClockTold {
        number: u64,
        wall_ms: u64,
        /// The time that the sender keeps, once it has compared its clock.
        kept_ms: Option<u64>,
    },
    /// To a control leader, from a primary that gives away its office, and holds its writes back:
    /// let another take its place in this epoch.
    HandOver {
        shard: ShardId,
        epoch: Epoch,
        why: Why,
    },
    /// What the sender runs and holds, for people to see.
    Figures(Figures),
    /// In rehearsals of an upgrade alone: a message of the next release.
    Rehearsal,
}

/// A question for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAsk {
    pub number: u64,
    /// Which boot asks: its random number.
    pub nonce: u64,
    /// What it knows of the catalog.
    pub catalog_version: u64,
    pub length_ms: u32,
}

/// What a node tells about itself that nobody decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The release that it runs.
    pub version: String,
    pub uptime_ms: u64,
    /// What each of its shards' stores holds.
    pub stores: BTreeMap<ShardId, StoreFigures>,
}

/// What a shard's store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFigures {
    /// Expired ones that were not deleted yet included.
    pub keys: u64,
    /// In files, and in memory for the next.
    pub bytes: u64,
}

/// How far a copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyProgress {
    pub shard: ShardId,
    /// Where it is copied from.
    pub source: NodeId,
    /// Keys that have arrived.
    pub keys: u64,
    /// Keys that there are; None before anything has arrived.
    pub keys_total: Option<u64>,
    /// Bytes of rows that have arrived.
    pub bytes: u64,
    /// Since the copy was begun.
    pub elapsed_ms: u64,
}

/// How far the log of a sealed replica goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub shard: ShardId,
    pub epoch: Epoch,
    pub disk: DiskId,
    pub process: u64,
    /// Its last entry, which is durable.
    pub last: Position,
    /// The first process of the disk from which on each left its log closed.
    pub intact_since: u64,
    /// Whether it once held all that its primary had committed, after the last cut of its log.
    pub whole: bool,
    /// Whether it once held all that its primary had committed since the last unclean end of a
    /// process on its disk.
    pub level: bool,
}

/// How a node stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub pid: u32,
    /// The nonce of the sender's boot: a report that comes late may be of a former one.
    pub nonce: u64,
    pub catalog_version: u64,
    pub ready: bool,
    /// The term in which the sender leads the control group, if it does.
    pub leads: Option<u64>,
    /// Whether it wants a lease and has none.
    pub unleased: bool,
    /// Bytes of its log that a loss of power would leave.
    pub log: u64,
    /// How it stands in the control group, if it is a voter.
    pub control: Option<ControlReport>,
    /// Whom the sender has heard lately: a link may be cut one way.
    pub hears: Vec<NodeId>,
    /// Counts the sender's reports.
    pub number: u64,
    /// Whether `replicas` are all of its replicas; else they are those that stand otherwise than in
    /// the report before.
    pub is_full: bool,
    pub replicas: Vec<ReplicaReport>,
    /// Replicas that are there no more.
    pub gone: Vec<ShardId>,
    /// How old what those replicas show is that rest with a node.
    pub rest_lags_ms: Vec<(NodeId, u64)>,
    /// Whose reports it lacks one of: the next is to be full.
    pub lacks: Vec<NodeId>,
    /// For how long its disk has not answered, if that is too long.
    pub stalled_ms: Option<u64>,
    /// Why it gives away its offices, and takes none, if it does.
    pub hands_over: Option<Why>,
}

/// How a voter of the control group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReport {
    pub term: u64,
    /// Up to where it knows the group to have agreed.
    pub commit: u64,
    /// Its disk is new, and it neither votes nor campaigns.
    pub muted: bool,
}

/// How one of its replicas stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    pub shard: ShardId,
    pub role: ReportedRole,
    pub epoch: u64,
    /// What it has applied.
    pub position: Position,
    /// As of this report; since then it grows.
    pub lag_ms: Option<u64>,
    pub stopped: bool,
    /// With which node it rests, if it does: then its lag is that of all that do.
    pub rests_with: Option<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportedRole {
    Primary,
    Starting,
    Replica,
    Learner,
}

impl Message {
    /// The feature level that its kind came with: it is sent only from there on.
    pub fn level(&self) -> u32 {
        match self {
            Message::Rehearsal => REHEARSAL_LEVEL,
            _ => FIRST_LEVEL,
        }
    }

    /// Whether leases, failovers or the group's elections wait for it: then it must not wait behind
    /// clients' commands and entries.
    pub fn is_urgent(&self) -> bool {
        match self {
            Message::Raft(_)
            | Message::Report(_)
            | Message::CopyProgress(_)
            | Message::LeaseAsk(_)
            | Message::LeaseGranted { .. }
            | Message::Seal { .. }
            | Message::Sealed(_)
            | Message::HandOver { .. } => true,
            Message::Propose { .. }
            | Message::Outcome { .. }
            | Message::NotLeader { .. }
            | Message::ReadCatalog { .. }
            | Message::CatalogRead { .. }
            | Message::Catalog { .. }
            | Message::Figures(_)
            | Message::ClockAsk { .. }
            | Message::ClockTold { .. }
            | Message::Rehearsal => false,
        }
    }
}

/// A message of each kind, for the captures of a node's tests.
#[doc(hidden)]
#[allow(clippy::unwrap_used, reason = "these names are good ones")]
pub fn one_of_each() -> Vec<Message> {
    let node = |name: &str| NodeId::new(name).unwrap();
    let position = Position::new(3, 77);
    let shard = ShardId(4);
    vec![
        Message::Raft(consensus::Message {
            term: 2,
            body: consensus::Body::HeartbeatResponse {
                commit: 5,
                read: None,
            },
        }),
        Message::Propose {
            request: 1,
            command: vec![1, 2],
        },
        Message::Outcome {
            request: 1,
            result: Err("no".into()),
        },
        Message::Outcome {
            request: 1,
            result: Ok(8),
        },
        Message::NotLeader {
            request: 1,
            leader: Some(9),
        },
        Message::ReadCatalog { request: 5 },
        Message::CatalogRead {
            request: 5,
            version: 8,
        },
        Message::Catalog { bytes: vec![1] },
        Message::Report(Report {
            pid: 42,
            nonce: 9,
            catalog_version: 8,
            ready: true,
            leads: Some(4),
            unleased: true,
            log: 4096,
            control: Some(ControlReport {
                term: 4,
                commit: 8,
                muted: false,
            }),
            hears: vec![node("us-1")],
            number: 17,
            is_full: true,
            replicas: vec![ReplicaReport {
                shard,
                role: ReportedRole::Replica,
                epoch: 3,
                position,
                lag_ms: Some(120),
                stopped: false,
                rests_with: Some(node("us-2")),
            }],
            gone: vec![ShardId(9)],
            rest_lags_ms: vec![(node("us-2"), 90)],
            lacks: vec![node("us-3")],
            stalled_ms: Some(3200),
            hands_over: Some(Why::Ends),
        }),
        Message::LeaseAsk(LeaseAsk {
            number: 11,
            nonce: 77,
            catalog_version: 8,
            length_ms: 500,
        }),
        Message::LeaseGranted { number: 11 },
        Message::Seal {
            shard,
            epoch: Epoch(4),
        },
        Message::Sealed(Sealed {
            shard,
            epoch: Epoch(4),
            disk: DiskId(12),
            process: 5,
            last: position,
            intact_since: 4,
            whole: true,
            level: false,
        }),
        Message::CopyProgress(vec![CopyProgress {
            shard,
            source: node("us-1"),
            keys: 3,
            keys_total: Some(9),
            bytes: 600,
            elapsed_ms: 20,
        }]),
        Message::ClockAsk { number: 77 },
        Message::ClockTold {
            number: 77,
            wall_ms: 1_700_000_000_000,
            kept_ms: Some(1_700_000_000_001),
        },
        Message::HandOver {
            shard,
            epoch: Epoch(4),
            why: Why::ClockIsOff,
        },
        Message::Figures(Figures {
            version: "1.2.3".into(),
            uptime_ms: 61_000,
            stores: BTreeMap::from([(
                shard,
                StoreFigures {
                    keys: 5,
                    bytes: 900,
                },
            )]),
        }),
        Message::Rehearsal,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A variant that is added must be added to `one_of_each`, where it is captured.
    #[test]
    fn every_message_is_captured() {
        let numbers: BTreeSet<u8> = one_of_each()
            .iter()
            .map(|message| postcard::to_allocvec(message).unwrap()[0])
            .collect();
        let last = *numbers.last().unwrap();
        assert!(numbers.into_iter().eq(0..=last));
        // Behind the last there is none.
        assert!(postcard::from_bytes::<Message>(&[last + 1; 400]).is_err());
    }
}
