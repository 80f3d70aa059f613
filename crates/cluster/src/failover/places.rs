//! Better places: for the leadership of the voters' group, and for replicas whose nodes are away.

use super::Leading;
use crate::{cluster::Cluster, control::Asker, host::Host};
use control::command::Command;
use model::{NodeId, Region};
use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

/// How often it is looked for a better place of the leadership.
pub(super) const PLACE_EVERY: Duration = Duration::from_secs(1);
/// How long leadership stays after a failover: the new primary asks for its first lease meanwhile, and
/// another leader would first wait for the end of those that this one has granted.
const STAYS_AFTER_FAILOVER: Duration = Duration::from_secs(3);
/// How often it is looked for replicas to be replaced.
const REPLACE_EVERY: Duration = Duration::from_secs(1);

impl<A> Cluster<A> {
    /// Leadership goes to the voter that does best: in the region of most primaries, so that
    /// leases are near, and of those on the one with the fewest itself, so that one node's end
    /// is not the end of both. A leader whose disk does not answer lets any other lead that can.
    pub(super) fn place_leadership(&mut self, leading: &mut Leading, host: &impl Host) {
        let now = self.now.monotonic;
        let stalled = host.stalled_for().is_some();
        let ends = self.is_ending() && self.offices() == 0;
        if !leading.cases.is_empty() && !stalled {
            leading.next_placement = now + STAYS_AFTER_FAILOVER;
            return;
        }
        if now < leading.next_placement && !ends {
            return;
        }
        leading.next_placement = now + PLACE_EVERY;
        let mut primaries: BTreeMap<&Region, usize> = BTreeMap::new();
        for (node, shards) in &leading.by_primary {
            if let Some(info) = self.catalog.nodes.get(node) {
                *primaries.entry(&info.region).or_default() += shards.len();
            }
        }
        let worth = |node: &NodeId| {
            let region = self.catalog.nodes.get(node).map(|info| &info.region);
            let near = region.and_then(|r| primaries.get(r)).copied();
            let own = leading.by_primary.get(node).map_or(0, Vec::len);
            (near.unwrap_or(0), Reverse(own))
        };
        let there = |node: &&NodeId| {
            let can = !self.control.is_muted(node)
                && !self.peers.is_stalled(node)
                && !self.peers.hands_over(node);
            can && self.peers.is_up(node, now)
        };
        let voters = self.control.voters().iter();
        let best = voters.filter(there).max_by_key(|node| worth(node));
        if let Some(best) =
            best.filter(|best| stalled || ends || worth(best) > worth(&self.config.id))
        {
            let best = best.clone();
            tracing::info!(to = %best, "the control group gets another leader");
            self.control.hand_over(&best);
        }
    }

    /// Replicas whose nodes are silent for too long get another node of their region.
    pub(super) fn replace_members(&mut self, leading: &mut Leading) {
        let now = self.now.monotonic;
        if now < leading.next_replacements || leading.may_be_leased_from_before(now) {
            return;
        }
        leading.next_replacements = now + REPLACE_EVERY;
        if leading.silent.is_empty() && leading.stalled.is_empty() {
            return;
        }
        let catalog = self.catalog.clone();
        for (id, facts) in catalog.shards.iter().map(|(id, facts)| (*id, facts)) {
            let is_elected = catalog.is_elected(facts);
            let Some(keyspace) = catalog.keyspaces.get(&facts.keyspace) else {
                continue;
            };
            let replace_after = keyspace.strategy.replace_after;
            for member in facts.members() {
                let silence = leading.away(&member.node);
                // What nobody has heard since this node began may not have been silent long.
                let silence = silence.map(|s| s.min(now.saturating_sub(leading.since)));
                let Some(silence) = silence.filter(|s| *s >= replace_after) else {
                    continue;
                };
                let away = |node: &NodeId| leading.away(node).is_some();
                let can_change = match is_elected {
                    // They decide it themselves, by a majority.
                    true => {
                        2 * facts.members().filter(|m| !away(&m.node)).count()
                            > facts.members().count()
                    }
                    false => member.node != facts.primary && !away(&facts.primary),
                };
                if !can_change {
                    continue;
                }
                let newcomer = control::planner::newcomer(&catalog, id, &member.region, away);
                let taken =
                    (facts.replicas.iter()).any(|r| r.replaces.as_ref() == Some(&member.node));
                if let Some(newcomer) = newcomer.filter(|_| !taken) {
                    let seconds = silence.as_secs();
                    let command = Command::ReplaceReplica {
                        shard: id,
                        epoch: facts.epoch,
                        gone: member.node.clone(),
                        newcomer,
                        cause: match leading.silent.get(&member.node) {
                            Some(_) => format!("{} has been silent for {seconds} s", member.node),
                            None => format!(
                                "the disk of {} has not answered for {seconds} s",
                                member.node
                            ),
                        },
                        at_ms: self.now.wall_ms,
                    };
                    self.ask_for(command, Asker::Note);
                }
            }
        }
    }
}
