//! How long a group is without a leader when two of five die at once, over links across oceans:
//! all three that are left must vote for the same one, so that a second candidate in the middle
//! of an election costs another election.

use super::*;

/// Milliseconds between a member's ticks.
const TICK_MS: u64 = 100;
/// The last heartbeat arrives; the third in turn has heard nothing for 15 ticks, and its clock
/// is late; twice there and back across the widest ocean, to ask for pre-votes and for votes.
const LEADERLESS_MS_MAX: u64 = 200 + 15 * TICK_MS + TICK_MS + 2 * 400;

/// One way, in ms: members 1 and 2 in us, 3 and 4 in eu, 5 in asia.
fn way_ms(from: u64, to: u64) -> u64 {
    match (from.min(to), from.max(to)) {
        (1, 2) | (3, 4) => 1,
        (3 | 4, 5) => 150,
        (_, 5) => 200,
        _ => 100,
    }
}

struct Clocked {
    now: u64,
    groups: BTreeMap<u64, RaftGroup>,
    /// Within a tick, when a member's comes.
    phase: BTreeMap<u64, u64>,
    /// (when it arrives, from, to, bytes)
    wire: Vec<(u64, u64, u64, Vec<u8>)>,
}

impl Clocked {
    fn new(dice: &mut Dice, group: u64) -> Self {
        let mut clocked = Clocked {
            now: 0,
            groups: BTreeMap::new(),
            phase: BTreeMap::new(),
            wire: Vec::new(),
        };
        for id in 1..=5 {
            let config = GroupConfig {
                group,
                id,
                process: 1,
                voters: (1..=5).collect(),
                election_ticks: 10,
                turn_ticks: 2,
                heartbeat_ticks: 2,
            };
            let member = RaftGroup::new(config, Recovered::default()).unwrap();
            clocked.groups.insert(id, member);
            clocked.phase.insert(id, dice.roll(TICK_MS));
        }
        clocked
    }

    /// One millisecond; a sync takes none.
    fn step(&mut self) {
        self.now += 1;
        for (id, group) in &mut self.groups {
            if self.now % TICK_MS == self.phase[id] {
                group.tick();
            }
        }
        let due = self.wire.extract_if(.., |(at, ..)| *at <= self.now);
        for (_, from, to, bytes) in due {
            if let Some(group) = self.groups.get_mut(&to) {
                group.receive(from, postcard::from_bytes(&bytes).unwrap());
            }
        }
        for (id, group) in &mut self.groups {
            while let Some(work) = group.ready() {
                for (to, message) in &work.send {
                    let bytes = postcard::to_stdvec(message).unwrap();
                    self.wire
                        .push((self.now + way_ms(*id, *to), *id, *to, bytes));
                }
                if work.must_sync {
                    group.synced();
                }
            }
        }
    }

    fn leader(&self) -> Option<u64> {
        let mut leaders = self.groups.iter().filter(|(_, g)| g.is_leader());
        leaders.next().map(|(id, _)| *id)
    }
}

#[test]
fn a_leader_and_another_gone_are_followed_in_one_election() {
    for seed in 0..400 {
        let mut dice = Dice(mix(seed));
        let mut clocked = Clocked::new(&mut dice, seed);
        while clocked.leader().is_none() {
            clocked.step();
        }
        for _ in 0..1000 + dice.roll(1000) {
            clocked.step();
        }
        let leader = clocked.leader().unwrap();
        let other = (leader + dice.roll(4)) % 5 + 1;
        clocked.groups.remove(&leader);
        clocked.groups.remove(&other);
        let since = clocked.now;
        while clocked.leader().is_none() {
            clocked.step();
            let ms = clocked.now - since;
            assert!(
                ms <= LEADERLESS_MS_MAX,
                "{leader} and {other} of group {seed} are gone since {ms} ms"
            );
        }
    }
}
