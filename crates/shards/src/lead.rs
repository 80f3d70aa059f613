//! Giving up the lead of shards whose replicas elect their primary: of all when the node is to end, or
//! its disk does not answer. Writes under way are committed under the next, and answered here.

use crate::Shards;
use model::{NodeId, ShardId};
use replication::protocol::{Order, Role};
use std::time::Duration;
use storage::store::Stores;

/// Who was heard so lately can take over.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

impl<S: Stores, T> Shards<S, T> {
    /// Has those hand over that lead here and had better not.
    pub(crate) fn hand_leads_over(&mut self) {
        if !self.terms.is_ending && !self.log.is_stalled() {
            return;
        }
        for (id, to) in self.elected_here().collect::<Vec<_>>() {
            if let Some(protocol) = self.all.get_mut(&id).and_then(|s| s.protocol.as_mut()) {
                protocol.order(Order::TransferTo(to), self.now);
                self.unsettled.add(id);
            }
        }
    }

    /// Who leads a shard that elects its primary, if the replica here knows.
    pub fn leader(&self, id: ShardId) -> Option<&NodeId> {
        let shard = self.all.get(&id).filter(|shard| shard.is_elected)?;
        shard.protocol.as_ref()?.leader()
    }

    /// The shards whose elected primary is here, and who of the others that are there has most of each.
    pub(crate) fn elected_here(&self) -> impl Iterator<Item = (ShardId, NodeId)> {
        let now = self.now;
        self.all.iter().filter_map(move |(id, shard)| {
            let protocol = shard.protocol.as_ref().filter(|_| shard.is_elected)?;
            if !matches!(protocol.state(now).role, Role::Primary | Role::Starting) {
                return None;
            }
            let lately = |at: Duration| now.monotonic.saturating_sub(at) < HEARD_WITHIN;
            let members = protocol.members().into_iter();
            let there = members.filter(|member| member.heard_at.is_some_and(lately));
            let most = there.max_by_key(|member| member.matched)?;
            Some((*id, most.node))
        })
    }
}
