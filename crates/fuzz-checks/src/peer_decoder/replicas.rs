//! A primary and a replica that the others say anything to.

use super::messages;
use crate::input::parts;
use model::{
    AckRule, DiskId, Entry, EntryKind, Epoch, EpochHistory, NodeId, Now, OnTimeout, Position,
    Region, ShardId, Stamp, catalog,
};
use replication::{
    primary_replica::{PrimaryReplica, Tuning},
    protocol::{Assignment, Copied, Identity, Office, Order, Output, Primacy, Protocol, Recovered},
};
use std::time::Duration;

/// What may be asked of the host behind one input; far above what any input causes.
const OUTPUTS_MAX: usize = 10_000;

/// The tag of a part: its lowest 2 bits are the sender, 4: after a tick, 8: the link was made
/// anew before.
pub(super) fn at_work(bytes: &[u8], mend: bool) {
    for node in ["a", "b"] {
        let mut host = Host::new(node);
        for (n, (tag, message)) in parts(bytes).enumerate() {
            let mut message = message.to_vec();
            if mend {
                messages::mend_entries(&mut message);
            }
            let now = Now::at_ms(1000 + 20 * n as u64);
            let from = NodeId::new(["a", "b", "c", "stranger"][usize::from(tag & 3)]).unwrap();
            if tag & 8 != 0 {
                host.replica.link_changed(&from, true, now);
            }
            if tag & 4 != 0 {
                host.replica.tick(now);
            }
            host.replica.receive(&from, message.into(), now);
            host.drive(now);
        }
    }
}

/// A replica and its log.
struct Host {
    replica: PrimaryReplica,
    log: Vec<Entry>,
    first_index: u64,
}

fn member(node: &str, disk: u64) -> catalog::Replica {
    catalog::Replica {
        node: NodeId::new(node).unwrap(),
        region: Region::new("us").unwrap(),
        disk: Some(DiskId(disk)),
        replaces: None,
        added: 0,
    }
}

impl Host {
    /// Three entries of epoch 1 are in its log and store; epoch 2 has just begun, and `a` is
    /// its primary.
    fn new(node: &str) -> Self {
        let members = vec![member("a", 1), member("b", 2), member("c", 3)];
        let own = members.iter().find(|m| m.node.as_str() == node).unwrap();
        let identity = Identity {
            node: own.node.clone(),
            region: own.region.clone(),
            shard: ShardId(4),
            disk: own.disk.unwrap(),
            boot: 1,
        };
        let log: Vec<Entry> = (1..=3)
            .map(|index| {
                let position = Position::new(1, index);
                Entry::new(position, Stamp(1000 + index), EntryKind::Mutation, 1, b"")
            })
            .collect();
        let mut history = EpochHistory::default();
        history.note(Position::new(1, 1));
        let recovered = Recovered {
            history,
            last: Position::new(1, 3),
            stamp: Stamp(1003),
            first_index: 1,
            commit: 2,
            applied: 2,
            ..Recovered::default()
        };
        let mut host = Host {
            replica: PrimaryReplica::new(identity, recovered, Tuning::default()),
            log,
            first_index: 1,
        };
        let now = Now::at_ms(1000);
        let assignment = Assignment {
            shard: ShardId(4),
            members,
            office: Office::PrimaryReplica(Primacy {
                epoch: Epoch(2),
                primary: NodeId::new("a").unwrap(),
                in_office: node == "a",
                ack: AckRule::Quorum,
                on_timeout: OnTimeout::Block,
                timeout: Duration::from_secs(10),
                degraded: false,
                decreed: None,
            }),
        };
        host.replica.assign(assignment, now);
        host.drive(now);
        let _ = host.replica.propose(EntryKind::Mutation, 1, b"", now);
        host.drive(now);
        host
    }

    fn drive(&mut self, now: Now) {
        for _ in 0..OUTPUTS_MAX {
            let Some(output) = self.replica.poll(now) else {
                let state = self.replica.state(now);
                assert!(state.commit <= state.tip.index);
                return;
            };
            self.carry_out(output, now);
        }
        panic!("a replica that is never done");
    }

    fn carry_out(&mut self, output: Output, now: Now) {
        match output {
            Output::Append { entry, .. } => {
                let index = entry.position.index;
                self.log.push(entry);
                self.replica.durable(index, now);
            }
            Output::Note { number, .. } => self.replica.noted(number, now),
            Output::Truncate { after } => self.log.retain(|e| e.position.index <= after),
            Output::Commit { upto } => self.replica.applied(upto, now),
            Output::Fetch { to, from, .. } => {
                let held = self.log.iter().filter(|e| e.position.index >= from);
                let entries = (from >= self.first_index).then(|| held.cloned().collect());
                self.replica.fetched(&to, from, entries, now);
            }
            Output::NeedsCopy { .. } => {
                let (at, history) = (Position::new(1, 3), EpochHistory::default());
                self.first_index = at.index + 1;
                self.log.clear();
                let copied = Copied {
                    at,
                    history,
                    stamp: Stamp(1003),
                    ..Copied::default()
                };
                self.replica.installed(copied, now);
            }
            Output::NeedsRewind { .. } => self.replica.order(Order::RewindGivenUp, now),
            Output::Send { message, .. } => {
                let told = replication::primary_replica::fuzzing::message(message.into_bytes());
                assert!(told.is_some(), "what it says can be read");
            }
            Output::Wish(_)
            | Output::MayRest { .. }
            | Output::ReadReady { .. }
            | Output::ReadLost { .. }
            | Output::Lost { .. }
            | Output::Stop { .. } => {}
        }
    }
}
