//! Whose primaries are taken to be gone, and why.

use super::{Leading, STARTUP_GRACE};
use crate::{cluster::Cluster, host::Host};
use control::failover;
use model::{Epoch, NodeId, ShardId, catalog};
use std::time::Duration;

/// A primary that is heard but gets no lease for so long is as good as gone.
const UNLEASED_MAX: Duration = Duration::from_secs(3);

impl<A> Cluster<A> {
    pub(super) fn note_unleased(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        for (node, unleased) in self.peers.unleased() {
            // A process that has not registered yet gets none; it has only just begun.
            let registered = self.catalog.nodes.get(&node).map(|info| info.boot);
            if unleased && registered == self.peers.boot(&node) {
                leading.unleased.entry(node).or_insert(now);
            } else {
                leading.unleased.remove(&node);
            }
        }
    }

    /// At the leader: whose disks do not answer, as they said last. What is new is written down.
    pub(super) fn note_stalled(&mut self, leading: &mut Leading) {
        let stalled = self.peers.stalled();
        if stalled.is_empty() && leading.stalled.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut leading.stalled, stalled);
        let now = &leading.stalled;
        let begun = now.iter().filter(|(node, _)| !before.contains_key(*node));
        let begun: Vec<String> = begun
            .map(|(node, time)| {
                let seconds = time.as_secs_f64();
                format!(
                    "the disk of {node} has not answered for {seconds:.1} s: nothing is read there, and no write is durable there, until it does"
                )
            })
            .collect();
        let ended = before.keys().filter(|node| !now.contains_key(*node));
        let ended: Vec<String> = ended
            .map(|node| format!("the disk of {node} answers again"))
            .collect();
        for (kind, said) in [("disk-stalled", begun), ("recovered", ended)] {
            for text in said {
                self.note_of_node(kind, text);
            }
        }
    }

    /// Why the primary of a shard is taken to be gone; None if it isn't.
    pub(super) fn gone(
        &self,
        leading: &Leading,
        id: ShardId,
        facts: &catalog::Shard,
        host: &impl Host,
    ) -> Option<String> {
        let now = self.now.monotonic;
        let primary = &facts.primary;
        if facts.epoch > Epoch(0) && self.disk_of(primary) != Some(facts.disk) {
            return Some(format!("{primary} came back with another disk"));
        }
        if self.has_returned(facts) {
            return Some(format!(
                "{primary} is back after an unclean end, and may lack what others have"
            ));
        }
        if *primary == self.config.id {
            let reason = host.stop_reason(id)?;
            return Some(format!("its replica on {primary} has stopped ({reason})"));
        }
        if !self.peers.was_heard(primary) && now.saturating_sub(self.started) < STARTUP_GRACE {
            return None;
        }
        if let Some(silence) = leading.silent.get(primary) {
            let seconds = silence.as_secs_f64();
            return Some(format!("{primary} has been silent for {seconds:.1} s"));
        }
        if let Some(stall) = leading.stalled.get(primary) {
            let seconds = stall.as_secs_f64();
            return Some(format!(
                "the disk of {primary} has not answered for {seconds:.1} s"
            ));
        }
        if self.peers.has_stopped(primary, id) {
            return Some(format!("its replica on {primary} has stopped"));
        }
        let since = leading.unleased.get(primary)?;
        let without = now.saturating_sub(*since.max(&leading.since));
        (without >= UNLEASED_MAX).then(|| {
            let seconds = without.as_secs_f64();
            format!("{primary} is heard, but gets no lease since {seconds:.1} s")
        })
    }

    /// Whether the primary is back in another process, and has to be heard like any other member.
    pub(super) fn has_returned(&self, facts: &catalog::Shard) -> bool {
        let boot = self.catalog.nodes.get(&facts.primary).map(|info| info.boot);
        let keyspace = self.catalog.keyspaces.get(&facts.keyspace);
        boot.zip(keyspace).is_some_and(|(boot, keyspace)| {
            boot.process != facts.process
                && !failover::may_resume(facts, &keyspace.strategy.ack, &boot)
        })
    }

    pub(super) fn disk_of(&self, node: &NodeId) -> Option<model::DiskId> {
        self.catalog.nodes.get(node).map(|info| info.boot.disk)
    }

    /// Who should be given nothing new to hold: silent, or on a disk that does not answer.
    /// `stalled_for`: for how long that of this node has not, if that is too long.
    pub fn unfit(&self, stalled_for: Option<Duration>) -> Vec<NodeId> {
        let mut unfit = self.peers.silent(self.now.monotonic);
        unfit.extend(self.peers.stalled());
        if let Some(time) = stalled_for {
            unfit.insert(self.config.id.clone(), time);
        }
        unfit.into_keys().collect()
    }
}
