//! The door between this node and its replicas: what the node does of what that room wants
//! ([`Node::with_shards`]), and what it tells it of the cluster.

use crate::{
    message::{self, Message},
    node::{Effect, Lane, Node},
};
use control::failover::{self, Decision, Heard};
use gate::Target;
use model::{Catalog, NodeId, Now, ShardId};
use shards::{Aside, AsideDone, Output, Shards};
use std::sync::Arc;
use storage::store::Stores;

/// Each round of settling answers what the one before caused; a topology comes to rest in a few.
const SETTLE_ROUNDS_MAX: u32 = 64;

impl<S: Stores> Node<S> {
    /// Something happens in the room of replicas; what it wants then is done.
    pub(crate) fn with_shards<T>(
        &mut self,
        happens: impl FnOnce(&mut Shards<S, Target>) -> T,
    ) -> T {
        let result = happens(&mut self.shards);
        self.carry_out_shards();
        result
    }

    /// The next piece of work for another thread, if none is under way: `aside_done` says when
    /// it is over.
    pub fn take_aside(&mut self) -> Option<Aside> {
        self.shards.take_aside()
    }

    /// What [`Node::take_aside`] gave last is over.
    pub fn aside_done(&mut self, done: AsideDone, now: Now) {
        self.arrives(now);
        self.with_shards(|shards| shards.aside_done(done));
    }

    /// How many shards are held here whose places other nodes have taken.
    pub fn leaving_count(&self) -> usize {
        self.shards.figures().leaving
    }

    /// Tells the room of replicas how the cluster stands.
    pub(crate) fn tell_terms(&mut self) {
        let terms = self.shards.terms();
        terms.leased_until = self.cluster.lease().until();
        terms.is_sound = self.cluster.is_sound();
        terms.is_clock_settled = self.cluster.is_clock_settled();
        terms.holds_for_others = self.cluster.holds_for_others();
        terms.log_needed_from = self.cluster.log_needed_from();
        terms.is_ending = self.cluster.is_ending();
        terms.held.clear();
        terms.held.extend(self.cluster.held());
    }

    /// The rooms go by another catalog: shards come, change and go with it.
    pub(crate) fn follow_catalog(&mut self, catalog: Arc<Catalog>) {
        if self.shards.is_stopped() {
            return; // Its disk takes nothing more: it must take up nothing.
        }
        self.catalog = catalog.clone();
        self.gate.follow(catalog.clone());
        self.with_shards(|shards| shards.follow_catalog(catalog));
    }

    /// Does what the room of replicas wants, one thing after the other: what is wanted meanwhile
    /// waits until the first is done.
    pub(crate) fn carry_out_shards(&mut self) {
        if self.shards.has_answered() {
            self.cluster.lease().answer();
        }
        if self.carrying_out.shards {
            return;
        }
        self.carrying_out.shards = true;
        while let Some(output) = self.shards.take_output() {
            self.carry_out(output);
        }
        self.carrying_out.shards = false;
    }

    fn carry_out(&mut self, output: Output<Target>) {
        match output {
            Output::Send { to, lane, message } => {
                let lane = match lane {
                    shards::Lane::Ordinary => Lane::Ordinary,
                    shards::Lane::Bulk => Lane::Bulk,
                    shards::Lane::Control => Lane::Control,
                };
                self.send(&to, lane, &Message::Shards(message));
            }
            Output::SendReplica { to, shard, message } => {
                let message = message::encode_replica(shard, message);
                let lane = Lane::Ordinary;
                (self.effects).push_back(Effect::Send { to, lane, message });
            }
            Output::Told { from, message } => self.verification_told(&from, message),
            Output::Reply {
                target,
                shard,
                position,
                reply,
            } => self.with_gate(|gate, here| gate.deliver(&target, shard, position, reply, here)),
            Output::GaveUp {
                target,
                shard,
                wrote,
                why,
            } => self.with_gate(|gate, here| gate.gave_up(&target, shard, wrote, why, here)),
            Output::Round {
                shard,
                ticket,
                round,
            } => self.with_gate(|gate, here| gate.round_ended(shard, ticket, round, here)),
            Output::Led { shard, leader } => self.leaders.saw(shard, leader),
            Output::MovedOn(shard) => self.with_gate(|gate, here| gate.moved_on(shard, here)),
            Output::Retired(shard) => self.with_gate(|gate, here| gate.retired(shard, here)),
            Output::Changed(shard) => self.cluster.changed(shard),
            Output::ReportSoon => self.cluster.report_soon(),
            Output::WantLease => self.cluster.lease().want(self.now.monotonic),
            Output::Deposed => self.cluster.lease().deposed(),
            Output::Sealed { to, sealed } => self.sealed(&to, sealed),
            Output::Confirm { shard, node, disk } => self.cluster.ask_confirm(shard, node, disk),
            Output::Degraded {
                shard,
                epoch,
                degraded,
            } => self.cluster.ask_degraded(shard, epoch, degraded),
            Output::Damaged { shard, what } => {
                let could = self.another_could_lead(shard);
                self.with_shards(|shards| shards.store_damaged(shard, what, could));
            }
            Output::Note { shard, kind, text } => self.cluster.note(shard, kind, text),
            Output::Stop(reason) => self.effects.push_back(Effect::Stop(reason)),
        }
    }

    fn sealed(&mut self, to: &NodeId, sealed: cluster::message::Sealed) {
        if *to == self.config.id {
            self.with_cluster(|cluster, here| cluster.sealed_here(sealed, here));
        } else {
            let sealed = cluster::Message::Sealed(sealed);
            self.send(to, Lane::Control, &Message::Cluster(sealed));
        }
    }

    /// Whether somebody else would be named if this primary were gone, as it seems from here.
    fn another_could_lead(&self, id: ShardId) -> bool {
        let Some(facts) = self.catalog.shards.get(&id) else {
            return false;
        };
        let Some(keyspace) = self.catalog.keyspaces.get(&facts.keyspace) else {
            return false;
        };
        let now = self.now.monotonic;
        let others = facts.members().filter(|m| m.node != self.config.id);
        let heard = others.filter_map(|member| {
            let fresh = self.cluster.readable_lag(&member.node, id).is_some();
            let report = self.replica_report(&member.node, id)?;
            let disk = member.disk?;
            (fresh && self.cluster.peers().is_up(&member.node, now)).then(|| Heard {
                node: member.node.clone(),
                process: 0,
                disk,
                sealed: facts.epoch.next(),
                last: report.position,
                intact_since: 0,
                whole: true,
                level: true,
            })
        });
        let heard: Vec<Heard> = heard.collect();
        let nodes = &self.catalog.nodes;
        let (me, avoided) = (&self.config.id, self.cluster.handing_over());
        let decision = failover::decide(id, facts, keyspace, &heard, nodes, me, &avoided);
        matches!(decision, Decision::Name { .. })
    }

    /// Carries out what strategies and the control group ask for, until nobody asks.
    pub(crate) fn settle(&mut self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.with_cluster(|cluster, here| cluster.settle(here));
            if self.shards.is_settled() {
                return;
            }
            self.with_shards(Shards::settle_once);
        }
        // What is left is settled in the next turn, so that this one ends.
        self.unsettled += 1;
        if self.unsettled.is_power_of_two() {
            let shards: Vec<u64> = self.shards.unsettled().map(|id| id.0).take(8).collect();
            tracing::error!(
                ?shards,
                times = self.unsettled,
                "shards do not come to rest: this is a defect, please report it"
            );
        }
    }

    /// What is done now and then.
    pub(crate) fn upkeep(&mut self) {
        self.with_shards(Shards::upkeep);
        if let Some(given_up) = self.shards.release_due() {
            self.with_cluster(|cluster, here| {
                cluster.compact(given_up, here);
                cluster.mark_level(given_up, here);
            });
            self.with_shards(|shards| shards.release(given_up));
        }
    }

    /// How often shards, or the control group, did not come to rest within a turn, as they always
    /// should.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }
}
