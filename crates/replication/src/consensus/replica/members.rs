//! Who is who in a group, who asks to lead before whom, and the core for it.

use super::{Tuning, log::LogView};
use crate::{consensus::group::mix, protocol::Identity};
use model::{NodeId, Region, ShardId, catalog::Replica};
use raft::{Config, RawNode, eraftpb::ConfState};
use std::collections::BTreeMap;

/// Ticks from one heartbeat to the next.
const HEARTBEAT_TICKS: u32 = 2;
/// Ticks of silence after which the first in turn asks to be elected, and ticks from one's turn to
/// the next one's: where all members are in one region, and where they are far apart.
const NEAR: (u32, u32) = (10, 3);
const FAR: (u32, u32) = (30, 8);
/// What is proposed and not committed, in bytes, before more is refused.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;

/// Who is who. A member is a disk.
pub(super) struct Group {
    pub(super) shard: ShardId,
    pub(super) own: u64,
    pub(super) nodes: BTreeMap<u64, NodeId>,
    pub(super) regions: BTreeMap<u64, Region>,
    pub(super) preferred: Option<Region>,
}

impl Group {
    pub(super) fn new(identity: &Identity, members: &[Replica]) -> Self {
        let on_disks = || members.iter().filter_map(|m| Some((m.disk?.0, m)));
        Group {
            shard: identity.shard,
            own: identity.disk.0,
            nodes: on_disks().map(|(id, m)| (id, m.node.clone())).collect(),
            regions: on_disks().map(|(id, m)| (id, m.region.clone())).collect(),
            preferred: None,
        }
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
        voters.iter().filter(|v| key(**v) < key(id)).count() as u32
    }

    pub(super) fn spread(&self) -> (u32, u32) {
        let mut regions = self.regions.values();
        let first = regions.next();
        match regions.all(|region| Some(region) == first) {
            true => NEAR,
            false => FAR,
        }
    }

    pub(super) fn id_of(&self, node: &NodeId) -> Option<u64> {
        let mut all = self.nodes.iter();
        all.find(|(_, n)| *n == node).map(|(id, _)| *id)
    }
}

pub(super) fn voters_only(voters: &[u64]) -> ConfState {
    ConfState {
        voters: voters.to_vec(),
        ..Default::default()
    }
}

pub(super) fn core(
    group: &Group,
    voters: &[u64],
    log: LogView,
    tuning: Tuning,
) -> Result<RawNode<LogView>, String> {
    let (election, turn) = group.spread();
    let config = Config {
        id: group.own,
        applied: log.applied,
        election_tick: election as usize,
        min_election_tick: election as usize,
        max_election_tick: (election + 2 + (voters.len() as u32) * turn) as usize,
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
