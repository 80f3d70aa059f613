//! The door between this node and its gate: what the node does of what that room wants
//! ([`Node::with_gate`]), what the gate sees of the others while it works ([`Here`]), and what those
//! say to clients who wait for them.

use crate::{
    cluster_door::Wish,
    message::Message,
    node::{ConnId, Effect, Lane, Node},
};
use bytes::{Bytes, BytesMut};
use cluster::Cluster;
use commands::Spec;
use gate::{Answer, Gate, Host, Output, Target, WholeNode};
use model::{NodeId, Now, Position, ShardId};
use resp::Encoder;
use shards::{Asking, Did, Evaluated, Shards};
use std::time::Duration;
use storage::store::Stores;

/// The other rooms, as the gate sees them.
pub(crate) struct Here<'a, S: Stores> {
    shards: &'a mut Shards<S, Target>,
    cluster: &'a Cluster<Wish>,
    now: Now,
}

impl<S: Stores> Host for Here<'_, S> {
    #[inline]
    fn evaluate(
        &mut self,
        shard: ShardId,
        spec: &Spec,
        args: &[&[u8]],
        asking: &Asking,
    ) -> Evaluated {
        self.shards.evaluate(shard, spec, args, asking)
    }

    #[inline]
    fn reply(&mut self) -> &mut BytesMut {
        self.shards.reply()
    }

    #[inline]
    fn take_did(&mut self) -> Did {
        self.shards.take_did()
    }

    #[inline]
    fn wait(&mut self, shard: ShardId, position: Position, wrote: bool, to: Target, reply: Bytes) {
        self.shards.wait(shard, position, wrote, to, reply);
    }

    fn waiting(&self, shard: ShardId) -> impl Iterator<Item = (&Target, Position)> {
        self.shards.waiting(shard)
    }

    fn waiting_bytes(&self) -> usize {
        self.shards.waiting_bytes()
    }

    fn applied(&self, shard: ShardId) -> Option<Position> {
        let replica = self.shards.replica(shard)?;
        Some(replica.applied())
    }

    fn is_primary(&self, shard: ShardId) -> bool {
        let replica = self.shards.replica(shard);
        replica.is_some_and(|replica| replica.is_primary(self.now))
    }

    fn may_act(&self, shard: ShardId) -> bool {
        self.shards.may_act(shard)
    }

    fn matched(&self, shard: ShardId, index: u64) -> usize {
        let members = self.shards.replica(shard).map(|replica| replica.members());
        let have = members.unwrap_or_default().into_iter();
        have.filter(|member| member.matched >= index).count()
    }

    fn work(&mut self, more: u64) {
        self.shards.work(more);
    }

    #[inline]
    fn worked(&self) -> u64 {
        self.shards.worked()
    }

    fn is_up(&self, node: &NodeId) -> bool {
        self.cluster.peers().is_up(node, self.now.monotonic)
    }

    fn is_primary_at(&self, node: &NodeId, shard: ShardId) -> bool {
        self.cluster.is_primary_at(node, shard)
    }

    fn readable_lag(&self, node: &NodeId, shard: ShardId) -> Option<(bool, Duration)> {
        self.cluster.readable_lag(node, shard)
    }
}

impl<S: Stores> Node<S> {
    /// Something happens at the gate; what it, and the replicas that it asked, want then is done.
    #[inline]
    pub(crate) fn with_gate<T>(
        &mut self,
        happens: impl FnOnce(&mut Gate, &mut Here<'_, S>) -> T,
    ) -> T {
        let mut here = Here {
            shards: &mut self.shards,
            cluster: &self.cluster,
            now: self.now,
        };
        let result = happens(&mut self.gate, &mut here);
        self.carry_out_shards();
        if self.gate.wants_something() {
            self.carry_out_gate();
        }
        result
    }

    /// Does what the gate wants, one thing after the other: what is wanted meanwhile waits until the
    /// first is done.
    pub(crate) fn carry_out_gate(&mut self) {
        if std::mem::replace(&mut self.carrying_out.gate, true) {
            return;
        }
        while let Some(output) = self.gate.poll() {
            match output {
                Output::Grown(conn) => {
                    (self.effects).push_back(Effect::ClientOutput(ConnId(conn)));
                }
                Output::Accepts(conn) => {
                    (self.effects).push_back(Effect::ClientResumed(ConnId(conn)));
                }
                Output::Close(conn) => {
                    (self.effects).push_back(Effect::CloseClient(ConnId(conn)));
                }
                Output::Forward { to, forward } => {
                    self.send(&to, Lane::Ordinary, &Message::Forward(forward));
                }
                Output::Answer { to, id, answer } => self.send_answer(to, id, answer),
                Output::Asked {
                    conn,
                    command,
                    args,
                } => {
                    let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
                    self.asked(conn, command, &args);
                    self.with_gate(|gate, here| gate.go_on(conn, here));
                }
                Output::Refresh { conn, args } => {
                    let wish = Wish::Newest { conn, args };
                    self.with_cluster(|cluster, _| cluster.refresh(wish));
                }
            }
        }
        self.carrying_out.gate = false;
    }

    fn send_answer(&mut self, to: NodeId, id: u64, answer: Answer) {
        let says_something = matches!(answer, Answer::Reply { .. });
        // What comes behind a long one must not wait for it: heartbeats, leases.
        let lane = match answer.is_long() {
            true => Lane::Bulk,
            false => Lane::Ordinary,
        };
        let message = Message::Forwarded { id, answer };
        if says_something {
            let message = message.encode().into();
            (self.effects).push_back(Effect::Answer { to, lane, message });
        } else {
            self.send(&to, lane, &message);
        }
    }

    /// A client's command that looks at the whole node.
    fn asked(&mut self, conn: u64, command: WholeNode, args: &[&[u8]]) {
        match command {
            WholeNode::Info => self.info(conn, args),
            WholeNode::Role => self.role(conn),
            WholeNode::MemoryStats => self.memory_stats(conn),
            WholeNode::Config(command) => self.config_command(conn, command, args),
            WholeNode::Save(command) => self.save_command(conn, command, args),
            WholeNode::Keyspace(command) => self.keyspace_command(conn, command, args),
            WholeNode::Quire(command) => self.quire_command(conn, command, args),
        }
    }

    // ---- what clients are answered ------------------------------------------------------------

    /// The next reply of a client.
    pub(crate) fn answer(&mut self, conn: u64, write: impl FnOnce(&mut Encoder<'_>)) {
        self.gate.answer(conn, write);
        self.carry_out_gate();
    }

    /// An error as the next reply of a client.
    pub(crate) fn answer_error(&mut self, conn: u64, line: &str) {
        self.answer(conn, |out| out.error(line));
    }

    /// `HELP` of the container that `args` begin with.
    pub(crate) fn answer_help(&mut self, conn: u64, args: &[&[u8]]) {
        self.gate.answer_help(conn, args);
        self.carry_out_gate();
    }

    /// A place for a reply that comes later.
    pub(crate) fn hold(&mut self, conn: u64) -> Option<Target> {
        self.gate.hold(conn)
    }

    /// Gives a reply to whom it belongs; it shows nothing of a shard.
    pub(crate) fn deliver(&mut self, target: &Target, reply: Bytes) {
        self.with_gate(|gate, here| {
            gate.deliver(target, ShardId(0), Position::ZERO, reply, here);
        });
    }

    /// An error for whoever waits.
    pub(crate) fn reply_error(&mut self, target: &Target, line: &str) {
        self.with_gate(|gate, here| gate.reply_error(target, line, here));
    }
}
