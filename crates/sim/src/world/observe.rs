//! What passes between nodes, looked at from outside: who writes in which epoch.
//!
//! Nor may anybody act in a new epoch while the lease of whoever held the last one runs; and who
//! said that it is sealed acknowledges nothing of an older epoch, ever again.
//!
//! Everything that a primary says carries the epoch that it acts in. Two processes that send
//! entries (or heartbeats) of one shard in one epoch are two primaries, whatever they believe.

use super::World;
use model::{DiskId, ShardId};
use node::observed::{REPLICA, SEALED};
use std::collections::BTreeMap;

/// What a replica or primary says: see `node::message`, `replication::primary_replica::message` and
/// `replication::consensus::replica::message`.
struct Said {
    shard: u64,
    epoch: u64,
}

const VERSION: u8 = 3;
const APPEND: u8 = 1;
const ACK: u8 = 2;
/// The same of consensus, where the epoch is the sender's term.
const VERSION_ELECTED: u8 = 1;
const APPEND_ELECTED: u8 = 1;

/// Of whoever takes the writes: entries, or a heartbeat where that is the same message.
fn append(message: &[u8]) -> Option<Said> {
    let elected = || said_at(message, [VERSION_ELECTED, APPEND_ELECTED], 28);
    said(message, APPEND).or_else(elected)
}

/// Shard and epoch of a replica's message of one kind, of primary-replica.
fn said(message: &[u8], kind: u8) -> Option<Said> {
    said_at(message, [VERSION, kind], 12)
}

/// The same, with what the message begins with, and where its epoch stands.
fn said_at(message: &[u8], begins: [u8; 2], epoch_at: usize) -> Option<Said> {
    let number = |at: usize| {
        let bytes = message.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let is_it = message.starts_with(&REPLICA) && message.get(10..12) == Some(&begins[..]);
    is_it.then_some(Said {
        shard: number(2)?,
        epoch: number(epoch_at)?,
    })
}

/// Shard and epoch of a replica's word that it is sealed.
fn sealed(message: &[u8]) -> Option<(u64, u64)> {
    let (shard, rest) = varint(message.strip_prefix(&SEALED)?)?;
    Some((shard, varint(rest)?.0))
}

/// A number of seven bits a byte, the lowest first.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = bytes.iter().take(10).position(|b| b & 0x80 == 0)? + 1;
    let (digits, rest) = bytes.split_at(len);
    let digit = |n: u64, b: &u8| n << 7 | u64::from(b & 0x7f);
    Some((digits.iter().rev().fold(0, digit), rest))
}

/// Who acted as primary.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// (shard, epoch) → machine and its life.
    primaries: BTreeMap<(u64, u64), (usize, u64)>,
    /// The machine that acts in a shard's greatest epoch, and that epoch.
    latest: BTreeMap<u64, (u64, usize)>,
    /// (shard, machine) → its life and the epoch, of those that act as primary and have not
    /// heard of a later one. Until such a one hears from its successor it has nothing fresh to
    /// show: what it answers at once it answers as a primary.
    offices: BTreeMap<(u64, usize), (u64, u64)>,
    /// (shard, machine) → below which epoch it said that it refuses everything, on which disk.
    sealed: BTreeMap<(u64, usize), (DiskId, u64)>,
    changes: PrimaryChanges,
}

impl Observed {
    /// The epoch in which a life of a machine is primary of a shard, for all that it knows.
    pub(super) fn office(&self, shard: usize, at: usize, life: u64) -> Option<u64> {
        let (began, epoch) = self.offices.get(&(shard as u64, at))?;
        (*began == life).then_some(*epoch)
    }
}

/// How often shards changed primaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrimaryChanges {
    /// Epochs after a shard's first in which the same node went on.
    pub same_node: u64,
    /// Epochs in which another node took over.
    pub another_node: u64,
}

impl World {
    /// How often shards changed primaries so far.
    pub fn primary_changes(&self) -> PrimaryChanges {
        self.observed.changes
    }

    /// A node that still has a copy whose place another one has taken.
    pub(crate) fn who_holds_a_replaced_copy(&self) -> Option<String> {
        let mut machines = self.machines.iter();
        let holder = machines.find(|m| m.node.as_ref().is_some_and(|n| n.leaving_count() > 0));
        holder.map(|machine| machine.id.to_string())
    }

    /// The node that acts as primary of a shard's greatest epoch, for every shard.
    pub fn primaries(&self) -> Vec<String> {
        let latest = self.observed.latest.values();
        latest
            .map(|(_, at)| self.machines[*at].id.to_string())
            .collect()
    }

    pub(super) fn sends(&mut self, at: usize, message: &[u8]) {
        self.keeps_its_seal(at, message);
        let Some(Said { shard, epoch }) = append(message) else {
            return;
        };
        let me = (at, self.machines[at].life);
        let known = *self.observed.primaries.entry((shard, epoch)).or_insert(me);
        if known != me {
            let other = &self.machines[known.0].id;
            let wrong = self.wrong_at(
                at,
                &format!(
                    "writes to shard {shard} in epoch {epoch}, as another process of {other} did"
                ),
            );
            self.wrong.push_back(wrong.0);
            return;
        }
        let office = (self.machines[at].life, epoch);
        self.observed.offices.insert((shard, at), office);
        let latest = self.observed.latest.entry(shard).or_insert((epoch, at));
        if epoch > latest.0 {
            let before = latest.1;
            let same = before == at;
            *latest = (epoch, at);
            if same {
                self.observed.changes.same_node += 1;
            } else {
                self.observed.changes.another_node += 1;
                self.lease_is_over(before, shard, at, epoch);
                self.note(
                    at,
                    format_args!("acts as primary of shard {shard} in epoch {epoch}"),
                );
            }
        }
    }
}

impl World {
    /// Whoever held the epoch before must know that it holds it no more.
    fn lease_is_over(&mut self, before: usize, shard: u64, at: usize, epoch: u64) {
        let former = &self.machines[before];
        let now = former.now(self.now);
        if (former.node.as_ref()).is_some_and(|n| n.is_primary_under_lease(ShardId(shard), now)) {
            let former = &former.id;
            let wrong = self.wrong_at(
                at,
                &format!("acts as primary of shard {shard} in epoch {epoch}, while the lease of {former} runs, which was primary before"),
            );
            self.wrong.push_back(wrong.0);
        }
    }

    fn keeps_its_seal(&mut self, at: usize, message: &[u8]) {
        let disk = self.machines[at].disk_id();
        if let Some((shard, epoch)) = sealed(message) {
            let known = self
                .observed
                .sealed
                .entry((shard, at))
                .or_insert((disk, epoch));
            if known.0 != disk || known.1 < epoch {
                *known = (disk, epoch);
            }
        }
        // A learner has no seal to keep: nothing that it said as a member is believed any more.
        let now = self.machines[at].now(self.now);
        if let Some(Said { shard, .. }) = said(message, ACK)
            && (self.machines[at].node.as_ref()).is_some_and(|n| n.learns(ShardId(shard), now))
        {
            self.observed.sealed.remove(&(shard, at));
        }
        if let Some(Said { shard, epoch }) = said(message, ACK)
            && let Some((on, sealed)) = self.observed.sealed.get(&(shard, at))
            && *on == disk
            && epoch < *sealed
        {
            let wrong = self.wrong_at(
                at,
                &format!("acknowledges what is of epoch {epoch} of shard {shard}, though it is sealed below {sealed}"),
            );
            self.wrong.push_back(wrong.0);
        }
    }

    pub(super) fn has_heard(&mut self, at: usize, message: &[u8]) {
        if let Some(Said { shard, epoch }) = append(message)
            && let Some((_, own)) = self.observed.offices.get(&(shard, at))
            && *own < epoch
        {
            self.observed.offices.remove(&(shard, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(shard: u64, epoch: u64) -> Vec<u8> {
        let mut message = REPLICA.to_vec();
        message.extend(shard.to_le_bytes());
        message.extend([VERSION, APPEND]);
        message.extend(epoch.to_le_bytes());
        message
    }

    #[test]
    fn two_writers_in_one_epoch_are_seen() {
        let mut world = World::new(1);
        world.sends(0, &heartbeat(4, 1));
        world.sends(0, &heartbeat(4, 2));
        world.sends(1, &heartbeat(4, 3));
        world.sends(0, &heartbeat(5, 3));
        world.nothing_wrong().unwrap();
        let changes = world.primary_changes();
        assert_eq!((changes.same_node, changes.another_node), (1, 1));
        world.sends(2, &heartbeat(4, 2));
        world.nothing_wrong().unwrap_err();
    }

    #[test]
    fn who_is_sealed_acknowledges_nothing_older() {
        let mut world = World::new(1);
        let ack = |epoch: u64| {
            let mut message = heartbeat(200, epoch);
            message[11] = ACK;
            message
        };
        world.sends(1, &ack(2));
        // Shard 200 in epoch 3, and a disk and so on.
        world.sends(1, &[&SEALED[..], &[0xc8, 1, 3, 9, 9, 9]].concat());
        world.sends(1, &ack(3));
        world.sends(2, &ack(2));
        world.nothing_wrong().unwrap();
        world.sends(1, &ack(2));
        world.nothing_wrong().unwrap_err();
    }

    #[test]
    fn another_process_of_the_same_node_is_another_writer() {
        let mut world = World::new(1);
        world.sends(0, &heartbeat(4, 1));
        world.machines[0].life += 1;
        world.sends(0, &heartbeat(4, 1));
        world.nothing_wrong().unwrap_err();
    }
}
