//! Who is who in a group, who asks to lead before whom, and the core for it.

use super::{Tuning, log::LogView};
use crate::{
    consensus::group::mix,
    protocol::{Election, Identity},
};
use model::{DiskId, NodeId, Region, ShardId, catalog::Replica};
use raft::{Config, RawNode};
use std::collections::BTreeMap;

/// Ticks from one heartbeat to the next.
const HEARTBEAT_TICKS: u32 = 2;
/// Ticks of silence after which the first in turn asks to be elected, and ticks from one's turn to
/// the next one's: where all members are in one region, and where they are far apart.
const NEAR: (u32, u32) = (10, 3);
const FAR: (u32, u32) = (30, 8);
/// Turns that differ from each other: in a larger group the last ask together.
const TURNS: u32 = 32;
/// What is proposed and not committed, in bytes, before more is refused.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;

/// The number of a replica in its group. Nobody has it twice: on another disk, or after it had left, a
/// node is somebody else, who has voted for nobody.
pub(super) fn id(disk: DiskId, added: u64) -> u64 {
    match added {
        0 => disk.0,
        _ => mix(disk.0 ^ mix(added)).max(1),
    }
}

/// Who is who. A member is a replica on a disk.
pub(super) struct Group {
    pub(super) shard: ShardId,
    pub(super) own: u64,
    pub(super) nodes: BTreeMap<u64, NodeId>,
    pub(super) regions: BTreeMap<u64, Region>,
    pub(super) preferred: Option<Region>,
    /// Who is to vote.
    pub(super) seats: Vec<Seat>,
    /// The same by their numbers, in order.
    pub(super) wanted: Vec<u64>,
    /// By which wish.
    pub(super) wish: (u64, u64),
}

/// A node that is to vote.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) node: NodeId,
    pub(super) disk: DiskId,
    pub(super) id: u64,
    pub(super) replaces: Option<NodeId>,
    /// Whether the catalog knows that it does, on that disk.
    pub(super) is_confirmed: bool,
}

impl Group {
    pub(super) fn new(identity: &Identity, members: &[Replica], election: &Election) -> Self {
        let own = members.iter().find(|m| m.node == identity.node);
        let added = own.map(|m| m.added);
        let mut group = Group {
            shard: identity.shard,
            own: id(identity.disk, added.unwrap_or(0)),
            nodes: BTreeMap::new(),
            regions: BTreeMap::new(),
            preferred: None,
            seats: Vec::new(),
            wanted: Vec::new(),
            wish: (0, 0),
        };
        group.assigned(members, election);
        group
    }

    /// The catalog says so. Whoever was a member before is still known: it may be in the group.
    pub(super) fn assigned(&mut self, members: &[Replica], election: &Election) {
        self.seats.clear();
        for member in members {
            let wanted = election
                .wanted
                .iter()
                .find(|(node, _)| *node == member.node);
            let present = wanted.map(|(_, disk)| *disk);
            for disk in member.disk.into_iter().chain(present) {
                let id = id(disk, member.added);
                self.nodes.insert(id, member.node.clone());
                self.regions.insert(id, member.region.clone());
            }
            self.seats.extend(present.map(|disk| Seat {
                node: member.node.clone(),
                disk,
                id: id(disk, member.added),
                replaces: member.replaces.clone(),
                is_confirmed: member.disk == Some(disk) && member.replaces.is_none(),
            }));
        }
        self.preferred = election.preferred.clone();
        self.wish = election.wish;
        self.wanted = self.seats.iter().map(|seat| seat.id).collect();
        self.wanted.sort_unstable();
    }

    pub(super) fn is_preferred(&self, id: u64) -> bool {
        self.preferred.is_some() && self.regions.get(&id) == self.preferred.as_ref()
    }

    /// How many voters ask before `id` to lead in `term`: those of the preferred region first, and
    /// among them the term shuffles.
    pub(super) fn place(&self, voters: &[u64], term: u64, id: u64) -> u32 {
        let key = |id: u64| {
            let shuffled = mix(mix(self.shard.0 ^ mix(term)) ^ mix(id));
            (!self.is_preferred(id), shuffled, id)
        };
        let before = voters.iter().filter(|v| key(**v) < key(id)).count() as u32;
        before.min(TURNS - 1)
    }

    pub(super) fn spread(&self) -> (u32, u32) {
        let mut regions = self.regions.values();
        let first = regions.next();
        match regions.all(|region| Some(region) == first) {
            true => NEAR,
            false => FAR,
        }
    }

    /// All that a node was in the group: on each disk, and each time that it was added, somebody else.
    pub(super) fn ids_of(&self, node: &NodeId) -> impl Iterator<Item = u64> {
        let all = self.nodes.iter();
        all.filter(move |(_, n)| *n == node).map(|(id, _)| *id)
    }

    /// Whether the node of this member is another one now.
    pub(super) fn is_former(&self, id: u64) -> bool {
        let node = self.nodes.get(&id);
        let mut seats = self.seats.iter();
        seats.any(|seat| Some(&seat.node) == node && seat.id != id)
    }
}

pub(super) fn core(
    group: &Group,
    log: LogView,
    tuning: Tuning,
) -> Result<RawNode<LogView>, String> {
    let (election, turn) = group.spread();
    let config = Config {
        id: group.own,
        applied: log.applied,
        election_tick: election as usize,
        min_election_tick: election as usize,
        max_election_tick: (election + 2 + TURNS * turn) as usize,
        heartbeat_tick: HEARTBEAT_TICKS as usize,
        check_quorum: true,
        pre_vote: true,
        batch_append: true,
        max_size_per_msg: tuning.message_bytes as u64,
        max_inflight_msgs: 256,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: u64::MAX,
        priority: group.is_preferred(group.own).into(),
        ..Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, log, &logger)
        .map_err(|e| format!("the consensus group of {} can't start: {e}", group.shard))
}
